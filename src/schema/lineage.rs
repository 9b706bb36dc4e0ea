//! The fields of an object's schema through all its versions, in their one order.
//!
//! Comes in: the lineage so far (control record `schema/<Object>`), and the description of now. Goes out: the lineage
//! to write by. Fields keep their place for ever: new ones are put at the end, removed ones stay and are null. A name has one
//! type for ever. A field whose type changed keeps its name if the old type holds all that comes now; else it goes on
//! under a new name, for readers that were made for the old type could not read the new one, not even a wider number
//! (docs/adr/0014).

use serde::{Deserialize, Serialize};

use super::asked::Asked;
use super::names::FieldNames;
use crate::Result;
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
    /// What the configuration asked for when this was written; none: written before it was noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
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

    /// The lineage to write by. An object that has none yet is refused if two of its fields would get one name; of one that
    /// is published already such a field goes on under a name of its own, for it must not stop the others.
    pub fn follow(pinned: Option<&Self>, object: &ObjectDescription, names: &FieldNames<'_>) -> Result<Self> {
        if pinned.is_none() {
            names.check(object)?;
        }
        Ok(Self::merge_as(pinned, object, names))
    }

    /// The lineage that goes on from this one with the object as it is now, new fields named as Salesforce names them.
    #[must_use]
    pub fn merge(pinned: Option<&Self>, object: &ObjectDescription) -> Self {
        Self::merge_as(pinned, object, &FieldNames::default())
    }

    fn merge_as(pinned: Option<&Self>, object: &ObjectDescription, names: &FieldNames<'_>) -> Self {
        let mut fields: Vec<PinnedField> = pinned.map(|pinned| pinned.fields.clone()).unwrap_or_default();
        let was_current: Vec<bool> =
            fields.iter_mut().map(|field| std::mem::replace(&mut field.current, false)).collect();
        for source in object.fields.iter().chain(object.compounds.iter().map(|compound| &compound.field)) {
            // Salesforce takes names in any case. Of the fields it had before, the one in use goes on if it can, else that of
            // the same type: a type that comes back finds its old field.
            let known = fields.iter_mut().zip(&was_current).filter_map(|(pinned, was_current)| {
                let held = held(&pinned.source, source)
                    .filter(|_| pinned.source.name.eq_ignore_ascii_case(&source.name))?;
                Some(((*was_current, pinned.source.kind == source.kind), held, pinned))
            });
            if let Some((_, held, pinned)) = known.max_by_key(|(rank, _, _)| *rank) {
                pinned.source = held;
                pinned.current = true;
                continue;
            }
            let wanted = names.wanted(&source.name);
            let name = free_name(&fields, &wanted, names);
            if name != wanted {
                tracing::warn!(
                    object = %object.name, field = source.name, new_name = name, r#type = source.salesforce_type,
                    "the field has another type now, or its name is taken: it goes on under a new name"
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
            asked: pinned.and_then(|pinned| pinned.asked.clone()),
        }
    }

    /// Fields that have values now and had none under `before`, by their names in Salesforce.
    pub fn gained(&self, before: &Self) -> Vec<String> {
        self.differing(before, |now, before| now && !before)
    }

    /// Fields that had values under `before` and are null from now on.
    pub fn lost(&self, before: &Self) -> Vec<String> {
        self.differing(before, |now, before| !now && before)
    }

    /// Fields keep their places from one version to the next.
    fn differing(&self, before: &Self, wanted: impl Fn(bool, bool) -> bool) -> Vec<String> {
        let was = |place: usize| before.fields.get(place).is_some_and(|field| field.current);
        let fields = self.fields.iter().enumerate();
        fields
            .filter(|(place, field)| wanted(field.current, was(*place)))
            .map(|(_, field)| field.source.name.clone())
            .collect()
    }

    /// Salesforce names in the order of the schema, for a description in the same order.
    pub fn source_names(&self) -> Vec<String> {
        self.fields.iter().map(|field| field.source.name.clone()).collect()
    }
}

/// The new field as the old one's type holds it; none if there are values that it cannot hold.
fn held(old: &Field, new: &Field) -> Option<Field> {
    use FieldKind::{Compound, Decimal, Double, Hashed, Int, Long, Masked, Text};
    let before_the_point = |field: &Field| field.precision.checked_sub(field.scale);
    let (mut precision, mut scale) = (new.precision, new.scale);
    let holds = match (old.kind, new.kind) {
        (Decimal, Decimal) => {
            (precision, scale) = (old.precision, old.scale);
            new.scale <= old.scale && before_the_point(new)? <= before_the_point(old)?
        }
        // Records of other parts.
        (Compound, Compound) => old.salesforce_type == new.salesforce_type,
        // Text is text to a reader; a rule that comes or goes is told by the field's properties.
        (Text | Hashed | Masked, Text | Hashed | Masked) => return Some(new.clone()),
        (old, new) => old == new || matches!((old, new), (Long | Double, Int)),
    };
    holds.then(|| Field { kind: old.kind, precision, scale, ..new.clone() })
}

fn free_name(fields: &[PinnedField], wanted: &str, names: &FieldNames<'_>) -> String {
    let taken = |name: &str| {
        names.is_reserved(name) || fields.iter().any(|field| field.name.eq_ignore_ascii_case(name))
    };
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
                .map(|(name, salesforce_type)| {
                    // `decimal 10,2`, as with `decimals: decimal`.
                    let shape =
                        salesforce_type.strip_prefix("decimal ").and_then(|shape| shape.split_once(','));
                    Field {
                        name: (*name).to_owned(),
                        label: format!("{name} label"),
                        help: None,
                        salesforce_type: shape.map_or(*salesforce_type, |_| "currency").to_owned(),
                        kind: shape.map_or_else(|| FieldKind::of(salesforce_type), |_| FieldKind::Decimal),
                        length: 80,
                        precision: shape.map_or(18, |(precision, _)| precision.parse().unwrap()),
                        scale: shape.map_or(2, |(_, scale)| scale.parse().unwrap()),
                        calculated: false,
                        filterable: true,
                        sortable: true,
                    }
                })
                .collect(),
            key: 0,
            cursor: Some(CursorField(1)),
            created_date: None,
            is_deleted: None,
            compounds: Vec::new(),
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
        assert_eq!(names(&second), [("Id", true), ("B", false), ("A", true), ("_0New", true)]);
        let third = SchemaLineage::merge(Some(&second), &described(&[("Id", "id"), ("B", "string")]));
        assert_eq!(names(&third), [("Id", true), ("B", true), ("A", false), ("_0New", false)]);
        assert_eq!(SchemaLineage::decode(&third.encode()), Ok(third));
    }

    #[test]
    fn another_type_gets_a_new_name_and_one_that_comes_back_finds_its_old_one() {
        let first = SchemaLineage::merge(None, &described(&[("Id", "id"), ("A", "int"), ("B", "string")]));
        let second = SchemaLineage::merge(
            Some(&first),
            &described(&[("Id", "id"), ("A", "double"), ("B", "boolean")]),
        );
        assert_eq!(
            names(&second),
            [("Id", true), ("A", false), ("B", false), ("A_2", true), ("B_2", true)],
            "a reader made for ints cannot read doubles"
        );
        assert_eq!(
            (second.fields[1].source.kind, second.fields[3].source.kind),
            (FieldKind::Int, FieldKind::Double)
        );
        let third =
            SchemaLineage::merge(Some(&second), &described(&[("Id", "id"), ("A", "int"), ("b", "string")]));
        assert_eq!(
            names(&third),
            [("Id", true), ("A", false), ("B", true), ("A_2", true), ("B_2", false)],
            "what is doubles holds ints"
        );
        assert_eq!(third.fields[3].source.kind, FieldKind::Double);
        let fourth =
            SchemaLineage::merge(Some(&third), &described(&[("Id", "id"), ("A", "long"), ("B", "string")]));
        assert_eq!(
            names(&fourth)[3..],
            [("A_2", false), ("B_2", false), ("A_3", true)],
            "no double holds all longs"
        );
    }

    #[test]
    fn of_two_old_fields_that_hold_a_value_the_one_of_its_own_type_goes_on() {
        let mut lineage = SchemaLineage::merge(None, &described(&[("Id", "id"), ("A", "int")]));
        for look in [&[("Id", "id"), ("A", "double")][..], &[("Id", "id")], &[("Id", "id"), ("A", "int")]] {
            lineage = SchemaLineage::merge(Some(&lineage), &described(look));
        }
        assert_eq!(names(&lineage), [("Id", true), ("A", true), ("A_2", false)]);
    }

    #[test]
    fn a_long_holds_ints_and_goes_on() {
        let first = SchemaLineage::merge(None, &described(&[("Id", "id"), ("A", "long")]));
        let second = SchemaLineage::merge(Some(&first), &described(&[("Id", "id"), ("A", "int")]));
        assert_eq!(names(&second), [("Id", true), ("A", true)]);
        assert_eq!(second.fields[1].source.kind, FieldKind::Long);
    }

    #[test]
    fn names_that_differ_by_case_only_are_one_name() {
        let first = SchemaLineage::merge(None, &described(&[("Id", "id"), ("A__c", "string")]));
        let second = SchemaLineage::merge(Some(&first), &described(&[("Id", "id"), ("a__c", "boolean")]));
        assert_eq!(names(&second), [("Id", true), ("A__c", false), ("a__c_2", true)]);
    }

    #[test]
    fn what_is_known_beside_the_fields_goes_on_with_them() {
        let object = described(&[("Id", "id")]);
        let mut first = SchemaLineage::merge(None, &object);
        first.key_ids.insert("crm.Invoice_c".to_owned(), 7);
        first.asked = Some(Asked::default());
        let other = ObjectDescription { label: "Bill".to_owned(), ..object };
        let second = SchemaLineage::merge(Some(&first), &other);
        assert_eq!((&second.key_ids, &second.asked), (&first.key_ids, &first.asked));
        assert_eq!(second.label, "Bill");
    }

    #[test]
    fn what_avro_does_not_see_changes_no_name() {
        let first = SchemaLineage::merge(None, &described(&[("Id", "id"), ("A", "string"), ("B", "double")]));
        let mut object = described(&[("Id", "id"), ("A", "picklist"), ("B", "currency")]);
        object.fields[1].length = 4_000;
        object.fields[2].scale = 0;
        let second = SchemaLineage::merge(Some(&first), &object);
        assert_eq!(names(&second), [("Id", true), ("A", true), ("B", true)]);
        assert_eq!(
            (&*second.fields[1].source.salesforce_type, second.fields[1].source.length),
            ("picklist", 4_000)
        );
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
    fn fields_that_come_go_return_or_are_retyped_are_told_apart_from_those_that_stay() {
        let look = |fields: &[(&str, &str)], before: Option<&SchemaLineage>| {
            SchemaLineage::merge(before, &described(fields))
        };
        let first = look(&[("Id", "id"), ("A", "int"), ("B", "string")], None);
        let wider = look(&[("Id", "id"), ("A", "double"), ("B", "string")], Some(&first));
        let a = || vec!["A".to_owned()];
        assert_eq!((wider.gained(&first), wider.lost(&first)), (a(), a()), "under a new name");
        let hidden = look(&[("Id", "id"), ("A", "double"), ("C", "date")], Some(&wider));
        assert_eq!(
            (hidden.gained(&wider), hidden.lost(&wider)),
            (vec!["C".to_owned()], vec!["B".to_owned()])
        );
        let shown = look(&[("Id", "id"), ("A", "double"), ("B", "string"), ("C", "date")], Some(&hidden));
        assert_eq!(shown.gained(&hidden), ["B"]);
        let retyped = look(&[("Id", "id"), ("A", "double"), ("B", "boolean"), ("C", "date")], Some(&shown));
        assert_eq!(
            (retyped.gained(&shown), retyped.lost(&shown)),
            (vec!["B".to_owned()], vec!["B".to_owned()])
        );
    }

    #[test]
    fn a_decimal_keeps_its_digits_and_its_point_under_one_name() {
        let mut lineage = SchemaLineage::merge(None, &described(&[("Id", "id"), ("A", "decimal 10,2")]));
        let mut look = |of: &str| {
            lineage = SchemaLineage::merge(Some(&lineage), &described(&[("Id", "id"), ("A", of)]));
            let current = lineage.fields.iter().rfind(|field| field.current).unwrap();
            (current.name.clone(), current.source.kind, current.source.precision, current.source.scale)
        };
        let decimal = |name: &str, precision, scale| (name.to_owned(), FieldKind::Decimal, precision, scale);
        assert_eq!(look("decimal 8,2"), decimal("A", 10, 2), "what was wider holds it");
        assert_eq!(look("decimal 8,0"), decimal("A", 10, 2), "values without decimals fit where two are");
        assert_eq!(look("decimal 10,0"), decimal("A_2", 10, 0), "but not with more digits before the point");
        assert_eq!(look("decimal 18,2"), decimal("A_3", 18, 2));
        assert_eq!(look("decimal 18,4"), decimal("A_4", 18, 4), "a point that moved would be another number");
        assert_eq!(look("double").0, "A_5", "bytes are no double");
        assert_eq!(look("decimal 16,2"), decimal("A_4", 18, 4));
    }

    #[test]
    fn a_compound_has_its_place_behind_the_fields_it_came_with_and_keeps_it() {
        let mut object = described(&[("Id", "id"), ("BillingStreet", "textarea")]);
        let compound = |of: &str| crate::domain::Compound {
            field: Field {
                name: "BillingAddress".to_owned(),
                salesforce_type: of.to_owned(),
                kind: FieldKind::Compound,
                ..object.fields[1].clone()
            },
            shape: crate::domain::CompoundShape::of(of).unwrap(),
            parts: Vec::new(),
        };
        let (address, location) = (compound("address"), compound("location"));
        object.compounds.push(address);
        let first = SchemaLineage::merge(None, &object);
        let expected = [("Id", true), ("BillingStreet", true), ("BillingAddress", true)];
        assert_eq!(names(&first), expected);
        object.fields.insert(1, Field { name: "A".to_owned(), ..object.fields[1].clone() });
        let second = SchemaLineage::merge(Some(&first), &object);
        assert_eq!(names(&second), [&expected[..], &[("A", true)]].concat());
        object.compounds = vec![location];
        let third = SchemaLineage::merge(Some(&second), &object);
        assert_eq!(names(&third).last(), Some(&("BillingAddress_2", true)), "other parts, another record");
        assert_eq!(SchemaLineage::decode(&third.encode()), Ok(third));
    }

    #[test]
    fn a_record_of_another_version_is_refused() {
        let lineage = SchemaLineage { version: 2, ..SchemaLineage::merge(None, &described(&[("Id", "id")])) };
        assert!(SchemaLineage::decode(&lineage.encode()).unwrap_err().contains("version 2"));
        assert!(SchemaLineage::decode(b"\xff").is_err());
    }

    const NAMES: [&str; 5] = ["A__c", "B__c", "C__c", "A__c_2", "b__c"];
    const TYPES: [&str; 13] = [
        "string",
        "boolean",
        "int",
        "long",
        "double",
        "date",
        "datetime",
        "time",
        "base64",
        "decimal 18,2",
        "decimal 10,2",
        "decimal 18,0",
        "decimal 18,8",
    ];

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
        fn whatever_becomes_of_an_object_readers_of_any_version_read_records_of_any_other(
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
                    let holds = super::held(&held[0].source, field).unwrap();
                    prop_assert_eq!(&holds, &held[0].source);
                }
                prop_assert_eq!(next.fields.iter().filter(|pinned| pinned.current).count(), object.fields.len());
                for old in &versions {
                    let places = |lineage: &SchemaLineage| lineage.fields.iter().map(|field| field.name.clone()).collect::<Vec<_>>();
                    prop_assert!(places(&next).starts_with(&places(old)), "places stay");
                    let (old, new) = (schema(old), schema(&next));
                    prop_assert!(SchemaCompatibility::can_read(&old, &new).is_ok(), "new readers read old records");
                    prop_assert!(SchemaCompatibility::can_read(&new, &old).is_ok(), "old readers read new records");
                }
                versions.push(next);
            }
        }
    }
}
