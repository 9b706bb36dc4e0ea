//! Following an object by polling: one query a window over live and deleted rows, in order of the cursor field.
//!
//! Comes in: windows. Goes out: pages of rows, each with the moment up to which the window is read after it. Small
//! pieces are read by REST in order, so that the cursor moves page by page; large ones by a Bulk job, unordered, so
//! that it moves only at the end. It never uses OFFSET, and never two queries for live and deleted rows.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::{ObjectDescription, Rows, Stamp};
use crate::error::Kind;
use crate::salesforce::{Client, QueryPages, Select, bulk};
use crate::{Error, Result};

use super::load::bulk_page;
use super::page_size::PageSize;
use super::window::Window;

/// How many times as many rows as `bulk_from` one job may hold: the whole of it has to stand in the ledger.
const MOST_BULK_SHARE: u64 = 5;

/// From one poll to the next of an object that has been quiet for so long: it may wait a tenth of its quiet.
pub fn pause_after(interval: Duration, longest: Duration, quiet: Duration) -> Duration {
    (quiet / 10).clamp(interval, longest.max(interval))
}

#[derive(Debug)]
pub struct PollPage {
    pub rows: Rows,
    /// Everything below this is read: the cursor may move here once the page is published.
    pub read_to: Option<Stamp>,
    /// The window ends with this page.
    pub last: bool,
}

pub struct WindowReader {
    client: Client,
    object: Arc<ObjectDescription>,
    window: Window,
    bulk_from: u64,
    /// The first page is asked for together with those of other objects.
    in_company: bool,
    piece: Piece,
}

enum Piece {
    Unread,
    Rest { pages: Box<QueryPages>, last: Option<(Stamp, String)> },
    Bulk { job: bulk::Job, locator: Option<String>, sizes: PageSize, rows: u64, announced: Option<u64> },
}

impl WindowReader {
    pub fn new(client: Client, object: Arc<ObjectDescription>, window: Window, bulk_from: u64) -> Self {
        Self { client, object, window, bulk_from, in_company: false, piece: Piece::Unread }
    }

    /// For a window that is likely to hold one page.
    pub fn in_company(self, in_company: bool) -> Self {
        Self { in_company, ..self }
    }

    pub fn window(&self) -> &Window {
        &self.window
    }

