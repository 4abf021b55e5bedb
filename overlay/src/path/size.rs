//! How large a packet may be on a way: what interfaces promise, what came through, and the search where these differ.
//!
//! In the spirit of RFC 8899 (datagram packetization layer path MTU discovery): only what was answered counts, no ICMP
//! message does. Sizes are those of IP packets, headers included.

use std::time::{Duration, Instant};

/// What every link carries that has IPv6 (RFC 8200), and nearly every other.
pub(crate) const BASE: u32 = 1280;
/// What every host takes (RFC 791).
pub(crate) const SMALLEST: u32 = 576;
/// A search ends when it is as close as this to the truth.
const PRECISION: u32 = 8;
/// Rounds in which a size must be lost before it counts as too large, while smaller ones come through.
const TRIES: u32 = 2;
/// Rounds without an answer, after which a way is dead.
pub(crate) const MISSES: u32 = 3;
/// How long a hole is believed in.
const HOLE_LASTS: Duration = Duration::from_secs(300);

/// How large a packet may be on one way to one peer.
#[derive(Debug)]
pub(crate) struct Size {
    /// What interfaces promise.
    ceiling: u32,
    /// What the route says.
    current: u32,
    /// A packet of that size has come through.
    confirmed: bool,
    /// The smallest size that is known not to come through, although interfaces promise it.
    hole: Option<u32>,
    /// When larger ones are to be tried.
    raise: Option<Instant>,
    search: Option<Search>,
    /// Rounds in a row in which nothing that proves the way was answered.
    misses: u32,
    /// The largest that was answered in those.
    smaller: Option<u32>,
}

/// `low` comes through, `high` does not.
#[derive(Debug)]
struct Search {
    low: u32,
    high: u32,
    next: u32,
    tries: u32,
}

/// What a round of probes has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All is as it was: rest.
    Settled,
    /// It takes another round, at once.
    Unclear,
    /// Nothing comes through.
    Dead,
}

impl Size {
    /// Of a way about which nothing is known but what interfaces promise.
    pub(crate) fn new(ceiling: u32) -> Self {
        Self {
            ceiling,
            current: ceiling,
            confirmed: false,
            hole: None,
            raise: None,
            search: None,
            misses: 0,
            smaller: None,
        }
    }

    /// Of a way that was in use with a size before this agent began. If less than is promised, there was a reason, which is
    /// looked into.
    pub(crate) fn resumed(ceiling: u32, current: u32, now: Instant) -> Self {
        let current = current.min(ceiling).max(SMALLEST.min(ceiling));
        Self { current, raise: (current < ceiling).then_some(now), ..Self::new(ceiling) }
    }

    /// Of a way on which a packet of the promised size has just come through.
    pub(crate) fn proven(ceiling: u32) -> Self {
        Self { confirmed: true, ..Self::new(ceiling) }
    }

    pub(crate) fn current(&self) -> u32 {
        self.current
    }

    pub(crate) fn confirmed(&self) -> bool {
        self.confirmed
    }

    /// The smallest size that does not come through, although interfaces promise it; known as soon as no search goes on.
    pub(crate) fn hole(&self) -> Option<u32> {
        self.hole.filter(|_| self.search.is_none())
    }

    /// Interfaces promise something else now. Less is believed at once; more must come through first.
    pub(crate) fn promise(&mut self, ceiling: u32, now: Instant) {
        if ceiling == self.ceiling {
            return;
        }
        if ceiling < self.current {
            *self = Self { misses: self.misses, ..Self::new(ceiling) };
        } else {
            self.ceiling = ceiling;
            self.search = None;
            self.raise = (self.current < ceiling).then_some(now);
            self.hole = self.hole.filter(|hole| *hole <= ceiling);
        }
    }

    /// The sizes of the next round of probes.
    pub(crate) fn sizes(&mut self, now: Instant) -> Vec<u32> {
        if self.search.is_none() && self.misses == 0 && self.raise.is_some_and(|at| at <= now) {
            self.raise = None;
            self.search =
                Some(Search { low: self.current, high: self.ceiling + 1, next: self.ceiling, tries: 0 });
        }
        let mut sizes = match &self.search {
            Some(search) => vec![search.next, search.low],
            None => vec![self.current],
        };
        if self.misses > 0 {
            // Perhaps only large ones are lost.
            sizes.extend([BASE, SMALLEST]);
        }
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        sizes.dedup();
        let largest = sizes.first().copied().unwrap_or(self.current);
        sizes.retain(|size| *size == largest || *size <= self.ceiling);
        sizes
    }

    /// Whether a round in which these were answered need not wait for the rest.
    pub(crate) fn suffices(&self, answered: &[u32]) -> bool {
        match &self.search {
            Some(search) => answered.contains(&search.next),
            None => answered.contains(&self.current),
        }
    }

    /// What a round has shown in which these were answered.
    pub(crate) fn learn(&mut self, answered: &[u32], now: Instant) -> Outcome {
        let largest = answered.iter().copied().max();
        if let Some(search) = &mut self.search {
            if largest.is_none_or(|largest| largest < search.low) {
                return self.missed(largest, now);
            }
            self.misses = 0;
            self.confirmed = true;
            if answered.contains(&search.next) {
                search.low = search.next;
                self.current = search.low;
            } else {
                search.tries += 1;
                if search.tries < TRIES {
                    return Outcome::Unclear;
                }
                search.high = search.next;
            }
            return self.go_on(now);
        }
        if answered.contains(&self.current) {
            self.misses = 0;
            self.smaller = None;
            self.confirmed = true;
            return Outcome::Settled;
        }
        self.missed(largest, now)
    }

