//! The task of one platform event: pulls steps from its capture, registers schemas, fills the shard's queue.
//!
//! Comes in: the position that the control partition holds. Goes out: parcels. One event's trouble stays its own: only
//! the shard's end or a stop ends this task.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::circuit::{Circuit, FIRST_PAUSE, Verdict};
use super::event_encoders::EventEncoderFactory;
use super::object::Ended;
use super::shard::Parcel;
use crate::capture::{EventCapture, EventStep};
use crate::domain::{Position, Stamp};
use crate::error::Kind;
use crate::salesforce::pubsub::PubSub;
use crate::status::ObjectStatus;
use crate::{Error, Result};

/// Three times the longest silence of a stream that lives.
const CONTACT_BOUND: Duration = Duration::from_secs(15 * 60);

pub struct EventTask {
    pub pubsub: PubSub,
    /// API name: `Shipment__e`.
    pub event: Arc<str>,
    /// The control record of its position, if there is one.
    pub stored: Option<Vec<u8>>,
    pub factory: EventEncoderFactory,
    pub queue: mpsc::Sender<Parcel>,
    pub status: ObjectStatus,
    pub stop: CancellationToken,
    /// `--once`: done when everything up to this server time is published, or the stream is at its end.
    pub until: Option<Stamp>,
}

impl EventTask {
    pub async fn run(mut self) -> Ended {
        let stop = self.stop.clone();
        self.status.owned(CONTACT_BOUND);
        let ended = tokio::select! {
            biased;
            () = stop.cancelled() => Ended::Stopped,
            ended = self.follow() => ended,
        };
        self.status.released();
        ended
    }

    async fn follow(&mut self) -> Ended {
        let mut circuit = Circuit::new(self.event.clone(), self.until.is_some());
        let mut capture: Option<EventCapture> = None;
        loop {
            let turn = match &mut capture {
                Some(capture) => self.step(capture).await,
                None => self.open().map(|opened| {
                    self.status.claimed(opened.position(), CONTACT_BOUND);
                    capture = Some(opened);
                    None
                }),
            };
            match turn {
                Ok(None) => circuit.moved(),
                Ok(Some(ended)) => return ended,
                Err(error) => {
                    let (wait, open) = match circuit.react(&error) {
                        Verdict::Again(wait) => (wait, false),
                        Verdict::Open(wait) => (wait, true),
                        Verdict::GiveUp => {
                            self.status.failed(&error, Instant::now(), true);
                            return Ended::Failed(error);
                        }
                    };
                    self.status.failed(&error, Instant::now() + wait, open);
                    tokio::time::sleep(wait.max(FIRST_PAUSE)).await;
                }
            }
        }
    }

    fn open(&self) -> Result<EventCapture> {
        let position = self.stored.as_deref().map(Position::decode).transpose().map_err(|why| {
            let what =
                format!("control record {} cannot be read: {why}", Position::key(&self.event));
            Error::new(Kind::ControlRecordUnreadable, what).hint(format!(
                "`sf2kafka offsets show {} -c FILE` shows the record; `sf2kafka explain control-record-unreadable` says how to repair it",
                self.event
            ))
        })?;
        Ok(EventCapture::new(&self.pubsub, &self.event, position, self.until.is_some()))
    }

    async fn step(&mut self, capture: &mut EventCapture) -> Result<Option<Ended>> {
        let (batch, at_end) = match capture.next().await? {
            EventStep::Schema(schema) => {
                let ids = self.factory.admit(&schema, capture.position()).await?;
                capture.set_schema_ids(ids);
                capture.admit(&schema);
                return Ok(None);
            }
            EventStep::Batch { batch, at_end } => (batch, at_end),
        };
        self.status.read_events(&batch, capture.position());
        let encoders = self.factory.encoders().clone();
        if self.queue.send(Parcel::Events { batch: Box::new(batch), encoders }).await.is_err() {
            return Ok(Some(Ended::Stopped));
        }
        let Some(until) = self.until else { return Ok(None) };
        if at_end || capture.position().committed_to.is_some_and(|to| to >= until) {
            let (answer, committed) = oneshot::channel();
            let done = self.queue.send(Parcel::Barrier(answer)).await.is_ok() && committed.await.is_ok();
            return Ok(Some(if done { Ended::Done } else { Ended::Stopped }));
        }
        Ok(None)
    }
}
