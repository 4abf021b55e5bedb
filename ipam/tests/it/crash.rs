//! Killed before every system call, and every system call failing in turn.

use std::path::Path;
use std::process::{Command, Output};

use crate::common::{NETWORK, boot, can_run, ip, lease, lease_files, owner, pool, scratch, store};
use ipam::{AcquireError, DirStore, Pool, acquire, find, release, retain};

/// The calls that change something.
const CHANGES: [&str; 7] = ["openat", "mkdirat", "write", "linkat", "pwrite64", "unlinkat", "renameat"];

/// The calls that tell something, or promise something.
const ANSWERS: [&str; 3] = ["flock", "newfstatat", "getdents64"];

const SMALL: [&str; 2] = ["10.1.2.0/29", "fd00::/125"];

fn small_pool() -> Pool {
    pool(&SMALL)
}

/// The arguments with which this executable is the victim.
const VICTIM: [&str; 5] = ["crash::victim", "--exact", "--ignored", "--nocapture", "--test-threads=1"];

fn strace_is_installed() -> bool {
    can_run(Command::new("strace").arg("-V").output().is_ok(), "strace")
}

/// One healthy pod, and a lease of an earlier boot, which the first `acquire` removes.
fn before_first_acquire(data_dir: &Path) {
    let earlier = DirStore::create(data_dir, NETWORK, &boot("earlier-boot")).unwrap();
    lease(&earlier, &small_pool(), "gone").unwrap();
    std::fs::write(data_dir.join(NETWORK).join("10.1.2.6"), "healthy\r\neth0").unwrap();
}

/// One healthy pod in a boot that has begun.
fn in_midst_of_a_boot(data_dir: &Path) {
    lease(&store(data_dir), &small_pool(), "healthy").unwrap();
}

fn with_the_victim_s_lease(data_dir: &Path) {
    in_midst_of_a_boot(data_dir);
    lease(&store(data_dir), &small_pool(), "victim").unwrap();
}

#[test]
fn an_acquire_that_is_refused_reads_no_lease() {
    if !strace_is_installed() {
        return;
    }
    let data_dir = scratch();
    let network = data_dir.path().join(NETWORK);
    std::fs::create_dir(&network).unwrap();
    // All of the /20 but one, which is leased now, and the victim's, which it will not get.
    for number in 3..4095 {
        let name = format!("10.1.{}.{}", number >> 8, number & 255);
        std::fs::write(network.join(name), format!("pod{number}\r\neth0")).unwrap();
    }
    lease(&store(data_dir.path()), &pool(&["10.1.0.0/20"]), "last").unwrap();

    let trace = data_dir.path().join("trace");
    let output = Command::new("strace")
        .args(["-f", "-qq", "-e", "trace=openat,linkat,newfstatat,getdents64", "-o"])
        .arg(&trace)
        .arg(std::env::current_exe().unwrap())
        .args(VICTIM)
        .env("VICTIM_DATA_DIR", data_dir.path())
        .env("VICTIM_SUBNETS", "10.1.0.0/20")
        .env("VICTIM_OPERATION", "acquire")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("victim failed: all 4093 addresses of range set 0"), "{text}");
    let calls = std::fs::read_to_string(&trace).unwrap();
    let naming_a_lease =
        |call: &str| calls.lines().filter(|line| line.contains(call) && line.contains("\"10.1.")).count();
    assert_eq!(naming_a_lease("openat"), 0);
    assert_eq!(naming_a_lease("newfstatat"), 0);
    assert_eq!(naming_a_lease("linkat"), 16);
    let listings = calls.lines().filter(|line| line.contains("getdents64") && line.ends_with("= 0")).count();
    assert_eq!(listings, 1);
}

#[test]
fn a_file_system_without_hard_links_is_good_enough() {
    if !strace_is_installed() {
        return;
    }
    let data_dir = scratch();
    let output = run_victim(data_dir.path(), "acquire", "linkat:error=EPERM");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("victim succeeded"), "{text}");
    let expected = [("10.1.2.2", "victim\r\neth0"), ("fd00::2", "victim\r\neth0")];
    assert_eq!(lease_files(data_dir.path()), expected.map(|(name, text)| (name.into(), text.into())).into());
    assert_eq!(release(&store(data_dir.path()), &owner("victim"), &[]).unwrap().len(), 2);
}

