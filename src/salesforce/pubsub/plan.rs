//! From an event's fields to the object's: the same cells that REST and Bulk give.
//!
//! Comes in: an event schema and a description. Goes out: a plan, compiled once for both, and by it an event's
//! [`EventCells`]. Parts of compounds are fields of their own (`BillingAddress.Street` is `BillingStreet`). A field is
//! absent if the event says nothing about it, which is never null. What the event says but cannot express, or what
//! does not fit the field's type, is left out and named in [`EventCells::unexpressed`]: it must be read from the record.
//! Never: a guess.

use std::fmt;
use std::sync::Arc;

use crate::domain::compound::part_field_name;
use crate::domain::{FieldKind, FieldSet, ObjectDescription, RowLayout, Rows};
use crate::error::{Error, Kind, Result};

use super::cell::{Rendered, render};
use super::event::{ChangeEvent, ChangeKind, Value};
use super::event_schema::{EventField, EventSchema, Shape};

#[derive(Debug)]
pub struct EventPlan {
    schema: Arc<EventSchema>,
    object: Arc<ObjectDescription>,
    steps: Vec<Step>,
    absent: FieldSet,
}

#[derive(Debug)]
enum Step {
    One {
        slot: usize,
        field: usize,
    },
    Compound(Compound),
    /// A list of switches, each of which is a field of the object (`UserPreferences`).
    Group {
        slot: usize,
        fields: Vec<usize>,
    },
}

#[derive(Debug)]
struct Compound {
    slot: usize,
    /// The field with the compound's own name, which holds its parts as one text (`Name`).
    whole: Option<usize>,
    /// A value can come instead of the parts (a business account's `Name`).
    or_text: bool,
    /// By part: the object's field.
    parts: Vec<Option<usize>>,
}

/// What an event says of an object's fields, all its records alike.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct EventCells {
    data: Vec<u8>,
    /// By field: where its cell lies; none: absent.
    places: Vec<Option<(u32, u32)>>,
    /// Fields that the event says were changed: the change mask of an update. Empty for everything else.
    pub changed: FieldSet,
    /// Fields that were set to null.
    pub nulled: FieldSet,
    /// Fields whose value must be read from the record: the event says that there is one, but not which. Decimals
    /// with more digits than a double holds have a cell all the same.
    pub unexpressed: FieldSet,
    /// A name came in its parts only: how the org puts them together must be read.
    pub name_is_due: bool,
}

impl fmt::Debug for EventCells {
    /// Without values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventCells")
            .field("carried", &self.carried().collect::<Vec<_>>())
            .field("changed", &self.changed)
            .field("nulled", &self.nulled)
            .field("unexpressed", &self.unexpressed)
            .finish_non_exhaustive()
    }
}

impl EventCells {
    /// None: absent; empty: null. As in [`crate::domain::Row`].
    pub fn cell(&self, field: usize) -> Option<&[u8]> {
        let (start, end) = (*self.places.get(field)?)?;
        self.data.get(start as usize..end as usize)
    }

    /// Fields that have a cell, null or not.
    pub fn carried(&self) -> impl Iterator<Item = usize> + '_ {
        self.places.iter().enumerate().filter(|(_, place)| place.is_some()).map(|(field, _)| field)
    }

    /// A row for each id, with the key and the fields that the event carries.
    pub fn rows(&self, object: &ObjectDescription, ids: &[&str]) -> Result<Rows> {
        let fields: Vec<usize> = self
            .carried()
            .filter(|field| *field != object.key)
            .chain([object.key])
            .collect::<FieldSet>()
            .iter()
            .collect();
        let columns: Vec<_> = fields.iter().copied().map(Some).collect();
        let mut rows = Rows::new(RowLayout::new(&columns, object.fields.len()));
        for id in ids {
            let cells = fields.iter().map(|field| {
                if *field == object.key { id.as_bytes() } else { self.cell(*field).unwrap_or_default() }
            });
            rows.push(cells).map_err(|_| {
                Error::new(Kind::RecordTooLarge, "the records of an event together are larger than 4 GiB")
            })?;
        }
        Ok(rows)
    }

    fn set(&mut self, field: usize, fill: impl FnOnce(&mut Vec<u8>) -> Rendered) -> Rendered {
        let start = self.data.len();
        let rendered = fill(&mut self.data);
        if rendered == Rendered::Unfit {
            self.data.truncate(start);
            self.unexpressed.insert(field);
            return rendered;
        }
        // A payload has at most 16 MiB, and its cells are hardly longer.
        let place = u32::try_from(start).ok().zip(u32::try_from(self.data.len()).ok());
        if let Some(slot) = self.places.get_mut(field) {
            *slot = place;
        }
        rendered
    }
}

