//! On the real kernel: pods talk.

use std::net::IpAddr;
use std::process::Command;

use netops::{EntryKind, LinuxKernel, Place, read_entries, read_links};
use plugin_bridge::Bridge;
use plugin_kit::Kit;
use plugin_kit::testing::{Node, TestCall};
use plugin_overlay::{NodeFile, Overlay};
use serde_json::json;

use crate::network::{Network, assigned, dual_stack, node};

#[test]
fn pods_reach_one_another_and_their_gateway_at_once_and_nothing_is_left_of_them() {
    let (host, plugin) = (Node::new(), Kit::new(Overlay));
    let network = Network::new(json!({"macspoofchk": true}));
    network.write(&dual_stack());
    let [a, b] = ["a", "b"].map(|pod| host.add(&plugin, &network.call(pod)).unwrap());
    for ip in &b.ips {
        host.ping("a", ip.address.addr()).unwrap();
        host.ping("a", ip.gateway.unwrap()).unwrap();
    }
    host.check(&plugin, &network.call("a").previous(&a)).unwrap();

    // The agent dies, and its file with it.
    network.forget();
    host.check(&plugin, &network.call("b").previous(&b)).unwrap();
    host.del(&plugin, &network.call("a").previous(&a)).unwrap();
    host.end_container("b");
    host.del(&plugin, &network.call("b").without_netns()).unwrap();
    assert_eq!(network.leases(), [""; 0]);
    let names: Vec<_> = host.on_host(|| {
        let mut kernel = LinuxKernel::new(None);
        assert_eq!(read_entries(&mut kernel, EntryKind::ALL).unwrap(), []);
        read_links(&mut kernel, Place::Host).unwrap().into_iter().map(|link| link.name.to_string()).collect()
    });
    assert_eq!(names, ["lo", "cnikit0"]);
}

#[test]
fn pods_of_an_old_subnet_and_of_the_new_one_reach_each_other() {
    let (host, plugin, network) = (Node::new(), Kit::new(Overlay), Network::served(json!({})));
    let old = host.add(&plugin, &network.call("old")).unwrap();
    network.write(&NodeFile { subnets: vec![assigned("10.244.9.0/24", 1, 9)], ..node() });
    let new = host.add(&plugin, &network.call("new")).unwrap();
    host.ping("old", new.ips[0].address.addr()).unwrap();
    host.ping("new", old.ips[0].address.addr()).unwrap();
    host.check(&plugin, &network.call("old").previous(&old)).unwrap();
}

#[test]
fn in_a_pod_of_several_networks_each_destination_takes_its_own_way() {
    let (host, overlay, bridge) = (Node::new(), Kit::new(Overlay), Kit::new(Bridge));
    let network = Network::served(json!({"isDefaultGateway": false}));
    // A network as Docker makes: a bridge that is the default route.
    let docker = TestCall::new(json!({
        "cniVersion": "1.1.0", "name": "docker", "type": "bridge", "bridge": "docker0", "isDefaultGateway": true,
        "ipam": {"type": "host-local", "dataDir": network.leases_dir(), "subnet": "172.17.0.0/16"},
    }));
    for first in ["docker", "overlay"] {
        let pod = format!("{first}-first");
        let add_docker = || host.add(&bridge, &docker.clone().container(&pod).interface("eth0")).unwrap();
        let add_overlay = || host.add(&overlay, &network.call(&pod).interface("net1")).unwrap();
        let (theirs, ours) = match first {
            "docker" => (add_docker(), add_overlay()),
            _ => {
                let ours = add_overlay();
                (add_docker(), ours)
            }
        };
        let ways = [
            // A pod of another node, one of this, and the rest of the world.
            ("10.244.200.7", "net1", "10.244.3.1"),
            ("8.8.8.8", "eth0", "172.17.0.1"),
        ];
        for (destination, interface, gateway) in ways {
            let said = host.inside(&pod, || ip(&["route", "get", destination]));
            assert!(said.contains(&format!("via {gateway} dev {interface}")), "{pod}: {said}");
        }
        host.ping(&pod, "10.244.3.1".parse().unwrap()).unwrap();
        host.ping(&pod, "172.17.0.1".parse().unwrap()).unwrap();
        host.check(&overlay, &network.call(&pod).interface("net1").previous(&ours)).unwrap();
        host.check(&bridge, &docker.clone().container(&pod).previous(&theirs)).unwrap();
    }
    let address = |pod: &str| -> IpAddr {
        let said = host.inside(pod, || ip(&["-o", "-4", "address", "show", "dev", "net1"]));
        said.split_whitespace().nth(3).unwrap().split('/').next().unwrap().parse().unwrap()
    };
    host.ping("docker-first", address("overlay-first")).unwrap();
}

fn ip(arguments: &[&str]) -> String {
    let output = Command::new("ip").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}
