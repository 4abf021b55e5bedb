//! What a node tells of itself, and what of that must be on disk before anybody hears it.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::asking::TOLD;
use super::codec::{self, About};
use super::{ABOUT, Mesh, STAKES, Time};
use crate::claim::{Stake, StakeKind};
use crate::node::{Subnet, SubnetState};
use crate::pod::Pod;

/// What must be on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Saved {
    /// In which of its lives the node is.
    pub incarnation: u64,
    /// Its subnets.
    pub subnets: Vec<Subnet>,
}

impl Mesh {
    /// What must be on disk before anything is sent.
    pub fn unsaved(&self) -> Option<Saved> {
        let saved = || Saved { incarnation: self.gossip.incarnation(), subnets: self.durable().collect() };
        (!self.is_saved()).then(saved)
    }

    /// What [`unsaved`](Self::unsaved) said is on disk.
    pub fn saved(&mut self, now: Time, saved: Saved) {
        self.wake(now);
        self.on_disk = Some(saved);
        self.tell_stakes();
        self.ask();
    }

    /// Its subnets: what is held counts when it is durable.
    pub fn subnets(&self) -> Vec<Subnet> {
        let durable = self.on_disk.as_ref().map_or(&[][..], |saved| &saved.subnets);
        let subnet = |stake: Stake| {
            let state = state_of(stake.kind)?;
            let subnet = Subnet { prefix: stake.prefix, state };
            Some(match state {
                SubnetState::Held if !durable.contains(&subnet) => {
                    Subnet { state: SubnetState::Tentative, ..subnet }
                }
                _ => subnet,
            })
        };
        self.claims.stakes().filter_map(subnet).collect()
    }

    /// What must be on disk is there.
    pub(super) fn is_saved(&self) -> bool {
        let is_it = |saved: &Saved| {
            saved.incarnation == self.gossip.incarnation() && self.durable().eq(saved.subnets.iter().copied())
        };
        self.on_disk.as_ref().is_some_and(is_it)
    }

    /// The subnets that must be on disk.
    fn durable(&self) -> impl Iterator<Item = Subnet> + '_ {
        let subnet = |stake: Stake| Some(Subnet { prefix: stake.prefix, state: state_of(stake.kind)? });
        self.claims.stakes().filter_map(subnet).filter(|subnet| subnet.state != SubnetState::Tentative)
    }

    pub(super) fn tell_about(&mut self) {
        // Of bounded size: it always fits.
        let _ = self.gossip.set(self.now, ABOUT, &About::of(&self.local).encode());
    }

    /// What it holds is told as that when it is durable; what it does not hold any more, at once.
    pub(super) fn tell_stakes(&mut self) {
        let durable = self.on_disk.as_ref().map_or(&[][..], |saved| &saved.subnets);
        let is_durable = |prefix: &IpNet| durable.iter().any(|subnet| subnet.prefix == *prefix);
        let told = |stake: Stake| match stake.kind {
            StakeKind::Held if !is_durable(&stake.prefix) => Stake { kind: StakeKind::Tentative, ..stake },
            _ => stake,
        };
        let freed = self.freed.iter().map(|(prefix, _)| Stake { prefix: *prefix, kind: StakeKind::Freed });
        let stakes: Vec<Stake> = self.claims.stakes().map(told).chain(freed).collect();
        let told = codec::encode_stakes(&stakes);
        if self.gossip.get(self.local.id.as_bytes(), STAKES) != Some(&told) {
            // Whoever was asked before was asked for something else.
            self.asks = false;
            if stakes.iter().any(|stake| stake.kind == StakeKind::Held) {
                self.tells_until = self.now + TOLD;
            }
        }
        // Of bounded size: it always fits.
        let _ = self.gossip.set(self.now, STAKES, &told);
        self.revision += 1;
    }

    pub(super) fn tell_pods(&mut self, before: &[Pod]) {
        for pod in before.iter().filter(|pod| !self.local.pods.contains(pod)) {
            self.gossip.delete(self.now, &codec::pod_key(pod));
        }
        self.untold = None;
        for pod in &self.local.pods {
            if let Err(error) = self.gossip.set(self.now, &codec::pod_key(pod), &codec::encode_pod(pod)) {
                self.untold = Some(error.to_string());
            }
        }
    }
}

/// What a stake is in the topology. Nothing, if it is only for those who claim.
pub(super) fn state_of(kind: StakeKind) -> Option<SubnetState> {
    match kind {
        StakeKind::Tentative => Some(SubnetState::Tentative),
        StakeKind::Returning | StakeKind::Held => Some(SubnetState::Held),
        StakeKind::Lost => Some(SubnetState::Lost),
        StakeKind::Freed => None,
    }
}
