//! Port mappings in nf_tables; the oracle is `nft`.

use netops::*;

use crate::in_lab;
use crate::support::{Lab, name};

fn mapping(transport: Transport, host: &str, to: &str) -> PortMapping {
    let to: std::net::SocketAddr = to.parse().unwrap();
    let within = if to.is_ipv4() { 16 } else { 64 };
    PortMapping {
        port: HostPort { transport, address: host.parse().unwrap(), spare: false },
        to,
        masquerade: Some(PortMasquerade {
            from: ipnet::IpNet::new(to.ip(), within).unwrap().trunc(),
            bit: 13,
        }),
        conditions: Vec::new(),
        mark: Mark::new("pod 1").unwrap(),
    }
}

fn spare(mapping: PortMapping) -> PortMapping {
    PortMapping { port: HostPort { spare: true, ..mapping.port }, ..mapping }
}

fn everything() -> Vec<Resource> {
    let condition = |what, inverted| Condition { what, inverted };
    let net = |text: &str| text.parse().unwrap();
    let v4 = mapping(Transport::Tcp, "0.0.0.0:8080", "10.22.0.5:80");
    let v6 = mapping(Transport::Sctp, "[::]:8080", "[fd00:10::5]:80");
    let picky = PortMapping {
        masquerade: None,
        conditions: vec![
            condition(Aspect::Source(net("192.0.2.0/24")), false),
            condition(Aspect::Source(net("192.0.2.7/32")), true),
            condition(Aspect::Destination(net("198.51.100.0/25")), true),
            condition(Aspect::Interface(name("eth0.1-a_b")), false),
            condition(Aspect::Interface(name("lo")), true),
        ],
        ..mapping(Transport::Udp, "198.51.100.1:53", "10.22.0.5:5353")
    };
    let greedy = PortMapping {
        masquerade: Some(PortMasquerade { from: net("::/0"), bit: 14 }),
        ..mapping(Transport::Udp, "[2001:db8::1]:53", "[fd00:10::5]:5353")
    };
    [v4.clone(), v6, picky, greedy, spare(v4)].map(Resource::from).into()
}

