//! The full load of an object, beside whatever it is followed by.
//!
//! Comes in: pages of a [`LoadReader`]. Goes out: batches with the load's position. Whatever comes first is taken first: an
//! event or a poll that is due goes before a page.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

use super::{Follow, Held, MOST_FAILED_JOBS, ObjectCapture, REST_LOAD_ROWS, Step, stream};
use crate::capture::forecast::{Following, Outlook};
use crate::capture::live::Live;
use crate::capture::load::{LoadReader, live_rows};
use crate::domain::{Batch, Capture, LoadPosition, Source, Stamp, State};
use crate::error::Kind;
use crate::salesforce::bulk::{self, Job};
use crate::salesforce::{Client, Pace, Purpose};
use crate::status::LoadCalls;
use crate::{Error, Result};

/// What a load has cost so far, and what was forecast for it when it began.
pub(super) struct Counted {
    used: Arc<AtomicU64>,
    forecast: u64,
}

impl ObjectCapture {
    /// The calls of the load that ended; none if it was begun by an earlier run.
    pub fn take_load_calls(&mut self) -> Option<LoadCalls> {
        let Counted { used, forecast } = self.load_calls.take()?;
        Some(LoadCalls { used: used.load(Ordering::Relaxed), forecast })
    }

    pub(super) fn load_client(&self) -> Client {
        let client = self.client.for_purpose(Purpose::Load);
        match &self.load_calls {
            Some(counted) => client.counted_by(&counted.used),
            None => client,
        }
    }

    /// Counts from here on, against what the rows that the org tells of should cost.
    fn count_load(&mut self, by_bulk: bool) {
        let (rows, parents) = (self.settings.estimate, self.settings.parents);
        // Where every query must name parents, they alone are told.
        let Some(rows) = rows.or(parents.map(|_| 0)) else { return };
        let object = self.description();
        let outlook = Outlook::new(object, rows, Following::None, &self.settings.poll);
        let outlook = Outlook { bulk: outlook.bulk && by_bulk, parents, ..outlook };
        let forecast = outlook.load(&Pace::default()).calls as u64;
        self.load_calls = Some(Counted { used: Arc::default(), forecast });
    }

