//! `cnikit conf show`: which configuration a runtime would use, and why.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use cni_spec::runtime::{self, ConfFile, Standing, Survey};
use cni_spec::{NetworkList, NetworkName};
use serde::Serialize;
use serde_json::Value;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::network;
use crate::output::{Cell, Column, Output, Table, Tone, note};
use crate::places::ConfDir;

const DETAILS: &str = "\
A runtime that is told no network (containerd, CRI-O) takes the first usable file by name, whatever its extension. One \
that asks for a network by name (libcni, cnitool, multus, cnikit) looks through the *.conflist files first, by name, and \
then through *.conf and *.json.";

/// Show which network configurations there are, and which of them a runtime would use
#[derive(Debug, clap::Args)]
#[command(after_long_help = DETAILS)]
pub(crate) struct Args {
    /// Show this network's configuration as plugins get to see it
    #[arg(value_name = "NET")]
    network: Option<NetworkName>,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    conf_dir: ConfDir,
}

/// A file in JSON.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    file: &'a Path,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    plugin_files: &'a [PathBuf],
    #[serde(flatten)]
    network: Option<Summary<'a>>,
    standing: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    shadowed_by: Option<&'a Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// A network in JSON.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary<'a> {
    network: &'a str,
    cni_version: &'a str,
    plugins: Vec<&'a str>,
    capabilities: BTreeSet<&'a str>,
}

impl<'a> Summary<'a> {
    fn of(list: &'a NetworkList) -> Self {
        let wanted =
            |plugin: &'a cni_spec::PluginConfig| plugin.capabilities.iter().filter(|(_, wanted)| **wanted);
        Self {
            network: list.name.as_str(),
            cni_version: list.cni_version.as_str(),
            plugins: list.plugins.iter().map(|plugin| plugin.plugin_type.as_str()).collect(),
            capabilities: list.plugins.iter().flat_map(wanted).map(|(name, _)| name.as_str()).collect(),
        }
    }
}

impl<'a> Entry<'a> {
    fn of(file: &'a ConfFile, survey: &'a Survey) -> Self {
        let standing = survey.standing(file);
        Self {
            file: &file.path,
            plugin_files: &file.plugin_files,
            network: file.outcome.as_ref().ok().map(Summary::of),
            standing: match standing {
                Standing::Default => "default",
                Standing::ByName => "by-name",
                Standing::Shadowed { .. } => "shadowed",
                Standing::Unusable => "unusable",
            },
            shadowed_by: if let Standing::Shadowed { by } = standing { Some(by) } else { None },
            error: file.outcome.as_ref().err().map(ToString::to_string),
        }
    }
}

/// Runs the command.
pub(crate) fn run(args: &Args, output: &mut Output) -> Result<Exit, Failure> {
    let dir = args.conf_dir.path();
    match &args.network {
        None => show_all(&dir, args.json, output),
        Some(name) => show_one(name, &dir, args.json, output),
    }
}

fn show_all(dir: &Path, json: bool, output: &mut Output) -> Result<Exit, Failure> {
    let survey = Survey::of([dir]);
    let entries: Vec<_> = survey.files().iter().map(|file| Entry::of(file, &survey)).collect();
    // The directory itself.
    for problem in survey.problems().filter(|problem| problem.path == dir) {
        note(format_args!("warning: {problem}"));
    }
    if json {
        output.json(&entries)?;
        return Ok(Exit::Done);
    }
    if entries.is_empty() {
        note(format_args!(
            "no configurations in {}: no runtime would find a network there. `cnikit add {}` uses a built-in one",
            dir.display(),
            network::BUILT_IN_NAME
        ));
        return Ok(Exit::Done);
    }
    output.table(&table(&entries))?;
    output.line("")?;
    match entries.iter().find(|entry| entry.standing == "default") {
        Some(chosen) => output.line(format_args!(
            "A runtime that is told no network takes {}: the first usable file by name.",
            file_name(chosen.file)
        ))?,
        None => {
            output.line("No file is usable: a runtime would wait for one and call its node not ready.")?
        }
    }
    if entries.iter().any(|entry| entry.error.is_some()) {
        output.line("`cnikit conf lint` says what is wrong, and what to do about it.")?;
    }
    Ok(Exit::Done)
}

