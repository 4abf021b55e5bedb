//! Namespaces without names, and how others find them.

use std::os::fd::{AsFd, AsRawFd};

use netops::{LinkName, LinuxKernel, Namespace, Place, read_link};

use crate::exit::Exit;
use crate::failure::Failure;

/// A path to a namespace that has none: by the descriptor that keeps it alive. It leads there from other processes
/// too, `nsenter` for one.
pub(super) fn path_of(namespace: &Namespace) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), namespace.as_fd().as_raw_fd())
}

/// An interface's name.
pub(super) fn link_name(name: &str) -> Result<LinkName, Failure> {
    LinkName::new(name).map_err(|error| Failure::new(Exit::Failed, error.to_string()))
}

/// Has the kernel take note of a cable that was plugged into a bridge of the calling thread's namespace. It does so when
/// it finds the time, or is asked (`rtnl_getlink()`); on a busy machine the time is long, and the bridge passes nothing on
/// until then.
pub(super) fn take_note(host_end: &str) -> Result<(), Failure> {
    read_link(&mut LinuxKernel::new(None), Place::Host, &link_name(host_end)?)?;
    Ok(())
}
