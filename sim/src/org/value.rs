//! One field's value, in the org's own terms, and its spellings at the REST and Bulk doors.
//!
//! Comes in: generated values, or JSON from a change. Goes out: JSON or CSV cell text (unquoted).
//! Never an empty string: Salesforce keeps none, empty is null (rest.md 4.3).

use std::borrow::Cow;
use std::io::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number, Value as Json};

use super::calendar;
use super::id::Id;
use crate::catalog::{FieldDef, FieldType};

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(Cow<'static, str>),
    Id(Id),
    /// Days since 1970-01-01.
    Date(i32),
    /// Milliseconds since 1970-01-01 UTC.
    DateTime(i64),
    /// Milliseconds of the day.
    Time(u32),
    Address(Box<Address>),
    Location {
        latitude: f64,
        longitude: f64,
    },
    Json(Box<Json>),
}

pub type AddressPart = Option<Cow<'static, str>>;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Address {
    pub city: AddressPart,
    pub country: AddressPart,
    /// Country and state codes, in orgs (and custom addresses) with State and Country picklists.
    pub codes: Option<(AddressPart, AddressPart)>,
    pub geocode_accuracy: AddressPart,
    pub latitude: Option<f64>,
    pub longitude: Option<f64>,
    pub postal_code: AddressPart,
    pub state: AddressPart,
    pub street: AddressPart,
}

