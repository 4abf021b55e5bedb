//! Asking the kernel, one look-up after the other, as a packet would have it looked up.

use std::net::IpAddr;

use netops::{
    Answer, ChainName, EntryKey, Family, ForeignChain, ForwardJump, IpVersion, Kernel, LinkName, LinkState,
    LinuxKernel, NeighbourState, Place, Query, Reachability, RouteKind, RouteLookup, SysctlKey, read_link,
};

use super::ends::HerePod;
use super::facts::{Bridge, Interface, Kind, Known, Leg, LocalPod, Neighbour, Node, Tunnel, Way};
use super::pods;
use crate::failure::Failure;

/// Where the plugin `firewall` lets the administrator have the first word, if its configuration names no other chain.
const ADMIN_CHAIN: &str = "CNI-ADMIN";

/// What one packet meets on this node.
#[derive(Debug, Default)]
pub(super) struct Met {
    pub(super) source: Option<IpAddr>,
    pub(super) pod: Option<Leg>,
    pub(super) host_end: Option<Interface>,
    pub(super) bridge: Option<Bridge>,
    pub(super) node: Option<Node>,
    pub(super) neighbour_pod: Option<LocalPod>,
}

/// Looks up the way of what the node itself sends.
pub(super) fn from_node(to: IpAddr, pods: &[HerePod]) -> Result<Met, Failure> {
    let mut host = Host::new(pods)?;
    let (leg, source) = host.way(RouteLookup::to(to))?;
    let node = host.node(leg, None, None, to)?;
    let neighbour_pod = host.pod_with(to, None)?;
    Ok(Met { source, node: Some(node), neighbour_pod, ..Met::default() })
}

/// Looks up the way of what a pod sends: one of several interfaces of it, as its own table says.
pub(super) fn from_pod(interfaces: &[HerePod], to: IpAddr, pods: &[HerePod]) -> Result<Met, Failure> {
    let mut host = Host::new(pods)?;
    let mut met = Met::default();
    let inside = interfaces.iter().find_map(|pod| pods::namespace(pod, &host.links));
    let Some(namespace) = inside else {
        let pod = interfaces.first();
        met.source = pod.and_then(|pod| pod.address_like(to));
        let end = pod.and_then(|pod| host.named(pod.host_interface.as_deref()?));
        host.enter_by(end, &mut met, to)?;
        return Ok(met);
    };
    let mut kernel = LinuxKernel::new(Some(namespace));
    let from = match interfaces {
        [only] => only.address_like(to),
        _ => None,
    };
    let lookup = RouteLookup { from, ..RouteLookup::to(to) };
    let (mut leg, chosen) = way(&mut kernel, Place::Container, lookup)?;
    if leg.interface.is_none() {
        // Why there is no way may be seen at the pod's own interface.
        leg.interface = interfaces.first().and_then(|pod| interface_in(&mut kernel, &pod.interface));
    }
    met.source = from.or(chosen);
    let link = leg.way.as_ref().and_then(|way| way.link.clone());
    let is_sent = leg.way.as_ref().is_some_and(|way| way.kind == Kind::Sent);
    met.pod = Some(leg);
    let Some(link) = link.filter(|_| is_sent) else { return Ok(met) };
    let end = link_in(&mut kernel, &link).and_then(|own| host.other_end(&own));
    host.enter_by(end, &mut met, to)?;
    Ok(met)
}

/// The node's side of it.
struct Host<'a> {
    kernel: LinuxKernel,
    links: Vec<LinkState>,
    pods: &'a [HerePod],
}

impl<'a> Host<'a> {
    fn new(pods: &'a [HerePod]) -> Result<Self, Failure> {
        let mut kernel = LinuxKernel::new(None);
        let links = netops::read_links(&mut kernel, Place::Host)?;
        Ok(Self { kernel, links, pods })
    }

