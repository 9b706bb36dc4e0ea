//! A day of the org's allowance, lived in two minutes: 1,000 calls for thirty objects that change all the time.
//!
//! The simulator's own counter is the judge: in no stretch of a day it counts more calls than the budget has. Beside
//! that every object is loaded, and what changes in Salesforce is published within a bound, from the first hour of
//! the day to the last.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use sf2kafka::pipeline::{self, Options};
use sf2kafka::publish::TopicAdmin;
use sf2kafka::status::{Board, Phase};
use simulator::SimulatorConfig;
use simulator::org::{OrgConfig, Traffic, TrafficConfig};
use tokio_util::sync::CancellationToken;

use crate::stage::{Stage, seed};

const BUDGET: u64 = 1_000;
/// A day, and how much longer the run is: what was spent in its first hours may be spent again.
const DAY: Duration = Duration::from_secs(120);
const RUN: Duration = Duration::from_secs(144);
/// Seconds of the org in one of ours.
const RATE: f64 = 86_400.0 / 120.0;
/// A change is published within eight hours of that day: without a pace the calls would be gone after minutes, and none
/// would come back before the day is over.
const BOUND: Duration = Duration::from_secs(8 * 60 * 60);
/// A day's first hours are the loads'.
const LOADED_WITHIN: Duration = Duration::from_secs(84);

const OBJECTS: [&str; 30] = [
    "Account",
    "Contact",
    "Lead",
    "Opportunity",
    "Case",
    "Invoice__c",
    "Campaign",
    "CampaignMember",
    "Contract",
    "Order",
    "OrderItem",
    "Product2",
    "Pricebook2",
    "PricebookEntry",
    "Task",
    "Event",
    "User",
    "Quote",
    "QuoteLineItem",
    "OpportunityLineItem",
    "OpportunityContactRole",
    "AccountContactRole",
    "Asset",
    "CaseComment",
    "Entitlement",
    "ServiceContract",
    "WorkOrder",
    "WorkOrderLineItem",
    "Group",
    "Individual",
];

async fn counters(stage: &Stage) -> BTreeMap<String, u64> {
    let url = format!("{}/counters", stage.simulator.control_url());
    let counters: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
    let counters = counters.as_object().unwrap().iter();
    counters.filter_map(|(kind, count)| Some((kind.clone(), count.as_u64()?))).collect()
}
