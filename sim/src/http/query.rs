//! query, queryAll and nextRecordsUrl (rest.md 3.1): pages of a snapshot, bound to the session that asked.

use std::collections::HashMap;
use std::sync::Arc;

use http::StatusCode;

use super::oauth::token_of;
use super::reply::{self, Answer};
use super::{Call, Reply, Server, lock};
use crate::org::{Row, ScanKey, Snapshot};
use crate::soql::SoqlError;
use crate::soql::parse::parse;
use crate::soql::plan::{Column, Door, Output, Plan, plan};
use crate::soql::run::{Matching, groups, total, write_row};

const MOST_LOCATORS: usize = 200;
/// Two days (rest.md 3.1).
const LOCATOR_LIFE_MS: i64 = 2 * 86_400_000;

#[derive(Default)]
pub(crate) struct Locators {
    open: HashMap<String, Arc<Open>>,
    issued: u64,
    order: Vec<String>,
}

/// A query with more to come.
struct Open {
    plan: Plan,
    snapshot: Snapshot,
    token: String,
    version: String,
    created_ms: i64,
    total: u64,
    page: u64,
    /// Where each page begins: by number of rows before it.
    starts: std::sync::Mutex<HashMap<u64, Start>>,
}

#[derive(Clone)]
enum Start {
    After(Option<ScanKey>),
    /// A sorted answer is kept: its rows from here on.
    Sorted(Arc<Vec<Row>>),
}

impl Locators {
    pub fn forget_all(&mut self) {
        self.open.clear();
        self.order.clear();
    }
}

/// `GET query?q=…`.
pub(crate) fn query(server: &Server, call: &Call, version: &str, soql: &str, include_deleted: bool) -> Reply {
    let asked = call.header("sforce-query-options").and_then(|options| {
        options.split("batchSize=").nth(1)?.split([',', ' ', ';']).next()?.trim().parse().ok()
    });
    let token = token_of(call).unwrap_or_default();
    match run(server, token, version, soql, include_deleted, asked) {
        Ok(reply) => reply,
        Err(error) => reply::soql_error(&error),
    }
}

fn run(
    server: &Server,
    token: &str,
    version: &str,
    soql: &str,
    include_deleted: bool,
    asked: Option<u64>,
) -> Result<Reply, SoqlError> {
    let parsed = parse(soql, server.org.now_ms())?;
    if !server.shows(&parsed.from) {
        return Err(crate::soql::plan::invalid_type(&parsed.from));
    }
    let snapshot = server.org.snapshot();
    let plan = plan(&parsed, snapshot.catalog(), include_deleted, Door::Rest)?;
    server.asked_about(&plan.object.name);
    match &plan.output {
        Output::Count => {
            let total = total(&plan, &snapshot)?;
            Ok(Answer::json(&serde_json::json!({"totalSize": total, "done": true, "records": []})))
        }
        Output::Groups { by, aggregates } => {
            let records = groups(&plan, by, aggregates, &snapshot)?;
            Ok(Answer::json(
                &serde_json::json!({"totalSize": records.len(), "done": true, "records": records}),
            ))
        }
        Output::Rows(columns) => {
            let settings = server.settings();
            // The hint is a hint: two long texts make pages of 200 (rest.md 3.1).
            let long_text = |column: &&Column| {
                let field = column.field.and_then(|_| plan.object.field(&column.name));
                field.is_some_and(|(_, field)| field.is_long_text())
            };
            let most = if columns.iter().filter(long_text).count() > 1 { 200 } else { 2_000 };
            let page = asked.unwrap_or(2_000).clamp(200, 2_000).min(most).min(settings.page_cap);
            let page = if plan.object.rules.single_page { u64::MAX } else { page };
            let total = total(&plan, &snapshot)?;
            let start = if plan.sort.is_empty() {
                Start::After(None)
            } else {
                Start::Sorted(Arc::new(Matching::new(&plan, &snapshot, None)?.collect()))
            };
            let open = Open {
                plan,
                snapshot,
                token: token.to_owned(),
                version: version.to_owned(),
                created_ms: server.org.now_ms(),
                total,
                page,
                starts: std::sync::Mutex::new(HashMap::from([(0, start)])),
            };
            page_of(server, Arc::new(open), None, 0)
        }
    }
}

