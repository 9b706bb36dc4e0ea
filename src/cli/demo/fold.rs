//! What a consumer that folds a change-table topic by id ends up with, and how that differs from the org.
//!
//! Comes in: decoded records in the order of the log, and at the end the org's truth. Goes out: a line for each change, and
//! the differences. It knows the envelope from outside: column names and letters.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Map, Value as Json};

use super::cell::Cell;

const HEADER: &str = "header__";

/// A record of a change-table topic, taken apart.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub headers: BTreeMap<String, Cell>,
    /// In the order of the schema.
    pub fields: Vec<(String, Cell)>,
}

impl Record {
    pub fn new(columns: impl IntoIterator<Item = (String, Cell)>) -> Self {
        let (headers, fields): (Vec<_>, Vec<_>) =
            columns.into_iter().partition(|(name, _)| name.starts_with(HEADER));
        let headers = headers.into_iter().map(|(name, cell)| (name.replacen(HEADER, "", 1), cell)).collect();
        Self { headers, fields }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(Cell::text).unwrap_or_default()
    }

    fn id(&self) -> Option<String> {
        let id = self.fields.iter().find(|(name, _)| name == "Id")?;
        id.1.text().map(str::to_owned)
    }
}

/// One topic, folded.
#[derive(Debug, Default)]
pub(super) struct Topic {
    rows: BTreeMap<String, Vec<(String, Cell)>>,
    sequences: HashSet<String>,
    pub loaded: u64,
    pub changes: u64,
    /// Records with an order number that was there before.
    pub repeated: u64,
}

/// What the eye looks for first.
const NAMES: [&str; 6] = ["Name", "Subject", "CaseNumber", "OrderNumber", "Title", "LastName"];
/// Fields that every save moves.
const STAMPS: [&str; 4] = ["SystemModstamp", "LastModifiedDate", "LastModifiedById", "LastActivityDate"];
/// Changed fields in a line.
const SHOWN: usize = 3;

impl Topic {
    /// Takes a record in; gives the line that shows it, if it is a change (not a loaded row).
    pub fn fold(&mut self, object: &str, record: Record) -> Option<String> {
        let id = record.id()?;
        if !self.sequences.insert(record.header("change_seq").to_owned()) {
            self.repeated += 1;
        }
        let operation = record.header("change_oper").to_owned();
        if operation == "R" {
            self.loaded += 1;
            self.rows.insert(id, record.fields);
            return None;
        }
        self.changes += 1;
        let stamp = match record.headers.get("timestamp") {
            Some(Cell::Moment(stamp)) => stamp.to_string(),
            _ => String::new(),
        };
        let clock = stamp.get(11..19).unwrap_or_default();
        let before = if operation == "D" { self.rows.remove(&id) } else { self.rows.get(&id).cloned() };
        let what = describe(&operation, &record.fields, before.as_deref());
        let line = format!("{clock}  {operation}  {object:<36} {id:<18}  {what}");
        if operation != "D" {
            self.rows.insert(id, record.fields);
        }
        Some(line.trim_end().to_owned())
    }

    /// How the fold differs from the org: a sentence for each record, and how many records and fields agree.
    pub fn compare(
        &self,
        truth: impl Iterator<Item = Map<String, Json>>,
        compared: impl Fn(&str) -> bool,
    ) -> Comparison {
        let mut comparison = Comparison::default();
        let mut missing_in_org: HashSet<&str> = self.rows.keys().map(String::as_str).collect();
        for row in truth {
            let id = row.get("Id").and_then(Json::as_str).unwrap_or_default();
            missing_in_org.remove(id);
            comparison.records += 1;
            let Some(fields) = self.rows.get(id) else {
                comparison.differences.push(format!("{id}: in the org, not in the topic"));
                continue;
            };
            for (name, cell) in fields.iter().filter(|(name, _)| compared(name)) {
                comparison.fields += 1;
                let truth = row.get(name).unwrap_or(&Json::Null);
                if !cell.agrees(truth) {
                    comparison
                        .differences
                        .push(format!("{id}: {name} is {cell} in the topic, {truth} in the org"));
                }
            }
        }
        let mut left: Vec<&str> = missing_in_org.into_iter().collect();
        left.sort_unstable();
        comparison.differences.extend(left.iter().map(|id| format!("{id}: in the topic, not in the org")));
        if self.repeated > 0 {
            comparison.differences.push(format!("{} records with an order number twice", self.repeated));
        }
        comparison
    }
}

