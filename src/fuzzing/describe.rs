//! An object's descriptions, one after the other, and the schemas that they lead to.
//!
//! Descriptions stand one behind another with a zero byte between. Whatever becomes of the object: the Avro library reads
//! each schema, fields keep their places, a second look changes nothing, readers of a newer schema read older records,
//! and a record of it can be written.

use std::sync::Arc;

use apache_avro::schema_compatibility::SchemaCompatibility;

use super::written::Road;
use crate::config::FieldRules;
use crate::domain::{RowLayout, Rows};
use crate::salesforce::fuzzing::described;
use crate::schema::SchemaLineage;

const MOST_LOOKS: usize = 4;

pub fn looks(input: &[u8]) {
    let mut before: Option<(SchemaLineage, Option<Road>)> = None;
    for text in input.split(|byte| *byte == 0).take(MOST_LOOKS) {
        let Some(describe) = described(text) else { continue };
        let pinned = before.as_ref().map(|(lineage, _)| lineage.source_names()).unwrap_or_default();
        let Ok(object) = describe.compile(&FieldRules::default(), &pinned) else { continue };
        if object.unsupported.is_some() {
            continue;
        }
        let object = Arc::new(object);
        let lineage = SchemaLineage::merge(before.as_ref().map(|(lineage, _)| lineage), &object);
        assert_eq!(SchemaLineage::merge(Some(&lineage), &object), lineage, "a second look changes something");
        assert_eq!(
            SchemaLineage::decode(&lineage.encode()).as_ref(),
            Ok(&lineage),
            "it is not kept as it was"
        );
        let road = Road::of(&object, &lineage);
        if let Some(road) = &road {
            let mut rows = Rows::new(RowLayout::complete(object.fields.len()));
            let cells = (0..object.fields.len())
                .map(|field| if field == object.key { &b"001"[..] } else { b"".as_slice() });
            rows.push(cells).expect("a row of the layout's width");
            road.check(rows);
        }
        if let Some((old, old_road)) = &before {
            let places = |lineage: &SchemaLineage| {
                lineage.fields.iter().map(|field| field.name.clone()).collect::<Vec<_>>()
            };
            assert!(places(&lineage).starts_with(&places(old)), "a field lost its place");
            // The record's name is the object's.
            if let (Some(old_road), Some(road), true) =
                (old_road, &road, old.target_name == lineage.target_name)
            {
                let read = SchemaCompatibility::can_read(old_road.schema(), road.schema());
                assert!(read.is_ok(), "new readers do not read old records: {read:?}");
            }
        }
        before = Some((lineage, road));
    }
}
