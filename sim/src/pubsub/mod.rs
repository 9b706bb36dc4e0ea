//! The org on the event bus: Salesforce's Pub/Sub API (`eventbus.v1.PubSub`), plain or over TLS.
//!
//! Comes in: gRPC from any client, and every transaction of the org when it becomes visible. Goes out: change events,
//! platform events, schemas (docs/simulator.md says what is modelled and by which source). Nothing is kept of objects
//! that nobody selected; the log is bounded by retention and size.

mod avro;
mod bitmap;
mod bus;
mod capture;
mod channels;
mod diff;
mod encode;
mod faults;
mod link;
mod managed;
mod orders;
mod publish;
mod refusal;
mod schema;
mod serve;
mod service;
mod stream;
mod topic;

#[allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    dead_code,
    missing_docs,
    unused_results,
    reason = "made from proto/pubsub_api.proto by `cargo xtask codegen`"
)]
pub(crate) mod eventbus;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use avro::schema_id;
pub use bitmap::FieldSet;
pub use channels::{ChannelConfig, ChannelMember};
pub(crate) use channels::{Channels, is_capturable};
pub(crate) use faults::{Faults, Rule};
pub(crate) use managed::{ManagedOrder, Subscriptions};
pub(crate) use orders::{EventOrder, hex_of};
pub(crate) use schema::{change_event_of, custom_field_id, object_of};
pub use serve::TlsConfig;
pub(crate) use serve::{Identity, serve};
pub(crate) use service::Rpcs;

use crate::catalog::ObjectDef;
use crate::http::lock;
use crate::org::{Org, Visible};
use bus::{Bus, Change, Entry, New};
use schema::EventSchema;
use topic::Topic;

#[derive(Clone, Debug)]
pub struct PubSubConfig {
    /// Loopback only; port 0 for a free one.
    pub listen: SocketAddr,
    /// Plain text if absent.
    pub tls: Option<TlsConfig>,
    /// Objects selected on the standard channel.
    pub selected: Vec<String>,
    pub channels: Vec<ChannelConfig>,
    pub habits: Habits,
}

impl Default for PubSubConfig {
    fn default() -> Self {
        let selected = ["Account", "Contact", "Lead", "Opportunity", "Case", "Invoice__c"];
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            tls: None,
            selected: selected.map(str::to_owned).to_vec(),
            channels: Vec::new(),
            habits: Habits::default(),
        }
    }
}

/// How the bus behaves; all of it can be changed while it runs.
#[derive(Clone, Debug)]
pub struct Habits {
    /// An empty response at the latest after this, while events are asked for.
    pub keepalive: Duration,
    /// A stream that asks for nothing is ended after this.
    pub idle: Duration,
    /// `PublishStream` without a publish is ended after this.
    pub publish_idle: Duration,
    /// Requested events outstanding at most.
    pub cap: i32,
    pub events_per_response: usize,
    /// In the org's time.
    pub retention: Duration,
    /// Payloads that the log keeps at most, whatever the retention.
    pub log_bytes: usize,
    /// Eight bytes, as before 2023.
    pub short_replay_ids: bool,
    /// Equal updates and deletes of one object in one transaction come as one event.
    pub merge_equal: bool,
    /// Long texts of so many characters may come as diffs; none at all if absent.
    pub diff_from: Option<usize>,
    /// A false checkbox is null in CREATE and UNDELETE.
    pub null_booleans: bool,
    /// An update comes as two events: its LastModifiedDate, then what was changed (pubsub.md 5.2).
    pub split_stamps: bool,
    /// A larger change event becomes a gap.
    pub largest_event: usize,
    /// More changes than this in one transaction become an overflow.
    pub overflow_after: usize,
    /// A managed subscription stays taken so long after its client has gone.
    pub managed_linger: Duration,
    /// LATEST stands only so long after the first request.
    pub latest_delay: Duration,
    /// Events delivered in 24 hours, all subscribers together.
    pub delivery_limit: u64,
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            keepalive: Duration::from_secs(270),
            idle: Duration::from_secs(60),
            publish_idle: Duration::from_secs(70),
            cap: 100,
            events_per_response: 100,
            retention: Duration::from_secs(72 * 60 * 60),
            log_bytes: 256 * 1024 * 1024,
            short_replay_ids: false,
            merge_equal: true,
            diff_from: Some(1_000),
            null_booleans: false,
            split_stamps: false,
            largest_event: 1_000_000,
            overflow_after: 100_000,
            managed_linger: Duration::ZERO,
            latest_delay: Duration::ZERO,
            delivery_limit: 1_000_000,
        }
    }
}

