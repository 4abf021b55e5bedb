//! host-local's directory: one file per lease.

mod at;
mod index;
mod sweep;

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use self::at::Directory;
use self::index::{Draft, Entry, Index};
use crate::boot::BootId;
use crate::lease::{Holder, Lease, Owner, address_of, lease_text};
use crate::pool::RangeSet;
use crate::store::{Claim, LeaseStore, LeaseTable, StoreError};

/// The leases of one network in host-local's own on-disk format, shared with host-local if it runs too.
///
/// `<data dir>/<network>/` holds a file per lease, named after the address, with the content
/// `<container ID>\r\n<interface>`; `last_reserved_ip.<N>` with the address that set N gave last; and `lock`, on which
/// everybody takes an exclusive `flock` for the time of one operation. The [crate's front page](crate) tells what is
/// added to that and why.
#[derive(Debug)]
pub struct DirStore {
    directory: Directory,
    index_name: String,
}

impl DirStore {
    /// Where host-local keeps its networks unless told otherwise.
    pub const DEFAULT_DATA_DIR: &str = "/var/lib/cni/networks";

    /// The store of `network` under `data_dir`; directories that are missing are created (mode 0755).
    ///
    /// # Errors
    ///
    /// [`StoreError::NetworkName`] if the name could lead out of `data_dir`, or if a directory cannot be opened or
    /// created.
    pub fn create(data_dir: &Path, network: &str, boot: &BootId) -> Result<Self, StoreError> {
        match Self::open(data_dir, network, boot) {
            Err(error) if error.is_not_found() => {
                let path = data_dir.join(network);
                let made = DirBuilder::new().recursive(true).mode(0o755).create(&path);
                made.map_err(|source| StoreError::Io { operation: "create", path, source })?;
                Self::open(data_dir, network, boot)
            }
            opened => opened,
        }
    }

    /// The store of `network` under `data_dir`, if there is one.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create), and [`StoreError::is_not_found`] if nothing was ever leased in this network.
    pub fn open(data_dir: &Path, network: &str, boot: &BootId) -> Result<Self, StoreError> {
        if matches!(network, "" | "." | "..") || network.contains(['/', '\0']) {
            return Err(StoreError::NetworkName { name: network.into() });
        }
        let directory = Directory::open(data_dir.join(network))?;
        Ok(Self { directory, index_name: Index::name(boot) })
    }

    /// The networks that have a store under `data_dir`, by name. None if there is no such directory.
    ///
    /// # Errors
    ///
    /// If the directory cannot be listed.
    pub fn networks(data_dir: &Path) -> Result<Vec<String>, StoreError> {
        let error = |source| StoreError::Io { operation: "list", path: data_dir.into(), source };
        let entries = match std::fs::read_dir(data_dir) {
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(error)?,
        };
        let mut networks = Vec::new();
        for entry in entries {
            let entry = entry.map_err(error)?;
            if entry.path().is_dir() {
                networks.extend(entry.file_name().into_string());
            }
        }
        networks.sort_unstable();
        Ok(networks)
    }

    /// The directory of this network.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl LeaseStore for DirStore {
    fn lock(&self) -> Result<Box<dyn LeaseTable + '_>, StoreError> {
        const LOCK: &str = "lock";
        let flags = OFlag::O_RDONLY | OFlag::O_CREAT;
        let file = self.directory.file(LOCK, flags, Mode::from_bits_truncate(0o750));
        let lock = file.map_err(|errno| self.directory.error("open", LOCK, errno))?;
        loop {
            match lock.lock() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.directory.error("lock", LOCK, error)),
                Ok(()) => break,
            }
        }
        Ok(Box::new(DirTable {
            directory: &self.directory,
            index_name: &self.index_name,
            _lock: lock,
            index: OnceCell::new(),
            last_reserved: BTreeMap::new(),
        }))
    }
}

struct DirTable<'s> {
    directory: &'s Directory,
    index_name: &'s str,
    /// Closing it unlocks: nobody else has this open file description.
    _lock: File,
    /// The index of this boot, once it has been opened.
    index: OnceCell<Index>,
    /// `last_reserved_ip.N` and its length, kept open between reading and writing.
    last_reserved: BTreeMap<usize, (File, usize)>,
}

