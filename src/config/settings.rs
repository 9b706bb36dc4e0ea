//! The configuration as values, checked and complete: what `contract.md` calls by the same names.
//!
//! Comes in: made by `config::load` from YAML, or built in code by `demo` and tests. Goes out: to every room. Each
//! field says its unit, default and effect; the file's spelling is in `config::file`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::{Authorities, Cloud, RegistrySettings, Secret};
use crate::Error;

#[derive(Clone, Debug)]
pub struct Settings {
    /// Names topics, consumer group, transactional ids.
    pub name: String,
    pub salesforce: SalesforceSettings,
    pub kafka: KafkaSettings,
    /// None only if no output needs a registry (`format: json`).
    pub schema_registry: Option<RegistrySettings>,
    /// Chosen objects in the order of the file: exact names and globs, with their settings.
    pub objects: Vec<ObjectSettings>,
    /// Globs of objects to leave out, after `objects`.
    pub exclude: Vec<String>,
    /// Platform events, each with a topic of its own.
    pub platform_events: Vec<PlatformEventSettings>,
    /// What fields are called in schemas; default keep.
    pub field_naming: FieldNaming,
    /// Address of the status server; none: off.
    pub http_listen: Option<SocketAddr>,
    /// What fields are hashed with: its bytes as they are, at least [`SHORTEST_HASH_KEY`]. Some if any field is hashed.
    pub hash_key: Option<Secret>,
}

/// What a field is called that is new to a schema; those that have a name there keep it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldNaming {
    /// As Salesforce spells it.
    #[default]
    Keep,
    /// `Amount__c` becomes `Amount_c`.
    SingleUnderscore,
}
/// Shorter ones can be guessed.
pub const SHORTEST_HASH_KEY: usize = 16;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformEventSettings {
    /// API name: `Shipment__e`, or a standard event's such as `LoginEventStream`. Case counts.
    pub name: String,
    /// Where the configuration says so, as messages name it; empty if no file does.
    pub place: String,
}

pub const DESCRIBE_INTERVAL: Duration = Duration::from_secs(10 * 60);

#[derive(Clone, Debug)]
pub struct SalesforceSettings {
    /// Origin to log in at: `https://login.salesforce.com`, a My Domain, or `http://127.0.0.1:port`.
    pub login_origin: Url,
    /// Origin for data calls if the login gives none (access-token).
    pub instance: Option<Url>,
    /// The bare label that `instance` was given as (`UM1`): login checks it against the org's own instance name.
    pub instance_label: Option<String>,
    pub auth: Auth,
    /// Trusted beside the system's: of a proxy that opens TLS, or of a test org.
    pub authorities: Option<Authorities>,
    /// `65.0`
    pub api_version: String,
    /// How often the org is asked whether any object looks different. Default 10 min.
    pub describe_interval: Duration,
    pub pubsub: PubsubSettings,
    pub budget: BudgetSettings,
}

impl SalesforceSettings {
    pub fn new(login_origin: Url, auth: Auth) -> Self {
        Self {
            login_origin,
            instance: None,
            instance_label: None,
            auth,
            authorities: None,
            api_version: "65.0".to_owned(),
            describe_interval: DESCRIBE_INTERVAL,
            pubsub: PubsubSettings::default(),
            budget: BudgetSettings::default(),
        }
    }
}

/// How to log in.
#[derive(Clone, Debug)]
pub enum Auth {
    ClientCredentials {
        client_id: String,
        client_secret: Secret,
    },
    AccessToken {
        access_token: Secret,
    },
    /// A person logged in once, by `sf2kafka login`; the refresh token it gave is in the store.
    AuthorizationCode {
        app: App,
        /// As the app has it, byte for byte; none: `/services/oauth2/success` at the login host.
        callback_url: Option<String>,
        /// Default true.
        pkce: bool,
        token_store: TokenPlace,
    },
    /// A refresh token that somebody else got.
    RefreshToken {
        app: App,
        refresh_token: Secret,
        /// Where its successors are kept; none: it has none, the app does not rotate.
        token_store: Option<TokenPlace>,
    },
    JwtBearer {
        client_id: String,
        username: String,
        /// PEM.
        private_key: Secret,
        /// None: `https://login.salesforce.com`, or `https://test.salesforce.com` for a sandbox.
        audience: Option<String>,
    },
    Password {
        client_id: String,
        client_secret: Secret,
        username: String,
        password: Secret,
        security_token: Option<Secret>,
    },
}

