//! The control interface: what a test orders, and what it is told.

use serde_json::{Value as Json, json};

use crate::client::{self, Answer};
use crate::{Wire, ids, strings};

async fn control(wire: &Wire, method: &str, path: &str) -> Answer {
    client::send(wire.address(), method, &format!("/simulator/{path}"), &[], b"").await.unwrap()
}

#[tokio::test]
async fn truth_deletions_and_changes_agree_with_what_was_saved() {
    let wire = Wire::with_rows(&[("Invoice__c", 0)]).await;
    let insert = json!({"op": "insert", "object": "Invoice__c", "fields": {"Reference__c": "kept"}});
    let saved = wire.save(json!([insert, {"op": "insert", "object": "Invoice__c", "fields": {}}])).await;
    wire.save(json!([{"op": "delete", "object": "Invoice__c", "id": saved[1]}])).await;
    let truth = control(&wire, "GET", "truth/Invoice__c").await.text();
    let lines: Vec<Json> = truth.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 1);
    assert_eq!((&lines[0]["Id"], &lines[0]["Reference__c"]), (&json!(saved[0]), &json!("kept")));
    assert_eq!(strings(&control(&wire, "GET", "deleted/Invoice__c").await.json()), [saved[1].clone()]);
    let changes = control(&wire, "GET", "changes?after=0&limit=10").await.json();
    assert_eq!((&changes["count"], changes["changes"].as_array().unwrap().len()), (&json!(3), 3));
    let key = |at: usize| changes["changes"][at]["transactionKey"].as_str().unwrap();
    assert!(key(0) == key(1) && key(0) != key(2) && key(0).len() == 36, "{changes}");
    control(&wire, "POST", "recycleBin/Invoice__c").await;
    let all = wire.get(&crate::soql_target("queryAll", "SELECT Id FROM Invoice__c")).await.json();
    assert_eq!(ids(&all["records"]), [saved[0].clone()]);
}

#[tokio::test]
async fn traffic_saves_as_many_changes_as_were_ordered() {
    let wire = Wire::with_rows(&[("Account", 500)]).await;
    wire.simulator.org().clock().set_rate(1.0);
    let order = json!({"count": 200, "seconds": 60, "objects": ["Account"], "wait": true});
    let done = wire.control("traffic", order).await;
    assert!(done["changes"].as_u64().unwrap() >= 200, "{done}");
    assert_eq!(control(&wire, "GET", "traffic").await.json()["running"], 0);
    assert_eq!(control(&wire, "DELETE", "traffic").await.status, 200);
}

#[tokio::test]
async fn forgotten_queries_and_jobs_are_invalid_and_gone() {
    let wire = Wire::with_rows(&[("Account", 3_000)]).await;
    let next =
        wire.soql("SELECT Id FROM Account").await.json()["nextRecordsUrl"].as_str().unwrap().to_owned();
    let job = wire
        .post("jobs/query", json!({"operation": "query", "query": "SELECT Id FROM Account"}))
        .await
        .json();
    control(&wire, "DELETE", "queries").await;
    control(&wire, "DELETE", "jobs").await;
    assert_eq!(wire.get(&next).await.refusal().1, "INVALID_QUERY_LOCATOR");
    assert_eq!(wire.get(&format!("jobs/query/{}", job["id"].as_str().unwrap())).await.status, 404);
}

#[tokio::test]
async fn counters_count_by_kind_and_control_calls_are_free() {
    let wire = Wire::start().await;
    wire.control("settings", json!({"calls": 0})).await;
    wire.soql("SELECT Id FROM Account LIMIT 1").await;
    wire.get("sobjects/Account/describe").await;
    let counters = control(&wire, "GET", "counters").await.json();
    assert_eq!(counters["calls"], 2);
    assert_eq!((&counters["byKind"]["query"], &counters["byKind"]["describe"]), (&json!(1), &json!(1)));
    assert_eq!(counters["byObject"], json!({"Account": 2}));
}