/// As a person would write it.
const BY_HAND: &str = r#"table inet cnikit {
	map hostports_at4 {
		type ipv4_addr . inet_proto . inet_service : verdict
		elements = { 198.51.100.1 . udp . 53 comment "pod 1" : jump backends_at4-from-192.0.2.0/24-not-from-192.0.2.7/32-not-to-198.51.100.0/25-by-eth0_2e1_2da_5fb-not-by-lo }
	}

	map backends_at4 {
		type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
		elements = { 198.51.100.1 . udp . 53 : 10.22.0.5 . 5353 }
	}

	map hostports4 {
		type inet_proto . inet_service : verdict
		elements = { tcp . 8080 comment "pod 1" : jump backends4-snat-10.22.0.0/16-13 }
	}

	map backends4 {
		type inet_proto . inet_service : ipv4_addr . inet_service
		elements = { tcp . 8080 : 10.22.0.5 . 80 }
	}

	map hostports_at6 {
		type ipv6_addr . inet_proto . inet_service : verdict
		elements = { 2001:db8::1 . udp . 53 comment "pod 1" : jump backends_at6-snat-__/0-14 }
	}

	map backends_at6 {
		type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service
		elements = { 2001:db8::1 . udp . 53 : fd00:10::5 . 5353 }
	}

	map hostports6 {
		type inet_proto . inet_service : verdict
		elements = { sctp . 8080 comment "pod 1" : jump backends6-snat-fd00_10__/64-13 }
	}

	map backends6 {
		type inet_proto . inet_service : ipv6_addr . inet_service
		elements = { sctp . 8080 : fd00:10::5 . 80 }
	}

	map spare_hostports_at4 {
		type ipv4_addr . inet_proto . inet_service : verdict
	}

	map spare_backends_at4 {
		type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
	}

	map spare_hostports4 {
		type inet_proto . inet_service : verdict
		elements = { tcp . 8080 comment "pod 1" : jump spare_backends4-snat-10.22.0.0/16-13 }
	}

	map spare_backends4 {
		type inet_proto . inet_service : ipv4_addr . inet_service
		elements = { tcp . 8080 : 10.22.0.5 . 80 }
	}

	map spare_hostports_at6 {
		type ipv6_addr . inet_proto . inet_service : verdict
	}

	map spare_backends_at6 {
		type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service
	}

	map spare_hostports6 {
		type inet_proto . inet_service : verdict
	}

	map spare_backends6 {
		type inet_proto . inet_service : ipv6_addr . inet_service
	}

	chain hostports {
		ip daddr . meta l4proto . th dport vmap @hostports_at4
		meta nfproto ipv4 meta l4proto . th dport vmap @hostports4
		ip6 daddr . meta l4proto . th dport vmap @hostports_at6
		meta nfproto ipv6 meta l4proto . th dport vmap @hostports6
	}

	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		fib daddr type local jump hostports
	}

	chain output {
		type nat hook output priority -100; policy accept;
		fib daddr type local jump hostports
	}

	chain backends4-snat-10.22.0.0/16-13 {
		ip saddr 10.22.0.0/16 meta mark set meta mark | 0x00002000
		ip saddr 127.0.0.0/8 meta mark set meta mark | 0x00002000
		dnat ip to meta l4proto . th dport map @backends4
	}

	chain marked-13 {
		type nat hook postrouting priority srcnat - 1; policy accept;
		meta mark & 0x00002000 == 0x00002000 masquerade
	}

	chain backends6-snat-fd00_10__/64-13 {
		ip6 saddr fd00:10::/64 meta mark set meta mark | 0x00002000
		dnat ip6 to meta l4proto . th dport map @backends6
	}

	chain backends_at4-from-192.0.2.0/24-not-from-192.0.2.7/32-not-to-198.51.100.0/25-by-eth0_2e1_2da_5fb-not-by-lo {
		ip saddr != 192.0.2.0/24 return
		ip saddr 192.0.2.7 return
		ip daddr 198.51.100.0/25 return
		iifname != "eth0.1-a_b" return
		iifname "lo" return
		dnat ip to ip daddr . meta l4proto . th dport map @backends_at4
	}

	chain backends_at6-snat-__/0-14 {
		meta mark set meta mark | 0x00004000
		dnat ip6 to ip6 daddr . meta l4proto . th dport map @backends_at6
	}

	chain marked-14 {
		type nat hook postrouting priority srcnat - 1; policy accept;
		meta mark & 0x00004000 == 0x00004000 masquerade
	}

	chain spare_hostports {
		ip daddr . meta l4proto . th dport vmap @spare_hostports_at4
		meta nfproto ipv4 meta l4proto . th dport vmap @spare_hostports4
		ip6 daddr . meta l4proto . th dport vmap @spare_hostports_at6
		meta nfproto ipv6 meta l4proto . th dport vmap @spare_hostports6
	}

	chain spare_prerouting {
		type nat hook prerouting priority dstnat + 1; policy accept;
		fib daddr type local jump spare_hostports
	}

	chain spare_output {
		type nat hook output priority -99; policy accept;
		fib daddr type local jump spare_hostports
	}

	chain spare_backends4-snat-10.22.0.0/16-13 {
		ip saddr 10.22.0.0/16 meta mark set meta mark | 0x00002000
		ip saddr 127.0.0.0/8 meta mark set meta mark | 0x00002000
		dnat ip to meta l4proto . th dport map @spare_backends4
	}
}
"#;

#[test]
fn the_ruleset_is_what_a_person_would_write() {
    in_lab!(|mut lab| {
        let all = everything();
        assert_eq!(lab.create_all(&all), vec![Ok(Created::New); all.len()]);
        lab.assert_ruleset(BY_HAND);
    });
}

fn key(resource: &Resource) -> EntryKey {
    let Resource::Entry(entry) = resource else { panic!("{resource} is no entry") };
    entry.key()
}

fn read(lab: &mut Lab, queries: &[Query]) -> Vec<Vec<Entry>> {
    let entries = |answer| match answer {
        Answer::Entries(entries) => entries,
        other => panic!("{other:?}"),
    };
    lab.fresh_kernel().read(Place::Host, queries).unwrap().into_iter().map(entries).collect()
}

