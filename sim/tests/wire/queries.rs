//! SOQL over REST: pages, sizes, spellings, refusals (rest.md 3.1 to 3.3, section 6).

use std::collections::HashSet;

use serde_json::{Value as Json, json};

use crate::{Wire, ids, refusal, soql_target};

/// Every record of a query, page by page, and the sizes of its pages.
async fn all_pages(wire: &Wire, first: &str) -> (Vec<Json>, Vec<usize>) {
    let (mut records, mut sizes, mut target) = (Vec::new(), Vec::new(), first.to_owned());
    loop {
        let page = wire.get(&target).await;
        assert_eq!(page.status, 200, "{}", page.text());
        let mut page = page.json();
        let more = page["records"].as_array_mut().map(std::mem::take).unwrap();
        sizes.push(more.len());
        records.extend(more);
        match (page["done"].as_bool(), page["nextRecordsUrl"].as_str()) {
            (Some(true), None) => {
                assert_eq!(page["totalSize"], records.len());
                return (records, sizes);
            }
            (Some(false), Some(next)) => target = next.to_owned(),
            other => panic!("done and nextRecordsUrl disagree: {other:?}"),
        }
    }
}

#[tokio::test]
async fn pages_of_query_all_go_on_under_query_and_keep_deleted_rows() {
    let wire = Wire::with_rows(&[("Account", 5_000)]).await;
    for id in ids(&wire.soql("SELECT Id FROM Account LIMIT 20").await.json()["records"]) {
        wire.save(json!([{"op": "delete", "object": "Account", "id": id}])).await;
    }
    let target = soql_target("queryAll", "SELECT Id, IsDeleted FROM Account");
    let first = wire.get(&target).await.json();
    let next = first["nextRecordsUrl"].as_str().unwrap();
    assert!(next.starts_with("/services/data/v66.0/query/0r8") && next.ends_with("-2000"), "{next}");
    let (records, sizes) = all_pages(&wire, &target).await;
    assert_eq!(sizes, [2_000, 2_000, records.len() - 4_000]);
    let different: HashSet<&str> = records.iter().map(|record| record["Id"].as_str().unwrap()).collect();
    assert_eq!(different.len(), records.len());
    assert_eq!(records.iter().filter(|record| record["IsDeleted"] == true).count(), 20);
    let (live, _) = all_pages(&wire, &soql_target("query", "SELECT Id, IsDeleted FROM Account")).await;
    assert_eq!(live.len(), records.iter().filter(|record| record["IsDeleted"] == false).count());
}

#[tokio::test]
async fn a_page_can_be_fetched_again_and_stays_though_the_org_changes() {
    let wire = Wire::with_rows(&[("Account", 4_500)]).await;
    let first = wire.soql("SELECT Id, Name FROM Account").await.json();
    let next = first["nextRecordsUrl"].as_str().unwrap().to_owned();
    let before = wire.get(&next).await.json();
    for id in ids(&before["records"]).iter().take(20) {
        wire.save(json!([{"op": "hard_delete", "object": "Account", "id": id}])).await;
    }
    assert_eq!(wire.get(&next).await.json(), before);
}

#[tokio::test]
async fn batch_size_is_a_hint_between_200_and_2000() {
    let wire = Wire::with_rows(&[("Account", 5_000)]).await;
    let target = soql_target("query", "SELECT Id FROM Account");
    for (asked, given) in [("batchSize=500", 500), ("batchSize=10", 200), ("batchSize=9000", 2_000)] {
        let page = wire.call("GET", &target, &[("Sforce-Query-Options", asked)], "").await.unwrap().json();
        assert_eq!(page["records"].as_array().unwrap().len(), given, "{asked}");
    }
    wire.control("settings", json!({"pageCap": 150})).await;
    let page =
        wire.call("GET", &target, &[("Sforce-Query-Options", "batchSize=500")], "").await.unwrap().json();
    assert_eq!(page["records"].as_array().unwrap().len(), 150);
}

