//! Questions to many objects at once, for commands that look before a run: a few calls instead of one for each object.
//!
//! Comes in: names, statements. Goes out: an answer for each of them, or what is wrong with that one alone. Subrequests share
//! a composite call (25, of which 5 query); a fault of the call itself is everybody's. Nothing here reads an object as a
//! whole: a run has its own ways.

use std::collections::{BTreeMap, HashMap};

use futures_util::StreamExt;
use http::StatusCode;

use crate::domain::{Rows, Stamp};
use crate::error::{Error, Result};

use super::describe::Describe;
use super::fault::{Area, Fault, classify};
use super::page::{Columns, decode};
use super::query::{Composite, QUERIES_PER_CALL, total_size};
use super::{Client, Copying, Statement, soql};

/// Describes are large and are made one after another within a call: as few as go without another round of calls, so that
/// nobody waits long for one.
const FEW_DESCRIBES: usize = 7;
/// The most that one composite call holds (`rest.md` 3.8).
pub const SUBREQUESTS_PER_CALL: usize = 25;
/// Calls under way at once; the client's own bound stands above it.
const CONCURRENT: usize = 8;

/// A few rows of an object.
#[derive(Debug)]
pub struct Sample {
    pub rows: Rows,
}

/// How large an object is, as far as the org tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowCounts {
    pub rows: Option<u64>,
    /// Records by whose ids its rows are read, if any of them are.
    pub parents: Option<u64>,
}

/// One question.
struct Sub {
    /// In front of its error: "describing Account".
    what: String,
    path: String,
}

impl Client {
    /// Describes, one for each name: 1,000 objects by 40 calls.
    pub async fn describe_many(&self, names: &[&str]) -> Vec<Result<Describe>> {
        self.describe_telling(names, |_| {}).await
    }

    /// The same; `answered` is told of each call how many objects it was about.
    pub async fn describe_telling(&self, names: &[&str], answered: impl Fn(usize)) -> Vec<Result<Describe>> {
        let subs = names.iter().map(|name| self.describe_sub(name));
        let per_call = describes_per_call(names.len());
        let read = |_: usize, body: &[u8]| Describe::read(body);
        self.ask_many(Area::Describe, subs.collect(), per_call, read, answered).await
    }

    /// Describes by one call, for up to 25 names.
    pub(super) async fn describe_together(&self, names: &[&str]) -> Vec<Result<Describe>> {
        let subs: Vec<Sub> = names.iter().map(|name| self.describe_sub(name)).collect();
        self.ask_together(Area::Describe, 0, &subs, &|_, body| Describe::read(body)).await
    }

    fn describe_sub(&self, name: &str) -> Sub {
        let path: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
        Sub {
            what: format!("describing {name}"),
            path: self.data_path(&format!("/sobjects/{path}/describe")),
        }
    }

    /// The first rows of each statement, by queryAll, as polls ask.
    pub async fn samples(&self, statements: &[&Statement]) -> Vec<Result<Sample>> {
        let subs = statements.iter().map(|statement| Sub {
            what: format!("query on {}", statement.object.name),
            path: self.query_path(&statement.text, true),
        });
        let columns: Vec<Columns> =
            statements.iter().map(|statement| Columns::new(&statement.object, &statement.fields)).collect();
        let read = |place: usize, body: &[u8]| {
            let columns =
                columns.get(place).ok_or_else(|| Fault::unreadable("an answer without question"))?;
            decode(body, columns).map(|decoded| Sample { rows: decoded.rows })
        };
        self.ask_many(Area::Query, subs.collect(), QUERIES_PER_CALL, read, |_| {}).await
    }

    /// Counts: statements made by `Select::count`, asked by queryAll.
    pub async fn counts(&self, statements: &[String]) -> Vec<Result<u64>> {
        let subs = statements
            .iter()
            .map(|soql| Sub { what: "counting rows".to_owned(), path: self.query_path(soql, true) });
        let read = |_: usize, body: &[u8]| total_size(body);
        self.ask_many(Area::Query, subs.collect(), QUERIES_PER_CALL, read, |_| {}).await
    }

