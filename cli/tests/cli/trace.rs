//! `trace`: what the kernel says of a packet's way, against `ip route get`, and with something broken at a time.

use serde_json::{Value, json};

use crate::double::Agent;
use crate::node::{Node, Said};
use crate::on_a_node;

/// Two pods on the built-in network, and a second machine on an uplink, 192.168.1.12, behind which 10.244.2.0/24 is by a
/// next hop object and 10.244.3.0/24 by a tunnel.
fn wire(node: &Node) {
    node.cnikit("add default blue --container-id web-0123456789").ok();
    node.cnikit("add default red --container-id db").ok();
    node.sh("ip netns add far
         ip link add uplink type veth peer name eth0 netns far
         ip addr add 192.168.1.11/24 dev uplink; ip link set uplink up
         ip -n far addr add 192.168.1.12/24 dev eth0; ip -n far link set eth0 up
         ip nexthop add id 7 via 192.168.1.12 dev uplink proto 87
         ip route add 10.244.2.0/24 nhid 7
         ip link add vx type vxlan id 1 dstport 4789 local 192.168.1.11 nolearning
         ip link set vx mtu 1450 up
         ip route add 10.244.3.0/24 via 10.244.3.0 dev vx onlink
         ip neigh add 10.244.3.0 lladdr 02:03:03:03:03:03 dev vx nud permanent
         bridge fdb add 02:03:03:03:03:03 dev vx dst 192.168.1.12 self permanent
         bash -c 'until ip neigh show to 192.168.1.12 | grep -q lladdr
           do echo > /dev/udp/192.168.1.12/9; sleep 0.02; done' 2> /dev/null");
}

fn trace(node: &Node, words: &str) -> Value {
    let said = node.cnikit(&format!("trace {words} --json --agent /nonexistent"));
    assert!([0, 5].contains(&said.status), "{words}: {said:?}");
    let trace: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(trace["lostAt"].is_null(), said.status == 0, "{trace}");
    trace
}

/// `veth`, `bridge cnikit0` …: names that are hashes are left away.
fn places(trace: &Value) -> Vec<String> {
    let what = |hop: &Value| hop["what"].as_str().unwrap().to_owned();
    let short = |what: String| if what.starts_with("veth") { "veth".to_owned() } else { what };
    trace["hops"].as_array().unwrap().iter().map(what).map(short).collect()
}

fn told(trace: &Value, place: &str) -> String {
    let hop = trace["hops"].as_array().unwrap().iter().find(|hop| hop["what"] == place);
    let how = hop.unwrap_or_else(|| panic!("no {place} in {trace}"))["how"].as_array().unwrap();
    how.iter().map(|line| line.as_str().unwrap()).collect::<Vec<_>>().join("; ")
}

#[test]
fn a_pod_of_the_same_node_is_reached_by_the_bridge() {
    on_a_node!(|node| {
        wire(node);
        let trace = trace(node, "web 10.203.0.3");
        assert_eq!(places(&trace), ["pod eth0", "veth", "bridge cnikit0", "veth", "pod"]);
        assert_eq!(trace["hops"][4]["on"], "db");
        assert_eq!((&trace["source"], &trace["findings"]), (&json!("10.203.0.2"), &json!([])), "{trace}");
    });
}

#[test]
fn a_route_by_a_next_hop_is_the_one_that_ip_route_gets() {
    on_a_node!(|node| {
        wire(node);
        let trace = trace(node, "10.203.0.2 10.244.2.9");
        assert_eq!(places(&trace), ["pod eth0", "veth", "bridge cnikit0", "routes", "veth"]);
        let told = told(&trace, "routes");
        assert_eq!(told, "route 10.244.2.0/24 nhid 7 via 192.168.1.12 dev uplink");
        let oracle = node.sh("ip route get 10.244.2.9 from 10.203.0.2 iif cnikit0");
        assert!(oracle.contains("via 192.168.1.12 dev uplink"), "{oracle}");
        let oracle = node.sh("ip -n far -j link show eth0 | jq -r '.[0].address'");
        let last = &trace["hops"][4]["how"][0];
        assert_eq!(last.as_str().unwrap(), format!("192.168.1.12 is at {}", oracle.trim()));
    });
}

#[test]
fn a_tunnel_is_followed_into_the_underlay() {
    on_a_node!(|node| {
        wire(node);
        let trace = trace(node, "web 10.244.3.9");
        let expected = ["pod eth0", "veth", "bridge cnikit0", "routes", "vxlan vx", "veth"];
        assert_eq!(places(&trace), expected);
        assert_eq!(told(&trace, "vxlan vx"), "10.244.3.0 is at 02:03:03:03:03:03");
        assert_eq!(trace["hops"][5]["how"][0], "wrapped, to 192.168.1.12");
        assert_eq!(trace["mtu"], 1450);
        // Nobody tells what is on the other side.
        assert_eq!(trace["findings"].as_array().unwrap().len(), 1, "{trace}");
        let table = node.cnikit("trace web 10.244.3.9 --agent /nonexistent").ok();
        assert!(
            table.ends_with("\nit should get there, in packets of up to 1450 bytes, with a doubt\n"),
            "{table}"
        );
    });
}

/// What a shell breaks, which way is asked for, and where and why the packet is lost then.
const BROKEN: [(&str, &str, &str, &str); 13] = [
    (
        "bridge fdb del 02:03:03:03:03:03 dev vx dst 192.168.1.12",
        "web 10.244.3.9",
        "vxlan vx",
        "no FDB entry",
    ),
    ("ip neigh del 10.244.3.0 dev vx", "web 10.244.3.9", "vxlan vx", "no neighbour entry for 10.244.3.0"),
    (
        "ip link set vx down; ip route add 10.244.3.0/24 dev uplink",
        "web 10.244.3.9",
        "veth",
        "10.244.3.9 does not answer",
    ),
    ("ip route del 10.244.2.0/24", "web 10.244.2.9", "routes", "no route to 10.244.2.9"),
    ("ip route add blackhole 10.244.2.0/25", "web 10.244.2.9", "routes", "blackhole"),
    ("ip route add unreachable 10.244.2.0/25", "web 10.244.2.9", "routes", "unreachable"),
    ("ip route add prohibit 10.244.2.0/25", "web 10.244.2.9", "routes", "forbids"),
    ("sysctl -qw net.ipv4.ip_forward=0", "web 10.244.2.9", "routes", "does not forward"),
    ("ip link set cnikit0 down", "web 10.244.2.9", "bridge cnikit0", "cnikit0 is down"),
    ("ip -n blue link set eth0 down", "web 10.244.2.9", "pod eth0", "eth0 is down"),
    ("ip -n blue route del default", "web 10.244.2.9", "pod eth0", "no route"),
    (
        "ip neigh replace 192.168.1.12 dev uplink nud failed",
        "web 10.244.2.9",
        "veth",
        "192.168.1.12 does not answer",
    ),
    ("true", "web 10.244.2.9 --size 9000", "pod eth0", "too large: 1500"),
];

#[test]
fn where_something_is_broken_the_packet_is_lost_there() {
    on_a_node!(|node| {
        wire(node);
        for (break_it, words, place, why) in BROKEN {
            node.another(|node| {
                wire(node);
                if why.contains("10.244.3.9 does") {
                    node.sh(&format!("{break_it}; ip neigh replace 10.244.3.9 dev uplink nud failed"));
                } else {
                    node.sh(break_it);
                }
                let trace = trace(node, words);
                let hop = trace["lostAt"].as_u64().unwrap_or_else(|| panic!("not lost: {break_it}: {trace}"));
                let places = places(&trace);
                assert_eq!(places[usize::try_from(hop).unwrap()], place, "{break_it}: {trace}");
                let findings = trace["findings"].to_string();
                assert!(findings.contains(why), "{break_it}: {findings}");
                assert!(trace["verdict"].as_str().unwrap().starts_with("it is lost on "), "{trace}");
            });
        }
    });
}

#[test]
fn a_strict_reverse_path_filter_is_found_where_the_way_back_is_another() {
    on_a_node!(|node| {
        wire(node);
        node.sh("sysctl -qw net.ipv4.conf.cnikit0.rp_filter=1; ip route add 10.203.0.2/32 dev uplink");
        let trace = trace(node, "web 10.244.2.9");
        assert!(trace["findings"].to_string().contains("rp_filter is strict on cnikit0"), "{trace}");
    });
}

#[test]
fn a_packet_filter_that_drops_by_default_is_a_doubt_unless_there_is_a_way_through() {
    on_a_node!(|node| {
        wire(node);
        node.sh("iptables-nft -P FORWARD DROP");
        let doubtful = trace(node, "web 10.244.2.9");
        assert_eq!(doubtful["lostAt"], Value::Null);
        assert!(doubtful["findings"].to_string().contains("chain ip filter FORWARD drops"), "{doubtful}");
        // With the plugin that makes a way.
        node.configure(
            "walled",
            r#"[{"type":"bridge","bridge":"br1","isGateway":true,"ipam":{"type":"host-local",
                "ranges":[[{"subnet":"10.9.0.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]}},{"type":"firewall"}]"#,
        );
        node.sh("ip netns add green");
        node.cnikit("add walled green --container-id let-pass").ok();
        let passed = trace(node, "let-pass 10.244.2.9");
        assert!(!passed["findings"].to_string().contains("FORWARD"), "{passed}");
    });
}

#[test]
fn the_node_itself_and_whoever_is_not_there() {
    on_a_node!(|node| {
        wire(node);
        let from_node = trace(node, "node 10.203.0.2");
        assert_eq!(places(&from_node), ["routes", "veth", "pod"], "{from_node}");
        let said = node.cnikit("trace nobody 10.203.0.2 --agent /nonexistent");
        assert!(said.fails(2).contains("for example"), "pods are named");
        let said: Said = node.cnikit("trace web somebody --agent /nonexistent");
        assert!(said.fails(2).contains("no pod or node that is known"));
    });
}

/// What an agent of n1 knows: n2 has a pod in 10.244.3.0/24.
fn topology() -> Value {
    let node = |id: u8, address: &str, subnet: &str, pod: &str, name: &str, path: Value| {
        json!({
            "id": format!("{id:02x}").repeat(16), "name": format!("n{id}"), "addresses": [address],
            "subnets": [{"prefix": subnet, "state": "held"}], "role": "worker", "mode": "auto", "mtu": 1500,
            "liveness": "alive", "path": path,
            "pods": [{"container": name, "interface": "eth0", "addresses": [pod], "namespace": "default", "name": name}],
        })
    };
    let path = json!({
        "way": {"kind": "vxlan", "remote": "192.168.1.12"}, "reason": "told to", "mtu": 1450,
        "mtuConfirmed": true, "roundTrip": 310, "answered": 1,
    });
    json!({
        "node": "01".repeat(16), "network": "podnet", "bridge": "cni-podnet", "conflicts": [],
        "nodes": [
            node(1, "192.168.1.11", "10.203.0.0/16", "10.203.0.2", "web", Value::Null),
            node(2, "192.168.1.12", "10.244.3.0/24", "10.244.3.9", "db", path),
        ],
    })
}

#[test]
fn with_an_agent_pods_have_names_and_the_other_side_is_seen() {
    on_a_node!(|node| {
        wire(node);
        let agent = Agent::new(Value::Null, Value::Null, topology());
        let said = node.cnikit(&format!("trace default/web default/db --agent {}", agent.socket().display()));
        let text = said.ok();
        assert!(
            text.starts_with("default/web (10.203.0.2)") && text.contains("default/db (10.244.3.9)\n"),
            "{text}"
        );
        for hop in ["n2           node", "n2           bridge cni-podnet", "default/db   pod eth0"] {
            assert!(text.contains(hop), "{hop} in\n{text}");
        }
        assert!(
            text.ends_with("it gets there, as far as this node can tell, in packets of up to 1450 bytes\n"),
            "{text}"
        );
    });
}
