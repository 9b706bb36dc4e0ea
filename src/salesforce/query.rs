//! Queries over REST: pages of rows, and counts.
//!
//! Comes in: statements. Goes out: pages, one after another. A page that failed for good leaves all pages before it
//! whole; when the locator is gone (it belongs to its session and lives two days) the caller starts a new query
//! behind the last row it has. A statement too long for an address goes as the one subrequest of a composite call.

use std::collections::{BTreeMap, HashMap};

use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::domain::{Field, ObjectDescription, Rows};
use crate::error::{Error, Kind, Result};

use super::company::Answer;
use super::fault::{Area, Cure, Fault, classify};
use super::page::{Columns, Decoded, decode};
use super::transport::{Call, Reply};
use super::{Client, Statement};

/// An address may have 16,384 bytes together with all headers (`rest.md` 3.1).
const LONGEST_ADDRESS: usize = 12_000;
/// Query subrequests that one composite call may hold.
pub const QUERIES_PER_CALL: usize = 5;

/// Rows of a page as Salesforce makes it, and with two or more long texts in a row (`rest.md` 3.1).
const PAGE_ROWS: u64 = 2_000;
const PAGE_ROWS_OF_TEXTS: u64 = 200;
/// Names in one question for row counts; who asks for more asks for all.
const NAMES_PER_COUNT: usize = 100;
/// Calls that count objects without a figure of the org's own. Of a start it is worth them: an object that is known to be
/// small is loaded by one call, another by a job of four.
const MOST_COUNTS: usize = 50;
/// Counts under way at once; the client's own bound stands above it.
const CONCURRENT: usize = 8;
/// A text area above this is a long text.
const LONG_TEXT: u32 = 255;

/// How many rows a page of all captured fields will hold, for forecasts; the server may send fewer.
pub fn page_rows(object: &ObjectDescription) -> u64 {
    let long = |field: &&Field| field.salesforce_type == "textarea" && field.length > LONG_TEXT;
    if object.fields.iter().filter(long).count() > 1 { PAGE_ROWS_OF_TEXTS } else { PAGE_ROWS }
}

#[derive(Debug)]
pub struct Page {
    pub rows: Rows,
    /// Rows of the whole result, as the server says.
    pub total_size: u64,
    pub done: bool,
}

/// The pages of one query, one after another. An error `query-locator-gone` says: start a new query behind the
/// last row of the last page. Other errors too leave all pages before them whole.
pub struct QueryPages {
    client: Client,
    columns: Columns,
    what: String,
    state: State,
    rows: u64,
    /// The first page is asked for together with those of other objects, if others ask now.
    in_company: bool,
}

enum State {
    /// By address, with the address; by a composite call, without.
    Start(Call, Option<String>),
    /// The address of the next page, and the session that it belongs to.
    More(String, u64),
    Done,
}

impl QueryPages {
    /// None after the last page. There is always a first page, though it may be empty. Dropping the future while it
    /// waits loses nothing: the same page is asked for again.
    pub async fn next(&mut self) -> Result<Option<Page>> {
        if let Some((decoded, session)) = self.first_in_company().await? {
            return self.page(decoded, session).map(Some);
        }
        let (decoded, session) = loop {
            match &self.state {
                State::Done => return Ok(None),
                State::Start(call, address) => {
                    let columns = &self.columns;
                    let (decoded, session) = self
                        .client
                        .fetch_with_session(call, |reply| match address {
                            Some(_) if !reply.status.is_success() => Ok(None),
                            Some(_) => decode(&reply.body, columns).map(Some),
                            None => unwrap_one(&reply, columns).map(Some),
                        })
                        .await?;
                    match (decoded, address) {
                        (Some(decoded), _) => break (decoded, session),
                        (None, address) => {
                            tracing::debug!(what = self.what, "the statement is too long for an address");
                            let call = self.client.composite_call(&self.what, address.as_slice());
                            self.state = State::Start(call, None);
                        }
                    }
                }
                State::More(path, session) => {
                    let mut call = Call::get(Area::MoreQuery, &*self.what, &**path);
                    call.locator_of = Some(*session);
                    break (
                        self.client.fetch(&call, |reply| decode(&reply.body, &self.columns)).await?,
                        *session,
                    );
                }
            }
        };
        self.page(decoded, session).map(Some)
    }

