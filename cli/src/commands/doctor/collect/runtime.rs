//! The container runtime: which it is, and where it has plugins and configurations.

use std::path::PathBuf;

use cni_spec::NetworkList;
use cni_spec::runtime::{DEFAULT_CONF_DIR, DEFAULT_PLUGIN_DIR, Survey};

use super::Root;
use crate::commands::doctor::facts::{Chain, Configuration, Endpoint, Runtime};

/// Where runtimes listen, if nobody says otherwise.
const SOCKETS: [&str; 3] =
    ["/run/containerd/containerd.sock", "/run/crio/crio.sock", "/run/cri-dockerd.sock"];

const KUBELET_CONFIG: &str = "/var/lib/kubelet/config.yaml";
const KUBEADM_FLAGS: &str = "/var/lib/kubelet/kubeadm-flags.env";
const CRICTL: &str = "/etc/crictl.yaml";
const CONTAINERD: &str = "/etc/containerd/config.toml";
const CRIO: [&str; 2] = ["/etc/crio/crio.conf", "/etc/crio/crio.conf.d"];

pub(super) fn runtime(root: &Root) -> Runtime {
    let settings = settings(root);
    let conf_dir = settings.conf_dir.unwrap_or_else(|| DEFAULT_CONF_DIR.into());
    let mut plugin_dirs = settings.plugin_dirs;
    if plugin_dirs.is_empty() {
        plugin_dirs.push((DEFAULT_PLUGIN_DIR.into(), "by default".to_owned()));
    }
    Runtime {
        endpoints: endpoints(root),
        sockets: SOCKETS.into_iter().filter(|socket| root.exists(socket)).map(str::to_owned).collect(),
        fail_swap_on: root
            .text(KUBELET_CONFIG)
            .map(|text| yaml(&text, "failSwapOn") != Some("false".to_owned())),
        cri_is_disabled: settings.cri_is_disabled,
        configurations: configurations(root, &conf_dir, &plugin_dirs),
        plugin_dirs,
        conf_dir,
    }
}

/// Who says which runtime it is. The kubelet's flags stand before its file; crictl is for people.
fn endpoints(root: &Root) -> Vec<Endpoint> {
    let flags = root.text(KUBEADM_FLAGS).and_then(|text| flag(&text, "--container-runtime-endpoint"));
    let config = root.text(KUBELET_CONFIG).and_then(|text| yaml(&text, "containerRuntimeEndpoint"));
    let crictl = root.text(CRICTL).and_then(|text| yaml(&text, "runtime-endpoint"));
    let said = [(flags, KUBEADM_FLAGS), (config, KUBELET_CONFIG), (crictl, CRICTL)];
    let endpoint = |(endpoint, source): (Option<String>, &str)| {
        let endpoint = endpoint.filter(|endpoint| !endpoint.is_empty())?;
        let socket = endpoint.strip_prefix("unix://").unwrap_or(&endpoint).to_owned();
        Some(Endpoint { is_there: root.exists(&socket), socket, source: source.to_owned() })
    };
    said.into_iter().filter_map(endpoint).collect()
}

/// What runtimes' own files say.
#[derive(Default)]
struct Configured {
    plugin_dirs: Vec<(PathBuf, String)>,
    conf_dir: Option<PathBuf>,
    cri_is_disabled: bool,
}

fn settings(root: &Root) -> Configured {
    let mut configured = Configured::default();
    if let Some(text) = root.text(CONTAINERD) {
        for (section, key, values) in toml(&text) {
            match key.as_str() {
                "disabled_plugins" if section.is_empty() => {
                    configured.cri_is_disabled =
                        values.iter().any(|name| name == "cri" || name == "io.containerd.grpc.v1.cri");
                }
                "bin_dir" | "bin_dirs" if is_cni(&section) => configured.found(CONTAINERD, values),
                "conf_dir" if is_cni(&section) => configured.conf_dir = values.first().map(PathBuf::from),
                _ => {}
            }
        }
    }
    let [file, directory] = CRIO;
    let parts = root.names(directory).into_iter().map(|name| format!("{directory}/{name}"));
    for path in [file.to_owned()].into_iter().chain(parts) {
        let Some(text) = root.text(&path) else { continue };
        for (section, key, values) in toml(&text) {
            match (section.as_str(), key.as_str()) {
                ("crio.network", "plugin_dirs") => configured.found(&path, values),
                ("crio.network", "network_dir") => configured.conf_dir = values.first().map(PathBuf::from),
                _ => {}
            }
        }
    }
    configured
}

