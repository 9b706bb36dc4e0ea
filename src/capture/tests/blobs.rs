//! Binary fields with their bytes: those of the org, for what is published and for nothing else, and never too many.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::streams::live;
use super::*;
use crate::config::{Blobs, ValueRules};

fn include(settings: CaptureSettings) -> CaptureSettings {
    let values = ValueRules { blobs: Blobs::Include, ..ValueRules::default() };
    CaptureSettings { fields: FieldRules { values, ..FieldRules::default() }, ..settings }
}

/// As many records in a batch as fit with records of so many bytes.
fn of_records(largest_record: usize) -> CaptureSettings {
    CaptureSettings { largest_record, ..include(settings()) }
}

const FOUR_AT_ONCE: usize = 4 << 20;

async fn blob_calls(simulator: &Simulator) -> u64 {
    let url = format!("{}/counters", simulator.control_url());
    let counters: serde_json::Value = reqwest::get(url).await.unwrap().json().await.unwrap();
    counters["byKind"]["blob"].as_u64().unwrap_or(0)
}

impl Practice {
    async fn with_files(rows: u64, settings: CaptureSettings) -> Self {
        let org = Self::start("Attachment", rows, settings).await;
        org.control("settings", json!({"gzip": false})).await;
        org
    }

    fn bytes_of(&self, id: &str) -> Option<Vec<u8>> {
        let (object, field) = (&self.stage.object, self.field());
        self.simulator.org().truth_blob(object, parsed(id), field).unwrap()
    }

    fn field(&self) -> &'static str {
        if self.stage.object == "Attachment" { "Body" } else { "Blob__c" }
    }

    /// Calls for bytes so far.
    async fn fetched(&self) -> u64 {
        blob_calls(&self.simulator).await
    }

    fn set_bytes(&self, id: &str, bytes: &[u8]) -> Change {
        let fields = vec![(self.field().to_owned(), Value::text(STANDARD.encode(bytes)))];
        Change::Update { object: self.stage.object.clone(), id: parsed(id), fields }
    }

    /// What a reader holds of each record is what the org has.
    fn assert_bytes_equal_org(&self) {
        let mut held = BTreeMap::new();
        for one in &self.stage.published {
            match one.operation {
                Operation::Delete => drop(held.remove(&one.id)),
                _ => drop(held.insert(one.id.clone(), one.blobs.get(self.field()).cloned())),
            }
        }
        let truth: BTreeMap<String, Option<Vec<u8>>> =
            self.ids().into_iter().map(|id| (id.clone(), self.bytes_of(&id))).collect();
        assert!(held == truth, "{} held, {} there", held.len(), truth.len());
    }
}

#[tokio::test]
async fn all_bytes_equal_the_orgs_and_what_is_read_again_is_not_fetched_again() {
    let mut org = Practice::with_files(90, of_records(FOUR_AT_ONCE)).await;
    org.catch_up().await;
    org.assert_bytes_equal_org();
    assert_eq!(org.fetched().await, 90, "a call each");
    let ids = org.ids();
    let empty = ids.iter().filter(|id| org.bytes_of(id).unwrap().is_empty()).count();
    assert!(empty > 0, "no bytes are a value too");
    // Ten that are all saved in one second, of a page that the look-back shows again and again.
    org.save(ids[..10].iter().map(|id| org.set_bytes(id, format!("new {id}").as_bytes())).collect());
    org.save(vec![org.delete(&ids[11])]);
    org.catch_up().await;
    org.assert_bytes_equal_org();
    for _ in 0..3 {
        org.catch_up().await;
    }
    org.stage.restart().await;
    org.catch_up().await;
    assert_eq!(org.fetched().await, 100);
    assert_eq!(org.stage.letters(), format!("{}{}D", "R".repeat(90), "U".repeat(10)));
    let gone = org.stage.published.iter().find(|one| one.operation == Operation::Delete).unwrap();
    assert!(!gone.cells.contains_key("Body"), "of a deleted record there are no bytes, and that is not null");
    assert_eq!(org.stage.errors.len(), 0, "{:?}", org.stage.errors);
}

#[tokio::test]
async fn null_has_no_bytes_and_asks_for_none() {
    let mut org = Practice::start("AllTypes__c", 200, include(settings())).await;
    org.catch_up().await;
    org.assert_bytes_equal_org();
    let with_bytes = org.ids().iter().filter(|id| org.bytes_of(id).is_some()).count();
    assert!(with_bytes < 200 && org.fetched().await == with_bytes as u64, "{with_bytes}");
    let id = org.ids().into_iter().find(|id| org.bytes_of(id).is_some()).unwrap();
    let fields = vec![("Blob__c".to_owned(), Value::Null)];
    org.save(vec![Change::Update { object: "AllTypes__c".to_owned(), id: parsed(&id), fields }]);
    org.catch_up().await;
    let last = org.stage.published.last().unwrap();
    assert_eq!((last.cells["Blob__c"].as_str(), last.blobs.len()), ("", 0));
    org.assert_bytes_equal_org();
}

