//! What is on this node: read from the kernel, from host-local's leases, and from the runtimes' result caches.

mod attachments;
mod leases;
mod networks;

pub(crate) use self::attachments::{Attachment, Sources, address_in_use, attachments};
pub(crate) use self::leases::{Store, Usage};
pub(crate) use self::networks::Networks;
