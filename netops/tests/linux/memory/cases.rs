//! What random requests have met once, or meet too rarely.

use netops::Place::{Container, Host};
use netops::*;

use super::Request::{self, Create, Remove};
use super::compare;
use crate::in_lab;
use crate::support::name;

fn made(place: Place, resources: impl IntoIterator<Item = Resource>) -> Vec<Request> {
    resources.into_iter().map(|resource| Create(place, resource)).collect()
}

fn ifb(called: &str, mtu: Option<u32>) -> Resource {
    Resource::Link(Link { mtu, ..Link::new(name(called), LinkKind::Ifb) })
}

fn macvlan(called: &str, parent: &str, mode: MacvlanMode) -> Link {
    let parent = Parent { place: Host, name: name(parent) };
    Link::new(name(called), LinkKind::Macvlan { parent, mode, broadcast_queue: Some(900) })
}

fn settings(link: &str, change: impl FnOnce(&mut LinkSettings)) -> Resource {
    let mut settings = LinkSettings {
        link: name(link),
        mac: None,
        mtu: None,
        promiscuous: None,
        all_multicast: None,
        transmit_queue: None,
    };
    change(&mut settings);
    Resource::Settings(settings)
}

fn up(link: &str) -> Resource {
    Resource::LinkUp(name(link))
}

fn route(destination: &str, link: &str) -> Route {
    Route::new(destination.parse().unwrap(), None, name(link))
}

fn master(link: &str, master: &str) -> Resource {
    Resource::Master(Master { link: name(link), master: name(master) })
}

fn moved(called: &str, original: &str) -> Resource {
    Resource::MovedLink(MovedLink { name: name(called), from: Host, original: name(original), mac: None })
}

fn address(link: &str, net: &str) -> Resource {
    Resource::Address(Address::new(name(link), net.parse().unwrap()))
}

fn mac(last: u8) -> Option<MacAddr> {
    Some(MacAddr::new([2, 0, 0, 0, 0, last]))
}

#[test]
fn a_table_that_a_rule_names_is_looked_at_before_main() {
    let way = |link, table| Resource::Route(Route { table, ..route("0.0.0.0/0", link) });
    let others = Rule { priority: Some(40000), ..Rule::from("10.0.0.0/24".parse().unwrap(), 100) };
    let sequence = [
        way("eth0", None),
        way("eth1", Some(1000)),
        way("eth1", Some(100)),
        Resource::Rule(others),
        Resource::Rule(Rule::from("0.0.0.0/0".parse().unwrap(), 1000)),
    ];
    in_lab!(|lab| compare(lab, &made(Container, sequence)));
}

#[test]
fn a_rule_for_any_source_is_the_same_as_any_others() {
    let rule =
        |from: &str| Resource::Rule(Rule { priority: Some(100), ..Rule::from(from.parse().unwrap(), 1000) });
    let sequence = [rule("fd00::1/128"), rule("::/0"), rule("10.0.0.1/32"), rule("0.0.0.0/0")];
    in_lab!(|lab| compare(lab, &made(Container, sequence)));
}

#[test]
fn a_link_without_ipv6_has_no_ipv6_routes() {
    let sequence = [
        ifb("eth1", Some(60)),
        Resource::Route(route("::/0", "eth1")),
        up("eth1"),
        Resource::Route(route("::/0", "eth1")),
    ];
    in_lab!(|lab| compare(lab, &made(Host, sequence)));
}

/// And its MTU changes.
#[test]
fn a_link_without_ipv6_has_no_ipv6_address_to_remove() {
    let mtu = settings("veth0", |settings| settings.mtu = Some(1200));
    let sequence = [Create(Host, mtu), Remove(Host, address("veth0", "fd00::1/64"))];
    in_lab!(|lab| compare(lab, &sequence));
}

