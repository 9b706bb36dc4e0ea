//! A subscription while it lasts: flow control, keepalives, the idle limit, and every way to end (pubsub.md 1.5, 1.6).
//!
//! Comes in: fetch requests, the bus. Goes out: responses in the order of positions, each with what is still asked
//! for. Never: an event that was not asked for, nor one that was passed over.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::{Status, Streaming};

use super::bus::Entry;
use super::encode::{Datum, Header, field_bytes, spans};
use super::eventbus::{ConsumerEvent, FetchRequest, FetchResponse, ProducerEvent, ReplayPreset};
use super::faults::Action;
use super::link::{Ending, Exit};
use super::service::{Entrance, find_topic, status};
use super::topic::Topic;
use super::{Events, capture, refusal};
use crate::http::{Server, lock};

/// A response of several events stays below this.
const MOST_RESPONSE_BYTES: usize = 3 * 1024 * 1024;

/// Where a subscription begins.
pub(super) struct Start {
    pub topic: Topic,
    pub position: Position,
    pub requested: i32,
}

pub(super) enum Position {
    Latest,
    /// Behind this one.
    Behind(u64),
}

/// What one response says.
pub(super) struct Batch {
    pub events: Vec<ConsumerEvent>,
    pub latest_replay_id: Vec<u8>,
    pub rpc_id: String,
    pub pending: i32,
}

/// Subscribe and ManagedSubscribe, as far as they differ.
pub(super) trait Rpc: Send + 'static {
    const NAME: &'static str;
    type Ask: Send;
    type Answer: Send + 'static;

    fn server(&self) -> &Arc<Server>;
    fn first(&mut self, ask: &Self::Ask, rpc_id: &str) -> Result<Start, Status>;
    /// How many more events are asked for.
    fn later(&mut self, ask: &Self::Ask, topic: &Topic, rpc_id: &str) -> Result<i32, Status>;
    /// Something is to be answered though there is no event.
    fn has_news(&self) -> bool;
    fn answer(&mut self, batch: Batch) -> Self::Answer;
}

pub(super) struct Subscribe {
    server: Arc<Server>,
}

impl Subscribe {
    pub fn new(server: Arc<Server>) -> Self {
        Self { server }
    }
}

pub(super) fn requested(count: i32, rpc_id: &str) -> Result<i32, Status> {
    if count > 0 {
        return Ok(count);
    }
    let message = "The number of requested events must be greater than 0.";
    Err(refusal::invalid("subscription.fetch.requested.events.invalid", message, rpc_id))
}

impl Rpc for Subscribe {
    const NAME: &'static str = "Subscribe";
    type Ask = FetchRequest;
    type Answer = FetchResponse;

    fn server(&self) -> &Arc<Server> {
        &self.server
    }

    fn first(&mut self, ask: &FetchRequest, rpc_id: &str) -> Result<Start, Status> {
        let topic = find_topic(&self.server, &ask.topic_name, rpc_id)?;
        let requested = requested(ask.num_requested, rpc_id)?;
        let bus = &self.server.events.bus;
        let position = match ReplayPreset::try_from(ask.replay_preset) {
            Ok(ReplayPreset::Latest) => Position::Latest,
            Ok(ReplayPreset::Earliest) => Position::Behind(bus.oldest()),
            Ok(ReplayPreset::Custom) if ask.replay_id.is_empty() => {
                let message = "The Replay ID can't be empty with the CUSTOM replay preset.";
                let code = "subscription.fetch.replayid.validation.failed";
                return Err(refusal::invalid(code, message, rpc_id));
            }
            Ok(ReplayPreset::Custom) => {
                let position = bus.position(&ask.replay_id);
                Position::Behind(position.ok_or_else(|| refusal::replay_id_corrupted(rpc_id))?)
            }
            Err(_) => {
                let message = "The replay preset isn't valid.";
                return Err(refusal::invalid("subscription.fetch.request.invalid", message, rpc_id));
            }
        };
        Ok(Start { topic, position, requested })
    }

    fn later(&mut self, ask: &FetchRequest, topic: &Topic, rpc_id: &str) -> Result<i32, Status> {
        if !ask.topic_name.is_empty() && ask.topic_name != topic.name() {
            let message = "The topic name must be the same in all requests of a stream.";
            return Err(refusal::invalid("subscription.fetch.topic.mismatch", message, rpc_id));
        }
        requested(ask.num_requested, rpc_id)
    }

