//! What ADD and DEL cost as the node fills up, beside the reference's, and beside what the kernel takes for a cable on a bridge
//! with as many ports.

use std::time::{Duration, Instant};

use cni_spec::runtime::Attachment;
use cnikit_tests::{Implementation, Node, Pod};
use netops::{
    Address, Kernel, Link, LinkKind, LinkName, LinuxKernel, MacAddr, Namespace, Place, Plan, Port, Resource,
    Route, VethPeer,
};
use serde_json::json;

use crate::REST;
use crate::chain::{Chained, chain};
use crate::config::bridge;
use crate::statistics::{in_turns, median, sorted};
use crate::table::Table;

/// A bridge has room for 1023.
const PODS: [u16; 5] = [0, 100, 250, 500, 1000];

/// Measures ADD and DEL with each number of pods, and prints a line for each.
pub(crate) fn measure(implementations: &[Implementation; 2], rounds: usize) {
    let floor = Floor::new();
    let sides = implementations.each_ref().map(Chained::new);
    let guests = [floor.node.pod("guest"), sides[0].node.pod("guest"), sides[1].node.pod("guest")];
    let mut there = 0;
    println!("{rounds} rounds; medians in milliseconds\n");
    println!("{:6} {:>29} {:>29}", "", "ADD", "DEL");
    let columns = ["kernel", "cnikit", "reference"];
    println!(
        "{:6} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "pods", columns[0], columns[1], columns[2], columns[0], columns[1], columns[2]
    );
    for pods in PODS {
        for number in there..pods {
            floor.add(&floor.node.pod(&format!("pod-{number}")), number);
            for side in &sides {
                side.add(&resident(side, number));
            }
        }
        there = pods;
        let mut adds: [Vec<f64>; 3] = Default::default();
        let mut dels: [Vec<f64>; 3] = Default::default();
        for round in 0..=rounds {
            for turn in 0..3 {
                let at = (round + turn) % 3;
                let (add, del) = visit(&floor, &sides, &guests[at], at, pods);
                // The first round is for the caches.
                if round > 0 {
                    adds[at].push(add);
                    dels[at].push(del);
                }
            }
        }
        let cells = [0, 2, 1].map(|at| median(&sorted(adds[at].clone())));
        let [kernel, ours, theirs] = cells;
        print!("{pods:6} {kernel:9.2} {ours:9.2} {theirs:9.2}");
        let [kernel, ours, theirs] = [0, 2, 1].map(|at| median(&sorted(dels[at].clone())));
        println!(" {kernel:9.2} {ours:9.2} {theirs:9.2}");
    }
}

/// Compares the calls of a pod that comes and goes on a node that has so many others, by a runtime that executes each plugin.
pub(crate) fn compare(
    implementations: &[Implementation; 2],
    pairs: usize,
    others: &[u16],
    table: &mut Table,
) {
    let kinds = [
        ("`bridge` with `host-local`", json!([bridge(json!({}))])),
        ("the same with `ipMasq`", json!([bridge(json!({"ipMasq": true}))])),
        ("`bridge`, `portmap`, `firewall`, `bandwidth`", chain()),
    ];
    for (name, configs) in kinds {
        table.section(&format!("{name}, by a runtime, as the node fills up"), "reference", "cnikit");
        let_the_kernel_come_to_rest();
        let sides = implementations.each_ref().map(|plugins| Chained::of(plugins, configs.clone()));
        let guests = sides.each_ref().map(|side| side.node.pod("guest"));
        let mut there = 0;
        for &pods in others {
            for number in there..pods {
                for side in &sides {
                    side.add(&resident(side, number));
                }
            }
            there = pods;
            let times = in_turns(pairs, |at| sides[at].visit(&guests[at], 20_000 + pods));
            for (verb, times) in ["ADD", "DEL"].iter().zip(&times) {
                table.row(&format!("{verb} beside {pods} pods"), times);
            }
        }
    }
}

