//! The rules in words (`pmlogrewrite -v`).

use std::collections::HashSet;

use pcp::archive::{Archive, IndomEntry, Version};
use pcp::pdu::TextKind;
use pcp::{Desc, InDom, LabelLevel, Pmid, Timestamp};

use crate::event_metrics::event_desc;
use crate::pmdumplog::label_flags;
use crate::rewrite_rules::{IndomRule, LabelRule, MetricRule, Pick, Rules, TextRule};

/// What `-v` says of the rules ahead of the work.
pub fn summary(archive: &Archive, rules: &Rules) {
    println!("PCP Archive Log Rewrite Specifications Summary");
    if rules.is_empty() {
        println!("No changes");
        return;
    }
    let label = &archive.label;
    if let Some(name) = &rules.hostname {
        println!("Hostname:\t{} -> {name}", label.hostname);
    }
    if let Some(zone) = &rules.timezone {
        println!("Timezone:\t{} -> {zone}", label.timezone);
    }
    if let Some(zone) = &rules.zoneinfo {
        let old = match label.version {
            Version::V2 => "(null)".into(),
            Version::V3 => label.zoneinfo.clone(),
        };
        println!("Zoneinfo:\t{old} -> {zone}");
    }
    if let Some(features) = rules.features {
        println!("Features:\t{} -> {features}", label.features);
    }
    if let Some(delta) = rules.delta.filter(|d| *d != 0) {
        let sign = if delta < 0 { "-" } else { "" };
        let time = Timestamp::from_nanos(delta.abs());
        let (hours, minutes) = (time.sec / 3600, time.sec / 60 % 60);
        println!(
            "Delta:\t\t-> {sign}{hours:02}:{minutes:02}:{:02}.{:09}",
            time.sec % 60,
            time.nsec
        );
    }
    // What was met last comes first, as in PCP's tool; metrics that only their domains concern were met at the end.
    let mut shown = HashSet::new();
    let mut indoms = rules.named_indoms.clone();
    indoms.retain(|indom| shown.insert(*indom));
    for indom in indoms.into_iter().rev() {
        if let (Some(rule), Some(entries)) =
            (rules.indoms.get(&indom), archive.meta.indoms.get(indom.0))
        {
            domain(indom, rule, entries);
        }
    }
    let all = archive.meta.descs.iter().map(|(pmid, _)| Pmid(pmid));
    let mut shown = HashSet::new();
    let mut pmids: Vec<Pmid> = rules.named_metrics.iter().copied().chain(all).collect();
    pmids.retain(|pmid| shown.insert(*pmid));
    for pmid in pmids.into_iter().rev() {
        let of_events = event_desc(pmid);
        let known = archive.meta.descs.get(pmid.0);
        let Some(desc) = known.or(of_events.as_ref().map(|(_, desc)| desc)) else {
            continue;
        };
        let (rule, indom) = (rules.metrics.get(&pmid), rules.indoms.get(&desc.indom));
        if rule.is_some() || indom.is_some() {
            let names = archive.meta.names.names_of(pmid);
            let of_events = || of_events.map(|(name, _)| name.into());
            let name = names.first().cloned().or_else(of_events);
            println!("\nMetric: {} ({pmid})", name.unwrap_or_default());
            metric(desc, rule.unwrap_or(&MetricRule::default()), indom);
        }
    }
    texts(archive, rules);
    labels(rules);
}

