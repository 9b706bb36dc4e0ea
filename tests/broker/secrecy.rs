//! Every command at trace level, and not one secret in anything that comes out.
//!
//! In: an org, a registry and a broker that are given secrets of which no two share a piece. Out: all that the program
//! says, serves and writes, searched for each secret as it is, as base64, percent-encoded, and by its halves. A new kind of
//! login adds its secrets to [`secrets`].

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::json;
use simulator::SimulatorConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::services::{read_committed, topics};
use crate::stage::{Setup, Stage};

const CLIENT_SECRET: &str = "Kx9Qz/Client+Secret7=Wv3Ty8Lm";
const WRONG_SECRET: &str = "Bm4Xf/Wrong+Secret2=Jh6Pd1Rc";
const REFRESH_TOKEN: &str = "5Aep861.Refresh_Token.Gs5Nw2Zb";
const SECURITY_TOKEN: &str = "Zc6SecurityToken.Wm1Kd8";
const TOKEN_KEY: &str = "8f1c5e0b7a2d4936c1e8f05b7d2a9364e0c7b15f8d2a6394f1b0e7c5d2a86943";
const PRIVATE_KEY: &str = include_str!("../data/salesforce/jwt-key.pem");
const PUBLIC_KEY: &str = include_str!("../data/salesforce/jwt-public-key.pem");
const PASSWORD: &str = "Ud8Passwort.Org-Hv4Ce9";
const REGISTRY_PASSWORD: &str = "Tq3Registry/Passwort+Yf6=Aj1";
const KAFKA_PASSWORD: &str = "Ro7Kafka/Passwort+Ix2=El5";
const HASH_KEY: &str = "Vn1Hash/Schluessel+Gd8=Oq4Sb";

/// Everything that must not be seen, by its name. What was used on the wire comes along: tokens, assertions.
fn secrets(used: &[String]) -> Vec<(String, String)> {
    let key = PRIVATE_KEY.lines().filter(|line| !line.starts_with("-----")).max_by_key(|line| line.len());
    let given = [
        ("client secret", CLIENT_SECRET),
        ("wrong client secret", WRONG_SECRET),
        ("refresh token", REFRESH_TOKEN),
        ("password", PASSWORD),
        ("security token", SECURITY_TOKEN),
        ("password with security token", &format!("{PASSWORD}{SECURITY_TOKEN}")),
        ("private key", key.unwrap()),
        ("key of the token store", TOKEN_KEY),
        ("registry password", REGISTRY_PASSWORD),
        ("registry credentials", &format!("schema-reader:{REGISTRY_PASSWORD}")),
        ("Kafka password", KAFKA_PASSWORD),
        ("hash key", HASH_KEY),
    ]
    .map(|(name, secret)| (name.to_owned(), secret.to_owned()));
    let tokens = used.iter().map(|token| ("a token that was used".to_owned(), token.clone()));
    given.into_iter().chain(tokens).collect()
}

/// What a secret may look like.
fn guises(secret: &str) -> Vec<String> {
    let mut guises = vec![
        secret.to_owned(),
        STANDARD.encode(secret),
        STANDARD_NO_PAD.encode(secret),
        URL_SAFE_NO_PAD.encode(secret),
        url::form_urlencoded::byte_serialize(secret.as_bytes()).collect(),
    ];
    let (head, tail) = secret.split_at(secret.len() / 2);
    guises.extend([head, tail].into_iter().filter(|half| half.len() >= 12).map(str::to_owned));
    guises
}

/// All that came out, each part with where it came from.
#[derive(Default)]
struct Outcomes(Vec<(String, Vec<u8>)>);

impl Outcomes {
    fn add(&mut self, from: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.0.push((from.into(), bytes.into()));
    }

    fn holding(&self, secrets: &[(String, String)]) -> Vec<String> {
        let mut found = Vec::new();
        for (name, secret) in secrets {
            for guise in guises(secret) {
                let of = memchr::memmem::Finder::new(guise.as_bytes());
                let places = self.0.iter().filter(|(_, bytes)| of.find(bytes).is_some());
                found.extend(places.map(|(from, _)| format!("{name} in {from}")));
            }
        }
        found
    }
}

