//! The road through a browser: pages, redirects, codes, and their exchange (rest.md 1.2, 1.3). A person is played by the forms that
//! a browser would send.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

use crate::client::{self, Answer};
use crate::logins::{REFRESH, oauth_error};
use crate::{Wire, refusal};

const CALLBACK: &str = "http://localhost:1717/OauthRedirect";
const VERIFIER: &str = "a-verifier-that-is-long-enough-for-the-rules-of-pkce-0123456789";
const SECRET: (&str, &str) = ("client_secret", "simulator-secret");

fn encoded(pairs: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

fn parameters(url: &str) -> BTreeMap<String, String> {
    url::Url::parse(url).unwrap().query_pairs().into_owned().collect()
}

/// A browser: it keeps the cookie, and shows where it was sent.
struct Browser<'a> {
    wire: &'a Wire,
    cookie: String,
}

impl Browser<'_> {
    fn new(wire: &Wire) -> Browser<'_> {
        Browser { wire, cookie: String::new() }
    }

    async fn send(&mut self, method: &str, target: &str, body: &str) -> Answer {
        let headers =
            [("cookie", self.cookie.as_str()), ("content-type", "application/x-www-form-urlencoded")];
        let answer =
            client::send(self.wire.address(), method, target, &headers, body.as_bytes()).await.unwrap();
        if let Some(cookie) = answer.header("set-cookie") {
            self.cookie = cookie.split(';').next().unwrap().to_owned();
        }
        answer
    }

    async fn open(&mut self, pairs: &[(&str, &str)]) -> Answer {
        self.send("GET", &format!("/services/oauth2/authorize?{}", encoded(pairs)), "").await
    }

    /// Types name and password into the login page; the page behind it.
    async fn log_in(&mut self, page: &Answer) -> Answer {
        let start = hidden(page, "startURL");
        let typed = [
            ("startURL", start.as_str()),
            ("username", "integration@example.com"),
            ("pw", "simulator-password"),
        ];
        let answer = self.send("POST", "/login", &encoded(&typed)).await;
        let next = location(&answer);
        self.send("GET", &next, "").await
    }

    /// Clicks Allow (`save`) or Deny (`cancel`); where the browser is sent.
    async fn click(&mut self, page: &Answer, button: &str) -> String {
        let request = hidden(page, "request");
        let form = encoded(&[("request", &request), (button, "clicked")]);
        location(&self.send("POST", "/setup/secur/RemoteAccessAuthorizationPage.apexp", &form).await)
    }

    async fn allow_all(&mut self, pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let login = self.open(pairs).await;
        let approval = self.log_in(&login).await;
        parameters(&self.click(&approval, "save").await)
    }
}

fn hidden(page: &Answer, name: &str) -> String {
    let page = page.text();
    let (_, rest) = page.split_once(&format!("name=\"{name}\" value=\"")).unwrap_or_else(|| panic!("{page}"));
    rest.split_once('"').unwrap().0.replace("&amp;", "&")
}

fn location(answer: &Answer) -> String {
    assert_eq!(answer.status, 302, "{}", answer.text());
    answer.header("location").unwrap().to_owned()
}

fn asked<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut pairs =
        vec![("response_type", "code"), ("client_id", "simulator-client"), ("redirect_uri", CALLBACK)];
    pairs.retain(|(name, _)| !more.iter().any(|(other, _)| other == name));
    pairs.extend_from_slice(more);
    pairs
}

async fn exchange(wire: &Wire, code: &str, more: &[(&str, &str)]) -> Answer {
    let mut pairs = vec![
        ("grant_type", "authorization_code"),
        ("client_id", "simulator-client"),
        ("redirect_uri", CALLBACK),
        ("code", code),
    ];
    pairs.retain(|(name, _)| !more.iter().any(|(other, _)| other == name));
    pairs.extend_from_slice(more);
    wire.token_call(&encoded(&pairs)).await
}

/// A code for these parameters, in a browser of its own.
async fn code(wire: &Wire, more: &[(&str, &str)]) -> String {
    let mut pairs = asked(more);
    // Shown also if the user allowed it before.
    pairs.push(("prompt", "login consent"));
    Browser::new(wire).allow_all(&pairs).await["code"].clone()
}

