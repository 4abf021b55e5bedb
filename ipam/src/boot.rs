use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::str::FromStr;

/// Which boot of the machine this is: the kernel's random name for the time between two reboots.
///
/// A network namespace never survives a reboot, so a lease that is known to be from another boot is nobody's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BootId(String);

impl BootId {
    /// Reads `/proc/sys/kernel/random/boot_id`.
    ///
    /// # Errors
    ///
    /// If procfs is not mounted, or holds something else there.
    pub fn current() -> io::Result<Self> {
        const PATH: &str = "/proc/sys/kernel/random/boot_id";
        let mut text = [0; 64];
        // procfs gives all of it at once.
        let length = File::open(PATH)?.read(&mut text)?;
        let text = String::from_utf8_lossy(text.get(..length).unwrap_or_default());
        text.trim_end()
            .parse()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("{PATH}: {error}")))
    }

    /// The text, fit to be part of a file name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BootId {
    type Err = BootIdError;

    fn from_str(text: &str) -> Result<Self, BootIdError> {
        let fits = (1..=64).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if fits { Ok(Self(text.into())) } else { Err(BootIdError { text: text.chars().take(80).collect() }) }
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no [`BootId`]: 1 to 64 letters, digits and `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootIdError {
    text: String,
}

impl fmt::Display for BootIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a boot ID: 1 to 64 letters, digits, '-'", self.text)
    }
}

impl std::error::Error for BootIdError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_boot_has_a_name() {
        assert_eq!(BootId::current().unwrap(), BootId::current().unwrap());
        assert_eq!(BootId::current().unwrap().as_str().len(), 36);
    }

    #[test]
    fn what_cannot_be_part_of_a_file_name_is_no_boot_id() {
        for text in ["", "a/b", "..", "a_b", "a\n", &"a".repeat(65)] {
            assert!(text.parse::<BootId>().is_err(), "{text:?}");
        }
    }
}
