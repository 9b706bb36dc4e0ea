//! The road to Salesforce: through a proxy, under a certificate authority of one's own.
//!
//! In: a proxy that opens tunnels to whoever knows its password, TLS in front of the simulator's REST side, the simulator's
//! own in front of its Pub/Sub side. Out: what the program did by them, and that it never said the password.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::json;
use simulator::SimulatorConfig;
use simulator::pubsub::TlsConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use url::Url;

use crate::services::registry_url;
use crate::stage::{Setup, Stage};

const USER: &str = "anna";
const PASSWORD: &str = "Pr0xy-gehe1m-Wort-77";

/// A proxy that knows only CONNECT, and where it was asked to connect to.
struct Proxy {
    address: SocketAddr,
    targets: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let targets = Arc::new(Mutex::new(Vec::new()));
        let seen = targets.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(tunnel(socket, seen.clone()));
            }
        });
        Self { address, targets }
    }

    fn url(&self, password: &str) -> String {
        format!("http://{USER}:{password}@{}", self.address)
    }

    fn targets(&self) -> Vec<String> {
        self.targets.lock().unwrap().clone()
    }
}

async fn tunnel(mut socket: TcpStream, seen: Arc<Mutex<Vec<String>>>) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let credentials = STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let mut words = head.split(' ');
    let (Some("CONNECT"), Some(target)) = (words.next(), words.next()) else {
        return socket.write_all(b"HTTP/1.1 405 No\r\n\r\n").await;
    };
    if !head.contains(&format!("Basic {credentials}\r\n")) {
        return socket.write_all(b"HTTP/1.1 407 Who are you\r\ncontent-length: 0\r\n\r\n").await;
    }
    seen.lock().unwrap().push(target.to_owned());
    // `localhost` may have an address that nobody listens on.
    let mut there = TcpStream::connect(target.replace("localhost", "127.0.0.1")).await?;
    socket.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await?;
    tokio::io::copy_bidirectional(&mut socket, &mut there).await.map(drop)
}

/// TLS in front of a plain server, under an authority of its own.
struct Front {
    address: SocketAddr,
    authority_pem: String,
}

impl Front {
    async fn of(server: SocketAddr) -> Self {
        let authority_key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_certificate = authority.self_signed(&authority_key).unwrap();
        let body = STANDARD.encode(authority_certificate.der());
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["localhost".to_owned()])
            .unwrap()
            .signed_by(&key, &Issuer::new(authority, authority_key))
            .unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut socket = acceptor.accept(socket).await?;
                    let mut there = TcpStream::connect(server).await?;
                    tokio::io::copy_bidirectional(&mut socket, &mut there).await.map(drop)
                });
            }
        });
        let authority_pem = format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
        Self { address, authority_pem }
    }
}

struct Roads {
    stage: Stage,
    proxy: Proxy,
    /// `localhost:port` of REST side and Pub/Sub side.
    targets: [String; 2],
    ca_file: PathBuf,
}

impl Drop for Roads {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.ca_file);
    }
}

async fn roads() -> Roads {
    sf2kafka::salesforce::install_tls();
    let mut config = SimulatorConfig::default();
    config.pubsub.tls = Some(TlsConfig::SelfSigned { names: Vec::new() });
    let setup = Setup { rows: &[("Account", 60)], ..Setup::new("[ { name: Account, capture: subscribe } ]") };
    let stage = Stage::with(setup, config).await;
    let rest = stage.simulator.origin();
    let front = Front::of(rest.trim_start_matches("http://").parse().unwrap()).await;
    let pubsub = stage.simulator.pubsub_authority().replace("127.0.0.1", "localhost");
    let targets = [format!("localhost:{}", front.address.port()), pubsub];
    let ca_file = PathBuf::from(stage.file()).with_extension("pem");
    let authorities = format!("{}{}", front.authority_pem, stage.simulator.pubsub_certificate().unwrap());
    std::fs::write(&ca_file, authorities).unwrap();
    stage.rewrite(
        &format!("login_domain: '{rest}'"),
        &format!("login_domain: 'https://{}', ca_file: '{}'", targets[0], ca_file.display()),
    );
    let plain = format!("pubsub: {{ endpoint: '{}', tls: false }}", stage.simulator.pubsub_authority());
    stage.rewrite(&plain, &format!("pubsub: {{ endpoint: '{}' }}", targets[1]));
    stage.control("settings", json!({"instanceUrl": format!("https://{}", targets[0])})).await;
    stage.control("pubsub/selection", json!({"select": ["Account"]})).await;
    stage.control("pubsub/settings", json!({"keepaliveSeconds": 1})).await;
    Roads { stage, proxy: Proxy::start().await, targets, ca_file }
}

