//! Tables that fit a terminal.

use std::borrow::Cow;

use super::style::{Style, Tone};

/// Spaces between columns.
const GAP: usize = 2;
/// An identifier is folded into so many lines, and cut then: its beginning tells it apart.
const FOLDS: usize = 2;

/// Rows under headings.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

/// A column's heading, and what happens to it when the table is too wide.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    title: Cow<'static, str>,
    fit: Fit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    Whole,
    Right,
    Folded,
    Wrapped,
}

impl Column {
    /// A column that is shown whole, always.
    pub(crate) fn whole(title: impl Into<Cow<'static, str>>) -> Self {
        Self { title: title.into(), fit: Fit::Whole }
    }

    /// A column of numbers.
    pub(crate) fn number(title: impl Into<Cow<'static, str>>) -> Self {
        Self { title: title.into(), fit: Fit::Right }
    }

    /// A column of identifiers, which may be folded.
    pub(crate) fn folded(title: impl Into<Cow<'static, str>>) -> Self {
        Self { title: title.into(), fit: Fit::Folded }
    }

    /// A column of sentences, whose lines may be broken between words.
    pub(crate) fn wrapped(title: impl Into<Cow<'static, str>>) -> Self {
        Self { title: title.into(), fit: Fit::Wrapped }
    }

    /// How narrow it may be made; `None` if not at all.
    fn narrowest(&self) -> Option<usize> {
        match self.fit {
            Fit::Whole | Fit::Right => None,
            Fit::Folded => Some(10),
            Fit::Wrapped => Some(12),
        }
    }
}

/// One text of a table, of one line or several.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    lines: Vec<String>,
    tone: Tone,
}

impl Cell {
    /// A text in a tone. What would move a terminal's cursor is escaped: names come from other programs.
    pub(crate) fn new(tone: Tone, text: impl AsRef<str>) -> Self {
        Self::lines(tone, [text])
    }

    /// Several texts, one below the other.
    pub(crate) fn lines(tone: Tone, texts: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        Self { lines: texts.into_iter().map(|text| harmless(text.as_ref())).collect(), tone }
    }

    /// A text, or a dash where there is none.
    pub(crate) fn or_dash(text: Option<&str>) -> Self {
        text.map_or_else(|| Self::new(Tone::Faint, "-"), Self::from)
    }

    fn width(&self) -> usize {
        self.lines.iter().map(|line| width(line)).max().unwrap_or(0)
    }

    /// The lines that it has in a column.
    fn fit(&self, fit: Fit, columns: usize) -> Vec<String> {
        let fitted = self.lines.iter().map(|line| match fit {
            Fit::Whole | Fit::Right => vec![line.clone()],
            Fit::Folded => fold(line, columns),
            Fit::Wrapped => wrap(line, columns),
        });
        fitted.flatten().collect()
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(Tone::Plain, text)
    }
}

impl Table {
    /// An empty table.
    pub(crate) fn new(columns: impl IntoIterator<Item = Column>) -> Self {
        Self { columns: columns.into_iter().collect(), rows: Vec::new() }
    }

