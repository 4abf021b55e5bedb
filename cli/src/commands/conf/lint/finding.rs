//! What is wrong, where, and what to do about it.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use cni_spec::runtime::Position;
use serde::{Serialize, Serializer};

use super::super::document::{Document, Entry, Node};
use crate::output::Tone;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    /// A runtime or a plugin will refuse it.
    Error,
    /// It does not do what it seems to.
    Warning,
    /// It could be better.
    Hint,
}

impl Severity {
    pub(super) const fn tone(self) -> Tone {
        match self {
            Self::Error => Tone::Bad,
            Self::Warning => Tone::Odd,
            Self::Hint => Tone::Heading,
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Hint => "hint",
        })
    }
}

/// Something to say about a file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Finding {
    pub(super) severity: Severity,
    pub(super) file: PathBuf,
    #[serde(flatten, serialize_with = "line_and_column")]
    pub(super) position: Option<Position>,
    /// How many columns it is about.
    #[serde(skip)]
    pub(super) width: usize,
    /// The line that it is in.
    #[serde(skip)]
    pub(super) line: Option<String>,
    /// The value: `plugins[0].ipam.subnet`; empty if it is the file as a whole.
    #[serde(rename = "path")]
    pub(super) place: String,
    pub(super) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) suggestion: Option<String>,
}

impl Finding {
    /// Something about a file as a whole.
    pub(super) fn of_file(severity: Severity, file: &Path, message: impl Into<String>) -> Self {
        Self {
            severity,
            file: file.to_owned(),
            position: None,
            width: 0,
            line: None,
            place: String::new(),
            message: message.into(),
            suggestion: None,
        }
    }

    /// Sets what to do about it.
    pub(super) fn suggest(&mut self, suggestion: impl Into<String>) -> &mut Self {
        self.suggestion = Some(suggestion.into());
        self
    }
}

fn line_and_column<S: Serializer>(position: &Option<Position>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Place {
        line: Option<usize>,
        column: Option<usize>,
    }
    let (line, column) = (position.map(|p| p.line), position.map(|p| p.column));
    Place { line, column }.serialize(serializer)
}

/// Collects what is found in one document.
#[derive(Debug)]
pub(super) struct Findings<'a> {
    file: &'a Path,
    document: &'a Document,
    found: Vec<Finding>,
    /// Where findings go that are too many.
    rest: Finding,
}

/// Findings in one file that are enough for a reader, whatever the file is.
const ENOUGH: usize = 200;

/// A value, and how to get there.
#[derive(Debug, Clone)]
pub(super) struct At<'a> {
    pub(super) node: &'a Node,
    pub(super) path: String,
    /// What to point at: the value, or its key.
    pub(super) span: Range<usize>,
}

impl<'a> At<'a> {
    pub(super) fn root(document: &'a Document) -> Self {
        // Of an object its opening brace.
        let node = document.root();
        Self { node, path: String::new(), span: node.span.start..node.span.start + 1 }
    }

    /// A field, pointed at by its value; found as Go finds it.
    pub(super) fn field(&self, name: &str) -> Option<Self> {
        let value = &self.node.field(name)?.value;
        Some(Self { node: value, path: self.join(name), span: pointer(value) })
    }

    /// A field, pointed at by its key.
    pub(super) fn key(&self, name: &str) -> Option<Self> {
        let entry = self.node.field(name)?;
        Some(Self { node: &entry.value, path: self.join(name), span: entry.key_span.clone() })
    }

    /// The entries of an object, each pointed at by its key, and by its value.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a str, Self, Self)> {
        let both = |entry: &'a Entry| {
            let path = self.join(&entry.key);
            let key = Self { node: &entry.value, path: path.clone(), span: entry.key_span.clone() };
            (entry.key.as_str(), key, Self { node: &entry.value, path, span: pointer(&entry.value) })
        };
        self.node.entries().iter().map(both).collect::<Vec<_>>().into_iter()
    }

    /// The items of a list.
    pub(super) fn items(&self) -> impl Iterator<Item = Self> {
        let item = |(nth, node): (usize, &'a Node)| Self {
            node,
            path: format!("{}[{nth}]", self.path),
            span: pointer(node),
        };
        self.node.items().iter().enumerate().map(item).collect::<Vec<_>>().into_iter()
    }

    /// The path of a field.
    pub(super) fn join(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}

/// What to point at: a scalar whole, of anything else its bracket.
fn pointer(node: &Node) -> Range<usize> {
    if node.entries().is_empty() && node.items().is_empty() {
        node.span.clone()
    } else {
        node.span.start..node.span.start + 1
    }
}

impl<'a> Findings<'a> {
    pub(super) fn new(file: &'a Path, document: &'a Document) -> Self {
        let rest = Finding::of_file(Severity::Hint, file, "");
        Self { file, document, found: Vec::new(), rest }
    }

    pub(super) fn error(&mut self, at: &At<'_>, message: impl Into<String>) -> &mut Finding {
        self.add(Severity::Error, at, message.into())
    }

    pub(super) fn warning(&mut self, at: &At<'_>, message: impl Into<String>) -> &mut Finding {
        self.add(Severity::Warning, at, message.into())
    }

    pub(super) fn hint(&mut self, at: &At<'_>, message: impl Into<String>) -> &mut Finding {
        self.add(Severity::Hint, at, message.into())
    }

    /// Whether there is no use in looking for more.
    pub(super) fn is_full(&self) -> bool {
        self.found.len() >= ENOUGH
    }

    pub(super) fn into_vec(self) -> Vec<Finding> {
        self.found
    }

    fn add(&mut self, severity: Severity, at: &At<'_>, message: String) -> &mut Finding {
        if self.is_full() {
            // Whoever wants to know more repairs these first.
            self.rest = Finding::of_file(severity, self.file, message);
            return &mut self.rest;
        }
        let start = self.document.position(at.span.start);
        let end = self.document.position(at.span.end);
        let width = if end.line == start.line { end.column - start.column } else { 1 };
        self.found.push(Finding {
            position: Some(start),
            width,
            line: self.document.line(start.line),
            place: at.path.clone(),
            ..Finding::of_file(severity, self.file, message)
        });
        match self.found.last_mut() {
            Some(finding) => finding,
            None => &mut self.rest,
        }
    }
}
