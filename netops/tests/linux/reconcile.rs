//! The kernel is brought to a plan, whatever has become of it; and nothing of others' is touched.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use netops::*;
use serde_json::{Value, json};

use crate::in_lab;
use crate::support::{Lab, name};

const PROTOCOL: u8 = 87;
const TUNNEL: &str = "tun0";

fn scope() -> Scope {
    Scope { protocol: PROTOCOL, next_hops: 1000..=200_000, links: vec![name(TUNNEL)], tables: vec![254] }
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// Another machine, by its number.
#[derive(Debug, Clone, Copy)]
struct Peer {
    number: u32,
    /// Its address on the underlay.
    remote: Ipv4Addr,
}

impl Peer {
    fn new(number: u32) -> Self {
        Self { number, remote: Ipv4Addr::from(0xc000_0200 + number) }
    }

    fn gateway(self) -> IpAddr {
        Ipv6Addr::from((0xfe80_u128 << 112) | u128::from(self.number)).into()
    }

    fn mac(self) -> MacAddr {
        let [a, b, c, d] = self.number.to_be_bytes();
        MacAddr::new([2, 0, a, b, c, d])
    }

    /// An IPv4 route and an IPv6 route by one IPv6 next hop.
    fn steps(self) -> Vec<Resource> {
        let Self { number, remote } = self;
        let via = Via::Gateway { address: self.gateway(), link: name(TUNNEL), onlink: true };
        let id = 1000 + number;
        let v4 = IpNet::new(Ipv4Addr::from(0x0a00_0000 + (number << 8)).into(), 24).unwrap();
        let v6 = Ipv6Addr::from((0xfd00_u128 << 112) | (u128::from(number) << 64));
        let route = |destination| Route {
            protocol: Some(PROTOCOL),
            ..Route::to(destination, RouteTarget::NextHop(id))
        };
        vec![
            NextHop { id, via, protocol: PROTOCOL }.into(),
            NeighbourEntry {
                link: name(TUNNEL),
                address: self.gateway(),
                mac: self.mac(),
                protocol: PROTOCOL,
            }
            .into(),
            FdbEntry { link: name(TUNNEL), mac: self.mac(), remote: remote.into() }.into(),
            route(v4).into(),
            route(IpNet::new(v6.into(), 64).unwrap()).into(),
        ]
    }
}

fn fixtures() -> Plan {
    let vxlan = Vxlan { vni: 7, port: 8472, local: None, dont_fragment: DontFragment::Unset };
    let mac = Some(MacAddr::new([2, 0, 0, 0, 0, 1]));
    let link = Link { mac, mtu: Some(1450), up: true, ..Link::new(name(TUNNEL), LinkKind::Vxlan(vxlan)) };
    let mut plan = Plan::new();
    plan.share(Place::Host, Resource::Link(link));
    plan.share(Place::Host, Resource::Address(Address::new(name(TUNNEL), net("10.255.0.1/32"))));
    plan
}

fn plan(peers: impl IntoIterator<Item = Peer>) -> Plan {
    let mut plan = fixtures();
    for resource in peers.into_iter().flat_map(Peer::steps) {
        plan.own(Place::Host, resource);
    }
    plan
}

fn peers(numbers: std::ops::RangeInclusive<u32>) -> impl Iterator<Item = Peer> {
    numbers.map(Peer::new)
}

fn reconcile(lab: &mut Lab, plan: &Plan) -> Reconciled {
    plan.reconcile(&mut lab.kernel, &scope()).unwrap()
}

/// Brings about a plan, after which all is as it has it, and nothing is left to do.
fn bring_about(lab: &mut Lab, plan: &Plan) -> Reconciled {
    let done = reconcile(lab, plan);
    assert_eq!(done.failures, []);
    let again = reconcile(lab, plan);
    assert!(again.is_unchanged(), "{again:?}");
    assert_eq!(plan.check(&mut lab.kernel).unwrap(), []);
    done
}

fn counts(done: &Reconciled) -> (usize, usize, usize) {
    (done.made, done.changed, done.removed)
}

#[test]
fn what_is_missing_is_made_once() {
    in_lab!(|mut lab| {
        let done = bring_about(&mut lab, &plan(peers(1..=3)));
        assert_eq!(counts(&done), (17, 0, 0));
        assert!(done.log.contains(&"route 10.0.2.0/24 by next hop 1002 was missing".to_owned()), "{done:?}");
        let seen = lab.ip(Place::Host, "route show 10.0.2.0/24");
        assert_eq!(seen[0]["via"], json!({"family": "inet6", "host": "fe80::2"}));
    });
}

#[test]
fn what_differs_is_changed_and_what_is_stale_is_removed() {
    in_lab!(|mut lab| {
        bring_about(&mut lab, &plan(peers(1..=3)));
        // The second has another address, the third is gone, the fourth is new.
        let moved = Peer { remote: Ipv4Addr::new(198, 51, 100, 2), ..Peer::new(2) };
        let done = bring_about(&mut lab, &plan([Peer::new(1), moved, Peer::new(4)]));
        assert_eq!(counts(&done), (5, 1, 5), "{done:?}");
        let line = "FDB entry 02:00:00:00:00:02 of \"tun0\" was at 192.0.2.2, not at 198.51.100.2";
        assert!(done.log.contains(&line.to_owned()), "{done:?}");
        let done = bring_about(&mut lab, &plan([]));
        assert_eq!(counts(&done), (0, 0, 15));
        assert_eq!(lab.ip(Place::Host, "nexthop show"), json!([]));
        assert_eq!(lab.ip(Place::Host, "neighbour show nud permanent"), json!([]));
        let fdb: Value = serde_json::from_str(&lab.run(Place::Host, "bridge -j fdb show dev tun0")).unwrap();
        assert_eq!(fdb, json!([]));
    });
}

#[test]
fn nothing_of_others_is_touched() {
    in_lab!(|mut lab| {
        bring_about(&mut lab, &plan(peers(1..=2)));
        for command in [
            "ip link set lo up",
            // By its protocol, by its number, by its table: each is not ours.
            "ip route add 10.9.0.0/24 dev tun0 proto 88",
            "ip route add 10.9.0.0/24 dev tun0 proto 87 table 100",
            "ip nexthop add id 1500 blackhole proto 88",
            "ip nexthop add id 7 blackhole proto 87",
            "ip neighbour add 10.9.0.1 lladdr 02:00:00:00:09:01 dev tun0 nud permanent proto 88",
            // In the place of what is about to be wanted.
            "ip route add 10.0.3.0/24 dev tun0 proto 88",
            "ip -6 route add fd00:0:0:3::/64 dev tun0 proto 88",
        ] {
            lab.run(Place::Host, command);
        }
        let others = |lab: &Lab| {
            let all = [
                "route show proto 88",
                "-6 route show proto 88",
                "route show table 100",
                "neighbour show proto 88",
            ];
            all.map(|what| lab.ip(Place::Host, what))
        };
        let before = others(&lab);
        let done = reconcile(&mut lab, &plan(peers(2..=3)));
        assert_eq!(counts(&done), (3, 0, 5), "{done:?}");
        let found = "another program's route with metric";
        assert!(
            matches!(&done.failures[..], [Error::Conflict { found: a, .. }, Error::Conflict { found: b, .. }]
                if a.contains(found) && b.contains(found)),
            "{done:?}"
        );
        assert_eq!(others(&lab), before);
        // One of ours that another has taken its place in front of is not changed: the kernel would change the other.
        lab.run(Place::Host, "ip route prepend 10.0.2.0/24 dev tun0 proto 88");
        let before = others(&lab);
        let narrow = plan([Peer::new(2)]).steps().iter().fold(Plan::new(), |mut plan, step| {
            let resource = match &step.resource {
                Resource::Route(route) if route.destination.addr().is_ipv4() => {
                    Route { mtu: Some(1300), ..route.clone() }.into()
                }
                other => other.clone(),
            };
            plan.own(step.place, resource);
            plan
        });
        let done = reconcile(&mut lab, &narrow);
        assert_eq!((done.changed, done.failures.len()), (0, 1), "{done:?}");
        assert_eq!(others(&lab), before);
        assert!(lab.ip(Place::Host, "nexthop show id 1500")[0]["protocol"] == json!("88"));
        assert!(lab.ip(Place::Host, "nexthop show id 7")[0]["protocol"] == json!("87"));
    });
}

#[test]
fn a_tunnel_that_was_deleted_is_made_again_with_all_that_it_had() {
    in_lab!(|mut lab| {
        let plan = plan(peers(1..=3));
        let done = bring_about(&mut lab, &plan);
        lab.run(Place::Host, "ip link delete tun0");
        assert_eq!(counts(&bring_about(&mut lab, &plan)), counts(&done));
        // One of another network is made anew; other things are corrected.
        lab.run(Place::Host, "ip link delete tun0");
        lab.run(Place::Host, "ip link add tun0 type vxlan id 8 dstport 8472");
        let again = bring_about(&mut lab, &plan);
        assert_eq!((again.changed, again.made), (1, 16), "{again:?}");
        lab.run(Place::Host, "ip link set tun0 address 02:00:00:00:00:99");
        let again = bring_about(&mut lab, &plan);
        assert_eq!(again.log[0], "vxlan \"tun0\": MAC address was 02:00:00:00:00:99, not 02:00:00:00:00:01");
        // With the address the kernel forgets the neighbours (`neigh_changeaddr()`).
        assert_eq!((again.changed, again.made), (1, 3), "{again:?}");
        lab.run(Place::Host, "ip link set tun0 down");
        let again = bring_about(&mut lab, &plan);
        // The kernel keeps the FDB of an interface that is down, and its IPv4 addresses.
        assert_eq!((again.changed, again.made), (1, 12), "{again:?}");
    });
}

#[test]
fn what_others_do_to_ours_is_repaired() {
    in_lab!(|mut lab| {
        let plan = plan(peers(1..=3));
        bring_about(&mut lab, &plan);
        for (command, expected) in [
            ("ip route delete 10.0.2.0/24", (1, 0, 0)),
            ("ip route change 10.0.2.0/24 nhid 1003 proto 87", (0, 1, 0)),
            ("ip route add 10.77.0.0/24 nhid 1003 proto 87", (0, 0, 1)),
            ("ip nexthop replace id 1002 via fe80::9 dev tun0 onlink proto 87", (0, 1, 0)),
            ("ip nexthop delete id 1002", (3, 0, 0)),
            (
                "ip -6 neighbour replace fe80::2 lladdr 02:00:00:00:00:77 dev tun0 nud permanent proto 87",
                (0, 1, 0),
            ),
            ("ip -6 neighbour delete fe80::2 dev tun0", (1, 0, 0)),
            ("bridge fdb replace 02:00:00:00:00:02 dev tun0 dst 198.51.100.1 self permanent", (0, 1, 0)),
            ("bridge fdb add 02:00:00:00:00:88 dev tun0 dst 198.51.100.1 self permanent", (0, 0, 1)),
            ("ip address flush dev tun0 scope global", (1, 0, 0)),
        ] {
            lab.run(Place::Host, command);
            assert_eq!(counts(&bring_about(&mut lab, &plan)), expected, "{command}");
        }
    });
}

#[test]
fn a_next_hop_of_the_other_version_takes_its_place() {
    in_lab!(|mut lab| {
        bring_about(&mut lab, &plan([Peer::new(1)]));
        let mut other = fixtures();
        let [hop, neighbour, fdb, v4, v6] = Peer::new(1).steps().try_into().unwrap();
        let Resource::NextHop(hop) = hop else { panic!("{hop:?}") };
        let via = Via::Gateway { address: "10.255.0.2".parse().unwrap(), link: name(TUNNEL), onlink: true };
        for resource in [NextHop { via, ..hop }.into(), neighbour, fdb, v4] {
            other.own(Place::Host, resource);
        }
        let done = bring_about(&mut lab, &other);
        assert_eq!((done.changed, done.failures.len()), (1, 0), "{done:?}");
        drop(v6);
    });
}

#[test]
fn one_that_remembers_writes_only_what_has_changed_and_hears_of_the_rest() {
    in_lab!(|mut lab| {
        let mut watch = Watch::open(None).unwrap();
        watch.disregard(lab.kernel.port(Place::Host).unwrap());
        let mut reconciler = Reconciler::new(scope());
        let mut reconcile = |lab: &mut Lab, watch: &mut Watch, plan: &Plan| {
            let mut doubts = 0;
            for change in watch.read() {
                doubts += usize::from(reconciler.notice(&change));
            }
            let done = reconciler.reconcile(plan, &mut lab.kernel).unwrap();
            assert_eq!(done.failures, []);
            (counts(&done), doubts > 0)
        };
        let first = plan(peers(1..=3));
        assert_eq!(reconcile(&mut lab, &mut watch, &first), ((17, 0, 0), false));
        // Links and addresses that come are told of once.
        reconcile(&mut lab, &mut watch, &first);
        let second = plan(peers(1..=4));
        assert_eq!(reconcile(&mut lab, &mut watch, &second), ((5, 0, 0), false));
        assert_eq!(reconcile(&mut lab, &mut watch, &first), ((0, 0, 5), false));
        assert_eq!(reconcile(&mut lab, &mut watch, &first), ((0, 0, 0), false));
        for command in [
            "ip route delete 10.0.2.0/24",
            "ip nexthop replace id 1002 via fe80::9 dev tun0 onlink proto 87",
            "ip -6 neighbour delete fe80::2 dev tun0",
            "bridge fdb delete 02:00:00:00:00:02 dev tun0 self",
            "ip link set tun0 down",
        ] {
            lab.run(Place::Host, command);
            let (done, doubted) = reconcile(&mut lab, &mut watch, &first);
            assert!(done != (0, 0, 0) && doubted, "{command}: {done:?}");
            // What that did to the link is told of as well.
            reconcile(&mut lab, &mut watch, &first);
            assert_eq!(reconcile(&mut lab, &mut watch, &first), ((0, 0, 0), false), "{command}");
        }
        lab.run(Place::Host, "ip route add 203.0.113.0/24 dev tun0 proto 88");
        assert_eq!(reconcile(&mut lab, &mut watch, &first), ((0, 0, 0), false));
    });
}

#[test]
fn a_thousand_machines_are_no_trouble() {
    in_lab!(|mut lab| {
        let all = plan(peers(1..=1000));
        assert_eq!(counts(&bring_about_quickly(&mut lab, &all)), (5002, 0, 0));
        assert_eq!(counts(&bring_about_quickly(&mut lab, &plan(peers(1..=999)))), (0, 0, 5));
        // One request that is refused is the only one.
        lab.run(Place::Host, "ip route add 10.3.232.0/24 dev tun0 proto 88");
        let done = reconcile(&mut lab, &all);
        assert_eq!((done.made, done.failures.len()), (4, 1), "{done:?}");
        // So are many in one datagram.
        bring_about_quickly(&mut lab, &plan([]));
        lab.run(Place::Host, "ip link set tun0 down");
        let mut without_link = Plan::new();
        for resource in peers(1..=1000).flat_map(Peer::steps) {
            without_link.own(Place::Host, resource);
        }
        let done = reconcile(&mut lab, &without_link);
        // Neighbours and FDB entries need no interface that is up.
        assert_eq!((done.made, done.failures.len()), (2000, 3000), "{:?}", done.failures.first());
        assert!(done.failures.iter().all(|failure| failure.errno().is_some()));
    });
}

/// As [`bring_about`], without looking at each step by itself.
fn bring_about_quickly(lab: &mut Lab, plan: &Plan) -> Reconciled {
    let done = reconcile(lab, plan);
    assert_eq!(done.failures, []);
    assert!(reconcile(lab, plan).is_unchanged());
    done
}

/// One of two machines on a cable: its number, and the other's.
fn machine(own: u8, other: u8) -> Plan {
    let underlay = |number: u8| Ipv4Addr::new(192, 0, 2, number);
    let mac = |number: u8| MacAddr::new([2, 0, 0, 0, 1, number]);
    let address = |link: &LinkName, text: String| Resource::Address(Address::new(link.clone(), net(&text)));
    let (tunnel, lo, place) = (name(TUNNEL), LinkName::loopback(), Place::Host);
    let vxlan =
        Vxlan { vni: 7, port: 8472, local: Some(underlay(own).into()), dont_fragment: DontFragment::Inherit };
    let link = Link {
        mac: Some(mac(own)),
        mtu: Some(1450),
        up: true,
        ..Link::new(tunnel.clone(), LinkKind::Vxlan(vxlan))
    };
    let gateway: IpAddr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, other.into()).into();
    let via = Via::Gateway { address: gateway, link: tunnel.clone(), onlink: true };
    let route = |destination: String| Route {
        protocol: Some(PROTOCOL),
        ..Route::to(net(&destination), RouteTarget::NextHop(1000))
    };
    let mut plan = Plan::new();
    plan.share(place, Resource::LinkUp(lo.clone()))
        .share(place, address(&name("cable"), format!("{}/24", underlay(own))))
        .share(place, Resource::LinkUp(name("cable")))
        .share(place, Resource::Link(link))
        // As pods have them, and who answers for them is no matter to the tunnel.
        .share(place, address(&lo, format!("10.244.{own}.5/32")))
        .share(place, address(&lo, format!("fd00:{own}::5/128")))
        .own(place, NextHop { id: 1000, via, protocol: PROTOCOL }.into())
        .own(
            place,
            NeighbourEntry { link: tunnel.clone(), address: gateway, mac: mac(other), protocol: PROTOCOL }
                .into(),
        )
        .own(place, FdbEntry { link: tunnel, mac: mac(other), remote: underlay(other).into() }.into())
        .own(place, route(format!("10.244.{other}.0/24")).into())
        .own(place, route(format!("fd00:{other}::/64")).into());
    plan
}

