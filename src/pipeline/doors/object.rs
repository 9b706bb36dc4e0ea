//! Objects made from a seed: their describe, the schema of their events, and pages of their records.
//!
//! Comes in: a seed. Goes out: the describe as REST answers it (`rest.md` 2.4), an event schema as `pubsub.md` 3 has it, and
//! by it bodies of all three doors. Field types are weighted alike; half of the objects have compounds.

use std::fmt::Write as _;

use apache_avro::types::Value as Avro;
use serde_json::{Value as Json, json};

use super::spelling::{Spelled, Value, value};
use crate::config::{Blobs, Compounds, Decimals, FieldRules, ValueRules};
use crate::domain::{FieldKind, ObjectDescription};

/// Numbers that look like chance and can be had again (SplitMix64).
pub struct Seed(u64);

impl Seed {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.draw() % bound.max(1) as u64) as usize
    }

    pub fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    /// Not empty: empty is null.
    pub fn text(&mut self) -> String {
        let length = 1 + self.below(12);
        let letter = |seed: &mut Self| match seed.below(8) {
            0 => ['"', '\r', '\n', ',', ';', '\'', '\\', ' '][seed.below(8)],
            1 => char::from_u32(0x1_0000 + seed.draw() as u32 % 0x10_0000).unwrap_or('🧾'),
            2 => char::from_u32(seed.draw() as u32 % 0xd800).filter(|letter| *letter != '\0').unwrap_or('ß'),
            _ => char::from(b'a' + seed.below(26) as u8),
        };
        (0..length).map(|_| letter(self)).collect()
    }
}

const TYPES: [&str; 17] = [
    "string",
    "textarea",
    "reference",
    "picklist",
    "multipicklist",
    "phone",
    "email",
    "url",
    "encryptedstring",
    "boolean",
    "int",
    "long",
    "double",
    "currency",
    "percent",
    "date",
    "datetime",
];

struct Field {
    name: String,
    of: &'static str,
    shape: (u32, u32),
    /// Published as decimal.
    decimal: bool,
    /// Name of the compound in events, and of the part there.
    part: Option<(String, &'static str)>,
}

/// An object; `fields` are without the id, in the order of the describe.
pub struct Made {
    pub rules: FieldRules,
    fields: Vec<Field>,
    /// Name, type of the describe, name of the record in events.
    compounds: Vec<(String, &'static str, &'static str)>,
}

const ADDRESS: [(&str, &str, &str); 10] = [
    ("Street", "street", "textarea"),
    ("City", "city", "string"),
    ("State", "state", "string"),
    ("PostalCode", "postalCode", "string"),
    ("Country", "country", "string"),
    ("StateCode", "stateCode", "picklist"),
    ("CountryCode", "countryCode", "picklist"),
    ("Latitude", "latitude", "double"),
    ("Longitude", "longitude", "double"),
    ("GeocodeAccuracy", "geocodeAccuracy", "picklist"),
];

/// The record's parts as they are published.
const RECORD: [&str; 10] = [
    "Street",
    "City",
    "State",
    "StateCode",
    "PostalCode",
    "Country",
    "CountryCode",
    "Latitude",
    "Longitude",
    "GeocodeAccuracy",
];

impl Made {
    pub fn new(seed: &mut Seed) -> Self {
        let decimals = if seed.one_in(2) { Decimals::Decimal } else { Decimals::Double };
        let compounds = if seed.one_in(2) { Compounds::Record } else { Compounds::LeftOut };
        let values = ValueRules { decimals, compounds, blobs: Blobs::LeftOut };
        let mut made = Self {
            rules: FieldRules { values, ..FieldRules::default() },
            fields: Vec::new(),
            compounds: Vec::new(),
        };
        for place in 0..1 + seed.below(14) {
            let of = if seed.one_in(18) { "time" } else { TYPES[seed.below(TYPES.len())] };
            made.add(seed, format!("F{place}__c"), of, None);
        }
        let has_codes = seed.one_in(2);
        for (compound, stem) in [("BillingAddress", "Billing"), ("ShippingAddress", "Shipping")] {
            if seed.one_in(2) {
                continue;
            }
            made.compounds.push((compound.to_owned(), "address", "Address"));
            for (part, _, of) in ADDRESS {
                if has_codes || !part.ends_with("Code") || part == "PostalCode" {
                    made.add(seed, format!("{stem}{part}"), of, Some((compound.to_owned(), part)));
                }
            }
        }
        if seed.one_in(3) {
            made.compounds.push(("Loc__c".to_owned(), "location", "Location"));
            for part in ["Latitude", "Longitude"] {
                made.add(seed, format!("Loc__{part}__s"), "double", Some(("Loc__c".to_owned(), part)));
            }
        }
        made
    }

