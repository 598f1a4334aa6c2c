//! `metric`: names, numbers, types and units that change.

use pcp::pmns::Place;
use pcp::{InDom, Pmid, Semantics, Text, Type, Units};

use super::parser::Parser;
use super::tokens::Token;
use super::{MetricRule, Pick};
use crate::event_metrics::{event_desc, event_metric};

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
        Type::NoSupport => "NO_SUPPORT",
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
        _ => return None,
    })
}

fn sem_of(word: &str) -> Option<Semantics> {
    Some(match word.to_ascii_lowercase().as_str() {
        "counter" => Semantics::Counter,
        "instant" => Semantics::Instant,
        "discrete" => Semantics::Discrete,
        _ => return None,
    })
}

/// Whether a word can be a metric's name: those that begin clauses are none.
fn is_name(word: &str) -> bool {
    const RESERVED: [&str; 9] = [
        "name", "pmid", "type", "sem", "units", "delete", "output", "null", "rescale",
    ];
    word.starts_with(|c: char| c.is_ascii_alphabetic())
        && !RESERVED
            .iter()
            .any(|other| word.eq_ignore_ascii_case(other))
}

/// What a rule for metrics begins with.
const METRIC: &str = "Expecting metric name or <domain>.<cluster>.<item> or <domain>.<cluster>.* or <domain>.*.* in metric rule";

/// What the number of a metric looks like.
const PMID: &str =
    "Expecting <domain>.<cluster>.<item> or <domain>.<cluster>.* or <domain>.*.* in pmid clause";

/// What a clause may change, beside deleting all.
const CLAUSES: [&str; 6] = ["name", "pmid", "type", "sem", "units", "indom"];

impl MetricRule {
    /// Whether it changes anything.
    fn changes(&self) -> bool {
        let identity = !self.names.is_empty() || self.pmid.is_some() || self.indom.is_some();
        identity || self.ty.is_some() || self.sem.is_some() || self.units.is_some()
    }
}

