//! What goes wrong on the wire, each with what a person gets to read, against an org that answers by script.
//!
//! In here: what the scripts are written with. Beside it, by topic: the tests.

mod answers;
mod blobs;
mod bulk;
mod company;
mod deletions;
mod faults;
mod logins;
mod queries;
mod refreshes;
mod rows;
mod sessions;
mod turns;

use super::bulk::PageRequest;
use super::describe::sample;
use super::scripted::{Reply, reply};
use super::{Client, Select};
use crate::domain::{Rows, Stamp};
use crate::error::{Error, Kind};

fn page(ids: &[&str], total: u64, next: Option<&str>) -> Reply {
    let records: Vec<_> = ids
        .iter()
        .map(|id| serde_json::json!({"attributes": {"type": "Account"}, "Id": id, "Name": "Anna", "SystemModstamp": null}))
        .collect();
    let mut body = serde_json::json!({"totalSize": total, "done": next.is_none(), "records": records});
    if let Some(next) = next {
        body["nextRecordsUrl"] = next.into();
    }
    reply(200, body.to_string())
}

fn ids(rows: &Rows) -> Vec<String> {
    rows.iter().map(|row| String::from_utf8(row.cell(0).unwrap().to_vec()).unwrap()).collect()
}

fn csv(rows: &[&str], announced: usize, locator: &str) -> Reply {
    let mut body = "\"Id\",\"Name\"\n".to_owned();
    for id in rows {
        body.push_str(&format!("\"{id}\",\"Anna\"\n"));
    }
    reply(200, body)
        .with("content-type", "text/csv; charset=UTF-8")
        .with("sforce-numberofrecords", &announced.to_string())
        .with("sforce-locator", locator)
}

fn job(state: &str, more: &str) -> Reply {
    reply(200, format!(r#"{{"id":"7505g00000AbCdEAAV","state":"{state}"{more}}}"#))
}

fn first_page() -> PageRequest {
    PageRequest { locator: None, max_records: 1_000, max_bytes: 1 << 20 }
}

async fn all_ids(client: &Client) -> Result<Vec<String>, Error> {
    let statement = Select::all(&sample::account()).statement().unwrap();
    let mut pages = client.query(&statement, true);
    let mut all = Vec::new();
    while let Some(page) = pages.next().await? {
        all.extend(ids(&page.rows));
    }
    Ok(all)
}

fn assert_reads(error: &Error, kind: Kind, sentence: &str) {
    assert_eq!(error.kind(), kind, "{error}");
    assert_eq!(error.to_string(), sentence);
    for secret in ["s3cret", "Anna", "T1", "http://"] {
        assert!(!error.report().contains(secret), "{}", error.report());
    }
}

fn stamp(text: &str) -> Stamp {
    Stamp::parse(text.as_bytes()).unwrap()
}
