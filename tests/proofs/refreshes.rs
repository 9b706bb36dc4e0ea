//! Refresh token rotation under load and under kills: the login is never lost once an answer was stored.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use simulator::org::{OrgConfig, Traffic, TrafficConfig};
use simulator::{Simulator, SimulatorConfig};

use crate::stage::{Draw, Stage, seed};

const REFRESHES: u64 = 200;
const RANDOM_KILLS: usize = 30;
/// Longer than anything takes that is waited for, on a machine busy with a build.
const PATIENCE: Duration = Duration::from_secs(120);

async fn control(simulator: &Simulator, path: &str, order: Value) {
    let url = format!("{}/{path}", simulator.control_url());
    let answer = reqwest::Client::new().post(url).json(&order).send().await.unwrap();
    assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap());
}

async fn ask(simulator: &Simulator, path: &str) -> Value {
    let url = format!("{}/{path}", simulator.control_url());
    reqwest::get(url).await.unwrap().json().await.unwrap()
}

/// Data calls so far.
async fn calls(simulator: &Simulator) -> u64 {
    let counted = ask(simulator, "counters").await;
    counted["calls"].as_u64().unwrap_or_else(|| panic!("{counted}"))
}

async fn refreshes(simulator: &Simulator) -> u64 {
    ask(simulator, "logins").await["refreshes"].as_u64().unwrap()
}

/// Polls until there is something.
async fn awaited<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_refreshes_during_a_load_lose_neither_data_nor_the_login() {
    let seed = seed();
    eprintln!("seed {seed}");
    let objects = ["Account", "Contact", "Case", "Lead"];
    let org =
        objects.iter().fold(OrgConfig::default().with_seed(seed), |org, name| org.with_rows(name, 10_000));
    let config = SimulatorConfig { org, rotation: true, ..SimulatorConfig::default() };
    let token = config.refresh_token.clone();
    let capture = "capture: poll, poll: { interval: 1s, max_interval: 1s }";
    let stage = Stage::with(config, "[ Account, Contact, Case, Lead ]", capture, "").await;
    stage.rewrite(
        "auth: client-credentials,",
        &format!("auth: refresh-token, refresh_token: {token}, token_store: login.json,"),
    );
    let simulator = &stage.simulator;
    // Small pages that take their time: most refreshes shall fall into the load.
    control(simulator, "settings", json!({ "bulkPageCap": 50 })).await;
    let slow = json!({ "method": "GET", "contains": "/results", "action": { "delay": { "millis": 400 } } });
    control(simulator, "faults", slow).await;

    let stop = Arc::new(AtomicBool::new(false));
    let traffic = {
        let objects = objects.map(str::to_owned).to_vec();
        let config = TrafficConfig { seed, objects, ..TrafficConfig::default() };
        let mut traffic = Traffic::new(simulator.org(), config).unwrap();
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || traffic.run_for(20.0, Duration::from_secs(3_600), &stop))
    };
    let running = stage.start(&["run"]);
    awaited("the first refresh", async || (refreshes(simulator).await > 0).then_some(())).await;
    let (begun, mut while_loading) = (Instant::now(), 0);
    for number in 0..REFRESHES {
        let before = refreshes(simulator).await;
        let done = calls(simulator).await;
        // Something is done with every session, so that the load goes on.
        awaited("calls with the new session", async || (calls(simulator).await > done + 2).then_some(()))
            .await;
        control(simulator, "sessions/expire", json!({})).await;
        awaited("a refresh", async || (refreshes(simulator).await > before).then_some(())).await;
        if number % 20 == 0 {
            let position = stage.position("Account").await;
            while_loading += usize::from(position.is_none_or(|position| position["state"] == "loading"));
        }
    }
    eprintln!(
        "{REFRESHES} refreshes in {:?}; at {while_loading} of 10 looks Account was loading",
        begun.elapsed()
    );
    let url = format!("{}/faults", simulator.control_url());
    reqwest::Client::new().delete(url).send().await.unwrap();
    stop.store(true, Ordering::Relaxed);
    let changes = traffic.join().unwrap();
    running.stop(PATIENCE).await;
    let completing = stage.start(&["run", "--once"]);
    completing.ends_well(Duration::from_secs(600)).await;
    eprintln!("{changes} changes meanwhile");
    for object in objects {
        stage.judge_exactly_once(object, object).await;
    }
    let logins = ask(simulator, "logins").await;
    let grants = logins["grants"].as_array().unwrap();
    assert!(grants.iter().all(|grant| grant["active"] == true), "{logins:#}");
    assert!(while_loading > 0, "no refresh fell into the load");
}

