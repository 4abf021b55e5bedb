//! Exchanges by stream: frames with their length before them, bound to one another.
//!
//! ```text
//! stream = ( length 4 | frame )*        the last byte inside a frame says whether another follows
//! ```
//!
//! The nonce of a request's first frame is the exchange's *ticket*. Each frame is sealed for its place in its exchange, so that
//! none can be left out, put elsewhere, or used in another one; and an answer that was recorded answers nothing.

use super::{NONCE, OVERHEAD, Opener, Purpose, Refused, Sealer, split};
use crate::{PeerId, Time};

/// How much of a message is in one frame, in bytes.
pub const CHUNK: usize = 64 << 10;
/// How long a message may be, in bytes.
pub const LONGEST: usize = 64 << 20;

/// Which exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(pub(super) [u8; NONCE]);

/// The length of the frame that follows, of the four bytes before it.
///
/// # Errors
/// It is longer than any.
pub fn frame_length(prefix: [u8; 4]) -> Result<usize, Refused> {
    let length = u32::from_le_bytes(prefix) as usize;
    if (OVERHEAD + 1..=OVERHEAD + 1 + CHUNK).contains(&length) { Ok(length) } else { Err(Refused::TooLong) }
}

impl Sealer {
    /// All that is to be sent as a request, and the ticket by which its answer will be known. Nonces must be drawn at random.
    pub fn request(&mut self, nonces: impl FnMut() -> [u8; NONCE], payload: &[u8]) -> (Vec<u8>, Ticket) {
        let mut first = None;
        let stream = self.stream(nonces, payload, |index, nonce| {
            let ticket = *first.get_or_insert(Ticket(*nonce));
            (b'r', index, ticket)
        });
        (stream, first.unwrap_or(Ticket([0; NONCE])))
    }

    /// All that is to be sent as the answer to a request.
    pub fn answer(
        &mut self,
        nonces: impl FnMut() -> [u8; NONCE],
        ticket: &Ticket,
        payload: &[u8],
    ) -> Vec<u8> {
        self.stream(nonces, payload, |index, _| (b'a', index, *ticket))
    }

    fn stream(
        &mut self,
        mut nonces: impl FnMut() -> [u8; NONCE],
        payload: &[u8],
        mut purpose: impl FnMut(u32, &[u8; NONCE]) -> (u8, u32, Ticket),
    ) -> Vec<u8> {
        let counter = self.count();
        let mut stream = Vec::with_capacity(payload.len() + (payload.len() / CHUNK + 1) * (4 + OVERHEAD + 1));
        let mut rest = payload;
        for index in 0.. {
            let (chunk, following) = rest.split_at(rest.len().min(CHUNK));
            rest = following;
            let nonce = nonces();
            let mut inside = self.inside(counter, chunk);
            inside.push(u8::from(!rest.is_empty()));
            let (kind, index, ticket) = purpose(index, &nonce);
            let purpose = match kind {
                b'r' => Purpose::Request(index, (index > 0).then_some(&ticket)),
                _ => Purpose::Answer(index, &ticket),
            };
            let frame = self.keyring.seal(purpose, nonce, &inside);
            stream.extend_from_slice(&(frame.len() as u32).to_le_bytes());
            stream.extend_from_slice(&frame);
            if rest.is_empty() {
                break;
            }
        }
        stream
    }
}

/// A message that is coming in, frame by frame.
#[derive(Debug)]
pub struct Incoming {
    /// Of an answer, or of a request whose first frame has come.
    ticket: Option<Ticket>,
    is_answer: bool,
    index: u32,
    from: Option<(PeerId, u64)>,
    payload: Vec<u8>,
}

/// A message that has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Who sealed it, as it says.
    pub sender: PeerId,
    /// Which exchange it is of.
    pub ticket: Ticket,
    /// The message.
    pub payload: Vec<u8>,
}

impl Incoming {
    /// Somebody's request.
    pub fn request() -> Self {
        Self { ticket: None, is_answer: false, index: 0, from: None, payload: Vec::new() }
    }

    /// The answer to a request of this node.
    pub fn answer(ticket: Ticket) -> Self {
        Self { ticket: Some(ticket), is_answer: true, ..Self::request() }
    }
}

impl Opener {
    /// Adds a frame to a message, without its length. The message, if that was the last.
    ///
    /// # Errors
    /// The frame is not the next of this message, or the message is too long, or not new. The stream is to be closed.
    pub fn take(
        &mut self,
        now: Time,
        message: &mut Incoming,
        frame: &[u8],
    ) -> Result<Option<Received>, Refused> {
        let purpose = match &message.ticket {
            Some(ticket) if message.is_answer => Purpose::Answer(message.index, ticket),
            ticket => Purpose::Request(message.index, ticket.as_ref()),
        };
        let (nonce, inside) = self.keyring.open(purpose, frame)?;
        let (sender, counter, payload) = split(&inside)?;
        let (more, chunk) = payload.split_last().ok_or(Refused::Garbled)?;
        match message.from {
            Some(from) if from != (sender, counter) => return Err(Refused::Forged),
            Some(_) => {}
            // An answer is new by its ticket.
            None if message.is_answer => {}
            None => self.requests.admit(now, sender, counter)?,
        }
        message.from = Some((sender, counter));
        if message.payload.len() + chunk.len() > LONGEST || (*more != 0 && chunk.len() != CHUNK) {
            return Err(Refused::TooLong);
        }
        let ticket = *message.ticket.get_or_insert(Ticket(nonce));
        message.index += 1;
        message.payload.extend_from_slice(chunk);
        let payload = (*more == 0).then(|| std::mem::take(&mut message.payload));
        Ok(payload.map(|payload| Received { sender, ticket, payload }))
    }
}
