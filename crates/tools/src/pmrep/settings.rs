//! The command line of pmrep(1) and the settings of pmrep.conf(5), which are the same things under two names.

use pcp::Timestamp;

use crate::options::rows::*;
use crate::options::{Refusal, Spec};
use crate::source::Source;

/// The usage text.
/// `--daemonize`.
const DAEMONIZE: char = long_only(16);
/// `--no-inst-info`.
const NO_INST_INFO: char = long_only(17);
/// `--archive-folio`.
const FOLIO: char = long_only(18);
/// `--include-texts`.
const INCLUDE_TEXTS: char = long_only(19);

/// What the tool takes.
#[rustfmt::skip]
pub const SPEC: Spec = Spec {
    tool: "pmrep",
    words: "[option...] metricspec [...]",
    rows: &[
        GENERAL,
        ARCHIVE,
        value(FOLIO, "archive-folio", "FILE", "read metric source archives from a folio"),
        CONTAINER,
        HOST,
        LOCAL,
        SPEC_LOCAL,
        value('c', "config", "FILE", "config file path"),
        flag('C', "check", "check config and metrics and exit"),
        value('o', "output", "OUTPUT", "output target: archive, csv, stdout (default)"),
        value('F', "output-file", "OUTFILE", "output file"),
        value('e', "derived", "FILE|DFNT", "derived metrics definitions"),
        flag(DAEMONIZE, "daemonize", "daemonize on startup"),
        SHOW_VERSION,
        HELP,
        REPORTING,
        flag('H', "no-header", "omit headers"),
        flag('U', "no-unit-info", "omit unit info from headers"),
        flag(NO_INST_INFO, "no-inst-info", "omit instance info from headers"),
        flag('G', "no-globals", "omit global metrics"),
        flag('p', "timestamps", "print timestamps"),
        ALIGN,
        START,
        FINISH,
        ORIGIN,
        SAMPLES,
        INTERVAL,
        TIMEZONE,
        HOST_ZONE,
        flag('d', "delay", "delay, pause between updates for archive replay"),
        flag('r', "raw", "output raw counter values (no rate conversion)"),
        flag('R', "raw-prefer", "prefer output raw counter values (no rate conversion)"),
        flag('I', "ignore-incompat", "ignore incompatible instances (default: abort)"),
        flag('5', "ignore-unknown", "ignore unknown metrics (default: abort)"),
        value('i', "instances", "STR", "instances to report (default: all current)"),
        flag('j', "live-filter", "perform instance live filtering"),
        value('J', "rank", "COUNT", "limit results to COUNT highest/lowest valued instances"),
        flag('2', "overall-rank", "report overall ranking from archive"),
        flag('3', "overall-rank-alt", "report overall ranking from archive in pmrep format"),
        value('4', "names-change", "ACTION", "update/ignore/abort on PMNS changes (default: ignore)"),
        value('8', "limit-filter", "LIMIT", "default limit for value filtering"),
        value('9', "limit-filter-force", "LIMIT", "forced limit for value filtering"),
        flag('n', "invert-filter", "perform ranking before live filtering"),
        value('N', "predicate", "METRIC", "set predicate filter reference metric"),
        value('6', "sort-metric", "METRIC", "set sort reference metric for colxrow output"),
        flag('v', "omit-flat", "omit single-valued metrics"),
        flag('m', "include-labels", "include metric label info"),
        flag(INCLUDE_TEXTS, "include-texts", "include metric help texts in archive output"),
        value('X', "colxrow", "STR", "swap stdout columns and rows using STR as header label"),
        value('w', "width", "N", "default column width"),
        value('W', "width-force", "N", "forced column width"),
        value('P', "precision", "N", "prefer N digits after decimal separator (default: 3)"),
        value('0', "precision-force", "N", "force N digits after decimal separator"),
        value('l', "delimiter", "STR", "delimiter to separate csv/stdout columns"),
        flag('k', "extended-csv", "write extended CSV"),
        flag('x', "extended-header", "display extended header"),
        flag('7', "fixed-header", "fixed header and dynamic instances with colxrow output"),
        value('E', "repeat-header", "N", "repeat stdout headers every N lines"),
        flag('1', "dynamic-header", "update header dynamically on metric/instance changes"),
        flag('g', "separate-header", "write separated header before metrics"),
        value('f', "timestamp-format", "STR", "strftime string for timestamp format"),
        flag('u', "no-interpol", "disable interpolation mode with archives"),
        value('q', "count-scale", "SCALE", "default count unit"),
        value('Q', "count-scale-force", "SCALE", "forced count unit"),
        value('b', "space-scale", "SCALE", "default space unit"),
        value('B', "space-scale-force", "SCALE", "forced space unit"),
        value('y', "time-scale", "SCALE", "default time unit"),
        value('Y', "time-scale-force", "SCALE", "forced time unit"),
        COLOR,
        JSON,
    ],
    live_windows: true,
    ..Spec::PLAIN
};

