//! Answers that are none, refusals, the allowance, the server's clock.

use std::io::Write as _;
use std::time::{Duration, Instant};

use super::*;
use crate::error::Reaction;
use crate::salesforce::scripted::{Org, quick, refuse};
use crate::salesforce::{Pace, Purpose};

#[tokio::test]
async fn a_web_page_instead_of_json_passes_or_is_told() {
    let org = Org::start().await;
    let html =
        reply(200, "<!DOCTYPE html><html>Anna, please log in</html>").with("content-type", "text/html");
    org.on("/query", [html.clone(), page(&["001A"], 1, None), html]);
    let client = org.client().await;
    assert_eq!(all_ids(&client).await.unwrap(), ["001A"]);
    let error = all_ids(&client).await.unwrap_err();
    assert_eq!(error.kind(), Kind::ReplyUnreadable);
    let text = error.to_string();
    assert!(
        text.starts_with(
            "query on Account: Salesforce answered 200 with a web page instead of data (given up after "
        ),
        "{text}"
    );
    assert!(!text.contains("Anna"));
}

#[tokio::test]
async fn an_unavailable_server_is_waited_for_as_long_as_it_asks() {
    let org = Org::start().await;
    let busy = refuse(503, "SERVER_UNAVAILABLE", "The server is temporarily unable to respond");
    org.on("/query", [busy.clone(), busy.clone().with("retry-after", "1"), page(&["001A"], 1, None), busy]);
    let client = org.client().await;
    let before = Instant::now();
    assert_eq!(all_ids(&client).await.unwrap(), ["001A"]);
    assert!(before.elapsed() >= Duration::from_secs(1));
    let error = all_ids(&client).await.unwrap_err();
    assert_eq!((error.kind(), error.reaction()), (Kind::SalesforceUnavailable, Reaction::RetryLater));
    let start = "query on Account: Salesforce answered 503 SERVER_UNAVAILABLE: The server is temporarily unable to respond (given up after ";
    assert!(error.to_string().starts_with(start), "{error}");
}

#[tokio::test]
async fn a_connection_that_breaks_in_a_body_is_asked_again() {
    let org = Org::start().await;
    let whole = page(&["001A", "001B"], 2, None);
    org.on("/query", [whole.clone().cut_at(60), whole.clone(), whole.cut_at(60)]);
    let client = org.client().await;
    assert_eq!(all_ids(&client).await.unwrap(), ["001A", "001B"]);
    let error = all_ids(&client).await.unwrap_err();
    assert_eq!(error.kind(), Kind::ReplyTruncated);
    assert!(error.to_string().starts_with("query on Account: the answer broke off: "), "{error}");
}

