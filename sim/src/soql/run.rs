//! The rows of a plan: scanned, filtered, sorted if need be, and written in REST form.
//!
//! Comes in: a plan and a snapshot. Goes out: rows one by one, or groups. Only a sort holds rows in memory.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};

use serde_json::{Map, Value as Json, json};

use super::plan::{Aggregate, Children, Column, Output, Plan};
use super::{Filter, Function, Literal, Operator, SoqlError};
use crate::catalog::FieldType;
use crate::org::{Row, Scan, Snapshot, Value};

/// Rows that pass a plan's filter, in its order, without limit and offset.
pub enum Rows {
    Scanned(Box<Scan>),
    Sorted(std::vec::IntoIter<Row>),
}

pub struct Matching<'a> {
    plan: &'a Plan,
    snapshot: &'a Snapshot,
    rows: Rows,
}

impl<'a> Matching<'a> {
    /// `after`: a row of the scan's own order to go on behind.
    pub fn new(
        plan: &'a Plan,
        snapshot: &'a Snapshot,
        after: Option<crate::org::ScanKey>,
    ) -> Result<Self, SoqlError> {
        let range = crate::org::ScanRange { after, ..plan.range };
        let scan = snapshot
            .scan(&plan.object.name, range)
            .map_err(|error| SoqlError::new("INVALID_TYPE", error.to_string()))?;
        let mut matching = Self { plan, snapshot, rows: Rows::Scanned(Box::new(scan)) };
        if !plan.sort.is_empty() {
            let mut rows: Vec<Row> = matching.by_ref().collect();
            rows.sort_by(|a, b| matching.compare_rows(a, b));
            matching.rows = Rows::Sorted(rows.into_iter());
        }
        Ok(matching)
    }

    fn compare_rows(&self, a: &Row, b: &Row) -> Ordering {
        for sort in &self.plan.sort {
            let (a, b) = (value_at(a, &sort.column, self.snapshot), value_at(b, &sort.column, self.snapshot));
            let ordering = match (a.is_null(), b.is_null()) {
                (true, true) => Ordering::Equal,
                (true, false) => {
                    if sort.nulls_last {
                        Ordering::Greater
                    } else {
                        Ordering::Less
                    }
                }
                (false, true) => {
                    if sort.nulls_last {
                        Ordering::Less
                    } else {
                        Ordering::Greater
                    }
                }
                (false, false) => {
                    let ordering = compare(&a, &b);
                    if sort.descending { ordering.reverse() } else { ordering }
                }
            };
            if ordering != Ordering::Equal {
                return ordering;
            }
        }
        a.id().as_bytes().cmp(b.id().as_bytes())
    }
}

impl Iterator for Matching<'_> {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        loop {
            let row = match &mut self.rows {
                Rows::Scanned(scan) => scan.next()?,
                Rows::Sorted(rows) => return rows.next(),
            };
            if self.plan.filter.as_ref().is_none_or(|filter| holds(filter, &row, self.snapshot)) {
                return Some(row);
            }
        }
    }
}

/// Rows of the whole answer, limit and offset applied.
pub fn total(plan: &Plan, snapshot: &Snapshot) -> Result<u64, SoqlError> {
    let unfiltered = plan.filter.is_none() && !plan.range.include_deleted;
    let all = if unfiltered {
        snapshot
            .count(&plan.object.name, false)
            .map_err(|error| SoqlError::new("INVALID_TYPE", error.to_string()))?
    } else {
        let unsorted = Plan { sort: Vec::new(), ..plan.clone() };
        let most = plan.limit.map_or(u64::MAX, |limit| limit.saturating_add(plan.offset));
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        Matching::new(&unsorted, snapshot, None)?.take(most).count() as u64
    };
    let rest = all.saturating_sub(plan.offset);
    Ok(plan.limit.map_or(rest, |limit| rest.min(limit)))
}

/// The value of a column, through references if need be.
pub fn value_at(row: &Row, column: &Column, snapshot: &Snapshot) -> Value {
    match column.field {
        Some(index) => row.get(index),
        None => value_by_path(row, &column.path, snapshot),
    }
}

