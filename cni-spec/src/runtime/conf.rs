//! Finding network configurations.
//!
//! A directory is read once and every file in it is parsed; which network is taken is then a question of order alone.
//! A file that cannot be used stands in nobody's way but its own.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::{error, fmt};

use super::position::{self, Position};
use crate::{Error, NetworkList, NetworkName, PluginConfig};

/// Where runtimes look for configurations: `/etc/cni/net.d`.
pub const DEFAULT_CONF_DIR: &str = "/etc/cni/net.d";

/// The largest configuration file that is read, in bytes.
pub const LARGEST_CONF_FILE: u64 = 1 << 20;

/// Everything in the configuration directories, and what became of it.
///
/// Files are ordered by directory, as the directories were given, and by name (bytes) in each. Directories that do
/// not exist are empty.
///
/// ```no_run
/// use cni_spec::runtime::Survey;
///
/// let survey = Survey::of(["/etc/cni/net.d"]);
/// for file in survey.files() {
///     match &file.outcome {
///         Ok(list) => println!("{}: network {}, {:?}", file.path.display(), list.name, survey.standing(file)),
///         Err(error) => println!("{error}"), // 10-a.conflist:7:12: plugins[1].type: missing
///     }
/// }
/// let chosen = survey.into_default()?;
/// # Ok::<(), cni_spec::runtime::LoadError>(())
/// ```
#[derive(Debug)]
pub struct Survey {
    dirs: Vec<PathBuf>,
    files: Vec<ConfFile>,
    unreadable: Vec<ConfError>,
}

/// One file in a configuration directory.
#[derive(Debug)]
#[non_exhaustive]
pub struct ConfFile {
    /// Where it is.
    pub path: PathBuf,
    /// What kind of file it is, by its extension.
    pub format: ConfFormat,
    /// Its network, plugins of the sibling folder included; or why it cannot be used.
    pub outcome: Result<NetworkList, ConfError>,
    /// The files of the sibling folder whose plugins follow those of the list.
    pub plugin_files: Vec<PathBuf>,
    /// The place of its directory among those that were searched.
    dir: usize,
}

/// The kinds of configuration files. Those of the first kind are preferred when a network is looked for by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfFormat {
    /// `*.conflist`: a list of plugins.
    List,
    /// `*.conf`, `*.json`: one plugin, read as a list of one. Gone from the specification since 1.0.0, still written.
    Single,
}

/// What a file's network is to a runtime that searches these directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing<'a> {
    /// Taken when no network is named: the first valid file of all.
    Default,
    /// Taken when its network is named.
    ByName,
    /// Never taken: another file has a network of the same name, and goes first.
    Shadowed {
        /// The file that is taken.
        by: &'a Path,
    },
    /// Never taken: the file cannot be used.
    Unusable,
}

/// A network, found.
#[derive(Debug)]
#[non_exhaustive]
pub struct Loaded {
    /// The network.
    pub list: NetworkList,
    /// The file that it was read from.
    pub path: PathBuf,
    /// What else could not be read, for a log: none of it matters to this network, unless it was to be somewhere
    /// else.
    pub warnings: Vec<ConfError>,
}

/// Reads the configuration of a network by its name.
///
/// In each directory `*.conflist` files come first, by name, then `*.conf` and `*.json`, as in libcni.
///
/// # Errors
/// No valid file is of that network.
pub fn load(
    dirs: impl IntoIterator<Item = impl Into<PathBuf>>,
    network: &NetworkName,
) -> Result<Loaded, LoadError> {
    Survey::of(dirs).into_network(network)
}

impl Survey {
    /// Reads the directories.
    pub fn of(dirs: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        let dirs: Vec<PathBuf> = dirs.into_iter().map(Into::into).collect();
        let (mut files, mut unreadable) = (Vec::new(), Vec::new());
        for (nth, dir) in dirs.iter().enumerate() {
            match list_dir(dir) {
                Ok(paths) => files.extend(paths.into_iter().filter_map(|path| ConfFile::read(path, nth))),
                Err(error) => unreadable.push(ConfError::io(dir, error)),
            }
        }
        Self { dirs, files, unreadable }
    }

