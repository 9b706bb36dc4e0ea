//! Bulk API 2.0 query jobs (rest.md section 4): states over time, pages by locator, CSV.
//!
//! A job's rows are those of the moment it was created. A locator names the row behind which its page begins; it gives
//! the same rows as long as the job is there, in an order that means nothing unless the query has one.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Method, StatusCode};
use serde_json::{Value as Json, json};

use super::fault::{Change, Fate};
use super::reply::{self, Answer, Content};
use super::{Call, Reply, Server, lock, streamed};
use crate::org::calendar::rest_datetime;
use crate::org::{Id, Row, ScanKey, Snapshot};
use crate::soql::SoqlError;
use crate::soql::parse::parse;
use crate::soql::plan::{Column, Door, Output, Plan, invalid_type, plan};
use crate::soql::run::{Matching, total, value_at};

pub(crate) struct Job {
    id: String,
    operation: String,
    delimiter: (&'static str, u8),
    crlf: bool,
    version: String,
    created_ms: i64,
    created: Instant,
    delay: Duration,
    plan: Arc<Plan>,
    snapshot: Snapshot,
    fate: Option<(Fate, Option<String>)>,
    aborted: bool,
    /// Counted when it is complete.
    rows: Option<u64>,
    /// All rows of a sorted or limited query.
    sorted: Option<Arc<Vec<Row>>>,
    fetches: u64,
}

const JOB_LIFE_MS: i64 = 7 * 86_400_000;

const DELIMITERS: [(&str, u8); 6] = [
    ("COMMA", b','),
    ("TAB", b'\t'),
    ("SEMICOLON", b';'),
    ("PIPE", b'|'),
    ("CARET", b'^'),
    ("BACKQUOTE", b'`'),
];

impl Job {
    fn state(&self) -> &'static str {
        if self.aborted {
            return "Aborted";
        }
        let age = self.created.elapsed();
        if age < self.delay {
            return "UploadComplete";
        }
        if age < self.delay * 2 {
            return "InProgress";
        }
        match &self.fate {
            Some((Fate::Fail, _)) => "Failed",
            Some((Fate::Abort, _)) => "Aborted",
            Some((Fate::Stuck, _)) => "InProgress",
            Some((Fate::Gone, _)) | None => "JobComplete",
        }
    }

    /// Jobs and their results go after seven days (rest.md 4.5).
    fn is_gone(&self, now_ms: i64) -> bool {
        now_ms - self.created_ms > JOB_LIFE_MS
            || matches!(&self.fate, Some((Fate::Gone, _))) && self.created.elapsed() >= self.delay * 2
    }

    fn json(&self, server: &Server, full: bool) -> Json {
        let state = self.state();
        let mut job = json!({
            "id": self.id,
            "operation": self.operation,
            "object": self.plan.object.name,
            "createdById": server.org.user_id().as_str(),
            "createdDate": rest_datetime(self.created_ms),
            "systemModstamp": rest_datetime(self.created_ms),
            "state": state,
            "concurrencyMode": "Parallel",
            "contentType": "CSV",
            "apiVersion": number(&self.version),
            "lineEnding": if self.crlf { "CRLF" } else { "LF" },
            "columnDelimiter": self.delimiter.0,
        });
        if let (true, Some(object)) = (full, job.as_object_mut()) {
            object.insert("jobType".to_owned(), "V2Query".into());
            object.insert("retries".to_owned(), 0.into());
            object.insert("totalProcessingTime".to_owned(), json!(self.delay.as_millis() as u64));
            object.insert("numberRecordsProcessed".to_owned(), self.rows.unwrap_or(0).into());
            object.insert("isPkChunkingSupported".to_owned(), true.into());
            if let (Some((Fate::Fail, Some(message))), "Failed") = (&self.fate, state) {
                object.insert("errorMessage".to_owned(), message.clone().into());
            }
        }
        job
    }

    /// Counts the rows once the job is done.
    fn finish(&mut self) -> Result<u64, SoqlError> {
        if let Some(rows) = self.rows {
            return Ok(rows);
        }
        let rows = total(&self.plan, &self.snapshot)?;
        if !self.plan.sort.is_empty() {
            self.sorted = Some(Arc::new(Matching::new(&self.plan, &self.snapshot, None)?.collect()));
        }
        self.rows = Some(rows);
        Ok(rows)
    }
}

fn number(version: &str) -> f64 {
    version.parse().unwrap_or(66.0)
}