impl Configured {
    /// Directories, the last file's of which count.
    fn found(&mut self, source: &str, values: Vec<String>) {
        let values = values.into_iter().filter(|value| !value.is_empty());
        self.plugin_dirs.extend(values.map(|value| (value.into(), source.to_owned())));
    }
}

/// Whether a section is containerd's about CNI: `plugins."io.containerd.grpc.v1.cri".cni` of version 2 of its files,
/// `plugins.'io.containerd.cri.v1.runtime'.cni` of version 3.
fn is_cni(section: &str) -> bool {
    section.starts_with("plugins.") && section.contains("io.containerd.") && section.ends_with(".cni")
}

/// The configurations in a runtime's order, and where their plugins are.
fn configurations(root: &Root, conf_dir: &PathBuf, plugin_dirs: &[(PathBuf, String)]) -> Vec<Configuration> {
    let survey = Survey::of([root.path(conf_dir)]);
    let find = |name: String| {
        let found = plugin_dirs.iter().map(|(dir, _)| dir.join(&name)).find(|path| root.exists(path));
        (name, found)
    };
    let chain = |list: &NetworkList| {
        let ipam = |document: &serde_json::Map<String, serde_json::Value>| {
            document.get("ipam")?.get("type")?.as_str().filter(|kind| !kind.is_empty()).map(str::to_owned)
        };
        let names = list.plugins.iter().flat_map(|plugin| {
            [Some(plugin.plugin_type.to_string()), ipam(&plugin.document)].into_iter().flatten()
        });
        Chain { network: list.name.to_string(), plugins: names.map(find).collect() }
    };
    let configuration = |file: &cni_spec::runtime::ConfFile| Configuration {
        path: conf_dir.join(file.path.file_name().unwrap_or_default()),
        content: file.outcome.as_ref().map(chain).map_err(ToString::to_string),
    };
    survey.files().iter().map(configuration).collect()
}

/// A key of the outermost level of a YAML document that is as plain as these are.
fn yaml(text: &str, key: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix(':'))?;
    Some(unquoted(value.split(" #").next()?.trim()).to_owned())
}

/// A flag among others: `KUBELET_KUBEADM_ARGS="--a=b --c=d"`.
fn flag(text: &str, name: &str) -> Option<String> {
    let mut words = text.split([' ', '"', '\n', '\'']).filter(|word| !word.is_empty());
    words.find_map(|word| match word.strip_prefix(name)?.strip_prefix('=') {
        Some(value) => Some(value.to_owned()),
        None => Some(String::new()),
    })
}

/// Sections, keys and their texts, as far as a TOML document is as plain as these are: texts, and lists of texts.
fn toml(text: &str) -> Vec<(String, String, Vec<String>)> {
    let (mut section, mut found) = (String::new(), Vec::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let line = uncommented(line);
        if let Some(header) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = header.trim_matches(['[', ']', ' ']).to_owned();
        } else if let Some((key, value)) = line.split_once('=') {
            let mut value = value.trim().to_owned();
            // A list may go over several lines.
            while value.starts_with('[') && !value.ends_with(']') {
                let Some(more) = lines.next() else { break };
                value.push_str(uncommented(more));
            }
            let items =
                value.trim_matches(['[', ']']).split(',').map(|item| unquoted(item.trim()).to_owned());
            let items = items.filter(|item| !item.is_empty()).collect();
            found.push((section.clone(), unquoted(key.trim()).to_owned(), items));
        }
    }
    found
}

fn uncommented(line: &str) -> &str {
    // None of the values that are looked for has a # in it.
    line.split('#').next().unwrap_or_default().trim()
}

fn unquoted(text: &str) -> &str {
    text.trim_matches(['"', '\''])
}

#[cfg(test)]
mod tests {
    use super::super::tests::Tree;
    use super::*;

