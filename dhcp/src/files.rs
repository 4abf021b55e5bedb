//! Files that are there as a whole or not at all, and that nobody else has put there: no link is followed, no pipe is
//! waited for.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

/// Whether a file must outlive a loss of power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// It is on the disk when the call returns.
    Disk,
    /// It is gone after a reboot anyway.
    Memory,
}

/// Makes a directory for root alone, and those above it, if they are not there; they are on the disk when this returns.
pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    let make = || DirBuilder::new().mode(0o700).create(path);
    let made = match make() {
        // Once: below a link to nowhere there is never a place.
        Err(error) if error.kind() == ErrorKind::NotFound && !parent(path).as_os_str().is_empty() => {
            make_directory(parent(path))?;
            make()
        }
        made => made,
    };
    match made {
        Ok(()) => sync(parent(path)),
        // What is no directory is found when it is used as one.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes this process the only one that has a file locked, for as long as the value lives; `None` if another has.
pub(crate) fn lock(path: &Path) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = open(path, &mut options)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Reads a file that is not too large.
pub(crate) fn read(path: &Path, largest: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path, OpenOptions::new().read(true))?.take(largest + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > largest {
        true => Err(refused("it is too large")),
        false => Ok(bytes),
    }
}

/// Replaces a file as a whole.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32, durability: Durability) -> io::Result<()> {
    let temporary = temporary(path);
    // A daemon that was killed may have left it; a stranger's link is gone with it.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    file.write_all(content)?;
    if durability == Durability::Disk {
        file.sync_all()?;
    }
    fs::rename(&temporary, path)?;
    if durability == Durability::Disk {
        sync(parent(path))?;
    }
    Ok(())
}

/// Waits until what was made, renamed or removed in a directory is on the disk.
pub(crate) fn sync(directory: &Path) -> io::Result<()> {
    let here = directory.as_os_str().is_empty();
    File::open(if here { Path::new(".") } else { directory })?.sync_all()
}

fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let opened = options.custom_flags(flags.bits()).open(path);
    let file = opened.map_err(|error| match error.raw_os_error() {
        Some(code) if code == nix::errno::Errno::ELOOP as i32 => refused("it is a symbolic link"),
        // Somebody's pipe, which nobody reads.
        Some(code) if code == nix::errno::Errno::ENXIO as i32 => refused("it is no regular file"),
        _ => error,
    })?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(refused("it is no regular file")),
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

/// Hidden: what begins with a dot is nobody's record.
fn temporary(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    path.with_file_name(name)
}

fn refused(why: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_directory_is_made_with_those_above_it_unless_they_lead_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        make_directory(&path).unwrap();
        make_directory(&path).unwrap();
        assert_eq!((mode(&path), mode(&dir.path().join("a"))), (0o700, 0o700));
        let link = dir.path().join("link");
        symlink("nowhere", &link).unwrap();
        assert_eq!(make_directory(&link.join("below")).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_link_in_the_place_of_a_file_to_come_is_replaced_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (dir.path().join("file"), dir.path().join("elsewhere"));
        fs::write(&elsewhere, "x").unwrap();
        symlink(&elsewhere, temporary(&path)).unwrap();
        symlink(&elsewhere, &path).unwrap();
        replace(&path, b"new", 0o600, Durability::Disk).unwrap();
        assert_eq!(fs::read(&elsewhere).unwrap(), b"x");
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(mode(&path), 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn links_and_pipes_are_neither_read_nor_locked_nor_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let [file, link, pipe] = ["file", "link", "pipe"].map(|name| dir.path().join(name));
        fs::write(&file, "12345").unwrap();
        symlink(&file, &link).unwrap();
        mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        assert_eq!(read(&file, 5).unwrap(), b"12345");
        assert!(read(&file, 4).unwrap_err().to_string().contains("too large"));
        for (path, why) in [(&link, "symbolic link"), (&pipe, "no regular file")] {
            assert!(read(path, 5).unwrap_err().to_string().contains(why));
            assert!(lock(path).unwrap_err().to_string().contains(why));
        }
        assert!(read(dir.path(), 5).unwrap_err().to_string().contains("no regular file"));
    }

    #[test]
    fn a_directory_is_made_with_those_above_it_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        make_directory(&path).unwrap();
        make_directory(&path).unwrap();
        assert_eq!((mode(&path), mode(&dir.path().join("a"))), (0o700, 0o700));
        fs::write(path.join("file"), "").unwrap();
        assert!(make_directory(&path.join("file/c")).is_err());
    }
}
