//! The control interface's part for the Pub/Sub API (docs/simulator.md): what is captured, what goes wrong, what is
//! counted. Ours alone.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::control::{refused, unknown};
use super::reply::Answer;
use super::{Call, Server, lock};
use crate::pubsub::{ChannelConfig, EventOrder, ManagedOrder, Rule, hex_of, is_capturable};

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct SelectionOrder {
    select: Vec<String>,
    deselect: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ManagedNamed {
    developer_name: String,
    #[serde(flatten)]
    subscription: ManagedOrder,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct HabitsOrder {
    keepalive_seconds: Option<f64>,
    idle_seconds: Option<f64>,
    publish_idle_seconds: Option<f64>,
    cap: Option<i32>,
    events_per_response: Option<usize>,
    retention_seconds: Option<f64>,
    short_replay_ids: Option<bool>,
    merge_equal: Option<bool>,
    /// 0: no diffs.
    diff_from: Option<usize>,
    null_booleans: Option<bool>,
    split_stamps: Option<bool>,
    largest_event: Option<usize>,
    overflow_after: Option<usize>,
    managed_linger_seconds: Option<f64>,
    latest_delay_seconds: Option<f64>,
    delivery_limit: Option<u64>,
    /// Delivered of the allowance so far.
    delivered: Option<u64>,
}

fn read<'a, T: Deserialize<'a>>(call: &'a Call) -> Result<T, Answer> {
    serde_json::from_slice(&call.body).map_err(|error| refused(&error.to_string()))
}

pub(super) fn answer(server: &Server, call: &Call, path: &[&str]) -> Answer {
    let events = &server.events;
    let done = |result: Result<(), Answer>| match result {
        Ok(()) => Answer::json(&json!({})),
        Err(refusal) => refusal,
    };
    match (call.method.as_str(), path) {
        ("GET", []) => Answer::json(&state(server)),
        ("GET", ["certificate"]) => Answer::json(&json!(server.certificate)),
        ("POST", ["selection"]) => done(selection(server, call)),
        ("POST", ["channels"]) => done(read::<ChannelConfig>(call).and_then(|channel| {
            if !channel.name.ends_with("__chn") {
                return Err(refused("a channel's name ends with __chn"));
            }
            known(server, channel.members.iter().map(|member| &member.object))?;
            lock(&events.channels).put_channel(&server.org.catalog(), &channel);
            events.capture();
            Ok(())
        })),
        ("DELETE", ["channels", name]) => {
            let removed = lock(&events.channels).remove_channel(name);
            events.capture();
            if removed { Answer::json(&json!({})) } else { refused("no such channel") }
        }
        ("POST", ["events"]) => match read::<EventOrder>(call) {
            Ok(order) => match events.order(order) {
                Ok(entries) => {
                    let ids: Vec<String> =
                        entries.iter().map(|entry| hex_of(&events.bus.replay_id(entry.number))).collect();
                    Answer::json(&json!({"replayIds": ids}))
                }
                Err(why) => refused(&why),
            },
            Err(refusal) => refusal,
        },
        ("POST", ["managed"]) => done(read::<ManagedNamed>(call).map(|order| {
            lock(&events.managed).put(&order.developer_name, order.subscription);
        })),
        ("POST", ["settings"]) => done(read::<HabitsOrder>(call).map(|order| habits(server, &order))),
        ("POST", ["replayIds", "invalidate"]) => {
            events.bus.invalidate();
            Answer::json(&json!({}))
        }
        ("POST", ["faults"]) => done(read::<Rule>(call).map(|rule| events.faults.add(rule))),
        ("GET", ["faults"]) => Answer::json(&json!(events.faults.left())),
        ("DELETE", ["faults"]) => {
            events.faults.clear();
            Answer::json(&json!({}))
        }
        _ => unknown(),
    }
}

fn known<'n>(server: &Server, objects: impl Iterator<Item = &'n String>) -> Result<(), Answer> {
    let catalog = server.org.catalog();
    for name in objects {
        if !catalog.object(name).is_some_and(|object| is_capturable(object)) {
            return Err(refused(&format!("{name} cannot be selected for change events")));
        }
    }
    Ok(())
}

fn selection(server: &Server, call: &Call) -> Result<(), Answer> {
    let order: SelectionOrder = read(call)?;
    known(server, order.select.iter())?;
    {
        let catalog = server.org.catalog();
        let mut channels = lock(&server.events.channels);
        for object in &order.select {
            channels.select(&catalog, object);
        }
        for object in &order.deselect {
            channels.deselect(object);
        }
    }
    server.events.capture();
    Ok(())
}

fn habits(server: &Server, order: &HabitsOrder) {
    let seconds = |value: Option<f64>, current: Duration| {
        value.map_or(current, |seconds| Duration::from_secs_f64(seconds.clamp(0.0, 1e9)))
    };
    server.events.set_habits(|habits| {
        habits.keepalive = seconds(order.keepalive_seconds, habits.keepalive);
        habits.idle = seconds(order.idle_seconds, habits.idle);
        habits.publish_idle = seconds(order.publish_idle_seconds, habits.publish_idle);
        habits.cap = order.cap.unwrap_or(habits.cap).max(1);
        habits.events_per_response = order.events_per_response.unwrap_or(habits.events_per_response).max(1);
        habits.retention = seconds(order.retention_seconds, habits.retention);
        habits.short_replay_ids = order.short_replay_ids.unwrap_or(habits.short_replay_ids);
        habits.merge_equal = order.merge_equal.unwrap_or(habits.merge_equal);
        habits.diff_from = order.diff_from.map_or(habits.diff_from, |from| (from > 0).then_some(from));
        habits.null_booleans = order.null_booleans.unwrap_or(habits.null_booleans);
        habits.split_stamps = order.split_stamps.unwrap_or(habits.split_stamps);
        habits.largest_event = order.largest_event.unwrap_or(habits.largest_event);
        habits.overflow_after = order.overflow_after.unwrap_or(habits.overflow_after);
        habits.managed_linger = seconds(order.managed_linger_seconds, habits.managed_linger);
        habits.latest_delay = seconds(order.latest_delay_seconds, habits.latest_delay);
        habits.delivery_limit = order.delivery_limit.unwrap_or(habits.delivery_limit);
    });
    if let Some(delivered) = order.delivered {
        server.events.meter.used.store(delivered, Ordering::Relaxed);
    }
    server.events.faults.poke();
}

fn state(server: &Server) -> Json {
    let (events, meter) = (&server.events, &server.events.meter);
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Acquire);
    let (published, retained, bytes) = events.bus.counts();
    let channels = lock(&events.channels);
    let custom: BTreeMap<&String, Vec<&String>> =
        channels.custom().map(|(name, channel)| (name, channel.members.keys().collect())).collect();
    json!({
        "origin": server.pubsub_origin(),
        "openStreams": count(&meter.open_streams),
        "standing": count(&meter.standing_streams),
        "streams": count(&meter.streams),
        "keepalives": count(&meter.keepalives),
        "published": published,
        "delivered": count(&meter.delivered),
        "retained": retained,
        "retainedBytes": bytes,
        "selected": channels.standard().collect::<Vec<_>>(),
        "channels": custom,
        "allowance": {"limit": events.habits().delivery_limit, "used": count(&meter.used)},
        "newestReplayId": hex_of(&events.bus.replay_id(events.bus.newest())),
    })
}