    /// The first page, if it came by a call that others shared; none: to be asked for alone.
    async fn first_in_company(&mut self) -> Result<Option<(Decoded, u64)>> {
        let (true, State::Start(_, Some(address))) = (self.in_company, &self.state) else { return Ok(None) };
        let answer = self.client.company().ask(&self.client, address.clone()).await;
        // Once is enough: what is asked for again is asked for alone.
        self.in_company = false;
        let own = match answer {
            Answer::Alone => return Ok(None),
            Answer::Failed(error) => return Err(error.during(&self.what)),
            Answer::Own(own) => own,
        };
        let decoded = match own.status.is_success() {
            true => decode(&own.body, &self.columns),
            false => Err(classify(Area::Query, own.status, &own.headers, &own.body)),
        };
        match decoded {
            Ok(decoded) => Ok(Some((decoded, own.session))),
            Err(fault) if fault.cure == Cure::None => Err(fault.into_error(&self.what)),
            Err(fault) => {
                tracing::debug!(what = self.what, error = fault.message, "asked again without company");
                Ok(None)
            }
        }
    }

    fn page(&mut self, decoded: Decoded, session: u64) -> Result<Page> {
        self.rows += decoded.rows.len() as u64;
        self.state = match decoded.next {
            Some(next) if !decoded.done => State::More(self.local_path(next)?, session),
            None if !decoded.done => {
                return Err(Error::new(
                    Kind::ReplyTruncated,
                    "a page says that there are more, but not where",
                )
                .during(&self.what));
            }
            _ => State::Done,
        };
        if decoded.done && self.rows != decoded.total_size {
            // Seen with some setup objects; the pages are what there is.
            tracing::warn!(
                what = self.what,
                rows = self.rows,
                announced = decoded.total_size,
                "a query brought another number of rows than it announced"
            );
        }
        Ok(Page { rows: decoded.rows, total_size: decoded.total_size, done: decoded.done })
    }

    /// A next page is asked for at the org, wherever the answer points.
    fn local_path(&self, next: String) -> Result<String> {
        if next.starts_with("/services/") {
            return Ok(next);
        }
        match next.strip_prefix(&self.client.instance()) {
            Some(path) if path.starts_with("/services/") => Ok(path.to_owned()),
            _ => Err(Error::new(Kind::ReplyUnreadable, "the next page is not at the org").during(&self.what)),
        }
    }
}

/// The answer of a composite call with one subrequest.
fn unwrap_one(reply: &Reply, columns: &Columns) -> Result<Decoded, Fault> {
    let composite = Composite::read(reply)?;
    let first = composite.answers.first().ok_or_else(|| Fault::unreadable("a composite answer is empty"))?;
    let body = first.body.get().as_bytes();
    let status = StatusCode::from_u16(first.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if !status.is_success() {
        return Err(classify(Area::Query, status, &reply.headers, body));
    }
    decode(body, columns)
}

#[derive(Deserialize)]
pub(super) struct Composite<'a> {
    #[serde(borrow, rename = "compositeResponse")]
    answers: Vec<SubAnswer<'a>>,
}

#[derive(Deserialize)]
pub(super) struct SubAnswer<'a> {
    #[serde(borrow)]
    pub body: &'a RawValue,
    #[serde(rename = "httpStatusCode")]
    pub status: u16,
    #[serde(rename = "referenceId", default)]
    reference: String,
}

impl<'a> Composite<'a> {
    pub fn read(reply: &'a Reply) -> Result<Self, Fault> {
        serde_json::from_slice(&reply.body).map_err(|error| Fault::json(&error))
    }

    /// The answer of the path at this place of the call.
    pub fn answer(&self, place: usize) -> Option<&SubAnswer<'a>> {
        let reference = format!("q{place}");
        self.answers.iter().find(|answer| answer.reference == reference)
    }
}

impl Client {
    /// `include_deleted`: queryAll. Nothing is sent before the first `next`.
    pub fn query(&self, statement: &Statement, include_deleted: bool) -> QueryPages {
        let what = format!("query on {}", statement.object.name);
        let path = self.query_path(&statement.text, include_deleted);
        let state = if path.len() > LONGEST_ADDRESS {
            State::Start(self.composite_call(&what, &[path]), None)
        } else {
            let mut call = Call::get(Area::Query, &*what, &*path);
            // Headers count too, and what stands between may take less.
            call.also = &[StatusCode::URI_TOO_LONG, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE];
            State::Start(call, Some(path))
        };
        QueryPages {
            client: self.clone(),
            columns: Columns::new(&statement.object, &statement.fields),
            what,
            state,
            rows: 0,
            in_company: false,
        }
    }

    /// The same, for an answer that is likely to be small: one call for those that ask at the same time.
    pub fn query_in_company(&self, statement: &Statement, include_deleted: bool) -> QueryPages {
        QueryPages { in_company: true, ..self.query(statement, include_deleted) }
    }

    /// `soql`: made by `Select::count`.
    pub async fn count(&self, soql: &str, include_deleted: bool) -> Result<u64> {
        let call = Call::get(Area::Query, "counting rows", self.query_path(soql, include_deleted));
        self.fetch(&call, |reply| total_size(&reply.body)).await
    }

