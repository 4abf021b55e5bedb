//! Leases on disk: one file each, written so that a crash at any instant leaves the old one or the new one.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use ipam::BootId;
use plugin_kit::files::{self, Durability};
use serde::{Deserialize, Serialize};

use crate::container::Container;
use crate::key::Key;
use crate::lease::Lease;
use crate::wishes::{Family, Wishes};

/// A directory of records.
#[derive(Debug)]
pub(crate) struct Store {
    dir: PathBuf,
    boot: BootId,
    /// Locked as long as this process uses the directory.
    _lock: File,
}

/// What is known of an attachment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    pub(crate) key: Key,
    pub(crate) container: Container,
    pub(crate) wishes: Wishes,
    pub(crate) leases: Vec<Kept>,
}

/// What is known of an attachment's address of one family.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Kept {
    pub(crate) family: Family,
    /// What the client has.
    pub(crate) held: Option<Lease>,
    /// What the interface has. The two differ after a crash in between.
    pub(crate) configured: Option<Lease>,
}

/// A record as it is written: its times mean nothing in another boot.
#[derive(Debug, Serialize, Deserialize)]
struct Document<R> {
    boot: String,
    record: R,
}

/// What was found in a directory.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) records: Vec<Record>,
    /// What could not be read, and was set aside: what to say about it.
    pub(crate) complaints: Vec<String>,
    /// How many were of another boot, and are gone.
    pub(crate) outlived: usize,
}

const SUFFIX: &str = ".json";
/// More than a record can have: one server's answer and one configuration's wishes.
const MAX_BYTES: u64 = 1 << 20;

