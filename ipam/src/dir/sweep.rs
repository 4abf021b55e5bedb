//! Removing what nobody holds. The caller has the lock throughout.

use std::collections::HashSet;
use std::net::IpAddr;

use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, Mode, SFlag};

use super::at::{Directory, inode};
use super::index::{DRAFT, Index, PREFIX, SWEPT};
use super::read_holder;
use crate::lease::{Holder, address_of};
use crate::store::StoreError;

/// Begins the index of this boot: leases that an index of another boot knows are removed, all others adopted.
///
/// The index appears, complete, by a rename; whoever dies before that leaves the work to the next.
pub(super) fn begin_boot(leases: &Directory, index_name: &str) -> Result<usize, StoreError> {
    discard_index(leases, DRAFT)?;
    leases.make_directory(DRAFT)?;
    let Some(draft) = Index::open(leases, DRAFT)? else {
        return Err(leases.error("open", DRAFT, std::io::ErrorKind::NotFound));
    };
    let (addresses, other_boots) = contents(leases)?;
    let mut outlived = HashSet::new();
    for other in &other_boots {
        if let Some(index) = Index::open(leases, other)? {
            outlived.extend(index.standing()?);
        }
    }

    let looked_at = addresses.len();
    let mut removed = 0;
    for address in addresses {
        match leases.stat(&address.to_string())? {
            Some(stat) if outlived.contains(&inode(&stat)) => removed += unlink(leases, address),
            Some(stat) => removed += examine(leases, &draft, address, &stat),
            None => {}
        }
    }
    for other in &other_boots {
        // What cannot be removed is tried again at the next boot.
        let _ = discard_index(leases, other);
    }
    remember(&draft, looked_at)?;
    // Something under our name that is no directory: the rename would fail for ever.
    leases.unlink(index_name)?;
    leases.rename(DRAFT, index_name)?;
    Ok(removed)
}

/// Removes half-written leases, unless that was tried a moment ago.
pub(super) fn reclaim(leases: &Directory, index: &Index) -> Result<usize, StoreError> {
    if index.was_written_lately(SWEPT) {
        return Ok(0);
    }
    let (addresses, _) = contents(leases)?;
    let looked_at = addresses.len();
    let mut removed = 0;
    for address in addresses {
        // A lease in the index was complete before it got its name.
        if let Some(stat) = leases.stat(&address.to_string())?
            && stat.st_nlink == 1
        {
            removed += examine(leases, index, address, &stat);
        }
    }
    remember(index, looked_at)?;
    Ok(removed)
}

/// Reads a lease that is not in the index. Removes it if nobody holds it, adds it to the index if somebody does: so
/// the end of this boot will be its end. Returns how many it removed.
fn examine(leases: &Directory, index: &Index, address: IpAddr, stat: &FileStat) -> usize {
    if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return 0;
    }
    match read_holder(leases, address) {
        Ok(Some(Holder::Nobody)) => return unlink(leases, address),
        Ok(Some(Holder::Attachment(owner))) => index.adopt(leases, &address.to_string(), Some(&owner)),
        Ok(Some(Holder::Container(_))) => index.adopt(leases, &address.to_string(), None),
        // No plugin wrote it, so no boot ends its life.
        Ok(Some(Holder::Stranger | Holder::Unreadable) | None) | Err(_) => {}
    }
    0
}

/// Returns how many it removed. One that cannot be removed (immutable, say) stays taken; that is no reason to lease
/// nothing at all.
fn unlink(leases: &Directory, address: IpAddr) -> usize {
    usize::from(leases.unlink(&address.to_string()).is_ok())
}

/// The leases, and the names of all indexes but the draft.
fn contents(leases: &Directory) -> Result<(Vec<IpAddr>, Vec<String>), StoreError> {
    let mut addresses = Vec::new();
    let mut indexes = Vec::new();
    leases.for_each(|name, _| {
        if name.starts_with(PREFIX) && name != DRAFT {
            indexes.push(name.to_owned());
        } else {
            addresses.extend(address_of(name));
        }
    })?;
    Ok((addresses, indexes))
}

fn discard_index(leases: &Directory, name: &str) -> Result<(), StoreError> {
    let Some(index) = Index::open(leases, name)? else {
        return leases.unlink(name);
    };
    let mut entries = Vec::new();
    index.entries().for_each(|entry, _| entries.push(entry.to_owned()))?;
    for entry in entries {
        index.entries().unlink(&entry)?;
    }
    leases.remove_directory(name)
}

/// Remembers that all leases have just been looked at, if there were so many that it took time.
fn remember(index: &Index, looked_at: usize) -> Result<(), StoreError> {
    /// Half a millisecond's worth.
    const FEW: usize = 300;

    let entries = index.entries();
    entries.unlink(SWEPT)?;
    if looked_at <= FEW {
        return Ok(());
    }
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
    let created = entries.file(SWEPT, flags, Mode::S_IRUSR | Mode::S_IWUSR);
    created.map(drop).map_err(|errno| entries.error("create", SWEPT, errno))
}
