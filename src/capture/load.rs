//! The full load of an object: pages in a fixed order, each of them whole.
//!
//! Comes in: where the load stands (`LoadPosition`). Goes out: pages of rows with the position that is true after
//! them. Bulk API by default; REST by Id keyset where Bulk refuses or the object is small, and in parts where Salesforce
//! answers no query over the whole. A page is checked against the number of rows that Salesforce announced before it is
//! handed over, so that a broken one is fetched again and nothing of it was published. The reader runs one page ahead;
//! memory does not grow with rows.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::AbortOnDropHandle;

use super::page_size::PageSize;
use crate::domain::{LoadPosition, ObjectDescription, Row, RowLayout, Rows, Stamp};
use crate::error::Kind;
use crate::salesforce::bulk::{self, Job, PageRequest, PageRows};
use crate::salesforce::{Client, Copying, Parents, Part, Purpose, Select, Statement};
use crate::{Error, Result};

/// Rows of a query by REST after it ran into Salesforce's time limit; fewer after each further time.
const FIRST_LIMIT: u32 = 50_000;
const FEWEST_ROWS: u32 = 200;
/// Parents whose ids are asked for at once: what a page of a query holds.
pub(super) const PARENTS_LISTED: u32 = 2_000;

/// Rows, and where the load stands when they are published.
#[derive(Debug)]
pub struct LoadPage {
    pub rows: Rows,
    pub position: LoadPosition,
    /// Server time of the reading.
    pub server_time: Stamp,
    /// The position is behind these rows. Else they come again after a restart, and must be known then.
    pub ends: bool,
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
        at_once: Option<usize>,
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
                None => read_rest(&client, &object, condition.as_deref(), position, &sender, at_once).await,
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
        let (position, server_time) = (position.clone(), client.server_time());
        let done = position.done;
        let page = LoadPage { rows, position, server_time, ends: true };
        if pages.send(Ok(page)).await.is_err() || done {
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
    position: LoadPosition,
    pages: &mpsc::Sender<Result<LoadPage>>,
    at_once: Option<usize>,
) -> Result<()> {
    let copying = Copying::of(&object.name);
    let parts = copying.parts();
    let mut reading = RestReading { client, object, condition, position, pages, parts, at_once };
    while let Some(part) = reading.parts.get(reading.position.part as usize) {
        let more = match &part.parents {
            Some(parents) => reading.by_parents(part, parents).await?,
            None => {
                let limit = if let Copying::RestByRows(rows) = copying { Some(rows) } else { None };
                reading.by_id(part, limit).await?
            }
        };
        if !more {
            return Ok(());
        }
    }
    Err(Error::new(Kind::Internal, "a full load stands behind its last part"))
}

/// A load by REST, part after part.
struct RestReading<'a> {
    client: &'a Client,
    object: &'a Arc<ObjectDescription>,
    condition: Option<&'a str>,
    position: LoadPosition,
    pages: &'a mpsc::Sender<Result<LoadPage>>,
    parts: &'static [Part],
    /// Rows of a page that is handed over; none: as they come.
    at_once: Option<usize>,
}