pub(crate) async fn answer(
    server: &Arc<Server>,
    call: &Call,
    version: &str,
    path: &[&str],
    change: Option<&Change>,
) -> Reply {
    // Query jobs came with 47.0 (rest.md 4.1).
    if number(version) < 47.0 {
        return reply::not_found();
    }
    match (call.method.as_str(), path) {
        ("POST", []) => {
            create(server, call, version, change).unwrap_or_else(|error| reply::soql_error(&error))
        }
        ("GET", []) => {
            let jobs: Vec<Arc<Mutex<Job>>> = lock(&server.jobs).values().cloned().collect();
            let records: Vec<Json> = jobs.iter().map(|job| lock(job).json(server, true)).collect();
            Answer::json(&json!({"done": true, "records": records, "nextRecordsUrl": null}))
        }
        (_, [id, rest @ ..]) => {
            let job = lock(&server.jobs).get(*id).cloned();
            let Some(job) = job.filter(|job| !lock(job).is_gone(server.org.now_ms())) else {
                return reply::not_found();
            };
            let (server, call_method, rest) = (
                server.clone(),
                call.method.clone(),
                rest.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>(),
            );
            let parameters = Parameters {
                locator: call.parameter("locator").filter(|text| !text.is_empty()).map(str::to_owned),
                max_records: call.parameter("maxRecords").and_then(|most| most.parse().ok()),
                version: version.to_owned(),
                body: call.body.to_vec(),
            };
            // Counting and sorting may take a while.
            tokio::task::spawn_blocking(move || on_job(&server, &job, &call_method, &rest, &parameters))
                .await
                .unwrap_or_else(|_| {
                    reply::error(
                        StatusCode::INTERNAL_SERVER_ERROR,
                        "UNKNOWN_EXCEPTION",
                        "An unexpected error occurred.",
                    )
                })
        }
        _ => reply::method_not_allowed(),
    }
}

struct Parameters {
    locator: Option<String>,
    max_records: Option<u64>,
    version: String,
    body: Vec<u8>,
}

fn on_job(
    server: &Server,
    job: &Arc<Mutex<Job>>,
    method: &Method,
    rest: &[String],
    parameters: &Parameters,
) -> Reply {
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    server.asked_about(&lock(job).plan.object.name);
    match (method.as_str(), rest.as_slice()) {
        ("GET", []) => {
            let mut job = lock(job);
            if job.state() == "JobComplete"
                && let Err(error) = job.finish()
            {
                return reply::soql_error(&error);
            }
            Answer::json(&job.json(server, true))
        }
        ("PATCH", []) => {
            let wanted: Json = serde_json::from_slice(&parameters.body).unwrap_or_default();
            if wanted.get("state").and_then(Json::as_str) != Some("Aborted") {
                return reply::error(
                    StatusCode::BAD_REQUEST,
                    "INVALIDJOBSTATE",
                    "Job state can only be set to Aborted",
                );
            }
            let mut job = lock(job);
            job.aborted |= matches!(job.state(), "UploadComplete" | "InProgress");
            Answer::json(&job.json(server, false))
        }
        ("DELETE", []) => {
            let (state, id) = {
                let job = lock(job);
                (job.state(), job.id.clone())
            };
            if !matches!(state, "JobComplete" | "Aborted" | "Failed") {
                return reply::error(
                    StatusCode::BAD_REQUEST,
                    "API_ERROR",
                    "Error encountered when deleting the job because the job is not terminated",
                );
            }
            lock(&server.jobs).remove(&id);
            Answer::empty(StatusCode::NO_CONTENT)
        }
        ("GET", ["results"]) => results(server, job, parameters),
        ("GET", [pages]) if pages.eq_ignore_ascii_case("resultPages") => {
            result_pages(server, job, parameters)
        }
        _ => reply::not_found(),
    }
}

