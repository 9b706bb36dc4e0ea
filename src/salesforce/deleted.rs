//! getDeleted: which ids an object lost in a stretch of time.
//!
//! Comes in: an object and a stretch. Goes out: ids with the time of their deletion, and how far the answer reaches.
//! Salesforce counts in whole minutes, keeps 15 days at most and less after mass deletes (`rest.md` 3.5): a stretch
//! it no longer knows is `deletions-lost`, never an empty answer.

use serde::Deserialize;

use crate::domain::Stamp;
use crate::error::{Error, Kind, Result};

use super::Client;
use super::fault::{Area, Fault};
use super::transport::Call;

const MINUTE: i64 = 60_000;
/// Start and end must be more than a minute apart.
const NARROWEST: i64 = 2 * MINUTE;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletions {
    /// 18-character id and time of deletion, in no order; an id can be there that was never ours (history objects).
    pub ids: Vec<(String, Stamp)>,
    /// When rows of this object were last deleted for good: later than the asked start means that deletions are
    /// missing here.
    pub earliest_available: Option<Stamp>,
    /// Ask from here next time, not from the asked end.
    pub latest_covered: Stamp,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    deleted_records: Vec<Deleted>,
    #[serde(default)]
    earliest_date_available: Option<Stamp>,
    latest_date_covered: Stamp,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Deleted {
    id: String,
    deleted_date: Stamp,
}

impl Client {
    /// Deletions from `start` to `end`, cut to whole minutes (outwards at the start). Too many for one answer are
    /// fetched in halves. `deletions-lost` if Salesforce no longer knows that stretch.
    pub async fn deleted(&self, object: &str, start: Stamp, end: Stamp) -> Result<Deletions> {
        let (mut from, end) = whole_minutes(start, end);
        let mut width = end - from;
        let mut all = Deletions { ids: Vec::new(), earliest_available: None, latest_covered: Stamp(from) };
        let mut end_was_moved = false;
        let mut last = end;
        while from < last {
            let to = if last - from - width < NARROWEST { last } else { from + width };
            match self.deleted_in(object, Stamp(from), Stamp(to)).await {
                Ok(answer) => {
                    all.ids.extend(answer.deleted_records.into_iter().map(|row| (row.id, row.deleted_date)));
                    all.earliest_available = all.earliest_available.max(answer.earliest_date_available);
                    all.latest_covered = answer.latest_date_covered;
                    if answer.latest_date_covered.0 < to && to < last {
                        // Not all of this piece is known yet: the next call starts there.
                        break;
                    }
                    from = to;
                }
                Err(error)
                    if matches!(error.kind(), Kind::TooManyIds | Kind::QueryTimeout)
                        && to - from >= 2 * NARROWEST =>
                {
                    width = ((to - from) / 2 / MINUTE * MINUTE).max(NARROWEST);
                }
                Err(error) if error.kind() == Kind::DeletionsLost && !end_was_moved => {
                    // The answer would reach beyond the asked end; the refusal says how far.
                    let Some(covered) = moment_in(error.context()).filter(|covered| covered.0 >= to) else {
                        return Err(error.hint(
                            "rows deleted since the last contact may still be in Kafka; compare or reload the object",
                        ));
                    };
                    end_was_moved = true;
                    last = covered.minute() * MINUTE + NARROWEST;
                    width = last - from;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    async fn deleted_in(&self, object: &str, start: Stamp, end: Stamp) -> Result<Answer> {
        let spelled = |stamp: Stamp| {
            let text = stamp.to_string();
            format!("{}%2B00:00", text.get(..19).unwrap_or_default())
        };
        let path = format!("/sobjects/{object}/deleted/?start={}&end={}", spelled(start), spelled(end));
        let what = format!("asking what was deleted from {object}");
        let call = Call::get(Area::Deleted, what, self.data_path(&path));
        self.fetch(&call, |reply| serde_json::from_slice(&reply.body).map_err(|error| Fault::json(&error)))
            .await
            .map_err(|error: Error| match error.kind() {
                Kind::DeletionsLost => error.during(format!("from {start} to {end}")),
                _ => error,
            })
    }
}

/// Whole minutes, at least two of them; the start moves down, never up.
fn whole_minutes(start: Stamp, end: Stamp) -> (i64, i64) {
    let end = end.minute() * MINUTE;
    let start = (start.minute() * MINUTE).min(end - NARROWEST);
    (start, end)
}

/// A moment that a sentence names.
fn moment_in(sentence: &str) -> Option<Stamp> {
    // The asked bounds stand in front, put there by us.
    let said = sentence.rsplit("INVALID_REPLICATION_DATE").next()?;
    said.split(|character: char| {
        character.is_whitespace() || matches!(character, '(' | ')' | ',' | '\'' | '"')
    })
    .find_map(|word| Stamp::parse(word.trim_end_matches('.').as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_is_asked_in_whole_minutes_and_never_loses_its_beginning() {
        let stamp = |text: &str| Stamp::parse(text.as_bytes()).unwrap();
        let (from, to) = whole_minutes(stamp("2026-05-19T08:00:59Z"), stamp("2026-05-19T09:00:59Z"));
        assert_eq!((Stamp(from), Stamp(to)), (stamp("2026-05-19T08:00:00Z"), stamp("2026-05-19T09:00:00Z")));
        let (from, to) = whole_minutes(stamp("2026-05-19T08:59:30Z"), stamp("2026-05-19T09:00:10Z"));
        assert_eq!((Stamp(from), Stamp(to)), (stamp("2026-05-19T08:58:00Z"), stamp("2026-05-19T09:00:00Z")));
    }

    #[test]
    fn a_recorded_answer_reads() {
        let answer: Answer =
            serde_json::from_str(include_str!("../../tests/data/salesforce/deleted.json")).unwrap();
        assert_eq!(answer.deleted_records.first().unwrap().id, "a00D0000008pQRAIA2");
        assert!(answer.earliest_date_available.unwrap() < answer.latest_date_covered);
    }

    #[test]
    fn the_moment_in_a_refusal_is_found() {
        let said = "from 2026-05-19T08:00:00.000Z to x: 400 INVALID_REPLICATION_DATE: latest is 2026-05-19T09:02:00.000+0000.";
        assert_eq!(moment_in(said), Stamp::parse(b"2026-05-19T09:02:00Z"));
        assert_eq!(moment_in("2026-05-19T09:02:00Z INVALID_REPLICATION_DATE: startDate before org"), None);
    }
}
