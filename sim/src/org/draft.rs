//! One transaction while it is worked out: each change checked and stamped like Salesforce does it.
//!
//! Comes in: changes, in order; each sees what the earlier ones of its transaction did. Goes out: the versions
//! to be seen under one commit. Never: a change of the org's state; that is left to the commit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::State;
use super::calendar::truncate_to_second;
use super::commit::{Pending, Place};
use super::id::Id;
use super::plan::Plan;
use super::store::{Life, Version};
use super::transaction::{Change, CommitError, Fields};
use super::truth::{ChangeCause, ChangeKind, LogEntry};
use super::value::Value;
use crate::catalog::{FieldType, ObjectDef};

/// The sequence number of a record's cascading parent.
pub(super) fn parent_of(plan: &Plan, field: usize, version: &Version, sequence: u64) -> Option<u64> {
    match version.value(field) {
        Some(value) => value.as_id()?.sequence(),
        None => plan.block_parent(field, sequence),
    }
}

pub(super) struct Draft<'s> {
    number: u64,
    now_ms: i64,
    stamp_ms: i64,
    visible_at_ms: i64,
    user: Id,
    /// Next free sequence numbers, where records were inserted.
    pub next: BTreeMap<usize, u64>,
    pub pending: Pending,
    /// Records whose parent this transaction may have changed.
    moved: BTreeSet<Place>,
    state: &'s State,
}

