//! One object from its first row on: load, then follow; pulled step by step by the pipeline.
//!
//! Comes in: what the control partition knows of the object (position, ledger), Salesforce's answers. Goes out:
//! batches, in publishing order, each with the control records that become true with it. A step that fails changes
//! nothing that was not handed over: the next call goes on from the last batch. State in memory runs ahead of what is
//! committed; whoever loses a transaction must drop this value and restore a new one.

mod anew;
mod leaving;
mod loading;
mod outgoing;
mod polling;
mod stream;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::blobs::Fetcher;
use super::deletions::{Deletions, Found};
use super::disguise::Disguise;
use super::ledger::{Ledger, RecordId};
use super::live::{Live, LiveSettings};
use super::load::{LoadPage, LoadReader};
use super::misfit::Doubts;
use super::poll::{PollPage, WindowReader};
use super::sequencer::{Sequenced, Sequencer};
use crate::config::{FieldRules, Method, PollSettings, Secret};
use crate::domain::position::VERSION;
use crate::domain::{
    Batch, Blobs, Capture, ControlRecord, Described, Need, Notice, ObjectDescription, PinnedDescription,
    Position, ReplayId, Rows, Source, Stamp, State,
};
use crate::error::{Kind, Reaction};
use crate::salesforce::bulk::{self, Job};
use crate::salesforce::{Client, Describe, Purpose, Seat};
use crate::{Error, Result};

/// Below this many rows one REST query costs fewer calls than a Bulk job (create, poll, page, delete).
pub(super) const REST_LOAD_ROWS: u64 = 2_000;
/// After as many failed jobs in a row the object is read by REST.
const MOST_FAILED_JOBS: u32 = 3;
/// A first window from so short a time ago is taken to be small.
const NEAR: Duration = Duration::from_secs(60 * 60);

#[derive(Clone, Debug)]
pub struct CaptureSettings {
    pub method: Method,
    pub initial_load: bool,
    pub poll: PollSettings,
    pub fields: FieldRules,
    /// What fields are hashed with.
    pub hash_key: Option<Secret>,
    /// What a record must fit to be published, in SOQL.
    pub condition: Option<String>,
    /// Rows by the org's own count, if known; decides between REST and Bulk.
    pub estimate: Option<u64>,
    /// The same of the records by whose ids its rows are read; for the forecast.
    pub parents: Option<u64>,
    /// Bytes that a Kafka record takes: more are not fetched for one.
    pub largest_record: usize,
    /// How many loads may read at once in this process.
    pub loads: Arc<Semaphore>,
    /// `--once`: the run ends when everything up to here is read.
    pub until: Option<Stamp>,
    /// Follow by subscription; none: by polling.
    pub live: Option<LiveSettings>,
}

/// What a step came to.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and nobody keeps it")]
pub enum Step {
    /// To be published. `urgent`: commit at once, do not wait for more.
    Batch { batch: Batch, urgent: bool },
    /// Everything visible in Salesforce up to `read_to` was handed over; call again after `pause`.
    CaughtUp { read_to: Option<Stamp>, pause: Duration },
    /// The object looks different now: encoders must be made for `description()` before the next step.
    Described,
}

/// Following by polls: a window being read, or the time of the next.
struct Follow {
    window: Option<WindowReader>,
    next_at: Instant,
}

/// A page, and the records of it that were read again since it came: they are not asked for twice.
struct Held<P> {
    page: P,
    reread: HashSet<RecordId>,
    bytes: Option<outgoing::Prefetch>,
}

impl<P> Held<P> {
    fn new(page: P) -> Self {
        Self { page, reread: HashSet::new(), bytes: None }
    }
}

