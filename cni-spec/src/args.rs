//! `CNI_ARGS`: a runtime's arguments as text.

use std::{fmt, str::FromStr};

use crate::Error;

/// The arguments of `CNI_ARGS`: `K=V` pairs with `;` between them, in any order.
///
/// Reading never fails as a whole: a plugin that uses no arguments, or is called for `DEL`, has no reason to care about
/// bad ones. A plugin that wants to refuse what it does not know calls [`deny_unknown`](Self::deny_unknown).
///
/// ```
/// use cni_spec::CniArgs;
///
/// let args = CniArgs::parse("IgnoreUnknown=1;K8S_POD_NAME=web;MAC=;IP=10.90.1.77");
/// assert_eq!(args.get("K8S_POD_NAME"), Some("web"));
/// assert_eq!(args.parsed::<std::net::IpAddr>("IP")?, Some([10, 90, 1, 77].into()));
/// assert_eq!(args.parsed::<std::net::IpAddr>("MAC")?, None); // multus sends empty values
/// args.deny_unknown(&["IP", "MAC"])?; // IgnoreUnknown allows the rest
/// # Ok::<(), cni_spec::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CniArgs {
    pairs: Vec<(String, String)>,
    malformed: Vec<String>,
}

impl CniArgs {
    /// Reads the text of `CNI_ARGS`. Empty pieces (`A=1;;B=2;`) are skipped; a value may contain `=`.
    pub fn parse(text: &str) -> Self {
        let mut args = Self::default();
        for piece in text.split(';').filter(|piece| !piece.is_empty()) {
            match piece.split_once('=') {
                Some((key, value)) if !key.is_empty() => args.pairs.push((key.to_owned(), value.to_owned())),
                _ => args.malformed.push(piece.to_owned()),
            }
        }
        args
    }

    /// The value of a key, empty ones included; of several, the last. Keys are case-sensitive.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.pairs.iter().rfind(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// The value of a key as a type; `None` if the key is missing or its value empty.
    ///
    /// # Errors
    /// [`ErrorCode::INVALID_ENVIRONMENT`](crate::ErrorCode::INVALID_ENVIRONMENT) with key and value.
    pub fn parsed<T: FromStr<Err: fmt::Display>>(&self, key: &str) -> Result<Option<T>, Error> {
        match self.get(key) {
            None | Some("") => Ok(None),
            Some(text) => text
                .parse()
                .map(Some)
                .map_err(|error| Error::environment(format!("CNI_ARGS: {key}={text:?}: {error}"))),
        }
    }

    /// Every pair, in the order of the text.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Whether there are no pairs.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Refuses malformed pairs, and keys other than `known` unless `IgnoreUnknown` is `1` or `true`, as the reference's
    /// plugins do.
    ///
    /// # Errors
    /// [`ErrorCode::INVALID_ENVIRONMENT`](crate::ErrorCode::INVALID_ENVIRONMENT) with the pairs.
    pub fn deny_unknown(&self, known: &[&str]) -> Result<(), Error> {
        if !self.malformed.is_empty() {
            return Err(Error::environment(format!(
                "CNI_ARGS: no pairs of key and value: {:?}",
                self.malformed
            )));
        }
        if self.ignore_unknown()? {
            return Ok(());
        }
        let unknown = |key: &&str| *key != IGNORE_UNKNOWN && !known.contains(key);
        let keys: Vec<&str> = self.iter().map(|(key, _)| key).filter(unknown).collect();
        if keys.is_empty() {
            return Ok(());
        }
        Err(Error::environment(format!("CNI_ARGS: unknown keys {keys:?}"))
            .with_details("IgnoreUnknown=1 in CNI_ARGS allows them"))
    }

    fn ignore_unknown(&self) -> Result<bool, Error> {
        let text = self.get(IGNORE_UNKNOWN).unwrap_or_default();
        let is = |words: [&str; 2]| words.iter().any(|word| word.eq_ignore_ascii_case(text));
        match text {
            "" => Ok(false),
            _ if is(["1", "true"]) => Ok(true),
            _ if is(["0", "false"]) => Ok(false),
            _ => Err(Error::environment(format!(
                "CNI_ARGS: {IGNORE_UNKNOWN}={text:?} is neither true nor false"
            ))),
        }
    }
}

const IGNORE_UNKNOWN: &str = "IgnoreUnknown";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_come_in_any_order_and_the_last_of_a_key_counts() {
        let args = CniArgs::parse("B=2;;A=1;B=3;C=x=y;");
        assert_eq!(args.iter().collect::<Vec<_>>(), [("B", "2"), ("A", "1"), ("B", "3"), ("C", "x=y")]);
        assert_eq!((args.get("B"), args.get("C"), args.get("b")), (Some("3"), Some("x=y"), None));
        assert!(CniArgs::parse("").is_empty());
    }

    #[test]
    fn unknown_keys_are_refused_only_on_demand_and_without_ignore_unknown() {
        for allowed in ["", "IP=1", "X=1;IgnoreUnknown=1", "IgnoreUnknown=true;X=1", "X=1;IgnoreUnknown=TRUE"]
        {
            assert_eq!(CniArgs::parse(allowed).deny_unknown(&["IP"]), Ok(()), "{allowed}");
        }
        for refused in
            ["X=1", "X=1;IgnoreUnknown=0", "X=1;IgnoreUnknown=false", "IgnoreUnknown=maybe", "IP", "=1"]
        {
            let error = CniArgs::parse(refused).deny_unknown(&["IP"]).unwrap_err();
            assert_eq!(error.code(), crate::ErrorCode::INVALID_ENVIRONMENT, "{refused}");
        }
    }

    #[test]
    fn a_value_of_the_wrong_type_is_named() {
        let error = CniArgs::parse("IP=10.0.0.300").parsed::<std::net::IpAddr>("IP").unwrap_err();
        assert_eq!(error.msg(), "CNI_ARGS: IP=\"10.0.0.300\": invalid IP address syntax");
    }
}
