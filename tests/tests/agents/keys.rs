//! Strangers.

use std::collections::HashSet;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use cnikit_tests::isolated;
use cnikit_tests::lab::{Lab, Machine, Packet, Stream};
use serde_json::{Value, json};

use crate::common::{assert_everybody_talks, assert_nothing_lost, lab, logs, pods, usual};

/// The agents' UDP port.
const PORT: u16 = 4793;
const FIRST: &str = "0101010101010101010101010101010101010101010101010101010101010101";
const SECOND: &str = "0202020202020202020202020202020202020202020202020202020202020202";

fn with_key() -> Value {
    let mut config = usual();
    config["gossip"] = json!({"seeds": ["192.168.1.11"], "keyFile": "/var/lib/cnikit.key"});
    config
}

fn write_key(machine: &Machine, keys: &[&str]) {
    machine.put("/var/lib/cnikit.key", &(keys.join("\n") + "\n"));
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
        let (_pods, voices) = pods(&machines);
        assert_everybody_talks(&machines, &voices);
        let stream = Stream::among(&[&voices[0], &voices[1]]);
        let mut stranger = lab.machine(3, &with_key());
        write_key(&stranger, &[SECOND]);
        stranger.start();
        let mut naked = lab.machine(4, &usual());
        naked.start();
        thread::sleep(Duration::from_secs(5));
        for machine in [&stranger, &naked] {
            let status = machine.ask("/v1/status").unwrap();
            assert_eq!(status["peers"]["alive"], 0, "{status}");
            assert_eq!(status["ready"], false, "it has seeds, and none has answered: {status}");
        }
        for machine in &machines {
            let peers = machine.ask("/v1/peers").unwrap();
            assert_eq!(peers.as_array().unwrap().len(), 1, "{peers}\n{}", logs(&machines));
        }
        assert_nothing_lost("a wrong key", stream, &machines);
    });
}

#[test]
fn what_was_recorded_on_the_segment_changes_nothing_when_it_is_sent_again() {
    isolated(|| {
        let lab = lab();
        let machines = sealed(&lab, 2);
        let tap = lab.tap();
        // A pod that is gone by the time at which it is told of again.
        let pod = machines[0].node.pod("gone");
        machines[0].add(&pod);
        machines[1].wait("the pod is known", |machine| names_of_pods(machine) == ["gone"]);
        machines[0].del(&pod);
        machines[1].wait("the pod is gone", |machine| names_of_pods(machine).is_empty());
        thread::sleep(Duration::from_secs(1));
        let recorded: HashSet<Packet> = tap.packets().into_iter().collect();
        let said: Vec<_> = recorded.iter().filter_map(Packet::datagram).collect();
        let said: Vec<_> = said.into_iter().filter(|(_, to, _)| to.port() == PORT).collect();
        assert!(said.len() > 5, "{} datagrams in more than a second", said.len());
        assert!(said.iter().all(|(_, _, what)| !what.windows(4).any(|part| part == b"gone")), "sealed");

        let refused = |machine: &Machine| machine.counted("cnikit_gossip_refused_total");
        assert_eq!(machines.iter().map(refused).collect::<Vec<_>>(), [0, 0], "{}", logs(&machines));
        let (_pods, voices) = pods(&machines);
        assert_everybody_talks(&machines, &voices);
        for machine in &machines {
            machine.wait("both pods are known", |machine| names_of_pods(machine).len() == 2);
        }
        let stream = Stream::among(&[&voices[0], &voices[1]]);
        let known: Vec<_> = machines.iter().map(nodes).collect();
        // Somebody on the segment says it again: as himself, and as who has said it before.
        let attacker = lab.machine(9, &usual());
        attacker.node.shell("sysctl -qw net.ipv4.conf.all.arp_announce=2 net.ipv4.conf.all.arp_ignore=1");
        let mut sent = [0; 2];
        for ends in [[11, 12], [12, 11]] {
            let [speaker, listener] = ends.map(|host| Ipv4Addr::new(192, 168, 1, host));
            attacker.node.shell(&format!("ip addr add {speaker}/32 dev lo"));
            for (_, to, what) in said.iter().filter(|(_, to, _)| *to.ip() == listener) {
                for from in [speaker, Ipv4Addr::new(192, 168, 1, 19)] {
                    attacker.node.inside(|| UdpSocket::bind((from, 0)).unwrap().send_to(what, to).unwrap());
                    sent[usize::from(listener.octets()[3] - 11)] += 1;
                }
            }
            attacker.node.shell(&format!("ip addr del {speaker}/32 dev lo"));
        }
        for (machine, sent) in machines.iter().zip(sent) {
            assert!(sent > 0, "each has heard something");
            machine.wait("all of it is refused, and counted", |machine| refused(machine) == sent);
        }
        thread::sleep(Duration::from_secs(3));
        for (machine, known) in machines.iter().zip(known) {
            assert_eq!(nodes(machine), known, "{}", logs(&machines));
            assert_eq!(machine.ask("/v1/status").unwrap()["peers"]["alive"], 1, "{}", logs(&machines));
        }
        assert_nothing_lost("a replay", stream, &machines);
    });
}

