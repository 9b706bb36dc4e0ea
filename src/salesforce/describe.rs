//! What Salesforce says an object is, and what that makes of it for us.
//!
//! Comes in: describeGlobal and describe. Goes out: [`ObjectSummary`] and, compiled with the user's field rules, the
//! [`ObjectDescription`] that queries, schemas and encoders go by. Fields keep the order of the object's first
//! schema; Salesforce's own order is not stable. What cannot be captured says why. A type nobody knows is text.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::{DATE, IF_MODIFIED_SINCE, LAST_MODIFIED};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use tokio::time::Instant;

use crate::config::{Blobs, Compounds, Decimals, FieldRules, ValueRules};
use crate::domain::compound::{Part, part_field_name};
use crate::domain::decimal::MOST_DIGITS;
use crate::domain::{Compound, CompoundShape, CursorField, Field, FieldKind, ObjectDescription, name};
use crate::error::{Error, Kind, Result};

use super::fault::{Area, Fault};
use super::transport::Call;
use super::{Client, Copying, Purpose, discover, restrictions, text_types};

/// One object of describeGlobal.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectSummary {
    pub name: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub label: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub queryable: bool,
    #[serde(default = "yes", deserialize_with = "null_is_yes")]
    pub retrieveable: bool,
    /// Where it is not told, getDeleted is asked and may refuse.
    #[serde(default = "yes", deserialize_with = "null_is_yes")]
    pub replicateable: bool,
    #[serde(default, deserialize_with = "null_is_default")]
    pub deprecated_and_hidden: bool,
}

fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

fn null_is_yes<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::<bool>::deserialize(deserializer)?.unwrap_or(true))
}

fn yes() -> bool {
    true
}

impl ObjectSummary {
    /// Why the object cannot be captured, as far as this summary tells.
    pub fn obstacle(&self) -> Option<String> {
        if let Some(reason) = restrictions::obstacle(&self.name) {
            return Some(reason);
        }
        let reason = if self.deprecated_and_hidden {
            "Salesforce has deprecated and hidden it"
        } else if !self.queryable {
            "Salesforce does not answer queries on it"
        } else if !self.retrieveable {
            "it is a view that Salesforce computes: its rows cannot be fetched by id"
        } else {
            return None;
        };
        Some(reason.to_owned())
    }
}

/// An object's describe.
#[derive(Clone, Debug)]
pub struct Describe {
    /// To be sent back with the next call, as it came.
    pub last_modified: Option<String>,
    object: Described,
}

#[derive(Clone, Debug, Deserialize)]
struct Described {
    #[serde(flatten)]
    summary: ObjectSummary,
    #[serde(default)]
    fields: Vec<DescribedField>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DescribedField {
    name: String,
    #[serde(default)]
    label: Option<String>,
    #[serde(default)]
    inline_help_text: Option<String>,
    #[serde(rename = "type", default, deserialize_with = "null_is_default")]
    kind: String,
    #[serde(default, deserialize_with = "null_is_default")]
    length: u32,
    #[serde(default, deserialize_with = "null_is_default")]
    precision: u32,
    #[serde(default, deserialize_with = "null_is_default")]
    scale: u32,
    #[serde(default, deserialize_with = "null_is_default")]
    high_scale_number: bool,
    /// `BillingStreet` belongs to `BillingAddress`.
    #[serde(default)]
    compound_field_name: Option<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    calculated: bool,
    /// Where it is not told, the query tells: without a cursor an object would not be followed at all.
    #[serde(default = "yes", deserialize_with = "null_is_yes")]
    filterable: bool,
    #[serde(default = "yes", deserialize_with = "null_is_yes")]
    sortable: bool,
    #[serde(default, deserialize_with = "null_is_default")]
    deprecated_and_hidden: bool,
}

/// What the configuration says of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Include,
    Exclude,
    Hash,
    Mask,
}

/// Rises when [`Describe::compile`] makes something else of the same answer: what was compiled before is compiled anew.
const COMPILED: u32 = 1;

/// Fields that the program itself goes by: no rule leaves them out.
const ALWAYS: &[&str] = &["Id", "CreatedDate", "IsDeleted"];
/// In the order of preference (`rest.md` 3.7).
const CURSORS: &[&str] = &["SystemModstamp", "LastModifiedDate", "CreatedDate"];
/// Decimals that a number with `highScaleNumber` can have, whatever its scale says (`rest.md` 2.4).
const HIGH_SCALE: u32 = 8;

impl Describe {
    /// From the body of an answer, whatever call it came with.
    pub(super) fn read(body: &[u8]) -> Result<Self, Fault> {
        let object = serde_json::from_slice(body).map_err(|error| Fault::json(&error))?;
        Ok(Self { last_modified: None, object })
    }

    /// From an answer that was kept, for who has no org at hand. Error: [`Kind::ReplyUnreadable`].
    pub fn from_json(body: &[u8]) -> Result<Self> {
        Self::read(body).map_err(|fault| fault.into_error("a kept describe"))
    }

