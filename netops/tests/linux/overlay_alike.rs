//! Tunnels and what leads through them: in memory as in the real kernel, and typed as made.

use std::net::IpAddr;
use std::process::Command;

use ipnet::IpNet;
use netops::*;
use proptest::prelude::*;

use crate::in_lab;
use crate::support::{Lab, name, with_random};

const PROTOCOL: u8 = 87;

/// One request.
#[derive(Debug, Clone)]
enum Request {
    Create(Resource),
    Remove(Resource),
    Make(Resource),
    Replace(Resource),
    RemoveMany(Resource),
}

#[test]
fn any_sequence_of_requests_is_answered_alike() {
    with_random(24, &prop::collection::vec(requests(), 1..40), |sequence| {
        in_lab!(|lab| compare(lab, &sequence));
    });
}

fn compare(mut lab: Lab, sequence: &[Request]) {
    let mut memory = MemoryKernel::new();
    let mut done = Vec::new();
    let beginning = beginning().into_iter().map(Request::Create);
    for request in beginning.chain(sequence.iter().cloned()) {
        let [real, predicted] =
            [&mut lab.kernel as &mut dyn Kernel, &mut memory].map(|kernel| answer(kernel, &request));
        done.push(format!("{request:?}"));
        assert_eq!(real, predicted, "the real kernel's, and in memory, after\n{}", done.join("\n"));
        let [real, predicted] = [&mut lab.kernel as &mut dyn Kernel, &mut memory].map(state);
        assert_eq!(real, predicted, "the real kernel's, and in memory, after\n{}", done.join("\n"));
    }
}

/// What matters of an answer.
fn answer(kernel: &mut dyn Kernel, request: &Request) -> String {
    let place = Place::Host;
    let error = |error: Error| format!("{:?}", error.errno());
    let edited = |results: Vec<Result<(), Error>>| {
        results.into_iter().next().unwrap().map_or_else(error, |()| "done".to_owned())
    };
    match request {
        // The real kernel is not asked whether it was up before.
        Request::Create(resource) => {
            kernel.create(place, &[resource]).remove(0).map_or_else(error, |_| "done".to_owned())
        }
        Request::Remove(resource @ Resource::LinkUp(_)) => {
            kernel.remove(place, &[resource]).remove(0).map_or_else(error, |_| "done".to_owned())
        }
        Request::Remove(resource) => {
            kernel.remove(place, &[resource]).remove(0).map_or_else(error, |removed| format!("{removed:?}"))
        }
        Request::Make(resource) => edited(kernel.edit(place, &[Edit::Make(resource)])),
        Request::Replace(resource) => edited(kernel.edit(place, &[Edit::Replace(resource)])),
        Request::RemoveMany(resource) => edited(kernel.edit(place, &[Edit::Remove(resource)])),
    }
}

/// What there is, as lines.
fn state(kernel: &mut dyn Kernel) -> Vec<String> {
    let mut queries = vec![
        Query::NextHops(PROTOCOL),
        Query::RoutesOf { protocol: Some(PROTOCOL), table: None },
        Query::RoutesOf { protocol: Some(PROTOCOL), table: Some(100) },
        Query::OverlayRules,
        Query::Proxies,
    ];
    for link in ["tun0", "tun1"].map(name) {
        queries.push(Query::Link(link.clone()));
        queries.push(Query::NeighboursOn(link.clone()));
        queries.push(Query::FdbOn(link));
    }
    // IPv6 has its own time, while the interface's link-local address is being looked at for duplicates.
    for to in ["10.1.0.9", "10.2.0.9"] {
        queries.push(Query::RouteTo(RouteLookup::to(to.parse().unwrap())));
    }
    let mut lines = Vec::new();
    for (query, answer) in queries.iter().zip(kernel.read(Place::Host, &queries).unwrap()) {
        match answer {
            Answer::NextHops(hops) => lines.extend(hops.iter().map(|hop| format!("{hop:?}"))),
            Answer::Routes(routes) => lines.extend(routes.iter().map(|route| format!("{query}: {route:?}"))),
            Answer::Proxies(proxies) => lines.extend(proxies.iter().map(|proxy| format!("{proxy:?}"))),
            Answer::Fdb(entries) => lines.extend(entries.iter().map(|entry| format!("{entry:?}"))),
            Answer::Neighbours(neighbours) => {
                let told = neighbours.iter().filter(|n| n.reachability == Reachability::Permanent);
                lines.extend(told.map(|neighbour| format!("{neighbour:?}")));
            }
            Answer::Links(links) => lines.extend(
                links.iter().map(|l| format!("{} {:?} mtu {} up {}", l.name, l.properties, l.mtu, l.up)),
            ),
            // The source is the kernel's choice, and what it says of a route to nowhere is little.
            Answer::Way(way) => {
                lines.push(format!("{query}: {:?}", way.map(|way| (way.kind, way.gateway, way.link))))
            }
            other => lines.push(format!("{other:?}")),
        }
    }
    lines.sort();
    lines
}

