//! `cnikit repair`

use netops::LinuxKernel;
use plugin_kit::RepairMode;

use super::state::State;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::node::{self, Repairs, Sources};
use crate::output::{Cell, Column, Output, Table, Tone, note};

const DETAILS: &str = "\
Every attachment of which a runtime's cache, the kernel or a lease tells is looked at. Each plugin of its list says \
anew what there should be; entries of nf_tables and settings of the node (forwarding, for one) that are missing are \
made. Interfaces, addresses and routes are left as they are. Entries of attachments that are gone are removed. Where \
the rules of the reference's plugins still serve an attachment that those made, they are left to do so.

It may be done again and again, and beside a runtime at work.

The exit status is 5 if something could not be made, or with --dry-run is missing.

Examples:
  nft flush ruleset; cnikit repair
  cnikit repair --dry-run --json";

/// Make again what a firewall's reload or `nft flush ruleset` has taken from attachments
#[derive(Debug, clap::Args)]
#[command(after_help = DETAILS)]
pub(crate) struct Args {
    /// Say what is missing, and do nothing
    #[arg(long)]
    dry_run: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    state: State,
}

/// Runs the command.
pub(crate) fn run(args: &Args, output: &mut Output) -> Result<Exit, Failure> {
    let node = args.state.read();
    if let Err(failure) = &node.stores {
        note(format_args!("warning: leases are not looked at: {}", failure.message().unwrap_or_default()));
    }
    let stores = node.stores.as_deref().unwrap_or_default();
    let sources = Sources { cached: &node.cached, stores, networks: &node.networks };
    let mode = if args.dry_run { RepairMode::Look } else { RepairMode::Make };
    let runtime = args.state.cache_dir.runtime();
    let repairs = node::repair(&runtime, &mut LinuxKernel::new(None), sources, mode)?;
    if args.json {
        output.json(&repairs)?;
    } else {
        show(&repairs, mode, output)?;
    }
    let well = repairs.attachments.iter().all(|repaired| repaired.is_well(mode));
    Ok(if well && (mode == RepairMode::Make || repairs.removed.is_empty()) {
        Exit::Done
    } else {
        Exit::Differs
    })
}

fn show(repairs: &Repairs, mode: RepairMode, output: &mut Output) -> Result<(), Failure> {
    let (made, removed) = match mode {
        RepairMode::Make => ("made", "removed"),
        RepairMode::Look => ("missing:", "to be removed:"),
    };
    let mut table = Table::new([
        Column::folded("NETWORK"),
        Column::folded("CONTAINER"),
        Column::whole("IFNAME"),
        Column::wrapped("STATE"),
    ]);
    for repaired in &repairs.attachments {
        let said = |word: &str, list: &[String]| list.iter().map(|item| format!("{word} {item}")).collect();
        let lines: [Vec<String>; 3] = [
            said(made, &repaired.made),
            said("failed:", &repaired.failed),
            said("not known:", &repaired.unknown),
        ];
        let state = match lines.concat() {
            _ if repaired.gone => Cell::new(Tone::Faint, "gone"),
            lines if lines.is_empty() => Cell::new(Tone::Good, "nothing was missing"),
            lines if repaired.is_well(mode) => Cell::lines(Tone::Plain, lines),
            lines => Cell::lines(Tone::Bad, lines),
        };
        table.row([
            Cell::from(&repaired.network),
            Cell::from(&repaired.container),
            Cell::from(&repaired.interface),
            state,
        ]);
    }
    match repairs.attachments.is_empty() {
        true => note("nothing is attached on this node"),
        false => output.table(&table)?,
    }
    for entry in &repairs.removed {
        output.line(format_args!("{removed} {entry}"))?;
    }
    Ok(())
}
