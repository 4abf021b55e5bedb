//! `cnikit conf lint`: every mistake in configurations, with its place and what to do about it.
//!
//! ```text
//! source      the files, read ── document: JSON that knows its places
//!   shape     keys and kinds, after the tables in `keys`
//!   rules     what goes together in a list and in a plugin; addresses
//!   programs  whether the plugins are there, and speak the version
//!   across    what two files disagree about
//! finding     what is found ── picture: as text
//! ```

mod across;
mod addresses;
mod finding;
mod keys;
mod picture;
mod programs;
mod rules;
mod shape;
mod source;
mod spelling;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use serde::Serialize;

use self::finding::{Finding, Severity};
use self::programs::Programs;
use self::source::Sources;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Output, note};
use crate::places::{BinDirs, ConfDir};

const DETAILS: &str = "\
The keys of the specification, of cnikit's plugins and of the reference's are known, and what may stand there; nothing \
is said about the keys of other plugins. Plugins are looked for where a runtime would, and asked for the versions that \
they speak (VERSION), which changes nothing.

The exit status is 5 if there are errors; warnings and hints are not counted.";

/// Find every mistake in network configurations: where it is, and what to do about it
#[derive(Debug, clap::Args)]
#[command(after_long_help = DETAILS)]
pub(crate) struct Args {
    /// Files, or directories as runtimes read them [default: the configuration directory]
    #[arg(value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    conf_dir: ConfDir,

    #[command(flatten)]
    bin_dirs: BinDirs,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report<'a> {
    files: &'a [PathBuf],
    findings: &'a [Finding],
    errors: usize,
    warnings: usize,
    hints: usize,
}

/// Runs the command.
pub(crate) fn run(args: &Args, output: &mut Output) -> Result<Exit, Failure> {
    let paths = if args.paths.is_empty() { vec![args.conf_dir.path()] } else { args.paths.clone() };
    let sources = Sources::read(&paths)?;
    let programs = Programs::new(args.bin_dirs.paths(), args.bin_dirs.built_in());
    let findings = check(&sources, &programs);

    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let report = Report {
        files: &sources.paths,
        findings: &findings,
        errors: count(Severity::Error),
        warnings: count(Severity::Warning),
        hints: count(Severity::Hint),
    };
    if args.json {
        output.json(&report)?;
    } else {
        for finding in &findings {
            let text = picture::draw(finding, output.width(), output.style());
            output.line(text)?;
        }
        note(summary(&report));
    }
    Ok(if report.errors == 0 { Exit::Done } else { Exit::Differs })
}

/// Everything that there is to say, file by file, from top to bottom.
fn check(sources: &Sources, programs: &Programs) -> Vec<Finding> {
    let mut findings: Vec<Finding> = sources.problems.clone();
    findings.extend(sources.files.iter().flat_map(|file| file.check(programs)));
    findings.extend(programs.problems());
    findings.extend(across::check(&sources.files));
    let order = |finding: &Finding| {
        let file = sources.paths.iter().position(|path| *path == finding.file);
        (file, finding.position, finding.severity)
    };
    findings.sort_by_cached_key(order);
    findings
}

fn summary(report: &Report<'_>) -> String {
    let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    let found = [(report.errors, "error"), (report.warnings, "warning"), (report.hints, "hint")];
    let found: Vec<_> =
        found.iter().filter(|(number, _)| *number > 0).map(|(n, what)| count(*n, what)).collect();
    let found = if found.is_empty() { "nothing to complain about".to_owned() } else { found.join(", ") };
    format!("{}: {found}", count(report.files.len(), "file"))
}
