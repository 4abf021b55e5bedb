//! `ipam` and `gc`: what is left behind, and how it goes.

use crate::on_a_node;

#[test]
fn leases_and_usage_are_shown() {
    on_a_node!(|node| {
        node.cnikit("add default blue --container-id web").ok();
        let networks = node.cnikit("ipam --json").json();
        assert_eq!(networks[0]["network"], "default");
        let range = serde_json::json!({"ranges": ["10.203.0.0/16"], "used": 1, "total": "65533"});
        assert_eq!(networks[0]["ranges"][0], range);
        let lease = serde_json::json!(
            {"address": "10.203.0.2", "container": "web", "interface": "eth0", "attached": true}
        );
        assert_eq!(networks[0]["leases"][0], lease);
        let text = node.cnikit("ipam --network default").ok();
        assert!(text.contains("default  10.203.0.0/16           1   65532\n"), "{text}");
        assert!(text.contains("10.203.0.2         default  web        eth0    attached\n"), "{text}");
        assert_eq!(node.cnikit("ipam --network other --json").ok(), "[]\n");
    });
}

#[test]
fn an_orphan_is_released_if_somebody_confirms() {
    on_a_node!(|node| {
        node.cnikit("add default blue").ok();
        node.sh("ip netns del blue; while ip -o link | grep -q veth; do sleep 0.01; done");
        assert!(node.cnikit("ipam").ok().contains("orphan"));
        let said = node.cnikit("ipam release 10.203.0.2").fails(10);
        assert!(said.contains("--yes"), "{said}");
        assert_eq!(
            node.cnikit("ipam release 10.203.0.2 --yes").ok(),
            "released 10.203.0.2 of network default\n"
        );
        assert!(node.cnikit("ipam release 10.203.0.2 --yes").fails(1).contains("nobody"));
        node.sh("test ! -e /var/lib/cni/networks/default/10.203.0.2");
    });
}

#[test]
fn a_person_at_a_terminal_is_asked() {
    on_a_node!(|node| {
        node.cnikit("add default blue").ok();
        node.sh("ip netns del blue; while ip -o link | grep -q veth; do sleep 0.01; done");
        let answer = |word: &str| {
            let release = format!("{} ipam release 10.203.0.2", crate::node::CNIKIT);
            node.sh(&format!(
                "(sleep 0.2; echo {word}; sleep 0.3) | script -qec '{release}' /dev/null || true"
            ))
        };
        let said = answer("n");
        assert!(
            said.contains("release 10.203.0.2 of network default") && said.contains("not confirmed"),
            "{said}"
        );
        assert!(answer("y").contains("released 10.203.0.2"));
        node.sh("test ! -e /var/lib/cni/networks/default/10.203.0.2");
    });
}

#[test]
fn an_address_in_use_is_not_released_unless_by_force() {
    on_a_node!(|node| {
        node.cnikit("add default blue").ok();
        let said = node.cnikit("ipam release 10.203.0.2 --yes").fails(10);
        assert!(said.contains("eth0") && said.contains("--force"), "{said}");
        // Nobody's name is on it any more, but the address is still there.
        node.sh("rm -r /var/lib/cni/results; for l in $(ip -o link | grep -o 'veth[^:@]*'); do ip link set $l alias ''; done");
        let said = node.cnikit("ipam release 10.203.0.2 --yes").fails(10);
        assert!(said.contains("eth0"), "the lease still tells: {said}");
        node.sh("ip -n blue link set eth0 down; ip -n blue link set eth0 name other up");
        let said = node.cnikit("ipam release 10.203.0.2 --yes").fails(10);
        assert!(said.contains("the other end of veth"), "{said}");
        node.cnikit("ipam release 10.203.0.2 --yes --force").ok();
    });
}

#[test]
fn gc_removes_what_is_gone_and_keeps_what_is_there() {
    on_a_node!(|node| {
        node.cnikit("add default blue --container-id live").ok();
        node.cnikit("add default red --container-id dead").ok();
        node.sh("ip netns del red; while [ $(ip -o link | grep -c veth) = 2 ]; do sleep 0.01; done");
        // A runtime that forgot everything: the kernel still knows who is there.
        node.sh("rm /var/lib/cni/results/default-live-eth0");
        let kept = node.cnikit("gc default --json").json();
        assert_eq!(kept["kept"], serde_json::json!([{"containerID": "live", "ifname": "eth0"}]));
        let list = node.cnikit("list --json").json();
        assert_eq!((list.as_array().unwrap().len(), &list[0]["healthy"]), (1, &true.into()), "{list}");
        let leases = node.cnikit("ipam --json").json();
        assert_eq!(leases[0]["leases"].as_array().unwrap().len(), 2, "one of each family: {leases}");
    });
}

#[test]
fn gc_keeps_what_it_is_told_to_keep_and_nothing_else() {
    on_a_node!(|node| {
        node.cnikit("add default blue --container-id a").ok();
        node.cnikit("add default red --container-id b").ok();
        node.cnikit("gc default --keep a/eth0").ok();
        let list = node.cnikit("list --json").json();
        assert_eq!((list.as_array().unwrap().len(), &list[0]["container"]), (1, &"a".into()), "{list}");
        node.cnikit("gc default --all").ok();
        assert_eq!(node.remains(), [""; 0]);
        assert_eq!(node.cnikit("gc default --keep a").status, 2);
    });
}
