//! The language of pmlc's commands (pmlc(1), COMMANDS).

use super::link::Target;

/// Milliseconds that an interval may have.
const DELTA_MAX: u64 = 0x0fff_ffff;

/// A command.
#[derive(Clone, PartialEq, Debug)]
pub enum Command {
    /// Which loggers run, on a host.
    Show(Option<String>),
    /// Connect to a logger, on a host.
    Connect(Target, Option<String>),
    /// Leave it.
    Disconnect,
    /// What it does.
    Status,
    /// Begin a volume.
    NewVolume,
    /// Write everything out.
    Flush,
    /// Show times as here.
    LocalZone,
    /// Show times as where the logger runs.
    LoggerZone,
    /// Show times as in a zone.
    Zone(String),
    /// Wait so many milliseconds.
    Sleep(u64),
    /// What commands there are.
    Help,
    /// No more.
    Quit,
    /// How metrics are logged.
    Query(Vec<MetricSpec>),
    /// Change how metrics are logged.
    Log {
        /// Mandatory rather than advisory.
        mandatory: bool,
        /// What is wanted.
        wanted: Wanted,
        /// Of which metrics.
        metrics: Vec<MetricSpec>,
    },
    /// An interval that is too long, in milliseconds.
    TooLong(u64),
}

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

/// A metric or a subtree, and instances.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MetricSpec {
    /// The name.
    pub name: String,
    /// The instances; none stand for all.
    pub instances: Vec<InstanceSpec>,
    /// The line it stands in.
    pub line: usize,
}

/// An instance, by name or by number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum InstanceSpec {
    /// By its external name.
    Name(String),
    /// By its internal number.
    Number(i32),
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Token {
    Word(String),
    Number(u64),
    Text(String),
    Mark(char),
    /// What is none, in words: it is an error when it comes to it.
    Bad(String),
}

/// Puts lines together to commands: within braces a command goes on.
#[derive(Default)]
pub struct Reader {
    /// With their lines.
    tokens: Vec<(Token, usize)>,
    line: usize,
}

/// Why lines are no command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wrong {
    /// In words.
    pub what: String,
    /// The metrics that were read of the command before: they were looked up by then.
    pub metrics: Vec<MetricSpec>,
}

const SYNTAX: &str = "syntax error";

impl Reader {
    /// Whether a command has begun and not ended.
    pub fn is_open(&self) -> bool {
        !self.tokens.is_empty()
    }

    /// The number of the line that comes next.
    pub fn next_line(&mut self) -> usize {
        self.line += 1;
        self.line
    }

    /// Takes a line in; a command when one is complete.
    ///
    /// # Errors
    /// What is wrong; what was read of the command is forgotten.
    pub fn line(&mut self, line: &str) -> Result<Option<Command>, Wrong> {
        let mut read = Vec::new();
        if let Err(what) = tokens(line, &mut read) {
            read.push(Token::Bad(what));
        }
        self.tokens
            .extend(read.into_iter().map(|token| (token, self.line)));
        let mut tokens = std::mem::take(&mut self.tokens);
        if tokens.is_empty() {
            return Ok(None);
        }
        let count = |mark| tokens.iter().filter(|t| t.0 == Token::Mark(mark)).count();
        let open = count('{') > count('}') || count('[') > count(']');
        let mut parser = Parser::over(&tokens);
        let command = parser.command();
        let whole = parser.at >= tokens.len() || matches!(command, Some(Command::TooLong(_)));
        match command {
            Some(command) if whole => Ok(Some(command)),
            None if open && parser.short => {
                self.tokens.append(&mut tokens);
                Ok(None)
            }
            command => {
                let at = parser.at - usize::from(command.is_none());
                let what = match tokens.get(at) {
                    Some((Token::Bad(what), _)) => what.clone(),
                    _ => SYNTAX.to_owned(),
                };
                let metrics = parser.metrics;
                Err(Wrong { what, metrics })
            }
        }
    }

    /// Takes the end in: what is wrong with a command that has not ended.
    pub fn end(&mut self) -> Option<Wrong> {
        let tokens = std::mem::take(&mut self.tokens);
        if tokens.is_empty() {
            return None;
        }
        let mut parser = Parser::over(&tokens);
        let _ = parser.command();
        Some(Wrong {
            what: SYNTAX.to_owned(),
            metrics: parser.metrics,
        })
    }
}

