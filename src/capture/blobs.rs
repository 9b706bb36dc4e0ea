//! The bytes of binary fields of some records.
//!
//! Comes in: rows whose cells are the paths of blobs. Goes out: their bytes, whole records only, or why there are none. A
//! fetch that fails leaves what came before it, and is gone on with. Never: more bytes of a record than a Kafka record takes,
//! more than a few calls at once.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::{ObjectDescription, Row};
use crate::error::{Kind, Reaction};
use crate::salesforce::{Blob, Client, Purpose};
use crate::{Error, Result};

/// Calls at once; the budget's places are shared with everything else.
pub const FETCHES: usize = 4;

/// What came of a record.
#[derive(Debug)]
pub enum Fetched {
    Bytes(Vec<(usize, Bytes)>),
    /// It is kept elsewhere, with this reason.
    Refused(Error),
    /// The record is gone, or these fields of it are.
    Gone(Vec<usize>),
}

/// Bytes to be fetched, and those that were.
pub struct Fetcher {
    object: Arc<ObjectDescription>,
    wanted: Vec<Wanted>,
    /// By row.
    pub fetched: HashMap<u32, Fetched>,
    /// So that there is room for them.
    pub room: Option<OwnedSemaphorePermit>,
}

/// A record whose bytes are still to come.
struct Wanted {
    row: u32,
    id: String,
    /// With their paths.
    fields: Vec<(usize, String)>,
    /// Why there are none, so far.
    missing: Option<Error>,
    /// The record was there when it was looked for.
    is_there: bool,
}

enum Answer {
    Bytes(Vec<(usize, Bytes)>),
    Refused(Error),
    Missing(Error),
}

impl Fetcher {
    pub fn new(object: &Arc<ObjectDescription>) -> Self {
        Self { object: object.clone(), wanted: Vec::new(), fetched: HashMap::new(), room: None }
    }

    /// Fields of a row that lead to bytes.
    pub fn fields(object: &ObjectDescription, row: Row<'_>, carries: impl Fn(usize) -> bool) -> Vec<usize> {
        object.blobs().filter(|field| carries(*field) && row.value(*field).is_some()).collect()
    }

    pub fn want(&mut self, row: Row<'_>, fields: &[usize]) {
        let text = |field: usize| {
            row.value(field).map(|cell| String::from_utf8_lossy(cell).into_owned()).unwrap_or_default()
        };
        let fields: Vec<(usize, String)> = fields.iter().map(|field| (*field, text(*field))).collect();
        let index = u32::try_from(row.index()).unwrap_or(u32::MAX);
        if !fields.is_empty() && !self.fetched.contains_key(&index) {
            let id = text(self.object.key);
            self.wanted.push(Wanted { row: index, id, fields, missing: None, is_there: false });
        }
    }

    pub fn is_done(&self) -> bool {
        self.wanted.is_empty()
    }

    /// Fetches all that is wanted, once there is room. What is missing is looked for by the ids of its records, and asked for
    /// once more.
    pub async fn run(&mut self, client: &Client, most: usize, rooms: &Arc<Semaphore>) -> Result<()> {
        if self.wanted.is_empty() {
            return Ok(());
        }
        if self.room.is_none() {
            let room = rooms.clone().acquire_owned().await;
            self.room = Some(room.map_err(|_| Error::new(Kind::Internal, "no bytes are let in"))?);
        }
        loop {
            self.fetch_all(client, most).await?;
            if self.wanted.is_empty() {
                return Ok(());
            }
            let there = self.still_there(client).await?;
            for mut wanted in std::mem::take(&mut self.wanted) {
                if !there.as_ref().is_none_or(|there| there.contains(&wanted.id)) {
                    let fields = wanted.fields.iter().map(|(field, _)| *field).collect();
                    self.fetched.insert(wanted.row, Fetched::Gone(fields));
                    continue;
                }
                match wanted.missing.take() {
                    Some(error) if wanted.is_there => {
                        self.fetched.insert(wanted.row, Fetched::Refused(error));
                    }
                    _ => self.wanted.push(Wanted { is_there: true, ..wanted }),
                }
            }
        }
    }

