//! No more rights than needed: an ordinary user with two capabilities, in a directory of their own.

use std::time::Duration;

use cnikit_tests::{Call, Outcome, State, isolated};
use serde_json::{Value, json};

use crate::attack::{IO, NETNS, Victim, at_once, ipam};

/// Whom nothing belongs to.
const NOBODY: &str = "65534";
/// To make interfaces, and to enter a network namespace.
const BOTH: &str = "-all,+net_admin,+sys_admin";

/// Executes a call as an ordinary user who has some capabilities, and can get no other.
fn as_nobody(capabilities: &str, call: &Call<'_>) -> Outcome {
    let options = [
        "--reuid",
        NOBODY,
        "--regid",
        NOBODY,
        "--clear-groups",
        "--no-new-privs",
        "--bounding-set",
        capabilities,
        "--inh-caps",
        capabilities,
        "--ambient-caps",
        capabilities,
    ];
    call.run_through(&[&["setpriv"], &options[..]].concat())
}

/// A node on which another user than root may execute the plugins and has a directory; `None` if there is no other user:
/// in a user namespace of an ordinary user's.
fn victim() -> Option<Victim> {
    let users = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    if users.split_whitespace().last() == Some("1") {
        eprintln!("DID NOT RUN: only root has other users");
        return None;
    }
    let victim = Victim::new();
    // The tests' own may be where only root looks.
    victim.node.shell(&format!(
        "mkdir /run/state; chown {NOBODY}:{NOBODY} /run/state
         cd /run/cni/ours; cp --dereference bridge /run/plugins; chmod 755 /run/plugins; for plugin in *; do ln -sf /run/plugins $plugin; done"
    ));
    Some(victim)
}

fn bridge() -> Value {
    let mut keys = ipam(json!({"dataDir": "/run/state/networks"}));
    keys["cniVersion"] = json!("1.1.0");
    keys
}

fn after(result: &Value, mut keys: Value) -> Value {
    keys["prevResult"] = result.clone();
    keys
}

#[test]
fn two_capabilities_and_a_directory_are_all_that_pods_need() {
    isolated(|| {
        let Some(victim) = victim() else { return };
        // What pods share is there to stay: the bridge and its settings, the tables, the address of `lo`.
        come_and_go(&victim);
        let before = State::when(&victim.node, |state| state.links("host").len() == 2);
        come_and_go(&victim);
        victim.is_as("all", &before);
        assert_eq!(victim.node.shell("find /run/state -name '10.*'"), "");
        // Nothing was written anywhere else.
        let strange = format!("find /run /var/lib -xdev -user {NOBODY} -not -path '/run/state*'");
        assert_eq!(victim.node.shell(&strange), "");
    });
}

