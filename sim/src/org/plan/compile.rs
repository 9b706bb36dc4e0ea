//! From a field's definition to the way it gets its values.
//!
//! Comes in: the catalogue, the sizes of all objects, the plans of before. Goes out: new plans. A field's
//! values depend on its name and type only, so that adding a field changes no other.

use std::borrow::Cow;
use std::sync::Arc;

use super::{Compiled, FieldPlan, Kind, NullRate, Older, Plan, Target};
use crate::catalog::{Catalog, FieldDef, FieldType, Formula, ObjectDef};
use crate::org::USER_PREFIX;
use crate::org::config::OrgConfig;
use crate::org::generate::{Place, mix};
use crate::org::store::{Store, salt_of};

/// Plans for all objects. Plans of `before` say since when a field exists.
pub(in crate::org) fn compile_all(
    catalog: &Catalog,
    stores: &[Store],
    config: &OrgConfig,
    before: Option<&[Arc<Plan>]>,
) -> Vec<Arc<Plan>> {
    let context = Context { catalog, stores, config };
    catalog
        .objects()
        .iter()
        .enumerate()
        .map(|(index, object)| {
            Arc::new(context.plan(index, object, before.and_then(|plans| plans.get(index))))
        })
        .collect()
}

/// The blob that a field tells the length of.
fn length_of(field: &str) -> Option<&'static str> {
    match field {
        "BodyLength" => Some("Body"),
        "ContentSize" => Some("VersionData"),
        _ => None,
    }
}

struct Context<'a> {
    catalog: &'a Catalog,
    stores: &'a [Store],
    config: &'a OrgConfig,
}

