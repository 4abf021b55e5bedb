//! nf_tables; the oracle is `nft`.

use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use netops::*;

use crate::in_lab;
use crate::support::{Lab, name};

fn masquerade(source: &str, within: &str, mark: &str) -> Resource {
    Resource::from(Masquerade {
        source: source.parse().unwrap(),
        within: within.parse().unwrap(),
        mark: Mark::new(mark).unwrap(),
    })
}

fn spoof_check(port: &str, last: u8, mark: &str) -> Resource {
    let mac = MacAddr::new([2, 0, 0, 0, 0, last]);
    Resource::from(SpoofCheck { port: name(port), mac, mark: Mark::new(mark).unwrap() })
}

/// As a person would write it.
const BY_HAND: &str = r#"table inet cnikit {
	map masquerade4 {
		type ipv4_addr : verdict
		elements = { 10.22.0.5 comment "pod 1" : jump within-10.22.0.0/16 }
	}

	map masquerade6 {
		type ipv6_addr : verdict
		elements = { fd00:10::5 comment "pod 1" : jump within-fd00_10__/64 }
	}

	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr vmap @masquerade4
		ip6 saddr vmap @masquerade6
	}

	chain within-10.22.0.0/16 {
		ip daddr 10.22.0.0/16 return
		ip daddr != 224.0.0.0/4 masquerade
	}

	chain within-fd00_10__/64 {
		ip6 daddr fd00:10::/64 return
		ip6 daddr != ff00::/8 masquerade
	}
}
table bridge cnikit {
	set checked {
		type ifname
		elements = { "veth1" comment "02:00:00:00:00:02" }
	}

	set allowed {
		type ifname . ether_addr
		elements = { "veth1" . 02:00:00:00:00:02 comment "pod 1" }
	}

	chain prerouting {
		type filter hook prerouting priority dstnat; policy accept;
		iifname @checked iifname . ether saddr != @allowed drop
	}
}
"#;

fn everything() -> [Resource; 3] {
    [
        masquerade("10.22.0.5", "10.22.0.0/16", "pod 1"),
        masquerade("fd00:10::5", "fd00:10::/64", "pod 1"),
        spoof_check("veth1", 2, "pod 1"),
    ]
}

#[test]
fn the_ruleset_is_what_a_person_would_write() {
    in_lab!(|mut lab| {
        assert_eq!(lab.create_all(&everything()), vec![Ok(Created::New); 3]);
        lab.assert_ruleset(BY_HAND);
    });
}

#[test]
fn prefixes_of_any_length_are_understood() {
    in_lab!(|mut lab| {
        for (number, length) in [0, 1, 7, 8, 9, 20, 31, 32].into_iter().enumerate() {
            let source = format!("10.0.{number}.1");
            let within = format!("{source}/{length}");
            lab.create(Place::Host, &masquerade(&source, &within, "x")).unwrap();
            let subnet: ipnet::IpNet = within.parse().unwrap();
            let chain = format!("within-{}", subnet.trunc());
            let listing = lab.run(Place::Host, &format!("nft list chain inet cnikit {chain}"));
            let shown = match length {
                32 => subnet.addr().to_string(),
                _ => subnet.trunc().to_string(),
            };
            assert!(listing.contains(&format!("ip daddr {shown} return")), "{length}: {listing}");
        }
    });
}

#[test]
fn what_is_there_is_refused_and_read_back() {
    in_lab!(|mut lab| {
        let all = everything();
        lab.create_all(&all);
        for resource in &all {
            let again = lab.create(Place::Host, resource).unwrap_err();
            assert_eq!(again.errno(), Some(Errno::EEXIST), "{again}");
        }
        let elsewhere = masquerade("10.22.0.5", "10.23.0.0/16", "pod 2");
        assert_eq!(lab.create(Place::Host, &elsewhere).unwrap_err().errno(), Some(Errno::EEXIST));
        let [Resource::Entry(v4), Resource::Entry(v6), Resource::Entry(check)] = &all[..] else {
            unreachable!()
        };
        let queries = [
            Query::Entry(v4.key()),
            Query::Entry(v6.key()),
            Query::Entries(EntryKind::Masquerade),
            Query::Entry(EntryKey::SpoofCheck(name("veth1"))),
            Query::Entries(EntryKind::SpoofCheck),
            Query::Entry(EntryKey::SpoofCheck(name("veth2"))),
            Query::Entry(EntryKey::Masquerade("10.9.9.9".parse().unwrap())),
        ];
        let answers = lab.fresh_kernel().read(Place::Host, &queries).unwrap();
        assert_eq!(
            answers,
            [
                Answer::Entries(vec![v4.clone()]),
                Answer::Entries(vec![v6.clone()]),
                Answer::Entries(vec![v4.clone(), v6.clone()]),
                Answer::Entries(vec![check.clone()]),
                Answer::Entries(vec![check.clone()]),
                Answer::Entries(vec![]),
                Answer::Entries(vec![]),
            ]
        );
    });
}

