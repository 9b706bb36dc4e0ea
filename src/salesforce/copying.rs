//! How all rows of an object are read: one closed set, one table.
//!
//! Comes in: an API name. Goes out: its [`Copying`]. Where Salesforce answers a query only with a filter, the filter is added as
//! long as the queries together give every row; where they would not, the object is refused with the reason
//! (`restrictions`). Never: a way of reading that is complete only perhaps.

use std::sync::Arc;

use super::restrictions;
use crate::domain::{Field, FieldKind, ObjectDescription};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Copying {
    /// By a Bulk job, or where that is refused or the object small, by REST.
    Bulk,
    /// By REST, in the order of ids.
    Rest,
    /// By REST in queries of so many rows: no page follows a first one.
    RestByRows(u32),
    /// By REST, one part after the other; together they are all rows.
    RestByParts(&'static [Part]),
    /// Not as a whole, with the reason.
    Refused(String),
}

/// A part of an object's rows.
#[derive(Debug, PartialEq, Eq)]
pub struct Part {
    /// SOQL.
    pub condition: Option<&'static str>,
    /// Read by the ids of these.
    pub parents: Option<Parents>,
}

/// The records that rows belong to, each row to one of them.
#[derive(Debug, PartialEq, Eq)]
pub struct Parents {
    pub object: &'static str,
    /// The field that holds the parent's id.
    pub field: &'static str,
    /// Ids that a query takes.
    pub at_once: u32,
    /// More parents than this would cost more calls than the rows are worth.
    pub most: Option<u64>,
}

impl Parents {
    /// As much of the parent as queries for its ids need.
    pub fn description(&self) -> Arc<ObjectDescription> {
        let id = Field {
            name: "Id".to_owned(),
            label: "Id".to_owned(),
            help: None,
            salesforce_type: "id".to_owned(),
            kind: FieldKind::Text,
            length: 18,
            precision: 0,
            scale: 0,
            calculated: false,
            filterable: true,
            sortable: true,
        };
        Arc::new(ObjectDescription {
            name: self.object.into(),
            target_name: self.object.into(),
            label: self.object.to_owned(),
            fields: vec![id],
            compounds: Vec::new(),
            key: 0,
            cursor: None,
            created_date: None,
            is_deleted: None,
            replicateable: true,
            bulk: false,
            unsupported: None,
            revision: 0,
        })
    }
}

impl Copying {
    pub fn of(name: &str) -> Self {
        if let Some(reason) = restrictions::obstacle(name) {
            return Self::Refused(reason);
        }
        if let Some((_, parts)) = BY_PARTS.iter().find(|(listed, _)| listed.eq_ignore_ascii_case(name)) {
            return Self::RestByParts(parts);
        }
        if ends_with(name, "__kav") {
            return Self::RestByParts(ARTICLES);
        }
        if ends_with(name, "__mdt") {
            return Self::RestByRows(PAGE_ROWS);
        }
        if restrictions::in_bulk(name) { Self::Bulk } else { Self::Rest }
    }

    /// In a table: `bulk`, `rest`, or by what the rows are read.
    pub fn words(&self) -> String {
        match self {
            Self::Bulk => "bulk".to_owned(),
            Self::Rest | Self::RestByRows(_) => "rest".to_owned(),
            Self::RestByParts(parts) => {
                let parents: Vec<&str> =
                    parts.iter().filter_map(|part| part.parents.as_ref()).map(|of| of.object).collect();
                match parents.as_slice() {
                    [parent] if parts.len() == 1 => format!("rest by {parent}"),
                    _ => "rest by PublishStatus".to_owned(),
                }
            }
            Self::Refused(_) => "-".to_owned(),
        }
    }

    /// Why it is read so, or cannot be; none if there is nothing to say.
    pub fn reason(&self) -> Option<String> {
        match self {
            Self::Bulk | Self::Rest | Self::RestByRows(_) => None,
            Self::RestByParts(_) => match self.parents() {
                Some(Parents { object, field, .. }) => Some(format!(
                    "Salesforce answers queries on it only by {field}: it is read by the ids of {object}, and a change shows in no query"
                )),
                None => Some(
                    "its versions are read by PublishStatus; that one was replaced by a newer shows at a load only"
                        .to_owned(),
                ),
            },
            Self::Refused(reason) => Some(reason.clone()),
        }
    }

    /// Whether a window by a date field is answered: not where every query must name parents.
    pub fn has_windows(&self) -> bool {
        match self {
            Self::Bulk | Self::Rest | Self::RestByRows(_) => true,
            Self::RestByParts(parts) => parts.iter().any(|part| part.parents.is_none()),
            Self::Refused(_) => false,
        }
    }

    /// Of an object whose every query must name parents.
    pub fn parents(&self) -> Option<&'static Parents> {
        self.parts().first().and_then(|part| part.parents.as_ref())
    }

    /// Of an object of which any rows are read by the ids of parents.
    pub fn reads_by(&self) -> Option<&'static Parents> {
        self.parts().iter().find_map(|part| part.parents.as_ref())
    }

    pub fn parts(&self) -> &'static [Part] {
        match self {
            Self::RestByParts(parts) => parts,
            Self::Bulk | Self::Rest | Self::RestByRows(_) | Self::Refused(_) => ALL_ROWS,
        }
    }
}

