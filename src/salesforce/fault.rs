//! One classification of everything that can go wrong on the wire.
//!
//! Comes in: status, headers and body of an answer, or the way a connection failed. Goes out: a [`Fault`], which
//! says what it is for the user ([`Kind`]) and what the transport does about it ([`Cure`]). Messages are cut and
//! cleaned: Salesforce repeats the query in them, and a query can hold values. Never: a body, a token, a value.

use std::borrow::Cow;
use std::time::Duration;

use http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use crate::error::{Error, Kind};

/// What was asked; some answers mean different things in different places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Area {
    Versions,
    Describe,
    Query,
    /// A later page of a query: its locator belongs to the session that made it.
    MoreQuery,
    Retrieve,
    /// The bytes of one field.
    Blob,
    Deleted,
    BulkCreate,
    BulkJob,
}

impl Area {
    pub fn is_bulk(self) -> bool {
        matches!(self, Self::BulkCreate | Self::BulkJob)
    }
}

/// What the transport does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cure {
    /// Nothing helps.
    None,
    /// The same again after a pause.
    Again,
    /// The same again after a pause, a few times.
    FewTimes,
    /// The same again until Salesforce's maintenance is over.
    Maintenance,
    /// A new session, then the same once more.
    Refresh,
    /// The org's daily allowance is spent: wait for it.
    Allowance,
}

#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub kind: Kind,
    pub cure: Cure,
    /// What failed, for the user: follows "query on Account: ".
    pub message: String,
    pub hint: Option<Cow<'static, str>>,
    /// What Salesforce asked us to wait.
    pub retry_after: Option<Duration>,
    /// No connection came about: the org may have moved.
    pub unreachable: bool,
    pub error_code: Option<String>,
    /// Salesforce's name for the request, for its support.
    pub request_id: Option<String>,
}

/// A pause that Salesforce asks for is honoured up to this.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(15 * 60);
const LONGEST_MESSAGE: usize = 240;

/// 401s that a new session does not cure (`rest.md` 1.9).
const NOT_FOR_REST: &str = "This session is not valid for use with the REST API";
const NOT_ATTACHED: &str = "Connected app is not attached to Agent";
/// The org is served from another place (`rest.md` 5).
const OTHER_INSTANCE: &str = "Destination URL not reset";

/// How the TLS library begins when a server's certificate is not trusted.
pub(super) const UNTRUSTED: &str = "invalid peer certificate";
pub(super) const TRUST: &str = "if a proxy opens TLS on the way, name the file of its certificate authority: `salesforce.ca_file`; else look who answers there";

impl Fault {
    pub fn new(kind: Kind, cure: Cure, message: impl Into<String>) -> Self {
        Self {
            kind,
            cure,
            message: message.into(),
            hint: None,
            retry_after: None,
            unreachable: false,
            error_code: None,
            request_id: None,
        }
    }

    pub fn unreadable(message: impl Into<String>) -> Self {
        Self::new(Kind::ReplyUnreadable, Cure::Again, message)
    }

