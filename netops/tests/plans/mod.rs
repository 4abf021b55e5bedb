//! Plans at random: all kinds of resources, in orders and places in which Linux takes them.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use netops::*;
use proptest::prelude::*;

/// What a plan is made from. Each bit is a choice; none is the simplest plan, so that failures shrink towards it.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    /// Tells containers of one node apart.
    pub(crate) pod: u8,
    /// Choices about the node.
    pub(crate) node: u32,
    /// Choices about each cable.
    pub(crate) cables: Vec<u32>,
}

/// Recipes for the one container `pod` of a node.
pub(crate) fn recipes(pod: u8) -> impl Strategy<Value = Recipe> {
    (any::<u32>(), prop::collection::vec(any::<u32>(), 0..3)).prop_map(move |(node, cables)| Recipe {
        pod,
        node,
        cables,
    })
}

impl Recipe {
    /// The plan.
    pub(crate) fn plan(&self) -> Plan {
        let mut plan = Plan::new();
        let bridge = chosen(self.node, 0).then(|| add_node(&mut plan, self.node));
        if chosen(self.node, 1) {
            plan.own(Place::Container, Resource::LinkUp(LinkName::loopback()));
        }
        if chosen(self.node, 2) {
            plan.share(Place::Host, Resource::Sysctl(Sysctl::new(SysctlKey::ipv4_forwarding(), 1)));
        }
        if chosen(self.node, 3) {
            plan.share(Place::Host, Resource::Sysctl(Sysctl::new(SysctlKey::ipv6_forwarding(), 1)));
        }
        for (n, choices) in self.cables.iter().enumerate() {
            Cable { pod: self.pod, number: n as u8, choices: *choices, limited: chosen(self.node, 12) }
                .add_to(&mut plan, bridge.as_ref());
        }
        plan
    }
}

/// The bridge, its addresses: what all containers of the node share.
fn add_node(plan: &mut Plan, node: u32) -> LinkName {
    let name = link("br0");
    let mut bridge = Link::new(name.clone(), LinkKind::Bridge { vlan_filtering: false });
    bridge.mac = Some(MacAddr::new([0x02, 0, 0, 0, 0, 0xfe]));
    bridge.ignore_router_advertisements = chosen(node, 8);
    plan.share(Place::Host, Resource::Link(bridge));
    if chosen(node, 9) {
        plan.share(Place::Host, Resource::Promiscuous(name.clone()));
    }
    plan.share(Place::Host, Resource::LinkUp(name.clone()));
    if chosen(node, 10) {
        plan.share(Place::Host, Resource::Address(address(&name, "10.50.0.1/24")));
    }
    if chosen(node, 11) {
        plan.share(Place::Host, Resource::Address(address(&name, "fd50::1/64")));
    }
    for (choice, neighbours) in [(12, Neighbours::Reachable), (13, Neighbours::Unreachable)] {
        if chosen(node, choice) {
            plan.share(Place::Host, Resource::Isolation(Isolation { bridge: name.clone(), neighbours }));
        }
    }
    name
}

struct Cable {
    pod: u8,
    number: u8,
    choices: u32,
    /// What goes through it is limited.
    limited: bool,
}

impl Cable {
    fn add_to(&self, plan: &mut Plan, bridge: Option<&LinkName>) {
        let host_end = link(&format!("veth{}x{}", self.pod, self.number));
        let inside = link(&format!("eth{}", self.number));
        // Which end is the main one; only that can have a master.
        let from_container = self.chosen(0) && bridge.is_none();
        let (place, name, peer_place, peer_name) = if from_container {
            (Place::Container, inside.clone(), Place::Host, host_end.clone())
        } else {
            (Place::Host, host_end.clone(), Place::Container, inside.clone())
        };
        let mtu = self.chosen(1).then_some(1400);
        let mac = |end: u8| MacAddr::new([0x02, 0, 0, self.pod, self.number, end]);
        let peer = VethPeer { place: peer_place, name: peer_name, mtu, mac: self.chosen(2).then(|| mac(2)) };
        let mut cable = Link::new(name, LinkKind::Veth { peer });
        cable.mtu = mtu;
        cable.mac = self.chosen(3).then(|| mac(1));
        cable.up = self.chosen(4) && !from_container;
        cable.master = bridge.filter(|_| !from_container).cloned();
        cable.mark = self.chosen(5).then(|| self.mark());
        cable.ignore_router_advertisements = self.chosen(6);
        let (enslaved, host_end_up) = (cable.master.is_some(), cable.up);
        plan.own(place, Resource::Link(cable));
        if !host_end_up {
            plan.own(Place::Host, Resource::LinkUp(host_end.clone()));
        }
        if enslaved && self.chosen(7) {
            plan.own(
                Place::Host,
                Resource::Port(Port {
                    link: host_end.clone(),
                    hairpin: self.chosen(8),
                    isolated: self.chosen(9),
                    vlans: Vec::new(),
                    drop_default_vlan: false,
                }),
            );
        }
        self.add_inside(plan, &inside);
        self.add_outside(plan, &host_end);
    }

