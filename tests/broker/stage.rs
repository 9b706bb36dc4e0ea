//! A practice org, a pipeline of its own, and the program run on both as a person runs it.
//!
//! In: what to capture, faults. Out: exit codes, the words on stderr, and the verdict of the independent consumer
//! (tests/python/verify_topic.py) on what is in the topics. Everything a stage starts ends with it.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use simulator::org::{Change, Id, OrgConfig, Transaction, Value as Cell};
use simulator::{Simulator, SimulatorConfig};
use tokio::sync::watch;

use crate::services::{bootstrap, registry_url, unique, variable};

/// Longer than anything takes that is waited for, on a machine busy with a build.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a stage is made from; the fields are texts of the configuration file.
pub struct Setup {
    pub objects: &'static str,
    pub rows: &'static [(&'static str, u64)],
    pub bootstrap: String,
    pub registry_url: String,
    /// Beside the ones below.
    pub kafka: &'static str,
}

impl Setup {
    pub fn new(objects: &'static str) -> Self {
        Self {
            objects,
            rows: &[("Account", 300), ("Invoice__c", 40)],
            bootstrap: bootstrap(),
            registry_url: registry_url(),
            kafka: "",
        }
    }
}

pub struct Stage {
    pub simulator: Simulator,
    pub name: String,
    file: PathBuf,
    bootstrap: String,
}

impl Stage {
    pub async fn new(objects: &'static str) -> Self {
        Self::of(Setup::new(objects)).await
    }

    pub async fn of(setup: Setup) -> Self {
        Self::with(setup, SimulatorConfig::default()).await
    }

    /// The same, with logins and habits of the org's own; its rows are the setup's.
    pub async fn with(setup: Setup, config: SimulatorConfig) -> Self {
        sf2kafka::salesforce::install_tls();
        let org =
            setup.rows.iter().fold(OrgConfig::default(), |org, (object, rows)| org.with_rows(object, *rows));
        let config = SimulatorConfig { org, ..config };
        let (id, secret) = (config.client_id.clone(), config.client_secret.clone());
        let simulator = Simulator::start(config).await.unwrap();
        let name = unique("stage");
        let text = format!(
            "name: {name}\n\
             salesforce: {{ login_domain: '{}', auth: client-credentials, client_id: {id}, client_secret: {secret}, \
             pubsub: {{ endpoint: '{}', tls: false }} }}\n\
             kafka: {{ bootstrap_servers: '{}', topics: {{ partitions: 2 {} }}, control: {{ partitions: 2 }} }}\n\
             schema_registry: {{ url: '{}' }}\n\
             http: {{ listen: 127.0.0.1:0 }}\n\
             defaults: {{ capture: poll, poll: {{ interval: 1s, max_interval: 1s }} }}\n\
             objects: {}\n",
            simulator.origin(),
            simulator.pubsub_authority(),
            setup.bootstrap,
            setup.kafka,
            setup.registry_url,
            setup.objects,
        );
        let file = std::env::temp_dir().join(format!("{name}.yaml"));
        std::fs::write(&file, text).unwrap();
        Self { simulator, name, file, bootstrap: setup.bootstrap }
    }

    /// The configuration file, as messages name it.
    pub fn file(&self) -> &str {
        self.file.to_str().unwrap()
    }

    /// Somebody corrects, or spoils, the configuration.
    pub fn rewrite(&self, old: &str, new: &str) {
        let text = std::fs::read_to_string(&self.file).unwrap();
        assert!(text.contains(old), "{text}");
        std::fs::write(&self.file, text.replace(old, new)).unwrap();
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sf2kafka"));
        command.args(arguments).arg("-c").arg(&self.file).env_remove("SF2KAFKA_LOG");
        command
    }

