//! Where in a JSON text an error is.

use serde::de::IgnoredAny;

use crate::Error;

/// A place in a text file. Both count from 1; columns count bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// Where `text` is not JSON, or else where the value is that `error` is about.
///
/// Our errors start with the path of the value (`plugins[1].ipam.type: …`). If it, or the end of it, is missing in
/// the text, the nearest value around it is meant.
pub(super) fn of(error: &Error, text: &[u8]) -> Option<Position> {
    if let Err(syntax) = serde_json::from_slice::<IgnoredAny>(text) {
        return Some(Position { line: syntax.line().max(1), column: syntax.column().max(1) });
    }
    let path = error.msg().split_once(": ")?.0;
    let offset = Finder { text, at: 0 }.find(&steps(path)?)?;
    let before = &text[..offset];
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    Some(Position { line, column: offset - line_start + 1 })
}

#[derive(Debug, PartialEq)]
enum Step<'a> {
    Field(&'a str),
    Item(usize),
}

/// `a.b[0][1].c`; `None` for text that is no path.
fn steps(path: &str) -> Option<Vec<Step<'_>>> {
    let mut steps = Vec::new();
    for part in path.split('.') {
        let (field, items) = part.split_at(part.find('[').unwrap_or(part.len()));
        if field.is_empty() || field.contains(char::is_whitespace) {
            return None;
        }
        steps.push(Step::Field(field));
        for item in items.split_terminator(']') {
            steps.push(Step::Item(item.strip_prefix('[')?.parse().ok()?));
        }
    }
    Some(steps)
}

/// Walks over a text that is known to be JSON.
struct Finder<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Finder<'a> {
    /// The offset of the value at the end of the steps, or of the last one on the way that exists.
    fn find(&mut self, steps: &[Step<'_>]) -> Option<usize> {
        self.skip_space();
        let here = self.at;
        let Some((step, rest)) = steps.split_first() else { return Some(here) };
        let entered = match step {
            Step::Field(name) => self.enter_field(name),
            Step::Item(index) => self.enter_item(*index),
        };
        match entered {
            Some(()) => self.find(rest),
            None => Some(here),
        }
    }

    fn enter_field(&mut self, name: &str) -> Option<()> {
        self.open(b'{')?;
        while self.peek()? == b'"' {
            let key = self.string()?;
            self.open(b':')?;
            if key.eq_ignore_ascii_case(name.as_bytes()) {
                return Some(());
            }
            self.skip_value()?;
            self.open(b',')?;
        }
        None
    }

    fn enter_item(&mut self, index: usize) -> Option<()> {
        self.open(b'[')?;
        for _ in 0..index {
            self.skip_value()?;
            self.open(b',')?;
        }
        Some(())
    }

    fn skip_value(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.peek()? {
                b'"' => {
                    self.string()?;
                }
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1)?;
                    self.at += 1;
                }
                b',' | b':' if depth > 0 => self.at += 1,
                b',' => return Some(()),
                _ => {
                    self.at += self
                        .rest()
                        .iter()
                        .position(|byte| b",:]} \t\r\n".contains(byte))
                        .filter(|n| *n > 0)?
                }
            }
            if depth == 0 && matches!(self.peek()?, b',' | b']' | b'}') {
                return Some(());
            }
        }
    }

    /// What stands between the quotes, escapes as they are.
    fn string(&mut self) -> Option<&'a [u8]> {
        self.open(b'"')?;
        let start = self.at;
        loop {
            match *self.text.get(self.at)? {
                b'\\' => self.at += 2,
                b'"' => break,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        self.text.get(start..self.at - 1)
    }

    fn open(&mut self, expected: u8) -> Option<()> {
        (self.peek()? == expected).then(|| self.at += 1)
    }

    fn peek(&mut self) -> Option<u8> {
        self.skip_space();
        self.text.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        self.at += self.rest().iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    }

    fn rest(&self) -> &'a [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(path: &str, text: &str) -> Option<(usize, usize)> {
        of(&Error::config(format!("{path}: wrong")), text.as_bytes()).map(|place| (place.line, place.column))
    }

    #[test]
    fn a_path_leads_to_its_value() {
        let text = "{\n  \"a\": [1, {\"x\\\"\": \"}]\", \"B\": [[], [true]]}],\n \"c\" : null}\n";
        assert_eq!(place("a", text), Some((2, 8)));
        assert_eq!(place("a[0]", text), Some((2, 9)));
        assert_eq!(place("a[1].b[1][0]", text), Some((2, 37)));
        assert_eq!(place("c", text), Some((3, 8)));
    }

    #[test]
    fn what_is_missing_is_placed_where_it_should_be() {
        let text = "{\n \"plugins\": [\n  {\"type\": \"a\"}]}";
        assert_eq!(place("plugins[0].ipam.type", text), Some((3, 3)));
        assert_eq!(place("plugins[7]", text), Some((2, 13)));
        assert_eq!(place("name", text), Some((1, 1)));
        assert_eq!(place("no path at all", text), None);
    }

    #[test]
    fn a_text_that_is_no_json_is_placed_by_its_first_error() {
        assert_eq!(place("a", "{\"a\": 1,\n\"b\" 2}"), Some((2, 5)));
        assert_eq!(place("a", ""), Some((1, 1)));
    }

    proptest! {
        #[test]
        fn no_text_and_no_path_is_too_odd(text in r#"[\[\]{}:,"\\a1 \n]{0,60}"#, path in r"[a.\[\]0-9]{0,12}") {
            let Ok(steps) = steps(&path).ok_or(()) else { return Ok(()) };
            let _ = Finder { text: text.as_bytes(), at: 0 }.find(&steps);
        }
    }
}
