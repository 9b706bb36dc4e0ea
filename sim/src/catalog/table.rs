//! The embedded catalogue tables: one line an object, one line a field.
//!
//! Comes in: text such as
//! `object Account prefix=001 rows=1000 plural=Accounts merge feed` and
//! `  BillingCity string(40) part=BillingAddress`. Goes out: object definitions.
//! `+id`, `+deleted`, `+master`, `+owner`, `+recordtype`, `+audit` and `+viewed` stand for the system fields.
//! Field facts come from recorded describes (their sources stand in docs/simulator.md).

use std::borrow::Cow;

use super::field::{Access, FieldDef, FieldType, PicklistValue};
use super::formula::Formula;
use super::object::{ObjectDef, ObjectFlags, RecordTypeDef};
use super::rules::ObjectRules;

const TABLES: &[(&str, &str)] = &[
    ("sales", include_str!("tables/sales.txt")),
    ("service", include_str!("tables/service.txt")),
    ("marketing", include_str!("tables/marketing.txt")),
    ("commerce", include_str!("tables/commerce.txt")),
    ("platform", include_str!("tables/platform.txt")),
    ("custom", include_str!("tables/custom.txt")),
];

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("table {table}, line {line}: {problem}")]
pub struct TableError {
    pub table: String,
    pub line: usize,
    pub problem: String,
}

/// All embedded objects, record type rows numbered through.
pub fn standard() -> Result<Vec<ObjectDef>, TableError> {
    let mut objects = Vec::new();
    for (table, text) in TABLES {
        objects.extend(parse(table, text)?);
    }
    let mut row = 0;
    for object in &mut objects {
        for record_type in object.record_types.iter_mut().filter(|record_type| record_type.row.is_some()) {
            record_type.row = Some(row);
            row += 1;
        }
    }
    Ok(objects)
}

const MANY: &str = include_str!("tables/many.txt");

/// So many custom objects of one pattern: `Bulk0001__c` and so on, each with a prefix of its own.
pub fn many(count: u16) -> Result<Vec<ObjectDef>, TableError> {
    let Some(pattern) = parse("many", MANY)?.pop() else { return Ok(Vec::new()) };
    let letters = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    // From `a10` on: the tables take `a0`.
    let prefix = |place: usize| [b'a', letters[1 + place / 62], letters[place % 62]];
    let object = |place: usize| {
        let mut object = ObjectDef::new(
            format!("Bulk{:04}__c", place + 1),
            prefix(place),
            pattern.flags,
            pattern.all_fields().to_vec(),
        );
        object.label = format!("Bulk {:04}", place + 1);
        object.label_plural = format!("{}s", object.label);
        object.default_rows = pattern.default_rows;
        object
    };
    Ok((0..usize::from(count).min(MOST)).map(object).collect())
}

/// As many as there are prefixes.
const MOST: usize = 61 * 62;

/// Reads one table.
pub fn parse(table: &str, text: &'static str) -> Result<Vec<ObjectDef>, TableError> {
    let mut objects = Vec::new();
    let mut open: Option<(Header, Vec<FieldDef>)> = None;
    for (number, line) in text.lines().enumerate() {
        let fail = |problem: String| TableError { table: table.to_owned(), line: number + 1, problem };
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let tokens = tokens(line).map_err(fail)?;
        match (tokens.first().copied(), &mut open) {
            (Some("object"), _) => {
                objects.extend(open.take().map(|(header, fields)| header.finish(fields)));
                open = Some((Header::parse(&tokens).map_err(fail)?, Vec::new()));
            }
            (Some(word), Some((header, fields))) => match word.strip_prefix('+') {
                Some(group) => fields.extend(system_fields(group, header).map_err(fail)?),
                None => fields.push(parse_field(&tokens).map_err(fail)?),
            },
            _ => return Err(fail("a field stands before the first object".to_owned())),
        }
    }
    objects.extend(open.take().map(|(header, fields)| header.finish(fields)));
    Ok(objects)
}

