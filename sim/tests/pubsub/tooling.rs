//! The REST side of change events: Tooling queries and records, schemas, describes.

use serde_json::json;

use crate::{Bus, wire};

impl Bus {
    async fn tooling(&self, soql: &str) -> serde_json::Value {
        let encoded: String = url::form_urlencoded::byte_serialize(soql.as_bytes()).collect();
        self.rest(&format!("tooling/query/?q={encoded}")).await
    }

    async fn tooling_call(&self, method: &str, path: &str, body: serde_json::Value) -> serde_json::Value {
        let target = format!("/services/data/v66.0/tooling/sobjects/{path}");
        let body = if body.is_null() { String::new() } else { body.to_string() };
        wire::send(&self.simulator.origin(), method, &target, Some(&self.token), &body).await
    }
}

#[tokio::test]
async fn members_are_listed_in_the_recorded_shape() {
    let bus = Bus::start().await;
    bus.control("pubsub/channels", json!({"name": "Sales__chn", "members": [{"object": "Invoice__c", "enrichedFields": ["Name", "Amount__c"]}]}))
        .await;
    let fields = "Id, DeveloperName, EventChannel, SelectedEntity, FilterExpression";
    let all = bus.tooling(&format!("SELECT {fields} FROM PlatformEventChannelMember")).await;
    assert_eq!(all["entityTypeName"], "PlatformEventChannelMember");
    assert_eq!(
        (&all["size"], &all["totalSize"], &all["done"], &all["queryLocator"]),
        (&json!(7), &json!(7), &json!(true), &json!(null))
    );
    let rows = all["records"].as_array().unwrap();
    let account = rows.iter().find(|row| row["SelectedEntity"] == "AccountChangeEvent").unwrap();
    assert_eq!(
        (&account["EventChannel"], &account["DeveloperName"]),
        (&json!("ChangeEvents"), &json!("ChangeEvents_AccountChangeEvent"))
    );
    let id = account["Id"].as_str().unwrap();
    assert!(id.starts_with("0v8") && id.len() == 18);
    assert_eq!(
        account["attributes"]["url"],
        format!("/services/data/v66.0/tooling/sobjects/PlatformEventChannelMember/{id}")
    );
    let custom = rows.iter().find(|row| row["DeveloperName"] == "Sales_chn_Invoice_ChangeEvent").unwrap();
    assert!(custom["EventChannel"].as_str().unwrap().starts_with("0YL"));
    let standard = bus
        .tooling("SELECT SelectedEntity FROM PlatformEventChannelMember WHERE EventChannel = 'ChangeEvents'")
        .await;
    assert_eq!(standard["size"], 6);
    let count = bus.tooling("SELECT COUNT_DISTINCT(SelectedEntity) FROM PlatformEventChannelMember").await;
    assert_eq!(count["records"][0]["expr0"], 6, "one object is in two channels");
    let channels =
        bus.tooling("SELECT Id, DeveloperName, ChannelType, MasterLabel FROM PlatformEventChannel").await;
    assert_eq!(
        (&channels["records"][0]["Id"], &channels["records"][0]["ChannelType"]),
        (&custom["EventChannel"], &json!("data"))
    );
    let enriched = bus.tooling("SELECT ChannelMemberId, Field FROM EnrichedField").await;
    assert_eq!(
        (&enriched["records"][0]["ChannelMemberId"], &enriched["records"][0]["Field"]),
        (&custom["Id"], &json!("Name"))
    );
    assert!(enriched["records"][1]["Field"].as_str().unwrap().starts_with("00N"));
    assert_eq!(bus.tooling("SELECT Id FROM ApexClass").await["size"], 0);
}