    /// Every configuration file, usable or not.
    pub fn files(&self) -> &[ConfFile] {
        &self.files
    }

    /// Everything that could not be read: directories, then files.
    pub fn problems(&self) -> impl Iterator<Item = &ConfError> {
        self.unreadable.iter().chain(self.files.iter().filter_map(|file| file.outcome.as_ref().err()))
    }

    /// Whether, and when, a runtime takes the network of `file`, one of [`files`](Self::files).
    pub fn standing(&self, file: &ConfFile) -> Standing<'_> {
        let Ok(list) = &file.outcome else { return Standing::Unusable };
        let is_file = |index: Option<usize>| index.is_some_and(|index| self.files[index].path == file.path);
        if is_file(self.default_index()) {
            return Standing::Default;
        }
        match self.index_of(&list.name) {
            Some(index) if self.files[index].path != file.path => {
                Standing::Shadowed { by: &self.files[index].path }
            }
            _ => Standing::ByName,
        }
    }

    /// The default network: that of the first valid file by name, whatever its extension, as runtimes choose it.
    ///
    /// # Errors
    /// No file is valid.
    pub fn into_default(self) -> Result<Loaded, LoadError> {
        let index = self.default_index();
        self.take(index, None)
    }

    /// The network of that name; see [`load`].
    ///
    /// # Errors
    /// No valid file is of that network.
    pub fn into_network(self, name: &NetworkName) -> Result<Loaded, LoadError> {
        let index = self.index_of(name);
        self.take(index, Some(name))
    }

    fn default_index(&self) -> Option<usize> {
        self.files.iter().position(|file| file.outcome.is_ok())
    }

    fn index_of(&self, name: &NetworkName) -> Option<usize> {
        let is_network = |file: &ConfFile| file.outcome.as_ref().is_ok_and(|list| list.name == *name);
        let found = self.files.iter().enumerate().filter(|(_, file)| is_network(file));
        found.min_by_key(|(index, file)| (file.dir, file.format, *index)).map(|(index, _)| index)
    }

    fn take(mut self, index: Option<usize>, wanted: Option<&NetworkName>) -> Result<Loaded, LoadError> {
        let chosen = index.map(|index| self.files.swap_remove(index));
        let broken = self.files.into_iter().filter_map(|file| file.outcome.err());
        let warnings = self.unreadable.into_iter().chain(broken).collect();
        match chosen {
            Some(ConfFile { path, outcome: Ok(list), .. }) => Ok(Loaded { list, path, warnings }),
            _ => Err(LoadError { wanted: wanted.cloned(), dirs: self.dirs, problems: warnings }),
        }
    }
}

impl ConfFile {
    /// `None`: not a configuration file.
    fn read(path: PathBuf, dir: usize) -> Option<Self> {
        let format = match path.extension().and_then(OsStr::to_str)? {
            "conflist" => ConfFormat::List,
            "conf" | "json" => ConfFormat::Single,
            _ => return None,
        };
        if path.is_dir() {
            return None;
        }
        let mut plugin_files = Vec::new();
        let outcome = match format {
            ConfFormat::List => read_list(&path, &mut plugin_files),
            ConfFormat::Single => read_file(&path, NetworkList::from_single_json),
        };
        Some(Self { path, format, outcome, plugin_files, dir })
    }
}

fn read_list(path: &Path, plugin_files: &mut Vec<PathBuf>) -> Result<NetworkList, ConfError> {
    let mut list = read_file(path, NetworkList::from_json)?;
    if !list.load_only_inlined_plugins {
        let folder = path.with_file_name(list.name.as_str());
        let files = list_dir(&folder).map_err(|error| ConfError::io(&folder, error))?;
        // libcni takes them as the directory has them, sorted by name too as it happens.
        for file in
            files.into_iter().filter(|file| file.extension() == Some(OsStr::new("conf")) && !file.is_dir())
        {
            list.plugins.push(read_file(&file, PluginConfig::from_json)?);
            plugin_files.push(file);
        }
    }
    if list.plugins.is_empty() {
        return Err(ConfError { path: path.to_owned(), position: None, problem: ConfProblem::NoPlugins });
    }
    Ok(list)
}

