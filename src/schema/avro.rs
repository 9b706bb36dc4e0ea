//! Schema texts: the change-table record of an object, and its key.
//!
//! Comes in: a lineage and an output's settings. Goes out: Avro schema JSON, the same text for the same input.

use serde_json::{Map, Value, json};

use super::lineage::SchemaLineage;
use crate::config::OutputSettings;
use crate::domain::name::is_avro_name;
use crate::domain::{CompoundShape, Field, FieldKind};
use crate::error::Kind;
use crate::{Error, Result};

/// A header field: its name behind the prefix, its Avro type, what it means.
struct Header {
    name: &'static str,
    kind: HeaderType,
    doc: &'static str,
}

#[derive(Clone, Copy)]
enum HeaderType {
    Text,
    OptionalText,
    OptionalLong,
    Timestamp,
}

/// In the order of the encoding; `envelope::change_table` writes them one by one.
const HEADERS: [Header; 13] = [
    Header {
        name: "change_seq",
        kind: HeaderType::Text,
        doc: "rises strictly within the object: 16 digits of time, 19 of a number",
    },
    Header {
        name: "change_oper",
        kind: HeaderType::Text,
        doc: "R loaded, I inserted, U updated, D deleted, B before image",
    },
    Header { name: "operation", kind: HeaderType::Text, doc: "REFRESH, INSERT, UPDATE, DELETE, BEFOREIMAGE" },
    Header {
        name: "change_mask",
        kind: HeaderType::OptionalText,
        doc: "which data fields changed: hex, little-endian bytes, bit n is the n-th field behind the header; null: not known",
    },
    Header {
        name: "column_mask",
        kind: HeaderType::OptionalText,
        doc: "which data fields the record carries, coded alike; null: all",
    },
    Header {
        name: "timestamp",
        kind: HeaderType::Timestamp,
        doc: "when the change was committed in Salesforce; of a loaded row its cursor field",
    },
    Header {
        name: "stream_position",
        kind: HeaderType::Text,
        doc: "where in the reading the change was found",
    },
    Header { name: "transaction_id", kind: HeaderType::OptionalText, doc: "Salesforce's transactionKey" },
    Header {
        name: "transaction_event_counter",
        kind: HeaderType::OptionalLong,
        doc: "place of the event in its transaction",
    },
    Header { name: "source", kind: HeaderType::Text, doc: "load, subscribe, poll, refetch or compare" },
    Header { name: "load_id", kind: HeaderType::OptionalText, doc: "the load that an R record belongs to" },
    Header {
        name: "commit_user",
        kind: HeaderType::OptionalText,
        doc: "id of the user who made the change, if known",
    },
    Header {
        name: "change_origin",
        kind: HeaderType::OptionalText,
        doc: "Salesforce's changeOrigin, if known",
    },
];

/// The value schema of the change-table envelope. `schema-unsupported` if a name is not legal or taken twice.
pub fn change_table(lineage: &SchemaLineage, output: &OutputSettings) -> Result<String> {
    let mut names: Vec<String> = Vec::new();
    let mut fields = Vec::new();
    for header in &HEADERS {
        let name = format!("{}{}", output.header_prefix, header.name);
        claim(&mut names, &name, lineage)?;
        let (kind, optional) = match header.kind {
            HeaderType::Text => (json!("string"), false),
            HeaderType::OptionalText => (json!(["null", "string"]), true),
            HeaderType::OptionalLong => (json!(["null", "long"]), true),
            HeaderType::Timestamp => (json!({"type": "long", "logicalType": "timestamp-millis"}), false),
        };
        let mut field = Map::new();
        field.insert("name".to_owned(), name.into());
        field.insert("type".to_owned(), kind);
        if optional {
            field.insert("default".to_owned(), Value::Null);
        }
        field.insert("doc".to_owned(), header.doc.into());
        fields.push(Value::Object(field));
    }
    fields.extend(data_fields(lineage, output, &mut names)?);
    Ok(record(&lineage.target_name, &output.namespace, lineage, fields))
}

/// Whether one of the output's header fields has this name, in whatever case.
pub fn is_header(output: &OutputSettings, name: &str) -> bool {
    let (prefix, rest) = match name.split_at_checked(output.header_prefix.len()) {
        Some(parts) => parts,
        None => return false,
    };
    prefix.eq_ignore_ascii_case(&output.header_prefix)
        && HEADERS.iter().any(|header| header.name.eq_ignore_ascii_case(rest))
}

