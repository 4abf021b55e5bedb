//! This node's own pods: learned from the kernel, not from the plugin, so that neither waits for the other and nothing is
//! forgotten when one of them is started again.
//!
//! ```text
//! register     which cables are the network's ── whose they are: the mark
//!                └─ addresses: what the other end has, as far as it was leased to it
//! names        what Kubernetes calls it: the runtime's cache, a moment later
//! ```

mod names;
mod register;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use cni_spec::NetworkName;
use netops::{Kernel, LinuxKernel};
use overlay::Pod;
use tokio::sync::watch::Sender;
use tokio::time::{Instant, sleep, sleep_until};

use self::names::Cache;
use self::register::Register;
use crate::events::{self, Events};

/// How long is waited for what belongs to a change: a plugin's `ADD` is many.
const SETTLES: Duration = Duration::from_millis(20);

/// Which pods, and who knows of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodsConfig {
    /// The network that they are attached to.
    pub network: NetworkName,
    /// Where leases are, of all networks.
    pub data_dir: PathBuf,
    /// Where runtimes remember what they have attached.
    pub cache_dir: PathBuf,
}

/// Tells which pods of a network this node has, at once and after each change, in the order of their containers and
/// interfaces. The node's network namespace is this thread's.
///
/// A pod is known some 30 ms after it was attached; what Kubernetes calls it when the runtime has written that down. Runs until
/// nobody listens any more.
///
/// # Errors
/// When the kernel does not tell which interfaces there are.
pub async fn watch(config: PodsConfig, sender: Sender<Vec<Pod>>) -> Result<(), netops::Error> {
    // Listen before looking: nothing is missed in between.
    let mut events = Events::open(events::LINKS)?;
    let mut register = Register::new(&config, Cache::new(&config));
    loop {
        // Not kept: a kernel is a socket, and costs less than what is asked of it.
        let mut kernel = LinuxKernel::new(None);
        survey(&mut register, &mut kernel, &sender)?;
        tokio::select! {
            () = sender.closed() => return Ok(()),
            changed = events.changed() => {
                changed?;
                sleep(SETTLES).await;
                events.drain()?;
            }
            () = until(register.due()) => {}
        }
    }
}

/// Looks at what is there, and tells it if it is something else.
fn survey(
    register: &mut Register,
    kernel: &mut dyn Kernel,
    sender: &Sender<Vec<Pod>>,
) -> Result<(), netops::Error> {
    register.survey(kernel, Instant::now())?;
    let pods = register.pods();
    sender.send_if_modified(|told| {
        let differs = *told != pods;
        *told = pods;
        differs
    });
    Ok(())
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}
