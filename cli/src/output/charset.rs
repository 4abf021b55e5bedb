//! The characters that a terminal has for pictures.

/// The characters that pictures are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Charset {
    /// Box-drawing characters, U+2500 and on.
    Boxes,
    /// What every terminal has.
    Ascii,
}

impl Charset {
    /// The one that goes with a locale, by the variables that name it in the order of their weight (POSIX, 8.2).
    pub(crate) fn of_locale(variable: impl Fn(&str) -> Option<String>) -> Self {
        let named = |name: &&str| variable(name).filter(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(named).unwrap_or_default();
        let locale = locale.to_ascii_lowercase();
        if locale.contains("utf-8") || locale.contains("utf8") { Self::Boxes } else { Self::Ascii }
    }

    /// ASCII if that is asked for, else by the process's locale.
    pub(crate) fn of_process(ascii: bool) -> Self {
        if ascii { Self::Ascii } else { Self::of_locale(|name| std::env::var(name).ok()) }
    }

    /// A short time, given in microseconds.
    pub(crate) fn time(self, microseconds: u64) -> String {
        if microseconds < 10_000 {
            format!("{microseconds} {}", self.microseconds())
        } else {
            format!("{:.1} ms", microseconds as f64 / 1000.0)
        }
    }

    /// The sign for microseconds.
    const fn microseconds(self) -> &'static str {
        if matches!(self, Self::Boxes) { "µs" } else { "us" }
    }

    /// What stands for one in a plain picture.
    pub(crate) const fn draw(self, plain: char) -> char {
        match (self, plain) {
            (Self::Ascii, '┌' | '┐' | '└' | '┘' | '┬' | '┴' | '┼') => '+',
            (Self::Ascii, '─') => '-',
            (Self::Ascii, '│') => '|',
            (Self::Ascii, '┤') => '[',
            (Self::Ascii, '├') => ']',
            (Self::Ascii, '→') => '>',
            (Self::Ascii, '·') => '.',
            (_, other) => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locale_says_whether_boxes_can_be_drawn() {
        let charset = |set: &[(&str, &str)]| {
            Charset::of_locale(|name| {
                set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(charset(&[("LANG", "de_DE.UTF-8")]), Charset::Boxes);
        assert_eq!(charset(&[("LANG", "C.utf8")]), Charset::Boxes);
        assert_eq!(charset(&[("LANG", "de_DE.UTF-8"), ("LC_ALL", "C")]), Charset::Ascii);
        assert_eq!(charset(&[("LANG", "de_DE"), ("LC_CTYPE", "C.UTF-8"), ("LC_ALL", "")]), Charset::Boxes);
        assert_eq!(charset(&[]), Charset::Ascii);
    }
}
