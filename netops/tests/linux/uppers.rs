//! Links that are on another one, and taps.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use netops::*;
use nix::poll::{PollFd, PollFlags, poll};
use serde_json::json;

use super::links::bridge;
use crate::in_lab;
use crate::support::{Lab, name};

fn macvlan(mode: MacvlanMode) -> Link {
    let parent = Parent { place: Place::Host, name: name("cni0") };
    Link {
        mac: Some(MacAddr::new([2, 0, 0, 0, 0, 5])),
        mark: Some(Mark::new("pod 1 of blue").unwrap()),
        ..Link::new(name("eth0"), LinkKind::Macvlan { parent, mode, broadcast_queue: Some(500) })
    }
}

fn tap(tap: Tap) -> Resource {
    Resource::Link(Link {
        mtu: Some(1400),
        mac: Some(MacAddr::new([2, 0, 0, 0, 0, 6])),
        mark: Some(Mark::new("pod 1 of blue").unwrap()),
        ..Link::new(name("tap0"), LinkKind::Tap(tap))
    })
}

/// What differs from what is wanted, to a kernel value that remembers nothing.
fn differences(lab: &Lab, place: Place, resource: &Resource) -> Vec<String> {
    let mut plan = Plan::new();
    plan.own(place, resource.clone());
    plan.check(&mut lab.fresh_kernel()).unwrap().iter().map(ToString::to_string).collect()
}

#[test]
fn a_macvlan_is_made_where_it_belongs_whatever_its_parents_neighbours_are_called() {
    in_lab!(|mut lab| {
        lab.create(Place::Host, &Resource::Link(bridge())).unwrap();
        // Its name is taken where its parent is.
        lab.run(Place::Host, "ip link add name eth0 type bridge");
        let wanted = Resource::Link(macvlan(MacvlanMode::Private));
        assert_eq!(lab.create(Place::Container, &wanted), Ok(Created::New));
        assert_eq!(differences(&lab, Place::Container, &wanted), Vec::<String>::new());

        let links = lab.ip(Place::Container, "link show eth0");
        let link = &links[0];
        assert_eq!(link["linkinfo"]["info_kind"], "macvlan");
        assert_eq!(link["linkinfo"]["info_data"]["mode"], "private");
        assert_eq!(link["linkinfo"]["info_data"]["bcqueuelen"], 500);
        assert_eq!(link["address"], "02:00:00:00:00:05");
        assert_eq!(link["ifalias"], "pod 1 of blue");
        assert_eq!(link["link_index"], lab.ip(Place::Host, "link show cni0")[0]["ifindex"]);

        let others = [
            (Resource::Link(macvlan(MacvlanMode::Bridge)), "mode is private, not bridge"),
            (
                Resource::Link(Link { mac: None, mtu: Some(1300), ..macvlan(MacvlanMode::Private) }),
                "MTU is 1500",
            ),
        ];
        for (other, difference) in others {
            let found = differences(&lab, Place::Container, &other);
            assert!(found.len() == 1 && found[0].contains(difference), "{found:?}");
        }
        let mut elsewhere = macvlan(MacvlanMode::Private);
        elsewhere.kind = LinkKind::Macvlan {
            parent: Parent { place: Place::Host, name: name("eth0") },
            mode: MacvlanMode::Private,
            broadcast_queue: None,
        };
        let found = differences(&lab, Place::Container, &Resource::Link(elsewhere));
        assert!(found.len() == 1 && found[0].contains("parent is interface"), "{found:?}");

        assert_eq!(lab.remove(Place::Container, &wanted), Ok(Removed::Now));
        assert_eq!(lab.remove(Place::Container, &wanted), Ok(Removed::Before));
        // A second one, now that the host's namespace has its number.
        assert_eq!(lab.create(Place::Container, &wanted), Ok(Created::New));
    });
}

#[test]
fn a_macvlan_may_have_its_parent_beside_it() {
    in_lab!(|mut lab| {
        lab.create(Place::Container, &Resource::Link(bridge())).unwrap();
        let parent = Parent { place: Place::Container, name: name("cni0") };
        let kind = LinkKind::Macvlan { parent, mode: MacvlanMode::Passthru, broadcast_queue: None };
        let wanted = Resource::Link(Link::new(name("eth0"), kind));
        lab.create(Place::Container, &wanted).unwrap();
        assert_eq!(differences(&lab, Place::Container, &wanted), Vec::<String>::new());
        // It goes with its parent.
        lab.remove(Place::Container, &Resource::Link(bridge())).unwrap();
        assert_eq!(lab.remove(Place::Container, &wanted), Ok(Removed::Before));
    });
}

