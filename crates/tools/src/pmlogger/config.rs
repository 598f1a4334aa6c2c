//! The language of a configuration (pmlogger(1), "CONFIGURATION FILE SYNTAX").

use super::access::{self, Access, Operations, Rule};
use crate::preprocess::Line;

/// The longest interval in milliseconds, "approximately 74 hours".
pub const DELTA_MAX: u64 = 0x0fff_ffff;

/// What is wanted of metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// Log them every so many milliseconds; 0 for once.
    On(u32),
    /// Do not.
    Off,
    /// Take advice.
    Maybe,
}

/// A specification: what is wanted of which metrics.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Statement {
    /// Mandatory rather than advisory.
    pub mandatory: bool,
    /// What is wanted.
    pub wanted: Wanted,
    /// Of which metrics.
    pub metrics: Vec<MetricSpec>,
}

/// A metric or a subtree, and instances.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MetricSpec {
    /// The name.
    pub name: String,
    /// The line for messages.
    pub line: usize,
    /// The instances; `None` for all.
    pub instances: Option<Vec<InstanceSpec>>,
}

/// An instance, by name or by number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum InstanceSpec {
    /// By its external name.
    Name(String),
    /// By its internal number.
    Number(i32),
}

/// Where and why reading ended early.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SpecificationError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

/// A configuration as far as it could be read.
#[derive(Default, Debug)]
pub struct Config {
    /// The specifications in order.
    pub statements: Vec<Statement>,
    /// Who may do what.
    pub access: Access,
    /// How many rules about the socket in the file system an earlier one contradicts.
    pub clashes: usize,
    /// What ended it early.
    pub error: Option<SpecificationError>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Token {
    Word(String),
    Number(u64),
    Text(String),
    Mark(char),
    Access,
    End,
}

struct Lexer<'a> {
    lines: &'a [Line],
    end: usize,
    line: usize,
    at: usize,
    in_access: bool,
}

impl Lexer<'_> {
    fn number(&self) -> usize {
        self.lines.get(self.line).map_or(self.end, |l| l.number)
    }

    /// The next token and its line.
    fn next(&mut self) -> Result<(Token, usize), SpecificationError> {
        loop {
            let number = self.number();
            let Some(line) = self.lines.get(self.line) else {
                return Ok((Token::End, number));
            };
            let rest = line.text.get(self.at..).unwrap_or("");
            let Some(c) = rest.chars().next().filter(|c| *c != '#') else {
                self.line += 1;
                self.at = 0;
                continue;
            };
            if c.is_whitespace() {
                self.at += c.len_utf8();
                continue;
            }
            if rest.starts_with("[access]") {
                self.at += "[access]".len();
                self.in_access = true;
                return Ok((Token::Access, number));
            }
            let (token, length) = if self.in_access {
                access_token(rest, c)
            } else {
                plain_token(rest, c)
            }
            .ok_or_else(|| SpecificationError {
                line: number,
                what: format!("Unexpected character '{c}'"),
            })?;
            self.at += length;
            return Ok((token, number));
        }
    }
}

/// How many bytes of a text are of a kind.
fn span(text: &str, of: impl Fn(char) -> bool) -> usize {
    text.find(|c| !of(c)).unwrap_or(text.len())
}

fn quoted(rest: &str) -> Option<(Token, usize)> {
    let inner = rest.get(1..)?;
    let end = inner.find('"')?;
    Some((Token::Text(inner.get(..end)?.to_owned()), end + 2))
}

