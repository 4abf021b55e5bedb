//! Numbers that look random and follow from a seed, so that a run can be had again.

/// A sequence of numbers that follows from a seed (SplitMix64, Steele et al. 2014): for choices that only have to be even,
/// of peers, prefixes and times. No secret may depend on it.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below another; 0 below 0.
    pub fn below(&mut self, end: u64) -> u64 {
        // The high half of a product is as even as the number, for any end that is small beside 2^64.
        ((u128::from(self.number()) * u128::from(end)) >> 64) as u64
    }

    /// A place in a list of some length; 0 in an empty one.
    pub fn index(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    /// A number from 0 to, and without, 1.
    pub fn fraction(&mut self) -> f64 {
        (self.number() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// One number from another, so that similar ones become dissimilar; a bijection.
pub(crate) fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
