//! One platform event's stream, message by message; pulled step by step by the pipeline.
//!
//! Comes in: the position that the control partition holds, messages of the event's topic. Goes out: batches in the
//! order of the stream, each with the position that becomes true with it, and schemas before the first event that needs
//! them.
//! - A position is named at the end of a message, when all of it is handed over
//!   (`a_restart_goes_on_behind_what_was_handed_over`).
//! - Without a position, and behind one that Salesforce refuses, the stream begins with the oldest event that is kept:
//!   nobody can read platform events again. Never: a jump to the newest
//!   (`a_refused_position_is_told_and_nothing_that_is_kept_is_lost_or_repeated`).
//! - What the bus delivers twice is dropped by id and payload, as far as this value remembers
//!   (`what_the_bus_delivers_twice_is_dropped`). By both: a publisher may give one id to many events.
//! - More is asked for when what came is handed over; nothing is dropped for want of room.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use xxhash_rust::xxh3::Xxh3;

use crate::domain::{
    Capture, ControlRecord, EventBatch, Notice, NoticeKind, PlatformEvent, Position, ReplayId, Stamp, State,
};
use crate::error::Kind;
use crate::salesforce::pubsub::{
    MOST_OUTSTANDING, PlatformSchema, PubSub, RawEvent, Received, Start, Subscription, platform_topic,
};
use crate::{Error, Result};

/// Everything that was published so long before a sign of life was in the stream before it.
const BEHIND_A_SIGN: Duration = Duration::from_secs(10);
/// Events of one moment may come in two messages.
const BEHIND_AN_EVENT: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The delivery allowance is a rolling day: asking more often would not help.
const LIMIT_PAUSE: Duration = Duration::from_secs(10 * 60);
/// A stream that has stood for so long without a word is at its end: Salesforce promises a sign of life every 270 s.
const LONGEST_QUIET: Duration = Duration::from_secs(300);
/// A day's deliveries of the largest editions; about 2 MB.
const MOST_REMEMBERED: usize = 50_000;

const REFUSED: &str = "what the bus still keeps is read; keep interruptions below 72 hours, for nobody can read older events again";

