//! What the cluster's key keeps out.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

use std::sync::Arc;
use std::time::Duration;

use gossip::seal::{
    CHUNK, Incoming, KeyError, Keyring, NONCE, OVERHEAD, Opener, Refused, Sealer, Ticket, counter_start,
    frame_length,
};

const NOW: Duration = Duration::from_secs(10);
const SENDER: [u8; 16] = [7; 16];
const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
/// The same, as `base64` writes it.
const KEY_BASE64: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const OTHER: &str = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";

fn keyring(text: &str) -> Arc<Keyring> {
    Arc::new(Keyring::parse(text).unwrap())
}

fn nonces() -> impl FnMut() -> [u8; NONCE] {
    let mut count = 0_u8;
    move || {
        count += 1;
        [count; NONCE]
    }
}

#[test]
fn a_datagram_is_opened_by_who_has_the_key_in_either_notation() {
    let frame = Sealer::new(keyring(KEY), SENDER, 5).seal([1; NONCE], b"hello");
    assert_eq!(frame.len(), b"hello".len() + OVERHEAD);
    let opened = Opener::new(keyring(KEY_BASE64)).open(NOW, &frame).unwrap();
    assert_eq!((opened.sender, opened.payload.as_slice()), (SENDER, &b"hello"[..]));
    assert!(!frame.windows(5).any(|five| five == b"hello"));
}

#[test]
fn a_stranger_is_refused() {
    let frame = Sealer::new(keyring(OTHER), SENDER, 5).seal([1; NONCE], b"hello");
    assert_eq!(Opener::new(keyring(KEY)).open(NOW, &frame), Err(Refused::UnknownKey));
    let insecure = Arc::new(Keyring::insecure());
    let frame = Sealer::new(insecure.clone(), SENDER, 5).seal([1; NONCE], b"hello");
    assert_eq!(Opener::new(keyring(KEY)).open(NOW, &frame), Err(Refused::Garbled));
    assert_eq!(Opener::new(insecure).open(NOW, &frame).unwrap().payload, b"hello");
}

#[test]
fn every_bit_of_a_frame_counts() {
    for keyring in [keyring(KEY), Arc::new(Keyring::insecure())] {
        let frame = Sealer::new(keyring.clone(), SENDER, 5).seal([1; NONCE], b"hello");
        let mut opener = Opener::new(keyring);
        for bit in 0..frame.len() * 8 {
            let mut frame = frame.clone();
            frame[bit / 8] ^= 1 << (bit % 8);
            // The key's id is no part of what an insecure frame says.
            let is_id = (8..40).contains(&bit);
            assert!(opener.open(NOW, &frame).is_err() || is_id, "bit {bit}");
        }
        for length in 0..frame.len() {
            assert!(opener.open(NOW, &frame[..length]).is_err(), "cut to {length}");
        }
    }
}

#[test]
fn every_bit_of_a_key_counts() {
    let frame = Sealer::new(keyring(KEY), SENDER, 5).seal([1; NONCE], b"hello");
    for digit in 0..KEY.len() {
        for bit in 0..4 {
            let mut digits: Vec<u32> = KEY.chars().map(|digit| digit.to_digit(16).unwrap()).collect();
            digits[digit] ^= 1 << bit;
            let other: String = digits.iter().map(|digit| char::from_digit(*digit, 16).unwrap()).collect();
            let opened = Opener::new(keyring(&other)).open(NOW, &frame);
            assert_eq!(opened, Err(Refused::UnknownKey), "digit {digit}, bit {bit}");
        }
    }
}

#[test]
fn a_key_is_changed_while_the_cluster_runs() {
    let (old, both, new) = (keyring(KEY), keyring(&format!("# new\n{OTHER}\n\n{KEY}\n")), keyring(OTHER));
    let mut opener = Opener::new(both.clone());
    let mut sealer = Sealer::new(old, SENDER, 5);
    assert!(opener.open(NOW, &sealer.seal([1; NONCE], b"")).is_ok());
    sealer.set_keyring(both);
    let frame = sealer.seal([2; NONCE], b"");
    assert!(opener.open(NOW, &frame).is_ok());
    opener.set_keyring(new);
    assert_eq!(opener.open(NOW, &frame), Err(Refused::Replayed(SENDER)), "by its keys it opens");
}

#[test]
fn clusters_with_one_key_and_two_names_are_two() {
    for text in [Some(KEY), None] {
        let named = |name: &str| {
            let keyring = text.map_or_else(Keyring::insecure, |text| Keyring::parse(text).unwrap());
            Arc::new(keyring.for_cluster(name))
        };
        let frame = Sealer::new(named("blue"), SENDER, 5).seal([1; NONCE], b"hello");
        assert_eq!(Opener::new(named("green")).open(NOW, &frame), Err(Refused::Forged));
        assert!(Opener::new(named("blue")).open(NOW, &frame).is_ok());
    }
}