    fn has_news(&self) -> bool {
        false
    }

    fn answer(&mut self, batch: Batch) -> FetchResponse {
        FetchResponse {
            events: batch.events,
            latest_replay_id: batch.latest_replay_id,
            rpc_id: batch.rpc_id,
            pending_num_requested: batch.pending,
        }
    }
}

/// Counts an open stream as long as it lives.
pub(super) struct Counted {
    events: Arc<Events>,
    standing: bool,
}

impl Counted {
    pub fn new(events: &Arc<Events>) -> Self {
        events.meter.open_streams.fetch_add(1, Ordering::AcqRel);
        events.meter.streams.fetch_add(1, Ordering::Relaxed);
        Self { events: Arc::clone(events), standing: false }
    }

    /// A stream without a position.
    pub fn standing(events: &Arc<Events>) -> Self {
        let mut counted = Counted::new(events);
        counted.stands();
        counted
    }

    /// Its position is known: no later event is missed.
    fn stands(&mut self) {
        self.standing = true;
        self.events.meter.standing_streams.fetch_add(1, Ordering::AcqRel);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if self.standing {
            self.events.meter.standing_streams.fetch_sub(1, Ordering::AcqRel);
        }
        self.events.meter.open_streams.fetch_sub(1, Ordering::AcqRel);
    }
}

/// GOAWAY, and the end of the connection after the grace.
pub(super) fn send_away(exit: &Arc<Exit>, grace_millis: u64) {
    exit.link.send_away();
    let link = Arc::clone(&exit.link);
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(grace_millis)).await;
        link.close();
    });
}

/// The stream's task: ends when the stream does.
pub(super) async fn run<R: Rpc>(
    mut rpc: R,
    mut requests: Streaming<R::Ask>,
    answers: mpsc::Sender<Result<R::Answer, Status>>,
    entrance: Entrance,
    mut counted: Counted,
) {
    let events = Arc::clone(&rpc.server().events);
    let first = tokio::select! {
        first = requests.message() => first,
        // Whoever opens a stream and asks for nothing is idle too.
        () = tokio::time::sleep(events.habits().idle) => return,
        () = answers.closed() => return,
    };
    let Ok(Some(ask)) = first else { return };
    let start = match rpc.first(&ask, &entrance.rpc_id) {
        Ok(start) => start,
        Err(refusal) => return end(&answers, refusal).await,
    };
    if let Some(action) = events.faults.on_call(R::NAME, &start.topic.name()) {
        let flow = Flow::new(&events, start, entrance);
        flow.leave(action, &answers).await;
        return;
    }
    let delay = events.habits().latest_delay;
    if matches!(start.position, Position::Latest) && !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    let flow = Flow::new(&events, start, entrance);
    counted.stands();
    flow.run(&mut rpc, &mut requests, &answers).await;
}

async fn end<T>(answers: &mpsc::Sender<Result<T, Status>>, refusal: Status) {
    // Nobody may listen any more.
    let _ = answers.send(Err(refusal)).await;
}

struct Flow {
    events: Arc<Events>,
    topic: Topic,
    name: String,
    /// Everything up to here was read.
    cursor: u64,
    outstanding: i32,
    /// Everything up to here was delivered.
    told: u64,
    /// GOAWAY was sent: faults that come later meet other connections.
    away: bool,
    /// Read, not delivered: with their positions.
    queue: VecDeque<(u64, ConsumerEvent)>,
    last_response: Instant,
    rpc_id: String,
    exit: Option<Arc<Exit>>,
}

/// What came of an attempt to deliver.
enum Delivered {
    Some,
    Nothing,
    /// The stream is over.
    Over,
}

impl Flow {
    fn new(events: &Arc<Events>, start: Start, entrance: Entrance) -> Flow {
        let cursor = match start.position {
            Position::Latest => events.bus.newest(),
            Position::Behind(position) => position,
        };
        Flow {
            name: start.topic.name(),
            topic: start.topic,
            cursor,
            told: cursor,
            away: false,
            outstanding: start.requested.min(events.habits().cap),
            queue: VecDeque::new(),
            last_response: Instant::now(),
            rpc_id: entrance.rpc_id,
            exit: entrance.exit,
            events: Arc::clone(events),
        }
    }

