//! What tells two schemas of one subject apart, in words for people.
//!
//! Comes in: the schema a subject holds, and the one that would follow it. Goes out: one line for each field that was added,
//! removed, moved or has another type, and for whatever else differs. Equal schemas give none, however they are spelled.

use serde::Serialize;
use serde_json::Value;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub what: What,
    /// None: it is the record's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// `field Region__c added: optional string`
    pub words: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    Added,
    Removed,
    Type,
    Default,
    Order,
    /// Name or namespace of the record.
    Name,
    /// Labels, help texts, properties: no reader minds.
    Description,
}

/// `now` is what the subject holds, `next` what would be registered.
pub fn differences(now: &Value, next: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    if now == next {
        return found;
    }
    let (old_name, new_name) = (named(now), named(next));
    if old_name != new_name {
        found.push(of_record(What::Name, format!("record {old_name} becomes {new_name}")));
    }
    let (old, new) = (fields(now), fields(next));
    let find = |fields: &[(String, Value)], name: &str| {
        fields.iter().find(|(known, _)| known == name).map(|(_, field)| field.clone())
    };
    for (name, field) in &old {
        if find(&new, name).is_none() {
            found.push(of_field(What::Removed, name, format!("removed: {}", kind(field))));
        }
    }
    for (name, field) in &new {
        let Some(before) = find(&old, name) else {
            found.push(of_field(What::Added, name, format!("added: {}", kind(field))));
            continue;
        };
        if before == *field {
            continue;
        }
        if before.get("type") != field.get("type") {
            let (was, becomes) = (kind(&before), kind(field));
            let words = if was == becomes {
                format!("has another type, also {was}")
            } else {
                format!("has another type: {was} becomes {becomes}")
            };
            found.push(of_field(What::Type, name, words));
        }
        if before.get("default") != field.get("default") {
            let (was, becomes) = (default(&before), default(field));
            found.push(of_field(
                What::Default,
                name,
                format!("has another default: {was} becomes {becomes}"),
            ));
        }
        let others = changed_properties(&before, field);
        if !others.is_empty() {
            found.push(of_field(
                What::Description,
                name,
                format!("described otherwise: {}", others.join(", ")),
            ));
        }
    }
    let both = |fields: &[(String, Value)], other: &[(String, Value)]| {
        let names = fields.iter().map(|(name, _)| name.clone());
        names.filter(|name| find(other, name).is_some()).collect::<Vec<_>>()
    };
    if both(&old, &new) != both(&new, &old) {
        found.push(of_record(What::Order, "the fields stand in another order".to_owned()));
    }
    let others = changed_properties(now, next);
    if !others.is_empty() {
        found.push(of_record(
            What::Description,
            format!("the record is described otherwise: {}", others.join(", ")),
        ));
    }
    if found.is_empty() {
        found.push(of_record(What::Description, "the schemas differ in what no field shows".to_owned()));
    }
    found
}

fn of_record(what: What, words: String) -> Difference {
    Difference { what, field: None, words }
}

fn of_field(what: What, name: &str, words: String) -> Difference {
    Difference { what, field: Some(name.to_owned()), words: format!("field {name} {words}") }
}

fn named(schema: &Value) -> String {
    let text = |key: &str| schema.get(key).and_then(Value::as_str).unwrap_or_default();
    match text("namespace") {
        "" => text("name").to_owned(),
        namespace => format!("{namespace}.{}", text("name")),
    }
}

fn fields(schema: &Value) -> Vec<(String, Value)> {
    let fields = schema.get("fields").and_then(Value::as_array).into_iter().flatten();
    let named = |field: &Value| Some((field.get("name")?.as_str()?.to_owned(), field.clone()));
    fields.filter_map(named).collect()
}

fn default(field: &Value) -> String {
    field.get("default").map_or("none".to_owned(), Value::to_string)
}

fn kind(field: &Value) -> String {
    field.get("type").map_or("no type".to_owned(), words)
}

