//! What it takes to make the ways to many machines: from nothing, again with nothing to do, and when one of them moves.
//!
//! ```text
//! cargo run --release -p cnikit-netops --example many_peers -- 1000 10000
//! ```
//!
//! Each machine is a next hop, a neighbour, an FDB entry, an IPv4 and an IPv6 route, in a namespace of the example's own. Needs
//! root.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use netops::{
    Address, DontFragment, FdbEntry, Link, LinkKind, LinkName, LinuxKernel, MacAddr, NeighbourEntry, NextHop,
    Place, Plan, Reconciled, Reconciler, Resource, Route, RouteTarget, Scope, Via, Vxlan,
};
use nix::sched::{CloneFlags, unshare};

const PROTOCOL: u8 = 87;
const ROUNDS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let numbers: Vec<u32> = std::env::args().skip(1).map(|word| word.parse()).collect::<Result<_, _>>()?;
    println!("milliseconds, in brackets those on a processor; the best of {ROUNDS}");
    print!("{:>8}", "machines");
    ["from empty", "unchanged", "remembered", "one moved", "all gone"]
        .iter()
        .for_each(|what| print!("{what:>19}"));
    println!();
    for number in if numbers.is_empty() { vec![1000, 10_000] } else { numbers } {
        let mut best = [(Duration::MAX, Duration::MAX); 5];
        for _ in 0..ROUNDS {
            // A namespace of its own for each round: the one before goes with all that is in it.
            unshare(CloneFlags::CLONE_NEWNET)?;
            for (best, time) in best.iter_mut().zip(round(number)?) {
                *best = (time.0.min(best.0), time.1.min(best.1));
            }
        }
        print!("{number:>8}");
        for (time, on_processor) in best {
            print!("{:>10.1} ({:>6.1})", time.as_secs_f64() * 1000.0, on_processor.as_secs_f64() * 1000.0);
        }
        println!();
    }
    Ok(())
}

/// How long this thread has had a processor: what others take on a busy machine is not in it.
fn on_processor() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0))
}

fn round(number: u32) -> Result<[(Duration, Duration); 5], Box<dyn Error>> {
    let link = LinkName::new("tun0")?;
    let scope =
        Scope { protocol: PROTOCOL, next_hops: 1..=u32::MAX, links: vec![link.clone()], tables: vec![254] };
    let mut kernel = LinuxKernel::new(None);
    let mut reconciler = Reconciler::new(scope);
    fixtures(&link)?.reconcile(&mut kernel, reconciler.scope())?;
    let all = plan(&link, number, None)?;
    let moved = plan(&link, number, Some(number / 2))?;
    let mut timed = |plan: &Plan, forget: bool, expected: usize| {
        if forget {
            reconciler.forget();
        }
        let start = (Instant::now(), on_processor());
        let Reconciled { failures, made, changed, removed, .. } = reconciler.reconcile(plan, &mut kernel)?;
        let time = (start.0.elapsed(), on_processor().saturating_sub(start.1));
        match failures.into_iter().next() {
            Some(failure) => Err(Box::<dyn Error>::from(failure)),
            None if made + changed + removed != expected => Err("not as many as there should be".into()),
            None => Ok(time),
        }
    };
    let objects = 5 * number as usize;
    Ok([
        timed(&all, true, objects)?,
        timed(&all, true, 0)?,
        timed(&all, false, 0)?,
        timed(&moved, false, 1)?,
        timed(&fixtures(&link)?, false, objects)?,
    ])
}

fn fixtures(link: &LinkName) -> Result<Plan, Box<dyn Error>> {
    let vxlan = Vxlan { vni: 7, port: 8472, local: None, dont_fragment: DontFragment::Unset };
    let tunnel = Link { up: true, ..Link::new(link.clone(), LinkKind::Vxlan(vxlan)) };
    let address = Address::new(link.clone(), "10.255.0.1/32".parse()?);
    let mut plan = Plan::new();
    plan.share(Place::Host, Resource::Link(tunnel)).share(Place::Host, Resource::Address(address));
    Ok(plan)
}

/// The ways to some machines, one of which may have moved.
fn plan(link: &LinkName, machines: u32, moved: Option<u32>) -> Result<Plan, Box<dyn Error>> {
    let mut plan = fixtures(link)?;
    for number in 1..=machines {
        let remote = 0xc000_0000 + number + if moved == Some(number) { 1 << 16 } else { 0 };
        let gateway = IpAddr::from(Ipv6Addr::from((0xfe80_u128 << 112) | u128::from(number)));
        let [a, b, c, d] = number.to_be_bytes();
        let mac = MacAddr::new([2, 0, a, b, c, d]);
        let via = Via::Gateway { address: gateway, link: link.clone(), onlink: true };
        let neighbour = NeighbourEntry { link: link.clone(), address: gateway, mac, protocol: PROTOCOL };
        plan.own(Place::Host, NextHop { id: number, via, protocol: PROTOCOL }.into())
            .own(Place::Host, neighbour.into())
            .own(
                Place::Host,
                FdbEntry { link: link.clone(), mac, remote: Ipv4Addr::from(remote).into() }.into(),
            );
        let v4 = IpNet::new(Ipv4Addr::from(0x0a00_0000 + (number << 8)).into(), 24)?;
        let v6 = Ipv6Addr::from((0xfd00_u128 << 112) | (u128::from(number) << 64));
        for destination in [v4, IpNet::new(v6.into(), 64)?] {
            let route = Route::to(destination, RouteTarget::NextHop(number));
            plan.own(Place::Host, Route { protocol: Some(PROTOCOL), ..route }.into());
        }
    }
    Ok(plan)
}
