//! Medians, and how sure they are.

use std::fmt;
use std::time::Duration;

/// The times of pairs of calls, in milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    theirs: Vec<f64>,
    ours: Vec<f64>,
}

impl Pairs {
    pub(crate) fn push(&mut self, theirs: Duration, ours: Duration) {
        self.theirs.push(theirs.as_secs_f64() * 1e3);
        self.ours.push(ours.as_secs_f64() * 1e3);
    }
}

/// Has two sides (theirs is 0, ours 1) do the same things (make a pod, and unmake it), in pairs, in which they take turns in
/// going first. What each of the things took.
pub(crate) fn in_turns<const THINGS: usize>(
    pairs: usize,
    visit: impl Fn(usize) -> [Duration; THINGS],
) -> [Pairs; THINGS] {
    let mut all = std::array::from_fn(|_| Pairs::default());
    // The first round is for the caches.
    for round in 0..=pairs {
        let mut took = [[Duration::ZERO; THINGS]; 2];
        for turn in 0..2 {
            let side = (round + turn) % 2;
            took[side] = visit(side);
        }
        if round > 0 {
            let [theirs, ours] = took;
            for (pairs, (theirs, ours)) in all.iter_mut().zip(theirs.into_iter().zip(ours)) {
                pairs.push(theirs, ours);
            }
        }
    }
    all
}

/// What pairs come to: medians in milliseconds, of how many times as fast ours are, and the 95 % interval of that.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Summary {
    pub(crate) theirs: Spread,
    pub(crate) ours: Spread,
    pub(crate) ratio: f64,
    pub(crate) interval: (f64, f64),
}

/// The median, the smallest and the largest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Pairs {
    /// What they come to.
    ///
    /// # Panics
    /// If there are none.
    pub(crate) fn summary(&self) -> Summary {
        let ratios = sorted(self.theirs.iter().zip(&self.ours).map(|(theirs, ours)| theirs / ours).collect());
        Summary {
            theirs: Spread::of(&self.theirs),
            ours: Spread::of(&self.ours),
            ratio: median(&ratios),
            interval: interval(&ratios),
        }
    }
}

impl Spread {
    fn of(times: &[f64]) -> Self {
        let times = sorted(times.to_vec());
        Self { median: median(&times), least: times[0], most: times[times.len() - 1] }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} ({:.2} to {:.2})", self.median, self.least, self.most)
    }
}

/// The values in order.
pub(crate) fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

/// The value in the middle.
pub(crate) fn median(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[half] } else { (sorted[half - 1] + sorted[half]) / 2.0 }
}

/// Two of the values, between which the median of all such values is with 95 %: of n values, each is above the median
/// or below it like a coin.
pub(crate) fn interval(sorted: &[f64]) -> (f64, f64) {
    let n = sorted.len();
    let mut rank = 0;
    let (mut below, mut binomial) = (0.0, 0.5_f64.powi(i32::try_from(n).unwrap_or(i32::MAX)));
    while below + binomial <= 0.025 {
        below += binomial;
        binomial *= (n - rank) as f64 / (rank + 1) as f64;
        rank += 1;
    }
    let low = rank.saturating_sub(1);
    (sorted[low], sorted[n - 1 - low])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_has_the_ranks_of_the_tables() {
        // Twenty values: from the sixth to the fifteenth; thirty: from the tenth to the twenty-first.
        for (n, low) in [(20, 6), (30, 10), (40, 14)] {
            let values: Vec<f64> = (1..=n).map(f64::from).collect();
            assert_eq!(interval(&values), (f64::from(low), f64::from(n + 1 - low)));
        }
    }
}
