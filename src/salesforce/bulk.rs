//! Bulk API 2.0 query jobs: create, wait, fetch pages, tidy up.
//!
//! Comes in: statements. Goes out: pages of rows. A job and its locators outlive sessions and restarts (7 days), so
//! (job, locator) is a position. A page is handed out whole or not at all: as many rows as announced, the last row
//! ended. The next locator is known with a page's headers, so that pages can be fetched side by side.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use crate::domain::{ObjectDescription, Rows};
use crate::error::{Error, Kind, Result};

use super::csv::CsvPage;
use super::fault::{Area, Cure, Fault, clean};
use super::transport::{Backoff, Call, Opened, next_piece};
use super::{Client, Pace, Statement};

/// A query job; `id` is all that must be kept to go on with it after a restart (within 7 days).
#[derive(Clone, Debug)]
pub struct Job {
    pub id: String,
    pub object: Arc<ObjectDescription>,
    /// The order of columns in pages that lack a header.
    columns: Vec<usize>,
}

impl Job {
    /// A job made earlier. `object` must be the description its statement was made from, or a later one.
    pub fn resume(id: impl Into<String>, object: &Arc<ObjectDescription>) -> Self {
        Self { id: id.into(), object: Arc::clone(object), columns: (0..object.fields.len()).collect() }
    }

    fn what(&self, doing: &str) -> String {
        format!("{doing} bulk job {} on {}", self.id, self.object.name)
    }

    fn path(&self, client: &Client, rest: &str) -> String {
        client.data_path(&format!("/jobs/query/{}{rest}", self.id))
    }
}

/// A job that is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completed {
    /// Rows of the whole result, if the server says.
    pub rows: Option<u64>,
}

/// What to fetch of a job's result. The same locator gives the same set of rows as long as the job exists.
#[derive(Clone, Debug)]
pub struct PageRequest {
    /// None: the first page.
    pub locator: Option<String>,
    pub max_records: u32,
    /// A page with more bytes of CSV than this is not held: ask again with fewer records.
    pub max_bytes: usize,
}

#[derive(Debug)]
pub enum PageRows {
    /// As many rows as announced.
    Complete(Rows),
    /// The page outgrew `max_bytes`; nothing of it is kept.
    TooLarge { rows: u64, bytes: usize },
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct JobAnswer {
    id: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    number_records_processed: Option<u64>,
    #[serde(default)]
    error_message: Option<String>,
    #[serde(default)]
    system_modstamp: Option<String>,
    #[serde(default)]
    retries: Option<u64>,
}

fn read_job(body: &[u8]) -> Result<JobAnswer, Fault> {
    serde_json::from_slice(body).map_err(|error| Fault::json(&error))
}

/// Creates a job. If it is not known whether a request made one, another is made and the first left to expire.
/// `bulk-refused`: read the object by REST.
pub async fn create(client: &Client, statement: &Statement, include_deleted: bool) -> Result<Job> {
    let body = json!({
        "operation": if include_deleted { "queryAll" } else { "query" },
        "query": statement.text,
        "contentType": "CSV",
        "columnDelimiter": "COMMA",
        "lineEnding": "LF",
    });
    let what = format!("creating a bulk job on {}", statement.object.name);
    let call = Call::send(Method::POST, Area::BulkCreate, what, client.data_path("/jobs/query"), &body);
    let answer = client.fetch(&call, |reply| read_job(&reply.body)).await?;
    if answer.id.is_empty() || !answer.id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(Error::new(Kind::ReplyUnreadable, "the job has no readable id").during(&call.what));
    }
    Ok(Job { id: answer.id, object: Arc::clone(&statement.object), columns: statement.fields.to_vec() })
}

