//! Colours of messages on terminals, as stap(1) has them under `--color` and SYSTEMTAP_COLORS.

/// Parts of a message that may have a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `semantic error:`, `parse error:`.
    Error,
    /// `WARNING:`.
    Warning,
    /// The place in the script.
    Source,
    /// The mark below a token.
    Caret,
    /// The token in its line.
    Token,
}

/// The names of the parts.
const NAMES: [&str; 5] = ["error", "warning", "source", "caret", "token"];

/// What is shown with `--color` where nothing else is said.
const DEFAULT: &str = "error=01;31:warning=00;33:source=00;34:caret=01:token=01";

/// The longest colour.
const LONGEST: usize = 32;

/// Parameters of a terminal's sequence for graphic rendition: digits and semicolons, or nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Shade {
    bytes: [u8; LONGEST],
    length: usize,
}

/// A colour for each part, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Colors {
    shades: [Shade; NAMES.len()],
}

impl From<bool> for Colors {
    /// Those that are shown where nothing else is said, or none.
    fn from(wanted: bool) -> Colors {
        let known = wanted.then(|| Colors::parse(DEFAULT)).flatten();
        known.unwrap_or_default()
    }
}

impl Colors {
    /// `error=01;31:warning=00;33`: parts that are not named have no colour; the first that is said of a part holds.
    /// Nothing where anything is wrong.
    pub fn parse(text: &str) -> Option<Colors> {
        let mut colors = Colors::default();
        for entry in text.split(':') {
            let (name, value) = entry.split_once('=')?;
            let part = NAMES.iter().position(|known| *known == name)?;
            let is_plain = |b: &u8| b.is_ascii_digit() || *b == b';';
            let known = !value.is_empty() && value.len() <= LONGEST;
            if !known || !value.as_bytes().iter().all(is_plain) {
                return None;
            }
            let shade = colors.shades.get_mut(part)?;
            if shade.length == 0 {
                shade
                    .bytes
                    .get_mut(..value.len())?
                    .copy_from_slice(value.as_bytes());
                shade.length = value.len();
            }
        }
        Some(colors)
    }

    /// A text in the colour of a part.
    pub(crate) fn paint(&self, text: &str, part: Part) -> String {
        let shade = self.shades[part as usize];
        let code = shade.bytes.get(..shade.length).unwrap_or_default();
        match (
            text.is_empty() || code.is_empty(),
            std::str::from_utf8(code),
        ) {
            (false, Ok(code)) => format!("\x1b[{code}m\x1b[K{text}\x1b[m\x1b[K"),
            _ => text.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Debian's stap takes them, told by the first bytes of what it prints.
    #[test]
    fn texts_are_taken_as_by_stap() {
        for text in [
            "",
            "foo",
            "error=",
            "error=xx",
            "foo=1",
            "error=01;31:",
            "error=01;31:warning",
            "ERROR=01",
            " error=01",
        ] {
            assert_eq!(Colors::parse(text), None, "{text}");
        }
        for (text, code) in [
            ("error=7", "7"),
            ("error=01;31;42", "01;31;42"),
            ("error=01;", "01;"),
            ("error=01:error=02", "01"),
        ] {
            let colors = Colors::parse(text).unwrap_or_default();
            assert_eq!(
                colors.paint("x", Part::Error),
                format!("\x1b[{code}m\x1b[Kx\x1b[m\x1b[K")
            );
            assert_eq!(colors.paint("x", Part::Warning), "x");
        }
    }
}
