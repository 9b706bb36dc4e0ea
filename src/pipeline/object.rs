//! The task of one object: pulls steps from its capture, makes encoders, fills the shard's queue.
//!
//! Comes in: what the control partition holds of the object. Goes out: parcels. How long it waits
//! after which error is in `circuit`; it holds no rule on order. One object's trouble stays its own: only the
//! shard's end or a stop ends this task.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::arrivals;
use super::circuit::{Circuit, Verdict};
use super::encoders::{EncoderFactory, ObjectEncoders};
use super::opening::Opening;
use super::shard::Parcel;
use crate::capture::unfollowed::why_not_followed;
use crate::capture::{ObjectCapture, Step};
use crate::domain::{Batch, ObjectDescription, Stamp};
use crate::error::{Kind, Reaction};
use crate::status::{LoadCalls, ObjectStatus};
use crate::{Error, Result};

/// Whether the run is over for an object.
#[derive(Debug)]
pub enum Ended {
    /// `--once`: everything up to the start of the run is committed.
    Done,
    /// A stop was asked for, or the shard's queue is closed.
    Stopped,
    /// `--once`: it cannot be finished. In any run: the whole program cannot go on.
    Failed(Error),
}

pub struct ObjectTask {
    pub opening: Opening,
    pub factory: EncoderFactory,
    pub queue: mpsc::Sender<Parcel>,
    pub status: ObjectStatus,
    pub stop: CancellationToken,
    /// Only met by a glob: left out, not failed, if Salesforce cannot give it as a whole and never did.
    pub optional: bool,
    /// `--once`: done when everything up to this server time is published.
    pub until: Option<Stamp>,
    /// Tells when the object is back in the org.
    pub arrivals: arrivals::Receiver,
}

impl ObjectTask {
    pub async fn run(mut self) -> Ended {
        let stop = self.stop.clone();
        self.status.owned(self.opening.contact_bound());
        let ended = tokio::select! {
            biased;
            () = stop.cancelled() => Ended::Stopped,
            ended = self.follow() => ended,
        };
        self.status.released();
        ended
    }

    async fn follow(&mut self) -> Ended {
        self.optional &= !self.opening.has_published();
        let mut circuit = Circuit::new(self.opening.name.clone(), self.until.is_some());
        let mut open: Option<Open> = None;
        loop {
            let turn = match &mut open {
                Some(open) => self.step(open).await,
                None => match self.opening.open(self.factory.pinned_fields()).await {
                    Ok(capture) => {
                        self.status.claimed(capture.position(), self.opening.contact_bound());
                        open = Some(Open::new(capture));
                        Ok(Turn::Prepared)
                    }
                    Err(error) => Err(error),
                },
            };
            match turn {
                Ok(Turn::Moved) => circuit.moved(),
                // What it is good for shows when something is read with it.
                Ok(Turn::Prepared) => {}
                Ok(Turn::Wait(duration)) => {
                    circuit.moved();
                    tokio::time::sleep(duration).await;
                }
                Ok(Turn::Ended(ended)) => return ended,
                Err(error) if self.optional && cannot_be_captured(&error) => {
                    return self.left_out(&error).await;
                }
                Err(error) => {
                    if error.reaction() == Reaction::DescribeAgain
                        && let Some(open) = &mut open
                    {
                        open.capture.expect_other_description();
                    }
                    let (wait, open) = match circuit.react(&error) {
                        Verdict::Again(wait) => (wait, false),
                        Verdict::Open(wait) => (wait, true),
                        Verdict::GiveUp => {
                            self.status.failed(&error, Instant::now(), true);
                            return Ended::Failed(error);
                        }
                    };
                    self.status.failed(&error, Instant::now() + wait, open);
                    self.wait(wait).await;
                }
            }
        }
    }

