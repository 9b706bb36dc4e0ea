//! Schema texts of a platform event: its own record with two fields of ours in front, and its key.
//!
//! Comes in: the text that Salesforce gives for the event. Goes out: Avro schema JSON, the same text for the same input.
//! Every field of the event keeps its place, name and type, so that a value is our two fields and then the payload as it
//! came. Types that are named in there keep their full names, whatever namespace our record has.

use serde_json::{Map, Value, json};

use crate::domain::name::is_avro_name;
use crate::error::Kind;
use crate::{Error, Result};

const PRIMITIVES: [&str; 8] = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];

/// The value schema. `schema-unsupported` if the text is no record, a field is called like one of ours, or a type within is
/// the event's record itself or is called like ours.
pub fn platform_event(event: &str, text: &str, namespace: &str) -> Result<String> {
    let unsupported = |why: &str| {
        Error::new(Kind::SchemaUnsupported, format!("platform event {event}: {why}"))
            .hint("take the event out of `platform_events`; its topic cannot hold it")
    };
    if !is_avro_name(event) {
        return Err(unsupported("its name is not legal in Avro"));
    }
    let own: Value =
        serde_json::from_str(text).map_err(|error| unsupported("its schema is no JSON").source(error))?;
    if own.get("type").and_then(Value::as_str) != Some("record") {
        return Err(unsupported("its schema is no record"));
    }
    let fields = own.get("fields").and_then(Value::as_array);
    let fields = fields.ok_or_else(|| unsupported("its schema has no fields"))?;
    let inside = namespace_of(&own, "");
    // Our record stands in its place, under a name that nothing within may have.
    let itself = full_name(own.get("name").and_then(Value::as_str).unwrap_or_default(), &inside);
    let ours = full_name(event, namespace);
    let mut all = vec![
        json!({"name": "replay_id", "type": "string", "doc": "the event's place in Salesforce's stream, in hex"}),
        json!({
            "name": "created_at",
            "type": {"type": "long", "logicalType": "timestamp-millis"},
            "doc": "when the event was published: CreatedDate",
        }),
    ];
    for field in fields {
        let name = field.get("name").and_then(Value::as_str).unwrap_or_default();
        if matches!(name, "replay_id" | "created_at") {
            return Err(unsupported(&format!("it has a field {name}, as the topic's records do")));
        }
        let mut field = field.clone();
        if let Some(of) = field.get_mut("type") {
            *of = qualified(of, &inside);
            if mentions(of, &itself) {
                return Err(unsupported(&format!("its field {name} holds the event itself")));
            }
            if mentions(of, &ours) {
                return Err(unsupported(&format!(
                    "its field {name} has a type {ours}, as the topic's records are called"
                )));
            }
        }
        all.push(field);
    }
    Ok(json!({
        "type": "record",
        "name": event,
        "namespace": namespace,
        "doc": own.get("doc").and_then(Value::as_str).unwrap_or(event),
        "salesforce.event": event,
        "fields": all,
    })
    .to_string())
}

/// The key schema: a record with the one field `Id`, as objects have.
pub fn platform_event_key(event: &str, namespace: &str) -> String {
    let name = format!("{event}Key");
    let fields = vec![json!({"name": "Id", "type": "string"})];
    json!({"type": "record", "name": name, "namespace": namespace, "fields": fields}).to_string()
}

/// The namespace that holds inside a named type.
fn namespace_of(named: &Value, around: &str) -> String {
    let text = |key: &str| named.get(key).and_then(Value::as_str);
    let from_name = text("name").and_then(|name| name.rsplit_once('.')).map(|(namespace, _)| namespace);
    from_name.or_else(|| text("namespace")).unwrap_or(around).to_owned()
}

fn full_name(name: &str, around: &str) -> String {
    if around.is_empty() || name.contains('.') || PRIMITIVES.contains(&name) {
        name.to_owned()
    } else {
        format!("{around}.{name}")
    }
}

