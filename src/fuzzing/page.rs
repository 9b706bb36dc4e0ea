//! Pages of records, by CSV and by JSON, and refusals.
//!
//! What is accepted reads the same wherever the network cuts it, and written again in the plainest form; JSON means what
//! serde_json's tree says; every row can be published, and reads back as it was.

use std::sync::LazyLock;

use serde_json::Value;

use super::samples;
use super::written::{Road, are_same};
use crate::domain::{ObjectDescription, Row, Rows};
use crate::salesforce::fuzzing as salesforce;
use crate::schema::SchemaLineage;

fn object() -> &'static std::sync::Arc<ObjectDescription> {
    samples::every_kind()
}

pub fn road() -> &'static Road {
    static ROAD: LazyLock<Road> = LazyLock::new(|| {
        Road::of(object(), &SchemaLineage::merge(None, object())).expect("the sample can be published")
    });
    &ROAD
}

/// A byte that says how the page is cut and whether it may have no header, then the page.
pub fn bulk(input: &[u8]) {
    let Some((how, body)) = input.split_first() else { return };
    let fields = object().fields.len();
    let without_header = (how & 0x80 != 0).then(|| (0..fields).collect::<Vec<_>>());
    let read = |piece| salesforce::bulk_page(object(), without_header.clone(), body, piece);
    let (whole, pieces) = (read(body.len()), read(usize::from(how & 0x7f)));
    let (Some(rows), Some(pieces)) = (&whole, &pieces) else {
        assert_eq!(whole.is_some(), pieces.is_some(), "a cut decides whether the page reads");
        return;
    };
    assert!(are_same(rows, pieces, fields), "a cut decides what the page says");
    if !rows.is_empty() {
        let again = salesforce::bulk_page(object(), None, &written(rows), body.len());
        let again = again.expect("a page of quoted cells reads");
        assert!(are_same(rows, &again, fields), "the page means something else in quotes");
    }
    if let Some(rows) = whole {
        road().check(rows);
    }
}

/// The rows as Salesforce writes them.
fn written(rows: &Rows) -> Vec<u8> {
    let columns: Vec<usize> = (0..object().fields.len()).filter(|field| rows.layout().has(*field)).collect();
    let mut text = Vec::new();
    let mut line = |cell: &dyn Fn(usize) -> Vec<u8>| {
        for (place, field) in columns.iter().enumerate() {
            text.extend_from_slice(if place == 0 { b"\"" } else { b",\"" });
            for byte in cell(*field) {
                text.extend_from_slice(if byte == b'"' { b"\"\"" } else { std::slice::from_ref(&byte) });
            }
            text.push(b'"');
        }
        text.push(b'\n');
    };
    line(&|field| {
        object().fields.get(field).map(|field| field.name.clone().into_bytes()).unwrap_or_default()
    });
    for row in rows.iter() {
        line(&|field| row.cell(field).unwrap_or_default().to_vec());
    }
    text
}

/// The answer of a query or of a retrieve.
pub fn query(input: &[u8]) {
    let tree: Option<Value> = serde_json::from_slice(input).ok();
    if let Some(page) = salesforce::query_page(object(), input) {
        if let Some(Value::Object(tree)) = &tree {
            assert_eq!(tree.get("totalSize").and_then(Value::as_u64), Some(page.total_size));
            assert_eq!(tree.get("done").and_then(Value::as_bool), Some(page.done));
            assert_eq!(tree.get("nextRecordsUrl").and_then(Value::as_str), page.next.as_deref());
            // Said twice, both count; the tree keeps the last.
            let finds = |word: &str| memchr::memmem::find_iter(input, word).count();
            if finds("records") == 1 && finds("\\u") == 0 {
                compare(tree.get("records"), &page.rows);
            }
        }
        road().check(page.rows);
    }
    if let Some(rows) = salesforce::retrieved(object(), input) {
        if tree.is_some() {
            compare(tree.as_ref(), &rows);
        }
        road().check(rows);
    }
}

fn compare(records: Option<&Value>, rows: &Rows) {
    let Some(Value::Array(records)) = records else { panic!("records are no array") };
    let there: Vec<&Value> = records.iter().filter(|record| !record.is_null()).collect();
    assert_eq!(there.len(), rows.len(), "a record was lost or made up");
    for (record, row) in there.into_iter().zip(rows.iter()) {
        let Value::Object(record) = record else { panic!("a record is no object") };
        for (index, field) in object().fields.iter().enumerate() {
            // In two spellings the last one counts, whichever that is.
            let mut said = record.iter().filter(|(name, _)| name.eq_ignore_ascii_case(&field.name));
            if let (value, None) = (said.next(), said.next()) {
                assert!(says(row, index, value.map(|(_, value)| value)), "{} is another", field.name);
            }
        }
    }
}

fn says(row: Row<'_>, field: usize, value: Option<&Value>) -> bool {
    let Some(Ok(cell)) = row.cell(field).map(std::str::from_utf8) else { return false };
    match value {
        None | Some(Value::Null) => cell.is_empty(),
        Some(Value::Bool(value)) => cell == value.to_string(),
        Some(Value::String(value)) => cell == value,
        Some(value @ (Value::Number(_) | Value::Array(_) | Value::Object(_))) => {
            serde_json::from_str::<Value>(cell).is_ok_and(|cell| cell == *value)
        }
    }
}

/// Two bytes for the place and the status, then the body. A message is short and in one line, whatever was answered.
pub fn refusal(input: &[u8]) {
    const STATUSES: [u16; 12] = [200, 302, 400, 401, 403, 404, 409, 410, 420, 429, 500, 503];
    const LONGEST: usize = 1_200;
    let Some(([area, status], body)) = input.split_first_chunk::<2>() else { return };
    let status = STATUSES.get(usize::from(*status) % STATUSES.len()).copied().unwrap_or(400);
    let message = salesforce::refusal(*area, status, body);
    assert!(message.len() <= LONGEST, "a message of {} bytes", message.len());
    if let Ok(sentence) = std::str::from_utf8(body) {
        let cleaned = salesforce::cleaned(sentence);
        assert!(cleaned.chars().count() <= 241, "a sentence of {} letters", cleaned.chars().count());
        assert!(!cleaned.contains('\n'), "a sentence of two lines");
    }
}
