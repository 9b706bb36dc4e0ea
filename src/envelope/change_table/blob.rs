//! Binary fields with their bytes.
//!
//! Comes in: a row whose cell is a path, and the batch that holds the bytes. Goes out: Avro bytes, as they came. A field that
//! the change does not carry is null, and the column mask says so; bytes that should be there and are not are an error.

use super::{Encoder, Step, Unfit};
use crate::domain::{Batch, Row};
use crate::envelope::avro::{self, NULL, PRESENT};

impl Encoder {
    pub(super) fn blob(
        &self,
        step: &Step,
        batch: &Batch,
        row: Row<'_>,
        carries: &dyn Fn(usize) -> bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Unfit> {
        let Some(field) = step.field.filter(|field| carries(*field) && row.value(*field).is_some()) else {
            out.push(NULL);
            return Ok(());
        };
        let index = u32::try_from(row.index()).unwrap_or(u32::MAX);
        let bytes = batch.blobs.get(index, field).ok_or_else(|| self.unfit(field))?;
        out.push(PRESENT);
        avro::bytes(bytes, out);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use apache_avro::types::Value;

    use super::super::tests::{Written, batch, named};
    use crate::domain::{Detail, FieldKind, ObjectDescription, Operation};

    const PATH: &[u8] = b"/services/data/v65.0/sobjects/Account/001A/F0__c";

    fn with_blob() -> Arc<ObjectDescription> {
        let mut object = ObjectDescription::clone(&named(&["base64", "string"]));
        object.fields[1].kind = FieldKind::Blob;
        Arc::new(object)
    }

    fn value(written: &Written, bytes: &[u8]) -> Value {
        let fields = written.decoded(bytes);
        fields.into_iter().find(|(name, _)| name == "F0__c").unwrap().1
    }

    #[test]
    fn bytes_are_written_as_they_came_and_no_path_ever_is() {
        let object = with_blob();
        let written = Written::by(&object);
        let cells = [b"001A".to_vec(), PATH.to_vec(), b"x".to_vec()];
        for bytes in [b"\x00\xff\xfe not text".as_slice(), b""] {
            let mut batch = batch(&object, Operation::Refresh, &cells);
            batch.blobs.put(0, 1, bytes::Bytes::copy_from_slice(bytes));
            let wanted = Value::Union(1, Box::new(Value::Bytes(bytes.to_vec())));
            assert_eq!(value(&written, &written.value(&batch).unwrap()), wanted);
        }
        // Nobody fetched them: an error, never a null.
        let error = written.value(&batch(&object, Operation::Refresh, &cells)).unwrap_err();
        assert_eq!(error.field, "F0__c");
    }

    #[test]
    fn null_is_null_and_what_is_not_carried_is_null_with_its_bit_unset() {
        let object = with_blob();
        let written = Written::by(&object);
        let null = Value::Union(0, Box::new(Value::Null));
        let cells = [b"001A".to_vec(), Vec::new(), b"x".to_vec()];
        let batch_of_null = batch(&object, Operation::Update, &cells);
        assert_eq!(value(&written, &written.value(&batch_of_null).unwrap()), null);

        let cells = [b"001A".to_vec(), PATH.to_vec(), b"x".to_vec()];
        let mut gone = batch(&object, Operation::Update, &cells);
        gone.details.push(Detail { carried: Some([0, 2].into_iter().collect()), ..Detail::refetch() });
        gone.changes[0].detail = Some(0);
        let bytes = written.value(&gone).unwrap();
        assert_eq!(value(&written, &bytes), null);
        let fields = written.decoded(&bytes);
        let mask = fields.iter().find(|(name, _)| name == "header__column_mask").unwrap();
        assert_eq!(mask.1, Value::Union(1, Box::new(Value::String("05".to_owned()))));
    }
}