/// What is counted.
#[derive(Default)]
pub(crate) struct Meter {
    pub open_streams: AtomicU64,
    /// Of the open ones those whose position is known.
    pub standing_streams: AtomicU64,
    pub streams: AtomicU64,
    /// Delivered to all subscribers, ever.
    pub delivered: AtomicU64,
    /// Of the allowance.
    pub used: AtomicU64,
    pub keepalives: AtomicU64,
    rpcs: AtomicU64,
}

pub(crate) struct Events {
    pub org: Arc<Org>,
    pub bus: Bus,
    pub channels: Mutex<Channels>,
    pub faults: Faults,
    pub managed: Mutex<Subscriptions>,
    pub meter: Meter,
    habits: Mutex<Habits>,
    schemas: Mutex<Schemas>,
    /// Held while transactions are turned into events: their order is the order of commits.
    turn: Mutex<()>,
    seed: u64,
}

/// Schemas by id, for ever, and the newest of each object.
#[derive(Default)]
struct Schemas {
    by_id: HashMap<Arc<str>, Arc<EventSchema>>,
    of_object: HashMap<String, (Arc<ObjectDef>, Arc<EventSchema>)>,
}

impl Events {
    pub fn new(org: &Arc<Org>, config: &PubSubConfig) -> Arc<Events> {
        let seed = org.config().seed;
        let habits = config.habits.clone();
        let bus = Bus::new(seed, org.clock().clone(), to_ms(habits.retention), habits.log_bytes);
        bus.set(None, Some(habits.short_replay_ids));
        let events = Arc::new(Events {
            org: Arc::clone(org),
            bus,
            channels: Mutex::default(),
            faults: Faults::default(),
            managed: Mutex::default(),
            meter: Meter::default(),
            habits: Mutex::new(habits),
            schemas: Mutex::default(),
            turn: Mutex::default(),
            seed,
        });
        let catalog = org.catalog();
        {
            let mut channels = lock(&events.channels);
            config.selected.iter().for_each(|object| {
                let known = catalog.object(object).is_some_and(|object| channels::is_capturable(object));
                if known {
                    channels.select(&catalog, object);
                }
            });
            config.channels.iter().for_each(|channel| channels.put_channel(&catalog, channel));
        }
        events.capture();
        let listening = Arc::downgrade(&events);
        org.listen(move || {
            if let Some(events) = listening.upgrade() {
                events.drain();
            }
        });
        events
    }

    pub fn habits(&self) -> Habits {
        lock(&self.habits).clone()
    }

    pub fn set_habits(&self, change: impl FnOnce(&mut Habits)) {
        let mut habits = lock(&self.habits);
        change(&mut habits);
        self.bus.set(Some(to_ms(habits.retention)), Some(habits.short_replay_ids));
    }

    /// Tells the org whose records are wanted, after the channels have changed.
    pub fn capture(&self) {
        let catalog = self.org.catalog();
        let objects = lock(&self.channels).objects();
        let places: Vec<usize> = objects.iter().filter_map(|object| catalog.index_of(object)).collect();
        self.org.capture(&places);
        // Streams of a channel that is gone have to end.
        self.faults.poke();
    }

    /// Whether what the topic stands for has been taken out of the org; streams of it are ended.
    pub fn is_gone(&self, topic: &Topic) -> bool {
        match topic {
            Topic::Channel(channel) => lock(&self.channels).channel(channel).is_none(),
            Topic::Object { object, .. } => self.org.object(object).is_err(),
            Topic::Standard | Topic::Platform(_) => false,
        }
    }

