//! Random requests: few names and few values, so that they are often about the same.

use std::net::IpAddr;

use ipnet::IpNet;
use netops::*;
use proptest::prelude::*;

use super::Request;
use crate::support::name;

pub(super) fn requests() -> impl Strategy<Value = Request> {
    (prop_oneof![Just(Place::Host), Just(Place::Container)], resources(), 0..3).prop_map(
        |(place, mut resource, kind)| {
            if let (Resource::MovedLink(moved), Place::Container) = (&mut resource, place) {
                moved.from = Place::Host;
            }
            match kind {
                0 => Request::Remove(place, resource),
                _ => Request::Create(place, resource),
            }
        },
    )
}

fn resources() -> impl Strategy<Value = Resource> {
    prop_oneof![
        2 => links().prop_map(Resource::Link),
        3 => names().prop_map(Resource::LinkUp),
        1 => names().prop_map(Resource::Promiscuous),
        1 => names().prop_map(Resource::LinkDown),
        // Into the host's namespace; for the container's see above.
        2 => (names(), names()).prop_map(|(name, original)| {
            Resource::MovedLink(MovedLink { name, from: Place::Container, original, mac: None })
        }),
        1 => (names(), choice(&[(true, false), (true, true)])).prop_map(|(link, (hairpin, isolated))| {
            Resource::Port(Port { link, hairpin, isolated, vlans: Vec::new(), drop_default_vlan: false })
        }),
        5 => (names(), choice(ADDRESSES), any::<bool>()).prop_map(|(link, net, prefix_route)| {
            Resource::Address(Address { prefix_route, ..Address::new(link, net.parse().unwrap()) })
        }),
        6 => routes().prop_map(Resource::Route),
        2 => routes().prop_map(Resource::NoRoute),
        3 => rules().prop_map(Resource::Rule),
        3 => (names(), names()).prop_map(|(link, master)| Resource::Master(Master { link, master })),
        2 => sysctls().prop_map(Resource::Sysctl),
        2 => (names(), disciplines())
            .prop_map(|(link, discipline)| Resource::Qdisc(Qdisc { link, discipline })),
        2 => settings().prop_map(Resource::Settings),
        1 => (names(), names()).prop_map(|(from, to)| Resource::Redirect(Redirect { from, to })),
    ]
}

const ADDRESSES: &[&str] = &[
    "10.0.0.1/24",
    "10.0.0.2/24",
    "10.0.0.1/16",
    "10.1.0.1/32",
    "10.2.0.1/31",
    "10.0.0.3/25",
    "fd00::1/64",
    "fd00::1/48",
    "fd00::2/64",
    "fd01::1/128",
    "::1/128",
    "127.0.0.2/8",
    "ff02::5/64",
];

fn routes() -> impl Strategy<Value = Route> {
    let destinations =
        &["0.0.0.0/0", "10.9.0.0/16", "10.0.0.0/24", "10.0.0.9/32", "::/0", "fd09::/64", "fd00::/64"];
    let gateways = &[
        "10.0.0.9",
        "10.9.0.1",
        "10.0.0.1",
        "10.0.0.255",
        "224.0.0.1",
        "fd00::9",
        "fd09::1",
        "fe80::9",
        "fd00::1",
    ];
    let options = (
        any::<bool>(),
        choice(&[0_u32, 0, 0, 5]),
        choice(&[254_u32, 254, 1000]),
        choice(&[0_u32, 0, 0, 1300]),
        choice(&[0_u8, 0, 0, 2]),
        prop::option::weighted(0.2, choice(&["10.0.0.1", "fd00::1"])),
    );
    (names(), choice(destinations), prop::option::of(choice(gateways)), options).prop_filter_map(
        "one version of IP",
        |(link, destination, gateway, (onlink, metric, table, mtu, protocol, source))| {
            let destination: IpNet = destination.parse().unwrap();
            let gateway: Option<IpAddr> = gateway.map(|gateway| gateway.parse().unwrap());
            let source: Option<IpAddr> = source.map(|source| source.parse().unwrap());
            let other_family = |address: IpAddr| address.is_ipv4() != destination.addr().is_ipv4();
            if gateway.is_some_and(other_family) || source.is_some_and(other_family) {
                return None;
            }
            let route = Route {
                metric: (metric != 0).then_some(metric),
                table: (table != 254).then_some(table),
                mtu: (mtu != 0).then_some(mtu),
                protocol: (protocol != 0).then_some(protocol),
                source,
                ..Route::new(destination, gateway, link)
            };
            Some(if onlink && gateway.is_some() { route.onlink() } else { route })
        },
    )
}

