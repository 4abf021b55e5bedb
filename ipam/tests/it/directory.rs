//! What is in the directory: the reference's format, what crashes, reboots and strangers leave there.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::common::{NETWORK, boot, files, ip, lease, lease_files, owner, pool, store};
use ipam::{
    AcquireError, DirStore, Holder, LeaseStore, StoreError, acquire, find, leases, release, retain, usage,
};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn put(data_dir: &Path, name: &str, content: impl AsRef<[u8]>) {
    fs::create_dir_all(data_dir.join(NETWORK)).unwrap();
    fs::write(data_dir.join(NETWORK).join(name), content).unwrap();
}

/// A network with a lease of each address of a /29, made by us in this boot.
fn full(data_dir: &Path) -> ipam::Pool {
    let pool = pool(&["10.1.2.0/29"]);
    for container in 2..=6 {
        lease(&store(data_dir), &pool, &format!("pod{container}")).unwrap();
    }
    pool
}

#[test]
fn the_files_are_those_of_the_reference() {
    let data_dir = tempfile::tempdir().unwrap();
    lease(&store(data_dir.path()), &pool(&["10.1.2.0/24", "fd00:0:0:1::/64"]), "blue").unwrap();

    let expected = [
        ("10.1.2.2", "blue\r\neth0", 0o600),
        ("fd00:0:0:1::2", "blue\r\neth0", 0o600),
        ("last_reserved_ip.0", "10.1.2.2", 0o600),
        ("last_reserved_ip.1", "fd00:0:0:1::2", 0o600),
        ("lock", "", 0o750),
    ];
    let network = data_dir.path().join(NETWORK);
    let found = files(data_dir.path());
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (name, content, bits) in expected {
        assert_eq!(found[name], content);
        assert_eq!(mode(&network.join(name)), bits, "{name}");
    }
    assert_eq!(mode(&network), 0o755);
}

#[test]
fn a_shorter_last_reserved_address_replaces_a_longer_one() {
    let data_dir = tempfile::tempdir().unwrap();
    put(data_dir.path(), "last_reserved_ip.0", "10.1.2.254");
    lease(&store(data_dir.path()), &pool(&["10.1.2.0/24"]), "blue").unwrap();
    assert_eq!(files(data_dir.path())["last_reserved_ip.0"], "10.1.2.2");
}

#[test]
fn a_release_leaves_nothing_but_the_round_robin() {
    let data_dir = tempfile::tempdir().unwrap();
    let store = store(data_dir.path());
    lease(&store, &pool(&["10.1.2.0/24", "fd00::/64"]), "blue").unwrap();
    release(&store, &owner("blue"), &[ip("10.1.2.2"), ip("fd00::2")]).unwrap();

    assert!(lease_files(data_dir.path()).is_empty());
    assert_eq!(fs::read_dir(store.path().join(".cnikit.this-boot")).unwrap().count(), 0);
}

#[test]
fn an_owner_with_many_leases_has_an_entry_for_each_of_them() {
    for count in [1, 2, 3, 4, 5, 8, 31, 32, 33, 250] {
        let data_dir = tempfile::tempdir().unwrap();
        for number in 2..count + 2 {
            put(data_dir.path(), &format!("10.1.2.{number}"), "leaky\r\neth0");
        }
        let (store, pool) = (store(data_dir.path()), pool(&["10.1.2.0/23"]));
        lease(&store, &pool, "blue").unwrap();
        let index = store.path().join(".cnikit.this-boot");
        for slot in 0..count {
            assert!(index.join(format!("leaky:eth0:{slot}")).exists(), "slot {slot} of {count}");
        }
        assert!(!index.join(format!("leaky:eth0:{count}")).exists());
        release(&store, &owner("leaky"), &[]).unwrap();
        assert_eq!(lease_files(data_dir.path()).into_values().collect::<Vec<_>>(), ["blue\r\neth0"]);
        assert_eq!(fs::read_dir(&index).unwrap().count(), 1, "{count}");
    }
}

#[test]
fn a_dropped_reservation_leaves_nothing() {
    let data_dir = tempfile::tempdir().unwrap();
    let store = store(data_dir.path());
    let reservation = acquire(&store, &pool(&["10.1.2.0/24"]), &owner("blue"), &[]).unwrap();
    assert_eq!(lease_files(data_dir.path()).len(), 1);
    drop(reservation);
    assert!(lease_files(data_dir.path()).is_empty());
}