fn table(entries: &[Entry<'_>]) -> Table {
    let mut table = Table::new([
        Column::whole("FILE"),
        Column::folded("NETWORK"),
        Column::whole("CNI"),
        Column::wrapped("PLUGINS"),
        Column::wrapped("USED"),
    ]);
    for entry in entries {
        let (tone, used) = match (entry.standing, entry.shadowed_by, &entry.error) {
            ("default", ..) => (Tone::Good, "by default, and by name".to_owned()),
            (_, Some(by), _) => (Tone::Odd, format!("never: {} goes first", file_name(by))),
            (.., Some(error)) => (Tone::Bad, format!("never: {}", without_directory(error, entry.file))),
            _ => (Tone::Plain, "by name".to_owned()),
        };
        let network = entry.network.as_ref();
        table.row([
            Cell::from(file_name(entry.file)),
            Cell::from(network.map_or("", |network| network.network)),
            Cell::from(network.map_or("", |network| network.cni_version)),
            Cell::from(network.map_or_else(String::new, |network| network.plugins.join(", "))),
            Cell::new(tone, used),
        ]);
    }
    table
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Errors begin with the file's path, which stands in the table already.
fn without_directory(error: &str, file: &Path) -> String {
    let path = file.display().to_string();
    let rest = error.strip_prefix(&path).unwrap_or(error);
    rest.trim_start_matches(':').trim_start().to_owned()
}

/// A network in JSON, with its configuration.
#[derive(Debug, Serialize)]
struct Detail<'a> {
    /// `None`: it is built in.
    #[serde(flatten)]
    entry: Option<Entry<'a>>,
    list: Value,
}

fn show_one(name: &NetworkName, dir: &Path, json: bool, output: &mut Output) -> Result<Exit, Failure> {
    // Says what is wrong with other files, and what there is if this one is not.
    let list = network::find(name, dir)?;
    let survey = Survey::of([dir]);
    let chosen = runtime::load([dir], name).ok().map(|loaded| loaded.path);
    let is_chosen = |file: &ConfFile| chosen.as_ref() == Some(&file.path);
    let has_name = |file: &ConfFile| file.outcome.as_ref().is_ok_and(|list| list.name == *name);
    let entry = survey.files().iter().find(|file| is_chosen(file)).map(|file| Entry::of(file, &survey));
    let others = survey.files().iter().filter(|file| has_name(file) && !is_chosen(file));
    let document = used_document(&list);
    if json {
        output.json(&Detail { entry, list: document })?;
        return Ok(Exit::Done);
    }
    let summary = Summary::of(&list);
    let mut table = Table::new([Column::whole("NETWORK"), Column::wrapped(summary_title(&entry))]);
    let mut row = |what: &str, lines: Vec<String>| {
        table.row([Cell::new(Tone::Heading, what), Cell::lines(Tone::Plain, lines)])
    };
    row("name", vec![summary.network.to_owned()]);
    match &entry {
        Some(entry) => {
            row("file", vec![entry.file.display().to_string()]);
            if !entry.plugin_files.is_empty() {
                row("with", entry.plugin_files.iter().map(|file| file.display().to_string()).collect());
            }
            row("used", vec![why(entry)]);
        }
        None => row("file", vec!["none: it is built in".to_owned()]),
    }
    let others: Vec<_> = others.map(|file| file.path.display().to_string()).collect();
    if !others.is_empty() {
        row("instead of", others);
    }
    row("CNI", vec![summary.cni_version.to_owned()]);
    row("plugins", vec![summary.plugins.join(", then ")]);
    if !summary.capabilities.is_empty() {
        row("capabilities", vec![summary.capabilities.into_iter().collect::<Vec<_>>().join(", ")]);
    }
    output.table(&table)?;
    output.line("")?;
    output.json(&document)?;
    Ok(Exit::Done)
}

fn summary_title(entry: &Option<Entry<'_>>) -> &'static str {
    if entry.is_some() { "FROM A FILE" } else { "BUILT IN" }
}

fn why(entry: &Entry<'_>) -> String {
    match entry.standing {
        "default" => "by default, as the first usable file by name; and when it is asked for".to_owned(),
        _ => "when it is asked for by name; without one, an earlier file is taken".to_owned(),
    }
}

/// The list as it is used: with the plugins of its folder.
fn used_document(list: &NetworkList) -> Value {
    let mut document = list.document.clone();
    let plugins = list.plugins.iter().map(|plugin| Value::Object(plugin.document.clone())).collect();
    document.insert("plugins".to_owned(), Value::Array(plugins));
    Value::Object(document)
}