#[test]
fn a_parent_that_is_not_there_is_named() {
    in_lab!(|mut lab| {
        let error = lab.create(Place::Container, &Resource::Link(macvlan(MacvlanMode::Bridge))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "create macvlan \"eth0\" in the container's namespace: No such device (ENODEV): there is no interface \
             \"cni0\" in the host's namespace"
        );
    });
}

#[test]
fn what_the_kernel_lacks_is_named_with_its_module() {
    in_lab!(|mut lab| {
        lab.create(Place::Host, &Resource::Link(bridge())).unwrap();
        let parent = || Parent { place: Place::Host, name: name("cni0") };
        let ipvlan = LinkKind::Ipvlan { parent: parent(), mode: IpvlanMode::L2 };
        let vlan = LinkKind::Vlan { parent: parent(), id: 5 };
        for (kind, word, needs) in [
            (ipvlan, "ipvlan", "CONFIG_IPVLAN (module ipvlan)"),
            (vlan, "vlan", "CONFIG_VLAN_8021Q (module 8021q)"),
        ] {
            let wanted = Resource::Link(Link::new(name("eth0"), kind));
            match lab.create(Place::Container, &wanted) {
                Ok(_) => {
                    assert_eq!(differences(&lab, Place::Container, &wanted), Vec::<String>::new());
                    lab.remove(Place::Container, &wanted).unwrap();
                }
                Err(error) => assert_eq!(
                    error.to_string(),
                    format!(
                        "create {word} \"eth0\" in the container's namespace: Operation not supported on transport \
                         endpoint (EOPNOTSUPP): Unknown device type; it takes {needs}; this kernel lacks the \
                         feature: load or build its module"
                    )
                ),
            }
        }
    });
}

#[test]
fn a_link_is_moved_here_and_back() {
    in_lab!(|mut lab| {
        lab.create(Place::Host, &super::links::pair("ens5", "far5", Place::Host)).unwrap();
        lab.create(Place::Host, &Resource::LinkUp(name("ens5"))).unwrap();
        assert_eq!(
            lab.create(Place::Host, &Resource::LinkDown(name("ens5"))),
            Ok(Created::Changed(Resource::LinkUp(name("ens5"))))
        );
        assert_eq!(lab.create(Place::Host, &Resource::LinkDown(name("ens5"))), Ok(Created::Kept));
        let moved = |original: &str| {
            let (name, original) = (name("eth0"), name(original));
            Resource::MovedLink(MovedLink { name, from: Place::Host, original, mac: None })
        };
        assert_eq!(lab.create(Place::Container, &moved("ens5")), Ok(Created::New));
        assert_eq!(differences(&lab, Place::Container, &moved("ens5")), Vec::<String>::new());
        let links = lab.ip(Place::Container, "link show eth0");
        assert_eq!((&links[0]["ifalias"], &links[0]["operstate"]), (&json!("ens5"), &json!("DOWN")));
        // Its name is known at once.
        let address = Address::new(name("eth0"), "10.9.0.1/24".parse().unwrap());
        lab.create(Place::Container, &Resource::Address(address)).unwrap();

        let error = lab.create(Place::Container, &moved("far5")).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::EEXIST), "{error}");
        assert!(
            differences(&lab, Place::Container, &moved("far5"))[0]
                .contains("original name is ens5, not far5")
        );
        assert_eq!(lab.remove(Place::Container, &moved("far5")), Ok(Removed::Before), "it is another");
        lab.run(Place::Host, "ip link add name ens5 type bridge");
        let error = lab.remove(Place::Container, &moved("ens5")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "remove interface \"eth0\" (\"ens5\" of the host) in the container's namespace: File exists (EEXIST): \
             there is an interface \"ens5\" in the host's namespace"
        );
        lab.run(Place::Host, "ip link del ens5");
        assert_eq!(lab.remove(Place::Container, &moved("ens5")), Ok(Removed::Now));
        assert_eq!(lab.remove(Place::Container, &moved("ens5")), Ok(Removed::Before));
        let links = lab.ip(Place::Host, "link show ens5");
        assert!(links[0].get("ifalias").is_none(), "{links}");
        // Somebody has the name that it has there, and it comes under its own.
        lab.run(Place::Container, "ip link add name ens5 type bridge");
        assert_eq!(lab.create(Place::Container, &moved("ens5")), Ok(Created::New));
    });
}

