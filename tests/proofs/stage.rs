//! A practice org, a pipeline of its own, the program as a child process, and the judge of its topics.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use serde_json::Value;
use simulator::org::OrgConfig;
use simulator::{Simulator, SimulatorConfig};

use crate::settling::settled;

/// For what the broker is asked.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Longer than anything takes that is waited for, on a machine busy with a build.
const PATIENCE: Duration = Duration::from_secs(120);

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `cargo xtask test`"))
}

/// The seed of this run; `SF2KAFKA_SEED` repeats an earlier one.
pub fn seed() -> u64 {
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    std::env::var("SF2KAFKA_SEED").map_or_else(|_| now(), |seed| seed.parse().unwrap())
}

/// Numbers that look random, the same for the same seed.
pub struct Draw(pub u64);

impl Draw {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ mixed >> 31) % bound
    }
}

fn partitions(consumer: &BaseConsumer, topic: &str) -> BTreeSet<i32> {
    let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT).unwrap();
    let partitions: BTreeSet<i32> =
        metadata.topics().iter().flat_map(|topic| topic.partitions()).map(|one| one.id()).collect();
    assert!(!partitions.is_empty(), "{topic} is not there");
    partitions
}

/// The names of a record schema's fields, in their order.
pub fn field_names(schema: &Value) -> Vec<String> {
    schema["fields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|field| field["name"].as_str().unwrap().to_owned())
        .collect()
}

/// Key and value, empty if there is none.
pub type Record = (Vec<u8>, Vec<u8>);

pub struct Stage {
    pub simulator: Simulator,
    pub name: String,
    folder: PathBuf,
}

impl Stage {
    /// `objects`, `defaults` and `kafka` are parts of the configuration, in its own notation.
    pub async fn new(org: OrgConfig, objects: &str, defaults: &str, kafka: &str) -> Self {
        Self::with(SimulatorConfig { org, ..SimulatorConfig::default() }, objects, defaults, kafka).await
    }

    pub async fn with(config: SimulatorConfig, objects: &str, defaults: &str, kafka: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (id, secret) = (config.client_id.clone(), config.client_secret.clone());
        let simulator = Simulator::start(config).await.unwrap();
        sf2kafka::salesforce::install_tls();
        let name = format!("proof-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(&name);
        std::fs::create_dir_all(&folder).unwrap();
        let text = format!(
            "name: {name}\n\
             salesforce: {{ login_domain: '{}', auth: client-credentials, client_id: {id}, client_secret: {secret}, \
             pubsub: {{ endpoint: '{}', tls: false }}, \
             budget: {{ daily_share: 1.0, concurrent: 10, per_second: 1000 }} }}\n\
             kafka: {{ bootstrap_servers: '{}', topics: {{ partitions: 3 }}, control: {{ partitions: 2 }}, {kafka} }}\n\
             schema_registry: {{ url: '{}' }}\n\
             http: {{ listen: 127.0.0.1:0 }}\n\
             defaults: {{ {defaults} }}\n\
             objects: {objects}\n",
            simulator.origin(),
            simulator.pubsub_origin().trim_start_matches("http://"),
            variable("KAFKA_BOOTSTRAP"),
            variable("SCHEMA_REGISTRY_URL"),
        );
        std::fs::write(folder.join("crm.yaml"), text).unwrap();
        Self { simulator, name, folder }
    }

    /// A call of the simulator's control interface (docs/simulator.md).
    pub async fn control(&self, path: &str, body: Value) {
        let url = format!("{}/{path}", self.simulator.control_url());
        let answer = reqwest::Client::new().post(url).json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path} {body}: {}", answer.text().await.unwrap());
    }

    /// What `/api/status` says, if the program serves it.
    pub async fn status(&self) -> Option<Value> {
        let words = self.words();
        let address =
            words.rsplit("status server listens address=").next()?.split_whitespace().next()?.to_owned();
        reqwest::get(format!("http://{address}/api/status")).await.ok()?.json().await.ok()
    }

    /// What the status says of each object, once it says what is wanted.
    pub async fn until(
        &self,
        what: &str,
        wanted: impl Fn(&BTreeMap<String, Value>) -> bool,
    ) -> BTreeMap<String, Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status().await.unwrap_or_default();
            let list = status["objects"].as_array().cloned().unwrap_or_default();
            let objects: BTreeMap<String, Value> = list
                .into_iter()
                .map(|object| (object["object"].as_str().unwrap().to_owned(), object))
                .collect();
            if wanted(&objects) {
                return objects;
            }
            assert!(Instant::now() < deadline, "never: {what}: {objects:#?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Every version of a topic's value schema, the first one first.
    pub async fn versions(&self, target: &str) -> Vec<Value> {
        let subject =
            format!("{}/subjects/{}.{target}-value/versions", variable("SCHEMA_REGISTRY_URL"), self.name);
        let numbers: Value = reqwest::get(&subject).await.unwrap().json().await.unwrap();
        let mut versions = Vec::new();
        for number in numbers.as_array().into_iter().flatten() {
            let version: Value =
                reqwest::get(format!("{subject}/{number}")).await.unwrap().json().await.unwrap();
            versions.push(serde_json::from_str(version["schema"].as_str().unwrap()).unwrap());
        }
        versions
    }

    /// What was told beside the records, by object and kind.
    pub fn notices(&self) -> BTreeMap<(String, String), Vec<Value>> {
        let mut notices: BTreeMap<_, Vec<Value>> = BTreeMap::new();
        for (key, value) in self.committed("notifications") {
            let notice: Value = serde_json::from_slice(&value).unwrap();
            let kind = notice["notice"].as_str().unwrap().to_owned();
            notices.entry((String::from_utf8(key).unwrap(), kind)).or_default().push(notice);
        }
        notices
    }

    /// For a pipeline in this process.
    pub fn settings(&self) -> sf2kafka::config::Settings {
        sf2kafka::config::load(&self.folder.join("crm.yaml")).unwrap()
    }

    /// Somebody changes the configuration.
    pub fn rewrite(&self, old: &str, new: &str) {
        let file = self.folder.join("crm.yaml");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(old), "{text}");
        std::fs::write(&file, text.replace(old, new)).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sf2kafka"));
        command.args(arguments).arg("-c").arg(self.folder.join("crm.yaml")).env_remove("SF2KAFKA_LOG");
        command
    }

    /// Starts the program; what it says goes to a file that a failure names.
    pub fn start(&self, arguments: &[&str]) -> Running {
        let log = self.folder.join("words.log");
        let words = File::options().create(true).append(true).open(&log).unwrap();
        let child = self.command(arguments).stdout(Stdio::null()).stderr(words).spawn().unwrap();
        Running { child, log, peak_kb: 0 }
    }

    /// What stands in the control topic about an object; none: no position, or no control topic yet.
    pub async fn position(&self, object: &str) -> Option<Value> {
        let mut command = self.command(&["offsets", "list"]);
        command.args(["--output", "json"]);
        let Output { status, stdout, stderr } =
            tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let words = String::from_utf8_lossy(&stderr);
        if !status.success() && words.contains("error[topic-missing]") {
            return None;
        }
        assert!(status.success(), "offsets list: {words}");
        let list: Vec<Value> = serde_json::from_slice(&stdout).unwrap();
        list.into_iter().find(|position| position["object"] == object)
    }

    /// Everything that was said on stderr so far.
    pub fn words(&self) -> String {
        std::fs::read_to_string(self.folder.join("words.log")).unwrap()
    }

    fn consumer(&self) -> BaseConsumer {
        ClientConfig::new()
            .set("bootstrap.servers", variable("KAFKA_BOOTSTRAP"))
            .set("group.id", &self.name)
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .set("enable.auto.commit", "false")
            .create()
            .unwrap()
    }

    /// Where each partition of a topic ends.
    pub fn ends(&self, topic: &str) -> BTreeMap<i32, i64> {
        let consumer = self.consumer();
        let topic = format!("{}.{topic}", self.name);
        let end =
            |partition| (partition, settled(|| consumer.fetch_watermarks(&topic, partition, TIMEOUT)).1);
        partitions(&consumer, &topic).into_iter().map(end).collect()
    }

    /// Key and value of every committed record of a small topic.
    pub fn committed(&self, topic: &str) -> Vec<Record> {
        self.reader(topic).1
    }

    /// A consumer that has read a topic and sees the next record as it is committed. A new one for each look would take half
    /// a second to learn that a partition is at its end.
    pub fn follower(&self, topic: &str) -> Follower {
        Follower(self.reader(topic).0)
    }

    /// Of committed records: a consumer at the end, and what it read.
    fn reader(&self, topic: &str) -> (BaseConsumer, Vec<Record>) {
        let consumer = self.consumer();
        let topic = format!("{}.{topic}", self.name);
        let mut open = partitions(&consumer, &topic);
        let mut wanted = TopicPartitionList::new();
        for partition in &open {
            wanted.add_partition_offset(&topic, *partition, Offset::Beginning).unwrap();
        }
        consumer.assign(&wanted).unwrap();
        let mut records = Vec::new();
        while !open.is_empty() {
            match consumer.poll(TIMEOUT).expect("the topic can be read to its end") {
                Ok(message) => {
                    let bytes = |part: Option<&[u8]>| part.unwrap_or_default().to_vec();
                    records.push((bytes(message.key()), bytes(message.payload())));
                }
                Err(KafkaError::PartitionEOF(partition)) => drop(open.remove(&partition)),
                Err(error) => panic!("{topic}: {error}"),
            }
        }
        (consumer, records)
    }

    /// What a script of `tests/python` says of a topic.
    async fn ask(&self, script: &str, topic: &str, more: &[&str]) -> Value {
        let topic = format!("{}.{topic}", self.name);
        let mut command = Command::new(variable("SF2KAFKA_PYTHON"));
        command.arg(format!("{}/tests/python/{script}", env!("CARGO_MANIFEST_DIR")));
        command.args(["--bootstrap", &variable("KAFKA_BOOTSTRAP")]);
        command.args(["--registry", &variable("SCHEMA_REGISTRY_URL"), "--topic", &topic]).args(more);
        let Output { status, stdout, stderr } =
            tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let words = String::from_utf8_lossy(&stderr).into_owned();
        assert!(matches!(status.code(), Some(0 | 3)), "{topic} cannot be judged: {words}");
        serde_json::from_slice(&stdout).unwrap()
    }

    /// What consumers of the first, the newest and of no schema see of a topic (`three_readers.py`).
    pub async fn three_readers(&self, topic: &str) -> Value {
        self.ask("three_readers.py", topic, &[]).await
    }

    /// What the independent consumer finds in a topic.
    pub async fn judge(&self, topic: &str, more: &[&str]) -> Value {
        let report = self.ask("verify_topic.py", topic, more).await;
        eprintln!(
            "{topic}: {} records, {} folded rows, {} in the org, operations {}, sources {}, repeats {}",
            report["records"],
            report["folded_rows"],
            report["truth"]["rows"],
            report["operations"],
            report["sources"],
            report["repeats"],
        );
        report
    }

    /// The same, and all of it must hold: every row of the org, every field, no record twice, no content twice.
    pub async fn judge_exactly_once(&self, object: &str, topic: &str) -> Value {
        let truth = format!("{}/truth/{object}", self.simulator.control_url());
        let report = self.judge(topic, &["--truth", &truth]).await;
        assert!(report["holds"] == true, "{report:#}\nwords: {}", self.folder.join("words.log").display());
        assert_eq!(report["repeats"], serde_json::json!({}), "{report:#}");
        report
    }
}

pub struct Follower(BaseConsumer);

impl Follower {
    /// Whether a record is committed within this time. It blocks.
    pub fn sees_one(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            match self.0.poll(left) {
                Some(Ok(_)) => return true,
                None | Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(Err(error)) => panic!("the topic cannot be followed: {error}"),
            }
        }
        false
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

pub struct Running {
    child: Child,
    log: PathBuf,
    peak_kb: u64,
}

impl Running {
    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// Ends it as a power cut would.
    pub async fn kill(mut self) {
        self.child.kill().unwrap();
        tokio::task::spawn_blocking(move || self.child.wait().unwrap()).await.unwrap();
    }

    /// Asks it to end, and wants it to end well.
    pub async fn stop(self, within: Duration) {
        self.signal("-TERM");
        self.ends_well(within).await;
    }

    /// Waits for its end, which must be a good one; its peak memory in MB.
    pub async fn ends_well(mut self, within: Duration) -> u64 {
        let deadline = Instant::now() + within;
        let status: ExitStatus = loop {
            self.look_at_memory();
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > deadline {
                self.child.kill().unwrap();
                panic!("it does not end within {within:?}; words: {}", self.log.display());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        assert!(status.success(), "it ended with {status}; words: {}", self.log.display());
        self.peak_kb / 1024
    }

    /// The kernel keeps the highest mark of resident memory: only the last look counts.
    fn look_at_memory(&mut self) {
        let Ok(status) = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())) else { return };
        let mark = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        if let Some(kb) = mark.and_then(|mark| mark.trim().trim_end_matches(" kB").parse().ok()) {
            self.peak_kb = kb;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Only after a failed test is anything left to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
