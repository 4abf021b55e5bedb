//! On a node in memory: what each command does, and every operation of the kernel failing in turn.

use cni_spec::AddResult;
use cni_spec::plugin::Plugin;
use netops::*;
use plugin_bridge::Bridge;
use plugin_chain::{Bandwidth, Portmap};
use plugin_kit::testing::{Fault, MemoryNode, TestCall, Trial};
use plugin_kit::{Explain, Kit, error};
use serde_json::{Value, json};

struct Net {
    node: MemoryNode,
    leases: tempfile::TempDir,
    config: Value,
}

impl Net {
    fn new(config: Value) -> Self {
        Self { node: MemoryNode::new(), leases: tempfile::tempdir().unwrap(), config }
    }

    fn portmap(&self) -> Kit<Portmap, &MemoryNode> {
        Kit::with_kernels(Portmap, &self.node)
    }

    /// Attaches a pod by bridge alone.
    fn bridged(&self, pod: &str) -> AddResult {
        self.bridge().add(&self.bridge_call(pod).request()).unwrap()
    }

    fn bridge(&self) -> Kit<Bridge, &MemoryNode> {
        Kit::with_kernels(Bridge, &self.node)
    }

    fn bridge_call(&self, pod: &str) -> TestCall {
        let config = json!({
            "cniVersion": "1.1.0", "name": "net", "type": "bridge", "isGateway": true,
            "ipam": {
                "type": "host-local", "dataDir": self.leases.path(),
                "ranges": [[{"subnet": "10.22.0.0/24"}], [{"subnet": "fd00:22::/64"}]],
            },
        });
        TestCall::new(config).container(pod)
    }

    fn call(&self, pod: &str) -> TestCall {
        self.call_with(pod, self.config.clone())
    }

    fn call_with(&self, pod: &str, mut config: Value) -> TestCall {
        config["cniVersion"] = json!("1.1.0");
        config["name"] = json!("net");
        config["type"] = json!("portmap");
        TestCall::new(config).container(pod)
    }

    fn entries(&self) -> Vec<PortMapping> {
        let entries = read_entries(&mut self.node.process(), &[EntryKind::PortMapping]).unwrap();
        let mapping = |entry| match entry {
            Entry::PortMapping(mapping) => mapping,
            other => panic!("{other}"),
        };
        entries.into_iter().map(mapping).collect()
    }

    fn ports(&self) -> Vec<String> {
        self.entries().iter().map(|mapping| format!("{} to {}", mapping.port, mapping.to)).collect()
    }
}

fn publishing(mappings: Value) -> Value {
    json!({"runtimeConfig": {"portMappings": mappings}})
}

