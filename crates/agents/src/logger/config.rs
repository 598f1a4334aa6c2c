//! `logger.conf`: a line for each source, `NAME y|n PATH` or `NAME y|n COMMAND |`.

/// Where lines come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceSpec {
    /// The part of the metrics' names.
    pub name: String,
    /// Whether only clients see the lines that store a filter first.
    pub restricted: bool,
    /// What stands behind: a file's name, or a command with the `|` behind it.
    pub path: String,
}

impl SourceSpec {
    /// The command whose output is wanted, when it is one.
    pub fn command(&self) -> Option<&str> {
        self.path.strip_suffix('|').map(str::trim_end)
    }
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A name that can't be part of a metric's.
    #[error("line {0}: '{1}' is no name: a letter was due, and letters, digits and _ behind it")]
    Name(usize, String),
    /// A name that was there before.
    #[error("line {0}: the name '{1}' is taken by an earlier line")]
    Again(usize, String),
    /// Neither `y` nor `n` behind a name.
    #[error("line {0}: y (restricted) or n was due behind '{1}', as in `{1} n /var/log/messages`")]
    Restricted(usize, String),
    /// Nothing behind that.
    #[error("line {0}: a file's name, or a command and |, was due for '{1}'")]
    Path(usize, String),
}

/// Reads the text of a configuration. Empty lines and those that begin with `#` say nothing.
///
/// # Errors
/// The first line that is wrong.
pub fn parse(text: &str) -> Result<Vec<SourceSpec>, ConfigError> {
    let mut sources: Vec<SourceSpec> = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, rest) = word(line);
        let letter = |c: char| c.is_ascii_alphabetic();
        let rest_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !name.starts_with(letter) || !name.chars().all(rest_of_name) {
            return Err(ConfigError::Name(number, name.to_owned()));
        }
        if sources.iter().any(|s| s.name == name) {
            return Err(ConfigError::Again(number, name.to_owned()));
        }
        let (restricted, path) = word(rest);
        let restricted = match restricted {
            "y" | "Y" => true,
            "n" | "N" => false,
            _ => return Err(ConfigError::Restricted(number, name.to_owned())),
        };
        if path.trim_end_matches('|').trim().is_empty() {
            return Err(ConfigError::Path(number, name.to_owned()));
        }
        sources.push(SourceSpec {
            name: name.to_owned(),
            restricted,
            path: path.to_owned(),
        });
    }
    Ok(sources)
}

fn word(text: &str) -> (&str, &str) {
    match text.split_once(char::is_whitespace) {
        Some((word, rest)) => (word, rest.trim_start()),
        None => (text, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_commands() {
        let text = "# logs\n\napp\tn /var/log/a b.log\nsecret y /var/log/auth.log\nout n tail -F x | grep y |\n";
        let sources = parse(text).expect("a configuration");
        let seen: Vec<_> = sources
            .iter()
            .map(|s| (s.name.as_str(), s.restricted, s.command()))
            .collect();
        assert_eq!(
            seen,
            [
                ("app", false, None),
                ("secret", true, None),
                ("out", false, Some("tail -F x | grep y"))
            ]
        );
        assert_eq!(sources[0].path, "/var/log/a b.log");
    }

    #[test]
    fn mistakes_name_their_line() {
        let wrong = |text| parse(text).expect_err(text).to_string();
        assert!(wrong("\n1a n /x").starts_with("line 2: '1a' is no name"));
        assert!(wrong("a n /x\na n /y").starts_with("line 2: the name 'a' is taken"));
        assert!(wrong("a /x").starts_with("line 1: y (restricted) or n was due"));
        assert!(wrong("a n").starts_with("line 1: a file's name"));
        assert!(wrong("a n |").starts_with("line 1: a file's name"));
    }
}
