//! Transactions: saved as a whole, seen at once or after their lag, one commit number for all their records.
//!
//! Comes in: a transaction. Goes out: new versions of records, entries of the change log and the delete log.
//! Safety: either all of a transaction's versions get one commit number or none does
//! (`a_refused_change_leaves_nothing_of_its_transaction`); while a transaction waits its records are locked,
//! so what was checked at saving still holds when it is seen (`a_waiting_record_is_locked_for_others`).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::calendar::truncate_to_second;
use super::config::to_ms;
use super::draft::{Draft, parent_of};
use super::feed;
use super::id::Id;
use super::store::{Life, Version};
use super::transaction::{CommitError, Receipt, Stamp, Transaction};
use super::truth::LogEntry;
use super::{Org, State};

/// A transaction that is saved and not seen yet.
#[derive(Debug)]
pub(super) struct Pending {
    pub stamp_ms: i64,
    pub user: Id,
    /// What made the change, as change events name it.
    pub origin: Option<String>,
    pub versions: BTreeMap<Place, Version>,
    pub log: Vec<LogEntry>,
}

/// Object and sequence number.
pub(super) type Place = (usize, u64);

impl Org {
    /// Saves a transaction, or nothing of it. It is seen once its lag is over, by anybody who then looks.
    pub fn commit(&self, transaction: Transaction) -> Result<Receipt, CommitError> {
        let mut state = self.write();
        let now_ms = self.now_ms();
        self.settle_until(&mut state, now_ms);
        let stamp_ms = truncate_to_second(match transaction.stamp {
            Stamp::Now => now_ms,
            Stamp::At(ms) => ms,
            Stamp::Ago(ago) => now_ms - to_ms(ago),
        });
        let visible_at_ms = now_ms.max(stamp_ms.saturating_add(to_ms(transaction.visible_after)));
        let number = state.last_transaction + 1;
        let user = transaction.user.unwrap_or_else(|| self.user_id());
        let mut draft = Draft::new(&state, number, now_ms, stamp_ms, visible_at_ms, user);
        let ids =
            transaction.changes.iter().map(|change| draft.apply(change)).collect::<Result<Vec<Id>, _>>()?;
        let (next, mut pending) = (draft.next, draft.pending);
        pending.origin = transaction.origin;
        state.last_transaction = number;
        for (object, sequence) in next {
            state.stores[object].next_sequence = sequence;
        }
        let visible = visible_at_ms <= now_ms;
        if visible {
            self.publish(&mut state, pending, now_ms);
        } else {
            state.locks.extend(pending.versions.keys().map(|place| (*place, number)));
            state.pending.insert((visible_at_ms, number), pending);
        }
        let commit = visible.then_some(state.commit);
        drop(state);
        self.call_listener();
        Ok(Receipt { transaction: number, stamp_ms, visible_at_ms, commit, ids })
    }

    /// Makes visible what is due. Every reading door does this by itself.
    pub fn settle(&self) {
        let now_ms = self.now_ms();
        let due = self.read().pending.first_key_value().is_some_and(|((at, _), _)| *at <= now_ms);
        if due {
            self.settle_until(&mut self.write(), now_ms);
            self.call_listener();
        }
    }

    /// Waiting transactions, and when the last of them becomes visible.
    pub fn pending(&self) -> (usize, Option<i64>) {
        let state = self.read();
        (state.pending.len(), state.pending.last_key_value().map(|((at, _), _)| *at))
    }

    fn settle_until(&self, state: &mut State, now_ms: i64) {
        while let Some(entry) = state.pending.first_entry() {
            if entry.key().0 > now_ms {
                break;
            }
            let pending = entry.remove();
            for place in pending.versions.keys() {
                state.locks.remove(place);
            }
            self.publish(state, pending, now_ms);
        }
    }

    fn publish(&self, state: &mut State, pending: Pending, now_ms: i64) {
        let taken = feed::take(state, &pending);
        state.commit += 1;
        let commit = state.commit;
        let oldest_read = self.pinned().first_key_value().map_or(commit, |(oldest, _)| *oldest);
        let plans = Arc::clone(&state.plans);
        for ((object, sequence), mut version) in pending.versions {
            version.commit = commit;
            let (Some(store), Some(plan)) = (state.stores.get_mut(object), plans.get(object)) else {
                continue;
            };
            let before = store.version_at(sequence, commit).cloned();
            let counted_before = match &before {
                Some(version) => version.is_counted(),
                None if sequence < store.shape.rows => {
                    let stamp = store.shape.stamp_ms(sequence);
                    !store.is_base_deleted(sequence, stamp) && !store.is_base_archived(stamp)
                }
                None => false,
            };
            store.live_delta += i64::from(version.is_counted()) - i64::from(counted_before);
            for (field, _) in &plan.cascading {
                if let Some(parent) = before.as_ref().and_then(|old| parent_of(plan, *field, old, sequence))
                    && let Some(siblings) = store.children.get_mut(&(*field, parent))
                {
                    siblings.remove(&sequence);
                }
                if let Some(parent) = parent_of(plan, *field, &version, sequence) {
                    store.children.entry((*field, parent)).or_default().insert(sequence);
                }
            }
            let old_life = before.map_or(Life::Live, |version| version.life);
            match (old_life, version.life) {
                (Life::Live, Life::Live) => {}
                (_, Life::Live) => store.deletions.forget(sequence),
                (_, Life::Deleted { at_ms }) => store.deletions.record(sequence, at_ms),
                (Life::Deleted { at_ms }, Life::Purged) => store.deletions.record(sequence, at_ms),
                (_, Life::Purged) => store.deletions.record(sequence, pending.stamp_ms),
            }
            if version.life == Life::Purged {
                store.deletions.note_purge(now_ms);
            }
            store.deletions.trim(now_ms, self.config.delete_log_limit);
            store.push(sequence, version, oldest_read);
        }
        if let Some(taken) = taken {
            self.queue_visible(state, taken, now_ms);
        }
        state.log.extend(pending.log.into_iter().map(|mut entry| {
            entry.commit = commit;
            entry
        }));
    }
}
