use std::path::Path;

use cni_spec::runtime::{Attachment as Parameters, Runtime};
use cni_spec::{Env, Exec, ExecError, Exit, NetworkList, Output, PluginType};
use netops::{Address, Link, LinkKind, MemoryKernel, OtherAddresses, Plan, Resource, VethPeer};

use super::*;

const LIST: &str = r#"{"cniVersion":"1.1.0","name":"net","plugins":[{"type":"bridge","ipMasq":true,
    "ipam":{"type":"host-local","subnet":"10.1.0.0/24"}}]}"#;

/// A node in memory, with one attachment that is well.
struct Lab {
    kernel: MemoryKernel,
    cached: Vec<CachedAttachment>,
    stores: Vec<Store>,
    networks: Networks,
    owner: Owner,
}

impl Lab {
    fn new() -> Self {
        Self::with_container("c1")
    }

    fn with_container(container: &str) -> Self {
        let owner = Owner {
            network: "net".parse().unwrap(),
            container: container.parse().unwrap(),
            interface: "eth0".parse().unwrap(),
        };
        let mut lab = Self {
            kernel: MemoryKernel::new(),
            cached: Vec::new(),
            stores: Vec::new(),
            networks: Networks::of([NetworkList::from_json(LIST.as_bytes()).unwrap()]),
            owner,
        };
        lab.make(|plan, owner| {
            let mut bridge = Link::new(name("cni0"), LinkKind::Bridge { vlan_filtering: false });
            bridge.up = true;
            plan.own(Place::Host, Resource::Link(bridge));
            plan.own(Place::Host, Resource::Link(cable(owner, Some("cni0"))));
            plan.own(Place::Container, Resource::Address(address("eth0", "10.1.0.2/24")));
            plan.own(Place::Container, Resource::LinkUp(name("eth0")));
        });
        lab
    }

    fn make(&mut self, plan: impl FnOnce(&mut Plan, &Owner)) {
        let mut resources = Plan::new();
        plan(&mut resources, &self.owner);
        resources.apply(&mut self.kernel).unwrap();
    }

    fn unmake(&mut self, place: Place, resource: Resource) {
        for result in self.kernel.remove(place, &[&resource]) {
            result.unwrap();
        }
    }

    fn lease(&mut self, address: &str, content: &str) {
        let lease = Lease { address: address.parse().unwrap(), holder: Holder::parse(content.as_bytes()) };
        if self.stores.is_empty() {
            self.stores.push(Store { network: "net".to_owned(), data_dir: "/".into(), leases: Vec::new() });
        }
        self.stores[0].leases.push(lease);
    }

    /// What a runtime remembers of an `ADD` with this result.
    fn remember(&mut self, container: &str, netns: &str, result: &str) {
        let cache = tempfile::tempdir().unwrap();
        let runtime = Runtime::new(Env::default())
            .with_cache_dir(cache.path())
            .with_exec(Box::new(Says(result.as_bytes().to_vec())));
        let list = NetworkList::from_json(LIST.as_bytes()).unwrap();
        let parameters =
            Parameters::new(container.parse().unwrap(), "eth0".parse().unwrap()).with_netns(netns);
        runtime.add(&list, &parameters).unwrap();
        self.cached.extend(runtime.attachments().unwrap().attachments);
    }

    fn all(&mut self) -> Vec<Attachment> {
        let sources = Sources { cached: &self.cached, stores: &self.stores, networks: &self.networks };
        attachments(&mut self.kernel, sources).unwrap()
    }

    fn only(&mut self) -> Attachment {
        let mut all = self.all();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    fn problems(&mut self) -> Vec<String> {
        self.only().problems.iter().map(ToString::to_string).collect()
    }
}

/// A plugin that answers the same to everything.
struct Says(Vec<u8>);

impl Exec for Says {
    fn exec(&self, _: &Path, _: &Env, _: &[u8]) -> Result<Output, ExecError> {
        Ok(Output { exit: Exit::Code(0), stdout: self.0.clone(), stderr: Vec::new() })
    }

    fn find(&self, plugin: &PluginType, _: &[std::path::PathBuf]) -> Result<std::path::PathBuf, ExecError> {
        Ok(plugin.as_str().into())
    }
}

fn name(text: &str) -> LinkName {
    LinkName::new(text).unwrap()
}

fn address(link: &str, net: &str) -> Address {
    Address { others: OtherAddresses::Welcome, ..Address::new(name(link), net.parse().unwrap()) }
}

fn cable(owner: &Owner, bridge: Option<&str>) -> Link {
    let peer = VethPeer { place: Place::Container, name: name("eth0"), mtu: None, mac: None };
    Link {
        up: true,
        mark: Some(owner.mark()),
        master: bridge.map(name),
        ..Link::new(owner.host_interface(), LinkKind::Veth { peer })
    }
}

const RESULT: &str = r#"{"cniVersion":"1.1.0","interfaces":[{"name":"cni0"},{"name":"vethc2"},
    {"name":"eth0","sandbox":"/proc/self/ns/net"}],"ips":[{"address":"10.1.0.2/24","interface":2}]}"#;

