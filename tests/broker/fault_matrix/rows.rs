//! The faults, what each is made of in the simulator, and what has to become of it.

use serde_json::{Value, json};

use super::cell::Column;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Recovered,
    ObjectStopped(&'static str),
    ProgramStopped(&'static str),
}

use Outcome::{ObjectStopped, ProgramStopped, Recovered};

/// How the simulator makes it.
pub enum Fault {
    /// On the calls of a column; none: on all of them for ever.
    Http { action: Value, times: Option<u64> },
    /// On the creation of the Bulk job.
    Job { action: Value, times: u64 },
    /// On the stream, and on what opens it anew.
    Events(Vec<Value>),
}

pub struct Row {
    pub fault: &'static str,
    pub fault_made: Fault,
    /// Load by REST, load by Bulk, poll, subscribe.
    outcomes: [Option<Outcome>; 4],
    /// A pipeline for each column.
    pub apart: bool,
    /// Takes minutes of waiting and no work.
    pub waits: bool,
}

impl Row {
    /// Whether the fault is over when every rule of it was met so often.
    pub fn waits_for_rules(&self) -> bool {
        match &self.fault_made {
            Fault::Http { times, .. } => times.is_some(),
            Fault::Job { .. } => true,
            Fault::Events(rules) => rules.iter().all(|rule| rule["times"].is_u64()),
        }
    }

    pub fn outcome(&self, column: Column) -> Option<Outcome> {
        let [rest, bulk, poll, subscribe] = self.outcomes;
        match column {
            Column::LoadRest => rest,
            Column::LoadBulk => bulk,
            Column::Poll => poll,
            Column::Subscribe => subscribe,
        }
    }
}

fn answer(status: u16, body: &str, kind: &str) -> Value {
    json!({"respond": {"status": status, "body": body, "headers": [["content-type", kind]]}})
}

fn refusal(status: u16, code: &str, message: &str) -> Value {
    let body = json!([{"errorCode": code, "message": message}]).to_string();
    answer(status, &body, "application/json")
}

fn page(status: u16) -> Value {
    answer(status, "<!DOCTYPE html><html><body>We are setting things up</body></html>", "text/html")
}

const ALL: [Option<Outcome>; 4] = [Some(Recovered); 4];

fn http(fault: &'static str, times: u64, action: Value) -> Row {
    let fault_made = Fault::Http { action, times: Some(times) };
    Row { fault, fault_made, outcomes: ALL, apart: false, waits: false }
}

/// Met for ever, by every column alike.
fn stops(fault: &'static str, outcome: Outcome, action: Value) -> Row {
    let apart = matches!(outcome, ProgramStopped(_));
    let fault_made = Fault::Http { action, times: None };
    Row { fault, fault_made, outcomes: [Some(outcome); 4], apart, waits: false }
}

fn job(fault: &'static str, action: Value) -> Row {
    let fault_made = Fault::Job { action, times: 1 };
    Row { fault, fault_made, outcomes: [None, Some(Recovered), None, None], apart: false, waits: false }
}

fn events(fault: &'static str, outcome: Outcome, rules: Vec<Value>) -> Row {
    let outcomes = [None, None, None, Some(outcome)];
    Row { fault, fault_made: Fault::Events(rules), outcomes, apart: false, waits: false }
}

fn status(code: &str, error_code: Option<&str>, message: &str) -> Value {
    match error_code {
        Some(error_code) => json!({"status": {"code": code, "errorCode": error_code, "message": message}}),
        None => json!({"status": {"code": code, "message": message}}),
    }
}

/// The open stream ends so, once.
fn ends(fault: &'static str, action: Value) -> Row {
    events(fault, Recovered, vec![json!({"times": 1, "action": action})])
}

/// The stream ends, and who asks for its topic again is refused.
fn refused(code: &'static str, grpc: &str) -> Row {
    let fault = code;
    let refusal = json!({"rpc": "GetTopic", "action": status(grpc, Some(code), "refused")});
    events(fault, ObjectStopped("subscription-refused"), vec![refusal, json!({"times": 1, "action": "end"})])
}

pub fn all() -> Vec<Row> {
    let mut rows = http_rows();
    rows.extend(job_rows());
    rows.extend(event_rows());
    rows
}

fn http_rows() -> Vec<Row> {
    let limit = |message| refusal(403, "REQUEST_LIMIT_EXCEEDED", message);
    let no_column =
        "\nName,Gone__c FROM X\n^\nERROR at Row:1:Column:6\nNo such column 'Gone__c' on entity 'X'.";
    let queries_only = [Some(Recovered), None, Some(Recovered), None];
    let too_big = Some(ObjectStopped("request-too-large"));
    vec![
        Row {
            apart: true,
            waits: true,
            ..http("daily limit (403 TotalRequests)", 1, limit("TotalRequests Limit exceeded."))
        },
        http("long-running requests (403)", 2, limit("ConcurrentPerOrgLongTxn Limit exceeded.")),
        http("edge throttling (429)", 2, answer(429, "", "text/plain")),
        http("edge throttling (420, web page)", 2, page(420)),
        http("edge throttling (406)", 1, answer(406, "", "text/plain")),
        http("503 SERVER_UNAVAILABLE", 2, refusal(503, "SERVER_UNAVAILABLE", "unavailable")),
        http("503 with a web page", 2, page(503)),
        http(
            "503 with Retry-After",
            1,
            json!({"respond": {"status": 503, "headers": [["retry-after", "2"]]}}),
        ),
        http("503 ORG_IN_MAINTENANCE", 3, refusal(503, "ORG_IN_MAINTENANCE", "in maintenance")),
        http("500 UNKNOWN_EXCEPTION, passing", 2, refusal(500, "UNKNOWN_EXCEPTION", "unexpected")),
        stops(
            "500 UNKNOWN_EXCEPTION, lasting",
            ObjectStopped("salesforce-error"),
            refusal(500, "UNKNOWN_EXCEPTION", "unexpected"),
        ),
        http(
            "UNABLE_TO_LOCK_ROW",
            2,
            refusal(400, "UNABLE_TO_LOCK_ROW", "unable to obtain exclusive access"),
        ),
        Row {
            outcomes: [Some(Recovered), too_big, Some(Recovered), too_big],
            ..http("414 request too big", 1, refusal(414, "URI_TOO_LONG", "URI Too Long"))
        },
        Row {
            outcomes: [Some(Recovered), too_big, Some(Recovered), too_big],
            ..http("431 request too big", 1, answer(431, "", "text/plain"))
        },
        http("ORG_NOT_OWNED_BY_INSTANCE", 1, refusal(401, "ORG_NOT_OWNED_BY_INSTANCE", "moved")),
        http(
            "302 to another host",
            1,
            json!({"respond": {"status": 302, "headers": [["location", "https://elsewhere.example/"]]}}),
        ),
        http("session ended (401 INVALID_SESSION_ID)", 1, json!("expireSession")),
        http("401 INVALID_AUTH_HEADER", 1, refusal(401, "INVALID_AUTH_HEADER", "INVALID_JWT_FORMAT")),
        http("connection dropped", 2, json!("drop")),
        http("cut stream", 2, json!({"cutBody": {"afterBytes": 60}})),
        http("body that ends early", 2, json!({"endBody": {"afterBytes": 60}})),
        http("200 with a web page", 2, page(200)),
        http(
            "QUERY_TIMEOUT",
            1,
            refusal(400, "QUERY_TIMEOUT", "Your query request was running for too long."),
        ),
        Row {
            outcomes: queries_only,
            ..http("INVALID_QUERY_LOCATOR", 1, refusal(400, "INVALID_QUERY_LOCATOR", "invalid query locator"))
        },
        Row { outcomes: queries_only, ..http("no such column", 1, refusal(400, "INVALID_FIELD", no_column)) },
        stops(
            "no access to the object",
            ObjectStopped("object-forbidden"),
            refusal(403, "INSUFFICIENT_ACCESS_OR_READONLY", "insufficient access rights"),
        ),
        stops(
            "ORG_LOCKED",
            ProgramStopped("org-locked"),
            refusal(403, "ORG_LOCKED", "organization is locked"),
        ),
        stops("TRIAL_EXPIRED", ProgramStopped("org-locked"), refusal(403, "TRIAL_EXPIRED", "trial expired")),
        stops(
            "API_DISABLED_FOR_ORG",
            ProgramStopped("api-disabled"),
            refusal(403, "API_DISABLED_FOR_ORG", "The REST API is not enabled for this Organization."),
        ),
        stops(
            "401 that no refresh cures",
            ProgramStopped("login-refused"),
            refusal(401, "INVALID_SESSION_ID", "This session is not valid for use with the REST API"),
        ),
    ]
}

fn job_rows() -> Vec<Row> {
    let bulk_only = [None, Some(Recovered), None, None];
    vec![
        job("Bulk job fails", json!({"job": {"fate": "fail", "message": "QUERY_TIMEOUT: too long"}})),
        job("Bulk job aborted by somebody", json!({"job": {"fate": "abort"}})),
        job("Bulk job gone", json!({"job": {"fate": "gone"}})),
        job(
            "Bulk refuses the object",
            refusal(400, "INVALIDENTITY", "Entity 'Account' is not supported by the Bulk API."),
        ),
        Row {
            outcomes: bulk_only,
            ..http("Bulk page with a wrong count", 1, json!({"wrongCount": {"by": 1}}))
        },
    ]
}

fn event_rows() -> Vec<Row> {
    let reopened = |grpc, code, message| json!({"rpc": "Subscribe", "onCall": true, "times": 1, "action": status(grpc, Some(code), message)});
    let end = || json!({"times": 1, "action": "end"});
    vec![
        ends("stream ends in order", json!("end")),
        ends("RST_STREAM without a status", json!({"reset": {}})),
        ends("GOAWAY", json!({"goAway": {}})),
        ends("connection closed", json!("close")),
        Row { waits: true, ..ends("not a byte any more", json!("silence")) },
        ends(
            "UNAVAILABLE: down for maintenance",
            status("UNAVAILABLE", None, "This application is down for maintenance"),
        ),
        ends("service.unavailable", status("INTERNAL", Some("service.unavailable"), "Try again later")),
        ends(
            "subscription.internal.error",
            status("INTERNAL", Some("subscription.internal.error"), "internal"),
        ),
        ends("service.auth.error", status("UNAUTHENTICATED", Some("service.auth.error"), "authentication")),
        ends(
            "service.protection.triggered",
            status("RESOURCE_EXHAUSTED", Some("service.protection.triggered"), "slow down"),
        ),
        ends(
            "concurrent.client.limit.exceeded",
            status("RESOURCE_EXHAUSTED", Some("concurrent.client.limit.exceeded"), "slow down"),
        ),
        ends(
            "subscription.fetch.overflow",
            status("RESOURCE_EXHAUSTED", Some("subscription.fetch.overflow"), "slow down"),
        ),
        ends(
            "subscription.limit.exceeded",
            status(
                "RESOURCE_EXHAUSTED",
                Some("subscription.limit.exceeded"),
                "You have exceeded the event delivery limit for your org.",
            ),
        ),
        events(
            "replayid.corrupted",
            Recovered,
            vec![
                reopened(
                    "INVALID_ARGUMENT",
                    "subscription.fetch.replayid.corrupted",
                    "The Replay ID validation failed.",
                ),
                end(),
            ],
        ),
        events(
            "schema.api.unavailable",
            Recovered,
            vec![
                json!({"rpc": "GetSchema", "times": 2, "action": status("UNAVAILABLE", Some("schema.api.unavailable"), "later")}),
            ],
        ),
        events(
            "topic.api.unavailable",
            Recovered,
            vec![
                json!({"rpc": "GetTopic", "times": 2, "action": status("UNAVAILABLE", Some("topic.api.unavailable"), "later")}),
                end(),
            ],
        ),
        refused("topic.not.found", "NOT_FOUND"),
        refused("topic.meta.permission", "PERMISSION_DENIED"),
        refused("service.tenant.license", "PERMISSION_DENIED"),
        refused("service.auth.headers.invalid", "INVALID_ARGUMENT"),
    ]
}
