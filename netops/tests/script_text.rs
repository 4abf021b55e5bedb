//! Scripts as text: what is written, how it is quoted, and what cannot be.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod plans;

use std::process::Command;

use netops::*;
use plans::{Recipe, address, link, net, recipes};
use proptest::prelude::*;

/// The commands for one resource.
fn commands(container: &str, place: Place, resource: &Resource) -> Vec<String> {
    let mut script = Script::new(container);
    assert_eq!(script.create(place, &[resource]), [Ok(Created::New)]);
    script.commands().iter().map(ToString::to_string).collect()
}

#[test]
fn a_containers_namespace_is_called_by_name_or_by_path() {
    let up = Resource::LinkUp(link("eth0"));
    assert_eq!(commands("blue", Place::Container, &up), ["ip -n blue link set dev eth0 up"]);
    assert_eq!(
        commands("/proc/7/ns/net", Place::Container, &up),
        ["nsenter --net=/proc/7/ns/net ip link set dev eth0 up"]
    );
    let setting = Resource::Sysctl(Sysctl::new(SysctlKey::ipv4(&link("eth0.100"), "arp_notify"), 1));
    assert_eq!(
        commands("blue", Place::Container, &setting),
        ["ip netns exec blue sysctl -w net/ipv4/conf/eth0.100/arp_notify=1"]
    );
}

#[test]
fn a_cable_between_two_namespaces_is_made_whichever_end_is_the_main_one() {
    let cable = |place| {
        let mac = MacAddr::new([2, 0, 0, 0, 0, 1]);
        let peer = VethPeer { place, name: link("b"), mtu: Some(1400), mac: Some(mac) };
        Resource::Link(Link { mtu: Some(1400), ..Link::new(link("a"), LinkKind::Veth { peer }) })
    };
    let ends = "mtu 1400 type veth peer name b mtu 1400 address 02:00:00:00:00:01";
    for (main, peer, expected) in [
        (Place::Host, Place::Host, format!("ip link add name a {ends}")),
        (Place::Host, Place::Container, format!("ip link add name a {ends} netns blue")),
        (Place::Container, Place::Host, format!("ip link add name a netns blue {ends}")),
        (Place::Container, Place::Container, format!("ip -n blue link add name a {ends}")),
    ] {
        assert_eq!(commands("blue", main, &cable(peer)), [expected]);
    }
}

#[test]
fn vlans_of_a_port_are_typed_as_they_are_meant() {
    let port = Resource::Port(Port {
        link: link("veth0"),
        hairpin: false,
        isolated: true,
        vlans: vec![
            PortVlan { first: 100, last: 100, access: true },
            PortVlan { first: 200, last: 210, access: false },
        ],
        drop_default_vlan: true,
    });
    assert_eq!(
        commands("blue", Place::Host, &port),
        [
            "bridge link set dev veth0 hairpin off isolated on",
            "bridge vlan delete dev veth0 vid 1",
            "bridge vlan add dev veth0 vid 100 pvid untagged",
            "bridge vlan add dev veth0 vid 200-210",
        ]
    );
}

#[test]
fn a_route_is_typed_with_all_that_it_has() {
    let route = Route {
        metric: Some(7),
        table: Some(1000),
        scope: Some(0),
        source: Some("10.0.0.5".parse().unwrap()),
        mtu: Some(1400),
        advmss: Some(1360),
        ..Route::new(net("0.0.0.0/0"), Some("10.0.0.1".parse().unwrap()), link("eth0"))
    };
    assert_eq!(
        commands("blue", Place::Container, &Resource::Route(route.onlink())),
        [
            "ip -n blue route add default via 10.0.0.1 src 10.0.0.5 dev eth0 metric 7 table 1000 scope 0 mtu 1400 \
          advmss 1360 onlink"
        ]
    );
    let v6 = Resource::Route(Route::new(net("::/0"), None, link("eth0")));
    assert_eq!(commands("blue", Place::Host, &v6), ["ip -6 route add default dev eth0"]);
}

#[test]
fn what_masquerades_have_in_common_is_typed_once() {
    let masquerade = |source: &str| {
        let mark = Mark::new("x").unwrap();
        Resource::from(Masquerade { source: source.parse().unwrap(), within: net("10.0.0.0/16"), mark })
    };
    let mut script = Script::new("blue");
    script.create(Place::Host, &[&masquerade("10.0.0.5")]);
    let first = script.commands().len();
    script.create(Place::Host, &[&masquerade("10.0.0.6")]);
    assert_eq!(script.commands().len(), first + 1);
    assert_eq!(
        script.commands()[first].to_string(),
        "nft 'create element inet cnikit masquerade4 { 10.0.0.6 comment \"x\" : jump within-10.0.0.0/16 }'"
    );
}

