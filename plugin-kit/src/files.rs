//! Files that are there as a whole or not at all, and that nobody else has put there: no link is followed, no pipe is
//! waited for.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;

/// Whether a file must outlive a loss of power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// It is on the disk when the call returns.
    Disk,
    /// It is gone after a reboot anyway.
    Memory,
}

/// Opens a regular file.
///
/// # Errors
/// What `open(2)` says. What is at the path and is no regular file, a link to one included, is [`ErrorKind::InvalidData`].
pub fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let opened = options.custom_flags(flags.bits()).open(path);
    let file = opened.map_err(|error| match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ELOOP) => refused("it is a symbolic link"),
        // Somebody's pipe, which nobody reads, or a socket.
        Some(Errno::ENXIO) => refused("it is no regular file"),
        _ => error,
    })?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(refused("it is no regular file")),
    }
}

/// Reads a file that has no more than so many bytes.
///
/// # Errors
/// As [`open`]'s. One that is larger is [`ErrorKind::InvalidData`].
pub fn read(path: &Path, largest: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    open(path, OpenOptions::new().read(true))?.take(largest.saturating_add(1)).read_to_end(&mut content)?;
    match content.len() as u64 > largest {
        true => Err(refused(&format!("it is larger than {largest} bytes"))),
        false => Ok(content),
    }
}

/// Replaces a file as a whole: whoever reads it finds the former content or the new one. Until then the new one is beside it,
/// as `.NAME.new`: hidden, and with no ending by which anybody takes it for a configuration. Two must not do so at once.
///
/// # Errors
/// The file is the former one, or, if only the directory could not be brought to the disk, the new one.
pub fn replace(path: &Path, content: &[u8], mode: u32, durability: Durability) -> io::Result<()> {
    let temporary = temporary(path);
    // Somebody who was killed may have left it; a stranger's link is gone with it.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    let written = (|| {
        // Whatever the umask says: those must be able to read it whom it is for.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(content)?;
        if durability == Durability::Disk {
            file.sync_all()?;
        }
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written?;
    match durability {
        Durability::Disk => sync(parent(path)),
        Durability::Memory => Ok(()),
    }
}

/// Waits until what was made, renamed or removed in a directory is on the disk.
///
/// # Errors
/// What `open(2)` or `fsync(2)` says.
pub fn sync(directory: &Path) -> io::Result<()> {
    let here = directory.as_os_str().is_empty(); // the parent of a relative path's first component
    File::open(if here { Path::new(".") } else { directory })?.sync_all()
}

/// Makes a directory, and those above it, if they are not there; they are on the disk when this returns.
///
/// # Errors
/// What `mkdir(2)` or `fsync(2)` says. What is there and is no directory is found when it is used as one.
pub fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    let make = || DirBuilder::new().mode(mode).create(path);
    let made = match make() {
        // Once: below a link to nowhere there is never a place.
        Err(error) if error.kind() == ErrorKind::NotFound && !parent(path).as_os_str().is_empty() => {
            make_directory(parent(path), mode)?;
            make()
        }
        made => made,
    };
    match made {
        Ok(()) => sync(parent(path)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes this process the only one that has a file locked (`flock(2)`), for as long as the value lives; `None` if another has.
///
/// # Errors
/// As [`open`]'s, or what `flock(2)` says.
pub fn lock(path: &Path) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = open(path, &mut options)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

fn temporary(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}

fn refused(why: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

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
        make_directory(&path, 0o700).unwrap();
        make_directory(&path, 0o700).unwrap();
        assert_eq!((mode(&path), mode(&dir.path().join("a"))), (0o700, 0o700));
        let link = dir.path().join("link");
        symlink("nowhere", &link).unwrap();
        assert_eq!(make_directory(&link.join("below"), 0o700).unwrap_err().kind(), ErrorKind::NotFound);
        fs::write(path.join("file"), "").unwrap();
        assert!(make_directory(&path.join("file/c"), 0o700).is_err());
    }

    #[test]
    fn a_file_is_the_former_one_or_the_new_one_at_every_moment() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let contents = [vec![b'a'; 100_000], vec![b'b'; 50_000]];
        replace(&path, &contents[0], 0o644, Durability::Memory).unwrap();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for round in 0..200 {
                    replace(&path, &contents[round % 2], 0o644, Durability::Memory).unwrap();
                }
            });
            while !writer.is_finished() {
                let found = fs::read(&path).unwrap();
                assert!(contents.contains(&found), "{} bytes", found.len());
            }
        });
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
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
    fn what_cannot_be_put_in_its_place_is_not_left_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("taken");
        fs::create_dir(&path).unwrap();
        replace(&path, b"new", 0o600, Durability::Memory).unwrap_err();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn links_and_pipes_are_neither_read_nor_locked_nor_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let [file, link, pipe] = ["file", "link", "pipe"].map(|name| dir.path().join(name));
        fs::write(&file, "12345").unwrap();
        symlink(&file, &link).unwrap();
        mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        assert_eq!(read(&file, 5).unwrap(), b"12345");
        assert!(read(&file, 4).unwrap_err().to_string().contains("larger than 4 bytes"));
        for (path, why) in [(&link, "symbolic link"), (&pipe, "no regular file")] {
            assert!(read(path, 5).unwrap_err().to_string().contains(why));
            assert!(lock(path).unwrap_err().to_string().contains(why));
        }
        assert!(read(dir.path(), 5).unwrap_err().to_string().contains("no regular file"));
    }

    #[test]
    fn two_do_not_have_one_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = lock(&path).unwrap();
        assert!(first.is_some());
        assert!(lock(&path).unwrap().is_none());
        drop(first);
        assert!(lock(&path).unwrap().is_some());
    }
}
