//! Faults on demand: what is asked for happens, to the calls it was asked for, so often and no more.

use serde_json::{Value as Json, json};

use crate::{Wire, refusal};

async fn fault(wire: &Wire, contains: &str, action: Json) {
    wire.control("faults", json!({"contains": contains, "times": 1, "action": action})).await;
}

#[tokio::test]
async fn any_answer_can_be_ordered() {
    let wire = Wire::start().await;
    let html = "<html>We are setting things up…</html>";
    for (status, body, headers) in [
        (420, html, json!([["content-type", "text/html"]])),
        (406, "", json!([])),
        (429, "", json!([["retry-after", "1"]])),
        (503, r#"[{"message":"down","errorCode":"SERVER_UNAVAILABLE"}]"#, json!([])),
        (200, html, json!([["content-type", "text/html"]])),
    ] {
        fault(&wire, "/limits", json!({"respond": {"status": status, "body": body, "headers": headers}}))
            .await;
        let answer = wire.get("limits").await;
        assert_eq!((answer.status, answer.text().as_str()), (status, body));
        for header in headers.as_array().unwrap() {
            assert_eq!(answer.header(header[0].as_str().unwrap()), header[1].as_str());
        }
        assert_eq!(wire.get("limits").await.status, 200, "once is once");
    }
    let busy =
        r#"[{"message":"ConcurrentPerOrgLongTxn Limit exceeded.","errorCode":"REQUEST_LIMIT_EXCEEDED"}]"#;
    fault(&wire, "/query", json!({"respond": {"status": 403, "body": busy}})).await;
    let refused = refusal(403, "REQUEST_LIMIT_EXCEEDED", "ConcurrentPerOrgLongTxn Limit exceeded.");
    assert_eq!(wire.soql("SELECT Id FROM Account").await.refusal(), refused);
}

#[tokio::test]
async fn a_dropped_connection_answers_nothing() {
    let wire = Wire::start().await;
    fault(&wire, "/limits", json!("drop")).await;
    assert!(wire.call("GET", "limits", &[], "").await.is_none());
    assert_eq!(wire.get("limits").await.status, 200);
}

#[tokio::test]
async fn a_cut_body_breaks_and_an_ended_body_looks_whole() {
    let wire = Wire::start().await;
    let full = wire.get("sobjects").await;
    fault(&wire, "/sobjects", json!({"cutBody": {"afterBytes": 1_000}})).await;
    let cut = wire.get("sobjects").await;
    assert!(!cut.whole && cut.body.len() <= 1_000, "{} bytes", cut.body.len());
    fault(&wire, "/sobjects", json!({"endBody": {"afterBytes": 1_000}})).await;
    let ended = wire.get("sobjects").await;
    assert!(ended.whole);
    assert_eq!(ended.body, &full.body[..1_000]);
}

#[tokio::test]
async fn a_rule_waits_for_its_turn_and_its_method() {
    let wire = Wire::start().await;
    let rule = json!({"method": "GET", "contains": "/limits", "after": 1, "times": 2,
        "action": {"respond": {"status": 500}}});
    wire.control("faults", rule).await;
    assert_eq!(wire.post("limits", json!({})).await.status, 405, "another method");
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(wire.get("limits").await.status);
    }
    assert_eq!(seen, [200, 500, 500, 200]);
}

#[tokio::test]
async fn a_session_can_end_in_the_middle_of_a_walk() {
    let mut wire = Wire::with_rows(&[("Account", 5_000)]).await;
    let first = wire.soql("SELECT Id FROM Account").await.json();
    fault(&wire, "/query/0r8", json!("expireSession")).await;
    let next = first["nextRecordsUrl"].as_str().unwrap();
    assert_eq!(wire.get(next).await.refusal().1, "INVALID_SESSION_ID");
    wire.token = wire.log_in().await;
    assert_eq!(wire.soql("SELECT Id FROM Account").await.status, 200);
}

#[tokio::test]
async fn the_count_of_a_page_can_lie() {
    let wire = Wire::start().await;
    let job = wire
        .post("jobs/query", json!({"operation": "query", "query": "SELECT Id FROM Account"}))
        .await
        .json();
    let results = format!("jobs/query/{}/results", job["id"].as_str().unwrap());
    let count: i64 = wire.get(&results).await.header("sforce-numberofrecords").unwrap().parse().unwrap();
    fault(&wire, "/results", json!({"wrongCount": {"by": -1}})).await;
    let wrong = wire.get(&results).await;
    assert_eq!(wrong.header("sforce-numberofrecords").unwrap(), (count - 1).to_string());
}

#[tokio::test]
async fn jobs_fail_abort_hang_and_vanish_on_demand() {
    let wire = Wire::start().await;
    let create = json!({"operation": "query", "query": "SELECT Id FROM Account"});
    for (fate, message, status, state) in [
        ("fail", Some("QUERY_TIMEOUT: Your query request was running for too long."), 200, "Failed"),
        ("fail", None, 200, "Failed"),
        ("abort", None, 200, "Aborted"),
        ("stuck", None, 200, "InProgress"),
        ("gone", None, 404, ""),
    ] {
        fault(&wire, "/jobs/query", json!({"job": {"fate": fate, "message": message}})).await;
        let job = wire.post("jobs/query", create.clone()).await.json();
        let target = format!("jobs/query/{}", job["id"].as_str().unwrap());
        let answer = wire.get(&target).await;
        assert_eq!(answer.status, status, "{fate}");
        let json = answer.json();
        assert_eq!(json["state"].as_str().unwrap_or_default(), state);
        assert_eq!(json["errorMessage"].as_str(), message, "a failed job may give no reason");
        let results = wire.get(&format!("{target}/results")).await;
        assert_eq!(results.status, if status == 404 { 404 } else { 204 }, "{fate}");
    }
}