impl Parser<'_> {
    /// Metrics by name, or by number with stars.
    pub(super) fn metrics(&mut self) -> Result<Vec<(Pmid, Option<Text>)>, String> {
        let Token::Word(word) = self.next() else {
            return Err(self.specification(METRIC));
        };
        if word == "*" {
            return Err(self.syntax());
        }
        if !word.starts_with(|c: char| c.is_ascii_digit()) {
            if word.contains('*') {
                return Err(self.specification("Unexpected character '*'"));
            }
            return Ok(match self.archive.meta.names.lookup(word.as_bytes()) {
                Ok(Place::Leaf(pmid)) => {
                    self.rules.named_metrics.push(pmid);
                    vec![(pmid, Some(word.as_str().into()))]
                }
                _ => match event_metric(&word) {
                    Some(pmid) => {
                        self.rules.named_metrics.push(pmid);
                        vec![(pmid, Some(word.as_str().into()))]
                    }
                    None => {
                        self.note(|| format!("Metric: {word}: {}", pcp::ErrorCode::NAME));
                        Vec::new()
                    }
                },
            });
        }
        let (domain, cluster, item) = self.pmid_parts(&word, METRIC)?;
        self.pmid_of(domain, cluster.unwrap_or(0), item.unwrap_or(0))?;
        let same = |part: Option<u32>, number: u32| part.is_none_or(|part| part == number);
        let mut found: Vec<_> = self
            .archive
            .meta
            .descs
            .iter()
            .map(|(pmid, _)| Pmid(pmid))
            .filter(|p| p.domain() == domain && same(cluster, p.cluster()) && same(item, p.item()))
            .map(|p| (p, None))
            .collect();
        let pmids = found.iter().map(|(pmid, _)| *pmid);
        self.rules.named_metrics.extend(pmids);
        found.reverse();
        if let (true, Some(cluster), Some(item)) = (found.is_empty(), cluster, item) {
            let pmid = Pmid::new(domain, cluster, item);
            if event_desc(pmid).is_some() {
                self.rules.named_metrics.push(pmid);
                found.push((pmid, None));
            }
        }
        // Stars may stand for nothing.
        if found.is_empty() && item.is_some() && !self.plain {
            self.note(|| format!("Metric {word} pmNameID: {}", pcp::ErrorCode::PMID));
        }
        Ok(found)
    }

    /// The parts of a metric's number, of which the last may be stars.
    fn pmid_parts(
        &self,
        word: &str,
        expected: &str,
    ) -> Result<(u32, Option<u32>, Option<u32>), String> {
        let parts: Vec<&str> = word.split('.').collect();
        if parts.len() > 3 {
            return Err(self.specification("Unexpected character '.'"));
        }
        let star = |part: &str| match part {
            "*" => Some(None),
            part => part.parse().ok().map(Some),
        };
        let read = || {
            let [domain, cluster, item] = parts.as_slice() else {
                return None;
            };
            let (cluster, item) = (star(cluster)?, star(item)?);
            let sound = cluster.is_some() || item.is_none();
            Some((domain.parse().ok()?, cluster, item)).filter(|_| sound)
        };
        read().ok_or_else(|| self.specification(expected))
    }

    pub(super) fn metric(&mut self) -> Result<(), String> {
        self.no_star()?;
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
        for warning in std::mem::take(&mut self.held) {
            self.note_behind(|| warning);
        }
        Ok(())
    }

    pub(super) fn metric_clause(
        &mut self,
        metric: Option<&(Pmid, Option<Text>)>,
    ) -> Result<(), String> {
        let meta = &self.archive.meta;
        let pmid = metric.map_or(Pmid::NULL, |m| m.0);
        let of_events = event_desc(pmid);
        let desc = meta.descs.get(pmid.0).copied();
        let desc = desc.or(of_events.map(|(_, desc)| desc));
        let names = meta.names.names_of(pmid);
        let name = metric
            .and_then(|m| m.1.clone())
            .or_else(|| names.first().cloned())
            .or_else(|| of_events.map(|(name, _)| name.into()))
            .unwrap_or_default();
        let title = format!("Metric: {name} ({pmid})");
        let clause = self.word()?.to_ascii_lowercase();
        let mut rule = self.rules.metrics.get(&pmid).cloned().unwrap_or_default();
        if rule.delete && clause != "delete" && CLAUSES.contains(&clause.as_str()) {
            return Err(self.specification(&format!(
                "Conflicting {clause} clause for deleted metric {name}"
            )));
        }
        let given = match clause.as_str() {
            "name" => rule.names.iter().any(|(old, _)| *old == name),
            "pmid" => rule.pmid.is_some(),
            "type" => rule.ty.is_some(),
            "sem" => rule.sem.is_some(),
            "units" => rule.units.is_some(),
            "indom" => rule.indom.is_some(),
            _ => false,
        };
        let mut changed = true;
        // Whether what the clause is for is not there.
        let mut passed = false;
        let unchanged = |parser: &Self, what: String| {
            if !given {
                parser.note(|| format!("{title}: {what}: No change"));
            }
            false
        };
        match clause.as_str() {
            "delete" if rule.changes() => {
                return Err(self.specification(&format!(
                    "Conflicting delete and other clauses for metric {name}"
                )));
            }
            "delete" => rule.delete = true,
            "name" => {
                self.expect(&Token::Arrow)?;
                let named = "Expecting metric name in iname clause";
                let new: Text = match self.next() {
                    Token::Word(word) if word.contains('*') => {
                        return Err(self.specification("Unexpected character '*'"));
                    }
                    Token::Word(word) if is_name(&word) => word.as_str().into(),
                    _ => return Err(self.specification(named)),
                };
                if new == name {
                    changed = unchanged(self, "name".to_owned());
                } else if desc.is_some()
                    && let Ok(Place::Leaf(other)) = meta.names.lookup(&new)
                {
                    return Err(self.specification(&format!(
                        "Metric name {new} already assigned for PMID {other}"
                    )));
                }
                if changed {
                    rule.names.push((name.clone(), new));
                }
            }
            "pmid" => {
                self.expect(&Token::Arrow)?;
                let Token::Word(word) = self.next() else {
                    return Err(self.specification(PMID));
                };
                if word.starts_with('*') {
                    return Err(self.specification("Unexpected character '*'"));
                }
                let (domain, cluster, item) = self.pmid_parts(&word, PMID)?;
                let cluster = cluster.unwrap_or(pmid.cluster());
                let new = self.pmid_of(domain, cluster, item.unwrap_or(pmid.item()))?;
                if new == pmid {
                    changed = unchanged(self, "pmid".to_owned());
                } else {
                    rule.pmid = Some(new);
                }
            }
            "type" => {
                let only = if self.keyword("if") {
                    let what = "Expecting XXX (from PM_TYPE_XXX) after if in type clause";
                    Some(self.one_of(type_of, what)?)
                } else {
                    None
                };
                self.expect(&Token::Arrow)?;
                let new =
                    self.one_of(type_of, "Expecting XXX (from PM_TYPE_XXX) in type clause")?;
                if let Some(desc) = desc {
                    if only.is_some_and(|t| t != desc.ty) {
                        self.note(|| {
                            format!(
                                "{title}: type: {}: No conditional change to {}",
                                type_macro(desc.ty),
                                type_macro(new)
                            )
                        });
                        (changed, passed) = (false, true);
                    } else if new == desc.ty {
                        changed = unchanged(self, format!("type: {}", type_macro(desc.ty)));
                    } else if !desc.ty.is_numeric() {
                        return Err(self.specification(&format!(
                            "Old type ({}) must be numeric",
                            type_macro(desc.ty)
                        )));
                    } else {
                        rule.ty = Some(new);
                    }
                }
            }
            "sem" => {
                self.expect(&Token::Arrow)?;
                let new = self.one_of(sem_of, "Expecting XXX (from PM_SEM_XXX) in sem clause")?;
                if desc.is_some_and(|d| d.sem == new) {
                    changed = unchanged(self, format!("sem: {new}"));
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
                        let units = desc.units;
                        self.note_behind(|| format!("{title}: units: {units}: No change"));
                        changed = false;
                    } else {
                        if rescale && !desc.units.same_dimension(units) {
                            self.note(|| format!("{title}: Dimension changed, cannot rescale"));
                        }
                        rule.units = Some(units);
                        rule.rescale =
                            (rescale || self.rescale) && desc.units.same_dimension(units);
                    }
                }
            }
            "indom" => {
                self.expect(&Token::Arrow)?;
                let new = self.new_indom(desc.map_or(InDom::NULL, |d| d.indom))?;
                let pick = match self.keyword("output") {
                    true => Some(self.pick(desc.map_or(InDom::NULL, |d| d.indom), new)?),
                    false => None,
                };
                if let Some(desc) = desc {
                    let reckoned =
                        matches!(pick, Some(Pick::Min | Pick::Max | Pick::Sum | Pick::Avg));
                    if reckoned && !desc.ty.is_numeric() {
                        return Err(self.specification(&format!(
                            "OUTPUT option MIN, MAX, AVG or SUM requires type to be numeric, not {}",
                            type_macro(desc.ty)
                        )));
                    }
                    if new == desc.indom {
                        self.note_behind(|| format!("{title}: indom: {new}: No change"));
                        changed = false;
                    } else {
                        if desc.indom.is_null() && matches!(pick, None | Some(Pick::First)) {
                            self.unknown_output(&[], new, "0", Some(0));
                        }
                        rule.indom = Some(new);
                        rule.pick = pick;
                    }
                }
            }
            _ => return Err(self.syntax()),
        }
        if given && !passed {
            return Err(self.specification(&format!("Duplicate {clause} clause for metric {name}")));
        }
        if changed && desc.is_some() {
            self.rules.metrics.insert(pmid, rule);
        }
        Ok(())
    }

    /// A word that stands for something; what is to be said of another.
    fn one_of<T>(&mut self, what: fn(&str) -> Option<T>, expected: &str) -> Result<T, String> {
        let found = match self.next() {
            Token::Word(word) => what(&word),
            _ => None,
        };
        found.ok_or_else(|| self.specification(expected))
    }

    /// The value that an OUTPUT clause picks of those in the old domain, or the instance that it gets in the new one.
    fn pick(&mut self, old: InDom, new: InDom) -> Result<Pick, String> {
        let word = match self.next() {
            Token::Word(word) => word.to_ascii_lowercase(),
            _ => String::new(),
        };
        Ok(match word.as_str() {
            "first" => Pick::First,
            "last" => Pick::Last,
            "min" => Pick::Min,
            "max" => Pick::Max,
            "sum" => Pick::Sum,
            "avg" => Pick::Avg,
            "inst" => {
                let inst: i32 = self.number()?;
                self.unknown_output(&[old], new, &inst.to_string(), Some(inst));
                Pick::Inst(inst)
            }
            "iname" => {
                let Token::Quoted(name) = self.next() else {
                    return Err(self.syntax());
                };
                let from = if old.is_null() { new } else { old };
                let all = self.archive.meta.all_instances(from).unwrap_or_default();
                let first = |name: &[u8]| name.split(|b| *b == b' ').next().map(<[u8]>::to_vec);
                let same = |i: &&pcp::Instance| {
                    *i.name == *name.as_bytes() || first(&i.name) == first(name.as_bytes())
                };
                let found = all.iter().find(same).map(|i| i.inst);
                self.unknown_output(&[old], new, &format!("\"{name}\""), found);
                Pick::Inst(found.unwrap_or(if old.is_null() { 0 } else { -1 }))
            }
            _ => {
                return Err(self.specification(
                    "Expecting FIRST or LAST or INST or INAME or MIN or MAX or AVG for OUTPUT instance option",
                ));
            }
        })
    }

    /// Warns of an instance that the old domains or the new one do not have.
    fn unknown_output(&mut self, old: &[InDom], new: InDom, shown: &str, inst: Option<i32>) {
        let sides = old.iter().map(|indom| ("old", *indom));
        for (side, indom) in sides.chain([("new", new)]) {
            if indom.is_null() || self.archive.meta.indoms.get(indom.0).is_none() {
                continue;
            }
            let all = self.archive.meta.all_instances(indom).unwrap_or_default();
            if inst.is_none_or(|inst| all.iter().all(|i| i.inst != inst)) {
                self.held.push(format!(
                    "Instance {shown} from OUTPUT clause not found in {side} indom {indom}"
                ));
            }
        }
    }

    pub(super) fn units(&mut self) -> Result<Units, String> {
        let mut dimensions = [0; 3];
        for (number, dimension) in dimensions.iter_mut().enumerate() {
            let what = "Expecting 3 numeric values for dim* fields of units";
            if number > 0 {
                self.expect(&Token::Mark(','))?;
            }
            // Four bits are kept of each.
            let four_bits = |word: &str| word.parse().ok().map(|n: i32| ((n << 4) as i8) >> 4);
            *dimension = self.one_of(four_bits, what)?;
        }
        let [space, time, count] = dimensions;
        self.expect(&Token::Mark(','))?;
        let what = "Expecting 0 or XXX (from PM_SPACE_XXX) for scaleSpace field of units";
        let space_scale = self.one_of(space_scale, what)?;
        self.expect(&Token::Mark(','))?;
        let what = "Expecting 0 or XXX (from PM_TIME_XXX) for scaleTime field of units";
        let time_scale = self.one_of(time_scale, what)?;
        self.expect(&Token::Mark(','))?;
        let what = "Expecting 0 or ONE for scaleCount field of units";
        let count_scale = self.one_of(count_scale, what)?;
        Ok(Units::new(
            space,
            time,
            count,
            space_scale,
            time_scale,
            count_scale,
        ))
    }
}

fn space_scale(word: &str) -> Option<u8> {
    Some(match word.to_ascii_uppercase().as_str() {
        "0" | "BYTE" => 0,
        "KBYTE" => 1,
        "MBYTE" => 2,
        "GBYTE" => 3,
        "TBYTE" => 4,
        "PBYTE" => 5,
        "EBYTE" => 6,
        _ => return None,
    })
}

fn time_scale(word: &str) -> Option<u8> {
    Some(match word.to_ascii_uppercase().as_str() {
        "0" | "NSEC" => 0,
        "USEC" => 1,
        "MSEC" => 2,
        "SEC" => 3,
        "MIN" => 4,
        "HOUR" => 5,
        _ => return None,
    })
}

fn count_scale(word: &str) -> Option<i8> {
    match word.to_ascii_uppercase().as_str() {
        "ONE" => Some(0),
        number => number.parse().ok(),
    }
}
