//! The doors of this room for tests of others: what is read of a describe, a page of a query and a page of Bulk.
//!
//! Comes in: bodies as Salesforce sends them. Goes out: what the program makes of them. Only in tests; the doors of
//! events are open anyway (`pubsub::EventSchema`, `pubsub::EventPlan`).

use std::sync::Arc;

use super::Describe;
use super::csv::CsvPage;
use super::page::{Columns, decode};
use crate::domain::{ObjectDescription, Rows};

pub fn describe(body: &[u8]) -> Describe {
    Describe::read(body).expect("a describe")
}

pub fn rest(object: &Arc<ObjectDescription>, body: &[u8]) -> Rows {
    let all: Vec<usize> = (0..object.fields.len()).collect();
    decode(body, &Columns::new(object, &all)).expect("a page").rows
}

/// The page comes in pieces of so many bytes.
pub fn bulk(object: &Arc<ObjectDescription>, body: &[u8], piece: usize) -> Rows {
    let mut page = CsvPage::new(object, None);
    body.chunks(piece).for_each(|piece| page.feed(piece).expect("a page of CSV"));
    page.finish().expect("a page of CSV")
}
