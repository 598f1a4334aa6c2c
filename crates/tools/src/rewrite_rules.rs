//! The rules by which pmlogrewrite changes an archive (pmlogrewrite(1)).

use std::collections::HashMap;

use pcp::archive::{Archive, Version};
use pcp::pdu::TextKind;
use pcp::{Desc, InDom, LabelLevel, Pmid, Semantics, Text, Timestamp, Type, Units};

/// Which of several values becomes the only one.
#[derive(Clone, PartialEq, Debug)]
pub enum Pick {
    /// The first.
    First,
    /// The last.
    Last,
    /// That of an instance.
    Inst(i32),
    /// The smallest.
    Min,
    /// The largest.
    Max,
    /// Their sum.
    Sum,
    /// Their mean.
    Avg,
}

/// What becomes of an instance.
#[derive(Clone, Default, Debug)]
pub struct InstanceRule {
    /// It goes.
    pub delete: bool,
    /// Its new number.
    pub number: Option<i32>,
    /// Its new name.
    pub name: Option<Text>,
}

/// What becomes of an instance domain.
#[derive(Clone, Default, Debug)]
pub struct IndomRule {
    /// Its new number.
    pub indom: Option<InDom>,
    /// Copies of it.
    pub duplicates: Vec<InDom>,
    /// Its instances by their old numbers.
    pub instances: HashMap<i32, InstanceRule>,
}

/// What becomes of a metric.
#[derive(Clone, Default, Debug)]
pub struct MetricRule {
    /// It goes.
    pub delete: bool,
    /// Its new number.
    pub pmid: Option<Pmid>,
    /// Its names: old and new.
    pub names: Vec<(Text, Text)>,
    /// Its new type.
    pub ty: Option<Type>,
    /// Its new domain.
    pub indom: Option<InDom>,
    /// Which value stays.
    pub pick: Option<Pick>,
    /// Its new semantics.
    pub sem: Option<Semantics>,
    /// Its new units.
    pub units: Option<Units>,
    /// Whether values follow new units of the same dimension.
    pub rescale: bool,
}

/// What becomes of a help text.
#[derive(Clone, Debug)]
pub struct TextRule {
    /// Which texts: kind and what they are of.
    pub texts: Vec<(TextKind, u32)>,
    /// Only those with this content.
    pub content: Option<String>,
    /// They go.
    pub delete: bool,
    /// What they are of now.
    pub ident: Option<u32>,
    /// Their new content.
    pub text: Option<String>,
}

/// What becomes of labels.
#[derive(Clone, Debug)]
pub struct LabelRule {
    /// Their level and what they are of.
    pub labels: Vec<(u32, u32)>,
    /// Only those of this instance.
    pub inst: Option<i32>,
    /// Only those of this name.
    pub name: Option<String>,
    /// Only those of this value.
    pub value: Option<String>,
    /// They go.
    pub delete: bool,
    /// Their new name.
    pub new_name: Option<String>,
    /// Their new value.
    pub new_value: Option<String>,
    /// Labels that come.
    pub added: Vec<(String, String)>,
    /// What they are of now.
    pub ident: Option<u32>,
}

/// All rules.
#[derive(Default, Debug)]
pub struct Rules {
    /// The new host name.
    pub hostname: Option<String>,
    /// The new time zone.
    pub timezone: Option<String>,
    /// The new name of the time zone.
    pub zoneinfo: Option<String>,
    /// The new feature bits.
    pub features: Option<u32>,
    /// What is added to all times, in nanoseconds.
    pub delta: Option<i128>,
    /// By domain.
    pub indoms: HashMap<InDom, IndomRule>,
    /// By metric.
    pub metrics: HashMap<Pmid, MetricRule>,
    /// In order.
    pub texts: Vec<TextRule>,
    /// In order.
    pub labels: Vec<LabelRule>,
}

impl Rules {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.hostname.is_none()
            && self.timezone.is_none()
            && self.zoneinfo.is_none()
            && self.features.is_none()
            && self.delta.is_none_or(|d| d == 0)
            && self.indoms.is_empty()
            && self.metrics.is_empty()
            && self.texts.is_empty()
            && self.labels.is_empty()
    }
}