#[test]
fn an_attachment_is_known_by_its_mark_alone() {
    let mut lab = Lab::new();
    let found = lab.only();
    assert_eq!(
        (found.network.as_str(), found.container.as_str(), found.interface.as_str()),
        ("net", "c1", "eth0")
    );
    assert_eq!(found.addresses, ["10.1.0.2/24".parse().unwrap()]);
    assert_eq!(found.host_interface.as_deref(), Some(lab.owner.host_interface().as_str()));
    assert_eq!(found.bridge.as_deref(), Some("cni0"));
    assert_eq!((found.source, found.is_live(), found.problems), (Source::Kernel, true, vec![]));
}

#[test]
fn interfaces_of_others_are_no_attachments() {
    let mut lab = Lab::new();
    lab.make(|plan, _| {
        let link = Link::new(name("br1"), LinkKind::Bridge { vlan_filtering: false });
        plan.own(Place::Host, Resource::Link(link));
    });
    assert_eq!(lab.all().len(), 1);
}

#[test]
fn what_an_attachments_traffic_waits_in_is_no_attachment() {
    let mut lab = Lab::new();
    lab.make(|plan, owner| {
        let ifb = Link { mark: Some(owner.mark()), ..Link::new(name("bwp0"), LinkKind::Ifb) };
        plan.own(Place::Host, Resource::Link(ifb));
    });
    assert_eq!(lab.only().host_interface.unwrap(), lab.owner.host_interface().as_str());
}

#[test]
fn what_is_down_is_told() {
    let mut lab = Lab::new();
    lab.unmake(Place::Container, Resource::LinkUp(name("eth0")));
    assert_eq!(lab.problems(), ["container's end is down"]);
    let host = lab.owner.host_interface();
    lab.unmake(Place::Host, Resource::LinkUp(host));
    assert_eq!(lab.problems(), ["host interface is down"]);
    lab.unmake(Place::Host, Resource::LinkUp(name("cni0")));
    assert_eq!(lab.problems(), ["host interface is down", "bridge cni0 is down"]);
}

#[test]
fn a_cable_must_be_plugged_into_a_bridge_or_have_an_address_to_route_from() {
    let mut lab = Lab::new();
    let (cable, host) = (cable(&lab.owner, None), lab.owner.host_interface());
    lab.unmake(Place::Host, Resource::Link(cable.clone()));
    lab.make(|plan, _| {
        plan.own(Place::Host, Resource::Link(cable));
        plan.own(Place::Container, Resource::Address(address("eth0", "10.1.0.2/24")));
        plan.own(Place::Container, Resource::LinkUp(name("eth0")));
    });
    assert_eq!(lab.problems(), ["in no bridge"]);
    lab.make(|plan, _| {
        plan.own(Place::Host, Resource::Address(address(host.as_str(), "10.1.0.1/32")));
    });
    assert_eq!(lab.problems(), [""; 0]);
}

