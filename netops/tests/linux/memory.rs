//! The kernel in memory against the real one: the same requests, the same answers, the same state.

use std::net::IpAddr;

use ipnet::IpNet;
use netops::*;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::in_lab;
use crate::support::Lab;

/// One request.
#[derive(Debug, Clone)]
enum Request {
    Create(Place, Resource),
    Remove(Place, Resource),
}

#[test]
fn any_sequence_of_requests_is_answered_alike() {
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(16) });
    // The one bridge and two veths that most requests are about are there from the start.
    runner
        .run(&prop::collection::vec(requests(), 1..24), |sequence| {
            in_lab!(|lab| compare(lab, &sequence));
            Ok(())
        })
        .unwrap();
}

/// The generated requests rarely have both, and in this order.
#[test]
fn a_table_that_a_rule_names_is_looked_at_before_main() {
    let rule = Rule::from("0.0.0.0/0".parse().unwrap(), 1000);
    let way = |link, table| Route { table, ..Route::new("0.0.0.0/0".parse().unwrap(), None, name(link)) };
    let others = Rule { priority: Some(40000), ..Rule::from("10.0.0.0/24".parse().unwrap(), 100) };
    let sequence = [
        Resource::Route(way("eth0", None)),
        Resource::Route(way("eth1", Some(1000))),
        Resource::Route(way("eth1", Some(100))),
        Resource::Rule(others),
        Resource::Rule(rule),
    ];
    let sequence = sequence.map(|resource| Request::Create(Place::Container, resource));
    in_lab!(|lab| compare(lab, &sequence));
}

fn compare(mut lab: Lab, sequence: &[Request]) {
    let mut memory = [Feature::VlanFiltering, Feature::Dummy, Feature::Ipvlan, Feature::Vlan]
        .into_iter()
        .fold(MemoryKernel::new(), MemoryKernel::lacking);
    let mut done = Vec::new();
    let all = beginning().into_iter().chain(sequence.iter().cloned());
    for request in all {
        let answers = [&mut lab.kernel as &mut dyn Kernel, &mut memory].map(|kernel| match &request {
            // Nor whether it was on before, if the link is its own.
            Request::Create(
                place,
                resource @ (Resource::LinkUp(_) | Resource::Promiscuous(_) | Resource::Port(_)),
            ) => answer(kernel.create(*place, &[resource]).remove(0).map(|_| "done")),
            Request::Create(place, resource) => answer(kernel.create(*place, &[resource]).remove(0)),
            // The real kernel is not asked whether it was off before.
            Request::Remove(
                place,
                resource @ (Resource::LinkUp(_) | Resource::Promiscuous(_) | Resource::Master(_)),
            ) => answer(kernel.remove(*place, &[resource]).remove(0).map(|_| "done")),
            Request::Remove(place, resource) => answer(kernel.remove(*place, &[resource]).remove(0)),
        });
        done.push(format!("{request:?}"));
        assert_eq!(answers[0], answers[1], "the real kernel's, and in memory, after\n{}", done.join("\n"));
        for place in [Place::Host, Place::Container] {
            let [real, predicted] =
                [&mut lab.kernel as &mut dyn Kernel, &mut memory].map(|kernel| state(kernel, place));
            let only = |in_one: &[String], other: &[String]| {
                in_one.iter().filter(|line| !other.contains(line)).cloned().collect::<Vec<_>>()
            };
            let (missed, invented) = (only(&real, &predicted), only(&predicted, &real));
            assert!(
                missed.is_empty() && invented.is_empty(),
                "in the {place} the real kernel has {missed:#?}, and in memory there is {invented:#?}, after
{}",
                done.join(
                    "
"
                )
            );
        }
    }
}

/// What matters of an answer.
fn answer<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    match result {
        Ok(done) => format!("{done:?}").split(['(', ' ']).next().unwrap_or_default().to_owned(),
        Err(error) => format!("{:?}", error.errno()),
    }
}

