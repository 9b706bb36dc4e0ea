//! A query with its names looked up, its rules enforced and its range taken out for the scan.
//!
//! Comes in: a parsed query and a snapshot's catalogue. Goes out: a plan, or the error Salesforce answers (rest.md
//! 3.3, section 6). A condition that narrows the scan is kept as a filter too: the scan only spares work.

use std::ops::Bound;
use std::sync::Arc;

use super::{Filter, Function, Group, Item, Literal, Operator, Path, Query, SoqlError};
use crate::catalog::{Catalog, FieldDef, FieldType, ObjectDef};
use crate::catalog::{FilterNeed, QueryRule, RuleError};
use crate::org::{Id, ScanOrder, ScanRange};

const MOST_OFFSET: u64 = 2_000;

/// A column of the answer: steps of references, then a field.
#[derive(Clone, Debug)]
pub struct Column {
    /// As the answer spells it: describe's names joined by dots.
    pub name: String,
    pub path: Vec<String>,
    /// Index of the field in the object, if the path has one step.
    pub field: Option<usize>,
    pub field_type: FieldType,
}

#[derive(Clone, Debug)]
pub struct Aggregate {
    pub function: Function,
    pub column: Column,
    pub name: String,
}

#[derive(Clone, Debug)]
pub enum Output {
    Rows(Vec<Column>),
    /// `COUNT()`: the size alone.
    Count,
    Groups {
        by: Vec<Column>,
        aggregates: Vec<Aggregate>,
    },
}

#[derive(Clone, Debug)]
pub struct Sort {
    pub column: Column,
    pub descending: bool,
    pub nulls_last: bool,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub object: Arc<ObjectDef>,
    pub output: Output,
    pub children: Vec<Children>,
    pub filter: Option<Filter>,
    pub range: ScanRange,
    /// Empty if the scan's own order is the one asked for.
    pub sort: Vec<Sort>,
    pub ordered: bool,
    pub limit: Option<u64>,
    pub offset: u64,
}

/// A child sub-select: the child object's records that refer to the row.
#[derive(Clone, Debug)]
pub struct Children {
    pub relationship: String,
    pub reference: String,
    pub plan: Box<Plan>,
}

/// Which door asks: Bulk refuses more (rest.md 4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    Rest,
    Bulk,
}

pub fn plan(
    query: &Query,
    catalog: &Arc<Catalog>,
    include_deleted: bool,
    door: Door,
) -> Result<Plan, SoqlError> {
    let object = catalog.object(&query.from).ok_or_else(|| invalid_type(&query.from))?;
    check_object(query, object, door)?;
    let names = Names { catalog, object };
    let (output, children) = output(query, &names, include_deleted, door)?;
    if let Some(filter) = &query.filter {
        names.check_filter(filter)?;
    }
    let mut range =
        ScanRange { include_deleted: include_deleted && !object.rules.external, ..ScanRange::default() };
    let (sort, ordered) = order(query, &names, &mut range)?;
    narrow(query.filter.as_ref(), object, &mut range);
    let offset = query.offset.unwrap_or(0);
    if offset > MOST_OFFSET {
        return Err(SoqlError::new("NUMBER_OUTSIDE_VALID_RANGE", "Maximum SOQL offset allowed is 2000"));
    }
    let (limit, offset) = if object.rules.reified { (None, 0) } else { (query.limit, offset) };
    let limit = match (limit, object.rules.max_rows) {
        (Some(asked), Some(most)) => Some(asked.min(most)),
        (asked, most) => asked.or(most),
    };
    Ok(Plan {
        object: object.clone(),
        output,
        children,
        filter: shown(object, query.filter.clone()),
        range,
        sort,
        ordered,
        limit,
        offset,
    })
}

pub fn invalid_type(name: &str) -> SoqlError {
    SoqlError::new(
        "INVALID_TYPE",
        format!(
            "\nFROM {name}\n     ^\nERROR at Row:1:Column:6\nsObject type '{name}' is not supported. If you are \
             attempting to use a custom object, be sure to append the '__c' after the entity name. Please reference \
             your WSDL or the describe call for the appropriate names."
        ),
    )
}

fn refused(error: &RuleError) -> SoqlError {
    SoqlError { status: error.status, code: error.code.clone(), message: error.message.clone() }
}

