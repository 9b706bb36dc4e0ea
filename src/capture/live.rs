//! Following an object by its change events: the stream, and what waits between it and the sequencer.
//!
//! Comes in: messages of one topic, in the order of the stream. Goes out: changes in the same order, and how far they go: a
//! position is named only when everything up to it was handed over, and at the end of a message. Events that cannot
//! say all that is wanted of a record wait together for one reading of their records. Salesforce is asked for more only
//! while there is room. A stream that ends is opened again behind the last message that was taken; whether something
//! was lost, and what to do about it, is decided in `object`.

mod turn;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::event::{EventBody, EventKind, EventRecord, Seen, event_hash};
use super::ledger::RecordId;
use super::misfit::Doubts;
use super::reading::read_records;
use super::sequencer::{Sequenced, Sequencer};
use crate::domain::{Detail, ObjectDescription, ReplayId, Source, Stamp};
use crate::error::Kind;
use crate::salesforce::pubsub::{
    ChangeEvent, ChangeKind, EventPlan, MOST_OUTSTANDING, PubSub, RawEvent, Received, Start, Subscription,
    change_topic,
};
use crate::salesforce::{Client, Purpose};
use crate::{Error, Result};

/// Records that may wait before no more events are asked for; also the most that one call reads again.
const MOST_WAITING: usize = 2_000;
/// Everything that was committed so long before a sign of life was in the stream before it.
const BEHIND_A_SIGN: Duration = Duration::from_secs(10);
/// About 25 MB of ledger.
const MOST_AHEAD: usize = 250_000;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The delivery allowance is a rolling day: asking more often would not help.
const LIMIT_PAUSE: Duration = Duration::from_secs(10 * 60);

#[derive(Clone, Debug)]
pub struct LiveSettings {
    pub pubsub: PubSub,
    /// `after: full`: every change is published with its whole record.
    pub whole: bool,
    /// `capture: subscribe`: a topic that refuses us is an error, not a reason to poll.
    pub required: bool,
    /// How long events wait for company before their records are read.
    pub refetch_wait: Duration,
    /// How long a new stream stands before what was published before it is read: its first seconds may be missed
    /// (`pubsub.md` 1.7).
    pub stands_after: Duration,
    /// So long the stream may be away before changes are polled for.
    pub patience: Duration,
    /// How long to wait at most before the stream is opened again.
    pub longest_pause: Duration,
    /// What a record must fit to be published; Salesforce is asked for each that an event names. Wants whole records: of one
    /// that comes to fit an event alone brings only what changed.
    pub condition: Option<String>,
    /// So many records are remembered while polls are ahead of a stream that is away; with more the next one begins anew.
    pub most_ahead: usize,
}

impl LiveSettings {
    pub fn new(pubsub: PubSub) -> Self {
        Self {
            pubsub,
            whole: true,
            required: false,
            refetch_wait: Duration::from_secs(1),
            stands_after: Duration::from_secs(5),
            patience: Duration::from_secs(5),
            longest_pause: Duration::from_secs(30),
            condition: None,
            most_ahead: MOST_AHEAD,
        }
    }
}

/// What a stretch of the stream cannot tell by records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Too many changes in one transaction, or an event that cannot be read: from this moment on.
    Stretch { reason: &'static str, from: Option<Stamp> },
    /// A change of all records that moved no stamp.
    AllRecords,
}

enum Waiting {
    Record(EventRecord),
    /// The event says only that something happened.
    Reread {
        id: RecordId,
        at: Stamp,
    },
    Lost(Lost),
    /// The end of a message.
    Mark {
        latest: Option<ReplayId>,
        committed_to: Option<Stamp>,
    },
}

/// What was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Something was taken in, or what waits is due, or the stream ended in order.
    Something,
    /// The stream was opened. `anew`: at its newest end, so that nothing before `before` will come.
    Opened { anew: bool, before: Stamp },
    /// The next event has another schema than those before: the object must be described again first.
    OtherSchema,
}

/// A stream on its way.
struct Opening {
    anew: bool,
    task: AbortOnDropHandle<Result<(Subscription, Stamp)>>,
}

/// What a flush came to.
#[derive(Default)]
pub struct Flushed {
    pub latest: Option<ReplayId>,
    /// Everything committed up to here was handed over.
    pub committed_to: Option<Stamp>,
    pub lost: Vec<Lost>,
    pub reread: u64,
    pub folded: u64,
    /// The object looks different by now, and nothing was handed over.
    pub doubtful: bool,
}

