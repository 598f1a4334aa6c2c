//! Whether colours are wanted.

use std::io::IsTerminal;

/// Whether standard output takes colours: it is a terminal that is not `dumb`, and `NO_COLOR` is not set to anything
/// (<https://no-color.org>).
pub fn wanted() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    !refused && !dumb && std::io::stdout().is_terminal()
}
