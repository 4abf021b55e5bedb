//! JSON as the CNI world writes it.
//!
//! Configurations are written for Go plugins and runtime sections are written by Go runtimes, and Go's decoder is
//! forgiving in ways that serde is not. Three of them are relied on in the field and are reproduced here:
//!
//! - the name of a field matches without regard to case if there is no exact match (containerd sends `HostPort`);
//! - `null` is the same as an absent field;
//! - of several equal keys the last one counts.
//!
//! What Go refuses (a string for a number, a fraction for an integer, an array for an object) is refused here too, and
//! the error names the place: `ipam.ranges[0][1].subnet: …`.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{
        DeserializeOwned, DeserializeSeed, Error as _, MapAccess, SeqAccess, Unexpected, Visitor,
        value::{BorrowedStrDeserializer, MapAccessDeserializer},
    },
    forward_to_deserialize_any,
};
use serde_json::{Error as JsonError, Map, Value};

/// A JSON object, as serde_json holds it.
pub(crate) type Object = Map<String, Value>;

/// A value that is not what a type expects, and where it is.
#[derive(Debug)]
pub(crate) struct FieldError {
    path: String,
    reason: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.reason)
        } else {
            write!(f, "{}: {}", self.path, self.reason)
        }
    }
}

/// How many values a document may have. Held in memory one takes up to a hundred times the room that it has as text
/// (`{"":0},`), so that to bound the size is not enough. The largest honest document is the `GC` of a network: three values
/// for each attachment, ten thousand attachments.
pub(crate) const MOST_VALUES: usize = 1 << 15;

/// Parses one JSON object. Depth is bounded by serde_json (128 levels), and how many values there are
/// by [`MOST_VALUES`]; the size is the caller's to bound.
pub(crate) fn parse_object(bytes: &[u8]) -> Result<Object, String> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err("it is empty".to_owned());
    }
    if most_values(bytes) > MOST_VALUES {
        return Err(format!("it has more than {MOST_VALUES} values"));
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(format!("expected an object, found {}", kind(&other))),
        Err(error) => Err(shorten(error.to_string())),
    }
}

/// As many values as a text can have, if it is JSON: each but the first follows a comma or an opening bracket.
fn most_values(bytes: &[u8]) -> usize {
    let (mut values, mut in_string, mut escaped) = (1, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            b',' | b'[' | b'{' if !in_string => values += 1,
            _ => {}
        }
    }
    values
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Reads a typed value out of an object that stands at the path `at` of its document (`""`: it is the document).
pub(crate) fn from_object<T: DeserializeOwned>(object: &Object, at: &str) -> Result<T, FieldError> {
    decode(Node::Object(object), at)
}

/// Reads a typed value out of a value that stands at the path `at` of its document.
pub(crate) fn from_value<T: DeserializeOwned>(value: &Value, at: &str) -> Result<T, FieldError> {
    decode(Node::from(value), at)
}

/// Finds a field as Go would: the exact name, or else the name in any case; `null` is absent.
pub(crate) fn field<'a>(object: &'a Object, name: &str) -> Option<&'a Value> {
    let any_case = || object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    object.get(name).or_else(any_case).filter(|value| !value.is_null())
}

/// Writes JSON as the reference prints results and errors: indented by four spaces, no final newline.
pub(crate) fn to_pretty(value: &impl Serialize) -> String {
    let mut out = Vec::with_capacity(1024);
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    // Writing to memory cannot fail, nor can our own types: their keys are strings.
    let _ = value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter));
    String::from_utf8(out).unwrap_or_default()
}

/// For `deserialize_with`: Go writes an absent address as `""`.
pub(crate) fn empty_as_none<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: std::str::FromStr<Err: fmt::Display>,
{
    let text = String::deserialize(deserializer)?;
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(D::Error::custom) }
}

/// For `deserialize_with`: Go does not tell 0 from absent where it writes `omitempty`.
pub(crate) fn zero_as_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    Ok(Some(u32::deserialize(deserializer)?).filter(|number| *number != 0))
}

fn decode<T: DeserializeOwned>(node: Node<'_>, at: &str) -> Result<T, FieldError> {
    serde_path_to_error::deserialize(node).map_err(|error| {
        let inner = match error.path().to_string() {
            path if path == "." => String::new(),
            path => path,
        };
        let joint = if at.is_empty() || inner.is_empty() || inner.starts_with('[') { "" } else { "." };
        let reason = error.into_inner().to_string();
        FieldError { path: shorten(format!("{at}{joint}{inner}")), reason: shorten(reason) }
    })
}

