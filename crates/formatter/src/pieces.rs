//! A script's text as pieces: tokens and comments as they are spelt, with the white space before them.

/// What a piece is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Letters, digits, `_`, `$`, `@`: names, numbers, keywords.
    Word,
    /// A string literal.
    String,
    /// Punctuation.
    Operator,
    /// `# …` or `// …`, without the end of the line.
    LineComment,
    /// `/* … */`.
    BlockComment,
    /// `%{ … %}`.
    Embedded,
}

/// A piece of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'t> {
    /// What it is.
    pub kind: Kind,
    /// Its spelling.
    pub text: &'t str,
    /// Ends of lines before it.
    pub newlines: usize,
    /// White space of any kind stands before it.
    pub spaced: bool,
}

impl Piece<'_> {
    /// Whether it is this operator or word.
    pub fn is(&self, text: &str) -> bool {
        matches!(self.kind, Kind::Operator | Kind::Word) && self.text == text
    }

    /// Whether it is a comment of either kind.
    pub fn is_comment(&self) -> bool {
        matches!(self.kind, Kind::LineComment | Kind::BlockComment)
    }
}

const OPERATORS: &[&str] = &[
    "<<<", ">>>", "<<=", ">>=", "==", "!=", "<=", ">=", "=~", "!~", "+=", "-=", "*=", "/=", "%=",
    "&=", "^=", "|=", ".=", "&&", "||", "++", "--", "->", "<<", ">>", "%(", "%?", "%:", "%)", "**",
];

/// Takes a text apart. Nothing but white space is left out.
pub fn split(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut at = 0;
    loop {
        let rest = &text[at..];
        let blanks = rest.len()
            - rest
                .trim_start_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c'])
                .len();
        let newlines = rest[..blanks].matches('\n').count();
        let rest = &rest[blanks..];
        if rest.is_empty() {
            return pieces;
        }
        let (kind, len) = next(rest);
        pieces.push(Piece {
            kind,
            text: match kind {
                Kind::LineComment => rest[..len].trim_end(),
                _ => &rest[..len],
            },
            newlines,
            spaced: blanks > 0,
        });
        at += blanks + len;
    }
}

/// Kind and length of the piece at the start of a text that is not empty.
fn next(text: &str) -> (Kind, usize) {
    let until = |end: &str, from: usize| {
        text.get(from..)
            .and_then(|rest| rest.find(end))
            .map_or(text.len(), |i| from + i + end.len())
    };
    let line = || text.find('\n').unwrap_or(text.len());
    if text.starts_with("/*") {
        (Kind::BlockComment, until("*/", 2))
    } else if text.starts_with("//") || text.starts_with('#') {
        (Kind::LineComment, line())
    } else if text.starts_with("%{") {
        (Kind::Embedded, until("%}", 2))
    } else if text.starts_with('"') {
        (Kind::String, string(text))
    } else if text.starts_with("$#") || text.starts_with("@#") {
        (Kind::Word, 2)
    } else if text.starts_with(is_word) {
        (Kind::Word, text.find(|c| !is_word(c)).unwrap_or(text.len()))
    } else if let Some(operator) = OPERATORS.iter().find(|o| text.starts_with(**o)) {
        (Kind::Operator, operator.len())
    } else {
        (
            Kind::Operator,
            text.chars().next().map_or(1, char::len_utf8),
        )
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '@')
}

/// Length of a string literal; one without its end goes to the end of the text.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (i, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return i + 1,
            _ => {}
        }
    }
    text.len()
}
