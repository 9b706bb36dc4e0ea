//! Records read by id, because an event or a page of rows could not tell enough of them.
//!
//! Comes in: ids, and the stamps that the records must have at least. Goes out: whole records as they are now. A reading
//! that is older than what asked for it comes from a replica that lags, and is repeated.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::ledger::RecordId;
use crate::domain::{ObjectDescription, Row, Rows, Stamp};
use crate::error::Kind;
use crate::salesforce::{Client, Purpose};
use crate::{Error, Result};

const READINGS: u32 = 6;
const READING_PAUSE: Duration = Duration::from_millis(500);

/// Records as they are now.
pub struct Read {
    rows: Option<Rows>,
    places: HashMap<RecordId, usize>,
}

impl Read {
    pub fn rows(&self) -> Option<&Rows> {
        self.rows.as_ref()
    }

    pub fn row(&self, id: &RecordId) -> Option<Row<'_>> {
        self.rows.as_ref()?.row(*self.places.get(id)?)
    }
}

/// Reads records whole, again if one of them is older than it must be.
pub async fn read_records(
    client: &Client,
    object: &Arc<ObjectDescription>,
    ids: &[RecordId],
    due: &HashMap<RecordId, Stamp>,
) -> Result<Read> {
    if ids.is_empty() {
        return Ok(Read { rows: None, places: HashMap::new() });
    }
    let client = client.for_purpose(Purpose::Refetch);
    let texts: Vec<&str> = ids.iter().filter_map(|id| std::str::from_utf8(id.as_bytes()).ok()).collect();
    let fields: Vec<usize> = (0..object.fields.len()).collect();
    for reading in 1.. {
        let rows = client.retrieve(object, &texts, &fields).await?;
        let mut places = HashMap::with_capacity(rows.len());
        let mut older = 0;
        for row in rows.iter() {
            let Some(id) = row.value(object.key).and_then(RecordId::new) else { continue };
            let stamp = object.cursor.and_then(|cursor| row.value(cursor.0)).and_then(Stamp::parse);
            if object.cursor.is_some() && stamp.is_none() {
                // Told here, before anything that waits for the reading is taken.
                let what = format!("object {}: a record came without a readable cursor field", object.name);
                return Err(Error::new(Kind::ReplyUnreadable, what));
            }
            if stamp.zip(due.get(&id)).is_some_and(|(stamp, due)| stamp < *due) {
                older += 1;
            }
            places.insert(id, row.index());
        }
        if older == 0 {
            return Ok(Read { rows: Some(rows), places });
        }
        if reading >= READINGS {
            let what = format!("{older} records of {} are shown older than their events", object.name);
            return Err(Error::new(Kind::SalesforceUnavailable, what));
        }
        tokio::time::sleep(READING_PAUSE).await;
    }
    Err(Error::new(Kind::Internal, "a reading without end"))
}
