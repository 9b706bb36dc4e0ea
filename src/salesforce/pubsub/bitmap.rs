//! The field bitmaps of a change event's header.
//!
//! Comes in: the elements of `changedFields`, `nulledFields` or `diffFields`, and the places of the event's own
//! schema. Goes out: a set of slots. `0x…` counts the top-level fields, lowest bit of the last byte first, the header
//! being field 0; `5-0x…` counts the parts of compound field 5 in the same way (`pubsub.md` 4.1). Lenient with case and
//! leading zeros. A place outside the schema means that another schema was used: an error, never left out.

use crate::domain::FieldSet;

use super::avro::{Read, Unreadable};

/// Where a top-level field and its parts have their slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The field's own slot; its parts follow.
    pub slot: usize,
    /// 0: no compound.
    pub parts: usize,
}

pub(super) fn decode(element: &str, places: &[Place], slots: &mut FieldSet) -> Read<()> {
    let refused = |why: &str| Unreadable::new(format!("a field bitmap {why}"));
    match element.split_once('-') {
        None => bits(element, |position| {
            let place = places.get(position).ok_or_else(|| {
                refused(&format!("names field {position}, the schema has {}", places.len()))
            })?;
            slots.insert(place.slot);
            Ok(())
        }),
        Some((field, map)) => {
            let field: usize = field.parse().map_err(|_| refused("has a compound that is no number"))?;
            let place = places.get(field).filter(|place| place.parts > 0);
            let place = place
                .ok_or_else(|| refused(&format!("names parts of field {field}, which is no compound")))?;
            bits(map, |part| {
                if part >= place.parts {
                    let why = format!("names part {part} of field {field}, which has {}", place.parts);
                    return Err(refused(&why));
                }
                slots.insert(place.slot + 1 + part);
                Ok(())
            })
        }
    }
}

/// For `crate::fuzzing`: the slots that elements name, in a schema whose fields have so many parts.
#[cfg(any(test, feature = "fuzzing"))]
pub fn named_slots(parts: &[usize], elements: &[&str]) -> Option<FieldSet> {
    let mut next = 0;
    let places: Vec<Place> = parts
        .iter()
        .map(|parts| {
            let slot = next;
            next += 1 + parts;
            Place { slot, parts: *parts }
        })
        .collect();
    let mut slots = FieldSet::default();
    elements.iter().try_for_each(|element| decode(element, &places, &mut slots)).ok()?;
    Some(slots)
}

/// Positions of the bits that are set.
fn bits(map: &str, mut set: impl FnMut(usize) -> Read<()>) -> Read<()> {
    let hex = map.strip_prefix("0x").or_else(|| map.strip_prefix("0X"));
    let hex = hex.ok_or_else(|| Unreadable::new("a field bitmap does not begin with 0x"))?;
    for (nibble, digit) in hex.chars().rev().enumerate() {
        let digit = digit.to_digit(16).ok_or_else(|| Unreadable::new("a field bitmap is not hexadecimal"))?;
        for bit in (0..4).filter(|bit| digit >> bit & 1 == 1) {
            set(nibble * 4 + bit)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};

    use proptest::prelude::*;
    use serde_json::Value as Json;

    use super::*;

    const VECTORS: &str = include_str!("../../../tests/data/salesforce/pubsub/cdc-bitmap-vectors.json");

    struct Schema {
        places: Vec<Place>,
        /// By slot.
        names: Vec<String>,
    }

    impl Schema {
        fn of(fields: &Json) -> Self {
            let mut schema = Self { places: Vec::new(), names: Vec::new() };
            for field in fields.as_array().unwrap() {
                let name = field["name"].as_str().unwrap();
                let parts = field["children"].as_array().map(Vec::as_slice).unwrap_or_default();
                schema.places.push(Place { slot: schema.names.len(), parts: parts.len() });
                schema.names.push(name.to_owned());
                schema.names.extend(parts.iter().map(|part| format!("{name}.{}", part.as_str().unwrap())));
            }
            schema
        }

        fn names(&self, elements: &[Json]) -> Read<BTreeSet<&str>> {
            let mut slots = FieldSet::default();
            for element in elements {
                decode(element.as_str().unwrap(), &self.places, &mut slots)?;
            }
            Ok(slots.iter().map(|slot| self.names[slot].as_str()).collect())
        }
    }

    fn schemas(vectors: &Json) -> HashMap<String, Schema> {
        let schemas = vectors["schemas"].as_object().unwrap();
        schemas.iter().map(|(name, fields)| (name.clone(), Schema::of(fields))).collect()
    }

    #[test]
    fn recorded_documented_and_computed_bitmaps_name_their_fields() {
        let vectors: Json = serde_json::from_str(VECTORS).unwrap();
        let schemas = schemas(&vectors);
        let all =
            vectors["vectors"].as_array().unwrap().iter().chain(vectors["tolerance"].as_array().unwrap());
        let mut count = 0;
        for vector in all {
            let schema = &schemas[vector["schema"].as_str().unwrap_or("Account_docs")];
            let expected: BTreeSet<&str> =
                vector["expected"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
            assert_eq!(schema.names(vector["bitmap"].as_array().unwrap()), Ok(expected), "{vector}");
            count += 1;
        }
        assert_eq!(count, 17);
    }

    #[test]
    fn what_does_not_fit_the_schema_is_an_error_and_never_left_out() {
        let vectors: Json = serde_json::from_str(VECTORS).unwrap();
        let schemas = schemas(&vectors);
        let invalid = vectors["invalid"].as_array().unwrap();
        assert_eq!(invalid.len(), 4);
        for vector in invalid {
            let schema = &schemas[vector["schema"].as_str().unwrap()];
            assert!(schema.names(vector["bitmap"].as_array().unwrap()).is_err(), "{vector}");
        }
        let schema = &schemas["Account_docs"];
        for wrong in ["", "0", "4-", "-0x01", "x-0x01", "4-4-0x01", "0xG1", "99-0x01", "0x8é"] {
            assert!(schema.names(&[wrong.into()]).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn every_set_of_positions_comes_back(positions in proptest::collection::btree_set(0usize..800, 0..40), zeros in 0usize..5, upper: bool) {
            let mut bytes = [0u8; 100];
            for position in &positions {
                bytes[99 - position / 8] |= 1 << (position % 8);
            }
            let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(100).saturating_sub(zeros);
            let mut hex: String = bytes[first..].iter().map(|byte| format!("{byte:02x}")).collect();
            if upper {
                hex.make_ascii_uppercase();
            }
            let places: Vec<Place> = (0..800).map(|slot| Place { slot, parts: 0 }).collect();
            let mut slots = FieldSet::default();
            decode(&format!("0x{hex}"), &places, &mut slots).unwrap();
            prop_assert_eq!(slots.iter().collect::<BTreeSet<_>>(), positions);
        }

        #[test]
        fn foreign_text_never_panics(element in "\\PC{0,20}|[0-9]{0,20}-?0x[0-9A-Fa-f]{0,30}") {
            let places = [Place { slot: 0, parts: 0 }, Place { slot: 1, parts: 3 }];
            let _ = decode(&element, &places, &mut FieldSet::default());
        }
    }
}
