//! Who is there: nodes that die, come back, are copied, forgotten, or only slow.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod support;

use std::time::Duration;

use gossip::{Event, Liveness};
use support::{Network, address, id, seconds};

fn settled(count: u64) -> Network {
    let mut network = Network::of(count, count + 100);
    for at in 0..count as usize {
        network.set(at, "name", format!("node {at}").as_bytes());
    }
    // Looking is what takes long.
    (0..30).find(|_| {
        network.run(seconds(1));
        network.has_converged()
    });
    assert!(network.has_converged());
    network.run(seconds(10));
    network.forget_events();
    network
}

fn is_down(network: &Network, node: u64) -> bool {
    network.running().all(|(at, _)| network.liveness(at, node) == Some(Liveness::Down))
}

#[test]
fn a_dead_node_is_down_soon_and_what_it_said_stays() {
    let mut network = settled(20);
    network.stop(7);
    let took = network.run_until(seconds(20), |network| is_down(network, 7));
    assert!(took > seconds(3), "{took:?} is no time to answer a suspicion");
    network.run(seconds(300));
    assert!((0..20).all(|at| network.get(at, 7, "name") == Some(b"node 7")));
    let others = network.saw(|event| matches!(event, Event::Liveness { id: who, .. } if *who != id(7)));
    assert!(others.is_empty(), "{others:?}");
}

#[test]
fn a_node_that_says_goodbye_is_down_at_once() {
    let mut network = settled(20);
    let now = network.now;
    network.with(7, |gossip| gossip.leave(now));
    network.run(Duration::from_millis(50));
    network.stop(7);
    network.run_until(seconds(4), |network| is_down(network, 7));
    assert_eq!(network.get(3, 7, "name"), Some(&b"node 7"[..]));
}

#[test]
fn a_node_that_is_started_again_replaces_what_it_said_without_a_gap() {
    let mut network = settled(12);
    network.set(7, "old", b"1");
    network.run(seconds(2));
    network.stop(7);
    network.run(seconds(30));
    let at = network.start_with(7, 2, address(7), |gossip, now| {
        gossip.join(now, &[address(0)]);
        gossip.set(now, "name", b"again").unwrap();
        for number in 0..100 {
            gossip.set(now, &format!("pod/{number}"), &[1; 100]).unwrap();
        }
    });
    network.run_until(seconds(10), |network| {
        // Never only a part of it.
        for (other, process) in network.running() {
            let count = process.gossip.entries(&id(7)).count();
            assert!([2, 101].contains(&count), "{other} sees {count}");
        }
        network.has_converged()
    });
    assert_eq!(network.get(3, 7, "old"), None);
    assert_eq!(network.saw(|event| *event == Event::Reset { id: id(7) }).len(), 11);
    assert_eq!(network.processes[at].gossip.incarnation(), 2);
}

#[test]
fn a_node_that_is_cut_off_for_a_moment_is_not_taken_for_dead() {
    let mut network = settled(20);
    let others: Vec<_> = (0..20).filter(|at| *at != 7).collect();
    network.cut(&[&others, &[7]]);
    network.run_until(seconds(10), |network| {
        others.iter().any(|at| network.liveness(*at, 7) == Some(Liveness::Suspect))
    });
    network.heal();
    network.run(seconds(20));
    assert!(network.has_converged());
    let down = |event: &Event| matches!(event, Event::Liveness { id: who, liveness: Liveness::Down } if *who == id(7));
    assert!(network.saw(down).is_empty());
}

#[test]
fn a_node_that_was_taken_for_dead_is_alive_when_it_is_back() {
    let mut network = settled(20);
    let others: Vec<_> = (0..20).filter(|at| *at != 7).collect();
    network.cut(&[&others, &[7]]);
    network.run(seconds(60));
    assert!(others.iter().all(|at| network.liveness(*at, 7) == Some(Liveness::Down)));
    assert!(network.processes[7].gossip.is_isolated());
    network.heal();
    network.run_until(seconds(15), Network::has_converged);
}