/// The command line's options.
/// Where the report goes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Target {
    /// Columns of text.
    #[default]
    Stdout,
    /// Comma-separated values.
    Csv,
    /// A PCP archive.
    Archive,
}

/// What is done when agents come with new metrics.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum NamesChange {
    /// Nothing.
    #[default]
    Ignore,
    /// The metrics are looked up again.
    Update,
    /// The tool ends.
    Abort,
}

/// How often headers are repeated.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Repeat {
    /// Never.
    #[default]
    Never,
    /// After so many samples.
    Every(usize),
    /// As the terminal is high.
    Auto,
}

/// Everything that options and files say.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Context, time window and zone.
    pub source: Source,
    /// `-o`.
    pub target: Target,
    /// `--json`: lines of JSON in the place of a report.
    pub json: bool,
    /// `-F`.
    pub file: Option<String>,
    /// `-C`.
    pub check: bool,
    /// `-e`, in order.
    pub derived: Vec<String>,
    /// `--daemonize`.
    pub daemonize: bool,
    /// Not `-H`.
    pub header: bool,
    /// Not `-U`.
    pub unit_info: bool,
    /// Not `--no-inst-info`.
    pub inst_info: bool,
    /// Not `-G`.
    pub globals: bool,
    /// `-p`.
    pub timestamps: bool,
    /// `-d`.
    pub delay: bool,
    /// `-r`.
    pub raw: bool,
    /// `-R`.
    pub raw_prefer: bool,
    /// `-I`.
    pub ignore_incompatible: bool,
    /// `-5`.
    pub ignore_unknown: bool,
    /// `-4`.
    pub names_change: NamesChange,
    /// `-i`: the patterns.
    pub instances: Vec<String>,
    /// `-j`.
    pub live_filter: bool,
    /// `-J`.
    pub rank: i64,
    /// `-2`.
    pub overall_rank: bool,
    /// `-3`.
    pub overall_rank_alt: bool,
    /// `-8` and `-9`, the latter preferred.
    pub limit: i64,
    /// `-9` was given.
    pub limit_force: i64,
    /// `-n`.
    pub invert_filter: bool,
    /// `-N`.
    pub predicates: Vec<String>,
    /// `-6`.
    pub sort_metric: Option<String>,
    /// `-v`.
    pub omit_flat: bool,
    /// `-m`.
    pub labels: bool,
    /// `--include-texts`.
    pub texts: bool,
    /// `-X`.
    pub colxrow: Option<String>,
    /// `-w`.
    pub width: usize,
    /// `-W`.
    pub width_force: Option<usize>,
    /// `-P`.
    pub precision: usize,
    /// `-0`.
    pub precision_force: Option<usize>,
    /// `-l`.
    pub delimiter: Option<String>,
    /// `-k`.
    pub extended_csv: bool,
    /// `-x`.
    pub extended_header: bool,
    /// `-7`.
    pub fixed_header: bool,
    /// `-E`.
    pub repeat: Repeat,
    /// `-1`.
    pub dynamic_header: bool,
    /// `-g`.
    pub separate_header: bool,
    /// `-f`.
    pub time_format: Option<String>,
    /// Not `-u`.
    pub interpolate: bool,
    /// `-q`, `-b`, `-y`.
    pub scales: [Option<String>; 3],
    /// `-Q`, `-B`, `-Y`.
    pub scales_force: [Option<String>; 3],
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            source: Source::default(),
            target: Target::Stdout,
            json: false,
            file: None,
            check: false,
            derived: Vec::new(),
            daemonize: false,
            header: true,
            unit_info: true,
            inst_info: true,
            globals: true,
            timestamps: false,
            delay: false,
            raw: false,
            raw_prefer: false,
            ignore_incompatible: false,
            ignore_unknown: false,
            names_change: NamesChange::Ignore,
            instances: Vec::new(),
            live_filter: false,
            rank: 0,
            overall_rank: false,
            overall_rank_alt: false,
            limit: 0,
            limit_force: 0,
            invert_filter: false,
            predicates: Vec::new(),
            sort_metric: None,
            omit_flat: false,
            labels: false,
            texts: false,
            colxrow: None,
            width: 0,
            width_force: None,
            precision: 3,
            precision_force: None,
            delimiter: None,
            extended_csv: false,
            extended_header: false,
            fixed_header: false,
            repeat: Repeat::Never,
            dynamic_header: false,
            separate_header: false,
            time_format: None,
            interpolate: true,
            scales: [None, None, None],
            scales_force: [None, None, None],
        }
    }
}

