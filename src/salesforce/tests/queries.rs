//! Queries, counts, describes, records by id.

use super::*;
use crate::salesforce::scripted::Org;

#[tokio::test]
async fn a_statement_too_long_for_an_address_goes_in_a_body() {
    let org = Org::start().await;
    let inner = r#"{"totalSize":2,"done":false,"nextRecordsUrl":"/services/data/v65.0/query/0r8-1","records":[{"Id":"001A"}]}"#;
    org.on("POST /services/data/v65.0/composite", [
        reply(200, format!(r#"{{"compositeResponse":[{{"body":{inner},"httpHeaders":{{}},"httpStatusCode":200,"referenceId":"q0"}}]}}"#)),
        reply(200, r#"{"compositeResponse":[{"body":[{"errorCode":"QUERY_TIMEOUT","message":"Your query request was running for too long."}],"httpStatusCode":400,"referenceId":"q0"}]}"#),
    ]);
    org.on("/query/0r8-1", [page(&["001B"], 2, None)]);
    let client = org.client().await;
    let long = format!("Name != '{}'", "x".repeat(13_000));
    let statement = Select::all(&sample::account()).condition(&long).statement().unwrap();
    let mut pages = client.query(&statement, true);
    assert_eq!(ids(&pages.next().await.unwrap().unwrap().rows), ["001A"]);
    assert_eq!(ids(&pages.next().await.unwrap().unwrap().rows), ["001B"]);
    assert!(pages.next().await.unwrap().is_none());
    let sent = org.requests("/composite").remove(0);
    assert!(sent.body.contains("/services/data/v65.0/queryAll?q=SELECT+Id%2C"), "{}", &sent.body[..200]);
    let error = client.query(&statement, true).next().await.unwrap_err();
    assert_eq!((error.kind(), org.requests("/composite").len()), (Kind::QueryTimeout, 2));
}

#[tokio::test]
async fn an_address_that_something_on_the_way_finds_too_long_goes_in_a_body() {
    let org = Org::start().await;
    let html = reply(414, "<html>Request-URI Too Large</html>").with("content-type", "text/html");
    org.on("/queryAll?q=", [html, reply(431, "")]);
    let inner = r#"{"totalSize":1,"done":true,"records":[{"Id":"001A"}]}"#;
    let answer = format!(
        r#"{{"compositeResponse":[{{"body":{inner},"httpHeaders":{{}},"httpStatusCode":200,"referenceId":"q0"}}]}}"#
    );
    org.on("POST /services/data/v65.0/composite", [reply(200, answer)]);
    let client = org.client().await;
    for _ in 0..2 {
        assert_eq!(all_ids(&client).await.unwrap(), ["001A"]);
    }
    assert_eq!((org.requests("/queryAll?q=").len(), org.requests("/composite").len()), (2, 2));
}

#[tokio::test]
async fn counts_fall_back_where_the_cached_ones_are_silent() {
    let org = Org::start().await;
    org.on("/limits/recordCount", [reply(200, r#"{"sObjects":[{"count":3,"name":"Account"}]}"#)]);
    org.on(
        "/composite",
        [reply(
            200,
            r#"{"compositeResponse":[
        {"body":[{"errorCode":"INVALID_TYPE","message":"x"}],"httpStatusCode":400,"referenceId":"q1"},
        {"body":{"totalSize":9,"done":true,"records":[]},"httpStatusCode":200,"referenceId":"q0"}]}"#,
        )],
    );
    let counts = org.client().await.estimate_rows(&["Account", "AccountHistory", "Gone__c"]).await.unwrap();
    let counts: Vec<_> = counts.iter().map(|(name, count)| (name.as_str(), *count)).collect();
    assert_eq!(counts, [("Account", 3), ("AccountHistory", 9)]);
}

#[tokio::test]
async fn parents_are_counted_by_the_call_that_counts_rows_whatever_condition_they_have() {
    let org = Org::start().await;
    let counts = r#"{"sObjects":[{"count":700,"name":"Idea"},{"count":9,"name":"IdeaComment"},
        {"count":4,"name":"KnowledgeArticle"},{"count":8,"name":"Help__kav"}]}"#;
    org.on("/limits/recordCount", [reply(200, counts)]);
    org.on("/query?q=", [reply(200, r#"{"totalSize":2,"done":true,"records":[]}"#)]);
    let gone = r#"{"compositeResponse":[{"body":[{"errorCode":"INVALID_TYPE","message":"x"}],
        "httpStatusCode":400,"referenceId":"q0"}]}"#;
    org.on("/composite", [reply(200, gone)]);
    let conditions = [("Idea".to_owned(), "Title != null".to_owned())];
    let names = ["Idea", "IdeaComment", "Help__kav", "Gone__c"];
    let counts = org.client().await.estimate_fitting(&names, &conditions).await.unwrap();
    let of = |name: &str| (counts[name].rows, counts[name].parents);
    assert_eq!((of("Idea"), of("IdeaComment")), ((Some(2), None), (Some(9), Some(700))));
    assert_eq!((of("Help__kav"), of("Gone__c")), ((Some(8), Some(4)), (None, None)));
    let asked = org.requests("/limits/recordCount");
    let [asked] = asked.as_slice() else { panic!("{asked:?}") };
    assert!(
        asked.line.contains("=Idea,IdeaComment,Help__kav,Gone__c,KnowledgeArticle "),
        "each once: {}",
        asked.line
    );
}

#[tokio::test]
async fn records_are_fetched_by_id_in_calls_of_two_thousand() {
    let org = Org::start().await;
    org.on(
        "POST /services/data/v65.0/composite/sobjects/Account",
        [
            reply(200, r#"[null,{"attributes":{},"Id":"001A","Name":"x"}]"#),
            reply(200, r#"[{"attributes":{},"Id":"001B","Name":null}]"#),
        ],
    );
    let wanted: Vec<String> = (0..2_001).map(|number| format!("001{number}")).collect();
    let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let rows = org.client().await.retrieve(&sample::account(), &wanted, &[3]).await.unwrap();
    assert_eq!(ids(&rows), ["001A", "001B"]);
    assert_eq!(rows.row(0).unwrap().cell(4), None);
    let sent: serde_json::Value = serde_json::from_str(&org.requests("/composite").remove(0).body).unwrap();
    assert_eq!(sent["fields"], serde_json::json!(["Id", "Name"]));
    assert_eq!(sent["ids"].as_array().unwrap().len(), 2_000);
}

#[tokio::test]
async fn a_describe_that_did_not_change_is_not_sent_again() {
    let org = Org::start().await;
    let body = include_str!("../../../tests/data/salesforce/describe-Account.json");
    let modified = "Tue, 19 May 2026 08:30:00 GMT";
    org.on("/sobjects/Account/describe", [reply(200, body).with("last-modified", modified), reply(304, "")]);
    let client = org.client().await;
    let describe = client.describe("Account", None).await.unwrap().unwrap();
    assert_eq!(describe.last_modified.as_deref(), Some(modified));
    assert!(client.describe("Account", describe.last_modified.as_deref()).await.unwrap().is_none());
    let head = &org.requests("describe")[1].head;
    assert!(
        head.to_ascii_lowercase().contains(&format!("if-modified-since: {}", modified.to_ascii_lowercase())),
        "{head}"
    );
}

#[tokio::test]
async fn an_object_that_is_not_there_is_told_by_its_describe() {
    let org = Org::start().await;
    org.on("/describe", [reply(404, include_str!("../../../tests/data/salesforce/404-not-found.json"))]);
    assert_reads(
        &org.client().await.describe("Invoice__c", None).await.unwrap_err(),
        Kind::ObjectUnknown,
        "describing Invoice__c: Salesforce answered 404 NOT_FOUND: The requested resource does not exist",
    );
}

#[tokio::test]
async fn one_call_tells_all_objects_whether_any_description_has_changed() {
    let org = Org::start().await;
    let listed = reply(200, r#"{"sobjects":[{"name":"Account","queryable":true}]}"#);
    let changed_at = |at: &str| listed.clone().with("last-modified", at);
    let [then, later] = ["Tue, 19 May 2026 08:00:00 GMT", "Tue, 19 May 2026 08:30:00 GMT"];
    org.set_date("Tue, 19 May 2026 09:00:00 GMT");
    org.on("/sobjects HTTP", [changed_at(then), reply(304, ""), changed_at(later), reply(304, "")]);
    let client = org.client().await;
    client.describe_global().await.unwrap();
    let mut known = Vec::new();
    for _ in 0..3 {
        known.push(client.metadata_changes(std::time::Duration::ZERO).await.unwrap());
    }
    assert_eq!(known, [0, 1, 1]);
    let asked = org.requests("/sobjects HTTP");
    let since = |place: usize| asked[place].head.to_ascii_lowercase();
    assert!(!since(0).contains("if-modified-since"));
    assert!(since(1).contains(&format!("if-modified-since: {}", then.to_ascii_lowercase())));
    assert!(since(3).contains(&format!("if-modified-since: {}", later.to_ascii_lowercase())));
    // Asked a moment ago, nobody asks again.
    for _ in 0..3 {
        client.metadata_changes(std::time::Duration::from_secs(600)).await.unwrap();
    }
    assert_eq!(org.requests("/sobjects HTTP").len(), 4);
}

#[tokio::test]
async fn a_list_that_was_changed_within_its_second_is_asked_for_whole_again() {
    let org = Org::start().await;
    let now = "Tue, 19 May 2026 09:00:00 GMT";
    org.set_date(now);
    org.on("/sobjects HTTP", [reply(200, r#"{"sobjects":[]}"#).with("last-modified", now)]);
    let client = org.client().await;
    client.describe_global().await.unwrap();
    assert_eq!(client.metadata_changes(std::time::Duration::ZERO).await.unwrap(), 1);
    assert!(!org.requests("/sobjects HTTP")[1].head.to_ascii_lowercase().contains("if-modified-since"));
}
