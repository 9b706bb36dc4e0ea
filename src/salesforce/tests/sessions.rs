//! Logging in, sessions that end, places that move.

use std::sync::Arc;

use super::*;
use crate::config::{Auth, Secret};
use crate::error::Reaction;
use crate::salesforce::Purpose;
use crate::salesforce::bulk::{self, Job, PageRows};
use crate::salesforce::scripted::{Org, quick, refuse};

#[tokio::test]
async fn a_wrong_secret_says_what_to_check() {
    let org = Org::start().await;
    org.on_login([reply(
        400,
        r#"{"error":"invalid_client","error_description":"invalid client credentials"}"#,
    )]);
    let error = org.try_client().await.unwrap_err();
    assert_eq!(error.kind(), Kind::LoginRefused);
    assert_eq!(
        error.to_string(),
        format!("login at {}: Salesforce answered invalid_client: invalid client credentials", org.origin)
    );
    assert!(error.advice().starts_with("check `salesforce.client_secret`"), "{}", error.advice());
    assert_eq!(error.reaction(), Reaction::StopProgram);
    assert_eq!(
        org.requests("oauth2/token").len(),
        1,
        "a wrong secret is not tried twice: users get locked out"
    );
    let sent = org.requests("oauth2/token").remove(0).body;
    assert!(
        sent.contains("grant_type=client_credentials") && sent.contains("client_secret=s3cret"),
        "{sent}"
    );
}

#[tokio::test]
async fn a_login_that_fails_for_now_is_tried_again() {
    let org = Org::start().await;
    org.on_login([
        reply(503, "<html>busy</html>").with("content-type", "text/html"),
        reply(
            400,
            r#"{"error":"invalid_grant","error_description":"token request is already being processed"}"#,
        ),
        reply(200, "<html>welcome</html>").with("content-type", "text/html"),
    ]);
    assert_eq!(org.client().await.org_id(), "00D5g00000AbCdEEAV");
    assert_eq!(org.requests("oauth2/token").len(), 4);
}

#[tokio::test]
async fn an_instance_that_cannot_be_salesforces_never_gets_the_token() {
    let org = Org::start().await;
    let answer =
        r#"{"access_token":"T1","token_type":"Bearer","instance_url":"http://salesforce.com.evil.example"}"#;
    org.on_login([reply(200, answer)]);
    let error = org.try_client().await.unwrap_err();
    assert_eq!(error.kind(), Kind::LoginRefused);
    assert!(
        error
            .to_string()
            .ends_with("sends the token to salesforce.com.evil.example, which is not Salesforce's"),
        "{error}"
    );
}

#[tokio::test]
async fn many_calls_meeting_an_expired_token_log_in_once() {
    let org = Org::start().await;
    org.on("COUNT", [reply(200, r#"{"totalSize":7,"done":true,"records":[]}"#)]);
    let client = org.client().await;
    org.expire();
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.count("SELECT COUNT() FROM Account", false).await })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), 7);
    }
    assert_eq!(org.requests("oauth2/token").len(), 2);
    assert_eq!(client.calls()[&Purpose::Login], 2);
}

#[tokio::test]
async fn a_call_is_repeated_with_the_new_token_at_the_new_place() {
    let (org, other) = (Org::start().await, Org::start().await);
    other.on("/results", [csv(&["001A"], 1, "null")]);
    let client = org.client().await;
    org.move_to(&other);
    let job = Job::resume("7505g00000AbCdEAAV", &sample::account());
    let stream = bulk::page(&client, &job, &first_page()).await.unwrap();
    assert!(matches!(stream.finish().await.unwrap(), PageRows::Complete(rows) if ids(&rows) == ["001A"]));
    assert_eq!(client.instance(), other.origin);
}

