//! The simulator on the wire, held to what Salesforce documents and to what public clients rely on. Over real sockets,
//! with a client that hides nothing. The org's clock stands still until a test moves it.

#![expect(clippy::unwrap_used, reason = "a test may stop at what should not be")]

mod authorize;
mod blobs;
mod bulk;
mod client;
mod control;
mod csv;
mod faults;
mod grants;
mod late;
mod logins;
mod queries;
mod resources;

use std::net::SocketAddr;

use client::Answer;
use serde_json::{Value as Json, json};
use sf2kafka_sim::org::{Clock, OrgConfig};
use sf2kafka_sim::{Simulator, SimulatorConfig};

/// 2026-05-19T08:30:00Z
pub const START_MS: i64 = 1_779_179_400_000;
pub const DATA: &str = "/services/data/v66.0";

pub struct Wire {
    pub simulator: Simulator,
    pub token: String,
}

impl Wire {
    pub async fn start() -> Wire {
        Wire::with_rows(&[]).await
    }

    pub async fn with_rows(rows: &[(&str, u64)]) -> Wire {
        let mut org = OrgConfig::default().with_seed(7).with_clock(Clock::stopped_at(START_MS));
        for (object, rows) in rows {
            org = org.with_rows(object, *rows);
        }
        let simulator =
            Simulator::start(SimulatorConfig { org, ..SimulatorConfig::default() }).await.unwrap();
        let mut wire = Wire { simulator, token: String::new() };
        // A job is done when it is asked for, unless a test says otherwise.
        wire.control("settings", json!({"jobDelayMillis": 0})).await;
        wire.token = wire.log_in().await;
        wire
    }

    pub fn address(&self) -> SocketAddr {
        self.simulator.origin().strip_prefix("http://").unwrap().parse().unwrap()
    }

    pub async fn log_in(&self) -> String {
        let form = "grant_type=client_credentials&client_id=simulator-client&client_secret=simulator-secret";
        let answer = self.token_call(form).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["access_token"].as_str().unwrap().to_owned()
    }

    pub async fn token_call(&self, form: &str) -> Answer {
        let kind = ("content-type", "application/x-www-form-urlencoded");
        client::send(self.address(), "POST", "/services/oauth2/token", &[kind], form.as_bytes())
            .await
            .unwrap()
    }

    /// With a session; a target that begins with a slash is taken as it is, any other lies under `DATA`.
    pub async fn call(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Option<Answer> {
        let token = format!("Bearer {}", self.token);
        let mut all = vec![("authorization", token.as_str())];
        all.extend_from_slice(headers);
        let target = if target.starts_with('/') { target.to_owned() } else { format!("{DATA}/{target}") };
        client::send(self.address(), method, &target, &all, body.as_bytes()).await
    }

    pub async fn get(&self, target: &str) -> Answer {
        self.call("GET", target, &[], "").await.unwrap()
    }

    pub async fn post(&self, target: &str, body: Json) -> Answer {
        let kind = ("content-type", "application/json");
        self.call("POST", target, &[kind], &body.to_string()).await.unwrap()
    }

    pub async fn soql(&self, soql: &str) -> Answer {
        self.get(&soql_target("query", soql)).await
    }

    pub async fn control(&self, path: &str, body: Json) -> Json {
        let target = format!("/simulator/{path}");
        let answer =
            client::send(self.address(), "POST", &target, &[], body.to_string().as_bytes()).await.unwrap();
        assert_eq!(answer.status, 200, "{path} {body}: {}", answer.text());
        answer.json()
    }

    /// Saves changes in one transaction; the records' ids.
    pub async fn save(&self, changes: Json) -> Vec<String> {
        let receipts = self.control("transactions", json!({"changes": changes})).await;
        strings(&receipts[0]["ids"])
    }

    pub async fn pass_seconds(&self, seconds: u64) {
        self.control("clock", json!({"advanceSeconds": seconds})).await;
    }
}

pub fn soql_target(kind: &str, soql: &str) -> String {
    let encoded: String = url::form_urlencoded::byte_serialize(soql.as_bytes()).collect();
    format!("{kind}?q={encoded}")
}

pub fn strings(list: &Json) -> Vec<String> {
    list.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
}

pub fn ids(records: &Json) -> Vec<String> {
    records.as_array().unwrap().iter().map(|record| record["Id"].as_str().unwrap().to_owned()).collect()
}

pub fn refusal(status: u16, code: &str, message: &str) -> (u16, String, String) {
    (status, code.to_owned(), message.to_owned())
}