    /// Asks for all that is wanted, once; what stays was not there.
    async fn fetch_all(&mut self, client: &Client, most: usize) -> Result<()> {
        let object = &self.object;
        let mut asked = Vec::with_capacity(self.wanted.len());
        for (place, wanted) in self.wanted.iter().enumerate() {
            asked.push(async move { (place, wanted.fetch(client, object, most).await) });
        }
        let mut answers = futures_util::stream::iter(asked).buffer_unordered(FETCHES);
        let mut came: HashMap<usize, Answer> = HashMap::new();
        let mut failed = None;
        while let Some((place, answer)) = answers.next().await {
            match answer {
                Ok(answer) => drop(came.insert(place, answer)),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        drop(answers);
        for (place, wanted) in std::mem::take(&mut self.wanted).into_iter().enumerate() {
            match came.remove(&place) {
                None => self.wanted.push(wanted),
                Some(Answer::Missing(error)) => {
                    self.wanted.push(Wanted { missing: Some(error), ..wanted });
                }
                Some(Answer::Refused(error)) => {
                    self.fetched.insert(wanted.row, Fetched::Refused(error));
                }
                Some(Answer::Bytes(bytes)) => {
                    self.fetched.insert(wanted.row, Fetched::Bytes(bytes));
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Ids of records that are there and have something in the fields that are wanted; none: nobody can tell.
    async fn still_there(&self, client: &Client) -> Result<Option<Vec<String>>> {
        let object = &self.object;
        let ids: Vec<&str> = self.wanted.iter().map(|wanted| wanted.id.as_str()).collect();
        let fields: Vec<usize> = object.blobs().chain([object.key]).collect();
        let client = client.for_purpose(Purpose::Refetch);
        let rows = match client.retrieve(object, &ids, &fields).await {
            Ok(rows) => rows,
            // The fields themselves are gone: there is nothing to wait for.
            Err(error) if error.reaction() == Reaction::DescribeAgain => return Ok(Some(Vec::new())),
            // Not every object can be read by id.
            Err(error) if error.reaction() == Reaction::StopObject => return Ok(None),
            Err(error) => return Err(error),
        };
        let has_bytes = |wanted: &&Wanted| {
            rows.iter().any(|row| {
                row.value(object.key) == Some(wanted.id.as_bytes())
                    && wanted.fields.iter().all(|(field, _)| row.value(*field).is_some())
            })
        };
        Ok(Some(self.wanted.iter().filter(has_bytes).map(|wanted| wanted.id.clone()).collect()))
    }
}

impl Wanted {
    /// All bytes of the record, one after another: together they are no more than a record takes.
    async fn fetch(&self, client: &Client, object: &ObjectDescription, most: usize) -> Result<Answer> {
        let mut all = Vec::with_capacity(self.fields.len());
        let mut left = most;
        for (field, path) in &self.fields {
            let name = object.fields.get(*field).map_or("", |field| field.name.as_str());
            let what = format!("object {}: field {name}", object.name);
            match client.blob(path, left, &what).await {
                Ok(Blob::Bytes(bytes)) => {
                    left = left.saturating_sub(bytes.len());
                    all.push((*field, bytes));
                }
                Ok(Blob::TooLarge) => {
                    let error =
                        Error::new(Kind::RecordTooLarge, format!("more than the {most} bytes of a record"));
                    return Ok(Answer::Refused(error.during(what)));
                }
                Err(error) => match error.kind() {
                    Kind::BlobMissing | Kind::FieldUnknown => return Ok(Answer::Missing(error)),
                    Kind::ValueUnfit => return Ok(Answer::Refused(error)),
                    _ => return Err(error),
                },
            }
        }
        Ok(Answer::Bytes(all))
    }
}