    /// Rows by object as [`Self::estimate_rows`] gives them; of objects with a condition (by name) those that fit it, counted.
    /// Where that fails the figure is that of the whole object: too high is better than none. The records that rows are read by
    /// (`copying`) are counted by the same calls.
    pub async fn estimate_fitting(
        &self,
        names: &[&str],
        conditions: &[(String, String)],
    ) -> Result<BTreeMap<String, RowCounts>> {
        let mut asked = names.to_vec();
        for parents in names.iter().filter_map(|name| Copying::of(name).reads_by()) {
            if !asked.contains(&parents.object) {
                asked.push(parents.object);
            }
        }
        let all = self.estimate_rows(&asked).await?;
        // Parents count whether or not they fit a condition of their own.
        let parents = |name: &str| all.get(Copying::of(name).reads_by()?.object).copied();
        let rows = self.fitting(all.clone(), conditions).await;
        let counts = |name: &&str| {
            let counts = RowCounts { rows: rows.get(*name).copied(), parents: parents(name) };
            ((*name).to_owned(), counts)
        };
        Ok(names.iter().map(counts).collect())
    }

    /// The same; what the org has no figure for is counted by so many calls at most.
    pub async fn estimate_fitting_by(
        &self,
        names: &[&str],
        conditions: &[(String, String)],
        calls: usize,
    ) -> Result<BTreeMap<String, u64>> {
        let rows = self.estimate_rows_by(names, calls).await?;
        Ok(self.fitting(rows, conditions).await)
    }

    async fn fitting(
        &self,
        mut rows: BTreeMap<String, u64>,
        conditions: &[(String, String)],
    ) -> BTreeMap<String, u64> {
        for (name, condition) in conditions {
            match self.count(&soql::count_fitting(name, condition), false).await {
                Ok(count) => drop(rows.insert(name.clone(), count)),
                Err(error) => tracing::debug!(object = name, %error, "rows that fit `where` are not counted"),
            }
        }
        rows
    }

    /// Whether getDeleted answers for these objects, asked for the five minutes before `end`.
    pub async fn try_deletions(&self, names: &[&str], end: Stamp) -> Vec<Result<()>> {
        let minute = |stamp: Stamp| {
            let text = stamp.to_string();
            format!("{}:00%2B00:00", text.get(..16).unwrap_or_default())
        };
        let start = end.minus(std::time::Duration::from_secs(5 * 60));
        let subs = names.iter().map(|name| Sub {
            what: format!("asking what was deleted from {name}"),
            path: self.data_path(&format!(
                "/sobjects/{name}/deleted/?start={}&end={}",
                minute(start),
                minute(end)
            )),
        });
        let read = |_: usize, _: &[u8]| Ok(());
        self.ask_many(Area::Deleted, subs.collect(), SUBREQUESTS_PER_CALL, read, |_| {}).await
    }

    /// `read` takes the place of the question and the body of a successful answer; `answered` the size of each call.
    async fn ask_many<T>(
        &self,
        area: Area,
        subs: Vec<Sub>,
        per_call: usize,
        read: impl Fn(usize, &[u8]) -> Result<T, Fault>,
        answered: impl Fn(usize),
    ) -> Vec<Result<T>> {
        // As many calls as are needed, each about as long as the others.
        let calls = subs.len().div_ceil(per_call).max(1);
        let size = subs.len().div_ceil(calls).max(1);
        let pieces: Vec<(usize, &[Sub])> =
            subs.chunks(size).enumerate().map(|(piece, subs)| (piece * size, subs)).collect();
        let (read, answered) = (&read, &answered);
        futures_util::stream::iter(pieces)
            .map(|(first, subs)| async move {
                let answers = self.ask_together(area, first, subs, read).await;
                answered(subs.len());
                answers
            })
            .buffered(CONCURRENT)
            .flat_map(futures_util::stream::iter)
            .collect()
            .await
    }

