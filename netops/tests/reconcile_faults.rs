//! Whatever fails while the kernel is brought to a plan, the rest is done, and the next time nothing is left to do.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use netops::*;

const PROTOCOL: u8 = 87;

fn scope() -> Scope {
    Scope { protocol: PROTOCOL, next_hops: 1..=100, links: vec![link()], tables: vec![254] }
}

fn link() -> LinkName {
    LinkName::new("tun0").unwrap()
}

/// A tunnel to some machines, each with as many routes as its number says.
fn plan(vni: u32, machines: &[u8]) -> Plan {
    let vxlan = Vxlan { vni, port: 8472, local: None, dont_fragment: DontFragment::Unset };
    let tunnel = Link { up: true, mtu: Some(1450), ..Link::new(link(), LinkKind::Vxlan(vxlan)) };
    let mut plan = Plan::new();
    let address = Resource::Address(Address::new(link(), "10.255.0.1/32".parse().unwrap()));
    plan.share(Place::Host, Resource::Link(tunnel)).share(Place::Host, address);
    for number in machines {
        let address = format!("fe80::{number}").parse().unwrap();
        let mac = MacAddr::new([2, 0, 0, 0, 0, *number]);
        let via = Via::Gateway { address, link: link(), onlink: true };
        let remote = format!("192.0.2.{number}").parse().unwrap();
        plan.own(Place::Host, NextHop { id: (*number).into(), via, protocol: PROTOCOL }.into())
            .own(Place::Host, NeighbourEntry { link: link(), address, mac, protocol: PROTOCOL }.into())
            .own(Place::Host, FdbEntry { link: link(), mac, remote }.into());
        for route in 0..*number {
            let destination = format!("10.{number}.{route}.0/24").parse().unwrap();
            let route = Route::to(destination, RouteTarget::NextHop((*number).into()));
            plan.own(Place::Host, Route { protocol: Some(PROTOCOL), ..route }.into());
        }
    }
    plan.own(
        Place::Host,
        OverlayRules { sources: vec!["10.1.0.0/16".parse().unwrap()], ..OverlayRules::default() }.into(),
    );
    plan
}

/// A kernel that was brought to one plan, as a machine is found.
fn found() -> MemoryKernel {
    let mut kernel = MemoryKernel::new();
    assert_eq!(plan(7, &[1, 2, 3]).reconcile(&mut kernel, &scope()).unwrap().failures, []);
    kernel
}

#[test]
fn a_failure_is_told_and_made_up_for_the_next_time() {
    // Another tunnel, so that all is made again; and the same, so that some is changed and some removed.
    for wanted in [plan(8, &[2, 3, 4]), plan(7, &[2, 3, 4])] {
        let mut kernel = found();
        let before = kernel.operations();
        wanted.reconcile(&mut kernel, &scope()).unwrap();
        let (operations, expected) = (kernel.operations() - before, kernel.snapshot());
        for n in 0..operations {
            for lost in [false, true] {
                let mut kernel = found();
                if lost {
                    kernel.lose_reply_at(n)
                } else {
                    kernel.fail_at(n, Errno::ENOMEM)
                }
                let told = match wanted.reconcile(&mut kernel, &scope()) {
                    Err(_) => true,
                    Ok(done) => !done.failures.is_empty(),
                };
                assert!(told, "nothing was said of operation {n}");
                let again = wanted.reconcile(&mut kernel, &scope()).unwrap();
                assert_eq!(again.failures, [], "after operation {n}, lost {lost}");
                expected.assert_same(&kernel.snapshot());
                assert!(wanted.reconcile(&mut kernel, &scope()).unwrap().is_unchanged());
            }
        }
    }
}

#[test]
fn one_that_remembers_forgets_when_something_has_failed() {
    let mut kernel = MemoryKernel::new();
    let mut reconciler = Reconciler::new(scope());
    reconciler.reconcile(&plan(7, &[1]), &mut kernel).unwrap();
    let expected = {
        let mut kernel = MemoryKernel::new();
        plan(7, &[1, 2]).reconcile(&mut kernel, &scope()).unwrap();
        kernel.snapshot()
    };
    for n in 0.. {
        let before = kernel.operations();
        kernel.fail_at(n, Errno::ENOBUFS);
        let done = reconciler.reconcile(&plan(7, &[1, 2]), &mut kernel);
        let reached = kernel.operations() - before > n;
        kernel.clear_faults();
        if !reached {
            break;
        }
        assert!(done.is_err() || done.is_ok_and(|done| !done.failures.is_empty()));
        assert_eq!(reconciler.reconcile(&plan(7, &[1, 2]), &mut kernel).unwrap().failures, []);
        expected.assert_same(&kernel.snapshot());
        reconciler.reconcile(&plan(7, &[1]), &mut kernel).unwrap();
    }
}

#[test]
fn what_others_have_in_our_place_is_a_conflict_and_not_replaced() {
    let mut kernel = found();
    let theirs = |destination: &str| {
        Resource::Route(Route {
            protocol: Some(88),
            ..Route::to(destination.parse().unwrap(), RouteTarget::Blackhole)
        })
    };
    kernel.create(Place::Host, &[&theirs("10.4.2.0/24")]).remove(0).unwrap();
    let done = plan(7, &[1, 2, 3, 4]).reconcile(&mut kernel, &scope()).unwrap();
    assert_eq!(done.made, 6);
    assert_eq!(
        done.failures.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["create route 10.4.2.0/24 by next hop 4 in the host's namespace: \
             another program's route with metric 0 is there already"]
    );
}

#[test]
fn a_plan_that_says_two_things_of_one_is_told_so() {
    let mut plan = plan(7, &[1]);
    let via = Via::Blackhole { version: IpVersion::V6 };
    plan.own(Place::Host, NextHop { id: 1, via, protocol: PROTOCOL }.into());
    let done = plan.reconcile(&mut MemoryKernel::new(), &scope()).unwrap();
    assert!(matches!(&done.failures[..], [Error::Conflict { found, .. }] if found.contains("same plan")));
}