fn two_ports() -> Value {
    publishing(json!([
        {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
        {"HostPort": 53, "ContainerPort": 5353, "Protocol": "UDP", "HostIP": "192.0.2.1"},
    ]))
}

#[test]
fn the_first_address_of_each_version_gets_the_ports_that_fit_it() {
    let net = Net::new(publishing(json!([
        {"hostPort": 1, "containerPort": 11},
        {"hostPort": 2, "containerPort": 12, "hostIP": "0.0.0.0", "protocol": "sctp"},
        {"hostPort": 3, "containerPort": 13, "hostIP": "::"},
        {"hostPort": 4, "containerPort": 14, "hostIP": "192.0.2.1"},
        {"hostPort": 5, "containerPort": 15, "hostIP": "2001:db8::1"},
        {"hostPort": 6, "containerPort": 16, "hostIP": "::ffff:192.0.2.1"},
        {"hostPort": 1, "containerPort": 99},
    ])));
    let mut result = net.bridged("a");
    let more = result.ips.iter().cloned().map(|mut ip| {
        ip.address = if ip.address.addr().is_ipv4() { "10.9.9.9/24" } else { "fd99::9/64" }.parse().unwrap();
        ip
    });
    let more: Vec<_> = more.collect();
    result.ips.extend(more);
    assert_eq!(net.portmap().add(&net.call("a").previous(&result).request()).unwrap(), result);
    assert_eq!(
        net.ports(),
        [
            "port 0.0.0.0:1/tcp to 10.22.0.2:11",
            "port 192.0.2.1:4/tcp to 10.22.0.2:14",
            "port 192.0.2.1:6/tcp to 10.22.0.2:16",
            "port [::]:1/tcp to [fd00:22::2]:11",
            "port [::]:3/tcp to [fd00:22::2]:13",
            "port [2001:db8::1]:5/tcp to [fd00:22::2]:15",
            "port 0.0.0.0:2/sctp to 10.22.0.2:12",
        ]
    );
    let localnet = Query::Sysctl(SysctlKey::new("net/ipv4/conf/cni0/route_localnet").unwrap());
    let answer = net.node.process().read(Place::Host, &[localnet]).unwrap().remove(0);
    assert_eq!(answer, Answer::Sysctl(Some("1".into())));
}

#[test]
fn without_ports_nothing_is_done_and_the_result_is_passed_on() {
    for config in [json!({"dns": {"nameservers": ["192.0.2.53"]}}), publishing(json!([]))] {
        let net = Net::new(config);
        let result = net.bridged("a");
        let before = net.node.snapshot();
        let call = net.call("a").previous(&result);
        // Whatever it did would fail.
        net.node.fail_at(0, Fault::Refused(Errno::EPERM));
        assert_eq!(net.portmap().add(&call.request()).unwrap(), result);
        net.portmap().check(&call.request()).unwrap();
        net.portmap().del(&call.del_request()).unwrap();
        assert_eq!(net.node.snapshot(), before);
    }
}

/// Conditions of both families, of datagrams too, and nothing that masquerades.
fn conditional() -> Value {
    json!({
        "snat": false, "conditionsV4": ["!", "-d", "192.0.2.0/24"], "conditionsV6": ["-s", "fd00:9::/64"],
        "runtimeConfig": {"portMappings": [
            {"hostPort": 53, "containerPort": 5353, "protocol": "udp"},
            {"hostPort": 54, "containerPort": 5354, "protocol": "udp", "hostIP": "2001:db8::1"},
        ]},
    })
}

#[test]
fn what_cannot_be_published_is_named() {
    for (mapping, path) in [
        (json!({"hostPort": 0, "containerPort": 80}), "runtimeConfig.portMappings[0].hostPort"),
        (json!({"hostPort": 80, "containerPort": 0}), "runtimeConfig.portMappings[0].containerPort"),
        (json!({"hostPort": 65536, "containerPort": 80}), "runtimeConfig.portMappings[0].hostPort"),
        (
            json!({"hostPort": 80, "containerPort": 80, "protocol": "icmp"}),
            "runtimeConfig.portMappings[0].protocol",
        ),
        (
            json!({"hostPort": 80, "containerPort": 80, "hostIP": "nowhere"}),
            "runtimeConfig.portMappings[0].hostIP",
        ),
    ] {
        let net = Net::new(publishing(json!([mapping])));
        let result = net.bridged("a");
        let error = net.portmap().add(&net.call("a").previous(&result).request()).unwrap_err();
        assert!(error.to_string().contains(path), "{error}");
        // A DEL does not mind.
        net.portmap().del(&net.call("a").previous(&result).del_request()).unwrap();
    }
}

#[test]
fn a_failed_add_leaves_everything_as_it_was_and_can_be_repeated() {
    let faults = [Fault::Refused(Errno::ENOBUFS), Fault::Refused(Errno::EPERM), Fault::ReplyLost];
    for (config, fault) in faults.into_iter().flat_map(|fault| configurations().map(|config| (config, fault)))
    {
        for n in 0.. {
            let net = Net::new(config.clone());
            let result = net.bridged("a");
            let call = net.call("a").previous(&result);
            let before = net.node.snapshot();
            net.node.fail_at(n, fault);
            let outcome = net.portmap().add(&call.request());
            let failed = net.node.has_failed();
            net.node.heal();
            if let Ok(result) = outcome {
                // It was past the last operation, or did without the one that failed.
                net.portmap().check(&net.call("a").previous(&result).request()).unwrap();
                if failed {
                    continue;
                }
                assert!(n > 5, "{n} operations");
                break;
            }
            // What is shared stays, if others may have begun to rely on it.
            let own = |snapshot: &Snapshot| {
                snapshot
                    .to_string()
                    .lines()
                    .filter(|l| !l.contains("route_localnet"))
                    .collect::<Vec<_>>()
                    .join("\n")
            };
            assert_eq!(own(&net.node.snapshot()), own(&before), "operation {n} met {fault:?}");
            net.portmap().add(&call.request()).unwrap();
            net.portmap().check(&call.request()).unwrap();
        }
    }
}

/// Several kinds of ports.
fn configurations() -> [Value; 3] {
    let all = json!({"masqAll": true, "runtimeConfig": two_ports()["runtimeConfig"]});
    [two_ports(), conditional(), all]
}

#[test]
fn a_del_or_gc_that_failed_at_any_point_is_completed_by_the_next() {
    let nine = publishing(json!([{"hostPort": 9, "containerPort": 9}]));
    for config in configurations() {
        let net = Net::new(config);
        let document = |mut config: Value| {
            for (key, value) in [("cniVersion", "1.1.0"), ("name", "net"), ("type", "portmap")] {
                config[key] = json!(value);
            }
            config
        };
        let trial = Trial::new(Portmap, &document(net.config.clone()));
        let trial = trial.beside(&document(nine.clone())).behind(|node, call| {
            let bridge = Kit::with_kernels(Bridge, node);
            let last = if call.container_id() == "c1" { 2 } else { 3 };
            let made = bridge.add(&static_bridge(last).container(call.container_id()).request()).unwrap();
            call.previous(&made)
        });
        assert!(trial.assert_del_is_completed_by_the_next() > 10);
        assert!(trial.assert_gc_is_completed_by_the_next() > 3);
    }
}

fn static_bridge(last: u8) -> TestCall {
    TestCall::new(json!({
        "cniVersion": "1.1.0", "name": "net", "type": "bridge", "isGateway": true,
        "ipam": {"type": "static", "addresses": [
            {"address": format!("10.22.0.{last}/24"), "gateway": "10.22.0.1"},
            {"address": format!("fd00:22::{last}/64"), "gateway": "fd00:22::1"},
        ]},
    }))
}

#[test]
fn a_del_that_knows_nothing_and_failed_at_any_point_is_completed_by_the_next() {
    for n in 0.. {
        let net = Net::new(two_ports());
        let (result, other) = (net.bridged("a"), net.bridged("other"));
        let nine = publishing(json!([{"hostPort": 9, "containerPort": 9}]));
        net.portmap().add(&net.call_with("other", nine).previous(&other).request()).unwrap();
        net.portmap().add(&net.call("a").previous(&result).request()).unwrap();
        // Neither what was published nor where to: all is looked through.
        let call = net.call_with("a", json!({"snat": "no"})).without_netns();
        net.node.fail_at(n, Fault::Refused(Errno::ENOBUFS));
        let said = net.portmap().del(&call.del_request());
        let failed = net.node.has_failed();
        net.node.heal();
        if said.is_err() {
            net.portmap().del(&call.del_request()).unwrap();
        }
        assert_eq!(net.ports(), ["port 0.0.0.0:9/tcp to 10.22.0.3:9", "port [::]:9/tcp to [fd00:22::3]:9"]);
        if !failed {
            break;
        }
    }
}

#[test]
fn gc_removes_what_no_valid_attachment_has() {
    let net = Net::new(two_ports());
    let result = net.bridged("a");
    net.portmap().add(&net.call("a").previous(&result).request()).unwrap();
    net.portmap().gc(&net.call("a").gc_request(&[("a", "eth0")])).unwrap();
    assert_eq!(net.ports().len(), 3);
    net.portmap().gc(&net.call("a").gc_request(&[])).unwrap();
    assert_eq!(net.ports(), Vec::<String>::new());
}

#[test]
fn a_port_is_taken_from_nobody_but_the_dead() {
    let net = Net::new(two_ports());
    let (a, b) = (net.bridged("a"), net.bridged("b"));
    net.portmap().add(&net.call("a").previous(&a).request()).unwrap();
    let before = net.node.snapshot();
    let refused = net.portmap().add(&net.call("b").previous(&b).request()).unwrap_err();
    assert_eq!(refused.code(), error::CONFLICT);
    let text = refused.to_string();
    assert!(text.contains("port 0.0.0.0:8080/tcp") && text.contains("cnikit net a eth0"), "{text}");
    assert_eq!(net.node.snapshot(), before);
    // The reference's DEL, which knows nothing of our tables, was the last of it.
    net.node.end_container("a");
    net.portmap().add(&net.call("b").previous(&b).request()).unwrap();
    assert_eq!(net.ports().len(), 3);
    assert!(net.ports().iter().all(|port| port.contains("10.22.0.3") || port.contains("fd00:22::3")));
}

#[test]
fn what_bandwidth_leaves_of_the_dead_does_not_hold_their_ports() {
    let net = Net::new(two_ports());
    let (a, b) = (net.bridged("a"), net.bridged("b"));
    let limited = json!({
        "cniVersion": "1.1.0", "name": "net", "type": "bandwidth", "egressRate": 8000, "egressBurst": 8000,
    });
    let bandwidth = Kit::with_kernels(Bandwidth, &net.node);
    bandwidth.add(&TestCall::new(limited).container("a").previous(&a).request()).unwrap();
    net.portmap().add(&net.call("a").previous(&a).request()).unwrap();
    // Its interface goes with the namespace, and nobody calls DEL; what limits it stays on the node.
    net.node.end_container("a");
    let links = read_links(&mut net.node.process(), Place::Host).unwrap();
    assert!(links.iter().any(|link| link.alias.as_deref() == Some("cnikit net a eth0")));
    net.portmap().add(&net.call("b").previous(&b).request()).unwrap();
    assert!(net.ports().iter().all(|port| port.contains("10.22.0.3") || port.contains("fd00:22::3")));
}

#[test]
fn whoever_got_the_address_of_the_dead_does_not_hold_their_ports() {
    let net = Net::new(two_ports());
    let a = net.bridged("a");
    net.portmap().add(&net.call("a").previous(&a).request()).unwrap();
    // A DEL that portmap was not part of.
    net.bridge().del(&net.bridge_call("a").previous(&a).del_request()).unwrap();
    let heir = net.bridge().add(&net.bridge_call("heir").args("IP=10.22.0.2").request()).unwrap();
    assert_eq!(heir.ips[0].address, a.ips[0].address);
    let b = net.bridged("b");
    net.portmap().add(&net.call("b").previous(&b).request()).unwrap();
    assert!(net.ports().iter().all(|port| !port.contains("10.22.0.2")));
}

#[test]
fn a_port_is_not_taken_from_a_pod_that_another_plugin_wired() {
    let net = Net::new(two_ports());
    let (a, b) = (net.bridged("a"), net.bridged("b"));
    net.portmap().add(&net.call("a").previous(&a).request()).unwrap();
    // As if somebody else had made its cable: another name, no mark.
    let mut process = net.node.process();
    let links = read_links(&mut process, Place::Host).unwrap();
    let cable = links.iter().find(|link| link.alias.as_deref() == Some("cnikit net a eth0")).unwrap();
    let inside = LinkName::new("eth0").unwrap();
    let veth = |name: &LinkName| {
        let peer = VethPeer { place: Place::Container, name: inside.clone(), mtu: None, mac: None };
        Resource::Link(Link { up: true, ..Link::new(name.clone(), LinkKind::Veth { peer }) })
    };
    process.remove(Place::Host, &[&veth(&cable.name)]).remove(0).unwrap();
    process.create(Place::Host, &[&veth(&LinkName::new("cali0123").unwrap())]).remove(0).unwrap();
    let address = Resource::Address(Address::new(inside.clone(), "10.22.0.2/24".parse().unwrap()));
    process.create(Place::Container, &[&address]).remove(0).unwrap();
    let refused = net.portmap().add(&net.call("b").previous(&b).request()).unwrap_err();
    assert_eq!(refused.code(), error::CONFLICT);
    process.remove(Place::Container, &[&address]).remove(0).unwrap();
    net.portmap().add(&net.call("b").previous(&b).request()).unwrap();
}

#[test]
fn check_names_what_differs() {
    let net = Net::new(two_ports());
    let result = net.bridged("a");
    let call = net.call("a").previous(&result);
    net.portmap().add(&call.request()).unwrap();
    net.portmap().check(&call.request()).unwrap();
    let changed = json!({"masqAll": true, "runtimeConfig": two_ports()["runtimeConfig"]});
    let error = net.portmap().check(&net.call_with("a", changed).previous(&result).request()).unwrap_err();
    assert!(
        error.to_string().contains("masquerading is from 10.22.0.0/24 by bit 13, not from 0.0.0.0/0"),
        "{error}"
    );
    for mapping in net.entries() {
        net.node.process().remove(Place::Host, &[&mapping.into()]).remove(0).unwrap();
    }
    let error = net.portmap().check(&call.request()).unwrap_err();
    assert!(error.to_string().contains("mapping of port 0.0.0.0:8080/tcp is missing"), "{error}");
}

#[test]
fn status_says_whether_nf_tables_is_there() {
    let net = Net::new(two_ports());
    net.portmap().status(&net.call("a").status_request()).unwrap();
    net.node.fail_at(0, Fault::Refused(Errno::EPERM));
    let error = net.portmap().status(&net.call("a").status_request()).unwrap_err();
    assert_eq!(error.code(), cni_spec::ErrorCode::PLUGIN_NOT_AVAILABLE);
}

#[test]
fn it_explains_itself() {
    let net = Net::new(two_ports());
    let result = net.bridged("a");
    let mut script = Script::new("blue");
    let bridge =
        Resource::Address(Address::new(LinkName::new("cni0").unwrap(), "10.22.0.1/24".parse().unwrap()));
    script.create(Place::Host, &[&bridge]).remove(0).unwrap();
    let call = net.call("a").previous(&result).request();
    let plan = Kit::new(Portmap).explain(&call, &mut script).unwrap().plan;
    plan.apply(&mut script).unwrap();
    let text = script.to_string();
    assert!(text.contains("# What comes to port 0.0.0.0:8080/tcp goes to 10.22.0.2:80."), "{text}");
    assert!(text.contains("sysctl -w net.ipv4.conf.cni0.route_localnet=1"), "{text}");
}