/// A pod with published ports is attached, checked and detached.
fn come_and_go(victim: &Victim) {
    let nobody = |call: &Call<'_>| as_nobody(BOTH, call);
    let looped = |command, keys| victim.plugin(command, "loopback", keys).env("CNI_IFNAME", "lo");
    let lo = nobody(&looped("ADD", json!({"cniVersion": "1.1.0"}))).result();
    nobody(&looped("CHECK", json!({"cniVersion": "1.1.0", "prevResult": lo}))).done();

    let result = nobody(&victim.with("ADD", bridge())).result();
    nobody(&victim.with("CHECK", after(&result, bridge()))).done();
    let ports = json!([
        {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
        {"hostPort": 5353, "containerPort": 53, "protocol": "udp"},
    ]);
    let keys = json!({"cniVersion": "1.1.0", "runtimeConfig": {"portMappings": ports}, "prevResult": result});
    let portmap = |command| victim.plugin(command, "portmap", keys.clone());
    nobody(&portmap("ADD")).result();
    nobody(&portmap("CHECK")).done();
    // Numbers, for `nft` has a name for each of them.
    let published = victim.node.shell("nft --numeric list map inet cnikit hostports4");
    assert!(published.contains("8080") && published.contains("5353"), "{published}");

    nobody(&portmap("DEL")).done();
    nobody(&victim.with("DEL", after(&result, bridge()))).done();
    nobody(&looped("DEL", json!({"cniVersion": "1.1.0"}))).done();
}

/// What one plugin is asked for, perhaps behind `bridge`, on a node on which something was done before.
struct Case {
    before: &'static str,
    list: Vec<(&'static str, Value)>,
}

/// In which the kernel notices carriers, and gives link-local addresses.
const SETTLED: Duration = Duration::from_millis(1500);

/// Some systems give everybody `/dev/net/tun`, others root.
const OPEN_TUN: &str =
    "mknod /run/tun c 10 200; chmod 666 /run/tun; touch /dev/net/tun; mount --bind /run/tun /dev/net/tun";

fn cases() -> Vec<Case> {
    let alone = |before, plugin, mut keys: Value| {
        keys["ipam"] = bridge()["ipam"].clone();
        Case { before, list: vec![(plugin, keys)] }
    };
    let behind = |plugin, keys| Case { before: "", list: vec![("bridge", bridge()), (plugin, keys)] };
    let bits = 1_000_000_000;
    vec![
        alone("", "ptp", json!({"ipMasq": true})),
        alone(
            "ip link add up0 type veth peer name up1; ip link set up0 up; ip link set up1 up",
            "macvlan",
            json!({"master": "up0"}),
        ),
        alone(OPEN_TUN, "tap", json!({"multiQueue": true})),
        alone("ip link add dev0 type veth peer name far0", "host-device", json!({"device": "dev0"})),
        Case {
            before: "",
            list: vec![(
                "static",
                json!({"ipam": {"type": "static", "addresses": [{"address": "10.9.0.2/24"}]}}),
            )],
        },
        behind("firewall", json!({"ingressPolicy": "same-bridge"})),
        behind(
            "bandwidth",
            json!({"ingressRate": bits, "ingressBurst": bits, "egressRate": bits, "egressBurst": bits}),
        ),
        behind(
            "tuning",
            json!({
                "dataDir": "/run/state/tuning", "mac": "c2:b0:57:49:47:f1", "mtu": 1400, "promisc": true,
                "sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "1"},
            }),
        ),
        behind("sbr", json!({})),
        behind(
            "portmap",
            json!({"runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80}]}}),
        ),
    ]
}

#[test]
fn no_plugin_needs_more_than_two_capabilities_for_any_verb() {
    isolated(|| {
        for Case { before, list } in cases() {
            let Some(victim) = victim() else { return };
            let name = list.last().unwrap().0;
            victim.node.shell(before);
            serve(&victim, &list);
            // What pods share is there now, and stays.
            std::thread::sleep(SETTLED);
            let start = State::of(&victim.node);
            serve(&victim, &list);
            victim.is_as(name, &start);
            let left = "find /run/state -name '10.*' -o -path '/run/state/tuning/*'";
            assert_eq!(victim.node.shell(left), "", "{name}");
            let strange = format!("find /run /var/lib -xdev -user {NOBODY} -not -path '/run/state*'");
            assert_eq!(victim.node.shell(&strange), "", "{name}");
        }
    });
}

/// STATUS, ADD, CHECK and DEL of a list of plugins; and ADD, GC, and DEL.
fn serve(victim: &Victim, list: &[(&'static str, Value)]) {
    let call = |command, plugin, keys: &Value, more: Value| {
        let mut keys = keys.clone();
        keys["cniVersion"] = json!("1.1.0");
        keys.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let call = victim.plugin(command, plugin, keys);
        match command {
            "GC" | "STATUS" => call.without("CNI_CONTAINERID").without("CNI_IFNAME").without("CNI_NETNS"),
            _ => call,
        }
    };
    let nobody = |command, plugin, keys, more| as_nobody(BOTH, &call(command, plugin, keys, more));
    let add = || {
        let mut result = Value::Null;
        for (plugin, keys) in list {
            let previous = if result.is_null() { json!({}) } else { json!({"prevResult": result}) };
            result = nobody("ADD", *plugin, keys, previous).result();
        }
        json!({"prevResult": result})
    };
    let del = |previous: &Value| {
        for (plugin, keys) in list.iter().rev() {
            nobody("DEL", *plugin, keys, previous.clone()).done();
        }
    };
    for (plugin, keys) in list {
        nobody("STATUS", *plugin, keys, json!({})).done();
    }
    let previous = add();
    // `sbr` moves routes that `bridge` would look for.
    let moved = list.iter().any(|(plugin, _)| *plugin == "sbr");
    for (plugin, keys) in list.iter().filter(|(plugin, _)| !moved || *plugin == "sbr") {
        nobody("CHECK", *plugin, keys, previous.clone()).done();
    }
    del(&previous);
    let previous = add();
    for (plugin, keys) in list.iter().rev() {
        nobody("GC", *plugin, keys, json!({"cni.dev/valid-attachments": []})).done();
    }
    del(&previous);
}

#[test]
fn without_either_capability_every_plugin_refuses_and_leaves_nothing() {
    isolated(|| {
        for Case { before, list } in cases() {
            let Some(victim) = victim() else { return };
            victim.node.shell(before);
            victim.node.pod_shell(&victim.pod, "echo 0 > /proc/sys/net/ipv6/conf/default/dad_transmits");
            let (plugin, keys) = list.last().unwrap();
            let mut keys = keys.clone();
            keys["cniVersion"] = json!("1.1.0");
            if list.len() > 1 {
                // Who stands behind another has something to do.
                keys["prevResult"] = as_nobody(BOTH, &victim.with("ADD", bridge())).result();
            }
            // Link-local addresses are there a moment later.
            std::thread::sleep(SETTLED);
            let start = State::of(&victim.node);
            for capabilities in ["-all", "-all,+sys_admin", "-all,+net_admin"] {
                let outcome = as_nobody(capabilities, &victim.plugin("ADD", plugin, keys.clone()));
                if *plugin == "static" {
                    // It looks into its configuration, and nowhere else.
                    outcome.result();
                    continue;
                }
                if outcome.status.success() && NEEDS_NO_NAMESPACE.contains(plugin) {
                    assert!(capabilities.contains("net_admin"), "{plugin} {capabilities}");
                    as_nobody(BOTH, &victim.plugin("DEL", plugin, keys.clone())).done();
                    continue;
                }
                let said = outcome.error()["msg"].to_string() + &outcome.error()["details"].to_string();
                let refused = ["EPERM", "EACCES", "not permitted"].iter().any(|word| said.contains(word));
                assert!(refused, "{plugin} {capabilities}: {outcome}");
                victim.is_as(&format!("{plugin} {capabilities}"), &start);
            }
        }
    });
}

/// Plugins that work on the node only: `CAP_NET_ADMIN` is enough.
const NEEDS_NO_NAMESPACE: [&str; 3] = ["portmap", "firewall", "bandwidth"];

#[test]
fn tap_without_its_device_says_which() {
    isolated(|| {
        let Some(victim) = victim() else { return };
        victim.node.shell(&OPEN_TUN.replace("666", "600"));
        let start = State::of(&victim.node);
        let outcome = as_nobody(BOTH, &victim.plugin("ADD", "tap", bridge()));
        assert_eq!(outcome.error()["code"], crate::attack::KERNEL, "{outcome}");
        assert!(outcome.stdout.contains("EACCES") && outcome.stdout.contains("/dev/net/tun"), "{outcome}");
        victim.is_as("tap", &start);
    });
}

#[test]
fn tunings_own_directory_is_roots_and_that_is_said() {
    isolated(|| {
        let Some(victim) = victim() else { return };
        let result = as_nobody(BOTH, &victim.with("ADD", bridge())).result();
        let start = State::of(&victim.node);
        let keys = json!({"cniVersion": "1.1.0", "mtu": 1400, "prevResult": result});
        let outcome = as_nobody(BOTH, &victim.plugin("ADD", "tuning", keys));
        assert_eq!(outcome.error()["code"], IO, "{outcome}");
        assert!(outcome.stdout.contains("/run/cni/tuning"), "{outcome}");
        victim.is_as("tuning", &start);
    });
}

#[test]
fn without_either_capability_an_add_is_refused_and_leaves_nothing() {
    isolated(|| {
        let Some(victim) = victim() else { return };
        for capabilities in ["-all", "-all,+net_admin", "-all,+sys_admin"] {
            let before = State::of(&victim.node);
            let outcome = as_nobody(capabilities, &victim.with("ADD", bridge()));
            let said = outcome.error()["msg"].to_string() + &outcome.error()["details"].to_string();
            assert!(said.contains("not permitted") || said.contains("EPERM"), "{capabilities}: {outcome}");
            victim.is_as(capabilities, &before);
            assert_eq!(victim.node.shell("find /run/state -name '10.*'"), "", "{capabilities}");
        }
        // Whoever cannot enter the namespace is told which.
        let outcome = as_nobody("-all,+net_admin", &victim.with("ADD", bridge()));
        assert!(
            [NETNS, crate::attack::KERNEL].contains(&outcome.error()["code"].as_u64().unwrap()),
            "{outcome}"
        );
    });
}

#[test]
fn a_directory_of_somebody_elses_is_an_input_or_output_error_that_names_it() {
    isolated(|| {
        let Some(victim) = victim() else { return };
        let before = State::of(&victim.node);
        let outcome = as_nobody(BOTH, &victim.call("ADD"));
        assert_eq!(outcome.error()["code"], IO, "{outcome}");
        assert!(outcome.stdout.contains("/var/lib/cni"), "{outcome}");
        victim.is_as("ADD", &before);
    });
}

/// The reference's modes where it must read the same files: leases and what was given last for the owner only, the directory
/// for everybody to list, the lock for the group.
#[test]
fn leases_are_for_their_owner_to_write() {
    isolated(|| {
        let victim = Victim::new();
        // Whatever the runtime's mask is.
        victim.call("ADD").run_through(&["sh", "-c", "umask 0; exec \"$0\""]).result();
        let modes = victim.node.shell(
            "cd /var/lib/cni/networks/blue; stat -c '%a %F %n' . lock 10.* last_reserved_ip.0 .cnikit.* | sed 's/cnikit.*/cnikit/' | sort",
        );
        assert_eq!(
            modes,
            "600 regular file 10.1.0.2\n600 regular file last_reserved_ip.0\n700 directory .cnikit\n\
             750 regular empty file lock\n755 directory .\n"
        );
    });
}

#[test]
fn what_a_link_in_a_state_directory_points_to_is_left_alone() {
    isolated(|| {
        const LEASES: &str = "/var/lib/cni/networks/blue";
        for name in ["lock", "10.1.0.2", "last_reserved_ip.0"] {
            let victim = Victim::new();
            victim.node.shell(&format!(
                "printf 'c1\\r\\neth0' > /run/victim; mkdir -p {LEASES}; ln -s /run/victim {LEASES}/{name}"
            ));
            let outcome = at_once(name, &victim.call("ADD"));
            if !outcome.status.success() {
                assert!(outcome.stdout.contains(&format!("{LEASES}/{name}")), "{outcome}");
            }
            at_once(name, &victim.call("DEL"));
            assert_eq!(victim.node.shell("cat /run/victim"), "c1\r\neth0", "{name}");
            assert_eq!(victim.node.shell(&format!("readlink {LEASES}/{name}")), "/run/victim\n", "{name}");
        }
    });
}

/// The specification: "Execute that plugin with the same environment and configuration that the bridge plugin received."
#[test]
fn what_is_delegated_to_gets_the_callers_environment_and_nothing_else() {
    isolated(|| {
        let victim = Victim::new();
        victim.node.shell(
            "printf '#!/bin/sh\\ncat /proc/$$/environ > /run/got-$CNI_COMMAND\\necho {\\\"cniVersion\\\":\\\"1.0.0\\\",\\\"ips\\\":[]}\\n' > /run/cni/ours/spy
             chmod +x /run/cni/ours/spy",
        );
        let call = victim.with("ADD", json!({"ipam": {"type": "spy"}})).args("K=V").env("EXTRA", "x");
        at_once("spy", &call);
        let got = victim.node.shell("tr '\\0' '\\n' < /run/got-ADD | cut -d = -f 1 | sort");
        assert_eq!(
            got,
            "CNI_ARGS\nCNI_COMMAND\nCNI_CONTAINERID\nCNI_IFNAME\nCNI_NETNS\nCNI_PATH\nEXTRA\nPATH\n"
        );
    });
}
