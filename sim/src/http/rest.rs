//! The REST resources but for queries and jobs (rest.md 2, 3.4 to 3.9, 5).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::StatusCode;
use serde_json::{Map, Value as Json, json};

use super::fault::Change;
use super::reply::{self, Answer};
use super::{Call, Reply, Server, blob, bulk, lock, query, tooling};
use crate::catalog::{FieldDef, FieldType, ObjectDef};
use crate::org::calendar::{parse_datetime, rest_datetime};
use crate::org::{Id, OrgError, ReplicationError, Value};

const VERSIONS: [(&str, &str); 6] = [
    ("Winter '25", "62.0"),
    ("Spring '25", "63.0"),
    ("Summer '25", "64.0"),
    ("Winter '26", "65.0"),
    ("Spring '26", "66.0"),
    ("Summer '26", "67.0"),
];

pub(crate) fn versions() -> Reply {
    let versions: Vec<Json> = VERSIONS
        .iter()
        .map(|(label, version)| json!({"label": label, "url": format!("/services/data/v{version}"), "version": version}))
        .collect();
    Answer::json(&versions.into()).unbilled()
}

/// `v65.0` as `65.0`; versions from 41.0 to the newest are served alike.
pub(crate) fn check_version(text: &str) -> Result<String, Reply> {
    let version = text.strip_prefix('v').ok_or_else(reply::not_found)?;
    match version.parse::<f64>() {
        Ok(number) if (41.0..=67.0).contains(&number) && version.ends_with(".0") => Ok(version.to_owned()),
        Ok(number) if number < 41.0 => {
            Err(reply::error(StatusCode::GONE, "UNSUPPORTED_API_VERSION", "this API version is retired"))
        }
        _ => Err(reply::not_found()),
    }
}

pub(crate) async fn answer(
    server: &Arc<Server>,
    call: &Call,
    version: &str,
    path: &[&str],
    change: Option<&Change>,
) -> Reply {
    match (call.method.as_str(), path) {
        (_, ["jobs", "query", rest @ ..]) => {
            server.count("bulk");
            bulk::answer(server, call, version, rest, change).await
        }
        ("POST", ["composite"]) => {
            server.count("composite");
            composite(server, call, version).await
        }
        ("POST", ["composite", "batch"]) => {
            server.count("composite/batch");
            batch(server, call).await
        }
        _ => {
            // Rows are made while they are asked for: that is work, not waiting.
            let (server, call) = (server.clone(), shared(call));
            let (version, path) =
                (version.to_owned(), path.iter().map(|segment| (*segment).to_owned()).collect::<Vec<_>>());
            tokio::task::spawn_blocking(move || {
                let path: Vec<&str> = path.iter().map(String::as_str).collect();
                plain(&server, &call, &version, &path)
            })
            .await
            .unwrap_or_else(|_| {
                reply::error(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "UNKNOWN_EXCEPTION",
                    "An unexpected error occurred.",
                )
            })
        }
    }
}

fn shared(call: &Call) -> Call {
    Call {
        method: call.method.clone(),
        uri: call.uri.clone(),
        headers: call.headers.clone(),
        body: call.body.clone(),
        path: call.path.clone(),
        query: call.query.clone(),
    }
}

