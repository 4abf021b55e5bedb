//! The daemon's socket, and what is said to systemd.

use std::env;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::path::Path;

use nix::sys::stat::{Mode, umask};
use plugin_kit::files;

/// Listens at a path, for root alone. A socket that a dead process has left is replaced.
///
/// # Errors
/// When another daemon listens there, or as the kernel's.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Some(parent) = path.parent() {
        files::make_directory(parent, 0o700)?;
    }
    match UnixStream::connect(path) {
        Ok(_) => return Err(io::Error::new(ErrorKind::AddrInUse, "another daemon listens there")),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path)?,
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // Nobody else may connect, not even for a moment.
    let others = umask(Mode::S_IRWXG | Mode::S_IRWXO | Mode::S_IXUSR);
    let listener = UnixListener::bind(path);
    umask(others);
    let listener = listener?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Tells the service manager that the daemon serves now (`sd_notify(3)`), if one wants to know.
pub(crate) fn notify_ready() {
    let Some(path) = env::var_os("NOTIFY_SOCKET") else { return };
    let bytes = path.as_encoded_bytes();
    let address = match bytes.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    // Who does not hear it waits, and says so.
    let _ = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(b"READY=1\n", &address));
}
