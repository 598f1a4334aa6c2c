//! What may stand at a place of a script, and what it is.

use crate::document::Document;
use crate::names::Names;
use lsp_types::{
    CompletionItem, CompletionItemKind, CompletionTextEdit, Documentation, InsertTextFormat,
    MarkupContent, MarkupKind, TextEdit,
};
use script::reference::{Entry, Kind};

/// `@` words, and what they are.
pub const OPERATORS: &[(&str, &str)] = &[
    ("@avg", "average of a statistic, rounded towards zero"),
    (
        "@cast",
        "@cast(address, \"type\"[, \"module\"]): a pointer of that type",
    ),
    (
        "@choose_defined",
        "@choose_defined($a, $b): the first where it exists, else the second",
    ),
    ("@const", "a constant of C, in guru mode"),
    ("@count", "how many values a statistic has"),
    ("@define", "@define name(a, b) %( text %): a macro"),
    ("@defined", "whether a target variable exists at this probe"),
    (
        "@entry",
        "value that an expression had when the function was entered, in a return probe",
    ),
    (
        "@hist_linear",
        "@hist_linear(s, low, high, width): a histogram with buckets of one width",
    ),
    ("@hist_log", "a histogram whose buckets are powers of two"),
    ("@max", "greatest value of a statistic"),
    ("@min", "smallest value of a statistic"),
    ("@perf", "value of a perf counter"),
    ("@sum", "sum of a statistic"),
    (
        "@var",
        "@var(\"name@file\"[, \"module\"]): a global variable of the program",
    ),
    (
        "@variance",
        "@variance(s[, shift]): variance of a statistic",
    ),
];

/// `$` words, and what they are.
pub const CONTEXT: &[(&str, &str)] = &[
    ("$$vars", "all parameters and locals, as text"),
    ("$$parms", "all parameters, as text"),
    ("$$locals", "all locals, as text"),
    ("$$return", "the result, as text"),
    ("$$name", "name of the mark"),
    ("$$provider", "provider of the mark"),
    ("$return", "the result of the function, in a return probe"),
    ("$arg1", "first argument of the mark"),
];

const STATEMENTS: &[&str] = &[
    "if",
    "else",
    "for",
    "foreach",
    "while",
    "in",
    "limit",
    "return",
    "delete",
    "break",
    "continue",
    "next",
    "try",
    "catch",
    "print",
    "printf",
    "println",
    "printd",
    "printdln",
    "sprint",
    "sprintf",
    "sprintln",
    "sprintd",
    "sprintdln",
    "print_char",
];

const DECLARATIONS: &[&str] = &["probe", "global", "function", "private"];

/// What the points mean that a pattern matches, a line for each as `stap -l` prints them, or, when asked with true, as `-L`
/// does, with their variables.
pub type Lister<'a> = &'a dyn Fn(&str, bool) -> Vec<String>;

/// Where a place is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Context {
    /// Between declarations.
    Top,
    /// In the list of probe points; what stands there of this one.
    Point(usize),
    /// In a string of a probe point: where the point and where the string begins.
    Name(usize, usize),
    /// In a handler or function.
    Body,
    /// In a comment or string.
    None,
}

/// What may stand at a byte of the text.
pub fn complete(
    document: &Document,
    names: &Names,
    library: &[Entry],
    list: Lister<'_>,
    offset: usize,
) -> Vec<CompletionItem> {
    match context(&document.text, offset) {
        Context::None => Vec::new(),
        Context::Top => DECLARATIONS.iter().map(|w| keyword(w)).collect(),
        Context::Point(start) => points(document, library, start, offset),
        Context::Name(point, name) => names_in_program(document, list, point, name, offset),
        Context::Body => body(document, names, library, list, offset),
    }
}

