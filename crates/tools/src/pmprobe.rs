//! `pmprobe`: which metrics have values, and how many (pmprobe(1)).

use std::io::{self, BufWriter, Write};
use std::num::NonZero;

use pcp::archive::ArchiveMode;
use pcp::{Atom, Context, Error, ErrorCode, InDom, Pmid, Text, Timestamp, ValueSet};

use crate::json;
use crate::options::rows::*;
use crate::options::{Refusal, Spec};
use crate::source::Source;

#[rustfmt::skip]
const SPEC: Spec = Spec {
    tool: "pmprobe",
    words: "[options] [metricname ...]",
    rows: &[
        GENERAL,
        ARCHIVE,
        HOST,
        CONTAINER,
        DERIVED,
        LOCAL,
        SPEC_LOCAL,
        NAMESPACE,
        ORIGIN,
        TIMEZONE,
        HOST_ZONE,
        long_flag('d', "version", "display version number and exit"),
        HELP,
        section("Protocol options"),
        value('b', "batch", "N", "fetch at most N metrics at a time [128]"),
        REPORTING,
        flag('e', "", ""),
        flag('f', "force", "report all pmGetIndom or pmGetInDomArchive instances"),
        flag('F', "faster", "assume given metric names are PMNS leaf nodes"),
        flag('I', "external", "list external instance names"),
        flag('i', "internal", "list internal instance numbers"),
        flag('V', "verbose", "report PDU operations (verbose)"),
        flag('v', "values", "list metric values"),
        JSON,
    ],
    names_host: false,
    ..Spec::PLAIN
};

#[derive(Default)]
struct Wanted {
    json: bool,
    faster: bool,
    force: bool,
    external: bool,
    internal: bool,
    values: bool,
    counts: bool,
}

/// Runs the tool; `args` are the words behind its name. Returns the exit status.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(args: Vec<String>) -> io::Result<u8> {
    SPEC.run(|spec| probe(spec, args))
}

/// How many PDUs were exchanged, by their types.
fn count(out: &mut impl Write) -> io::Result<()> {
    for (what, counts) in ["send", "recv"].iter().zip(pcp::exchanged::counts()) {
        write!(out, "PDUs {what}")?;
        for count in counts {
            write!(out, " {count:3}")?;
        }
        let total: u64 = counts.iter().sum();
        writeln!(out, "\nTotal: {total}")?;
    }
    Ok(())
}