#[derive(Debug, Default)]
pub(super) struct Comparison {
    pub records: u64,
    pub fields: u64,
    pub differences: Vec<String>,
}

fn describe(operation: &str, fields: &[(String, Cell)], before: Option<&[(String, Cell)]>) -> String {
    let name = |fields: &[(String, Cell)]| {
        NAMES.iter().find_map(|wanted| {
            let (_, cell) = fields.iter().find(|(name, cell)| name == wanted && *cell != Cell::Null)?;
            Some(cell.to_string())
        })
    };
    match (operation, before) {
        ("D", before) => name(before.unwrap_or(fields)).unwrap_or_default(),
        ("U", Some(before)) => {
            let changed: Vec<String> = fields
                .iter()
                .filter(|(field, _)| !STAMPS.contains(&field.as_str()))
                .filter_map(|(field, cell)| {
                    let (_, old) = before.iter().find(|(known, _)| known == field)?;
                    (old != cell).then(|| format!("{field}: {old} → {cell}"))
                })
                .collect();
            let more = changed.len().saturating_sub(SHOWN);
            let mut text = changed.into_iter().take(SHOWN).collect::<Vec<_>>().join(", ");
            if more > 0 {
                text.push_str(&format!(", and {more} more"));
            }
            if text.is_empty() { "(saved, nothing else changed)".to_owned() } else { text }
        }
        _ => name(fields).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::Stamp;

    fn record(operation: &str, sequence: &str, id: &str, name: Option<&str>) -> Record {
        let text = |text: &str| Cell::Text(text.to_owned());
        Record::new([
            ("header__change_oper".to_owned(), text(operation)),
            ("header__change_seq".to_owned(), text(sequence)),
            ("header__timestamp".to_owned(), Cell::Moment(Stamp::parse(b"2026-05-19T08:30:07Z").unwrap())),
            ("Id".to_owned(), text(id)),
            ("Name".to_owned(), name.map_or(Cell::Null, text)),
        ])
    }

    fn truth(rows: &[(&str, Option<&str>)]) -> impl Iterator<Item = Map<String, Json>> {
        rows.iter()
            .map(|(id, name)| match json!({ "Id": id, "Name": name }) {
                Json::Object(map) => map,
                _ => Map::new(),
            })
            .collect::<Vec<_>>()
            .into_iter()
    }

    #[test]
    fn a_folded_topic_equals_the_org_or_names_what_differs() {
        let mut topic = Topic::default();
        assert_eq!(topic.fold("Account", record("R", "1", "001A", Some("Acme"))), None);
        topic.fold("Account", record("R", "2", "001B", None));
        let line = topic.fold("Account", record("U", "3", "001A", Some("Acme GmbH"))).unwrap();
        assert!(line.starts_with("08:30:07  U  Account"), "{line}");
        assert!(line.ends_with("Name: \"Acme\" → \"Acme GmbH\""), "{line}");
        let gone = topic.fold("Account", record("D", "4", "001B", None)).unwrap();
        assert!(gone.contains("  D  ") && gone.ends_with("001B"), "{gone}");

        let equal = topic.compare(truth(&[("001A", Some("Acme GmbH"))]), |_| true);
        assert_eq!((equal.records, equal.fields, equal.differences.len()), (1, 2, 0));

        let other = topic.compare(truth(&[("001A", None), ("001C", None)]), |_| true).differences;
        assert_eq!(other.len(), 2, "{other:?}");
        assert_eq!(other[0], "001A: Name is \"Acme GmbH\" in the topic, null in the org");
        assert_eq!(other[1], "001C: in the org, not in the topic");
        let ignored = topic.compare(truth(&[("001A", None)]), |field| field != "Name");
        assert!(ignored.differences.is_empty());

        topic.fold("Account", record("U", "3", "001A", Some("Acme GmbH")));
        let twice = topic.compare(truth(&[("001A", Some("Acme GmbH"))]), |_| true).differences;
        assert_eq!(twice, ["1 records with an order number twice"]);
    }
}