/// Reads the text up to the place, its comments and strings left out.
fn context(text: &str, offset: usize) -> Context {
    let before = text.get(..offset).unwrap_or(text);
    let mut depth = 0i32;
    let mut point: Option<usize> = None;
    let mut parentheses = 0;
    let mut word = 0..0;
    let mut rest = before.char_indices().peekable();
    while let Some((at, c)) = rest.next() {
        let is_word = c.is_ascii_alphanumeric() || c == '_' || c == '$';
        if is_word {
            if word.end != at {
                word = at..at;
            }
            word.end = at + 1;
            if depth == 0 && before.get(word.clone()) == Some("probe") {
                point = Some(at + 1);
            }
            continue;
        }
        match c {
            '"' => {
                let mut escaped = false;
                loop {
                    match rest.next() {
                        Some((_, '"')) if !escaped => break,
                        Some((_, '\n')) => break,
                        Some((_, c)) => escaped = c == '\\' && !escaped,
                        None => {
                            let point = point.filter(|_| depth == 0);
                            return point.map_or(Context::None, |p| Context::Name(p, at + 1));
                        }
                    }
                }
            }
            '#' => loop {
                match rest.next() {
                    Some((_, '\n')) => break,
                    Some(_) => {}
                    None => return Context::None,
                }
            },
            '/' if rest.peek().is_some_and(|(_, c)| *c == '/') => loop {
                match rest.next() {
                    Some((_, '\n')) => break,
                    Some(_) => {}
                    None => return Context::None,
                }
            },
            '/' if rest.peek().is_some_and(|(_, c)| *c == '*') => {
                let Some(end) = before.get(at + 2..).and_then(|t| t.find("*/")) else {
                    return Context::None;
                };
                while rest.peek().is_some_and(|(i, _)| *i < at + 2 + end + 2) {
                    rest.next();
                }
            }
            '{' => {
                depth += 1;
                point = None;
            }
            '}' => depth = (depth - 1).max(0),
            '(' if point.is_some() => parentheses += 1,
            ')' if point.is_some() => parentheses -= 1,
            ',' | '=' if point.is_some() && parentheses == 0 => point = Some(at + 1),
            ' ' | '\t' | '\n' | '\r' if point == Some(at) => point = Some(at + 1),
            _ => {}
        }
    }
    match (point, depth) {
        (Some(start), _) => Context::Point(start.min(offset)),
        (None, 0) => Context::Top,
        (None, _) => Context::Body,
    }
}

fn points(
    document: &Document,
    library: &[Entry],
    start: usize,
    offset: usize,
) -> Vec<CompletionItem> {
    let written = document.text.get(start..offset).unwrap_or_default();
    let range = document.range(start, offset);
    let mut items = Vec::new();
    let mut add = |label: String, text: String, detail: String, documentation: String| {
        items.push(CompletionItem {
            filter_text: Some(label.clone()),
            label,
            kind: Some(CompletionItemKind::EVENT),
            detail: Some(detail),
            documentation: (!documentation.is_empty()).then(|| markdown(documentation)),
            insert_text_format: Some(InsertTextFormat::SNIPPET),
            text_edit: Some(CompletionTextEdit::Edit(TextEdit {
                range,
                new_text: text,
            })),
            ..CompletionItem::default()
        });
    };
    for entry in library.iter().filter(|e| e.kind == Kind::Alias) {
        if entry.name.starts_with(written) {
            add(
                entry.name.clone(),
                entry.name.clone(),
                entry.points.clone(),
                entry.text(),
            );
        }
    }
    for form in script::sema::probe_points::served() {
        if let Some(text) = fill(&form, written) {
            add(label(&form, written), text, form.clone(), String::new());
        }
    }
    items
}

/// Functions, marks and the like of the program that a point names already.
fn names_in_program(
    document: &Document,
    list: Lister<'_>,
    point: usize,
    name: usize,
    offset: usize,
) -> Vec<CompletionItem> {
    let written = document
        .text
        .get(point..offset)
        .unwrap_or_default()
        .trim_start();
    let before = document.text.get(point..name).unwrap_or_default();
    if !before.contains("\")") && !before.trim_start().starts_with("process.") {
        return Vec::new();
    }
    let range = document.range(name, offset);
    let mut found: Vec<String> = list(&format!("{written}*\")"), false)
        .iter()
        .filter_map(|line| line.rsplit_once("(\"")?.1.split(['"', '@']).next())
        .map(str::to_string)
        .collect();
    found.sort();
    found.dedup();
    let items = found.into_iter().map(|name| CompletionItem {
        label: name.clone(),
        kind: Some(CompletionItemKind::FUNCTION),
        text_edit: Some(CompletionTextEdit::Edit(TextEdit {
            range,
            new_text: name,
        })),
        ..CompletionItem::default()
    });
    items.collect()
}