fn plain(server: &Server, call: &Call, version: &str, path: &[&str]) -> Reply {
    match (call.method.as_str(), path) {
        ("GET", []) => {
            let base = format!("/services/data/v{version}");
            Answer::json(&json!({"sobjects": format!("{base}/sobjects"), "query": format!("{base}/query"),
                "queryAll": format!("{base}/queryAll"), "limits": format!("{base}/limits"), "jobs": format!("{base}/jobs"),
                "composite": format!("{base}/composite"), "tooling": format!("{base}/tooling"),
                "identity": format!("{}/id/{}/{}", server.origin(), server.org.organization_id().as_str(), server.org.user_id().as_str())}))
        }
        ("GET", ["query" | "queryAll", locator]) => {
            server.count("query-more");
            query::more(server, call, locator)
        }
        ("GET", [kind @ ("query" | "queryAll")]) => {
            server.count(kind);
            match call.parameter("q") {
                Some(soql) => query::query(server, call, version, soql, *kind == "queryAll"),
                None => reply::error(
                    StatusCode::BAD_REQUEST,
                    "MALFORMED_QUERY",
                    "SOQL statements cannot be empty or null",
                ),
            }
        }
        ("GET", ["sobjects"]) => {
            server.count("describeGlobal");
            let catalog = server.org.catalog();
            conditional(call, catalog.last_modified_ms().max(server.settings().visibility_ms), || {
                let mut global = catalog.global_json(version);
                if let Some(objects) = global.get_mut("sobjects").and_then(Json::as_array_mut) {
                    let events = tooling::change_event_objects(&catalog);
                    objects.extend(events.map(|object| object.global_json(version)));
                    objects.retain(|object| {
                        object.get("name").and_then(Json::as_str).is_some_and(|name| server.shows(name))
                    });
                }
                global
            })
        }
        ("GET", ["limits"]) => {
            server.count("limits");
            limits(server)
        }
        ("GET", ["limits", "recordCount"]) => {
            server.count("recordCount");
            record_count(server, call)
        }
        (_, ["composite", "sobjects", object]) => {
            server.count("retrieve");
            with_object(server, object, |object| retrieve(server, call, version, object))
        }
        ("GET", ["event", "eventSchema", id]) => tooling::event_schema(server, Some(id), ""),
        ("GET", ["sobjects", event, "eventSchema"]) => tooling::event_schema(server, None, event),
        ("GET", ["sobjects", object, rest @ ..]) => {
            with_object(server, object, |object| sobject(server, call, version, object, rest))
        }
        ("GET", ["tooling", "query"]) => {
            server.count("tooling");
            tooling::query(server, call.parameter("q").unwrap_or_default(), version)
        }
        ("POST", ["tooling", "sobjects", entity]) => {
            server.count("tooling");
            tooling::make(server, call, entity)
        }
        ("DELETE", ["tooling", "sobjects", entity, id]) => {
            server.count("tooling");
            tooling::remove(server, entity, id)
        }
        (_, ["query" | "queryAll" | "sobjects" | "limits" | "composite", ..]) if call.method != "GET" => {
            reply::method_not_allowed()
        }
        _ => reply::not_found(),
    }
}

fn with_object(server: &Server, name: &str, work: impl FnOnce(&Arc<ObjectDef>) -> Reply) -> Reply {
    match server.org.object(name) {
        Ok(object) if server.shows(&object.name) => {
            server.asked_about(&object.name);
            work(&object)
        }
        Err(_) => match tooling::change_event_named(&server.org.catalog(), name) {
            Some(event) => work(&Arc::new(event)),
            None => reply::not_found(),
        },
        _ => reply::not_found(),
    }
}

fn conditional(call: &Call, modified_ms: i64, make: impl FnOnce() -> Json) -> Reply {
    let modified =
        std::time::UNIX_EPOCH + std::time::Duration::from_millis(u64::try_from(modified_ms).unwrap_or(0));
    let since = call.header("if-modified-since").and_then(|text| httpdate::parse_http_date(text).ok());
    let second = |time: std::time::SystemTime| {
        time.duration_since(std::time::UNIX_EPOCH).map(|age| age.as_secs()).unwrap_or(0)
    };
    if since.is_some_and(|since| second(modified) <= second(since)) {
        return Answer::empty(StatusCode::NOT_MODIFIED);
    }
    Answer::json(&make()).header("last-modified", httpdate::fmt_http_date(modified))
}

fn sobject(server: &Server, call: &Call, version: &str, object: &Arc<ObjectDef>, rest: &[&str]) -> Reply {
    match rest {
        [] => Answer::json(&json!({"objectDescribe": object.global_json(version), "recentItems": []})),
        ["describe"] => {
            server.count("describe");
            conditional(call, object.last_modified_ms, || object.describe_json(version))
        }
        ["updated" | "deleted"] => {
            server.count("replication");
            replication(server, call, object, rest == ["updated"])
        }
        [id] => one_record(server, call, version, object, id),
        [id, field] => blob::answer(server, object, id, field),
        _ => reply::not_found(),
    }
}