#[test]
fn a_frame_is_opened_once_in_whatever_order() {
    let mut sealer = Sealer::new(keyring(KEY), SENDER, 5);
    let mut opener = Opener::new(keyring(KEY));
    let frames: Vec<_> = (0..40_u8).map(|number| sealer.seal([number; NONCE], &[number])).collect();
    for frame in frames.iter().rev() {
        assert!(opener.open(NOW, frame).is_ok());
    }
    for frame in &frames {
        assert_eq!(opener.open(NOW, frame), Err(Refused::Replayed(SENDER)));
    }
}

#[test]
fn a_sender_that_is_started_again_is_heard_and_its_old_frames_are_not() {
    let mut opener = Opener::new(keyring(KEY));
    let first = counter_start(Duration::from_secs(1_800_000_000), None);
    let mut sealer = Sealer::new(keyring(KEY), SENDER, first);
    let old: Vec<_> = (0..9_u8).map(|number| sealer.seal([number; NONCE], b"")).collect();
    assert!(opener.open(NOW, &old[8]).is_ok());
    // A millisecond later; and with a clock that was set back.
    let second = counter_start(Duration::from_millis(1_800_000_000_001), Some(first));
    let third = counter_start(Duration::from_secs(5), Some(second));
    for start in [second, third] {
        let frame = Sealer::new(keyring(KEY), SENDER, start).seal([0; NONCE], b"");
        assert!(opener.open(NOW, &frame).is_ok());
        assert_eq!(opener.open(NOW, &old[7]), Err(Refused::Replayed(SENDER)));
    }
}

fn take(opener: &mut Opener, mut message: Incoming, mut stream: &[u8]) -> Result<(Ticket, Vec<u8>), Refused> {
    loop {
        let (prefix, rest) = stream.split_first_chunk().ok_or(Refused::Garbled)?;
        let (frame, rest) = rest.split_at_checked(frame_length(*prefix)?).ok_or(Refused::Garbled)?;
        stream = rest;
        if let Some(received) = opener.take(NOW, &mut message, frame)? {
            assert!(stream.is_empty());
            return Ok((received.ticket, received.payload));
        }
    }
}

#[test]
fn a_stream_arrives_as_a_whole_and_answers_its_request_alone() {
    let mut sealer = Sealer::new(keyring(KEY), SENDER, 5);
    let mut draw = nonces();
    for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
        let mut opener = Opener::new(keyring(KEY));
        let payload: Vec<_> = (0..length).map(|at| (at % 251) as u8).collect();
        let (request, ticket) = sealer.request(&mut draw, &payload);
        let (seen, received) = take(&mut opener, Incoming::request(), &request).unwrap();
        assert!(seen == ticket && received == payload);
        assert_eq!(take(&mut opener, Incoming::request(), &request), Err(Refused::Replayed(SENDER)));

        let answer = sealer.answer(&mut draw, &ticket, &payload);
        assert_eq!(take(&mut opener, Incoming::answer(ticket), &answer).unwrap().1, payload);
        assert_eq!(take(&mut opener, Incoming::request(), &answer), Err(Refused::Forged));
        let (_, other) = sealer.request(&mut draw, &payload);
        assert_eq!(take(&mut opener, Incoming::answer(other), &answer), Err(Refused::Forged));
    }
}

#[test]
fn frames_of_a_stream_cannot_change_places() {
    let mut sealer = Sealer::new(keyring(KEY), SENDER, 5);
    let (request, ticket) = sealer.request(nonces(), &vec![0; 2 * CHUNK]);
    let answer = sealer.answer(nonces(), &ticket, &vec![0; 2 * CHUNK]);
    for (stream, message) in [(request, Incoming::request()), (answer, Incoming::answer(ticket))] {
        let (first, second) = stream.split_at(stream.len() / 2);
        let swapped = [second, first].concat();
        assert_eq!(take(&mut Opener::new(keyring(KEY)), message, &swapped), Err(Refused::Forged));
    }
    assert_eq!(frame_length([0xff; 4]), Err(Refused::TooLong));
}

#[test]
fn a_keyring_is_refused_without_a_word_of_what_is_in_it() {
    assert_eq!(Keyring::parse("# none\n\n").unwrap_err(), KeyError::Empty);
    for wrong in
        ["secret", &KEY[1..], &format!("{KEY}0"), &KEY_BASE64[1..], &KEY_BASE64.replace("8=", "9="), "ä=="]
    {
        let error = Keyring::parse(&format!("{KEY}\n{wrong}")).unwrap_err();
        assert_eq!(error, KeyError::Line(2), "{wrong}");
        assert!(!error.to_string().contains(wrong));
    }
    assert_eq!(Keyring::parse(&format!("{KEY}\n").repeat(17)).unwrap_err(), KeyError::TooMany);
    assert!(!format!("{:?}", keyring(KEY)).contains("00"));
    assert_eq!(Keyring::generate(&[0xab; 32]).trim(), "ab".repeat(32));
    assert!(Keyring::parse(&Keyring::generate(&[0xab; 32])).unwrap().is_secure());
}
