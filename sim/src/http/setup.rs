//! The control interface's part for what an administrator does in Setup: fields and objects that come, go and change
//! (docs/simulator.md). Ours alone.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::json;

use super::control::refused;
use super::reply::Answer;
use super::{Call, Server, lock};
use crate::catalog::{Catalog, FieldDef, FieldType, ObjectDef, PicklistValue};
use crate::org::EditError;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FieldOrder {
    object: String,
    field: String,
    /// `add`, `remove`, `hide`, `show`, `retype`, `change`, `rename`.
    action: String,
    /// The new name, for `rename`.
    name: Option<String>,
    #[serde(flatten)]
    look: Look,
}

/// What of a field is chosen; the rest is as Salesforce has it for the type.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Look {
    #[serde(rename = "type")]
    field_type: Option<String>,
    length: Option<u32>,
    precision: Option<u32>,
    scale: Option<u32>,
    nillable: Option<bool>,
    label: Option<String>,
    help: Option<String>,
    picklist: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ObjectOrder {
    object: String,
    /// `add`, `remove`, `rename`.
    action: String,
    /// The new name, for `rename`.
    name: Option<String>,
    /// Generated records, for `add`.
    #[serde(default)]
    rows: u64,
    #[serde(default)]
    fields: Vec<NewField>,
}

#[derive(Deserialize)]
struct NewField {
    name: String,
    #[serde(flatten)]
    look: Look,
}

impl Look {
    fn field_type(&self) -> FieldType {
        FieldType::from_name(self.field_type.as_deref().unwrap_or("string"))
    }

    fn made(&self, name: &str) -> FieldDef {
        let mut field = FieldDef::new(name, self.field_type());
        self.apply(&mut field);
        field
    }

    fn apply(&self, field: &mut FieldDef) {
        if let Some(field_type) = &self.field_type {
            let field_type = FieldType::from_name(field_type);
            if field_type != field.field_type {
                *field = field.clone().retyped(field_type);
            }
        }
        if let Some(length) = self.length {
            *field = field.clone().with_length(length);
        }
        field.precision = self.precision.unwrap_or(field.precision);
        field.scale = self.scale.unwrap_or(field.scale);
        field.nillable = self.nillable.unwrap_or(field.nillable);
        if let Some(label) = &self.label {
            field.label.clone_from(label);
        }
        if self.help.is_some() {
            field.inline_help_text.clone_from(&self.help);
        }
        if let Some(values) = &self.picklist {
            let entry = |value: &String| PicklistValue {
                value: Cow::Owned(value.clone()),
                active: true,
                default: false,
            };
            field.picklist = values.iter().map(entry).collect();
        }
    }
}

pub(super) fn fields(server: &Server, call: &Call) -> Answer {
    let order: FieldOrder = match serde_json::from_slice(&call.body) {
        Ok(order) => order,
        Err(error) => return refused(&error.to_string()),
    };
    let (object, field, look) = (order.object.as_str(), order.field.as_str(), &order.look);
    let done = match order.action.as_str() {
        "add" => server.org.add_field(object, look.made(field)),
        "remove" => server.org.remove_field(object, field),
        "hide" => server.org.hide_field(object, field),
        "show" => server.org.show_field(object, field),
        "retype" | "change" => server.org.change_field(object, field, |definition| look.apply(definition)),
        "rename" => match &order.name {
            Some(name) => server.org.rename_field(object, field, name),
            None => return refused("a rename has a `name`"),
        },
        other => return refused(&format!("no field action is called {other}")),
    };
    answered(done)
}

pub(super) fn objects(server: &Server, call: &Call) -> Answer {
    let order: ObjectOrder = match serde_json::from_slice(&call.body) {
        Ok(order) => order,
        Err(error) => return refused(&error.to_string()),
    };
    let events = &server.events;
    let done = match order.action.as_str() {
        "add" => {
            if !order.object.ends_with("__c") {
                return refused("only custom objects are made: a name ends with __c");
            }
            let Some(prefix) = free_prefix(&server.org.catalog()) else {
                return refused("no id prefix is left");
            };
            let fields = order.fields.iter().map(|field| field.look.made(&field.name)).collect();
            server.org.add_object(ObjectDef::custom(&order.object, prefix, fields), order.rows)
        }
        "remove" => server.org.remove_object(&order.object).inspect(|()| {
            lock(&events.channels).forget(&order.object);
            events.capture();
        }),
        "rename" => match &order.name {
            Some(name) => server.org.rename_object(&order.object, name).inspect(|()| {
                lock(&events.channels).rename(&order.object, name);
                events.capture();
            }),
            None => return refused("a rename has a `name`"),
        },
        other => return refused(&format!("no object action is called {other}")),
    };
    answered(done)
}

fn answered(done: Result<(), EditError>) -> Answer {
    match done {
        Ok(()) => Answer::json(&json!({})),
        Err(error) => refused(&error.to_string()),
    }
}

/// Ids of custom objects begin with `a`.
fn free_prefix(catalog: &Catalog) -> Option<[u8; 3]> {
    let letters = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let mut prefixes = letters.iter().flat_map(|one| letters.iter().map(|other| [b'a', *one, *other]));
    prefixes.find(|prefix| catalog.objects().iter().all(|object| object.id_prefix != *prefix))
}
