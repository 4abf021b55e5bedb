//! `add`, `check`, `del`, `status`.

use serde_json::Value;

use crate::on_a_node;

const PTP: &str =
    r#"{"type":"ptp","ipam":{"type":"static","addresses":[{"address":"10.9.0.2/24","gateway":"10.9.0.1"}]}}"#;

#[test]
fn the_built_in_network_needs_no_configuration_and_no_installation() {
    on_a_node!(|node| {
        let result = node.cnikit("add default blue").json();
        assert_eq!(result["cniVersion"], "1.1.0");
        assert_eq!(result["ips"][0]["address"], "10.203.0.2/16");
        assert_eq!(result["ips"][1]["address"], "fd63:6e69:6b69::2/64");
        node.cnikit("add default red").ok();

        let reaches = |from: &str, to: &str| {
            node.sh(&format!("ip netns exec {from} sh -c 'ip route get {to}; ip neigh flush all'"));
            // The neighbour answers: a datagram to it makes the kernel ask.
            node.sh(&format!("ip netns exec {from} bash -c 'echo > /dev/udp/{to}/9'; sleep 0.05"));
            node.sh(&format!("ip -n {from} neigh show {to}")).contains("lladdr")
        };
        assert!(
            reaches("blue", "10.203.0.3") && reaches("red", "10.203.0.2") && reaches("blue", "10.203.0.1")
        );

        node.cnikit("check default blue").ok();
        node.cnikit("del default blue").ok();
        node.cnikit("del default red").ok();
        assert_eq!(node.remains(), [""; 0]);
    });
}

#[test]
fn a_namespace_has_a_path_a_name_or_a_process() {
    on_a_node!(|node| {
        for (word, sandbox) in [("blue", "/run/netns/blue"), ("/run/netns/../netns/red", "/run/netns/red")] {
            let result = node.cnikit(&format!("add default {word}")).json();
            assert_eq!(result["interfaces"][2]["sandbox"], sandbox);
        }
        let process = std::process::Command::new("unshare").args(["-n", "sleep", "60"]).spawn();
        let mut process = process.unwrap();
        let path = format!("/proc/{}/ns/net", process.id());
        // The child makes its namespace in its own time.
        while std::fs::read_link(&path).unwrap() == std::fs::read_link("/proc/thread-self/ns/net").unwrap() {
            std::thread::yield_now();
        }
        let result = node.cnikit(&format!("add default {}", process.id())).json();
        process.kill().unwrap();
        process.wait().unwrap();
        assert_eq!(result["interfaces"][2]["sandbox"], path);
        let said = node.cnikit("add default green").fails(8);
        assert!(said.contains("/run/netns/green") && said.contains("blue, red"), "{said}");
    });
}

#[test]
fn a_second_add_is_refused_and_damages_nothing() {
    on_a_node!(|node| {
        node.cnikit("add default blue").ok();
        let said = node.cnikit("add default blue").fails(10);
        assert!(said.contains("attached already"), "{said}");
        node.cnikit("check default blue").ok();
        // Another interface is another attachment.
        let second = node.cnikit("add default blue --ifname net1");
        assert_eq!(second.status, 0, "{}", second.stderr);
    });
}

#[test]
fn check_names_what_is_different() {
    on_a_node!(|node| {
        assert!(node.cnikit("check default blue").fails(5).contains("not attached"));
        node.cnikit("add default blue").ok();
        node.sh("ip -n blue address del 10.203.0.2/16 dev eth0");
        assert!(node.cnikit("check default blue").fails(5).contains("10.203.0.2"));
    });
}

#[test]
fn del_needs_neither_namespace_nor_configuration_nor_attachment() {
    on_a_node!(|node| {
        node.cnikit("del default blue").ok();
        node.configure("net", &format!("[{PTP}]"));
        node.cnikit("add net blue --container-id c1").ok();
        std::fs::remove_file(node.path("conf/net.conflist")).unwrap();
        node.sh("ip netns del blue");
        node.cnikit("del net --container-id c1").ok();
        assert_eq!(node.remains(), [""; 0]);
        let said = node.cnikit("del net --container-id c1").fails(3);
        assert!(said.contains("no configuration of network \"net\""), "{said}");
        node.cnikit("del net").fails_as_usage();
    });
}

