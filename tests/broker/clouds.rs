//! All starter selections at once, as somebody begins who only writes `clouds`.
//!
//! In: an org with objects of every cloud, of which one cannot be queried and one refuses its queries. Out: the independent
//! consumer's verdict on the topic of every object that the documentation promises and the org has; what is said of the rest.

use std::collections::BTreeSet;

use serde_json::json;
use simulator::catalog::ObjectDef;
use tokio::task::JoinSet;

use crate::stage::{Setup, Stage};

/// Judges at a time.
const JUDGES: usize = 4;
/// Of Marketing Cloud Connect, by the glob of `marketing`.
const CONNECT: [&str; 4] = [
    "et4ae5__Business_Unit__c",
    "et4ae5__Configuration__c",
    "et4ae5__IndividualEmailResult__c",
    "et4ae5__SendDefinition__c",
];
const CLOSED: &str = "et4ae5__Closed__c";
const REFUSED: &str = "GroupMember";

const ROWS: &[(&str, u64)] = &[
    ("Account", 60),
    ("Campaign", 20),
    ("CampaignMember", 40),
    ("CartDeliveryGroup", 20),
    ("CartItem", 40),
    ("Case", 50),
    ("CaseComment", 40),
    ("CaseHistory", 30),
    ("Contact", 60),
    ("EmailMessage", 40),
    ("Entitlement", 20),
    ("Event", 30),
    ("KnowledgeArticleVersion", 30),
    ("Lead", 40),
    ("Opportunity", 50),
    ("OpportunityHistory", 30),
    ("OpportunityLineItem", 40),
    ("Order", 40),
    ("OrderItem", 40),
    ("PricebookEntry", 40),
    ("Product2", 30),
    ("Task", 40),
    ("WebCart", 30),
    ("WorkOrder", 30),
    ("et4ae5__IndividualEmailResult__c", 60),
    ("et4ae5__SendDefinition__c", 40),
];

/// What the documentation promises, without globs.
fn documented() -> BTreeSet<&'static str> {
    let page = include_str!("../../docs/configuration.md");
    let rows = ["sales", "service", "marketing", "commerce"].map(|cloud| {
        let row = page.lines().find(|line| line.starts_with(&format!("| {cloud} | `"))).unwrap();
        row.split('`').skip(1).step_by(2).collect::<Vec<_>>()
    });
    rows.into_iter().flatten().filter(|name| !name.contains('*')).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn four_clouds_are_captured_as_far_as_the_org_has_them_and_what_cannot_be_is_told_and_stops_nothing() {
    let stage = Stage::of(Setup { rows: ROWS, ..Setup::new("CLOUDS") }).await;
    stage.rewrite("objects: CLOUDS", "clouds: [ sales, service, marketing, commerce ]");
    stage.rewrite("auth: client", "budget: { daily_share: 1.0, per_second: 1000 }, auth: client");
    let org = stage.simulator.org();
    let template = org.object("Invoice__c").unwrap();
    let mut flags = template.flags;
    flags.queryable = false;
    org.add_object(ObjectDef::new(CLOSED, *b"a9C", flags, template.all_fields().to_vec()), 0).unwrap();
    let refusal = json!([{
        "message": "Implementation restriction: GroupMember requires a filter by a single Id",
        "errorCode": "MALFORMED_QUERY",
    }]);
    let headers = json!([["content-type", "application/json"]]);
    let refusal = json!({"respond": {"status": 400, "body": refusal.to_string(), "headers": headers}});
    stage.fault(&format!(" FROM {REFUSED}"), 0, 1_000, refusal).await;

    let words = stage.completes().await;

    let documented = documented();
    let (mut there, absent): (BTreeSet<&str>, BTreeSet<&str>) =
        documented.into_iter().partition(|name| org.object(name).is_ok());
    there.extend(CONNECT);
    assert!(there.len() >= 30 && there.remove(REFUSED), "{there:?}");
    let said = |what: &str, object: &str| {
        let line = words.lines().find(|line| {
            line.contains(what)
                && (line.contains(&format!("object={object} "))
                    || line.contains(&format!("object=\"{object}\"")))
        });
        line.unwrap_or_else(|| panic!("not said of {object}: {what}\n{words}")).to_owned()
    };
    assert!(said("object left out", CLOSED).contains("does not answer queries on it"), "{words}");
    assert!(said("object left out", REFUSED).contains("requires a filter by a single Id"), "{words}");
    let told = words.lines().find(|line| line.contains("of `clouds`, the org does not have these")).unwrap();
    let (_, told) = told.split_once("objects=").unwrap();
    assert_eq!(told.trim().trim_matches('"').split(", ").collect::<BTreeSet<_>>(), absent);
    assert!(!words.contains("ERROR"), "{words}");

    let mut waiting: Vec<String> = there.iter().map(|name| (*name).to_owned()).collect();
    let stage = std::sync::Arc::new(stage);
    let (mut judges, mut rows) = (JoinSet::new(), 0);
    while !waiting.is_empty() || !judges.is_empty() {
        while judges.len() < JUDGES
            && let Some(object) = waiting.pop()
        {
            let stage = stage.clone();
            judges.spawn(async move {
                let report = stage.equals_the_org(&object).await;
                assert_eq!(report["truth"]["fields_only_in_truth"], json!([]), "{report}");
                assert_eq!(report["operations"], json!({"R": stage.rows(&object)}), "{report}");
                stage.rows(&object)
            });
        }
        rows += judges.join_next().await.unwrap().unwrap();
    }
    eprintln!("{} objects, {rows} rows; {} of `clouds` are not in the org", there.len(), absent.len());
    assert!(rows > 800, "{rows}");
}