#[test]
fn pods_of_two_machines_reach_each_other_whatever_becomes_of_the_tunnel() {
    in_lab!(|mut lab| {
        let peer = VethPeer { place: Place::Container, name: name("cable"), mtu: None, mac: None };
        let cable = Link::new(name("cable"), LinkKind::Veth { peer });
        lab.create(Place::Host, &Resource::Link(cable)).unwrap();
        let there = || {
            let mut kernel = LinuxKernel::new(None);
            machine(2, 1).reconcile(&mut kernel, &scope()).unwrap()
        };
        let here = machine(1, 2);
        let bring_about_both = |lab: &mut Lab| {
            let done = lab.container.enter(there).unwrap();
            assert_eq!(done.failures, []);
            assert_eq!(reconcile(lab, &here).failures, []);
        };
        // There and back, in IPv4 and in IPv6.
        let reaches = |lab: &Lab| {
            [("10.244.1.5", "10.244.2.5"), ("fd00:1::5", "fd00:2::5")].map(|(own, other)| {
                let bind = |address: &str| {
                    let socket = UdpSocket::bind((address, 7)).unwrap();
                    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
                    socket
                };
                let (ours, theirs) = (bind(own), lab.container.enter(|| bind(other)).unwrap());
                let talk = || -> std::io::Result<()> {
                    ours.send_to(b"who is there", theirs.local_addr()?)?;
                    let (_, from) = theirs.recv_from(&mut [0; 100])?;
                    theirs.send_to(b"I", from)?;
                    ours.recv(&mut [0; 100])?;
                    Ok(())
                };
                talk().is_ok()
            })
        };
        bring_about_both(&mut lab);
        // A link-local address that is being looked at for duplicates keeps IPv6 waiting.
        let patience = Instant::now() + Duration::from_secs(30);
        while reaches(&lab) != [true, true] {
            assert!(Instant::now() < patience, "no way through");
        }
        lab.run(Place::Host, "ip link delete tun0");
        assert_eq!(reaches(&lab), [false, false]);
        bring_about_both(&mut lab);
        while reaches(&lab) != [true, true] {
            assert!(Instant::now() < patience, "no way through, once the tunnel was made again");
        }
        assert!(reconcile(&mut lab, &here).is_unchanged());
    });
}

#[test]
fn routes_by_one_next_hop_have_each_their_own_mtu() {
    in_lab!(|mut lab| {
        let with = |mtus: [Option<u32>; 3]| {
            let mut plan = plan([Peer::new(1)]);
            for (number, mtu) in mtus.into_iter().enumerate() {
                let destination = net(&format!("10.9.{number}.0/24"));
                let route = Route::to(destination, RouteTarget::NextHop(1001));
                plan.own(Place::Host, Route { mtu, protocol: Some(PROTOCOL), ..route }.into());
            }
            plan
        };
        bring_about(&mut lab, &with([Some(1300), None, Some(1200)]));
        let done = bring_about(&mut lab, &with([None, Some(1400), Some(1200)]));
        assert_eq!(counts(&done), (0, 2, 0));
        let line = "route 10.9.0.0/24 was by next hop 1001 mtu 1300, not by next hop 1001";
        assert!(done.log.contains(&line.to_owned()), "{done:?}");
    });
}
