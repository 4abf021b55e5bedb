//! Kernel settings.

use std::fmt;

use crate::name::SysctlKey;

/// A kernel setting.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sysctl {
    /// Which.
    pub key: SysctlKey,
    /// The value as text, without a newline.
    pub value: String,
    /// That the kernel has no such setting is fine ([`crate::Created::Kept`]): IPv6's, where IPv6 is switched off. So is
    /// another value, later on: it is not compared.
    pub optional: bool,
}

impl Sysctl {
    /// A setting with a value, which the kernel must have.
    pub fn new(key: SysctlKey, value: impl fmt::Display) -> Self {
        Self { key, value: value.to_string(), optional: false }
    }

    /// A setting with a value, if the kernel has it.
    pub fn optional(key: SysctlKey, value: impl fmt::Display) -> Self {
        Self { optional: true, ..Self::new(key, value) }
    }
}