    async fn run<R: Rpc>(
        mut self,
        rpc: &mut R,
        requests: &mut Streaming<R::Ask>,
        answers: &mpsc::Sender<Result<R::Answer, Status>>,
    ) {
        let (mut tail, mut faults) = (self.events.bus.tail(), self.events.faults.changes());
        let mut open = true;
        loop {
            // What comes from here on wakes it again.
            tail.borrow_and_update();
            faults.borrow_and_update();
            if self.events.is_gone(&self.topic) {
                let refusal = refusal::topic_not_found(&self.events.tenant(), &self.name, &self.rpc_id);
                return end(answers, refusal).await;
            }
            let fault = if self.away { None } else { self.events.faults.due(R::NAME, &self.name) };
            if let Some(action) = fault {
                if self.leave(action, answers).await {
                    return;
                }
                self.away = true;
            }
            match self.deliver(rpc, answers).await {
                Delivered::Some => continue,
                Delivered::Over => return,
                Delivered::Nothing => {}
            }
            if !open && self.outstanding == 0 {
                return;
            }
            let habits = self.events.habits();
            let patience = if self.outstanding > 0 { habits.keepalive } else { habits.idle };
            tokio::select! {
                ask = requests.message(), if open => match ask {
                    Ok(Some(ask)) => match rpc.later(&ask, &self.topic, &self.rpc_id) {
                        Ok(more) => {
                            self.outstanding = self.outstanding.saturating_add(more).min(habits.cap);
                            if self.outstanding == 0 {
                                self.last_response = Instant::now();
                            }
                        }
                        Err(refusal) => return end(answers, refusal).await,
                    },
                    Ok(None) => open = false,
                    Err(_) => return,
                },
                _ = tail.changed(), if self.outstanding > 0 => {}
                _ = faults.changed() => {}
                () = tokio::time::sleep_until(self.last_response + patience) => {
                    if self.outstanding == 0 {
                        // Status OK (pubsub.md 1.6).
                        return;
                    }
                    if let Some(position) = self.events.bus.mark(self.cursor) {
                        self.cursor = position;
                        self.events.meter.keepalives.fetch_add(1, Ordering::Relaxed);
                        if !self.send(rpc, answers, Vec::new(), position).await {
                            return;
                        }
                    }
                }
                () = answers.closed() => return,
            }
        }
    }

    /// One response, if there is something to send and it was asked for.
    async fn deliver<R: Rpc>(
        &mut self,
        rpc: &mut R,
        answers: &mpsc::Sender<Result<R::Answer, Status>>,
    ) -> Delivered {
        let habits = self.events.habits();
        let faults = Some(&self.events.faults).filter(|_| !self.away);
        let room = faults.and_then(|faults| faults.room(R::NAME, &self.name)).unwrap_or(u64::MAX);
        let wanted = usize::try_from(self.outstanding).unwrap_or(0).min(habits.events_per_response.max(1));
        let wanted = wanted.min(usize::try_from(room).unwrap_or(usize::MAX));
        if wanted > 0 && self.queue.is_empty() {
            let hidden = rpc.server().settings().hidden_objects;
            let bus = &self.events.bus;
            let found = bus.read(&self.topic, &hidden, self.cursor, wanted, MOST_RESPONSE_BYTES);
            self.cursor = found.through;
            for entry in &found.entries {
                self.queue.extend(self.events.expand(entry, &self.topic).map(|event| (entry.number, event)));
            }
        }
        if wanted == 0 || self.queue.is_empty() {
            if rpc.has_news() {
                let told = if self.queue.is_empty() { self.cursor } else { self.told };
                let sent = self.send(rpc, answers, Vec::new(), told).await;
                return if sent { Delivered::Some } else { Delivered::Over };
            }
            return Delivered::Nothing;
        }
        let used = self.events.meter.used.load(Ordering::Relaxed);
        let left = usize::try_from(habits.delivery_limit.saturating_sub(used)).unwrap_or(usize::MAX);
        if left == 0 {
            end(answers, refusal::limit_exceeded(&self.rpc_id)).await;
            return Delivered::Over;
        }
        let count = self.queue.len().min(wanted).min(left);
        let (mut batch, mut latest) = (Vec::with_capacity(count), self.cursor);
        for (number, event) in self.queue.drain(..count) {
            latest = number;
            batch.push(event);
        }
        self.outstanding -= i32::try_from(count).unwrap_or(i32::MAX);
        self.events.meter.used.fetch_add(count as u64, Ordering::Relaxed);
        self.events.meter.delivered.fetch_add(count as u64, Ordering::Relaxed);
        if !self.send(rpc, answers, batch, latest).await {
            return Delivered::Over;
        }
        self.events.faults.passed(R::NAME, &self.name, count as u64);
        Delivered::Some
    }