/// Rules for help texts, the last first.
fn texts(archive: &Archive, rules: &Rules) {
    let mut all: Vec<(TextKind, u32, &TextRule)> = Vec::new();
    for rule in &rules.texts {
        let met_last = rule.texts.iter().rev();
        all.extend(met_last.map(|(kind, ident)| (*kind, *ident, rule)));
    }
    for (kind, ident, rule) in all.into_iter().rev() {
        let of_indom = kind.is_indom();
        let whole = kind == TextKind::METRIC_HELP || kind == TextKind::INDOM_HELP;
        let name = |ident: u32| match of_indom {
            true => InDom(ident).to_string(),
            false => Pmid(ident).to_string(),
        };
        println!(
            "\nHelp Text: {} {} ({})",
            if whole { "full" } else { "One Line" },
            if of_indom { "pmInDom" } else { "pmID" },
            name(ident)
        );
        if rule.delete {
            println!("DELETE");
        }
        if let Some(new) = rule.ident {
            println!("ID:\t\t{} -> {}", name(ident), name(new));
        }
        if let Some(new) = &rule.text {
            let old = archive.meta.texts.get(&(kind.0, ident));
            let old = old.cloned().unwrap_or_default();
            println!("Text:\t\t\"{old}\"\n\t\t->\n\t\t\"{new}\"");
        }
    }
}

/// Rules for labels, the last first; what is said of the same ones in several is said of them at once.
fn labels(rules: &Rules) {
    let mut all: Vec<(u32, u32, LabelRule)> = Vec::new();
    for rule in &rules.labels {
        for (level, ident) in rule.labels.iter().rev() {
            let same = |(l, i, other): &&mut (u32, u32, LabelRule)| {
                (*l, *i) == (*level, *ident)
                    && rule.added.is_empty()
                    && other.added.is_empty()
                    && (other.inst, &other.name, &other.value)
                        == (rule.inst, &rule.name, &rule.value)
            };
            let Some((_, _, other)) = all.iter_mut().find(same) else {
                all.push((*level, *ident, rule.clone()));
                continue;
            };
            other.delete |= rule.delete;
            other.ident = rule.ident.or(other.ident);
            other.new_name = rule.new_name.clone().or(other.new_name.take());
            other.new_value = rule.new_value.clone().or(other.new_value.take());
        }
    }
    for (level, ident, rule) in all.into_iter().rev() {
        label(level, ident, &rule);
    }
}

fn label(level: u32, ident: u32, rule: &LabelRule) {
    let level = LabelLevel::from_raw(level).unwrap_or(LabelLevel::Context);
    let of = |ident: u32| match level {
        LabelLevel::Context => "Context".to_owned(),
        LabelLevel::Domain => format!("Domain {ident}"),
        LabelLevel::Cluster => {
            format!("Cluster {}.{}", Pmid(ident).domain(), Pmid(ident).cluster())
        }
        LabelLevel::Item => format!("PMID {}", Pmid(ident)),
        LabelLevel::InDom | LabelLevel::Instances => format!("InDom {}", InDom(ident)),
    };
    print!("\nLabel: {}", of(ident));
    match (level, rule.inst) {
        (LabelLevel::Instances, Some(inst)) => print!(", Instance: {inst}"),
        (LabelLevel::Instances, None) => print!(", Instances: ALL"),
        _ => {}
    }
    if let Some(name) = &rule.name {
        print!(", Label: \"{name}\"");
    }
    if let Some(value) = &rule.value {
        print!(", Value: {}", crate::labelset::quoted(value));
    }
    println!();
    if !rule.added.is_empty() {
        let set = crate::labelset::fresh(level as u32, pcp::INST_NULL, &rule.added);
        let json = String::from_utf8_lossy(&set.json);
        let inst = rule.inst.map_or(String::new(), |inst| format!("[{inst}]"));
        println!(
            "NEW:\n    {}{inst} labels ({} bytes): {json}",
            of(ident),
            set.json.len()
        );
        for (number, label) in set.labels.iter().enumerate() {
            println!(
                "        [{number}] name({},{}) : value({},{}) [{}]",
                label.name,
                label.name_len,
                label.value,
                label.value_len,
                label_flags(label.flags.0)
            );
        }
    }
    if rule.delete {
        println!("DELETE");
    }
    if let Some(new) = rule.ident {
        // As PCP's tool names them here.
        let of = |ident: u32| match level {
            LabelLevel::Cluster => format!("Cluster {}", Pmid(ident)),
            LabelLevel::InDom | LabelLevel::Instances => format!("Indom {}", InDom(ident)),
            _ => of(ident),
        };
        // A new cluster has all bits of the item that it is not about.
        let new = match level {
            LabelLevel::Cluster => new | 0x3ff,
            _ => new,
        };
        println!("ID:\t\t{} -> {}", of(ident), of(new));
    }
    if let Some(new) = &rule.new_name {
        let old = rule
            .name
            .as_ref()
            .map_or("ALL".to_owned(), |old| format!("\"{old}\""));
        println!("Label:\t\t{old} -> \"{new}\"");
    }
    if let Some(new) = &rule.new_value {
        let old = rule
            .value
            .as_ref()
            .map_or("ALL".to_owned(), |old| crate::labelset::quoted(old));
        println!("Value:\t\t{old} -> {}", crate::labelset::quoted(new));
    }
}

