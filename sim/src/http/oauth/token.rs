//! The token endpoint: one request, one grant type, new tokens or a refusal in Salesforce's words (rest.md 1.2 to 1.7).
//!
//! Comes in: a form, and a Basic header perhaps. Goes out: the answer of 1.4. A request takes effect at one moment; before it and
//! between it and the answer a test may hold it up. A caller that goes away in between changes nothing about the effect.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::hmac;
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

use super::app::{Flow, allows};
use super::ledger::{Code, Logins, Stage, Worth};
use super::refusal::{Refusal, invalid_grant, refusal};
use super::{assertion, identity_url};
use crate::http::reply::Answer;
use crate::http::{Call, Reply, Server, lock};

const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// A JWT may be valid for three minutes; two more for clocks that differ.
const LONGEST_ASSERTION_SECONDS: i64 = 5 * 60;

struct Form(BTreeMap<String, String>);

impl Form {
    fn of(call: &Call) -> Self {
        let mut form = call.form();
        if let Some((id, secret)) = basic(call) {
            form.entry("client_id".to_owned()).or_insert(id);
            form.entry("client_secret".to_owned()).or_insert(secret);
        }
        Self(form)
    }

    fn get(&self, name: &str) -> &str {
        self.0.get(name).map(String::as_str).unwrap_or_default()
    }
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

/// What an exchange gave.
struct Issued {
    grant: Option<u64>,
    refresh_token: Option<String>,
    scopes: Vec<String>,
    id_token: bool,
    nonce: Option<String>,
}

/// Marks a grant whose refresh is under way; the mark goes with it, whatever ends the request.
struct Busy<'a> {
    server: &'a Server,
    place: usize,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        if let Some(grant) = lock(&self.server.logins).grant_mut(self.place) {
            grant.busy = false;
        }
    }
}

pub(crate) async fn token(server: &Server, call: &Call) -> Reply {
    let form = Form::of(call);
    let grant_type = form.get("grant_type");
    let (number, pause, mut held) = {
        let mut logins = lock(&server.logins);
        (logins.begin(grant_type), logins.pause, logins.held.subscribe())
    };
    let answered = |outcome: String| lock(&server.logins).note(number, "answeredAt", None, Some(outcome));
    let busy = match mark(server, &form) {
        Ok(busy) => busy,
        Err(refused) => {
            answered(refused.description.clone());
            return refused.answer();
        }
    };
    if !pause.before.is_zero() {
        tokio::time::sleep(pause.before).await;
    }
    // The sender lives as long as the server does.
    let _ = held.wait_for(|held| *held != Some(Stage::Effect)).await;
    let done = {
        let mut logins = lock(&server.logins);
        let issued = match logins.orders.take(grant_type) {
            Some(refused) => Err(refused),
            None => exchange(server, &mut logins, &form),
        };
        issued.map(|issued| {
            logins.note(number, "effectAt", issued.grant, Some("issued".to_owned()));
            answer_of(server, &mut logins, &issued)
        })
    };
    match done {
        Ok(json) => {
            if !pause.after.is_zero() {
                tokio::time::sleep(pause.after).await;
            }
            let _ = held.wait_for(|held| *held != Some(Stage::Reply)).await;
            drop(busy);
            lock(&server.logins).note(number, "answeredAt", None, None);
            Answer::json(&json).header("cache-control", "no-cache, no-store").unbilled()
        }
        Err(refused) => {
            drop(busy);
            answered(refused.description.clone());
            refused.answer()
        }
    }
}

/// One refresh of a grant at a time (rest.md 1.5).
fn mark<'a>(server: &'a Server, form: &Form) -> Result<Option<Busy<'a>>, Refusal> {
    if form.get("grant_type") != "refresh_token" {
        return Ok(None);
    }
    let mut logins = lock(&server.logins);
    let (Worth::Current(place) | Worth::Replaced(place)) = logins.worth(form.get("refresh_token")) else {
        return Ok(None);
    };
    let Some(grant) = logins.grant_mut(place) else { return Ok(None) };
    if grant.busy {
        return Err(invalid_grant("token request is already being processed"));
    }
    grant.busy = true;
    Ok(Some(Busy { server, place }))
}

