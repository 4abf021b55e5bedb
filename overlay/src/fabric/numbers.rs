//! Numbers and addresses that follow from a peer's id, so that a peer has the same ones after a restart, and whatever becomes
//! of others.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::id::NodeId;

/// What only one of this node's peers has: 28 bits, and never all ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot(u32);

/// What a next hop object of a peer's is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// IPv4 packets to its pods.
    V4 = 0,
    /// IPv6 packets to its pods.
    V6 = 1,
    /// Probes by a plain route.
    Trial = 2,
    /// Probes of its own address through the tunnel.
    Outside = 3,
}

/// The numbers of our next hop objects.
pub const NEXT_HOPS: std::ops::RangeInclusive<u32> = 0x4000_0000..=0x7fff_ffff;

const SLOTS: u32 = (1 << 28) - 1;

/// Each peer's slot. Where two ids fall on one, the lower id has it and the other the next one that is free.
pub(super) fn slots<'a>(peers: impl Iterator<Item = &'a NodeId>) -> BTreeMap<NodeId, Slot> {
    let peers: BTreeSet<&NodeId> = peers.collect();
    let mut taken = BTreeSet::new();
    let mut slots = BTreeMap::new();
    for id in peers {
        let mut slot = preferred(id);
        while !taken.insert(slot) {
            slot = (slot + 1) % SLOTS;
        }
        slots.insert(*id, Slot(slot));
    }
    slots
}

/// Ids are random, unless somebody made them up: all of their bits count.
fn preferred(id: &NodeId) -> u32 {
    let mixed = id.spread().wrapping_mul(0x9e37_79b9_7f4a_7c15);
    u32::try_from((mixed >> 32) % u64::from(SLOTS)).unwrap_or(0)
}

impl Slot {
    /// The number of a next hop object.
    pub(super) fn next_hop(self, purpose: Purpose) -> u32 {
        NEXT_HOPS.start() | self.0 << 2 | purpose as u32
    }

    /// The peer's end of the tunnel as a gateway: an address that is written nowhere but in this node's own table of
    /// neighbours, and does not change when the peer gets another of its own. IPv4's are of the block that nobody has
    /// (240.0.0.0/4, RFC 1112): so it takes no IPv6, which a node may have switched off.
    pub(super) fn gateway(self, ipv6: bool) -> IpAddr {
        if ipv6 {
            let [high, low] = [(self.0 >> 16) as u16, self.0 as u16];
            IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0x87, high, low))
        } else {
            IpAddr::V4(Ipv4Addr::from_bits(0xf000_0000 | self.0))
        }
    }
}

/// The number of the next hop of IPv4 packets to a peer's pods, unless another peer has taken it; IPv6's is one more. By it
/// an agent that was started again finds out what the kernel does for whom.
pub fn next_hop_of(id: &NodeId) -> u32 {
    Slot(preferred(id)).next_hop(Purpose::V4)
}

/// Of the number of a next hop of packets to a peer's pods that [`next_hop_of`] the peer; `None` if it is one for probes.
pub fn peers_next_hop(number: u32) -> Option<u32> {
    let purpose = number & 3;
    (NEXT_HOPS.contains(&number) && (purpose == Purpose::V4 as u32 || purpose == Purpose::V6 as u32))
        .then_some(number & !3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_numbers_of_its_own_whoever_else_comes() {
        let id = |n: u16| {
            let mut bytes = [0; 16];
            bytes[14..].copy_from_slice(&n.to_be_bytes());
            NodeId::from_bytes(bytes)
        };
        let few: Vec<_> = (0..100).map(id).collect();
        let many: Vec<_> = (0..10_000).map(id).collect();
        let (some, all) = (slots(few.iter()), slots(many.iter()));
        let distinct: BTreeSet<_> = all.values().collect();
        assert_eq!(distinct.len(), 10_000);
        assert!(few.iter().all(|id| some[id] == all[id]));
        for slot in all.values() {
            assert!(NEXT_HOPS.contains(&slot.next_hop(Purpose::Outside)));
        }
    }

    #[test]
    fn of_two_on_one_slot_the_lower_id_has_it() {
        // The halves are mixed by exclusive or: exchanged, they give the same.
        let (mut low, mut high) = ([0; 16], [0; 16]);
        (low[15], high[7]) = (9, 9);
        let [low, high] = [low, high].map(NodeId::from_bytes);
        let slots = slots([&high, &low].into_iter());
        assert_eq!(slots[&low].0, preferred(&low));
        assert_eq!(slots[&high].0, (preferred(&low) + 1) % SLOTS);
    }
}
