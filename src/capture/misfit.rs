//! Values that their field's type cannot hold: most likely the type is another one by now.
//!
//! Comes in: rows as they were read, and the description they were read by. Goes out: whether the object must be described
//! again before anything is taken of them. Asked once for each field of a description: what still does not fit then
//! is a matter for the encoder.

use crate::domain::{FieldKind, ObjectDescription, Rows, cell};

/// Fields that were asked about since the object was described.
#[derive(Debug, Default)]
pub struct Doubts(Vec<usize>);

impl Doubts {
    /// Whether these rows hold a value that was not asked about yet.
    pub fn are_raised_by(&mut self, object: &ObjectDescription, rows: &Rows) -> bool {
        let mut raised = false;
        for (field, described) in object.fields.iter().enumerate() {
            let fits = |row: crate::domain::Row<'_>| {
                row.value(field).is_none_or(|value| holds(described.source_kind(), value))
            };
            if described.source_kind() != FieldKind::Text
                && !self.0.contains(&field)
                && !rows.iter().all(fits)
            {
                tracing::info!(object = %object.name, field = described.name, r#type = described.salesforce_type, "a value that is none of its type: the object is described again");
                self.0.push(field);
                raised = true;
            }
        }
        raised
    }

    /// The object looks different now.
    pub fn settle(&mut self) {
        self.0.clear();
    }
}

fn holds(kind: FieldKind, value: &[u8]) -> bool {
    match kind {
        FieldKind::Boolean => cell::boolean(value).is_some(),
        FieldKind::Int => cell::integer(value).is_some_and(|value| i32::try_from(value).is_ok()),
        FieldKind::Long => cell::integer(value).is_some(),
        FieldKind::Double => cell::double(value).is_some(),
        FieldKind::Decimal => cell::decimal(value).is_some(),
        FieldKind::Date => cell::date(value).is_some(),
        FieldKind::DateTime => cell::datetime(value).is_some(),
        FieldKind::Time => cell::time(value).is_some(),
        FieldKind::Text
        | FieldKind::Binary
        | FieldKind::Blob
        | FieldKind::Compound
        | FieldKind::Hashed
        | FieldKind::Masked => true,
    }
}