#[test]
fn the_environment_is_cnitools() {
    on_a_node!(|node| {
        node.configure("net", r#"[{"type":"spy","capabilities":{"mac":true}}]"#);
        node.foreign_plugin(
            "spy",
            &format!("env | grep ^CNI_ > {0}; cat > {0}.stdin; echo '{{}}'", node.path("env").display()),
        );
        let env = [
            ("CNI_IFNAME", "net7"),
            ("CNI_ARGS", "A=1;B=2"),
            ("CAP_ARGS", r#"{"mac":"02:00:00:00:00:07","x":1}"#),
        ];
        node.cnikit_with("add net /run/netns/blue", &env).ok();
        let seen = std::fs::read_to_string(node.path("env")).unwrap();
        // printf /run/netns/blue | sha512sum | cut -c 1-20
        for line in [
            "CNI_CONTAINERID=cnitool-df26705e2e4ffd095eb1",
            "CNI_IFNAME=net7",
            "CNI_ARGS=A=1;B=2",
            "CNI_NETNS=/run/netns/blue",
            "CNI_COMMAND=ADD",
        ] {
            assert!(seen.lines().any(|seen| seen == line), "{line} in {seen}");
        }
        let stdin = std::fs::read_to_string(node.path("env.stdin")).unwrap();
        let stdin: Value = serde_json::from_str(&stdin).unwrap();
        assert_eq!(stdin["runtimeConfig"], serde_json::json!({"mac": "02:00:00:00:00:07"}));

        // Flags go before it.
        let flags = "add net red -i net8 --args C=3 --args D=4 --cap mac=02:00:00:00:00:08 --container-id c8";
        node.cnikit_with(flags, &env).ok();
        let seen = std::fs::read_to_string(node.path("env")).unwrap();
        for line in ["CNI_CONTAINERID=c8", "CNI_IFNAME=net8", "CNI_ARGS=C=3;D=4"] {
            assert!(seen.lines().any(|seen| seen == line), "{line} in {seen}");
        }
        // The DEL has the ADD's parameters, although nobody repeats them.
        node.cnikit("del net red -i net8 --container-id c8").ok();
        let seen = std::fs::read_to_string(node.path("env")).unwrap();
        assert!(seen.contains("CNI_COMMAND=DEL") && seen.contains("CNI_ARGS=C=3;D=4"), "{seen}");
    });
}

#[test]
fn our_own_plugins_run_inside_and_others_are_executed() {
    on_a_node!(|node| {
        node.configure("net", &format!(r#"[{PTP},{{"type":"other"}}]"#));
        node.foreign_plugin("ptp", "exit 1");
        // Passes the previous result on.
        node.foreign_plugin("other", r#"sed 's/.*"prevResult":\({.*}\),"type".*/\1/'"#);
        let result = node.cnikit("add net blue").json();
        assert_eq!(result["ips"][0]["address"], "10.9.0.2/24");
        assert_eq!(node.calls(), ["ADD other"]);
        node.cnikit("del net blue").ok();

        let said = node.cnikit("add net blue --no-built-in").fails(4);
        assert!(said.contains("ptp"), "{said}");
        assert!(node.calls().contains(&"ADD ptp".to_owned()));
    });
}

#[test]
fn a_chain_that_fails_leaves_nothing() {
    on_a_node!(|node| {
        node.configure(
            "net",
            r#"[{"type":"bridge","isGateway":true,"ipMasq":true,"ipam":{"type":"host-local","subnet":"10.8.0.0/24"}},{"type":"fails"}]"#,
        );
        node.foreign_plugin(
            "fails",
            r#"[ "$CNI_COMMAND" = ADD ] && echo '{"code":123,"msg":"no mood"}' && exit 1; exit 0"#,
        );
        let said = node.cnikit("add net blue").fails(4);
        assert!(said.contains("no mood (code 123)") && said.contains("everything was undone"), "{said}");
        assert_eq!(node.remains(), [""; 0]);
        assert_eq!(node.sh("ip -n blue -o link | wc -l").trim(), "1");
    });
}

#[test]
fn a_plugin_that_refuses_its_configuration_is_a_matter_of_configuration() {
    on_a_node!(|node| {
        node.configure("net", r#"[{"type":"bridge","hairpinMode":true,"promiscMode":true}]"#);
        let said = node.cnikit("add net blue").fails(3);
        assert!(said.contains("hairpinMode and promiscMode exclude one another"), "{said}");
    });
}

#[test]
fn a_plugin_that_is_not_there_is_named_and_nothing_is_begun() {
    on_a_node!(|node| {
        node.configure("net", &format!(r#"[{PTP},{{"type":"missing"}}]"#));
        let said = node.cnikit("add net blue").fails(4);
        assert!(said.contains("missing") && said.contains("no such file"), "{said}");
        assert_eq!(node.remains(), [""; 0]);
    });
}

#[test]
fn a_broken_file_is_told_of_and_in_nobodys_way() {
    on_a_node!(|node| {
        std::fs::write(node.path("conf/00-broken.conflist"), "{").unwrap();
        node.configure("net", &format!("[{PTP}]"));
        let said = node.cnikit("add net blue");
        assert_eq!(said.status, 0);
        assert!(
            said.stderr.starts_with("warning: ") && said.stderr.contains("00-broken.conflist"),
            "{}",
            said.stderr
        );
        let said = node.cnikit("add nothing blue").fails(3);
        assert!(said.contains("default (built in), net"), "{said}");
    });
}

#[test]
fn status_tells_that_addresses_are_exhausted() {
    on_a_node!(|node| {
        let small = r#"[{"type":"ptp","ipam":{"type":"host-local","subnet":"10.7.0.0/30"}}]"#;
        node.configure("small", small);
        assert_eq!(node.cnikit("status small").ok(), "small: ready\n");
        node.cnikit("add small blue").ok();
        assert!(node.cnikit("status small").fails(6).contains("taken"));
        let said = node.cnikit("status small --json");
        let status: Value = serde_json::from_str(&said.stdout).unwrap();
        assert_eq!((said.status, &status["ready"]), (6, &Value::Bool(false)));
        let said = node.cnikit("add small red").fails(7);
        assert!(said.contains("`cnikit ipam`"), "{said}");
    });
}

#[test]
fn who_may_not_is_told_who_may() {
    on_a_node!(|node| {
        let powerless = "setpriv --no-new-privs --inh-caps=-all --bounding-set=-all";
        for words in ["add default blue", "add default /proc/1/ns/net", "del default blue --container-id c"] {
            let script = format!("{powerless} {} {words} 2>&1 || echo status=$?", crate::node::CNIKIT);
            let said = node.sh(&script);
            assert!(said.contains("status=9") && said.contains("run it as root"), "{words}: {said}");
        }
    });
}
