//! Every way to log in, with the program as a person starts it, against the practice Salesforce.
//!
//! In: configurations, clicks as a browser would send them. Out: exit codes, words, the file that keeps the login. No test lets a
//! secret pass by on stdout or stderr.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use simulator::org::OrgConfig;
use simulator::{Simulator, SimulatorConfig};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, Command};
use url::Url;

/// Longer than anything takes that is waited for, on a machine busy with a build.
const PATIENCE: Duration = Duration::from_secs(120);
const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/salesforce/jwt-key.pem");
const PUBLIC_KEY: &str = include_str!("../data/salesforce/jwt-public-key.pem");

struct Stage {
    simulator: Simulator,
    folder: PathBuf,
    secrets: Vec<String>,
}

impl Stage {
    async fn new(name: &str) -> Self {
        sf2kafka::salesforce::install_tls();
        let config =
            SimulatorConfig { rotation: true, org: OrgConfig::default(), ..SimulatorConfig::default() };
        let secrets =
            [&config.client_secret, &config.password, &config.refresh_token].map(String::clone).to_vec();
        let folder = std::env::temp_dir().join(format!("sf2kafka-login-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self { simulator: Simulator::start(config).await.unwrap(), folder, secrets }
    }

    /// The configuration; `auth` are the keys of the login.
    fn configure(&self, auth: &str) {
        let text = format!(
            "name: crm\nsalesforce: {{ login_domain: '{}', client_id: simulator-client, {auth} }}\n\
             kafka: {{ bootstrap_servers: '127.0.0.1:1' }}\nschema_registry: {{ url: 'http://127.0.0.1:1' }}\n\
             http: {{ listen: off }}\nobjects: [ Account ]\n",
            self.simulator.origin()
        );
        std::fs::write(self.folder.join("crm.yaml"), text).unwrap();
    }

    fn store(&self) -> PathBuf {
        self.folder.join("home/.config/sf2kafka/crm.json")
    }

    fn start(&self, arguments: &[&str]) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sf2kafka"));
        command.args(arguments).arg("-c").arg(self.folder.join("crm.yaml"));
        // Nothing of this machine's browser or log settings.
        command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY").env("HOME", self.folder.join("home"));
        command.env("SF2KAFKA_LOG", "debug");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let (stdin, stderr) = (child.stdin.take().unwrap(), BufReader::new(child.stderr.take().unwrap()));
        Running { child, stdin: Some(stdin), stderr, words: String::new() }
    }

    /// A command that asks nothing.
    async fn run(&self, arguments: &[&str]) -> Ended {
        let mut running = self.start(arguments);
        running.stdin = None;
        running.ends(self).await
    }

    async fn control(&self, path: &str, order: Value) {
        let url = format!("{}/{path}", self.simulator.control_url());
        let answer = reqwest::Client::new().post(url).json(&order).send().await.unwrap();
        assert!(answer.status().is_success(), "{path} {order}: {}", answer.text().await.unwrap());
    }

    async fn token_requests(&self) -> usize {
        let url = format!("{}/logins/requests", self.simulator.control_url());
        let requests: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
        requests.as_array().unwrap().len()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stderr: BufReader<ChildStderr>,
    words: String,
}

struct Ended {
    code: Option<i32>,
    data: String,
    words: String,
}

impl Running {
    /// The first line on stderr that is an address.
    async fn address(&mut self) -> Url {
        loop {
            let line = self.line().await;
            if line.starts_with("http") {
                return Url::parse(line.trim_end()).unwrap();
            }
        }
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        let read = tokio::time::timeout(PATIENCE, self.stderr.read_line(&mut line)).await.unwrap().unwrap();
        assert!(read > 0, "it ended: {}", self.words);
        self.words.push_str(&line);
        line
    }

    async fn until(&mut self, part: &str) {
        while !self.line().await.contains(part) {}
    }

    async fn types(&mut self, text: &str) {
        self.stdin.as_mut().unwrap().write_all(format!("{text}\n").as_bytes()).await.unwrap();
    }

    async fn ends(mut self, stage: &Stage) -> Ended {
        let mut stdout = self.child.stdout.take().unwrap();
        let (mut data, mut rest) = (String::new(), String::new());
        let read = async {
            tokio::try_join!(stdout.read_to_string(&mut data), self.stderr.read_to_string(&mut rest))
                .unwrap();
            self.child.wait().await.unwrap()
        };
        let status = tokio::time::timeout(PATIENCE, read).await.unwrap();
        let words = self.words + &rest;
        let mut secrets = stage.secrets.clone();
        if let Ok(store) = std::fs::read_to_string(stage.store()) {
            let store: Value = serde_json::from_str(&store).unwrap();
            secrets.extend(
                [&store["refresh_token"], &store["access"]["token"]]
                    .map(|secret| secret.as_str().unwrap().to_owned()),
            );
        }
        for secret in &secrets {
            assert!(!data.contains(secret) && !words.contains(secret), "a secret shows:\n{data}\n{words}");
        }
        Ended { code: status.code(), data, words }
    }
}

/// The person in front of a browser; answers with the address that it ends at.
struct Person {
    http: reqwest::Client,
    origin: String,
    cookie: String,
}

impl Person {
    fn new(stage: &Stage) -> Self {
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { http, origin: stage.simulator.origin(), cookie: String::new() }
    }

    async fn fills_in(&self, path: &str, form: &[(&str, &str)]) -> reqwest::Response {
        let request = self.http.post(format!("{}{path}", self.origin)).header("cookie", &self.cookie);
        request.form(form).send().await.unwrap()
    }

    /// Logs in, and clicks `save` (Allow) or `cancel` (Deny).
    async fn clicks(&mut self, button: &str, address: &Url) -> String {
        let page = self.http.get(address.clone()).send().await.unwrap();
        if let Some(sent_on) = location(&page) {
            return sent_on;
        }
        let start = hidden(&page.text().await.unwrap(), "startURL");
        let typed = [
            ("startURL", start.as_str()),
            ("username", "integration@example.com"),
            ("pw", "simulator-password"),
        ];
        let answer = self.fills_in("/login", &typed).await;
        let cookie = answer.headers()["set-cookie"].to_str().unwrap();
        self.cookie = cookie.split(';').next().unwrap().to_owned();
        let next = format!("{}{}", self.origin, location(&answer).unwrap());
        let approval = self.http.get(next).header("cookie", &self.cookie).send().await.unwrap();
        let request = hidden(&approval.text().await.unwrap(), "request");
        let form = [("request", request.as_str()), (button, "clicked")];
        let answer = self.fills_in("/setup/secur/RemoteAccessAuthorizationPage.apexp", &form).await;
        location(&answer).unwrap()
    }
}

fn location(answer: &reqwest::Response) -> Option<String> {
    answer.headers().get("location").map(|value| value.to_str().unwrap().to_owned())
}

fn hidden(page: &str, name: &str) -> String {
    let (_, rest) = page.split_once(&format!("name=\"{name}\" value=\"")).unwrap_or_else(|| panic!("{page}"));
    rest.split_once('"').unwrap().0.replace("&amp;", "&")
}

const BROWSER_LOGIN: &str = "auth: authorization-code, client_secret: simulator-secret";

#[tokio::test]
async fn each_login_without_a_person_says_who_it_is() {
    let stage = Stage::new("alone").await;
    stage
        .control(
            "logins/app",
            json!({"certificate": PUBLIC_KEY, "approvedUsers": ["integration@example.com"]}),
        )
        .await;
    stage.control("logins/user", json!({"securityToken": "tok"})).await;
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", "simulator-client"),
        ("client_secret", "simulator-secret"),
    ];
    let url = format!("{}/services/oauth2/token", stage.simulator.origin());
    let given: Value =
        reqwest::Client::new().post(url).form(&form).send().await.unwrap().json().await.unwrap();
    let session = format!(
        "auth: access-token, instance: '{}', access_token: '{}'",
        stage.simulator.origin(),
        given["access_token"].as_str().unwrap()
    );
    let jwt = format!("auth: jwt-bearer, username: integration@example.com, private_key_file: {KEY}");
    for (auth, keeps) in [
        ("auth: client-credentials, client_secret: simulator-secret", false),
        (
            "auth: password, client_secret: simulator-secret, username: integration@example.com, password: simulator-password, security_token: tok",
            false,
        ),
        (&jwt, false),
        (&session, false),
        ("auth: refresh-token, refresh_token: 5AepSimulatorRefreshToken", true),
    ] {
        stage.configure(auth);
        if auth == session {
            let file = stage.folder.join("crm.yaml");
            let text = std::fs::read_to_string(&file).unwrap();
            std::fs::write(file, text.replace("client_id: simulator-client, ", "")).unwrap();
        }
        let ended = stage.run(&["login", "--output", "json"]).await;
        assert_eq!(ended.code, Some(0), "{auth}\n{}", ended.words);
        let report: Value = serde_json::from_str(&ended.data).unwrap();
        assert_eq!(report["username"], "integration@example.com", "{auth}: {report}");
        assert_eq!(report["instance"], stage.simulator.origin().as_str());
        assert_eq!(report["token_store"].is_string(), keeps, "{report}");
        assert_eq!(ended.words.contains("needs no login to be kept"), !keeps, "{}", ended.words);
        assert_eq!(ended.words.contains("retiring"), auth.contains("auth: password"), "{}", ended.words);
    }
    assert!(stage.store().exists());
}

#[tokio::test]
async fn a_pasted_address_logs_in_and_later_commands_use_what_was_kept() {
    let stage = Stage::new("pasted").await;
    stage.control("logins/app", json!({"pkceRequired": true})).await;
    stage.configure(BROWSER_LOGIN);
    let before = stage.run(&["discover", "--object", "Account"]).await;
    assert_eq!(before.code, Some(1));
    assert!(
        before.words.contains("error[login-needed]") && before.words.contains("sf2kafka login -c FILE"),
        "{}",
        before.words
    );

    let mut running = stage.start(&["login", "--no-browser"]);
    let address = running.address().await;
    let ended_at = Person::new(&stage).clicks("save", &address).await;
    running.types("").await;
    running.until("nothing was pasted").await;
    let other = ended_at.replace("state=", "state=x");
    running.types(&other).await;
    running.until("the answer to another login").await;
    running.types(&ended_at).await;
    let ended = running.ends(&stage).await;
    assert_eq!(ended.code, Some(0), "{}", ended.words);
    // Without the scope for userinfo: by the user's record.
    assert!(
        ended.data.starts_with("logged in as ") && ended.data.contains("@") && ended.data.contains(" (005"),
        "{}",
        ended.data
    );
    assert!(ended.data.contains(stage.store().to_str().unwrap()), "{}", ended.data);
    let code =
        Url::parse(&ended_at).unwrap().query_pairs().find(|(name, _)| name == "code").unwrap().1.into_owned();
    assert!(!ended.words.contains(&code) && !ended.data.contains(&code));
    let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(stage.store()), mode(stage.folder.join("home/.config/sf2kafka"))), (0o600, 0o700));

    let asked = stage.token_requests().await;
    let after = stage.run(&["discover", "--object", "Account"]).await;
    assert_eq!(after.code, Some(0), "{}", after.words);
    assert_eq!(stage.token_requests().await, asked, "the session that was kept is used");
    stage.control("sessions/expire", json!({})).await;
    let after = stage.run(&["discover", "--object", "Account"]).await;
    assert_eq!(after.code, Some(0), "{}", after.words);
    assert_eq!(stage.token_requests().await, asked + 1, "one refresh");
}

