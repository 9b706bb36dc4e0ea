//! Versions, describes, records by id, replication, limits, composite (rest.md 2, 3.4 to 3.9, 5).

use std::collections::HashSet;

use serde_json::{Value as Json, json};

use crate::{Wire, client, ids, refusal, soql_target, strings};

#[tokio::test]
async fn versions_need_no_login_and_do_not_count() {
    let wire = Wire::start().await;
    let answer = client::send(wire.address(), "GET", "/services/data/", &[], b"").await.unwrap();
    assert_eq!((answer.status, answer.header("sforce-limit-info")), (200, None));
    let versions = answer.json();
    let newest = versions.as_array().unwrap().last().unwrap().clone();
    assert_eq!(newest, json!({"label": "Summer '26", "url": "/services/data/v67.0", "version": "67.0"}));
    let other = client::send(wire.address(), "GET", "/services/data/v66.0/sobjects", &[], b"").await.unwrap();
    assert_eq!(other.status, 401);
}

#[tokio::test]
async fn retired_and_unknown_versions_are_told_apart() {
    let wire = Wire::start().await;
    assert_eq!(wire.get("/services/data/v30.0/limits").await.status, 410);
    for unknown in ["v99.0", "v66", "66.0"] {
        assert_eq!(wire.get(&format!("/services/data/{unknown}/limits")).await.status, 404, "{unknown}");
    }
}

