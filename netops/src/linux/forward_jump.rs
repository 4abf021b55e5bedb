//! The way through the host's own packet filter, in each of the variants of `iptables` that are in use: the legacy one,
//! if it has rules; the one in nf_tables, if it is there or the other has none.

mod legacy;

#[cfg(any(test, feature = "fuzzing"))]
pub(super) use legacy::read_as_table;

use super::{LinuxKernel, nft, refused};
use crate::error::{Error, Operation};
use crate::kernel::Created;
use crate::place::Place;
use crate::resource::ForwardJump;

/// Whether it is there.
pub(super) fn look(kernel: &mut LinuxKernel, place: Place, jump: &ForwardJump) -> Result<bool, Error> {
    let refuse = |refusal| refused(Operation::Read, place, &jump.to_string(), refusal);
    match kernel.side(place)?.within(|| legacy::look(jump))?.map_err(refuse)? {
        Some(missing) if !missing.is_empty() => Ok(false),
        Some(_) if !is_in_tables(kernel, place, jump, Operation::Read)? => Ok(true),
        _ => nft::iptables::look(kernel, place, jump, Operation::Read),
    }
}

/// Makes it.
pub(super) fn create(kernel: &mut LinuxKernel, place: Place, jump: &ForwardJump) -> Result<Created, Error> {
    let refuse = |refusal| refused(Operation::Create, place, &jump.to_string(), refusal);
    match kernel.side(place)?.within(|| legacy::create(jump))?.map_err(refuse)? {
        Some(legacy) if !is_in_tables(kernel, place, jump, Operation::Create)? => Ok(legacy),
        Some(Created::New) => nft::iptables::create(kernel, place, jump).map(|_| Created::New),
        _ => nft::iptables::create(kernel, place, jump),
    }
}

/// Whether the variant in nf_tables is in use.
fn is_in_tables(
    kernel: &mut LinuxKernel,
    place: Place,
    jump: &ForwardJump,
    operation: Operation,
) -> Result<bool, Error> {
    Ok(nft::foreign::exist(kernel, place, &[&nft::iptables::entry(jump)], operation)? == [true])
}
