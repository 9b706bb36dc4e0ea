//! Where things are: the checkout, its target directory and what xtask keeps in there.
//!
//! In: cargo's environment. Out: absolute paths, so that several checkouts never share a file.
//! Never creates anything.

use std::path::{Path, PathBuf};

/// The checkout that this xtask was built from.
pub fn root() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest)
}

/// Cargo's target directory; `CARGO_TARGET_DIR` is honoured as cargo does.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(given) if !given.is_empty() => root().join(given),
        _ => root().join("target"),
    }
}

/// Broker, registry, their data and logs.
pub fn kafka() -> PathBuf {
    target().join("kafka")
}

/// Virtual environments and node modules.
pub fn tools() -> PathBuf {
    target().join("tools")
}
