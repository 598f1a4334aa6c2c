//! Whether colours are wanted, and headings in bold.

use std::io::IsTerminal;

/// Whether standard output takes colours: it is a terminal that is not `dumb`, and `NO_COLOR` is not set to anything
/// (<https://no-color.org>).
pub fn wanted() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    !refused && !dumb && std::io::stdout().is_terminal()
}

/// When colours are wanted (`--color`).
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub enum When {
    /// On terminals that take them.
    #[default]
    Auto,
    /// Whatever the output is.
    Always,
    /// Nowhere.
    Never,
}

impl std::str::FromStr for When {
    type Err = ();

    fn from_str(text: &str) -> Result<When, ()> {
        match text {
            "auto" => Ok(When::Auto),
            "always" => Ok(When::Always),
            "never" => Ok(When::Never),
            _ => Err(()),
        }
    }
}

impl When {
    /// Whether they are, on standard output.
    pub fn holds(self) -> bool {
        match self {
            When::Auto => wanted(),
            When::Always => true,
            When::Never => false,
        }
    }

    /// What stands ahead of a heading, and behind it.
    pub fn bold(self) -> (&'static str, &'static str) {
        if self.holds() {
            ("\x1b[1m", "\x1b[0m")
        } else {
            ("", "")
        }
    }
}
