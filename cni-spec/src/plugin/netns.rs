//! The network namespace that a call names, seen from outside: by the numbers of its inode.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::{Error, ErrorCode};

/// What is at a path.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// The network namespace that this thread is in.
    Own,
    /// A namespace, but not our own.
    Other,
    /// Nothing that could be a namespace.
    Nothing,
}

/// Refuses the plugin's own network namespace, so that no plugin ever works on the host's interfaces by mistake.
///
/// # Errors
/// [`ErrorCode::INVALID_NETNS`].
pub(super) fn refuse_own(netns: &Path) -> Result<(), Error> {
    match find(netns) {
        Found::Own => Err(own(netns)),
        // Whether a path is needed at all is the plugin's to say: an IPAM plugin never opens it.
        Found::Other | Found::Nothing => Ok(()),
    }
}

/// The namespace of a `DEL`, if it still exists. Whatever is wrong with it means that it is gone, except that our own
/// is refused as for `ADD`.
///
/// # Errors
/// [`ErrorCode::INVALID_NETNS`].
pub(super) fn if_it_exists(netns: PathBuf) -> Result<Option<PathBuf>, Error> {
    match find(&netns) {
        Found::Own => Err(own(&netns)),
        Found::Other => Ok(Some(netns)),
        Found::Nothing => Ok(None),
    }
}

fn own(netns: &Path) -> Error {
    let msg =
        format!("CNI_NETNS {} is the network namespace that the plugin itself runs in", netns.display());
    Error::new(ErrorCode::INVALID_NETNS, msg)
        .with_details("CNI_NETNS_OVERRIDE=1 in the environment allows it")
}

fn find(netns: &Path) -> Found {
    let (Ok(there), Ok(here)) = (identity(netns), own_identity()) else {
        return Found::Nothing;
    };
    // All namespaces are inodes of one nsfs, so another device number means another kind of file.
    match (there.0 == here.0, there == here) {
        (_, true) => Found::Own,
        (true, false) => Found::Other,
        (false, false) => Found::Nothing,
    }
}

fn own_identity() -> io::Result<(u64, u64)> {
    // /proc/self would be the namespace of the process's first thread.
    identity(Path::new("/proc/thread-self/ns/net")).or_else(|_| identity(Path::new("/proc/self/ns/net")))
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_namespace_is_recognised_by_any_path() {
        let by_pid = format!("/proc/{}/ns/net", std::process::id());
        for own in
            ["/proc/self/ns/net", "/proc/thread-self/ns/net", by_pid.as_str(), "/proc/self/../self/ns/net"]
        {
            assert_eq!(find(Path::new(own)), Found::Own, "{own}");
        }
    }

    #[test]
    fn another_namespace_is_not_a_plain_file() {
        // A namespace of another kind is the only other one that a test without privileges can have.
        assert_eq!(find(Path::new("/proc/self/ns/uts")), Found::Other);
        for nothing in ["/dev/null", "/nonexistent", "/", "", "/proc/self/ns/net/x", "nul\0"] {
            assert_eq!(find(Path::new(nothing)), Found::Nothing, "{nothing}");
        }
    }
}
