//! Numbers that look random and follow from a seed, so that a run can be had again.

/// A sequence of numbers (SplitMix64, Steele et al. 2014). Peers are chosen by it; no secret depends on it.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below another; 0 below 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        // The high half of a product is as even as the number, for any end that counts nodes.
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }
}

/// One number from another, so that similar ones become dissimilar; a bijection.
pub(crate) fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
