//! The network's configuration for the runtime: written when pods can be attached, so that a runtime that finds it may begin.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use plugin_kit::files::{self, Durability};
use serde_json::{Value, json};

use crate::known::Known;
use crate::log;
use crate::settings::Settings;
use crate::told::Watched;

/// The version of CNI that it is written in: containerd and CRI-O of the last years know it.
const VERSION: &str = "1.0.0";

/// What is chained after `overlay` where it is installed, and what the runtime is to pass on to it: ports (`hostPort`), and limits
/// (annotations `kubernetes.io/ingress-bandwidth` and `egress-bandwidth`). Without any of these for a pod, it does nothing.
const CHAINED: [(&str, &str); 2] = [("portmap", "portMappings"), ("bandwidth", "bandwidth")];

/// Writes it as soon as pods can be attached. It stays when they cannot for a while: who attaches is told why by the plugin.
pub(crate) async fn write_when_ready(known: Arc<Known>) -> String {
    let mut watched = Watched::new(&known);
    while known.unready().is_some() {
        if !watched.changed().await {
            return "nothing changes any more".to_owned();
        }
    }
    if let Some(directory) = &known.settings.conf_dir {
        let path = path(directory, &known.settings);
        match write(&path, &known.settings) {
            Ok(true) => log::info(format_args!("the runtime finds the network in {}", path.display())),
            Ok(false) => {}
            Err(error) => return format!("write {}: {error}", path.display()),
        }
    }
    std::future::pending().await
}

/// Runtimes take the first, in the order of names.
pub(crate) fn path(directory: &Path, settings: &Settings) -> PathBuf {
    directory.join(format!("10-{}.conflist", settings.network))
}

/// Whether it was another one before.
fn write(path: &Path, settings: &Settings) -> io::Result<bool> {
    let overlay = settings.bin_dir.join("overlay");
    if !overlay.exists() {
        let what = format!("{} is not there: `cnikit install` puts the plugins there", overlay.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, what));
    }
    let content = format!("{:#}\n", document(settings));
    if fs::read_to_string(path).is_ok_and(|found| found == content) {
        return Ok(false);
    }
    if let Some(directory) = path.parent() {
        files::make_directory(directory, 0o755)?;
    }
    files::replace(path, content.as_bytes(), 0o644, Durability::Disk)?;
    Ok(true)
}

fn document(settings: &Settings) -> Value {
    let mut overlay = json!({ "type": "overlay" });
    if settings.run_dir != Path::new(plugin_overlay::DIRECTORY) {
        overlay["agentDirectory"] = settings.run_dir.display().to_string().into();
    }
    let mut plugins = vec![overlay];
    let installed = CHAINED.iter().filter(|(plugin, _)| settings.bin_dir.join(plugin).exists());
    plugins.extend(
        installed
            .map(|(plugin, capability)| json!({ "type": plugin, "capabilities": { *capability: true } })),
    );
    json!({ "cniVersion": VERSION, "name": settings.network.as_str(), "plugins": plugins })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{InForce, Options};

    fn settings(directory: &Path) -> Settings {
        let mut options = Options { node_name: Some("n1".to_owned()), ..Options::default() };
        options.cni.bin_dir = Some(directory.to_owned());
        Settings::new(&InForce::of(&options, None, &Options::defaults()).unwrap().options).unwrap()
    }

    #[test]
    fn it_names_only_plugins_that_are_there() {
        let directory = tempfile::tempdir().unwrap();
        let settings = settings(directory.path());
        let path = path(directory.path(), &settings);
        assert!(write(&path, &settings).unwrap_err().to_string().contains("cnikit install"));
        fs::write(directory.path().join("overlay"), "").unwrap();
        assert!(write(&path, &settings).unwrap());
        let document: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(document["plugins"], json!([{ "type": "overlay" }]));
        fs::write(directory.path().join("bandwidth"), "").unwrap();
        assert!(write(&path, &settings).unwrap());
        fs::write(directory.path().join("portmap"), "").unwrap();
        assert!(write(&path, &settings).unwrap());
        assert!(!write(&path, &settings).unwrap());
        let list = cni_spec::NetworkList::from_json(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(list.plugins.len(), 3);
        let document: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let (ports, limits) = (json!({ "portMappings": true }), json!({ "bandwidth": true }));
        assert_eq!(
            document["plugins"],
            json!([
                { "type": "overlay" },
                { "type": "portmap", "capabilities": ports },
                { "type": "bandwidth", "capabilities": limits },
            ])
        );
    }
}
