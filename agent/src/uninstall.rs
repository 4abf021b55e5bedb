//! The way back: what running agents have made of a node is taken away again.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::conf_list;
use crate::dataplane::remove_data_plane;
use crate::error::Error;
use crate::files::lock;
use crate::run::{LOCK, Signals};
use crate::settings::Settings;
use crate::told;

/// What was taken off the node. No agent starts for as long as the value lives.
#[derive(Debug)]
pub struct Uninstalled {
    /// The runtime's configuration, if there was one.
    pub conf_list: Option<PathBuf>,
    /// How many things the kernel held.
    pub things: usize,
    _lock: Option<File>,
}

/// Takes the network off this node: the runtime's configuration first, so that no more pods are attached, what the plugin was
/// told, and all that the data plane is made of, but for the bridge, whose ports are pods', and for settings, which others may
/// rely on. The node's id and subnets stay on the disk.
///
/// # Errors
/// [`Error::Running`] while there is an agent, which would make all of it again; or what could not be removed.
pub fn uninstall(settings: &Settings, conf_dir: Option<&Path>) -> Result<Uninstalled, Error> {
    let lock = keep_agents_away(settings)?;
    let conf_list = conf_dir.map(|directory| conf_list::path(directory, settings));
    let conf_list = match conf_list {
        Some(path) if remove(&path)? => Some(path),
        _ => None,
    };
    remove(&told::file(settings))?;
    let things = remove_data_plane(settings).map_err(Error::Left)?;
    Ok(Uninstalled { conf_list, things, _lock: lock })
}

impl Uninstalled {
    /// Returns when a signal says so (`SIGTERM`, `SIGINT`).
    ///
    /// # Errors
    /// If signals cannot be waited for.
    pub fn stay(self) -> Result<(), Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(Error::io("start the runtime"))?.block_on(async {
            Signals::new()?.end().await;
            Ok(())
        })
    }
}

/// Where there was no agent, nothing is made for that.
fn keep_agents_away(settings: &Settings) -> Result<Option<File>, Error> {
    let path = settings.state_dir.join(LOCK);
    match lock(&path) {
        Ok(lock) => Ok(Some(lock)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Err(Error::Running { lock: path }),
        Err(error) => Err(Error::io(format!("take {}", path.display()))(error)),
    }
}

/// Whether there was such a file.
fn remove(path: &Path) -> Result<bool, Error> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io(format!("remove {}", path.display()))(error)),
    }
}
