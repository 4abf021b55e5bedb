//! The scene: a segment, which is this process's own namespace, and nodes on it, each a namespace with an agent.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cni_spec::runtime::{Attachment, Runtime};
use cni_spec::{AddResult, Env, IpConfig, NetworkList, ProcessExec};
use ipnet::{IpNet, Ipv4Net};
use netops::{
    Kernel, Link, LinkKind, LinkName, LinuxKernel, Namespace, Place, Plan, Resource, VethPeer, read_link,
};
use plugin_kit::{DuplicateDetection, PrefixRoutes};
use serde_json::json;

use super::super::namespaces::{link_name, path_of};
use super::super::seclusion::{Rights, seclude};
use crate::exit::Exit;
use crate::failure::Failure;
use plugins::InProcess;

/// The network's name.
pub(super) const NETWORK: &str = "podnet";
/// What all nodes are plugged into.
pub(super) const SEGMENT: &str = "segment";
/// A node's interface on the segment, and a pod's in the network.
pub(super) const INTERFACE: &str = "eth0";
/// The name of the node that passes on what others send.
pub(super) const ROUTER: &str = "router";
/// The segment's prefix, the first node's address in it, and the router's.
const PREFIX: u8 = 24;
const FIRST: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 11);
const ROUTERS: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);

/// The scene.
pub(super) struct World {
    pub(super) rights: Rights,
    /// A directory in memory that no other process sees, but for children.
    pub(super) dir: PathBuf,
    pub(super) segment: Namespace,
    pub(super) nodes: Vec<Node>,
    pub(super) took: Duration,
}

/// A node.
pub(super) struct Node {
    pub(super) name: String,
    pub(super) address: IpAddr,
    pub(super) is_router: bool,
    pub(super) namespace: Namespace,
    pub(super) netns: String,
    /// Its end of the cable, on the segment.
    pub(super) port: LinkName,
    /// What its runtime has.
    pub(super) list: NetworkList,
    pub(super) runtime: Runtime,
    /// Where its plugins keep leases, and its runtime what it has attached.
    pub(super) data_dir: PathBuf,
    pub(super) cache_dir: PathBuf,
    /// Where its agent keeps what it knows, and where it answers.
    pub(super) state_dir: PathBuf,
    pub(super) run_dir: PathBuf,
}

/// A container.
pub(super) struct Pod {
    pub(super) name: String,
    /// The place of its node in [`World::nodes`].
    pub(super) node: usize,
    pub(super) namespace: Namespace,
    pub(super) netns: String,
    pub(super) attachment: Attachment,
}

impl World {
    /// Leaves the host, and makes the segment and the nodes, without agents.
    pub(super) fn new(nodes: u8, with_router: bool) -> Result<Self, Failure> {
        let start = Instant::now();
        let seclusion = seclude()?;
        make_segment()?;
        let workers = (1..=nodes).map(|number| (format!("n{number}"), address(number), false));
        let router = with_router.then(|| (ROUTER.to_owned(), IpAddr::V4(ROUTERS), true));
        let all = workers.chain(router);
        let nodes = all.map(|(name, address, is_router)| Node::new(&seclusion.dir, name, address, is_router));
        let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            rights: seclusion.rights,
            dir: seclusion.dir,
            segment: Namespace::current()?,
            nodes,
            took: start.elapsed(),
        })
    }

    /// The nodes that have pods.
    pub(super) fn workers(&self) -> impl Iterator<Item = (usize, &Node)> {
        self.nodes.iter().enumerate().filter(|(_, node)| !node.is_router)
    }

    /// Pulls a node's cable out of the segment, or plugs it in again.
    pub(super) fn plug(&self, node: &Node, plugged: Plugged) -> Result<(), Failure> {
        let port = match plugged {
            Plugged::In => Resource::LinkUp(node.port.clone()),
            Plugged::Out => Resource::LinkDown(node.port.clone()),
        };
        let mut kernel = LinuxKernel::new(None);
        kernel.create(Place::Host, &[&port]).into_iter().try_for_each(|done| done.map(drop))?;
        Ok(())
    }
}

/// Whether a cable is in its socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plugged {
    In,
    Out,
}

impl Node {
    fn new(dir: &Path, name: String, address: IpAddr, is_router: bool) -> Result<Self, Failure> {
        let namespace = Namespace::create()?;
        let port = link_name(&name)?;
        plug_in(&namespace, &port, address)?;
        let dir = dir.join(&name);
        let run_dir = dir.join("run");
        let (data_dir, cache_dir) = (dir.join("leases"), dir.join("cache"));
        let list = network(&run_dir, &data_dir)?;
        let runtime = Runtime::new(Env::default())
            .with_cache_dir(&cache_dir)
            .with_exec(Box::new(InProcess::new(ProcessExec::new())));
        Ok(Self {
            netns: path_of(&namespace),
            state_dir: dir.join("state"),
            data_dir,
            cache_dir,
            name,
            address,
            is_router,
            namespace,
            port,
            list,
            runtime,
            run_dir,
        })
    }