pub struct Live {
    settings: LiveSettings,
    topic: String,
    stream: Option<Subscription>,
    opening: Option<Opening>,
    /// When the stream was opened.
    opened_at: Instant,
    /// Behind everything that was taken from the stream.
    taken_to: Option<ReplayId>,
    /// Messages that were received and not decoded yet.
    inbox: VecDeque<RawEvent>,
    /// The message they belong to.
    message: Option<(Option<ReplayId>, Stamp, bool)>,
    newest_commit: Option<Stamp>,
    waiting: VecDeque<Waiting>,
    records: usize,
    waiting_since: Option<Instant>,
    /// How long events wait for company: longer where calls for their records are short.
    refetch_wait: Duration,
    plan: Option<EventPlan>,
    /// The schema of the last event; the object was described since it first came.
    schema_id: Option<String>,
    retry_at: Instant,
    pause: Duration,
    down_since: Option<Instant>,
    /// The topic refuses us: polling goes on until somebody looks again.
    limited: bool,
}

impl Live {
    pub fn new(settings: LiveSettings, object: &ObjectDescription) -> Self {
        let now = Instant::now();
        Self {
            refetch_wait: settings.refetch_wait,
            settings,
            topic: change_topic(&object.name),
            stream: None,
            opening: None,
            opened_at: now,
            taken_to: None,
            inbox: VecDeque::new(),
            message: None,
            newest_commit: None,
            waiting: VecDeque::new(),
            records: 0,
            waiting_since: None,
            plan: None,
            schema_id: None,
            retry_at: now,
            pause: FIRST_PAUSE,
            down_since: Some(now),
            limited: false,
        }
    }

    /// Whether polling will not do instead.
    pub fn is_required(&self) -> bool {
        self.settings.required
    }

    /// Whether every change goes out with its whole record.
    pub fn is_whole(&self) -> bool {
        self.settings.whole
    }

    pub fn stands(&self) -> bool {
        self.stream.is_some()
    }

    /// From when on the stream counts as standing, if it is open.
    pub fn stands_from(&self) -> Option<Instant> {
        self.stream.as_ref().map(|_| self.opened_at + self.settings.stands_after)
    }

    /// Nothing that is published now is missed by it.
    pub fn stands_firm(&self) -> bool {
        self.stands_from().is_some_and(|from| from <= Instant::now())
    }

    /// Whether it is time to open the stream.
    pub fn is_due(&self) -> bool {
        self.stream.is_none()
            && self.opening.is_none()
            && self.inbox.is_empty()
            && self.retry_at <= Instant::now()
    }

    /// When to try again, while the stream is away.
    pub fn retry_at(&self) -> Option<Instant> {
        (self.stream.is_none() && self.opening.is_none()).then_some(self.retry_at)
    }

    /// Whether the stream has been away for so long that changes must be found without it; when that will be.
    pub fn missed_at(&self) -> Option<Instant> {
        let since = self.down_since.filter(|_| self.stream.is_none())?;
        Some(if self.limited { since } else { since + self.settings.patience })
    }

    /// Begins to open the stream behind what was taken, or behind `stored`, or where it is now. It may take long, and
    /// nothing waits for it: [`Self::hear`] tells.
    pub fn open(&mut self, client: &Client, stored: Option<&ReplayId>) {
        let start = match self.taken_to.as_ref().or(stored) {
            Some(id) => Start::After(id.clone()),
            None => Start::Latest,
        };
        let anew = start == Start::Latest;
        let (client, pubsub, topic) = (client.clone(), self.settings.pubsub.clone(), self.topic.clone());
        let task = tokio::spawn(async move {
            // Before the stream stands: what is committed from here on is in it, or in a window from here.
            let before = client.fetch_server_time().await?.floor_second();
            Ok((pubsub.subscribe(&topic, start).await?, before))
        });
        self.opening = Some(Opening { anew, task: AbortOnDropHandle::new(task) });
    }

    /// Whether polls are too many records ahead of a stream that is away. If so, what it missed will not be asked for:
    /// the next one begins at its newest end.
    pub fn begins_anew_beyond(&mut self, ahead: usize) -> bool {
        let too_far = self.stream.is_none() && ahead > self.settings.most_ahead;
        if too_far {
            (self.taken_to, self.opening) = (None, None);
        }
        too_far
    }