fn tokens(line: &str, found: &mut Vec<Token>) -> Result<(), String> {
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        let end = |of: fn(char) -> bool| rest.find(|c| !of(c)).unwrap_or(rest.len());
        let length = match c {
            '#' => return Ok(()),
            c if c.is_whitespace() => c.len_utf8(),
            '{' | '}' | '[' | ']' | ',' | '?' => {
                found.push(Token::Mark(c));
                1
            }
            '@' => {
                found.push(Token::Mark('@'));
                let after = rest.get(1..).unwrap_or("");
                let host = after.trim_start();
                let length = host.find(|c: char| c.is_whitespace()).unwrap_or(host.len());
                if let Some(name) = host.get(..length).filter(|n| !n.is_empty()) {
                    found.push(Token::Text(name.to_owned()));
                }
                1 + (after.len() - host.len()) + length
            }
            '"' => {
                let inner = rest.get(1..).unwrap_or("");
                let close = inner.find('"').ok_or(SYNTAX)?;
                found.push(Token::Text(inner.get(..close).unwrap_or("").to_owned()));
                close + 2
            }
            c if c.is_ascii_digit() => {
                let length = end(|c| c.is_ascii_digit());
                let number = rest.get(..length).and_then(|n| n.parse().ok());
                found.push(Token::Number(number.unwrap_or(u64::MAX)));
                length
            }
            c if c.is_ascii_alphabetic() => {
                let length = end(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'));
                found.push(Token::Word(rest.get(..length).unwrap_or("").to_owned()));
                length
            }
            c => return Err(format!("Unexpected character '{c}'")),
        };
        rest = rest.get(length..).unwrap_or("");
    }
    Ok(())
}

struct Parser<'a> {
    tokens: &'a [(Token, usize)],
    at: usize,
    /// Whether a word was wanted that did not come yet.
    short: bool,
    /// The metrics of a list that were read.
    metrics: Vec<MetricSpec>,
}

impl<'a> Parser<'a> {
    fn over(tokens: &'a [(Token, usize)]) -> Parser<'a> {
        Parser {
            tokens,
            at: 0,
            short: false,
            metrics: Vec::new(),
        }
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(token, _)| token)
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.peek().cloned();
        self.short = token.is_none();
        self.at += 1;
        token
    }