    /// `ADD` by the node's runtime.
    pub(super) fn attach(&self, pod: &Pod) -> Result<AddResult, Failure> {
        Ok(self.namespace.enter(|| self.runtime.add(&self.list, &pod.attachment))??)
    }

    /// `DEL` by the node's runtime.
    pub(super) fn detach(&self, pod: &Pod) -> Result<(), Failure> {
        Ok(self.namespace.enter(|| self.runtime.del(&self.list, &pod.attachment))??)
    }
}

impl Pod {
    /// An empty namespace: `pod-1a` is the first on node 1.
    pub(super) fn new(node: usize, number: usize) -> Result<Self, Failure> {
        let name = format!("pod-{}{}", node + 1, letters(number));
        let namespace = Namespace::create()?;
        let netns = path_of(&namespace);
        let wrong = |error: cni_spec::NameError| Failure::new(Exit::Failed, error.to_string());
        let id = name.parse().map_err(wrong)?;
        let attachment = Attachment::new(id, INTERFACE.parse().map_err(wrong)?)
            .with_netns(&netns)
            .with_arg("IgnoreUnknown", "true")
            .with_arg("K8S_POD_NAMESPACE", "demo")
            .with_arg("K8S_POD_NAME", &name);
        Ok(Self { name, node, namespace, netns, attachment })
    }
}

/// a, b, … z, aa, ab, …
fn letters(number: usize) -> String {
    let last = char::from(b'a' + u8::try_from(number % 26).unwrap_or_default());
    match number / 26 {
        0 => last.to_string(),
        more => format!("{}{last}", letters(more - 1)),
    }
}

fn address(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(FIRST.to_bits() + u32::from(number) - 1))
}

/// The network as a node's runtime is told of it.
fn network(run_dir: &Path, data_dir: &Path) -> Result<NetworkList, Failure> {
    let list = json!({
        "cniVersion": "1.1.0",
        "name": NETWORK,
        "plugins": [
            {"type": "overlay", "agentDirectory": run_dir, "dataDir": data_dir},
            {"type": "loopback"},
        ],
    });
    Ok(NetworkList::from_json(list.to_string().as_bytes())?)
}

fn make_segment() -> Result<(), Failure> {
    let segment = link_name(SEGMENT)?;
    let mut plan = Plan::new();
    plan.own(Place::Host, Resource::LinkUp(LinkName::loopback()));
    plan.own(
        Place::Host,
        Resource::Link(Link::new(segment.clone(), LinkKind::Bridge { vlan_filtering: false })),
    );
    plan.own(Place::Host, Resource::LinkUp(segment));
    plan.apply(&mut LinuxKernel::new(None)).map_err(|error| failed("make the segment", &error))?;
    Ok(())
}

/// A cable between the segment and a node.
fn plug_in(namespace: &Namespace, port: &LinkName, address: IpAddr) -> Result<(), Failure> {
    let end = link_name(INTERFACE)?;
    let peer = VethPeer { place: Place::Container, name: end.clone(), mtu: None, mac: None };
    let cable = Link {
        up: true,
        master: Some(link_name(SEGMENT)?),
        ..Link::new(port.clone(), LinkKind::Veth { peer })
    };
    let mut plan = Plan::new();
    plan.own(Place::Container, Resource::LinkUp(LinkName::loopback()));
    plan.own(Place::Host, Resource::Link(cable));
    let net = IpNet::from(match address {
        IpAddr::V4(address) => Ipv4Net::new_assert(address, PREFIX),
        IpAddr::V6(_) => return Err(Failure::new(Exit::Failed, "the segment speaks IPv4")),
    });
    let addresses = AddResult { ips: vec![IpConfig::new(net)], ..AddResult::default() };
    let detection = DuplicateDetection::Skipped;
    plugin_kit::plan_addresses(&mut plan, &end, &addresses, detection, PrefixRoutes::Kernel);
    plugin_kit::plan_readiness(&mut plan, &end, &addresses, detection);
    let mut kernel = LinuxKernel::new(Some(Namespace::open(path_of(namespace))?));
    plan.apply(&mut kernel).map_err(|error| failed("plug a node into the segment", &error))?;
    // The kernel takes note of a cable that is plugged in when it finds the time, or is asked (`rtnl_getlink()`).
    read_link(&mut kernel, Place::Container, &end)?;
    read_link(&mut kernel, Place::Host, port)?;
    Ok(())
}

fn failed(what: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Failed, format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_of_a_node_are_lettered() {
        assert_eq!([0, 1, 25, 26, 52].map(letters), ["a", "b", "z", "aa", "ba"]);
    }

    #[test]
    fn nodes_are_where_everybody_expects_them() {
        assert_eq!([1, 3].map(|number| address(number).to_string()), ["192.168.1.11", "192.168.1.13"]);
    }
}
