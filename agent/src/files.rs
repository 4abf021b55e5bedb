//! Files that are there as a whole or not at all, and that nobody else has written.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::geteuid;

/// Whether a file must outlive a loss of power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// It is on the disk when the call returns.
    Disk,
    /// It is gone after a reboot anyway.
    Memory,
}

/// Replaces a file as a whole: whoever reads it finds the former content or the new one.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32, durability: Durability) -> io::Result<()> {
    let directory = path.parent().unwrap_or_else(|| Path::new("/"));
    let temporary = temporary(path);
    // An agent that was killed may have left it. Nobody else writes here: there is one agent, and it has the lock.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    // Whatever the umask says: plugins and people must be able to read what is for them.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(content)?;
    if durability == Durability::Disk {
        file.sync_all()?;
    }
    fs::rename(&temporary, path)?;
    if durability == Durability::Disk {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// Hidden: directories of configurations are read by others, who skip such names.
fn temporary(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}

/// Whom a file may be readable by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Secrecy {
    /// Its owner only: it is a key.
    Secret,
    /// Anybody.
    Public,
}

/// Reads a file that decides who this node is, or whom it trusts: no link leads to it, and nobody else can have written it.
pub(crate) fn read_own(path: &Path, secrecy: Secrecy, largest: u64) -> io::Result<Vec<u8>> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).bits();
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = opened.map_err(|error| match error.raw_os_error() {
        Some(code) if code == nix::errno::Errno::ELOOP as i32 => refused("it is a symbolic link"),
        _ => error,
    })?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(refused("it is no regular file"));
    }
    if found.uid() != geteuid().as_raw() && found.uid() != 0 {
        return Err(refused(format!(
            "it belongs to user {}, who is neither root nor this process's",
            found.uid()
        )));
    }
    if found.mode() & 0o022 != 0 {
        return Err(refused(format!("others may write it (mode {:04o}): chmod go-w", found.mode() & 0o7777)));
    }
    if secrecy == Secrecy::Secret && found.mode() & 0o077 != 0 {
        return Err(refused(format!("others may read it (mode {:04o}): chmod 0600", found.mode() & 0o7777)));
    }
    if found.len() > largest {
        return Err(refused(format!("it is larger than {largest} bytes")));
    }
    let mut content = Vec::new();
    file.take(largest).read_to_end(&mut content)?;
    Ok(content)
}

fn refused(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

/// Makes a directory, and those above it, if they are not there.
pub(crate) fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(mode).create(path)
}

/// Makes this process the only one that works with a directory, for as long as the value lives.
pub(crate) fn lock(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW.bits();
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(flags)
        .open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => {
            Err(io::Error::new(io::ErrorKind::ResourceBusy, "another agent has it"))
        }
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_is_the_former_one_or_the_new_one_at_every_moment() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
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
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_killed_agent_has_left_is_no_obstacle_and_no_way_in() {
        let directory = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (directory.path().join("file"), directory.path().join("elsewhere"));
        fs::write(&elsewhere, "x").unwrap();
        symlink(&elsewhere, temporary(&path)).unwrap();
        replace(&path, b"new", 0o600, Durability::Disk).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read(&elsewhere).unwrap(), b"x");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    }

    #[test]
    fn a_file_that_another_can_write_or_that_a_link_leads_to_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let refused = |path: &Path, secrecy| read_own(path, secrecy, 10).unwrap_err().to_string();
        fs::write(&path, "content").unwrap();
        mode(0o644);
        assert_eq!(read_own(&path, Secrecy::Public, 10).unwrap(), b"content");
        assert!(refused(&path, Secrecy::Secret).contains("chmod 0600"));
        mode(0o600);
        assert_eq!(read_own(&path, Secrecy::Secret, 10).unwrap(), b"content");
        mode(0o620);
        assert!(refused(&path, Secrecy::Public).contains("chmod go-w"));
        mode(0o600);
        let link = directory.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(refused(&link, Secrecy::Public).contains("symbolic link"));
        assert!(refused(directory.path(), Secrecy::Public).contains("no regular file"));
        fs::write(&path, "much too large").unwrap();
        assert!(refused(&path, Secrecy::Public).contains("larger"));
    }

    #[test]
    fn two_do_not_work_with_one_directory() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let first = lock(&path).unwrap();
        assert_eq!(lock(&path).unwrap_err().to_string(), "another agent has it");
        drop(first);
        lock(&path).unwrap();
    }
}
