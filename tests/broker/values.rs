//! Values on the real broker and registry: exact numbers, compounds and blob references, read by others than us.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sf2kafka::config::{
    Auth, Blobs, Compounds, Decimals, FieldRules, KeyFormat, OutputSettings, RegistrySettings,
    SalesforceSettings, Secret, ValueRules,
};
use sf2kafka::domain::{
    Batch, Change as OurChange, ChangeSequence, Field, FieldKind, ObjectDescription, Operation, RowLayout,
    Rows, Source, Stamp,
};
use sf2kafka::envelope::{Encoder, SchemaIds};
use sf2kafka::salesforce::{Client, Describe, Select};
use sf2kafka::schema::{Registry, SchemaLineage, Subject, avro};
use simulator::org::{Change, Transaction, Value as Cell};
use simulator::{Simulator, SimulatorConfig};
use url::Url;

use crate::services::{registry_url, unique, variable};
use crate::stage::{Setup, Stage};

const PATIENCE: Duration = Duration::from_secs(90);
const ALL: &str = "defaults: { decimals: decimal, compounds: record, blobs: reference,";

#[tokio::test(flavor = "multi_thread")]
async fn exact_numbers_compounds_and_blob_paths_equal_the_org_at_every_door() {
    // By Bulk, by REST, and one object of every type, which Bulk refuses.
    let objects =
        "[ { name: Account, capture: subscribe }, Contact, { name: AllTypes__c, capture: subscribe } ]";
    let rows = &[("Account", 2_500), ("Contact", 200), ("AllTypes__c", 120)];
    let stage = Stage::of(Setup { rows, ..Setup::new(objects) }).await;
    stage.rewrite("defaults: {", ALL);
    // The paths of blobs name the version; the truth has this one.
    stage.rewrite("auth: client-credentials", "api_version: '66.0', auth: client-credentials");
    stage.control("pubsub/selection", json!({"select": ["Account", "AllTypes__c"]})).await;
    stage.control("pubsub/settings", json!({"keepaliveSeconds": 1})).await;
    let mut running = stage.start(&["run"]);
    for object in ["Account", "Contact", "AllTypes__c"] {
        running.says(&format!("full load complete object={object}")).await;
    }
    for object in ["Account", "Contact", "AllTypes__c"] {
        stage.holds_each_row_once(object).await;
    }

    let edits: [(&str, &[(&str, Cell)]); 3] = [
        ("Account", &[("BillingStreet", Cell::text("1 Main\r\nSt")), ("AnnualRevenue", Cell::Double(1e10))]),
        ("Contact", &[("MailingCity", Cell::Null), ("MailingLatitude", Cell::Double(52.520_006))]),
        (
            "AllTypes__c",
            &[
                ("Place__Latitude__s", Cell::Double(-0.5)),
                ("Place__Longitude__s", Cell::Double(13.4)),
                ("Site__City__s", Cell::text("Berlin")),
            ],
        ),
    ];
    for (object, fields) in &edits {
        let fields: Vec<(String, Cell)> =
            fields.iter().map(|(name, cell)| ((*name).to_owned(), cell.clone())).collect();
        let ids = stage.ids(object, 20);
        let change =
            |id: &_| Change::Update { object: (*object).to_owned(), id: *id, fields: fields.clone() };
        let changes = ids.iter().map(change).collect();
        stage.simulator.org().commit(Transaction { changes, ..Transaction::default() }).unwrap();
    }
    let deadline = tokio::time::Instant::now() + PATIENCE;
    for (object, _) in edits {
        let report = loop {
            match stage.judged(object).await {
                Ok(report) => break report,
                Err(why) => assert!(tokio::time::Instant::now() < deadline, "{object}: {why}"),
            }
        };
        let source = if object == "Contact" { "poll" } else { "subscribe" };
        assert_eq!(report["sources"][source], json!(20), "{report}");
    }
    let (code, words) = running.stop().await;
    assert_eq!(code, Some(0), "{words}");
}

