//! Taking an object up: what the control partition holds of it and a description become a capture.
//!
//! Comes in: the records of a claimed partition. Goes out: an [`ObjectCapture`] that goes on where it stopped. A
//! record that cannot be read is an error of that object: going on without it would lose or repeat changes. The description
//! is the pinned one if the org says that nothing has changed since, else a describe: with one that is not of now, records
//! would be read without fields that they have.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::capture::ledger::Ledger;
use crate::capture::{CaptureSettings, ObjectCapture};
use crate::domain::{ChangeSequence, Described, ObjectDescription, PinnedDescription, Position};
use crate::error::Kind;
use crate::salesforce::{Client, Purpose};
use crate::{Error, Result};

/// All records of one object in a control partition.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    pub position: Option<Vec<u8>>,
    pub schema: Option<Vec<u8>>,
    pub description: Option<Vec<u8>>,
    pub ledger: Vec<(String, Vec<u8>)>,
}

impl Stored {
    pub fn of(object: &str, records: &BTreeMap<String, Vec<u8>>) -> Self {
        let prefix = Ledger::key_prefix(object);
        let ledger = records.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
        Self {
            position: records.get(&Position::key(object)).cloned(),
            schema: records.get(&schema_key(object)).cloned(),
            description: records.get(&PinnedDescription::key(object)).cloned(),
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
        // Before a describe: what changes meanwhile is a change to the next question.
        let (metadata, org) = client.metadata_state(client.describe_interval()).await?;
        let by = self.described_by(&client);
        if let Some((object, described)) = self.pinned(position.as_ref(), &by, org.as_deref()) {
            tracing::debug!(object = %self.name, "described as it was when it was last followed");
            let object = (Arc::new(object), described.last_modified.clone(), metadata);
            let mut capture =
                ObjectCapture::new(&self.client, self.settings.clone(), object, position, ledger);
            capture.pin(described, true);
            return Ok(capture);
        }
        let describe = client.describe_in_company(&self.name, None).await?.ok_or_else(|| {
            Error::new(
                Kind::ReplyUnreadable,
                format!("object {}: an unconditional describe came empty", self.name),
            )
        })?;
        let object = describe.compile(&self.settings.fields, &pinned)?;
        if let Some(reason) = &object.unsupported {
            return Err(Error::new(Kind::ObjectUnsupported, format!("object {}: {reason}", self.name)));
        }
        let last_modified = describe.last_modified;
        let revision = Described::revision_of(&object);
        let described = Described { revision, by, org, last_modified: last_modified.clone() };
        let object = (Arc::new(object), last_modified, metadata);
        let mut capture = ObjectCapture::new(&self.client, self.settings.clone(), object, position, ledger);
        capture.pin(described, false);
        Ok(capture)
    }

    /// The pinned description, if it is what a describe would give now.
    fn pinned(
        &self,
        position: Option<&Position>,
        by: &str,
        org: Option<&str>,
    ) -> Option<(ObjectDescription, Described)> {
        let described = position?.described.clone()?;
        if described.by != by || org.is_none() || described.org.as_deref() != org {
            return None;
        }
        let object = PinnedDescription::decode(self.stored.description.as_ref()?)?;
        (*object.name == *self.name && Described::revision_of(&object) == described.revision)
            .then_some((object, described))
    }

    /// A hash over what a description depends on beside the org's metadata.
    fn described_by(&self, client: &Client) -> String {
        let rules = format!("{} {:?}", client.describer(), self.settings.fields);
        format!("{:016x}", xxhash_rust::xxh3::xxh3_64(rules.as_bytes()))
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
