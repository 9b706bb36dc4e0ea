//! The wire room: everything that is said to Salesforce, and nothing of Kafka or of our Avro.
//!
//! Comes in: settings, descriptions, statements. Goes out: descriptions made from describes, and rows. A
//! [`Client`] is one login and one [`Purpose`]; cloning is cheap and shares login, allowance and counters. Every
//! call goes through the allowance (`allowance`), the session (`session`) and one classification of answers
//! (`fault`): what can be waited for is waited for here, bounded by the client's [`Pace`].

mod allowance;
pub mod blob;
pub mod bulk;
pub mod client;
mod clock;
mod company;
mod copying;
mod csv;
pub mod deleted;
pub mod describe;
mod describing;
pub mod discover;
#[cfg(test)]
pub mod doors;
mod fault;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod identity;
mod login;
mod maintenance;
mod page;
pub mod pubsub;
pub mod query;
mod restrictions;
pub mod retrieve;
#[cfg(test)]
pub mod scripted;
mod session;
pub mod soql;
pub mod survey;
#[cfg(test)]
mod tests;
mod text_types;
mod transport;

pub use allowance::{Allowance, BUDGET_KEY, BudgetAccount};
pub use blob::Blob;
pub use client::{Calls, Client, Pace, Purpose, install_tls};
pub use company::Seat;
pub use copying::{Copying, Parents, Part, hides_deletions};
pub use deleted::Deletions;
pub use describe::{Describe, ObjectSummary};
pub use discover::Choice;
pub use identity::Identity;
pub use login::code::{CodeLogin, Pasted};
pub use login::place::{LONGEST_REQUEST, SharedLock, SharedStore};
pub use query::{Page, QueryPages};
pub use soql::{Select, Statement};
