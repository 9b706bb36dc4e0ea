//! Deletions that no query shows: getDeleted, asked behind the polls.
//!
//! Comes in: how far deletions are known. Goes out: ids and times of deletion. What it learns is at most as young as
//! what was polled, so that a soft deletion is published from its row and only purged rows from here. When
//! Salesforce no longer knows a stretch, that is said aloud and following goes on; it is never passed over silently.

use std::time::Duration;

use tokio::time::Instant;

use super::ledger::RecordId;
use crate::config::PollSettings;
use crate::domain::{ObjectDescription, Position, Stamp};
use crate::error::{Kind, Reaction};
use crate::salesforce::{Client, Deletions as Answer, Purpose};
use crate::{Error, Result};

/// getDeleted wants start and end more than a minute apart, and cuts both to the minute.
const SHORTEST: Duration = Duration::from_secs(3 * 60);
/// How far back getDeleted reaches, less an hour for clocks and queues.
const LONGEST: Duration = Duration::from_secs((15 * 24 - 1) * 60 * 60);
/// Asked again across this overlap: `latestDateCovered` is cut to the minute.
const OVERLAP: Duration = Duration::from_secs(2 * 60);
const MINUTE: Duration = Duration::from_secs(60);

/// What getDeleted named.
#[derive(Debug)]
pub struct Found {
    pub ids: Vec<(RecordId, Stamp)>,
    /// `deleted_to` once these are published.
    pub to: Stamp,
}

#[derive(Debug)]
pub struct Deletions {
    asks: bool,
    interval: Duration,
    next_at: Instant,
    /// `earliestDateAvailable` that was complained about last.
    known_gap: Option<Stamp>,
    /// What went wrong and held nothing up, for the counters.
    pub troubles: Vec<Error>,
}

/// Whether getDeleted is asked at all: on a history object it answers for all history objects, and their ids cannot be
/// told apart.
pub fn asks_for_deletions(object: &ObjectDescription) -> bool {
    object.replicateable && !object.name.ends_with("History")
}

/// One call in twenty polls; the answer is cut to the minute, so that asking more often shows nothing.
pub fn deletions_interval(settings: &PollSettings) -> Duration {
    (settings.interval * 20)
        .clamp(Duration::from_secs(60), settings.deleted_interval.max(Duration::from_secs(60)))
}

impl Deletions {
    pub fn new(object: &ObjectDescription, settings: &PollSettings) -> Self {
        Self {
            asks: asks_for_deletions(object),
            interval: deletions_interval(settings),
            next_at: Instant::now(),
            known_gap: None,
            troubles: Vec::new(),
        }
    }

    /// Deletions whose stamps lie before this moment can be met again only by polls: what getDeleted may still name
    /// was polled within the look-back before `deleted_to`, whatever stamp its row had (a cascade may keep an old one).
    pub fn reach(&self, position: &Position, look_back: Duration) -> Option<Stamp> {
        if !self.asks {
            return None;
        }
        position.deleted_to.map(|to| to.minus(OVERLAP + Duration::from_secs(60) + look_back))
    }

    /// It is time to ask.
    pub fn hurry(&mut self) {
        self.next_at = Instant::now();
    }

    /// Asks if it is time to; `polled_to` bounds the answer. Trouble here does not hold up what is followed, nor does a day
    /// whose calls are short: the stretch is asked for again later.
    pub async fn due(&mut self, client: &Client, position: &Position, polled_to: Stamp) -> Option<Found> {
        if Instant::now() < self.next_at {
            return None;
        }
        match self.ask(&client.without_waiting(), position, polled_to).await {
            Ok(found) => found,
            Err(error) if error.kind() == Kind::ApiLimitReached => {
                self.next_at = Instant::now() + client.stretched(Purpose::Deletions, self.interval) / 4;
                tracing::debug!(object = position.object, %error, "deletions are asked for when there are calls for it");
                None
            }
            Err(error) => {
                self.refused(&position.object, &error);
                None
            }
        }
    }

