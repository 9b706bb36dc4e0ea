//! What goes wrong on the Pub/Sub API, as the same [`Fault`] that the other doors have.
//!
//! Comes in: a gRPC status with its trailers. Goes out: kind and cure by the trailer `error-code`; by status and text
//! only where a proxy took the trailers away or the trouble is in between. One table holds all codes (`pubsub.md` 1.9).
//! Never: the status alone where a code is there, for a refused replay id and a refused schema share theirs.

use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use crate::error::{Error, Kind};

use super::super::fault::{Cure, Fault, TRUST, UNTRUSTED, clean};

const PREFIX: &str = "sfdc.platform.eventbus.grpc.";

/// Texts by which a fault is known when its trailers are missing; all recorded.
const REPLAY_REFUSED: &str = "Replay ID validation failed";
const LIMIT_REACHED: &str = "exceeded the event delivery limit";
const SCHEMA_REFUSED: &str = "Schema validation failed";
const IN_MAINTENANCE: &str = "down for maintenance";

const NOT_SELECTED: &str = "switch Change Data Capture on for the object (Setup > Change Data Capture), or set `capture: poll`; custom settings, views and some standard objects have no change events";
const NOT_PERMITTED: &str = "give the integration user View All Records on the object, or View All Data (for User: View All Users), or set `capture: poll`";
const NO_EVENT: &str = "check the name of the platform event, in which case counts, and give the integration user read access to it; `sf2kafka discover -c FILE --object '*__e'` lists what it sees";
const NO_HEADERS: &str = "check that `salesforce.instance` and the login belong to one org";
const NO_LICENCE: &str =
    "the org's edition or licences do not include the Pub/Sub API: set `capture: poll`, or ask Salesforce";
const OUR_MISTAKE: &str = "please report this with the log around it; meanwhile set `capture: poll`";
const WRONG_PLACE: &str =
    "check `salesforce.pubsub.endpoint`: what answers there is not Salesforce's Pub/Sub API";

type Row = (&'static str, Kind, Cure, Option<&'static str>);