#[tokio::test]
async fn a_person_logs_in_allows_and_the_code_becomes_tokens() {
    let wire = Wire::start().await;
    let mut browser = Browser::new(&wire);
    let pairs =
        asked(&[("scope", "api refresh_token"), ("state", "a b&c"), ("login_hint", "who@example.com")]);
    let login = browser.open(&pairs).await;
    assert_eq!((login.status, login.header("content-type")), (200, Some("text/html;charset=UTF-8")));
    assert!(login.text().contains("value=\"who@example.com\""));
    let approval = browser.log_in(&login).await;
    let text = approval.text();
    assert!(text.contains("Simulated App") && text.contains("<code>refresh_token</code>"), "{text}");
    assert!(!text.contains("<code>openid</code>"), "only what was asked for");
    let target = browser.click(&approval, "save").await;
    assert!(target.starts_with(&format!("{CALLBACK}?code=aPrx")) && target.contains("%3D%3D&"), "{target}");
    let back = parameters(&target);
    assert_eq!(back["state"], "a b&c");
    assert!(back["code"].ends_with("=="));

    let token = exchange(&wire, &back["code"], &[SECRET]).await.json();
    assert_eq!(token["scope"], "refresh_token api");
    assert!(token["refresh_token"].as_str().unwrap().starts_with("5Aep861"));
    assert!(token.get("id_token").is_none(), "openid was not asked for");
    let refreshed = wire.token_call(&format!("{REFRESH}{}", token["refresh_token"].as_str().unwrap())).await;
    assert_eq!(refreshed.status, 200, "{}", refreshed.text());
}

#[tokio::test]
async fn a_wrong_password_shows_the_page_again_and_a_right_one_goes_on_from_there() {
    let wire = Wire::start().await;
    let mut browser = Browser::new(&wire);
    let login = browser.open(&asked(&[])).await;
    let start = hidden(&login, "startURL");
    let typed = [("startURL", start.as_str()), ("username", "<b>"), ("pw", "wrong")];
    let again = browser.send("POST", "/login", &encoded(&typed)).await;
    assert!(again.text().contains("check your username and password") && again.text().contains("&lt;b&gt;"));
    assert_eq!((again.status, again.header("set-cookie")), (200, None));
    assert!(browser.log_in(&again).await.text().contains("Allow Access?"));

    let typed = [("startURL", "https://elsewhere.example.com/"), ("username", "x"), ("pw", "y")];
    let elsewhere = browser.send("POST", "/login", &encoded(&typed)).await;
    assert!(location(&elsewhere).starts_with("/setup/secur/RemoteAccessErrorPage.apexp?"));
}

#[tokio::test]
async fn denial_and_requests_that_make_no_sense_go_back_to_the_callback() {
    let wire = Wire::start().await;
    let mut browser = Browser::new(&wire);
    let login = browser.open(&asked(&[("state", "s")])).await;
    let approval = browser.log_in(&login).await;
    let back = parameters(&browser.click(&approval, "cancel").await);
    assert_eq!(
        (back["error"].as_str(), back["error_description"].as_str(), back["state"].as_str()),
        ("access_denied", "end-user denied authorization", "s")
    );
    wire.control("logins/app", json!({"pkceRequired": true})).await;
    for (pair, error) in [
        (("response_type", "token"), "unsupported_response_type"),
        (("scope", "api web"), "invalid_scope"),
        (("scope", "api"), "invalid_request"),
        (("code_challenge", "short"), "invalid_request"),
    ] {
        let target = location(&browser.open(&asked(&[pair])).await);
        assert!(target.starts_with(CALLBACK), "{target}");
        assert_eq!(parameters(&target)["error"], error, "{pair:?}");
    }
    let plain = [
        ("code_challenge", "0123456789012345678901234567890123456789012"),
        ("code_challenge_method", "plain"),
    ];
    assert!(location(&browser.open(&asked(&plain)).await).contains("error=invalid_request"));
}

