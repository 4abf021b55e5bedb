//! Prints what attaching a container to a bridge comes to, as the commands that a person would type.
//!
//! ```console
//! $ cargo run --example explain
//! ```

use std::error::Error;

use netops::{
    Address, Link, LinkKind, LinkName, MacAddr, Mark, Masquerade, Place, Plan, Resource, Route, Script,
    Sysctl, SysctlKey, VethPeer,
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut script = Script::new("blue");
    attachment()?.apply(&mut script)?;
    print!("{script}");
    Ok(())
}

/// A container with an address of its own on the node's bridge, and a way out.
fn attachment() -> Result<Plan, Box<dyn Error>> {
    let (bridge, host_end, eth0) =
        (LinkName::new("cni0")?, LinkName::new("veth0a1b2c3d")?, LinkName::new("eth0")?);
    let mark = Mark::new("cnikit: network demo, container blue, interface eth0")?;
    let mut plan = Plan::new();

    // What all containers of the node share.
    let mut switch = Link::new(bridge.clone(), LinkKind::Bridge { vlan_filtering: false });
    switch.mac = Some(MacAddr::new([0x02, 0, 0, 0, 0, 0x01]));
    switch.up = true;
    plan.share(Place::Host, Resource::Link(switch))
        .share(Place::Host, Resource::Address(Address::new(bridge.clone(), "10.22.0.1/16".parse()?)))
        .share(Place::Host, Resource::Sysctl(Sysctl::new(SysctlKey::ipv4_forwarding(), 1)));

    // What is this container's alone.
    let peer = VethPeer { place: Place::Container, name: eth0.clone(), mtu: None, mac: None };
    let mut cable = Link::new(host_end, LinkKind::Veth { peer });
    cable.master = Some(bridge);
    cable.mark = Some(mark.clone());
    cable.up = true;
    plan.own(Place::Host, Resource::Link(cable));
    plan.own(Place::Container, Resource::LinkUp(eth0.clone()));
    plan.own(Place::Container, Resource::Address(Address::new(eth0.clone(), "10.22.0.5/16".parse()?)));
    plan.own(
        Place::Container,
        Resource::Route(Route::new("0.0.0.0/0".parse()?, Some("10.22.0.1".parse()?), eth0)),
    );
    plan.own(
        Place::Host,
        Resource::from(Masquerade { source: "10.22.0.5".parse()?, within: "10.22.0.0/16".parse()?, mark }),
    );
    Ok(plan)
}
