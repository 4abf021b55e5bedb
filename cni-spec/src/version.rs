//! The versions of the specification and what a plugin answers to `VERSION`.

use std::{error, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A version of the CNI specification.
///
/// The list is closed: a configuration that asks for anything else is refused with
/// [`ErrorCode::INCOMPATIBLE_VERSION`](crate::ErrorCode::INCOMPATIBLE_VERSION). Later versions compare greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(non_camel_case_types, reason = "V0_3_1 is read at once, V031 is not")]
pub enum SpecVersion {
    /// 0.1.0, the first release; also what a configuration without `cniVersion` means.
    V0_1_0,
    /// 0.2.0 adds the `VERSION` command.
    V0_2_0,
    /// 0.3.0 adds plugin chains and results with several interfaces and addresses.
    V0_3_0,
    /// 0.3.1 is 0.3.0 with a corrected text.
    V0_3_1,
    /// 0.4.0 adds `CHECK` and gives `prevResult` to `DEL`.
    V0_4_0,
    /// 1.0.0 drops configurations outside of lists and `version` in a result's addresses.
    V1_0_0,
    /// 1.1.0 adds `GC`, `STATUS`, `cniVersions` and more fields in results.
    V1_1_0,
}

impl SpecVersion {
    /// Every version, oldest first.
    pub const ALL: &'static [Self] =
        &[Self::V0_1_0, Self::V0_2_0, Self::V0_3_0, Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];

    /// The newest version that this crate speaks.
    pub const LATEST: Self = Self::V1_1_0;

    /// The version as it is written in JSON, for example `"1.1.0"`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V0_1_0 => "0.1.0",
            Self::V0_2_0 => "0.2.0",
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// Whether this version knows a command: `CHECK` came with 0.4.0, `GC` and `STATUS` with 1.1.0.
    pub const fn knows(self, command: Command) -> bool {
        self as u8 >= command.since() as u8
    }
}

/// What a runtime asks of a plugin (`CNI_COMMAND`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Attach a container to a network.
    Add,
    /// Detach it again, as often as asked, whatever is still there.
    Del,
    /// Compare an attachment with what `ADD` made.
    Check,
    /// Remove what belongs to none of the attachments that are still valid.
    Gc,
    /// Say whether an `ADD` could succeed now.
    Status,
    /// Say which versions of the specification the plugin speaks.
    Version,
}

impl Command {
    /// Every command.
    pub const ALL: &'static [Self] =
        &[Self::Add, Self::Del, Self::Check, Self::Gc, Self::Status, Self::Version];

    /// The value of `CNI_COMMAND`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }

    /// The first version of the specification with this command.
    ///
    /// `VERSION` counts as known to 0.1.0: it takes no configuration that could forbid it.
    pub const fn since(self) -> SpecVersion {
        match self {
            Self::Add | Self::Del | Self::Version => SpecVersion::V0_1_0,
            Self::Check => SpecVersion::V0_4_0,
            Self::Gc | Self::Status => SpecVersion::V1_1_0,
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text is not one of the commands in [`Command::ALL`]. Holds the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownCommand(pub String);

impl fmt::Display for UnknownCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown command {:?}", self.0)
    }
}

impl error::Error for UnknownCommand {}

impl FromStr for Command {
    type Err = UnknownCommand;

    fn from_str(text: &str) -> Result<Self, UnknownCommand> {
        let found = Self::ALL.iter().find(|command| command.as_str() == text);
        found.copied().ok_or_else(|| UnknownCommand(text.to_owned()))
    }
}

/// A text is not one of the versions in [`SpecVersion::ALL`]. Holds the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownVersion(pub String);

impl fmt::Display for UnknownVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a known CNI version", self.0)
    }
}

impl error::Error for UnknownVersion {}

impl FromStr for SpecVersion {
    type Err = UnknownVersion;

    fn from_str(text: &str) -> Result<Self, UnknownVersion> {
        let found = Self::ALL.iter().find(|version| version.as_str() == text);
        found.copied().ok_or_else(|| UnknownVersion(text.to_owned()))
    }
}

impl AsRef<str> for SpecVersion {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for SpecVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for SpecVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for SpecVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The answer to `VERSION`: which versions a plugin speaks.
///
/// The versions are texts, because a plugin may speak versions that this crate does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionResult {
    /// The version of the answer itself.
    #[serde(default)]
    pub cni_version: String,
    /// Every version that the plugin accepts in a configuration.
    ///
    /// Empty when the key is missing: plugins from before 0.2.0 had no such answer, and speak 0.1.0 only.
    #[serde(default)]
    pub supported_versions: Vec<String>,
}

impl VersionResult {
    /// The answer of a plugin that speaks `supported`, in the version `cni_version`.
    pub fn new(cni_version: SpecVersion, supported: &[SpecVersion]) -> Self {
        let texts = supported.iter().map(ToString::to_string).collect();
        Self { cni_version: cni_version.to_string(), supported_versions: texts }
    }

    /// Whether the plugin that gave this answer accepts `version`.
    pub fn supports(&self, version: SpecVersion) -> bool {
        match self.supported_versions.as_slice() {
            [] => version == SpecVersion::V0_1_0,
            some => some.iter().any(|text| text == version.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_and_round_trip_through_text() {
        assert!(SpecVersion::ALL.is_sorted());
        for version in SpecVersion::ALL {
            assert_eq!(version.to_string().parse(), Ok(*version));
        }
        for bad in ["", "1.0", "v1.0.0", "1.2.0", "1.0.0 ", "0.4.0-rc1"] {
            assert!(bad.parse::<SpecVersion>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn commands_are_known_from_the_version_that_brought_them() {
        assert!(!SpecVersion::V0_3_1.knows(Command::Check));
        assert!(SpecVersion::V0_4_0.knows(Command::Check));
        assert!(!SpecVersion::V1_0_0.knows(Command::Gc));
        assert!(SpecVersion::V1_1_0.knows(Command::Status));
        assert!(SpecVersion::V0_1_0.knows(Command::Version));
    }

    #[test]
    fn an_answer_without_supported_versions_means_the_first_version() {
        let old: VersionResult = serde_json::from_str("{}").unwrap();
        assert!(old.supports(SpecVersion::V0_1_0));
        assert!(!old.supports(SpecVersion::V0_2_0));
    }

    #[test]
    fn a_plugin_may_speak_versions_from_the_future() {
        let answer: VersionResult =
            serde_json::from_str(r#"{"cniVersion":"9.0.0","supportedVersions":["1.1.0","9.0.0"]}"#).unwrap();
        assert!(answer.supports(SpecVersion::V1_1_0));
        assert!(!answer.supports(SpecVersion::V1_0_0));
    }
}