#[tokio::test]
async fn what_the_callback_may_not_learn_stays_on_salesforces_page() {
    let wire = Wire::start().await;
    let mut browser = Browser::new(&wire);
    for (pair, error) in [
        (("client_id", "x"), "invalid_client_id"),
        (("redirect_uri", "http://localhost:1717/OauthRedirect/"), "redirect_uri_mismatch"),
        (("redirect_uri", "http://localhost:1718/OauthRedirect"), "redirect_uri_mismatch"),
        (("redirect_uri", "http://LOCALHOST:1717/OauthRedirect"), "redirect_uri_mismatch"),
    ] {
        let target = location(&browser.open(&asked(&[pair])).await);
        assert!(target.starts_with("/setup/secur/RemoteAccessErrorPage.apexp?"), "{target}");
        assert!(target.contains(&format!("error={error}&")), "{target}");
        assert!(browser.send("GET", &target, "").await.text().contains(error));
    }
    // From here on it is known who asks.
    for (path, order, error) in [
        ("logins/app", json!({"adminApprovedOnly": true}), "OAUTH_APP_ACCESS_DENIED"),
        ("logins/app", json!({"blocked": true}), "OAUTH_APPROVAL_ERROR_GENERIC"),
        ("logins/refusals", json!({"at": "authorize", "as": "inactive_org"}), "inactive_org"),
    ] {
        wire.control(path, order).await;
        let login = browser.open(&asked(&[("prompt", "login")])).await;
        let target = location(&browser.log_in(&login).await);
        assert!(target.starts_with("/setup/secur/RemoteAccessErrorPage.apexp?"), "{target}");
        assert!(target.contains(&format!("error={error}&")), "{target}");
    }
}

#[tokio::test]
async fn a_known_browser_and_an_approved_user_are_not_asked_again_unless_the_prompt_says_so() {
    let wire = Wire::start().await;
    let mut browser = Browser::new(&wire);
    browser.allow_all(&asked(&[])).await;
    let straight = location(&browser.open(&asked(&[])).await);
    assert!(straight.starts_with(&format!("{CALLBACK}?code=aPrx")));
    assert!(browser.open(&asked(&[("prompt", "consent")])).await.text().contains("Allow Access?"));
    let login = browser.open(&asked(&[("prompt", "login consent")])).await;
    assert!(login.text().contains("login_form"));
    assert!(browser.log_in(&login).await.text().contains("Allow Access?"), "no second login, but consent");
}

#[tokio::test]
async fn a_code_serves_once_for_its_own_callback_and_for_fifteen_minutes() {
    let wire = Wire::start().await;
    let first = code(&wire, &[]).await;
    assert_eq!(exchange(&wire, &first, &[SECRET]).await.status, 200);
    let expired = refusal(400, "invalid_grant", "expired authorization code");
    assert_eq!(oauth_error(&exchange(&wire, &first, &[SECRET]).await), expired);
    let unknown = exchange(&wire, "aPrxWhat==", &[SECRET]).await;
    assert_eq!(oauth_error(&unknown), refusal(400, "invalid_grant", "invalid authorization code"));

    let old = code(&wire, &[]).await;
    wire.pass_seconds(15 * 60 + 1).await;
    assert_eq!(oauth_error(&exchange(&wire, &old, &[SECRET]).await), expired);
    let young = code(&wire, &[]).await;
    wire.pass_seconds(14 * 60).await;
    assert_eq!(exchange(&wire, &young, &[SECRET]).await.status, 200);

    let other = code(&wire, &[]).await;
    let callback = ("redirect_uri", "http://localhost:1717/oauthRedirect");
    let mismatch = exchange(&wire, &other, &[SECRET, callback]).await;
    let words = refusal(400, "redirect_uri_mismatch", "redirect_uri must match configuration");
    assert_eq!(oauth_error(&mismatch), words);
}

#[tokio::test]
async fn the_verifier_must_fit_the_challenge_and_the_method_may_be_left_out() {
    let wire = Wire::start().await;
    wire.control("logins/app", json!({"pkceRequired": true})).await;
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER));
    let challenge = ("code_challenge", challenge.as_str());
    let wrong = refusal(400, "invalid_grant", "invalid code verifier");
    for more in [vec![SECRET], vec![SECRET, ("code_verifier", "another")]] {
        let answer = exchange(&wire, &code(&wire, &[challenge]).await, &more).await;
        assert_eq!(oauth_error(&answer), wrong);
    }
    for asked in [vec![challenge], vec![challenge, ("code_challenge_method", "S256")]] {
        let right = [SECRET, ("code_verifier", VERIFIER)];
        assert_eq!(exchange(&wire, &code(&wire, &asked).await, &right).await.status, 200);
    }
    wire.control("logins/app", json!({"pkceRequired": false})).await;
    let unasked = exchange(&wire, &code(&wire, &[]).await, &[SECRET, ("code_verifier", VERIFIER)]).await;
    assert_eq!(oauth_error(&unasked), wrong);
}

