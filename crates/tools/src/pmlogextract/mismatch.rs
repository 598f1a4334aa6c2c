//! What archives say of the same metrics.

use std::collections::{HashMap, HashSet};

use pcp::archive::MetaRecord;
use pcp::{Desc, Pmid, Text};

use super::{Input, Wanted};

fn joined(names: &[Text]) -> String {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    names.join(", ")
}

fn sorted(names: &[Text]) -> Vec<&Text> {
    let mut names: Vec<&Text> = names.iter().collect();
    names.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    names.dedup();
    names
}

/// Compares what the archives say of the same metrics, record by record in turns; the result are those to leave out.
pub(super) fn check_metadata(
    inputs: &[Input],
    wanted: &Wanted,
    output: &str,
) -> Result<Vec<Pmid>, String> {
    let mut seen: HashMap<Pmid, (Desc, Vec<Text>)> = HashMap::new();
    let mut by_name: HashMap<Text, Pmid> = HashMap::new();
    let mut wrong = Vec::new();
    let records = |input: &Input| input.archive.meta.records.len();
    let rounds = inputs.iter().map(records).max().unwrap_or(0);
    for (round, input) in (0..rounds).flat_map(|round| inputs.iter().map(move |i| (round, i))) {
        let Some((_, MetaRecord::Desc { desc, names })) = input.archive.meta.records.get(round)
        else {
            continue;
        };
        let complaints = match seen.get(&desc.pmid) {
            Some((old, old_names)) => {
                let found = differences((old, old_names), (desc, names));
                found.into_iter().map(|what| (desc.pmid, what)).collect()
            }
            None => {
                let mut moved = Vec::new();
                for name in names {
                    if let Some(pmid) = by_name.insert(name.clone(), desc.pmid)
                        && pmid != desc.pmid
                    {
                        let new = desc.pmid;
                        moved.push((pmid, format!("{name}: PMID changed from {pmid} to {new}")));
                    }
                }
                seen.insert(desc.pmid, (*desc, names.clone()));
                moved
            }
        };
        for (pmid, what) in complaints {
            if !wanted.skip_mismatched {
                return Err(format!(
                    "pmlogextract: Error: metric {what}!\nArchive \"{output}\" not created.\n"
                ));
            }
            eprintln!("pmlogextract: Warning: metric {what}!");
            wrong.push(pmid);
        }
    }
    if !wrong.is_empty() {
        eprintln!("Warning: the metrics below will be missing from the output archive");
        let mut listed = HashSet::new();
        wrong.retain(|pmid| listed.insert(*pmid));
        for pmid in &wrong {
            eprintln!("\tPMID: {pmid}");
        }
    }
    Ok(wrong)
}

/// What two descriptions of a metric do not agree on.
fn differences(
    (old, old_names): (&Desc, &[Text]),
    (new, new_names): (&Desc, &[Text]),
) -> Vec<String> {
    let mut found = Vec::new();
    if sorted(new_names) != sorted(old_names) {
        let (old_names, new_names) = (joined(old_names), joined(new_names));
        found.push(format!(
            "PMID {}: name changed from {old_names} to {new_names}",
            new.pmid
        ));
    }
    let name = match old_names {
        [name] => name.to_string(),
        names => format!("PMID {} ({})", new.pmid, joined(names)),
    };
    let mut changed = |what: &str, old: String, new: String| {
        if old != new {
            found.push(format!("{name}: {what} changed from {old} to {new}"));
        }
    };
    changed("type", old.ty.to_string(), new.ty.to_string());
    changed("indom", old.indom.to_string(), new.indom.to_string());
    changed("semantics", old.sem.to_string(), new.sem.to_string());
    changed("units", old.units.to_string(), new.units.to_string());
    found
}
