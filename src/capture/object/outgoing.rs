//! Records with bytes elsewhere: fetched before they are handed over, and for nothing else.
//!
//! Comes in: a page of a load before it is sequenced; any other batch as the sequencer made it, its cells the paths of blobs.
//! Goes out: batches with the bytes. What is larger than a Kafka record takes, or missing though its record is there, goes to
//! the dead letters with its path and the reason.
//!
//! - Nothing is lost and nothing repeated: a batch is numbered, in the ledger and in the position when it comes here, and
//!   stays here until all of it is fetched; nothing else of the object is handed over meanwhile. A fetch that fails leaves
//!   what came before it, the next step goes on behind it (`an_interrupted_fetch_goes_on_where_it_stopped`).
//! - Changes go before loaded rows, whose calls may have to wait for long: a page waits for its bytes before it is numbered
//!   (`a_load_that_waits_for_its_bytes_holds_up_no_change`).
//! - Of a record that is gone by then the other fields go out, and the column mask leaves the blob out: a null would be a
//!   value. The ledger does not vouch for it, so that a reading that finds it again publishes it whole
//!   (`a_record_that_is_gone_before_its_bytes_goes_out_without_them`).
//! - Memory: a batch has at most [`ObjectCapture::at_once`] records with bytes, each of at most what a record takes, and
//!   there are [`BATCHES_HELD`] of them (`bytes_held_at_once_are_bounded`).

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use super::{Held, ObjectCapture, Step, stream};
use crate::capture::blobs::{Fetched, Fetcher};
use crate::capture::ledger::{Entry, Kind as EntryKind, RecordId, UNKNOWN};
use crate::capture::load::LoadPage;
use crate::domain::{Batch, Detail, FieldSet, Operation, Source};
use crate::error::Kind;
use crate::salesforce::Purpose;
use crate::{Error, Result};

/// Bytes of a batch, as long as a single record is not larger.
const BATCH_BYTES: usize = 16 << 20;
/// One is fetched while another one is published.
const BATCHES_HELD: usize = 2;

/// Bytes are fetched for so many batches of an object at once.
pub(super) fn rooms() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(BATCHES_HELD))
}

pub(super) struct Outgoing {
    batch: Batch,
    urgent: bool,
    fetcher: Fetcher,
}

/// The bytes of a page that waits for them.
pub(super) enum Prefetch {
    Due(Fetcher),
    Running(AbortOnDropHandle<(Fetcher, Result<()>)>),
}

impl Outgoing {
    /// `fetcher`: what was fetched of its rows already. Of deleted records Salesforce has no bytes.
    fn new(batch: Batch, urgent: bool, fetcher: Option<Fetcher>) -> Self {
        let fetcher = fetcher.unwrap_or_else(|| Fetcher::new(&batch.object));
        let mut outgoing = Self { batch, urgent, fetcher };
        for place in 0..outgoing.batch.changes.len() {
            let Outgoing { batch, fetcher, .. } = &mut outgoing;
            let Some(change) = batch.changes.get(place) else { continue };
            let Some(row) = batch.rows.row(change.row as usize) else { continue };
            let carried = batch.detail(change).and_then(|detail| detail.carried.as_ref());
            let carries = |field| carried.is_none_or(|carried| carried.contains(field));
            let fields = Fetcher::fields(&batch.object, row, carries);
            let operation = change.operation;
            match operation {
                Operation::Delete if fields.is_empty() => {}
                Operation::Delete => outgoing.leave_out(place, &fields),
                _ => fetcher.want(row, &fields),
            }
        }
        outgoing
    }

    /// The change does not carry these fields: null in it means nothing.
    fn leave_out(&mut self, change: usize, fields: &[usize]) {
        let batch = &mut self.batch;
        let Some(change) = batch.changes.get_mut(change) else { return };
        let known = change.detail.and_then(|detail| batch.details.get(detail as usize));
        let detail = known.cloned().unwrap_or(Detail { source: batch.source, ..Detail::refetch() });
        let layout = batch.rows.layout();
        let carries = |field: &usize| {
            layout.has(*field)
                && !fields.contains(field)
                && detail.carried.as_ref().is_none_or(|carried| carried.contains(*field))
        };
        let carried: FieldSet = (0..batch.object.fields.len()).filter(carries).collect();
        change.detail = u32::try_from(batch.details.len()).ok();
        batch.details.push(Detail { carried: Some(carried), ..detail });
    }

    /// The batch with what was fetched for it, and the ids of records that go out without their bytes.
    fn complete(mut self) -> (Step, Vec<RecordId>) {
        let mut gone = Vec::new();
        for place in 0..self.batch.changes.len() {
            let Some(row) = self.batch.changes.get(place).map(|change| change.row) else { continue };
            match self.fetcher.fetched.remove(&row) {
                None => {}
                Some(Fetched::Bytes(all)) => {
                    for (field, bytes) in all {
                        self.batch.blobs.put(row, field, bytes);
                    }
                }
                Some(Fetched::Refused(error)) => self.batch.blobs.refuse(row, error),
                Some(Fetched::Gone(fields)) => {
                    self.leave_out(place, &fields);
                    let id =
                        self.batch.rows.row(row as usize).and_then(|row| row.value(self.batch.object.key));
                    gone.extend(id.and_then(RecordId::new));
                }
            }
        }
        if let Some(room) = self.fetcher.room.take() {
            self.batch.blobs.hold(room);
        }
        (Step::Batch { batch: self.batch, urgent: self.urgent }, gone)
    }
}