    /// Rows per object, roughly, for progress and plans; objects that cannot be counted are left out.
    pub async fn estimate_rows(&self, names: &[&str]) -> Result<BTreeMap<String, u64>> {
        self.estimate_rows_by(names, MOST_COUNTS).await
    }

    /// The same; at most so many calls count what the org has no figure for, five objects a call. The rest is left out.
    pub async fn estimate_rows_by(&self, names: &[&str], calls: usize) -> Result<BTreeMap<String, u64>> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "sObjects", default)]
            objects: Vec<Counted>,
        }
        #[derive(Deserialize)]
        struct Counted {
            name: String,
            count: u64,
        }
        let mut counts = BTreeMap::new();
        // By lower case, as they are asked for: who asks for many gets an answer about all of the org.
        let asked: HashMap<String, &str> =
            names.iter().map(|name| (name.to_ascii_lowercase(), *name)).collect();
        let about =
            |names: &[&str]| self.data_path(&format!("/limits/recordCount?sObjects={}", names.join(",")));
        let paths: Vec<String> = match names.len() > NAMES_PER_COUNT {
            true => vec![self.data_path("/limits/recordCount")],
            false => names.chunks(NAMES_PER_COUNT).map(about).collect(),
        };
        for path in paths {
            let call = Call::get(Area::Query, "asking for row counts", path);
            let answer = self
                .fetch(&call, |reply| {
                    serde_json::from_slice::<Answer>(&reply.body).map_err(|error| Fault::json(&error))
                })
                .await;
            match answer {
                Ok(answer) => {
                    for counted in answer.objects {
                        let asked = asked.get(&counted.name.to_ascii_lowercase());
                        counts.extend(asked.map(|name| ((*name).to_owned(), counted.count)));
                    }
                }
                // It needs a permission of its own.
                Err(error) if is_about_access(&error) => break,
                Err(error) => return Err(error),
            }
        }
        // History, feed and share objects are never in that answer.
        let missing: Vec<&str> = names.iter().copied().filter(|name| !counts.contains_key(*name)).collect();
        let groups: Vec<&[&str]> = missing.chunks(QUERIES_PER_CALL).take(calls).collect();
        for groups in groups.chunks(CONCURRENT) {
            let asked = groups.iter().map(|names| self.count_together(names));
            for counted in futures_util::future::join_all(asked).await {
                counts.extend(counted?);
            }
        }
        Ok(counts)
    }

    /// One composite call; what cannot be counted is left out.
    async fn count_together(&self, names: &[&str]) -> Result<Vec<(String, u64)>> {
        let paths: Vec<String> =
            names.iter().map(|name| self.query_path(&format!("SELECT COUNT() FROM {name}"), false)).collect();
        let call = self.composite_call("counting rows", &paths);
        self.fetch(&call, |reply| {
            let composite = Composite::read(&reply)?;
            let counted =
                composite.answers.iter().filter(|answer| answer.status == 200).filter_map(|answer| {
                    let name = names.get(answer.reference.strip_prefix('q')?.parse::<usize>().ok()?)?;
                    Some(((*name).to_owned(), total_size(answer.body.get().as_bytes()).ok()?))
                });
            Ok(counted.collect())
        })
        .await
    }

    pub(super) fn query_path(&self, soql: &str, include_deleted: bool) -> String {
        let resource = if include_deleted { "queryAll" } else { "query" };
        let soql: String = url::form_urlencoded::byte_serialize(soql.as_bytes()).collect();
        self.data_path(&format!("/{resource}?q={soql}"))
    }

    pub(super) fn composite_call(&self, what: &str, paths: &[String]) -> Call {
        let subrequests: Vec<_> = paths
            .iter()
            .enumerate()
            .map(|(place, path)| {
                serde_json::json!({"method": "GET", "url": path, "referenceId": format!("q{place}")})
            })
            .collect();
        let body = serde_json::json!({"allOrNone": false, "compositeRequest": subrequests});
        Call::send(Method::POST, Area::Query, what, self.data_path("/composite"), &body)
    }
}

fn is_about_access(error: &Error) -> bool {
    matches!(error.kind(), Kind::ObjectForbidden | Kind::ObjectUnknown | Kind::QueryRefused)
}

pub(super) fn total_size(body: &[u8]) -> Result<u64, Fault> {
    #[derive(Deserialize)]
    struct Total {
        #[serde(rename = "totalSize")]
        total_size: u64,
    }
    serde_json::from_slice::<Total>(body).map(|total| total.total_size).map_err(|error| Fault::json(&error))
}
