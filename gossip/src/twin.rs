//! A node that exists twice, behind seals: whoever hears both has them meet.
//!
//! What the one sends that was started first is refused, for it counts from a time before the other's, as what is sent again
//! does. It hears nothing any more, and neither hears of the other. But whoever refuses it sees where that comes from.

use std::net::SocketAddr;

use crate::gossip::Gossip;
use crate::message::TWIN;
use crate::node::Node;
use crate::wire::{Garbled, Reader};
use crate::{PeerId, Time};

/// How many rounds pass between two looks for one's other self.
const PAUSE_ROUNDS: u32 = 5;
/// How many rounds the other self is silent when it counts as gone: some looks were in vain.
const SILENT_ROUNDS: u32 = 3 * PAUSE_ROUNDS;

impl Gossip {
    /// What `sender` has sealed came from an address, and is refused because it was sealed before what was heard of it already.
    /// The one that is heard is told: it can find out whether somebody is there. Nobody else is answered, for it may be a
    /// stranger who sends again what he has recorded.
    pub fn receive_refused(&mut self, now: Time, from: SocketAddr, sender: &PeerId) {
        self.wake(now);
        let Some(node) = self.nodes.get(sender).filter(|node| node.id != self.id && node.is_live()) else {
            return;
        };
        let to = node.address();
        if to == Some(from) || node.addresses.contains(&from) || !self.may_ask(sender) {
            return;
        }
        let Some(to) = to else { return };
        let mut letters = self.letters(1);
        letters.part(TWIN, |to| {
            to.address(&from);
            true
        });
        self.post(to, letters);
    }

    /// Whether this process is the one of two that nobody hears, and the other has been silent for a while. Then it begins another
    /// life, and what it seals must count from a later time than the other's: [`Opener::latest`](crate::seal::Opener::latest).
    pub fn outlives_twin(&mut self, now: Time) -> bool {
        self.wake(now);
        let patience = self.config.round * SILENT_ROUNDS;
        if !self.is_isolated() || self.risen.met.is_none_or(|met| now < met + patience) {
            return false;
        }
        self.risen.met = None;
        self.rise_above(self.epoch().incarnation);
        self.rise();
        true
    }

    /// Somebody speaks as this node at an address, or did. If it is a process that lives, it meets itself, and answers.
    pub(crate) fn on_twin(&mut self, mut body: Reader<'_>) -> Result<(), Garbled> {
        let address = body.address()?;
        let is_own = self.nodes.get(&self.id).is_some_and(|own: &Node| own.addresses.contains(&address));
        let pause = self.config.round * PAUSE_ROUNDS;
        let looked = self.risen.looked.is_some_and(|looked| self.now < looked + pause);
        if !is_own && !looked && !self.has_left {
            self.risen.looked = Some(self.now);
            self.look_at(address);
        }
        Ok(())
    }
}
