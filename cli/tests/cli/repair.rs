//! `repair`: what others have taken of attachments.

use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::node::{Node, there_is};
use crate::on_a_node;

const GUARDED: &str = r#"[{"type":"bridge","bridge":"br0","isGateway":true,"ipMasq":true,"macspoofchk":true,
    "ipam":{"type":"host-local","subnet":"10.5.0.0/24","routes":[{"dst":"0.0.0.0/0"}]}}]"#;
const ENTRIES: [&str; 2] = ["masquerade of 10.5.0.2", "spoof check of port"];

/// What `repair` says of the only attachment that there is.
fn only(said: &Value) -> &Value {
    assert_eq!(said["attachments"].as_array().unwrap().len(), 1, "{said}");
    &said["attachments"][0]
}

/// That these, and no others, are in a list, by their beginnings.
#[track_caller]
fn begin(list: &Value, beginnings: &[&str]) {
    let list: Vec<_> = list.as_array().unwrap().iter().map(|item| item.as_str().unwrap()).collect();
    assert_eq!(list.len(), beginnings.len(), "{list:?}");
    for beginning in beginnings {
        assert!(list.iter().any(|item| item.starts_with(beginning)), "{beginning}: {list:?}");
    }
}

fn ruleset(node: &Node) -> String {
    node.sh("nft -s list ruleset")
}

/// Where a pod's packets come from in the world, which has no route to any pod.
fn source_of(node: &Node, pod: &str) -> String {
    reach(node, pod, Duration::from_secs(5)).unwrap_or_else(|| "nowhere".to_owned())
}

/// A world beyond the node, `192.0.2.1`. What comes there from a pod comes from this address, if it comes in time.
fn reach(node: &Node, pod: &str, patience: Duration) -> Option<String> {
    node.sh("ip link show dev up0 >/dev/null 2>&1 || {
            ip link add up0 type veth peer name out0 netns red
            ip address add 192.0.2.2/24 dev up0; ip link set up0 up
            ip -n red address add 192.0.2.1/24 dev out0; ip -n red link set out0 up
        }");
    let enter = |name: &str| {
        let file = std::fs::File::open(format!("/run/netns/{name}")).unwrap();
        nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    };
    let listener = thread::spawn(move || {
        enter("red");
        TcpListener::bind("192.0.2.1:80").unwrap()
    });
    let listener = listener.join().unwrap();
    let pod = pod.to_owned();
    let connect = thread::spawn(move || {
        enter(&pod);
        let to = "192.0.2.1:80".parse().unwrap();
        TcpStream::connect_timeout(&to, patience).is_ok()
    });
    connect.join().unwrap().then(|| listener.accept().unwrap().1.ip().to_string())
}

#[test]
fn after_a_flush_everything_is_as_it_was() {
    on_a_node!(|node| {
        node.configure("net", GUARDED);
        node.cnikit("add net blue --container-id web").ok();
        assert_eq!(source_of(node, "blue"), "192.0.2.2");
        let before = ruleset(node);
        node.sh("nft flush ruleset; sysctl -qw net.ipv4.ip_forward=0");
        assert_eq!(reach(node, "blue", Duration::from_secs(1)), None);

        let looked = node.cnikit("repair --dry-run --json");
        assert_eq!(looked.status, 5, "{}", looked.stderr);
        let said: Value = serde_json::from_str(&looked.stdout).unwrap();
        let missing = [&ENTRIES[..], &["sysctl net/ipv4/ip_forward = 1"]].concat();
        begin(&only(&said)["made"], &missing);
        assert_eq!(ruleset(node), "", "a dry run does nothing");

        let said = node.cnikit("repair --json").json();
        begin(&only(&said)["made"], &missing);
        assert_eq!(ruleset(node), before);
        assert_eq!(source_of(node, "blue"), "192.0.2.2");

        let again = node.cnikit("repair --json").json();
        begin(&only(&again)["made"], &[]);
        // A flush had not taken that.
        let fine = [&missing[..], &["sysctl net/ipv6/conf/veth"]].concat();
        begin(&only(&again)["fine"], &fine);
        let table = node.cnikit("repair").ok();
        assert!(table.lines().nth(1).unwrap().ends_with("nothing was missing"), "{table}");
        node.cnikit("check net blue --container-id web").ok();
        node.cnikit("del net blue --container-id web").ok();
        assert_eq!(node.remains(), [""; 0]);
    });
}

/// Whether somebody in the world reaches the pod `blue` through the node's port 8080.
fn is_published(node: &Node) -> bool {
    let inside = |name: &'static str, work: fn() -> bool| {
        let entered = move || {
            let file = std::fs::File::open(format!("/run/netns/{name}")).unwrap();
            nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            work()
        };
        thread::spawn(entered)
    };
    reach(node, "blue", Duration::from_millis(1));
    let server = inside("blue", || {
        let server = TcpListener::bind("10.5.0.2:80").unwrap();
        server.set_nonblocking(true).unwrap();
        let until = std::time::Instant::now() + Duration::from_secs(4);
        while std::time::Instant::now() < until {
            if server.accept().is_ok() {
                return true;
            }
            thread::sleep(Duration::from_millis(5));
        }
        false
    });
    let client = inside("red", || {
        let to = "192.0.2.2:8080".parse().unwrap();
        // The server may be a moment late.
        (0..3).any(|_| {
            thread::sleep(Duration::from_millis(100));
            TcpStream::connect_timeout(&to, Duration::from_secs(1)).is_ok()
        })
    });
    let (sent, received) = (client.join().unwrap(), server.join().unwrap());
    sent && received
}

