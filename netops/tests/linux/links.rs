//! Links and their states.

use netops::*;
use serde_json::json;

use crate::in_lab;
use crate::support::{Lab, name};

pub(crate) fn bridge() -> Link {
    let mut link = Link::new(name("cni0"), LinkKind::Bridge { vlan_filtering: false });
    link.mac = Some(MacAddr::new([2, 0, 0, 0, 0, 1]));
    link.up = true;
    link
}

pub(crate) fn veth() -> Link {
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

/// A pair within one place.
pub(crate) fn pair(one: &str, other: &str, place: Place) -> Resource {
    let peer = VethPeer { place, name: name(other), mtu: None, mac: None };
    Resource::Link(Link::new(name(one), LinkKind::Veth { peer }))
}

fn read_link(lab: &mut Lab, place: Place, link: &str) -> Option<LinkState> {
    netops::read_link(&mut lab.fresh_kernel(), place, &name(link)).unwrap()
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
fn a_link_reads_as_it_was_made() {
    in_lab!(|mut lab| {
        let mut wanted = veth();
        wanted.master = Some(name("cni0"));
        wanted.mark = Some(Mark::new("pod 1 of blue").unwrap());
        lab.create(Place::Host, &Resource::Link(bridge())).unwrap();
        lab.create(Place::Host, &Resource::Link(wanted)).unwrap();

        let bridge = read_link(&mut lab, Place::Host, "cni0").unwrap();
        assert_eq!(
            (bridge.kind.as_str(), bridge.up, bridge.mac),
            ("bridge", true, super::links::bridge().mac)
        );
        let host = read_link(&mut lab, Place::Host, "veth1").unwrap();
        let container = read_link(&mut lab, Place::Container, "eth0").unwrap();
        assert_eq!((host.kind.as_str(), host.mtu, host.up), ("veth", 1450, true));
        assert_eq!(host.mac, Some(MacAddr::new([2, 0, 0, 0, 0, 2])));
        assert_eq!(host.master, Some(bridge.index));
        assert_eq!(host.alias.as_deref(), Some("pod 1 of blue"));
        assert_eq!(host.peer_index, Some(container.index));
        assert!(host.peer_namespace.is_some());
        assert!(!host.carrier, "the other end is down");
        assert_eq!((container.up, container.peer_index), (false, Some(host.index)));

        lab.create(Place::Container, &Resource::LinkUp(name("eth0"))).unwrap();
        assert!(read_link(&mut lab, Place::Host, "veth1").unwrap().carrier);
        assert_eq!(read_link(&mut lab, Place::Host, "veth2"), None);
    });
}

#[test]
fn every_link_is_listed() {
    in_lab!(|mut lab| {
        for number in 0..100 {
            lab.create(Place::Host, &pair(&format!("a{number}"), &format!("b{number}"), Place::Host))
                .unwrap();
        }
        let links = read_links(&mut lab.kernel, Place::Host).unwrap();
        assert_eq!(links.len(), 201);
        assert!(links.iter().any(|link| link.name == LinkName::loopback() && link.kind.is_empty()));
        // And many of them can be asked for at once.
        let queries: Vec<_> = links.iter().map(|link| Query::Link(link.name.clone())).collect();
        let answers = lab.fresh_kernel().read(Place::Host, &queries).unwrap();
        let answered: Vec<_> = links.into_iter().map(|link| Answer::Links(vec![link])).collect();
        assert_eq!(answers, answered);
    });
}

#[test]
fn a_pair_may_stay_in_one_namespace_or_be_made_from_the_container() {
    in_lab!(|mut lab| {
        lab.create(Place::Host, &pair("a", "b", Place::Host)).unwrap();
        assert_eq!(read_link(&mut lab, Place::Host, "a").unwrap().peer_namespace, None);
        assert!(read_link(&mut lab, Place::Host, "b").is_some());
        lab.create(Place::Container, &pair("c", "d", Place::Host)).unwrap();
        assert!(read_link(&mut lab, Place::Container, "c").is_some());
        assert!(read_link(&mut lab, Place::Host, "d").is_some());
        // Both ends are known by now.
        lab.create(Place::Host, &Resource::LinkUp(name("d"))).unwrap();
        lab.create(Place::Container, &Resource::LinkUp(name("c"))).unwrap();
        assert!(read_link(&mut lab, Place::Host, "d").unwrap().carrier);
    });
}

#[test]
fn a_name_that_is_taken_says_which_and_its_owner_notices_nothing() {
    in_lab!(|mut lab| {
        let mut theirs = veth();
        theirs.mark = Some(Mark::new("theirs").unwrap());
        lab.create(Place::Host, &Resource::Link(theirs)).unwrap();
        let before = lab.ip(Place::Host, "link show veth1");

        let mut ours = veth();
        ours.mark = Some(Mark::new("ours").unwrap());
        ours.ignore_router_advertisements = true;
        let up = Resource::LinkUp(name("veth1"));
        let ours = Resource::Link(ours);
        let results = lab.fresh_kernel().create(Place::Host, &[&ours, &up]);
        assert_eq!(results.len(), 1, "nothing is done to another's link: {results:?}");
        let error = results[0].as_ref().unwrap_err();
        assert_eq!(error.errno(), Some(Errno::EEXIST));
        assert_eq!(error.to_string(), "create veth \"veth1\" in the host's namespace: File exists (EEXIST)");
        assert_eq!(lab.ip(Place::Host, "link show veth1"), before);

        let mut other = veth();
        other.name = name("veth2");
        let error = lab.create(Place::Host, &Resource::Link(other)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "create veth \"veth2\" in the host's namespace: File exists (EEXIST): \
             there is an interface \"eth0\" in the container's namespace"
        );
        assert_eq!(read_link(&mut lab, Place::Host, "veth2"), None);
    });
}

#[test]
fn what_a_link_refers_to_must_be_there() {
    in_lab!(|mut lab| {
        let mut orphan = veth();
        orphan.master = Some(name("cni0"));
        let error = lab.create(Place::Host, &Resource::Link(orphan)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "create veth \"veth1\" in the host's namespace: No such device (ENODEV): \
             there is no interface \"cni0\""
        );
        assert_eq!(read_link(&mut lab, Place::Host, "veth1"), None);
        let address = Address::new(name("eth9"), "10.0.0.1/24".parse().unwrap());
        let error = lab.create(Place::Container, &Resource::Address(address)).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::ENODEV));
    });
}

