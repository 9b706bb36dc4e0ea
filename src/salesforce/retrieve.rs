//! Many records by id, as they are now.
//!
//! Comes in: an object, ids, fields. Goes out: rows, found by their ids. Deleted records, recycle bin included, are
//! not in the answer: who needs those asks queryAll.

use std::sync::Arc;

use http::Method;
use serde_json::json;

use crate::domain::{ObjectDescription, RowLayout, Rows};
use crate::error::{Error, Kind, Result};

use super::Client;
use super::fault::Area;
use super::page::{Columns, decode_array};
use super::transport::Call;

/// The most that one call takes (`rest.md` 3.4).
const IDS_PER_CALL: usize = 2_000;

impl Client {
    /// The rows of these ids, in no order; ids that are gone or hidden are left out. Any number of ids, in calls of
    /// 2,000. `fields`: indices; the key is always among them.
    pub async fn retrieve(
        &self,
        object: &Arc<ObjectDescription>,
        ids: &[&str],
        fields: &[usize],
    ) -> Result<Rows> {
        let what = format!("reading records of {} by id", object.name);
        let mut chosen: Vec<usize> =
            fields.iter().copied().chain([object.key]).filter(|field| *field < object.fields.len()).collect();
        chosen.sort_unstable();
        chosen.dedup();
        let names: Vec<&str> = chosen
            .iter()
            .filter_map(|field| object.fields.get(*field))
            .map(|field| field.name.as_str())
            .collect();
        let columns = Columns::new(object, &chosen);
        let path = self.data_path(&format!("/composite/sobjects/{}", object.name));
        let mut all: Option<Rows> = None;
        for ids in ids.chunks(IDS_PER_CALL) {
            let call = Call::send(
                Method::POST,
                Area::Retrieve,
                &*what,
                &*path,
                &json!({"ids": ids, "fields": names}),
            );
            let rows = self.fetch(&call, |reply| decode_array(&reply.body, &columns)).await?;
            match &mut all {
                None => all = Some(rows),
                Some(all) => {
                    for row in rows.iter() {
                        let cells = chosen.iter().map(|field| row.cell(*field).unwrap_or_default());
                        all.push(cells).map_err(|_| {
                            Error::new(Kind::RecordTooLarge, "the records together are larger than 4 GiB")
                                .during(&what)
                        })?;
                    }
                }
            }
        }
        Ok(all.unwrap_or_else(|| {
            let layout: Vec<_> = chosen.iter().copied().map(Some).collect();
            Rows::new(RowLayout::new(&layout, object.fields.len()))
        }))
    }
}
