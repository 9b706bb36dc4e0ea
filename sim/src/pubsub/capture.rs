//! From a visible transaction to its change events (pubsub.md 5).
//!
//! Comes in: the captured records before and after. Goes out: events in the order of the transaction, one for each
//! record, equal ones merged. What an event is follows from the two states of the record, not from the single
//! changes. Never: an event for a hard delete, nor for a save that moved nothing but SystemModstamp.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Habits;
use super::bitmap::FieldSet;
use super::diff::diff;
use super::encode::{Datum, Header, write_body};
use super::schema::{EventSchema, Kind, Source};
use crate::catalog::{Access, ObjectDef};
use crate::org::calendar::truncate_to_second;
use crate::org::{Id, Value, Visible, VisibleRecord};

pub(crate) const CREATE: usize = 0;
pub(crate) const UPDATE: usize = 1;
pub(crate) const DELETE: usize = 2;
pub(crate) const UNDELETE: usize = 3;
/// What is added to a change type to make a gap of it.
pub(crate) const GAP: usize = 4;
pub(crate) const GAP_OVERFLOW: usize = 8;

/// Beyond 2^53, as recorded.
const COMMIT_BASE: i64 = 1_709_303_151_782_928_388;
const DEFAULT_ORIGIN: &str = "com/salesforce/api/rest/66.0";
/// The automated process user: no row of User.
const AUTOMATED_USER: [u8; 3] = *b"005";
const AUTOMATED_SEQUENCE: u64 = 62 * 62 * 62;
/// Stands for all records of the object in an overflow.
pub(crate) const NO_RECORD: &str = "000000000000000AAA";

/// An event that has no place in the stream yet.
#[derive(Clone, Debug)]
pub(crate) struct ChangeEvent {
    pub schema: Arc<EventSchema>,
    pub header: Header,
    pub payload: Vec<u8>,
    /// Where the fields begin.
    pub body_at: usize,
    pub changed: BTreeSet<usize>,
}

impl ChangeEvent {
    pub fn new(schema: &Arc<EventSchema>, header: Header, values: &[(usize, Datum)]) -> ChangeEvent {
        let mut payload = Vec::with_capacity(256);
        header.write(&mut payload);
        let body_at = payload.len();
        write_body(schema, values, &mut payload);
        ChangeEvent { schema: Arc::clone(schema), header, payload, body_at, changed: BTreeSet::new() }
    }
}

/// One record's change.
struct Draft {
    schema: Arc<EventSchema>,
    object: Arc<str>,
    ids: Vec<Id>,
    kind: usize,
    automated: bool,
    changed: FieldSet,
    nulled: FieldSet,
    diffs: FieldSet,
    values: Vec<(usize, Datum)>,
}

pub(crate) fn events_of(
    visible: &Visible,
    schema_of: impl Fn(&VisibleRecord) -> Arc<EventSchema>,
    habits: &Habits,
    key: &str,
) -> Vec<ChangeEvent> {
    // Places of uncaptured records stay empty: their numbers are missing in the transaction.
    let mut drafts: Vec<Option<Draft>> = Vec::with_capacity(visible.records.len());
    for record in &visible.records {
        if !record.captured {
            if !record.touch_only {
                drafts.push(None);
            }
            continue;
        }
        let Some(draft) = draft(record, schema_of(record), habits) else { continue };
        let (stamp, draft) = match habits.split_stamps {
            true => draft.split(&record.object),
            false => (None, draft),
        };
        for draft in stamp.into_iter().chain([draft]) {
            let mergeable = habits.merge_equal && matches!(draft.kind, UPDATE | DELETE);
            match drafts.iter_mut().flatten().find(|known| mergeable && known.is_equal(&draft)) {
                Some(known) => known.ids.extend(draft.ids),
                None => drafts.push(Some(draft)),
            }
        }
    }
    let mut events = Vec::new();
    let mut overflowed: Vec<Arc<EventSchema>> = Vec::new();
    let (mut changes, mut sequence) = (0, 0);
    for draft in drafts {
        let Some(draft) = draft else {
            sequence += 1;
            continue;
        };
        changes += draft.ids.len() * draft.changed.len().max(1);
        if changes > habits.overflow_after {
            if !overflowed.iter().any(|schema| schema.object == draft.schema.object) {
                overflowed.push(draft.schema);
            }
            continue;
        }
        sequence += 1;
        events.push(draft.finish(visible, key, sequence, habits));
    }
    for schema in overflowed {
        sequence += 1;
        let header = Header {
            record_ids: vec![NO_RECORD.to_owned()],
            change_type: GAP_OVERFLOW,
            ..bare_header(&schema, visible, key, sequence)
        };
        events.push(ChangeEvent::new(&schema, header, &[]));
    }
    events
}

