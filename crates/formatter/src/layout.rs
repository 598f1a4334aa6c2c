//! Where lines break, how far they are indented, and which pieces have a space between them.

use crate::pieces::{Kind, Piece};

/// Columns of one level.
const STEP: usize = 4;

/// What an open bracket is.
#[derive(Debug, Clone)]
enum Open {
    /// `{` of statements.
    Block {
        /// Written on one line.
        inline: bool,
        /// Statements without braces that it is the body of.
        headers: Vec<Header>,
        /// The level of the line on which it stands.
        level: usize,
    },
    /// `{` of alternatives in a probe point.
    Alternatives,
    /// `(` or `[`; true for the parentheses behind `if`, `for` and their kin.
    Bracket { header: bool, is_if: bool },
    /// `%(`.
    Condition { level: usize },
}

/// The head of a statement whose body follows.
#[derive(Debug, Clone, Copy)]
struct Header {
    level: usize,
    is_if: bool,
}

/// What kind of declaration the top level is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Between declarations, or in a handler.
    Other,
    /// Probe points: between `probe` and the handler.
    Points,
    /// Behind `global`.
    Global,
    /// Behind `function`, up to the body.
    Signature,
}

struct Layout<'p, 't> {
    pieces: &'p [Piece<'t>],
    out: String,
    open: Vec<Open>,
    place: Place,
    /// Heads of statements without braces that are open.
    headers: Vec<Header>,
    /// `if`s whose statement has just ended, for an `else`.
    ended: Vec<Header>,
    /// The piece before closed the head of a statement, or was `else`.
    after_head: bool,
    line_level: usize,
}

