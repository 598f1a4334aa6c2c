//! `pmjson`: lays out JSON (pmjson(1)). As the peer's parser it forgives commas that are too many, and reads one value.

use std::fs::File;
use std::io::{self, Read, Write};

use pcp::ErrorCode;

use crate::options::rows::*;
use crate::options::{Refusal, Spec};
use crate::source::Source;

#[rustfmt::skip]
const SPEC: Spec = Spec {
    tool: "pmjson",
    words: "[options]",
    rows: &[
        REPORTING,
        value('i', "in", "FILE", "read input from named FILE"),
        value('o', "out", "FILE", "write output to named FILE"),
        flag('m', "minimal", "report JSON with optional whitespace removed"),
        flag('p', "pretty", "report neatly formatted JSON"),
        flag('q', "quiet", "quiet mode, parse only, do not write to stdout"),
        flag('y', "yaml", "parse JSON input, report a YAML style of output"),
        SHOW_VERSION,
        HELP,
    ],
    ..Spec::PLAIN
};

/// How deep values may stand in each other.
const DEPTH: usize = 256;
/// Not all of a value is there.
const INCOMPLETE: ErrorCode = ErrorCode(-61);
/// What is there is no value.
const INVALID: ErrorCode = ErrorCode(-22);

/// The exit status when a file cannot be opened.
const NO_FILE: u8 = 2;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Minimal,
    Pretty,
    Yaml,
    Quiet,
}

/// Runs the tool; `args` are the words behind its name. Returns the exit status.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(args: Vec<String>) -> io::Result<u8> {
    SPEC.run(|spec| lay_out(spec, args))
}

