//! `sf2kafka schemas` and the registry's rules, as a person meets them before and between runs.
//!
//! In: a practice org, a real registry. Out: files, reports, exit codes, and what is registered in the end.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use simulator::catalog::{FieldDef, FieldType};

use crate::services::{read_committed, registry_url, topics};
use crate::stage::{Setup, Stage};

/// A folder that is gone with the value.
struct Folder(PathBuf);

impl Folder {
    fn new(stage: &Stage) -> Self {
        Self(std::env::temp_dir().join(format!("{}-schemas", stage.name)))
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn schema(&self, subject: &str) -> Value {
        let text = std::fs::read_to_string(self.0.join(format!("{subject}.avsc"))).unwrap();
        serde_json::from_str(&text).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn ask(path: &str) -> (u16, Value) {
    let answer = reqwest::get(format!("{}/{path}", registry_url())).await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap_or_default())
}

async fn registered(subject: &str) -> Value {
    let (status, answer) = ask(&format!("subjects/{subject}/versions/latest")).await;
    assert_eq!(status, 200, "{subject}: {answer}");
    serde_json::from_str(answer["schema"].as_str().unwrap()).unwrap()
}

/// As a person does it with what `schemas --out` wrote: the text of the file as it is.
async fn register_file(path: &Path, subject: &str) {
    register(std::fs::read_to_string(path).unwrap(), subject).await;
}

async fn register(text: String, subject: &str) {
    let url = format!("{}/subjects/{subject}/versions", registry_url());
    let request = reqwest::Client::new().post(url).header("content-type", "application/json");
    let answer = request.body(json!({"schema": text}).to_string()).send().await.unwrap();
    assert!(answer.status().is_success(), "{subject}: {}", answer.text().await.unwrap());
}

async fn set_level(subject: &str, level: &str) {
    let url = format!("{}/config/{subject}", registry_url());
    let request = reqwest::Client::new().put(url).header("content-type", "application/json");
    let answer = request.body(json!({"compatibility": level}).to_string()).send().await.unwrap();
    assert!(answer.status().is_success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_schemas_writes_before_the_first_run_is_what_the_run_registers() {
    let stage = Stage::new("[ Account, Invoice__c ]\nplatform_events: [ Order_Event__e ]").await;
    let folder = Folder::new(&stage);
    let mut subjects: Vec<String> = ["Account", "Invoice_c", "Order_Event__e"]
        .iter()
        .flat_map(|target| ["key", "value"].map(|part| format!("{}-{part}", stage.topic(target))))
        .collect();
    subjects.sort();
    let (code, report, words) = stage.run(&["schemas", "--out", folder.path()]).await;
    assert_eq!(code, Some(0), "{report}{words}");
    assert_eq!(words, "6 subjects\n");
    let files: Vec<String> = subjects.iter().map(|subject| format!("{subject}.avsc")).collect();
    assert_eq!(folder.files(), files);
    for subject in &subjects {
        assert!(report.contains(subject.as_str()), "{report}");
        assert_eq!(ask(&format!("subjects/{subject}/versions")).await.0, 404, "nothing is registered");
    }
    assert_eq!(topics(&stage.name), [""; 0], "nothing is made");

    let (code, report, words) = stage.run(&["schemas", "--check"]).await;
    assert_eq!(code, Some(3), "{report}{words}");
    for subject in &subjects {
        assert!(report.contains(&format!("{subject}: new subject (level BACKWARD)\n")), "{report}");
    }
    assert_eq!(words, "6 subjects: 0 as registered, 6 new, 0 with a new version, 0 refused\n");

    stage.control("pubsub/settings", json!({"keepaliveSeconds": 1})).await;
    let event = json!({"topic": "/event/Order_Event__e", "fields": {"Order_Number__c": "1"}});
    stage.control("pubsub/events", event).await;
    stage.completes().await;
    for subject in &subjects {
        assert_eq!(registered(subject).await, folder.schema(subject), "{subject}");
    }
    let (code, json, words) = stage.run(&["schemas", "--check", "--output", "json"]).await;
    assert_eq!(code, Some(0), "{json}{words}");
    let report: Value = serde_json::from_str(&json).unwrap();
    let told = report["subjects"].as_array().unwrap();
    assert_eq!(told.len(), 6);
    assert!(told.iter().all(|line| line["outcome"] == "same" && line["id"].is_u64()), "{json}");
    assert_eq!(report["failures"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_object_can_be_asked_for_and_what_cannot_be_made_is_told_beside_the_others() {
    let stage =
        Stage::new("[ Account, Invoice__c, { name: Contact, fields: { include: [ Phone ] } } ]").await;
    let (code, json, words) =
        stage.run(&["schemas", "--check", "--object", "inv*", "--output", "json"]).await;
    assert_eq!(code, Some(3), "{json}{words}");
    let report: Value = serde_json::from_str(&json).unwrap();
    let objects: Vec<&str> =
        report["subjects"].as_array().unwrap().iter().map(|line| line["object"].as_str().unwrap()).collect();
    assert_eq!(objects, ["Invoice__c", "Invoice__c"]);

    let (code, _, words) = stage.run(&["schemas", "--check", "--object", "Lead"]).await;
    assert_eq!(code, Some(1));
    let message = "error[object-unknown]: the configuration chooses no object or platform event `Lead`\n";
    assert!(words.starts_with(message), "{words}");
    // Neither of the two things that it can do.
    assert_eq!(stage.run(&["schemas"]).await.0, Some(2));

    // A field that would be named like a header field: that object is refused, the others are told.
    let field = FieldDef::new("header__source", FieldType::String);
    stage.simulator.org().add_field("Account", field).unwrap();
    let (code, report, words) = stage.run(&["schemas", "--check"]).await;
    assert_eq!(code, Some(1), "{report}{words}");
    let failure = "✗ Account: error[schema-unsupported]: ";
    assert!(
        report.contains(failure)
            && report.contains("field header__source would be named like a header field"),
        "{report}"
    );
    assert!(report.contains(&format!("{}-value: new subject", stage.topic("Invoice_c"))), "{report}");
    assert!(words.ends_with("; 1 could not be made\n"), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_object_is_told_in_words_with_what_its_subject_says_to_it() {
    let stage = Stage::new("[ Account ]").await;
    stage.completes().await;
    let subject = format!("{}-value", stage.topic("Account"));
    let org = stage.simulator.org();
    org.add_field("Account", FieldDef::new("Region__c", FieldType::String)).unwrap();
    org.change_field("Account", "AccountNumber", |field| field.field_type = FieldType::Double).unwrap();
    let (code, report, words) = stage.run(&["schemas", "--check"]).await;
    assert_eq!(code, Some(3), "{report}{words}");
    let expected = format!(
        "{subject}: next version, compatible (level BACKWARD)\n  \
         + field AccountNumber_2 added: optional double\n  \
         + field Region__c added: optional string\n"
    );
    assert!(report.contains(&expected), "{report}");
    assert!(report.contains(&format!("{}-key: same, id ", stage.topic("Account"))), "{report}");
    assert_eq!(ask(&format!("subjects/{subject}/versions")).await.1, json!([1]));

    // Without what the control topic pins the places would be others: the file for a pipeline that never ran.
    let (code, report, _) = stage.run(&["schemas", "--check", "--without-kafka"]).await;
    assert_eq!(code, Some(3));
    assert!(report.contains(&format!("{subject}: refused (level BACKWARD): ")), "{report}");
    assert!(
        report.contains("field AccountNumber has another type: optional string becomes optional double"),
        "{report}"
    );

    stage.completes().await;
    assert_eq!(ask(&format!("subjects/{subject}/versions")).await.1, json!([1, 2]));
    let (code, report, words) = stage.run(&["schemas", "--check"]).await;
    assert_eq!(code, Some(0), "{report}{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_that_does_not_answer_is_an_error_unless_it_is_done_without() {
    let stage = Stage::of(Setup { bootstrap: "127.0.0.1:1".to_owned(), ..Setup::new("[ Account ]") }).await;
    let folder = Folder::new(&stage);
    let (code, _, words) = stage.run(&["schemas", "--out", folder.path()]).await;
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains("error[kafka-unavailable]: "), "{words}");
    assert!(words.contains("hint: the control topic holds the names and places of fields"), "{words}");
    assert!(!Path::new(folder.path()).exists());
    let (code, _, words) = stage.run(&["schemas", "--out", folder.path(), "--without-kafka"]).await;
    assert_eq!((code, folder.files().len()), (Some(0), 2), "{words}");
    let folder_in_a_file = format!("{}/x", stage.file());
    let (code, _, words) = stage.run(&["schemas", "--out", &folder_in_a_file, "--without-kafka"]).await;
    assert_eq!(code, Some(2), "{words}");
    assert!(words.starts_with(&format!("error[usage]: {folder_in_a_file} cannot be written: ")), "{words}");
    // Again: nothing is another.
    let file = folder.0.join(&folder.files()[0]);
    let written = std::fs::metadata(&file).unwrap().modified().unwrap();
    assert_eq!(stage.run(&["schemas", "--out", folder.path(), "--without-kafka"]).await.0, Some(0));
    assert_eq!(std::fs::metadata(&file).unwrap().modified().unwrap(), written);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_auto_register_an_object_waits_for_what_a_person_registers_from_the_files() {
    let stage = Stage::new("[ Account, Invoice__c ]").await;
    stage.rewrite("schema_registry: {", "schema_registry: { auto_register: false, ");
    let folder = Folder::new(&stage);
    assert_eq!(stage.run(&["schemas", "--out", folder.path()]).await.0, Some(0));
    let of = |target: &str, part: &str| format!("{}-{part}", stage.topic(target));
    for part in ["key", "value"] {
        let subject = of("Invoice_c", part);
        register_file(&folder.0.join(format!("{subject}.avsc")), &subject).await;
    }
    let words = stage.fails(1).await;
    let subject = of("Account", "value");
    let message = format!(
        "error[registry-refused]: subject {subject} is not there, and auto_register is false\n  now: the program stops\n\
         hint: `sf2kafka schemas -c FILE --out DIR` writes it as `{subject}.avsc`: register that, "
    );
    assert!(words.contains(&message), "{words}");
    assert_eq!(read_committed(&stage.topic("Account")), []);
    stage.holds_each_row_once("Invoice__c").await;
    let (code, report, _) = stage.run(&["check"]).await;
    assert_eq!(code, Some(1), "{report}");
    assert!(report.contains(&format!("✗ subject {subject}: ")), "{report}");
    assert!(report.contains("  hint: `sf2kafka schemas -c FILE --out DIR` writes it as "), "{report}");

    for part in ["key", "value"] {
        let subject = of("Account", part);
        register_file(&folder.0.join(format!("{subject}.avsc")), &subject).await;
    }
    let (code, report, words) = stage.run(&["schemas", "--check"]).await;
    assert_eq!(code, Some(0), "{report}{words}");
    stage.completes().await;
    stage.holds_each_row_once("Account").await;
    stage.holds_each_row_once("Invoice__c").await;
    assert_eq!(ask(&format!("subjects/{subject}/versions")).await.1, json!([1]), "nothing was registered");
    // A subject of somebody else's keeps the level that it has.
    assert_eq!(ask(&format!("config/{subject}")).await.1["compatibilityLevel"], "NONE");
}

#[tokio::test(flavor = "multi_thread")]
async fn subjects_are_named_by_record_or_by_topic_and_record_and_readers_find_them() {
    let stage = Stage::new("[ Account ]").await;
    let namespace = format!("salesforce.{}", stage.name.replace('-', "_"));
    stage.rewrite("schema_registry: {", "schema_registry: { subjects: record, ");
    stage.completes().await;
    stage.holds_each_row_once("Account").await;
    let by_record = format!("{namespace}.Account");
    assert_eq!(registered(&by_record).await["name"], "Account");
    assert_eq!(registered(&format!("{namespace}.AccountKey")).await["name"], "AccountKey");
    let by_topic = format!("{}-value", stage.topic("Account"));
    assert_eq!(ask(&format!("subjects/{by_topic}/versions")).await.0, 404);
    assert_eq!(ask(&format!("config/{by_record}")).await.1["compatibilityLevel"], "BACKWARD");

    // Another strategy registers the same schema, with the same id, under another name: nothing is repeated.
    stage.rewrite("subjects: record", "subjects: topic-record");
    stage.completes().await;
    stage.holds_each_row_once("Account").await;
    let both = format!("{}-{by_record}", stage.topic("Account"));
    let id = async |subject: &str| ask(&format!("subjects/{subject}/versions/latest")).await.1["id"].clone();
    assert_eq!(id(&both).await, id(&by_record).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_level_that_forbids_the_next_version_stops_the_object_with_what_to_do_and_the_others_go_on() {
    let stage = Stage::new("[ Account, Invoice__c ]").await;
    stage.rewrite("schema_registry: {", "schema_registry: { compatibility: FULL, ");
    stage.completes().await;
    let subject = format!("{}-value", stage.topic("Account"));
    assert_eq!(ask(&format!("config/{subject}")).await.1["compatibilityLevel"], "FULL");
    // Somebody registered a field before it came, with a type that holds less: readers of that cannot read ours.
    let mut foreign = registered(&subject).await;
    let size = json!({"name": "Size__c", "type": ["null", "int"], "default": null});
    foreign["fields"].as_array_mut().unwrap().push(size);
    register(foreign.to_string(), &subject).await;
    stage.simulator.org().add_field("Account", FieldDef::new("Size__c", FieldType::Double)).unwrap();
    let (code, report, words) = stage.run(&["schemas", "--check"]).await;
    assert_eq!(code, Some(3), "{report}{words}");
    assert!(report.contains(&format!("{subject}: refused (level FULL): ")), "{report}");
    assert!(
        report.contains("field Size__c has another type: optional int becomes optional double\n"),
        "{report}"
    );
    assert!(report.contains("  hint: "), "{report}");

    let ids = stage.ids("Invoice__c", 2);
    stage.save("Invoice__c", &ids, "Remarks__c", "saved while Account was refused");
    let before = read_committed(&stage.topic("Account")).len();
    let words = stage.fails(1).await;
    assert!(words.contains("object=Account code=\"registry-refused\""), "{words}");
    let hint = "\nhint: `sf2kafka schemas -c FILE --check` shows what would change";
    assert!(words.contains(hint), "{words}");
    assert_eq!(read_committed(&stage.topic("Account")).len(), before);
    let report = stage.equals_the_org("Invoice__c").await;
    assert_eq!(report["operations"]["U"], 2, "{report}");

    set_level(&subject, "BACKWARD").await;
    stage.completes().await;
    stage.equals_the_org("Account").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_get_one_underscore_and_keep_the_names_that_are_published() {
    let stage = Stage::new("[ Invoice__c ]\nnaming: { fields: single-underscore }").await;
    stage.completes().await;
    let subject = format!("{}-value", stage.topic("Invoice_c"));
    let named = async || -> Vec<(String, String)> {
        let schema = registered(&subject).await;
        let fields = schema["fields"].as_array().unwrap().clone();
        let text = |field: &Value, key: &str| field[key].as_str().unwrap_or_default().to_owned();
        fields.iter().map(|field| (text(field, "name"), text(field, "salesforce.field"))).collect()
    };
    let custom = |fields: &[(String, String)]| -> Vec<(String, String)> {
        fields.iter().filter(|(_, original)| original.ends_with("__c")).cloned().collect()
    };
    let first = custom(&named().await);
    assert!(!first.is_empty());
    for (name, original) in &first {
        assert_eq!(*name, original.replace("__c", "_c"));
    }

    // Whoever changes the setting later changes the names of later fields only.
    stage.rewrite("single-underscore", "keep");
    let (code, report, words) = stage.run(&["schemas", "--check"]).await;
    assert_eq!(code, Some(0), "{report}{words}");
    stage.simulator.org().add_field("Invoice__c", FieldDef::new("Region__c", FieldType::String)).unwrap();
    stage.completes().await;
    let mut second = custom(&named().await);
    assert_eq!(second.pop(), Some(("Region__c".to_owned(), "Region__c".to_owned())));
    assert_eq!(second, first);
}