/// A type as people say it: `optional long (timestamp-millis)`.
fn words(of: &Value) -> String {
    match of {
        Value::String(name) => name.clone(),
        Value::Array(branches) => {
            let is_null = |branch: &&Value| branch.as_str() == Some("null");
            let others: Vec<String> = branches.iter().filter(|branch| !is_null(branch)).map(words).collect();
            let optional = if others.len() < branches.len() { "optional " } else { "" };
            format!("{optional}{}", others.join(" or "))
        }
        Value::Object(_) => {
            let text = |key: &str| of.get(key).and_then(Value::as_str);
            let number = |key: &str| of.get(key).and_then(Value::as_u64);
            let base = match (text("type").unwrap_or_default(), text("name")) {
                (base, Some(name)) => format!("{base} {name}"),
                ("array", None) => format!("array of {}", of.get("items").map_or("?".to_owned(), words)),
                ("map", None) => format!("map of {}", of.get("values").map_or("?".to_owned(), words)),
                (base, None) => base.to_owned(),
            };
            match (text("logicalType"), number("precision")) {
                (Some(logical), Some(precision)) => {
                    format!("{base} ({logical} {precision}, {})", number("scale").unwrap_or(0))
                }
                (Some(logical), None) => format!("{base} ({logical})"),
                (None, _) => base,
            }
        }
        _ => "no type".to_owned(),
    }
}

/// Names of properties that differ and that no line of its own tells of.
fn changed_properties(now: &Value, next: &Value) -> Vec<String> {
    const TOLD: [&str; 5] = ["name", "namespace", "type", "default", "fields"];
    let keys =
        |of: &Value| of.as_object().map(|of| of.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
    let mut names = keys(now);
    names.extend(keys(next));
    names.retain(|name| !TOLD.contains(&name.as_str()) && now.get(name) != next.get(name));
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(fields: Value) -> Value {
        json!({"type": "record", "name": "A", "namespace": "s", "doc": "A", "fields": fields})
    }

    fn told(now: Value, next: Value) -> Vec<String> {
        differences(&now, &next).into_iter().map(|difference| difference.words).collect()
    }

    #[test]
    fn every_kind_of_difference_is_one_line_in_words() {
        let now = record(json!([
            {"name": "Id", "type": "string"},
            {"name": "Gone", "type": ["null", {"type": "int", "logicalType": "date"}], "default": null},
            {"name": "Wider", "type": ["null", "int"], "default": null, "salesforce.type": "int"},
            {"name": "Label", "type": "string", "doc": "old"},
        ]));
        let money = json!({"type": "bytes", "logicalType": "decimal", "precision": 18, "scale": 2});
        let next = record(json!([
            {"name": "Label", "type": "string", "doc": "new", "default": ""},
            {"name": "Id", "type": "string"},
            {"name": "Wider", "type": ["null", "double"], "default": null, "salesforce.type": "double"},
            {"name": "New", "type": ["null", money], "default": null},
        ]));
        assert_eq!(
            told(now, next),
            [
                "field Gone removed: optional int (date)",
                "field Label has another default: none becomes \"\"",
                "field Label described otherwise: doc",
                "field Wider has another type: optional int becomes optional double",
                "field Wider described otherwise: salesforce.type",
                "field New added: optional bytes (decimal 18, 2)",
                "the fields stand in another order",
            ]
        );
    }

    #[test]
    fn spelling_makes_no_difference_and_whatever_does_is_told() {
        let one = json!({"type": "record", "name": "A", "fields": [{"name": "Id", "type": "string"}]});
        let other: Value = serde_json::from_str(
            r#"{ "fields":[ {"type":"string", "name":"Id"} ], "name":"A", "type":"record" }"#,
        )
        .unwrap();
        assert_eq!(told(one.clone(), other), [""; 0]);
        assert_eq!(told(one.clone(), json!("string")).len(), 2);
        let renamed = json!({"type": "record", "name": "A", "namespace": "x", "fields": one["fields"]});
        assert_eq!(told(one.clone(), renamed), ["record A becomes x.A"]);
        let mut odd = one.clone();
        odd["type"] = json!("error");
        assert_eq!(told(one, odd), ["the schemas differ in what no field shows"]);
    }
}