#[test]
fn a_link_that_moves_keeps_its_settings() {
    let sequence = [
        ifb("eth0", None),
        moved("br0", "eth0"),
        settings("veth0", |settings| settings.transmit_queue = Some(0)),
        settings("veth0", |settings| settings.promiscuous = Some(true)),
        settings("veth0", |settings| settings.all_multicast = Some(true)),
        moved("new", "veth0"),
    ];
    let place = |resource: &Resource| {
        if matches!(resource, Resource::MovedLink(_)) { Container } else { Host }
    };
    let sequence = sequence.map(|resource| Create(place(&resource), resource));
    in_lab!(|lab| compare(lab, &sequence));
}

#[test]
fn a_bridge_has_no_port_that_is_on_it() {
    let under_its_own = Link { master: Some(name("br0")), ..macvlan("eth0", "br0", MacvlanMode::Passthru) };
    let sequence = [
        Resource::Link(under_its_own),
        Resource::Link(macvlan("eth0", "br0", MacvlanMode::Bridge)),
        master("eth0", "br0"),
        Resource::Link(Link::new(name("new"), LinkKind::Bridge { vlan_filtering: false })),
        master("eth0", "new"),
        // Under the one is the other's port.
        Resource::Link(macvlan("eth1", "new", MacvlanMode::Bridge)),
        master("eth1", "br0"),
    ];
    in_lab!(|lab| compare(lab, &made(Host, sequence)));
}

/// For packets that come in there is one taker.
#[test]
fn a_bridge_does_not_take_an_mtu_that_it_cannot_have() {
    let port = |called, mtu| {
        Resource::Link(Link {
            mtu: Some(mtu),
            master: Some(name("br0")),
            ..Link::new(name(called), LinkKind::Ifb)
        })
    };
    let sequence = [port("eth0", 70000), port("eth1", 60)];
    in_lab!(|lab| compare(lab, &made(Host, sequence)));
}

#[test]
fn a_bridge_keeps_an_mtu_that_it_was_told() {
    let mtu = |link, mtu| settings(link, |settings| settings.mtu = Some(mtu));
    let sequence = [
        mtu("br0", 1500),
        mtu("veth0", 1400),
        master("veth0", "br0"),
        mtu("veth0", 1200),
        mtu("br0", 1300),
        mtu("veth0", 1250),
        master("veth1", "br0"),
    ];
    in_lab!(|lab| compare(lab, &made(Host, sequence)));
}

#[test]
fn a_discipline_needs_a_queue() {
    let bucket = |burst| Discipline::TokenBucket(TokenBucket { rate: 1_250_000, burst, limit: 50_000 });
    let empty = |link| settings(link, |settings| settings.transmit_queue = Some(0));
    let qdisc = |link, discipline| Resource::Qdisc(Qdisc { link: name(link), discipline });
    let tap = LinkKind::Tap(Tap { owner: Some(1000), ..Tap::default() });
    let sequence = [
        empty("veth0"),
        qdisc("veth0", bucket(10_000)),
        empty("veth0"),
        // Its refusal comes too late.
        qdisc("veth0", bucket(10_000)),
        qdisc("veth0", Discipline::Ingress),
        empty("veth1"),
        qdisc("veth1", bucket(0)),
        empty("br0"),
        qdisc("br0", bucket(10_000)),
        // These have a real one.
        Resource::Link(Link::new(name("new"), tap)),
        empty("new"),
        qdisc("new", bucket(10_000)),
        ifb("eth0", None),
        empty("eth0"),
        qdisc("eth0", bucket(10_000)),
    ];
    in_lab!(|lab| compare(lab, &made(Host, sequence)));
}

#[test]
fn ipv6_goes_and_comes_with_the_mtu() {
    let mtu = |mtu| settings("eth1", |settings| settings.mtu = Some(mtu));
    let way = Route { mtu: Some(1300), ..route("fd09::/64", "eth1") };
    let sequence = [
        ifb("eth1", None),
        up("eth1"),
        address("eth1", "fd00::1/64"),
        Resource::Route(way.clone()),
        mtu(1300),
        mtu(1400),
        address("eth1", "10.0.0.1/24"),
        mtu(1200),
        address("eth1", "fd00::1/64"),
        mtu(60),
        address("eth1", "10.0.0.1/24"),
        Resource::Route(route("10.9.0.0/16", "eth1")),
        mtu(1300),
        address("eth1", "10.0.0.1/24"),
        address("eth1", "fd00::1/64"),
        Resource::Route(way),
        mtu(9000),
    ];
    in_lab!(|lab| compare(lab, &made(Host, sequence)));
}

