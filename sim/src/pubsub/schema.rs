//! The Avro schema of an object's change event, or of a platform event (pubsub.md 3).
//!
//! Comes in: an object of the catalogue as it is at the moment. Goes out: the JSON text in the platform's key
//! order, its id, and how each field of it is filled from a record. A schema lists fields that field-level security
//! hides, for it does not ask who reads it.

use std::sync::Arc;

use serde_json::{Map, Value as Json, json};

use super::avro::schema_id;
use crate::catalog::{FieldDef, FieldType, ObjectDef};
use crate::org::Id;

/// Custom fields' ids begin with this.
const FIELD_PREFIX: [u8; 3] = *b"00N";

/// In the order of the enum (pubsub.md 3.2).
pub const CHANGE_TYPES: [&str; 10] = [
    "CREATE",
    "UPDATE",
    "DELETE",
    "UNDELETE",
    "GAP_CREATE",
    "GAP_UPDATE",
    "GAP_DELETE",
    "GAP_UNDELETE",
    "GAP_OVERFLOW",
    "SNAPSHOT",
];

/// What describes change, activity or the viewer, and so is in no change event.
const DERIVED: [&str; 23] = [
    "Id",
    "IsDeleted",
    "SystemModstamp",
    "MasterRecordId",
    "IsArchived",
    "LastActivityDate",
    "LastViewedDate",
    "LastReferencedDate",
    "PhotoUrl",
    "FullPhotoUrl",
    "SmallPhotoUrl",
    "BannerPhotoUrl",
    "IsEmailBounced",
    "IsPartner",
    "IsCustomerPortal",
    "ChannelProgramName",
    "ChannelProgramLevelName",
    "Fiscal",
    "FiscalQuarter",
    "FiscalYear",
    "HasOpenActivity",
    "HasOverdueTask",
    "PushCount",
];

const PERSON_NAME: [&str; 3] = ["Salutation", "FirstName", "LastName"];
const ADDRESS: [&str; 10] = [
    "Street",
    "City",
    "State",
    "PostalCode",
    "Country",
    "StateCode",
    "CountryCode",
    "Latitude",
    "Longitude",
    "GeocodeAccuracy",
];
const LOCATION: [&str; 2] = ["Latitude", "Longitude"];

#[derive(Debug)]
pub struct EventSchema {
    pub id: Arc<str>,
    pub json: Arc<str>,
    /// `AccountChangeEvent`, `Invoice__ChangeEvent`, `Order_Event__e`.
    pub event: Arc<str>,
    pub object: Arc<str>,
    pub custom: bool,
    /// The fields behind the header: the first has position 1.
    pub fields: Vec<SchemaField>,
    /// By the object's field index: position, and part of a compound.
    places: Vec<Option<(usize, Option<usize>)>>,
}

#[derive(Debug)]
pub struct SchemaField {
    pub name: String,
    pub kind: Kind,
    /// The object's field by index; of a compound the parts, None for a part the object has not.
    pub source: Source,
    /// At least 1,000 characters of it may come as a diff.
    pub long_text: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Boolean,
    Int,
    Long,
    Double,
    Text,
    /// A record of parts, of which these are numbers.
    Record {
        union_text: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Field(usize),
    Parts(Vec<Part>),
    /// The text branch of a switchable name.
    Switchable(usize),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub name: &'static str,
    pub field: Option<usize>,
    pub double: bool,
}

/// `Account` to `AccountChangeEvent`, `Invoice__c` to `Invoice__ChangeEvent` (pubsub.md 2.1).
pub fn change_event_of(object: &str) -> String {
    match object.strip_suffix("__c") {
        Some(stem) => format!("{stem}__ChangeEvent"),
        None => format!("{object}ChangeEvent"),
    }
}

/// The way back.
pub fn object_of(event: &str) -> Option<String> {
    match event.strip_suffix("__ChangeEvent") {
        Some(stem) => Some(format!("{stem}__c")),
        None => event.strip_suffix("ChangeEvent").map(str::to_owned),
    }
    .filter(|object| !object.is_empty() && object != "__c" && change_event_of(object) == event)
}

impl EventSchema {
    pub fn of_change_event(object: &ObjectDef) -> EventSchema {
        let event = change_event_of(&object.name);
        let mut builder = Builder { object, json: Vec::new(), fields: Vec::new(), named: Vec::new() };
        builder.json.push(header());
        let mut order: Vec<(usize, &FieldDef)> = object
            .all_fields()
            .iter()
            .enumerate()
            .filter(|(_, field)| field.access != crate::catalog::Access::Removed)
            .collect();
        order.sort_by_key(|(_, field)| rank(object, field));
        for (index, field) in order {
            builder.add(index, field);
        }
        builder.finish(event)
    }

