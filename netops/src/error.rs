//! What can go wrong, with the operation, the object and the kernel's own word in it.

use std::fmt;
use std::path::PathBuf;

use crate::name::Invalid;
use crate::place::Place;

/// An error number of the kernel (`errno.h`).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(i32);

impl Errno {
    /// Operation not permitted.
    pub const EPERM: Self = Self(libc::EPERM);
    /// No such file, table, chain or element.
    pub const ENOENT: Self = Self(libc::ENOENT);
    /// No such route.
    pub const ESRCH: Self = Self(libc::ESRCH);
    /// Already there.
    pub const EEXIST: Self = Self(libc::EEXIST);
    /// No such device or address.
    pub const ENXIO: Self = Self(libc::ENXIO);
    /// No such interface.
    pub const ENODEV: Self = Self(libc::ENODEV);
    /// Refused value.
    pub const EINVAL: Self = Self(libc::EINVAL);
    /// In use.
    pub const EBUSY: Self = Self(libc::EBUSY);
    /// No memory.
    pub const ENOMEM: Self = Self(libc::ENOMEM);
    /// No memory in a socket's buffer.
    pub const ENOBUFS: Self = Self(libc::ENOBUFS);
    /// An address that another has.
    pub const EADDRINUSE: Self = Self(libc::EADDRINUSE);
    /// This kernel cannot do it.
    pub const EOPNOTSUPP: Self = Self(libc::EOPNOTSUPP);
    /// The interface is down.
    pub const ENETDOWN: Self = Self(libc::ENETDOWN);
    /// No way to a gateway.
    pub const ENETUNREACH: Self = Self(libc::ENETUNREACH);
    /// No route to a host.
    pub const EHOSTUNREACH: Self = Self(libc::EHOSTUNREACH);
    /// No such address.
    pub const EADDRNOTAVAIL: Self = Self(libc::EADDRNOTAVAIL);
    /// The two ends of a veth are not joined yet.
    pub const ENOTCONN: Self = Self(libc::ENOTCONN);

    /// From the kernel's number, positive.
    pub const fn new(number: i32) -> Self {
        Self(number)
    }

    /// The kernel's number, positive.
    pub const fn number(self) -> i32 {
        self.0
    }
}

/// As `File exists (EEXIST)`; the same text whatever C library is in use.
impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = nix::errno::Errno::from_raw(self.0);
        match known {
            nix::errno::Errno::UnknownErrno => write!(f, "error {}", self.0),
            _ => write!(f, "{} ({known:?})", known.desc()),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<nix::errno::Errno> for Errno {
    fn from(errno: nix::errno::Errno) -> Self {
        Self(errno as i32)
    }
}

/// What was being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// Making or setting something.
    Create,
    /// Removing something.
    Remove,
    /// Looking something up.
    Read,
    /// Entering, opening or making a namespace; opening a socket.
    Open,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Remove => "remove",
            Self::Read => "read",
            Self::Open => "open",
        })
    }
}

/// A failure of a kernel operation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The kernel refused.
    Refused {
        /// What was being done.
        operation: Operation,
        /// To what, as [`crate::Resource`]'s `Display` has it.
        object: String,
        /// Where.
        place: Place,
        /// Why.
        errno: Errno,
        /// The kernel's own explanation (extended ack), where it gave one.
        detail: Option<String>,
    },
    /// Something of that name is there, and it is not what is wanted.
    Conflict {
        /// What is wanted.
        object: String,
        /// Where.
        place: Place,
        /// What is there instead.
        found: String,
    },
    /// A network namespace cannot be used.
    Namespace {
        /// Its path.
        path: PathBuf,
        /// What is wrong with it.
        problem: NamespaceProblem,
    },
    /// A step needs the container's namespace, and none was given.
    NoContainer,
    /// The kernel's answer makes no sense.
    Garbled {
        /// What was being done.
        operation: Operation,
        /// What was wrong with the answer.
        reason: String,
    },
    /// The kernel did not answer in time.
    TimedOut {
        /// What was being done.
        operation: Operation,
        /// To what.
        object: String,
    },
    /// A value that cannot be.
    Invalid(Invalid),
}

/// What is wrong with a namespace's path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NamespaceProblem {
    /// Nothing is there (any more).
    Gone,
    /// It is something else: a plain file that an unmount left, a directory, another kind of namespace.
    NotANamespace,
    /// The kernel refused.
    Refused(Errno),
}

impl Error {
    /// The kernel's error number, if the kernel said no.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { errno, .. }
            | Self::Namespace { problem: NamespaceProblem::Refused(errno), .. } => Some(*errno),
            _ => None,
        }
    }

    /// What a person can do about it, where that is known.
    pub fn advice(&self) -> Option<&'static str> {
        Some(match (self, self.errno()?) {
            (_, Errno::EPERM) => "run as root, or with CAP_NET_ADMIN and CAP_SYS_ADMIN",
            (_, Errno::EOPNOTSUPP) => "this kernel lacks the feature: load or build its module",
            (Self::Refused { operation: Operation::Create, .. }, Errno::ENOBUFS) => {
                "the kernel is short of memory; try again"
            }
            _ => return None,
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { operation, object, place, errno, detail } => {
                write!(f, "{operation} {object} in the {place}'s namespace: {errno}")?;
                if let Some(detail) = detail {
                    write!(f, ": {detail}")?;
                }
                if let Some(advice) = self.advice() {
                    write!(f, "; {advice}")?;
                }
                Ok(())
            }
            Self::Conflict { object, place, found } => {
                write!(f, "create {object} in the {place}'s namespace: {found} is there already")
            }
            Self::Namespace { path, problem } => {
                write!(f, "open network namespace {}: ", path.display())?;
                match problem {
                    NamespaceProblem::Gone => f.write_str("it does not exist"),
                    NamespaceProblem::NotANamespace => f.write_str("it is not a network namespace"),
                    NamespaceProblem::Refused(errno) => write!(f, "{errno}"),
                }
            }
            Self::NoContainer => f.write_str("the container's network namespace is needed and was not given"),
            Self::Garbled { operation, reason } => {
                write!(f, "{operation}: garbled answer of the kernel: {reason}")
            }
            Self::TimedOut { operation, object } => {
                write!(f, "{operation} {object}: the kernel did not answer in time")
            }
            Self::Invalid(invalid) => invalid.fmt(f),
        }
    }
}

impl std::error::Error for Error {}

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}