fn create(server: &Server, call: &Call, version: &str, change: Option<&Change>) -> Result<Reply, SoqlError> {
    let wanted: Json = serde_json::from_slice(&call.body).map_err(|_| {
        SoqlError::new(
            "JSON_PARSER_ERROR",
            "The HTTP entity body is required, but this request has no entity body.",
        )
    })?;
    let text = |name: &str| wanted.get(name).and_then(Json::as_str);
    let operation = text("operation").unwrap_or_default().to_owned();
    if !matches!(operation.as_str(), "query" | "queryAll") {
        return Err(SoqlError::new("INVALIDJOB", format!("Unsupported operation: {operation}")));
    }
    let delimiter = text("columnDelimiter").unwrap_or("COMMA");
    let delimiter = DELIMITERS
        .into_iter()
        .find(|(name, _)| *name == delimiter)
        .ok_or_else(|| SoqlError::new("INVALIDJOB", format!("Unsupported column delimiter: {delimiter}")))?;
    let parsed = parse(text("query").unwrap_or_default(), server.org.now_ms())?;
    if !server.shows(&parsed.from) {
        return Err(invalid_type(&parsed.from));
    }
    let snapshot = server.org.snapshot();
    let mut plan = plan(&parsed, snapshot.catalog(), operation == "queryAll", Door::Bulk)?;
    if let (Output::Rows(columns), true) = (&mut plan.output, number(version) < 50.0) {
        // Up to 49.0 columns come in the order of the alphabet (rest.md 4.2).
        columns.sort_by(|a, b| a.name.cmp(&b.name));
    }
    let limit = server.settings().job_limit;
    if server.jobs_created.load(Ordering::Relaxed) >= limit {
        let message = format!("Max bulk v2 query jobs ({limit}) per 24 hrs has been reached");
        return Err(SoqlError::new("LIMIT_EXCEEDED", message));
    }
    let mut jobs = lock(&server.jobs);
    let id = Id::new(*b"750", 1_000 + server.jobs_created.fetch_add(1, Ordering::Relaxed));
    let id = id.as_str().to_owned();
    let job = Job {
        id: id.clone(),
        operation,
        delimiter,
        crlf: text("lineEnding") == Some("CRLF"),
        version: version.to_owned(),
        created_ms: server.org.now_ms(),
        created: Instant::now(),
        delay: server.settings().job_delay,
        plan: Arc::new(plan),
        snapshot,
        fate: match change {
            Some(Change::Fate(fate, message)) => Some((*fate, message.clone())),
            _ => None,
        },
        aborted: false,
        rows: None,
        sorted: None,
        fetches: 0,
    };
    server.asked_about(&job.plan.object.name);
    let answer = Answer::json(&job.json(server, false));
    jobs.insert(id, Arc::new(Mutex::new(job)));
    Ok(answer)
}

/// Where a page begins: rows before it and, in a scan, the row it comes behind.
#[derive(Clone, Copy)]
struct Place {
    before: u64,
    after: Option<ScanKey>,
}

impl Place {
    fn text(&self) -> String {
        let mut bytes = self.before.to_be_bytes().to_vec();
        if let Some(after) = self.after {
            bytes.extend_from_slice(&after.cursor_ms.to_be_bytes());
            bytes.extend_from_slice(after.id.as_bytes());
        }
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (before, rest) = bytes.split_first_chunk::<8>()?;
        let after = match rest.split_first_chunk::<8>() {
            Some((cursor, id)) => Some(ScanKey {
                cursor_ms: i64::from_be_bytes(*cursor),
                id: Id::parse(std::str::from_utf8(id).ok()?)?,
            }),
            None => None,
        };
        Some(Self { before: u64::from_be_bytes(*before), after })
    }
}

fn results(server: &Server, job: &Arc<Mutex<Job>>, parameters: &Parameters) -> Reply {
    let settings = server.settings();
    let (plan, snapshot, rows, sorted, delimiter, crlf, again) = {
        let mut job = lock(job);
        if job.version != parameters.version {
            return conflict();
        }
        if job.state() != "JobComplete" {
            // Not ready is an answer without body in older documentation.
            return Answer::empty(StatusCode::NO_CONTENT);
        }
        let rows = match job.finish() {
            Ok(rows) => rows,
            Err(error) => return reply::soql_error(&error),
        };
        job.fetches += 1;
        let again = settings.reorder && job.fetches.is_multiple_of(2);
        (job.plan.clone(), job.snapshot.clone(), rows, job.sorted.clone(), job.delimiter.1, job.crlf, again)
    };
    let place = match &parameters.locator {
        None => Place { before: 0, after: None },
        Some(text) => match Place::parse(text) {
            Some(place) if place.before <= rows => place,
            _ => {
                return reply::error(
                    StatusCode::BAD_REQUEST,
                    "INVALID_QUERY_LOCATOR",
                    "invalid query locator",
                );
            }
        },
    };
    let wanted = parameters.max_records.unwrap_or(settings.bulk_page_cap).min(settings.bulk_page_cap).max(1);
    let wanted = usize::try_from(wanted.min(rows - place.before)).unwrap_or(usize::MAX);
    let mut page: Vec<Row> = match &sorted {
        Some(all) => all
            .iter()
            .skip(usize::try_from(place.before).unwrap_or(usize::MAX))
            .take(wanted)
            .cloned()
            .collect(),
        None => match Matching::new(&plan, &snapshot, place.after) {
            Ok(matching) => matching.take(wanted).collect(),
            Err(error) => return reply::soql_error(&error),
        },
    };
    let next = Place { before: place.before + page.len() as u64, after: page.last().map(Row::key) };
    let locator = if next.before >= rows { "null".to_owned() } else { next.text() };
    if !plan.ordered {
        shuffle(&mut page, again);
    }
    let count = page.len();
    let Output::Rows(columns) = plan.output.clone() else { return reply::not_found() };
    let body = streamed(move |send| write_csv(&page, &columns, &snapshot, delimiter, crlf, send));
    Answer { status: StatusCode::OK, headers: Vec::new(), body: Content::Stream(body), billed: true }
        .header("content-type", "text/csv; charset=UTF-8")
        .header("sforce-numberofrecords", count.to_string())
        .header("sforce-locator", locator)
}

