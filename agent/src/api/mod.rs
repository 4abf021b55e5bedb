//! What answers: HTTP/1.1 with JSON on a unix socket, for this node's root; health and metrics over TCP, for whoever
//! watches the node.

mod connection;
mod metrics;
mod routes;
#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as Probe;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use crate::known::Known;
use crate::log;

/// The socket's name in the directory of what does not outlive a reboot.
pub(crate) const SOCKET: &str = "agent.sock";

/// How many ask at once. Others wait in the kernel's queue.
const CONNECTIONS: usize = 64;

/// Listens on a unix socket, for root and its group. One that a dead agent has left is replaced: there is no other, as this
/// one has the lock.
pub(crate) fn listen(run_dir: &Path) -> io::Result<Listener> {
    let path = run_dir.join(SOCKET);
    match Probe::connect(&path) {
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, "another agent answers there")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(_) => fs::remove_file(&path)?,
    }
    // Nobody may connect before the mode is right: what is bound under another name is not found.
    let hidden = run_dir.join(format!(".{SOCKET}"));
    let _ = fs::remove_file(&hidden);
    let socket = UnixListener::bind(&hidden)?;
    fs::set_permissions(&hidden, fs::Permissions::from_mode(0o660))?;
    fs::rename(&hidden, &path)?;
    Ok(Listener { socket, path })
}

/// A unix socket that is gone from the file system when nobody listens any more.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: UnixListener,
    path: PathBuf,
}

impl Drop for Listener {
    fn drop(&mut self) {
        // What stays is replaced by the next one.
        let _ = fs::remove_file(&self.path);
    }
}

/// Answers what this node's root asks.
pub(crate) async fn serve_people(listener: Listener, known: Arc<Known>) -> String {
    let seats = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(seat) = Arc::clone(&seats).acquire_owned().await else { return "no seats".to_owned() };
        match listener.socket.accept().await {
            Ok((stream, _)) => connection::serve(stream, Arc::clone(&known), routes::people, seat),
            Err(error) => wait_after(&error).await,
        }
    }
}

/// Answers who watches the node.
pub(crate) async fn serve_watchers(listener: TcpListener, known: Arc<Known>) -> String {
    let seats = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(seat) = Arc::clone(&seats).acquire_owned().await else { return "no seats".to_owned() };
        match listener.accept().await {
            Ok((stream, _)) => connection::serve(stream, Arc::clone(&known), routes::watchers, seat),
            Err(error) => wait_after(&error).await,
        }
    }
}

/// Who has gone before they were served is nobody's loss; where descriptors are short, it helps to wait.
async fn wait_after(error: &io::Error) {
    if error.kind() != io::ErrorKind::ConnectionAborted {
        log::warning(format_args!("accept a connection: {error}"));
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}