#[test]
fn what_is_there_is_refused_and_read_back_and_removed_once() {
    in_lab!(|mut lab| {
        let all = everything();
        let queries: Vec<_> = all.iter().map(|resource| Query::Entry(key(resource))).collect();
        assert_eq!(read(&mut lab, &queries), vec![vec![]; all.len()]);
        lab.create_all(&all);
        let found = read(&mut lab, &queries);
        assert_eq!(found.iter().flatten().cloned().map(Resource::Entry).collect::<Vec<_>>(), all);
        let listed = read(&mut lab, &[Query::Entries(EntryKind::PortMapping)]).remove(0);
        assert_eq!(listed.len(), all.len());
        assert!(listed.into_iter().map(Resource::Entry).all(|entry| all.contains(&entry)));

        for resource in &all {
            let again = lab.create(Place::Host, resource).unwrap_err();
            assert_eq!(again.errno(), Some(Errno::EEXIST), "{again}");
        }
        let elsewhere = mapping(Transport::Tcp, "0.0.0.0:8080", "10.22.0.6:81").into();
        assert_eq!(lab.create(Place::Host, &elsewhere).unwrap_err().errno(), Some(Errno::EEXIST));
        let stranger = PortMapping {
            mark: Mark::new("pod 2").unwrap(),
            ..mapping(Transport::Tcp, "0.0.0.0:8080", "10.22.0.5:80")
        };
        assert_eq!(lab.remove(Place::Host, &stranger.into()), Ok(Removed::Before));

        let all: Vec<_> = all.iter().collect();
        assert_eq!(lab.kernel.remove(Place::Host, &all), vec![Ok(Removed::Now); all.len()]);
        assert_eq!(lab.kernel.remove(Place::Host, &all), vec![Ok(Removed::Before); all.len()]);
        let listing = lab.run(Place::Host, "nft list ruleset");
        assert!(!listing.contains("elements"), "{listing}");
    });
}

#[test]
fn every_bit_of_the_mark_can_be_used() {
    in_lab!(|mut lab| {
        for bit in 0..32 {
            let mut mapping =
                mapping(Transport::Tcp, &format!("0.0.0.0:{}", 8000 + u16::from(bit)), "10.22.0.5:80");
            mapping.masquerade.as_mut().unwrap().bit = bit;
            lab.create(Place::Host, &mapping.into()).unwrap();
            let chain = lab
                .run(Place::Host, &format!("nft list chain inet cnikit backends4-snat-10.22.0.0/16-{bit}"));
            assert!(chain.contains(&format!("meta mark set meta mark | {:#010x}", 1_u32 << bit)), "{chain}");
        }
    });
}

#[test]
fn what_makes_no_sense_is_refused() {
    in_lab!(|mut lab| {
        let good = mapping(Transport::Tcp, "0.0.0.0:8080", "10.22.0.5:80");
        let long = Condition { what: Aspect::Interface(name("fifteen_bytes-_")), inverted: true };
        let v6 = Condition { what: Aspect::Source("fd00::/8".parse().unwrap()), inverted: false };
        for bad in [
            PortMapping { to: "[fd00::1]:80".parse().unwrap(), ..good.clone() },
            PortMapping {
                masquerade: Some(PortMasquerade { from: "fd00::/8".parse().unwrap(), bit: 1 }),
                ..good.clone()
            },
            PortMapping {
                masquerade: Some(PortMasquerade { from: "10.0.0.0/8".parse().unwrap(), bit: 32 }),
                ..good.clone()
            },
            PortMapping { conditions: vec![v6], ..good.clone() },
            PortMapping { conditions: vec![long; 20], ..good },
        ] {
            assert_eq!(lab.create(Place::Host, &bad.into()).unwrap_err().errno(), Some(Errno::EINVAL));
        }
        assert_eq!(lab.run(Place::Host, "nft list ruleset"), "");
    });
}

#[test]
fn a_thousand_ports_go_in_one_batch() {
    in_lab!(|mut lab| {
        let long = Condition { what: Aspect::Interface(name("fifteen_bytes-_")), inverted: true };
        let entries: Vec<_> = (1..=1000_u16)
            .map(|port| PortMapping {
                mark: Mark::new(&"m".repeat(127)).unwrap(),
                conditions: vec![long.clone(); 6],
                ..mapping(Transport::Tcp, &format!("[2001:db8::1]:{port}"), &format!("[fd00:10::5]:{port}"))
            })
            .map(Resource::from)
            .collect();
        assert!(lab.create_all(&entries).iter().all(|result| *result == Ok(Created::New)));
        let all: Vec<_> = entries.iter().collect();
        let removed = lab.kernel.remove(Place::Host, &all);
        assert!(removed.iter().all(|result| *result == Ok(Removed::Now)));
    });
}
