//! `text`: help that changes.

use pcp::pdu::TextKind;
use pcp::{InDom, Pmid};

use super::TextRule;
use super::parser::{Parser, part};
use super::tokens::Token;

impl Parser<'_> {
    pub(super) fn help_text(&mut self) -> Result<(), String> {
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
                    rule.text = Some(self.quoted()?);
                }
                "indom" if !of_metric => {
                    self.expect(&Token::Arrow)?;
                    moved = Some(self.number_of_parts(2)?);
                }
                "metric" if of_metric => {
                    self.expect(&Token::Arrow)?;
                    moved = Some(self.number_of_parts(3)?);
                }
                _ => return Err(self.syntax()),
            }
        }
        let known = &self.archive.meta.texts;
        rule.texts
            .retain(|(kind, ident)| known.contains_key(&(kind.0, *ident)));
        let Some(moved) = moved else {
            if !rule.texts.is_empty() {
                self.rules.texts.push(rule);
            }
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

    /// A number of so many parts, of which some may be stars.
    fn number_of_parts(&mut self, count: usize) -> Result<String, String> {
        let word = self.word()?;
        let sound = |part: &str| part == "*" || part.parse::<u32>().is_ok();
        match word.split('.').count() == count && word.split('.').all(sound) {
            true => Ok(word),
            false => Err(self.syntax()),
        }
    }
}
