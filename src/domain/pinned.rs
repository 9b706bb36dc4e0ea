//! An object's description as the control partition keeps it, and what it holds for.
//!
//! Comes in: a description, JSON of the control record `description/<Object>`. Goes out: the other of the two. A restart
//! serves from it at once if the org says that nothing has changed. Never: an error; what does not fit is described anew.

use serde::{Deserialize, Serialize};

use super::ObjectDescription;

/// Version of the control record `description/<Object>`.
const VERSION: u32 = 1;

/// A description as the control partition keeps it, so that it serves again after a restart. Whether it still may is told by
/// the position beside it ([`Described`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedDescription {
    pub version: u32,
    pub description: ObjectDescription,
}

impl PinnedDescription {
    pub fn key(object: &str) -> String {
        format!("description/{object}")
    }

    pub fn encode(description: &ObjectDescription) -> Vec<u8> {
        let pinned = Self { version: VERSION, description: description.clone() };
        serde_json::to_vec(&pinned).expect("plain data with text keys always serializes")
    }

    /// None: it cannot be read, or an index leads nowhere. Nothing is lost: the object is described anew.
    pub fn decode(value: &[u8]) -> Option<ObjectDescription> {
        let pinned: Self = serde_json::from_slice(value).ok()?;
        let object = pinned.description;
        let cursor = object.cursor.map(|cursor| cursor.0);
        let indices = [Some(object.key), cursor, object.created_date, object.is_deleted];
        let parts = object.compounds.iter().flat_map(|compound| compound.parts.iter().copied());
        let fits = indices.into_iter().chain(parts).flatten().all(|at| at < object.fields.len())
            && object.compounds.iter().all(|one| one.parts.len() == one.shape.parts().len());
        (pinned.version == VERSION && fits && object.unsupported.is_none()).then_some(object)
    }
}

/// What a description holds for, in the position: it need not be asked for again as long as none of this is other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Described {
    /// `revision` of the description, in hex: the record beside is this one.
    pub revision: String,
    /// A hash over who asked, how, and the object's field rules.
    pub by: String,
    /// `Last-Modified` of the org's list of objects before the describe; none: not known, so it holds for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org: Option<String>,
    /// `Last-Modified` of the describe itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
}

impl Described {
    pub fn revision_of(description: &ObjectDescription) -> String {
        format!("{:016x}", description.revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{CursorField, Field, FieldKind};

    fn description() -> ObjectDescription {
        let field = |name: &str, kind: &str| Field {
            name: name.to_owned(),
            label: name.to_owned(),
            help: None,
            salesforce_type: kind.to_owned(),
            kind: FieldKind::of(kind),
            length: 18,
            precision: 0,
            scale: 0,
            calculated: false,
            filterable: true,
            sortable: true,
        };
        ObjectDescription {
            name: "Invoice__c".into(),
            target_name: "Invoice_c".into(),
            label: "Invoice".to_owned(),
            fields: vec![
                field("Id", "id"),
                field("Amount__c", "currency"),
                field("SystemModstamp", "datetime"),
            ],
            compounds: Vec::new(),
            key: 0,
            cursor: Some(CursorField(2)),
            created_date: None,
            is_deleted: None,
            replicateable: true,
            bulk: true,
            unsupported: None,
            revision: u64::MAX,
        }
    }

    #[test]
    fn what_was_pinned_comes_back_and_what_does_not_fit_is_nothing() {
        let object = description();
        let pinned = PinnedDescription::encode(&object);
        assert_eq!(PinnedDescription::decode(&pinned), Some(object.clone()));
        assert_eq!(Described::revision_of(&object), "ffffffffffffffff");
        let broken = |change: fn(&mut ObjectDescription)| {
            let mut object = description();
            change(&mut object);
            PinnedDescription::decode(&PinnedDescription::encode(&object))
        };
        assert_eq!(broken(|object| object.cursor = Some(CursorField(3))), None);
        assert_eq!(broken(|object| object.unsupported = Some("a view".to_owned())), None);
        let text = String::from_utf8(pinned).unwrap();
        assert_eq!(
            PinnedDescription::decode(text.replace("\"version\":1", "\"version\":2").as_bytes()),
            None
        );
        assert_eq!(PinnedDescription::decode(b"\xff"), None);
    }
}
