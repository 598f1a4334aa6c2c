//! The text that endpoints answer with: Prometheus's exposition format 0.0.4 and OpenMetrics', with the `# PCP` lines that
//! pmdaopenmetrics(1) adds to them.

use std::rc::Rc;

use pcp::{ScaledUnits, Semantics, Type, Units};

use crate::table;

/// Words of names that say what the unit is.
const UNITS: [(&str, &str); 3] = [
    ("seconds", "sec"),
    ("microseconds", "microsec"),
    ("bytes", "byte"),
];

/// What a `# TYPE` line says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Kind {
    /// Nothing, or a type that says nothing of how values follow each other.
    #[default]
    Untyped,
    /// `counter`.
    Counter,
    /// `gauge`.
    Gauge,
    /// `histogram`.
    Histogram,
    /// `summary`.
    Summary,
}

/// What a `# PCP5`, `# PCP` or `METADATA:` line says of a metric.
#[derive(Clone, PartialEq, Debug)]
pub struct Described {
    /// The metric's name below that of its source; parts are set off by dots.
    pub name: String,
    /// The type of its values.
    pub ty: Type,
    /// Whether it has one value, whatever labels that bears.
    pub singular: bool,
    /// Its semantics.
    pub sem: Semantics,
    /// Its units.
    pub units: Units,
    /// Whether instances bear the name that their label `instname` or `instance` gives them.
    pub named_instances: bool,
}

/// The lines that stand ahead of samples.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Family {
    /// `# HELP`.
    pub help: String,
    /// `# TYPE`.
    pub kind: Kind,
    /// `# PCP5` or `# PCP`.
    pub described: Option<Described>,
    /// The name of the first sample behind them, which `described` is about.
    pub first: String,
}

/// A line with a value.
#[derive(Clone, PartialEq, Debug)]
pub struct Sample<'t> {
    /// The name as it stands there.
    pub name: &'t str,
    /// The labels, sorted by name; of those that come twice the last.
    pub labels: Vec<(&'t str, String)>,
    /// The value as it stands there: a number.
    pub value: &'t str,
    /// What was said ahead of it.
    pub family: Rc<Family>,
}

/// Reads a type by its name in `# PCP5` and `METADATA:` lines: of what one number or text has.
fn value_type(name: &str) -> Option<Type> {
    let ty = table::type_named(&name.to_ascii_lowercase())?;
    let is_compound = matches!(ty, Type::Aggregate | Type::Event | Type::HighResEvent);
    (!is_compound).then_some(ty)
}

fn units_named<'t>(words: impl Iterator<Item = &'t str>) -> Option<Units> {
    let text = words.collect::<Vec<_>>().join(" ");
    if text.is_empty() || text == "none" {
        return Some(Units::NONE);
    }
    let units: ScaledUnits = text.parse().ok()?;
    Some(units.units)
}

impl Described {
    /// Reads what stands behind `# PCP5` (name, PMID, type, domain, semantics, units).
    fn version_5(words: &str) -> Option<Described> {
        let (name, rest) = words.split_once(char::is_whitespace)?;
        let (_, rest) = rest.trim_start().split_once(char::is_whitespace)?;
        Described::typed(name, rest)
    }

    /// Reads type, domain, semantics and units, as `METADATA:` has them, too.
    pub fn typed(name: &str, words: &str) -> Option<Described> {
        let mut words = words.split_whitespace();
        Some(Described {
            name: name.to_owned(),
            ty: value_type(words.next()?)?,
            singular: words.next()? == "PM_INDOM_NULL",
            sem: table::semantics_named(words.next()?)?,
            units: units_named(words)?,
            named_instances: true,
        })
    }

    /// Reads what stands behind `# PCP` (name, semantics, units).
    fn version_3(words: &str) -> Option<Described> {
        let mut words = words.split_whitespace();
        Some(Described {
            name: words.next()?.to_owned(),
            ty: Type::Double,
            singular: false,
            sem: table::semantics_named(words.next()?)?,
            units: units_named(words)?,
            named_instances: true,
        })
    }
}

/// Undoes the escapes of a help text or a label's value.
fn unescaped(text: &str, quotes: bool) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => plain.push('\n'),
            Some('\\') => plain.push('\\'),
            Some('"') if quotes => plain.push('"'),
            Some(other) => plain.extend(['\\', other]),
            None => plain.push('\\'),
        }
    }
    plain
}