    fn add(&mut self, seed: &mut Seed, name: String, of: &'static str, part: Option<(String, &'static str)>) {
        let is_number = matches!(of, "double" | "currency" | "percent");
        let shape = match () {
            () if !is_number => (0, 0),
            () if part.is_some() => (18, 15),
            // Not told now and then.
            () if seed.one_in(12) => (0, 0),
            () => {
                let precision = 1 + seed.below(18) as u32;
                (precision, seed.below(precision as usize + 1) as u32)
            }
        };
        let decimal = is_number && shape.0 > 0 && self.rules.values.decimals == Decimals::Decimal;
        self.fields.push(Field { name, of, shape, decimal, part });
    }

    pub fn describe(&self) -> Vec<u8> {
        let field = |name: &str, of: &str| json!({"name": name, "label": name, "type": of, "filterable": true, "sortable": true});
        let mut fields = vec![field("Id", "id")];
        for own in &self.fields {
            let mut described = field(&own.name, own.of);
            (described["precision"], described["scale"]) = (json!(own.shape.0), json!(own.shape.1));
            // The number of visible lines.
            if own.of == "multipicklist" {
                described["precision"] = json!(4);
            }
            described["compoundFieldName"] = own.part.as_ref().map(|(compound, _)| compound.as_str()).into();
            fields.push(described);
        }
        fields.extend(self.compounds.iter().map(|(name, of, _)| field(name, of)));
        json!({"name": "Account", "label": "Account", "queryable": true, "retrieveable": true, "fields": fields})
            .to_string()
            .into_bytes()
    }

    pub fn record(&self, seed: &mut Seed) -> Spelled {
        let empty = seed.one_in(10);
        let of = |field: &Field| match field.of {
            of if empty && of != "boolean" => Value::Null,
            of => {
                let shape = if field.shape.0 == 0 { (12, 3) } else { field.shape };
                value(seed, of, shape, field.decimal)
            }
        };
        self.fields.iter().map(of).collect()
    }

