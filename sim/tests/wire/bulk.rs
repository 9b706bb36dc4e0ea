//! Bulk API 2.0 query jobs (rest.md section 4).

use std::collections::HashSet;
use std::io::Read;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::client::Answer;
use crate::{Wire, csv, refusal, strings};

async fn create(wire: &Wire, operation: &str, soql: &str) -> String {
    let answer = wire.post("jobs/query", json!({"operation": operation, "query": soql})).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    format!("jobs/query/{}", answer.json()["id"].as_str().unwrap())
}

fn rows(answer: &Answer) -> Vec<Vec<String>> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let (_, rows) = csv::parse(&answer.text(), ',', "\n");
    assert_eq!(answer.header("sforce-numberofrecords").unwrap(), rows.len().to_string());
    rows
}

/// All pages by locator.
async fn walk(wire: &Wire, job: &str, most: u64) -> Vec<Vec<Vec<String>>> {
    let (mut pages, mut locator) = (Vec::new(), None::<String>);
    loop {
        let locator_part = locator.map(|locator| format!("&locator={locator}")).unwrap_or_default();
        let page = wire.get(&format!("{job}/results?maxRecords={most}{locator_part}")).await;
        pages.push(rows(&page));
        match page.header("sforce-locator").unwrap() {
            "null" => return pages,
            next => locator = Some(next.to_owned()),
        }
    }
}

fn first_column(pages: &[Vec<Vec<String>>]) -> Vec<String> {
    pages.iter().flatten().map(|row| row[0].clone()).collect()
}

