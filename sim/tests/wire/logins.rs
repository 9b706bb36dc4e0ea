//! Token endpoint, sessions, and what ends them (rest.md section 1).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::client::{self, Answer};
use crate::{Wire, refusal, soql_target};

pub const REFRESH: &str =
    "grant_type=refresh_token&client_id=simulator-client&client_secret=simulator-secret&refresh_token=";

/// From now on the session is one of the grant that is there from the start; it is not rotated by this.
async fn use_the_grant(wire: &mut Wire) {
    let token = wire.token_call(&format!("{REFRESH}5AepSimulatorRefreshToken")).await.json();
    wire.token = token["access_token"].as_str().unwrap().to_owned();
}

pub fn oauth_error(answer: &Answer) -> (u16, String, String) {
    let json = answer.json();
    let text = |name: &str| json[name].as_str().unwrap().to_owned();
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    (answer.status, text("error"), text("error_description"))
}

#[tokio::test]
async fn client_credentials_answer_a_token_without_a_refresh_token() {
    let wire = Wire::start().await;
    let form = "grant_type=client_credentials&client_id=simulator-client&client_secret=simulator-secret";
    let answer = wire.token_call(form).await;
    assert_eq!(answer.header("content-type"), Some("application/json;charset=UTF-8"));
    assert_eq!(answer.header("cache-control"), Some("no-cache, no-store"));
    let token = answer.json();
    assert!(token["access_token"].as_str().unwrap().contains('!'));
    assert_eq!(token["instance_url"], wire.simulator.origin());
    assert_eq!(token["token_type"], "Bearer");
    assert_eq!(token["issued_at"], crate::START_MS.to_string(), "a string of milliseconds");
    for key in ["refresh_token", "expires_in", "id_token"] {
        assert!(token.get(key).is_none(), "{token}");
    }
    let identity: Vec<&str> = token["id"].as_str().unwrap().rsplit('/').take(2).collect();
    assert!(identity.iter().all(|id| id.len() == 18), "{identity:?}");
}