/// A value that no field of its type can hold goes aside with its reason, and everything else arrives.
#[tokio::test(flavor = "multi_thread")]
async fn a_number_with_more_decimals_than_its_field_goes_to_the_dead_letters_unrounded() {
    let stage = Stage::of(Setup { rows: &[("Account", 30)], ..Setup::new("[ Account ]") }).await;
    stage.rewrite("defaults: {", ALL);
    let odd = stage.ids("Account", 1);
    // AnnualRevenue has no decimals; the API lets callers store them.
    let fields = vec![("AnnualRevenue".to_owned(), Cell::Double(0.25))];
    let change = Change::Update { object: "Account".to_owned(), id: odd[0], fields };
    stage.simulator.org().commit(Transaction { changes: vec![change], ..Transaction::default() }).unwrap();
    stage.completes().await;
    assert_eq!(crate::services::read_committed(&stage.topic("Account")).len(), 29);
    let letters = crate::services::read_committed(&format!("{}.dead-letters", stage.name));
    let [letter] = letters.as_slice() else { panic!("{} letters", letters.len()) };
    let letter: Value = serde_json::from_slice(letter.value.as_deref().unwrap()).unwrap();
    assert_eq!((&letter["id"], &letter["error"]), (&json!(odd[0].as_str()), &json!("value-unfit")));
    assert_eq!(letter["record"]["AnnualRevenue"], json!("0.25"));
    let reason = "object Account: field AnnualRevenue holds what is no currency";
    assert_eq!(letter["reason"], json!(reason));
}

async fn client(simulator: &Simulator, config: &SimulatorConfig) -> Client {
    sf2kafka::salesforce::install_tls();
    let auth = Auth::ClientCredentials {
        client_id: config.client_id.clone(),
        client_secret: Secret::new(config.client_secret.clone()),
    };
    let mut settings = SalesforceSettings::new(simulator.origin().parse().unwrap(), auth);
    settings.budget.per_second = 1_000;
    Client::connect(&settings).await.unwrap()
}

const DEFAULTS: ValueRules =
    ValueRules { decimals: Decimals::Double, compounds: Compounds::LeftOut, blobs: Blobs::LeftOut };
const EVERYTHING: ValueRules =
    ValueRules { decimals: Decimals::Decimal, compounds: Compounds::Record, blobs: Blobs::Reference };

struct Sample {
    name: String,
    schema: String,
    /// A record of it, if there is one to be had.
    value: Option<Vec<u8>>,
    /// Read by this version.
    reader: Option<String>,
}

fn schema_of(describe: &Describe, values: ValueRules) -> (Arc<ObjectDescription>, SchemaLineage, String) {
    let rules = FieldRules { values, ..FieldRules::default() };
    let object = Arc::new(describe.compile(&rules, &[]).unwrap());
    let lineage = SchemaLineage::merge(None, &object);
    let schema = avro::change_table(&lineage, &OutputSettings::change_table("crm")).unwrap();
    (object, lineage, schema)
}

/// Of each describe that was recorded from a real org, its name and schema.
fn recorded(values: ValueRules, word: &str) -> Vec<Sample> {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/salesforce");
    let mut files = vec![PathBuf::from(format!("{data}/describe-Account.json"))];
    for folder in ["full", "cached"] {
        let listed = std::fs::read_dir(format!("{data}/describes/{folder}")).unwrap();
        files.extend(listed.map(|file| file.unwrap().path()));
    }
    let sample = |file: &PathBuf| {
        let describe = Describe::from_json(&std::fs::read(file).unwrap()).unwrap();
        let (object, _, schema) = schema_of(&describe, values);
        assert!(object.fields.len() > 1, "{}", file.display());
        let name = format!("{} with {word}", file.strip_prefix(data).unwrap().display());
        Sample { name, schema, value: None, reader: None }
    };
    files.iter().map(sample).collect()
}

