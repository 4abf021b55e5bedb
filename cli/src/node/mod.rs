//! What is on this node: read from the kernel, from host-local's leases, and from the runtimes' result caches. And what
//! was lost of it, made again.

mod attachments;
mod leases;
mod networks;
mod repair;

pub(crate) use self::attachments::{Attachment, Sources, address_in_use, attachments};
pub(crate) use self::leases::{Store, Usage};
pub(crate) use self::networks::Networks;
pub(crate) use self::repair::{Repairs, repair};
