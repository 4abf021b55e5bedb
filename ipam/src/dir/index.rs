//! The index of one boot: `.cnikit.<boot ID>/<container ID>:<interface>:<slot>`, hard links to the lease files.

use std::collections::{BTreeSet, HashSet};
use std::io::{self, Read, Write};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use super::at::{Directory, inode, modified};
use crate::boot::BootId;
use crate::lease::{Owner, lease_text};
use crate::store::StoreError;

/// Names of indexes begin with this. It sorts before every address, which makes the reference's DEL, a walk in the
/// order of names, remove the entry and then the lease.
pub(super) const PREFIX: &str = ".cnikit.";

/// An index under construction. No boot ID contains a `_`.
pub(super) const DRAFT: &str = ".cnikit._new";

/// The file whose modification time is that of the last look at many leases ([`super::sweep`]).
pub(super) const SWEPT: &str = "swept";

/// `full.N` holds the modification time that the lease directory had when set N was found full, and the set's
/// ranges.
const FULL: &str = "full.";

/// Names of entries that belong to no owner begin with this.
const OTHERS: char = '@';

#[derive(Debug)]
pub(super) struct Index {
    entries: Directory,
}

/// What is under the name of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Absent,
    /// The lease has gone without its entry, or never came: somebody removed it by hand, or died.
    Stale,
    /// The lease stands, and is this inode.
    Standing(u64),
}

impl Index {
    pub(super) fn name(boot: &BootId) -> String {
        format!("{PREFIX}{boot}")
    }

    pub(super) fn open(leases: &Directory, name: &str) -> Result<Option<Self>, StoreError> {
        Ok(leases.directory(name)?.map(|entries| Self { entries }))
    }

    pub(super) fn entries(&self) -> &Directory {
        &self.entries
    }

