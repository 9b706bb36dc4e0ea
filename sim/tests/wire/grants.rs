//! Grants on the token endpoint: rotation, several at a time, JWTs, client credentials, passwords, refusals and pauses on demand
//! (rest.md 1.5 to 1.8).

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::{Value as Json, json};

use crate::client::{self, Answer};
use crate::logins::{REFRESH, oauth_error};
use crate::{START_MS, Wire, refusal};

const SEEDED: &str = "5AepSimulatorRefreshToken";
const CLIENT: &str = "client_id=simulator-client&client_secret=simulator-secret";
const USER: &str = "integration@example.com";
const CERTIFICATE: &str = include_str!("data/assertion-certificate.pem");
const PUBLIC_KEY: &str = include_str!("data/assertion-public-key.pem");
const PATIENCE: Duration = Duration::from_secs(60);

async fn refresh(wire: &Wire, token: &str) -> Answer {
    wire.token_call(&format!("{REFRESH}{token}")).await
}

async fn control(wire: &Wire, method: &str, path: &str) -> Json {
    let answer =
        client::send(wire.address(), method, &format!("/simulator/logins{path}"), &[], b"").await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// Asks until it holds.
async fn until(wire: &Wire, path: &str, holds: impl Fn(&Json) -> bool) -> Json {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let shown = control(wire, "GET", path).await;
        if holds(&shown) {
            return shown;
        }
        assert!(Instant::now() < deadline, "not in time: {shown}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn dead() -> (u16, String, String) {
    refusal(400, "invalid_grant", "expired access/refresh token")
}

#[tokio::test]
async fn two_refreshes_at_once_are_refused_and_the_refusal_passes() {
    let wire = Wire::start().await;
    wire.control("logins/hold", json!({"at": "effect"})).await;
    let first = refresh(&wire, SEEDED);
    let meanwhile = async {
        until(&wire, "", |logins| logins["grants"][0]["busy"] == true).await;
        let busy = refusal(400, "invalid_grant", "token request is already being processed");
        assert_eq!(oauth_error(&refresh(&wire, SEEDED).await), busy);
        let form = format!("grant_type=client_credentials&{CLIENT}");
        let other = wire.token_call(&form);
        let release = async {
            until(&wire, "/requests", |all| all.as_array().unwrap().len() >= 4).await;
            control(&wire, "DELETE", "/hold").await;
        };
        assert_eq!(tokio::join!(other, release).0.status, 200, "no refresh, no refusal");
    };
    assert_eq!(tokio::join!(first, meanwhile).0.status, 200);
    assert_eq!(refresh(&wire, SEEDED).await.status, 200);
}

#[tokio::test]
async fn a_caller_that_goes_away_before_the_answer_has_still_spent_its_refresh_token() {
    let wire = Wire::start().await;
    wire.control("settings", json!({"rotation": true})).await;
    control(&wire, "DELETE", "/requests").await;
    wire.control("logins/hold", json!({"at": "reply"})).await;
    let gone = async {
        until(&wire, "/requests", |all| all[0].get("effectAt").is_some()).await;
    };
    // The call is dropped, and its connection with it.
    tokio::select! {
        _ = refresh(&wire, SEEDED) => panic!("the answer is held"),
        () = gone => {}
    }
    until(&wire, "", |logins| logins["grants"][0]["busy"] == false).await;
    control(&wire, "DELETE", "/hold").await;
    assert_eq!(oauth_error(&refresh(&wire, SEEDED).await), dead());
    assert_eq!(control(&wire, "GET", "").await["grants"][0]["active"], false, "the replay ended the grant");
}

#[tokio::test]
async fn rotation_goes_on_from_token_to_token_and_leaves_other_grants_alone() {
    let mut wire = Wire::start().await;
    wire.control("logins/app", json!({"rotation": true})).await;
    let by_itself = wire.token.clone();
    let mut token = SEEDED.to_owned();
    for _ in 0..5 {
        let answer = refresh(&wire, &token).await.json();
        let before = std::mem::replace(&mut wire.token, answer["access_token"].as_str().unwrap().to_owned());
        assert_eq!(wire.get("limits").await.status, 200);
        if before != by_itself {
            let current = std::mem::replace(&mut wire.token, before);
            assert_eq!(wire.get("limits").await.status, 401, "the access token before is over");
            wire.token = current;
        }
        token = answer["refresh_token"].as_str().unwrap().to_owned();
    }
    wire.token = by_itself;
    assert_eq!(wire.get("limits").await.status, 200);
    let logins = control(&wire, "GET", "").await;
    assert_eq!((&logins["refreshes"], &logins["grants"][0]["rotations"]), (&json!(5), &json!(5)));
    assert!(!logins.to_string().contains("5Aep") && !logins.to_string().contains("simulator-secret"));
}

#[tokio::test]
async fn a_grant_ends_by_order_and_by_being_idle() {
    let wire = Wire::start().await;
    wire.control("logins/app", json!({"refreshIdleSeconds": 30 * 86_400})).await;
    for _ in 0..2 {
        wire.pass_seconds(29 * 86_400).await;
        assert_eq!(refresh(&wire, SEEDED).await.status, 200, "each use begins the time anew");
    }
    wire.pass_seconds(31 * 86_400).await;
    assert_eq!(oauth_error(&refresh(&wire, SEEDED).await), dead());

    let wire = Wire::start().await;
    control(&wire, "DELETE", "/grants/0").await;
    assert_eq!(oauth_error(&refresh(&wire, SEEDED).await), dead());
}

#[tokio::test]
async fn introspection_tells_when_a_token_ends() {
    let wire = Wire::start().await;
    wire.control("settings", json!({"tokenLifetimeSeconds": 900})).await;
    let ask = |token: String, client: &'static str| {
        let form = format!("token={token}&{client}");
        let (wire, kind) = (&wire, [("content-type", "application/x-www-form-urlencoded")]);
        async move {
            let target = "/services/oauth2/introspect";
            client::send(wire.address(), "POST", target, &kind, form.as_bytes()).await.unwrap()
        }
    };
    let access = refresh(&wire, SEEDED).await.json()["access_token"].as_str().unwrap().to_owned();
    let shown = ask(access, CLIENT).await.json();
    assert_eq!((&shown["active"], &shown["username"]), (&json!(true), &json!(USER)));
    let span = shown["exp"].as_i64().unwrap() - shown["iat"].as_i64().unwrap();
    // A busy machine may pause between the two clocks that are read.
    assert!((899..960).contains(&span), "{span}");
    assert_eq!(ask(SEEDED.to_owned(), CLIENT).await.json()["token_type"], "refresh_token");
    assert_eq!(ask("what".to_owned(), CLIENT).await.json(), json!({"active": false}));
    let stranger = ask(SEEDED.to_owned(), "client_id=simulator-client&client_secret=x").await;
    assert_eq!(oauth_error(&stranger).1, "invalid_client");
}

#[tokio::test]
async fn a_move_to_another_instance_can_cut_off_the_old_one() {
    let wire = Wire::start().await;
    wire.control("logins/app", json!({"strictInstance": true})).await;
    assert_eq!(wire.get("limits").await.status, 200);
    let moved = wire.simulator.origin().replace("127.0.0.1", "localhost");
    wire.control("settings", json!({"instanceUrl": moved})).await;
    assert_eq!(wire.get("limits").await.refusal().1, "INVALID_SESSION_ID");
    let token = refresh(&wire, SEEDED).await.json();
    assert_eq!(token["instance_url"], moved);
}

#[tokio::test]
async fn client_credentials_need_a_my_domain_and_a_run_as_user() {
    let wire = Wire::start().await;
    let form = format!("grant_type=client_credentials&{CLIENT}");
    for (order, error, description) in [
        (json!({"loginHost": true}), "invalid_grant", "request not supported on this domain"),
        (json!({"loginHost": false, "runAs": false}), "invalid_grant", "no client credentials user enabled"),
        (json!({"flows": ["authorizationCode"]}), "unsupported_grant_type", "grant type not supported"),
    ] {
        wire.control("logins/app", order).await;
        assert_eq!(oauth_error(&wire.token_call(&form).await), refusal(400, error, description));
    }
}

#[tokio::test]
async fn the_password_flow_wants_the_security_token_behind_the_password() {
    let wire = Wire::start().await;
    let form = |password: &str| format!("grant_type=password&{CLIENT}&username={USER}&password={password}");
    let answer = wire.token_call(&form("simulator-password")).await;
    assert!(answer.status == 200 && answer.json().get("refresh_token").is_none(), "{}", answer.text());
    wire.control("logins/user", json!({"securityToken": "T0ken"})).await;
    let refused = wire.token_call(&form("simulator-password")).await;
    assert_eq!(oauth_error(&refused), refusal(400, "invalid_grant", "authentication failure"));
    assert_eq!(wire.token_call(&form("simulator-passwordT0ken")).await.status, 200);
    wire.control("logins/user", json!({"active": false})).await;
    let inactive = refusal(400, "invalid_grant", "inactive user");
    assert_eq!(oauth_error(&wire.token_call(&form("simulator-passwordT0ken")).await), inactive);
    assert_eq!(oauth_error(&refresh(&wire, SEEDED).await), inactive);
}

fn assertion(changes: &Json) -> String {
    let mut claims = json!({
        "iss": "simulator-client",
        "sub": USER,
        "aud": "https://login.salesforce.com",
        "exp": START_MS / 1_000 + 180,
    });
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    signed(&json!({"alg": "RS256"}), &claims)
}

fn signed(header: &Json, claims: &Json) -> String {
    let pem = include_str!("data/assertion-key.pem");
    let der: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let key = RsaKeyPair::from_pkcs8(&STANDARD.decode(der).unwrap()).unwrap();
    let part = |json: &Json| URL_SAFE_NO_PAD.encode(json.to_string());
    let text = format!("{}.{}", part(header), part(claims));
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature).unwrap();
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}