impl Value {
    /// Text that is not empty, else null.
    pub fn text(text: impl Into<Cow<'static, str>>) -> Value {
        let text = text.into();
        if text.is_empty() { Value::Null } else { Value::Text(text) }
    }

    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// The characters of a text or an id.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            Value::Id(id) => Some(id.as_str()),
            _ => None,
        }
    }

    pub fn as_id(&self) -> Option<Id> {
        match self {
            Value::Id(id) => Some(*id),
            Value::Text(text) => Id::parse(text),
            _ => None,
        }
    }

    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Int(number) => Some(*number as f64),
            Value::Double(number) => Some(*number),
            _ => None,
        }
    }

    /// A moment in milliseconds; a date counts as its midnight.
    pub fn as_ms(&self) -> Option<i64> {
        match self {
            Value::DateTime(ms) => Some(*ms),
            Value::Date(days) => Some(i64::from(*days) * calendar::MS_PER_DAY),
            _ => None,
        }
    }

    /// A blob's URL with the API version of whoever asks; any other text as it is.
    pub fn in_version(self, version: &str) -> Value {
        match &self {
            Value::Text(url) => {
                match url.strip_prefix("/services/data/v").and_then(|rest| rest.split_once('/')) {
                    Some((_, path)) => Value::text(format!("/services/data/v{version}/{path}")),
                    None => self,
                }
            }
            _ => self,
        }
    }

    /// The value as it stands in a REST answer.
    pub fn to_rest_json(&self) -> Json {
        match self {
            Value::Null => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Int(value) => Json::from(*value),
            Value::Double(value) => number(*value),
            Value::Text(text) => Json::String(text.clone().into_owned()),
            Value::Id(id) => Json::String(id.as_str().to_owned()),
            Value::Date(_) | Value::DateTime(_) | Value::Time(_) => {
                let mut out = Vec::with_capacity(28);
                self.write_moment(&mut out, "+0000");
                Json::String(String::from_utf8_lossy(&out).into_owned())
            }
            Value::Address(address) => address.to_json(),
            Value::Location { latitude, longitude } => {
                let mut map = Map::new();
                map.insert("latitude".into(), number(*latitude));
                map.insert("longitude".into(), number(*longitude));
                Json::Object(map)
            }
            Value::Json(json) => (**json).clone(),
        }
    }

    /// Appends the value as it stands in a REST answer; the quick way for many rows.
    pub fn write_rest_json(&self, out: &mut Vec<u8>) {
        match self {
            Value::Null => out.extend_from_slice(b"null"),
            Value::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
            Value::Int(value) => write_int(out, *value),
            Value::Double(value) => write_double(out, *value),
            Value::Text(text) => write_json_string(out, text),
            Value::Id(id) => {
                out.push(b'"');
                out.extend_from_slice(id.as_bytes());
                out.push(b'"');
            }
            Value::Date(_) | Value::DateTime(_) | Value::Time(_) => {
                out.push(b'"');
                self.write_moment(out, "+0000");
                out.push(b'"');
            }
            Value::Address(_) | Value::Location { .. } | Value::Json(_) => {
                let json = self.to_rest_json();
                if serde_json::to_writer(&mut *out, &json).is_err() {
                    out.extend_from_slice(b"null");
                }
            }
        }
    }

    /// Appends the value as a Bulk CSV cell without quoting; null is nothing at all.
    /// Compound values have no cell: Bulk refuses them before a row is read (rest.md 4.4).
    pub fn write_bulk_text(&self, out: &mut Vec<u8>) {
        match self {
            Value::Null | Value::Address(_) | Value::Location { .. } => {}
            Value::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
            Value::Int(value) => write_int(out, *value),
            Value::Double(value) => write_double(out, *value),
            Value::Text(text) => out.extend_from_slice(text.as_bytes()),
            Value::Id(id) => out.extend_from_slice(id.as_bytes()),
            Value::Date(_) | Value::DateTime(_) | Value::Time(_) => self.write_moment(out, "Z"),
            Value::Json(json) => match &**json {
                Json::String(text) => out.extend_from_slice(text.as_bytes()),
                Json::Null => {}
                other => out.extend_from_slice(other.to_string().as_bytes()),
            },
        }
    }

    fn write_moment(&self, out: &mut Vec<u8>, zone: &str) {
        match self {
            Value::Date(days) => calendar::write_date(out, *days),
            Value::DateTime(ms) => calendar::write_datetime(out, *ms, zone),
            Value::Time(ms) => {
                calendar::write_time(out, *ms);
                out.push(b'Z');
            }
            _ => {}
        }
    }

    /// Reads a value for `field` from the JSON of a change, in the spelling REST would take.
    pub fn from_json(field: &FieldDef, json: &Json) -> Result<Value, String> {
        let wrong =
            || format!("field {} of type {} does not take this value", field.name, field.field_type.name());
        Ok(match (&field.field_type, json) {
            (FieldType::Boolean, Json::Null) => Value::Bool(false),
            (_, Json::Null) => Value::Null,
            (FieldType::Boolean, Json::Bool(value)) => Value::Bool(*value),
            (FieldType::Int | FieldType::Long, Json::Number(n)) => {
                let value = n.as_i64().or_else(|| n.as_f64().filter(|f| f.fract() == 0.0).map(|f| f as i64));
                Value::Int(value.ok_or_else(wrong)?)
            }
            (FieldType::Double | FieldType::Currency | FieldType::Percent, Json::Number(n)) => {
                Value::Double(n.as_f64().ok_or_else(wrong)?)
            }
            (FieldType::Date, Json::String(text)) => {
                Value::Date(calendar::parse_date(text).ok_or_else(wrong)?)
            }
            (FieldType::DateTime, Json::String(text)) => {
                Value::DateTime(calendar::parse_datetime(text).ok_or_else(wrong)?)
            }
            (FieldType::Time, Json::String(text)) => {
                Value::Time(calendar::parse_time(text).ok_or_else(wrong)?)
            }
            (FieldType::Id | FieldType::Reference, Json::String(text)) => {
                if text.is_empty() {
                    Value::Null
                } else {
                    Value::Id(Id::parse(text).ok_or_else(wrong)?)
                }
            }
            (FieldType::AnyType, Json::Bool(value)) => Value::Bool(*value),
            (FieldType::AnyType, Json::Number(n)) => match n.as_i64() {
                Some(value) => Value::Int(value),
                None => Value::Double(n.as_f64().ok_or_else(wrong)?),
            },
            (FieldType::ComplexValue | FieldType::Json | FieldType::Other(_), other) => match other {
                Json::String(text) => Value::text(text.clone()),
                other => Value::Json(Box::new(other.clone())),
            },
            (FieldType::Base64, Json::String(text)) => {
                STANDARD.decode(text).map_err(|_| wrong())?;
                Value::text(text.clone())
            }
            (field_type, Json::String(text))
                if field_type.is_textual() || *field_type == FieldType::AnyType =>
            {
                Value::text(text.clone())
            }
            _ => return Err(wrong()),
        })
    }
}

impl Address {
    /// The compound value: null when no part is filled (rest.md 2.5).
    pub fn into_value(self) -> Value {
        let bare =
            Address { codes: self.codes.clone().filter(|codes| *codes != (None, None)), ..self.clone() };
        if bare == Address::default() { Value::Null } else { Value::Address(Box::new(self)) }
    }

