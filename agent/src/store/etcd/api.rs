//! What is said to an etcd server and what it answers: the JSON form of its `rpc.proto`, as far as we use it.
//!
//! Keys and values are base64, 64-bit numbers are strings, and what is zero, false or empty is left out.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeOwned, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A key or a value.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Octets(pub(super) Vec<u8>);

impl Octets {
    /// The end of the range of all keys that begin with a prefix.
    pub(super) fn after_prefix(prefix: &str) -> Self {
        let mut end = prefix.as_bytes().to_vec();
        while let Some(last) = end.pop() {
            if let Some(next) = last.checked_add(1) {
                end.push(next);
                return Self(end);
            }
        }
        // etcd's word for "to the end of all keys".
        Self(vec![0])
    }
}

impl From<&str> for Octets {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl Serialize for Octets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        STANDARD.decode(text.as_bytes()).map(Self).map_err(serde::de::Error::custom)
    }
}

/// A 64-bit number: JSON's own are not exact that far, so the protocol writes it as a string.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Number(pub(super) i64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a 64-bit number, or one as a string")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Number, E> {
                text.parse().map(Number).map_err(E::custom)
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Number, E> {
                Ok(Number(number))
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Number, E> {
                i64::try_from(number).map(Number).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// `/v3/kv/range`
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Range {
    pub(super) key: Octets,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) range_end: Option<Octets>,
    pub(super) limit: Number,
    /// Of which state; of the newest if 0.
    pub(super) revision: Number,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct RangeAnswer {
    pub(super) header: Header,
    pub(super) kvs: Vec<KeyValue>,
    pub(super) more: bool,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(super) struct Header {
    pub(super) revision: Number,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct KeyValue {
    pub(super) key: Octets,
    pub(super) value: Octets,
    pub(super) create_revision: Number,
    pub(super) mod_revision: Number,
}

/// `/v3/kv/txn`: if all of `compare` hold, `success` is done, else `failure`; nothing comes between.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Txn {
    pub(super) compare: Vec<Compare>,
    pub(super) success: Vec<Operation>,
    pub(super) failure: Vec<Operation>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Compare {
    key: Octets,
    result: &'static str,
    target: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    create_revision: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mod_revision: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Octets>,
}

impl Compare {
    fn equal(key: &str, target: &'static str) -> Self {
        let (create_revision, mod_revision, value) = (None, None, None);
        Self { key: key.into(), result: "EQUAL", target, create_revision, mod_revision, value }
    }

    /// There is no such key.
    pub(super) fn absent(key: &str) -> Self {
        Self { create_revision: Some(Number(0)), ..Self::equal(key, "CREATE") }
    }

    /// The key was changed last in this revision.
    pub(super) fn unchanged(key: &str, revision: i64) -> Self {
        Self { mod_revision: Some(Number(revision)), ..Self::equal(key, "MOD") }
    }

    /// The key has this value.
    pub(super) fn value(key: &str, value: &[u8]) -> Self {
        Self { value: Some(Octets(value.to_vec())), ..Self::equal(key, "VALUE") }
    }
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Operation {
    #[serde(rename = "request_put")]
    Put(Put),
    #[serde(rename = "request_delete_range")]
    Delete(Delete),
    #[serde(rename = "request_range")]
    Range(Range),
}

impl Operation {
    pub(super) fn put(key: &str, value: Vec<u8>) -> Self {
        Self::Put(Put { key: key.into(), value: Octets(value), lease: Number(0) })
    }

    pub(super) fn delete(key: &str) -> Self {
        Self::Delete(Delete { key: key.into(), range_end: None })
    }

    pub(super) fn delete_prefix(prefix: &str) -> Self {
        Self::Delete(Delete { key: prefix.into(), range_end: Some(Octets::after_prefix(prefix)) })
    }

    pub(super) fn get(key: &str) -> Self {
        Self::Range(Range { key: key.into(), ..Range::default() })
    }
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Put {
    pub(super) key: Octets,
    pub(super) value: Octets,
    pub(super) lease: Number,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Delete {
    key: Octets,
    #[serde(skip_serializing_if = "Option::is_none")]
    range_end: Option<Octets>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct TxnAnswer {
    pub(super) header: Header,
    pub(super) succeeded: bool,
    responses: Vec<OperationAnswer>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct OperationAnswer {
    response_range: Option<RangeAnswer>,
}

impl TxnAnswer {
    /// What was found by a transaction that gets one key, if that is there.
    pub(super) fn found(&self) -> Option<&KeyValue> {
        self.responses
            .iter()
            .filter_map(|answer| answer.response_range.as_ref())
            .find_map(|range| range.kvs.first())
    }
}

/// `/v3/lease/grant`
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Grant {
    #[serde(rename = "TTL")]
    pub(super) ttl: Number,
}

/// `/v3/lease/keepalive`
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct KeepAlive {
    #[serde(rename = "ID")]
    pub(super) id: Number,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(super) struct LeaseAnswer {
    #[serde(rename = "ID")]
    pub(super) id: Number,
    /// Seconds that are left; 0 if there is no such lease.
    #[serde(rename = "TTL")]
    pub(super) ttl: Number,
}

/// `/v3/auth/authenticate`
#[derive(Debug, Serialize)]
pub(super) struct Authenticate<'a> {
    pub(super) name: &'a str,
    pub(super) password: &'a str,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct AuthenticateAnswer {
    pub(super) token: String,
}

/// `/v3/watch`
#[derive(Debug, Clone, Serialize)]
pub(super) struct Watch {
    pub(super) create_request: WatchCreate,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct WatchCreate {
    pub(super) key: Octets,
    pub(super) range_end: Octets,
    pub(super) start_revision: Number,
    /// Large answers come in parts, so that there is a bound for one.
    pub(super) fragment: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WatchAnswer {
    pub(super) canceled: bool,
    /// Not 0 if the revision asked for has been compacted.
    pub(super) compact_revision: Number,
    pub(super) cancel_reason: String,
    pub(super) events: Vec<Event>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Event {
    #[serde(rename = "type")]
    pub(super) kind: EventKind,
    pub(super) kv: KeyValue,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub(super) enum EventKind {
    #[default]
    #[serde(rename = "PUT")]
    Put,
    #[serde(rename = "DELETE")]
    Delete,
}

/// What a stream consists of, a line each.
#[derive(Debug, Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
pub(super) struct Streamed<T> {
    pub(super) result: Option<T>,
    pub(super) error: Option<Refusal>,
}

/// Why something was not done.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Refusal {
    /// Of gRPC: 16 if there is no valid token.
    #[serde(alias = "grpc_code")]
    pub(super) code: i64,
    pub(super) message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_where_the_next_begins() {
        assert_eq!(Octets::after_prefix("/a/"), Octets::from("/a0"));
        assert_eq!(Octets::after_prefix(""), Octets(vec![0]));
    }

    #[test]
    fn an_answer_is_read_as_etcd_3_4_writes_it() {
        let text = r#"{"header":{"cluster_id":"158","revision":"12","raft_term":"2"},"responses":[{"response_range":
            {"header":{"revision":"2"},"kvs":[{"key":"L2MvYQ==","create_revision":"2","mod_revision":3,"version":"1",
            "value":"aGVsbG8="}],"count":"1"}},{"response_put":{}}]}"#;
        let answer: TxnAnswer = serde_json::from_str(text).unwrap();
        assert!(!answer.succeeded);
        assert_eq!(answer.header.revision, Number(12));
        let found = answer.found().unwrap();
        assert_eq!((found.key.0.as_slice(), found.value.0.as_slice()), (&b"/c/a"[..], &b"hello"[..]));
        assert_eq!((found.create_revision, found.mod_revision), (Number(2), Number(3)));
    }

    #[test]
    fn a_comparison_says_only_what_it_compares() {
        let text = |compare: Compare| serde_json::to_string(&compare).unwrap();
        assert_eq!(
            text(Compare::absent("a")),
            r#"{"key":"YQ==","result":"EQUAL","target":"CREATE","create_revision":"0"}"#
        );
        assert_eq!(
            text(Compare::value("a", b"b")),
            r#"{"key":"YQ==","result":"EQUAL","target":"VALUE","value":"Yg=="}"#
        );
    }
}
