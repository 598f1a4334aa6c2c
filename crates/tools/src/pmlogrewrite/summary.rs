//! The rules in words (`pmlogrewrite -v`).

use std::collections::HashSet;

use pcp::archive::{Archive, IndomEntry};
use pcp::{Desc, InDom, Pmid, Timestamp};

use crate::rewrite_rules::{IndomRule, MetricRule, Pick, Rules};

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
        println!("Zoneinfo:\t{} -> {zone}", label.zoneinfo);
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
        let Some(desc) = archive.meta.descs.get(pmid.0) else {
            continue;
        };
        let (rule, indom) = (rules.metrics.get(&pmid), rules.indoms.get(&desc.indom));
        if rule.is_some() || indom.is_some() {
            let names = archive.meta.names.names_of(pmid);
            let name = names.first().cloned().unwrap_or_default();
            println!("\nMetric: {name} ({pmid})");
            metric(desc, rule.unwrap_or(&MetricRule::default()), indom);
        }
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
        let output = match &rule.pick {
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
        println!("Units:\t\t{} -> {units}", desc.units);
    }
    if rule.delete {
        println!("DELETE");
    }
}
