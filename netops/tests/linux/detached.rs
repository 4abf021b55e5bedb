//! Links removed by somebody else: a process of its own.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use netops::*;
use nix::errno::Errno as Number;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use crate::in_lab;
use crate::support::{Lab, name};

fn veth() -> Resource {
    let peer = VethPeer { place: Place::Container, name: name("eth0"), mtu: None, mac: None };
    Resource::Link(Link::new(name("veth1"), LinkKind::Veth { peer }))
}

fn masquerade() -> Resource {
    Resource::from(Masquerade {
        source: "10.22.0.5".parse().unwrap(),
        within: "10.22.0.0/16".parse().unwrap(),
        mark: Mark::new("pod 1").unwrap(),
    })
}

/// The threads in the calling thread's network namespace, of this process and of others, but for itself.
fn others_here() -> Vec<String> {
    let network = |thread: &Path| fs::metadata(thread.join("ns/net")).map(|namespace| namespace.ino()).ok();
    let entries = |directory: PathBuf| fs::read_dir(directory).into_iter().flatten().flatten();
    let here = network(Path::new("/proc/thread-self"));
    let own = fs::read_link("/proc/thread-self").unwrap();
    let own = Path::new("/proc").join(own);
    let is_process =
        |path: &Path| path.file_name().is_some_and(|name| name.as_encoded_bytes()[0].is_ascii_digit());
    entries("/proc".into())
        .filter(|entry| is_process(&entry.path()))
        .flat_map(|process| entries(process.path().join("task")))
        .map(|thread| thread.path())
        .filter(|thread| network(thread) == here && *thread != own)
        .map(|thread| thread.display().to_string())
        .collect()
}

fn wait_until_alone() {
    wait_until_alone_but_for(&[]);
}

fn wait_until_alone_but_for(some: &[String]) {
    let deadline = Instant::now() + Duration::from_secs(5);
    let others = || others_here().into_iter().filter(|other| !some.contains(other)).collect::<Vec<_>>();
    while !others().is_empty() {
        assert!(Instant::now() < deadline, "still there: {:?}", others());
        thread::sleep(Duration::from_millis(5));
    }
}

/// Runs [`a_program_that_removes_and_ends`], and returns what it said.
fn program(what: &str) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "detached::a_program_that_removes_and_ends", "--nocapture"])
        .env("NETOPS_REMOVE", what)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn attach(lab: &mut Lab) {
    lab.create(Place::Host, &veth()).unwrap();
    let address = Address::new(name("eth0"), "10.22.0.5/16".parse().unwrap());
    lab.create(Place::Container, &Resource::Address(address)).unwrap();
    lab.create(Place::Container, &Resource::LinkUp(name("eth0"))).unwrap();
}

#[test]
fn the_link_is_gone_with_all_it_had_before_who_removed_it() {
    in_lab!(|mut lab| {
        // On a busy machine the kernel is done before anyone has looked.
        let (mut round, mut outlived) = (0, 0);
        while round < 5 || outlived == 0 && round < 100 {
            round += 1;
            attach(&mut lab);
            let mut kernel = lab.fresh_kernel().with_detached_removals();
            assert_eq!(kernel.remove(Place::Host, &[&veth()]), [Ok(Removed::Now)]);
            outlived += others_here().len();
            assert_eq!(
                lab.kernel.read(Place::Host, &[Query::Link(name("veth1"))]),
                Ok(vec![Answer::Links(vec![])])
            );
            assert!(!lab.run(Place::Container, "ip -o addr").contains("eth0"));
            assert_eq!(lab.run(Place::Container, "ip -4 route show table all"), "");
            assert_eq!(kernel.remove(Place::Host, &[&veth()]), [Ok(Removed::Before)]);
            wait_until_alone();
        }
        assert!(outlived > 0, "nobody was ever seen to wait for the kernel: was it done by this thread?");
    });
}

#[test]
fn several_links_go_together_and_what_is_missing_is_fine() {
    in_lab!(|mut lab| {
        let link = |text: &str| {
            let peer =
                VethPeer { place: Place::Container, name: name(&format!("{text}p")), mtu: None, mac: None };
            Resource::Link(Link::new(name(text), LinkKind::Veth { peer }))
        };
        let links = [link("a"), link("b"), link("c")];
        lab.create(Place::Host, &links[0]).unwrap();
        lab.create(Place::Host, &links[2]).unwrap();
        let mut kernel = lab.fresh_kernel().with_detached_removals();
        let all: Vec<_> = links.iter().collect();
        assert_eq!(
            kernel.remove(Place::Host, &all),
            [Ok(Removed::Now), Ok(Removed::Before), Ok(Removed::Now)]
        );
        wait_until_alone();
    });
}

