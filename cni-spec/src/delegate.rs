//! Delegation: a plugin that executes another plugin, for example for its addresses.

use std::{
    borrow::Cow,
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
};

use crate::{
    AddResult, Command, Env, Error, Exec, NetworkConfig, Output, PluginType, SpecVersion, VersionResult,
};

/// How a plugin was executed, as far as a plugin that it delegates to must be executed alike
/// (CNI specification, section 4).
#[derive(Clone, Debug)]
pub struct Invocation {
    env: Env,
    stdin: Vec<u8>,
    path: Vec<PathBuf>,
    version: SpecVersion,
}

impl Invocation {
    /// An execution with an environment and a configuration on stdin. `CNI_PATH` is taken from the environment.
    pub fn new(env: Env, stdin: Vec<u8>, version: SpecVersion) -> Self {
        let path = env.get("CNI_PATH").map(|path| std::env::split_paths(path).collect()).unwrap_or_default();
        Self { env, stdin, path, version }
    }

    /// The whole environment.
    pub fn env(&self) -> &Env {
        &self.env
    }

    /// The bytes of stdin.
    pub fn stdin(&self) -> &[u8] {
        &self.stdin
    }

    /// The directories of `CNI_PATH`.
    pub fn path(&self) -> &[PathBuf] {
        &self.path
    }

    /// Prepares to delegate to a plugin: finds it, and will execute it with the same stdin and the same environment,
    /// of which only `CNI_COMMAND` changes.
    ///
    /// The whole environment is passed on, as the reference does: a foreign plugin may need any of it
    /// (`KUBECONFIG`, proxies, credentials of a cloud), and it already trusted the runtime that set it.
    ///
    /// # Errors
    /// [`ErrorCode::INTERNAL`](crate::ErrorCode::INTERNAL): the plugin was not found.
    pub fn delegate<'a>(&'a self, exec: &'a dyn Exec, plugin: &PluginType) -> Result<Delegate<'a>, Error> {
        Ok(Delegate {
            exec,
            plugin: exec.find(plugin, &self.path)?,
            env: self.env.clone(),
            stdin: Cow::Borrowed(&self.stdin),
            version: self.version,
        })
    }
}

/// A plugin that was found and is ready to be executed on another's behalf.
///
/// Every method executes it once and waits for its end. Errors are the plugin's own; if it printed none that can be
/// read (garbage, nothing, or it was killed), [`ErrorCode::INTERNAL`](crate::ErrorCode::INTERNAL) with its output in
/// the details.
pub struct Delegate<'a> {
    exec: &'a dyn Exec,
    plugin: PathBuf,
    env: Env,
    stdin: Cow<'a, [u8]>,
    version: SpecVersion,
}

impl Delegate<'_> {
    /// The plugin's file.
    pub fn plugin(&self) -> &Path {
        &self.plugin
    }

    /// Changes a variable of the environment, for example `CNI_IFNAME`.
    #[must_use]
    pub fn with_env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.set(name, value);
        self
    }

    /// Sends another configuration than the caller's own.
    #[must_use]
    pub fn with_config(mut self, config: &NetworkConfig) -> Self {
        self.stdin = Cow::Owned(config.to_json().into_bytes());
        self.version = config.cni_version();
        self
    }

    /// Executes `ADD`.
    ///
    /// The caller must see to it that a `DEL` follows a failure; [`add_or_undo`](Self::add_or_undo) does.
    ///
    /// # Errors
    /// See [`Delegate`].
    pub fn add(&self) -> Result<AddResult, Error> {
        let output = self.execute(Command::Add)?;
        AddResult::from_json(&output.stdout, self.version).map_err(|error| self.unreadable(&output, &error))
    }

    /// Executes `ADD`, and after a failure `DEL`, so that nothing is left behind. The error is that of the `ADD`; if
    /// the `DEL` failed too, that stands in its details.
    ///
    /// # Errors
    /// See [`Delegate`].
    pub fn add_or_undo(&self) -> Result<AddResult, Error> {
        self.add().map_err(|error| match self.del() {
            Ok(()) => error,
            Err(second) => error.and_details(format!("and undoing it failed: {second}")),
        })
    }

    /// Executes `DEL`.
    ///
    /// # Errors
    /// See [`Delegate`].
    pub fn del(&self) -> Result<(), Error> {
        self.execute(Command::Del).map(drop)
    }

    /// Executes `CHECK`.
    ///
    /// # Errors
    /// See [`Delegate`].
    pub fn check(&self) -> Result<(), Error> {
        self.execute(Command::Check).map(drop)
    }

    /// Executes `GC`.
    ///
    /// # Errors
    /// See [`Delegate`].
    pub fn gc(&self) -> Result<(), Error> {
        self.execute(Command::Gc).map(drop)
    }

    /// Executes `STATUS`.
    ///
    /// # Errors
    /// See [`Delegate`].
    pub fn status(&self) -> Result<(), Error> {
        self.execute(Command::Status).map(drop)
    }

    /// Executes `VERSION`.
    ///
    /// # Errors
    /// See [`Delegate`].
    pub fn version(&self) -> Result<VersionResult, Error> {
        let output = self.execute(Command::Version)?;
        serde_json::from_slice(&output.stdout).map_err(|error| self.unreadable(&output, &error))
    }

    /// The output of a success.
    fn execute(&self, command: Command) -> Result<Output, Error> {
        let env = self.env.clone().with("CNI_COMMAND", command.as_str());
        self.exec.exec(&self.plugin, &env, &self.stdin)?.check(&self.plugin)
    }

    fn unreadable(&self, output: &Output, why: &dyn fmt::Display) -> Error {
        output.error(&self.plugin, format_args!("it succeeded, but {why}"))
    }
}
