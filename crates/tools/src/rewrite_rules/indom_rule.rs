//! `indom`: instance domains that are renumbered, and their instances.

use pcp::InDom;

use super::parser::Parser;
use super::tokens::Token;

impl Parser<'_> {
    /// `domain.serial`, in which a star stands for all that the archive has.
    pub(super) fn indoms(&mut self) -> Result<Vec<InDom>, String> {
        let expected = "Expecting <domain>.<serial> or <domain>.* in indom rule";
        let (domain, serial) = self.domain_and_serial(expected)?;
        let Some(serial) = serial else {
            self.indom_of(domain, 0)?;
            let known = self.archive.meta.indoms.iter().map(|(i, _)| InDom(i));
            let found: Vec<InDom> = known.filter(|i| i.domain() == domain).collect();
            self.rules.named_indoms.extend(&found);
            return Ok(found);
        };
        let indom = self.indom_of(domain, serial)?;
        if self.archive.meta.indoms.get(indom.0).is_none() {
            // There are labels and texts of domains that are not there.
            if self.plain {
                return Ok(vec![indom]);
            }
            self.note(|| format!("Instance domain {indom}: {}", pcp::ErrorCode::INDOM_LOG));
            return Ok(Vec::new());
        }
        self.rules.named_indoms.push(indom);
        Ok(vec![indom])
    }

    /// The numbers of `domain.serial`; no serial number for a star.
    fn domain_and_serial(&mut self, expected: &str) -> Result<(u32, Option<u32>), String> {
        let Token::Word(word) = self.next() else {
            return Err(self.specification(expected));
        };
        let read = || {
            let (domain, serial) = word.split_once('.')?;
            let serial = match serial {
                "*" => None,
                serial => Some(serial.parse().ok()?),
            };
            Some((domain.parse().ok()?, serial))
        };
        read().ok_or_else(|| self.specification(expected))
    }

    /// The number that a domain gets, for which a star leaves the old serial number.
    fn new_number(&mut self, old: InDom, expected: &str) -> Result<InDom, String> {
        let (domain, serial) = self.domain_and_serial(expected)?;
        self.indom_of(domain, serial.unwrap_or(old.serial()))
    }

    /// The domain that a metric gets, if any.
    pub(super) fn new_indom(&mut self, old: InDom) -> Result<InDom, String> {
        if self.keyword("null") {
            return Ok(InDom::NULL);
        }
        self.new_number(old, "Expecting <domain>.<serial> or NULL in indom clause")
    }

    /// An instance by its name, which stands in quotes, or its number.
    fn instance(&mut self, by_name: bool) -> Option<String> {
        match self.next() {
            Token::Quoted(name) if by_name => Some(name),
            Token::Word(number) if !by_name && number.bytes().all(|b| b.is_ascii_digit()) => {
                Some(number)
            }
            _ => None,
        }
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
            self.arrow("indom")?;
            let duplicate = self.keyword("duplicate");
            let new = if duplicate {
                self.new_number(old, "syntax error")?
            } else {
                let expected = "Expecting <domain>.<serial> or <domain>.* in indom clause";
                self.new_number(old, expected)?
            };
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
        let (clause, what) = match by_name {
            true => ("iname", "external instance name string"),
            false => ("inst", "internal instance identifier"),
        };
        let Some(which) = self.instance(by_name) else {
            return Err(self.specification(&format!("Expecting old {what} in {clause} clause")));
        };
        self.arrow(clause)?;
        let delete = self.keyword("delete");
        let new = match delete {
            true => Some(String::new()),
            false => self.instance(by_name),
        };
        let Some(new) = new else {
            return Err(self.specification(&format!(
                "Expecting new {what} or DELETE in {clause} clause"
            )));
        };
        let Some(indom) = indom else {
            return Ok(());
        };
        let all = self.archive.meta.indoms.get(indom.0);
        // Names are told apart by what stands before a space.
        let word = |name: &[u8]| name.split(|b| *b == b' ').next().map(<[u8]>::to_vec);
        let numbers: Vec<i32> = if by_name {
            let mut found: Vec<i32> = all
                .into_iter()
                .flatten()
                .flat_map(|e| &e.instances)
                .filter(|i| *i.name == *which.as_bytes() || word(&i.name) == word(which.as_bytes()))
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
        // A name is compared with the whole of the old one.
        let named = all
            .into_iter()
            .flatten()
            .flat_map(|e| &e.instances)
            .find(|i| Some(&i.inst) == numbers.first());
        let unchanged = match by_name {
            true => named.is_some_and(|i| *i.name == *new.as_bytes()),
            false => which == new,
        };
        if !delete && unchanged {
            let shown = if by_name {
                format!("\"{new}\"")
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
