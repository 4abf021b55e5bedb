//! The table as a plot: how many times as fast, a bar a row.

use std::fmt::Write;

use crate::table::Table;

const WIDTH: f64 = 760.0;
const LEFT: f64 = 300.0;
const RIGHT: f64 = 60.0;
const ROW: f64 = 20.0;
const TOP: f64 = 44.0;

/// Draws the rows; lengths are logarithmic, from half as fast to a hundred times.
pub(crate) fn draw(table: &Table) -> String {
    let rows: usize = table.sections().iter().map(|section| section.rows.len() + 2).sum();
    let height = TOP + ROW * rows as f64;
    let x = |ratio: f64| {
        let (first, last) = (0.5_f64.ln(), 100_f64.ln());
        LEFT + (ratio.clamp(0.5, 100.0).ln() - first) / (last - first) * (WIDTH - LEFT - RIGHT)
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n\
         <text x=\"12\" y=\"22\" font-size=\"15\">How many times as fast (median of pairs; the line is its 95 % interval)</text>\n"
    );
    for mark in [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0] {
        let colour = if mark == 1.0 { "#888888" } else { "#dddddd" };
        let _ = write!(
            svg,
            "<line x1=\"{0:.1}\" y1=\"{TOP}\" x2=\"{0:.1}\" y2=\"{height}\" stroke=\"{colour}\"/>\n\
             <text x=\"{0:.1}\" y=\"{1}\" text-anchor=\"middle\">{mark}</text>\n",
            x(mark),
            TOP - 4.0
        );
    }
    let mut y = TOP;
    for section in table.sections() {
        y += ROW;
        let title = format!("{}: {} / {}", section.title, section.theirs, section.ours);
        let _ = writeln!(
            svg,
            "<text x=\"12\" y=\"{:.1}\" font-weight=\"bold\">{}</text>",
            y + 14.0,
            plain(&title)
        );
        y += ROW;
        for (name, row) in &section.rows {
            let (middle, (low, high)) = (y + ROW / 2.0, row.interval);
            let (from, to) = (x(1.0).min(x(row.ratio)), x(1.0).max(x(row.ratio)));
            let _ = write!(
                svg,
                "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n\
                 <rect x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"12\" fill=\"#2c7bb6\"/>\n\
                 <line x1=\"{:.1}\" y1=\"{middle}\" x2=\"{:.1}\" y2=\"{middle}\" stroke=\"black\"/>\n\
                 <text x=\"{:.1}\" y=\"{:.1}\">{:.2}</text>\n",
                x(0.5) - 8.0,
                middle + 4.0,
                plain(name),
                middle - 6.0,
                to - from,
                x(low),
                x(high),
                x(high).max(to) + 6.0,
                middle + 4.0,
                row.ratio
            );
            y += ROW;
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// Markdown as plain text in a drawing.
fn plain(text: &str) -> String {
    text.replace('`', "").replace('&', "&amp;").replace('<', "&lt;")
}
