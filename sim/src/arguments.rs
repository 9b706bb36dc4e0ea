//! What the simulator is started with, for its own binary and for whoever embeds it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use clap::Args;

use crate::http::SimulatorConfig;
use crate::org::{Clock, OrgConfig};
use crate::pubsub::{PubSubConfig, TlsConfig};

#[derive(Args, Clone, Debug)]
pub struct SimulatorArgs {
    /// Port on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 8099)]
    pub port: u16,
    /// Port of the Pub/Sub API on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    pub grpc_port: u16,
    /// The Pub/Sub API behind TLS, with a certificate made at each start: `GET /simulator/pubsub/certificate`
    #[arg(long)]
    pub grpc_tls: bool,
    /// More names for that certificate
    #[arg(long, value_delimiter = ',', requires = "grpc_tls")]
    pub grpc_tls_names: Vec<String>,
    /// Objects selected for Change Data Capture: Account,Invoice__c
    #[arg(long, value_delimiter = ',')]
    pub capture: Vec<String>,
    /// The same seed makes the same org
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Records by object: Account=1000,Contact=500
    #[arg(long, value_delimiter = ',', value_parser = object_rows)]
    pub rows: Vec<(String, u64)>,
    /// So many more custom objects, Bulk0001__c and so on: an org of a thousand
    #[arg(long, default_value_t = 0)]
    pub custom_objects: u16,
    /// How many seconds pass in the org for one of ours
    #[arg(long, default_value_t = 1.0)]
    pub clock_rate: f64,
    /// Records that share one second of the cursor field
    #[arg(long, default_value_t = 40)]
    pub same_second: u64,
}

fn object_rows(text: &str) -> Result<(String, u64), String> {
    let (object, rows) = text.split_once('=').ok_or("give OBJECT=ROWS")?;
    let rows = rows.replace('_', "").parse().map_err(|_| format!("{rows} is not a number of rows"))?;
    Ok((object.to_owned(), rows))
}

impl SimulatorArgs {
    pub fn config(&self) -> SimulatorConfig {
        let clock = Clock::real();
        clock.set_rate(self.clock_rate);
        let org = OrgConfig {
            seed: self.seed,
            rows: self.rows.iter().cloned().collect(),
            clock,
            same_second_group: self.same_second.max(1),
            ..OrgConfig::default()
        }
        .with_custom_objects(self.custom_objects);
        let mut pubsub = PubSubConfig {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), self.grpc_port),
            tls: self.grpc_tls.then(|| TlsConfig::SelfSigned { names: self.grpc_tls_names.clone() }),
            ..PubSubConfig::default()
        };
        if !self.capture.is_empty() {
            pubsub.selected = self.capture.clone();
        }
        SimulatorConfig {
            pubsub,
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), self.port),
            org,
            ..SimulatorConfig::default()
        }
    }
}