/// The type with every name in it in full. As deep as the JSON, whose parser has a bound.
fn qualified(of: &Value, around: &str) -> Value {
    match of {
        Value::String(name) => full_name(name, around).into(),
        Value::Array(branches) => branches.iter().map(|branch| qualified(branch, around)).collect(),
        Value::Object(object) => {
            let kind = object.get("type").and_then(Value::as_str).unwrap_or_default();
            let named = matches!(kind, "record" | "error" | "enum" | "fixed");
            let inside = if named { namespace_of(of, around) } else { around.to_owned() };
            let mut full = Map::new();
            for (key, value) in object {
                let value = match key.as_str() {
                    "items" | "values" => qualified(value, around),
                    "type" if !matches!(kind, "array" | "map") && !named => qualified(value, around),
                    "fields" if named => {
                        let field = |field: &Value| {
                            let mut field = field.clone();
                            if let Some(of) = field.get_mut("type") {
                                *of = qualified(of, &inside);
                            }
                            field
                        };
                        value.as_array().into_iter().flatten().map(field).collect()
                    }
                    _ => value.clone(),
                };
                full.insert(key.clone(), value);
            }
            if named && !inside.is_empty() {
                full.insert("namespace".to_owned(), inside.into());
            }
            Value::Object(full)
        }
        other => other.clone(),
    }
}

/// Whether a type whose names are in full is, defines or holds one of this name.
fn mentions(of: &Value, name: &str) -> bool {
    match of {
        Value::String(known) => known == name,
        Value::Array(branches) => branches.iter().any(|branch| mentions(branch, name)),
        Value::Object(object) => {
            let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
            let named = matches!(text("type"), "record" | "error" | "enum" | "fixed");
            let fields = object.get("fields").and_then(Value::as_array).into_iter().flatten();
            (named && full_name(text("name"), text("namespace")) == name)
                || ["type", "items", "values"]
                    .iter()
                    .filter_map(|key| object.get(*key))
                    .any(|of| mentions(of, name))
                || fields.filter_map(|field| field.get("type")).any(|of| mentions(of, name))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use apache_avro::Schema;

    use super::*;

    const OWN: &str = r#"{"type":"record","name":"Shipment__e","namespace":"com.sforce.eventbus","fields":[
        {"name":"CreatedDate","type":"long","doc":"CreatedDate:DateTime"},
        {"name":"Number__c","type":["null","string"],"doc":"Data:Text","default":null},
        {"name":"From__c","type":["null",{"type":"record","name":"Place","fields":[{"name":"X","type":["null","double"],"default":null}]}],"default":null},
        {"name":"To__c","type":["null","Place"],"default":null},
        {"name":"Via__c","type":["null",{"type":"array","items":"com.sforce.eventbus.Place"}],"default":null}]}"#;

    #[test]
    fn the_events_own_fields_follow_ours_with_their_names_and_types() {
        let text = platform_event("Shipment__e", OWN, "salesforce.crm").unwrap();
        let Schema::Record(record) = Schema::parse_str(&text).unwrap() else { panic!("a record") };
        assert_eq!(record.name.to_string(), "salesforce.crm.Shipment__e");
        let names: Vec<_> = record.fields.iter().map(|field| field.name.as_str()).collect();
        assert_eq!(
            names,
            ["replay_id", "created_at", "CreatedDate", "Number__c", "From__c", "To__c", "Via__c"]
        );
        let json: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["fields"][5]["type"], json!(["null", "com.sforce.eventbus.Place"]));
        let own: Value = serde_json::from_str(OWN).unwrap();
        assert_eq!(json["fields"][3], own["fields"][1]);
        Schema::parse_str(&platform_event_key("Shipment__e", "salesforce.crm")).unwrap();
    }

    #[test]
    fn what_cannot_stand_behind_our_fields_is_refused() {
        let clash = OWN.replace("Number__c", "replay_id");
        let endless = OWN.replace(r#"["null","Place"]"#, r#"["null","Shipment__e"]"#);
        let namesake = OWN.replace(r#""name":"Place","#, r#""name":"salesforce.crm.Shipment__e","#);
        let namesake =
            namesake.replace("com.sforce.eventbus.Place", "long").replace(r#","Place"]"#, r#","long"]"#);
        for (text, why) in [
            ("[", "no JSON"),
            ("\"string\"", "no record"),
            ("{\"type\":\"record\"}", "no fields"),
            (clash.as_str(), "a field replay_id"),
            (endless.as_str(), "field To__c holds the event itself"),
            (namesake.as_str(), "field From__c has a type salesforce.crm.Shipment__e"),
        ] {
            let error = platform_event("Shipment__e", text, "salesforce.crm").unwrap_err();
            assert_eq!(error.kind(), Kind::SchemaUnsupported);
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}
