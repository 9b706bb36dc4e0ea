//! What a test or the traffic asks the org to do in one transaction, and what it gets back.
//!
//! Comes in: typed changes, or JSON from the control interface. Goes out: a receipt, or the reason why
//! nothing at all was done. Never: half a transaction.

use std::time::Duration;

use serde_json::{Map, Value as Json};

use super::id::Id;
use super::value::Value;
use super::{Org, OrgError};

/// Field values by name; names in any case.
pub type Fields = Vec<(String, Value)>;

#[derive(Clone, Debug, Default)]
pub struct Transaction {
    pub changes: Vec<Change>,
    pub stamp: Stamp,
    /// Commit lag: the records carry the stamp, but are seen only so long after it, and are locked meanwhile.
    pub visible_after: Duration,
    /// Who saves; the integration user when empty.
    pub user: Option<Id>,
    /// What made the change (`com/salesforce/api/rest/66.0;client=x`), as change events name it.
    pub origin: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stamp {
    #[default]
    Now,
    At(i64),
    Ago(Duration),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    Insert {
        object: String,
        fields: Fields,
        /// A chosen id, of the object's prefix and not in use.
        id: Option<Id>,
        /// Fields that are not given are generated; else they are null.
        fill: bool,
    },
    Update {
        object: String,
        id: Id,
        fields: Fields,
    },
    /// An automated process saves the record: only SystemModstamp moves.
    Touch {
        object: String,
        id: Id,
    },
    /// An automated process sets fields, like geocoding: of the stamps only SystemModstamp moves.
    AutomatedUpdate {
        object: String,
        id: Id,
        fields: Fields,
    },
    Delete {
        object: String,
        id: Id,
    },
    Undelete {
        object: String,
        id: Id,
    },
    /// Gone without a trace in queryAll, live or from the recycle bin.
    HardDelete {
        object: String,
        id: Id,
    },
    Merge {
        object: String,
        winner: Id,
        losers: Vec<Id>,
        fields: Fields,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub transaction: u64,
    /// The stamp the records carry, cut to the second.
    pub stamp_ms: i64,
    pub visible_at_ms: i64,
    /// Set when the transaction is visible already.
    pub commit: Option<u64>,
    /// The record of each change, in order; for a merge the winner.
    pub ids: Vec<Id>,
}

#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum CommitError {
    #[error(transparent)]
    Org(#[from] OrgError),
    #[error("field {field} of {object} cannot be set: {problem}")]
    Field { object: String, field: String, problem: String },
    #[error("no {object} has the id {id}")]
    NotFound { object: String, id: Id },
    #[error("{object} {id} is deleted")]
    EntityIsDeleted { object: String, id: Id },
    #[error("{object} {id} is not deleted")]
    NotDeleted { object: String, id: Id },
    #[error(
        "unable to obtain exclusive access to {object} {id}: a transaction that is not visible yet holds it"
    )]
    Locked { object: String, id: Id },
    #[error("the id {id} cannot be given to a new {object}: it is in use or not of this org")]
    IdTaken { object: String, id: Id },
    #[error("{object} does not allow {operation}")]
    NotAllowed { object: String, operation: &'static str },
    #[error("a change is not understood: {0}")]
    Malformed(String),
}

impl CommitError {
    /// Salesforce's error code for the same trouble.
    pub fn code(&self) -> &'static str {
        match self {
            CommitError::Org(OrgError::NoSuchObject(_)) => "INVALID_TYPE",
            CommitError::Org(_) => "INVALID_FIELD",
            CommitError::Field { .. } => "INVALID_FIELD",
            CommitError::NotFound { .. } => "NOT_FOUND",
            CommitError::EntityIsDeleted { .. } => "ENTITY_IS_DELETED",
            CommitError::NotDeleted { .. } => "UNDELETE_FAILED",
            CommitError::Locked { .. } => "UNABLE_TO_LOCK_ROW",
            CommitError::IdTaken { .. } => "INVALID_ID_FIELD",
            CommitError::NotAllowed { .. } => "INVALID_TYPE_FOR_OPERATION",
            CommitError::Malformed(_) => "JSON_PARSER_ERROR",
        }
    }
}

impl Change {
    pub fn insert(object: &str, fields: Fields) -> Change {
        Change::Insert { object: object.to_owned(), fields, id: None, fill: true }
    }

    pub fn update(object: &str, id: Id, fields: Fields) -> Change {
        Change::Update { object: object.to_owned(), id, fields }
    }

    pub fn delete(object: &str, id: Id) -> Change {
        Change::Delete { object: object.to_owned(), id }
    }

    pub fn undelete(object: &str, id: Id) -> Change {
        Change::Undelete { object: object.to_owned(), id }
    }

    pub fn hard_delete(object: &str, id: Id) -> Change {
        Change::HardDelete { object: object.to_owned(), id }
    }