#[test]
fn a_failed_acquire_gives_back_the_sets_it_had() {
    let data_dir = tempfile::tempdir().unwrap();
    let store = store(data_dir.path());
    let two_sets = pool(&["10.1.2.0/24", "fd00::/126"]);
    for container in ["a", "b"] {
        lease(&store, &two_sets, container).unwrap();
    }
    let before = files(data_dir.path());
    let error = acquire(&store, &two_sets, &owner("c"), &[]).unwrap_err();
    assert!(matches!(error, AcquireError::Exhausted { set: 1, capacity: 2, .. }), "{error}");
    assert_eq!(files(data_dir.path()), before);
}

#[test]
fn a_second_acquire_is_refused_with_the_addresses_of_the_first() {
    let data_dir = tempfile::tempdir().unwrap();
    let store = store(data_dir.path());
    let pool = pool(&["10.1.2.0/24"]);
    lease(&store, &pool, "blue").unwrap();
    let before = files(data_dir.path());
    for requested in [vec![], vec![ip("10.1.2.2")], vec![ip("10.1.2.9")]] {
        let error = acquire(&store, &pool, &owner("blue"), &requested).unwrap_err();
        let AcquireError::Duplicate { addresses, .. } = &error else { panic!("{error}") };
        assert_eq!(*addresses, [ip("10.1.2.2")]);
    }
    assert_eq!(files(data_dir.path()), before);
}

#[test]
fn a_lease_removed_by_hand_does_not_count_as_a_first_acquire() {
    let data_dir = tempfile::tempdir().unwrap();
    let store = store(data_dir.path());
    let pool = pool(&["10.1.2.0/24"]);
    lease(&store, &pool, "blue").unwrap();
    fs::remove_file(store.path().join("10.1.2.2")).unwrap();
    assert_eq!(lease(&store, &pool, "blue").unwrap(), ["10.1.2.3"]);
}

#[test]
fn a_hint_that_is_not_the_owner_s_is_not_believed() {
    let data_dir = tempfile::tempdir().unwrap();
    let store = store(data_dir.path());
    let pool = pool(&["10.1.2.0/24"]);
    lease(&store, &pool, "blue").unwrap();
    lease(&store, &pool, "red").unwrap();
    let freed = release(&store, &owner("blue"), &[ip("10.1.2.3"), ip("10.9.9.9"), ip("fd00::1")]).unwrap();
    assert_eq!(freed, [ip("10.1.2.2")]);
    assert_eq!(lease_files(data_dir.path()).into_keys().collect::<Vec<_>>(), ["10.1.2.3"]);
}

#[test]
fn a_hint_that_names_only_some_of_the_leases_releases_all() {
    let data_dir = tempfile::tempdir().unwrap();
    let store = store(data_dir.path());
    lease(&store, &pool(&["10.1.2.0/24", "fd00::/64"]), "blue").unwrap();
    assert_eq!(release(&store, &owner("blue"), &[ip("10.1.2.2")]).unwrap().len(), 2);
    assert!(lease_files(data_dir.path()).is_empty());
}

#[test]
fn releasing_twice_is_fine() {
    let data_dir = tempfile::tempdir().unwrap();
    let store = store(data_dir.path());
    lease(&store, &pool(&["10.1.2.0/24"]), "blue").unwrap();
    for _ in 0..2 {
        release(&store, &owner("blue"), &[ip("10.1.2.2")]).unwrap();
    }
}

#[test]
fn a_lease_of_the_oldest_format_is_its_container_s() {
    let data_dir = tempfile::tempdir().unwrap();
    put(data_dir.path(), "10.1.2.5", "blue");
    put(data_dir.path(), "10.1.2.6", "blue\r\neth0");
    let store = store(data_dir.path());
    // The exact ones first: the old one may be another interface's.
    assert_eq!(release(&store, &owner("blue"), &[]).unwrap(), [ip("10.1.2.6")]);
    assert_eq!(release(&store, &owner("blue"), &[]).unwrap(), [ip("10.1.2.5")]);
}

