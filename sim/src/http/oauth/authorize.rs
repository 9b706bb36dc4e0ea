//! The road through a browser: the authorize endpoint, the login page, the approval, and back to the callback with a code (rest.md 1.2).
//!
//! Comes in: what the app asks, what a person types and clicks. Goes out: pages and redirects. To a callback that is not the app's
//! nothing is ever sent: the browser stays on Salesforce's error page.

use std::collections::BTreeMap;

use http::StatusCode;
use url::form_urlencoded;

use super::app::Flow;
use super::ledger::{Code, Logins};
use super::pages;
use super::refusal::{Refusal, refusal};
use crate::http::reply::Answer;
use crate::http::{Call, Reply, Server, lock};

pub(crate) const APPROVAL_PAGE: &str = "/setup/secur/RemoteAccessAuthorizationPage.apexp";
pub(crate) const ERROR_PAGE: &str = "/setup/secur/RemoteAccessErrorPage.apexp";
const AUTHORIZE: &str = "/services/oauth2/authorize";
const COOKIE: &str = "sid";
/// base64url of a SHA-256.
const CHALLENGE_LENGTH: usize = 43;

type Parameters = BTreeMap<String, String>;

/// What an app asks for, found good.
struct Request {
    redirect_uri: String,
    state: Option<String>,
    scopes: Vec<String>,
    challenge: Option<String>,
    nonce: Option<String>,
    /// `prompt`: to log in although the browser is known, to approve although it was approved.
    login: bool,
    consent: bool,
}

fn parameter<'a>(parameters: &'a Parameters, name: &str) -> &'a str {
    parameters.get(name).map(String::as_str).unwrap_or_default()
}

fn encoded<'a>(parameters: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish()
}

fn redirect(target: String) -> Reply {
    Answer::empty(StatusCode::FOUND).header("location", target).header("cache-control", "no-store").unbilled()
}

/// Where the browser stays when nothing may go to the callback.
fn stays(refused: &Refusal) -> Reply {
    let words =
        encoded([("error", refused.error.as_str()), ("error_description", refused.description.as_str())]);
    redirect(format!("{ERROR_PAGE}?{words}"))
}

fn back<'a>(redirect_uri: &str, state: Option<&'a str>, mut words: Vec<(&'a str, &'a str)>) -> Reply {
    words.extend(state.map(|state| ("state", state)));
    let separator = if redirect_uri.contains('?') { '&' } else { '?' };
    redirect(format!("{redirect_uri}{separator}{}", encoded(words)))
}

fn read(server: &Server, logins: &Logins, parameters: &Parameters) -> Result<Request, Reply> {
    let get = |name: &str| parameter(parameters, name);
    let given = |name: &str| parameters.get(name).cloned();
    if get("client_id") != server.config.client_id {
        return Err(stays(&refusal("invalid_client_id", "client identifier invalid")));
    }
    let redirect_uri = get("redirect_uri");
    if !logins.app.callback_urls.iter().any(|url| url == redirect_uri) {
        return Err(stays(&refusal("redirect_uri_mismatch", "redirect_uri must match configuration")));
    }
    let state = given("state");
    let fails = |error: &str, description: &str| {
        Err(back(redirect_uri, state.as_deref(), vec![("error", error), ("error_description", description)]))
    };
    if get("response_type") != "code" || !logins.app.flows.contains(&Flow::AuthorizationCode) {
        return fails("unsupported_response_type", "response type not supported");
    }
    let Some(scopes) = logins.app.granted(get("scope")) else {
        return fails("invalid_scope", "the requested scope is invalid");
    };
    let challenge = given("code_challenge");
    match &challenge {
        None if logins.app.pkce_required => {
            return fails("invalid_request", "missing required code challenge");
        }
        Some(challenge) if challenge.len() != CHALLENGE_LENGTH => {
            return fails("invalid_request", "invalid code challenge");
        }
        _ => {}
    }
    if !matches!(get("code_challenge_method"), "" | "S256") {
        return fails("invalid_request", "invalid code challenge method");
    }
    let prompts = |wanted: &str| get("prompt").split_whitespace().any(|word| word == wanted);
    Ok(Request {
        redirect_uri: redirect_uri.to_owned(),
        scopes,
        challenge,
        nonce: given("nonce"),
        login: prompts("login"),
        consent: prompts("consent"),
        state,
    })
}