#[tokio::test]
async fn two_long_texts_make_a_page_of_200() {
    let wire = Wire::start().await;
    let two = wire.soql("SELECT Id, Remarks__c, Terms__c FROM Invoice__c").await.json();
    assert_eq!(two["records"].as_array().unwrap().len(), 200);
    assert_eq!(two["done"], false);
    let one = wire.soql("SELECT Id, Remarks__c FROM Invoice__c").await.json();
    assert_eq!(one["done"], true);
}

#[tokio::test]
async fn a_locator_that_is_unknown_or_expired_is_invalid() {
    let wire = Wire::with_rows(&[("Account", 3_000)]).await;
    let invalid = refusal(400, "INVALID_QUERY_LOCATOR", "invalid query locator");
    for locator in ["0r8000000000000099-2000", "nonsense", "0r8-x"] {
        assert_eq!(wire.get(&format!("query/{locator}")).await.refusal(), invalid);
    }
    let first = wire.soql("SELECT Id FROM Account").await.json();
    let next = first["nextRecordsUrl"].as_str().unwrap().to_owned();
    wire.pass_seconds(2 * 86_400 + 1).await;
    wire.simulator.org().clock().set_rate(0.0);
    assert_eq!(wire.get(&next).await.refusal(), invalid, "locators live two days");
}

#[tokio::test]
async fn thousands_of_rows_in_one_second_cross_page_borders_without_loss() {
    let wire = Wire::with_rows(&[("Invoice__c", 0)]).await;
    let changes: Vec<Json> = (0..5_000)
        .map(|n| json!({"op": "insert", "object": "Invoice__c", "fields": {"Reference__c": n.to_string()}}))
        .collect();
    let saved: HashSet<String> = wire.save(json!(changes)).await.into_iter().collect();
    assert_eq!(saved.len(), 5_000);
    // By locator.
    let soql = "SELECT Id, SystemModstamp FROM Invoice__c ORDER BY SystemModstamp, Id";
    let (records, _) = all_pages(&wire, &soql_target("query", soql)).await;
    assert_eq!(
        records.iter().map(|record| record["Id"].as_str().unwrap().to_owned()).collect::<HashSet<_>>(),
        saved
    );
    assert!(records.iter().all(|record| record["SystemModstamp"] == "2026-05-19T08:30:00.000+0000"));
    // By keyset, each page a query of its own.
    let (mut seen, mut last) = (Vec::new(), String::from("000000000000000"));
    loop {
        let soql = format!(
            "SELECT Id FROM Invoice__c WHERE SystemModstamp > 2026-05-19T08:30:00Z OR \
             (SystemModstamp = 2026-05-19T08:30:00Z AND Id > '{last}') ORDER BY SystemModstamp, Id LIMIT 700"
        );
        let page = ids(&wire.soql(&soql).await.json()["records"]);
        let Some(end) = page.last() else { break };
        last = end.clone();
        seen.extend(page);
    }
    assert_eq!(seen.len(), 5_000);
    assert_eq!(seen.into_iter().collect::<HashSet<_>>(), saved);
}