/// The options and the names that files have for them. Letters whose name begins with `!` switch something off.
const NAMES: &[(char, &str)] = &[
    ('o', "output"),
    ('K', "speclocal"),
    ('e', "derived"),
    (DAEMONIZE, "daemonize"),
    ('H', "!header"),
    (NO_INST_INFO, "!instinfo"),
    ('U', "!unitinfo"),
    ('G', "!globals"),
    ('p', "timestamp"),
    ('s', "samples"),
    ('t', "interval"),
    ('d', "delay"),
    ('r', "type"),
    ('R', "type_prefer"),
    ('I', "ignore_incompat"),
    ('5', "ignore_unknown"),
    ('4', "names_change"),
    ('i', "instances"),
    ('j', "live_filter"),
    ('J', "rank"),
    ('2', "overall_rank"),
    ('3', "overall_rank_alt"),
    ('8', "limit_filter"),
    ('9', "limit_filter_force"),
    ('n', "invert_filter"),
    ('N', "predicate"),
    ('6', "sort_metric"),
    ('v', "omit_flat"),
    ('m', "include_labels"),
    (INCLUDE_TEXTS, "include_texts"),
    ('X', "colxrow"),
    ('w', "width"),
    ('W', "width_force"),
    ('P', "precision"),
    ('0', "precision_force"),
    ('l', "delimiter"),
    ('k', "extcsv"),
    ('x', "extheader"),
    ('7', "fixed_header"),
    ('E', "repeat_header"),
    ('1', "dynamic_header"),
    ('g', "separate_header"),
    ('f', "timefmt"),
    ('u', "!interpol"),
    ('q', "count_scale"),
    ('b', "space_scale"),
    ('y', "time_scale"),
    ('Q', "count_scale_force"),
    ('B', "space_scale_force"),
    ('Y', "time_scale_force"),
];

/// Whether a key of a file is a setting.
pub fn is_setting(key: &str) -> bool {
    matches!(key, "version" | "source" | "timezone")
        || NAMES
            .iter()
            .any(|(_, name)| name.trim_start_matches('!') == key)
}

fn name_of(letter: char) -> &'static str {
    let found = NAMES.iter().find(|(l, _)| *l == letter);
    found.map_or("", |(_, name)| name.trim_start_matches('!'))
}

/// Names separated by commas outside of quotes, which are taken off.
pub fn pattern_list(text: &str) -> Vec<String> {
    let mut list = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    for c in text.chars() {
        match quote {
            Some(q) if c == q => quote = None,
            Some(_) => word.push(c),
            None if (c == '"' || c == '\'') && word.trim().is_empty() => {
                word.clear();
                quote = Some(c);
            }
            None if c == ',' => list.push(std::mem::take(&mut word)),
            None => word.push(c),
        }
    }
    list.push(word);
    list.retain(|w| !w.is_empty());
    list
}