fn value_by_path(row: &Row, path: &[String], snapshot: &Snapshot) -> Value {
    match path {
        [] => Value::Null,
        [last] => row.get_by_name(last).unwrap_or_else(|| match last.as_str() {
            // Of a polymorphic target: the object's name.
            "Type" => Value::text(row.object().name.clone()),
            _ => Value::Null,
        }),
        [step, rest @ ..] => match referred(row, step, snapshot) {
            Some(target) => value_by_path(&target, rest, snapshot),
            None => Value::Null,
        },
    }
}

fn referred(row: &Row, relationship: &str, snapshot: &Snapshot) -> Option<Row> {
    let (index, _) = row.object().relationship(relationship)?;
    snapshot.row_of_any_object(row.get(index).as_id()?)
}

pub fn holds(filter: &Filter, row: &Row, snapshot: &Snapshot) -> bool {
    match filter {
        Filter::And(all) => all.iter().all(|one| holds(one, row, snapshot)),
        Filter::Or(all) => all.iter().any(|one| holds(one, row, snapshot)),
        Filter::Not(one) => !holds(one, row, snapshot),
        Filter::In { path, negated, literals } => {
            let value = value_by_path(row, path, snapshot);
            literals.iter().any(|literal| equals(&value, literal)) != *negated
        }
        Filter::Compare { path, operator, literal } => {
            let value = value_by_path(row, path, snapshot);
            match operator {
                Operator::Equal => equals(&value, literal),
                Operator::NotEqual => !equals(&value, literal),
                Operator::Less => against(&value, literal).is_some_and(Ordering::is_lt),
                Operator::LessOrEqual => against(&value, literal).is_some_and(Ordering::is_le),
                Operator::Greater => against(&value, literal).is_some_and(Ordering::is_gt),
                Operator::GreaterOrEqual => against(&value, literal).is_some_and(Ordering::is_ge),
                Operator::Like => {
                    matches!((value.as_str(), literal), (Some(text), Literal::Text(pattern)) if like(text, pattern))
                }
                Operator::Includes => includes(&value, literal),
                Operator::Excludes => !includes(&value, literal),
            }
        }
    }
}

fn equals(value: &Value, literal: &Literal) -> bool {
    match (value, literal) {
        (value, Literal::Null) => value.is_null(),
        (Value::Bool(value), Literal::Bool(literal)) => value == literal,
        (Value::Id(id), Literal::Text(text)) => match crate::org::Id::parse(text) {
            Some(parsed) => *id == parsed,
            None => id.as_str() == text,
        },
        // Text compares without case.
        (Value::Text(text), Literal::Text(literal)) => {
            text.eq_ignore_ascii_case(literal) || text.to_lowercase() == literal.to_lowercase()
        }
        (value, Literal::Text(text)) if text.is_empty() => value.is_null(),
        _ => against(value, literal) == Some(Ordering::Equal),
    }
}

/// Where the value lies against the literal; none if either is null or they are of different kinds.
fn against(value: &Value, literal: &Literal) -> Option<Ordering> {
    match (value, literal) {
        (Value::Id(id), Literal::Text(text)) => match crate::org::Id::parse(text) {
            Some(parsed) => Some(id.as_bytes().cmp(parsed.as_bytes())),
            None => Some(id.as_str().cmp(text)),
        },
        (Value::Text(text), Literal::Text(literal)) => Some(text.to_lowercase().cmp(&literal.to_lowercase())),
        (value, Literal::Number(number)) => value.as_f64()?.partial_cmp(number),
        (Value::Date(days), Literal::Date(literal)) => Some(days.cmp(literal)),
        (Value::DateTime(ms), Literal::DateTime(literal)) => Some(ms.cmp(literal)),
        (value, Literal::Span { from, to }) => {
            let ms = value.as_ms()?;
            Some(if ms < *from {
                Ordering::Less
            } else if ms >= *to {
                Ordering::Greater
            } else {
                Ordering::Equal
            })
        }
        _ => None,
    }
}

