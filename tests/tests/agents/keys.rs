//! Strangers.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use cnikit_tests::isolated;
use cnikit_tests::lab::{Lab, Machine};
use serde_json::{Value, json};

use crate::common::{lab, logs, usual};

const FIRST: &str = "0101010101010101010101010101010101010101010101010101010101010101";
const SECOND: &str = "0202020202020202020202020202020202020202020202020202020202020202";

fn with_key() -> Value {
    let mut config = usual();
    config["gossip"] = json!({"seeds": ["192.168.1.11"], "keyFile": "/var/lib/cnikit.key"});
    config
}

fn write_key(machine: &Machine, keys: &[&str]) {
    let text = keys.join("\n") + "\n";
    machine.node.inside(|| {
        fs::write("/var/lib/cnikit.key", text).unwrap();
        fs::set_permissions("/var/lib/cnikit.key", fs::Permissions::from_mode(0o600)).unwrap();
    });
}

fn sealed(lab: &Lab, n: u8) -> Vec<Machine> {
    let mut machines = lab.machines(n, &with_key());
    machines[0].config()["gossip"]["bootstrap"] = json!(true);
    for machine in &mut machines {
        write_key(machine, &[FIRST]);
        machine.start();
    }
    for machine in &machines {
        machine.wait_ready();
        machine.wait_peers(usize::from(n) - 1);
    }
    machines
}

#[test]
fn a_stranger_learns_nothing_and_changes_nothing() {
    isolated(|| {
        let lab = lab();
        let machines = sealed(&lab, 2);
        let mut stranger = lab.machine(3, &with_key());
        write_key(&stranger, &[SECOND]);
        stranger.start();
        let mut naked = lab.machine(4, &usual());
        naked.start();
        std::thread::sleep(Duration::from_secs(5));
        for machine in [&stranger, &naked] {
            let status = machine.ask("/v1/status").unwrap();
            assert_eq!(status["peers"]["alive"], 0, "{status}");
            assert_eq!(status["ready"], false, "it has seeds, and none has answered: {status}");
        }
        for machine in &machines {
            let peers = machine.ask("/v1/peers").unwrap();
            assert_eq!(peers.as_array().unwrap().len(), 1, "{peers}\n{}", logs(&machines));
        }
    });
}

#[test]
fn a_key_is_changed_while_everything_runs() {
    isolated(|| {
        let lab = lab();
        let machines = sealed(&lab, 3);
        // Everybody understands the new one, then everybody uses it, then nobody understands the old one.
        for keys in [&[FIRST, SECOND][..], &[SECOND, FIRST], &[SECOND]] {
            for machine in &machines {
                write_key(machine, keys);
                machine.signal(nix::sys::signal::Signal::SIGHUP);
                std::thread::sleep(Duration::from_millis(300));
            }
        }
        std::thread::sleep(Duration::from_secs(6));
        for machine in &machines {
            machine.wait_peers(2);
        }
        let mut late = lab.machine(4, &with_key());
        write_key(&late, &[FIRST]);
        late.start();
        std::thread::sleep(Duration::from_secs(3));
        assert_eq!(late.ask("/v1/status").unwrap()["peers"]["alive"], 0, "{}", logs(&machines));
        write_key(&late, &[SECOND]);
        late.signal(nix::sys::signal::Signal::SIGHUP);
        late.wait_peers(3);
    });
}

#[test]
fn an_agent_without_a_key_starts_only_when_told_that_this_is_meant() {
    isolated(|| {
        let lab = lab();
        let mut config = usual();
        config["gossip"] = json!({"seeds": []});
        let mut machine = lab.machine(1, &config);
        machine.start();
        machine.wait("it ends", |machine| machine.log().contains("insecure"));
        assert!(machine.ask("/v1/status").is_none());
    });
}
