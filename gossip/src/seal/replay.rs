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
    /// Which of the 64 up to the highest have been seen; the highest is bit 0.
    seen: u64,
    last: Time,
}

impl Windows {
    /// Lets each frame pass once.
    pub(super) fn admit(&mut self, now: Time, sender: PeerId, counter: u64) -> Result<(), Refused> {
        if let Some(window) = self.by_sender.get_mut(&sender).filter(|window| now < window.last + RETENTION) {
            window.admit(counter)?;
            window.last = now;
            return Ok(());
        }
        if self.by_sender.len() >= SENDERS {
            self.by_sender.retain(|_, window| now < window.last + RETENTION);
        }
        // Only who has the key comes so far.
        if self.by_sender.len() >= SENDERS {
            return Err(Refused::Replayed);
        }
        self.by_sender.insert(sender, Window { highest: counter, seen: 1, last: now });
        Ok(())
    }
}

impl Window {
    fn admit(&mut self, counter: u64) -> Result<(), Refused> {
        if counter > self.highest {
            let step = counter - self.highest;
            self.seen = if step < 64 { self.seen << step | 1 } else { 1 };
            self.highest = counter;
            return Ok(());
        }
        let bit = 1_u64.checked_shl(u32::try_from(self.highest - counter).unwrap_or(u32::MAX)).unwrap_or(0);
        if bit == 0 || self.seen & bit != 0 {
            return Err(Refused::Replayed);
        }
        self.seen |= bit;
        Ok(())
    }
}