#[tokio::test]
async fn an_order_that_is_not_understood_is_refused() {
    let wire = Wire::start().await;
    for (path, body) in [
        ("settings", r#"{"pagecap": 1}"#),
        ("faults", r#"{"action": "explode"}"#),
        ("fields", r#"{"object": "Account", "field": "X", "action": "paint"}"#),
        ("fields", r#"{"object": "Account", "field": "Site", "action": "change", "lenght": 3}"#),
        ("fields", r#"{"object": "Invoice__c", "field": "Terms__c", "action": "rename"}"#),
        ("objects", r#"{"object": "Parcel", "action": "add"}"#),
        ("objects", r#"{"object": "Account", "action": "remove"}"#),
        ("transactions", r#"{"changes": [{"op": "what", "object": "Account"}]}"#),
        ("traffic", r#"{"objects": ["Nothing"]}"#),
    ] {
        let target = format!("/simulator/{path}");
        let answer = client::send(wire.address(), "POST", &target, &[], body.as_bytes()).await.unwrap();
        assert_eq!(answer.status, 400, "{path}");
        assert!(answer.json()["error"].is_string());
    }
    assert_eq!(control(&wire, "GET", "nothing").await.status, 404);
}

#[tokio::test]
async fn a_job_gives_the_fields_and_values_of_the_moment_it_was_created() {
    let wire = Wire::with_rows(&[("Invoice__c", 0)]).await;
    wire.save(json!([{"op": "insert", "object": "Invoice__c", "fields": {"Reference__c": "kept"}}])).await;
    let query = json!({"operation": "query", "query": "SELECT Reference__c FROM Invoice__c"});
    let job = wire.post("jobs/query", query.clone()).await.json()["id"].as_str().unwrap().to_owned();
    let change = |action: &str| json!({"object": "Invoice__c", "field": "Reference__c", "action": action, "name": "Ref__c"});
    wire.control("fields", change("rename")).await;
    loop {
        let state = wire.get(&format!("jobs/query/{job}")).await.json();
        if state["state"] == "JobComplete" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let rows = wire.get(&format!("jobs/query/{job}/results")).await.text();
    assert_eq!(rows, "\"Reference__c\"\n\"kept\"\n");
    assert_eq!(wire.post("jobs/query", query).await.refusal().1, "INVALID_FIELD");
    let rows = wire.soql("SELECT Ref__c FROM Invoice__c").await.json();
    assert_eq!(rows["records"][0]["Ref__c"], "kept");
}

#[tokio::test]
async fn an_object_comes_goes_and_is_renamed_for_whoever_asks() {
    let wire = Wire::start().await;
    let fields = json!([{"name": "Weight__c", "type": "double", "precision": 8, "scale": 3}]);
    let add = json!({"object": "Parcel__c", "action": "add", "rows": 12, "fields": fields});
    wire.control("objects", add).await;
    let describe = wire.get("sobjects/Parcel__c/describe").await.json();
    let weight =
        describe["fields"].as_array().unwrap().iter().find(|field| field["name"] == "Weight__c").unwrap();
    assert_eq!((&weight["precision"], &weight["scale"]), (&json!(8), &json!(3)));
    let rows = wire.soql("SELECT Id FROM Parcel__c").await.json();
    assert_eq!(rows["totalSize"], 12);
    wire.control("objects", json!({"object": "Parcel__c", "action": "rename", "name": "Packet__c"})).await;
    assert_eq!(wire.soql("SELECT Id FROM Parcel__c").await.refusal().1, "INVALID_TYPE");
    assert_eq!(ids(&wire.soql("SELECT Id FROM Packet__c").await.json()["records"]), ids(&rows["records"]));
    wire.control("objects", json!({"object": "Packet__c", "action": "remove"})).await;
    assert_eq!(wire.get("sobjects/Packet__c/describe").await.status, 404);
}
