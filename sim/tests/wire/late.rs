//! Commit lag: records whose stamp is older than what was already read (rest.md 3.7), at both doors.

use serde_json::json;

use crate::{Wire, ids};

#[tokio::test]
async fn a_lagging_transaction_shows_later_with_its_old_stamp() {
    let wire = Wire::with_rows(&[("Invoice__c", 0)]).await;
    let insert = json!({"op": "insert", "object": "Invoice__c", "fields": {}});
    let lagging = json!({"changes": [insert], "visible_after_ms": 120_000});
    let receipt = wire.control("transactions", lagging).await;
    wire.pass_seconds(60).await;
    let prompt = wire.save(json!([insert])).await;
    let soql = "SELECT Id, SystemModstamp FROM Invoice__c ORDER BY SystemModstamp, Id";
    let early = wire.soql(soql).await.json();
    assert_eq!(ids(&early["records"]), prompt, "only the younger one is seen");
    let job = wire.post("jobs/query", json!({"operation": "query", "query": soql})).await.json();

    wire.pass_seconds(61).await;
    let late = wire.soql(soql).await.json();
    let late_id = receipt[0]["ids"][0].as_str().unwrap().to_owned();
    assert_eq!(ids(&late["records"]), [late_id.clone(), prompt[0].clone()]);
    assert_eq!(late["records"][0]["SystemModstamp"], "2026-05-19T08:30:00.000+0000");
    assert_eq!(late["records"][1]["SystemModstamp"], "2026-05-19T08:31:00.000+0000");
    // The job asked before.
    let results = wire.get(&format!("jobs/query/{}/results", job["id"].as_str().unwrap())).await.text();
    assert!(results.contains(&prompt[0]) && !results.contains(&late_id));
}
