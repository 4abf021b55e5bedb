//! `cnikit doctor`: whether this node has what a node of a cluster needs.
//!
//! ```text
//! collect   looks: files, the kernel, the agent ── facts: what is so
//! rules     pure: what facts mean ── finding: how bad it is, and what to do
//! ```

mod collect;
mod facts;
mod finding;
mod rules;

use std::path::PathBuf;

use ipnet::IpNet;
use serde::Serialize;

use self::collect::Root;
use self::finding::{Finding, Severity};
use crate::agent_socket::AgentSocket;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Cell, Column, Output, Table, Tone, note};

const DETAILS: &str = "\
Looked at are the node's name and numbers, its interfaces and routes, ports and who holds them (the agent's as it is \
configured), whether the kubelet's API server and agents of other nodes answer, settings of the kernel and what it can do, the container runtime with its plugins and configurations, and what this node's agent says. Nothing is \
changed: what the kernel can do is tried in a network namespace that is thrown away, for which it may load modules. As root \
more can be seen.

The exit status is 5 if there are errors; warnings are not counted.

Examples:
  cnikit doctor                           what is wrong with this node, and what to do
  cnikit doctor --role control-plane      before kubeadm init
  cnikit doctor --cluster 10.244.0.0/16   is that range free here?
  cnikit doctor --root /host              a node whose files are mounted there, without asking its kernel";

/// Find out what keeps this node from being a good one: what is wrong, and what to do about it
#[derive(Debug, clap::Args)]
#[command(after_long_help = DETAILS)]
pub(crate) struct Args {
    /// What the node is to be: it says which ports it needs
    #[arg(long, value_enum, default_value_t = Role::Any)]
    role: Role,

    /// A range of pods' addresses, of all nodes; may be repeated. The agent's is known
    #[arg(long = "cluster", value_name = "CIDR")]
    cluster: Vec<IpNet>,

    /// Only what is wrong
    #[arg(long, short)]
    quiet: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Where the node's files are
    #[arg(long, value_name = "DIR", default_value = "/", help_heading = "Places")]
    root: PathBuf,

    #[command(flatten)]
    agent: AgentSocket,
}

/// What a node is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Role {
    /// It may be either
    Any,
    /// Kubernetes' own servers run on it
    ControlPlane,
    /// Pods run on it
    Worker,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report<'a> {
    findings: &'a [Finding],
    errors: usize,
    warnings: usize,
}

/// Runs the command.
pub(crate) fn run(args: &Args, output: &mut Output) -> Result<Exit, Failure> {
    if !args.root.is_dir() {
        return Err(Failure::new(
            Exit::Usage,
            format!("--root {}: there is no such directory", args.root.display()),
        ));
    }
    let facts = collect::facts(&Root::new(&args.root), &args.agent, &args.cluster);
    let mut findings = rules::check(&facts, args.role);
    if args.quiet {
        findings.retain(|finding| finding.severity <= Severity::Warning);
    }
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    if args.json {
        output.json(&Report { findings: &findings, errors, warnings })?;
    } else {
        if !findings.is_empty() {
            output.table(&table(&findings))?;
        }
        note(summary(errors, warnings));
    }
    Ok(if errors == 0 { Exit::Done } else { Exit::Differs })
}

fn table(findings: &[Finding]) -> Table {
    let mut table = Table::new([
        Column::whole("STATE"),
        Column::whole("SUBJECT"),
        Column::wrapped("WHAT IS SO, AND WHAT TO DO"),
    ]);
    for finding in findings {
        let advice = finding.advice.iter().map(|advice| format!("=> {advice}"));
        let lines = std::iter::once(finding.what.clone()).chain(advice);
        table.row([
            Cell::new(finding.severity.tone(), finding.severity.to_string()),
            Cell::from(finding.subject),
            Cell::lines(Tone::Plain, lines),
        ]);
    }
    table
}

fn summary(errors: usize, warnings: usize) -> String {
    let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    match (errors, warnings) {
        (0, 0) => "nothing to complain about".to_owned(),
        _ => format!("{}, {}", count(errors, "error"), count(warnings, "warning")),
    }
}