/// A practice org, a file that keeps the login, and the program, which asks who is logged in: a refresh if the session is over.
struct Home {
    simulator: Simulator,
    folder: PathBuf,
}

impl Home {
    async fn new(name: &str) -> Self {
        sf2kafka::salesforce::install_tls();
        let config = SimulatorConfig { rotation: true, ..SimulatorConfig::default() };
        let token = config.refresh_token.clone();
        let simulator = Simulator::start(config).await.unwrap();
        let folder = std::env::temp_dir().join(format!("sf2kafka-refreshes-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let text = format!(
            "name: crm\nsalesforce: {{ login_domain: '{}', client_id: simulator-client, auth: refresh-token, \
             refresh_token: {token}, token_store: login.json }}\nkafka: {{ bootstrap_servers: '127.0.0.1:1' }}\n\
             schema_registry: {{ url: 'http://127.0.0.1:1' }}\nobjects: [ Account ]\n",
            simulator.origin()
        );
        std::fs::write(folder.join("crm.yaml"), text).unwrap();
        Self { simulator, folder }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sf2kafka"));
        command.args(["login", "-c"]).arg(self.folder.join("crm.yaml")).env("SF2KAFKA_LOG", "debug");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// Whether it came to its end well, and what it said.
    async fn logs_in(&self) -> (bool, String) {
        let mut command = self.command();
        let Output { status, stderr, .. } =
            tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        (status.success(), String::from_utf8(stderr).unwrap())
    }

    fn store(&self) -> Option<Value> {
        serde_json::from_slice(&std::fs::read(self.folder.join("login.json")).ok()?).ok()
    }

    async fn session_ends(&self) {
        control(&self.simulator, "sessions/expire", json!({})).await;
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn killed(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

const LOST: &str = "was interrupted before its answer was stored, and what it gave is lost";

/// Nothing is under way at Salesforce any more.
async fn idle(simulator: &Simulator) {
    awaited("an idle grant", async || {
        let logins = ask(simulator, "logins").await;
        logins["grants"].as_array()?.iter().all(|grant| grant["busy"] == false).then_some(())
    })
    .await;
}

/// Kills while the request is held before its effect, or the answer behind it; what the next start did about it.
async fn kill_while_held(at: &str) -> String {
    let home = Home::new(at).await;
    assert!(home.logs_in().await.0);
    home.session_ends().await;
    let exchanged = refreshes(&home.simulator).await;
    let before = ask(&home.simulator, "logins/requests").await.as_array().unwrap().len();
    control(&home.simulator, "logins/hold", json!({"at": at})).await;
    let child = home.command().spawn().unwrap();
    awaited("the request", async || {
        let requests = ask(&home.simulator, "logins/requests").await;
        let request = requests.as_array().unwrap().get(before)?;
        (at == "effect" || !request["effectAt"].is_null()).then_some(())
    })
    .await;
    killed(child);
    let url = format!("{}/logins/hold", home.simulator.control_url());
    reqwest::Client::new().delete(url).send().await.unwrap();
    idle(&home.simulator).await;
    assert!(home.store().unwrap()["asked"].is_object());
    let was_exchanged = refreshes(&home.simulator).await > exchanged;
    assert!(was_exchanged || at == "effect");
    let (went_well, words) = home.logs_in().await;
    assert!(words.contains("a refresh of the login was interrupted"), "{words}");
    if was_exchanged {
        assert!(!went_well && words.contains("error[login-needed]") && words.contains(LOST), "{words}");
        format!("says so, asks for a login ({})", words.lines().last().unwrap())
    } else {
        assert!(went_well, "{words}");
        "says so, logged in".to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_step_of_a_refresh_loses_the_login_only_while_its_answer_is_under_way() {
    let seed = seed();
    eprintln!("seed {seed}");
    eprintln!("killed                                       next start");

    // Marked, and never sent.
    let home = Home::new("steps").await;
    assert!(home.logs_in().await.0);
    home.session_ends().await;
    let mut store = home.store().unwrap();
    let digest =
        ring::digest::digest(&ring::digest::SHA256, store["refresh_token"].as_str().unwrap().as_bytes());
    let with: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    store["asked"] = json!({"with": with, "at": "2026-01-01T00:00:00Z"});
    std::fs::write(home.folder.join("login.json"), store.to_string()).unwrap();
    let (went_well, words) = home.logs_in().await;
    assert!(went_well && words.contains("a refresh of the login was interrupted"), "{words}");
    eprintln!("marked, request not sent                     says so, logged in");

    for (at, what) in [
        ("effect", "request sent, not yet exchanged              "),
        ("reply", "exchanged, answer under way                  "),
    ] {
        eprintln!("{what}{}", kill_while_held(at).await);
    }

    // As soon as the answer is in the file.
    for _ in 0..5 {
        home.session_ends().await;
        let before = home.store().unwrap()["refresh_token"].clone();
        let child = home.command().spawn().unwrap();
        awaited("the new token in the file", async || {
            (home.store()?["refresh_token"] != before).then_some(())
        })
        .await;
        killed(child);
        let (went_well, words) = home.logs_in().await;
        assert!(went_well && !words.contains("interrupted"), "{words}");
    }
    eprintln!("answer stored (5 times)                      logged in, no refresh needed");

    random_kills(home, Draw(seed)).await;
}

/// At moments that nobody chose: what is lost was always under way, is always said, and a login makes it good.
async fn random_kills(mut home: Home, mut draw: Draw) {
    let (mut fine, mut lost, mut windows) = (0, 0, Vec::new());
    let pause = json!({"beforeMillis": 15, "afterMillis": 15});
    control(&home.simulator, "logins/pause", pause.clone()).await;
    home.session_ends().await;
    let begun = Instant::now();
    assert!(home.logs_in().await.0);
    let whole = u64::try_from(begun.elapsed().as_millis()).unwrap();
    for number in 0..RANDOM_KILLS {
        home.session_ends().await;
        let exchanged = refreshes(&home.simulator).await;
        let child = home.command().spawn().unwrap();
        // Nothing is waited for here: the moment of the kill is the test.
        tokio::time::sleep(Duration::from_millis(draw.below(whole + 20))).await;
        killed(child);
        let store = home.store().unwrap();
        // What is still under way there comes to its end.
        idle(&home.simulator).await;
        let was_exchanged = refreshes(&home.simulator).await > exchanged;
        let (went_well, words) = home.logs_in().await;
        if went_well {
            fine += 1;
            let said = words.lines().filter_map(|line| line.split("durable_after_us=").nth(1));
            windows.extend(said.filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok()));
        } else {
            lost += 1;
            assert!(words.contains("error[login-needed]") && words.contains(LOST), "{words}");
            assert!(
                was_exchanged && store["asked"].is_object(),
                "lost outside of the window: {store:#}\n{words}"
            );
            home = Home::new(&format!("random-{number}")).await;
            control(&home.simulator, "logins/pause", pause.clone()).await;
            assert!(home.logs_in().await.0);
        }
    }
    windows.sort_unstable();
    let median = windows[windows.len() / 2];
    eprintln!(
        "{RANDOM_KILLS} times at random within {whole} ms             {fine} logged in, {lost} said so and asked for a login"
    );
    eprintln!(
        "answer read until durable: {median} µs (median of {}), {} µs (longest)",
        windows.len(),
        windows.last().unwrap()
    );
    assert!(median < 50_000, "{median} µs");
    assert!(fine > 0);
}