pub struct ObjectCapture {
    client: Client,
    settings: CaptureSettings,
    disguise: Disguise,
    sequencer: Sequencer,
    position: Position,
    started: bool,
    /// A reader while the load is not done; the position says whether it is.
    reader: Option<LoadReader>,
    /// None: there is nothing to follow the object by, or it is not asked for.
    follow: Option<Follow>,
    deletions: Deletions,
    /// `--once`: they were asked for up to the end of the run.
    deletions_are_last: bool,
    described_at: Instant,
    describe_due: bool,
    /// Without asking whether anything changed: a query says so.
    describe_anew: bool,
    last_modified: Option<String>,
    /// `Client::metadata_changes` before the description in hand was asked for.
    metadata: u64,
    /// The description that a restart is to go by, and whether the control partition does not have it yet.
    pinned: Arc<ObjectDescription>,
    pin_due: bool,
    failed_jobs: u32,
    /// Of the load that this process began.
    load_calls: Option<loading::Counted>,
    /// Rows were new in the current window; when they last were.
    window_had_changes: bool,
    quiet_since: Instant,
    /// The last window had one page: the next is asked for together with those of other objects.
    small: bool,
    pages: u32,
    /// Held while the object is followed.
    seat: Option<Seat>,
    /// To be taken away in Salesforce once what they were for is committed.
    finished_jobs: Vec<Job>,
    live: Option<Live>,
    /// Behind what was handed over of the stream.
    stream_position: Option<ReplayId>,
    repair: Option<stream::Repair>,
    /// Pages that wait until single records of them were read again.
    load_page: Option<Held<LoadPage>>,
    poll_page: Option<Held<PollPage>>,
    /// A batch for which bytes are fetched; nothing else goes before it.
    outgoing: Option<outgoing::Outgoing>,
    /// Of the page that is being sequenced.
    prefetched: Option<Fetcher>,
    rooms: Arc<Semaphore>,
    doubts: Doubts,
    notices: Vec<Notice>,
    /// Reasons to load everything once more that no batch tells of yet.
    needs: Vec<Need>,
    pinned_fields: Vec<String>,
}

impl ObjectCapture {
    /// `position` and `ledger` as the control partition holds them; `last_modified` of the describe that `object`
    /// was made from, and `Client::known_metadata_changes` before it was asked for.
    pub fn new(
        client: &Client,
        settings: CaptureSettings,
        (object, last_modified, metadata): (Arc<ObjectDescription>, Option<String>, u64),
        position: Option<Position>,
        ledger: Ledger,
    ) -> Self {
        let now = Instant::now();
        let deletions = Deletions::new(&object, &settings.poll);
        let position = position.unwrap_or_else(|| Position::new(&object.name));
        let pinned = object.clone();
        let pinned_fields = object.fields.iter().map(|field| field.name.clone()).collect();
        let mut sequencer = Sequencer::new(object, ledger, position.change_seq);
        sequencer.beyond = position.reload.as_ref().map_or(0, |reload| reload.beyond);
        Self {
            client: client.for_purpose(Purpose::Poll),
            disguise: Disguise::new(&settings.fields, settings.hash_key.as_ref()),
            settings,
            sequencer,
            position,
            started: false,
            reader: None,
            follow: None,
            deletions,
            deletions_are_last: false,
            described_at: now,
            describe_due: false,
            describe_anew: false,
            last_modified,
            metadata,
            pinned,
            pin_due: false,
            failed_jobs: 0,
            load_calls: None,
            window_had_changes: false,
            quiet_since: now,
            small: false,
            pages: 0,
            seat: None,
            finished_jobs: Vec::new(),
            live: None,
            stream_position: None,
            repair: None,
            load_page: None,
            poll_page: None,
            outgoing: None,
            prefetched: None,
            rooms: outgoing::rooms(),
            doubts: Doubts::default(),
            notices: Vec::new(),
            needs: Vec::new(),
            pinned_fields,
        }
    }

    pub fn description(&self) -> &Arc<ObjectDescription> {
        self.sequencer.object()
    }

    pub fn position(&self) -> &Position {
        &self.position
    }

    /// What went wrong since the last call without stopping anything.
    pub fn take_troubles(&mut self) -> Vec<Error> {
        std::mem::take(&mut self.deletions.troubles)
    }

    /// What the description in hand holds for; `written`: the control partition has it.
    pub fn pin(&mut self, described: Described, written: bool) {
        self.pin_due = !written;
        self.position.described = Some(described);
    }

    /// How many records the ledger remembers.
    pub fn ledger_size(&self) -> usize {
        self.sequencer.ledger.len()
    }

    /// The fields of the schema so far, whose order stays: that of a description is part of what content hashes say.
    pub fn set_pinned_fields(&mut self, names: Vec<String>) {
        self.pinned_fields = names;
    }

    /// Registry ids, to stand in the position from the next batch on.
    pub fn set_schema_ids(&mut self, ids: serde_json::Map<String, serde_json::Value>) {
        self.position.schema_ids = ids;
    }

