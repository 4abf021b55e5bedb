//! The file of the store `static`, and how a change of it is noticed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use overlay::{Pool, Role};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

use super::ListedNode;
use crate::{json, log};

/// The largest file that is read: ten thousand nodes fit into it.
const LARGEST: u64 = 16 << 20;

/// The file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct List {
    nodes: Vec<ListedNode>,
}

/// Reads it.
pub(super) fn read(path: &Path, pool: &Pool) -> Result<Vec<ListedNode>, String> {
    let named = |what: String| format!("{}: {what}", path.display());
    let mut text = String::new();
    let opened = File::open(path).map_err(|error| named(error.to_string()))?;
    opened.take(LARGEST).read_to_string(&mut text).map_err(|error| named(error.to_string()))?;
    parse(&text, pool).map_err(named)
}

pub(super) fn parse(text: &str, pool: &Pool) -> Result<Vec<ListedNode>, String> {
    let list: List = json::parse(text)?;
    refuse_contradictions(&list.nodes, pool)?;
    Ok(list.nodes)
}

/// What two nodes cannot have both, and what is no part of the network.
fn refuse_contradictions(nodes: &[ListedNode], pool: &Pool) -> Result<(), String> {
    let (mut names, mut ids, mut addresses) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
    for node in nodes {
        let name = &node.name;
        if !names.insert(name) {
            return Err(format!("node \"{name}\" is there twice"));
        }
        if !ids.insert(node.id()) {
            return Err(format!("node \"{name}\" has the id of another: {}", node.id()));
        }
        if node.addresses.is_empty() {
            return Err(format!("node \"{name}\" has no address"));
        }
        for address in &node.addresses {
            if !overlay::Node::can_be_at(*address) {
                return Err(format!("node \"{name}\": no node is at {address}"));
            }
            if let Some(other) = addresses.insert(address, name) {
                return Err(format!("nodes \"{other}\" and \"{name}\" both have address {address}"));
            }
        }
        for subnet in &node.subnets {
            if *subnet != subnet.trunc() {
                return Err(format!(
                    "node \"{name}\": {subnet} has host bits: did you mean {}?",
                    subnet.trunc()
                ));
            }
            if !pool.ranges().iter().any(|range| range.cluster.contains(subnet)) {
                return Err(format!("node \"{name}\": {subnet} is not in the cluster's range"));
            }
        }
        if node.role == Role::Router && !node.subnets.is_empty() {
            return Err(format!("node \"{name}\" is a router: it has no pods, and so no subnets"));
        }
    }
    refuse_overlaps(nodes)
}

/// Sorted by where they begin, a prefix that overlaps another one follows it, or others within that.
fn refuse_overlaps(nodes: &[ListedNode]) -> Result<(), String> {
    let mut held: Vec<_> =
        nodes.iter().flat_map(|node| node.subnets.iter().map(move |subnet| (subnet, &node.name))).collect();
    held.sort_by_key(|(subnet, _)| (subnet.network(), subnet.prefix_len()));
    for pair in held.windows(2) {
        if let [(outer, one), (inner, other)] = pair
            && outer.contains(*inner)
        {
            return Err(format!("{outer} of node \"{one}\" and {inner} of node \"{other}\" overlap"));
        }
    }
    Ok(())
}

/// Notices changes of a file: also that it is replaced, or that a link in its directory leads elsewhere now, as with a
/// mounted ConfigMap.
#[derive(Debug)]
pub(super) struct Watch(Option<Receiver>);

impl Watch {
    /// Of a file, which need not be there. Where the kernel has no inotify to give, it is a watch that sees nothing.
    pub(super) fn new(path: &Path) -> Self {
        let directory = path.parent().unwrap_or_else(|| Path::new("/"));
        let watch = watch(directory);
        if let Err(error) = &watch {
            log::warning(format_args!(
                "watch {}: {error}: SIGHUP has the agent read {} again",
                directory.display(),
                path.display()
            ));
        }
        Self(watch.ok())
    }

    /// Something in the file's directory has changed.
    pub(super) async fn changed(&mut self) {
        let Some(events) = &mut self.0 else { return std::future::pending().await };
        // What it was does not matter: the file is read.
        let mut events_of_no_interest = [0; 4096];
        if !matches!(events.read(&mut events_of_no_interest).await, Ok(1..)) {
            self.0 = None;
        }
    }
}

/// inotify(7)'s descriptor is read as a pipe's is.
fn watch(directory: &Path) -> io::Result<Receiver> {
    let notifier = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    let changes = AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CREATE;
    notifier.add_watch(directory, changes)?;
    Receiver::from_owned_fd_unchecked(notifier.into())
}