    pub fn truncated(message: impl Into<String>) -> Self {
        Self::new(Kind::ReplyTruncated, Cure::Again, message)
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A JSON body that does not read: cut short, or something else.
    pub fn json(error: &serde_json::Error) -> Self {
        if error.is_eof() {
            Self::truncated("the answer ends in the middle")
        } else {
            // The library's own words can hold a value of the body.
            Self::unreadable(format!(
                "the answer is not the JSON that was expected (line {}, column {})",
                error.line(),
                error.column()
            ))
        }
    }

    /// A request that got no answer. `error` must not carry its URL.
    pub fn network(error: &reqwest::Error, host: &str) -> Self {
        let reason = innermost(error);
        let message = if error.is_timeout() {
            format!("{host} did not answer in time")
        } else if error.is_connect() {
            format!("no connection to {host}: {reason}")
        } else {
            format!("the connection to {host} broke: {reason}")
        };
        let mut fault = Self::new(Kind::NetworkFailed, Cure::Again, message);
        fault.unreachable = error.is_connect();
        if reason.contains(UNTRUSTED) {
            // Who answers shows the same again.
            fault.cure = Cure::None;
            fault.hint = Some(TRUST.into());
        }
        fault
    }

    /// What a person can do about it.
    pub fn advice(&self) -> &str {
        self.hint.as_deref().unwrap_or_else(|| self.kind.advice())
    }

    pub fn into_error(self, what: &str) -> Error {
        let error = Error::new(self.kind, self.message).during(what);
        match self.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

fn innermost(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// One entry of Salesforce's error array.
#[derive(Debug, Default, Deserialize)]
struct Entry {
    #[serde(default, rename = "errorCode", deserialize_with = "null_is_empty")]
    code: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    message: String,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.unwrap_or_default())
}

fn entry(body: &[u8]) -> Option<Entry> {
    let entry = match serde_json::from_slice::<Vec<Entry>>(body) {
        Ok(entries) => entries.into_iter().next(),
        Err(_) => serde_json::from_slice::<Entry>(body).ok(),
    };
    // Codes are words; anything else in there is not Salesforce's, and goes into no message.
    let entry = entry.map(|entry| Entry { code: word(&entry.code), ..entry });
    entry.filter(|entry| !entry.code.is_empty() || !entry.message.is_empty())
}

fn word(code: &str) -> String {
    let is_of_word = |letter: &char| letter.is_ascii_alphanumeric() || *letter == '_';
    code.chars().filter(is_of_word).take(80).collect()
}

/// Whether a body is a web page, whatever its header says.
pub(super) fn is_html(headers: &HeaderMap, body: &[u8]) -> bool {
    let start = body.trim_ascii_start();
    let named = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.to_ascii_lowercase().contains("html"));
    let looks = start.get(..5).is_some_and(|head| head.eq_ignore_ascii_case(b"<html"))
        || start.get(..9).is_some_and(|head| head.eq_ignore_ascii_case(b"<!doctype"));
    looks || (named && !matches!(start.first(), Some(b'{' | b'[' | b'"')))
}

/// An answer that is not a success.
pub(super) fn classify(area: Area, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Fault {
    let entry = entry(body);
    let mut fault = match &entry {
        Some(entry) => by_code(area, status, entry),
        None => without_code(area, status, headers, body),
    };
    if let Some(entry) = entry.filter(|entry| !entry.code.is_empty()) {
        fault.error_code = Some(entry.code);
    }
    fault.retry_after = retry_after(headers);
    fault.request_id = ["x-sfdc-request-id", "x-request-id"]
        .iter()
        .find_map(|name| headers.get(*name)?.to_str().ok())
        .map(|id| id.chars().take(64).collect());
    fault
}

fn by_code(area: Area, status: StatusCode, entry: &Entry) -> Fault {
    let (code, message) = (entry.code.as_str(), entry.message.as_str());
    let said = format!("Salesforce answered {} {code}: {}", status.as_u16(), clean(message));
    let fault = |kind, cure| Fault::new(kind, cure, said.trim_end_matches(": ").to_owned());
    let stop = |kind| fault(kind, Cure::None);
    if message.contains(NOT_FOR_REST) || message.contains(NOT_ATTACHED) {
        return stop(Kind::LoginRefused)
            .hint("give the connected app the scope `api` and the integration user \"API Enabled\"; look for API Access Control and session policies");
    }
    if area.is_bulk()
        && let Some(kind) = bulk_refusal(area, status, code, message)
    {
        return stop(kind);
    }
    match code {
        "INVALID_SESSION_ID" | "INVALID_AUTH_HEADER" | "INVALID_HEADER_TYPE" => {
            fault(Kind::SessionExpired, Cure::Refresh)
        }
        "ORG_NOT_OWNED_BY_INSTANCE" => fault(Kind::OrgMoved, Cure::Refresh),
        _ if message.contains(OTHER_INSTANCE) => fault(Kind::OrgMoved, Cure::Refresh),
        "REQUEST_LIMIT_EXCEEDED" if message.contains("TotalRequests") => {
            fault(Kind::ApiLimitReached, Cure::Allowance)
        }
        "REQUEST_LIMIT_EXCEEDED" | "TXN_SECURITY_METERING_ERROR" | "LIMIT_EXCEEDED" => {
            fault(Kind::SalesforceThrottled, Cure::Again)
        }
        "SERVER_UNAVAILABLE" => fault(Kind::SalesforceUnavailable, Cure::Again),
        // Of the second, reads know nothing; making a job is a write.
        "ORG_IN_MAINTENANCE" | "INSERT_UPDATE_DELETE_NOT_ALLOWED_DURING_MAINTENANCE" => {
            fault(Kind::SalesforceMaintenance, Cure::Maintenance)
        }
        "UNABLE_TO_LOCK_ROW" => fault(Kind::RecordLocked, Cure::Again),
        "UNKNOWN_EXCEPTION" => fault(Kind::SalesforceError, Cure::FewTimes),
        "API_DISABLED_FOR_ORG" | "API_CURRENTLY_DISABLED" => stop(Kind::ApiDisabled),
        "ORG_LOCKED" | "TRIAL_EXPIRED" => stop(Kind::OrgLocked),
        "INVALID_FIELD" if message.contains("No such column") => stop(Kind::FieldUnknown),
        "INVALID_TYPE" => stop(Kind::ObjectUnknown),
        "INVALID_TYPE_FOR_OPERATION" => stop(Kind::ObjectUnsupported),
        "INVALID_QUERY_LOCATOR" => stop(Kind::QueryLocatorGone),
        "QUERY_TIMEOUT" => stop(Kind::QueryTimeout),
        "EXCEEDED_ID_LIMIT" => stop(Kind::TooManyIds),
        "OPERATION_TOO_LARGE" => stop(Kind::QueryTimeout).hint(
            "give the integration user \"View All Data\"; meanwhile the stretch is read in smaller pieces",
        ),
        "QUERY_TOO_COMPLICATED" => stop(Kind::QueryRefused)
            .hint("leave formula fields out: `fields: { exclude: [...] }` on the object"),
        "INVALID_REPLICATION_DATE" => stop(Kind::DeletionsLost),
        "INVALID_FIELD" | "MALFORMED_QUERY" | "MALFORMED_ID" | "NUMBER_OUTSIDE_VALID_RANGE" => {
            stop(Kind::QueryRefused)
        }
        code if code.starts_with("INSUFFICIENT_ACCESS") => stop(Kind::ObjectForbidden),
        code if code.starts_with("EXTERNAL_OBJECT")
            || code.starts_with("BIG_OBJECT")
            || code.starts_with("DATACLOUD") =>
        {
            stop(Kind::ObjectUnsupported)
        }
        _ => {
            let (kind, cure) = by_status(area, status);
            fault(kind, cure)
        }
    }
}

/// What the Bulk API refuses (`rest.md` 4.4), and answers about jobs that are not there.
fn bulk_refusal(area: Area, status: StatusCode, code: &str, message: &str) -> Option<Kind> {
    if message.contains("does not support query") {
        return Some(Kind::ObjectUnsupported);
    }
    let refused = match code {
        "INVALIDENTITY" | "LIMIT_EXCEEDED" | "FEATURENOTENABLED" => true,
        _ => {
            message.contains("compound data not supported")
                || message.contains("not supported by the Bulk API")
                || message.contains("Max bulk v2 query")
        }
    };
    if refused {
        return Some(Kind::BulkRefused);
    }
    if area == Area::BulkJob && matches!(status, StatusCode::NOT_FOUND | StatusCode::CONFLICT) {
        return Some(Kind::BulkJobGone);
    }
    (message.contains("Implementation restriction")).then_some(Kind::QueryRefused)
}

fn without_code(area: Area, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Fault {
    let number = status.as_u16();
    if status.is_redirection() {
        let target = headers
            .get(LOCATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|location| url::Url::parse(location).ok())
            .and_then(|url| url.host_str().map(str::to_owned));
        let place = target.map_or_else(String::new, |host| format!(" to {host}"));
        // The token is not taken along: a new login names the org's present place.
        return Fault::new(
            Kind::OrgMoved,
            Cure::Refresh,
            format!("Salesforce answered {number} and points{place}"),
        );
    }
    let (kind, cure) = by_status(area, status);
    let form = if is_html(headers, body) {
        "a web page instead of data"
    } else if body.trim_ascii().is_empty() {
        "no explanation"
    } else if body.trim_ascii() == b"Bad_OAuth_Token" {
        return Fault::new(
            Kind::SessionExpired,
            Cure::Refresh,
            format!("Salesforce answered {number} Bad_OAuth_Token"),
        );
    } else {
        "a text that is no Salesforce error"
    };
    // A page instead of a refusal comes from something in between: it may pass.
    let (kind, cure) = match (kind, cure) {
        (_, Cure::None) if is_html(headers, body) => (Kind::ReplyUnreadable, Cure::Again),
        as_is => as_is,
    };
    let mut fault = Fault::new(kind, cure, format!("Salesforce answered {number} with {form}"));
    // The edge knows no way to the host, as while an org moves.
    fault.unreachable = number == 420;
    fault
}

fn by_status(area: Area, status: StatusCode) -> (Kind, Cure) {
    match status.as_u16() {
        401 => (Kind::SessionExpired, Cure::Refresh),
        403 => (Kind::ObjectForbidden, Cure::None),
        404 | 409 if area == Area::BulkJob => (Kind::BulkJobGone, Cure::None),
        404 => match area {
            Area::MoreQuery => (Kind::QueryLocatorGone, Cure::None),
            Area::BulkCreate => (Kind::BulkRefused, Cure::None),
            Area::Versions => (Kind::ReplyUnreadable, Cure::None),
            Area::Blob => (Kind::BlobMissing, Cure::None),
            _ => (Kind::ObjectUnknown, Cure::None),
        },
        410 => (Kind::ConfigInvalid, Cure::None),
        413 | 414 | 431 => (Kind::RequestTooLarge, Cure::None),
        406 | 408 | 420 | 429 => (Kind::SalesforceThrottled, Cure::Again),
        500..=599 => (Kind::SalesforceUnavailable, Cure::Again),
        200..=299 => (Kind::ReplyUnreadable, Cure::Again),
        // A refusal that nobody listed: REST takes the query, or says what is wrong with it.
        400 if area == Area::BulkCreate => (Kind::BulkRefused, Cure::None),
        _ => (Kind::QueryRefused, Cure::None),
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let until = httpdate::parse_http_date(text).ok()?;
            // Both moments by the server's clock, where it tells it.
            let now = headers
                .get(http::header::DATE)
                .and_then(|value| value.to_str().ok())
                .and_then(|date| httpdate::parse_http_date(date).ok())
                .unwrap_or_else(std::time::SystemTime::now);
            until.duration_since(now).unwrap_or_default()
        }
    };
    Some(wait.min(LONGEST_RETRY_AFTER))
}

/// Salesforce's sentence without the query it repeats and without what could be a value.
pub(super) fn clean(message: &str) -> String {
    // "\nName,Foo__c FROM …\n ^\nERROR at Row:1:Column:6\nNo such column 'Foo__c' on entity 'Account'. If you …"
    let after_query = match message.find("ERROR at Row") {
        Some(start) => {
            message.get(start..).and_then(|rest| rest.split_once('\n')).map_or(message, |(_, said)| said)
        }
        None => message,
    };
    let sentence = after_query.split(" If you are attempting").next().unwrap_or_default();
    let mut text = String::with_capacity(sentence.len().min(LONGEST_MESSAGE));
    for word in sentence.split_whitespace() {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(word);
    }
    let text = hide_literals(&text);
    match text.char_indices().nth(LONGEST_MESSAGE) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.trim_end_matches('.').to_owned(),
    }
}

/// Quoted texts stay only if they are API names.
fn hide_literals(text: &str) -> String {
    let mut parts = text.split('\'');
    let mut kept = parts.next().unwrap_or_default().to_owned();
    let mut inside = true;
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        let closed = parts.peek().is_some();
        let is_name = !part.is_empty()
            && part.len() <= 80
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.');
        // An apostrophe ("can't") opens nothing: what follows it is a sentence.
        let apostrophe = inside && kept.ends_with(|last: char| last.is_ascii_alphabetic());
        if apostrophe {
            kept.push('\'');
            kept.push_str(part);
            continue;
        }
        if inside {
            kept.push('\'');
            kept.push_str(if is_name { part } else { "…" });
            if closed {
                kept.push('\'');
            }
        } else {
            kept.push_str(part);
        }
        inside = !inside;
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn answer(area: Area, status: u16, body: &str) -> Fault {
        classify(area, StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), body.as_bytes())
    }

    #[test]
    fn recorded_errors_are_told_apart() {
        let cases = [
            (include_str!("../../tests/data/salesforce/401-expired-session.json"), 401, Kind::SessionExpired),
            (include_str!("../../tests/data/salesforce/404-not-found.json"), 404, Kind::ObjectUnknown),
            (include_str!("../../tests/data/salesforce/400-invalid-type.json"), 400, Kind::ObjectUnknown),
            (include_str!("../../tests/data/salesforce/400-invalid-field.json"), 400, Kind::FieldUnknown),
        ];
        for (body, status, kind) in cases {
            assert_eq!(answer(Area::Query, status, body).kind, kind, "{body}");
        }
    }

    #[test]
    fn both_limits_share_a_code_and_mean_different_things() {
        let daily = r#"[{"message":"TotalRequests Limit exceeded.","errorCode":"REQUEST_LIMIT_EXCEEDED"}]"#;
        let fault = answer(Area::Query, 403, daily);
        assert_eq!((fault.kind, fault.cure), (Kind::ApiLimitReached, Cure::Allowance));
        let long =
            r#"[{"message":"ConcurrentPerOrgLongTxn Limit exceeded.","errorCode":"REQUEST_LIMIT_EXCEEDED"}]"#;
        let fault = answer(Area::Query, 403, long);
        assert_eq!((fault.kind, fault.cure), (Kind::SalesforceThrottled, Cure::Again));
    }

    #[test]
    fn an_error_without_its_message_or_outside_an_array_keeps_its_meaning() {
        let fault = answer(
            Area::Query,
            403,
            r#"[{"errorCode":"REQUEST_LIMIT_EXCEEDED","message":null,"fields":[]}]"#,
        );
        assert_eq!(fault.kind, Kind::SalesforceThrottled);
        let fault = answer(Area::Query, 400, r#"{"message":"gone","errorCode":"INVALID_QUERY_LOCATOR"}"#);
        assert_eq!(fault.kind, Kind::QueryLocatorGone);
    }

    #[test]
    fn bulk_refusals_say_whether_rest_would_do() {
        let cases = [
            ("INVALIDENTITY", "Entity 'CaseStatus' is not supported by the Bulk API.", Kind::BulkRefused),
            ("INVALID_FIELD", "Selecting compound data not supported in Bulk Query", Kind::BulkRefused),
            (
                "LIMIT_EXCEEDED",
                "Max bulk v2 query jobs (10000) per 24 hrs has been reached",
                Kind::BulkRefused,
            ),
            (
                "API_ERROR",
                "Max bulk v2 query result size stored (1000000000) kb per 24 hrs has been exceeded",
                Kind::BulkRefused,
            ),
            ("FEATURENOTENABLED", "Cannot serialize value for 'X' in CSV format", Kind::BulkRefused),
            ("API_ERROR", "entity type Vote does not support query", Kind::ObjectUnsupported),
            ("API_ERROR", "Implementation restriction: Vote requires a filter", Kind::QueryRefused),
            (
                "INVALID_FIELD",
                "\nFoo__c FROM Account\n^\nERROR at Row:1:Column:8\nNo such column 'Foo__c' on entity 'Account'.",
                Kind::FieldUnknown,
            ),
        ];
        for (code, message, kind) in cases {
            let body = serde_json::json!([{ "errorCode": code, "message": message }]).to_string();
            let fault = answer(Area::BulkCreate, 400, &body);
            assert_eq!((fault.kind, fault.cure), (kind, Cure::None), "{message}");
        }
        let gone = r#"[{"errorCode":"NOT_FOUND","message":"The requested resource does not exist"}]"#;
        assert_eq!(answer(Area::BulkJob, 404, gone).kind, Kind::BulkJobGone);
        assert_eq!(answer(Area::BulkJob, 409, "").kind, Kind::BulkJobGone);
        let unlisted = r#"[{"errorCode":"API_ERROR","message":"Bulk V2 Query does not know this"}]"#;
        assert_eq!(answer(Area::BulkCreate, 400, unlisted).kind, Kind::BulkRefused);
        assert_eq!(answer(Area::Query, 400, unlisted).kind, Kind::QueryRefused);
    }

    #[test]
    fn a_web_page_is_told_from_a_refusal_whatever_its_status() {
        for (status, kind) in [
            (200, Kind::ReplyUnreadable),
            (403, Kind::ReplyUnreadable),
            (420, Kind::SalesforceThrottled),
            (503, Kind::SalesforceUnavailable),
        ] {
            let fault = answer(Area::Query, status, "\n<!DOCTYPE html><html>Log in, Anna</html>");
            assert_eq!((fault.kind, fault.cure), (kind, Cure::Again), "{status}");
            assert!(fault.message.ends_with("with a web page instead of data"), "{}", fault.message);
        }
    }

    #[test]
    fn what_a_new_session_does_not_cure_is_not_tried_again() {
        let body = r#"[{"message":"This session is not valid for use with the REST API","errorCode":"INVALID_SESSION_ID"}]"#;
        let fault = answer(Area::Query, 401, body);
        assert_eq!((fault.kind, fault.cure), (Kind::LoginRefused, Cure::None));
        let fault = answer(Area::Query, 403, "Bad_OAuth_Token");
        assert_eq!((fault.kind, fault.cure), (Kind::SessionExpired, Cure::Refresh));
    }

    #[test]
    fn a_code_that_is_no_word_brings_nothing_foreign_into_the_message() {
        let body = format!(r#"[{{"errorCode":"ODD 'Smith'\n{}","message":"x"}}]"#, "Y".repeat(5_000));
        let fault = answer(Area::Query, 400, &body);
        let code = fault.error_code.unwrap();
        assert!(code.starts_with("ODDSmithYYY") && code.len() == 80, "{code}");
        assert!(fault.message.len() < 160, "{}", fault.message);
    }

    #[test]
    fn a_message_loses_the_query_and_its_values() {
        let message = "\nName,Foo__c FROM Account WHERE Email = 'anna@example.com'\n     ^\nERROR at Row:1:Column:6\n\
                       No such column 'Foo__c' on entity 'Account'. If you are attempting to use a custom field, …";
        assert_eq!(clean(message), "No such column 'Foo__c' on entity 'Account'");
        assert_eq!(
            clean("unexpected token: 'anna@example.com' is not known"),
            "unexpected token: '…' is not known"
        );
        assert_eq!(clean("open 'anna@example.com"), "open '…");
        assert_eq!(clean("We can't complete the action 'x y'"), "We can't complete the action '…'");
        assert!(clean(&"long ".repeat(400)).chars().count() <= LONGEST_MESSAGE + 1);
    }

    #[test]
    fn the_asked_pause_is_read_in_both_spellings_and_bounded() {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_static("7"));
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(7)));
        headers.insert(RETRY_AFTER, HeaderValue::from_static("Tue, 19 May 2026 08:30:20 GMT"));
        headers.insert(http::header::DATE, HeaderValue::from_static("Tue, 19 May 2026 08:30:00 GMT"));
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(20)));
        headers.insert(RETRY_AFTER, HeaderValue::from_static("999999999"));
        assert_eq!(retry_after(&headers), Some(LONGEST_RETRY_AFTER));
        headers.insert(RETRY_AFTER, HeaderValue::from_static("soon"));
        assert_eq!(retry_after(&headers), None);
    }
}