async fn bearer(wire: &Wire, assertion: &str) -> Answer {
    let grant = "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer";
    wire.token_call(&format!("grant_type={grant}&assertion={assertion}")).await
}

#[tokio::test]
async fn a_signed_jwt_logs_an_approved_user_in_without_a_secret() {
    let mut wire = Wire::start().await;
    for key in [CERTIFICATE, PUBLIC_KEY] {
        wire.control("logins/app", json!({"certificate": key, "approvedUsers": [USER]})).await;
        let token = bearer(&wire, &assertion(&json!({}))).await.json();
        assert!(token.get("refresh_token").is_none(), "{token}");
        wire.token = token["access_token"].as_str().unwrap().to_owned();
        assert_eq!(wire.get("limits").await.status, 200);
    }
    let own_host = json!({"aud": wire.simulator.origin()});
    assert_eq!(bearer(&wire, &assertion(&own_host)).await.status, 200);
}

#[tokio::test]
async fn a_jwt_that_is_not_right_is_refused_in_salesforces_words() {
    let wire = Wire::start().await;
    let invalid = refusal(400, "invalid_grant", "invalid assertion");
    assert_eq!(oauth_error(&bearer(&wire, &assertion(&json!({}))).await), invalid, "no certificate");
    wire.control("logins/app", json!({"certificate": CERTIFICATE})).await;
    let unapproved = refusal(400, "invalid_grant", "user hasn't approved this consumer");
    assert_eq!(oauth_error(&bearer(&wire, &assertion(&json!({}))).await), unapproved);
    wire.control("logins/app", json!({"approvedUsers": [USER]})).await;
    let expired = refusal(400, "invalid_grant", "expired authorization code");
    let audience = refusal(400, "invalid_grant", "Audience validation failed");
    let client = refusal(400, "invalid_client_id", "client identifier invalid");
    let now = START_MS / 1_000;
    for (changes, words) in [
        (json!({"sub": "who@example.com"}), &unapproved),
        (json!({"aud": "https://elsewhere.example.com"}), &audience),
        (json!({"iss": "x"}), &client),
        (json!({"exp": now - 1}), &expired),
        (json!({"exp": now + 3_600}), &invalid),
        // In milliseconds: the far future.
        (json!({"exp": START_MS}), &invalid),
        (json!({"exp": null}), &invalid),
    ] {
        assert_eq!(oauth_error(&bearer(&wire, &assertion(&changes)).await), *words, "{changes}");
    }
    let good = assertion(&json!({}));
    let (head, signature) = good.rsplit_once('.').unwrap();
    let other_claims = assertion(&json!({"exp": now + 181}));
    let (other_head, _) = other_claims.rsplit_once('.').unwrap();
    for broken in [
        format!("{other_head}.{signature}"),
        format!("{head}."),
        head.to_owned(),
        "x".to_owned(),
        signed(&json!({"alg": "none"}), &json!({"iss": "simulator-client"})),
    ] {
        assert_eq!(oauth_error(&bearer(&wire, &broken).await), invalid, "{broken}");
    }
    wire.control("logins/app", json!({"adminApprovedOnly": true, "approvedUsers": []})).await;
    let denied = refusal(400, "invalid_app_access", "user is not admin approved to access this app");
    assert_eq!(oauth_error(&bearer(&wire, &good).await), denied);
}

