//! Removing what nobody holds.

use std::collections::HashSet;
use std::net::IpAddr;

use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag};

use super::at::Directory;
use super::index::{DRAFT, Index, PREFIX, SWEPT};
use super::read_holder;
use crate::lease::{Holder, address_of};
use crate::store::StoreError;

/// Starts the index of this boot: leases that an index of another boot knows are removed, the others adopted.
///
/// The caller has the lock. The index appears, complete, by a rename; if we die before that, the next one sweeps.
pub(super) fn begin_boot(leases: &Directory, index_name: &str) -> Result<usize, StoreError> {
    remove_index(leases, DRAFT)?;
    leases.make_directory(DRAFT)?;
    let draft = Index::open(leases, DRAFT)?;
    let removed = draft.map_or(Ok(0), |draft| sweep(leases, &draft, DRAFT))?;
    leases.rename(DRAFT, index_name)?;
    Ok(removed)
}

/// Looks at every lease: what is of another boot, or half written, is removed; what `index` does not know is adopted.
pub(super) fn sweep(leases: &Directory, index: &Index, index_name: &str) -> Result<usize, StoreError> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    let mut other_boots: Vec<String> = Vec::new();
    leases.for_each(|name, _| {
        if name.starts_with(PREFIX) && name != index_name {
            other_boots.push(name.to_owned());
        } else {
            addresses.extend(address_of(name));
        }
    })?;

    let mut outlived = HashSet::new();
    for name in &other_boots {
        // Something else under such a name is not ours, and no index.
        if let Ok(Some(other)) = Index::open(leases, name) {
            outlived.extend(other.standing()?);
        }
    }
    let known = index.standing()?;

    let mut removed = 0;
    for address in addresses {
        let file = address.to_string();
        let Some(stat) = leases.stat(&file)? else { continue };
        if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
            continue;
        }
        let holder = if outlived.contains(&stat.st_ino) {
            Holder::Nobody
        } else if known.contains(&stat.st_ino) {
            continue;
        } else {
            read_holder(leases, address)?.unwrap_or(Holder::Stranger)
        };
        match holder {
            Holder::Nobody => {
                leases.unlink(&file)?;
                removed += 1;
            }
            Holder::Attachment(owner) => index.adopt(leases, &file, Some(&owner))?,
            Holder::Container(_) => index.adopt(leases, &file, None)?,
            // No plugin wrote it, so no boot ends its life.
            Holder::Stranger => {}
        }
    }
    for name in &other_boots {
        remove_index(leases, name)?;
    }
    touch(index.entries())?;
    Ok(removed)
}

fn remove_index(leases: &Directory, name: &str) -> Result<(), StoreError> {
    let Ok(Some(index)) = Index::open(leases, name) else { return Ok(()) };
    let mut entries = Vec::new();
    index.entries().for_each(|entry, _| entries.push(entry.to_owned()))?;
    for entry in entries {
        index.entries().unlink(&entry)?;
    }
    leases.remove_directory(name)
}

fn touch(entries: &Directory) -> Result<(), StoreError> {
    entries.unlink(SWEPT)?;
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
    let created = entries.file(SWEPT, flags, Mode::S_IRUSR | Mode::S_IWUSR);
    created.map(drop).map_err(|errno| entries.error("create", SWEPT, errno))
}
