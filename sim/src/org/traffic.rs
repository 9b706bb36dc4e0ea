//! A busy org: seeded transactions over chosen objects, in a chosen mix.
//!
//! Comes in: a seed, objects, weights. Goes out: transactions, one at a time, saved at the caller's pace.
//! The same seed on the same org gives the same transactions. Never: a change of an object that has no writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::generate::{below, mix};
use super::id::Id;
use super::transaction::{Change, Receipt, Transaction};
use super::value::Value;
use super::{Org, OrgError, Snapshot};
use crate::catalog::ObjectDef;

/// Weights of what a change is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    pub insert: u32,
    pub update: u32,
    pub touch: u32,
    pub delete: u32,
    pub undelete: u32,
    pub hard_delete: u32,
}

impl Default for Mix {
    fn default() -> Mix {
        Mix { insert: 20, update: 65, touch: 3, delete: 8, undelete: 3, hard_delete: 1 }
    }
}

#[derive(Clone, Debug)]
pub struct TrafficConfig {
    pub seed: u64,
    pub objects: Vec<String>,
    pub mix: Mix,
    /// Changes in a transaction: 1 to this.
    pub largest_transaction: u64,
    /// One transaction in so many lags; 0 for none.
    pub lagging_one_in: u64,
    /// How long a lagging transaction stays unseen, at most.
    pub largest_lag: Duration,
    /// One update in so many is of the record that was changed last, within its second mostly.
    pub same_record_one_in: u64,
}

impl Default for TrafficConfig {
    fn default() -> TrafficConfig {
        TrafficConfig {
            seed: 1,
            objects: ["Account", "Contact", "Opportunity", "Case", "Invoice__c"].map(str::to_owned).to_vec(),
            mix: Mix::default(),
            largest_transaction: 8,
            lagging_one_in: 0,
            largest_lag: Duration::from_secs(60),
            same_record_one_in: 8,
        }
    }
}

/// Makes transactions and saves them.
pub struct Traffic {
    org: Arc<Org>,
    config: TrafficConfig,
    objects: Vec<Arc<ObjectDef>>,
    step: u64,
    last: Option<(usize, Id)>,
    deleted: Vec<(usize, Id)>,
}

/// How often `run_for` looks at the clock.
const PACE: Duration = Duration::from_millis(2);

/// Deleted records remembered for undeleting.
const REMEMBERED: usize = 1_000;

impl Traffic {
    pub fn new(org: &Arc<Org>, config: TrafficConfig) -> Result<Traffic, OrgError> {
        let objects = config.objects.iter().map(|name| org.object(name)).collect::<Result<_, _>>()?;
        Ok(Traffic { org: Arc::clone(org), config, objects, step: 0, last: None, deleted: Vec::new() })
    }

    fn draw(&mut self) -> u64 {
        self.step += 1;
        mix(self.config.seed ^ self.step.wrapping_mul(0xD134_2543_DE82_EF95))
    }

    /// Makes and saves one transaction of at most `most` changes. None when no change fits the org as it is
    /// (no objects, everything locked or deleted); another try may succeed.
    pub fn save_one(&mut self, most: u64) -> Option<Receipt> {
        let snapshot = self.org.snapshot();
        let size = 1 + below(self.draw(), self.config.largest_transaction.min(most).max(1));
        let mut changes = Vec::new();
        for _ in 0..size {
            if let Some(change) = self.change(&snapshot) {
                changes.push(change);
            }
        }
        let lags = self.config.lagging_one_in > 0 && self.draw().is_multiple_of(self.config.lagging_one_in);
        let lag_ms = below(self.draw(), self.config.largest_lag.as_millis() as u64 + 1);
        let visible_after = if lags { Duration::from_millis(lag_ms) } else { Duration::ZERO };
        let transaction = |changes| Transaction { changes, visible_after, ..Transaction::default() };
        if changes.is_empty() {
            return None;
        }
        // A change of a record that an earlier one took along (or that waits) spoils the transaction: then
        // they are tried one by one.
        let receipt = match self.org.commit(transaction(changes.clone())) {
            Ok(receipt) => receipt,
            Err(_) => {
                let saved = changes.iter().find_map(|change| {
                    let receipt = self.org.commit(transaction(vec![change.clone()])).ok()?;
                    Some((change.clone(), receipt))
                });
                let (change, receipt) = saved?;
                changes = vec![change];
                receipt
            }
        };
        self.remember(&changes, &receipt);
        Some(receipt)
    }

    /// Saves transactions until `count` changes are done, or the org takes no more; answers how many were.
    pub fn run(&mut self, count: u64) -> u64 {
        let (mut done, mut misses) = (0, 0);
        while done < count && misses < 100 {
            match self.save_one(count - done) {
                Some(receipt) => {
                    done += receipt.ids.len() as u64;
                    misses = 0;
                }
                None => misses += 1,
            }
        }
        done
    }

