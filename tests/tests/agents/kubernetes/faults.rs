//! Servers that die and forget, nodes that are deleted while nobody looks, tokens that are no good any more.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use cnikit_tests::isolated;
use cnikit_tests::lab::{Machine, Stream};

use super::control_plane::WatchCache;
use super::{
    assert_everybody_talks, cluster, control_plane, give_identity, lab_alone, logs, machine, name, pod_cidrs,
    pods, wait_ready,
};
use crate::common::Families;

fn cut_off(machine: &Machine) -> bool {
    machine.ask("/v1/status").is_some_and(|status| status["store"]["cutOff"].is_string())
}

fn knows(machine: &Machine, other: &str) -> bool {
    machine.ask("/v1/peers").is_some_and(|peers| {
        peers.as_array().is_some_and(|peers| peers.iter().any(|peer| peer["name"] == other))
    })
}

/// How the node appears to another.
fn liveness(machine: &Machine, other: &str) -> String {
    let peers = machine.ask("/v1/peers").unwrap();
    let peer = peers.as_array().unwrap().iter().find(|peer| peer["name"] == other);
    peer.map_or_else(String::new, |peer| peer["liveness"].as_str().unwrap().to_owned())
}

#[test]
#[ignore = "takes a real API server: deploy/real-kubernetes"]
fn nothing_is_lost_while_the_server_is_away() {
    isolated(|| {
        let lab = lab_alone();
        let mut plane = control_plane(&lab, Families::V4, WatchCache::Usual);
        let mut machines = cluster(&lab, &mut plane, 3, Families::V4);
        let (_pods, voices) = pods(&machines);
        assert_everybody_talks(&machines, &voices);
        let stream = Stream::start(&voices[0], &voices[1], false);
        plane.kill_api();
        for machine in &machines {
            machine.wait("it says that it is cut off", cut_off);
        }
        // Pods come, and an agent is started, which knows what it knew.
        let (_late, one) = machines[0].pod("late");
        machines[2].kill();
        machines[2].start();
        machines[2].wait_ready();
        let (_later, other) = machines[2].pod("later");
        assert_everybody_talks(&machines, &[one, other]);
        plane.resume_api();
        let back = Instant::now();
        for machine in &machines {
            machine.wait_long("it is back", |machine| !cut_off(machine));
        }
        println!("all agents are back {:.1} s after the server", back.elapsed().as_secs_f64());
        // A node that comes now is known to all.
        plane.start_controllers();
        let mut fourth = machine(&lab, &plane, 4, Families::V4);
        plane.register("n4");
        fourth.start();
        wait_ready(&plane, &fourth);
        machines.push(fourth);
        for machine in &machines {
            machine.wait_known(4);
        }
        let lost = stream.stop();
        println!("{lost:?}");
        assert_eq!(lost.lost, 0, "{lost:?}\n{}", logs(&machines));
    });
}

/// One node is deleted, and another comes, in a time of which the server has no memory.
fn history_is_gone(watch_cache: WatchCache) {
    let lab = lab_alone();
    let mut plane = control_plane(&lab, Families::V4, watch_cache);
    let mut machines = cluster(&lab, &mut plane, 4, Families::V4);
    let (_pods, mut voices) = pods(&machines);
    assert_everybody_talks(&machines, &voices);
    let lists =
        |plane: &super::ControlPlane<'_>| plane.noted().iter().filter(|noted| noted.verb == "list").count();
    plane.kill_api();
    let mut fifth = None;
    plane.meanwhile(|plane| {
        plane.start_controllers();
        plane.admin(&["delete", "node", "n4"], "");
        let five = machine(&lab, plane, 5, Families::V4);
        plane.register("n5");
        plane.wait("a subnet", |plane| !pod_cidrs(plane, &five).is_empty());
        fifth = Some(five);
    });
    for machine in &machines {
        machine.wait("it says that it is cut off", cut_off);
    }
    machines.pop();
    voices.pop();
    let before = lists(&plane);
    plane.resume_api();
    plane.start_controllers();
    let mut fifth = fifth.unwrap();
    fifth.start();
    machines.push(fifth);
    let back = Instant::now();
    for machine in &machines {
        machine.wait_long("the deleted node is forgotten", |machine| !knows(machine, "n4"));
        machine.wait_known(4);
        machine.wait("it is not cut off", |machine| !cut_off(machine));
    }
    println!("all agents know who has left {:.1} s after the server is back", back.elapsed().as_secs_f64());
    assert!(lists(&plane) >= before + machines.len(), "who was told that history is gone lists again");
    let (_pod, voice) = machines[3].pod("newcomer");
    voices.push(voice);
    assert_everybody_talks(&machines, &voices);
    for machine in &machines[..3] {
        let routes = machine.node.shell("ip route show proto 87 type unicast");
        // The way to the newcomer may just be tried out: there are two routes to one subnet then.
        let subnets: BTreeSet<_> = routes.lines().filter_map(|route| route.split(' ').next()).collect();
        assert_eq!(subnets.len(), 3, "{routes}");
    }
}

#[test]
#[ignore = "takes a real API server: deploy/real-kubernetes"]
fn what_the_server_has_forgotten_is_listed_again() {
    isolated(|| history_is_gone(WatchCache::Usual));
}

