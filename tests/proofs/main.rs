//! What the README promises, shown at its size: the release build as a person starts it, a real broker and a real
//! registry, and a judge that shares no code with us (`tests/python/verify_topic.py`).
//!
//! `cargo xtask test` runs them, by `cargo test --release --test proofs`; they take minutes, so that a plain `cargo test`
//! leaves them out.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
#![expect(clippy::print_stderr, reason = "a proof says what it measured")]

mod asked;
mod configurations;
mod crashes;
mod day;
mod late;
mod life;
mod many;
mod million;
mod refreshes;
mod schemas;
#[path = "../support/settling.rs"]
mod settling;
mod stage;
