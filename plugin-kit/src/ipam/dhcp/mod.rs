//! `dhcp`: addresses from the servers of the network that a container is attached to. A daemon (`cnikit dhcp`) acquires
//! them and keeps them alive; this asks it.

pub mod protocol;

use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cni_spec::plugin::{DelRequest, GcRequest, Request, StatusRequest};
use cni_spec::{AddResult, Error, ErrorCode, NetworkConfig, SpecVersion};

use self::protocol::{Answer, Call, DEFAULT_SOCKET, MAX_BYTES, Subject};
use super::{Grant, Hold, Manager};
use crate::files::{self, Durability};

pub use self::protocol::digest;

/// The manager of `"type": "dhcp"`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Dhcp;

/// How long the daemon may take for what does not need a server. (It gives up an `ADD` by itself.)
const PATIENCE: Duration = Duration::from_secs(30);

impl Dhcp {
    /// The word for it in configurations.
    pub const TYPE: &'static str = "dhcp";

    /// Where a configuration's daemon listens.
    ///
    /// # Errors
    /// When `ipam.daemonSocketPath` is no path.
    pub fn socket(config: &NetworkConfig) -> Result<PathBuf, Error> {
        let configured = config.section("ipam").get::<PathBuf>("daemonSocketPath")?;
        let configured = configured.filter(|path| !path.as_os_str().is_empty());
        Ok(configured.unwrap_or_else(|| DEFAULT_SOCKET.into()))
    }
}

impl Manager for Dhcp {
    fn add<'a>(&'a self, call: &'a Request) -> Result<Grant<'a>, Error> {
        let socket = Self::socket(&call.config)?;
        let asked = Call::Add(Subject::of(call, Some(&call.netns)));
        let answer = ask(&socket, &asked, None);
        let mut held = Held { socket, subject: asked.into_subject() };
        let value = answer.map_err(|failure| {
            // What it has acquired, and believes to have said, nobody knows of: that is given back. Otherwise there is nothing.
            if !matches!(failure, Failure::Io(_)) {
                held.subject = None;
            }
            failure.error(&held.socket)
        })?;
        let result = AddResult::from_value(&value, SpecVersion::LATEST)?;
        Ok(Grant::new(super::fitted(&call.config, result)?, held))
    }

    fn del(&self, call: &DelRequest) -> Result<(), Error> {
        // What was acquired is found by its names.
        release(&Self::socket(&call.config)?, Subject::of(call, None))
    }

    fn check(&self, call: &Request) -> Result<(), Error> {
        let socket = Self::socket(&call.config)?;
        let subject = Subject::of(call, Some(&call.netns));
        ask(&socket, &Call::Check(subject), Some(PATIENCE))
            .map(drop)
            .map_err(|failure| failure.error(&socket))
    }

    fn gc(&self, call: &GcRequest) -> Result<(), Error> {
        let socket = Self::socket(&call.config)?;
        let config = call.config.document().clone();
        match ask(&socket, &Call::Gc { config }, Some(PATIENCE)) {
            // Where there never was a daemon, there is nothing to collect.
            Err(Failure::Absent(_)) if !protocol::notes(&socket).exists() => Ok(()),
            outcome => outcome.map(drop).map_err(|failure| failure.error(&socket)),
        }
    }

    fn status(&self, call: &StatusRequest) -> Result<(), Error> {
        let socket = Self::socket(&call.config)?;
        ask(&socket, &Call::Status, Some(PATIENCE)).map(drop).map_err(|failure| {
            let error = failure.error(&socket);
            Error::new(ErrorCode::PLUGIN_NOT_AVAILABLE, error.msg()).with_details(error.details())
        })
    }

    fn needs_interface(&self) -> bool {
        true
    }

    /// The server is told through it.
    fn releases_through_interface(&self) -> bool {
        true
    }

    fn preview(&self, _: &Request) -> Result<AddResult, Error> {
        Err(Error::config("which address a DHCP server would give cannot be known without asking for it"))
    }
}

/// What the daemon has acquired. Dropped, it is given back.
struct Held {
    socket: PathBuf,
    subject: Option<Subject>,
}

impl Hold for Held {
    fn keep(mut self: Box<Self>) {
        self.subject = None;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(subject) = self.subject.take() {
            // The ADD fails with its own error; the runtime's DEL tries this once more, and reports.
            let _ = release(&self.socket, subject);
        }
    }
}

/// Gives back what an attachment has. A daemon that does not run finds a note when it starts.
fn release(socket: &Path, subject: Subject) -> Result<(), Error> {
    let call = Call::Del(subject);
    let absent = match ask(socket, &call, Some(PATIENCE)) {
        Err(Failure::Absent(_)) => leave_note(socket, &call)?,
        outcome => return outcome.map(drop).map_err(|failure| failure.error(socket)),
    };
    let Some(note) = absent else { return Ok(()) };
    // It may have started meanwhile, and have read its notes before this one was there.
    match ask(socket, &call, Some(PATIENCE)) {
        Ok(_) => {
            let _ = fs::remove_file(note);
            Ok(())
        }
        Err(Failure::Absent(_)) => Ok(()),
        Err(failure) => Err(failure.error(socket)),
    }
}

/// Writes a call down for the daemon, if there ever was one since the machine came up. Returns where.
fn leave_note(socket: &Path, call: &Call) -> Result<Option<PathBuf>, Error> {
    let Call::Del(subject) = call else { return Ok(None) };
    let directory = protocol::notes(socket);
    let failed = |error: io::Error| {
        Error::io(format!("leave a note for the DHCP daemon in {}: {error}", directory.display()))
    };
    let name = digest(&subject.network()?, &subject.container_id, &subject.if_name);
    let note = directory.join(name);
    let content = serde_json::to_vec(call).map_err(|error| failed(error.into()))?;
    let written = files::replace(&note, &content, 0o600, Durability::Disk);
    match written {
        Ok(()) => Ok(Some(note)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// Why the daemon did not do what it was asked for.
enum Failure {
    /// Nobody listens.
    Absent(io::Error),
    /// It was not understood, or did not answer.
    Io(io::Error),
    /// It said so.
    Refused(Error),
}

impl Failure {
    fn error(self, socket: &Path) -> Error {
        let at = socket.display();
        match self {
            Self::Absent(error) => {
                Error::new(ErrorCode::TRY_AGAIN_LATER, format!("there is no DHCP daemon at {at}: {error}"))
                    .with_details("start `cnikit dhcp`; ipam.daemonSocketPath says where it listens")
            }
            Self::Io(error) => Error::io(format!("ask the DHCP daemon at {at}: {error}")),
            Self::Refused(error) => error,
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Asks, and waits for the answer.
fn ask(socket: &Path, call: &Call, patience: Option<Duration>) -> Result<serde_json::Value, Failure> {
    let mut stream = UnixStream::connect(socket).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::NotADirectory => {
            Failure::Absent(error)
        }
        _ => Failure::Io(error),
    })?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_read_timeout(patience)?;
    let mut line = serde_json::to_vec(call).map_err(io::Error::from)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = Vec::new();
    BufReader::new(stream).take(MAX_BYTES as u64).read_until(b'\n', &mut answer)?;
    if answer.is_empty() {
        return Err(Failure::Io(io::Error::new(ErrorKind::UnexpectedEof, "it went away without an answer")));
    }
    match serde_json::from_slice(&answer).map_err(io::Error::from)? {
        Answer::Result(result) => Ok(result),
        Answer::Error(error) => Err(Failure::Refused(error)),
    }
}