/// The key schema: a record with the one field `Id`.
pub fn key(lineage: &SchemaLineage, output: &OutputSettings) -> String {
    let name = format!("{}Key", lineage.target_name);
    let fields = vec![json!({"name": "Id", "type": "string"})];
    json!({"type": "record", "name": name, "namespace": output.namespace, "fields": fields}).to_string()
}

fn record(name: &str, namespace: &str, lineage: &SchemaLineage, fields: Vec<Value>) -> String {
    json!({
        "type": "record",
        "name": name,
        "namespace": namespace,
        "doc": lineage.label,
        "salesforce.object": lineage.object,
        "fields": fields,
    })
    .to_string()
}

fn data_fields(
    lineage: &SchemaLineage,
    output: &OutputSettings,
    names: &mut Vec<String>,
) -> Result<Vec<Value>> {
    if !is_avro_name(&lineage.target_name) {
        return Err(unsupported(lineage, format!("the name {} is not legal in Avro", lineage.target_name)));
    }
    let mut types = Types { namespace: format!("{}.{COMPOUNDS}", output.namespace), defined: Vec::new() };
    lineage
        .fields
        .iter()
        .map(|pinned| {
            claim(names, &pinned.name, lineage)?;
            let source = &pinned.source;
            let mut field = Map::new();
            field.insert("name".to_owned(), pinned.name.clone().into());
            let kind = types.of(source);
            if source.name == "Id" {
                field.insert("type".to_owned(), kind);
            } else {
                field.insert("type".to_owned(), json!(["null", kind]));
                field.insert("default".to_owned(), Value::Null);
            }
            let doc = match &source.help {
                Some(help) => format!("{}: {help}", source.label),
                None => source.label.clone(),
            };
            field.insert("doc".to_owned(), doc.into());
            field.insert("salesforce.field".to_owned(), source.name.clone().into());
            field.insert("salesforce.label".to_owned(), source.label.clone().into());
            field.insert("salesforce.type".to_owned(), source.salesforce_type.clone().into());
            // Sizes are the value's own: a disguised one has others.
            let disguise = match source.kind {
                FieldKind::Hashed => Some("hashed"),
                FieldKind::Masked => Some("masked"),
                _ => None,
            };
            if let Some(disguise) = disguise {
                field.insert("sf2kafka.value".to_owned(), disguise.into());
            }
            for (name, number) in
                [("length", source.length), ("precision", source.precision), ("scale", source.scale)]
            {
                if number > 0 && disguise.is_none() {
                    field.insert(format!("salesforce.{name}"), number.into());
                }
            }
            Ok(Value::Object(field))
        })
        .collect()
}

/// Where the types of compounds are named, below the output's namespace: Salesforce has objects that are called
/// `Address` and `Location` too.
const COMPOUNDS: &str = "compound";

/// Types of fields. A type with a name is defined where it is met first.
struct Types {
    namespace: String,
    defined: Vec<CompoundShape>,
}

impl Types {
    fn of(&mut self, field: &Field) -> Value {
        match field.kind {
            FieldKind::Text | FieldKind::Binary | FieldKind::Hashed | FieldKind::Masked => json!("string"),
            FieldKind::Blob => json!("bytes"),
            FieldKind::Boolean => json!("boolean"),
            FieldKind::Int => json!("int"),
            FieldKind::Long => json!("long"),
            FieldKind::Double => json!("double"),
            FieldKind::Decimal => {
                json!({"type": "bytes", "logicalType": "decimal", "precision": field.precision, "scale": field.scale})
            }
            FieldKind::Date => json!({"type": "int", "logicalType": "date"}),
            FieldKind::DateTime => json!({"type": "long", "logicalType": "timestamp-millis"}),
            FieldKind::Time => json!({"type": "int", "logicalType": "time-millis"}),
            FieldKind::Compound => match CompoundShape::of(&field.salesforce_type) {
                Some(shape) => self.compound(shape),
                None => json!("string"),
            },
        }
    }

    fn compound(&mut self, shape: CompoundShape) -> Value {
        if self.defined.contains(&shape) {
            return json!(format!("{}.{}", self.namespace, shape.record_name()));
        }
        self.defined.push(shape);
        let part = |part: &crate::domain::compound::Part| {
            let kind = if part.is_number { "double" } else { "string" };
            json!({"name": part.name, "type": ["null", kind], "default": null})
        };
        let fields: Vec<Value> = shape.parts().iter().map(part).collect();
        json!({"type": "record", "name": shape.record_name(), "namespace": self.namespace, "fields": fields})
    }
}