impl Auth {
    /// As the configuration spells it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::ClientCredentials { .. } => "client-credentials",
            Self::AccessToken { .. } => "access-token",
            Self::AuthorizationCode { .. } => "authorization-code",
            Self::RefreshToken { .. } => "refresh-token",
            Self::JwtBearer { .. } => "jwt-bearer",
            Self::Password { .. } => "password",
        }
    }

    /// What keeps this login's refresh token.
    pub fn token_store(&self) -> Option<&TokenPlace> {
        match self {
            Self::AuthorizationCode { token_store, .. } => Some(token_store),
            Self::RefreshToken { token_store, .. } => token_store.as_ref(),
            Self::ClientCredentials { .. }
            | Self::AccessToken { .. }
            | Self::JwtBearer { .. }
            | Self::Password { .. } => None,
        }
    }
}

/// Where a refresh token is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenPlace {
    /// For processes of one machine.
    File(PathBuf),
    /// The control topic, for instances anywhere; sealed with this key of 32 bytes, as hexadecimal or base64 text.
    Kafka { key: Secret },
}

/// An External Client App or Connected App.
#[derive(Clone, Debug)]
pub struct App {
    pub client_id: String,
    /// None if the app does not require one.
    pub client_secret: Option<Secret>,
}

/// Where change events come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PubsubSettings {
    /// Host and port; default `api.pubsub.salesforce.com:7443`, for production and sandboxes alike.
    pub endpoint: String,
    /// Default true; false only to this machine itself: the access token goes along with every call.
    pub tls: bool,
}

impl Default for PubsubSettings {
    fn default() -> Self {
        Self { endpoint: "api.pubsub.salesforce.com:7443".to_owned(), tls: true }
    }
}

#[derive(Clone, Debug)]
pub struct BudgetSettings {
    /// Share of the org's daily calls this pipeline may spend, 0 to 1; default 0.5.
    pub daily_share: f64,
    /// Calls in flight at once; default 10.
    pub concurrent: usize,
    /// Calls per second; default 25.
    pub per_second: u32,
}