#[tokio::test]
async fn limit_info_grows_by_one_a_call_and_the_limit_holds() {
    let wire = Wire::start().await;
    wire.control("settings", json!({"dailyLimit": 12, "calls": 9})).await;
    for used in [10, 11] {
        let answer = wire.get("sobjects/Account/describe").await;
        assert_eq!(answer.header("sforce-limit-info").unwrap(), format!("api-usage={used}/12"));
    }
    let limits = wire.get("limits").await;
    assert_eq!(limits.header("sforce-limit-info"), Some("api-usage=12/12"));
    assert_eq!(limits.json()["DailyApiRequests"]["Max"], 12);
    let refused = refusal(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.");
    assert_eq!(wire.get("limits").await.refusal(), refused);
    // A production org's limit is soft: the figure goes over it.
    wire.control("settings", json!({"softLimit": true})).await;
    let answer = wire.get("limits").await;
    assert_eq!((answer.status, answer.header("sforce-limit-info")), (200, Some("api-usage=13/12")));
}

#[tokio::test]
async fn describe_global_lists_what_the_user_may_see() {
    let wire = Wire::start().await;
    let global = wire.get("sobjects").await;
    let modified = global.header("last-modified").unwrap().to_owned();
    let find = |global: &Json, name: &str| {
        global["sobjects"].as_array().unwrap().iter().find(|object| object["name"] == name).cloned()
    };
    let account = find(&global.json(), "Account").unwrap();
    assert_eq!((&account["keyPrefix"], &account["queryable"]), (&json!("001"), &json!(true)));
    assert_eq!(account["urls"]["describe"], "/services/data/v66.0/sobjects/Account/describe");
    assert_eq!(find(&global.json(), "AccountChangeEvent").unwrap()["queryable"], false);
    let since = [("If-Modified-Since", modified.as_str())];
    let again = wire.call("GET", "sobjects", &since, "").await.unwrap();
    assert_eq!((again.status, again.body.len()), (304, 0));
    // Permissions count as changes.
    wire.pass_seconds(2).await;
    wire.control("settings", json!({"hiddenObjects": ["Account"]})).await;
    let hidden = wire.call("GET", "sobjects", &since, "").await.unwrap();
    assert_eq!(hidden.status, 200);
    assert_eq!(find(&hidden.json(), "Account"), None);
    let not_found = refusal(404, "NOT_FOUND", "The requested resource does not exist");
    assert_eq!(wire.get("sobjects/Account/describe").await.refusal(), not_found);
    assert_eq!(wire.soql("SELECT Id FROM Account").await.refusal().1, "INVALID_TYPE");
}

#[tokio::test]
async fn describe_is_304_until_a_field_comes_or_goes() {
    let wire = Wire::start().await;
    let first = wire.get("sobjects/account/describe").await;
    let modified = first.header("last-modified").unwrap().to_owned();
    let fields = |describe: &Json| -> HashSet<String> {
        describe["fields"]
            .as_array()
            .unwrap()
            .iter()
            .map(|field| field["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert!(fields(&first.json()).contains("BillingAddress"));
    let since = [("If-Modified-Since", modified.as_str())];
    let again = wire.call("GET", "sobjects/Account/describe", &since, "").await.unwrap();
    assert_eq!((again.status, again.body.len()), (304, 0));
    wire.pass_seconds(5).await;
    wire.control(
        "fields",
        json!({"object": "Account", "field": "New__c", "action": "add", "type": "future"}),
    )
    .await;
    let changed = wire.call("GET", "sobjects/Account/describe", &since, "").await.unwrap();
    assert_eq!(changed.status, 200);
    let describe = changed.json();
    let new = describe["fields"].as_array().unwrap().iter().find(|field| field["name"] == "New__c").unwrap();
    assert_eq!(new["type"], "future", "a type that nobody knows");
    wire.control("fields", json!({"object": "Account", "field": "New__c", "action": "remove"})).await;
    assert!(!fields(&wire.get("sobjects/Account/describe").await.json()).contains("New__c"));
}

#[tokio::test]
async fn records_by_id_are_null_when_they_are_not_there() {
    let wire = Wire::start().await;
    let known = ids(&wire.soql("SELECT Id FROM Account LIMIT 3").await.json()["records"]);
    wire.save(json!([{"op": "delete", "object": "Account", "id": known[1]}])).await;
    let asked =
        json!({"ids": [known[0], known[1], "001000000000000AAA", known[2]], "fields": ["Id", "Name"]});
    let found = wire.post("composite/sobjects/Account", asked).await.json();
    assert_eq!((&found[0]["Id"], &found[3]["Id"]), (&json!(known[0]), &json!(known[2])));
    assert_eq!((&found[1], &found[2]), (&Json::Null, &Json::Null));
    let get = wire.get(&format!("composite/sobjects/Account?ids={}&fields=Id", known[0])).await.json();
    assert_eq!(get[0]["Id"], known[0]);
    let wrong = json!({"ids": ["001000000000000AAA"], "fields": ["Foo__c"]});
    let (status, code, _) = wire.post("composite/sobjects/Account", wrong).await.refusal();
    assert_eq!((status, code.as_str()), (400, "INVALID_FIELD"), "though no record is there");
    let many: Vec<&str> = vec!["001000000000000AAA"; 2_001];
    assert_eq!(
        wire.post("composite/sobjects/Account", json!({"ids": many, "fields": ["Id"]})).await.status,
        400
    );
}

#[tokio::test]
async fn a_deleted_record_says_that_it_is_deleted() {
    let wire = Wire::start().await;
    let id = ids(&wire.soql("SELECT Id FROM Account LIMIT 1").await.json()["records"]).remove(0);
    assert_eq!(
        wire.get(&format!("sobjects/Account/{}", &id[..15])).await.json()["Id"],
        id,
        "15 characters do"
    );
    wire.save(json!([{"op": "delete", "object": "Account", "id": id}])).await;
    let deleted = wire.get(&format!("sobjects/Account/{id}?fields=Id")).await;
    assert_eq!(deleted.refusal(), refusal(404, "ENTITY_IS_DELETED", "entity is deleted"));
    assert_eq!(deleted.json()[0]["fields"], json!([]));
    assert_eq!(wire.get("sobjects/Account/001000000000000AAA").await.refusal().1, "NOT_FOUND");
    assert_eq!(wire.get("sobjects/Nothing/001000000000000AAA").await.refusal().1, "NOT_FOUND");
}

fn window(kind: &str, start: &str, end: &str) -> String {
    format!("sobjects/Invoice__c/{kind}/?start=2026-05-{start}%2B00:00&end=2026-05-{end}%2B00:00")
}

#[tokio::test]
async fn updated_and_deleted_cut_seconds_off_and_cover_no_open_transaction() {
    let wire = Wire::with_rows(&[("Invoice__c", 0)]).await;
    let insert = json!({"op": "insert", "object": "Invoice__c", "fields": {}});
    let kept = wire.save(json!([insert, insert])).await;
    wire.save(json!([{"op": "delete", "object": "Invoice__c", "id": kept[1]}])).await;
    wire.pass_seconds(300).await;
    let late = json!({"changes": [insert], "visible_after_ms": 600_000});
    wire.control("transactions", late).await;
    wire.pass_seconds(300).await;

    let updated = wire.get(&window("updated", "19T08:29:59", "19T08:40:59")).await.json();
    assert_eq!(strings(&updated["ids"]), [kept[0].clone()]);
    assert_eq!(updated["latestDateCovered"], "2026-05-19T08:35:00.000+0000", "the open transaction's minute");
    let deleted = wire.get(&window("deleted", "19T08:30:00", "19T08:33:00")).await.json();
    assert_eq!(
        deleted["deletedRecords"],
        json!([{"deletedDate": "2026-05-19T08:30:00.000+0000", "id": kept[1]}])
    );
    assert_eq!(deleted["latestDateCovered"], "2026-05-19T08:33:00.000+0000");
    assert!(deleted["earliestDateAvailable"].is_string());
    let empty = wire.get(&window("updated", "19T08:31:00", "19T08:33:00")).await.json();
    assert_eq!(empty, json!({"ids": [], "latestDateCovered": "2026-05-19T08:33:00.000+0000"}));
}

#[tokio::test]
async fn replication_windows_are_refused_when_too_short_or_too_old() {
    let wire = Wire::start().await;
    for (kind, start, end) in [
        ("updated", "19T08:00:00", "19T08:01:59"),
        ("updated", "19T08:10:00", "19T08:00:00"),
        ("deleted", "01T08:00:00", "19T08:00:00"),
    ] {
        let (status, code, _) = wire.get(&window(kind, start, end)).await.refusal();
        assert_eq!((status, code.as_str()), (400, "INVALID_REPLICATION_DATE"), "{kind} {start} {end}");
    }
    assert_eq!(wire.get(&window("updated", "01T08:00:00", "19T08:00:00")).await.status, 200, "30 days back");
    let share = window("updated", "19T08:00:00", "19T08:10:00").replace("Invoice__c", "Invoice__Share");
    assert_eq!(wire.get(&share).await.status, 400, "a share is not replicateable");
    wire.control("settings", json!({"replicationDelaySeconds": 120})).await;
    let behind = wire.get(&window("updated", "19T08:00:00", "19T08:10:00")).await.json();
    assert_eq!(behind["latestDateCovered"], "2026-05-19T08:08:00.000+0000");
}

#[tokio::test]
async fn record_count_leaves_out_what_it_does_not_know() {
    let wire = Wire::with_rows(&[("Account", 800)]).await;
    let live = wire.soql("SELECT COUNT() FROM Account").await.json()["totalSize"].clone();
    let counts = wire.get("limits/recordCount?sObjects=Account,Nothing,Invoice__Share").await.json();
    assert_eq!(counts, json!({"sObjects": [{"count": live, "name": "Account"}]}));
    let all = wire.get("limits/recordCount").await.json();
    assert!(all["sObjects"].as_array().unwrap().len() > 20);
}

fn subrequests(count: usize, url: &str) -> Json {
    let one = |n| json!({"method": "GET", "url": url, "referenceId": format!("r{n}")});
    json!({"compositeRequest": (0..count).map(one).collect::<Vec<_>>()})
}

#[tokio::test]
async fn composite_takes_25_of_which_5_query_and_counts_as_one() {
    let wire = Wire::start().await;
    let describe = "/services/data/v66.0/sobjects/Account/describe";
    let query = format!("/services/data/v66.0/{}", soql_target("query", "SELECT Id FROM Account LIMIT 1"));
    assert_eq!(wire.post("composite", subrequests(26, describe)).await.status, 400);
    assert_eq!(wire.post("composite", subrequests(6, &query)).await.status, 400);
    wire.control("settings", json!({"calls": 0})).await;
    let most = wire.post("composite", subrequests(25, describe)).await;
    assert_eq!(most.header("sforce-limit-info"), Some("api-usage=1/1000000"));
    assert_eq!(most.json()["compositeResponse"].as_array().unwrap().len(), 25);
    let five = wire.post("composite", subrequests(5, &query)).await.json();
    assert_eq!(five["compositeResponse"][4]["referenceId"], "r4");
    assert_eq!(five["compositeResponse"][4]["body"]["records"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_failed_subrequest_has_its_own_status() {
    let wire = Wire::start().await;
    let mut body = subrequests(1, "/services/data/v66.0/sobjects/Account/describe");
    let wrong = json!({"method": "GET", "referenceId": "bad", "url": "/services/data/v66.0/query?q=SELECT+Foo+FROM+Account"});
    body["compositeRequest"].as_array_mut().unwrap().push(wrong);
    let answer = wire.post("composite", body).await;
    assert_eq!(answer.status, 200);
    let entries = answer.json()["compositeResponse"].clone();
    assert_eq!((&entries[0]["httpStatusCode"], &entries[1]["httpStatusCode"]), (&json!(200), &json!(400)));
    assert_eq!(entries[1]["body"][0]["errorCode"], "INVALID_FIELD");
}

#[tokio::test]
async fn every_subrequest_of_a_batch_counts() {
    let wire = Wire::start().await;
    wire.control("settings", json!({"calls": 0})).await;
    let one = json!({"method": "GET", "url": "v66.0/limits"});
    let answer = wire.post("composite/batch", json!({"batchRequests": [one, one, one]})).await;
    assert_eq!(answer.header("sforce-limit-info"), Some("api-usage=3/1000000"));
    assert_eq!(answer.json()["hasErrors"], false);
}

#[tokio::test]
async fn wrong_methods_and_unknown_resources_are_told_apart() {
    let wire = Wire::start().await;
    let wrong = wire.post("limits", json!({})).await;
    assert_eq!((wrong.status, wrong.refusal().1.as_str()), (405, "METHOD_NOT_ALLOWED"));
    let unknown = refusal(404, "NOT_FOUND", "The requested resource does not exist");
    assert_eq!(wire.get("nothing/here").await.refusal(), unknown);
}
