//! `encoding/gob`, as far as `net/rpc` needs it here: what a Go program's encoder says of structs of texts, bytes and
//! numbers is read, and structs and lists of the same are written.
//!
//! A stream is messages, each with its length: either the definition of a type, or a value with its type's number. A
//! struct is its fields that are not zero, each with its distance from the one before, and a 0 (golang.org/pkg/encoding/gob,
//! "Encoding Details"). Reading never panics, whatever the bytes are.

use std::collections::{BTreeMap, HashMap};

/// Numbers of types that need no definition.
mod basic {
    pub(super) const BOOL: i64 = 1;
    pub(super) const INT: i64 = 2;
    pub(super) const UINT: i64 = 3;
    pub(super) const BYTES: i64 = 5;
    pub(super) const STRING: i64 = 6;
}

/// A struct's fields that are not zero, by name.
pub(super) type Fields = BTreeMap<String, Scalar>;

/// A field's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scalar {
    Number(u64),
    /// A text, or bytes.
    Bytes(Vec<u8>),
}

/// Why nothing was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unread {
    /// More has to come.
    Incomplete,
    /// It makes no sense, or more than there is room for here.
    Wrong(&'static str),
}

/// Reads the structs at the beginning of a stream: so many.
pub(super) fn read_structs(stream: &[u8], count: usize) -> Result<Vec<Fields>, Unread> {
    let mut rest = Reader(stream);
    let mut types: HashMap<i64, Vec<(String, i64)>> = HashMap::new();
    let mut structs = Vec::new();
    while structs.len() < count {
        let mut message = rest.message()?;
        // Inside of a message nothing is still to come.
        let wrong = |_| Unread::Wrong("a message that ends too soon");
        let id = message.int().map_err(wrong)?;
        if id < 0 {
            let fields = message.type_definition().map_err(wrong)?;
            types.insert(id.checked_neg().ok_or(Unread::Wrong("a type's number"))?, fields);
        } else {
            let fields = types.get(&id).ok_or(Unread::Wrong("a value of an unknown type"))?;
            structs.push(message.fields(fields).map_err(wrong)?);
        }
    }
    Ok(structs)
}

/// Bytes that are still to be read. `None`: there are too few, or they make no sense.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn message(&mut self) -> Result<Self, Unread> {
        if self.0.first().is_some_and(|first| (0x80..0xf8).contains(first)) {
            return Err(Unread::Wrong("a length"));
        }
        let length = self.uint().map_err(|()| Unread::Incomplete)?;
        let length = usize::try_from(length).map_err(|_| Unread::Wrong("a length"))?;
        self.take(length).map(Self).map_err(|()| Unread::Incomplete)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], ()> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(())?;
        self.0 = rest;
        Ok(taken)
    }

    /// Below 128 a byte; else the number of bytes, negated, and those.
    fn uint(&mut self) -> Result<u64, ()> {
        let [first] = self.take(1)? else { return Err(()) };
        if *first < 0x80 {
            return Ok(u64::from(*first));
        }
        let bytes = self.take(usize::from(first.wrapping_neg()).min(9))?;
        if bytes.len() > 8 {
            return Err(());
        }
        Ok(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// The lowest bit says whether the others are complemented.
    fn int(&mut self) -> Result<i64, ()> {
        let number = self.uint()?;
        let magnitude = (number >> 1).cast_signed();
        Ok(if number & 1 == 0 { magnitude } else { !magnitude })
    }

    fn bytes(&mut self) -> Result<&'a [u8], ()> {
        let length = self.uint()?.try_into().map_err(|_| ())?;
        self.take(length)
    }

    fn text(&mut self) -> Result<String, ()> {
        Ok(String::from_utf8_lossy(self.bytes()?).into_owned())
    }

    /// Goes through a struct: calls back with each field's number, until the end.
    fn each_field(&mut self, mut read: impl FnMut(&mut Self, u64) -> Result<(), ()>) -> Result<(), ()> {
        let mut field = 0_u64;
        loop {
            match self.uint()? {
                0 => return Ok(()),
                distance => field = field.checked_add(distance).ok_or(())?,
            }
            read(self, field)?;
        }
    }

    /// A struct with fields of these names and types.
    fn fields(&mut self, types: &[(String, i64)]) -> Result<Fields, ()> {
        let mut fields = Fields::new();
        self.each_field(|reader, number| {
            let index = usize::try_from(number - 1).map_err(|_| ())?;
            let (name, kind) = types.get(index).ok_or(())?;
            let value = match *kind {
                basic::BOOL | basic::UINT => Scalar::Number(reader.uint()?),
                basic::INT => Scalar::Number(reader.int()?.cast_unsigned()),
                basic::BYTES | basic::STRING => Scalar::Bytes(reader.bytes()?.to_vec()),
                _ => return Err(()),
            };
            fields.insert(name.clone(), value);
            Ok(())
        })?;
        Ok(fields)
    }

    /// A `wireType`, whose third field is a struct's definition; of other types nobody here needs to know more.
    fn type_definition(&mut self) -> Result<Vec<(String, i64)>, ()> {
        let mut fields = Vec::new();
        self.each_field(
            |reader, number| if number == 3 { reader.struct_definition(&mut fields) } else { Err(()) },
        )?;
        Ok(fields)
    }

    /// `structType`: a `CommonType` (name and number), and the fields' names and types.
    fn struct_definition(&mut self, fields: &mut Vec<(String, i64)>) -> Result<(), ()> {
        self.each_field(|reader, number| match number {
            1 => reader.each_field(|reader, number| match number {
                1 => reader.bytes().map(drop),
                2 => reader.int().map(drop),
                _ => Err(()),
            }),
            2 => {
                // Each takes more than one byte, so that their number cannot be made up.
                for _ in 0..reader.uint()? {
                    let (mut name, mut kind) = (String::new(), 0);
                    reader.each_field(|reader, number| match number {
                        1 => reader.text().map(|text| name = text),
                        2 => reader.int().map(|id| kind = id),
                        _ => Err(()),
                    })?;
                    fields.push((name, kind));
                }
                Ok(())
            }
            _ => Err(()),
        })
    }
}

