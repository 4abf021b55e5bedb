//! What a pod costs the kernel: its veth on a bridge, address, default route and masquerade, made and removed a
//! hundred times. Run as root; all happens in namespaces of its own.
//!
//! ```sh
//! cargo run --release --example pod_cost
//! ```

use std::error::Error;
use std::time::{Duration, Instant};

use netops::{
    Address, Kernel, Link, LinkKind, LinkName, LinuxKernel, MacAddr, Mark, Masquerade, Namespace, Place,
    Plan, Port, Resource, Route, VethPeer,
};

fn main() -> Result<(), Box<dyn Error>> {
    let rounds = std::env::args().nth(1).map_or(Ok(100), |text| text.parse())?;
    // Everything below happens on this thread.
    let host = Namespace::create()?;
    host.enter(|| measure(rounds))?
}

fn measure(rounds: usize) -> Result<(), Box<dyn Error>> {
    let mut bridge = Link::new(LinkName::new("cni0")?, LinkKind::Bridge { vlan_filtering: false });
    bridge.mac = Some(MacAddr::new([2, 0, 0, 0, 0, 1]));
    bridge.up = true;
    for result in LinuxKernel::new(None).create(Place::Host, &[&Resource::Link(bridge)]) {
        result?;
    }
    let (mut adds, mut removals) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let container = Namespace::create_named("/run/netns", "netops-pod-cost")?;
        let plan = plan()?;

        let started = Instant::now();
        let mut kernel = LinuxKernel::new(Some(Namespace::open(container.path())?));
        plan.apply(&mut kernel)?;
        drop(kernel);
        adds.push(started.elapsed());

        let started = Instant::now();
        let mut kernel = LinuxKernel::new(Some(Namespace::open(container.path())?)).with_detached_removals();
        let failures = plan.remove(&mut kernel);
        drop(kernel);
        removals.push(started.elapsed());

        Namespace::remove(container.path())?;
        // The kernel is still cleaning up behind it.
        std::thread::sleep(Duration::from_millis(50));
        if let Some(failure) = failures.into_iter().next() {
            return Err(failure.into());
        }
    }
    print("apply ", adds);
    print("remove", removals);
    Ok(())
}

fn plan() -> Result<Plan, Box<dyn Error>> {
    let (outside, inside) = (LinkName::new("veth0")?, LinkName::new("eth0")?);
    let mark = Mark::new("pod-cost")?;
    let peer = VethPeer { place: Place::Container, name: inside.clone(), mtu: None, mac: None };
    let mut veth = Link::new(outside.clone(), LinkKind::Veth { peer });
    veth.up = true;
    veth.master = Some(LinkName::new("cni0")?);
    veth.mark = Some(mark.clone());
    veth.ignore_router_advertisements = true;
    let port =
        Port { link: outside, hairpin: true, isolated: false, vlans: Vec::new(), drop_default_vlan: false };
    let masquerade = Masquerade { source: "10.22.0.5".parse()?, within: "10.22.0.0/16".parse()?, mark };
    let gateway = Some("10.22.0.1".parse()?);
    let mut plan = Plan::new();
    plan.own(Place::Host, Resource::Link(veth))
        .own(Place::Host, Resource::Port(port))
        .own(Place::Container, Resource::Address(Address::new(inside.clone(), "10.22.0.5/16".parse()?)))
        .own(Place::Container, Resource::LinkUp(inside.clone()))
        .own(Place::Container, Resource::Route(Route::new("0.0.0.0/0".parse()?, gateway, inside)))
        .own(Place::Host, Resource::from(masquerade));
    Ok(plan)
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort();
    if let (Some(least), Some(median), Some(most)) = (times.first(), times.get(times.len() / 2), times.last())
    {
        println!("{what}  median {median:?}, from {least:?} to {most:?}");
    }
}
