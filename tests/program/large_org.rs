//! An org of a thousand objects: how much `discover` asks of it, and what it says.
//!
//! In: the practice Salesforce with 900 more custom objects. Out: a failure if the org counted more calls than promised, or
//! other calls than the command says.

use std::process::Command;
use std::time::Instant;

use serde_json::Value;
use simulator::org::OrgConfig;
use simulator::{Simulator, SimulatorConfig};

struct Stage {
    simulator: Simulator,
    file: std::path::PathBuf,
}

impl Stage {
    async fn of(name: &str, custom_objects: u16, chosen: &str) -> Self {
        sf2kafka::salesforce::install_tls();
        let org = OrgConfig::default().with_custom_objects(custom_objects);
        let simulator =
            Simulator::start(SimulatorConfig { org, ..SimulatorConfig::default() }).await.unwrap();
        let file = std::env::temp_dir().join(format!("sf2kafka-large-{}-{name}.yaml", std::process::id()));
        let text = format!(
            "name: crm\nsalesforce: {{ login_domain: '{}', auth: client-credentials, \
             client_id: simulator-client, client_secret: simulator-secret, \
             pubsub: {{ endpoint: '{}', tls: false }} }}\n\
             kafka: {{ bootstrap_servers: '127.0.0.1:1' }}\nschema_registry: {{ url: 'http://127.0.0.1:1' }}\n\
             http: {{ listen: off }}\n{chosen}\n",
            simulator.origin(),
            simulator.pubsub_origin().trim_start_matches("http://"),
        );
        std::fs::write(&file, text).unwrap();
        Self { simulator, file }
    }

    async fn discover(&self, more: &[&'static str]) -> (String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sf2kafka"));
        command.arg("discover").args(more).arg("-c").arg(&self.file).env_remove("SF2KAFKA_LOG");
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let words = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{words}");
        (String::from_utf8(output.stdout).unwrap(), words)
    }

    async fn billed(&self) -> u64 {
        let url = format!("{}/counters", self.simulator.control_url());
        let text = reqwest::get(url).await.unwrap().text().await.unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["calls"].as_u64().unwrap()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn discover_describes_a_thousand_objects_by_some_fifty_calls_and_says_how_many() {
    let stage = Stage::of("discover", 910, "objects: [ 'Bulk*__c' ]").await;
    let before = stage.billed().await;
    let began = Instant::now();
    let (table, _) = stage.discover(&[]).await;
    let (took, calls) = (began.elapsed(), stage.billed().await - before);
    let last = table.lines().last().unwrap();
    eprintln!("{last} in {took:?}");
    // One for the list, one for all row counts, ten for what that leaves out, one for subscriptions, 40 for describes.
    assert!(calls <= 57, "{calls} calls");
    let is_ours = |line: &&str| line.starts_with("Bulk") && line.contains("__c ");
    let objects = table.lines().filter(is_ours).count();
    assert_eq!(objects, 910);
    let said = format!("; {calls} calls");
    assert!(last.ends_with(&said), "the org counted {calls}: {last}");
    // Beside them as many change events, which are described by nobody.
    let (all, _) = last.split_once(" objects, ").unwrap();
    assert!(all.replace(',', "").parse::<u64>().unwrap() >= 1_800, "{last}");
    assert!(took.as_secs() < 30, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn discover_says_how_each_special_object_is_copied_and_what_clouds_lack() {
    let stage = Stage::of("special", 0, "clouds: [ commerce, service ]\nobjects: [ { name: 'Ord*', method: full-load } ]\nexclude: [ CaseComment ]").await;
    let (json, words) = stage.discover(&["--output", "json"]).await;
    assert!(words.contains("of `clouds`, the org does not have"), "{words}");
    assert!(words.contains("OrderSummary") && !words.contains("WebCart,"), "{words}");
    let found: Vec<Value> = serde_json::from_str(&json).unwrap();
    let of = |name: &str| found.iter().find(|object| object["object"] == name).unwrap();
    for (object, capture, load, reason) in [
        ("ContentDocumentLink", "full-load", "rest by ContentDocument", "only by ContentDocumentId"),
        (
            "ContentFolderItem",
            "full-load",
            "rest by ContentFolder",
            "loaded once and not followed: Salesforce answers queries on it only by ParentContentFolderId",
        ),
        (
            "KnowledgeArticleVersion",
            "poll",
            "rest by PublishStatus",
            "replaced by a newer shows at a load only",
        ),
        ("Account_Setting__mdt", "poll", "rest", "polled by SystemModstamp"),
        ("AccountShare", "poll", "bulk", "deletions are not seen"),
        ("AccountHistory", "poll", "bulk", "polled by CreatedDate"),
        ("AsyncApexJob", "full-load", "bulk", "no field that rises with each change"),
        ("CaseStatus", "poll", "rest", "polled by SystemModstamp"),
        ("Practice_Setting__c", "poll", "bulk", "polled by SystemModstamp"),
    ] {
        let found = of(object);
        assert_eq!((&found["capture"], &found["load"]), (&capture.into(), &load.into()), "{found}");
        assert!(found["reason"].as_str().unwrap().contains(reason), "{found}");
    }
    for (object, reason) in [
        ("Vote", "only with a filter by ParentId"),
        ("Reading__b", "big object"),
        ("Phone__x", "external object"),
        ("AppDefinition", "DurableId"),
        ("UserRecordAccess", "only with a filter by UserId"),
        ("DatacloudAddress", "does not run queries on it"),
        ("AccountChangeEvent", "change event of another object"),
    ] {
        let found = of(object);
        assert_eq!(found["capture"], "unsupported", "{found}");
        assert!(found["reason"].as_str().unwrap().contains(reason), "{found}");
    }
    // Of `clouds`; the configuration's own entry goes before them, and `exclude` takes away.
    assert_eq!((&of("WebCart")["chosen"], &of("Case")["chosen"]), (&true.into(), &true.into()));
    assert_eq!((&of("CaseComment")["chosen"], &of("Lead")["chosen"]), (&false.into(), &false.into()));
    assert_eq!(of("OrderItem")["reason"], "the configuration says `method: full-load`");
}