    /// Exit code, stdout and stderr of a command that ends by itself.
    pub async fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = self.command(arguments);
        let Output { status, stdout, stderr } =
            tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    }

    /// `run --once`, which must do all there is to do; gives the words on stderr.
    pub async fn completes(&self) -> String {
        let (code, data, words) = self.run(&["run", "--once"]).await;
        assert_eq!((code, data.as_str()), (Some(0), ""), "{words}");
        words
    }

    /// `run --once`, which must fail; gives the words on stderr.
    pub async fn fails(&self, code: i32) -> String {
        let (ended, data, words) = self.run(&["run", "--once"]).await;
        assert_eq!((ended, data.as_str()), (Some(code), ""), "{words}");
        words
    }

    /// A command that goes on until it is stopped.
    pub fn start(&self, arguments: &[&str]) -> Running {
        Running::start(self.command(arguments))
    }

    /// The same with a variable of its own.
    pub fn start_with(&self, arguments: &[&str], name: &str, value: &str) -> Running {
        let mut command = self.command(arguments);
        command.env(name, value);
        Running::start(command)
    }

    /// The same with everything logged that this asks for.
    pub fn start_at(&self, arguments: &[&str], level: &str) -> Running {
        let mut command = self.command(arguments);
        command.env("SF2KAFKA_LOG", level);
        Running::start(command)
    }

    pub fn topic(&self, object: &str) -> String {
        format!("{}.{object}", self.name)
    }

    /// A call of the simulator's control interface (docs/simulator.md).
    pub async fn control(&self, what: &str, order: Value) {
        let url = format!("{}/{what}", self.simulator.control_url());
        let answer = reqwest::Client::new().post(url).body(order.to_string()).send().await.unwrap();
        assert!(answer.status().is_success(), "{what} {order}: {}", answer.text().await.unwrap());
    }

    /// Calls whose path and parameters contain this meet `action`, `times` times after `after` went by.
    pub async fn fault(&self, contains: &str, after: u64, times: u64, action: Value) {
        let rule = json!({"contains": contains, "after": after, "times": times, "action": action});
        self.control("faults", rule).await;
    }

    pub async fn clear_faults(&self) {
        let url = format!("{}/faults", self.simulator.control_url());
        assert!(reqwest::Client::new().delete(url).send().await.unwrap().status().is_success());
    }

    pub fn rows(&self, object: &str) -> u64 {
        self.simulator.org().truth_rows(object).unwrap().count() as u64
    }

    /// Ids of so many live records.
    pub fn ids(&self, object: &str, count: usize) -> Vec<Id> {
        let rows = self.simulator.org().truth_rows(object).unwrap().take(count);
        rows.map(|row| Id::parse(row["Id"].as_str().unwrap()).unwrap()).collect()
    }

    /// Saves one text field of each of these records, in one transaction.
    pub fn save(&self, object: &str, ids: &[Id], field: &str, text: &'static str) {
        let change = |id: &Id| Change::Update {
            object: object.to_owned(),
            id: *id,
            fields: vec![(field.to_owned(), Cell::text(text))],
        };
        let changes = ids.iter().map(change).collect();
        self.simulator.org().commit(Transaction { changes, ..Transaction::default() }).unwrap();
    }

    /// The independent consumer's report on an object's topic, which must hold every rule and equal the org.
    /// `object` as Salesforce names it.
    pub async fn equals_the_org(&self, object: &str) -> Value {
        self.judged(object).await.unwrap_or_else(|why| panic!("{why}"))
    }

    /// The same, or why it does not.
    pub async fn judged(&self, object: &str) -> Result<Value, String> {
        self.judged_in(&object.replace("__c", "_c"), object).await
    }

    /// The same of a topic with another name behind the pipeline's.
    pub async fn judged_in(&self, topic: &str, object: &str) -> Result<Value, String> {
        let topic = self.topic(topic);
        let truth = format!("{}/truth/{object}", self.simulator.control_url());
        let mut command = Command::new(variable("SF2KAFKA_PYTHON"));
        command
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/verify_topic.py"))
            .args(["--bootstrap", &self.bootstrap, "--registry", &registry_url()])
            .args(["--topic", &topic, "--truth", &truth])
            .env("PYTHONDONTWRITEBYTECODE", "1");
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let (report, words) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if output.status.code() != Some(0) {
            return Err(format!("topic {topic}\n{report}{words}"));
        }
        Ok(serde_json::from_str(&report).unwrap())
    }

    /// For a pipeline in this process.
    pub fn settings(&self) -> sf2kafka::config::Settings {
        sf2kafka::config::load(&self.file).unwrap()
    }

    /// The topic equals the org, and holds each of its rows once, loaded, and nothing else.
    pub async fn holds_each_row_once(&self, object: &str) {
        let report = self.equals_the_org(object).await;
        let rows = self.rows(object);
        assert!(rows > 0, "an empty object shows nothing");
        assert_eq!(report["operations"], json!({"R": rows}), "{report}");
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

/// A program that runs, and what it has said on stderr so far.
pub struct Running {
    child: Child,
    said: watch::Receiver<String>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let (sender, said) = watch::channel(String::new());
        std::thread::spawn(move || {
            let mut line = String::new();
            while lines.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
                sender.send_modify(|said| said.push_str(&std::mem::take(&mut line)));
            }
        });
        Self { child, said }
    }

    pub fn said(&self) -> String {
        self.said.borrow().clone()
    }

    /// Waits until it has said this.
    pub async fn says(&mut self, words: &str) {
        let heard = tokio::time::timeout(PATIENCE, self.said.wait_for(|said| said.contains(words))).await;
        let heard = heard.is_ok_and(|heard| heard.is_ok());
        assert!(heard, "never said: {words}\n{}", self.said());
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The word that it says behind these.
    pub async fn says_after(&mut self, words: &str) -> String {
        self.says(words).await;
        let said = self.said();
        let rest = said.split(words).nth(1).unwrap_or_default();
        rest.split_whitespace().next().unwrap_or_default().to_owned()
    }

    /// Waits until it ends by itself; exit code and all it said.
    pub async fn ends(mut self) -> (Option<i32>, String) {
        // Its stderr closes with it.
        let silent = tokio::time::timeout(PATIENCE, async { while self.said.changed().await.is_ok() {} });
        assert!(silent.await.is_ok(), "it does not end\n{}", self.said());
        let status = self.child.wait().unwrap();
        (status.code(), self.said())
    }

    /// Asks it to stop, as an operator does, and waits; exit code and all it said.
    pub async fn stop(self) -> (Option<i32>, String) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.ends().await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Only after a failed test is anything left to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
