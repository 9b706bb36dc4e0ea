//! The change-table envelope: a flat record of header fields and the object's fields.
//!
//! Comes in: a batch's changes. Goes out: key and value bytes. The plan is compiled once from the lineage: each field
//! of the schema knows its cell and its kind, so that a row is written cell by cell, straight from the text that came
//! over the wire, without a value in between. A cell that does not fit its type is an error of that record. A compound is
//! put together from the cells of its parts; one that is carried in part only is not carried.

mod blob;

use std::sync::Arc;

use super::avro::{self, NULL, PRESENT};
use super::mask::Mask;
use super::unfit::Unfit;
use crate::config::KeyFormat;
use crate::domain::{
    Batch, Change, Compound, FieldKind, FieldSet, ObjectDescription, Operation, Row, RowLayout, cell,
};
use crate::schema::SchemaLineage;

/// Registry ids of the schemas that a topic's records are written by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchemaIds {
    pub key: u32,
    pub value: u32,
}

#[derive(Clone, Copy, Debug)]
struct Step {
    /// Index of the field in the description; none: the object does not have it any more, or it is a compound.
    field: Option<usize>,
    /// Index of the compound in the description.
    compound: Option<usize>,
    kind: FieldKind,
    /// Of a decimal, as the schema says.
    precision: u32,
    scale: u32,
    any: bool,
    nullable: bool,
}

#[derive(Debug)]
pub struct Encoder {
    object: Arc<ObjectDescription>,
    steps: Vec<Step>,
    ids: SchemaIds,
    key_format: KeyFormat,
    /// Masks that every load row, insert and delete shares.
    all_fields: String,
    key_only: String,
}

impl Encoder {
    /// `object` must be the description that the lineage was merged with last.
    pub fn compile(
        object: &Arc<ObjectDescription>,
        lineage: &SchemaLineage,
        ids: SchemaIds,
        key_format: KeyFormat,
    ) -> Self {
        let steps: Vec<Step> = lineage
            .fields
            .iter()
            .map(|pinned| Step {
                field: pinned
                    .current
                    .then(|| object.fields.iter().position(|field| field.name == pinned.source.name))
                    .flatten(),
                compound: pinned
                    .current
                    .then(|| object.compounds.iter().position(|known| known.field.name == pinned.source.name))
                    .flatten(),
                kind: pinned.source.kind,
                precision: pinned.source.precision,
                scale: pinned.source.scale,
                any: pinned.source.is_any(),
                nullable: pinned.source.name != "Id",
            })
            .collect();
        let places = |wanted: &dyn Fn(&Step) -> bool| {
            Mask::of(steps.iter().enumerate().filter(|(_, step)| wanted(step)).map(|(place, _)| place)).hex()
        };
        Self {
            all_fields: places(&|step| step.field.is_some() || step.compound.is_some()),
            key_only: places(&|step| step.field == Some(object.key)),
            object: object.clone(),
            steps,
            ids,
            key_format,
        }
    }

    pub fn encode_key(&self, row: Row<'_>, out: &mut Vec<u8>) -> Result<(), Unfit> {
        let id = row.value(self.object.key).ok_or_else(|| self.unfit(self.object.key))?;
        match self.key_format {
            KeyFormat::Text => out.extend_from_slice(id),
            KeyFormat::Record => {
                wire_format(self.ids.key, out);
                avro::bytes(id, out);
            }
        }
        Ok(())
    }

    pub fn encode_value(&self, batch: &Batch, change: &Change, out: &mut Vec<u8>) -> Result<(), Unfit> {
        let row = batch.rows.row(change.row as usize).ok_or_else(|| self.unfit(self.object.key))?;
        wire_format(self.ids.value, out);
        self.header(batch, change, out);
        let carried = batch.detail(change).and_then(|detail| detail.carried.as_ref());
        let carries = |field: usize| {
            batch.rows.layout().has(field) && carried.is_none_or(|carried| carried.contains(field))
        };
        self.steps.iter().try_for_each(|step| match self.compound(step) {
            Some(compound) => self.record(compound, row, &carries, out),
            None if step.kind == FieldKind::Blob => self.blob(step, batch, row, &carries, out),
            None => self.field(*step, row, out),
        })
    }