    /// What is in the container.
    fn add_inside(&self, plan: &mut Plan, eth: &LinkName) {
        let mut own = |resource| {
            plan.own(Place::Container, resource);
        };
        if self.chosen(10) {
            own(Resource::Sysctl(Sysctl::new(SysctlKey::ipv4(eth, "arp_notify"), 1)));
            own(Resource::Sysctl(Sysctl::optional(SysctlKey::ipv6(eth, "accept_dad"), 0)));
        }
        if self.chosen(11) {
            own(Resource::Sysctl(Sysctl::optional(SysctlKey::ipv6(eth, "no_such_setting"), 0)));
        }
        // Addresses come before the link is up, or after.
        let up = Resource::LinkUp(eth.clone());
        if self.chosen(12) {
            own(up.clone());
        }
        let (v4, v6) = (self.chosen(13), self.chosen(14));
        if v4 {
            let prefix_route = !self.chosen(15);
            own(Resource::Address(Address { prefix_route, ..address(eth, &format!("{}/24", self.v4(10))) }));
            if self.chosen(16) {
                own(Resource::Address(address(eth, &format!("{}/24", self.v4(100)))));
            }
        }
        if v6 {
            let detect_duplicates = self.chosen(17);
            own(Resource::Address(Address {
                detect_duplicates,
                ..address(eth, &format!("{}/64", self.v6()))
            }));
            if detect_duplicates && self.chosen(18) && self.chosen(12) {
                own(Resource::Settled(eth.clone()));
            }
        }
        if !self.chosen(12) {
            own(up);
        }
        if v4 {
            let gateway: IpAddr = "10.50.0.1".parse().unwrap();
            let reachable = !self.chosen(15);
            if self.chosen(19) {
                let route = Route {
                    mtu: self.chosen(21).then_some(1300),
                    advmss: self.chosen(22).then_some(1200),
                    source: self.chosen(23).then(|| self.v4(10)),
                    ..Route::new(net("0.0.0.0/0"), Some(gateway), eth.clone())
                };
                own(Resource::Route(if !reachable || self.chosen(20) { route.onlink() } else { route }));
            }
            if self.chosen(24) {
                own(Resource::Route(Route {
                    metric: self.chosen(25).then_some(7),
                    table: self.chosen(26).then_some(1000),
                    ..Route::new(net(&format!("10.6{}.0.0/16", self.number)), None, eth.clone())
                }));
            }
        }
        if self.chosen(31) {
            let table = 1000 + u32::from(self.number);
            for (from, given) in [(IpNet::from(self.v4(10)), v4), (IpNet::from(self.v6()), v6)] {
                own(Resource::Rule(Rule { priority: given.then_some(500), ..Rule::from(from, table) }));
            }
        }
        if v6 && self.chosen(27) {
            let gateway = if self.chosen(28) { "fe80::1" } else { "fd50::1" };
            own(Resource::Route(Route {
                metric: Some(100 + u32::from(self.number)),
                ..Route::new(net("::/0"), Some(gateway.parse().unwrap()), eth.clone())
            }));
        }
        if v4 && self.chosen(31) && !self.chosen(15) {
            // The route that came with the address is moved to another table.
            let connected = Route {
                source: Some(self.v4(10)),
                scope: Some(253),
                protocol: Some(2),
                ..Route::new(net("10.50.0.0/24"), None, eth.clone())
            };
            own(Resource::Route(Route { table: Some(1000 + u32::from(self.number)), ..connected.clone() }));
            own(Resource::NoRoute(connected));
        }
    }

