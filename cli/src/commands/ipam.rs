//! `cnikit ipam`

use std::net::IpAddr;

use ipam::{Holder, Lease, LeaseStore};
use netops::LinuxKernel;
use serde::Serialize;

use super::state::{Node, State};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::node::{Attachment, Store, Usage, address_in_use};
use crate::output::{Cell, Column, Output, Table, Tone, confirm, note};

/// Show host-local's leases and how full its ranges are, or release one
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    show: Show,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Release(Release),
}

#[derive(Debug, clap::Args)]
struct Show {
    /// Only this network
    #[arg(long, value_name = "NET")]
    network: Option<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    state: State,
}

/// Release the lease of an address that nobody uses any more
///
/// A lease whose container is gone, and was never told so, keeps its address from everybody. (`cnikit gc NET` releases
/// all of those at once.) An address that an attachment on this node seems to have is not released without --force.
#[derive(Debug, clap::Args)]
struct Release {
    /// The address
    #[arg(value_name = "ADDRESS")]
    address: IpAddr,

    /// The network, if several have a lease of this address
    #[arg(long, value_name = "NET")]
    network: Option<String>,

    /// Do not ask
    #[arg(short, long)]
    yes: bool,

    /// Release it even if it seems to be in use
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    state: State,
}

/// A network's leases, in JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Network<'a> {
    network: &'a str,
    data_dir: String,
    ranges: Vec<Usage>,
    leases: Vec<Entry<'a>>,
}

/// A lease, in JSON.
#[derive(Serialize)]
struct Entry<'a> {
    address: IpAddr,
    container: Option<&'a str>,
    interface: Option<&'a str>,
    /// Whether an attachment of its owner is known on this node; otherwise it is an orphan.
    attached: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args, output: &mut Output) -> Result<Exit, Failure> {
    match &args.command {
        Some(Command::Release(args)) => release(args, output),
        None => show(&args.show, output),
    }
}

fn show(args: &Show, output: &mut Output) -> Result<Exit, Failure> {
    let node = args.state.read();
    let attachments = node.attachments()?;
    let Node { networks, stores, .. } = node;
    let mut stores = stores?;
    stores.retain(|store| args.network.as_ref().is_none_or(|network| *network == store.network));
    let networks: Vec<_> = stores
        .iter()
        .map(|store| Network {
            network: &store.network,
            data_dir: store.data_dir.display().to_string(),
            ranges: store.usage(&networks),
            leases: store.leases.iter().map(|lease| Entry::of(store, lease, &attachments)).collect(),
        })
        .collect();
    if args.json {
        output.json(&networks)?;
    } else if networks.is_empty() {
        note("nothing was ever leased here");
    } else {
        output.table(&usage_table(&networks))?;
        if networks.iter().any(|network| !network.leases.is_empty()) {
            output.line("")?;
            output.table(&lease_table(&networks))?;
        }
    }
    Ok(Exit::Done)
}

impl<'a> Entry<'a> {
    fn of(store: &Store, lease: &'a Lease, attachments: &[Attachment]) -> Self {
        let (container, interface) = match &lease.holder {
            Holder::Attachment(owner) => (Some(owner.container_id()), Some(owner.interface())),
            Holder::Container(id) => (Some(id.as_str()), None),
            _ => (None, None),
        };
        let attached = holder_of(store, lease, attachments).is_some();
        Self { address: lease.address, container, interface, attached }
    }
}

/// The live attachment that a lease belongs to.
fn holder_of<'a>(store: &Store, lease: &Lease, attachments: &'a [Attachment]) -> Option<&'a Attachment> {
    let of_network = attachments.iter().filter(|a| a.network == store.network && a.is_live());
    let holds = |attachment: &&Attachment| match &lease.holder {
        Holder::Attachment(owner) => {
            owner.container_id() == attachment.container && owner.interface() == attachment.interface
        }
        Holder::Container(id) => *id == attachment.container,
        _ => false,
    };
    of_network.into_iter().find(holds)
}