impl Settings {
    /// Takes a setting of a file in.
    ///
    /// # Errors
    /// What is wrong with its value.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), Refusal> {
        match key {
            "version" => {
                if value != "1" {
                    let what = format!(
                        "Incompatible configuration file version (read v{value}, need v1).\n"
                    );
                    return Err(Refusal::Failed(what));
                }
                return Ok(());
            }
            "source" => {
                self.source.archives = None;
                self.source.host = None;
                if value == "@" {
                    self.source.local = true;
                } else if value.contains('/') {
                    self.source.archives = Some(value.to_owned());
                } else {
                    self.source.host = Some(value.to_owned());
                }
                return Ok(());
            }
            "timezone" => {
                self.source.zone = Some(value.to_owned());
                return Ok(());
            }
            _ => {}
        }
        let Some((letter, name)) = NAMES.iter().find(|(_, n)| n.trim_start_matches('!') == key)
        else {
            return Ok(());
        };
        let yes = matches!(
            value.to_ascii_lowercase().as_str(),
            "1" | "y" | "yes" | "t" | "true"
        );
        if *letter == 'r' || *letter == 'R' {
            let raw = value == "raw";
            if *letter == 'r' {
                self.raw = raw;
            } else {
                self.raw_prefer = raw;
            }
            return Ok(());
        }
        if *letter == 'i' {
            self.instances.clear();
        }
        if let Some(switch) = self.switch(*letter) {
            *switch = yes;
            debug_assert!(
                name.starts_with('!') == matches!(*letter, 'H' | 'U' | 'G' | 'u' | NO_INST_INFO)
            );
            return Ok(());
        }
        self.option(*letter, value)
    }

    fn switch(&mut self, letter: char) -> Option<&mut bool> {
        Some(match letter {
            'C' => &mut self.check,
            DAEMONIZE => &mut self.daemonize,
            'H' => &mut self.header,
            'U' => &mut self.unit_info,
            NO_INST_INFO => &mut self.inst_info,
            'G' => &mut self.globals,
            'p' => &mut self.timestamps,
            'd' => &mut self.delay,
            'r' => &mut self.raw,
            'R' => &mut self.raw_prefer,
            'I' => &mut self.ignore_incompatible,
            '5' => &mut self.ignore_unknown,
            'j' => &mut self.live_filter,
            '2' => &mut self.overall_rank,
            '3' => &mut self.overall_rank_alt,
            'n' => &mut self.invert_filter,
            'v' => &mut self.omit_flat,
            'm' => &mut self.labels,
            INCLUDE_TEXTS => &mut self.texts,
            'k' => &mut self.extended_csv,
            'x' => &mut self.extended_header,
            '7' => &mut self.fixed_header,
            '1' => &mut self.dynamic_header,
            'g' => &mut self.separate_header,
            'u' => &mut self.interpolate,
            'L' => &mut self.source.local,
            JSON_ONLY => &mut self.json,
            _ => return None,
        })
    }

    /// Takes an option of the command line in.
    ///
    /// # Errors
    /// What is wrong with its value.
    pub fn option(&mut self, letter: char, text: &str) -> Result<(), Refusal> {
        if let Some(switch) = self.switch(letter) {
            *switch = !matches!(letter, 'H' | 'U' | 'G' | 'u' | NO_INST_INFO);
            return Ok(());
        }
        let owned = || Some(text.to_owned());
        let failed = |what: &str| {
            let name = name_of(letter);
            Refusal::Failed(format!(
                "Error while reading option {name}: {what} expected.\n"
            ))
        };
        let natural = || {
            text.trim()
                .parse::<usize>()
                .map_err(|_| failed("Non-negative integer"))
        };
        let integer = || text.trim().parse::<i64>().map_err(|_| failed("Integer"));
        let parsing =
            |what: &str| Refusal::Failed(format!("Error while parsing options: {what}.\n"));
        match letter {
            'o' => {
                self.target = match text {
                    "stdout" => Target::Stdout,
                    "csv" => Target::Csv,
                    "archive" => Target::Archive,
                    _ => return Err(parsing("Invalid output target specified")),
                };
            }
            'F' => self.file = owned(),
            'e' => self.derived.push(text.to_owned()),
            '4' => {
                self.names_change = match text {
                    "ignore" => NamesChange::Ignore,
                    "update" => NamesChange::Update,
                    "abort" => NamesChange::Abort,
                    _ => {
                        let what = format!("Unknown names-change action '{text}' specified.\n");
                        return Err(Refusal::Failed(what));
                    }
                };
            }
            'i' => self.instances.extend(pattern_list(text)),
            'J' => self.rank = integer()?,
            '8' => self.limit = integer()?,
            '9' => self.limit_force = integer()?,
            'N' => self.predicates = pattern_list(text),
            '6' => self.sort_metric = owned(),
            'X' => self.colxrow = owned(),
            'w' => self.width = natural()?,
            'W' => self.width_force = Some(natural()?),
            'P' => self.precision = natural()?,
            '0' => self.precision_force = Some(natural()?),
            'l' => self.delimiter = owned(),
            'E' => {
                self.repeat = if text == "auto" {
                    Repeat::Auto
                } else {
                    match natural()? {
                        0 => Repeat::Never,
                        lines => Repeat::Every(lines),
                    }
                };
            }
            'f' => self.time_format = owned(),
            'q' => self.scales[0] = owned(),
            'b' => self.scales[1] = owned(),
            'y' => self.scales[2] = owned(),
            'Q' => self.scales_force[0] = owned(),
            'B' => self.scales_force[1] = owned(),
            'Y' => self.scales_force[2] = owned(),
            's' => {
                self.source.option(&SPEC, 's', text)?;
                self.source.samples = self.source.samples.filter(|n| *n > 0);
            }
            't' => {
                self.source.option(&SPEC, 't', text)?;
                if self.source.interval.is_some_and(|t| t <= Timestamp::ZERO) {
                    return Err(Refusal::Failed(
                        "Interval must be greater than 0.\n".to_owned(),
                    ));
                }
            }
            FOLIO => {
                let folio = std::fs::read_to_string(text).map_err(|error| {
                    Refusal::Failed(format!("{text}: {}\n", pcp::ErrorCode::from(&error)))
                })?;
                for archive in folio_archives(&folio) {
                    self.source.option(&SPEC, 'a', &archive)?;
                }
            }
            CONTAINER_ONLY => {
                let host = self
                    .source
                    .host
                    .take()
                    .unwrap_or_else(|| "local:".to_owned());
                let separator = if host.contains('?') { '&' } else { '?' };
                self.source.host = Some(format!("{host}{separator}container={text}"));
            }
            letter => {
                self.source.option(&SPEC, letter, text)?;
            }
        }
        Ok(())
    }

    /// The limit that holds, 0 for none.
    pub fn limit(&self) -> i64 {
        if self.limit_force == 0 {
            self.limit
        } else {
            self.limit_force
        }
    }

    /// Whether columns are for what has values at the time.
    pub fn is_dynamic(&self) -> bool {
        self.dynamic_header || self.names_change == NamesChange::Update
    }
}

