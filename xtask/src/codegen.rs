//! `cargo xtask codegen`: Rust made anew from `proto/`, to be checked in.
//!
//! In: the protocol definition. Out: the client's and the simulator's file. It needs crates that nothing else of the
//! workspace needs, so it is built only with `--features codegen`; CI compares nothing, for what is checked in is
//! compiled and tested like all other code.

use std::path::Path;
use std::process::Command;

use crate::failure::{Failure, Result};
use crate::{child, place};

const PROTO: &str = "pubsub_api.proto";

pub fn run() -> Result<()> {
    let root = place::root();
    let proto = root.join("proto");
    let definition = protox::compile([PROTO], [&proto])
        .map_err(|error| Failure::new(format!("proto/{PROTO} is not a definition: {error}")))?;
    for (folder, server) in [("src/salesforce/pubsub", false), ("sim/src/pubsub", true)] {
        let folder = root.join(folder);
        std::fs::create_dir_all(&folder)
            .and_then(|()| generate(&definition, &folder, server))
            .map_err(|error| Failure::new(format!("{} cannot be written: {error}", folder.display())))?;
        let mut format = Command::new("rustfmt");
        format.args(["--edition", "2024"]).arg(folder.join("eventbus.rs"));
        child::run_quietly("rustfmt", &mut format)?;
    }
    Ok(())
}

fn generate(definition: &prost_types::FileDescriptorSet, folder: &Path, server: bool) -> std::io::Result<()> {
    tonic_prost_build::configure()
        .build_client(!server)
        .build_server(server)
        .build_transport(false)
        .out_dir(folder)
        .compile_fds(definition.clone())?;
    std::fs::rename(folder.join("eventbus.v1.rs"), folder.join("eventbus.rs"))
}