fn check_object(query: &Query, object: &ObjectDef, door: Door) -> Result<(), SoqlError> {
    let rules = &object.rules;
    match &rules.query {
        QueryRule::Free => {}
        QueryRule::NotQueryable => {
            let message = format!("entity type {} does not support query", object.name);
            return Err(SoqlError::new("INVALID_TYPE_FOR_OPERATION", message));
        }
        QueryRule::Refused(error) => return Err(refused(error)),
        QueryRule::Needs(need) => {
            if !meets(need, query.filter.as_ref()) {
                let mut error = refused(&need.error);
                if door == Door::Bulk && error.message.starts_with("Implementation restriction") {
                    // The same words under another code (rest.md 4.4).
                    error.code = "API_ERROR".into();
                }
                return Err(error);
            }
        }
    }
    let counts = query.items.iter().any(|item| matches!(item, Item::CountAll | Item::Aggregate { .. }));
    if let (true, Some(error)) = (counts, &rules.count_refused) {
        return Err(refused(error));
    }
    if !rules.big_object_index.is_empty() && counts {
        return Err(SoqlError::new("BIG_OBJECT_UNSUPPORTED_OPERATION", "Aggregate functions not supported"));
    }
    if door == Door::Rest {
        return Ok(());
    }
    if rules.bulk_refused {
        let message = format!("Entity '{}' is not supported by the Bulk API.", object.name);
        return Err(SoqlError::new("INVALIDENTITY", message));
    }
    let unsupported = counts
        || !query.group_by.is_empty()
        || query.offset.is_some()
        || query.items.iter().any(|item| matches!(item, Item::Children(_) | Item::Fields(_)));
    if unsupported {
        return Err(SoqlError::new(
            "API_ERROR",
            "Implementation restriction: aggregates, GROUP BY, OFFSET, FIELDS() and sub-selects are not supported in bulk queries",
        ));
    }
    Ok(())
}

/// Whether the conditions joined by AND hold what the object needs.
fn meets(need: &FilterNeed, filter: Option<&Filter>) -> bool {
    let conditions: Vec<&Filter> = match filter {
        None => return false,
        Some(Filter::And(all)) => all.iter().collect(),
        Some(other) => vec![other],
    };
    let has = |path: &str, allows_in: bool| {
        conditions.iter().any(|condition| match condition {
            Filter::Compare { path: found, operator: Operator::Equal, .. } => {
                found.join(".").eq_ignore_ascii_case(path)
            }
            Filter::In { path: found, negated: false, .. } => {
                allows_in && found.join(".").eq_ignore_ascii_case(path)
            }
            _ => false,
        })
    };
    let mut columns = need.columns.iter().map(|column| has(&column.path, column.allows_in));
    if need.all { columns.all(|found| found) } else { columns.any(|found| found) }
}

/// Conditions joined by AND, however they are bracketed.
fn joined<'f>(filter: Option<&'f Filter>, found: &mut Vec<&'f Filter>) {
    match filter {
        Some(Filter::And(all)) => all.iter().for_each(|one| joined(Some(one), found)),
        other => found.extend(other),
    }
}

/// rest.md 6.4: by article id and `IsLatestVersion = false`.
fn asks_for_old_versions(filter: Option<&Filter>) -> bool {
    let mut conditions = Vec::new();
    joined(filter, &mut conditions);
    let is = |path: &Path, name: &str| path.join(".").eq_ignore_ascii_case(name);
    let article = conditions.iter().any(|condition| match condition {
        Filter::Compare { path, operator: Operator::Equal, .. } | Filter::In { path, negated: false, .. } => {
            is(path, "KnowledgeArticleId")
        }
        _ => false,
    });
    let old = conditions.iter().any(|condition| {
        matches!(condition, Filter::Compare { path, operator: Operator::Equal, literal: Literal::Bool(false) }
            if is(path, "IsLatestVersion"))
    });
    article && old
}

/// The filter, and what the object hides whatever is asked.
fn shown(object: &ObjectDef, filter: Option<Filter>) -> Option<Filter> {
    if !object.rules.old_versions_by_article || asks_for_old_versions(filter.as_ref()) {
        return filter;
    }
    let is = |name: &str, literal: Literal| {
        let path = vec![name.to_owned()];
        Filter::Compare { path, operator: Operator::Equal, literal }
    };
    let archived = is("PublishStatus", Literal::Text("Archived".to_owned()));
    let old = Filter::And(vec![archived, is("IsLatestVersion", Literal::Bool(false))]);
    Some(Filter::And(filter.into_iter().chain([Filter::Not(Box::new(old))]).collect()))
}

struct Names<'a> {
    catalog: &'a Arc<Catalog>,
    object: &'a Arc<ObjectDef>,
}