fn bare_header(schema: &EventSchema, visible: &Visible, key: &str, sequence: i32) -> Header {
    Header {
        entity: schema.object.to_string(),
        record_ids: Vec::new(),
        change_type: CREATE,
        origin: visible.origin.clone().unwrap_or_else(|| DEFAULT_ORIGIN.to_owned()),
        transaction_key: key.to_owned(),
        sequence,
        commit_timestamp_ms: truncate_to_second(visible.visible_at_ms),
        commit_number: commit_number(visible.commit),
        commit_user: visible.user.as_str().to_owned(),
        nulled: Vec::new(),
        diffs: Vec::new(),
        changed: Vec::new(),
    }
}

pub(crate) fn commit_number(commit: u64) -> i64 {
    COMMIT_BASE.saturating_add(i64::try_from(commit).unwrap_or(i64::MAX) * 1_000)
}

impl Draft {
    /// LastModifiedDate in an event of its own, if something else was changed too.
    fn split(mut self, object: &ObjectDef) -> (Option<Draft>, Draft) {
        let stamp = object.system().last_modified_date.and_then(|index| self.schema.place_of(index));
        let Some((position, _)) = stamp.filter(|(position, _)| self.changed.plain.contains(position)) else {
            return (None, self);
        };
        if self.kind != UPDATE || self.changed.len() == 1 {
            return (None, self);
        }
        self.changed.plain.remove(&position);
        let at = self.values.iter().position(|(known, _)| *known == position);
        let mut changed = FieldSet::default();
        changed.add(position);
        let first = Draft {
            schema: Arc::clone(&self.schema),
            object: Arc::clone(&self.object),
            ids: self.ids.clone(),
            kind: UPDATE,
            automated: self.automated,
            changed,
            nulled: FieldSet::default(),
            diffs: FieldSet::default(),
            values: at.map(|at| vec![self.values.remove(at)]).unwrap_or_default(),
        };
        (Some(first), self)
    }

    fn is_equal(&self, other: &Draft) -> bool {
        self.object == other.object
            && self.kind == other.kind
            && self.automated == other.automated
            && self.changed == other.changed
            && self.nulled == other.nulled
            && self.diffs == other.diffs
            && self.values == other.values
    }

    fn finish(self, visible: &Visible, key: &str, sequence: i32, habits: &Habits) -> ChangeEvent {
        let mut header = Header {
            record_ids: self.ids.iter().map(|id| id.as_str().to_owned()).collect(),
            change_type: self.kind,
            nulled: self.nulled.bitmaps(),
            diffs: self.diffs.bitmaps(),
            changed: self.changed.bitmaps(),
            ..bare_header(&self.schema, visible, key, sequence)
        };
        if self.automated {
            header.origin = String::new();
            header.commit_user = Id::new(AUTOMATED_USER, AUTOMATED_SEQUENCE).as_str().to_owned();
        }
        let mut event = ChangeEvent::new(&self.schema, header, &self.values);
        event.changed = self.changed.plain.iter().chain(self.changed.parts.keys()).copied().collect();
        if event.payload.len() <= habits.largest_event {
            return event;
        }
        let gap = Header {
            change_type: self.kind + GAP,
            nulled: Vec::new(),
            diffs: Vec::new(),
            changed: Vec::new(),
            ..event.header
        };
        ChangeEvent::new(&self.schema, gap, &[])
    }
}

