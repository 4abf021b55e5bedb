//! Agents die, nodes are rebooted and replaced, packets are lost: what goes on all the same.

use std::time::{Duration, Instant};

use cnikit_tests::isolated;
use cnikit_tests::lab::{Machine, Stream};
use serde_json::json;

use crate::common::{
    Families, assert_everybody_talks, assert_gap, assert_nothing_lost, assert_subnets_differ, cluster,
    cluster_by, config, lab, logs, pods, talking, usual,
};

/// How long a rebooted node's pods may be out of reach, once they are attached.
const REBOOTED: Duration = Duration::from_secs(3);
/// How long a node's pods may be out of reach when it has a new address.
const NEW_ADDRESS: Duration = Duration::from_secs(2);
/// How long pods may be out of reach when nothing is lost on the segment any more: who has not found a neighbour asks again
/// after a second.
const HEALED: Duration = Duration::from_secs(3);

/// Kills the agent of a node whose pods talk, and that of the router, if there is one.
fn killed_and_started_again(mode: &str) {
    let lab = lab();
    let mut machines = cluster_by(&lab, 3, mode, Families::Both);
    let (_pods, voices) = pods(&machines[..3]);
    assert_everybody_talks(&machines, &voices);
    let stream = Stream::among(&voices.iter().collect::<Vec<_>>());
    // For a moment; for so long that all others have asked for it, by each way that there is; and the router's, where there is one.
    for (n, dead) in [(1, 500), (1, 15_000), (machines.len() - 1, 500)] {
        machines[n].kill();
        std::thread::sleep(Duration::from_millis(dead));
        machines[n].start();
        machines[n].wait("it knows the others again", |machine| {
            machine.ask("/v1/status").is_some_and(|status| status["peers"]["alive"] == machines.len() - 1)
        });
        std::thread::sleep(Duration::from_secs(1));
    }
    assert_nothing_lost(&format!("an agent killed and started again, {mode}"), stream, &machines);
}

#[test]
fn not_a_packet_is_lost_when_an_agent_is_killed_and_started_again() {
    isolated(|| killed_and_started_again("auto"));
}

#[test]
fn nor_out_of_tunnels() {
    isolated(|| killed_and_started_again("vxlan"));
}

#[test]
fn nor_on_plain_routes() {
    isolated(|| killed_and_started_again("route"));
}

#[test]
fn nor_around_a_router_whose_agent_is_killed_too() {
    isolated(|| killed_and_started_again("router"));
}

#[test]
fn pods_come_and_talk_while_all_agents_are_dead() {
    isolated(|| {
        let lab = lab();
        let (mut machines, _pods, voices) = talking(&lab, 3, &config("auto", Families::Both));
        let stream = Stream::among(&voices.iter().collect::<Vec<_>>());
        for machine in &mut machines {
            machine.kill();
        }
        let (_more_pods, more): (Vec<_>, Vec<_>) =
            machines.iter().map(|machine| machine.pod(&format!("late-{}", machine.number))).unzip();
        let all: Vec<_> = voices.into_iter().chain(more).collect();
        assert_everybody_talks(&machines, &all);
        // A peer would have been counted as down by now.
        std::thread::sleep(Duration::from_secs(10));
        assert_nothing_lost("all agents dead", stream, &machines);
    });
}

#[test]
fn a_rebooted_node_has_the_subnet_it_had() {
    isolated(|| {
        let lab = lab();
        let (mut machines, mut pods, mut voices) = talking(&lab, 3, &usual());
        let before = machines[2].subnets();
        // With the machine, its pod is gone; the runtime finds that out, and says so.
        let gone = pods.pop().unwrap();
        let address = voices.pop().unwrap().address(false).unwrap();
        let bystanders = Stream::among(&[&voices[0], &voices[1]]);
        let since = Instant::now();
        let rebooted = machines.remove(2).rebooted(&lab);
        machines.push(rebooted);
        machines[2].wait_ready();
        assert_eq!(machines[2].subnets(), before, "{}", machines[2].log());
        // Somebody wants the pod to be where it was.
        machines[2].del(&gone);
        let pod = machines[2].node.pod("after");
        machines[2].attach(&pod, &[address]);
        let voice = machines[2].voice(&pod, &[address]);
        let with_it = Stream::between(&[&voice], &[&voices[0], &voices[1]]);
        eprintln!("node rebooted: its pod is attached after {:?}", since.elapsed());
        voices.push(voice);
        assert_everybody_talks(&machines, &voices);
        std::thread::sleep(Duration::from_secs(3));
        assert_nothing_lost("node rebooted, bystanders", bystanders, &machines);
        assert_gap("node rebooted, from when its pod is attached", with_it, REBOOTED, &machines);
    });
}