/// The nodes of the last comparison are gone, and what was in them goes after them, under locks that all others wait for.
fn let_the_kernel_come_to_rest() {
    const AT_REST: Duration = Duration::from_millis(10);
    const LOOKS: usize = 20;
    let floor = Floor::new();
    let guest = floor.node.pod("guest");
    let mut quick = 0;
    let deadline = Instant::now() + Duration::from_secs(60);
    while quick < LOOKS && Instant::now() < deadline {
        let took = floor.add(&guest, 0).max(floor.del(&guest, 0));
        quick = if took < AT_REST { quick + 1 } else { 0 };
        std::thread::sleep(REST);
    }
}

/// One that comes and stays.
fn resident(side: &Chained, number: u16) -> Attachment {
    side.attachment(&side.node.pod(&format!("pod-{number}")), 20_000 + number, 1)
}

/// One that comes and goes: how long each took, in milliseconds.
fn visit(floor: &Floor, sides: &[Chained; 2], guest: &Pod, at: usize, pods: u16) -> (f64, f64) {
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    let rest = || std::thread::sleep(REST);
    if at == 0 {
        let add = floor.add(guest, pods);
        rest();
        let del = floor.del(guest, pods);
        rest();
        return (milliseconds(add), milliseconds(del));
    }
    let side = &sides[at - 1];
    let attachment = side.attachment(guest, 20_000 + pods, 1);
    let add = side.add(&attachment);
    rest();
    let del = side.del(&attachment);
    rest();
    (milliseconds(add), milliseconds(del))
}

/// A node on which nobody executes anything: cables are made and removed in process, with an address and a route.
struct Floor {
    node: Node,
}

impl Floor {
    fn new() -> Self {
        let node = Node::bare();
        node.inside(|| {
            let mut bridge = Link::new(name("cni0"), LinkKind::Bridge { vlan_filtering: false });
            bridge.mac = Some(MacAddr::new([2, 0, 0, 0, 0, 1]));
            bridge.up = true;
            for made in LinuxKernel::new(None).create(Place::Host, &[&Resource::Link(bridge)]) {
                made.expect("a bridge");
            }
        });
        Self { node }
    }

    fn add(&self, pod: &Pod, number: u16) -> Duration {
        self.timed(pod, |kernel| drop(cable(number).apply(kernel).expect("a cable")))
    }

    fn del(&self, pod: &Pod, number: u16) -> Duration {
        self.timed(pod, |kernel| assert!(cable(number).remove(kernel).is_empty()))
    }

    fn timed(&self, pod: &Pod, work: impl FnOnce(&mut LinuxKernel) + Send) -> Duration {
        self.node.inside(|| {
            let started = Instant::now();
            let namespace = Namespace::open(pod.path()).expect("the pod's namespace");
            work(&mut LinuxKernel::new(Some(namespace)).with_detached_removals());
            started.elapsed()
        })
    }
}

fn cable(number: u16) -> Plan {
    let (outside, inside) = (name(&format!("veth{number}")), name("eth0"));
    let peer = VethPeer { place: Place::Container, name: inside.clone(), mtu: None, mac: None };
    let mut veth = Link::new(outside.clone(), LinkKind::Veth { peer });
    veth.up = true;
    veth.master = Some(name("cni0"));
    veth.ignore_router_advertisements = true;
    let port =
        Port { link: outside, hairpin: true, isolated: false, vlans: Vec::new(), drop_default_vlan: false };
    let [high, low] = (number + 2).to_be_bytes();
    let address = format!("10.1.{high}.{low}/16").parse().expect("an address");
    let route = Route::new("0.0.0.0/0".parse().expect("a prefix"), "10.1.0.1".parse().ok(), inside.clone());
    let mut plan = Plan::new();
    plan.own(Place::Host, Resource::Link(veth))
        .own(Place::Host, Resource::Port(port))
        .own(Place::Container, Resource::Address(Address::new(inside.clone(), address)))
        .own(Place::Container, Resource::LinkUp(inside))
        .own(Place::Container, Resource::Route(route));
    plan
}

fn name(text: &str) -> LinkName {
    LinkName::new(text).expect("a name")
}