fn tunnel(link: &str, vni: u32, local: Option<&str>) -> Resource {
    let local = local.map(|local| local.parse().unwrap());
    let vxlan = Vxlan { vni, port: 8472, local, dont_fragment: DontFragment::Set };
    Resource::Link(Link { mtu: Some(1450), ..Link::new(name(link), LinkKind::Vxlan(vxlan)) })
}

fn beginning() -> Vec<Resource> {
    vec![
        Resource::LinkUp(LinkName::loopback()),
        tunnel("tun0", 7, None),
        Resource::LinkUp(name("tun0")),
        Resource::Address(Address::new(name("tun0"), "10.255.0.1/32".parse().unwrap())),
    ]
}

fn requests() -> impl Strategy<Value = Request> {
    (resources(), 0..6).prop_map(|(resource, kind)| {
        let many = matches!(
            resource,
            Resource::NextHop(_)
                | Resource::Neighbour(_)
                | Resource::Proxy(_)
                | Resource::Fdb(_)
                | Resource::Route(_)
        );
        match (kind, many) {
            (0, _) => Request::Remove(resource),
            (1, true) => Request::RemoveMany(resource),
            (2, true) => Request::Make(resource),
            (3 | 4, true) => Request::Replace(resource),
            _ => Request::Create(resource),
        }
    })
}

fn resources() -> impl Strategy<Value = Resource> {
    let ways = prop_oneof![
        4 => (choice(&["10.255.0.2", "10.1.0.1", "fe80::2", "fe80::3"]), links(), prop::bool::weighted(0.8)).prop_map(
            |(address, link, onlink)| Via::Gateway { address: address.parse().unwrap(), link, onlink }
        ),
        1 => (links(), versions()).prop_map(|(link, version)| Via::Link { link, version }),
        1 => versions().prop_map(|version| Via::Blackhole { version }),
    ];
    let mac = || choice(&[2_u8, 3]).prop_map(|number| MacAddr::new([2, 0, 0, 0, 0, number]));
    prop_oneof![
        4 => (1..4_u32, ways).prop_map(|(id, via)| NextHop { id, via, protocol: PROTOCOL }.into()),
        2 => (links(), choice(&["10.255.0.2", "fe80::2"]), mac()).prop_map(|(link, address, mac)| {
            NeighbourEntry { link, address: address.parse().unwrap(), mac, protocol: PROTOCOL }.into()
        }),
        2 => (links(), choice(&["10.255.0.7", "fd00::7"])).prop_map(|(link, address)| {
            NeighbourProxy { link, address: address.parse().unwrap(), protocol: PROTOCOL }.into()
        }),
        2 => (links(), mac(), choice(&["192.0.2.2", "192.0.2.3"])).prop_map(|(link, mac, remote)| {
            FdbEntry { link, mac, remote: remote.parse().unwrap() }.into()
        }),
        6 => routes().prop_map(Resource::Route),
        2 => (choice(&["tun0", "tun1"]), choice(&[7_u32, 8, 1 << 24]), choice(&[None, Some("127.0.0.1"), Some("::1")]))
            .prop_map(|(link, vni, local)| tunnel(link, vni, local)),
        2 => links().prop_map(Resource::LinkUp),
        1 => (choice(&["10.1.0.0/24", "10.1.1.0/24", "0.0.0.0/1"]), choice(&["10.0.0.0/8", "128.0.0.0/1"])).prop_map(
            |(source, exception)| {
                OverlayRules {
                    sources: vec![source.parse().unwrap(), "fd00::/64".parse().unwrap()],
                    exceptions: vec![exception.parse().unwrap()],
                    tunnel_port: Some(8472),
                    bridge: Some(name("tun0")),
                }
                .into()
            }
        ),
    ]
}

fn routes() -> impl Strategy<Value = Route> {
    let targets = prop_oneof![
        4 => (1..4_u32).prop_map(RouteTarget::NextHop),
        1 => Just(RouteTarget::Blackhole),
        1 => Just(RouteTarget::Unreachable),
    ];
    let destinations = choice(&["10.1.0.0/24", "10.2.0.0/24", "fd00:1::/64", "10.0.0.0/8"]);
    let options = (choice(&[0_u32, 0, 5]), choice(&[254_u32, 254, 100]), choice(&[0_u32, 0, 1300]));
    (destinations, targets, options).prop_map(|(destination, target, (metric, table, mtu))| Route {
        metric: (metric != 0).then_some(metric),
        table: (table != 254).then_some(table),
        mtu: (mtu != 0).then_some(mtu),
        protocol: Some(PROTOCOL),
        ..Route::to(destination.parse::<IpNet>().unwrap(), target)
    })
}

fn links() -> impl Strategy<Value = LinkName> {
    choice(&["tun0", "tun0", "tun0", "tun1"]).prop_map(name)
}

fn versions() -> impl Strategy<Value = IpVersion> {
    choice(&[IpVersion::V4, IpVersion::V6])
}

fn choice<T: Copy + std::fmt::Debug + 'static>(of: &'static [T]) -> impl Strategy<Value = T> {
    prop::sample::select(of)
}

