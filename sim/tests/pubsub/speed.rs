//! How fast events are made and how soon they come. The bounds are far from what is measured, for busy machines; what is
//! measured is printed.

use std::time::{Duration, Instant};

use serde_json::json;
use sf2kafka_sim::org::{Change, Id, Transaction, Value};

use crate::Bus;
use crate::client::more;

fn update(id: Id, site: String) -> Transaction {
    Transaction::of(vec![Change::update("Account", id, vec![("Site".to_owned(), Value::text(site))])])
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_events_a_second_are_made_and_delivered() {
    const COUNT: usize = 10_000;
    let bus = Bus::start().await;
    let id = Id::parse(&bus.first_id("Account")).unwrap();
    let mut stream = bus.subscribe("/data/AccountChangeEvent", 100).await;
    let org = bus.simulator.org().clone();
    let begun = Instant::now();
    let made = tokio::task::spawn_blocking(move || {
        let begun = Instant::now();
        for at in 0..COUNT {
            org.commit(update(id, format!("s{at}"))).unwrap();
        }
        begun.elapsed()
    });
    let mut seen = 0;
    while seen < COUNT {
        let response = stream.response().await;
        seen += response.events.len();
        stream.ask(more(100 - response.pending_num_requested)).await;
    }
    let (made, delivered) = (made.await.unwrap(), begun.elapsed());
    println!("{COUNT} events made in {made:?}, delivered in {delivered:?}");
    assert!(made < Duration::from_secs(20) && delivered < Duration::from_secs(25));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_subscriber_gets_an_event_at_once() {
    let bus = Bus::start().await;
    let id = Id::parse(&bus.first_id("Account")).unwrap();
    let mut stream = bus.subscribe("/data/AccountChangeEvent", 100).await;
    let mut times = Vec::new();
    for at in 0..100 {
        let begun = Instant::now();
        bus.simulator.org().commit(update(id, format!("s{at}"))).unwrap();
        let response = stream.response().await;
        times.push(begun.elapsed());
        stream.ask(more(100 - response.pending_num_requested)).await;
    }
    times.sort();
    println!("an event is there after {:?} (median), {:?} (worst of 100)", times[50], times[99]);
    assert!(times[50] < Duration::from_millis(10), "{:?}", times[50]);
}

#[tokio::test]
async fn nothing_is_kept_of_objects_that_nobody_selected() {
    let bus = Bus::with(|config| config.selected.clear()).await;
    for _ in 0..50 {
        bus.save(json!([{"op": "insert", "object": "Account", "fields": {}}])).await;
    }
    let state = bus.control_get("pubsub").await;
    assert_eq!(
        (&state["published"], &state["retained"], &state["retainedBytes"]),
        (&json!(0), &json!(0), &json!(0))
    );
}

#[tokio::test]
async fn the_log_is_bounded_by_its_size_too() {
    let bus = Bus::with_habits(|habits| habits.log_bytes = 2_000).await;
    bus.publish(50).await;
    let state = bus.control_get("pubsub").await;
    assert_eq!(state["published"], 50);
    assert!(
        state["retained"].as_u64().unwrap() < 20 && state["retainedBytes"].as_u64().unwrap() <= 2_000,
        "{state}"
    );
}
