//! What the measurements share: a practice org, the program as a child process, a `read_committed` consumer.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use simulator::org::OrgConfig;
use simulator::pubsub::{Habits, PubSubConfig};
use simulator::{Simulator, SimulatorConfig};

pub struct Program(Child);

#[allow(dead_code, reason = "not every measurement ends its program in order")]
impl Program {
    /// Waits until it ends by itself, and wants it to end well.
    pub fn ends_well(mut self) {
        let status = self.0.wait().unwrap();
        assert!(status.success(), "the program ended with {status}");
    }

    /// Asks it to end, and wants it to end well.
    pub fn stop(self) {
        let asked = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status().unwrap();
        assert!(asked.success());
        self.ends_well();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

pub struct Stage {
    pub simulator: Simulator,
    pub name: String,
    file: PathBuf,
}

impl Stage {
    /// These objects are captured by subscription, `rows` of each at the start.
    #[allow(dead_code, reason = "not every measurement follows by subscription")]
    pub async fn new(purpose: &str, objects: &[&str], rows: u64, after: &str, habits: Habits) -> Self {
        let empty = OrgConfig { deleted_one_in: 0, ..OrgConfig::default() };
        let org = objects.iter().fold(empty, |org, object| org.with_rows(object, rows));
        let selected = objects.iter().map(|object| (*object).to_owned()).collect();
        let pubsub = PubSubConfig { selected, habits, ..PubSubConfig::default() };
        let config = SimulatorConfig { org, pubsub, ..SimulatorConfig::default() };
        let defaults = format!("capture: subscribe, after: {after}");
        let name = format!("{purpose}-{}-{after}", std::process::id());
        Self::with(config, name, &objects.join(", "), &defaults, "").await
    }

    /// `objects`, `defaults` and `kafka` (begins with a comma) are parts of the configuration, in its own notation.
    pub async fn with(
        config: SimulatorConfig,
        name: String,
        objects: &str,
        defaults: &str,
        kafka: &str,
    ) -> Self {
        let (id, secret) = (config.client_id.clone(), config.client_secret.clone());
        let simulator = Simulator::start(config).await.unwrap();
        let text = format!(
            "name: {name}\n\
             salesforce: {{ login_domain: '{}', auth: client-credentials, client_id: {id}, client_secret: {secret}, \
             pubsub: {{ endpoint: '{}', tls: false }}, budget: {{ per_second: 1000 }} }}\n\
             kafka: {{ bootstrap_servers: '{}'{kafka} }}\n\
             schema_registry: {{ url: '{}' }}\n\
             http: {{ listen: 127.0.0.1:0 }}\n\
             defaults: {{ {defaults} }}\n\
             objects: [ {objects} ]\n",
            simulator.origin(),
            simulator.pubsub_authority(),
            variable("KAFKA_BOOTSTRAP"),
            variable("SCHEMA_REGISTRY_URL"),
        );
        let file = std::env::temp_dir().join(format!("{name}.yaml"));
        std::fs::write(&file, text).unwrap();
        Self { simulator, name, file }
    }

    pub fn start(&self) -> Program {
        self.run(&[])
    }

    /// `run`, with more arguments.
    pub fn run(&self, more: &[&str]) -> Program {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sf2kafka"));
        command.args(["run", "-c"]).arg(&self.file).args(more);
        Program(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    pub fn topic(&self, object: &str) -> String {
        format!("{}.{object}", self.name)
    }

    /// Reads these topics from their beginning; of none, the caller says what.
    pub fn consumer(&self, objects: &[&str]) -> BaseConsumer {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", variable("KAFKA_BOOTSTRAP"))
            .set("group.id", &self.name)
            .set("isolation.level", "read_committed")
            .set("auto.offset.reset", "earliest")
            .set("fetch.wait.max.ms", "10")
            .set("topic.metadata.refresh.interval.ms", "1000")
            .set("allow.auto.create.topics", "false")
            .set("enable.partition.eof", "true")
            .create()
            .unwrap();
        let topics: Vec<String> = objects.iter().map(|object| self.topic(object)).collect();
        if topics.is_empty() {
            return consumer;
        }
        consumer.subscribe(&topics.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
        consumer
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}
