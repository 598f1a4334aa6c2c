//! From a configuration file to rules: the grammar's frame, and the rules that concern the whole archive.

use pcp::archive::{Archive, Version};
use pcp::{InDom, Pmid, Text, Timestamp};

use super::tokens::{Token, tokens};
use super::{IndomRule, Rules};
use crate::event_metrics::event_desc;

/// What a time to be added looks like.
const DELTA: &str = "Expecting delta of the form [+-][HH:[MM:]]SS[.d...] in time clause";

/// Serial numbers of instance domains are less.
const INDOM_SERIALS: u32 = 1 << 22;

/// A configuration file on the way to rules.
pub struct Parser<'a> {
    pub(super) archive: &'a Archive,
    pub(super) version: Version,
    pub(super) warnings: bool,
    pub(super) rescale: bool,
    file: String,
    tokens: Vec<(Token, usize)>,
    pub(super) at: usize,
    /// Whether this is a rule for texts or labels, of which less is said when it is wrong.
    pub(super) plain: bool,
    /// Warnings for the end of the rule.
    pub(super) held: Vec<String>,
    /// What was understood.
    pub rules: Rules,
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
            plain: false,
            held: Vec::new(),
            rules: Rules::default(),
        }
    }

    pub(super) fn line(&self) -> usize {
        let at = self.at.saturating_sub(1);
        self.tokens.get(at).map_or(1, |t| t.1)
    }

    pub(super) fn syntax(&self) -> String {
        format!(
            "Specification error in configuration file ({})\n[line {}] syntax error\n",
            self.file,
            self.line()
        )
    }

    /// A mistake in the grammar that has words of its own.
    pub(super) fn specification(&self, what: &str) -> String {
        if self.plain && what.starts_with("Expecting") {
            return self.syntax();
        }
        format!(
            "Specification error in configuration file ({})\n[line {}] {what}\n",
            self.file,
            self.line()
        )
    }

    /// Looks at what rules mean together.
    ///
    /// # Errors
    /// For a metric that two rules put into different domains.
    pub fn check(&self) -> Result<(), String> {
        for (pmid, desc) in self.archive.meta.descs.iter() {
            let pmid = Pmid(pmid);
            let of_metric = self.rules.metrics.get(&pmid).and_then(|r| r.indom);
            let of_indom = self.rules.indoms.get(&desc.indom);
            if let (Some(one), Some(other)) = (of_metric, of_indom.and_then(IndomRule::moved_to))
                && one != other
            {
                let names = self.archive.meta.names.names_of(pmid);
                let name = names.first().cloned().unwrap_or_default();
                return Err(format!(
                    "Semantic error in configuration file ({})\nConflicting indom change for metric \
                     {name} ({one} from metric clause, {other} from indom clause)\n",
                    self.file
                ));
            }
        }
        let rules = &self.rules.indoms;
        let stays = |indom: &InDom| {
            let here = self.archive.meta.indoms.get(indom.0).is_some();
            here && rules.get(indom).is_none_or(|rule| rule.indom.is_none())
        };
        let arrives = |indom: &InDom| {
            let moved = |rule: &IndomRule| rule.indom == Some(*indom);
            let copied = |rule: &IndomRule| rule.duplicates.contains(indom);
            rules.values().any(|rule| moved(rule) || copied(rule))
        };
        let all = self.archive.meta.descs.iter();
        let all = all.map(|(pmid, _)| Pmid(pmid));
        // Metrics of event records that rules name are in no archive's list.
        let of_events = self.rules.metrics.keys().copied();
        let of_events = of_events.filter(|pmid| event_desc(*pmid).is_some());
        for pmid in all.chain(of_events) {
            let new = self.rules.metrics.get(&pmid).and_then(|rule| rule.indom);
            if let Some(new) = new
                && !(new.is_null() || stays(&new) || arrives(&new))
            {
                let names = self.archive.meta.names.names_of(pmid);
                let of_events = || event_desc(pmid).map(|(name, _)| name.into());
                let name = names.first().cloned().or_else(of_events);
                let name = name.unwrap_or_default();
                return Err(format!(
                    "Semantic error in configuration file ({})\nNew indom ({new}) for metric {name} \
                     is not in the output archive\n",
                    self.file
                ));
            }
        }
        Ok(())
    }

    pub(super) fn warn(&self, what: &str) {
        eprintln!("Warning [{}, line {}]\n{what}", self.file, self.line());
    }

    pub(super) fn note(&self, what: impl FnOnce() -> String) {
        if self.warnings {
            self.warn(&what());
        }
    }

    /// The same of a clause whose end is known by the word behind it, which has the line.
    pub(super) fn note_behind(&self, what: impl FnOnce() -> String) {
        if self.warnings {
            let line = self.tokens.get(self.at).map_or(1, |t| t.1);
            eprintln!("Warning [{}, line {line}]\n{}", self.file, what());
        }
    }

    pub(super) fn peek(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::End, |t| &t.0)
    }

    pub(super) fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    pub(super) fn take(&mut self, token: &Token) -> bool {
        let found = self.peek() == token;
        self.at += usize::from(found);
        found
    }

    pub(super) fn expect(&mut self, token: &Token) -> Result<(), String> {
        if self.take(token) {
            Ok(())
        } else {
            self.at += 1;
            Err(self.syntax())
        }
    }

    /// The arrow of a clause.
    pub(super) fn arrow(&mut self, clause: &str) -> Result<(), String> {
        match self.next() {
            Token::Arrow => Ok(()),
            _ => Err(self.specification(&format!("Expecting -> in {clause} clause"))),
        }
    }

    /// A number of instances' domains from the text of its two parts.
    pub(super) fn indom_of(&self, domain: u32, serial: u32) -> Result<InDom, String> {
        let what = match (domain, serial) {
            (Pmid::DYNAMIC_DOMAIN.., _) => format!("Illegal domain field ({domain}) for indom"),
            (_, INDOM_SERIALS..) => format!("Illegal serial field ({serial}) for indom"),
            _ => return Ok(InDom::new(domain, serial)),
        };
        Err(self.specification(&what))
    }

    /// A metric's number from that of its three parts.
    pub(super) fn pmid_of(&self, domain: u32, cluster: u32, item: u32) -> Result<Pmid, String> {
        let what = match (domain, cluster, item) {
            (512.., _, _) => format!("Illegal domain field ({domain}) for pmid"),
            (_, 4096.., _) => format!("Illegal cluster field ({cluster}) for pmid"),
            (_, _, 1024..) => format!("Illegal item field ({item}) for pmid"),
            _ => {
                if domain == Pmid::DYNAMIC_DOMAIN {
                    self.warn(&format!("Dynamic metric domain field ({domain}) for pmid"));
                }
                return Ok(Pmid::new(domain, cluster, item));
            }
        };
        Err(self.specification(&what))
    }

    pub(super) fn keyword(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Token::Word(w) if w.eq_ignore_ascii_case(word));
        self.at += usize::from(found);
        found
    }

    /// Refuses a star that stands for all, which only numbers may have in them.
    pub(super) fn no_star(&mut self) -> Result<(), String> {
        match self.peek() {
            Token::Word(word) if word == "*" => {
                self.at += 1;
                Err(self.specification("Unexpected character '*'"))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn word(&mut self) -> Result<String, String> {
        match self.next() {
            Token::Word(word) => Ok(word),
            _ => Err(self.syntax()),
        }
    }

    pub(super) fn text(&mut self) -> Result<String, String> {
        match self.next() {
            Token::Word(word) | Token::Quoted(word) => Ok(word),
            _ => Err(self.syntax()),
        }
    }

    /// A text that has to stand in quotes.
    pub(super) fn quoted(&mut self) -> Result<String, String> {
        match self.next() {
            Token::Quoted(text) => Ok(text),
            _ => Err(self.syntax()),
        }
    }

    pub(super) fn number<T: std::str::FromStr>(&mut self) -> Result<T, String> {
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
        if *self.peek() == Token::End {
            self.at += 1;
            return Err(self.syntax());
        }
        while *self.peek() != Token::End {
            let kind = self.word()?.to_ascii_lowercase();
            self.plain = matches!(kind.as_str(), "text" | "label");
            match kind.as_str() {
                "global" => self.global()?,
                "indom" => self.indom()?,
                "metric" => self.metric()?,
                "text" => self.help_text()?,
                "label" => self.label()?,
                _ => return Err(self.syntax()),
            }
        }
        match self.clash() {
            Some(what) => Err(format!(
                "Semantic error in configuration file ({path})\n{what}\n"
            )),
            None => Ok(()),
        }
    }

    /// Two instances of a domain that rules give one number, or names that can't be told apart.
    fn clash(&self) -> Option<String> {
        let mut indoms: Vec<_> = self.rules.indoms.iter().collect();
        indoms.sort_by_key(|(indom, _)| indom.0);
        for (indom, rule) in indoms {
            let mut all = self.archive.meta.all_instances(*indom).unwrap_or_default();
            all.sort_by_key(|i| i.inst);
            let changed: Vec<(i32, Text, bool)> = all
                .into_iter()
                .filter_map(|instance| match rule.instances.get(&instance.inst) {
                    Some(rule) if rule.delete => None,
                    Some(rule) => Some((
                        rule.number.unwrap_or(instance.inst),
                        rule.name.clone().unwrap_or(instance.name),
                        true,
                    )),
                    None => Some((instance.inst, instance.name, false)),
                })
                .collect();
            for (at, (inst, name, by_rule)) in changed.iter().enumerate() {
                for (other, other_name, other_by_rule) in changed.iter().skip(at + 1) {
                    if !by_rule && !other_by_rule {
                        continue;
                    }
                    if inst == other {
                        return Some(format!(
                            "Duplicate instance id {inst} (\"{name}\" and \"{other_name}\") for indom {indom}"
                        ));
                    }
                    // Names are told apart by what stands before a space.
                    let word = |name: &Text| name.split(|b| *b == b' ').next().map(<[u8]>::to_vec);
                    if word(name) == word(other_name) {
                        return Some(format!(
                            "Duplicate instance name \"{name}\" ({inst}) and \"{other_name}\" ({other}) for indom {indom}"
                        ));
                    }
                }
            }
        }
        None
    }

    /// `[+|-][[HH:]MM:]SS[.FRACTION]` in nanoseconds. More than an hour or a minute has is taken, with a warning.
    fn delta(&self, word: &str) -> Option<i128> {
        let (sign, rest) = match word.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, word.strip_prefix('+').unwrap_or(word)),
        };
        let fields: Vec<&str> = rest.split(':').collect();
        let (last, before) = fields.split_last()?;
        if before.len() > 2 {
            return None;
        }
        let (mut minutes, mut hours) = (0u32, 0u32);
        if let Some(field) = before.last() {
            minutes = field.parse().ok()?;
        }
        if before.len() == 2 {
            hours = before.first()?.parse().ok()?;
        }
        let seconds: f64 = last.parse().ok()?;
        if minutes > 59 {
            self.warn(&format!("Minutes ({minutes}) in time clause more than 59"));
        }
        // What has a fraction is told with all its digits.
        match last.contains('.') {
            true if seconds > 59.0 => self.warn(&format!(
                "Seconds ({seconds:.6}) in time clause more than 59"
            )),
            false if seconds > 59.0 => {
                self.warn(&format!("Seconds ({seconds}) in time clause more than 59"));
            }
            _ => {}
        }
        let seconds = f64::from(hours) * 3600.0 + f64::from(minutes) * 60.0 + seconds;
        Some(sign * Timestamp::from_secs_f64(seconds).as_nanos())
    }

    pub(super) fn global(&mut self) -> Result<(), String> {
        self.expect(&Token::Mark('{'))?;
        while !self.take(&Token::Mark('}')) {
            let key = self.word()?.to_ascii_lowercase();
            match key.as_str() {
                "hostname" | "time" => self.arrow(&key)?,
                "tz" | "timezone" => self.arrow("timezone")?,
                _ => self.expect(&Token::Arrow)?,
            }
            let (rules, mut title) = (&self.rules, key.as_str());
            let given = match title {
                "hostname" => rules.hostname.is_some(),
                "tz" | "timezone" => {
                    title = "timezone";
                    rules.timezone.is_some()
                }
                "zoneinfo" => rules.zoneinfo.is_some(),
                "features" => rules.features.is_some(),
                "time" => rules.delta.is_some_and(|delta| delta != 0),
                _ => false,
            };
            // Of a host's name it is said first that there is none.
            let there = title != "hostname" || matches!(self.peek(), Token::Word(_));
            if given && there {
                // The end of a time is known by what follows it, unless it has hours.
                let hours = matches!(self.peek(), Token::Word(w) if w.matches(':').count() > 1);
                self.at += if title == "time" && !hours { 2 } else { 1 };
                return Err(self.specification(&format!("Duplicate global {title} clause")));
            }
            match key.as_str() {
                "hostname" => {
                    let Token::Word(name) = self.next() else {
                        return Err(self.specification("Expecting hostname in hostname clause"));
                    };
                    if self.archive.label.hostname.as_bytes() == name.as_bytes() {
                        self.note(|| format!("Global hostname ({name}): No change"));
                    } else {
                        self.rules.hostname = Some(name);
                    }
                }
                "tz" | "timezone" => {
                    let Token::Quoted(zone) = self.next() else {
                        let what = "Expecting timezone string in timezone clause";
                        return Err(self.specification(what));
                    };
                    if self.archive.label.timezone.as_bytes() == zone.as_bytes() {
                        self.note(|| format!("Global timezone ({zone}): No change"));
                    } else {
                        self.rules.timezone = Some(zone);
                    }
                }
                "zoneinfo" | "features" if self.version == Version::V2 => {
                    return Err(self.specification(&format!(
                        "Global {key} clause requires output archive version of 3 or greater"
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
                    let Token::Word(word) = self.next() else {
                        return Err(self.specification(DELTA));
                    };
                    let delta = self.delta(&word);
                    let delta = delta.ok_or_else(|| {
                        match word.starts_with(|c: char| c.is_ascii_alphabetic()) {
                            true => self.specification(DELTA),
                            false => self.syntax(),
                        }
                    })?;
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
}

/// A number, or a star for the old one.
pub(super) fn part(word: &str, old: u32) -> Option<u32> {
    if word == "*" {
        Some(old)
    } else {
        word.parse().ok()
    }
}
