//! The names that the protocol passes around, as types that cannot hold a bad one.
//!
//! Container IDs, network names and plugin types become file names (leases, caches, executables) and interface names
//! become kernel objects, so a name that was not checked is a path traversal or a truncated lookup waiting to happen.

use std::{error, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest [`ContainerId`] and [`NetworkName`], in bytes.
///
/// Both become single file names on every node that stores a lease or a cached result, and `NAME_MAX` is 255.
pub const MAX_NAME_LEN: usize = 255;

/// The longest [`IfName`], in bytes: the kernel's `IFNAMSIZ` (16, `linux/if.h`) without the final NUL.
pub const MAX_IF_NAME_LEN: usize = 15;

/// A container's identifier, chosen by the runtime (`CNI_CONTAINERID`).
///
/// Starts with a letter or digit; letters, digits, `_`, `.` and `-` follow (CNI specification, section 2,
/// "Parameters"). At most [`MAX_NAME_LEN`] bytes, which is our own limit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(String);

/// A network's name, unique on its node (`name` in a configuration).
///
/// The same alphabet as a [`ContainerId`] (CNI specification, section 1).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkName(String);

/// The name of an interface inside the container (`CNI_IFNAME`), as the kernel accepts it.
///
/// Not empty, at most [`MAX_IF_NAME_LEN`] bytes, not `.` or `..`, without `/`, `:` and white space (CNI specification,
/// section 2, and `dev_valid_name` in the kernel, which takes byte 0xa0 for white space too), and without `%`, which
/// the kernel would take for a pattern: a link asked for as `eth%d` comes out under another name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IfName(String);

/// The `type` of a plugin, which is the name of its executable.
///
/// Looked up in the directories of `CNI_PATH`, so it must be one plain path component: not empty, not `.` or `..`,
/// without `/`, `\` and NUL. At most [`MAX_NAME_LEN`] bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PluginType(String);

/// Why a text is not a [`ContainerId`], [`NetworkName`], [`IfName`] or [`PluginType`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameError {
    /// The name is empty.
    Empty,
    /// The name is longer than the limit, in bytes.
    TooLong {
        /// The most bytes such a name may have.
        limit: usize,
    },
    /// The first character is not an ASCII letter or digit.
    BadStart(char),
    /// A character that such a name may not contain.
    BadCharacter(char),
    /// The name is `.` or `..`, which mean directories.
    Dots,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the name is empty"),
            Self::TooLong { limit } => write!(f, "the name is longer than {limit} bytes"),
            Self::BadStart(c) => write!(f, "the name starts with {c:?} instead of an ASCII letter or digit"),
            Self::BadCharacter(c) => write!(f, "the name contains {c:?}, which is not allowed"),
            Self::Dots => f.write_str("the name is \".\" or \"..\""),
        }
    }
}

impl error::Error for NameError {}

macro_rules! name {
    ($name:ident, $check:path) => {
        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                $check(text)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<&str> for $name {
            type Error = NameError;

            fn try_from(text: &str) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                $check(&text)?;
                Ok(Self(text))
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.0 == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.0 == *other
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::try_from(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }
    };
}

name!(ContainerId, check_identifier);
name!(NetworkName, check_identifier);
name!(IfName, check_if_name);
name!(PluginType, check_plugin_type);

fn check_len(text: &str, limit: usize) -> Result<(), NameError> {
    match text.len() {
        0 => Err(NameError::Empty),
        len if len > limit => Err(NameError::TooLong { limit }),
        _ => Ok(()),
    }
}

fn check_identifier(text: &str) -> Result<(), NameError> {
    check_len(text, MAX_NAME_LEN)?;
    let bad_start = |c: &char| !c.is_ascii_alphanumeric();
    if let Some(c) = text.chars().next().filter(bad_start) {
        return Err(NameError::BadStart(c));
    }
    let bad = |c: &char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
    text.chars().find(bad).map_or(Ok(()), |c| Err(NameError::BadCharacter(c)))
}

fn check_if_name(text: &str) -> Result<(), NameError> {
    check_len(text, MAX_IF_NAME_LEN)?;
    check_dots(text)?;
    let bad = |c: &char| {
        matches!(c, '/' | ':' | '%' | '\0')
            || c.is_whitespace()
            || c.encode_utf8(&mut [0; 4]).bytes().any(|b| b == 0xa0)
    };
    text.chars().find(bad).map_or(Ok(()), |c| Err(NameError::BadCharacter(c)))
}

fn check_plugin_type(text: &str) -> Result<(), NameError> {
    check_len(text, MAX_NAME_LEN)?;
    check_dots(text)?;
    let bad = |c: &char| matches!(c, '/' | '\\' | '\0');
    text.chars().find(bad).map_or(Ok(()), |c| Err(NameError::BadCharacter(c)))
}

fn check_dots(text: &str) -> Result<(), NameError> {
    if matches!(text, "." | "..") { Err(NameError::Dots) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_of_real_runtimes_are_accepted() {
        for good in ["default-t2", "cnitool-7f77a1e0", "2e6ef60f67cb8354", "a", "A_.-", "0"] {
            assert_eq!(good.parse::<ContainerId>().unwrap(), good);
            assert_eq!(good.parse::<NetworkName>().unwrap(), good);
        }
        assert!("x".repeat(MAX_NAME_LEN).parse::<ContainerId>().is_ok());
    }

    #[test]
    fn identifiers_that_could_leave_their_directory_are_refused() {
        let cases: [(&str, NameError); 8] = [
            ("", NameError::Empty),
            ("..", NameError::BadStart('.')),
            ("../etc", NameError::BadStart('.')),
            ("a/b", NameError::BadCharacter('/')),
            ("a\0", NameError::BadCharacter('\0')),
            ("-rf", NameError::BadStart('-')),
            ("né", NameError::BadCharacter('é')),
            ("a b", NameError::BadCharacter(' ')),
        ];
        for (bad, why) in cases {
            assert_eq!(bad.parse::<ContainerId>(), Err(why.clone()), "{bad:?}");
            assert_eq!(bad.parse::<NetworkName>(), Err(why), "{bad:?}");
        }
        let long = "x".repeat(MAX_NAME_LEN + 1);
        assert_eq!(long.parse::<ContainerId>(), Err(NameError::TooLong { limit: 255 }));
    }

    #[test]
    fn interface_names_follow_the_kernel() {
        for good in ["eth0", "lo", "a.b", "...", "fifteen-bytes-1", "ü", "net1@x"] {
            assert!(good.parse::<IfName>().is_ok(), "{good:?}");
        }
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "a:b",
            "a b",
            "a\tb",
            "a\u{2003}b",
            "sixteen-bytes-12",
            "eth%d",
            "à",
            "a\0",
        ] {
            assert!(bad.parse::<IfName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_plugin_type_is_one_path_component() {
        for good in ["bridge", "host-local", "my plugin", "..."] {
            assert!(good.parse::<PluginType>().is_ok(), "{good:?}");
        }
        for bad in ["", ".", "..", "../bridge", "/bin/sh", "a\\b", "a\0b"] {
            assert!(bad.parse::<PluginType>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_travel_through_json_as_plain_strings() {
        let name: IfName = serde_json::from_str("\"eth0\"").unwrap();
        assert_eq!(serde_json::to_string(&name).unwrap(), "\"eth0\"");
        assert!(serde_json::from_str::<IfName>("\"a/b\"").is_err());
        assert_eq!(format!("{name:>6}|"), "  eth0|");
    }
}
