//! `cnikit list`

use serde::Serialize;

use super::state::State;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::node::Attachment;
use crate::output::{Cell, Column, Output, Table, Tone, note};

const DETAILS: &str = "\
What is asked is the kernel: the host's end of each cable that cnikit's plugins make says whose it is, and the kernel \
tells the addresses of the other end. So nothing of it can be out of date. What other plugins made is shown as far as \
the runtimes' result caches tell, and compared with the kernel too; and where no cache knows a cable, as far as \
host-local's lease of its address tells.

The exit status is 0 even if some attachments are not well; see `healthy` in the JSON.";

/// Show every attachment on this node, and whether it is well
#[derive(Debug, clap::Args)]
#[command(after_long_help = DETAILS)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    state: State,
}

/// An attachment in JSON.
#[derive(Serialize)]
struct Entry<'a> {
    #[serde(flatten)]
    attachment: &'a Attachment,
    healthy: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args, output: &mut Output) -> Result<Exit, Failure> {
    let node = args.state.read();
    if let Err(failure) = &node.stores {
        note(format_args!("warning: leases are not looked at: {}", failure.message().unwrap_or_default()));
    }
    let attachments = node.attachments()?;
    if args.json {
        let entry = |attachment| Entry { attachment, healthy: attachment.problems.is_empty() };
        output.json(&attachments.iter().map(entry).collect::<Vec<_>>())?;
    } else if attachments.is_empty() {
        note("nothing is attached on this node");
    } else {
        output.table(&table(&attachments))?;
    }
    Ok(Exit::Done)
}

fn table(attachments: &[Attachment]) -> Table {
    let mut table = Table::new([
        Column::folded("NETWORK"),
        Column::folded("CONTAINER"),
        Column::whole("IFNAME"),
        Column::whole("ADDRESSES"),
        Column::whole("HOST'S END"),
        Column::whole("MADE BY"),
        Column::wrapped("STATE"),
    ]);
    for attachment in attachments {
        let state = if attachment.problems.is_empty() {
            Cell::new(Tone::Good, "healthy")
        } else {
            Cell::lines(Tone::Bad, attachment.problems.iter().map(ToString::to_string))
        };
        table.row([
            Cell::from(&attachment.network),
            Cell::from(&attachment.container),
            Cell::from(&attachment.interface),
            Cell::lines(Tone::Plain, attachment.addresses.iter().map(ToString::to_string)),
            hosts_end(attachment),
            Cell::from(&attachment.maker.to_string()),
            state,
        ]);
    }
    table
}

fn hosts_end(attachment: &Attachment) -> Cell {
    match (&attachment.host_interface, &attachment.bridge) {
        (Some(interface), Some(bridge)) => {
            Cell::lines(Tone::Plain, [interface.clone(), format!("in {bridge}")])
        }
        (interface, _) => Cell::or_dash(interface.as_deref()),
    }
}
