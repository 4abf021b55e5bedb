//! Whole plans: applied, checked, undone, removed; also by several processes at once.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use netops::*;
use serde_json::Value;

use crate::in_lab;
use crate::links::bridge;
use crate::support::{Lab, name};

fn mark(number: u8) -> Mark {
    Mark::new(&format!("pod {number}")).unwrap()
}

/// A pod on a bridge, as a plugin would have it.
fn pod(number: u8) -> Plan {
    let outside = name(&format!("veth{number}"));
    let inside = name("eth0");
    let mac = |kind| MacAddr::new([2, 0, 0, 0, kind, number]);
    let peer = VethPeer { place: Place::Container, name: inside.clone(), mtu: None, mac: Some(mac(2)) };
    let mut veth = Link::new(outside.clone(), LinkKind::Veth { peer });
    veth.up = true;
    veth.mac = Some(mac(1));
    veth.master = Some(name("cni0"));
    veth.mark = Some(mark(number));
    veth.ignore_router_advertisements = true;
    let mut bridge = bridge();
    bridge.ignore_router_advertisements = true;
    let port = Port {
        link: outside.clone(),
        hairpin: true,
        isolated: false,
        vlans: vec![],
        drop_default_vlan: false,
    };
    let source = format!("10.22.0.{number}");
    let masquerade = Masquerade {
        source: source.parse().unwrap(),
        within: "10.22.0.0/16".parse().unwrap(),
        mark: mark(number),
    };
    let check = SpoofCheck { port: outside, mac: mac(2), mark: mark(number) };
    let address =
        |link: &LinkName, net: &str| Resource::Address(Address::new(link.clone(), net.parse().unwrap()));
    let default = Route::new("0.0.0.0/0".parse().unwrap(), "10.22.0.1".parse().ok(), inside.clone());
    let mut plan = Plan::new();
    plan.share(Place::Host, Resource::Link(bridge))
        .share(Place::Host, Resource::Sysctl(Sysctl::new(SysctlKey::ipv4_forwarding(), 1)))
        .share(Place::Host, address(&name("cni0"), "10.22.0.1/16"))
        .own(Place::Host, Resource::Link(veth))
        .own(Place::Host, Resource::Port(port))
        .own(Place::Container, Resource::Sysctl(Sysctl::new(SysctlKey::ipv4(&inside, "arp_notify"), 1)))
        .own(Place::Container, address(&inside, &format!("{source}/16")))
        .own(Place::Container, Resource::LinkUp(inside.clone()))
        .own(Place::Container, Resource::Route(default))
        .own(Place::Host, Resource::from(masquerade))
        .own(Place::Host, Resource::from(check));
    plan
}

/// All that other programs see of both namespaces.
fn everything(lab: &Lab) -> Vec<Value> {
    let mut seen = Vec::new();
    for place in [Place::Host, Place::Container] {
        seen.extend(
            ["link show", "addr show", "route show table all", "-6 route show table all"]
                .map(|what| lab.ip(place, what)),
        );
        seen.push(Value::from(lab.run(place, "nft list ruleset")));
        seen.push(Value::from(lab.run(place, "cat /proc/sys/net/ipv4/ip_forward")));
    }
    seen
}

#[test]
fn a_plan_is_applied_checked_and_removed() {
    in_lab!(|mut lab| {
        let plan = pod(5);
        assert_eq!(plan.check(&mut lab.kernel).unwrap().len(), plan.steps().len());
        plan.apply(&mut lab.kernel).unwrap();
        assert_eq!(plan.check(&mut lab.fresh_kernel()), Ok(vec![]));
        let shown = lab.ip(Place::Container, "route show default");
        assert_eq!(
            (&shown[0]["gateway"], &shown[0]["dev"]),
            (&Value::from("10.22.0.1"), &Value::from("eth0"))
        );
        let listener = TcpListener::bind("10.22.0.1:0").unwrap();
        let there = listener.local_addr().unwrap();
        lab.container.enter(|| TcpStream::connect_timeout(&there, Duration::from_secs(5)).unwrap()).unwrap();

        let again = plan.apply(&mut lab.fresh_kernel()).unwrap_err();
        assert_eq!(again.cause.errno(), Some(Errno::EEXIST), "{again}");
        assert_eq!(plan.check(&mut lab.kernel), Ok(vec![]), "what was there is left alone: {again}");

        assert_eq!(plan.remove(&mut lab.kernel), []);
        assert_eq!(plan.remove(&mut lab.fresh_kernel()), []);
        let links = read_links(&mut lab.kernel, Place::Host).unwrap();
        assert_eq!(links.len(), 2, "lo, and the bridge, which is everyone's: {links:?}");
        assert!(!lab.run(Place::Host, "nft list ruleset").contains("pod 5"));
    });
}