fn one_record(server: &Server, call: &Call, version: &str, object: &Arc<ObjectDef>, id: &str) -> Reply {
    let Some(id) = Id::parse(id) else {
        return reply::error(
            StatusCode::NOT_FOUND,
            "NOT_FOUND",
            "Provided external ID field does not exist or is not accessible",
        );
    };
    let snapshot = server.org.snapshot();
    match snapshot.row(&object.name, id, true) {
        Ok(Some(row)) if row.is_deleted() => reply::entity_is_deleted(),
        Ok(Some(row)) => {
            let wanted: Option<Vec<&str>> =
                call.parameter("fields").map(|fields| fields.split(',').map(str::trim).collect());
            match record_json(&row, object, wanted.as_deref(), version) {
                Ok(record) => Answer::json(&Json::Object(record)),
                Err(reply) => reply,
            }
        }
        _ => reply::not_found(),
    }
}

fn known_field<'o>(object: &'o ObjectDef, name: &str) -> Result<(usize, &'o FieldDef), Reply> {
    object.field(name).ok_or_else(|| {
        let message = format!(
            "\n{name}\n^\nERROR at Row:1:Column:1\nNo such column '{name}' on entity '{}'. If you are attempting to use a \
             custom field, be sure to append the '__c' after the custom field name. Please reference your WSDL or the \
             describe call for the appropriate names.",
            object.name
        );
        reply::error(StatusCode::BAD_REQUEST, "INVALID_FIELD", &message)
    })
}

fn in_version(value: Value, field: &FieldDef, version: &str) -> Value {
    if field.field_type == FieldType::Base64 { value.in_version(version) } else { value }
}

fn record_json(
    row: &crate::org::Row,
    object: &ObjectDef,
    wanted: Option<&[&str]>,
    version: &str,
) -> Result<Map<String, Json>, Reply> {
    let mut record = Map::new();
    let url = format!("/services/data/v{version}/sobjects/{}/{}", object.name, row.id().as_str());
    record.insert("attributes".to_owned(), json!({"type": object.name, "url": url}));
    match wanted {
        None => record.extend(object.visible_fields().map(|(index, field)| {
            (field.name.clone(), in_version(row.get(index), field, version).to_rest_json())
        })),
        Some(names) => {
            for name in names {
                let (index, field) = known_field(object, name)?;
                record.insert(field.name.clone(), in_version(row.get(index), field, version).to_rest_json());
            }
        }
    }
    Ok(record)
}

/// Many records by id: null for what is not there (rest.md 3.4).
fn retrieve(server: &Server, call: &Call, version: &str, object: &Arc<ObjectDef>) -> Reply {
    let body: Json = if call.body.is_empty() {
        Json::Null
    } else {
        serde_json::from_slice(&call.body).unwrap_or_default()
    };
    let list = |name: &str| -> Vec<String> {
        match body.get(name).and_then(Json::as_array) {
            Some(list) => list.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect(),
            None => call
                .parameter(name)
                .map(|list| list.split(',').map(str::to_owned).collect())
                .unwrap_or_default(),
        }
    };
    let (ids, fields) = (list("ids"), list("fields"));
    if ids.len() > 2_000 {
        return reply::error(
            StatusCode::BAD_REQUEST,
            "EXCEEDED_MAX_SIZE_REQUEST",
            "a request can name 2,000 ids at most",
        );
    }
    let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
    // A wrong field is refused though no record may be there.
    if let Some(refusal) = fields.iter().find_map(|name| known_field(object, name).err()) {
        return refusal;
    }
    let snapshot = server.org.snapshot();
    let mut records = Vec::with_capacity(ids.len());
    for id in &ids {
        let row = Id::parse(id).and_then(|id| snapshot.row(&object.name, id, false).ok().flatten());
        match row {
            None => records.push(Json::Null),
            Some(row) => match record_json(&row, object, Some(&fields), version) {
                Ok(record) => records.push(Json::Object(record)),
                Err(refusal) => return refusal,
            },
        }
    }
    Answer::json(&Json::Array(records))
}