    /// In the order of `schema::avro::HEADERS`.
    fn header(&self, batch: &Batch, change: &Change, out: &mut Vec<u8>) {
        let detail = batch.detail(change);
        avro::bytes(&change.sequence.digits(), out);
        avro::bytes(change.operation.letter().as_bytes(), out);
        avro::bytes(change.operation.word().as_bytes(), out);
        match change.operation {
            Operation::Refresh | Operation::Insert => {
                avro::optional_text(Some(self.all_fields.as_bytes()), out)
            }
            Operation::Delete => avro::optional_text(Some(self.key_only.as_bytes()), out),
            // A row that was read shows the state, not what moved; a change event tells.
            Operation::Update => {
                let changed = detail.and_then(|detail| detail.changed.as_ref());
                self.optional_mask(changed, Self::any_of, out);
            }
        }
        match detail.and_then(|detail| detail.carried.as_ref()) {
            Some(carried) => self.optional_mask(Some(carried), Self::all_of, out),
            None => match self.column_mask(batch.rows.layout()) {
                Some(mask) => avro::optional_text(Some(mask.as_bytes()), out),
                None => out.push(NULL),
            },
        }
        avro::long(change.timestamp.0, out);
        let position = detail.and_then(|detail| detail.stream_position.as_ref());
        avro::bytes(position.unwrap_or(&batch.stream_position).as_bytes(), out);
        let known = |text: Option<&Arc<str>>, out: &mut Vec<u8>| {
            avro::optional_text(text.map(|text| text.as_bytes()), out);
        };
        known(detail.and_then(|detail| detail.transaction.as_ref()), out);
        match detail.and_then(|detail| detail.counter) {
            Some(counter) => {
                out.push(PRESENT);
                avro::long(counter, out);
            }
            None => out.push(NULL),
        }
        let source = detail.map_or(batch.source, |detail| detail.source);
        avro::bytes(source.word().as_bytes(), out);
        let load_id = batch.load_id.as_ref().filter(|_| change.operation == Operation::Refresh);
        known(load_id, out);
        known(detail.and_then(|detail| detail.commit_user.as_ref()), out);
        known(detail.and_then(|detail| detail.change_origin.as_ref()), out);
    }

    fn optional_mask(
        &self,
        fields: Option<&FieldSet>,
        holds: impl Fn(&Self, &Step, &dyn Fn(usize) -> bool) -> bool,
        out: &mut Vec<u8>,
    ) {
        let Some(fields) = fields else { return out.push(NULL) };
        let set = |step: &Step| holds(self, step, &|field| fields.contains(field));
        let places = self.steps.iter().enumerate().filter(|(_, step)| set(step)).map(|(place, _)| place);
        avro::optional_text(Some(Mask::of(places).hex().as_bytes()), out);
    }

    fn compound(&self, step: &Step) -> Option<&Compound> {
        self.object.compounds.get(step.compound?)
    }

    /// Whether a set holds the step's field, or any part of its compound.
    fn any_of(&self, step: &Step, set: &dyn Fn(usize) -> bool) -> bool {
        match self.compound(step) {
            Some(compound) => compound.parts.iter().flatten().any(|part| set(*part)),
            None => step.field.is_some_and(set),
        }
    }

    /// Whether a set holds the step's field, or all parts of its compound.
    fn all_of(&self, step: &Step, set: &dyn Fn(usize) -> bool) -> bool {
        match self.compound(step) {
            Some(compound) => compound.parts.iter().flatten().all(|part| set(*part)),
            None => step.field.is_some_and(set),
        }
    }