    /// Names in the rules that the object has no field for; `pinned`: those that it had.
    pub fn unknown_fields<'a>(&self, rules: &'a FieldRules, pinned: &[String]) -> Vec<&'a str> {
        let same = |one: &str, other: &str| one.eq_ignore_ascii_case(other);
        let known = |name: &str| {
            self.object.fields.iter().any(|field| same(&field.name, name))
                || pinned.iter().any(|known| same(known, name))
        };
        rules.named().filter(|name| !known(name)).collect()
    }

    /// Refuses rules for fields that the object does not have: a slip in `mask` would publish what it is to hide.
    pub fn check_rules(&self, rules: &FieldRules, pinned: &[String]) -> Result<()> {
        let unknown = self.unknown_fields(rules, pinned);
        let Some(first) = unknown.first() else { return Ok(()) };
        let what = format!("the object has no field {}, or the user may not see it", unknown.join(", "));
        let names: Vec<&str> = self.object.fields.iter().map(|field| field.name.as_str()).collect();
        let near = discover::near(first, &names);
        let meant = match near.as_slice() {
            [] => "check the spelling under `fields`".to_owned(),
            near => format!("did you mean {}?", near.join(" or ")),
        };
        let hint = format!("{meant}; else give the integration user read access by field-level security");
        Err(Error::new(Kind::ObjectMisconfigured, what).hint(hint))
    }

    /// `pinned`: names in the order of the object's first schema; new fields follow by name. `Id` comes first.
    /// Refuses two fields whose names differ only in case: no query could tell them apart.
    pub fn compile(&self, rules: &FieldRules, pinned: &[String]) -> Result<ObjectDescription> {
        let object = &self.object.summary;
        let mut seen = HashMap::new();
        for field in &self.object.fields {
            if let Some(other) = seen.insert(field.name.to_ascii_lowercase(), &field.name) {
                let what = format!("object {} has two fields {other} and {}", object.name, field.name);
                return Err(
                    Error::new(Kind::SchemaUnsupported, what).hint("rename one of them in Salesforce")
                );
            }
        }
        self.check_hashes(rules)?;
        let cursor_name = self.cursor_name();
        let wanted = |field: &&DescribedField| {
            !field.deprecated_and_hidden && self.is_wanted(field, rules, cursor_name)
        };
        let described = self.object.fields.iter().filter(wanted);
        let mut fields: Vec<Field> =
            described.clone().filter_map(|field| self.compile_field(field, rules)).collect();
        // A name that stands there twice (its type was another once) has its first place, however it is spelled.
        let pinned: HashMap<_, _> =
            pinned.iter().enumerate().rev().map(|(place, name)| (name.to_ascii_lowercase(), place)).collect();
        fields.sort_by_cached_key(|field| {
            let place = pinned.get(&field.name.to_ascii_lowercase()).copied().unwrap_or(usize::MAX);
            (field.name != "Id", place, field.name.clone())
        });
        let index = |name: &str| fields.iter().position(|field| field.name == name);
        // Bulk refuses to select them (`rest.md` 4.4).
        let by_rest_only = fields.iter().any(|field| matches!(&*field.salesforce_type, "json" | "base64"));
        let compounds = match rules.values.compounds {
            Compounds::LeftOut => Vec::new(),
            Compounds::Record => self.compounds(described, &fields),
        };
        let unsupported = object.obstacle().or_else(|| self.fields_obstacle());
        let revision = revision(&fields, &compounds);
        Ok(ObjectDescription {
            name: object.name.as_str().into(),
            target_name: name::target_object(&object.name).into(),
            label: object.label.clone(),
            key: index("Id").unwrap_or(0),
            cursor: cursor_name.and_then(index).map(CursorField),
            created_date: index("CreatedDate"),
            is_deleted: index("IsDeleted"),
            replicateable: object.replicateable,
            bulk: restrictions::in_bulk(&object.name) && !by_rest_only,
            unsupported,
            revision,
            fields,
            compounds,
        })
    }

    /// Hashes are taken of cells, and the cell of a blob is a path: it says nothing of the bytes.
    fn check_hashes(&self, rules: &FieldRules) -> Result<()> {
        let is_hashed = |field: &&DescribedField| {
            FieldKind::of(&field.kind) == FieldKind::Binary && self.rule(field, rules) == Some(Rule::Hash)
        };
        match self.object.fields.iter().find(is_hashed).filter(|_| rules.values.blobs == Blobs::Include) {
            None => Ok(()),
            Some(field) => {
                let what = format!("field {} of object {} is binary", field.name, self.object.summary.name);
                let what = format!("{what}: with `blobs: include` it cannot be hashed");
                Err(Error::new(Kind::ObjectMisconfigured, what).hint("mask the field, or leave it out"))
            }
        }
    }

    /// The field that holds a part of a compound: by its name, or by the compound that the describe says it belongs to.
    fn part(&self, compound: &str, part: &str) -> Option<&DescribedField> {
        let name = part_field_name(compound, part);
        let belongs = |field: &&DescribedField| {
            let own = field.name.trim_end_matches("__s");
            field.compound_field_name.as_deref() == Some(compound) && own.ends_with(part)
        };
        let fields = || self.object.fields.iter();
        fields().find(|field| field.name.eq_ignore_ascii_case(&name)).or_else(|| fields().find(belongs))
    }

    fn compounds<'d>(
        &'d self,
        described: impl Iterator<Item = &'d DescribedField>,
        fields: &[Field],
    ) -> Vec<Compound> {
        let of = |field: &DescribedField| {
            let shape = CompoundShape::of(&field.kind)?;
            let place = |of: &Part| {
                let part = self.part(&field.name, of.field)?;
                let is_number = |kind| matches!(kind, FieldKind::Double | FieldKind::Decimal);
                // A coordinate that is published as something else has no place in the record.
                let fits =
                    |field: &Field| field.name == part.name && (!of.is_number || is_number(field.kind));
                fields.iter().position(fits)
            };
            let parts = shape.parts().iter().map(place).collect();
            Some(Compound { field: field.as_kind(FieldKind::Compound, (0, 0)), shape, parts })
        };
        let mut compounds: Vec<Compound> = described.filter_map(of).collect();
        compounds.sort_by(|left, right| left.field.name.cmp(&right.field.name));
        compounds
    }

    fn is_wanted(&self, field: &DescribedField, rules: &FieldRules, cursor: Option<&str>) -> bool {
        if ALWAYS.contains(&field.name.as_str()) || cursor == Some(field.name.as_str()) {
            return true;
        }
        match self.rule(field, rules) {
            Some(Rule::Exclude) => false,
            Some(Rule::Include | Rule::Hash | Rule::Mask) => true,
            None => rules.include.is_empty(),
        }
    }

    /// None: the field is not read as such.
    fn compile_field(&self, field: &DescribedField, rules: &FieldRules) -> Option<Field> {
        let compiled = field.compile(&self.object.summary.name, rules.values)?;
        Some(match self.rule(field, rules) {
            Some(Rule::Hash) => Field { kind: FieldKind::Hashed, ..compiled },
            Some(Rule::Mask) => Field { kind: FieldKind::Masked, ..compiled },
            Some(Rule::Include | Rule::Exclude) | None => compiled,
        })
    }

    /// The rule that names a field, or the address or location that it is a part of: those are published by their parts.
    fn rule(&self, field: &DescribedField, rules: &FieldRules) -> Option<Rule> {
        let lists = [
            (&rules.exclude, Rule::Exclude),
            (&rules.hash, Rule::Hash),
            (&rules.mask, Rule::Mask),
            (&rules.include, Rule::Include),
        ];
        let of = |name: &str| {
            let listed = |list: &[String]| list.iter().any(|listed| listed.eq_ignore_ascii_case(name));
            lists.iter().find(|(list, _)| listed(list)).map(|(_, rule)| *rule)
        };
        of(&field.name).or_else(|| {
            let whole = self.field(field.compound_field_name.as_deref()?)?;
            (FieldKind::of(&whole.kind) == FieldKind::Compound).then(|| of(&whole.name)).flatten()
        })
    }

    fn field(&self, name: &str) -> Option<&DescribedField> {
        self.object.fields.iter().find(|field| field.name == name)
    }

    /// Both flags count: a cursor that cannot be filtered or sorted gives no rows.
    fn cursor_name(&self) -> Option<&'static str> {
        let object = self.object.summary.name.as_str();
        if !restrictions::has_windows(object) || !Copying::of(object).has_windows() {
            return None;
        }
        let fits = |name: &&&str| {
            self.field(name)
                .is_some_and(|field| field.kind == "datetime" && field.filterable && field.sortable)
        };
        let of_logins = if object == "LoginHistory" { &["LoginTime"] } else { &[][..] };
        CURSORS.iter().chain(of_logins).find(fits).copied()
    }

    fn fields_obstacle(&self) -> Option<String> {
        if self.field("Id").is_none_or(|id| id.kind != "id") {
            return Some("its rows have no Id".to_owned());
        }
        // Catalogue objects give every row the id 000000000000000AAA.
        self.field("DurableId").map(|_| "its rows share one Id (their key is DurableId)".to_owned())
    }
}

