//! Probes that are under way together, and when it is time for the next.

use std::time::{Duration, Instant};

use super::By;
use gossip::Random;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// Probes of several sizes that are sent at once.
#[derive(Debug)]
pub(super) struct Round {
    flights: Vec<Flight>,
    answered: Vec<u32>,
    /// When it ends, if it is open; else when the next one begins.
    pub(super) due: Instant,
}

/// A probe under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flight {
    nonce: u64,
    size: u32,
    pub(super) sent: Instant,
}

/// A probe that shall be sent.
#[derive(Debug, Clone)]
pub(super) struct Launch {
    pub(super) by: By,
    pub(super) size: u32,
    pub(super) nonce: u64,
}

/// What a peer needs to know, and where it says what shall be sent.
pub(super) struct Context<'a> {
    pub(super) now: Instant,
    /// When seconds begin to be counted.
    pub(super) begun: Instant,
    pub(super) random: &'a mut Random,
    /// How long a path is left alone on which all is well.
    pub(super) interval: Duration,
    pub(super) launches: Vec<Launch>,
}

impl Context<'_> {
    /// When the next round is due where all is well: at the end of a second, as those of other peers. Nobody's rounds stay in
    /// step with others'.
    pub(super) fn rest(&mut self) -> Instant {
        let due = self.now + self.spread(self.interval);
        self.begun + Duration::from_secs(due.saturating_duration_since(self.begun).as_secs() + 1)
    }

    /// After a pause, or at the end of a rest if that is sooner.
    pub(super) fn pause(&mut self, pause: Duration) -> Instant {
        self.now + self.spread(pause)
    }

    /// Between nine and eleven tenths.
    fn spread(&mut self, duration: Duration) -> Duration {
        let tenths = 0.9 + 0.2 * self.random.fraction();
        duration.mul_f64(tenths)
    }
}

impl Round {
    /// One that begins then.
    pub(super) fn due(due: Instant) -> Self {
        Self { flights: Vec::new(), answered: Vec::new(), due }
    }

    pub(super) fn is_open(&self) -> bool {
        !self.flights.is_empty() || !self.answered.is_empty()
    }

    pub(super) fn is_complete(&self) -> bool {
        self.flights.is_empty()
    }

    pub(super) fn answered(&self) -> &[u32] {
        &self.answered
    }

    /// Begins it no later than then, if it has not begun.
    pub(super) fn hurry(&mut self, when: Instant) {
        if !self.is_open() {
            self.due = self.due.min(when);
        }
    }

    pub(super) fn open(&mut self, by: &By, sizes: &[u32], context: &mut Context<'_>) {
        for size in sizes {
            let nonce = context.random.number();
            self.flights.push(Flight { nonce, size: *size, sent: context.now });
            context.launches.push(Launch { by: by.clone(), size: *size, nonce });
        }
        self.due = context.now + PATIENCE;
    }

    /// What was answered.
    pub(super) fn close(&mut self) -> Vec<u32> {
        // Most of the time most peers are at rest: what they need then is all that they keep.
        self.flights = Vec::new();
        std::mem::take(&mut self.answered)
    }

    /// An answer to one of its probes.
    pub(super) fn land(&mut self, nonce: u64) -> Option<Flight> {
        let at = self.flights.iter().position(|flight| flight.nonce == nonce)?;
        let flight = self.flights.swap_remove(at);
        self.answered.push(flight.size);
        Some(flight)
    }
}