#[test]
fn a_tap_is_made_whole_and_once() {
    in_lab!(|mut lab| {
        let terms =
            Tap { multi_queue: true, owner: Some(1000), group: Some(100), selinux_context: Some("x".into()) };
        let wanted = tap(terms);
        assert_eq!(lab.create(Place::Container, &wanted), Ok(Created::New));
        assert_eq!(differences(&lab, Place::Container, &wanted), Vec::<String>::new());
        let links = lab.ip(Place::Container, "link show tap0");
        let link = &links[0];
        assert_eq!(link["linkinfo"]["info_data"]["type"], "tap");
        assert_eq!(link["linkinfo"]["info_data"]["multi_queue"], true);
        assert_eq!(link["linkinfo"]["info_data"]["persist"], true);
        assert_eq!((&link["mtu"], &link["address"]), (&json!(1400), &json!("02:00:00:00:00:06")));
        assert_eq!(link["ifalias"], "pod 1 of blue");
        assert_eq!(lab.ip(Place::Host, "link show").as_array().unwrap().len(), 1);

        let found = differences(&lab, Place::Container, &tap(Tap { owner: Some(7), ..Tap::default() }));
        assert_eq!(found.len(), 3, "queues, owner, group: {found:?}");
        let error = lab.create(Place::Container, &wanted).unwrap_err();
        assert_eq!(
            error.to_string(),
            "create tap \"tap0\" in the container's namespace: File exists (EEXIST)"
        );
        assert_eq!(lab.remove(Place::Container, &wanted), Ok(Removed::Now));
        // Nor is one made of what has the name and is something else.
        lab.run(Place::Container, "ip link add name tap0 type bridge");
        let error = lab.create(Place::Container, &wanted).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::EEXIST), "{error}");
    });
}

#[test]
fn a_tap_that_cannot_be_completed_is_gone() {
    in_lab!(|mut lab| {
        let mut wanted = Link::new(name("tap0"), LinkKind::Tap(Tap::default()));
        wanted.mtu = Some(100_000);
        let error = lab.create(Place::Container, &Resource::Link(wanted)).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::EINVAL), "{error}");
        assert_eq!(lab.ip(Place::Container, "link show").as_array().unwrap().len(), 1);
    });
}

#[test]
fn frames_go_in_and_out_of_a_tap_that_is_a_port() {
    in_lab!(|mut lab| {
        lab.create(Place::Container, &Resource::Link(bridge())).unwrap();
        lab.create(Place::Container, &Resource::Promiscuous(name("cni0"))).unwrap();
        let mut wanted = Link::new(name("tap0"), LinkKind::Tap(Tap::default()));
        (wanted.master, wanted.up) = (Some(name("cni0")), true);
        let wanted = Resource::Link(wanted);
        lab.create(Place::Container, &wanted).unwrap();
        assert_eq!(differences(&lab, Place::Container, &wanted), Vec::<String>::new());
        let address = Address::new(name("cni0"), "10.9.0.1/24".parse().unwrap());
        lab.create(Place::Container, &Resource::Address(address)).unwrap();

        let device = lab.container.enter(|| open_tap(&name("tap0"))).unwrap().unwrap();
        // Who has 10.9.0.1? Tell 10.9.0.2.
        let ours = [2, 0, 0, 0, 0, 9];
        let mut request = vec![0xff; 6];
        request.extend(ours);
        request.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        request.extend(ours);
        request.extend([10, 9, 0, 2, 0, 0, 0, 0, 0, 0, 10, 9, 0, 1]);
        let mut frame = [0; 2048];
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(5) {
            // A new port takes a moment before it lets anything through.
            (&device).write_all(&request).unwrap();
            let mut readable = [PollFd::new(device.as_fd(), PollFlags::POLLIN)];
            while poll(&mut readable, 50_u8).unwrap() > 0 {
                let length = (&device).read(&mut frame).unwrap();
                // The bridge's own chatter aside.
                if length >= 42 && frame[..6] == ours && frame[12..14] == [8, 6] {
                    assert_eq!((&frame[20..22], &frame[28..32]), (&[0, 2][..], &[10, 9, 0, 1][..]));
                    return;
                }
            }
        }
        panic!("no answer");
    });
}
