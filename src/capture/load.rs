//! The full load of an object: pages in a fixed order, each of them whole.
//!
//! Comes in: where the load stands (`LoadPosition`). Goes out: pages of rows with the position that is true after
//! them. Bulk API by default; REST by Id keyset where Bulk refuses or the object is small. A page is checked
//! against the number of rows that Salesforce announced before it is handed over, so that a broken one is fetched
//! again and nothing of it was published. The reader runs one page ahead; memory does not grow with rows.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::AbortOnDropHandle;

use super::page_size::PageSize;
use crate::domain::{LoadPosition, ObjectDescription, Rows, Stamp};
use crate::error::Kind;
use crate::salesforce::bulk::{self, Job, PageRequest, PageRows};
use crate::salesforce::{Client, Purpose, Select};
use crate::{Error, Result};

/// Rows of a query by REST after it ran into Salesforce's time limit; fewer after each further time.
const FIRST_LIMIT: u32 = 50_000;
const FEWEST_ROWS: u32 = 200;

/// Rows, and where the load stands when they are published.
#[derive(Debug)]
pub struct LoadPage {
    pub rows: Rows,
    pub position: LoadPosition,
    /// Server time of the reading.
    pub server_time: Stamp,
}

/// A running load. Dropping it ends its requests.
#[derive(Debug)]
pub struct LoadReader {
    pages: mpsc::Receiver<Result<LoadPage>>,
    _task: AbortOnDropHandle<()>,
}

impl LoadReader {
    /// Reads on from `position`, by its job if it names one, else by REST, as soon as `loads` lets it.
    pub fn start(
        client: Client,
        object: Arc<ObjectDescription>,
        position: LoadPosition,
        loads: Arc<Semaphore>,
        condition: Option<String>,
    ) -> Self {
        // One page waits while the next is read: more would only cost memory.
        let (sender, pages) = mpsc::channel(1);
        let client = client.for_purpose(Purpose::Load);
        let task = tokio::spawn(async move {
            // Never closed; were it, the load would only be unbounded.
            let _permit = loads.acquire().await;
            let sizes = PageSize::default();
            let result = match position.job.clone() {
                Some(job) => read_bulk(&client, Job::resume(job, &object), position, sizes, &sender).await,
                None => read_rest(&client, &object, condition.as_deref(), position, &sender).await,
            };
            if let Err(error) = result {
                // The receiver is gone only if nobody wants the load any more.
                let _ = sender.send(Err(error)).await;
            }
        });
        Self { pages, _task: AbortOnDropHandle::new(task) }
    }

    /// The next page; the last one's position says `done`. Safe to drop while waiting.
    pub async fn next(&mut self) -> Result<LoadPage> {
        self.pages.recv().await.unwrap_or_else(|| {
            Err(Error::new(Kind::Internal, "the reader of a full load ended without a last page"))
        })
    }
}

async fn read_bulk(
    client: &Client,
    job: Job,
    mut position: LoadPosition,
    mut sizes: PageSize,
    pages: &mpsc::Sender<Result<LoadPage>>,
) -> Result<()> {
    let announced = bulk::wait(client, &job).await?.rows;
    position.announced = announced;
    loop {
        let (rows, next_locator) = bulk_page(client, &job, position.locator.clone(), &mut sizes).await?;
        position.rows += rows.len() as u64;
        position.done = next_locator.is_none();
        position.locator = next_locator;
        if let (true, Some(announced)) = (position.done, announced)
            && announced != position.rows
        {
            let what = format!("{} rows arrived where the job announced {announced}", position.rows);
            return Err(Error::new(Kind::LoadIncomplete, what));
        }
        let page = LoadPage { rows, position: position.clone(), server_time: client.server_time() };
        if pages.send(Ok(page)).await.is_err() || position.done {
            return Ok(());
        }
    }
}

/// One page of a job, of as many rows as memory allows, and the locator of the next.
pub(super) async fn bulk_page(
    client: &Client,
    job: &Job,
    locator: Option<String>,
    sizes: &mut PageSize,
) -> Result<(Rows, Option<String>)> {
    loop {
        let request = PageRequest {
            locator: locator.clone(),
            max_records: sizes.rows(),
            max_bytes: sizes.byte_limit(),
        };
        let page = bulk::page(client, job, &request).await?;
        let next_locator = page.next_locator.clone();
        match page.finish().await? {
            PageRows::Complete(rows) => {
                sizes.seen(rows.len(), rows.byte_size());
                return Ok((rows, next_locator));
            }
            PageRows::TooLarge { .. } => sizes.too_large(),
        }
    }
}

/// All live rows that fit the condition, and whether queryAll must be asked for them: `query` hides archived ones.
pub(super) fn live_rows(object: &Arc<ObjectDescription>, condition: Option<&str>) -> (Select, bool) {
    let mut select = Select::all(object);
    if let Some(condition) = condition {
        select = select.condition(condition);
    }
    match object.is_deleted.and_then(|field| object.fields.get(field)) {
        Some(is_deleted) if object.field_index("IsArchived").is_some() => {
            (select.condition(&format!("{} = false", is_deleted.name)), true)
        }
        _ => (select, false),
    }
}

async fn read_rest(
    client: &Client,
    object: &Arc<ObjectDescription>,
    condition: Option<&str>,
    mut position: LoadPosition,
    pages: &mpsc::Sender<Result<LoadPage>>,
) -> Result<()> {
    // None: as many as there are. A query that runs into Salesforce's time limit is cut to fewer rows.
    let mut limit: Option<u32> = None;
    loop {
        let (select, include_deleted) = live_rows(object, condition);
        let mut select = select.order_by_id();
        if let Some(id) = &position.after_id {
            select = select.after_id(id);
        }
        if let Some(rows) = limit {
            select = select.limit(rows);
        }
        let mut query = client.query(&select.statement()?, include_deleted);
        let mut rows_of_query = 0;
        loop {
            let page = match query.next().await {
                Ok(Some(page)) => page,
                // A REST locator dies with its session: go on after the last complete row.
                Err(error) if error.kind() == Kind::QueryLocatorGone => break,
                Err(error) if error.kind() == Kind::QueryTimeout && limit != Some(FEWEST_ROWS) => {
                    limit = Some(limit.map_or(FIRST_LIMIT, |rows| (rows / 5).max(FEWEST_ROWS)));
                    break;
                }
                Ok(None) => {
                    return Err(Error::new(Kind::Internal, "a query ended without a last page"));
                }
                Err(error) => return Err(error),
            };
            if let Some(id) = page.rows.last().and_then(|row| row.value(object.key)) {
                position.after_id = Some(String::from_utf8_lossy(id).into_owned());
            }
            rows_of_query += page.rows.len() as u64;
            position.rows += page.rows.len() as u64;
            position.done = page.done && limit.is_none_or(|limit| rows_of_query < u64::from(limit));
            let page_done = page.done;
            let page =
                LoadPage { rows: page.rows, position: position.clone(), server_time: client.server_time() };
            if pages.send(Ok(page)).await.is_err() || position.done {
                return Ok(());
            }
            if page_done {
                break;
            }
        }
    }
}