    /// Adds a row: a cell for each column.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        let mut cells: Vec<_> = cells.into_iter().collect();
        cells.resize_with(self.columns.len(), Cell::default);
        self.rows.push(cells);
    }

    /// The table as text, with a line break after each line.
    ///
    /// One that is wider than `width` has those columns that may be made narrower made so, the widest first; if that
    /// is not enough, it stays too wide: half a fact is worse than a line that the terminal breaks.
    pub(crate) fn render(&self, width: usize, style: Style) -> String {
        let widths = self.widths(width);
        let mut text = String::new();
        let titles: Vec<_> = self.columns.iter().map(|c| Cell::new(Tone::Heading, &c.title)).collect();
        for row in std::iter::once(&titles).chain(&self.rows) {
            self.render_row(&mut text, row, &widths, style);
        }
        text
    }

    fn widths(&self, available: usize) -> Vec<usize> {
        let column = |(i, column): (usize, &Column)| {
            let cells = self.rows.iter().filter_map(|row| row.get(i)).map(Cell::width);
            cells.chain([column.title.chars().count()]).max().unwrap_or(0)
        };
        let mut widths: Vec<usize> = self.columns.iter().enumerate().map(column).collect();
        let gaps = GAP * self.columns.len().saturating_sub(1);
        let excess = (widths.iter().sum::<usize>() + gaps).saturating_sub(available);
        for _ in 0..excess {
            let shrinkable = widths.iter_mut().zip(&self.columns).filter(|(width, column)| {
                column
                    .narrowest()
                    .is_some_and(|narrowest| **width > narrowest.max(column.title.chars().count()))
            });
            let Some((widest, _)) = shrinkable.max_by_key(|(width, _)| **width) else { break };
            *widest -= 1;
        }
        widths
    }

    fn render_row(&self, text: &mut String, row: &[Cell], widths: &[usize], style: Style) {
        let columns = || row.iter().zip(widths).zip(&self.columns);
        let cells: Vec<_> = columns().map(|((cell, width), column)| cell.fit(column.fit, *width)).collect();
        let height = cells.iter().map(Vec::len).max().unwrap_or(0);
        for number in 0..height {
            // Spaces are written when something follows them: no line ends in one.
            let mut spaces = 0;
            for (((cell, full), column), lines) in columns().zip(&cells) {
                let line = lines.get(number).map_or("", String::as_str);
                let padding = full.saturating_sub(width(line));
                if line.is_empty() {
                    spaces += padding;
                } else {
                    let (before, after) = if column.fit == Fit::Right { (padding, 0) } else { (0, padding) };
                    text.push_str(&" ".repeat(spaces + before));
                    text.push_str(&style.paint(cell.tone, line));
                    spaces = after;
                }
                spaces += GAP;
            }
            text.push('\n');
        }
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn fold(text: &str, columns: usize) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let mut lines: Vec<String> = chars.chunks(columns.max(1)).map(|line| line.iter().collect()).collect();
    if lines.len() > FOLDS {
        lines.truncate(FOLDS);
        if let Some(last) = lines.last_mut() {
            last.pop();
            last.push('…');
        }
    }
    lines
}

fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if width(line) + 1 + width(word) <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// A text without what would move a terminal's cursor: that is escaped.
pub(crate) fn harmless(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table =
            Table::new([Column::whole("NAME"), Column::folded("CONTAINER"), Column::number("USED")]);
        table.row(["web".into(), "0123456789abcdef0123456789abcdef".into(), "7".into()]);
        table.row(["database".into(), "short".into(), Cell::new(Tone::Bad, "1000")]);
        table
    }

    #[test]
    fn columns_line_up_and_numbers_stand_under_one_another() {
        let expected = "\
NAME      CONTAINER                         USED
web       0123456789abcdef0123456789abcdef     7
database  short                             1000
";
        assert_eq!(table().render(80, Style::Plain), expected);
    }

    #[test]
    fn identifiers_are_folded_until_the_table_fits() {
        let expected = "\
NAME      CONTAINER       USED
web       0123456789abcd     7
          ef0123456789a…
database  short           1000
";
        let text = table().render(30, Style::Plain);
        assert_eq!(text, expected);
        assert!(text.lines().all(|line| width(line) <= 30));
    }

    #[test]
    fn sentences_are_broken_between_words() {
        let mut table = Table::new([Column::wrapped("STATE"), Column::whole("X")]);
        table.row([Cell::lines(Tone::Plain, ["bridge cnikit0 is down", "no address"]), "x".into()]);
        assert_eq!(
            table.render(17, Style::Plain),
            "STATE           X\nbridge cnikit0  x\nis down\nno address\n"
        );
    }

    #[test]
    fn what_must_be_whole_stays_whole() {
        assert!(table().render(1, Style::Plain).contains("database  short"));
    }

    #[test]
    fn a_cell_may_have_several_lines() {
        let mut table = Table::new([Column::whole("A"), Column::whole("B"), Column::whole("C")]);
        table.row(["a".into(), Cell::lines(Tone::Plain, ["10.0.0.1", "fd00::1"]), "c".into()]);
        assert_eq!(table.render(80, Style::Plain), "A  B         C\na  10.0.0.1  c\n   fd00::1\n");
    }

    #[test]
    fn names_from_outside_cannot_speak_to_the_terminal() {
        let mut table = Table::new([Column::whole("A")]);
        table.row(["\x1b[2J\nx".into()]);
        assert_eq!(table.render(80, Style::Plain), "A\n\\u{1b}[2J\\nx\n");
    }

    #[test]
    fn colours_do_not_count_as_width() {
        let text = table().render(80, Style::Coloured);
        assert!(text.contains("\x1b[31m1000\x1b[0m") && text.contains("\x1b[1mUSED\x1b[0m"), "{text}");
    }
}
