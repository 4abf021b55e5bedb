//! What is found, and what to do about it.

use std::fmt;

use serde::Serialize;

use crate::output::Tone;

/// How bad something is, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    /// Something does not work, or will not.
    Error,
    /// Something may stop working, or works worse than it could.
    Warning,
    /// It is good to know, or could not be looked at.
    Info,
    /// As it should be.
    Ok,
}

impl Severity {
    pub(super) fn tone(self) -> Tone {
        match self {
            Self::Error => Tone::Bad,
            Self::Warning => Tone::Odd,
            Self::Info => Tone::Faint,
            Self::Ok => Tone::Good,
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
            Self::Ok => "ok",
        })
    }
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) severity: Severity,
    /// What it is about: `ports`.
    pub(super) subject: &'static str,
    /// What is so, with the object's name.
    pub(super) what: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) advice: Option<String>,
}

/// What is found of one subject.
#[derive(Debug)]
pub(super) struct Findings {
    subject: &'static str,
    found: Vec<Finding>,
}

impl Findings {
    pub(super) fn of(subject: &'static str) -> Self {
        Self { subject, found: Vec::new() }
    }

    pub(super) fn error(&mut self, what: impl Into<String>, advice: impl Into<String>) {
        self.add(Severity::Error, what.into(), Some(advice.into()));
    }

    pub(super) fn warning(&mut self, what: impl Into<String>, advice: impl Into<String>) {
        self.add(Severity::Warning, what.into(), Some(advice.into()));
    }

    pub(super) fn info(&mut self, what: impl Into<String>) {
        self.add(Severity::Info, what.into(), None);
    }

    pub(super) fn ok(&mut self, what: impl Into<String>) {
        self.add(Severity::Ok, what.into(), None);
    }

    pub(super) fn add(&mut self, severity: Severity, what: String, advice: Option<String>) {
        self.found.push(Finding { severity, subject: self.subject, what, advice });
    }

    pub(super) fn into_vec(self) -> Vec<Finding> {
        self.found
    }
}