#[test]
fn lost_datagrams_alone_make_nobody_dead() {
    let mut network = settled(20);
    network.links.lost = 100;
    network.run(seconds(300));
    let down = network.saw(|event| matches!(event, Event::Liveness { liveness: Liveness::Down, .. }));
    assert!(down.is_empty(), "{down:?}");
}

#[test]
fn a_process_that_slept_suspects_nobody_for_it() {
    let mut network = settled(10);
    network.freeze(4, seconds(60));
    network.run(seconds(59));
    assert!((0..10).filter(|at| *at != 4).all(|at| network.liveness(at, 4) == Some(Liveness::Down)));
    network.forget_events();
    network.run(seconds(30));
    assert!(network.has_converged());
    let blamed = network.processes[4]
        .events
        .iter()
        .filter(|(_, event)| matches!(event, Event::Liveness { .. }))
        .count();
    assert_eq!(blamed, 0);
}

#[test]
fn a_node_whose_disk_was_set_back_takes_a_higher_incarnation_and_says_it_again() {
    for incarnation in [5, 9] {
        let mut network = settled(10);
        network.stop(7);
        let at = network.start(7, 9, address(7));
        network.join(at, &[address(0)]);
        network.set(at, "name", b"the latest");
        network.run_until(seconds(10), Network::has_converged);
        network.stop(at);
        network.run(seconds(20));
        network.forget_events();
        // Of the same incarnation, or one that was long ago.
        let at = network.start(7, incarnation, address(7));
        network.join(at, &[address(0)]);
        network.set(at, "name", b"from the backup");
        network.run_until(seconds(10), Network::has_converged);
        assert_eq!(network.get(3, 7, "name"), Some(&b"from the backup"[..]));
        let clones = network.saw(|event| matches!(event, Event::Clone { .. }));
        assert!(clones.is_empty(), "{clones:?}");
        let risen = network.saw(|event| matches!(event, Event::Incarnation { .. }));
        let instance_decides = incarnation == 9 && risen.is_empty();
        assert!(risen == [at] || instance_decides);
    }
}

#[test]
fn a_node_that_exists_twice_hears_of_it() {
    let mut network = settled(10);
    let copy = network.start(7, 1, address(77));
    network.join(copy, &[address(0)]);
    network.set(copy, "name", b"the copy");
    network.run(seconds(60));
    let told = network.saw(|event| matches!(event, Event::Clone { .. }));
    assert!(told.contains(&7) && told.contains(&copy), "{told:?}");
    // They do not flood the others over it.
    network.take_sent();
    network.run(seconds(30));
    let each = network.take_sent() as f64 / 11.0 / 30.0;
    assert!(each < 20.0, "{each} datagrams a second");
    // One gives way.
    network.stop(copy);
    network.run(seconds(30));
    assert!(network.has_converged());
    assert_eq!(network.get(3, 7, "name"), Some(&b"node 7"[..]));
}

#[test]
fn a_node_that_exists_twice_hears_of_it_although_nobody_hears_the_older_one_any_more() {
    let mut network = settled(10);
    network.sealed = true;
    let copy = network.start(7, 2, address(77));
    network.join(copy, &[address(0)]);
    network.run(seconds(20));
    let told = network.saw(|event| matches!(event, Event::Clone { .. }));
    assert_eq!(told, [7, copy]);
    network.take_sent();
    network.run(seconds(60));
    let each = network.take_sent() as f64 / 11.0 / 60.0;
    assert!(each < 5.0, "{each} datagrams a second");
    let outlives = |network: &mut Network, at| {
        let now = network.now;
        network.with(at, |gossip| gossip.outlives_twin(now))
    };
    assert!(!outlives(&mut network, 7) && !outlives(&mut network, copy), "both are there");
    // One gives way: soon the other is heard again.
    network.stop(copy);
    network.run(seconds(20));
    assert!(!outlives(&mut network, 3));
    assert!(outlives(&mut network, 7));
    assert!(!outlives(&mut network, 7), "once");
    network.sealed = false;
    network.run(seconds(30));
    assert!(network.has_converged());
}