    async fn send<R: Rpc>(
        &mut self,
        rpc: &mut R,
        answers: &mpsc::Sender<Result<R::Answer, Status>>,
        events: Vec<ConsumerEvent>,
        latest: u64,
    ) -> bool {
        let batch = Batch {
            events,
            latest_replay_id: self.events.bus.replay_id(latest),
            rpc_id: self.rpc_id.clone(),
            pending: self.outstanding,
        };
        self.told = latest;
        let sent = answers.send(Ok(rpc.answer(batch))).await.is_ok();
        self.last_response = Instant::now();
        sent
    }

    /// Ends the stream as ordered; false if it goes on for a while.
    async fn leave<T>(&self, action: Action, answers: &mpsc::Sender<Result<T, Status>>) -> bool {
        let ending = match action {
            Action::End => return true,
            Action::Status { code, error_code, message } => {
                end(answers, status(&code, error_code, message, &self.rpc_id)).await;
                return true;
            }
            Action::GoAway { grace_millis } => {
                if let Some(exit) = &self.exit {
                    send_away(exit, grace_millis);
                }
                return false;
            }
            Action::Reset { code } => Ending::Reset(code),
            Action::Close => Ending::Close,
            Action::Silence => Ending::Silence,
        };
        if let Some(exit) = &self.exit {
            exit.leave(ending);
        }
        // The body ends it, behind what is on its way.
        answers.closed().await;
        true
    }
}

impl Events {
    /// An event as a topic's subscribers get it: on an enriched channel one for each record.
    fn expand(&self, entry: &Entry, topic: &Topic) -> std::vec::IntoIter<ConsumerEvent> {
        let enriched = match (topic, &entry.change) {
            (Topic::Channel(channel), Some(change)) => {
                let channels = lock(&self.channels);
                let member =
                    channels.channel(channel).and_then(|known| known.members.get(&*entry.schema.object));
                member
                    .map(|member| member.enriched.clone())
                    .filter(|fields| !fields.is_empty())
                    .zip(Some(change))
            }
            _ => None,
        };
        let event = |payload: Vec<u8>| ConsumerEvent {
            event: Some(ProducerEvent {
                id: entry.event_id.clone(),
                schema_id: entry.schema_id.to_string(),
                payload,
                headers: Vec::new(),
            }),
            replay_id: self.bus.replay_id(entry.number),
        };
        let plain = || vec![event(entry.payload.to_vec())].into_iter();
        let Some((fields, change)) = enriched else { return plain() };
        if !matches!(change.header.change_type, capture::UPDATE | capture::DELETE) {
            return plain();
        }
        let body = entry.payload.get(change.body_at..).unwrap_or_default();
        let Some(spans) = spans(&entry.schema, body) else { return plain() };
        let snapshot = self.org.snapshot();
        let copies: Vec<ConsumerEvent> = change
            .ids
            .iter()
            .map(|id| {
                let header = Header { record_ids: vec![id.as_str().to_owned()], ..change.header.clone() };
                let mut payload = Vec::with_capacity(entry.payload.len() + 64);
                header.write(&mut payload);
                let row = snapshot.row(&entry.schema.object, *id, true).ok().flatten();
                for (at, (field, span)) in entry.schema.fields.iter().zip(&spans).enumerate() {
                    let bytes = body.get(span.clone()).unwrap_or_default();
                    let wanted = !change.changed.contains(&(at + 1))
                        && fields.iter().any(|name| name.eq_ignore_ascii_case(&field.name));
                    match row.as_ref().filter(|_| wanted) {
                        // As it is at delivery, not as it was (pubsub.md 2.4).
                        Some(row) => payload.extend(field_bytes(field, &Datum::of_field(field, row))),
                        None => payload.extend_from_slice(bytes),
                    }
                }
                event(payload)
            })
            .collect();
        copies.into_iter()
    }
}
