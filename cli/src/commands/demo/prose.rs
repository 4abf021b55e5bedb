//! Headings, paragraphs and tables, of a width that can be read.

use std::time::Duration;

use crate::failure::Failure;
use crate::output::{Charset, Output, Table, Tone};

/// Longer lines are hard to read.
const LONGEST_LINE: usize = 100;

/// Tells something as it happens; or says nothing, if somebody wants it as JSON.
pub(super) struct Prose<'a> {
    pub(super) output: &'a mut Output,
    pub(super) charset: Charset,
    pub(super) quiet: bool,
}

impl Prose<'_> {
    pub(super) fn heading(&mut self, text: &str, took: Option<Duration>) -> Result<(), Failure> {
        if self.quiet {
            return Ok(());
        }
        let style = self.output.style();
        let mut line = style.paint(Tone::Heading, text);
        if let Some(took) = took {
            let took = milliseconds(took);
            let used = text.chars().count() + took.chars().count();
            line.push_str(&" ".repeat(self.width().saturating_sub(used).max(2)));
            line.push_str(&style.paint(Tone::Faint, &took));
        }
        self.output.line("")?;
        self.output.line(line)
    }

    /// A paragraph.
    pub(super) fn words(&mut self, text: &str) -> Result<(), Failure> {
        let lines = wrap(text, self.width());
        self.line(lines.join("\n"))
    }

    pub(super) fn line(&mut self, text: impl std::fmt::Display) -> Result<(), Failure> {
        if self.quiet { Ok(()) } else { self.output.line(text) }
    }

    pub(super) fn table(&mut self, table: &Table) -> Result<(), Failure> {
        if self.quiet { Ok(()) } else { self.output.table(table) }
    }

    pub(super) fn more(&mut self, hidden: usize, what: &str) -> Result<(), Failure> {
        if hidden == 0 { Ok(()) } else { self.line(format_args!("and {} more", count(hidden, what))) }
    }

    pub(super) fn width(&self) -> usize {
        self.output.width().min(LONGEST_LINE)
    }
}

/// A number and what is counted, in words.
pub(super) fn count(number: usize, what: &str) -> String {
    let words = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
    let number = words.get(number).map_or_else(|| number.to_string(), |word| (*word).to_owned());
    format!("{number} {what}{}", if number == "one" { "" } else { "s" })
}

pub(super) fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// Lines of words that are no wider than `width`, unless a word is.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_wrapped_between_them() {
        assert_eq!(wrap("a pod is a namespace", 8), ["a pod is", "a", "namespace"]);
        assert_eq!(wrap("", 8), [""]);
        assert_eq!(wrap("one two", 0), ["one", "two"]);
    }

    #[test]
    fn small_numbers_are_words() {
        assert_eq!(count(1, "pod"), "one pod");
        assert_eq!(count(3, "pod"), "three pods");
        assert_eq!(count(12, "pod"), "12 pods");
    }
}
