//! Objects that Salesforce gives as a whole only in parts: by their parents, by status, without next pages.

use super::*;

async fn org(object: &str, rows: &[(&str, u64)]) -> Practice {
    let config = rows.iter().fold(OrgConfig::default(), |org, (object, rows)| org.with_rows(object, *rows));
    Practice::start_in(config, object, |_| settings()).await
}

/// Every row once, and no other.
fn assert_whole(org: &Practice, rows: usize) {
    assert!(org.stage.errors.is_empty(), "{:?}", org.stage.errors);
    let mut ids: Vec<&str> = org.stage.published.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(ids.len(), rows);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids, org.ids(), "{}", org.stage.object);
}

#[tokio::test]
async fn links_of_documents_are_read_by_document_and_a_load_ended_anywhere_repeats_none() {
    let mut org =
        org("ContentDocumentLink", &[("ContentDocument", 700), ("ContentDocumentLink", 5_000)]).await;
    // All parents are listed by one page; the links of 150 of them are more than that.
    org.control("settings", json!({"pageCap": 800})).await;
    org.refuse("/query/0r8", 1, 400, "INVALID_QUERY_LOCATOR").await;
    org.refuse("ContentDocumentId IN", 1, 400, "QUERY_TIMEOUT").await;
    let mut batches = 0;
    while org.stage.position_or_none().is_none_or(|position| position.load.is_none_or(|load| !load.done)) {
        org.stage.step().await;
        batches += 1;
        org.stage.restart().await;
    }
    assert!(batches > 5, "{batches}");
    org.catch_up().await;
    org.stage.errors.clear();
    assert_whole(&org, 5_000);
    assert_eq!(org.stage.position().capture, crate::domain::Capture::None, "loaded, not followed");
}

#[tokio::test]
async fn what_takes_one_parent_a_query_is_read_by_one_query_each() {
    for (object, parent, rows) in [
        ("ContentFolderItem", "ContentFolder", 60),
        ("ContentFolderMember", "ContentFolder", 60),
        ("IdeaComment", "Idea", 300),
    ] {
        let mut org = org(object, &[(parent, 12), (object, rows)]).await;
        org.catch_up().await;
        assert_whole(&org, rows as usize);
    }
}

/// Loads by the org's counts: calls used, and forecast.
async fn load_calls(object: &str, rows: u64, parent: &str, parents: u64) -> (u64, u64) {
    let config = OrgConfig::default().with_rows(parent, parents).with_rows(object, rows);
    let counted = CaptureSettings { estimate: Some(rows), parents: Some(parents), ..settings() };
    let mut org = Practice::start_in(config, object, |_| counted).await;
    while org.stage.position_or_none().is_none_or(|position| position.load.is_none_or(|load| !load.done)) {
        org.stage.step().await;
    }
    assert_whole(&org, rows as usize);
    let calls = org.stage.capture.take_load_calls().expect("a load that ended");
    (calls.used, calls.forecast)
}

#[tokio::test]
async fn a_load_by_parents_uses_as_many_calls_as_were_forecast_from_the_parents_counts() {
    for (object, rows, parent, parents, calls) in [
        // One list; five queries of 150 parents and less.
        ("ContentDocumentLink", 5_000, "ContentDocument", 700, 6),
        // Two lists, 14 queries and one.
        ("ContentDocumentLink", 3_000, "ContentDocument", 2_100, 17),
        // Behind two full queries nobody asks for more; behind a full list he does.
        ("IdeaComment", 300, "Idea", 300, 3),
        ("ContentFolderItem", 60, "ContentFolder", 2_000, 16),
        // A count, a list, a query each.
        ("ContentFolderMember", 60, "ContentFolder", 45, 47),
        // Three by status, and one for the articles of replaced versions.
        ("KnowledgeArticleVersion", 600, "KnowledgeArticle", 100, 5),
    ] {
        let used = load_calls(object, rows, parent, parents).await;
        assert_eq!(used, (calls, calls), "{object} by {parents} {parent}: used, forecast");
    }
}

#[tokio::test]
async fn where_every_parent_is_a_call_too_many_of_them_are_refused_before_the_first() {
    let mut org = org("ContentFolderMember", &[("ContentFolder", 2_001), ("ContentFolderMember", 10)]).await;
    for _ in 0..3 {
        org.stage.step().await;
    }
    let error = org.stage.errors.first().expect("refused");
    assert_eq!(error.kind(), Kind::ObjectUnsupported, "{error}");
    assert!(
        error.to_string().contains("takes a call for each ContentFolder, and there are 2001 of them"),
        "{error}"
    );
    assert!(org.stage.published.is_empty());
}

#[tokio::test]
async fn as_many_parents_as_may_be_are_not_refused() {
    let mut org = org("ContentFolderMember", &[("ContentFolder", 2_000), ("ContentFolderMember", 10)]).await;
    for _ in 0..3 {
        org.stage.step().await;
    }
    assert!(org.stage.errors.is_empty(), "{:?}", org.stage.errors);
    assert!(org.stage.position().load.is_some_and(|load| load.after_id.is_some()), "it is read");
}

#[tokio::test]
async fn every_version_of_an_article_arrives_also_those_that_a_newer_one_replaced() {
    let mut org =
        org("KnowledgeArticleVersion", &[("KnowledgeArticle", 400), ("KnowledgeArticleVersion", 3_000)])
            .await;
    org.control("settings", json!({"pageCap": 400})).await;
    let old = |one: &&Published| {
        one.cells["PublishStatus"] == "Archived" && one.cells["IsLatestVersion"] == "false"
    };
    while org.stage.position_or_none().is_none_or(|position| position.load.is_none_or(|load| !load.done)) {
        org.stage.step().await;
        org.stage.restart().await;
    }
    assert!(org.stage.published.iter().filter(old).count() > 300, "no query without an article shows them");
    assert_whole(&org, 3_000);
    let id = org.ids().swap_remove(7);
    org.save(vec![Change::Touch { object: org.stage.object.clone(), id: parsed(&id) }]);
    org.catch_up().await;
    assert!(org.stage.errors.is_empty(), "{:?}", org.stage.errors);
}

#[tokio::test]
async fn custom_metadata_of_more_rows_than_a_page_is_read_without_next_pages() {
    let mut org = org("Account_Setting__mdt", &[("Account_Setting__mdt", 4_500)]).await;
    // Whoever follows a locator of such a query gets nothing.
    org.refuse("/query/0r8", 100, 400, "INVALID_QUERY_LOCATOR").await;
    org.catch_up().await;
    assert_whole(&org, 4_500);
    let loaded = org.stage.position().load.unwrap();
    assert!(loaded.done && loaded.job.is_none(), "{loaded:?}");
}
