//! Changes of the catalogue while the org runs: fields come, go, hide and change their type.
//!
//! Comes in: an object's and a field's name. Goes out: a new catalogue for whoever asks next; snapshots that
//! are out keep theirs. Never: a moved stamp of a record, for Salesforce moves none either.

use std::sync::Arc;

use super::calendar::truncate_to_second;
use super::plan;
use super::store::Store;
use super::{Org, OrgError, State};
use crate::catalog::{Access, FieldDef, ObjectDef};

#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum EditError {
    #[error(transparent)]
    Org(#[from] OrgError),
    #[error("object {object} has a field {field} already")]
    FieldExists { object: String, field: String },
    #[error("an object is called {0} already")]
    ObjectExists(String),
    #[error("field {field} of {object} belongs to the org and cannot be taken away")]
    SystemField { object: String, field: String },
}

impl Org {
    /// Adds a field. Records that are there already have no value in it.
    pub fn add_field(&self, object: &str, field: FieldDef) -> Result<(), EditError> {
        self.edit(object, |definition, now_ms| {
            if definition.field_even_hidden(&field.name).is_some() {
                let (object, field) = (definition.name.clone(), field.name.clone());
                return Err(EditError::FieldExists { object, field });
            }
            definition.edit_fields(now_ms, |fields| fields.push(field));
            Ok(())
        })
    }

    /// Deletes a field; a later one of the same name is another field.
    pub fn remove_field(&self, object: &str, field: &str) -> Result<(), EditError> {
        self.set_access(object, field, Access::Removed)
    }

    /// Takes the field from the integration user by field-level security; values stay.
    pub fn hide_field(&self, object: &str, field: &str) -> Result<(), EditError> {
        self.set_access(object, field, Access::Hidden)
    }

    pub fn show_field(&self, object: &str, field: &str) -> Result<(), EditError> {
        self.set_access(object, field, Access::Visible)
    }

    /// Changes a field's definition in place (its type, length, picklist); kept values stay as they are.
    pub fn change_field(
        &self,
        object: &str,
        field: &str,
        change: impl FnOnce(&mut FieldDef),
    ) -> Result<(), EditError> {
        self.edit(object, |definition, now_ms| {
            let (index, _) = known_field(definition, field)?;
            definition.edit_fields(now_ms, |fields| {
                let name = fields[index].name.clone();
                change(&mut fields[index]);
                fields[index].name = name;
            });
            Ok(())
        })
    }

    /// Changes an object's flags or rules; for an object that loses, say, `queryable`.
    pub fn change_object(&self, object: &str, change: impl FnOnce(&mut ObjectDef)) -> Result<(), EditError> {
        self.edit(object, |definition, now_ms| {
            let name = definition.name.clone();
            change(definition);
            definition.name = name;
            definition.edit_fields(now_ms, |_| ());
            Ok(())
        })
    }

    /// Adds an object with `rows` generated records.
    pub fn add_object(&self, mut definition: ObjectDef, rows: u64) -> Result<(), EditError> {
        let mut state = self.write();
        if state.catalog.index_of(&definition.name).is_some() {
            return Err(EditError::ObjectExists(definition.name));
        }
        definition.last_modified_ms = truncate_to_second(self.now_ms());
        definition.default_rows = rows;
        let name = definition.name.clone();
        let catalog = Arc::new(state.catalog.with_object(definition));
        if let Some(object) = catalog.object(&name) {
            state.stores.push(Store::new(object, &catalog, &self.config, self.start_ms));
        }
        state.catalog = catalog;
        self.compile(&mut state);
        Ok(())
    }

    fn set_access(&self, object: &str, field: &str, access: Access) -> Result<(), EditError> {
        self.edit(object, |definition, now_ms| {
            let (index, _) = known_field(definition, field)?;
            if access == Access::Removed && definition.system().owns(index) {
                let (object, field) = (definition.name.clone(), field.to_owned());
                return Err(EditError::SystemField { object, field });
            }
            definition.edit_fields(now_ms, |fields| fields[index].access = access);
            Ok(())
        })
    }

    fn edit(
        &self,
        object: &str,
        edit: impl FnOnce(&mut ObjectDef, i64) -> Result<(), EditError>,
    ) -> Result<(), EditError> {
        let mut state = self.write();
        let index = state.object_index(object)?;
        let mut definition = ObjectDef::clone(&state.catalog.objects()[index]);
        edit(&mut definition, truncate_to_second(self.now_ms()))?;
        state.catalog = Arc::new(state.catalog.with_object(definition));
        self.compile(&mut state);
        Ok(())
    }

    fn compile(&self, state: &mut State) {
        let plans = plan::compile_all(&state.catalog, &state.stores, &self.config, Some(&state.plans));
        state.plans = Arc::new(plans);
    }
}

fn known_field<'d>(definition: &'d ObjectDef, field: &str) -> Result<(usize, &'d FieldDef), OrgError> {
    definition
        .field_even_hidden(field)
        .ok_or_else(|| OrgError::NoSuchField { object: definition.name.clone(), field: field.to_owned() })
}
