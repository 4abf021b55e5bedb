//! What agents say to one another.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gossip::seal::{Incoming, Keyring, NONCE, OVERHEAD, Opener, Refused, Sealer, frame_length};
use gossip::{Config, Event, Gossip, PeerId, Time};

use super::text;

const NOW: Time = Duration::from_secs(1000);
const OWN: PeerId = [1; 16];
const OTHER: PeerId = [2; 16];

/// Datagrams to a node that knows another one: each as long as the two bytes before it say. Nothing that they say changes what
/// the node says itself, and few datagrams answer each.
pub(crate) fn datagram(data: &[u8]) {
    let (mut node, mut rest, mut now) = (acquainted(), data, NOW);
    node.ask(now);
    while let Some((length, following)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes(*length)).min(following.len());
        let (payload, following) = following.split_at(length);
        rest = following;
        now += Duration::from_millis(250);
        node.receive(now, address(2), payload);
        assert!(drain(&mut node) <= 40);
        node.advance(now);
        drain(&mut node);
    }
    assert_eq!(node.get(&OWN, "name"), Some(&b"one"[..]));
    assert!(node.members().count() <= 64);
}

/// A request, or an answer.
pub(crate) fn exchange(data: &[u8]) {
    let mut node = acquainted();
    if let Ok(answer) = node.exchange_answer(NOW, data) {
        let mut other = Gossip::new(OTHER, 1, vec![address(2)], Config::default(), 2, NOW);
        assert_eq!(other.exchange_finish(NOW, &answer), Ok(OWN));
    }
    let _ = node.exchange_finish(NOW, data);
    drain(&mut node);
    assert_eq!(node.get(&OWN, "name"), Some(&b"one"[..]));
    let request = node.exchange_request(NOW);
    assert!(node.exchange_answer(NOW, &request).is_ok());
}

/// Frames: of a stranger, and of a member.
pub(crate) fn seal(data: &[u8]) {
    for keyring in [Keyring::insecure(), key(7)] {
        let keyring = Arc::new(keyring.for_cluster("fuzz"));
        let _ = Opener::new(keyring.clone()).open(NOW, data);
        let (mut sealer, mut opener) = (Sealer::new(keyring.clone(), OTHER, 1), Opener::new(keyring));
        let frame = sealer.seal([3; NONCE], data);
        assert_eq!(frame.len(), data.len() + OVERHEAD);
        assert_eq!(opener.open(NOW, &frame).map(|opened| opened.payload), Ok(data.to_vec()));
        assert_eq!(opener.open(NOW, &frame), Err(Refused::Replayed(OTHER)));

        let (request, ticket) = sealer.request(|| [4; NONCE], data);
        assert_eq!(read(&mut opener, Incoming::request(), &request), Some(data.to_vec()));
        let answer = sealer.answer(|| [5; NONCE], &ticket, data);
        assert_eq!(read(&mut opener, Incoming::answer(ticket), &answer), Some(data.to_vec()));
        for message in [Incoming::request(), Incoming::answer(ticket)] {
            assert!(read(&mut opener, message, data).is_none_or(|payload| payload.len() < data.len()));
        }
    }
}

/// A file of keys.
pub(crate) fn keyring(data: &[u8]) {
    let text = text(data);
    match Keyring::parse(&text) {
        Ok(keyring) => assert!(keyring.is_secure()),
        Err(error) => assert!(error.to_string().len() < 200),
    }
}

fn address(host: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host], 7000))
}

fn key(byte: u8) -> Keyring {
    Keyring::parse(&Keyring::generate(&[byte; 32])).unwrap_or_else(|_| Keyring::insecure())
}

/// A node that has heard of another.
fn acquainted() -> Gossip {
    let config = Config { nodes: 64, ..Config::default() };
    let mut one = Gossip::new(OWN, 1, vec![address(1)], config.clone(), 1, NOW);
    let mut two = Gossip::new(OTHER, 1, vec![address(2)], config, 2, NOW);
    for (node, name) in [(&mut one, "one"), (&mut two, "two")] {
        let written = node.set(NOW, "name", name.as_bytes());
        assert_eq!(written, Ok(()));
    }
    two.join(NOW, &[address(1)]);
    while let Some(datagram) = two.transmit() {
        one.receive(NOW, address(2), &datagram.payload);
    }
    assert_eq!(one.get(&OTHER, "name"), Some(&b"two"[..]));
    drain(&mut one);
    one
}

/// Takes what a node wants to send; tells how many datagrams that are.
fn drain(node: &mut Gossip) -> usize {
    let mut count = 0;
    while let Some(event) = node.event() {
        if let Event::Asked { id } = event {
            node.consent(NOW, &id);
            node.object(NOW, &id, &[OWN, OTHER, id]);
        }
    }
    while let Some(datagram) = node.transmit() {
        assert!(datagram.payload.len() + OVERHEAD <= Config::default().datagram);
        count += 1;
    }
    while node.wants_exchange().is_some() {}
    count
}

fn read(opener: &mut Opener, mut message: Incoming, mut stream: &[u8]) -> Option<Vec<u8>> {
    loop {
        let (prefix, rest) = stream.split_first_chunk()?;
        let (frame, rest) = rest.split_at_checked(frame_length(*prefix).ok()?)?;
        stream = rest;
        if let Some(received) = opener.take(NOW, &mut message, frame).ok()? {
            return Some(received.payload);
        }
    }
}
