//! One object: its flags, its fields, which of them is the cursor, and its answers to describe.
//!
//! Comes in: the tables, and changes of the field list at run time. Goes out: describe and describeGlobal
//! JSON (rest.md 2.3, 2.4). A field keeps its index for ever, whatever is hidden or removed beside it.

use std::collections::HashMap;

use super::field::{FieldDef, FieldType};
use super::rules::ObjectRules;

#[derive(Clone, Debug, PartialEq)]
pub struct ObjectDef {
    pub name: String,
    pub label: String,
    pub label_plural: String,
    /// Null in describe for history, share, feed and the like.
    pub key_prefix: Option<String>,
    /// What the ids begin with, also where describe does not say so.
    pub id_prefix: [u8; 3],
    pub flags: ObjectFlags,
    /// `History`, `Share`, `Feed`, `ChangeEvent`, … and the object it belongs to.
    pub associate_entity_type: Option<String>,
    pub associate_parent_entity: Option<String>,
    pub record_types: Vec<RecordTypeDef>,
    pub child_relationships: Vec<ChildRelationship>,
    pub rules: ObjectRules,
    /// When describe last changed, in org time; for If-Modified-Since.
    pub last_modified_ms: i64,
    /// Default number of generated records.
    pub default_rows: u64,
    /// Deleted from the org; its place is never given to another.
    pub removed: bool,
    /// The name it was made with, if it is called something else now.
    pub first_name: Option<String>,
    fields: Vec<FieldDef>,
    by_name: HashMap<String, usize>,
    system: SystemFields,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectFlags {
    pub createable: bool,
    pub custom: bool,
    pub custom_setting: bool,
    pub deletable: bool,
    pub feed_enabled: bool,
    pub layoutable: bool,
    pub mergeable: bool,
    pub mru_enabled: bool,
    pub queryable: bool,
    pub replicateable: bool,
    pub retrieveable: bool,
    pub searchable: bool,
    pub triggerable: bool,
    pub undeletable: bool,
    pub updateable: bool,
    pub deprecated_and_hidden: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordTypeDef {
    pub developer_name: String,
    pub name: String,
    /// Position among the generated rows of RecordType; none is the master record type.
    pub row: Option<u64>,
    pub default: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildRelationship {
    pub child: String,
    pub field: String,
    pub relationship_name: Option<String>,
    pub cascade_delete: bool,
    pub restricted_delete: bool,
}

/// Where the fields stand that the org itself keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SystemFields {
    pub id: Option<usize>,
    pub is_deleted: Option<usize>,
    pub is_archived: Option<usize>,
    pub master_record_id: Option<usize>,
    pub created_date: Option<usize>,
    pub created_by: Option<usize>,
    pub last_modified_date: Option<usize>,
    pub last_modified_by: Option<usize>,
    pub system_modstamp: Option<usize>,
    /// SystemModstamp, else LastModifiedDate, else CreatedDate, else LoginTime (rest.md 3.7).
    pub cursor: Option<usize>,
}

impl SystemFields {
    /// Whether the org itself keeps the field at this index.
    pub fn owns(&self, index: usize) -> bool {
        [
            self.id,
            self.is_deleted,
            self.is_archived,
            self.master_record_id,
            self.created_date,
            self.created_by,
            self.last_modified_date,
            self.last_modified_by,
            self.system_modstamp,
            self.cursor,
        ]
        .contains(&Some(index))
    }
}

impl ObjectDef {
    pub fn new(
        name: impl Into<String>,
        id_prefix: [u8; 3],
        flags: ObjectFlags,
        fields: Vec<FieldDef>,
    ) -> ObjectDef {
        let name = name.into();
        let mut object = ObjectDef {
            label: name.clone(),
            label_plural: name.clone(),
            key_prefix: Some(String::from_utf8_lossy(&id_prefix).into_owned()),
            id_prefix,
            flags,
            associate_entity_type: None,
            associate_parent_entity: None,
            record_types: Vec::new(),
            child_relationships: Vec::new(),
            rules: ObjectRules::for_object(&name, flags.queryable, Vec::new()),
            last_modified_ms: 0,
            default_rows: 0,
            removed: false,
            first_name: None,
            fields,
            by_name: HashMap::new(),
            system: SystemFields::default(),
            name,
        };
        object.index_fields();
        object
    }

    fn index_fields(&mut self) {
        self.by_name = self
            .fields
            .iter()
            .enumerate()
            .filter(|(_, field)| field.is_visible())
            .map(|(index, field)| (field.name.to_ascii_lowercase(), index))
            .collect();
        let at = |name: &str| self.fields.iter().position(|field| field.name == name);
        let moment = |name: &str| at(name).filter(|i| self.fields[*i].field_type == FieldType::DateTime);
        self.system = SystemFields {
            id: at("Id"),
            is_deleted: at("IsDeleted"),
            is_archived: at("IsArchived"),
            master_record_id: at("MasterRecordId"),
            created_date: moment("CreatedDate"),
            created_by: at("CreatedById"),
            last_modified_date: moment("LastModifiedDate"),
            last_modified_by: at("LastModifiedById"),
            system_modstamp: moment("SystemModstamp"),
            cursor: ["SystemModstamp", "LastModifiedDate", "CreatedDate", "LoginTime"]
                .iter()
                .find_map(|name| moment(name)),
        };
    }

    /// All fields that ever were, hidden and removed ones included; the index is the field's for ever.
    pub fn all_fields(&self) -> &[FieldDef] {
        &self.fields
    }

    pub fn visible_fields(&self) -> impl Iterator<Item = (usize, &FieldDef)> {
        self.fields.iter().enumerate().filter(|(_, field)| field.is_visible())
    }

    /// A visible field by its name, in any case.
    pub fn field(&self, name: &str) -> Option<(usize, &FieldDef)> {
        let index = match self.by_name.get(name) {
            Some(index) => *index,
            None => *self.by_name.get(&name.to_ascii_lowercase())?,
        };
        self.fields.get(index).map(|field| (index, field))
    }

    /// Any field by its name, hidden ones included, removed ones not; visible before hidden.
    pub fn field_even_hidden(&self, name: &str) -> Option<(usize, &FieldDef)> {
        self.field(name).or_else(|| {
            self.fields.iter().enumerate().find(|(_, field)| {
                field.access == super::Access::Hidden && field.name.eq_ignore_ascii_case(name)
            })
        })
    }

    /// The field a relationship name such as `Owner` or `Invoice__r` goes through.
    pub fn relationship(&self, name: &str) -> Option<(usize, &FieldDef)> {
        self.visible_fields().find(|(_, field)| {
            field.relationship_name.as_deref().is_some_and(|known| known.eq_ignore_ascii_case(name))
        })
    }

    pub fn field_at(&self, index: usize) -> Option<&FieldDef> {
        self.fields.get(index)
    }

    pub fn system(&self) -> &SystemFields {
        &self.system
    }

    pub fn cursor_field(&self) -> Option<&FieldDef> {
        self.fields.get(self.system.cursor?)
    }

    /// Changes the field list and moves `last_modified_ms`.
    pub(crate) fn edit_fields<R>(&mut self, now_ms: i64, edit: impl FnOnce(&mut Vec<FieldDef>) -> R) -> R {
        let result = edit(&mut self.fields);
        self.index_fields();
        self.last_modified_ms = now_ms;
        result
    }
}