    /// Fields of a platform event: two that are always there, then the custom ones.
    pub fn of_platform_event(object: &ObjectDef) -> EventSchema {
        let mut builder = Builder { object, json: Vec::new(), fields: Vec::new(), named: Vec::new() };
        builder.json.push(json!({"name": "CreatedDate", "type": "long", "doc": "CreatedDate:DateTime"}));
        builder.json.push(json!({"name": "CreatedById", "type": "string", "doc": "CreatedBy:EntityId"}));
        for (index, field) in object.all_fields().iter().enumerate() {
            if field.custom && field.access != crate::catalog::Access::Removed {
                builder.add(index, field);
            }
        }
        builder.finish(object.name.clone())
    }

    /// Position and part of a field of the object.
    pub fn place_of(&self, index: usize) -> Option<(usize, Option<usize>)> {
        self.places.get(index).copied().flatten()
    }
}

/// Standard fields first, then custom ones, a person account's contact fields last; a custom object begins with its
/// owner and its name.
fn rank(object: &ObjectDef, field: &FieldDef) -> u8 {
    let first =
        ["OwnerId", "Name", "RecordTypeId", "CreatedDate"].iter().position(|name| *name == field.name);
    match (field.custom, object.flags.custom, first) {
        (true, _, _) if field.name.ends_with("__pc") => 10,
        (true, _, _) => 9,
        (false, true, Some(at)) => at as u8,
        _ => 8,
    }
}

struct Builder<'o> {
    object: &'o ObjectDef,
    json: Vec<Json>,
    fields: Vec<SchemaField>,
    /// Record types that were defined: after that their name is enough.
    named: Vec<&'static str>,
}