#[test]
fn a_container_that_was_not_given_is_missed() {
    in_lab!(|_lab| {
        let mut kernel = LinuxKernel::new(None);
        let link = Resource::Link(veth());
        assert_eq!(kernel.create(Place::Host, &[&link]), [Err(Error::NoContainer)]);
        assert_eq!(kernel.create(Place::Container, &[&link]), [Err(Error::NoContainer)]);
        assert_eq!(kernel.remove(Place::Container, &[&link]), [Err(Error::NoContainer)]);
        assert_eq!(kernel.read(Place::Container, &[Query::Links]), Err(Error::NoContainer));
        assert_eq!(read_links(&mut kernel, Place::Host).unwrap().len(), 1);
    });
}

#[test]
fn states_say_what_they_were() {
    in_lab!(|mut lab| {
        lab.create(Place::Host, &Resource::Link(bridge())).unwrap();
        let states = [
            (Place::Container, Resource::LinkUp(LinkName::loopback())),
            (Place::Host, Resource::Promiscuous(name("cni0"))),
        ];
        for (place, state) in &states {
            let create = || lab.fresh_kernel().create(*place, &[state]);
            assert_eq!(create(), [Ok(Created::New)], "{state}");
            assert_eq!(create(), [Ok(Created::Kept)], "{state}");
            assert_eq!(lab.remove(*place, state), Ok(Removed::Now));
            assert_eq!(lab.fresh_kernel().create(*place, &[state]), [Ok(Created::New)], "{state}");
        }
        assert!(
            lab.ip(Place::Host, "link show cni0")[0]["flags"].as_array().unwrap().contains(&json!("PROMISC"))
        );
        let up = Resource::LinkUp(name("eth9"));
        assert_eq!(lab.create(Place::Host, &up).unwrap_err().errno(), Some(Errno::ENODEV));
        assert_eq!(lab.remove(Place::Host, &up), Ok(Removed::Before));
    });
}

#[test]
fn links_are_removed_once_with_both_ends() {
    in_lab!(|mut lab| {
        let veth = Resource::Link(veth());
        lab.create(Place::Host, &veth).unwrap();
        assert_eq!(lab.remove(Place::Host, &veth), Ok(Removed::Now));
        assert_eq!(lab.remove(Place::Host, &veth), Ok(Removed::Before));
        assert_eq!(read_link(&mut lab, Place::Container, "eth0"), None);
        let lo = Resource::Link(Link::new(LinkName::loopback(), LinkKind::Dummy));
        let error = lab.remove(Place::Host, &lo).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::EOPNOTSUPP));
    });
}

#[test]
fn a_link_that_was_replaced_is_found_again() {
    in_lab!(|mut lab| {
        let address = |kernel: &mut LinuxKernel, net: &str| {
            let address = Resource::Address(Address::new(name("a"), net.parse().unwrap()));
            kernel.create(Place::Host, &[&address]).remove(0)
        };
        lab.create(Place::Host, &pair("a", "b", Place::Host)).unwrap();
        address(&mut lab.kernel, "10.0.0.1/24").unwrap();
        lab.run(Place::Host, "ip link del dev a");
        lab.run(Place::Host, "ip link add name a type veth peer name b");
        let error = address(&mut lab.kernel, "10.0.0.2/24").unwrap_err();
        assert_eq!(error.errno(), Some(Errno::ENODEV), "it is not the interface that was meant");
        address(&mut lab.kernel, "10.0.0.3/24").unwrap();
    });
}

