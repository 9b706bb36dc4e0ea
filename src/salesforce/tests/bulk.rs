//! Bulk jobs and their pages.

use super::*;
use crate::error::Reaction;
use crate::salesforce::bulk::{self, Job, PageRows};
use crate::salesforce::scripted::{Org, refuse};

async fn new_job(client: &Client) -> Job {
    let statement = Select::all(&sample::account()).statement().unwrap();
    bulk::create(client, &statement, true).await.unwrap()
}

#[tokio::test]
async fn a_job_is_created_awaited_fetched_and_deleted() {
    let org = Org::start().await;
    org.on(
        "POST /services/data/v65.0/jobs/query ",
        [reply(200, include_str!("../../../tests/data/salesforce/query-job-created.json"))],
    );
    org.on("/results?maxRecords=2 ", [csv(&["001A", "001B"], 2, "MTAw/+")]);
    org.on("/results?maxRecords=2&locator=MTAw%2F%2B ", [csv(&["001C"], 1, "null")]);
    org.on("DELETE ", [reply(204, "")]);
    org.on("PATCH ", [refuse(400, "API_ERROR", "the job is over"), refuse(404, "NOT_FOUND", "gone")]);
    org.on(
        "GET ",
        [
            job("UploadComplete", ""),
            job("InProgress", ""),
            job("JobComplete", r#","numberRecordsProcessed":3"#),
        ],
    );
    let client = org.client().await;
    let job = new_job(&client).await;
    assert_eq!(job.id, "750ak000009AVi5AAG");
    assert_eq!(bulk::wait(&client, &job).await.unwrap().rows, Some(3));
    let mut request = PageRequest { max_records: 2, ..first_page() };
    let first = bulk::page(&client, &job, &request).await.unwrap();
    request.locator = first.next_locator.clone();
    let second = bulk::page(&client, &job, &request).await.unwrap();
    assert_eq!(second.next_locator, None);
    let mut all = Vec::new();
    for stream in [first, second] {
        let PageRows::Complete(rows) = stream.finish().await.unwrap() else { panic!("too large") };
        all.extend(ids(&rows));
    }
    assert_eq!(all, ["001A", "001B", "001C"]);
    bulk::delete(&client, &job).await.unwrap();
    bulk::abort(&client, &job).await.unwrap();
    bulk::abort(&client, &job).await.unwrap();
    let sent: serde_json::Value =
        serde_json::from_str(&org.requests("POST /services/data").remove(0).body).unwrap();
    assert_eq!((sent["operation"].as_str(), sent["lineEnding"].as_str()), (Some("queryAll"), Some("LF")));
}

#[tokio::test]
async fn a_job_that_fails_is_aborted_stalls_or_is_gone_says_so() {
    let org = Org::start().await;
    org.on(
        "GET ",
        [
            job("InProgress", ""),
            job(
                "Failed",
                r#","errorMessage":"InternalServerError : Retried more than fifteen times for 'Anna B'""#,
            ),
            job("Failed", ""),
            job("Aborted", ""),
            refuse(404, "NOT_FOUND", "The requested resource does not exist"),
            job("InProgress", r#","numberRecordsProcessed":0"#),
        ],
    );
    let client = org.client().await;
    let job = Job::resume("7505g00000AbCdEAAV", &sample::account());
    let what = "waiting for bulk job 7505g00000AbCdEAAV on Account";
    let expect = [
        (
            Kind::BulkJobFailed,
            "the job failed: InternalServerError : Retried more than fifteen times for '…'",
        ),
        (Kind::BulkJobFailed, "the job failed: no reason given"),
        (Kind::BulkJobFailed, "somebody aborted the job"),
        (Kind::BulkJobGone, "Salesforce answered 404 NOT_FOUND: The requested resource does not exist"),
        (Kind::BulkJobFailed, "the job made no progress for 0.0 hours"),
    ];
    for (kind, sentence) in expect {
        let error = bulk::wait(&client, &job).await.unwrap_err();
        assert_reads(&error, kind, &format!("{what}: {sentence}"));
    }
}

#[tokio::test]
async fn a_result_that_is_not_there_yet_is_waited_for_and_an_empty_one_may_have_no_content() {
    let org = Org::start().await;
    let early = refuse(400, "API_ERROR", "the result is not ready");
    org.on("/results", [reply(204, ""), early.clone(), csv(&["001A"], 1, "null"), reply(204, ""), early]);
    let complete = |rows: u64| job("JobComplete", &format!(r#","numberRecordsProcessed":{rows}"#));
    org.on("GET ", [complete(1), job("InProgress", ""), complete(1), complete(0), complete(0)]);
    let client = org.client().await;
    let job = Job::resume("7505g00000AbCdEAAV", &sample::account());
    for rows in [1, 0] {
        let page = bulk::page(&client, &job, &first_page()).await.unwrap();
        assert_eq!(page.next_locator, None);
        let PageRows::Complete(found) = page.finish().await.unwrap() else { panic!("too large") };
        assert_eq!(found.len(), rows);
    }
    let error = bulk::page(&client, &job, &first_page()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::BulkJobFailed, "{error}");
}

#[tokio::test]
async fn a_page_with_other_rows_than_announced_is_never_handed_out() {
    let org = Org::start().await;
    org.on(
        "/results",
        [
            csv(&["001A", "001B"], 3, "null"),
            csv(&["001A", "001B", "001C"], 3, "null"),
            csv(&["001A"], 3, "null"),
        ],
    );
    let client = org.client().await;
    let job = Job::resume("7505g00000AbCdEAAV", &sample::account());
    let stream = bulk::page(&client, &job, &first_page()).await.unwrap();
    assert_eq!(stream.announced, Some(3));
    assert!(
        matches!(stream.finish().await.unwrap(), PageRows::Complete(rows) if rows.len() == 3),
        "asked again"
    );
    let error = bulk::page(&client, &job, &first_page()).await.unwrap().finish().await.unwrap_err();
    assert_eq!(error.kind(), Kind::ReplyTruncated);
    let start = "fetching a page of bulk job 7505g00000AbCdEAAV on Account: the page has 1 rows, 3 were announced (given up after ";
    assert!(error.to_string().starts_with(start), "{error}");
}

#[tokio::test]
async fn a_page_whose_connection_breaks_is_fetched_again_but_not_with_other_bounds() {
    let org = Org::start().await;
    let whole = csv(&["001A", "001B"], 2, "next");
    org.on(
        "/results",
        [whole.clone().cut_at(30), whole.clone(), whole.cut_at(30), csv(&["001A"], 1, "nearer")],
    );
    let client = org.client().await;
    let job = Job::resume("7505g00000AbCdEAAV", &sample::account());
    let stream = bulk::page(&client, &job, &first_page()).await.unwrap();
    assert!(matches!(stream.finish().await.unwrap(), PageRows::Complete(rows) if rows.len() == 2));
    let error = bulk::page(&client, &job, &first_page()).await.unwrap().finish().await.unwrap_err();
    assert_reads(
        &error,
        Kind::ReplyTruncated,
        "fetching a page of bulk job 7505g00000AbCdEAAV on Account: fetched again, the page announces another number of rows or another next page",
    );
}

#[tokio::test]
async fn a_page_beyond_the_memory_bound_is_given_back_unheld() {
    let org = Org::start().await;
    let names: Vec<String> = (0..500).map(|number| format!("001{number:015}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    org.on("/results", [csv(&names, 500, "null")]);
    let client = org.client().await;
    let job = Job::resume("7505g00000AbCdEAAV", &sample::account());
    let request = PageRequest { max_bytes: 1_000, ..first_page() };
    let rows = bulk::page(&client, &job, &request).await.unwrap().finish().await.unwrap();
    assert!(matches!(rows, PageRows::TooLarge { bytes, .. } if bytes > 1_000));
}

#[tokio::test]
async fn what_bulk_refuses_goes_to_rest() {
    let org = Org::start().await;
    org.on(
        "/jobs/query",
        [refuse(400, "INVALIDENTITY", "Entity 'Account' is not supported by the Bulk API.")],
    );
    let client = org.client().await;
    let statement = Select::all(&sample::account()).statement().unwrap();
    let error = bulk::create(&client, &statement, false).await.unwrap_err();
    assert_reads(
        &error,
        Kind::BulkRefused,
        "creating a bulk job on Account: Salesforce answered 400 INVALIDENTITY: Entity 'Account' is not supported by the Bulk API",
    );
    assert_eq!(error.reaction(), Reaction::UseRest);
}
