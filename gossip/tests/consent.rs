//! Whether everybody has heard something, and has nothing against it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::time::Duration;

use gossip::{Config, Event, Gossip, PeerId, Time};
use support::{Network, address, id, seconds};

const MILLISECOND: Duration = Duration::from_millis(1);

/// Runs for so long; those who are asked answer, where `consents` has something for them: whether there is nothing against it.
fn run(network: &mut Network, time: Duration, consents: impl Fn(&Network, usize, &PeerId) -> Option<bool>) {
    let end = network.now + time;
    while network.now < end {
        network.run(MILLISECOND);
        for at in 0..network.processes.len() {
            let events = std::mem::take(&mut network.processes[at].events);
            for (_, event) in events {
                let Event::Asked { id } = event else { continue };
                let answer = consents(network, at, &id);
                let now = network.now;
                network.with(at, |gossip| match answer {
                    Some(true) => gossip.consent(now, &id),
                    Some(false) => gossip.object(now, &id, &[*gossip.id()]),
                    None => {}
                });
            }
        }
    }
}

/// A cluster of so many, that know one another.
fn network(count: u64) -> Network {
    let mut network = Network::of(count, 7);
    network.run_until(seconds(30), Network::has_converged);
    network.forget_events();
    network
}

fn ask(network: &mut Network, at: usize, key: &str) {
    let now = network.now;
    network.with(at, |gossip| {
        gossip.set(now, key, b"mine").unwrap();
        gossip.ask(now);
    });
}

fn has_consent(network: &Network, at: usize) -> bool {
    network.processes[at].gossip.has_consent()
}

#[test]
fn who_consents_holds_what_was_said_and_all_have_to() {
    let mut network = network(20);
    ask(&mut network, 0, "wanted");
    assert!(!has_consent(&network, 0));
    run(&mut network, MILLISECOND * 20, |network, at, asker| {
        assert_eq!((asker, network.get(at, 0, "wanted")), (&id(0), Some(&b"mine"[..])));
        (at != 13).then_some(true)
    });
    assert!(!has_consent(&network, 0), "one is silent");
    run(&mut network, MILLISECOND * 200, |_, at, _| {
        assert_eq!(at, 13, "who has consented is not asked again");
        Some(true)
    });
    assert!(has_consent(&network, 0));
    network.with(0, Gossip::withdraw);
    assert!(!has_consent(&network, 0));
}

#[test]
fn a_node_alone_has_nobodys_consent() {
    let mut network = Network::of(1, 1);
    ask(&mut network, 0, "wanted");
    run(&mut network, seconds(1), |_, _, _| Some(true));
    assert!(!has_consent(&network, 0));
}

#[test]
fn who_comes_meanwhile_is_asked_too() {
    let mut network = network(5);
    ask(&mut network, 0, "wanted");
    run(&mut network, MILLISECOND * 20, |_, _, _| Some(true));
    assert!(has_consent(&network, 0));
    let late = network.start(5, 1, address(5));
    network.join(late, &[address(3)]);
    let knows = |network: &Network| network.processes[0].gossip.member(&id(5)).is_some();
    network.run_until(seconds(2), knows);
    assert!(!has_consent(&network, 0));
    run(&mut network, MILLISECOND * 200, |_, _, _| Some(true));
    assert!(has_consent(&network, 0));
}

#[test]
fn consent_to_what_was_said_before_is_none_to_what_is_said_now() {
    let mut network = network(5);
    ask(&mut network, 0, "one");
    run(&mut network, MILLISECOND * 20, |_, _, _| Some(true));
    assert!(has_consent(&network, 0));
    // Something else may be said meanwhile, and what was consented to stands.
    network.set(0, "pod", b"1");
    assert!(has_consent(&network, 0));
    ask(&mut network, 0, "two");
    assert!(!has_consent(&network, 0));
    run(&mut network, MILLISECOND * 20, |_, at, _| (at > 1).then_some(true));
    assert!(!has_consent(&network, 0));
    run(&mut network, MILLISECOND * 200, |_, _, _| Some(true));
    assert!(has_consent(&network, 0));
}

#[test]
fn who_was_started_again_has_forgotten_what_it_consented_to() {
    let mut network = network(5);
    ask(&mut network, 0, "wanted");
    run(&mut network, MILLISECOND * 20, |_, _, _| Some(true));
    network.stop(3);
    let again = network.start(3, 2, address(3));
    network.join(again, &[address(0)]);
    network.run_until(seconds(2), |network| {
        network.processes[0].gossip.member(&id(3)).is_some_and(|member| member.incarnation == 2)
    });
    assert!(!has_consent(&network, 0));
    run(&mut network, MILLISECOND * 200, |_, _, _| Some(true));
    assert!(has_consent(&network, 0));
}

