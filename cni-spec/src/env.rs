//! An environment as a value.

use std::ffi::{OsStr, OsString};

/// The environment variables of a call.
///
/// Nothing in this crate reads the process's environment except [`Env::from_process`], so that calls can be made in
/// tests, and from several threads, without touching global state.
///
/// ```
/// use cni_spec::Env;
///
/// let env = Env::from_iter([("CNI_COMMAND", "DEL"), ("CNI_NETNS", "")]).with("CNI_IFNAME", "eth0");
/// assert_eq!(env.get("CNI_COMMAND").and_then(|value| value.to_str()), Some("DEL"));
/// assert_eq!(env.get("CNI_PATH"), None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Env {
    vars: Vec<(OsString, OsString)>,
}

impl Env {
    /// The environment of this process.
    pub fn from_process() -> Self {
        Self { vars: std::env::vars_os().collect() }
    }

    /// The value of a variable, empty ones included.
    pub fn get(&self, name: impl AsRef<OsStr>) -> Option<&OsStr> {
        let name = name.as_ref();
        self.vars.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_os_str())
    }

    /// Sets a variable, in place of what it was before.
    pub fn set(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) {
        let (name, value) = (name.into(), value.into());
        match self.vars.iter_mut().find(|(key, _)| *key == name) {
            Some((_, old)) => *old = value,
            None => self.vars.push((name, value)),
        }
    }

    /// The environment with one variable more, or another value of it.
    #[must_use]
    pub fn with(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.set(name, value);
        self
    }

    /// Every variable.
    pub fn iter(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.vars.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }
}

impl<K: Into<OsString>, V: Into<OsString>> FromIterator<(K, V)> for Env {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(vars: I) -> Self {
        let mut env = Self::default();
        vars.into_iter().for_each(|(name, value)| env.set(name, value));
        env
    }
}