    pub fn object(&self) -> &str {
        match self {
            Change::Insert { object, .. }
            | Change::Update { object, .. }
            | Change::Touch { object, .. }
            | Change::AutomatedUpdate { object, .. }
            | Change::Delete { object, .. }
            | Change::Undelete { object, .. }
            | Change::HardDelete { object, .. }
            | Change::Merge { object, .. } => object,
        }
    }
}

impl Transaction {
    pub fn of(changes: Vec<Change>) -> Transaction {
        Transaction { changes, ..Transaction::default() }
    }

    /// The control interface's form:
    /// `{"changes":[{"op":"update","object":"Account","id":"001…","fields":{"Name":"x"}}],
    ///   "stamp":"2026-05-19T08:30:00Z" | "stamp_ago_ms":5000, "visible_after_ms":30000, "user":"005…",
    ///   "origin":"com/salesforce/api/rest/66.0"}`.
    /// Operations: insert (`id`, `fill`, default true), update, touch, delete, undelete, hard_delete,
    /// merge (`losers`).
    pub fn from_json(org: &Org, json: &Json) -> Result<Transaction, CommitError> {
        let malformed = |text: &str| CommitError::Malformed(text.to_owned());
        let millis = |key: &str| match &json[key] {
            Json::Null => Ok(None),
            other => other.as_u64().map(|ms| Some(Duration::from_millis(ms))).ok_or_else(|| malformed(key)),
        };
        let stamp = match (&json["stamp"], millis("stamp_ago_ms")?) {
            (Json::Null, None) => Stamp::Now,
            (Json::Null, Some(ago)) => Stamp::Ago(ago),
            (Json::String(text), None) => {
                Stamp::At(super::calendar::parse_datetime(text).ok_or_else(|| malformed("stamp"))?)
            }
            _ => return Err(malformed("stamp")),
        };
        let user = match &json["user"] {
            Json::Null => None,
            other => Some(id_of(other).ok_or_else(|| malformed("user"))?),
        };
        let changes = json["changes"].as_array().ok_or_else(|| malformed("changes"))?;
        Ok(Transaction {
            changes: changes.iter().map(|change| change_from_json(org, change)).collect::<Result<_, _>>()?,
            stamp,
            visible_after: millis("visible_after_ms")?.unwrap_or_default(),
            user,
            origin: json["origin"].as_str().map(str::to_owned),
        })
    }
}

fn id_of(json: &Json) -> Option<Id> {
    Id::parse(json.as_str()?)
}

fn change_from_json(org: &Org, json: &Json) -> Result<Change, CommitError> {
    let malformed = |text: &str| CommitError::Malformed(text.to_owned());
    let object = json["object"].as_str().ok_or_else(|| malformed("object"))?.to_owned();
    let fields = match &json["fields"] {
        Json::Null => Vec::new(),
        Json::Object(map) => org.read_fields(&object, map)?,
        _ => return Err(malformed("fields")),
    };
    let id = match &json["id"] {
        Json::Null => None,
        other => Some(id_of(other).ok_or_else(|| malformed("id"))?),
    };
    let needed = || id.ok_or_else(|| malformed("id is missing"));
    Ok(match json["op"].as_str().unwrap_or_default() {
        "insert" => Change::Insert { object, fields, id, fill: json["fill"].as_bool().unwrap_or(true) },
        "update" => Change::Update { object, id: needed()?, fields },
        "touch" if fields.is_empty() => Change::Touch { object, id: needed()? },
        "touch" => Change::AutomatedUpdate { object, id: needed()?, fields },
        "delete" => Change::Delete { object, id: needed()? },
        "undelete" => Change::Undelete { object, id: needed()? },
        "hard_delete" => Change::HardDelete { object, id: needed()? },
        "merge" => {
            let losers = json["losers"].as_array().ok_or_else(|| malformed("losers"))?;
            let losers: Option<Vec<Id>> = losers.iter().map(id_of).collect();
            Change::Merge {
                object,
                winner: needed()?,
                losers: losers.ok_or_else(|| malformed("losers"))?,
                fields,
            }
        }
        other => return Err(CommitError::Malformed(format!("unknown op {other:?}"))),
    })
}

impl Org {
    /// Reads the fields of a change in the spelling REST takes, checked against the object.
    pub fn read_fields(&self, object: &str, map: &Map<String, Json>) -> Result<Fields, CommitError> {
        let object = self.object(object)?;
        map.iter()
            .map(|(name, json)| {
                let problem = |problem: String| CommitError::Field {
                    object: object.name.clone(),
                    field: name.clone(),
                    problem,
                };
                let (_, field) =
                    object.field_even_hidden(name).ok_or_else(|| problem("no such field".to_owned()))?;
                Ok((field.name.clone(), Value::from_json(field, json).map_err(problem)?))
            })
            .collect()
    }
}