#[tokio::test]
async fn refusals_come_as_ordered_for_their_grant_and_so_often() {
    let wire = Wire::start().await;
    for (order, status, error, description) in [
        (json!({"as": "ip restricted"}), 400, "invalid_grant", "ip restricted"),
        (
            json!({"as": "app must be installed into org"}),
            400,
            "invalid_client",
            "app must be installed into org",
        ),
        (
            json!({"as": "invalid client credentials", "status": 401}),
            401,
            "invalid_client",
            "invalid client credentials",
        ),
        (json!({"as": "rate_limit_exceeded"}), 400, "rate_limit_exceeded", "too many requests"),
    ] {
        wire.control("logins/refusals", order).await;
        assert_eq!(oauth_error(&refresh(&wire, SEEDED).await), refusal(status, error, description));
        assert_eq!(refresh(&wire, SEEDED).await.status, 200, "once");
    }
    let order = json!({"as": "inactive_org", "at": "client_credentials", "after": 1, "times": 2});
    wire.control("logins/refusals", order).await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        assert_eq!(refresh(&wire, SEEDED).await.status, 200);
        statuses.push(wire.token_call(&format!("grant_type=client_credentials&{CLIENT}")).await.status);
    }
    assert_eq!(statuses, [200, 400, 400, 200]);
}

