//! Calls that wait, for what and for how long; accounts of shards as the pipeline keeps them.

use std::time::Duration;

use super::*;
use crate::domain::ControlRecord;
use crate::salesforce::Client;
use crate::salesforce::scripted::Org;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn governor(daily_share: f64, concurrent: usize) -> Governor {
    let budget = BudgetSettings { daily_share, concurrent, per_second: 1_000 };
    Governor::new(&budget, DAY, &Arc::default())
}

fn limit(text: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("sforce-limit-info", text.parse().unwrap());
    headers
}

#[test]
fn the_usage_is_found_among_other_parts() {
    assert_eq!(parse_limit_info("api-usage=10018/100000"), Some((10_018, 100_000)));
    assert_eq!(
        parse_limit_info("per-app-api-usage=17/250(appName=x); api-usage=5/20; api-bursts=1/750"),
        Some((5, 20))
    );
    assert_eq!(parse_limit_info("per-app-api-usage=17/250"), None);
    assert_eq!(parse_limit_info("api-usage=/"), None);
}

#[tokio::test(start_paused = true)]
async fn loads_stop_before_followed_changes_and_both_go_on_when_the_day_has_passed() {
    let governor = governor(0.5, 4);
    let _followed = governor.seats.seat(true, Duration::from_secs(30));
    let pace = Pace { wait_for_allowance: false, ..Pace::default() };
    governor.heard(&limit("api-usage=1/400"));
    let admit = async |purpose| governor.admit("rest", purpose, true, &pace).await;
    let mut loads = 0;
    let fault = loop {
        match admit(Purpose::Load).await {
            Ok(_) => loads += 1,
            Err(fault) => break fault,
        }
    };
    assert_eq!(fault.kind, Kind::ApiLimitReached);
    assert!((20..=50).contains(&loads), "{loads} of 200 at once");
    let said = format!("{loads} calls of the last 24 hours are ours, of 200 of the org's 400");
    assert!(fault.message.contains(&said), "{}", fault.message);
    for _ in loads..200 {
        admit(Purpose::Poll).await.unwrap();
    }
    admit(Purpose::Poll).await.unwrap_err();

    let patient = Pace::default();
    let waiting = governor.watch();
    let before = Instant::now();
    governor.admit("rest", Purpose::Poll, true, &patient).await.unwrap();
    assert!(before.elapsed() >= DAY, "{:?}", before.elapsed());
    assert_eq!(waiting.borrow().waiting_until, None);
    assert_eq!(governor.calls()[&Purpose::Load], loads);
}

#[tokio::test(start_paused = true)]
async fn loads_that_have_spent_what_they_may_at_once_go_on_evenly_and_say_until_when_they_wait() {
    let governor = governor(1.0, 4);
    let board = Arc::new(Board::new());
    governor.report_to(&board);
    let _followed = governor.seats.seat(true, Duration::from_secs(30));
    let (pace, hasty) = (Pace::default(), Pace { wait_for_allowance: false, ..Pace::default() });
    governor.heard(&limit("api-usage=1/1000"));
    while governor.admit("bulk", Purpose::Load, true, &hasty).await.is_ok() {}
    let shown = async {
        let snapshot = board
            .wait_until(|board| board.budget.as_ref().is_some_and(|budget| !budget.waiting.is_empty()))
            .await;
        snapshot.budget.unwrap()
    };
    let before = Instant::now();
    let load = governor.admit("bulk", Purpose::Load, true, &pace);
    let (permit, shown) = tokio::join!(load, shown);
    permit.unwrap();
    let waited = before.elapsed();
    assert!(waited > Duration::from_secs(60) && waited < DAY / 24, "{waited:?}");
    assert_eq!(shown.limit, Some(1_000));
    let waiting = shown.waiting.first().unwrap();
    assert_eq!((waiting.purpose, waiting.calls), ("load", 1));
    assert!(waiting.until > now(), "{waiting:?}");
    assert_eq!(board.snapshot().budget.unwrap().waiting, []);
}

#[tokio::test]
async fn many_calls_at_once_do_not_pass_a_limit_that_one_could_not() {
    let governor = Arc::new(governor(1.0, 50));
    governor.heard(&limit("api-usage=1/20"));
    let pace = Pace { wait_for_allowance: false, ..Pace::default() };
    let asked: Vec<_> = (0..50)
        .map(|_| {
            let (governor, pace) = (governor.clone(), pace.clone());
            tokio::spawn(async move { governor.admit("rest", Purpose::Poll, true, &pace).await.is_ok() })
        })
        .collect();
    let mut made = 0;
    for task in asked {
        made += u64::from(task.await.unwrap());
    }
    assert_eq!(made, 20);
}

#[tokio::test]
async fn a_call_that_is_dropped_before_it_is_made_is_given_back() {
    let governor = governor(1.0, 1);
    governor.heard(&limit("api-usage=1/10"));
    let pace = Pace::default();
    let held = governor.admit("rest", Purpose::Poll, true, &pace).await.unwrap();
    let second = governor.admit("rest", Purpose::Poll, true, &pace);
    assert!(tokio::time::timeout(Duration::from_millis(5), second).await.is_err(), "there is one place");
    drop(held);
    assert_eq!(governor.books().spent().iter().sum::<u64>(), 1);
}

async fn client_of(org: &Org, share: f64) -> Client {
    let mut settings = org.settings();
    settings.budget.daily_share = share;
    Client::log_in(&settings, crate::salesforce::scripted::quick(), None).await.unwrap()
}

