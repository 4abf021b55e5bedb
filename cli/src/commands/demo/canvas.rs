//! Characters on a grid, with their tones: walls, doors, cables and words.

use crate::output::{Charset, Style, Tone};

/// A grid that grows as it is drawn upon. Places are columns and rows, counted from 0.
#[derive(Debug)]
pub(super) struct Canvas {
    charset: Charset,
    rows: Vec<Vec<(char, Tone)>>,
}

/// A room on the canvas: its walls included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) x: usize,
    pub(super) y: usize,
    pub(super) width: usize,
    pub(super) height: usize,
}

impl Room {
    pub(super) fn centre(self) -> usize {
        self.x + self.width / 2
    }

    /// The row of the lower wall.
    pub(super) fn bottom(self) -> usize {
        self.y + self.height.saturating_sub(1)
    }
}

impl Canvas {
    pub(super) fn new(charset: Charset) -> Self {
        Self { charset, rows: Vec::new() }
    }

    /// Four walls and a name.
    pub(super) fn room(&mut self, room: Room, name: &str) {
        let inner = room.width.saturating_sub(2);
        let wall = "─".repeat(inner);
        self.text(room.x, room.y, &format!("┌{wall}┐"), Tone::Faint);
        for y in room.y + 1..room.bottom() {
            self.text(room.x, y, "│", Tone::Faint);
            self.text(room.x + inner + 1, y, "│", Tone::Faint);
        }
        self.text(room.x, room.bottom(), &format!("└{wall}┘"), Tone::Faint);
        self.text(room.x + 2, room.y, &format!(" {name} "), Tone::Heading);
    }

    /// An interface in a wall.
    pub(super) fn door(&mut self, centre: usize, y: usize, name: &str) {
        let x = centre.saturating_sub(name.chars().count() / 2);
        self.text(x.saturating_sub(1), y, "┤", Tone::Plain);
        self.text(x, y, name, Tone::Good);
        self.text(x + name.chars().count(), y, "├", Tone::Plain);
    }

    /// A cable, from one row to another.
    pub(super) fn cable(&mut self, x: usize, rows: std::ops::RangeInclusive<usize>) {
        rows.for_each(|y| self.text(x, y, "│", Tone::Plain));
    }

    /// Words around a column.
    pub(super) fn centred(&mut self, centre: usize, y: usize, text: &str, tone: Tone) {
        self.text(centre.saturating_sub(text.chars().count() / 2), y, text, tone);
    }

    /// Words, or whatever else.
    pub(super) fn text(&mut self, x: usize, y: usize, text: &str, tone: Tone) {
        if self.rows.len() <= y {
            self.rows.resize(y + 1, Vec::new());
        }
        let Some(row) = self.rows.get_mut(y) else { return };
        let end = x + text.chars().count();
        if row.len() < end {
            row.resize(end, (' ', Tone::Plain));
        }
        for (cell, c) in row.iter_mut().skip(x).zip(text.chars()) {
            *cell = (self.charset.draw(c), tone);
        }
    }

    /// The picture, with a line break after each line but the last.
    pub(super) fn render(&self, style: Style) -> String {
        let line = |row: &Vec<(char, Tone)>| {
            let end = row.iter().rposition(|(c, _)| *c != ' ').map_or(0, |last| last + 1);
            let visible = row.get(..end).unwrap_or_default();
            let runs = visible.chunk_by(|a, b| a.1 == b.1);
            let paint = |run: &[(char, Tone)]| {
                let text: String = run.iter().map(|(c, _)| c).collect();
                style.paint(run.first().map_or(Tone::Plain, |(_, tone)| *tone), &text)
            };
            runs.map(paint).collect::<String>()
        };
        self.rows.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_later_lies_on_top() {
        let mut canvas = Canvas::new(Charset::Boxes);
        canvas.room(Room { x: 1, y: 0, width: 16, height: 3 }, "pod");
        canvas.door(9, 2, "eth0");
        canvas.cable(9, 3..=3);
        let expected = " ┌─ pod ────────┐\n │              │\n └────┤eth0├────┘\n         │";
        assert_eq!(canvas.render(Style::Plain), expected);
        assert!(canvas.render(Style::Coloured).contains("\x1b[32meth0\x1b[0m"));
    }
}
