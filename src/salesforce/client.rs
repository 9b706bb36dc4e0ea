//! One login and one purpose: the door to Salesforce that other rooms hold.
//!
//! Comes in: settings. Goes out: a [`Client`], cheap to clone; the calls themselves stand in the files named for
//! them. It also keeps the server's clock, by which all windows are cut: never by ours.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::SalesforceSettings;
use crate::domain::Stamp;
use crate::error::{Error, Kind, Result};
use crate::status::Board;

use super::allowance::{Allowance, Governor};
use super::clock::ServerClock;
use super::company::{Company, Seat, Seats};
use super::describe::Metadata;
use super::describing::Describing;
use super::fault::{Area, Cure, Fault};
use super::login::origin_of;
use super::login::place::SharedStore;
use super::maintenance::Maintenance;
use super::session::Sessions;
use super::transport::Call;

/// Makes ring the process's TLS provider; a provider that is already there stays.
pub fn install_tls() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn http_client(settings: &SalesforceSettings) -> reqwest::Result<reqwest::ClientBuilder> {
    install_tls();
    let mut client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(20))
        .tcp_keepalive(Duration::from_secs(30))
        .user_agent(concat!("sf2kafka/", env!("CARGO_PKG_VERSION")));
    if let Some(authorities) = &settings.authorities {
        client = client.tls_certs_merge(reqwest::Certificate::from_pem_bundle(authorities.pem().as_bytes())?);
    }
    if settings.login_origin.scheme() == "http" {
        // This machine itself: no proxy gets to see what is not encrypted.
        client = client.no_proxy();
    }
    Ok(client)
}

/// Logins are few, and renewed in runtimes of their own: a connection that was kept would belong to one that is gone.
pub(super) fn login_http(settings: &SalesforceSettings) -> Result<reqwest::Client, Fault> {
    http_client(settings)
        .and_then(|client| client.pool_max_idle_per_host(0).build())
        .map_err(|_| Fault::new(Kind::Internal, Cure::None, "the http client cannot be made"))
}

fn no_http(error: reqwest::Error) -> Error {
    Error::new(Kind::Internal, "the http client cannot be made").source(error.without_url())
}

/// What calls are for: counted apart, and followed changes go before loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    Login,
    Check,
    Describe,
    Poll,
    Deletions,
    Subscribe,
    Refetch,
    Load,
}

impl Purpose {
    pub fn word(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Check => "check",
            Self::Describe => "describe",
            Self::Poll => "poll",
            Self::Deletions => "deletions",
            Self::Subscribe => "subscribe",
            Self::Refetch => "refetch",
            Self::Load => "load",
        }
    }
}

/// How long to try.
#[derive(Clone, Debug)]
pub struct Pace {
    /// First pause before a repeat; doubles, with jitter. Default 0.5 s.
    pub first_pause: Duration,
    /// Default 30 s.
    pub longest_pause: Duration,
    /// A call that kept failing for so long is given up, with its last error. Default 5 min.
    pub give_up_after: Duration,
    /// From request to headers; a query may take two minutes. Default 10 min.
    pub answer_timeout: Duration,
    /// A call that Salesforce's maintenance refuses waits so long for its end. Default 24 h.
    pub maintenance: Duration,
    /// Between two pieces of a body. Default 60 s.
    pub idle_timeout: Duration,
    /// First pause between two looks at a bulk job, and the longest. Default 0.2 s and 20 s.
    pub job_first_look: Duration,
    pub job_longest_look: Duration,
    /// A bulk job that shows no progress for so long has failed. Default 2 h.
    pub job_stall: Duration,
    /// Pause after the org said that its daily allowance is spent; doubles up to ten times this. Default 2 min.
    pub limit_pause: Duration,
    /// Whether to wait when the allowance is spent; else the call fails with `api-limit-reached`. Default true.
    pub wait_for_allowance: bool,
    /// How long a day of the org's allowance is: 24 h, and shorter where a test lives faster.
    pub day: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(30),
            give_up_after: Duration::from_secs(5 * 60),
            answer_timeout: Duration::from_secs(10 * 60),
            maintenance: Duration::from_secs(24 * 60 * 60),
            idle_timeout: Duration::from_secs(60),
            job_first_look: Duration::from_millis(200),
            job_longest_look: Duration::from_secs(20),
            job_stall: Duration::from_secs(2 * 60 * 60),
            limit_pause: Duration::from_secs(2 * 60),
            wait_for_allowance: true,
            day: Duration::from_secs(24 * 60 * 60),
        }
    }
}

impl Pace {
    /// For commands that a person waits for: little patience, no waiting for allowances.
    pub fn brief() -> Self {
        Self {
            give_up_after: Duration::from_secs(15),
            longest_pause: Duration::from_secs(4),
            answer_timeout: Duration::from_secs(130),
            maintenance: Duration::from_secs(15),
            wait_for_allowance: false,
            ..Self::default()
        }
    }
}

/// Calls made so far, by purpose.
pub type Calls = BTreeMap<Purpose, u64>;