impl Builder<'_> {
    fn add(&mut self, index: usize, field: &FieldDef) {
        use FieldType as T;
        if DERIVED.contains(&field.name.as_str()) || self.is_part(field) {
            return;
        }
        match &field.field_type {
            T::Address => self.add_address(field),
            T::Location => {
                let stem = field.name.strip_suffix("__c").unwrap_or(&field.name);
                let part = |name: &'static str| Part {
                    name,
                    field: self.own(&format!("{stem}__{name}__s")),
                    double: true,
                };
                let parts = LOCATION.map(part).to_vec();
                self.add_record(field, "Location", parts, "Data:Location");
            }
            _ if self.is_person_name(field) => {
                let part = |name| Part { name, field: self.own(name), double: false };
                self.add_record(field, "PersonName", PERSON_NAME.map(part).to_vec(), "Data:PersonName");
            }
            _ => self.add_plain(index, field),
        }
    }

    fn own(&self, name: &str) -> Option<usize> {
        let removed = crate::catalog::Access::Removed;
        self.object.all_fields().iter().position(|field| field.name == name && field.access != removed)
    }

    fn is_person_name(&self, field: &FieldDef) -> bool {
        field.name == "Name" && self.own("LastName").is_some()
    }

    /// A part of a compound that is in the schema stands there alone, not beside it.
    fn is_part(&self, field: &FieldDef) -> bool {
        let compound = match &field.compound_field_name {
            Some(compound) => self.own(compound).is_some(),
            None => false,
        };
        let name_part = PERSON_NAME.contains(&field.name.as_str())
            && self.own("LastName").is_some()
            && self.own("Name").is_some();
        (compound && field.name != "Name") || name_part
    }

    fn add_address(&mut self, field: &FieldDef) {
        let part_of = |name: &str| {
            self.object.all_fields().iter().position(|other| {
                other.compound_field_name.as_deref() == Some(field.name.as_str())
                    && ends_with_part(&other.name, name)
            })
        };
        // One shape for all addresses of the object.
        let codes =
            self.object.all_fields().iter().any(|other| {
                other.compound_field_name.is_some() && ends_with_part(&other.name, "CountryCode")
            });
        let parts: Vec<Part> = ADDRESS
            .iter()
            .filter(|name| codes || !name.ends_with("Code") || **name == "PostalCode")
            .map(|name| Part {
                name,
                field: part_of(name),
                double: matches!(*name, "Latitude" | "Longitude"),
            })
            .collect();
        self.add_record(field, "Address", parts, "Data:Address");
    }

    fn record_type(&mut self, name: &'static str, parts: &[Part]) -> Json {
        if self.named.contains(&name) {
            return json!(name);
        }
        self.named.push(name);
        let fields: Vec<Json> = parts
            .iter()
            .map(|part| {
                let kind = if part.double { "double" } else { "string" };
                json!({"name": part.name, "type": ["null", kind], "default": null})
            })
            .collect();
        json!({"type": "record", "name": name, "fields": fields})
    }

    fn add_record(&mut self, field: &FieldDef, name: &'static str, parts: Vec<Part>, doc: &str) {
        let record = self.record_type(name, &parts);
        self.push_json(field, json!(["null", record]), doc);
        self.fields.push(SchemaField {
            name: field.name.clone(),
            kind: Kind::Record { union_text: false },
            source: Source::Parts(parts),
            long_text: false,
        });
    }

    fn add_plain(&mut self, index: usize, field: &FieldDef) {
        let switchable = field.extra_type_info.as_deref() == Some("switchablepersonname");
        if switchable {
            let parts = PERSON_NAME.map(|name| Part { name, field: None, double: false });
            let record = self.record_type("Switchable_PersonName", &parts);
            self.push_json(field, json!(["null", "string", record]), "Data:Switchable_PersonName");
            self.fields.push(SchemaField {
                name: field.name.clone(),
                kind: Kind::Record { union_text: true },
                source: Source::Switchable(index),
                long_text: false,
            });
            return;
        }
        let Some((kind, doc)) = plain(field) else { return };
        let word = match kind {
            Kind::Boolean => "boolean",
            Kind::Int => "int",
            Kind::Long => "long",
            Kind::Double => "double",
            Kind::Text | Kind::Record { .. } => "string",
        };
        self.push_json(field, json!(["null", word]), doc);
        self.fields.push(SchemaField {
            name: field.name.clone(),
            kind,
            source: Source::Field(index),
            long_text: field.is_long_text(),
        });
    }

    fn push_json(&mut self, field: &FieldDef, kind: Json, doc: &str) {
        let doc = match field.custom {
            true => format!("{doc}:{}", custom_field_id(self.object, field)),
            false => doc.to_owned(),
        };
        self.json.push(json!({"name": field.name, "type": kind, "doc": doc, "default": null}));
    }

    fn finish(self, event: String) -> EventSchema {
        let mut top = Map::new();
        top.insert("type".to_owned(), json!("record"));
        top.insert("name".to_owned(), json!(event));
        top.insert("namespace".to_owned(), json!("com.sforce.eventbus"));
        top.insert("fields".to_owned(), Json::Array(self.json));
        let text = Json::Object(top).to_string();
        let mut places = vec![None; self.object.all_fields().len()];
        for (at, field) in self.fields.iter().enumerate() {
            match &field.source {
                Source::Field(own) | Source::Switchable(own) => places[*own] = Some((at + 1, None)),
                Source::Parts(parts) => {
                    for (part, own) in parts.iter().enumerate() {
                        if let Some(own) = own.field {
                            places[own] = Some((at + 1, Some(part)));
                        }
                    }
                }
            }
        }
        EventSchema {
            id: schema_id(&text).unwrap_or_default().into(),
            json: text.into(),
            event: event.into(),
            object: self.object.name.as_str().into(),
            custom: self.object.flags.custom,
            fields: self.fields,
            places,
        }
    }
}

/// `BillingStreet`, `Site__Street__s`, `Street`; `State` is not the end of `StateCode`.
fn ends_with_part(name: &str, part: &str) -> bool {
    name.strip_suffix("__s").unwrap_or(name).ends_with(part)
}

/// Fifteen characters, the same for a field as long as it lives.
pub(crate) fn custom_field_id(object: &ObjectDef, field: &FieldDef) -> String {
    let object = object.first_name.as_deref().unwrap_or(&object.name);
    let number = xxhash_rust::xxh3::xxh3_64(format!("{object}.{}", field.first_name()).as_bytes());
    Id::new(FIELD_PREFIX, number % 1_000_000_000).as_str().get(..15).unwrap_or_default().to_owned()
}