#[test]
fn half_written_leases_are_reclaimed_when_the_range_is_full() {
    let left_behind: [&[u8]; 4] = [b"", b"\0\0\0\0\0\0\0\0", b"pod9\r\n", b" \n"];
    for content in left_behind {
        let data_dir = tempfile::tempdir().unwrap();
        let pool = full(data_dir.path());
        fs::remove_file(data_dir.path().join(NETWORK).join("10.1.2.4")).unwrap();
        put(data_dir.path(), "10.1.2.4", content);
        assert_eq!(lease(&store(data_dir.path()), &pool, "blue").unwrap(), ["10.1.2.4"], "{content:?}");
    }
}

#[test]
fn a_half_written_lease_is_reclaimed_when_it_is_requested() {
    let data_dir = tempfile::tempdir().unwrap();
    put(data_dir.path(), "10.1.2.77", "");
    let store = store(data_dir.path());
    // Begins the index, and so looks at all leases: only what comes after is left to the request.
    lease(&store, &pool(&["10.1.2.0/24"]), "red").unwrap();
    assert!(!store.path().join("10.1.2.77").exists());
    put(data_dir.path(), "10.1.2.77", "");
    let reservation = acquire(&store, &pool(&["10.1.2.0/24"]), &owner("blue"), &[ip("10.1.2.77")]).unwrap();
    assert_eq!(reservation.commit()[0].address.to_string(), "10.1.2.77/24");
}

#[test]
fn a_full_range_of_thousands_is_searched_for_half_written_leases_once_a_minute() {
    let data_dir = tempfile::tempdir().unwrap();
    let pool = pool(&["10.1.0.0/22"]);
    let store = store(data_dir.path());
    lease(&store, &pool, "first").unwrap();
    for number in (3..=1022u32).filter(|number| *number != 257) {
        put(
            data_dir.path(),
            &format!("10.1.{}.{}", number >> 8, number & 255),
            format!("pod{number}\r\neth0"),
        );
    }
    assert_eq!(lease(&store, &pool, "blue").unwrap(), ["10.1.1.1"]);
    // Looks at all leases, and finds that all are somebody's.
    let error = acquire(&store, &pool, &owner("red"), &[]).unwrap_err();
    assert!(matches!(error, AcquireError::Exhausted { capacity: 1021, .. }), "{error}");
    release(&store, &owner("blue"), &[]).unwrap();
    put(data_dir.path(), "10.1.1.1", "");

    acquire(&store, &pool, &owner("blue"), &[]).unwrap_err();
    assert!(store.path().join("10.1.1.1").exists());
    let swept = fs::File::options().write(true).open(store.path().join(".cnikit.this-boot/swept")).unwrap();
    swept.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(61)).unwrap();
    assert_eq!(lease(&store, &pool, "blue").unwrap(), ["10.1.1.1"]);
}

#[test]
fn a_set_that_is_remembered_as_full_is_so_until_something_changes() {
    let data_dir = tempfile::tempdir().unwrap();
    let pool = pool(&["10.1.2.0/26"]);
    let store = store(data_dir.path());
    for container in 2..=62 {
        lease(&store, &pool, &format!("pod{container}")).unwrap();
    }
    let refused = || acquire(&store, &pool, &owner("blue"), &[]).unwrap_err();
    let directory = fs::File::open(store.path()).unwrap();
    let memo = store.path().join(".cnikit.this-boot/full.0");

    refused();
    assert!(!memo.exists(), "a change a moment ago may have a twin that is not seen");
    directory.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(10)).unwrap();
    refused();
    assert!(memo.exists());
    // The same modification time: what is beyond the first few is not looked for.
    let changed = directory.metadata().unwrap().modified().unwrap();
    fs::remove_file(store.path().join("10.1.2.44")).unwrap();
    directory.set_modified(changed).unwrap();
    assert!(matches!(refused(), AcquireError::Exhausted { .. }));
    // Any other one.
    directory.set_modified(changed + std::time::Duration::from_nanos(1000)).unwrap();
    assert_eq!(lease(&store, &pool, "blue").unwrap(), ["10.1.2.44"]);
}

#[test]
fn leases_of_an_earlier_boot_are_gone_with_the_first_acquire_of_this_one() {
    let data_dir = tempfile::tempdir().unwrap();
    let pool = pool(&["10.1.2.0/29", "fd00::/64"]);
    let earlier = DirStore::create(data_dir.path(), NETWORK, &boot("earlier-boot")).unwrap();
    for container in 2..=6 {
        lease(&earlier, &pool, &format!("pod{container}")).unwrap();
    }
    assert_eq!(lease(&store(data_dir.path()), &pool, "blue").unwrap(), ["10.1.2.2", "fd00::7"]);
    assert_eq!(lease_files(data_dir.path()).into_keys().collect::<Vec<_>>(), ["10.1.2.2", "fd00::7"]);
    assert!(!earlier.path().join(".cnikit.earlier-boot").exists());
}