#[tokio::test]
async fn json_that_ends_in_the_middle_is_asked_again_even_if_the_connection_ended_well() {
    let org = Org::start().await;
    org.on(
        "/query",
        [reply(200, r#"{"totalSize":1,"done":true,"records":[{"Id":"00"#), page(&["001A"], 1, None)],
    );
    assert_eq!(all_ids(&org.client().await).await.unwrap(), ["001A"]);
}

#[tokio::test]
async fn an_org_that_cannot_be_reached_is_named() {
    let org = Org::start().await;
    let mut settings = org.settings();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    settings.login_origin = url::Url::parse(&format!("http://{}", free.local_addr().unwrap())).unwrap();
    drop(free);
    let error = Client::connect_with(&settings, quick()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NetworkFailed);
    assert!(error.to_string().contains("no connection to 127.0.0.1"), "{error}");
}

#[tokio::test]
async fn a_compressed_answer_that_lacks_its_end_is_not_taken_for_a_whole_one() {
    let org = Org::start().await;
    let body = br#"{"totalSize":1,"done":true,"records":[{"Id":"001A","Name":"Anna"}]}"#;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(body).unwrap();
    let packed = encoder.finish().unwrap();
    let answer = |bytes: &[u8]| reply(200, bytes).with("content-encoding", "gzip");
    org.on("/query", [answer(&packed[..packed.len() - 9]), answer(&packed)]);
    assert_eq!(all_ids(&org.client().await).await.unwrap(), ["001A"]);
    assert_eq!(org.requests("/query").len(), 2);
    let head = org.requests("/query").remove(0).head.to_ascii_lowercase();
    assert!(head.contains("accept-encoding: gzip"), "{head}");
}

#[tokio::test]
async fn an_object_without_access_and_a_hidden_field_are_told_apart_and_not_asked_twice() {
    let org = Org::start().await;
    org.on("/query", [
        refuse(400, "INVALID_TYPE", "\nId FROM Account\n^\nERROR at Row:1:Column:16\nsObject type 'Account' is not supported. If you are attempting to use a custom object, be sure"),
        refuse(400, "INVALID_FIELD", "\nId,Name FROM Account WHERE X = 'Anna'\n^\nERROR at Row:1:Column:11\nNo such column 'Name' on entity 'Account'. If you are attempting to use a custom field, be sure"),
        refuse(403, "INSUFFICIENT_ACCESS", "insufficient access rights on cross-reference id"),
    ]);
    let client = org.client().await;
    assert_reads(
        &all_ids(&client).await.unwrap_err(),
        Kind::ObjectUnknown,
        "query on Account: Salesforce answered 400 INVALID_TYPE: sObject type 'Account' is not supported",
    );
    assert_reads(
        &all_ids(&client).await.unwrap_err(),
        Kind::FieldUnknown,
        "query on Account: Salesforce answered 400 INVALID_FIELD: No such column 'Name' on entity 'Account'",
    );
    assert_reads(
        &all_ids(&client).await.unwrap_err(),
        Kind::ObjectForbidden,
        "query on Account: Salesforce answered 403 INSUFFICIENT_ACCESS: insufficient access rights on cross-reference id",
    );
    assert_eq!(org.requests("/query").len(), 3);
}

#[tokio::test]
async fn a_spent_daily_allowance_is_waited_for_or_told() {
    let org = Org::start().await;
    let spent = refuse(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.");
    org.on("/query", [spent.clone(), spent.clone(), page(&["001A"], 1, None), spent]);
    let client = org.client().await;
    assert_eq!(all_ids(&client).await.unwrap(), ["001A"], "waited, whatever the patience for other faults");
    let hasty = client.with_pace(Pace { wait_for_allowance: false, ..quick() });
    let error = all_ids(&hasty).await.unwrap_err();
    assert_reads(
        &error,
        Kind::ApiLimitReached,
        "query on Account: Salesforce answered 403 REQUEST_LIMIT_EXCEEDED: TotalRequests Limit exceeded",
    );
    assert_eq!(error.reaction(), Reaction::WaitForQuota);
}

#[tokio::test]
async fn usage_is_learned_from_answers_and_calls_are_counted_by_purpose() {
    let org = Org::start().await;
    org.on(
        "/query",
        [page(&["001A"], 1, None).with("sforce-limit-info", "api-usage=18/15000; api-bursts=1/750")],
    );
    let client = org.client().await.for_purpose(Purpose::Poll);
    all_ids(&client).await.unwrap();
    let allowance = client.allowance().borrow().clone();
    assert_eq!((allowance.used, allowance.maximum, allowance.own), (Some(18), Some(15_000), 1));
    assert_eq!(client.calls()[&Purpose::Poll], 1);
}

#[tokio::test]
async fn the_servers_clock_is_followed_and_never_overtaken() {
    let org = Org::start().await;
    org.set_date("Tue, 19 May 2026 08:30:00 GMT");
    let client = org.client().await;
    let said = Stamp::parse(b"2026-05-19T08:30:00Z").unwrap();
    let (first, second) = (client.server_time(), client.server_time());
    assert!(said <= first && first <= second && second < said.plus(Duration::from_secs(60)));
    org.set_date("Tue, 19 May 2026 08:20:00 GMT");
    assert!(client.fetch_server_time().await.unwrap() < said, "a clock that steps back is followed too");
    org.set_date("");
    let error = org.try_client().await.unwrap_err();
    assert!(error.to_string().ends_with("the answer has no readable `Date` header"), "{error}");
}

#[tokio::test]
async fn an_api_version_the_org_does_not_offer_is_refused_at_once() {
    let org = Org::start().await;
    let mut settings = org.settings();
    settings.api_version = "99.0".to_owned();
    let error = Client::connect_with(&settings, quick()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::ConfigInvalid);
    assert!(error.to_string().contains("does not offer API version 99.0, its newest is 65.0"), "{error}");
}
