use proptest::prelude::*;

use super::*;

const ID: PeerId = [7; 16];

fn owner(writes: &[(u8, Option<u8>)]) -> Replica {
    let mut owner = Replica::new(Epoch { incarnation: 1, instance: 1 });
    for (key, value) in writes {
        owner.write(&[b'a' + key], value.as_ref().map(std::slice::from_ref));
    }
    owner
}

/// Sends what one at a position lacks, in datagrams of some size. Tells the last answer.
fn send(from: &Replica, to: &mut Held, theirs: &Position, room: usize) -> Option<Merged> {
    let mut writer = Writer::new(room);
    from.write_delta(&mut writer, &ID, (0, 0), theirs)?;
    let bytes = writer.finish();
    let (_, body) = Reader(&bytes).part().unwrap();
    Some(to.merge(&Delta::read(body).unwrap()))
}

fn all(replica: &Replica) -> Vec<(String, Vec<u8>)> {
    replica.entries().map(|(key, value)| (key.to_owned(), value.to_vec())).collect()
}

fn writes() -> impl Strategy<Value = Vec<(u8, Option<u8>)>> {
    prop::collection::vec((0_u8..8, prop::option::weighted(0.7, any::<u8>())), 1..60)
}

proptest! {
    #[test]
    fn a_replica_catches_up_in_datagrams_of_any_size(first in writes(), then in writes(), room in 70_usize..300) {
        let mut held = Held::default();
        let mut owner = owner(&first);
        for _ in 0..2 {
            for _ in 0..200 {
                let theirs = held.latest().position();
                if theirs.compare(&owner.position()).is_eq() {
                    break;
                }
                prop_assert!(send(&owner, &mut held, &theirs, room).is_some());
            }
            prop_assert_eq!(held.current.position(), owner.position());
            prop_assert_eq!(all(&held.current), all(&owner));
            for (key, value) in &then {
                owner.write(&[b'a' + key], value.as_ref().map(std::slice::from_ref));
            }
        }
    }

    #[test]
    fn what_was_collected_does_not_come_back_whoever_tells(
        first in writes(),
        then in writes(),
        collected in prop::collection::btree_set(1_u64..120, 0..100),
        room in 70_usize..200,
    ) {
        // Two holders; one knows more, and has forgotten some deletions.
        let mut owner = owner(&first);
        let mut behind = Held::default();
        send(&owner, &mut behind, &Position::default(), 5000);
        for (key, value) in &then {
            owner.write(&[b'a' + key], value.as_ref().map(std::slice::from_ref));
        }
        let mut ahead = owner.clone();
        collected.iter().for_each(|version| ahead.collect(*version));
        // In turns from one that remembers, and one that does not.
        for turn in 0..400 {
            let theirs = behind.latest().position();
            if theirs.compare(&owner.position()).is_eq() {
                break;
            }
            // At first one may make the other begin anew; in the end one of them goes on alone.
            let from = if turn % 2 == 0 && turn < 20 { &owner } else { &ahead };
            send(from, &mut behind, &theirs, room);
        }
        prop_assert_eq!(all(&behind.current), all(&owner));
    }

    #[test]
    fn a_gap_is_refused(first in writes(), then in writes(), missing in 1_u64..20) {
        let mut held = Held::default();
        let mut owner = owner(&first);
        send(&owner, &mut held, &Position::default(), 5000);
        for (key, value) in &then {
            owner.write(&[b'a' + key], value.as_ref().map(std::slice::from_ref));
        }
        let before = held.current.position();
        let since = before.version + missing;
        if since < owner.version {
            let pretended = Position { version: since, ..before };
            prop_assert_eq!(send(&owner, &mut held, &pretended, 5000), Some(Merged::Gap));
            prop_assert_eq!(held.current.position(), before);
        }
    }
}

#[test]
fn a_new_life_replaces_the_old_one_when_it_is_whole() {
    let mut held = Held::default();
    let old = owner(&[(0, Some(1)), (1, Some(2))]);
    assert_eq!(send(&old, &mut held, &Position::default(), 500), Some(Merged::Replaced));
    let mut new = Replica::new(Epoch { incarnation: 2, instance: 0 });
    for key in 0..20 {
        new.write(&[b'a' + key], Some(&[9]));
    }
    let mut datagrams = 0;
    loop {
        datagrams += 1;
        let theirs = held.latest().position();
        match send(&new, &mut held, &theirs, 70) {
            Some(Merged::Growing) => assert_eq!(all(&held.current), all(&old)),
            other => break assert_eq!(other, Some(Merged::Replaced)),
        }
    }
    assert!(datagrams > 2);
    assert_eq!(all(&held.current), all(&new));
    // The old life has nothing to say any more.
    assert_eq!(send(&old, &mut held, &Position::default(), 500), Some(Merged::Old));
}

#[test]
fn a_key_that_is_written_often_takes_no_more_room_than_one_that_is_not() {
    let mut replica = owner(&[]);
    for _ in 0..1000 {
        replica.write(b"key", Some(&[0; 100]));
    }
    assert_eq!((replica.entries.len(), replica.bytes), (1, 104));
    replica.write(b"key", None);
    assert_eq!((replica.entries.len(), replica.bytes), (1, 4));
    replica.collect(replica.version);
    assert_eq!((replica.entries.len(), replica.bytes, replica.horizon), (0, 0, 1001));
}
