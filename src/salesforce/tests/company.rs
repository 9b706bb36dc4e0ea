//! Polls that share a call: whose answer is whose, and whose error.

use std::time::Duration;

use super::*;
use crate::salesforce::QueryPages;
use crate::salesforce::scripted::{Org, refuse};

const SECOND: Duration = Duration::from_secs(1);

fn answer(status: u16, reference: &str, body: &serde_json::Value) -> serde_json::Value {
    serde_json::json!({"body": body, "httpHeaders": {}, "httpStatusCode": status, "referenceId": reference})
}

fn composite(answers: &[serde_json::Value]) -> Reply {
    reply(200, serde_json::json!({ "compositeResponse": answers }).to_string())
}

fn rows(id: &str, next: Option<&str>) -> serde_json::Value {
    serde_json::json!({"totalSize": 1 + u8::from(next.is_some()), "done": next.is_none(), "nextRecordsUrl": next,
        "records": [{"Id": id}]})
}

fn poll(client: &Client) -> QueryPages {
    let statement = Select::all(&sample::account()).statement().unwrap();
    client.for_purpose(crate::salesforce::Purpose::Poll).query_in_company(&statement, true)
}

async fn first(pages: &mut QueryPages) -> Result<Vec<String>, Error> {
    pages.next().await.map(|page| ids(&page.unwrap().rows))
}

#[tokio::test]
async fn polls_at_the_same_time_share_one_call_and_each_goes_on_with_its_own_pages() {
    let org = Org::start().await;
    org.on(
        "POST /services/data/v65.0/composite",
        [composite(&[
            answer(200, "q1", &rows("001B", Some("/services/data/v65.0/query/0r8-1"))),
            answer(200, "q0", &rows("001A", None)),
        ])],
    );
    org.on("/query/0r8-1", [page(&["001C"], 2, None)]);
    let client = org.client().await;
    let _seats = [client.seat(true, SECOND), client.seat(true, SECOND)];
    let (mut one, mut two) = (poll(&client), poll(&client));
    let (first_of_one, first_of_two) = tokio::join!(first(&mut one), first(&mut two));
    assert_eq!(first_of_one.unwrap(), ["001A"]);
    assert_eq!(first_of_two.unwrap(), ["001B"]);
    assert_eq!(first(&mut two).await.unwrap(), ["001C"]);
    assert!(one.next().await.unwrap().is_none() && two.next().await.unwrap().is_none());
    assert_eq!((org.requests("/composite").len(), org.requests("/queryAll").len()), (1, 0));
    assert_eq!(client.calls()[&crate::salesforce::Purpose::Poll], 2);
}

#[tokio::test]
async fn an_error_of_one_poll_is_not_that_of_the_others_and_what_may_pass_is_asked_again_alone() {
    let org = Org::start().await;
    let said = |code: &str| serde_json::json!([{"errorCode": code, "message": "x"}]);
    org.on(
        "/composite",
        [composite(&[
            answer(200, "q0", &rows("001A", None)),
            answer(400, "q1", &said("INVALID_FIELD")),
            answer(503, "q2", &said("SERVER_UNAVAILABLE")),
        ])],
    );
    org.on("/queryAll", [page(&["001D"], 1, None)]);
    let client = org.client().await;
    let _seats = [client.seat(true, SECOND), client.seat(true, SECOND), client.seat(true, SECOND)];
    let (mut one, mut two, mut three) = (poll(&client), poll(&client), poll(&client));
    let (one, two, three) = tokio::join!(first(&mut one), first(&mut two), first(&mut three));
    assert_eq!(one.unwrap(), ["001A"]);
    assert_eq!(two.unwrap_err().kind(), Kind::QueryRefused);
    assert_eq!(three.unwrap(), ["001D"]);
    assert_eq!((org.requests("/composite").len(), org.requests("/queryAll").len()), (1, 1));
}

#[tokio::test]
async fn a_shared_call_that_fails_fails_for_all_and_one_that_is_refused_is_made_by_each_alone() {
    let org = Org::start().await;
    org.on("/composite", [refuse(503, "SERVER_UNAVAILABLE", "x")]);
    let client = org.client().await;
    let _seats = [client.seat(true, SECOND), client.seat(true, SECOND)];
    let (mut one, mut two) = (poll(&client), poll(&client));
    let (one, two) = tokio::join!(first(&mut one), first(&mut two));
    for failed in [one, two] {
        assert_eq!(failed.unwrap_err().kind(), Kind::SalesforceUnavailable);
    }

    let org = Org::start().await;
    org.on("/composite", [refuse(400, "PROCESSING_HALTED", "x")]);
    org.on("/queryAll", [page(&["001A"], 1, None)]);
    let client = org.client().await;
    let _seats = [client.seat(true, SECOND), client.seat(true, SECOND)];
    let (mut one, mut two) = (poll(&client), poll(&client));
    let (one, two) = tokio::join!(first(&mut one), first(&mut two));
    assert_eq!((one.unwrap(), two.unwrap()), (vec!["001A".to_owned()], vec!["001A".to_owned()]));
    assert_eq!(org.requests("/queryAll").len(), 2);
}

#[tokio::test]
async fn a_poll_that_meets_nobody_is_a_plain_query() {
    let org = Org::start().await;
    org.on("/queryAll", [page(&["001A"], 1, None)]);
    let client = org.client().await;
    for seats in 1..=3 {
        let _seats: Vec<_> = (0..seats).map(|_| client.seat(true, SECOND)).collect();
        assert_eq!(first(&mut poll(&client)).await.unwrap(), ["001A"]);
    }
    assert_eq!((org.requests("/composite").len(), org.requests("/queryAll").len()), (0, 3));
}

#[tokio::test]
async fn whoever_is_dropped_while_it_waits_holds_nobody_up() {
    let org = Org::start().await;
    org.on(
        "/composite",
        [composite(&[answer(200, "q0", &rows("001A", None)), answer(200, "q1", &rows("001B", None))])],
    );
    let client = org.client().await;
    let _seats = [
        client.seat(true, SECOND),
        client.seat(true, SECOND),
        client.seat(true, SECOND),
        client.seat(true, SECOND),
    ];
    let mut dropped = poll(&client);
    let asked = tokio::time::timeout(Duration::from_millis(1), first(&mut dropped)).await;
    assert!(asked.is_err(), "it waits for company");
    let (mut one, mut two) = (poll(&client), poll(&client));
    let (one, two) = tokio::join!(first(&mut one), first(&mut two));
    assert_eq!((one.unwrap(), two.unwrap()), (vec!["001A".to_owned()], vec!["001B".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn polls_meet_on_a_grid_and_none_is_later_than_it_was_due() {
    use tokio::time::{Instant, advance};
    let company = crate::salesforce::company::Company::new(std::sync::Arc::default());
    let start = Instant::now();
    let interval = Duration::from_secs(30);
    advance(Duration::from_secs(7)).await;
    assert_eq!(company.on_grid(Instant::now() + interval, interval), start + interval);
    advance(Duration::from_secs(24)).await;
    assert_eq!(company.on_grid(Instant::now() + interval, interval), start + interval * 2);
    let long = Duration::from_secs(100);
    assert_eq!(company.on_grid(Instant::now() + long, interval), start + interval * 4);
    let short = Instant::now() + Duration::from_secs(1);
    assert_eq!(company.on_grid(short, interval), short, "what is due before the grid's next moment stays");
}