#[derive(Clone, PartialEq, Debug)]
enum Token {
    Word(String),
    Quoted(String),
    Arrow,
    Mark(char),
    End,
}

/// A configuration file on the way to rules.
pub struct Parser<'a> {
    archive: &'a Archive,
    version: Version,
    warnings: bool,
    rescale: bool,
    file: String,
    tokens: Vec<(Token, usize)>,
    at: usize,
    /// What was understood.
    pub rules: Rules,
}

/// `PM_TYPE_…`
pub fn type_macro(ty: Type) -> String {
    let name = match ty {
        Type::I32 => "32",
        Type::U32 => "U32",
        Type::I64 => "64",
        Type::U64 => "U64",
        Type::Float => "FLOAT",
        Type::Double => "DOUBLE",
        Type::String => "STRING",
        Type::Aggregate => "AGGREGATE",
        Type::AggregateStatic => "AGGREGATE_STATIC",
        Type::Event => "EVENT",
        Type::HighResEvent => "HIGHRES_EVENT",
        Type::NoSupport => "NOSUPPORT",
        Type::Unknown | Type::Other(_) => "UNKNOWN",
    };
    format!("PM_TYPE_{name}")
}

fn type_of(word: &str) -> Option<Type> {
    Some(match word.to_ascii_uppercase().as_str() {
        "32" => Type::I32,
        "U32" => Type::U32,
        "64" => Type::I64,
        "U64" => Type::U64,
        "FLOAT" => Type::Float,
        "DOUBLE" => Type::Double,
        "STRING" => Type::String,
        "AGGREGATE" => Type::Aggregate,
        _ => return None,
    })
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '*' | ':' | '/' | '+' | '-')
}

fn tokens(text: &str) -> Result<Vec<(Token, usize)>, usize> {
    let mut found = Vec::new();
    let mut line = 1;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' => line += 1,
            '#' => while chars.next_if(|c| *c != '\n').is_some() {},
            '"' => {
                let mut word = String::new();
                loop {
                    match chars.next() {
                        Some('"') => break,
                        Some('\\') => word.extend(chars.next()),
                        Some(d) => {
                            line += usize::from(d == '\n');
                            word.push(d);
                        }
                        None => return Err(line),
                    }
                }
                found.push((Token::Quoted(word), line));
            }
            '-' if chars.peek() == Some(&'>') => {
                chars.next();
                found.push((Token::Arrow, line));
            }
            c if is_word(c) => {
                let mut word = String::from(c);
                while let Some(&d) = chars.peek().filter(|d| is_word(**d)) {
                    if d == '-' {
                        let mut ahead = chars.clone();
                        ahead.next();
                        if ahead.peek() == Some(&'>') {
                            break;
                        }
                    }
                    word.push(d);
                    chars.next();
                }
                found.push((Token::Word(word), line));
            }
            c if c.is_whitespace() => {}
            c => found.push((Token::Mark(c), line)),
        }
    }
    found.push((Token::End, line));
    Ok(found)
}

/// A number, or a star for the old one.
fn part(word: &str, old: u32) -> Option<u32> {
    if word == "*" {
        Some(old)
    } else {
        word.parse().ok()
    }
}

