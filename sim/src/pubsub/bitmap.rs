//! The bitmaps of a change event's header (pubsub.md 4.1).
//!
//! Comes in: positions in the event's own schema, `ChangeEventHeader` being 0. Goes out: the strings of
//! `changedFields`, `nulledFields`, `diffFields`: one map of plain fields first, then one for each compound.
//! Never: a map with no bit set.

use std::collections::{BTreeMap, BTreeSet};

/// Fields of one event: plain ones by position, compound ones by position and part.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldSet {
    pub plain: BTreeSet<usize>,
    pub parts: BTreeMap<usize, BTreeSet<usize>>,
}

impl FieldSet {
    pub fn add(&mut self, position: usize) {
        self.plain.insert(position);
    }

    pub fn add_part(&mut self, position: usize, part: usize) {
        self.parts.entry(position).or_default().insert(part);
    }

    pub fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.parts.is_empty()
    }

    /// How many fields, parts counted each.
    pub fn len(&self) -> usize {
        self.plain.len() + self.parts.values().map(BTreeSet::len).sum::<usize>()
    }

    /// The array as it stands in the header.
    pub fn bitmaps(&self) -> Vec<String> {
        let mut maps = Vec::new();
        if !self.plain.is_empty() {
            maps.push(hex(&self.plain));
        }
        let nested = self.parts.iter().filter(|(_, parts)| !parts.is_empty());
        maps.extend(nested.map(|(position, parts)| format!("{position}-{}", hex(parts))));
        maps
    }
}

/// `0x400800`: whole bytes, the highest first, no more than the highest bit needs.
fn hex(bits: &BTreeSet<usize>) -> String {
    let bytes = bits.last().map_or(0, |highest| highest / 8 + 1);
    let mut map = vec![0_u8; bytes];
    for bit in bits {
        map[bytes - 1 - bit / 8] |= 1 << (bit % 8);
    }
    map.iter().fold(String::from("0x"), |mut text, byte| {
        text.push_str(&format!("{byte:02X}"));
        text
    })
}
