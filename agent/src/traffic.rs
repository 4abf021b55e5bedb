//! How much has gone over the network: counted where it goes, shown by the metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// How much has gone over the network, since the agent was started.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) sent: Count,
    pub(crate) sent_bytes: Count,
    pub(crate) received: Count,
    pub(crate) received_bytes: Count,
    /// What could not be opened: of strangers.
    pub(crate) refused: Count,
    pub(crate) exchanges: Count,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, more: usize) {
        self.0.fetch_add(u64::try_from(more).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
