//! Following by polls: when a window is opened, what becomes of its pages, and when the next one is due.
//!
//! Comes in: the cursor, pages of a [`WindowReader`]. Goes out: batches with the position behind them. A window that fails
//! is opened again from the position; nothing of it is passed over.

use std::time::Duration;

use tokio::time::Instant;

use super::{Follow, Held, ObjectCapture, Step};
use crate::capture::condition::{Fitting, fitting};
use crate::capture::ledger::RecordId;
use crate::capture::poll::{PollPage, WindowReader, pause_after};
use crate::capture::sequencer::Reading;
use crate::capture::window::Window;
use crate::domain::{Stamp, State};
use crate::error::Kind;
use crate::salesforce::Purpose;
use crate::{Error, Result};

impl ObjectCapture {
    pub(super) async fn follow_step(&mut self) -> Result<Option<Step>> {
        let Some(Follow { window, next_at }) = &mut self.follow else { return Ok(None) };
        let Some(reader) = window else {
            if self.position.cursor.is_none() {
                // The load has not begun; its start is where following begins.
                *next_at = Instant::now() + self.settings.poll.interval;
                return Ok(None);
            }
            if self.described_at.elapsed() >= self.client.describe_interval() {
                self.describe_due = true;
                return Ok(None);
            }
            return self.open_window().await;
        };
        let page = match self.poll_page.take() {
            Some(held) => Ok(held),
            None => reader.next().await.map(Held::new),
        };
        let held = match page {
            Ok(held) => held,
            Err(error) => {
                *window = None;
                // Whatever it is: others need not wait for its answer.
                self.small = false;
                if matches!(error.kind(), Kind::BulkJobFailed | Kind::BulkJobGone) {
                    // Pages by REST are slower, but they arrive.
                    self.settings.poll.bulk_from = u64::MAX;
                }
                return Err(error.during(format_args!("polling {}", self.sequencer.object().name)));
            }
        };
        let (ledger_from, to) = (reader.window().ledger_from, reader.window().to());
        if self.are_doubtful(&held.page.rows) {
            self.poll_page = Some(held);
            return Ok(None);
        }
        let reading = self.reading(ledger_from);
        let unclear = match self.sequencer.unclear(&held.page.rows, &held.reread, Some(reading)) {
            Ok(unclear) => self.some_of(unclear),
            Err(error) => {
                self.drop_window();
                return Err(error);
            }
        };
        if !unclear.is_empty() {
            self.poll_page = Some(held);
            let batch = self.restate(&unclear, "poll").await?;
            self.poll_page.iter_mut().for_each(|held| held.reread.extend(&unclear));
            return Ok(Some(Step::Batch { batch, urgent: false }));
        }
        let (page, fitting) = self.prepared(held, reading).await?;
        self.pages += 1;
        let source = self.window_source();
        let sequenced = match self.sequencer.poll_page(page.rows, reading, fitting.as_ref(), source) {
            Ok(sequenced) => sequenced,
            Err(error) => {
                self.drop_window();
                return Err(error);
            }
        };
        self.found(sequenced.changes.len());
        if page.last {
            self.close_window(to);
        }
        if let Some(read_to) = page.read_to {
            self.polled(read_to);
        }
        let stream_position = format!("{}", self.position.cursor.unwrap_or(to));
        if page.last {
            self.window_closed(to);
        }
        let batch = self.batch(sequenced, source, None, &stream_position);
        Ok(Some(Step::Batch { batch, urgent: false }))
    }

