//! Putting the plugins where a runtime finds them, on a node that is at work.
//!
//! One executable, and a hard link to it for every plugin's name. A symbolic link would do for runtimes, but hangs in
//! the air when somebody tidies up the file that it points to, or copies a plugin elsewhere; of hard links every name
//! is as good as any other, and keeps working whatever happens to the rest. (On a file system without hard links they
//! are symbolic, and relative.)
//!
//! A plugin that is being executed cannot be written to (`ETXTBSY`), and must not be missing for an instant either.
//! So nothing is ever written in place: what is new is made under another name, flushed, and renamed over the old,
//! which lives on until the last process that executes it ends.

mod restore;

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::signature::SIGNATURE;

pub(crate) use restore::restore;

/// The executable's own name.
pub(crate) const EXECUTABLE: &str = "cnikit-plugins";
/// What is unfinished is named so, in the same directory, for a rename cannot leave its file system.
const UNFINISHED: &str = ".cnikit-install";
/// What the file is called that had a plugin's name before.
const BACKUP: &str = "before-cnikit";

/// The signature with every bit turned: this executable must know it, and not bear it.
const INVERTED: [u8; SIGNATURE.len()] = {
    let mut inverted = SIGNATURE;
    let mut at = 0;
    while at < inverted.len() {
        inverted[at] = !inverted[at];
        at += 1;
    }
    inverted
};

/// What becomes of files that are not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strangers {
    /// They are left alone, and nothing is done.
    Refuse,
    /// They are kept under another name.
    Replace,
}

/// Whether to do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Do it.
    Real,
    /// Say what would be done.
    Dry,
}

/// What was done with one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Step {
    /// The file in the directory.
    pub(crate) name: String,
    /// What was done.
    #[serde(flatten)]
    pub(crate) action: Action,
}

/// See [`Step`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "lowercase")]
pub(crate) enum Action {
    /// It was not there.
    Installed,
    /// An older one of ours was replaced.
    Updated,
    /// It was there, just so.
    Unchanged,
    /// It was somebody else's, which is kept.
    Replaced {
        /// Its name now.
        kept: String,
    },
    /// It is again what it was before.
    Restored {
        /// The name that it had meanwhile.
        from: String,
    },
    /// It is ours still: nobody had it before.
    Kept,
}

/// Why nothing, or not everything, was installed.
#[derive(Debug)]
pub(crate) enum Error {
    /// The file to install is none of ours.
    NotPlugins(PathBuf),
    /// Files of others have plugins' names.
    Strangers(Vec<String>),
    /// The system refused.
    Io(&'static str, PathBuf, io::Error),
}

/// What has a name already.
enum Found {
    Nothing,
    Ours,
    Stranger,
}

/// Installs the executable `from` as plugins of these names.
pub(crate) fn install(
    from: &Path,
    dir: &Path,
    names: &[&str],
    strangers: Strangers,
    mode: Mode,
) -> Result<Vec<Step>, Error> {
    let content = fs::read(from).map_err(at("read", from))?;
    if !is_ours(&content) {
        return Err(Error::NotPlugins(from.to_owned()));
    }
    let place = Place { dir, mode };
    let _alone = place.prepare()?;
    let found: Vec<_> = std::iter::once(&EXECUTABLE)
        .chain(names)
        .map(|name| Ok((*name, look(&dir.join(name))?)))
        .collect::<Result<_, Error>>()?;
    if strangers == Strangers::Refuse {
        let strange = found.iter().filter(|(_, found)| matches!(found, Found::Stranger));
        let strange: Vec<_> = strange.map(|(name, _)| (*name).to_owned()).collect();
        if !strange.is_empty() {
            return Err(Error::Strangers(strange));
        }
    }
    let mut found = found.into_iter();
    let mut steps = Vec::new();
    if let Some((name, found)) = found.next() {
        steps.push(place.copy(name, &found, &content)?);
    }
    let changed = steps.iter().any(|step| step.action != Action::Unchanged);
    for (name, found) in found {
        steps.push(place.link(name, &found, changed)?);
    }
    place.flush()?;
    Ok(steps)
}

/// The directory.
struct Place<'a> {
    dir: &'a Path,
    mode: Mode,
}