fn plain_token(rest: &str, c: char) -> Option<(Token, usize)> {
    match c {
        // The last two are of the other section, and wrong here.
        '{' | '}' | '[' | ']' | ',' | ':' | ';' => Some((Token::Mark(c), 1)),
        '"' => quoted(rest),
        c if c.is_ascii_digit() => {
            let length = span(rest, |c| c.is_ascii_digit());
            let number = rest.get(..length)?.parse().unwrap_or(u64::MAX);
            Some((Token::Number(number), length))
        }
        c if c.is_ascii_alphabetic() => {
            let length = span(rest, |c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
            Some((Token::Word(rest.get(..length)?.to_owned()), length))
        }
        _ => None,
    }
}

fn access_token(rest: &str, c: char) -> Option<(Token, usize)> {
    match c {
        ',' | ';' => Some((Token::Mark(c), 1)),
        ':' if !rest.starts_with("::") && !rest.starts_with(":*") => Some((Token::Mark(c), 1)),
        '"' => quoted(rest),
        _ => {
            let mut length = span(rest, |c| {
                !c.is_whitespace() && !matches!(c, ',' | ';' | '"')
            });
            let mut word = rest.get(..length)?;
            // A colon at the end parts hosts from operations, unless the word is `unix:` or `local:` itself.
            if word.ends_with(':') && !word.ends_with("::") && !matches!(word, "unix:" | "local:") {
                length -= 1;
                word = rest.get(..length)?;
            } else if let Some((host, _)) = word.split_once(':')
                && word.matches(':').count() == 1
                && !matches!(host, "unix" | "local")
            {
                length = host.len();
                word = host;
            }
            (length > 0).then(|| (Token::Word(word.to_owned()), length))
        }
    }
}

/// Milliseconds in a unit of time.
pub fn unit(word: &str) -> Option<u64> {
    Some(match word.strip_suffix('s').unwrap_or(word) {
        "msec" | "millisecond" => 1,
        "sec" | "second" => 1000,
        "min" | "minute" => 60_000,
        "hour" => 3_600_000,
        _ => return None,
    })
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    token: Token,
    line: usize,
    default_delta: u32,
}

/// Reads a configuration; `default_delta` is what `default` means in milliseconds.
pub fn parse(lines: &[Line], end: usize, default_delta: u32) -> Config {
    let mut config = Config::default();
    let mut parser = Parser {
        lexer: Lexer {
            lines,
            end,
            line: 0,
            at: 0,
            in_access: false,
        },
        token: Token::End,
        line: 1,
        default_delta,
    };
    config.error = parser.parse(&mut config).err();
    config
}

impl Parser<'_> {
    fn advance(&mut self) -> Result<(), SpecificationError> {
        (self.token, self.line) = self.lexer.next()?;
        Ok(())
    }

    fn wrong(&self) -> SpecificationError {
        SpecificationError {
            line: self.line,
            what: "syntax error".to_owned(),
        }
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(&self.token, Token::Word(w) if w == word)
    }

    fn take_word(&mut self, word: &str) -> Result<bool, SpecificationError> {
        let found = self.is_word(word);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn parse(&mut self, config: &mut Config) -> Result<(), SpecificationError> {
        self.advance()?;
        loop {
            match &self.token {
                Token::End => return Ok(()),
                Token::Access => {
                    self.advance()?;
                    return self.rules(config);
                }
                _ => {}
            }
            let statement = Statement {
                mandatory: false,
                wanted: Wanted::Off,
                metrics: Vec::new(),
            };
            config.statements.push(statement);
            // What was read of a statement counts even if its rest is wrong: names are looked up as they come.
            if let Some(statement) = config.statements.last_mut() {
                self.statement(statement)?;
            }
        }
    }

    fn statement(&mut self, statement: &mut Statement) -> Result<(), SpecificationError> {
        self.take_word("log")?;
        statement.mandatory = self.take_word("mandatory")?;
        let advisory = !statement.mandatory && self.take_word("advisory")?;
        statement.wanted = if self.take_word("on")? {
            Wanted::On(self.interval()?)
        } else if self.take_word("off")? {
            Wanted::Off
        } else if !advisory && self.take_word("maybe")? {
            Wanted::Maybe
        } else {
            return Err(self.wrong());
        };
        if self.token != Token::Mark('{') {
            return self.metric(statement);
        }
        self.advance()?;
        if self.token == Token::Mark('}') {
            return Err(self.wrong());
        }
        while self.token != Token::Mark('}') {
            self.metric(statement)?;
            if self.token == Token::Mark(',') {
                self.advance()?;
            }
        }
        self.advance()
    }

    fn interval(&mut self) -> Result<u32, SpecificationError> {
        if self.take_word("once")? {
            return Ok(0);
        }
        if self.take_word("default")? {
            return Ok(self.default_delta);
        }
        self.take_word("every")?;
        let Token::Number(count) = self.token else {
            return Err(self.wrong());
        };
        self.advance()?;
        let scale = match &self.token {
            Token::Word(word) => unit(word),
            _ => None,
        };
        let scale = scale.ok_or_else(|| self.wrong())?;
        let delta = count.saturating_mul(scale);
        if delta > DELTA_MAX {
            return Err(SpecificationError {
                line: self.line,
                what: format!(
                    "Logging delta ({delta} msec) cannot be bigger than {DELTA_MAX} msec"
                ),
            });
        }
        self.advance()?;
        Ok(delta as u32)
    }

    fn metric(&mut self, statement: &mut Statement) -> Result<(), SpecificationError> {
        let Token::Word(name) = self.token.clone() else {
            return Err(self.wrong());
        };
        self.advance()?;
        let mut spec = MetricSpec {
            name,
            line: self.line,
            instances: None,
        };
        if self.token == Token::Mark('[') {
            self.advance()?;
            let mut list = Vec::new();
            loop {
                list.push(match &self.token {
                    Token::Word(name) | Token::Text(name) => InstanceSpec::Name(name.clone()),
                    Token::Number(number) => {
                        InstanceSpec::Number(i32::try_from(*number).unwrap_or(i32::MAX))
                    }
                    _ => return Err(self.wrong()),
                });
                self.advance()?;
                if self.token == Token::Mark(',') {
                    self.advance()?;
                } else if self.token == Token::Mark(']') {
                    break;
                }
            }
            spec.line = self.line;
            spec.instances = Some(list);
            statement.metrics.push(spec);
            return self.advance();
        }
        statement.metrics.push(spec);
        Ok(())
    }

    fn rules(&mut self, config: &mut Config) -> Result<(), SpecificationError> {
        let mut rules = Vec::new();
        while self.token != Token::End {
            let allow = if self.take_word("allow")? {
                true
            } else if self.take_word("disallow")? {
                false
            } else {
                return Err(self.wrong());
            };
            let mut hosts = Vec::new();
            loop {
                let (Token::Word(host) | Token::Text(host)) = &self.token else {
                    return Err(self.wrong());
                };
                hosts.push(access::hosts(host).map_err(|what| SpecificationError {
                    line: self.line,
                    what,
                })?);
                self.advance()?;
                if self.token != Token::Mark(',') {
                    break;
                }
                self.advance()?;
            }
            self.mark(':')?;
            let operations = self.operations()?;
            self.mark(';')?;
            for hosts in hosts {
                rules.push(Rule {
                    hosts,
                    operations,
                    allow,
                });
            }
        }
        let (rules, clashes) = access::consistent(rules);
        config.access = Access::new(rules);
        config.clashes = clashes;
        Ok(())
    }

    fn mark(&mut self, mark: char) -> Result<(), SpecificationError> {
        if self.token != Token::Mark(mark) {
            return Err(self.wrong());
        }
        self.advance()
    }

    fn operations(&mut self) -> Result<Operations, SpecificationError> {
        if self.take_word("all")? {
            if self.take_word("except")? {
                let except = self.operation_list()?;
                return Ok(Operations::ALL.without(except));
            }
            return Ok(Operations::ALL);
        }
        self.operation_list()
    }

    fn operation_list(&mut self) -> Result<Operations, SpecificationError> {
        let mut list = Operations::NONE;
        loop {
            let one = match &self.token {
                Token::Word(word) => Operations::named(word),
                _ => None,
            };
            list = list.with(one.ok_or_else(|| self.wrong())?);
            self.advance()?;
            if self.token != Token::Mark(',') {
                return Ok(list);
            }
            self.advance()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Config {
        let lines: Vec<Line> = text
            .lines()
            .enumerate()
            .map(|(i, l)| Line {
                number: i + 1,
                text: l.to_owned(),
            })
            .collect();
        parse(&lines, lines.len() + 1, 60_000)
    }

    fn error(text: &str) -> (usize, String) {
        let error = read(text).error.expect(text);
        (error.line, error.what)
    }

    #[test]
    fn the_manual_page_s_example() {
        let config = read(
            "log mandatory on once { hinv.ncpu hinv.ndisk }\nlog mandatory on every 10 minutes {\n\
             disk.all.write\nnetwork.interface.in.packets [ \"et0\" 3, lo ]\n}\nlog advisory on default environ.temp\n\
             mandatory maybe { a, b }\n[access]\ndisallow * : all except enquire;\nallow localhost : mandatory, advisory;\n",
        );
        assert_eq!(config.error, None);
        let wanted: Vec<_> = config
            .statements
            .iter()
            .map(|s| (s.mandatory, s.wanted, s.metrics.len()))
            .collect();
        assert_eq!(
            wanted,
            [
                (true, Wanted::On(0), 2),
                (true, Wanted::On(600_000), 2),
                (false, Wanted::On(60_000), 1),
                (true, Wanted::Maybe, 2)
            ]
        );
        let instances = config.statements[1].metrics[1].instances.clone();
        assert_eq!(
            instances,
            Some(vec![
                InstanceSpec::Name("et0".into()),
                InstanceSpec::Number(3),
                InstanceSpec::Name("lo".into())
            ])
        );
    }

    // Lines and words as Debian's pmlogger -C has them.
    #[test]
    fn mistakes_are_named_as_pmlogger_does() {
        let syntax = |line: usize| (line, "syntax error".to_owned());
        assert_eq!(error("log mandatory on 5 { sample.bin }\n"), syntax(1));
        assert_eq!(error("mandatory on sample.bin\n"), syntax(1));
        assert_eq!(error("log advisory maybe { sample.bin }\n"), syntax(1));
        assert_eq!(error("log mandatory on once { }\n"), syntax(1));
        assert_eq!(
            error("log mandatory on 1 min 30 sec sample.bin\n"),
            syntax(1)
        );
        assert_eq!(error("log mandatory on once a b\n"), syntax(1));
        assert_eq!(
            error("log mandatory on every 1.5 hours a\n"),
            (1, "Unexpected character '.'".into())
        );
        assert_eq!(
            error("log mandatory on 200 hours { sample.long }\n"),
            (
                1,
                "Logging delta (720000000 msec) cannot be bigger than 268435455 msec".into()
            )
        );
        assert_eq!(
            error("log on default a\n[access]\nallow * : all;\nallow * : enquire\n"),
            syntax(5)
        );
        assert_eq!(
            error("[access]\nallow * : all;\ndisallow * : bar;\n"),
            syntax(3)
        );
    }
}
