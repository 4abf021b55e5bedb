//! What the two keep differently in netfilter, compared by what packets experience.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use cnikit_tests::{Node, Pod, isolated};
use serde_json::{Value, json};

use crate::pair::{Case, Pair, Side};

/// How long a packet is waited for that should come, and one that should not.
pub(crate) const SOON: Duration = Duration::from_millis(1500);
pub(crate) const NEVER: Duration = Duration::from_millis(300);

/// A network beyond the node, with one host on it, which knows the way back to the pods.
pub(crate) fn outside(node: &Node) -> Pod {
    let outside = node.pod("outside");
    node.shell(
        "ip link add out0 type veth peer name out1 netns outside; ip link set out0 up
         ip addr add 192.0.2.1/24 dev out0; ip addr add 2001:db8::1/64 dev out0 nodad",
    );
    node.pod_shell(
        &outside,
        "ip link set out1 up; ip addr add 192.0.2.2/24 dev out1; ip addr add 2001:db8::2/64 dev out1 nodad
         ip route add default via 192.0.2.1; ip route add default via 2001:db8::1",
    );
    outside
}

/// Who a pod seems to be to somebody whom it sends a packet; `None` if it never arrives.
fn seen_by(node: &Node, from: &Pod, to: &Pod, address: &str, patience: Duration) -> Option<IpAddr> {
    let address: IpAddr = address.parse().unwrap();
    let any: IpAddr = if address.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    // Any port: a process that another test is about to start may hold the last server's for a moment.
    let server = node.inside_pod(to, || UdpSocket::bind((any, 0)).unwrap());
    let port = server.local_addr().unwrap().port();
    server.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let client = node.inside_pod(from, || UdpSocket::bind((any, 0)).unwrap());
    let deadline = std::time::Instant::now() + patience;
    while std::time::Instant::now() < deadline {
        // A neighbour may have to be found first.
        let _ = client.send_to(b"hello", SocketAddr::new(address, port));
        if let Ok((_, source)) = server.recv_from(&mut [0; 16]) {
            return Some(source.ip());
        }
    }
    None
}

/// Who a pod of a network seems to be, to whom.
fn experience(side: &Side, case: &Case) -> BTreeMap<String, Option<IpAddr>> {
    let outside = outside(&side.node);
    let friend = side.node.pod("friend");
    let config = case.config();
    let add = |pod: &Pod| {
        let call = side
            .node
            .call(&side.own, "ADD", config["type"].as_str().unwrap(), &config)
            .on(pod)
            .container(pod.name());
        addresses(&call.run().result())
    };
    let (_, friends) = (add(&side.pod), add(&friend));
    let mut seen = BTreeMap::new();
    for address in friends {
        seen.insert(
            format!("a friend at {address}"),
            seen_by(&side.node, &side.pod, &friend, &address, SOON),
        );
    }
    for address in ["192.0.2.2", "2001:db8::2"] {
        seen.insert(
            format!("the world at {address}"),
            seen_by(&side.node, &side.pod, &outside, address, SOON),
        );
    }
    seen
}

fn addresses(said: &Value) -> Vec<String> {
    let ips = said["ips"].as_array().unwrap();
    ips.iter().map(|ip| ip["address"].as_str().unwrap().split('/').next().unwrap().to_owned()).collect()
}

fn network(plugin: &'static str, masquerade: bool) -> Case {
    let ipam = json!({
        "type": "host-local",
        "ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00:1::/64"}]],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
    });
    Case::new(plugin, json!({"isGateway": true, "ipMasq": masquerade, "ipam": ipam}))
}

#[test]
fn a_pod_is_masqueraded_towards_the_world_and_not_towards_its_friends() {
    isolated(|| {
        for plugin in ["bridge", "ptp"] {
            for masquerade in [true, false] {
                let Some(pair) = Pair::new() else { return };
                let case = network(plugin, masquerade);
                let (theirs, ours) = (experience(&pair.theirs, &case), experience(&pair.ours, &case));
                assert_eq!(theirs, ours, "{plugin}, ipMasq {masquerade}");
                let source = |ip: &str| Some(ip.parse::<IpAddr>().unwrap());
                let (v4, v6) =
                    if masquerade { ("192.0.2.1", "2001:db8::1") } else { ("10.1.0.2", "fd00:1::2") };
                assert_eq!(ours["the world at 192.0.2.2"], source(v4));
                assert_eq!(ours["the world at 2001:db8::2"], source(v6));
                assert_eq!(ours["a friend at 10.1.0.3"], source("10.1.0.2"));
            }
        }
    });
}

#[test]
fn a_pod_that_takes_another_mac_address_is_not_heard_where_that_is_checked() {
    isolated(|| {
        for check in [true, false] {
            let Some(pair) = Pair::new() else { return };
            let case = Case::new(
                "bridge",
                json!({"macspoofchk": check, "ipam": {"type": "host-local", "subnet": "10.1.0.0/24"}}),
            );
            let heard = [&pair.theirs, &pair.ours].map(|side| {
                let friend = side.node.pod("friend");
                let config = case.config();
                for pod in [&side.pod, &friend] {
                    side.node
                        .call(&side.own, "ADD", "bridge", &config)
                        .on(pod)
                        .container(pod.name())
                        .run()
                        .result();
                }
                let honest = seen_by(&side.node, &side.pod, &friend, "10.1.0.3", SOON).is_some();
                side.node.pod_shell(&side.pod, "ip link set eth0 address 02:66:66:66:66:66");
                let patience = if check { NEVER } else { SOON };
                let spoofing = seen_by(&side.node, &side.pod, &friend, "10.1.0.3", patience).is_some();
                (honest, spoofing)
            });
            assert_eq!(heard, [(true, !check); 2], "macspoofchk {check}: reference, ours");
        }
    });
}
