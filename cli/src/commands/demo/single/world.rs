//! The scene: a node, which is this process, what is outside of it, and pods that wait to be attached.

use std::path::Path;
use std::time::Instant;

use cni_spec::runtime::{Attachment, Runtime};
use cni_spec::{AddResult, Env, IpConfig, NetworkList, ProcessExec};
use ipam::{BootId, DirStore};
use ipnet::IpNet;
use netops::{
    Address, EntryKind, Kernel, Link, LinkKind, LinkName, LinuxKernel, Namespace, Place, Plan, Resource,
    Sysctl, SysctlKey, VethPeer, read_entries, read_link, read_links,
};
use plugin_kit::{DuplicateDetection, PrefixRoutes};
use serde_json::Value;

use super::super::namespaces::{link_name, path_of};
use super::super::seclusion::seclude;
use super::recorder::{Calls, Recorder};
use super::report::{OUTSIDE, Remains, Setting};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::network;
use plugins::InProcess;

/// Addresses for documentation (RFC 5737, RFC 3849): nobody's.
const OUTSIDE_ADDRESSES: [&str; 2] = ["192.0.2.1/24", "2001:db8::1/64"];
const UPLINK_ADDRESSES: [&str; 2] = ["192.0.2.2/24", "2001:db8::2/64"];
/// The node's way out.
const UPLINK: &str = "uplink";
/// A pod's interface, as every runtime calls it.
const POD_INTERFACE: &str = "eth0";

/// The scene, and the runtime that acts in it.
pub(super) struct World {
    pub(super) setting: Setting,
    pub(super) outside: Namespace,
    pub(super) pods: Vec<Pod>,
    pub(super) list: NetworkList,
    pub(super) runtime: Runtime,
    pub(super) calls: Calls,
    data_dir: String,
}

/// A container that is to be attached.
pub(super) struct Pod {
    pub(super) name: String,
    pub(super) namespace: Namespace,
    pub(super) netns: String,
    pub(super) attachment: Attachment,
}

impl World {
    /// Leaves the host, and makes everything but the attachments.
    pub(super) fn new(pods: u8) -> Result<Self, Failure> {
        let start = Instant::now();
        let seclusion = seclude()?;
        let outside = Namespace::create()?;
        let (outside_addresses, uplink_addresses) = lay_uplink(&outside)?;
        let pods = (1..=pods).map(Pod::new).collect::<Result<_, _>>()?;

        let data_dir = seclusion.dir.join("networks").display().to_string();
        let list = with_data_dir(network::built_in()?, &data_dir)?;
        let calls = Calls::default();
        let exec = Recorder::new(InProcess::new(ProcessExec::new()), calls.clone());
        let runtime = Runtime::new(Env::default())
            .with_cache_dir(seclusion.dir.join("cache"))
            .with_exec(Box::new(exec));
        let setting = Setting {
            rights: seclusion.rights,
            pid: std::process::id(),
            network: Value::Object(list.document.clone()),
            outside_netns: path_of(&outside),
            outside_addresses,
            uplink: UPLINK.to_owned(),
            uplink_addresses,
            took: start.elapsed(),
        };
        Ok(Self { setting, outside, pods, list, runtime, calls, data_dir })
    }

    /// Looks for whatever the attachments may have left.
    pub(super) fn remains(&self) -> Result<Remains, Failure> {
        let mut remains = Remains::default();
        for pod in &self.pods {
            let mut kernel = LinuxKernel::new(Some(Namespace::open(&pod.netns)?));
            let links = read_links(&mut kernel, Place::Container)?;
            let others = links.iter().filter(|link| link.name != LinkName::loopback());
            remains.pod_interfaces.extend(others.map(|link| format!("{} in {}", link.name, pod.name)));
        }
        let mut kernel = LinuxKernel::new(None);
        let links = read_links(&mut kernel, Place::Host)?;
        let others = links.iter().filter(|link| {
            link.name != LinkName::loopback() && link.name.as_str() != UPLINK && link.kind != "bridge"
        });
        remains.node_interfaces.extend(others.map(|link| link.name.to_string()));
        let entries = read_entries(&mut kernel, EntryKind::ALL)?;
        remains.entries.extend(entries.iter().map(ToString::to_string));
        let attachments = self.runtime.attachments()?.attachments;
        remains.cached_results.extend(attachments.iter().map(|cached| cached.identity().to_string()));
        remains.leases = self.leases()?;
        Ok(remains)
    }