#[test]
fn nothing_is_there_before_the_first_entry() {
    in_lab!(|mut lab| {
        let queries = [
            Query::Entries(EntryKind::Masquerade),
            Query::Entries(EntryKind::SpoofCheck),
            Query::Entry(EntryKey::Masquerade("10.9.9.9".parse().unwrap())),
        ];
        let answers = lab.kernel.read(Place::Host, &queries).unwrap();
        assert_eq!(answers, [Answer::Entries(vec![]), Answer::Entries(vec![]), Answer::Entries(vec![])]);
        for resource in everything() {
            assert_eq!(lab.remove(Place::Host, &resource), Ok(Removed::Before));
        }
        assert_eq!(lab.run(Place::Host, "nft list ruleset"), "");
    });
}

#[test]
fn what_is_removed_is_gone_once() {
    in_lab!(|mut lab| {
        let all = everything();
        lab.create_all(&all);
        let other = masquerade("10.22.0.6", "10.22.0.0/16", "pod 2");
        lab.create(Place::Host, &other).unwrap();
        let all: Vec<_> = all.iter().collect();
        assert_eq!(lab.kernel.remove(Place::Host, &all), vec![Ok(Removed::Now); 3]);
        assert_eq!(lab.kernel.remove(Place::Host, &all), vec![Ok(Removed::Before); 3]);
        let listing = lab.run(Place::Host, "nft list ruleset");
        assert!(listing.contains("10.22.0.6") && !listing.contains("pod 1"), "{listing}");
    });
}

#[test]
fn a_new_owners_entry_is_left_alone() {
    in_lab!(|mut lab| {
        lab.create(Place::Host, &masquerade("10.22.0.5", "10.22.0.0/16", "new owner")).unwrap();
        let old = masquerade("10.22.0.5", "10.22.0.0/16", "old owner");
        assert_eq!(lab.remove(Place::Host, &old), Ok(Removed::Before));
        assert!(lab.run(Place::Host, "nft list ruleset").contains("new owner"));
    });
}

#[test]
fn a_batch_stops_before_what_is_refused() {
    in_lab!(|mut lab| {
        let taken = masquerade("10.22.0.6", "10.22.0.0/16", "pod 2");
        lab.create(Place::Host, &taken).unwrap();
        let wanted = [
            masquerade("10.22.0.5", "10.22.0.0/16", "pod 1"),
            taken,
            masquerade("10.22.0.7", "10.22.0.0/16", "pod 3"),
        ];
        let results = lab.create_all(&wanted);
        assert_eq!(results.len(), 2);
        assert_eq!(results[0], Ok(Created::New));
        assert_eq!(results[1].as_ref().unwrap_err().errno(), Some(Errno::EEXIST));
        let listing = lab.run(Place::Host, "nft list ruleset");
        assert!(listing.contains("10.22.0.5") && !listing.contains("10.22.0.7"), "{listing}");
    });
}

#[test]
fn versions_of_ip_are_not_mixed() {
    in_lab!(|mut lab| {
        let mixed = masquerade("10.22.0.5", "fd00::/64", "pod 1");
        assert_eq!(lab.create(Place::Host, &mixed).unwrap_err().errno(), Some(Errno::EINVAL));
        assert_eq!(lab.run(Place::Host, "nft list ruleset"), "");
    });
}

#[test]
fn what_a_person_flushed_comes_back_with_the_next_entry() {
    in_lab!(|mut lab| {
        lab.create(Place::Host, &everything()[0]).unwrap();
        lab.run(Place::Host, "nft flush ruleset");
        lab.create_all(&everything());
        assert_eq!(lab.run(Place::Host, "nft list ruleset"), BY_HAND);
    });
}

#[test]
fn a_thousand_entries_cost_each_what_one_costs() {
    in_lab!(|mut lab| {
        let entry = |number: u32| {
            let source = std::net::Ipv4Addr::from(0x0a16_0000 + number).to_string();
            masquerade(&source, "10.22.0.0/16", "pod")
        };
        let mut cost = |from: u32| {
            let mut times = Vec::new();
            for number in from..from + 100 {
                let started = Instant::now();
                lab.create(Place::Host, &entry(number)).unwrap();
                times.push(started.elapsed());
            }
            times.sort();
            times[50]
        };
        let few = cost(1);
        for from in (101..1001).step_by(100) {
            cost(from);
        }
        let many = cost(1001);
        // An order of magnitude tells constant cost from that of a walk; anything closer would measure the machine.
        assert!(many < few * 10 + Duration::from_micros(100), "{few:?} with few, {many:?} with a thousand");
        let Answer::Entries(all) =
            lab.kernel.read(Place::Host, &[Query::Entries(EntryKind::Masquerade)]).unwrap().remove(0)
        else {
            unreachable!()
        };
        assert_eq!(all.len(), 1100);
    });
}

#[test]
fn a_thousand_entries_go_in_one_batch() {
    in_lab!(|mut lab| {
        let entries: Vec<_> = (1..=1000_u32)
            .map(|number| {
                masquerade(
                    &std::net::Ipv4Addr::from(0x0a16_0000 + number).to_string(),
                    "10.22.0.0/16",
                    &"m".repeat(127),
                )
            })
            .collect();
        assert!(lab.create_all(&entries).iter().all(|result| *result == Ok(Created::New)));
        let all: Vec<_> = entries.iter().collect();
        let removed = lab.kernel.remove(Place::Host, &all);
        assert!(removed.iter().all(|result| *result == Ok(Removed::Now)));
    });
}

