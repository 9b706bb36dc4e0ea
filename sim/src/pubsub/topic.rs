//! Topics: which events of the one log a name stands for (pubsub.md 2.1).
//!
//! Comes in: a name, letter by letter as the platform spells it. Goes out: a topic, if there is such a one now. An
//! event belongs to the channels that had its object when it was published.

use std::sync::Arc;

use super::bus::Entry;
use super::schema::object_of;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    /// `/data/ChangeEvents`: all objects selected on the standard channel.
    Standard,
    /// `/data/AccountChangeEvent`.
    Object { event: Arc<str>, object: Arc<str> },
    /// `/data/Sales__chn`.
    Channel(Arc<str>),
    /// `/event/Order_Event__e`.
    Platform(Arc<str>),
}

impl Topic {
    /// What the name would be the topic of; whether it exists is another question.
    pub fn named(name: &str) -> Option<Topic> {
        if let Some(event) = name.strip_prefix("/event/") {
            return event.ends_with("__e").then(|| Topic::Platform(event.into()));
        }
        match name.strip_prefix("/data/")? {
            "ChangeEvents" => Some(Topic::Standard),
            channel if channel.ends_with("__chn") => Some(Topic::Channel(channel.into())),
            event => Some(Topic::Object { event: event.into(), object: object_of(event)?.into() }),
        }
    }

    pub fn name(&self) -> String {
        match self {
            Topic::Standard => "/data/ChangeEvents".to_owned(),
            Topic::Object { event, .. } => format!("/data/{event}"),
            Topic::Channel(channel) => format!("/data/{channel}"),
            Topic::Platform(event) => format!("/event/{event}"),
        }
    }

    pub fn has(&self, entry: &Entry, hidden: &[String]) -> bool {
        match (self, &entry.change) {
            (Topic::Platform(event), None) => *event == entry.schema.event,
            (_, None) | (Topic::Platform(_), Some(_)) => false,
            (_, Some(_)) if hidden.iter().any(|object| object.eq_ignore_ascii_case(&entry.schema.object)) => {
                false
            }
            (Topic::Standard, Some(change)) => change.standard,
            (Topic::Object { event, .. }, Some(_)) => *event == entry.schema.event,
            (Topic::Channel(channel), Some(change)) => {
                change.channels.iter().any(|known| **known == **channel)
            }
        }
    }
}
