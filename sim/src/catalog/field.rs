//! One field of an object: what describe says about it, and what the generator needs to fill it.
//!
//! Comes in: a name and a type, from the catalogue tables or from a test at run time. Goes out: the defaults
//! that Salesforce's describe shows for such a field (rest.md 2.4, recorded describes). Never: a value.

use std::borrow::Cow;

use super::formula::Formula;

/// Every `type` of rest.md 2.5; what is not in the list is carried as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldType {
    Id,
    Reference,
    String,
    Textarea,
    Picklist,
    Multipicklist,
    Combobox,
    Phone,
    Email,
    Url,
    EncryptedString,
    DataCategoryGroupReference,
    Boolean,
    Int,
    Long,
    Double,
    Currency,
    Percent,
    Date,
    DateTime,
    Time,
    Base64,
    Address,
    Location,
    AnyType,
    ComplexValue,
    Json,
    Other(String),
}

const NAMES: &[(&str, &str, FieldType)] = &[
    ("id", "tns:ID", FieldType::Id),
    ("reference", "tns:ID", FieldType::Reference),
    ("string", "xsd:string", FieldType::String),
    ("textarea", "xsd:string", FieldType::Textarea),
    ("picklist", "xsd:string", FieldType::Picklist),
    ("multipicklist", "xsd:string", FieldType::Multipicklist),
    ("combobox", "xsd:string", FieldType::Combobox),
    ("phone", "xsd:string", FieldType::Phone),
    ("email", "xsd:string", FieldType::Email),
    ("url", "xsd:string", FieldType::Url),
    ("encryptedstring", "xsd:string", FieldType::EncryptedString),
    ("datacategorygroupreference", "xsd:string", FieldType::DataCategoryGroupReference),
    ("boolean", "xsd:boolean", FieldType::Boolean),
    ("int", "xsd:int", FieldType::Int),
    ("long", "xsd:long", FieldType::Long),
    ("double", "xsd:double", FieldType::Double),
    ("currency", "xsd:double", FieldType::Currency),
    ("percent", "xsd:double", FieldType::Percent),
    ("date", "xsd:date", FieldType::Date),
    ("datetime", "xsd:dateTime", FieldType::DateTime),
    ("time", "xsd:time", FieldType::Time),
    ("base64", "xsd:base64Binary", FieldType::Base64),
    ("address", "urn:address", FieldType::Address),
    ("location", "urn:location", FieldType::Location),
    ("anyType", "xsd:anyType", FieldType::AnyType),
    ("complexvalue", "urn:RecordTypesSupported", FieldType::ComplexValue),
    ("json", "tns:json", FieldType::Json),
];

impl FieldType {
    /// The word in describe's `type`.
    pub fn name(&self) -> &str {
        match self {
            FieldType::Other(name) => name,
            known => NAMES.iter().find(|(_, _, t)| t == known).map_or("string", |(name, _, _)| name),
        }
    }

    /// All known words.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, _, _)| *name)
    }

    pub fn soap_type(&self) -> &str {
        NAMES.iter().find(|(_, _, t)| t == self).map_or("xsd:string", |(_, soap, _)| soap)
    }

    pub fn from_name(name: &str) -> FieldType {
        NAMES
            .iter()
            .find(|(known, _, _)| known.eq_ignore_ascii_case(name))
            .map_or_else(|| FieldType::Other(name.to_owned()), |(_, _, field_type)| field_type.clone())
    }

    /// Types whose value is text of the record itself.
    pub fn is_textual(&self) -> bool {
        matches!(
            self,
            FieldType::String
                | FieldType::Textarea
                | FieldType::Picklist
                | FieldType::Multipicklist
                | FieldType::Combobox
                | FieldType::Phone
                | FieldType::Email
                | FieldType::Url
                | FieldType::EncryptedString
                | FieldType::DataCategoryGroupReference
                | FieldType::Base64
        )
    }

    pub fn is_decimal(&self) -> bool {
        matches!(self, FieldType::Double | FieldType::Currency | FieldType::Percent)
    }

    /// What a Bulk query refuses to select (rest.md 4.4).
    pub fn is_refused_by_bulk(&self) -> bool {
        matches!(
            self,
            FieldType::Base64
                | FieldType::Address
                | FieldType::Location
                | FieldType::ComplexValue
                | FieldType::Json
        )
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PicklistValue {
    pub value: Cow<'static, str>,
    pub active: bool,
    pub default: bool,
}

/// Whether the integration user sees the field. The place in the object's list is never given to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    #[default]
    Visible,
    /// Field-level security: absent from describe, unknown to SOQL, values kept.
    Hidden,
    /// Deleted from the object.
    Removed,
}

