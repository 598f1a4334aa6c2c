//! The text form of a name space, with the mistakes that PCP's parser and its preprocessor pmcpp(1) tell of, in their words.

use std::collections::HashMap;

use super::{Include, NAME_MAX, Pmns, PmnsError};
use crate::pmid::Pmid;

/// Includes may nest so deep.
const INCLUDE_DEPTH: usize = 8;

/// A line that the preprocessor leaves.
struct Line {
    text: String,
    file: usize,
    number: usize,
}

/// A word of a line: what stands between white space.
struct Word {
    text: String,
    line: usize,
    at: usize,
}

/// Follows directives.
struct Source<'i, 'f> {
    files: Vec<String>,
    lines: Vec<Line>,
    defines: HashMap<String, String>,
    include: &'i mut Include<'f>,
}

/// What every mistake begins with.
const ERROR: &str = "Error Parsing ASCII PMNS";

/// A mistake of the whole.
fn whole(file: &str, what: &str) -> PmnsError {
    PmnsError {
        file: file.to_owned(),
        line: 1,
        what: what.to_owned(),
        shown: format!("{ERROR}: {what}"),
    }
}

/// A mistake that the preprocessor ends with; one at the end of the file has no line.
fn preprocessor(file: &str, line: Option<(usize, &str)>, what: &str) -> PmnsError {
    let place = match line {
        Some((number, text)) => format!("[{number}]: {text}"),
        None => ":".to_owned(),
    };
    PmnsError {
        file: file.to_owned(),
        line: line.map_or(1, |(number, _)| number),
        what: what.to_owned(),
        shown: format!(
            "pmcpp: {file}{place}\npmcpp: Error: {what}\n{ERROR}: pmcpp returned non-zero exit status"
        ),
    }
}

impl Source<'_, '_> {
    fn read(&mut self, text: &str, name: &str, depth: usize) -> Result<(), PmnsError> {
        let mut file = self.files.len();
        self.files.push(name.to_owned());
        let mut comment = None;
        // For each open conditional: whether its branch counts, and its line.
        let mut conditions: Vec<(bool, usize)> = Vec::new();
        // How far the lines that are told are from those of the file.
        let mut shift = 0;
        for (number, whole_line) in text.lines().enumerate() {
            let number = number + 1;
            let line = without_comments(whole_line, number, &mut comment);
            let active = conditions.iter().all(|(on, _)| *on);
            let wrong = |what: &str| preprocessor(name, Some((number, whole_line)), what);
            let Some(directive) = line.trim_start().strip_prefix('#') else {
                if active {
                    let text = self.expanded(&line);
                    let number = number.wrapping_add(shift);
                    self.lines.push(Line { text, file, number });
                }
                continue;
            };
            let mut words = directive.split_whitespace();
            let keyword = words.next().unwrap_or("");
            let argument = words.next().unwrap_or("");
            let named = matches!(keyword, "ifdef" | "ifndef" | "define" | "undef");
            if named && argument.is_empty() {
                return Err(wrong("Missing macro name"));
            }
            match keyword {
                "ifdef" => conditions.push((self.defines.contains_key(argument), number)),
                "ifndef" => conditions.push((!self.defines.contains_key(argument), number)),
                "else" | "endif" if conditions.is_empty() => {
                    let what = format!("No matching #ifdef or #ifndef for #{keyword}");
                    return Err(wrong(&what));
                }
                "else" => {
                    if let Some(last) = conditions.last_mut() {
                        last.0 = !last.0;
                    }
                }
                "endif" => {
                    conditions.pop();
                }
                _ if !active => {}
                "define" => {
                    let value = words.collect::<Vec<_>>().join(" ");
                    self.defines.insert(argument.to_owned(), value);
                }
                "undef" => {
                    self.defines.remove(argument);
                }
                "include" => {
                    if !argument.starts_with(['"', '<']) {
                        return Err(wrong("Expected \" or < after #include"));
                    }
                    if depth == INCLUDE_DEPTH {
                        return Err(wrong("#include and/or #shell nesting too deep"));
                    }
                    let wanted = argument.trim_matches(|c| matches!(c, '"' | '<' | '>'));
                    let Some(text) = (self.include)(wanted) else {
                        return Err(wrong("Cannot open file for #include"));
                    };
                    self.read(&text, wanted, depth + 1)?;
                }
                // The line that is next, and its file, as preprocessors tell them.
                _ => {
                    let Ok(next) = keyword.parse::<usize>() else {
                        return Err(whole(name, "Illegal line number control number"));
                    };
                    shift = next.wrapping_sub(number + 1);
                    if let Some(other) = argument.strip_prefix('"') {
                        file = self.files.len();
                        self.files.push(other.trim_end_matches('"').to_owned());
                    }
                }
            }
        }
        if let Some(begun) = comment {
            let what = format!("Comment at line {begun} not terminated before end of file");
            return Err(preprocessor(name, None, &what));
        }
        match conditions.last() {
            None => Ok(()),
            Some((_, begun)) => {
                let what = format!(
                    "End of input and no matching #endif for #ifdef or #ifndef at line {begun}"
                );
                Err(preprocessor(name, None, &what))
            }
        }
    }