#[tokio::test]
async fn rows_spell_values_as_rest_does() {
    let wire = Wire::start().await;
    let id = wire
        .save(json!([{"op": "insert", "object": "Account", "fill": false,
            "fields": {"Name": " \"A\", Ltd\r\nNA 😀 ", "AnnualRevenue": 1_200_000}}]))
        .await
        .remove(0);
    let soql = format!(
        "SELECT id, name, AnnualRevenue, BillingAddress, IsDeleted, SystemModstamp, Owner.Name FROM Account WHERE Id = '{id}'"
    );
    let text = wire.soql(&soql).await.text();
    assert!(text.contains(r#""AnnualRevenue":1200000.0"#), "{text}");
    let answer: Json = serde_json::from_str(&text).unwrap();
    let record = &answer["records"][0];
    assert_eq!(
        record["attributes"],
        json!({"type": "Account", "url": format!("/services/data/v66.0/sobjects/Account/{id}")})
    );
    let names: Vec<&String> = record.as_object().unwrap().keys().collect();
    assert_eq!(
        names,
        [
            "attributes",
            "Id",
            "Name",
            "AnnualRevenue",
            "BillingAddress",
            "IsDeleted",
            "SystemModstamp",
            "Owner"
        ]
    );
    assert_eq!(record["Name"], " \"A\", Ltd\r\nNA 😀 ");
    assert_eq!(record["BillingAddress"], Json::Null, "an address of nulls is null, and present");
    assert_eq!(record["SystemModstamp"], "2026-05-19T08:30:00.000+0000");
    assert_eq!(record["Owner"]["attributes"]["type"], "User");
}

#[tokio::test]
async fn blob_urls_name_the_version_of_the_request() {
    let wire = Wire::start().await;
    let target = soql_target("/services/data/v62.0/query", "SELECT Id, Body FROM Attachment LIMIT 1");
    let record = wire.get(&target).await.json()["records"][0].clone();
    let id = record["Id"].as_str().unwrap();
    assert_eq!(record["Body"], format!("/services/data/v62.0/sobjects/Attachment/{id}/Body"));
    let one = wire.get(&format!("/services/data/v64.0/sobjects/Attachment/{id}?fields=Body")).await.json();
    assert_eq!(one["Body"], format!("/services/data/v64.0/sobjects/Attachment/{id}/Body"));
    let many =
        wire.post("composite/sobjects/Attachment", json!({"ids": [id], "fields": ["Body"]})).await.json();
    assert_eq!(many[0]["Body"], format!("/services/data/v66.0/sobjects/Attachment/{id}/Body"));
}

#[tokio::test]
async fn counts_and_empty_answers_have_their_shapes() {
    let wire = Wire::start().await;
    let empty = wire.soql("SELECT Id FROM Account WHERE Name = 'no such name'").await;
    assert_eq!(empty.json(), json!({"totalSize": 0, "done": true, "records": []}));
    let count = wire.soql("SELECT COUNT() FROM Case").await.json();
    assert!(count["totalSize"].as_u64().unwrap() > 0 && count["records"] == json!([]));
}

#[tokio::test]
async fn refusals_carry_salesforces_codes() {
    let wire = Wire::start().await;
    for (soql, code, piece) in [
        ("SELECT Id FROM Accout", "INVALID_TYPE", "sObject type 'Accout' is not supported."),
        ("SELECT Foo__c FROM Account", "INVALID_FIELD", "No such column 'Foo__c' on entity 'Account'."),
        ("SELECT Id, id FROM Account", "INVALID_FIELD", "duplicate field selected: Id"),
        ("SELECT Id FROM", "MALFORMED_QUERY", "unexpected token"),
        ("SELECT Id FROM Account OFFSET 2001", "NUMBER_OUTSIDE_VALID_RANGE", "2000"),
        ("SELECT FIELDS(ALL) FROM Account", "MALFORMED_QUERY", "unbounded set of fields"),
        (
            "SELECT Id FROM ContentDocumentLink",
            "MALFORMED_QUERY",
            "Implementation restriction: ContentDocumentLink requires a filter",
        ),
        (
            "SELECT Id FROM AccountChangeEvent",
            "INVALID_TYPE_FOR_OPERATION",
            "entity type AccountChangeEvent does not support query",
        ),
    ] {
        let (status, found, message) = wire.soql(soql).await.refusal();
        assert_eq!((status, found.as_str()), (400, code), "{soql}: {message}");
        assert!(message.contains(piece), "{soql}: {message}");
    }
}

#[tokio::test]
async fn a_hidden_field_is_as_good_as_none_until_it_shows_again() {
    let wire = Wire::start().await;
    wire.control("fields", json!({"object": "Account", "field": "Phone", "action": "hide"})).await;
    assert_eq!(wire.soql("SELECT Phone FROM Account").await.refusal().1, "INVALID_FIELD");
    wire.control("fields", json!({"object": "Account", "field": "Phone", "action": "show"})).await;
    assert_eq!(wire.soql("SELECT Phone FROM Account").await.status, 200);
}

#[tokio::test]
async fn too_long_a_request_is_414_by_its_url_and_431_with_its_headers() {
    let wire = Wire::start().await;
    let long = |length: usize| format!("SELECT Id FROM Account WHERE Name != '{}'", "x".repeat(length));
    assert_eq!(wire.soql(&long(10_000)).await.status, 200);
    assert_eq!(wire.soql(&long(16_200)).await.status, 431);
    assert_eq!(wire.soql(&long(16_400)).await.status, 414);
}
