//! A custom object as a person makes one in Setup: its own fields, and those that every such object has.
//!
//! Comes in: a name, a prefix of ids, fields. Goes out: a definition like those of the tables.

use super::field::{FieldDef, FieldType};
use super::object::{ObjectDef, ObjectFlags};

impl ObjectDef {
    pub fn custom(name: &str, id_prefix: [u8; 3], own: Vec<FieldDef>) -> ObjectDef {
        let flags = ObjectFlags {
            createable: true,
            custom: true,
            custom_setting: false,
            deletable: true,
            feed_enabled: false,
            layoutable: true,
            mergeable: false,
            mru_enabled: true,
            queryable: true,
            replicateable: true,
            retrieveable: true,
            searchable: true,
            triggerable: true,
            undeletable: true,
            updateable: true,
            deprecated_and_hidden: false,
        };
        let kept = |name: &str, field_type: FieldType| {
            let mut field = FieldDef::new(name, field_type).read_only();
            field.nillable = false;
            field.defaulted_on_create = true;
            field
        };
        let by = |name: &str, relationship: &str| {
            kept(name, FieldType::Reference).referring_to(&["User"], relationship)
        };
        let mut id = FieldDef::new("Id", FieldType::Id);
        id.label = "Record ID".to_owned();
        let mut called = FieldDef::new("Name", FieldType::String).with_length(80);
        called.name_field = true;
        let mut fields = vec![id, kept("IsDeleted", FieldType::Boolean), called];
        fields.extend([
            kept("CreatedDate", FieldType::DateTime),
            by("CreatedById", "CreatedBy"),
            kept("LastModifiedDate", FieldType::DateTime),
            by("LastModifiedById", "LastModifiedBy"),
            kept("SystemModstamp", FieldType::DateTime),
        ]);
        fields.extend(own);
        ObjectDef::new(name, id_prefix, flags, fields)
    }
}
