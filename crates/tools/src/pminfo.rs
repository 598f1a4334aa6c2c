//! `pminfo`: what metrics there are on a host, what they mean and what they say now (pminfo(1)).

mod events;
mod json;

use std::collections::HashMap;
use std::io::{self, BufWriter, Write};

use pcp::archive::ArchiveMode;
use pcp::pdu::TextKind;
use pcp::timezone::Zone;
use pcp::{
    Context, Desc, ErrorCode, InDom, Instance, LabelLevel, LabelSet, Pmid, Semantics, Text,
    Timestamp, Type, Value, ValueSet,
};
use sha1::{Digest, Sha1};

use crate::options::rows::*;
use crate::options::{Refusal, Spec};
use crate::pmdumplog::type_name;
use crate::pmprobe::values_of;
use crate::source::Source;

#[rustfmt::skip]
const SPEC: Spec = Spec {
    tool: "pminfo",
    words: "[options] [metricname | pmid | indom]...",
    rows: &[
        GENERAL,
        ARCHIVE,
        HOST,
        CONTAINER,
        LOCAL,
        SPEC_LOCAL,
        NAMESPACE,
        value('N', "uniqnames", "FILE", "like -n but only one name allowed for each PMID"),
        ORIGIN,
        TIMEZONE,
        HOST_ZONE,
        SHOW_VERSION,
        HELP,
        section("Protocol options"),
        value('b', "batch", "N", "fetch N metrics at a time for -f and -v [128]"),
        flag('d', "desc", "get and print metric description"),
        flag('f', "fetch", "fetch and print values for all instances"),
        flag('F', "fetchall", "fetch and print values for non-enumerable indoms"),
        flag('I', "fullindom", "print InDom in verbose format"),
        flag('l', "labels", "print InDom, metric and instance labels"),
        flag('m', "pmid", "print PMID"),
        flag('M', "fullpmid", "print PMID in verbose format"),
        flag('s', "series", "print source, metric, instance series identifiers"),
        flag('t', "oneline", "get and display (terse) oneline text"),
        flag('T', "helptext", "get and display (verbose) help text"),
        section("Metrics options"),
        value('c', "derived", "FILE", "load derived metric definitions from FILE(s)"),
        flag('x', "events", "unpack and report on any fetched event records"),
        flag('C', "", ""),
        flag('v', "verify", "verify mode, be quiet and only report errors"),
        COLOR,
        JSON,
    ],
    names_host: false,
    ..Spec::PLAIN
};

#[derive(Default)]
struct Wanted {
    desc: bool,
    values: bool,
    /// Instances without a name are said to have gone.
    gone: bool,
    pmid: bool,
    full_pmid: bool,
    full_indom: bool,
    labels: bool,
    series: bool,
    events: bool,
    oneline: bool,
    help: bool,
    verify: bool,
    json: bool,
}

/// Runs the tool; `args` are the words behind its name. Returns the exit status.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(args: Vec<String>) -> io::Result<u8> {
    SPEC.run(|spec| info(spec, args))
}

/// Checks that no two names of a name space are of one metric, as `-N` has it.
fn distinct(file: &str) -> Result<(), Refusal> {
    let Ok(names) = pcp::pmns::Pmns::load(file.as_ref()) else {
        // What is wrong with it is said when it is used.
        return Ok(());
    };
    let mut seen: HashMap<pcp::Pmid, pcp::Text> = HashMap::new();
    for (name, pmid) in names.leaves(b"").unwrap_or_default() {
        if pmid.is_dynamic_root() {
            continue;
        }
        if let Some(first) = seen.insert(pmid, name.clone()) {
            return Err(Refusal::Failed(format!(
                "Error Parsing ASCII PMNS: Duplicate metric id ({pmid}) in name space for metrics \"{name}\" and \"{first}\"\n\n\
                 pminfo: Cannot load namespace from \"{file}\": {}\n",
                ErrorCode::PMNS
            )));
        }
    }
    Ok(())
}