    /// A line as the preprocessor leaves it: names are replaced, of white space one character stays, and none at the
    /// beginning or beside a colon.
    fn expanded(&self, line: &str) -> String {
        let mut out = String::with_capacity(line.len());
        let mut word = String::new();
        let mut gap = None;
        for c in line.trim_start().chars() {
            if !c.is_whitespace() {
                if let Some(space) = gap.take()
                    && c != ':'
                    && !out.ends_with(':')
                {
                    out.push(space);
                }
                word.push(c);
                continue;
            }
            if !word.is_empty() {
                out.push_str(&expand(std::mem::take(&mut word), &self.defines));
                gap = Some(c);
            }
        }
        out.push_str(&expand(word, &self.defines));
        out.extend(gap);
        out
    }
}

/// Replaces defined names, a name being letters, digits and underscores.
fn expand(word: String, defines: &HashMap<String, String>) -> String {
    if defines.is_empty() {
        return word;
    }
    let mut out = String::with_capacity(word.len());
    let mut name = String::new();
    let flush = |name: &mut String, out: &mut String| {
        out.push_str(defines.get(name.as_str()).unwrap_or(name));
        name.clear();
    };
    for c in word.chars() {
        if c.is_alphanumeric() || c == '_' {
            name.push(c);
        } else {
            flush(&mut name, &mut out);
            out.push(c);
        }
    }
    flush(&mut name, &mut out);
    out
}

/// A line without its comments; of one that it leaves open the line is kept.
fn without_comments(line: &str, number: usize, comment: &mut Option<usize>) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    loop {
        if comment.is_some() {
            match rest.split_once("*/") {
                Some((_, after)) => {
                    *comment = None;
                    out.push(' ');
                    rest = after;
                }
                None => return out,
            }
        } else {
            match rest.split_once("/*") {
                Some((before, after)) => {
                    out.push_str(before);
                    *comment = Some(number);
                    rest = after;
                }
                None => {
                    out.push_str(rest);
                    return out;
                }
            }
        }
    }
}

/// One `name { … }` block: children, each a metric or a node whose block follows.
struct Block {
    name: String,
    children: Vec<(String, Option<Pmid>)>,
}

/// What a word is.
enum Token {
    Open,
    Close,
    Name(String),
    Path(String),
    Pmid(Pmid),
    /// A number that is none of a metric, and what is wrong with it.
    Illegal(&'static str),
    Other,
}

fn token(word: &str) -> Token {
    match word {
        "{" => return Token::Open,
        "}" => return Token::Close,
        _ if is_name(word) => return Token::Name(word.to_owned()),
        _ if is_path(word) => return Token::Path(word.to_owned()),
        _ => {}
    }
    let number = |c: char| c.is_ascii_digit() || matches!(c, ':' | '*');
    if word.starts_with(':') || !word.chars().all(number) {
        return Token::Other;
    }
    match parse_pmid(word) {
        Ok(pmid) => Token::Pmid(pmid),
        Err(what) => Token::Illegal(what),
    }
}

struct Parser<'a> {
    file: &'a str,
    files: &'a [String],
    lines: &'a [Line],
    words: std::vec::IntoIter<Word>,
}

