//! The demo's Salesforce: the simulator in this process, with one or two objects of each cloud and a custom one.
//!
//! Comes in: a row count. Goes out: an origin on loopback, changes in the org, and the truth about its records. The pipeline
//! speaks with it over HTTP like with any org; only the demo itself looks behind the door.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ::simulator::org::{Mix, OrgConfig, Traffic, TrafficConfig};
use ::simulator::{Simulator, SimulatorConfig};
use serde_json::{Map, Value};
use url::Url;

use crate::config::{Auth, PubsubSettings, Secret};
use crate::error::Kind;
use crate::{Error, Result};

/// Cloud and object.
pub(super) const OBJECTS: [(&str, &str); 7] = [
    ("Sales Cloud", "Account"),
    ("Sales Cloud", "Opportunity"),
    ("Service Cloud", "Case"),
    ("Marketing Cloud Connect", "et4ae5__IndividualEmailResult__c"),
    ("Commerce Cloud", "Order"),
    ("Commerce Cloud", "WebCart"),
    ("custom", "Invoice__c"),
];

pub(super) struct Practice {
    simulator: Simulator,
    origin: Url,
    auth: Auth,
    traffic: Mutex<Traffic>,
}

impl Practice {
    pub async fn open(rows: u64) -> Result<Self> {
        let config =
            OBJECTS.iter().fold(OrgConfig::default(), |config, (_, object)| config.with_rows(object, rows));
        let config = SimulatorConfig { org: config, ..SimulatorConfig::default() };
        let auth = Auth::ClientCredentials {
            client_id: config.client_id.clone(),
            client_secret: Secret::new(config.client_secret.clone()),
        };
        let simulator = Simulator::start(config).await.map_err(|error| {
            Error::new(Kind::Internal, "the practice Salesforce cannot listen").source(error)
        })?;
        let origin = Url::parse(&simulator.origin()).map_err(|error| {
            Error::new(Kind::Internal, "the practice Salesforce has no address").source(error)
        })?;
        let org = simulator.org();
        let traffic = TrafficConfig {
            objects: OBJECTS.iter().map(|(_, object)| (*object).to_owned()).collect(),
            // Records that are gone for good are found at most every minute: too slow for a show. Saves that only move
            // SystemModstamp make no event at all.
            mix: Mix { hard_delete: 0, touch: 0, ..Mix::default() },
            largest_transaction: 4,
            // Now and then a transaction is seen some seconds after the time it is stamped with.
            lagging_one_in: 8,
            largest_lag: Duration::from_secs(4),
            ..TrafficConfig::default()
        };
        let traffic = Traffic::new(org, traffic).map_err(unknown)?;
        Ok(Self { origin, auth, traffic: Mutex::new(traffic), simulator })
    }

    pub fn origin(&self) -> &Url {
        &self.origin
    }

    /// Where its Pub/Sub API listens.
    pub fn pubsub(&self) -> PubsubSettings {
        let endpoint = self.simulator.pubsub_origin().trim_start_matches("http://").to_owned();
        PubsubSettings { endpoint, tls: false }
    }

    pub fn auth(&self) -> Auth {
        self.auth.clone()
    }

    pub async fn close(self) {
        self.simulator.shutdown().await;
    }

    /// Saves transactions at this pace, for ever.
    pub async fn change(&self, pace: Duration) {
        let mut ticks = tokio::time::interval(pace);
        loop {
            ticks.tick().await;
            // None: this draw did not fit the org as it is; the next may.
            let _ = self.traffic.lock().unwrap_or_else(PoisonError::into_inner).save_one(4);
        }
    }

    /// Every live record, in full.
    pub fn truth(&self, object: &str) -> Result<impl Iterator<Item = Map<String, Value>>> {
        self.simulator.org().truth_rows(object).map_err(unknown)
    }

    /// Whether a change of the field shows in the record's stamp. Formula fields move with what they are made of, and the
    /// two view dates with every look: they are published with the next change.
    pub fn has_stamp(&self, object: &str, field: &str) -> bool {
        if matches!(field, "LastViewedDate" | "LastReferencedDate") {
            return false;
        }
        let Ok(object) = self.simulator.org().object(object) else { return true };
        object.field(field).is_none_or(|(_, field)| field.formula.is_none())
    }
}

fn unknown(error: simulator::org::OrgError) -> Error {
    Error::new(Kind::Internal, "the practice org lacks an object of the demo").source(error)
}