fn usage_table(networks: &[Network<'_>]) -> Table {
    let mut table = Table::new([
        Column::folded("NETWORK"),
        Column::whole("RANGE"),
        Column::number("USED"),
        Column::number("FREE"),
    ]);
    for network in networks {
        for usage in &network.ranges {
            let free = usage.total.saturating_sub(usage.used as u128);
            let tone = if free == 0 { Tone::Bad } else { Tone::Plain };
            table.row([
                Cell::from(network.network),
                Cell::lines(Tone::Plain, &usage.ranges),
                Cell::from(usage.used.to_string()),
                Cell::new(tone, short(free)),
            ]);
        }
        if network.ranges.is_empty() {
            let used = network.leases.len().to_string();
            table.row([network.network.into(), Cell::new(Tone::Odd, "unknown"), used.into(), "?".into()]);
        }
    }
    table
}

fn lease_table(networks: &[Network<'_>]) -> Table {
    let mut table = Table::new([
        Column::whole("ADDRESS"),
        Column::folded("NETWORK"),
        Column::folded("CONTAINER"),
        Column::whole("IFNAME"),
        Column::whole("STATE"),
    ]);
    for network in networks {
        for lease in &network.leases {
            table.row([
                Cell::from(lease.address.to_string()),
                Cell::from(network.network),
                Cell::or_dash(lease.container),
                Cell::or_dash(lease.interface),
                if lease.attached {
                    Cell::new(Tone::Good, "attached")
                } else {
                    Cell::new(Tone::Odd, "orphan")
                },
            ]);
        }
    }
    table
}

/// A number that fits into a column: IPv6 subnets have more addresses than anybody counts.
fn short(number: u128) -> String {
    if number < 1_000_000_000 { number.to_string() } else { format!("{:.1e}", number as f64) }
}

fn release(args: &Release, output: &mut Output) -> Result<Exit, Failure> {
    let node = args.state.read();
    let attachments = node.attachments()?;
    let stores = node.stores?;
    let (store, lease) = find(&stores, args)?;
    if !args.force {
        refuse_if_used(store, lease, &attachments)?;
    }
    if !args.yes {
        confirm(&format!(
            "release {} of network {}, held by {}?",
            lease.address, store.network, lease.holder
        ))?;
    }
    remove(store, lease)?;
    output.line(format_args!("released {} of network {}", lease.address, store.network))?;
    Ok(Exit::Done)
}

/// The lease that is meant.
fn find<'a>(stores: &'a [Store], args: &Release) -> Result<(&'a Store, &'a Lease), Failure> {
    let wanted = |store: &&Store| args.network.as_ref().is_none_or(|network| *network == store.network);
    let leases =
        stores.iter().filter(wanted).filter_map(|store| Some((store, store.lease_of(args.address)?)));
    let found: Vec<_> = leases.collect();
    match found.as_slice() {
        [one] => Ok(*one),
        [] => Err(Failure::new(Exit::Failed, format!("nobody has a lease of {}", args.address))
            .advise("`cnikit ipam` shows all leases")),
        several => {
            let networks: Vec<_> = several.iter().map(|(store, _)| store.network.as_str()).collect();
            Err(Failure::new(Exit::Usage, format!("{} is leased in several networks", args.address))
                .advise(format!("say which with --network: {}", networks.join(", "))))
        }
    }
}

fn refuse_if_used(store: &Store, lease: &Lease, attachments: &[Attachment]) -> Result<(), Failure> {
    let refused = |reason: String| {
        Failure::new(Exit::Refused, format!("{} seems to be in use: {reason}", lease.address))
            .advise("whoever gets the address next would share it; --force releases it nevertheless")
    };
    if let Some(holder) = holder_of(store, lease, attachments) {
        return Err(refused(format!(
            "interface {} of container {} is attached to network {}",
            holder.interface, holder.container, holder.network
        )));
    }
    match address_in_use(&mut LinuxKernel::new(None), lease.address)? {
        Some(link) => Err(refused(format!("the other end of {link} has it"))),
        None => Ok(()),
    }
}

/// Removes a lease, if it is still what was looked at.
fn remove(store: &Store, lease: &Lease) -> Result<(), Failure> {
    let directory = store.open()?;
    let mut table = directory.lock()?;
    if table.lease(lease.address)?.as_ref() != Some(lease) {
        return Err(Failure::new(
            Exit::TryAgain,
            format!("the lease of {} has just changed hands", lease.address),
        ));
    }
    Ok(table.remove(std::slice::from_ref(lease))?)
}