#[test]
fn a_range_full_of_leases_of_an_earlier_boot_is_not_reported_as_full() {
    let data_dir = tempfile::tempdir().unwrap();
    let pool = full(data_dir.path());
    assert_eq!(usage(&store(data_dir.path()), &pool).unwrap()[0].free(), 0);
    let next = DirStore::create(data_dir.path(), NETWORK, &boot("next-boot")).unwrap();
    assert_eq!(usage(&next, &pool).unwrap()[0].free(), 5);
}

#[test]
fn leases_that_somebody_else_wrote_in_this_boot_outlive_our_first_acquire_but_not_the_next_boot() {
    let data_dir = tempfile::tempdir().unwrap();
    let pool = pool(&["10.1.2.0/24"]);
    put(data_dir.path(), "10.1.2.8", "red\r\neth0");
    put(data_dir.path(), "10.1.2.9", "old");
    // However old they look: a clock that is set after booting makes a fresh lease look ancient.
    for name in ["10.1.2.8", "10.1.2.9"] {
        let file = fs::File::options().write(true).open(data_dir.path().join(NETWORK).join(name)).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
    }
    lease(&store(data_dir.path()), &pool, "blue").unwrap();
    assert_eq!(
        lease_files(data_dir.path()).into_keys().collect::<Vec<_>>(),
        ["10.1.2.2", "10.1.2.8", "10.1.2.9"]
    );
    // Being known now, a second one for the same owner is refused.
    assert!(lease(&store(data_dir.path()), &pool, "red").unwrap_err().contains("already has 10.1.2.8"));

    let next = DirStore::create(data_dir.path(), NETWORK, &boot("next-boot")).unwrap();
    lease(&next, &pool, "green").unwrap();
    assert_eq!(lease_files(data_dir.path()).into_keys().collect::<Vec<_>>(), ["10.1.2.3"]);
}

#[test]
fn an_address_that_was_released_and_leased_anew_in_this_boot_is_not_taken_for_the_old_one() {
    let data_dir = tempfile::tempdir().unwrap();
    let pool = pool(&["10.1.2.0/24"]);
    let earlier = DirStore::create(data_dir.path(), NETWORK, &boot("earlier-boot")).unwrap();
    lease(&earlier, &pool, "blue").unwrap();
    // In this boot, before we run: removed by hand, then leased by the reference to the same container.
    fs::remove_file(earlier.path().join("10.1.2.2")).unwrap();
    put(data_dir.path(), "10.1.2.2", "blue\r\neth0");

    lease(&store(data_dir.path()), &pool, "red").unwrap();
    assert_eq!(lease_files(data_dir.path())["10.1.2.2"], "blue\r\neth0");
}

#[test]
fn an_index_that_was_not_finished_is_begun_again() {
    let data_dir = tempfile::tempdir().unwrap();
    put(data_dir.path(), "10.1.2.2", "blue\r\neth0");
    let draft = data_dir.path().join(NETWORK).join(".cnikit._new");
    fs::create_dir(&draft).unwrap();
    fs::hard_link(data_dir.path().join(NETWORK).join("10.1.2.2"), draft.join("blue:eth0:0")).unwrap();
    assert_eq!(lease(&store(data_dir.path()), &pool(&["10.1.2.0/24"]), "red").unwrap(), ["10.1.2.3"]);
    assert!(!draft.exists());
    assert_eq!(lease_files(data_dir.path())["10.1.2.2"], "blue\r\neth0");
}

#[test]
fn names_that_lead_out_of_the_directory_are_refused() {
    let data_dir = tempfile::tempdir().unwrap();
    for name in ["", ".", "..", "../etc", "a/b", "/etc", "nul\0"] {
        let error = DirStore::create(data_dir.path(), name, &boot("b")).unwrap_err();
        assert!(matches!(error, StoreError::NetworkName { .. }), "{name:?}: {error}");
    }
    assert_eq!(fs::read_dir(data_dir.path()).unwrap().count(), 0);
}