#[test]
fn what_the_kernel_refuses_is_reported() {
    in_lab!(|mut lab| {
        let lo = Resource::Link(Link::new(LinkName::loopback(), LinkKind::Dummy));
        let mut kernel = lab.fresh_kernel().with_detached_removals();
        let error = kernel.remove(Place::Host, &[&lo]).remove(0).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::EOPNOTSUPP), "{error}");
        attach(&mut lab);
        assert_eq!(kernel.remove(Place::Host, &[&lo, &veth()])[1], Ok(Removed::Now));
    });
}

#[test]
fn whoever_reads_a_programs_output_is_not_kept_waiting_nor_left_its_children() {
    in_lab!(|mut lab| {
        // A runtime waits for the end of a plugin's output, not for its end.
        let mut remove = |variable: &str| {
            attach(&mut lab);
            lab.create(Place::Host, &masquerade()).unwrap();
            let started = Instant::now();
            let said = program(variable);
            let elapsed = started.elapsed();
            assert!(said.contains("removed: [Ok(Now), Ok(Now)], no child is left"), "{said}");
            assert_eq!(lab.output(Place::Host, "ip link show veth1").status.code(), Some(1));
            assert!(!lab.run(Place::Host, "nft list ruleset").contains("10.22.0.5"));
            wait_until_alone();
            elapsed
        };
        let detached = (0..5).map(|_| remove("detached")).min().unwrap();
        let synchronous = (0..5).map(|_| remove("synchronous")).min().unwrap();
        assert!(detached < synchronous, "{detached:?} detached, {synchronous:?} synchronous");
    });
}

#[test]
fn whoever_takes_in_orphans_does_not_get_ours() {
    in_lab!(|mut lab| {
        attach(&mut lab);
        let said = program("subreaper");
        assert!(said.contains("removed: [Ok(Before), Ok(Now)], no child is left"), "{said}");
        assert_eq!(lab.output(Place::Host, "ip link show veth1").status.code(), Some(1));
    });
}

#[test]
fn a_program_that_removes_many_has_no_more_of_anything_for_it() {
    in_lab!(|_lab| {
        let said = program("many");
        assert!(said.contains("nothing has grown") && said.contains("no child is left"), "{said}");
        wait_until_alone();
    });
}

/// Makes and removes a link many times, and tells what this process has more of in the end than after the first half.
fn remove_many() {
    let entries = |directory: &str| fs::read_dir(directory).unwrap().count();
    let resident = || {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap()
    };
    let peer = VethPeer { place: Place::Host, name: name("veth2"), mtu: None, mac: None };
    let veth = Resource::Link(Link::new(name("veth1"), LinkKind::Veth { peer }));
    let others = others_here();
    let round = || {
        let mut kernel = LinuxKernel::new(None).with_detached_removals();
        assert!(kernel.create(Place::Host, &[&veth])[0].is_ok());
        assert_eq!(kernel.remove(Place::Host, &[&veth]), [Ok(Removed::Now)]);
    };
    let rounds = |count| {
        for _ in 0..count {
            (0..10).for_each(|_| round());
            // Links are made faster than the kernel takes them apart; what whoever waits for it has is not what is looked for.
            wait_until_alone_but_for(&others);
        }
        (entries("/proc/self/fd"), resident())
    };
    let (before, after) = (rounds(30), rounds(30));
    // What is torn in the heap takes some 500 KiB in all before it stays as it is; two pages of each stack would be 2400.
    let grown = after.0 > before.0 || after.1 > before.1 + 1024;
    println!(
        "{}",
        if grown { format!("{before:?} became {after:?}") } else { "nothing has grown".to_owned() }
    );
}

/// Not a test by itself, but the program that those before start: a process of one thread, which the harness's is not.
#[test]
fn a_program_that_removes_and_ends() {
    let Some(variable) = std::env::var_os("NETOPS_REMOVE") else { return };
    #[expect(unsafe_code, reason = "fork(2)")]
    // SAFETY: no other test runs in this process, and the harness waits for this one: nobody holds a lock.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => {
            assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
        }
        ForkResult::Child => {
            if variable == "many" {
                remove_many();
            }
            if variable == "subreaper" {
                set_child_subreaper(true).unwrap();
            }
            let kernel = LinuxKernel::new(None);
            let synchronous = variable == "synchronous";
            let mut kernel = if synchronous { kernel } else { kernel.with_detached_removals() };
            let removed = kernel.remove(Place::Host, &[&masquerade(), &veth()]);
            let children = waitpid(None, Some(WaitPidFlag::WNOHANG)).err();
            let left = if children == Some(Number::ECHILD) { "no child is" } else { "children are" };
            println!("removed: {removed:?}, {left} left");
            drop(kernel);
            std::process::exit(0);
        }
    }
}
