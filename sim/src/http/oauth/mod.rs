//! Logins: the endpoints under `/services/oauth2`, the pages of a browser, sessions and what they may do (rest.md section 1).
//!
//! Comes in: forms, clicks and Authorization headers. Goes out: tokens, refusals in the words of 1.7, the 401 of 1.9. One app, one
//! user; what they may is set over the control interface.

mod app;
mod assertion;
mod authorize;
mod ledger;
mod orders;
mod pages;
mod refusal;
mod soap;
mod token;

use http::StatusCode;
use serde_json::json;

use super::reply::{self, Answer, Content};
use super::{Call, Reply, Server, lock};
use app::allows;
use ledger::Worth;
use refusal::refusal as refused;

pub(crate) use assertion::Signer;
pub(crate) use ledger::Logins;
pub(crate) use orders::answer as control;
pub(crate) use soap::login as soap_login;

/// The token of a call, whatever it is worth.
pub(crate) fn token_of(call: &Call) -> Option<&str> {
    let value = call.header("authorization")?;
    value.strip_prefix("Bearer ").or_else(|| value.strip_prefix("OAuth ")).map(str::trim)
}

/// Whether the call has a session that may use the data API; else the 401 of rest.md 1.9.
pub(crate) fn check(server: &Server, call: &Call) -> Result<(), Reply> {
    let scopes = token_of(call).and_then(|token| scopes_of(server, token));
    let message = match scopes {
        Some(_) if is_elsewhere(server, call) => "Session expired or invalid",
        Some(scopes) if allows(&scopes, "api") => return Ok(()),
        Some(_) => "This session is not valid for use with the REST API",
        None => "Session expired or invalid",
    };
    Err(reply::error(StatusCode::UNAUTHORIZED, "INVALID_SESSION_ID", message)
        .header("www-authenticate", "Token")
        .unbilled())
}

/// Whether the org has moved to another host than the one that was called.
fn is_elsewhere(server: &Server, call: &Call) -> bool {
    let instance = server.settings().instance_url.unwrap_or_else(|| server.origin());
    let host = instance.split_once("://").map_or(instance.as_str(), |(_, host)| host);
    lock(&server.logins).app.strict_instance && call.header("host") != Some(host.trim_end_matches('/'))
}

/// What a session may; asking uses it.
fn scopes_of(server: &Server, token: &str) -> Option<Vec<String>> {
    lock(&server.logins).used(token).map(|session| session.scopes.clone())
}

/// Whether the token is a session's that may read data.
pub(crate) fn may_read(server: &Server, token: &str) -> bool {
    scopes_of(server, token).is_some_and(|scopes| allows(&scopes, "api"))
}

pub(crate) async fn answer(server: &Server, call: &Call, path: &[&str]) -> Reply {
    match (call.method.as_str(), path) {
        (_, ["token"]) => token::token(server, call).await,
        ("GET" | "POST", ["authorize"]) => authorize::authorize(server, call),
        (_, ["success" | "callback"]) => pages::nothing_useful(),
        (_, ["revoke"]) => revoke(server, call),
        (_, ["introspect"]) => introspect(server, call),
        (_, ["userinfo"]) => userinfo(server, call),
        _ => reply::not_found().unbilled(),
    }
}

/// The pages that are not under `/services`.
pub(crate) fn browser(server: &Server, call: &Call, path: &[&str]) -> Option<Reply> {
    let target = call.uri.path();
    match (call.method.as_str(), path) {
        ("GET", [".well-known", "openid-configuration"]) => Some(discovery(server)),
        ("GET", ["id", "keys"]) => Some(Answer::json(&server.signer.key_set()).unbilled()),
        ("POST", ["login"]) => Some(authorize::log_in(server, call)),
        ("POST", _) if target == authorize::APPROVAL_PAGE => Some(authorize::approve(server, call)),
        ("GET", _) if target == authorize::ERROR_PAGE => Some(authorize::error_page(call)),
        _ => None,
    }
}

fn discovery(server: &Server) -> Reply {
    let origin = server.origin();
    let scopes = lock(&server.logins).app.scopes.clone();
    Answer::json(&json!({
        "issuer": origin,
        "authorization_endpoint": format!("{origin}/services/oauth2/authorize"),
        "token_endpoint": format!("{origin}/services/oauth2/token"),
        "revocation_endpoint": format!("{origin}/services/oauth2/revoke"),
        "introspection_endpoint": format!("{origin}/services/oauth2/introspect"),
        "userinfo_endpoint": format!("{origin}/services/oauth2/userinfo"),
        "jwks_uri": format!("{origin}/id/keys"),
        "scopes_supported": scopes,
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic", "private_key_jwt"],
    }))
    .unbilled()
}