    fn named(&self, name: &str) -> Option<LinkState> {
        self.links.iter().find(|link| link.name.as_str() == name).cloned()
    }

    /// The other end of a pod's cable: each says that it is tied to the other.
    fn other_end(&self, inside: &LinkState) -> Option<LinkState> {
        let is_other = |link: &&LinkState| {
            link.peer_index == Some(inside.index)
                && inside.peer_index == Some(link.index)
                && link.peer_namespace.is_some()
        };
        self.links.iter().find(is_other).cloned()
    }

    /// From the host's end of a cable on.
    fn enter_by(&mut self, end: Option<LinkState>, met: &mut Met, to: IpAddr) -> Result<(), Failure> {
        let Some(end) = end else { return Ok(()) };
        met.host_end = Some(interface(&end));
        let bridge =
            end.master.and_then(|master| self.links.iter().find(|link| link.index == master).cloned());
        if let Some(bridge) = &bridge {
            let addresses = addresses(&mut self.kernel, &bridge.name)?;
            met.bridge = Some(Bridge { interface: interface(bridge), addresses });
        }
        let gateway = met.pod.as_ref().and_then(|leg| leg.way.as_ref()?.gateway);
        if gateway.is_none() && met.pod.is_some() && bridge.is_some() {
            // What is on the bridge itself is switched, not routed.
            met.neighbour_pod = self.pod_with(to, Some(&end))?;
            return Ok(());
        }
        let input = bridge.unwrap_or(end).name;
        let lookup = RouteLookup { from: met.source, input: Some(input.clone()), ..RouteLookup::to(to) };
        // The kernel refuses to look up what its reverse path filter would drop: the way is shown nevertheless.
        let (leg, _) = match self.way(lookup) {
            Ok(found) => found,
            Err(_) => self.way(RouteLookup::to(to))?,
        };
        met.node = Some(self.node(leg, Some(&input), met.source, to)?);
        met.neighbour_pod = self.pod_with(to, None)?;
        Ok(())
    }

    fn way(&mut self, lookup: RouteLookup) -> Result<(Leg, Option<IpAddr>), Failure> {
        way(&mut self.kernel, Place::Host, lookup)
    }

    /// What the node does with it, and a tunnel if there is one on the way.
    fn node(
        &mut self,
        leg: Leg,
        input: Option<&LinkName>,
        source: Option<IpAddr>,
        to: IpAddr,
    ) -> Result<Node, Failure> {
        let tunnel = match &leg.interface {
            Some(interface) if interface.kind == "vxlan" => Some(self.tunnel(&leg)?),
            _ => None,
        };
        let forwards = match input {
            Some(_) => Some(self.setting(&forwarding(to))?.as_deref() != Some("0")),
            None => None,
        };
        let back_by = match (input, source) {
            (Some(_), Some(source)) => self.way(RouteLookup::to(source))?.0.way.and_then(|way| way.link),
            _ => None,
        };
        let reverse_filter = match input.filter(|_| to.is_ipv4()) {
            Some(input) => self.reverse_filter(input)?,
            None => 0,
        };
        let dropped_by = match input {
            Some(_) => self.droppers(source, to)?,
            None => Vec::new(),
        };
        Ok(Node { forwards, reverse_filter, back_by, leg, tunnel, dropped_by })
    }

    /// The host's own chains that may drop it, but for that of `iptables` where the plugin `firewall` has made a way
    /// through for the pod.
    fn droppers(&mut self, source: Option<IpAddr>, to: IpAddr) -> Result<Vec<String>, Failure> {
        let chains = match self.ask(Query::Droppers)? {
            Some(Answer::Chains(chains)) => chains,
            _ => Vec::new(),
        };
        let other = if to.is_ipv4() { Family::Ipv6 } else { Family::Ipv4 };
        let mut found: Vec<_> = chains.into_iter().filter(|chain| chain.family != other).collect();
        if found.iter().any(is_iptables) && self.is_let_pass(source.unwrap_or(to))? {
            found.retain(|chain| !is_iptables(chain));
        }
        Ok(found.iter().map(|chain| format!("chain {chain}")).collect())
    }