/// Everything in a directory, by name.
fn list_dir(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        // The sibling "folder" of a list may be a file that only happens to have the network's name.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries?,
    };
    let paths: BTreeSet<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    Ok(paths.into_iter().collect())
}

fn read_file<T>(path: &Path, parse: fn(&[u8]) -> Result<T, Error>) -> Result<T, ConfError> {
    let bytes =
        read_bytes(path).map_err(|problem| ConfError { path: path.to_owned(), position: None, problem })?;
    parse(&bytes).map_err(|error| ConfError {
        path: path.to_owned(),
        position: position::of(&error, &bytes),
        problem: ConfProblem::Invalid(Box::new(error)),
    })
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, ConfProblem> {
    // Opening a FIFO would wait for a writer.
    if !fs::metadata(path).map_err(ConfProblem::Io)?.is_file() {
        return Err(ConfProblem::NotAFile);
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(ConfProblem::Io)?;
    file.take(LARGEST_CONF_FILE + 1).read_to_end(&mut bytes).map_err(ConfProblem::Io)?;
    if bytes.len() as u64 > LARGEST_CONF_FILE { Err(ConfProblem::TooLarge) } else { Ok(bytes) }
}

/// A configuration file, or directory, that cannot be used, and where it is wrong.
#[derive(Debug)]
#[non_exhaustive]
pub struct ConfError {
    /// The file.
    pub path: PathBuf,
    /// The place in the file, if it is one.
    pub position: Option<Position>,
    /// What is wrong.
    pub problem: ConfProblem,
}

/// What is wrong with a configuration file.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfProblem {
    /// It cannot be read.
    Io(io::Error),
    /// It is a device, a socket or a pipe.
    NotAFile,
    /// It is larger than [`LARGEST_CONF_FILE`].
    TooLarge,
    /// It is no configuration.
    Invalid(Box<Error>),
    /// It has no plugins, nor has the folder beside it.
    NoPlugins,
}

impl ConfError {
    fn io(path: &Path, error: io::Error) -> Self {
        Self { path: path.to_owned(), position: None, problem: ConfProblem::Io(error) }
    }
}

impl fmt::Display for ConfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(Position { line, column }) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        match &self.problem {
            ConfProblem::Io(error) => write!(f, ": {error}"),
            ConfProblem::NotAFile => write!(f, ": not a regular file"),
            ConfProblem::TooLarge => write!(f, ": larger than {} KiB", LARGEST_CONF_FILE >> 10),
            ConfProblem::Invalid(error) => write!(f, ": {}", error.msg()),
            ConfProblem::NoPlugins => {
                write!(f, ": no plugins, neither here nor in the folder of the network's name")
            }
        }
    }
}

impl error::Error for ConfError {}

/// There is no such network.
#[derive(Debug)]
#[non_exhaustive]
pub struct LoadError {
    /// Its name; `None`: any network would have done.
    pub wanted: Option<NetworkName>,
    /// Where it was looked for.
    pub dirs: Vec<PathBuf>,
    /// What could not be read: one of these may have been meant to be it.
    pub problems: Vec<ConfError>,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.wanted {
            Some(name) => write!(f, "no configuration of network {name:?}", name = name.as_str())?,
            None => write!(f, "no network configuration")?,
        }
        for (nth, dir) in self.dirs.iter().enumerate() {
            write!(f, "{}{}", if nth == 0 { " in " } else { ", " }, dir.display())?;
        }
        for (nth, problem) in self.problems.iter().enumerate() {
            write!(f, "{}{problem}", if nth == 0 { "; not usable: " } else { "; " })?;
        }
        Ok(())
    }
}

impl error::Error for LoadError {}
