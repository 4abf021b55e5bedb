//! Source NAT for one address, made and listed by other means than `nft`, in a namespace that ends with this program.
//!
//! ```sh
//! cargo build --example masquerade && unshare --user --map-root-user --net target/*/debug/examples/masquerade
//! ```

use std::error::Error;
use std::process::Command;

use netops::{EntryKind, LinuxKernel, Mark, Masquerade, Namespace, Place, Plan, Resource, read_entries};

fn main() -> Result<(), Box<dyn Error>> {
    Namespace::create()?.enter(|| {
        let mut plan = Plan::new();
        plan.own(
            Place::Host,
            Resource::from(Masquerade {
                source: "10.22.0.5".parse()?,
                within: "10.22.0.0/16".parse()?,
                mark: Mark::new("the example's")?,
            }),
        );
        let mut kernel = LinuxKernel::new(None);
        plan.apply(&mut kernel)?;
        for entry in read_entries(&mut kernel, &[EntryKind::Masquerade])? {
            println!("{entry}: {}", entry.mark());
        }
        // The same as a person sees it, if nft is here.
        let _ = Command::new("nft").args(["list", "ruleset"]).status();
        match plan.remove(&mut kernel).into_iter().next() {
            Some(failure) => Err(failure.into()),
            None => Ok(()),
        }
    })?
}