/// A pod on a bridge, and a machine outside beyond a router's other interface. Returns the outside's namespace.
fn network(lab: &mut Lab) -> Namespace {
    let outside = Namespace::create().unwrap();
    let mut bridge = Link::new(name("cni0"), LinkKind::Bridge { vlan_filtering: false });
    bridge.up = true;
    let peer = VethPeer {
        place: Place::Container,
        name: name("eth0"),
        mtu: None,
        mac: Some(MacAddr::new([2, 0, 0, 0, 0, 5])),
    };
    let mut veth = Link::new(name("veth1"), LinkKind::Veth { peer });
    veth.up = true;
    veth.master = Some(name("cni0"));
    let address = |link: &str, net: &str| Resource::Address(Address::new(name(link), net.parse().unwrap()));
    let default = |gateway: &str| {
        Resource::Route(Route::new("0.0.0.0/0".parse().unwrap(), gateway.parse().ok(), name("eth0")))
    };
    let apply = |kernel: &mut LinuxKernel, place: Place, resources: &[Resource]| {
        let results = kernel.create(place, &resources.iter().collect::<Vec<_>>());
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    };
    let host = [
        Resource::Link(bridge),
        address("cni0", "10.22.0.1/16"),
        Resource::Sysctl(Sysctl::new(SysctlKey::ipv4_forwarding(), 1)),
        Resource::Link(veth),
    ];
    apply(&mut lab.kernel, Place::Host, &host);
    let pod = [address("eth0", "10.22.0.5/16"), Resource::LinkUp(name("eth0")), default("10.22.0.1")];
    apply(&mut lab.kernel, Place::Container, &pod);

    let peer = VethPeer { place: Place::Container, name: name("eth0"), mtu: None, mac: None };
    let mut uplink = Link::new(name("uplink"), LinkKind::Veth { peer });
    uplink.up = true;
    let path =
        format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(&outside)));
    let mut kernel = LinuxKernel::new(Some(Namespace::open(path).unwrap()));
    apply(&mut kernel, Place::Host, &[Resource::Link(uplink), address("uplink", "192.0.2.1/24")]);
    let machine = [address("eth0", "192.0.2.7/24"), Resource::LinkUp(name("eth0")), default("192.0.2.1")];
    apply(&mut kernel, Place::Container, &machine);
    outside
}

/// Who a server in a namespace thinks that the pod is.
fn seen_as(lab: &Lab, server: &Namespace, address: &str) -> std::io::Result<String> {
    // Two repetitions of a lost ARP request, or of a lost SYN.
    seen_within(Duration::from_secs(3), lab, server, address)
}

fn seen_within(patience: Duration, lab: &Lab, server: &Namespace, address: &str) -> std::io::Result<String> {
    let listener = server.enter(|| TcpListener::bind((address, 0)).unwrap()).unwrap();
    let there = listener.local_addr()?;
    let _client = lab.container.enter(|| TcpStream::connect_timeout(&there, patience)).unwrap()?;
    Ok(listener.accept()?.1.ip().to_string())
}

#[test]
fn a_pod_is_masqueraded_outside_its_subnet_and_nowhere_else() {
    in_lab!(|mut lab| {
        let outside = network(&mut lab);
        assert_eq!(seen_as(&lab, &outside, "192.0.2.7").unwrap(), "10.22.0.5");
        lab.create(Place::Host, &masquerade("10.22.0.5", "10.22.0.0/16", "pod 1")).unwrap();
        assert_eq!(seen_as(&lab, &outside, "192.0.2.7").unwrap(), "192.0.2.1");
        let host = Namespace::current().unwrap();
        assert_eq!(seen_as(&lab, &host, "10.22.0.1").unwrap(), "10.22.0.5");
        lab.remove(Place::Host, &masquerade("10.22.0.5", "10.22.0.0/16", "pod 1")).unwrap();
        assert_eq!(seen_as(&lab, &outside, "192.0.2.7").unwrap(), "10.22.0.5");
    });
}

#[test]
fn a_checked_port_lets_one_mac_address_through() {
    in_lab!(|mut lab| {
        network(&mut lab);
        let host = Namespace::current().unwrap();
        let check = spoof_check("veth1", 5, "pod 1");
        lab.create(Place::Host, &check).unwrap();
        assert_eq!(seen_as(&lab, &host, "10.22.0.1").unwrap(), "10.22.0.5");
        lab.run(Place::Container, "ip link set dev eth0 address 02:00:00:00:00:66");
        let seen = seen_within(Duration::from_millis(300), &lab, &host, "10.22.0.1");
        assert!(seen.is_err(), "another MAC address got through");
        assert_eq!(lab.remove(Place::Host, &check), Ok(Removed::Now));
        lab.run(Place::Host, "ip neigh flush all");
        assert_eq!(seen_as(&lab, &host, "10.22.0.1").unwrap(), "10.22.0.5");
    });
}
