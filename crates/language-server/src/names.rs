//! What the names in a script mean: functions, globals, and locals of one probe or function.

use formatter::pieces::{self, Kind, Piece};
use std::ops::Range;

/// A name at a place of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// The spelling.
    pub text: String,
    /// Its bytes.
    pub range: Range<usize>,
    /// `(` follows.
    pub called: bool,
    /// The handler or function that it is in.
    pub scope: Option<usize>,
    /// A part of a probe point, or a member behind `->`.
    pub is_part: bool,
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// A function of the script, declared there.
    Function(Range<usize>),
    /// A global of the script, declared there.
    Global(Range<usize>),
    /// A local or parameter of a scope.
    Local(usize),
    /// Something of the library, or nothing.
    Other,
}

/// A probe, function or alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Its name, or probe points.
    pub title: String,
    /// The keyword that began it: `probe` or `function`.
    pub keyword: String,
    /// All of it.
    pub range: Range<usize>,
    /// The name, or the probe points.
    pub name: Range<usize>,
    /// Names of parameters.
    pub parameters: Vec<String>,
}

/// The names of a text. The text need not be free of mistakes.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// All names, in order.
    pub words: Vec<Word>,
    /// Probes, functions and aliases, in order.
    pub scopes: Vec<Scope>,
    /// Functions that the text declares.
    pub functions: Vec<(String, Range<usize>)>,
    /// Globals that the text declares.
    pub globals: Vec<(String, Range<usize>)>,
}

const KEYWORDS: &[&str] = &[
    "probe", "global", "private", "function", "if", "else", "for", "foreach", "in", "limit",
    "return", "delete", "while", "break", "continue", "next", "string", "long", "try", "catch",
];

impl Names {
    /// Finds the names of a text.
    pub fn of(text: &str) -> Names {
        let pieces: Vec<(Piece<'_>, Range<usize>)> = pieces::split(text)
            .into_iter()
            .filter(|p| !p.is_comment())
            .map(|p| {
                let start = p.text.as_ptr().addr() - text.as_ptr().addr();
                (p, start..start + p.text.len())
            })
            .collect();
        let mut reader = Reader {
            text,
            pieces: &pieces,
            at: 0,
            names: Names::default(),
        };
        reader.file();
        reader.names
    }

    /// The name at a byte, or ending there.
    pub fn at(&self, offset: usize) -> Option<&Word> {
        self.words
            .iter()
            .find(|w| w.range.start <= offset && offset <= w.range.end)
    }

    /// What a name stands for.
    pub fn meaning(&self, word: &Word) -> Meaning {
        let named = |list: &[(String, Range<usize>)]| {
            let found = list.iter().find(|(name, _)| *name == word.text);
            found.map(|(_, range)| range.clone())
        };
        if word.is_part || word.text.starts_with(['$', '@']) {
            return Meaning::Other;
        }
        let declared = |list: &[(String, Range<usize>)]| list.iter().any(|(_, r)| *r == word.range);
        if (word.called || declared(&self.functions))
            && let Some(range) = named(&self.functions)
        {
            return Meaning::Function(range);
        }
        if word.called {
            return Meaning::Other;
        }
        if let Some(scope) = word.scope
            && self
                .scopes
                .get(scope)
                .is_some_and(|s| s.parameters.contains(&word.text))
        {
            return Meaning::Local(scope);
        }
        match (named(&self.globals), word.scope) {
            (Some(range), _) => Meaning::Global(range),
            (None, Some(scope)) => Meaning::Local(scope),
            (None, None) => Meaning::Other,
        }
    }

    /// Every place that stands for the same thing.
    pub fn same(&self, word: &Word) -> Vec<Range<usize>> {
        let meaning = self.meaning(word);
        if meaning == Meaning::Other {
            return Vec::new();
        }
        self.words
            .iter()
            .filter(|w| w.text == word.text && self.meaning(w) == meaning)
            .map(|w| w.range.clone())
            .collect()
    }

    /// The scope around a byte.
    pub fn scope_at(&self, offset: usize) -> Option<usize> {
        self.scopes
            .iter()
            .position(|s| s.range.start <= offset && offset <= s.range.end)
    }

    /// Names of the locals and parameters of a scope.
    pub fn locals(&self, scope: usize) -> Vec<&str> {
        let mut names: Vec<&str> = self
            .words
            .iter()
            .filter(|w| w.scope == Some(scope) && self.meaning(w) == Meaning::Local(scope))
            .map(|w| w.text.as_str())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// Whether a text can be a name.
pub fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !KEYWORDS.contains(&text)
}

struct Reader<'a, 't> {
    text: &'t str,
    pieces: &'a [(Piece<'t>, Range<usize>)],
    at: usize,
    names: Names,
}

