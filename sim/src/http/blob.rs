//! The bytes of blobs: `GET …/sobjects/{Object}/{id}/{field}` (rest.md 2.5).
//!
//! Comes in: the path that a base64 field's value is. Goes out: raw bytes, not JSON. A deleted record's are gone with it,
//! in the words in which the record itself is. Never in a composite call.

use std::sync::Arc;

use http::StatusCode;
use serde_json::json;

use super::reply::{self, Answer, Content};
use super::{Reply, Server, control};
use crate::catalog::{FieldType, ObjectDef};
use crate::org::Id;

pub(super) fn answer(server: &Server, object: &Arc<ObjectDef>, id: &str, field: &str) -> Reply {
    let field = object.field(field).filter(|(_, field)| field.field_type == FieldType::Base64);
    let (Some(id), Some((index, _))) = (Id::parse(id), field) else { return reply::not_found() };
    server.count("blob");
    match server.org.snapshot().row(&object.name, id, true) {
        Ok(Some(row)) if row.is_deleted() => reply::entity_is_deleted(),
        Ok(Some(row)) => row.blob(index).map_or_else(reply::not_found, raw),
        _ => reply::not_found(),
    }
}

fn raw(bytes: Vec<u8>) -> Reply {
    let kind = if bytes.starts_with(b"<html") { "text/html" } else { "application/octetstream" };
    Answer {
        status: StatusCode::OK,
        headers: vec![("content-type", kind.to_owned())],
        body: Content::Whole(bytes),
        billed: true,
    }
}

/// Whether a path of a subrequest is a blob's.
pub(super) fn is_one(server: &Server, object: &str, field: &str) -> bool {
    let object = server.org.object(object).ok();
    object.is_some_and(|object| {
        object.field(field).is_some_and(|(_, field)| field.field_type == FieldType::Base64)
    })
}

pub(super) fn refused_in_composite() -> Reply {
    reply::error(StatusCode::BAD_REQUEST, "INVALID_URL", "blobs cannot be read by a composite request")
}

/// The bytes as they are, whatever fault there is (control interface).
pub(super) fn truth(server: &Server, object: &str, id: &str, field: &str) -> Reply {
    let Some(id) = Id::parse(id) else { return control::refused("no such id") };
    match server.org.truth_blob(object, id, field) {
        Ok(Some(bytes)) => raw(bytes),
        Ok(None) => Answer::json(&json!({"error": "no bytes"})).status(StatusCode::NOT_FOUND),
        Err(error) => control::refused(&error.to_string()),
    }
}
