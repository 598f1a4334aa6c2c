//! `label`: labels that change.

use pcp::{InDom, LabelLevel, Pmid};

use super::LabelRule;
use super::parser::{Parser, part};
use super::tokens::Token;

impl Parser<'_> {
    pub(super) fn label(&mut self) -> Result<(), String> {
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
                "cluster" | "item" => {
                    self.expect(&Token::Arrow)?;
                    let old = Pmid(idents.first().copied().unwrap_or(0));
                    let word = self.word()?;
                    let mut parts = word.split('.');
                    let new = (|| {
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
                            .then(|| Pmid::new(domain, cluster, item))
                    })();
                    rule.ident = Some(new.ok_or_else(|| self.syntax())?.0);
                }
                "indom" => {
                    self.expect(&Token::Arrow)?;
                    let old = InDom(idents.first().copied().unwrap_or(0));
                    rule.ident = Some(self.new_indom(old)?.0);
                }
                _ => return Err(self.syntax()),
            }
        }
        self.rules.labels.push(rule);
        Ok(())
    }
}