impl Place<'_> {
    /// Makes the directory, keeps other installers out of it, and removes what one that died has left.
    fn prepare(&self) -> Result<Option<File>, Error> {
        if self.mode == Mode::Dry {
            return Ok(None);
        }
        fs::create_dir_all(self.dir).map_err(at("create", self.dir))?;
        let lock =
            File::open(self.dir).and_then(|dir| dir.lock().map(|()| dir)).map_err(at("lock", self.dir))?;
        remove(&self.unfinished())?;
        Ok(Some(lock))
    }

    /// The executable itself.
    fn copy(&self, name: &str, found: &Found, content: &[u8]) -> Result<Step, Error> {
        let path = self.dir.join(name);
        if matches!(found, Found::Ours) && fs::read(&path).is_ok_and(|old| old == content) {
            return Ok(Step { name: name.to_owned(), action: Action::Unchanged });
        }
        self.put(name, found, |unfinished| {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o755).open(unfinished)?;
            file.write_all(content)?;
            file.sync_all()
        })
    }

    /// A plugin's name for it. `changed`: the executable is not the one that a link may lead to.
    fn link(&self, name: &str, found: &Found, changed: bool) -> Result<Step, Error> {
        let executable = self.dir.join(EXECUTABLE);
        // A rename of one name of a file over another one of the same file does nothing, and leaves both.
        if !changed && is_same_file(&executable, &self.dir.join(name)) {
            return Ok(Step { name: name.to_owned(), action: Action::Unchanged });
        }
        self.put(name, found, |unfinished| match fs::hard_link(&executable, unfinished) {
            Err(error) if has_no_hard_links(&error) => symlink(EXECUTABLE, unfinished),
            linked => linked,
        })
    }

    /// Makes something under another name, and then renames it: there is never nothing at its place.
    fn put(
        &self,
        name: &str,
        found: &Found,
        make: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<Step, Error> {
        let (path, unfinished) = (self.dir.join(name), self.unfinished());
        let action = match found {
            Found::Nothing => Action::Installed,
            Found::Ours => Action::Updated,
            Found::Stranger => Action::Replaced { kept: self.back_up(name)? },
        };
        if self.mode == Mode::Real {
            make(&unfinished).and_then(|()| fs::rename(&unfinished, &path)).map_err(|error| {
                let _ = fs::remove_file(&unfinished);
                at("install", &path)(error)
            })?;
        }
        Ok(Step { name: name.to_owned(), action })
    }

    /// Keeps a file under another name, and under its own. A backup is never overwritten: the first is the original.
    fn back_up(&self, name: &str) -> Result<String, Error> {
        let numbered = (2..).map(|n| format!("{name}.{BACKUP}.{n}"));
        let names = std::iter::once(format!("{name}.{BACKUP}")).chain(numbered);
        let mut free = names.filter(|name| fs::symlink_metadata(self.dir.join(name)).is_err());
        let kept = free.next().unwrap_or_else(|| format!("{name}.{BACKUP}"));
        if self.mode == Mode::Real {
            let (path, backup) = (self.dir.join(name), self.dir.join(&kept));
            let made = match fs::hard_link(&path, &backup) {
                Err(error) if has_no_hard_links(&error) => fs::copy(&path, &backup).map(|_| ()),
                linked => linked,
            };
            made.map_err(at("keep", &backup))?;
        }
        Ok(kept)
    }

    /// Makes the names last through a power cut.
    fn flush(&self) -> Result<(), Error> {
        match self.mode {
            Mode::Real => File::open(self.dir).and_then(|dir| dir.sync_all()).map_err(at("flush", self.dir)),
            Mode::Dry => Ok(()),
        }
    }

    fn unfinished(&self) -> PathBuf {
        self.dir.join(UNFINISHED)
    }
}