#[rustfmt::skip]
const CODES: &[Row] = &[
    ("service.unavailable", Kind::PubsubUnavailable, Cure::Again, None),
    ("topic.api.unavailable", Kind::PubsubUnavailable, Cure::Again, None),
    ("schema.api.unavailable", Kind::PubsubUnavailable, Cure::Again, None),
    ("subscription.internal.error", Kind::PubsubUnavailable, Cure::Again, None),
    ("subscription.fetch.replay.repeated", Kind::PubsubUnavailable, Cure::Again, None),
    ("service.auth.error", Kind::SessionExpired, Cure::Refresh, None),
    ("service.auth.refresh.invalid", Kind::SessionExpired, Cure::Refresh, None),
    ("service.auth.headers.invalid", Kind::SubscriptionRefused, Cure::None, Some(NO_HEADERS)),
    ("service.tenant.license", Kind::SubscriptionRefused, Cure::None, Some(NO_LICENCE)),
    ("service.protection.triggered", Kind::SalesforceThrottled, Cure::Again, None),
    ("service.protection.stream.limit.triggered", Kind::SalesforceThrottled, Cure::Again, None),
    ("concurrent.client.limit.exceeded", Kind::SalesforceThrottled, Cure::Again, None),
    ("subscription.fetch.overflow", Kind::SalesforceThrottled, Cure::Again, None),
    ("topic.not.found", Kind::SubscriptionRefused, Cure::None, Some(NOT_SELECTED)),
    ("topic.meta.permission", Kind::SubscriptionRefused, Cure::None, Some(NOT_PERMITTED)),
    ("topic.validation.empty", Kind::SubscriptionRefused, Cure::None, Some(OUR_MISTAKE)),
    ("subscription.topic.cannot.subscribe", Kind::SubscriptionRefused, Cure::None, Some(NOT_PERMITTED)),
    ("schema.meta.permission", Kind::SubscriptionRefused, Cure::None, Some(NOT_PERMITTED)),
    ("schema.validation.failed", Kind::EventUnreadable, Cure::None, None),
    ("subscription.fetch.replayid.corrupted", Kind::ReplayIdExpired, Cure::None, None),
    ("subscription.fetch.replayid.validation.failed", Kind::ReplayIdExpired, Cure::None, None),
    ("subscription.limit.exceeded", Kind::EventsLimitReached, Cure::None, None),
    ("subscription.fetch.requested.events.invalid", Kind::SubscriptionRefused, Cure::None, Some(OUR_MISTAKE)),
    ("subscription.fetch.topic.mismatch", Kind::SubscriptionRefused, Cure::None, Some(OUR_MISTAKE)),
    ("subscription.fetch.request.invalid", Kind::SubscriptionRefused, Cure::None, Some(OUR_MISTAKE)),
    // The program neither publishes nor uses managed subscriptions.
    ("publish.stream.sweeper.timeout", Kind::PubsubUnavailable, Cure::Again, None),
    ("publish.auth.refresh.invalid", Kind::SubscriptionRefused, Cure::None, Some(OUR_MISTAKE)),
    ("publish.event.count.invalid", Kind::SubscriptionRefused, Cure::None, Some(OUR_MISTAKE)),
    ("publish.topic.mismatch", Kind::SubscriptionRefused, Cure::None, Some(OUR_MISTAKE)),
    ("publish.topic.validation.empty", Kind::SubscriptionRefused, Cure::None, Some(OUR_MISTAKE)),
    ("managed.subscription.already.active", Kind::PubsubUnavailable, Cure::Again, None),
    ("managed.subscription.config.stopped", Kind::SubscriptionRefused, Cure::None, Some(OUR_MISTAKE)),
    ("managed.subscription.config.deleted", Kind::SubscriptionRefused, Cure::None, Some(OUR_MISTAKE)),
    ("managed.subscription.developer.name.not.found", Kind::SubscriptionRefused, Cure::None, Some(OUR_MISTAKE)),
    ("managed.subscription.subscription.id.not.found", Kind::SubscriptionRefused, Cure::None, Some(OUR_MISTAKE)),
    ("managed.subscription.subscription.id.invalid", Kind::SubscriptionRefused, Cure::None, Some(OUR_MISTAKE)),
    ("managed.subscription.id.or.developer.name.empty", Kind::SubscriptionRefused, Cure::None, Some(OUR_MISTAKE)),
    ("managed.subscription.fetch.request.events.invalid", Kind::SubscriptionRefused, Cure::None, Some(OUR_MISTAKE)),
    ("managed.subscription.fetch.request.invalid", Kind::SubscriptionRefused, Cure::None, Some(OUR_MISTAKE)),
    ("managed.subscription.fetch.request.commit.request.restricted", Kind::SubscriptionRefused, Cure::None, Some(OUR_MISTAKE)),
    ("managed.subscription.fetch.request.auth.request.restricted", Kind::SubscriptionRefused, Cure::None, Some(OUR_MISTAKE)),
];

/// `endpoint`: host and port, for the message if no connection came about.
pub(super) fn classify(status: &Status, endpoint: &str) -> Fault {
    let trailer = |name| text(status.metadata(), name);
    let code = trailer("error-code").filter(|code| code.starts_with(PREFIX));
    let known = code.as_deref().and_then(|code| {
        let own = code.strip_prefix(PREFIX)?;
        CODES.iter().find(|(known, ..)| *known == own)
    });
    let mut fault = match known {
        Some((own, kind, cure, hint)) => {
            let mut fault =
                Fault::new(*kind, *cure, format!("Salesforce answered {own}: {}", said(status.message())));
            fault.hint = hint.map(Into::into);
            fault
        }
        None => by_status(status, endpoint),
    };
    fault.message = fault.message.trim_end_matches(": ").to_owned();
    fault.error_code = code;
    fault.request_id = trailer("rpc-id");
    fault
}

/// The same error, with what helps if the topic is a platform event's: there is nothing to switch on or to poll.
pub(super) fn of_topic(error: Error, topic: &str) -> Error {
    let is_event = topic.starts_with("/event/") && error.kind() == Kind::SubscriptionRefused;
    if is_event && [NOT_SELECTED, NOT_PERMITTED, error.kind().advice()].contains(&error.advice()) {
        return error.hint(NO_EVENT);
    }
    error
}