    /// Saves changes at a rate for a stretch of org time, or until `stop` is set; answers how many were saved.
    /// Blocks its thread. On a stopped clock only `stop` ends it.
    pub fn run_for(&mut self, changes_per_second: f64, duration: Duration, stop: &AtomicBool) -> u64 {
        let start_ms = self.org.now_ms();
        let end_ms = start_ms.saturating_add(super::config::to_ms(duration));
        let mut done = 0;
        loop {
            let now_ms = self.org.now_ms();
            let seconds = (now_ms.min(end_ms) - start_ms) as f64 / 1_000.0;
            let due = (seconds * changes_per_second.max(0.0)) as u64;
            done += self.run(due.saturating_sub(done));
            if now_ms >= end_ms || stop.load(Ordering::Relaxed) {
                return done;
            }
            std::thread::sleep(PACE);
        }
    }

    fn remember(&mut self, changes: &[Change], receipt: &Receipt) {
        for (change, id) in changes.iter().zip(&receipt.ids) {
            let Some(object) = self.objects.iter().position(|object| object.name == change.object()) else {
                continue;
            };
            match change {
                Change::Delete { .. } => {
                    if self.deleted.len() >= REMEMBERED {
                        self.deleted.swap_remove(0);
                    }
                    self.deleted.push((object, *id));
                }
                Change::Insert { .. } | Change::Update { .. } => self.last = Some((object, *id)),
                _ => {}
            }
        }
    }

    fn change(&mut self, snapshot: &Snapshot) -> Option<Change> {
        if self.objects.is_empty() {
            return None;
        }
        let mix = self.config.mix;
        let weights = [mix.insert, mix.update, mix.touch, mix.delete, mix.undelete, mix.hard_delete];
        let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let mut drawn = below(self.draw(), total.max(1));
        let kind = weights.iter().position(|weight| {
            let hit = drawn < u64::from(*weight);
            drawn = drawn.saturating_sub(u64::from(*weight));
            hit
        })?;
        let at = below(self.draw(), self.objects.len() as u64) as usize;
        let object = Arc::clone(&self.objects[at]);
        let name = object.name.clone();
        match kind {
            0 => object.flags.createable.then(|| Change::Insert {
                object: name,
                fields: Vec::new(),
                id: None,
                fill: true,
            }),
            1 => {
                let again = self.config.same_record_one_in > 0
                    && self.draw().is_multiple_of(self.config.same_record_one_in);
                let (at, id) = match self.last.filter(|_| again) {
                    Some(last) => last,
                    None => (at, self.any_live(snapshot, &name)?),
                };
                let object = Arc::clone(&self.objects[at]);
                let fields = self.new_values(snapshot, &object, id);
                Some(Change::Update { object: object.name.clone(), id, fields })
            }
            2 => Some(Change::Touch { id: self.any_live(snapshot, &name)?, object: name }),
            3 if object.flags.deletable => {
                Some(Change::Delete { id: self.any_live(snapshot, &name)?, object: name })
            }
            4 if !self.deleted.is_empty() => {
                let place = below(self.draw(), self.deleted.len() as u64) as usize;
                let (at, id) = self.deleted.swap_remove(place);
                Some(Change::Undelete { object: self.objects[at].name.clone(), id })
            }
            5 if object.flags.deletable => {
                Some(Change::HardDelete { id: self.any_live(snapshot, &name)?, object: name })
            }
            _ => None,
        }
    }

    fn any_live(&mut self, snapshot: &Snapshot, object: &str) -> Option<Id> {
        let sequences = self.org.sequence_limit(object)?;
        let prefix = self.org.object(object).ok()?.id_prefix;
        (0..32).find_map(|_| {
            let id = Id::new(prefix, below(self.draw(), sequences));
            snapshot.row(object, id, false).ok().flatten().map(|row| row.id())
        })
    }

    /// One to four fields with other generated values.
    fn new_values(&mut self, snapshot: &Snapshot, object: &ObjectDef, id: Id) -> Vec<(String, Value)> {
        let Some(row) = snapshot.row(&object.name, id, true).ok().flatten() else { return Vec::new() };
        let plan = &row.view.plans[row.object];
        let free: Vec<(usize, &str)> = row
            .object()
            .visible_fields()
            .filter(|(index, field)| field.updateable && !field.cascade_delete && plan.is_free(*index))
            .map(|(index, field)| (index, field.name.as_str()))
            .collect();
        if free.is_empty() {
            return Vec::new();
        }
        let count = 1 + below(self.draw(), 4);
        let mut fields: Vec<(String, Value)> = Vec::new();
        for _ in 0..count {
            let (index, name) = free[below(self.draw(), free.len() as u64) as usize];
            let salt = self.draw();
            if fields.iter().all(|(known, _)| known != name) {
                fields.extend(plan.fresh_value(&row, index, salt).map(|value| (name.to_owned(), value)));
            }
        }
        fields
    }
}

impl Org {
    /// Sequence numbers of an object lie below this.
    fn sequence_limit(&self, object: &str) -> Option<u64> {
        let state = self.read();
        let index = state.object_index(object).ok()?;
        Some(state.stores[index].next_sequence).filter(|limit| *limit > 0)
    }
}