    #[test]
    fn the_kubelets_runtime_is_where_its_flags_or_its_file_say() {
        let tree = Tree::new(&[
            (
                "var/lib/kubelet/kubeadm-flags.env",
                "KUBELET_KUBEADM_ARGS=\"--pod-infra-container-image=registry.k8s.io/pause:3.9 \
                 --container-runtime-endpoint=unix:///run/containerd/containerd.sock\"\n",
            ),
            (
                "var/lib/kubelet/config.yaml",
                "apiVersion: kubelet.config.k8s.io/v1beta1\nfailSwapOn: false\ncontainerRuntimeEndpoint: \"unix:///var/run/x.sock\" # old\n",
            ),
            ("etc/crictl.yaml", "runtime-endpoint: ''\n"),
            ("run/containerd/containerd.sock", ""),
        ]);
        let found = runtime(&tree.root());
        let endpoint = |socket: &str, source: &str, is_there| Endpoint {
            socket: socket.to_owned(),
            source: source.to_owned(),
            is_there,
        };
        let expected = [
            endpoint("/run/containerd/containerd.sock", KUBEADM_FLAGS, true),
            endpoint("/var/run/x.sock", KUBELET_CONFIG, false),
        ];
        assert_eq!(found.endpoints, expected);
        assert_eq!(found.sockets, ["/run/containerd/containerd.sock"]);
        assert_eq!(found.fail_swap_on, Some(false));
        assert_eq!(runtime(&Tree::new(&[]).root()).fail_swap_on, None);
    }

    #[test]
    fn directories_are_read_from_both_versions_of_containerds_file() {
        let second = "version = 2\n[plugins]\n  [plugins.\"io.containerd.grpc.v1.cri\"]\n    \
             [plugins.\"io.containerd.grpc.v1.cri\".cni]\n      bin_dir = \"/usr/lib/cni\" # Debian's\n      conf_dir = \"/etc/cni/other\"\n\
             [plugins.\"io.containerd.internal.v1.opt\"]\n path = \"/x\"\n";
        let third = "version = 3\ndisabled_plugins = []\n[plugins.'io.containerd.cri.v1.runtime'.cni]\n  bin_dirs = [\n    '/opt/cni/bin',\n    '/usr/lib/cni'\n  ]\n";
        let dirs = |text: &str| {
            let found = runtime(&Tree::new(&[("etc/containerd/config.toml", text)]).root());
            let dirs: Vec<_> = found.plugin_dirs.iter().map(|(dir, _)| dir.display().to_string()).collect();
            (dirs, found.conf_dir.display().to_string(), found.cri_is_disabled)
        };
        assert_eq!(dirs(second), (vec!["/usr/lib/cni".to_owned()], "/etc/cni/other".to_owned(), false));
        let both = vec!["/opt/cni/bin".to_owned(), "/usr/lib/cni".to_owned()];
        assert_eq!(dirs(third), (both, "/etc/cni/net.d".to_owned(), false));
        let docker = "disabled_plugins = [\"cri\"]\n";
        assert_eq!(dirs(docker), (vec!["/opt/cni/bin".to_owned()], "/etc/cni/net.d".to_owned(), true));
        for garbage in ["", "[", "=", "[plugins.\"io.containerd.x\".cni]\nbin_dirs = [", "\u{0}\u{1}[[]]"] {
            dirs(garbage);
        }
    }

    #[test]
    fn cri_os_directories_are_read_from_all_its_files() {
        let tree = Tree::new(&[
            ("etc/crio/crio.conf", "[crio.network]\n# plugin_dirs = [\"/no\"]\n"),
            (
                "etc/crio/crio.conf.d/10-x.conf",
                "[crio.network]\nplugin_dirs = [\"/usr/libexec/cni\", \"/opt/cni/bin\"]\n",
            ),
        ]);
        let found = runtime(&tree.root());
        let dirs: Vec<_> = found.plugin_dirs.iter().map(|(dir, _)| dir.display().to_string()).collect();
        assert_eq!(dirs, ["/usr/libexec/cni", "/opt/cni/bin"]);
    }

    #[test]
    fn configurations_are_in_a_runtimes_order_with_their_plugins() {
        let list = r#"{"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "overlay"},
            {"type": "bridge", "ipam": {"type": "host-local"}}]}"#;
        let tree = Tree::new(&[
            ("etc/cni/net.d/20-pods.conflist", list),
            ("etc/cni/net.d/10-broken.conflist", "{"),
            ("opt/cni/bin/overlay", ""),
        ]);
        let found = runtime(&tree.root()).configurations;
        assert_eq!(found[0].path, PathBuf::from("/etc/cni/net.d/10-broken.conflist"));
        assert!(found[0].content.is_err());
        let chain = found[1].content.as_ref().unwrap();
        let expected = [
            ("overlay".to_owned(), Some(PathBuf::from("/opt/cni/bin/overlay"))),
            ("bridge".to_owned(), None),
            ("host-local".to_owned(), None),
        ];
        assert_eq!((chain.network.as_str(), chain.plugins.as_slice()), ("pods", expected.as_slice()));
    }
}
