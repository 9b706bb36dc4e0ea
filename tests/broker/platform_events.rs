//! Platform events on a real broker and registry: what a consumer reads, each once and in order, whatever happened.
//!
//! In: events that the simulator publishes. Out: the topic's records, decoded by the schemas that the registry gives for
//! the ids in them; notifications, dead letters and the words of the program.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as Avro;
use serde_json::{Value, json};
use sf2kafka::domain::Position;
use sf2kafka::publish::read_control;
use simulator::catalog::{FieldDef, FieldType};

use crate::json_schema::{misfits, of_key};
use crate::services::{read_committed, registry_url, settings, topics};
use crate::stage::{Setup, Stage};

const EVENT: &str = "Order_Event__e";

/// A pipeline with this event and, if there are any, objects.
async fn stage(objects: bool) -> Stage {
    let setup = Setup {
        // Whoever comes back under the same name need not wait until the group gives up the one that was killed.
        kafka: "}, properties: { group.instance.id: events",
        ..Setup::new("[ Account ]\nplatform_events: [ Order_Event__e ]")
    };
    let stage = Stage::of(setup).await;
    if !objects {
        stage.rewrite("objects: [ Account ]\n", "");
    }
    stage.control("pubsub/settings", json!({"keepaliveSeconds": 1})).await;
    stage
}

async fn publish(stage: &Stage, number: usize, fields: Value) {
    let order = json!({"topic": format!("/event/{EVENT}"), "fields": fields, "eventId": id(number)});
    stage.control("pubsub/events", order).await;
}

async fn publish_numbers(stage: &Stage, numbers: std::ops::RangeInclusive<usize>) {
    for number in numbers {
        publish(stage, number, json!({"Order_Number__c": number.to_string()})).await;
    }
}

fn id(number: usize) -> String {
    format!("11111111-2222-4333-8444-{number:012}")
}

struct Record {
    partition: i32,
    id: String,
    schema: u32,
    fields: Vec<(String, Avro)>,
}

impl Record {
    fn field(&self, name: &str) -> &Avro {
        &self.fields.iter().find(|(known, _)| known == name).unwrap_or_else(|| panic!("{name}")).1
    }

    fn number(&self) -> usize {
        let Avro::Union(1, text) = self.field("Order_Number__c") else { panic!("{:?}", self.fields) };
        let Avro::String(text) = &**text else { panic!("{text:?}") };
        text.parse().unwrap()
    }

    fn replay_id(&self) -> &str {
        let Avro::String(text) = self.field("replay_id") else { panic!("{:?}", self.fields) };
        text
    }
}

async fn registry(path: &str) -> Value {
    let url = format!("{}/{path}", registry_url().trim_end_matches('/'));
    reqwest::get(url).await.unwrap().json().await.unwrap()
}

/// What a consumer that knows nothing but the registry reads.
async fn records(stage: &Stage) -> Vec<Record> {
    let topic = stage.topic("Order_Event__e");
    let seen = tokio::task::spawn_blocking(move || read_committed(&topic)).await.unwrap();
    let mut schemas: BTreeMap<u32, Schema> = BTreeMap::new();
    let mut records = Vec::new();
    for seen in seen {
        let value = seen.value.unwrap();
        let (key, value) = (framed(&seen.key), framed(&value));
        for (id, _) in [key, value] {
            if let Entry::Vacant(place) = schemas.entry(id) {
                let text = registry(&format!("schemas/ids/{id}")).await;
                place.insert(Schema::parse_str(text["schema"].as_str().unwrap()).unwrap());
            }
        }
        let decoded = |(id, mut bytes): (u32, &[u8])| {
            let reader = GenericDatumReader::builder(&schemas[&id]).build().unwrap();
            let Avro::Record(fields) = reader.read_value(&mut bytes).unwrap() else { panic!("a record") };
            assert!(bytes.is_empty());
            fields
        };
        let Avro::String(id) = decoded(key).remove(0).1 else { panic!("a key is a text") };
        records.push(Record { partition: seen.partition, id, schema: value.0, fields: decoded(value) });
    }
    records
}