#[test]
fn an_interface_without_an_address_is_told_unless_it_never_had_one() {
    let mut lab = Lab::new();
    lab.unmake(Place::Container, Resource::Address(address("eth0", "10.1.0.2/24")));
    assert_eq!(lab.problems(), ["no address"]);
    lab.remember("c1", "/proc/self/ns/net", r#"{"cniVersion":"1.1.0"}"#);
    assert_eq!(lab.problems(), [""; 0]);
}

#[test]
fn what_a_runtime_remembers_is_compared_with_the_kernel() {
    let mut lab = Lab::new();
    lab.remember("c1", "/nonexistent", RESULT);
    // The namespace's path is gone, and the namespace is not: its cable says so.
    assert_eq!(lab.problems(), ["10.1.0.2 is not masqueraded"]);
    let entry = Masquerade {
        source: "10.1.0.2".parse().unwrap(),
        within: "10.1.0.0/24".parse().unwrap(),
        mark: lab.owner.mark(),
    };
    lab.make(|plan, _| {
        plan.own(Place::Host, Resource::from(entry));
    });
    assert_eq!(lab.problems(), [""; 0]);
    lab.unmake(Place::Container, Resource::Address(address("eth0", "10.1.0.2/24")));
    lab.make(|plan, _| {
        plan.own(Place::Container, Resource::Address(address("eth0", "10.1.0.9/24")));
    });
    assert_eq!(lab.problems(), ["lost 10.1.0.2", "10.1.0.9 is not masqueraded"]);
    assert_eq!(lab.only().addresses, ["10.1.0.9/24".parse().unwrap()]);
}

#[test]
fn an_address_without_its_lease_is_told() {
    let mut lab = Lab::new();
    lab.lease("10.1.0.2", "c1\r\neth0");
    assert_eq!(lab.problems(), [""; 0]);
    lab.stores[0].leases.clear();
    assert_eq!(lab.problems(), ["no lease of 10.1.0.2"]);
    lab.lease("10.1.0.2", "c2\r\neth0");
    assert_eq!(lab.problems(), ["lease of 10.1.0.2 is container c2 interface eth0's"]);
    lab.stores[0].leases.clear();
    lab.lease("10.1.0.2", "c1");
    assert_eq!(lab.problems(), [""; 0], "a lease of before 2018");
}

#[test]
fn a_network_without_host_local_has_no_leases_to_miss() {
    let mut lab = Lab::new();
    let list =
        r#"{"cniVersion":"1.1.0","name":"net","plugins":[{"type":"bridge","ipam":{"type":"static"}}]}"#;
    lab.networks = Networks::of([NetworkList::from_json(list.as_bytes()).unwrap()]);
    lab.lease("10.9.9.9", "c9\r\neth0");
    assert_eq!(lab.problems(), [""; 0]);
}

#[test]
fn names_that_a_mark_has_cut_are_found_in_leases_and_caches() {
    let long = "c".repeat(100);
    let mut lab = Lab::with_container(&long);
    assert!(lab.only().container.contains('~'), "nobody knows more");
    assert_eq!(lab.only().id, None);
    lab.lease("10.1.0.2", &format!("{long}\r\neth0"));
    assert_eq!(lab.only().container, long);
    lab.stores.clear();
    lab.remember(&long, "/proc/self/ns/net", r#"{"cniVersion":"1.1.0","ips":[{"address":"10.1.0.2/24"}]}"#);
    assert_eq!(lab.only().container, long);
    assert_eq!(lab.only().id.unwrap().container_id.as_str(), long);
}

#[test]
fn an_attachment_of_another_plugin_is_known_from_the_cache_and_compared_with_the_kernel() {
    let mut lab = Lab::new();
    lab.kernel = MemoryKernel::new();
    lab.remember("c2", "/proc/self/ns/net", RESULT);
    lab.make(|plan, owner| {
        let unmarked = Link { name: name("vethc2"), mark: None, ..cable(owner, None) };
        plan.own(Place::Host, Resource::Link(unmarked));
        plan.own(Place::Container, Resource::Address(address("eth0", "10.1.0.2/24")));
        plan.own(Place::Container, Resource::LinkUp(name("eth0")));
    });
    let found = lab.only();
    assert_eq!((found.container.as_str(), found.source), ("c2", Source::Cache));
    assert_eq!(found.host_interface.as_deref(), Some("vethc2"));
    assert_eq!(found.problems, [Problem::NotPluggedIn]);
}

#[test]
fn an_attachment_whose_namespace_is_gone_is_not_live() {
    let mut lab = Lab::new();
    lab.kernel = MemoryKernel::new();
    lab.remember("c2", "/nonexistent", RESULT);
    let found = lab.only();
    assert_eq!((found.is_live(), found.problems), (false, vec![Problem::NamespaceGone]));
    assert_eq!(found.addresses, ["10.1.0.2/24".parse().unwrap()], "as it was");
}

#[test]
fn an_attachment_whose_cable_is_gone_is_told() {
    let mut lab = Lab::new();
    lab.kernel = MemoryKernel::new();
    lab.make(|plan, _| {
        let link = Link::new(name("cni0"), LinkKind::Bridge { vlan_filtering: false });
        plan.own(Place::Host, Resource::Link(link));
    });
    lab.remember("c2", "/proc/self/ns/net", RESULT);
    assert_eq!(lab.problems(), ["vethc2 is gone"]);
}

#[test]
fn an_address_is_in_use_if_the_other_end_of_a_cable_has_it() {
    let mut lab = Lab::new();
    let used_by = |lab: &mut Lab, address: &str| {
        address_in_use(&mut lab.kernel, address.parse().unwrap()).unwrap().map(|link| link.to_string())
    };
    assert_eq!(used_by(&mut lab, "10.1.0.2"), Some(lab.owner.host_interface().to_string()));
    assert_eq!(used_by(&mut lab, "10.1.0.3"), None);
}
