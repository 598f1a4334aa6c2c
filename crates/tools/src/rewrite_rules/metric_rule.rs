//! `metric`: names, numbers, types and units that change.

use pcp::{InDom, Pmid, Semantics, Text, Type, Units};

use super::Pick;
use super::parser::{Parser, part};
use super::tokens::Token;

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

impl Parser<'_> {
    /// Metrics by name, or by number with stars.
    pub(super) fn metrics(&mut self) -> Result<Vec<(Pmid, Option<Text>)>, String> {
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

    pub(super) fn metric(&mut self) -> Result<(), String> {
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

    pub(super) fn metric_clause(
        &mut self,
        metric: Option<&(Pmid, Option<Text>)>,
    ) -> Result<(), String> {
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
                    changed = unchanged(self, "name".to_owned());
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
                    changed = unchanged(self, format!("sem: {word}"));
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
                        self.note_behind(|| format!("{title}: indom: {new}: No change"));
                        changed = false;
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

    pub(super) fn units(&mut self) -> Result<Units, String> {
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
}