    /// Turns what has become visible into events.
    fn drain(&self) {
        let _turn = lock(&self.turn);
        for visible in self.org.take_visible() {
            self.publish_transaction(&visible);
        }
    }

    fn publish_transaction(&self, visible: &Visible) {
        let habits = self.habits();
        let schema_of = |record: &crate::org::VisibleRecord| self.schema_of(&record.object);
        let key = self.transaction_key(visible.transaction);
        let events = capture::events_of(visible, schema_of, &habits, &key);
        self.publish_changes(events);
    }

    /// `transactionKey` of the events of a transaction of the org's log.
    pub fn transaction_key(&self, transaction: u64) -> String {
        uuid(self.seed ^ 0x7A11_5AC7, transaction)
    }

    pub fn publish_changes(&self, events: Vec<capture::ChangeEvent>) -> Vec<Arc<Entry>> {
        let events = events.into_iter().map(|event| self.new_change(event)).collect();
        self.bus.append(events)
    }

    fn new_change(&self, event: capture::ChangeEvent) -> New {
        let (standard, channels) = lock(&self.channels).membership(&event.schema.object);
        let ids = event.header.record_ids.iter().filter_map(|id| crate::org::Id::parse(id)).collect();
        New {
            event_id: None,
            schema_id: Arc::clone(&event.schema.id),
            payload: event.payload.into(),
            change: Some(Change {
                header: event.header,
                body_at: event.body_at,
                ids,
                changed: event.changed,
                standard,
                channels,
            }),
            schema: event.schema,
        }
    }

    /// The schema of the object's change event, or of the platform event, as the object is now.
    pub fn schema_of(&self, object: &Arc<ObjectDef>) -> Arc<EventSchema> {
        let mut schemas = lock(&self.schemas);
        if let Some((known, schema)) = schemas.of_object.get(&object.name)
            && Arc::ptr_eq(known, object)
        {
            return Arc::clone(schema);
        }
        let schema = Arc::new(match object.name.ends_with("__e") {
            true => EventSchema::of_platform_event(object),
            false => EventSchema::of_change_event(object),
        });
        schemas.by_id.insert(Arc::clone(&schema.id), Arc::clone(&schema));
        schemas.of_object.insert(object.name.clone(), (Arc::clone(object), Arc::clone(&schema)));
        schema
    }

    pub fn schema(&self, id: &str) -> Option<Arc<EventSchema>> {
        lock(&self.schemas).by_id.get(id).cloned()
    }

    /// The object of a topic that exists: selected, or a platform event of the catalogue.
    pub fn object_of(&self, topic: &Topic) -> Option<Arc<ObjectDef>> {
        let name = match topic {
            Topic::Object { object, .. } => object,
            Topic::Platform(event) => event,
            _ => return None,
        };
        let object = self.org.object(name).ok().filter(|object| *object.name == **name)?;
        let captured = matches!(topic, Topic::Platform(_)) || lock(&self.channels).has(name);
        captured.then_some(object)
    }

    pub fn exists(&self, topic: &Topic) -> bool {
        match topic {
            Topic::Standard => true,
            Topic::Channel(channel) => lock(&self.channels).channel(channel).is_some(),
            topic => self.object_of(topic).is_some(),
        }
    }

    /// A fresh id, for a call or for what has none.
    pub fn rpc_id(&self) -> String {
        uuid(self.seed ^ 0x09FC, self.meter.rpcs.fetch_add(1, Ordering::Relaxed))
    }

    /// The form the platform uses in texts and answers.
    pub fn tenant(&self) -> String {
        format!("core/prod/{}", self.org.organization_id().as_str())
    }
}

/// The same for the same numbers, and shaped like a random one.
pub(crate) fn uuid(seed: u64, number: u64) -> String {
    let mut bytes = xxhash_rust::xxh3::xxh3_128_with_seed(&number.to_be_bytes(), seed).to_be_bytes();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

pub(crate) fn to_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