fn probe(spec: &Spec, args: Vec<String>) -> Result<u8, Refusal> {
    let mut wanted = Wanted::default();
    let mut source = Source::default();
    let mut batch = 128usize;
    let words = spec.parse(args, &mut source, |option, value| {
        match option {
            'f' => wanted.force = true,
            'F' => wanted.faster = true,
            'V' => wanted.counts = true,
            'e' => {}
            JSON_ONLY => wanted.json = true,
            'I' | 'i' if wanted.values => {
                return Err(spec.wrong(format!("at most one of -{option} and -v allowed")));
            }
            'I' => wanted.external = true,
            'i' => wanted.internal = true,
            'v' if wanted.internal || wanted.external => {
                return Err(spec.wrong("at most one of -v and (-i or -I) allowed"));
            }
            'v' => wanted.values = true,
            'b' => {
                batch = spec
                    .number::<NonZero<usize>>(value, "-b requires numeric argument")?
                    .get()
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let mut opened = source.open(spec)?;
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    if let Some(note) = &opened.note {
        writeln!(out, "{note}")?;
    }
    let mut names = Vec::new();
    let roots = if words.is_empty() {
        vec![String::new()]
    } else {
        words
    };
    for root in roots {
        if wanted.faster && !root.is_empty() {
            names.push(Text::from(root.as_str()));
            continue;
        }
        match opened.context.traverse(&root.as_str().into()) {
            Ok(found) => names.extend(found),
            Err(error) if wanted.json => {
                let root = root.as_str().into();
                json_lines(&mut out, &mut opened.context, &root, Err(error.code()))?;
            }
            Err(error) => {
                let code = error.code();
                writeln!(out, "{root} {} {code}", code.0)?;
            }
        }
    }
    let origin = opened.window.origin;
    let alone = names.len() == 1;
    let mut pmids = Vec::new();
    // The first of PCP's requests for identifiers is for one name more.
    let (first, rest) = names.split_at(names.len().min(batch.saturating_add(1)));
    for names in std::iter::once(first).chain(rest.chunks(batch)) {
        match opened.context.lookup_names(names) {
            Ok(found) => pmids.extend(found),
            // The error is the one name's, as an agent that is gone.
            Err(Error::Code(code)) if names.len() == 1 && code != ErrorCode::IPC => {
                pmids.push(Err(code));
            }
            Err(error) => {
                out.flush()?;
                eprintln!("pmprobe: pmLookupName: {}", error.code());
                return Ok(1);
            }
        }
    }
    for (names, pmids) in names.chunks(batch).zip(pmids.chunks(batch)) {
        let known: Vec<Pmid> = pmids.iter().filter_map(|p| p.ok()).collect();
        let listed = wanted.internal || wanted.external;
        let found = match wanted.force && listed && !wanted.json {
            true => Ok(known.iter().map(|pmid| (origin, unasked(*pmid))).collect()),
            false => values_of(&mut opened.context, &known, origin),
        };
        let sets = match found {
            Ok(sets) => sets,
            Err(error) => {
                out.flush()?;
                eprintln!("pmprobe: pmFetch: {}", error.code());
                return Ok(1);
            }
        };
        let mut sets = sets.into_iter();
        for (name, pmid) in names.iter().zip(pmids.iter().copied()) {
            if wanted.json {
                let found = pmid.map(|_| sets.next());
                json_lines(&mut out, &mut opened.context, name, found)?;
                continue;
            }
            let set = match (pmid, &opened.context) {
                (Err(code), _) if alone => Err(code),
                // In an archive PCP looks for what has no identifier as well, unless nothing has one.
                (Err(_), Context::Archive(_)) if wanted.force && listed => {
                    let code = ErrorCode::PMID_LOG;
                    writeln!(out, "{name} {} {code} (pmLookupDesc)", code.0)?;
                    continue;
                }
                (Err(_), Context::Archive(_)) => {
                    let none = ValueSet::error(Pmid::NULL, ErrorCode::EOL);
                    Ok((Pmid::NULL, Some(none)))
                }
                (pmid, _) => pmid.map(|pmid| (pmid, sets.next().map(|(_, set)| set))),
            };
            match set {
                Err(code) => writeln!(out, "{name} {} {code}", code.0)?,
                Ok((pmid, set)) => {
                    let set = set.unwrap_or_else(|| ValueSet::new(pmid, Vec::new()));
                    report(&mut out, &mut opened.context, &wanted, name, &set)?;
                }
            }
        }
    }
    if wanted.counts && !wanted.json {
        count(&mut out)?;
    }
    out.flush()?;
    Ok(0)
}

/// What stands for the values of a metric of which the instances alone are wanted.
fn unasked(pmid: Pmid) -> ValueSet {
    let (inst, value) = (pcp::INST_NULL, pcp::Value::Insitu(0));
    ValueSet::new(pmid, vec![pcp::InstanceValue { inst, value }])
}

/// A metric's values as lines of JSON.
fn json_lines(
    out: &mut impl Write,
    context: &mut Context,
    name: &Text,
    found: Result<Option<(Timestamp, ValueSet)>, ErrorCode>,
) -> io::Result<()> {
    let mut line = json::Line {
        time: Timestamp::now(),
        metric: &name.to_str(),
        instance: None,
        value: Err(ErrorCode::VALUE),
        units: String::new(),
        more: Vec::new(),
    };
    let (time, set) = match found {
        Ok(Some(found)) => found,
        Ok(None) => return writeln!(out, "{line}"),
        Err(code) => {
            line.value = Err(code);
            return writeln!(out, "{line}");
        }
    };
    line.time = time;
    let desc = context.desc(set.pmid).ok();
    line.units = desc.map_or_else(String::new, |d| d.units.to_string());
    let values = set.instances();
    if let Err(code) = &set.values {
        line.value = Err(*code);
    }
    let (Some(desc), false) = (desc, values.is_empty()) else {
        return writeln!(out, "{line}");
    };
    for value in values {
        line.instance = (!desc.indom.is_null()).then(|| {
            let name = context.instance_name(desc.indom, value.inst).ok();
            name.map_or_else(|| value.inst.to_string(), |name| name.to_string())
        });
        line.value = Atom::extract(&value.value, desc.ty).map(|atom| json::value(&atom));
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// Values now, or in archives each metric's first from the origin on, with their times.
pub(crate) fn values_of(
    context: &mut Context,
    pmids: &[Pmid],
    origin: Timestamp,
) -> pcp::Result<Vec<(Timestamp, ValueSet)>> {
    if matches!(context, Context::Host(_)) {
        if pmids.is_empty() {
            return Ok(Vec::new());
        }
        let fetched = context.fetch(pmids)?;
        let time = fetched.time;
        return Ok(fetched.sets.into_iter().map(|set| (time, set)).collect());
    }
    let mut sets = Vec::new();
    for pmid in pmids {
        let Context::Archive(archive) = context else {
            continue;
        };
        archive.set_mode(ArchiveMode::Forward, origin);
        if pmid.is_derived() {
            sets.push(derived_value(context, *pmid, origin)?);
            continue;
        }
        let Context::Archive(archive) = context else {
            continue;
        };
        let found = loop {
            match archive.fetch(&[*pmid]) {
                Ok(fetched) => {
                    if let Some(set) = fetched.sets.into_iter().next() {
                        break (fetched.time, set);
                    }
                }
                Err(Error::Code(code)) => break (origin, ValueSet::error(*pmid, code)),
                Err(error) => return Err(error),
            }
        };
        sets.push(found);
    }
    Ok(sets)
}

/// A derived metric's first values in an archive.
fn derived_value(
    context: &mut Context,
    pmid: Pmid,
    origin: Timestamp,
) -> pcp::Result<(Timestamp, ValueSet)> {
    loop {
        match context.fetch(&[pmid]) {
            Ok(fetched) => {
                if let Some(set) = fetched.sets.into_iter().next() {
                    return Ok((fetched.time, set));
                }
            }
            Err(Error::Code(code)) => return Ok((origin, ValueSet::error(pmid, code))),
            Err(error) => return Err(error),
        }
    }
}

fn instances(context: &mut Context, indom: InDom) -> pcp::Result<Vec<pcp::Instance>> {
    match context {
        Context::Archive(archive) => archive.all_instances(indom),
        host => host.instances(indom),
    }
}

fn report(
    out: &mut impl Write,
    context: &mut Context,
    wanted: &Wanted,
    name: &Text,
    set: &ValueSet,
) -> io::Result<()> {
    out.write_all(name)?;
    if let Err(code @ (ErrorCode::EOL | ErrorCode::LOGREC)) = &set.values {
        return writeln!(out, " {} {code} (pmFetch)", code.0);
    }
    let listed = wanted.internal || wanted.external;
    let desc = match listed || wanted.values {
        true => context.desc(set.pmid).map(Some),
        false => Ok(None),
    };
    let desc = match desc {
        Ok(desc) => desc,
        Err(error) => {
            let code = error.code();
            return writeln!(out, " {} {code} (pmLookupDesc)", code.0);
        }
    };
    let values = match &set.values {
        Err(code) => return writeln!(out, " {} {code}", code.0),
        Ok(values) => values,
    };
    let Some(desc) = desc else {
        return writeln!(out, " {}", values.len());
    };
    let known = if listed && !desc.indom.is_null() {
        match instances(context, desc.indom) {
            Err(error) if wanted.force => {
                let code = error.code();
                return writeln!(out, " {} {code} (pmGetInDom)", code.0);
            }
            known => known.unwrap_or_default(),
        }
    } else {
        Vec::new()
    };
    let numbers: Vec<i32> = if wanted.force && listed && !desc.indom.is_null() {
        known.iter().map(|i| i.inst).collect()
    } else {
        values.iter().map(|v| v.inst).collect()
    };
    let count = if wanted.force && listed {
        numbers.len()
    } else {
        values.len()
    };
    write!(out, " {count}")?;
    if wanted.values {
        for value in values {
            out.write_all(b" ")?;
            out.write_all(&pcp::print_value(&value.value, desc.ty, 1))?;
        }
    } else if listed {
        for inst in numbers {
            if desc.indom.is_null() {
                let times = usize::from(wanted.internal) + usize::from(wanted.external);
                out.write_all(" PM_IN_NULL".repeat(times).as_bytes())?;
                continue;
            }
            if wanted.internal {
                write!(out, " ?{inst}")?;
            }
            if wanted.external {
                match known.iter().find(|i| i.inst == inst) {
                    Some(instance) => {
                        out.write_all(b" \"")?;
                        out.write_all(&instance.name)?;
                        out.write_all(b"\"")?;
                    }
                    None => write!(out, " ?{inst}")?,
                }
            }
        }
    }
    out.write_all(b"\n")
}
