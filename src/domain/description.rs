//! What an object is: its fields, its cursor, and what can be done with it; made from a describe.
//!
//! Comes in: built by `salesforce::describe`. Goes out: to queries, schemas, encoders and reports. A batch carries
//! the description it was read with, so that later rooms never ask back. It is a value: a changed object gets a
//! new description with another `revision`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Compound;

/// How a field's text is understood. Several Salesforce types share one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FieldKind {
    /// All that is text: id, reference, string, picklist …, and any type not known here.
    Text,
    Boolean,
    Int,
    Long,
    /// double, currency, percent
    Double,
    /// The same with `decimals: decimal`: exact, of the field's precision and scale.
    Decimal,
    Date,
    DateTime,
    Time,
    /// base64: the path that its bytes can be fetched by; left out by default.
    Binary,
    /// The same with `blobs: include`: cells hold the path, the batch holds the bytes.
    Blob,
    /// address, location, complexvalue: never selected; their parts are fields of their own.
    Compound,
    /// Published as a keyed hash, whatever it is in Salesforce. Cells hold the value itself until they leave `capture`.
    Hashed,
    /// Published as a mask, the same.
    Masked,
}

impl FieldKind {
    /// By the `type` of a describe (`rest.md` 2.5); what is not known is text.
    pub fn of(salesforce_type: &str) -> Self {
        match salesforce_type {
            "boolean" => Self::Boolean,
            "int" => Self::Int,
            "long" => Self::Long,
            "double" | "currency" | "percent" => Self::Double,
            "date" => Self::Date,
            "datetime" => Self::DateTime,
            "time" => Self::Time,
            "base64" => Self::Binary,
            "address" | "location" | "complexvalue" => Self::Compound,
            _ => Self::Text,
        }
    }

    /// Whether nobody outside may see its values as they are.
    pub fn is_disguised(self) -> bool {
        matches!(self, Self::Hashed | Self::Masked)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// API name, as describe spells it.
    pub name: String,
    pub label: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// Salesforce's `type`, as it came.
    pub salesforce_type: String,
    pub kind: FieldKind,
    /// Characters; 0 for what is not text.
    pub length: u32,
    /// Digits of a number with decimals, and how many of them stand behind the point; 0: not known.
    pub precision: u32,
    pub scale: u32,
    /// Formula or roll-up: its value moves without a stamp.
    pub calculated: bool,
    pub filterable: bool,
    pub sortable: bool,
}

impl Field {
    /// How its text is understood as Salesforce gives it, before any rule.
    pub fn source_kind(&self) -> FieldKind {
        if self.kind.is_disguised() { FieldKind::of(&self.salesforce_type) } else { self.kind }
    }

    /// `anyType`: text whose spelling depends on the door (`cell::any`).
    pub fn is_any(&self) -> bool {
        self.salesforce_type == "anyType"
    }

    /// Left out of content hashes: values that move without the record being changed (`design.md` section 2).
    pub fn is_volatile(&self) -> bool {
        self.calculated || self.name == "LastViewedDate" || self.name == "LastReferencedDate"
    }
}

/// The field a window is cut by (`rest.md` 3.7), an index into `fields`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CursorField(pub usize);

/// An object as the program reads and publishes it. `fields` holds exactly the fields that are read, in a stable order
/// that is the order of columns in queries and of fields in schemas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectDescription {
    /// API name, as describe spells it: `Invoice__c`.
    pub name: Arc<str>,
    /// Name on topics and in schemas: `Invoice_c`.
    pub target_name: Arc<str>,
    pub label: String,
    pub fields: Vec<Field>,
    /// Published beside the fields and made of them; never read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compounds: Vec<Compound>,
    /// Index of the key field in `fields` (`Id`).
    pub key: usize,
    pub cursor: Option<CursorField>,
    /// Index of `CreatedDate`, `IsDeleted`, if the object has them.
    pub created_date: Option<usize>,
    pub is_deleted: Option<usize>,
    /// getUpdated and getDeleted work.
    pub replicateable: bool,
    /// Whether the Bulk API takes it, as far as is known before trying.
    pub bulk: bool,
    /// Why it cannot be captured, if so.
    pub unsupported: Option<String>,
    /// A hash over names and types of the fields and compounds, in order.
    pub revision: u64,
}

impl ObjectDescription {
    pub fn field_index(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.name.eq_ignore_ascii_case(name))
    }

    /// Fields whose bytes are published.
    pub fn blobs(&self) -> impl Iterator<Item = usize> + '_ {
        let fields = self.fields.iter().enumerate();
        fields.filter(|(_, field)| field.kind == FieldKind::Blob).map(|(index, _)| index)
    }

    pub fn has_blobs(&self) -> bool {
        self.blobs().next().is_some()
    }

    pub fn cursor_field(&self) -> Option<&Field> {
        self.cursor.and_then(|cursor| self.fields.get(cursor.0))
    }
}