fn includes(value: &Value, literal: &Literal) -> bool {
    let (Some(text), Literal::List(wanted)) = (value.as_str(), literal) else { return false };
    let have: HashSet<&str> = text.split(';').collect();
    wanted.iter().any(|group| group.split(';').all(|one| have.contains(one)))
}

/// `%` any characters, `_` one; without case.
fn like(text: &str, pattern: &str) -> bool {
    let (text, pattern): (Vec<char>, Vec<char>) =
        (text.to_lowercase().chars().collect(), pattern.to_lowercase().chars().collect());
    let (mut t, mut p) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(character) = text.get(t) {
        match pattern.get(p) {
            Some('%') => {
                star = Some((p, t));
                p += 1;
            }
            Some(wanted) if *wanted == '_' || wanted == character => {
                t += 1;
                p += 1;
            }
            _ => match &mut star {
                Some((at, taken)) => {
                    *taken += 1;
                    (p, t) = (*at + 1, *taken);
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|one| *one == '%'))
}

fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Id(a), Value::Id(b)) => a.as_bytes().cmp(b.as_bytes()),
        (Value::Time(a), Value::Time(b)) => a.cmp(b),
        _ => match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => a.total_cmp(&b),
            _ => match (a.as_ms(), b.as_ms()) {
                (Some(a), Some(b)) => a.cmp(&b),
                _ => a.as_str().map(str::to_lowercase).cmp(&b.as_str().map(str::to_lowercase)),
            },
        },
    }
}

/// A row as REST answers it, appended as JSON text.
pub fn write_row(
    plan: &Plan,
    columns: &[Column],
    row: &Row,
    snapshot: &Snapshot,
    version: &str,
    out: &mut Vec<u8>,
) {
    write_attributes(row, version, out);
    // Columns through references share their nested records.
    let mut nested: Vec<&str> = Vec::new();
    for column in columns {
        match column.path.as_slice() {
            [_, _, ..] => {
                let Some(step) = column.path.first() else { continue };
                if nested.contains(&step.as_str()) {
                    continue;
                }
                nested.push(step);
                out.push(b',');
                write_name(step, out);
                let paths: Vec<&[String]> = columns
                    .iter()
                    .filter(|other| other.path.len() > 1 && other.path.first() == Some(step))
                    .filter_map(|other| other.path.get(1..))
                    .collect();
                match referred(row, step, snapshot) {
                    Some(target) => write_nested(&target, &paths, snapshot, version, out),
                    None => out.extend_from_slice(b"null"),
                }
            }
            _ => {
                out.push(b',');
                write_name(&column.name, out);
                let value = value_at(row, column, snapshot);
                let value =
                    if column.field_type == FieldType::Base64 { value.in_version(version) } else { value };
                value.write_rest_json(out);
            }
        }
    }
    for children in &plan.children {
        out.push(b',');
        write_name(&children.relationship, out);
        out.extend_from_slice(child_records(children, row, snapshot, version).to_string().as_bytes());
    }
    out.push(b'}');
}

fn write_attributes(row: &Row, version: &str, out: &mut Vec<u8>) {
    let name = &row.object().name;
    let text = format!(
        r#"{{"attributes":{{"type":"{name}","url":"/services/data/v{version}/sobjects/{name}/{}"}}"#,
        row.id().as_str()
    );
    out.extend_from_slice(text.as_bytes());
}

