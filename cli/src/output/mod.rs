//! What the user sees: stdout has the answer and nothing else, as text, as a table or as JSON; stderr has the rest.

mod charset;
mod style;
mod table;

use std::fmt::Display;
use std::io::{self, BufRead, IsTerminal, Write};

use serde::Serialize;

pub(crate) use self::charset::Charset;
pub(crate) use self::style::{Style, Tone};
pub(crate) use self::table::{Cell, Column, Table, harmless};
use crate::exit::Exit;
use crate::failure::Failure;

/// Columns where nobody says otherwise.
const USUAL_WIDTH: usize = 80;

/// Where a command's answer goes.
pub(crate) struct Output {
    stdout: Box<dyn Write>,
    style: Style,
    width: usize,
}

impl Output {
    /// The process's stdout.
    pub(crate) fn of_process() -> Self {
        let stdout = io::stdout();
        Self { style: Style::of(&stdout), width: width(&stdout), stdout: Box::new(stdout.lock()) }
    }

    /// Colours, or none, for this output.
    pub(crate) fn style(&self) -> Style {
        self.style
    }

    /// How many columns there are.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Prints text as it is, with a line break.
    pub(crate) fn line(&mut self, text: impl Display) -> Result<(), Failure> {
        self.write(|stdout| writeln!(stdout, "{text}"))
    }

    /// Prints bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.write(|stdout| stdout.write_all(bytes))
    }

    /// Prints a table.
    pub(crate) fn table(&mut self, table: &Table) -> Result<(), Failure> {
        let text = table.render(self.width, self.style);
        self.write(|stdout| stdout.write_all(text.as_bytes()))
    }

    /// Prints a value as JSON, indented.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        self.write(|stdout| {
            serde_json::to_writer_pretty(&mut *stdout, value)?;
            stdout.write_all(b"\n")
        })
    }

    /// Sees to it that everything is out.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.write(|stdout| stdout.flush())
    }

    fn write(&mut self, print: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
        print(&mut *self.stdout).map_err(|error| Failure::of_output(&error))
    }
}

/// Says something to the person at the terminal that is not the answer.
pub(crate) fn note(text: impl Display) {
    // Nobody can be told that stderr is gone.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Asks the person at the terminal; a failure is a no, or that there is nobody.
pub(crate) fn confirm(question: &str) -> Result<(), Failure> {
    let refused = |message| Failure::new(Exit::Refused, message).advise("--yes answers for you");
    if !io::stdin().is_terminal() {
        return Err(refused(format!("nobody is there to confirm: {question}")));
    }
    note(format_args!("{question} [y/N]"));
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    match answer.trim() {
        "y" | "Y" | "yes" if read.is_ok() => Ok(()),
        _ => Err(Failure::new(Exit::Refused, "not confirmed: nothing was done")),
    }
}

/// Tells of a failure on stderr.
pub(crate) fn complain(failure: &Failure) {
    let Some(message) = failure.message() else { return };
    let style = Style::of(&io::stderr());
    note(format_args!("{}: {message}", style.paint(Tone::Bad, "error")));
    for advice in failure.advice() {
        note(format_args!("{}: {advice}", style.paint(Tone::Heading, "hint")));
    }
}

/// `COLUMNS`, else the terminal's width, else 80.
fn width(stdout: &io::Stdout) -> usize {
    let told = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    let asked = || terminal_size::terminal_size_of(stdout).map(|(width, _)| usize::from(width.0));
    let terminal = || if stdout.is_terminal() { asked() } else { None };
    told.filter(|width| *width > 0).or_else(terminal).unwrap_or(USUAL_WIDTH)
}