fn replication(server: &Server, call: &Call, object: &Arc<ObjectDef>, updated: bool) -> Reply {
    let moment = |name: &str| call.parameter(name).and_then(|text| parse_datetime(&text.replace(' ', "+")));
    let (Some(start), Some(end)) = (moment("start"), moment("end")) else {
        return reply::error(
            StatusCode::BAD_REQUEST,
            "INVALID_REPLICATION_DATE",
            "start and end must be dates with a time and a zone",
        );
    };
    let refused =
        |error: &ReplicationError| reply::error(StatusCode::BAD_REQUEST, error.code(), &error.to_string());
    let delay = server.settings().replication_delay_ms;
    if updated {
        match server.org.updated(&object.name, start, end) {
            Ok(found) => Answer::json(&json!({
                "ids": found.ids.iter().map(Id::as_str).collect::<Vec<_>>(),
                "latestDateCovered": rest_datetime(found.latest_date_covered_ms - delay),
            })),
            Err(error) => refused(&error),
        }
    } else {
        match server.org.deleted(&object.name, start, end) {
            Ok(found) => Answer::json(&json!({
                "deletedRecords": found.records.iter()
                    .map(|record| json!({"deletedDate": rest_datetime(record.deleted_ms), "id": record.id.as_str()}))
                    .collect::<Vec<_>>(),
                "earliestDateAvailable": rest_datetime(found.earliest_date_available_ms),
                "latestDateCovered": rest_datetime(found.latest_date_covered_ms - delay),
            })),
            Err(error) => refused(&error),
        }
    }
}

fn limits(server: &Server) -> Reply {
    let settings = server.settings();
    let left = settings.daily_limit.saturating_sub(settings.calls);
    let delivery_limit = server.events.habits().delivery_limit;
    let delivered = server.events.meter.used.load(Ordering::Relaxed);
    Answer::json(&json!({
        "DailyApiRequests": {"Max": settings.daily_limit, "Remaining": left, "Dataloader Bulk": {"Max": 0, "Remaining": 0}},
        "DailyBulkV2QueryJobs": {"Max": settings.job_limit,
            "Remaining": settings.job_limit.saturating_sub(server.jobs_created.load(Ordering::Relaxed))},
        "DailyBulkV2QueryFileStorageMB": {"Max": 976_562, "Remaining": 976_562},
        "DailyBulkApiBatches": {"Max": 15_000, "Remaining": 15_000},
        "DailyDeliveredPlatformEvents": {"Max": delivery_limit, "Remaining": delivery_limit.saturating_sub(delivered)},
    }))
}

fn record_count(server: &Server, call: &Call) -> Reply {
    let catalog = server.org.catalog();
    let wanted: Option<Vec<String>> = call
        .parameter("sObjects")
        .map(|names| names.split(',').map(|name| name.trim().to_ascii_lowercase()).collect());
    let counts: Vec<Json> = catalog
        .present()
        .filter(|object| {
            object.flags.queryable && object.associate_entity_type.is_none() && server.shows(&object.name)
        })
        .filter(|object| {
            wanted.as_ref().is_none_or(|wanted| wanted.contains(&object.name.to_ascii_lowercase()))
        })
        .filter_map(|object| {
            let count: Result<u64, OrgError> = server.org.approximate_count(&object.name);
            count.ok().map(|count| json!({"count": count, "name": object.name}))
        })
        .collect();
    Answer::json(&json!({"sObjects": counts}))
}

