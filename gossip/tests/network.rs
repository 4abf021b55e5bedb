//! How news get to everybody, and what that costs: nodes on a virtual clock.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod support;

use std::time::Duration;

use gossip::Event;
use support::{Links, Network, address, id, seconds};

/// Nodes that know one another, and have nothing to say any more.
fn settled(count: u64) -> Network {
    let mut network = Network::of(count, count);
    for at in 0..count as usize {
        network.set(at, "name", format!("node {at}").as_bytes());
    }
    // Looking is what takes long.
    (0..30).find(|_| {
        network.run(seconds(1));
        network.has_converged()
    });
    assert!(network.has_converged());
    network.run(seconds(30));
    network.take_sent();
    network.streams = 0;
    network.forget_events();
    network
}

fn bad_links() -> Links {
    let delay = (Duration::from_millis(1), Duration::from_millis(250));
    Links { lost: 200, doubled: 100, delay, has_streams: true }
}

#[test]
fn nodes_that_know_one_seed_come_to_know_one_another() {
    for count in [2, 3, 10, 50] {
        let mut network = Network::of(count, count);
        (0..count as usize).for_each(|at| network.set(at, "name", &[at as u8]));
        network.run_until(seconds(5), Network::has_converged);
        let joined = network.saw(|event| matches!(event, Event::Joined { .. }));
        assert_eq!(joined.len(), count as usize);
    }
}

#[test]
fn nodes_come_to_know_one_another_without_streams() {
    let mut network = Network::new(1);
    network.links.has_streams = false;
    for number in 0..60 {
        let at = network.start(number, 1, address(number));
        network.join(at, &[address(0)]);
        network.set(at, "name", &[0; 300]);
    }
    network.run_until(seconds(60), Network::has_converged);
    assert_eq!(network.streams, 0);
}

#[test]
fn nodes_come_to_know_one_another_where_links_are_bad() {
    let mut network = Network::new(2);
    network.links = bad_links();
    for number in 0..30 {
        let at = network.start(number, 1, address(number));
        network.join(at, &[address(0), address(1)]);
        network.set(at, "name", &[number as u8; 100]);
    }
    network.run_until(seconds(30), Network::agrees);
}

#[test]
fn a_change_is_everywhere_within_a_moment() {
    for count in [10, 50, 150] {
        let mut network = settled(count);
        network.set(3, "subnet", b"10.0.17.0/24");
        let everywhere =
            |network: &Network| (0..count as usize).all(|at| network.get(at, 3, "subnet").is_some());
        let took = network.run_until(seconds(2), everywhere);
        assert!(took <= Duration::from_millis(1200), "{count} nodes: {took:?}");
    }
}

#[test]
fn a_change_costs_each_node_the_logarithm_of_their_number() {
    for count in [16_u64, 64, 128] {
        let mut network = settled(count);
        network.run(seconds(3));
        let at_rest = network.take_sent();
        network.set(3, "subnet", b"10.0.17.0/24");
        network.run(seconds(3));
        let each = network.take_sent().saturating_sub(at_rest) as f64 / count as f64;
        assert!((1.0..=(count as f64).log2() + 1.0).contains(&each), "{count} nodes: {each} datagrams each");
    }
}

#[test]
fn nodes_at_rest_send_as_much_in_a_large_cluster_as_in_a_small_one() {
    for count in [4, 32, 128] {
        let mut network = settled(count);
        network.run(seconds(60));
        let each = network.take_sent() as f64 / count as f64 / 60.0;
        // A probe and an acknowledgement; and a seed now and then.
        assert!((1.9..2.2).contains(&each), "{count} nodes: {each} datagrams a round");
    }
}

#[test]
fn a_burst_of_writes_goes_out_together() {
    let mut network = settled(16);
    network.with(5, |gossip| {
        for number in 0..100 {
            gossip.set(seconds(0), &format!("pod/{number}"), b"10.0.0.1").unwrap();
        }
    });
    network.run(seconds(2));
    assert!(network.has_converged());
    let each = network.take_sent() as f64 / 16.0;
    assert!(each < 40.0, "{each} datagrams each");
}

