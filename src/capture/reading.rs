//! Records read by id, because an event or a page of rows could not tell enough of them.
//!
//! Comes in: ids, and the stamps that the records must have at least. Goes out: whole records as they are now. A reading
//! that is older than what asked for it comes from a replica that lags, and is repeated. Where there is a condition, which of
//! them fit it is asked right after; if they were saved in between, they are read again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::condition::{Fit, Fitting, fitting};
use super::ledger::RecordId;
use crate::domain::{ObjectDescription, Row, Rows, Stamp};
use crate::error::Kind;
use crate::salesforce::{Client, Purpose};
use crate::{Error, Result};

const READINGS: u32 = 6;
const READING_PAUSE: Duration = Duration::from_millis(500);
/// Of records that are saved again and again the last of so many readings is taken.
const READINGS_TO_FIT: u32 = 3;

/// Records as they are now.
pub struct Read {
    rows: Option<Rows>,
    places: HashMap<RecordId, usize>,
    /// None: there is no condition.
    fitting: Option<Fitting>,
}

impl Read {
    pub fn rows(&self) -> Option<&Rows> {
        self.rows.as_ref()
    }

    /// Whether a record that was asked for may be published.
    pub fn fits(&self, id: &RecordId) -> bool {
        self.fitting.as_ref().is_none_or(|fitting| fitting.of(id, None) != Fit::No)
    }

    pub fn row(&self, id: &RecordId) -> Option<Row<'_>> {
        self.rows.as_ref()?.row(*self.places.get(id)?)
    }
}

/// Reads records whole, again if one of them is older than it must be, and asks which of them fit the condition.
pub async fn read_records(
    client: &Client,
    object: &Arc<ObjectDescription>,
    ids: &[RecordId],
    due: &HashMap<RecordId, Stamp>,
    condition: Option<&str>,
) -> Result<Read> {
    if ids.is_empty() {
        return Ok(Read {
            rows: None,
            places: HashMap::new(),
            fitting: condition.map(|_| Fitting::default()),
        });
    }
    let client = client.for_purpose(Purpose::Refetch);
    let texts: Vec<&str> = ids.iter().filter_map(|id| std::str::from_utf8(id.as_bytes()).ok()).collect();
    let fields: Vec<usize> = (0..object.fields.len()).collect();
    for reading in 1.. {
        let rows = client.retrieve(object, &texts, &fields).await?;
        let mut places = HashMap::with_capacity(rows.len());
        let mut stamps = Vec::new();
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
            stamps.push((id, stamp));
        }
        if older == 0 {
            let fitting = match condition {
                Some(condition) => Some(fitting(&client, object, condition, ids).await?),
                None => None,
            };
            let later = fitting
                .as_ref()
                .is_some_and(|fitting| stamps.iter().any(|(id, stamp)| fitting.of(id, *stamp) == Fit::Later));
            if !later || reading >= READINGS_TO_FIT {
                return Ok(Read { rows: Some(rows), places, fitting });
            }
            continue;
        }
        if reading >= READINGS {
            let what = format!("{older} records of {} are shown older than their events", object.name);
            return Err(Error::new(Kind::SalesforceUnavailable, what));
        }
        tokio::time::sleep(READING_PAUSE).await;
    }
    Err(Error::new(Kind::Internal, "a reading without end"))
}
