//! Why a command failed: what to say, what to advise, what to exit with.

use std::io;

use crate::exit::Exit;

/// A command's failure.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    /// `None`: there is nobody left to tell.
    message: Option<String>,
    advice: Vec<String>,
}

impl Failure {
    /// A failure with what to say about it: a lower-case fragment that names the operation and its object.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: Some(message.into()), advice: Vec::new() }
    }

    /// Adds a sentence on what the reader can do about it.
    #[must_use]
    pub(crate) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice.push(advice.into());
        self
    }

    /// The failure to print an answer. A reader who went away (`cnikit list | head -1`) has seen enough: a success.
    pub(crate) fn of_output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self { exit: Exit::Done, message: None, advice: Vec::new() },
            _ => Self::new(Exit::Failed, format!("write to stdout: {error}")),
        }
    }

    /// What to exit with.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// What to say.
    pub(crate) fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// What to advise.
    pub(crate) fn advice(&self) -> &[String] {
        &self.advice
    }
}