fn look(path: &Path) -> Result<Found, Error> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(at("look at", path)(error)),
        Ok(metadata) if metadata.is_dir() => {
            return Err(at("replace", path)(io::Error::from(ErrorKind::IsADirectory)));
        }
        // A link of ours may lead nowhere.
        Ok(_) if fs::read_link(path).is_ok_and(|target| target == Path::new(EXECUTABLE)) => {
            return Ok(Found::Ours);
        }
        Ok(_) => {}
    }
    // Only regular files are read: opening a FIFO would wait for a writer.
    let regular = fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
    let ours = regular && is_ours(&fs::read(path).map_err(at("read", path))?);
    Ok(if ours { Found::Ours } else { Found::Stranger })
}

fn is_ours(content: &[u8]) -> bool {
    // Opaque, or the compiler might turn the bits back and write the signature into this executable too.
    let signature = std::hint::black_box(INVERTED).map(|byte| !byte);
    content.windows(signature.len()).any(|window| window == signature)
}

fn is_same_file(a: &Path, b: &Path) -> bool {
    let identity = |path| fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
    identity(a).is_some_and(|a| Some(a) == identity(b))
}

/// Whether the file system has no hard links (FAT: EPERM; others: EOPNOTSUPP), or no more for this file.
fn has_no_hard_links(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::Unsupported | ErrorKind::TooManyLinks)
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(at("remove", path)(error)),
        _ => Ok(()),
    }
}