    /// The search's next step, or its end.
    fn go_on(&mut self, now: Instant) -> Outcome {
        let Some(search) = &mut self.search else { return Outcome::Settled };
        if search.high - search.low > PRECISION {
            search.tries = 0;
            // Upward again after a hole: mostly nothing has changed, and that is seen at once.
            let upward = search.high == self.ceiling && self.hole.is_some_and(|hole| hole < search.high);
            search.next = match self.hole {
                Some(hole) if upward && search.low < hole => search.low + PRECISION,
                _ => search.low + (search.high - search.low) / 2,
            };
            return Outcome::Unclear;
        }
        self.hole = (search.high <= self.ceiling).then_some(search.high);
        self.raise = self.hole.map(|_| now + HOLE_LASTS);
        self.search = None;
        Outcome::Settled
    }

    /// A round in which what should have been answered was not.
    fn missed(&mut self, largest: Option<u32>, now: Instant) -> Outcome {
        self.misses += 1;
        self.smaller = self.smaller.max(largest);
        if self.misses < MISSES {
            return Outcome::Unclear;
        }
        self.misses = 0;
        match self.smaller.take() {
            // Small packets go on, large ones do not: what is known to pass is the route's from now on, and the truth
            // is looked for between.
            Some(low) if low < self.current => {
                let high = self.current;
                self.current = low;
                self.confirmed = true;
                let next = low + (high - low) / 2;
                self.search = Some(Search { low, high, next, tries: 0 });
                self.hole = Some(high);
                if high - low > PRECISION { Outcome::Unclear } else { self.go_on(now) }
            }
            _ => {
                self.confirmed = false;
                self.search = None;
                self.raise = (self.current < self.ceiling).then_some(now);
                Outcome::Dead
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Rounds on a path that lets pass what is not larger than `passes`, until it rests.
    fn settle(size: &mut Size, passes: u32, now: Instant) -> (Outcome, usize) {
        for round in 1..100 {
            let sizes = size.sizes(now);
            let answered: Vec<u32> = sizes.into_iter().filter(|size| *size <= passes).collect();
            match size.learn(&answered, now) {
                Outcome::Unclear => {}
                outcome => return (outcome, round),
            }
        }
        panic!("it never rests: {size:?}");
    }

    #[test]
    fn what_is_promised_and_comes_through_takes_one_round() {
        let mut size = Size::new(1450);
        assert_eq!(settle(&mut size, 1450, Instant::now()), (Outcome::Settled, 1));
        assert!(size.confirmed() && size.hole().is_none() && size.current() == 1450);
    }

    #[test]
    fn a_path_through_which_nothing_comes_is_dead_after_three_rounds() {
        assert_eq!(settle(&mut Size::new(1450), 0, Instant::now()), (Outcome::Dead, 3));
    }

    #[test]
    fn a_hole_lowers_the_size_before_it_is_measured() {
        let (mut size, now) = (Size::new(1450), Instant::now());
        for _ in 0..3 {
            let answered: Vec<u32> = size.sizes(now).into_iter().filter(|size| *size <= 1400).collect();
            size.learn(&answered, now);
        }
        assert_eq!(size.current(), BASE);
        assert_eq!(settle(&mut size, 1400, now).0, Outcome::Settled);
        assert!((1393..=1400).contains(&size.current()), "{size:?}");
        assert!(size.hole().is_some_and(|hole| hole > 1400 && hole <= 1408), "{size:?}");
    }

    #[test]
    fn a_hole_that_is_gone_is_found_out_and_one_that_is_not_costs_few_probes() {
        let (mut size, start) = (Size::new(1450), Instant::now());
        settle(&mut size, 1400, start);
        let later = start + HOLE_LASTS;
        let (_, rounds) = settle(&mut size, 1400, later);
        assert!(rounds <= 5, "{rounds} rounds");
        assert!(size.hole().is_some());
        assert_eq!(settle(&mut size, 1450, later + HOLE_LASTS).0, Outcome::Settled);
        assert_eq!((size.current(), size.hole()), (1450, None));
    }

    #[test]
    fn interfaces_are_believed_when_they_promise_less_and_tried_when_they_promise_more() {
        let (mut size, now) = (Size::new(1450), Instant::now());
        settle(&mut size, 1450, now);
        size.promise(1350, now);
        assert_eq!((size.current(), size.confirmed()), (1350, false));
        settle(&mut size, 1350, now);
        size.promise(8950, now);
        assert_eq!(size.current(), 1350);
        settle(&mut size, 8950, now);
        assert_eq!((size.current(), size.confirmed(), size.hole()), (8950, true, None));
    }

    proptest! {
        /// Whatever passes, and whatever passes later: it ends close below, and never above.
        #[test]
        fn it_ends_at_what_passes(
            ceiling in 600..9000_u32,
            passes in 0..10_000_u32,
            later in 576..10_000_u32,
        ) {
            let (mut size, start) = (Size::new(ceiling), Instant::now());
            settle(&mut size, passes, start);
            for hour in 1..4 {
                settle(&mut size, later, start + Duration::from_secs(hour * 3600));
            }
            let truth = later.min(ceiling);
            prop_assert!(size.current() <= truth, "{:?}", size);
            prop_assert!(size.current() + PRECISION > truth, "{:?}", size);
            prop_assert_eq!(size.hole().is_some(), truth < ceiling, "{:?}", size);
        }
    }
}