#[tokio::test]
async fn a_session_that_ends_between_pages_asks_for_a_new_query_instead_of_repeating_the_locator() {
    let org = Org::start().await;
    let locator = "/services/data/v65.0/query/0r85g00000LmNoPAAV-2000";
    org.on("/queryAll?q=", [page(&["001A", "001B"], 3, Some(locator)), page(&["001C"], 1, None)]);
    let client = org.client().await;
    let statement = Select::all(&sample::account()).statement().unwrap();
    let mut pages = client.query(&statement, true);
    assert_eq!(ids(&pages.next().await.unwrap().unwrap().rows), ["001A", "001B"]);
    org.expire();
    let error = pages.next().await.unwrap_err();
    assert_reads(
        &error,
        Kind::QueryLocatorGone,
        "query on Account: the session that the query's pages belong to is over",
    );
    assert_eq!(org.requests("0r85g00000LmNoPAAV").len(), 1);
    assert_eq!(all_ids(&client).await.unwrap(), ["001C"], "the new session is already there");
    assert_eq!(org.requests("oauth2/token").len(), 2);
}

#[tokio::test]
async fn queries_that_lost_their_session_together_cost_one_login() {
    let org = Org::start().await;
    let locator = |name: &str| format!("/services/data/v65.0/query/0r8{name}-1");
    let (first, second) = (locator("A"), locator("B"));
    org.on("/queryAll?q=", [page(&["001A"], 2, Some(&first)), page(&["001B"], 2, Some(&second))]);
    org.on("/query/0r8", [refuse(401, "INVALID_SESSION_ID", "Session expired or invalid")]);
    let client = org.client().await;
    let statement = Select::all(&sample::account()).statement().unwrap();
    let mut queries = [client.query(&statement, true), client.query(&statement, true)];
    for pages in &mut queries {
        pages.next().await.unwrap();
    }
    org.expire();
    for pages in &mut queries {
        assert_eq!(pages.next().await.unwrap_err().kind(), Kind::QueryLocatorGone);
    }
    assert_eq!(org.requests("oauth2/token").len(), 2, "a login of each would end the other's session");
}

#[tokio::test]
async fn a_session_that_is_refused_again_right_after_login_is_told_and_not_looped() {
    let org = Org::start().await;
    org.on("/query", [refuse(401, "INVALID_SESSION_ID", "Session expired or invalid")]);
    let client = org.client().await;
    let error = all_ids(&client).await.unwrap_err();
    assert_reads(
        &error,
        Kind::SessionExpired,
        "query on Account: Salesforce answered 401 INVALID_SESSION_ID: Session expired or invalid",
    );
    assert_eq!((org.requests("/query").len(), org.requests("oauth2/token").len()), (2, 2));
}

#[tokio::test]
async fn a_given_access_token_that_expires_says_that_it_cannot_be_renewed() {
    let org = Org::start().await;
    org.on("/query", [page(&["001A"], 1, None)]);
    let mut settings = org.settings();
    settings.auth = Auth::AccessToken { access_token: Secret::new("T1") };
    let error = Client::connect_with(&settings, quick()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::ConfigInvalid);
    assert!(error.advice().contains("salesforce.instance"), "{}", error.report());
    settings.instance = Some(url::Url::parse(&org.origin).unwrap());
    let client = Client::connect_with(&settings, quick()).await.unwrap();
    assert_eq!(all_ids(&client).await.unwrap(), ["001A"]);
    org.expire();
    let error = all_ids(&client).await.unwrap_err();
    assert_reads(
        &error,
        Kind::LoginRefused,
        "logging in again: Salesforce no longer accepts the access token, and `auth: access-token` cannot get another",
    );
    assert_eq!(org.requests("oauth2/token").len(), 0);
}

#[tokio::test]
async fn a_token_is_not_carried_along_a_redirect() {
    let (org, elsewhere) = (Org::start().await, Org::start().await);
    org.on(
        "/query",
        [reply(302, "").with("location", &format!("{}/services/data/v65.0/query", elsewhere.origin))],
    );
    let error = all_ids(&org.client().await).await.unwrap_err();
    assert_eq!(error.to_string(), "query on Account: Salesforce answered 302 and points to 127.0.0.1");
    assert!(elsewhere.requests("").is_empty());
}

#[tokio::test]
async fn one_client_serves_many_tasks() {
    fn sends<T: Send + Sync + 'static>(value: T) -> T {
        value
    }
    let org = Org::start().await;
    org.on("/query", [page(&["001A"], 1, None)]);
    let client = Arc::new(sends(org.client().await));
    let task = tokio::spawn({
        let client = Arc::clone(&client);
        async move { all_ids(&client).await }
    });
    assert_eq!(task.await.unwrap().unwrap(), ["001A"]);
}
