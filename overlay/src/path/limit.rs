//! How often something may be done.

use std::time::Instant;

/// A bucket that fills steadily; each time takes one drop.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: f64,
    room: f64,
    drops: f64,
    at: Instant,
}

impl Bucket {
    /// So many times a second, and so many at once.
    pub(super) fn new((rate, room): (f64, f64), now: Instant) -> Self {
        Self { rate, room, drops: room, at: now }
    }

    /// Whether it may be done now.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.drops = (self.drops + passed * self.rate).min(self.room);
        let may = self.drops >= 1.0;
        if may {
            self.drops -= 1.0;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn it_lets_pass_what_it_holds_and_then_what_runs_in() {
        let start = Instant::now();
        let mut bucket = Bucket::new((10.0, 3.0), start);
        let taken = |bucket: &mut Bucket, at| (0..100).filter(|_| bucket.take(at)).count();
        assert_eq!(taken(&mut bucket, start), 3);
        assert_eq!(taken(&mut bucket, start + Duration::from_millis(200)), 2);
        assert_eq!(taken(&mut bucket, start + Duration::from_secs(3600)), 3);
    }
}
