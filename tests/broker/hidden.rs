//! Fields that are hashed, masked or left out, and only records that fit, on the real broker: over load, polls and events.
//!
//! In: an org with values that must not show, what the program sends and says. Out: the topics as a consumer decodes them
//! who knows nothing but the registry and the key.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as Avro;
use ring::hmac;
use serde_json::{Value, json};
use simulator::org::{Change, Id, Transaction, Value as Cell};

use crate::secrecy::Tap;
use crate::services::{read_committed, registry_url, topics};
use crate::stage::{Setup, Stage};

const KEY: &str = "only-who-knows-this-finds-a-value";
/// In fields that are hidden, and nowhere else.
const RAW: &str = "5550-raw-9f3b-not-to-be-seen";
const PATIENCE: Duration = Duration::from_secs(60);

/// Accounts come by events, contacts by polls.
const OBJECTS: &str = "\
[ { name: Account, capture: subscribe, where: \"Rating = 'Hot'\", \
    fields: { exclude: [TickerSymbol], hash: [Phone, AnnualRevenue], mask: [Fax] } }, \
  { name: Contact, where: \"LeadSource = 'Web' OR LeadSource = null\", \
    fields: { exclude: [AssistantName], hash: [Phone, Birthdate], mask: [Fax] } } ]\n\
hash_key: only-who-knows-this-finds-a-value";

type Record = BTreeMap<String, Avro>;

