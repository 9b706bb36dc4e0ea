//! The simulator's Pub/Sub API, held to what Salesforce documents and to what was recorded. Over real sockets, with a
//! client that is nothing but the six calls. The org's clock stands still until a test moves it.

#![expect(clippy::unwrap_used, reason = "a test may stop at what should not be")]

mod channels;
mod client;
mod endings;
mod events;
mod flow;
mod managed;
mod orders;
mod presets;
mod publish;
mod refusals;
mod schemas;
mod speed;
mod tooling;
mod truth;
mod wire;

use std::collections::BTreeMap;

use client::{Client, Stream};
use serde_json::{Value as Json, json};
use sf2kafka_sim::org::{Clock, OrgConfig};
use sf2kafka_sim::pubsub::{Habits, PubSubConfig};
use sf2kafka_sim::{Simulator, SimulatorConfig};

/// 2026-05-19T08:30:00Z
pub const START_MS: i64 = 1_779_179_400_000;

pub struct Bus {
    pub simulator: Simulator,
    pub token: String,
}

impl Bus {
    pub async fn start() -> Bus {
        Bus::with(|_| ()).await
    }

    pub async fn with(change: impl FnOnce(&mut PubSubConfig)) -> Bus {
        let mut org = OrgConfig::default().with_seed(7).with_clock(Clock::stopped_at(START_MS));
        for object in ["Account", "Contact", "Lead", "Case", "Opportunity", "Invoice__c", "AllTypes__c"] {
            org = org.with_rows(object, 40);
        }
        let mut pubsub = PubSubConfig::default();
        change(&mut pubsub);
        let config = SimulatorConfig { org, pubsub, ..SimulatorConfig::default() };
        let simulator = Simulator::start(config).await.unwrap();
        let mut bus = Bus { simulator, token: String::new() };
        bus.token = bus.log_in().await;
        bus
    }

    pub async fn with_habits(change: impl FnOnce(&mut Habits)) -> Bus {
        Bus::with(|config| change(&mut config.habits)).await
    }

    async fn log_in(&self) -> String {
        let form = "grant_type=client_credentials&client_id=simulator-client&client_secret=simulator-secret";
        let answer = wire::post(&self.simulator.origin(), "/services/oauth2/token", form).await;
        answer["access_token"].as_str().unwrap().to_owned()
    }

    pub async fn client(&self) -> Client {
        Client::connect(&self.simulator.pubsub_origin(), self.headers()).await
    }

    pub fn headers(&self) -> BTreeMap<&'static str, String> {
        BTreeMap::from([
            ("accesstoken", self.token.clone()),
            ("instanceurl", self.simulator.origin()),
            ("tenantid", self.simulator.org().organization_id().to_string()),
        ])
    }

    /// A subscription that stands: the first keepalive or event may come now.
    pub async fn subscribe(&self, topic: &str, count: i32) -> Stream {
        let mut stream = self.client().await.subscribe().await.unwrap();
        stream.ask(client::latest(topic, count)).await;
        self.standing(&mut stream).await;
        stream
    }

    /// The position of LATEST is that of the moment when the request is read: waits until a stream more was opened
    /// and its request has been counted.
    async fn standing(&self, stream: &mut Stream) {
        stream.wait_until_standing(self).await;
    }

    pub async fn control(&self, path: &str, body: Json) -> Json {
        wire::post(&self.simulator.origin(), &format!("/simulator/{path}"), &body.to_string()).await
    }

    pub async fn control_get(&self, path: &str) -> Json {
        wire::get(&self.simulator.origin(), &format!("/simulator/{path}"), None).await
    }

    /// A data resource, with the session.
    pub async fn rest(&self, target: &str) -> Json {
        let target = format!("/services/data/v66.0/{target}");
        wire::get(&self.simulator.origin(), &target, Some(&self.token)).await
    }

    /// Saves changes in one transaction; the records' ids.
    pub async fn save(&self, changes: Json) -> Vec<String> {
        let receipts = self.control("transactions", json!({"changes": changes})).await;
        let ids = receipts[0]["ids"].as_array().unwrap_or_else(|| panic!("{receipts}"));
        ids.iter().map(|id| id.as_str().unwrap().to_owned()).collect()
    }

    pub fn first_id(&self, object: &str) -> String {
        let rows = self.simulator.org().truth_rows(object).unwrap();
        let row = rows.into_iter().next().unwrap();
        row["Id"].as_str().unwrap().to_owned()
    }
}
