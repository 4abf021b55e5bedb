//! The error object that a plugin prints and a runtime reads.

use std::{error, fmt};

use serde::{Deserialize, Serialize};

use crate::{NameError, SpecVersion, json};

/// What a plugin answers when a command failed (CNI specification, section 2, "Error").
///
/// It is printed on stdout as `{"cniVersion", "code", "msg", "details"}`. `msg` says in a few words what failed;
/// `details` is for the person who repairs it.
///
/// ```
/// use cni_spec::{Error, ErrorCode};
///
/// let error = Error::new(ErrorCode::INVALID_CONFIG, "mtu: 70000 is out of range")
///     .with_details("the largest MTU of a veth is 65535");
/// assert_eq!(error.code(), ErrorCode::INVALID_CONFIG);
/// assert_eq!(error.to_string(), "mtu: 70000 is out of range (code 7): the largest MTU of a veth is 65535");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Error {
    /// As text, so that a request in a version nobody knows can be answered in that version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cni_version: Option<String>,
    code: ErrorCode,
    #[serde(default)]
    msg: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    details: String,
}

impl Error {
    /// An error with a code and a message: a lower-case fragment that names the operation and its object.
    pub fn new(code: ErrorCode, msg: impl Into<String>) -> Self {
        Self { cni_version: None, code, msg: msg.into(), details: String::new() }
    }

    /// Code 4: a variable of the environment is missing or wrong.
    pub fn environment(msg: impl Into<String>) -> Self {
        Self::new(ErrorCode::INVALID_ENVIRONMENT, msg)
    }

    /// Code 5: reading or writing failed.
    pub fn io(msg: impl Into<String>) -> Self {
        Self::new(ErrorCode::IO_FAILURE, msg)
    }

    /// Code 6: something is not JSON, or not the JSON that the protocol demands.
    pub fn decoding(msg: impl Into<String>) -> Self {
        Self::new(ErrorCode::DECODING_FAILURE, msg)
    }

    /// Code 7: the network configuration is wrong.
    pub fn config(msg: impl Into<String>) -> Self {
        Self::new(ErrorCode::INVALID_CONFIG, msg)
    }

    /// Code 999: none of the other codes fits.
    pub fn internal(msg: impl Into<String>) -> Self {
        Self::new(ErrorCode::INTERNAL, msg)
    }

    /// Replaces the details.
    #[must_use]
    pub fn with_details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }

    /// Adds a line to the details.
    #[must_use]
    pub fn and_details(mut self, more: impl AsRef<str>) -> Self {
        if !self.details.is_empty() {
            self.details.push('\n');
        }
        self.details.push_str(more.as_ref());
        self
    }

    /// Puts words in front of the message, for example the step or the plugin that failed.
    #[must_use]
    pub fn context(mut self, what: impl fmt::Display) -> Self {
        self.msg = format!("{what}: {}", self.msg);
        self
    }

    /// Sets the version that the error answers in. The plugin half does this for every error that a plugin returns.
    #[must_use]
    pub fn with_version(mut self, version: impl AsRef<str>) -> Self {
        self.cni_version = Some(version.as_ref().to_owned());
        self
    }

    /// The kind of failure.
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// The message, without code and details.
    pub fn msg(&self) -> &str {
        &self.msg
    }

    /// The details; empty if there are none.
    pub fn details(&self) -> &str {
        &self.details
    }

    /// The version that the error answers in; `None` if it has none, or one that this crate does not know.
    pub fn version(&self) -> Option<SpecVersion> {
        self.cni_version.as_deref()?.parse().ok()
    }

    /// Reads the error object that a failed plugin printed; `None` if the bytes are anything else.
    pub fn from_json(bytes: &[u8]) -> Option<Self> {
        let document = json::parse_object(bytes).ok()?;
        json::from_object(&document, "").ok()
    }

    /// The error as the reference prints it: indented by four spaces, without a final newline.
    pub fn to_json(&self) -> String {
        json::to_pretty(self)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code {})", self.msg, self.code)?;
        if self.details.is_empty() { Ok(()) } else { write!(f, ": {}", self.details) }
    }
}