    fn is_let_pass(&mut self, pod: IpAddr) -> Result<bool, Failure> {
        let Ok(admin_chain) = ChainName::new(ADMIN_CHAIN) else { return Ok(false) };
        let jump = ForwardJump { version: IpVersion::of(pod), admin_chain };
        let entry = self.ask(Query::Entry(EntryKey::Forwarded(pod)))?;
        let has_entry = matches!(entry, Some(Answer::Entries(entries)) if !entries.is_empty());
        Ok(has_entry && self.ask(Query::ForwardJump(jump))? == Some(Answer::Present(true)))
    }

    fn tunnel(&mut self, leg: &Leg) -> Result<Tunnel, Failure> {
        let known = leg.neighbour.as_ref().map(|neighbour| neighbour.known);
        let (Some(Known::As(mac)), Some(link)) = (known, leg.interface.as_ref()) else {
            return Ok(Tunnel { remote: None, underlay: None });
        };
        let link = link_name(&link.name)?;
        let entries = match self.ask(Query::FdbOf(link, mac))? {
            Some(Answer::Fdb(entries)) => entries,
            _ => Vec::new(),
        };
        let Some(remote) = entries.first().map(|entry| entry.remote) else {
            return Ok(Tunnel { remote: None, underlay: None });
        };
        let (underlay, _) = self.way(RouteLookup::to(remote))?;
        Ok(Tunnel { remote: Some(remote), underlay: Some(underlay) })
    }

    /// The pod of this node that has an address; with the port that it shares a bridge with, if it does.
    fn pod_with(&mut self, address: IpAddr, beside: Option<&LinkState>) -> Result<Option<LocalPod>, Failure> {
        let Some(pod) = self.pods.iter().find(|pod| pod.addresses.contains(&address)) else {
            return Ok(None);
        };
        let end = pod.host_interface.as_deref().and_then(|name| self.named(name));
        let is_kept_apart = match (&end, beside) {
            (Some(end), Some(beside)) => self.is_isolated(&end.name)? && self.is_isolated(&beside.name)?,
            _ => false,
        };
        Ok(Some(LocalPod { name: pod.label(), host_end: end.as_ref().map(interface), is_kept_apart }))
    }

    fn is_isolated(&mut self, port: &LinkName) -> Result<bool, Failure> {
        let answer = self.ask(Query::Port(port.clone()))?;
        Ok(matches!(answer, Some(Answer::Port(Some(port))) if port.isolated))
    }

    fn reverse_filter(&mut self, link: &LinkName) -> Result<u8, Failure> {
        let all = SysctlKey::new("net/ipv4/conf/all/rp_filter").ok();
        let own = Some(SysctlKey::ipv4(link, "rp_filter"));
        let mut strictest = 0;
        for key in all.into_iter().chain(own) {
            let value = self.setting(&key)?.and_then(|value| value.trim().parse().ok()).unwrap_or(0);
            strictest = strictest.max(value);
        }
        Ok(strictest)
    }

    fn setting(&mut self, key: &SysctlKey) -> Result<Option<String>, Failure> {
        match self.ask(Query::Sysctl(key.clone()))? {
            Some(Answer::Sysctl(value)) => Ok(value),
            _ => Ok(None),
        }
    }

    fn ask(&mut self, query: Query) -> Result<Option<Answer>, Failure> {
        Ok(self.kernel.read(Place::Host, &[query])?.into_iter().next())
    }
}

fn is_iptables(chain: &ForeignChain) -> bool {
    chain.table == "filter" && chain.name == "FORWARD"
}

