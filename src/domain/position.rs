//! Where an object stands: the value of the control record `position/<Object>`.
//!
//! Comes in: JSON of the control topic, version 1. Goes out: the same. Shape and meaning are in
//! `schemas/control/`; unknown keys are kept out of trouble by being ignored, an unknown version is refused.

use serde::{Deserialize, Serialize};

use super::{ChangeSequence, Reload, ReplayId, Stamp};

pub const VERSION: u32 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Loading,
    Live,
    Paused,
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Capture {
    Poll,
    Subscribe,
    /// Loaded, never followed.
    None,
}

/// How far a full load has come. All pages before the named one are published, none after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadPosition {
    /// `header__load_id` of its rows.
    pub id: String,
    /// Server time before the load's query was sent: changes are followed from here less the look-back.
    pub started_at: Stamp,
    /// Bulk API job; none: by REST.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Bulk: locator of the next page to fetch; none: the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locator: Option<String>,
    /// REST: the last id of the last published page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_id: Option<String>,
    /// Rows published so far.
    pub rows: u64,
    /// Rows the job announced, when it was complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announced: Option<u64>,
    pub done: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    pub version: u32,
    pub object: String,
    /// Rises when positions are made anew (reset, reload): positions of two epochs are not comparable.
    pub epoch: u64,
    pub state: State,
    pub capture: Capture,
    /// Subscribing: the stream goes on after this.
    #[serde(default)]
    pub replay_id: Option<ReplayId>,
    /// Polling: everything with a cursor field up to here has been read at least once.
    #[serde(default)]
    pub cursor: Option<Stamp>,
    /// Polling: no window reaches below this. The ledger holds what was published with a cursor field from here on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<Stamp>,
    /// Subscribing: polls went ahead of the stream while it was away; its events are published up to here alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events_to: Option<Stamp>,
    /// Polling: deletions are known up to here (getDeleted's `latestDateCovered`).
    #[serde(default)]
    pub deleted_to: Option<Stamp>,
    /// Everything committed in Salesforce up to here has been published.
    #[serde(default)]
    pub committed_to: Option<Stamp>,
    #[serde(default)]
    pub load: Option<LoadPosition>,
    /// Everything is loaded once more, beside what is followed; until that load is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reload: Option<Reload>,
    pub change_seq: ChangeSequence,
    /// Registry ids in use, by output topic.
    #[serde(default)]
    pub schema_ids: serde_json::Map<String, serde_json::Value>,
    /// Why it stands still, if state is failed: an error code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    pub updated_at: Stamp,
}

impl Position {
    /// Where an object stands of which nothing was published.
    pub fn new(object: &str) -> Self {
        Self {
            version: VERSION,
            object: object.to_owned(),
            epoch: 1,
            state: State::Loading,
            capture: Capture::None,
            replay_id: None,
            cursor: None,
            floor: None,
            events_to: None,
            deleted_to: None,
            committed_to: None,
            load: None,
            reload: None,
            change_seq: ChangeSequence::default(),
            schema_ids: serde_json::Map::new(),
            error: None,
            updated_at: Stamp::default(),
        }
    }

    /// Changes are followed from `cursor` on, and no window reaches below `floor`.
    pub fn follow_from(&mut self, cursor: Stamp, floor: Stamp) {
        self.cursor = Some(cursor);
        self.floor = Some(floor);
        self.deleted_to = Some(cursor);
    }

    /// Whether the object was never complete so far: a load that comes later only adds to what is there.
    pub fn is_first_load(&self) -> bool {
        self.state == State::Loading && self.committed_to.is_none()
    }

    /// From here on changes can still come, or must be read again: the ledger holds what was published since, and of
    /// the look-back before it.
    pub fn behind(&self) -> Option<Stamp> {
        self.cursor.map(|cursor| self.events_to.map_or(cursor, |events_to| cursor.min(events_to)))
    }

    pub fn key(object: &str) -> String {
        format!("position/{object}")
    }

    /// Refuses what is not version 1 of this record.
    pub fn decode(value: &[u8]) -> Result<Self, String> {
        let position: Self = serde_json::from_slice(value).map_err(|error| error.to_string())?;
        if position.version != VERSION {
            return Err(format!("version {} where this program knows version {VERSION}", position.version));
        }
        Ok(position)
    }

    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain data with text keys always serializes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_of_another_version_is_refused() {
        let text = r#"{"version":2,"object":"Account","epoch":1,"state":"live","capture":"poll",
            "change_seq":"20260519083007120000000000000000001","updated_at":"2026-05-19T08:30:00Z"}"#;
        assert!(Position::decode(text.as_bytes()).unwrap_err().contains("version 2"));
        let position = Position::decode(text.replace("\"version\":2", "\"version\":1").as_bytes()).unwrap();
        assert_eq!(Position::decode(&position.encode()), Ok(position));
        assert!(Position::decode(b"\xff").is_err());
    }
}