fn info(spec: &Spec, args: Vec<String>) -> Result<u8, Refusal> {
    let mut wanted = Wanted::default();
    let mut batch = 128usize;
    let mut names_file = None;
    let mut source = Source::default();
    let words = spec.parse(args, &mut source, |option, value| {
        match option {
            'd' => wanted.desc = true,
            'f' => wanted.values = true,
            'F' => (wanted.values, wanted.gone) = (true, true),
            's' => wanted.series = true,
            'x' => {
                wanted.values = true;
                wanted.events = true;
            }
            'I' => {
                wanted.full_indom = true;
                wanted.desc = true;
            }
            'l' => wanted.labels = true,
            'm' => wanted.pmid = true,
            'M' => {
                wanted.pmid = true;
                wanted.full_pmid = true;
            }
            't' => wanted.oneline = true,
            'T' => wanted.help = true,
            'v' => wanted.verify = true,
            JSON_ONLY => wanted.json = true,
            'N' => names_file = Some(value.to_owned()),
            'b' => {
                batch = spec
                    .number::<usize>(value, "-b requires numeric argument")?
                    .max(1)
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let unique = names_file.clone();
    source.pmns = names_file.or(source.pmns);
    if wanted.verify {
        wanted = Wanted {
            verify: true,
            values: true,
            json: wanted.json,
            ..Wanted::default()
        };
    }
    if let Some(file) = &unique {
        distinct(file)?;
    }
    let opened = source.open(spec)?;
    if let Some(note) = &opened.note {
        println!("{note}");
    }
    let origin = opened.window.origin;
    let mut context = opened.context;
    if let Context::Archive(archive) = &mut context {
        // What is known of an archive is that of its origin; of a time before all its records without this.
        if wanted.values || wanted.labels {
            archive.set_mode(ArchiveMode::Forward, origin);
        }
    }
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let mut status = 0;
    let mut names = Vec::new();
    let roots = if words.is_empty() {
        vec![String::new()]
    } else {
        words
    };
    let mut numbers = Vec::new();
    for root in roots {
        if root.contains('.') && root.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            numbers.push(root);
            continue;
        }
        match context.traverse(&root.as_str().into()) {
            Ok(found) => names.extend(found),
            Err(error) => {
                eprintln!("Error: {root}: {}", error.code());
                status = 1;
            }
        }
    }
    if wanted.json {
        let asked = json::Asked {
            values: wanted.values,
            texts: wanted.oneline || wanted.help,
            labels: wanted.labels,
        };
        return match json::report(&mut out, &mut context, &names, &asked) {
            Ok(()) => Ok(out.flush().map(|()| status)?),
            Err(error) => {
                eprintln!("pminfo: {}", error.code());
                Ok(1)
            }
        };
    }
    let mut report = Report {
        out: &mut out,
        context,
        zone: opened.zone,
        bold: source.colour.bold(),
        wanted,
        origin,
        instances: HashMap::new(),
    };
    for number in numbers {
        match report.number(&number) {
            Ok(true) => {}
            Ok(false) => {
                eprintln!("Error: {number}: {}", ErrorCode::PMID);
                status = 1;
            }
            Err(error) => {
                report.out.flush()?;
                eprintln!("pminfo: {}", error.code());
                return Ok(1);
            }
        }
    }
    for chunk in names.chunks(batch) {
        if let Err(error) = report.metrics(chunk) {
            report.out.flush()?;
            match error {
                pcp::Error::Io(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    return Err(error.into());
                }
                error => eprintln!("pminfo: {}", error.code()),
            }
            return Ok(1);
        }
    }
    out.flush()?;
    Ok(status)
}

struct Report<'a, W: Write> {
    out: &'a mut W,
    context: Context,
    zone: Zone,
    /// What stands around the names of metrics that something is said of.
    bold: (&'static str, &'static str),
    wanted: Wanted,
    origin: Timestamp,
    instances: HashMap<InDom, HashMap<i32, Text>>,
}

impl<W: Write> Report<'_, W> {
    fn metrics(&mut self, names: &[Text]) -> pcp::Result<()> {
        let w = &self.wanted;
        let plain = !(w.desc || w.values || w.pmid || w.oneline || w.help || w.labels);
        if plain && !w.verify && !w.series {
            for name in names {
                self.out.write_all(name)?;
                self.out.write_all(b"\n")?;
            }
            return Ok(());
        }
        let pmids = match self.context.lookup_names(names) {
            // The error is the one name's, as an agent that is gone.
            Err(pcp::Error::Code(code)) if names.len() == 1 && code != ErrorCode::IPC => {
                vec![Err(code)]
            }
            pmids => pmids?,
        };
        let known: Vec<Pmid> = pmids.iter().filter_map(|p| p.ok()).collect();
        self.context.prefetch_descs(&known)?;
        let mut sets = Vec::new().into_iter();
        // Labels and instances of an archive are those of the time of the values.
        let placed = self.wanted.labels && matches!(self.context, Context::Archive(_));
        if (self.wanted.values || placed) && !known.is_empty() {
            sets = values_of(&mut self.context, &known, self.origin)?.into_iter();
        }
        for (name, pmid) in names.iter().zip(pmids) {
            match pmid {
                Ok(pmid) => {
                    let (time, set) = sets.next().unzip();
                    if let (Context::Archive(archive), Some(time)) = (&mut self.context, time) {
                        archive.set_mode(ArchiveMode::Forward, time);
                    }
                    self.metric(name, pmid, set)?;
                }
                // Of a name among others that are known PCP's library tells no more than that it has no metric.
                Err(_) if !known.is_empty() => {
                    writeln!(self.out, "{name}: pmLookupDesc: {}", ErrorCode::PMID)?;
                }
                Err(code) => eprintln!("{name}: pmLookupName: {code}"),
            }
        }
        Ok(())
    }

    /// A metric or an instance domain given by its number.
    fn number(&mut self, word: &str) -> pcp::Result<bool> {
        let numbers: Option<Vec<u32>> = word.split('.').map(|n| n.parse().ok()).collect();
        match numbers.as_deref() {
            Some([domain, serial]) => self.domain(InDom::new(*domain, *serial))?,
            Some([domain, cluster, item]) => {
                let pmid = Pmid::new(*domain, *cluster, *item);
                match self.context.names_of(pmid) {
                    Ok(names) => self.metrics(names.get(..1).unwrap_or_default())?,
                    Err(pcp::Error::Code(_)) => return Ok(false),
                    Err(error) => return Err(error),
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The number of a domain as `-I` shows it.
    fn long(&self, indom: InDom) -> String {
        if self.wanted.full_indom {
            format!(" = {} =", indom.0)
        } else {
            String::new()
        }
    }

    fn domain(&mut self, indom: InDom) -> pcp::Result<()> {
        write!(
            self.out,
            "\nInDom: {indom}{} 0x{:x}",
            self.long(indom),
            indom.0
        )?;
        self.helps(indom.0, TextKind::INDOM_ONELINE, TextKind::INDOM_HELP)
    }

    /// The one-line text and the end of the line, and the full text.
    fn helps(&mut self, ident: u32, oneline: TextKind, help: TextKind) -> pcp::Result<()> {
        if self.wanted.oneline {
            match self.text(ident, oneline)? {
                Ok(text) => {
                    // Behind the long form of a number it gets a line of its own.
                    if self.wanted.full_pmid && !oneline.is_indom() {
                        self.out.write_all(b"\n   ")?;
                    }
                    self.out.write_all(b" [")?;
                    self.out.write_all(&text)?;
                    self.out.write_all(b"]")?;
                }
                Err(code) => write!(self.out, " One-line Help: Error: {code}")?,
            }
        }
        writeln!(self.out)?;
        if !oneline.is_indom() {
            return Ok(());
        }
        self.help(ident, oneline, help)
    }

    fn help(&mut self, ident: u32, oneline: TextKind, help: TextKind) -> pcp::Result<()> {
        if !self.wanted.help {
            return Ok(());
        }
        let text = match self.text(ident, help)? {
            Ok(text) if !text.is_empty() => Ok(text),
            _ => self.text(ident, oneline)?,
        };
        match text {
            Ok(text) => {
                self.out.write_all(b"Help:\n")?;
                self.out.write_all(&text)?;
                if !text.ends_with(b"\n") {
                    self.out.write_all(b"\n")?;
                }
            }
            Err(code) => writeln!(self.out, "Full Help: Error: {code}")?,
        }
        Ok(())
    }

    /// The label sets of a metric from the widest level to the narrowest.
    fn label_sets(&mut self, desc: &Desc) -> Vec<(LabelLevel, LabelSet)> {
        let pmid = desc.pmid;
        let mut sets = Vec::new();
        let levels = [
            (LabelLevel::Context, u32::MAX),
            (LabelLevel::Domain, pmid.domain()),
            (LabelLevel::InDom, desc.indom.0),
            (LabelLevel::Cluster, pmid.without_item().0),
            (LabelLevel::Item, pmid.0),
        ];
        for (level, ident) in levels {
            if level == LabelLevel::InDom && desc.indom.is_null() {
                continue;
            }
            // PCP's library does not find the labels of clusters in archives.
            if level == LabelLevel::Cluster && matches!(self.context, Context::Archive(_)) {
                continue;
            }
            if let Ok(found) = self.context.labels(ident, level) {
                sets.extend(found.into_iter().map(|set| (level, set)));
            }
        }
        sets
    }

    /// What is known of each instance: number, name, and its label set.
    fn instance_labels(&mut self, desc: &Desc, seen: bool) -> Vec<(Instance, Vec<LabelSet>)> {
        if desc.indom.is_null() {
            return Vec::new();
        }
        let own = self
            .context
            .labels(desc.indom.0, LabelLevel::Instances)
            .unwrap_or_default();
        let mut instances = match &mut self.context {
            Context::Archive(archive) if !seen => {
                let state = archive.meta().state_at(desc.indom, archive.origin());
                state.map_or_else(Vec::new, |state| state.instances.clone())
            }
            context => context.instances(desc.indom).unwrap_or_default(),
        };
        if matches!(self.context, Context::Archive(_)) {
            if !own.is_empty() {
                // Where an archive has labels of instances it is those that are told.
                instances.retain(|i| own.iter().any(|set| set.inst == i.inst));
            }
            instances.sort_by_key(|i| i.inst);
        } else if !own.is_empty() {
            // An agent may have labels of instances that are gone, and has its own order.
            let by_number: HashMap<i32, Text> =
                instances.into_iter().map(|i| (i.inst, i.name)).collect();
            let named = |set: &LabelSet| Instance {
                inst: set.inst,
                name: by_number
                    .get(&set.inst)
                    .cloned()
                    .unwrap_or_else(|| "DISAPPEARED".into()),
            };
            instances = own.iter().map(named).collect();
        }
        let with_own = |instance: Instance| {
            let of_it = own.iter().filter(|s| s.inst == instance.inst);
            let of_it = of_it.cloned().collect();
            (instance, of_it)
        };
        instances.into_iter().map(with_own).collect()
    }

    /// The identifiers that pmseries(1) knows the metric by.
    fn series(
        &mut self,
        name: &Text,
        desc: &Desc,
        sets: &[(LabelLevel, LabelSet)],
    ) -> io::Result<()> {
        let context = sets.iter().filter(|(l, _)| *l == LabelLevel::Context);
        let own = |l: &pcp::Label| !l.flags.is_optional();
        let source = pcp::merge_labels(context.map(|(_, s)| s), own);
        let labels = pcp::merge_labels(sets.iter().map(|(_, s)| s), own);
        let source = [b"{\"series\":\"source\",\"labels\":", &source[..], b"}"].concat();
        writeln!(self.out, "    Source: {}", identifier(&source))?;
        let mut metric = b"{\"series\":\"metric\",\"name\":\"".to_vec();
        metric.extend_from_slice(name);
        metric.extend_from_slice(b"\",\"labels\":");
        metric.extend_from_slice(&labels);
        let sem = desc.sem.to_string();
        write!(
            metric,
            ",\"semantics\":\"{sem}\",\"type\":\"{}\",\"units\":\"{}\"}}",
            desc.ty, desc.units
        )?;
        writeln!(self.out, "    Series: {}", identifier(&metric))
    }

    fn metric(&mut self, name: &Text, pmid: Pmid, set: Option<ValueSet>) -> pcp::Result<()> {
        if let Some(Err(code @ ErrorCode::EOL)) = set.as_ref().map(|s| &s.values) {
            return Ok(writeln!(self.out, "{name}: pmFetch: {code}")?);
        }
        let w = &self.wanted;
        let desc = if w.desc || w.values || w.labels || w.series {
            match self.context.desc(pmid) {
                Ok(desc) => Some(desc),
                Err(pcp::Error::Code(code)) => {
                    writeln!(self.out, "{name}: pmLookupDesc: {code}")?;
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        } else {
            None
        };
        if self.wanted.verify {
            if desc.is_some_and(|d| d.ty == Type::NoSupport) {
                return Ok(writeln!(self.out, "{name}: Not Supported")?);
            }
            match set.map(|s| s.values) {
                Some(Err(code)) => writeln!(self.out, "{name}: {code}")?,
                Some(Ok(values)) if values.is_empty() => {
                    writeln!(self.out, "{name}: No value(s) available")?;
                }
                _ => {}
            }
            return Ok(());
        }
        let w = &self.wanted;
        let heads = w.desc || w.values || w.help || w.labels;
        let bold = if heads { self.bold } else { ("", "") };
        if heads {
            writeln!(self.out)?;
        }
        write!(self.out, "{}", bold.0)?;
        self.out.write_all(name)?;
        write!(self.out, "{}", bold.1)?;
        if self.wanted.full_pmid {
            write!(self.out, " PMID: {pmid} = {} = 0x{:x}", pmid.0, pmid.0)?;
        } else if self.wanted.pmid {
            write!(self.out, " PMID: {pmid}")?;
        }
        self.helps(pmid.0, TextKind::METRIC_ONELINE, TextKind::METRIC_HELP)?;
        if let Some(desc) = desc.filter(|_| self.wanted.desc) {
            self.desc(&desc)?;
        }
        let (labels, series) = (self.wanted.labels, self.wanted.series);
        let named = desc.filter(|_| labels || series);
        // PCP's sees nothing of an archive that it has not fetched from but what was recorded ahead of all values.
        let seen = labels || self.wanted.values || matches!(self.context, Context::Host(_));
        let mut sets = named.map_or_else(Vec::new, |desc| self.label_sets(&desc));
        if let Context::Archive(archive) = &self.context
            && !seen
            && !sets.is_empty()
        {
            sets = vec![(LabelLevel::Context, archive.host_label())];
        }
        if let Some(desc) = desc.filter(|_| series) {
            self.series(name, &desc, &sets)?;
        }
        if labels {
            let merged = pcp::merge_labels(sets.iter().map(|(_, s)| s), |_| true);
            self.out.write_all(b"    labels ")?;
            self.out.write_all(&merged)?;
            self.out.write_all(b"\n")?;
        }
        self.help(pmid.0, TextKind::METRIC_ONELINE, TextKind::METRIC_HELP)?;
        if let (Some(desc), Some(set)) = (desc, set.filter(|_| self.wanted.values)) {
            self.values(&desc, &set)?;
        }
        let Some(desc) = named else { return Ok(()) };
        let instances = self.instance_labels(&desc, seen);
        if series {
            for (instance, own) in &instances {
                let wide = sets
                    .iter()
                    .filter(|(level, _)| !matches!(level, LabelLevel::Cluster | LabelLevel::Item));
                let merged = pcp::merge_labels(wide.map(|(_, s)| s).chain(own), |_| true);
                let mut text = b"{\"series\":\"instance\",\"name\":\"".to_vec();
                text.extend_from_slice(&instance.name);
                text.extend_from_slice(b"\",\"labels\":");
                text.extend_from_slice(&merged);
                text.push(b'}');
                write!(self.out, "    inst [{} or \"", instance.inst)?;
                self.out.write_all(&instance.name)?;
                writeln!(self.out, "\"] series {}", identifier(&text))?;
            }
        }
        if labels {
            for (instance, own) in &instances {
                let merged = pcp::merge_labels(sets.iter().map(|(_, s)| s).chain(own), |_| true);
                write!(self.out, "    inst [{} or \"", instance.inst)?;
                self.out.write_all(&instance.name)?;
                self.out.write_all(b"\"] labels ")?;
                self.out.write_all(&merged)?;
                self.out.write_all(b"\n")?;
            }
        }
        Ok(())
    }

    fn text(&mut self, ident: u32, kind: TextKind) -> pcp::Result<Result<Text, ErrorCode>> {
        match self.context.text(ident, kind) {
            Ok(text) => Ok(Ok(text)),
            Err(pcp::Error::Code(code)) => Ok(Err(code)),
            Err(error) => Err(error),
        }
    }

    fn desc(&mut self, desc: &Desc) -> io::Result<()> {
        let sem = match desc.sem {
            Semantics::Other(raw) => format!("??? ({raw})"),
            sem => sem.to_string(),
        };
        let units = desc.units.to_string();
        let units = if units.is_empty() { "none" } else { &units };
        let ty = type_name(desc.ty);
        writeln!(
            self.out,
            "    Data Type: {ty}  InDom: {}{} 0x{:x}",
            desc.indom,
            self.long(desc.indom),
            desc.indom.0
        )?;
        writeln!(self.out, "    Semantics: {sem}  Units: {units}")
    }

    fn values(&mut self, desc: &Desc, set: &ValueSet) -> pcp::Result<()> {
        let values = match &set.values {
            Err(code) => return Ok(writeln!(self.out, "Error: {code}")?),
            Ok(values) if values.is_empty() => {
                return Ok(writeln!(self.out, "No value(s) available!")?);
            }
            Ok(values) => values,
        };
        if !desc.indom.is_null() && !self.instances.contains_key(&desc.indom) {
            let known = match &mut self.context {
                Context::Archive(archive) => archive.all_instances(desc.indom),
                host => host.instances(desc.indom),
            };
            let known = match known {
                Ok(known) => known.into_iter().map(|i| (i.inst, i.name)).collect(),
                Err(pcp::Error::Code(_)) => HashMap::new(),
                Err(error) => return Err(error),
            };
            self.instances.insert(desc.indom, known);
        }
        for value in values {
            if !desc.indom.is_null() {
                match self
                    .instances
                    .get(&desc.indom)
                    .and_then(|known| known.get(&value.inst))
                {
                    Some(name) => {
                        write!(self.out, "    inst [{} or \"", value.inst)?;
                        self.out.write_all(name)?;
                        self.out.write_all(b"\"]")?;
                    }
                    None if self.wanted.gone => {
                        writeln!(self.out, "    inst [{} \"DISAPPEARED\"]", value.inst)?;
                        continue;
                    }
                    None => {
                        writeln!(
                            self.out,
                            "pmNameIndom: indom={} inst={}: {}",
                            desc.indom,
                            value.inst,
                            ErrorCode::INST
                        )?;
                        write!(self.out, "    inst [{}]", value.inst)?;
                    }
                }
            } else {
                self.out.write_all(b"   ")?;
            }
            self.out.write_all(b" value ")?;
            self.out
                .write_all(&pcp::print_value(&value.value, desc.ty, 1))?;
            self.out.write_all(b"\n")?;
            if self.wanted.events
                && let Value::Block(block) = &value.value
                && matches!(desc.ty, Type::Event | Type::HighResEvent)
            {
                events::records(self.out, &mut self.context, &self.zone, desc.ty, block)?;
            }
        }
        Ok(())
    }
}

/// The hash that a series is known by.
fn identifier(text: &[u8]) -> String {
    let hash = Sha1::digest(text);
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
