//! The metrics and instances that pmlogextract and pmlogreduce are told to keep (pmlogextract(1)).

use std::collections::HashMap;

use pcp::archive::Metadata;
use pcp::{Pmid, ValueSet};

/// What to keep: per metric all instances, or some.
pub struct Selection {
    metrics: HashMap<Pmid, Option<Vec<i32>>>,
    /// Whether metrics were named that have none of the instances: no metrics do not mean all then.
    refused: bool,
}

impl Selection {
    fn is_all(&self) -> bool {
        self.metrics.is_empty() && !self.refused
    }

    /// Whether anything of a metric is kept.
    pub fn has(&self, pmid: Pmid) -> bool {
        self.is_all() || self.metrics.contains_key(&pmid)
    }

    /// Keeps of a record's sets what is selected; sets that lose all values stay, without any.
    pub fn apply(&self, sets: Vec<ValueSet>) -> Vec<ValueSet> {
        let keep = |mut set: ValueSet| {
            let instances = self.metrics.get(&set.pmid)?;
            if let (Some(instances), Ok(values)) = (instances, &mut set.values) {
                *values = instances
                    .iter()
                    .filter_map(|inst| values.iter().find(|v| v.inst == *inst).cloned())
                    .collect();
            }
            Some(set)
        };
        if self.is_all() {
            return sets;
        }
        sets.into_iter().filter_map(keep).collect()
    }
}

#[derive(PartialEq, Debug)]
enum Token {
    Name(String),
    Number(i32),
    Text(String),
    Open,
    Close,
}

fn tokens(text: &str) -> Result<Vec<(Token, usize)>, usize> {
    let mut found = Vec::new();
    let mut line = 1;
    let mut chars = text.chars().peekable();
    while let Some(&c) = chars.peek() {
        match c {
            '\n' => {
                line += 1;
                chars.next();
            }
            '#' => while chars.next_if(|c| *c != '\n').is_some() {},
            '[' | ']' => {
                chars.next();
                found.push((if c == '[' { Token::Open } else { Token::Close }, line));
            }
            '"' | '\'' => {
                chars.next();
                let mut name = String::new();
                loop {
                    match chars.next() {
                        Some(d) if d == c => break,
                        Some('\n') | None => return Err(line),
                        Some(d) => name.push(d),
                    }
                }
                found.push((Token::Text(name), line));
            }
            c if c.is_whitespace() || c == ',' => {
                chars.next();
            }
            c if c.is_alphanumeric() || c == '_' => {
                let mut word = String::new();
                while let Some(d) = chars.next_if(|d| d.is_alphanumeric() || matches!(d, '_' | '.'))
                {
                    word.push(d);
                }
                let token = match word.parse() {
                    Ok(number) => Token::Number(number),
                    Err(_) => Token::Name(word),
                };
                found.push((token, line));
            }
            _ => return Err(line),
        }
    }
    found.push((Token::Close, line));
    Ok(found)
}

/// Reads a configuration; names mean what the archives say.
///
/// # Errors
/// The message for standard error.
pub fn read(path: &str, metas: &[&Metadata]) -> Result<Selection, String> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        format!(
            "pmlogextract: Error: cannot open config file \"{path}\": {}\n",
            pcp::ErrorCode::from(&error)
        )
    })?;
    let wrong = |line: usize| {
        format!("Specification error in configuration file ({path})\n[line {line}] syntax error\n")
    };
    let tokens = tokens(&text).map_err(wrong)?;
    let end = tokens.last().map_or(1, |(_, line)| *line);
    let mut selection = Selection {
        metrics: HashMap::new(),
        refused: false,
    };
    let mut at = 0;
    while at + 1 < tokens.len() {
        let Some((Token::Name(name), _)) = tokens.get(at) else {
            return Err(wrong(tokens.get(at).map_or(end, |t| t.1)));
        };
        at += 1;
        let mut instances: Option<Vec<&Token>> = None;
        let mut line = tokens.get(at).map_or(end, |t| t.1);
        if let Some((Token::Open, _)) = tokens.get(at).filter(|_| at + 1 < tokens.len()) {
            at += 1;
            let mut list = Vec::new();
            loop {
                match tokens.get(at) {
                    Some((Token::Close, last)) if at + 1 < tokens.len() && !list.is_empty() => {
                        line = *last;
                        break;
                    }
                    Some((token @ (Token::Number(_) | Token::Text(_)), _)) => list.push(token),
                    other => return Err(wrong(other.map_or(end, |t| t.1))),
                }
                at += 1;
            }
            at += 1;
            instances = Some(list);
        }
        let mut found = false;
        // What was said of a metric first holds, and what the first archive says that has it.
        for meta in metas {
            let Ok(leaves) = meta.names.leaves(name.as_bytes()) else {
                continue;
            };
            found = true;
            for (leaf, pmid) in leaves {
                if selection.metrics.contains_key(&pmid) {
                    continue;
                }
                let indom = meta.descs.get(pmid.0).map(|d| d.indom);
                let numbers = match (&instances, indom) {
                    (Some(list), Some(indom)) if !indom.is_null() => {
                        let all = meta.all_instances(indom).unwrap_or_default();
                        let number = |token: &&Token| match token {
                            Token::Number(number) => Some(*number),
                            Token::Text(name) => all
                                .iter()
                                .find(|i| pcp::instance_name_matches(&i.name, name.as_bytes()))
                                .map(|i| i.inst),
                            _ => None,
                        };
                        let known_there = |number: i32| all.iter().any(|i| i.inst == number);
                        let mut numbers = Vec::new();
                        for token in list {
                            if let Some(number) = number(token).filter(|n| known_there(*n)) {
                                if !numbers.contains(&number) {
                                    numbers.push(number);
                                }
                                continue;
                            }
                            let name = match token {
                                Token::Number(number) => number.to_string(),
                                Token::Text(name) => name.clone(),
                                _ => continue,
                            };
                            eprintln!(
                                "Warning [{path}, line {line}]\n\
                                 Instance \"{name}\" is not defined for the metric \"{leaf}\""
                            );
                        }
                        if numbers.is_empty() {
                            eprintln!(
                                "Warning [{path}, line {line}]\n\
                                 None of the instances for metric \"{leaf}\" are valid, metric not extracted"
                            );
                        }
                        Some(numbers)
                    }
                    _ => None,
                };
                selection.metrics.insert(pmid, numbers);
            }
        }
        let named = selection.metrics.len();
        selection
            .metrics
            .retain(|_, kept| kept.as_ref() != Some(&Vec::new()));
        selection.refused |= selection.metrics.len() < named;
        if !found {
            eprintln!(
                "Warning [{path}, line {line}]\n\
                 Problem with lookup for metric \"{name}\" ... metric ignored\n\
                 Reason: {}",
                pcp::ErrorCode::NAME
            );
        }
    }
    Ok(selection)
}