/// `GET query/{locator}-{offset}`.
pub(crate) fn more(server: &Server, call: &Call, locator: &str) -> Reply {
    let invalid = || reply::error(StatusCode::BAD_REQUEST, "INVALID_QUERY_LOCATOR", "invalid query locator");
    let Some((id, offset)) = locator.rsplit_once('-') else { return invalid() };
    let Ok(offset) = offset.parse() else { return invalid() };
    let Some(open) = lock(&server.queries).open.get(id).cloned() else { return invalid() };
    if server.org.now_ms() - open.created_ms > LOCATOR_LIFE_MS {
        return invalid();
    }
    if token_of(call) != Some(open.token.as_str()) {
        // A locator belongs to its session (rest.md 1.9).
        return reply::error(StatusCode::UNAUTHORIZED, "INVALID_SESSION_ID", "Session expired or invalid");
    }
    server.asked_about(&open.plan.object.name);
    page_of(server, open, Some(id.to_owned()), offset).unwrap_or_else(|error| reply::soql_error(&error))
}

fn page_of(server: &Server, open: Arc<Open>, id: Option<String>, offset: u64) -> Result<Reply, SoqlError> {
    let start = lock(&open.starts).get(&offset).cloned();
    let start = start.ok_or_else(|| SoqlError::new("INVALID_QUERY_LOCATOR", "invalid query locator"))?;
    let left = open.total.saturating_sub(offset);
    let wanted = usize::try_from(left.min(open.page)).unwrap_or(usize::MAX);
    let first_skip = usize::try_from(if offset == 0 { open.plan.offset } else { 0 }).unwrap_or(0);
    let rows: Vec<Row> = match &start {
        Start::After(after) => {
            Matching::new(&open.plan, &open.snapshot, *after)?.skip(first_skip).take(wanted).collect()
        }
        Start::Sorted(all) => {
            let skip = usize::try_from(open.plan.offset + offset).unwrap_or(usize::MAX);
            all.iter().skip(skip).take(wanted).cloned().collect()
        }
    };
    let next = offset + rows.len() as u64;
    let done = next >= open.total || rows.is_empty();
    let mut text = format!(r#"{{"totalSize":{},"done":{done}"#, open.total).into_bytes();
    if !done {
        let next_start = match &start {
            Start::After(_) => Start::After(rows.last().map(Row::key)),
            sorted @ Start::Sorted(_) => sorted.clone(),
        };
        lock(&open.starts).insert(next, next_start);
        let mut locators = lock(&server.queries);
        let id = id.unwrap_or_else(|| {
            locators.issued += 1;
            let id = format!("0r8{:015}", locators.issued);
            locators.order.push(id.clone());
            locators.open.insert(id.clone(), open.clone());
            id
        });
        if locators.order.len() > MOST_LOCATORS {
            let oldest = locators.order.remove(0);
            locators.open.remove(&oldest);
        }
        // `/query/` for queryAll too.
        let url = format!(r#","nextRecordsUrl":"/services/data/v{}/query/{id}-{next}""#, open.version);
        text.extend_from_slice(url.as_bytes());
    }
    text.extend_from_slice(br#","records":["#);
    let Output::Rows(columns) = &open.plan.output else {
        return Err(SoqlError::new("UNKNOWN_EXCEPTION", "a page of what has no rows"));
    };
    for (place, row) in rows.iter().enumerate() {
        if place > 0 {
            text.push(b',');
        }
        write_row(&open.plan, columns, row, &open.snapshot, &open.version, &mut text);
    }
    text.extend_from_slice(b"]}");
    Ok(Answer::json_text(text))
}