#[test]
fn a_node_replaced_under_its_name_is_another_node() {
    isolated(|| {
        let lab = lab();
        let (mut machines, mut old_pods, mut voices) = talking(&lab, 3, &usual());
        let id = |machine: &Machine| machine.ask("/v1/status").unwrap()["node"].clone();
        let before = id(&machines[2]);
        drop((old_pods.pop(), voices.pop()));
        let bystanders = Stream::among(&[&voices[0], &voices[1]]);
        drop(machines.pop());
        let mut new = lab.machine(3, &usual());
        new.start();
        new.wait_ready();
        assert_ne!(id(&new), before);
        machines.push(new);
        assert_subnets_differ(&machines);
        let (_pod, voice) = machines[2].pod("new");
        voices.push(voice);
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
        assert_nothing_lost("node replaced, bystanders", bystanders, &machines);
    });
}

/// Of both families, of which one only gets a new address.
fn found_at_a_new_address(mode: &str) {
    let lab = lab();
    let (machines, _pods, voices) = talking(&lab, 3, &config(mode, Families::Both));
    let bystanders = Stream::among(&[&voices[0], &voices[1]]);
    let with_it = Stream::between(&[&voices[2]], &[&voices[0], &voices[1]]);
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
    std::thread::sleep(Duration::from_secs(3));
    assert_nothing_lost(&format!("new address, {mode}, bystanders"), bystanders, &machines);
    assert_gap(&format!("new address, {mode}"), with_it, NEW_ADDRESS, &machines);
}

#[test]
fn a_node_with_a_new_address_is_found_there() {
    isolated(|| found_at_a_new_address("vxlan"));
}

#[test]
fn and_by_plain_routes() {
    isolated(|| found_at_a_new_address("route"));
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
        let stream = Stream::among(&[&voices[0], &voices[1]]);
        std::thread::sleep(Duration::from_secs(10));
        // Nothing is lost but by the segment, whichever way is thought to be better meanwhile.
        let lost = stream.stop();
        eprintln!("30 % loss: {lost:?}");
        assert!(lost.lost * 100 < lost.sent * 40, "{lost:?}\n{}", logs(&machines));
        // What asks for a neighbour may be lost, too.
        assert!(lost.longest_gap <= HEALED, "{lost:?}\n{}", logs(&machines));
    });
}

#[test]
fn one_way_loss_is_no_reason_to_lose_a_node() {
    isolated(|| {
        let lab = lab();
        let (machines, _pods, voices) = talking(&lab, 4, &usual());
        let [v0, v1, v2, v3] = &voices.iter().collect::<Vec<_>>()[..] else { unreachable!("there are four") };
        // Everybody's but those of the two with one another.
        let bystanders = [Stream::among(&[v0, v3]), Stream::between(&[v0, v3], &[v1, v2])];
        lab.cut(&machines[1], &machines[2]);
        std::thread::sleep(Duration::from_secs(8));
        // Others have asked for them: each still knows that the other is there.
        for n in [1, 2] {
            let status = machines[n].ask("/v1/status").unwrap();
            assert_eq!(status["peers"]["alive"], 3, "{status}\n{}", logs(&machines));
        }
        let cut_off = Stream::between(&[v1], &[v2]);
        lab.heal();
        assert_everybody_talks(&machines, &voices);
        std::thread::sleep(Duration::from_secs(3));
        for stream in bystanders {
            assert_nothing_lost("one-way loss, bystanders", stream, &machines);
        }
        assert_gap("one-way loss, healed", cut_off, HEALED, &machines);
    });
}
