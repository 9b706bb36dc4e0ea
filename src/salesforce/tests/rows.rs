//! Every fault that `rest.md` sections 1.9, 4.4 and 5 know, as data: what is answered, what it is, what is done about it.

use http::{HeaderMap, HeaderValue, StatusCode};

use crate::error::Kind::{self, *};
use crate::error::Reaction::{self, *};
use crate::salesforce::fault::{Area, Cure, classify};

struct Row {
    fault: &'static str,
    area: Area,
    status: u16,
    /// Of Salesforce's error array; empty: the body as it stands in `message`.
    code: &'static str,
    message: &'static str,
    is: (Kind, Cure, Reaction),
}

const fn row(
    fault: &'static str,
    status: u16,
    code: &'static str,
    message: &'static str,
    is: (Kind, Cure, Reaction),
) -> Row {
    Row { fault, area: Area::Query, status, code, message, is }
}

const fn bulk(status: u16, code: &'static str, message: &'static str, is: (Kind, Cure, Reaction)) -> Row {
    Row { fault: "what Bulk refuses", area: Area::BulkCreate, status, code, message, is }
}

const PAGE: &str = "<!DOCTYPE html><html><body>We are setting things up…</body></html>";

const SPENT: (Kind, Cure, Reaction) = (ApiLimitReached, Cure::Allowance, WaitForQuota);
const THROTTLED: (Kind, Cure, Reaction) = (SalesforceThrottled, Cure::Again, RetryLater);
const AWAY: (Kind, Cure, Reaction) = (SalesforceUnavailable, Cure::Again, RetryLater);
const IN_MAINTENANCE: (Kind, Cure, Reaction) = (SalesforceMaintenance, Cure::Maintenance, RetryLater);
const EXPIRED: (Kind, Cure, Reaction) = (SessionExpired, Cure::Refresh, LogInAgain);
const MOVED: (Kind, Cure, Reaction) = (OrgMoved, Cure::Refresh, LogInAgain);
const LOCKED: (Kind, Cure, Reaction) = (OrgLocked, Cure::None, StopProgram);
const NO_API: (Kind, Cure, Reaction) = (ApiDisabled, Cure::None, StopProgram);
const NO_LOGIN: (Kind, Cure, Reaction) = (LoginRefused, Cure::None, StopProgram);
const TOO_BIG: (Kind, Cure, Reaction) = (RequestTooLarge, Cure::None, StopObject);
const NO_JSON: (Kind, Cure, Reaction) = (ReplyUnreadable, Cure::Again, RetryLater);
const NEEDS_FILTER: (Kind, Cure, Reaction) = (QueryRefused, Cure::None, StopObject);
const NOT_WHOLE: (Kind, Cure, Reaction) = (ObjectUnsupported, Cure::None, StopObject);
const BY_REST: (Kind, Cure, Reaction) = (BulkRefused, Cure::None, UseRest);

