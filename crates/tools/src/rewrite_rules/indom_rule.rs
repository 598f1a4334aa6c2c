//! `indom`: instance domains that are renumbered, and their instances.

use pcp::InDom;

use super::parser::{Parser, part};
use super::tokens::Token;

impl Parser<'_> {
    /// `domain.serial`, in which a star stands for all that the archive has.
    pub(super) fn indoms(&mut self) -> Result<Vec<InDom>, String> {
        let word = self.word()?;
        let Some((domain, serial)) = word.split_once('.') else {
            return Err(self.syntax());
        };
        let domain: u32 = domain.parse().map_err(|_| self.syntax())?;
        let known = self.archive.meta.indoms.iter().map(|(i, _)| InDom(i));
        if serial == "*" {
            let found: Vec<InDom> = known.filter(|i| i.domain() == domain).collect();
            self.rules.named_indoms.extend(&found);
            return Ok(found);
        }
        let serial = serial.parse().map_err(|_| self.syntax())?;
        let indom = InDom::new(domain, serial);
        if self.archive.meta.indoms.get(indom.0).is_none() {
            self.note(|| format!("Instance domain {indom}: {}", pcp::ErrorCode::INDOM_LOG));
            return Ok(Vec::new());
        }
        self.rules.named_indoms.push(indom);
        Ok(vec![indom])
    }

    pub(super) fn new_indom(&mut self, old: InDom) -> Result<InDom, String> {
        let word = self.word()?;
        if word.eq_ignore_ascii_case("null") {
            return Ok(InDom::NULL);
        }
        let (domain, serial) = word.split_once('.').ok_or_else(|| self.syntax())?;
        let domain = domain.parse().map_err(|_| self.syntax())?;
        let serial = part(serial, old.serial()).ok_or_else(|| self.syntax())?;
        Ok(InDom::new(domain, serial))
    }

    pub(super) fn indom(&mut self) -> Result<(), String> {
        self.no_star()?;
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

    pub(super) fn indom_clause(&mut self, indom: Option<InDom>) -> Result<(), String> {
        let old = indom.unwrap_or(InDom::NULL);
        if self.keyword("indom") {
            self.expect(&Token::Arrow)?;
            let duplicate = self.keyword("duplicate");
            let new = self.new_indom(old)?;
            if let Some(indom) = indom {
                let rule = self.rules.indoms.get(&indom);
                if rule.is_some_and(|rule| rule.indom.is_some() || !rule.duplicates.is_empty()) {
                    return Err(
                        self.specification(&format!("Duplicate indom clause for indom {indom}"))
                    );
                }
                if new == indom {
                    self.note(|| format!("Instance domain {indom}: indom: No change"));
                    return Ok(());
                }
                let rule = self.rules.indoms.entry(indom).or_default();
                if duplicate {
                    rule.duplicates.push(new);
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
        for number in &numbers {
            let rule = self.rules.indoms.get(&indom);
            let Some(rule) = rule.and_then(|rules| rules.instances.get(number)) else {
                continue;
            };
            let given = match (delete, by_name) {
                (true, _) => rule.name.is_some() || rule.number.is_some(),
                (false, true) => rule.name.is_some(),
                (false, false) => rule.number.is_some(),
            };
            if rule.delete || given {
                let name = all
                    .into_iter()
                    .flatten()
                    .flat_map(|e| &e.instances)
                    .find(|i| i.inst == *number)
                    .map(|i| i.name.to_string())
                    .unwrap_or_default();
                return Err(self.specification(&format!(
                    "Duplicate or conflicting clauses for instance [{number}] \"{name}\" of indom {indom}"
                )));
            }
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
}
