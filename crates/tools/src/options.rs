//! Command-line options as PCP's tools take them: one table says what a tool takes and makes its usage text
//! (pmGetOptions(3), pmUsageMessage(3)).

pub mod rows;

use std::fmt::Write;
use std::io;

use self::rows::{DEBUG, Opt, Row};
use crate::source::{Source, VERSION};

/// What a tool takes.
pub struct Spec {
    /// The tool's name, for messages.
    pub tool: &'static str,
    /// What the first line of the usage text says behind it.
    pub words: &'static str,
    /// Its options, in the order of the usage text.
    pub rows: &'static [Row],
    /// The other words may say where metrics come from, so that nothing is missing when options do not.
    pub source_in_words: bool,
    /// Nothing behind the first other word is an option.
    pub words_end_options: bool,
    /// A window of time may begin later with a live host, too, and the zone of a host needs none that is named.
    pub live_windows: bool,
    /// What is said of `-Z` beside `-z`.
    pub two_zones: &'static str,
    /// What is said of a second host, where that is not which.
    pub two_hosts: Option<&'static str>,
    /// Intervals are read as pmParseInterval(3) does, not pmParseHighResInterval(3).
    pub microseconds: bool,
    /// The names of `-n` are all shown of an archive, those that are not in it among them.
    pub whole_names: bool,
    /// A live host is asked for its name, and what zone times are shown in is said.
    pub names_host: bool,
}

/// Why a tool ends before its time.
pub enum Refusal {
    /// The usage text was asked for.
    Help,
    /// What is wrong with the command line; the usage text follows.
    Usage(String),
    /// What went wrong.
    Failed(String),
    /// Nothing: this is what was asked for.
    Done(String),
    /// Standard output cannot be written.
    Output(io::Error),
}

impl Refusal {
    /// What is to be said.
    pub fn text(self) -> String {
        match self {
            Refusal::Help => String::new(),
            Refusal::Usage(text) | Refusal::Failed(text) | Refusal::Done(text) => text,
            Refusal::Output(error) => error.to_string(),
        }
    }
}

impl From<String> for Refusal {
    fn from(text: String) -> Refusal {
        Refusal::Failed(text)
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Refusal {
        Refusal::Output(error)
    }
}

/// An option of the command line with its argument, which is empty without one; or what is wrong with it.
type Given = Result<(Opt, String), String>;

impl Spec {
    /// A tool without any options.
    pub const PLAIN: Spec = Spec {
        tool: "",
        words: "",
        rows: &[],
        source_in_words: false,
        words_end_options: false,
        live_windows: false,
        two_zones: "at most one of -Z and -z allowed",
        two_hosts: None,
        microseconds: false,
        whole_names: false,
        names_host: true,
    };

    fn options(&self) -> impl Iterator<Item = &Opt> {
        let own = self.rows.iter().filter_map(|row| match row {
            Row::Option(option) => Some(option),
            Row::Section(_) | Row::Text(_) => None,
        });
        own.chain([&DEBUG])
    }

    /// A complaint about the command line.
    pub fn wrong(&self, what: impl std::fmt::Display) -> Refusal {
        Refusal::Usage(format!("{}: {what}\n", self.tool))
    }

    /// A number, or the complaint that it is none.
    ///
    /// # Errors
    /// The complaint.
    pub fn number<N: std::str::FromStr>(&self, text: &str, what: &str) -> Result<N, Refusal> {
        // Nothing is as good as none, as strtol(3) has it.
        let digits = if text.is_empty() {
            "0"
        } else {
            text.trim_start()
        };
        digits.parse().map_err(|_| self.wrong(what))
    }

    /// The usage text that PCP's tool has.
    pub fn usage(&self) -> String {
        let mut text = format!("Usage: {} {}\n", self.tool, self.words);
        for row in self.rows {
            let _ = match row {
                Row::Section(title) => write!(text, "\n{title}:\n"),
                Row::Text(lines) => write!(text, "{lines}"),
                Row::Option(option) if option.own || option.help.is_empty() => Ok(()),
                Row::Option(option) => write!(text, "{}", option.usage()),
            };
        }
        text
    }

    /// The usage text for those who ask for it, with the options that PCP's tool has not.
    fn help(&self) -> String {
        let own: String = self.options().filter(|o| o.own).map(Opt::usage).collect();
        let heading = if own.is_empty() {
            ""
        } else {
            "\nBeside PCP's:\n"
        };
        self.usage() + heading + &own
    }