/// serde quotes what it did not expect, however long it is, and errors end up in events and terminals.
fn shorten(text: String) -> String {
    const LIMIT: usize = 300;
    match text.char_indices().nth(LIMIT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// A deserializer with Go's rules over a parsed document.
#[derive(Clone, Copy)]
enum Node<'a> {
    Object(&'a Object),
    Other(&'a Value),
}

impl<'a> From<&'a Value> for Node<'a> {
    fn from(value: &'a Value) -> Self {
        if let Value::Object(object) = value { Self::Object(object) } else { Self::Other(value) }
    }
}

impl<'de> Deserializer<'de> for Node<'de> {
    type Error = JsonError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        match self {
            Self::Object(object) => visitor.visit_map(Fields::verbatim(object)),
            Self::Other(Value::Array(items)) => visitor.visit_seq(Items(items.iter())),
            Self::Other(scalar) => scalar.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        if let Self::Other(Value::Null) = self { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        match self {
            Self::Object(object) => visitor.visit_map(Fields::folded(object, fields)),
            // Derived code would take an array for the fields in their order; Go does not.
            Self::Other(Value::Array(_)) => Err(JsonError::invalid_type(Unexpected::Seq, &visitor)),
            Self::Other(scalar) => scalar.deserialize_any(visitor),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        // This is also how a struct with a flattened part asks, and null is absent there too.
        match self {
            Self::Object(object) => visitor.visit_map(Fields::folded(object, &[])),
            Self::Other(_) => self.deserialize_any(visitor),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        match self {
            Self::Object(object) => {
                visitor.visit_enum(MapAccessDeserializer::new(Fields::folded(object, variants)))
            }
            Self::Other(scalar) => scalar.deserialize_enum(name, variants, visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct identifier ignored_any
    }
}

struct Items<'a>(std::slice::Iter<'a, Value>);

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = JsonError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, JsonError> {
        self.0.next().map(|item| seed.deserialize(Node::from(item))).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

/// The entries of an object, with names mapped to the fields that a type knows.
struct Fields<'a> {
    entries: serde_json::map::Iter<'a>,
    /// `Some`: a typed reader, for which null is absent and case does not matter.
    folding: Option<Folding<'a>>,
    value: Option<&'a Value>,
}

struct Folding<'a> {
    object: &'a Object,
    fields: &'static [&'static str],
    folded: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    fn verbatim(object: &'a Object) -> Self {
        Self { entries: object.iter(), folding: None, value: None }
    }

    fn folded(object: &'a Object, fields: &'static [&'static str]) -> Self {
        Self {
            entries: object.iter(),
            folding: Some(Folding { object, fields, folded: Vec::new() }),
            value: None,
        }
    }
}

impl<'a> Folding<'a> {
    /// The name under which a type shall see `key`; `None` if it shall not see it.
    fn name(&mut self, key: &'a str) -> Option<&'a str> {
        if self.fields.contains(&key) {
            return Some(key);
        }
        let Some(field) = self.fields.iter().find(|field| field.eq_ignore_ascii_case(key)) else {
            return Some(key);
        };
        // The exact spelling wins, and of several others one: a type must not see a field twice.
        if self.object.contains_key(*field) || self.folded.contains(field) {
            return None;
        }
        self.folded.push(field);
        Some(field)
    }
}

impl<'de> MapAccess<'de> for Fields<'de> {
    type Error = JsonError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, JsonError> {
        for (key, value) in self.entries.by_ref() {
            let name = match &mut self.folding {
                None => Some(key.as_str()),
                Some(_) if value.is_null() => None,
                Some(folding) => folding.name(key),
            };
            if let Some(name) = name {
                self.value = Some(value);
                return seed.deserialize(BorrowedStrDeserializer::new(name)).map(Some);
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, JsonError> {
        let value =
            self.value.take().ok_or_else(|| JsonError::custom("a value was asked for before its key"))?;
        seed.deserialize(Node::from(value))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ipnet::IpNet;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Conf {
        is_gateway: bool,
        mtu: u32,
        ipam: Ipam,
        labels: BTreeMap<String, String>,
        kind: Kind,
        raw: Value,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Ipam {
        ranges: Vec<Vec<Range>>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Range {
        subnet: IpNet,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        #[default]
        Bridge,
        Other(u8),
    }

    fn read(value: Value) -> Result<Conf, String> {
        from_value(&value, "").map_err(|error| error.to_string())
    }

    #[test]
    fn field_names_match_in_any_case_and_the_exact_one_wins() {
        assert!(read(json!({"ISGATEWAY": true})).unwrap().is_gateway);
        assert!(read(json!({"ISGATEWAY": false, "isGateway": true, "isgateway": false})).unwrap().is_gateway);
        assert!(read(json!({"ISGATEWAY": true, "isgateway": true})).unwrap().is_gateway);
        let nested = read(json!({"IPAM": {"Ranges": [[{"Subnet": "10.0.0.1/8"}]]}})).unwrap();
        assert_eq!(nested.ipam.ranges[0][0].subnet, "10.0.0.1/8".parse().unwrap());
    }

    #[test]
    fn null_is_an_absent_field() {
        let conf =
            read(json!({"isGateway": null, "mtu": null, "ipam": null, "labels": {"a": null}, "kind": null}));
        assert_eq!(conf.unwrap(), Conf::default());
    }

    #[test]
    fn what_has_no_type_is_kept_as_it_is() {
        let raw = json!({"A": null, "a": [null, {"B": null}]});
        assert_eq!(read(json!({"raw": raw.clone()})).unwrap().raw, raw);
    }

    #[test]
    fn enums_read_their_variants() {
        assert_eq!(read(json!({"kind": "bridge"})).unwrap().kind, Kind::Bridge);
        assert_eq!(read(json!({"kind": {"other": 3}})).unwrap().kind, Kind::Other(3));
        assert!(read(json!({"kind": "nope"})).unwrap_err().starts_with("kind: unknown variant `nope`"));
    }

    #[test]
    fn errors_name_the_place() {
        let cases = [
            (json!({"mtu": "1500"}), "mtu: invalid type: string \"1500\", expected u32"),
            (json!({"MTU": -1}), "mtu: invalid value: integer `-1`, expected u32"),
            (json!({"mtu": 4_294_967_296_u64}), "mtu: invalid value: integer `4294967296`, expected u32"),
            (json!({"mtu": 1.5}), "mtu: invalid type: floating point `1.5`, expected u32"),
            (json!({"ipam": []}), "ipam: invalid type: sequence, expected struct Ipam"),
            (
                json!({"ipam": {"ranges": [[{"subnet": "10.0.0.0/8"}, {"subnet": "x"}]]}}),
                "ipam.ranges[0][1].subnet: invalid IP address syntax",
            ),
            (json!({"ipam": {"ranges": [[{}]]}}), "ipam.ranges[0][0]: missing field `subnet`"),
        ];
        for (value, expected) in cases {
            assert_eq!(read(value).unwrap_err(), expected);
        }
    }

    #[test]
    fn a_path_can_start_inside_of_a_document() {
        let error = from_value::<Ipam>(&json!({"ranges": [1]}), "ipam").unwrap_err();
        assert_eq!(error.to_string(), "ipam.ranges[0]: invalid type: integer `1`, expected a sequence");
        let error = from_value::<Ipam>(&json!(1), "ipam").unwrap_err();
        assert_eq!(error.to_string(), "ipam: invalid type: integer `1`, expected struct Ipam");
        let error = from_value::<Vec<u8>>(&json!([1, 300]), "list").unwrap_err();
        assert_eq!(error.to_string(), "list[1]: invalid value: integer `300`, expected u8");
    }

    #[test]
    fn deep_nesting_is_an_error_and_not_a_stack_overflow() {
        let deep = format!("{}{}", "{\"a\":".repeat(30_000), "}".repeat(30_000));
        assert!(parse_object(deep.as_bytes()).unwrap_err().contains("recursion limit"));
    }

    #[test]
    fn more_values_than_anybody_needs_are_refused_and_texts_are_not_counted() {
        let zeros = |count| format!("{{\"a\":[0{}]}}", ",0".repeat(count - 1));
        // The document, its list, and what is in it.
        assert!(parse_object(zeros(MOST_VALUES - 2).as_bytes()).is_ok());
        assert_eq!(
            parse_object(zeros(MOST_VALUES - 1).as_bytes()).unwrap_err(),
            "it has more than 32768 values"
        );
        for text in [",[{", "\\\",[{", "\\\\,"] {
            let long = format!("{{\"a\":\"{}\",\"b\":1}}", text.repeat(MOST_VALUES));
            assert_eq!(parse_object(long.as_bytes()).unwrap()["b"], 1, "{text}");
        }
    }

    #[test]
    fn only_objects_are_documents() {
        assert_eq!(parse_object(b" \n").unwrap_err(), "it is empty");
        assert_eq!(parse_object(b"[1]").unwrap_err(), "expected an object, found an array");
        assert!(parse_object(b"{} x").is_err());
        assert_eq!(parse_object(br#"{"a":1,"a":2}"#).unwrap()["a"], 2);
    }
}
