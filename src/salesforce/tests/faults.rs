//! Faults that are waited out, counted, or answered by another place: maintenance, unknown exceptions, a moved org.

use super::*;
use crate::error::Reaction;
use crate::salesforce::Pace;
use crate::salesforce::scripted::{Org, quick, refuse};

/// What is counted must not end by time on a slow machine.
fn patient() -> Pace {
    Pace { give_up_after: std::time::Duration::from_secs(60), ..quick() }
}

#[tokio::test]
async fn a_maintenance_window_is_waited_out_beyond_the_patience_for_other_faults() {
    let org = Org::start().await;
    let closed = refuse(503, "ORG_IN_MAINTENANCE", "organization is in maintenance");
    // 4, 8, 16 and then 64 ms each: longer than `give_up_after`.
    let mut replies = vec![closed.clone(); 16];
    replies.push(page(&["001A"], 1, None));
    org.on("/query", replies);
    let client = org.client().await;
    let began = std::time::Instant::now();
    assert_eq!(all_ids(&client).await.unwrap(), ["001A"]);
    assert!(began.elapsed() > quick().give_up_after, "the test shows nothing");
    assert!(!client.maintenance().is_on(), "it is over");

    let shut = Org::start().await;
    shut.on("COUNT", [closed]);
    let brief = shut.client().await.with_pace(Pace { maintenance: std::time::Duration::ZERO, ..quick() });
    let error = brief.count("SELECT COUNT() FROM Account", false).await.unwrap_err();
    assert_eq!((error.kind(), error.reaction()), (Kind::SalesforceMaintenance, Reaction::RetryLater));
}

#[tokio::test]
async fn an_unknown_exception_is_asked_over_five_times_and_then_is_the_objects_own() {
    let org = Org::start().await;
    let unknown = refuse(500, "UNKNOWN_EXCEPTION", "An unexpected error occurred");
    let mut replies = vec![unknown.clone(); 5];
    replies.extend([page(&["001A"], 1, None), unknown]);
    org.on("/query", replies);
    let client = org.client().await.with_pace(patient());
    assert_eq!(all_ids(&client).await.unwrap(), ["001A"]);
    let error = all_ids(&client).await.unwrap_err();
    assert_eq!((error.kind(), error.reaction()), (Kind::SalesforceError, Reaction::StopObject));
    assert!(error.to_string().contains("(given up after 6 tries in "), "{error}");
    assert_eq!(org.requests("/query").len(), 6 + 6);
}

#[tokio::test]
async fn a_call_that_is_pointed_elsewhere_asks_a_new_login_for_the_place_and_is_repeated_there_once() {
    let (org, new) = (Org::start().await, Org::start().await);
    for moved in [
        reply(301, "").with("location", &format!("{}/services/data/v65.0/query", new.origin)),
        refuse(401, "ORG_NOT_OWNED_BY_INSTANCE", "not here"),
    ] {
        org.on("COUNT", [moved]);
    }
    new.on("COUNT", [reply(200, r#"{"totalSize":7,"done":true,"records":[]}"#)]);
    let client = org.client().await;
    org.move_instance_to(&new);
    assert_eq!(client.count("SELECT COUNT() FROM Account", false).await.unwrap(), 7);
    assert_eq!((client.instance(), org.requests("oauth2/token").len()), (new.origin.clone(), 2));

    let lost = Org::start().await;
    lost.on("COUNT", [refuse(401, "ORG_NOT_OWNED_BY_INSTANCE", "not here")]);
    let client = lost.client().await;
    let error = client.count("SELECT COUNT() FROM Account", false).await.unwrap_err();
    assert_eq!((error.kind(), error.reaction()), (Kind::OrgMoved, Reaction::LogInAgain));
    assert_eq!((lost.requests("COUNT").len(), lost.requests("oauth2/token").len()), (2, 2), "once");
}

#[tokio::test]
async fn a_query_too_long_even_for_a_body_is_refused_by_its_name() {
    let org = Org::start().await;
    org.on("/query", [reply(414, "")]);
    org.on("/composite", [reply(413, "")]);
    let error = all_ids(&org.client().await).await.unwrap_err();
    assert_eq!((error.kind(), error.reaction()), (Kind::RequestTooLarge, Reaction::StopObject));
    assert!(error.advice().contains("fields: { exclude"), "{}", error.report());
}

#[tokio::test]
async fn an_instance_that_is_gone_is_looked_for_by_a_new_login() {
    let (org, old, new) = (Org::start().await, Org::start().await, Org::start().await);
    new.on("COUNT", [reply(200, r#"{"totalSize":7,"done":true,"records":[]}"#)]);
    org.move_instance_to(&old);
    let client = org.client().await.with_pace(patient());
    assert_eq!(client.instance(), old.origin);
    org.move_instance_to(&new);
    old.close().await;
    assert_eq!(client.count("SELECT COUNT() FROM Account", false).await.unwrap(), 7);
    assert_eq!((client.instance(), org.requests("oauth2/token").len()), (new.origin.clone(), 2));
}
