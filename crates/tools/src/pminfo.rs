//! `pminfo`: what metrics there are on a host, what they mean and what they say now (pminfo(1)).

mod json;

use std::collections::HashMap;
use std::io::{self, BufWriter, Write};

use pcp::archive::ArchiveMode;
use pcp::pdu::TextKind;
use pcp::{
    Context, Desc, ErrorCode, InDom, LabelLevel, LabelSet, Pmid, Semantics, Text, Timestamp,
    ValueSet,
};

use crate::options::Spec;
use crate::pmdumplog::type_name;
use crate::pmprobe::values_of;
use crate::source::{self, Source, VERSION};

const USAGE: &str = "\
Usage: pminfo [options] [metricname | pmid | indom]...

General options:
  -a FILE, --archive=FILE
                        metrics source is a PCP log archive
  -h HOST, --host=HOST  metrics source is PMCD on host
  --container=NAME      specify an individual container to be queried
  -L, --local-PMDA      metrics source is local connection to a PMDA
  -K SPEC, --spec-local=SPEC
                        optional additional PMDA spec for local connection
  -n FILE, --namespace=FILE
                        use an alternative PMNS
  -N FILE, --uniqnames=FILE
                        like -n but only one name allowed for each PMID
  -O TIME, --origin=TIME
                        initial sample time within the time window
  -Z TZ, --timezone=TZ  set reporting timezone
  -z, --hostzone        set reporting timezone to local time of metrics source
  -V, --version         display version number and exit
  -?, --help            show this usage message and exit

Protocol options:
  -b N, --batch=N       fetch N metrics at a time for -f and -v [128]
  -d, --desc            get and print metric description
  -f, --fetch           fetch and print values for all instances
  -F, --fetchall        fetch and print values for non-enumerable indoms
  -I, --fullindom       print InDom in verbose format
  -l, --labels          print InDom, metric and instance labels
  -m, --pmid            print PMID
  -M, --fullpmid        print PMID in verbose format
  -s, --series          print source, metric, instance series identifiers
  -t, --oneline         get and display (terse) oneline text
  -T, --helptext        get and display (verbose) help text

Metrics options:
  -c FILE, --derived=FILE
                        load derived metric definitions from FILE(s)
  -x, --events          unpack and report on any fetched event records
  -v, --verify          verify mode, be quiet and only report errors
";

const LONG: &[(&str, char)] = &[
    ("uniqnames", 'N'),
    ("batch", 'b'),
    ("derived", 'c'),
    ("desc", 'd'),
    ("fetch", 'f'),
    ("fetchall", 'F'),
    ("fullindom", 'I'),
    ("labels", 'l'),
    ("pmid", 'm'),
    ("fullpmid", 'M'),
    ("oneline", 't'),
    ("helptext", 'T'),
    ("verify", 'v'),
    ("json", JSON),
];

/// The letter of `--json`, which has no short form.
const JSON: char = '\u{1}';

