//! Two network namespaces joined by a virtual cable, an address on each end, and a connection through it. No CNI, no
//! `ip`. Run as root, or as anyone in a user namespace:
//!
//! ```sh
//! cargo build --example veth_pair && unshare --user --map-root-user --net target/*/debug/examples/veth_pair
//! ```

use std::error::Error;
use std::net::{TcpListener, TcpStream};

use netops::{Address, Link, LinkKind, LinkName, LinuxKernel, Namespace, Place, Plan, Resource, VethPeer};

fn main() -> Result<(), Box<dyn Error>> {
    // They end with this program; `Namespace::create_named` makes one that stays.
    let (left, right) = (Namespace::create()?, Namespace::create()?);
    let there = left.enter(|| -> Result<_, Box<dyn Error>> {
        // For a kernel value that is used in here, "the host" is the left one.
        let mut kernel = LinuxKernel::new(Some(right.try_clone()?));
        let plan = cable()?;
        let applied = plan.apply(&mut kernel)?;
        for difference in plan.check(&mut kernel)? {
            println!("{difference}");
        }
        drop(applied); // or `applied.undo(&mut kernel)`
        Ok(TcpListener::bind("192.0.2.1:0")?)
    })??;
    let address = there.local_addr()?;
    let client = right.enter(|| TcpStream::connect(address))??;
    let (_server, seen) = there.accept()?;
    println!("{} reached {address} and was seen as {seen}", client.local_addr()?);
    Ok(())
}

/// `left` 192.0.2.1/24 ─── `right` 192.0.2.2/24
fn cable() -> Result<Plan, Box<dyn Error>> {
    let (left, right) = (LinkName::new("left")?, LinkName::new("right")?);
    let peer = VethPeer { place: Place::Container, name: right.clone(), mtu: None, mac: None };
    let mut veth = Link::new(left.clone(), LinkKind::Veth { peer });
    veth.up = true;
    let mut plan = Plan::new();
    plan.own(Place::Host, Resource::Link(veth))
        .own(Place::Host, Resource::Address(Address::new(left, "192.0.2.1/24".parse()?)))
        .own(Place::Container, Resource::Address(Address::new(right.clone(), "192.0.2.2/24".parse()?)))
        .own(Place::Container, Resource::LinkUp(right));
    Ok(plan)
}