    /// None if the rows carry every field that the object has.
    fn column_mask(&self, layout: &RowLayout) -> Option<String> {
        if layout.is_complete() {
            return None;
        }
        let carried = |step: &Step| self.all_of(step, &|field| layout.has(field));
        Some(
            Mask::of(self.steps.iter().enumerate().filter(|(_, step)| carried(step)).map(|(place, _)| place))
                .hex(),
        )
    }

    fn field(&self, step: Step, row: Row<'_>, out: &mut Vec<u8>) -> Result<(), Unfit> {
        let Some((index, cell)) = step.field.and_then(|field| Some((field, row.value(field)?))) else {
            if !step.nullable {
                return Err(self.unfit(self.object.key));
            }
            out.push(NULL);
            return Ok(());
        };
        if step.nullable {
            out.push(PRESENT);
        }
        let unfit = || self.unfit(index);
        match step.kind {
            FieldKind::Text
            | FieldKind::Binary
            | FieldKind::Blob
            | FieldKind::Compound
            | FieldKind::Hashed
            | FieldKind::Masked => match step.any {
                true => text(&cell::any(cell), out).ok_or_else(unfit)?,
                false => text(cell, out).ok_or_else(unfit)?,
            },
            FieldKind::Boolean => out.push(u8::from(cell::boolean(cell).ok_or_else(unfit)?)),
            FieldKind::Int => {
                let value =
                    cell::integer(cell).and_then(|value| i32::try_from(value).ok()).ok_or_else(unfit)?;
                avro::long(i64::from(value), out);
            }
            FieldKind::Long => avro::long(cell::integer(cell).ok_or_else(unfit)?, out),
            FieldKind::Double => avro::double(cell::double(cell).ok_or_else(unfit)?, out),
            FieldKind::Decimal => {
                let number = cell::decimal(cell).and_then(|number| number.at(step.precision, step.scale));
                avro::decimal(number.ok_or_else(unfit)?, out);
            }
            FieldKind::Date => avro::long(i64::from(cell::date(cell).ok_or_else(unfit)?), out),
            FieldKind::DateTime => avro::long(cell::datetime(cell).ok_or_else(unfit)?, out),
            FieldKind::Time => avro::long(i64::from(cell::time(cell).ok_or_else(unfit)?), out),
        }
        Ok(())
    }

    /// A compound as a record of its parts; null if all of them are.
    fn record(
        &self,
        compound: &Compound,
        row: Row<'_>,
        carries: &dyn Fn(usize) -> bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Unfit> {
        let parts = || compound.parts.iter().flatten().copied();
        if !parts().all(carries) || parts().all(|part| row.value(part).is_none()) {
            out.push(NULL);
            return Ok(());
        }
        out.push(PRESENT);
        for (part, field) in compound.shape.parts().iter().zip(&compound.parts) {
            let Some((field, cell)) = field.and_then(|field| Some((field, row.value(field)?))) else {
                out.push(NULL);
                continue;
            };
            out.push(PRESENT);
            let written = match part.is_number {
                true => cell::double(cell).map(|value| avro::double(value, out)),
                false => text(cell, out),
            };
            written.ok_or_else(|| self.unfit(field))?;
        }
        Ok(())
    }

    fn unfit(&self, index: usize) -> Unfit {
        let field = self.object.fields.get(index);
        Unfit {
            object: self.object.name.clone(),
            field: field.map(|field| field.name.clone()).unwrap_or_default(),
            salesforce_type: field.map(|field| field.salesforce_type.clone()).unwrap_or_default(),
        }
    }
}

/// Avro's strings are UTF-8; Salesforce's are too, but the bytes are foreign.
fn text(cell: &[u8], out: &mut Vec<u8>) -> Option<()> {
    std::str::from_utf8(cell).ok()?;
    avro::bytes(cell, out);
    Some(())
}

/// Confluent's framing: a zero byte and the schema id.
pub(super) fn wire_format(id: u32, out: &mut Vec<u8>) {
    out.push(0);
    out.extend_from_slice(&id.to_be_bytes());
}

#[cfg(test)]
mod tests;
