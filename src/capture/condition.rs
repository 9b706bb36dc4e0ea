//! Which records fit the condition of an object (`where`): Salesforce is asked, nothing of it is evaluated here.
//!
//! Comes in: ids of records that were read without the condition. Goes out: of each whether it fits as it was read. What fits
//! is asked after the reading, so the answer is never about an older state of a record; if it is about a younger one, the
//! caller is told so. What Salesforce refuses in the condition is an error of the configuration, with its own sentence.

use std::collections::HashMap;
use std::sync::Arc;

use super::ledger::RecordId;
use crate::domain::{ObjectDescription, Row, Stamp};
use crate::error::Kind;
use crate::salesforce::{Client, Select, Statement};
use crate::{Error, Result};

/// Ids that one question names: about 21,000 characters of the 100,000 that a statement may have.
pub const IDS_PER_QUESTION: usize = 1_000;

/// Whether a record that was read may be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    Yes,
    No,
    /// It fits, but was saved again since it was read.
    Later,
}

/// The records that fit, and the stamps they had when that was asked.
#[derive(Debug, Default)]
pub struct Fitting(HashMap<RecordId, Option<Stamp>>);

impl Fitting {
    pub fn has(&self, id: &RecordId) -> bool {
        self.0.contains_key(id)
    }

    /// Of a record that was read with this stamp, if it has one.
    pub fn of(&self, id: &RecordId, read: Option<Stamp>) -> Fit {
        match self.0.get(id) {
            None => Fit::No,
            Some(asked) if read.zip(*asked).is_some_and(|(read, asked)| read < asked) => Fit::Later,
            Some(_) => Fit::Yes,
        }
    }
}

#[cfg(test)]
impl FromIterator<(RecordId, Option<Stamp>)> for Fitting {
    fn from_iter<I: IntoIterator<Item = (RecordId, Option<Stamp>)>>(fitting: I) -> Self {
        Self(fitting.into_iter().collect())
    }
}

/// Asks which of these fit, deleted records included: their fields are still there.
pub async fn fitting(
    client: &Client,
    object: &Arc<ObjectDescription>,
    condition: &str,
    ids: &[RecordId],
) -> Result<Fitting> {
    let mut fitting = Fitting::default();
    for ids in ids.chunks(IDS_PER_QUESTION) {
        let mut pages = client.query(&question(object, condition, ids)?, true);
        while let Some(page) = pages.next().await.map_err(|error| refused(object, error))? {
            for row in page.rows.iter() {
                let id = row.value(object.key).and_then(RecordId::new);
                fitting.0.extend(id.map(|id| (id, stamp(object, row))));
            }
        }
    }
    Ok(fitting)
}

fn question(object: &Arc<ObjectDescription>, condition: &str, ids: &[RecordId]) -> Result<Statement> {
    let texts = ids.iter().filter_map(|id| std::str::from_utf8(id.as_bytes()).ok());
    Select::only(object, []).ids(texts).condition(condition).statement()
}

/// Whether Salesforce takes the condition at all, before anything is read by it.
pub async fn probe(client: &Client, object: &Arc<ObjectDescription>, condition: &str) -> Result<()> {
    let statement = Select::only(object, []).condition(condition).limit(1).statement()?;
    let mut pages = client.query(&statement, true);
    pages.next().await.map_err(|error| refused(object, error)).map(drop)
}

/// What an error of a query that holds the condition means.
pub fn refused(object: &ObjectDescription, error: Error) -> Error {
    match error.kind() {
        Kind::QueryRefused | Kind::FieldUnknown => {
            let what = format!("object {}: Salesforce refuses its `where`: {}", object.name, error.context());
            Error::new(Kind::ObjectMisconfigured, what)
        }
        _ => error,
    }
}

fn stamp(object: &ObjectDescription, row: Row<'_>) -> Option<Stamp> {
    object.cursor.and_then(|cursor| row.value(cursor.0)).and_then(Stamp::parse)
}
