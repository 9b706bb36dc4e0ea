//! What the registry, topics and the control topic can do to a run, one test each: the words that a person reads, and
//! that nothing is lost or doubled. A broker that goes away is in `outage`.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::json;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::member::on_thread;
use crate::services::{admin, bootstrap, read_committed, registry_url, topics};
use crate::stage::{Setup, Stage};

/// A loopback port that refuses connections until it is opened, and then leads to the registry.
struct Gate {
    socket: TcpSocket,
    address: SocketAddr,
}

impl Gate {
    /// The port is ours from here on: a socket that is bound and does not listen.
    fn closed() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        Self { socket, address }
    }

    /// The registry's URL through this gate.
    fn url(&self) -> String {
        let mut url: url::Url = registry_url().parse().unwrap();
        url.set_port(Some(self.address.port())).unwrap();
        url.to_string()
    }

    fn open(self) -> OpenGate {
        let url: url::Url = registry_url().parse().unwrap();
        let registry = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
        let listener = self.socket.listen(64).unwrap();
        OpenGate { task: tokio::spawn(forward(listener, registry)) }
    }
}

/// Closed, with all connections through it, when it is dropped.
struct OpenGate {
    task: tokio::task::JoinHandle<()>,
}

impl Drop for OpenGate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(listener: TcpListener, registry: String) {
    let mut connections = JoinSet::new();
    while let Ok((mut client, _)) = listener.accept().await {
        let registry = registry.clone();
        connections.spawn(async move {
            if let Ok(mut server) = TcpStream::connect(registry).await {
                // Either side may end it.
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            }
        });
    }
}

async fn ask_registry(method: reqwest::Method, path: &str, body: serde_json::Value) {
    let url = format!("{}/{path}", registry_url());
    let request = reqwest::Client::new().request(method, url).header("content-type", "application/json");
    let answer = request.body(body.to_string()).send().await.unwrap();
    assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap());
}

/// Writes to the control topic as a stranger would; no value: a tombstone.
async fn write_control(stage: &Stage, partition: i32, key: &'static str, value: Option<Vec<u8>>) {
    let topic = format!("{}.control", stage.name);
    on_thread(move || {
        let producer: BaseProducer =
            ClientConfig::new().set("bootstrap.servers", bootstrap()).create().unwrap();
        let mut record = BaseRecord::<str, [u8]>::to(&topic).partition(partition).key(key);
        record.payload = value.as_deref();
        producer.send(record).unwrap();
        producer.flush(Duration::from_secs(30)).unwrap();
    })
    .await;
}

