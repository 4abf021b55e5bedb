//! Who gives addresses: host-local, of the subnets that the agent says are this node's.

use std::net::IpAddr;
use std::path::PathBuf;

use cni_spec::plugin::{DelRequest, GcRequest, Request, StatusRequest};
use cni_spec::{AddResult, AttachmentId, Dns, Error, ErrorCode, NetworkConfig, NetworkName, Route};
use ipam::{DirStore, Pool, Range, RangeSet};
use ipnet::IpNet;
use plugin_kit::ipam::{Grant, HostLocal, Manager, Source, Supply};
use plugin_kit::{Owner, error};

use crate::config::Config;
use crate::node_file::{Assigned, NodeFile, NodeFileError};
use crate::socket::Socket;

/// Subnets in a node file. An agent names a handful.
const MAX_SUBNETS: usize = 64;

/// The manager.
#[derive(Debug)]
pub(crate) struct Addresses(HostLocal);

impl Addresses {
    pub(crate) const fn new() -> Self {
        Self(HostLocal::of(&Agent))
    }
}

impl Manager for Addresses {
    fn add<'a>(&'a self, call: &'a Request) -> Result<Grant<'a>, Error> {
        self.0.add(call)
    }

    fn del(&self, call: &DelRequest) -> Result<(), Error> {
        self.0.del(call)
    }

    /// Without a file nobody knows of duplicates, and the attachment is none the worse for it.
    fn check(&self, call: &Request) -> Result<(), Error> {
        self.0.check(call)?;
        let config: Config = call.config.parse()?;
        match NodeFile::read(&config.agent_directory, call.config.name()) {
            Ok(node) => deny_duplicates(&node, call),
            Err(_) => Ok(()),
        }
    }

    fn gc(&self, call: &GcRequest) -> Result<(), Error> {
        self.0.gc(call)
    }

    fn stale(&self, call: &GcRequest) -> Result<Vec<(AttachmentId, IpAddr)>, Error> {
        self.0.stale(call)
    }

    fn status(&self, call: &StatusRequest) -> Result<(), Error> {
        self.0.status(call).map_err(unavailable)?;
        let node = read(&call.config.parse()?, call.config.name()).map_err(unavailable)?;
        Socket::of(&node).map_err(unavailable)?;
        match node.cut_off {
            Some(reason) => Err(Error::new(
                ErrorCode::LIMITED_CONNECTIVITY,
                format!("network {}: other nodes are out of reach: {reason}", call.config.name()),
            )
            .with_details("pods are attached all the same, and reach one another on this node")),
            None => Ok(()),
        }
    }

    fn preview(&self, call: &Request) -> Result<AddResult, Error> {
        self.0.preview(call)
    }
}

/// What an attachment of a network would be given on this node: an address of each family that the network has.
///
/// # Errors
/// When the agent has not said, or what it said makes no sense.
pub fn supply(config: &NetworkConfig) -> Result<Supply, Error> {
    Agent.supply(config)
}

/// Where a network's leases are: `dataDir`, or where everybody has them.
///
/// # Errors
/// When it is no path.
pub fn data_dir(config: &NetworkConfig) -> Result<PathBuf, Error> {
    let configured = config.get::<PathBuf>("dataDir")?.filter(|dir| !dir.as_os_str().is_empty());
    Ok(configured.unwrap_or_else(|| DirStore::DEFAULT_DATA_DIR.into()))
}

/// The agent says what there is to give.
struct Agent;

impl Source for Agent {
    fn supply(&self, config: &NetworkConfig) -> Result<Supply, Error> {
        let settings: Config = config.parse()?;
        let node = read(&settings, config.name())?;
        let pool = pool(&node, config.name())?;
        let routes = if settings.default_route { Vec::new() } else { routes(&node, &pool) };
        Ok(Supply { pool, routes, dns: Dns::default() })
    }

    /// Looks at nothing else of the configuration: a `DEL` has to find leases, whatever has become wrong with the rest.
    fn data_dir(&self, config: &NetworkConfig) -> Result<PathBuf, Error> {
        data_dir(config)
    }
}

/// Reads the node file of a network.
pub(crate) fn read(config: &Config, network: &NetworkName) -> Result<NodeFile, Error> {
    NodeFile::read(&config.agent_directory, network).map_err(|error| match error {
        NodeFileError::Missing { .. } => Error::new(
            ErrorCode::TRY_AGAIN_LATER,
            format!("network {network}: waiting for this node's agent to say what its subnet is"),
        )
        .with_details(error.to_string()),
        NodeFileError::Io { .. } => Error::io(error.to_string()),
        NodeFileError::Wrong { .. } => Error::decoding(error.to_string()),
    })
}