impl<'a> Parser<'a> {
    /// For the metrics of an archive.
    pub fn new(
        archive: &'a Archive,
        version: Version,
        warnings: bool,
        rescale: bool,
    ) -> Parser<'a> {
        Parser {
            archive,
            version,
            warnings,
            rescale,
            file: String::new(),
            tokens: Vec::new(),
            at: 0,
            rules: Rules::default(),
        }
    }

    fn line(&self) -> usize {
        let at = self.at.saturating_sub(1);
        self.tokens.get(at).map_or(1, |t| t.1)
    }

    fn syntax(&self) -> String {
        format!(
            "Specification error in configuration file ({})\n[line {}] syntax error\n",
            self.file,
            self.line()
        )
    }

    fn semantic(&self, what: &str) -> String {
        format!(
            "Semantic error in configuration file ({})\n[line {}] {what}\n",
            self.file,
            self.line()
        )
    }

    fn warn(&self, what: &str) {
        eprintln!("Warning [{}, line {}]\n{what}", self.file, self.line());
    }

    fn note(&self, what: impl FnOnce() -> String) {
        if self.warnings {
            self.warn(&what());
        }
    }

    fn peek(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::End, |t| &t.0)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn take(&mut self, token: &Token) -> bool {
        let found = self.peek() == token;
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, token: &Token) -> Result<(), String> {
        if self.take(token) {
            Ok(())
        } else {
            self.at += 1;
            Err(self.syntax())
        }
    }

    fn keyword(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Token::Word(w) if w.eq_ignore_ascii_case(word));
        self.at += usize::from(found);
        found
    }

    fn word(&mut self) -> Result<String, String> {
        match self.next() {
            Token::Word(word) => Ok(word),
            _ => Err(self.syntax()),
        }
    }

    fn text(&mut self) -> Result<String, String> {
        match self.next() {
            Token::Word(word) | Token::Quoted(word) => Ok(word),
            _ => Err(self.syntax()),
        }
    }

    fn number<T: std::str::FromStr>(&mut self) -> Result<T, String> {
        let word = self.word()?;
        word.parse().map_err(|_| self.syntax())
    }

    /// Reads a file.
    pub fn read(&mut self, path: &str, text: &str) -> Result<(), String> {
        self.file = path.to_owned();
        self.at = 0;
        self.tokens = tokens(text).map_err(|line| {
            format!(
                "Specification error in configuration file ({path})\n[line {line}] syntax error\n"
            )
        })?;
        while *self.peek() != Token::End {
            let kind = self.word()?.to_ascii_lowercase();
            match kind.as_str() {
                "global" => self.global()?,
                "indom" => self.indom()?,
                "metric" => self.metric()?,
                "text" => self.help_text()?,
                "label" => self.label()?,
                _ => return Err(self.syntax()),
            }
        }
        Ok(())
    }

    fn global(&mut self) -> Result<(), String> {
        self.expect(&Token::Mark('{'))?;
        while !self.take(&Token::Mark('}')) {
            let key = self.word()?.to_ascii_lowercase();
            self.expect(&Token::Arrow)?;
            match key.as_str() {
                "hostname" => {
                    let name = self.text()?;
                    if self.archive.label.hostname.as_bytes() == name.as_bytes() {
                        self.note(|| format!("Global hostname (\"{name}\"): No change"));
                    } else {
                        self.rules.hostname = Some(name);
                    }
                }
                "tz" | "timezone" => {
                    let zone = self.text()?;
                    if self.archive.label.timezone.as_bytes() == zone.as_bytes() {
                        self.note(|| format!("Global timezone (\"{zone}\"): No change"));
                    } else {
                        self.rules.timezone = Some(zone);
                    }
                }
                "zoneinfo" | "features" if self.version == Version::V2 => {
                    return Err(self.semantic(&format!(
                        "{key} only allowed for version 3 or later archives"
                    )));
                }
                "zoneinfo" => self.rules.zoneinfo = Some(self.text()?),
                "features" => {
                    let word = self.word()?;
                    self.rules.features = Some(if word.eq_ignore_ascii_case("bits") {
                        self.expect(&Token::Mark('('))?;
                        let mut bits = 0;
                        while !self.take(&Token::Mark(')')) {
                            let bit: u32 = self.number()?;
                            bits |= 1u32.checked_shl(bit).unwrap_or(0);
                            self.take(&Token::Mark(','));
                        }
                        bits
                    } else {
                        word.parse().map_err(|_| self.syntax())?
                    });
                }
                "time" => {
                    let word = self.word()?;
                    let delta = delta(&word).ok_or_else(|| self.syntax())?;
                    if delta == 0 {
                        self.note(|| "Global time: No change".to_owned());
                    }
                    self.rules.delta = Some(delta);
                }
                _ => return Err(self.syntax()),
            }
        }
        Ok(())
    }

    /// `domain.serial`, in which a star stands for all that the archive has.
    fn indoms(&mut self) -> Result<Vec<InDom>, String> {
        let word = self.word()?;
        let Some((domain, serial)) = word.split_once('.') else {
            return Err(self.syntax());
        };
        let domain: u32 = domain.parse().map_err(|_| self.syntax())?;
        let known = self.archive.meta.indoms.iter().map(|(i, _)| InDom(i));
        if serial == "*" {
            return Ok(known.filter(|i| i.domain() == domain).collect());
        }
        let serial = serial.parse().map_err(|_| self.syntax())?;
        let indom = InDom::new(domain, serial);
        let used = |d: &Desc| d.indom == indom;
        if self.archive.meta.indoms.get(indom.0).is_none()
            && !self.archive.meta.descs.iter().any(|(_, d)| used(d))
        {
            self.note(|| format!("Instance domain {indom}: {}", pcp::ErrorCode::INDOM_LOG));
            return Ok(Vec::new());
        }
        Ok(vec![indom])
    }

    fn new_indom(&mut self, old: InDom) -> Result<InDom, String> {
        let word = self.word()?;
        if word.eq_ignore_ascii_case("null") {
            return Ok(InDom::NULL);
        }
        let (domain, serial) = word.split_once('.').ok_or_else(|| self.syntax())?;
        let domain = domain.parse().map_err(|_| self.syntax())?;
        let serial = part(serial, old.serial()).ok_or_else(|| self.syntax())?;
        Ok(InDom::new(domain, serial))
    }

    fn indom(&mut self) -> Result<(), String> {
        let indoms = self.indoms()?;
        self.expect(&Token::Mark('{'))?;
        // Each clause is gone through for all domains, and once at least for its syntax.
        while !self.take(&Token::Mark('}')) {
            let clause = self.at;
            if indoms.is_empty() {
                self.indom_clause(None)?;
            }
            for indom in &indoms {
                self.at = clause;
                self.indom_clause(Some(*indom))?;
            }
        }
        Ok(())
    }

    fn indom_clause(&mut self, indom: Option<InDom>) -> Result<(), String> {
        let old = indom.unwrap_or(InDom::NULL);
        if self.keyword("indom") {
            self.expect(&Token::Arrow)?;
            let duplicate = self.keyword("duplicate");
            let new = self.new_indom(old)?;
            if let Some(indom) = indom {
                if new == indom {
                    self.note(|| format!("Instance domain {indom}: indom: No change"));
                    return Ok(());
                }
                let rule = self.rules.indoms.entry(indom).or_default();
                if duplicate {
                    rule.duplicates.push(new);
                } else if rule.indom.is_some_and(|i| i != new) {
                    return Err(self.semantic(&format!(
                        "Duplicate or conflicting clauses for indom {indom}"
                    )));
                } else {
                    rule.indom = Some(new);
                }
            }
            return Ok(());
        }
        let by_name = if self.keyword("iname") {
            true
        } else if self.keyword("inst") {
            false
        } else {
            self.at += 1;
            return Err(self.syntax());
        };
        let which = self.text()?;
        self.expect(&Token::Arrow)?;
        let delete = self.keyword("delete");
        let new = if delete { String::new() } else { self.text()? };
        let Some(indom) = indom else {
            return Ok(());
        };
        let all = self.archive.meta.indoms.get(indom.0);
        let numbers: Vec<i32> = if by_name {
            let mut found: Vec<i32> = all
                .into_iter()
                .flatten()
                .flat_map(|e| &e.instances)
                .filter(|i| pcp::instance_name_matches(&i.name, which.as_bytes()))
                .map(|i| i.inst)
                .collect();
            found.sort_unstable();
            found.dedup();
            found
        } else {
            let number: i32 = which.parse().map_err(|_| self.syntax())?;
            let known = all
                .into_iter()
                .flatten()
                .flat_map(|e| &e.instances)
                .any(|i| i.inst == number);
            if known { vec![number] } else { Vec::new() }
        };
        if numbers.is_empty() {
            self.note(|| {
                if by_name {
                    format!("Unknown instance \"{which}\" in iname clause for indom {indom}")
                } else {
                    format!("Unknown instance {which} in inst clause for indom {indom}")
                }
            });
        }
        if !delete && which == new {
            let shown = if by_name {
                format!("\"{which}\"")
            } else {
                which.clone()
            };
            self.note(|| format!("Instance domain {indom}: Instance: {shown}: No change"));
            return Ok(());
        }
        for number in numbers {
            let renumbered = if by_name || delete {
                None
            } else {
                Some(new.parse::<i32>().map_err(|_| self.syntax())?)
            };
            let rules = self.rules.indoms.entry(indom).or_default();
            let rule = rules.instances.entry(number).or_default();
            if delete {
                rule.delete = true;
            } else if by_name {
                rule.name = Some(new.as_str().into());
            } else {
                rule.number = renumbered;
            }
        }
        Ok(())
    }

    /// Metrics by name, or by number with stars.
    fn metrics(&mut self) -> Result<Vec<(Pmid, Option<Text>)>, String> {
        let word = self.text()?;
        if !word.starts_with(|c: char| c.is_ascii_digit()) {
            return Ok(match self.archive.meta.names.lookup(word.as_bytes()) {
                Ok(pcp::pmns::Place::Leaf(pmid)) => vec![(pmid, Some(word.as_str().into()))],
                _ => {
                    self.note(|| format!("Metric: {word}: {}", pcp::ErrorCode::NAME));
                    Vec::new()
                }
            });
        }
        let parts: Vec<&str> = word.split('.').collect();
        let [domain, cluster, item] = parts.as_slice() else {
            return Err(self.syntax());
        };
        let domain: u32 = domain.parse().map_err(|_| self.syntax())?;
        if domain == Pmid::DYNAMIC_DOMAIN {
            self.warn(&format!("Dynamic metric domain field ({domain}) for pmid"));
        }
        let same = |word: &str, number: u32| word == "*" || word.parse() == Ok(number);
        let mut found: Vec<_> = self
            .archive
            .meta
            .descs
            .iter()
            .map(|(pmid, _)| Pmid(pmid))
            .filter(|p| p.domain() == domain && same(cluster, p.cluster()) && same(item, p.item()))
            .map(|p| (p, None))
            .collect();
        found.reverse();
        if found.is_empty() {
            self.note(|| format!("Metric: {word}: {}", pcp::ErrorCode::PMID_LOG));
        }
        Ok(found)
    }

    fn metric(&mut self) -> Result<(), String> {
        let metrics = self.metrics()?;
        self.expect(&Token::Mark('{'))?;
        while !self.take(&Token::Mark('}')) {
            let clause = self.at;
            if metrics.is_empty() {
                self.metric_clause(None)?;
            }
            for metric in &metrics {
                self.at = clause;
                self.metric_clause(Some(metric))?;
            }
        }
        Ok(())
    }

    fn metric_clause(&mut self, metric: Option<&(Pmid, Option<Text>)>) -> Result<(), String> {
        let meta = &self.archive.meta;
        let pmid = metric.map_or(Pmid::NULL, |m| m.0);
        let desc = meta.descs.get(pmid.0).copied();
        let names = meta.names.names_of(pmid);
        let name = metric
            .and_then(|m| m.1.clone())
            .or_else(|| names.first().cloned())
            .unwrap_or_default();
        let title = format!("Metric: {name} ({pmid})");
        let clause = self.word()?.to_ascii_lowercase();
        let mut rule = self.rules.metrics.get(&pmid).cloned().unwrap_or_default();
        let mut changed = true;
        let unchanged = |parser: &Self, what: String| {
            parser.note(|| format!("{title}: {what}: No change"));
            false
        };
        match clause.as_str() {
            "delete" => rule.delete = true,
            "name" => {
                self.expect(&Token::Arrow)?;
                let new: Text = self.text()?.as_str().into();
                if new == name {
                    changed = unchanged(self, format!("name: {name}"));
                } else if desc.is_some() && meta.names.lookup(&new).is_ok() {
                    return Err(self.semantic(&format!(
                        "Metric name {new} already assigned for metric {name}"
                    )));
                }
                if changed {
                    rule.names.push((name, new));
                }
            }
            "pmid" => {
                self.expect(&Token::Arrow)?;
                let word = self.word()?;
                let parts: Vec<&str> = word.split('.').collect();
                let [domain, cluster, item] = parts.as_slice() else {
                    return Err(self.syntax());
                };
                let new = (|| {
                    Some(Pmid::new(
                        domain.parse().ok()?,
                        part(cluster, pmid.cluster())?,
                        part(item, pmid.item())?,
                    ))
                })();
                let new = new.ok_or_else(|| self.syntax())?;
                if new == pmid {
                    changed = unchanged(self, "pmid".to_owned());
                } else {
                    rule.pmid = Some(new);
                }
            }
            "type" => {
                let only = if self.keyword("if") {
                    let word = self.word()?;
                    Some(type_of(&word).ok_or_else(|| self.syntax())?)
                } else {
                    None
                };
                self.expect(&Token::Arrow)?;
                let word = self.word()?;
                let new = type_of(&word).ok_or_else(|| self.syntax())?;
                if let Some(desc) = desc {
                    if only.is_some_and(|t| t != desc.ty) {
                        self.note(|| {
                            format!(
                                "{title}: type: {}: No conditional change to {}",
                                type_macro(desc.ty),
                                type_macro(new)
                            )
                        });
                        changed = false;
                    } else if new == desc.ty {
                        changed = unchanged(self, format!("type: {}", type_macro(desc.ty)));
                    } else if !desc.ty.is_numeric() || !new.is_numeric() {
                        return Err(self.semantic(&format!(
                            "Old type ({}) must be numeric for metric {name}",
                            type_macro(desc.ty)
                        )));
                    } else {
                        rule.ty = Some(new);
                    }
                }
            }
            "sem" => {
                self.expect(&Token::Arrow)?;
                let word = self.word()?.to_ascii_lowercase();
                let new = match word.as_str() {
                    "counter" => Semantics::Counter,
                    "instant" => Semantics::Instant,
                    "discrete" => Semantics::Discrete,
                    _ => return Err(self.syntax()),
                };
                if desc.is_some_and(|d| d.sem == new) {
                    changed = unchanged(self, format!("sem: PM_SEM_{}", word.to_ascii_uppercase()));
                } else {
                    rule.sem = Some(new);
                }
            }
            "units" => {
                self.expect(&Token::Arrow)?;
                let units = self.units()?;
                let rescale = self.keyword("rescale");
                if let Some(desc) = desc {
                    if desc.units == units {
                        changed = unchanged(self, format!("units: {}", desc.units));
                    } else {
                        rule.units = Some(units);
                        rule.rescale =
                            (rescale || self.rescale) && desc.units.same_dimension(units);
                    }
                }
            }
            "indom" => {
                self.expect(&Token::Arrow)?;
                let new = self.new_indom(desc.map_or(InDom::NULL, |d| d.indom))?;
                let mut pick = None;
                if self.keyword("output") {
                    let word = self.word()?.to_ascii_lowercase();
                    pick = Some(match word.as_str() {
                        "first" => Pick::First,
                        "last" => Pick::Last,
                        "min" => Pick::Min,
                        "max" => Pick::Max,
                        "sum" => Pick::Sum,
                        "avg" => Pick::Avg,
                        "inst" => Pick::Inst(self.number()?),
                        "iname" => {
                            let name = self.text()?;
                            let indom = desc.map_or(InDom::NULL, |d| d.indom);
                            let all = self.archive.meta.all_instances(indom).unwrap_or_default();
                            let found = all
                                .iter()
                                .find(|i| pcp::instance_name_matches(&i.name, name.as_bytes()));
                            Pick::Inst(found.map_or(-1, |i| i.inst))
                        }
                        _ => return Err(self.syntax()),
                    });
                }
                if let Some(desc) = desc {
                    if new == desc.indom {
                        changed = unchanged(self, format!("indom: {new}"));
                    } else {
                        rule.indom = Some(new);
                        rule.pick = pick;
                    }
                }
            }
            _ => return Err(self.syntax()),
        }
        if changed && desc.is_some() {
            self.rules.metrics.insert(pmid, rule);
        }
        Ok(())
    }

    fn units(&mut self) -> Result<Units, String> {
        let mut words = Vec::new();
        for number in 0..6 {
            if number > 0 {
                self.expect(&Token::Mark(','))?;
            }
            words.push(self.word()?.to_ascii_uppercase());
        }
        let wrong = self.syntax();
        let read = || {
            let [space, time, count, space_scale, time_scale, count_scale] = words.as_slice()
            else {
                return None;
            };
            let space_scale = match space_scale.as_str() {
                "BYTE" => 0,
                "KBYTE" => 1,
                "MBYTE" => 2,
                "GBYTE" => 3,
                "TBYTE" => 4,
                "PBYTE" => 5,
                "EBYTE" => 6,
                number => number.parse().ok()?,
            };
            let time_scale = match time_scale.as_str() {
                "NSEC" => 0,
                "USEC" => 1,
                "MSEC" => 2,
                "SEC" => 3,
                "MIN" => 4,
                "HOUR" => 5,
                number => number.parse().ok()?,
            };
            let count_scale = match count_scale.as_str() {
                "ONE" => 0,
                number => number.parse().ok()?,
            };
            Some(Units::new(
                space.parse().ok()?,
                time.parse().ok()?,
                count.parse().ok()?,
                space_scale,
                time_scale,
                count_scale,
            ))
        };
        read().ok_or(wrong)
    }

    fn help_text(&mut self) -> Result<(), String> {
        let of_metric = if self.keyword("metric") {
            true
        } else if self.keyword("indom") {
            false
        } else {
            self.at += 1;
            return Err(self.syntax());
        };
        let idents: Vec<u32> = if of_metric {
            self.metrics()?.into_iter().map(|(p, _)| p.0).collect()
        } else {
            self.indoms()?.into_iter().map(|i| i.0).collect()
        };
        let (one, full) = if of_metric {
            (TextKind::METRIC_ONELINE, TextKind::METRIC_HELP)
        } else {
            (TextKind::INDOM_ONELINE, TextKind::INDOM_HELP)
        };
        let kinds = if self.keyword("oneline") {
            vec![one]
        } else if self.keyword("help") {
            vec![full]
        } else if self.keyword("all") || self.keyword("*") {
            vec![one, full]
        } else {
            vec![one]
        };
        let mut rule = TextRule {
            texts: idents
                .iter()
                .flat_map(|i| kinds.iter().map(|k| (*k, *i)))
                .collect(),
            content: None,
            delete: false,
            ident: None,
            text: None,
        };
        if let Token::Quoted(content) = self.peek().clone() {
            self.at += 1;
            rule.content = Some(content);
        }
        self.expect(&Token::Mark('{'))?;
        let mut moved = None;
        while !self.take(&Token::Mark('}')) {
            let clause = self.word()?.to_ascii_lowercase();
            match clause.as_str() {
                "delete" => rule.delete = true,
                "text" => {
                    self.expect(&Token::Arrow)?;
                    rule.text = Some(self.text()?);
                }
                "indom" | "metric" => {
                    self.expect(&Token::Arrow)?;
                    moved = Some(self.text()?);
                }
                _ => return Err(self.syntax()),
            }
        }
        let Some(moved) = moved else {
            self.rules.texts.push(rule);
            return Ok(());
        };
        for (kind, ident) in rule.texts.clone() {
            let parts: Vec<&str> = moved.split('.').collect();
            let new = match parts.as_slice() {
                [domain, serial] => domain
                    .parse()
                    .ok()
                    .and_then(|d| Some(InDom::new(d, part(serial, InDom(ident).serial())?).0)),
                [domain, cluster, item] => domain.parse().ok().and_then(|d| {
                    let old = Pmid(ident);
                    let cluster = part(cluster, old.cluster())?;
                    Some(Pmid::new(d, cluster, part(item, old.item())?).0)
                }),
                _ => None,
            };
            let mut one = rule.clone();
            one.texts = vec![(kind, ident)];
            one.ident = Some(new.ok_or_else(|| self.syntax())?);
            self.rules.texts.push(one);
        }
        Ok(())
    }

    fn label(&mut self) -> Result<(), String> {
        let kind = self.word()?.to_ascii_lowercase();
        let (level, idents): (LabelLevel, Vec<u32>) = match kind.as_str() {
            "context" => (LabelLevel::Context, vec![u32::MAX]),
            "domain" => (LabelLevel::Domain, vec![self.number()?]),
            "cluster" => {
                let word = self.word()?;
                let (domain, cluster) = word.split_once('.').ok_or_else(|| self.syntax())?;
                let domain: u32 = domain.parse().map_err(|_| self.syntax())?;
                let of_level = self.archive.meta.labels.keys();
                let all = of_level.filter(|(l, _)| *l == LabelLevel::Cluster as u32);
                let same = |p: &Pmid| {
                    p.domain() == domain && (cluster == "*" || cluster.parse() == Ok(p.cluster()))
                };
                let found = all.map(|(_, i)| Pmid(*i)).filter(same).map(|p| p.0);
                (LabelLevel::Cluster, found.collect())
            }
            "item" => {
                let metrics = self.metrics()?;
                (
                    LabelLevel::Item,
                    metrics.into_iter().map(|(p, _)| p.0).collect(),
                )
            }
            "indom" | "instances" => {
                let indoms = self.indoms()?.into_iter().map(|i| i.0).collect();
                if kind == "indom" {
                    (LabelLevel::InDom, indoms)
                } else {
                    (LabelLevel::Instances, indoms)
                }
            }
            _ => return Err(self.syntax()),
        };
        let mut rule = LabelRule {
            labels: idents.iter().map(|i| (level as u32, *i)).collect(),
            inst: None,
            name: None,
            value: None,
            delete: false,
            new_name: None,
            new_value: None,
            added: Vec::new(),
            ident: None,
        };
        let mut selectors = Vec::new();
        while !self.take(&Token::Mark('{')) {
            selectors.push(match self.next() {
                Token::Quoted(text) => Some(text),
                Token::Word(word) if word == "*" => None,
                Token::Word(word) => {
                    rule.inst = Some(word.parse().map_err(|_| self.syntax())?);
                    continue;
                }
                _ => return Err(self.syntax()),
            });
        }
        if level == LabelLevel::Instances && selectors.len() == 3 {
            let name = selectors.remove(0);
            if let (Some(name), Some(indom)) = (name, idents.first()) {
                let all = self.archive.meta.all_instances(InDom(*indom));
                rule.inst = all
                    .unwrap_or_default()
                    .iter()
                    .find(|i| pcp::instance_name_matches(&i.name, name.as_bytes()))
                    .map(|i| i.inst);
            }
        }
        let mut selectors = selectors.into_iter();
        rule.name = selectors.next().flatten();
        rule.value = selectors.next().flatten();
        while !self.take(&Token::Mark('}')) {
            let clause = self.word()?.to_ascii_lowercase();
            match clause.as_str() {
                "delete" => rule.delete = true,
                "new" => {
                    let pair = (self.text()?, self.text()?);
                    rule.added.push(pair);
                }
                "label" => {
                    self.expect(&Token::Arrow)?;
                    rule.new_name = Some(self.text()?);
                }
                "value" => {
                    self.expect(&Token::Arrow)?;
                    rule.new_value = Some(self.text()?);
                }
                "domain" => {
                    self.expect(&Token::Arrow)?;
                    rule.ident = Some(self.number()?);
                }
                _ => return Err(self.syntax()),
            }
        }
        self.rules.labels.push(rule);
        Ok(())
    }
}

/// `[+-][[HH:]MM:]SS[.FRACTION]` in nanoseconds.
fn delta(word: &str) -> Option<i128> {
    let (sign, rest) = match word.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, word.strip_prefix('+').unwrap_or(word)),
    };
    let mut seconds = 0f64;
    for field in rest.split(':') {
        seconds = seconds * 60.0 + field.parse::<f64>().ok()?;
    }
    Some(sign * Timestamp::from_secs_f64(seconds).as_nanos())
}
