//! Colours: only on a terminal, and only if nobody asked for none.

use std::io::IsTerminal;

/// Whether to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// Text as it is.
    Plain,
    /// With the terminal's colours.
    Coloured,
}

/// What a piece of text is to its reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Tone {
    /// Nothing special.
    #[default]
    Plain,
    /// What something is called that follows.
    Heading,
    /// As it should be.
    Good,
    /// Worth a look.
    Odd,
    /// Not as it should be.
    Bad,
    /// Of lesser interest.
    Faint,
}

impl Style {
    /// The style for a stream: plain if it is no terminal, a dumb one, or `NO_COLOR` (no-color.org) is set.
    pub(crate) fn of(stream: &impl IsTerminal) -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        if stream.is_terminal() && !set("NO_COLOR") && !dumb { Self::Coloured } else { Self::Plain }
    }

    /// Text in its tone.
    pub(crate) fn paint(self, tone: Tone, text: &str) -> String {
        // Select Graphic Rendition (ECMA-48, 8.3.117).
        let rendition = match (self, tone) {
            (Self::Plain, _) | (_, Tone::Plain) => return text.to_owned(),
            (Self::Coloured, Tone::Heading) => "1",
            (Self::Coloured, Tone::Good) => "32",
            (Self::Coloured, Tone::Odd) => "33",
            (Self::Coloured, Tone::Bad) => "31",
            (Self::Coloured, Tone::Faint) => "2",
        };
        format!("\x1b[{rendition}m{text}\x1b[0m")
    }
}
