//! The metrics and instances that pmlogextract and pmlogreduce are told to keep (pmlogextract(1)).

use std::collections::HashMap;

use pcp::archive::Metadata;
use pcp::{Pmid, ValueSet};

/// What to keep: per metric all instances, or some.
pub struct Selection {
    metrics: HashMap<Pmid, Option<Vec<i32>>>,
}

impl Selection {
    /// Whether anything of a metric is kept.
    pub fn has(&self, pmid: Pmid) -> bool {
        self.metrics.is_empty() || self.metrics.contains_key(&pmid)
    }

    /// Keeps of a record's sets what is selected; sets that lose all values go.
    pub fn apply(&self, sets: Vec<ValueSet>) -> Vec<ValueSet> {
        let keep = |mut set: ValueSet| {
            let instances = self.metrics.get(&set.pmid)?;
            if let (Some(instances), Ok(values)) = (instances, &mut set.values) {
                *values = instances
                    .iter()
                    .filter_map(|inst| values.iter().find(|v| v.inst == *inst).cloned())
                    .collect();
                if values.is_empty() {
                    return None;
                }
            }
            Some(set)
        };
        if self.metrics.is_empty() {
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
    };
    let mut at = 0;
    while at + 1 < tokens.len() {
        let Some((Token::Name(name), _)) = tokens.get(at) else {
            return Err(wrong(tokens.get(at).map_or(end, |t| t.1)));
        };
        at += 1;
        let mut instances: Option<Vec<&Token>> = None;
        if let Some((Token::Open, _)) = tokens.get(at).filter(|_| at + 1 < tokens.len()) {
            at += 1;
            let mut list = Vec::new();
            loop {
                match tokens.get(at) {
                    Some((Token::Close, _)) if at + 1 < tokens.len() => break,
                    Some((token @ (Token::Number(_) | Token::Text(_)), _)) => list.push(token),
                    _ => return Err(wrong(end)),
                }
                at += 1;
            }
            at += 1;
            instances = Some(list);
        }
        let mut found = false;
        for meta in metas {
            let Ok(leaves) = meta.names.leaves(name.as_bytes()) else {
                continue;
            };
            found = true;
            for (_, pmid) in leaves {
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
                        Some(list.iter().filter_map(number).collect::<Vec<_>>())
                    }
                    _ => None,
                };
                let kept = selection
                    .metrics
                    .entry(pmid)
                    .or_insert_with(|| numbers.as_ref().map(|_| Vec::new()));
                match (kept, numbers) {
                    (Some(kept), Some(numbers)) => {
                        for number in numbers {
                            if !kept.contains(&number) {
                                kept.push(number);
                            }
                        }
                    }
                    (kept, _) => *kept = None,
                }
            }
        }
        if !found {
            let line = tokens.get(at).map_or(end, |t| t.1);
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