fn exchange(server: &Server, logins: &mut Logins, form: &Form) -> Result<Issued, Refusal> {
    let grant_type = form.get("grant_type");
    if grant_type == JWT_BEARER {
        return jwt_bearer(server, logins, form.get("assertion"));
    }
    client(server, logins, form)?;
    match grant_type {
        "authorization_code" => authorization_code(server, logins, form),
        "refresh_token" => refresh(server, logins, form.get("refresh_token")),
        "client_credentials" => client_credentials(logins),
        "password" => password(server, logins, form),
        _ => Err(refusal("unsupported_grant_type", "grant type not supported")),
    }
}

/// The client itself: its id, and its secret where one is wanted or given.
fn client(server: &Server, logins: &Logins, form: &Form) -> Result<(), Refusal> {
    let status = logins.app.client_error_status;
    if form.get("client_id") != server.config.client_id {
        return Err(Refusal { status, ..refusal("invalid_client_id", "client identifier invalid") });
    }
    let needed = match form.get("grant_type") {
        "authorization_code" => logins.app.secret_for_web_server,
        "refresh_token" => logins.app.secret_for_refresh,
        _ => true,
    };
    let given = form.get("client_secret");
    if (needed || !given.is_empty()) && given != server.config.client_secret {
        return Err(Refusal { status, ..refusal("invalid_client", "invalid client credentials") });
    }
    Ok(())
}

fn flow(logins: &Logins, flow: Flow) -> Result<(), Refusal> {
    match logins.app.flows.contains(&flow) {
        true => Ok(()),
        false => Err(refusal("unsupported_grant_type", "grant type not supported")),
    }
}

/// The user may log in, and with this app.
fn user(server: &Server, logins: &Logins) -> Result<(), Refusal> {
    if !logins.user.active {
        return Err(invalid_grant("inactive user"));
    }
    if logins.app.admin_approved_only && !logins.app.approved_users.contains(&server.config.username) {
        return Err(refusal("invalid_app_access", "user is not admin approved to access this app"));
    }
    Ok(())
}

fn authorization_code(server: &Server, logins: &mut Logins, form: &Form) -> Result<Issued, Refusal> {
    flow(logins, Flow::AuthorizationCode)?;
    let now_ms = server.org.now_ms();
    let code = logins.take_code(form.get("code"), now_ms).map_err(|known| {
        invalid_grant(if known { "expired authorization code" } else { "invalid authorization code" })
    })?;
    if form.get("redirect_uri") != code.redirect_uri {
        return Err(refusal("redirect_uri_mismatch", "redirect_uri must match configuration"));
    }
    if !is_verified(&code, form.get("code_verifier")) {
        return Err(invalid_grant("invalid code verifier"));
    }
    user(server, logins)?;
    let place = logins.add_grant(code.scopes.clone(), now_ms);
    Ok(Issued {
        grant: logins.grant(place).map(|grant| grant.id),
        refresh_token: logins.refresh_token(place),
        scopes: code.scopes,
        id_token: true,
        nonce: code.nonce,
    })
}

fn is_verified(code: &Code, verifier: &str) -> bool {
    match &code.challenge {
        Some(challenge) => *challenge == URL_SAFE_NO_PAD.encode(Sha256::digest(verifier)),
        None => verifier.is_empty(),
    }
}

fn refresh(server: &Server, logins: &mut Logins, given: &str) -> Result<Issued, Refusal> {
    const DEAD: &str = "expired access/refresh token";
    let now_ms = server.org.now_ms();
    let place = match logins.worth(given) {
        Worth::Current(place) => place,
        Worth::Replaced(place) => {
            // A replayed token ends the whole grant.
            if let Some(id) = logins.grant(place).map(|grant| grant.id) {
                logins.revoke(id);
            }
            return Err(invalid_grant(DEAD));
        }
        Worth::Nothing => return Err(invalid_grant(DEAD)),
    };
    let Some((id, scopes)) = logins.grant(place).map(|grant| (grant.id, grant.scopes.clone())) else {
        return Err(invalid_grant(DEAD));
    };
    if logins.is_idle(place, now_ms) {
        logins.revoke(id);
        return Err(invalid_grant(DEAD));
    }
    user(server, logins)?;
    let refresh_token = logins.refreshed(place, now_ms);
    Ok(Issued { grant: Some(id), refresh_token, scopes, id_token: true, nonce: None })
}

fn client_credentials(logins: &Logins) -> Result<Issued, Refusal> {
    flow(logins, Flow::ClientCredentials)?;
    if logins.app.login_host {
        return Err(invalid_grant("request not supported on this domain"));
    }
    if !logins.app.run_as {
        return Err(invalid_grant("no client credentials user enabled"));
    }
    if !logins.user.active {
        return Err(invalid_grant("inactive user"));
    }
    Ok(without_grant(logins))
}

