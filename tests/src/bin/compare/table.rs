//! What was measured: printed as it comes, and kept for a page and a plot.

use std::fmt::Write;

use crate::statistics::{Pairs, Summary};

/// Rows below headings.
#[derive(Debug, Default)]
pub(crate) struct Table {
    sections: Vec<Section>,
}

/// Rows in which the same two are compared.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) title: String,
    pub(crate) theirs: String,
    pub(crate) ours: String,
    pub(crate) rows: Vec<(String, Summary)>,
}

impl Table {
    /// Begins a section. Its titles are Markdown.
    pub(crate) fn section(&mut self, title: &str, theirs: &str, ours: &str) {
        println!("\n{title}\n{:44} {theirs:>26} {ours:>26}   {:>5} {:>13}", "", "ratio", "95 %");
        let [title, theirs, ours] = [title, theirs, ours].map(str::to_owned);
        self.sections.push(Section { title, theirs, ours, rows: Vec::new() });
    }

    /// A row of the section that was begun last.
    pub(crate) fn row(&mut self, name: &str, pairs: &Pairs) {
        let summary = pairs.summary();
        let (low, high) = summary.interval;
        println!(
            "{name:44} {:>26} {:>26}   {:>5.2} {:>13}",
            summary.theirs.to_string(),
            summary.ours.to_string(),
            summary.ratio,
            format!("{low:.2} to {high:.2}")
        );
        if let Some(section) = self.sections.last_mut() {
            section.rows.push((name.to_owned(), summary));
        }
    }

    /// All sections.
    pub(crate) fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// The sections as Markdown.
    pub(crate) fn markdown(&self) -> String {
        let mut page = String::new();
        for Section { title, theirs, ours, rows } in &self.sections {
            // Writing to a string cannot fail.
            let _ = write!(
                page,
                "\n### {title}\n\n| milliseconds | {theirs} | {ours} | {theirs} / {ours} | 95 % |\n\
                 | --- | --- | --- | --- | --- |\n"
            );
            for (name, row) in rows {
                let (low, high) = row.interval;
                let _ = writeln!(
                    page,
                    "| {name} | {:.2} | {:.2} | {:.2} | {low:.2}–{high:.2} |",
                    row.theirs.median, row.ours.median, row.ratio
                );
            }
        }
        page
    }
}
