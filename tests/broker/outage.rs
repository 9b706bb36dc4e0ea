//! A broker that is down for a minute: killed as by a crash, and started again on its data and port.
//!
//! In: a broker of the test's own, made by `cargo xtask kafka --instance outage` (the other tests need theirs), whose
//! program `cargo xtask test` names. Out: what a person reads meanwhile, and topics that equal the org afterwards. The
//! minute is the only time that is waited for; the broker ends with the test, also when the test is killed.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::services::{read_committed_at, variable};
use crate::stage::{Setup, Stage};

const INSTANCE: &str = "outage";
const OUTAGE: Duration = Duration::from_secs(60);

struct OwnBroker {
    bootstrap: String,
    /// Stops and forgets the instance when its standard input ends, as it does however we end.
    keeper: Child,
}

fn xtask(arguments: &[&str]) -> Command {
    let mut command = Command::new(variable("SF2KAFKA_XTASK"));
    command.args(["kafka", "--instance", INSTANCE]).args(arguments);
    command
}

fn succeeds(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn up() -> String {
    let addresses = succeeds(xtask(&["up", "--output", "env"]));
    addresses.lines().find_map(|line| line.strip_prefix("KAFKA_BOOTSTRAP=")).unwrap().to_owned()
}

impl OwnBroker {
    fn start() -> Self {
        // What an interrupted run left.
        succeeds(xtask(&["down", "--purge"]));
        let mut keeper = xtask(&["down", "--purge", "--when-input-ends"]);
        keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let keeper = keeper.spawn().unwrap();
        let mut broker = Self { bootstrap: String::new(), keeper };
        broker.bootstrap = up();
        broker
    }

    fn kill(&self) {
        succeeds(xtask(&["kill"]));
    }

    fn start_again(&self) {
        assert_eq!(up(), self.bootstrap, "at the address that the program knows");
    }
}

impl Drop for OwnBroker {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_down_for_a_minute_costs_the_minute_and_nothing_else() {
    let broker = OwnBroker::start();
    let setup = Setup::new("[ Account, Invoice__c ]");
    let stage = Stage::of(Setup { bootstrap: broker.bootstrap.clone(), ..setup }).await;
    let mut running = stage.start(&["run"]);
    running.says("full load complete object=Account").await;
    running.says("full load complete object=Invoice__c").await;
    let rows = stage.rows("Account");
    let ids = stage.ids("Account", 5);

    broker.kill();
    let killed = Instant::now();
    stage.save("Account", &ids, "AccountNumber", "saved while the broker was down");
    // The words of a check and of a start meanwhile.
    let (code, report, _) = stage.run(&["check"]).await;
    assert_eq!(code, Some(1));
    let cross = format!("✗ Kafka: Kafka at {} does not answer: ", broker.bootstrap);
    let hint = "\n  hint: check `kafka.bootstrap_servers` and the brokers; the program goes on where it stopped when they are back\n";
    assert!(report.contains(&cross) && report.contains(hint), "{report}");
    let words = stage.fails(1).await;
    assert!(
        words.contains(&format!(
            "\nerror[kafka-unavailable]: Kafka at {} does not answer: ",
            broker.bootstrap
        )),
        "{words}"
    );
    assert!(words.ends_with("  now: the program stops\nhint: check `kafka.bootstrap_servers` and the brokers, then start again: nothing was published\n"), "{words}");
    // The length of the outage, which is what is tried here.
    tokio::time::sleep(OUTAGE.saturating_sub(killed.elapsed())).await;
    broker.start_again();

    let deadline = Instant::now() + Duration::from_secs(90);
    let topic = stage.topic("Account");
    while read_committed_at(&broker.bootstrap, &topic).len() as u64 != rows + ids.len() as u64 {
        assert!(Instant::now() < deadline, "the changes arrive\n{}", running.said());
    }
    let (code, words) = running.stop().await;
    assert_eq!(code, Some(0), "{words}");
    assert!(!words.contains("ERROR"), "{words}");
    // Said at once and once a minute, not by every client at every try; and when it is over.
    let away: Vec<&str> =
        words.lines().filter(|line| line.contains("no connection to a Kafka broker, trying again")).collect();
    assert!((1..=3).contains(&away.len()), "{words}");
    for part in [
        "WARN",
        "code=\"kafka-unavailable\"",
        "Connection refused",
        "hint=\"check `kafka.bootstrap_servers` and the brokers; the program goes on where it stopped when they are back\"",
    ] {
        assert!(away[0].contains(part), "{part}: {words}");
    }
    assert!(words.contains("INFO Kafka answers again after="), "{words}");
    let warnings = words.lines().filter(|line| line.contains("WARN")).count();
    assert!(warnings <= 12, "{warnings} warnings for one outage\n{words}");
    let report = stage.equals_the_org("Account").await;
    assert_eq!(report["operations"], json!({"R": rows, "U": ids.len()}), "{report}");
    stage.holds_each_row_once("Invoice__c").await;
}