/// Target variables of the points of a handler, with their types.
fn variables(list: Lister<'_>, points: &str) -> Vec<(String, String)> {
    let (mut quoted, mut depth) = (false, 0);
    let points = points.split(|c: char| {
        quoted ^= c == '"';
        depth += i32::from(!quoted && matches!(c, '(' | '{'))
            - i32::from(!quoted && matches!(c, ')' | '}'));
        c == ',' && !quoted && depth == 0
    });
    let mut found: Vec<(String, String)> = Vec::new();
    for point in points {
        // An alias's own points follow its name.
        let point = point.rsplit_once(" = ").map_or(point, |(_, point)| point);
        let point = point.trim().trim_end_matches(['?', '!']);
        if !point.starts_with("process") {
            continue;
        }
        for line in list(point, true) {
            for variable in line.split(" $").skip(1) {
                let (name, ty) = variable.split_once(':').unwrap_or((variable, ""));
                let name = format!("${name}");
                if found.iter().all(|(known, _)| *known != name) {
                    found.push((name, ty.to_string()));
                }
            }
        }
    }
    found
}

/// The form with the arguments that are written already, if it can go on from there; a snippet.
fn fill(form: &str, written: &str) -> Option<String> {
    let mut out = String::new();
    let mut stop = 0;
    let wanted: Vec<&str> = split(written);
    let parts: Vec<&str> = split(form);
    if wanted.len() > parts.len() {
        return None;
    }
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            out.push('.');
        }
        let (word, argument) = part.split_once('(').unwrap_or((part, ""));
        match wanted.get(i) {
            Some(given) if i + 1 < wanted.len() => {
                let (given_word, given_argument) = given.split_once('(').unwrap_or((given, ""));
                if given_word != word || given_argument.is_empty() != argument.is_empty() {
                    return None;
                }
                out.push_str(given);
                continue;
            }
            Some(given) if !word.starts_with(given.split('(').next().unwrap_or_default()) => {
                return None;
            }
            Some(given) if given.contains('(') => return None,
            _ => {}
        }
        out.push_str(word);
        if !argument.is_empty() {
            stop += 1;
            match argument {
                "string)" => out.push_str(&format!("(\"${{{stop}}}\")")),
                _ => out.push_str(&format!("(${{{stop}}})")),
            }
        }
    }
    Some(out)
}

/// The form, as the list shows it: what is written already stays as it is.
fn label(form: &str, written: &str) -> String {
    let wanted = split(written);
    let parts = split(form);
    let kept = wanted.len().saturating_sub(1);
    let mut out: Vec<&str> = wanted.into_iter().take(kept).collect();
    out.extend(parts.into_iter().skip(kept));
    out.join(".")
}