#[test]
fn a_network_without_leases_is_not_created_by_looking_at_it() {
    let data_dir = tempfile::tempdir().unwrap();
    assert!(DirStore::open(data_dir.path(), NETWORK, &boot("b")).unwrap_err().is_not_found());
    assert_eq!(DirStore::networks(&data_dir.path().join("nowhere")).unwrap(), [""; 0]);
    store(data_dir.path());
    assert_eq!(DirStore::networks(data_dir.path()).unwrap(), [NETWORK]);
}

#[test]
fn strangers_take_their_address_and_nothing_else() {
    let data_dir = tempfile::tempdir().unwrap();
    let outside = data_dir.path().join("outside");
    fs::write(&outside, "blue\r\neth0").unwrap();
    let network = data_dir.path().join(NETWORK);
    fs::create_dir(&network).unwrap();
    symlink(&outside, network.join("10.1.2.2")).unwrap();
    fs::create_dir(network.join("10.1.2.3")).unwrap();
    fs::write(network.join("10.1.2.4"), vec![b'x'; 1 << 20]).unwrap();
    fs::write(network.join("10.1.2.5"), [0xff, 0xfe]).unwrap();
    let fifo = std::process::Command::new("mkfifo").arg(network.join("10.1.2.6")).status().unwrap();
    assert!(fifo.success());
    drop(std::os::unix::net::UnixListener::bind(network.join("10.1.2.7")).unwrap());
    fs::write(network.join("10.1.2.8"), "not a container").unwrap();
    fs::write(network.join("README"), "blue\r\neth0").unwrap();
    fs::write(network.join("fd00:0::5"), "blue\r\neth0").unwrap();
    symlink(&outside, network.join("last_reserved_ip.0")).unwrap();

    let store = store(data_dir.path());
    let pool = pool(&["10.1.2.0/24"]);
    assert_eq!(lease(&store, &pool, "blue").unwrap(), ["10.1.2.9"]);
    for lease in leases(&store).unwrap() {
        let stranger = lease.address != ip("10.1.2.9");
        assert_eq!(lease.holder == Holder::Stranger, stranger, "{lease:?}");
    }
    assert_eq!(usage(&store, &pool).unwrap()[0].used, 8);

    let hint = [ip("10.1.2.2"), ip("10.1.2.3"), ip("10.1.2.9")];
    assert_eq!(release(&store, &owner("blue"), &hint).unwrap(), [ip("10.1.2.9")]);
    assert_eq!(fs::read_to_string(&outside).unwrap(), "blue\r\neth0");
    assert_eq!(lease_files(data_dir.path()).len(), 9);
}

#[test]
fn a_stranger_under_the_name_of_the_index_is_replaced() {
    let data_dir = tempfile::tempdir().unwrap();
    let network = data_dir.path().join(NETWORK);
    let elsewhere = data_dir.path().join("elsewhere");
    fs::create_dir_all(&elsewhere).unwrap();
    fs::create_dir(&network).unwrap();
    symlink(&elsewhere, network.join(".cnikit.this-boot")).unwrap();
    fs::write(network.join(".cnikit._new"), "").unwrap();
    assert_eq!(lease(&store(data_dir.path()), &pool(&["10.1.2.0/24"]), "blue").unwrap(), ["10.1.2.2"]);
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
}

#[test]
fn a_lock_that_is_a_symbolic_link_is_refused() {
    let data_dir = tempfile::tempdir().unwrap();
    let network = data_dir.path().join(NETWORK);
    fs::create_dir(&network).unwrap();
    symlink(data_dir.path().join("target"), network.join("lock")).unwrap();
    assert!(store(data_dir.path()).lock().is_err());
    assert!(!data_dir.path().join("target").exists());
}

#[test]
fn garbage_collection_keeps_what_it_is_told_to() {
    let data_dir = tempfile::tempdir().unwrap();
    let pool = full(data_dir.path());
    let store = store(data_dir.path());
    put(data_dir.path(), "10.1.2.100", "");
    let kept = owner("pod3");
    let removed = retain(&store, |lease| lease.is_held_by(&kept)).unwrap();
    assert_eq!(removed.len(), 5);
    assert_eq!(lease_files(data_dir.path()).into_values().collect::<Vec<_>>(), ["pod3\r\neth0"]);
    assert_eq!(usage(&store, &pool).unwrap()[0].free(), 4);
    assert_eq!(find(&store, &kept).unwrap().len(), 1);
}
