//! The simulator by itself: `cargo run -p sf2kafka-sim -- --port 8099 --rows Account=1000`.

use std::process::ExitCode;

use clap::Parser;
use sf2kafka_sim::{Simulator, SimulatorArgs};

#[derive(Parser)]
#[command(name = "sf2kafka-sim", about = "A Salesforce to practise on, on loopback")]
struct Command {
    #[command(flatten)]
    arguments: SimulatorArgs,
}

#[tokio::main]
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the command's own output")]
async fn main() -> ExitCode {
    let command = Command::parse();
    let simulator = match Simulator::start(command.arguments.config()).await {
        Ok(simulator) => simulator,
        Err(error) => {
            eprintln!("error: the simulator cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("SIMULATOR_URL={}", simulator.origin());
    println!("SIMULATOR_CONTROL_URL={}", simulator.control_url());
    println!("SIMULATOR_PUBSUB={}", simulator.pubsub_authority());
    // Without signals it runs until it is killed.
    let _ = tokio::signal::ctrl_c().await;
    simulator.shutdown().await;
    ExitCode::SUCCESS
}