    /// Runs a tool and says why it ended, if that was before its time. Returns the exit status.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn run(&self, tool: impl FnOnce(&Spec) -> Result<u8, Refusal>) -> io::Result<u8> {
        match tool(self) {
            Ok(status) => return Ok(status),
            Err(Refusal::Help) => eprint!("{}", self.help()),
            Err(Refusal::Usage(text)) => eprint!("{text}{}", self.usage()),
            Err(Refusal::Failed(text)) => eprint!("{text}"),
            Err(Refusal::Done(text)) => {
                eprint!("{text}");
                return Ok(0);
            }
            Err(Refusal::Output(error)) => return Err(error),
        }
        Ok(1)
    }

    /// Reads a command line, the tool's name not in it. The tool takes its own options, with their letter and argument, and
    /// returns false for others, which `source` takes. What `-D` names is switched on ([`pcp::debug`]). The result are the
    /// other words.
    ///
    /// As pmGetOptions(3) does, all options are looked at before anything is said of those that are wrong.
    ///
    /// # Errors
    /// What is wrong with the options, or what they ask for instead of the tool's work.
    pub fn parse(
        &self,
        args: impl IntoIterator<Item = String>,
        source: &mut Source,
        take: impl FnMut(char, &str) -> Result<bool, Refusal>,
    ) -> Result<Vec<String>, Refusal> {
        self.parse_and_check(args, source, take, |_| Ok(()))
    }

    /// The same for tools that say what is wrong with the other words at the same time as what is wrong with options.
    ///
    /// # Errors
    /// As before.
    pub fn parse_and_check(
        &self,
        args: impl IntoIterator<Item = String>,
        source: &mut Source,
        mut take: impl FnMut(char, &str) -> Result<bool, Refusal>,
        check: impl FnOnce(&[String]) -> Result<(), Refusal>,
    ) -> Result<Vec<String>, Refusal> {
        let (given, words) = self.sort(args);
        if let Some(what) = pcp::debug::refused() {
            let what = format!("unrecognized debug options specification ({what})");
            return Err(self.wrong(what));
        }
        let mut said = String::new();
        let (mut help, mut version) = (false, false);
        for option in given {
            let done = match option {
                Err(what) => Err(self.wrong(what)),
                Ok((option, _)) if option.letter == '?' => {
                    help = true;
                    continue;
                }
                Ok((option, _)) if option.is_version() => {
                    version = true;
                    said += &format!("{} version {VERSION}\n", self.tool);
                    continue;
                }
                Ok((option, value)) => self.taken(option.letter, &value, source, &mut take),
            };
            match done {
                Ok(()) => {}
                Err(Refusal::Usage(what)) => said += &what,
                Err(refusal) => return Err(refusal),
            }
        }
        match source.check(self).and_then(|()| check(&words)) {
            Err(Refusal::Usage(what)) => said += &what,
            checked => checked?,
        }
        if version {
            return Err(Refusal::Done(said));
        }
        if !said.is_empty() {
            return Err(Refusal::Usage(said));
        }
        if help {
            return Err(Refusal::Help);
        }
        Ok(words)
    }

    fn taken(
        &self,
        letter: char,
        value: &str,
        source: &mut Source,
        take: &mut impl FnMut(char, &str) -> Result<bool, Refusal>,
    ) -> Result<(), Refusal> {
        // pcp hands it on as it is.
        if letter == DEBUG.letter && self.tool != "pcp" && pcp::debug::set(value).is_none() {
            let what = if self.tool == "pmlogger" {
                "flag"
            } else {
                "options"
            };
            return Err(self.wrong(format!("unrecognized debug {what} specification ({value})")));
        }
        if !take(letter, value)? {
            source.option(self, letter, value)?;
        }
        Ok(())
    }

    /// The option that a name or the beginning of one means, of a word behind two dashes.
    fn long_option(&self, word: &str, given: &str) -> Result<Opt, String> {
        if let Some(option) = self.options().find(|o| o.long == word) {
            return Ok(*option);
        }
        // Our own do not make what PCP takes ambiguous.
        let mut near = self
            .options()
            .filter(|o| !o.own && !o.long.is_empty() && o.long.starts_with(word));
        match (near.next(), near.next()) {
            (Some(option), None) => Ok(*option),
            (Some(option), Some(again)) if option.letter == again.letter => Ok(*option),
            (Some(first), Some(second)) => {
                let all = [first, second].into_iter().chain(near);
                let names: String = all.map(|o| format!(" '--{}'", o.long)).collect();
                Err(format!(
                    "option '--{given}' is ambiguous; possibilities:{names}"
                ))
            }
            (None, _) => Err(format!("unrecognized option '--{given}'")),
        }
    }

