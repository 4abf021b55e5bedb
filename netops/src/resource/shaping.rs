//! Traffic control: how fast packets leave an interface, and where they go that come in by it.

use std::time::Duration;

use crate::name::LinkName;

/// A queueing discipline of an interface (`RTM_NEWQDISC`). That there is another in its place already is `EEXIST`; one
/// that the kernel chose by itself is none.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Qdisc {
    /// The interface.
    pub link: LinkName,
    /// What it does.
    pub discipline: Discipline,
}

/// What a queueing discipline does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Discipline {
    /// Lets no more leave than a rate allows (`tbf`, handle `1:`, at the root).
    TokenBucket(TokenBucket),
    /// Takes filters for what comes in (`ingress`, handle `ffff:`): what a [`Redirect`] hangs from.
    Ingress,
}

/// A token bucket (`linux/pkt_sched.h`, `tc-tbf(8)`): packets leave as fast as tokens for their bytes are there.
///
/// The kernel does not remember the burst in bytes but as the time that it takes at the rate, in ticks of 64 ns and 32
/// bits: what is read back may be some bytes less, and a burst that takes longer than 274 s is read back less a multiple of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenBucket {
    /// Tokens that come into the bucket: bytes per second.
    pub rate: u64,
    /// The size of the bucket in bytes. A packet that does not fit into it never leaves.
    pub burst: u32,
    /// How many bytes may wait for tokens; what comes then is dropped.
    pub limit: u32,
}

impl TokenBucket {
    /// One in which no byte waits for longer than `latency`.
    pub fn with_latency(rate: u64, burst: u32, latency: Duration) -> Self {
        let waiting = u128::from(rate).saturating_mul(latency.as_micros()) / MICROSECONDS;
        let limit = waiting.saturating_add(u128::from(burst));
        Self { rate, burst, limit: u32::try_from(limit).unwrap_or(u32::MAX) }
    }

    /// How long the burst takes at the rate, in whole microseconds as `tc` and the kernel's other users reckon, in
    /// ticks. More than 32 bits are more than the kernel shows.
    pub(crate) fn ticks(&self) -> u64 {
        let time = u128::from(self.burst) * MICROSECONDS / u128::from(self.rate.max(1));
        u64::try_from(time * MICROSECOND / TICK).unwrap_or(u64::MAX)
    }

    /// One whose burst is as the kernel shows it.
    pub(crate) fn of_ticks(rate: u64, ticks: u32, limit: u32) -> Self {
        let burst = u128::from(ticks) * TICK * u128::from(rate) / (MICROSECONDS * MICROSECOND);
        Self { rate, burst: u32::try_from(burst).unwrap_or(u32::MAX), limit }
    }

    /// What the kernel shows of it.
    #[cfg(feature = "testing")]
    pub(crate) fn shown(&self) -> Self {
        Self::of_ticks(self.rate, self.ticks() as u32, self.limit)
    }

    /// Whether one that the kernel shows may have been made with this burst, at this rate.
    pub(crate) fn may_have_burst_of(&self, shown: &Self) -> bool {
        // What was lost in the kernel's units: a byte, a microsecond, and what its own arithmetic leaves off.
        let byte = Self { burst: 1, ..*self }.ticks();
        let slack = u32::try_from(byte + (2 * MICROSECOND / TICK) as u64).unwrap_or(u32::MAX);
        let difference = (self.ticks() as u32).wrapping_sub(shown.ticks() as u32);
        difference.min(difference.wrapping_neg()) <= slack
    }
}

/// Microseconds of a second, nanoseconds of a microsecond, nanoseconds of a tick (`PSCHED_SHIFT`).
const MICROSECONDS: u128 = 1_000_000;
const MICROSECOND: u128 = 1000;
const TICK: u128 = 64;

/// Everything that comes in by one interface goes out of another, which sends it back to where it came from if it is
/// an ifb ([`crate::LinkKind::Ifb`]): a filter that matches all (`u32`) with one action (`mirred`). It hangs from the
/// first one's [`Discipline::Ingress`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Redirect {
    /// By which packets come in.
    pub from: LinkName,
    /// Where they go.
    pub to: LinkName,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_burst_is_kept_as_the_time_that_it_takes() {
        let bucket = TokenBucket::with_latency(1_250_000, 10_000, Duration::from_millis(25));
        assert_eq!(bucket, TokenBucket { rate: 1_250_000, burst: 10_000, limit: 41_250 });
        assert_eq!(bucket.ticks(), 125_000);
        assert_eq!(TokenBucket::of_ticks(1_250_000, 125_000, 41_250), bucket);
    }

    #[test]
    fn no_number_is_too_large() {
        for rate in [0, 1, 1000, u64::from(u32::MAX), u64::MAX] {
            for burst in [0, 1, 1500, u32::MAX] {
                let bucket = TokenBucket::with_latency(rate, burst, Duration::from_millis(25));
                let shown = TokenBucket::of_ticks(rate, bucket.ticks() as u32, bucket.limit);
                assert!(bucket.may_have_burst_of(&shown) || rate == 0, "{bucket:?} {shown:?}");
            }
        }
    }

    #[test]
    fn another_burst_is_told_from_what_rounding_leaves() {
        let bucket = |burst| TokenBucket { rate: 125_000_000, burst, limit: 0 };
        let shown = TokenBucket::of_ticks(125_000_000, bucket(1_000_003).ticks() as u32, 0);
        assert_ne!(shown.burst, 1_000_003);
        assert!(bucket(1_000_003).may_have_burst_of(&shown));
        assert!(!bucket(1_001_003).may_have_burst_of(&shown));
        assert!(!bucket(999_003).may_have_burst_of(&shown));
    }
}