impl<'s> Draft<'s> {
    pub fn new(
        state: &'s State,
        number: u64,
        now_ms: i64,
        stamp_ms: i64,
        visible_at_ms: i64,
        user: Id,
    ) -> Draft<'s> {
        Draft {
            number,
            now_ms,
            stamp_ms,
            visible_at_ms,
            user,
            next: BTreeMap::new(),
            pending: Pending { stamp_ms, user, origin: None, versions: BTreeMap::new(), log: Vec::new() },
            moved: BTreeSet::new(),
            state,
        }
    }

    pub fn apply(&mut self, change: &Change) -> Result<Id, CommitError> {
        let object = self.state.object_index(change.object())?;
        match change {
            Change::Insert { fields, id, fill, .. } => self.insert(object, fields, *id, *fill),
            Change::Update { id, fields, .. } => {
                let place = self.find(object, *id)?;
                let changed = self.update(place, fields)?;
                self.log(place, ChangeKind::Update, ChangeCause::Direct, changed);
                Ok(*id)
            }
            Change::Touch { id, .. } => {
                let place = self.find(object, *id)?;
                let mut version = self.live(place)?;
                version.system_modstamp_ms = self.stamp_ms;
                self.keep(place, version);
                self.log(place, ChangeKind::Touch, ChangeCause::Direct, Vec::new());
                Ok(*id)
            }
            Change::AutomatedUpdate { id, fields, .. } => {
                let place = self.find(object, *id)?;
                let mut version = self.live(place)?;
                version.system_modstamp_ms = self.stamp_ms;
                let changed = self.set_fields(object, &mut version, fields)?;
                self.moved.insert(place);
                self.keep(place, version);
                self.log(place, ChangeKind::Touch, ChangeCause::Direct, changed);
                Ok(*id)
            }
            Change::Delete { id, .. } => {
                if !self.def(object).flags.deletable {
                    return Err(self.not_allowed(object, "delete"));
                }
                let place = self.find(object, *id)?;
                self.live(place)?;
                self.delete(place, ChangeCause::Direct, None)?;
                Ok(*id)
            }
            Change::Undelete { id, .. } => {
                if !self.def(object).flags.undeletable {
                    return Err(self.not_allowed(object, "undelete"));
                }
                let place = self.find(object, *id)?;
                match self.current(place)?.life {
                    Life::Deleted { at_ms } if self.now_ms - at_ms < self.bin_ms() => {}
                    Life::Deleted { .. } => {
                        return Err(CommitError::NotFound { object: self.name(object), id: *id });
                    }
                    _ => return Err(CommitError::NotDeleted { object: self.name(object), id: *id }),
                }
                self.undelete(place, ChangeCause::Direct)?;
                Ok(*id)
            }
            Change::HardDelete { id, .. } => {
                if !self.def(object).flags.deletable {
                    return Err(self.not_allowed(object, "hard delete"));
                }
                let place = self.find(object, *id)?;
                self.purge(place, ChangeCause::Direct)?;
                Ok(*id)
            }
            Change::Merge { winner, losers, fields, .. } => self.merge(object, *winner, losers, fields),
        }
    }

    fn insert(
        &mut self,
        object: usize,
        fields: &Fields,
        id: Option<Id>,
        fill: bool,
    ) -> Result<Id, CommitError> {
        let store = &self.state.stores[object];
        let next = self.next.get(&object).copied().unwrap_or(store.next_sequence);
        let sequence = match id {
            None => next,
            Some(id) => match store.sequence_of(id) {
                Some(sequence) if sequence >= next => sequence,
                _ => return Err(CommitError::IdTaken { object: self.name(object), id }),
            },
        };
        self.next.insert(object, sequence + 1);
        let place = (object, sequence);
        let mut version = Version {
            commit: 0,
            cursor_ms: self.stamp_ms,
            created_ms: self.stamp_ms,
            created_by: self.user,
            modified_ms: self.stamp_ms,
            modified_by: self.user,
            system_modstamp_ms: self.stamp_ms,
            life: Life::Live,
            archived: false,
            master: None,
            deleted_with: None,
            filled: fill,
            values: Vec::new(),
        };
        let mut changed = self.set_fields(object, &mut version, fields)?;
        let def = Arc::clone(self.def(object));
        if fill {
            self.join_live_parents(place, &mut version);
        } else {
            for (index, field) in def.visible_fields() {
                if version.value(index).is_some() {
                    continue;
                }
                let value = match (&field.default_value, field.name.as_str()) {
                    (_, "OwnerId") => Value::Id(self.user),
                    (Some(text), _) if field.field_type == FieldType::Boolean => Value::Bool(text == "true"),
                    (Some(text), _) if field.field_type.is_textual() => Value::text(text.clone()),
                    _ => continue,
                };
                version.set(index, value);
            }
        }
        changed.extend(version.values.iter().map(|(field, value)| (*field, value.clone())));
        changed.sort_by_key(|(field, _)| *field);
        changed.dedup_by_key(|(field, _)| *field);
        self.moved.insert(place);
        self.keep(place, version);
        self.log(place, ChangeKind::Insert, ChangeCause::Direct, changed);
        Ok(store.id(sequence))
    }

    /// A generated child must not hang on a deleted parent.
    fn join_live_parents(&mut self, (object, sequence): Place, version: &mut Version) {
        let plan = Arc::clone(&self.state.plans[object]);
        for (field, parent_object) in &plan.cascading {
            let parents = plan.block_parents(*field);
            if version.value(*field).is_some() || parents == 0 {
                continue;
            }
            let hash = plan.row_hash(sequence);
            let parent = (0..16)
                .map(|attempt| super::generate::below(super::generate::mix(hash ^ attempt), parents))
                .find(|parent| self.current((*parent_object, *parent)).is_ok_and(|v| v.life == Life::Live));
            let prefix = self.state.stores[*parent_object].prefix;
            version.set(*field, parent.map_or(Value::Null, |parent| Value::Id(Id::new(prefix, parent))));
        }
    }

    fn update(&mut self, place: Place, fields: &Fields) -> Result<Vec<(usize, Value)>, CommitError> {
        let mut version = self.live(place)?;
        version.modified_ms = self.stamp_ms;
        version.modified_by = self.user;
        version.system_modstamp_ms = self.stamp_ms;
        let changed = self.set_fields(place.0, &mut version, fields)?;
        self.moved.insert(place);
        self.keep(place, version);
        Ok(changed)
    }

    /// Sets fields; audit fields only as "Create Audit Fields" allows.
    fn set_fields(
        &self,
        object: usize,
        version: &mut Version,
        fields: &Fields,
    ) -> Result<Vec<(usize, Value)>, CommitError> {
        let def = self.def(object);
        let system = def.system();
        let mut changed = Vec::with_capacity(fields.len());
        for (name, value) in fields {
            let refuse = |problem: &str| CommitError::Field {
                object: def.name.clone(),
                field: name.clone(),
                problem: problem.to_owned(),
            };
            let (index, field) = def.field_even_hidden(name).ok_or_else(|| refuse("no such field"))?;
            let is = |place: Option<usize>| place == Some(index);
            let moment = || match value {
                Value::DateTime(ms) => Ok(truncate_to_second(*ms)),
                _ => Err(refuse("a moment is expected")),
            };
            let user = || value.as_id().ok_or_else(|| refuse("an id is expected"));
            if is(system.created_date) {
                version.created_ms = moment()?;
            } else if is(system.last_modified_date) {
                version.modified_ms = moment()?;
            } else if is(system.created_by) {
                version.created_by = user()?;
            } else if is(system.last_modified_by) {
                version.modified_by = user()?;
            } else if is(system.is_archived) {
                version.archived = *value == Value::Bool(true);
            } else if [system.id, system.is_deleted, system.master_record_id, system.system_modstamp]
                .contains(&Some(index))
            {
                return Err(refuse("the org keeps it"));
            } else if field.is_calculated() || field.auto_number {
                return Err(refuse("it is computed"));
            } else if matches!(field.field_type, FieldType::Address | FieldType::Location) {
                return Err(refuse("set its parts"));
            } else {
                version.set(index, fit(field.field_type.clone(), value.clone()));
            }
            changed.push((index, value.clone()));
        }
        Ok(changed)
    }

    fn delete(
        &mut self,
        place: Place,
        cause: ChangeCause,
        taken_by: Option<Place>,
    ) -> Result<(), CommitError> {
        let (object, sequence) = place;
        let soft = self.def(object).system().is_deleted.is_some();
        let mut version = self.current(place)?;
        let keeps_stamp = cause == ChangeCause::Cascade && self.state.cascade_keeps_stamp;
        if !keeps_stamp {
            version.system_modstamp_ms = self.stamp_ms;
            version.modified_ms = self.stamp_ms;
            version.modified_by = self.user;
        }
        version.life = if soft { Life::Deleted { at_ms: self.stamp_ms } } else { Life::Purged };
        version.deleted_with = taken_by;
        self.keep(place, version);
        let kind = if soft { ChangeKind::Delete } else { ChangeKind::Purge };
        self.log(place, kind, cause, Vec::new());
        for child in self.children(object, sequence) {
            if self.current(child)?.life == Life::Live {
                self.delete(child, ChangeCause::Cascade, Some(place))?;
            }
        }
        Ok(())
    }

    /// Brings a record back, and the children its deletion took along.
    fn undelete(&mut self, place: Place, cause: ChangeCause) -> Result<(), CommitError> {
        let mut version = self.current(place)?;
        version.life = Life::Live;
        version.master = None;
        version.deleted_with = None;
        version.system_modstamp_ms = self.stamp_ms;
        version.modified_ms = self.stamp_ms;
        version.modified_by = self.user;
        self.keep(place, version);
        self.log(place, ChangeKind::Undelete, cause, Vec::new());
        for child in self.children(place.0, place.1) {
            if self.current(child)?.deleted_with == Some(place) {
                self.undelete(child, ChangeCause::Cascade)?;
            }
        }
        Ok(())
    }

    fn purge(&mut self, place: Place, cause: ChangeCause) -> Result<(), CommitError> {
        let mut version = self.current(place)?;
        let was_live = version.life == Life::Live;
        if was_live {
            version.system_modstamp_ms = self.stamp_ms;
        }
        version.life = Life::Purged;
        self.keep(place, version);
        self.log(place, ChangeKind::Purge, cause, Vec::new());
        for child in self.children(place.0, place.1) {
            let child_now = self.current(child)?;
            if child_now.life == Life::Live || child_now.deleted_with == Some(place) {
                self.purge(child, ChangeCause::Cascade)?;
            }
        }
        Ok(())
    }

    /// Losers go to the bin with `MasterRecordId`, their children move to the winner (rest.md 3.6).
    fn merge(
        &mut self,
        object: usize,
        winner: Id,
        losers: &[Id],
        fields: &Fields,
    ) -> Result<Id, CommitError> {
        let def = Arc::clone(self.def(object));
        if !def.flags.mergeable || def.system().master_record_id.is_none() {
            return Err(self.not_allowed(object, "merge"));
        }
        let winner_place = self.find(object, winner)?;
        self.live(winner_place)?;
        for loser in losers {
            let place = self.find(object, *loser)?;
            if place == winner_place {
                return Err(CommitError::Malformed("a record cannot be merged into itself".to_owned()));
            }
            self.live(place)?;
            for child in self.children(object, place.1) {
                if self.current(child)?.life == Life::Live {
                    self.reparent(child, place, winner)?;
                }
            }
            self.delete(place, ChangeCause::Merge, None)?;
            if let Some(version) = self.pending.versions.get_mut(&place) {
                version.master = Some(winner);
            }
        }
        let changed = self.update(winner_place, fields)?;
        self.log(winner_place, ChangeKind::Update, ChangeCause::Merge, changed);
        Ok(winner)
    }

    fn reparent(&mut self, child: Place, old: Place, winner: Id) -> Result<(), CommitError> {
        let plan = Arc::clone(&self.state.plans[child.0]);
        let mut version = self.current(child)?;
        let mut changed = Vec::new();
        for (field, parent_object) in &plan.cascading {
            if *parent_object == old.0 && parent_of(&plan, *field, &version, child.1) == Some(old.1) {
                version.set(*field, Value::Id(winner));
                changed.push((*field, Value::Id(winner)));
            }
        }
        version.system_modstamp_ms = self.stamp_ms;
        version.modified_ms = self.stamp_ms;
        version.modified_by = self.user;
        self.moved.insert(child);
        self.keep(child, version);
        self.log(child, ChangeKind::Update, ChangeCause::Merge, changed);
        Ok(())
    }

    /// Records of all objects that hang on this one, deleted ones included.
    fn children(&self, object: usize, parent: u64) -> Vec<Place> {
        let mut found = Vec::new();
        for (child_object, plan) in self.state.plans.iter().enumerate() {
            for (field, _) in plan.cascading.iter().filter(|(_, parent_object)| *parent_object == object) {
                let store = &self.state.stores[child_object];
                let block = plan.block(*field, parent).unwrap_or(0..0);
                let untouched = block.filter(|sequence| !store.chains.contains_key(sequence));
                let changed = store.children.get(&(*field, parent)).into_iter().flatten().copied();
                let mut places: Vec<Place> = untouched.chain(changed).map(|at| (child_object, at)).collect();
                // What this very transaction did counts.
                places.retain(|place| match self.pending.versions.get(place) {
                    Some(version) => parent_of(plan, *field, version, place.1) == Some(parent),
                    None => true,
                });
                let moved = self.moved.range((child_object, 0)..=(child_object, u64::MAX));
                places.extend(moved.filter(|place| {
                    let version = self.pending.versions.get(place);
                    version.is_some_and(|version| parent_of(plan, *field, version, place.1) == Some(parent))
                }));
                found.append(&mut places);
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    fn find(&self, object: usize, id: Id) -> Result<Place, CommitError> {
        let not_found = || CommitError::NotFound { object: self.name(object), id };
        let sequence = self.state.stores[object].sequence_of(id).ok_or_else(not_found)?;
        match self.current((object, sequence)) {
            Ok(version) if version.life == Life::Purged => Err(not_found()),
            Ok(_) => Ok((object, sequence)),
            Err(error) => Err(error),
        }
    }

    fn live(&self, place: Place) -> Result<Version, CommitError> {
        let version = self.current(place)?;
        match version.life {
            Life::Live => Ok(version),
            _ => Err(CommitError::EntityIsDeleted { object: self.name(place.0), id: self.id(place) }),
        }
    }

    /// The record as this transaction sees it.
    fn current(&self, place: Place) -> Result<Version, CommitError> {
        let (object, sequence) = place;
        if let Some(version) = self.pending.versions.get(&place) {
            return Ok(version.clone());
        }
        if self.state.locks.contains_key(&place) {
            return Err(CommitError::Locked { object: self.name(object), id: self.id(place) });
        }
        let store = &self.state.stores[object];
        if let Some(version) = store.chains.get(&sequence).and_then(|chain| chain.last()) {
            return Ok(Version::clone(version));
        }
        if sequence >= store.shape.rows {
            return Err(CommitError::NotFound { object: self.name(object), id: self.id(place) });
        }
        Ok(self.generated(place))
    }

    fn generated(&self, (object, sequence): Place) -> Version {
        let store = &self.state.stores[object];
        let plan = &self.state.plans[object];
        let system = self.def(object).system();
        let cursor_ms = store.shape.stamp_ms(sequence);
        let hash = store.row_hash(sequence);
        let is_cursor = |place: Option<usize>| place.is_some() && place == system.cursor;
        Version {
            commit: 0,
            cursor_ms,
            created_ms: Plan::base_created_ms(hash, cursor_ms, is_cursor(system.created_date)),
            created_by: plan.base_user(hash, 0),
            modified_ms: Plan::base_modified_ms(hash, cursor_ms, is_cursor(system.last_modified_date)),
            modified_by: plan.base_user(hash, 1),
            system_modstamp_ms: cursor_ms,
            life: match store.is_base_deleted(sequence, cursor_ms) {
                true => Life::Deleted { at_ms: cursor_ms },
                false => Life::Live,
            },
            archived: store.is_base_archived(cursor_ms),
            master: None,
            deleted_with: None,
            filled: true,
            values: Vec::new(),
        }
    }

    fn keep(&mut self, place: Place, mut version: Version) {
        let system = self.def(place.0).system();
        version.cursor_ms = match system.cursor {
            None => version.cursor_ms,
            cursor if cursor == system.system_modstamp => version.system_modstamp_ms,
            cursor if cursor == system.last_modified_date => version.modified_ms,
            cursor if cursor == system.created_date => version.created_ms,
            Some(_) => version.cursor_ms,
        };
        self.pending.versions.insert(place, version);
    }

    fn log(
        &mut self,
        (object, sequence): Place,
        kind: ChangeKind,
        cause: ChangeCause,
        fields: Vec<(usize, Value)>,
    ) {
        self.pending.log.push(LogEntry {
            commit: 0,
            transaction: self.number,
            committed_at_ms: self.now_ms,
            visible_at_ms: self.visible_at_ms,
            stamp_ms: self.stamp_ms,
            object,
            sequence,
            kind,
            cause,
            fields,
        });
    }

    fn def(&self, object: usize) -> &Arc<ObjectDef> {
        &self.state.catalog.objects()[object]
    }

    fn bin_ms(&self) -> i64 {
        self.state.bin_ms
    }

    fn name(&self, object: usize) -> String {
        self.def(object).name.clone()
    }

    fn id(&self, (object, sequence): Place) -> Id {
        self.state.stores[object].id(sequence)
    }

    fn not_allowed(&self, object: usize, operation: &'static str) -> CommitError {
        CommitError::NotAllowed { object: self.name(object), operation }
    }
}

/// Typed callers may say `Int` for a currency or `Text` for an id; the field decides.
fn fit(field_type: FieldType, value: Value) -> Value {
    match (&field_type, &value) {
        (field_type, Value::Int(number)) if field_type.is_decimal() => Value::Double(*number as f64),
        (FieldType::Boolean, Value::Null) => Value::Bool(false),
        (FieldType::Reference, Value::Text(text)) => Id::parse(text).map_or(value, Value::Id),
        (_, Value::Text(text)) if text.is_empty() => Value::Null,
        _ => value,
    }
}
