//! What changes while a pipeline lives: fields, its configuration, the objects of the org; read back from the topics.
//!
//! In: a simulator whose objects change, a configuration that is rewritten between runs. Out: the independent consumer's
//! verdict on every topic: all that the org holds, each change once, nothing stepping back.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sf2kafka::pipeline::{self, Options};
use sf2kafka::publish::TopicAdmin;
use sf2kafka::status::{Board, ObjectReport, Phase};
use simulator::catalog::ObjectDef;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::stage::{Setup, Stage};

/// A second between two looks at the org's objects.
const DAY: Duration = Duration::from_secs(144);
const PATIENCE: Duration = Duration::from_secs(60);

impl Stage {
    /// A field whose values no stamp tells of when it is shown again.
    async fn field(&self, field: &str, action: &str) {
        self.control("fields", json!({"object": "Account", "field": field, "action": action})).await;
    }

    /// Until no fault is left to be met.
    async fn meets_the_faults(&self) {
        let url = format!("{}/faults", self.simulator.control_url());
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let left: Value = reqwest::get(&url).await.unwrap().json().await.unwrap();
            if left == json!([]) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "never met: {left}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Every rule holds, and every row and field of the org is there: the operations by which they came.
    async fn operations(&self, topic: &str) -> Value {
        let report = self.judged_in(topic, "Account").await.unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(report["truth"]["fields_only_in_truth"], json!([]), "{report}");
        report["operations"].clone()
    }

    /// The same of a topic that these fields are not in.
    async fn lacks(&self, fields: &[&str]) -> Value {
        let report = self.equals_the_org("Account").await;
        assert_eq!(report["truth"]["fields_only_in_truth"], json!(fields), "{report}");
        report["operations"].clone()
    }
}

async fn small(objects: &'static str) -> Stage {
    Stage::of(Setup { rows: &[("Account", 300)], ..Setup::new(objects) }).await
}

#[tokio::test]
async fn a_field_that_comes_is_in_every_record_once_its_load_is_done() {
    let stage = small("[Account]").await;
    stage.field("Fax", "hide").await;
    stage.completes().await;
    stage.holds_each_row_once("Account").await;
    stage.field("Fax", "show").await;
    stage.lacks(&["Fax"]).await;
    let words = stage.completes().await;
    assert!(words.contains("all records are loaded anew"), "{words}");
    let rows = stage.rows("Account");
    assert_eq!(stage.operations("Account").await, json!({"R": 2 * rows}));
    // Nothing is due any more.
    stage.completes().await;
    assert_eq!(stage.operations("Account").await, json!({"R": 2 * rows}));
}

#[tokio::test]
async fn with_ignore_a_field_that_comes_is_not_loaded_for() {
    let stage = small("[ { name: Account, on_new_field: ignore } ]").await;
    stage.field("Fax", "hide").await;
    stage.completes().await;
    stage.field("Fax", "show").await;
    stage.completes().await;
    assert_eq!(stage.lacks(&["Fax"]).await, json!({"R": stage.rows("Account")}));
}

#[tokio::test]
async fn a_program_that_is_killed_in_a_load_for_a_new_field_forgets_nothing_and_repeats_no_page() {
    let stage = Stage::of(Setup { rows: &[("Account", 6_000)], ..Setup::new("[Account]") }).await;
    stage.control("settings", json!({"bulkPageCap": 500})).await;
    stage.field("Fax", "hide").await;
    stage.completes().await;
    stage.field("Fax", "show").await;
    for round in 0..3 {
        // Each run gets a few pages, and hangs at the next.
        stage.fault("/results", 3, 1, json!({"delay": {"millis": 600_000}})).await;
        let mut running = stage.start_at(&["run"], "info");
        running.says(if round == 0 { "all records are loaded anew" } else { "shard claimed" }).await;
        stage.meets_the_faults().await;
        // Killed.
        drop(running);
        stage.clear_faults().await;
    }
    let words = stage.completes().await;
    assert!(words.contains("reasons=new-field"), "{words}");
    assert_eq!(stage.operations("Account").await, json!({"R": 12_000}));
}

#[tokio::test]
async fn an_output_that_is_added_gets_every_row_and_the_others_get_none_again() {
    let stage = small("[Account]").await;
    stage.completes().await;
    stage.save("Account", &stage.ids("Account", 5), "Name", "changed");
    stage.completes().await;
    let rows = stage.rows("Account");
    assert_eq!(stage.operations("Account").await, json!({"R": rows, "U": 5}));
    let two = "[ { name: Account, outputs: [ { envelope: change-table }, { envelope: change-table, topic: '{name}.{object}__ct' } ] } ]";
    stage.rewrite("[Account]", two);
    stage.completes().await;
    assert_eq!(stage.operations("Account__ct").await, json!({"R": rows}));
    // What may be news goes to all: the rows of the look-back.
    let old = stage.operations("Account").await;
    assert!(old["R"].as_u64().unwrap() <= rows + 40, "{old}");
    stage.save("Account", &stage.ids("Account", 5), "Name", "changed again");
    stage.completes().await;
    for topic in ["Account", "Account__ct"] {
        stage.operations(topic).await;
    }
    // One that is gone and asked for again missed something meanwhile.
    stage.rewrite(two, "[Account]");
    let words = stage.completes().await;
    assert!(words.contains("a topic is no longer written to"), "{words}");
    stage.save("Account", &stage.ids("Account", 7), "Name", "missed");
    stage.completes().await;
    stage.rewrite("objects: [Account]", &format!("objects: {two}"));
    let words = stage.completes().await;
    assert!(words.contains("a topic is written to again"), "{words}");
    for topic in ["Account", "Account__ct"] {
        stage.operations(topic).await;
    }
}

#[tokio::test]
async fn a_field_that_the_configuration_asks_for_later_is_loaded_for() {
    let all = "[Account]";
    let few = "[ { name: Account, fields: { exclude: [Fax, Site] } } ]";
    let stage = small(few).await;
    stage.completes().await;
    stage.lacks(&["Fax", "Site"]).await;
    stage.rewrite(few, all);
    let words = stage.completes().await;
    assert!(words.contains("new-field"), "{words}");
    let rows = stage.rows("Account");
    assert_eq!(stage.operations("Account").await, json!({"R": 2 * rows}));
    stage.rewrite(all, few);
    let words = stage.completes().await;
    assert!(words.contains("fields are gone"), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_comes_beside_a_stream_of_changes_is_loaded_for_and_no_change_comes_twice() {
    let stage = Stage::of(Setup {
        // More than one query by REST brings: the load has pages.
        rows: &[("Account", 3_000)],
        ..Setup::new("[ { name: Account, capture: subscribe } ]")
    })
    .await;
    stage.control("settings", json!({"bulkPageCap": 200})).await;
    stage.field("Fax", "hide").await;
    let run = Run::start(&stage);
    run.reaches("Account", |report| report.phase == Phase::Live).await;
    let ids = stage.ids("Account", 40);
    stage.save("Account", &ids[..20], "Name", "before");
    run.reaches("Account", |report| report.published.updated >= 20).await;
    // The load takes a while.
    stage.fault("/results", 3, 8, json!({"delay": {"millis": 400}})).await;
    stage.field("Fax", "show").await;
    // The next event has another schema.
    stage.save("Account", &ids[..5], "Name", "the first with it");
    run.reaches("Account", |report| report.reload.is_some()).await;
    stage.save("Account", &ids[10..40], "Name", "meanwhile");
    run.reaches("Account", |report| report.reload.is_none() && report.published.updated >= 55).await;
    stage.save("Account", &ids[..10], "Name", "after");
    run.reaches("Account", |report| report.published.updated >= 65).await;
    run.stop().await;
    let operations = stage.operations("Account").await;
    assert_eq!(operations["U"], 65, "{operations}");
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_come_go_and_come_back_while_the_program_runs() {
    let stage = Stage::of(Setup {
        rows: &[("Invoice__c", 40), ("InvoiceLine__c", 30)],
        ..Setup::new("[ 'Invoice*__c', 'Late*__c' ]")
    })
    .await;
    let run = Run::start(&stage);
    for object in ["Invoice__c", "InvoiceLine__c"] {
        run.reaches(object, |report| report.phase == Phase::Live).await;
    }
    let org = stage.simulator.org();
    let template = org.object("Invoice__c").unwrap();
    let late = ObjectDef::new("Late__c", *b"a9Z", template.flags, template.all_fields().to_vec());
    org.add_object(late, 25).unwrap();
    run.reaches("Late__c", |report| report.phase == Phase::Live && report.published.refreshed == 25).await;
    stage.save("Late__c", &stage.ids("Late__c", 3), "Remarks__c", "changed");
    run.reaches("Late__c", |report| report.published.updated == 3).await;

    stage.control("settings", json!({"hiddenObjects": ["Invoice__c"]})).await;
    let gone = |report: &ObjectReport| {
        report.phase == Phase::Failed
            && report.error.as_ref().is_some_and(|error| error.code == "object-unknown")
    };
    run.reaches("Invoice__c", gone).await;
    stage.save("Late__c", &stage.ids("Late__c", 2), "Remarks__c", "others go on");
    run.reaches("Late__c", |report| report.published.updated == 5).await;
    stage.save("Invoice__c", &stage.ids("Invoice__c", 4), "Remarks__c", "unseen");
    // When this one is there, the program has seen a list without the other.
    let later = ObjectDef::new("Later__c", *b"a9Y", template.flags, template.all_fields().to_vec());
    org.add_object(later, 5).unwrap();
    run.reaches("Later__c", |report| report.phase == Phase::Live).await;
    stage.control("settings", json!({"hiddenObjects": []})).await;
    run.reaches("Invoice__c", |report| report.phase == Phase::Live && report.published.updated == 4).await;
    run.stop().await;
    for object in ["Invoice__c", "InvoiceLine__c", "Late__c"] {
        stage.equals_the_org(object).await;
    }
}

/// The pipeline in this process, with short days.
struct Run {
    board: Arc<Board>,
    stop: CancellationToken,
    task: JoinHandle<sf2kafka::Result<()>>,
}

impl Run {
    fn start(stage: &Stage) -> Self {
        let (board, stop) = (Arc::new(Board::new()), CancellationToken::new());
        let options = Options { day: DAY, ..Options::new(false, TopicAdmin::Kafka) };
        let mut settings = stage.settings();
        settings.salesforce.budget.daily_share = 1.0;
        let task = tokio::spawn(pipeline::run(Arc::new(settings), board.clone(), stop.clone(), options));
        Self { board, stop, task }
    }

    async fn reaches(&self, object: &str, holds: impl Fn(&ObjectReport) -> bool) {
        let there = self.board.wait_until(|snapshot| snapshot.object(object).is_some_and(&holds));
        if tokio::time::timeout(PATIENCE, there).await.is_err() {
            panic!("{object} does not get there: {:?}", self.board.snapshot().object(object));
        }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}
