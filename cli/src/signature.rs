//! How `cnikit install` recognises what `cnikit install` has put somewhere.

/// Bytes that are in the executable `cnikit-plugins`, of every version, and in no other.
pub(crate) const SIGNATURE: [u8; 72] =
    *b"cnikit-plugins: this file is every plugin of cnikit, each under its name";