fn framed(bytes: &[u8]) -> (u32, &[u8]) {
    assert_eq!(bytes[0], 0);
    (u32::from_be_bytes(bytes[1..5].try_into().unwrap()), &bytes[5..])
}

/// Events 1 to `last`, each once, in the order of the stream within each partition.
fn assert_each_once_in_order(records: &[Record], last: usize) {
    let mut numbers: Vec<usize> = records.iter().map(Record::number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=last).collect::<Vec<_>>());
    let partitions: BTreeSet<i32> = records.iter().map(|record| record.partition).collect();
    for partition in partitions {
        let of: Vec<&Record> = records.iter().filter(|record| record.partition == partition).collect();
        assert!(of.is_sorted_by(|one, other| one.number() < other.number()), "partition {partition}");
        assert!(of.is_sorted_by(|one, other| one.replay_id() < other.replay_id()));
    }
    for record in records {
        assert_eq!(record.id, id(record.number()));
    }
}

async fn notices(stage: &Stage) -> Vec<Value> {
    let topic = format!("{}.notifications", stage.name);
    let seen = tokio::task::spawn_blocking(move || read_committed(&topic)).await.unwrap();
    seen.iter().map(|seen| serde_json::from_slice(seen.value.as_ref().unwrap()).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_with_all_their_fields_under_their_own_schema_without_any_object() {
    let stage = stage(false).await;
    let now = stage.simulator.org().now_ms();
    publish(&stage, 1, json!({"Order_Number__c": "1", "Total__c": 9.5, "Shipped__c": true})).await;
    publish(&stage, 2, json!({"Order_Number__c": "2"})).await;
    let (code, report, words) = stage.run(&["check"]).await;
    assert_eq!(code, Some(0), "{report}{words}");
    let tick =
        format!("✓ platform event {EVENT}: can be subscribed to, goes to {}", stage.topic("Order_Event__e"));
    assert!(report.contains(&tick), "{report}");
    stage.completes().await;

    let mut records = records(&stage).await;
    assert_each_once_in_order(&records, 2);
    records.sort_by_key(Record::number);
    let names: Vec<&str> = records[0].fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "replay_id",
            "created_at",
            "CreatedDate",
            "CreatedById",
            "Order_Number__c",
            "Total__c",
            "Shipped__c"
        ]
    );
    let some = |value| Avro::Union(1, Box::new(value));
    assert_eq!(records[0].field("Total__c"), &some(Avro::Double(9.5)));
    assert_eq!(records[0].field("Shipped__c"), &some(Avro::Boolean(true)));
    assert_eq!(records[1].field("Total__c"), &Avro::Union(0, Box::new(Avro::Null)));
    let Avro::TimestampMillis(created) = records[0].field("created_at") else { panic!("a moment") };
    assert!((now..now + 60_000).contains(created));
    assert_eq!(records[0].field("CreatedDate"), &Avro::Long(*created));

    let mut expected =
        ["Order_Event__e", "control", "dead-letters", "notifications"].map(|name| stage.topic(name));
    expected.sort();
    let mut there = topics(&stage.name);
    there.sort();
    assert_eq!(there, expected);
    // Its place is a position like any other.
    let control = read_control(&settings(&stage.name, 2)).await.unwrap();
    let key = Position::key(EVENT);
    let stored = control.iter().find(|record| record.key == key).unwrap();
    assert_eq!(stored.partition, sf2kafka::publish::shard_of(EVENT, 2));
    assert_eq!(misfits(&of_key(&key), &serde_json::from_slice(&stored.value).unwrap()), [""; 0]);
    let position = Position::decode(&stored.value).unwrap();
    assert!(position.replay_id.is_some() && position.committed_to.is_some(), "{position:?}");
    let (code, list, words) = stage.run(&["offsets", "list"]).await;
    assert!(code == Some(0) && list.contains(&format!("{EVENT}  live")), "{list}{words}");
    // The next run goes on behind it.
    publish_numbers(&stage, 3..=3).await;
    stage.completes().await;
    assert_each_once_in_order(&self::records(&stage).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_in_the_middle_lose_no_event_and_repeat_none() {
    let stage = stage(true).await;
    // Many small messages, so that positions and kills fall between them.
    stage.control("pubsub/settings", json!({"eventsPerResponse": 7})).await;
    let (mut last, mut cut) = (0, 0);
    for kill in 1..=6 {
        publish_numbers(&stage, last + 1..=last + 100).await;
        let mut running = stage.start(&["run"]);
        running.says("schema registered").await;
        // From here on it publishes; the moment of the kill is the test.
        publish_numbers(&stage, last + 101..=last + 100 + kill * 30).await;
        last += 100 + kill * 30;
        drop(running);
        let committed = records(&stage).await;
        assert_each_once_in_order(&committed, committed.len());
        cut += usize::from(committed.len() < last);
    }
    assert!(cut > 0, "every kill came when all was published");
    stage.completes().await;
    assert_each_once_in_order(&records(&stage).await, last);
    assert_eq!(notices(&stage).await, [json!(null); 0]);
    stage.holds_each_row_once("Account").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_stands_on_the_board_like_an_object() {
    let stage = stage(false).await;
    publish_numbers(&stage, 1..=3).await;
    let order = json!({"duplicate": "last"});
    stage.control("pubsub/events", order).await;
    let mut running = stage.start(&["run"]);
    running.says("status server listens address=").await;
    running.says("schema registered").await;
    let said = running.said();
    let address = said.split("address=").nth(1).unwrap().split_whitespace().next().unwrap();
    let get = async |path: &str| {
        reqwest::get(format!("http://{address}/{path}")).await.unwrap().text().await.unwrap()
    };
    let board = loop {
        let board: Value = serde_json::from_str(&get("api/status").await).unwrap();
        if board["objects"][0]["published"]["I"] == 3 {
            break board["objects"][0].clone();
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((&board["object"], &board["phase"]), (&json!(EVENT), &json!("live")));
    assert_eq!((&board["capture"], &board["error"]), (&json!("subscribe"), &Value::Null));
    assert!(board["lag_seconds"].is_number() && board["last_contact"].is_string(), "{board}");
    let metrics = get("metrics").await;
    let topic = stage.topic("Order_Event__e");
    for line in [
        format!(r#"sf2kafka_records_published_total{{object="{EVENT}",output="{topic}",operation="I"}} 3"#),
        format!(r#"sf2kafka_repeated_events_total{{object="{EVENT}"}} 1"#),
        format!(r#"sf2kafka_object_state{{object="{EVENT}",state="live"}} 1"#),
    ] {
        assert!(metrics.contains(&line), "{line}\n{metrics}");
    }
    assert_eq!(running.stop().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_position_is_told_and_repeats_nothing_that_was_published_before() {
    let stage = stage(false).await;
    publish_numbers(&stage, 1..=20).await;
    let mut running = stage.start(&["run"]);
    running.says("schema registered").await;
    let action =
        json!({"status": {"code": "INVALID_ARGUMENT", "errorCode": "subscription.fetch.replayid.corrupted"}});
    stage.control("pubsub/faults", json!({"onCall": true, "times": 1, "action": action})).await;
    stage.control("pubsub/faults", json!({"times": 1, "action": "close"})).await;
    running.says("the position is refused: reading from the oldest event that is kept").await;
    let words = running.said();
    let line = words.lines().find(|line| line.contains("the position is refused")).unwrap();
    assert!(line.contains("WARN") && line.contains("replay-id-expired"), "{line}");
    publish_numbers(&stage, 21..=40).await;
    // Everything is committed at a clean stop; that all has arrived shows in the next run.
    assert_eq!(running.stop().await.0, Some(0));
    stage.completes().await;
    assert_each_once_in_order(&records(&stage).await, 40);
    let told = notices(&stage).await;
    let [notice] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((&notice["notice"], &notice["object"]), (&json!("events-missed"), &json!(EVENT)));
    assert_eq!(notice["reason"], "replay-id");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_changes_in_mid_stream_is_the_next_version_of_the_subject() {
    let stage = stage(false).await;
    let mut running = stage.start(&["run"]);
    publish_numbers(&stage, 1..=5).await;
    running.says("schema registered").await;
    stage.simulator.org().add_field(EVENT, FieldDef::new("Weight__c", FieldType::Double)).unwrap();
    publish(&stage, 6, json!({"Order_Number__c": "6", "Weight__c": 1.5})).await;
    assert_eq!(running.stop().await.0, Some(0));
    stage.completes().await;

    let records = records(&stage).await;
    assert_each_once_in_order(&records, 6);
    let with_weight = |record: &&Record| record.fields.iter().any(|(name, _)| name == "Weight__c");
    let of_the_second: Vec<usize> = records.iter().filter(with_weight).map(Record::number).collect();
    assert_eq!(of_the_second, [6]);
    assert_eq!(records.iter().map(|record| record.schema).collect::<BTreeSet<_>>().len(), 2);
    let subject = format!("{}-value", stage.topic("Order_Event__e"));
    assert_eq!(registry(&format!("subjects/{subject}/versions")).await, json!([1, 2]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_read_goes_to_the_dead_letters_and_all_else_goes_on() {
    let stage = stage(false).await;
    publish_numbers(&stage, 1..=1).await;
    let order = json!({"topic": format!("/event/{EVENT}"), "payload": "AQID", "eventId": "broken"});
    stage.control("pubsub/events", order).await;
    publish_numbers(&stage, 2..=2).await;
    stage.completes().await;
    assert_each_once_in_order(&records(&stage).await, 2);
    let letters = read_committed(&format!("{}.dead-letters", stage.name));
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    assert_eq!(letter.key, b"broken");
    let letter: Value = serde_json::from_slice(letter.value.as_ref().unwrap()).unwrap();
    assert_eq!((&letter["object"], &letter["payload"]), (&json!(EVENT), &json!("AQID")));
    assert_eq!(letter["error"], "event-unreadable");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_the_registry_refuses_stops_that_event_alone_and_its_events_wait() {
    let stage = stage(true).await;
    let subject = format!("{}-value", stage.topic("Order_Event__e"));
    let other = r#"{"type":"record","name":"Other","fields":[{"name":"a","type":"int"}]}"#;
    let url = format!("{}/subjects/{subject}", registry_url().trim_end_matches('/'));
    let client = reqwest::Client::new();
    let body = json!({"schema": other}).to_string();
    let kind = ("content-type", "application/vnd.schemaregistry.v1+json");
    let answer =
        client.post(format!("{url}/versions")).header(kind.0, kind.1).body(body).send().await.unwrap();
    assert!(answer.status().is_success());
    let level = format!("{}/config/{subject}", registry_url().trim_end_matches('/'));
    let body = json!({"compatibility": "BACKWARD"}).to_string();
    let answer = client.put(&level).header(kind.0, kind.1).body(body).send().await.unwrap();
    assert!(answer.status().is_success());
    publish_numbers(&stage, 1..=3).await;

    let words = stage.fails(1).await;
    let line = words.lines().find(|line| line.contains("object given up, all others go on")).unwrap();
    for part in ["ERROR", &format!("object={EVENT}"), "registry-refused", "not compatible"] {
        assert!(line.contains(part), "{part}: {line}");
    }
    stage.holds_each_row_once("Account").await;
    assert_eq!(records(&stage).await.len(), 0);

    let body = json!({"compatibility": "NONE"}).to_string();
    assert!(client.put(&level).header(kind.0, kind.1).body(body).send().await.unwrap().status().is_success());
    stage.completes().await;
    assert_each_once_in_order(&records(&stage).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_not_there_is_a_cross_and_stops_alone() {
    let stage = stage(true).await;
    stage.rewrite("[ Order_Event__e ]", "[ Nothing__e ]");
    let (code, report, _) = stage.run(&["check"]).await;
    assert_eq!(code, Some(1));
    assert!(report.contains("✗ platform event Nothing__e: ") && report.contains(".yaml:8:20: "), "{report}");
    assert!(report.contains("hint: check the name of the platform event"), "{report}");
    let words = stage.fails(1).await;
    assert!(words.contains("code=\"subscription-refused\""), "{words}");
    stage.holds_each_row_once("Account").await;
}
