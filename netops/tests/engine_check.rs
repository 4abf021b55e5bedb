//! What differs from a plan is named, and nothing else.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod plans;

use netops::*;
use plans::{Recipe, address, link, net, recipes};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn nothing_differs_from_a_plan_just_applied(recipe in recipes(1)) {
        let plan = recipe.plan();
        let mut kernel = MemoryKernel::new();
        plan.apply(&mut kernel).unwrap();
        prop_assert_eq!(plan.check(&mut kernel).unwrap(), Vec::new());
    }

    #[test]
    fn looking_changes_nothing(recipe in recipes(1)) {
        let plan = recipe.plan();
        let mut kernel = MemoryKernel::new();
        plan.apply(&mut kernel).unwrap();
        let before = kernel.snapshot();
        plan.check(&mut kernel).unwrap();
        before.assert_same(&kernel.snapshot());
    }

    #[test]
    fn whatever_is_damaged_is_named(recipe in recipes(1)) {
        let plan = recipe.plan();
        for step in plan.steps() {
            let mut kernel = MemoryKernel::new();
            plan.apply(&mut kernel).unwrap();
            if !damage(&mut kernel, step) {
                continue;
            }
            let differences = plan.check(&mut kernel).unwrap();
            let named = differences.iter().any(|difference| {
                difference.place == step.place && difference.object == step.resource.to_string()
            });
            prop_assert!(named, "{} is not among {:?}", step.resource, differences);
        }
    }

    #[test]
    fn everything_is_missing_before_a_plan_is_applied(recipe in recipes(1)) {
        let plan = recipe.plan();
        let differences = plan.check(&mut MemoryKernel::new()).unwrap();
        for step in plan.steps() {
            let is_there = matches!(&step.resource, Resource::Settled(_) | Resource::NoRoute(_))
                || matches!(&step.resource, Resource::Sysctl(sysctl) if sysctl.optional);
            let named = differences.iter().any(|difference| difference.object == step.resource.to_string());
            prop_assert!(named != is_there, "{}", step.resource);
        }
    }
}

/// Takes one step's thing away, or gives it another value; whether that can be done.
fn damage(kernel: &mut MemoryKernel, step: &Step) -> bool {
    let another_value = match &step.resource {
        Resource::Settled(_) => return false,
        // Later on, an optional setting may have any value.
        Resource::Sysctl(sysctl) if sysctl.optional => return false,
        Resource::Sysctl(sysctl) => {
            Some(Resource::Sysctl(Sysctl { value: "2".to_owned(), ..sysctl.clone() }))
        }
        Resource::Port(port) => Some(Resource::Port(Port { hairpin: !port.hairpin, ..port.clone() })),
        _ => None,
    };
    match another_value {
        Some(other) => {
            let created = kernel.create(step.place, &[&other]).remove(0).unwrap();
            matches!(created, Created::Changed(_))
        }
        None => kernel.remove(step.place, &[&step.resource]).remove(0).unwrap() == Removed::Now,
    }
}

/// The differences of one container's plan, as a person reads them.
fn differences_after(damage: impl FnOnce(&mut MemoryKernel)) -> Vec<String> {
    let mut kernel = MemoryKernel::new();
    let plan = whole().plan();
    plan.apply(&mut kernel).unwrap();
    damage(&mut kernel);
    plan.check(&mut kernel).unwrap().iter().map(ToString::to_string).collect()
}

/// A plan with something of everything: a veth that is a port of a bridge, IPv4 with a gateway.
fn whole() -> Recipe {
    let cable = [3, 4, 7, 8, 12, 13, 19, 29].iter().fold(0, |bits, bit| bits | 1 << bit);
    Recipe { pod: 1, node: 1 | 1 << 2 | 1 << 10, cables: vec![cable] }
}

fn remove(kernel: &mut MemoryKernel, place: Place, resource: &Resource) {
    assert_eq!(kernel.remove(place, &[resource]), [Ok(Removed::Now)]);
}

#[test]
fn a_lost_address_takes_its_routes_along_and_all_are_named() {
    let found = differences_after(|kernel| {
        let address = Resource::Address(address(&link("eth0"), "10.50.0.20/24"));
        remove(kernel, Place::Container, &address);
    });
    assert_eq!(
        found,
        [
            "address 10.50.0.20/24 on \"eth0\" is missing in the container's namespace",
            "route 0.0.0.0/0 via 10.50.0.1 dev \"eth0\" is missing in the container's namespace",
        ]
    );
}