/// Exit code and all that was said, with these variables besides.
async fn said(stage: &Stage, arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = stage.command(arguments);
    for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"] {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let words = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&words).into_owned())
}

const EVERYTHING: (&str, &str) = ("SF2KAFKA_LOG", "trace,h2=trace,hyper=trace,hyper_util=trace,rustls=trace");

#[tokio::test(flavor = "multi_thread")]
async fn rest_and_events_come_through_the_proxy_under_the_authority_that_is_named() {
    let roads = roads().await;
    let proxy = roads.proxy.url(PASSWORD);
    let (code, words) = said(&roads.stage, &["run", "--once"], &[("HTTPS_PROXY", &proxy), EVERYTHING]).await;
    assert_eq!(code, Some(0), "{words}");
    roads.stage.holds_each_row_once("Account").await;
    let targets = roads.proxy.targets();
    for target in &roads.targets {
        assert!(targets.contains(target), "{target} was reached without the proxy: {targets:?}");
    }
    let all = targets.iter().all(|target| roads.targets.contains(target));
    assert!(all, "only Salesforce is behind it: {targets:?}");
    for secret in [PASSWORD, &STANDARD.encode(format!("{USER}:{PASSWORD}"))] {
        assert!(!words.contains(secret), "the proxy's password in the log");
    }
    assert!(words.contains("TRACE"), "the test shows nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_named_in_no_proxy_is_reached_straight() {
    let roads = roads().await;
    // The registry too is behind TLS, under an authority of its own.
    let registry = Url::parse(&registry_url()).unwrap();
    let address = format!("127.0.0.1:{}", registry.port_or_known_default().unwrap());
    let front = Front::of(address.parse().unwrap()).await;
    let ca_file = PathBuf::from(roads.stage.file()).with_extension("registry.pem");
    std::fs::write(&ca_file, &front.authority_pem).unwrap();
    let behind = format!("https://localhost:{}{}", front.address.port(), registry.path());
    roads.stage.rewrite(
        &format!("url: '{registry}'"),
        &format!("url: '{behind}', ca_file: '{}'", ca_file.display()),
    );
    // Nobody listens there.
    let variables = [("HTTPS_PROXY", "http://127.0.0.1:9"), ("NO_PROXY", "localhost")];
    let (code, words) = said(&roads.stage, &["run", "--once"], &variables).await;
    assert_eq!(code, Some(0), "{words}");
    std::fs::remove_file(&ca_file).unwrap();
    assert_eq!(roads.proxy.targets(), [""; 0]);
    roads.stage.holds_each_row_once("Account").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_refuses_us_is_told_without_its_password() {
    let roads = roads().await;
    let wrong = "An0ther-wr0ng-Wort-88";
    let proxy = roads.proxy.url(wrong);
    let (code, words) = said(&roads.stage, &["check"], &[("HTTPS_PROXY", &proxy), EVERYTHING]).await;
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains("proxy authorization required"), "{words}");
    for secret in [wrong, &STANDARD.encode(format!("{USER}:{wrong}"))] {
        assert!(!words.contains(secret), "the proxy's password in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_under_an_unknown_authority_is_refused_at_once_and_the_hint_names_the_setting() {
    let roads = roads().await;
    roads.stage.rewrite(&format!(", ca_file: '{}'", roads.ca_file.display()), "");
    let (code, words) = said(&roads.stage, &["run", "--once"], &[]).await;
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains("error[network-failed]") && words.contains("invalid peer certificate"), "{words}");
    assert!(words.contains("`salesforce.ca_file`"), "{words}");
    assert!(!words.contains("trying again"), "{words}");

    // One that holds none of the two is a mistake with its line.
    std::fs::write(&roads.ca_file, "not a certificate").unwrap();
    roads.stage.rewrite("auth: client", &format!("ca_file: '{}', auth: client", roads.ca_file.display()));
    let (code, words) = said(&roads.stage, &["check"], &[]).await;
    assert_eq!(code, Some(2), "{words}");
    assert!(words.contains(".yaml:2:") && words.contains("it holds no certificate in PEM"), "{words}");
}
