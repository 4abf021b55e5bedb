//! Files that only this node's agents write.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::geteuid;
use plugin_kit::files;

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
    let file = files::open(path, OpenOptions::new().read(true))?;
    let found = file.metadata()?;
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

/// Makes this process the only one that works with a directory, for as long as the value lives.
pub(crate) fn lock(path: &Path) -> io::Result<File> {
    files::lock(path)?.ok_or_else(|| io::Error::new(io::ErrorKind::ResourceBusy, "another agent has it"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

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