fn conflict() -> Reply {
    reply::error(
        StatusCode::CONFLICT,
        "API_ERROR",
        "The API version of this request is not the version the job was created with",
    )
}

/// The order of rows means nothing: pieces change places, the same way every time unless asked otherwise.
fn shuffle(page: &mut [Row], again: bool) {
    for chunk in page.chunks_mut(64) {
        chunk.reverse();
    }
    let middle = page.len() / if again { 3 } else { 2 };
    page.rotate_left(middle);
}

fn write_csv(
    page: &[Row],
    columns: &[Column],
    snapshot: &Snapshot,
    delimiter: u8,
    crlf: bool,
    send: &mut dyn FnMut(Vec<u8>) -> bool,
) {
    const CHUNK: usize = 64 * 1024;
    let end: &[u8] = if crlf { b"\r\n" } else { b"\n" };
    let mut out = Vec::with_capacity(CHUNK + 4_096);
    for (place, column) in columns.iter().enumerate() {
        if place > 0 {
            out.push(delimiter);
        }
        out.push(b'"');
        out.extend_from_slice(column.name.as_bytes());
        out.push(b'"');
    }
    out.extend_from_slice(end);
    for row in page {
        for (place, column) in columns.iter().enumerate() {
            if place > 0 {
                out.push(delimiter);
            }
            out.push(b'"');
            let start = out.len();
            value_at(row, column, snapshot).write_bulk_text(&mut out);
            double_quotes(&mut out, start);
            out.push(b'"');
        }
        out.extend_from_slice(end);
        if out.len() >= CHUNK && !send(std::mem::replace(&mut out, Vec::with_capacity(CHUNK + 4_096))) {
            return;
        }
    }
    send(out);
}

/// Doubles the quotes of a cell that begins at `start`; most have none.
fn double_quotes(out: &mut Vec<u8>, start: usize) {
    let Some(cell) = out.get(start..).filter(|cell| cell.contains(&b'"')) else { return };
    let cell = cell.to_vec();
    out.truncate(start);
    for byte in cell {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
}

fn result_pages(server: &Server, job: &Arc<Mutex<Job>>, parameters: &Parameters) -> Reply {
    const PAGES: usize = 5;
    let (plan, snapshot, rows, sorted, id) = {
        let mut job = lock(job);
        if job.version != parameters.version {
            return conflict();
        }
        if job.state() != "JobComplete" {
            return reply::error(StatusCode::BAD_REQUEST, "INVALIDJOBSTATE", "The job is not complete");
        }
        let rows = match job.finish() {
            Ok(rows) => rows,
            Err(error) => return reply::soql_error(&error),
        };
        (job.plan.clone(), job.snapshot.clone(), rows, job.sorted.is_some(), job.id.clone())
    };
    let size = server.settings().bulk_page_cap.max(1);
    let mut place = match parameters.locator.as_deref().map(Place::parse) {
        None => Place { before: 0, after: None },
        Some(Some(place)) => place,
        Some(None) => {
            return reply::error(StatusCode::BAD_REQUEST, "INVALID_QUERY_LOCATOR", "invalid query locator");
        }
    };
    let base = format!("/services/data/v{}/jobs/query/{id}", parameters.version);
    let mut pages = Vec::new();
    while pages.len() < PAGES && (place.before < rows || pages.is_empty()) {
        pages
            .push(json!({"resultUrl": format!("{base}/results?locator={}&maxRecords={size}", place.text())}));
        let last = if sorted {
            None
        } else {
            let skip = usize::try_from(size - 1).unwrap_or(usize::MAX);
            Matching::new(&plan, &snapshot, place.after)
                .ok()
                .and_then(|mut matching| matching.nth(skip))
                .map(|row| row.key())
        };
        place = Place { before: place.before + size, after: last };
    }
    let done = place.before >= rows;
    let mut answer = json!({"resultPages": pages, "done": done});
    if let (false, Some(object)) = (done, answer.as_object_mut()) {
        object.insert(
            "nextRecordsUrl".to_owned(),
            format!("{base}/resultPages?locator={}", place.text()).into(),
        );
    }
    Answer::json(&answer)
}
