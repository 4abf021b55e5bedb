//! A node with which all is well, for tests to spoil.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests are tests

use overlay::report::{PeerCounts, Ports, Status, StoreStatus};
use overlay::{Mode, Subnet, SubnetState};
use plugin_overlay::{Assigned, NodeFile};

use crate::commands::doctor::facts::{
    Agent, Chain, Configuration, Conntrack, Endpoint, Facts, Feature, Holder, Identity, Kernel, Link,
    Network, Reached, Route, Runtime, Settings, Socket, Transport, Tried, Whom,
};
use crate::commands::doctor::finding::{Finding, Findings, Severity};

/// What is so on a healthy node.
pub(super) fn facts() -> Facts {
    Facts {
        identity: Identity {
            host_name: Some("n1".to_owned()),
            machine_id: Some("0123456789abcdef0123456789abcdef".to_owned()),
            product_uuid: Some("4c4c4544-0042-3510-8053-b4c04f4b4d31".to_owned()),
        },
        network: Some(Network {
            links: vec![
                link("lo", "", "00:00:00:00:00:00", 65536, &["127.0.0.1/8"]),
                link("eth0", "", "52:54:00:00:00:01", 1500, &["192.168.1.11/24"]),
                link("cnikit0", "bridge", "02:00:00:00:00:01", 1450, &["10.244.3.1/24"]),
            ],
            routes: vec![
                route("0.0.0.0/0", Some("192.168.1.1"), "eth0"),
                route("192.168.1.0/24", None, "eth0"),
                route("10.244.3.0/24", None, "cnikit0"),
            ],
        }),
        sockets: Some(vec![listens(Transport::Tcp, 10250, process("kubelet"))]),
        settings: Settings {
            forward_ipv4: Some(true),
            forward_ipv6: Some(true),
            bridge_netfilter: Some(true),
            rp_filter: vec![("all".to_owned(), 0), ("eth0".to_owned(), 2)],
            conntrack: Some(Conntrack { count: 100, max: 262_144 }),
            swaps: Vec::new(),
            local_ports: Some((32768, 60999)),
            reserved_ports: Vec::new(),
            unified_cgroups: Some(true),
        },
        kernel: Kernel {
            release: Some("6.18.44".to_owned()),
            features: Feature::ALL.map(|feature| (feature, Tried::Works)).into(),
        },
        runtime: Runtime {
            endpoints: vec![Endpoint {
                socket: "/run/containerd/containerd.sock".to_owned(),
                source: "/var/lib/kubelet/kubeadm-flags.env".to_owned(),
                is_there: true,
            }],
            sockets: vec!["/run/containerd/containerd.sock".to_owned()],
            fail_swap_on: Some(true),
            cri_is_disabled: false,
            plugin_dirs: vec![("/opt/cni/bin".into(), "by default".to_owned())],
            conf_dir: "/etc/cni/net.d".into(),
            configurations: vec![Configuration {
                path: "/etc/cni/net.d/10-pods.conflist".into(),
                content: Ok(Chain {
                    network: "pods".to_owned(),
                    plugins: vec![("overlay".to_owned(), Some("/opt/cni/bin/overlay".into()))],
                }),
            }],
        },
        agent: Agent {
            status: Some(Ok(status())),
            map: None,
            files: vec![("pods".to_owned(), Ok(node_file()))],
            ports: Some(ports()),
        },
        reached: vec![Reached { whom: Whom::ApiServer, at: "192.168.1.10:6443".to_owned(), refused: None }],
        cluster: Vec::new(),
    }
}

pub(super) fn status() -> Status {
    Status {
        node: "01".repeat(16).parse().unwrap(),
        name: overlay::NodeName::new("n1").unwrap(),
        version: "0.1.0".to_owned(),
        uptime: 60,
        network: "pods".to_owned(),
        bridge: "cnikit0".to_owned(),
        addresses: vec!["192.168.1.11".parse().unwrap()],
        subnets: vec![Subnet { prefix: "10.244.3.0/24".parse().unwrap(), state: SubnetState::Held }],
        mode: Mode::Auto,
        store: StoreStatus { kind: "gossip".to_owned(), endpoints: Vec::new(), cut_off: None },
        peers: PeerCounts::default(),
        pods: 0,
        ready: true,
        problems: Vec::new(),
        ports: Some(ports()),
    }
}

/// As they are if nobody says otherwise.
pub(super) fn ports() -> Ports {
    Ports { gossip: Some(4793), tunnel: 4789, probes: 4794, health: Some(4794) }
}

pub(super) fn node_file() -> NodeFile {
    NodeFile {
        node: "01".repeat(16),
        bridge: "cnikit0".to_owned(),
        mtu: 1450,
        subnets: vec![Assigned {
            subnet: "10.244.3.0/24".parse().unwrap(),
            gateway: "10.244.3.1".parse().unwrap(),
            first: "10.244.3.9".parse().unwrap(),
        }],
        cluster: vec!["10.244.0.0/16".parse().unwrap()],
        waiting: None,
        cut_off: None,
        duplicates: Vec::new(),
    }
}

pub(super) fn link(name: &str, kind: &str, mac: &str, mtu: u32, addresses: &[&str]) -> Link {
    Link {
        name: name.to_owned(),
        kind: kind.to_owned(),
        mac: Some(mac.to_owned()),
        mtu,
        up: true,
        carrier: true,
        addresses: addresses.iter().map(|net| net.parse().unwrap()).collect(),
        is_port: false,
        is_pods: false,
    }
}

pub(super) fn route(destination: &str, gateway: Option<&str>, link: &str) -> Route {
    Route {
        destination: destination.parse().unwrap(),
        gateway: gateway.map(|gateway| gateway.parse().unwrap()),
        link: link.to_owned(),
        protocol: None,
    }
}

pub(super) fn listens(transport: Transport, port: u16, holder: Holder) -> Socket {
    Socket { transport, address: "0.0.0.0".parse().unwrap(), port, holder }
}

pub(super) fn process(name: &str) -> Holder {
    Holder::Process(812, name.to_owned())
}

/// The interface of that name.
pub(super) fn interface<'a>(facts: &'a mut Facts, name: &str) -> &'a mut Link {
    facts.network.as_mut().unwrap().links.iter_mut().find(|link| link.name == name).unwrap()
}

/// The findings of a rule about a node that was healthy before something was done to it.
pub(super) fn spoilt(check: impl Fn(&Facts) -> Findings, spoil: impl FnOnce(&mut Facts)) -> Vec<Finding> {
    let mut facts = facts();
    spoil(&mut facts);
    check(&facts).into_vec()
}

/// That there is exactly one complaint, of this severity and with these words in it, and one about nothing before.
#[track_caller]
pub(super) fn complains(
    check: impl Fn(&Facts) -> Findings,
    spoil: impl FnOnce(&mut Facts),
    severity: Severity,
    words: &str,
) {
    let complaints = |found: Vec<Finding>| -> Vec<Finding> {
        found.into_iter().filter(|finding| finding.severity < Severity::Info).collect()
    };
    assert_eq!(complaints(spoilt(&check, |_| {})), []);
    let found = complaints(spoilt(&check, spoil));
    let [finding] = found.as_slice() else { panic!("not one complaint: {found:#?}") };
    assert_eq!(finding.severity, severity, "{finding:#?}");
    assert!(finding.what.contains(words), "{words}: {finding:#?}");
}