#[test]
fn who_was_somewhere_else_before_is_not_two() {
    let mut network = settled(5);
    network.sealed = true;
    network.stop(3);
    let moved = network.start(3, 2, address(77));
    network.join(moved, &[address(0)]);
    network.run(seconds(5));
    // A stranger sends again what it sent from there.
    for _ in 0..20 {
        let now = network.now;
        network.with(0, |gossip| gossip.receive_refused(now, address(3), &id(3)));
        network.run(seconds(1));
    }
    assert_eq!(network.saw(|event| matches!(event, Event::Clone { .. })), [] as [usize; 0]);
}

#[test]
fn two_nodes_that_exist_twice_do_not_correct_one_another_for_ever() {
    let mut network = settled(6);
    // What is doubled has two answers, and a long way.
    network.links.doubled = 100;
    network.links.delay.1 = Duration::from_millis(1400);
    for node in [2, 3] {
        let copy = network.start(node, 1, address(70 + node));
        network.join(copy, &[address(0)]);
    }
    network.run(seconds(30));
    network.take_sent();
    network.run(seconds(60));
    let each = network.take_sent() as f64 / 8.0 / 60.0;
    assert!(each < 60.0, "{each} datagrams a second");
}

#[test]
fn a_forgotten_node_does_not_come_back_by_itself() {
    let mut network = settled(20);
    network.stop(7);
    network.run(seconds(30));
    // Some do not hear of it for long.
    let (away, here): (Vec<_>, Vec<_>) = (0..20).partition(|at| *at >= 15);
    network.cut(&[&here, &away]);
    network.run(seconds(30));
    let now = network.now;
    network.with(3, |gossip| gossip.forget(now, &id(7)));
    network.run(seconds(30));
    assert!(here.iter().filter(|at| **at != 7).all(|at| network.get(*at, 7, "name").is_none()));
    assert!(away.iter().all(|at| network.get(*at, 7, "name").is_some()));
    network.heal();
    network.run(seconds(60));
    assert!(network.running().all(|(at, _)| network.liveness(at, 7).is_none()));
    network.run(seconds(600));
    assert!(network.running().all(|(at, _)| network.liveness(at, 7).is_none()));
    assert_eq!(network.saw(|event| *event == Event::Forgotten { id: id(7) }).len(), 19);
    assert!(network.saw(|event| *event == Event::Joined { id: id(7) }).is_empty());
}

#[test]
fn a_forgotten_node_that_is_alive_comes_back_in_a_new_incarnation() {
    let mut network = settled(20);
    let now = network.now;
    network.with(3, |gossip| gossip.forget(now, &id(7)));
    network.run(seconds(30));
    assert!(network.has_converged());
    assert_eq!(network.get(3, 7, "name"), Some(&b"node 7"[..]));
    assert!(network.processes[7].events.iter().any(|(_, event)| *event == Event::Incarnation { new: 2 }));
}

#[test]
fn a_node_is_remembered_as_forgotten_for_a_while_only() {
    let mut network = Network::new(3);
    network.config.forgotten_for = seconds(100);
    for number in 0..5 {
        let at = network.start(number, 1, address(number));
        network.join(at, &[address(0)]);
    }
    network.run_until(seconds(10), Network::has_converged);
    network.stop(4);
    network.run(seconds(30));
    let now = network.now;
    network.with(0, |gossip| gossip.forget(now, &id(4)));
    network.run(seconds(200));
    // The same life again: nobody remembers.
    let at = network.start(4, 1, address(4));
    network.join(at, &[address(0)]);
    network.run_until(seconds(10), Network::has_converged);
    assert_eq!(network.processes[at].gossip.incarnation(), 1);
}