/// What matters of a namespace, as lines.
fn state(kernel: &mut dyn Kernel, place: Place) -> Vec<String> {
    let links = read_links(kernel, place).unwrap();
    let mut lines = Vec::new();
    for link in &links {
        let master = link.master.and_then(|index| links.iter().find(|link| link.index == index));
        let master = master.map(|master| master.name.to_string());
        lines.push(format!(
            "link {} {} mtu {} mac {:?} up {} promiscuous {} all-multicast {} queue {} master {master:?} peer {} alias {:?} {:?}",
            link.name,
            link.kind,
            link.mtu,
            // One that was asked for; the others are random.
            link.mac.filter(|mac| mac.bytes().starts_with(&[2, 0, 0, 0, 0])),
            link.up,
            link.promiscuous,
            link.all_multicast,
            link.transmit_queue,
            link.peer_index.is_some(),
            link.alias,
            link.properties,
        ));
        let queries = [
            Query::Addresses(link.name.clone()),
            Query::Routes(link.name.clone()),
            Query::Port(link.name.clone()),
            Query::Peer(link.name.clone()),
            Query::PeerAddresses(link.name.clone()),
            Query::Qdiscs(link.name.clone()),
            Query::Redirects(link.name.clone()),
            Query::Sysctl(SysctlKey::ipv4(&link.name, "forwarding")),
            Query::Sysctl(SysctlKey::ipv6(&link.name, "forwarding")),
            Query::Sysctl(SysctlKey::ipv6(&link.name, "disable_ipv6")),
        ];
        for (query, answer) in queries.iter().zip(kernel.read(place, &queries).unwrap()) {
            match answer {
                Answer::Addresses(addresses) => lines.extend(
                    addresses.iter().filter(|address| !is_link_local(address.net)).map(|address| {
                        format!("{query}: {} on {} {}", address.net, address.link, address.prefix_route)
                    }),
                ),
                Answer::Routes(routes) => lines.extend(
                    routes.iter().filter(|r| !is_link_local(r.destination)).map(|r| format!("{r:?}")),
                ),
                Answer::Links(links) => {
                    let ends = links.iter().map(|link| (&link.name, &link.kind, link.up));
                    lines.push(format!("{query}: {:?}", ends.collect::<Vec<_>>()));
                }
                answer => lines.push(format!("{query}: {answer:?}")),
            }
        }
    }
    // Their order matters.
    for query in [Query::Rules, Query::Tables] {
        lines.push(format!("{query}: {:?}", kernel.read(place, std::slice::from_ref(&query)).unwrap()));
    }
    for address in ["10.0.0.9", "10.9.0.9", "10.2.0.0", "fd00::9", "fd09::9"] {
        let query = Query::LinkTo(address.parse().unwrap());
        let Answer::Links(found) = kernel.read(place, std::slice::from_ref(&query)).unwrap().remove(0) else {
            continue;
        };
        lines.extend(found.iter().map(|link| format!("{query}: {}", link.name)));
    }
    lines.sort();
    lines
}

/// Link-local addresses come when the kernel has time, and most are random.
fn is_link_local(net: IpNet) -> bool {
    matches!(net, IpNet::V6(net) if net.addr().is_unicast_link_local())
}

fn beginning() -> Vec<Request> {
    let bridge = Link {
        mac: Some(MacAddr::new([2, 0, 0, 0, 0, 9])),
        ..Link::new(name("br0"), LinkKind::Bridge { vlan_filtering: false })
    };
    let mut requests = vec![Request::Create(Place::Host, Resource::Link(bridge))];
    for n in 0..2 {
        let peer = VethPeer { place: Place::Container, name: name(&format!("eth{n}")), mtu: None, mac: None };
        let cable = Link::new(name(&format!("veth{n}")), LinkKind::Veth { peer });
        requests.push(Request::Create(Place::Host, Resource::Link(cable)));
        let up = Resource::LinkUp(name(&format!("eth{n}")));
        requests.push(Request::Create(Place::Container, up));
    }
    requests
}

fn requests() -> impl Strategy<Value = Request> {
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
    let mtu = prop::option::of(choice(&[1300, 60, 9000]));
    (names(), prop::option::of(mac), mtu, flags, prop::option::of(choice(&[0, 7, 1000]))).prop_map(
        |(link, mac, mtu, (promiscuous, all_multicast), transmit_queue)| LinkSettings {
            // A bridge whose MTU somebody has set keeps it, whatever its ports'; loopback has none too large.
            mtu: mtu.filter(|_| link.as_str().starts_with("veth") || link.as_str().starts_with("eth")),
            // Loopback's is its own affair.
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

fn name(text: &str) -> LinkName {
    LinkName::new(text).unwrap()
}
