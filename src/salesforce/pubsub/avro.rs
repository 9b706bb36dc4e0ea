//! Avro as far as events need it: a schema's JSON to types, and a reader of binary data.
//!
//! Comes in: a schema's text and a payload, both foreign. Goes out: types by number, and values piece by piece.
//! Nothing in here panics, recurses without bound, or loops longer than the payload justifies: an array may claim
//! any number of items that take no bytes. A text is UTF-8 or an error. Avro specification, "Binary Encoding".

use std::collections::HashMap;
use std::fmt;

use serde_json::Value as Json;

/// What is wrong with a schema or a payload. It names fields and places, never a value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable(pub String);

impl Unreadable {
    pub fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub(super) type Read<T> = Result<T, Unreadable>;

/// Place of a type in [`Types`].
pub(super) type TypeId = usize;

#[derive(Debug)]
pub(super) enum Type {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    Text,
    Fixed(usize),
    /// Symbols in order.
    Enum(Vec<String>),
    Array(TypeId),
    Map(TypeId),
    Record(Record),
    Union(Vec<TypeId>),
}

#[derive(Debug)]
pub(super) struct Record {
    /// Without its namespace.
    pub name: String,
    pub fields: Vec<(String, TypeId)>,
}

/// A schema with all types in it.
#[derive(Debug)]
pub(super) struct Types {
    types: Vec<Type>,
    root: TypeId,
}

impl Types {
    pub fn parse(text: &str) -> Read<Self> {
        let json: Json = serde_json::from_str(text)
            .map_err(|error| Unreadable::new(format!("the schema is no JSON (column {})", error.column())))?;
        let mut parser = Parser { types: Vec::new(), named: HashMap::new() };
        let root = parser.parse(&json, "")?;
        Ok(Self { types: parser.types, root })
    }

    pub fn root(&self) -> &Type {
        self.get(self.root)
    }

    pub fn get(&self, id: TypeId) -> &Type {
        self.types.get(id).unwrap_or(&Type::Null)
    }

    /// The branches of a union; of anything else itself.
    pub fn branches<'a>(&'a self, id: &'a TypeId) -> &'a [TypeId] {
        match self.get(*id) {
            Type::Union(branches) => branches,
            _ => std::slice::from_ref(id),
        }
    }
}

struct Parser {
    types: Vec<Type>,
    named: HashMap<String, TypeId>,
}

impl Parser {
    fn add(&mut self, of: Type) -> TypeId {
        self.types.push(of);
        self.types.len() - 1
    }

    fn set(&mut self, id: TypeId, of: Type) {
        if let Some(place) = self.types.get_mut(id) {
            *place = of;
        }
    }

    fn parse(&mut self, json: &Json, namespace: &str) -> Read<TypeId> {
        match json {
            Json::String(name) => self.by_name(name, namespace),
            Json::Array(branches) => {
                let branches =
                    branches.iter().map(|branch| self.parse(branch, namespace)).collect::<Read<Vec<_>>>()?;
                Ok(self.add(Type::Union(branches)))
            }
            Json::Object(object) => match object.get("type") {
                Some(Json::String(of)) => match of.as_str() {
                    "record" | "error" => self.record(json, namespace),
                    "enum" => {
                        let symbols = texts(json.get("symbols"));
                        let symbols = symbols.ok_or_else(|| Unreadable::new("an enum has no symbols"))?;
                        let (id, _) = self.name(json, namespace)?;
                        self.set(id, Type::Enum(symbols));
                        Ok(id)
                    }
                    "fixed" => {
                        let size = json.get("size").and_then(Json::as_u64);
                        let size = size.and_then(|size| usize::try_from(size).ok());
                        let size = size.ok_or_else(|| Unreadable::new("a fixed type has no size"))?;
                        let (id, _) = self.name(json, namespace)?;
                        self.set(id, Type::Fixed(size));
                        Ok(id)
                    }
                    "array" => {
                        let items = self.parse(json.get("items").unwrap_or(&Json::Null), namespace)?;
                        Ok(self.add(Type::Array(items)))
                    }
                    "map" => {
                        let values = self.parse(json.get("values").unwrap_or(&Json::Null), namespace)?;
                        Ok(self.add(Type::Map(values)))
                    }
                    name => self.by_name(name, namespace),
                },
                Some(inner) => self.parse(inner, namespace),
                None => Err(Unreadable::new("a type of the schema has no name")),
            },
            _ => Err(Unreadable::new("the schema has a type that is none")),
        }
    }