    /// What is on the node, but for the cable.
    fn add_outside(&self, plan: &mut Plan, host_end: &LinkName) {
        let mut masquerade = |source, within| {
            plan.own(
                Place::Host,
                Resource::from(Masquerade { source, within: net(within), mark: self.mark() }),
            );
        };
        if self.chosen(29) {
            masquerade(self.v4(10), "10.50.0.0/24");
            masquerade(self.v6(), "fd50::/64");
        }
        if self.chosen(30) {
            let mac = MacAddr::new([0x02, 0, 0, self.pod, self.number, 2]);
            let check = SpoofCheck { port: host_end.clone(), mac, mark: self.mark() };
            plan.own(Place::Host, Resource::from(check));
        }
        if self.chosen(31) {
            self.add_ports(plan);
            for address in [self.v4(10), self.v6()] {
                plan.own(Place::Host, Resource::from(Forwarded { address, mark: self.mark() }));
            }
        }
        if self.limited {
            self.shape(plan, host_end);
        }
    }

    /// Ports of the node that lead to the container.
    fn add_ports(&self, plan: &mut Plan) {
        let port = 8000 + 100 * u16::from(self.pod) + 10 * u16::from(self.number);
        let map = |transport, host: &str, to: IpAddr| {
            let from = IpNet::new(to, if to.is_ipv4() { 24 } else { 64 }).unwrap();
            PortMapping {
                port: HostPort {
                    transport,
                    address: SocketAddr::new(host.parse().unwrap(), port),
                    spare: self.chosen(5),
                },
                to: SocketAddr::new(to, 80),
                masquerade: self.chosen(4).then_some(PortMasquerade { from, bit: 13 }),
                conditions: Vec::new(),
                mark: self.mark(),
            }
        };
        let condition = |what, inverted| Condition { what, inverted };
        let mappings = [
            map(Transport::Tcp, "0.0.0.0", self.v4(10)),
            map(Transport::Udp, "::", self.v6()),
            PortMapping {
                masquerade: Some(PortMasquerade { from: net("0.0.0.0/0"), bit: 14 }),
                ..map(Transport::Sctp, "192.0.2.1", self.v4(10))
            },
            PortMapping {
                conditions: vec![
                    condition(Aspect::Source(net("fd00::7/64")), true),
                    condition(Aspect::Interface(link("up-link_0.1")), false),
                ],
                ..map(Transport::Tcp, "2001:db8::1", self.v6())
            },
        ];
        for mapping in mappings {
            plan.own(Place::Host, Resource::from(mapping));
        }
    }

    /// Limits what goes out of the host's end, and what comes in by it.
    fn shape(&self, plan: &mut Plan, host_end: &LinkName) {
        let mut own = |resource| _ = plan.own(Place::Host, resource);
        let ifb = link(&format!("ifb{}x{}", self.pod, self.number));
        own(Resource::Link(Link {
            mtu: self.chosen(1).then_some(1400),
            mac: Some(MacAddr::new([0x02, 0, 0, self.pod, self.number, 3])),
            up: true,
            mark: Some(self.mark()),
            ..Link::new(ifb.clone(), LinkKind::Ifb)
        }));
        for link in [host_end, &ifb] {
            let bucket = TokenBucket { rate: 1_250_000, burst: 10_000, limit: 41_250 };
            own(Resource::Qdisc(Qdisc { link: link.clone(), discipline: Discipline::TokenBucket(bucket) }));
        }
        own(Resource::Qdisc(Qdisc { link: host_end.clone(), discipline: Discipline::Ingress }));
        own(Resource::Redirect(Redirect { from: host_end.clone(), to: ifb }));
    }

    fn chosen(&self, choice: u32) -> bool {
        chosen(self.choices, choice)
    }

    fn v4(&self, base: u8) -> IpAddr {
        IpAddr::from([10, 50, 0, base + self.pod * 10 + self.number])
    }

    fn v6(&self) -> IpAddr {
        format!("fd50::{}:{}", self.pod, self.number + 10).parse().unwrap()
    }

    fn mark(&self) -> Mark {
        Mark::new(&format!("pod {} (\"it's\" $1) interface {}", self.pod, self.number)).unwrap()
    }
}

pub(crate) fn link(name: &str) -> LinkName {
    LinkName::new(name).unwrap()
}

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

pub(crate) fn address(link: &LinkName, text: &str) -> Address {
    Address::new(link.clone(), net(text))
}

fn chosen(choices: u32, choice: u32) -> bool {
    choices >> choice & 1 == 1
}
