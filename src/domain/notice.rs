//! What people and sinks are told beside the records: the notification topic's JSON.
//!
//! Comes in: from whoever decided something that is not a change. Goes out: in the transaction of the batch it belongs
//! to, so that it is told exactly when it is true.

use std::sync::Arc;

use serde_json::json;

use super::{Reload, ReloadReason, Stamp};

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
    /// So many records were read by their ids: events only said that something happened to them (`event`), or what an event
    /// told of them is younger than their rows in a page of a load (`load`) or of a poll (`poll`), and not all of them.
    RecordsReread { reason: &'static str, records: u64 },
    /// Platform events cannot be read again: those from this moment on (if one is known) that the bus no longer keeps
    /// are not in the topic.
    EventsMissed { reason: &'static str, from: Option<Stamp> },
    /// All records are read again, under a new load id: what for by now, and why once more.
    ReloadBegun { reason: ReloadReason, reload: Reload },
    /// They are, by this load.
    ReloadDone { reload: Reload, load: String, rows: u64 },
}

impl NoticeKind {
    pub fn word(&self) -> &'static str {
        match self {
            Self::GapFound { .. } => "gap-found",
            Self::GapRepaired { .. } => "gap-repaired",
            Self::RecordsReread { .. } => "records-reread",
            Self::EventsMissed { .. } => "events-missed",
            Self::ReloadBegun { .. } => "reload-begun",
            Self::ReloadDone { .. } => "reload-done",
        }
    }

    /// For `sf2kafka_gaps_total`; none: it is no gap, or was counted when it was found.
    pub fn gap(&self) -> Option<&'static str> {
        match self {
            Self::GapFound { reason, .. } | Self::EventsMissed { reason, .. } => Some(reason),
            // No stream told of what changed; other reasons are no hole in what was captured.
            Self::ReloadBegun { reason: ReloadReason::AllRecords, .. } => Some("all-records"),
            Self::RecordsReread { reason: reason @ "event", .. } => Some(reason),
            Self::RecordsReread { .. }
            | Self::GapRepaired { .. }
            | Self::ReloadBegun { .. }
            | Self::ReloadDone { .. } => None,
        }
    }
}

/// What a load is for, as its position says it.
fn told(reload: &Reload) -> serde_json::Value {
    let mut told = json!({ "reasons": reload.reasons });
    if !reload.fields.is_empty() {
        told["fields"] = json!(reload.fields);
    }
    if let Some(outputs) = &reload.outputs {
        told["outputs"] = json!(outputs);
    }
    told
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
            NoticeKind::RecordsReread { reason, records } => json!({ "reason": reason, "records": records }),
            NoticeKind::ReloadBegun { reason, reload } => {
                let mut more = told(reload);
                more["reason"] = reason.word().into();
                more
            }
            NoticeKind::ReloadDone { reload, load, rows } => {
                let mut more = told(reload);
                (more["load"], more["rows"]) = (load.as_str().into(), (*rows).into());
                more
            }
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
    use crate::domain::Need;

    #[test]
    fn a_load_anew_says_what_for_and_when_it_is_done() {
        let at = Stamp::parse(b"2026-05-19T08:30:00Z").unwrap();
        let need = Need { fields: vec!["Region__c".to_owned()], ..Need::of(ReloadReason::NewField) };
        let reload = Reload::joined(None, &need, 7);
        let begun = NoticeKind::ReloadBegun { reason: need.reason, reload: reload.clone() };
        assert_eq!(begun.gap(), None);
        let text = |kind| String::from_utf8(Notice { object: "Account".into(), kind }.encode(at)).unwrap();
        assert!(
            text(begun).ends_with(r#""reasons":["new-field"],"fields":["Region__c"],"reason":"new-field"}"#)
        );
        let done = NoticeKind::ReloadDone { reload, load: "Account-1".to_owned(), rows: 9 };
        assert!(text(done).ends_with(r#""fields":["Region__c"],"load":"Account-1","rows":9}"#));
    }

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