fn rules() -> impl Strategy<Value = Rule> {
    let from = choice(&["10.0.0.1/32", "10.0.0.2/32", "10.0.0.0/24", "fd00::1/128", "0.0.0.0/0", "::/0"]);
    let priority = choice(&[0_u32, 0, 0, 1, 100, 32766, 40000]);
    (from, choice(&[100_u32, 101, 1000]), priority).prop_map(|(from, table, priority)| Rule {
        priority: (priority != 0).then_some(priority),
        ..Rule::from(from.parse().unwrap(), table)
    })
}

fn links() -> impl Strategy<Value = Link> {
    let peer_places = prop_oneof![Just(Place::Host), Just(Place::Container)];
    (
        names(),
        names(),
        peer_places,
        prop::option::of(names()),
        choice(&[0_u32, 1300, 60, 70000]),
        0..9,
        any::<bool>(),
    )
        .prop_map(|(name, peer, place, master, mtu, kind, up)| {
            let parent = Parent { place, name: peer.clone() };
            let mtu = (mtu != 0).then_some(mtu);
            let kind = match kind {
                0 => LinkKind::Bridge { vlan_filtering: false },
                1 => LinkKind::Dummy,
                2 => LinkKind::Ipvlan { parent, mode: IpvlanMode::L3 },
                3 => LinkKind::Tap(Tap { owner: Some(1000), ..Tap::default() }),
                4 | 5 => LinkKind::Macvlan {
                    parent,
                    mode: if up { MacvlanMode::Bridge } else { MacvlanMode::Passthru },
                    broadcast_queue: Some(900),
                },
                6 => LinkKind::Ifb,
                _ => LinkKind::Veth { peer: VethPeer { place, name: peer, mtu, mac: None } },
            };
            let mac = matches!(kind, LinkKind::Bridge { .. }).then_some(MacAddr::new([2, 0, 0, 0, 0, 7]));
            Link { mtu, mac, master, up, ..Link::new(name, kind) }
        })
}

fn settings() -> impl Strategy<Value = LinkSettings> {
    let mac = choice(&[[2, 0, 0, 0, 0, 7], [2, 0, 0, 0, 0, 8], [1, 0, 0, 0, 0, 7]]).prop_map(MacAddr::new);
    let flags = (prop::option::of(any::<bool>()), prop::option::of(any::<bool>()));
    let mtu = prop::option::of(choice(&[1300, 1200, 60, 9000]));
    (names(), prop::option::of(mac), mtu, flags, prop::option::of(choice(&[0, 7, 1000]))).prop_map(
        |(link, mac, mtu, (promiscuous, all_multicast), transmit_queue)| LinkSettings {
            // Loopback's are its own affair.
            mtu: mtu.filter(|_| link.as_str() != "lo"),
            mac: mac.filter(|_| link.as_str() != "lo"),
            link,
            promiscuous,
            all_multicast,
            transmit_queue,
        },
    )
}

fn disciplines() -> impl Strategy<Value = Discipline> {
    let bucket = |burst| Discipline::TokenBucket(TokenBucket { rate: 1_250_000, burst, limit: 50_000 });
    prop_oneof![choice(&[10_000_u32, 10_001, 0]).prop_map(bucket), Just(Discipline::Ingress)]
}

fn sysctls() -> impl Strategy<Value = Sysctl> {
    (names(), 0..6, choice(&["0", "1", "2", "x"])).prop_map(|(link, which, value)| {
        let key = match which {
            0 => SysctlKey::ipv4_forwarding(),
            1 => SysctlKey::ipv6_forwarding(),
            2 => SysctlKey::ipv6(&link, "disable_ipv6"),
            3 => SysctlKey::ipv6(&link, "keep_addr_on_down"),
            4 => SysctlKey::ipv4(&link, "promote_secondaries"),
            _ => SysctlKey::ipv4(&link, "no_such_setting"),
        };
        Sysctl::new(key, value)
    })
}

fn names() -> impl Strategy<Value = LinkName> {
    choice(&["veth0", "veth0", "veth1", "eth0", "eth0", "eth1", "br0", "br0", "lo", "new"]).prop_map(name)
}

fn choice<T: Copy + std::fmt::Debug + 'static>(of: &'static [T]) -> impl Strategy<Value = T> {
    prop::sample::select(of)
}