#[tokio::test]
async fn the_client_may_log_in_by_basic_authentication() {
    let wire = Wire::start().await;
    let basic = format!("Basic {}", STANDARD.encode("simulator-client:simulator-secret"));
    let headers = [("authorization", basic.as_str()), ("content-type", "application/x-www-form-urlencoded")];
    let target = "/services/oauth2/token";
    let answer = client::send(wire.address(), "POST", target, &headers, b"grant_type=client_credentials")
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn wrong_clients_and_grants_are_refused_in_salesforces_words() {
    let wire = Wire::start().await;
    for (form, error, description) in [
        (
            "grant_type=client_credentials&client_id=x&client_secret=simulator-secret",
            "invalid_client_id",
            "client identifier invalid",
        ),
        (
            "grant_type=client_credentials&client_id=simulator-client&client_secret=x",
            "invalid_client",
            "invalid client credentials",
        ),
        (
            "grant_type=client_credentials&client_id=simulator-client",
            "invalid_client",
            "invalid client credentials",
        ),
        (
            "grant_type=what&client_id=simulator-client&client_secret=simulator-secret",
            "unsupported_grant_type",
            "grant type not supported",
        ),
        (
            "grant_type=password&client_id=simulator-client&client_secret=simulator-secret&username=a&password=b",
            "invalid_grant",
            "authentication failure",
        ),
        (
            "grant_type=refresh_token&client_id=simulator-client&client_secret=simulator-secret&refresh_token=x",
            "invalid_grant",
            "expired access/refresh token",
        ),
    ] {
        assert_eq!(oauth_error(&wire.token_call(form).await), refusal(400, error, description), "{form}");
    }
}

#[tokio::test]
async fn without_rotation_a_refresh_token_serves_again_and_again() {
    let wire = Wire::start().await;
    for _ in 0..2 {
        let answer = wire.token_call(&format!("{REFRESH}5AepSimulatorRefreshToken")).await;
        assert_eq!(answer.status, 200);
        assert!(answer.json().get("refresh_token").is_none());
    }
    assert_eq!(wire.get("limits").await.status, 200, "the session before goes on");
}

#[tokio::test]
async fn a_replayed_refresh_token_kills_the_grant() {
    let mut wire = Wire::start().await;
    use_the_grant(&mut wire).await;
    wire.control("settings", json!({"rotation": true})).await;
    let first = wire.token_call(&format!("{REFRESH}5AepSimulatorRefreshToken")).await.json();
    let next = first["refresh_token"].as_str().unwrap().to_owned();
    assert_eq!(wire.get("limits").await.status, 401, "rotation ends the session before");
    wire.token = first["access_token"].as_str().unwrap().to_owned();
    assert_eq!(wire.get("limits").await.status, 200);

    let replay = wire.token_call(&format!("{REFRESH}5AepSimulatorRefreshToken")).await;
    assert_eq!(oauth_error(&replay), refusal(400, "invalid_grant", "expired access/refresh token"));
    let current = wire.token_call(&format!("{REFRESH}{next}")).await;
    assert_eq!(oauth_error(&current), refusal(400, "invalid_grant", "expired access/refresh token"));
    assert_eq!(wire.get("limits").await.status, 401, "its access tokens are dead too");
}

#[tokio::test]
async fn an_ended_session_is_401_with_an_array() {
    let wire = Wire::start().await;
    wire.control("sessions/expire", json!({})).await;
    let answer = wire.get("limits").await;
    assert_eq!(answer.refusal(), refusal(401, "INVALID_SESSION_ID", "Session expired or invalid"));
    assert_eq!(answer.header("www-authenticate"), Some("Token"));
    let userinfo = wire.get("/services/oauth2/userinfo").await;
    assert_eq!((userinfo.status, userinfo.text().as_str()), (403, "Bad_OAuth_Token"));
}

#[tokio::test]
async fn identity_and_userinfo_name_org_and_user() {
    let wire = Wire::start().await;
    let (organization, user) = (wire.simulator.org().organization_id(), wire.simulator.org().user_id());
    let identity =
        wire.get(&format!("/id/{}/{}?version=latest", organization.as_str(), user.as_str())).await.json();
    assert_eq!(identity["organization_id"], organization.as_str());
    assert!(!identity["urls"]["rest"].as_str().unwrap().contains("{version}"));
    let userinfo = wire.get("/services/oauth2/userinfo").await.json();
    assert_eq!(userinfo["user_id"], user.as_str());
    let soql = format!("SELECT Username FROM User WHERE Id = '{}'", user.as_str());
    let record = wire.soql(&soql).await.json();
    assert_eq!(record["records"][0]["Username"], userinfo["preferred_username"], "the same person");
}

#[tokio::test]
async fn a_revoked_refresh_token_takes_its_sessions_along() {
    let mut wire = Wire::start().await;
    let other = wire.token.clone();
    use_the_grant(&mut wire).await;
    let revoked =
        wire.call("POST", "/services/oauth2/revoke?token=5AepSimulatorRefreshToken", &[], "").await.unwrap();
    assert_eq!((revoked.status, revoked.body.len()), (200, 0));
    assert_eq!(wire.get("limits").await.status, 401);
    let unknown = wire.call("POST", "/services/oauth2/revoke?token=what", &[], "").await.unwrap();
    assert_eq!((unknown.status, &unknown.json()["error"]), (400, &json!("invalid_token")));
    wire.token = other;
    assert_eq!(wire.get("limits").await.status, 200, "a login by itself goes on");
}

#[tokio::test]
async fn query_locators_belong_to_their_session_and_bulk_jobs_do_not() {
    let mut wire = Wire::with_rows(&[("Account", 3_000)]).await;
    use_the_grant(&mut wire).await;
    wire.control("settings", json!({"rotation": true})).await;
    let page = wire.get(&soql_target("query", "SELECT Id FROM Account")).await.json();
    let next = page["nextRecordsUrl"].as_str().unwrap().to_owned();
    let job = wire
        .post("jobs/query", json!({"operation": "query", "query": "SELECT Id FROM Account"}))
        .await
        .json();
    let token = wire.token_call(&format!("{REFRESH}5AepSimulatorRefreshToken")).await.json();
    wire.token = token["access_token"].as_str().unwrap().to_owned();
    for _ in 0..2 {
        let refused = wire.get(&next).await;
        assert_eq!(refused.refusal(), refusal(401, "INVALID_SESSION_ID", "Session expired or invalid"));
    }
    let results = wire.get(&format!("jobs/query/{}/results", job["id"].as_str().unwrap())).await;
    assert_eq!((results.status, results.header("sforce-numberofrecords")), (200, Some("3000")));
}

#[tokio::test]
async fn a_refresh_can_move_the_org_and_two_at_once_are_refused_on_demand() {
    let wire = Wire::start().await;
    wire.control("settings", json!({"instanceUrl": "http://moved.example.com"})).await;
    let token = wire.token_call(&format!("{REFRESH}5AepSimulatorRefreshToken")).await.json();
    assert_eq!(token["instance_url"], "http://moved.example.com");
    let busy = r#"{"error":"invalid_grant","error_description":"token request is already being processed"}"#;
    wire.control(
        "faults",
        json!({"contains": "/token", "times": 1, "action": {"respond": {"status": 400, "body": busy}}}),
    )
    .await;
    let refused = wire.token_call(&format!("{REFRESH}5AepSimulatorRefreshToken")).await;
    assert_eq!((refused.status, refused.text().as_str()), (400, busy));
    assert_eq!(wire.token_call(&format!("{REFRESH}5AepSimulatorRefreshToken")).await.status, 200);
}
