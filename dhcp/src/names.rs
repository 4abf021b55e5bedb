//! Domain names in answers: texts that end up in a `resolv.conf`, so that nothing else may be in them.

/// A name's greatest length (RFC 1035, 2.3.4).
const MAX_NAME: usize = 253;

/// A name without what may stand behind it; `None` if it is more than a name, or none.
pub(crate) fn harmless(text: &str) -> Option<String> {
    let text = text.trim_end_matches('\0').trim_end_matches('.');
    is_harmless(text).then(|| text.to_owned())
}

/// Whether it may be written into a file that a resolver reads.
fn is_harmless(name: &str) -> bool {
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(harmless)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_mean_something_in_a_file_is_left_out() {
        for text in ["a b", "a\nnameserver", "a\\.b", "", ".", "\u{e9}.example"] {
            assert_eq!(harmless(text), None);
        }
        assert_eq!(harmless("example.com.\0").as_deref(), Some("example.com"));
        assert_eq!(harmless(&"a".repeat(254)), None);
    }
}
