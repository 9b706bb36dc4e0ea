//! `sf2kafka simulator`: the practice Salesforce alone, for development, tests and the compose file.
//!
//! Comes in: its own arguments, signals. Goes out: its addresses as `NAME=value` lines on stdout, for scripts. It holds nothing
//! that outlives it, and listens on loopback only.

use ::simulator::{Simulator, SimulatorArgs};
use clap::Args;

use super::{Outcome, block_on, output, stop};
use crate::error::Kind;
use crate::{Error, Result};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    simulator: SimulatorArgs,
}

pub(super) fn run(arguments: &Arguments) -> Result<Outcome> {
    block_on(async {
        let stop = stop::on_signals()?;
        let simulator = Simulator::start(arguments.simulator.config()).await.map_err(|error| {
            let (port, grpc_port) = (arguments.simulator.port, arguments.simulator.grpc_port);
            let ports = format!("the simulator cannot listen on ports {port} and {grpc_port}");
            Error::new(Kind::Usage, ports)
                .source(error)
                .hint("choose others with `--port` and `--grpc-port`; 0 takes a free one")
        })?;
        output::data(&format!("SIMULATOR_URL={}", simulator.origin()));
        output::data(&format!("SIMULATOR_CONTROL_URL={}", simulator.control_url()));
        output::data(&format!("SIMULATOR_PUBSUB={}", simulator.pubsub_authority()));
        stop.cancelled().await;
        simulator.shutdown().await;
        Ok(Outcome::Done)
    })
}
