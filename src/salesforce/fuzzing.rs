//! The parsers of Salesforce's answers, as `crate::fuzzing` calls them.
//!
//! Comes in: foreign bytes. Goes out: what the parser made of them, or nothing if it refused. It opens private parsers
//! for that one caller and is in no ordinary build; it must never decide anything itself.

use std::sync::Arc;

use http::{HeaderMap, StatusCode};

pub use super::allowance::budget_again;
use super::csv::CsvPage;
use super::fault::{Area, classify};
pub use super::login::kept_again;
use super::page::{self, Columns};
pub use super::pubsub::named_slots;
use super::{Describe, fault};
use crate::domain::{ObjectDescription, Rows};

/// A page of a query's answer.
pub struct QueryPage {
    pub rows: Rows,
    pub total_size: u64,
    pub done: bool,
    pub next: Option<String>,
}

/// A page of a Bulk result that the network cuts into pieces of so many bytes. `without_header`: fields by column, if the
/// page may have no header.
pub fn bulk_page(
    object: &Arc<ObjectDescription>,
    without_header: Option<Vec<usize>>,
    body: &[u8],
    piece: usize,
) -> Option<Rows> {
    let mut page = CsvPage::new(object, without_header);
    for piece in body.chunks(piece.max(1)) {
        page.feed(piece).ok()?;
    }
    page.finish().ok()
}

/// A page of a query for all fields of the object.
pub fn query_page(object: &ObjectDescription, body: &[u8]) -> Option<QueryPage> {
    let page = page::decode(body, &all_of(object)).ok()?;
    Some(QueryPage { rows: page.rows, total_size: page.total_size, done: page.done, next: page.next })
}

/// The records of a retrieve by ids.
pub fn retrieved(object: &ObjectDescription, body: &[u8]) -> Option<Rows> {
    page::decode_array(body, &all_of(object)).ok()
}

fn all_of(object: &ObjectDescription) -> Columns {
    Columns::new(object, &(0..object.fields.len()).collect::<Vec<_>>())
}

pub fn described(body: &[u8]) -> Option<Describe> {
    Describe::read(body).ok()
}

/// What a refusal says, for people.
pub fn refusal(area: u8, status: u16, body: &[u8]) -> String {
    const AREAS: [Area; 8] = [
        Area::Versions,
        Area::Describe,
        Area::Query,
        Area::MoreQuery,
        Area::Retrieve,
        Area::Deleted,
        Area::BulkCreate,
        Area::BulkJob,
    ];
    let area = AREAS.get(usize::from(area) % AREAS.len()).copied().unwrap_or(Area::Query);
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    classify(area, status, &HeaderMap::new(), body).message
}

/// The part of a sentence of Salesforce's that is shown.
pub fn cleaned(sentence: &str) -> String {
    fault::clean(sentence)
}
