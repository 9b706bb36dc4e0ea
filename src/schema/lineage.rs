//! The fields of an object's schema through all its versions, in their one order.
//!
//! Comes in: the lineage so far (control record `schema/<Object>`), and the description of now. Goes out: the lineage
//! to write by. Fields keep their place for ever: new ones are put at the end, removed ones stay and are null. A field
//! whose type changed takes the wider type where Avro readers promote (int, long, double), else it goes on under a
//! new name, for readers of the old type could not read the new.

use serde::{Deserialize, Serialize};

use crate::domain::{Field, FieldKind, ObjectDescription};

pub const VERSION: u32 = 1;

/// A field as schemas name it, and the Salesforce field that it takes its values from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedField {
    /// Name in the schema.
    pub name: String,
    /// As described last; its `name` is Salesforce's.
    pub source: Field,
    /// False: the object does not have it any more (or not with this type), and it is null.
    pub current: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaLineage {
    pub version: u32,
    /// API name.
    pub object: String,
    pub target_name: String,
    pub label: String,
    pub fields: Vec<PinnedField>,
    /// Registry id of the key schema by output topic: the bytes of keys, and with them partitions and compaction,
    /// rest on it.
    #[serde(default)]
    pub key_ids: std::collections::BTreeMap<String, u32>,
}

impl SchemaLineage {
    /// Refuses what is not version 1 of this record.
    pub fn decode(value: &[u8]) -> Result<Self, String> {
        let lineage: Self = serde_json::from_slice(value).map_err(|error| error.to_string())?;
        if lineage.version != VERSION {
            return Err(format!("version {} where this program knows version {VERSION}", lineage.version));
        }
        Ok(lineage)
    }

    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain data with text keys always serializes")
    }

    /// The lineage that goes on from this one with the object as it is now.
    #[must_use]
    pub fn merge(pinned: Option<&Self>, object: &ObjectDescription) -> Self {
        let mut fields: Vec<PinnedField> = pinned.map(|pinned| pinned.fields.clone()).unwrap_or_default();
        for field in &mut fields {
            field.current = false;
        }
        for source in &object.fields {
            // Salesforce takes names in any case. Of the fields it had before, one of a fitting type goes on: a type
            // that comes back finds its old field.
            let same = |pinned: &&mut PinnedField| pinned.source.name.eq_ignore_ascii_case(&source.name);
            let kind = |pinned: &PinnedField| widest(pinned.source.kind, source.kind);
            if let Some(pinned) = fields.iter_mut().filter(same).rev().find(|pinned| kind(pinned).is_some()) {
                pinned.source = Field { kind: kind(pinned).unwrap_or(source.kind), ..source.clone() };
                pinned.current = true;
                continue;
            }
            let name = free_name(&fields, &source.name);
            if name != source.name {
                tracing::warn!(
                    object = %object.name, field = source.name, new_name = name, r#type = source.salesforce_type,
                    "the field has another type now and goes on under a new name"
                );
            }
            fields.push(PinnedField { name, source: source.clone(), current: true });
        }
        Self {
            version: VERSION,
            object: object.name.to_string(),
            target_name: object.target_name.to_string(),
            label: object.label.clone(),
            fields,
            key_ids: pinned.map(|pinned| pinned.key_ids.clone()).unwrap_or_default(),
        }
    }

    /// Salesforce names in the order of the schema, for a description in the same order.
    pub fn source_names(&self) -> Vec<String> {
        self.fields.iter().map(|field| field.source.name.clone()).collect()
    }
}

/// The kind that values of both fit and that readers of the old one promote from.
fn widest(old: FieldKind, new: FieldKind) -> Option<FieldKind> {
    use FieldKind::{Double, Hashed, Int, Long, Masked, Text};
    match (old, new) {
        (old, new) if old == new => Some(old),
        // Text is text to a reader; a rule that comes or goes is told by the field's properties.
        (Text | Hashed | Masked, Text | Hashed | Masked) => Some(new),
        (Int, Long) | (Long, Int) => Some(Long),
        (Int | Long, Double) | (Double, Int | Long) => Some(Double),
        _ => None,
    }
}

