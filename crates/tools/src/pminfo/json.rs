//! `pminfo --json`: a JSON array with an object for each metric. PCP's own has no such form.

use std::io::Write;

use pcp::archive::ArchiveMode;
use pcp::pdu::TextKind;
use pcp::{Atom, Context, Desc, InDom, LabelLevel, LabelSet, Text};
use serde_json::{Map, Value, json};

use crate::json::value;

/// What is told beside names and descriptors.
pub struct Asked {
    /// `-f`.
    pub values: bool,
    /// `-t` or `-T`.
    pub texts: bool,
    /// `-l`.
    pub labels: bool,
}

/// Writes what is asked of metrics.
///
/// # Errors
/// What the context says, and the output.
pub fn report(
    out: &mut dyn Write,
    context: &mut Context,
    names: &[Text],
    asked: &Asked,
) -> pcp::Result<()> {
    out.write_all(b"[")?;
    let mut separator = "\n";
    for name in names {
        let metric = metric(context, name, asked);
        write!(out, "{separator}{metric}")?;
        separator = ",\n";
    }
    out.write_all(b"\n]\n")?;
    Ok(())
}

fn metric(context: &mut Context, name: &Text, asked: &Asked) -> Value {
    let mut object = Map::new();
    object.insert("name".to_owned(), json!(name.to_str()));
    let found = context
        .lookup_name(&name.to_str())
        .and_then(|pmid| context.desc(pmid));
    let desc = match found {
        Ok(desc) => desc,
        Err(error) => {
            object.insert("error".to_owned(), json!(error.code().to_string()));
            return object.into();
        }
    };
    object.insert("pmid".to_owned(), json!(desc.pmid.to_string()));
    object.insert("type".to_owned(), json!(desc.ty.to_string()));
    object.insert("semantics".to_owned(), json!(desc.sem.to_string()));
    object.insert("units".to_owned(), json!(desc.units.to_string()));
    if !desc.indom.is_null() {
        object.insert("indom".to_owned(), json!(desc.indom.to_string()));
    }
    if asked.texts {
        for (key, kind) in [
            ("oneline", TextKind::METRIC_ONELINE),
            ("help", TextKind::METRIC_HELP),
        ] {
            if let Ok(text) = context.text(desc.pmid.0, kind) {
                object.insert(key.to_owned(), json!(text.to_str()));
            }
        }
    }
    if asked.values {
        match values(context, &desc) {
            Ok(values) => object.insert("values".to_owned(), values),
            Err(error) => object.insert("error".to_owned(), json!(error.code().to_string())),
        };
    }
    if asked.labels {
        let place = match context {
            Context::Archive(archive) => Some(archive.origin()),
            Context::Host(_) => None,
        };
        object.insert("labels".to_owned(), labels(context, &desc));
        if let (Context::Archive(archive), Some(place)) = (context, place) {
            archive.set_mode(ArchiveMode::Forward, place);
        }
    }
    object.into()
}

fn labels(context: &mut Context, desc: &Desc) -> Value {
    let levels = [
        (LabelLevel::Context, u32::MAX),
        (LabelLevel::Domain, desc.pmid.domain()),
        (LabelLevel::InDom, desc.indom.0),
        (LabelLevel::Cluster, desc.pmid.without_item().0),
        (LabelLevel::Item, desc.pmid.0),
    ];
    if let Context::Archive(archive) = context {
        // As they were at the end.
        let end = archive.set().end();
        archive.set_mode(ArchiveMode::Forward, end);
    }
    let mut sets: Vec<LabelSet> = Vec::new();
    for (level, ident) in levels {
        if level != LabelLevel::InDom || desc.indom != InDom::NULL {
            sets.extend(context.labels(ident, level).unwrap_or_default());
        }
    }
    let merged = pcp::merge_labels(&sets, |_| true);
    serde_json::from_slice(&merged).unwrap_or_default()
}

fn values(context: &mut Context, desc: &Desc) -> pcp::Result<Value> {
    let fetched = context.fetch(&[desc.pmid])?;
    let Some(set) = fetched.sets.first() else {
        return Ok(json!([]));
    };
    if let Err(code) = &set.values {
        return Err((*code).into());
    }
    let mut values = Vec::new();
    for one in set.instances() {
        let shown = match Atom::extract(&one.value, desc.ty) {
            Ok(atom) => value(&atom),
            Err(code) => json!({ "error": code.to_string() }),
        };
        if desc.indom.is_null() {
            values.push(json!({ "value": shown }));
            continue;
        }
        let name = context.instance_name(desc.indom, one.inst).ok();
        let name = name.map(|n| n.to_string());
        values.push(json!({ "inst": one.inst, "name": name, "value": shown }));
    }
    Ok(values.into())
}
