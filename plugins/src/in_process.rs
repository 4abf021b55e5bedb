//! cnikit's plugins as a runtime executes them, without processes.

use std::path::{Path, PathBuf};

use cni_spec::plugin::{Outcome, Stdio, dispatch};
use cni_spec::{Env, Exec, ExecError, Exit, Output, PluginType, ProcessExec, find_in_path};

use crate::Entry;

/// What follows a built-in plugin's name where others have a path. No path of a plugin looks like it: those have a
/// `/`.
const BUILT_IN: &str = " (built in)";

/// Executes plugins for [`cni_spec::runtime::Runtime`]: cnikit's own by calling them, others as processes.
///
/// The same code runs as behind the executable's `main`, and gives the same results, state and errors. What is saved is the
/// start of a process for each plugin of a list. Calls may be made by several threads at once.
///
/// ```
/// use cni_spec::runtime::Runtime;
/// use cni_spec::{Env, ProcessExec};
/// use plugins::InProcess;
///
/// let runtime = Runtime::new(Env::from_process()).with_exec(Box::new(InProcess::new(ProcessExec::new())));
/// ```
#[derive(Debug)]
pub struct InProcess {
    others: ProcessExec,
}

impl InProcess {
    /// Executes those plugins that are not built in with `others`.
    pub fn new(others: ProcessExec) -> Self {
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
        match crate::find(plugin.as_str()) {
            Some(_) => Ok(format!("{plugin}{BUILT_IN}").into()),
            None => find_in_path(plugin, path),
        }
    }
}

fn built_in(plugin: &Path) -> Option<Entry> {
    plugin.to_str()?.strip_suffix(BUILT_IN).and_then(crate::find)
}

/// The same code that runs behind the executable's `main`, with its environment and streams as values.
fn call(entry: Entry, env: &Env, mut stdin: &[u8]) -> Output {
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
