//! The files that are checked.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use cni_spec::runtime::{ConfFormat, LARGEST_CONF_FILE, Standing, Survey};
use cni_spec::{NetworkList, SpecVersion};

use super::finding::{At, Finding, Findings, Severity};
use super::programs::Programs;
use super::rules;
use crate::commands::conf::document::{Document, SyntaxError, line};
use crate::exit::Exit;
use crate::failure::Failure;

/// Everything to be checked.
#[derive(Debug, Default)]
pub(super) struct Sources {
    /// All of them, also those that cannot be read.
    pub(super) paths: Vec<PathBuf>,
    pub(super) files: Vec<Source>,
    /// What was found while reading.
    pub(super) problems: Vec<Finding>,
}

/// One file.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) form: Form,
    pub(super) document: Document,
    /// Whether a runtime would ever use it.
    pub(super) is_used: bool,
    /// Why a runtime would not, in its own words; and where.
    refusal: Option<Finding>,
}

/// What a file is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    List,
    Single,
    /// One of the folder with the network's name, for the list's version.
    PartOfList(SpecVersion),
}

impl Sources {
    /// Reads files, and directories as a runtime does.
    pub(super) fn read(paths: &[PathBuf]) -> Result<Self, Failure> {
        let mut sources = Self::default();
        for path in paths {
            if path.is_dir() {
                sources.read_dir(path);
            } else if path.exists() {
                sources.read_file(path, form_of(path), None);
            } else {
                return Err(Failure::new(
                    Exit::Configuration,
                    format!("{}: no such file or directory", path.display()),
                ));
            }
        }
        Ok(sources)
    }

    fn read_dir(&mut self, dir: &Path) {
        let survey = Survey::of([dir]);
        // What cannot be listed; files that are broken are looked at below.
        for problem in survey.problems().filter(|problem| problem.path == dir) {
            self.problems.push(Finding::of_file(Severity::Error, dir, problem.to_string()));
        }
        if survey.files().is_empty() {
            let message = "no configurations: no *.conflist, *.conf or *.json";
            self.problems.push(Finding::of_file(Severity::Warning, dir, message));
        }
        for file in survey.files() {
            let form = match file.format {
                ConfFormat::List => Form::List,
                ConfFormat::Single => Form::Single,
            };
            let shadow = match survey.standing(file) {
                Standing::Shadowed { by } => Some(by.to_owned()),
                _ => None,
            };
            self.read_file(&file.path, form, shadow.as_deref());
            for part in &file.plugin_files {
                let version = file.outcome.as_ref().map_or(SpecVersion::LATEST, |list| list.cni_version);
                self.read_file(part, Form::PartOfList(version), None);
            }
        }
    }

    fn read_file(&mut self, path: &Path, form: Form, shadow: Option<&Path>) {
        match read(path) {
            Ok(bytes) => self.add(path, form, shadow, &bytes),
            Err(reason) => {
                self.paths.push(path.to_owned());
                self.problems.push(Finding::of_file(Severity::Error, path, reason));
            }
        }
    }

    /// Adds a file with this content; `shadow` is the file that is used in its stead.
    pub(super) fn add(&mut self, path: &Path, form: Form, shadow: Option<&Path>, bytes: &[u8]) {
        self.paths.push(path.to_owned());
        if let Some(by) = shadow {
            let message =
                format!("it is never used: {} has a network of the same name, and goes first", by.display());
            let mut finding = Finding::of_file(Severity::Warning, path, message);
            finding.suggest("give one of them another \"name\", or remove one");
            self.problems.push(finding);
        }
        match Document::parse(bytes.to_vec()) {
            Ok(document) => {
                let refusal = refusal(path, form, bytes);
                let is_used = refusal.is_none() && shadow.is_none();
                self.files.push(Source { path: path.to_owned(), form, document, is_used, refusal });
            }
            Err(error) => self.problems.push(syntax_error(path, bytes, &error)),
        }
    }
}

impl Source {
    /// Everything that can be said about the file by itself.
    pub(super) fn check(&self, programs: &Programs) -> Vec<Finding> {
        let mut findings = Findings::new(&self.path, &self.document);
        let root = At::root(&self.document);
        let version = match self.form {
            Form::List => rules::check_list(&mut findings, &root),
            Form::Single => rules::check_single(&mut findings, &root),
            Form::PartOfList(version) => rules::check_part(&mut findings, &root, version),
        };
        for plugin in self.plugins() {
            programs.check(&mut findings, &plugin, version);
        }
        let mut found = findings.into_vec();
        // What runtimes refuse is an error, whether these rules know why or not.
        if !found.iter().any(|finding| finding.severity == Severity::Error) {
            found.extend(self.refusal.clone());
        }
        found
    }

    /// The network's name.
    pub(super) fn network(&self) -> Option<&str> {
        self.document.root().text("name")
    }

    /// The plugins.
    pub(super) fn plugins(&self) -> Vec<At<'_>> {
        let root = At::root(&self.document);
        match self.form {
            Form::List => root.field("plugins").map(|plugins| plugins.items().collect()).unwrap_or_default(),
            Form::Single | Form::PartOfList(_) => vec![root],
        }
    }
}

/// By its extension, as runtimes tell; a list if nobody can tell.
fn form_of(path: &Path) -> Form {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("conf" | "json") => Form::Single,
        _ => Form::List,
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let metadata = fs::metadata(path).map_err(|error| error.to_string())?;
    // Opening a FIFO would wait for a writer.
    if !metadata.is_file() {
        return Err("not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(LARGEST_CONF_FILE + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > LARGEST_CONF_FILE {
        return Err(format!("larger than {} KiB: no runtime reads it", LARGEST_CONF_FILE >> 10));
    }
    Ok(bytes)
}

/// Why the library that runtimes are built on does not take it.
fn refusal(path: &Path, form: Form, bytes: &[u8]) -> Option<Finding> {
    let error = match form {
        Form::List => NetworkList::from_json(bytes).err(),
        Form::Single => NetworkList::from_single_json(bytes).err(),
        Form::PartOfList(_) => cni_spec::PluginConfig::from_json(bytes).err(),
    }?;
    Some(Finding::of_file(Severity::Error, path, error.msg()))
}

fn syntax_error(path: &Path, bytes: &[u8], error: &SyntaxError) -> Finding {
    let mut finding = Finding {
        position: Some(error.position),
        width: 1,
        line: line(bytes, error.position.line),
        ..Finding::of_file(Severity::Error, path, format!("not JSON: {}", error.reason))
    };
    let before = bytes.trim_ascii();
    if before.is_empty() {
        finding.message = "it is empty".to_owned();
    } else if before.starts_with(b"\xef\xbb\xbf") {
        finding.suggest("it begins with a byte order mark: save it as UTF-8 without one");
    } else if error.reason.starts_with("trailing comma") {
        finding.suggest("JSON allows no comma after the last item: remove it");
    } else if finding.line.as_deref().is_some_and(|line| line.trim_start().starts_with(['/', '#'])) {
        finding.suggest("JSON has no comments: remove it, or write it as a key, \"_comment\": \"…\"");
    } else if error.reason.starts_with("expected `,`") {
        finding.suggest("a comma is missing before this place");
    }
    finding
}
