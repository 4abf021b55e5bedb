//! A finding as text: where, what, the line that it is in, and what to do.

use super::finding::Finding;
use crate::output::{Style, Tone};

/// Draws a finding for a terminal of some columns.
pub(super) fn draw(finding: &Finding, width: usize, style: Style) -> String {
    let place = match finding.position {
        Some(position) => format!("{}:{}:{}", finding.file.display(), position.line, position.column),
        None => finding.file.display().to_string(),
    };
    let severity = style.paint(finding.severity.tone(), &finding.severity.to_string());
    let about =
        if finding.place.is_empty() { String::new() } else { format!("{}: ", harmless(&finding.place)) };
    let mut text =
        format!("{}: {severity}: {about}{}\n", style.paint(Tone::Heading, &place), finding.message);
    if let (Some(position), Some(line)) = (finding.position, &finding.line) {
        let number = position.line.to_string();
        let margin = " ".repeat(number.len());
        let column = chars_before(line, position.column - 1);
        let (line, column) = window(line, column, width.saturating_sub(number.len() + 5));
        let marks = finding.width.clamp(1, line.chars().count().saturating_sub(column).max(1));
        let marks = style.paint(finding.severity.tone(), &"^".repeat(marks));
        text.push_str(&format!("  {number} | {line}\n  {margin} | {}{marks}\n", " ".repeat(column)));
    }
    if let Some(suggestion) = &finding.suggestion {
        text.push_str(&format!("  {} {suggestion}\n", style.paint(Tone::Good, "help:")));
    }
    text
}

/// Columns count bytes.
fn chars_before(line: &str, bytes: usize) -> usize {
    line.char_indices().take_while(|(at, _)| *at < bytes).count()
}

/// The part of a line around a column that fits, and the column in it.
fn window(line: &str, column: usize, width: usize) -> (String, usize) {
    let line = harmless(line);
    let length = line.chars().count();
    if length <= width {
        return (line, column);
    }
    let width = width.max(20);
    let start = column.saturating_sub(width / 2).min(length.saturating_sub(width));
    let part: String = line.chars().skip(start).take(width).collect();
    (part, column - start)
}

/// Every character that would move the cursor as one that does not.
fn harmless(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c == '\t' {
                ' '
            } else if c.is_control() {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use cni_spec::runtime::Position;

    use super::super::finding::Severity;
    use super::*;

    fn finding(line: &str, column: usize, width: usize) -> Finding {
        let mut finding = Finding {
            position: Some(Position { line: 7, column }),
            width,
            line: Some(line.to_owned()),
            place: "plugins[0].isGatway".to_owned(),
            ..Finding::of_file(Severity::Warning, Path::new("/etc/cni/net.d/10-a.conflist"), "unknown key")
        };
        finding.suggest("did you mean \"isGateway\"?");
        finding
    }

    #[test]
    fn it_points_at_the_place() {
        let expected = "\
/etc/cni/net.d/10-a.conflist:7:4: warning: plugins[0].isGatway: unknown key
  7 | \u{20}  \"isGatway\": true,
    | \u{20}  ^^^^^^^^^^
  help: did you mean \"isGateway\"?
";
        assert_eq!(draw(&finding("\t  \"isGatway\": true,", 4, 10), 80, Style::Plain), expected);
    }

    #[test]
    fn columns_are_bytes_and_marks_are_characters() {
        let text = draw(&finding("\"ä\": \"ö\"", 7, 4), 80, Style::Plain);
        assert!(text.contains("  7 | \"ä\": \"ö\"\n    |      ^^^\n"), "{text}");
    }

    #[test]
    fn of_a_long_line_the_part_is_shown_that_matters() {
        let line = format!("{}\"here\"{}", "x".repeat(500), "y".repeat(500));
        let text = draw(&finding(&line, 501, 6), 60, Style::Plain);
        let shown: Vec<_> = text.lines().collect();
        assert!(shown[1].contains("\"here\"") && shown[1].len() <= 60, "{text}");
        assert_eq!(shown[1].find("\"here\""), shown[2].find("^^^^^^"), "{text}");
    }

    #[test]
    fn a_files_content_cannot_speak_to_the_terminal() {
        let mut finding = finding("\x1b[2J", 1, 1);
        finding.place = "\x1b[31m".to_owned();
        assert!(!draw(&finding, 80, Style::Plain).contains('\x1b'));
    }
}