#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    pace: Arc<Pace>,
    purpose: Purpose,
    /// Counts the calls of one piece of work.
    tally: Option<Arc<AtomicU64>>,
}

struct Shared {
    http: reqwest::Client,
    sessions: Sessions,
    governor: Arc<Governor>,
    company: Arc<Company>,
    metadata: Metadata,
    describing: Describing,
    clock: ServerClock,
    maintenance: Maintenance,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("instance", &self.instance()).field("purpose", &self.purpose).finish()
    }
}

impl Client {
    /// Logs in, hears the server's clock, and checks that the org offers the API version.
    pub async fn connect(settings: &SalesforceSettings) -> Result<Self> {
        Self::connect_with(settings, Pace::default()).await
    }

    pub async fn connect_with(settings: &SalesforceSettings, pace: Pace) -> Result<Self> {
        let client = Self::log_in(settings, pace, None).await?;
        client.prove().await?;
        Ok(client)
    }

    /// The same without a billed call: whether a login that was kept is still good, and the org the one that is meant, is
    /// not known before [`Self::prove`]. `shared`: where the login is kept if the settings say `token_store: kafka`.
    pub async fn log_in(
        settings: &SalesforceSettings,
        pace: Pace,
        shared: Option<Arc<dyn SharedStore>>,
    ) -> Result<Self> {
        install_tls();
        let http = http_client(settings).and_then(reqwest::ClientBuilder::build).map_err(no_http)?;
        let of_logins = login_http(settings).map_err(|fault| fault.into_error("login"))?;
        let seats = Arc::<Seats>::default();
        let governor = Arc::new(Governor::new(&settings.budget, pace.day, &seats));
        let sessions = Sessions::open(settings.clone(), of_logins, Arc::clone(&governor), &pace, shared)
            .await
            .map_err(|fault| fault.into_error(&format!("login at {}", origin_of(&settings.login_origin))))?;
        let company = Arc::new(Company::new(seats));
        let (metadata, describing) = (Metadata::default(), Describing::default());
        let maintenance = Maintenance::new("REST and Bulk API");
        let clock = ServerClock::default();
        let shared = Shared { http, sessions, governor, company, metadata, describing, clock, maintenance };
        let client =
            Self { shared: Arc::new(shared), pace: Arc::new(pace), purpose: Purpose::Check, tally: None };
        client.fetch_server_time().await?;
        Ok(client)
    }

    /// The same login for other work.
    #[must_use]
    pub fn for_purpose(&self, purpose: Purpose) -> Self {
        Self { purpose, ..self.clone() }
    }

    /// The same login, with calls that the org counts counted here as well.
    #[must_use]
    pub fn counted_by(&self, tally: &Arc<AtomicU64>) -> Self {
        Self { tally: Some(Arc::clone(tally)), ..self.clone() }
    }

    /// The same login with other patience.
    #[must_use]
    pub fn with_pace(&self, pace: Pace) -> Self {
        Self { pace: Arc::new(pace), ..self.clone() }
    }

    /// The same login for what is left for later where the day's calls are short: `api-limit-reached` instead of a wait.
    #[must_use]
    pub fn without_waiting(&self) -> Self {
        self.with_pace(Pace { wait_for_allowance: false, ..Pace::clone(&self.pace) })
    }

    /// Calls and allowance are told to this board from now on.
    pub fn report_to(&self, board: &Arc<Board>) {
        self.shared.governor.report_to(board);
        self.shared.maintenance.report_to(board);
    }

    /// The server's clock: the newest `Date` header and the time since. Never ahead of the server; it may step
    /// back by a second between two answers.
    pub fn server_time(&self) -> Stamp {
        self.shared.clock.now()
    }

    /// Asks for the server's clock by a call that is not billed.
    pub async fn fetch_server_time(&self) -> Result<Stamp> {
        #[derive(Deserialize)]
        struct Version {
            #[serde(default)]
            version: String,
        }
        let what = format!("asking {} for its API versions", self.instance());
        let mut call = Call::get(Area::Versions, &*what, "/services/data/");
        call.open_to_all = true;
        let versions: Vec<Version> = self
            .fetch(&call, |reply| serde_json::from_slice(&reply.body).map_err(|error| Fault::json(&error)))
            .await?;
        if !self.shared.clock.is_known() {
            return Err(Error::new(Kind::ReplyUnreadable, "the answer has no readable `Date` header")
                .during(what)
                .hint("look for a proxy that takes headers away: windows are cut by the server's clock"));
        }
        let number = |text: &str| text.parse::<f64>().unwrap_or(0.0);
        let wanted = number(&self.settings().api_version);
        if !versions.is_empty() && !versions.iter().any(|offered| number(&offered.version) == wanted) {
            let newest = versions.iter().map(|offered| number(&offered.version)).fold(0.0, f64::max);
            return Err(Error::new(
                Kind::ConfigInvalid,
                format!("the org does not offer API version {wanted:.1}, its newest is {newest:.1}"),
            )
            .hint("set `salesforce.api_version` to a version that the org offers"));
        }
        Ok(self.server_time())
    }

