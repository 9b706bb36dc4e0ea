//! Settings and secrets, as the rest of the program sees them.
//!
//! Comes in: a YAML file, environment, secret files. Goes out: [`Settings`], checked. Never: a secret in a message.
//! [`load`] goes through `tree` (YAML with positions), `reader` (one key after the other), `file`, `connection`,
//! `login`, `registry`, `objects`, `condition`, `clouds`, `platform_events` (what each key means).

mod authorities;
mod client_certificate;
mod clouds;
mod condition;
mod connection;
mod duration;
mod file;
mod login;
mod objects;
mod origin;
mod platform_events;
mod reader;
mod registry;
pub mod secret;
pub mod settings;
mod substitute;
#[cfg(test)]
mod tests;
mod tree;

pub use authorities::Authorities;
pub use client_certificate::ClientCertificate;
pub use clouds::Cloud;
pub use connection::OWN_PROPERTIES;
pub use duration::parse as parse_duration;
pub use file::load;
pub use login::key_bytes;
pub use objects::{is_glob, matches_object};
pub use registry::{Compatibility, RegistrySettings, SubjectNaming};
pub use secret::Secret;
pub use settings::*;