#[tokio::test]
async fn an_event_brings_no_bytes_so_that_the_record_is_read_whatever_after_says() {
    for whole in [true, false] {
        let rows = OrgConfig::default().with_rows("AllTypes__c", 30);
        let mut org = Practice::start_in(rows, "AllTypes__c", |client| include(live(client, whole))).await;
        org.control("pubsub/selection", json!({"select": ["AllTypes__c"]})).await;
        org.arrives(|org| org.stage.published.len() >= 30).await;
        let before = org.fetched().await;
        let id = org.ids().into_iter().find(|id| org.bytes_of(id).is_some()).unwrap();
        org.pass(1);
        org.save(vec![org.set_bytes(&id, b"by an event")]);
        org.arrives(|org| org.stage.of(&id) == "RU").await;
        let last = org.stage.published.last().unwrap();
        assert_eq!((last.source, &last.blobs["Blob__c"][..]), (Source::Subscribe, b"by an event".as_slice()));
        assert_eq!(org.fetched().await, before + 1);
        org.assert_bytes_equal_org();
    }
}

#[tokio::test]
async fn a_transaction_of_many_events_goes_out_in_parts_and_a_restart_repeats_none() {
    let rows = OrgConfig::default().with_rows("AllTypes__c", 60);
    let settings =
        |client: &Client| CaptureSettings { largest_record: FOUR_AT_ONCE, ..include(live(client, true)) };
    let mut org = Practice::start_in(rows, "AllTypes__c", settings).await;
    org.control("pubsub/selection", json!({"select": ["AllTypes__c"]})).await;
    org.arrives(|org| org.stage.published.len() >= 60).await;
    let ids = org.ids();
    org.pass(1);
    org.save(ids[..40].iter().map(|id| org.set_bytes(id, id.as_bytes())).collect());
    // In the middle of the message.
    org.arrives(|org| org.stage.published.len() >= 60 + 8).await;
    assert!(org.stage.published.len() < 100, "bit by bit");
    org.stage.restart().await;
    org.arrives(|org| org.stage.published.len() >= 100).await;
    org.settle(300).await;
    for id in &ids[..40] {
        assert_eq!(org.stage.of(id), "RU");
    }
    org.assert_bytes_equal_org();
}

#[tokio::test]
async fn bytes_held_at_once_are_bounded() {
    let settings = CaptureSettings { method: Method::FullLoad, ..of_records(FOUR_AT_ONCE) };
    let mut org = Practice::with_files(60, settings).await;
    // Held on to, as a publisher that is slow would.
    let mut held = Vec::new();
    let blocked = loop {
        match tokio::time::timeout(Duration::from_secs(2), org.stage.capture.next()).await {
            Ok(Ok(Step::Batch { batch, .. })) => {
                assert!(batch.changes.len() <= 4, "{} at once", batch.changes.len());
                held.push(batch);
            }
            Ok(step) => panic!("{step:?}"),
            Err(_) => break held.iter().map(|batch| batch.changes.len()).sum::<usize>(),
        }
    };
    assert_eq!((blocked, org.fetched().await), (8, 8), "two batches, and nothing is fetched ahead");
    held.clear();
    let step = tokio::time::timeout(Duration::from_secs(20), org.stage.capture.next()).await;
    assert!(matches!(step, Ok(Ok(Step::Batch { .. }))), "it goes on when they are published");
}

#[tokio::test]
async fn a_load_that_waits_for_its_bytes_holds_up_no_change() {
    let mut org = Practice::with_files(30, of_records(FOUR_AT_ONCE)).await;
    let ids = org.ids();
    // Of a page of the load one blob does not come.
    org.fault(&format!("{}/Body", ids[9]), 1, json!({"delay": {"millis": 60_000}})).await;
    let changes = vec![org.set_bytes(&ids[20], b"changed"), org.set_bytes(&ids[10], b"changed")];
    let Practice { simulator, stage } = &mut org;
    let saving = async {
        // Of the third page all but that one are there, and it is waited for.
        while blob_calls(simulator).await < 11 {}
        simulator.org().clock().advance(Duration::from_secs(1));
        simulator.org().commit(Transaction { changes, ..Transaction::default() }).unwrap();
        simulator.org().clock().advance(Duration::from_secs(1));
    };
    let following = async {
        while stage.published.len() < 10 {
            stage.step().await;
        }
    };
    let both = async { tokio::join!(saving, following) };
    assert!(tokio::time::timeout(Duration::from_secs(30), both).await.is_ok());
    assert_eq!((org.stage.of(&ids[10]), org.stage.of(&ids[20])), ("U".to_owned(), "U".to_owned()));
    assert_eq!(org.stage.letters(), "RRRRRRRRUU");
    assert!(org.stage.errors.is_empty(), "the fetch was still waited for: {:?}", org.stage.errors);
}

