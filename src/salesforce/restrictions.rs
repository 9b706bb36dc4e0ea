//! Objects with rules of their own, by name: what no describe tells.
//!
//! Comes in: an API name. Goes out: a reason, or a yes. The lists are what Salesforce's documentation says and what
//! users of other programs found out; they change by release. A name that is missing here costs a refused query,
//! which is then told in Salesforce's own words.

/// Queryable only with a filter that a full read cannot have.
const NEED_FILTER: &[(&str, &str)] = &[
    ("ApexTypeImplementor", "a filter on its key columns"),
    ("ContentHubItem", "a filter by Id, ExternalId or ContentHubRepositoryId"),
    ("ContentVersionRenditionContent", "a filter by ContentVersionId"),
    ("DataStatistics", "a filter by StatType"),
    ("DatacloudDandBCompany", "search criteria"),
    ("EntityParticle", "a filter on its key columns"),
    ("FieldDefinition", "a filter on its key columns"),
    ("FlexQueueItem", "a filter by JobType"),
    ("FlowTestView", "a filter on its key columns"),
    ("FlowVariableView", "a filter on its key columns"),
    ("FlowVersionView", "a filter on its key columns"),
    ("OwnerChangeOptionInfo", "a filter on its key columns"),
    ("PicklistValueInfo", "a filter on its key columns"),
    ("RelatedListColumnDefinition", "a filter on its key columns"),
    ("RelatedListDefinition", "a filter on its key columns"),
    ("RelationshipDomain", "a filter on its key columns"),
    ("RelationshipInfo", "a filter on its key columns"),
    ("SearchLayout", "a filter on its key columns"),
    ("SiteDetail", "a filter on its key columns"),
    ("UserEntityAccess", "a filter on its key columns"),
    ("UserFieldAccess", "a filter on its key columns"),
    ("UserRecordAccess", "a filter by UserId and RecordId"),
    ("Vote", "a filter by ParentId, Parent.Type or Id"),
];

/// Queries on them are refused or answer only a part, whatever the filter.
const NOT_WHOLE: &[(&str, &str)] = &[
    ("DatacloudAddress", "Salesforce does not run queries on it"),
    ("DatacloudCompany", "it belongs to Data.com, which is gone"),
    ("DatacloudContact", "it belongs to Data.com, which is gone"),
    ("ListViewChartInstance", "Salesforce does not answer all of its rows"),
    ("NewsFeed", "Salesforce answers at most 1,000 of its rows"),
    ("OutgoingEmail", "Salesforce does not run queries on it"),
    ("OutgoingEmailRelation", "Salesforce does not run queries on it"),
    ("PlatformAction", "Salesforce does not answer all of its rows"),
    ("RecentlyViewed", "it holds what the integration user looked at, not records of the org"),
    ("UserProfileFeed", "Salesforce answers at most 1,000 of its rows"),
];

/// The Bulk API refuses them, or is of no use because every query must name parents (`copying`).
const NOT_IN_BULK: &[&str] = &[
    "AcceptedEventRelation",
    "AccountBrandShare",
    "AccountFeed",
    "AssetFeed",
    "AssetTokenEvent",
    "Attachment",
    "CaseStatus",
    "CaseTeamMember",
    "CaseTeamRole",
    "CaseTeamTemplate",
    "CaseTeamTemplateMember",
    "CaseTeamTemplateRecord",
    "ChannelProgramLevelShare",
    "CollaborationGroupRecord",
    "ContentDocumentLink",
    "ContentFolderItem",
    "ContentFolderMember",
    "ContractStatus",
    "DeclinedEventRelation",
    "EventWhoRelation",
    "FieldSecurityClassification",
    "IdeaComment",
    "KnowledgeArticle",
    "KnowledgeArticleVersion",
    "KnowledgeArticleVersionHistory",
    "KnowledgeArticleViewStat",
    "KnowledgeArticleVoteStat",
    "OrderStatus",
    "PartnerRole",
    "RecentlyViewed",
    "ServiceAppointmentStatus",
    "ShiftStatus",
    "SolutionStatus",
    "TaskPriority",
    "TaskStatus",
    "TaskWhoRelation",
    "UndecidedEventRelation",
    "UserRecordAccess",
    "WorkOrderLineItemStatus",
    "WorkOrderStatus",
    "WorkStepStatus",
];