async fn sample(client: &Client, describe: &Describe, values: ValueRules, name: String) -> Option<Sample> {
    let (object, lineage, schema) = schema_of(describe, values);
    let ids = SchemaIds { key: 1, value: 2 };
    let encoder = Encoder::compile(&object, &lineage, ids, KeyFormat::Record);
    let value = match object.unsupported {
        Some(_) => None,
        None => one_row(client, &object).await.map(|rows| encoded(&encoder, &object, rows)),
    };
    Some(Sample { name, schema, value, reader: None })
}

async fn one_row(client: &Client, object: &Arc<ObjectDescription>) -> Option<Rows> {
    let statement = Select::all(object).limit(1).statement().unwrap();
    // Some objects want a filter.
    let page = client.query(&statement, false).next().await.ok()??;
    (!page.rows.is_empty()).then_some(page.rows)
}

fn encoded(encoder: &Encoder, object: &Arc<ObjectDescription>, rows: Rows) -> Vec<u8> {
    let at = Stamp(1_779_179_400_000);
    let sequence = ChangeSequence::default().next(at);
    let batch = Batch {
        object: object.clone(),
        rows,
        changes: vec![OurChange {
            row: 0,
            operation: Operation::Refresh,
            sequence,
            timestamp: at,
            detail: None,
        }],
        blobs: sf2kafka::domain::Blobs::default(),
        details: Vec::new(),
        notices: Vec::new(),
        source: Source::Load,
        load_id: None,
        only: None,
        stream_position: "".into(),
        control: Vec::new(),
    };
    let mut bytes = Vec::new();
    encoder.encode_value(&batch, &batch.changes[0], &mut bytes).unwrap();
    bytes
}

/// What the registry, whose parser is Avro's own for Java, says to a schema under a new subject.
async fn registered(http: &reqwest::Client, schema: &str) -> u16 {
    let mut url: Url = registry_url().parse().unwrap();
    url.path_segments_mut().unwrap().pop_if_empty().extend(["subjects", &unique("values"), "versions"]);
    http.post(url).json(&json!({"schema": schema})).send().await.unwrap().status().as_u16()
}

