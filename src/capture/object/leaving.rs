//! Records that were published under another condition (`where`) than the configuration has now: what does not fit any more
//! is deleted, before everything is loaded by the condition of now.
//!
//! Comes in: the conditions of before, from the position's `reload`. Goes out: batches of deletes, each with the id behind it, so
//! that a restart goes on there. Live changes go on meanwhile. Which records fit is asked of Salesforce, as always.

use std::sync::Arc;

use super::{ObjectCapture, Step};
use crate::capture::condition::fitting;
use crate::capture::ledger::RecordId;
use crate::domain::{ObjectDescription, Source, Stamp};
use crate::error::Kind;
use crate::salesforce::{Client, Select};
use crate::{Error, Result};

/// Records looked at in one step.
const ROWS_PER_STEP: u32 = 2_000;

impl ObjectCapture {
    /// The next records that do not fit any more; none: there are no others, and the load may begin.
    pub(super) async fn leaving_step(&mut self) -> Result<Option<Step>> {
        let Some(leaving) = self.position.reload.as_ref().and_then(|reload| reload.leaving.clone()) else {
            return Ok(None);
        };
        let Some(condition) = self.settings.condition.clone() else {
            // Everything fits.
            self.set_leaving_behind(None);
            return Ok(None);
        };
        let before = match leaving.conditions.iter().any(String::is_empty) {
            true => None,
            false => {
                Some(leaving.conditions.iter().map(|one| format!("({one})")).collect::<Vec<_>>().join(" OR "))
            }
        };
        let after = leaving.after_id.as_deref();
        let object = self.description().clone();
        let client = self.load_client();
        let records = match published_before(&client, &object, before.as_deref(), after).await {
            // It names what is gone: whatever was published is among all records.
            Err(error) if before.is_some() && is_refused(&error) => {
                published_before(&client, &object, None, after).await?
            }
            records => records?,
        };
        let ids: Vec<RecordId> = records.iter().map(|(id, _)| *id).collect();
        let fitting = fitting(&client, &object, &condition, &ids).await?;
        let gone: Vec<_> = records.iter().filter(|(id, _)| !fitting.has(id)).copied().collect();
        // Polls see nothing older again, so that nothing older need be remembered.
        let remember_from = self.position.cursor.map(|cursor| cursor.minus(self.settings.poll.look_back));
        let sequenced = self.sequencer.left(&gone, self.client.server_time(), remember_from)?;
        let last = ids.last().filter(|_| records.len() >= ROWS_PER_STEP as usize);
        let last = last.map(|id| String::from_utf8_lossy(id.as_bytes()).into_owned());
        tracing::info!(object = %object.name, looked_at = records.len(), left = gone.len(), "records that the changed `where` leaves out are deleted");
        let at = format!("left/{}", last.as_deref().unwrap_or("end"));
        self.set_leaving_behind(last);
        let batch = self.batch(sequenced, Source::Refetch, None, &at);
        Ok(Some(Step::Batch { batch, urgent: false }))
    }

    /// None: all is looked at.
    fn set_leaving_behind(&mut self, id: Option<String>) {
        let Some(reload) = &mut self.position.reload else { return };
        match (&mut reload.leaving, id) {
            (Some(leaving), Some(id)) => leaving.after_id = Some(id),
            (leaving, _) => *leaving = None,
        }
    }
}

/// Live records that fit the condition of before, in the order of their ids, with their stamps.
async fn published_before(
    client: &Client,
    object: &Arc<ObjectDescription>,
    condition: Option<&str>,
    after: Option<&str>,
) -> Result<Vec<(RecordId, Option<Stamp>)>> {
    let mut select = Select::only(object, []).order_by_id().limit(ROWS_PER_STEP);
    if let Some(condition) = condition {
        select = select.condition(condition);
    }
    if let Some(id) = after {
        select = select.after_id(id);
    }
    let mut pages = client.query(&select.statement()?, false);
    let mut records = Vec::new();
    while let Some(page) = pages.next().await? {
        for row in page.rows.iter() {
            let stamp = object.cursor.and_then(|cursor| row.value(cursor.0)).and_then(Stamp::parse);
            let id = row.value(object.key).and_then(RecordId::new);
            let id = id.ok_or_else(|| Error::new(Kind::ReplyUnreadable, "a row came without a usable id"))?;
            records.push((id, stamp));
        }
    }
    Ok(records)
}

fn is_refused(error: &Error) -> bool {
    matches!(error.kind(), Kind::QueryRefused | Kind::FieldUnknown)
}