impl<'t> Reader<'_, 't> {
    fn peek(&self) -> Option<(Piece<'t>, Range<usize>)> {
        self.pieces.get(self.at).cloned()
    }

    fn is(&self, ahead: usize, text: &str) -> bool {
        self.pieces
            .get(self.at + ahead)
            .is_some_and(|(p, _)| p.is(text))
    }

    /// Declarations in turn.
    fn file(&mut self) {
        while let Some((piece, range)) = self.peek() {
            let declares = piece.is("global")
                || (piece.is("private") && !self.is(1, "function") && !self.is(1, "global"));
            if declares {
                self.at += 1;
                self.globals();
            } else if piece.is("function") || piece.is("probe") {
                self.at += 1;
                self.scope(piece.text, range.start);
            } else {
                self.at += 1;
                self.word(&piece, range, None, false);
            }
        }
    }

    /// `a, b = 1, c[10]` up to what can't belong to it.
    fn globals(&mut self) {
        let mut expects_name = true;
        let mut depth = 0;
        while let Some((piece, range)) = self.peek() {
            match piece.text {
                "probe" | "global" | "function" | "private" if piece.kind == Kind::Word => return,
                ";" => return,
                "[" | "(" => depth += 1,
                "]" | ")" => depth -= 1,
                "," if depth == 0 => expects_name = true,
                _ if piece.kind == Kind::Word && expects_name && depth == 0 => {
                    expects_name = false;
                    self.names
                        .globals
                        .push((piece.text.to_string(), range.clone()));
                    self.at += 1;
                    self.word(&piece, range, None, false);
                    continue;
                }
                _ => {}
            }
            self.at += 1;
        }
    }

    /// A probe or function: what stands before its body, and the body.
    fn scope(&mut self, keyword: &str, start: usize) {
        let number = self.names.scopes.len();
        let head = self.peek().map_or(self.text.len(), |(_, r)| r.start);
        self.names.scopes.push(Scope {
            title: String::new(),
            keyword: keyword.to_string(),
            range: start..self.text.len(),
            name: head..head,
            parameters: Vec::new(),
        });
        let is_function = keyword == "function";
        let mut parameters = Vec::new();
        let mut first = true;
        let mut in_parameters = false;
        let mut in_condition = false;
        let mut name = head..head;
        while let Some((piece, range)) = self.peek() {
            if piece.is("{") || piece.kind == Kind::Embedded {
                break;
            }
            // A component stands right behind its dot.
            let before = self.at.checked_sub(1).and_then(|at| self.pieces.get(at));
            let is_component = before.is_some_and(|(dot, at)| dot.is(".") && at.end == range.start);
            if ["probe", "function", "global", "private"].contains(&piece.text)
                && piece.kind == Kind::Word
                && !is_component
            {
                // The rest is still to be written.
                self.finish(number, name, parameters, range.start);
                return;
            }
            self.at += 1;
            if is_function {
                if piece.is("(") {
                    in_parameters = true;
                } else if piece.kind == Kind::Word && first {
                    first = false;
                    name = range.clone();
                    self.names
                        .functions
                        .push((piece.text.to_string(), range.clone()));
                    self.word(&piece, range, None, false);
                } else if in_parameters
                    && piece.kind == Kind::Word
                    && !KEYWORDS.contains(&piece.text)
                {
                    parameters.push(piece.text.to_string());
                    self.word(&piece, range, Some(number), false);
                }
            } else {
                in_condition |= piece.is("if");
                name = head..range.end;
                self.word(&piece, range, in_condition.then_some(number), !in_condition);
            }
        }
        let mut depth = 0;
        let mut end = self.text.len();
        let mut after_arrow = false;
        while let Some((piece, range)) = self.peek() {
            self.at += 1;
            if piece.is("{") {
                depth += 1;
            } else if piece.is("}") {
                depth -= 1;
            }
            let is_part = std::mem::replace(&mut after_arrow, piece.is("->"));
            self.word(&piece, range.clone(), Some(number), is_part);
            if depth == 0 {
                end = range.end;
                // An epilogue after an alias's prologue belongs to the same definition.
                if !(self.is(0, ",") && self.is(1, "{")) {
                    break;
                }
            }
        }
        self.finish(number, name, parameters, end);
    }

    fn finish(&mut self, number: usize, name: Range<usize>, parameters: Vec<String>, end: usize) {
        let title = self.text.get(name.clone()).unwrap_or_default().trim();
        if let Some(scope) = self.names.scopes.get_mut(number) {
            scope.title = title.to_string();
            scope.name = name;
            scope.parameters = parameters;
            scope.range.end = end;
        }
    }

    fn word(&mut self, piece: &Piece<'_>, range: Range<usize>, scope: Option<usize>, part: bool) {
        let starts = |c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '$' | '@');
        if piece.kind != Kind::Word
            || KEYWORDS.contains(&piece.text)
            || !piece.text.starts_with(starts)
        {
            return;
        }
        self.names.words.push(Word {
            text: piece.text.to_string(),
            range,
            called: self.is(0, "("),
            scope,
            is_part: part,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "global n, seen[10] = 3\nfunction f(n, x) { y = n + x; return y }\nprobe begin { y = f(n, 1); seen[y]++; $p->y }\nprobe end { y = 2; f(1, 2) }\n";

    #[test]
    fn functions_of_programs_are_no_declarations() {
        let names = Names::of("probe process(\"a\").function(\"f\") { x = 1; x++ }");
        let titles: Vec<&str> = names.scopes.iter().map(|s| s.title.as_str()).collect();
        assert_eq!(titles, ["process(\"a\").function(\"f\")"]);
        assert!(names.functions.is_empty());
    }

    fn same(nth: usize, text: &str) -> usize {
        let names = Names::of(TEXT);
        let at = TEXT.match_indices(text).nth(nth).expect("there").0;
        let word = names.at(at).expect("a name").clone();
        names.same(&word).len()
    }

    #[test]
    fn names_mean_what_their_places_say() {
        // The global, and its use in the first probe; not the parameter.
        assert_eq!(same(0, "n,"), 2);
        // The parameter and its use.
        assert_eq!(same(1, "n,"), 2);
        assert_eq!(same(0, "seen"), 2);
        assert_eq!(same(0, "f("), 3);
        // A local of the function, of the first probe (the member is none of it), of the second.
        assert_eq!(same(0, "y ="), 2);
        assert_eq!(same(1, "y ="), 2);
        assert_eq!(same(2, "y ="), 1);
    }

    #[test]
    fn unfinished_texts_are_read() {
        let names = Names::of("probe begin { x = \nprobe end { y");
        assert_eq!(names.scopes.len(), 1);
        let names = Names::of("probe timer.\nprobe begin { a }");
        assert_eq!(names.scopes.len(), 2);
        assert_eq!(names.locals(1), ["a"]);
        Names::of("function");
        Names::of("global");
    }
}
