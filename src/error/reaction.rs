//! What the program does about each kind of error; the only such table.
//!
//! Comes in: a [`Kind`]. Goes out: its [`Reaction`] and a sentence for people. There is no catch-all arm, so that
//! a new kind does not compile without a decision.

use super::Kind;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reaction {
    /// Try the same again after a pause that grows and is bounded.
    RetryLater,
    /// Get a new token once and repeat the request.
    LogInAgain,
    /// Wait until the org's allowance has room; nothing is lost meanwhile.
    WaitForQuota,
    /// Describe the object again and build queries without the missing field.
    DescribeAgain,
    /// Read the object by the REST API instead of the Bulk API.
    UseRest,
    /// Start the object's full load again under a new load id.
    Reload,
    /// Read again what was changed since the last committed time, beside a new stream; then go on live.
    Refetch,
    /// Put the record into the dead-letter topic and go on.
    DeadLetter,
    /// Stop this object and say so; all others go on.
    StopObject,
    /// Drop the shard with all its memory and claim it again.
    ReleaseShard,
    /// Stop the program with an error.
    StopProgram,
}

impl Reaction {
    pub fn sentence(self) -> &'static str {
        match self {
            Self::RetryLater => "trying again after a pause",
            Self::LogInAgain => "logging in again and repeating the request",
            Self::WaitForQuota => "waiting until the org's allowance has room",
            Self::DescribeAgain => "describing the object again and going on with the fields there are",
            Self::UseRest => "reading the object by the REST API instead",
            Self::Reload => "loading the object again",
            Self::Refetch => "re-fetching records changed since then; live changes resume afterwards",
            Self::DeadLetter => "the record goes to the dead-letter topic, everything else goes on",
            Self::StopObject => "this object is stopped, all others go on",
            Self::ReleaseShard => "the shard is released and claimed again; nothing uncommitted is kept",
            Self::StopProgram => "the program stops",
        }
    }
}

impl Kind {
    pub fn reaction(self) -> Reaction {
        match self {
            Self::SalesforceUnavailable
            | Self::SalesforceMaintenance
            | Self::SalesforceThrottled
            | Self::RecordLocked
            | Self::ReplyUnreadable
            | Self::ReplyTruncated
            | Self::TooManyIds
            | Self::NetworkFailed
            | Self::QueryTimeout
            | Self::QueryLocatorGone
            | Self::BulkJobFailed
            | Self::PubsubUnavailable
            | Self::RegistryUnavailable => Reaction::RetryLater,
            Self::SessionExpired | Self::OrgMoved => Reaction::LogInAgain,
            Self::ApiLimitReached | Self::EventsLimitReached => Reaction::WaitForQuota,
            Self::FieldUnknown => Reaction::DescribeAgain,
            Self::BulkRefused => Reaction::UseRest,
            Self::BulkJobGone | Self::LoadIncomplete | Self::DeletionsLost => Reaction::Reload,
            Self::ReplayIdExpired | Self::EventUnreadable => Reaction::Refetch,
            Self::RecordTooLarge | Self::ValueUnfit | Self::BlobMissing => Reaction::DeadLetter,
            Self::ObjectUnknown
            | Self::ObjectForbidden
            | Self::ObjectUnsupported
            | Self::ObjectMisconfigured
            | Self::QueryRefused
            | Self::RequestTooLarge
            | Self::SalesforceError
            | Self::SubscriptionRefused
            | Self::SchemaUnsupported
            | Self::RegistryRefused
            | Self::TopicMissing
            | Self::ControlRecordUnreadable => Reaction::StopObject,
            Self::KafkaUnavailable | Self::ShardFenced | Self::ShardLost | Self::CommitFailed => {
                Reaction::ReleaseShard
            }
            Self::Usage
            | Self::ConfigInvalid
            | Self::SecretMissing
            | Self::LoginRefused
            | Self::LoginNeeded
            | Self::TokenStoreFailed
            | Self::ApiDisabled
            | Self::OrgLocked
            | Self::KafkaRefused
            | Self::KafkaMisconfigured
            | Self::ControlTopicChanged
            | Self::DifferencesFound
            | Self::Internal => Reaction::StopProgram,
        }
    }
}