impl RestReading<'_> {
    /// Hands a page over, the last of its part if `ends`; false: nothing more is to be read.
    async fn hand_over(&mut self, rows: Rows, after: Option<String>, ends: bool) -> bool {
        let count = rows.len() as u64;
        let Some((rows, counted)) = self.hand_over_first(rows).await else { return false };
        let position = &mut self.position;
        position.rows += count - counted;
        position.after_id = after.or(position.after_id.take());
        position.done = ends && position.part as usize + 1 >= self.parts.len();
        if ends && !position.done {
            (position.part, position.after_id) = (position.part + 1, None);
        }
        let server_time = self.client.server_time();
        let page = LoadPage { rows, position: position.clone(), server_time, ends: true };
        self.pages.send(Ok(page)).await.is_ok() && !self.position.done
    }

    /// Hands over all but the last rows that go at once; those, and how many the position has counted so far. None: nothing
    /// more is to be read. Rows in the order of their ids move the position; of others only all together do.
    async fn hand_over_first(&mut self, mut rows: Rows) -> Option<(Rows, u64)> {
        let in_order = self.parts.get(self.position.part as usize).is_some_and(|part| part.parents.is_none());
        let mut counted = 0;
        while let Some(most) = self.at_once.filter(|most| rows.len() > *most) {
            let (first, rest) = rows.cut(most);
            if in_order {
                let last = first.last().and_then(|row| row.value(self.object.key));
                self.position.after_id = last.map(|id| String::from_utf8_lossy(id).into_owned());
                self.position.rows += first.len() as u64;
                counted += first.len() as u64;
            }
            let (position, server_time) = (self.position.clone(), self.client.server_time());
            let page = LoadPage { rows: first, position, server_time, ends: in_order };
            self.pages.send(Ok(page)).await.ok()?;
            rows = rest;
        }
        Some((rows, counted))
    }

    fn select(&self, part: &Part) -> (Select, bool) {
        let (select, include_deleted) = live_rows(self.object, self.condition);
        match part.condition {
            Some(condition) => (select.condition(condition), include_deleted),
            None => (select, include_deleted),
        }
    }

    /// All rows of a part, in the order of ids. `limit`: rows of a query; none: as many as there are. A query that runs
    /// into Salesforce's time limit is cut to fewer rows.
    async fn by_id(&mut self, part: &Part, mut limit: Option<u32>) -> Result<bool> {
        loop {
            let (select, include_deleted) = self.select(part);
            let mut select = select.order_by_id();
            if let Some(id) = &self.position.after_id {
                select = select.after_id(id);
            }
            if let Some(rows) = limit {
                select = select.limit(rows);
            }
            let mut query = self.client.query(&select.statement()?, include_deleted);
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
                let last = page.rows.last().and_then(|row| row.value(self.object.key));
                let last = last.map(|id| String::from_utf8_lossy(id).into_owned());
                rows_of_query += page.rows.len() as u64;
                let ends = page.done && limit.is_none_or(|limit| rows_of_query < u64::from(limit));
                let page_done = page.done;
                if !self.hand_over(page.rows, last, ends).await {
                    return Ok(false);
                }
                if ends {
                    return Ok(true);
                }
                if page_done {
                    break;
                }
            }
        }
    }

    /// All rows of a part by the ids of their parents. What belongs to one query's parents is one page, whole: a position
    /// names the last parent, and an order among the rows is not asked of Salesforce.
    async fn by_parents(&mut self, part: &Part, parents: &Parents) -> Result<bool> {
        if self.position.after_id.is_none() {
            self.bound_parents(parents).await?;
        }
        let mut at_once = parents.at_once as usize;
        loop {
            let listed = self.next_parents(parents).await?;
            let are_last = listed.len() < PARENTS_LISTED as usize;
            let mut left = listed.as_slice();
            if left.is_empty() {
                let none = Rows::new(RowLayout::complete(self.object.fields.len()));
                return Ok(self.hand_over(none, None, true).await);
            }
            while let Some((ids, rest)) = left.split_at_checked(at_once.min(left.len()))
                && let Some(last) = ids.last()
            {
                let (select, include_deleted) = self.select(part);
                let select = select.of_parents(parents.field, ids.iter().map(String::as_str));
                let rows = match self.whole(&select.statement()?, include_deleted).await {
                    Ok(rows) => rows,
                    // Nothing of it was handed over.
                    Err(error) if error.kind() == Kind::QueryLocatorGone => continue,
                    Err(error) if error.kind() == Kind::QueryTimeout && at_once > 1 => {
                        at_once = (at_once / 5).max(1);
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                let ends = are_last && rest.is_empty();
                if !self.hand_over(rows, Some(last.clone()), ends).await {
                    return Ok(false);
                }
                if ends {
                    return Ok(true);
                }
                left = rest;
            }
        }
    }

    /// Refuses what would cost more calls than it is worth.
    async fn bound_parents(&self, parents: &Parents) -> Result<()> {
        let Some(most) = parents.most else { return Ok(()) };
        let parent = parents.description();
        let count = self.client.count(&Select::all(&parent).count()?, true).await?;
        if count <= most {
            return Ok(());
        }
        let (object, of) = (&self.object.name, parents.object);
        let what = format!("object {object} takes a call for each {of}, and there are {count} of them");
        Err(Error::new(Kind::ObjectUnsupported, what))
    }

    /// Deleted and archived ones too: those that own nothing cost nothing.
    async fn next_parents(&self, parents: &Parents) -> Result<Vec<String>> {
        let parent = parents.description();
        let mut select = Select::all(&parent).order_by_id().limit(PARENTS_LISTED);
        if let Some(id) = &self.position.after_id {
            select = select.after_id(id);
        }
        let rows = self.whole(&select.statement()?, true).await?;
        let id = |row: Row<'_>| row.value(parent.key).map(|id| String::from_utf8_lossy(id).into_owned());
        Ok(rows.iter().filter_map(id).collect())
    }

    /// All pages of a query as one.
    async fn whole(&self, statement: &Statement, include_deleted: bool) -> Result<Rows> {
        let mut query = self.client.query(statement, include_deleted);
        let mut all: Option<Rows> = None;
        while let Some(page) = query.next().await? {
            match &mut all {
                None => all = Some(page.rows),
                Some(all) => {
                    for row in page.rows.iter() {
                        let cells = statement.fields.iter().map(|field| row.cell(*field).unwrap_or_default());
                        all.push(cells).map_err(|_| {
                            let object = &statement.object.name;
                            let what = format!("the rows of one query on {object} are larger than 4 GiB");
                            Error::new(Kind::RecordTooLarge, what)
                        })?;
                    }
                }
            }
        }
        all.ok_or_else(|| Error::new(Kind::Internal, "a query ended without a page"))
    }
}
