//! How each field of an object comes by its value, worked out once per catalogue.
//!
//! Comes in: the catalogue and the sizes of all objects. Goes out: for a record and a field index, the value.
//! Only that field is made. References point to generated records of their target; children of a
//! master-detail parent lie in one block, so that a deleted parent finds them without a search.

mod blob;
mod compile;

use std::borrow::Cow;
use std::sync::Arc;

use crate::catalog::FieldType;
use crate::org::conversion::converted;
use crate::org::generate::{self, Place, below, mix};
use crate::org::id::Id;
use crate::org::store::Life;
use crate::org::value::{Address, Value};
use crate::org::view::Row;

pub(in crate::org) use compile::compile_all;

#[derive(Debug)]
pub(in crate::org) struct Plan {
    salt: u64,
    fields: Vec<FieldPlan>,
    users: Target,
    /// Fields that lead to a cascading parent: (field index, parent object).
    pub cascading: Vec<(usize, usize)>,
}

#[derive(Clone, Debug)]
struct FieldPlan {
    salt: u64,
    /// Records before this one were there when the field was added: they have no value.
    from_sequence: u64,
    null_in: NullRate,
    kind: Kind,
    older: Option<Box<Older>>,
}

/// A field that was changed: records from before keep their values, in today's type.
#[derive(Clone, Debug)]
struct Older {
    below: u64,
    plan: FieldPlan,
    /// Today's type.
    as_type: FieldType,
}

/// One in how many values is null; zero for never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct NullRate(u64);

/// Generated records of an object that a reference can point to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Target {
    object: usize,
    prefix: [u8; 3],
    rows: u64,
}

impl Target {
    fn id(&self, hash: u64) -> Id {
        Id::new(self.prefix, below(hash, self.rows.max(1)))
    }
}

