//! What Salesforce can do to a run, one test each: the words that a person reads, and that nothing is lost or doubled.
//!
//! In: the simulator's faults (docs/simulator.md). Out: exit code and stderr of the real program, and the independent
//! consumer's verdict on the topics: a fault that is survived leaves each row once; one that stops an object leaves it
//! unpublished, and a run after it completes.

use serde_json::json;

use crate::services::{read_committed, topics};
use crate::stage::{Setup, Stage};

/// So many Accounts are loaded by the Bulk API, in pages of `BULK_PAGE`.
const BULK_ROWS: u64 = 2_600;
const BULK_PAGE: u64 = 1_000;

/// Accounts by the Bulk API and Invoices by REST, both in three pages.
async fn paged() -> Stage {
    let rows = &[("Account", BULK_ROWS), ("Invoice__c", 250)];
    let stage = Stage::of(Setup { rows, ..Setup::new("[ Account, Invoice__c ]") }).await;
    stage.control("settings", json!({"bulkPageCap": BULK_PAGE, "pageCap": 100})).await;
    stage
}

/// The lines of the log that say this.
fn lines<'a>(words: &'a str, with: &str) -> Vec<&'a str> {
    words.lines().filter(|line| line.contains(with)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_is_told_in_salesforces_words_and_never_shown() {
    let stage = Stage::new("[ Account ]").await;
    stage.rewrite("simulator-secret", "hunter2-is-wrong");
    let words = stage.fails(1).await;
    let report = format!(
        "error[login-refused]: login at {}: Salesforce answered invalid_client: invalid client credentials\n  \
         now: the program stops\nhint: check `salesforce.client_secret`: the consumer secret on the app's page, Manage Consumer Details\n",
        stage.simulator.origin()
    );
    assert!(words.ends_with(&report), "{words}");
    let (code, report, more) = stage.run(&["check"]).await;
    assert_eq!(code, Some(1));
    assert!(
        report.contains(
            "invalid_client: invalid client credentials\n  hint: check `salesforce.client_secret`: the consumer secret on the app's page, Manage Consumer Details\n"
        ),
        "{report}"
    );
    assert!(![words, report, more].concat().contains("hunter2"));
    assert_eq!(topics(&stage.name), [""; 0], "nothing was made");

    stage.rewrite("hunter2-is-wrong", "simulator-secret");
    stage.completes().await;
    stage.holds_each_row_once("Account").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expires_in_mid_load_is_renewed_and_the_load_goes_on() {
    let stage = paged().await;
    // In the middle of the Bulk results, and of the REST pages, whose locator dies with the session.
    stage.fault("/results", 1, 1, json!("expireSession")).await;
    stage.fault("-100", 0, 1, json!("expireSession")).await;
    let words = stage.completes().await;
    assert!(!lines(&words, "INFO logged in again, calls go on").is_empty(), "{words}");
    let trouble =
        |line: &&str| (line.contains("WARN") && !line.contains("Kafka client")) || line.contains("ERROR");
    assert_eq!(words.lines().find(trouble), None, "nothing for a person to do");
    for object in ["Account", "Invoice__c"] {
        assert_eq!(lines(&words, &format!("full load begins object={object}")).len(), 1, "{words}");
        stage.holds_each_row_once(object).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_token_that_expires_stops_the_program_that_cannot_get_another() {
    let stage = Stage::new("[ Account ]").await;
    let origin = stage.simulator.origin();
    let token = async || {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", "simulator-client"),
            ("client_secret", "simulator-secret"),
        ];
        let url = format!("{origin}/services/oauth2/token");
        let answer = reqwest::Client::new().post(url).form(&form).send().await.unwrap();
        let answer: serde_json::Value = answer.json().await.unwrap();
        answer["access_token"].as_str().unwrap().to_owned()
    };
    let first = token().await;
    stage.rewrite(
        &format!("login_domain: '{origin}', auth: client-credentials, client_id: simulator-client, client_secret: simulator-secret"),
        &format!("instance: '{origin}', auth: access-token, access_token: '{first}'"),
    );
    let mut running = stage.start(&["run"]);
    running.says("full load complete").await;
    stage.control("sessions/expire", json!({})).await;
    let (code, words) = running.ends().await;
    assert_eq!(code, Some(1), "{words}");
    let report = "Salesforce no longer accepts the access token, and `auth: access-token` cannot get another\n  \
                  now: the program stops\n\
                  hint: put a fresh access token into the configuration, or use a login that renews itself, such as `auth: client-credentials`\n";
    assert!(words.contains("error[login-refused]: ") && words.ends_with(report), "{words}");
    assert!(!words.contains(&first), "a token in the log");

    stage.rewrite(&first, &token().await);
    stage.completes().await;
    stage.holds_each_row_once("Account").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_the_user_may_not_see_is_refused_with_its_line() {
    let stage = Stage::new("[ Account, Invoice__c ]").await;
    stage.control("settings", json!({"hiddenObjects": ["Invoice__c"]})).await;
    let words = stage.fails(1).await;
    let report = format!(
        "error[object-unknown]: {}:7:21: object Invoice__c is not in the org, or the integration user may not see it\n  \
         now: the program stops\n\
         hint: check the spelling, and that the integration user may see the object; `sf2kafka discover` lists what it sees\n",
        stage.file()
    );
    assert!(words.ends_with(&report), "{words}");
    assert_eq!(topics(&stage.name), [""; 0], "nothing was made");
    let (code, report, _) = stage.run(&["check"]).await;
    assert_eq!(code, Some(1));
    assert!(report.contains(":7:21: object Invoice__c is not in the org"), "{report}");

    stage.control("settings", json!({"hiddenObjects": []})).await;
    stage.completes().await;
    stage.holds_each_row_once("Account").await;
    stage.holds_each_row_once("Invoice__c").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_whose_rights_are_taken_away_stops_alone_and_comes_back() {
    let stage = Stage::new("[ Account, Invoice__c ]").await;
    let refusal = r#"[{"message":"insufficient access rights on cross-reference id","errorCode":"INSUFFICIENT_ACCESS_OR_READONLY"}]"#;
    let refused = json!({"respond": {"status": 403, "body": refusal, "headers": [["content-type", "application/json"]]}});
    stage.fault("FROM Invoice__c WHERE", 0, 1_000, refused.clone()).await;
    stage.fault("FROM Invoice__c ORDER", 0, 1_000, refused).await;
    let words = stage.fails(1).await;
    let what = "Salesforce answered 403 INSUFFICIENT_ACCESS_OR_READONLY: insufficient access rights on cross-reference id";
    let given_up = lines(&words, "object given up, all others go on");
    assert_eq!(given_up.len(), 1, "{words}");
    for part in ["ERROR", "object=Invoice__c", "code=\"object-forbidden\"", what] {
        assert!(given_up[0].contains(part), "{part}: {words}");
    }
    assert!(
        given_up[0].ends_with(
            r#"hint="give the integration user read access to the object (and View All for complete data)""#
        ),
        "{words}"
    );
    assert!(
        words.contains(&format!(
            "\nerror[object-forbidden]: full load of Invoice__c: query on Invoice__c: {what}\n"
        )),
        "{words}"
    );
    assert_eq!(read_committed(&stage.topic("Invoice_c")), []);
    stage.holds_each_row_once("Account").await;

    // A program that goes on says when it tries again.
    let mut running = stage.start(&["run"]);
    running.says("ERROR object stopped, all others go on object=Invoice__c").await;
    running.says("again_in=300s hint=\"give the integration user read access to the object").await;
    let (code, words) = running.stop().await;
    assert_eq!(code, Some(0), "{words}");

    stage.clear_faults().await;
    stage.completes().await;
    stage.holds_each_row_once("Account").await;
    stage.holds_each_row_once("Invoice__c").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_hidden_in_mid_run_is_null_until_it_is_given_back() {
    let stage = Stage::new("[ { name: Account, on_new_field: ignore }, Invoice__c ]").await;
    let mut running = stage.start(&["run"]);
    running.says("full load complete object=Account").await;
    let field = |action: &str| json!({"object": "Account", "field": "Site", "action": action});
    stage.control("fields", field("hide")).await;
    let ids = stage.ids("Account", 5);
    stage.save("Account", &ids, "AccountNumber", "saved while a field was hidden");
    let topic = stage.topic("Account");
    let rows = usize::try_from(stage.rows("Account")).unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while read_committed(&topic).len() < rows + ids.len() {
        assert!(std::time::Instant::now() < deadline, "the changes arrive\n{}", running.said());
    }
    let (code, words) = running.stop().await;
    assert_eq!(code, Some(0), "{words}");
    let again = lines(&words, "describing the object again and going on with the fields there are");
    assert_eq!(again.len(), 1, "{words}");
    for part in [
        "WARN",
        "object=Account",
        "code=\"field-unknown\"",
        "polling Account: query on Account: Salesforce answered 400 INVALID_FIELD: No such column 'Site' on entity 'Account'",
        "give the field back by field-level security if it is missed",
    ] {
        assert!(again[0].contains(part), "{part}: {words}");
    }
    assert!(!words.contains("ERROR"), "{words}");

    // Given back, it is read again from then on.
    stage.control("fields", field("show")).await;
    stage.save("Account", &ids, "AccountNumber", "saved when the field was back");
    stage.completes().await;
    let report = stage.equals_the_org("Account").await;
    assert_eq!(report["operations"], json!({"R": rows, "U": 2 * ids.len()}), "{report}");
    stage.holds_each_row_once("Invoice__c").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_job_that_fails_or_is_aborted_is_made_anew() {
    let stage = paged().await;
    let fail = json!({"job": {"fate": "fail", "message": "QUERY_TIMEOUT: Your query request was running for too long."}});
    for (times, action) in [(1, fail), (1, json!({"job": {"fate": "abort"}}))] {
        stage
            .control(
                "faults",
                json!({"method": "POST", "contains": "/jobs/query", "times": times, "action": action}),
            )
            .await;
    }
    let words = stage.completes().await;
    let again = lines(&words, "trying again after a pause");
    assert_eq!(again.len(), 2, "{words}");
    for (line, what) in again.iter().zip([
        "the job failed: QUERY_TIMEOUT: Your query request was running for too long",
        "somebody aborted the job",
    ]) {
        for part in [
            "object=Account code=\"bulk-job-failed\" error=full load of Account: waiting for bulk job 750",
            what,
            "hint=\"if it repeats, look at the job under Setup > Bulk Data Load Jobs\"",
        ] {
            assert!(line.contains(part), "{part}: {words}");
        }
    }
    stage.holds_each_row_once("Account").await;
    stage.holds_each_row_once("Invoice__c").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_whose_bulk_jobs_keep_failing_is_read_by_rest() {
    let stage = paged().await;
    let fail = json!({"job": {"fate": "fail"}});
    stage
        .control("faults", json!({"method": "POST", "contains": "/jobs/query", "times": 3, "action": fail}))
        .await;
    let words = stage.completes().await;
    assert_eq!(lines(&words, "code=\"bulk-job-failed\"").len(), 3, "{words}");
    assert_eq!(lines(&words, "full load begins object=Account").len(), 4, "{words}");
    assert!(lines(&words, "full load begins object=Account")[3].ends_with("bulk=false"), "{words}");
    stage.holds_each_row_once("Account").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_csv_page_that_lacks_rows_is_fetched_again_and_nothing_of_it_is_published() {
    let stage = paged().await;
    // The body ends in the middle as if it were whole; a count that is not the page's.
    stage.fault("/results", 0, 1, json!({"endBody": {"afterBytes": 200_000}})).await;
    stage.fault("/results", 2, 1, json!({"wrongCount": {"by": 1}})).await;
    let words = stage.completes().await;
    let again = lines(&words, "fetching the page again");
    let whats = ["the answer broke off: ", "the page has 600 rows, 601 were announced"];
    for (line, what) in again.iter().zip(whats) {
        for part in [
            "WARN",
            "what=\"fetching a page of bulk job 750",
            "code=\"reply-truncated\"",
            what,
            "hint=\"nothing to do: the page is fetched again and was not published\"",
        ] {
            assert!(line.contains(part), "{part}: {words}");
        }
    }
    assert_eq!(again.len(), whats.len(), "{words}");
    // A page of another size than it was read with does not fit: the load goes on from the last page published.
    let other = "fetched again, the page announces another number of rows or another next page";
    assert_eq!(lines(&words, other).len(), 1, "{words}");
    assert_eq!(lines(&words, "full load begins object=Account").len(), 1, "{words}");
    stage.holds_each_row_once("Account").await;
    stage.holds_each_row_once("Invoice__c").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_of_another_size_than_its_job_announced_is_never_called_complete() {
    let stage = paged().await;
    stage.control("settings", json!({"jobDelayMillis": 0})).await;
    let lie = r#"{"id":"750000000000001AAA","state":"JobComplete","numberRecordsProcessed":2601}"#;
    let lie = json!({"method": "GET", "contains": "/jobs/query/", "times": 1, "action": {"respond": {"status": 200, "body": lie}}});
    stage.control("faults", lie).await;
    let words = stage.completes().await;
    let again = lines(&words, "loading the object again");
    assert_eq!(again.len(), 1, "{words}");
    for part in [
        "WARN",
        "code=\"load-incomplete\" error=full load of Account: 2600 rows arrived where the job announced 2601",
        "hint=\"nothing to do unless it repeats: the load starts over under a new load id\"",
    ] {
        assert!(again[0].contains(part), "{part}: {words}");
    }
    let report = stage.equals_the_org("Account").await;
    // What the first load published stays in the topic under its own load id.
    assert_eq!(report["operations"], json!({"R": BULK_ROWS + 2 * BULK_PAGE}), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_page_instead_of_data_is_asked_again_wherever_it_comes() {
    let stage = paged().await;
    let page = |kind: &str| json!({"respond": {"status": 200, "body": "<!DOCTYPE html><html><body>Maintenance</body></html>", "headers": [["content-type", kind]]}});
    for (contains, kind) in [
        ("/oauth2/token", "text/html"),
        ("/sobjects/Account/describe", "text/html; charset=UTF-8"),
        ("FROM Invoice__c", "application/json"),
        ("/jobs/query", "text/html"),
        ("/results", "text/html"),
        // A page that calls itself CSV.
        ("/results", "text/csv"),
    ] {
        stage.fault(contains, 0, 1, page(kind)).await;
    }
    let words = stage.completes().await;
    let page = "200 with a web page instead of data";
    for (what, error) in [
        ("login failed, trying again", format!("the login host answered {page}")),
        ("a call failed, trying again what=\"describing ", format!("Salesforce answered {page}")),
        ("a call failed, trying again what=\"query on Invoice__c\"", format!("Salesforce answered {page}")),
        (
            "a call failed, trying again what=\"creating a bulk job on Account\"",
            format!("Salesforce answered {page}"),
        ),
        ("a call failed, trying again what=\"fetching a page of", format!("Salesforce answered {page}")),
        (
            "fetching the page again what=\"fetching a page of",
            "the page does not begin with a header row".to_owned(),
        ),
    ] {
        let said = lines(&words, what);
        assert_eq!(said.len(), 1, "{what}: {words}");
        for part in [
            "WARN",
            "code=\"reply-unreadable\"",
            &error,
            "hint=\"look for a proxy or a login page between the program and Salesforce if it repeats\"",
        ] {
            assert!(said[0].contains(part), "{part}: {words}");
        }
    }
    assert!(!words.contains("Maintenance"), "bodies are not logged: {words}");
    stage.holds_each_row_once("Account").await;
    stage.holds_each_row_once("Invoice__c").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_503_is_waited_out_as_long_as_it_asks() {
    let stage = paged().await;
    let asked = json!({"respond": {"status": 503, "headers": [["retry-after", "3"]]}});
    let unavailable = r#"[{"message":"server temporarily unavailable","errorCode":"SERVER_UNAVAILABLE"}]"#;
    stage.fault("/results", 1, 1, asked).await;
    stage.fault("FROM Invoice__c", 0, 2, json!({"respond": {"status": 503, "body": unavailable}})).await;
    let words = stage.completes().await;
    let said = lines(&words, "a call failed, trying again");
    assert_eq!(said.len(), 3, "{words}");
    for line in &said {
        let hint = "hint=\"nothing to do; see the status page of your Salesforce instance if it lasts\"";
        assert!(
            line.contains("WARN") && line.contains("code=\"salesforce-unavailable\"") && line.contains(hint),
            "{words}"
        );
    }
    let asked = lines(&words, "error=\"Salesforce answered 503 with no explanation\" again_in=3s");
    assert_eq!(asked.len(), 1, "the pause that Salesforce asked for: {words}");
    let own = lines(
        &words,
        "error=\"Salesforce answered 503 SERVER_UNAVAILABLE: server temporarily unavailable\" again_in=",
    );
    assert!(own.len() == 2 && own.iter().all(|line| line.contains("ms hint=")), "pauses of our own: {words}");
    stage.holds_each_row_once("Account").await;
    stage.holds_each_row_once("Invoice__c").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_dropped_in_a_body_costs_the_page_and_nothing_else() {
    let stage = paged().await;
    stage.fault("/results", 0, 1, json!({"cutBody": {"afterBytes": 100_000}})).await;
    stage.fault("/results", 1, 1, json!("drop")).await;
    stage.fault("FROM Invoice__c", 0, 1, json!({"cutBody": {"afterBytes": 20_000}})).await;
    let words = stage.completes().await;
    let broke_off =
        "code=\"reply-truncated\" error=\"the answer broke off: the connection to Salesforce broke: ";
    let published = "hint=\"nothing to do: the page is fetched again and was not published\"";
    let dropped = "code=\"network-failed\" error=\"the connection to 127.0.0.1:";
    for (what, error, hint) in [
        ("fetching the page again what=\"fetching a page of", broke_off, published),
        ("a call failed, trying again what=\"query on Invoice__c", broke_off, published),
        (
            "a call failed, trying again what=\"fetching a page of",
            dropped,
            "hint=\"check name resolution, proxy and firewall towards the host\"",
        ),
    ] {
        let said = lines(&words, what);
        assert_eq!(said.len(), 1, "{what}: {words}");
        assert!(
            said[0].contains("WARN") && said[0].contains(error) && said[0].contains(hint),
            "{what}: {words}"
        );
    }
    assert!(!words.contains("ERROR"), "{words}");
    stage.holds_each_row_once("Account").await;
    stage.holds_each_row_once("Invoice__c").await;
}