fn text(trailers: &MetadataMap, name: &str) -> Option<String> {
    let text = trailers.get(name)?.to_str().ok()?;
    Some(text.chars().filter(char::is_ascii_graphic).take(160).collect())
}

/// Salesforce's sentence; the call's id, which is its last word, stands in the log.
fn said(message: &str) -> String {
    let sentence = message.split("rpcId:").next().unwrap_or_default();
    clean(sentence.trim_end())
}

fn by_status(status: &Status, endpoint: &str) -> Fault {
    let message = status.message();
    if let Some(reason) = no_connection(status) {
        let mut fault =
            Fault::new(Kind::NetworkFailed, Cure::Again, format!("no connection to {endpoint}: {reason}"));
        fault.unreachable = true;
        if reason.contains(UNTRUSTED) {
            fault.hint = Some(TRUST.into());
        }
        return fault;
    }
    let (kind, cure, hint) = match status.code() {
        _ if message.contains(REPLAY_REFUSED) => (Kind::ReplayIdExpired, Cure::None, None),
        _ if message.contains(LIMIT_REACHED) => (Kind::EventsLimitReached, Cure::None, None),
        _ if message.contains(SCHEMA_REFUSED) => (Kind::EventUnreadable, Cure::None, None),
        _ if message.contains(IN_MAINTENANCE) => (Kind::SalesforceMaintenance, Cure::Maintenance, None),
        Code::Unauthenticated => (Kind::SessionExpired, Cure::Refresh, None),
        Code::NotFound => (Kind::SubscriptionRefused, Cure::None, Some(NOT_SELECTED)),
        Code::PermissionDenied => (Kind::SubscriptionRefused, Cure::None, Some(NOT_PERMITTED)),
        Code::Unimplemented => (Kind::SubscriptionRefused, Cure::None, Some(WRONG_PLACE)),
        Code::InvalidArgument | Code::FailedPrecondition | Code::AlreadyExists => {
            (Kind::SubscriptionRefused, Cure::None, None)
        }
        Code::ResourceExhausted => (Kind::SalesforceThrottled, Cure::Again, None),
        // A message larger than any that Salesforce sends.
        Code::OutOfRange => (Kind::EventUnreadable, Cure::None, None),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => (Kind::PubsubUnavailable, Cure::Again, None),
    };
    let mut fault =
        Fault::new(kind, cure, format!("Salesforce answered {}: {}", word(status.code()), said(message)));
    fault.hint = hint.map(Into::into);
    fault
}