#[test]
fn without_a_container_there_is_nothing_to_type_for_one() {
    let up = Resource::LinkUp(link("eth0"));
    let mut script = Script::host_only();
    assert_eq!(script.create(Place::Container, &[&up]), [Err(Error::NoContainer)]);
    assert_eq!(script.remove(Place::Container, &[&up]), [Ok(Removed::Before)]);
    let peer = VethPeer { place: Place::Container, name: link("b"), mtu: None, mac: None };
    let cable = Resource::Link(Link::new(link("a"), LinkKind::Veth { peer }));
    assert_eq!(script.create(Place::Host, &[&cable]), [Err(Error::NoContainer)]);
    assert_eq!(script.commands(), []);
}

#[test]
fn a_name_that_nft_would_take_for_more_is_refused() {
    let check = Resource::from(SpoofCheck {
        port: link("a\"};flush"),
        mac: MacAddr::new([2, 0, 0, 0, 0, 1]),
        mark: Mark::new("x").unwrap(),
    });
    let mut script = Script::new("blue");
    assert!(matches!(script.create(Place::Host, &[&check])[0], Err(Error::Invalid(_))));
    assert!(matches!(script.remove(Place::Host, &[&check])[0], Err(Error::Invalid(_))));
    assert_eq!(script.commands(), []);
}

#[test]
fn nothing_hostile_gets_out_of_its_word() {
    let evil = "$(touch${IFS}x)";
    let key = SysctlKey::new("net/ipv4/a\ntouch x\n").unwrap();
    let mut plan = Plan::new();
    plan.own(Place::Container, Resource::LinkUp(link(evil)))
        .own(Place::Container, Resource::Settled(link("`a';id`")))
        .own(Place::Host, Resource::Sysctl(Sysctl::new(key, "1; touch x")))
        .own(Place::Host, Resource::Address(address(&link("-n"), "10.0.0.1/24")));
    let mut script = Script::new("blue'; touch x; '");
    plan.apply(&mut script).unwrap();

    // A shell that has none of the programs, in an empty directory.
    let directory = tempfile::tempdir().unwrap();
    let bin = directory.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    for program in ["ip", "sysctl", "timeout"] {
        // They say what they were given, word by word.
        let file = bin.join(program);
        std::fs::write(&file, "#!/bin/sh\nfor word; do printf '<%s>' \"$word\"; done; echo\n").unwrap();
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&file, executable).unwrap();
    }
    let output = Command::new("/bin/sh")
        .args(["-c", &script.to_string()])
        .env("PATH", &bin)
        .current_dir(directory.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    let words: Vec<Vec<&str>> =
        script.commands().iter().map(|command| command.args.iter().map(String::as_str).collect()).collect();
    let expected: String = words
        .iter()
        .map(|words| words.iter().map(|word| format!("<{word}>")).collect::<String>() + "\n")
        .collect();
    assert_eq!(said, expected, "{script}");
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_step_has_its_commands_and_a_sentence(recipe in recipes(1)) {
        let plan = recipe.plan();
        let mut script = Script::new("blue");
        plan.apply(&mut script).unwrap();
        for step in plan.steps() {
            let mut alone = Script::new("blue");
            alone.create(step.place, &[&step.resource]);
            prop_assert!(!alone.commands().is_empty());
            for command in alone.commands() {
                prop_assert!(command.comment.ends_with('.') && !command.comment.contains('\n'));
            }
        }
        let text = script.to_string();
        prop_assert!(text.starts_with("#!/bin/sh\nset -e\n"));
        prop_assert_eq!(text.lines().filter(|line| line.starts_with("# ")).count(), {
            let mut comments: Vec<_> = script.commands().iter().map(|command| &command.comment).collect();
            comments.dedup();
            comments.len()
        });
    }
}