#[test]
fn published_ports_and_the_way_through_the_hosts_filter_come_back() {
    on_a_node!(|node| {
        let chained = r#",{"type":"portmap","capabilities":{"portMappings":true}},{"type":"firewall"}]"#;
        let bridge = GUARDED.strip_suffix(']').unwrap();
        node.configure("net", &format!("{bridge}{chained}"));
        let port = r#"portMappings=[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]"#;
        node.cnikit(&format!("add net blue --container-id web --cap {port}")).ok();
        assert!(is_published(node));
        let before = ruleset(node);
        node.sh("nft flush ruleset");
        assert!(!is_published(node));
        let said = node.cnikit("repair --json").json();
        assert!(only(&said)["made"].as_array().unwrap().len() >= 4, "{said}");
        assert_eq!(only(&said)["failed"], json!([]));
        assert!(is_published(node));
        let lines = |text: String| {
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(lines(ruleset(node)), lines(before));
        node.cnikit("check net blue --container-id web").ok();
        // Which ports there were only the cache knew.
        node.sh("nft flush ruleset; rm -r /var/lib/cni/results");
        let said = node.cnikit("repair --json").json();
        begin(&only(&said)["unknown"], &["portmap"]);
    });
}

#[test]
fn without_a_cache_the_kernel_the_leases_and_the_configuration_tell_enough() {
    on_a_node!(|node| {
        node.configure("net", GUARDED);
        node.cnikit("add net blue --container-id web").ok();
        let before = ruleset(node);
        node.sh("nft flush ruleset; rm -r /var/lib/cni/results");
        begin(&only(&node.cnikit("repair --json").json())["made"], &ENTRIES);
        assert_eq!(ruleset(node), before);

        // What nobody can know is told.
        node.sh("nft flush ruleset");
        std::fs::remove_file(node.path("conf/net.conflist")).unwrap();
        let said = node.cnikit("repair --json").json();
        assert_eq!(only(&said)["unknown"], json!(["its network's configuration"]));
        assert_eq!(ruleset(node), "");
    });
}

#[test]
fn pods_of_the_references_keep_its_rules_and_get_ours_once_those_are_lost() {
    on_a_node!(|node| {
        if !there_is("/usr/lib/cni/bridge") || !there_is("iptables") {
            return;
        }
        node.configure("net", GUARDED);
        node.sh(&format!("sed -i s/1.1.0/1.0.0/ {}/net.conflist", node.path("conf").display()));
        node.cnikit("add net blue --container-id web --no-built-in --bin-dir /usr/lib/cni").ok();
        let before = ruleset(node);
        let said = node.cnikit("repair --json").json();
        begin(&only(&said)["made"], &[]);
        assert_eq!(ruleset(node), before);

        node.sh("nft flush ruleset");
        begin(&only(&node.cnikit("repair --json").json())["made"], &ENTRIES);
        assert_eq!(source_of(node, "blue"), "192.0.2.2");
        node.cnikit("check net blue --container-id web").ok();
        // Also if nobody remembers them.
        node.sh("nft flush ruleset; rm -r /var/lib/cni/results");
        begin(&only(&node.cnikit("repair --json").json())["made"], &ENTRIES);
        assert_eq!(source_of(node, "blue"), "192.0.2.2");
        node.cnikit("del net blue --container-id web").ok();
        node.sh("ip link del up0");
        assert_eq!(node.remains(), [""; 0]);
    });
}

#[test]
fn what_is_left_of_attachments_that_are_gone_goes_and_comes_not_back() {
    on_a_node!(|node| {
        node.configure("net", GUARDED);
        node.cnikit("add net blue --container-id web").ok();
        // As if another implementation had detached it.
        node.sh("ip link del $(ip -o link | grep -o 'veth[a-z2-7]*' | head -1); rm /var/lib/cni/results/*");
        node.sh("rm /var/lib/cni/networks/net/10.5.0.2");
        assert_eq!(node.cnikit("repair --dry-run").status, 5);
        let said = node.cnikit("repair --json").json();
        begin(&said["removed"], &ENTRIES);
        assert_eq!(node.remains(), [""; 0]);
        assert_eq!(node.cnikit("repair --json").json(), json!({"attachments": [], "removed": []}));
    });
}

#[test]
fn an_attachment_whose_interface_is_gone_gets_nothing_back() {
    on_a_node!(|node| {
        node.configure("net", GUARDED);
        node.cnikit("add net blue --container-id web").ok();
        node.sh("nft flush ruleset; ip -n blue link del eth0");
        let said = node.cnikit("repair --json").json();
        assert_eq!(only(&said)["gone"], true, "{said}");
        assert_eq!(ruleset(node), "");
        let table = node.cnikit("repair").ok();
        assert!(table.lines().nth(1).unwrap().ends_with("gone"), "{table}");
    });
}

#[test]
fn beside_a_runtime_at_work_nothing_is_left_and_nothing_fails() {
    on_a_node!(|node| {
        node.configure("net", GUARDED);
        thread::scope(|scope| {
            let namespace = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
            let mounts = std::fs::File::open("/proc/thread-self/ns/mnt").unwrap();
            let worker = scope.spawn(move || {
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).unwrap();
                nix::sched::setns(&mounts, nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
                nix::sched::setns(&namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
                for _ in 0..12 {
                    node.cnikit("add net blue --container-id web").ok();
                    node.sh("nft flush ruleset");
                    node.cnikit("del net blue --container-id web").ok();
                }
            });
            while !worker.is_finished() {
                assert_eq!(node.cnikit("repair").status, 0);
            }
        });
        assert_eq!(node.remains(), [""; 0]);
    });
}