    fn take(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Word(w)) if w == word);
        self.at += usize::from(found);
        found
    }

    fn number(&mut self) -> Option<u64> {
        match self.next()? {
            Token::Number(number) => Some(number),
            _ => None,
        }
    }

    /// `@host`, `at host` or nothing; `None` when it is cut short.
    fn host(&mut self) -> Option<Option<String>> {
        if self.peek() == Some(&Token::Mark('@')) || self.take("at") {
            if self.peek() == Some(&Token::Mark('@')) {
                self.at += 1;
            }
            return match self.next()? {
                Token::Text(name) | Token::Word(name) => Some(Some(name)),
                _ => None,
            };
        }
        Some(None)
    }

    fn command(&mut self) -> Option<Command> {
        let word = match self.next()? {
            Token::Word(word) => word,
            Token::Mark('?') => return Some(Command::Help),
            _ => return None,
        };
        Some(match word.as_str() {
            "show" => {
                self.take("loggers");
                Command::Show(self.host()?)
            }
            "connect" => {
                let target = match self.next()? {
                    Token::Number(pid) => Target::Pid(i32::try_from(pid).ok()?),
                    Token::Word(word) if word == "primary" => Target::Primary,
                    Token::Word(word) if word == "port" => {
                        Target::Port(u16::try_from(self.number()?).ok()?)
                    }
                    _ => return None,
                };
                Command::Connect(target, self.host()?)
            }
            "disconnect" => Command::Disconnect,
            "status" => Command::Status,
            "new" => self.take("volume").then_some(Command::NewVolume)?,
            "flush" | "sync" => Command::Flush,
            "sleep" => Command::Sleep(self.number()?),
            "help" | "h" => Command::Help,
            "quit" => Command::Quit,
            "timezone" => match self.next()? {
                Token::Word(word) if word == "local" => Command::LocalZone,
                Token::Word(word) if word == "logger" => Command::LoggerZone,
                Token::Text(zone) => Command::Zone(zone),
                _ => return None,
            },
            "query" => Command::Query(self.metrics()?),
            "log" => {
                let Token::Word(word) = self.next()? else {
                    return None;
                };
                self.log(&word)?
            }
            word => self.log(word)?,
        })
    }

    fn log(&mut self, level: &str) -> Option<Command> {
        let mandatory = match level {
            "mandatory" => true,
            "advisory" => false,
            _ => return None,
        };
        let wanted = if self.take("on") {
            match self.interval()? {
                delta if delta > DELTA_MAX => return Some(Command::TooLong(delta)),
                delta => Wanted::On(delta as u32),
            }
        } else if self.take("off") {
            Wanted::Off
        } else if mandatory && self.take("maybe") {
            Wanted::Maybe
        } else {
            return None;
        };
        Some(Command::Log {
            mandatory,
            wanted,
            metrics: self.metrics()?,
        })
    }

    fn interval(&mut self) -> Option<u64> {
        if self.take("once") {
            return Some(0);
        }
        self.take("every");
        let count = self.number()?;
        match self.next()? {
            Token::Word(word) => Some(count.saturating_mul(crate::pmlogger::time_unit(&word)?)),
            _ => None,
        }
    }

    fn metrics(&mut self) -> Option<Vec<MetricSpec>> {
        if self.peek() != Some(&Token::Mark('{')) {
            return Some(vec![self.metric()?]);
        }
        self.at += 1;
        loop {
            let metric = self.metric()?;
            self.metrics.push(metric);
            match self.peek() {
                Some(Token::Mark('}')) => {
                    self.at += 1;
                    return Some(std::mem::take(&mut self.metrics));
                }
                Some(Token::Mark(',')) => self.at += 1,
                _ => {}
            }
        }
    }

    fn metric(&mut self) -> Option<MetricSpec> {
        let Token::Word(name) = self.next()? else {
            return None;
        };
        let line = self.tokens.get(self.at - 1).map_or(0, |(_, line)| *line);
        let mut instances = Vec::new();
        if self.peek() == Some(&Token::Mark('[')) {
            self.at += 1;
            loop {
                match self.next()? {
                    Token::Word(name) | Token::Text(name) => {
                        instances.push(InstanceSpec::Name(name));
                    }
                    Token::Number(number) => {
                        instances.push(InstanceSpec::Number(i32::try_from(number).ok()?));
                    }
                    Token::Mark(',') if !instances.is_empty() => {}
                    Token::Mark(']') if !instances.is_empty() => break,
                    _ => return None,
                }
            }
        }
        Some(MetricSpec {
            name,
            instances,
            line,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str) -> Result<Option<Command>, String> {
        Reader::default().line(line).map_err(|wrong| wrong.what)
    }

    #[test]
    fn commands() {
        assert_eq!(
            one("show loggers @ host.name\n"),
            Ok(Some(Command::Show(Some("host.name".into()))))
        );
        assert_eq!(
            one("connect 12 @h # now\n"),
            Ok(Some(Command::Connect(Target::Pid(12), Some("h".into()))))
        );
        let spec = |name: &str, instances| MetricSpec {
            name: name.into(),
            instances,
            line: 0,
        };
        assert_eq!(
            one("log mandatory on every 2 min { a.b , c[\"x\", 7] }\n"),
            Ok(Some(Command::Log {
                mandatory: true,
                wanted: Wanted::On(120_000),
                metrics: vec![
                    spec("a.b", vec![]),
                    spec(
                        "c",
                        vec![InstanceSpec::Name("x".into()), InstanceSpec::Number(7)]
                    )
                ]
            }))
        );
        // What Debian's pmlc refuses.
        for line in [
            "log advisory maybe a",
            "log mandatory on a",
            "log mandatory on default a",
            "new foo",
            "help foo",
            "sleep",
            "query",
            "new volume quit",
        ] {
            assert_eq!(one(line), Err(SYNTAX.to_owned()), "{line}");
        }
        assert_eq!(one("timezone 'x'"), Err("Unexpected character '''".into()));
        let interval = "on every 1.5 hours a";
        let point = Err("Unexpected character '.'".to_owned());
        assert_eq!(one(&format!("log mandatory {interval}")), point);
        assert_eq!(one(&format!("man {interval}")), Err(SYNTAX.to_owned()));
    }

    #[test]
    fn braces_go_over_lines() {
        let mut reader = Reader::default();
        assert_eq!(reader.line("query {\n"), Ok(None));
        assert!(reader.is_open());
        assert_eq!(reader.line("a\n"), Ok(None));
        assert!(matches!(reader.line("}\n"), Ok(Some(Command::Query(m))) if m.len() == 1));
        // What can be no end of it is wrong at once; the metrics before it were read.
        reader.next_line();
        assert_eq!(reader.line("query { a\n"), Ok(None));
        reader.next_line();
        let wrong = reader
            .line("b c[1] {\n")
            .expect_err("a brace within braces");
        let names: Vec<(&str, usize)> = wrong.metrics.iter().map(|m| (&*m.name, m.line)).collect();
        assert_eq!(names, [("a", 1), ("b", 2), ("c", 2)]);
        assert_eq!(reader.line("query { a\n"), Ok(None));
        assert!(reader.end().is_some_and(|wrong| wrong.metrics.len() == 1));
        assert_eq!(reader.end(), None);
    }
}