/// Stands before the simulator and keeps what the program sends it.
pub struct Tap {
    pub address: SocketAddr,
    sent: Arc<Mutex<Vec<u8>>>,
}

impl Tap {
    pub async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let sent = Arc::new(Mutex::new(Vec::new()));
        let kept = sent.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let kept = kept.clone();
                tokio::spawn(async move {
                    let there = TcpStream::connect(server).await?;
                    let (mut from_client, mut to_client) = client.into_split();
                    let (mut from_server, mut to_server) = there.into_split();
                    let back =
                        tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
                    let mut piece = vec![0; 16 << 10];
                    loop {
                        let read = from_client.read(&mut piece).await?;
                        if read == 0 {
                            break;
                        }
                        kept.lock().unwrap().extend_from_slice(&piece[..read]);
                        to_server.write_all(&piece[..read]).await?;
                    }
                    to_server.shutdown().await?;
                    back.await.unwrap()
                });
            }
        });
        Self { address, sent }
    }

    /// The tokens that went along with calls.
    fn tokens(&self) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.sent.lock().unwrap()).into_owned();
        let after = |mark: &'static str, ends: fn(char) -> bool| {
            let rests = text.split(mark).skip(1);
            rests.filter_map(move |rest| rest.split(ends).next()).map(str::to_owned).collect::<Vec<_>>()
        };
        let mut tokens = after("Bearer ", |end| end == '\r');
        tokens.extend(after("assertion=", |end| !end.is_ascii_alphanumeric() && !"-_.".contains(end)));
        tokens.extend(after("refresh_token=", |end| !end.is_ascii_alphanumeric() && !"-_.".contains(end)));
        tokens.sort();
        tokens.dedup();
        tokens
    }

    pub fn saw(&self, text: &str) -> bool {
        memchr::memmem::find(&self.sent.lock().unwrap(), text.as_bytes()).is_some()
    }
}

async fn stage() -> (Stage, Tap) {
    let config = SimulatorConfig {
        client_secret: CLIENT_SECRET.to_owned(),
        refresh_token: REFRESH_TOKEN.to_owned(),
        password: PASSWORD.to_owned(),
        ..SimulatorConfig::default()
    };
    let setup = Setup {
        rows: &[("Account", 2_100), ("Invoice__c", 30)],
        kafka: "}, properties: { sasl.username: kafka-writer, sasl.password: Ro7Kafka/Passwort+Ix2=El5, debug: 'all'",
        ..Setup::new(
            "[ { name: Account, capture: subscribe, fields: { hash: [Phone] } }, Invoice__c ]\nhash_key: 'Vn1Hash/Schluessel+Gd8=Oq4Sb'",
        )
    };
    let stage = Stage::with(setup, config).await;
    let origin = stage.simulator.origin();
    let tap = Tap::before(origin.trim_start_matches("http://").parse().unwrap()).await;
    stage.rewrite(&format!("'{origin}'"), &format!("'http://{}'", tap.address));
    stage.rewrite(
        "schema_registry: {",
        &format!("schema_registry: {{ username: schema-reader, password: '{REGISTRY_PASSWORD}', "),
    );
    stage.control("settings", json!({"instanceUrl": format!("http://{}", tap.address)})).await;
    stage.control("pubsub/selection", json!({"select": ["Account"]})).await;
    stage.control("pubsub/settings", json!({"keepaliveSeconds": 1})).await;
    (stage, tap)
}

/// Everything, libraries included: what they may print is a rule of the program's, not of whoever asks.
const EVERYTHING: &str =
    "trace,h2=trace,hyper=trace,hyper_util=trace,reqwest=trace,rustls=trace,tonic=trace,tower=trace";

