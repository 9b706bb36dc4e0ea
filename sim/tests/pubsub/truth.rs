//! The events of a busy org, applied one by one, give the org's records: field by field, from a full load on.

use std::collections::BTreeMap;

use apache_avro::types::Value as Avro;
use serde_json::{Map, Value as Json, json};
use sf2kafka_sim::org::{Mix, Traffic, TrafficConfig};

use crate::Bus;
use crate::client::{Event, Stream, earliest, unwrapped};

const OBJECTS: [&str; 4] = ["Account", "Contact", "Lead", "Invoice__c"];

type Records = BTreeMap<String, Map<String, Json>>;

fn truth(bus: &Bus, object: &str) -> Records {
    let rows = bus.simulator.org().truth_rows(object).unwrap();
    rows.map(|row| (row["Id"].as_str().unwrap().to_owned(), row)).collect()
}

/// A field's value as REST would show it, by the name of the field in REST.
fn flat(object: &str, name: &str, part: Option<&str>) -> String {
    match (object, name, part) {
        (_, name, None) => name.to_owned(),
        (_, "Name", Some(part)) => part.to_owned(),
        (_, "Address", Some(part)) => part.to_owned(),
        (_, name, Some(part)) => format!("{}{part}", name.strip_suffix("Address").unwrap()),
    }
}

fn rest(kind: &str, value: &Avro) -> Json {
    match (kind, value) {
        (_, Avro::Null) => Json::Null,
        ("date", Avro::Long(ms)) => {
            json!(jiff::Timestamp::from_millisecond(*ms).unwrap().strftime("%Y-%m-%d").to_string())
        }
        ("datetime", Avro::Long(ms)) => {
            let text = jiff::Timestamp::from_millisecond(*ms).unwrap().strftime("%Y-%m-%dT%H:%M:%S.%3f+0000");
            json!(text.to_string())
        }
        (_, Avro::String(text)) => json!(text),
        (_, Avro::Double(number)) => json!(number),
        (_, Avro::Long(number)) => json!(number),
        (_, Avro::Int(number)) => json!(number),
        (_, Avro::Boolean(flag)) => json!(flag),
        (kind, other) => panic!("{kind}: {other:?}"),
    }
}

struct Fold {
    records: BTreeMap<String, Records>,
    kinds: BTreeMap<String, BTreeMap<String, String>>,
}

impl Fold {
    fn apply(&mut self, event: &Event) {
        let object = event.text("entityName");
        // Children of other objects that went along.
        let Some(kinds) = self.kinds.get(&object) else { return };
        let records = self.records.get_mut(&object).unwrap();
        let kind_of = |name: &str| kinds.get(name).map_or("string", String::as_str);
        let all = |row: &mut Map<String, Json>| {
            for (name, value) in &event.fields {
                match value {
                    Avro::Record(parts) => {
                        for (part, value) in parts {
                            let name = flat(&object, name, Some(part));
                            row.insert(name.clone(), rest(kind_of(&name), &unwrapped(value.clone())));
                        }
                    }
                    value => {
                        row.insert(name.clone(), rest(kind_of(name), value));
                    }
                }
            }
        };
        for id in event.ids() {
            match event.kind().as_str() {
                "CREATE" | "UNDELETE" => {
                    let mut row = Map::from_iter([("Id".to_owned(), json!(id))]);
                    all(&mut row);
                    assert!(records.insert(id.clone(), row).is_none(), "{id} was there already");
                }
                "DELETE" => assert!(records.remove(&id).is_some(), "{id} was not there"),
                "UPDATE" => {
                    let row = records.get_mut(&id).unwrap_or_else(|| panic!("{id} was not there"));
                    for changed in event.named("changedFields") {
                        let (name, value) = match changed.split_once('.') {
                            Some((name, part)) => (flat(&object, name, Some(part)), event.part(name, part)),
                            None => (changed.clone(), event.field(&changed).clone()),
                        };
                        let nulled = event.named("nulledFields").contains(&changed);
                        assert_eq!(value == Avro::Null, nulled, "{changed} of {id}");
                        row.insert(name.clone(), rest(kind_of(&name), &value));
                    }
                }
                other => panic!("{other}"),
            }
        }
    }
}