    async fn ask_together<T>(
        &self,
        area: Area,
        first: usize,
        subs: &[Sub],
        read: &impl Fn(usize, &[u8]) -> Result<T, Fault>,
    ) -> Vec<Result<T>> {
        let paths: Vec<String> = subs.iter().map(|sub| sub.path.clone()).collect();
        let what = match subs {
            [] => return Vec::new(),
            [sub] => sub.what.clone(),
            [sub, rest @ ..] => format!("{}, and {} more in one call", sub.what, rest.len()),
        };
        let call = self.composite_call(&what, &paths);
        let answered = self
            .fetch(&call, |reply| {
                let composite = Composite::read(&reply)?;
                let mut found: HashMap<usize, Result<T, Fault>> = HashMap::new();
                for place in 0..subs.len() {
                    let Some(answer) = composite.answer(place) else { continue };
                    let body = answer.body.get().as_bytes();
                    let status = StatusCode::from_u16(answer.status);
                    let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                    let outcome = if status.is_success() {
                        read(first + place, body)
                    } else {
                        Err(classify(area, status, &reply.headers, body))
                    };
                    found.insert(place, outcome);
                }
                Ok(found)
            })
            .await;
        match answered {
            Ok(mut found) => subs
                .iter()
                .enumerate()
                .map(|(place, sub)| {
                    found
                        .remove(&place)
                        .unwrap_or_else(|| Err(Fault::unreadable("the composite answer lacks this one")))
                        .map_err(|fault| fault.into_error(&sub.what))
                })
                .collect(),
            Err(error) => {
                let again = |_: &Sub| {
                    let same = Error::new(error.kind(), error.context());
                    Err(same.hint(error.advice().to_owned()))
                };
                subs.iter().map(again).collect()
            }
        }
    }
}

/// All calls are under way at once if the objects are few; more objects fill their calls instead of taking more.
fn describes_per_call(objects: usize) -> usize {
    objects.div_ceil(CONCURRENT).clamp(FEW_DESCRIBES, SUBREQUESTS_PER_CALL)
}

#[cfg(test)]
mod tests {
    use super::super::scripted::{Org, refuse, reply};
    use super::describes_per_call;
    use serde_json::json;

    use crate::error::Kind;

    #[tokio::test]
    async fn what_is_wrong_with_one_object_is_its_own_and_a_fault_of_the_call_everybodys() {
        let org = Org::start().await;
        let answers = json!({"compositeResponse": [
            {"body": [{"errorCode": "NOT_FOUND", "message": "The requested resource does not exist"}],
             "httpHeaders": {}, "httpStatusCode": 404, "referenceId": "q1"},
            {"body": {"name": "Account", "queryable": true, "fields": [{"name": "Id", "type": "id"}]},
             "httpHeaders": {}, "httpStatusCode": 200, "referenceId": "q0"}]});
        org.on("/composite", [reply(200, answers.to_string()), refuse(403, "API_DISABLED_FOR_ORG", "no")]);
        let client = org.client().await;
        let described = client.describe_many(&["Account", "Gone__c", "Lost__c"]).await;
        let [account, gone, lost] = described.as_slice() else { panic!("{described:?}") };
        assert!(account.is_ok(), "{account:?}");
        assert_eq!(gone.as_ref().unwrap_err().kind(), Kind::ObjectUnknown);
        assert!(gone.as_ref().unwrap_err().to_string().starts_with("describing Gone__c: "), "{gone:?}");
        assert_eq!(lost.as_ref().unwrap_err().kind(), Kind::ReplyUnreadable);
        let counted =
            client.counts(&["SELECT COUNT() FROM A".to_owned(), "SELECT COUNT() FROM B".to_owned()]).await;
        assert!(
            counted.iter().all(|count| count.as_ref().unwrap_err().kind() == Kind::ApiDisabled),
            "{counted:?}"
        );
        assert_eq!(org.requests("/composite").len(), 2);
    }
    #[test]
    fn a_thousand_objects_are_described_by_forty_calls_and_fifty_by_eight() {
        let calls = |objects: usize| objects.div_ceil(describes_per_call(objects));
        assert_eq!([1, 7, 8, 50, 100, 200, 1_000, 1_001].map(calls), [1, 1, 2, 8, 8, 8, 40, 41]);
    }
}
