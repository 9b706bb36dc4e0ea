//! SOQL as tools send it: text in, rows of one snapshot out (rest.md section 3).
//!
//! [`parse`] reads the text, [`plan`] looks the names up and enforces the objects' rules, [`run`] hands out rows.
//! Errors carry Salesforce's own codes and messages, for clients match on them.

pub mod parse;
pub mod plan;
pub mod run;

/// An error of a query, as Salesforce answers it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct SoqlError {
    pub status: u16,
    pub code: String,
    pub message: String,
}

impl SoqlError {
    pub fn new(code: &str, message: impl Into<String>) -> SoqlError {
        SoqlError { status: 400, code: code.to_owned(), message: message.into() }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    pub items: Vec<Item>,
    pub from: String,
    pub filter: Option<Filter>,
    pub group_by: Vec<Path>,
    pub order: Vec<Order>,
    pub limit: Option<u64>,
    pub offset: Option<u64>,
}

/// `Name`, `Owner.Name`: names in the order of the text.
pub type Path = Vec<String>;

#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    Field(Path),
    /// `COUNT()` alone.
    CountAll,
    Aggregate {
        function: Function,
        path: Path,
        alias: Option<String>,
    },
    Fields(Group),
    /// A child sub-select.
    Children(Box<Query>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    Count,
    CountDistinct,
    Min,
    Max,
    Sum,
    Avg,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    All,
    Standard,
    Custom,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    pub path: Path,
    pub descending: bool,
    pub nulls_last: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    And(Vec<Filter>),
    Or(Vec<Filter>),
    Not(Box<Filter>),
    Compare { path: Path, operator: Operator, literal: Literal },
    In { path: Path, negated: bool, literals: Vec<Literal> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Like,
    Includes,
    Excludes,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    /// Days since the epoch.
    Date(i32),
    /// Milliseconds since the epoch.
    DateTime(i64),
    /// `TODAY`, `LAST_N_DAYS:7`: from the first moment to before the last, in milliseconds.
    Span {
        from: i64,
        to: i64,
    },
    /// `('a','b')` behind INCLUDES and EXCLUDES.
    List(Vec<String>),
}
