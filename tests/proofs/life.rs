//! A life: transactions of several objects followed by subscription, while streams end in every way or fall silent, events
//! go missing, positions expire, fields come, and the program is stopped and killed. In the end the topics equal the org,
//! and every change of the org's own log is in them once, or was repaired and that was told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use simulator::SimulatorConfig;
use simulator::org::{Mix, OrgConfig, Traffic, TrafficConfig};
use simulator::pubsub::PubSubConfig;

use crate::stage::{Draw, Running, Stage, seed};

const OBJECTS: [(&str, &str); 4] =
    [("Account", "Account"), ("Contact", "Contact"), ("Case", "Case"), ("Invoice__c", "Invoice_c")];

/// Until all is loaded and followed, on a machine busy with a build.
const LONGEST_START: Duration = Duration::from_secs(240);

/// How long it lives; ten minutes when it is to be shown in full.
fn length() -> Duration {
    let seconds = std::env::var("SF2KAFKA_LIFE_SECONDS").map_or(60, |seconds| seconds.parse().unwrap());
    Duration::from_secs(seconds)
}

struct Life {
    stage: Stage,
    draw: Draw,
    fields: u64,
}

impl Life {
    fn any_object(&mut self) -> &'static str {
        OBJECTS[self.draw.below(OBJECTS.len() as u64) as usize].0
    }

    /// Something goes wrong, or changes, while the program runs.
    async fn trouble(&mut self) -> &'static str {
        let object = self.any_object();
        let topic = sf2kafka::salesforce::pubsub::change_topic(object);
        let ending = |action: Value| json!({ "topic": topic, "action": action, "times": 1 });
        let faults = "pubsub/faults";
        match self.draw.below(20) {
            0 | 1 => self.stage.control(faults, ending(json!({ "status": { "code": "UNAVAILABLE" } }))).await,
            2 => self.stage.control(faults, ending(json!({ "reset": {} }))).await,
            3 => self.stage.control(faults, ending(json!({ "goAway": {} }))).await,
            4 => self.stage.control(faults, ending(json!("close"))).await,
            5 => {
                // It ends with a ping that is not answered, or with the next restart.
                self.stage.control(faults, ending(json!("silence"))).await;
                return "silence";
            }
            6..=8 => {
                self.stage.control("pubsub/events", json!({ "duplicate": "last" })).await;
                return "a duplicate";
            }
            9 | 10 => {
                self.stage
                    .control("pubsub/events", json!({ "object": object, "changeType": "GAP_OVERFLOW" }))
                    .await;
                return "an overflow";
            }
            11..=13 => {
                let row = self.stage.simulator.org().truth_rows(object).unwrap().next();
                let id = row.and_then(|row| row["Id"].as_str().map(str::to_owned));
                let order = json!({ "object": object, "changeType": "GAP_UPDATE", "ids": [id.unwrap()] });
                self.stage.control("pubsub/events", order).await;
                return "a gap";
            }
            14 | 15 => {
                self.fields += 1;
                let field = format!("Life{}__c", self.fields);
                let order = json!({ "object": object, "field": field, "action": "add", "type": "string" });
                self.stage.control("fields", order).await;
                return "a field";
            }
            _ => self.stage.control(faults, ending(json!("end"))).await,
        }
        "the end of a stream"
    }

    /// Whether all objects are loaded and followed.
    async fn follows(&self) -> bool {
        let status = self.stage.status().await.unwrap_or_default();
        let objects = status["objects"].as_array().map_or(&[][..], Vec::as_slice);
        objects.len() == OBJECTS.len() && objects.iter().all(|object| object["phase"] == "live")
    }

    /// The program is away for a while; perhaps its positions are refused when it comes back.
    async fn restart(&mut self, running: Running) -> Running {
        if self.draw.below(2) == 0 {
            running.kill().await;
        } else {
            running.stop(Duration::from_secs(60)).await;
        }
        if self.draw.below(2) == 0 {
            self.stage.control("pubsub/replayIds/invalidate", json!({})).await;
        }
        self.stage.start(&["run"])
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_life_of_faults_and_restarts_leaves_topics_that_equal_the_org() {
    live("full").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_life_with_changed_fields_alone_leaves_every_change_in_the_topics() {
    live("changed-only").await;
}

async fn live(after: &str) {
    let seed = seed();
    eprintln!("seed {seed}");
    let org = OBJECTS
        .iter()
        .fold(OrgConfig::default().with_seed(seed), |org, (object, _)| org.with_rows(object, 1_500));
    let pubsub = PubSubConfig {
        selected: OBJECTS.iter().map(|(object, _)| (*object).to_owned()).collect(),
        ..PubSubConfig::default()
    };
    let config = SimulatorConfig { org, pubsub, ..SimulatorConfig::default() };
    // A formula over the parent moves without a save: no feed of changes shows that.
    let fields = |object| match object {
        "Invoice__c" => "{ name: Invoice__c, fields: { exclude: [ Account_Name__c ] } }",
        other => other,
    };
    let objects = OBJECTS.map(|(object, _)| fields(object)).join(", ");
    let defaults = format!(
        "capture: subscribe, after: {after}, refetch_wait: 300ms, poll: {{ interval: 2s, max_interval: 2s }}"
    );
    let kafka = "properties: { group.instance.id: life }";
    let stage = Stage::with(config, &format!("[ {objects} ]"), &defaults, kafka).await;
    let mut life = Life { stage, draw: Draw(seed), fields: 0 };

    let stop = Arc::new(AtomicBool::new(false));
    let traffic = {
        let config = TrafficConfig {
            seed,
            objects: OBJECTS.map(|(object, _)| object.to_owned()).to_vec(),
            // Saves that only move the stamp make no event; hard deletions are found in the end.
            mix: Mix { touch: 0, ..Mix::default() },
            lagging_one_in: 6,
            largest_lag: Duration::from_secs(20),
            ..TrafficConfig::default()
        };
        let mut traffic = Traffic::new(life.stage.simulator.org(), config).unwrap();
        let stop = stop.clone();
        std::thread::spawn(move || traffic.run_for(40.0, Duration::from_secs(86_400), &stop))
    };
    let mut running = life.stage.start(&["run"]);
    let mut over = Instant::now() + length();
    let last = over + LONGEST_START;
    let (mut troubles, mut restarts, mut followed) = (BTreeMap::new(), 0, false);
    let mut next_restart = Instant::now() + Duration::from_secs(12);
    while Instant::now() < over {
        // The moments of faults are the test.
        tokio::time::sleep(Duration::from_millis(500 + life.draw.below(2_500))).await;
        if !followed {
            // What nobody follows yet cannot be missed: the life is counted from when all is loaded.
            assert!(Instant::now() < last, "never all loaded and followed: {:#?}", life.stage.status().await);
            followed = life.follows().await;
            over = Instant::now() + length();
            if followed {
                next_restart = Instant::now() + Duration::from_secs(10);
            }
        }
        // The first load is interrupted once: a program that is ended each time before it has begun shows nothing. Later loads, of
        // fields that came, are interrupted as it falls out.
        if Instant::now() >= next_restart && (restarts == 0 || followed) {
            running = life.restart(running).await;
            restarts += 1;
            next_restart = Instant::now() + Duration::from_secs(10 + life.draw.below(15));
        } else {
            *troubles.entry(life.trouble().await).or_insert(0) += 1;
        }
    }
    // A process that has just begun does not hear a signal yet.
    tokio::time::sleep(Duration::from_secs(2)).await;
    stop.store(true, Ordering::Relaxed);
    let changes = traffic.join().unwrap();
    eprintln!("{changes} changes, {restarts} restarts, {troubles:?}");

    // What lags becomes visible; then a run of its own ends when all up to its start is published, deletions included.
    life.stage.simulator.org().clock().advance(Duration::from_secs(300));
    running.stop(Duration::from_secs(60)).await;
    life.stage.control("pubsub/settings", json!({ "keepaliveSeconds": 2 })).await;
    life.stage.start(&["run", "--once"]).ends_well(Duration::from_secs(300)).await;
    life.stage.simulator.org().clock().advance(Duration::from_secs(300));
    life.stage.start(&["run", "--once"]).ends_well(Duration::from_secs(300)).await;
    let notices = life.stage.notices();
    let told = |object: &str, kind: &str| {
        notices.get(&(object.to_owned(), kind.to_owned())).map_or(&[][..], Vec::as_slice)
    };
    let words = life.stage.words();
    let logged = |object: &str, text: &str| {
        words
            .lines()
            .filter(|line| line.contains(text) && line.contains(&format!("object={object} ")))
            .count()
    };
    for (object, target) in OBJECTS {
        let control = life.stage.simulator.control_url();
        let (truth, log) = (format!("{control}/truth/{object}"), format!("{control}/changes"));
        let repaired = told(object, "gap-repaired");
        let mut judged = vec!["--log", &log, "--object", object];
        for gap in repaired {
            judged.extend(["--gap", gap["from"].as_str().unwrap(), gap["to"].as_str().unwrap()]);
        }
        // Records that carry single fields do not add up to what no event tells of.
        match after {
            "full" => judged.extend(["--truth", &truth]),
            _ => judged.push("--ids-only"),
        }
        let report = life.stage.judge(target, &judged).await;
        eprintln!("{}", report["log"]);
        // Two events within one reading of their record may be published with the same content: it is the event that
        // must not come twice, and no stamp that may fall.
        assert!(report["holds"] == true, "{object}, seed {seed}: {}\n{report:#}", report["log"]);
        let rows = life.stage.simulator.org().truth_rows(object).unwrap().count();
        assert_eq!(report["folded_rows"], rows, "{report:#}");
        assert!(report["log"]["as_event"].as_u64() > Some(0), "{report:#}");
        let gaps = told(object, "gap-found").len();
        let rereads = told(object, "records-reread");
        let read: u64 = rereads.iter().map(|notice| notice["records"].as_u64().unwrap()).sum();
        let reread = report["sources"]["refetch"].as_u64().unwrap_or(0);
        assert!(
            reread <= read || gaps > 0,
            "{reread} records of {object} were read again, told of were {read}"
        );
        let events = rereads.iter().filter(|notice| notice["reason"] == "event").count();
        assert!(repaired.len() >= usize::from(gaps > 0), "{object}: {notices:?}");
        assert!(logged(object, "a stretch of changes is read again") >= gaps, "{object}: {notices:?}");
        assert!(logged(object, "events did not tell of") >= events, "{object}: {notices:?}");
    }
}
