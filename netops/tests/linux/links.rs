//! Links, their addresses and routes.

use netops::*;
use serde_json::json;

use crate::in_lab;
use crate::support::name;

fn bridge() -> Link {
    let mut link = Link::new(name("cni0"), LinkKind::Bridge { vlan_filtering: false });
    link.mac = Some(MacAddr::new([2, 0, 0, 0, 0, 1]));
    link.up = true;
    link
}

fn veth() -> Link {
    let peer = VethPeer {
        place: Place::Container,
        name: name("eth0"),
        mtu: Some(1450),
        mac: Some(MacAddr::new([2, 0, 0, 0, 0, 3])),
    };
    let mut link = Link::new(name("veth1"), LinkKind::Veth { peer });
    link.mtu = Some(1450);
    link.mac = Some(MacAddr::new([2, 0, 0, 0, 0, 2]));
    link.up = true;
    link
}

#[test]
fn a_veth_is_made_whole() {
    in_lab!(|mut lab| {
        let mut wanted = veth();
        wanted.master = Some(name("cni0"));
        wanted.mark = Some(Mark::new("pod 1 of blue").unwrap());
        wanted.ignore_router_advertisements = true;
        let resources = [Resource::Link(bridge()), Resource::Link(wanted)];
        let results = lab.kernel.create(Place::Host, &resources.iter().collect::<Vec<_>>());
        assert_eq!(results, [Ok(Created::New), Ok(Created::New)]);

        let links = lab.ip(Place::Host, "link show veth1");
        let link = &links[0];
        assert_eq!(link["master"], "cni0");
        assert_eq!(link["mtu"], 1450);
        assert_eq!(link["address"], "02:00:00:00:00:02");
        assert_eq!(link["ifalias"], "pod 1 of blue");
        assert_eq!(link["num_tx_queues"], 1);
        assert_eq!(link["num_rx_queues"], 1);
        assert!(link["flags"].as_array().unwrap().contains(&json!("UP")));
        assert_eq!(std::fs::read_to_string("/proc/sys/net/ipv6/conf/veth1/accept_ra").unwrap(), "0\n");

        let links = lab.ip(Place::Container, "link show eth0");
        let link = &links[0];
        assert_eq!(link["mtu"], 1450);
        assert_eq!(link["address"], "02:00:00:00:00:03");
        assert_eq!(link["num_tx_queues"], 1);
        assert_eq!(link["num_rx_queues"], 1);
        assert!(!link["flags"].as_array().unwrap().contains(&json!("UP")));
    });
}

#[test]
fn a_pod_gets_its_address_and_routes() {
    in_lab!(|mut lab| {
        lab.create(Place::Host, &Resource::Link(bridge())).unwrap();
        lab.create(Place::Host, &Resource::Link(veth())).unwrap();
        let gateway = "10.22.0.1".parse().ok();
        let resources = [
            Resource::Sysctl(Sysctl::new(SysctlKey::ipv4(&name("eth0"), "arp_notify"), 1)),
            Resource::Address(Address::new(name("eth0"), "10.22.0.5/16".parse().unwrap())),
            Resource::LinkUp(name("eth0")),
            Resource::Route(Route::new("0.0.0.0/0".parse().unwrap(), gateway, name("eth0"))),
        ];
        let results = lab.kernel.create(Place::Container, &resources.iter().collect::<Vec<_>>());
        assert!(matches!(results[0], Ok(Created::Changed(_))), "{results:?}");
        assert!(results[1..].iter().all(|result| *result == Ok(Created::New)), "{results:?}");
        let addresses = lab.ip(Place::Container, "-4 addr show eth0");
        let address = &addresses[0]["addr_info"][0];
        assert_eq!(address["local"], "10.22.0.5");
        assert_eq!(address["prefixlen"], 16);
        assert_eq!(address["broadcast"], "10.22.255.255");
        assert_eq!(address["scope"], "global");
        let routes = lab.ip(Place::Container, "route show default");
        assert_eq!(routes[0]["gateway"], "10.22.0.1");
        assert_eq!(routes[0]["protocol"], "boot");
        assert_eq!(routes[0]["scope"], "global");
    });
}
