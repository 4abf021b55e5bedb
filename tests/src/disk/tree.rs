//! Files as a value.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What is below a directory: names, contents, and which names are one file's.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tree(pub(super) BTreeMap<PathBuf, Object>);

/// What a name in a [`Tree`] stands for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Object {
    Directory,
    File(Vec<u8>),
    /// Another name of the file that has this one already.
    Link(PathBuf),
}

impl Tree {
    /// Reads what is below a directory.
    pub fn read(directory: &Path) -> Self {
        let mut tree = Self::default();
        tree.read_below(directory, Path::new(""), &mut HashMap::new());
        tree
    }

    fn read_below(&mut self, root: &Path, below: &Path, seen: &mut HashMap<u64, PathBuf>) {
        let mut entries: Vec<_> = fs::read_dir(root.join(below)).unwrap().map(Result::unwrap).collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = below.join(entry.file_name());
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() {
                self.0.insert(path.clone(), Object::Directory);
                self.read_below(root, &path, seen);
                continue;
            }
            let object = match seen.get(&metadata.ino()) {
                Some(first) => Object::Link(first.clone()),
                None => Object::File(fs::read(entry.path()).unwrap()),
            };
            seen.entry(metadata.ino()).or_insert_with(|| path.clone());
            self.0.insert(path, object);
        }
    }

    /// Makes it, in a directory that it makes too.
    pub fn write(&self, directory: &Path) {
        fs::create_dir_all(directory).unwrap();
        // A directory sorts before what is in it. A link may sort before its file's other name.
        for (path, object) in &self.0 {
            match object {
                Object::Directory => fs::create_dir(directory.join(path)).unwrap(),
                Object::File(content) => fs::write(directory.join(path), content).unwrap(),
                Object::Link(_) => {}
            }
        }
        for (path, object) in &self.0 {
            if let Object::Link(first) = object {
                fs::hard_link(directory.join(first), directory.join(path)).unwrap();
            }
        }
    }

    /// The content of a file.
    pub fn file(&self, path: impl AsRef<Path>) -> Option<&[u8]> {
        match self.0.get(path.as_ref())? {
            Object::File(content) => Some(content),
            Object::Link(first) => self.file(first),
            Object::Directory => None,
        }
    }
}

impl std::fmt::Display for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (path, object) in &self.0 {
            match object {
                Object::Directory => writeln!(f, "  {}/", path.display())?,
                Object::File(content) => {
                    writeln!(f, "  {} {:?}", path.display(), String::from_utf8_lossy(content))?;
                }
                Object::Link(first) => writeln!(f, "  {} = {}", path.display(), first.display())?,
            }
        }
        Ok(())
    }
}