impl Parser<'_> {
    /// A mistake at a word: its line, and a caret below it.
    fn at(&self, word: &Word, expected: &str, illegal: Option<&str>) -> PmnsError {
        let line = self.lines.get(word.line);
        let file = line.and_then(|line| self.files.get(line.file));
        let file = file.map_or(self.file, |file| file.as_str());
        let number = line.map_or(1, |line| line.number);
        let text = line.map_or("", |line| line.text.as_str());
        let head = format!("[{file}:{number}] {ERROR}: ");
        let blank = |c: char| if c.is_whitespace() { c } else { ' ' };
        let before: String = text.chars().take(word.at).map(blank).collect();
        let caret = format!("    {before}^");
        let shown = match illegal {
            None => format!("{head}{expected}\n    {text}\n{caret}"),
            // The caret's line stands where the other was, for the mistake that follows from this one.
            Some(what) => {
                format!("{head}{what}\n    {text}\n{caret}\n{head}{expected}\n{caret}\n{caret}")
            }
        };
        PmnsError {
            file: file.to_owned(),
            line: number,
            what: illegal.unwrap_or(expected).to_owned(),
            shown,
        }
    }

    /// Two children of one name, which is told at the block's end.
    fn duplicate(&self, word: &Word, what: &str) -> PmnsError {
        let mut error = self.at(word, what, None);
        let (file, line) = (&error.file, error.line);
        error.shown = format!("[{file}:{line}] {ERROR}: {what}\n\n    {what}\n    ^");
        error
    }

    fn blocks(&mut self) -> Result<Vec<Block>, PmnsError> {
        let mut blocks = Vec::new();
        while let Some(word) = self.words.next() {
            let name = match token(&word.text) {
                Token::Name(name) | Token::Path(name) => name,
                Token::Illegal(what) => {
                    return Err(self.at(&word, "Expected NAME or PATH", Some(what)));
                }
                _ => return Err(self.at(&word, "Expected NAME or PATH", None)),
            };
            match self.words.next() {
                None => {}
                Some(word) => match token(&word.text) {
                    Token::Open => {}
                    Token::Illegal(what) => return Err(self.at(&word, "{ expected", Some(what))),
                    _ => return Err(self.at(&word, "{ expected", None)),
                },
            }
            let children = self.children(&name)?;
            blocks.push(Block { name, children });
        }
        Ok(blocks)
    }

    /// What stands in a block. One that is open at the end ends there.
    fn children(&mut self, of: &str) -> Result<Vec<(String, Option<Pmid>)>, PmnsError> {
        let mut children: Vec<(String, Option<Pmid>)> = Vec::new();
        // Whether a number may stand next.
        let mut named = false;
        while let Some(word) = self.words.next() {
            let expected = match named {
                true => "Expected NAME, PMID or }",
                false => "Expected NAME or }",
            };
            match token(&word.text) {
                Token::Name(name) if name.len() <= NAME_MAX => {
                    children.push((name, None));
                    named = true;
                }
                Token::Pmid(pmid) if named => {
                    if let Some(last) = children.last_mut() {
                        last.1 = Some(pmid);
                    }
                    named = false;
                }
                Token::Close => {
                    let mut seen = std::collections::HashSet::new();
                    if let Some((name, _)) = children.iter().find(|(n, _)| !seen.insert(n)) {
                        let what = format!("Duplicate name \"{name}\" in subtree for \"{of}\"");
                        return Err(self.duplicate(&word, &what));
                    }
                    break;
                }
                Token::Illegal(what) => return Err(self.at(&word, expected, Some(what))),
                _ => return Err(self.at(&word, expected, None)),
            }
        }
        Ok(children)
    }
}

