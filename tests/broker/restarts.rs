//! What a restart asks of Salesforce before it serves: by what it knew, as long as that holds.
//!
//! In: runs of one pipeline, changes of the org between them. Out: a failure if an object is described although nothing
//! changed, or is read by a description that is not of now.

use std::time::Duration;

use serde_json::{Value, json};

use crate::services::{Seen, read_committed};
use crate::stage::Stage;

async fn describes(stage: &Stage) -> u64 {
    let url = format!("{}/counters", stage.simulator.control_url());
    let text = reqwest::get(url).await.unwrap().text().await.unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["byKind"]["describe"].as_u64().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_serves_by_the_pinned_description_until_something_changed_in_the_org_or_the_configuration()
{
    let stage = Stage::new("[ Account, Invoice__c ]").await;
    let org = stage.simulator.org().clone();
    // What changed within the last two seconds may change again with the same stamp.
    let pass = || org.clock().advance(Duration::from_secs(60));
    pass();
    stage.completes().await;
    assert_eq!(describes(&stage).await, 2);
    let ids = stage.ids("Account", 3);
    stage.save("Account", &ids[..1], "Name", "saved while nobody ran");
    pass();
    stage.completes().await;
    assert_eq!(describes(&stage).await, 2, "nothing changed in the org");

    // A field comes, and a record is saved with it, while nobody runs.
    stage
        .control("fields", json!({"object": "Account", "field": "New__c", "action": "add", "type": "string"}))
        .await;
    stage.save("Account", &ids[1..2], "New__c", "of the new field");
    pass();
    stage.completes().await;
    assert_eq!(describes(&stage).await, 4, "any object may have changed");
    let value = b"of the new field";
    let records = read_committed(&stage.topic("Account"));
    let carry = |record: &&Seen| {
        record.value.as_ref().is_some_and(|bytes| bytes.windows(value.len()).any(|part| part == value))
    };
    assert_eq!(records.iter().filter(carry).count(), 1, "read by the description of now");
    pass();
    stage.completes().await;
    assert_eq!(describes(&stage).await, 4);

    // What is left out of the configuration makes another description of the same object.
    stage.rewrite(
        "[ Account, Invoice__c ]",
        "[ { name: Account, fields: { exclude: [ Fax ] } }, Invoice__c ]",
    );
    stage.completes().await;
    assert_eq!(describes(&stage).await, 5, "of Account alone");
}
