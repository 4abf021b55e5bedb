//! JSON that knows where it stands in its text.
//!
//! What is JSON, serde_json decides; what it accepts is walked over once more for the places. Nothing here panics,
//! whatever the bytes are; depth is bounded by serde_json (128 levels).

use std::ops::Range;

use cni_spec::runtime::Position;
use serde_json::{Number, Value};

/// A text, and what stands in it.
#[derive(Debug)]
pub(super) struct Document {
    text: Vec<u8>,
    root: Node,
}

/// A value, and the bytes that it is written in.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) span: Range<usize>,
    pub(super) data: Data,
}

/// A value. In contrast to [`Value`], objects keep their order, and keys that are there twice.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Data {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Object(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    /// The key with its quotes.
    pub(super) key_span: Range<usize>,
    pub(super) value: Node,
}

/// Why a text is no JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SyntaxError {
    pub(super) position: Position,
    pub(super) reason: String,
}

impl Document {
    /// Reads a text.
    pub(super) fn parse(text: Vec<u8>) -> Result<Self, SyntaxError> {
        if let Err(error) = serde_json::from_slice::<Value>(&text) {
            return Err(SyntaxError::of(&error));
        }
        let mut scanner = Scanner { text: &text, at: 0 };
        match scanner.value() {
            Some(root) => Ok(Self { text, root }),
            // Does not happen: a property test holds the scanner to what serde_json accepts.
            None => Err(SyntaxError {
                position: position(&text, scanner.at),
                reason: "it cannot be read".to_owned(),
            }),
        }
    }

    pub(super) fn root(&self) -> &Node {
        &self.root
    }

    /// The line and column of a byte.
    pub(super) fn position(&self, offset: usize) -> Position {
        position(&self.text, offset)
    }

    /// A line, without its end.
    pub(super) fn line(&self, number: usize) -> Option<String> {
        line(&self.text, number)
    }
}

/// A line of a text, without its end. Lines count from 1.
pub(super) fn line(text: &[u8], number: usize) -> Option<String> {
    let line = text.split(|byte| *byte == b'\n').nth(number.checked_sub(1)?)?;
    Some(String::from_utf8_lossy(line).trim_end().to_owned())
}

impl SyntaxError {
    fn of(error: &serde_json::Error) -> Self {
        let position = Position { line: error.line().max(1), column: error.column().max(1) };
        // serde_json ends with the place, which we show in front.
        let text = error.to_string();
        let reason = text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason);
        Self { position, reason: reason.to_owned() }
    }
}

fn position(text: &[u8], offset: usize) -> Position {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    Position { line, column: before.len() - line_start + 1 }
}

impl Node {
    /// What it is, for people.
    pub(super) fn kind(&self) -> &'static str {
        match self.data {
            Data::Null => "null",
            Data::Bool(_) => "true or false",
            Data::Number(_) => "a number",
            Data::Text(_) => "a text",
            Data::List(_) => "a list",
            Data::Object(_) => "an object",
        }
    }

    /// The value as serde_json has it: of keys that are there twice the last one counts.
    #[cfg(test)]
    pub(super) fn to_value(&self) -> Value {
        match &self.data {
            Data::Null => Value::Null,
            Data::Bool(value) => Value::Bool(*value),
            Data::Number(number) => Value::Number(number.clone()),
            Data::Text(text) => Value::String(text.clone()),
            Data::List(items) => Value::Array(items.iter().map(Self::to_value).collect()),
            Data::Object(entries) => {
                let entry = |entry: &Entry| (entry.key.clone(), entry.value.to_value());
                Value::Object(entries.iter().map(entry).collect())
            }
        }
    }

    /// The entries of an object; none of anything else.
    pub(super) fn entries(&self) -> &[Entry] {
        if let Data::Object(entries) = &self.data { entries } else { &[] }
    }

    /// The items of a list; none of anything else.
    pub(super) fn items(&self) -> &[Self] {
        if let Data::List(items) = &self.data { items } else { &[] }
    }

    /// A field, found as Go does: the exact name, or else the name in any case; the last of several; null is absent.
    pub(super) fn field(&self, name: &str) -> Option<&Entry> {
        let last = |is: &dyn Fn(&str) -> bool| self.entries().iter().rev().find(|entry| is(&entry.key));
        last(&|key| key == name)
            .or_else(|| last(&|key| key.eq_ignore_ascii_case(name)))
            .filter(|entry| entry.value.data != Data::Null)
    }

    /// The value of a field.
    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        self.field(name).map(|entry| &entry.value)
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        if let Data::Text(text) = &self.data { Some(text) } else { None }
    }

    pub(super) fn as_integer(&self) -> Option<i64> {
        if let Data::Number(number) = &self.data { number.as_i64() } else { None }
    }

    pub(super) fn is_true(&self) -> bool {
        self.data == Data::Bool(true)
    }

    /// The text of a field that is one.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_text()
    }

    /// Whether a field is `true`.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(Self::is_true)
    }
}