/// Takes a comment that is a `# KEYWORD name rest`; any other says nothing.
fn header(family: &mut Family, comment: &str) {
    let Some(comment) = comment.strip_prefix([' ', '\t']) else {
        return;
    };
    let comment = comment.trim_start();
    let (keyword, rest) = comment
        .split_once(char::is_whitespace)
        .unwrap_or((comment, ""));
    let rest = rest.trim_start();
    let (_, text) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
    match keyword {
        "HELP" => family.help = unescaped(text.trim(), false),
        "TYPE" => {
            family.kind = match text.trim() {
                "counter" => Kind::Counter,
                "gauge" => Kind::Gauge,
                "histogram" => Kind::Histogram,
                "summary" => Kind::Summary,
                _ => Kind::Untyped,
            }
        }
        "PCP5" => family.described = Described::version_5(rest),
        "PCP" => family.described = Described::version_3(rest),
        _ => {}
    }
}

/// Takes the labels behind an opened brace; the second part is what follows the closed one.
fn labels(text: &str) -> Option<(Vec<(&str, String)>, &str)> {
    let mut found: Vec<(&str, String)> = Vec::new();
    let mut rest = text.trim_start();
    loop {
        if let Some(behind) = rest.strip_prefix('}') {
            found.sort_by(|a, b| a.0.cmp(b.0));
            // Stable: of the same name the last one stays.
            found.reverse();
            found.dedup_by(|a, b| a.0 == b.0);
            found.reverse();
            return Some((found, behind));
        }
        let (name, value) = rest.split_once('=')?;
        let value = value.trim_start().strip_prefix('"')?;
        let mut escaped = false;
        let end = value.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        })?;
        let (value, behind) = value.split_at_checked(end)?;
        let name = name.trim();
        if name.is_empty() || name.contains(['{', '}', '"', ',']) {
            return None;
        }
        found.push((name, unescaped(value, true)));
        rest = behind.strip_prefix('"')?.trim_start();
        if let Some(next) = rest.strip_prefix(',') {
            rest = next.trim_start();
        } else if !rest.starts_with('}') {
            return None;
        }
    }
}

/// The name, labels and value of a line; `None` for one that is none of that format. A time stamp and exemplars behind the value
/// are left alone.
fn sample<'t>(line: &'t str, family: &Rc<Family>) -> Option<Sample<'t>> {
    let end = line.find(|c: char| c == '{' || c.is_whitespace())?;
    let (name, rest) = line.split_at_checked(end)?;
    let rest = rest.trim_start();
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inside) => labels(inside)?,
        None => (Vec::new(), rest),
    };
    let value = rest.split_whitespace().next()?;
    value.parse::<f64>().ok()?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '.');
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || !name.chars().all(allowed) {
        return None;
    }
    Some(Sample {
        name,
        labels,
        value,
        family: Rc::clone(family),
    })
}

/// Reads a text, giving each of its samples to `each`; `wrong` gets lines that are none, with their numbers from 1.
///
/// Help, type and `# PCP` lines hold for all samples up to the next comment of any kind, as pmdaopenmetrics has it.
pub fn parse<'t>(
    text: &'t str,
    mut each: impl FnMut(Sample<'t>),
    mut wrong: impl FnMut(usize, &'t str),
) {
    let mut family = Rc::new(Family::default());
    let mut next = Family::default();
    let mut fresh = true;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        if let Some(comment) = line.strip_prefix('#') {
            if !fresh {
                next = Family::default();
                fresh = true;
            }
            if comment.trim() == "EOF" {
                return;
            }
            header(&mut next, comment);
            continue;
        }
        if fresh {
            let end = line.find(|c: char| c == '{' || c.is_whitespace());
            next.first = line
                .get(..end.unwrap_or(line.len()))
                .unwrap_or_default()
                .to_owned();
            family = Rc::new(std::mem::take(&mut next));
            fresh = false;
        }
        match sample(line, &family) {
            Some(sample) => each(sample),
            None => wrong(number + 1, line),
        }
    }
}