/// Lays pieces out.
pub fn lay_out(pieces: &[Piece<'_>]) -> String {
    let mut layout = Layout {
        pieces,
        out: String::new(),
        open: Vec::new(),
        place: Place::Other,
        headers: Vec::new(),
        ended: Vec::new(),
        after_head: false,
        line_level: 0,
    };
    for i in 0..pieces.len() {
        layout.add(i);
    }
    if !layout.out.is_empty() {
        layout.out.push('\n');
    }
    layout.out
}

impl<'p, 't> Layout<'p, 't> {
    fn piece(&self, i: usize) -> &'p Piece<'t> {
        let pieces: &'p [Piece<'t>] = self.pieces;
        &pieces[i]
    }

    /// The last piece before this one that is no comment.
    fn before(&self, i: usize) -> Option<&'p Piece<'t>> {
        self.pieces[..i].iter().rev().find(|p| !p.is_comment())
    }

    fn in_brackets(&self) -> bool {
        matches!(
            self.open.last(),
            Some(Open::Bracket { .. } | Open::Alternatives)
        )
    }

    fn is_inline(&self) -> bool {
        self.open
            .iter()
            .any(|o| matches!(o, Open::Block { inline: true, .. }))
    }

    /// The level of a statement that begins here.
    fn level(&self) -> usize {
        let outer = match self
            .open
            .iter()
            .rev()
            .find(|o| !matches!(o, Open::Bracket { .. } | Open::Alternatives))
        {
            Some(Open::Block { level, .. } | Open::Condition { level }) => level + 1,
            _ => 0,
        };
        match self.headers.last() {
            Some(header) => header.level + 1,
            None => outer,
        }
    }

    fn add(&mut self, i: usize) {
        let piece = *self.piece(i);
        let closes_block = piece.is("}") && matches!(self.open.last(), Some(Open::Block { .. }));
        let mut broken = piece.newlines > 0;
        if let Some(last) = i.checked_sub(1).map(|b| self.pieces[b]) {
            let inline = self.is_inline();
            let trailing = piece.kind == Kind::LineComment && piece.newlines == 0;
            broken |= last.kind == Kind::LineComment;
            if !trailing && !inline && !self.in_brackets() {
                let opened = last.is("{") && matches!(self.open.last(), Some(Open::Block { .. }));
                let closed = last.is("}") && self.place == Place::Other && !self.joins(&piece);
                broken |=
                    opened || closes_block || closed || last.is(";") && self.place == Place::Other;
            }
            if closes_block && matches!(self.open.last(), Some(Open::Block { inline: true, .. })) {
                broken = last.kind == Kind::LineComment;
            }
        }
        let ends_statement = i > 0 && self.ends_statement(i, broken);
        if ends_statement && !piece.is_comment() {
            self.end_statement();
        }
        if i > 0 {
            if broken {
                self.new_line(i, ends_statement, closes_block);
            } else if self.spaced(i) {
                self.out.push(' ');
            }
        }
        self.out.push_str(piece.text);
        if !piece.is_comment() {
            self.enter(i);
        }
    }

    /// Whether a piece belongs on the line of the `}` before it.
    fn joins(&self, piece: &Piece<'_>) -> bool {
        let words = ["else", "catch", ",", "%)", "%:"];
        piece.newlines == 0 && (piece.is_comment() || words.iter().any(|word| piece.is(word)))
    }

    /// Whether a new statement begins with this piece.
    fn ends_statement(&self, i: usize, broken: bool) -> bool {
        let piece = self.piece(i);
        let Some(last) = self.before(i) else {
            return true;
        };
        if self.in_brackets() || self.place == Place::Points {
            return false;
        }
        if last.is(";") || piece.is("}") || last.is("}") {
            return !self.after_head;
        }
        broken && !self.after_head && !self.continues(i)
    }

    /// Whether the line goes on with this piece.
    fn continues(&self, i: usize) -> bool {
        let Some(last) = self.before(i) else {
            return false;
        };
        let piece = self.piece(i);
        let wants_more = last.kind == Kind::Operator
            && !matches!(
                last.text,
                ")" | "]" | "}" | "{" | ";" | "++" | "--" | "%)" | "%?" | "%:" | "%("
            )
            && !(self.place == Place::Global && last.is("%"));
        let goes_on = piece.kind == Kind::Operator
            && !matches!(
                piece.text,
                "{" | "}"
                    | ";"
                    | "++"
                    | "--"
                    | "!"
                    | "~"
                    | "-"
                    | "+"
                    | "&"
                    | "["
                    | "("
                    | "%("
                    | "%)"
                    | "%?"
                    | "%:"
            );
        wants_more || goes_on || piece.is("in") || piece.is("limit")
    }

    fn end_statement(&mut self) {
        self.ended = std::mem::take(&mut self.headers);
    }

    fn new_line(&mut self, i: usize, starts: bool, closes_block: bool) {
        let piece = *self.piece(i);
        while self.out.ends_with(' ') {
            self.out.pop();
        }
        self.out.push('\n');
        let after_open = self.pieces[i - 1].is("{");
        if piece.newlines > 1 && !closes_block && !after_open {
            self.out.push('\n');
        }
        let level = if closes_block {
            match self.open.last() {
                Some(Open::Block { level, .. }) => *level,
                _ => 0,
            }
        } else if piece.is("else") {
            let its_if = self.ended.iter().rev().find(|h| h.is_if);
            its_if.map_or_else(|| self.level(), |h| h.level)
        } else if piece.is("{") && !self.in_brackets() {
            match (self.after_head, self.headers.last()) {
                (true, Some(header)) => header.level,
                _ => self.line_level,
            }
        } else if piece.is("%)") || piece.is("%:") || piece.is("%?") {
            match self
                .open
                .iter()
                .rev()
                .find(|o| matches!(o, Open::Condition { .. }))
            {
                Some(Open::Condition { level }) => *level,
                _ => 0,
            }
        } else if starts || self.after_head || piece.is_comment() {
            self.level()
        } else if piece.is("catch") || piece.is(")") || piece.is("]") {
            self.line_level
        } else {
            self.continued()
        };
        let continued = !(starts
            || self.after_head
            || closes_block
            || piece.is_comment()
            || piece.is("else")
            || piece.is("{"));
        if !continued {
            self.line_level = level;
        }
        self.out.extend(std::iter::repeat_n(' ', level * STEP));
    }

    /// The level of a line that goes on with what the line before began.
    fn continued(&self) -> usize {
        match self.place {
            Place::Points | Place::Global | Place::Signature => 1,
            Place::Other => self.line_level + 1,
        }
    }

    /// Takes notice of a piece that was written.
    fn enter(&mut self, i: usize) {
        let piece = *self.piece(i);
        let last = self.before(i).map(|p| p.text);
        let was_head = std::mem::take(&mut self.after_head);
        let outside = self
            .open
            .iter()
            .all(|o| matches!(o, Open::Condition { .. }));
        // The same words may be components of a probe point.
        let declares = outside && self.place != Place::Points;
        match piece.text {
            _ if piece.kind == Kind::Embedded && outside => self.place = Place::Other,
            _ if matches!(piece.kind, Kind::String | Kind::Embedded) => {}
            "probe" if declares => self.place = Place::Points,
            "global" if declares => self.place = Place::Global,
            "function" if declares => self.place = Place::Signature,
            "private" if declares => self.place = Place::Other,
            "{" => {
                let in_points = self.place == Place::Points;
                if in_points && matches!(last, Some("." | "probe" | "," | "=" | "{")) {
                    self.open.push(Open::Alternatives);
                } else {
                    self.place = Place::Other;
                    self.open.push(Open::Block {
                        inline: self.fits_on_a_line(i),
                        headers: std::mem::take(&mut self.headers),
                        level: self.line_level,
                    });
                    self.ended.clear();
                }
            }
            "}" => {
                if let Some(Open::Block { headers, .. }) = self.open.pop() {
                    self.headers = headers;
                }
            }
            "(" | "[" => {
                let header = matches!(last, Some("if" | "while" | "for" | "foreach" | "catch"))
                    && self.place == Place::Other;
                self.open.push(Open::Bracket {
                    header,
                    is_if: last == Some("if"),
                });
            }
            ")" | "]" => {
                if let Some(Open::Bracket {
                    header: true,
                    is_if,
                }) = self.open.pop()
                {
                    self.after_head = true;
                    let level = match was_head {
                        _ if self.headers.is_empty() => self.line_level,
                        _ => self.headers.last().map_or(self.line_level, |h| {
                            h.level + usize::from(self.line_level > h.level)
                        }),
                    };
                    self.headers.push(Header { level, is_if });
                }
            }
            "%(" => self.open.push(Open::Condition {
                level: self.line_level,
            }),
            "%)" => {
                if matches!(self.open.last(), Some(Open::Condition { .. })) {
                    self.open.pop();
                }
            }
            "else" => {
                let mut ended = std::mem::take(&mut self.ended);
                while ended.last().is_some_and(|h| !h.is_if) {
                    ended.pop();
                }
                let level = ended.pop().map_or(self.line_level, |h| h.level);
                self.headers = ended;
                self.headers.push(Header {
                    level,
                    is_if: false,
                });
                self.after_head = true;
            }
            _ => {}
        }
    }

    /// Whether the block that opens here was written on one line.
    fn fits_on_a_line(&self, i: usize) -> bool {
        let mut depth = 0usize;
        let mut width = 0;
        for (n, piece) in self.pieces[i..].iter().enumerate() {
            if n > 0 && piece.newlines > 0
                || piece.kind == Kind::LineComment
                || piece.text.contains('\n')
            {
                return false;
            }
            width += piece.text.len() + 1;
            match piece.text {
                "{" if piece.kind == Kind::Operator => depth += 1,
                "}" if piece.kind == Kind::Operator => {
                    depth -= 1;
                    if depth == 0 {
                        return width <= 110;
                    }
                }
                _ => {}
            }
        }
        false
    }

    /// Whether a space stands before this piece, which is on the line of the one before it.
    fn spaced(&self, i: usize) -> bool {
        let piece = self.piece(i);
        let last = self.piece(i - 1);
        if piece.is_comment() || last.is_comment() {
            return true;
        }
        let condition = matches!(piece.text, "%(" | "%?" | "%:" | "%)")
            || matches!(last.text, "%(" | "%?" | "%:" | "%)");
        if condition && piece.kind != Kind::String && last.kind != Kind::String {
            return true;
        }
        if self.place == Place::Points && !self.in_condition() {
            return self.spaced_in_points(piece, last);
        }
        if self.place == Place::Global && (piece.is("%") || last.is("%")) {
            return false;
        }
        if self.place == Place::Signature && (piece.is(":") || last.is(":") || piece.is("(")) {
            return false;
        }
        let word = |p: &Piece<'_>| matches!(p.kind, Kind::Word | Kind::String | Kind::Embedded);
        if word(piece) && word(last) {
            return true;
        }
        match piece.text {
            _ if word(piece) => {}
            "," | ";" | ")" | "]" => return false,
            "++" | "--" => return !self.is_operand(i - 1),
            "(" => {
                return is_statement_word(last.text)
                    || !self.is_operand(i - 1) && !self.opens_or_unary(i - 1);
            }
            "[" => {
                return is_statement_word(last.text) && last.text != "]"
                    || !self.is_operand(i - 1) && !self.opens_or_unary(i - 1);
            }
            "->" => return false,
            "+" | "-" if self.is_sort_mark(i) => return false,
            _ => {}
        }
        match last.text {
            _ if word(last) => {}
            "(" | "[" | "->" => return false,
            "++" | "--" => return self.is_operand(i - 1) || !word(piece),
            _ if self.is_unary(i - 1) => return false,
            _ => {}
        }
        true
    }

    /// `if (…)` behind a probe point: an expression among probe points.
    fn in_condition(&self) -> bool {
        self.open.iter().any(|o| matches!(o, Open::Bracket { .. }))
            && self.pieces_since_probe_have_if()
    }

    fn pieces_since_probe_have_if(&self) -> bool {
        // Written pieces only: brackets are open since the `(` behind `if`.
        self.open
            .iter()
            .any(|o| matches!(o, Open::Bracket { is_if: true, .. }))
    }

    fn spaced_in_points(&self, piece: &Piece<'_>, last: &Piece<'_>) -> bool {
        if matches!(piece.text, "," | ")" | "]") && piece.kind == Kind::Operator {
            return false;
        }
        if last.is(",") {
            return !matches!(self.open.last(), Some(Open::Alternatives));
        }
        let assigns = |p: &Piece<'_>| p.is("=") || p.is("+=");
        if assigns(piece) || assigns(last) {
            return true;
        }
        if piece.is("{") && !matches!(last.text, "." | "," | "{")
            || last.is("probe")
            || piece.is("if")
            || last.is("if")
        {
            return true;
        }
        piece.spaced
            && !matches!(last.text, "(" | "." | "{")
            && !matches!(piece.text, "." | "(" | "}")
    }

    /// Whether an expression could end with this piece.
    fn is_operand(&self, i: usize) -> bool {
        let Some(i) = self.pieces[..=i].iter().rposition(|p| !p.is_comment()) else {
            return false;
        };
        let piece = self.piece(i);
        match piece.kind {
            Kind::String | Kind::Embedded => true,
            Kind::Word => !is_statement_word(piece.text),
            Kind::Operator => match piece.text {
                ")" | "]" => true,
                "++" | "--" => i > 0 && self.piece(i).newlines == 0 && self.is_operand(i - 1),
                _ => false,
            },
            _ => false,
        }
    }

    /// Whether this operator stands before its only operand.
    fn is_unary(&self, i: usize) -> bool {
        let piece = self.piece(i);
        matches!(piece.text, "-" | "+" | "!" | "~" | "&") && (i == 0 || !self.is_operand(i - 1))
    }

    fn opens_or_unary(&self, i: usize) -> bool {
        matches!(self.piece(i).text, "(" | "[") || self.is_unary(i)
    }

    /// `+` or `-` behind what a `foreach` sorts by.
    fn is_sort_mark(&self, i: usize) -> bool {
        let next = self.pieces.get(i + 1).map_or("", |p| p.text);
        matches!(next, "in" | "limit" | ")" | "]" | ",") && self.in_brackets()
    }
}

fn is_statement_word(word: &str) -> bool {
    matches!(
        word,
        "if" | "else"
            | "while"
            | "for"
            | "foreach"
            | "in"
            | "limit"
            | "return"
            | "delete"
            | "catch"
            | "try"
            | "probe"
            | "next"
            | "break"
            | "continue"
    )
}