/// Schemas and values as two libraries for Python read them, by name.
async fn read_in_python(samples: &[Sample]) -> BTreeMap<String, Value> {
    let line = |sample: &Sample| {
        let mut line = json!({"name": sample.name, "schema": sample.schema});
        if let Some(value) = &sample.value {
            line["hex"] = value.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into();
        }
        if let Some(reader) = &sample.reader {
            line["reader"] = reader.as_str().into();
        }
        format!("{line}\n")
    };
    let lines: String = samples.iter().map(line).collect();
    let mut command = Command::new(variable("SF2KAFKA_PYTHON"));
    command
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/parse_schemas.py"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let writer = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, lines.as_bytes()));
        let output = child.wait_with_output().unwrap();
        let _ = writer.join().unwrap();
        output
    })
    .await
    .unwrap();
    let (data, words) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{words}");
    let read = data.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    read.map(|line| (line["name"].as_str().unwrap().to_owned(), line)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_schema_is_taken_by_the_avro_libraries_of_rust_java_and_python() {
    let config = SimulatorConfig::default();
    let simulator = Simulator::start(config.clone()).await.unwrap();
    let client = client(&simulator, &config).await;
    let mut samples = Vec::new();
    for object in client.describe_global().await.unwrap() {
        let describe = client.describe(&object.name, None).await.unwrap().unwrap();
        for (values, word) in [(DEFAULTS, "defaults"), (EVERYTHING, "everything")] {
            samples.extend(sample(&client, &describe, values, format!("{} with {word}", object.name)).await);
        }
    }
    assert!(samples.len() > 100, "{} schemas", samples.len());
    for (values, word) in [(DEFAULTS, "defaults"), (EVERYTHING, "everything")] {
        let recorded = recorded(values, word);
        assert_eq!(recorded.len(), 42);
        samples.extend(recorded);
    }
    let with_values = samples.iter().filter(|sample| sample.value.is_some()).count();
    assert!(with_values > 50, "{with_values} records");

    let read = read_in_python(&samples).await;
    let http = reqwest::Client::new();
    for sample in &samples {
        apache_avro::Schema::parse_str(&sample.schema)
            .unwrap_or_else(|error| panic!("{}: {error}", sample.name));
        assert_eq!(registered(&http, &sample.schema).await, 200, "{}", sample.name);
        assert_eq!(read[&sample.name]["value"].is_object(), sample.value.is_some(), "{}", sample.name);
    }
    // All of them do look: what is wrong by a little is refused.
    let all_types = samples.iter().find(|sample| sample.name == "AllTypes__c with everything").unwrap();
    for (right, wrong) in [
        ("\"name\":\"latitude\"", "\"name\":\"longitude\""),
        ("\"name\":\"Id\"", "\"name\":\"I-d\""),
        ("[\"null\",\"boolean\"]", "[\"null\",\"bool\"]"),
    ] {
        assert!(all_types.schema.contains(right), "{}", all_types.schema);
        let broken = all_types.schema.replace(right, wrong);
        assert_eq!(registered(&http, &broken).await, 422, "{wrong}");
    }
}

/// An object with one amount.
fn with_amount(precision: u32, scale: u32) -> Arc<ObjectDescription> {
    let field = |name: &str, of: &str, kind| Field {
        name: name.to_owned(),
        label: name.to_owned(),
        help: None,
        salesforce_type: of.to_owned(),
        kind,
        length: 0,
        precision,
        scale,
        calculated: false,
        filterable: true,
        sortable: true,
    };
    Arc::new(ObjectDescription {
        name: "Invoice__c".into(),
        target_name: "Invoice_c".into(),
        label: "Invoice".to_owned(),
        fields: vec![field("Id", "id", FieldKind::Text), field("Amount__c", "currency", FieldKind::Decimal)],
        compounds: Vec::new(),
        key: 0,
        cursor: None,
        created_date: None,
        is_deleted: None,
        replicateable: true,
        bulk: true,
        unsupported: None,
        revision: u64::from(precision),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_gets_more_digits_goes_on_under_a_new_name_and_all_of_it_is_read() {
    sf2kafka::salesforce::install_tls();
    let registry = Registry::new(&RegistrySettings::new(registry_url().parse().unwrap())).unwrap();
    let subject = Subject::value(&unique("values"));
    let mut lineage: Option<SchemaLineage> = None;
    let mut written = Vec::new();
    let looks = [
        (10, 2, "1234.5", "Amount__c"),
        (14, 2, "-999999999999.99", "Amount__c_2"),
        // Fewer digits fit.
        (12, 0, "7", "Amount__c_2"),
    ];
    for (precision, scale, cell, _) in looks {
        let object = with_amount(precision, scale);
        let next = SchemaLineage::merge(lineage.as_ref(), &object);
        let schema = avro::change_table(&next, &OutputSettings::change_table("crm")).unwrap();
        registry.register(&subject, &schema).await.unwrap();
        let encoder = Encoder::compile(&object, &next, SchemaIds { key: 1, value: 2 }, KeyFormat::Record);
        let mut rows = Rows::new(RowLayout::complete(2));
        rows.push([b"001A".as_slice(), cell.as_bytes()]).unwrap();
        written.push((cell, schema, encoded(&encoder, &object, rows)));
        lineage = Some(next);
    }
    let newest = written.last().unwrap().1.clone();
    let sample = |(cell, schema, value): (&str, String, Vec<u8>)| Sample {
        name: cell.to_owned(),
        schema,
        value: Some(value),
        reader: Some(newest.clone()),
    };
    let samples: Vec<Sample> = written.into_iter().map(sample).collect();
    for (cell, read) in read_in_python(&samples).await {
        let (.., name) = looks.into_iter().find(|look| look.2 == cell).unwrap();
        for field in ["Amount__c", "Amount__c_2"] {
            let wanted = if field == name { json!(cell) } else { Value::Null };
            assert_eq!(read["value"][field], wanted, "{read}");
        }
    }
}
