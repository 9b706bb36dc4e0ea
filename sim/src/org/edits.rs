//! Changes of the catalogue while the org runs: fields come, go, hide, change their type and their name; so do objects.
//!
//! Comes in: an object's and a field's name. Goes out: a new catalogue for whoever asks next; snapshots that
//! are out keep theirs. Never: a moved stamp of a record, for Salesforce moves none either.

use std::sync::Arc;

use super::calendar::truncate_to_second;
use super::plan;
use super::store::Store;
use super::{Org, OrgError, State};
use crate::catalog::{Access, FieldDef, Former, Formula, ObjectDef};

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
    #[error("{0} is not of the customer's own making")]
    NotCustom(String),
    #[error("{name} is needed by {by}")]
    Needed { name: String, by: String },
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

    /// Changes a field's definition in place (its type, length, picklist); kept values stay as they are, of another type
    /// as far as it takes them.
    pub fn change_field(
        &self,
        object: &str,
        field: &str,
        change: impl FnOnce(&mut FieldDef),
    ) -> Result<(), EditError> {
        self.change_at(object, field, |definition| {
            let name = definition.name.clone();
            change(definition);
            definition.name = name;
        })
    }

    /// Gives a custom field another API name; its records keep their values. Salesforce refuses that where others refer
    /// to it by its name; so do formulas and parts of compounds here.
    pub fn rename_field(&self, object: &str, field: &str, name: &str) -> Result<(), EditError> {
        let catalog = self.catalog();
        let definition = self.object(object)?;
        let (_, known) = known_field(&definition, field)?;
        if !known.custom || !name.ends_with("__c") {
            return Err(EditError::NotCustom(known.name.clone()));
        }
        if definition.field_even_hidden(name).is_some() {
            return Err(EditError::FieldExists { object: definition.name.clone(), field: name.to_owned() });
        }
        let needs = |other: &&FieldDef| {
            other.formula.as_ref().is_some_and(|formula| formula.mentions(&known.name))
                || other.compound_field_name.as_ref() == Some(&known.name)
        };
        let mut others = catalog.present().flat_map(|object| object.all_fields());
        if let Some(other) = others.find(needs).or(known.compound_field_name.as_ref().map(|_| known)) {
            return Err(EditError::Needed { name: known.name.clone(), by: other.name.clone() });
        }
        self.change_at(object, field, |definition| name.clone_into(&mut definition.name))
    }

    fn change_at(
        &self,
        object: &str,
        field: &str,
        change: impl FnOnce(&mut FieldDef),
    ) -> Result<(), EditError> {
        let mut state = self.write();
        let at = state.object_index(object)?;
        let below = state.stores[at].next_sequence;
        let mut definition = ObjectDef::clone(&state.catalog.objects()[at]);
        let (index, _) = known_field(&definition, field)?;
        definition.edit_fields(truncate_to_second(self.now_ms()), |fields| {
            let field = &mut fields[index];
            let former = field.clone();
            change(field);
            let words =
                |field: &FieldDef| FieldDef { label: String::new(), inline_help_text: None, ..field.clone() };
            if words(&*field) != words(&former) {
                field.former = Some(Box::new(Former { below, field: former }));
            }
        });
        state.catalog = Arc::new(state.catalog.with_object(definition));
        self.compile(&mut state);
        Ok(())
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

    /// Deletes a custom object with its satellites, and the references to it. A master cannot go before its details.
    pub fn remove_object(&self, object: &str) -> Result<(), EditError> {
        let mut state = self.write();
        let index = state.custom_object(object)?;
        let name = state.catalog.objects()[index].name.clone();
        let refers = |field: &FieldDef| field.reference_to.contains(&name);
        let is_satellite = |object: &ObjectDef| object.associate_parent_entity.as_ref() == Some(&name);
        let detail = state.catalog.present().find(|other| {
            !is_satellite(other)
                && other.all_fields().iter().any(|field| field.cascade_delete && refers(field))
        });
        if let Some(detail) = detail {
            return Err(EditError::Needed { name, by: detail.name.clone() });
        }
        let now_ms = truncate_to_second(self.now_ms());
        let next = state.catalog.with_changed(|place, other| {
            if other.removed {
                return false;
            }
            if place == index || is_satellite(other) {
                other.removed = true;
                other.edit_fields(now_ms, |_| ());
                return true;
            }
            let changed = other.all_fields().iter().any(refers);
            if changed {
                other.edit_fields(now_ms, |fields| {
                    for field in fields.iter_mut().filter(|field| refers(field)) {
                        field.reference_to.retain(|target| *target != name);
                        if field.reference_to.is_empty() {
                            field.access = Access::Removed;
                        }
                    }
                });
            }
            changed
        });
        state.catalog = Arc::new(next);
        self.compile(&mut state);
        Ok(())
    }

    /// Gives a custom object another API name, its satellites with it; records and ids stay.
    pub fn rename_object(&self, object: &str, to: &str) -> Result<(), EditError> {
        let mut state = self.write();
        let index = state.custom_object(object)?;
        let name = state.catalog.objects()[index].name.clone();
        let (Some(old_stem), Some(stem)) = (name.strip_suffix('c'), to.strip_suffix("__c")) else {
            return Err(EditError::NotCustom(to.to_owned()));
        };
        if state.catalog.index_of(to).is_some() {
            return Err(EditError::ObjectExists(to.to_owned()));
        }
        let now_ms = truncate_to_second(self.now_ms());
        let next = state.catalog.with_changed(|place, other| {
            let refers = |field: &FieldDef| field.reference_to.contains(&name);
            let is_satellite = other.associate_parent_entity.as_ref() == Some(&name);
            let counts = |field: &FieldDef| matches!(&field.formula, Some(Formula::ChildCount { object, .. }) if *object == name);
            if other.removed
                || !(place == index || is_satellite || other.all_fields().iter().any(|f| refers(f) || counts(f)))
            {
                return false;
            }
            if place == index {
                other.first_name.get_or_insert_with(|| name.clone());
                to.clone_into(&mut other.name);
            } else if is_satellite {
                if let Some(rest) = other.name.strip_prefix(old_stem) {
                    let own = other.name.clone();
                    let renamed = format!("{stem}__{rest}");
                    other.first_name.get_or_insert(own);
                    other.name = renamed;
                }
                other.associate_parent_entity = Some(to.to_owned());
            }
            other.edit_fields(now_ms, |fields| {
                for field in fields.iter_mut() {
                    field.reference_to.iter_mut().filter(|target| **target == name).for_each(|target| to.clone_into(target));
                    if let Some(Formula::ChildCount { object, .. }) = &mut field.formula
                        && *object == name
                    {
                        to.clone_into(object);
                    }
                }
            });
            true
        });
        state.catalog = Arc::new(next);
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

impl State {
    /// The place of an object of the customer's own making.
    fn custom_object(&self, name: &str) -> Result<usize, EditError> {
        let index = self.object_index(name)?;
        match self.catalog.objects()[index].name.ends_with("__c") {
            true => Ok(index),
            false => Err(EditError::NotCustom(name.to_owned())),
        }
    }
}

fn known_field<'d>(definition: &'d ObjectDef, field: &str) -> Result<(usize, &'d FieldDef), OrgError> {
    definition
        .field_even_hidden(field)
        .ok_or_else(|| OrgError::NoSuchField { object: definition.name.clone(), field: field.to_owned() })
}