/// What is written: a value, from which its type follows.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Uint(u64),
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
    /// Fields with their names; those that are zero must be there as well, for the type.
    Struct(Vec<(&'static str, Self)>),
    /// A list, and an example of its elements, for the type.
    List(Box<Self>, Vec<Self>),
}

/// Writes structs as a stream, with the definitions of their types.
#[derive(Debug)]
pub(super) struct Writer {
    stream: Vec<u8>,
    /// The number of the last type that was defined.
    last: i64,
}

impl Writer {
    pub(super) fn new() -> Self {
        // Go's own begin here.
        Self { stream: Vec::new(), last: 64 }
    }

    /// Adds a value, which must be a struct.
    pub(super) fn add(&mut self, value: &Value) {
        let id = self.define(value);
        let mut message = Vec::new();
        put_int(&mut message, id);
        value.write(&mut message);
        self.message(&message);
    }

    pub(super) fn into_stream(self) -> Vec<u8> {
        self.stream
    }

    /// Defines a value's type, and the types in it; returns its number. A type may be defined more than once.
    fn define(&mut self, value: &Value) -> i64 {
        let (field, definition) = match value {
            Value::Uint(_) => return basic::UINT,
            Value::Int(_) => return basic::INT,
            Value::Text(_) => return basic::STRING,
            Value::Bytes(_) => return basic::BYTES,
            Value::Struct(fields) => {
                let types: Vec<_> = fields.iter().map(|(name, value)| (*name, self.define(value))).collect();
                let mut definition = Vec::new();
                if !types.is_empty() {
                    definition.push(1);
                    put_uint(&mut definition, types.len() as u64);
                }
                for (name, kind) in types {
                    // Name, number, end.
                    definition.push(1);
                    put_bytes(&mut definition, name.as_bytes());
                    definition.push(1);
                    put_int(&mut definition, kind);
                    definition.push(0);
                }
                (3, definition)
            }
            Value::List(example, _) => {
                let mut definition = vec![1];
                put_int(&mut definition, self.define(example));
                (2, definition)
            }
        };
        self.last += 1;
        let id = self.last;
        let mut message = Vec::new();
        put_int(&mut message, -id);
        // The field of `wireType`; its first field, a `CommonType` whose second field is the number; what was defined.
        message.extend([field, 1, 2]);
        put_int(&mut message, id);
        message.push(0);
        message.extend(definition);
        message.extend([0, 0]);
        self.message(&message);
        id
    }

    fn message(&mut self, message: &[u8]) {
        put_bytes(&mut self.stream, message);
    }
}

impl Value {
    fn is_zero(&self) -> bool {
        match self {
            Self::Uint(number) => *number == 0,
            Self::Int(number) => *number == 0,
            Self::Text(text) => text.is_empty(),
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::Struct(fields) => fields.iter().all(|(_, value)| value.is_zero()),
            Self::List(_, elements) => elements.is_empty(),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Uint(number) => put_uint(out, *number),
            Self::Int(number) => put_int(out, *number),
            Self::Text(text) => put_bytes(out, text.as_bytes()),
            Self::Bytes(bytes) => put_bytes(out, bytes),
            Self::Struct(fields) => {
                let mut last = 0;
                for (number, (_, value)) in (1..).zip(fields).filter(|(_, (_, value))| !value.is_zero()) {
                    put_uint(out, number - last);
                    last = number;
                    value.write(out);
                }
                out.push(0);
            }
            Self::List(_, elements) => {
                put_uint(out, elements.len() as u64);
                elements.iter().for_each(|element| element.write(out));
            }
        }
    }
}

fn put_uint(out: &mut Vec<u8>, number: u64) {
    if number < 0x80 {
        // Below 128.
        out.push(number as u8);
        return;
    }
    let bytes = number.to_be_bytes();
    let significant = &bytes[(number.leading_zeros() / 8) as usize..];
    // At most 8.
    out.push((significant.len() as u8).wrapping_neg());
    out.extend(significant);
}

fn put_int(out: &mut Vec<u8>, number: i64) {
    let complemented = if number < 0 { !number } else { number };
    put_uint(out, complemented.cast_unsigned() << 1 | u64::from(number < 0));
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_uint(out, bytes.len() as u64);
    out.extend(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_the_documentation_has_them() {
        let written = |number| {
            let mut out = Vec::new();
            put_uint(&mut out, number);
            assert_eq!(Reader(&out).uint(), Ok(number));
            out
        };
        assert_eq!(written(7), [7]);
        assert_eq!(written(256), [0xfe, 1, 0]);
        assert_eq!(written(u64::MAX)[0], 0xf8);
        for (number, bytes) in [(-1, vec![1]), (64, vec![0xff, 0x80]), (-129, vec![0xfe, 1, 1])] {
            let mut out = Vec::new();
            put_int(&mut out, number);
            assert_eq!((&out, Reader(&out).int()), (&bytes, Ok(number)));
        }
    }

    /// The documentation's example: `struct{X, Y int}{22, 33}`.
    #[test]
    fn the_documentations_example_is_read() {
        let stream = [
            0x1f, 0xff, 0x81, 0x03, 0x01, 0x01, 0x05, b'P', b'o', b'i', b'n', b't', 0x01, 0xff, 0x82, 0x00,
            0x01, 0x02, 0x01, 0x01, b'X', 0x01, 0x04, 0x00, 0x01, 0x01, b'Y', 0x01, 0x04, 0x00, 0x00, 0x00,
            0x07, 0xff, 0x82, 0x01, 0x2c, 0x01, 0x42, 0x00,
        ];
        let point =
            Fields::from([("X".to_owned(), Scalar::Number(22)), ("Y".to_owned(), Scalar::Number(33))]);
        assert_eq!(read_structs(&stream, 1), Ok(vec![point]));
        for length in 0..stream.len() {
            assert_eq!(read_structs(&stream[..length], 1), Err(Unread::Incomplete), "{length}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let value = Value::Struct(vec![
            ("Zero", Value::Uint(0)),
            ("Number", Value::Uint(1000)),
            ("Text", Value::Text("text".to_owned())),
            ("None", Value::Bytes(Vec::new())),
        ]);
        let mut writer = Writer::new();
        writer.add(&value);
        writer.add(&value);
        let fields = Fields::from([
            ("Number".to_owned(), Scalar::Number(1000)),
            ("Text".to_owned(), Scalar::Bytes(b"text".to_vec())),
        ]);
        assert_eq!(read_structs(&writer.into_stream(), 2), Ok(vec![fields.clone(), fields]));
    }
}
