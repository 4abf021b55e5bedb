//! No more rights than needed: an ordinary user with two capabilities, in a directory of their own.

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
