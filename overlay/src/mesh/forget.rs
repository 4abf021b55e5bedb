//! Nodes that will not come back, and what becomes of their subnets.

use gossip::Liveness;

use super::{Mesh, Time};
use crate::id::NodeId;
use crate::report::Forgotten;

/// How long a node must have heard others before it believes that those are down whom it does not hear.
const BACK_FOR: Time = Time::from_secs(600);

impl Mesh {
    /// Has all nodes forget one, by id or name: its subnets become free after a while.
    ///
    /// # Errors
    /// Why not, for people.
    pub fn forget(&mut self, now: Time, node: &str) -> Result<Forgotten, String> {
        self.wake(now);
        self.nodes.insert_own(self.local.with_subnets(self.subnets()), self.gossip.incarnation());
        let id = self.nodes.find(node, self.local.id)?;
        if self.gossip.member(id.as_bytes()).is_some_and(|member| member.liveness == Liveness::Alive) {
            return Err(format!("node {node} is alive: stop its agent first, or it will be back at once"));
        }
        let told =
            self.nodes.get(&id).ok_or_else(|| format!("node {node} has said nothing of itself yet"))?;
        let forgotten = Forgotten { node: id, name: told.name.clone(), subnets: told.subnets.clone() };
        self.have_forgotten(&id);
        self.settle();
        Ok(forgotten)
    }

    /// Where a range is short of subnets, the node that has been down for longest is forgotten, if that is very long. One
    /// node does it: the one with the lowest id.
    ///
    /// Not one that was away itself until a moment ago: to it all were down.
    pub(super) fn reclaim(&mut self) {
        let is_back = self.heard_since.is_some_and(|since| self.now >= since + BACK_FOR);
        let is_first =
            is_back && self.nodes.lowest_alive(&self.local.id).is_none_or(|lowest| self.local.id < lowest);
        if !is_first {
            return;
        }
        let Some(before) = self.now.checked_sub(self.settings.claims.reclaim_after) else { return };
        let down = |id: &NodeId| {
            let member = self.gossip.member(id.as_bytes())?;
            (member.liveness == Liveness::Down && member.since <= before).then_some(member.since)
        };
        let oldest = |range| self.nodes.holders(&range).filter_map(|id| Some((down(&id)?, id))).min();
        let gone: Vec<_> = self.claims.short(&self.taken).filter_map(oldest).collect();
        for (_, id) in gone {
            self.have_forgotten(&id);
        }
    }

    /// Those who come later will not have heard of the node: what it held is told as what must rest.
    fn have_forgotten(&mut self, id: &NodeId) {
        let until = self.now + self.settings.claims.quarantine;
        let freed = self.taken.of(id).iter().filter(|stake| stake.kind.is_held());
        self.freed.extend(freed.map(|stake| (stake.prefix, until)));
        self.gossip.forget(self.now, id.as_bytes());
        self.tell_stakes();
    }

    pub(super) fn end_quarantine(&mut self) {
        let now = self.now;
        let before = self.freed.len();
        self.freed.retain(|(_, until)| *until > now);
        if self.freed.len() != before {
            self.tell_stakes();
        }
    }
}