impl Default for BudgetSettings {
    fn default() -> Self {
        Self { daily_share: 0.5, concurrent: 10, per_second: 25 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    ExactlyOnce,
    AtLeastOnce,
}

#[derive(Clone, Debug)]
pub struct KafkaSettings {
    pub bootstrap_servers: String,
    /// librdkafka properties for every client (security and the like).
    pub properties: BTreeMap<String, Secret>,
    pub delivery: Delivery,
    /// Partitions of the control topic, that is shards; default 8.
    pub control_partitions: i32,
    /// -1: the broker's default.
    pub control_replication_factor: i32,
    pub topics: TopicSettings,
}

impl KafkaSettings {
    pub fn new(bootstrap_servers: &str) -> Self {
        Self {
            bootstrap_servers: bootstrap_servers.to_owned(),
            properties: BTreeMap::new(),
            delivery: Delivery::ExactlyOnce,
            control_partitions: 8,
            control_replication_factor: -1,
            topics: TopicSettings::default(),
        }
    }
}

#[derive(Clone, Debug)]
pub struct TopicSettings {
    /// Create missing data topics; default true.
    pub create: bool,
    /// Default 6.
    pub partitions: i32,
    pub replication_factor: i32,
    /// Topic settings on top of ours.
    pub config: BTreeMap<String, String>,
}

impl Default for TopicSettings {
    fn default() -> Self {
        Self { create: true, partitions: 6, replication_factor: -1, config: BTreeMap::new() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    FullLoad,
    Cdc,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaptureChoice {
    /// By subscription where the org has Change Data Capture switched on for the object, else by polling.
    Auto,
    Subscribe,
    Poll,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Every change is published with its whole record, completed by a reading where the event is partial.
    Full,
    /// Events are published as they come: what they do not say is null, and the column mask says so.
    ChangedOnly,
}

/// What becomes of records from before, when a field comes that they have values for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnNewField {
    /// The object is loaded anew, beside its changes.
    Backfill,
    /// They get it with their next change.
    Ignore,
}

#[derive(Clone, Debug)]
pub struct ObjectSettings {
    /// API name or glob.
    pub name: String,
    /// Where the configuration says so, as messages name it: `crm.yaml:9:5`; empty if no file does.
    pub place: String,
    pub method: Method,
    /// Load all rows before following changes; default true.
    pub initial_load: bool,
    /// How changes are found; default auto.
    pub capture: CaptureChoice,
    /// Of change events; default full.
    pub after: After,
    /// How long partial events wait for company before their records are read; default 1 s.
    pub refetch_wait: Duration,
    /// Default backfill.
    pub on_new_field: OnNewField,
    pub poll: PollSettings,
    pub outputs: Vec<OutputSettings>,
    pub fields: FieldRules,
    /// It comes of `clouds`, not of `objects`: captured if the org has it.
    pub cloud: Option<Cloud>,
    /// `where`: only records that Salesforce says fit this are published; SOQL, whole between parentheses. None: all.
    pub condition: Option<String>,
}

impl ObjectSettings {
    /// `name`: an API name or a glob.
    pub fn new(pipeline: &str, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            place: String::new(),
            method: Method::Cdc,
            initial_load: true,
            capture: CaptureChoice::Auto,
            after: After::Full,
            refetch_wait: Duration::from_secs(1),
            on_new_field: OnNewField::Backfill,
            poll: PollSettings::default(),
            outputs: vec![OutputSettings::change_table(pipeline)],
            fields: FieldRules::default(),
            cloud: None,
            condition: None,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldRules {
    /// If not empty: only these, what is hashed or masked, and what capture goes by (Id, the cursor field, CreatedDate,
    /// IsDeleted).
    pub include: Vec<String>,
    pub exclude: Vec<String>,
    /// Published as keyed hashes of their values.
    pub hash: Vec<String>,
    /// Published as `****` where there is a value.
    pub mask: Vec<String>,
    pub values: ValueRules,
}

impl FieldRules {
    /// All fields that some rule names, in the order of the lists.
    pub fn named(&self) -> impl Iterator<Item = &str> {
        let lists = [&self.include, &self.exclude, &self.hash, &self.mask];
        lists.into_iter().flatten().map(String::as_str)
    }
}

/// What becomes of values that Avro can hold in more than one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ValueRules {
    pub decimals: Decimals,
    pub compounds: Compounds,
    pub blobs: Blobs,
}

/// Numbers with decimals: double, currency, percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Decimals {
    #[default]
    Double,
    /// Exact, of the precision and scale that the describe tells.
    Decimal,
}

/// Addresses and locations. Their parts are fields of their own in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compounds {
    #[default]
    LeftOut,
    /// A record beside the parts, made of them.
    Record,
}

/// Fields of type base64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Blobs {
    #[default]
    LeftOut,
    /// The path that the bytes can be fetched by.
    Reference,
    /// The bytes, fetched by a call each.
    Include,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PollSettings {
    /// Default 30 s.
    pub interval: Duration,
    /// Quiet objects are polled less often, up to this; default 15 min.
    pub max_interval: Duration,
    /// How far back each poll reads again, for transactions that commit late; default 15 min.
    pub look_back: Duration,
    /// How far a window stays behind the server's clock; default 2 s.
    pub settle: Duration,
    /// How often getDeleted is asked; default 1 h, at most 1 h.
    pub deleted_interval: Duration,
    /// Server-time width above which a window is read by the Bulk API rather than by REST pages, if it holds more
    /// rows than `bulk_from`; default 50,000 rows.
    pub bulk_from: u64,
}

impl Default for PollSettings {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(30),
            max_interval: Duration::from_secs(15 * 60),
            look_back: Duration::from_secs(15 * 60),
            settle: Duration::from_secs(2),
            deleted_interval: Duration::from_secs(60 * 60),
            bulk_from: 50_000,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvelopeKind {
    ChangeTable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFormat {
    /// Avro record with the one field `Id`.
    Record,
    /// The id as UTF-8 text.
    Text,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputSettings {
    pub envelope: EnvelopeKind,
    /// Topic template: `{name}` and `{object}` (the target name) are put in.
    pub topic: String,
    pub key: KeyFormat,
    /// Default `header__`.
    pub header_prefix: String,
    /// Avro namespace; default `salesforce.<name>`.
    pub namespace: String,
}

impl OutputSettings {
    pub fn change_table(pipeline: &str) -> Self {
        Self {
            envelope: EnvelopeKind::ChangeTable,
            topic: "{name}.{object}".to_owned(),
            key: KeyFormat::Record,
            header_prefix: "header__".to_owned(),
            namespace: default_namespace(pipeline),
        }
    }

    pub fn topic_for(&self, pipeline: &str, target_object: &str) -> String {
        self.topic.replace("{name}", pipeline).replace("{object}", target_object)
    }
}

fn default_namespace(pipeline: &str) -> String {
    format!("salesforce.{}", avro_name(pipeline))
}

/// A pipeline's name as a namespace: Avro knows no dashes, and no part may begin with a digit.
fn avro_name(pipeline: &str) -> String {
    let part = |part: &str| {
        let clean: String =
            part.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).collect();
        if clean.starts_with(|first: char| first.is_ascii_digit()) || clean.is_empty() {
            format!("_{clean}")
        } else {
            clean
        }
    };
    pipeline.split('.').map(part).collect::<Vec<_>>().join(".")
}

impl Settings {
    /// All defaults, no objects; the file's defaults are these.
    pub fn new(
        name: &str,
        salesforce: SalesforceSettings,
        kafka: KafkaSettings,
        schema_registry: Option<RegistrySettings>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            salesforce,
            kafka,
            schema_registry,
            objects: Vec::new(),
            exclude: Vec::new(),
            platform_events: Vec::new(),
            field_naming: FieldNaming::Keep,
            http_listen: Some(SocketAddr::from(([127, 0, 0, 1], 8180))),
            hash_key: None,
        }
    }

    /// The same with these objects, each with all defaults.
    #[must_use]
    pub fn with_objects<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        self.objects = names.into_iter().map(|name| ObjectSettings::new(&self.name, name)).collect();
        self
    }

    /// The same with these platform events.
    #[must_use]
    pub fn with_platform_events<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        let event = |name: &str| PlatformEventSettings { name: name.to_owned(), place: String::new() };
        self.platform_events = names.into_iter().map(event).collect();
        self
    }

    /// Names and globs of `objects`, and those of `clouds` behind them.
    pub fn wanted(&self) -> (Vec<&str>, Vec<&str>) {
        // Entries are in this order: a place behind both lists is a place among them.
        let own = self.objects.partition_point(|object| object.cloud.is_none());
        let mut names: Vec<&str> = self.objects.iter().map(|object| object.name.as_str()).collect();
        let starters = names.split_off(own);
        (names, starters)
    }

    /// An error that this entry of `objects` leads to, with the line it stands in.
    pub fn at_entry(&self, index: usize, error: Error) -> Error {
        match self.objects.get(index).map(|object| object.place.as_str()) {
            None | Some("") => error,
            Some(place) => error.during(place),
        }
    }

    /// The topic of a platform event.
    pub fn event_topic(&self, event: &str) -> String {
        format!("{}.{event}", self.name)
    }

    /// Avro namespace of platform events' records.
    pub fn event_namespace(&self) -> String {
        default_namespace(&self.name)
    }

    pub fn control_topic(&self) -> String {
        format!("{}.control", self.name)
    }

    pub fn dead_letter_topic(&self) -> String {
        format!("{}.dead-letters", self.name)
    }

    pub fn notification_topic(&self) -> String {
        format!("{}.notifications", self.name)
    }

    pub fn group_id(&self) -> String {
        format!("sf2kafka-{}", self.name)
    }

    pub fn transactional_id(&self, shard: i32) -> String {
        format!("sf2kafka-{}-{shard}", self.name)
    }
}
