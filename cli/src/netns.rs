//! NETNS on the command line: a path, a name, or a process.

use std::path::{Component, Path, PathBuf};

use cni_spec::ContainerId;
use netops::{Namespace, NamespaceProblem};
use sha2::{Digest, Sha512};

use crate::exit::Exit;
use crate::failure::Failure;

/// A container's network namespace, which need not exist (any more).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Netns {
    /// Absolute, without `.` and `..`.
    path: String,
    /// As `ip -n` takes it.
    name: Option<String>,
}

impl Netns {
    /// Finds what is meant: what has a `/` is a path; else a name in `/run/netns` or `/var/run/netns`; else a number
    /// is a process; else it is a name that is not there (yet, or any more).
    pub(crate) fn find(text: &str) -> Result<Self, Failure> {
        Self::find_in(text, &Namespace::DIRECTORIES.map(Path::new))
    }

    fn find_in(text: &str, directories: &[&Path]) -> Result<Self, Failure> {
        if text.contains('/') {
            return Self::at(Path::new(text), None);
        }
        if text.is_empty() || text == "." || text == ".." {
            return Err(Failure::new(Exit::Usage, format!("{text:?} is no network namespace"))
                .advise("give a path, a name as `ip netns` shows it, or a process ID"));
        }
        let named = |directory: &&Path| directory.join(text);
        if let Some(path) = directories.iter().map(named).find(|path| path.exists()) {
            return Self::at(&path, Some(text));
        }
        if text.bytes().all(|b| b.is_ascii_digit()) {
            return Self::at(Path::new(&format!("/proc/{text}/ns/net")), None);
        }
        let path = directories.first().map_or_else(|| PathBuf::from(text), named);
        Self::at(&path, Some(text))
    }

    fn at(path: &Path, name: Option<&str>) -> Result<Self, Failure> {
        let absolute = std::path::absolute(path)
            .map_err(|error| Failure::new(Exit::Namespace, format!("{}: {error}", path.display())))?;
        Ok(Self { path: clean(&absolute), name: name.map(str::to_owned) })
    }

    /// The path, for `CNI_NETNS`.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The name if it has one, else the path: as `ip -n` takes it.
    pub(crate) fn name_or_path(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.path)
    }

    /// The container ID that cnitool would give it: whoever changes from one tool to the other finds what the other
    /// has attached.
    pub(crate) fn container_id(&self) -> Result<ContainerId, Failure> {
        let hash = Sha512::digest(self.path.as_bytes());
        let digits: String = hash.iter().take(10).map(|byte| format!("{byte:02x}")).collect();
        let id = format!("cnitool-{digits}").parse();
        id.map_err(|error| Failure::new(Exit::Failed, format!("container ID: {error}")))
    }

    /// Makes sure that there is such a namespace.
    pub(crate) fn must_exist(&self) -> Result<(), Failure> {
        let Err(error) = Namespace::open(&self.path) else { return Ok(()) };
        if !matches!(error, netops::Error::Namespace { problem: NamespaceProblem::Gone, .. }) {
            return Err(error.into());
        }
        let failure = Failure::new(Exit::Namespace, error.to_string());
        let known: Vec<_> = Namespace::list(Namespace::DIRECTORIES)
            .iter()
            .filter_map(|namespace| Some(namespace.path().file_name()?.to_str()?.to_owned()))
            .collect();
        Err(match (&self.name, known.is_empty()) {
            (Some(name), true) => failure.advise(format!("`ip netns add {name}` makes it")),
            (_, true) => failure,
            (_, false) => failure.advise(format!("namespaces with a name: {}", known.join(", "))),
        })
    }
}

/// Go's `filepath.Clean`, for an absolute path: cnitool's container IDs are hashes of such.
fn clean(absolute: &Path) -> String {
    let mut parts: Vec<String> = Vec::new();
    for component in absolute.components() {
        match component {
            Component::Normal(part) => parts.push(part.to_string_lossy().into_owned()),
            Component::ParentDir => drop(parts.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_goes_before_a_process() {
        let directory = tempfile::tempdir().unwrap();
        let (a, b) = (directory.path().join("a"), directory.path().join("b"));
        std::fs::create_dir_all(&a).unwrap();
        std::fs::create_dir_all(&b).unwrap();
        std::fs::write(b.join("42"), "").unwrap();
        let find = |text| Netns::find_in(text, &[&a, &b]).unwrap();
        assert_eq!(find("42").path(), b.join("42").to_str().unwrap());
        assert_eq!(find("42").name_or_path(), "42");
        assert_eq!(find("43").path(), "/proc/43/ns/net");
        assert_eq!(find("43").name_or_path(), "/proc/43/ns/net");
        // Where it would be: a DEL may come after its namespace is gone.
        assert_eq!(find("blue").path(), a.join("blue").to_str().unwrap());
    }

    #[test]
    fn a_path_is_made_absolute_and_clean() {
        let path = |text| Netns::find(text).unwrap().path;
        assert_eq!(path("/run/netns/../netns//./blue"), "/run/netns/blue");
        assert_eq!(path("/.."), "/");
        let here = std::env::current_dir().unwrap();
        assert_eq!(path("./blue"), here.join("blue").to_str().unwrap());
    }

    #[test]
    fn nothing_is_no_namespace() {
        for text in ["", ".", ".."] {
            assert_eq!(Netns::find(text).unwrap_err().exit(), Exit::Usage);
        }
    }

    #[test]
    fn container_ids_are_cnitools() {
        // printf /var/run/netns/testing | sha512sum | cut -c 1-20
        let id = Netns::find("/var/run/netns/testing").unwrap().container_id().unwrap();
        assert_eq!(id.as_str(), "cnitool-77383ca0a0715733ca6f");
    }
}