fn knows_browser(logins: &Logins, call: &Call) -> bool {
    let cookies = call.header("cookie").unwrap_or_default();
    cookies
        .split(';')
        .filter_map(|cookie| cookie.trim().split_once('='))
        .any(|(name, value)| name == COOKIE && logins.knows_browser(value))
}

pub(crate) fn authorize(server: &Server, call: &Call) -> Reply {
    let parameters = call.form();
    let mut logins = lock(&server.logins);
    let request = match read(server, &logins, &parameters) {
        Ok(request) => request,
        Err(reply) => return reply,
    };
    if request.login || !knows_browser(&logins, call) {
        let words = parameters.iter().filter(|(name, _)| *name != "prompt");
        let mut words: Vec<(&str, &str)> =
            words.map(|(name, value)| (name.as_str(), value.as_str())).collect();
        // Asked for once: behind the login it must not be asked again.
        words.extend(request.consent.then_some(("prompt", "consent")));
        let start = format!("{AUTHORIZE}?{}", encoded(words));
        return pages::login(&start, parameter(&parameters, "login_hint"), None);
    }
    if let Err(refused) = may_use(server, &mut logins) {
        return stays(&refused);
    }
    let name = &server.config.username;
    if logins.app.approved_users.contains(name) && !request.consent {
        return allow(server, &mut logins, request);
    }
    let words = parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    pages::approval(APPROVAL_PAGE, &encoded(words), &logins.app.name, name, &request.scopes)
}

/// Whether the org lets this user use this app at all.
fn may_use(server: &Server, logins: &mut Logins) -> Result<(), Refusal> {
    if let Some(refused) = logins.orders.take("authorize") {
        return Err(refused);
    }
    if logins.app.blocked {
        let words = "An unexpected error has occured during authentication. Please try again.";
        return Err(refusal("OAUTH_APPROVAL_ERROR_GENERIC", words));
    }
    if logins.app.admin_approved_only && !logins.app.approved_users.contains(&server.config.username) {
        return Err(refusal("OAUTH_APP_ACCESS_DENIED", "user is not admin approved to access this app"));
    }
    Ok(())
}

fn allow(server: &Server, logins: &mut Logins, request: Request) -> Reply {
    let Request { redirect_uri, state, scopes, challenge, nonce, .. } = request;
    let made_ms = server.org.now_ms();
    let code =
        logins.add_code(Code { scopes, redirect_uri: redirect_uri.clone(), challenge, nonce, made_ms });
    back(&redirect_uri, state.as_deref(), vec![("code", &code)])
}

/// The answer of the login page: on to where it began, or once more.
pub(crate) fn log_in(server: &Server, call: &Call) -> Reply {
    const WRONG: &str = "Please check your username and password. If you still can't log in, contact your Salesforce administrator.";
    let form = call.form();
    let start = parameter(&form, "startURL");
    // Only to its own pages.
    if !start.starts_with(&format!("{AUTHORIZE}?")) {
        return stays(&refusal("invalid_request", "there is no page to go on to"));
    }
    let mut logins = lock(&server.logins);
    let known = parameter(&form, "username") == server.config.username
        && parameter(&form, "pw") == server.config.password;
    if !known || !logins.user.active {
        return pages::login(start, parameter(&form, "username"), Some(WRONG));
    }
    let cookie = logins.add_browser();
    redirect(start.to_owned())
        .header("set-cookie", format!("{COOKIE}={cookie}; Path=/; HttpOnly; SameSite=Lax"))
}

/// The answer of the approval page.
pub(crate) fn approve(server: &Server, call: &Call) -> Reply {
    let form = call.form();
    let asked = parameter(&form, "request");
    let parameters: Parameters = form_urlencoded::parse(asked.as_bytes()).into_owned().collect();
    let mut logins = lock(&server.logins);
    let request = match read(server, &logins, &parameters) {
        Ok(request) => request,
        Err(reply) => return reply,
    };
    if !knows_browser(&logins, call) {
        return redirect(format!("{AUTHORIZE}?{asked}"));
    }
    if let Err(refused) = may_use(server, &mut logins) {
        return stays(&refused);
    }
    if form.contains_key("save") {
        logins.app.approved_users.insert(server.config.username.clone());
        return allow(server, &mut logins, request);
    }
    let words = vec![("error", "access_denied"), ("error_description", "end-user denied authorization")];
    back(&request.redirect_uri, request.state.as_deref(), words)
}

pub(crate) fn error_page(call: &Call) -> Reply {
    let word = |name| call.parameter(name).unwrap_or_default();
    pages::error(word("error"), word("error_description"))
}