    fn to_json(&self) -> Json {
        let text = |part: &Option<Cow<'static, str>>| match part {
            Some(text) => Json::String(text.clone().into_owned()),
            None => Json::Null,
        };
        let number = |part: Option<f64>| part.map_or(Json::Null, number);
        let mut map = Map::with_capacity(10);
        map.insert("city".into(), text(&self.city));
        map.insert("country".into(), text(&self.country));
        if let Some((country_code, _)) = &self.codes {
            map.insert("countryCode".into(), text(country_code));
        }
        map.insert("geocodeAccuracy".into(), text(&self.geocode_accuracy));
        map.insert("latitude".into(), number(self.latitude));
        map.insert("longitude".into(), number(self.longitude));
        map.insert("postalCode".into(), text(&self.postal_code));
        map.insert("state".into(), text(&self.state));
        if let Some((_, state_code)) = &self.codes {
            map.insert("stateCode".into(), text(state_code));
        }
        map.insert("street".into(), text(&self.street));
        Json::Object(map)
    }
}

fn number(value: f64) -> Json {
    Number::from_f64(value).map_or(Json::Null, Json::Number)
}

fn write_int(out: &mut Vec<u8>, value: i64) {
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{value}");
}

/// `950000000.0`, `3.0`; from 1e16 up in exponent form (rest.md 2.5).
fn write_double(out: &mut Vec<u8>, value: f64) {
    let start = out.len();
    let _ = write!(out, "{value:?}");
    if let Some(e) = out.iter().skip(start).position(|byte| *byte == b'e') {
        let e = start + e;
        out[e] = b'E';
        if !out[start..e].contains(&b'.') {
            out.splice(e..e, *b".0");
        }
    }
}

fn write_json_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut from = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0..=0x1f => b"",
            _ => continue,
        };
        out.extend_from_slice(&bytes[from..at]);
        if escape.is_empty() {
            let _ = write!(out, "\\u{byte:04x}");
        } else {
            out.extend_from_slice(escape);
        }
        from = at + 1;
    }
    out.extend_from_slice(&bytes[from..]);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest(value: &Value) -> String {
        let mut out = Vec::new();
        value.write_rest_json(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn bulk(value: &Value) -> String {
        let mut out = Vec::new();
        value.write_bulk_text(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn doubles_always_show_that_they_are_doubles() {
        for (value, text) in [
            (950_000_000.0, "950000000.0"),
            (3.0, "3.0"),
            (-0.0, "-0.0"),
            (0.1, "0.1"),
            (1e16, "1.0E16"),
            (1.5e300, "1.5E300"),
            (123_456_789_012_345.0, "123456789012345.0"),
        ] {
            assert_eq!(rest(&Value::Double(value)), text);
            assert_eq!(bulk(&Value::Double(value)), text);
        }
    }

    #[test]
    fn moments_differ_between_rest_and_bulk_only_in_the_zone() {
        let moment = Value::DateTime(calendar::parse_datetime("2026-05-19T08:30:00Z").unwrap());
        assert_eq!(rest(&moment), "\"2026-05-19T08:30:00.000+0000\"");
        assert_eq!(bulk(&moment), "2026-05-19T08:30:00.000Z");
        assert_eq!(rest(&Value::Time(48_600_000)), "\"13:30:00.000Z\"");
        assert_eq!(bulk(&Value::Date(20_592)), "2026-05-19");
    }

    #[test]
    fn quick_json_equals_careful_json() {
        let values = [
            Value::text("a \"b\" \\ \r\n\t\u{1} 😀 é"),
            Value::Null,
            Value::Bool(true),
            Value::Int(-7),
            Value::Double(12.5),
            Value::Id(Id::new(*b"001", 99)),
            Value::Date(-4_000),
            Value::Location { latitude: 52.1, longitude: -4.0 },
            Value::Json(Box::new(serde_json::json!({"a": [1, null]}))),
        ];
        for value in values {
            let quick: Json = serde_json::from_str(&rest(&value)).unwrap();
            assert_eq!(quick, value.to_rest_json());
        }
    }

    #[test]
    fn an_empty_text_is_null_and_an_empty_address_is_null() {
        assert_eq!(Value::text(""), Value::Null);
        assert_eq!(Address::default().into_value(), Value::Null);
        let part = Address { city: Some("Köln".into()), ..Address::default() };
        let json = part.into_value().to_rest_json();
        assert_eq!(json["city"], "Köln");
        assert_eq!(json["street"], Json::Null);
        assert_eq!(json.as_object().unwrap().len(), 8);
    }
}