impl DescribedField {
    /// None: the field is not read as such.
    fn compile(&self, object: &str, values: ValueRules) -> Option<Field> {
        let exact = self.decimal_shape().filter(|_| values.decimals == Decimals::Decimal);
        Some(match FieldKind::of(&self.kind) {
            FieldKind::Compound => return None,
            FieldKind::Binary => match values.blobs {
                Blobs::LeftOut => return None,
                Blobs::Reference => self.as_kind(FieldKind::Binary, (0, 0)),
                Blobs::Include => self.as_kind(FieldKind::Blob, (0, 0)),
            },
            FieldKind::Double => match exact {
                Some(shape) => self.as_kind(FieldKind::Decimal, shape),
                None => self.as_kind(FieldKind::Double, (self.precision, self.scale)),
            },
            FieldKind::Text => {
                text_types::warn_of_unknown(object, &self.name, &self.kind);
                self.as_kind(FieldKind::Text, (0, 0))
            }
            // A multipicklist's precision is its number of visible lines.
            kind => self.as_kind(kind, (0, 0)),
        })
    }

    /// Precision and scale as a decimal; none: the describe does not tell them, and the number stays a double.
    fn decimal_shape(&self) -> Option<(u32, u32)> {
        let more = if self.high_scale_number { HIGH_SCALE.saturating_sub(self.scale) } else { 0 };
        let (precision, scale) = (self.precision.checked_add(more)?, self.scale.checked_add(more)?);
        (self.precision > 0 && self.scale <= self.precision && precision <= MOST_DIGITS)
            .then_some((precision, scale))
    }

