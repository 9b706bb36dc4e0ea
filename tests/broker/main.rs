//! What only a real broker and a real registry can judge. `cargo xtask test` starts both.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod blobs;
mod budget;
mod clouds;
mod commands;
mod control;
mod evolution;
mod fault_matrix;
mod hidden;
#[path = "../support/json_schema.rs"]
mod json_schema;
mod kafka_faults;
mod logins;
mod member;
mod outage;
mod plan;
mod platform_events;
mod publishing;
mod registry;
mod registry_outage;
mod restarts;
mod roads;
mod salesforce_faults;
mod schemas;
mod secrecy;
mod services;
#[path = "../support/settling.rs"]
mod settling;
mod stage;
mod subscription;
mod values;