#[tokio::test]
async fn an_object_is_selected_and_deselected_by_records() {
    let bus = Bus::with(|config| config.selected.clear()).await;
    let member = |channel: &str| json!({"FullName": "x", "Metadata": {"eventChannel": channel, "selectedEntity": "AccountChangeEvent"}});
    let made = bus.tooling_call("POST", "PlatformEventChannelMember", member("ChangeEvents")).await;
    assert_eq!((&made["success"], &made["errors"], &made["infos"]), (&json!(true), &json!([]), &json!([])));
    let mut stream = bus.subscribe("/data/AccountChangeEvent", 10).await;
    bus.publish(1).await;
    assert_eq!(stream.events(1).await.len(), 1);
    let id = made["id"].as_str().unwrap();
    bus.tooling_call("DELETE", &format!("PlatformEventChannelMember/{id}"), json!(null)).await;
    assert_eq!(bus.tooling("SELECT Id FROM PlatformEventChannelMember").await["size"], 0);
    assert!(bus.client().await.topic("/data/AccountChangeEvent").await.is_err());
    let channel = json!({"FullName": "Mine__chn", "Metadata": {"channelType": "data", "label": "Mine"}});
    assert_eq!(bus.tooling_call("POST", "PlatformEventChannel", channel).await["success"], true);
    assert_eq!(
        bus.tooling_call("POST", "PlatformEventChannelMember", member("Mine__chn")).await["success"],
        true
    );
    assert!(bus.client().await.topic("/data/Mine__chn").await.is_ok());
    let wrong = bus.tooling_call("POST", "PlatformEventChannelMember", member("Other__chn")).await;
    assert!(wrong[0]["errorCode"].is_string(), "{wrong}");
    let managed = json!({"FullName": "orders", "Metadata": {"topicName": "/data/Mine__chn", "defaultReplay": "LATEST",
        "errorRecoveryReplay": "LATEST", "state": "RUN", "label": "orders", "version": "66.0"}});
    let id = bus.tooling_call("POST", "ManagedEventSubscription", managed).await["id"].clone();
    let found = bus
        .tooling(
            "SELECT Id, DeveloperName, Metadata FROM ManagedEventSubscription WHERE DeveloperName='orders'",
        )
        .await;
    assert_eq!((&found["records"][0]["Id"], &found["records"][0]["Metadata"]["state"]), (&id, &json!("RUN")));
}

#[tokio::test]
async fn schemas_can_be_read_over_rest() {
    let bus = Bus::start().await;
    let id = bus.client().await.topic("/data/Invoice__ChangeEvent").await.unwrap().schema_id;
    let by_id = bus.rest(&format!("event/eventSchema/{id}?payloadFormat=COMPACT")).await;
    let by_name = bus.rest("sobjects/Invoice__ChangeEvent/eventSchema?payloadFormat=COMPACT").await;
    assert_eq!(by_id, by_name);
    assert_eq!((&by_id["uuid"], &by_id["name"]), (&json!(id), &json!("Invoice__ChangeEvent")));
    let platform = bus.rest("sobjects/Order_Event__e/eventSchema?payloadFormat=COMPACT").await;
    assert_eq!(platform["fields"][0]["doc"], "CreatedDate:DateTime");
    assert_eq!(bus.rest("event/eventSchema/nonsense").await[0]["errorCode"], "NOT_FOUND");
}

#[tokio::test]
async fn describe_global_names_the_event_of_every_object_that_can_be_selected() {
    let bus = Bus::start().await;
    let global = bus.rest("sobjects").await;
    let named = |name: &str| {
        let found = global["sobjects"].as_array().unwrap().iter().filter(|object| object["name"] == name);
        found.cloned().collect::<Vec<_>>()
    };
    for (event, parent) in [
        ("AccountChangeEvent", "Account"),
        ("Invoice__ChangeEvent", "Invoice__c"),
        ("LeadChangeEvent", "Lead"),
    ] {
        let found = named(event);
        assert_eq!(found.len(), 1, "{event}");
        assert_eq!(
            (&found[0]["associateEntityType"], &found[0]["associateParentEntity"]),
            (&json!("ChangeEvent"), &json!(parent))
        );
        assert_eq!(found[0]["queryable"], false);
        let describe = bus.rest(&format!("sobjects/{event}/describe")).await;
        assert_eq!(describe["fields"][1]["name"], "ReplayId");
    }
    assert!(named("LoginHistoryChangeEvent").is_empty());
}
