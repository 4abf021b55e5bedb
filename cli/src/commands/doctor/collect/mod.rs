//! Looks at the node: reads, and judges nothing.

mod agent;
mod identity;
mod kernel;
mod network;
mod ports;
mod reach;
mod runtime;
mod settings;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use super::facts::Facts;
use crate::agent_socket::AgentSocket;

/// No file that is looked into is larger, unless somebody has made it so.
const LARGEST_FILE: u64 = 4 << 20;

/// The root of the node's files: `/`, or where another node's are mounted.
#[derive(Debug, Clone)]
pub(super) struct Root(PathBuf);

impl Root {
    pub(super) fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Whether it is the node that this program runs on, so that its kernel can be asked.
    fn is_here(&self) -> bool {
        self.0 == Path::new("/")
    }

    /// Where something is that has this path on the node.
    fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// A file's text, if it is a file and can be read.
    fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        let path = self.path(path);
        // Opening a pipe would wait for its writer.
        if !path.metadata().ok()?.is_file() {
            return None;
        }
        let mut bytes = Vec::new();
        File::open(path).ok()?.take(LARGEST_FILE).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The one line of a file.
    fn line(&self, path: impl AsRef<Path>) -> Option<String> {
        Some(self.text(path)?.trim().to_owned())
    }

    /// The one number of a file.
    fn number<T: std::str::FromStr>(&self, path: impl AsRef<Path>) -> Option<T> {
        self.line(path)?.parse().ok()
    }

    /// What is in a directory, by name.
    fn names(&self, path: impl AsRef<Path>) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.path(path)) else { return Vec::new() };
        let mut names: Vec<_> =
            entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.path(path).exists()
    }
}

/// Everything that rules are about.
pub(super) fn facts(root: &Root, agent: &AgentSocket, cluster: &[IpNet]) -> Facts {
    let agent = agent::agent(root, agent);
    Facts {
        identity: identity::identity(root),
        network: if root.is_here() { network::network() } else { None },
        sockets: ports::sockets(root),
        settings: settings::settings(root),
        kernel: kernel::kernel(root),
        runtime: runtime::runtime(root),
        reached: if root.is_here() { reach::reached(root, &agent) } else { Vec::new() },
        agent,
        cluster: cluster.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The files of a node that is made up.
    pub(super) struct Tree(tempfile::TempDir);

    impl Tree {
        pub(super) fn new(files: &[(&str, &str)]) -> Self {
            let tree = Self(tempfile::tempdir().unwrap());
            for (path, text) in files {
                let path = tree.path(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            tree
        }

        pub(super) fn path(&self, path: &str) -> PathBuf {
            self.0.path().join(path)
        }

        pub(super) fn root(&self) -> Root {
            Root::new(self.0.path())
        }
    }

    #[test]
    fn paths_of_the_node_are_below_its_root() {
        let tree = Tree::new(&[("etc/machine-id", "abc\n")]);
        assert_eq!(tree.root().line("/etc/machine-id").as_deref(), Some("abc"));
        assert_eq!(tree.root().text("/etc/hosts"), None);
        assert_eq!(tree.root().names("/etc"), ["machine-id"]);
        assert!(!tree.root().is_here() && Root::new("/").is_here());
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let tree = Tree::new(&[("etc/x", "")]);
        nix::unistd::mkfifo(&tree.path("etc/machine-id"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(tree.root().text("/etc/machine-id"), None);
        assert_eq!(tree.root().text("/etc"), None);
    }
}
