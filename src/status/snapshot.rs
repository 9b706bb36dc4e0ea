//! The board at one moment, as `/api/status` and reports show it: plain data that serializes.
//!
//! Comes in: made by the board. Goes out: JSON and tables. Field names are part of the contract with whoever reads
//! `/api/status`; record values and secrets never stand here.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::domain::Stamp;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Known, but nothing has been read yet.
    Waiting,
    Loading,
    Live,
    Paused,
    Failed,
}

impl Phase {
    pub const ALL: [Self; 5] = [Self::Waiting, Self::Loading, Self::Live, Self::Paused, Self::Failed];

    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Loading => "loading",
            Self::Live => "live",
            Self::Paused => "paused",
            Self::Failed => "failed",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ErrorReport {
    pub code: &'static str,
    pub message: String,
    /// What the program does about it.
    pub now: &'static str,
    pub hint: String,
    pub at: Stamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub again_at: Option<Stamp>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ObjectReport {
    pub object: String,
    pub phase: Phase,
    pub capture: &'static str,
    /// Why changes are not captured once it is loaded; none: they are, or it has not been described yet.
    pub not_followed: Option<String>,
    /// Rows of the current or last full load that were read.
    pub rows_loaded: u64,
    /// Rows it is expected to have; none: not known.
    pub rows_expected: Option<u64>,
    /// Calls of the last full load of this process, and what was forecast for it; none: no load has ended.
    pub load_calls: Option<LoadCalls>,
    /// Why everything is loaded once more beside what is followed; none: it is not.
    pub reload: Option<String>,
    /// Records published since the start of this process, by operation letter.
    pub published: Published,
    pub dead_letters: u64,
    /// When Salesforce last answered for this object, by our clock.
    pub last_contact: Option<Stamp>,
    /// When Kafka last committed something of this object, by our clock.
    pub last_commit: Option<Stamp>,
    /// Everything committed in Salesforce up to here has been published.
    pub committed_to: Option<Stamp>,
    /// Now less `committed_to`.
    pub lag_seconds: Option<f64>,
    /// The error it stands on now; none: it moves.
    pub error: Option<ErrorReport>,
    /// Without contact for longer than its bound.
    pub out_of_touch: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LoadCalls {
    pub used: u64,
    pub forecast: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Published {
    #[serde(rename = "R")]
    pub refreshed: u64,
    #[serde(rename = "I")]
    pub inserted: u64,
    #[serde(rename = "U")]
    pub updated: u64,
    #[serde(rename = "D")]
    pub deleted: u64,
}

impl Published {
    pub fn changes(self) -> u64 {
        self.inserted + self.updated + self.deleted
    }
}

/// Calls that wait for the org's allowance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WaitingReport {
    pub purpose: &'static str,
    pub calls: u64,
    /// Until about then.
    pub until: Stamp,
    pub because: String,
}

/// What this instance may spend of the org's calls, and has spent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BudgetReport {
    /// Calls in 24 hours that its shards have; none: the org has not told its maximum yet.
    pub limit: Option<u64>,
    /// Calls of the last 24 hours, also those that earlier owners of its shards made.
    pub spent: u64,
    /// The same by what goes first.
    pub by_class: Vec<(&'static str, u64)>,
    pub waiting: Vec<WaitingReport>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Snapshot {
    pub at: Stamp,
    pub started_at: Stamp,
    pub objects: Vec<ObjectReport>,
    /// Calls made to Salesforce since the start, by all objects together.
    pub calls: u64,
    /// Of these, what counts against the org's allowance, by purpose.
    pub billed_calls: BTreeMap<&'static str, u64>,
    /// The same by purpose.
    pub calls_by_purpose: BTreeMap<&'static str, u64>,
    /// None: nothing was asked yet.
    pub budget: Option<BudgetReport>,
    /// Share of the org's daily allowance that is used, by whomever; none: not known yet.
    pub allowance_used: Option<f64>,
    /// An error that concerns more than one object (a shard, the login).
    pub error: Option<ErrorReport>,
}

impl Snapshot {
    /// Whether every owned object moves; what `/health/ready` answers.
    pub fn is_ready(&self) -> bool {
        self.objects.iter().all(|object| !object.out_of_touch)
    }

    pub fn object(&self, name: &str) -> Option<&ObjectReport> {
        self.objects.iter().find(|object| object.object == name)
    }
}
