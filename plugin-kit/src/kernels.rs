//! Where a plugin's kernel comes from: the real one, or one in memory for tests.

use std::path::Path;

use netops::{Error, Kernel, LinuxKernel, Namespace};

/// What an opened kernel will be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Purpose {
    /// To make and to look.
    Attach,
    /// To remove, by a caller that is waited for: it may return as soon as nobody can see what was removed.
    Detach,
}

/// Opens kernels.
pub trait Kernels: Send + Sync {
    /// The kernel as seen from this namespace and a container's.
    ///
    /// # Errors
    /// [`Error::Namespace`] if the container's cannot be used.
    fn open(&self, container: Option<&Path>, purpose: Purpose) -> Result<Box<dyn Kernel + '_>, Error>;
}

/// The kernel that this program runs on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Linux;

impl Kernels for Linux {
    fn open(&self, container: Option<&Path>, purpose: Purpose) -> Result<Box<dyn Kernel + '_>, Error> {
        let container = container.map(Namespace::open).transpose()?;
        let kernel = LinuxKernel::new(container);
        Ok(Box::new(match purpose {
            Purpose::Attach => kernel,
            Purpose::Detach => kernel.with_detached_removals(),
        }))
    }
}