#[tokio::test]
async fn a_bare_code_is_enough_also_without_a_proof_key() {
    let stage = Stage::new("bare").await;
    stage.configure(&format!("{BROWSER_LOGIN}, pkce: false"));
    let mut running = stage.start(&["login", "--no-browser", "--output", "json"]);
    let address = running.address().await;
    assert!(!address.as_str().contains("code_challenge"));
    let ended_at = Person::new(&stage).clicks("save", &address).await;
    // As it stands in the address bar: `%3D%3D` at its end.
    let code = ended_at.split_once("code=").unwrap().1.split('&').next().unwrap();
    assert!(code.ends_with("%3D%3D"), "{code}");
    running.types(code).await;
    let ended = running.ends(&stage).await;
    assert_eq!(ended.code, Some(0), "{}", ended.words);
    let report: Value = serde_json::from_str(&ended.data).unwrap();
    assert_eq!(report["auth"], "authorization-code");
    assert_eq!(report["token_store"], stage.store().to_str().unwrap());
}

#[tokio::test]
async fn the_browser_brings_the_code_to_the_callback_on_this_machine() {
    let stage = Stage::new("callback").await;
    // A port that was free a moment ago; another program may have it by then.
    for attempt in 0.. {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let callback = format!("http://localhost:{free}/OauthRedirect");
        stage.control("logins/app", json!({"callbackUrls": [callback]})).await;
        stage.configure(&format!("{BROWSER_LOGIN}, callback_url: '{callback}'"));
        let mut running = stage.start(&["login", "--no-browser"]);
        // Nobody will paste anything.
        running.stdin = None;
        let first = running.line().await;
        if first.contains("cannot be listened to") && attempt < 20 {
            continue;
        }
        let address = running.address().await;
        let ended_at = Person::new(&stage).clicks("save", &address).await;
        assert!(ended_at.starts_with(&callback), "{ended_at}");
        let page = reqwest::get(&ended_at).await.unwrap().text().await.unwrap();
        assert!(page.contains("You can close this page"), "{page}");
        let ended = running.ends(&stage).await;
        assert_eq!(ended.code, Some(0), "{}", ended.words);
        assert!(stage.store().exists());
        return;
    }
}

