//! What Salesforce refuses about an object, and with which words (rest.md section 6).
//!
//! Comes in: an object's name. Goes out: the rules that the SOQL and Bulk doors apply before they read a row.
//! The messages are those that clients match on; never reword them.

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectRules {
    pub query: QueryRule,
    /// `INVALIDENTITY: Entity 'X' is not supported by the Bulk API.`
    pub bulk_refused: bool,
    /// Every row answers `000000000000000AAA` as Id; `DurableId`, where there is one, is the key.
    pub constant_id: bool,
    /// `COUNT()` is refused with this.
    pub count_refused: Option<RuleError>,
    /// No queryMore: everything comes on one page (`__mdt`).
    pub single_page: bool,
    /// `__b`: filters only along the index fields, in order, a range only on the last; no aggregates.
    pub big_object_index: Vec<String>,
    /// `__x`: queryAll is query, no GROUP BY, no LIKE.
    pub external: bool,
    /// `LIMIT` and `OFFSET` are silently ignored, OR, NOT and COUNT refused.
    pub reified: bool,
    /// At most that many rows, whatever is asked.
    pub max_rows: Option<u64>,
    /// Filtering or ordering by its date field is refused.
    pub refuses_date_filter: bool,
    /// Archived versions that a newer one replaced show only to a query by article and `IsLatestVersion = false`.
    pub old_versions_by_article: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum QueryRule {
    #[default]
    Free,
    /// `INVALID_TYPE_FOR_OPERATION: entity type X does not support query`
    NotQueryable,
    Needs(FilterNeed),
    /// Refused whatever the filter is.
    Refused(RuleError),
}

/// The statement must have one (or all) of these conditions, joined to the rest by AND.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterNeed {
    pub columns: Vec<FilterColumn>,
    pub all: bool,
    pub error: RuleError,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterColumn {
    /// Field or path, such as `ContentDocumentId` or `Parent.Type`.
    pub path: String,
    /// Whether `IN (…)` serves as well as `=`.
    pub allows_in: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError {
    pub status: u16,
    pub code: String,
    pub message: String,
}

impl RuleError {
    fn new(code: &str, message: &str) -> RuleError {
        RuleError { status: 400, code: code.to_owned(), message: message.to_owned() }
    }
}

const MALFORMED: &str = "MALFORMED_QUERY";
const EXTERNAL: &str = "EXTERNAL_OBJECT_EXCEPTION";
const EXTERNAL_UNSUPPORTED: &str = "EXTERNAL_OBJECT_UNSUPPORTED_EXCEPTION";

/// Object, columns (`=` equals only, `~` also IN, `&` all of them needed), code, message.
const NEEDED_FILTERS: &[(&str, &[&str], &str, &str)] = &[
    (
        "ContentDocumentLink",
        &["~ContentDocumentId", "~LinkedEntityId"],
        MALFORMED,
        "Implementation restriction: ContentDocumentLink requires a filter by a single Id on ContentDocumentId or LinkedEntityId using the equals operator or multiple Id's using the IN operator.",
    ),
    (
        "ContentFolderItem",
        &["~Id", "~ParentContentFolderId"],
        MALFORMED,
        "Implementation restriction: ContentFolderItem requires a filter by Id or ParentContentFolderId using the equals or 'IN' operator",
    ),
    (
        "ContentFolderMember",
        &["=Id", "=ChildRecordId", "=ParentContentFolderId"],
        MALFORMED,
        "Implementation restriction: ContentFolderMember requires a filter by a single Id, ChildRecordId or ParentContentFolderId using the equals operator",
    ),
    (
        "Vote",
        &["=ParentId", "=Parent.Type", "~Id"],
        MALFORMED,
        "Implementation restriction: When querying the Vote object, you must filter using the following syntax: ParentId = [single ID], Parent.Type = [single Type], Id = [single ID], or Id IN [list of ID's].",
    ),
    (
        "IdeaComment",
        &["=CommunityId", "~Id", "~IdeaId"],
        MALFORMED,
        "Implementation restriction. When querying the Idea Comment object, you must filter using the following syntax: CommunityId = [single ID], Id = [single ID], IdeaId = [single ID], Id IN [list of IDs], or IdeaId IN [list of IDs].",
    ),
    (
        "CollaborationGroupRecord",
        &["=Id", "=CollaborationGroupId", "=RecordId"],
        MALFORMED,
        "Implementation restriction: CollaborationGroupRecord requires a filter by a single Id, CollaborationGroupId or Record using the equals operator",
    ),
    (
        "FieldDefinition",
        &["~EntityDefinitionId", "~DurableId"],
        MALFORMED,
        "FieldDefinition: a filter on a reified column is required [EntityDefinitionId,DurableId]",
    ),
    ("DataStatistics", &["~StatType"], EXTERNAL_UNSUPPORTED, "Where clauses should contain StatType"),
    (
        "FlexQueueItem",
        &["~JobType"],
        EXTERNAL_UNSUPPORTED,
        "The WHERE clause must contain a JobType field expression.",
    ),
    (
        "UserRecordAccess",
        &["&UserId", "&RecordId"],
        "INVALID_FIELD",
        "Can select only RecordId, a Has*Access field, and MaxAccessLevel",
    ),
];

const REFUSED: &[(&str, &str, &str)] = &[
    ("OutgoingEmail", EXTERNAL_UNSUPPORTED, "This query is not supported on the OutgoingEmail object."),
    (
        "OutgoingEmailRelation",
        EXTERNAL_UNSUPPORTED,
        "This query is not supported on the OutgoingEmail object.",
    ),
    ("DatacloudAddress", EXTERNAL, "SObject - DATACLOUD_ADDRESS : Transient queries are not implemented"),
    ("ListViewChartInstance", EXTERNAL_UNSUPPORTED, "Getting all ListViewChartInstances is unsupported"),
    ("PlatformAction", EXTERNAL_UNSUPPORTED, "Getting all PlatformAction entities is unsupported"),
];

const COUNT_REFUSED: &[&str] = &["PendingOrderSummary", "EventBusSubscriber"];

const NOT_IN_BULK: &[&str] = &[
    "AcceptedEventRelation",
    "AccountBrandShare",
    "AccountFeed",
    "AppDefinition",
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
    "ContentFolderItem",
    "ContractStatus",
    "DeclinedEventRelation",
    "EventWhoRelation",
    "FieldSecurityClassification",
    "FlexQueueItem",
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

impl ObjectRules {
    /// The rules of rest.md section 6 for the object of this name; `queryable` is describe's flag.
    pub fn for_object(name: &str, queryable: bool, big_object_index: Vec<String>) -> ObjectRules {
        let named = |list: &[&str]| list.iter().any(|entry| entry.eq_ignore_ascii_case(name));
        let family = |suffix: &str| name.ends_with(suffix);
        let mut rules = ObjectRules {
            bulk_refused: named(NOT_IN_BULK) || family("__x") || family("__b") || family("__mdt"),
            constant_id: named(&["AppDefinition", "EntityDefinition", "FieldDefinition"]) || family("__b"),
            single_page: family("__mdt"),
            external: family("__x"),
            reified: named(&["EntityDefinition", "FieldDefinition", "AppDefinition"]),
            refuses_date_filter: named(&["PendingOrderSummary"]),
            old_versions_by_article: named(&["KnowledgeArticleVersion"]) || family("__kav"),
            max_rows: named(&["UserRecordAccess", "RecentlyViewed"]).then_some(200),
            count_refused: named(COUNT_REFUSED)
                .then(|| RuleError::new(EXTERNAL_UNSUPPORTED, "COUNT() query could not be processed")),
            big_object_index,
            query: QueryRule::Free,
        };
        if !queryable {
            rules.query = QueryRule::NotQueryable;
        } else if let Some((_, columns, code, message)) =
            NEEDED_FILTERS.iter().find(|(object, ..)| object.eq_ignore_ascii_case(name))
        {
            rules.query = QueryRule::Needs(FilterNeed {
                all: columns.iter().all(|column| column.starts_with('&')),
                columns: columns
                    .iter()
                    .map(|column| FilterColumn {
                        path: column.trim_start_matches(['=', '~', '&']).to_owned(),
                        allows_in: !column.starts_with('='),
                    })
                    .collect(),
                error: RuleError::new(code, message),
            });
        } else if let Some((_, code, message)) =
            REFUSED.iter().find(|(object, ..)| object.eq_ignore_ascii_case(name))
        {
            rules.query = QueryRule::Refused(RuleError::new(code, message));
        }
        rules
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vote_needs_one_of_three_filters() {
        let rules = ObjectRules::for_object("Vote", true, Vec::new());
        let QueryRule::Needs(need) = rules.query else { panic!("Vote must need a filter") };
        let columns: Vec<_> = need.columns.iter().map(|c| (c.path.as_str(), c.allows_in)).collect();
        assert_eq!(columns, [("ParentId", false), ("Parent.Type", false), ("Id", true)]);
        assert!(!need.all);
        assert!(need.error.message.starts_with("Implementation restriction: When querying the Vote object"));
    }

    #[test]
    fn families_follow_their_suffix() {
        assert_eq!(ObjectRules::for_object("Order_Event__e", false, vec![]).query, QueryRule::NotQueryable);
        assert!(ObjectRules::for_object("Phone__x", true, vec![]).external);
        assert!(ObjectRules::for_object("A__mdt", true, vec![]).single_page);
        assert!(ObjectRules::for_object("A__b", true, vec!["Key__c".into()]).constant_id);
        assert_eq!(ObjectRules::for_object("Account", true, vec![]), ObjectRules::default());
    }
}
