//! What an interface was like before, in a file of the reference's form: either implementation gives back what the other has
//! changed.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use cni_spec::Error;
use cni_spec::plugin::GcRequest;
use netops::{LinkName, LinkSettings};
use plugin_kit::{Owner, files, network_prefix};
use serde::{Deserialize, Serialize};
use serde_json::ser::{PrettyFormatter, Serializer};

/// More than any such file has.
const LONGEST: u64 = 64 * 1024;

/// The file's content. A key that is not there was not changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Backup {
    #[serde(skip_serializing_if = "String::is_empty")]
    mac: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    promisc: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allmulti: Option<bool>,
    #[serde(rename = "txQLen", skip_serializing_if = "Option::is_none")]
    transmit_queue: Option<u32>,
    /// Whose it is: the file's name tells no network. The reference passes it over.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
}

impl Backup {
    /// What settings were, for their owner. Where several plugins of a list have changed an interface, what the first of
    /// them found is what comes back: `earlier` stands before `before`.
    pub(super) fn new(owner: &Owner, before: &LinkSettings, earlier: Option<Self>) -> Self {
        let earlier = earlier.unwrap_or_default();
        let mac = before.mac.map(|mac| mac.to_string()).unwrap_or_default();
        Self {
            mac: if earlier.mac.is_empty() { mac } else { earlier.mac },
            promisc: earlier.promisc.or(before.promiscuous),
            mtu: earlier.mtu.or(before.mtu),
            allmulti: earlier.allmulti.or(before.all_multicast),
            transmit_queue: earlier.transmit_queue.or(before.transmit_queue),
            owner: Some(owner.mark().to_string()),
        }
    }

    /// What is to be given back to an interface.
    pub(super) fn settings(&self, link: LinkName) -> LinkSettings {
        LinkSettings {
            link,
            mac: self.mac.parse().ok(),
            mtu: self.mtu.filter(|mtu| *mtu != 0),
            promiscuous: self.promisc,
            all_multicast: self.allmulti,
            transmit_queue: self.transmit_queue,
        }
    }
}

/// The file of one attachment.
#[derive(Debug)]
pub(super) struct BackupFile {
    directory: PathBuf,
    name: String,
    /// What it is called as long as it is being written. That says whose it is, for the content may not: who dies over it
    /// leaves it to DEL and GC.
    draft: String,
}

impl BackupFile {
    /// Neither a container's ID nor an interface's name has a slash, nor does an ID begin with a dot.
    pub(super) fn of(owner: &Owner, directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            name: format!("{}_{}.json", owner.container, owner.interface),
            draft: format!(".{}", owner.mark()),
        }
    }

    /// What it says; `None` if it is not there, or is none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn read(&self) -> Result<Option<Backup>, Error> {
        read(&self.path()).map_err(|error| self.failed("read", &error))
    }

    /// Writes it, readable by its owner only: it is there as a whole, also when this process dies, or not at all. No disk is
    /// waited for: a power cut takes the interface as well.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn write(&self, backup: &Backup) -> Result<(), Error> {
        self.try_write(backup).map_err(|error| self.failed("write", &error))
    }

    fn try_write(&self, backup: &Backup) -> io::Result<()> {
        let mut text = Vec::new();
        // As Go indents it.
        let formatter = PrettyFormatter::with_indent(b" ");
        backup.serialize(&mut Serializer::with_formatter(&mut text, formatter))?;
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let draft = self.directory.join(&self.draft);
        // One of an earlier call, which died over it.
        remove(&draft)?;
        let written = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)
            .and_then(|mut file| file.write_all(&text))
            .and_then(|()| fs::rename(&draft, self.path()));
        if written.is_err() {
            let _ = fs::remove_file(&draft);
        }
        written
    }

    /// Deletes it, also what was only begun of it. One that is not there is fine.
    ///
    /// # Errors
    /// When it stays.
    pub(super) fn remove(&self) -> Result<(), Error> {
        let removed = remove(&self.directory.join(&self.draft)).and_then(|()| remove(&self.path()));
        removed.map_err(|error| self.failed("delete", &error))
    }

    fn path(&self) -> PathBuf {
        self.directory.join(&self.name)
    }

    fn failed(&self, what: &str, error: &io::Error) -> Error {
        Error::io(format!("{what} {}: {error}", self.path().display()))
    }
}

/// Deletes the files that say that they are an attachment's of a network that is not valid any more. The reference's say
/// nothing of the kind, and stay.
///
/// # Errors
/// When a file stays that should not.
pub(super) fn collect(call: &GcRequest, directory: &Path) -> Result<(), Error> {
    let failed =
        |what, path: &Path, error: io::Error| Error::io(format!("{what} {}: {error}", path.display()));
    let entries = match fs::read_dir(directory) {
        Err(error) if is_absence(&error) => return Ok(()),
        entries => entries.map_err(|error| failed("list", directory, error))?,
    };
    let network = call.config.name();
    let valid: Vec<_> = call
        .valid_attachments
        .iter()
        .map(|valid| Owner {
            network: network.clone(),
            container: valid.container_id.clone(),
            interface: valid.if_name.clone(),
        })
        .map(|owner| owner.mark().to_string())
        .collect();
    let prefix = network_prefix(network);
    let is_stale = |owner: &String| owner.starts_with(&prefix) && !valid.contains(owner);
    let mut outcome = Ok(());
    for entry in entries {
        let path = entry.map_err(|error| failed("list", directory, error))?.path();
        let collected = match owner_of(&path) {
            Ok(owner) if owner.as_ref().is_some_and(is_stale) => {
                remove(&path).map_err(|error| failed("delete", &path, error))
            }
            owner => owner.map(drop).map_err(|error| failed("read", &path, error)),
        };
        // The others go nevertheless.
        outcome = outcome.and(collected);
    }
    outcome
}

/// Whose a file says that it is: a draft by its name, another by its content.
fn owner_of(path: &Path) -> io::Result<Option<String>> {
    let draft = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix('.'));
    match draft {
        Some(draft) => Ok(Some(draft.to_owned())),
        None => Ok(read(path)?.and_then(|backup| backup.owner)),
    }
}

/// Reads a file that is one, and not too long; a link is not followed, and a FIFO not waited for.
fn read(path: &Path) -> io::Result<Option<Backup>> {
    match files::read(path, LONGEST) {
        Ok(text) => Ok(serde_json::from_slice(&text).ok()),
        // No file that was written here.
        Err(error) if is_absence(&error) || error.kind() == ErrorKind::InvalidData => Ok(None),
        Err(error) => Err(error),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        // A directory of that name is nothing that was written here.
        Err(error) if is_absence(&error) || error.kind() == ErrorKind::IsADirectory => Ok(()),
        removed => removed,
    }
}

/// Whether nothing can be there, or only what cannot be opened: a symbolic link, a socket.
fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidInput | ErrorKind::InvalidFilename
    ) || matches!(error.raw_os_error(), Some(libc::ELOOP | libc::ENXIO))
}