async fn said(stage: &Stage, arguments: &[&str], level: &str) -> (Option<i32>, Vec<u8>) {
    let mut command = stage.command(arguments);
    command.env("SF2KAFKA_LOG", level);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    (output.status.code(), [output.stdout, output.stderr].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_comes_out_of_any_command_at_any_level() {
    let (stage, tap) = stage().await;
    let mut outcomes = Outcomes::default();
    // Once as a session ends in the middle, so that a second token is used.
    stage.fault("/results", 0, 1, json!("expireSession")).await;
    stage.control("logins/app", json!({"certificate": PUBLIC_KEY, "approvedUsers": [USER]})).await;
    stage.control("logins/user", json!({"securityToken": SECURITY_TOKEN})).await;
    let commands: [(&[&str], &str, i32); 10] = [
        (&["check"], "trace", 0),
        (&["run", "--once", "--log-format", "json"], EVERYTHING, 0),
        (&["run", "--once"], "trace", 0),
        (&["check", "--output", "json"], EVERYTHING, 0),
        (&["discover"], EVERYTHING, 0),
        (&["schemas", "--check", "--output", "json"], EVERYTHING, 0),
        (&["discover", "--object", "Account", "--output", "json"], "trace", 0),
        (&["offsets", "list"], EVERYTHING, 0),
        (&["offsets", "show", "Account", "--output", "json"], "trace", 0),
        (&["offsets", "show", "Nothing"], "trace", 2),
    ];
    for (arguments, level, code) in commands {
        let (ended, words) = said(&stage, arguments, level).await;
        assert_eq!(ended, Some(code), "{arguments:?}: {}", String::from_utf8_lossy(&words));
        outcomes.add(format!("{arguments:?} at {level}"), words);
    }
    watch(&stage, &mut outcomes).await;
    other_logins(&stage, &tap, &mut outcomes).await;
    // Logins that fail: a wrong secret, and an answer that repeats what was sent.
    stage.rewrite(CLIENT_SECRET, WRONG_SECRET);
    for arguments in [["run", "--once"].as_slice(), &["check"], &["discover"]] {
        let (ended, words) = said(&stage, arguments, EVERYTHING).await;
        assert_eq!(ended, Some(1), "{}", String::from_utf8_lossy(&words));
        outcomes.add(format!("{arguments:?} with a wrong secret"), words);
    }
    let echo = json!({"error": "invalid_client", "error_description": format!("no app with secret '{WRONG_SECRET}'")});
    let echo = json!({"respond": {"status": 400, "body": echo.to_string(), "headers": [["content-type", "application/json"]]}});
    stage.fault("/oauth2/token", 0, 1, echo).await;
    let (ended, words) = said(&stage, &["run", "--once"], EVERYTHING).await;
    assert_eq!(ended, Some(1));
    outcomes.add("an answer that repeats the secret", words);
    for topic in topics(&stage.name) {
        let records = read_committed(&topic).into_iter();
        let bytes = records.flat_map(|record| [record.key, record.value.unwrap_or_default()].concat());
        outcomes.add(format!("topic {topic}"), bytes.collect::<Vec<u8>>());
    }

    let tokens = tap.tokens();
    assert!(tokens.len() >= 4, "every command logs in: {tokens:?}");
    let all = secrets(&tokens);
    assert_eq!(outcomes.holding(&all), [""; 0]);

    // The test sees what it looks for.
    assert!(tap.saw("client_secret=Kx9Qz"), "the secret went over the wire");
    let bytes: usize = outcomes.0.iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(outcomes.0.len() > 20 && bytes > 1_000_000, "{} parts, {bytes} bytes", outcomes.0.len());
    let words = String::from_utf8_lossy(&outcomes.0[1].1).into_owned();
    assert!(words.contains("\"level\":\"DEBUG\"") && words.contains("sasl"), "at every level");
    for (name, secret) in &all {
        for guise in guises(secret) {
            let mut planted = Outcomes::default();
            planted.add("here", format!("before{guise}after"));
            assert!(!planted.holding(&all).is_empty(), "{name} would not be found as {guise}");
        }
    }
}

const USER: &str = "integration@example.com";

/// Each other way to log in that needs no person; a new one is a line here and its secrets above.
async fn other_logins(stage: &Stage, tap: &Tap, outcomes: &mut Outcomes) {
    let usual = format!(
        "login_domain: 'http://{}', auth: client-credentials, client_id: simulator-client, client_secret: {CLIENT_SECRET}",
        tap.address
    );
    let app = format!("login_domain: 'http://{}', client_id: simulator-client", tap.address);
    let folder = std::env::temp_dir().join(format!("{}-login", stage.name));
    let key = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/salesforce/jwt-key.pem");
    let token = tap.tokens().into_iter().find(|token| token.starts_with("00D")).unwrap();
    let before = tap.tokens().len();
    let ways = [
        format!(
            "{app}, auth: password, client_secret: {CLIENT_SECRET}, username: {USER}, password: {PASSWORD}, security_token: {SECURITY_TOKEN}"
        ),
        format!("{app}, auth: jwt-bearer, username: {USER}, private_key_file: '{key}'"),
        format!(
            "{app}, auth: refresh-token, client_secret: {CLIENT_SECRET}, refresh_token: {REFRESH_TOKEN}, token_store: '{}'",
            folder.join("login.json").display()
        ),
        format!(
            "{app}, auth: refresh-token, client_secret: {CLIENT_SECRET}, refresh_token: {REFRESH_TOKEN}, token_store: kafka, token_key: '{TOKEN_KEY}'"
        ),
        format!("auth: access-token, instance: 'http://{}', access_token: '{token}'", tap.address),
    ];
    for way in &ways {
        stage.rewrite(&usual, way);
        let good = !way.contains("access-token");
        for arguments in [["login", "--output", "json"].as_slice(), &["check"], &["run", "--once"]] {
            let (ended, words) = said(stage, arguments, EVERYTHING).await;
            // A token that somebody gave may have ended since.
            let text = String::from_utf8_lossy(&words).into_owned();
            assert!(ended == Some(0) || (!good && ended == Some(1)), "{arguments:?} by {way}: {text}");
            outcomes
                .add(format!("{arguments:?} by {}", way.split("auth: ").nth(1).unwrap_or_default()), words);
        }
        stage.rewrite(way, &usual);
    }
    let _ = std::fs::remove_dir_all(&folder);
    assert!(tap.tokens().len() > before + ways.len(), "tokens, assertions and a refresh token went by");
}

/// A program that goes on: what it serves, what the system shows of it.
async fn watch(stage: &Stage, outcomes: &mut Outcomes) {
    let mut running = stage.start_at(&["run"], EVERYTHING);
    let address = running.says_after("status server listens address=").await;
    running.says("subscribed").await;
    for path in ["metrics", "api/status", "health/ready", "health/live"] {
        let answer = reqwest::get(format!("http://{address}/{path}")).await.unwrap();
        let headers = format!("{:?}", answer.headers());
        let body = answer.text().await.unwrap();
        assert!(!body.is_empty(), "{path}");
        outcomes.add(format!("/{path}"), headers + &body);
    }
    #[cfg(target_os = "linux")]
    {
        let shown = |what: &str| std::fs::read(format!("/proc/{}/{what}", running.id()));
        outcomes.add("the arguments", shown("cmdline").unwrap());
        // Of a process that nobody may look into the system shows it to the administrator at most.
        outcomes.add("the environment", shown("environ").unwrap_or_default());
        let limits = String::from_utf8(shown("limits").unwrap()).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        let bounds: Vec<&str> = core.split_whitespace().skip(4).take(2).collect();
        assert_eq!(bounds, ["0", "0"], "a core dump would hold every secret: {core}");
    }
    let (code, words) = running.stop().await;
    assert_eq!(code, Some(0), "{words}");
    outcomes.add("run until it is stopped", words);
}
