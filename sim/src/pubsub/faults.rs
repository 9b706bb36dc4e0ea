//! Faults of the Pub/Sub API on demand: how a stream ends, which call is refused.
//!
//! Comes in: rules of the control interface. Goes out: what is to be done to a stream or a call now. A rule meets
//! streams by topic, after so many of their events, so often; an open stream is met at once when its time has come.

use std::sync::Mutex;

use serde::Deserialize;
use tokio::sync::watch;

use crate::http::lock;

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Rule {
    /// Any if absent.
    #[serde(default)]
    topic: Option<String>,
    /// `Subscribe`, `GetSchema`, …; any stream if absent.
    #[serde(default)]
    rpc: Option<String>,
    action: Action,
    /// Meets calls when they are made, not streams that are open.
    #[serde(default)]
    on_call: bool,
    /// How many events of such streams go by first.
    #[serde(default)]
    after_events: u64,
    /// How many it meets; without end if absent.
    #[serde(default)]
    times: Option<u64>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub(crate) enum Action {
    /// The stream ends with status OK.
    End,
    Status {
        /// `UNAVAILABLE` or its number.
        code: String,
        /// The trailer's part behind `sfdc.platform.eventbus.grpc.`; no trailers if absent.
        #[serde(default)]
        error_code: Option<String>,
        #[serde(default)]
        message: Option<String>,
    },
    /// RST_STREAM without a status.
    Reset {
        #[serde(default)]
        code: u32,
    },
    /// GOAWAY; the connection is closed after the grace.
    GoAway {
        #[serde(default = "default_grace")]
        grace_millis: u64,
    },
    /// The TCP connection is closed.
    Close,
    /// Not a byte any more, in neither direction, on the whole connection.
    Silence,
}

fn default_grace() -> u64 {
    100
}

pub(crate) struct Faults {
    rules: Mutex<Vec<Rule>>,
    changed: watch::Sender<u64>,
}

impl Default for Faults {
    fn default() -> Self {
        Self { rules: Mutex::default(), changed: watch::Sender::new(0) }
    }
}

impl Rule {
    fn meets(&self, rpc: &str, topic: &str) -> bool {
        let rpc_meets = match &self.rpc {
            Some(wanted) => wanted == rpc,
            None => matches!(rpc, "Subscribe" | "ManagedSubscribe" | "PublishStream"),
        };
        rpc_meets && self.topic.as_deref().is_none_or(|wanted| wanted == topic)
    }
}

impl Faults {
    pub fn add(&self, rule: Rule) {
        lock(&self.rules).push(rule);
        self.poke();
    }

    /// Streams look again at what they go by.
    pub fn poke(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// The topics of the rules that are not used up.
    pub fn left(&self) -> Vec<String> {
        lock(&self.rules).iter().map(|rule| rule.topic.clone().unwrap_or_default()).collect()
    }

    pub fn clear(&self) {
        lock(&self.rules).clear();
    }

    /// Changes with every new rule.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// What is to be done to a new call.
    pub fn on_call(&self, rpc: &str, topic: &str) -> Option<Action> {
        self.take(|rule| {
            let unary = matches!(rpc, "GetSchema" | "GetTopic" | "Publish");
            (rule.on_call || unary) && rule.meets(rpc, topic)
        })
    }

    /// What is to be done to an open stream now.
    pub fn due(&self, rpc: &str, topic: &str) -> Option<Action> {
        self.take(|rule| !rule.on_call && rule.after_events == 0 && rule.meets(rpc, topic))
    }

    /// How many events a stream may still get before a rule meets it.
    pub fn room(&self, rpc: &str, topic: &str) -> Option<u64> {
        let rules = lock(&self.rules);
        let meeting = rules.iter().filter(|rule| !rule.on_call && rule.meets(rpc, topic));
        meeting.map(|rule| rule.after_events).min()
    }

    /// Events of a stream went by.
    pub fn passed(&self, rpc: &str, topic: &str, events: u64) {
        let mut rules = lock(&self.rules);
        for rule in rules.iter_mut().filter(|rule| !rule.on_call && rule.meets(rpc, topic)) {
            rule.after_events = rule.after_events.saturating_sub(events);
        }
    }

    fn take(&self, meets: impl Fn(&Rule) -> bool) -> Option<Action> {
        let mut rules = lock(&self.rules);
        let at = rules.iter().position(meets)?;
        let rule = rules.get_mut(at)?;
        let action = rule.action.clone();
        if let Some(times) = &mut rule.times {
            *times = times.saturating_sub(1);
            if *times == 0 {
                rules.remove(at);
            }
        }
        Some(action)
    }
}