#[test]
fn wherever_a_plan_fails_everything_is_as_it_was() {
    in_lab!(|lab| {
        // The tables stay once they are there.
        let mut kernel = lab.fresh_kernel();
        assert_eq!(pod(5).apply(&mut kernel).unwrap().undo(&mut kernel), []);
        // It relies on what is shared as long as it lives.
        drop(kernel);
        thread::sleep(Duration::from_millis(100));
        let before = everything(&lab);
        let steps = pod(5).steps().len();
        for fails_at in 0..=steps {
            let impossible = Resource::Sysctl(Sysctl::new(SysctlKey::ipv4(&name("nosuch"), "arp_notify"), 1));
            let mut plan = Plan::new();
            for (number, step) in pod(5).steps().iter().enumerate() {
                if number == fails_at {
                    plan.own(Place::Host, impossible.clone());
                }
                match step.ownership {
                    Ownership::Own => plan.own(step.place, step.resource.clone()),
                    Ownership::Shared => plan.share(step.place, step.resource.clone()),
                };
            }
            if fails_at == steps {
                plan.own(Place::Container, impossible);
            }
            let error = plan.apply(&mut lab.fresh_kernel()).unwrap_err();
            assert_eq!(error.cause.errno(), Some(Errno::ENOENT), "{fails_at}: {error}");
            assert_eq!(error.left, [], "{fails_at}");
            assert_eq!(everything(&lab), before, "{fails_at}");
        }
    });
}

#[test]
fn what_others_use_is_not_undone() {
    in_lab!(|mut lab| {
        let mut user = lab.fresh_kernel();
        let applied = pod(5).apply(&mut lab.kernel).unwrap();
        user.share().unwrap();
        assert_eq!(applied.undo(&mut lab.kernel), []);
        let links = read_links(&mut user, Place::Host).unwrap();
        let names: Vec<_> = links.iter().map(|link| link.name.as_str()).collect();
        assert_eq!(names, ["lo", "cni0"]);
    });
}

const PROCESSES: u8 = 8;

#[test]
fn eight_processes_at_once_on_a_cold_node_do_not_disturb_one_another() {
    in_lab!(|mut lab| {
        let start = SystemTime::now() + Duration::from_millis(300);
        let start = start.duration_since(UNIX_EPOCH).unwrap().as_millis().to_string();
        let mut processes: Vec<_> = (1..=PROCESSES)
            .map(|number| {
                Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", "plans::a_program_that_attaches_one_pod", "--nocapture"])
                    .env("NETOPS_POD", (number + 10).to_string())
                    .env("NETOPS_START", &start)
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .spawn()
                    .unwrap()
            })
            .collect();
        let mut outputs: Vec<_> =
            processes.iter_mut().map(|process| BufReader::new(process.stdout.take().unwrap())).collect();
        for output in &mut outputs {
            let applied = output.lines().map(Result::unwrap).find(|line| line.contains("applied: "));
            assert_eq!(applied.as_deref(), Some("applied: true"));
        }
        let links = read_links(&mut lab.kernel, Place::Host).unwrap();
        assert_eq!(links.iter().filter(|link| link.master.is_some()).count(), usize::from(PROCESSES));
        assert_eq!(links.iter().filter(|link| link.kind == "bridge").count(), 1);
        let answers = lab
            .kernel
            .read(
                Place::Host,
                &[Query::Entries(EntryKind::Masquerade), Query::Entries(EntryKind::SpoofCheck)],
            )
            .unwrap();
        let [Answer::Entries(masquerades), Answer::Entries(checks)] = answers.as_slice() else {
            panic!("{answers:?}")
        };
        assert_eq!((masquerades.len(), checks.len()), (usize::from(PROCESSES), usize::from(PROCESSES)));
        let rules = lab.run(Place::Host, "nft list ruleset");
        assert_eq!(rules.matches("vmap @masquerade4").count(), 1, "{rules}");
        assert_eq!(rules.matches("iifname @checked").count(), 1, "{rules}");

        for (mut process, mut output) in processes.into_iter().zip(outputs) {
            process.stdin.take().unwrap().write_all(b"enough\n").unwrap();
            let mut rest = String::new();
            output.read_to_string(&mut rest).unwrap();
            assert!(rest.contains("removed: []"), "{rest}");
            assert!(process.wait().unwrap().success());
        }
        let links = read_links(&mut lab.kernel, Place::Host).unwrap();
        assert_eq!(links.len(), 2, "{links:?}");
    });
}

/// Not a test by itself, but the program that the one before starts.
#[test]
fn a_program_that_attaches_one_pod() {
    let Some(number) = std::env::var_os("NETOPS_POD") else { return };
    let number = number.to_str().unwrap().parse().unwrap();
    let start: u64 = std::env::var("NETOPS_START").unwrap().parse().unwrap();
    let start = UNIX_EPOCH + Duration::from_millis(start);
    let mut kernel = LinuxKernel::new(Some(Namespace::create().unwrap()));
    while SystemTime::now() < start {}
    let applied = pod(number).apply(&mut kernel);
    println!("\napplied: {}", applied.is_ok());
    if let Err(error) = applied {
        println!("{error}");
    }
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    println!("removed: {:?}", pod(number).remove(&mut kernel));
}
