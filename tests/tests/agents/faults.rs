//! Agents die, nodes are rebooted and replaced, packets are lost: what goes on all the same.

use std::time::Duration;

use cnikit_tests::isolated;
use cnikit_tests::lab::{PATIENCE, Stream, everybody_to_everybody};
use serde_json::json;

use crate::common::{
    Families, assert_everybody_talks, assert_subnets_differ, cluster, config, lab, logs, pods, talking, usual,
};

#[test]
fn not_a_packet_is_lost_when_an_agent_is_killed_and_started_again() {
    isolated(|| {
        let lab = lab();
        let (mut machines, _pods, voices) = talking(&lab, 3, &usual());
        let mut voices = voices.into_iter();
        let (from, to) = (voices.next().unwrap(), voices.next().unwrap());
        let stream = Stream::start(from, to, false);
        for _ in 0..2 {
            machines[1].kill();
            std::thread::sleep(Duration::from_millis(500));
            machines[1].start();
            machines[1].wait_ready();
            std::thread::sleep(Duration::from_secs(1));
        }
        let lost = stream.stop();
        assert_eq!(lost.lost, 0, "{lost:?}\n{}", logs(&machines));
        assert!(lost.sent > 500, "{lost:?}");
    });
}

#[test]
fn pods_come_and_talk_while_all_agents_are_dead() {
    isolated(|| {
        let lab = lab();
        let (mut machines, _pods, voices) = talking(&lab, 3, &usual());
        for machine in &mut machines {
            machine.kill();
        }
        let (_more_pods, more): (Vec<_>, Vec<_>) =
            machines.iter().map(|machine| machine.pod(&format!("late-{}", machine.number))).unzip();
        let all: Vec<_> = voices.into_iter().chain(more).collect();
        assert_everybody_talks(&machines, &all);
    });
}

#[test]
fn a_rebooted_node_has_the_subnet_it_had() {
    isolated(|| {
        let lab = lab();
        let mut machines = cluster(&lab, 3, &usual());
        let before = machines[2].subnets();
        let (_pods, voices) = pods(&machines[..2]);
        let rebooted = machines.remove(2).rebooted(&lab);
        machines.push(rebooted);
        machines[2].wait_ready();
        assert_eq!(machines[2].subnets(), before, "{}", machines[2].log());
        let (_pod, voice) = machines[2].pod("after");
        let all: Vec<_> = voices.into_iter().chain([voice]).collect();
        assert_everybody_talks(&machines, &all);
    });
}

#[test]
fn a_node_replaced_under_its_name_is_another_node() {
    isolated(|| {
        let lab = lab();
        let mut machines = cluster(&lab, 3, &usual());
        let id = |machine: &cnikit_tests::lab::Machine| machine.ask("/v1/status").unwrap()["node"].clone();
        let before = id(&machines[2]);
        drop(machines.pop());
        let mut new = lab.machine(3, &usual());
        new.start();
        new.wait_ready();
        assert_ne!(id(&new), before);
        machines.push(new);
        assert_subnets_differ(&machines);
        let (_pods, voices) = pods(&machines);
        assert_everybody_talks(&machines, &voices);
        // Somebody has to say that the old one will not come back.
        machines[0].wait("the old one is missed", |machine| {
            machine.ask("/v1/status").is_some_and(|status| status["peers"]["down"] == 1)
        });
        let forgotten = machines[0].post("/v1/forget", &json!({ "node": before })).unwrap();
        assert_eq!(forgotten["name"], "n3", "{forgotten}");
        machines[1].wait("the old node is forgotten", |machine| {
            machine.ask("/v1/peers").is_some_and(|peers| peers.as_array().is_some_and(|all| all.len() == 2))
        });
    });
}

#[test]
fn a_node_with_a_new_address_is_found_there() {
    isolated(|| {
        let lab = lab();
        // Of both families, of which one only gets a new address.
        let (machines, _pods, voices) = talking(&lab, 3, &config("vxlan", Families::Both));
        machines[2].node.shell("ip addr del 192.168.1.13/24 dev eth0; ip addr add 192.168.1.77/24 dev eth0");
        machines[2].wait("it knows its new address", |machine| {
            machine
                .ask("/v1/status")
                .is_some_and(|status| status["addresses"].to_string().contains("192.168.1.77"))
        });
        machines[0].wait("the new address is known", |machine| {
            machine.ask("/v1/peers").is_some_and(|peers| peers.to_string().contains("192.168.1.77"))
        });
        assert_everybody_talks(&machines, &voices);
    });
}

#[test]
fn a_third_of_all_packets_may_be_lost() {
    isolated(|| {
        let lab = lab();
        lab.switch.shell(
        "nft 'add table bridge loss; add chain bridge loss forward { type filter hook forward priority 0; }
              add rule bridge loss forward numgen random mod 100 < 30 drop'",
    );
        let machines = cluster(&lab, 5, &usual());
        assert_subnets_differ(&machines);
        let (_pods, voices) = pods(&machines);
        assert_everybody_talks(&machines, &voices);
    });
}

#[test]
fn one_way_loss_is_no_reason_to_lose_a_node() {
    isolated(|| {
        let lab = lab();
        let (machines, _pods, voices) = talking(&lab, 4, &usual());
        lab.cut(&machines[1], &machines[2]);
        std::thread::sleep(Duration::from_secs(8));
        // Others have asked for them: each still knows that the other is there.
        for n in [1, 2] {
            let status = machines[n].ask("/v1/status").unwrap();
            assert_eq!(status["peers"]["alive"], 3, "{status}\n{}", logs(&machines));
        }
        // Who is not cut off talks.
        let rest: Vec<_> = [0, 1, 3].iter().map(|n| &voices[*n]).collect();
        assert_eq!(everybody_to_everybody(&rest, PATIENCE), Vec::<String>::new(), "{}", logs(&machines));
        lab.heal();
        assert_everybody_talks(&machines, &voices);
    });
}