/// What a step came to.
#[derive(Debug)]
pub enum EventStep {
    /// Events of this schema come next: see that they can be published, then [`EventCapture::admit`] it.
    Schema(Arc<PlatformSchema>),
    /// To be published. `at_end`: when this came nothing else was there.
    Batch { batch: EventBatch, at_end: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin {
    /// Behind what was taken, if anything was.
    Behind,
    /// The position was refused.
    Earliest,
}

/// A message that was received and is not handed over yet.
struct Message {
    latest: Option<ReplayId>,
    received_at: Stamp,
    waiting: VecDeque<RawEvent>,
    events: Vec<PlatformEvent>,
    repeated: u64,
    is_sign_of_life: bool,
}

pub struct EventCapture {
    pubsub: PubSub,
    event: Arc<str>,
    topic: String,
    position: Position,
    /// The run ends by itself: silence is bounded.
    ends: bool,
    stream: Option<Subscription>,
    begin: Begin,
    /// Behind everything that was taken from the stream.
    taken_to: Option<ReplayId>,
    message: Option<Message>,
    admitted: HashSet<String>,
    recent: Recent,
    notices: Vec<Notice>,
    longest_quiet: Duration,
    /// The last word or error.
    quiet_since: Instant,
    pause: Duration,
    is_retry: bool,
}

impl EventCapture {
    /// `position` as the control partition holds it. `ends`: the run is to end when the stream is at its end.
    pub fn new(pubsub: &PubSub, event: &Arc<str>, position: Option<Position>, ends: bool) -> Self {
        let position = position.unwrap_or_else(|| Position::new(event));
        let position = Position { state: State::Live, capture: Capture::Subscribe, ..position };
        Self {
            pubsub: pubsub.clone(),
            event: event.clone(),
            topic: platform_topic(event),
            taken_to: position.replay_id.clone(),
            position,
            ends,
            stream: None,
            begin: Begin::Behind,
            message: None,
            admitted: HashSet::new(),
            recent: Recent::default(),
            notices: Vec::new(),
            longest_quiet: LONGEST_QUIET,
            quiet_since: Instant::now(),
            pause: FIRST_PAUSE,
            is_retry: false,
        }
    }

    /// The same with less patience for silence.
    #[cfg(test)]
    pub(super) fn with_longest_quiet(self, longest_quiet: Duration) -> Self {
        Self { longest_quiet, ..self }
    }

    pub fn position(&self) -> &Position {
        &self.position
    }

    /// Events of this schema can be published.
    pub fn admit(&mut self, schema: &PlatformSchema) {
        self.admitted.insert(schema.id().to_owned());
    }

    /// Registry ids, to stand in the position from the next batch on.
    pub fn set_schema_ids(&mut self, ids: serde_json::Map<String, serde_json::Value>) {
        self.position.schema_ids = ids;
    }

    /// The next step. After an error it may be called again: nothing that was received is lost. What the last batch
    /// held counts as handed over when it is called.
    pub async fn next(&mut self) -> Result<EventStep> {
        loop {
            if !self.notices.is_empty() {
                // The position stays: should this be all that is committed, the next start is told the same again.
                return Ok(self.step(Vec::new(), 0, Vec::new(), false));
            }
            if let Some(message) = self.message.take() {
                return self.take_in(message).await;
            }
            let Some(stream) = &mut self.stream else {
                self.open().await?;
                continue;
            };
            stream.ask(MOST_OUTSTANDING);
            let received = match self.ends {
                true => match timeout_at(self.quiet_since + self.longest_quiet, stream.next()).await {
                    Ok(received) => received,
                    Err(_) => {
                        let seconds = self.longest_quiet.as_secs();
                        tracing::info!(event = %self.event, seconds, "not a word for so long: the stream counts as at its end");
                        return Ok(self.step(Vec::new(), 0, Vec::new(), true));
                    }
                },
                false => stream.next().await,
            };
            match received {
                Ok(Some(message)) => self.receive(message),
                // In order: nothing was asked for for a while, or the server ends its own stream.
                Ok(None) => self.stream = None,
                Err(error) => self.closed(error)?,
            }
        }
    }

    async fn open(&mut self) -> Result<()> {
        if self.is_retry {
            sleep(self.pause).await;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
        self.is_retry = true;
        let start = match (&self.taken_to, self.begin) {
            (Some(id), Begin::Behind) => Start::After(id.clone()),
            _ => Start::Earliest,
        };
        tracing::debug!(event = %self.event, ?start, "subscribing");
        match self.pubsub.subscribe(&self.topic, start).await {
            Ok(stream) => {
                self.stream = Some(stream);
                Ok(())
            }
            Err(error) => self.closed(error),
        }
    }

    /// What a stream's end with an error means; the error itself, if it means nothing but to try again.
    fn closed(&mut self, error: Error) -> Result<()> {
        self.stream = None;
        self.quiet_since = Instant::now();
        let begun_behind_an_id = self.begin == Begin::Behind && self.taken_to.is_some();
        match error.kind() {
            Kind::ReplayIdExpired if begun_behind_an_id => {
                tracing::warn!(event = %self.event, code = error.kind().code(), %error, hint = REFUSED, "the position is refused: reading from the oldest event that is kept");
                let kind = NoticeKind::EventsMissed { reason: "replay-id", from: self.position.committed_to };
                self.notices.push(Notice { object: self.event.clone(), kind });
                self.begin = Begin::Earliest;
                self.is_retry = false;
                Ok(())
            }
            Kind::EventsLimitReached if !self.ends => {
                (self.pause, self.is_retry) = (LIMIT_PAUSE, true);
                Err(error)
            }
            _ => Err(error),
        }
    }

    fn receive(&mut self, message: Received) {
        self.quiet_since = Instant::now();
        self.pause = FIRST_PAUSE;
        self.is_retry = false;
        if let Some(latest) = &message.latest {
            self.taken_to = Some(latest.clone());
            self.begin = Begin::Behind;
        }
        self.message = Some(Message {
            is_sign_of_life: message.events.is_empty(),
            latest: message.latest,
            received_at: message.received_at,
            waiting: message.events.into(),
            events: Vec::new(),
            repeated: 0,
        });
    }

    /// Reads the message's events; a schema that is met for the first time interrupts it.
    async fn take_in(&mut self, mut message: Message) -> Result<EventStep> {
        while let Some(next) = message.waiting.front() {
            let schema = match self.pubsub.platform_schema(&next.schema_id).await {
                Ok(schema) if !self.admitted.contains(schema.id()) => {
                    self.message = Some(message);
                    return Ok(EventStep::Schema(schema));
                }
                Ok(schema) => Ok(schema),
                // Nobody will ever read it. Its bytes are kept with the reason.
                Err(error) if error.kind() == Kind::EventUnreadable => Err(error),
                Err(error) => {
                    self.message = Some(message);
                    return Err(error.during(format_args!("events of {}", self.event)));
                }
            };
            let Some(raw) = message.waiting.pop_front() else { break };
            if !self.recent.remember(&raw) {
                message.repeated += 1;
                continue;
            }
            message.events.push(match schema {
                Ok(schema) => schema.read(raw),
                Err(error) => PlatformSchema::unread(raw, error),
            });
        }
        if message.repeated > 0 {
            tracing::debug!(event = %self.event, repeated = message.repeated, "events that were delivered again were dropped");
        }
        self.reach(&message);
        let control = ControlRecord { key: Position::key(&self.event), value: Some(self.position.encode()) };
        let at_end = message.is_sign_of_life;
        Ok(self.step(message.events, message.repeated, vec![control], at_end))
    }

    /// The position behind this message.
    fn reach(&mut self, message: &Message) {
        let committed_to = if message.is_sign_of_life {
            Some(message.received_at.minus(BEHIND_A_SIGN))
        } else {
            // Publishers may set it as they like, but nothing is published in the future.
            let created = message.events.iter().filter_map(|event| event.created_at.as_ref().ok());
            let newest = created.max().map(|newest| (*newest).min(message.received_at).max(Stamp(0)));
            newest.map(|newest| newest.minus(BEHIND_AN_EVENT))
        };
        let position = &mut self.position;
        position.replay_id = message.latest.clone().or(position.replay_id.take());
        position.committed_to = position.committed_to.max(committed_to);
        position.updated_at = self.pubsub.client().server_time();
    }

    fn step(
        &mut self,
        events: Vec<PlatformEvent>,
        repeated: u64,
        control: Vec<ControlRecord>,
        at_end: bool,
    ) -> EventStep {
        let notices = std::mem::take(&mut self.notices);
        let batch = EventBatch { event: self.event.clone(), events, repeated, notices, control };
        EventStep::Batch { batch, at_end }
    }
}

/// Which events were taken lately.
#[derive(Default)]
struct Recent {
    known: HashSet<u128>,
    order: VecDeque<u128>,
}

impl Recent {
    /// Whether it is new.
    fn remember(&mut self, event: &RawEvent) -> bool {
        let mut hash = Xxh3::new();
        for part in [event.event_id.as_bytes(), event.schema_id.as_bytes(), &event.payload] {
            hash.update(&part.len().to_le_bytes());
            hash.update(part);
        }
        let hash = hash.digest128();
        if !self.known.insert(hash) {
            return false;
        }
        self.order.push_back(hash);
        if self.order.len() > MOST_REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}