#[derive(Clone, Debug)]
enum Kind {
    Id,
    ConstantId,
    IsDeleted,
    IsArchived,
    MasterRecordId,
    CreatedDate,
    CreatedById,
    LastModifiedDate,
    LastModifiedById,
    SystemModstamp,
    /// A date of the record's own that orders it, such as LoginTime.
    Cursor,
    Viewed,
    Formula(Compiled),
    Address {
        parts: [Option<usize>; 10],
    },
    Location {
        latitude: usize,
        longitude: usize,
    },
    FullName {
        parts: Vec<usize>,
    },
    Reference(Vec<Target>),
    /// An id that the describe calls plain text.
    ForeignKey(Target),
    /// All children of one parent in a row: parent = child × parents ÷ children.
    Block {
        parent: Target,
        rows: u64,
    },
    RecordType(Vec<u64>),
    Place {
        part: Place,
        group: u64,
    },
    /// Half a custom location; both halves share `group` and are null together.
    Degrees {
        limit: i64,
        group: u64,
    },
    Boolean {
        mostly: bool,
    },
    Picklist(Arc<[Cow<'static, str>]>),
    Multipicklist(Arc<[Cow<'static, str>]>),
    FirstName,
    LastName,
    Company,
    Email,
    Phone,
    Url,
    /// Counted by the org, whoever saves the record.
    AutoNumber {
        before: String,
    },
    Numbered {
        before: String,
        after: String,
        width: usize,
    },
    /// The first user's is what the integration user logs in with.
    Username {
        first: String,
    },
    Line(u32),
    LongText(u32),
    RichText(u32),
    Int(u32),
    Long,
    Decimal(u32, u32),
    Date,
    DateTime,
    Time,
    BlobUrl {
        before: String,
        after: String,
    },
    /// How many bytes the blob of another field has.
    BlobLength {
        of: usize,
    },
    AnyType,
    ComplexValue,
    Json,
    Masked,
    /// The n-th of a list: catalogue objects describe themselves.
    Listed(Arc<[Cow<'static, str>]>),
}

#[derive(Clone, Debug)]
enum Compiled {
    Twice(usize),
    Upper(usize),
    Parent { reference: usize, object: usize, field: usize },
    DaysSince(usize),
    Exceeds(usize, i64),
    ChildCount { object: usize, reference: usize },
}

impl Plan {
    pub fn row_hash(&self, sequence: u64) -> u64 {
        mix(self.salt ^ sequence.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    /// The value of a field of a record as its snapshot sees it.
    pub fn value(&self, row: &Row, field: usize) -> Value {
        let Some(plan) = self.fields.get(field) else { return Value::Null };
        if let Some(version) = &row.version
            && let Some(value) = version.value(field)
        {
            if let (Kind::BlobUrl { before, after }, false) = (&plan.kind, value.is_null()) {
                return blob_url(row, before, after);
            }
            return plan.of_today(value.clone());
        }
        match &plan.kind {
            Kind::Id => Value::Id(row.id()),
            Kind::ConstantId => Value::Id(Id::CONSTANT),
            Kind::IsDeleted => Value::Bool(row.life != Life::Live),
            Kind::IsArchived => Value::Bool(row.archived),
            Kind::MasterRecordId => match &row.version {
                Some(version) => version.master.map_or(Value::Null, Value::Id),
                None => Value::Null,
            },
            Kind::CreatedDate => Value::DateTime(self.created_ms(row, field)),
            Kind::CreatedById => Value::Id(match &row.version {
                Some(version) => version.created_by,
                None => self.base_user(row.hash, 0),
            }),
            Kind::LastModifiedDate => Value::DateTime(self.modified_ms(row, field)),
            Kind::LastModifiedById => Value::Id(match &row.version {
                Some(version) => version.modified_by,
                None => self.base_user(row.hash, 1),
            }),
            Kind::SystemModstamp => Value::DateTime(match &row.version {
                Some(version) => version.system_modstamp_ms,
                None => row.cursor_ms,
            }),
            Kind::Cursor => Value::DateTime(row.cursor_ms),
            Kind::Viewed => self.viewed(row, plan),
            Kind::Formula(formula) => self.compute(row, formula),
            Kind::Address { parts } => self.address(row, parts),
            Kind::Location { latitude, longitude } => {
                match (self.value(row, *latitude).as_f64(), self.value(row, *longitude).as_f64()) {
                    (Some(latitude), Some(longitude)) => Value::Location { latitude, longitude },
                    _ => Value::Null,
                }
            }
            Kind::AutoNumber { before } => Value::Text(format!("{before}{:08}", row.sequence).into()),
            Kind::BlobLength { of } => {
                self.blob(row, *of).map_or(Value::Null, |bytes| Value::Int(bytes.len() as i64))
            }
            Kind::FullName { parts } => {
                let parts: Vec<Value> = parts.iter().map(|part| self.value(row, *part)).collect();
                let parts: Vec<&str> = parts.iter().filter_map(Value::as_str).collect();
                Value::text(parts.join(" "))
            }
            kind => {
                if row.version.as_ref().is_some_and(|version| !version.filled)
                    || row.sequence < plan.from_sequence
                {
                    return if matches!(kind, Kind::Boolean { .. }) {
                        Value::Bool(false)
                    } else {
                        Value::Null
                    };
                }
                plan.draw(row)
            }
        }
    }

    /// The generated value of a field, as if for another record: the traffic's source of new values.
    pub fn fresh_value(&self, row: &Row, field: usize, salt: u64) -> Option<Value> {
        let plan = self.fields.get(field)?;
        let mut other = row.clone();
        other.hash = mix(row.hash ^ salt);
        Some(plan.generate(&other))
    }

    /// Whether the field's value is drawn freely, not kept by the org or computed from others.
    pub fn is_free(&self, field: usize) -> bool {
        use Kind as K;
        self.fields.get(field).is_some_and(|plan| {
            !matches!(
                plan.kind,
                K::Id
                    | K::ConstantId
                    | K::IsDeleted
                    | K::IsArchived
                    | K::MasterRecordId
                    | K::CreatedDate
                    | K::CreatedById
                    | K::LastModifiedDate
                    | K::LastModifiedById
                    | K::SystemModstamp
                    | K::Cursor
                    | K::Viewed
                    | K::Formula(_)
                    | K::Address { .. }
                    | K::Location { .. }
                    | K::FullName { .. }
                    | K::Block { .. }
                    | K::AutoNumber { .. }
                    | K::Numbered { .. }
                    | K::Username { .. }
                    | K::BlobUrl { .. }
                    | K::BlobLength { .. }
                    | K::Listed(_)
            )
        })
    }

    /// Which generated children a parent has: those in its block.
    pub fn block(&self, field: usize, parent: u64) -> Option<std::ops::Range<u64>> {
        let Kind::Block { parent: target, rows } = &self.fields.get(field)?.kind else { return None };
        if parent >= target.rows {
            return Some(0..0);
        }
        // child × parents ÷ children = parent, solved for the first child.
        let first =
            |parent: u64| (u128::from(parent) * u128::from(*rows)).div_ceil(u128::from(target.rows)) as u64;
        Some(first(parent)..first(parent + 1))
    }

    /// The parent a generated child begins with.
    pub fn block_parent(&self, field: usize, sequence: u64) -> Option<u64> {
        match &self.fields.get(field)?.kind {
            Kind::Block { parent, rows } if sequence < *rows => {
                Some((u128::from(sequence) * u128::from(parent.rows) / u128::from(*rows)) as u64)
            }
            _ => None,
        }
    }

    /// How many generated records a cascading parent's object has.
    pub fn block_parents(&self, field: usize) -> u64 {
        match self.fields.get(field).map(|plan| &plan.kind) {
            Some(Kind::Block { parent, .. }) => parent.rows,
            _ => 0,
        }
    }

    /// Who created (0) or last changed (1) a generated record.
    pub fn base_user(&self, row_hash: u64, role: u64) -> Id {
        self.users.id(mix(row_hash ^ (0x05E2 + role)))
    }

    fn created_ms(&self, row: &Row, field: usize) -> i64 {
        match &row.version {
            Some(version) => version.created_ms,
            None => {
                Plan::base_created_ms(row.hash, row.cursor_ms, row.object().system().cursor == Some(field))
            }
        }
    }

    /// Half of the generated records were changed after their creation.
    pub fn base_created_ms(row_hash: u64, cursor_ms: i64, is_cursor: bool) -> i64 {
        let hash = mix(row_hash ^ 0xC4EA);
        if is_cursor || hash.is_multiple_of(2) {
            return cursor_ms;
        }
        cursor_ms - below(hash, 300 * 86_400) as i64 * 1_000
    }

    fn modified_ms(&self, row: &Row, field: usize) -> i64 {
        match &row.version {
            Some(version) => version.modified_ms,
            None => {
                Plan::base_modified_ms(row.hash, row.cursor_ms, row.object().system().cursor == Some(field))
            }
        }
    }

    /// One generated record in ten was last touched by an automated process, which moves only SystemModstamp.
    pub fn base_modified_ms(row_hash: u64, cursor_ms: i64, is_cursor: bool) -> i64 {
        let hash = mix(row_hash ^ 0x30D1);
        if is_cursor || !hash.is_multiple_of(10) {
            return cursor_ms;
        }
        let created = Plan::base_created_ms(row_hash, cursor_ms, false);
        let seconds = (cursor_ms - created) / 1_000;
        created + below(hash, seconds as u64 + 1) as i64 * 1_000
    }

    /// Noise that no stamp shows (rest.md 3.7): with `view_noise` it moves every minute.
    fn viewed(&self, row: &Row, plan: &FieldPlan) -> Value {
        let hash = mix(row.hash ^ plan.salt);
        if !hash.is_multiple_of(4) {
            return Value::Null;
        }
        let now = if row.view.org.config.view_noise { row.view.time_ms } else { row.view.org.start_ms };
        Value::DateTime(crate::org::calendar::truncate_to_minute(now) - below(hash, 86_400) as i64 * 1_000)
    }

    fn address(&self, row: &Row, parts: &[Option<usize>; 10]) -> Value {
        let part = |place: Place| parts[place as usize].map_or(Value::Null, |field| self.value(row, field));
        let text = |place: Place| match part(place) {
            Value::Text(text) => Some(text),
            _ => None,
        };
        Address {
            city: text(Place::City),
            country: text(Place::Country),
            codes: parts[Place::CountryCode as usize]
                .map(|_| (text(Place::CountryCode), text(Place::StateCode))),
            geocode_accuracy: text(Place::Accuracy),
            latitude: part(Place::Latitude).as_f64(),
            longitude: part(Place::Longitude).as_f64(),
            postal_code: text(Place::PostalCode),
            state: text(Place::State),
            street: text(Place::Street),
        }
        .into_value()
    }

    fn compute(&self, row: &Row, formula: &Compiled) -> Value {
        match formula {
            Compiled::Twice(field) => {
                self.value(row, *field).as_f64().map_or(Value::Null, |n| Value::Double(n * 2.0))
            }
            Compiled::Upper(field) => match self.value(row, *field).as_str() {
                Some(text) => Value::text(text.to_uppercase()),
                None => Value::Null,
            },
            Compiled::Exceeds(field, limit) => {
                Value::Bool(self.value(row, *field).as_f64().is_some_and(|number| number > *limit as f64))
            }
            Compiled::DaysSince(field) => match self.value(row, *field).as_ms() {
                Some(ms) => {
                    let day = |ms: i64| ms.div_euclid(crate::org::calendar::MS_PER_DAY);
                    Value::Double((day(row.view.time_ms) - day(ms)) as f64)
                }
                None => Value::Null,
            },
            Compiled::Parent { reference, object, field } => {
                let parent = self.value(row, *reference).as_id().and_then(|id| row.view.row(*object, id));
                parent.map_or(Value::Null, |parent| parent.get(*field))
            }
            Compiled::ChildCount { object, reference } => {
                let children = row.view.children(*object, *reference, row.sequence);
                Value::Double(children.iter().filter(|child| child.life == Life::Live).count() as f64)
            }
        }
    }
}

fn blob_url(row: &Row, before: &str, after: &str) -> Value {
    Value::Text(format!("{before}{}{after}", row.id()).into())
}

impl FieldPlan {
    /// A kept value in the type that the field has now.
    fn of_today(&self, value: Value) -> Value {
        match &self.older {
            Some(older) => converted(value, &older.as_type),
            None => value,
        }
    }

    /// What the record was drawn with.
    fn draw(&self, row: &Row) -> Value {
        match &self.older {
            Some(older) if row.sequence < older.below => converted(older.plan.draw(row), &older.as_type),
            _ => self.generate(row),
        }
    }

    fn generate(&self, row: &Row) -> Value {
        let hash = mix(row.hash ^ self.salt);
        if self.null_in.0 > 0 && (hash >> 32).is_multiple_of(self.null_in.0) {
            return Value::Null;
        }
        match &self.kind {
            Kind::Reference(targets) => match targets.as_slice() {
                [] => Value::Null,
                [target] => Value::Id(target.id(mix(hash))),
                targets => Value::Id(targets[below(hash, targets.len() as u64) as usize].id(mix(hash))),
            },
            Kind::ForeignKey(target) => Value::Text(target.id(mix(hash)).to_string().into()),
            Kind::Block { parent, rows } => {
                // Records beyond the generated ones join any parent.
                let at = match row.sequence < *rows {
                    true => (u128::from(row.sequence) * u128::from(parent.rows) / u128::from(*rows)) as u64,
                    false => below(hash, parent.rows),
                };
                Value::Id(Id::new(parent.prefix, at))
            }
            Kind::RecordType(rows) => match rows.as_slice() {
                [] => Value::Null,
                rows => Value::Id(Id::new(
                    crate::org::RECORD_TYPE_PREFIX,
                    rows[below(hash, rows.len() as u64) as usize],
                )),
            },
            Kind::Place { part, group } => generate::place(*part, mix(row.hash ^ group), hash),
            Kind::Degrees { group, .. } if mix(row.hash ^ group).is_multiple_of(4) => Value::Null,
            Kind::Degrees { limit, .. } => generate::degrees(hash, *limit),
            Kind::Boolean { mostly: true } => Value::Bool(!hash.is_multiple_of(16)),
            Kind::Boolean { mostly: false } => Value::Bool(hash.is_multiple_of(3)),
            Kind::Picklist(values) => match values.len() as u64 {
                0 => Value::Null,
                count => Value::Text(values[below(hash, count) as usize].clone()),
            },
            Kind::Multipicklist(values) => {
                let chosen = values.iter().enumerate().filter(|(at, _)| (hash >> (at % 32)) & 1 == 1);
                Value::text(chosen.map(|(_, value)| value.as_ref()).collect::<Vec<_>>().join(";"))
            }
            Kind::FirstName => generate::first_name(hash),
            Kind::LastName => generate::last_name(hash),
            Kind::Company => generate::company(hash),
            Kind::Email => generate::email(hash, row.sequence),
            Kind::Phone => generate::phone(hash),
            Kind::Url => generate::url(hash),
            Kind::Numbered { before, after, width } => {
                Value::Text(format!("{before}{:0width$}{after}", row.sequence).into())
            }
            Kind::Username { first } if row.sequence == 0 => Value::text(first.clone()),
            Kind::Username { .. } => Value::Text(format!("user{}@practice.example", row.sequence).into()),
            Kind::Line(length) => generate::line(hash, *length),
            Kind::LongText(length) => generate::long_text(hash, *length),
            Kind::RichText(length) => generate::rich_text(hash, *length),
            Kind::Int(digits) => generate::int(hash, *digits),
            Kind::Long => generate::long(hash),
            Kind::Decimal(precision, scale) => generate::decimal(hash, *precision, *scale),
            Kind::Date => Value::Date(generate::date(hash)),
            Kind::DateTime => generate::datetime(hash),
            Kind::Time => generate::time(hash),
            Kind::BlobUrl { before, after } => blob_url(row, before, after),
            Kind::AnyType => generate::any_type(hash),
            Kind::ComplexValue => generate::complex_value(hash),
            Kind::Json => generate::json_value(hash),
            Kind::Masked => generate::masked(hash),
            Kind::Listed(entries) => {
                entries.get(row.sequence as usize).map_or(Value::Null, |entry| Value::text(entry.clone()))
            }
            // What the org keeps or computes never comes here.
            _ => Value::Null,
        }
    }
}