fn domain(indom: InDom, rule: &IndomRule, entries: &[IndomEntry]) {
    println!("\nInstance Domain: {indom}");
    if let Some(new) = rule.moved_to() {
        println!("pmInDom:\t-> {new}");
    }
    let mut known: Vec<_> = entries.iter().flat_map(|e| &e.instances).collect();
    known.sort_by(|a, b| (a.inst, &a.name).cmp(&(b.inst, &b.name)));
    known.dedup();
    for instance in known {
        let Some(change) = rule.instances.get(&instance.inst) else {
            continue;
        };
        print!("Instance:\t[{}] \"{}\" -> ", instance.inst, instance.name);
        if change.delete {
            println!("DELETE");
            continue;
        }
        let name = change.name.as_ref().unwrap_or(&instance.name);
        println!("[{}] \"{name}\"", change.number.unwrap_or(instance.inst));
    }
}

fn metric(desc: &Desc, rule: &MetricRule, indom: Option<&IndomRule>) {
    if let Some(new) = rule.pmid {
        println!("pmID:\t\t{} -> {new}", desc.pmid);
    }
    for (old, new) in &rule.names {
        println!("Name:\t\t{old} -> {new}");
    }
    if let Some(ty) = rule.ty {
        println!("Type:\t\t{} -> {ty}", desc.ty);
    }
    if let Some(new) = rule.indom.or(indom.and_then(IndomRule::moved_to)) {
        println!("InDom:\t\t{} -> {new}", desc.indom);
        // Where there were no instances there is one value, and an instance for it; where there are none now, a value
        // is picked.
        let (gains, loses) = (desc.indom.is_null() && !new.is_null(), new.is_null());
        let output = match &rule.pick {
            None | Some(Pick::First) if gains => {
                Some("first and only value (output instance 0)".to_owned())
            }
            Some(Pick::Last) if gains => Some("last and only value (output instance 0)".to_owned()),
            Some(Pick::Inst(inst)) if gains => {
                Some(format!("first and only value (output instance {inst})"))
            }
            None if loses => Some("first value".to_owned()),
            None => None,
            Some(Pick::First) => Some("first value".to_owned()),
            Some(Pick::Last) => Some("last value".to_owned()),
            Some(Pick::Inst(inst)) => Some(format!("value for instance {inst}")),
            Some(Pick::Min) => Some("smallest value".to_owned()),
            Some(Pick::Max) => Some("largest value".to_owned()),
            Some(Pick::Sum) => Some("sum value (output instance 0)".to_owned()),
            Some(Pick::Avg) => Some("average value (output instance 0)".to_owned()),
        };
        if let Some(output) = output {
            println!("Output:\t\t{output}");
        }
    }
    if indom.is_some_and(|r| !r.instances.is_empty()) {
        println!("Inst Changes:\t<- InDom {}", desc.indom);
    }
    if let Some(sem) = rule.sem {
        println!("Semantics:\t{} -> {sem}", desc.sem);
    }
    if let Some(units) = rule.units {
        let how = if rule.rescale { " (rescale)" } else { "" };
        println!("Units:\t\t{} -> {units}{how}", desc.units);
    }
    if rule.delete {
        println!("DELETE");
    }
}
