//! The plugin half of the protocol: from an environment and stdin to a call of [`Plugin`], and back to stdout.
//!
//! A plugin is an implementation of [`Plugin`] and a `main` that calls [`run`]:
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use cni_spec::{
//!     AddResult, Error, Interface, SpecVersion,
//!     plugin::{DelRequest, Plugin, Request, run},
//! };
//!
//! /// Attaches containers to nothing.
//! struct Nothing;
//!
//! impl Plugin for Nothing {
//!     fn about(&self) -> &str {
//!         "CNI plugin nothing 1.0"
//!     }
//!
//!     fn versions(&self) -> &[SpecVersion] {
//!         SpecVersion::ALL
//!     }
//!
//!     fn add(&self, request: &Request) -> Result<AddResult, Error> {
//!         let interface = Interface::in_sandbox(request.if_name.as_str(), request.netns.to_string_lossy());
//!         Ok(AddResult { interfaces: vec![interface], ..request.config.prev_result()?.unwrap_or_default() })
//!     }
//!
//!     fn del(&self, _request: &DelRequest) -> Result<(), Error> {
//!         Ok(())
//!     }
//!
//!     fn check(&self, _request: &Request) -> Result<(), Error> {
//!         Ok(())
//!     }
//! }
//!
//! fn main() -> ExitCode {
//!     run(&Nothing)
//! }
//! ```
//!
//! What [`run`] and [`dispatch`] see to, so that a plugin need not:
//!
//! - Every name is checked before the plugin is called, and so are the variables that the command needs, the version of
//!   the configuration and whether that version has such a command.
//! - An attachment of the plugin's own network namespace is refused before any work is done (code 8).
//! - The result is printed in the version that was asked for. Every failure, a panic included, is printed as an error
//!   object with the version of the request, and exits with 1.
//! - stdin is bounded to [`STDIN_LIMIT`], and to 32768 values, which is what a document takes memory for.

mod dispatch;
mod netns;
mod request;

use std::{
    io::{self, IsTerminal, Read, Write},
    process::ExitCode,
};

pub use self::{
    dispatch::{STDIN_LIMIT, dispatch},
    request::{DelRequest, GcRequest, Request, StatusRequest},
};
use crate::{AddResult, Env, Error, SpecVersion};

/// What a plugin does. Calls may come from several threads at once.
///
/// Errors go to the runtime as they are; see [`ErrorCode`](crate::ErrorCode) for the codes that it understands.
pub trait Plugin: Send + Sync {
    /// What is printed for a person who runs the plugin by hand, for example `CNI plugin bridge 1.0`.
    fn about(&self) -> &str;

    /// The versions of the specification that the plugin speaks, oldest first.
    fn versions(&self) -> &[SpecVersion];

    /// `ADD`: attaches a container to the network. The result includes what stood in `prevResult`.
    ///
    /// # Errors
    /// If the container was not attached. Nothing may be left behind, though a runtime will send a `DEL` as well.
    fn add(&self, request: &Request) -> Result<AddResult, Error>;

    /// `DEL`: removes everything that `ADD` made.
    ///
    /// It comes more than once, for containers that were never added, after the network namespace is gone, and with or
    /// without `prevResult`. All of that is success.
    ///
    /// # Errors
    /// If something is left that could be removed by trying again.
    fn del(&self, request: &DelRequest) -> Result<(), Error>;

    /// `CHECK`: compares the attachment with the `prevResult` of the configuration.
    ///
    /// # Errors
    /// If something that the plugin made is missing or different.
    fn check(&self, request: &Request) -> Result<(), Error>;

    /// `GC`: removes everything of this network that belongs to none of the valid attachments. A plugin that keeps
    /// nothing outside of the container has nothing to do.
    ///
    /// # Errors
    /// If something could not be removed; as much as possible has been removed nevertheless.
    fn gc(&self, _request: &GcRequest) -> Result<(), Error> {
        Ok(())
    }

    /// `STATUS`: whether an `ADD` could succeed now.
    ///
    /// # Errors
    /// [`PLUGIN_NOT_AVAILABLE`](crate::ErrorCode::PLUGIN_NOT_AVAILABLE) or
    /// [`LIMITED_CONNECTIVITY`](crate::ErrorCode::LIMITED_CONNECTIVITY).
    fn status(&self, _request: &StatusRequest) -> Result<(), Error> {
        Ok(())
    }
}

/// A plugin's `main`: takes the call from this process's environment and stdin and answers on stdout.
///
/// Without `CNI_COMMAND`, the plugin was run by a person: its [`about`](Plugin::about) goes to stderr. A terminal as
/// stdin counts as empty, since nobody types a configuration.
pub fn run(plugin: &dyn Plugin) -> ExitCode {
    let mut input = io::stdin().lock();
    let stdin: &mut dyn Read = if input.is_terminal() { &mut io::empty() } else { &mut input };
    let stdio = Stdio { stdin, stdout: &mut StandardOutput, stderr: &mut io::stderr() };
    dispatch(plugin, Env::from_process(), stdio).exit_code()
}

/// Without the standard library's buffer, which is emptied at the end of a line: an answer has many, and is written in one piece.
struct StandardOutput;

impl Write for StandardOutput {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        Ok(nix::unistd::write(io::stdout(), text)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where [`dispatch`] reads and writes.
pub struct Stdio<'a> {
    /// The configuration.
    pub stdin: &'a mut dyn Read,
    /// The answer. It is written in one piece.
    pub stdout: &'a mut dyn Write,
    /// Text for a person who runs the plugin by hand.
    pub stderr: &'a mut dyn Write,
}

/// How a call ended. Everything has been printed already.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// The command succeeded.
    Done,
    /// There was no command; the plugin introduced itself.
    About,
    /// The command failed with this error, which is on stdout (unless stdout was what failed).
    Failed(Error),
}

impl Outcome {
    /// The status to exit with: 1 after a failure.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Done | Self::About => ExitCode::SUCCESS,
            Self::Failed(_) => ExitCode::FAILURE,
        }
    }
}