/// A field as it was before a change. What was there then keeps the values that it had.
#[derive(Clone, Debug, PartialEq)]
pub struct Former {
    /// Records before this one were there.
    pub below: u64,
    pub field: FieldDef,
}

#[derive(Clone, Debug, PartialEq)]
pub struct FieldDef {
    pub name: String,
    pub label: String,
    pub field_type: FieldType,
    pub access: Access,
    pub length: u32,
    pub precision: u32,
    pub scale: u32,
    pub digits: u32,
    pub custom: bool,
    pub nillable: bool,
    pub createable: bool,
    pub updateable: bool,
    pub permissionable: bool,
    pub defaulted_on_create: bool,
    pub default_value: Option<String>,
    pub filterable: bool,
    pub sortable: bool,
    pub groupable: bool,
    pub aggregatable: bool,
    pub search_prefilterable: bool,
    pub query_by_distance: bool,
    pub unique: bool,
    pub external_id: bool,
    pub id_lookup: bool,
    pub case_sensitive: bool,
    pub auto_number: bool,
    pub name_field: bool,
    pub name_pointing: bool,
    pub reference_to: Vec<String>,
    pub relationship_name: Option<String>,
    pub relationship_order: Option<u32>,
    pub reference_target_field: Option<String>,
    /// Deleting the record pointed at deletes this one: master-detail, and built-in parents.
    pub cascade_delete: bool,
    pub restricted_delete: bool,
    pub write_requires_master_read: bool,
    pub compound_field_name: Option<String>,
    pub picklist: Vec<PicklistValue>,
    pub restricted_picklist: bool,
    pub controller_name: Option<String>,
    pub formula: Option<Formula>,
    pub html_formatted: bool,
    pub extra_type_info: Option<String>,
    pub encrypted: bool,
    pub mask: Option<String>,
    pub mask_type: Option<String>,
    pub high_scale_number: bool,
    pub display_location_in_decimal: bool,
    pub deprecated_and_hidden: bool,
    pub inline_help_text: Option<String>,
    pub former: Option<Box<Former>>,
}

impl FieldDef {
    /// A field as describe would show it when nothing but name and type were chosen.
    pub fn new(name: impl Into<String>, field_type: FieldType) -> FieldDef {
        use FieldType as T;
        let name = name.into();
        let custom = is_custom_name(&name);
        let boolean = field_type == T::Boolean;
        let compound = matches!(field_type, T::Address | T::Location);
        let opaque = matches!(field_type, T::Base64 | T::AnyType | T::ComplexValue | T::Json | T::Other(_));
        let length = match &field_type {
            T::Id | T::Reference => 18,
            T::Phone | T::Picklist => 40,
            T::Email => 80,
            T::String | T::Textarea | T::Url | T::Combobox => 255,
            T::EncryptedString => 175,
            T::DataCategoryGroupReference => 80,
            T::Multipicklist => 4_099,
            T::AnyType => 765,
            _ => 0,
        };
        let (precision, scale) = match &field_type {
            T::Currency => (18, 2),
            T::Double => (18, 0),
            T::Percent => (5, 2),
            // The number of visible lines, oddly (rest.md 2.4).
            T::Multipicklist => (4, 0),
            _ => (0, 0),
        };
        let writable = !compound && !matches!(field_type, T::Id | T::AnyType | T::ComplexValue);
        FieldDef {
            label: label_of(&name),
            name,
            access: Access::Visible,
            length,
            precision,
            scale,
            digits: if field_type == T::Int { 9 } else { 0 },
            custom,
            nillable: !boolean && field_type != T::Id,
            createable: writable,
            updateable: writable,
            permissionable: custom || compound,
            defaulted_on_create: boolean || field_type == T::Id,
            default_value: boolean.then(|| "false".to_owned()),
            filterable: !opaque,
            sortable: !opaque && !compound && field_type != T::Multipicklist,
            groupable: !opaque
                && !compound
                && !field_type.is_decimal()
                && !matches!(field_type, T::DateTime | T::Time | T::Multipicklist | T::EncryptedString),
            aggregatable: !opaque && !compound && !boolean && field_type != T::Multipicklist,
            search_prefilterable: field_type == T::Reference,
            query_by_distance: compound,
            unique: false,
            external_id: false,
            id_lookup: field_type == T::Id,
            case_sensitive: false,
            auto_number: false,
            name_field: false,
            name_pointing: false,
            reference_to: Vec::new(),
            relationship_name: None,
            relationship_order: None,
            reference_target_field: None,
            cascade_delete: false,
            restricted_delete: false,
            write_requires_master_read: false,
            compound_field_name: None,
            picklist: Vec::new(),
            restricted_picklist: false,
            controller_name: None,
            formula: None,
            html_formatted: false,
            extra_type_info: (field_type == T::Textarea).then(|| "plaintextarea".to_owned()),
            encrypted: field_type == T::EncryptedString,
            mask: (field_type == T::EncryptedString).then(|| "*".to_owned()),
            mask_type: (field_type == T::EncryptedString).then(|| "all".to_owned()),
            high_scale_number: false,
            display_location_in_decimal: field_type == T::Location,
            deprecated_and_hidden: false,
            inline_help_text: None,
            former: None,
            field_type,
        }
    }

