//! The bytes behind base64 fields.
//!
//! Comes in: a record and one of its fields. Goes out: what a blob's URL gives. A saved value is base64, as writes of the
//! REST API take it; other records have bytes made of their hash, the same for ever: empty ones, web pages, every byte
//! there is, a few of many kilobytes. Never: bytes where the field is null.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Kind, Plan};
use crate::org::generate::{below, mix};
use crate::org::value::Value;
use crate::org::view::Row;

/// What no generated blob is longer than.
const LONGEST: u64 = 48 * 1024;
/// What most generated ones are shorter than.
const USUAL: u64 = 3_000;
const PAGE: &[u8] = b"<html><body>kept with the record</body></html>\n";

impl Plan {
    /// None: the field is null, or no blob.
    pub fn blob(&self, row: &Row, field: usize) -> Option<Vec<u8>> {
        let plan = self.fields.get(field)?;
        if !matches!(plan.kind, Kind::BlobUrl { .. }) || self.value(row, field).is_null() {
            return None;
        }
        let saved = row.version.as_ref().and_then(|version| version.value(field));
        if let Some(Value::Text(text)) = saved {
            // A text from before the field was binary is its own bytes.
            return Some(STANDARD.decode(text.as_bytes()).unwrap_or_else(|_| text.as_bytes().to_vec()));
        }
        let hash = mix(row.hash ^ plan.salt ^ 0xB10B);
        let length = match hash % 16 {
            0 => 0,
            1 => below(mix(hash), LONGEST),
            _ => 1 + below(mix(hash), USUAL),
        };
        let length = usize::try_from(length).unwrap_or(0);
        let mut bytes = if hash % 16 == 2 { PAGE.to_vec() } else { Vec::with_capacity(length + 8) };
        let mut word = hash;
        while bytes.len() < length {
            word = mix(word);
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.truncate(length);
        Some(bytes)
    }
}