impl error::Error for Error {}

impl From<NameError> for Error {
    fn from(error: NameError) -> Self {
        Self::config(error.to_string())
    }
}

/// The code of an [`Error`].
///
/// 1 to 99 belong to the specification, which has defined the constants below; a plugin's own codes are 100 and
/// above. A reader must expect any number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ErrorCode(u32);

impl ErrorCode {
    /// 0: not in the specification; old plugins print it when they know nothing better.
    pub const UNKNOWN: Self = Self(0);
    /// 1: the plugin does not speak the configuration's `cniVersion`, or that version has no such command.
    pub const INCOMPATIBLE_VERSION: Self = Self(1);
    /// 2: a field of the configuration is not supported; the message names the field and its value.
    pub const UNSUPPORTED_FIELD: Self = Self(2);
    /// 3: the container is unknown or does not exist. A runtime need not clean up (no `DEL`) after it.
    pub const UNKNOWN_CONTAINER: Self = Self(3);
    /// 4: a necessary environment variable is missing or wrong; the message names it.
    pub const INVALID_ENVIRONMENT: Self = Self(4);
    /// 5: an input or output failed, for example reading the configuration from stdin.
    pub const IO_FAILURE: Self = Self(5);
    /// 6: content could not be decoded, for example the configuration or a version.
    pub const DECODING_FAILURE: Self = Self(6);
    /// 7: the network configuration failed a validation.
    pub const INVALID_CONFIG: Self = Self(7);
    /// 8: the network namespace cannot be used: it is the plugin's own. (The reference's, not in the specification.)
    pub const INVALID_NETNS: Self = Self(8);
    /// 11: a condition that will pass; the runtime should try again later.
    pub const TRY_AGAIN_LATER: Self = Self(11);
    /// 50: the plugin cannot serve `ADD` (an answer to `STATUS`).
    pub const PLUGIN_NOT_AVAILABLE: Self = Self(50);
    /// 51: the plugin cannot serve `ADD`, and existing containers may be cut off (an answer to `STATUS`).
    pub const LIMITED_CONNECTIVITY: Self = Self(51);
    /// 999: the reference's code for every error without one of its own.
    pub const INTERNAL: Self = Self(999);
    /// The first code that plugins may give meanings of their own.
    pub const FIRST_PLUGIN_CODE: Self = Self(100);

    /// The code with this number.
    pub const fn new(code: u32) -> Self {
        Self(code)
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_printed_as_the_reference_prints_it() {
        let bare = Error::environment("unknown CNI_COMMAND: FOO");
        assert_eq!(bare.to_json(), "{\n    \"code\": 4,\n    \"msg\": \"unknown CNI_COMMAND: FOO\"\n}");
        let full = Error::new(ErrorCode::new(123), "m").with_details("d").with_version("1.1.0");
        assert_eq!(
            full.to_json(),
            "{\n    \"cniVersion\": \"1.1.0\",\n    \"code\": 123,\n    \"msg\": \"m\",\n    \"details\": \"d\"\n}"
        );
        assert_eq!(Error::from_json(full.to_json().as_bytes()), Some(full));
    }

    #[test]
    fn only_an_object_with_a_code_is_an_error() {
        for garbage in
            ["", "{}", "panic: oops", r#"{"cniVersion":"1.0.0"}"#, r#"{"code":"7"}"#, "[1]", "null"]
        {
            assert_eq!(Error::from_json(garbage.as_bytes()), None, "{garbage}");
        }
        let loose = Error::from_json(br#"{"Code":7,"msg":null,"cniVersion":"9.9.9","more":1}"#).unwrap();
        assert_eq!((loose.code(), loose.msg(), loose.version()), (ErrorCode::INVALID_CONFIG, "", None));
    }

    #[test]
    fn context_and_details_accumulate() {
        let error = Error::io("no space").context("write lease").and_details("a").and_details("b");
        assert_eq!(error.to_string(), "write lease: no space (code 5): a\nb");
    }
}