impl DirTable<'_> {
    /// The index of this boot, if it has been begun.
    fn index(&self) -> Result<Option<&Index>, StoreError> {
        if self.index.get().is_none()
            && let Some(index) = Index::open(self.directory, self.index_name)?
        {
            return Ok(Some(self.index.get_or_init(|| index)));
        }
        Ok(self.index.get())
    }

    /// The inodes of the owner's leases, as far as the index knows them. A damaged index knows nothing: it must not
    /// keep a lease from being released.
    fn indexed(&self, owner: &Owner) -> Vec<u64> {
        let entries = match self.index() {
            Ok(Some(index)) => index.entries_of(owner).unwrap_or_default(),
            _ => Vec::new(),
        };
        let inode = |entry| if let Entry::Standing(inode) = entry { Some(inode) } else { None };
        entries.into_iter().filter_map(inode).collect()
    }
}

impl LeaseTable for DirTable<'_> {
    fn claim(
        &mut self,
        owner: &Owner,
        slot: usize,
        candidates: &mut dyn Iterator<Item = IpAddr>,
    ) -> Result<Claim, StoreError> {
        if self.index()?.is_none() {
            // The first lease of a boot ends those of the last one.
            sweep::begin_boot(self.directory, self.index_name)?;
        }
        let Some(index) = self.index()? else {
            return Err(self.directory.error("open", self.index_name, Errno::ENOENT));
        };
        let Some(draft) = index.draft(owner, slot)? else {
            return Ok(Claim::Duplicate);
        };
        for address in candidates {
            match publish(self.directory, &draft, owner, &address.to_string()) {
                Ok(Published::Linked) => return Ok(Claim::Won(address)),
                Ok(Published::Copied) => return draft.discard().map(|()| Claim::Won(address)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    let error = self.directory.error("create", &address.to_string(), error);
                    // If it stays, it is a stale entry: harmless.
                    let _ = draft.discard();
                    return Err(error);
                }
            }
        }
        draft.discard().map(|()| Claim::AllTaken)
    }

    fn remove(&mut self, gone: &[Lease]) -> Result<(), StoreError> {
        let mut outcome = Ok(());
        for lease in gone {
            let unlinked = self.directory.unlink(&lease.address.to_string());
            outcome = outcome.and(unlinked);
        }
        let mut owners: Vec<&Owner> = gone.iter().filter_map(Lease::owner).collect();
        owners.dedup();
        for owner in owners {
            // What stays is the next one's work, who must hear of it.
            let tidied = self.tidy(Some(owner));
            outcome = outcome.and(tidied);
        }
        outcome
    }

    fn tidy(&mut self, owner: Option<&Owner>) -> Result<(), StoreError> {
        match (self.index()?, owner) {
            (Some(index), Some(owner)) => index.tidy(owner),
            (Some(index), None) => index.tidy_all(),
            (None, _) => Ok(()),
        }
    }

    fn addresses(&mut self) -> Result<Vec<IpAddr>, StoreError> {
        let mut addresses = Vec::new();
        self.directory.for_each(|name, _| addresses.extend(address_of(name)))?;
        Ok(addresses)
    }

    fn lease(&mut self, address: IpAddr) -> Result<Option<Lease>, StoreError> {
        Ok(read_holder(self.directory, address)?.map(|holder| Lease { address, holder }))
    }

    fn known_leases(&mut self, owner: &Owner) -> usize {
        self.indexed(owner).len()
    }

    fn held_by(&mut self, owner: &Owner) -> Result<Vec<Lease>, StoreError> {
        let mut inodes = self.indexed(owner);
        inodes.sort_unstable();
        let mut found = Vec::with_capacity(inodes.len());
        if !inodes.is_empty() {
            self.directory.for_each(|name, inode| {
                if inodes.binary_search(&inode).is_ok() {
                    found.extend(address_of(name));
                }
            })?;
        }
        let mut leases = Vec::with_capacity(found.len());
        for address in found {
            leases.extend(self.lease(address)?.filter(|lease| lease.is_held_by(owner)));
        }
        // Some stacked file systems list other inode numbers than they stat; and what the reference wrote after the
        // index was begun is not in it.
        if leases.is_empty() || leases.len() < inodes.len() {
            leases = LeaseTable::leases(self)?;
            leases.retain(|lease| lease.is_held_by(owner));
        }
        Ok(leases)
    }

    fn last_reserved(&mut self, set: usize) -> Option<IpAddr> {
        let file = self.directory.file(&last_reserved_name(set), OFlag::O_RDWR, Mode::empty()).ok()?;
        let mut content = [0; 64];
        let length = file.read_at(&mut content, 0).unwrap_or(0);
        self.last_reserved.insert(set, (file, length));
        std::str::from_utf8(content.get(..length)?).ok()?.trim().parse().ok()
    }

    fn set_last_reserved(&mut self, set: usize, address: IpAddr) {
        let opened = self.last_reserved.remove(&set).or_else(|| {
            let flags = OFlag::O_RDWR | OFlag::O_CREAT;
            let file =
                self.directory.file(&last_reserved_name(set), flags, Mode::S_IRUSR | Mode::S_IWUSR).ok()?;
            Some((file, usize::MAX))
        });
        let text = address.to_string();
        // Not truncated first: ext4 takes that for an attempt at replacing a file safely, and starts writing at once.
        if let Some((file, length)) = opened
            && file.write_all_at(text.as_bytes(), 0).is_ok()
            && length > text.len()
        {
            let _ = file.set_len(text.len() as u64);
        }
    }

    fn reclaim(&mut self) -> Result<usize, StoreError> {
        match self.index()? {
            Some(index) => sweep::reclaim(self.directory, index),
            None => sweep::begin_boot(self.directory, self.index_name),
        }
    }

    fn is_full(&mut self, number: usize, set: &RangeSet) -> bool {
        match (self.index(), self.directory.changed()) {
            (Ok(Some(index)), Some(changed)) => index.is_full(number, &full_text(changed, set)),
            _ => false,
        }
    }

    fn set_full(&mut self, number: usize, set: &RangeSet) {
        /// File systems count time in steps of 10 ms to 2 s. A change in the same step as the one before would not
        /// be noticed.
        const COARSEST_STEP: Duration = Duration::from_secs(3);

        if let Some(changed) = self.directory.changed()
            && SystemTime::now().duration_since(changed).is_ok_and(|age| age > COARSEST_STEP)
            && let Ok(Some(index)) = self.index()
        {
            // If it is not noted, it will be found out again.
            let _ = index.set_full(number, &full_text(changed, set));
        }
    }
}