#[tokio::test]
async fn every_request_is_listed_with_its_times_and_without_secrets() {
    let wire = Wire::start().await;
    control(&wire, "DELETE", "/requests").await;
    wire.control("logins/pause", json!({"beforeMillis": 40, "afterMillis": 60})).await;
    refresh(&wire, SEEDED).await;
    control(&wire, "DELETE", "/pause").await;
    refresh(&wire, "5AepUnknown").await;
    let all = control(&wire, "GET", "/requests").await;
    let time = |stage: &str| all[0][stage].as_u64().unwrap();
    assert!(
        time("effectAt") >= time("receivedAt") + 40 && time("answeredAt") >= time("effectAt") + 60,
        "{all}"
    );
    assert_eq!((&all[0]["grantType"], &all[0]["grant"]), (&json!("refresh_token"), &json!(0)));
    assert_eq!(
        (&all[0]["outcome"], &all[1]["outcome"]),
        (&json!("issued"), &json!("expired access/refresh token"))
    );
    assert!(all[1].get("effectAt").is_none());
    assert!(!all.to_string().contains("5Aep"));
}

#[tokio::test]
async fn an_order_about_logins_that_is_not_understood_is_refused() {
    let wire = Wire::start().await;
    let elliptic = include_str!("data/elliptic-public-key.pem");
    for (path, body) in [
        ("app", json!({"callbackUrl": "x"})),
        ("app", json!({"certificate": "what"})),
        ("app", json!({"certificate": elliptic})),
        ("app", json!({"flows": ["device"]})),
        ("app", json!({"clientErrorStatus": 200})),
        ("user", json!({"name": "x"})),
        ("refusals", json!({"as": "nothing says this"})),
        ("pause", json!({"millis": 1})),
        ("hold", json!({"at": "the door"})),
    ] {
        let target = format!("/simulator/logins/{path}");
        let answer =
            client::send(wire.address(), "POST", &target, &[], body.to_string().as_bytes()).await.unwrap();
        assert_eq!(answer.status, 400, "{path} {body}");
        assert!(answer.json()["error"].is_string());
    }
}

#[tokio::test]
async fn the_oldest_grant_goes_silently_when_there_are_too_many() {
    let wire = Wire::start().await;
    wire.control("logins/app", json!({"mostGrants": 1, "callbackUrls": ["http://localhost/x"]})).await;
    assert_eq!(refresh(&wire, SEEDED).await.status, 200);
    crate::authorize::another_grant(&wire, "http://localhost/x").await;
    assert_eq!(oauth_error(&refresh(&wire, SEEDED).await), dead());
    let logins = control(&wire, "GET", "").await;
    let active: Vec<&Json> =
        logins["grants"].as_array().unwrap().iter().map(|grant| &grant["active"]).collect();
    assert_eq!(active, [&json!(false), &json!(true)]);
}
