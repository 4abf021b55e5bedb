//! Sysctls: files below `/proc/sys`, which show the namespace of the thread that opens them.
//!
//! In a container without all privileges they cannot be written, whatever its capabilities: runtimes mount that directory
//! read-only. Where the node's is mounted in [`UNMASKED`] as well (a volume), that is written to.

use std::fs::{self, File, OpenOptions};
use std::io::{Error, ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::netlink::Refusal;
use crate::error::Errno;
use crate::kernel::Created;
use crate::name::SysctlKey;
use crate::resource::{Resource, Sysctl};

/// Where a container may have the node's `/proc/sys`, or a part of it.
const UNMASKED: &str = "/host/proc/sys";

/// A setting's value, numbers of a list separated by single blanks; `None` if there is no such setting.
pub(super) fn read(key: &SysctlKey) -> Result<Option<String>, Refusal> {
    match File::open(path(key)).and_then(|file| value_in(&file)) {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Sets a setting. Writes only what is not so already: some writes restart things even if nothing changes
/// (`net/ipv4/ip_forward` resets every interface's settings), and some settings can only be read here.
pub(super) fn write(sysctl: &Sysctl) -> Result<Created, Refusal> {
    let opened = open(&sysctl.key);
    let before = match &opened {
        Ok(file) => value_in(file).map(Some).map_err(Refusal::from),
        Err(_) => read(&sysctl.key),
    };
    let before = match before {
        // One that can only be written, to make something happen: net/ipv4/route/flush.
        Err(Refusal { errno, .. }) if errno == Errno::new(libc::EACCES) => {
            let written = fs::write(path(&sysctl.key), &sysctl.value);
            return written.map(|()| Created::New).map_err(Refusal::from);
        }
        before => before?,
    };
    let before = match before {
        Some(before) => before,
        None if sysctl.optional => return Ok(Created::Kept),
        None => return Err(nix::errno::Errno::ENOENT.into()),
    };
    if before == normalise(&sysctl.value) {
        return Ok(Created::Kept);
    }
    // At the beginning: the kernel takes no value in pieces.
    let written = opened.and_then(|file| file.write_all_at(sysctl.value.as_bytes(), 0));
    written?;
    Ok(Created::Changed(Resource::Sysctl(Sysctl { value: before, ..sysctl.clone() })))
}

/// The kernel separates the numbers of a list with tabs (`net/ipv4/ip_local_port_range`); people write blanks.
fn normalise(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn value_in(mut file: &File) -> Result<String, Error> {
    // More than one page is never read from or written to a setting.
    let mut value = [0; 4096];
    let length = file.read(&mut value)?;
    Ok(normalise(&String::from_utf8_lossy(value.get(..length).unwrap_or_default())))
}

fn open(key: &SysctlKey) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    match options.open(path(key)) {
        Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => {
            options.open(Path::new(UNMASKED).join(key.to_string())).map_err(|_| error)
        }
        opened => opened,
    }
}

fn path(key: &SysctlKey) -> PathBuf {
    PathBuf::from(format!("/proc/sys/{key}"))
}

fn is_absent(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}
