//! Formula and roll-up fields: what they are computed from.
//!
//! Comes in: the words of the catalogue tables. Goes out: the rule, and the text that describe shows.
//! Never: a value; those are computed at reading by the org, and move no stamp (rest.md 3.7).

use super::field::FieldDef;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Formula {
    /// Twice the number in a field; null stays null.
    Twice(String),
    /// The text of a field in capitals.
    Upper(String),
    /// A field of the record that a reference points to: changes when the other record does.
    Parent { reference: String, field: String },
    /// Whole days since a date or moment: changes by the mere passing of time.
    DaysSince(String),
    /// Whether a number exceeds the given one.
    Exceeds(String, i64),
    /// Number of live children that refer to the record: a roll-up summary.
    ChildCount { object: String, reference: String },
}

impl Formula {
    /// Reads `twice(A)`, `upper(A)`, `parent(Ref.A)`, `days(A)`, `exceeds(A,10)`, `count(Child.Ref)`.
    pub fn parse(text: &str) -> Option<Formula> {
        let (word, rest) = text.split_once('(')?;
        let argument = rest.strip_suffix(')')?;
        let two = |separator| {
            argument.split_once(separator).map(|(a, b): (&str, &str)| (a.to_owned(), b.to_owned()))
        };
        Some(match word {
            "twice" => Formula::Twice(argument.to_owned()),
            "upper" => Formula::Upper(argument.to_owned()),
            "days" => Formula::DaysSince(argument.to_owned()),
            "parent" => two('.').map(|(reference, field)| Formula::Parent { reference, field })?,
            "count" => two('.').map(|(object, reference)| Formula::ChildCount { object, reference })?,
            "exceeds" => {
                let (field, limit) = argument.split_once(',')?;
                Formula::Exceeds(field.to_owned(), limit.parse().ok()?)
            }
            _ => return None,
        })
    }
}

impl Formula {
    /// Whether it is computed from a field of this name, of whatever object.
    pub fn mentions(&self, name: &str) -> bool {
        match self {
            Formula::Twice(field)
            | Formula::Upper(field)
            | Formula::DaysSince(field)
            | Formula::Exceeds(field, _) => field == name,
            Formula::Parent { reference, field } => reference == name || field == name,
            Formula::ChildCount { reference, .. } => reference == name,
        }
    }
}

impl FieldDef {
    /// describe's `calculatedFormula`: null for a roll-up summary (rest.md 2.4).
    pub fn formula_text(&self) -> Option<String> {
        Some(match self.formula.as_ref()? {
            Formula::Twice(field) => format!("{field} * 2"),
            Formula::Upper(field) => format!("UPPER({field})"),
            Formula::Parent { reference, field } => {
                let stem = reference.strip_suffix("__c").map(|stem| format!("{stem}__r"));
                let stem = stem.or_else(|| reference.strip_suffix("Id").map(str::to_owned));
                format!("{}.{field}", stem.unwrap_or_else(|| reference.clone()))
            }
            Formula::DaysSince(field) => format!("TODAY() - DATEVALUE({field})"),
            Formula::Exceeds(field, limit) => format!("{field} > {limit}"),
            Formula::ChildCount { .. } => return None,
        })
    }
}