fn hash(text: &str) -> Avro {
    let key = hmac::Key::new(hmac::HMAC_SHA256, KEY.as_bytes());
    let tag = hmac::sign(&key, text.as_bytes());
    Avro::String(tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn text(record: &Record, name: &str) -> String {
    match &record[name] {
        Avro::String(text) => text.clone(),
        other => panic!("{name}: {other:?}"),
    }
}

/// A topic's records in the order of their numbers.
async fn records(stage: &Stage, object: &str) -> Vec<Record> {
    let topic = stage.topic(object);
    let seen = tokio::task::spawn_blocking(move || read_committed(&topic)).await.unwrap();
    let mut schemas: BTreeMap<u32, Schema> = BTreeMap::new();
    let mut records = Vec::new();
    for value in seen.into_iter().map(|seen| seen.value.unwrap()) {
        let id = u32::from_be_bytes(value[1..5].try_into().unwrap());
        if let Entry::Vacant(place) = schemas.entry(id) {
            let url = format!("{}/schemas/ids/{id}", registry_url().trim_end_matches('/'));
            let answer: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
            place.insert(Schema::parse_str(answer["schema"].as_str().unwrap()).unwrap());
        }
        let reader = GenericDatumReader::builder(&schemas[&id]).build().unwrap();
        let Avro::Record(fields) = reader.read_value(&mut &value[5..]).unwrap() else { panic!("a record") };
        let plain = |value| match value {
            Avro::Union(_, value) => *value,
            value => value,
        };
        records.push(fields.into_iter().map(|(name, value)| (name, plain(value))).collect::<Record>());
    }
    records.sort_by_key(|record| text(record, "header__change_seq"));
    records
}

/// What a reader holds who applied everything.
fn folded(records: &[Record]) -> BTreeMap<String, &Record> {
    let mut rows = BTreeMap::new();
    for record in records {
        match text(record, "header__change_oper").as_str() {
            "D" => drop(rows.remove(&text(record, "Id"))),
            _ => drop(rows.insert(text(record, "Id"), record)),
        }
    }
    rows
}

fn operations(records: &[Record], id: &Id) -> String {
    let of = records.iter().filter(|record| text(record, "Id") == id.as_str());
    of.map(|record| text(record, "header__change_oper")).collect()
}

fn update(object: &str, id: &Id, fields: &[(&str, Cell)]) -> Change {
    let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    Change::Update { object: object.to_owned(), id: *id, fields }
}

fn save(stage: &Stage, changes: Vec<Change>) -> Vec<Id> {
    stage.simulator.org().commit(Transaction { changes, ..Transaction::default() }).unwrap().ids
}

/// Waits until this holds of what a reader sees.
async fn arrives(stage: &Stage, object: &str, holds: impl Fn(&[Record]) -> bool) -> Vec<Record> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let records = records(stage, object).await;
        if holds(&records) {
            return records;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "{object}: it does not arrive: {} records",
            records.len()
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Live records that fit, by the condition of their object.
fn fitting(stage: &Stage, object: &str) -> Vec<String> {
    let rows = stage.simulator.org().truth_rows(object).unwrap();
    let fitting = rows.filter(|row| match object {
        "Account" => row["Rating"] == "Hot",
        _ => row["LeadSource"] == "Web" || row["LeadSource"].is_null(),
    });
    fitting.map(|row| row["Id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn hidden_values_show_nowhere_and_only_what_fits_is_published_by_load_polls_and_events() {
    let setup = Setup { rows: &[("Account", 300), ("Contact", 200)], ..Setup::new(OBJECTS) };
    let stage = Stage::of(setup).await;
    let origin = stage.simulator.origin();
    let tap = Tap::before(origin.trim_start_matches("http://").parse().unwrap()).await;
    stage.rewrite(&format!("'{origin}'"), &format!("'http://{}'", tap.address));
    stage.control("settings", json!({"instanceUrl": format!("http://{}", tap.address)})).await;
    stage.control("pubsub/selection", json!({"select": ["Account"]})).await;
    stage.control("pubsub/settings", json!({"keepaliveSeconds": 1})).await;
    let (accounts, contacts) = (stage.ids("Account", 8), stage.ids("Contact", 8));
    let raw = || Cell::text(RAW);
    let hot = |id: &Id| {
        let fields = [
            ("Rating", Cell::text("Hot")),
            ("Phone", raw()),
            ("AnnualRevenue", Cell::Double(12_000_000_000.0)),
            ("Fax", raw()),
            ("TickerSymbol", Cell::text("5550-raw-9f3b")),
        ];
        update("Account", id, &fields)
    };
    let web = |id: &Id| {
        let fields = [
            ("LeadSource", Cell::text("Web")),
            ("Phone", raw()),
            ("Birthdate", Cell::Date(20_000)),
            ("Fax", raw()),
            ("AssistantName", raw()),
        ];
        update("Contact", id, &fields)
    };
    let all = |ids: &[Id], of: &dyn Fn(&Id) -> Change| ids.iter().map(of).collect::<Vec<_>>();
    save(&stage, [all(&accounts[..4], &hot), all(&contacts[..4], &web)].concat());
    // Loaded like that; what follows comes later than the look-back would reach.
    stage.simulator.org().clock().advance(Duration::from_secs(60 * 60));

    let mut running = stage.start_at(&["run"], "trace");
    running.says("full load complete object=Account").await;
    running.says("full load complete object=Contact").await;
    let name = |name| [("Name", Cell::text(name))];
    let cold = |object: &str, id: &Id| match object {
        "Account" => update(object, id, &[("Rating", Cell::text("Cold")), ("Phone", raw())]),
        _ => update(object, id, &[("LeadSource", Cell::text("Other")), ("Phone", raw())]),
    };
    // One leaves, one stays, one comes, for each; and one is made that never fits.
    let fields = vec![("Rating".to_owned(), Cell::text("Cold")), ("Phone".to_owned(), raw())];
    let changes = vec![
        cold("Account", &accounts[0]),
        update("Account", &accounts[1], &name("still there")),
        hot(&accounts[5]),
        cold("Contact", &contacts[0]),
        update("Contact", &contacts[1], &[("Title", Cell::text("still there"))]),
        web(&contacts[5]),
        Change::Insert { object: "Account".to_owned(), fields, id: None, fill: true },
    ];
    let ids = save(&stage, changes);
    let never = *ids.last().unwrap();
    let done = |left: Id, kept: Id, came: Id| {
        move |records: &[Record]| {
            let of = |id: &Id| operations(records, id);
            of(&left) == "RD" && of(&kept) == "RU" && of(&came).ends_with('U')
        }
    };
    let of_accounts = arrives(&stage, "Account", done(accounts[0], accounts[1], accounts[5])).await;
    let of_contacts = arrives(&stage, "Contact", done(contacts[0], contacts[1], contacts[5])).await;
    let (code, words) = running.stop().await;
    assert_eq!(code, Some(0), "{words}");
    let words_of_next = stage.completes().await;

    for (object, records) in [("Account", &of_accounts), ("Contact", &of_contacts)] {
        let held: Vec<String> = folded(records).into_keys().collect();
        let mut wanted = fitting(&stage, object);
        wanted.sort();
        assert_eq!(held, wanted, "{object}");
        for record in records {
            let excluded = if object == "Account" { "TickerSymbol" } else { "AssistantName" };
            assert!(!record.contains_key(excluded));
            if text(record, "header__change_oper") == "D" && record["header__column_mask"] != Avro::Null {
                let others = record.iter().filter(|(name, _)| !name.starts_with("header__") && *name != "Id");
                assert!(others.into_iter().all(|(_, value)| *value == Avro::Null), "nothing of what left");
            }
        }
    }
    assert_eq!(operations(&of_accounts, &never), "", "it never fitted");
    // By load, by an event, by a poll: one hash.
    let newest = |records: &[Record], id: &Id| folded(records)[id.as_str()].clone();
    for id in [accounts[1], accounts[2], accounts[5]] {
        let record = newest(&of_accounts, &id);
        assert_eq!(
            (&record["Phone"], &record["AnnualRevenue"]),
            (&hash(RAW), &hash("12000000000")),
            "{id:?}"
        );
        assert_eq!(record["Fax"], Avro::String("****".to_owned()));
    }
    for id in [contacts[1], contacts[2], contacts[5]] {
        let record = newest(&of_contacts, &id);
        assert_eq!((&record["Phone"], &record["Birthdate"]), (&hash(RAW), &hash("2024-10-04")), "{id:?}");
        assert_eq!(record["Fax"], Avro::String("****".to_owned()));
    }
    let sources: Vec<String> =
        of_accounts.iter().chain(&of_contacts).map(|record| text(record, "header__source")).collect();
    assert!(["load", "subscribe", "poll"].iter().all(|source| sources.iter().any(|of| of == source)));

    // Nowhere at all.
    for topic in topics(&stage.name) {
        for record in read_committed(&topic) {
            let bytes = [record.key, record.value.unwrap_or_default()].concat();
            assert!(memchr::memmem::find(&bytes, b"5550-raw").is_none(), "a hidden value in {topic}");
        }
    }
    assert!(!words.contains("5550-raw") && !words_of_next.contains("5550-raw"), "a hidden value in the log");
    for asked in ["TickerSymbol", "AssistantName"] {
        assert!(!tap.saw(asked), "{asked} was asked for");
    }
    assert!(tap.saw("AnnualRevenue"), "the test sees what it looks for");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_does_not_fit_stops_its_object_alone_and_check_tells_it() {
    let objects = "[ { name: Account, fields: { mask: [Phon] } }, { name: Contact, where: \"Sauce = 'Web'\" }, \
        Invoice__c, { name: 'Lea?', fields: { mask: [Phon, Phone] } } ]";
    let setup = Setup {
        rows: &[("Account", 20), ("Contact", 20), ("Invoice__c", 20), ("Lead", 20)],
        ..Setup::new(objects)
    };
    let stage = Stage::of(setup).await;
    let (code, report, words) = stage.run(&["check"]).await;
    assert_eq!(code, Some(1), "{report}{words}");
    assert!(
        report.contains("the object has no field Phon") && report.contains("did you mean Phone?"),
        "{report}"
    );
    assert!(report.contains("Salesforce refuses its `where`") && report.contains("Sauce"), "{report}");
    let words = stage.fails(1).await;
    let code = |object: &str| {
        words.lines().any(|line| {
            line.contains("object given up")
                && line.contains(&format!("object={object}"))
                && line.contains("object-misconfigured")
        })
    };
    assert!(code("Account") && code("Contact") && !code("Lead"), "{words}");
    stage.holds_each_row_once("Invoice__c").await;
    for object in ["Account", "Contact"] {
        assert_eq!(records(&stage, object).await.len(), 0, "nothing of {object} goes out");
    }
    let masked = records(&stage, "Lead").await;
    assert_eq!(masked.len() as u64, stage.rows("Lead"), "a glob's lists go as far as there are fields");
    assert!(masked.iter().any(|record| record["Phone"] == Avro::String("****".to_owned())));
}
