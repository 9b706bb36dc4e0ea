//! The closed set of things that go wrong, each with a stable code that has a page `docs/errors/<code>.md`.
//!
//! Comes in: nothing. Goes out: [`Kind`] with its code, advice and page. A kind is never reused for another
//! meaning; users match on codes.

/// What went wrong. The code is part of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Usage,
    ConfigInvalid,
    SecretMissing,
    LoginRefused,
    LoginNeeded,
    TokenStoreFailed,
    SessionExpired,
    OrgMoved,
    ApiDisabled,
    OrgLocked,
    SalesforceUnavailable,
    SalesforceMaintenance,
    SalesforceError,
    SalesforceThrottled,
    RecordLocked,
    ApiLimitReached,
    ReplyUnreadable,
    ReplyTruncated,
    NetworkFailed,
    ObjectUnknown,
    ObjectForbidden,
    ObjectUnsupported,
    ObjectMisconfigured,
    FieldUnknown,
    QueryTimeout,
    QueryRefused,
    RequestTooLarge,
    QueryLocatorGone,
    BulkRefused,
    BulkJobFailed,
    BulkJobGone,
    LoadIncomplete,
    DeletionsLost,
    TooManyIds,
    SubscriptionRefused,
    ReplayIdExpired,
    EventsLimitReached,
    PubsubUnavailable,
    EventUnreadable,
    SchemaUnsupported,
    RegistryUnavailable,
    RegistryRefused,
    KafkaUnavailable,
    KafkaRefused,
    KafkaMisconfigured,
    TopicMissing,
    ControlRecordUnreadable,
    ControlTopicChanged,
    ShardFenced,
    ShardLost,
    CommitFailed,
    RecordTooLarge,
    ValueUnfit,
    BlobMissing,
    DifferencesFound,
    Internal,
}