/// All of the app's scopes, for a login that has to be made again each time.
fn without_grant(logins: &Logins) -> Issued {
    let scopes =
        logins.app.scopes.iter().filter(|scope| *scope != "refresh_token" && *scope != "offline_access");
    Issued {
        grant: None,
        refresh_token: None,
        scopes: scopes.cloned().collect(),
        id_token: false,
        nonce: None,
    }
}

fn password(server: &Server, logins: &mut Logins, form: &Form) -> Result<Issued, Refusal> {
    flow(logins, Flow::Password)?;
    let wanted = format!("{}{}", server.config.password, logins.user.security_token);
    if form.get("username") != server.config.username || form.get("password") != wanted {
        return Err(invalid_grant("authentication failure"));
    }
    user(server, logins)?;
    Ok(without_grant(logins))
}

fn jwt_bearer(server: &Server, logins: &Logins, text: &str) -> Result<Issued, Refusal> {
    let invalid = || invalid_grant("invalid assertion");
    flow(logins, Flow::JwtBearer)?;
    let claims = assertion::claims(text).ok_or_else(invalid)?;
    let claim = |name: &str| claims.get(name).and_then(Json::as_str).unwrap_or_default();
    if claim("iss") != server.config.client_id {
        let status = logins.app.client_error_status;
        return Err(Refusal { status, ..refusal("invalid_client_id", "client identifier invalid") });
    }
    let key = logins.app.public_key.as_ref().ok_or_else(invalid)?;
    if !assertion::is_signed_by(key, text) {
        return Err(invalid());
    }
    if !logins.app.audiences.iter().any(|audience| audience == claim("aud")) {
        return Err(invalid_grant("Audience validation failed"));
    }
    let now = server.org.now_ms() / 1_000;
    match claims.get("exp").and_then(Json::as_i64) {
        Some(end) if end <= now => return Err(invalid_grant("expired authorization code")),
        Some(end) if end <= now + LONGEST_ASSERTION_SECONDS => {}
        _ => return Err(invalid()),
    }
    let name = &server.config.username;
    if claim("sub") != name {
        return Err(invalid_grant("user hasn't approved this consumer"));
    }
    user(server, logins)?;
    if !logins.app.approved_users.contains(name) {
        return Err(invalid_grant("user hasn't approved this consumer"));
    }
    Ok(without_grant(logins))
}

fn answer_of(server: &Server, logins: &mut Logins, issued: &Issued) -> Json {
    let access = logins.issue(server.org.organization_id().as_str(), issued.grant, &issued.scopes);
    let (id, issued_at) = (identity_url(server), server.org.now_ms().to_string());
    let secret = hmac::Key::new(hmac::HMAC_SHA256, server.config.client_secret.as_bytes());
    let mut answer = json!({
        "access_token": access,
        "signature": STANDARD.encode(hmac::sign(&secret, format!("{id}{issued_at}").as_bytes())),
        "scope": issued.scopes.join(" "),
        "instance_url": server.settings().instance_url.unwrap_or_else(|| server.origin()),
        "id": id,
        "token_type": "Bearer",
        "issued_at": issued_at,
    });
    let Some(object) = answer.as_object_mut() else { return answer };
    if let Some(refresh) = &issued.refresh_token {
        object.insert("refresh_token".to_owned(), refresh.clone().into());
    }
    if issued.id_token
        && allows(&issued.scopes, "openid")
        && let Some(token) = id_token(server, &access, issued.nonce.as_deref())
    {
        object.insert("id_token".to_owned(), token.into());
    }
    answer
}

fn id_token(server: &Server, access: &str, nonce: Option<&str>) -> Option<String> {
    let now = server.org.now_ms() / 1_000;
    let half = Sha256::digest(access);
    let mut claims = json!({
        "at_hash": URL_SAFE_NO_PAD.encode(half.get(..16).unwrap_or_default()),
        "sub": identity_url(server),
        "aud": server.config.client_id,
        "iss": server.origin(),
        "exp": now + 120,
        "iat": now,
    });
    if let Some(nonce) = nonce {
        claims["nonce"] = json!(nonce);
    }
    server.signer.sign(&claims)
}

/// Whether the form, or the Basic header, has the app's id and secret.
pub(crate) fn is_client(server: &Server, call: &Call) -> bool {
    let form = Form::of(call);
    form.get("client_id") == server.config.client_id
        && form.get("client_secret") == server.config.client_secret
}