pub(super) fn parse(text: &str, file: &str, include: &mut Include<'_>) -> Result<Pmns, PmnsError> {
    let mut source = Source {
        files: Vec::new(),
        lines: Vec::new(),
        defines: HashMap::new(),
        include,
    };
    source.read(text, file, 0)?;
    let mut words = Vec::new();
    for (line, Line { text, .. }) in source.lines.iter().enumerate() {
        let mut at = 0;
        for word in text.split(|c: char| c.is_whitespace()) {
            let length = word.chars().count();
            if length > 0 {
                let text = word.to_owned();
                words.push(Word { text, line, at });
            }
            at += length + 1;
        }
    }
    let mut parser = Parser {
        file,
        files: &source.files,
        lines: &source.lines,
        words: words.into_iter(),
    };
    // Of blocks of one name the first counts; where they stand is kept for what is told of those that are left.
    let mut blocks: HashMap<String, (usize, Block)> = HashMap::new();
    let mut again = Vec::new();
    for (place, block) in parser.blocks()?.into_iter().enumerate() {
        match blocks.entry(block.name.clone()) {
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert((place, block));
            }
            std::collections::hash_map::Entry::Occupied(_) if block.name == "root" => {
                return Err(whole(file, "Multiple name space entries for \"root\""));
            }
            std::collections::hash_map::Entry::Occupied(_) => again.push((place, block)),
        }
    }
    let Some((_, root)) = blocks.remove("root") else {
        return Err(whole(file, "No name space entry for \"root\""));
    };
    let mut pmns = Pmns::new();
    let mut work = vec![Below::Block(String::new(), root)];
    let insert = |pmns: &mut Pmns, name: &str, pmid| {
        let inserted = pmns.insert(name.as_bytes(), pmid);
        inserted.map_err(|code| whole(file, &format!("{name}: {code}")))
    };
    while let Some(next) = work.pop() {
        let (path, block) = match next {
            Below::Block(path, block) => (path, block),
            Below::Dynamic(name, pmid) => {
                insert(&mut pmns, &name, pmid)?;
                continue;
            }
        };
        let mut below = Vec::new();
        for (child, pmid) in block.children {
            let full = if path.is_empty() {
                child
            } else {
                format!("{path}.{child}")
            };
            match pmid {
                // Other names are below it, as below a node.
                Some(pmid) if pmid.is_dynamic_root() => below.push(Below::Dynamic(full, pmid)),
                Some(pmid) => insert(&mut pmns, &full, pmid)?,
                None => match blocks.remove(&full) {
                    Some((_, block)) => below.push(Below::Block(full, block)),
                    None => {
                        let what = format!(
                            "Cannot find definition for non-terminal node \"{full}\" in name space"
                        );
                        return Err(whole(file, &what));
                    }
                },
            }
        }
        // Nodes keep their places among their siblings, so they are made before what is below them.
        below.reverse();
        work.extend(below);
    }
    again.extend(blocks.into_values());
    again.sort_by_key(|(place, _)| std::cmp::Reverse(*place));
    let left = again.iter();
    let left = left.map(|(_, b)| format!("Disconnected subtree (\"{}\") in name space", b.name));
    let left: Vec<PmnsError> = left.map(|what| whole(file, &what)).collect();
    match left.first() {
        None => Ok(pmns),
        Some(first) => {
            let shown: Vec<&str> = left.iter().map(|error| error.shown.as_str()).collect();
            Err(PmnsError {
                shown: shown.join("\n"),
                ..first.clone()
            })
        }
    }
}

