//! What the kernel in memory does, for whoever may not ask the real one. `linux/memory.rs` compares the two.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use netops::Place::{Container, Host};
use netops::*;

fn link(name: &str) -> LinkName {
    LinkName::new(name).unwrap()
}

fn bridge(name: &str) -> Resource {
    Resource::Link(Link::new(link(name), LinkKind::Bridge { vlan_filtering: false }))
}

fn veth(name: &str, peer: &str) -> Resource {
    let peer = VethPeer { place: Container, name: link(peer), mtu: None, mac: None };
    Resource::Link(Link::new(link(name), LinkKind::Veth { peer }))
}

fn port_of(name: &str, peer: &str, master: &str) -> Resource {
    let Resource::Link(port) = veth(name, peer) else { panic!("not a link") };
    Resource::Link(Link { master: Some(link(master)), ..port })
}

fn up(name: &str) -> Resource {
    Resource::LinkUp(link(name))
}

fn address(name: &str, net: &str) -> Resource {
    Resource::Address(Address::new(link(name), net.parse().unwrap()))
}

fn route(destination: &str, gateway: Option<&str>, name: &str) -> Route {
    Route::new(destination.parse().unwrap(), gateway.map(|g| g.parse().unwrap()), link(name))
}

fn make(kernel: &mut MemoryKernel, place: Place, resources: &[Resource]) {
    for resource in resources {
        let result = kernel.create(place, &[resource]).remove(0);
        assert!(result.is_ok(), "{result:?}");
    }
}

fn refusal(kernel: &mut MemoryKernel, place: Place, resource: &Resource) -> String {
    kernel.create(place, &[resource]).remove(0).unwrap_err().to_string()
}

fn state(kernel: &mut MemoryKernel, place: Place, name: &str) -> LinkState {
    read_link(kernel, place, &link(name)).unwrap().unwrap()
}

fn nets(kernel: &mut MemoryKernel, place: Place, name: &str) -> Vec<String> {
    match kernel.read(place, &[Query::Addresses(link(name))]).unwrap().remove(0) {
        Answer::Addresses(addresses) => addresses.iter().map(|address| address.net.to_string()).collect(),
        other => panic!("{other:?}"),
    }
}

