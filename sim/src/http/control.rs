//! The control interface: changes, truth, faults, clock, counters (docs/simulator.md). Ours alone; Salesforce has none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::fault::Rule;
use super::reply::{Answer, Content};
use super::{Call, Server, lock, setup, streamed};
use crate::org::{Traffic, TrafficConfig, Transaction};

/// Changes made at a rate, for a bounded time.
pub(crate) struct TrafficRun {
    done: AtomicU64,
    over: AtomicBool,
    stop: AtomicBool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct TrafficOrder {
    /// Changes in all.
    count: u64,
    /// Changes a second in real time; 0: as fast as can be.
    rate: f64,
    /// Ends after so many seconds in any case.
    seconds: f64,
    seed: u64,
    objects: Vec<String>,
    largest_transaction: u64,
    lagging_one_in: u64,
    largest_lag_seconds: f64,
    /// Answer only when it is done.
    wait: bool,
}

impl Default for TrafficOrder {
    fn default() -> Self {
        Self {
            count: u64::MAX,
            rate: 0.0,
            seconds: 60.0,
            seed: 1,
            objects: Vec::new(),
            largest_transaction: 8,
            lagging_one_in: 0,
            largest_lag_seconds: 60.0,
            wait: false,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SettingsOrder {
    daily_limit: Option<u64>,
    calls: Option<u64>,
    gzip: Option<bool>,
    page_cap: Option<u64>,
    bulk_page_cap: Option<u64>,
    job_delay_millis: Option<u64>,
    reorder: Option<bool>,
    replication_delay_seconds: Option<f64>,
    hidden_objects: Option<Vec<String>>,
    soft_limit: Option<bool>,
    job_limit: Option<u64>,
    instance_url: Option<String>,
    token_lifetime_seconds: Option<f64>,
    rotation: Option<bool>,
    cascade_keeps_stamp: Option<bool>,
}

pub(crate) async fn answer(server: &Arc<Server>, call: &Call) -> Response {
    let path: Vec<&str> = call.path.iter().skip(1).map(String::as_str).collect();
    let reply = match (call.method.as_str(), path.as_slice()) {
        ("GET", []) => Answer::json(
            &json!({"organizationId": server.org.organization_id().as_str(), "origin": server.origin()}),
        ),
        ("POST", ["transactions"]) => transactions(server, call),
        ("POST", ["traffic"]) => traffic(server, call).await,
        ("GET", ["traffic"]) => Answer::json(&traffic_json(server)),
        ("DELETE", ["traffic"]) => {
            for run in lock(&server.traffic).iter() {
                run.stop.store(true, Ordering::Relaxed);
            }
            Answer::json(&json!({}))
        }
        ("GET", ["truth", object]) => truth(server, object),
        ("GET", ["blob", object, id, field]) => super::blob::truth(server, object, id, field),
        ("GET", ["deleted", object]) => match server.org.deleted_ids(object) {
            Ok(ids) => Answer::json(&json!(ids.iter().map(|id| id.as_str().to_owned()).collect::<Vec<_>>())),
            Err(error) => refused(&error.to_string()),
        },
        ("GET", ["changes"]) => {
            let number = |name: &str, default: u64| {
                call.parameter(name).and_then(|text| text.parse().ok()).unwrap_or(default)
            };
            let limit = usize::try_from(number("limit", 10_000)).unwrap_or(10_000);
            let log = server.org.change_log(number("after", 0), limit);
            let entries = log.iter().map(|entry| {
                let mut json = entry.to_json();
                json["transactionKey"] = json!(server.events.transaction_key(entry.transaction));
                json
            });
            let entries: Vec<Json> = entries.collect();
            Answer::json(&json!({"changes": entries, "count": server.org.change_count()}))
        }
        ("GET", ["counters"]) => {
            let counters = lock(&server.counters).clone();
            let objects = lock(&server.asked_about).clone();
            Answer::json(&json!({"calls": server.settings().calls, "byKind": counters, "byObject": objects}))
        }
        ("GET", ["clock"]) => Answer::json(&clock_json(server)),
        ("POST", ["clock"]) => clock(server, call),
        ("POST", ["faults"]) => match serde_json::from_slice::<Rule>(&call.body) {
            Ok(rule) => {
                server.faults.add(rule);
                Answer::json(&json!({}))
            }
            Err(error) => refused(&error.to_string()),
        },
        ("GET", ["faults"]) => Answer::json(&json!(server.faults.left())),
        ("DELETE", ["faults"]) => {
            server.faults.clear();
            Answer::json(&json!({}))
        }
        ("POST", ["settings"]) => settings(server, call),
        ("POST", ["fields"]) => setup::fields(server, call),
        ("POST", ["objects"]) => setup::objects(server, call),
        ("POST", ["sessions", "expire"]) => {
            lock(&server.logins).expire_all();
            Answer::json(&json!({}))
        }
        ("DELETE", ["queries"]) => {
            lock(&server.queries).forget_all();
            Answer::json(&json!({}))
        }
        ("DELETE", ["jobs"]) => {
            lock(&server.jobs).clear();
            Answer::json(&json!({}))
        }
        ("GET", ["jobs"]) => {
            let ids: Vec<String> = lock(&server.jobs).keys().cloned().collect();
            Answer::json(&json!(ids))
        }
        ("POST", ["recycleBin", object]) => match server.org.empty_recycle_bin(object) {
            Ok(receipt) => Answer::json(&json!({"ids": receipt.ids.len()})),
            Err(error) => refused(&error.to_string()),
        },
        (_, ["logins", rest @ ..]) => super::oauth::control(server, call, rest),
        (_, ["pubsub", rest @ ..]) => super::pubsub::answer(server, call, rest),
        _ => unknown(),
    };
    reply.unbilled().into_response(None)
}

pub(super) fn unknown() -> Answer {
    Answer::json(&json!({"error": "no such control"})).status(StatusCode::NOT_FOUND)
}

pub(super) fn refused(why: &str) -> Answer {
    Answer::json(&json!({"error": why})).status(StatusCode::BAD_REQUEST)
}

/// One transaction, or an array of them; each takes hold by itself.
fn transactions(server: &Server, call: &Call) -> Answer {
    let Ok(body) = serde_json::from_slice::<Json>(&call.body) else { return refused("not JSON") };
    let list = match body {
        Json::Array(list) => list,
        one => vec![one],
    };
    let mut receipts = Vec::new();
    for one in &list {
        let saved =
            Transaction::from_json(&server.org, one).and_then(|transaction| server.org.commit(transaction));
        match saved {
            Ok(receipt) => receipts.push(json!({
                "transaction": receipt.transaction,
                "stamp": crate::org::calendar::rest_datetime(receipt.stamp_ms),
                "visibleAt": crate::org::calendar::rest_datetime(receipt.visible_at_ms),
                "ids": receipt.ids.iter().map(|id| id.as_str().to_owned()).collect::<Vec<_>>(),
            })),
            Err(error) => return refused(&format!("{}: {error}", error.code())),
        }
    }
    Answer::json(&Json::Array(receipts))
}

async fn traffic(server: &Arc<Server>, call: &Call) -> Answer {
    let order: TrafficOrder = match serde_json::from_slice(&call.body) {
        Ok(order) => order,
        Err(error) => return refused(&error.to_string()),
    };
    let mut config = TrafficConfig {
        seed: order.seed,
        largest_transaction: order.largest_transaction.max(1),
        lagging_one_in: order.lagging_one_in,
        largest_lag: Duration::from_secs_f64(order.largest_lag_seconds.clamp(0.0, 3_600.0)),
        ..TrafficConfig::default()
    };
    if !order.objects.is_empty() {
        config.objects = order.objects.clone();
    }
    let mut traffic = match Traffic::new(&server.org, config) {
        Ok(traffic) => traffic,
        Err(error) => return refused(&error.to_string()),
    };
    let run = Arc::new(TrafficRun {
        done: AtomicU64::new(0),
        over: AtomicBool::new(false),
        stop: AtomicBool::new(false),
    });
    lock(&server.traffic).push(run.clone());
    let task = tokio::task::spawn_blocking(move || {
        let started = std::time::Instant::now();
        let longest = Duration::from_secs_f64(order.seconds.clamp(0.0, 24.0 * 3_600.0));
        loop {
            let done = run.done.load(Ordering::Relaxed);
            if done >= order.count || run.stop.load(Ordering::Relaxed) || started.elapsed() >= longest {
                break;
            }
            if order.rate > 0.0 {
                let due = Duration::from_secs_f64(done as f64 / order.rate);
                std::thread::sleep(due.saturating_sub(started.elapsed()).min(Duration::from_millis(100)));
                if started.elapsed() < due {
                    continue;
                }
            }
            match traffic.save_one(order.count - done) {
                Some(receipt) => {
                    run.done.fetch_add(receipt.ids.len() as u64, Ordering::Relaxed);
                }
                // Everything may be locked for a moment.
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        run.over.store(true, Ordering::Relaxed);
    });
    if order.wait {
        // The task ends by its own bounds.
        let _ = task.await;
    }
    Answer::json(&traffic_json(server))
}

fn traffic_json(server: &Server) -> Json {
    let runs = lock(&server.traffic);
    json!({
        "changes": runs.iter().map(|run| run.done.load(Ordering::Relaxed)).sum::<u64>(),
        "running": runs.iter().filter(|run| !run.over.load(Ordering::Relaxed)).count(),
    })
}

/// Every live record, a JSON object a line.
fn truth(server: &Server, object: &str) -> Answer {
    let rows = match server.org.truth_rows(object) {
        Ok(rows) => rows,
        Err(error) => return refused(&error.to_string()),
    };
    let body = streamed(move |send| {
        let mut chunk = Vec::with_capacity(64 * 1024);
        for row in rows {
            if serde_json::to_writer(&mut chunk, &row).is_err() {
                return;
            }
            chunk.push(b'\n');
            if chunk.len() > 60 * 1024 && !send(std::mem::take(&mut chunk)) {
                return;
            }
        }
        send(chunk);
    });
    Answer {
        status: StatusCode::OK,
        headers: vec![("content-type", "application/x-ndjson".to_owned())],
        body: Content::Stream(body),
        billed: false,
    }
}

fn clock_json(server: &Server) -> Json {
    json!({"now": crate::org::calendar::rest_datetime(server.org.now_ms()), "rate": server.org.clock().rate()})
}

fn clock(server: &Server, call: &Call) -> Answer {
    let Ok(body) = serde_json::from_slice::<Json>(&call.body) else { return refused("not JSON") };
    if let Some(rate) = body.get("rate").and_then(Json::as_f64) {
        server.org.clock().set_rate(rate);
    }
    if let Some(seconds) = body.get("advanceSeconds").and_then(Json::as_f64) {
        server.org.clock().advance(Duration::from_secs_f64(seconds.max(0.0)));
    }
    Answer::json(&clock_json(server))
}

fn settings(server: &Server, call: &Call) -> Answer {
    let order: SettingsOrder = match serde_json::from_slice(&call.body) {
        Ok(order) => order,
        Err(error) => return refused(&error.to_string()),
    };
    {
        let mut settings = lock(&server.settings);
        let current = settings.clone();
        settings.daily_limit = order.daily_limit.unwrap_or(current.daily_limit);
        settings.calls = order.calls.unwrap_or(current.calls);
        settings.gzip = order.gzip.unwrap_or(current.gzip);
        settings.page_cap = order.page_cap.unwrap_or(current.page_cap).max(1);
        settings.bulk_page_cap = order.bulk_page_cap.unwrap_or(current.bulk_page_cap).max(1);
        settings.job_delay = order.job_delay_millis.map_or(current.job_delay, Duration::from_millis);
        settings.reorder = order.reorder.unwrap_or(current.reorder);
        settings.replication_delay_ms = order
            .replication_delay_seconds
            .map_or(current.replication_delay_ms, |seconds| (seconds * 1_000.0) as i64);
        if let Some(hidden) = order.hidden_objects {
            settings.hidden_objects = hidden;
            settings.visibility_ms = server.org.now_ms();
        }
        settings.soft_limit = order.soft_limit.unwrap_or(current.soft_limit);
        settings.job_limit = order.job_limit.unwrap_or(current.job_limit);
        settings.instance_url = order.instance_url.or(current.instance_url);
    }
    let mut logins = lock(&server.logins);
    if let Some(seconds) = order.token_lifetime_seconds {
        logins.lifetime = Duration::from_secs_f64(seconds.max(0.0));
    }
    logins.app.rotation = order.rotation.unwrap_or(logins.app.rotation);
    if let Some(keeps) = order.cascade_keeps_stamp {
        server.org.set_cascade_keeps_stamp(keeps);
    }
    Answer::json(&json!({}))
}