    /// A page of a query: keys in the order of the selection or in another.
    pub fn page(&self, seed: &mut Seed, records: &[Spelled]) -> String {
        let mut body = format!(r#"{{"totalSize":{},"done":true,"records":["#, records.len());
        for (row, record) in records.iter().enumerate() {
            if row > 0 {
                body.push(',');
            }
            body.push_str(r#"{"attributes":{"type":"Account","url":"/x"}"#);
            let mut cells = vec![format!("\"Id\":\"{}\"", id(row))];
            for (field, value) in self.fields.iter().zip(record) {
                cells.push(format!("\"{}\":{}", field.name, value.rest(seed)));
            }
            if seed.one_in(4) {
                let turn = seed.below(cells.len());
                cells.rotate_left(turn);
            }
            for cell in cells {
                let _ = write!(body, ",{cell}");
            }
            body.push('}');
        }
        body + "]}"
    }

    /// A page of Bulk, its columns in any order.
    pub fn csv(&self, seed: &mut Seed, records: &[Spelled]) -> String {
        let turn = seed.below(self.fields.len() + 1);
        let line = |mut cells: Vec<String>| {
            cells.rotate_left(turn);
            let quoted: Vec<String> =
                cells.iter().map(|cell| format!("\"{}\"", cell.replace('"', "\"\""))).collect();
            quoted.join(",") + "\n"
        };
        let names = self.fields.iter().map(|field| field.name.clone());
        let mut body = line(std::iter::once("Id".to_owned()).chain(names).collect());
        for (row, record) in records.iter().enumerate() {
            let cells = record.iter().map(|value| value.bulk(seed));
            body.push_str(&line(std::iter::once(id(row)).chain(cells).collect()));
        }
        body
    }

    /// The parts of a compound that the object has, in the order of its record in events.
    fn parts<'m>(&'m self, compound: &'m str) -> impl Iterator<Item = (usize, &'m Field, &'static str)> {
        let own = move |(place, field): (usize, &'m Field)| {
            let (of, part) = field.part.as_ref()?;
            (of == compound).then_some((place, field, *part))
        };
        self.fields.iter().enumerate().filter_map(own)
    }

    pub fn event_schema(&self) -> String {
        let optional = |name: &str, of: Json| json!({"name": name, "type": ["null", of], "default": null});
        let list = json!({"type": "array", "items": "string"});
        let mut fields = vec![
            json!({"name": "ChangeEventHeader", "type": {"type": "record", "name": "ChangeEventHeader", "fields": [
                {"name": "entityName", "type": "string"},
                {"name": "recordIds", "type": list},
                {"name": "changeType", "type": {"type": "enum", "name": "ChangeType", "namespace": "", "symbols": ["CREATE", "UPDATE"]}},
                {"name": "commitTimestamp", "type": "long"},
                {"name": "nulledFields", "type": list},
                {"name": "diffFields", "type": list},
                {"name": "changedFields", "type": list},
            ]}}),
        ];
        for field in self.fields.iter().filter(|field| field.part.is_none()) {
            fields.push(optional(&field.name, json!(event_type(field.of))));
        }
        let mut defined: Vec<&str> = Vec::new();
        for (name, _, record) in &self.compounds {
            let parts: Vec<Json> = self
                .parts(name)
                .map(|(_, field, part)| optional(part, json!(event_type(field.of))))
                .collect();
            let of = match defined.contains(record) {
                true => json!(record),
                false => json!({"type": "record", "name": record, "fields": parts}),
            };
            defined.push(record);
            fields.push(optional(name, of));
        }
        json!({"type": "record", "name": "AccountChangeEvent", "namespace": "com.sforce.eventbus", "fields": fields}).to_string()
    }

    /// The record's creation.
    pub fn event(&self, record: &Spelled) -> Avro {
        let text = |text: &str| Avro::String(text.to_owned());
        let named = |name: &str, value: Avro| (name.to_owned(), value);
        let header = Avro::Record(vec![
            named("entityName", text("Account")),
            named("recordIds", Avro::Array(vec![text("001000000000001AAA")])),
            named("changeType", Avro::Enum(0, "CREATE".to_owned())),
            named("commitTimestamp", Avro::Long(1_779_179_400_000)),
            named("nulledFields", Avro::Array(Vec::new())),
            named("diffFields", Avro::Array(Vec::new())),
            named("changedFields", Avro::Array(Vec::new())),
        ]);
        let mut fields = vec![named("ChangeEventHeader", header)];
        for (field, value) in self.fields.iter().zip(record).filter(|(field, _)| field.part.is_none()) {
            fields.push(named(&field.name, value.event()));
        }
        for (name, ..) in &self.compounds {
            let parts: Vec<_> = self.parts(name).map(|(place, _, part)| (part, &record[place])).collect();
            let value = match parts.iter().all(|(_, value)| value.is_null()) {
                true => Avro::Union(0, Box::new(Avro::Null)),
                false => {
                    let parts = parts.iter().map(|(part, value)| named(part, value.event())).collect();
                    Avro::Union(1, Box::new(Avro::Record(parts)))
                }
            };
            fields.push(named(name, value));
        }
        Avro::Record(fields)
    }

    /// What must be published of a record: fields in the order of the description, compounds behind them.
    pub fn wanted(&self, object: &ObjectDescription, row: usize, record: &Spelled) -> Vec<(String, Avro)> {
        let own = |name: &str| self.fields.iter().position(|field| field.name == name);
        let mut wanted = Vec::new();
        for field in &object.fields {
            let value = match own(&field.name) {
                Some(place) => record[place].published(field.kind == FieldKind::Decimal),
                None => Avro::String(id(row)),
            };
            wanted.push((field.name.clone(), value));
        }
        if self.rules.values.compounds == Compounds::Record {
            let mut compounds: Vec<_> = self.compounds.iter().collect();
            compounds.sort();
            for (name, of, _) in compounds {
                wanted.push((name.clone(), self.wanted_compound(name, of, record)));
            }
        }
        wanted
    }

    fn wanted_compound(&self, name: &str, of: &str, record: &Spelled) -> Avro {
        let value = |part: &str| {
            let found = self.parts(name).find(|(_, _, known)| *known == part);
            found.map_or(Value::Null, |(place, ..)| record[place].clone())
        };
        let names: &[&str] = if of == "address" { &RECORD } else { &["Latitude", "Longitude"] };
        if names.iter().all(|part| value(part).is_null()) {
            return Avro::Union(0, Box::new(Avro::Null));
        }
        let published = |part: &&str| {
            let as_published =
                ADDRESS.iter().find(|(known, ..)| known == part).map_or("", |(_, name, _)| name);
            (as_published.to_owned(), value(part).published(false))
        };
        Avro::Union(1, Box::new(Avro::Record(names.iter().map(published).collect())))
    }
}

fn id(row: usize) -> String {
    format!("001{row:012}AAA")
}

fn event_type(of: &str) -> &'static str {
    match of {
        "boolean" => "boolean",
        "int" => "int",
        "double" | "currency" | "percent" => "double",
        "long" | "date" | "datetime" | "time" => "long",
        _ => "string",
    }
}