    fn as_kind(&self, kind: FieldKind, (precision, scale): (u32, u32)) -> Field {
        Field {
            name: self.name.clone(),
            label: self.label.clone().unwrap_or_else(|| self.name.clone()),
            help: self.inline_help_text.clone().filter(|help| !help.trim().is_empty()),
            salesforce_type: self.kind.clone(),
            kind,
            length: self.length,
            precision,
            scale,
            calculated: self.calculated,
            filterable: self.filterable,
            sortable: self.sortable,
        }
    }
}

fn revision(fields: &[Field], compounds: &[Compound]) -> u64 {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    for field in fields.iter().chain(compounds.iter().map(|compound| &compound.field)) {
        hash.update(field.name.as_bytes());
        hash.update(b"\0");
        hash.update(field.salesforce_type.as_bytes());
        match field.kind {
            FieldKind::Decimal => {
                hash.update(&[0, 1]);
                hash.update(&field.precision.to_be_bytes());
                hash.update(&field.scale.to_be_bytes());
            }
            FieldKind::Hashed => hash.update(b"\0hashed"),
            FieldKind::Masked => hash.update(b"\0masked"),
            FieldKind::Blob => hash.update(b"\0bytes"),
            _ => {}
        }
        hash.update(b"\n");
    }
    // A part that is shown later makes another record.
    for part in compounds.iter().flat_map(|compound| &compound.parts) {
        hash.update(&part.map_or(u64::MAX, |part| part as u64).to_be_bytes());
    }
    hash.digest()
}

/// What is known of changes to the org's descriptions, for all objects of the process.
#[derive(Default)]
pub(super) struct Metadata {
    watch: tokio::sync::Mutex<Watch>,
    changes: AtomicU64,
    /// As the org listed them last.
    objects: Mutex<Arc<[ObjectSummary]>>,
}

#[derive(Default)]
struct Watch {
    asked_at: Option<Instant>,
    /// To be sent back as it came.
    last_modified: Option<String>,
}

/// `Last-Modified` goes by the second: within the same second more may change. Such a one is not gone by.
fn settled(headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let (modified, date) = (text(LAST_MODIFIED)?, text(DATE)?);
    let age = httpdate::parse_http_date(date).ok()?.duration_since(httpdate::parse_http_date(modified).ok()?);
    age.is_ok_and(|age| age >= Duration::from_secs(2)).then(|| modified.to_owned())
}

impl Client {
    /// All objects that the user may see, as the org spells them.
    pub async fn describe_global(&self) -> Result<Vec<ObjectSummary>> {
        let mut watch = self.metadata().watch.lock().await;
        let before = watch.asked_at.map(|_| watch.last_modified.clone());
        let objects = self.list_objects(&mut watch, false).await?.unwrap_or_default();
        if before.is_some_and(|before| before.is_none() || before != watch.last_modified) {
            // Whoever asks next with this answer's stamp would hear of no change.
            self.metadata().changes.fetch_add(1, Ordering::Relaxed);
        }
        Ok(objects.to_vec())
    }