impl Names<'_> {
    fn column(&self, path: &Path) -> Result<Column, SoqlError> {
        // `Account.Name FROM Account` names the object itself.
        let path = match path.split_first() {
            Some((first, rest)) if !rest.is_empty() && first.eq_ignore_ascii_case(&self.object.name) => rest,
            _ => path,
        };
        let (last, steps) = path
            .split_last()
            .ok_or_else(|| SoqlError::new("MALFORMED_QUERY", "unexpected token: '<EOF>'"))?;
        let mut object = self.object.clone();
        let mut names = Vec::new();
        for step in steps {
            let (_, reference) = object.relationship(step).ok_or_else(|| no_relationship(step, &object))?;
            names.push(reference.relationship_name.clone().unwrap_or_else(|| step.clone()));
            let target = match reference.reference_to.as_slice() {
                [one] => one.clone(),
                // A polymorphic reference shows what all its targets have.
                _ => "Name".to_owned(),
            };
            object = self
                .catalog
                .object(&target)
                .or_else(|| reference.reference_to.iter().find_map(|name| self.catalog.object(name)))
                .cloned()
                .ok_or_else(|| invalid_type(&target))?;
        }
        let polymorphic_type =
            !steps.is_empty() && last.eq_ignore_ascii_case("Type") && object.field("Type").is_none();
        if polymorphic_type {
            names.push("Type".to_owned());
            return Ok(Column {
                name: names.join("."),
                path: names,
                field: None,
                field_type: FieldType::from_name("string"),
            });
        }
        let (index, field) = object.field(last).ok_or_else(|| no_column(last, &object))?;
        names.push(field.name.clone());
        Ok(Column {
            name: names.join("."),
            field: names.len().eq(&1).then_some(index),
            path: names,
            field_type: field.field_type.clone(),
        })
    }

    fn field(&self, path: &Path) -> Option<&FieldDef> {
        match path.as_slice() {
            [name] => self.object.field(name).map(|(_, field)| field),
            _ => None,
        }
    }

    fn check_filter(&self, filter: &Filter) -> Result<(), SoqlError> {
        match filter {
            Filter::And(all) | Filter::Or(all) => all.iter().try_for_each(|one| self.check_filter(one)),
            Filter::Not(one) => self.check_filter(one),
            Filter::In { path, literals, .. } => {
                literals.iter().try_for_each(|literal| self.check_condition(path, literal))
            }
            Filter::Compare { path, literal, .. } => self.check_condition(path, literal),
        }
    }

    fn check_condition(&self, path: &Path, literal: &Literal) -> Result<(), SoqlError> {
        let column = self.column(path)?;
        if let Some(field) = self.field(path).filter(|field| !field.filterable) {
            let message = format!("field '{}' can not be filtered in a query call", field.name);
            return Err(SoqlError::new("INVALID_FIELD", message));
        }
        let name = column.name;
        let fits = match (column.field_type.name(), literal) {
            (_, Literal::Null) => true,
            ("datetime", Literal::DateTime(_) | Literal::Span { .. }) => true,
            ("date", Literal::Date(_) | Literal::Span { .. }) => true,
            ("datetime" | "date", _)
            | (_, Literal::DateTime(_) | Literal::Date(_) | Literal::Span { .. }) => false,
            ("boolean", literal) => matches!(literal, Literal::Bool(_)),
            (_, Literal::Bool(_)) => false,
            ("int" | "long" | "double" | "currency" | "percent", literal) => {
                matches!(literal, Literal::Number(_))
            }
            (_, Literal::Number(_)) => false,
            _ => true,
        };
        if fits {
            return Ok(());
        }
        let message = format!(
            "value of filter criterion for field '{name}' must be of type {}",
            column.field_type.name()
        );
        Err(SoqlError::new("INVALID_FIELD", message))
    }
}

fn no_column(name: &str, object: &ObjectDef) -> SoqlError {
    SoqlError::new(
        "INVALID_FIELD",
        format!(
            "\nSELECT {name} FROM {object}\n       ^\nERROR at Row:1:Column:8\nNo such column '{name}' on entity \
             '{object}'. If you are attempting to use a custom field, be sure to append the '__c' after the custom field \
             name. Please reference your WSDL or the describe call for the appropriate names.",
            object = object.name
        ),
    )
}

fn no_relationship(name: &str, object: &ObjectDef) -> SoqlError {
    SoqlError::new(
        "INVALID_FIELD",
        format!(
            "\nERROR at Row:1:Column:8\nDidn't understand relationship '{name}' in field path on entity '{}'. If you are \
             attempting to use a custom relationship, be sure to append the '__r' after the custom relationship name.",
            object.name
        ),
    )
}