async fn all_events(stream: &mut Stream, count: u64) -> Vec<Event> {
    let mut events = Vec::new();
    while (events.len() as u64) < count {
        for event in stream.response().await.events {
            events.push(stream.decode(&event).await);
        }
        stream.ask(crate::client::more(100)).await;
    }
    events
}

#[tokio::test]
async fn events_applied_to_a_load_give_the_truth() {
    for seed in 1..4 {
        let bus = Bus::start().await;
        // Texts come whole, so that they can be compared without patching.
        bus.control("pubsub/settings", json!({"diffFrom": 0})).await;
        let org = bus.simulator.org();
        let mut kinds = BTreeMap::new();
        for object in OBJECTS {
            let definition = org.object(object).unwrap();
            let fields = definition.visible_fields();
            let fields = fields.map(|(_, field)| (field.name.clone(), field.field_type.name().to_owned()));
            kinds.insert(object.to_owned(), fields.collect());
        }
        let records = OBJECTS.map(|object| (object.to_owned(), truth(&bus, object))).into();
        let mut fold = Fold { records, kinds };
        let config = TrafficConfig {
            seed,
            objects: OBJECTS.map(str::to_owned).to_vec(),
            // A record that is gone for good makes no event: nobody can follow it.
            mix: Mix { hard_delete: 0, ..Mix::default() },
            lagging_one_in: 4,
            ..TrafficConfig::default()
        };
        let mut traffic = Traffic::new(org, config).unwrap();
        for _ in 0..20 {
            traffic.run(30);
            org.clock().advance(std::time::Duration::from_secs(7));
        }
        org.clock().advance(std::time::Duration::from_secs(3_600));
        org.settle();
        let published = bus.control_get("pubsub").await["published"].as_u64().unwrap();
        let mut stream = bus.client().await.subscribe().await.unwrap();
        stream.ask(earliest("/data/ChangeEvents", 100)).await;
        let events = all_events(&mut stream, published).await;
        assert!(events.len() > 300, "{}", events.len());
        in_order(&events);
        events.iter().for_each(|event| fold.apply(event));
        compare(&bus, &fold, &events, seed);
    }
}

/// Transactions are whole, numbered through, and their times never fall.
fn in_order(events: &[Event]) {
    let mut seen: Vec<String> = Vec::new();
    for pair in events.windows(2) {
        let [first, second] = pair else { continue };
        assert!(first.replay_id < second.replay_id);
        assert!(first.number("commitTimestamp") <= second.number("commitTimestamp"));
        let (key, next) = (first.text("transactionKey"), second.text("transactionKey"));
        if key == next {
            assert!(first.number("sequenceNumber") < second.number("sequenceNumber"));
        } else {
            assert!(!seen.contains(&next), "a transaction comes in one piece");
            seen.push(key);
        }
    }
}

fn compare(bus: &Bus, fold: &Fold, events: &[Event], seed: u64) {
    for object in OBJECTS {
        let (truth, folded) = (truth(bus, object), &fold.records[object]);
        assert_eq!(
            truth.keys().collect::<Vec<_>>(),
            folded.keys().collect::<Vec<_>>(),
            "{object}, seed {seed}"
        );
        let definition = bus.simulator.org().object(object).unwrap();
        let example = events.iter().find(|event| event.text("entityName") == object).unwrap();
        let touched: Vec<String> =
            events.iter().filter(|event| event.text("entityName") == object).flat_map(Event::ids).collect();
        for (id, row) in &truth {
            for (name, value) in row {
                let (_, field) = definition.field(name).unwrap();
                let computed =
                    field.is_calculated() || ["address", "location"].contains(&field.field_type.name());
                // A person's Name is computed from its parts.
                let person = name == "Name" && example.field("Name").eq(&Avro::Null) && object != "Account";
                let person = person || (name == "Name" && ["Contact", "Lead"].contains(&object));
                let in_schema = example.names.contains(name)
                    || field.compound_field_name.is_some()
                    || ["FirstName", "LastName", "Salutation"].contains(&name.as_str());
                if computed || person || !in_schema || !touched.contains(id) {
                    continue;
                }
                let ours = folded[id].get(name).unwrap_or(&Json::Null);
                let equal = ours == value || ours.as_f64().zip(value.as_f64()).is_some_and(|(a, b)| a == b);
                assert!(equal, "{object}.{name} of {id}, seed {seed}: {ours} is not {value}");
            }
        }
    }
}