#[test]
fn a_whole_attachment_reads_like_a_tutorial() {
    let cable = [3, 4, 5, 12, 13, 19].iter().fold(0, |bits, bit| bits | 1 << bit);
    let plan = Recipe { pod: 1, node: 1 | 1 << 2 | 1 << 10, cables: vec![cable] }.plan();
    let mut script = Script::new("blue");
    plan.apply(&mut script).unwrap();
    assert_eq!(
        script.to_string(),
        r#"#!/bin/sh
set -e

# Bridge "br0": the switch that containers are plugged into.
ip link add name br0 address 02:00:00:00:00:fe type bridge

# "br0" goes up.
ip link set dev br0 up

# Address 10.50.0.1/24 on "br0".
ip address add 10.50.0.1/24 broadcast + dev br0

# The node forwards IPv4 packets between its interfaces.
sysctl -w net.ipv4.ip_forward=1

# A virtual cable: one end is "veth1x0" in the host, the other "eth0" in the container.
ip link add name veth1x0 address 02:00:00:01:00:01 type veth peer name eth0 netns blue
ip link set dev veth1x0 alias 'pod 1 ("it'\''s" $1) interface 0'
ip link set dev veth1x0 master br0
ip link set dev veth1x0 up

# "eth0" goes up.
ip -n blue link set dev eth0 up

# Address 10.50.0.20/24 on "eth0".
ip -n blue address add 10.50.0.20/24 broadcast + dev eth0

# Everything else goes by way of 10.50.0.1.
ip -n blue route add default via 10.50.0.1 dev eth0
"#
    );
}

#[test]
fn the_way_to_another_machine_is_typed_step_by_step() {
    let tunnel = link("tun0");
    let vxlan = Vxlan {
        vni: 7,
        port: 8472,
        local: Some("192.0.2.1".parse().unwrap()),
        dont_fragment: DontFragment::Set,
    };
    let via = Via::Gateway { address: "fe80::2".parse().unwrap(), link: tunnel.clone(), onlink: true };
    let mac = MacAddr::new([2, 0, 0, 0, 0, 2]);
    let address = "fe80::2".parse().unwrap();
    let route = Route::to(net("10.244.2.0/24"), RouteTarget::NextHop(1002));
    let blackhole = Route { metric: Some(4000), ..Route::to(net("10.244.0.0/16"), RouteTarget::Blackhole) };
    let mark = Selector::Mark { mark: 1, mask: 0xff, version: IpVersion::V4 };
    let resources: [(Resource, &str); 8] = [
        (
            Resource::Link(Link::new(tunnel.clone(), LinkKind::Vxlan(vxlan))),
            "ip link add name tun0 type vxlan id 7 dstport 8472 local 192.0.2.1 nolearning noudpcsum df set",
        ),
        (
            NextHop { id: 1002, via, protocol: 87 }.into(),
            "ip -6 nexthop add id 1002 via fe80::2 dev tun0 onlink protocol 87",
        ),
        (
            NeighbourEntry { link: tunnel.clone(), address, mac, protocol: 87 }.into(),
            "ip neighbour add fe80::2 lladdr 02:00:00:00:00:02 dev tun0 nud permanent protocol 87",
        ),
        (
            NeighbourProxy { link: tunnel.clone(), address, protocol: 87 }.into(),
            "ip neighbour replace proxy fe80::2 dev tun0 protocol 87",
        ),
        (
            FdbEntry { link: tunnel, mac, remote: "192.0.2.2".parse().unwrap() }.into(),
            "bridge fdb add 02:00:00:00:00:02 dev tun0 dst 192.0.2.2 self permanent",
        ),
        (
            Route { protocol: Some(87), mtu: Some(1350), ..route }.into(),
            "ip route add 10.244.2.0/24 nhid 1002 protocol 87 mtu 1350",
        ),
        (blackhole.into(), "ip route add blackhole 10.244.0.0/16 metric 4000"),
        (
            Resource::Rule(Rule { selector: mark, table: 100, priority: Some(9) }),
            "ip rule add fwmark 0x1/0xff table 100 priority 9",
        ),
    ];
    for (resource, command) in &resources {
        assert_eq!(commands("blue", Place::Host, resource), [*command]);
    }
    // One of many replaces what is in its place.
    let mut script = Script::new("blue");
    assert_eq!(script.edit(Place::Container, &[Edit::Replace(&resources[1].0)]), [Ok(())]);
    assert_eq!(
        script.commands()[0].to_string(),
        "ip -n blue -6 nexthop replace id 1002 via fe80::2 dev tun0 onlink protocol 87"
    );
}
