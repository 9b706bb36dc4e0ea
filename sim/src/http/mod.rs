//! The org on the wire: OAuth, REST, Bulk API 2.0 and the control interface, on one loopback port; the Pub/Sub API
//! on another.
//!
//! Comes in: HTTP from any client. Goes out: what Salesforce would answer (rest.md), or a fault that was asked for. It
//! listens on loopback only. [`control`] is ours; everything else is held to the reference, not to a client.

mod blob;
mod bulk;
mod control;
mod fault;
mod listen;
mod oauth;
mod pubsub;
mod query;
mod reply;
mod rest;
mod setup;
mod tooling;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use http::{HeaderMap, Method, StatusCode, Uri, header};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::org::{Org, OrgConfig};
use crate::pubsub::{Events, Identity, PubSubConfig};
use fault::Faults;
use oauth::{Logins, Signer};
use reply::{Answer, error};

/// URI and headers together may have so many bytes; more is 431, or 414 for the URI alone (rest.md 3.1).
const MOST_REQUEST_BYTES: usize = 16_384;
/// A late transaction's events come so much later at most.
const SETTLE: std::time::Duration = std::time::Duration::from_millis(20);
const MOST_BODY_BYTES: usize = 8 * 1024 * 1024;

#[derive(Clone, Debug)]
pub struct SimulatorConfig {
    /// Loopback only; port 0 for a free one.
    pub listen: SocketAddr,
    pub org: OrgConfig,
    pub client_id: String,
    pub client_secret: String,
    pub username: String,
    pub password: String,
    pub refresh_token: String,
    /// An access token lives so long after its last use.
    pub token_lifetime: std::time::Duration,
    /// A refresh gives a new refresh token, and the old one is dead.
    pub rotation: bool,
    pub daily_limit: u64,
    pub pubsub: PubSubConfig,
}

impl Default for SimulatorConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            org: OrgConfig::default(),
            client_id: "simulator-client".to_owned(),
            client_secret: "simulator-secret".to_owned(),
            username: "integration@example.com".to_owned(),
            password: "simulator-password".to_owned(),
            refresh_token: "5AepSimulatorRefreshToken".to_owned(),
            token_lifetime: std::time::Duration::from_secs(2 * 60 * 60),
            rotation: false,
            daily_limit: 1_000_000,
            pubsub: PubSubConfig::default(),
        }
    }
}

/// A running simulator; it ends when it is shut down or dropped.
pub struct Simulator {
    server: Arc<Server>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    others: [JoinHandle<()>; 2],
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.others.iter().for_each(JoinHandle::abort);
    }
}

impl Simulator {
    pub async fn start(config: SimulatorConfig) -> std::io::Result<Self> {
        for listen in [config.listen, config.pubsub.listen] {
            if !listen.ip().is_loopback() {
                return Err(std::io::Error::other(format!("{listen} is not a loopback address")));
            }
        }
        let identity = config.pubsub.tls.as_ref().map(Identity::new).transpose()?.map(Arc::new);
        let listener = TcpListener::bind(config.listen).await?;
        let address = listener.local_addr()?;
        let for_pubsub = TcpListener::bind(config.pubsub.listen).await?;
        let org = Org::new(OrgConfig { username: config.username.clone(), ..config.org.clone() });
        let now_ms = org.now_ms();
        let server = Arc::new(Server {
            events: Events::new(&org, &config.pubsub),
            org,
            address,
            pubsub_address: for_pubsub.local_addr()?,
            certificate: identity.as_ref().map(|identity| identity.certificate_pem.clone()),
            logins: Mutex::new(Logins::new(&config, address.port(), now_ms)),
            signer: Signer::new()?,
            queries: Mutex::default(),
            jobs: Mutex::default(),
            jobs_created: AtomicU64::new(0),
            faults: Faults::default(),
            counters: Mutex::default(),
            asked_about: Mutex::default(),
            settings: Mutex::new(Settings { daily_limit: config.daily_limit, ..Settings::default() }),
            traffic: Mutex::default(),
            config,
        });
        let (stop, stopped) = watch::channel(false);
        let router = Router::new().fallback(handle).with_state(server.clone());
        let rpcs = crate::pubsub::Rpcs { server: server.clone() };
        let others = [
            tokio::spawn(crate::pubsub::serve(for_pubsub, rpcs, identity, stopped.clone())),
            tokio::spawn(settle(server.org.clone())),
        ];
        let task = tokio::spawn(listen::serve(listener, router, stopped));
        Ok(Self { server, stop, task, others })
    }

    /// `http://127.0.0.1:port`: login host and instance.
    pub fn origin(&self) -> String {
        self.server.origin()
    }

    /// `http://127.0.0.1:port`, or `https://localhost:port`: where the Pub/Sub API is.
    pub fn pubsub_origin(&self) -> String {
        self.server.pubsub_origin()
    }

