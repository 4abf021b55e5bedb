//! How the command line ends: one table for `--help`, the man page, and whoever writes a script.

use std::process::ExitCode;

/// The status that `cnikit` exits with. Scripts depend on these numbers: they never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Done = 0,
    /// None of the other reasons.
    Failed = 1,
    /// The command line makes no sense. (clap exits with the same.)
    Usage = 2,
    /// No such network, or its configuration is wrong.
    Configuration = 3,
    /// A plugin refused or failed.
    Plugin = 4,
    /// Something is not as it should be.
    Differs = 5,
    /// A plugin could not serve an `ADD` now.
    NotReady = 6,
    /// It may succeed later.
    TryAgain = 7,
    /// There is no such network namespace.
    Namespace = 8,
    /// The kernel does not let this user do it.
    Privilege = 9,
    /// It would harm something, and nobody said that it may.
    Refused = 10,
    /// This node's agent does not answer, or says no.
    Agent = 11,
}

impl Exit {
    /// Every status, in order.
    pub(crate) const ALL: [Self; 12] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::Configuration,
        Self::Plugin,
        Self::Differs,
        Self::NotReady,
        Self::TryAgain,
        Self::Namespace,
        Self::Privilege,
        Self::Refused,
        Self::Agent,
    ];

    /// The number.
    pub(crate) const fn code(self) -> u8 {
        self as u8
    }

    /// What it means, for people.
    pub(crate) const fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed for none of the reasons below",
            Self::Usage => "the command line makes no sense",
            Self::Configuration => "no such network, or its configuration is wrong",
            Self::Plugin => "a plugin refused or failed",
            Self::Differs => {
                "check, repair, conf lint, status, doctor, trace: something is not as it should be"
            }
            Self::NotReady => "status: nothing could be attached now",
            Self::TryAgain => "it may succeed later: addresses are short, or somebody else is at it",
            Self::Namespace => "there is no such network namespace",
            Self::Privilege => "this needs root, or a user namespace",
            Self::Refused => "it would harm something; a flag (--yes, --force, --replace) allows it",
            Self::Agent => "this node's agent does not answer, or says no",
        }
    }

    /// The table, as `--help` and the man page show it.
    pub(crate) fn table() -> String {
        let line = |exit: &Self| format!("  {:>2}  {}", exit.code(), exit.meaning());
        let lines: Vec<_> = Self::ALL.iter().map(line).collect();
        format!("Exit status:\n{}", lines.join("\n"))
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_that_scripts_know() {
        let codes: Vec<_> = Exit::ALL.iter().map(|exit| exit.code()).collect();
        assert_eq!(codes, (0..=11).collect::<Vec<_>>());
    }
}
