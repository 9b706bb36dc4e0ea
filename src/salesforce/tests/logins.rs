//! Ways to log in that keep nothing: what is sent, and what a refusal leads to.

use super::*;
use crate::config::{Auth, Secret};
use crate::salesforce::login::TEST_KEY;
use crate::salesforce::scripted::{Org, quick};

fn form(org: &Org) -> Vec<std::collections::HashMap<String, String>> {
    let read = |body: &str| url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    org.requests("oauth2/token").iter().map(|request| read(&request.body)).collect()
}

#[tokio::test]
async fn a_password_is_sent_with_the_security_token_behind_it() {
    let org = Org::start().await;
    let mut settings = org.settings();
    settings.auth = Auth::Password {
        client_id: "3MVG9".to_owned(),
        client_secret: Secret::new("s3cret"),
        username: "me@acme.example".to_owned(),
        password: Secret::new("pa ss&"),
        security_token: Some(Secret::new("tok")),
    };
    Client::connect_with(&settings, quick()).await.unwrap();
    let sent = form(&org).remove(0);
    assert_eq!(
        (sent["grant_type"].as_str(), sent["username"].as_str(), sent["password"].as_str()),
        ("password", "me@acme.example", "pa ss&tok")
    );
}

fn by_assertion(org: &Org) -> crate::config::SalesforceSettings {
    let mut settings = org.settings();
    settings.auth = Auth::JwtBearer {
        client_id: "3MVG9".to_owned(),
        username: "me@acme.example".to_owned(),
        private_key: Secret::new(TEST_KEY),
        audience: None,
    };
    settings
}

fn expiry(form: &std::collections::HashMap<String, String>) -> i64 {
    use base64::Engine;
    let body = form["assertion"].split('.').nth(1).unwrap();
    let body = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(body).unwrap();
    serde_json::from_slice::<serde_json::Value>(&body).unwrap()["exp"].as_i64().unwrap()
}

#[tokio::test]
async fn an_assertion_that_was_signed_by_a_wrong_clock_is_signed_again_by_salesforces() {
    let org = Org::start().await;
    let ahead = std::time::SystemTime::now() + std::time::Duration::from_secs(3_600);
    org.set_date(&httpdate::fmt_http_date(ahead));
    org.on_login([reply(
        400,
        r#"{"error":"invalid_grant","error_description":"expired authorization code"}"#,
    )]);
    Client::connect_with(&by_assertion(&org), quick()).await.unwrap();
    let sent = form(&org);
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[0]["grant_type"], "urn:ietf:params:oauth:grant-type:jwt-bearer");
    assert!(!sent[0].contains_key("client_secret"));
    let later = expiry(&sent[1]) - expiry(&sent[0]);
    assert!((3_500..3_800).contains(&later), "{later}");
}

#[tokio::test]
async fn an_assertion_that_is_refused_by_a_right_clock_is_not_signed_again() {
    let org = Org::start().await;
    org.on_login([reply(
        400,
        r#"{"error":"invalid_grant","error_description":"user hasn't approved this consumer"}"#,
    )]);
    let error = Client::connect_with(&by_assertion(&org), quick()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::LoginRefused);
    assert!(error.advice().contains("pre-authorized"), "{}", error.advice());
    assert_eq!(form(&org).len(), 1);
}

#[tokio::test]
async fn a_login_without_the_scope_for_data_says_where_to_tick_it() {
    let org = Org::start().await;
    let answer = serde_json::json!({"access_token": "T1", "token_type": "Bearer",
        "instance_url": org.origin, "scope": "id openid"});
    org.on_login([reply(200, answer.to_string())]);
    let error = org.try_client().await.unwrap_err();
    assert_eq!(error.kind(), Kind::LoginRefused);
    assert!(error.to_string().ends_with("the app does not grant the scope `api`"), "{error}");
    assert!(error.advice().contains("Manage user data via APIs (api)"), "{}", error.advice());
}

#[tokio::test]
async fn who_is_logged_in_is_asked_of_userinfo_or_else_of_the_users_record() {
    let org = Org::start().await;
    org.on(
        "/userinfo",
        [
            reply(200, r#"{"preferred_username":"me@acme.example","user_id":"0055g00000XyZzzAAF","organization_id":"00D5g00000AbCdEEAV"}"#),
            reply(403, "Bad_OAuth_Token").with("content-type", "text/html;charset=UTF-8"),
        ],
    );
    org.on(
        "Id=%270055g00000XyZzzAAF%27",
        [reply(200, r#"{"totalSize":1,"done":true,"records":[{"Username":"me@acme.example"}]}"#)],
    );
    let client = org.client().await;
    let first = client.who_am_i().await.unwrap();
    assert_eq!(first, client.who_am_i().await.unwrap());
    assert_eq!(first.username.as_deref(), Some("me@acme.example"));
    assert_eq!(org.requests("/query").len(), 1);
}
