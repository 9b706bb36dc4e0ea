//! Avro as far as events need it: the binary encoding, the Parsing Canonical Form and the id made of it.
//!
//! Comes in: values, or a schema as JSON text. Goes out: bytes, and the 22 characters by which the platform
//! names a schema (pubsub.md 3.1). A datum is written whole or not at all.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use md5::{Digest, Md5};
use serde_json::Value as Json;

pub(crate) fn long(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

pub(crate) fn text(out: &mut Vec<u8>, value: &str) {
    long(out, value.len() as i64);
    out.extend_from_slice(value.as_bytes());
}

pub(crate) fn double(out: &mut Vec<u8>, value: f64) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn texts(out: &mut Vec<u8>, values: &[String]) {
    if !values.is_empty() {
        long(out, values.len() as i64);
        values.iter().for_each(|value| text(out, value));
    }
    long(out, 0);
}

/// A varint's value and its length in bytes.
pub(crate) fn read_long(bytes: &[u8]) -> Option<(i64, usize)> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some(((value >> 1) as i64 ^ -((value & 1) as i64), at + 1));
        }
    }
    None
}

/// The id the platform gives a schema: MD5 of its Parsing Canonical Form, as 22 characters of base64url.
/// None if the text is no schema.
pub fn schema_id(schema: &str) -> Option<String> {
    let json: Json = serde_json::from_str(schema).ok()?;
    let mut form = String::new();
    canonical(&json, "", &mut form)?;
    Some(URL_SAFE_NO_PAD.encode(Md5::digest(form.as_bytes())))
}

const PRIMITIVES: [&str; 8] = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];

fn canonical(schema: &Json, namespace: &str, out: &mut String) -> Option<()> {
    match schema {
        Json::String(name) if PRIMITIVES.contains(&name.as_str()) => quoted(out, name),
        Json::String(name) => quoted(out, &full_name(name, namespace)),
        Json::Array(branches) => {
            out.push('[');
            for (at, branch) in branches.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                canonical(branch, namespace, out)?;
            }
            out.push(']');
        }
        Json::Object(map) => {
            let word = |key: &str| map.get(key).and_then(Json::as_str);
            match map.get("type")? {
                Json::String(kind) => match kind.as_str() {
                    "record" | "enum" | "fixed" => {
                        let namespace = word("namespace").unwrap_or(namespace);
                        let name = full_name(word("name")?, namespace);
                        let namespace = name.rsplit_once('.').map_or("", |(namespace, _)| namespace);
                        out.push_str("{\"name\":");
                        quoted(out, &name);
                        out.push_str(",\"type\":");
                        quoted(out, kind);
                        match kind.as_str() {
                            "record" => fields(map.get("fields")?.as_array()?, namespace, out)?,
                            "enum" => {
                                out.push_str(",\"symbols\":");
                                out.push_str(&map.get("symbols")?.to_string());
                            }
                            _ => out.push_str(&format!(",\"size\":{}", map.get("size")?.as_u64()?)),
                        }
                        out.push('}');
                    }
                    "array" | "map" => {
                        let inner = if kind == "array" { "items" } else { "values" };
                        out.push_str(&format!("{{\"type\":\"{kind}\",\"{inner}\":"));
                        canonical(map.get(inner)?, namespace, out)?;
                        out.push('}');
                    }
                    _ => canonical(map.get("type")?, namespace, out)?,
                },
                nested => canonical(nested, namespace, out)?,
            }
        }
        _ => return None,
    }
    Some(())
}

fn fields(fields: &[Json], namespace: &str, out: &mut String) -> Option<()> {
    out.push_str(",\"fields\":[");
    for (at, field) in fields.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        out.push_str("{\"name\":");
        quoted(out, field.get("name")?.as_str()?);
        out.push_str(",\"type\":");
        canonical(field.get("type")?, namespace, out)?;
        out.push('}');
    }
    out.push(']');
    Some(())
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

fn quoted(out: &mut String, text: &str) {
    out.push_str(&Json::from(text).to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_varint_is_read_as_it_was_written() {
        for value in
            [0, -1, 1, 63, 64, -65, i64::from(i32::MAX), i64::MIN, i64::MAX, 1_709_303_151_782_928_388]
        {
            let mut bytes = Vec::new();
            long(&mut bytes, value);
            assert_eq!(read_long(&bytes), Some((value, bytes.len())));
        }
        assert_eq!(read_long(&[0x80, 0x80]), None);
    }

    #[test]
    fn docs_defaults_and_order_of_keys_do_not_make_another_id() {
        let plain = r#"{"type":"record","name":"A","namespace":"x","fields":[{"name":"B","type":["null","string"]}]}"#;
        let wordy = r#"{"name": "x.A", "doc": "d", "fields": [{"doc": "e", "default": null,
            "type": ["null", {"type": "string"}], "name": "B"}], "type": "record"}"#;
        assert_eq!(schema_id(plain), schema_id(wordy));
        assert_ne!(schema_id(plain), schema_id(&plain.replace("\"B\"", "\"C\"")));
        assert_eq!(schema_id("[1]"), None);
    }
}