/// What a shard does for its account: commits each reservation. Gives the records in their order.
fn keep(
    account: &Arc<BudgetAccount>,
) -> (Arc<Mutex<Vec<ControlRecord>>>, tokio_util::task::AbortOnDropHandle<()>) {
    let records = Arc::<Mutex<Vec<ControlRecord>>>::default();
    let (account, committed) = (account.clone(), records.clone());
    let task = tokio::spawn(async move {
        loop {
            let record = account.next_record().await;
            committed.lock().unwrap().push(record);
            account.committed();
        }
    });
    (records, tokio_util::task::AbortOnDropHandle::new(task))
}

async fn counted(client: &Client) -> u64 {
    client.count("SELECT COUNT() FROM Account", false).await.unwrap()
}

fn counting(org: &Org, usage: &str) {
    let answer = crate::salesforce::scripted::reply(200, r#"{"totalSize":1,"done":true,"records":[]}"#);
    org.on("/query", [answer.with("sforce-limit-info", usage)]);
}

#[tokio::test]
async fn no_billed_call_is_made_before_a_shard_is_ours_and_has_reserved_it() {
    let org = Org::start().await;
    counting(&org, "api-usage=1/1000");
    let client = client_of(&org, 1.0).await;
    client.share_budget(2);
    let call = tokio::spawn({
        let client = client.clone();
        async move { counted(&client).await }
    });
    let account = Arc::new(client.open_account(1, None).unwrap());
    let record = account.next_record().await;
    assert_eq!((record.key.as_str(), org.requests("/query").len()), (BUDGET_KEY, 0));
    account.committed();
    call.await.unwrap();
    let (records, _kept) = keep(&account);
    for _ in 0..30 {
        counted(&client).await;
    }
    let record =
        account::BudgetRecord::decode(records.lock().unwrap().last().unwrap().value.as_ref().unwrap());
    assert_eq!(record.unwrap().maximum, Some(1_000));
}

#[tokio::test]
async fn owners_one_after_another_spend_what_one_may_and_a_crash_costs_no_more_than_a_reservation() {
    let org = Org::start().await;
    counting(&org, "api-usage=1/80");
    let hasty = |client: &Client| {
        client.with_pace(Pace { wait_for_allowance: false, ..crate::salesforce::scripted::quick() })
    };
    let mut left: Option<ControlRecord> = None;
    for owner in 0..4 {
        let client = client_of(&org, 0.5).await;
        client.share_budget(1);
        let record = left.as_ref().and_then(|record| record.value.as_deref());
        let account = Arc::new(client.open_account(0, record).unwrap());
        let (records, kept) = keep(&account);
        for _ in 0..9 {
            counted(&client).await;
        }
        drop(kept);
        while Arc::strong_count(&account) > 1 {
            tokio::task::yield_now().await;
        }
        left = records.lock().unwrap().last().cloned();
        if owner % 2 == 0 {
            left = Arc::into_inner(account).unwrap().close();
        }
    }
    let client = client_of(&org, 0.5).await;
    client.share_budget(1);
    let account = Arc::new(client.open_account(0, left.and_then(|record| record.value).as_deref()).unwrap());
    let _kept = keep(&account);
    let client = hasty(&client);
    while client.count("SELECT COUNT() FROM Account", false).await.is_ok() {}
    let made = org.requests("/query").len();
    assert!((38..=40).contains(&made), "{made} of 40");
}

#[tokio::test]
async fn what_was_spent_before_a_shard_was_ours_is_charged_to_the_first_one() {
    let org = Org::start().await;
    counting(&org, "api-usage=1/10");
    let client = client_of(&org, 1.0).await;
    counted(&client).await;
    counted(&client).await;
    client.share_budget(1);
    let account = Arc::new(client.open_account(0, None).unwrap());
    let record = account.next_record().await;
    let next = client_of(&org, 1.0).await;
    next.share_budget(1);
    let _account = next.open_account(0, record.value.as_deref()).unwrap();
    assert_eq!(next.allowance().borrow().own, 3, "and one that was reserved");
    drop(account);
    assert_eq!(client.allowance().borrow().own, 0, "given up, it is not ours any more");
}

#[tokio::test(start_paused = true)]
async fn a_spent_org_is_left_alone_and_the_wait_is_told() {
    let governor = Arc::new(governor(1.0, 4));
    let pace = Pace::default();
    governor.refused(&pace);
    let mut shown = governor.watch();
    let before = Instant::now();
    let task = tokio::spawn({
        let (governor, pace) = (Arc::clone(&governor), pace.clone());
        async move { governor.admit("rest", Purpose::Poll, true, &pace).await.map(drop) }
    });
    shown.wait_for(|allowance| allowance.waiting_until.is_some()).await.unwrap();
    assert!(shown.borrow().waiting_because.as_deref().unwrap().contains("used up"));
    governor.succeeded();
    task.await.unwrap().unwrap();
    assert!(before.elapsed() >= pace.limit_pause, "an answer that was under way opens nothing");
    governor.refused(&pace);
    let again = Instant::now();
    governor.admit("rest", Purpose::Poll, true, &pace).await.unwrap();
    assert!(again.elapsed() >= pace.limit_pause * 2, "refused again, left alone for longer");
}

#[tokio::test(start_paused = true)]
async fn loads_leave_places_for_followed_changes() {
    let governor = governor(1.0, 2);
    let pace = Pace::default();
    let _load = governor.admit("bulk", Purpose::Load, true, &pace).await.unwrap();
    let second = governor.admit("bulk", Purpose::Load, true, &pace);
    assert!(tokio::time::timeout(Duration::from_secs(5), second).await.is_err());
    governor.admit("rest", Purpose::Poll, true, &pace).await.unwrap();
}