const ALL_ROWS: &[Part] = &[Part { condition: None, parents: None }];

/// Whether rows are deleted hard although they have `IsDeleted`: shares never lie in the recycle bin (`rest.md` 6.4).
pub fn hides_deletions(name: &str) -> bool {
    ends_with(name, "Share")
}

/// The most that a page of a query holds.
const PAGE_ROWS: u32 = 2_000;

/// Below 4,000 characters of WHERE (`rest.md` 3.1).
const IDS: u32 = 150;

/// Where a query takes one parent only, each of them is a call.
const MOST_CALLS: u64 = 2_000;

/// `rest.md` 6.2.
const BY_PARTS: &[(&str, &[Part])] = &[
    (
        "CollaborationGroupRecord",
        &[by_parents("CollaborationGroup", "CollaborationGroupId", 1, Some(MOST_CALLS))],
    ),
    ("ContentDocumentLink", &[by_parents("ContentDocument", "ContentDocumentId", IDS, None)]),
    ("ContentFolderItem", &[by_parents("ContentFolder", "ParentContentFolderId", IDS, None)]),
    ("ContentFolderMember", &[by_parents("ContentFolder", "ParentContentFolderId", 1, Some(MOST_CALLS))]),
    ("IdeaComment", &[by_parents("Idea", "IdeaId", IDS, None)]),
    ("KnowledgeArticleVersion", ARTICLES),
];

/// A query is to name one status; of archived versions it shows those that a newer one replaced only by article
/// (`rest.md` 6.4).
const ARTICLES: &[Part] = &[
    Part { condition: Some("PublishStatus = 'Draft'"), parents: None },
    Part { condition: Some("PublishStatus = 'Online'"), parents: None },
    Part { condition: Some("PublishStatus = 'Archived' AND IsLatestVersion = true"), parents: None },
    Part {
        condition: Some("PublishStatus = 'Archived' AND IsLatestVersion = false"),
        parents: Some(Parents {
            object: "KnowledgeArticle",
            field: "KnowledgeArticleId",
            at_once: IDS,
            most: None,
        }),
    },
];

const fn by_parents(object: &'static str, field: &'static str, at_once: u32, most: Option<u64>) -> Part {
    Part { condition: None, parents: Some(Parents { object, field, at_once, most }) }
}

fn ends_with(name: &str, suffix: &str) -> bool {
    let start = name.len().checked_sub(suffix.len());
    start.and_then(|start| name.get(start..)).is_some_and(|end| end.eq_ignore_ascii_case(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_object_is_read_in_one_way_and_says_which() {
        let words = |name: &str| Copying::of(name).words();
        assert_eq!(words("Account"), "bulk");
        assert_eq!(words("CaseStatus"), "rest");
        assert_eq!(words("Account_Setting__mdt"), "rest");
        assert_eq!(Copying::of("Account_Setting__MDT"), Copying::RestByRows(2_000));
        assert_eq!(words("contentdocumentlink"), "rest by ContentDocument");
        assert_eq!(words("IdeaComment"), "rest by Idea");
        assert_eq!(words("KnowledgeArticleVersion"), "rest by PublishStatus");
        assert_eq!(words("Help__kav"), "rest by PublishStatus");
        assert!(matches!(Copying::of("Vote"), Copying::Refused(reason) if reason.contains("Parent.Type")));
        assert!(
            matches!(Copying::of("Reading__b"), Copying::Refused(reason) if reason.contains("big object"))
        );
        assert_eq!(Copying::of("é"), Copying::Bulk);
    }

    #[test]
    fn the_parents_of_rows_are_told_also_where_only_some_rows_are_read_by_them() {
        let parents = |name: &str| {
            let copying = Copying::of(name);
            (copying.parents().map(|of| of.object), copying.reads_by().map(|of| of.object))
        };
        assert_eq!(parents("IdeaComment"), (Some("Idea"), Some("Idea")));
        assert_eq!(parents("Help__kav"), (None, Some("KnowledgeArticle")));
        assert_eq!(parents("Account"), (None, None));
    }

    #[test]
    fn what_is_read_by_parents_is_not_followed() {
        assert!(!Copying::of("ContentDocumentLink").has_windows());
        assert!(Copying::of("KnowledgeArticleVersion").has_windows() && Copying::of("Account").has_windows());
        assert!(hides_deletions("AccountShare") && hides_deletions("Invoice__Share"));
        assert!(!hides_deletions("Account") && !hides_deletions("ShareOfCost__c"));
        let reason = Copying::of("ContentFolderItem").reason().unwrap();
        assert!(reason.contains("only by ParentContentFolderId") && reason.contains("ids of ContentFolder"));
        for (name, parts) in BY_PARTS {
            assert!(!restrictions::in_bulk(name), "{name}");
            assert!(!parts.is_empty());
            for parents in parts.iter().filter_map(|part| part.parents.as_ref()) {
                // An id with its quotes and comma.
                assert!(parents.at_once * 21 < 3_800, "{name}");
            }
        }
    }
}
