//! The account of one shard, as whoever owns the shard holds it.
//!
//! Comes in: the control record that the shard's partition holds. Goes out: records that reserve calls, one after another,
//! each to be committed before the next is asked for; and a last one when the shard is given up. Dropped without that,
//! the account is closed at once, and what was reserved counts as spent for whoever claims the shard next.

use super::super::Client;
use super::Governor;
use super::account::{Account, BudgetRecord, KEY};
use crate::domain::ControlRecord;

pub struct BudgetAccount {
    client: Client,
    shard: i32,
}

impl Drop for BudgetAccount {
    fn drop(&mut self) {
        let governor = self.governor();
        let mut books = governor.books();
        books.close(self.shard);
        governor.show(&books);
    }
}

impl Client {
    /// The budget is shared with all who own shards of the pipeline: until an account is open no billed call is made.
    pub fn share_budget(&self, shards: i32) {
        self.governor().books().share_with(shards);
    }

    /// Opens the account of a shard that was claimed. `record`: the control record of its partition, if there is one.
    pub fn open_account(&self, shard: i32, record: Option<&[u8]>) -> Result<BudgetAccount, String> {
        let record = record.map(BudgetRecord::decode).transpose()?;
        let (governor, server_now) = (self.governor(), self.server_time());
        let mut books = governor.books();
        let (now_ms, day) = (governor.now_ms(), books.day());
        let account = match &record {
            Some(record) => Account::restored(day, record, server_now, now_ms),
            None => Account::kept(day),
        };
        books.maximum = books.maximum.or(record.and_then(|record| record.maximum));
        books.open(shard, account, now_ms);
        governor.show(&books);
        governor.changed.notify_waiters();
        governor.wanted.notify_waiters();
        Ok(BudgetAccount { client: self.clone(), shard })
    }
}

impl BudgetAccount {
    fn governor(&self) -> &Governor {
        self.client.governor()
    }

    /// The next record that is to be committed. Dropped while it waits, nothing was asked for.
    pub async fn next_record(&self) -> ControlRecord {
        loop {
            let wanted = self.governor().wanted.notified();
            tokio::pin!(wanted);
            wanted.as_mut().enable();
            if let Some(record) = self.reserve() {
                return record;
            }
            wanted.await;
        }
    }

    fn reserve(&self) -> Option<ControlRecord> {
        let governor = self.governor();
        let server_now = self.client.server_time();
        let mut books = governor.books();
        let (now_ms, maximum) = (governor.now_ms(), books.maximum);
        let calls = books.wanted_by(self.shard, now_ms)?;
        let record = books.account(self.shard)?.reserve(calls, maximum, server_now, now_ms);
        Some(control_record(&record))
    }

    /// The last record is committed.
    pub fn committed(&self) {
        let governor = self.governor();
        if let Some(account) = governor.books().account(self.shard) {
            account.granted();
        }
        governor.changed.notify_waiters();
        // Small reservations may be too few at once.
        governor.wanted.notify_waiters();
    }

    /// Closes the account; the record says exactly what was spent.
    pub fn close(self) -> Option<ControlRecord> {
        let server_now = self.client.server_time();
        let governor = self.governor();
        let mut books = governor.books();
        let (now_ms, maximum) = (governor.now_ms(), books.maximum);
        let account = books.close(self.shard)?;
        Some(control_record(&account.closing(maximum, server_now, now_ms)))
    }
}

fn control_record(record: &BudgetRecord) -> ControlRecord {
    ControlRecord { key: KEY.to_owned(), value: Some(record.encode()) }
}
