//! Leases addresses in a directory, as host-local does, and shows who has what.
//!
//! ```text
//! lease DATA_DIR NETWORK SUBNET... acquire CONTAINER
//! lease DATA_DIR NETWORK SUBNET... release CONTAINER
//! lease DATA_DIR NETWORK SUBNET... list
//! ```

use std::error::Error;
use std::path::Path;

use ipam::{BootId, DirStore, Owner, Pool, Range, RangeSet, acquire, leases, release, usage};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (data_dir, network, subnets, container) = match arguments[..] {
        [data_dir, network, ref subnets @ .., verb @ ("acquire" | "release"), container] => {
            (data_dir, network, subnets, Some((verb, container)))
        }
        [data_dir, network, ref subnets @ .., "list"] => (data_dir, network, subnets, None),
        _ => {
            return Err(
                "usage: lease DATA_DIR NETWORK SUBNET... acquire CONTAINER | release CONTAINER | list".into(),
            );
        }
    };

    let sets = subnets.iter().map(|subnet| -> Result<RangeSet, Box<dyn Error>> {
        Ok(RangeSet::new(vec![Range::new(subnet.parse()?, None, None, None)?])?)
    });
    let pool = Pool::new(sets.collect::<Result<_, _>>()?)?;
    let store = DirStore::create(Path::new(data_dir), network, &BootId::current()?)?;

    match container {
        Some(("acquire", container)) => {
            let reservation = acquire(&store, &pool, &Owner::new(container, "eth0")?, &[])?;
            // Here a plugin would create links. If that fails, the reservation is dropped, and nothing was leased.
            for assigned in reservation.commit() {
                println!("{}", assigned.address);
            }
        }
        Some((_, container)) => {
            for address in release(&store, &Owner::new(container, "eth0")?, &[])? {
                println!("{address} is free");
            }
        }
        None => {
            for lease in leases(&store)? {
                println!("{:<24} {}", lease.address, lease.holder);
            }
            for (set, usage) in pool.sets().iter().zip(usage(&store, &pool)?) {
                println!("{set}: {} of {} free", usage.free(), usage.total);
            }
        }
    }
    Ok(())
}
