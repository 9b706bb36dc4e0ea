//! Logins: the token endpoint, sessions and what they may do (rest.md section 1).
//!
//! Comes in: forms and Authorization headers. Goes out: tokens, refusals in the words of 1.7, the 401 of 1.9.

use std::collections::HashMap;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use serde_json::json;

use super::reply::{self, Answer, Content};
use super::{Call, Reply, Server, SimulatorConfig, lock};

pub(crate) struct Logins {
    sessions: HashMap<String, Session>,
    /// The refresh token that counts, and those it replaced.
    refresh_token: Option<String>,
    replaced: Vec<String>,
    pub lifetime: std::time::Duration,
    pub rotation: bool,
    issued: u64,
}

struct Session {
    used_at: Instant,
    expired: bool,
}

impl Logins {
    pub fn new(config: &SimulatorConfig) -> Self {
        Self {
            sessions: HashMap::new(),
            refresh_token: Some(config.refresh_token.clone()),
            replaced: Vec::new(),
            lifetime: config.token_lifetime,
            rotation: config.rotation,
            issued: 0,
        }
    }

    pub fn expire_all(&mut self) {
        self.sessions.values_mut().for_each(|session| session.expired = true);
    }

    fn issue(&mut self, organization: &str) -> String {
        self.issued += 1;
        let opaque = format!(
            "AQ4AQ.{:016x}{:08x}",
            xxhash_rust::xxh3::xxh3_64(&self.issued.to_be_bytes()),
            self.issued
        );
        let token = format!("{}!{opaque}", organization.get(..15).unwrap_or(organization));
        self.sessions.insert(token.clone(), Session { used_at: Instant::now(), expired: false });
        token
    }

    pub fn is_good(&mut self, token: &str) -> bool {
        let lifetime = self.lifetime;
        match self.sessions.get_mut(token) {
            Some(session) if !session.expired && session.used_at.elapsed() <= lifetime => {
                // Use in the first half of the time does not count (rest.md 1.9).
                if session.used_at.elapsed() > lifetime / 2 {
                    session.used_at = Instant::now();
                }
                true
            }
            _ => false,
        }
    }
}

/// The token of a call, whatever it is worth.
pub(crate) fn token_of(call: &Call) -> Option<&str> {
    let value = call.header("authorization")?;
    value.strip_prefix("Bearer ").or_else(|| value.strip_prefix("OAuth ")).map(str::trim)
}

/// Whether the call has a session; else the 401 of rest.md 1.9.
pub(crate) fn check(server: &Server, call: &Call) -> Result<(), Reply> {
    let good = token_of(call).is_some_and(|token| lock(&server.logins).is_good(token));
    if good {
        return Ok(());
    }
    Err(reply::error(StatusCode::UNAUTHORIZED, "INVALID_SESSION_ID", "Session expired or invalid")
        .header("www-authenticate", "Token")
        .unbilled())
}

