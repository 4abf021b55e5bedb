//! The way through the host's own packet filter, in each of the variants of `iptables` that are in use.

use super::{LinuxKernel, nft};
use crate::error::{Error, Operation};
use crate::kernel::Created;
use crate::place::Place;
use crate::resource::ForwardJump;

/// Whether it is there.
pub(super) fn look(kernel: &mut LinuxKernel, place: Place, jump: &ForwardJump) -> Result<bool, Error> {
    nft::iptables::look(kernel, place, jump, Operation::Read)
}

/// Makes it.
pub(super) fn create(kernel: &mut LinuxKernel, place: Place, jump: &ForwardJump) -> Result<Created, Error> {
    nft::iptables::create(kernel, place, jump)
}