    /// `127.0.0.1:port`.
    pub fn pubsub_authority(&self) -> String {
        self.server.pubsub_address.to_string()
    }

    /// What a client of the Pub/Sub API has to trust, if it is behind TLS.
    pub fn pubsub_certificate(&self) -> Option<&str> {
        self.server.certificate.as_deref()
    }

    pub fn control_url(&self) -> String {
        format!("{}/simulator", self.origin())
    }

    pub fn org(&self) -> &Arc<Org> {
        &self.server.org
    }

    /// Stops listening; requests in hand are given up after a moment.
    pub async fn shutdown(self) {
        // Nobody listens only if the server ended already.
        let _ = self.stop.send(true);
        let mut this = self;
        if tokio::time::timeout(std::time::Duration::from_secs(1), &mut this.task).await.is_err() {
            this.task.abort();
        }
    }
}

/// Makes late transactions visible though nobody looks, so that their events come in time.
async fn settle(org: Arc<Org>) {
    loop {
        tokio::time::sleep(SETTLE).await;
        if org.pending().0 == 0 {
            continue;
        }
        let org = org.clone();
        // Events are made on the way: that is work, not waiting. A panic there ends only this look.
        let _ = tokio::task::spawn_blocking(move || org.settle()).await;
    }
}

/// What can be set while it runs.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub daily_limit: u64,
    pub calls: u64,
    pub gzip: bool,
    /// Rows of a REST page at most.
    pub page_cap: u64,
    /// Rows of a Bulk result page if nothing else is asked.
    pub bulk_page_cap: u64,
    /// A job is queued and runs so long, each, in real time.
    pub job_delay: std::time::Duration,
    /// A page that is fetched again comes in another order.
    pub reorder: bool,
    /// `latestDateCovered` lies so far behind the end asked for.
    pub replication_delay_ms: i64,
    /// Objects that the user may not see.
    pub hidden_objects: Vec<String>,
    /// When that changed last, in the org's time: permissions count as changes of a describe.
    pub visibility_ms: i64,
    /// Past its daily limit the org still answers, as production orgs do for a while.
    pub soft_limit: bool,
    /// Bulk query jobs a day.
    pub job_limit: u64,
    /// What the token endpoint names; the simulator itself if absent.
    pub instance_url: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            daily_limit: 1_000_000,
            calls: 0,
            gzip: true,
            page_cap: 2_000,
            bulk_page_cap: 100_000,
            job_delay: std::time::Duration::from_millis(100),
            reorder: false,
            replication_delay_ms: 0,
            hidden_objects: Vec::new(),
            visibility_ms: 0,
            soft_limit: false,
            job_limit: 10_000,
            instance_url: None,
        }
    }
}

pub(crate) struct Server {
    pub org: Arc<Org>,
    pub events: Arc<Events>,
    pub address: SocketAddr,
    pub pubsub_address: SocketAddr,
    pub certificate: Option<String>,
    pub config: SimulatorConfig,
    pub logins: Mutex<Logins>,
    pub signer: Signer,
    pub queries: Mutex<query::Locators>,
    pub jobs: Mutex<BTreeMap<String, Arc<Mutex<bulk::Job>>>>,
    /// Jobs ever created: an id is never given twice.
    pub jobs_created: AtomicU64,
    pub faults: Faults,
    /// Calls by kind.
    pub counters: Mutex<BTreeMap<String, u64>>,
    /// Requests by the object that they are about; the parts of a composite call each.
    pub asked_about: Mutex<BTreeMap<String, u64>>,
    pub settings: Mutex<Settings>,
    pub traffic: Mutex<Vec<Arc<control::TrafficRun>>>,
}

/// A mutex whose holder panicked is as good as any: its data are counters and lists.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Server {
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn settings(&self) -> Settings {
        lock(&self.settings).clone()
    }

    pub fn pubsub_origin(&self) -> String {
        match &self.certificate {
            None => format!("http://{}", self.pubsub_address),
            Some(_) => format!("https://localhost:{}", self.pubsub_address.port()),
        }
    }

    /// Whether the token is a session's that may read data, and uses it.
    pub fn has_session(&self, token: &str) -> bool {
        oauth::may_read(self, token)
    }

    pub fn count(&self, kind: &str) {
        *lock(&self.counters).entry(kind.to_owned()).or_default() += 1;
    }

    pub fn asked_about(&self, object: &str) {
        *lock(&self.asked_about).entry(object.to_owned()).or_default() += 1;
    }
}

/// A request, read whole.
pub(crate) struct Call {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Path segments, percent-decoded.
    pub path: Vec<String>,
    pub query: Vec<(String, String)>,
}