    fn by_name(&mut self, name: &str, namespace: &str) -> Read<TypeId> {
        let primitive = match name {
            "null" => Type::Null,
            "boolean" => Type::Boolean,
            "int" => Type::Int,
            "long" => Type::Long,
            "float" => Type::Float,
            "double" => Type::Double,
            "bytes" => Type::Bytes,
            "string" => Type::Text,
            _ => {
                let known = self.named.get(&full_name(name, namespace)).or_else(|| self.named.get(name));
                return known
                    .copied()
                    .ok_or_else(|| Unreadable::new(format!("the schema does not define its type {name}")));
            }
        };
        Ok(self.add(primitive))
    }

    /// A place for a named type, before its inside is known, and the namespace that holds in there.
    fn name(&mut self, json: &Json, namespace: &str) -> Read<(TypeId, String)> {
        let name = json.get("name").and_then(Json::as_str);
        let name = name.ok_or_else(|| Unreadable::new("a named type of the schema has no name"))?;
        let own = json.get("namespace").and_then(Json::as_str).unwrap_or(namespace);
        let full = full_name(name, own);
        let inside = full.rsplit_once('.').map(|(namespace, _)| namespace.to_owned()).unwrap_or_default();
        let id = self.add(Type::Null);
        self.named.insert(full, id);
        Ok((id, inside))
    }