    /// The next step. After an error it may be called again. Whoever drops it half-way drops this value too: what it had found
    /// out by then would be asked for again only much later.
    pub async fn next(&mut self) -> Result<Step> {
        if self.outgoing.is_some() {
            return self.complete().await;
        }
        let step = self.next_step().await?;
        self.sent_out(step).await
    }

    async fn next_step(&mut self) -> Result<Step> {
        if !self.started {
            self.start().await?;
        }
        self.take_needs();
        loop {
            // What waits of the stream is meant by the description that it was read with.
            if self.describe_due && self.live.as_ref().is_none_or(Live::holds_no_events) {
                return self.describe_again().await;
            }
            if let Some(step) = self.stream_step().await? {
                return Ok(step);
            }
            if self.describe_due && self.live.is_some() {
                if !self.live.as_ref().is_some_and(Live::holds_no_events) {
                    self.wait_for_stream(None).await?;
                }
                continue;
            }
            let next_poll = self.next_poll();
            let polling = self.follow.as_ref().is_some_and(|follow| follow.window.is_some());
            if polling || next_poll.is_some_and(|at| at <= Instant::now()) {
                // Changes go before loaded rows.
                if let Some(step) = self.follow_step().await? {
                    return Ok(step);
                }
                continue;
            }
            if self.position.state == State::Loading && self.may_load() {
                if let Some(step) = self.load_step(next_poll).await? {
                    return Ok(step);
                }
                continue;
            }
            if let Some(step) = self.last_deletions().await? {
                return Ok(step);
            }
            if self.live.is_some() {
                let reached = self.position.committed_to;
                let over = self.settings.until.is_some_and(|until| reached.is_some_and(|to| to >= until));
                if over && self.position.state == State::Live && self.repair.is_none() {
                    return Ok(Step::CaughtUp { read_to: reached, pause: Duration::ZERO });
                }
                self.wait_for_stream(next_poll).await?;
                continue;
            }
            return Ok(match next_poll {
                Some(at) => Step::CaughtUp {
                    read_to: self.position.committed_to,
                    pause: at.saturating_duration_since(Instant::now()),
                },
                None => Step::CaughtUp { read_to: None, pause: self.settings.poll.max_interval },
            });
        }
    }

    /// Whether these rows show that the object looks different by now: then nothing is taken of them before it is
    /// described again.
    fn are_doubtful(&mut self, rows: &Rows) -> bool {
        let doubtful = self.doubts.are_raised_by(self.sequencer.object(), rows);
        if doubtful {
            self.expect_other_description();
        }
        doubtful
    }

    /// What the pipeline calls when a query met a field that is gone, or on its own timer.
    pub fn expect_other_description(&mut self) {
        self.describe_due = true;
        self.describe_anew = true;
    }

    /// Called once all batches so far are committed: removes what is no longer needed in Salesforce.
    pub async fn after_commit(&mut self) {
        for job in std::mem::take(&mut self.finished_jobs) {
            if let Err(error) = bulk::delete(&self.load_client(), &job).await {
                tracing::debug!(object = %self.description().name, %error, "finished job not deleted");
            }
        }
    }

    async fn describe_again(&mut self) -> Result<Step> {
        let object = self.description().clone();
        self.describe_due = false;
        self.described_at = Instant::now();
        let client = self.client.for_purpose(Purpose::Describe);
        // Before the describe: what changes meanwhile is a change to the next question.
        let (metadata, org) = match self.describe_anew {
            true => client.known_metadata_state().await,
            false => client.metadata_state(self.describe_interval()).await?,
        };
        if !self.describe_anew && metadata == self.metadata {
            return Ok(Step::Described);
        }
        let describe = match self.describe_anew {
            true => client.describe(&object.name, None).await?,
            false => client.describe_in_company(&object.name, self.last_modified.as_deref()).await?,
        };
        let described = match &describe {
            Some(describe) => Some(compile(describe, &self.settings.fields, &self.pinned_fields)?),
            None => None,
        };
        self.metadata = metadata;
        if let Some(live) = &mut self.live {
            live.described();
        }
        if let Some(known) = &mut self.position.described {
            known.org = org;
        }
        let (Some(describe), Some(described)) = (describe, described) else { return Ok(Step::Described) };
        let described = Arc::new(described);
        if let Some(known) = &mut self.position.described {
            known.revision = Described::revision_of(&described);
            known.last_modified.clone_from(&describe.last_modified);
            // Labels and lengths too: a restart is to write schemas by what was described last.
            self.pin_due |= described != self.pinned;
            self.pinned = described.clone();
        }
        (self.last_modified, self.describe_anew) = (describe.last_modified, false);
        if described.revision == object.revision {
            return Ok(Step::Described);
        }
        tracing::info!(object = %object.name, fields = described.fields.len(), "object described anew");
        if let Some(live) = self.live.as_mut().filter(|_| described.has_blobs()) {
            live.read_whole();
        }
        self.sequencer.describe(described);
        self.doubts.settle();
        // Readers hold queries and layouts of the old description.
        (self.reader, self.load_page, self.poll_page) = (None, None, None);
        if let Some(follow) = &mut self.follow {
            follow.window = None;
        }
        Ok(Step::Described)
    }