/// Splits at blanks outside of `"…"`, `[…]` and `(…)`.
fn tokens(line: &'static str) -> Result<Vec<&'static str>, String> {
    let mut tokens = Vec::new();
    let (mut start, mut closer) = (None, None);
    for (at, c) in line.char_indices() {
        match (closer, c) {
            (Some(expected), c) if c == expected => closer = None,
            (Some(_), _) => {}
            (None, '"') => closer = Some('"'),
            (None, '[') => closer = Some(']'),
            (None, '(') => closer = Some(')'),
            (None, ' ') => {
                tokens.extend(start.take().and_then(|from| line.get(from..at)));
                continue;
            }
            _ => {}
        }
        start = start.or(Some(at));
    }
    if let Some(expected) = closer {
        return Err(format!("{expected} is missing"));
    }
    tokens.extend(start.and_then(|from| line.get(from..)));
    Ok(tokens)
}

struct Header {
    name: &'static str,
    prefix: [u8; 3],
    show_prefix: bool,
    label: String,
    plural: String,
    rows: u64,
    flags: ObjectFlags,
    associate: Option<(&'static str, &'static str)>,
    record_types: Vec<&'static str>,
    index: Vec<String>,
}

fn unquoted(text: &'static str) -> &'static str {
    text.trim_matches('"')
}

fn bracketed(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.trim_start_matches('[').trim_end_matches(']').split(';').filter(|entry| !entry.is_empty())
}

impl Header {
    fn parse(tokens: &[&'static str]) -> Result<Header, String> {
        let name = *tokens.get(1).ok_or("an object needs a name")?;
        let custom = ["__c", "__mdt", "__b", "__x", "__e"].iter().any(|suffix| name.ends_with(suffix));
        let mut header = Header {
            name,
            prefix: *b"000",
            show_prefix: true,
            label: FieldDef::new(name, FieldType::String).label,
            plural: String::new(),
            rows: 0,
            flags: ObjectFlags {
                createable: true,
                custom,
                custom_setting: false,
                deletable: true,
                feed_enabled: false,
                layoutable: true,
                mergeable: false,
                mru_enabled: !custom,
                queryable: true,
                replicateable: true,
                retrieveable: true,
                searchable: true,
                triggerable: true,
                undeletable: true,
                updateable: true,
                deprecated_and_hidden: false,
            },
            associate: None,
            record_types: Vec::new(),
            index: Vec::new(),
        };
        for token in tokens.iter().skip(2) {
            header.apply(token)?;
        }
        if header.plural.is_empty() {
            header.plural = match header.label.strip_suffix('y') {
                Some(stem) => format!("{stem}ies"),
                None => format!("{}s", header.label),
            };
        }
        Ok(header)
    }

    fn apply(&mut self, token: &'static str) -> Result<(), String> {
        let flags = &mut self.flags;
        match token.split_once('=') {
            Some(("prefix", prefix)) => {
                self.prefix = prefix.as_bytes().try_into().map_err(|_| "a prefix has three characters")?;
            }
            Some(("rows", rows)) => self.rows = rows.parse().map_err(|_| "rows is a number")?,
            Some(("label", label)) => self.label = unquoted(label).to_owned(),
            Some(("plural", plural)) => self.plural = unquoted(plural).to_owned(),
            Some(("assoc", pair)) => {
                self.associate = Some(pair.split_once(':').ok_or("assoc is Kind:Parent")?);
            }
            Some(("recordtypes", list)) => self.record_types = bracketed(list).collect(),
            Some(("index", list)) => self.index = bracketed(list).map(str::to_owned).collect(),
            Some((key, _)) => return Err(format!("unknown object setting {key}")),
            None => match token {
                "merge" => flags.mergeable = true,
                "feed" => flags.feed_enabled = true,
                "setting" => flags.custom_setting = true,
                "nocreate" => flags.createable = false,
                "noupdate" => flags.updateable = false,
                "nodelete" => (flags.deletable, flags.undeletable) = (false, false),
                "noundelete" => flags.undeletable = false,
                "norepl" => flags.replicateable = false,
                "noquery" => flags.queryable = false,
                "noretrieve" => flags.retrieveable = false,
                "nosearch" => flags.searchable = false,
                "nolayout" => flags.layoutable = false,
                "notrigger" => flags.triggerable = false,
                "noprefix" => self.show_prefix = false,
                "readonly" => {
                    (flags.createable, flags.updateable) = (false, false);
                    (flags.deletable, flags.undeletable) = (false, false);
                }
                "satellite" => {
                    (flags.layoutable, flags.searchable, flags.mru_enabled) = (false, false, false);
                    (flags.triggerable, flags.undeletable) = (false, false);
                }
                _ => return Err(format!("unknown object word {token}")),
            },
        }
        Ok(())
    }

    fn finish(self, fields: Vec<FieldDef>) -> ObjectDef {
        let queryable = self.flags.queryable;
        let mut object = ObjectDef::new(self.name, self.prefix, self.flags, fields);
        object.label = self.label;
        object.label_plural = self.plural;
        object.default_rows = self.rows;
        if !self.show_prefix {
            object.key_prefix = None;
        }
        if let Some((kind, parent)) = self.associate {
            object.associate_entity_type = Some(kind.to_owned());
            object.associate_parent_entity = Some(parent.to_owned());
        }
        object.rules = ObjectRules::for_object(self.name, queryable, self.index);
        if self.flags.layoutable {
            object.record_types = self
                .record_types
                .iter()
                .enumerate()
                .map(|(at, name)| RecordTypeDef {
                    developer_name: name.replace(' ', "_"),
                    name: (*name).to_owned(),
                    row: Some(0),
                    default: at == 0,
                })
                .chain(std::iter::once(RecordTypeDef {
                    developer_name: "Master".to_owned(),
                    name: "Master".to_owned(),
                    row: None,
                    default: self.record_types.is_empty(),
                }))
                .collect();
        }
        object
    }
}

fn system_fields(group: &str, header: &Header) -> Result<Vec<FieldDef>, String> {
    let user = |name: &str, relationship: &str| {
        let mut field =
            FieldDef::new(name, FieldType::Reference).referring_to(&["User"], relationship).read_only();
        field.nillable = false;
        field.defaulted_on_create = true;
        field
    };
    let moment = |name: &str, nillable: bool| {
        let mut field = FieldDef::new(name, FieldType::DateTime).read_only();
        field.nillable = nillable;
        field.defaulted_on_create = !nillable;
        field
    };
    Ok(match group {
        "id" => {
            let mut id = FieldDef::new("Id", FieldType::Id);
            id.label =
                if header.flags.custom { "Record ID".to_owned() } else { format!("{} ID", header.label) };
            vec![id]
        }
        "deleted" => {
            let mut field = FieldDef::new("IsDeleted", FieldType::Boolean).read_only();
            field.label = "Deleted".to_owned();
            vec![field]
        }
        "master" => {
            vec![
                FieldDef::new("MasterRecordId", FieldType::Reference)
                    .referring_to(&[header.name], "MasterRecord")
                    .read_only(),
            ]
        }
        "owner" => {
            let mut field = FieldDef::new("OwnerId", FieldType::Reference);
            field = match header.flags.custom {
                true => field.referring_to(&["Group", "User"], "Owner"),
                false => field.referring_to(&["User"], "Owner"),
            };
            field.nillable = false;
            field.defaulted_on_create = true;
            vec![field]
        }
        "recordtype" => {
            vec![
                FieldDef::new("RecordTypeId", FieldType::Reference)
                    .referring_to(&["RecordType"], "RecordType"),
            ]
        }
        "audit" => vec![
            moment("CreatedDate", false),
            user("CreatedById", "CreatedBy"),
            moment("LastModifiedDate", false),
            user("LastModifiedById", "LastModifiedBy"),
            moment("SystemModstamp", false),
        ],
        "created" => vec![moment("CreatedDate", false), user("CreatedById", "CreatedBy")],
        "modified" => vec![moment("LastModifiedDate", false), user("LastModifiedById", "LastModifiedBy")],
        "stamp" => vec![moment("SystemModstamp", false)],
        "viewed" => vec![moment("LastViewedDate", true), moment("LastReferencedDate", true)],
        _ => return Err(format!("unknown group of system fields {group}")),
    })
}

fn parse_field(tokens: &[&'static str]) -> Result<FieldDef, String> {
    let name = *tokens.first().ok_or("a field needs a name")?;
    let written = *tokens.get(1).ok_or("a field needs a type")?;
    let (type_name, arguments) = match written.split_once('(') {
        Some((type_name, rest)) => (type_name, rest.strip_suffix(')').unwrap_or(rest)),
        None => (written, ""),
    };
    let mut field = match type_name {
        "ref" => {
            let targets: Vec<&str> = arguments.split('|').filter(|target| !target.is_empty()).collect();
            FieldDef::new(name, FieldType::Reference).referring_to(&targets, "")
        }
        _ => FieldDef::new(name, FieldType::from_name(type_name)),
    };
    if type_name != "ref" && !arguments.is_empty() {
        let numbers = arguments.split(',').map(|number| number.trim().parse::<u32>());
        let numbers: Vec<u32> =
            numbers.collect::<Result<_, _>>().map_err(|_| format!("numbers expected in {written}"))?;
        field = match (numbers.as_slice(), &field.field_type) {
            ([digits], FieldType::Int | FieldType::Long) => {
                field.digits = *digits;
                field
            }
            ([precision, scale], _) => field.with_scale(*precision, *scale),
            ([length], _) => field.with_length(*length),
            _ => return Err(format!("one or two numbers expected in {written}")),
        };
    }
    for token in tokens.iter().skip(2) {
        field = apply_to_field(field, token)?;
    }
    Ok(field)
}

fn apply_to_field(mut field: FieldDef, token: &'static str) -> Result<FieldDef, String> {
    if token.starts_with('[') {
        field.picklist = bracketed(token)
            .map(|entry| {
                // `~` marks an inactive value, `*` the default one.
                let value = entry.trim_start_matches(['~', '*']);
                PicklistValue {
                    value: Cow::Borrowed(value),
                    active: !entry.starts_with('~'),
                    default: entry.starts_with('*'),
                }
            })
            .collect();
        if let Some(default) = field.picklist.iter().find(|entry| entry.default) {
            field.default_value = Some(default.value.clone().into_owned());
            field.defaulted_on_create = true;
        }
        return Ok(field);
    }
    match token.split_once('=') {
        Some(("part", compound)) => field.compound_field_name = Some(compound.to_owned()),
        Some(("rel", relationship)) => field.relationship_name = Some(relationship.to_owned()),
        Some(("extra", info)) => field.extra_type_info = Some(info.to_owned()),
        Some(("label", label)) => field.label = unquoted(label).to_owned(),
        Some(("default", value)) => {
            field.default_value = Some(unquoted(value).to_owned());
            field.defaulted_on_create = true;
        }
        Some(("control", controller)) => field.controller_name = Some(controller.to_owned()),
        Some(("target", target)) => field.reference_target_field = Some(target.to_owned()),
        Some(("mask", mask)) => field.mask_type = Some(mask.to_owned()),
        Some(("f", text)) => {
            let formula = Formula::parse(text).ok_or_else(|| format!("unknown formula {text}"))?;
            field = field.with_formula(formula);
        }
        Some((key, _)) => return Err(format!("unknown field setting {key}")),
        None => match token {
            "!" => field.nillable = false,
            "ro" => field = field.read_only(),
            "once" => field.updateable = false,
            "name" => field.name_field = true,
            "auto" => {
                field = field.read_only();
                field.auto_number = true;
                field.nillable = false;
                field.defaulted_on_create = true;
            }
            "md" => {
                field.nillable = false;
                field.cascade_delete = true;
                field.write_requires_master_read = true;
                field.relationship_order = Some(0);
                field.updateable = false;
            }
            "cascade" => field.cascade_delete = true,
            "restrict" => field.restricted_delete = true,
            "restricted" => field.restricted_picklist = true,
            "unique" => (field.unique, field.id_lookup) = (true, true),
            "extid" => (field.external_id, field.id_lookup) = (true, true),
            "idlookup" => field.id_lookup = true,
            "case" => field.case_sensitive = true,
            "html" => {
                field.html_formatted = true;
                field.extra_type_info = Some("richtextarea".to_owned());
            }
            "highscale" => field.high_scale_number = true,
            "nofilter" => (field.filterable, field.sortable) = (false, false),
            "nosort" => field.sortable = false,
            "nogroup" => field.groupable = false,
            "perm" => field.permissionable = true,
            "noperm" => field.permissionable = false,
            "hidden" => field.access = Access::Hidden,
            "deprecated" => field.deprecated_and_hidden = true,
            _ => return Err(format!("unknown field word {token}")),
        },
    }
    Ok(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_tables_parse() {
        let objects = standard().unwrap();
        assert!(objects.len() > 70, "{}", objects.len());
        let mut names: Vec<_> = objects.iter().map(|object| object.name.to_lowercase()).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), objects.len());
        let mut prefixes: Vec<_> = objects.iter().map(|object| object.id_prefix).collect();
        prefixes.sort();
        prefixes.dedup();
        assert_eq!(prefixes.len(), objects.len(), "an id must tell its object");
        let account = objects.iter().find(|object| object.name == "Account").unwrap();
        assert!(account.all_fields().len() >= 68);
        let all_types = objects.iter().find(|object| object.name == "AllTypes__c").unwrap();
        for name in FieldType::names() {
            assert!(all_types.all_fields().iter().any(|field| field.field_type.name() == name), "{name}");
        }
        for object in &objects {
            let mut fields: Vec<_> = object.all_fields().iter().map(|f| f.name.to_lowercase()).collect();
            let count = fields.len();
            fields.sort();
            fields.dedup();
            assert_eq!(fields.len(), count, "{} names a field twice", object.name);
        }
    }

    #[test]
    fn a_thousand_objects_of_one_pattern_are_told_apart_by_their_ids() {
        let objects = many(1_000).unwrap();
        assert_eq!(objects.len(), 1_000);
        assert_eq!((&*objects[0].name, &*objects[999].name), ("Bulk0001__c", "Bulk1000__c"));
        let mut prefixes: Vec<_> =
            standard().unwrap().iter().chain(&objects).map(|object| object.id_prefix).collect();
        let all = prefixes.len();
        prefixes.sort();
        prefixes.dedup();
        assert_eq!(prefixes.len(), all);
        assert!(objects[999].all_fields().len() > 45);
    }

    #[test]
    fn a_bad_line_is_named() {
        let error = parse("t", "object A\n\n X string(80) wrong").unwrap_err();
        assert_eq!(error.to_string(), "table t, line 3: unknown field word wrong");
        assert!(parse("t", "X string").is_err());
        assert!(parse("t", "object A prefix=1").is_err());
    }

    #[test]
    fn a_line_says_all_about_a_field() {
        let text = r#"object Line__c prefix=a01 rows=7 label="Line"
            Invoice__c ref(Invoice__c) rel=Invoice__r md
            Kind__c picklist(20) [*New;Old one;~Gone] restricted
            Rate__c percent(5,2) !
            Twice__c double(18,4) f=twice(Rate__c)"#;
        let object = parse("t", text).unwrap().remove(0);
        assert_eq!((object.label_plural.as_str(), object.default_rows), ("Lines", 7));
        let field = |name| object.field(name).unwrap().1;
        assert!(field("invoice__C").cascade_delete && !field("Invoice__c").nillable);
        assert_eq!(field("Kind__c").picklist.len(), 3);
        assert!(!field("Kind__c").picklist[2].active);
        assert_eq!(field("Kind__c").default_value.as_deref(), Some("New"));
        assert_eq!((field("Rate__c").precision, field("Rate__c").scale), (5, 2));
        assert!(field("Twice__c").is_calculated() && !field("Twice__c").createable);
        assert_eq!(object.relationship("invoice__r").unwrap().1.name, "Invoice__c");
    }
}