fn lay_out(spec: &Spec, args: Vec<String>) -> Result<u8, Refusal> {
    let (mut input, mut output, mut style) = (None, None, Style::Pretty);
    let words = spec.parse(args, &mut Source::default(), |option, value| {
        match option {
            'i' => input = Some(value.to_owned()),
            'o' => output = Some(value.to_owned()),
            'm' => style = Style::Minimal,
            'p' => style = Style::Pretty,
            'q' => style = Style::Quiet,
            'y' => style = Style::Yaml,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if !words.is_empty() {
        return Err(Refusal::Usage(String::new()));
    }
    let mut text = Vec::new();
    let read = match &input {
        Some(path) => File::open(path).and_then(|mut file| file.read_to_end(&mut text)),
        None => io::stdin().lock().read_to_end(&mut text),
    };
    if let Err(error) = read {
        let name = input.as_deref().unwrap_or("<stdin>");
        eprintln!("{name}: {}", ErrorCode::from(&error));
        return Ok(NO_FILE);
    }
    let value = match parse(&text) {
        Ok(value) => value,
        Err(code) => {
            if style != Style::Quiet {
                eprintln!("pmjson failed: {code}");
            }
            return Ok(1);
        }
    };
    let mut out = Vec::new();
    match style {
        Style::Quiet => return Ok(0),
        Style::Minimal => value.minimal(&mut out),
        Style::Pretty => value.pretty(&mut out, 0),
        Style::Yaml => value.yaml(&mut out, 0),
    }
    if !out.ends_with(b"\n") {
        out.push(b'\n');
    }
    match output {
        Some(path) => {
            let written = File::create(&path).and_then(|mut file| file.write_all(&out));
            if let Err(error) = written {
                eprintln!("{path}: {}", ErrorCode::from(&error));
                return Ok(NO_FILE);
            }
        }
        None => io::stdout().lock().write_all(&out)?,
    }
    Ok(0)
}

/// A value whose numbers and texts stand as they were written.
enum Json<'a> {
    Plain(&'a [u8]),
    Text(&'a [u8]),
    Array(Vec<Json<'a>>),
    Object(Vec<(&'a [u8], Json<'a>)>),
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
}

fn parse(text: &[u8]) -> Result<Json<'_>, ErrorCode> {
    let mut parser = Parser { text, at: 0 };
    parser.skip(b"");
    let value = parser.value(0)?;
    parser.skip(b"");
    // What follows may begin another value. A bracket that closes nothing, or what can begin none, makes the whole no JSON.
    match parser.peek() {
        Ok(b',' | b':' | b'"' | b'[' | b'{' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n' | 0) => {
            Ok(value)
        }
        Ok(_) => Err(INVALID),
        Err(_) => Ok(value),
    }
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Result<u8, ErrorCode> {
        self.text.get(self.at).copied().ok_or(INCOMPLETE)
    }

    fn skip(&mut self, more: &[u8]) {
        while let Ok(c) = self.peek()
            && (c.is_ascii_whitespace() || more.contains(&c))
        {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Result<Json<'a>, ErrorCode> {
        if depth > DEPTH {
            return Err(INVALID);
        }
        match self.peek()? {
            b'"' => Ok(Json::Text(self.string()?)),
            b'[' => {
                self.at += 1;
                let mut items = Vec::new();
                loop {
                    self.skip(b",");
                    if self.peek()? == b']' {
                        self.at += 1;
                        return Ok(Json::Array(items));
                    }
                    items.push(self.value(depth + 1)?);
                }
            }
            b'{' => {
                self.at += 1;
                let mut members = Vec::new();
                loop {
                    self.skip(b",");
                    match self.peek()? {
                        b'}' => {
                            self.at += 1;
                            return Ok(Json::Object(members));
                        }
                        b'"' => {}
                        _ => return Err(INVALID),
                    }
                    let name = self.string()?;
                    self.skip(b"");
                    if self.peek()? != b':' {
                        return Err(INVALID);
                    }
                    self.at += 1;
                    self.skip(b"");
                    members.push((name, self.value(depth + 1)?));
                }
            }
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => {
                let start = self.at;
                while let Ok(c) = self.peek()
                    && !c.is_ascii_whitespace()
                    && !matches!(c, b',' | b']' | b'}' | b':')
                {
                    if !c.is_ascii_graphic() {
                        return Err(INVALID);
                    }
                    self.at += 1;
                }
                Ok(Json::Plain(
                    self.text.get(start..self.at).unwrap_or_default(),
                ))
            }
            _ => Err(INVALID),
        }
    }

    /// A text between quotes, its escapes left as they are.
    fn string(&mut self) -> Result<&'a [u8], ErrorCode> {
        self.at += 1;
        let start = self.at;
        loop {
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Ok(self.text.get(start..self.at - 1).unwrap_or_default());
                }
                b'\\' => {
                    self.at += 1;
                    match self.peek()? {
                        b'"' | b'/' | b'\\' | b'b' | b'f' | b'r' | b'n' | b't' => self.at += 1,
                        b'u' => {
                            self.at += 1;
                            for _ in 0..4 {
                                if !self.peek()?.is_ascii_hexdigit() {
                                    return Err(INVALID);
                                }
                                self.at += 1;
                            }
                        }
                        _ => return Err(INVALID),
                    }
                }
                _ => self.at += 1,
            }
        }
    }
}

fn indent(out: &mut Vec<u8>, width: usize) {
    out.resize(out.len() + width, b' ');
}

fn quoted(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    out.extend_from_slice(text);
    out.push(b'"');
}

impl Json<'_> {
    fn minimal(&self, out: &mut Vec<u8>) {
        match self {
            Json::Plain(text) => out.extend_from_slice(text),
            Json::Text(text) => quoted(out, text),
            Json::Array(items) => {
                out.push(b'[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    item.minimal(out);
                }
                out.push(b']');
            }
            Json::Object(members) => {
                out.push(b'{');
                for (index, (name, value)) in members.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    quoted(out, name);
                    out.push(b':');
                    value.minimal(out);
                }
                out.push(b'}');
            }
        }
    }

    fn pretty(&self, out: &mut Vec<u8>, depth: usize) {
        let (open, close, count) = match self {
            Json::Array(items) => (b'[', b']', items.len()),
            Json::Object(members) => (b'{', b'}', members.len()),
            _ => return self.minimal(out),
        };
        out.push(open);
        if count > 0 {
            out.push(b'\n');
        }
        for index in 0..count {
            indent(out, 4 * (depth + 1));
            match self {
                Json::Array(items) => {
                    if let Some(item) = items.get(index) {
                        item.pretty(out, depth + 1);
                    }
                }
                Json::Object(members) => {
                    if let Some((name, value)) = members.get(index) {
                        quoted(out, name);
                        out.extend_from_slice(b": ");
                        value.pretty(out, depth + 1);
                    }
                }
                _ => {}
            }
            out.extend_from_slice(if index + 1 < count { b",\n" } else { b"\n" });
        }
        indent(out, 4 * depth);
        out.push(close);
    }

    fn yaml(&self, out: &mut Vec<u8>, depth: usize) {
        match self {
            Json::Plain(text) | Json::Text(text) => out.extend_from_slice(text),
            Json::Array(items) => {
                for item in items {
                    indent(out, 4 * depth + 2);
                    out.extend_from_slice(b"- ");
                    item.yaml_below(out, depth + 1);
                }
            }
            Json::Object(members) => {
                for (name, value) in members {
                    indent(out, 4 * depth);
                    out.extend_from_slice(name);
                    out.extend_from_slice(b": ");
                    value.yaml_below(out, depth + 1);
                }
            }
        }
    }

    /// A value behind a dash or a name: what has parts begins on the next line.
    fn yaml_below(&self, out: &mut Vec<u8>, depth: usize) {
        let parts = match self {
            Json::Array(items) => items.len(),
            Json::Object(members) => members.len(),
            _ => {
                self.yaml(out, depth);
                out.push(b'\n');
                return;
            }
        };
        out.push(b'\n');
        self.yaml(out, depth);
        if parts == 0 {
            out.push(b'\n');
        }
    }
}