#[tokio::test]
async fn an_interrupted_fetch_goes_on_where_it_stopped() {
    let mut org = Practice::with_files(20, of_records(FOUR_AT_ONCE)).await;
    let ids = org.ids();
    org.save(vec![org.set_bytes(&ids[1], b"more than one byte")]);
    // A body that breaks off, a server that is away, a session that ends: none of it costs a record.
    org.fault(&format!("{}/Body", ids[1]), 1, json!({"cutBody": {"afterBytes": 1}})).await;
    org.refuse(&format!("{}/Body", ids[2]), 2, 503, "SERVER_UNAVAILABLE").await;
    org.fault(&format!("{}/Body", ids[3]), 1, json!("expireSession")).await;
    // Forbidden stops the object, until it is not any more; by then all others of its batch are there.
    org.refuse(&format!("{}/Body", ids[6]), 6, 503, "SERVER_UNAVAILABLE").await;
    org.refuse(&format!("{}/Body", ids[6]), 1, 403, "INSUFFICIENT_ACCESS").await;
    while org.stage.errors.is_empty() {
        org.stage.step().await;
    }
    assert_eq!(org.stage.errors[0].kind(), Kind::ObjectForbidden);
    let message = org.stage.errors[0].to_string();
    assert!(message.starts_with("object Attachment: field Body: Salesforce answered 403"), "{message}");
    assert_eq!(org.stage.published.len(), 4, "nothing of a batch that is not whole");
    org.catch_up().await;
    assert_eq!(org.stage.letters(), "R".repeat(20));
    org.assert_bytes_equal_org();
    assert_eq!(org.fetched().await, 20 + 1, "but for the one that broke off none is asked for again");
}

#[tokio::test]
async fn a_run_that_ends_between_two_parts_of_a_page_repeats_and_loses_nothing() {
    let mut org = Practice::with_files(30, of_records(FOUR_AT_ONCE)).await;
    while org.stage.published.len() < 12 {
        org.stage.step().await;
    }
    org.stage.restart().await;
    org.catch_up().await;
    assert_eq!(org.stage.letters(), "R".repeat(30));
    let ids = org.ids();
    org.save(ids.iter().map(|id| org.set_bytes(id, id.as_bytes())).collect());
    org.pass(1);
    while org.stage.published.len() < 42 {
        org.stage.step().await;
    }
    assert!(org.stage.published.len() < 60);
    org.stage.restart().await;
    org.catch_up().await;
    assert_eq!(org.stage.letters(), "R".repeat(30) + &"U".repeat(30));
    org.assert_bytes_equal_org();
}

#[tokio::test]
async fn more_bytes_than_a_record_takes_are_not_read_and_the_record_is_kept_with_its_path() {
    let mut org = Practice::with_files(6, of_records(1_000)).await;
    let ids = org.ids();
    org.save(ids.iter().map(|id| org.set_bytes(id, b"small")).collect());
    let large = [&ids[3], &ids[4]];
    org.save(vec![org.set_bytes(&ids[2], &[7; 1_000]), org.set_bytes(large[0], &[7; 1_001])]);
    org.save(vec![org.set_bytes(large[1], &[7; 400_000])]);
    // Of the second the length is not told. Who reads on meets its end, and asks again.
    org.fault(&format!("{}/Body", large[1]), u64::MAX, json!({"cutBody": {"afterBytes": 300_000}})).await;
    org.catch_up().await;
    assert_eq!(org.stage.letters(), "RRRRRR");
    let reason = "object Attachment: field Body: more than the 1000 bytes of a record";
    for one in &org.stage.published {
        if !large.contains(&&one.id) {
            assert_eq!((one.refused.as_ref(), one.blobs.get("Body")), (None, org.bytes_of(&one.id).as_ref()));
            continue;
        }
        assert_eq!(one.refused, Some((Kind::RecordTooLarge, reason.to_owned())));
        assert_eq!(one.blobs.len(), 0);
        assert!(one.cells["Body"].ends_with(&format!("/sobjects/Attachment/{}/Body", one.id)));
    }
    assert_eq!(org.fetched().await, 6, "each of them once");
}

