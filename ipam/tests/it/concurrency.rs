//! Many writers at once.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use crate::common::{lease, lease_files, owner, pool, reference, reference_is_installed, store};
use ipam::{DirStore, MemoryStore, Pool, release};

/// Eight writers lease 12 addresses each and give back every third; no address is ever two's.
fn race(
    pool: &Pool,
    data_dir: &Path,
    add: impl Fn(usize, &str) -> Vec<String> + Sync,
    del: impl Fn(usize, &str) + Sync,
) {
    let held = Mutex::new(BTreeSet::new());
    thread::scope(|scope| {
        for writer in 0..8 {
            let (held, add, del) = (&held, &add, &del);
            scope.spawn(move || {
                for round in 0..12 {
                    let container = format!("w{writer}r{round}");
                    let addresses = add(writer, &container);
                    assert_eq!(addresses.len(), pool.sets().len());
                    for address in &addresses {
                        assert!(held.lock().unwrap().insert(address.clone()), "{address} is two containers'");
                    }
                    if round % 3 == 0 {
                        for address in &addresses {
                            held.lock().unwrap().remove(address);
                        }
                        del(writer, &container);
                    }
                }
            });
        }
    });
    let held = held.into_inner().unwrap();
    assert_eq!(held.len(), 8 * 8 * pool.sets().len());
    assert_eq!(lease_files(data_dir).into_keys().collect::<BTreeSet<_>>(), held);
}

#[test]
fn eight_of_us_never_share_an_address() {
    let data_dir = tempfile::tempdir().unwrap();
    let pool = pool(&["10.1.2.0/25", "fd00::/64"]);
    let mine = |_| -> DirStore { store(data_dir.path()) };
    race(
        &pool,
        data_dir.path(),
        |writer, container| lease(&mine(writer), &pool, container).unwrap(),
        |writer, container| drop(release(&mine(writer), &owner(container), &[]).unwrap()),
    );
}

#[test]
fn four_of_us_and_four_of_the_reference_never_share_an_address() {
    if !reference_is_installed() {
        return;
    }
    let data_dir = tempfile::tempdir().unwrap();
    let pool = pool(&["10.1.2.0/25", "fd00::/64"]);
    race(
        &pool,
        data_dir.path(),
        |writer, container| match writer % 2 {
            0 => lease(&store(data_dir.path()), &pool, container).unwrap(),
            _ => reference("ADD", &pool, data_dir.path(), container, None).unwrap(),
        },
        // What one wrote, the other releases.
        |writer, container| match writer % 2 {
            0 => drop(reference("DEL", &pool, data_dir.path(), container, None).unwrap()),
            _ => drop(release(&store(data_dir.path()), &owner(container), &[]).unwrap()),
        },
    );
}

#[test]
fn two_threads_on_one_store_value_exclude_each_other() {
    let data_dir = tempfile::tempdir().unwrap();
    let (directory, memory) = (store(data_dir.path()), MemoryStore::new());
    let stores: [&dyn ipam::LeaseStore; 2] = [&directory, &memory];
    for store in stores {
        let pool = pool(&["10.1.2.0/24"]);
        let mut addresses: Vec<String> = thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|writer| {
                    let pool = &pool;
                    scope.spawn(move || -> Vec<String> {
                        (0..20)
                            .flat_map(|round| lease(store, pool, &format!("w{writer}r{round}")).unwrap())
                            .collect()
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        addresses.sort_unstable();
        addresses.dedup();
        assert_eq!(addresses.len(), 80);
    }
}