    /// The same field with another type, and what describe shows for such a one.
    #[must_use]
    pub fn retyped(self, field_type: FieldType) -> FieldDef {
        FieldDef {
            label: self.label,
            access: self.access,
            compound_field_name: self.compound_field_name,
            inline_help_text: self.inline_help_text,
            former: self.former,
            ..FieldDef::new(self.name, field_type)
        }
    }

    /// The name it was made with: its own id goes by it.
    pub fn first_name(&self) -> &str {
        self.former.as_ref().map_or(&self.name, |former| former.field.first_name())
    }

    pub fn is_visible(&self) -> bool {
        self.access == Access::Visible
    }

    /// Formula or roll-up summary.
    pub fn is_calculated(&self) -> bool {
        self.formula.is_some()
    }

    /// Long text: neither filterable nor sortable, and two of them shrink a REST page (rest.md 3.1).
    pub fn is_long_text(&self) -> bool {
        self.field_type == FieldType::Textarea && self.length > 255
    }

    /// Sets the length and what follows from it.
    pub fn with_length(mut self, length: u32) -> FieldDef {
        self.length = length;
        if self.is_long_text() {
            self.filterable = false;
            self.sortable = false;
            self.groupable = false;
            self.aggregatable = false;
        }
        self
    }

    pub fn with_scale(mut self, precision: u32, scale: u32) -> FieldDef {
        self.precision = precision;
        self.scale = scale;
        self
    }

    pub fn read_only(mut self) -> FieldDef {
        self.createable = false;
        self.updateable = false;
        self
    }

    pub fn with_formula(mut self, formula: Formula) -> FieldDef {
        self.formula = Some(formula);
        self.defaulted_on_create = false;
        self.read_only()
    }

    pub fn referring_to(mut self, objects: &[&str], relationship: &str) -> FieldDef {
        self.reference_to = objects.iter().map(|name| (*name).to_owned()).collect();
        self.relationship_name = (!relationship.is_empty()).then(|| relationship.to_owned());
        self.name_pointing = objects.len() > 1;
        self
    }
}

fn is_custom_name(name: &str) -> bool {
    ["__c", "__s", "__pc"].iter().any(|suffix| name.ends_with(suffix))
}

/// `BillingPostalCode` to `Billing Postal Code`, `ns__Due_Date__c` to `Due Date`.
fn label_of(name: &str) -> String {
    let bare = ["__c", "__s", "__pc"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
    let bare = bare.rsplit("__").next().unwrap_or(bare).replace('_', " ");
    let mut label = String::with_capacity(bare.len() + 4);
    let mut previous = ' ';
    for c in bare.chars() {
        if c.is_ascii_uppercase() && (previous.is_ascii_lowercase() || previous.is_ascii_digit()) {
            label.push(' ');
        }
        label.push(c);
        previous = c;
    }
    match label.strip_suffix(" Id") {
        Some(stem) => format!("{stem} ID"),
        None => label,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_its_word_and_comes_back_from_it() {
        for (name, soap, field_type) in NAMES {
            assert_eq!(field_type.name(), *name);
            assert_eq!(field_type.soap_type(), *soap);
            assert_eq!(&FieldType::from_name(name), field_type);
        }
        assert_eq!(FieldType::from_name("floatarray").name(), "floatarray");
    }

    #[test]
    fn labels_read_like_words() {
        assert_eq!(label_of("BillingPostalCode"), "Billing Postal Code");
        assert_eq!(label_of("et4ae5__Bounce_Rate_del__c"), "Bounce Rate del");
        assert_eq!(label_of("OwnerId"), "Owner ID");
    }

    #[test]
    fn long_text_cannot_be_filtered() {
        assert!(FieldDef::new("A__c", FieldType::Textarea).filterable);
        let long = FieldDef::new("A__c", FieldType::Textarea).with_length(32_000);
        assert!(!long.filterable && !long.sortable && !long.groupable);
    }
}