    /// The same as they were listed last, by whomever; without a call.
    pub fn known_objects(&self) -> Arc<[ObjectSummary]> {
        self.metadata().objects.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A number that has risen if any description may be another than when it was asked for before. One call for all
    /// objects of the process, and no more often than `interval`, or than the day's calls allow.
    pub async fn metadata_changes(&self, interval: Duration) -> Result<u64> {
        let mut watch = self.metadata().watch.lock().await;
        let interval = self.stretched(Purpose::Describe, interval);
        if watch.asked_at.is_none_or(|at| at.elapsed() >= interval)
            && self.for_purpose(Purpose::Describe).list_objects(&mut watch, true).await?.is_some()
        {
            self.metadata().changes.fetch_add(1, Ordering::Relaxed);
        }
        Ok(self.known_metadata_changes())
    }

    /// The same number as far as it is known without a call.
    pub fn known_metadata_changes(&self) -> u64 {
        self.metadata().changes.load(Ordering::Relaxed)
    }

    /// The same as [`Self::metadata_changes`], and the `Last-Modified` of the list of objects that goes with it: of what
    /// is described after this call nothing is older. None: it is not known, or so young that more may change with it.
    pub async fn metadata_state(&self, interval: Duration) -> Result<(u64, Option<String>)> {
        self.metadata_changes(interval).await?;
        Ok(self.known_metadata_state().await)
    }

    /// The same as far as it is known without a call.
    pub async fn known_metadata_state(&self) -> (u64, Option<String>) {
        // Both move while the lock is held.
        let watch = self.metadata().watch.lock().await;
        (self.known_metadata_changes(), watch.last_modified.clone())
    }

    /// All that a description depends on beside the org's metadata: who asks, in which version of the API, and what this
    /// program makes of an answer.
    pub fn describer(&self) -> String {
        let session = self.sessions().current();
        let user = session.user_id.clone().unwrap_or_default();
        let (program, version) = (env!("CARGO_PKG_VERSION"), &self.settings().api_version);
        format!("{program}/{COMPILED}/{version}/{}/{user}", session.org_id)
    }

    /// None: nothing has changed since the list was last read.
    async fn list_objects(
        &self,
        watch: &mut Watch,
        if_modified: bool,
    ) -> Result<Option<Arc<[ObjectSummary]>>> {
        #[derive(Deserialize)]
        struct Answer {
            sobjects: Vec<ObjectSummary>,
        }
        let mut call = Call::get(Area::Describe, "listing the org's objects", self.data_path("/sobjects"));
        if let Some(since) = watch.last_modified.as_deref().filter(|_| if_modified)
            && let Ok(since) = HeaderValue::from_str(since)
        {
            call.also = &[StatusCode::NOT_MODIFIED];
            call.headers.push((IF_MODIFIED_SINCE.as_str(), since));
        }
        let answer = self
            .fetch(&call, |reply| {
                if reply.status == StatusCode::NOT_MODIFIED {
                    return Ok(None);
                }
                let answer: Answer =
                    serde_json::from_slice(&reply.body).map_err(|error| Fault::json(&error))?;
                Ok(Some((answer.sobjects, settled(&reply.headers))))
            })
            .await?;
        watch.asked_at = Some(Instant::now());
        let Some((mut objects, last_modified)) = answer else { return Ok(None) };
        watch.last_modified = last_modified;
        let mut seen = HashSet::new();
        objects.retain(|object| seen.insert(object.name.to_ascii_lowercase()));
        let objects: Arc<[ObjectSummary]> = objects.into();
        *self.metadata().objects.lock().unwrap_or_else(PoisonError::into_inner) = objects.clone();
        Ok(Some(objects))
    }

    /// None: nothing changed since (`Describe::last_modified` of the one you have).
    pub async fn describe(&self, name: &str, if_modified_since: Option<&str>) -> Result<Option<Describe>> {
        let path: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
        let path = self.data_path(&format!("/sobjects/{path}/describe"));
        let mut call = Call::get(Area::Describe, format!("describing {name}"), path);
        if let Some(since) = if_modified_since.and_then(|since| HeaderValue::from_str(since).ok()) {
            call.also = &[StatusCode::NOT_MODIFIED];
            call.headers.push((IF_MODIFIED_SINCE.as_str(), since));
        }
        self.fetch(&call, |reply| {
            if reply.status == StatusCode::NOT_MODIFIED {
                return Ok(None);
            }
            let object = serde_json::from_slice(&reply.body).map_err(|error| Fault::json(&error))?;
            let last_modified =
                reply.headers.get(LAST_MODIFIED).and_then(|value| value.to_str().ok()).map(str::to_owned);
            Ok(Some(Describe { last_modified, object }))
        })
        .await
    }
}

#[cfg(test)]
pub(super) mod sample {
    use std::sync::Arc;

    use super::*;

