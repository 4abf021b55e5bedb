//! Bytes that nobody who means well would send: they break nothing, are answered little, and are not kept.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod support;

use gossip::seal::OVERHEAD;
use gossip::{Config, Gossip, Time};
use proptest::prelude::*;
use support::{Network, address, id, seconds};

const NOW: Time = Time::from_secs(1000);

/// Two nodes that know each other, and all that they have said to each other.
fn conversation() -> (Gossip, Vec<Vec<u8>>) {
    let mut nodes: Vec<_> = (0..2)
        .map(|node| Gossip::new(id(node), 1, vec![address(node)], Config::default(), node, NOW))
        .collect();
    nodes[0].join(NOW, &[address(1)]);
    let mut said = Vec::new();
    for round in 0..6_u64 {
        let now = NOW + seconds(round);
        for node in &mut nodes {
            node.set(now, "key", &round.to_be_bytes()).unwrap();
            node.delete(now, &format!("gone {}", round / 2));
            node.set(now, &format!("gone {}", round / 2 + 1), b"").unwrap();
            node.advance(now);
        }
        if round == 4 {
            nodes[0].forget(now, &id(1));
        }
        while let Some((from, datagram)) = (0..2).find_map(|at| Some((at, nodes[at].transmit()?))) {
            nodes[1 - from].receive(now, address(from as u64), &datagram.payload);
            said.push(datagram.payload.to_vec());
        }
        said.push(nodes[1].exchange_request(now));
        let answer = nodes[0].exchange_answer(now, said.last().unwrap()).unwrap();
        nodes[1].exchange_finish(now, &answer).unwrap();
        said.push(answer);
    }
    assert!(nodes[0].member(&id(1)).is_some_and(|member| member.incarnation == 2));
    (nodes.swap_remove(0), said)
}

/// The head of what the other node said last.
fn head(said: &[Vec<u8>]) -> Vec<u8> {
    let last = said.iter().rev().find(|bytes| bytes[1..17] == id(1)).unwrap();
    last[..23].to_vec()
}

/// Gives bytes to a node in every way; checks what comes of it.
fn throw(node: &mut Gossip, now: Time, bytes: &[u8]) {
    let own: Vec<_> = node.entries(&id(0)).map(|(key, value)| (key.to_owned(), value.to_vec())).collect();
    node.receive(now, address(9), bytes);
    let mut count = 0;
    while let Some(datagram) = node.transmit() {
        assert!(datagram.payload.len() + OVERHEAD <= 1200);
        count += 1;
    }
    assert!(count <= 40, "{count} datagrams answer one");
    if let Ok(answer) = node.exchange_answer(now, bytes) {
        assert!(answer.len() < 100_000);
    }
    let _ = node.exchange_finish(now, bytes);
    while node.transmit().is_some() || node.event().is_some() || node.wants_exchange().is_some() {}
    node.advance(now);
    assert!(node.entries(&id(0)).eq(own.iter().map(|(key, value)| (key.as_str(), value.as_slice()))));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..1500)) {
        let (mut node, said) = conversation();
        throw(&mut node, NOW + seconds(10), &bytes);
        // After a head that is in order.
        let mut bytes = bytes;
        bytes.splice(0..0, head(&said));
        throw(&mut node, NOW + seconds(11), &bytes);
    }

    #[test]
    fn what_was_said_and_is_changed_does_no_harm(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..3), 1..6),
    ) {
        let (mut node, said) = conversation();
        let mut bytes = which.get(&said).clone();
        for (at, byte, how) in changes {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.splice(at.., said[usize::from(byte) % said.len()].iter().copied())),
            }
            throw(&mut node, NOW + seconds(10), &bytes);
        }
    }
}

#[test]
fn what_was_said_before_changes_nothing_when_it_is_said_again() {
    let (mut node, said) = conversation();
    let all = |node: &Gossip| {
        let own = node.incarnation();
        let members: std::collections::BTreeMap<_, _> =
            node.members().map(|m| (m.id, (m.incarnation, m.liveness))).collect();
        (
            own,
            members,
            node.entries(&id(1)).map(|(key, value)| (key.to_owned(), value.to_vec())).collect::<Vec<_>>(),
        )
    };
    while node.event().is_some() {}
    let before = all(&node);
    for bytes in &said {
        node.receive(NOW + seconds(6), address(1), bytes);
        let _ = node.exchange_finish(NOW + seconds(6), bytes);
    }
    assert_eq!(all(&node), before);
    assert_eq!(node.event(), None);
}

#[test]
fn parts_of_a_later_version_are_skipped() {
    let (mut node, said) = conversation();
    let mut bytes = head(&said);
    bytes.extend([200, 3, 0, 0, 1, 2, 3]);
    bytes.extend([1, 4, 0, 0, 0xaa, 0xbb, 0xcc, 0xdd]);
    while node.transmit().is_some() {}
    node.receive(NOW + seconds(9), address(1), &bytes);
    let answer = node.transmit().unwrap();
    let ack = [2, 4, 0, 0, 0xaa, 0xbb, 0xcc, 0xdd];
    assert!(answer.payload.windows(8).any(|eight| eight == ack), "{:?}", answer.payload);
    while node.transmit().is_some() {}
    // Another version of the protocol as a whole is not.
    bytes[0] = 2;
    node.receive(NOW + seconds(9), address(1), &bytes);
    assert_eq!(node.transmit(), None);
}

#[test]
fn no_more_nodes_are_known_than_are_meant_to_be() {
    let mut network = Network::new(1);
    network.config.nodes = 20;
    for number in 0..40 {
        let at = network.start(number, 1, address(number));
        network.join(at, &[address(0)]);
    }
    network.run(seconds(60));
    let counts: Vec<_> = network.processes.iter().map(|process| process.gossip.members().count()).collect();
    assert!(counts.iter().all(|count| *count == 20), "{counts:?}");
}

#[test]
fn an_entry_is_as_long_as_fits_a_datagram_and_no_longer() {
    let mut network = Network::of(3, 1);
    let now = network.now;
    let refused =
        |gossip: &mut Gossip, key: &str, length: usize| gossip.set(now, key, &vec![0; length]).is_err();
    network.with(0, |gossip| {
        assert!(refused(gossip, &"k".repeat(128), 0));
        assert!(refused(gossip, "key", 958));
        assert!(!refused(gossip, "key", 957));
        assert!(!refused(gossip, &"k".repeat(127), 833));
        assert!(refused(gossip, &"k".repeat(127), 834));
    });
    network.run_until(seconds(5), Network::has_converged);
    network.with(0, |gossip| {
        let mut number = 0;
        while !refused(gossip, &number.to_string(), 900) {
            number += 1;
        }
        assert!((1000..3000).contains(&number), "{number} large values");
    });
    network.run_until(seconds(60), Network::has_converged);
}
