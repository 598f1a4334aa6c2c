//! The rows of tables of options: how a tool says what it takes, and the options that many have in common (PCPIntro(1)).

use std::fmt::Write;

/// An option of a tool.
#[derive(Clone, Copy)]
pub struct Opt {
    /// Its letter, which stands for it in the code; a letter of [`long_only`] when it has none.
    pub(super) letter: char,
    /// Its long name, empty without one.
    pub(super) long: &'static str,
    /// What usage texts call its argument, if it takes one.
    pub(super) argument: Option<&'static str>,
    /// What usage texts say of it; those that say nothing leave it out.
    pub(super) help: &'static str,
    /// Its letter stands in the usage text but is not taken, as in some tools of PCP.
    pub(super) long_only: bool,
    /// PCP's tool does not have it: its usage text speaks of it only where it is asked for.
    pub(super) own: bool,
}

/// A line of a tool's table.
#[derive(Clone, Copy)]
pub enum Row {
    /// A heading over the options below.
    Section(&'static str),
    /// Lines as they are.
    Text(&'static str),
    /// An option.
    Option(Opt),
}

/// The letter of an option that has a long name only, by a number of one's own.
pub const fn long_only(number: u8) -> char {
    // The first of Unicode's letters for private use.
    match char::from_u32(0xe000 + number as u32) {
        Some(letter) => letter,
        None => '\0',
    }
}

/// An option without an argument.
pub const fn flag(letter: char, long: &'static str, help: &'static str) -> Row {
    row(letter, long, None, help, false)
}

/// An option without an argument that PCP's usage text has a letter for, but no tool takes it.
pub const fn long_flag(letter: char, long: &'static str, help: &'static str) -> Row {
    Row::Option(Opt {
        letter,
        long,
        argument: None,
        help,
        long_only: true,
        own: false,
    })
}

/// An option with an argument.
pub const fn value(
    letter: char,
    long: &'static str,
    argument: &'static str,
    help: &'static str,
) -> Row {
    row(letter, long, Some(argument), help, false)
}

/// Lines as they are.
pub const fn text(lines: &'static str) -> Row {
    Row::Text(lines)
}

/// A heading over the options below.
pub const fn section(title: &'static str) -> Row {
    Row::Section(title)
}

const fn row(
    letter: char,
    long: &'static str,
    argument: Option<&'static str>,
    help: &'static str,
    own: bool,
) -> Row {
    Row::Option(Opt {
        letter,
        long,
        argument,
        help,
        long_only: false,
        own,
    })
}

/// `--container`.
pub const CONTAINER_ONLY: char = long_only(0);
/// `--derived` where it has no letter.
pub const DERIVED_ONLY: char = long_only(1);
/// `--json`.
pub const JSON_ONLY: char = long_only(2);

/// A heading of usage texts.
pub const GENERAL: Row = Row::Section("General options");
/// A heading of usage texts.
pub const OPTIONS: Row = Row::Section("Options");
/// A heading of usage texts.
pub const REPORTING: Row = Row::Section("Reporting options");
/// `--align`.
pub const ALIGN: Row = value(
    'A',
    "align",
    "TIME",
    "align sample times on natural boundaries",
);
/// `--archive`.
pub const ARCHIVE: Row = value(
    'a',
    "archive",
    "FILE",
    "metrics source is a PCP log archive",
);
/// `--container`.
pub const CONTAINER: Row = value(
    CONTAINER_ONLY,
    "container",
    "NAME",
    "specify an individual container to be queried",
);
/// `--derived`.
pub const DERIVED: Row = value(
    DERIVED_ONLY,
    "derived",
    "FILE",
    "load derived metric definitions from FILE(s)",
);
/// `--finish`.
pub const FINISH: Row = value('T', "finish", "TIME", "end of the time window");
/// `--guimode`.
pub const GUI_MODE: Row = flag('g', "guimode", "start in GUI mode with new time control");
/// `--guiport`.
pub const GUI_PORT: Row = value(
    'p',
    "guiport",
    "N",
    "port for connection to existing time control",
);
/// `--help`.
pub const HELP: Row = flag('?', "help", "show this usage message and exit");
/// `--host`.
pub const HOST: Row = value('h', "host", "HOST", "metrics source is PMCD on host");
/// `--hostzone`.
pub const HOST_ZONE: Row = flag(
    'z',
    "hostzone",
    "set reporting timezone to local time of metrics source",
);
/// `--interval`.
pub const INTERVAL: Row = value('t', "interval", "DELTA", "sampling interval");
/// `--local-PMDA`.
pub const LOCAL: Row = flag(
    'L',
    "local-PMDA",
    "metrics source is local connection to a PMDA",
);
/// `--namespace`.
pub const NAMESPACE: Row = value('n', "namespace", "FILE", "use an alternative PMNS");
/// `--origin`.
pub const ORIGIN: Row = value(
    'O',
    "origin",
    "TIME",
    "initial sample time within the time window",
);
/// `--samples`.
pub const SAMPLES: Row = value('s', "samples", "N", "terminate after this many samples");
/// `--spec-local`.
pub const SPEC_LOCAL: Row = value(
    'K',
    "spec-local",
    "SPEC",
    "optional additional PMDA spec for local connection",
);
/// `--start`.
pub const START: Row = value('S', "start", "TIME", "start of the time window");
/// `--timezone`.
pub const TIMEZONE: Row = value('Z', "timezone", "TZ", "set reporting timezone");
/// `--version`.
pub const SHOW_VERSION: Row = flag('V', "version", "display version number and exit");
/// `--color`.
pub const COLOR_ONLY: char = long_only(3);
/// Headings in bold.
pub const COLOR: Row = row(
    COLOR_ONLY,
    "color",
    Some("WHEN"),
    "headings in bold: auto (on terminals), always or never",
    true,
);
/// Lines of JSON in the place of a table.
pub const JSON: Row = row(
    JSON_ONLY,
    "json",
    None,
    "print a line of JSON for each value",
    true,
);

/// What all tools take, and no usage text says.
pub(super) const DEBUG: Opt = Opt {
    letter: 'D',
    long: "debug",
    argument: Some("DEBUG"),
    help: "",
    long_only: false,
    own: false,
};

impl Opt {
    /// Whether it asks for the version: other options may have its letter, and it others.
    pub(super) fn is_version(&self) -> bool {
        self.long == "version" && self.argument.is_none()
    }

    /// Its line of a usage text, or two where it is long.
    pub(super) fn usage(&self) -> String {
        let letter = match self.letter {
            ' '..='~' => format!("-{}", self.letter),
            _ => String::new(),
        };
        let mut text = format!("  {letter}");
        if !letter.is_empty()
            && let Some(argument) = self.argument
        {
            let _ = write!(text, " {argument}");
        }
        if !self.long.is_empty() {
            let comma = if letter.is_empty() { "" } else { ", " };
            let _ = write!(text, "{comma}--{}", self.long);
            if let Some(argument) = self.argument {
                let _ = write!(text, "={argument}");
            }
        }
        let help = self.help;
        if text.len() < HELP_COLUMN {
            format!("{text:<HELP_COLUMN$}{help}\n")
        } else {
            format!("{text}\n{:HELP_COLUMN$}{help}\n", "")
        }
    }
}

/// Where what usage texts say of an option begins.
const HELP_COLUMN: usize = 24;