    fn leases(&self) -> Result<Vec<String>, Failure> {
        let boot = BootId::current()
            .map_err(|error| Failure::new(Exit::Failed, format!("read the boot ID: {error}")))?;
        match DirStore::open(Path::new(&self.data_dir), self.list.name.as_str(), &boot) {
            Ok(store) => Ok(ipam::leases(&store)?.iter().map(|lease| lease.address.to_string()).collect()),
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Pod {
    fn new(number: u8) -> Result<Self, Failure> {
        let name = format!("pod-{number}");
        let namespace = Namespace::create()?;
        let netns = path_of(&namespace);
        let wrong = |error: cni_spec::NameError| Failure::new(Exit::Failed, error.to_string());
        let id = name.parse().map_err(wrong)?;
        let attachment = Attachment::new(id, POD_INTERFACE.parse().map_err(wrong)?).with_netns(&netns);
        Ok(Self { name, namespace, netns, attachment })
    }
}

/// Wires the node to the outside, which knows the way to the node's own address and none to the pods'.
fn lay_uplink(outside: &Namespace) -> Result<(Vec<IpNet>, Vec<IpNet>), Failure> {
    let ipv6 = Path::new("/proc/sys/net/ipv6").exists();
    let parse = |texts: [&str; 2]| -> Vec<IpNet> {
        let nets = texts.iter().filter_map(|text| text.parse().ok());
        nets.filter(|net: &IpNet| ipv6 || net.addr().is_ipv4()).collect()
    };
    let (far, near) = (parse(OUTSIDE_ADDRESSES), parse(UPLINK_ADDRESSES));
    let uplink = link_name(UPLINK)?;
    let end = link_name(POD_INTERFACE)?;

    let mut plan = Plan::new();
    let peer = VethPeer { place: Place::Container, name: end.clone(), mtu: None, mac: None };
    plan.own(Place::Host, Resource::LinkUp(LinkName::loopback()));
    plan.own(Place::Host, Resource::Link(Link::new(uplink.clone(), LinkKind::Veth { peer })));
    // Or else nothing is forwarded for the two seconds in which the interface asks whether its own link-local address
    // is somebody else's.
    let no_detection = Sysctl::optional(SysctlKey::ipv6(&uplink, "accept_dad"), 0);
    plan.own(Place::Host, Resource::Sysctl(no_detection));
    for net in &near {
        plan.own(Place::Host, Resource::Address(Address::new(uplink.clone(), *net)));
    }
    plan.own(Place::Host, Resource::LinkUp(uplink.clone()));
    let ips = far.iter().map(|net| IpConfig::new(*net)).collect();
    let addresses = AddResult { ips, ..AddResult::default() };
    let detection = DuplicateDetection::Skipped;
    plugin_kit::plan_addresses(&mut plan, &end, &addresses, detection, PrefixRoutes::Kernel);
    plugin_kit::plan_readiness(&mut plan, &end, &addresses, detection);

    let mut kernel = LinuxKernel::new(Some(Namespace::open(path_of(outside))?));
    plan.apply(&mut kernel)
        .map_err(|error| Failure::new(Exit::Failed, format!("wire the node to the {OUTSIDE}: {error}")))?;
    // The kernel takes note of a cable that is plugged in when it finds the time, or is asked (`rtnl_getlink()`); and
    // answers for an IPv6 address when it has then joined the address's multicast group.
    for (place, link) in [(Place::Container, end), (Place::Host, uplink)] {
        read_link(&mut kernel, place, &link)?;
        let settled = Resource::Settled(link);
        kernel.create(place, &[&settled]).into_iter().try_for_each(|created| created.map(drop))?;
    }
    Ok((far, near))
}

/// The built-in network, with its leases where nobody else's are.
fn with_data_dir(list: NetworkList, data_dir: &str) -> Result<NetworkList, Failure> {
    let mut document = Value::Object(list.document);
    for ipam in document
        .get_mut("plugins")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
        .filter_map(|plugin| plugin.get_mut("ipam")?.as_object_mut())
    {
        ipam.insert("dataDir".to_owned(), data_dir.into());
    }
    Ok(NetworkList::from_json(document.to_string().as_bytes())?)
}