    fn closed(&mut self, error: &Error) {
        self.stream = None;
        self.down_since.get_or_insert_with(Instant::now);
        self.limited = error.kind() == Kind::EventsLimitReached;
        let pause = if self.limited { LIMIT_PAUSE } else { self.pause };
        self.retry_at = Instant::now() + pause;
        self.pause = (self.pause * 2).min(self.settings.longest_pause);
        if error.kind() == Kind::ReplayIdExpired {
            // Behind which nothing can be had: the next stream begins anew, at once.
            self.taken_to = None;
            self.retry_at = Instant::now();
        }
    }

    /// The next message, taken in; or the time at which what waits must go. An error closed the stream; what was
    /// taken stays. Without a stream it waits for ever. Safe to drop while waiting.
    pub async fn hear(&mut self, object: &Arc<ObjectDescription>) -> Result<Heard> {
        while let Some(next) = self.inbox.front() {
            if self.schema_id.as_ref() != Some(&next.schema_id) {
                return Ok(Heard::OtherSchema);
            }
            let schema = self.settings.pubsub.schema(&next.schema_id).await?;
            let Some(raw) = self.inbox.pop_front() else { break };
            match schema.decode(raw) {
                Ok(event) => self.take(&event, object),
                Err(error) => {
                    tracing::warn!(topic = self.topic, code = error.kind().code(), %error, "an event cannot be read");
                    self.push(Waiting::Lost(Lost::Stretch {
                        reason: "unreadable",
                        from: self.newest_commit,
                    }));
                }
            }
            if self.inbox.is_empty() {
                self.end_message();
            }
        }
        let due = self.flush_at();
        let due = async {
            match due {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        if let Some(opening) = &mut self.opening {
            let opened = tokio::select! {
                biased;
                () = due => return Ok(Heard::Something),
                opened = &mut opening.task => opened,
            };
            let anew = opening.anew;
            self.opening = None;
            let opened = opened
                .unwrap_or_else(|error| Err(Error::new(Kind::Internal, "a task broke down").source(error)));
            return match opened {
                Ok((stream, before)) => {
                    tracing::debug!(topic = self.topic, anew, "subscribed");
                    self.stream = Some(stream);
                    self.opened_at = Instant::now();
                    Ok(Heard::Opened { anew, before })
                }
                Err(error) => {
                    self.closed(&error);
                    Err(error)
                }
            };
        }
        let Some(stream) = &mut self.stream else {
            due.await;
            return Ok(Heard::Something);
        };
        let received = tokio::select! {
            biased;
            () = due => return Ok(Heard::Something),
            received = stream.next() => received,
        };
        match received {
            Ok(Some(message)) => self.receive(message),
            Ok(None) => {
                // In order: the events that were asked for are through, or the server ends its own stream.
                self.stream = None;
                self.down_since = Some(Instant::now());
                self.retry_at = Instant::now() + self.pause;
                self.pause = (self.pause * 2).min(self.settings.longest_pause);
            }
            Err(error) => {
                self.closed(&error);
                return Err(error);
            }
        }
        Ok(Heard::Something)
    }

    /// The object was described since the next event's schema was seen.
    pub fn described(&mut self) {
        self.schema_id = self.inbox.front().map(|next| next.schema_id.clone()).or(self.schema_id.take());
    }

    /// Whether the next event waits for a description.
    pub fn has_other_schema(&self) -> bool {
        self.inbox.front().is_some_and(|next| self.schema_id.as_ref() != Some(&next.schema_id))
    }

    fn receive(&mut self, message: Received) {
        self.pause = FIRST_PAUSE;
        self.down_since = None;
        self.limited = false;
        let empty = message.events.is_empty();
        self.taken_to = message.latest.clone().or(self.taken_to.take());
        self.message = Some((message.latest, message.received_at, empty));
        self.inbox.extend(message.events);
        if empty {
            self.end_message();
        }
    }

    fn end_message(&mut self) {
        let Some((latest, received_at, empty)) = self.message.take() else { return };
        let committed_to = if empty {
            Some(received_at.minus(BEHIND_A_SIGN))
        } else {
            // The stream goes by the order of commits; more of the last second may come.
            self.newest_commit.map(|newest| newest.minus(Duration::from_secs(1)))
        };
        self.push(Waiting::Mark { latest, committed_to });
        self.ask();
    }

    /// For more events, while there is room.
    fn ask(&mut self) {
        if self.records < MOST_WAITING
            && let Some(stream) = &mut self.stream
        {
            stream.ask(MOST_OUTSTANDING);
        }
    }

    fn push(&mut self, waiting: Waiting) {
        self.waiting_since.get_or_insert_with(Instant::now);
        if !matches!(waiting, Waiting::Mark { .. }) {
            self.records += 1;
        }
        self.waiting.push_back(waiting);
    }

    fn take(&mut self, event: &ChangeEvent, object: &Arc<ObjectDescription>) {
        self.newest_commit = self.newest_commit.max(Some(event.committed_at));
        if event.concerns_whole_object() {
            let lost = match event.kind {
                ChangeKind::GapOverflow => {
                    Lost::Stretch { reason: "overflow", from: Some(event.committed_at) }
                }
                _ => Lost::AllRecords,
            };
            return self.push(Waiting::Lost(lost));
        }
        let kind = match event.kind {
            ChangeKind::Create => Some(EventKind::Create),
            ChangeKind::Update => Some(EventKind::Update),
            ChangeKind::Delete | ChangeKind::GapDelete => Some(EventKind::Delete),
            ChangeKind::Undelete => Some(EventKind::Undelete),
            _ => None,
        };
        let body = kind.and_then(|kind| match self.body(event, kind, object) {
            Ok(body) => Some(Arc::new(body)),
            Err(error) => {
                tracing::warn!(topic = self.topic, code = error.kind().code(), %error, "an event's records are read instead");
                None
            }
        });
        for id in &event.record_ids {
            let Some(id) = RecordId::new(id.as_bytes()) else {
                self.push(Waiting::Lost(Lost::Stretch {
                    reason: "unreadable",
                    from: Some(event.committed_at),
                }));
                continue;
            };
            let waiting = match &body {
                Some(body) => Waiting::Record(EventRecord {
                    id,
                    hash: event_hash(&event.transaction_key, event.sequence_number, &id),
                    body: body.clone(),
                }),
                None => Waiting::Reread { id, at: event.committed_at },
            };
            self.push(waiting);
        }
    }

    fn body(
        &mut self,
        event: &ChangeEvent,
        kind: EventKind,
        object: &Arc<ObjectDescription>,
    ) -> Result<EventBody> {
        if !self.plan.as_ref().is_some_and(|plan| plan.is_for(event.schema(), object)) {
            self.plan = Some(EventPlan::compile(event.schema(), object));
        }
        let plan = self.plan.as_ref().ok_or_else(|| Error::new(Kind::Internal, "an event without a plan"))?;
        let cells = plan.cells(event)?;
        let saved_at = object
            .field_index("LastModifiedDate")
            .filter(|field| kind != EventKind::Update || cells.changed.contains(*field))
            .and_then(|field| cells.cell(field))
            .and_then(Stamp::parse);
        let text = |text: &str| (!text.is_empty()).then(|| Arc::from(text));
        let detail = Detail {
            source: Source::Subscribe,
            changed: (kind == EventKind::Update).then(|| cells.changed.clone()),
            carried: None,
            transaction: text(&event.transaction_key),
            counter: Some(event.sequence_number),
            stream_position: Some(event.replay_id.to_string().into()),
            commit_user: text(&event.commit_user),
            change_origin: text(&event.change_origin),
        };
        Ok(EventBody { kind, committed_at: event.committed_at, saved_at, cells, detail })
    }

    // ---- what waits ----

    /// When what waits must go.
    pub fn flush_at(&self) -> Option<Instant> {
        let since = self.waiting_since?;
        // Alone by what they say, events need not wait for company.
        let wait = if self.settings.whole && self.records < MOST_WAITING && self.records > 0 {
            self.refetch_wait
        } else {
            Duration::ZERO
        };
        if self.has_other_schema() {
            // What was taken is meant by the description of its time.
            return Some(since);
        }
        // A message in hand is finished first.
        self.inbox.is_empty().then_some(since + wait)
    }

    /// Whether nothing waits that was taken by the object's description.
    pub fn holds_no_events(&self) -> bool {
        !self.waiting.iter().any(|waiting| matches!(waiting, Waiting::Record(_)))
    }

    /// Publishes what waits, up to the end of a message. Safe to drop while it reads: nothing was taken.
    pub async fn flush(
        &mut self,
        client: &Client,
        sequencer: &mut Sequencer,
        doubts: &mut Doubts,
        at_once: Option<usize>,
    ) -> Result<(Sequenced, Flushed)> {
        let (until, more) = self.turn(at_once);
        let (wanted, due) = self.wanted(sequencer, until);
        let condition = self.settings.condition.as_deref();
        let asked_at = client.server_time();
        let read = match read_records(client, sequencer.object(), &wanted, &due, condition).await {
            Ok(read) => read,
            Err(error) => {
                if error.kind() == Kind::FieldUnknown {
                    // By this description nothing that waits can be completed any more.
                    self.read_instead();
                }
                return Err(error);
            }
        };
        self.refetch_wait = client.stretched(Purpose::Refetch, self.settings.refetch_wait);

        let object = sequencer.object().clone();
        let mut out = Sequenced::one_by_one(&object);
        let mut flushed = Flushed::default();
        if read.rows().is_some_and(|rows| doubts.are_raised_by(&object, rows)) {
            self.read_instead();
            return Ok((out, Flushed { doubtful: true, ..flushed }));
        }
        for waiting in self.waiting.drain(..until) {
            match waiting {
                Waiting::Record(record) => {
                    self.records -= 1;
                    let row = read.row(&record.id);
                    let asked = self.settings.condition.is_some();
                    let fits = !asked || (record.body.kind != EventKind::Delete && read.fits(&record.id));
                    match sequencer.seen(&record) {
                        Seen::Never | Seen::Tied if !fits => {
                            sequencer.unfit_event(&mut out, &record, row)?;
                        }
                        Seen::Never => sequencer.event(&mut out, &record, row, asked)?,
                        Seen::Repeated => out.repeated += 1,
                        Seen::Folded => flushed.folded += 1,
                        Seen::Tied => {
                            if sequencer.holds(&record.id, row) {
                                flushed.folded += 1;
                            } else {
                                sequencer.event(&mut out, &record, row, asked)?;
                            }
                        }
                    }
                }
                Waiting::Reread { id, at } => {
                    self.records -= 1;
                    flushed.reread += 1;
                    match read.row(&id) {
                        Some(row) if !read.fits(&id) => {
                            sequencer.unfit_refetched(&mut out, id, row, at, Detail::refetch())?;
                        }
                        // When it went nobody knows, but that it did before it was asked for, or just then.
                        None => drop(sequencer.refetched_gone(&mut out, id, at, at.max(asked_at))?),
                        row => drop(sequencer.refetched(&mut out, id, row, at, Detail::refetch())?),
                    }
                }
                Waiting::Lost(lost) => {
                    self.records -= 1;
                    flushed.lost.push(lost);
                }
                Waiting::Mark { latest, committed_to } => {
                    flushed.latest = latest.or(flushed.latest);
                    flushed.committed_to = flushed.committed_to.max(committed_to);
                }
            }
        }
        if !more {
            self.waiting_since = (!self.waiting.is_empty()).then(Instant::now);
        }
        self.ask();
        Ok((out, flushed))
    }

    /// What waits was taken by a description that no longer holds: its records are to say what the events said.
    fn read_instead(&mut self) {
        for waiting in &mut self.waiting {
            if let Waiting::Record(EventRecord { id, body, .. }) = waiting {
                *waiting = Waiting::Reread { id: *id, at: body.committed_at };
            }
        }
    }

    /// The records that the first of what waits asks for, and the stamps that they must have at least.
    fn wanted(&self, sequencer: &Sequencer, until: usize) -> (Vec<RecordId>, HashMap<RecordId, Stamp>) {
        let mut wanted: BTreeSet<RecordId> = BTreeSet::new();
        let mut due: HashMap<RecordId, Stamp> = HashMap::new();
        for waiting in self.waiting.iter().take(until) {
            match waiting {
                Waiting::Record(record) => {
                    let body = &record.body;
                    let wants = match sequencer.seen(record) {
                        Seen::Repeated => false,
                        // What comes before it in this turn may make it one that is published.
                        Seen::Folded => self.settings.condition.is_some() && body.kind != EventKind::Delete,
                        Seen::Never => {
                            body.kind != EventKind::Delete && (self.settings.whole || body.is_partial())
                        }
                        Seen::Tied => true,
                    };
                    if wants {
                        wanted.insert(record.id);
                        if let Some(saved_at) = body.saved_at {
                            let due = due.entry(record.id).or_insert(saved_at);
                            *due = (*due).max(saved_at);
                        }
                    }
                }
                Waiting::Reread { id, .. } => {
                    wanted.insert(*id);
                    if let Some(read_at) = sequencer.read_at(id) {
                        let due = due.entry(*id).or_insert(read_at);
                        *due = (*due).max(read_at);
                    }
                }
                Waiting::Lost(_) | Waiting::Mark { .. } => {}
            }
        }
        (wanted.into_iter().collect(), due)
    }
}