    /// The end of a run: asks up to the present, which is `polled_to`.
    pub async fn last(
        &mut self,
        client: &Client,
        position: &Position,
        polled_to: Stamp,
    ) -> Result<Option<Found>> {
        let Some(known_to) = position.deleted_to.filter(|_| self.asks) else { return Ok(None) };
        let object = &position.object;
        let start = known_to.minus(OVERLAP).max(client.server_time().minus(LONGEST));
        // Salesforce cuts the end to its minute: only the next one holds the present. Where an end that is still to come
        // is refused, the last minute is left to the next run.
        let client = client.for_purpose(Purpose::Deletions);
        let outcome = match client.deleted(object, start, polled_to.plus(MINUTE)).await {
            Ok(answer) => Ok(Some(self.found(object, start, &answer, polled_to))),
            Err(error) if error.kind() == Kind::DeletionsLost => self.ask(&client, position, polled_to).await,
            Err(error) => Err(error),
        };
        match outcome {
            Err(error) if !passes(&error) => {
                self.refused(object, &error);
                Ok(None)
            }
            outcome => outcome,
        }
    }

    async fn ask(&mut self, client: &Client, position: &Position, end: Stamp) -> Result<Option<Found>> {
        let Some(known_to) = position.deleted_to.filter(|_| self.asks) else { return Ok(None) };
        let mut start = known_to.minus(OVERLAP);
        if end.since(start) < SHORTEST {
            return Ok(None);
        }
        let object = &position.object;
        let client = client.for_purpose(Purpose::Deletions);
        let horizon = client.server_time().minus(LONGEST);
        if start < horizon {
            self.lost(object, start, horizon);
            start = horizon;
        }
        let answer = loop {
            match client.deleted(object, start, end).await {
                Ok(answer) => break answer,
                Err(error) if error.kind() == Kind::DeletionsLost => {
                    // The log was trimmed: what is still there lies near the end.
                    let later = start.plus(end.since(start) / 2);
                    self.lost(object, start, later);
                    if end.since(later) < SHORTEST {
                        // Nothing of it is known: the next call begins behind it.
                        self.lost(object, later, end);
                        self.next_at = Instant::now() + client.stretched(Purpose::Deletions, self.interval);
                        return Ok(Some(Found { ids: Vec::new(), to: end }));
                    }
                    start = later;
                }
                Err(error) => return Err(error),
            }
        };
        self.next_at = Instant::now() + client.stretched(Purpose::Deletions, self.interval);
        Ok(Some(self.found(object, start, &answer, end)))
    }

    fn found(&mut self, object: &str, start: Stamp, answer: &Answer, end: Stamp) -> Found {
        if let Some(earliest) = answer.earliest_available.filter(|earliest| *earliest > start)
            && self.known_gap != Some(earliest)
        {
            tracing::warn!(
                object, from = %start, to = %earliest, code = Kind::DeletionsLost.code(),
                "records were purged in this stretch: Salesforce may no longer name all that were deleted in it"
            );
            self.known_gap = Some(earliest);
        }
        let ids = answer.ids.iter().filter_map(|(id, at)| Some((RecordId::new(id.as_bytes())?, *at)));
        Found { ids: ids.collect(), to: answer.latest_covered.min(end) }
    }

    fn lost(&mut self, object: &str, from: Stamp, to: Stamp) {
        tracing::error!(
            object, %from, %to, code = Kind::DeletionsLost.code(),
            "Salesforce no longer knows which records were deleted in this stretch; a reload shows what is left"
        );
        let what = format!("deletions of {object} from {from} to {to} are not known");
        self.troubles.push(Error::new(Kind::DeletionsLost, what));
    }

    /// What trouble means for later: passing trouble is asked again at the usual time, a refusal not before a restart.
    fn refused(&mut self, object: &str, error: &Error) {
        self.next_at = Instant::now() + self.interval;
        let code = error.kind().code();
        self.troubles.push(Error::new(error.kind(), error.context()));
        if passes(error) {
            tracing::warn!(object, code, %error, again_in = ?self.interval, "deletions are asked for later");
        } else {
            self.asks = false;
            tracing::error!(
                object, code, %error,
                "Salesforce does not say what was deleted: records that are purged or deleted hard are not seen"
            );
        }
    }
}

/// Whether the same question may be answered later.
fn passes(error: &Error) -> bool {
    error.reaction() != Reaction::StopObject
}
