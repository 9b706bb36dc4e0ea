//! The org's catalogue: every object, its fields, and what Salesforce says and refuses about them.
//!
//! Comes in: the embedded tables (`*.txt`, one line a field) and changes at run time. Goes out: definitions,
//! found by name in any case. A catalogue never changes: the org swaps in a new one.

mod custom;
mod describe;
mod field;
mod formula;
mod object;
mod rules;
mod table;

use std::collections::HashMap;
use std::sync::Arc;

pub use field::{Access, FieldDef, FieldType, Former, PicklistValue};
pub use formula::Formula;
pub use object::{ChildRelationship, ObjectDef, ObjectFlags, RecordTypeDef, SystemFields};
pub use rules::{FilterColumn, FilterNeed, ObjectRules, QueryRule, RuleError};
use serde_json::{Value as Json, json};
pub use table::TableError;

#[derive(Clone, Debug, Default)]
pub struct Catalog {
    objects: Vec<Arc<ObjectDef>>,
    by_name: HashMap<String, usize>,
}

impl Catalog {
    /// The built-in catalogue.
    pub fn standard() -> Catalog {
        let objects = table::standard().expect("the embedded tables parse, as a test shows");
        Catalog::new(objects)
    }

    /// The same with so many more custom objects, `Bulk0001__c` and so on, as a grown org has them.
    #[must_use]
    pub fn with_custom_objects(&self, count: u16) -> Catalog {
        let mut objects: Vec<ObjectDef> =
            self.objects.iter().map(|object| ObjectDef::clone(object)).collect();
        objects.extend(table::many(count).expect("the embedded pattern parses, as a test shows"));
        Catalog::new(objects)
    }

    /// Puts objects together and works out their child relationships.
    pub fn new(objects: Vec<ObjectDef>) -> Catalog {
        let mut catalog = Catalog::default();
        for object in objects {
            catalog.by_name.insert(object.name.to_ascii_lowercase(), catalog.objects.len());
            catalog.objects.push(Arc::new(object));
        }
        catalog.relate();
        catalog
    }

    fn relate(&mut self) {
        let mut children: HashMap<String, Vec<ChildRelationship>> = HashMap::new();
        for object in self.present() {
            for (_, field) in object.visible_fields() {
                for parent in &field.reference_to {
                    children.entry(parent.to_ascii_lowercase()).or_default().push(ChildRelationship {
                        child: object.name.clone(),
                        field: field.name.clone(),
                        relationship_name: child_relationship_name(object, field),
                        cascade_delete: field.cascade_delete,
                        restricted_delete: field.restricted_delete,
                    });
                }
            }
        }
        for object in &mut self.objects {
            let found = children.remove(&object.name.to_ascii_lowercase()).unwrap_or_default();
            if object.child_relationships != found {
                Arc::make_mut(object).child_relationships = found;
            }
        }
    }

    /// All that ever were, removed ones included, by their place.
    pub fn objects(&self) -> &[Arc<ObjectDef>] {
        &self.objects
    }

    /// Those that are there.
    pub fn present(&self) -> impl Iterator<Item = &Arc<ObjectDef>> {
        self.objects.iter().filter(|object| !object.removed)
    }

    pub fn object(&self, name: &str) -> Option<&Arc<ObjectDef>> {
        self.objects.get(self.index_of(name)?)
    }

    /// The object's place, which it keeps for the life of the org.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        match self.by_name.get(name) {
            Some(index) => Some(*index),
            None => self.by_name.get(&name.to_ascii_lowercase()).copied(),
        }
    }

    /// Puts another definition in an object's place; its references must be the same.
    pub(crate) fn replace(&mut self, object: ObjectDef) {
        if let Some(index) = self.index_of(&object.name) {
            self.objects[index] = Arc::new(object);
        }
    }

    /// A copy with one object added or replaced.
    pub(crate) fn with_object(&self, object: ObjectDef) -> Catalog {
        let mut next = self.clone();
        match next.index_of(&object.name) {
            Some(index) => next.objects[index] = Arc::new(object),
            None => {
                next.by_name.insert(object.name.to_ascii_lowercase(), next.objects.len());
                next.objects.push(Arc::new(object));
            }
        }
        next.relate();
        next
    }

    /// A copy with all of these objects changed, by their places; names may be others.
    pub(crate) fn with_changed(&self, mut change: impl FnMut(usize, &mut ObjectDef) -> bool) -> Catalog {
        let mut next = self.clone();
        for (place, object) in next.objects.iter_mut().enumerate() {
            let mut changed = ObjectDef::clone(object);
            if change(place, &mut changed) {
                *object = Arc::new(changed);
            }
        }
        let present = next.objects.iter().enumerate().filter(|(_, object)| !object.removed);
        next.by_name = present.map(|(place, object)| (object.name.to_ascii_lowercase(), place)).collect();
        next.relate();
        next
    }

    /// The newest change of any object; for If-Modified-Since on describeGlobal.
    pub fn last_modified_ms(&self) -> i64 {
        self.objects.iter().map(|object| object.last_modified_ms).max().unwrap_or_default()
    }

    /// The answer of describeGlobal.
    pub fn global_json(&self, api_version: &str) -> Json {
        let sobjects: Vec<Json> = self.present().map(|object| object.global_json(api_version)).collect();
        json!({"encoding": "UTF-8", "maxBatchSize": 200, "sobjects": sobjects})
    }
}

/// `Contacts` on Account, `Invoice_Lines__r` on a custom parent; polymorphic and audit references have none.
fn child_relationship_name(object: &ObjectDef, field: &FieldDef) -> Option<String> {
    let audit =
        matches!(field.name.as_str(), "CreatedById" | "LastModifiedById" | "OwnerId" | "RecordTypeId");
    if audit || field.name_pointing {
        return None;
    }
    let plural = object.label_plural.replace(' ', if field.custom { "_" } else { "" });
    Some(if field.custom { format!("{plural}__r") } else { plural })
}
