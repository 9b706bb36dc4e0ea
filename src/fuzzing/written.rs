//! Rows as they would be published, read again by the Avro library.
//!
//! Comes in: rows. Goes out: nothing, or a panic if the library does not read what was written, or reads another value
//! than the cell has. A cell that does not fit its type is refused, which is right.

use std::sync::Arc;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;

use crate::config::{KeyFormat, OutputSettings};
use crate::domain::{
    Batch, Blobs, Change, ChangeSequence, Field, FieldKind, ObjectDescription, Operation, Row, Rows, Source,
    Stamp,
};
use crate::envelope::{Encoder, SchemaIds};
use crate::schema::{SchemaLineage, avro};

/// How an object's records are written and read.
pub struct Road {
    object: Arc<ObjectDescription>,
    lineage: SchemaLineage,
    encoder: Encoder,
    schema: Schema,
}

/// What frames a value: a zero byte and the schema's id.
const FRAME: usize = 5;

impl Road {
    /// None: the object's names cannot be published.
    pub fn of(object: &Arc<ObjectDescription>, lineage: &SchemaLineage) -> Option<Self> {
        let output = OutputSettings::change_table("crm");
        let text = avro::change_table(lineage, &output).ok()?;
        Schema::parse_str(&avro::key(lineage, &output)).expect("the Avro library reads the key's schema");
        let ids = SchemaIds { key: 1, value: 2 };
        Some(Self {
            encoder: Encoder::compile(object, lineage, ids, KeyFormat::Record),
            schema: Schema::parse_str(&text).expect("the Avro library reads the value's schema"),
            object: Arc::clone(object),
            lineage: lineage.clone(),
        })
    }

    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Writes each row and has it read.
    pub fn check(&self, rows: Rows) {
        let operations = [Operation::Refresh, Operation::Insert, Operation::Update, Operation::Delete];
        let changes = (0..u32::try_from(rows.len()).unwrap_or(0)).zip(operations.into_iter().cycle());
        let changes: Vec<Change> = changes
            .map(|(row, operation)| Change {
                row,
                operation,
                sequence: ChangeSequence::default().next(Stamp(0)),
                timestamp: Stamp(7),
                detail: None,
            })
            .collect();
        let batch = Batch {
            object: Arc::clone(&self.object),
            rows,
            changes: Vec::new(),
            blobs: Blobs::default(),
            details: Vec::new(),
            source: Source::Load,
            load_id: Some("load".into()),
            only: None,
            stream_position: "position".into(),
            notices: Vec::new(),
            control: Vec::new(),
        };
        let reader = GenericDatumReader::builder(&self.schema)
            .build()
            .expect("the schema is a record of plain fields");
        let mut bytes = Vec::new();
        for (change, row) in changes.iter().zip(batch.rows.iter()) {
            bytes.clear();
            if self.encoder.encode_value(&batch, change, &mut bytes).is_err() {
                continue;
            }
            let mut rest = bytes.get(FRAME..).unwrap_or_default();
            let read = reader.read_value(&mut rest).expect("the Avro library reads what was written");
            assert!(rest.is_empty(), "{} bytes are left over", rest.len());
            let Value::Record(values) = read else { panic!("a value is no record") };
            self.compare(row, &values);
        }
    }

    fn compare(&self, row: Row<'_>, values: &[(String, Value)]) {
        // The object's fields are the last ones.
        let data = values.len().saturating_sub(self.lineage.fields.len());
        for (pinned, (name, value)) in self.lineage.fields.iter().zip(values.iter().skip(data)) {
            let index = self.object.fields.iter().position(|field| field.name == pinned.source.name);
            let cell = index.filter(|_| pinned.current).and_then(|index| row.value(index));
            let value = match value {
                Value::Union(_, inside) => inside.as_ref(),
                plain => plain,
            };
            match cell {
                None => assert_eq!(value, &Value::Null, "{name} is null"),
                Some(cell) => assert!(is_same(&pinned.source, cell, value), "{name} is another value"),
            }
        }
    }
}

fn is_same(field: &Field, cell: &[u8], value: &Value) -> bool {
    let Ok(text) = std::str::from_utf8(cell) else { return false };
    let number = || text.parse::<f64>().ok();
    #[expect(clippy::cast_precision_loss, reason = "as the cell's spelling would round too")]
    let whole = |value: i64| value.to_string() == text || number() == Some(value as f64);
    match (field.kind, value) {
        // A moment in there is spelled alike, whichever door it came through.
        (FieldKind::Text | FieldKind::Binary, Value::String(value)) => value == text || field.is_any(),
        (FieldKind::Boolean, Value::Boolean(value)) => value.to_string() == text,
        (FieldKind::Int, Value::Int(value)) => whole(i64::from(*value)),
        (FieldKind::Long, Value::Long(value)) => whole(*value),
        // Zero has no sign, nor has what is too small to be anything else.
        (FieldKind::Double, Value::Double(value)) => {
            number().map(|number| (number + 0.0).to_bits()) == Some(value.to_bits())
        }
        (FieldKind::Date, Value::Date(days)) => {
            let epoch = jiff::civil::Date::constant(1970, 1, 1);
            let day = epoch.checked_add(jiff::Span::new().days(i64::from(*days)));
            day.is_ok_and(|day| day.to_string() == text)
        }
        // The spelling of time varies; that it is the right moment is held where it is read.
        (FieldKind::DateTime, Value::TimestampMillis(_)) => true,
        (FieldKind::Time, Value::TimeMillis(millis)) => (0..86_400_000).contains(millis),
        _ => false,
    }
}

/// Whether two readings gave the same rows.
pub fn are_same(one: &Rows, other: &Rows, fields: usize) -> bool {
    one.len() == other.len()
        && one
            .iter()
            .zip(other.iter())
            .all(|(one, other)| (0..fields).all(|field| one.cell(field) == other.cell(field)))
}