/// The components of a probe point; dots in strings part nothing.
fn split(point: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut quoted) = (0, false);
    for (at, c) in point.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '.' if !quoted => {
                parts.push(&point[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&point[start..]);
    parts
}

fn body(
    document: &Document,
    names: &Names,
    library: &[Entry],
    list: Lister<'_>,
    offset: usize,
) -> Vec<CompletionItem> {
    let before = document.text.get(..offset).unwrap_or_default();
    let tail = before.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$');
    let start = match tail.ends_with('@') {
        true => tail.len() - 1,
        false => tail.len(),
    };
    let written = document.text.get(start..offset).unwrap_or_default();
    let range = document.range(start, offset);
    let mut items = Vec::new();
    let mut add = |label: &str, kind: CompletionItemKind, detail: &str, text: Option<String>| {
        if items.iter().all(|i: &CompletionItem| i.label != label) {
            items.push(CompletionItem {
                label: label.to_string(),
                kind: Some(kind),
                detail: (!detail.is_empty()).then(|| detail.to_string()),
                documentation: text.map(markdown),
                text_edit: Some(CompletionTextEdit::Edit(TextEdit {
                    range,
                    new_text: label.to_string(),
                })),
                ..CompletionItem::default()
            });
        }
    };
    if written.starts_with('$')
        && let Some(scope) = names.scope_at(offset).and_then(|s| names.scopes.get(s))
        && let Some(points) = document.text.get(scope.name.clone())
        && scope.keyword == "probe"
    {
        for (name, ty) in variables(list, points) {
            add(&name, CompletionItemKind::VARIABLE, &ty, None);
        }
    }
    if written.starts_with('@') || written.starts_with('$') {
        for (word, what) in OPERATORS.iter().chain(CONTEXT) {
            if word.starts_with(&written[..1]) {
                add(word, CompletionItemKind::OPERATOR, what, None);
            }
        }
        return items;
    }
    if let Some(scope) = names.scope_at(offset) {
        // The word that is being written is no local yet.
        for name in names.locals(scope).into_iter().filter(|n| *n != written) {
            add(name, CompletionItemKind::VARIABLE, "local", None);
        }
    }
    for (name, _) in &names.globals {
        add(name, CompletionItemKind::VARIABLE, "global", None);
    }
    for (name, _) in &names.functions {
        add(
            name,
            CompletionItemKind::FUNCTION,
            "function of this script",
            None,
        );
    }
    for entry in library {
        if entry.kind == Kind::Function && !entry.name.starts_with('_') {
            add(
                &entry.name,
                CompletionItemKind::FUNCTION,
                &entry.signature(),
                Some(entry.text()),
            );
        }
    }
    for word in STATEMENTS {
        add(word, CompletionItemKind::KEYWORD, "", None);
    }
    items
}

fn keyword(word: &str) -> CompletionItem {
    CompletionItem {
        label: word.to_string(),
        kind: Some(CompletionItemKind::KEYWORD),
        ..CompletionItem::default()
    }
}

fn markdown(value: String) -> Documentation {
    Documentation::MarkupContent(MarkupContent {
        kind: MarkupKind::Markdown,
        value,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts() {
        let at = |text: &str| context(text, text.len());
        assert_eq!(at(""), Context::Top);
        assert_eq!(at("probe "), Context::Point(6));
        assert_eq!(at("probe a = begin, tim"), Context::Point(17));
        assert_eq!(at("probe begin { x"), Context::Body);
        assert_eq!(at("probe begin { } "), Context::Top);
        assert_eq!(at("# probe "), Context::None);
        assert_eq!(at("probe begin { /* } */ x"), Context::Body);
        assert_eq!(at("probe begin { \"}\\\"\" x"), Context::Body);
        assert_eq!(at("probe process(\"a,b\").fu"), Context::Point(6));
    }

    #[test]
    fn forms_go_on_from_what_is_written() {
        assert_eq!(
            fill("timer.s(number)", "ti").as_deref(),
            Some("timer.s(${1})")
        );
        assert_eq!(
            fill("process(string).mark(string)", "process(\"a.b\").m").as_deref(),
            Some("process(\"a.b\").mark(\"${1}\")")
        );
        assert_eq!(fill("process(string).mark(string)", "process.m"), None);
        assert_eq!(fill("begin", "begin.x"), None);
    }

    /// What stands in a program, as `stap -l` and `-L` tell it.
    fn program(pattern: &str, with_variables: bool) -> Vec<String> {
        let lines: &[&str] = match (pattern, with_variables) {
            ("process(\"./a\").function(\"wo*\")", false) => &[
                "process(\"/x/a\").function(\"word@/x/a.c:3\")",
                "process(\"/x/a\").function(\"work@/x/a.c:9\")",
            ],
            ("process(\"./a\").function(\"work\")", true) => {
                &["process(\"/x/a\").function(\"work@/x/a.c:9\") $n:int $name:char const*"]
            }
            _ => &[],
        };
        lines.iter().map(|l| l.to_string()).collect()
    }

    fn labels(text: &str) -> Vec<String> {
        let document = Document::new(text.to_string(), crate::document::Columns::choose(None));
        let names = Names::of(text);
        let found = complete(&document, &names, &[], &program, text.len());
        found.into_iter().map(|item| item.label).collect()
    }

    #[test]
    fn functions_of_the_program() {
        let point = "probe begin, process(\"./a\").function(\"wo";
        assert_eq!(labels(point), ["word", "work"]);
        assert_eq!(labels("probe process(\"./"), [""; 0]);
        assert_eq!(labels("probe begin { println(\"wo"), [""; 0]);
    }

    #[test]
    fn variables_of_the_function() {
        let text = "probe begin, process(\"./a\").function(\"work\")? { println($";
        assert_eq!(labels(text)[..3], ["$n", "$name", "$$vars"]);
        assert_eq!(labels("probe begin { println($")[0], "$$vars");
    }
}
