//! Which CNI error code a failure has. Every failure has exactly one:
//!
//! | code | what it means |
//! | --- | --- |
//! | 1–7 | the specification's; see [`cni_spec::ErrorCode`] |
//! | 8 | the container's network namespace is not there, or is something else |
//! | 11 | the kernel is short of memory or every address is taken: try again later |
//! | 50 | `STATUS`: the plugin cannot serve an `ADD` now |
//! | 100 | the kernel refused an operation |
//! | 101 | something else has the name or the address |
//! | 102 | `CHECK`: the kernel is not as it was left |

use cni_spec::{Error, ErrorCode};
use netops::Errno;

/// The kernel refused an operation.
pub const KERNEL_REFUSED: ErrorCode = ErrorCode::new(100);
/// Something else has the name or the address.
pub const CONFLICT: ErrorCode = ErrorCode::new(101);
/// The kernel is not as it was left.
pub const DIFFERS: ErrorCode = ErrorCode::new(102);

/// A kernel operation's failure as an error of the specification.
pub fn kernel_error(error: &netops::Error) -> Error {
    let code = match error {
        netops::Error::Namespace { .. } | netops::Error::NoContainer => ErrorCode::INVALID_NETNS,
        netops::Error::Conflict { .. } => CONFLICT,
        netops::Error::Invalid(_) => ErrorCode::INVALID_CONFIG,
        netops::Error::TimedOut { .. } => ErrorCode::TRY_AGAIN_LATER,
        _ => match error.errno() {
            Some(Errno::EEXIST) => CONFLICT,
            Some(Errno::ENOBUFS | Errno::ENOMEM) => ErrorCode::TRY_AGAIN_LATER,
            _ => KERNEL_REFUSED,
        },
    };
    Error::new(code, error.to_string())
}

/// Several failures as one error: the first's code and text, and all of them in the details.
pub(crate) fn join(errors: Vec<Error>) -> Result<(), Error> {
    let mut errors = errors.into_iter();
    let Some(first) = errors.next() else { return Ok(()) };
    Err(errors.fold(first, |error, more| error.and_details(more.to_string())))
}