    pub fn account() -> Arc<ObjectDescription> {
        let field = |name: &str, kind: &str| Field {
            name: name.to_owned(),
            label: name.to_owned(),
            help: None,
            salesforce_type: kind.to_owned(),
            kind: FieldKind::of(kind),
            length: 0,
            precision: 0,
            scale: 0,
            calculated: false,
            filterable: true,
            sortable: true,
        };
        Arc::new(ObjectDescription {
            name: "Account".into(),
            target_name: "Account".into(),
            label: "Account".to_owned(),
            fields: vec![
                field("Id", "id"),
                field("CreatedDate", "datetime"),
                field("IsDeleted", "boolean"),
                field("Name", "string"),
                field("SystemModstamp", "datetime"),
            ],
            compounds: Vec::new(),
            key: 0,
            cursor: Some(CursorField(4)),
            created_date: Some(1),
            is_deleted: Some(2),
            replicateable: true,
            bulk: true,
            unsupported: None,
            revision: 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn field(name: &str, kind: &str) -> Value {
        json!({"name": name, "label": name, "type": kind, "filterable": true, "sortable": true})
    }

    fn describe(name: &str, fields: &[Value]) -> Describe {
        let object = json!({"name": name, "label": name, "queryable": true, "retrieveable": true, "replicateable": true, "fields": fields});
        Describe { last_modified: None, object: serde_json::from_value(object).unwrap() }
    }

    fn names(object: &ObjectDescription) -> Vec<&str> {
        object.fields.iter().map(|field| field.name.as_str()).collect()
    }

    #[test]
    fn a_recorded_describe_compiles() {
        let text = include_str!("../../tests/data/salesforce/describe-Account.json");
        let describe = Describe { last_modified: None, object: serde_json::from_str(text).unwrap() };
        let object = describe.compile(&FieldRules::default(), &[]).unwrap();
        assert_eq!(object.unsupported, None);
        assert_eq!(object.fields.first().unwrap().name, "Id");
        assert_eq!(object.cursor_field().unwrap().name, "SystemModstamp");
        assert_eq!((object.key, object.bulk, object.replicateable), (0, true, true));
        assert!(object.created_date.is_some() && object.is_deleted.is_some());
        assert_eq!(object.field_index("BillingAddress"), None, "a compound's parts are fields of their own");
        let latitude =
            object.field_index("BillingLatitude").and_then(|index| object.fields.get(index)).unwrap();
        assert_eq!((latitude.kind, latitude.precision, latitude.scale), (FieldKind::Double, 18, 15));
    }

    #[test]
    fn fields_keep_the_order_of_the_first_schema_and_new_ones_follow() {
        let fields = ["Zeta__c", "Id", "Alpha__c", "New__c", "SystemModstamp"].map(|name| {
            field(
                name,
                match name {
                    "Id" => "id",
                    "SystemModstamp" => "datetime",
                    _ => "string",
                },
            )
        });
        let describe = describe("Invoice__c", &fields);
        let first = describe.compile(&FieldRules::default(), &[]).unwrap();
        assert_eq!(names(&first), ["Id", "Alpha__c", "New__c", "SystemModstamp", "Zeta__c"]);
        let pinned = ["Id", "Zeta__c", "Gone__c", "SystemModstamp", "Alpha__c"].map(str::to_owned);
        let later = describe.compile(&FieldRules::default(), &pinned).unwrap();
        assert_eq!(names(&later), ["Id", "Zeta__c", "SystemModstamp", "Alpha__c", "New__c"]);
        assert_eq!(later.cursor, Some(CursorField(2)));
        assert_eq!(&*later.target_name, "Invoice_c");
        assert_ne!(first.revision, later.revision);
    }

    #[test]
    fn rules_leave_out_everything_but_what_the_program_goes_by() {
        let describe = describe(
            "Account",
            &[
                field("Id", "id"),
                field("Name", "string"),
                field("Phone", "phone"),
                field("CreatedDate", "datetime"),
                field("SystemModstamp", "datetime"),
                field("BillingAddress", "address"),
                field("Body", "base64"),
            ],
        );
        let include = FieldRules { include: vec!["phone".to_owned()], ..FieldRules::default() };
        assert_eq!(
            names(&describe.compile(&include, &[]).unwrap()),
            ["Id", "CreatedDate", "Phone", "SystemModstamp"]
        );
        let exclude = FieldRules {
            exclude: ["Id", "SystemModstamp", "Name", "Nam"].map(str::to_owned).to_vec(),
            ..FieldRules::default()
        };
        assert_eq!(
            names(&describe.compile(&exclude, &[]).unwrap()),
            ["Id", "CreatedDate", "Phone", "SystemModstamp"]
        );
        assert_eq!(describe.unknown_fields(&exclude, &[]), ["Nam"]);
        assert_eq!(describe.unknown_fields(&exclude, &["Nam".to_owned()]), [""; 0], "it was there once");
        let error = describe.check_rules(&exclude, &[]).unwrap_err();
        assert_eq!(error.kind(), Kind::ObjectMisconfigured);
        assert!(error.to_string().contains("no field Nam"), "{error}");
        assert!(error.advice().starts_with("did you mean Name?"), "{}", error.advice());
    }

    #[test]
    fn a_hashed_or_masked_field_is_read_and_keeps_the_type_it_has_in_salesforce() {
        let describe = describe(
            "Contact",
            &[
                field("Id", "id"),
                field("Email", "email"),
                field("Salary__c", "currency"),
                field("Title", "string"),
            ],
        );
        let rules = FieldRules {
            hash: vec!["salary__C".to_owned()],
            mask: vec!["Email".to_owned()],
            ..FieldRules::default()
        };
        let object = describe.compile(&rules, &[]).unwrap();
        let of = |object: &ObjectDescription, name: &str| {
            let field = object.fields.iter().find(|field| field.name == name).unwrap();
            (field.kind, field.source_kind(), field.salesforce_type.clone())
        };
        assert_eq!(of(&object, "Salary__c"), (FieldKind::Hashed, FieldKind::Double, "currency".to_owned()));
        assert_eq!(of(&object, "Email"), (FieldKind::Masked, FieldKind::Text, "email".to_owned()));
        let plain = describe.compile(&FieldRules::default(), &[]).unwrap();
        assert_ne!(object.revision, plain.revision, "it is written by another schema");
        // They need not be included too.
        let included = FieldRules { include: vec!["Title".to_owned()], ..rules };
        assert_eq!(names(&describe.compile(&included, &[]).unwrap()), ["Id", "Email", "Salary__c", "Title"]);
    }

    #[test]
    fn a_rule_for_an_address_holds_for_its_parts_unless_they_have_their_own() {
        let part = |name: &str| {
            let mut part = field(name, "string");
            part["compoundFieldName"] = json!(name.replace("City", "Address").replace("Street", "Address"));
            part
        };
        let mut last_name = field("LastName", "string");
        last_name["compoundFieldName"] = json!("Name");
        let describe = describe(
            "Contact",
            &[
                field("Id", "id"),
                field("Name", "string"),
                last_name,
                field("MailingAddress", "address"),
                part("MailingCity"),
                part("MailingStreet"),
            ],
        );
        let exclude = |name: &str| FieldRules { exclude: vec![name.to_owned()], ..FieldRules::default() };
        let rules = FieldRules { mask: vec!["MailingCity".to_owned()], ..exclude("mailingAddress") };
        let object = describe.compile(&rules, &[]).unwrap();
        assert_eq!(names(&object), ["Id", "LastName", "MailingCity", "Name"]);
        assert_eq!(object.fields[2].kind, FieldKind::Masked);
        // A name in parts is a field beside them.
        let object = describe.compile(&exclude("Name"), &[]).unwrap();
        assert_eq!(names(&object), ["Id", "LastName", "MailingCity", "MailingStreet"]);
    }

    fn values(decimals: Decimals, compounds: Compounds, blobs: Blobs) -> FieldRules {
        FieldRules { values: ValueRules { decimals, compounds, blobs }, ..FieldRules::default() }
    }

    #[test]
    fn decimals_take_precision_and_scale_of_the_describe_where_it_tells_them() {
        let number = |name: &str, kind: &str, precision: u32, scale: u32, high: bool| {
            let mut number = field(name, kind);
            number["precision"] = json!(precision);
            number["scale"] = json!(scale);
            number["highScaleNumber"] = json!(high);
            number
        };
        let fields = [
            field("Id", "id"),
            number("Amount__c", "currency", 18, 2, false),
            number("Exact__c", "currency", 18, 2, true),
            number("Lines__c", "multipicklist", 4, 0, false),
            number("Odd__c", "double", 2, 15, false),
            number("Rate__c", "percent", 5, 5, false),
            number("Unknown__c", "double", 0, 0, false),
            number("Wide__c", "double", 39, 2, false),
        ];
        let describe = describe("Invoice__c", &fields);
        let shapes = |rules: &FieldRules| -> Vec<_> {
            let object = describe.compile(rules, &[]).unwrap();
            object.fields.iter().skip(1).map(|field| (field.kind, field.precision, field.scale)).collect()
        };
        let exact = shapes(&values(Decimals::Decimal, Compounds::LeftOut, Blobs::LeftOut));
        assert_eq!(
            exact,
            [
                (FieldKind::Decimal, 18, 2),
                (FieldKind::Decimal, 24, 8),
                (FieldKind::Text, 0, 0),
                (FieldKind::Double, 2, 15),
                (FieldKind::Decimal, 5, 5),
                (FieldKind::Double, 0, 0),
                (FieldKind::Double, 39, 2),
            ]
        );
        assert!(shapes(&FieldRules::default()).iter().all(|(kind, ..)| *kind != FieldKind::Decimal));
    }

    #[test]
    fn a_compound_is_made_of_the_fields_that_are_read_for_its_parts() {
        let of_address = |name: &str, kind: &str| {
            let mut part = field(name, kind);
            part["compoundFieldName"] = json!("BillingAddress");
            part
        };
        let mut hidden_by_name = field("Odd__Lat_Latitude__s", "double");
        hidden_by_name["compoundFieldName"] = json!("Odd__Lat__c");
        let fields = [
            field("Id", "id"),
            field("BillingAddress", "address"),
            of_address("BillingCountryCode", "picklist"),
            of_address("BillingLatitude", "double"),
            of_address("BillingStreet", "textarea"),
            field("Loc__c", "location"),
            field("Loc__Latitude__s", "double"),
            field("Loc__Longitude__s", "double"),
            field("Text__c", "location"),
            field("Text__Latitude__s", "string"),
            field("Odd__Lat__c", "location"),
            hidden_by_name,
            field("Settings", "complexvalue"),
        ];
        let describe = describe("Account", &fields);
        let compounds = |rules: &FieldRules| -> Vec<_> {
            let object = describe.compile(rules, &[]).unwrap();
            let name = |place: &Option<usize>| {
                place.map(|place| object.fields[place].name.clone()).unwrap_or_default()
            };
            let parts = |compound: &Compound| compound.parts.iter().map(name).collect::<Vec<_>>().join(",");
            object
                .compounds
                .iter()
                .map(|compound| format!("{}: {}", compound.field.name, parts(compound)))
                .collect()
        };
        let mut rules = values(Decimals::Double, Compounds::Record, Blobs::LeftOut);
        assert_eq!(
            compounds(&rules),
            [
                "BillingAddress: BillingStreet,,,,,,BillingCountryCode,BillingLatitude,,",
                "Loc__c: Loc__Latitude__s,Loc__Longitude__s",
                "Odd__Lat__c: Odd__Lat_Latitude__s,",
                "Text__c: ,",
            ]
        );
        rules.exclude = ["billingstreet", "Loc__c"].map(str::to_owned).to_vec();
        assert_eq!(
            compounds(&rules),
            [
                "BillingAddress: ,,,,,,BillingCountryCode,BillingLatitude,,",
                "Odd__Lat__c: Odd__Lat_Latitude__s,",
                "Text__c: ,"
            ]
        );
        rules.include = vec!["BillingAddress".to_owned()];
        assert_eq!(compounds(&rules), ["BillingAddress: ,,,,,,BillingCountryCode,BillingLatitude,,"]);
        assert_eq!(
            names(&describe.compile(&rules, &[]).unwrap()),
            ["Id", "BillingCountryCode", "BillingLatitude"]
        );
        assert_eq!(compounds(&FieldRules::default()), [""; 0]);
    }

    #[test]
    fn blobs_asked_for_are_read_by_rest() {
        let fields = [field("Id", "id"), field("Body", "base64"), field("Name", "string")];
        let describe = describe("Document", &fields);
        let left_out = describe.compile(&FieldRules::default(), &[]).unwrap();
        assert_eq!((names(&left_out), left_out.bulk), (vec!["Id", "Name"], true));
        let rules = values(Decimals::Double, Compounds::LeftOut, Blobs::Reference);
        let object = describe.compile(&rules, &[]).unwrap();
        assert_eq!((names(&object), object.bulk), (vec!["Id", "Body", "Name"], false));
        let mut rules = values(Decimals::Double, Compounds::LeftOut, Blobs::Include);
        let included = describe.compile(&rules, &[]).unwrap();
        assert_eq!((included.blobs().collect::<Vec<_>>(), included.bulk), (vec![1], false));
        assert_ne!(included.revision, object.revision, "bytes are no text");
        // Of its path a hash would say nothing, and a mask needs no bytes.
        rules.hash = vec!["body".to_owned()];
        let error = describe.compile(&rules, &[]).unwrap_err();
        assert_eq!(error.kind(), Kind::ObjectMisconfigured);
        assert!(error.to_string().contains("field Body of object Document is binary"), "{error}");
        (rules.mask, rules.hash) = (rules.hash, Vec::new());
        assert!(!describe.compile(&rules, &[]).unwrap().has_blobs());
    }

    #[test]
    fn another_way_of_publishing_values_is_another_description() {
        let mut street = field("BillingStreet", "textarea");
        street["precision"] = json!(0);
        let mut amount = field("Amount__c", "currency");
        (amount["precision"], amount["scale"]) = (json!(18), json!(2));
        let fields = [field("Id", "id"), amount, field("BillingAddress", "address"), street];
        let first = describe("Account", &fields);
        let mut fewer = fields.clone();
        fewer[1]["precision"] = json!(16);
        let (exact, records) = (
            values(Decimals::Decimal, Compounds::LeftOut, Blobs::LeftOut),
            values(Decimals::Double, Compounds::Record, Blobs::LeftOut),
        );
        let revisions: HashSet<u64> = [
            first.compile(&FieldRules::default(), &[]),
            first.compile(&exact, &[]),
            describe("Account", &fewer).compile(&exact, &[]),
            first.compile(&records, &[]),
            describe("Account", &fields[..3]).compile(&records, &[]),
        ]
        .into_iter()
        .map(|object| object.unwrap().revision)
        .collect();
        assert_eq!(revisions.len(), 5);
    }

    #[test]
    fn a_cursor_that_cannot_be_filtered_or_sorted_is_passed_over() {
        let mut stamp = field("SystemModstamp", "datetime");
        stamp["filterable"] = json!(false);
        let fields = [field("Id", "id"), stamp, field("CreatedDate", "datetime")];
        let cursor = |name: &str, fields: &[Value]| {
            let object = describe(name, fields).compile(&FieldRules::default(), &[]).unwrap();
            object.cursor_field().map(|field| field.name.clone())
        };
        assert_eq!(cursor("X__c", &fields).as_deref(), Some("CreatedDate"));
        assert_eq!(cursor("AsyncApexJob", &fields), None);
        let login = [field("Id", "id"), field("LoginTime", "datetime")];
        assert_eq!(cursor("LoginHistory", &login).as_deref(), Some("LoginTime"));
        assert_eq!(cursor("X__c", &login), None);
    }

    #[test]
    fn what_a_describe_leaves_out_or_calls_null_is_taken_for_possible() {
        let text = r#"{"name":"X__c","label":null,"queryable":true,"deprecatedAndHidden":null,"fields":[
            {"name":"Id","type":"id","filterable":null},
            {"name":"SystemModstamp","type":"datetime","length":null,"calculated":null},
            {"name":"Odd__c","type":null,"precision":null,"scale":null}]}"#;
        let describe = Describe { last_modified: None, object: serde_json::from_str(text).unwrap() };
        let object = describe.compile(&FieldRules::default(), &[]).unwrap();
        assert_eq!((object.unsupported.as_deref(), object.replicateable), (None, true));
        assert_eq!(object.cursor_field().unwrap().name, "SystemModstamp");
        let odd = object.field_index("Odd__c").and_then(|index| object.fields.get(index)).unwrap();
        assert_eq!(odd.kind, FieldKind::Text);
    }

    #[test]
    fn what_cannot_be_captured_says_why() {
        let reason =
            |describe: &Describe| describe.compile(&FieldRules::default(), &[]).unwrap().unsupported.unwrap();
        assert!(reason(&describe("Vote", &[field("Id", "id")])).contains("only with a filter"));
        assert!(reason(&describe("X__c", &[field("Name", "string")])).contains("no Id"));
        let catalogue = describe("AppDefinition", &[field("Id", "id"), field("DurableId", "string")]);
        assert!(reason(&catalogue).contains("share one Id"));
        let mut view = describe("UserSetupEntityAccess", &[field("Id", "id")]);
        view.object.summary.retrieveable = false;
        assert!(reason(&view).contains("computes"));
        view.object.summary.queryable = false;
        assert!(reason(&view).contains("does not answer queries"));
    }

    #[test]
    fn names_that_differ_only_in_case_are_refused() {
        let describe =
            describe("X__c", &[field("Id", "id"), field("A__c", "string"), field("a__c", "string")]);
        let error = describe.compile(&FieldRules::default(), &[]).unwrap_err();
        assert_eq!(error.kind(), Kind::SchemaUnsupported);
        assert!(error.to_string().contains("A__c and a__c"), "{error}");
    }
}
