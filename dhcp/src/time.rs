//! Time as leases need it.

use std::ops::Add;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A moment: how long this machine had been up then, sleep included, in milliseconds (`CLOCK_BOOTTIME`).
///
/// Leases are measured in it: nobody can set it, it means the same to the daemon's next process, and it ends with the
/// boot, as namespaces do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Time(u64);

impl Time {
    /// A moment that does not come.
    pub(crate) const NEVER: Self = Self(u64::MAX);

    /// So long after the machine came up.
    pub(crate) fn since_boot(duration: Duration) -> Self {
        Self(duration.as_millis().try_into().unwrap_or(u64::MAX))
    }

    /// How long it is from an earlier moment to this one; nothing if that is later.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Never plus something is never.
impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.as_millis().try_into().unwrap_or(u64::MAX)))
    }
}