impl Context<'_> {
    fn target(&self, name: &str) -> Option<Target> {
        let object = self.catalog.index_of(name)?;
        let store = self.stores.get(object)?;
        (store.shape.rows > 0).then_some(Target { object, prefix: store.prefix, rows: store.shape.rows })
    }

    fn plan(&self, index: usize, object: &ObjectDef, before: Option<&Arc<Plan>>) -> Plan {
        let store = &self.stores[index];
        let known = before.map(|plan| plan.fields.as_slice());
        let fields: Vec<FieldPlan> = object
            .all_fields()
            .iter()
            .enumerate()
            .map(|(at, field)| {
                let from_sequence = match known {
                    None => 0,
                    Some(plans) => plans.get(at).map_or(store.next_sequence, |plan| plan.from_sequence),
                };
                self.field_plan(object, store, at, field, from_sequence)
            })
            .collect();
        let cascading = object
            .all_fields()
            .iter()
            .enumerate()
            .filter(|(_, field)| field.cascade_delete && field.reference_to.len() == 1)
            .filter_map(|(at, field)| Some((at, self.catalog.index_of(field.reference_to.first()?)?)))
            .collect();
        let nobody = Target { object: usize::MAX, prefix: USER_PREFIX, rows: 1 };
        Plan { salt: store.salt, fields, users: self.target("User").unwrap_or(nobody), cascading }
    }

    fn field_plan(
        &self,
        object: &ObjectDef,
        store: &Store,
        at: usize,
        field: &FieldDef,
        from_sequence: u64,
    ) -> FieldPlan {
        let older = field.former.as_ref().map(|former| {
            Box::new(Older {
                below: former.below,
                plan: self.field_plan(object, store, at, &former.field, from_sequence),
                as_type: field.field_type.clone(),
            })
        });
        FieldPlan {
            salt: mix(salt_of(&field.name)),
            from_sequence,
            null_in: null_rate(object, at, field),
            kind: self.kind(object, store, at, field),
            older,
        }
    }

    fn kind(&self, object: &ObjectDef, store: &Store, at: usize, field: &FieldDef) -> Kind {
        let system = object.system();
        let is = |place: Option<usize>| place == Some(at);
        if is(system.id) {
            return if object.rules.constant_id { Kind::ConstantId } else { Kind::Id };
        }
        for (place, kind) in [
            (system.is_deleted, Kind::IsDeleted),
            (system.is_archived, Kind::IsArchived),
            (system.master_record_id, Kind::MasterRecordId),
            (system.created_date, Kind::CreatedDate),
            (system.created_by, Kind::CreatedById),
            (system.last_modified_date, Kind::LastModifiedDate),
            (system.last_modified_by, Kind::LastModifiedById),
            (system.system_modstamp, Kind::SystemModstamp),
            (system.cursor, Kind::Cursor),
        ] {
            if is(place) {
                return kind;
            }
        }
        if let Some(kind) = field.formula.as_ref().and_then(|formula| self.formula(object, formula)) {
            return kind;
        }
        if matches!(field.name.as_str(), "LastViewedDate" | "LastReferencedDate") {
            return Kind::Viewed;
        }
        if let Some(kind) = self.catalogue_entry(object, field) {
            return kind;
        }
        self.typed_kind(object, store, field)
    }

    fn formula(&self, object: &ObjectDef, formula: &Formula) -> Option<Kind> {
        let own = |name: &str| object.all_fields().iter().position(|field| field.name == name);
        let position = |object: usize, name: &str| {
            self.catalog.objects().get(object)?.all_fields().iter().position(|field| field.name == name)
        };
        Some(Kind::Formula(match formula {
            Formula::Twice(field) => Compiled::Twice(own(field)?),
            Formula::Upper(field) => Compiled::Upper(own(field)?),
            Formula::DaysSince(field) => Compiled::DaysSince(own(field)?),
            Formula::Exceeds(field, limit) => Compiled::Exceeds(own(field)?, *limit),
            Formula::Parent { reference, field } => {
                let reference = own(reference)?;
                let parent = self.catalog.index_of(object.all_fields()[reference].reference_to.first()?)?;
                Compiled::Parent { reference, object: parent, field: position(parent, field)? }
            }
            Formula::ChildCount { object: child, reference } => {
                let child = self.catalog.index_of(child)?;
                Compiled::ChildCount { object: child, reference: position(child, reference)? }
            }
        }))
    }

    /// EntityDefinition and FieldDefinition describe the catalogue itself.
    fn catalogue_entry(&self, object: &ObjectDef, field: &FieldDef) -> Option<Kind> {
        let objects = self.catalog.objects();
        let names = match (object.name.as_str(), field.name.as_str()) {
            ("EntityDefinition", "QualifiedApiName" | "DeveloperName" | "DurableId") => {
                objects.iter().map(|object| Cow::Owned(object.name.clone())).collect()
            }
            ("RecordType", part @ ("Name" | "DeveloperName" | "SobjectType")) => {
                let mut entries: Vec<(u64, Cow<'static, str>)> = Vec::new();
                for object in objects {
                    entries.extend(object.record_types.iter().filter_map(|record_type| {
                        let text = match part {
                            "Name" => &record_type.name,
                            "DeveloperName" => &record_type.developer_name,
                            _ => &object.name,
                        };
                        Some((record_type.row?, Cow::Owned(text.clone())))
                    }));
                }
                entries.sort_by_key(|(row, _)| *row);
                entries.into_iter().map(|(_, text)| text).collect()
            }
            ("EntityDefinition", "Label" | "MasterLabel") => {
                objects.iter().map(|object| Cow::Owned(object.label.clone())).collect()
            }
            ("EntityDefinition", "KeyPrefix") => objects
                .iter()
                .map(|object| Cow::Owned(object.key_prefix.clone().unwrap_or_default()))
                .collect(),
            ("FieldDefinition", part) => {
                let text = |object: &ObjectDef, field: &FieldDef| match part {
                    "EntityDefinitionId" => Some(object.name.clone()),
                    "DurableId" => Some(format!("{}.{}", object.name, field.name)),
                    "QualifiedApiName" | "DeveloperName" => Some(field.name.clone()),
                    "Label" | "MasterLabel" => Some(field.label.clone()),
                    "DataType" => Some(field.field_type.name().to_owned()),
                    _ => None,
                };
                let all =
                    objects.iter().flat_map(|object| object.all_fields().iter().map(move |f| (object, f)));
                all.map(|(object, field)| text(object, field).map(Cow::Owned))
                    .collect::<Option<Arc<[_]>>>()?
            }
            _ => return None,
        };
        Some(Kind::Listed(names))
    }

    fn typed_kind(&self, object: &ObjectDef, store: &Store, field: &FieldDef) -> Kind {
        use FieldType as T;
        let own = |name: &str| object.all_fields().iter().position(|other| other.name == name);
        match &field.field_type {
            T::Reference if field.reference_target_field.is_some() => {
                // An external lookup holds the other system's key, not an id.
                Kind::Numbered { before: "KEY-".to_owned(), after: String::new(), width: 6 }
            }
            T::Reference => self.reference(object, store, field),
            T::Id => Kind::Reference(Vec::new()),
            T::Address => {
                let mut parts = [None; 10];
                for (at, other) in object.all_fields().iter().enumerate() {
                    if other.compound_field_name.as_deref() == Some(field.name.as_str())
                        && let Some(part) = place_part(&other.name)
                    {
                        parts[part as usize] = Some(at);
                    }
                }
                Kind::Address { parts }
            }
            T::Location => {
                let stem = field.name.trim_end_matches("__c");
                match (own(&format!("{stem}__Latitude__s")), own(&format!("{stem}__Longitude__s"))) {
                    (Some(latitude), Some(longitude)) => Kind::Location { latitude, longitude },
                    _ => Kind::Reference(Vec::new()),
                }
            }
            T::Boolean => {
                let mostly = field.default_value.as_deref() == Some("true") || field.name == "IsActive";
                Kind::Boolean { mostly }
            }
            T::Picklist | T::Combobox | T::DataCategoryGroupReference => match place_of(object, field) {
                Some(kind) => kind,
                None if field.picklist.is_empty() => Kind::Line(field.length),
                None => Kind::Picklist(field.picklist.iter().map(|entry| entry.value.clone()).collect()),
            },
            T::Multipicklist => {
                Kind::Multipicklist(field.picklist.iter().map(|entry| entry.value.clone()).collect())
            }
            T::Phone => Kind::Phone,
            T::Email => Kind::Email,
            T::Url => Kind::Url,
            T::EncryptedString => Kind::Masked,
            T::Int => match length_of(&field.name).and_then(own) {
                Some(of) => Kind::BlobLength { of },
                None => Kind::Int(field.digits),
            },
            T::Long => Kind::Long,
            T::Double | T::Currency | T::Percent => place_of(object, field).unwrap_or_else(|| {
                let group = mix(salt_of(field.compound_field_name.as_deref().unwrap_or(&field.name)));
                match (field.name.ends_with("__Latitude__s"), field.name.ends_with("__Longitude__s")) {
                    (true, _) => Kind::Degrees { limit: 90, group },
                    (_, true) => Kind::Degrees { limit: 180, group },
                    _ => Kind::Decimal(field.precision, field.scale),
                }
            }),
            T::Date => Kind::Date,
            T::DateTime => Kind::DateTime,
            T::Time => Kind::Time,
            T::Base64 => Kind::BlobUrl {
                before: format!("/services/data/v{}/sobjects/{}/", self.config.api_version, object.name),
                after: format!("/{}", field.name),
            },
            T::AnyType => Kind::AnyType,
            T::ComplexValue => Kind::ComplexValue,
            T::Json | T::Other(_) => Kind::Json,
            T::Textarea if field.html_formatted => Kind::RichText(field.length),
            T::Textarea => place_of(object, field).unwrap_or(Kind::LongText(field.length)),
            T::String => self.string_kind(object, field),
        }
    }

    fn string_kind(&self, object: &ObjectDef, field: &FieldDef) -> Kind {
        let own = |name: &str| object.all_fields().iter().position(|other| other.name == name);
        let numbered = |before: &str, width: usize, after: &str| Kind::Numbered {
            before: before.to_owned(),
            after: after.to_owned(),
            width,
        };
        if let Some(kind) = place_of(object, field) {
            return kind;
        }
        match field.name.as_str() {
            "Name" if own("LastName").is_some() => Kind::FullName {
                parts: ["FirstName", "LastName"].iter().filter_map(|name| own(name)).collect(),
            },
            "FirstName" => Kind::FirstName,
            "LastName" => Kind::LastName,
            "Username" => Kind::Username { first: self.config.username.clone() },
            "Alias" | "CommunityNickname" | "FederationIdentifier" => numbered("user", 1, ""),
            "DurableId" => numbered("06m5g000000", 4, ""),
            _ if field.auto_number => {
                let name = object.first_name.as_deref().unwrap_or(&object.name);
                let letters = name.chars().filter(char::is_ascii_uppercase).take(3).collect::<String>();
                Kind::AutoNumber { before: format!("{letters}-") }
            }
            _ if field.unique || field.external_id => numbered("EXT-", 8, ""),
            "Name" | "Company" | "CompanyName" if !object.flags.custom => Kind::Company,
            name if name.ends_with("Id") && field.length == 18 => {
                Kind::ForeignKey(Target { object: usize::MAX, prefix: *b"09a", rows: 20 })
            }
            _ => Kind::Line(field.length),
        }
    }

    fn reference(&self, object: &ObjectDef, store: &Store, field: &FieldDef) -> Kind {
        if field.name == "RecordTypeId" {
            return Kind::RecordType(
                object.record_types.iter().filter_map(|record_type| record_type.row).collect(),
            );
        }
        let targets: Vec<Target> = field.reference_to.iter().filter_map(|name| self.target(name)).collect();
        match (field.cascade_delete, targets.as_slice()) {
            (true, [parent]) => Kind::Block { parent: *parent, rows: store.shape.rows },
            _ => Kind::Reference(targets),
        }
    }
}