/// Walks over a text that is JSON. `None`: it is not.
struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    fn value(&mut self) -> Option<Node> {
        self.skip_space();
        let start = self.at;
        let data = match *self.text.get(start)? {
            b'{' => Data::Object(self.object()?),
            b'[' => Data::List(self.list()?),
            b'"' => Data::Text(self.string()?),
            _ => self.scalar()?,
        };
        Some(Node { span: start..self.at, data })
    }

    fn object(&mut self) -> Option<Vec<Entry>> {
        self.at += 1;
        let mut entries = Vec::new();
        while self.next()? != b'}' {
            let start = self.at;
            let key = self.string()?;
            let key_span = start..self.at;
            self.expect(b':')?;
            entries.push(Entry { key, key_span, value: self.value()? });
            self.separator(b'}')?;
        }
        self.at += 1;
        Some(entries)
    }

    fn list(&mut self) -> Option<Vec<Node>> {
        self.at += 1;
        let mut items = Vec::new();
        while self.next()? != b']' {
            items.push(self.value()?);
            self.separator(b']')?;
        }
        self.at += 1;
        Some(items)
    }

    fn string(&mut self) -> Option<String> {
        let start = self.at;
        if *self.text.get(start)? != b'"' {
            return None;
        }
        self.at += 1;
        loop {
            match *self.text.get(self.at)? {
                b'\\' => self.at += 2,
                b'"' => break,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        serde_json::from_slice(self.text.get(start..self.at)?).ok()
    }

    /// A number, `true`, `false` or `null`.
    fn scalar(&mut self) -> Option<Data> {
        let rest = self.text.get(self.at..)?;
        let ends = |byte: &u8| b",:]}".contains(byte) || byte.is_ascii_whitespace();
        let length = rest.iter().position(ends).unwrap_or(rest.len());
        self.at += length;
        Some(match serde_json::from_slice(rest.get(..length)?).ok()? {
            Value::Null => Data::Null,
            Value::Bool(value) => Data::Bool(value),
            Value::Number(number) => Data::Number(number),
            _ => return None,
        })
    }

    /// After an item: a comma, or the end is next.
    fn separator(&mut self, end: u8) -> Option<()> {
        match self.next()? {
            b',' => self.at += 1,
            byte if byte == end => {}
            _ => return None,
        }
        Some(())
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then(|| self.at += 1)
    }

    fn next(&mut self) -> Option<u8> {
        self.skip_space();
        self.text.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        let rest = self.text.get(self.at..).unwrap_or_default();
        self.at += rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn document(text: &str) -> Document {
        Document::parse(text.as_bytes().to_vec()).unwrap()
    }

    fn at(document: &Document, offset: usize) -> (usize, usize) {
        let Position { line, column } = document.position(offset);
        (line, column)
    }

    #[test]
    fn every_key_and_value_has_its_place() {
        let document = document("{\n  \"a\": [1,\n    {\"ä\" : null}],\n\t\"b\\n\":\"x\"\n}\n");
        let [a, b] = document.root().entries() else { panic!() };
        assert_eq!(at(&document, a.key_span.start), (2, 3));
        assert_eq!(at(&document, a.value.span.start), (2, 8));
        let inner = &a.value.items()[1];
        assert_eq!(at(&document, inner.span.start), (3, 5));
        assert_eq!(inner.entries()[0].key, "ä");
        assert_eq!(b.key, "b\n");
        assert_eq!(at(&document, b.value.span.start), (4, 8));
        assert_eq!(document.line(4).unwrap(), "\t\"b\\n\":\"x\"");
        assert_eq!(document.line(0), None);
    }

    #[test]
    fn a_syntax_error_has_its_place_once() {
        let error = Document::parse(b"{\n  \"a\": 1\n  \"b\": 2\n}".to_vec()).unwrap_err();
        assert_eq!(error.position, Position { line: 3, column: 3 });
        assert_eq!(error.reason, "expected `,` or `}`");
        let deep = "[".repeat(100_000);
        assert!(Document::parse(deep.into_bytes()).unwrap_err().reason.contains("recursion"));
        assert_eq!(Document::parse(Vec::new()).unwrap_err().position, Position { line: 1, column: 1 });
    }

    #[test]
    fn fields_are_found_as_go_finds_them() {
        let document = document(r#"{"MTU": 1, "mtu": 2, "ipam": null, "Ipam": 3, "x": 4, "x": 5}"#);
        let root = document.root();
        assert_eq!(root.get("mtu").and_then(Node::as_integer), Some(2));
        assert_eq!(root.get("Mtu").and_then(Node::as_integer), Some(2), "the last of two that both differ");
        assert!(root.get("ipam").is_none(), "the exact name wins, and null is absent");
        assert_eq!(root.get("x").and_then(Node::as_integer), Some(5));
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(|number| serde_json::json!(number)),
            any::<String>().prop_map(Value::String),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// Each node's own text says what the node does.
    fn spans_are_right(document: &Document, node: &Node) {
        let text = &document.text[node.span.clone()];
        assert_eq!(serde_json::from_slice::<Value>(text).unwrap(), node.to_value());
        for entry in node.entries() {
            let key: String = serde_json::from_slice(&document.text[entry.key_span.clone()]).unwrap();
            assert_eq!(key, entry.key);
            spans_are_right(document, &entry.value);
        }
        node.items().iter().for_each(|item| spans_are_right(document, item));
    }

    proptest! {
        #[test]
        fn what_serde_json_writes_is_read_alike(value in json(), pretty: bool) {
            let text = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap();
            let expected: Value = serde_json::from_slice(&text).unwrap();
            let document = Document::parse(text).unwrap();
            prop_assert_eq!(document.root().to_value(), expected);
            spans_are_right(&document, document.root());
        }

        #[test]
        fn what_serde_json_takes_is_taken_and_nothing_else(text in r#"[\[\]{}:,"\\ua0-2.eE+\-tru\n ]{0,24}"#) {
            let theirs = serde_json::from_str::<Value>(&text);
            let ours = Document::parse(text.into_bytes());
            match (theirs, ours) {
                (Ok(value), Ok(document)) => {
                    prop_assert_eq!(document.root().to_value(), value);
                    spans_are_right(&document, document.root());
                }
                (Err(_), Err(error)) => prop_assert_ne!(error.reason, "it cannot be read"),
                (theirs, ours) => prop_assert!(false, "{theirs:?} {ours:?}"),
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), offset: usize) {
            if let Ok(document) = Document::parse(bytes) {
                document.position(offset);
            }
        }
    }
}