#[test]
fn what_has_a_macvlan_on_it_is_no_port() {
    let sequence = [
        Resource::Link(macvlan("eth0", "veth0", MacvlanMode::Bridge)),
        master("veth0", "br0"),
        master("veth1", "br0"),
        Resource::Link(macvlan("eth1", "veth1", MacvlanMode::Bridge)),
        Resource::Link(Link::new(name("new"), LinkKind::Bridge { vlan_filtering: false })),
        master("veth0", "new"),
    ];
    in_lab!(|lab| compare(lab, &made(Host, sequence)));
}

#[test]
fn a_macvlan_that_passes_all_through_has_its_parents_mac() {
    let mac = |link, last| settings(link, |settings| settings.mac = mac(last));
    let sequence = [
        Resource::Link(macvlan("eth0", "veth0", MacvlanMode::Passthru)),
        mac("veth0", 7),
        mac("eth0", 8),
        Resource::Link(macvlan("eth1", "br0", MacvlanMode::Passthru)),
        mac("br0", 7),
        mac("eth1", 8),
        Resource::Link(macvlan("new", "veth1", MacvlanMode::Bridge)),
        mac("veth1", 7),
        mac("new", 8),
    ];
    in_lab!(|lab| compare(lab, &made(Host, sequence)));
}

#[test]
fn a_macvlan_has_no_larger_mtu_than_its_parent() {
    let mtu = |link, mtu| settings(link, |settings| settings.mtu = Some(mtu));
    let larger = |called| Link { mtu: Some(9000), ..macvlan(called, "veth0", MacvlanMode::Bridge) };
    let sequence = [
        Resource::Link(larger("eth0")),
        Resource::Link(macvlan("eth0", "veth0", MacvlanMode::Bridge)),
        master("eth0", "br0"),
        mtu("eth0", 9000),
        mtu("veth0", 1300),
        mtu("veth0", 9000),
        mtu("eth0", 9000),
        mtu("eth0", 1400),
        Resource::Link(macvlan("eth1", "br0", MacvlanMode::Bridge)),
        mtu("veth0", 1300),
    ];
    in_lab!(|lab| compare(lab, &made(Host, sequence)));
}

#[test]
fn a_macvlans_mac_is_its_own() {
    let mac = |link, last| settings(link, |settings| settings.mac = mac(last));
    let sequence = [
        Resource::Link(macvlan("eth0", "veth0", MacvlanMode::Bridge)),
        Resource::Link(macvlan("eth1", "veth0", MacvlanMode::Bridge)),
        mac("veth0", 7),
        mac("eth0", 7),
        up("eth0"),
        mac("eth0", 8),
        up("eth0"),
        mac("eth1", 8),
        up("eth1"),
        mac("eth1", 6),
        up("eth1"),
        mac("eth1", 8),
        mac("eth1", 7),
        mac("veth0", 8),
    ];
    in_lab!(|lab| compare(lab, &made(Host, sequence)));
}

#[test]
fn what_has_no_mac_to_change() {
    let mac = |link| settings(link, |settings| settings.mac = mac(7));
    let tap = LinkKind::Tap(Tap { owner: Some(1000), ..Tap::default() });
    let sequence = [
        ifb("eth0", None),
        mac("eth0"),
        up("eth0"),
        mac("eth0"),
        Resource::Link(Link::new(name("new"), tap)),
        up("new"),
        mac("new"),
        up("br0"),
        mac("br0"),
    ];
    in_lab!(|lab| compare(lab, &made(Host, sequence)));
}