    /// The next page. After an error the reader may be dropped and the window opened again, or `retry` called.
    pub async fn next(&mut self) -> Result<PollPage> {
        loop {
            match &mut self.piece {
                Piece::Unread => {
                    let statement = self.select().order_by_cursor().statement()?;
                    let pages = match std::mem::take(&mut self.in_company) {
                        true => self.client.query_in_company(&statement, true),
                        false => self.client.query(&statement, true),
                    };
                    self.piece = Piece::Rest { pages: Box::new(pages), last: None };
                }
                Piece::Rest { pages, last } => {
                    let page = match pages.next().await {
                        Ok(Some(page)) => page,
                        Ok(None) => {
                            return Err(Error::new(Kind::Internal, "a query ended without a last page"));
                        }
                        Err(error) if error.kind() == Kind::QueryLocatorGone => {
                            // The locator died with its session: go on behind the last row, within its second.
                            let last = last.clone();
                            let select = match &last {
                                Some((stamp, id)) => self.select().after(*stamp, id),
                                None => self.select(),
                            };
                            let pages =
                                Box::new(self.client.query(&select.order_by_cursor().statement()?, true));
                            self.piece = Piece::Rest { pages, last };
                            continue;
                        }
                        Err(error) if error.kind() == Kind::QueryTimeout => {
                            if let Some((stamp, _)) = last {
                                // What was handed over may be forgotten already: not to be read again.
                                self.window.read_to(Stamp(stamp.0 - 1));
                            }
                            if !self.window.narrow(2) {
                                return Err(error);
                            }
                            self.piece = Piece::Unread;
                            continue;
                        }
                        Err(error) => return Err(error),
                    };
                    let first = last.is_none();
                    if first && page.total_size > self.bulk_from && self.object.bulk {
                        if page.total_size > self.bulk_from.saturating_mul(MOST_BULK_SHARE) {
                            let parts = page.total_size / self.bulk_from.saturating_mul(MOST_BULK_SHARE) + 1;
                            if self.window.narrow(u32::try_from(parts).unwrap_or(u32::MAX)) {
                                self.piece = Piece::Unread;
                                continue;
                            }
                        }
                        if self.start_bulk().await? {
                            continue;
                        }
                        // Bulk refuses the object after all: read on by REST.
                        let Piece::Rest { last, .. } = &mut self.piece else { continue };
                        remember_last(&self.object, &page.rows, last)?;
                        return Ok(self.rest_page(page.rows, page.done));
                    }
                    remember_last(&self.object, &page.rows, last)?;
                    return Ok(self.rest_page(page.rows, page.done));
                }
                Piece::Bulk { job, locator, sizes, rows: received, announced } => {
                    let (rows, next_locator) = bulk_page(&self.client, job, locator.clone(), sizes).await?;
                    *locator = next_locator;
                    *received += rows.len() as u64;
                    let done = locator.is_none();
                    if let (true, Some(announced)) = (done, *announced)
                        && announced != *received
                    {
                        let what = format!("{received} rows arrived where the job announced {announced}");
                        return Err(Error::new(Kind::BulkJobFailed, what));
                    }
                    if done {
                        // What is left of a job is removed by Salesforce after a week; a failure here costs nothing.
                        let _ = bulk::delete(&self.client, job).await;
                    }
                    return Ok(self.page(rows, None, done));
                }
            }
        }
    }

    /// The piece in hand, in no order.
    fn select(&self) -> Select {
        let (low, high) = self.window.bounds();
        Select::all(&self.object).window(Some(low), high)
    }

    async fn start_bulk(&mut self) -> Result<bool> {
        let job = match bulk::create(&self.client, &self.select().statement()?, true).await {
            Ok(job) => job,
            Err(error) if error.kind() == Kind::BulkRefused => return Ok(false),
            Err(error) => return Err(error),
        };
        let announced = bulk::wait(&self.client, &job).await?.rows;
        self.piece = Piece::Bulk { job, locator: None, sizes: PageSize::default(), rows: 0, announced };
        Ok(true)
    }

    fn rest_page(&mut self, rows: Rows, done: bool) -> PollPage {
        let read_to = match &self.piece {
            // More rows of the last one's second may follow on the next page.
            Piece::Rest { last: Some((stamp, _)), .. } => Some(Stamp(stamp.0 - 1).min(self.window.to())),
            _ => None,
        };
        self.page(rows, read_to, done)
    }

    fn page(&mut self, rows: Rows, read_to: Option<Stamp>, piece_done: bool) -> PollPage {
        if !piece_done {
            return PollPage { rows, read_to, last: false };
        }
        let read_to = Some(self.window.piece().1);
        self.piece = Piece::Unread;
        let more = self.window.advance();
        PollPage { rows, read_to, last: !more }
    }
}

fn remember_last(object: &ObjectDescription, rows: &Rows, last: &mut Option<(Stamp, String)>) -> Result<()> {
    let Some(row) = rows.last() else { return Ok(()) };
    let stamp = object.cursor.and_then(|cursor| row.value(cursor.0)).and_then(Stamp::parse);
    let id = row.value(object.key).and_then(|id| std::str::from_utf8(id).ok());
    match (stamp, id) {
        (Some(stamp), Some(id)) => {
            *last = Some((stamp, id.to_owned()));
            Ok(())
        }
        _ => Err(Error::new(
            Kind::ReplyUnreadable,
            format!("object {}: a polled row came without id or cursor field", object.name),
        )),
    }
}
