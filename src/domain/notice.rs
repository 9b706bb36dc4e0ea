//! What people and sinks are told beside the records: the notification topic's JSON.
//!
//! Comes in: from whoever decided something that is not a change. Goes out: in the transaction of the batch it belongs
//! to, so that it is told exactly when it is true.

use std::sync::Arc;

use serde_json::json;

use super::Stamp;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub object: Arc<str>,
    pub kind: NoticeKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoticeKind {
    /// A stretch of the stream could not be captured: it is being read again.
    GapFound { reason: &'static str, from: Stamp },
    /// It was, up to there.
    GapRepaired { reason: &'static str, from: Stamp, to: Stamp },
    /// Events that only said that something happened: so many records were read instead.
    RecordsReread { records: u64 },
    /// Platform events cannot be read again: those from this moment on (if one is known) that the bus no longer keeps
    /// are not in the topic.
    EventsMissed { reason: &'static str, from: Option<Stamp> },
    /// All records are read again, under a new load id.
    ReloadBegun { reason: &'static str },
}

impl NoticeKind {
    pub fn word(&self) -> &'static str {
        match self {
            Self::GapFound { .. } => "gap-found",
            Self::GapRepaired { .. } => "gap-repaired",
            Self::RecordsReread { .. } => "records-reread",
            Self::EventsMissed { .. } => "events-missed",
            Self::ReloadBegun { .. } => "reload-begun",
        }
    }

    /// For `sf2kafka_gaps_total`; none: it is no gap, or was counted when it was found.
    pub fn gap(&self) -> Option<&'static str> {
        match self {
            Self::GapFound { reason, .. }
            | Self::EventsMissed { reason, .. }
            | Self::ReloadBegun { reason } => Some(reason),
            Self::RecordsReread { .. } => Some("event"),
            Self::GapRepaired { .. } => None,
        }
    }
}

impl Notice {
    /// The record's value.
    pub fn encode(&self, at: Stamp) -> Vec<u8> {
        let mut value = json!({
            "version": 1,
            "object": &*self.object,
            "notice": self.kind.word(),
            "at": at.to_string(),
        });
        let more = match &self.kind {
            NoticeKind::GapFound { reason, from } => json!({ "reason": reason, "from": from.to_string() }),
            NoticeKind::GapRepaired { reason, from, to } => {
                json!({ "reason": reason, "from": from.to_string(), "to": to.to_string() })
            }
            NoticeKind::EventsMissed { reason, from } => {
                json!({ "reason": reason, "from": from.map(|from| from.to_string()) })
            }
            NoticeKind::RecordsReread { records } => json!({ "records": records }),
            NoticeKind::ReloadBegun { reason } => json!({ "reason": reason }),
        };
        if let (Some(value), Some(more)) = (value.as_object_mut(), more.as_object()) {
            value.extend(more.clone());
        }
        value.to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_says_what_where_and_why() {
        let from = Stamp::parse(b"2026-05-19T08:30:00Z").unwrap();
        let kind = NoticeKind::GapRepaired { reason: "replay-id", from, to: Stamp(from.0 + 60_000) };
        let value = Notice { object: "Account".into(), kind }.encode(from);
        assert_eq!(
            String::from_utf8(value).unwrap(),
            r#"{"version":1,"object":"Account","notice":"gap-repaired","at":"2026-05-19T08:30:00.000Z","reason":"replay-id","from":"2026-05-19T08:30:00.000Z","to":"2026-05-19T08:31:00.000Z"}"#
        );
    }
}