/// Value type and doc; none for what no event carries.
fn plain(field: &FieldDef) -> Option<(Kind, &'static str)> {
    use FieldType as T;
    let external = field.reference_target_field.is_some() || field.name.starts_with("Jigsaw");
    Some(match &field.field_type {
        T::String if field.name.starts_with("Jigsaw") && field.name.ends_with("Id") => {
            (Kind::Text, "ExternalForeignKey:ExternalId")
        }
        T::Reference if external => (Kind::Text, "ExternalForeignKey:ExternalId"),
        T::Reference | T::Id => (Kind::Text, "ForeignKey:EntityId"),
        T::Textarea if field.html_formatted => (Kind::Text, "Data:HtmlStringPlusClob"),
        T::Textarea if field.is_long_text() => (Kind::Text, "Data:StringPlusClob"),
        T::String | T::Textarea | T::DataCategoryGroupReference => (Kind::Text, "Data:Text"),
        T::Picklist if field.restricted_picklist && !field.custom => (Kind::Text, "Data:StaticEnum"),
        T::Picklist | T::Combobox => (Kind::Text, "Data:DynamicEnum"),
        T::Multipicklist => (Kind::Text, "Data:MultiEnum"),
        T::Phone => (Kind::Text, "Data:Phone"),
        T::Email => (Kind::Text, "Data:Email"),
        T::Url => (Kind::Text, "Data:Url"),
        T::EncryptedString => (Kind::Text, "Data:EncryptedText"),
        T::Boolean => (Kind::Boolean, "Data:Boolean"),
        T::Int => (Kind::Int, "Data:Integer"),
        T::Long => (Kind::Long, "Data:Long"),
        T::Double => (Kind::Double, "Data:Double"),
        T::Currency => (Kind::Double, "Data:Currency"),
        T::Percent => (Kind::Double, "Data:Percent"),
        T::DateTime if field.name == "CreatedDate" => (Kind::Long, "CreatedDate:DateTime"),
        T::DateTime => (Kind::Long, "Data:DateTime"),
        T::Date => (Kind::Long, "Data:DateOnly"),
        T::Time => (Kind::Long, "Data:TimeOnly"),
        T::Base64 | T::AnyType | T::ComplexValue | T::Json | T::Other(_) | T::Address | T::Location => {
            return None;
        }
    })
}

fn header() -> Json {
    let texts = json!({"type": "array", "items": "string"});
    json!({
        "name": "ChangeEventHeader",
        "type": {"type": "record", "name": "ChangeEventHeader", "fields": [
            {"name": "entityName", "type": "string"},
            {"name": "recordIds", "type": texts},
            {"name": "changeType", "type": {"type": "enum", "name": "ChangeType", "symbols": CHANGE_TYPES}},
            {"name": "changeOrigin", "type": "string"},
            {"name": "transactionKey", "type": "string"},
            {"name": "sequenceNumber", "type": "int"},
            {"name": "commitTimestamp", "type": "long"},
            {"name": "commitNumber", "type": "long"},
            {"name": "commitUser", "type": "string"},
            {"name": "nulledFields", "type": texts},
            {"name": "diffFields", "type": texts},
            {"name": "changedFields", "type": texts},
        ]},
        "doc": "Data:ComplexValueType",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;

    #[test]
    fn names_go_both_ways() {
        for (object, event) in [
            ("Account", "AccountChangeEvent"),
            ("Invoice__c", "Invoice__ChangeEvent"),
            ("et4ae5__SendDefinition__c", "et4ae5__SendDefinition__ChangeEvent"),
        ] {
            assert_eq!(change_event_of(object), event);
            assert_eq!(object_of(event).as_deref(), Some(object));
        }
        assert_eq!(object_of("Account"), None);
        assert_eq!(object_of("ChangeEvent"), None);
        assert_eq!(object_of("Invoice__cChangeEvent"), None);
    }

    #[test]
    fn parts_stand_in_their_compound_and_nowhere_else() {
        let catalog = Catalog::standard();
        let contact = EventSchema::of_change_event(catalog.object("Contact").unwrap());
        let names: Vec<&str> = contact.fields.iter().map(|field| field.name.as_str()).collect();
        assert_eq!(&names[..5], ["AccountId", "Name", "OtherAddress", "MailingAddress", "Phone"]);
        for absent in ["Id", "FirstName", "MailingStreet", "SystemModstamp", "PhotoUrl", "IsEmailBounced"] {
            assert!(!names.contains(&absent), "{absent}");
        }
        let first_name = contact_field(&catalog, "FirstName");
        assert_eq!(contact.place_of(first_name), Some((2, Some(1))));
        let invoice = EventSchema::of_change_event(catalog.object("Invoice__c").unwrap());
        assert_eq!(invoice.fields[0].name, "OwnerId");
        assert_eq!(invoice.fields[1].name, "Name");
    }

    fn contact_field(catalog: &Catalog, name: &str) -> usize {
        catalog.object("Contact").unwrap().field(name).unwrap().0
    }
}
