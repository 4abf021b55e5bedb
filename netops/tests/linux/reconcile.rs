//! The kernel is brought to a plan, whatever has become of it; and nothing of others' is touched.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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