/// One look-up, the interface that it leads to, and whoever is found there; and the source that the kernel chooses.
fn way(
    kernel: &mut LinuxKernel,
    place: Place,
    lookup: RouteLookup,
) -> Result<(Leg, Option<IpAddr>), Failure> {
    let to = lookup.to;
    let found = match kernel.read(place, &[Query::RouteTo(lookup)])?.into_iter().next() {
        Some(Answer::Way(found)) => found,
        _ => None,
    };
    let Some(found) = found else { return Ok((Leg { way: None, interface: None, neighbour: None }, None)) };
    let link = match &found.link {
        Some(name) => read_link(kernel, place, name)?,
        None => None,
    };
    let kind = kind(found.kind);
    let neighbour = match &link {
        Some(link) if kind == Kind::Sent && link.mac.is_some() => {
            neighbour(kernel, place, link, found.gateway.unwrap_or(to))?
        }
        _ => None,
    };
    let way = Way {
        kind,
        route: found.destination,
        next_hop: found.next_hop,
        gateway: found.gateway,
        link: found.link.map(|link| link.to_string()),
        mtu: found.mtu,
    };
    Ok((Leg { way: Some(way), interface: link.as_ref().map(interface), neighbour }, found.source))
}

fn neighbour(
    kernel: &mut LinuxKernel,
    place: Place,
    link: &LinkState,
    address: IpAddr,
) -> Result<Option<Neighbour>, Failure> {
    let query = Query::NeighbourOf(link.name.clone(), address);
    let states = match kernel.read(place, &[query])?.into_iter().next() {
        Some(Answer::Neighbours(states)) => states,
        _ => Vec::new(),
    };
    let known = match states.first() {
        Some(NeighbourState { reachability: Reachability::NoArp, .. }) => return Ok(None),
        Some(NeighbourState { reachability: Reachability::Failed, .. }) => Known::Failed,
        Some(NeighbourState { mac: Some(mac), .. }) => Known::As(*mac),
        _ => Known::NotYet,
    };
    Ok(Some(Neighbour { address, known }))
}

fn addresses(kernel: &mut LinuxKernel, link: &LinkName) -> Result<Vec<IpAddr>, Failure> {
    let answer = kernel.read(Place::Host, &[Query::Addresses(link.clone())])?.into_iter().next();
    Ok(match answer {
        Some(Answer::Addresses(addresses)) => addresses.iter().map(|address| address.net.addr()).collect(),
        _ => Vec::new(),
    })
}

fn link_in(kernel: &mut LinuxKernel, name: &str) -> Option<LinkState> {
    read_link(kernel, Place::Container, &LinkName::new(name).ok()?).ok()?
}

fn interface_in(kernel: &mut LinuxKernel, name: &str) -> Option<Interface> {
    link_in(kernel, name).as_ref().map(interface)
}

fn interface(link: &LinkState) -> Interface {
    Interface {
        name: link.name.to_string(),
        kind: link.kind.clone(),
        up: link.up,
        carrier: link.carrier,
        mtu: link.mtu,
    }
}

fn kind(kind: RouteKind) -> Kind {
    match kind {
        RouteKind::Unicast => Kind::Sent,
        RouteKind::Local => Kind::Local,
        RouteKind::Blackhole => Kind::Blackhole,
        RouteKind::Unreachable => Kind::Unreachable,
        RouteKind::Prohibited => Kind::Prohibited,
        _ => Kind::Other,
    }
}

fn forwarding(to: IpAddr) -> SysctlKey {
    if to.is_ipv4() { SysctlKey::ipv4_forwarding() } else { SysctlKey::ipv6_forwarding() }
}

fn link_name(name: &str) -> Result<LinkName, Failure> {
    LinkName::new(name).map_err(|error| Failure::new(crate::exit::Exit::Failed, error.to_string()))
}

/// Where a packet for an address could be sent from, in a pod: whether the pod has an address of its family.
pub(super) fn speaks(interfaces: &[HerePod], to: IpAddr) -> bool {
    interfaces.iter().any(|pod| pod.address_like(to).is_some())
}