fn draft(record: &VisibleRecord, schema: Arc<EventSchema>, habits: &Habits) -> Option<Draft> {
    let was_live = record.before.as_ref().is_some_and(|row| row.is_live());
    let was_in_bin = record.before.as_ref().is_some_and(|row| row.is_in_bin());
    let after = record.after.as_ref()?;
    let kind = match (was_live, after.is_live()) {
        (true, true) => UPDATE,
        (false, true) if was_in_bin => UNDELETE,
        (false, true) => CREATE,
        (true, false) if after.is_in_bin() => DELETE,
        // Never seen alive, or gone past the bin.
        _ => return None,
    };
    let mut draft = Draft {
        object: Arc::clone(&schema.object),
        ids: vec![record.id],
        kind,
        automated: false,
        changed: FieldSet::default(),
        nulled: FieldSet::default(),
        diffs: FieldSet::default(),
        values: Vec::new(),
        schema,
    };
    match kind {
        CREATE | UNDELETE => draft.fill(record, habits),
        UPDATE => {
            draft.automated = record.touch_only;
            draft.compare(record, habits);
            if draft.changed.is_empty() {
                return None;
            }
        }
        _ => {}
    }
    Some(draft)
}

impl Draft {
    /// All fields; empty ones null.
    fn fill(&mut self, record: &VisibleRecord, habits: &Habits) {
        let Some(row) = &record.after else { return };
        for (at, field) in self.schema.fields.iter().enumerate() {
            let datum = Datum::of_field(field, row);
            let omitted = habits.null_booleans && datum == Datum::Boolean(false);
            if datum != Datum::Null && !omitted {
                self.values.push((at + 1, datum));
            }
        }
    }

    /// The fields whose values differ, among those that were set and those that follow from them.
    fn compare(&mut self, record: &VisibleRecord, habits: &Habits) {
        let (Some(before), Some(after)) = (&record.before, &record.after) else { return };
        let object = &record.object;
        let system = *object.system();
        let computed = object.all_fields().iter().enumerate();
        let computed = computed.filter(|(_, field)| field.is_calculated()).map(|(index, _)| index);
        let stamps = [system.last_modified_date, system.last_modified_by].into_iter().flatten();
        let mut candidates: BTreeSet<usize> = record.fields.iter().copied().collect();
        candidates.extend(computed.chain(stamps));
        let schema = Arc::clone(&self.schema);
        for index in candidates {
            let (Some((position, part)), Some(definition)) = (schema.place_of(index), object.field_at(index))
            else {
                continue;
            };
            if definition.access == Access::Removed {
                continue;
            }
            let (old, new) = (before.get(index), after.get(index));
            // Each save by somebody stamps the record, in the same second too.
            let stamped = Some(index) == system.last_modified_date && !record.touch_only;
            if old == new && !stamped {
                continue;
            }
            let hidden = !definition.is_visible();
            if let Some(part) = part {
                self.changed.add_part(position, part);
                if new.is_null() && !hidden {
                    self.nulled.add_part(position, part);
                }
                continue;
            }
            self.changed.add(position);
            if hidden {
                continue;
            }
            let Some(field) = schema.fields.get(position - 1) else { continue };
            let mut datum = Datum::of(field.kind, &new);
            if let (true, Value::Text(old), Value::Text(new), Some(from)) =
                (field.long_text, &old, &new, habits.diff_from)
                && let Some(diff) = diff(old, new, from)
            {
                self.diffs.add(position);
                datum = Datum::Text(diff);
            }
            match datum {
                Datum::Null => self.nulled.add(position),
                datum => self.values.push((position, datum)),
            }
        }
        self.complete_compounds(record);
    }

    /// Values of changed compounds; a custom geolocation of a custom object has both halves or none (3.4).
    fn complete_compounds(&mut self, record: &VisibleRecord) {
        let Some(after) = &record.after else { return };
        let schema = Arc::clone(&self.schema);
        let positions: Vec<usize> = self.changed.parts.keys().copied().collect();
        for position in positions {
            let Some(field) = schema.fields.get(position - 1) else { continue };
            let Source::Parts(parts) = &field.source else { continue };
            if schema.custom && parts.len() == 2 && field.kind == (Kind::Record { union_text: false }) {
                (0..2).for_each(|part| self.changed.add_part(position, part));
            }
            let chosen = self.changed.parts.get(&position).cloned().unwrap_or_default();
            let values = Datum::parts(field, after, |part| chosen.contains(&part));
            for part in &chosen {
                let hidden = parts[*part].field.and_then(|index| record.object.field_at(index));
                if values[*part] == Datum::Null && hidden.is_some_and(|field| field.is_visible()) {
                    self.nulled.add_part(position, *part);
                }
            }
            self.values.push((position, Datum::Parts(values)));
        }
    }
}
