//! What getDeleted answers and refuses.

use super::*;
use crate::error::Reaction;
use crate::salesforce::scripted::{Org, refuse};

fn deletions(ids: &[&str], earliest: &str, latest: &str) -> Reply {
    let records: Vec<_> = ids
        .iter()
        .map(|id| serde_json::json!({"id": id, "deletedDate": "2026-05-19T08:12:07.000+0000"}))
        .collect();
    reply(
        200,
        serde_json::json!({"deletedRecords": records, "earliestDateAvailable": earliest, "latestDateCovered": latest})
            .to_string(),
    )
}

#[tokio::test]
async fn too_many_deletions_are_fetched_in_halves() {
    let org = Org::start().await;
    let covered = |minute: &str| format!("2026-05-19T08:{minute}:00.000+0000");
    org.on(
        "start=2026-05-19T08:00:00%2B00:00&end=2026-05-19T08:20:00%2B00:00",
        [refuse(400, "EXCEEDED_ID_LIMIT", "too many")],
    );
    org.on(
        "start=2026-05-19T08:00:00%2B00:00&end=2026-05-19T08:10:00%2B00:00",
        [deletions(&["001A"], &covered("01"), &covered("10"))],
    );
    org.on(
        "start=2026-05-19T08:10:00%2B00:00&end=2026-05-19T08:20:00%2B00:00",
        [deletions(&["001B"], &covered("00"), &covered("18"))],
    );
    let client = org.client().await;
    let found = client
        .deleted("Account", stamp("2026-05-19T08:00:10Z"), stamp("2026-05-19T08:20:59Z"))
        .await
        .unwrap();
    assert_eq!(found.ids.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["001A", "001B"]);
    assert_eq!(found.latest_covered, stamp("2026-05-19T08:18:00Z"));
    assert_eq!(found.earliest_available, Some(stamp("2026-05-19T08:01:00Z")));
}

#[tokio::test]
async fn deletions_that_salesforce_forgot_are_told_and_a_near_end_is_not_taken_for_it() {
    let org = Org::start().await;
    org.on(
        "end=2026-05-19T08:20:00",
        [
            refuse(400, "INVALID_REPLICATION_DATE", "startDate before org replication enabled date"),
            refuse(400, "INVALID_REPLICATION_DATE", "latest date covered is 2026-05-19T08:21:30.000+0000"),
        ],
    );
    org.on(
        "end=2026-05-19T08:23:00",
        [deletions(&["001A"], "2026-05-01T00:00:00.000+0000", "2026-05-19T08:21:30.000+0000")],
    );
    let client = org.client().await;
    let (start, end) = (stamp("2026-05-19T08:00:00Z"), stamp("2026-05-19T08:20:00Z"));
    let error = client.deleted("Account", start, end).await.unwrap_err();
    assert_eq!((error.kind(), error.reaction()), (Kind::DeletionsLost, Reaction::Reload));
    assert!(
        error.to_string().contains("from 2026-05-19T08:00:00.000Z to 2026-05-19T08:20:00.000Z"),
        "{error}"
    );
    let found = client.deleted("Account", start, end).await.unwrap();
    assert_eq!((found.ids.len(), found.latest_covered), (1, stamp("2026-05-19T08:21:30Z")));
}
