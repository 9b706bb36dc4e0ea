//! YAML as a tree in which every key and value knows its line and column.
//!
//! Comes in: the text of a configuration file. Goes out: a [`Node`] tree. Scalars stay text, for only the reader of a
//! setting knows what it should be. Hostile input (deep nesting, anchors that multiply) ends in an error.

use std::collections::HashMap;
use std::fmt;

use granit_parser::{Event, Marker, Parser, ScalarStyle};

/// Far more than any configuration has; anchors can multiply nodes.
const MOST_NODES: usize = 100_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub line: usize,
    pub column: usize,
}

impl Place {
    fn of(marker: &Marker) -> Self {
        Self { line: marker.line(), column: marker.col() + 1 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub place: Place,
    pub value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    /// `plain`: without quotes.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub key: String,
    pub place: Place,
    pub value: Node,
}

impl Node {
    /// What the value is, for a message.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Scalar { .. } => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }
}

/// What is wrong with the text as YAML, and where.
pub(super) type Malformed = (Place, String);

pub(super) fn parse(text: &str) -> Result<Option<Node>, Malformed> {
    let mut builder = Builder { parser: Parser::new_from_str(text), anchors: HashMap::new(), nodes: 0 };
    let mut root = None;
    loop {
        let (event, place) = builder.next()?;
        match event {
            Event::StreamEnd => return Ok(root),
            Event::StreamStart | Event::DocumentEnd => {}
            Event::DocumentStart(..) if root.is_none() => {}
            Event::DocumentStart(..) => {
                return Err((place, "a configuration is one YAML document".to_owned()));
            }
            other => root = Some(builder.node(other, place)?),
        }
    }
}

struct Builder<'a> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
}

impl<'a> Builder<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Place), Malformed> {
        match self.parser.next() {
            Some(Ok((event, span))) => Ok((event, Place::of(&span.start))),
            Some(Err(error)) => Err((Place::of(error.marker()), error.info())),
            None => Ok((Event::StreamEnd, Place { line: 1, column: 1 })),
        }
    }

    fn node(&mut self, event: Event<'a>, place: Place) -> Result<Node, Malformed> {
        let before = self.nodes;
        self.count(1, place)?;
        let (anchor, value) = match event {
            Event::Scalar(text, style, anchor, _) => {
                let plain = style == ScalarStyle::Plain;
                (anchor, Value::Scalar { text: text.into_owned(), plain })
            }
            Event::SequenceStart(_, anchor, _) => (anchor, Value::List(self.list()?)),
            Event::MappingStart(_, anchor, _) => (anchor, Value::Map(self.map()?)),
            Event::Alias(anchor) => {
                let Some((node, size)) = self.anchors.get(&anchor).cloned() else {
                    return Err((place, "an alias inside its own anchor".to_owned()));
                };
                self.count(size, place)?;
                return Ok(node);
            }
            _ => return Err((place, "a value is missing here".to_owned())),
        };
        let node = Node { place, value };
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), self.nodes - before));
        }
        Ok(node)
    }

    fn list(&mut self) -> Result<Vec<Node>, Malformed> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, place) => items.push(self.node(event, place)?),
            }
        }
    }

    fn map(&mut self) -> Result<Vec<Entry>, Malformed> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let (event, place) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(entries);
            }
            let Value::Scalar { text: key, .. } = self.node(event, place)?.value else {
                return Err((place, "a key must be a plain text".to_owned()));
            };
            if let Some(first) = entries.iter().find(|entry| entry.key == key) {
                return Err((place, format!("key `{key}` stands twice, first in line {}", first.place.line)));
            }
            let (event, value_place) = self.next()?;
            let value = self.node(event, value_place)?;
            entries.push(Entry { key, place, value });
        }
    }

    fn count(&mut self, nodes: usize, place: Place) -> Result<(), Malformed> {
        self.nodes += nodes;
        if self.nodes > MOST_NODES {
            return Err((place, format!("more than {MOST_NODES} values, aliases included")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_knows_its_line_and_column() {
        let root = parse("name: crm\nobjects:\n  - Account\n  - { name: Case }\n").unwrap().unwrap();
        let Value::Map(entries) = &root.value else { panic!("a map") };
        assert_eq!((entries[1].key.as_str(), entries[1].place), ("objects", Place { line: 2, column: 1 }));
        let Value::List(items) = &entries[1].value.value else { panic!("a list") };
        assert_eq!(items[0].place, Place { line: 3, column: 5 });
        let Value::Map(case) = &items[1].value else { panic!("a map") };
        assert_eq!(case[0].value.place, Place { line: 4, column: 13 });
    }

    #[test]
    fn broken_yaml_names_the_line() {
        for (text, line) in [
            ("a: 1\nb: [1, 2\n", 2),
            ("a: 1\na: 2\n", 2),
            ("a: &x [*x]\n", 1),
            ("a: 1\n---\nb: 2\n", 2),
            ("a: 1\n  b: 2\n", 2),
        ] {
            let (place, message) = parse(text).map(|_| ()).unwrap_err();
            assert_eq!(place.line, line, "{text:?}: {message}");
        }
    }

    #[test]
    fn anchors_that_multiply_are_refused() {
        let mut text = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for level in 1..9 {
            let below = format!("*a{}", level - 1);
            text.push_str(&format!("a{level}: &a{level} [{}]\n", [below.as_str(); 10].join(",")));
        }
        assert!(parse(&text).unwrap_err().1.contains("more than"));
    }
}