#[test]
fn settings_are_changed_where_they_differ_and_what_was_there_comes_back() {
    in_lab!(|mut lab| {
        let peer = VethPeer { place: Place::Host, name: name("veth0"), mtu: None, mac: None };
        let cable = Link { up: true, ..Link::new(name("eth0"), LinkKind::Veth { peer }) };
        lab.create(Place::Container, &Resource::Link(cable)).unwrap();
        let before = lab.ip(Place::Container, "link show eth0")[0].clone();
        let wanted = Resource::Settings(LinkSettings {
            mac: Some(MacAddr::new([2, 0, 0, 0, 0, 7])),
            mtu: Some(1400),
            promiscuous: Some(true),
            all_multicast: Some(true),
            transmit_queue: Some(77),
            ..LinkSettings::none(name("eth0"))
        });
        let Ok(Created::Changed(old)) = lab.create(Place::Container, &wanted) else { panic!() };
        let now = lab.ip(Place::Container, "link show eth0")[0].clone();
        assert_eq!((&now["address"], &now["mtu"]), (&"02:00:00:00:00:07".into(), &1400.into()));
        assert_eq!(now["txqlen"], 77);
        for flag in ["PROMISC", "ALLMULTI"] {
            assert!(now["flags"].as_array().unwrap().contains(&flag.into()), "{now}");
        }
        assert_eq!(lab.create(Place::Container, &wanted), Ok(Created::Kept));
        assert!(matches!(lab.create(Place::Container, &old), Ok(Created::Changed(_))));
        let after = lab.ip(Place::Container, "link show eth0")[0].clone();
        for key in ["address", "mtu", "txqlen", "flags"] {
            assert_eq!(after[key], before[key], "{key}");
        }
    });
}

#[test]
fn settings_of_which_the_kernel_refuses_one_are_all_as_they_were() {
    in_lab!(|mut lab| {
        let peer = VethPeer { place: Place::Host, name: name("veth0"), mtu: None, mac: None };
        let cable = Link::new(name("eth0"), LinkKind::Veth { peer });
        lab.create(Place::Container, &Resource::Link(cable)).unwrap();
        let before = lab.ip(Place::Container, "link show eth0");
        // The kernel takes the address first.
        let wanted = Resource::Settings(LinkSettings {
            mac: Some(MacAddr::new([2, 0, 0, 0, 0, 7])),
            mtu: Some(60),
            promiscuous: Some(true),
            ..LinkSettings::none(name("eth0"))
        });
        let error = lab.create(Place::Container, &wanted).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::EINVAL), "{error}");
        assert!(error.to_string().contains("settings of \"eth0\""), "{error}");
        assert_eq!(lab.ip(Place::Container, "link show eth0"), before);
        let gone = Resource::Settings(LinkSettings { mtu: Some(1400), ..LinkSettings::none(name("gone")) });
        assert_eq!(lab.create(Place::Container, &gone).unwrap_err().errno(), Some(Errno::ENODEV));
    });
}

#[test]
fn a_kind_that_the_kernel_lacks_is_named() {
    in_lab!(|mut lab| {
        let dummy = Resource::Link(Link::new(name("dummy0"), LinkKind::Dummy));
        match lab.create(Place::Host, &dummy) {
            Ok(created) => {
                assert_eq!(created, Created::New);
                assert_eq!(lab.ip(Place::Host, "link show dummy0")[0]["linkinfo"]["info_kind"], "dummy");
            }
            Err(error) => assert_eq!(
                error.to_string(),
                "create dummy \"dummy0\" in the host's namespace: Operation not supported on transport endpoint \
                 (EOPNOTSUPP): Unknown device type; it takes CONFIG_DUMMY (module dummy); this kernel lacks the feature: load or build its module"
            ),
        }
    });
}

#[test]
fn vlan_filtering_is_switched_on_or_refused() {
    in_lab!(|mut lab| {
        let wanted = Link::new(name("br0"), LinkKind::Bridge { vlan_filtering: true });
        match lab.create(Place::Host, &Resource::Link(wanted)) {
            Ok(_) => {
                let bridges = lab.ip(Place::Host, "link show br0");
                assert_eq!(bridges[0]["linkinfo"]["info_data"]["vlan_filtering"], 1);
            }
            Err(error) => {
                assert_eq!(error.errno(), Some(Errno::EOPNOTSUPP), "{error}");
                assert_eq!(read_link(&mut lab, Place::Host, "br0"), None);
            }
        }
    });
}
