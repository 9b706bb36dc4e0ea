//! One change of one record, as it will be published: what happened, when, and in which order.
//!
//! The record itself is a row of the batch's [`Rows`](super::Rows).

use std::sync::Arc;

use super::{ChangeSequence, FieldSet, Stamp};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A loaded row: `R`, REFRESH.
    Refresh,
    Insert,
    Update,
    Delete,
}

impl Operation {
    pub fn letter(self) -> &'static str {
        match self {
            Self::Refresh => "R",
            Self::Insert => "I",
            Self::Update => "U",
            Self::Delete => "D",
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Refresh => "REFRESH",
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }
}

/// The reading a change came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    Load,
    Poll,
    Subscribe,
    /// Read again, because a stretch or a record could not be captured otherwise: a restatement.
    Refetch,
}

impl Source {
    pub fn word(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Poll => "poll",
            Self::Subscribe => "subscribe",
            Self::Refetch => "refetch",
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// Index of the row in the batch.
    pub row: u32,
    pub operation: Operation,
    pub sequence: ChangeSequence,
    /// When it was committed in Salesforce, as far as is known; for a loaded row its cursor field.
    pub timestamp: Stamp,
    /// Which of the batch's [`Detail`]s says more about it; none: the reading shows the state, and nothing else.
    pub detail: Option<u32>,
}

/// What a change event tells besides the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detail {
    pub source: Source,
    /// Fields that changed; none: not known.
    pub changed: Option<FieldSet>,
    /// Fields that the row really carries; none: all that it was read with.
    pub carried: Option<FieldSet>,
    /// `transactionKey`
    pub transaction: Option<Arc<str>>,
    /// `sequenceNumber`: the event's place within the transaction.
    pub counter: Option<i64>,
    /// Replay id in hex; none: the batch's position.
    pub stream_position: Option<Arc<str>>,
    pub commit_user: Option<Arc<str>>,
    pub change_origin: Option<Arc<str>>,
}

impl Detail {
    /// Of a row that was read again.
    pub fn refetch() -> Self {
        Self {
            source: Source::Refetch,
            changed: None,
            carried: None,
            transaction: None,
            counter: None,
            stream_position: None,
            commit_user: None,
            change_origin: None,
        }
    }
}
