//! The account of a shard, kept in its control partition: every reservation is committed before it is spent.
//!
//! Comes in: the shard's claimed records, its queue. Goes out: control records through that queue, each alone in the
//! hands of the broker before the next. When the shard is given up in order the last record says what was really spent.

use std::collections::BTreeMap;

use tokio::sync::{mpsc, oneshot};

use super::shard::Parcel;
use crate::domain::ControlRecord;
use crate::error::Kind;
use crate::salesforce::{BUDGET_KEY, BudgetAccount, Client};
use crate::{Error, Result};

pub struct Keeper {
    account: BudgetAccount,
    queue: mpsc::Sender<Parcel>,
}

impl Keeper {
    /// Opens the account as an earlier owner of the shard left it.
    pub fn open(
        client: &Client,
        shard: i32,
        records: &BTreeMap<String, Vec<u8>>,
        queue: mpsc::Sender<Parcel>,
    ) -> Result<Self> {
        let account =
            client.open_account(shard, records.get(BUDGET_KEY).map(Vec::as_slice)).map_err(|why| {
                let what = format!("the control record `{BUDGET_KEY}` of shard {shard} cannot be read: {why}");
                Error::new(Kind::ControlRecordUnreadable, what).hint(format!(
                    "a tombstone for the key `{BUDGET_KEY}` in control partition {shard} forgets what was spent in the last 24 hours; see `sf2kafka explain control-record-unreadable`"
                ))
            })?;
        Ok(Self { account, queue })
    }

    /// Reserves calls as they are needed; it never ends by itself. Dropped half-way, what was being reserved counts as
    /// reserved for whoever reads it.
    pub async fn run(&self) {
        loop {
            let record = self.account.next_record().await;
            if !self.commit(record).await {
                // The shard's thread has ended; whoever waits for it knows why.
                return std::future::pending().await;
            }
            self.account.committed();
        }
    }

    /// The shard is given up: nothing is spent from here on.
    pub async fn close(self) {
        let Self { account, queue } = self;
        if let Some(record) = account.close() {
            // A shard that cannot commit any more keeps its last reservation as spent.
            let _ = queue.send(Parcel::Control { record, committed: None }).await;
        }
    }

    async fn commit(&self, record: ControlRecord) -> bool {
        let (answer, committed) = oneshot::channel();
        let parcel = Parcel::Control { record, committed: Some(answer) };
        self.queue.send(parcel).await.is_ok() && committed.await.is_ok()
    }
}
