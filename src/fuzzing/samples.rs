//! Objects and event schemas that foreign bytes are read by.
//!
//! Comes in: nothing. Goes out: descriptions and schema texts with a field of every kind, and recorded ones.

use std::sync::{Arc, LazyLock};

use serde_json::{Value, json};

use crate::config::FieldRules;
use crate::domain::ObjectDescription;
use crate::salesforce::fuzzing::described;

/// The recorded describe of Account.
const ACCOUNT: &str = include_str!("../../tests/data/salesforce/describe-Account.json");

pub const ACCOUNT_EVENTS: [&str; 2] = [
    include_str!("../../tests/data/salesforce/pubsub/avro/AccountChangeEvent.i8wgJwwM-AVcDbFkbRl5Nw.avsc"),
    include_str!("../../tests/data/salesforce/pubsub/avro/AccountChangeEvent.4egfTTaxua4Y39nYlBXfNg.avsc"),
];

fn compiled(describe: &str) -> Arc<ObjectDescription> {
    let describe = described(describe.as_bytes()).expect("the sample is a describe");
    Arc::new(describe.compile(&FieldRules::default(), &[]).expect("the sample can be captured"))
}

pub fn account() -> &'static Arc<ObjectDescription> {
    static OBJECT: LazyLock<Arc<ObjectDescription>> = LazyLock::new(|| compiled(ACCOUNT));
    &OBJECT
}

/// An object with a field of every kind, in few fields: inputs stay small.
pub fn every_kind() -> &'static Arc<ObjectDescription> {
    static OBJECT: LazyLock<Arc<ObjectDescription>> = LazyLock::new(|| {
        let of = |(name, kind): (&str, &str)| json!({"name": name, "label": name, "type": kind});
        let fields = [
            ("Id", "id"),
            ("SystemModstamp", "datetime"),
            ("IsDeleted", "boolean"),
            ("Name", "string"),
            ("FirstName", "string"),
            ("HomeCity", "string"),
            ("HomeLatitude", "double"),
            ("Loc__Latitude__s", "double"),
            ("Int__c", "int"),
            ("Long__c", "long"),
            ("Money__c", "currency"),
            ("Day__c", "date"),
            ("Time__c", "time"),
            ("Any__c", "anyType"),
            ("Prefers__c", "boolean"),
            ("PrefersMail__c", "boolean"),
        ];
        let fields: Vec<Value> = fields.into_iter().map(of).collect();
        compiled(&json!({"name": "X__c", "queryable": true, "fields": fields}).to_string())
    });
    &OBJECT
}

/// Its change events, with fields of every shape.
pub fn every_shape() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let list = json!({"type": "array", "items": "string"});
        let header = json!({"type": "record", "name": "ChangeEventHeader", "fields": [
            {"name": "entityName", "type": "string"},
            {"name": "recordIds", "type": list},
            {"name": "changeType", "type": {"type": "enum", "name": "ChangeType", "symbols":
                ["CREATE", "UPDATE", "DELETE", "UNDELETE", "GAP_UPDATE", "GAP_OVERFLOW", "SNAPSHOT"]}},
            {"name": "changeOrigin", "type": "string"},
            {"name": "transactionKey", "type": "string"},
            {"name": "sequenceNumber", "type": "int"},
            {"name": "commitTimestamp", "type": "long"},
            {"name": "commitNumber", "type": "long"},
            {"name": "commitUser", "type": "string"},
            {"name": "nulledFields", "type": list},
            {"name": "diffFields", "type": list},
            {"name": "changedFields", "type": list},
        ]});
        let optional = |of: &str| json!(["null", of]);
        let record = |name: &str, parts: &[(&str, &str)]| {
            let parts = parts.iter().map(|(name, of)| json!({"name": name, "type": optional(of)}));
            json!({"type": "record", "name": name, "fields": parts.collect::<Vec<_>>()})
        };
        let deep = json!({"type": "record", "name": "Deep", "fields": [{"name": "inside", "type": ["null", "Deep"]}]});
        let fields = [
            ("ChangeEventHeader", header),
            (
                "Name",
                json!([
                    "null",
                    "string",
                    record("Switchable_PersonName", &[("FirstName", "string"), ("Suffix", "string")])
                ]),
            ),
            (
                "HomeAddress",
                json!(["null", record("Address", &[("City", "string"), ("Latitude", "double")])]),
            ),
            (
                "Loc__c",
                json!(["null", record("Location", &[("Latitude", "double"), ("Longitude", "double")])]),
            ),
            ("Int__c", optional("int")),
            ("Long__c", optional("long")),
            ("Money__c", optional("double")),
            ("Day__c", optional("long")),
            ("Time__c", optional("long")),
            ("Any__c", optional("string")),
            ("Prefers__c", json!(["null", list])),
            ("Bytes__c", json!({"type": "map", "values": "bytes"})),
            ("Fixed__c", json!(["null", {"type": "fixed", "name": "Five", "size": 5}, "float", "boolean"])),
            ("Deep__c", json!(["null", deep])),
        ];
        let fields: Vec<Value> =
            fields.into_iter().map(|(name, of)| json!({"name": name, "type": of})).collect();
        json!({"type": "record", "name": "X__ChangeEvent", "namespace": "com.sforce.eventbus", "fields": fields})
            .to_string()
    });
    &TEXT
}