#[tokio::test]
async fn a_refusal_in_the_browser_is_told_with_what_to_do_and_nothing_is_kept() {
    let stage = Stage::new("denied").await;
    stage.configure(BROWSER_LOGIN);
    let mut running = stage.start(&["login", "--no-browser"]);
    let address = running.address().await;
    let ended_at = Person::new(&stage).clicks("cancel", &address).await;
    running.types(&ended_at).await;
    let ended = running.ends(&stage).await;
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.words.contains("error[login-refused]: login in the browser: Salesforce answered access_denied"),
        "{}",
        ended.words
    );
    assert!(ended.words.contains("hint: log in again and choose Allow"), "{}", ended.words);

    // An app without the scope that keeps a login.
    stage.control("logins/app", json!({"scopes": ["api", "openid"]})).await;
    let mut running = stage.start(&["login", "--no-browser"]);
    let address = running.address().await;
    let ended_at = Person::new(&stage).clicks("save", &address).await;
    running.types(&ended_at).await;
    let ended = running.ends(&stage).await;
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.words.contains("Perform requests at any time (refresh_token, offline_access)"),
        "{}",
        ended.words
    );
    assert!(!stage.store().exists());
}

#[tokio::test]
async fn a_code_that_never_comes_is_not_waited_for_for_ever() {
    let stage = Stage::new("never").await;
    stage.configure(BROWSER_LOGIN);
    let ended = stage.start(&["login", "--no-browser", "--wait", "1s"]);
    let ended = ended.ends(&stage).await;
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.words.contains("no code came in time") && ended.words.contains("read the page in the browser"),
        "{}",
        ended.words
    );
    let ended = stage.run(&["login", "--no-browser"]).await;
    assert_eq!(ended.code, Some(2));
    assert!(ended.words.contains("stdin ended without a code"), "{}", ended.words);
}