impl EventPlan {
    pub fn compile(schema: &Arc<EventSchema>, object: &Arc<ObjectDescription>) -> Self {
        let mut taken = FieldSet::default();
        let mut take = |field: Option<usize>| {
            // What an event might bring of a blob is not its path: it is read.
            let is_blob = |field: usize| {
                let kind = object.fields.get(field).map(|field| field.kind);
                matches!(kind, Some(FieldKind::Binary | FieldKind::Blob))
            };
            let free = |field: &usize| !taken.contains(*field) && *field != object.key && !is_blob(*field);
            let field = field.filter(free)?;
            taken.insert(field);
            Some(field)
        };
        let mut steps = Vec::with_capacity(schema.fields().len());
        for field in schema.fields() {
            match &field.shape {
                Shape::Header(_) => {}
                Shape::Plain => {
                    if let Some(index) = take(object.field_index(&field.name)) {
                        steps.push(Step::One { slot: field.slot, field: index });
                    }
                }
                Shape::Compound { record, parts, or_text } => {
                    let whole = take(object.field_index(&field.name));
                    let parts: Vec<_> =
                        parts.iter().map(|part| take(part_field(object, field, record, part))).collect();
                    if whole.is_some() || parts.iter().any(Option::is_some) {
                        let (slot, or_text) = (field.slot, *or_text);
                        steps.push(Step::Compound(Compound { slot, whole, or_text, parts }));
                    }
                }
                Shape::Other => {
                    let own = object.field_index(&field.name);
                    let fields: Vec<_> = own
                        .into_iter()
                        .chain(switches(object, &field.name))
                        .filter_map(|field| take(Some(field)))
                        .collect();
                    if !fields.is_empty() {
                        steps.push(Step::Group { slot: field.slot, fields });
                    }
                }
            }
        }
        let carried: FieldSet = steps
            .iter()
            .flat_map(|step| match step {
                Step::One { field, .. } => vec![*field],
                Step::Compound(compound) => {
                    // A whole that never comes as such is not carried.
                    let whole = compound.whole.filter(|_| compound.or_text);
                    compound.parts.iter().flatten().copied().chain(whole).collect()
                }
                Step::Group { .. } => Vec::new(),
            })
            .collect();
        let absent = (0..object.fields.len())
            .filter(|field| *field != object.key && !carried.contains(*field))
            .collect();
        Self { schema: Arc::clone(schema), object: Arc::clone(object), steps, absent }
    }

    /// Whether it was compiled for these two.
    pub fn is_for(&self, schema: &EventSchema, object: &ObjectDescription) -> bool {
        self.schema.id() == schema.id()
            && self.object.name == object.name
            && self.object.revision == object.revision
    }

    /// The description that its field indices belong to.
    pub fn object(&self) -> &Arc<ObjectDescription> {
        &self.object
    }

    /// Fields of the object that no event of this schema carries: `SystemModstamp`, `IsDeleted`, …; the key is not
    /// among them.
    pub fn absent(&self) -> &FieldSet {
        &self.absent
    }

    /// What the event says of each field. Deletes and gaps say nothing.
    pub fn cells(&self, event: &ChangeEvent) -> Result<EventCells> {
        if event.schema_id() != self.schema.id() {
            let what = format!("an event of schema {} meets a plan for another", event.schema_id());
            return Err(Error::new(Kind::Internal, what));
        }
        let mut cells = EventCells { places: vec![None; self.object.fields.len()], ..EventCells::default() };
        match event.kind {
            ChangeKind::Create | ChangeKind::Undelete => {
                cells.data.reserve(event.payload.len());
                self.steps.iter().for_each(|step| self.row(event, step, &mut cells));
            }
            ChangeKind::Update => self.steps.iter().for_each(|step| self.update(event, step, &mut cells)),
            ChangeKind::Delete
            | ChangeKind::GapCreate
            | ChangeKind::GapUpdate
            | ChangeKind::GapDelete
            | ChangeKind::GapUndelete
            | ChangeKind::GapOverflow
            | ChangeKind::Unknown(_) => {}
        }
        Ok(cells)
    }

    /// A whole row: what is null is empty.
    fn row(&self, event: &ChangeEvent, step: &Step, cells: &mut EventCells) {
        match step {
            Step::One { slot, field } => self.of_row(event, *slot, *field, cells),
            Step::Compound(compound) => {
                for (part, field) in compound.parts.iter().enumerate() {
                    if let Some(field) = field {
                        self.of_row(event, compound.slot + 1 + part, *field, cells);
                    }
                }
                let Some(whole) = compound.whole else { return };
                match event.value(compound.slot) {
                    Value::Parts => {
                        cells.unexpressed.insert(whole);
                        cells.name_is_due = true;
                    }
                    _ if compound.or_text => self.of_row(event, compound.slot, whole, cells),
                    _ => cells.unexpressed.insert(whole),
                }
            }
            Step::Group { slot, fields } => {
                if event.value(*slot) != Value::Null {
                    fields.iter().for_each(|field| cells.unexpressed.insert(*field));
                }
            }
        }
    }

