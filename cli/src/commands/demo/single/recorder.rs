//! Writes down what goes between a runtime and its plugins.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use cni_spec::{Env, Exec, ExecError, Output, PluginType};
use serde_json::Value;

use super::report::{Call, Done};

/// The calls so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Calls(Arc<Mutex<Vec<Call>>>);

impl Calls {
    /// Those since the last time.
    pub(super) fn take(&self) -> Vec<Call> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How long each plugin took that was called for a container.
    pub(super) fn of(&self, container: &str) -> Vec<Done> {
        let calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of =
            calls.iter().filter(|call| call.env.get("CNI_CONTAINERID").is_some_and(|id| id == container));
        of.map(|call| Done { what: call.plugin.clone(), took: call.took }).collect()
    }

    fn push(&self, call: Call) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(call);
    }
}

/// Another's way to execute plugins, with a look at the clock before and after.
pub(super) struct Recorder<E> {
    inner: E,
    calls: Calls,
}

impl<E> Recorder<E> {
    pub(super) fn new(inner: E, calls: Calls) -> Self {
        Self { inner, calls }
    }
}

impl<E: Exec> Exec for Recorder<E> {
    fn exec(&self, plugin: &Path, env: &Env, stdin: &[u8]) -> Result<Output, ExecError> {
        let start = Instant::now();
        let output = self.inner.exec(plugin, env, stdin)?;
        let took = start.elapsed();
        let name = plugin.file_name().unwrap_or_default().to_string_lossy();
        let json = |bytes: &[u8]| serde_json::from_slice(bytes).unwrap_or(Value::Null);
        self.calls.push(Call {
            plugin: name.split(' ').next().unwrap_or_default().to_owned(),
            env: env
                .iter()
                .map(|(key, value)| {
                    (key.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
                })
                .filter(|(key, _)| key.starts_with("CNI_"))
                .collect(),
            stdin: json(stdin),
            stdout: json(&output.stdout),
            took,
        });
        Ok(output)
    }

    fn find(&self, plugin: &PluginType, path: &[PathBuf]) -> Result<PathBuf, ExecError> {
        self.inner.find(plugin, path)
    }
}
