//! What the runtime remembers of its attachments: libcni's result cache, in libcni's place and format.
//!
//! One file per attachment, `<cache dir>/results/<network>-<container ID>-<interface>`, one line of JSON. Network
//! names and container IDs may contain `-`, so two attachments can ask for one file name: whose a file is, is read
//! from its content. Only the files of the oldest libcni, which hold a bare result, have nothing but their name.
//!
//! A file is only ever replaced as a whole (written aside, flushed, renamed, directory flushed): a reader needs no
//! lock, and a crash leaves the old content or the new one; so does a power failure, where anybody has heard of the new
//! one. Writers hold the entry's lock from before the first plugin is started until after the last.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::Attachment;
use super::error::CacheError;
use super::lock::{self, Lock, Mode, Which};
use super::record::{self, CachedAttachment, Content, Progress};
use crate::{NetworkName, SpecVersion};

/// The largest cache file that is read, in bytes. The list of a hundred plugins takes some tens of KiB.
const LARGEST_FILE: u64 = 4 << 20;

/// The directory of cached results.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    results: PathBuf,
}

/// What [`Runtime::attachments`](super::Runtime::attachments) found.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct CachedAttachments {
    /// Every attachment whose file says whose it is, ordered by file name.
    pub attachments: Vec<CachedAttachment>,
    /// Files that say nothing: empty or broken ones (a power failure under another runtime), and bare results of the
    /// oldest libcni. `DEL` of the attachment that a file is named after uses it as far as it can, and removes it.
    pub unattributed: Vec<Unattributed>,
}

/// A cache file that does not say which attachment it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unattributed {
    /// Where it is.
    pub path: PathBuf,
    /// Why it cannot be attributed.
    pub reason: String,
}

impl Cache {
    pub(super) fn new(cache_dir: &Path) -> Self {
        Self { results: cache_dir.join("results") }
    }

    /// Waits for the lock that keeps garbage collection (exclusive) and everybody else (shared) on a network apart.
    pub(super) fn lock_network(
        &self,
        network: &NetworkName,
        which: Which,
        mode: Mode,
        deadline: Instant,
    ) -> Result<Lock, CacheError> {
        // No attachment's file starts with a dot, because no network's name does.
        self.lock(&self.results.join(format!(".{network}.lock")), which, mode, deadline)
    }

    /// Waits for the entry of an attachment, to write it.
    pub(super) fn entry(
        &self,
        network: &NetworkName,
        attachment: &Attachment,
        which: Which,
        deadline: Instant,
    ) -> Result<Entry, CacheError> {
        let name = file_name(network, attachment);
        let path = self.results.join(&name);
        let lock = self.lock(&path, which, Mode::Exclusive, deadline)?;
        Ok(Entry { aside: self.results.join(format!(".{name}.tmp")), path, lock })
    }

    fn lock(&self, path: &Path, which: Which, mode: Mode, deadline: Instant) -> Result<Lock, CacheError> {
        if which == Which::Any {
            self.create_dir()?;
        }
        Lock::acquire(path, which, mode, deadline).map_err(|error| CacheError::new("lock", path, error))
    }