/// Waits until the job is complete. `bulk-job-failed` with Salesforce's reason, `bulk-job-gone` if there is none.
/// Each look is a call: the pauses grow with the age of the wait.
pub async fn wait(client: &Client, job: &Job) -> Result<Completed> {
    let pace = client.pace();
    let call = Call::get(Area::BulkJob, job.what("waiting for"), job.path(client, ""));
    let mut pause = pace.job_first_look;
    let mut progress = (Instant::now(), None);
    loop {
        let answer = client.fetch(&call, |reply| read_job(&reply.body)).await?;
        match answer.state.as_str() {
            "JobComplete" => return Ok(Completed { rows: answer.number_records_processed }),
            "Failed" => {
                let reason =
                    answer.error_message.map_or_else(|| "no reason given".to_owned(), |text| clean(&text));
                return Err(
                    Error::new(Kind::BulkJobFailed, format!("the job failed: {reason}")).during(&call.what)
                );
            }
            "Aborted" => {
                return Err(Error::new(Kind::BulkJobFailed, "somebody aborted the job").during(&call.what));
            }
            _ => {}
        }
        let seen =
            Some((answer.state, answer.number_records_processed, answer.retries, answer.system_modstamp));
        if progress.1 != seen {
            progress = (Instant::now(), seen);
        } else if progress.0.elapsed() >= pace.job_stall {
            let hours = pace.job_stall.as_secs() as f64 / 3_600.0;
            return Err(Error::new(
                Kind::BulkJobFailed,
                format!("the job made no progress for {hours:.1} hours"),
            )
            .during(&call.what));
        }
        tokio::time::sleep(pause).await;
        pause = longer(pause, pace);
    }
}

/// The pause after this one, between two looks at a job.
fn longer(pause: Duration, pace: &Pace) -> Duration {
    (pause * 3 / 2).min(pace.job_longest_look.max(pace.job_first_look))
}

/// How often [`wait`] looks at a job that takes so long, for forecasts.
pub fn looks(pace: &Pace, takes: Duration) -> u64 {
    let (mut at, mut pause, mut looks) = (Duration::ZERO, pace.job_first_look, 1);
    while at < takes && !pause.is_zero() {
        at += pause;
        pause = longer(pause, pace);
        looks += 1;
    }
    looks
}

/// A page whose headers have arrived: `next_locator` is known before the body is.
#[derive(Debug)]
pub struct PageStream {
    /// None: this is the last page.
    pub next_locator: Option<String>,
    /// Rows in this page, if the server says.
    pub announced: Option<u64>,
    client: Client,
    job: Job,
    request: PageRequest,
    opened: Opened,
}

/// Asks for a page. What is left unread of a page costs nothing but its connection.
pub async fn page(client: &Client, job: &Job, request: &PageRequest) -> Result<PageStream> {
    let call = page_call(client, job, request);
    let mut backoff = Backoff::new(client.pace());
    let opened = loop {
        let not_ready = match client.open(&call).await {
            Ok(opened) if opened.status != StatusCode::NO_CONTENT => break opened,
            Ok(opened) => {
                if wait(client, job).await?.rows == Some(0) {
                    break opened;
                }
                Error::new(Kind::BulkJobFailed, "the job has no result yet").during(&call.what)
            }
            // Both are known as answers to who comes too early: the job's state decides.
            Err(error) if error.kind() == Kind::QueryRefused => {
                wait(client, job).await?;
                Error::new(Kind::BulkJobFailed, error.context())
            }
            Err(error) => return Err(error),
        };
        let Some(pause) = backoff.next(None) else { return Err(not_ready) };
        tracing::warn!(what = call.what, pause_ms = pause.as_millis(), "the job's result is not there yet");
        tokio::time::sleep(pause).await;
    };
    let next_locator = next_locator(&opened.headers);
    if next_locator.is_some() && next_locator == request.locator {
        return Err(
            Error::new(Kind::ReplyUnreadable, "a page names itself as the next one").during(&call.what)
        );
    }
    if opened.headers.get("sforce-locator").is_none() {
        tracing::warn!(
            what = call.what,
            "a page came without Sforce-Locator: taken as the last one, its rows are counted at the end"
        );
    }
    Ok(PageStream {
        next_locator,
        announced: announced(&opened.headers),
        client: client.clone(),
        job: job.clone(),
        request: request.clone(),
        opened,
    })
}

fn page_call(client: &Client, job: &Job, request: &PageRequest) -> Call {
    let mut path = job.path(client, &format!("/results?maxRecords={}", request.max_records));
    if let Some(locator) = &request.locator {
        path.push_str("&locator=");
        path.extend(url::form_urlencoded::byte_serialize(locator.as_bytes()));
    }
    let mut call = Call::get(Area::BulkJob, job.what("fetching a page of"), path);
    call.accept = "text/csv";
    call
}

fn text_header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(HeaderValue::to_str)?.ok().map(str::trim)
}

/// The end is the word `null`; an empty or missing header is taken for it too.
fn next_locator(headers: &HeaderMap) -> Option<String> {
    text_header(headers, "sforce-locator")
        .filter(|locator| !locator.is_empty() && !locator.eq_ignore_ascii_case("null"))
        .map(str::to_owned)
}

fn announced(headers: &HeaderMap) -> Option<u64> {
    text_header(headers, "sforce-numberofrecords")?.parse().ok()
}

