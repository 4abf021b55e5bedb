//! Which of the things that a person wrote is in force.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::{error, fmt};

use serde_json::Value;

use super::Options;
use crate::json;

/// What is in force, and from where each part of it is.
#[derive(Debug, Clone, PartialEq)]
pub struct InForce {
    /// What is in force.
    pub options: Options,
    /// Key and source of each value that is not a default, as `gossip.seeds` and `/etc/cnikit/agent.json`.
    pub sources: Vec<(String, String)>,
}

impl InForce {
    /// Of flags and variables, what a file says besides, and defaults.
    ///
    /// `defaults` are [`Options::defaults`], with what the process' surroundings have for an answer.
    ///
    /// # Errors
    /// If the file cannot be read, or what is wrong with it.
    pub fn of(given: &Options, file: Option<&Path>, defaults: &Options) -> Result<Self, OptionsError> {
        let mut merged = Value::Null;
        let mut sources = Vec::new();
        lay(&mut merged, written(defaults), &mut |_| {});
        if let Some(path) = file {
            let source = path.display().to_string();
            lay(&mut merged, written(&read(path)?), &mut |key| sources.push((key, source.clone())));
        }
        let source = "command line or environment";
        lay(&mut merged, written(given), &mut |key| {
            sources.retain(|(other, _)| *other != key);
            sources.push((key, source.to_owned()));
        });
        // What three structs were written as reads as one of them.
        let options = serde_json::from_value(merged).unwrap_or_default();
        Ok(Self { options, sources })
    }
}

/// The largest file that is read.
const LARGEST: u64 = 1 << 20;

fn read(path: &Path) -> Result<Options, OptionsError> {
    let unreadable = |source| OptionsError::Unreadable { path: path.to_owned(), source };
    let mut text = String::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(LARGEST).read_to_string(&mut text).map_err(unreadable)?;
    json::parse(&text).map_err(|what| OptionsError::Wrong { path: path.to_owned(), what })
}

/// What was written: without what was not.
fn written(options: &Options) -> Value {
    // Strings, numbers and lists of them: there is nothing that JSON could not hold.
    without_gaps(serde_json::to_value(options).unwrap_or_default())
}

fn without_gaps(value: Value) -> Value {
    let Value::Object(fields) = value else { return value };
    let fields = fields.into_iter().map(|(key, value)| (key, without_gaps(value)));
    let is_gap = |value: &Value| value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
    Value::Object(fields.filter(|(_, value)| !is_gap(value)).collect())
}

/// Lays one value over another; says which keys that concerned.
fn lay(below: &mut Value, above: Value, say: &mut dyn FnMut(String)) {
    fn lay_at(path: &str, below: &mut Value, above: Value, say: &mut dyn FnMut(String)) {
        let Value::Object(fields) = above else {
            say(path.to_owned());
            *below = above;
            return;
        };
        if !below.is_object() {
            *below = Value::Object(serde_json::Map::new());
        }
        for (key, value) in fields {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            lay_at(&path, &mut below[key], value, say);
        }
    }
    lay_at("", below, above, say);
}

impl Options {
    /// What may be written into a file, as a JSON Schema (draft 2020-12).
    pub fn schema() -> Value {
        let mut schema = schemars::schema_for!(Self).to_value();
        schema["title"] = "cnikit agent".into();
        schema
    }

    /// As a file would have it.
    pub fn to_json(&self) -> Value {
        written(self)
    }
}

/// Why a file of options cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum OptionsError {
    /// The kernel does not give it out.
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its author has made a mistake.
    Wrong {
        /// In which file.
        path: PathBuf,
        /// What is wrong, and where: `gossip.port: ...`
        what: String,
    },
}

impl fmt::Display for OptionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, source } => write!(f, "read {}: {source}", path.display()),
            Self::Wrong { path, what } => write!(f, "{}: {what}", path.display()),
        }
    }
}

impl error::Error for OptionsError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Unreadable { source, .. } => Some(source),
            Self::Wrong { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{GossipOptions, StoreKind};

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn what_is_given_comes_before_the_file_and_that_before_defaults() {
        let file =
            file(r#"{"network": "blue", "gossip": {"port": 7, "seeds": ["a", "b"]}, "store": "static"}"#);
        let given = Options {
            network: Some("red".to_owned()),
            gossip: GossipOptions { seeds: Some(vec!["c".to_owned()]), ..GossipOptions::default() },
            ..Options::default()
        };
        let InForce { options, sources } =
            InForce::of(&given, Some(file.path()), &Options::defaults()).unwrap();
        assert_eq!(options.network.as_deref(), Some("red"));
        assert_eq!(options.gossip.seeds, Some(vec!["c".to_owned()]));
        assert_eq!(options.gossip.port, Some(7));
        assert_eq!(options.store, Some(StoreKind::Static));
        assert_eq!(options.bridge, Options::defaults().bridge);
        let from_file = file.path().display().to_string();
        let given = "command line or environment";
        let mut found: Vec<_> = sources.iter().map(|(key, source)| (key.as_str(), source.as_str())).collect();
        found.sort_unstable();
        assert_eq!(
            found,
            [
                ("gossip.port", &*from_file),
                ("gossip.seeds", given),
                ("network", given),
                ("store", &*from_file)
            ]
        );
    }

    #[test]
    fn nothing_written_is_the_defaults() {
        let in_force = InForce::of(&Options::default(), None, &Options::defaults()).unwrap();
        assert_eq!(in_force, InForce { options: Options::defaults(), sources: vec![] });
    }

    #[test]
    fn a_mistake_is_told_with_its_place() {
        let complaint = |text: &str| {
            InForce::of(&Options::default(), Some(file(text).path()), &Options::defaults())
                .unwrap_err()
                .to_string()
        };
        for (text, place, what) in [
            (r#"{"gossip": {"port": 70000}}"#, "gossip.port", "expected u16"),
            (r#"{"gossip": {"ports": 7}}"#, "gossip.ports", "unknown field `ports`"),
            (r#"{"cluster": ["10.0.0.0/8", "x"]}"#, "cluster[1]", "invalid IP address syntax"),
            (r#"{"store": "zookeeper"}"#, "store", "unknown variant `zookeeper`, expected one of `static`"),
            (r#"{"tunnel": {"vni": 1}} {}"#, "", "trailing characters"),
            ("", "", "EOF"),
        ] {
            let complaint = complaint(text);
            assert!(complaint.contains(place) && complaint.contains(what), "{text}: {complaint}");
        }
    }

    #[test]
    fn what_is_in_force_is_a_file_that_gives_the_same() {
        let options = Options::defaults();
        let file = file(&options.to_json().to_string());
        assert_eq!(read(file.path()).unwrap(), options);
    }
}