/// Partition and value of the newest control record with this key.
fn control_record(stage: &Stage, key: &str) -> (i32, Vec<u8>) {
    let mut records = read_committed(&format!("{}.control", stage.name));
    records.retain(|record| record.key == key.as_bytes());
    let newest = records.pop().unwrap();
    (newest.partition, newest.value.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_down_is_waited_for_and_not_needed_for_known_schemas() {
    let gate = Gate::closed();
    let (url, address) = (gate.url(), gate.address);
    let stage = Stage::of(Setup { registry_url: url, ..Setup::new("[ Account ]") }).await;
    let (code, report, _) = stage.run(&["check"]).await;
    assert_eq!(code, Some(1));
    assert!(
        report.contains(&format!("✗ schema registry: schema registry http://{address} does not answer: ")),
        "{report}"
    );
    assert!(
        report.contains("\n  hint: check `schema_registry.url` and that the registry is up\n"),
        "{report}"
    );

    let mut running = stage.start(&["run"]);
    running.says("trying again after a pause").await;
    let words = running.said();
    let line = words.lines().find(|line| line.contains("trying again after a pause")).unwrap();
    for part in [
        "WARN",
        "object=Account code=\"registry-unavailable\"",
        &format!("schema registry http://{address} does not answer: "),
        "Connection refused",
        "hint=\"check `schema_registry.url` and that the registry is up\"",
    ] {
        assert!(line.contains(part), "{part}: {words}");
    }
    assert_eq!(read_committed(&stage.topic("Account")), [], "nothing without a schema");

    let open = gate.open();
    running.says("full load complete object=Account").await;
    drop(open);
    // Down once more: what is registered is known.
    let ids = stage.ids("Account", 3);
    stage.save("Account", &ids, "AccountNumber", "saved while the registry was away");
    let rows = usize::try_from(stage.rows("Account")).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while read_committed(&stage.topic("Account")).len() < rows + ids.len() {
        assert!(Instant::now() < deadline, "the changes arrive\n{}", running.said());
    }
    let (code, words) = running.stop().await;
    assert_eq!(code, Some(0), "{words}");
    assert!(!words.contains("ERROR"), "{words}");
    let report = stage.equals_the_org("Account").await;
    assert_eq!(report["operations"], json!({"R": rows, "U": ids.len()}), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_the_registry_refuses_stops_its_object_before_the_first_record() {
    let stage = Stage::new("[ Account, Invoice__c ]").await;
    let subject = format!("{}-value", stage.topic("Account"));
    let theirs =
        json!({"type": "record", "name": "Account", "fields": [{"name": "Id", "type": "int"}]}).to_string();
    ask_registry(reqwest::Method::POST, &format!("subjects/{subject}/versions"), json!({"schema": theirs}))
        .await;
    ask_registry(reqwest::Method::PUT, &format!("config/{subject}"), json!({"compatibility": "BACKWARD"}))
        .await;
    let words = stage.fails(1).await;
    let what = format!("subject {subject}: the new schema is not compatible with the newest version: ");
    let line = words.lines().find(|line| line.contains("object given up, all others go on")).unwrap();
    for part in [
        "ERROR",
        "object=Account code=\"registry-refused\"",
        &what,
        "STRING not compatible with writer type: INT",
    ] {
        assert!(line.contains(part), "{part}: {words}");
    }
    assert!(words.contains(&format!("\nerror[registry-refused]: {what}")), "{words}");
    assert!(words.ends_with("\nhint: `sf2kafka schemas -c FILE --check` shows what would change; give the output another topic, or set the subject's compatibility level\n"), "{words}");
    assert_eq!(read_committed(&stage.topic("Account")), []);
    stage.holds_each_row_once("Invoice__c").await;

    ask_registry(reqwest::Method::PUT, &format!("config/{subject}"), json!({"compatibility": "NONE"})).await;
    stage.completes().await;
    stage.holds_each_row_once("Account").await;
    stage.holds_each_row_once("Invoice__c").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_are_missing_and_may_not_be_made_are_named_with_the_commands_that_make_them() {
    let stage = Stage::of(Setup { kafka: ", create: false", ..Setup::new("[ Account, Invoice__c ]") }).await;
    let words = stage.fails(1).await;
    let (name, at) = (&stage.name, bootstrap());
    let command = |topic: &str, partitions: u32| {
        format!(
            "  kafka-topics.sh --bootstrap-server {at} --create --topic {name}.{topic} --partitions {partitions} --config retention.ms=-1\n"
        )
    };
    let report = format!(
        "error[topic-missing]: topics {name}.Account, {name}.Invoice_c, {name}.dead-letters, \
         {name}.notifications do not exist\n  \
         now: the program stops\n\
         hint: set `kafka.topics.create: true`, or create what is missing:\n{}{}{}{}",
        command("Account", 2),
        command("Invoice_c", 2),
        command("dead-letters", 1),
        command("notifications", 1)
    );
    assert!(words.ends_with(&report), "{words}");
    assert_eq!(topics(name), [""; 0], "nothing was made");
    let (code, report, _) = stage.run(&["check"]).await;
    assert_eq!(code, Some(1));
    assert!(report.contains("✗ topics: missing, and `kafka.topics.create` is false: "), "{report}");

    let own = |topic: &str| (format!("{name}.{topic}"), 1);
    let wanted = [
        (stage.topic("Account"), 2),
        (stage.topic("Invoice_c"), 2),
        own("dead-letters"),
        own("notifications"),
    ];
    for (topic, partitions) in &wanted {
        let new = NewTopic::new(topic, *partitions, TopicReplication::Fixed(1));
        admin().create_topics(&[new], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
    }
    stage.completes().await;
    stage.holds_each_row_once("Account").await;
    stage.holds_each_row_once("Invoice__c").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_record_that_cannot_be_read_stops_its_object_until_it_is_repaired() {
    let stage = Stage::new("[ Account, Invoice__c ]").await;
    stage.completes().await;
    let (accounts, invoices) = (stage.rows("Account"), stage.rows("Invoice__c"));
    let (partition, good) = control_record(&stage, "position/Account");
    let newer = String::from_utf8(good.clone()).unwrap().replace("\"version\":1", "\"version\":2");
    write_control(&stage, partition, "position/Account", Some(newer.into_bytes())).await;
    stage.save("Account", &stage.ids("Account", 2), "AccountNumber", "saved meanwhile");
    stage.save("Invoice__c", &stage.ids("Invoice__c", 2), "Remarks__c", "saved meanwhile");

    let words = stage.fails(1).await;
    let what = "control record position/Account of object Account cannot be read: version 2 where this program knows version 1";
    let hint = "`sf2kafka offsets show Account -c FILE` shows the record; `sf2kafka explain control-record-unreadable` says how to repair it";
    let line = words.lines().find(|line| line.contains("object given up, all others go on")).unwrap();
    for part in ["ERROR", "object=Account code=\"control-record-unreadable\"", what, hint] {
        assert!(line.contains(part), "{part}: {words}");
    }
    assert!(
        words.ends_with(&format!(
            "\nerror[control-record-unreadable]: {what}\n  now: the program stops\nhint: {hint}\n"
        )),
        "{words}"
    );
    assert_eq!(read_committed(&stage.topic("Account")).len() as u64, accounts, "nothing is guessed");
    let report = stage.equals_the_org("Invoice__c").await;
    assert_eq!(report["operations"], json!({"R": invoices, "U": 2}), "{report}");

    // What the hint names shows it, whatever is in it, and where it is.
    let (code, list, _) = stage.run(&["offsets", "list"]).await;
    assert_eq!(code, Some(1));
    assert!(list.lines().any(|line| line.starts_with("Account     unreadable")), "{list}");
    for value in [None, Some(b"no JSON".to_vec())] {
        if value.is_some() {
            write_control(&stage, partition, "position/Account", value).await;
        }
        let (code, shown, words) = stage.run(&["offsets", "show", "Account"]).await;
        assert_eq!(code, Some(1));
        assert!(
            shown.starts_with(&format!("position/Account in control partition {partition}\n")),
            "{shown}"
        );
        assert!(
            words.starts_with(
                "error[control-record-unreadable]: control record position/Account cannot be read: "
            ),
            "{words}"
        );
    }

    // Put right, it goes on where it was.
    write_control(&stage, partition, "position/Account", Some(good)).await;
    stage.completes().await;
    let report = stage.equals_the_org("Account").await;
    assert_eq!(report["operations"], json!({"R": accounts, "U": 2}), "{report}");

    // Forgotten, as the page says, the object is loaded anew; what the ledger knows to be the newest is not repeated.
    write_control(&stage, partition, "position/Account", None).await;
    stage.completes().await;
    let report = stage.equals_the_org("Account").await;
    assert_eq!(report["operations"], json!({"R": 2 * accounts - 2, "U": 2}), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layout_or_ledger_or_schema_record_that_cannot_be_read_is_named_and_ends_the_run() {
    let stage = Stage::new("[ Account ]").await;
    stage.completes().await;
    stage.save("Account", &stage.ids("Account", 2), "AccountNumber", "saved first");
    // It must see what was saved before it began, within the same second too.
    stage.completes().await;
    let report = stage.equals_the_org("Account").await;
    assert_eq!(report["operations"], json!({"R": stage.rows("Account"), "U": 2}), "{report}");
    let rows = stage.rows("Account");
    let control = read_committed(&format!("{}.control", stage.name));
    let ledger =
        control.iter().rfind(|record| record.key.starts_with(b"ledger/Account/") && record.value.is_some());
    let ledger: &'static str = String::from_utf8(ledger.unwrap().key.clone()).unwrap().leak();
    for (key, what) in [
        ("layout", "the control record `layout` of shard".to_owned()),
        ("budget", "the control record `budget` of shard".to_owned()),
        ("schema/Account", "control record schema/Account of object Account cannot be read: ".to_owned()),
        (ledger, format!("control record {ledger} of object Account cannot be read: ")),
    ] {
        let (partition, _) = control_record(&stage, "position/Account");
        let (_, good) = control_record(&stage, key);
        write_control(&stage, partition, key, Some(b"no JSON".to_vec())).await;
        let words = stage.fails(1).await;
        assert!(words.contains(&format!("error[control-record-unreadable]: {what}")), "{key}: {words}");
        assert_eq!(read_committed(&stage.topic("Account")).len() as u64, rows + 2, "nothing is guessed");
        write_control(&stage, partition, key, Some(good)).await;
    }
    stage.completes().await;
    let report = stage.equals_the_org("Account").await;
    assert_eq!(report["operations"], json!({"R": rows, "U": 2}), "{report}");
}
