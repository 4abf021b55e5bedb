//! A plugin that is connected: a call comes in, an answer goes out. Neither may take long, nor be long. Our plugin speaks
//! lines of JSON, the reference's something else; the first bytes tell.

mod gob;
mod reference;

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
    language: Language,
    deadline: Time,
}

/// How a plugin speaks.
#[derive(Debug)]
enum Language {
    Ours,
    /// As the reference's, once its call is known.
    Reference(Option<reference::Request>),
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
        Ok(Self {
            stream,
            state: State::Reading(Vec::new()),
            language: Language::Ours,
            deadline: now + PATIENCE,
        })
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
        let answer = match &self.language {
            Language::Reference(Some(request)) => reference::write(request, answer),
            _ => [serde_json::to_vec(answer).unwrap_or_default(), b"\n".to_vec()].concat(),
        };
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
            State::Reading(bytes) => read(&mut self.stream, bytes, &mut self.language),
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

fn read(stream: &mut UnixStream, bytes: &mut Vec<u8>, language: &mut Language) -> Turn {
    let mut piece = [0; 16 * 1024];
    match stream.read(&mut piece) {
        Ok(0) => return Turn::Broken(None),
        Ok(length) => bytes.extend(&piece[..length]),
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Turn::Pending,
        Err(_) => return Turn::Broken(None),
    }
    if let (Language::Ours, Some(rest)) = (&language, bytes.strip_prefix(reference::GREETING)) {
        *bytes = rest.to_vec();
        *language = Language::Reference(None);
        // A few bytes into an empty buffer.
        if stream.write_all(reference::WELCOME).is_err() {
            return Turn::Broken(None);
        }
    }
    match understand(bytes, language) {
        Ok(Some(call)) => Turn::Called(Box::new(call)),
        Ok(None) if bytes.len() <= MAX_BYTES => Turn::Pending,
        Ok(None) | Err(()) => Turn::Broken(None),
    }
}

/// The call, if all of it is there.
fn understand(bytes: &[u8], language: &mut Language) -> Result<Option<Call>, ()> {
    match language {
        Language::Ours if bytes.contains(&b'\n') && !reference::GREETING.starts_with(bytes) => {
            serde_json::from_slice(bytes).map(Some).map_err(drop)
        }
        Language::Ours => Ok(None),
        Language::Reference(request) => {
            let Some((header, call)) = reference::read(bytes).map_err(drop)? else { return Ok(None) };
            *request = Some(header);
            Ok(Some(call))
        }
    }
}

/// Reads bytes as the reference's plugin's call, for cnikit-fuzz; what comes of it is answered.
#[cfg(feature = "fuzzing")]
pub(crate) fn read_as_reference(data: &[u8]) {
    if let Ok(Some((request, _))) = reference::read(data) {
        let answer = reference::write(&request, &Answer::Result(serde_json::Value::Null));
        assert!(gob::read_structs(&answer, 2).is_ok());
    }
}