    fn of_row(&self, event: &ChangeEvent, slot: usize, field: usize, cells: &mut EventCells) {
        if event.value(slot) != Value::Null {
            self.write(event, slot, field, cells);
            return;
        }
        match self.object.fields.get(field) {
            // Salesforce knows no null there; the event shows one now and then.
            Some(described) if described.source_kind() == FieldKind::Boolean => {
                cells.unexpressed.insert(field)
            }
            // Not computed is not empty.
            Some(described) if described.calculated => {}
            _ => drop(cells.set(field, |_| Rendered::Fit)),
        }
    }

    /// Only what the bitmaps name.
    fn update(&self, event: &ChangeEvent, step: &Step, cells: &mut EventCells) {
        let named = |slot: usize| {
            event.changed.contains(slot) || event.nulled.contains(slot) || event.diff.contains(slot)
        };
        match step {
            Step::One { slot, field } => {
                if named(*slot) {
                    self.of_update(event, *slot, *field, event.nulled.contains(*slot), cells);
                }
            }
            Step::Compound(compound) => {
                // Its own bit stands for all parts, unless a text comes in their stead.
                let whole_named = named(compound.slot);
                let is_text = matches!(event.value(compound.slot), Value::Text(..));
                let all_nulled = event.nulled.contains(compound.slot);
                let mut any = false;
                for (part, field) in compound.parts.iter().enumerate() {
                    let slot = compound.slot + 1 + part;
                    if !(named(slot) || (whole_named && !is_text)) {
                        continue;
                    }
                    any = true;
                    if let Some(field) = field {
                        let nulled = all_nulled || event.nulled.contains(slot);
                        self.of_update(event, slot, *field, nulled, cells);
                    }
                }
                let Some(whole) = compound.whole else { return };
                if whole_named && is_text {
                    self.of_update(event, compound.slot, whole, all_nulled, cells);
                } else if whole_named || any {
                    cells.changed.insert(whole);
                    cells.unexpressed.insert(whole);
                    cells.name_is_due = true;
                }
            }
            Step::Group { slot, fields } => {
                if named(*slot) {
                    for field in fields {
                        cells.changed.insert(*field);
                        cells.unexpressed.insert(*field);
                    }
                }
            }
        }
    }

    fn of_update(
        &self,
        event: &ChangeEvent,
        slot: usize,
        field: usize,
        nulled: bool,
        cells: &mut EventCells,
    ) {
        cells.changed.insert(field);
        let is_boolean =
            self.object.fields.get(field).is_some_and(|field| field.source_kind() == FieldKind::Boolean);
        match (event.value(slot), nulled) {
            // A difference is no value.
            _ if event.diff.contains(slot) => cells.unexpressed.insert(field),
            (Value::Null, true) if !is_boolean => {
                cells.set(field, |_| Rendered::Fit);
                cells.nulled.insert(field);
            }
            // Null though nobody set it to null: the user may not see the value. Or null and a value at once.
            (Value::Null, _) | (_, true) => cells.unexpressed.insert(field),
            _ => self.write(event, slot, field, cells),
        }
    }

    fn write(&self, event: &ChangeEvent, slot: usize, field: usize, cells: &mut EventCells) {
        let Some(of) = self.object.fields.get(field) else { return };
        let rendered = cells.set(field, |out| render(of, event, event.value(slot), out));
        if rendered == Rendered::ManyDigits {
            cells.unexpressed.insert(field);
        }
    }
}

/// The object's own field for a part of a compound (`pubsub.md` 3.4).
fn part_field(object: &ObjectDescription, field: &EventField, record: &str, part: &str) -> Option<usize> {
    if record.ends_with("PersonName") && !field.name.ends_with("__c") {
        return object.field_index(part);
    }
    object.field_index(&part_field_name(&field.name, part))
}

/// Checkboxes whose names begin with the list's: `UserPreferencesActivityRemindersPopup`.
fn switches(object: &ObjectDescription, name: &str) -> Vec<usize> {
    let is_one = |field: &str| {
        field.len() > name.len()
            && field.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
    };
    let fields = object.fields.iter().enumerate();
    fields
        .filter(|(_, field)| field.source_kind() == FieldKind::Boolean && is_one(&field.name))
        .map(|(index, _)| index)
        .collect()
}