fn revoke(server: &Server, call: &Call) -> Reply {
    let form = call.form();
    let token = form.get("token").map(String::as_str).unwrap_or_default();
    let mut logins = lock(&server.logins);
    let ended = logins.end_session(token)
        || match logins.worth(token) {
            Worth::Current(place) => {
                logins.grant(place).map(|grant| grant.id).is_some_and(|id| logins.revoke(id))
            }
            Worth::Replaced(_) | Worth::Nothing => false,
        };
    match ended {
        true => Answer::empty(StatusCode::OK).unbilled(),
        false => refused("invalid_token", "invalid token").answer(),
    }
}

fn introspect(server: &Server, call: &Call) -> Reply {
    if !token::is_client(server, call) {
        return refused("invalid_client", "invalid client credentials").answer();
    }
    let token = call.form().remove("token").unwrap_or_default();
    let logins = lock(&server.logins);
    let about = |scopes: &[String], kind: &str| {
        json!({
            "active": true,
            "scope": scopes.join(" "),
            "client_id": server.config.client_id,
            "username": server.config.username,
            "sub": identity_url(server),
            "token_type": kind,
        })
    };
    let answer = match (logins.session(&token), logins.worth(&token)) {
        (Some(session), _) => {
            let (begun, end) = logins.span(session);
            let mut answer = about(&session.scopes, "access_token");
            answer["iat"] = json!(begun);
            answer["nbf"] = json!(begun);
            answer["exp"] = json!(end);
            answer
        }
        (None, Worth::Current(place)) => about(
            logins.grant(place).map(|grant| grant.scopes.as_slice()).unwrap_or_default(),
            "refresh_token",
        ),
        _ => json!({"active": false}),
    };
    Answer::json(&answer).unbilled()
}

fn userinfo(server: &Server, call: &Call) -> Reply {
    let scopes = token_of(call).and_then(|token| scopes_of(server, token));
    if !scopes.is_some_and(|scopes| allows(&scopes, "openid")) {
        return bad_token();
    }
    Answer::json(&json!({
        "sub": identity_url(server),
        "user_id": server.org.user_id().as_str(),
        "organization_id": server.org.organization_id().as_str(),
        "preferred_username": server.config.username,
        "name": "Integration User",
        "email": server.config.username,
        "zoneinfo": "GMT",
        "user_type": "STANDARD",
        "locale": "en_US",
        "active": true,
    }))
}

fn bad_token() -> Reply {
    Answer {
        status: StatusCode::FORBIDDEN,
        headers: vec![("content-type", "text/html;charset=UTF-8".to_owned())],
        body: Content::Whole(b"Bad_OAuth_Token".to_vec()),
        billed: false,
    }
}

fn identity_url(server: &Server) -> String {
    format!(
        "{}/id/{}/{}",
        server.origin(),
        server.org.organization_id().as_str(),
        server.org.user_id().as_str()
    )
}

pub(crate) fn identity(server: &Server, call: &Call, organization: &str, user: &str) -> Reply {
    let token = call.parameter("oauth_token").or_else(|| token_of(call));
    let scopes = token.and_then(|token| scopes_of(server, token)).unwrap_or_default();
    if !["id", "openid", "profile"].iter().any(|wanted| allows(&scopes, wanted)) {
        return bad_token();
    }
    let version = if call.parameter("version").is_some() { "66.0" } else { "{version}" };
    let origin = server.origin();
    Answer::json(&json!({
        "id": identity_url(server),
        "asserted_user": true,
        "user_id": user,
        "organization_id": organization,
        "username": server.config.username,
        "nick_name": "integration",
        "display_name": "Integration User",
        "email": server.config.username,
        "email_verified": true,
        "urls": {
            "rest": format!("{origin}/services/data/v{version}/"),
            "query": format!("{origin}/services/data/v{version}/query/"),
            "sobjects": format!("{origin}/services/data/v{version}/sobjects/"),
            "custom_domain": origin,
        },
        "active": true,
        "user_type": "STANDARD",
        "language": "en_US",
        "locale": "en_US",
        "utcOffset": 0,
        "last_modified_date": "2026-01-15T23:21:10Z",
        "is_app_installed": true,
    }))
}