fn full_text(changed: SystemTime, set: &RangeSet) -> String {
    let changed = changed.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("{}.{:09} {set}", changed.as_secs(), changed.subsec_nanos())
}

enum Published {
    Linked,
    Copied,
}

/// Gives the draft its address as a name; fails with `EEXIST` if that is taken.
fn publish(leases: &Directory, draft: &Draft<'_>, owner: &Owner, name: &str) -> io::Result<Published> {
    match draft.publish(leases, name) {
        Ok(()) => return Ok(Published::Linked),
        Err(errno) if !index::no_hard_links(errno) => return Err(errno.into()),
        Err(_) => {}
    }
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
    let mut file = leases.file(name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
    let written = file.write_all(lease_text(owner).as_bytes());
    written.inspect_err(|_| drop(leases.unlink(name))).map(|()| Published::Copied)
}

/// Who holds a lease; `None` if there is none.
fn read_holder(leases: &Directory, address: IpAddr) -> Result<Option<Holder>, StoreError> {
    /// More than the longest lease, `<220>\r\n<15>`.
    const LIMIT: usize = 256;

    let name = address.to_string();
    let file = match leases.file(&name, OFlag::O_RDONLY, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::ENOENT) => return Ok(None),
        // A symbolic link, a socket, a device without a driver.
        Err(Errno::ELOOP | Errno::ENXIO | Errno::ENODEV) => return Ok(Some(Holder::Stranger)),
        Err(Errno::EACCES | Errno::EPERM | Errno::EIO) => return Ok(Some(Holder::Unreadable)),
        Err(errno) => return Err(leases.error("open", &name, errno)),
    };
    let metadata = file.metadata().map_err(|error| leases.error("read", &name, error))?;
    if !metadata.is_file() || metadata.len() > LIMIT as u64 {
        return Ok(Some(Holder::Stranger));
    }
    let mut content = [0; LIMIT];
    match file.read_at(&mut content, 0) {
        Ok(length) => Ok(Some(Holder::parse(content.get(..length).unwrap_or_default()))),
        // A bad block.
        Err(error) if error.raw_os_error() == Some(Errno::EIO as i32) => Ok(Some(Holder::Unreadable)),
        Err(error) => Err(leases.error("read", &name, error)),
    }
}

fn last_reserved_name(set: usize) -> String {
    format!("last_reserved_ip.{set}")
}