/// Not a test, but what the tests below run as a process that is to die.
#[test]
#[ignore = "is run, in a process of its own, by the other tests of this file"]
fn victim() {
    let Ok(data_dir) = std::env::var("VICTIM_DATA_DIR") else { return };
    let store = store(Path::new(&data_dir));
    let subnets = std::env::var("VICTIM_SUBNETS").unwrap();
    let pool = pool(&subnets.split(',').collect::<Vec<_>>());
    let outcome = match std::env::var("VICTIM_OPERATION").as_deref() {
        Ok("acquire") => acquire(&store, &pool, &owner("victim"), &[])
            .map(|reservation| drop(reservation.commit()))
            .map_err(|error| error.to_string()),
        Ok("collect") => retain(&store, |lease| lease.is_held_by(&owner("healthy")))
            .map(drop)
            .map_err(|error| error.to_string()),
        _ => release(&store, &owner("victim"), &[ip("10.1.2.3"), ip("fd00::3")])
            .map(drop)
            .map_err(|e| e.to_string()),
    };
    match outcome {
        Ok(()) => println!("victim succeeded"),
        Err(error) => println!("victim failed: {error}"),
    }
}

fn run_victim(data_dir: &Path, operation: &str, injection: &str) -> Output {
    Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("inject={injection}")])
        .arg(std::env::current_exe().unwrap())
        .args(VICTIM)
        .env("VICTIM_DATA_DIR", data_dir)
        .env("VICTIM_SUBNETS", SMALL.join(","))
        .env("VICTIM_OPERATION", operation)
        .output()
        .unwrap()
}

/// Runs the operation once for every one of these calls that it makes, hurt by `effect` each time.
fn hurt_everywhere(
    prepare: fn(&Path),
    operation: &str,
    calls: &[&str],
    effect: &str,
    check: impl Fn(&Path, &str, &Output),
) {
    if !strace_is_installed() {
        return;
    }
    let mut hurt = 0;
    for call in calls {
        // An error may change nothing, because its call was not needed; then it takes a few to see the end.
        let mut unhurt = 0;
        let patience = if effect.starts_with("signal") { 1 } else { 4 };
        for nth in 1.. {
            let data_dir = scratch();
            prepare(data_dir.path());
            let injection = format!("{call}:{effect}:when={nth}");
            let output = run_victim(data_dir.path(), operation, &injection);
            check(data_dir.path(), &injection, &output);
            let done = output.status.success()
                && String::from_utf8_lossy(&output.stdout).contains("victim succeeded");
            (hurt, unhurt) = if done { (hurt, unhurt + 1) } else { (hurt + 1, 0) };
            if unhurt == patience {
                break;
            }
        }
    }
    assert!(hurt > 8, "only {hurt} of the injected faults were felt: {operation}, {effect}");
}

fn everything_can_be_put_right(data_dir: &Path, injection: &str) {
    let (store, pool) = (store(data_dir), small_pool());
    assert!(
        !find(&store, &owner("healthy")).unwrap().is_empty(),
        "{injection}: a healthy pod lost its lease"
    );
    match acquire(&store, &pool, &owner("victim"), &[]).map(|reservation| reservation.commit()) {
        Ok(committed) => assert_eq!(committed.len(), 2, "{injection}"),
        Err(AcquireError::Duplicate { .. }) => {}
        Err(error) => panic!("{injection}: {error}"),
    }
    release(&store, &owner("victim"), &[]).unwrap();
    assert_eq!(index_entries_of_the_victim(data_dir), 0, "{injection}: a name is left in the index");
    let left = lease_files(data_dir);
    assert!(left.values().all(|content| content == "healthy\r\neth0"), "{injection}: {left:?}");
    // Nothing is lost for ever: with the healthy pod's, all addresses can be leased.
    let healthy = left.keys().filter(|name| !name.contains(':')).count();
    for number in healthy..5 {
        lease(&store, &pool, &format!("pod{number}")).unwrap_or_else(|error| panic!("{injection}: {error}"));
    }
}

