//! Command-line options as PCP's tools take them: getopt's rules, words and usage texts (pmGetOptions(3)).

use crate::json;

/// Letters that stand for options which have a long name only, and take an argument.
pub const LONG_ONLY: std::ops::RangeInclusive<char> = '\u{e000}'..='\u{e0ff}';

/// What a tool takes.
pub struct Spec<'a> {
    /// The tool's name, for messages.
    pub tool: &'a str,
    /// Short options as getopt(3) writes them: a colon behind one says that it takes an argument, a plus ahead of all that
    /// none stands behind the first other word.
    pub short: &'a str,
    /// Long options and the short ones that they stand for.
    pub long: &'a [(&'a str, char)],
    /// The usage text.
    pub usage: &'a str,
}

/// What a command line says.
pub struct Parsed {
    /// Options in order, with their arguments.
    pub options: Vec<(char, Option<String>)>,
    /// The other words.
    pub words: Vec<String>,
}

impl Spec<'_> {
    fn takes_argument(&self, option: char) -> Option<bool> {
        if LONG_ONLY.contains(&option) {
            return Some(true);
        }
        let at = self.short.find(option).filter(|_| option != ':')?;
        Some(self.short.get(at + option.len_utf8()..)?.starts_with(':'))
    }

    fn wrong(&self, what: &str) -> String {
        format!("{}: {what}\n{}", self.tool, self.usage)
    }

    fn long_option(&self, word: &str) -> Result<char, String> {
        if let Some((_, option)) = self.long.iter().find(|(name, _)| *name == word) {
            return Ok(*option);
        }
        let mut near = self.long.iter().filter(|(name, _)| name.starts_with(word));
        match (near.next(), near.next()) {
            (Some((_, option)), None) => Ok(*option),
            (Some(_), Some(_)) => Err(self.wrong(&format!("option '--{word}' is ambiguous"))),
            (None, _) => Err(self.wrong(&format!("unrecognized option '--{word}'"))),
        }
    }

    /// Sorts a command line's words, the tool's name not among them, into options and others. What `-D` names is switched
    /// on ([`pcp::debug`]).
    ///
    /// # Errors
    /// The text for standard error: what is wrong, and the usage.
    pub fn parse(&self, args: impl IntoIterator<Item = String>) -> Result<Parsed, String> {
        let parsed = self.sort(args)?;
        let help = parsed.options.iter().any(|(option, _)| *option == '?');
        if help && self.long.contains(&json::LONG) {
            return Err(format!("{}{}", self.usage, json::HELP));
        }
        if let Some(what) = pcp::debug::refused() {
            return Err(self.wrong(&format!(
                "unrecognized debug options specification ({what})"
            )));
        }
        for (option, value) in &parsed.options {
            if let ('D', Some(what)) = (option, value)
                && pcp::debug::set(what).is_none()
            {
                return Err(self.wrong(&format!(
                    "unrecognized debug options specification ({what})"
                )));
            }
        }
        Ok(parsed)
    }

    fn sort(&self, args: impl IntoIterator<Item = String>) -> Result<Parsed, String> {
        let mut parsed = Parsed {
            options: Vec::new(),
            words: Vec::new(),
        };
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            if arg == "--" {
                parsed.words.extend(args);
                break;
            }
            if let Some(long) = arg.strip_prefix("--") {
                let (name, value) = match long.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (long, None),
                };
                let option = self.long_option(name)?;
                let value = match (self.takes_argument(option), value) {
                    (Some(true), None) => Some(args.next().ok_or_else(|| {
                        self.wrong(&format!("option '--{name}' requires an argument"))
                    })?),
                    (Some(true), value) => value,
                    (_, Some(_)) => {
                        return Err(
                            self.wrong(&format!("option '--{name}' doesn't allow an argument"))
                        );
                    }
                    (_, None) => None,
                };
                parsed.options.push((option, value));
                continue;
            }
            let Some(letters) = arg.strip_prefix('-').filter(|l| !l.is_empty()) else {
                parsed.words.push(arg);
                if self.short.starts_with('+') {
                    parsed.words.extend(args);
                    break;
                }
                continue;
            };
            let mut rest = letters;
            while let Some(option) = rest.chars().next() {
                rest = rest.get(option.len_utf8()..).unwrap_or("");
                match self.takes_argument(option) {
                    None => return Err(self.wrong(&format!("invalid option -- '{option}'"))),
                    Some(false) => parsed.options.push((option, None)),
                    Some(true) => {
                        let value = if rest.is_empty() {
                            args.next().ok_or_else(|| {
                                self.wrong(&format!("option requires an argument -- '{option}'"))
                            })?
                        } else {
                            std::mem::take(&mut rest).to_owned()
                        };
                        parsed.options.push((option, Some(value)));
                    }
                }
            }
        }
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: Spec = Spec {
        tool: "tool",
        short: "aS:?",
        long: &[("all", 'a'), ("start", 'S'), ("state", 'a')],
        usage: "Usage: tool\n",
    };

    fn parse(words: &[&str]) -> Result<Parsed, String> {
        SPEC.parse(words.iter().map(|w| (*w).to_owned()))
    }

    #[test]
    fn getopt_rules() {
        let parsed = parse(&["x", "-aSnow", "--start=t", "--all", "--", "-a"]).expect("options");
        let some = |t: &str| Some(t.to_owned());
        assert_eq!(
            parsed.options,
            [
                ('a', None),
                ('S', some("now")),
                ('S', some("t")),
                ('a', None)
            ]
        );
        assert_eq!(parsed.words, ["x", "-a"]);
        let wrong = |words: &[&str]| parse(words).err().expect("an error");
        assert_eq!(wrong(&["-q"]), "tool: invalid option -- 'q'\nUsage: tool\n");
        assert_eq!(
            wrong(&["-S"]),
            "tool: option requires an argument -- 'S'\nUsage: tool\n"
        );
        assert_eq!(
            wrong(&["--st"]),
            "tool: option '--st' is ambiguous\nUsage: tool\n"
        );
    }
}