    /// Uses the login, as far as that is needed to know that it is good and leads to the org that is meant.
    pub async fn prove(&self) -> Result<()> {
        self.prove_kept_session().await?;
        self.check_instance_label().await
    }

    /// A session that was kept from earlier is used once, so that one that is over is renewed here and not in the middle
    /// of something: who connects wants to hear that the login is good.
    async fn prove_kept_session(&self) -> Result<()> {
        if !self.sessions().current().is_kept {
            return Ok(());
        }
        let mut call = Call::get(Area::Versions, "using the kept login", self.data_path("/limits"));
        call.also = &[StatusCode::FORBIDDEN, StatusCode::NOT_FOUND];
        self.fetch(&call, |_| Ok(())).await
    }

    /// A bare label (`UM1`) is checked against the org's own word for its instance.
    async fn check_instance_label(&self) -> Result<()> {
        #[derive(Deserialize)]
        struct Answer {
            records: Vec<Organization>,
        }
        #[derive(Deserialize)]
        struct Organization {
            #[serde(rename = "InstanceName")]
            instance_name: String,
        }
        let Some(label) = &self.settings().instance_label else { return Ok(()) };
        let path = self.data_path("/query?q=SELECT+InstanceName+FROM+Organization");
        let call = Call::get(Area::Query, "asking the org for its instance name", path);
        let answer: Answer = self
            .fetch(&call, |reply| serde_json::from_slice(&reply.body).map_err(|error| Fault::json(&error)))
            .await?;
        match answer.records.first() {
            Some(org) if !org.instance_name.eq_ignore_ascii_case(label) => Err(Error::new(
                Kind::ConfigInvalid,
                format!("`salesforce.instance` says {label}, but the org is on {}", org.instance_name),
            )
            .hint("check that this is the org you mean; then correct or remove `salesforce.instance`")),
            _ => Ok(()),
        }
    }

    /// 18 or 15 characters, as the login told; empty if it did not.
    pub fn org_id(&self) -> String {
        self.shared.sessions.current().org_id.clone()
    }

    /// Origin of data calls.
    pub fn instance(&self) -> String {
        self.shared.sessions.current().origin.clone()
    }

    pub fn allowance(&self) -> watch::Receiver<Allowance> {
        self.shared.governor.watch()
    }

    pub fn calls(&self) -> Calls {
        self.shared.governor.calls()
    }

    /// Calls made so far that the org counts, by purpose.
    pub fn billed_calls(&self) -> Calls {
        self.shared.governor.billed()
    }

    /// For an object that is followed, as long as it is. `polls`: by polls, `interval` apart.
    pub fn seat(&self, polls: bool, interval: Duration) -> Seat {
        self.shared.company.seat(polls, interval)
    }

    /// How far apart calls should be that are made again and again: `interval`, or more where a day's calls would not
    /// last for a day.
    pub fn stretched(&self, purpose: Purpose, interval: Duration) -> Duration {
        self.shared.governor.stretched(purpose, interval)
    }

    /// A poll was read to its end.
    pub fn polled(&self) {
        self.shared.governor.polled();
    }

    /// How long a day of the org's allowance is.
    pub fn day(&self) -> Duration {
        self.pace.day
    }

    /// How often the org is asked whether any description has changed; of a shorter day the same part.
    pub fn describe_interval(&self) -> Duration {
        self.settings()
            .describe_interval
            .mul_f64(self.pace.day.as_secs_f64() / Pace::default().day.as_secs_f64())
    }

    /// When a poll that is due at `at` meets those of other objects: never later.
    pub fn on_grid(&self, at: Instant, interval: Duration) -> Instant {
        self.shared.company.on_grid(at, interval)
    }

    // ---- for the other files of this room ----

    pub(super) fn tally(&self) {
        if let Some(tally) = &self.tally {
            tally.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn metadata(&self) -> &Metadata {
        &self.shared.metadata
    }

    pub(super) fn describing(&self) -> &Describing {
        &self.shared.describing
    }

    pub(super) fn company(&self) -> &Arc<Company> {
        &self.shared.company
    }

    pub(super) fn settings(&self) -> &SalesforceSettings {
        self.shared.sessions.settings()
    }

    pub(super) fn pace(&self) -> &Pace {
        &self.pace
    }

    pub(super) fn purpose(&self) -> Purpose {
        self.purpose
    }

    pub(super) fn http(&self) -> &reqwest::Client {
        &self.shared.http
    }

    pub(super) fn sessions(&self) -> &Sessions {
        &self.shared.sessions
    }

    pub(super) fn governor(&self) -> &Governor {
        &self.shared.governor
    }

    /// `/services/data/v65.0` and what follows.
    pub(super) fn data_path(&self, rest: &str) -> String {
        format!("/services/data/v{}{rest}", self.settings().api_version)
    }

    pub(super) fn heard(&self, headers: &HeaderMap) {
        self.shared.governor.heard(headers);
        self.shared.clock.heard(headers);
    }

    pub(super) fn maintenance(&self) -> &Maintenance {
        &self.shared.maintenance
    }
}
