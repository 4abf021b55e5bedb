//! Mutations that are the same every time.

/// Pieces that mean something to somebody.
const WORDS: &[&[u8]] = &[
    b"\0",
    b"\xff",
    b"\xff\xff\xff\xff",
    b"\x80\x00",
    b"\n",
    b"\r\n",
    b"\n\n",
    b"\"",
    b"{}",
    b"[]",
    b"null",
    b"true",
    b"-1",
    b"0",
    b"65536",
    b"4294967296",
    b"18446744073709551616",
    b"1e999",
    b"\\u0000",
    b"\\ud800",
    b"/",
    b"..",
    b"=",
    b";",
    b":",
    b"::",
    b"/0",
    b"/32",
    b"/128",
    b"0.0.0.0",
    b"255.255.255.255",
    b"ffff::",
    b"0.1.0",
    b"0.2.0",
    b"1.1.0",
    b"\"ipam\":",
    b"\"prevResult\":",
];

/// A sequence of inputs.
pub(crate) struct Mutations<'a> {
    corpus: &'a [Vec<u8>],
    state: u64,
}

impl<'a> Mutations<'a> {
    /// Mutations of some inputs.
    pub(crate) fn of(corpus: &'a [Vec<u8>]) -> Self {
        Self { corpus, state: 0x9e37_79b9_7f4a_7c15 }
    }

    /// The next one: an input with up to four changes.
    pub(crate) fn next(&mut self) -> Vec<u8> {
        let mut bytes = self.pick().clone();
        for _ in 0..=self.below(4) {
            self.change(&mut bytes);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let from = self.below(bytes.len() + 1);
        let to = (from + self.below(16)).min(bytes.len());
        match self.below(6) {
            0 => bytes.truncate(from),
            1 => drop(bytes.drain(from..to)),
            2 => {
                let piece = bytes[from..to].to_vec();
                let at = self.below(bytes.len() + 1);
                drop(bytes.splice(at..at, piece));
            }
            3 => {
                let word = WORDS[self.below(WORDS.len())];
                drop(bytes.splice(from..to, word.iter().copied()));
            }
            4 => {
                let other = self.pick();
                let at = self.below(other.len() + 1);
                drop(bytes.splice(from.., other[at..].iter().copied()));
            }
            _ => {
                if let Some(byte) = bytes.get_mut(from) {
                    *byte ^= 1 << self.below(8);
                }
            }
        }
    }

    fn pick(&mut self) -> &'a Vec<u8> {
        let corpus = self.corpus;
        &corpus[self.below(corpus.len())]
    }

    /// A number below another (xorshift64).
    fn below(&mut self, end: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state % end as u64) as usize
    }
}
