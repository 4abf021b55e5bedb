//! The kernel in memory against the real one: the same requests, the same answers, the same state.
//!
//! The usual run tries a few random sequences, always the same. To search for what nobody has met yet, try many others:
//!
//! ```text
//! CNIKIT_CASES=5000 CNIKIT_SEED=$RANDOM cargo test -p cnikit-netops --test linux memory::any_sequence
//! ```
//!
//! What is found gets a case in `cases.rs`, so that it stays found.

mod cases;
mod requests;

use ipnet::IpNet;
use netops::*;
use proptest::prelude::*;

use crate::in_lab;
use crate::support::{Lab, name, with_random};
use requests::requests;

/// One request.
#[derive(Debug, Clone)]
enum Request {
    Create(Place, Resource),
    Remove(Place, Resource),
}

#[test]
fn any_sequence_of_requests_is_answered_alike() {
    // The one bridge and two veths that most requests are about are there from the start.
    with_random(16, &prop::collection::vec(requests(), 1..24), |sequence| {
        in_lab!(|lab| compare(lab, &sequence));
    });
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
