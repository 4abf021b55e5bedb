//! `cnikit gc`

use cni_spec::{AttachmentId, NetworkName};
use serde::Serialize;

use super::state::State;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::network;
use crate::node::Attachment;
use crate::output::Output;
use crate::places::BinDirs;

const DETAILS: &str = "\
Kept is every attachment that still exists: whose interface is in the kernel, or whose namespace is there. `cnikit \
list` shows them. With --all nothing is kept, which is right after a reboot and what `cnitool gc` does. No program but \
cnikit may attach anything meanwhile: it could lose its network.

Examples:
  cnikit gc default
  cnikit gc podnet --keep web-1/eth0 --keep web-2/eth0    nothing else is valid, as a runtime would say";

/// Remove what belongs to no attachment of a network any more
///
/// Detaches what a runtime remembers but is gone, then runs GC of every plugin: leases, nf_tables entries and
/// interfaces without an owner are removed.
#[derive(Debug, clap::Args)]
#[command(after_help = DETAILS)]
pub(crate) struct Args {
    /// The network's name, as in its configuration
    #[arg(value_name = "NET")]
    network: NetworkName,

    /// cnitool wants one here; it means nothing
    #[arg(value_name = "NETNS", hide = true)]
    netns: Option<String>,

    /// Keep this attachment, and no others but those named so; may be repeated
    #[arg(long, value_name = "ID/IFNAME", value_parser = attachment_id, conflicts_with = "all")]
    keep: Vec<AttachmentId>,

    /// Keep nothing: detach every container from the network
    #[arg(long)]
    all: bool,

    /// Print what was kept, as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    bin_dirs: BinDirs,
    #[command(flatten)]
    state: State,
}

#[derive(Serialize)]
struct Kept<'a> {
    network: &'a str,
    kept: &'a [AttachmentId],
}

/// Runs the command.
pub(crate) fn run(args: &Args, output: &mut Output) -> Result<Exit, Failure> {
    let list = network::find(&args.network, &args.state.conf_dir.path())?;
    let runtime = args.bin_dirs.runtime(&args.state.cache_dir);
    let valid = runtime.gc_of_all_but(&list, || match (args.all, args.keep.is_empty()) {
        (true, _) => Ok(Vec::new()),
        (false, false) => Ok(args.keep.clone()),
        (false, true) => existing(&args.network, &args.state),
    })?;
    if args.json {
        output.json(&Kept { network: args.network.as_str(), kept: &valid })?;
    }
    Ok(Exit::Done)
}

/// The attachments of a network that exist.
fn existing(network: &NetworkName, state: &State) -> Result<Vec<AttachmentId>, Failure> {
    let attachments = state.read().attachments()?;
    let live = attachments.into_iter().filter(|a| a.network == network.as_str() && a.is_live());
    live.map(|attachment: Attachment| {
        attachment.id.ok_or_else(|| {
            let message = format!("the names of container {} are not known in full", attachment.container);
            Failure::new(Exit::Refused, message).advise("name what is to be kept with --keep")
        })
    })
    .collect()
}

fn attachment_id(text: &str) -> Result<AttachmentId, String> {
    let (container, interface) = text.rsplit_once('/').ok_or("not of the form CONTAINER-ID/IFNAME")?;
    Ok(AttachmentId {
        container_id: container.parse().map_err(|error| format!("container ID: {error}"))?,
        if_name: interface.parse().map_err(|error| format!("interface: {error}"))?,
    })
}