    /// Sorts words into options and others by the rules of getopt(3).
    fn sort(&self, args: impl IntoIterator<Item = String>) -> (Vec<Given>, Vec<String>) {
        let (mut given, mut words) = (Vec::new(), Vec::new());
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            if arg == "--" {
                words.extend(args);
                break;
            }
            if let Some(long) = arg.strip_prefix("--") {
                let (name, value) = match long.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (long, None),
                };
                given.push(self.long_option(name, long).and_then(|option| {
                    let name = option.long;
                    match (option.argument, value) {
                        (Some(_), Some(value)) => Ok((option, value)),
                        (Some(_), None) => match args.next() {
                            Some(value) => Ok((option, value)),
                            None => Err(format!("option '--{name}' requires an argument")),
                        },
                        (None, None) => Ok((option, String::new())),
                        (None, Some(_)) => {
                            Err(format!("option '--{name}' doesn't allow an argument"))
                        }
                    }
                }));
                continue;
            }
            let Some(letters) = arg.strip_prefix('-').filter(|l| !l.is_empty()) else {
                words.push(arg);
                if self.words_end_options {
                    words.extend(args);
                    break;
                }
                continue;
            };
            let mut letters = letters.chars();
            while let Some(letter) = letters.next() {
                let known = self.options().find(|o| o.letter == letter && !o.long_only);
                let Some(option) = known else {
                    given.push(Err(format!("invalid option -- '{letter}'")));
                    continue;
                };
                let mut value = String::new();
                if option.argument.is_some() {
                    value = letters.by_ref().collect();
                    if value.is_empty() {
                        let Some(next) = args.next() else {
                            let what = format!("option requires an argument -- '{letter}'");
                            given.push(Err(what));
                            break;
                        };
                        value = next;
                    }
                }
                given.push(Ok((*option, value)));
            }
        }
        (given, words)
    }
}

#[cfg(test)]
mod tests {
    use super::rows::{HELP, JSON, SHOW_VERSION, START, flag};
    use super::*;

    const SPEC: Spec = Spec {
        tool: "tool",
        words: "[options]",
        rows: &[
            Row::Section("Options"),
            flag('a', "all", "everything"),
            START,
            flag('b', "state", "how it is"),
            SHOW_VERSION,
            JSON,
            HELP,
        ],
        source_in_words: true,
        ..Spec::PLAIN
    };

    const USAGE: &str = "\
Usage: tool [options]

Options:
  -a, --all             everything
  -S TIME, --start=TIME start of the time window
  -b, --state           how it is
  -V, --version         display version number and exit
  -?, --help            show this usage message and exit
";

    type Seen = (Vec<(char, String)>, Option<String>, Vec<String>);

    fn parse(words: &[&str]) -> Result<Seen, Refusal> {
        let (mut source, mut seen) = (Source::default(), Vec::new());
        let words = words.iter().map(|w| (*w).to_owned());
        let words = SPEC.parse(words, &mut source, |letter, value| {
            if letter == 'S' {
                return Ok(false);
            }
            seen.push((letter, value.to_owned()));
            Ok(true)
        })?;
        Ok((seen, source.window.start, words))
    }

    fn wrong(words: &[&str]) -> String {
        match parse(words) {
            Err(Refusal::Usage(text) | Refusal::Done(text)) => text,
            _ => panic!("{words:?} are taken"),
        }
    }

    #[test]
    fn getopt_rules() {
        let parsed = parse(&["x", "-aSnow", "--start=t", "--al", "--", "-a"]);
        let Ok((seen, start, words)) = parsed else {
            panic!("these are options");
        };
        assert_eq!(seen, [('a', String::new()), ('a', String::new())]);
        assert_eq!(start.as_deref(), Some("t"));
        assert_eq!(words, ["x", "-a"]);
        assert_eq!(wrong(&["-S"]), "tool: option requires an argument -- 'S'\n");
        assert_eq!(
            wrong(&["--st"]),
            "tool: option '--st' is ambiguous; possibilities: '--start' '--state'\n"
        );
        assert_eq!(
            wrong(&["--all=x"]),
            "tool: option '--all' doesn't allow an argument\n"
        );
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let said = "tool: invalid option -- 'q'\ntool: invalid option -- 'r'\n";
        assert_eq!(wrong(&["-qar", "-?"]), said);
        assert_eq!(
            wrong(&["-V", "-q"]),
            "tool version 6.0.3\ntool: invalid option -- 'q'\n"
        );
    }

    #[test]
    fn usage_text_is_made_of_the_table() {
        assert_eq!(SPEC.usage(), USAGE);
        let own = "\nBeside PCP's:\n  --json                print a line of JSON for each value\n";
        assert_eq!(SPEC.help(), format!("{USAGE}{own}"));
    }
}