fn routes(kernel: &mut MemoryKernel, place: Place, name: &str) -> Vec<String> {
    match kernel.read(place, &[Query::Routes(link(name))]).unwrap().remove(0) {
        Answer::Routes(routes) => {
            routes.iter().map(|route| Resource::Route(route.clone()).to_string()).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_namespace_is_born_with_loopback_down() {
    let mut kernel = MemoryKernel::new();
    for place in [Host, Container] {
        let links = read_links(&mut kernel, place).unwrap();
        assert_eq!(links.len(), 1);
        assert_eq!((links[0].name.as_str(), links[0].index, links[0].up), ("lo", 1, false));
        assert_eq!(nets(&mut kernel, place, "lo"), [""; 0]);
    }
    make(&mut kernel, Container, &[up("lo")]);
    assert_eq!(nets(&mut kernel, Container, "lo"), ["127.0.0.1/8", "::1/128"]);
    assert_eq!(nets(&mut kernel, Host, "lo"), [""; 0]);
}

#[test]
fn names_are_unique_in_their_namespace() {
    let mut kernel = MemoryKernel::new();
    make(&mut kernel, Host, &[bridge("a"), veth("b", "a")]);
    assert_eq!(
        refusal(&mut kernel, Host, &bridge("a")),
        "create bridge \"a\" in the host's namespace: File exists (EEXIST)"
    );
    assert_eq!(
        refusal(&mut kernel, Host, &veth("c", "a")),
        "create veth \"c\" in the host's namespace: File exists (EEXIST)"
    );
    assert!(read_link(&mut kernel, Host, &link("c")).unwrap().is_none(), "no half of a pair");
}

#[test]
fn either_end_of_a_veth_takes_the_other_along() {
    for (place, name) in [(Host, "out"), (Container, "in")] {
        let mut kernel = MemoryKernel::new();
        let before = kernel.snapshot();
        make(&mut kernel, Host, &[veth("out", "in")]);
        let there = state(&mut kernel, Container, "in");
        assert_eq!(state(&mut kernel, Host, "out").peer_index, Some(there.index));
        assert!(there.peer_namespace.is_some());
        assert_eq!(kernel.remove(place, &[&bridge(name)]), [Ok(Removed::Now)], "by its name");
        before.assert_same(&kernel.snapshot());
        assert_eq!(kernel.remove(place, &[&bridge(name)]), [Ok(Removed::Before)]);
    }
}

#[test]
fn a_veth_carries_when_both_ends_are_up() {
    let mut kernel = MemoryKernel::new();
    make(&mut kernel, Host, &[veth("out", "in"), up("out")]);
    assert!(!state(&mut kernel, Host, "out").carrier);
    make(&mut kernel, Container, &[up("in")]);
    assert!(state(&mut kernel, Host, "out").carrier && state(&mut kernel, Container, "in").carrier);
    assert!(nets(&mut kernel, Container, "in")[0].starts_with("fe80::"), "IPv6 begins with the carrier");
}

#[test]
fn a_bridge_frees_its_ports_and_follows_them() {
    let mut kernel = MemoryKernel::new();
    make(&mut kernel, Host, &[bridge("br"), port_of("port", "in", "br")]);
    let (bridge_state, port) = (state(&mut kernel, Host, "br"), state(&mut kernel, Host, "port"));
    assert_eq!(port.master, Some(bridge_state.index));
    assert_eq!(bridge_state.mac, port.mac, "one that was given none of its own");
    assert_eq!(kernel.remove(Host, &[&bridge("br")]), [Ok(Removed::Now)]);
    assert_eq!(state(&mut kernel, Host, "port").master, None);
}

#[test]
fn a_master_must_be_a_bridge_that_is_there() {
    let mut kernel = MemoryKernel::new();
    make(&mut kernel, Host, &[veth("out", "in")]);
    let no_such = kernel.create(Host, &[&port_of("p", "q", "none")]).remove(0).unwrap_err();
    assert_eq!(no_such.errno(), Some(Errno::ENODEV));
    let no_bridge = kernel.create(Host, &[&port_of("p", "q", "out")]).remove(0).unwrap_err();
    assert_eq!(no_bridge.errno(), Some(Errno::EOPNOTSUPP));
    assert!(read_link(&mut kernel, Container, &link("q")).unwrap().is_none());
}

#[test]
fn addresses_bring_routes_and_take_them_along() {
    let mut kernel = MemoryKernel::new();
    make(&mut kernel, Host, &[bridge("br"), address("br", "10.0.0.1/24"), address("br", "fd00::1/64")]);
    assert_eq!(routes(&mut kernel, Host, "br"), [""; 0], "down");
    make(&mut kernel, Host, &[up("br")]);
    let connected = &routes(&mut kernel, Host, "br")[..2];
    assert_eq!(connected, ["route 10.0.0.0/24 dev \"br\"", "route fd00::/64 dev \"br\""]);
    assert_eq!(
        refusal(&mut kernel, Host, &address("br", "10.0.0.1/24")),
        "create address 10.0.0.1/24 on \"br\" in the host's namespace: File exists (EEXIST): \
         ipv4: Address already assigned"
    );
    make(&mut kernel, Host, &[Resource::Route(route("10.9.0.0/16", Some("10.0.0.9"), "br"))]);
    assert_eq!(kernel.remove(Host, &[&address("br", "10.0.0.1/24")]), [Ok(Removed::Now)]);
    let left = routes(&mut kernel, Host, "br");
    assert!(left.iter().all(|route| route.contains("::")), "with the last address all go: {left:?}");
}

#[test]
fn the_first_address_of_a_subnet_takes_the_others_along_unless_they_are_promoted() {
    for (promoted, expected) in [("0", 0), ("1", 1)] {
        let mut kernel = MemoryKernel::new();
        let setting = Sysctl::new(SysctlKey::ipv4(&link("br"), "promote_secondaries"), promoted);
        make(&mut kernel, Host, &[bridge("br"), Resource::Sysctl(setting)]);
        make(&mut kernel, Host, &[address("br", "10.0.0.1/24"), address("br", "10.0.0.2/24")]);
        assert_eq!(kernel.remove(Host, &[&address("br", "10.0.0.1/24")]), [Ok(Removed::Now)]);
        assert_eq!(nets(&mut kernel, Host, "br").len(), expected);
    }
}

#[test]
fn a_gateway_must_be_reached() {
    let mut kernel = MemoryKernel::new();
    make(&mut kernel, Host, &[bridge("br"), address("br", "10.0.0.1/24")]);
    let errno = |kernel: &mut MemoryKernel, route: Route| {
        kernel.create(Host, &[&Resource::Route(route)]).remove(0).unwrap_err().errno()
    };
    assert_eq!(errno(&mut kernel, route("10.9.0.0/16", None, "br")), Some(Errno::ENETDOWN));
    make(&mut kernel, Host, &[up("br")]);
    let beyond = route("10.9.0.0/16", Some("10.7.0.1"), "br");
    assert_eq!(
        refusal(&mut kernel, Host, &Resource::Route(beyond.clone())),
        "create route 10.9.0.0/16 via 10.7.0.1 dev \"br\" in the host's namespace: \
         Network is unreachable (ENETUNREACH): Nexthop has invalid gateway"
    );
    assert_eq!(errno(&mut kernel, route("fd09::/64", Some("fd07::1"), "br")), Some(Errno::EHOSTUNREACH));
    assert_eq!(errno(&mut kernel, route("10.9.0.0/16", None, "none")), Some(Errno::ENODEV));
    let onlink = Resource::Route(beyond.onlink());
    make(&mut kernel, Host, std::slice::from_ref(&onlink));
    assert_eq!(kernel.create(Host, &[&onlink]).remove(0).unwrap_err().errno(), Some(Errno::EEXIST));
}

#[test]
fn a_link_that_goes_down_loses_its_routes_and_its_ipv6_addresses() {
    let mut kernel = MemoryKernel::new();
    make(
        &mut kernel,
        Host,
        &[bridge("br"), up("br"), address("br", "10.0.0.1/24"), address("br", "fd00::1/64")],
    );
    make(&mut kernel, Host, &[Resource::Route(route("10.9.0.0/16", Some("10.0.0.9"), "br"))]);
    assert_eq!(kernel.remove(Host, &[&up("br")]), [Ok(Removed::Now)]);
    assert_eq!(routes(&mut kernel, Host, "br"), [""; 0]);
    assert_eq!(nets(&mut kernel, Host, "br"), ["10.0.0.1/24"]);
    make(&mut kernel, Host, &[up("br")]);
    assert_eq!(routes(&mut kernel, Host, "br")[0], "route 10.0.0.0/24 dev \"br\"");
}

#[test]
fn settings_come_and_go_with_their_links_and_say_what_they_were() {
    let mut kernel = MemoryKernel::new();
    let notify = Sysctl::new(SysctlKey::ipv4(&link("br"), "arp_notify"), 1);
    assert_eq!(
        refusal(&mut kernel, Host, &Resource::Sysctl(notify.clone())),
        "create sysctl net/ipv4/conf/br/arp_notify = 1 in the host's namespace: No such file or directory (ENOENT)"
    );
    let optional = Resource::Sysctl(Sysctl { optional: true, ..notify.clone() });
    assert_eq!(kernel.create(Host, &[&optional]), [Ok(Created::Kept)]);
    make(&mut kernel, Host, &[bridge("br")]);
    let before = Resource::Sysctl(Sysctl { value: "0".to_owned(), ..notify.clone() });
    assert_eq!(kernel.create(Host, &[&Resource::Sysctl(notify.clone())]), [Ok(Created::Changed(before))]);
    assert_eq!(kernel.create(Host, &[&Resource::Sysctl(notify.clone())]), [Ok(Created::Kept)]);
    let nonsense = Resource::Sysctl(Sysctl { value: "yes".to_owned(), ..notify });
    assert_eq!(kernel.create(Host, &[&nonsense]).remove(0).unwrap_err().errno(), Some(Errno::EINVAL));
}

#[test]
fn forwarding_is_every_links() {
    let mut kernel = MemoryKernel::new();
    let before = kernel.snapshot();
    let on = Resource::Sysctl(Sysctl::new(SysctlKey::ipv4_forwarding(), 1));
    let Created::Changed(off) = kernel.create(Host, &[&on]).remove(0).unwrap() else { panic!("no change") };
    assert!(kernel.snapshot().to_string().contains("host: sysctl net/ipv4/conf/lo/forwarding = 1"));
    make(&mut kernel, Host, &[off]);
    before.assert_same(&kernel.snapshot());
}

#[test]
fn an_entry_is_removed_by_its_owner_only() {
    let mut kernel = MemoryKernel::new();
    let entry = |mark: &str| {
        Resource::from(Masquerade {
            source: "10.0.0.5".parse().unwrap(),
            within: "10.0.0.0/16".parse().unwrap(),
            mark: Mark::new(mark).unwrap(),
        })
    };
    make(&mut kernel, Host, &[entry("new owner")]);
    let taken = kernel.create(Host, &[&entry("old owner")]).remove(0).unwrap_err();
    assert_eq!(taken.errno(), Some(Errno::EEXIST));
    assert_eq!(kernel.remove(Host, &[&entry("old owner")]), [Ok(Removed::Before)]);
    assert_eq!(kernel.remove(Host, &[&entry("new owner")]), [Ok(Removed::Now)]);
    assert_eq!(kernel.remove(Host, &[&entry("new owner")]), [Ok(Removed::Before)]);
}

#[test]
fn a_kernel_may_lack_what_others_have() {
    let mut kernel = MemoryKernel::new()
        .lacking(Feature::Bridge)
        .lacking(Feature::NfTables)
        .lacking(Feature::Ipv6)
        .with_sysctl(Host, &SysctlKey::new("net/ipv4/made_up").unwrap(), "7");
    assert_eq!(
        refusal(&mut kernel, Host, &bridge("br")),
        "create bridge \"br\" in the host's namespace: Operation not supported on transport endpoint (EOPNOTSUPP): \
         Unknown device type; it takes CONFIG_BRIDGE (module bridge); this kernel lacks the feature: load or build its module"
    );
    make(&mut kernel, Container, &[up("lo")]);
    assert_eq!(nets(&mut kernel, Container, "lo"), ["127.0.0.1/8"]);
    let keys = [SysctlKey::ipv6_forwarding(), SysctlKey::new("net/ipv4/made_up").unwrap()];
    let answers = kernel.read(Host, &keys.map(Query::Sysctl)).unwrap();
    assert_eq!(answers, [Answer::Sysctl(None), Answer::Sysctl(Some("7".to_owned()))]);
}

#[test]
fn addresses_are_usable_once_there_is_a_carrier() {
    let mut kernel = MemoryKernel::new();
    make(&mut kernel, Host, &[veth("out", "in")]);
    let Resource::Address(address) = address("in", "fd00::5/64") else { panic!("not an address") };
    let address = Resource::Address(Address { detect_duplicates: true, ..address });
    make(&mut kernel, Container, &[up("in"), address]);
    let settled = Resource::Settled(link("in"));
    assert!(matches!(kernel.create(Container, &[&settled])[..], [Err(Error::TimedOut { .. })]));
    make(&mut kernel, Host, &[up("out")]);
    assert_eq!(kernel.create(Container, &[&settled]), [Ok(Created::Kept)]);
}

#[test]
fn containers_have_namespaces_of_their_own_on_one_host() {
    let mut first = MemoryKernel::new();
    let mut second = first.another_container();
    make(&mut first, Host, &[veth("one", "eth0")]);
    make(&mut second, Host, &[veth("two", "eth0")]);
    assert_eq!(read_links(&mut first, Host).unwrap().len(), 3);
    assert_eq!(read_links(&mut first, Container).unwrap().len(), 2);
    make(&mut second, Container, &[address("eth0", "10.0.0.5/24")]);
    assert_eq!(nets(&mut first, Container, "eth0"), [""; 0]);
    let of_peer = first.read(Host, &[Query::PeerAddresses(link("two"))]).unwrap();
    assert!(
        matches!(&of_peer[..], [Answer::Addresses(list)] if list.len() == 1 && list[0].link == link("eth0"))
    );

    second.delete_container();
    assert!(read_link(&mut first, Host, &link("two")).unwrap().is_none(), "gone with its other end");
    assert!(read_link(&mut first, Host, &link("one")).unwrap().is_some());
    assert_eq!(second.create(Container, &[&up("lo")]), [Err(Error::NoContainer)]);
    assert_eq!(second.remove(Container, &[&up("lo")]), [Ok(Removed::Before)]);
    assert_eq!(first.host_only().read(Container, &[Query::Links]), Err(Error::NoContainer));
}

#[test]
fn the_operation_that_is_to_fail_fails_and_does_nothing() {
    let mut kernel = MemoryKernel::new();
    kernel.fail_at(1, Errno::ENOBUFS);
    let results = kernel.create(Host, &[&bridge("a"), &bridge("b"), &bridge("c")]);
    assert_eq!(results[0], Ok(Created::New));
    assert_eq!(
        results[1].as_ref().unwrap_err().to_string(),
        "create bridge \"b\" in the host's namespace: No buffer space available (ENOBUFS); \
         the kernel is short of memory; try again"
    );
    assert_eq!(results[2], Ok(Created::New), "the kernel goes on with the datagram");
    assert_eq!(kernel.operations(), 3);
    assert!(read_link(&mut kernel, Host, &link("b")).unwrap().is_none());
    assert_eq!(kernel.operations(), 4);
}

#[test]
fn one_by_one_nothing_is_tried_after_a_failure() {
    let mut kernel = MemoryKernel::new().batching(Batching::OneByOne);
    kernel.fail_at(1, Errno::ENOBUFS);
    assert_eq!(kernel.create(Host, &[&bridge("a"), &bridge("b"), &bridge("c")]).len(), 2);
    assert!(read_link(&mut kernel, Host, &link("c")).unwrap().is_none());
}

#[test]
fn a_lost_answer_takes_those_after_it_along() {
    let mut kernel = MemoryKernel::new();
    kernel.lose_reply_at(1);
    let results = kernel.create(Host, &[&bridge("a"), &bridge("b"), &bridge("c")]);
    assert!(matches!(results[..], [Ok(Created::New), Err(Error::TimedOut { .. })]), "{results:?}");
    assert!(read_link(&mut kernel, Host, &link("c")).unwrap().is_some(), "it was done");
}

#[test]
fn something_can_be_done_between_two_operations() {
    let mut kernel = MemoryKernel::new();
    let mut other = kernel.another();
    let seen = Arc::new(AtomicUsize::new(0));
    let witness = Arc::clone(&seen);
    kernel.interrupt_at(1, move || {
        witness.store(read_links(&mut other, Host).unwrap().len(), Ordering::Relaxed);
        other.remove(Host, &[&bridge("a")]);
    });
    make(&mut kernel, Host, &[bridge("a"), bridge("b")]);
    assert_eq!(seen.load(Ordering::Relaxed), 2, "lo and a");
    assert_eq!(read_links(&mut kernel, Host).unwrap().len(), 2, "lo and b");
}

#[test]
fn everything_fails_from_some_point_on() {
    let mut kernel = MemoryKernel::new();
    kernel.fail_from(1, Errno::EPERM);
    make(&mut kernel, Host, &[bridge("a")]);
    for _ in 0..3 {
        assert_eq!(read_links(&mut kernel, Host).unwrap_err().errno(), Some(Errno::EPERM));
    }
    kernel.clear_faults();
    assert_eq!(read_links(&mut kernel, Host).unwrap().len(), 2);
}

#[test]
fn snapshots_differ_by_lines() {
    let mut kernel = MemoryKernel::new();
    make(&mut kernel, Host, &[bridge("br")]);
    let before = kernel.snapshot();
    make(&mut kernel, Host, &[up("br"), address("br", "10.0.0.1/24")]);
    assert_eq!(
        before.difference(&kernel.snapshot()),
        "- host: link \"br\" bridge mtu 1500 mac 0e:ce:00:00:00:01 down\n\
         + host: link \"br\" address 10.0.0.1/24\n\
         + host: link \"br\" address fe80::cce:ff:fe00:1/64\n\
         + host: link \"br\" bridge mtu 1500 mac 0e:ce:00:00:00:01 up\n\
         + host: route 10.0.0.0/24 dev \"br\" src 10.0.0.1 scope 253 proto kernel\n\
         + host: route fe80::/64 dev \"br\" metric 256 scope 0 proto kernel\n"
    );
}

#[test]
#[should_panic(expected = "+ host: link \"br\" bridge")]
fn an_assertion_shows_the_difference() {
    let mut kernel = MemoryKernel::new();
    let before = kernel.snapshot();
    make(&mut kernel, Host, &[bridge("br")]);
    before.assert_same(&kernel.snapshot());
}
