//! The bytes behind a base64 field: one call, raw bytes, no JSON (`rest.md` 2.5).
//!
//! Comes in: the path that is the field's value, and how many bytes are wanted at most. Goes out: all of them, or that there
//! are more; then no more than that were read. Never: a path that leads elsewhere, for the session's token goes with it; a
//! byte in a message.

use bytes::Bytes;
use http::StatusCode;

use crate::error::{Error, Kind, Result};

use super::Client;
use super::fault::{Area, classify, is_html};
use super::transport::Call;

/// Where all data of an org is.
const DATA: &str = "/services/data/";
const LIMIT_INFO: &str = "sforce-limit-info";

/// What came of asking for a blob.
#[derive(Debug, PartialEq, Eq)]
pub enum Blob {
    Bytes(Bytes),
    TooLarge,
}

impl Client {
    /// The bytes that `path` leads to, if they are no more than `most`. `what`: in front of an error. One that is not there
    /// (any more) is an error of kind `blob-missing`.
    pub async fn blob(&self, path: &str, most: usize, what: &str) -> Result<Blob> {
        if !path.starts_with(DATA) {
            return Err(
                Error::new(Kind::ValueUnfit, "a blob's value is no path of the REST API").during(what)
            );
        }
        let mut call = Call::get(Area::Blob, what, path);
        call.accept = "*/*";
        let parse = |reply: super::transport::Reply| {
            // A web page can be what somebody keeps there; one that Salesforce's API did not send is none.
            if is_html(&reply.headers, &reply.body) && !reply.headers.contains_key(LIMIT_INFO) {
                return Err(classify(Area::Blob, StatusCode::OK, &reply.headers, &reply.body));
            }
            Ok(reply.body)
        };
        let body = self.fetch_at_most(&call, most, parse).await?;
        Ok(body.map_or(Blob::TooLarge, Blob::Bytes))
    }
}