pub(crate) fn answer(server: &Server, call: &Call, path: &[&str]) -> Reply {
    match path {
        ["token"] => token(server, call),
        ["revoke"] => {
            let form = call.form();
            let token = form.get("token").map(String::as_str).unwrap_or_default();
            let mut logins = lock(&server.logins);
            if logins.sessions.remove(token).is_some() {
                return Answer::empty(StatusCode::OK).unbilled();
            }
            if logins.refresh_token.as_deref() == Some(token) {
                logins.refresh_token = None;
                logins.sessions.clear();
                return Answer::empty(StatusCode::OK).unbilled();
            }
            refusal("invalid_token", "invalid token")
        }
        ["introspect"] => {
            let token = call.form().remove("token").unwrap_or_default();
            let active = lock(&server.logins).is_good(&token);
            Answer::json(&if active {
                json!({"active": true, "scope": "api refresh_token", "client_id": server.config.client_id,
                    "username": server.config.username, "token_type": "access_token"})
            } else {
                json!({"active": false})
            })
            .unbilled()
        }
        ["userinfo"] => match check(server, call) {
            Ok(()) => Answer::json(&json!({
                "sub": identity_url(server),
                "user_id": server.org.user_id().as_str(),
                "organization_id": server.org.organization_id().as_str(),
                "preferred_username": server.config.username,
                "name": "Integration User",
                "active": true,
            })),
            Err(_) => bad_token(),
        },
        _ => reply::not_found().unbilled(),
    }
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
    let parameter = call.parameter("oauth_token").map(str::to_owned);
    let good = match parameter {
        Some(token) => lock(&server.logins).is_good(&token),
        None => check(server, call).is_ok(),
    };
    if !good {
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

fn refusal(error: &str, description: &str) -> Reply {
    Answer::json(&json!({"error": error, "error_description": description}))
        .status(StatusCode::BAD_REQUEST)
        .header("cache-control", "no-store")
        .unbilled()
}

fn token(server: &Server, call: &Call) -> Reply {
    let mut form = call.form();
    if let Some((id, secret)) = basic(call) {
        form.entry("client_id".to_owned()).or_insert(id);
        form.entry("client_secret".to_owned()).or_insert(secret);
    }
    let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    let config = &server.config;
    if field("client_id") != config.client_id {
        return refusal("invalid_client_id", "client identifier invalid");
    }
    let grant = field("grant_type");
    let secret_needed = grant != "refresh_token" || !field("client_secret").is_empty();
    if secret_needed && field("client_secret") != config.client_secret {
        return refusal("invalid_client", "invalid client credentials");
    }
    let mut logins = lock(&server.logins);
    let mut new_refresh = None;
    match grant {
        "client_credentials" => {}
        "password" => {
            if field("username") != config.username || field("password") != config.password {
                return refusal("invalid_grant", "authentication failure");
            }
            new_refresh = logins.refresh_token.clone();
        }
        "refresh_token" => {
            let given = field("refresh_token");
            if logins.refresh_token.as_deref() != Some(given) {
                if logins.replaced.iter().any(|old| old == given) {
                    // A replayed token ends the whole grant.
                    logins.refresh_token = None;
                    logins.sessions.clear();
                }
                return refusal("invalid_grant", "expired access/refresh token");
            }
            if logins.rotation {
                let next = format!("5AepRotated{:016x}", xxhash_rust::xxh3::xxh3_64(given.as_bytes()));
                logins.replaced.push(given.to_owned());
                logins.refresh_token = Some(next.clone());
                // The session before is over as well.
                logins.sessions.clear();
                new_refresh = Some(next);
            }
        }
        _ => return refusal("unsupported_grant_type", "grant type not supported"),
    }
    let access = logins.issue(server.org.organization_id().as_str());
    let mut answer = json!({
        "access_token": access,
        "signature": STANDARD.encode(b"simulated"),
        "scope": "refresh_token api",
        "instance_url": server.settings().instance_url.unwrap_or_else(|| server.origin()),
        "id": identity_url(server),
        "token_type": "Bearer",
        "issued_at": server.org.now_ms().to_string(),
    });
    if let (Some(refresh), Some(object)) = (new_refresh, answer.as_object_mut()) {
        object.insert("refresh_token".to_owned(), refresh.into());
    }
    Answer::json(&answer).header("cache-control", "no-cache, no-store").unbilled()
}

fn basic(call: &Call) -> Option<(String, String)> {
    let encoded = call.header("authorization")?.strip_prefix("Basic ")?;
    let text = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    let decode = |text: &str| -> String {
        url::form_urlencoded::parse(text.as_bytes()).map(|(key, _)| key.into_owned()).collect()
    };
    Some((decode(id), decode(secret)))
}

/// SOAP `login()`, for old clients: username and password (with the security token behind it, if any).
pub(crate) fn soap_login(server: &Server, call: &Call) -> Reply {
    let body = String::from_utf8_lossy(&call.body).into_owned();
    let between = |tag: &str| -> Option<String> {
        let start = body.find(&format!("{tag}>"))? + tag.len() + 1;
        let end = body.get(start..)?.find("</")?;
        let text = body.get(start..start + end)?;
        let bare = text.strip_prefix("<![CDATA[").and_then(|text| text.strip_suffix("]]>"));
        Some(bare.unwrap_or(text).to_owned())
    };
    let xml = |status, text: String| Answer {
        status,
        headers: vec![("content-type", "text/xml;charset=UTF-8".to_owned())],
        body: Content::Whole(text.into_bytes()),
        billed: false,
    };
    let known = between("username").as_deref() == Some(server.config.username.as_str())
        && between("password").is_some_and(|given| given.starts_with(&server.config.password));
    if !known {
        return xml(
            StatusCode::INTERNAL_SERVER_ERROR,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><soapenv:Envelope xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\" xmlns:sf=\"urn:fault.partner.soap.sforce.com\"><soapenv:Body><soapenv:Fault><faultcode>INVALID_LOGIN</faultcode><faultstring>INVALID_LOGIN: Invalid username, password, security token; or user locked out.</faultstring><detail><sf:LoginFault><sf:exceptionCode>INVALID_LOGIN</sf:exceptionCode><sf:exceptionMessage>Invalid username, password, security token; or user locked out.</sf:exceptionMessage></sf:LoginFault></detail></soapenv:Fault></soapenv:Body></soapenv:Envelope>".to_owned(),
        );
    }
    let token = lock(&server.logins).issue(server.org.organization_id().as_str());
    let (origin, organization) = (server.origin(), server.org.organization_id());
    xml(
        StatusCode::OK,
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><soapenv:Envelope xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\" xmlns=\"urn:partner.soap.sforce.com\"><soapenv:Body><loginResponse><result><metadataServerUrl>{origin}/services/Soap/m/66.0/{org}</metadataServerUrl><passwordExpired>false</passwordExpired><sandbox>false</sandbox><serverUrl>{origin}/services/Soap/u/66.0/{org}</serverUrl><sessionId>{token}</sessionId><userId>{user}</userId><userInfo><organizationId>{org}</organizationId><userId>{user}</userId><userName>{name}</userName></userInfo></result></loginResponse></soapenv:Body></soapenv:Envelope>",
            org = organization.as_str(),
            user = server.org.user_id().as_str(),
            name = server.config.username,
        ),
    )
}