/// The agent said something that cannot be.
pub(crate) fn wrong(node: &NodeFile, reason: &str) -> Error {
    Error::decoding(format!("the agent of node {} says what cannot be: {reason}", node.node))
}

/// The node's subnets as sets of ranges, one of each family. A further subnet of a family is begun when the first is full.
fn pool(node: &NodeFile, network: &NetworkName) -> Result<Pool, Error> {
    if node.subnets.len() > MAX_SUBNETS {
        return Err(wrong(node, &format!("more than {MAX_SUBNETS} subnets")));
    }
    let (mut sets, mut missing) = (Vec::new(), Vec::new());
    for ipv6 in [false, true] {
        let of_family = |net: &IpNet| net.addr().is_ipv6() == ipv6;
        let assigned = node.subnets.iter().filter(|assigned| of_family(&assigned.subnet));
        let ranges = assigned.map(|assigned| range(node, assigned)).collect::<Result<Vec<_>, _>>()?;
        match node.cluster.iter().find(|net| of_family(net)) {
            _ if !ranges.is_empty() => {
                sets.push(RangeSet::new(ranges).map_err(|e| wrong(node, &format!("subnets: {e}")))?);
            }
            Some(cluster) => {
                missing.push(format!("no {} subnet of {cluster}", if ipv6 { "IPv6" } else { "IPv4" }));
            }
            None => {}
        }
    }
    match missing.is_empty() && !sets.is_empty() {
        // A pod that is attached without an address of a family never gets one.
        false => Err(waiting(node, network, &missing)),
        true => Pool::new(sets).map_err(|e| wrong(node, &format!("subnets: {e}"))),
    }
}

fn range(node: &NodeFile, assigned: &Assigned) -> Result<Range, Error> {
    let Assigned { subnet, gateway, first } = *assigned;
    Range::new(subnet, None, None, Some(gateway))
        .and_then(|range| range.beginning_at(first))
        .map_err(|e| wrong(node, &format!("subnets: {e}")))
}

fn waiting(node: &NodeFile, network: &NetworkName, missing: &[String]) -> Error {
    let missing = if missing.is_empty() { "no subnet".to_owned() } else { missing.join(", and ") };
    let waiting = format!("network {network}: waiting: node {} has {missing} yet", node.node);
    let error = Error::new(ErrorCode::TRY_AGAIN_LATER, waiting);
    match &node.waiting {
        Some(reason) => error.with_details(reason),
        None => error,
    }
}

/// The way to the network's ranges, through the gateway of each family. One that the pod's own subnet covers is on its
/// link already.
fn routes(node: &NodeFile, pool: &Pool) -> Vec<Route> {
    let gateway = |net: &IpNet| {
        let of_family = |range: &&Range| range.first().is_ipv4() == net.addr().is_ipv4();
        pool.sets().iter().flat_map(RangeSet::ranges).find(of_family).and_then(Range::gateway)
    };
    let on_link =
        |net: &IpNet| pool.sets().iter().flat_map(RangeSet::ranges).any(|range| range.subnet().contains(net));
    let elsewhere =
        node.cluster.iter().map(IpNet::trunc).filter(|net| !on_link(net) && gateway(net).is_some());
    // Which gateway: that of the address that the pod gets.
    elsewhere.map(Route::new).collect()
}

/// Says which of an attachment's addresses are others' too.
fn deny_duplicates(node: &NodeFile, call: &Request) -> Result<(), Error> {
    let owner = Owner {
        network: call.config.name().clone(),
        container: call.container_id.clone(),
        interface: call.if_name.clone(),
    };
    let previous = call.config.prev_result()?.unwrap_or_default();
    let ours = plugin_kit::own_addresses(&previous, &owner);
    let is_ours = |address: IpAddr| ours.ips.iter().any(|ip| ip.address.addr() == address);
    let found: Vec<_> = node
        .duplicates
        .iter()
        .filter(|duplicate| is_ours(duplicate.address))
        .map(|duplicate| format!("{} is also {}", duplicate.address, duplicate.other))
        .collect();
    match found.is_empty() {
        true => Ok(()),
        false => Err(Error::new(error::DIFFERS, found.join("; "))
            .with_details("delete one of the two; what takes its place gets another address")),
    }
}

/// A failure to serve an `ADD`, as `STATUS` has it.
fn unavailable(error: Error) -> Error {
    match error.code() {
        ErrorCode::INVALID_CONFIG | ErrorCode::PLUGIN_NOT_AVAILABLE => error,
        _ => Error::new(ErrorCode::PLUGIN_NOT_AVAILABLE, error.msg()).with_details(error.details()),
    }
}
