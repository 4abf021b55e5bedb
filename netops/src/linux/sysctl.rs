//! Sysctls: files below `/proc/sys`, which show the namespace of the thread that opens them.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::PathBuf;

use super::namespace::errno_of;
use super::netlink::Refusal;
use crate::kernel::Created;
use crate::name::SysctlKey;
use crate::resource::{Resource, Sysctl};

/// A setting's value; `None` if there is no such setting.
pub(super) fn read(key: &SysctlKey) -> Result<Option<String>, Refusal> {
    match fs::read(path(key)) {
        Ok(value) => Ok(Some(String::from_utf8_lossy(&value).trim_end().to_owned())),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(refusal(&error)),
    }
}

/// Sets a setting. Writes only what is not so already: some writes restart things even if nothing changes
/// (`net/ipv4/ip_forward` resets every interface's settings).
pub(super) fn write(sysctl: &Sysctl) -> Result<Created, Refusal> {
    let before = fs::read(path(&sysctl.key)).map_err(|error| refusal(&error))?;
    let before = String::from_utf8_lossy(&before).trim_end().to_owned();
    if same_value(&before, &sysctl.value) {
        return Ok(Created::Kept);
    }
    fs::write(path(&sysctl.key), &sysctl.value).map_err(|error| refusal(&error))?;
    Ok(Created::Changed(Resource::Sysctl(Sysctl { key: sysctl.key.clone(), value: before })))
}

/// Sets a setting where there is one: without IPv6 there are none of its settings, and nothing that they would be for.
pub(super) fn write_if_there(key: &SysctlKey, value: &str) -> Result<(), Refusal> {
    match fs::OpenOptions::new().write(true).open(path(key)) {
        Ok(mut file) => io::Write::write_all(&mut file, value.as_bytes()).map_err(|error| refusal(&error)),
        Err(error) if is_absent(&error) => Ok(()),
        Err(error) => Err(refusal(&error)),
    }
}

/// The kernel separates the numbers of a list with tabs (`net/ipv4/ip_local_port_range`).
fn same_value(a: &str, b: &str) -> bool {
    a.split_whitespace().eq(b.split_whitespace())
}

fn path(key: &SysctlKey) -> PathBuf {
    PathBuf::from(format!("/proc/sys/{key}"))
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn refusal(error: &io::Error) -> Refusal {
    Refusal { errno: errno_of(error), detail: None }
}