impl Store {
    /// Opens a directory, and makes it if need be.
    ///
    /// # Errors
    /// When it cannot be, or another process uses it.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        files::make_directory(dir, 0o700)?;
        let Some(lock) = files::lock(&dir.join("lock")).map_err(|error| about("the lock", &error))? else {
            return Err(io::Error::other("another daemon uses this directory"));
        };
        Ok(Self { dir: dir.to_owned(), boot: BootId::current()?, _lock: lock })
    }

    /// Reads everything. What is of no use stands in nobody's way.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub(crate) fn load(&self) -> io::Result<Found> {
        let mut found = Found::default();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if name.starts_with('.') {
                // What a crash has left half written.
                let _ = fs::remove_file(&path);
                continue;
            }
            if !name.ends_with(SUFFIX) {
                continue;
            }
            match read(&path) {
                Ok(document) if document.boot != self.boot.as_str() => {
                    found.outlived += 1;
                    let _ = fs::remove_file(&path);
                }
                Ok(document) if name == file_name(&document.record.key) => {
                    found.records.push(document.record)
                }
                Ok(_) => found.complaints.push(set_aside(&path, "it is another attachment's")),
                Err(error) => found.complaints.push(set_aside(&path, &error.to_string())),
            }
        }
        Ok(found)
    }

    /// Writes a record; it is on disk when this returns.
    ///
    /// # Errors
    /// As the disk's.
    pub(crate) fn put(&self, record: &Record) -> io::Result<()> {
        let document = serde_json::to_vec(&Document { boot: self.boot.to_string(), record })?;
        files::replace(&self.dir.join(file_name(&record.key)), &document, 0o600, Durability::Disk)
    }

    /// Removes a record; fine if there is none.
    ///
    /// # Errors
    /// As the disk's.
    pub(crate) fn remove(&self, key: &Key) -> io::Result<()> {
        match fs::remove_file(self.dir.join(file_name(key))) {
            Ok(()) => files::sync(&self.dir),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Names may be longer than a file's.
fn file_name(key: &Key) -> String {
    format!("{}{SUFFIX}", key.digest())
}

fn read(path: &Path) -> io::Result<Document<Record>> {
    Ok(serde_json::from_slice(&files::read(path, MAX_BYTES)?)?)
}

fn about(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// Reads bytes as a record; one that is read is written so that it is read again.
#[cfg(feature = "fuzzing")]
pub(crate) fn read_as_record(data: &[u8]) {
    if let Ok(document) = serde_json::from_slice::<Document<Record>>(data) {
        let text = serde_json::to_vec(&document).unwrap_or_default();
        let again = serde_json::from_slice::<Document<Record>>(&text).ok();
        assert_eq!(again.map(|again| again.record), Some(document.record));
    }
}

/// Takes a file out of the way, for a person to look at.
fn set_aside(path: &Path, why: &str) -> String {
    let aside = path.with_extension("corrupt");
    match fs::rename(path, &aside) {
        Ok(()) => format!("{} cannot be read: {why}; it is now {}", path.display(), aside.display()),
        Err(error) => format!("{} cannot be read: {why}; nor can it be set aside: {error}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    fn record(container: &str) -> Record {
        let key = format!(r#"{{"network": "lan", "container": "{container}", "interface": "eth0"}}"#);
        let container = r#"{"netns": "/run/netns/c", "namespace": [4, 5], "interface": "eth0", "index": 2}"#;
        Record {
            key: serde_json::from_str(&key).unwrap(),
            container: serde_json::from_str(container).unwrap(),
            wishes: serde_json::from_str(
                r#"{"families": [4], "request": [1], "provide": {"12": [97]}, "priority": null}"#,
            )
            .unwrap(),
            leases: vec![Kept { family: Family::V4, held: None, configured: None }],
        }
    }

    #[test]
    fn what_is_put_is_found_until_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.put(&record("a")).unwrap();
        store.put(&record("a")).unwrap();
        store.put(&record("b")).unwrap();
        assert_eq!(store.load().unwrap().records.len(), 2);
        store.remove(&record("b").key).unwrap();
        store.remove(&record("b").key).unwrap();
        assert_eq!(store.load().unwrap().records, [record("a")]);
    }

    #[test]
    fn a_directory_has_one_user() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert!(Store::open(dir.path()).unwrap_err().to_string().contains("another daemon"));
        drop(store);
        Store::open(dir.path()).unwrap();
    }

    #[test]
    fn what_is_of_no_use_is_in_nobodys_way() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.put(&record("a")).unwrap();
        let file = |record: &Record| dir.path().join(file_name(&record.key));
        let text = fs::read_to_string(file(&record("a"))).unwrap();
        // Of another boot; of another attachment; of no sense; half written.
        fs::write(file(&record("b")), text.replace(store.boot.as_str(), "another")).unwrap();
        fs::write(file(&record("c")), &text).unwrap();
        fs::write(file(&record("d")), &text[..text.len() / 2]).unwrap();
        fs::write(dir.path().join(".e.json"), "").unwrap();
        fs::write(dir.path().join("README"), "").unwrap();
        let found = store.load().unwrap();
        assert_eq!((found.records.len(), found.outlived, found.complaints.len()), (1, 1, 2));
        let mut left: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().path().extension().map(ToOwned::to_owned))
            .collect();
        left.sort();
        let kinds: Vec<_> = left.iter().flatten().map(|kind| kind.to_str().unwrap()).collect();
        assert_eq!(kinds, ["corrupt", "corrupt", "json"]);
        assert!(store.load().unwrap().complaints.is_empty());
    }

    #[test]
    fn what_is_written_is_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("made/for/it");
        let store = Store::open(&state).unwrap();
        store.put(&record("a")).unwrap();
        let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&state), 0o700);
        for entry in fs::read_dir(&state).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
    }

    #[test]
    fn links_and_pipes_in_the_directory_lead_nowhere_and_hold_nobody_up() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = dir.path().join("elsewhere");
        fs::write(&elsewhere, "theirs").unwrap();
        let state = dir.path().join("state");
        let store = Store::open(&state).unwrap();
        let file = |record: &Record| state.join(file_name(&record.key));
        // Where a record is written, where one is read, and a pipe where one is read.
        symlink(&elsewhere, state.join(format!(".{}", file_name(&record("a").key)))).unwrap();
        store.put(&record("a")).unwrap();
        store.put(&record("b")).unwrap();
        fs::rename(file(&record("b")), dir.path().join("b")).unwrap();
        symlink(dir.path().join("b"), file(&record("b"))).unwrap();
        mkfifo(&file(&record("c")), Mode::S_IRWXU).unwrap();
        let found = store.load().unwrap();
        assert_eq!(found.records, [record("a")]);
        assert_eq!(found.complaints.len(), 2);
        assert!(found.complaints.iter().any(|complaint| complaint.contains("symbolic link")));
        assert!(found.complaints.iter().any(|complaint| complaint.contains("no regular file")));
        assert_eq!(fs::read(&elsewhere).unwrap(), b"theirs");
        assert_eq!(store.load().unwrap().records.len(), 1);
    }

    #[test]
    fn a_link_or_a_pipe_in_the_place_of_the_lock_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let lock = dir.path().join("lock");
        symlink(dir.path().join("elsewhere"), &lock).unwrap();
        assert_eq!(Store::open(dir.path()).unwrap_err().to_string(), "the lock: it is a symbolic link");
        assert!(!dir.path().join("elsewhere").exists());
        fs::remove_file(&lock).unwrap();
        mkfifo(&lock, Mode::S_IRWXU).unwrap();
        assert_eq!(Store::open(dir.path()).unwrap_err().to_string(), "the lock: it is no regular file");
    }
}
