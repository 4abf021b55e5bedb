//! What outlives a restart: in which of its lives the node is, its subnets, and how far it has counted.

use std::io;
use std::path::PathBuf;

use overlay::NodeId;
use overlay::mesh::Saved;
use plugin_kit::files::{self, Durability};
use serde::{Deserialize, Serialize};

use crate::files::{Secrecy, read_own};
use crate::log;

/// The file is read no further than this.
const LARGEST: u64 = 1 << 20;

/// The file, and what is in it.
#[derive(Debug)]
pub(super) struct Disk {
    path: PathBuf,
    node: NodeId,
    counter: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    /// Whose it is.
    node: NodeId,
    /// Where the counter of this life's frames began.
    counter: u64,
    #[serde(flatten)]
    saved: Saved,
}

impl Disk {
    pub(super) fn new(path: PathBuf, node: NodeId) -> Self {
        Self { path, node, counter: None }
    }

    /// What is there; nothing, if this is the node's first life.
    pub(super) fn load(&mut self) -> Result<Saved, String> {
        let named = |error: String| {
            format!(
                "read {}: {error}: put the right one back; or remove it, and the node takes another subnet",
                self.path.display()
            )
        };
        let content = match read_own(&self.path, Secrecy::Public, LARGEST) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Saved::default()),
            Err(error) => return Err(named(error.to_string())),
        };
        let record: Record = serde_json::from_slice(&content).map_err(|error| named(error.to_string()))?;
        if record.node != self.node {
            log::warning(format_args!(
                "{} is of node {}, which this is not any more: its subnets are not taken over",
                self.path.display(),
                record.node
            ));
            return Ok(Saved::default());
        }
        self.counter = Some(record.counter);
        Ok(record.saved)
    }

    /// Where the counter began, of the last life that is known.
    pub(super) fn counter(&self) -> Option<u64> {
        self.counter
    }

    /// Where it begins in this life. It is on the disk with what is saved next, before any frame is sent.
    pub(super) fn set_counter(&mut self, counter: u64) {
        self.counter = Some(counter);
    }

    /// It is on the disk when this returns.
    pub(super) fn save(&self, saved: &Saved) -> Result<(), String> {
        let record =
            Record { node: self.node, counter: self.counter.unwrap_or_default(), saved: saved.clone() };
        let content = serde_json::to_vec(&record).map_err(|error| error.to_string())?;
        files::replace(&self.path, &content, 0o600, Durability::Disk)
            .map_err(|error| format!("write {}: {error}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use overlay::{Subnet, SubnetState};

    use super::*;

    #[test]
    fn what_is_saved_is_for_the_node_that_saved_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gossip-cnikit.json");
        let disk = |n| Disk::new(path.clone(), NodeId::from_bytes([n; 16]));
        let mut one = disk(1);
        assert_eq!(one.load(), Ok(Saved::default()));
        one.set_counter(7);
        let subnet = Subnet { prefix: "10.244.7.0/24".parse().unwrap(), state: SubnetState::Held };
        let saved = Saved { incarnation: 3, subnets: vec![subnet] };
        one.save(&saved).unwrap();

        let mut again = disk(1);
        assert_eq!((again.load(), again.counter()), (Ok(saved), Some(7)));
        let mut other = disk(2);
        assert_eq!((other.load(), other.counter()), (Ok(Saved::default()), None));
        std::fs::write(&path, "{").unwrap();
        assert!(disk(1).load().unwrap_err().contains("another subnet"));
    }
}
