//! Faults on demand: what goes wrong, for which calls, how often.
//!
//! Comes in: rules of the control interface. Goes out: an effect for a call. A rule matches a call by method and by a
//! piece of its path and query; it is used up after so many times.

use std::sync::Mutex;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::Response;
use futures_util::StreamExt;
use http::{HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;

use super::{Call, lock};

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Rule {
    /// `GET`, …; any if absent.
    #[serde(default)]
    method: Option<String>,
    /// A piece of path and query, percent-decoded; of a composite call also of its subrequests.
    #[serde(default)]
    contains: String,
    action: Action,
    /// How many calls it meets; without end if absent.
    #[serde(default)]
    times: Option<u64>,
    /// How many matching calls go by first.
    #[serde(default)]
    after: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub(crate) enum Action {
    /// Any answer.
    Respond {
        status: u16,
        #[serde(default)]
        body: String,
        #[serde(default)]
        headers: Vec<(String, String)>,
    },
    /// The connection ends before an answer.
    Drop,
    /// The answer's body breaks after so many bytes.
    CutBody {
        after_bytes: usize,
    },
    /// The body ends cleanly after so many bytes: rows are missing.
    EndBody {
        after_bytes: usize,
    },
    Delay {
        millis: u64,
    },
    ExpireSession,
    /// A Bulk job that is created now will fail, be aborted, hang or be gone.
    Job {
        fate: Fate,
        #[serde(default)]
        message: Option<String>,
    },
    /// The count header names another number.
    WrongCount {
        by: i64,
    },
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Fate {
    Fail,
    Abort,
    Stuck,
    Gone,
}

/// What is to be done to an answer.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Cut(usize),
    End(usize),
    Count(i64),
    Fate(Fate, Option<String>),
}

pub(crate) enum Effect {
    None,
    Answer(Response),
    ExpireSession,
    Body(Change),
}

#[derive(Default)]
pub(crate) struct Faults {
    rules: Mutex<Vec<Rule>>,
}

impl Faults {
    pub fn add(&self, rule: Rule) {
        lock(&self.rules).push(rule);
    }

    pub fn clear(&self) {
        lock(&self.rules).clear();
    }

    /// What the rules that are not used up wait for.
    pub fn left(&self) -> Vec<String> {
        lock(&self.rules).iter().map(|rule| rule.contains.clone()).collect()
    }

    fn take(&self, call: &Call) -> Option<Action> {
        let mut target = call.uri.path().to_owned();
        for (name, value) in &call.query {
            target.push_str(&format!("&{name}={value}"));
        }
        if target.ends_with("/composite") {
            let subrequests = String::from_utf8_lossy(&call.body);
            for (name, value) in url::form_urlencoded::parse(subrequests.as_bytes()) {
                target.push_str(&format!("&{name}={value}"));
            }
        }
        let mut rules = lock(&self.rules);
        let place = rules.iter_mut().position(|rule| {
            let matches =
                rule.method.as_deref().is_none_or(|method| call.method.as_str().eq_ignore_ascii_case(method))
                    && target.contains(&rule.contains);
            if matches && rule.after > 0 {
                rule.after -= 1;
                return false;
            }
            matches
        })?;
        let rule = rules.get_mut(place)?;
        let action = rule.action.clone();
        if let Some(times) = &mut rule.times {
            *times = times.saturating_sub(1);
            if *times == 0 {
                rules.remove(place);
            }
        }
        Some(action)
    }

    pub async fn before(&self, call: &Call) -> Effect {
        match self.take(call) {
            None => Effect::None,
            Some(Action::Delay { millis }) => {
                tokio::time::sleep(Duration::from_millis(millis)).await;
                Effect::None
            }
            Some(Action::Respond { status, body, headers }) => {
                let mut response = Response::new(Body::from(body));
                *response.status_mut() =
                    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                for (name, value) in headers {
                    if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(&value))
                    {
                        response.headers_mut().insert(name, value);
                    }
                }
                Effect::Answer(response)
            }
            // Ends the connection's task without a word, and without a panic's message.
            Some(Action::Drop) => std::panic::resume_unwind(Box::new("a dropped connection was asked for")),
            Some(Action::ExpireSession) => Effect::ExpireSession,
            Some(Action::CutBody { after_bytes }) => Effect::Body(Change::Cut(after_bytes)),
            Some(Action::EndBody { after_bytes }) => Effect::Body(Change::End(after_bytes)),
            Some(Action::WrongCount { by }) => Effect::Body(Change::Count(by)),
            Some(Action::Job { fate, message }) => Effect::Body(Change::Fate(fate, message)),
        }
    }
}

impl Change {
    pub fn apply(&self, response: Response) -> Response {
        match self {
            Self::Fate(..) => response,
            Self::Count(by) => {
                let mut response = response;
                if let Some(count) = response
                    .headers()
                    .get("sforce-numberofrecords")
                    .and_then(|count| count.to_str().ok()?.parse::<i64>().ok())
                {
                    let changed = HeaderValue::from((count + by).max(0));
                    response.headers_mut().insert("sforce-numberofrecords", changed);
                }
                response
            }
            Self::Cut(bytes) => limited(response, *bytes, true),
            Self::End(bytes) => limited(response, *bytes, false),
        }
    }
}

fn limited(response: Response, bytes: usize, broken: bool) -> Response {
    let (mut parts, body) = response.into_parts();
    // The length that was promised would end the connection by itself.
    parts.headers.remove(http::header::CONTENT_LENGTH);
    let stream = body.into_data_stream();
    let limited =
        futures_util::stream::unfold((stream, bytes, false), move |(mut stream, left, ended)| async move {
            if ended {
                return None;
            }
            if left == 0 {
                // What came before is on its way first.
                tokio::task::yield_now().await;
                let cut = Err(std::io::Error::other("cut on demand"));
                return broken.then_some((cut, (stream, 0, true)));
            }
            match stream.next().await {
                Some(Ok(chunk)) => {
                    let kept = chunk.slice(..chunk.len().min(left));
                    let left = left - kept.len();
                    Some((Ok::<Bytes, std::io::Error>(kept), (stream, left, false)))
                }
                Some(Err(error)) => Some((Err(std::io::Error::other(error)), (stream, 0, true))),
                None => None,
            }
        });
    Response::from_parts(parts, Body::from_stream(limited))
}
