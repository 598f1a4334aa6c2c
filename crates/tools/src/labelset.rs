//! Changing the labels of a set.

use pcp::{Label, LabelSet};

use crate::rewrite_rules::LabelRule;

/// A value as it stands in JSON.
pub fn quoted(text: &str) -> String {
    let plain = text.parse::<f64>().is_ok()
        || matches!(text, "true" | "false" | "null")
        || text.starts_with(['"', '{', '[']);
    if plain {
        text.to_owned()
    } else {
        format!("\"{text}\"")
    }
}

/// Takes the labels that a rule is about out of a set, and applies it to them. A rule for all labels takes all in one set; one
/// for some leaves each in a set of its own.
pub fn change(set: &mut LabelSet, level: u32, rule: &LabelRule) -> Vec<LabelSet> {
    let some = rule.name.is_some() || rule.value.is_some();
    let (mut rest, mut changed) = (Vec::new(), Vec::new());
    for label in &set.labels {
        let name = set.name(label).to_vec();
        let value = set.value(label).to_vec();
        let same_name = rule.name.as_ref().is_none_or(|n| n.as_bytes() == name);
        let same_value = rule
            .value
            .as_ref()
            .is_none_or(|v| quoted(v).as_bytes() == value || v.as_bytes() == value);
        let mut member = (name, value, *label);
        if !(same_name && same_value) {
            rest.push(member);
            continue;
        }
        if some {
            member.2.flags = pcp::LabelFlags(u8::try_from(level).unwrap_or(0));
        }
        if let Some(new) = &rule.new_name {
            member.0 = new.clone().into_bytes();
        }
        if let Some(new) = &rule.new_value {
            member.1 = quoted(new).into_bytes();
        }
        changed.push(member);
    }
    if changed.is_empty() {
        return Vec::new();
    }
    let groups: Vec<Vec<_>> = match some {
        true => changed.into_iter().map(|member| vec![member]).collect(),
        false => vec![changed],
    };
    let taken = groups.into_iter().map(|members| {
        let mut taken = set.clone();
        rebuild(&mut taken, members);
        taken
    });
    let taken: Vec<LabelSet> = taken.collect();
    rebuild(set, rest);
    if rule.delete { Vec::new() } else { taken }
}

/// A set of labels of these names and values.
pub fn fresh(level: u32, inst: i32, pairs: &[(String, String)]) -> LabelSet {
    let mut set = LabelSet {
        inst,
        json: Default::default(),
        labels: Vec::new(),
    };
    let label = Label {
        name: 0,
        name_len: 0,
        flags: pcp::LabelFlags(u8::try_from(level).unwrap_or(0)),
        value: 0,
        value_len: 0,
    };
    let member = |(name, value): &(String, String)| {
        let (name, value) = (name.as_bytes().to_vec(), quoted(value).into_bytes());
        (name, value, label)
    };
    rebuild(&mut set, pairs.iter().map(member).collect());
    set
}

/// Writes a set anew from its labels' names and values.
fn rebuild(set: &mut LabelSet, mut members: Vec<(Vec<u8>, Vec<u8>, Label)>) {
    members.sort_by(|a, b| a.0.cmp(&b.0));
    let mut json = vec![b'{'];
    set.labels.clear();
    for (name, value, mut label) in members {
        if json.len() > 1 {
            json.push(b',');
        }
        json.push(b'"');
        label.name = u16::try_from(json.len()).unwrap_or(u16::MAX);
        label.name_len = u8::try_from(name.len()).unwrap_or(u8::MAX);
        json.extend_from_slice(&name);
        json.extend_from_slice(b"\":");
        label.value = u16::try_from(json.len()).unwrap_or(u16::MAX);
        label.value_len = u16::try_from(value.len()).unwrap_or(u16::MAX);
        json.extend_from_slice(&value);
        set.labels.push(label);
    }
    json.push(b'}');
    set.json = json.into();
}
