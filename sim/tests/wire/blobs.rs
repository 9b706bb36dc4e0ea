//! Blobs by their URLs: raw bytes, and the refusals in their place.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};
use sf2kafka_sim::org::Id;

use crate::client::{self, Answer};
use crate::{DATA, Wire, ids};

async fn truth(wire: &Wire, object: &str, id: &str, field: &str) -> Answer {
    let target = format!("/simulator/blob/{object}/{id}/{field}");
    client::send(wire.address(), "GET", &target, &[], b"").await.unwrap()
}

#[tokio::test]
async fn a_blobs_url_gives_its_bytes_and_its_record_tells_how_many() {
    let wire = Wire::with_rows(&[("Attachment", 200)]).await;
    let page = wire.soql("SELECT Id, Body, BodyLength FROM Attachment").await.json();
    let records = page["records"].as_array().unwrap();
    let (mut empty, mut pages, mut large) = (0, 0, 0);
    for record in records {
        let (id, url) = (record["Id"].as_str().unwrap(), record["Body"].as_str().unwrap());
        let answer = wire.get(url).await;
        assert_eq!((answer.status, answer.body.len() as u64), (200, record["BodyLength"].as_u64().unwrap()));
        assert!(answer.header("sforce-limit-info").is_some(), "a call as any other");
        assert_eq!(answer.body, truth(&wire, "Attachment", id, "Body").await.body);
        let org = wire.simulator.org();
        assert_eq!(
            org.truth_blob("Attachment", Id::parse(id).unwrap(), "Body"),
            Ok(Some(answer.body.clone()))
        );
        empty += usize::from(answer.body.is_empty());
        large += usize::from(answer.body.len() > 3_001);
        if answer.header("content-type") == Some("text/html") {
            pages += 1;
            assert!(answer.body.starts_with(b"<html"));
        }
    }
    assert!(empty > 3 && pages > 3 && large > 3, "{empty} {pages} {large}");
}

#[tokio::test]
async fn what_is_saved_as_base64_comes_back_as_bytes_and_another_save_leaves_it() {
    let wire = Wire::start().await;
    let record = wire.soql("SELECT Id, Body FROM Attachment LIMIT 1").await.json()["records"][0].clone();
    let (id, url) = (record["Id"].as_str().unwrap(), record["Body"].as_str().unwrap());
    let set = |fields: Json| json!([{"op": "update", "object": "Attachment", "id": id, "fields": fields}]);
    let bytes = b"\x00\xffraw";
    wire.save(set(json!({"Body": STANDARD.encode(bytes)}))).await;
    wire.save(set(json!({"Name": "renamed"}))).await;
    let one = format!("sobjects/Attachment/{id}?fields=Body,BodyLength");
    let seen = wire.get(&one).await.json();
    assert_eq!((&seen["Body"], &seen["BodyLength"]), (&json!(url), &json!(bytes.len())));
    assert_eq!(wire.get(url).await.body, bytes);
    wire.save(set(json!({"Body": ""}))).await;
    let seen = wire.get(&one).await.json();
    assert_eq!((&seen["Body"], &seen["BodyLength"]), (&Json::Null, &Json::Null));
    assert_eq!(wire.get(url).await.status, 404);
    let wrong = json!([{"op": "update", "object": "Attachment", "id": id, "fields": {"Body": "no base64!"}}]);
    let target = "/simulator/transactions";
    let body = json!({"changes": wrong}).to_string();
    let refused = client::send(wire.address(), "POST", target, &[], body.as_bytes()).await.unwrap();
    assert_eq!(refused.status, 400);
}

#[tokio::test]
async fn a_blob_that_is_not_there_is_404_and_no_composite_call_brings_one() {
    let wire = Wire::start().await;
    let found = ids(&wire.soql("SELECT Id FROM Attachment LIMIT 2").await.json()["records"]);
    let blob = |id: &str, field: &str| format!("sobjects/Attachment/{id}/{field}");
    let refusal = |answer: Answer| (answer.status, answer.refusal().1);
    for target in [blob(&found[0], "Name"), blob(&found[0], "Nope"), blob("00P5g00000zzzzzAAA", "Body")] {
        assert_eq!(refusal(wire.get(&target).await), (404, "NOT_FOUND".to_owned()), "{target}");
    }
    wire.save(json!([{"op": "delete", "object": "Attachment", "id": found[1]}])).await;
    let gone = wire.get(&blob(&found[1], "Body")).await;
    assert_eq!(refusal(gone), (404, "ENTITY_IS_DELETED".to_owned()));
    assert_eq!(truth(&wire, "Attachment", &found[1], "Body").await.status, 404);

    let url = format!("{DATA}/{}", blob(&found[0], "Body"));
    let unknown = client::send(wire.address(), "GET", &url, &[], b"").await.unwrap();
    assert_eq!(refusal(unknown), (401, "INVALID_SESSION_ID".to_owned()));
    let part = json!({"method": "GET", "url": url, "referenceId": "a"});
    let answer = wire.post("composite", json!({"compositeRequest": [part]})).await.json();
    let part = &answer["compositeResponse"][0];
    assert_eq!(
        (&part["httpStatusCode"], &part["body"][0]["errorCode"]),
        (&json!(400), &json!("INVALID_URL"))
    );
}

#[tokio::test]
async fn a_null_blob_has_neither_url_nor_bytes() {
    let wire = Wire::with_rows(&[("AllTypes__c", 300)]).await;
    let page = wire.soql("SELECT Id, Blob__c FROM AllTypes__c").await.json();
    let (nulls, others): (Vec<&Json>, Vec<&Json>) =
        page["records"].as_array().unwrap().iter().partition(|record| record["Blob__c"].is_null());
    assert!(nulls.len() > 3 && others.len() > 3);
    for (records, status) in [(nulls, 404), (others, 200)] {
        for record in records {
            let id = record["Id"].as_str().unwrap();
            assert_eq!(wire.get(&format!("sobjects/AllTypes__c/{id}/Blob__c")).await.status, status);
            assert_eq!(truth(&wire, "AllTypes__c", id, "Blob__c").await.status, status);
        }
    }
}
