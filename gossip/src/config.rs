//! How often, how long, how much.

use std::time::Duration;

use crate::seal;

/// How often, how long, how much. The default is for nodes of one data centre.
///
/// All nodes of a cluster should have the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How often a node looks after another one: one probe each.
    pub round: Duration,
    /// How long an answer to a probe may take before others are asked to try. Less than a round.
    pub probe_timeout: Duration,
    /// How many others are asked.
    pub helpers: usize,
    /// How long a suspect has to speak up before it counts as down, in rounds, times the decimal logarithm of the number of
    /// nodes: the news must get to it, and its answer back.
    pub suspicion: u32,
    /// How long a change that came from another node may wait for more, to go on in one datagram with them. The first
    /// after a while does not wait.
    pub gather: Duration,
    /// How often a node that is down, or a seed, is tried.
    pub retry: Duration,
    /// How long to wait between two exchanges by stream.
    pub exchange_interval: Duration,
    /// How long a deleted key is remembered. A node that was away for longer is told the whole state anew.
    pub deleted_for: Duration,
    /// How long a forgotten node is remembered as such: longer than any node can be cut off and still be expected not to
    /// bring it back.
    pub forgotten_for: Duration,
    /// The largest datagram, seal included, in bytes: 1200 or more, so that the largest entry fits. 1200 fits every path on
    /// which IPv6 works (1280).
    pub datagram: usize,
    /// How many nodes are known at most. What is said of more is not believed.
    pub nodes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            round: Duration::from_secs(1),
            probe_timeout: Duration::from_millis(300),
            helpers: 3,
            suspicion: 4,
            gather: Duration::from_millis(20),
            retry: Duration::from_secs(5),
            exchange_interval: Duration::from_secs(2),
            deleted_for: Duration::from_secs(3600),
            forgotten_for: Duration::from_secs(7 * 24 * 3600),
            datagram: 1200,
            nodes: 16_384,
        }
    }
}

impl Config {
    /// What is left of a datagram when it is sealed. Never less than what the largest entry needs.
    pub(crate) fn payload(&self) -> usize {
        self.datagram.max(1200) - seal::OVERHEAD
    }
}