#[test]
#[ignore = "takes a real API server: deploy/real-kubernetes"]
fn what_etcd_has_forgotten_is_listed_again() {
    isolated(|| history_is_gone(WatchCache::NoneForNodes));
}

#[test]
#[ignore = "takes a real API server: deploy/real-kubernetes"]
fn a_node_that_is_deleted_while_its_agent_is_down_keeps_its_pods_reachable() {
    isolated(|| {
        let lab = lab_alone();
        let mut plane = control_plane(&lab, Families::V4, WatchCache::Usual);
        let mut machines = cluster(&lab, &mut plane, 4, Families::V4);
        let (_pods, mut voices) = pods(&machines);
        assert_everybody_talks(&machines, &voices);
        // One does not see that another leaves for ever.
        machines[0].kill();
        plane.admin(&["delete", "node", "n4"], "");
        machines.pop();
        voices.pop();
        // Another's Node is deleted and made again, while its agent is down and its pods go on.
        let before = pod_cidrs(&plane, &machines[1]);
        machines[1].kill();
        plane.admin(&["delete", "node", "n2"], "");
        machines[2].wait("n2 is forgotten", |machine| !knows(machine, "n2"));
        plane.register("n2");
        plane.wait("a subnet", |plane| !pod_cidrs(plane, &machines[1]).is_empty());
        assert_ne!(pod_cidrs(&plane, &machines[1]), before);
        for number in [0, 1] {
            machines[number].start();
            wait_ready(&plane, &machines[number]);
        }
        machines[0].wait("n4 is forgotten", |machine| !knows(machine, "n4"));
        for machine in &machines {
            machine.wait_known(3);
        }
        let (_pod, voice) = machines[1].pod("in-the-new-subnet");
        voices.push(voice);
        assert_everybody_talks(&machines, &voices);
    });
}

#[test]
#[ignore = "takes a real API server: deploy/real-kubernetes"]
fn a_token_that_is_replaced_is_read_again() {
    isolated(|| {
        let lab = lab_alone();
        let mut plane = control_plane(&lab, Families::V4, WatchCache::Usual);
        let machines = cluster(&lab, &mut plane, 2, Families::V4);
        // With the account its tokens end; one of the new account's is put in the place of each, as a kubelet does.
        let account = ["--namespace", "kube-system", "serviceaccount", "cnikit"];
        plane.admin(&[&["delete"], &account[..]].concat(), "");
        plane.admin(&[&["create"], &account[..]].concat(), "");
        // What is connected stays so: it is a new request that is refused.
        plane.kill_api();
        plane.resume_api();
        for machine in &machines {
            machine.wait_long("it says that its token is no good", |machine| {
                machine.ask("/v1/status").is_some_and(|status| {
                    status["store"]["cutOff"].as_str().is_some_and(|why| why.contains("token"))
                })
            });
            give_identity(&plane, machine);
        }
        let replaced = Instant::now();
        for machine in &machines {
            machine.wait_long("it is back", |machine| !cut_off(machine));
        }
        println!("the new tokens are used after {:.1} s", replaced.elapsed().as_secs_f64());
        assert!(replaced.elapsed() < Duration::from_secs(120));
    });
}

#[test]
#[ignore = "takes a real API server: deploy/real-kubernetes"]
fn a_kubelet_that_is_silent_makes_a_node_down_and_takes_no_route_away() {
    isolated(|| {
        let lab = lab_alone();
        let mut plane = control_plane(&lab, Families::V4, WatchCache::Usual);
        let machines = cluster(&lab, &mut plane, 2, Families::V4);
        let (_pods, voices) = pods(&machines);
        plane.heartbeat(&name(&machines[1]));
        machines[0].wait("n2 is alive", |machine| liveness(machine, "n2") == "alive");
        machines[0].wait_long("n2 is down", |machine| liveness(machine, "n2") == "down");
        assert_everybody_talks(&machines, &voices);
        plane.heartbeat(&name(&machines[1]));
        machines[0].wait("n2 is alive again", |machine| liveness(machine, "n2") == "alive");
    });
}

#[test]
#[ignore = "takes a real API server: deploy/real-kubernetes"]
fn a_backup_that_is_restored_is_believed() {
    isolated(|| {
        let lab = lab_alone();
        let mut plane = control_plane(&lab, Families::V4, WatchCache::Usual);
        let mut machines = cluster(&lab, &mut plane, 2, Families::V4);
        plane.restored_after(|plane| {
            // What comes after the backup has never been.
            let mut third = machine(&lab, plane, 3, Families::V4);
            plane.register("n3");
            third.start();
            wait_ready(plane, &third);
            plane.write_much();
            plane.admin(&["annotate", "node", "n1", "n2", "some=thing"], "");
            for machine in &machines {
                machine.wait_known(3);
            }
            plane.kill_api();
        });
        plane.resume_api();
        plane.start_controllers();
        let mut fourth = machine(&lab, &plane, 4, Families::V4);
        plane.register("n4");
        fourth.start();
        wait_ready(&plane, &fourth);
        machines.push(fourth);
        for machine in &machines {
            machine.wait_long("the node that has never been is forgotten", |machine| !knows(machine, "n3"));
            machine.wait_known(3);
        }
        let (_pods, voices) = pods(&machines);
        assert_everybody_talks(&machines, &voices);
    });
}
