//! Tables that fit a terminal.

use super::style::{Style, Tone};

/// Spaces between columns.
const GAP: usize = 2;
/// Columns are not cut below this.
const NARROWEST: usize = 8;

/// Rows under headings.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

/// A column's heading, and what happens to it when the table is too wide.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    title: &'static str,
    fit: Fit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    Whole,
    Cut,
    Right,
}

impl Column {
    /// A column that is shown whole, always.
    pub(crate) const fn whole(title: &'static str) -> Self {
        Self { title, fit: Fit::Whole }
    }

    /// A column whose texts may be cut at their ends: identifiers that a beginning tells apart.
    pub(crate) const fn cut(title: &'static str) -> Self {
        Self { title, fit: Fit::Cut }
    }

    /// A column of numbers.
    pub(crate) const fn number(title: &'static str) -> Self {
        Self { title, fit: Fit::Right }
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

    fn width(&self) -> usize {
        self.lines.iter().map(|line| line.chars().count()).max().unwrap_or(0)
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
    /// One that is wider than `width` has its columns that may be cut made narrower, the widest first; if that is not
    /// enough, it stays too wide: half a fact is worse than a wrapped line.
    pub(crate) fn render(&self, width: usize, style: Style) -> String {
        let widths = self.widths(width);
        let mut text = String::new();
        let titles: Vec<_> = self.columns.iter().map(|c| Cell::new(Tone::Heading, c.title)).collect();
        self.render_row(&mut text, &titles, &widths, style);
        for row in &self.rows {
            self.render_row(&mut text, row, &widths, style);
        }
        text
    }

    fn widths(&self, available: usize) -> Vec<usize> {
        let column = |(i, column): (usize, &Column)| {
            let cells = self.rows.iter().filter_map(|row| row.get(i)).map(Cell::width);
            cells.chain([column.title.len()]).max().unwrap_or(0)
        };
        let mut widths: Vec<usize> = self.columns.iter().enumerate().map(column).collect();
        let gaps = GAP * self.columns.len().saturating_sub(1);
        let mut excess = (widths.iter().sum::<usize>() + gaps).saturating_sub(available);
        while excess > 0 {
            let may_be_cut = |(i, width): (usize, &usize)| {
                let cut = self.columns.get(i).is_some_and(|column| column.fit == Fit::Cut);
                (cut && *width > NARROWEST).then_some((*width, i))
            };
            let Some((_, widest)) = widths.iter().enumerate().filter_map(may_be_cut).max() else { break };
            if let Some(width) = widths.get_mut(widest) {
                *width -= 1;
            }
            excess -= 1;
        }
        widths
    }

    fn render_row(&self, text: &mut String, row: &[Cell], widths: &[usize], style: Style) {
        let height = row.iter().map(|cell| cell.lines.len()).max().unwrap_or(0);
        for number in 0..height {
            let mut line = String::new();
            // Spaces are written when something follows them: no line ends in one.
            let mut spaces = 0;
            for ((cell, width), column) in row.iter().zip(widths).zip(&self.columns) {
                let words = cell.lines.get(number).map_or(String::new(), |text| cut(text, *width));
                let padding = width.saturating_sub(words.chars().count());
                let (before, after) = if column.fit == Fit::Right { (padding, 0) } else { (0, padding) };
                if words.is_empty() {
                    spaces += width;
                } else {
                    line.push_str(&" ".repeat(spaces + before));
                    line.push_str(&style.paint(cell.tone, &words));
                    spaces = after;
                }
                spaces += GAP;
            }
            text.push_str(&line);
            text.push('\n');
        }
    }
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

fn harmless(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new([Column::whole("NAME"), Column::cut("CONTAINER"), Column::number("USED")]);
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
    fn what_may_be_cut_is_cut_until_the_table_fits() {
        let expected = "\
NAME      CONTAINER   USED
web       012345678…     7
database  short       1000
";
        let text = table().render(26, Style::Plain);
        assert_eq!(text, expected);
        assert!(text.lines().all(|line| line.chars().count() <= 26));
    }

    #[test]
    fn what_may_not_be_cut_stays_whole() {
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