#[test]
fn another_gateway_is_named_with_both() {
    let found = differences_after(|kernel| {
        let route = |gateway: &str| {
            Resource::Route(Route::new(net("0.0.0.0/0"), Some(gateway.parse().unwrap()), link("eth0")))
        };
        remove(kernel, Place::Container, &route("10.50.0.1"));
        assert_eq!(kernel.create(Place::Container, &[&route("10.50.0.9")]), [Ok(Created::New)]);
    });
    assert_eq!(
        found,
        [
            "route 0.0.0.0/0 via 10.50.0.1 dev \"eth0\" in the container's namespace: gateway is 10.50.0.9, not 10.50.0.1"
        ]
    );
}

#[test]
fn a_setting_is_named_with_both_values() {
    let found = differences_after(|kernel| {
        let off = Resource::Sysctl(Sysctl::new(SysctlKey::ipv4_forwarding(), 0));
        assert!(kernel.create(Place::Host, &[&off]).iter().all(Result::is_ok));
    });
    assert_eq!(found, ["sysctl net/ipv4/ip_forward = 1 in the host's namespace: value is 0, not 1"]);
}

#[test]
fn a_bridge_that_is_down_is_named() {
    let found = differences_after(|kernel| {
        remove(kernel, Place::Host, &Resource::LinkUp(link("br0")));
    });
    assert_eq!(found, ["state up of \"br0\" in the host's namespace: state is down, not up"]);
}

#[test]
fn a_bridge_that_was_made_anew_has_lost_its_port() {
    let found = differences_after(|kernel| {
        let mut bridge = Link::new(link("br0"), LinkKind::Bridge { vlan_filtering: false });
        bridge.mac = Some(MacAddr::new([0x02, 0, 0, 0, 0, 0xfe]));
        bridge.up = true;
        let bridge = Resource::Link(bridge);
        remove(kernel, Place::Host, &bridge);
        let gateway = Resource::Address(address(&link("br0"), "10.50.0.1/24"));
        assert!(kernel.create(Place::Host, &[&bridge, &gateway]).iter().all(Result::is_ok));
    });
    assert_eq!(
        found,
        [
            "veth \"veth1x0\" in the host's namespace: bridge is none, not br0",
            "bridge port \"veth1x0\" is missing in the host's namespace",
        ]
    );
}

#[test]
fn an_interface_of_another_kind_is_named() {
    let mut kernel = MemoryKernel::new();
    let imposter = Resource::Link(Link::new(link("br0"), LinkKind::Dummy));
    assert_eq!(kernel.create(Place::Host, &[&imposter]), [Ok(Created::New)]);
    let mut plan = Plan::new();
    let bridge = Resource::Link(Link::new(link("br0"), LinkKind::Bridge { vlan_filtering: false }));
    plan.share(Place::Host, bridge);
    let found = plan.check(&mut kernel).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].to_string(), "bridge \"br0\" in the host's namespace: kind is dummy, not bridge");
    let error = plan.apply(&mut kernel).unwrap_err();
    assert_eq!(error.to_string(), "create bridge \"br0\" in the host's namespace: a dummy is there already");
}

#[test]
fn a_default_vlan_that_should_be_gone_is_named() {
    let mut kernel = MemoryKernel::new();
    let mut plan = Plan::new();
    let bridge = Link::new(link("br0"), LinkKind::Bridge { vlan_filtering: true });
    let mut port = Link::new(link("port0"), LinkKind::Dummy);
    port.master = Some(link("br0"));
    plan.own(Place::Host, Resource::Link(bridge)).own(Place::Host, Resource::Link(port));
    let wanted = Port {
        link: link("port0"),
        hairpin: false,
        isolated: false,
        vlans: vec![PortVlan { first: 100, last: 100, access: true }],
        drop_default_vlan: true,
    };
    plan.apply(&mut kernel).unwrap();
    plan.own(Place::Host, Resource::Port(wanted.clone()));
    let found: Vec<_> = plan.check(&mut kernel).unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "bridge port \"port0\" in the host's namespace: VLAN is none, not 100 (access)",
            "bridge port \"port0\" in the host's namespace: default VLAN is 1, not none",
        ]
    );
    assert!(kernel.create(Place::Host, &[&Resource::Port(wanted)]).iter().all(Result::is_ok));
    assert_eq!(plan.check(&mut kernel).unwrap(), Vec::new());
}