    /// Waits, but no longer than until the org shows an object again that was gone.
    async fn wait(&mut self, pause: Duration) {
        let object = self.opening.name.clone();
        let seen = self.arrivals.borrow_and_update().returns_of(&object);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            Ok(_) = self.arrivals.wait_for(|arrivals| arrivals.returns_of(&object) > seen) => {
                tracing::info!(%object, "object is in the org again");
            }
        }
    }

    async fn left_out(&self, error: &Error) -> Ended {
        let object = &self.opening.name;
        tracing::warn!(%object, code = error.kind().code(), %error, "object left out: only a glob asks for it");
        self.status.released();
        if self.until.is_none() {
            self.stop.cancelled().await;
        }
        Ended::Done
    }

    async fn step(&mut self, open: &mut Open) -> Result<Turn> {
        let held = match open.held.take() {
            Some(held) => held,
            None => {
                let object = open.capture.description().clone();
                if open.ready_for != Some(object.revision) {
                    self.get_ready(open, &object).await?;
                }
                let step = open.capture.next().await;
                for trouble in open.capture.take_troubles() {
                    self.status.noticed(&trouble);
                }
                match step? {
                    Step::Batch { batch, urgent } => Held { batch, urgent, object },
                    Step::Described => return Ok(Turn::Prepared),
                    Step::CaughtUp { read_to, pause } => return self.caught_up(read_to, pause).await,
                }
            }
        };
        let encoders = match &open.encoders {
            // Positions alone need no schema.
            _ if held.batch.changes.is_empty() => None,
            Some(ready) if ready.revision == held.object.revision => Some(ready.clone()),
            _ => match self.make_encoders(open, &held.object).await {
                Ok(made) => Some(made),
                Err(error) => {
                    open.held = Some(held);
                    return Err(error);
                }
            },
        };
        let Held { mut batch, urgent, .. } = held;
        if !batch.changes.is_empty() {
            // It can be captured: what comes now is trouble.
            self.optional = false;
        }
        batch.control.extend(self.factory.take_record());
        self.status.read(&batch, open.capture.position());
        if self.queue.send(Parcel::Batch { batch: Box::new(batch), encoders, urgent }).await.is_err() {
            return Ok(Turn::Ended(Ended::Stopped));
        }
        if urgent {
            // The end of a load: what it used in Salesforce may go once it is committed.
            if !self.committed().await {
                return Ok(Turn::Ended(Ended::Stopped));
            }
            open.capture.after_commit().await;
            if let Some(calls) = open.capture.take_load_calls() {
                let (object, LoadCalls { used, forecast }) = (&self.opening.name, calls);
                tracing::info!(%object, calls = used, forecast, "calls of the full load");
                self.status.loaded(calls);
            }
        }
        Ok(Turn::Moved)
    }

    /// Before anything is read. What has never been written, or has changed, is registered now, so that its trouble is met
    /// here, and with it what must be loaded; what is as it was can wait for its first record.
    async fn get_ready(&mut self, open: &mut Open, object: &Arc<ObjectDescription>) -> Result<()> {
        if !self.factory.can_wait(object, &open.capture.position().schema_ids).await? {
            self.make_encoders(open, object).await?;
        }
        self.status.not_followed(why_not_followed(self.opening.settings.method, object));
        open.capture.set_pinned_fields(self.factory.pinned_fields());
        open.capture.load_anew(self.factory.take_needs());
        open.ready_for = Some(object.revision);
        Ok(())
    }

    async fn make_encoders(
        &mut self,
        open: &mut Open,
        object: &Arc<ObjectDescription>,
    ) -> Result<Arc<ObjectEncoders>> {
        let made = Arc::new(self.factory.make(object).await?);
        open.capture.set_schema_ids(made.schema_ids());
        Ok(open.encoders.insert(made).clone())
    }

    async fn caught_up(&mut self, read_to: Option<Stamp>, pause: Duration) -> Result<Turn> {
        self.status.caught_up(read_to);
        // Near the budget polls are further apart than the settings say.
        self.status.contact_within(self.opening.contact_bound().max(pause * 2));
        if let Some(until) = self.until
            && read_to.is_none_or(|read_to| read_to >= until)
        {
            let committed = self.committed().await;
            return Ok(Turn::Ended(if committed { Ended::Done } else { Ended::Stopped }));
        }
        Ok(Turn::Wait(pause))
    }

    /// Waits until everything handed over is committed; false if the shard ended first.
    async fn committed(&self) -> bool {
        let (answer, committed) = oneshot::channel();
        self.queue.send(Parcel::Barrier(answer)).await.is_ok() && committed.await.is_ok()
    }
}

/// What `discover` shows as unsupported, found out only by asking: no describe tells that a query needs a filter.
fn cannot_be_captured(error: &Error) -> bool {
    matches!(error.kind(), Kind::ObjectUnsupported | Kind::QueryRefused)
}

struct Open {
    capture: ObjectCapture,
    /// Revision of the description that may be read by.
    ready_for: Option<u64>,
    /// Of the last description that something was written by.
    encoders: Option<Arc<ObjectEncoders>>,
    /// Read, while the registry did not tell what to write it by. Nothing more is read before it is handed over.
    held: Option<Held>,
}

impl Open {
    fn new(capture: ObjectCapture) -> Self {
        Self { capture, ready_for: None, encoders: None, held: None }
    }
}

struct Held {
    batch: Batch,
    urgent: bool,
    /// What it was read by.
    object: Arc<ObjectDescription>,
}

enum Turn {
    Moved,
    /// Described; nothing was read.
    Prepared,
    Wait(Duration),
    Ended(Ended),
}
