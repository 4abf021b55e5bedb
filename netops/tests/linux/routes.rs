//! Routes.

use netops::*;

use crate::in_lab;
use crate::links::veth;
use crate::support::{Lab, name};

fn route(destination: &str, gateway: Option<&str>) -> Route {
    Route::new(destination.parse().unwrap(), gateway.map(|gateway| gateway.parse().unwrap()), name("eth0"))
}

/// A container with addresses in 10.22.0.0/16 and fd00:10::/64.
fn with_pod(lab: &mut Lab) {
    lab.create(Place::Host, &Resource::Link(veth())).unwrap();
    let address = |net: &str| Resource::Address(Address::new(name("eth0"), net.parse().unwrap()));
    let resources = [address("10.22.0.5/16"), address("fd00:10::5/64"), Resource::LinkUp(name("eth0"))];
    assert!(
        lab.kernel.create(Place::Container, &resources.iter().collect::<Vec<_>>()).iter().all(Result::is_ok)
    );
}

/// The routes that were made by hand, so to speak; as read, with what the kernel added taken away again.
fn read(lab: &Lab, wanted: &[Route]) -> Vec<Route> {
    let answers = lab.fresh_kernel().read(Place::Container, &[Query::Routes(name("eth0"))]).unwrap();
    let [Answer::Routes(routes)] = answers.as_slice() else { panic!("{answers:?}") };
    let find = |wanted: &Route| {
        let mut found = routes
            .iter()
            .find(|r| {
                r.destination == wanted.destination
                    && r.gateway() == wanted.gateway()
                    && r.table == wanted.table
            })
            .unwrap_or_else(|| panic!("{wanted:?} is not in {routes:?}"))
            .clone();
        if wanted.scope.is_none() {
            found.scope = None;
        }
        if wanted.metric.is_none() {
            found.metric = None;
        }
        found
    };
    wanted.iter().map(find).collect()
}

#[test]
fn routes_read_as_they_were_made() {
    in_lab!(|mut lab| {
        with_pod(&mut lab);
        let wanted = [
            route("0.0.0.0/0", Some("10.22.0.1")),
            route("::/0", Some("fd00:10::1")),
            Route { metric: Some(500), ..route("10.30.0.0/16", Some("10.22.0.2")) },
            route("10.31.0.0/16", Some("192.168.1.1")).onlink(),
            Route { table: Some(100), ..route("10.32.0.0/16", None) },
            Route { table: Some(70_000), scope: Some(0), ..route("10.32.0.0/16", Some("10.22.0.1")) },
            Route { mtu: Some(1400), advmss: Some(1300), ..route("10.33.0.0/16", Some("10.22.0.1")) },
            Route { source: "10.22.0.5".parse().ok(), ..route("10.34.0.0/16", None) },
            Route { mtu: Some(1400), metric: Some(7), ..route("fd00:20::/64", Some("fd00:10::1")) },
            Route { table: Some(70_000), ..route("fd00:21::/64", None) },
            // RFC 5549: an IPv4 destination by way of an IPv6 router.
            route("10.35.0.0/16", Some("fd00:10::1")),
        ];
        for route in &wanted {
            let resource = Resource::Route(route.clone());
            assert_eq!(lab.create(Place::Container, &resource), Ok(Created::New), "{route:?}");
        }
        assert_eq!(read(&lab, &wanted), wanted);
        for route in &wanted {
            let resource = Resource::Route(route.clone());
            assert_eq!(lab.remove(Place::Container, &resource), Ok(Removed::Now), "{route:?}");
            assert_eq!(lab.remove(Place::Container, &resource), Ok(Removed::Before), "{route:?}");
        }
    });
}