#[derive(Default)]
struct Wanted {
    desc: bool,
    values: bool,
    pmid: bool,
    full_pmid: bool,
    full_indom: bool,
    labels: bool,
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
    // Its -t and -T are help texts, not times.
    let common = source::LONG.iter().filter(|(_, c)| !"stST".contains(*c));
    let long: Vec<(&str, char)> = common.chain(LONG).copied().collect();
    let spec = Spec {
        tool: "pminfo",
        short: "a:b:c:D:dfFh:IK:lLmMN:n:O:tTvVzZ:?\u{1}",
        long: &long,
        usage: USAGE,
    };
    let parsed = match spec.parse(args) {
        Ok(parsed) => parsed,
        Err(message) => {
            eprint!("{message}");
            return Ok(1);
        }
    };
    let mut wanted = Wanted::default();
    let mut batch = 128usize;
    let mut source = Source::default();
    for (option, value) in parsed.options {
        match (option, value) {
            ('d', _) => wanted.desc = true,
            ('f' | 'F', _) => wanted.values = true,
            ('I', _) => {
                wanted.full_indom = true;
                wanted.desc = true;
            }
            ('l', _) => wanted.labels = true,
            ('m', _) => wanted.pmid = true,
            ('M', _) => {
                wanted.pmid = true;
                wanted.full_pmid = true;
            }
            ('t', _) => wanted.oneline = true,
            ('T', _) => wanted.help = true,
            ('v', _) => wanted.verify = true,
            (JSON, _) => wanted.json = true,
            ('V', _) => {
                println!("pminfo version {VERSION}");
                return Ok(0);
            }
            ('N', Some(path)) => source.pmns = Some(path),
            ('b', Some(number)) => match number.parse() {
                Ok(number) if number > 0 => batch = number,
                _ => {
                    eprintln!("pminfo: -b requires numeric argument\n{USAGE}");
                    return Ok(1);
                }
            },
            (letter, value) => match source.option("pminfo", letter, value.as_deref()) {
                Ok(true) => {}
                Ok(false) => {
                    eprint!("{USAGE}");
                    return Ok(1);
                }
                Err(refusal) => return Ok(refusal.report(USAGE)),
            },
        }
    }
    if wanted.verify {
        wanted = Wanted {
            verify: true,
            values: true,
            ..Wanted::default()
        };
    }
    let opened = source.check("pminfo").and_then(|()| source.open("pminfo"));
    let opened = match opened {
        Ok(opened) => opened,
        Err(refusal) => return Ok(refusal.report(USAGE)),
    };
    if let Some(note) = &opened.note {
        println!("{note}");
    }
    let origin = opened.window.origin;
    let mut context = opened.context;
    if let Context::Archive(archive) = &mut context {
        archive.set_mode(ArchiveMode::Forward, origin);
    }
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let mut status = 0;
    let mut names = Vec::new();
    let roots = if parsed.words.is_empty() {
        vec![String::new()]
    } else {
        parsed.words
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
            Ok(()) => out.flush().map(|()| status),
            Err(error) => {
                eprintln!("pminfo: {}", error.code());
                Ok(1)
            }
        };
    }
    let mut report = Report {
        out: &mut out,
        context,
        wanted,
        origin,
        instances: HashMap::new(),
    };
    for number in numbers {
        match report.number(&number) {
            Ok(true) => {}
            Ok(false) => {
                eprintln!("Error: {number}: {}", ErrorCode::NAME);
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
                    return Err(error);
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
    wanted: Wanted,
    origin: Timestamp,
    instances: HashMap<InDom, HashMap<i32, Text>>,
}

impl<W: Write> Report<'_, W> {
    fn metrics(&mut self, names: &[Text]) -> pcp::Result<()> {
        let w = &self.wanted;
        if !(w.desc || w.values || w.pmid || w.oneline || w.help || w.labels || w.verify) {
            for name in names {
                self.out.write_all(name)?;
                self.out.write_all(b"\n")?;
            }
            return Ok(());
        }
        let pmids = self.context.lookup_names(names)?;
        let known: Vec<Pmid> = pmids.iter().filter_map(|p| p.ok()).collect();
        let mut sets = Vec::new().into_iter();
        if self.wanted.values && !known.is_empty() {
            sets = values_of(&mut self.context, &known, self.origin)?.into_iter();
        }
        for (name, pmid) in names.iter().zip(pmids) {
            match pmid {
                Ok(pmid) => {
                    let set = sets.next();
                    self.metric(name, pmid, set)?;
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
                    Err(error) => eprintln!("pminfo: {word}: {}", error.code()),
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn domain(&mut self, indom: InDom) -> pcp::Result<()> {
        write!(self.out, "\nInDom: {indom} 0x{:x}", indom.0)?;
        self.helps(indom.0, TextKind::INDOM_ONELINE, TextKind::INDOM_HELP)
    }

    /// The one-line text and the end of the line, and the full text.
    fn helps(&mut self, ident: u32, oneline: TextKind, help: TextKind) -> pcp::Result<()> {
        if self.wanted.oneline {
            match self.text(ident, oneline)? {
                Ok(text) => {
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

    /// The labels of a metric and of its instances, merged from all levels.
    fn labels(&mut self, desc: &Desc) -> pcp::Result<()> {
        let pmid = desc.pmid;
        let mut sets: Vec<LabelSet> = Vec::new();
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
                sets.extend(found);
            }
        }
        let merged = pcp::merge_labels(&sets, |_| true);
        self.out.write_all(b"    labels ")?;
        self.out.write_all(&merged)?;
        self.out.write_all(b"\n")?;
        if desc.indom.is_null() {
            return Ok(());
        }
        let own = self
            .context
            .labels(desc.indom.0, LabelLevel::Instances)
            .unwrap_or_default();
        let instances = match &mut self.context {
            Context::Archive(archive) => archive.all_instances(desc.indom),
            host => host.instances(desc.indom),
        };
        let mut instances = instances.unwrap_or_default();
        instances.sort_by_key(|i| i.inst);
        for instance in instances {
            let of_it = own.iter().filter(|s| s.inst == instance.inst);
            let merged = pcp::merge_labels(sets.iter().chain(of_it), |_| true);
            write!(self.out, "    inst [{} or \"", instance.inst)?;
            self.out.write_all(&instance.name)?;
            self.out.write_all(b"\"] labels ")?;
            self.out.write_all(&merged)?;
            self.out.write_all(b"\n")?;
        }
        Ok(())
    }

    fn metric(&mut self, name: &Text, pmid: Pmid, set: Option<ValueSet>) -> pcp::Result<()> {
        let desc = if self.wanted.desc || self.wanted.values || self.wanted.labels {
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
            if let Some(Err(code)) = set.map(|s| s.values) {
                writeln!(self.out, "{name}: Error: {code}")?;
            }
            return Ok(());
        }
        let w = &self.wanted;
        if w.desc || w.values || w.help || w.labels {
            writeln!(self.out)?;
        }
        self.out.write_all(name)?;
        if self.wanted.full_pmid {
            write!(self.out, " PMID: {pmid} = {} = 0x{:x}", pmid.0, pmid.0)?;
        } else if self.wanted.pmid {
            write!(self.out, " PMID: {pmid}")?;
        }
        self.helps(pmid.0, TextKind::METRIC_ONELINE, TextKind::METRIC_HELP)?;
        if let Some(desc) = desc.filter(|_| self.wanted.desc) {
            self.desc(&desc)?;
        }
        self.help(pmid.0, TextKind::METRIC_ONELINE, TextKind::METRIC_HELP)?;
        if let Some(desc) = desc.filter(|_| self.wanted.labels) {
            self.labels(&desc)?;
        }
        if let (Some(desc), Some(set)) = (desc, set) {
            self.values(&desc, &set)?;
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
            if self.wanted.full_indom {
                format!(" = {} =", desc.indom.0)
            } else {
                String::new()
            },
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
        }
        Ok(())
    }
}
