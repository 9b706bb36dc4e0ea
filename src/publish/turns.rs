//! Whose turn it is to replace the login: what the records of the control topic say, read one after the other.
//!
//! Comes in: the values under `turn/<pipeline>`, in the order of the log. Goes out: who holds the turn. It follows from the
//! order of the records alone, so that all readers agree: no clock is in it. A claim counts if nobody holds the turn, or
//! if it names the holder whom it follows; a release counts for its own holder only. Whether a holder's time is up is for
//! each waiter's own clock ([`Watch`]). Never: a turn that ends because of the clock of another machine.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

const VERSION: u32 = 1;

/// The record's value.
#[derive(Debug, Serialize, Deserialize, PartialEq)]
struct Said {
    version: u32,
    /// A word that no other claim uses.
    owner: String,
    /// The turn is given back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    done: bool,
    /// Whose turn stood for longer than a turn lasts, as the one who says this saw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after: Option<String>,
}

pub(super) fn claim(owner: &str, after: Option<&str>) -> Vec<u8> {
    bytes(&Said { version: VERSION, owner: owner.to_owned(), done: false, after: after.map(str::to_owned) })
}

pub(super) fn release(owner: &str) -> Vec<u8> {
    bytes(&Said { version: VERSION, owner: owner.to_owned(), done: true, after: None })
}

fn bytes(said: &Said) -> Vec<u8> {
    serde_json::to_vec(said).expect("a number and texts always serialize")
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Turns {
    /// The newest login, sealed as it is.
    pub contents: Option<Vec<u8>>,
    pub holder: Option<String>,
}

impl Turns {
    /// What does not read says nothing.
    pub fn hear(&mut self, value: &[u8]) {
        let Ok(said) = serde_json::from_slice::<Said>(value) else { return };
        let is_holder = self.holder.as_ref() == Some(&said.owner);
        match said {
            Said { version, .. } if version != VERSION => {}
            Said { done: true, .. } if is_holder => self.holder = None,
            Said { done: true, .. } => {}
            Said { owner, after, .. } if self.holder.is_none() || self.holder == after => {
                self.holder = Some(owner)
            }
            Said { .. } => {}
        }
    }

    pub fn is_of(&self, owner: &str) -> bool {
        self.holder.as_deref() == Some(owner)
    }
}

/// For `crate::fuzzing`: who holds the turn after foreign values, and after the one who then held it gave it back and
/// `next` claimed it.
#[cfg(any(test, feature = "fuzzing"))]
pub fn turns_heard(values: &[&[u8]], next: &str) -> (Option<String>, Option<String>) {
    let mut turns = Turns::default();
    values.iter().for_each(|value| turns.hear(value));
    let before = turns.holder.clone();
    if let Some(holder) = &before {
        turns.hear(&release(holder));
    }
    turns.hear(&claim(next, None));
    (before, turns.holder)
}

/// Since when a waiter sees the same holder, by its own monotonic clock. It saw the claim after it was written, and the
/// holder counts from before that: what is over here is over there.
#[derive(Debug, Default)]
pub(super) struct Watch(Option<(String, Instant)>);

impl Watch {
    pub fn is_over(&mut self, holder: &str, turn: Duration, now: Instant) -> bool {
        match &self.0 {
            Some((seen, since)) if seen == holder => now.duration_since(*since) > turn,
            _ => {
                self.0 = Some((holder.to_owned(), now));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(values: &[Vec<u8>]) -> Option<String> {
        let mut turns = Turns::default();
        for value in values {
            turns.hear(value);
        }
        turns.holder
    }

    #[test]
    fn the_first_claim_counts_until_it_is_given_back() {
        let (one, two) = (claim("one", None), claim("two", None));
        assert_eq!(heard(&[one.clone(), two.clone()]).as_deref(), Some("one"));
        assert_eq!(heard(&[one.clone(), release("one")]), None);
        assert_eq!(heard(&[one, release("one"), two]).as_deref(), Some("two"));
    }

    #[test]
    fn a_release_ends_its_owners_turn_only() {
        let values = [claim("one", None), claim("two", Some("one")), release("one")];
        assert_eq!(
            heard(&values).as_deref(),
            Some("two"),
            "who came late does not end the turn after its own"
        );
    }

    #[test]
    fn of_two_who_follow_a_dead_holder_the_first_counts() {
        let values = [claim("dead", None), claim("two", Some("dead")), claim("three", Some("dead"))];
        assert_eq!(heard(&values).as_deref(), Some("two"));
        // Compaction took the dead one's claim.
        assert_eq!(heard(&values[1..]).as_deref(), Some("two"));
    }

    #[test]
    fn what_does_not_read_changes_no_turn() {
        for other in [&b"?"[..], b"", br#"{"version":2,"owner":"one","done":true}"#, br#"{"version":1}"#] {
            assert_eq!(heard(&[claim("one", None), other.to_vec()]).as_deref(), Some("one"));
        }
    }

    #[test]
    fn the_schemas_example_is_read_and_written_back_as_it_is() {
        let example = include_bytes!("../../schemas/control/examples/turn.json");
        let said: Said = serde_json::from_slice(example).unwrap();
        let written: serde_json::Value = serde_json::from_slice(&bytes(&said)).unwrap();
        assert_eq!(written, serde_json::from_slice::<serde_json::Value>(example).unwrap());
    }

    #[test]
    fn a_turn_is_over_when_the_same_claim_stood_for_its_length_before_these_eyes() {
        let (mut watch, turn, start) = (Watch::default(), Duration::from_secs(240), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!watch.is_over("one", turn, start));
        assert!(!watch.is_over("one", turn, at(240)));
        assert!(watch.is_over("one", turn, at(241)));
        assert!(!watch.is_over("two", turn, at(241)), "another claim begins anew");
        assert!(!watch.is_over("two", turn, at(480)));
        assert!(watch.is_over("two", turn, at(482)));
    }
}
