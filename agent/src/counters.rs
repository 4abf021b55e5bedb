//! How much was done: counted where it is, shown by the metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

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

/// What was done to this node's kernel, since the agent was started.
#[derive(Debug, Default)]
pub(crate) struct KernelWork {
    /// How often it was brought to what is known, and how long that took.
    pub(crate) rounds: Count,
    pub(crate) microseconds: Count,
    /// How often something had to be done although nothing new was known: others had changed it.
    pub(crate) repairs: Count,
    /// How often something could not be done.
    pub(crate) refusals: Count,
}

impl KernelWork {
    /// It was brought to what is known once more.
    pub(crate) fn add(&self, took: Duration, repaired: bool, refused: bool) {
        self.rounds.add(1);
        self.microseconds.add(usize::try_from(took.as_micros()).unwrap_or(usize::MAX));
        self.repairs.add(usize::from(repaired));
        self.refusals.add(usize::from(refused));
    }
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
