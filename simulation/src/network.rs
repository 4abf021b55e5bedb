//! What becomes of datagrams.

use std::collections::HashSet;
use std::time::Duration;

use gossip::Random;

/// How datagrams are lost, delayed, doubled and overtaken, and who cannot reach whom.
#[derive(Debug, Clone)]
pub struct Network {
    /// How many of a thousand are lost.
    pub loss: u32,
    /// How many of a thousand come twice.
    pub doubled: u32,
    /// The shortest time under way.
    pub delay: Duration,
    /// What is added to that at random: a later one may be faster.
    pub jitter: Duration,
    /// How many of a thousand streams are refused.
    pub refused: u32,
    /// How many of a thousand break, before the request is there whole or before the answer is.
    pub broken: u32,
    /// From whom to whom nothing arrives.
    cut: HashSet<(usize, usize)>,
    /// In which part of the network a node is: nothing passes from one part to another.
    parts: Vec<u8>,
    split: bool,
    /// How often it has become another.
    changes: u64,
}

impl Default for Network {
    /// As between machines of one data centre.
    fn default() -> Self {
        Self {
            loss: 0,
            doubled: 0,
            delay: Duration::from_micros(200),
            jitter: Duration::from_micros(300),
            refused: 0,
            broken: 0,
            cut: HashSet::new(),
            parts: Vec::new(),
            split: false,
            changes: 0,
        }
    }
}

impl Network {
    /// Nothing arrives from one node at another any more; the other direction is as it was.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.cut.insert((from, to));
        self.split = true;
        self.changes += 1;
    }

    /// Puts a node in a part of the network: nothing passes to another part.
    pub fn part(&mut self, node: usize, part: u8) {
        if self.parts.len() <= node {
            self.parts.resize(node + 1, 0);
        }
        self.parts[node] = part;
        self.split = true;
        self.changes += 1;
    }

    /// Everything passes again.
    pub fn heal(&mut self) {
        self.cut.clear();
        self.parts.clear();
        self.split = false;
        self.changes += 1;
    }

    /// Nothing is lost, late or refused any more, and everything passes.
    pub fn mend(&mut self) {
        *self = Self { changes: self.changes + 1, ..Self::default() };
    }

    /// Whether anybody cannot reach somebody.
    pub fn is_whole(&self) -> bool {
        !self.split
    }

    pub(crate) fn passes(&self, from: usize, to: usize) -> bool {
        if !self.split {
            return true;
        }
        let part = |node: usize| self.parts.get(node).copied().unwrap_or(0);
        part(from) == part(to) && !self.cut.contains(&(from, to))
    }

    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// Whether what one says gets to another, by way of others too.
    pub(crate) fn leads(&self, from: usize, to: usize, running: &[bool]) -> bool {
        let mut seen = vec![false; running.len()];
        let mut open = vec![from];
        while let Some(at) = open.pop() {
            if at == to {
                return true;
            }
            for next in
                (0..running.len()).filter(|next| (running[*next] || *next == to) && self.passes(at, *next))
            {
                if !std::mem::replace(&mut seen[next], true) {
                    open.push(next);
                }
            }
        }
        false
    }

    pub(crate) fn time(&self, random: &mut Random) -> Duration {
        let jitter = u64::try_from(self.jitter.as_nanos()).unwrap();
        self.delay + Duration::from_nanos(random.below(jitter + 1))
    }
}
