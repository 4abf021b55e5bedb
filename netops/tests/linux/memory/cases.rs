//! What random requests have met once, or meet too rarely.

use netops::Place::{Container, Host};
use netops::*;

use super::Request::{self, Create};
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