/// What stands behind the metrics of a block.
enum Below {
    /// A node.
    Block(String, Block),
    /// The root of a dynamic subtree.
    Dynamic(String, Pmid),
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn is_path(text: &str) -> bool {
    text.split('.').all(is_name)
}

/// A metric's number: `domain:cluster:item`, `domain:*:*` for the root of a dynamic subtree, or one number for all.
fn parse_pmid(text: &str) -> Result<Pmid, &'static str> {
    const ILLEGAL: &str = "Illegal PMID";
    if !text.contains([':', '*']) {
        return text.parse().map(Pmid).map_err(|_| ILLEGAL);
    }
    let mut parts = text.split(':');
    let (Some(domain), Some(cluster), Some(item)) = (parts.next(), parts.next(), parts.next())
    else {
        return Err(ILLEGAL);
    };
    let number = |text: &str, max: u32, what: &'static str| {
        let sound = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number = text.parse().ok().filter(|n: &u32| *n <= max);
        if sound {
            number.ok_or(what)
        } else {
            Err(ILLEGAL)
        }
    };
    let dynamic = cluster == "*" && item == "*" && parts.next().is_none();
    if !dynamic && text.contains('*') || cluster.is_empty() || item.is_empty() {
        return Err(ILLEGAL);
    }
    // The greatest domain is that of dynamic metrics.
    let domain = number(domain, 510, "Illegal domain field in PMID")?;
    if dynamic {
        // The domain that knows it stands in the cluster.
        return Ok(Pmid::new(Pmid::DYNAMIC_DOMAIN, domain, 0));
    }
    let cluster = number(cluster, 4095, "Illegal cluster field in PMID")?;
    let item = number(item, 1023, "Illegal item field in PMID")?;
    Ok(Pmid::new(domain, cluster, item))
}

#[cfg(test)]
mod tests {
    use super::super::Place;
    use super::*;

    fn parsed(text: &str) -> Result<Pmns, PmnsError> {
        parse(text, "root", &mut |name| {
            (name == "stdpmid").then(|| "#define SAMPLE 29\n".to_owned())
        })
    }

    #[test]
    fn parses_names_defines_and_dynamic_subtrees() {
        let pmns = parsed(
            "#include <stdpmid>\nroot {\n  sample /* a comment\n over lines */ pmcd\n}\n\
             sample {\n bin SAMPLE:0:6\n dynamic SAMPLE:*:*\n sub }\npmcd { x 2:0:1 }\nsample.sub { y 29:1:2 z 29:0:6 }\n",
        )
        .expect("a name space");
        assert_eq!(
            pmns.lookup(b"sample.bin"),
            Ok(Place::Leaf(Pmid::new(29, 0, 6)))
        );
        assert_eq!(pmns.lookup(b"sample.sub"), Ok(Place::Node));
        assert_eq!(
            pmns.names_of(Pmid::new(29, 0, 6)),
            ["sample.bin", "sample.sub.z"]
        );
        let names: Vec<String> = pmns
            .leaves(b"")
            .expect("root")
            .iter()
            .map(|(n, _)| n.to_string())
            .collect();
        assert_eq!(names.len(), 5);
        assert_eq!(
            pmns.enclosing_leaf(b"sample.dynamic.a.b"),
            Some(("sample.dynamic".into(), Pmid(511 << 22 | 29 << 10)))
        );
    }

    #[test]
    fn mistakes_name_their_place() {
        let wrong = |text: &str| parsed(text).expect_err(text).to_string();
        assert_eq!(
            wrong("root {\n a 1:2:3\n a 1:2:4\n}"),
            "[root:4] Error Parsing ASCII PMNS: Duplicate name \"a\" in subtree for \"root\"\n\n    \
             Duplicate name \"a\" in subtree for \"root\"\n    ^"
        );
        assert_eq!(
            wrong("root {\n a-b\n}"),
            "[root:2] Error Parsing ASCII PMNS: Expected NAME or }\n    a-b\n    ^"
        );
        assert_eq!(
            wrong("root { a }"),
            "Error Parsing ASCII PMNS: Cannot find definition for non-terminal node \"a\" in name space"
        );
        let place = parsed("#include <stdpmid>\nroot {\n a 1:2:1024\n}").expect_err("an item");
        assert_eq!((place.file.as_str(), place.line), ("root", 3));
        assert_eq!(place.what, "Illegal item field in PMID");
    }
}