/// They have a date, but a window by it is refused or tells nothing: rows change without it.
const NO_WINDOWS: &[&str] = &[
    "ActivityFieldHistory",
    "ApiEvent",
    "AsyncApexJob",
    "BackgroundOperationResult",
    "BulkApiResultEventStore",
    "CronTrigger",
    "ExternalEncryptionRootKey",
    "FileEventStore",
    "IdentityProviderEventStore",
    "IdentityVerificationEvent",
    "LightningUriEvent",
    "ListViewEvent",
    "LoginAsEvent",
    "LoginEvent",
    "LogoutEvent",
    "PendingOrderSummary",
    "PermissionSetEventStore",
    "ReportEvent",
    "UriEvent",
];

/// Why an object cannot be captured, as far as its name tells.
pub(super) fn obstacle(name: &str) -> Option<String> {
    let listed = |list: &[(&str, &'static str)]| {
        list.iter().find(|(listed, _)| listed.eq_ignore_ascii_case(name)).map(|(_, reason)| *reason)
    };
    if let Some(filter) = listed(NEED_FILTER) {
        return Some(format!(
            "Salesforce answers queries on it only with {filter}, so it cannot be read as a whole"
        ));
    }
    if let Some(reason) = listed(NOT_WHOLE) {
        return Some(reason.to_owned());
    }
    let reason = match suffix(name)? {
        "__b" => "it is a big object: its rows have no ids",
        "__x" => "it is an external object: its rows are not in Salesforce",
        "__e" => "it is a platform event: events are published, not stored",
        "ChangeEvent" => "it is the change event of another object: name that object",
        _ => return None,
    };
    Some(reason.to_owned())
}

fn suffix(name: &str) -> Option<&'static str> {
    ["__b", "__x", "__e", "ChangeEvent"].into_iter().find(|suffix| {
        let start = name.len().checked_sub(suffix.len());
        start.and_then(|start| name.get(start..)).is_some_and(|end| end.eq_ignore_ascii_case(suffix))
    })
}

/// Whether the Bulk API may be tried.
pub(super) fn in_bulk(name: &str) -> bool {
    let metadata =
        name.len() > 5 && name.get(name.len() - 5..).is_some_and(|end| end.eq_ignore_ascii_case("__mdt"));
    let tag = name.ends_with("__Tag");
    let article = name.ends_with("__kav");
    !metadata && !tag && !article && !NOT_IN_BULK.iter().any(|listed| listed.eq_ignore_ascii_case(name))
}

/// Whether a window by a date field finds all changes.
pub(super) fn has_windows(name: &str) -> bool {
    !NO_WINDOWS.iter().any(|listed| listed.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vote_says_why_it_cannot_be_captured() {
        let reason = obstacle("vote").unwrap();
        assert_eq!(
            reason,
            "Salesforce answers queries on it only with a filter by ParentId, Parent.Type or Id, so it cannot be read as a whole"
        );
        assert_eq!(obstacle("Account"), None);
        assert!(obstacle("Archive__b").unwrap().contains("big object"));
        assert!(obstacle("AccountChangeEvent").unwrap().contains("change event"));
        assert_eq!(obstacle("é"), None);
    }

    #[test]
    fn what_bulk_refuses_is_known_beforehand() {
        assert!(in_bulk("Account") && in_bulk("Invoice__c"));
        assert!(!in_bulk("casestatus") && !in_bulk("Setting__mdt"));
        assert!(!has_windows("AsyncApexJob") && has_windows("AccountHistory"));
    }
}
