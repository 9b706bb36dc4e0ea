//! How an org begins: seed, sizes, time, and the habits that tests switch.
//!
//! Comes in: what the caller sets. Goes out: defaults that make a small org with something of everything.
//! Two orgs with the same configuration and clock start hold the same records.

use std::collections::BTreeMap;
use std::time::Duration;

use super::clock::Clock;
use crate::catalog::Catalog;

#[derive(Clone, Debug)]
pub struct OrgConfig {
    pub seed: u64,
    /// Generated records by object name (any case); objects not named get the catalogue's number.
    pub rows: BTreeMap<String, u64>,
    pub clock: Clock,
    pub catalog: Catalog,
    /// So many generated records of each object share one second of the cursor field (at most half of them).
    pub same_second_group: u64,
    /// How far back generated stamps reach, from the org's start.
    pub history: Duration,
    /// How old the newest generated record is at the org's start.
    pub quiet_before_start: Duration,
    /// One in so many of the generated records of the last days lies in the recycle bin; 0 for none.
    pub deleted_one_in: u64,
    /// Deleted records leave the bin, and getDeleted, after this (rest.md 3.5, 3.6).
    pub recycle_bin: Duration,
    /// A child deleted with its parent keeps its old stamp (rest.md 3.6, unconfirmed: both exist here).
    pub cascade_keeps_stamp: bool,
    /// More entries in an object's delete log than this, and all older than two hours go (rest.md 3.5).
    pub delete_log_limit: usize,
    /// A purge moves `earliestDateAvailable`, as the documentation says and recorded answers do not.
    pub purge_moves_earliest_date: bool,
    /// LastViewedDate and LastReferencedDate change by themselves as time passes.
    pub view_noise: bool,
    /// Of the integration user, the first User.
    pub username: String,
    /// Shown in the URLs of base64 fields.
    pub api_version: String,
}

impl Default for OrgConfig {
    fn default() -> OrgConfig {
        let days = |count: u64| Duration::from_secs(count * 86_400);
        OrgConfig {
            seed: 1,
            rows: BTreeMap::new(),
            clock: Clock::real(),
            catalog: Catalog::standard(),
            same_second_group: 40,
            history: days(730),
            quiet_before_start: days(1),
            deleted_one_in: 8,
            recycle_bin: days(15),
            cascade_keeps_stamp: false,
            delete_log_limit: 50_000,
            purge_moves_earliest_date: false,
            view_noise: false,
            username: "integration@example.com".to_owned(),
            api_version: "66.0".to_owned(),
        }
    }
}

impl OrgConfig {
    pub fn with_seed(mut self, seed: u64) -> OrgConfig {
        self.seed = seed;
        self
    }

    pub fn with_rows(mut self, object: &str, rows: u64) -> OrgConfig {
        self.rows.insert(object.to_owned(), rows);
        self
    }

    /// So many more custom objects: `Bulk0001__c` and so on.
    pub fn with_custom_objects(mut self, count: u16) -> OrgConfig {
        self.catalog = self.catalog.with_custom_objects(count);
        self
    }

    pub fn with_clock(mut self, clock: Clock) -> OrgConfig {
        self.clock = clock;
        self
    }

    pub(crate) fn rows_of(&self, object: &str) -> Option<u64> {
        self.rows.iter().find(|(name, _)| name.eq_ignore_ascii_case(object)).map(|(_, rows)| *rows)
    }
}

pub(crate) fn to_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
