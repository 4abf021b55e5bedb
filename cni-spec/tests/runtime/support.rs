//! Plugins that exist only in a test, and a place for the runtime to work in.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use cni_spec::runtime::{Attachment, Runtime};
use cni_spec::{Env, Exec, ExecError, Exit, NetworkList, Output, PluginType};
use serde_json::{Value, json};
use tempfile::TempDir;

/// One execution of a plugin.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) plugin: String,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) stdin: Value,
}

impl Call {
    pub(crate) fn command(&self) -> &str {
        &self.env["CNI_COMMAND"]
    }

    /// `ADD bridge`
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.command(), self.plugin)
    }
}

type Script = Box<dyn FnMut(&Call) -> Output + Send>;

/// Plugins that do nothing but answer, and remember that they were asked.
#[derive(Clone)]
pub(crate) struct Fake(Arc<Mutex<State>>);

struct State {
    calls: Vec<Call>,
    missing: BTreeSet<String>,
    script: Script,
}

impl Fake {
    pub(crate) fn new(script: impl FnMut(&Call) -> Output + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(State {
            calls: Vec::new(),
            missing: BTreeSet::new(),
            script: Box::new(script),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A script that panics stands for a runtime that crashes; the state is as good as before.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn set_script(&self, script: impl FnMut(&Call) -> Output + Send + 'static) {
        self.state().script = Box::new(script);
    }

    pub(crate) fn uninstall(&self, plugin: &str) {
        self.state().missing.insert(plugin.to_owned());
    }

    /// The calls since the last time.
    pub(crate) fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.state().calls)
    }

    /// The names of the calls since the last time.
    pub(crate) fn take_names(&self) -> Vec<String> {
        self.take_calls().iter().map(Call::name).collect()
    }
}

impl Exec for Fake {
    fn exec(&self, plugin: &Path, env: &Env, stdin: &[u8]) -> Result<Output, ExecError> {
        let text = |value: &std::ffi::OsStr| value.to_str().unwrap().to_owned();
        let call = Call {
            plugin: text(plugin.file_name().unwrap()),
            env: env.iter().map(|(name, value)| (text(name), text(value))).collect(),
            stdin: serde_json::from_slice(stdin).unwrap(),
        };
        let mut state = self.state();
        state.calls.push(call.clone());
        Ok((state.script)(&call))
    }

    fn find(&self, plugin: &PluginType, path: &[PathBuf]) -> Result<PathBuf, ExecError> {
        if self.state().missing.contains(plugin.as_str()) {
            return Err(ExecError::NotFound { plugin: plugin.clone(), path: path.to_vec() });
        }
        Ok(Path::new("/imagined").join(plugin.as_str()))
    }
}

/// What a plugin that works says: each `ADD` adds an interface with the plugin's name to the result before it.
pub(crate) fn works(call: &Call) -> Output {
    match call.command() {
        "ADD" => {
            let mut result = call.stdin.get("prevResult").cloned().unwrap_or_else(|| json!({}));
            result["cniVersion"] = call.stdin["cniVersion"].clone();
            let mut interfaces = result["interfaces"].as_array().cloned().unwrap_or_default();
            interfaces.push(json!({"name": call.plugin}));
            result["interfaces"] = interfaces.into();
            result["ips"] = json!([{"address": "10.1.0.5/16"}]);
            success(&result)
        }
        "VERSION" => success(
            &json!({"cniVersion": "1.1.0", "supportedVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"]}),
        ),
        _ => output(0, ""),
    }
}

pub(crate) fn success(result: &Value) -> Output {
    output(0, &result.to_string())
}

pub(crate) fn fails(code: u32, msg: &str) -> Output {
    output(1, &json!({"cniVersion": "1.0.0", "code": code, "msg": msg}).to_string())
}

fn output(code: i32, stdout: &str) -> Output {
    Output { exit: Exit::Code(code), stdout: stdout.into(), stderr: Vec::new() }
}

/// A directory for the cache, and plugins that work until they are told otherwise.
pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) plugins: Fake,
}

impl World {
    pub(crate) fn new() -> Self {
        // In memory, where there is such a place: every step of a chain is flushed to the disk.
        let memory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        Self { dir: memory.unwrap(), plugins: Fake::new(works) }
    }

    pub(crate) fn runtime(&self) -> Runtime {
        Runtime::new(Env::from_iter([("PATH", "/usr/bin"), ("CNI_ARGS", "left=over")]))
            .with_plugin_dirs(["/opt/cni/bin", "/usr/lib/cni"])
            .with_cache_dir(self.dir.path())
            .with_exec(Box::new(self.plugins.clone()))
    }

    /// Makes every call whose name is among `names` fail.
    pub(crate) fn fail(&self, names: &[&str]) {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        self.plugins.set_script(move |call| {
            if names.contains(&call.name()) {
                fails(100, &format!("{} refused", call.name()))
            } else {
                works(call)
            }
        });
    }

    pub(crate) fn results(&self) -> PathBuf {
        self.dir.path().join("results")
    }

    /// The names of the cache files.
    pub(crate) fn cached(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.results()) else { return Vec::new() };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> =
            names.filter(|name| !(name.starts_with('.') && name.ends_with(".lock"))).collect();
        names.sort();
        names
    }

    pub(crate) fn cache_file(&self, name: &str) -> Value {
        serde_json::from_slice(&std::fs::read(self.results().join(name)).unwrap()).unwrap()
    }
}

pub(crate) fn list(document: Value) -> NetworkList {
    NetworkList::from_json(document.to_string().as_bytes()).unwrap()
}

/// A chain of three.
pub(crate) fn blue() -> NetworkList {
    list(json!({
        "cniVersion": "1.1.0",
        "name": "blue",
        "plugins": [
            {"type": "bridge", "ipam": {"type": "host-local"}, "capabilities": {"mac": true, "ips": false}},
            {"type": "portmap", "capabilities": {"portMappings": true}},
            {"type": "tuning"}
        ]
    }))
}

pub(crate) fn web() -> Attachment {
    Attachment::new("web-1".parse().unwrap(), "eth0".parse().unwrap()).with_netns("/run/netns/web-1")
}
