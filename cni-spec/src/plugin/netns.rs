//! The network namespace that a call names, seen from outside: by the numbers of its inode.

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::unistd::{getpid, gettid};

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
/// [`ErrorCode::INVALID_NETNS`]; [`ErrorCode::IO_FAILURE`] if it cannot be looked at.
pub(super) fn refuse_own(netns: &Path) -> Result<(), Error> {
    match find(netns)? {
        Found::Own => Err(own(netns)),
        // Whether a path is needed at all is the plugin's to say: an IPAM plugin never opens it.
        Found::Other | Found::Nothing => Ok(()),
    }
}

/// The namespace of a `DEL`, if it still exists. Whatever else is in its place means that it is gone, except that our own
/// is refused as for `ADD`.
///
/// # Errors
/// [`ErrorCode::INVALID_NETNS`]; [`ErrorCode::IO_FAILURE`] if it cannot be looked at, for then it may be there.
pub(super) fn if_it_exists(netns: PathBuf) -> Result<Option<PathBuf>, Error> {
    match find(&netns)? {
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

fn find(netns: &Path) -> Result<Found, Error> {
    let there = match identity(netns) {
        Err(error) if is_absence(&error) => return Ok(Found::Nothing),
        there => there,
    };
    let unknown = |error| Error::io(format!("look at the network namespace {}: {error}", netns.display()));
    let (there, here) = (there.map_err(unknown)?, own_identity().map_err(unknown)?);
    // All namespaces are inodes of one nsfs, so another device number means another kind of file.
    Ok(match (there.0 == here.0, there == here) {
        (_, true) => Found::Own,
        (true, false) => Found::Other,
        (false, false) => Found::Nothing,
    })
}

/// Whether nothing can be at a path, or nothing that this process could ever have entered: in a user namespace the kernel says
/// `EACCES` of all other people's processes in `/proc`, of which one may have got a container's PID when that had ended.
fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidInput | ErrorKind::InvalidFilename
    ) || matches!(error.raw_os_error(), Some(nix::libc::ELOOP | nix::libc::EACCES))
}

fn own_identity() -> io::Result<(u64, u64)> {
    // `self` is the process's first thread, of which the kernel has less to look up.
    let (first, own) = ("/proc/self/ns/net", "/proc/thread-self/ns/net");
    let is_first = gettid() == getpid();
    identity(Path::new(if is_first { first } else { own })).or_else(|_| identity(Path::new(first)))
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
            assert_eq!(find(Path::new(own)).unwrap(), Found::Own, "{own}");
        }
    }

    #[test]
    fn another_namespace_is_not_a_plain_file() {
        // A namespace of another kind is the only other one that a test without privileges can have.
        assert_eq!(find(Path::new("/proc/self/ns/uts")).unwrap(), Found::Other);
        for nothing in ["/dev/null", "/nonexistent", "/", "", "/proc/self/ns/net/x", "nul\0"] {
            assert_eq!(find(Path::new(nothing)).unwrap(), Found::Nothing, "{nothing}");
        }
    }
}
