//! Answers in Salesforce's shapes: JSON, error arrays, limit header, compression.

use axum::body::{Body, Bytes};
use axum::response::Response;
use futures_util::StreamExt;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Value as Json, json};

use crate::soql::SoqlError;

pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: Vec<(&'static str, String)>,
    pub body: Content,
    /// Counts against the daily limit and says so.
    pub billed: bool,
}

pub(crate) enum Content {
    Whole(Vec<u8>),
    Stream(Body),
}

impl Answer {
    pub fn json(value: &Json) -> Self {
        Self::json_text(value.to_string().into_bytes())
    }

    pub fn json_text(text: Vec<u8>) -> Self {
        Self {
            status: StatusCode::OK,
            headers: vec![("content-type", "application/json;charset=UTF-8".to_owned())],
            body: Content::Whole(text),
            billed: true,
        }
    }

    pub fn empty(status: StatusCode) -> Self {
        Self { status, headers: Vec::new(), body: Content::Whole(Vec::new()), billed: true }
    }

    pub fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn unbilled(mut self) -> Self {
        self.billed = false;
        self
    }

    /// Gzip, if the client takes it and there is something to press.
    pub fn compressed(mut self, gzip: bool) -> Self {
        if !gzip {
            return self;
        }
        self.body = match self.body {
            Content::Whole(bytes) if bytes.len() < 256 => Content::Whole(bytes),
            Content::Whole(bytes) => {
                self.headers.push(("content-encoding", "gzip".to_owned()));
                Content::Whole(press(&bytes, true))
            }
            Content::Stream(body) => {
                self.headers.push(("content-encoding", "gzip".to_owned()));
                Content::Stream(pressed(body))
            }
        };
        self
    }

    pub fn into_response(self, limit_info: Option<String>) -> Response {
        let body = match self.body {
            Content::Whole(bytes) => Body::from(bytes),
            Content::Stream(body) => body,
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        let limit_info = limit_info.map(|info| ("sforce-limit-info", info));
        for (name, value) in self.headers.into_iter().chain(limit_info) {
            if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(&value)) {
                headers.append(name, value);
            }
        }
        headers.entry(header::SERVER).or_insert(HeaderValue::from_static("sfdcedge"));
        response
    }
}

fn press(bytes: &[u8], finish: bool) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    // Writing into memory does not fail.
    let _ = encoder.write_all(bytes);
    if finish { encoder.finish().unwrap_or_default() } else { encoder.get_ref().clone() }
}

fn pressed(body: Body) -> Body {
    use std::io::Write;
    let stream = Box::pin(body.into_data_stream());
    let encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    Body::from_stream(futures_util::stream::unfold(
        (stream, Some(encoder)),
        |(mut stream, encoder)| async move {
            let mut encoder = encoder?;
            loop {
                match stream.next().await {
                    Some(Ok(chunk)) => {
                        let _ = encoder.write_all(&chunk);
                        let ready = std::mem::take(encoder.get_mut());
                        if !ready.is_empty() {
                            return Some((Ok::<_, axum::Error>(Bytes::from(ready)), (stream, Some(encoder))));
                        }
                    }
                    Some(Err(error)) => return Some((Err(error), (stream, None))),
                    None => {
                        let rest = encoder.finish().unwrap_or_default();
                        return Some((Ok(Bytes::from(rest)), (stream, None)));
                    }
                }
            }
        },
    ))
}

/// The data API's error: an array with one object.
pub(crate) fn error(status: StatusCode, code: &str, message: &str) -> Answer {
    Answer::json(&json!([{"message": message, "errorCode": code}])).status(status)
}

pub(crate) fn soql_error(error_: &SoqlError) -> Answer {
    error(
        StatusCode::from_u16(error_.status).unwrap_or(StatusCode::BAD_REQUEST),
        &error_.code,
        &error_.message,
    )
}

pub(crate) fn method_not_allowed() -> Answer {
    error(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "HTTP Method not allowed")
}

pub(crate) fn not_found() -> Answer {
    Answer::json(&json!([{"errorCode": "NOT_FOUND", "message": "The requested resource does not exist"}]))
        .status(StatusCode::NOT_FOUND)
}

pub(crate) fn entity_is_deleted() -> Answer {
    Answer::json(&json!([{"message": "entity is deleted", "errorCode": "ENTITY_IS_DELETED", "fields": []}]))
        .status(StatusCode::NOT_FOUND)
}
