//! Making single operations fail, and finding out how many there are.

use crate::error::Errno;

/// What happens to an operation instead of its plain success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is refused, and nothing is done.
    Refuse(Errno),
    /// It is done, but its answer is lost: what `ENOBUFS` means on a netlink socket.
    LoseReply,
}

/// Something to be done between two operations.
type Interruption = Box<dyn FnOnce() + Send>;

/// The faults that are to come, and the count that says when.
#[derive(Default)]
pub(super) struct Faults {
    begun: usize,
    single: Vec<(usize, Fault)>,
    endless: Option<(usize, Errno)>,
    interruptions: Vec<(usize, Interruption)>,
}

impl Faults {
    /// How many operations have begun.
    pub(super) fn begun(&self) -> usize {
        self.begun
    }

    /// Plans a fault for the operation that comes `n` after the next.
    pub(super) fn at(&mut self, n: usize, fault: Fault) {
        self.single.push((self.begun + n, fault));
    }

    /// Plans the same for it and all that follow.
    pub(super) fn from(&mut self, n: usize, errno: Errno) {
        self.endless = Some((self.begun + n, errno));
    }

    /// Has something done just before it.
    pub(super) fn before(&mut self, n: usize, interruption: Interruption) {
        self.interruptions.push((self.begun + n, interruption));
    }

    /// Forgets what has not happened yet.
    pub(super) fn clear(&mut self) {
        *self = Self { begun: self.begun, ..Self::default() };
    }

    /// Counts an operation in: what is to be done before it, and what is to become of it.
    pub(super) fn begin(&mut self) -> (Vec<Interruption>, Option<Fault>) {
        let now = self.begun;
        self.begun += 1;
        let due = self.interruptions.extract_if(.., |(n, _)| *n == now).map(|(_, f)| f).collect();
        let single = self.single.iter().find(|(n, _)| *n == now).map(|(_, fault)| *fault);
        let endless = self.endless.filter(|(n, _)| *n <= now).map(|(_, errno)| Fault::Refuse(errno));
        (due, single.or(endless))
    }
}

/// How many resources of one call are tried although one of them failed. The kernel runs the messages of one netlink
/// datagram to the end whatever becomes of the first; what a backend puts into one datagram is its own affair, so
/// nothing may depend on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Batching {
    /// All: a call is one datagram.
    #[default]
    Whole,
    /// None: each is a datagram of its own.
    OneByOne,
    /// Datagrams of one to four, their lengths drawn from this seed.
    Random(u64),
}

impl Batching {
    /// The length of the next datagram.
    pub(super) fn next_length(&mut self) -> usize {
        match self {
            Self::Whole => usize::MAX,
            Self::OneByOne => 1,
            Self::Random(seed) => {
                // Knuth's MMIX generator; its high bits are the random ones.
                *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                1 + usize::from((*seed >> 62) as u8)
            }
        }
    }
}