    /// How often the org is asked whether any description has changed.
    fn describe_interval(&self) -> Duration {
        self.client.describe_interval()
    }

    async fn start(&mut self) -> Result<()> {
        let followable = self.settings.method == Method::Cdc && self.description().cursor.is_some();
        let is_new = self.position.updated_at == Stamp::default();
        self.live = self
            .settings
            .live
            .clone()
            .filter(|_| followable)
            .map(|settings| LiveSettings {
                // Of a changed blob an event says nothing: not even that it changed.
                whole: settings.whole || self.settings.condition.is_some() || self.description().has_blobs(),
                condition: self.settings.condition.clone(),
                ..settings
            })
            .map(|settings| Live::new(settings, self.sequencer.object()));
        self.stream_position = self.position.replay_id.clone();
        self.position.capture = match (&self.live, followable) {
            (Some(_), _) => Capture::Subscribe,
            (None, true) => Capture::Poll,
            (None, false) => Capture::None,
        };
        if self.live.is_none() {
            // A stream that is opened later cannot go on behind what is polled now.
            self.position.replay_id = None;
            self.position.cursor = self.position.behind();
            self.position.events_to = None;
        }
        self.position.error = None;
        if is_new && followable && !self.settings.initial_load {
            let now = self.client.fetch_server_time().await?.floor_second();
            self.position.follow_from(now, now);
            self.position.committed_to = Some(now);
            self.position.state = State::Live;
        } else if !is_new && self.position.load.as_ref().is_some_and(|load| load.done) {
            self.position.state = State::Live;
            // Loaded in a run that did not follow: from its load on.
            if let (true, None, Some(load)) = (followable, self.position.cursor, &self.position.load) {
                // What was committed late behind that load is published once more rather than not at all.
                let (from, floor) = (load.started_at, load.started_at.minus(self.settings.poll.look_back));
                self.position.follow_from(from, floor);
            }
        }
        let polls = self.live.is_none();
        self.seat = followable.then(|| self.client.seat(polls, self.settings.poll.interval));
        // What was away for long may have much to catch up with.
        let near = self.client.server_time().minus(NEAR);
        self.small = self.position.cursor.is_some_and(|cursor| cursor > near);
        self.follow = followable.then(|| Follow { window: None, next_at: Instant::now() });
        self.started = true;
        Ok(())
    }

    // ---- deletions ----

    async fn publish_deletions(&mut self, found: Found) -> Result<Step> {
        let found = self.confirmed(found).await?;
        self.deletions_batch(found)
    }

    /// What getDeleted named, less what is there again: an undeleted record may have been published long ago.
    async fn confirmed(&mut self, mut found: Found) -> Result<Found> {
        let object = self.sequencer.object().clone();
        let news = self.sequencer.unpublished(&found.ids);
        if !news.is_empty() {
            let ids: Vec<&str> =
                news.iter().filter_map(|id| std::str::from_utf8(id.as_bytes()).ok()).collect();
            let client = self.client.for_purpose(Purpose::Deletions);
            match client.retrieve(&object, &ids, &[object.key]).await {
                Ok(rows) => {
                    let back: HashSet<RecordId> =
                        rows.iter().filter_map(|row| row.value(object.key).and_then(RecordId::new)).collect();
                    found.ids.retain(|(id, _)| !back.contains(id));
                }
                // Not every object can be read by id.
                Err(error) if error.reaction() == Reaction::StopObject => {
                    tracing::debug!(object = %object.name, %error, "deletions are taken as getDeleted names them");
                }
                Err(error) => return Err(error.during(format_args!("deletions of {}", object.name))),
            }
        }
        Ok(found)
    }