    /// Reads the entry of an attachment without taking it.
    pub(super) fn read(&self, network: &NetworkName, attachment: &Attachment) -> Result<Content, CacheError> {
        let path = self.results.join(file_name(network, attachment));
        match lock::open(&path, Which::Existing) {
            Ok(file) => read_content(&file, &path),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Content::Nothing),
            Err(error) => Err(CacheError::new("open", &path, error)),
        }
    }

    /// Everything that is cached, whosever it is.
    pub(super) fn list(&self) -> Result<CachedAttachments, CacheError> {
        let failed = |error| CacheError::new("list", &self.results, error);
        let entries = match fs::read_dir(&self.results) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(CachedAttachments::default()),
            Err(error) => return Err(failed(error)),
        };
        let mut names =
            entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>().map_err(failed)?;
        names.sort();

        let mut found = CachedAttachments::default();
        for name in names.into_iter().filter(|name| !name.as_encoded_bytes().starts_with(b".")) {
            let path = self.results.join(name);
            // Directories are nobody's entries, nor are FIFOs.
            if !path.is_file() {
                continue;
            }
            let content = match lock::open(&path, Which::Existing) {
                Ok(file) => match read_content(&file, &path) {
                    // An ADD that has just begun.
                    Ok(Content::Nothing) if lock::is_held(&file) => continue,
                    content => content,
                },
                // Removed since the directory was read.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => Err(CacheError::new("open", &path, error)),
            };
            let reason = match content {
                Ok(Content::Attachment(cached)) => {
                    found.attachments.push(*cached);
                    continue;
                }
                Ok(Content::BareResult(_)) => "a bare result, written by an old libcni".to_owned(),
                Ok(Content::Nothing) => "empty".to_owned(),
                Ok(Content::Broken(reason)) => reason,
                Err(error) => error.to_string(),
            };
            found.unattributed.push(Unattributed { path, reason });
        }
        Ok(found)
    }

    /// Creates the directory as libcni does: only its owner may look inside. What is in it is as durable as its name, so
    /// the directories are flushed in which something was made.
    fn create_dir(&self) -> Result<(), CacheError> {
        let missing = self.results.ancestors().take_while(|ancestor| !ancestor.exists());
        let parents: Vec<&Path> = missing.filter_map(Path::parent).collect();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.results)
            .and_then(|()| parents.into_iter().rev().try_for_each(sync_directory))
            .map_err(|error| CacheError::new("create", &self.results, error))
    }
}

/// The cache entry of one attachment, locked.
#[derive(Debug)]
pub(super) struct Entry {
    path: PathBuf,
    /// Where the next content is written before it takes `path`'s place. One name will do: only the holder writes,
    /// and what a crash left there is overwritten by the next one.
    aside: PathBuf,
    lock: Lock,
}

impl Entry {
    pub(super) fn read(&self) -> Result<Content, CacheError> {
        read_content(self.lock.file(), &self.path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the content all at once, and durably if somebody is about to hear that it is attached: what was only begun ends
    /// with the power. `version` is that of the list.
    pub(super) fn write(
        &mut self,
        cached: &CachedAttachment,
        version: SpecVersion,
    ) -> Result<(), CacheError> {
        let durably = cached.progress == Progress::Complete;
        self.replace(&record::to_line(cached, version), durably).map_err(|error| {
            let _ = fs::remove_file(&self.aside);
            CacheError::new("write", &self.path, error)
        })
    }

    fn replace(&mut self, line: &[u8], durably: bool) -> io::Result<()> {
        remove(&self.aside)?;
        let mut file =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&self.aside)?;
        file.write_all(line)?;
        if durably {
            file.sync_all()?;
        }
        // Locked before it can be found, so that there is no moment at which the entry is free.
        let lock = Lock::on_new_file(file)?;
        fs::rename(&self.aside, &self.path)?;
        self.lock = lock;
        match self.path.parent() {
            Some(directory) if durably => sync_directory(directory),
            _ => Ok(()),
        }
    }

    /// Forgets the attachment. The directory is not flushed: an entry that a power failure brings back leads to a
    /// `DEL` too many, which is allowed.
    pub(super) fn forget(self) -> Result<(), CacheError> {
        remove(&self.aside)
            .and_then(|()| remove(&self.path))
            .map_err(|error| CacheError::new("remove", &self.path, error))
    }
}

fn file_name(network: &NetworkName, attachment: &Attachment) -> String {
    format!("{network}-{}-{}", attachment.container_id(), attachment.if_name())
}

fn read_content(file: &File, path: &Path) -> Result<Content, CacheError> {
    let mut bytes = Vec::new();
    let mut reader = file;
    reader
        .seek(SeekFrom::Start(0))
        .and_then(|_| reader.take(LARGEST_FILE + 1).read_to_end(&mut bytes))
        .map_err(|error| CacheError::new("read", path, error))?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Ok(Content::Broken(format!("larger than {} MiB", LARGEST_FILE >> 20)));
    }
    Ok(record::from_bytes(&bytes))
}

/// Makes the names in a directory last through a loss of power.
fn sync_directory(path: &Path) -> io::Result<()> {
    let here = path.as_os_str().is_empty(); // the parent of a relative path's first component
    File::open(if here { Path::new(".") } else { path })?.sync_all()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