/// A subrequest's answer, with the status of its own.
async fn subrequest(
    server: &Arc<Server>,
    call: &Call,
    method: &str,
    url: &str,
    body: Option<&Json>,
) -> (u16, Json) {
    let full = if url.starts_with("/services/") {
        url.to_owned()
    } else {
        format!("/services/data/{}", url.trim_start_matches('/'))
    };
    // A statement may stand in the URL unencoded.
    let encoded = full.replace(' ', "%20").replace('"', "%22").replace('<', "%3C").replace('>', "%3E");
    let Ok(uri) = encoded.parse::<http::Uri>() else {
        return (
            400,
            json!([{"errorCode": "INVALID_URL", "message": "the subrequest's URL cannot be read"}]),
        );
    };
    let path: Vec<String> =
        uri.path().split('/').filter(|segment| !segment.is_empty()).map(str::to_owned).collect();
    let query =
        url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    let sub = Call {
        method: method.parse().unwrap_or(http::Method::GET),
        uri,
        headers: call.headers.clone(),
        body: body.map(|body| body.to_string().into_bytes()).unwrap_or_default().into(),
        path: path.clone(),
        query,
    };
    let segments: Vec<&str> = path.iter().map(String::as_str).collect();
    let reply = match segments.as_slice() {
        ["services", "data", _, "sobjects", object, _, field] if blob::is_one(server, object, field) => {
            blob::refused_in_composite()
        }
        ["services", "data", version, rest @ ..] => match check_version(version) {
            Ok(version) => {
                let (server, rest, version) =
                    (server.clone(), rest.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>(), version);
                tokio::task::spawn_blocking(move || {
                    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
                    plain(&server, &sub, &version, &rest)
                })
                .await
                .unwrap_or_else(|_| reply::not_found())
            }
            Err(refusal) => refusal,
        },
        _ => reply::not_found(),
    };
    let body = match reply.body {
        reply::Content::Whole(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
        reply::Content::Stream(_) => Json::Null,
    };
    (reply.status.as_u16(), body)
}

fn is_query(url: &str) -> bool {
    url.contains("/query") || url.contains("/composite/sobjects")
}

/// 25 subrequests, 5 of them queries, one call (rest.md 3.8).
async fn composite(server: &Arc<Server>, call: &Call, _version: &str) -> Reply {
    let body: Json = serde_json::from_slice(&call.body).unwrap_or_default();
    let Some(requests) = body.get("compositeRequest").and_then(Json::as_array) else {
        return reply::error(StatusCode::BAD_REQUEST, "JSON_PARSER_ERROR", "compositeRequest is missing");
    };
    let text =
        |request: &Json, name: &str| request.get(name).and_then(Json::as_str).unwrap_or_default().to_owned();
    let queries = requests.iter().filter(|request| is_query(&text(request, "url"))).count();
    if requests.len() > 25 || queries > 5 {
        return reply::error(
            StatusCode::BAD_REQUEST,
            "PROCESSING_HALTED",
            "a composite request takes 25 subrequests at most, 5 of them queries",
        );
    }
    let mut answers = Vec::new();
    for request in requests {
        let (method, url) = (text(request, "method"), text(request, "url"));
        let (status, body) = subrequest(server, call, &method, &url, request.get("body")).await;
        answers.push(json!({"body": body, "httpHeaders": {}, "httpStatusCode": status, "referenceId": text(request, "referenceId")}));
    }
    Answer::json(&json!({"compositeResponse": answers}))
}

async fn batch(server: &Arc<Server>, call: &Call) -> Reply {
    let body: Json = serde_json::from_slice(&call.body).unwrap_or_default();
    let Some(requests) =
        body.get("batchRequests").and_then(Json::as_array).filter(|requests| requests.len() <= 25)
    else {
        return reply::error(
            StatusCode::BAD_REQUEST,
            "JSON_PARSER_ERROR",
            "batchRequests is missing or too long",
        );
    };
    // Each subrequest counts; the last of them as the call itself.
    lock(&server.settings).calls += requests.len().saturating_sub(1) as u64;
    let mut results = Vec::new();
    let mut errors = false;
    for request in requests {
        let text = |name: &str| request.get(name).and_then(Json::as_str).unwrap_or_default().to_owned();
        let (status, body) =
            subrequest(server, call, &text("method"), &text("url"), request.get("richInput")).await;
        errors |= status >= 400;
        results.push(json!({"statusCode": status, "result": body}));
    }
    Answer::json(&json!({"hasErrors": errors, "results": results}))
}