impl PageStream {
    /// Reads the body. A body that breaks is fetched again, a few times; after that, and when the rows are not as
    /// many as announced, it is `reply-truncated` and no row is handed out.
    pub async fn finish(self) -> Result<PageRows> {
        let Self { next_locator: next, announced: expected, client, job, request, mut opened } = self;
        let call = page_call(&client, &job, &request);
        let mut backoff = Backoff::new(client.pace());
        loop {
            let fault = match read_page(&client, &job, &request, opened, expected).await {
                Ok(rows) => return Ok(rows),
                Err(fault) => fault,
            };
            let pause = match fault.cure {
                Cure::Again => backoff.next(None),
                _ => None,
            };
            let Some(pause) = pause else { return Err(backoff.gave_up(fault).into_error(&call.what)) };
            tracing::warn!(
                what = call.what,
                code = fault.kind.code(),
                error = fault.message,
                again_in = ?pause,
                hint = fault.advice(),
                "fetching the page again"
            );
            tokio::time::sleep(pause).await;
            opened = client.open(&call).await?;
            if next_locator(&opened.headers) != next || announced(&opened.headers) != expected {
                // The caller already went on from the first headers: these rows would not fit in between.
                let what = "fetched again, the page announces another number of rows or another next page";
                return Err(Error::new(Kind::ReplyTruncated, what).during(&call.what));
            }
        }
    }
}

async fn read_page(
    client: &Client,
    job: &Job,
    request: &PageRequest,
    mut opened: Opened,
    announced: Option<u64>,
) -> Result<PageRows, Fault> {
    // Only a later page may lack its header, if any may.
    let without_header = request.locator.is_some().then(|| job.columns.clone());
    let mut page = CsvPage::new(&job.object, without_header);
    let idle: Duration = client.pace().idle_timeout;
    while let Some(piece) = next_piece(&mut opened.body, idle).await? {
        page.feed(&piece)?;
        if page.bytes() > request.max_bytes {
            return Ok(PageRows::TooLarge { rows: page.row_count() as u64, bytes: page.bytes() });
        }
    }
    let rows = page.finish()?;
    match announced {
        Some(announced) if announced != rows.len() as u64 => {
            Err(Fault::truncated(format!("the page has {} rows, {announced} were announced", rows.len())))
        }
        _ => Ok(PageRows::Complete(rows)),
    }
}

/// Stops a job that still runs; one that is gone or finished is fine.
pub async fn abort(client: &Client, job: &Job) -> Result<()> {
    let call = Call::send(
        Method::PATCH,
        Area::BulkJob,
        job.what("aborting"),
        job.path(client, ""),
        &json!({"state": "Aborted"}),
    );
    fine_if_over(client.fetch(&call, |_| Ok(())).await)
}

/// Deletes a finished job and its result; one that is gone is fine. Only after the last page is committed.
pub async fn delete(client: &Client, job: &Job) -> Result<()> {
    let mut call = Call::get(Area::BulkJob, job.what("deleting"), job.path(client, ""));
    call.method = Method::DELETE;
    fine_if_over(client.fetch(&call, |_| Ok(())).await)
}

fn fine_if_over(result: Result<()>) -> Result<()> {
    match result {
        // 400: a job in a state that cannot be left.
        Err(error) if matches!(error.kind(), Kind::BulkJobGone | Kind::QueryRefused) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_looked_at_less_often_the_longer_it_takes() {
        let pace = Pace::default();
        let looks = |seconds| looks(&pace, Duration::from_secs(seconds));
        assert_eq!((looks(0), looks(5), looks(60)), (1, 8, 14));
        assert_eq!(looks(3_600) - looks(3_400), 10, "every 20 s in the end");
    }

    #[test]
    fn a_recorded_job_reads_without_the_keys_it_may_lack() {
        let job = read_job(include_bytes!("../../tests/data/salesforce/query-job-created.json")).unwrap();
        assert_eq!((job.id.as_str(), job.state.as_str()), ("750ak000009AVi5AAG", "UploadComplete"));
        assert_eq!(job.number_records_processed, None);
    }

    #[test]
    fn the_end_of_a_result_is_known_in_all_its_spellings() {
        let locator = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("sforce-locator", HeaderValue::from_static(value));
            next_locator(&headers)
        };
        assert_eq!((locator("null"), locator(""), next_locator(&HeaderMap::new())), (None, None, None));
        assert_eq!(locator("MTAwMDA").as_deref(), Some("MTAwMDA"));
    }
}
