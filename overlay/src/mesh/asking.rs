//! What a node that claims a prefix asks of others, and what it answers them.

use std::net::SocketAddr;
use std::time::Duration;

use super::Mesh;
use crate::claim::Objectors;
use crate::id::NodeId;

/// How long it is seen to it that all hear of a prefix that is held.
pub(super) const TOLD: Duration = Duration::from_secs(1);
/// How long after one exchange for a claim another begins, if the claim still waits for one.
const EXCHANGE_PAUSE: Duration = Duration::from_millis(250);

impl Mesh {
    /// A claim waits until all is known that some member knows.
    pub(super) fn exchange_for_claim(&mut self) -> Option<SocketAddr> {
        // For who asks for consent only an exchange with somebody who holds a prefix for good is worth something: see `claim`.
        let last = if self.asks { self.vouched().unwrap_or_default() } else { self.exchanged };
        if self.now < self.next_exchange || !self.claims.wants_exchange(last) {
            return None;
        }
        let turn = self.local.id.spread().wrapping_add(self.exchanges);
        let settled = |id: &NodeId| !self.asks || self.taken.is_settled_by(id);
        let some = self.nodes.some_alive(&self.local.id, turn, settled);
        let some = some.or_else(|| self.nodes.some_alive(&self.local.id, turn, |_| true))?;
        let member = self.gossip.member(some.as_bytes())?;
        let wanted = member.heard.or_else(|| member.addresses.first().copied())?;
        self.next_exchange = self.now + EXCHANGE_PAUSE;
        Some(wanted)
    }

    /// The last exchange, if it was with a member that holds a prefix for good.
    pub(super) fn vouched(&self) -> Option<u64> {
        self.exchanged_with.filter(|partner| self.taken.is_settled_by(partner)).map(|_| self.exchanged)
    }

    /// Asks others what they have against what is claimed, as soon as there is somebody whose word would count, if they are not
    /// too many; and afterwards whether they have heard that it is held: until then some would have no way to its pods, and
    /// news may miss somebody for a round or two.
    pub(super) fn ask(&mut self) {
        let is_waiting = self.claims.is_claiming() && self.taken.is_settled();
        let is_telling = !is_waiting && self.now < self.tells_until;
        if is_telling && self.asks && self.gossip.has_consent() {
            self.tells_until = self.now;
        }
        let asks = (is_waiting || self.now < self.tells_until) && self.gossip.can_ask();
        if !asks {
            self.gossip.withdraw();
        } else if !self.asks {
            self.gossip.ask(self.now);
        }
        self.asks = asks;
    }

    /// Answers those who ask. What they said came before, and what this node claims it has just reconsidered because of it.
    pub(super) fn answer(&mut self) {
        for id in std::mem::take(&mut self.askers) {
            match self.claims.objectors(&id, &self.taken) {
                None | Some(Objectors { any: false, .. }) => self.gossip.consent(self.now, id.as_bytes()),
                Some(Objectors { nodes, .. }) if !nodes.is_empty() => {
                    let nodes: Vec<_> = nodes.iter().map(|id| *id.as_bytes()).collect();
                    self.gossip.object(self.now, id.as_bytes(), &nodes);
                }
                _ => {}
            }
        }
    }
}