    /// A file that holds a lease for `owner`, but no address yet. `None` if this slot's lease stands.
    pub(super) fn draft(&self, owner: &Owner, slot: usize) -> Result<Option<Draft<'_>>, StoreError> {
        let name = entry_name(owner, slot);
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
        let create = || self.entries.file(&name, flags, Mode::S_IRUSR | Mode::S_IWUSR);
        let created = match create() {
            Err(Errno::EEXIST) if matches!(self.entry(owner, slot)?, Entry::Standing(_)) => return Ok(None),
            Err(Errno::EEXIST) => {
                self.entries.unlink(&name)?;
                create()
            }
            other => other,
        };
        let mut file = created.map_err(|errno| self.entries.error("create", &name, errno))?;
        let draft = Draft { index: self, name };
        match file.write_all(lease_text(owner).as_bytes()) {
            Ok(()) => Ok(Some(draft)),
            Err(error) => {
                let error = self.entries.error("write", &draft.name, error);
                let _ = draft.discard();
                Err(error)
            }
        }
    }

    pub(super) fn entry(&self, owner: &Owner, slot: usize) -> Result<Entry, StoreError> {
        Ok(match self.entries.stat(&entry_name(owner, slot))? {
            None => Entry::Absent,
            // The entry is one name of the inode; the lease is the other.
            Some(stat) if stat.st_nlink > 1 => Entry::Standing(inode(&stat)),
            Some(_) => Entry::Stale,
        })
    }

    /// The entries of an owner, slot by slot.
    pub(super) fn entries_of(&self, owner: &Owner) -> Result<Vec<Entry>, StoreError> {
        let mut entries = Vec::with_capacity(2);
        loop {
            match self.entry(owner, entries.len())? {
                Entry::Absent => return Ok(entries),
                entry => entries.push(entry),
            }
        }
    }

    /// Removes the stale entries at the end of the owner's slots. Only there: a gap would hide what is behind it.
    pub(super) fn tidy(&self, owner: &Owner) -> Result<(), StoreError> {
        let entries = self.entries_of(owner)?;
        let stale = entries.iter().enumerate().rev().take_while(|(_, entry)| **entry == Entry::Stale);
        for (slot, _) in stale {
            self.entries.unlink(&entry_name(owner, slot))?;
        }
        Ok(())
    }

    /// The same for all owners. Entries that name none are leases of others, under `@<address>`.
    pub(super) fn tidy_all(&self) -> Result<(), StoreError> {
        let mut owners = BTreeSet::new();
        let mut others = Vec::new();
        self.entries.for_each(|name, _| match owner_of(name) {
            Some(owner) => drop(owners.insert(owner)),
            None => others.extend(name.starts_with(OTHERS).then(|| name.to_owned())),
        })?;
        for owner in owners {
            self.tidy(&owner)?;
        }
        for other in others {
            if self.entries.stat(&other)?.is_some_and(|stat| stat.st_nlink == 1) {
                self.entries.unlink(&other)?;
            }
        }
        Ok(())
    }

    /// Adds a lease that somebody else wrote. What cannot be added (a full disk, a file system without hard links)
    /// merely outlives the boot.
    pub(super) fn adopt(&self, leases: &Directory, file: &str, owner: Option<&Owner>) {
        let name = match owner.map(|owner| (owner, self.free_slot(owner))) {
            Some((owner, Ok(slot))) => entry_name(owner, slot),
            Some((_, Err(_))) | None => format!("{OTHERS}{file}"),
        };
        let _ = leases.link(file, &self.entries, &name);
    }

    /// An owner's first slot without an entry. Somebody may have leaked a great many: those before it are not counted one by
    /// one, for none is missing among them.
    fn free_slot(&self, owner: &Owner) -> Result<usize, StoreError> {
        let is_taken = |slot| Ok(self.entry(owner, slot)? != Entry::Absent);
        let mut above = 0;
        while is_taken(above)? {
            above = 2 * above + 1;
        }
        // Half of it was taken.
        let mut below = above.div_ceil(2);
        while below < above {
            let middle = below.midpoint(above);
            if is_taken(middle)? {
                below = middle + 1;
            } else {
                above = middle;
            }
        }
        Ok(above)
    }

    /// Whether a note of this name is younger than a minute: a node whose range is full is asked for an address again
    /// and again. Listing 4000 leases takes more than a millisecond and looking at them six, under the lock; finding
    /// out whether somebody died in between can wait.
    pub(super) fn was_written_lately(&self, note: &str) -> bool {
        const INTERVAL: Duration = Duration::from_secs(60);

        let stat = self.entries.stat(note).ok().flatten();
        let written = stat.and_then(|stat| modified(&stat));
        // A note from the future is one from before the clock was set back, of whatever age.
        written
            .is_some_and(|written| SystemTime::now().duration_since(written).is_ok_and(|age| age < INTERVAL))
    }

    /// Whether this was [noted](Self::set_full) lately.
    pub(super) fn is_full(&self, set: usize, text: &str) -> bool {
        let name = format!("{FULL}{set}");
        let mut noted = String::new();
        self.was_written_lately(&name)
            && self
                .entries
                .file(&name, OFlag::O_RDONLY, Mode::empty())
                .is_ok_and(|mut file| file.read_to_string(&mut noted).is_ok())
            && noted == text
    }

    pub(super) fn set_full(&self, set: usize, text: &str) -> io::Result<()> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC;
        let mut file = self.entries.file(&format!("{FULL}{set}"), flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
        file.write_all(text.as_bytes())
    }

    /// The inodes of the leases that stand.
    pub(super) fn standing(&self) -> Result<HashSet<u64>, StoreError> {
        let mut names = Vec::new();
        self.entries.for_each(|name, _| names.push(name.to_owned()))?;
        let mut inodes = HashSet::with_capacity(names.len());
        for name in names {
            inodes
                .extend(self.entries.stat(&name)?.filter(|stat| stat.st_nlink > 1).map(|stat| inode(&stat)));
        }
        Ok(inodes)
    }
}

/// A lease without an address: an entry of the index that is about to get its second name.
#[derive(Debug)]
pub(super) struct Draft<'i> {
    index: &'i Index,
    name: String,
}

impl Draft<'_> {
    /// Gives the lease its name, which is its address. Fails with `EEXIST` if that is taken.
    pub(super) fn publish(&self, leases: &Directory, file: &str) -> Result<(), Errno> {
        self.index.entries.link(&self.name, leases, file)
    }

    pub(super) fn discard(self) -> Result<(), StoreError> {
        self.index.entries.unlink(&self.name)
    }
}

/// What `link` says on file systems that have none: `EPERM` (vfat), or not supported at all.
pub(super) fn no_hard_links(errno: Errno) -> bool {
    matches!(errno, Errno::EPERM | Errno::EOPNOTSUPP | Errno::ENOSYS)
}

/// Container IDs and interface names contain no `:`.
fn entry_name(owner: &Owner, slot: usize) -> String {
    format!("{}:{}:{slot}", owner.container_id(), owner.interface())
}

/// The owner in an entry's name.
fn owner_of(entry: &str) -> Option<Owner> {
    let (id, rest) = entry.split_once(':')?;
    let (interface, _slot) = rest.split_once(':')?;
    Owner::new(id, interface).ok()
}