    /// As much of a page as goes into one batch, and which records of it fit the condition, if there is one; only of those
    /// that would be published. The rest waits where it is found again, and while something is asked all of it does.
    async fn prepared(
        &mut self,
        held: Held<PollPage>,
        reading: Reading,
    ) -> Result<(PollPage, Option<Fitting>)> {
        let at_once = self.at_once();
        let condition = self.settings.condition.as_deref();
        if at_once.is_none() && condition.is_none() {
            return Ok((held.page, None));
        }
        let mut news = match self.sequencer.news(&held.page.rows, reading) {
            Ok(news) => news,
            Err(error) => {
                self.drop_window();
                return Err(error);
            }
        };
        let cut = at_once.and_then(|most| news.get(most)).map(|(place, _)| *place);
        let object = self.sequencer.object();
        self.poll_page = Some(held);
        let mut fit = None;
        if let Some(condition) = condition {
            news.truncate(at_once.unwrap_or(usize::MAX));
            let ids: Vec<RecordId> = news.iter().map(|(_, id)| *id).collect();
            let asked = fitting(&self.client, object, condition, &ids).await;
            fit = Some(asked.map_err(|error| error.during(format_args!("polling {}", object.name)))?);
        }
        let held = self.poll_page.take();
        let Held { page, reread, .. } =
            held.ok_or_else(|| Error::new(Kind::Internal, "a page that waited is not there"))?;
        let Some(cut) = cut else { return Ok((page, fit)) };
        // What comes of the first part is in the ledger: read again, it is known.
        let (rows, rest) = page.rows.cut(cut);
        self.poll_page = Some(Held { reread, ..Held::new(PollPage { rows: rest, ..page }) });
        Ok((PollPage { rows, read_to: None, last: false }, fit))
    }

    /// The reader is a page ahead of what is published: a page that does not read is asked for again with its window.
    fn drop_window(&mut self) {
        self.poll_page = None;
        if let Some(follow) = &mut self.follow {
            follow.window = None;
        }
    }

    async fn open_window(&mut self) -> Result<Option<Step>> {
        let to = self.client.server_time().minus(self.settings.poll.settle).floor_second();
        let Some(cursor) = self.position.cursor else {
            return Err(Error::new(Kind::Internal, "polling without a cursor"));
        };
        // Deletions that queryAll cannot show, asked for up to what was polled already.
        if let Some(found) = self.deletions.due(&self.client, &self.position, cursor).await {
            return self.publish_deletions(found).await.map(Some);
        }
        let repairs = self.window_opened();
        let settings = &self.settings.poll;
        let window = Window::open(cursor, self.position.floor, settings.look_back, to);
        let end = self.end_of_run(to);
        let window = window.filter(|_| end.is_none());
        let window = window.map(|window| if repairs { window.open_ended() } else { window });
        let Some(Follow { window: slot, next_at }) = &mut self.follow else { return Ok(None) };
        match window {
            Some(window) => {
                self.window_had_changes = false;
                let object = self.sequencer.object().clone();
                let reader = WindowReader::new(self.client.clone(), object, window, settings.bulk_from);
                *slot = Some(reader.in_company(self.small && !repairs));
                (self.poll_page, self.pages) = (None, 0);
            }
            None => {
                // The server's clock is known to the second; a little patience lets it move.
                *next_at = Instant::now() + end.unwrap_or(settings.interval).min(Duration::from_secs(1));
                self.client.fetch_server_time().await?;
            }
        }
        Ok(None)
    }

    /// `--once`, with the end of the run so near that one window up to there does the work of several: how long until it can
    /// be read. The same moment for all objects, so that they share calls.
    fn end_of_run(&self, to: Stamp) -> Option<Duration> {
        let settle = self.settings.poll.settle;
        let until =
            self.settings.until.filter(|until| to < *until && self.position.state != State::Loading)?;
        if until.since(to) > settle + Duration::from_secs(2) {
            return None;
        }
        Some(until.plus(settle).since(self.client.server_time()))
    }

    /// The window is read to its end: plan the next.
    fn close_window(&mut self, to: Stamp) {
        self.client.polled();
        let settings = &self.settings.poll;
        let now = Instant::now();
        // Polls of a day last for a day: near the budget they are further apart, not refused.
        let interval = self.client.stretched(Purpose::Poll, settings.interval);
        if self.window_had_changes {
            self.quiet_since = now;
        }
        let mut pause = pause_after(interval, settings.max_interval, now.duration_since(self.quiet_since));
        if self.settings.until.is_some_and(|until| to < until) {
            // The run ends with the poll that reaches its start: not to be waited for longer than the clock takes.
            pause = pause.min(Duration::from_secs(1));
        }
        self.small = self.pages <= 1;
        // All objects of the process poll at the same moments, so that they share calls.
        let next_at = self.client.on_grid(now + pause, interval);
        if let Some(follow) = &mut self.follow {
            *follow = Follow { window: None, next_at };
        }
        if !self.position.is_first_load() {
            self.position.committed_to = Some(to);
        }
    }
}
