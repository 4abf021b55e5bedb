//! Network namespaces: opened, made, entered and left again.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};

use super::sys;
use crate::error::{Errno, Error, NamespaceProblem};

/// The calling thread's own namespace. Not `self`: that is the main thread's.
const CURRENT: &str = "/proc/thread-self/ns/net";

/// A network namespace, kept alive by this value.
#[derive(Debug)]
pub struct Namespace {
    file: File,
    path: PathBuf,
}

impl Namespace {
    /// Where `ip netns` and container runtimes keep named namespaces.
    pub const DIRECTORIES: [&'static str; 2] = ["/run/netns", "/var/run/netns"];

    /// Opens a namespace by path: a bind mount such as `/run/netns/blue`, or `/proc/PID/ns/net`.
    ///
    /// # Errors
    /// [`Error::Namespace`]: gone, something else, or refused.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        let problem = |problem| Error::Namespace { path: path.clone(), problem };
        // A FIFO in its place must not make us wait for a writer.
        let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path);
        let file = opened.map_err(|error| {
            problem(match error.raw_os_error() {
                // ESRCH: a process that ended while its /proc entry was being looked at.
                Some(libc::ENOENT | libc::ENOTDIR | libc::ESRCH) => NamespaceProblem::Gone,
                // A socket, a device without a driver: nothing that setns(2) would take.
                Some(libc::ENXIO | libc::ENODEV) => NamespaceProblem::NotANamespace,
                _ => NamespaceProblem::Refused(errno_of(&error)),
            })
        })?;
        // What cannot be asked about may be a namespace: who took it for none would leave what is in it.
        let refused = |errno: nix::errno::Errno| problem(NamespaceProblem::Refused(errno.into()));
        let filesystem = fstatfs(&file).map_err(refused)?;
        if filesystem.filesystem_type() != NSFS_MAGIC
            || sys::namespace_type(&file).map_err(refused)? != CloneFlags::CLONE_NEWNET.bits()
        {
            return Err(problem(NamespaceProblem::NotANamespace));
        }
        Ok(Self { file, path })
    }

    /// The calling thread's namespace.
    ///
    /// # Errors
    /// [`Error::Namespace`], if `/proc` is not there.
    pub fn current() -> Result<Self, Error> {
        Self::open(CURRENT)
    }

    /// The namespace that a socket of the calling thread's was opened in: in a third of the time that `/proc` takes.
    pub(super) fn of_socket(socket: &impl AsFd) -> Result<Self, nix::errno::Errno> {
        Ok(Self { file: sys::namespace_of(socket)?.into(), path: CURRENT.into() })
    }

    /// Makes a namespace without a name: it lives as long as this value, and as whatever else comes to hold it.
    ///
    /// # Errors
    /// [`Error::Namespace`]; making one takes `CAP_SYS_ADMIN`.
    pub fn create() -> Result<Self, Error> {
        let unnamed = Path::new("(unnamed)");
        in_new_namespace(unnamed, || Ok(Self { path: unnamed.to_owned(), ..Self::current()? }))
    }

    /// Makes a namespace with a name in a directory, as `ip netns add` does: a file there, onto which it is mounted,
    /// keeps it alive until [`remove`](Self::remove). The directory is made if need be.
    ///
    /// # Errors
    /// [`Error::Namespace`], with `EEXIST` if there is something of that name; nothing is left behind.
    pub fn create_named(directory: impl AsRef<Path>, name: &str) -> Result<Self, Error> {
        let directory = directory.as_ref();
        let path = directory.join(name);
        let refused =
            |errno| Error::Namespace { path: path.clone(), problem: NamespaceProblem::Refused(errno) };
        if name.is_empty() || name.contains('/') || name == "." || name == ".." {
            return Err(refused(Errno::EINVAL));
        }
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(directory)
            .map_err(|error| refused(errno_of(&error)))?;
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o444)
            .open(&path)
            .map_err(|error| refused(errno_of(&error)))?;
        let made = in_new_namespace(&path, || {
            mount(Some(CURRENT), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
                .map_err(|errno| refused(errno.into()))?;
            Self::open(&path)
        });
        if made.is_err() {
            // Nothing is mounted there unless the very last step failed.
            let _ = Self::remove(&path);
        }
        made
    }

    /// Takes a named namespace's name away, mount and file; it ends when nobody uses it any more. That it is gone
    /// already is fine.
    ///
    /// # Errors
    /// [`Error::Namespace`].
    pub fn remove(path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        let refused = |errno| {
            Err(Error::Namespace { path: path.to_owned(), problem: NamespaceProblem::Refused(errno) })
        };
        match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) | Err(nix::errno::Errno::ENOENT) => {}
            // Nothing is mounted there. An unmount by another hand leaves an empty file; anything else is not ours.
            Err(nix::errno::Errno::EINVAL) if fs::metadata(path).is_ok_and(|file| file.len() == 0) => {}
            Err(nix::errno::Errno::EINVAL) => {
                return Err(Error::Namespace {
                    path: path.to_owned(),
                    problem: NamespaceProblem::NotANamespace,
                });
            }
            Err(errno) => return refused(errno.into()),
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => refused(errno_of(&error)),
            _ => Ok(()),
        }
    }

    /// The named namespaces in some directories, those of them that can be opened, by name; each once, even if one
    /// directory is another one's symbolic link (`/var/run`). A directory that is not there has none.
    pub fn list<P: AsRef<Path>>(directories: impl IntoIterator<Item = P>) -> Vec<Self> {
        let mut real: Vec<_> =
            directories.into_iter().filter_map(|directory| fs::canonicalize(directory).ok()).collect();
        real.sort();
        real.dedup();
        let entries = real.into_iter().filter_map(|directory| fs::read_dir(directory).ok()).flatten();
        let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.sort();
        paths.into_iter().filter_map(|path| Self::open(path).ok()).collect()
    }

    /// Another value for the same namespace.
    ///
    /// # Errors
    /// [`Error::Namespace`], when no more files may be open.
    pub fn try_clone(&self) -> Result<Self, Error> {
        let file = self.file.try_clone().map_err(|error| self.refused(errno_of(&error)))?;
        Ok(Self { file, path: self.path.clone() })
    }

    /// The path that it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether two values stand for one namespace.
    ///
    /// # Errors
    /// [`Error::Namespace`].
    pub fn same_as(&self, other: &Self) -> Result<bool, Error> {
        Ok(self.identity()? == other.identity()?)
    }

    /// Device and inode number, which tell namespaces apart (`namespaces(7)`); the number of one that is gone may be
    /// given to another.
    ///
    /// # Errors
    /// [`Error::Namespace`].
    pub fn identity(&self) -> Result<(u64, u64), Error> {
        let metadata = self.file.metadata().map_err(|error| self.refused(errno_of(&error)))?;
        Ok((metadata.dev(), metadata.ino()))
    }

    /// Runs something with the calling thread inside the namespace; sockets that it opens there, and hands out, stay
    /// there.
    ///
    /// The thread is back in its own namespace when this returns, also by a panic. Should the kernel refuse to take
    /// it back, the process is **aborted**, with a message: a thread that is in a foreign namespace unawares would
    /// configure the wrong one from then on.
    ///
    /// # Errors
    /// [`Error::Namespace`] if it cannot be entered; `inside` has then not run.
    pub fn enter<R>(&self, inside: impl FnOnce() -> R) -> Result<R, Error> {
        let here = File::open(CURRENT).map_err(|error| Error::Namespace {
            path: CURRENT.into(),
            problem: NamespaceProblem::Refused(errno_of(&error)),
        })?;
        self.enter_from(here.as_fd(), inside)
    }

    /// The same, by a thread of which it is known which namespace it is in: that is where it is afterwards.
    pub(super) fn enter_from<R>(&self, home: BorrowedFd<'_>, inside: impl FnOnce() -> R) -> Result<R, Error> {
        setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(|errno| self.refused(errno.into()))?;
        let _way_back = WayBack(home);
        Ok(inside())
    }

    /// Starts a program inside the namespace. It is killed when the calling thread ends, however that comes about: nobody
    /// is left who would have to end it (`PR_SET_PDEATHSIG`).
    ///
    /// # Errors
    /// [`Error::Namespace`] if it cannot be entered; within, why the program does not start.
    pub fn spawn(&self, command: &mut Command) -> Result<io::Result<Child>, Error> {
        sys::end_with_parent(command);
        self.enter(|| command.spawn())
    }

    fn refused(&self, errno: Errno) -> Error {
        Error::Namespace { path: self.path.clone(), problem: NamespaceProblem::Refused(errno) }
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Brings a thread back into the namespace that it came from.
struct WayBack<'a>(BorrowedFd<'a>);

impl Drop for WayBack<'_> {
    fn drop(&mut self) {
        if let Err(errno) = setns(self.0, CloneFlags::CLONE_NEWNET) {
            eprintln!("cannot return to the network namespace that this thread came from: {errno}; aborting");
            std::process::abort();
        }
    }
}

/// Runs something on a thread of its own, in a new namespace, and ends the thread.
fn in_new_namespace(
    path: &Path,
    inside: impl FnOnce() -> Result<Namespace, Error> + Send,
) -> Result<Namespace, Error> {
    let refused =
        |errno| Error::Namespace { path: path.to_owned(), problem: NamespaceProblem::Refused(errno) };
    thread::scope(|scope| {
        let made = thread::Builder::new().name("new-netns".to_owned()).spawn_scoped(scope, || {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| refused(errno.into()))?;
            inside()
        });
        let thread = made.map_err(|error| refused(errno_of(&error)))?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The error number of a failed system call.
pub(super) fn errno_of(error: &io::Error) -> Errno {
    Errno::new(error.raw_os_error().unwrap_or(libc::EIO))
}