#[tokio::test]
async fn the_secret_is_wanted_unless_the_app_does_without() {
    let wire = Wire::start().await;
    let none = exchange(&wire, &code(&wire, &[]).await, &[]).await;
    assert_eq!(oauth_error(&none), refusal(400, "invalid_client", "invalid client credentials"));
    wire.control("logins/app", json!({"secretForWebServer": false, "clientErrorStatus": 401})).await;
    assert_eq!(exchange(&wire, &code(&wire, &[]).await, &[]).await.status, 200);
    let wrong = exchange(&wire, &code(&wire, &[]).await, &[("client_secret", "x")]).await;
    assert_eq!(oauth_error(&wrong), refusal(401, "invalid_client", "invalid client credentials"));
}

#[tokio::test]
async fn scopes_decide_on_refresh_token_id_token_and_data() {
    let mut wire = Wire::start().await;
    let only_api = exchange(&wire, &code(&wire, &[("scope", "api")]).await, &[SECRET]).await.json();
    assert_eq!(only_api["scope"], "api");
    assert!(only_api.get("refresh_token").is_none() && only_api.get("id_token").is_none());

    let asked = [("scope", "openid offline_access"), ("nonce", "n-1")];
    let mut token = exchange(&wire, &code(&wire, &asked).await, &[SECRET]).await.json();
    assert_eq!(token["scope"], "refresh_token openid", "offline_access is another word");
    assert!(token["refresh_token"].is_string());
    let id_token = token["id_token"].take();
    let claims: Vec<&str> = id_token.as_str().unwrap().split('.').collect();
    let claims: Json = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims[1]).unwrap()).unwrap();
    assert_eq!((&claims["nonce"], &claims["sub"]), (&json!("n-1"), &token["id"]));
    wire.token = token["access_token"].as_str().unwrap().to_owned();
    let words = "This session is not valid for use with the REST API";
    assert_eq!(wire.get("limits").await.refusal(), refusal(401, "INVALID_SESSION_ID", words));
    assert_eq!(wire.get("/services/oauth2/userinfo").await.status, 200);
    wire.token = only_api["access_token"].as_str().unwrap().to_owned();
    assert_eq!(wire.get("limits").await.status, 200);
    assert_eq!(wire.get("/services/oauth2/userinfo").await.text(), "Bad_OAuth_Token");
    let identity = only_api["id"].as_str().unwrap().strip_prefix(&wire.simulator.origin()).unwrap();
    assert_eq!(wire.get(identity).await.status, 403);

    wire.control("logins/app", json!({"scopes": ["full"]})).await;
    let full = exchange(&wire, &code(&wire, &[]).await, &[SECRET]).await.json();
    assert!(full["scope"] == "full" && full.get("refresh_token").is_none(), "{full}");
    wire.token = full["access_token"].as_str().unwrap().to_owned();
    assert_eq!(wire.get("limits").await.status, 200);
}

#[tokio::test]
async fn discovery_names_the_endpoints_and_the_keys_of_id_tokens() {
    let wire = Wire::start().await;
    let origin = wire.simulator.origin();
    let found = wire.get("/.well-known/openid-configuration").await.json();
    assert_eq!(found["issuer"], origin);
    for (name, path) in [("authorization_endpoint", "authorize"), ("token_endpoint", "token")] {
        assert_eq!(found[name], format!("{origin}/services/oauth2/{path}"));
    }
    assert_eq!(found["jwks_uri"], format!("{origin}/id/keys"));
    let keys = wire.get("/id/keys").await.json();
    assert_eq!((&keys["keys"][0]["kty"], keys["keys"][0]["x"].as_str().unwrap().len()), (&json!("EC"), 43));
    for page in ["success", "callback"] {
        let shown = wire.get(&format!("/services/oauth2/{page}?code=aPrxSecret%3D%3D")).await;
        assert!(shown.status == 200 && !shown.text().contains("aPrx"), "it shows nothing useful");
    }
}

/// A person logs in once more, with this callback.
pub async fn another_grant(wire: &Wire, callback: &str) {
    let callback = ("redirect_uri", callback);
    let answer = exchange(wire, &code(wire, &[callback]).await, &[SECRET, callback]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}
