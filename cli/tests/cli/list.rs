//! `list`: what the kernel says.

use serde_json::Value;

use crate::node::{Node, there_is};
use crate::on_a_node;

fn problems(node: &Node) -> Vec<String> {
    let list = node.cnikit("list --json").json();
    let problems = list.as_array().unwrap().iter().flat_map(|a| a["problems"].as_array().unwrap());
    problems.map(|problem| problem.as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_attachment_is_shown_with_what_the_kernel_knows_of_it() {
    on_a_node!(|node| {
        node.cnikit("add default blue --container-id web").ok();
        // The kernel alone knows it.
        node.sh("rm -r /var/lib/cni/results");
        let list = node.cnikit("list --json").json();
        let attachment = &list[0];
        assert_eq!(attachment["network"], "default");
        assert_eq!(attachment["container"], "web");
        assert_eq!(attachment["interface"], "eth0");
        assert_eq!(attachment["addresses"], serde_json::json!(["10.203.0.2/16", "fd63:6e69:6b69::2/64"]));
        assert_eq!(attachment["bridge"], "cnikit0");
        assert_eq!(attachment["healthy"], Value::Bool(true));
        let host = attachment["hostInterface"].as_str().unwrap();
        node.sh(&format!("ip link show dev {host} master cnikit0"));

        let table = node.cnikit("list").ok();
        let expected = format!("default  web        eth0    10.203.0.2/16         {host}  cnikit   healthy");
        assert_eq!(table.lines().nth(1), Some(expected.as_str()), "{table}");
    });
}

#[test]
fn every_ailment_is_named() {
    on_a_node!(|node| {
        node.cnikit("add default blue").ok();
        let list = node.cnikit("list --json").json();
        let host = list[0]["hostInterface"].as_str().unwrap();
        assert_eq!(problems(node), [""; 0]);

        node.sh("ip link set cnikit0 down");
        assert_eq!(problems(node), ["bridge cnikit0 is down"]);
        node.sh("ip link set cnikit0 up; ip -n blue link set eth0 down");
        assert_eq!(problems(node), ["container's end is down"]);
        node.sh(&format!("ip -n blue link set eth0 up; ip link set {host} down"));
        assert_eq!(problems(node), ["host interface is down"]);
        node.sh(&format!("ip link set {host} up nomaster"));
        assert_eq!(problems(node), ["in no bridge"]);
        node.sh(&format!("ip link set {host} master cnikit0; nft flush map inet cnikit masquerade4"));
        assert_eq!(problems(node), ["10.203.0.2 is not masqueraded"]);
        node.sh("rm /var/lib/cni/networks/default/10.203.0.2");
        assert!(problems(node).contains(&"no lease of 10.203.0.2".to_owned()));
        node.sh("ip -n blue address flush dev eth0");
        assert!(problems(node).contains(&"lost 10.203.0.2".to_owned()), "{:?}", problems(node));
    });
}

#[test]
fn what_a_crash_has_left_is_told() {
    on_a_node!(|node| {
        node.cnikit("add default blue").ok();
        node.sh("ip netns del blue; while ip -o link | grep -q veth; do sleep 0.01; done");
        assert_eq!(problems(node), ["namespace is gone: del it"]);
        let said = node.cnikit("list --json").json();
        assert_eq!(said[0]["source"], "cache");
    });
}

#[test]
fn attachments_of_the_references_plugins_are_shown_too() {
    on_a_node!(|node| {
        if !there_is("/usr/lib/cni/bridge") {
            return;
        }
        let bridge =
            r#"[{"type":"bridge","bridge":"ref0","ipam":{"type":"host-local","subnet":"10.6.0.0/24"}}]"#;
        node.configure("ref", bridge);
        // Debian's are older than 1.1.0.
        node.sh(&format!("sed -i s/1.1.0/1.0.0/ {}/ref.conflist", node.path("conf").display()));
        let add = "add ref blue --container-id web --no-built-in --bin-dir /usr/lib/cni";
        node.cnikit(add).ok();
        let list = node.cnikit("list --json").json();
        assert_eq!((&list[0]["container"], &list[0]["bridge"]), (&"web".into(), &"ref0".into()));
        assert_eq!(
            (&list[0]["source"], &list[0]["healthy"]),
            (&"cache".into(), &Value::Bool(true)),
            "{list}"
        );
        node.sh("ip link set ref0 down");
        assert_eq!(problems(node), ["bridge ref0 is down"]);

        // Without a cache, the cable and the lease of its address are enough.
        node.sh("ip link set ref0 up; rm -r /var/lib/cni/results");
        let list = node.cnikit("list --json").json();
        assert_eq!(list[0]["addresses"], serde_json::json!(["10.6.0.2/24"]), "{list}");
        for (key, value) in [
            ("network", "ref"),
            ("container", "web"),
            ("interface", "eth0"),
            ("source", "lease"),
            ("maker", "reference"),
        ] {
            assert_eq!(list[0][key], value, "{list}");
        }
        // And what is shown is not garbage.
        node.cnikit("gc ref").ok();
        assert_eq!(node.cnikit("list --json").json(), list);
    });
}

#[test]
fn an_empty_node_has_an_empty_list() {
    on_a_node!(|node| {
        assert_eq!(node.cnikit("list --json").ok(), "[]\n");
        let said = node.cnikit("list");
        assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("", "nothing is attached on this node\n"));
    });
}