fn at<'a>(operation: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + use<'a> {
    move |error| Error::Io(operation, path.to_owned(), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Lab {
        root: tempfile::TempDir,
    }

    impl Lab {
        fn new() -> Self {
            let lab = Self { root: tempfile::tempdir().unwrap() };
            lab.build("one");
            lab
        }

        fn from(&self) -> PathBuf {
            self.root.path().join("built")
        }

        fn dir(&self) -> PathBuf {
            self.root.path().join("bin")
        }

        /// Another build of the executable.
        fn build(&self, version: &str) {
            fs::write(self.from(), [b"\x7fELF".as_slice(), version.as_bytes(), &SIGNATURE].concat()).unwrap();
        }

        fn install(&self, strangers: Strangers, mode: Mode) -> Result<Vec<Action>, Error> {
            let steps = install(&self.from(), &self.dir(), &["bridge", "ptp"], strangers, mode)?;
            assert_eq!(
                steps.iter().map(|step| step.name.as_str()).collect::<Vec<_>>(),
                [EXECUTABLE, "bridge", "ptp"]
            );
            Ok(steps.into_iter().map(|step| step.action).collect())
        }

        fn files(&self) -> Vec<String> {
            let entries = fs::read_dir(self.dir()).unwrap();
            let mut names: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    #[test]
    fn every_name_is_the_same_file() {
        let lab = Lab::new();
        assert_eq!(lab.install(Strangers::Refuse, Mode::Real).unwrap(), vec![Action::Installed; 3]);
        assert_eq!(lab.files(), ["bridge", EXECUTABLE, "ptp"]);
        assert!(is_same_file(&lab.dir().join("bridge"), &lab.dir().join(EXECUTABLE)));
        let mode = fs::metadata(lab.dir().join("ptp")).unwrap().mode();
        assert_eq!(mode & 0o755, 0o755);
    }

    #[test]
    fn again_changes_nothing_and_a_new_version_changes_everything() {
        let lab = Lab::new();
        lab.install(Strangers::Refuse, Mode::Real).unwrap();
        assert_eq!(lab.install(Strangers::Refuse, Mode::Real).unwrap(), vec![Action::Unchanged; 3]);
        lab.build("two");
        assert_eq!(lab.install(Strangers::Refuse, Mode::Real).unwrap(), vec![Action::Updated; 3]);
        assert!(is_same_file(&lab.dir().join("bridge"), &lab.dir().join(EXECUTABLE)));
        assert_eq!(lab.files(), ["bridge", EXECUTABLE, "ptp"]);
    }

    #[test]
    fn a_lost_executable_or_link_is_made_again() {
        let lab = Lab::new();
        lab.install(Strangers::Refuse, Mode::Real).unwrap();
        fs::remove_file(lab.dir().join(EXECUTABLE)).unwrap();
        fs::remove_file(lab.dir().join("ptp")).unwrap();
        let actions = lab.install(Strangers::Refuse, Mode::Real).unwrap();
        assert_eq!(actions, [Action::Installed, Action::Updated, Action::Installed]);
    }

    #[test]
    fn what_is_not_ours_is_refused_and_nothing_is_done() {
        let lab = Lab::new();
        fs::create_dir(lab.dir()).unwrap();
        fs::write(lab.dir().join("ptp"), "the reference's").unwrap();
        let Err(Error::Strangers(names)) = lab.install(Strangers::Refuse, Mode::Real) else {
            panic!("not refused")
        };
        assert_eq!(names, ["ptp"]);
        assert_eq!(lab.files(), ["ptp"]);
    }

    #[test]
    fn what_is_replaced_is_kept_and_no_backup_is_overwritten() {
        let lab = Lab::new();
        fs::create_dir(lab.dir()).unwrap();
        for (content, kept) in [("first", "ptp.before-cnikit"), ("second", "ptp.before-cnikit.2")] {
            let _ = fs::remove_file(lab.dir().join("ptp"));
            fs::write(lab.dir().join("ptp"), content).unwrap();
            let actions = lab.install(Strangers::Replace, Mode::Real).unwrap();
            assert_eq!(actions[2], Action::Replaced { kept: kept.to_owned() });
            assert_eq!(fs::read_to_string(lab.dir().join(kept)).unwrap(), content);
            assert!(is_same_file(&lab.dir().join("ptp"), &lab.dir().join(EXECUTABLE)));
        }
        assert_eq!(fs::read_to_string(lab.dir().join("ptp.before-cnikit")).unwrap(), "first");
    }

    #[test]
    fn a_dry_run_says_the_same_and_does_nothing() {
        let lab = Lab::new();
        assert_eq!(lab.install(Strangers::Refuse, Mode::Dry).unwrap(), vec![Action::Installed; 3]);
        assert!(!lab.dir().exists());
    }

    #[test]
    fn what_a_dead_installer_left_is_in_nobodys_way() {
        let lab = Lab::new();
        fs::create_dir(lab.dir()).unwrap();
        fs::write(lab.dir().join(UNFINISHED), "half").unwrap();
        lab.install(Strangers::Refuse, Mode::Real).unwrap();
        assert_eq!(lab.files(), ["bridge", EXECUTABLE, "ptp"]);
    }

    #[test]
    fn symbolic_links_of_ours_are_ours_even_if_they_lead_nowhere() {
        let lab = Lab::new();
        fs::create_dir(lab.dir()).unwrap();
        symlink(EXECUTABLE, lab.dir().join("bridge")).unwrap();
        let actions = lab.install(Strangers::Refuse, Mode::Real).unwrap();
        assert_eq!(actions, [Action::Installed, Action::Updated, Action::Installed]);
    }

    #[test]
    fn only_our_own_executable_is_installed() {
        let lab = Lab::new();
        fs::write(lab.from(), "\x7fELF something else").unwrap();
        assert!(matches!(lab.install(Strangers::Refuse, Mode::Real), Err(Error::NotPlugins(_))));
        assert!(!lab.dir().exists());
    }

    #[test]
    fn a_directory_is_never_replaced() {
        let lab = Lab::new();
        fs::create_dir_all(lab.dir().join("ptp")).unwrap();
        assert!(matches!(lab.install(Strangers::Replace, Mode::Real), Err(Error::Io("replace", ..))));
        assert_eq!(lab.files(), ["ptp"]);
    }
}