impl Sample<'_> {
    /// What its `# PCP` line says, if that is about it.
    pub fn described(&self) -> Option<&Described> {
        let described = self.family.described.as_ref();
        described.filter(|_| self.family.first == self.name)
    }

    fn has_word(&self, words: &[&str]) -> bool {
        self.name.split(['_', ':', '.']).any(|w| words.contains(&w))
    }

    /// Semantics by its type and the words of its name.
    pub fn semantics(&self) -> Semantics {
        let counts = match self.family.kind {
            Kind::Counter => true,
            Kind::Histogram => self.has_word(&["total", "count", "sum", "bucket"]),
            _ => self.has_word(&["total", "count", "sum"]),
        };
        if counts {
            Semantics::Counter
        } else {
            Semantics::Instant
        }
    }

    /// Units by its type and the words of its name.
    pub fn units(&self) -> Units {
        let parts = matches!(self.family.kind, Kind::Histogram | Kind::Summary);
        let text = if parts && self.has_word(&["count", "bucket"]) {
            "count"
        } else {
            let mut words = self.name.split(['_', ':', '.']);
            let found = words.find_map(|word| UNITS.iter().find(|(name, _)| *name == word));
            match found {
                Some((_, units)) => units,
                None => return Units::NONE,
            }
        };
        text.parse()
            .map_or(Units::NONE, |scaled: ScaledUnits| scaled.units)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> (Vec<Sample<'_>>, Vec<usize>) {
        let (mut samples, mut wrong) = (Vec::new(), Vec::new());
        parse(
            text,
            |sample| samples.push(sample),
            |line, _| wrong.push(line),
        );
        (samples, wrong)
    }

    /// The example of the format's documentation has these values.
    #[test]
    fn labels_are_unescaped_and_sorted() {
        let text = "msdos_file_access_time_seconds{path=\"C:\\\\DIR\\\\FILE.TXT\",error=\"Cannot find file:\\n\\\"FILE.TXT\\\"\"} 1.458255915e9\n\
                    something_weird{problem=\"division by zero\"} +Inf -3982045\n\
                    http_requests_total{method=\"post\",code=\"200\",} 1027 1395066363000\n";
        let (samples, wrong) = all(text);
        assert!(wrong.is_empty(), "{wrong:?}");
        assert_eq!(
            samples[0].labels,
            [
                ("error", "Cannot find file:\n\"FILE.TXT\"".to_owned()),
                ("path", "C:\\DIR\\FILE.TXT".to_owned())
            ]
        );
        assert_eq!(samples[0].value, "1.458255915e9");
        assert_eq!(samples[1].value, "+Inf");
        assert_eq!(samples[2].value, "1027");
        assert_eq!(
            samples[2].labels,
            [("code", "200".into()), ("method", "post".into())]
        );
    }

    #[test]
    fn what_is_no_sample_is_told_with_its_line() {
        let text = "good 1\nnovalue\nopen{a=\"b 2\nbad{a=b} 2\nword one\n9name 1\nlast 2\n";
        let (samples, wrong) = all(text);
        let names: Vec<_> = samples.iter().map(|s| s.name).collect();
        assert_eq!(names, ["good", "last"]);
        assert_eq!(wrong, [2, 3, 4, 5, 6]);
    }

    #[test]
    fn headers_hold_until_the_next_ones() {
        let text = "# HELP a about \\\\ a\\nand more\n# TYPE a counter\na 1\nb 2\n# TYPE c gauge\nc 3\n# remark\nd_total 4\n";
        let (samples, _) = all(text);
        let helps: Vec<_> = samples.iter().map(|s| s.family.help.as_str()).collect();
        assert_eq!(
            helps,
            ["about \\ a\nand more", "about \\ a\nand more", "", ""]
        );
        let counters: Vec<_> = samples
            .iter()
            .map(|s| s.semantics() == Semantics::Counter)
            .collect();
        assert_eq!(counters, [true, true, false, true]);
    }

    #[test]
    fn pcp_lines_are_about_the_metric_behind_them() {
        let text = "# PCP5 my.own 1.2.3 u32 PM_INDOM_NULL counter Kbyte / sec\nmy_own 4\nother 5\n# PCP my.two discrete\nmy_two_total{a=\"b\"} 1\n# EOF\nlost 1\n";
        let (samples, _) = all(text);
        let described = samples[0].described().expect("described");
        assert_eq!(described.name, "my.own");
        assert_eq!((described.ty, described.singular), (Type::U32, true));
        assert_eq!(described.units.to_string(), "Kbyte / sec");
        assert_eq!(samples[1].described(), None);
        assert_eq!(samples.len(), 3);
        assert_eq!(
            samples[2].described().expect("described").sem,
            Semantics::Discrete
        );
    }
}