/// gRPC's name of a status.
fn word(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// Why no connection came about, if that is what the status is about: the transport's own error, innermost first.
fn no_connection(status: &Status) -> Option<String> {
    let mut source = std::error::Error::source(status);
    let mut is_transport = false;
    let mut innermost = String::new();
    while let Some(error) = source {
        is_transport |= error.is::<tonic::transport::Error>();
        innermost = error.to_string();
        source = error.source();
    }
    is_transport.then_some(innermost)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Reaction;

    const LISTED: &str = include_str!("../../../tests/data/salesforce/pubsub/error-codes.json");

    fn status(code: Code, message: &str, trailer: Option<&str>) -> Status {
        let mut trailers = MetadataMap::new();
        if let Some(trailer) = trailer {
            trailers.insert("error-code", format!("{PREFIX}{trailer}").parse().unwrap());
            trailers.insert("rpc-id", "b9b2a0f6-1c1d-4c8c-9f62-000000000001".parse().unwrap());
        }
        Status::with_metadata(code, message, trailers)
    }

    #[test]
    fn every_code_of_the_list_has_the_reaction_that_the_list_asks_for() {
        let listed: serde_json::Value = serde_json::from_str(LISTED).unwrap();
        let mut seen = Vec::new();
        for row in listed["codes"].as_array().unwrap() {
            let code = row["code"].as_str().unwrap().strip_prefix(PREFIX).unwrap();
            // The status of most is not known: it must not matter.
            for grpc in [Code::InvalidArgument, Code::Internal, Code::Unauthenticated, Code::Unknown] {
                let fault = classify(&status(grpc, "Said. rpcId: x", Some(code)), "host:1");
                let have = (fault.kind.reaction(), fault.cure);
                let action = row["client_action"].as_str().unwrap();
                let wanted: &[(Reaction, Cure)] = match action {
                    "retry" | "slow" => &[(Reaction::RetryLater, Cure::Again)],
                    "reauth" => &[(Reaction::LogInAgain, Cure::Refresh)],
                    "replay" => &[(Reaction::Refetch, Cure::None)],
                    "allocation" => &[(Reaction::WaitForQuota, Cure::None)],
                    // One event that cannot be read is read again as a record, not the end of its object.
                    "fatal" if code == "schema.validation.failed" => &[(Reaction::Refetch, Cure::None)],
                    "fatal" => &[(Reaction::StopObject, Cure::None)],
                    other => panic!("{other}"),
                };
                assert!(wanted.contains(&have), "{code}: {have:?} where the list says {action}");
                assert_eq!(fault.message, format!("Salesforce answered {code}: Said"));
                assert_eq!(fault.request_id.as_deref(), Some("b9b2a0f6-1c1d-4c8c-9f62-000000000001"));
            }
            seen.push(code);
        }
        let mut table: Vec<_> = CODES.iter().map(|(code, ..)| *code).collect();
        seen.sort_unstable();
        table.sort_unstable();
        assert_eq!(table, seen);
    }

    #[test]
    fn recorded_sentences_are_understood_without_trailers() {
        let cases = [
            (
                Code::InvalidArgument,
                "The Replay ID validation failed. Ensure that the Replay ID is valid. rpcId: 1",
                Kind::ReplayIdExpired,
            ),
            (
                Code::NotFound,
                "The topic information for org CORE/prod/00D000000000001 and topic /data/AccountChangeEvent not found. Ensure the topic name is correct and that the topic exists. rpcId: 1",
                Kind::SubscriptionRefused,
            ),
            (
                Code::Unauthenticated,
                "An authentication exception occurred. Provide valid authentication via metadata headers. rpcId: 1",
                Kind::SessionExpired,
            ),
            (
                Code::InvalidArgument,
                "Schema validation failed. The schema ID can't be blank. rpcId: 1",
                Kind::EventUnreadable,
            ),
            (
                Code::ResourceExhausted,
                "You have exceeded the event delivery limit for your org.",
                Kind::EventsLimitReached,
            ),
            (Code::Internal, "The service is unavailable. Try again later", Kind::PubsubUnavailable),
            (Code::Unavailable, "This application is down for maintenance", Kind::SalesforceMaintenance),
            (
                Code::Internal,
                "Received RST_STREAM with code 0 (Call ended without gRPC status)",
                Kind::PubsubUnavailable,
            ),
            (Code::ResourceExhausted, "slow down", Kind::SalesforceThrottled),
            (Code::Unimplemented, "", Kind::SubscriptionRefused),
            (Code::OutOfRange, "message length too large", Kind::EventUnreadable),
        ];
        for (code, message, kind) in cases {
            let fault = classify(&status(code, message, None), "host:1");
            assert_eq!(fault.kind, kind, "{message}");
            assert!(!fault.message.contains("rpcId"), "{}", fault.message);
        }
    }

    #[test]
    fn the_hint_for_a_platform_event_speaks_of_no_object() {
        for code in ["topic.not.found", "topic.meta.permission", "schema.meta.permission"] {
            let error =
                || classify(&status(Code::NotFound, "No.", Some(code)), "host:1").into_error("asking");
            assert!(of_topic(error(), "/event/Order__e").advice().contains("platform event"));
            assert_eq!(of_topic(error(), "/data/AccountChangeEvent").advice(), error().advice());
        }
        let licence = classify(&status(Code::NotFound, "No.", Some("service.tenant.license")), "host:1");
        assert_eq!(of_topic(licence.into_error("asking"), "/event/Order__e").advice(), NO_LICENCE);
    }

    #[test]
    fn an_unknown_code_is_judged_by_its_status() {
        let fault = classify(&status(Code::PermissionDenied, "No.", Some("some.thing.new")), "host:1");
        assert_eq!((fault.kind, fault.cure), (Kind::SubscriptionRefused, Cure::None));
        assert_eq!(fault.message, "Salesforce answered PERMISSION_DENIED: No");
        assert!(fault.error_code.unwrap().ends_with("some.thing.new"));
    }
}
