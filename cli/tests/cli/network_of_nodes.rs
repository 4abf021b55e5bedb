//! A network that spans nodes, with a test in its agent's place: what the commands for people say of it.

use crate::node::Node;
use crate::on_a_node;

/// What an agent writes.
const NODE: &str = r#"{"node": "n1", "bridge": "cnikit1", "mtu": 1450, "cluster": ["10.244.0.0/16"],
    "subnets": [{"subnet": "10.244.3.0/24", "gateway": "10.244.3.1", "first": "10.244.3.77"}]}"#;

fn serve(node: &Node) {
    node.configure("pods", r#"[{"type": "overlay"}]"#);
    node.sh(&format!("mkdir -p /run/cnikit; echo '{NODE}' > /run/cnikit/pods.json"));
}

#[test]
fn a_pod_is_attached_shown_checked_and_detached() {
    on_a_node!(|node| {
        serve(node);
        node.cnikit("status pods").ok();
        node.cnikit("add pods blue --container-id web").ok();
        let list = node.cnikit("list --json").json();
        assert_eq!(list[0]["addresses"], serde_json::json!(["10.244.3.77/24"]));
        assert_eq!((list[0]["bridge"].as_str(), list[0]["healthy"].as_bool()), (Some("cnikit1"), Some(true)));
        let ipam = node.cnikit("ipam").ok();
        assert!(ipam.contains("10.244.3.77") && ipam.contains("10.244.3.0/24"), "{ipam}");
        node.sh("rm /run/cnikit/pods.json");
        node.cnikit("check pods blue --container-id web").ok();
        node.cnikit("del pods blue --container-id web").ok();
        assert_eq!(node.remains(), [""; 0]);
    });
}

#[test]
fn what_is_waited_for_is_said() {
    on_a_node!(|node| {
        node.configure("pods", r#"[{"type": "overlay"}]"#);
        assert!(node.cnikit("add pods blue").fails(7).contains("waiting"));
        assert!(node.cnikit("status pods").fails(6).contains("is the agent running"));
        assert_eq!(node.remains(), [""; 0]);
    });
}

#[test]
fn what_explain_says_makes_the_same_by_hand() {
    on_a_node!(|node| {
        serve(node);
        let script = node.cnikit("explain pods blue").ok();
        for words in ["cnikit1", "10.244.3.77/24", "mtu 1450", "10.244.3.1/24"] {
            assert!(script.contains(words), "{words}: {script}");
        }
        std::fs::write(node.path("script"), &script).unwrap();
        node.sh(&format!("sh -e {}", node.path("script").display()));
        let way = node.sh("ip -n blue route get 10.244.9.9");
        assert!(way.contains("via 10.244.3.1 dev eth0 src 10.244.3.77"), "{way}");
        let port = node.sh("ip -o link show master cnikit1");
        assert!(port.contains("mtu 1450") && port.contains("state UP"), "{port}");
    });
}
