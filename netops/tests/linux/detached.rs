//! Links removed by a process of its own.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use netops::*;
use nix::errno::Errno as Number;
use nix::sys::wait::{WaitPidFlag, waitpid};

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

/// The processes whose main thread is in the calling thread's network namespace. This one's is not.
fn processes_here() -> Vec<String> {
    let here = fs::metadata("/proc/thread-self/ns/net").unwrap().ino();
    let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let processes =
        processes.filter(|path| path.file_name().unwrap().to_string_lossy().parse::<u32>().is_ok());
    let is_here =
        |path: &std::path::PathBuf| fs::metadata(path.join("ns/net")).is_ok_and(|ns| ns.ino() == here);
    processes.filter(is_here).map(|path| path.display().to_string()).collect()
}

fn wait_until_alone() {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !processes_here().is_empty() {
        assert!(Instant::now() < deadline, "still there: {:?}", processes_here());
        thread::sleep(Duration::from_millis(5));
    }
}

fn attach(lab: &mut Lab) {
    lab.create(Place::Host, &veth()).unwrap();
    let address = Address::new(name("eth0"), "10.22.0.5/16".parse().unwrap());
    lab.create(Place::Container, &Resource::Address(address)).unwrap();
    lab.create(Place::Container, &Resource::LinkUp(name("eth0"))).unwrap();
}

#[test]
fn the_link_is_gone_with_all_it_had_before_the_process_that_removed_it() {
    in_lab!(|mut lab| {
        let mut outlived = 0;
        for _ in 0..5 {
            attach(&mut lab);
            let mut kernel = lab.fresh_kernel().with_detached_removals();
            assert_eq!(kernel.remove(Place::Host, &[&veth()]), [Ok(Removed::Now)]);
            outlived += processes_here().len();
            assert_eq!(
                lab.kernel.read(Place::Host, &[Query::Link(name("veth1"))]),
                Ok(vec![Answer::Links(vec![])])
            );
            assert!(!lab.run(Place::Container, "ip -o addr").contains("eth0"));
            assert_eq!(lab.run(Place::Container, "ip -4 route show table all"), "");
            assert_eq!(kernel.remove(Place::Host, &[&veth()]), [Ok(Removed::Before)]);
            wait_until_alone();
        }
        assert!(outlived > 0, "nobody was ever seen to wait for the kernel: was it done by this process?");
    });
}

#[test]
fn no_child_is_left_to_wait_for() {
    in_lab!(|mut lab| {
        attach(&mut lab);
        let mut kernel = lab.fresh_kernel().with_detached_removals();
        assert_eq!(kernel.remove(Place::Host, &[&veth()]), [Ok(Removed::Now)]);
        // Of this thread's own: other tests have children too.
        let flags = WaitPidFlag::WNOHANG | WaitPidFlag::__WNOTHREAD;
        assert_eq!(waitpid(None, Some(flags)), Err(Number::ECHILD));
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
fn whoever_reads_the_output_is_not_kept_waiting() {
    in_lab!(|mut lab| {
        // A runtime waits for the end of a plugin's output, not for its end.
        let mut remove = |variable: &str| {
            attach(&mut lab);
            lab.create(Place::Host, &masquerade()).unwrap();
            let started = Instant::now();
            let output = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "detached::a_program_that_removes_and_ends", "--nocapture"])
                .env("NETOPS_REMOVE", variable)
                .stdin(Stdio::null())
                .output()
                .unwrap();
            let elapsed = started.elapsed();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(said.contains("removed: [Ok(Now), Ok(Now)]"), "{said}");
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

/// Not a test by itself, but the program that the one before starts.
#[test]
fn a_program_that_removes_and_ends() {
    let Some(variable) = std::env::var_os("NETOPS_REMOVE") else { return };
    let kernel = LinuxKernel::new(None);
    let mut kernel = if variable == "detached" { kernel.with_detached_removals() } else { kernel };
    let removed = kernel.remove(Place::Host, &[&masquerade(), &veth()]);
    println!("removed: {removed:?}");
}