    fn deletions_batch(&mut self, found: Found) -> Result<Step> {
        let sequenced = self.sequencer.deletions(&found.ids)?;
        self.position.deleted_to = self.position.deleted_to.max(Some(found.to));
        let stream_position = format!("deleted/{}", found.to);
        let batch = self.batch(sequenced, Source::Poll, None, &stream_position);
        Ok(Step::Batch { batch, urgent: false })
    }

    /// `--once`: what was deleted up to the present, when everything else up to the run's start is read.
    async fn last_deletions(&mut self) -> Result<Option<Step>> {
        let reached = self.position.committed_to.filter(|to| Some(*to) >= self.settings.until);
        let (Some(_), Some(read_to), false) = (self.settings.until, reached, self.deletions_are_last) else {
            return Ok(None);
        };
        let found = self.deletions.last(&self.client, &self.position, read_to).await?;
        let step = match found {
            Some(found) => Some(self.publish_deletions(found).await?),
            None => None,
        };
        self.deletions_are_last = true;
        Ok(step)
    }

    /// Forgets what no window reaches any more, whoever opens it: after an outage a window may hold more changes than
    /// memory should.
    fn forget_out_of_reach(&mut self) {
        if self.position.state == State::Loading {
            // The ledger keeps all of an overlap until it is over.
            return;
        }
        let Some(behind) = self.position.behind() else { return };
        let look_back = self.settings.poll.look_back;
        let reach = behind.minus(look_back);
        let deleted_reach = self.deletions.reach(&self.position, look_back);
        let deleted_reach = deleted_reach.map_or(reach, |deleted| deleted.min(reach));
        self.sequencer.ledger.forget(reach, deleted_reach);
        // A later run with a longer look-back must not reach below what the ledger holds.
        self.position.floor = self.position.floor.max(Some(reach));
    }

    // ---- batches ----

    fn batch(&mut self, sequenced: Sequenced, source: Source, load_id: Option<Arc<str>>, at: &str) -> Batch {
        if sequenced.stale > 0 {
            let (object, stale) = (&self.description().name, sequenced.stale);
            tracing::debug!(%object, stale, "rows older than what was published were dropped");
        }
        if sequenced.unfit > 0 {
            let (object, unfit) = (&self.description().name, sequenced.unfit);
            tracing::debug!(%object, unfit, "rows that do not fit `where` were left out");
        }
        let object = self.description().clone();
        let mut details = sequenced.details;
        // Nothing behind this may see what is to be hidden.
        let rows = self.disguise.rows(&object, sequenced.rows);
        self.disguise.details(&object, &mut details);
        Batch {
            object,
            rows,
            blobs: Blobs::default(),
            changes: sequenced.changes,
            details,
            notices: std::mem::take(&mut self.notices),
            source,
            load_id,
            only: None,
            stream_position: at.into(),
            control: self.control_records(),
        }
    }

    fn control_only(&mut self) -> Batch {
        let layout = crate::domain::RowLayout::complete(self.description().fields.len());
        Batch {
            object: self.description().clone(),
            rows: crate::domain::Rows::new(layout),
            blobs: Blobs::default(),
            changes: Vec::new(),
            details: Vec::new(),
            notices: std::mem::take(&mut self.notices),
            source: Source::Load,
            load_id: None,
            only: None,
            stream_position: "".into(),
            control: self.control_records(),
        }
    }

    fn control_records(&mut self) -> Vec<ControlRecord> {
        self.position.version = VERSION;
        self.position.change_seq = self.sequencer.sequence();
        self.position.updated_at = self.client.server_time();
        let mut records = self.sequencer.ledger.take_records();
        if std::mem::take(&mut self.pin_due) {
            let value = Some(PinnedDescription::encode(&self.pinned));
            records.push(ControlRecord { key: PinnedDescription::key(&self.position.object), value });
        }
        let key = Position::key(&self.position.object);
        records.push(ControlRecord { key, value: Some(self.position.encode()) });
        records
    }
}

/// The description that a describe makes, with the known fields in their places.
fn compile(describe: &Describe, rules: &FieldRules, pinned: &[String]) -> Result<ObjectDescription> {
    let described = describe.compile(rules, pinned)?;
    match &described.unsupported {
        Some(reason) => {
            Err(Error::new(Kind::ObjectUnsupported, format!("object {}: {reason}", described.name)))
        }
        None => Ok(described),
    }
}
