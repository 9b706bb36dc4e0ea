//! Holds JSON against the JSON Schemas in `schemas/control`: the few keywords that they use, and no others.
//!
//! In: a schema and a value. Out: what does not fit, with its place. A keyword that is not known here is a panic: what
//! is not checked must not look as if it were. Stricter than JSON Schema in one thing: keys that no schema lists do not
//! fit, because here both sides are ours.

use serde_json::{Map, Value};
use sf2kafka::domain::Stamp;

/// The schema of the control record with this key.
pub fn of_key(key: &str) -> Value {
    let kind = key.split('/').next().unwrap();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/control");
    let text = std::fs::read_to_string(format!("{folder}/{kind}.schema.json"))
        .unwrap_or_else(|error| panic!("no JSON Schema for the control record {key}: {error}"));
    serde_json::from_str(&text).unwrap()
}

/// Every misfit, as `path: what`.
pub fn misfits(schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(schema.as_object().unwrap(), value, "$", &mut found);
    found
}

fn check(schema: &Map<String, Value>, value: &Value, place: &str, found: &mut Vec<String>) {
    let mut misfit = |fits: bool, what: &Value| {
        if !fits {
            found.push(format!("{place}: {value} where the schema says {what}"));
        }
    };
    for (keyword, rule) in schema {
        match keyword.as_str() {
            "$schema" | "title" | "description" | "properties" | "additionalProperties" | "items" => {}
            "type" => misfit(has_type(rule, value), rule),
            "const" => misfit(value == rule, rule),
            "enum" => misfit(rule.as_array().unwrap().contains(value), rule),
            "minimum" => misfit(value.as_f64().is_none_or(|number| number >= rule.as_f64().unwrap()), rule),
            "minLength" => misfit(value.as_str().is_none_or(|text| text.len() as u64 >= length(rule)), rule),
            "maxLength" => misfit(value.as_str().is_none_or(|text| text.len() as u64 <= length(rule)), rule),
            "format" => {
                assert_eq!(rule, "date-time");
                misfit(value.as_str().is_none_or(|text| Stamp::parse(text.as_bytes()).is_some()), rule);
            }
            "required" => {
                let names = rule.as_array().unwrap().iter().map(|name| name.as_str().unwrap());
                misfit(
                    value.as_object().is_none_or(|object| names.clone().all(|n| object.contains_key(n))),
                    rule,
                );
            }
            other => panic!("this checker does not know the keyword {other}"),
        }
    }
    if let Some(object) = value.as_object() {
        let known = schema.get("properties").and_then(Value::as_object);
        for (name, value) in object {
            let place = format!("{place}.{name}");
            let rule = known.and_then(|known| known.get(name)).or_else(|| schema.get("additionalProperties"));
            match rule.and_then(Value::as_object) {
                Some(rule) => check(rule, value, &place, found),
                None => found.push(format!("{place}: no schema lists it")),
            }
        }
    }
    if let (Some(items), Some(rule)) = (value.as_array(), schema.get("items").and_then(Value::as_object)) {
        for (index, item) in items.iter().enumerate() {
            check(rule, item, &format!("{place}[{index}]"), found);
        }
    }
}

fn length(rule: &Value) -> u64 {
    rule.as_u64().unwrap()
}

fn has_type(rule: &Value, value: &Value) -> bool {
    let one = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("this checker does not know the type {other}"),
    };
    match rule {
        Value::Array(names) => names.iter().any(|name| one(name.as_str().unwrap())),
        name => one(name.as_str().unwrap()),
    }
}
