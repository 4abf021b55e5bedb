//! Quoting for a POSIX shell.

use std::borrow::Cow;

/// A word as a shell takes it literally: itself where nothing in it means anything to a shell, else in single quotes.
pub(super) fn quote(word: &str) -> Cow<'_, str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-./:=@%+,".contains(&b);
    // A first word with `=` would be an assignment; here every first word is a program's name.
    if !word.is_empty() && word.bytes().all(plain) {
        Cow::Borrowed(word)
    } else {
        Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_means_something_to_a_shell_is_quoted() {
        for plain in ["ip", "10.22.0.0/16", "fd00::1", "net.ipv4.ip_forward=1", "+", "--net=/run/netns/a"] {
            assert_eq!(quote(plain), plain);
        }
        assert_eq!(quote(""), "''");
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("$(reboot)"), "'$(reboot)'");
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote("{ 10.0.0.1 }"), "'{ 10.0.0.1 }'");
        assert_eq!(quote("~"), "'~'");
        assert_eq!(quote("a*"), "'a*'");
    }
}
