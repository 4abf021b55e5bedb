//! The plugins' executables: whether they are there, and which versions they speak.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use cni_spec::runtime::Runtime;
use cni_spec::{Env, ExecError, PluginType, ProcessExec, SpecVersion, VersionResult, find_in_path};

use super::finding::{At, Finding, Findings, Severity};
use crate::places::BuiltIn;

/// Whoever needs longer to say which versions it speaks does not answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where plugins are looked for, and what was found.
pub(super) struct Programs {
    dirs: Vec<PathBuf>,
    built_in: BuiltIn,
    runtime: Runtime,
    known: RefCell<HashMap<String, Known>>,
}

/// What is known of a plugin.
#[derive(Debug, Clone)]
enum Known {
    Speaks(VersionResult),
    Missing,
    NotExecutable(PathBuf),
    /// It does not answer as a plugin does.
    Strange(String),
}

impl Programs {
    pub(super) fn new(dirs: Vec<PathBuf>, built_in: BuiltIn) -> Self {
        let runtime = Runtime::new(Env::from_process())
            .with_plugin_dirs(&dirs)
            .with_exec(Box::new(ProcessExec::new().with_timeout(PATIENCE)));
        Self { dirs, built_in, runtime, known: RefCell::default() }
    }

    /// Checks the executables of a plugin, and of its IPAM plugin.
    pub(super) fn check(&self, findings: &mut Findings<'_>, plugin: &At<'_>, version: SpecVersion) {
        if !self.any_dir() {
            return;
        }
        let ipam = plugin.field("ipam").and_then(|ipam| ipam.field("type"));
        for at in plugin.field("type").into_iter().chain(ipam) {
            let Some(kind) = at.node.as_text().and_then(|text| text.parse::<PluginType>().ok()) else {
                continue;
            };
            match self.known(&kind) {
                Known::Speaks(versions) if versions.supports(version) => {}
                Known::Speaks(versions) => {
                    findings
                        .error(&at, format!("{kind} does not speak CNI {version}"))
                        .suggest(format!("it speaks {}", versions.supported_versions.join(", ")));
                }
                Known::Missing => self.missing(findings, &at, &kind),
                Known::NotExecutable(file) => {
                    findings
                        .error(&at, format!("{} is not executable", file.display()))
                        .suggest(format!("chmod +x {}", file.display()));
                }
                Known::Strange(error) => {
                    findings.warning(&at, format!("it does not say which versions it speaks: {error}"));
                }
            }
        }
    }

    /// What is wrong with the directories themselves.
    pub(super) fn problems(&self) -> Vec<Finding> {
        if self.any_dir() {
            return Vec::new();
        }
        let dirs: Vec<_> = self.dirs.iter().map(|dir| dir.display().to_string()).collect();
        let message =
            format!("no directory of plugins is there ({}): they are not looked for", dirs.join(", "));
        let Some(first) = self.dirs.first() else { return Vec::new() };
        let mut finding = Finding::of_file(Severity::Hint, first, message);
        finding.suggest("--bin-dir says where they are; `cnikit install --bin-dir DIR` puts cnikit's there");
        vec![finding]
    }

    fn any_dir(&self) -> bool {
        self.dirs.iter().any(|dir| dir.is_dir())
    }

    fn missing(&self, findings: &mut Findings<'_>, at: &At<'_>, kind: &PluginType) {
        let dirs: Vec<_> = self.dirs.iter().map(|dir| dir.display().to_string()).collect();
        let dirs = dirs.join(", ");
        if plugins::find(kind.as_str()).is_none() {
            findings
                .error(at, format!("no plugin {kind} in {dirs}"))
                .suggest("install it, or say with --bin-dir where it is");
        } else {
            let finding = match self.built_in {
                BuiltIn::Used => findings.warning(
                    at,
                    format!("no plugin {kind} in {dirs}: cnikit has it built in, other runtimes need it"),
                ),
                BuiltIn::Unused => findings.error(at, format!("no plugin {kind} in {dirs}")),
            };
            finding.suggest("cnikit install --bin-dir /opt/cni/bin");
        }
    }

    fn known(&self, kind: &PluginType) -> Known {
        if let Some(known) = self.known.borrow().get(kind.as_str()) {
            return known.clone();
        }
        let known = match find_in_path(kind, &self.dirs) {
            Err(ExecError::NotExecutable { file }) => Known::NotExecutable(file),
            Err(_) => Known::Missing,
            Ok(_) => match self.runtime.versions(kind) {
                Ok(versions) => Known::Speaks(versions),
                Err(error) => Known::Strange(error.to_string()),
            },
        };
        self.known.borrow_mut().insert(kind.to_string(), known.clone());
        known
    }
}