#[tokio::test]
async fn a_record_that_is_gone_before_its_bytes_goes_out_without_them() {
    let mut org = Practice::with_files(8, of_records(FOUR_AT_ONCE)).await;
    org.catch_up().await;
    let ids = org.ids();
    org.pass(1);
    org.save(ids[..6].iter().map(|id| org.set_bytes(id, b"new")).collect());
    org.pass(1);
    // Four go out at once: of the others the rows are read, and not the bytes.
    while org.stage.published.len() < 12 {
        org.stage.step().await;
    }
    org.save(vec![org.delete(&ids[5])]);
    org.catch_up().await;
    assert_eq!(org.stage.of(&ids[5]), "RUD");
    let is_update = |one: &&Published| one.id == ids[5] && one.operation == Operation::Update;
    let update = org.stage.published.iter().find(is_update).unwrap();
    assert!(update.refused.is_none() && update.blobs.is_empty());
    assert!(
        !update.cells.contains_key("Body") && update.cells.contains_key("Name"),
        "not carried is not null"
    );
    org.assert_bytes_equal_org();
    // It is back with the very stamp that it had: what was published of it was not all.
    org.save(vec![Change::Undelete { object: "Attachment".to_owned(), id: parsed(&ids[5]) }]);
    org.catch_up().await;
    org.assert_bytes_equal_org();
}

#[tokio::test]
async fn a_record_whose_bytes_are_gone_for_a_moment_is_published_whole_once_it_is_seen_again() {
    let mut org = Practice::with_files(3, of_records(FOUR_AT_ONCE)).await;
    org.catch_up().await;
    let id = org.ids()[1].clone();
    org.pass(1);
    org.save(vec![org.set_bytes(&id, b"new")]);
    org.refuse(&format!("{id}/Body"), 1, 404, "ENTITY_IS_DELETED").await;
    // As if it were deleted and back before anybody looks: its row is the same.
    org.fault("composite/sobjects/Attachment", 1, json!({"respond": {"status": 200, "body": "[null]"}}))
        .await;
    org.catch_up().await;
    org.catch_up().await;
    assert_eq!(org.stage.of(&id), "RUU");
    org.assert_bytes_equal_org();
    org.stage.restart().await;
    org.catch_up().await;
    assert_eq!(org.stage.of(&id), "RUU", "once");
}

#[tokio::test]
async fn bytes_that_are_missing_though_their_record_is_there_are_told_of() {
    let mut org = Practice::with_files(5, of_records(FOUR_AT_ONCE)).await;
    let ids = org.ids();
    org.refuse(&format!("{}/Body", ids[0]), 1, 404, "NOT_FOUND").await;
    org.refuse(&format!("{}/Body", ids[1]), u64::MAX, 404, "NOT_FOUND").await;
    org.catch_up().await;
    assert_eq!(org.stage.letters(), "RRRRR");
    let refused: Vec<_> = org.stage.published.iter().filter(|one| one.refused.is_some()).collect();
    let [one] = refused.as_slice() else { panic!("{refused:?}") };
    assert_eq!((&one.id, one.refused.as_ref().unwrap().0), (&ids[1], Kind::BlobMissing));
    assert!(one.cells["Body"].contains("/sobjects/Attachment/"));
    let first = org.stage.published.iter().find(|one| one.id == ids[0]).unwrap();
    assert_eq!(first.blobs.get("Body"), org.bytes_of(&ids[0]).as_ref(), "the second time they were there");
}

#[tokio::test]
async fn a_field_that_is_hidden_meanwhile_costs_no_record() {
    let mut org = Practice::start("AllTypes__c", 20, of_records(FOUR_AT_ONCE)).await;
    org.catch_up().await;
    let with_bytes: Vec<String> = org.ids().into_iter().filter(|id| org.bytes_of(id).is_some()).collect();
    org.pass(1);
    org.save(with_bytes[..6].iter().map(|id| org.set_bytes(id, b"new")).collect());
    org.pass(1);
    // Of the last two the rows are read, and not the bytes.
    while org.stage.published.len() < 24 {
        org.stage.step().await;
    }
    org.control("fields", json!({"object": "AllTypes__c", "field": "Blob__c", "action": "hide"})).await;
    org.catch_up().await;
    assert!(org.stage.published.iter().all(|one| one.refused.is_none()));
    for id in &with_bytes[..6] {
        assert!(org.stage.of(id).starts_with("RU"), "{}", org.stage.of(id));
    }
    org.stage.capture.expect_other_description();
    org.catch_up().await;
    assert!(org.stage.capture.description().field_index("Blob__c").is_none());
}