    fn record(&mut self, json: &Json, namespace: &str) -> Read<TypeId> {
        let (id, inside) = self.name(json, namespace)?;
        let fields = json.get("fields").and_then(Json::as_array);
        let fields = fields.ok_or_else(|| Unreadable::new("a record of the schema has no fields"))?;
        let mut parsed = Vec::with_capacity(fields.len());
        for field in fields {
            let name = field.get("name").and_then(Json::as_str);
            let name = name.ok_or_else(|| Unreadable::new("a field of the schema has no name"))?;
            let of = self.parse(field.get("type").unwrap_or(&Json::Null), &inside)?;
            parsed.push((name.to_owned(), of));
        }
        let name = json.get("name").and_then(Json::as_str).unwrap_or_default();
        let name = name.rsplit('.').next().unwrap_or(name).to_owned();
        self.set(id, Type::Record(Record { name, fields: parsed }));
        Ok(id)
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    if namespace.is_empty() || name.contains('.') { name.to_owned() } else { format!("{namespace}.{name}") }
}

fn texts(json: Option<&Json>) -> Option<Vec<String>> {
    json?.as_array()?.iter().map(|item| item.as_str().map(str::to_owned)).collect()
}

/// Levels of types in types.
const DEEPEST: usize = 64;
/// Values that take no bytes, beyond one for each byte there is.
const FREE_STEPS: usize = 1_000_000;

pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    steps: usize,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, steps: bytes.len() + FREE_STEPS }
    }

    /// How many bytes were used.
    pub fn at(&self) -> usize {
        self.at
    }

    /// All bytes must have been used: what is left over shows that another schema wrote them.
    pub fn finish(&self) -> Read<()> {
        match self.bytes.len() - self.at {
            0 => Ok(()),
            left => Err(Unreadable::new(format!("{left} bytes are left over"))),
        }
    }

    fn take(&mut self, count: usize) -> Read<&'a [u8]> {
        let end = self.at.checked_add(count);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or_else(|| Unreadable::new("the payload ends too early"))?;
        self.at += count;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Read<[u8; N]> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N)?);
        Ok(bytes)
    }

    pub fn boolean(&mut self) -> Read<bool> {
        match self.fixed()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(Unreadable::new("a boolean is neither true nor false")),
        }
    }

    pub fn long(&mut self) -> Read<i64> {
        let mut value: u64 = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = self.fixed()?;
            let part = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if shift == 63 && part > 1 {
                break;
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        Err(Unreadable::new("a number has more than 64 bits"))
    }

    pub fn int(&mut self) -> Read<i32> {
        i32::try_from(self.long()?).map_err(|_| Unreadable::new("an int has more than 32 bits"))
    }

    pub fn float(&mut self) -> Read<f32> {
        Ok(f32::from_le_bytes(self.fixed()?))
    }

    pub fn double(&mut self) -> Read<f64> {
        Ok(f64::from_le_bytes(self.fixed()?))
    }

    fn bytes(&mut self) -> Read<&'a [u8]> {
        let length = self.long()?;
        self.take(usize::try_from(length).map_err(|_| Unreadable::new("a length is negative"))?)
    }

    pub fn text(&mut self) -> Read<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Unreadable::new("a text is not UTF-8"))
    }

    /// Which branch of a union follows.
    pub fn branch(&mut self, branches: &[TypeId]) -> Read<TypeId> {
        let index = usize::try_from(self.long()?).ok();
        let branch = index.and_then(|index| branches.get(index)).copied();
        branch.ok_or_else(|| Unreadable::new("a union has no such branch"))
    }

    pub fn symbol<'s>(&mut self, symbols: &'s [String]) -> Read<&'s str> {
        let index = usize::try_from(self.int()?).ok();
        let symbol = index.and_then(|index| symbols.get(index));
        symbol.map(String::as_str).ok_or_else(|| Unreadable::new("an enum has no such symbol"))
    }

    /// Each item of an array or map, wherever its blocks begin.
    pub fn items(&mut self, mut item: impl FnMut(&mut Self) -> Read<()>) -> Read<()> {
        loop {
            let mut count = self.long()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                // Then the block's size in bytes comes along, for those who skip.
                self.long()?;
                count = count.checked_neg().ok_or_else(|| Unreadable::new("an array has too many items"))?;
            }
            for _ in 0..count {
                self.step()?;
                item(self)?;
            }
        }
    }

    fn step(&mut self) -> Read<()> {
        let left = self.steps.checked_sub(1);
        self.steps = left.ok_or_else(|| Unreadable::new("the payload has too many values"))?;
        Ok(())
    }

    /// Reads a value of any type for nothing.
    pub fn skip(&mut self, types: &Types, id: TypeId) -> Read<()> {
        self.skip_inside(types, id, 0)
    }

    fn skip_inside(&mut self, types: &Types, id: TypeId, depth: usize) -> Read<()> {
        if depth > DEEPEST {
            return Err(Unreadable::new("values stand too deep in each other"));
        }
        self.step()?;
        match types.get(id) {
            Type::Null => {}
            Type::Boolean => drop(self.boolean()?),
            Type::Int => drop(self.int()?),
            Type::Long => drop(self.long()?),
            Type::Float => drop(self.float()?),
            Type::Double => drop(self.double()?),
            Type::Bytes => drop(self.bytes()?),
            Type::Text => drop(self.text()?),
            Type::Fixed(size) => drop(self.take(*size)?),
            Type::Enum(symbols) => drop(self.symbol(symbols)?),
            Type::Array(items) => self.items(|reader| reader.skip_inside(types, *items, depth + 1))?,
            Type::Map(values) => self.items(|reader| {
                reader.text()?;
                reader.skip_inside(types, *values, depth + 1)
            })?,
            Type::Record(record) => {
                for (_, field) in &record.fields {
                    self.skip_inside(types, *field, depth + 1)?;
                }
            }
            Type::Union(branches) => {
                let branch = self.branch(branches)?;
                self.skip_inside(types, branch, depth + 1)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn skipped(schema: &str, payload: &[u8]) -> Read<()> {
        let types = Types::parse(schema)?;
        let mut reader = Reader::new(payload);
        reader.skip(&types, types.root)?;
        reader.finish()
    }

    fn why(schema: &str, payload: &[u8]) -> String {
        skipped(schema, payload).unwrap_err().0
    }

    #[test]
    fn numbers_of_every_length_are_read_and_longer_ones_refused() {
        let long = |bytes: &[u8]| Reader::new(bytes).long();
        assert_eq!(long(&[1]), Ok(-1));
        assert_eq!(long(&[0x80, 1]), Ok(64));
        let largest = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        assert_eq!(long(&largest), Ok(i64::MAX));
        assert!(long(&[0xff; 10]).unwrap_err().0.contains("64 bits"));
        assert!(long(&[0x80; 9]).unwrap_err().0.contains("too early"));
        assert!(why(r#""int""#, &[0x80, 0x80, 0x80, 0x80, 0x20]).contains("32 bits"));
    }

    #[test]
    fn what_claims_more_than_there_is_ends_quickly() {
        // 2^62 nulls, 2^62 texts, a length beyond the payload, a negative one, i64::MIN items.
        let many = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1];
        let nulls = r#"{"type":"array","items":"null"}"#;
        assert!(why(nulls, &many).contains("too many values"));
        assert!(why(r#"{"type":"array","items":"string"}"#, &many).contains("too early"));
        assert!(why(r#""bytes""#, &many).contains("too early"));
        assert!(why(r#""bytes""#, &[1]).contains("negative"));
        let fewest = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0];
        assert!(why(nulls, &fewest).contains("too many items"));
        let endless = r#"{"type":"record","name":"A","fields":[{"name":"a","type":"A"}]}"#;
        assert!(why(endless, &[]).contains("too deep"));
        assert!(why(r#"["null"]"#, &[2]).contains("no such branch"));
        assert!(why(r#"{"type":"enum","name":"E","symbols":["A"]}"#, &[2]).contains("no such symbol"));
        assert!(why(r#""string""#, &[2, 0xff]).contains("UTF-8"));
        assert!(why(r#""boolean""#, &[2]).contains("neither"));
        assert!(why(r#""null""#, &[2]).contains("1 bytes are left over"));
    }

    #[test]
    fn names_are_found_in_their_namespaces() {
        let schema = r#"{"type":"record","name":"R","namespace":"a.b","fields":[
            {"name":"e","type":{"type":"enum","name":"E","namespace":"","symbols":["X"]}},
            {"name":"f","type":{"type":"fixed","name":"c.F","size":2}},
            {"name":"again","type":["null","E","c.F",{"type":"map","values":{"type":"int"}}]}]}"#;
        assert_eq!(skipped(schema, &[0, 1, 2, 4, 9, 9]), Ok(()));
        assert_eq!(skipped(schema, &[0, 1, 2, 6, 2, 2, b'k', 1, 0]), Ok(()));
        for wrong in [
            "",
            "{}",
            "[7]",
            r#""nothing""#,
            r#"{"type":"record","name":"R"}"#,
            r#"{"type":"record","fields":[]}"#,
            r#"{"type":"enum","name":"E","symbols":[1]}"#,
            r#"{"type":"fixed","name":"F","size":-1}"#,
            r#"{"type":"array"}"#,
        ] {
            assert!(Types::parse(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn foreign_text_is_no_schema_and_never_panics(text in "[\\[\\]{}\",:a-z]{0,60}|\\PC{0,40}") {
            let _ = Types::parse(&text);
        }
    }
}