fn output(
    query: &Query,
    names: &Names<'_>,
    include_deleted: bool,
    door: Door,
) -> Result<(Output, Vec<Children>), SoqlError> {
    if query.items == [Item::CountAll] {
        return Ok((Output::Count, Vec::new()));
    }
    let (mut columns, mut aggregates, mut children): (Vec<Column>, Vec<Aggregate>, Vec<Children>) =
        Default::default();
    for item in &query.items {
        match item {
            Item::Field(path) => {
                let column = names.column(path)?;
                if columns.iter().any(|known| known.name == column.name) {
                    return Err(SoqlError::new(
                        "INVALID_FIELD",
                        format!("duplicate field selected: {}", column.name),
                    ));
                }
                if door == Door::Bulk && column.field_type.is_refused_by_bulk() {
                    return Err(match column.field_type.name() {
                        "address" | "location" => SoqlError::new(
                            "INVALID_FIELD",
                            "Selecting compound data not supported in Bulk Query",
                        ),
                        _ => SoqlError::new(
                            "FEATURENOTENABLED",
                            format!(
                                "FeatureNotEnabled : Cannot serialize value for '{}' in CSV format",
                                column.name
                            ),
                        ),
                    });
                }
                columns.push(column);
            }
            Item::Fields(group) => columns.extend(all_fields(query, names, *group, &columns)?),
            Item::CountAll => {
                return Err(SoqlError::new("MALFORMED_QUERY", "unexpected token: 'COUNT'"));
            }
            Item::Aggregate { function, path, alias } => {
                let name = alias.clone().unwrap_or_else(|| format!("expr{}", aggregates.len()));
                aggregates.push(Aggregate { function: *function, column: names.column(path)?, name });
            }
            Item::Children(nested) => children.push(child(nested, names, include_deleted)?),
        }
    }
    if aggregates.is_empty() && query.group_by.is_empty() {
        return Ok((Output::Rows(columns), children));
    }
    let by = query.group_by.iter().map(|path| names.column(path)).collect::<Result<Vec<_>, _>>()?;
    if let Some(loose) = columns.iter().find(|column| by.iter().all(|grouped| grouped.name != column.name)) {
        let message = format!("Field must be grouped or aggregated: {}", loose.name);
        return Err(SoqlError::new("MALFORMED_QUERY", message));
    }
    Ok((Output::Groups { by, aggregates }, Vec::new()))
}

fn all_fields(
    query: &Query,
    names: &Names<'_>,
    group: Group,
    chosen: &[Column],
) -> Result<Vec<Column>, SoqlError> {
    if group != Group::Standard && query.limit.is_none_or(|limit| limit > 200) {
        return Err(SoqlError::new(
            "MALFORMED_QUERY",
            "The SOQL FIELDS function is not supported with an unbounded set of fields in this API.",
        ));
    }
    let fields: Vec<_> = names
        .object
        .visible_fields()
        .filter(|(_, field)| match group {
            Group::All => true,
            Group::Standard => !field.custom,
            Group::Custom => field.custom,
        })
        .collect();
    if let Some((_, field)) =
        fields.iter().find(|(_, field)| chosen.iter().any(|column| column.name == field.name))
    {
        return Err(SoqlError::new("INVALID_FIELD", format!("duplicate field selected: {}", field.name)));
    }
    Ok(fields
        .into_iter()
        .map(|(index, field)| Column {
            name: field.name.clone(),
            path: vec![field.name.clone()],
            field: Some(index),
            field_type: field.field_type.clone(),
        })
        .collect())
}

fn child(nested: &Query, names: &Names<'_>, include_deleted: bool) -> Result<Children, SoqlError> {
    let found = names.object.child_relationships.iter().find(|relationship| {
        relationship.relationship_name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(&nested.from))
    });
    let relationship = found.ok_or_else(|| no_relationship(&nested.from, names.object))?;
    let query = Query { from: relationship.child.clone(), ..nested.clone() };
    Ok(Children {
        relationship: relationship.relationship_name.clone().unwrap_or_default(),
        reference: relationship.field.clone(),
        plan: Box::new(plan(&query, names.catalog, include_deleted, Door::Rest)?),
    })
}