/// How often a field that may be null is: part of the field's character, so drawn from its name.
fn null_rate(object: &ObjectDef, at: usize, field: &FieldDef) -> NullRate {
    let own_parts = matches!(field.field_type, FieldType::Address | FieldType::Location | FieldType::Boolean);
    if !field.nillable
        || own_parts
        || field.name_field
        || field.is_calculated()
        || field.auto_number
        || field.cascade_delete
        || field.unique
        || field.compound_field_name.is_some() && place_part(&field.name).is_some()
        || object.system().id == Some(at)
        || matches!(
            field.name.as_str(),
            "MasterRecordId" | "Name" | "LastName" | "DurableId" | "QualifiedApiName"
        )
    {
        return NullRate(0);
    }
    NullRate([3, 4, 6, 8, 16, 32][(salt_of(&field.name) % 6) as usize])
}

/// `BillingCity`, `Address__City__s`: the part of an address a field is, by the end of its name.
fn place_part(name: &str) -> Option<Place> {
    let name = name.strip_suffix("__s").unwrap_or(name);
    [
        ("GeocodeAccuracy", Place::Accuracy),
        ("Street", Place::Street),
        ("City", Place::City),
        ("StateCode", Place::StateCode),
        ("State", Place::State),
        ("PostalCode", Place::PostalCode),
        ("CountryCode", Place::CountryCode),
        ("Country", Place::Country),
        ("Latitude", Place::Latitude),
        ("Longitude", Place::Longitude),
    ]
    .iter()
    .find(|(end, _)| name.ends_with(end))
    .map(|(_, part)| *part)
}

fn place_of(object: &ObjectDef, field: &FieldDef) -> Option<Kind> {
    let compound = field.compound_field_name.as_deref()?;
    let part = place_part(&field.name)?;
    // The halves of a custom location are not parts of an address.
    let mut parents = object.all_fields().iter().filter(|other| other.name == compound);
    if !parents.any(|other| other.field_type == FieldType::Address) {
        return None;
    }
    Some(Kind::Place { part, group: mix(salt_of(compound)) })
}
