//! Refusals in the platform's words, with its trailers (pubsub.md 1.9).
//!
//! Comes in: which refusal, the id of the call. Goes out: a gRPC status whose text ends with the id, and the trailers
//! `error-code` and `rpc-id`. Statuses that no source names are our choice; docs/simulator.md lists them.

use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

pub(crate) const PREFIX: &str = "sfdc.platform.eventbus.grpc.";

pub(crate) fn refuse(code: Code, error_code: &str, message: &str, rpc_id: &str) -> Status {
    let mut trailers = MetadataMap::new();
    for (key, value) in [("error-code", format!("{PREFIX}{error_code}")), ("rpc-id", rpc_id.to_owned())] {
        if let Ok(value) = MetadataValue::try_from(value) {
            trailers.insert(key, value);
        }
    }
    Status::with_metadata(code, format!("{message} rpcId: {rpc_id}"), trailers)
}

pub(crate) fn auth_error(rpc_id: &str) -> Status {
    let message = "An authentication exception occurred. Provide valid authentication via metadata headers.";
    refuse(Code::Unauthenticated, "service.auth.error", message, rpc_id)
}

pub(crate) fn headers_invalid(header: &str, rpc_id: &str) -> Status {
    let message =
        format!("The {header} header is missing or not valid. Provide valid authentication headers.");
    refuse(Code::Unauthenticated, "service.auth.headers.invalid", &message, rpc_id)
}

pub(crate) fn topic_not_found(tenant: &str, topic: &str, rpc_id: &str) -> Status {
    let message = format!(
        "The topic information for org {tenant} and topic {topic} not found. Ensure the topic name is correct and \
         that the topic exists."
    );
    refuse(Code::NotFound, "topic.not.found", &message, rpc_id)
}

pub(crate) fn replay_id_corrupted(rpc_id: &str) -> Status {
    let message = "The Replay ID validation failed. Ensure that the Replay ID is valid.";
    refuse(Code::InvalidArgument, "subscription.fetch.replayid.corrupted", message, rpc_id)
}

pub(crate) fn limit_exceeded(rpc_id: &str) -> Status {
    let message = "You have exceeded the event delivery limit for your org.";
    refuse(Code::ResourceExhausted, "subscription.limit.exceeded", message, rpc_id)
}

pub(crate) fn invalid(error_code: &str, message: &str, rpc_id: &str) -> Status {
    refuse(Code::InvalidArgument, error_code, message, rpc_id)
}

/// `UNAVAILABLE`, `unavailable` or `14`.
pub(crate) fn code_named(name: &str) -> Code {
    if let Ok(number) = name.parse::<i32>() {
        return Code::from_i32(number);
    }
    (0..=16)
        .map(Code::from_i32)
        .find(|code| format!("{code:?}").eq_ignore_ascii_case(&name.replace('_', "")))
        .unwrap_or(Code::Unknown)
}