/// Lets the scan order by cursor and id where it can; else the rows must be sorted.
fn order(query: &Query, names: &Names<'_>, range: &mut ScanRange) -> Result<(Vec<Sort>, bool), SoqlError> {
    let mut sort = Vec::new();
    for order in &query.order {
        if let Some(field) = names.field(&order.path)
            && !field.sortable
        {
            let message = format!("field '{}' can not be sorted in a query call", field.name);
            return Err(SoqlError::new("INVALID_FIELD", message));
        }
        let column = names.column(&order.path)?;
        sort.push(Sort { column, descending: order.descending, nulls_last: order.nulls_last });
    }
    let system = names.object.system();
    let key = |sort: &Sort| sort.column.field;
    let native = match sort.as_slice() {
        [] => Some((ScanOrder::Id, false)),
        [one] if key(one).is_some() && key(one) == system.id => Some((ScanOrder::Id, one.descending)),
        [one] if key(one).is_some() && key(one) == system.cursor => Some((ScanOrder::Cursor, one.descending)),
        [first, second]
            if key(first).is_some()
                && key(first) == system.cursor
                && key(second) == system.id
                && first.descending == second.descending =>
        {
            Some((ScanOrder::Cursor, first.descending))
        }
        _ => None,
    };
    let ordered = !sort.is_empty();
    if let Some((order, descending)) = native {
        (range.order, range.descending) = (order, descending);
        sort.clear();
    }
    Ok((sort, ordered))
}

/// Takes bounds on cursor and id out of the conditions joined by AND.
fn narrow(filter: Option<&Filter>, object: &ObjectDef, range: &mut ScanRange) {
    let conditions = match filter {
        None => return,
        Some(Filter::And(all)) => all.as_slice(),
        Some(one) => std::slice::from_ref(one),
    };
    let system = object.system();
    for condition in conditions {
        // `(c > t OR (c = t AND Id > i))` is the usual keyset continuation: at least c >= t.
        let condition = match condition {
            Filter::Or(either) => match either.first() {
                Some(Filter::Compare { path, operator: Operator::Greater, literal })
                    if is_keyset(either, path, literal) =>
                {
                    &Filter::Compare {
                        path: path.clone(),
                        operator: Operator::GreaterOrEqual,
                        literal: literal.clone(),
                    }
                }
                _ => continue,
            },
            other => other,
        };
        let Filter::Compare { path, operator, literal } = condition else { continue };
        let [name] = path.as_slice() else { continue };
        let Some((index, _)) = object.field(name) else { continue };
        if Some(index) == system.cursor {
            let Literal::DateTime(ms) = literal else { continue };
            bound(&mut range.cursor, *operator, *ms);
        } else if Some(index) == system.id && !object.rules.constant_id {
            let Literal::Text(text) = literal else { continue };
            if let Some(id) = Id::parse(text) {
                bound(&mut range.id, *operator, id);
            }
        }
    }
}

fn is_keyset(either: &[Filter], path: &Path, literal: &Literal) -> bool {
    either.iter().skip(1).all(|other| match other {
        Filter::And(all) => all.iter().any(|one| {
            matches!(one, Filter::Compare { path: found, operator: Operator::Equal, literal: at } if found == path && at == literal)
        }),
        _ => false,
    })
}

fn bound<T: Copy + PartialOrd>((low, high): &mut (Bound<T>, Bound<T>), operator: Operator, value: T) {
    let raise = |low: &mut Bound<T>, to: Bound<T>| {
        let higher = match (&*low, &to) {
            (Bound::Unbounded, _) => true,
            (Bound::Included(old), Bound::Included(new) | Bound::Excluded(new)) => new >= old,
            (Bound::Excluded(old), Bound::Included(new) | Bound::Excluded(new)) => new > old,
            (_, Bound::Unbounded) => false,
        };
        if higher {
            *low = to;
        }
    };
    let lower = |high: &mut Bound<T>, to: Bound<T>| {
        let lower = match (&*high, &to) {
            (Bound::Unbounded, _) => true,
            (Bound::Included(old), Bound::Included(new) | Bound::Excluded(new)) => new <= old,
            (Bound::Excluded(old), Bound::Included(new) | Bound::Excluded(new)) => new < old,
            (_, Bound::Unbounded) => false,
        };
        if lower {
            *high = to;
        }
    };
    match operator {
        Operator::Equal => {
            raise(low, Bound::Included(value));
            lower(high, Bound::Included(value));
        }
        Operator::Less => lower(high, Bound::Excluded(value)),
        Operator::LessOrEqual => lower(high, Bound::Included(value)),
        Operator::Greater => raise(low, Bound::Excluded(value)),
        Operator::GreaterOrEqual => raise(low, Bound::Included(value)),
        Operator::NotEqual | Operator::Like | Operator::Includes | Operator::Excludes => {}
    }
}