    /// A page of the load, or nothing if a poll is due first.
    pub(super) async fn load_step(&mut self, next_poll: Option<Instant>) -> Result<Option<Step>> {
        if self.position.load.is_none() {
            // What does not belong there any more goes first.
            return match self.leaving_step().await? {
                Some(step) => Ok(Some(step)),
                None => self.begin_load().await.map(Some),
            };
        }
        let at_once = self.at_once();
        let Some(load) = &self.position.load else { return Ok(None) };
        let client = self.load_client();
        let reader = self.reader.get_or_insert_with(|| {
            let object = self.sequencer.object().clone();
            let condition = self.settings.condition.clone();
            LoadReader::start(client, object, load.clone(), self.settings.loads.clone(), condition, at_once)
        });
        let retry = self.live.as_ref().and_then(Live::retry_at).filter(|at| *at > Instant::now());
        let next = [next_poll, retry].into_iter().flatten().min();
        let poll_due = || async move {
            match next {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let object = self.sequencer.object().clone();
        let page = match self.load_page.take() {
            Some(held) => Ok(held),
            None => tokio::select! {
                biased;
                heard = stream::hear(self.live.as_mut(), &object) => return self.heard(heard).map(|()| None),
                () = poll_due() => return Ok(None),
                page = reader.next() => page.map(Held::new),
            },
        };
        let held = match page {
            Ok(held) => held,
            Err(error) => return Err(self.load_failed(error)),
        };
        if self.are_doubtful(&held.page.rows) {
            self.load_page = Some(held);
            return Ok(None);
        }
        // A load that began anew can be ahead of the polls: they go on from where they are, not from its start.
        if self.sequencer.beyond > 0 || self.live.as_ref().is_some_and(|live| !live.is_whole()) {
            let unclear = match self.sequencer.unclear(&held.page.rows, &held.reread, None) {
                Ok(unclear) => self.some_of(unclear),
                Err(error) => return Err(self.load_failed(error)),
            };
            if !unclear.is_empty() {
                self.load_page = Some(held);
                let batch = self.restate(&unclear, "load").await?;
                self.load_page.iter_mut().for_each(|held| held.reread.extend(&unclear));
                return Ok(Some(Step::Batch { batch, urgent: false }));
            }
        }
        let Some(Held { page, .. }) = self.with_bytes(held, poll_due()).await? else { return Ok(None) };
        let follow_from = (self.position.capture != Capture::None).then(|| {
            let started_at = page.position.started_at;
            self.position.cursor.map_or(started_at, |cursor| cursor.min(started_at))
        });
        let remember_from = follow_from.map(|from| from.minus(self.settings.poll.look_back));
        // Of a page that is published bit by bit the position knows nothing before its end.
        let entered_from = if page.ends { remember_from } else { Some(Stamp(i64::MIN)) };
        let sequenced = match self.sequencer.load_page(page.rows, page.server_time, entered_from) {
            Ok(sequenced) => sequenced,
            // The reader is a page ahead of what is published.
            Err(error) => return Err(self.load_failed(error)),
        };
        self.failed_jobs = 0;
        let load = page.position;
        let only = self.only(remember_from);
        let load_id: Arc<str> = load.id.as_str().into();
        let stream_position = match (&load.job, &load.locator, &load.after_id) {
            (Some(job), Some(locator), _) => format!("{job}/{locator}"),
            (Some(job), None, _) => format!("{job}/end"),
            (None, _, Some(id)) => format!("id/{id}"),
            (None, _, None) => "id/end".to_owned(),
        };
        let done = load.done;
        if done {
            self.reader = None;
            self.finished_jobs
                .extend(load.job.as_deref().map(|job| Job::resume(job, self.sequencer.object())));
            let first = self.position.is_first_load();
            self.position.state = State::Live;
            self.reloaded(&load);
            if !first {
                // What is committed late was looked for all the time, as without the load.
            } else if self.live.is_some() {
                // What was committed late behind the load's query comes by the stream, which stood before it. Should that
                // be missed, it is found by a window below the load's start: the ledger holds what was published of it.
                self.position.committed_to = self.position.cursor;
                self.position.floor = remember_from.or(self.position.floor);
            } else if let (Some(follow), Some(from)) = (&mut self.follow, follow_from) {
                // What was committed late behind the load's query is found by one window over the whole load, with
                // the look-back below it; the ledger holds all that was published of that stretch.
                self.position.cursor = Some(from);
                self.position.floor = remember_from;
                self.position.committed_to = Some(from);
                *follow = Follow { window: None, next_at: Instant::now() };
            }
        }
        self.position.load = Some(load);
        let batch = Batch { only, ..self.batch(sequenced, Source::Load, Some(load_id), &stream_position) };
        Ok(Some(Step::Batch { batch, urgent: done }))
    }

    pub(super) async fn begin_load(&mut self) -> Result<Step> {
        let object = self.description().clone();
        // Before the query is sent: changes from here on are followed, less the look-back.
        let started_at = self.client.fetch_server_time().await?.floor_second();
        let small = self.settings.estimate.is_some_and(|rows| rows <= REST_LOAD_ROWS);
        let by_bulk = object.bulk && !small && self.failed_jobs < MOST_FAILED_JOBS;
        self.count_load(by_bulk);
        let job = if by_bulk {
            let client = self.load_client();
            let (select, include_deleted) = live_rows(&object, self.settings.condition.as_deref());
            match bulk::create(&client, &select.statement()?, include_deleted).await {
                Ok(job) => Some(job.id),
                Err(error) if error.kind() == Kind::BulkRefused => {
                    tracing::info!(object = %object.name, %error, "loading by REST");
                    None
                }
                Err(error) => return Err(error),
            }
        } else {
            None
        };
        let id = format!("{}-{}", object.target_name, started_at.0);
        let anew = self.position.reload.as_ref().map(tracing::field::display);
        tracing::info!(object = %object.name, load = %id, bulk = job.is_some(), anew, "full load begins");
        if self.follow.is_some() && self.position.cursor.is_none() {
            // While the load runs, polls do not reach below its start: those rows are the load's.
            self.position.follow_from(started_at, started_at);
        }
        self.position.state = State::Loading;
        self.position.load = Some(LoadPosition {
            id,
            started_at,
            job,
            locator: None,
            part: 0,
            after_id: None,
            rows: 0,
            announced: None,
            done: false,
        });
        let batch = self.control_only();
        Ok(Step::Batch { batch, urgent: false })
    }

    /// Makes the position fit to go on after this error, and passes the error on.
    pub(super) fn load_failed(&mut self, error: Error) -> Error {
        (self.reader, self.prefetched) = (None, None);
        match error.kind() {
            Kind::BulkJobFailed | Kind::LoadIncomplete => {
                self.failed_jobs += 1;
                self.position.load = None;
            }
            Kind::BulkJobGone => self.position.load = None,
            _ => {}
        }
        error.during(format_args!("full load of {}", self.description().name))
    }
}
