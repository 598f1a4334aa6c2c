//! The text form of a name space.

use std::collections::HashMap;

use super::{Include, NAME_MAX, Pmns, PmnsError};
use crate::pmid::Pmid;

/// Includes may nest so deep.
const INCLUDE_DEPTH: usize = 8;

struct Word {
    text: String,
    file: usize,
    line: usize,
}

/// Splits into words, following directives.
struct Source<'i, 'f> {
    files: Vec<String>,
    words: Vec<Word>,
    defines: HashMap<String, String>,
    include: &'i mut Include<'f>,
}

fn error(file: &str, line: usize, what: impl Into<String>) -> PmnsError {
    PmnsError {
        file: file.to_owned(),
        line,
        what: what.into(),
    }
}

impl Source<'_, '_> {
    fn read(&mut self, text: &str, name: &str, depth: usize) -> Result<(), PmnsError> {
        if depth > INCLUDE_DEPTH {
            return Err(error(name, 1, "#include nested too deep"));
        }
        let file = self.files.len();
        self.files.push(name.to_owned());
        let mut comment = false;
        // For each open conditional: whether its branch counts, and whether it is inside one that does.
        let mut conditions: Vec<(bool, bool)> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let number = number + 1;
            let line = without_comments(line, &mut comment);
            let active = conditions.iter().all(|(on, _)| *on);
            if let Some(directive) = line.trim_start().strip_prefix('#') {
                let mut words = directive.split_whitespace();
                let keyword = words.next().unwrap_or("");
                let argument = words.next().unwrap_or("");
                match keyword {
                    "ifdef" => conditions.push((self.defines.contains_key(argument), active)),
                    "ifndef" => conditions.push((!self.defines.contains_key(argument), active)),
                    "else" => match conditions.last_mut() {
                        Some(last) => last.0 = !last.0,
                        None => return Err(error(name, number, "#else without #if")),
                    },
                    "endif" if conditions.pop().is_some() => {}
                    "endif" => return Err(error(name, number, "#endif without #if")),
                    _ if !active => {}
                    "define" => {
                        let value = words.collect::<Vec<_>>().join(" ");
                        self.defines.insert(argument.to_owned(), value);
                    }
                    "undef" => {
                        self.defines.remove(argument);
                    }
                    "include" => {
                        let wanted = argument.trim_matches(|c| matches!(c, '"' | '<' | '>'));
                        let Some(text) = (self.include)(wanted) else {
                            return Err(error(
                                name,
                                number,
                                format!("Cannot open file for #include: {wanted}"),
                            ));
                        };
                        self.read(&text, wanted, depth + 1)?;
                    }
                    // Comments of older name spaces.
                    _ => {}
                }
                continue;
            }
            if active {
                self.split(&line, file, number);
            }
        }
        if conditions.is_empty() {
            Ok(())
        } else {
            Err(error(
                name,
                text.lines().count(),
                "End of file and no matching #endif",
            ))
        }
    }

    fn split(&mut self, line: &str, file: usize, number: usize) {
        let mut push = |text: String| {
            self.words.push(Word {
                text,
                file,
                line: number,
            });
        };
        let mut word = String::new();
        for c in line.chars() {
            if c.is_whitespace() || matches!(c, '{' | '}') {
                if !word.is_empty() {
                    push(expand(std::mem::take(&mut word), &self.defines));
                }
                if !c.is_whitespace() {
                    push(c.to_string());
                }
            } else {
                word.push(c);
            }
        }
        if !word.is_empty() {
            push(expand(word, &self.defines));
        }
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

fn without_comments(line: &str, comment: &mut bool) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    loop {
        if *comment {
            match rest.split_once("*/") {
                Some((_, after)) => {
                    *comment = false;
                    out.push(' ');
                    rest = after;
                }
                None => return out,
            }
        } else {
            match rest.split_once("/*") {
                Some((before, after)) => {
                    out.push_str(before);
                    *comment = true;
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
    children: Vec<(String, Option<Pmid>)>,
    file: usize,
    line: usize,
}

pub(super) fn parse(text: &str, file: &str, include: &mut Include<'_>) -> Result<Pmns, PmnsError> {
    let mut source = Source {
        files: Vec::new(),
        words: Vec::new(),
        defines: HashMap::new(),
        include,
    };
    source.read(text, file, 0)?;
    let files = source.files;
    let at = |word: &Word, what: String| {
        error(files.get(word.file).map_or(file, |f| f), word.line, what)
    };
    let mut words = source.words.into_iter().peekable();
    let mut blocks: HashMap<String, Block> = HashMap::new();
    while let Some(name) = words.next() {
        if !is_path(&name.text) {
            return Err(at(&name, format!("name expected, \"{}\" found", name.text)));
        }
        match words.next() {
            Some(brace) if brace.text == "{" => {}
            _ => return Err(at(&name, format!("'{{' expected after \"{}\"", name.text))),
        }
        let mut children: Vec<(String, Option<Pmid>)> = Vec::new();
        loop {
            let Some(child) = words.next() else {
                return Err(at(&name, format!("missing '}}' of \"{}\"", name.text)));
            };
            if child.text == "}" {
                break;
            }
            if !is_name(&child.text) {
                return Err(at(
                    &child,
                    format!("name expected, \"{}\" found", child.text),
                ));
            }
            if child.text.len() > NAME_MAX {
                return Err(at(&child, format!("name of {} bytes", child.text.len())));
            }
            let pmid = match words.peek().filter(|w| w.text.contains(':')) {
                Some(word) => {
                    let parsed = parse_pmid(&word.text);
                    let pmid = parsed.map_err(|what| {
                        at(word, format!("Illegal PMID \"{}\": {what}", word.text))
                    })?;
                    words.next();
                    Some(pmid)
                }
                None => None,
            };
            if children.iter().any(|(n, _)| *n == child.text) {
                let what = format!(
                    "Duplicate name \"{}\" in subtree for \"{}\"",
                    child.text, name.text
                );
                return Err(at(&child, what));
            }
            children.push((child.text, pmid));
        }
        let block = Block {
            children,
            file: name.file,
            line: name.line,
        };
        if blocks.contains_key(&name.text) {
            return Err(at(
                &name,
                format!("Duplicate definition of \"{}\"", name.text),
            ));
        }
        blocks.insert(name.text, block);
    }
    let Some(root) = blocks.remove("root") else {
        return Err(error(file, 1, "No name space entry for \"root\""));
    };
    let mut pmns = Pmns::new();
    let mut work = vec![Below::Block(String::new(), root)];
    while let Some(next) = work.pop() {
        let (path, block) = match next {
            Below::Block(path, block) => (path, block),
            Below::Dynamic(name, pmid, place) => {
                insert(&mut pmns, &name, pmid, || place)?;
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
            let place = || {
                error(
                    files.get(block.file).map_or(file, |f| f),
                    block.line,
                    String::new(),
                )
            };
            match pmid {
                // Other names are below it, as below a node.
                Some(pmid) if pmid.is_dynamic_root() => {
                    below.push(Below::Dynamic(full, pmid, place()));
                }
                Some(pmid) => insert(&mut pmns, &full, pmid, place)?,
                None => match blocks.remove(&full) {
                    Some(block) => below.push(Below::Block(full, block)),
                    None => {
                        return Err(PmnsError {
                            what: format!(
                                "Cannot find definition for non-terminal node \"{full}\" in name space"
                            ),
                            ..place()
                        });
                    }
                },
            }
        }
        // Nodes keep their places among their siblings, so they are made before what is below them.
        below.reverse();
        work.extend(below);
    }
    if let Some((name, block)) = blocks.into_iter().min_by_key(|(_, b)| (b.file, b.line)) {
        let what = format!("Disconnected subtree (\"{name}\") in name space");
        return Err(error(
            files.get(block.file).map_or(file, |f| f),
            block.line,
            what,
        ));
    }
    Ok(pmns)
}

/// What stands behind the metrics of a block.
enum Below {
    /// A node.
    Block(String, Block),
    /// The root of a dynamic subtree, and where it stands.
    Dynamic(String, Pmid, PmnsError),
}

fn insert(
    pmns: &mut Pmns,
    name: &str,
    pmid: Pmid,
    place: impl FnOnce() -> PmnsError,
) -> Result<(), PmnsError> {
    let inserted = pmns.insert(name.as_bytes(), pmid);
    inserted.map_err(|code| PmnsError {
        what: format!("{name}: {code}"),
        ..place()
    })
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn is_path(text: &str) -> bool {
    text.split('.').all(is_name)
}

fn parse_pmid(text: &str) -> Result<Pmid, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let [domain, cluster, item] = parts[..] else {
        return Err("domain:cluster:item expected".to_owned());
    };
    let number = |text: &str, what: &str, max: u32| {
        text.parse::<u32>()
            .ok()
            .filter(|n| *n <= max)
            .ok_or_else(|| format!("{what} \"{text}\" not in 0 to {max}"))
    };
    let domain = number(domain, "domain", 511)?;
    if cluster == "*" && item == "*" {
        // The root of a dynamic subtree: the domain that knows it stands in the cluster.
        return Ok(Pmid::new(Pmid::DYNAMIC_DOMAIN, domain, 0));
    }
    Ok(Pmid::new(
        domain,
        number(cluster, "cluster", 4095)?,
        number(item, "item", 1023)?,
    ))
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
            "root:3: Duplicate name \"a\" in subtree for \"root\""
        );
        assert_eq!(
            wrong("root {\n a 1:2:1024\n}"),
            "root:2: Illegal PMID \"1:2:1024\": item \"1024\" not in 0 to 1023"
        );
        assert_eq!(
            wrong("root { a }"),
            "root:1: Cannot find definition for non-terminal node \"a\" in name space"
        );
        assert_eq!(
            wrong("root { a 1:1:1 }\nb { c 1:1:2 }"),
            "root:2: Disconnected subtree (\"b\") in name space"
        );
        assert_eq!(wrong("root { a 1:1:1"), "root:1: missing '}' of \"root\"");
    }
}
