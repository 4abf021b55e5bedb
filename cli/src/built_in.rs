//! Plugins as a runtime executes them, but without a process for those that are part of this program.

use std::path::{Path, PathBuf};

use cni_spec::plugin::{Outcome, Request, Stdio, dispatch};
use cni_spec::runtime::{Attachment, Runtime};
use cni_spec::{
    AddResult, CniArgs, Env, Error, Exec, ExecError, Exit, NetworkConfig, NetworkList, Output, PluginConfig,
    PluginType, ProcessExec, find_in_path,
};

/// What follows a built-in plugin's name where others have a path. No path of a plugin looks like it: those have a
/// `/`.
const BUILT_IN: &str = " (built in)";

/// Executes plugins: cnikit's own by calling them, others as processes.
#[derive(Debug)]
pub(crate) struct InProcess {
    others: ProcessExec,
}

impl InProcess {
    /// Executes those plugins that are not built in with `others`.
    pub(crate) fn new(others: ProcessExec) -> Self {
        Self { others }
    }
}

impl Exec for InProcess {
    fn exec(&self, plugin: &Path, env: &Env, stdin: &[u8]) -> Result<Output, ExecError> {
        match built_in(plugin) {
            Some(entry) => Ok(call(entry, env, stdin)),
            None => self.others.exec(plugin, env, stdin),
        }
    }

    fn find(&self, plugin: &PluginType, path: &[PathBuf]) -> Result<PathBuf, ExecError> {
        match plugins::find(plugin.as_str()) {
            Some(_) => Ok(format!("{plugin}{BUILT_IN}").into()),
            None => find_in_path(plugin, path),
        }
    }
}

/// A call about an attachment, as a plugin that is built in gets it.
///
/// # Errors
/// When the configuration makes no sense.
pub(crate) fn request(
    runtime: &Runtime,
    list: &NetworkList,
    plugin: &PluginConfig,
    attachment: &Attachment,
    previous: Option<&AddResult>,
) -> Result<Request, Error> {
    let invocation = runtime.invocation(list, plugin, attachment, previous);
    Ok(Request {
        container_id: attachment.container_id().clone(),
        netns: attachment.netns().unwrap_or_default().into(),
        if_name: attachment.if_name().clone(),
        args: CniArgs::parse(&invocation.env().get("CNI_ARGS").unwrap_or_default().to_string_lossy()),
        config: NetworkConfig::from_json(invocation.stdin())?,
        invocation,
    })
}

fn built_in(plugin: &Path) -> Option<plugins::Entry> {
    plugin.to_str()?.strip_suffix(BUILT_IN).and_then(plugins::find)
}

/// The same code that runs behind the executable's `main`, with its environment and streams as values.
fn call(entry: plugins::Entry, env: &Env, mut stdin: &[u8]) -> Output {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let stdio = Stdio { stdin: &mut stdin, stdout: &mut stdout, stderr: &mut stderr };
    let exit = match dispatch(entry.plugin(), env.clone(), stdio) {
        Outcome::Done | Outcome::About => Exit::Code(0),
        Outcome::Failed(_) => Exit::Code(1),
    };
    Output { exit, stdout, stderr }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec() -> InProcess {
        InProcess::new(ProcessExec::new())
    }

    #[test]
    fn our_own_plugins_are_found_wherever_plugins_are_looked_for() {
        let found = exec().find(&"bridge".parse().unwrap(), &[]).unwrap();
        assert_eq!(found, Path::new("bridge (built in)"));
        let env = Env::from_iter([("CNI_COMMAND", "VERSION")]);
        let output = exec().exec(&found, &env, br#"{"cniVersion":"1.0.0"}"#).unwrap();
        assert!(output.exit.success());
        assert!(String::from_utf8_lossy(&output.stdout).contains("supportedVersions"));
    }

    #[test]
    fn other_plugins_are_looked_for_in_the_path() {
        let missing = exec().find(&"cilium-cni".parse().unwrap(), &["/nonexistent".into()]);
        assert!(matches!(missing, Err(ExecError::NotFound { .. })));
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("bridge (built in)");
        std::fs::write(&file, "").unwrap();
        assert!(built_in(&file).is_none(), "a path is not a name");
    }

    #[test]
    fn a_plugins_failure_is_an_exit_status_and_an_error_object() {
        let env = Env::from_iter([("CNI_COMMAND", "ADD")]);
        let output = exec().exec(Path::new("bridge (built in)"), &env, b"{}").unwrap();
        assert_eq!(output.exit, Exit::Code(1));
        assert!(cni_spec::Error::from_json(&output.stdout).is_some());
    }
}