#[test]
fn a_late_joiner_learns_all_by_a_stream() {
    let mut network = settled(60);
    let at = network.start(60, 1, address(60));
    network.join(at, &[address(17)]);
    network.set(at, "name", b"late");
    network.run_until(seconds(5), Network::has_converged);
    assert!((1..=3).contains(&network.streams), "{} streams", network.streams);
}

#[test]
fn a_long_state_arrives_with_streams_and_without() {
    for has_streams in [true, false] {
        let mut network = settled(5);
        network.links.has_streams = has_streams;
        network.with(2, |gossip| {
            for number in 0..2000 {
                gossip.set(seconds(0), &format!("pod/{number}"), &[7; 100]).unwrap();
            }
        });
        network.run_until(seconds(60), Network::has_converged);
        let at = network.start(5, 1, address(5));
        network.join(at, &[address(0)]);
        network.run_until(seconds(60), Network::has_converged);
    }
}

#[test]
fn a_deleted_key_is_gone_everywhere() {
    let mut network = settled(10);
    let now = network.now;
    network.with(4, |gossip| gossip.delete(now, "name"));
    network.run(seconds(2));
    assert!(network.has_converged());
    assert!((0..10).all(|at| network.get(at, 4, "name").is_none()));
}

#[test]
fn who_was_away_while_a_deletion_was_forgotten_does_not_keep_the_key() {
    let mut network = Network::new(9);
    network.config.deleted_for = seconds(20);
    for number in 0..6 {
        let at = network.start(number, 1, address(number));
        network.join(at, &[address(0)]);
        network.set(at, "old", b"1");
        network.set(at, "kept", b"2");
    }
    network.run_until(seconds(10), Network::has_converged);
    network.cut(&[&[0, 1, 2, 3, 4], &[5]]);
    let now = network.now;
    network.with(1, |gossip| gossip.delete(now, "old"));
    network.run(seconds(40));
    network.forget_events();
    network.set(1, "new", b"3");
    network.heal();
    network.run_until(seconds(60), Network::has_converged);
    assert_eq!(network.get(5, 1, "old"), None);
    assert!(network.saw(|event| *event == Event::Reset { id: id(1) }).contains(&5));
    // It was told anew, and was never without what is still so.
    assert_eq!(network.get(5, 1, "kept"), Some(&b"2"[..]));
}

#[test]
fn halves_that_were_cut_off_meet_again() {
    let mut network = settled(40);
    let (left, right): (Vec<_>, Vec<_>) = ((0..20).collect(), (20..40).collect());
    network.cut(&[&left, &right]);
    network.run(seconds(60));
    for at in 0..40 {
        network.set(at, "side", &[u8::from(at < 20)]);
    }
    network.run(seconds(60));
    assert_eq!(network.get(3, 30, "side"), None);
    network.heal();
    network.run_until(seconds(60), Network::has_converged);
}

#[test]
fn two_clusters_become_one_when_one_node_is_told_of_the_other() {
    let mut network = Network::new(5);
    for number in 0..40 {
        let at = network.start(number, 1, address(number));
        network.join(at, &[address(number / 20 * 20)]);
        network.set(at, "name", &[number as u8; 50]);
    }
    network.run(seconds(20));
    assert_eq!(network.get(0, 20, "name"), None);
    network.join(7, &[address(33)]);
    network.run_until(seconds(30), Network::has_converged);
}

#[test]
fn a_node_that_moves_is_found_at_its_new_address() {
    let mut network = settled(10);
    let new = address(1000);
    network.move_to(6, new);
    network.with(6, |gossip| gossip.set_addresses(seconds(0), vec![new]));
    network.set(6, "name", b"moved");
    network.run(seconds(15));
    assert!(network.has_converged());
    assert_eq!(network.saw(|event| *event == Event::Moved { id: id(6) }).len(), 9);
    let members = |at: usize| network.processes[at].gossip.member(&id(6)).unwrap();
    assert!((0..10).filter(|at| *at != 6).all(|at| members(at).addresses == [new]));
}