#[test]
fn a_route_that_is_read_can_be_removed_and_made_again() {
    in_lab!(|mut lab| {
        with_pod(&mut lab);
        for wanted in [
            route("0.0.0.0/0", Some("10.22.0.1")),
            Route { metric: Some(5), mtu: Some(1400), ..route("10.30.0.0/16", None) },
            route("fd00:20::/64", Some("fd00:10::1")),
        ] {
            lab.create(Place::Container, &Resource::Route(wanted.clone())).unwrap();
            let prefix = if wanted.destination.addr().is_ipv6() { "-6" } else { "-4" };
            // Not all: the kernel adds its own for an IPv6 address when it gets round to it.
            let show = format!("ip {prefix} -d route show {}", wanted.destination);
            let before = lab.run(Place::Container, &show);
            assert!(before.contains("proto boot"), "{before}");
            let answers = lab.kernel.read(Place::Container, &[Query::Routes(name("eth0"))]).unwrap();
            let [Answer::Routes(routes)] = answers.as_slice() else { panic!("{answers:?}") };
            let is_it = |r: &&Route| r.destination == wanted.destination;
            let as_read = Resource::Route(routes.iter().find(is_it).unwrap().clone());
            assert_eq!(lab.remove(Place::Container, &as_read), Ok(Removed::Now));
            assert_eq!(lab.create(Place::Container, &as_read), Ok(Created::New));
            assert_eq!(lab.run(Place::Container, &show), before);
        }
    });
}

#[test]
fn the_same_route_twice_is_refused_and_another_next_hop_is_added() {
    in_lab!(|mut lab| {
        with_pod(&mut lab);
        for (destination, one, other) in
            [("10.30.0.0/16", "10.22.0.1", "10.22.0.2"), ("fd00:20::/64", "fd00:10::1", "fd00:10::2")]
        {
            let (one, other) = (route(destination, Some(one)), route(destination, Some(other)));
            let create =
                |lab: &mut Lab, route: &Route| lab.create(Place::Container, &Resource::Route(route.clone()));
            assert_eq!(create(&mut lab, &one), Ok(Created::New));
            assert_eq!(create(&mut lab, &one).unwrap_err().errno(), Some(Errno::EEXIST));
            assert_eq!(create(&mut lab, &other), Ok(Created::New));
            let both = [one.clone(), other.clone()];
            assert_eq!(read(&lab, &both), both);
            assert_eq!(lab.remove(Place::Container, &Resource::Route(other)), Ok(Removed::Now));
            assert_eq!(read(&lab, std::slice::from_ref(&one)), [one]);
        }
    });
}

#[test]
fn routes_are_of_the_kind_that_ip_makes() {
    in_lab!(|mut lab| {
        with_pod(&mut lab);
        for wanted in [route("10.30.0.0/16", Some("10.22.0.1")), route("10.31.0.0/16", None)] {
            lab.create(Place::Container, &Resource::Route(wanted)).unwrap();
        }
        let ours = lab.run(Place::Container, "ip -d route show");
        lab.run(Place::Container, "ip route del 10.30.0.0/16");
        lab.run(Place::Container, "ip route del 10.31.0.0/16");
        lab.run(Place::Container, "ip route add 10.30.0.0/16 via 10.22.0.1 dev eth0");
        lab.run(Place::Container, "ip route add 10.31.0.0/16 dev eth0");
        assert_eq!(lab.run(Place::Container, "ip -d route show"), ours);
    });
}

#[test]
fn a_gateway_that_is_nowhere_is_refused() {
    in_lab!(|mut lab| {
        with_pod(&mut lab);
        let error = lab
            .create(Place::Container, &Resource::Route(route("0.0.0.0/0", Some("192.168.1.1"))))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "create route 0.0.0.0/0 via 192.168.1.1 dev \"eth0\" in the container's namespace: \
             Network is unreachable (ENETUNREACH): Nexthop has invalid gateway"
        );
    });
}

#[test]
fn only_routes_out_of_the_interface_are_listed() {
    in_lab!(|mut lab| {
        with_pod(&mut lab);
        lab.create(Place::Container, &Resource::LinkUp(LinkName::loopback())).unwrap();
        let routes =
            |link: &str| match lab.fresh_kernel().read(Place::Container, &[Query::Routes(name(link))]) {
                Ok(answers) => match answers.as_slice() {
                    [Answer::Routes(routes)] => {
                        routes.iter().map(|route| route.destination.to_string()).collect()
                    }
                    other => panic!("{other:?}"),
                },
                Err(error) => panic!("{error}"),
            };
        let none: Vec<String> = Vec::new();
        assert_eq!(routes("eth9"), none);
        let mut found: Vec<String> = routes("eth0");
        found.sort();
        assert_eq!(found, ["10.22.0.0/16", "fd00:10::/64", "fe80::/64"]);
    });
}