#[rustfmt::skip]
const ROWS: &[Row] = &[
    row("daily limit", 403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.", SPENT),
    row("long-running requests", 403, "REQUEST_LIMIT_EXCEEDED", "ConcurrentPerOrgLongTxn Limit exceeded.", THROTTLED),
    row("long-running requests", 403, "REQUEST_LIMIT_EXCEEDED", "ConcurrentRequests (Concurrent API Requests) Limit exceeded.", THROTTLED),
    row("edge throttling", 429, "", "", THROTTLED),
    row("edge throttling", 420, "", PAGE, THROTTLED),
    row("edge throttling", 406, "", "", THROTTLED),
    row("overload, maintenance", 503, "SERVER_UNAVAILABLE", "server temporarily unavailable", AWAY),
    row("overload, maintenance", 503, "", PAGE, AWAY),
    row("overload, maintenance", 502, "", "", AWAY),
    row("overload, maintenance", 503, "ORG_IN_MAINTENANCE", "organization is in maintenance", IN_MAINTENANCE),
    row("overload, maintenance", 400, "INSERT_UPDATE_DELETE_NOT_ALLOWED_DURING_MAINTENANCE", "read-only", IN_MAINTENANCE),
    row("server error", 500, "UNKNOWN_EXCEPTION", "An unexpected error occurred.", (SalesforceError, Cure::FewTimes, StopObject)),
    row("lock", 400, "UNABLE_TO_LOCK_ROW", "unable to obtain exclusive access to this record", (RecordLocked, Cure::Again, RetryLater)),
    row("request too big", 414, "URI_TOO_LONG", "URI Too Long", TOO_BIG),
    row("request too big", 431, "", "", TOO_BIG),
    row("request too big", 413, "", PAGE, (ReplyUnreadable, Cure::Again, RetryLater)),
    row("org moved", 401, "ORG_NOT_OWNED_BY_INSTANCE", "org is not on this instance", MOVED),
    row("org moved", 500, "UNKNOWN_EXCEPTION", "Destination URL not reset. The URL returned from login must be set", MOVED),
    row("org moved", 301, "", "", MOVED),
    row("org moved", 302, "", PAGE, MOVED),
    row("org moved", 401, "INVALID_SESSION_ID", "Session expired or invalid", EXPIRED),
    row("session end", 401, "INVALID_AUTH_HEADER", "INVALID_JWT_FORMAT", EXPIRED),
    row("session end", 401, "INVALID_HEADER_TYPE", "INVALID_HEADER_TYPE", EXPIRED),
    row("session end", 403, "", "Bad_OAuth_Token", EXPIRED),
    row("session end", 401, "", "", EXPIRED),
    row("no cure by a refresh", 401, "INVALID_SESSION_ID", "This session is not valid for use with the REST API", NO_LOGIN),
    row("no cure by a refresh", 401, "INVALID_SESSION_ID", "Connected app is not attached to Agent", NO_LOGIN),
    row("org locked / trial ended", 403, "ORG_LOCKED", "organization is locked", LOCKED),
    row("org locked / trial ended", 403, "TRIAL_EXPIRED", "trial expired", LOCKED),
    row("org locked / trial ended", 403, "API_DISABLED_FOR_ORG", "The REST API is not enabled for this Organization.", NO_API),
    row("non-JSON 200", 200, "", PAGE, NO_JSON),
    row("non-JSON 403", 403, "", PAGE, NO_JSON),
    row("needs a filter", 400, "MALFORMED_QUERY", "Implementation restriction: ContentDocumentLink requires a filter by a single Id on ContentDocumentId", NEEDS_FILTER),
    row("needs a filter", 400, "MALFORMED_QUERY", "SearchLayout: a filter on a reified column is required [EntityDefinitionId,DurableId]", NEEDS_FILTER),
    row("needs a filter", 400, "INVALID_FIELD", "Can select only RecordId, a Has*Access field, and MaxAccessLevel", NEEDS_FILTER),
    row("needs a filter", 400, "EXTERNAL_OBJECT_UNSUPPORTED_EXCEPTION", "Where clauses should contain StatType", NOT_WHOLE),
    row("not whole", 400, "EXTERNAL_OBJECT_EXCEPTION", "SObject - DATACLOUD_ADDRESS : Transient queries are not implemented", NOT_WHOLE),
    row("not whole", 400, "DATACLOUD_API_DISABLED_EXCEPTION", "Your organization doesn't have permission to access the Data.com API", NOT_WHOLE),
    row("not whole", 400, "BIG_OBJECT_UNSUPPORTED_OPERATION", "Aggregate functions not supported", NOT_WHOLE),
    row("not whole", 400, "INVALID_TYPE_FOR_OPERATION", "entity type AccountChangeEvent does not support query", NOT_WHOLE),
    bulk(400, "INVALID_FIELD", "Selecting compound data not supported in Bulk Query", BY_REST),
    bulk(400, "INVALIDENTITY", "Entity 'CaseStatus' is not supported by the Bulk API.", BY_REST),
    bulk(400, "API_ERROR", "Implementation restriction: Vote requires a filter", (QueryRefused, Cure::None, StopObject)),
    bulk(400, "API_ERROR", "entity type Vote does not support query", (ObjectUnsupported, Cure::None, StopObject)),
    bulk(400, "LIMIT_EXCEEDED", "Max bulk v2 query jobs (10000) per 24 hrs has been reached", BY_REST),
    bulk(400, "API_ERROR", "Max bulk v2 query result size stored (1000000000) kb per 24 hrs has been exceeded", BY_REST),
    bulk(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.", SPENT),
    bulk(403, "API_ERROR", "", (ObjectForbidden, Cure::None, StopObject)),
    bulk(400, "MALFORMED_QUERY", "unexpected token", (QueryRefused, Cure::None, StopObject)),
    bulk(400, "INVALID_TYPE", "sObject type 'X' is not supported.", (ObjectUnknown, Cure::None, StopObject)),
    bulk(400, "FEATURENOTENABLED", "Cannot serialize value for 'X' in CSV format", BY_REST),
    Row { area: Area::BulkJob, ..bulk(404, "NOT_FOUND", "The requested resource does not exist", (BulkJobGone, Cure::None, Reload)) },
    Row { area: Area::BulkJob, ..bulk(409, "", "", (BulkJobGone, Cure::None, Reload)) },
];

#[test]
fn every_fault_of_the_reference_is_known_and_has_its_reaction() {
    for Row { fault, area, status, code, message, is: (kind, cure, reaction) } in ROWS {
        let body = match *code {
            "" => (*message).to_owned(),
            code => serde_json::json!([{"message": message, "errorCode": code}]).to_string(),
        };
        let mut headers = HeaderMap::new();
        headers.insert("location", HeaderValue::from_static("https://evil.example/services/data/"));
        let status = StatusCode::from_u16(*status).unwrap();
        let found = classify(*area, status, &headers, body.as_bytes());
        let what = format!("{fault}: {status} {code} {message}");
        assert_eq!((found.kind, found.cure, found.kind.reaction()), (*kind, *cure, *reaction), "{what}");
        assert!(!found.advice().is_empty() && !found.message.is_empty(), "{what}");
    }
}

#[test]
fn a_body_that_is_cut_is_asked_for_again_whatever_it_was() {
    let broken = crate::salesforce::fault::Fault::truncated("the answer broke off");
    let error = serde_json::from_str::<serde_json::Value>(r#"{"records":[{"Id""#).unwrap_err();
    for fault in [broken, crate::salesforce::fault::Fault::json(&error)] {
        assert_eq!((fault.kind, fault.cure), (ReplyTruncated, Cure::Again));
        assert_eq!(fault.kind.reaction(), RetryLater);
    }
}