fn claim(names: &mut Vec<String>, name: &str, lineage: &SchemaLineage) -> Result<()> {
    if !is_avro_name(name) {
        return Err(unsupported(lineage, format!("the field name {name} is not legal in Avro")));
    }
    // Sinks that fold case (most databases) would take two such columns for one.
    if names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
        return Err(unsupported(lineage, format!("two fields would be named {name}"))
            .hint("exclude the field under `fields`, or set another `header_prefix`"));
    }
    names.push(name.to_owned());
    Ok(())
}

fn unsupported(lineage: &SchemaLineage, why: String) -> Error {
    Error::new(Kind::SchemaUnsupported, format!("object {}: {why}", lineage.object))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::lineage::tests::described;

    fn schema(fields: &[(&str, &str)]) -> Result<String> {
        let lineage = SchemaLineage::merge(None, &described(fields));
        change_table(&lineage, &OutputSettings::change_table("crm"))
    }

    #[test]
    fn the_avro_library_reads_every_type() {
        let fields = [
            ("Id", "id"),
            ("SystemModstamp", "datetime"),
            ("S", "string"),
            ("P", "multipicklist"),
            ("B", "boolean"),
            ("I", "int"),
            ("L", "long"),
            ("D", "currency"),
            ("Date", "date"),
            ("T", "time"),
            ("Odd", "json"),
            ("A", "anyType"),
        ];
        let text = schema(&fields).unwrap();
        let parsed = apache_avro::Schema::parse_str(&text).unwrap();
        let apache_avro::Schema::Record(record) = parsed else { panic!("not a record") };
        assert_eq!(record.name.fullname(None), "salesforce.crm.Invoice_c");
        assert_eq!(record.fields.len(), 13 + fields.len());
        assert_eq!(record.fields[13].name, "Id");
        let key = key(&SchemaLineage::merge(None, &described(&fields)), &OutputSettings::change_table("crm"));
        apache_avro::Schema::parse_str(&key).unwrap();
    }

    #[test]
    fn a_hidden_field_is_a_string_and_says_so_and_not_how_long_its_value_is() {
        let mut object = described(&[("Id", "id"), ("A", "currency"), ("B", "email"), ("C", "email")]);
        object.fields[1].kind = FieldKind::Hashed;
        object.fields[2].kind = FieldKind::Masked;
        let lineage = SchemaLineage::merge(None, &object);
        let text = change_table(&lineage, &OutputSettings::change_table("crm")).unwrap();
        apache_avro::Schema::parse_str(&text).unwrap();
        let schema: Value = serde_json::from_str(&text).unwrap();
        let field = |name: &str| {
            let fields = schema["fields"].as_array().unwrap();
            fields.iter().find(|field| field["name"] == name).unwrap().clone()
        };
        for (name, value, salesforce_type) in [("A", "hashed", "currency"), ("B", "masked", "email")] {
            let field = field(name);
            assert_eq!(field["type"], json!(["null", "string"]));
            assert_eq!(
                (&field["sf2kafka.value"], &field["salesforce.type"]),
                (&json!(value), &json!(salesforce_type))
            );
            assert!(
                ["length", "precision", "scale"].iter().all(|of| field[format!("salesforce.{of}")].is_null())
            );
        }
        assert_eq!(
            (&field("C")["salesforce.length"], &field("C")["sf2kafka.value"]),
            (&json!(80), &Value::Null)
        );
    }

    #[test]
    fn names_that_collide_or_are_not_legal_are_refused() {
        let taken = schema(&[("Id", "id"), ("header__SOURCE", "string")]).unwrap_err();
        assert_eq!(taken.kind(), Kind::SchemaUnsupported);
        let mut lineage = SchemaLineage::merge(None, &described(&[("Id", "id"), ("a", "string")]));
        lineage.fields[1].name = "a-b".to_owned();
        let illegal = change_table(&lineage, &OutputSettings::change_table("crm")).unwrap_err();
        assert_eq!(illegal.kind(), Kind::SchemaUnsupported);
    }

    #[test]
    fn a_name_that_no_schema_could_hold_is_made_legal_and_kept_as_a_property() {
        let text = schema(&[("Id", "id"), ("0-Größe", "string")]).unwrap();
        let json: Value = serde_json::from_str(&text).unwrap();
        let field = &json["fields"][14];
        assert_eq!((&field["name"], &field["salesforce.field"]), (&json!("_0_Gr__e"), &json!("0-Größe")));
        apache_avro::Schema::parse_str(&text).unwrap();
    }
}