/// All that there is to type.
fn everything() -> Plan {
    let mut plan = Plan::new();
    let mut add = |resource: Resource| {
        plan.own(Place::Host, resource);
    };
    beginning().into_iter().for_each(&mut add);
    let gateway = |address: &str| Via::Gateway {
        address: address.parse::<IpAddr>().unwrap(),
        link: name("tun0"),
        onlink: true,
    };
    let link = || name("tun0");
    let ways = [
        gateway("10.255.0.2"),
        gateway("fe80::2"),
        Via::Link { link: link(), version: IpVersion::V4 },
        Via::Link { link: link(), version: IpVersion::V6 },
        Via::Blackhole { version: IpVersion::V4 },
        Via::Blackhole { version: IpVersion::V6 },
    ];
    for (number, via) in (1..).zip(ways) {
        add(NextHop { id: number, via, protocol: PROTOCOL }.into());
    }
    let mac = MacAddr::new([2, 0, 0, 0, 0, 2]);
    for address in ["10.255.0.2", "fe80::2"] {
        let address = address.parse().unwrap();
        add(NeighbourEntry { link: link(), address, mac, protocol: PROTOCOL }.into());
    }
    for address in ["10.255.0.7", "fd00::7"] {
        let address = address.parse().unwrap();
        add(NeighbourProxy { link: link(), address, protocol: PROTOCOL }.into());
    }
    add(FdbEntry { link: link(), mac, remote: "192.0.2.2".parse().unwrap() }.into());
    let route = |destination: &str, target| Route {
        protocol: Some(PROTOCOL),
        ..Route::to(destination.parse().unwrap(), target)
    };
    add(route("10.1.0.0/24", RouteTarget::NextHop(1)).into());
    add(Route { mtu: Some(1300), ..route("10.2.0.0/24", RouteTarget::NextHop(2)) }.into());
    add(route("fd00:2::/64", RouteTarget::NextHop(2)).into());
    add(Route { metric: Some(9), ..route("10.0.0.0/8", RouteTarget::Blackhole) }.into());
    add(Route { table: Some(100), ..route("fd00::/16", RouteTarget::Unreachable) }.into());
    let mark = Selector::Mark { mark: 0x10, mask: 0xf0, version: IpVersion::V6 };
    add(Resource::Rule(Rule { selector: mark, table: 100, priority: Some(77) }));
    let ranges = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    add(OverlayRules {
        sources: ranges(&["10.1.0.0/24", "10.1.1.0/24", "fd00:1::/64"]),
        exceptions: ranges(&["10.0.0.0/8", "192.0.2.0/24", "192.0.3.0/25", "fd00::/16"]),
        tunnel_port: Some(8472),
        bridge: Some(name("cni0")),
    }
    .into());
    plan
}

#[test]
fn what_is_typed_is_what_is_made() {
    let seen = std::sync::Mutex::new(Vec::new());
    for typed in [true, false] {
        in_lab!(|mut lab| {
            let plan = everything();
            if typed {
                let mut script = Script::host_only();
                plan.apply(&mut script).unwrap();
                type_in(&script);
            } else {
                plan.apply(&mut lab.kernel).unwrap();
            }
            assert_eq!(plan.check(&mut lab.kernel).unwrap(), []);
            let ruleset = lab.run(Place::Host, "nft list ruleset");
            let mut lines = state(&mut lab.kernel);
            lines.extend(
                [
                    "-d link show tun0",
                    "nexthop",
                    "neighbour show nud permanent",
                    "route show table all",
                    "-6 rule",
                ]
                .map(|what| {
                    lab.ip(Place::Host, what)
                        .to_string()
                        .replace(&lab.ip(Place::Host, "link show tun0")[0]["address"].to_string(), "MAC")
                }),
            );
            seen.lock().unwrap().push((lines, ruleset));
            // All of it can be taken back by hand.
            let mut script = Script::host_only();
            assert_eq!(plan.remove(&mut script), []);
            type_in(&script);
            assert!(state(&mut lab.kernel).iter().all(|line| !line.contains(&PROTOCOL.to_string())));
        });
    }
    let seen = seen.into_inner().unwrap();
    assert_eq!(seen[0].0, seen[1].0);
    assert_eq!(seen[0].1, seen[1].1);
}

#[test]
fn many_things_are_typed_one_by_one() {
    in_lab!(|mut lab| {
        let scope = Scope {
            protocol: PROTOCOL,
            next_hops: 1..=100,
            links: vec![name("tun0")],
            tables: vec![100, 254],
        };
        let mut script = Script::host_only();
        let done = everything().reconcile(&mut script, &scope).unwrap();
        assert_eq!((done.made, done.failures), (everything().steps().len(), Vec::new()));
        type_in(&script);
        assert!(everything().reconcile(&mut lab.kernel, &scope).unwrap().is_unchanged());
        let mut memory = MemoryKernel::new();
        everything().reconcile(&mut memory, &scope).unwrap();
        assert!(everything().reconcile(&mut memory, &scope).unwrap().is_unchanged());
        assert_eq!(state(&mut lab.kernel), state(&mut memory));
    });
}

fn type_in(script: &Script) {
    let output = Command::new("sh").args(["-c", &script.to_string()]).output().unwrap();
    assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{script}");
}
