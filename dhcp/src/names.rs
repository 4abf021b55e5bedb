//! Domain names in answers: texts that end up in a `resolv.conf`, so that nothing else may be in them.

/// A name's greatest length (RFC 1035, 2.3.4).
const MAX_NAME: usize = 253;

/// Names on the wire (RFC 1035, 3.1), one after the other, as far as they make sense. With `compressed`, a name may end
/// in a pointer to what stood before (RFC 3397).
pub(crate) fn read(bytes: &[u8], compressed: bool) -> Vec<String> {
    let mut names = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let Some((name, end)) = read_one(bytes, at, compressed) else { break };
        if is_harmless(&name) {
            names.push(name);
        }
        at = end;
    }
    names
}

/// A name that stands there as text.
pub(crate) fn from_text(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?.trim_end_matches('\0').trim_end_matches('.');
    is_harmless(text).then(|| text.to_owned())
}

fn read_one(bytes: &[u8], start: usize, compressed: bool) -> Option<(String, usize)> {
    let mut name = String::new();
    let (mut at, mut end) = (start, None);
    loop {
        let length = usize::from(*bytes.get(at)?);
        match length >> 6 {
            0 if length == 0 => return Some((name, end.unwrap_or(at + 1))),
            0 => {
                let label = bytes.get(at + 1..at + 1 + length)?;
                if !name.is_empty() {
                    name.push('.');
                }
                // What is not ASCII is found out as harmful later.
                name.extend(label.iter().copied().map(char::from));
                at += 1 + length;
            }
            3 if compressed => {
                let target = (length & 0x3f) << 8 | usize::from(*bytes.get(at + 1)?);
                // Only backwards: so it comes to an end.
                if target >= at {
                    return None;
                }
                end = end.or(Some(at + 2));
                at = target;
            }
            _ => return None,
        }
        if name.len() > MAX_NAME {
            return None;
        }
    }
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
    fn names_are_read_with_and_without_pointers() {
        let bytes = b"\x03eng\x07example\x03com\x00\x05sales\xc0\x04\xc0\x00";
        assert_eq!(read(bytes, true), ["eng.example.com", "sales.example.com", "eng.example.com"]);
        assert_eq!(read(bytes, false), ["eng.example.com"]);
    }

    #[test]
    fn a_pointer_in_a_circle_is_the_end() {
        assert_eq!(read(b"\x01a\x00\xc0\x03", true), ["a"]);
        assert_eq!(read(b"\xc0\x00", true), [""; 0]);
        // Backwards every time, and still around: a name that grows is given up.
        assert_eq!(read(b"\x01a\xc0\x00", true), [""; 0]);
    }

    #[test]
    fn what_could_mean_something_in_a_file_is_left_out() {
        assert_eq!(read(b"\x0aa\nnameserv\x00\x01b\x00", false), ["b"]);
        assert_eq!(from_text(b"a b"), None);
        assert_eq!(from_text(b"example.com.\0").as_deref(), Some("example.com"));
    }
}
