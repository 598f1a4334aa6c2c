//! `label`: labels that change.

use std::collections::HashMap;

use pcp::{InDom, LabelLevel, Pmid};

use super::LabelRule;
use super::parser::{Parser, part};
use super::tokens::Token;

/// What is said of a label that is new and told from others.
const NEW_OF_ONE: &str = "The target label name and value must both not be specified for a NEW label and will be ignored";

impl Parser<'_> {
    pub(super) fn label(&mut self) -> Result<(), String> {
        let kind = self.word()?.to_ascii_lowercase();
        let (level, idents): (LabelLevel, Vec<u32>) = match kind.as_str() {
            "context" => (LabelLevel::Context, vec![u32::MAX]),
            "domain" => {
                let domain = self.number()?;
                self.pmid_of(domain, 0, 0)?;
                (LabelLevel::Domain, vec![domain])
            }
            "cluster" => {
                let word = self.word()?;
                let (domain, cluster) = word.split_once('.').ok_or_else(|| self.syntax())?;
                let domain: u32 = domain.parse().map_err(|_| self.syntax())?;
                let number = match cluster {
                    "*" => 0,
                    cluster => cluster.parse().map_err(|_| self.syntax())?,
                };
                self.pmid_of(domain, number, 0)?;
                let of_level = self.archive.meta.labels.keys();
                let all = of_level.filter(|(l, _)| *l == LabelLevel::Cluster as u32);
                let same = |p: &Pmid| {
                    p.domain() == domain && (cluster == "*" || cluster.parse() == Ok(p.cluster()))
                };
                let found = all.map(|(_, i)| Pmid(*i)).filter(same).map(|p| p.0);
                let mut idents: Vec<u32> = found.collect();
                // One without labels can be given some.
                if let (true, Ok(cluster)) = (idents.is_empty(), cluster.parse()) {
                    idents.push(Pmid::new(domain, cluster, 0).0);
                }
                (LabelLevel::Cluster, idents)
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
        let mut added = Vec::new();
        let mut moved: HashMap<u32, u32> = HashMap::new();
        let mut selectors = Vec::new();
        while !self.take(&Token::Mark('{')) {
            selectors.push(match self.next() {
                Token::Quoted(text) => Some(text),
                Token::Word(word) if word == "*" => None,
                Token::Word(word) if word.parse::<f64>().is_err() => return Err(self.syntax()),
                // An instance comes first, values later.
                Token::Word(word)
                    if level == LabelLevel::Instances
                        && selectors.is_empty()
                        && rule.inst.is_none() =>
                {
                    rule.inst = Some(word.parse().map_err(|_| self.syntax())?);
                    continue;
                }
                Token::Word(word) => Some(word),
                _ => return Err(self.syntax()),
            });
        }
        let mut unknown = false;
        if level == LabelLevel::Instances && rule.inst.is_none() && !selectors.is_empty() {
            let name = selectors.remove(0);
            if let (Some(name), Some(indom)) = (name, idents.first()) {
                let indom = InDom(*indom);
                let all = self.archive.meta.all_instances(indom);
                let there = all.is_some();
                rule.inst = all
                    .unwrap_or_default()
                    .iter()
                    .find(|i| pcp::instance_name_matches(&i.name, name.as_bytes()))
                    .map(|i| i.inst);
                unknown = rule.inst.is_none();
                if unknown && there {
                    self.note(|| format!("Instance domain {indom}: no instance \"{name}\" found"));
                }
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
                    let pair = (self.quoted()?, self.text()?);
                    if rule.name.is_some() || rule.value.is_some() {
                        self.note(|| NEW_OF_ONE.to_owned());
                    }
                    added.push(pair);
                }
                "label" => {
                    self.expect(&Token::Arrow)?;
                    rule.new_name = Some(self.quoted()?);
                }
                "value" => {
                    self.expect(&Token::Arrow)?;
                    rule.new_value = Some(self.text()?);
                }
                "domain" => {
                    self.expect(&Token::Arrow)?;
                    rule.ident = Some(self.number()?);
                }
                "cluster" | "item" => {
                    self.expect(&Token::Arrow)?;
                    let word = self.word()?;
                    let number = |old: u32| {
                        let old = Pmid(old);
                        let mut parts = word.split('.');
                        let domain = parts.next()?.parse().ok()?;
                        let cluster = part(parts.next()?, old.cluster())?;
                        let item = match (clause.as_str(), parts.next()) {
                            ("cluster", None) => 0,
                            ("item", Some(item)) => part(item, old.item())?,
                            _ => return None,
                        };
                        parts
                            .next()
                            .is_none()
                            .then(|| Pmid::new(domain, cluster, item).0)
                    };
                    let first = idents.first().copied().unwrap_or(0);
                    rule.ident = Some(number(first).ok_or_else(|| self.syntax())?);
                    // A star stands for what each has.
                    let each = idents
                        .iter()
                        .filter_map(|ident| Some((*ident, number(*ident)?)));
                    moved.extend(each);
                }
                "indom" | "instances" => {
                    self.expect(&Token::Arrow)?;
                    let old = InDom(idents.first().copied().unwrap_or(0));
                    rule.ident = Some(self.new_indom(old)?.0);
                }
                _ => return Err(self.syntax()),
            }
        }
        for (name, value) in added {
            self.new_label(level, &idents, rule.inst, &name, &value);
        }
        // Only labels that are there can change.
        let known = &self.archive.meta.labels;
        rule.labels
            .retain(|key| known.contains_key(key) && !unknown);
        let changes = rule.delete || rule.new_name.is_some() || rule.new_value.is_some();
        if !(changes || rule.ident.is_some()) || rule.labels.is_empty() {
            return Ok(());
        }
        if rule
            .labels
            .iter()
            .all(|(_, ident)| !moved.contains_key(ident))
        {
            self.rules.labels.push(rule);
            return Ok(());
        }
        for key in &rule.labels {
            let mut one = rule.clone();
            one.labels = vec![*key];
            one.ident = moved.get(&key.1).copied();
            self.rules.labels.push(one);
        }
        Ok(())
    }

    /// A label for all that an archive has of what is named.
    fn new_label(
        &mut self,
        level: LabelLevel,
        idents: &[u32],
        inst: Option<i32>,
        name: &str,
        value: &str,
    ) {
        let pmids = || self.archive.meta.descs.iter().map(|(pmid, _)| Pmid(pmid));
        let mut targets: Vec<(u32, Option<i32>)> = Vec::new();
        for ident in idents {
            let ident = *ident;
            match level {
                LabelLevel::Domain if pmids().all(|p| p.domain() != ident) => {}
                LabelLevel::Cluster if pmids().all(|p| p.without_item().0 != ident) => {}
                LabelLevel::InDom if self.archive.meta.indoms.get(ident).is_none() => {}
                LabelLevel::Instances => {
                    let all = self.archive.meta.all_instances(InDom(ident));
                    let mut all: Vec<i32> =
                        all.unwrap_or_default().iter().map(|i| i.inst).collect();
                    all.retain(|i| inst.is_none_or(|inst| inst == *i));
                    targets.extend(all.into_iter().map(|i| (ident, Some(i))));
                }
                _ => targets.push((ident, None)),
            }
        }
        if targets.is_empty() {
            let what = match level {
                LabelLevel::Domain => "domain",
                LabelLevel::Cluster => "cluster",
                LabelLevel::Item => "metric",
                LabelLevel::InDom => "indom",
                LabelLevel::Instances => "indom instance",
                _ => return,
            };
            let value = crate::labelset::quoted(value);
            self.warn(&format!(
                "No matching {what} for new label {{\"{name}\":{value}}}"
            ));
        }
        for (ident, inst) in targets {
            let labels = [(level as u32, ident)];
            let mut rules = self.rules.labels.iter_mut();
            // What else comes for the same stands in the same set.
            let same =
                |r: &&mut LabelRule| !r.added.is_empty() && r.labels == labels && r.inst == inst;
            if let Some(rule) = rules.find(same) {
                rule.added.retain(|(other, _)| other != name);
                rule.added.push((name.to_owned(), value.to_owned()));
                continue;
            }
            self.rules.labels.push(LabelRule {
                labels: vec![(level as u32, ident)],
                inst,
                name: None,
                value: None,
                delete: false,
                new_name: None,
                new_value: None,
                added: vec![(name.to_owned(), value.to_owned())],
                ident: None,
            });
        }
    }
}