#[tokio::test]
async fn a_job_goes_through_its_states_and_says_what_it_is() {
    let wire = Wire::start().await;
    wire.control("settings", json!({"jobDelayMillis": 40})).await;
    let answer =
        wire.post("jobs/query", json!({"operation": "query", "query": "SELECT Id FROM account"})).await;
    let created = answer.json();
    assert!(answer.text().contains(r#""apiVersion":66.0"#));
    assert!(
        created["id"].as_str().unwrap().starts_with("750") && created["id"].as_str().unwrap().len() == 18
    );
    for (key, value) in [
        ("operation", "query"),
        ("object", "Account"),
        ("state", "UploadComplete"),
        ("concurrencyMode", "Parallel"),
        ("contentType", "CSV"),
        ("lineEnding", "LF"),
        ("columnDelimiter", "COMMA"),
        ("createdDate", "2026-05-19T08:30:00.000+0000"),
    ] {
        assert_eq!(created[key], value, "{key}");
    }
    let target = format!("jobs/query/{}", created["id"].as_str().unwrap());
    let (deadline, mut states) =
        (Instant::now() + Duration::from_secs(20), vec!["UploadComplete".to_owned()]);
    let done = loop {
        let status = wire.get(&target).await.json();
        let state = status["state"].as_str().unwrap().to_owned();
        if states.last() != Some(&state) {
            states.push(state.clone());
        }
        if state == "JobComplete" {
            break status;
        }
        assert!(Instant::now() < deadline, "{states:?}");
    };
    let order = ["UploadComplete", "InProgress", "JobComplete"];
    assert_eq!(
        states,
        order.iter().filter(|state| states.iter().any(|s| s == *state)).copied().collect::<Vec<_>>()
    );
    assert_eq!((&done["jobType"], &done["retries"]), (&json!("V2Query"), &json!(0)));
    let found = rows(&wire.get(&format!("{target}/results")).await).len();
    assert_eq!(done["numberRecordsProcessed"], found);
}

#[tokio::test]
async fn before_it_is_done_a_job_gives_nothing_and_cannot_be_deleted() {
    let wire = Wire::start().await;
    wire.control("settings", json!({"jobDelayMillis": 3_600_000})).await;
    let job = create(&wire, "query", "SELECT Id FROM Account").await;
    let early = wire.get(&format!("{job}/results")).await;
    assert_eq!((early.status, early.body.len()), (204, 0));
    assert_eq!(wire.get(&format!("{job}/resultPages")).await.status, 400);
    let refused = refusal(
        400,
        "API_ERROR",
        "Error encountered when deleting the job because the job is not terminated",
    );
    assert_eq!(wire.call("DELETE", &job, &[], "").await.unwrap().refusal(), refused);

    let aborted = wire.call("PATCH", &job, &[], r#"{"state":"Aborted"}"#).await.unwrap();
    assert_eq!((aborted.status, &aborted.json()["state"]), (200, &json!("Aborted")));
    assert_eq!(wire.call("DELETE", &job, &[], "").await.unwrap().status, 204);
    let gone = refusal(404, "NOT_FOUND", "The requested resource does not exist");
    assert_eq!(wire.get(&job).await.refusal(), gone);
    assert_eq!(wire.get(&format!("{job}/results")).await.refusal(), gone);
    assert_eq!(wire.call("DELETE", &job, &[], "").await.unwrap().refusal(), gone);
    assert_ne!(create(&wire, "query", "SELECT Id FROM Account").await, job, "an id is never given twice");
}

#[tokio::test]
async fn a_job_goes_after_seven_days() {
    let wire = Wire::start().await;
    let job = create(&wire, "query", "SELECT Id FROM Account").await;
    wire.pass_seconds(7 * 86_400).await;
    assert_eq!(wire.get(&job).await.status, 200);
    wire.pass_seconds(1).await;
    assert_eq!(wire.get(&job).await.status, 404);
}

#[tokio::test]
async fn pages_are_disjoint_and_complete_each_with_its_header() {
    let wire = Wire::with_rows(&[("Account", 5_000)]).await;
    let job = create(&wire, "queryAll", "SELECT Id, Name FROM Account").await;
    let pages = walk(&wire, &job, 700).await;
    assert!(pages.iter().all(|page| page.len() <= 700) && pages.len() > 5);
    let all = first_column(&pages);
    let different: HashSet<&String> = all.iter().collect();
    assert_eq!(different.len(), all.len());
    let processed = wire.get(&job).await.json()["numberRecordsProcessed"].as_u64().unwrap();
    assert_eq!(all.len() as u64, processed);
    let mut sorted = all.clone();
    sorted.sort();
    assert_ne!(all, sorted, "the order of an unordered query means nothing");
    assert_eq!(walk(&wire, &job, 700).await, pages, "and a page comes again as it was");
    wire.control("settings", json!({"bulkPageCap": 300})).await;
    let capped = walk(&wire, &job, 700).await;
    assert!(capped.iter().all(|page| page.len() <= 300), "maxRecords is an upper bound");
    assert_eq!(first_column(&capped).into_iter().collect::<HashSet<_>>(), all.into_iter().collect());
}

#[tokio::test]
async fn a_page_can_come_again_in_another_order_if_asked_for() {
    let wire = Wire::with_rows(&[("Account", 1_000)]).await;
    wire.control("settings", json!({"reorder": true})).await;
    let job = create(&wire, "query", "SELECT Id FROM Account").await;
    let (once, again) = (walk(&wire, &job, 5_000).await, walk(&wire, &job, 5_000).await);
    assert_ne!(once, again);
    let set = |pages: &[Vec<Vec<String>>]| first_column(pages).into_iter().collect::<HashSet<_>>();
    assert_eq!(set(&once), set(&again));
}

#[tokio::test]
async fn result_pages_are_disjoint_and_complete() {
    let wire = Wire::with_rows(&[("Account", 2_000)]).await;
    wire.control("settings", json!({"bulkPageCap": 150})).await;
    for soql in [
        "SELECT Id FROM Account",
        "SELECT Id FROM Account ORDER BY Name",
        "SELECT Id FROM Account LIMIT 1000",
    ] {
        let job = create(&wire, "query", soql).await;
        let total = wire.get(&job).await.json()["numberRecordsProcessed"].as_u64().unwrap();
        let (mut seen, mut target) = (Vec::new(), format!("{job}/resultPages"));
        loop {
            let answer = wire.get(&target).await.json();
            let pages = answer["resultPages"].as_array().unwrap();
            assert!(!pages.is_empty() && pages.len() <= 5);
            for page in pages {
                let page = wire.get(page["resultUrl"].as_str().unwrap()).await;
                seen.extend(rows(&page).into_iter().map(|row| row[0].clone()));
            }
            match (answer["done"].as_bool(), answer["nextRecordsUrl"].as_str()) {
                (Some(true), None) => break,
                (Some(false), Some(next)) => target = next.to_owned(),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(seen.len() as u64, total, "{soql}");
        assert_eq!(seen.into_iter().collect::<HashSet<_>>().len() as u64, total, "{soql}");
    }
}

#[tokio::test]
async fn an_empty_result_is_a_header_and_an_ordered_one_keeps_its_order() {
    let wire = Wire::start().await;
    let job = create(&wire, "query", "SELECT Id, Owner.Name FROM Account WHERE Name = 'no such name'").await;
    let empty = wire.get(&format!("{job}/results")).await;
    assert_eq!(empty.text(), "\"Id\",\"Owner.Name\"\n");
    assert_eq!(
        (empty.header("sforce-numberofrecords"), empty.header("sforce-locator")),
        (Some("0"), Some("null"))
    );
    let job = create(&wire, "query", "SELECT Id FROM Account ORDER BY Id LIMIT 300").await;
    let all = first_column(&walk(&wire, &job, 70).await);
    assert_eq!(all.len(), 300);
    assert!(all.is_sorted());
}

#[tokio::test]
async fn a_job_belongs_to_its_version_and_a_locator_to_the_job() {
    let wire = Wire::start().await;
    let job = create(&wire, "query", "SELECT Id FROM Account").await;
    for part in ["results", "resultPages"] {
        assert_eq!(wire.get(&format!("/services/data/v65.0/{job}/{part}")).await.status, 409, "{part}");
    }
    assert_eq!(wire.get(&format!("{job}/results?locator=nonsense")).await.status, 400);
    let old = json!({"operation": "query", "query": "SELECT Name, Id FROM Account LIMIT 1"});
    let job = wire.post("/services/data/v48.0/jobs/query", old.clone()).await.json();
    let results =
        wire.get(&format!("/services/data/v48.0/jobs/query/{}/results", job["id"].as_str().unwrap())).await;
    assert!(results.text().starts_with("\"Id\",\"Name\"\n"), "the order of the alphabet up to 49.0");
    assert_eq!(wire.post("/services/data/v46.0/jobs/query", old).await.status, 404);
}

const AWKWARD: [&str; 6] = ["NA", " \"Big\", Ltd ", "a\r\nb\rc\nd", "😀 Zoë", "null", "tab\there|^;`"];

async fn awkward_job(wire: &Wire, delimiter: &str, ending: &str) -> Answer {
    let order = json!({"operation": "query", "columnDelimiter": delimiter, "lineEnding": ending,
        "query": "SELECT Id, Reference__c, Issued__c, Amount__c, Is_Export__c, Account__c FROM Invoice__c"});
    let job = wire.post("jobs/query", order).await.json();
    wire.get(&format!("jobs/query/{}/results", job["id"].as_str().unwrap())).await
}

#[tokio::test]
async fn cells_come_back_as_they_were_stored_in_every_dialect() {
    let wire = Wire::with_rows(&[("Invoice__c", 0)]).await;
    let changes: Vec<Json> = AWKWARD
        .iter()
        .map(|text| json!({"op": "insert", "object": "Invoice__c", "fill": false,
            "fields": {"Reference__c": text, "Issued__c": "2024-02-29", "Amount__c": 3, "Is_Export__c": true}}))
        .collect();
    wire.save(json!(changes)).await;
    for (delimiter, character) in
        [("COMMA", ','), ("TAB", '\t'), ("SEMICOLON", ';'), ("PIPE", '|'), ("CARET", '^'), ("BACKQUOTE", '`')]
    {
        for (ending, end) in [("LF", "\n"), ("CRLF", "\r\n")] {
            let answer = awkward_job(&wire, delimiter, ending).await;
            assert_eq!(answer.header("content-type"), Some("text/csv; charset=UTF-8"));
            let (header, rows) = csv::parse(&answer.text(), character, end);
            assert_eq!(
                header,
                ["Id", "Reference__c", "Issued__c", "Amount__c", "Is_Export__c", "Account__c"]
            );
            let texts: HashSet<&str> = rows.iter().map(|row| row[1].as_str()).collect();
            assert_eq!(texts, AWKWARD.into_iter().collect(), "{delimiter} {ending}");
            assert!(rows.iter().all(|row| row[2..] == ["2024-02-29", "3.0", "true", ""]), "{rows:?}");
        }
    }
    let job = create(&wire, "query", "SELECT SystemModstamp FROM Invoice__c LIMIT 1").await;
    assert_eq!(rows(&wire.get(&format!("{job}/results")).await), [["2026-05-19T08:30:00.000Z"]]);
}

#[tokio::test]
async fn gzip_holds_the_same_bytes_and_may_be_declined() {
    let wire = Wire::with_rows(&[("Account", 3_000)]).await;
    let job = create(&wire, "query", "SELECT Id, Name, Description FROM Account").await;
    let results = format!("{job}/results");
    let plain = wire.get(&results).await;
    assert_eq!(plain.header("content-encoding"), None);
    let gzip = [("Accept-Encoding", "gzip")];
    let pressed = wire.call("GET", &results, &gzip, "").await.unwrap();
    assert_eq!(pressed.header("content-encoding"), Some("gzip"));
    assert!(pressed.body.len() < plain.body.len());
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(pressed.body.as_slice()).read_to_end(&mut text).unwrap();
    assert_eq!(text, plain.body);
    wire.control("settings", json!({"gzip": false})).await;
    let declined = wire.call("GET", &results, &gzip, "").await.unwrap();
    assert_eq!((declined.header("content-encoding"), &declined.body), (None, &plain.body));
}

#[tokio::test]
async fn what_bulk_refuses_it_refuses_in_salesforces_words() {
    let wire = Wire::start().await;
    for (soql, code, message) in [
        (
            "SELECT BillingAddress FROM Account",
            "INVALID_FIELD",
            "Selecting compound data not supported in Bulk Query",
        ),
        (
            "SELECT Id FROM CaseStatus",
            "INVALIDENTITY",
            "Entity 'CaseStatus' is not supported by the Bulk API.",
        ),
        (
            "SELECT Id FROM AccountChangeEvent",
            "INVALID_TYPE_FOR_OPERATION",
            "entity type AccountChangeEvent does not support query",
        ),
        (
            "SELECT Id FROM ContentDocumentLink",
            "API_ERROR",
            "Implementation restriction: ContentDocumentLink requires a filter",
        ),
        ("SELECT COUNT() FROM Account", "API_ERROR", "Implementation restriction: "),
        ("SELECT Name FROM Account GROUP BY Name", "API_ERROR", "Implementation restriction: "),
        ("SELECT Id FROM Account LIMIT 5 OFFSET 5", "API_ERROR", "Implementation restriction: "),
        ("SELECT Id, (SELECT Id FROM Contacts) FROM Account", "API_ERROR", "Implementation restriction: "),
        ("SELECT FIELDS(STANDARD) FROM Account", "API_ERROR", "Implementation restriction: "),
        (
            "SELECT VersionData FROM ContentVersion",
            "FEATURENOTENABLED",
            "FeatureNotEnabled : Cannot serialize value for 'VersionData' in CSV format",
        ),
        ("SELECT Foo__c FROM Account", "INVALID_FIELD", "\nSELECT Foo__c"),
        ("SELECT Id FROM Accout", "INVALID_TYPE", "\nFROM Accout"),
        ("SELECT", "MALFORMED_QUERY", "unexpected token"),
    ] {
        let (status, found, text) =
            wire.post("jobs/query", json!({"operation": "query", "query": soql})).await.refusal();
        assert_eq!((status, found.as_str()), (400, code), "{soql}: {text}");
        assert!(text.contains(message), "{soql}: {text}");
    }
    wire.control("settings", json!({"jobLimit": 0})).await;
    let refused =
        wire.post("jobs/query", json!({"operation": "query", "query": "SELECT Id FROM Account"})).await;
    let text = "Max bulk v2 query jobs (0) per 24 hrs has been reached";
    assert_eq!(refused.refusal(), refusal(400, "LIMIT_EXCEEDED", text));
}

#[tokio::test]
async fn a_jobs_rows_are_those_of_its_creation_whatever_happens_to_the_org() {
    let wire = Wire::with_rows(&[("Account", 2_000)]).await;
    let soql = "SELECT Id, Name FROM Account";
    let job = create(&wire, "query", soql).await;
    let reference = walk(&wire, &create(&wire, "query", soql).await, 300).await;
    let ids = first_column(&reference);
    let mut changes = vec![json!({"op": "insert", "object": "Account", "fields": {"Name": "new"}})];
    for (place, id) in ids.iter().enumerate().take(300) {
        changes.push(match place % 3 {
            0 => json!({"op": "update", "object": "Account", "id": id, "fields": {"Name": "changed"}}),
            1 => json!({"op": "delete", "object": "Account", "id": id}),
            _ => json!({"op": "hard_delete", "object": "Account", "id": id}),
        });
    }
    wire.pass_seconds(60).await;
    wire.save(json!(changes)).await;
    assert_eq!(walk(&wire, &job, 300).await, reference);
    let later = first_column(&walk(&wire, &create(&wire, "query", soql).await, 300).await);
    assert_eq!(later.len(), ids.len() + 1 - 200);
}

#[tokio::test]
async fn the_list_of_jobs_holds_them_all() {
    let wire = Wire::start().await;
    create(&wire, "query", "SELECT Id FROM Account").await;
    create(&wire, "queryAll", "SELECT Id FROM Contact").await;
    let list = wire.get("jobs/query").await.json();
    let objects: Vec<&Json> = list["records"].as_array().unwrap().iter().map(|job| &job["object"]).collect();
    assert_eq!(objects, ["Account", "Contact"]);
    let control = crate::client::send(wire.address(), "GET", "/simulator/jobs", &[], b"").await.unwrap();
    assert_eq!(strings(&control.json()).len(), 2);
}
