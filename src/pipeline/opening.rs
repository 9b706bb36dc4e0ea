//! Taking an object up: what the control partition holds of it and a describe become a capture.
//!
//! Comes in: the records of a claimed partition. Goes out: an [`ObjectCapture`] that goes on where it stopped. A
//! record that cannot be read is an error of that object: going on without it would lose or repeat changes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::capture::ledger::Ledger;
use crate::capture::{CaptureSettings, ObjectCapture, probe_condition};
use crate::domain::{ChangeSequence, Position};
use crate::error::Kind;
use crate::salesforce::{Client, Purpose};
use crate::{Error, Result};

/// All records of one object in a control partition.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    pub position: Option<Vec<u8>>,
    pub schema: Option<Vec<u8>>,
    pub ledger: Vec<(String, Vec<u8>)>,
}

impl Stored {
    pub fn of(object: &str, records: &BTreeMap<String, Vec<u8>>) -> Self {
        let prefix = Ledger::key_prefix(object);
        let ledger = records.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
        Self {
            position: records.get(&Position::key(object)).cloned(),
            schema: records.get(&schema_key(object)).cloned(),
            ledger: ledger.map(|(key, value)| (key.clone(), value.clone())).collect(),
        }
    }
}

/// The key of the control record that pins an object's schema.
pub fn schema_key(object: &str) -> String {
    format!("schema/{object}")
}

pub struct Opening {
    pub client: Client,
    pub name: Arc<str>,
    /// Named in `objects`: its rules must fit the object.
    pub by_name: bool,
    pub settings: CaptureSettings,
    pub stored: Stored,
}

impl Opening {
    /// `pinned`: the fields of the object's schema so far, whose order stays.
    pub async fn open(&self, pinned: Vec<String>) -> Result<ObjectCapture> {
        let position = match &self.stored.position {
            Some(value) => Some(Position::decode(value).map_err(|why| {
                self.unreadable(&Position::key(&self.name), &why).hint(format!(
                    "`sf2kafka offsets show {} -c FILE` shows the record; `sf2kafka explain control-record-unreadable` says how to repair it",
                    self.name
                ))
            })?),
            None => None,
        };
        let mut ledger = Ledger::new(&self.name);
        for (key, value) in &self.stored.ledger {
            ledger.restore(key, value).map_err(|why| self.unreadable(key, &why))?;
        }
        let client = self.client.for_purpose(Purpose::Describe);
        let metadata = client.known_metadata_changes();
        let describe = client.describe(&self.name, None).await?.ok_or_else(|| {
            Error::new(
                Kind::ReplyUnreadable,
                format!("object {}: an unconditional describe came empty", self.name),
            )
        })?;
        if self.by_name {
            let checked = describe.check_rules(&self.settings.fields, &pinned);
            checked.map_err(|error| error.during(format_args!("object {}", self.name)))?;
        }
        let described = describe.compile(&self.settings.fields, &pinned)?;
        if let Some(reason) = &described.unsupported {
            return Err(Error::new(Kind::ObjectUnsupported, format!("object {}: {reason}", self.name)));
        }
        let described = Arc::new(described);
        if let Some(condition) = &self.settings.condition {
            // Before anything is read by it: a load would fail late, and polls not before the first change.
            probe_condition(&client, &described, condition).await?;
        }
        let object = (described, describe.last_modified, metadata);
        Ok(ObjectCapture::new(&self.client, self.settings.clone(), object, position, ledger))
    }

    /// Whether anything was ever published of it.
    pub fn has_published(&self) -> bool {
        let position = self.stored.position.as_deref().map(Position::decode);
        !matches!(position, None | Some(Ok(Position { change_seq: ChangeSequence::NONE, .. })))
    }

    /// How long the object may go without an answer before it counts as not moving.
    pub fn contact_bound(&self) -> Duration {
        self.settings.poll.max_interval.max(self.settings.poll.interval) * 2
    }

    fn unreadable(&self, key: &str, why: &str) -> Error {
        Error::new(
            Kind::ControlRecordUnreadable,
            format!("control record {key} of object {} cannot be read: {why}", self.name),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_an_object_whose_name_begins_alike_are_not_taken() {
        let keys =
            ["ledger/Account/live/x/0", "ledger/AccountShare/live/x/0", "position/Account", "schema/Account"];
        let records = keys.map(|key| (key.to_owned(), Vec::new())).into_iter().collect();
        let stored = Stored::of("Account", &records);
        assert_eq!(stored.ledger.len(), 1);
        assert!(stored.position.is_some() && stored.schema.is_some());
        assert!(Stored::of("Contact", &records).ledger.is_empty());
    }
}
