//! Addresses.

use std::time::{Duration, Instant};

use netops::*;

use crate::in_lab;
use crate::links::{pair, veth};
use crate::support::{Lab, name};

fn address(net: &str) -> Address {
    Address::new(name("eth0"), net.parse().unwrap())
}

fn with_veth(lab: &mut Lab) {
    lab.create(Place::Host, &Resource::Link(veth())).unwrap();
}

fn read(lab: &Lab, place: Place, query: Query) -> Vec<Address> {
    match lab.fresh_kernel().read(place, &[query]).unwrap().remove(0) {
        Answer::Addresses(addresses) => addresses,
        other => panic!("{other:?}"),
    }
}

#[test]
fn addresses_read_as_they_were_made() {
    in_lab!(|mut lab| {
        with_veth(&mut lab);
        let wanted = [
            address("10.22.0.5/16"),
            Address { prefix_route: false, ..address("10.23.0.5/32") },
            address("10.24.0.4/31"),
            address("fd00:10::5/64"),
            Address { prefix_route: false, ..address("fd00:11::5/64") },
            Address { detect_duplicates: true, ..address("fd00:12::5/128") },
        ];
        for address in &wanted {
            let resource = Resource::Address(address.clone());
            assert_eq!(lab.create(Place::Container, &resource), Ok(Created::New));
            let again = lab.create(Place::Container, &resource).unwrap_err();
            assert_eq!(again.errno(), Some(Errno::EEXIST), "{again}");
        }
        let mut found = read(&lab, Place::Container, Query::Addresses(name("eth0")));
        found.sort_by_key(|address| address.net);
        assert_eq!(found, wanted);
        // They are the other end's, which needs no path to be seen.
        let mut seen = read(&lab, Place::Host, Query::PeerAddresses(name("veth1")));
        seen.sort_by_key(|address| address.net);
        assert_eq!(seen, wanted);
        assert_eq!(read(&lab, Place::Host, Query::Addresses(name("veth1"))), []);
        assert_eq!(read(&lab, Place::Host, Query::Addresses(name("eth9"))), []);
        assert_eq!(read(&lab, Place::Host, Query::PeerAddresses(name("eth9"))), []);
        assert_eq!(read(&lab, Place::Host, Query::PeerAddresses(name("lo"))), []);
    });
}

#[test]
fn the_flags_are_those_that_ip_would_set() {
    in_lab!(|mut lab| {
        with_veth(&mut lab);
        let lo = Address::new(name("lo"), "127.0.0.2/8".parse().unwrap());
        let wanted = [
            address("10.22.0.5/16"),
            Address { prefix_route: false, ..address("10.23.0.5/32") },
            address("10.24.0.4/31"),
            address("fd00:10::5/64"),
            lo,
        ];
        let wanted: Vec<_> = wanted.into_iter().map(Resource::Address).collect();
        assert!(
            lab.kernel.create(Place::Container, &wanted.iter().collect::<Vec<_>>()).iter().all(Result::is_ok)
        );
        let shown = lab.ip(Place::Container, "addr show dev eth0");
        let shown = shown[0]["addr_info"].as_array().unwrap();
        let of = |local: &str| shown.iter().find(|a| a["local"] == local).unwrap().clone();
        assert_eq!(of("10.22.0.5")["broadcast"], "10.22.255.255");
        assert_eq!(of("10.22.0.5")["scope"], "global");
        assert_eq!(of("10.22.0.5")["noprefixroute"], serde_json::Value::Null);
        assert_eq!(of("10.23.0.5")["noprefixroute"], true);
        assert_eq!(of("10.23.0.5")["broadcast"], serde_json::Value::Null);
        assert_eq!(of("10.24.0.4")["broadcast"], serde_json::Value::Null);
        assert_eq!(of("fd00:10::5")["nodad"], true);
        let shown = lab.ip(Place::Container, "addr show dev lo");
        assert_eq!(shown[0]["addr_info"][0]["scope"], "host");
    });
}

#[test]
fn addresses_are_removed_once() {
    in_lab!(|mut lab| {
        with_veth(&mut lab);
        for net in ["10.22.0.5/16", "fd00:10::5/64"] {
            let resource = Resource::Address(address(net));
            lab.create(Place::Container, &resource).unwrap();
            assert_eq!(lab.remove(Place::Container, &resource), Ok(Removed::Now));
            assert_eq!(lab.remove(Place::Container, &resource), Ok(Removed::Before));
        }
        assert_eq!(read(&lab, Place::Container, Query::Addresses(name("eth0"))), []);
        let gone = Resource::Address(Address::new(name("eth9"), "10.0.0.1/8".parse().unwrap()));
        assert_eq!(lab.remove(Place::Container, &gone), Ok(Removed::Before));
    });
}

#[test]
fn peers_of_one_namespace_are_seen_too() {
    in_lab!(|mut lab| {
        lab.create(Place::Host, &pair("one", "other", Place::Host)).unwrap();
        let wanted = Address::new(name("other"), "10.22.0.5/16".parse().unwrap());
        lab.create(Place::Host, &Resource::Address(wanted.clone())).unwrap();
        assert_eq!(read(&lab, Place::Host, Query::PeerAddresses(name("one"))), [wanted]);
    });
}

fn settle(lab: &mut Lab) -> Result<Created, Error> {
    lab.create(Place::Container, &Resource::Settled(name("eth0")))
}

/// Both ends up, and one address on each; the container's detects duplicates.
fn cable(lab: &mut Lab, host: &str, container: &str) {
    with_veth(lab);
    let host = Address::new(name("veth1"), host.parse().unwrap());
    lab.create(Place::Host, &Resource::Address(host)).unwrap();
    lab.create(Place::Container, &Resource::LinkUp(name("eth0"))).unwrap();
    let container = Address { detect_duplicates: true, ..address(container) };
    lab.create(Place::Container, &Resource::Address(container)).unwrap();
}

#[test]
fn addresses_settle_when_no_duplicate_was_found() {
    in_lab!(|mut lab| {
        cable(&mut lab, "fd00:10::1/64", "fd00:10::5/64");
        let started = Instant::now();
        assert_eq!(settle(&mut lab), Ok(Created::New));
        assert!(started.elapsed() < Duration::from_secs(9), "the kernel takes two seconds");
        let shown = lab.ip(Place::Container, "addr show dev eth0").to_string();
        assert!(!shown.contains("tentative"), "{shown}");
        assert_eq!(settle(&mut lab), Ok(Created::Kept));
    });
}

#[test]
fn a_duplicate_is_named() {
    in_lab!(|mut lab| {
        cable(&mut lab, "fd00:10::5/64", "fd00:10::5/64");
        let error = settle(&mut lab).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::EADDRINUSE), "{error}");
        assert!(error.to_string().contains("fd00:10::5 is in use"), "{error}");
    });
}

#[test]
fn without_ipv6_addresses_there_is_nothing_to_wait_for() {
    in_lab!(|mut lab| {
        with_veth(&mut lab);
        lab.create(Place::Container, &Resource::Address(address("10.22.0.5/16"))).unwrap();
        assert_eq!(settle(&mut lab), Ok(Created::Kept));
        let missing = Resource::Settled(name("eth9"));
        assert_eq!(lab.create(Place::Container, &missing).unwrap_err().errno(), Some(Errno::ENODEV));
    });
}
