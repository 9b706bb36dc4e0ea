//! Loading an object once more beside what it is followed by: what is asked for, and what becomes of a load that runs.
//!
//! Comes in: needs. Goes out: a position that says so, from the next batch on, and a load under a new id. What holds:
//! - Streams and polls go on; each change is published once, as without the load. A loaded row whose id has a younger change
//!   that was published since the decision is dropped (`a_load_anew_never_overtakes_what_is_followed_beside_it`).
//! - What was published before the decision does not count as loaded, however young: it lacks what the load is for.
//! - The need stands in the position until the load is done, and comes into it in the transaction of whatever made it
//!   necessary: a crash forgets no load and begins none twice (`a_load_anew_that_is_ended_anywhere_ends_complete`).
//! - The ledger forgets nothing until the load is done.

use std::sync::Arc;

use super::ObjectCapture;
use crate::domain::{LoadPosition, Need, Notice, NoticeKind, Only, Reload, Stamp, State};
use crate::salesforce::bulk::Job;

impl ObjectCapture {
    /// Everything must be loaded once more, beginning with the next step. The schemas that its records need are registered.
    pub fn load_anew(&mut self, needs: Vec<Need>) {
        self.needs.extend(needs);
    }

    /// Takes up what is needed. Called before anything else is read, so that no batch goes out without it.
    pub(super) fn take_needs(&mut self) {
        for need in std::mem::take(&mut self.needs) {
            if self.position.updated_at == Stamp::default() {
                // It begins: all of it is loaded in any case.
                continue;
            }
            if !self.settings.initial_load {
                let (object, reason, fields) =
                    (&self.description().name, need.reason.word(), need.fields.join(","));
                tracing::info!(%object, reason, fields, "rows were never loaded (`initial_load: false`): it comes with changes");
                continue;
            }
            self.reload(&need);
        }
    }

    /// From here on all records are read again. A load that runs is given up: its query lacks what is needed now.
    pub(super) fn reload(&mut self, need: &Need) {
        let beyond = self.sequencer.sequence().number();
        let reload = Reload::joined(self.position.reload.take(), need, beyond);
        let (object, reason) = (self.description().name.clone(), need.reason);
        let (fields, outputs) =
            (reload.fields.join(","), reload.outputs.as_deref().unwrap_or_default().join(","));
        tracing::warn!(%object, reason = reason.word(), fields, outputs, "all records are loaded anew, changes go on meanwhile");
        self.notices
            .push(Notice { object, kind: NoticeKind::ReloadBegun { reason, reload: reload.clone() } });
        self.sequencer.beyond = beyond;
        self.position.reload = Some(reload);
        (self.reader, self.load_page) = (None, None);
        if let Some(LoadPosition { job: Some(job), done: false, .. }) = self.position.load.take() {
            // It would go on in Salesforce for nothing.
            self.finished_jobs.push(Job::resume(&job, self.sequencer.object()));
        }
        self.position.state = State::Loading;
    }

    /// The load is done that everything was read again for.
    pub(super) fn reloaded(&mut self, load: &LoadPosition) {
        self.sequencer.beyond = 0;
        let Some(reload) = self.position.reload.take() else { return };
        let object = self.description().name.clone();
        tracing::info!(%object, load = load.id, rows = load.rows, reasons = %reload, "all records are loaded anew");
        let kind = NoticeKind::ReloadDone { reload, load: load.id.clone(), rows: load.rows };
        self.notices.push(Notice { object, kind });
    }

    /// Where loaded rows go, if not everywhere. Rows from `remember_from` on may be newer than what the other topics hold:
    /// readings that come later take them for published.
    pub(super) fn only(&self, remember_from: Option<Stamp>) -> Option<Only> {
        let topics: Arc<[String]> = self.position.reload.as_ref()?.outputs.clone()?.into();
        Some(Only { topics, before: remember_from.unwrap_or(Stamp(i64::MAX)) })
    }
}
