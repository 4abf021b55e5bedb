//! Words in a picture.

/// A text as XML has it. Control characters have no place in it at all (XML 1.0, 2.2).
pub(super) fn escape(text: &str) -> String {
    let escaped = text.chars().map(|c| match c {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '"' => "&quot;".to_owned(),
        c if c.is_control() || c == '\u{fffe}' || c == '\u{ffff}' => "\u{fffd}".to_owned(),
        c => c.to_string(),
    });
    escaped.collect()
}

/// A text in at most so many characters.
pub(super) fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_words_are_cut() {
        assert_eq!(cut("default/web-1", 13), "default/web-1");
        assert_eq!(cut("default/web-1", 8), "default…");
        assert_eq!(cut("ab", 0), "…");
    }
}