#[test]
fn who_was_suspended_asks_anew() {
    let mut network = network(5);
    ask(&mut network, 0, "wanted");
    run(&mut network, MILLISECOND * 20, |_, _, _| Some(true));
    assert!(has_consent(&network, 0));
    network.freeze(0, seconds(5));
    network.run(seconds(5));
    let now = network.now;
    // The first thing that it does afterwards is to read what has come.
    network.processes[0].gossip.receive(now, address(1), b"");
    assert!(!has_consent(&network, 0));
    run(&mut network, MILLISECOND * 500, |_, _, _| Some(true));
    assert!(has_consent(&network, 0));
}

#[test]
fn questions_and_answers_may_be_lost_doubled_and_overtaken() {
    let mut network = network(30);
    network.links.lost = 200;
    network.links.doubled = 200;
    network.links.delay = (MILLISECOND, MILLISECOND * 80);
    ask(&mut network, 4, "wanted");
    run(&mut network, seconds(2), |network, at, _| {
        assert_eq!(network.get(at, 4, "wanted"), Some(&b"mine"[..]));
        Some(true)
    });
    assert!(has_consent(&network, 4));
}

#[test]
fn a_node_that_says_much_is_asked_for_the_rest_first() {
    let mut network = network(5);
    for key in 0..200 {
        network.set(0, &format!("key {key}"), &[1; 100]);
    }
    // Nobody has heard anything of it yet.
    ask(&mut network, 0, "wanted");
    run(&mut network, seconds(2), |network, at, _| {
        assert_eq!(network.get(at, 0, "wanted"), Some(&b"mine"[..]));
        Some(true)
    });
    assert!(has_consent(&network, 0));
    ask(&mut network, 0, "another");
    run(&mut network, MILLISECOND * 20, |_, _, _| Some(true));
    assert!(has_consent(&network, 0), "all but the last of it was known");
}

#[test]
fn who_objects_tells_of_what_is_against_it() {
    let mut network = network(3);
    // Whatever 1 says does not get to 0 by itself.
    network.cut(&[&[0, 2], &[1]]);
    network.set(1, "wanted", b"mine too");
    network.run(MILLISECOND * 20);
    network.cut(&[&[0], &[1, 2]]);
    network.run(seconds(3));
    assert_eq!((network.get(0, 1, "wanted"), network.get(2, 1, "wanted")), (None, Some(&b"mine too"[..])));
    network.cut(&[&[0, 2], &[1]]);
    let now = network.now;
    network.with(2, |gossip| gossip.object(now, &id(0), &[id(1)]));
    network.run(MILLISECOND * 20);
    assert_eq!(network.get(0, 1, "wanted"), Some(&b"mine too"[..]));
    assert!(!has_consent(&network, 0));
}

#[test]
fn among_very_many_nobody_is_asked() {
    let mut network = network(130);
    network.take_sent();
    let now = network.now;
    network.with(0, |gossip| gossip.ask(now));
    run(&mut network, MILLISECOND * 20, |_, _, _| Some(true));
    assert!(!has_consent(&network, 0));
    assert!(network.processes[0].sent < 10, "{}", network.processes[0].sent);
}

#[test]
fn an_answer_is_no_longer_than_the_question_and_one_datagram_is_one_question() {
    let now = Time::from_secs(1000);
    let new = |node: u64| Gossip::new(id(node), 1, vec![address(node)], Config::default(), node, now);
    let (mut one, mut two) = (new(1), new(2));
    one.set(now, "wanted", b"mine").unwrap();
    two.join(now, &[address(1)]);
    while let Some((from, to)) = [1, 2].into_iter().zip([2, 1]).find_map(|(from, to)| {
        let node = if from == 1 { &mut one } else { &mut two };
        Some(((from, node.transmit()?), to))
    }) {
        let (from, datagram) = from;
        let node = if to == 1 { &mut one } else { &mut two };
        node.receive(now, address(from), &datagram.payload);
    }
    while two.event().is_some() {}
    one.ask(now);
    let question = one.transmit().unwrap().payload;
    // The question once more, behind itself, many times.
    let mut many = question.to_vec();
    let last = question[question.len() - 5..].to_vec();
    assert_eq!(last[..4], [14, 1, 0, 0]);
    (0..100).for_each(|_| many.extend_from_slice(&last));
    two.receive(now, address(1), &many);
    let asked: Vec<_> = std::iter::from_fn(|| two.event()).collect();
    assert_eq!(asked, [Event::Asked { id: id(1) }]);
    let now = now + MILLISECOND;
    two.consent(now, &id(1));
    let answer = two.transmit().unwrap().payload;
    assert_eq!(two.transmit(), None);
    assert!(answer.len() <= question.len(), "{} answers {}", answer.len(), question.len());
    // What nobody has asked, nobody hears.
    two.consent(now, &id(9));
    two.object(now, &id(2), &[id(1)]);
    assert_eq!(two.transmit(), None);
    assert!(!one.has_consent());
    one.receive(now, address(2), &answer);
    assert!(one.has_consent());
}