fn free_name(fields: &[PinnedField], wanted: &str) -> String {
    let taken = |name: &str| fields.iter().any(|field| field.name.eq_ignore_ascii_case(name));
    if !taken(wanted) {
        return wanted.to_owned();
    }
    (2..).map(|number| format!("{wanted}_{number}")).find(|name| !taken(name)).unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests {
    use apache_avro::schema_compatibility::SchemaCompatibility;
    use proptest::prelude::*;

    use super::*;
    use crate::domain::CursorField;

    pub fn described(fields: &[(&str, &str)]) -> ObjectDescription {
        ObjectDescription {
            name: "Invoice__c".into(),
            target_name: "Invoice_c".into(),
            label: "Invoice".to_owned(),
            fields: fields
                .iter()
                .map(|(name, salesforce_type)| Field {
                    name: (*name).to_owned(),
                    label: format!("{name} label"),
                    help: None,
                    salesforce_type: (*salesforce_type).to_owned(),
                    kind: FieldKind::of(salesforce_type),
                    length: 80,
                    precision: 18,
                    scale: 2,
                    calculated: false,
                    filterable: true,
                    sortable: true,
                })
                .collect(),
            key: 0,
            cursor: Some(CursorField(1)),
            created_date: None,
            is_deleted: None,
            replicateable: true,
            bulk: true,
            unsupported: None,
            revision: 7,
        }
    }

    fn names(lineage: &SchemaLineage) -> Vec<(&str, bool)> {
        lineage.fields.iter().map(|field| (field.name.as_str(), field.current)).collect()
    }

    #[test]
    fn places_stay_whatever_comes_and_goes() {
        let first = SchemaLineage::merge(None, &described(&[("Id", "id"), ("B", "string"), ("A", "int")]));
        let second =
            SchemaLineage::merge(Some(&first), &described(&[("Id", "id"), ("0New", "date"), ("A", "int")]));
        assert_eq!(names(&second), [("Id", true), ("B", false), ("A", true), ("0New", true)]);
        let third = SchemaLineage::merge(Some(&second), &described(&[("Id", "id"), ("B", "string")]));
        assert_eq!(names(&third), [("Id", true), ("B", true), ("A", false), ("0New", false)]);
        assert_eq!(SchemaLineage::decode(&third.encode()), Ok(third));
    }

    #[test]
    fn a_wider_number_keeps_its_name_and_another_type_gets_a_new_one() {
        let first = SchemaLineage::merge(None, &described(&[("Id", "id"), ("A", "int"), ("B", "string")]));
        let second = SchemaLineage::merge(
            Some(&first),
            &described(&[("Id", "id"), ("A", "double"), ("B", "boolean")]),
        );
        assert_eq!(names(&second), [("Id", true), ("A", true), ("B", false), ("B_2", true)]);
        assert_eq!(second.fields[1].source.kind, FieldKind::Double);
        let third =
            SchemaLineage::merge(Some(&second), &described(&[("Id", "id"), ("A", "int"), ("B", "boolean")]));
        assert_eq!(third.fields[1].source.kind, FieldKind::Double, "readers of doubles read on");
        assert_eq!(names(&third), names(&second));
        let back =
            SchemaLineage::merge(Some(&third), &described(&[("Id", "id"), ("A", "int"), ("b", "string")]));
        assert_eq!(names(&back), [("Id", true), ("A", true), ("B", true), ("B_2", false)]);
    }

    #[test]
    fn a_hidden_field_keeps_its_name_if_it_was_text_and_else_gets_a_new_one() {
        let plain = described(&[("Id", "id"), ("A", "currency"), ("B", "email"), ("C", "boolean")]);
        let mut hidden = plain.clone();
        for (place, kind) in [(1, FieldKind::Hashed), (2, FieldKind::Hashed), (3, FieldKind::Masked)] {
            hidden.fields[place].kind = kind;
        }
        let first = SchemaLineage::merge(None, &plain);
        let second = SchemaLineage::merge(Some(&first), &hidden);
        let wanted = [("Id", true), ("A", false), ("B", true), ("C", false), ("A_2", true), ("C_2", true)];
        assert_eq!(names(&second), wanted);
        assert_eq!(second.fields[2].source.kind, FieldKind::Hashed);
        assert_eq!(SchemaLineage::decode(&second.encode()).as_ref(), Ok(&second));
        let third = SchemaLineage::merge(Some(&second), &plain);
        let wanted = [("Id", true), ("A", true), ("B", true), ("C", true), ("A_2", false), ("C_2", false)];
        assert_eq!(names(&third), wanted);
        assert_eq!(third.fields[2].source.kind, FieldKind::Text);
    }

    #[test]
    fn a_field_that_looks_like_a_renamed_one_gets_a_name_of_its_own() {
        let first = SchemaLineage::merge(None, &described(&[("Id", "id"), ("A", "int")]));
        let second = SchemaLineage::merge(Some(&first), &described(&[("Id", "id"), ("A", "string")]));
        let third = SchemaLineage::merge(
            Some(&second),
            &described(&[("Id", "id"), ("A", "string"), ("A_2", "string")]),
        );
        assert_eq!(names(&third), [("Id", true), ("A", false), ("A_2", true), ("A_2_2", true)]);
        assert_eq!((&*third.fields[2].source.name, &*third.fields[3].source.name), ("A", "A_2"));
    }

    #[test]
    fn a_record_of_another_version_is_refused() {
        let lineage = SchemaLineage { version: 2, ..SchemaLineage::merge(None, &described(&[("Id", "id")])) };
        assert!(SchemaLineage::decode(&lineage.encode()).unwrap_err().contains("version 2"));
        assert!(SchemaLineage::decode(b"\xff").is_err());
    }

    const NAMES: [&str; 5] = ["A__c", "B__c", "C__c", "A__c_2", "b__c"];
    const TYPES: [&str; 8] = ["string", "boolean", "int", "long", "double", "date", "datetime", "time"];

    /// An object as it may look: some of the names, no two alike but for case.
    fn fields() -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
        let types = proptest::collection::vec(proptest::option::of(proptest::sample::select(&TYPES[..])), 5);
        types.prop_map(|types| {
            let mut fields = vec![("Id", "id")];
            for (name, of) in NAMES.into_iter().zip(types) {
                if let Some(of) = of
                    && !fields.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
                {
                    fields.push((name, of));
                }
            }
            fields
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]
        #[test]
        fn whatever_becomes_of_an_object_new_readers_read_old_records(
            looks in proptest::collection::vec(fields(), 2..6)
        ) {
            let output = crate::config::OutputSettings::change_table("crm");
            let schema = |lineage: &SchemaLineage| {
                let text = super::super::avro::change_table(lineage, &output).unwrap();
                apache_avro::Schema::parse_str(&text).unwrap()
            };
            let mut versions: Vec<SchemaLineage> = Vec::new();
            for look in &looks {
                let object = described(look);
                let next = SchemaLineage::merge(versions.last(), &object);
                prop_assert_eq!(&SchemaLineage::merge(Some(&next), &object), &next, "a second look changes nothing");
                // Every field that the object has is there once, and can hold its values.
                for field in &object.fields {
                    let held: Vec<_> = next.fields.iter().filter(|pinned| pinned.current && pinned.source.name == field.name).collect();
                    prop_assert_eq!(held.len(), 1);
                    prop_assert_eq!(widest(held[0].source.kind, field.kind), Some(held[0].source.kind));
                }
                prop_assert_eq!(next.fields.iter().filter(|pinned| pinned.current).count(), object.fields.len());
                for old in &versions {
                    let places = |lineage: &SchemaLineage| lineage.fields.iter().map(|field| field.name.clone()).collect::<Vec<_>>();
                    prop_assert!(places(&next).starts_with(&places(old)), "places stay");
                    prop_assert!(SchemaCompatibility::can_read(&schema(old), &schema(&next)).is_ok());
                }
                versions.push(next);
            }
        }
    }
}