impl Kind {
    pub const ALL: &'static [Kind] = &[
        Self::Usage,
        Self::ConfigInvalid,
        Self::SecretMissing,
        Self::LoginRefused,
        Self::LoginNeeded,
        Self::TokenStoreFailed,
        Self::SessionExpired,
        Self::OrgMoved,
        Self::ApiDisabled,
        Self::OrgLocked,
        Self::SalesforceUnavailable,
        Self::SalesforceMaintenance,
        Self::SalesforceError,
        Self::SalesforceThrottled,
        Self::RecordLocked,
        Self::ApiLimitReached,
        Self::ReplyUnreadable,
        Self::ReplyTruncated,
        Self::NetworkFailed,
        Self::ObjectUnknown,
        Self::ObjectForbidden,
        Self::ObjectUnsupported,
        Self::ObjectMisconfigured,
        Self::FieldUnknown,
        Self::QueryTimeout,
        Self::QueryRefused,
        Self::RequestTooLarge,
        Self::QueryLocatorGone,
        Self::BulkRefused,
        Self::BulkJobFailed,
        Self::BulkJobGone,
        Self::LoadIncomplete,
        Self::DeletionsLost,
        Self::TooManyIds,
        Self::SubscriptionRefused,
        Self::ReplayIdExpired,
        Self::EventsLimitReached,
        Self::PubsubUnavailable,
        Self::EventUnreadable,
        Self::SchemaUnsupported,
        Self::RegistryUnavailable,
        Self::RegistryRefused,
        Self::KafkaUnavailable,
        Self::KafkaRefused,
        Self::KafkaMisconfigured,
        Self::TopicMissing,
        Self::ControlRecordUnreadable,
        Self::ControlTopicChanged,
        Self::ShardFenced,
        Self::ShardLost,
        Self::CommitFailed,
        Self::RecordTooLarge,
        Self::ValueUnfit,
        Self::BlobMissing,
        Self::DifferencesFound,
        Self::Internal,
    ];

    pub fn code(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::ConfigInvalid => "config-invalid",
            Self::SecretMissing => "secret-missing",
            Self::LoginRefused => "login-refused",
            Self::LoginNeeded => "login-needed",
            Self::TokenStoreFailed => "token-store-failed",
            Self::SessionExpired => "session-expired",
            Self::OrgMoved => "org-moved",
            Self::ApiDisabled => "api-disabled",
            Self::OrgLocked => "org-locked",
            Self::SalesforceUnavailable => "salesforce-unavailable",
            Self::SalesforceMaintenance => "salesforce-maintenance",
            Self::SalesforceError => "salesforce-error",
            Self::SalesforceThrottled => "salesforce-throttled",
            Self::RecordLocked => "record-locked",
            Self::ApiLimitReached => "api-limit-reached",
            Self::ReplyUnreadable => "reply-unreadable",
            Self::ReplyTruncated => "reply-truncated",
            Self::NetworkFailed => "network-failed",
            Self::ObjectUnknown => "object-unknown",
            Self::ObjectForbidden => "object-forbidden",
            Self::ObjectUnsupported => "object-unsupported",
            Self::ObjectMisconfigured => "object-misconfigured",
            Self::FieldUnknown => "field-unknown",
            Self::QueryTimeout => "query-timeout",
            Self::QueryRefused => "query-refused",
            Self::RequestTooLarge => "request-too-large",
            Self::QueryLocatorGone => "query-locator-gone",
            Self::BulkRefused => "bulk-refused",
            Self::BulkJobFailed => "bulk-job-failed",
            Self::BulkJobGone => "bulk-job-gone",
            Self::LoadIncomplete => "load-incomplete",
            Self::DeletionsLost => "deletions-lost",
            Self::TooManyIds => "too-many-ids",
            Self::SubscriptionRefused => "subscription-refused",
            Self::ReplayIdExpired => "replay-id-expired",
            Self::EventsLimitReached => "events-limit-reached",
            Self::PubsubUnavailable => "pubsub-unavailable",
            Self::EventUnreadable => "event-unreadable",
            Self::SchemaUnsupported => "schema-unsupported",
            Self::RegistryUnavailable => "registry-unavailable",
            Self::RegistryRefused => "registry-refused",
            Self::KafkaUnavailable => "kafka-unavailable",
            Self::KafkaRefused => "kafka-refused",
            Self::KafkaMisconfigured => "kafka-misconfigured",
            Self::TopicMissing => "topic-missing",
            Self::ControlRecordUnreadable => "control-record-unreadable",
            Self::ControlTopicChanged => "control-topic-changed",
            Self::ShardFenced => "shard-fenced",
            Self::ShardLost => "shard-lost",
            Self::CommitFailed => "commit-failed",
            Self::RecordTooLarge => "record-too-large",
            Self::ValueUnfit => "value-unfit",
            Self::BlobMissing => "blob-missing",
            Self::DifferencesFound => "differences-found",
            Self::Internal => "internal",
        }
    }

    /// What a person can do, one sentence.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Usage => "see `sf2kafka --help`",
            Self::ConfigInvalid => {
                "correct the named line of the configuration; `sf2kafka check -c FILE` tests the whole file"
            }
            Self::SecretMissing => "set the environment variable or the file that the configuration names",
            Self::LoginRefused => {
                "check client id, secret and login domain; `sf2kafka check -c FILE` shows what Salesforce answers"
            }
            Self::LoginNeeded => "log in: `sf2kafka login -c FILE`",
            Self::TokenStoreFailed => {
                "check `salesforce.token_store`: a file on storage that outlives the program, in a folder that this user may write"
            }
            Self::SessionExpired => {
                "nothing to do unless it repeats: then give the integration user API access, or a fresh access token"
            }
            Self::OrgMoved => {
                "nothing to do unless it repeats: then set `salesforce.login_domain` to the org's My Domain, as Setup > My Domain shows it"
            }
            Self::ApiDisabled => {
                "ask a Salesforce administrator for an edition with API access and the permission \"API Enabled\""
            }
            Self::OrgLocked => {
                "ask the org's administrator, or Salesforce, to unlock the org or to extend its trial; then start the program again"
            }
            Self::SalesforceUnavailable => {
                "nothing to do; see the status page of your Salesforce instance if it lasts"
            }
            Self::SalesforceMaintenance => {
                "nothing to do: everything goes on when the maintenance is over; see the status page of your Salesforce instance for its end"
            }
            Self::SalesforceError => {
                "if it repeats, leave formula fields out (`fields: { exclude: [...] }`) or give Salesforce's support the request id from the log"
            }
            Self::SalesforceThrottled => "nothing to do; lower `salesforce.budget.concurrent` if it repeats",
            Self::RecordLocked => {
                "nothing to do; if it repeats, look for long-running jobs in the org that save these records"
            }
            Self::ApiLimitReached => {
                "nothing to do: the allowance is a rolling 24 hours; lower `daily_share` or raise the org's allowance"
            }
            Self::ReplyUnreadable => {
                "look for a proxy or a login page between the program and Salesforce if it repeats"
            }
            Self::ReplyTruncated => "nothing to do: the page is fetched again and was not published",
            Self::NetworkFailed => "check name resolution, proxy and firewall towards the host",
            Self::ObjectUnknown => {
                "check the spelling, and that the integration user may see the object; `sf2kafka discover` lists what it sees"
            }
            Self::ObjectForbidden => {
                "give the integration user read access to the object (and View All for complete data)"
            }
            Self::ObjectUnsupported => {
                "leave the object out; `sf2kafka discover --object NAME` says why it cannot be captured"
            }
            Self::ObjectMisconfigured => {
                "correct `fields` or `where` of the object; `sf2kafka check -c FILE` tests them against the org"
            }
            Self::FieldUnknown => {
                "nothing to do: the object is described again; give the field back by field-level security if it is missed"
            }
            Self::QueryTimeout => "nothing to do: the stretch is read in smaller pieces",
            Self::QueryRefused => {
                "see the message; `sf2kafka discover --object NAME` says how the object can be read"
            }
            Self::RequestTooLarge => {
                "leave fields out: `fields: { exclude: [...] }` on the object; look for a proxy with a low limit if it repeats"
            }
            Self::QueryLocatorGone => "nothing to do: the query starts again after the last complete row",
            Self::BulkRefused => "nothing to do: the object is read by the REST API",
            Self::BulkJobFailed => "if it repeats, look at the job under Setup > Bulk Data Load Jobs",
            Self::BulkJobGone => "nothing to do: the load starts over under a new load id",
            Self::LoadIncomplete => {
                "nothing to do unless it repeats: the load starts over under a new load id"
            }
            Self::DeletionsLost => {
                "nothing to do for rows; rows deleted in the named stretch can only be found by comparing"
            }
            Self::TooManyIds => "nothing to do: the stretch is asked for in smaller pieces",
            Self::SubscriptionRefused => {
                "switch Change Data Capture on for the object (Setup > Change Data Capture), give the integration user View All on it, or set `capture: poll`"
            }
            Self::ReplayIdExpired => {
                "nothing to do: records changed since then are read again; keep interruptions below 72 hours"
            }
            Self::EventsLimitReached => {
                "nothing to do: the allowance is a rolling 24 hours and events are kept for 72; set `capture: poll` for busy objects, or raise the allowance"
            }
            Self::PubsubUnavailable => {
                "nothing to do: the stream goes on after the last event that was handed over; see the status page of your Salesforce instance if it lasts"
            }
            Self::EventUnreadable => {
                "nothing to do unless it repeats: then report it with the object's name, and set `capture: poll` for it meanwhile"
            }
            Self::SchemaUnsupported => "see the message for the field; exclude it, or rename it",
            Self::RegistryUnavailable => "check `schema_registry.url` and that the registry is up",
            Self::RegistryRefused => {
                "`sf2kafka schemas -c FILE --check` shows what would change; give the output another topic, or set the subject's compatibility level"
            }
            Self::KafkaUnavailable => {
                "check `kafka.bootstrap_servers` and the brokers; the program goes on where it stopped when they are back"
            }
            Self::KafkaRefused => {
                "check the security settings under `kafka.properties` and the ACLs of the principal"
            }
            Self::KafkaMisconfigured => "see the message for the broker or topic setting to change",
            Self::TopicMissing => "create the topic, or set `kafka.topics.create: true`",
            Self::ControlRecordUnreadable => {
                "`sf2kafka explain control-record-unreadable` says how to look at the record and how to repair it"
            }
            Self::ControlTopicChanged => {
                "the control topic's partition count must stay; see `sf2kafka explain control-topic-changed`"
            }
            Self::ShardFenced => {
                "nothing to do: another instance owns the shard now; if none should, look for a second pipeline with this name"
            }
            Self::ShardLost => {
                "nothing to do: the group took the shard back, for another instance or after an outage, and gives it again"
            }
            Self::CommitFailed => {
                "nothing to do: the shard is claimed again and goes on from what was committed"
            }
            Self::RecordTooLarge => {
                "raise `message.max.bytes` of topic and broker, or exclude the large field"
            }
            Self::ValueUnfit => {
                "see the record in the dead-letter topic; the field's Salesforce type and value disagree"
            }
            Self::BlobMissing => {
                "open the file in Salesforce: what it shows there can be saved again, and comes with that change"
            }
            Self::DifferencesFound => {
                "see the report; `sf2kafka explain differences-found` says what to look at"
            }
            Self::Internal => "please report this with the log around it",
        }
    }
}