fn index_entries_of_the_victim(data_dir: &Path) -> usize {
    let entries = std::fs::read_dir(data_dir.join(NETWORK).join(".cnikit.this-boot")).into_iter().flatten();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("victim:")).count()
}

#[test]
fn a_release_after_a_death_on_the_way_to_a_lease_leaves_no_name_in_the_index() {
    let data_dir = scratch();
    in_midst_of_a_boot(data_dir.path());
    let draft = data_dir.path().join(NETWORK).join(".cnikit.this-boot/victim:eth0:0");
    for collect in [false, true] {
        std::fs::write(&draft, "victim\r\neth0").unwrap();
        if collect {
            retain(&store(data_dir.path()), |lease| lease.is_held_by(&owner("healthy"))).unwrap();
        } else {
            release(&store(data_dir.path()), &owner("victim"), &[]).unwrap();
        }
        assert!(!draft.exists(), "collect: {collect}");
    }
    assert_eq!(find(&store(data_dir.path()), &owner("healthy")).unwrap().len(), 2);
}

#[test]
fn a_collection_keeps_a_lease_that_it_cannot_read_and_says_so() {
    if !strace_is_installed() {
        return;
    }
    let mut told = 0;
    for nth in 1..=6 {
        let data_dir = scratch();
        in_midst_of_a_boot(data_dir.path());
        let injection = format!("pread64:error=EIO:when={nth}");
        let output = run_victim(data_dir.path(), "collect", &injection);
        let text = String::from_utf8_lossy(&output.stdout);
        let says_so = text.contains("victim failed: cannot read the leases of ");
        assert_ne!(text.contains("victim succeeded"), says_so, "{injection}: {output:?}");
        told += usize::from(says_so);
        assert_eq!(find(&store(data_dir.path()), &owner("healthy")).unwrap().len(), 2, "{injection}");
    }
    assert_eq!(told, 2, "once for each lease");
}

#[test]
fn an_acquire_killed_anywhere_can_be_released_and_repeated() {
    hurt_everywhere(in_midst_of_a_boot, "acquire", &CHANGES, "signal=KILL", |data_dir, injection, _| {
        everything_can_be_put_right(data_dir, injection);
    });
}

#[test]
fn the_first_acquire_of_a_boot_killed_anywhere_can_be_released_and_repeated() {
    hurt_everywhere(before_first_acquire, "acquire", &CHANGES, "signal=KILL", |data_dir, injection, _| {
        everything_can_be_put_right(data_dir, injection);
    });
}

#[test]
fn a_release_killed_anywhere_can_be_repeated() {
    hurt_everywhere(with_the_victim_s_lease, "release", &CHANGES, "signal=KILL", |data_dir, injection, _| {
        everything_can_be_put_right(data_dir, injection);
    });
}

#[test]
fn an_acquire_in_which_any_call_fails_leaves_all_or_nothing() {
    let calls = [&CHANGES[..], &ANSWERS[..]].concat();
    hurt_everywhere(in_midst_of_a_boot, "acquire", &calls, "error=EIO", |data_dir, injection, output| {
        let text = String::from_utf8_lossy(&output.stdout);
        let victims =
            lease_files(data_dir).into_values().filter(|content| content.starts_with("victim")).count();
        if text.contains("victim failed") {
            assert_eq!(victims, 0, "{injection}: {text}");
            let entry = data_dir.join(NETWORK).join(".cnikit.this-boot/victim:eth0:0");
            assert!(injection.starts_with("unlinkat") || !entry.exists(), "{injection}");
        } else if text.contains("victim succeeded") {
            assert_eq!(victims, 2, "{injection}: {text}");
        }
        everything_can_be_put_right(data_dir, injection);
    });
}
