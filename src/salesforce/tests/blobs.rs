//! The bytes of one field: what is one of them and what is not, and no more than wanted.

use super::*;
use crate::salesforce::Blob;
use crate::salesforce::scripted::{Org, refuse};

const PATH: &str = "/services/data/v65.0/sobjects/Attachment/00PA/Body";
const WHAT: &str = "object Attachment: field Body";

fn raw(body: &[u8]) -> Reply {
    reply(200, body)
        .with("content-type", "application/octetstream")
        .with("sforce-limit-info", "api-usage=1/100")
}

#[tokio::test]
async fn a_web_page_that_somebody_keeps_is_bytes_and_one_from_in_between_is_none() {
    let org = Org::start().await;
    let kept = raw(b"<html>kept</html>").with("content-type", "text/html");
    let mut from_between = reply(200, "<html>Anna, please log in</html>");
    from_between = from_between.with("content-type", "text/html");
    org.on("/Body", [from_between.clone(), kept, raw(b""), from_between]);
    let client = org.client().await;
    assert_eq!(client.blob(PATH, 100, WHAT).await.unwrap(), Blob::Bytes((&b"<html>kept</html>"[..]).into()));
    assert_eq!(client.blob(PATH, 100, WHAT).await.unwrap(), Blob::Bytes(Vec::new().into()));
    let error = client.blob(PATH, 100, WHAT).await.unwrap_err();
    assert_eq!(error.kind(), Kind::ReplyUnreadable);
    assert!(!error.report().contains("Anna"));
}

#[tokio::test]
async fn no_more_is_read_than_is_wanted_and_what_is_cut_is_asked_for_again() {
    let org = Org::start().await;
    let large = vec![7; 1_000_000];
    // Who reads it to its end finds it broken.
    org.on("/Body", [raw(&large).cut_at(900_000), raw(b"12345").cut_at(2), raw(b"12345")]);
    let client = org.client().await;
    assert_eq!(client.blob(PATH, 999_999, WHAT).await.unwrap(), Blob::TooLarge);
    assert_eq!(client.blob(PATH, 5, WHAT).await.unwrap(), Blob::Bytes((&b"12345"[..]).into()));
    assert_eq!(client.blob(PATH, 4, WHAT).await.unwrap(), Blob::TooLarge);
    assert_eq!(org.requests("/Body").len(), 4);
}

#[tokio::test]
async fn what_is_not_there_is_missing_and_a_path_elsewhere_is_not_gone_to() {
    let org = Org::start().await;
    org.on(
        "/Body",
        [
            refuse(404, "NOT_FOUND", "The requested resource does not exist"),
            refuse(404, "ENTITY_IS_DELETED", "entity is deleted"),
        ],
    );
    let client = org.client().await;
    let sentence = "object Attachment: field Body: Salesforce answered 404 NOT_FOUND: The requested resource does not exist";
    assert_reads(&client.blob(PATH, 9, WHAT).await.unwrap_err(), Kind::BlobMissing, sentence);
    assert_eq!(client.blob(PATH, 9, WHAT).await.unwrap_err().kind(), Kind::BlobMissing);
    let before = org.requests("").len();
    for path in ["@evil.example/services/data/v65.0/x", "https://evil.example/x", "Body", "/other/x", ""] {
        let error = client.blob(path, 9, WHAT).await.unwrap_err();
        assert_reads(
            &error,
            Kind::ValueUnfit,
            "object Attachment: field Body: a blob's value is no path of the REST API",
        );
    }
    assert_eq!(org.requests("").len(), before, "nobody gets to see the token");
}