fn write_name(name: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn write_nested(row: &Row, paths: &[&[String]], snapshot: &Snapshot, version: &str, out: &mut Vec<u8>) {
    write_attributes(row, version, out);
    let mut done: Vec<&str> = Vec::new();
    for path in paths {
        let Some((first, rest)) = path.split_first() else { continue };
        if done.contains(&first.as_str()) {
            continue;
        }
        done.push(first);
        out.push(b',');
        write_name(first, out);
        if rest.is_empty() {
            value_by_path(row, path, snapshot).write_rest_json(out);
            continue;
        }
        let deeper: Vec<&[String]> = paths
            .iter()
            .filter(|other| other.first() == Some(first))
            .filter_map(|other| other.get(1..))
            .collect();
        match referred(row, first, snapshot) {
            Some(target) => write_nested(&target, &deeper, snapshot, version, out),
            None => out.extend_from_slice(b"null"),
        }
    }
    out.push(b'}');
}

fn child_records(children: &Children, parent: &Row, snapshot: &Snapshot, version: &str) -> Json {
    let Output::Rows(columns) = &children.plan.output else { return Json::Null };
    let Ok(matching) = Matching::new(&children.plan, snapshot, None) else { return Json::Null };
    let id = parent.id();
    let limit = usize::try_from(children.plan.limit.unwrap_or(200)).unwrap_or(200);
    let records: Vec<Json> = matching
        .filter(|row| row.get_by_name(&children.reference).and_then(|value| value.as_id()) == Some(id))
        .take(limit)
        .filter_map(|row| {
            let mut text = Vec::new();
            write_row(&children.plan, columns, &row, snapshot, version, &mut text);
            serde_json::from_slice(&text).ok()
        })
        .collect();
    if records.is_empty() {
        return Json::Null;
    }
    json!({"totalSize": records.len(), "done": true, "records": records})
}

/// Aggregate rows.
pub fn groups(
    plan: &Plan,
    by: &[Column],
    aggregates: &[Aggregate],
    snapshot: &Snapshot,
) -> Result<Vec<Json>, SoqlError> {
    let mut groups: BTreeMap<Vec<String>, (Vec<Value>, Vec<Folded>)> = BTreeMap::new();
    if by.is_empty() {
        groups.insert(Vec::new(), (Vec::new(), aggregates.iter().map(|_| Folded::default()).collect()));
    }
    for row in Matching::new(plan, snapshot, None)? {
        let values: Vec<Value> = by.iter().map(|column| value_at(&row, column, snapshot)).collect();
        let key = values.iter().map(|value| value.to_rest_json().to_string()).collect();
        let (_, folded) = groups
            .entry(key)
            .or_insert_with(|| (values, aggregates.iter().map(|_| Folded::default()).collect()));
        for (aggregate, folded) in aggregates.iter().zip(folded) {
            folded.add(value_at(&row, &aggregate.column, snapshot));
        }
    }
    let limit = usize::try_from(plan.limit.unwrap_or(2_000)).unwrap_or(2_000);
    Ok(groups
        .into_values()
        .take(limit)
        .map(|(values, folded)| {
            let mut record = Map::new();
            record.insert("attributes".to_owned(), json!({"type": "AggregateResult"}));
            for (column, value) in by.iter().zip(values) {
                record.insert(column.name.clone(), value.to_rest_json());
            }
            for (aggregate, folded) in aggregates.iter().zip(folded) {
                record.insert(aggregate.name.clone(), folded.answer(aggregate.function));
            }
            Json::Object(record)
        })
        .collect())
}

#[derive(Default)]
struct Folded {
    count: u64,
    distinct: HashSet<String>,
    sum: f64,
    low: Option<Value>,
    high: Option<Value>,
}

impl Folded {
    fn add(&mut self, value: Value) {
        if value.is_null() {
            return;
        }
        self.count += 1;
        self.sum += value.as_f64().unwrap_or(0.0);
        if self.distinct.len() < 100_000 {
            self.distinct.insert(value.to_rest_json().to_string());
        }
        if self.low.as_ref().is_none_or(|low| compare(&value, low).is_lt()) {
            self.low = Some(value.clone());
        }
        if self.high.as_ref().is_none_or(|high| compare(&value, high).is_gt()) {
            self.high = Some(value);
        }
    }

    fn answer(&self, function: Function) -> Json {
        let shown = |value: &Option<Value>| value.as_ref().map_or(Json::Null, Value::to_rest_json);
        match function {
            Function::Count => self.count.into(),
            Function::CountDistinct => self.distinct.len().into(),
            Function::Min => shown(&self.low),
            Function::Max => shown(&self.high),
            Function::Sum => self.sum.into(),
            Function::Avg => {
                if self.count == 0 {
                    Json::Null
                } else {
                    (self.sum / self.count as f64).into()
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::org::{Org, OrgConfig};
    use crate::soql::parse::parse;
    use crate::soql::plan::{Door, plan};

    fn ask(soql: &str) -> Result<Vec<Json>, SoqlError> {
        let org = Org::new(OrgConfig::default().with_rows("Account", 3_000).with_rows("Contact", 200));
        let snapshot = org.snapshot();
        let plan = plan(&parse(soql, org.now_ms())?, snapshot.catalog(), false, Door::Rest)?;
        match &plan.output {
            Output::Rows(columns) => Ok(Matching::new(&plan, &snapshot, None)?
                .map(|row| {
                    let mut text = Vec::new();
                    write_row(&plan, columns, &row, &snapshot, "66.0", &mut text);
                    serde_json::from_slice(&text).unwrap()
                })
                .collect()),
            Output::Count => Ok(vec![total(&plan, &snapshot)?.into()]),
            Output::Groups { by, aggregates } => groups(&plan, by, aggregates, &snapshot),
        }
    }

    #[test]
    fn a_window_with_a_keyset_continuation_covers_every_row_once() {
        let all = ask("SELECT Id, SystemModstamp FROM Account ORDER BY SystemModstamp, Id").unwrap();
        let middle = &all[all.len() / 2];
        let (stamp, id) = (
            middle["SystemModstamp"].as_str().unwrap().replace("+0000", "Z"),
            middle["Id"].as_str().unwrap(),
        );
        let rest = ask(&format!(
            "SELECT Id, SystemModstamp FROM Account WHERE (SystemModstamp > {stamp} OR (SystemModstamp = {stamp} AND Id > '{id}')) \
             ORDER BY SystemModstamp, Id"
        ))
        .unwrap();
        assert_eq!(rest.as_slice(), &all[all.len() / 2 + 1..]);
    }

    #[test]
    fn what_is_asked_is_what_is_answered() {
        let named = ask(
            "SELECT Id, Owner.Name, Owner.Id FROM Account WHERE Name != null ORDER BY Name DESC, Id LIMIT 3",
        )
        .unwrap();
        assert!(named[0]["Owner"]["Name"].is_string() && named[0]["Owner"]["attributes"]["type"] == "User");
        let counted = ask("SELECT COUNT() FROM Account").unwrap();
        let grouped =
            ask("SELECT COUNT(Id) n, MIN(SystemModstamp), MAX(SystemModstamp) m FROM Account").unwrap();
        assert_eq!(grouped[0]["n"], counted[0]);
        assert!(grouped[0]["expr0"].as_str() < grouped[0]["m"].as_str());
        assert!(ask("SELECT Id FROM Account WHERE Name LIKE '%'").unwrap().len() > 2_000);
    }

    #[test]
    fn refusals_carry_salesforces_words() {
        for (soql, code, words) in [
            ("SELECT Id FROM Accout", "INVALID_TYPE", "sObject type 'Accout' is not supported"),
            ("SELECT Nome FROM Account", "INVALID_FIELD", "No such column 'Nome' on entity 'Account'"),
            ("SELECT Id FROM Vote", "MALFORMED_QUERY", "When querying the Vote object"),
            ("SELECT Id, Id FROM Account", "INVALID_FIELD", "duplicate field selected: Id"),
            ("SELECT FIELDS(ALL) FROM Account", "MALFORMED_QUERY", "not supported with an unbounded set"),
            ("SELECT Id FROM AccountChangeEvent", "INVALID_TYPE_FOR_OPERATION", "does not support query"),
            ("SELECT Id FROM Account OFFSET 2001", "NUMBER_OUTSIDE_VALID_RANGE", "offset"),
            (
                "SELECT Id FROM Account WHERE SystemModstamp > 2026-01-01",
                "INVALID_FIELD",
                "must be of type datetime",
            ),
        ] {
            let error = ask(soql).expect_err(soql);
            assert_eq!(error.code, code, "{soql}");
            assert!(error.message.contains(words), "{soql}: {}", error.message);
        }
    }
}