/// What a machine's agent knows of all nodes, but for how paths are at the moment.
fn nodes(machine: &Machine) -> Vec<Value> {
    let mut nodes = machine.ask("/v1/topology").unwrap()["nodes"].as_array().unwrap().clone();
    nodes.iter_mut().for_each(|node| drop(node.as_object_mut().unwrap().remove("path")));
    nodes
}

fn names_of_pods(machine: &Machine) -> Vec<String> {
    let pods = nodes(machine).into_iter().flat_map(|node| node["pods"].as_array().unwrap().clone());
    pods.map(|pod| pod["container"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_key_is_changed_while_everything_runs() {
    isolated(|| {
        let lab = lab();
        let machines = sealed(&lab, 3);
        let (_pods, voices) = pods(&machines);
        assert_everybody_talks(&machines, &voices);
        let stream = Stream::among(&voices.iter().collect::<Vec<_>>());
        while_nobody_is_down(&machines, || {
            // Everybody understands the new one, then everybody uses it, then nobody understands the old one.
            for keys in [&[FIRST, SECOND][..], &[SECOND, FIRST], &[SECOND]] {
                for machine in &machines {
                    write_key(machine, keys);
                    machine.signal(nix::sys::signal::Signal::SIGHUP);
                    thread::sleep(Duration::from_millis(300));
                }
            }
            // Who had not been heard since the first change would be down by now.
            thread::sleep(Duration::from_secs(6));
        });
        let refused: Vec<_> =
            machines.iter().map(|machine| machine.counted("cnikit_gossip_refused_total")).collect();
        assert_eq!(refused, [0, 0, 0], "{}", logs(&machines));
        let mut late = lab.machine(4, &with_key());
        write_key(&late, &[FIRST]);
        late.start();
        thread::sleep(Duration::from_secs(3));
        assert_eq!(late.ask("/v1/status").unwrap()["peers"]["alive"], 0, "{}", logs(&machines));
        write_key(&late, &[SECOND]);
        late.signal(nix::sys::signal::Signal::SIGHUP);
        late.wait_peers(3);
        assert_nothing_lost("keys changed", stream, &machines);
    });
}

/// Does something while all agents are asked all the time how others are.
fn while_nobody_is_down(machines: &[Machine], work: impl FnOnce()) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut asked = 0;
            while !done.load(Ordering::Relaxed) {
                for machine in machines {
                    let peers = machine.ask("/v1/status").expect("the agent answers")["peers"].clone();
                    let answers = [&peers["alive"], &peers["suspect"]].map(|count| count.as_u64().unwrap());
                    assert_eq!(
                        answers.iter().sum::<u64>() as usize,
                        machines.len() - 1,
                        "{peers}\n{}",
                        logs(machines)
                    );
                }
                asked += 1;
                thread::sleep(Duration::from_millis(50));
            }
            asked
        });
        work();
        done.store(true, Ordering::Relaxed);
        assert!(asking.join().unwrap() > 50);
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
