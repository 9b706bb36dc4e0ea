//! What a row holds, as one number: whether two readings of a record differ.
//!
//! Comes in: a row. Goes out: a 64-bit hash of its values, the same for both spellings of a value. Fields that move
//! without the record being changed are left out, and so are fields that were not selected. Ledgers of earlier runs
//! hold these numbers: a change here makes every record within the look-back look changed once.

use std::borrow::Cow;

use xxhash_rust::xxh3::Xxh3;

use super::{Field, FieldKind, ObjectDescription, Row, cell};

pub fn content_hash(object: &ObjectDescription, row: Row<'_>) -> u64 {
    let mut hasher = Xxh3::new();
    for (index, field) in object.fields.iter().enumerate() {
        if field.is_volatile() {
            continue;
        }
        if let Some(cell) = row.value(index) {
            // The name, not the place: a field that comes or goes elsewhere does not touch this one.
            hasher.update(field.name.as_bytes());
            feed(&mut hasher, field, cell);
        }
    }
    hasher.digest()
}

/// The same of one value.
pub fn value_hash(field: &Field, cell: &[u8]) -> u64 {
    let mut hasher = Xxh3::new();
    feed(&mut hasher, field, cell);
    hasher.digest()
}

fn feed(hasher: &mut Xxh3, field: &Field, cell: &[u8]) {
    // Of a disguised field too its own value decides whether the record has changed.
    let kind = field.source_kind();
    // Beyond what a double tells apart: a change of the last digit is a change.
    let decimal = (kind == FieldKind::Decimal).then(|| cell::decimal(cell)).flatten();
    if let Some(decimal) = decimal {
        hasher.update(&[0, 3]);
        hasher.update(&decimal.to_bytes());
        return;
    }
    let number = match kind {
        FieldKind::Int | FieldKind::Long => cell::integer(cell).map(i64::cast_unsigned),
        FieldKind::Double => cell::double(cell).map(f64::to_bits),
        FieldKind::DateTime => cell::datetime(cell).map(i64::cast_unsigned),
        FieldKind::Time => cell::time(cell).map(|millis| i64::from(millis).cast_unsigned()),
        FieldKind::Text
        | FieldKind::Boolean
        | FieldKind::Decimal
        | FieldKind::Date
        | FieldKind::Binary
        | FieldKind::Blob
        | FieldKind::Compound
        | FieldKind::Hashed
        | FieldKind::Masked => None,
    };
    let text = match kind {
        // The version of the API that it was asked for by is no content. Other bytes move the record's stamp.
        FieldKind::Binary | FieldKind::Blob => Cow::Borrowed(cell::path_behind_version(cell)),
        _ if field.is_any() => cell::any(cell),
        _ => Cow::Borrowed(cell),
    };
    match number {
        Some(number) => {
            hasher.update(&[0, 1]);
            hasher.update(&number.to_be_bytes());
        }
        None => {
            hasher.update(&[0, 2]);
            hasher.update(&(text.len() as u64).to_be_bytes());
            hasher.update(&text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{RowLayout, Rows};

    fn object() -> ObjectDescription {
        let field = |name: &str, kind, calculated| Field {
            name: name.to_owned(),
            label: String::new(),
            help: None,
            salesforce_type: String::new(),
            kind,
            length: 0,
            precision: 0,
            scale: 0,
            calculated,
            filterable: true,
            sortable: true,
        };
        ObjectDescription {
            name: "Account".into(),
            target_name: "Account".into(),
            label: String::new(),
            fields: vec![
                field("Id", FieldKind::Text, false),
                field("SystemModstamp", FieldKind::DateTime, false),
                field("Amount", FieldKind::Double, false),
                field("Formula", FieldKind::Double, true),
                field("LastViewedDate", FieldKind::DateTime, false),
                field("Name", FieldKind::Text, false),
                field("Site", FieldKind::Text, false),
            ],
            compounds: Vec::new(),
            key: 0,
            cursor: None,
            created_date: None,
            is_deleted: None,
            replicateable: true,
            bulk: true,
            unsupported: None,
            revision: 0,
        }
    }

    fn hash(row: [&str; 7]) -> u64 {
        let mut rows = Rows::new(RowLayout::complete(7));
        rows.push(row.map(str::as_bytes)).unwrap();
        content_hash(&object(), rows.row(0).unwrap())
    }

    const REST: [&str; 7] = ["001", "2026-05-19T08:30:00.000+0000", "10000000000.0", "1.0", "", "Acme", ""];

    #[test]
    fn both_doors_and_volatile_fields_make_no_difference() {
        let bulk =
            ["001", "2026-05-19T08:30:00.000Z", "1.0E10", "2.0", "2026-05-19T08:30:00.000Z", "Acme", ""];
        assert_eq!(hash(REST), hash(bulk));
    }

    #[test]
    fn values_of_unknown_type_are_the_same_through_both_doors() {
        let mut object = object();
        object.fields[5].salesforce_type = "anyType".to_owned();
        let hash = |value: &str| {
            let mut rows = Rows::new(RowLayout::complete(7));
            rows.push(["001", "", "", "", "", value, ""].map(str::as_bytes)).unwrap();
            content_hash(&object, rows.row(0).unwrap())
        };
        assert_eq!(hash("2026-05-19T08:30:00.000+0000"), hash("2026-05-19T08:30:00.000Z"));
        assert_ne!(hash("2026-05-19T08:30:00.000Z"), hash("2026-05-19T08:30:01.000Z"));
    }

    #[test]
    fn every_value_and_its_place_count() {
        for (place, other) in [(0, "002"), (1, "2026-05-19T08:30:01.000Z"), (2, "0"), (5, "acme"), (6, "x")] {
            let mut row = REST;
            row[place] = other;
            assert_ne!(hash(REST), hash(row), "field {place}");
        }
        let (mut name, mut site) = (REST, REST);
        (name[5], name[6], site[5], site[6]) = ("Acme", "", "", "Acme");
        assert_ne!(hash(name), hash(site));
    }

    #[test]
    fn ledgers_of_earlier_runs_stay_readable() {
        assert_eq!(hash(REST), GOLDEN);
    }

    const GOLDEN: u64 = 1_123_415_317_562_253_941;

    fn hash_of(kind: FieldKind, text: &str) -> u64 {
        let mut object = object();
        object.fields.truncate(2);
        object.fields[1] = Field { name: "F__c".to_owned(), kind, ..object.fields[0].clone() };
        let mut rows = Rows::new(RowLayout::complete(2));
        rows.push([b"001".as_slice(), text.as_bytes()]).unwrap();
        content_hash(&object, rows.row(0).unwrap())
    }

    /// By kind: spellings of one value, and its hash in every release.
    const VALUES: [(FieldKind, &[&str], u64); 13] = [
        (FieldKind::Text, &[""], 2_413_683_478_057_511_434),
        (FieldKind::Text, &["true"], 5_305_731_324_856_650_169),
        (FieldKind::Boolean, &["false"], 8_409_448_965_185_941_381),
        (FieldKind::Int, &["39000", "39000.0", "3.9E4"], 4_611_525_881_102_417_620),
        (FieldKind::Long, &["9223372036854775807"], 368_026_295_481_191_487),
        (FieldKind::Double, &["12.5", "1.25E1", "12.50"], 13_802_802_107_156_313_807),
        (FieldKind::Double, &["0", "0.0", "-0.0"], 16_829_962_995_727_609_180),
        (FieldKind::Decimal, &["12.5", "1.25E1", "12.50"], 13_601_789_623_908_702_452),
        (FieldKind::Decimal, &["0", "0.0", "-0.0"], 1_783_177_910_605_581_453),
        (
            FieldKind::Binary,
            &[
                "/services/data/v66.0/sobjects/Attachment/00P000000000001AAA/Body",
                "/services/data/v67.0/sobjects/Attachment/00P000000000001AAA/Body",
            ],
            8_114_039_651_962_109_122,
        ),
        (FieldKind::Date, &["2026-05-19"], 7_548_183_868_288_980_603),
        (
            FieldKind::DateTime,
            &["2026-05-19T08:30:00.000Z", "2026-05-19T08:30:00.000+0000"],
            5_124_263_741_039_632_711,
        ),
        (FieldKind::Time, &["13:30:00.000Z", "13:30:00Z"], 17_696_062_536_772_682_792),
    ];

    #[test]
    fn every_kind_hashes_its_value_and_not_its_spelling_in_every_release() {
        for (kind, spellings, golden) in VALUES {
            for text in spellings {
                assert_eq!(hash_of(kind, text), golden, "{kind:?} {text}");
            }
        }
        // Null, zero and false are three things, and what does not fit is still a value.
        let hashes = ["", "0", "0.0", "-0.0", "false", "?"].map(|text| hash_of(FieldKind::Double, text));
        let distinct: std::collections::HashSet<u64> = hashes.into_iter().collect();
        assert_eq!(distinct.len(), 4, "zero is one value in all its spellings");
        // No two decimals are one double here, though they are as doubles.
        let long = ["1234567890123456.78", "1234567890123456.79"];
        assert_eq!(long[0].parse::<f64>(), long[1].parse::<f64>());
        assert_ne!(hash_of(FieldKind::Decimal, long[0]), hash_of(FieldKind::Decimal, long[1]));
    }
}
