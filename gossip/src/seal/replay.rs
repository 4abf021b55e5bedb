//! Which frames have been seen.

use std::collections::HashMap;

use super::Refused;
use crate::{PeerId, Time};

/// How many senders are remembered.
const SENDERS: usize = 32_768;
/// How long a sender is that says nothing new: one whose clock was set back, and whose disk too, is heard again after that.
const RETENTION: Time = Time::from_secs(3600);

/// What has been seen of each sender.
#[derive(Debug, Default)]
pub(super) struct Windows {
    by_sender: HashMap<PeerId, Window>,
}

#[derive(Debug)]
struct Window {
    highest: u64,
    /// A bit for each counter, in blocks that are used in turn (RFC 6479): nothing is ever shifted.
    seen: [u64; BLOCKS as usize],
    last: Time,
}

/// A sender counts what it sends to all: between two frames for one receiver there are many for others.
const BLOCKS: u64 = 8;

impl Windows {
    /// Lets each frame pass once.
    pub(super) fn admit(&mut self, now: Time, sender: PeerId, counter: u64) -> Result<(), Refused> {
        if let Some(window) = self.by_sender.get_mut(&sender).filter(|window| now < window.last + RETENTION) {
            window.admit(counter).ok_or(Refused::Replayed(sender))?;
            window.last = now;
            return Ok(());
        }
        if self.by_sender.len() >= SENDERS {
            self.by_sender.retain(|_, window| now < window.last + RETENTION);
        }
        // Only who has the key comes so far.
        if self.by_sender.len() >= SENDERS {
            return Err(Refused::Replayed(sender));
        }
        let mut window = Window { highest: counter, seen: [0; _], last: now };
        window.admit(counter).ok_or(Refused::Replayed(sender))?;
        self.by_sender.insert(sender, window);
        Ok(())
    }
}

impl Windows {
    pub(super) fn highest(&self, sender: &PeerId) -> Option<u64> {
        self.by_sender.get(sender).map(|window| window.highest)
    }
}

impl Window {
    /// Nothing, if it has been there or may have been.
    fn admit(&mut self, counter: u64) -> Option<()> {
        let (block, highest) = (counter / 64, self.highest / 64);
        if block + BLOCKS <= highest {
            return None;
        }
        // Blocks that begin to be used have been used for others.
        for new in (highest + 1..=block).take(BLOCKS as usize) {
            self.write(new, 0);
        }
        self.highest = self.highest.max(counter);
        let (seen, bit) = (self.read(block), 1 << (counter % 64));
        if seen & bit != 0 {
            return None;
        }
        self.write(block, seen | bit);
        Some(())
    }

    fn read(&self, block: u64) -> u64 {
        self.seen.get((block % BLOCKS) as usize).copied().unwrap_or(u64::MAX)
    }

    fn write(&mut self, block: u64, bits: u64) {
        if let Some(seen) = self.seen.get_mut((block % BLOCKS) as usize) {
            *seen = bits;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Time = Time::from_secs(5000);

    proptest! {
        #[test]
        fn each_frame_passes_once_and_none_that_is_recent_is_refused(
            start in 0_u64..1 << 60,
            steps in prop::collection::vec(0_u64..1200, 1..300),
        ) {
            let mut windows = Windows::default();
            let mut seen = std::collections::BTreeSet::new();
            for step in steps {
                let counter = start + step;
                let is_new = seen.insert(counter);
                let highest = *seen.last().unwrap_or(&0);
                let admitted = windows.admit(NOW, [1; 16], counter).is_ok();
                prop_assert!(!admitted || is_new);
                prop_assert!(admitted || !is_new || highest - counter >= 64 * (BLOCKS - 1));
            }
        }
    }

    #[test]
    fn a_sender_whose_counter_went_back_is_heard_again_in_time() {
        let mut windows = Windows::default();
        assert_eq!(windows.admit(NOW, [1; 16], 1 << 40), Ok(()));
        assert_eq!(windows.admit(NOW + RETENTION / 2, [1; 16], 7), Err(Refused::Replayed([1; 16])));
        assert_eq!(windows.admit(NOW + RETENTION, [1; 16], 8), Ok(()));
        assert_eq!(windows.admit(NOW + RETENTION, [1; 16], 8), Err(Refused::Replayed([1; 16])));
    }

    #[test]
    fn there_are_not_more_senders_than_memory_is_meant_for() {
        let mut windows = Windows::default();
        let sender = |number: usize| {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&number.to_le_bytes());
            id
        };
        for number in 0..SENDERS {
            assert_eq!(windows.admit(NOW, sender(number), 1), Ok(()));
        }
        assert_eq!(windows.admit(NOW, sender(SENDERS), 1), Err(Refused::Replayed(sender(SENDERS))));
        assert_eq!(windows.admit(NOW, sender(0), 2), Ok(()));
        assert_eq!(windows.admit(NOW + RETENTION, sender(SENDERS), 1), Ok(()));
    }
}