impl Call {
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The form's fields of a POST, or the parameters of the URL.
    pub fn form(&self) -> BTreeMap<String, String> {
        let mut form: BTreeMap<String, String> = self.query.iter().cloned().collect();
        form.extend(url::form_urlencoded::parse(&self.body).into_owned());
        form
    }
}

async fn handle(State(server): State<Arc<Server>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MOST_BODY_BYTES).await else {
        return error(StatusCode::PAYLOAD_TOO_LARGE, "REQUEST_TOO_LARGE", "the request body is too large")
            .into_response(None);
    };
    let path = parts
        .uri
        .path()
        .split('/')
        .filter(|segment| !segment.is_empty())
        .map(|segment| {
            url::form_urlencoded::parse(segment.replace('+', "%2B").as_bytes())
                .map(
                    |(key, value)| if value.is_empty() { key.into_owned() } else { format!("{key}={value}") },
                )
                .collect()
        })
        .collect();
    let query =
        url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    let call = Call { method: parts.method, uri: parts.uri, headers: parts.headers, body, path, query };
    let date = httpdate::fmt_http_date(
        std::time::UNIX_EPOCH
            + std::time::Duration::from_millis(u64::try_from(server.org.now_ms()).unwrap_or(0)),
    );
    let mut response = answer(&server, &call).await;
    if let Ok(date) = date.parse() {
        response.headers_mut().entry(header::DATE).or_insert(date);
    }
    response
}

async fn answer(server: &Arc<Server>, call: &Call) -> Response {
    if call.path.first().map(String::as_str) == Some("simulator") {
        return control::answer(server, call).await;
    }
    let effect = server.faults.before(call).await;
    let cut = match effect {
        fault::Effect::None => None,
        fault::Effect::Answer(response) => return response,
        fault::Effect::ExpireSession => {
            lock(&server.logins).expire_all();
            None
        }
        fault::Effect::Body(change) => Some(change),
    };
    let uri = call.uri.path_and_query().map_or(0, |text| text.as_str().len());
    let headers: usize = call.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if uri > MOST_REQUEST_BYTES {
        return error(StatusCode::URI_TOO_LONG, "URI_TOO_LONG", "URI Too Long").into_response(None);
    }
    if uri + headers > MOST_REQUEST_BYTES {
        return error(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "REQUEST_HEADER_FIELDS_TOO_LARGE",
            "Request Header Fields Too Large",
        )
        .into_response(None);
    }
    let path: Vec<&str> = call.path.iter().map(String::as_str).collect();
    let reply = match path.as_slice() {
        ["services", "oauth2", rest @ ..] => oauth::answer(server, call, rest).await,
        ["id", org, user] => oauth::identity(server, call, org, user),
        ["services", "data"] => rest::versions(),
        ["services", "data", version, rest @ ..] => {
            server.count("calls");
            match rest::check_version(version)
                .and_then(|version| oauth::check(server, call).map(|()| version))
                .and_then(|version| server.within_limit().map(|()| version))
            {
                Ok(version) => rest::answer(server, call, &version, rest, cut.as_ref()).await,
                Err(refusal) => refusal,
            }
        }
        ["services", "Soap", "u", _] => oauth::soap_login(server, call),
        path => oauth::browser(server, call, path).unwrap_or_else(reply::not_found),
    };
    let limit_info = reply.billed.then(|| {
        let mut settings = lock(&server.settings);
        settings.calls += 1;
        format!("api-usage={}/{}", settings.calls, settings.daily_limit)
    });
    let gzip = server.settings().gzip
        && call.header("accept-encoding").is_some_and(|accepted| accepted.contains("gzip"));
    let response = reply.compressed(gzip).into_response(limit_info);
    match cut {
        Some(change) => change.apply(response),
        None => response,
    }
}

impl Server {
    /// The refusal of a day's calls used up (rest.md 5).
    fn within_limit(&self) -> Result<(), Reply> {
        let settings = lock(&self.settings);
        if settings.soft_limit || settings.calls < settings.daily_limit {
            return Ok(());
        }
        let refusal = error(StatusCode::FORBIDDEN, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.");
        Err(refusal.unbilled())
    }

    /// Whether the user may see the object at all.
    pub(crate) fn shows(&self, object: &str) -> bool {
        !lock(&self.settings).hidden_objects.iter().any(|hidden| hidden.eq_ignore_ascii_case(object))
    }
}

/// Bodies made on another thread, chunk by chunk.
pub(crate) fn streamed(make: impl FnOnce(&mut dyn FnMut(Vec<u8>) -> bool) + Send + 'static) -> Body {
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Bytes, std::io::Error>>(4);
    tokio::task::spawn_blocking(move || {
        make(&mut |chunk| sender.blocking_send(Ok(Bytes::from(chunk))).is_ok());
    });
    Body::from_stream(futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|chunk| (chunk, receiver))
    }))
}

pub(crate) type Reply = Answer;