/// The archives that a folio names (mkaf(1)).
fn folio_archives(text: &str) -> Vec<String> {
    let rows = text.lines().filter(|l| l.starts_with("Archive:"));
    let names = rows.filter_map(|l| l.split_whitespace().nth(2));
    names.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_patterns() {
        assert_eq!(
            pattern_list("'1 minute','5 minute'"),
            ["1 minute", "5 minute"]
        );
        assert_eq!(
            pattern_list("\"a\",b,\"still,one\""),
            ["a", "b", "still,one"]
        );
        assert_eq!(pattern_list("sda|sdb"), ["sda|sdb"]);
    }

    #[test]
    fn files_and_letters_mean_the_same() {
        let mut settings = Settings::default();
        settings.set("header", "no").ok().expect("a switch");
        settings.set("timestamp", "yes").ok().expect("a switch");
        settings.set("repeat_header", "auto").ok().expect("a word");
        settings.option('U', "").ok().expect("a switch");
        assert!(!settings.header && settings.timestamps && !settings.unit_info);
        assert_eq!(settings.repeat, Repeat::Auto);
        let refused = settings.option('P', "2x").err();
        assert!(matches!(refused, Some(Refusal::Failed(text))
            if text == "Error while reading option precision: Non-negative integer expected.\n"));
    }
}