impl ObjectCapture {
    /// How many records may go out in one batch, where bytes are fetched for them; none: as many as there are.
    pub(super) fn at_once(&self) -> Option<usize> {
        let most = BATCH_BYTES / self.settings.largest_record.max(1);
        self.sequencer.object().has_blobs().then_some(most.max(1))
    }

    /// What a step came to, once there is nothing to fetch for it. After an error it is gone on with.
    pub(super) async fn sent_out(&mut self, step: Step) -> Result<Step> {
        match step {
            Step::Batch { batch, urgent } if batch.object.has_blobs() => {
                let fetcher = self.prefetched.take().filter(|_| batch.source == Source::Load);
                self.outgoing = Some(Outgoing::new(batch, urgent, fetcher));
                self.complete().await
            }
            step => Ok(step),
        }
    }

    pub(super) async fn complete(&mut self) -> Result<Step> {
        // Not as polls: how far apart those must be is measured by what they cost, and changes are not polls.
        let client = self.client.for_purpose(Purpose::Refetch);
        if let Some(outgoing) = &mut self.outgoing {
            outgoing.fetcher.run(&client, self.settings.largest_record, &self.rooms).await?;
        }
        let Some(outgoing) = self.outgoing.take() else {
            return Err(Error::new(Kind::Internal, "no batch is on its way"));
        };
        let (mut step, gone) = outgoing.complete();
        if let Step::Batch { batch, .. } = &mut step
            && !gone.is_empty()
        {
            tracing::debug!(object = %batch.object.name, records = gone.len(), "records were gone before their bytes were fetched");
            for id in gone {
                self.doubt(id);
            }
            batch.control.extend(self.sequencer.ledger.take_records());
        }
        Ok(step)
    }

    /// What was published of this record is not all of it.
    fn doubt(&mut self, id: RecordId) {
        let ledger = &mut self.sequencer.ledger;
        if let Some(newest) = ledger.newest(&id).filter(|newest| newest.kind == EntryKind::Live) {
            ledger.enter(id, Entry { hash: UNKNOWN, ..newest });
        }
    }

    /// A page of a load once the bytes are there of what is to be published of it; none: something else goes first, and the page
    /// waits where it is found again. `due`: when that is.
    pub(super) async fn with_bytes(
        &mut self,
        mut held: Held<LoadPage>,
        due: impl Future<Output = ()>,
    ) -> Result<Option<Held<LoadPage>>> {
        if !self.sequencer.object().has_blobs() {
            return Ok(Some(held));
        }
        let fetcher = match held.bytes.take() {
            Some(Prefetch::Due(fetcher)) => Ok(fetcher),
            Some(Prefetch::Running(task)) => Err(task),
            None => match self.wanted_of_load(&held.page) {
                Ok(fetcher) => Ok(fetcher),
                Err(error) => return Err(self.load_failed(error)),
            },
        };
        let task = match fetcher {
            Ok(fetcher) if fetcher.is_done() => {
                self.prefetched = Some(fetcher);
                return Ok(Some(held));
            }
            Ok(mut fetcher) => {
                let (client, rooms) = (self.load_client(), self.rooms.clone());
                let most = self.settings.largest_record;
                AbortOnDropHandle::new(tokio::spawn(async move {
                    let result = fetcher.run(&client, most, &rooms).await;
                    (fetcher, result)
                }))
            }
            Err(task) => task,
        };
        let object = self.sequencer.object().clone();
        let lost = || Error::new(Kind::Internal, "a page that waited is not there");
        held.bytes = Some(Prefetch::Running(task));
        let Held { bytes: Some(Prefetch::Running(task)), .. } = self.load_page.insert(held) else {
            return Err(lost());
        };
        let fetched = tokio::select! {
            biased;
            heard = stream::hear(self.live.as_mut(), &object) => return self.heard(heard).map(|()| None),
            () = due => return Ok(None),
            fetched = task => fetched,
        };
        let mut held = self.load_page.take().ok_or_else(lost)?;
        held.bytes = None;
        let broken = |error| Error::new(Kind::Internal, "a task broke down").source(error);
        let (fetcher, result) = match fetched {
            Ok(fetched) => fetched,
            Err(error) => return Err(self.load_failed(broken(error))),
        };
        match result {
            Ok(()) => {
                self.prefetched = Some(fetcher);
                Ok(Some(held))
            }
            Err(error) => {
                held.bytes = Some(Prefetch::Due(fetcher));
                self.load_page = Some(held);
                Err(error)
            }
        }
    }

    /// Bytes of the rows that would be published now: a change that comes first makes them stale.
    fn wanted_of_load(&self, page: &LoadPage) -> Result<Fetcher> {
        let object = self.sequencer.object();
        let mut fetcher = Fetcher::new(object);
        let news = self.sequencer.load_news(&page.rows, page.server_time)?;
        for row in page.rows.iter().filter(|row| news.contains(&row.index())) {
            fetcher.want(row, &Fetcher::fields(object, row, |_| true));
        }
        Ok(fetcher)
    }
}
