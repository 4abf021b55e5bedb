//! A plugin that is connected: a line comes in, a line goes out. Neither may take long, nor be long.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use plugin_kit::ipam::dhcp::protocol::{Answer, Call, MAX_BYTES};

use crate::key::Key;
use crate::time::Time;

/// How long a plugin may take to say what it wants, and to read the answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connected plugin.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: UnixStream,
    state: State,
    deadline: Time,
}

#[derive(Debug)]
enum State {
    Reading(Vec<u8>),
    /// For servers to grant an attachment its addresses.
    Waiting(Key),
    Writing {
        answer: Vec<u8>,
        written: usize,
        /// What is to be given back if the plugin does not take the answer.
        at_stake: Option<Key>,
    },
}

/// What has become of a connection.
#[derive(Debug)]
pub(crate) enum Turn {
    /// Nothing yet.
    Pending,
    /// This is wanted.
    Called(Box<Call>),
    /// It is over, and all is well.
    Over,
    /// The plugin is gone, or might as well be. What it was waiting for is to be given back.
    Broken(Option<Key>),
}

impl Connection {
    pub(crate) fn new(stream: UnixStream, now: Time) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, state: State::Reading(Vec::new()), deadline: now + PATIENCE })
    }

    /// When patience ends.
    pub(crate) fn deadline(&self) -> Time {
        self.deadline
    }

    /// Whether it waits for the plugin to read, and not to write.
    pub(crate) fn wants_to_write(&self) -> bool {
        matches!(self.state, State::Writing { .. })
    }

    /// The attachment that it waits for.
    pub(crate) fn waits_for(&self) -> Option<&Key> {
        match &self.state {
            State::Waiting(key) => Some(key),
            _ => None,
        }
    }

    /// Waits for an attachment, for some time.
    pub(crate) fn wait(&mut self, key: Key, deadline: Time) {
        self.state = State::Waiting(key);
        self.deadline = deadline;
    }

    /// Says something; then it is over.
    pub(crate) fn answer(&mut self, answer: &Answer, at_stake: Option<Key>, now: Time) {
        let mut answer = serde_json::to_vec(answer).unwrap_or_default();
        answer.push(b'\n');
        self.state = State::Writing { answer, written: 0, at_stake };
        self.deadline = now + PATIENCE;
    }

    /// Patience has ended.
    pub(crate) fn give_up(self) -> Option<Key> {
        match self.state {
            State::Reading(_) => None,
            State::Waiting(key) => Some(key),
            State::Writing { at_stake, .. } => at_stake,
        }
    }

    /// The plugin has written, or is ready to read, or gone.
    pub(crate) fn turn(&mut self) -> Turn {
        match &mut self.state {
            State::Reading(bytes) => read(&mut self.stream, bytes),
            State::Waiting(key) => match self.stream.read(&mut [0; 64]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => Turn::Pending,
                // Whatever it has to say now is of no interest; that it is gone is.
                Ok(1..) => Turn::Pending,
                Ok(0) | Err(_) => Turn::Broken(Some(key.clone())),
            },
            State::Writing { answer, written, at_stake } => loop {
                match self.stream.write(answer.get(*written..).unwrap_or_default()) {
                    Ok(length) => {
                        *written += length;
                        if *written >= answer.len() {
                            return Turn::Over;
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Turn::Pending,
                    Err(_) => return Turn::Broken(at_stake.take()),
                }
            },
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn read(stream: &mut UnixStream, bytes: &mut Vec<u8>) -> Turn {
    let mut piece = [0; 16 * 1024];
    match stream.read(&mut piece) {
        Ok(0) => Turn::Broken(None),
        Ok(length) => {
            bytes.extend(&piece[..length]);
            if piece[..length].contains(&b'\n') {
                return match serde_json::from_slice(bytes) {
                    Ok(call) => Turn::Called(Box::new(call)),
                    Err(_) => Turn::Broken(None),
                };
            }
            if bytes.len() > MAX_BYTES { Turn::Broken(None) } else { Turn::Pending }
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => Turn::Pending,
        Err(_) => Turn::Broken(None),
    }
}
