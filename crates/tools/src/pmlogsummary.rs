//! `pmlogsummary`: averages and extremes of what archives hold (pmlogsummary(1)).

mod trace;

use std::collections::HashMap;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use pcp::archive::{ArchiveSet, SetCursor};
use pcp::pmns::Pmns;
use pcp::timewindow::{TimeWindow, WindowSpec};
use pcp::timezone::Zone;
use pcp::{
    Atom, Desc, ErrorCode, Fetched, INST_NULL, Pmid, Semantics, TIME_SEC, Text, Timestamp, Type,
    Units,
};

use crate::json;
use crate::options::Spec;
use crate::progress::Progress;
use crate::source::VERSION;
use crate::source::no_end;
use trace::Traced;

const USAGE: &str = "\
Usage: pmlogsummary [options] archive [metricname ...]

Options:
  -a, --all             print all information (equivalent to -blmMy)
  -b                    print both stochastic and time averages for counter metrics
  -B N, --bins=N        print value distribution across a number of bins
  -f                    print using \"spreadsheet\" format (tab delimited fields)
  -F                    print using \"spreadsheet\" format (comma separated values)
  -H, --header          print one-line header at start showing each column
  -i, --mintime         also print timestamp for minimum value
  -I, --maxtime         also print timestamp for maximum value
  -l, --label           also print the archive label and time window
  -m, --minimum         also print minimum value
  -M, --maximum         also print maximum value
  -n FILE, --namespace=FILE
                        use an alternative PMNS
  -N                    suppress warnings from individual archive fetches (default)
  -p N, --precision=N   number of digits to display after the decimal point
  -s, --sum             only print the sum of all values of each metric
  -S TIME, --start=TIME start of the time window
  -T TIME, --finish=TIME
                        end of the time window
  -v, --verbose         verbose, enable warnings from individual archive fetches
  -x                    print only stochastic averages for counter metrics
  -y, --samples         print sample count for each metric
  -Z TZ, --timezone=TZ  set reporting timezone
  -z, --hostzone        set reporting timezone to local time of metrics source
  -V, --version         display version number and exit
  -?, --help            show this usage message and exit
";

const SPEC: Spec = Spec {
    tool: "pmlogsummary",
    short: "abB:D:fFHiIlmMn:Np:sS:T:vVxyzZ:?",
    long: &[
        ("all", 'a'),
        ("bins", 'B'),
        ("debug", 'D'),
        ("header", 'H'),
        ("mintime", 'i'),
        ("maxtime", 'I'),
        ("label", 'l'),
        ("minimum", 'm'),
        ("maximum", 'M'),
        ("namespace", 'n'),
        ("precision", 'p'),
        ("sum", 's'),
        ("start", 'S'),
        ("finish", 'T'),
        ("verbose", 'v'),
        ("version", 'V'),
        ("samples", 'y'),
        ("timezone", 'Z'),
        ("hostzone", 'z'),
        ("help", '?'),
        json::LONG,
    ],
    usage: USAGE,
};

/// A day: longer spans have dates in their times.
const DAY: i64 = 86_400;
/// Counters whose values span less of the archive bear an asterisk. The manual says 90%, the program means this.
const COVERED: f64 = 0.1;

struct Wanted {
    stochastic: bool,
    time: bool,
    bins: usize,
    delimiter: char,
    header: bool,
    mintime: bool,
    maxtime: bool,
    label: bool,
    min: bool,
    max: bool,
    precision: usize,
    sum: bool,
    count: bool,
    verbose: bool,
    json: bool,
}

/// What is known of one instance.
struct Average {
    inst: i32,
    last: f64,
    first_time: Timestamp,
    last_time: Timestamp,
    marked: bool,
    sum: f64,
    /// The values added up; of counters what they grew by, in their own units.
    total: f64,
    area: f64,
    span: f64,
    /// How many values the sum is of: what is discrete counts once more where it ends.
    summed: u64,
    count: u64,
    min: (f64, Timestamp),
    max: (f64, Timestamp),
    bins: Vec<u64>,
}

impl Average {
    /// Over the samples.
    fn stochastic(&self) -> f64 {
        self.sum / self.summed.max(1) as f64
    }

    /// Over time.
    fn mean(&self) -> f64 {
        if self.span > 0.0 {
            self.area / self.span
        } else {
            0.0
        }
    }
}

struct Metric {
    desc: Desc,
    instances: Vec<Average>,
    by_inst: HashMap<i32, usize>,
}

/// Runs the tool; `args` are the words behind its name. Returns the exit status.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(args: Vec<String>) -> io::Result<u8> {
    let parsed = match SPEC.parse(args) {
        Ok(parsed) => parsed,
        Err(message) => {
            eprint!("{message}");
            return Ok(1);
        }
    };
    let mut wanted = Wanted {
        stochastic: false,
        time: true,
        bins: 0,
        delimiter: ' ',
        header: false,
        mintime: false,
        maxtime: false,
        label: false,
        min: false,
        max: false,
        precision: 3,
        sum: false,
        count: false,
        verbose: false,
        json: false,
    };
    let mut window = WindowSpec::default();
    let (mut zone, mut host_zone, mut pmns) = (None, false, None);
    for (option, value) in parsed.options {
        match option {
            'a' => {
                wanted.stochastic = true;
                wanted.time = true;
                wanted.sum = false;
                wanted.label = true;
                wanted.min = true;
                wanted.max = true;
                wanted.count = true;
            }
            'b' => {
                wanted.stochastic = true;
                wanted.time = true;
                wanted.sum = false;
            }
            'B' => match value.as_deref().and_then(|v| v.parse().ok()) {
                Some(bins) => wanted.bins = bins,
                None => {
                    eprint!("pmlogsummary: -B requires positive numeric argument\n{USAGE}");
                    return Ok(1);
                }
            },
            'f' => wanted.delimiter = '\t',
            'F' => wanted.delimiter = ',',
            'H' => wanted.header = true,
            'i' => wanted.mintime = true,
            'I' => wanted.maxtime = true,
            'l' => wanted.label = true,
            'm' => wanted.min = true,
            'M' => wanted.max = true,
            'n' => pmns = value,
            'N' | 'D' => {}
            json::OPTION => wanted.json = true,
            'p' => match value.as_deref().and_then(|v| v.parse().ok()) {
                Some(precision) => wanted.precision = precision,
                None => {
                    eprint!("pmlogsummary: -p requires positive numeric argument\n{USAGE}");
                    return Ok(1);
                }
            },
            's' => {
                // Only the sum, and what later options add.
                wanted.sum = true;
                wanted.stochastic = false;
                wanted.time = false;
                wanted.label = false;
                wanted.min = false;
                wanted.max = false;
                wanted.count = false;
            }
            'S' => window.start = value,
            'T' => window.finish = value,
            'v' => wanted.verbose = true,
            'V' => {
                println!("pmlogsummary version {VERSION}");
                return Ok(0);
            }
            'x' => {
                wanted.stochastic = true;
                wanted.time = false;
                wanted.sum = false;
            }
            'y' => wanted.count = true,
            'Z' => zone = value,
            'z' => host_zone = true,
            _ => {
                eprint!("{USAGE}");
                return Ok(1);
            }
        }
    }
    let Some((name, metrics)) = parsed.words.split_first() else {
        eprint!("pmlogsummary: no archive specified\n{USAGE}");
        return Ok(1);
    };
    let set = match ArchiveSet::open(name) {
        Ok(set) => set,
        Err(error) => {
            let code = error.code();
            eprintln!("pmlogsummary: Cannot open archive \"{name}\": {code}");
            return Ok(1);
        }
    };
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let label = set.label();
    let zone = if host_zone {
        writeln!(
            out,
            "Note: timezone set to local timezone of host \"{}\" from archive\n",
            label.hostname
        )?;
        Zone::new(&label.timezone.to_str())
    } else if let Some(zone) = zone {
        writeln!(out, "Note: timezone set to \"TZ={zone}\"\n")?;
        Zone::new(&zone)
    } else {
        Zone::local()
    };
    let end = match set.archives().last().map(pcp::archive::Archive::end) {
        Some(Err(error)) => {
            eprint!("{}", no_end("pmlogsummary", Some(name), error.code()));
            Timestamp::MAX
        }
        _ => set.end(),
    };
    let window = match window.window(label.start, end, &zone) {
        Ok(window) => window,
        Err(error) => {
            eprintln!("pmlogsummary: invalid time window.\n{error}\n");
            return Ok(1);
        }
    };
    let loaded;
    let names: &Pmns = match pmns {
        None => &set.meta().names,
        Some(path) => match Pmns::load(path.as_ref()) {
            Ok(names) => {
                loaded = names;
                &loaded
            }
            Err(error) => {
                let code = error.code();
                eprintln!("pmlogsummary: Cannot load namespace from \"{path}\": {code}");
                return Ok(1);
            }
        },
    };
    let mut selected: Vec<(Text, Pmid)> = Vec::new();
    if metrics.is_empty() {
        selected = names.leaves(b"").unwrap_or_default();
    }
    for metric in metrics {
        match names.leaves(metric.as_bytes()) {
            Ok(leaves) => selected.extend(leaves),
            Err(code) => eprintln!("pmlogsummary: pmTraversePMNS for \"{metric}\": {code}"),
        }
    }
    // Of several names of a metric the first stands for all.
    let mut seen = std::collections::HashSet::new();
    selected.retain(|(_, pmid)| seen.insert(*pmid));
    let mut summary = Summary {
        wanted,
        zone,
        window,
        metrics: HashMap::new(),
        set,
        failed: std::collections::HashSet::new(),
    };
    for (_, pmid) in &selected {
        if let Some(desc) = summary.set.meta().descs.get(pmid.0).copied()
            && desc.ty.is_numeric()
        {
            summary.metrics.insert(*pmid, Metric::new(desc));
        }
    }
    if summary.wanted.label {
        summary.label(&mut out)?;
    }
    if summary.wanted.header {
        summary.header(&mut out)?;
    }
    let mut status = summary.pass(false);
    if summary.wanted.bins > 0 && status == 0 {
        for metric in summary.metrics.values_mut() {
            for average in &mut metric.instances {
                average.bins = vec![0; summary.wanted.bins];
                average.marked = true;
            }
        }
        trace::second_pass();
        status = summary.pass(true);
    }
    for (name, pmid) in &selected {
        if let Some(metric) = summary.metrics.get(pmid) {
            if summary.wanted.json {
                summary.lines(&mut out, name, metric)?;
                continue;
            }
            summary.metric(&mut out, name, metric)?;
        }
    }
    out.flush()?;
    Ok(status)
}

impl Metric {
    fn new(desc: Desc) -> Metric {
        Metric {
            desc,
            instances: Vec::new(),
            by_inst: HashMap::new(),
        }
    }

    fn scale(&self) -> f64 {
        if self.desc.sem != Semantics::Counter || self.desc.units.dim_time != 1 {
            return 1.0;
        }
        let second = Units::new(0, 1, 0, 0, TIME_SEC, 0);
        let own = Units::new(0, 1, 0, 0, self.desc.units.scale_time, 0);
        own.conversion(second).unwrap_or(1.0)
    }

    fn units(&self, rates: bool) -> String {
        let mut units = self.desc.units;
        if rates && self.desc.sem == Semantics::Counter {
            if units.dim_time == 0 {
                units.scale_time = TIME_SEC;
            }
            units.dim_time -= 1;
        }
        let text = units.to_string();
        match text.trim_start() {
            "" => "none".to_owned(),
            text => text.to_owned(),
        }
    }

    fn take(
        &mut self,
        inst: i32,
        value: f64,
        time: Timestamp,
        bins: usize,
        traced: Option<&Traced>,
    ) {
        let scale = self.scale();
        let counter = self.desc.sem == Semantics::Counter;
        let ty = self.desc.ty;
        let fresh = !self.by_inst.contains_key(&inst);
        let at = *self.by_inst.entry(inst).or_insert(self.instances.len());
        if fresh {
            self.instances.push(Average {
                inst,
                last: value,
                first_time: time,
                last_time: time,
                marked: false,
                sum: 0.0,
                total: 0.0,
                area: 0.0,
                span: 0.0,
                summed: 0,
                count: 0,
                min: (f64::INFINITY, time),
                max: (f64::NEG_INFINITY, time),
                bins: Vec::new(),
            });
        }
        let Some(average) = self.instances.get_mut(at) else {
            return;
        };
        if let Some(traced) = traced.filter(|_| fresh) {
            traced.first(if counter { 0.0 } else { value });
        }
        let elapsed = (time - average.last_time).as_secs_f64();
        let first = fresh || average.marked;
        average.marked = false;
        let last = average.last;
        average.last = value;
        average.last_time = time;
        // What this step adds to the area, as PCP shows it.
        let mut area = last * elapsed;
        let sample = if counter {
            if first || elapsed <= 0.0 {
                return;
            }
            let mut delta = value - last;
            if delta < 0.0 {
                if std::env::var_os("PCP_COUNTER_WRAP").is_none() {
                    return;
                }
                delta += match ty {
                    Type::I32 | Type::U32 => 4_294_967_296.0,
                    _ => 18_446_744_073_709_551_616.0,
                };
            }
            let rate = delta * scale / elapsed;
            area = delta * scale * elapsed / 2.0;
            if bins == 0 {
                if let Some(traced) = traced {
                    traced.base(value, average);
                    traced.rate(rate, time, average);
                }
                average.area += delta * scale;
                average.span += elapsed;
                average.total += delta;
            }
            rate
        } else {
            if !first && bins == 0 {
                average.area += last * elapsed;
                average.span += elapsed;
            }
            if bins == 0 {
                average.total += value;
            }
            value
        };
        if bins > 0 {
            let width = (average.max.0 - average.min.0) / bins as f64;
            let (mut number, mut bound) = (0, average.min.0 + width);
            while sample > bound && number + 1 < bins {
                number += 1;
                bound += width;
            }
            if let Some(traced) = traced {
                traced.bin(number, sample, average);
            }
            if let Some(bin) = average.bins.get_mut(number) {
                *bin += 1;
            }
            return;
        }
        // The extremes of a counter begin with its first rate at the time of its first value.
        let time = if counter && average.count == 0 {
            average.first_time
        } else {
            time
        };
        average.sum += sample;
        average.summed += 1;
        average.count += 1;
        if sample < average.min.0 {
            average.min = (sample, time);
        }
        if sample > average.max.0 {
            average.max = (sample, time);
        }
        if let Some(traced) = traced.filter(|_| !first) {
            let what = if counter { sample } else { last };
            traced.step(counter, what, elapsed, area, average);
        }
    }
}

struct Summary {
    wanted: Wanted,
    zone: Zone,
    window: TimeWindow,
    metrics: HashMap<Pmid, Metric>,
    set: Arc<ArchiveSet>,
    /// Metrics of whose errors was spoken.
    failed: std::collections::HashSet<Pmid>,
}

impl Summary {
    fn label(&self, out: &mut impl Write) -> io::Result<()> {
        let label = self.set.label();
        writeln!(
            out,
            "Log Label (Log Format Version {})",
            label.version as u32
        )?;
        out.write_all(b"Performance metrics from host ")?;
        out.write_all(&label.hostname)?;
        let date = |t| self.zone.date(t, 3);
        writeln!(out, "\n  commencing {}", date(self.window.start))?;
        writeln!(out, "  ending     {}", date(self.window.end))
    }

    fn header(&self, out: &mut impl Write) -> io::Result<()> {
        let w = &self.wanted;
        let mut columns = vec!["metric".to_owned()];
        let mut add = |on: bool, name: &str| {
            if on {
                columns.push(name.to_owned());
            }
        };
        add(w.sum, "sum");
        add(w.stochastic, "stochastic_average");
        add(w.time, "time_average");
        add(w.min, "minimum");
        add(w.mintime, "minimum_time");
        add(w.max, "maximum");
        add(w.maxtime, "maximum_time");
        add(w.count, "count");
        add(w.bins > 0, "bins");
        add(true, "units");
        writeln!(out, "{}", columns.join(&w.delimiter.to_string()))
    }

    /// Goes through the window once: for the averages, and again for the bins.
    fn pass(&mut self, binning: bool) -> u8 {
        let bins = if binning { self.wanted.bins } else { 0 };
        let mut cursor = match SetCursor::at_start(&self.set) {
            Ok(cursor) => cursor,
            Err(error) => {
                eprintln!("pmlogsummary: pmFetch: {}", error.code());
                return 1;
            }
        };
        let (from, to) = (self.window.start, self.window.end);
        let mut progress = Progress::new("pmlogsummary", from, to, false);
        loop {
            let record = match cursor.following() {
                Ok(Some(record)) => record,
                Ok(None) => {
                    self.mark(self.window.end, binning);
                    return 0;
                }
                Err(error) => {
                    if !binning {
                        eprintln!("pmlogsummary: fetch failed: {}", error.code());
                    }
                    return 1;
                }
            };
            progress.at(record.time);
            if record.time > self.window.end {
                self.mark(self.window.end, binning);
                return 0;
            }
            if record.time < self.window.start {
                continue;
            }
            if record.is_mark() {
                self.mark(record.time, binning);
                continue;
            }
            let all = self.wanted.verbose && !binning;
            match record.decode_of(|pmid| all || self.metrics.contains_key(&pmid)) {
                Ok(fetched) => {
                    if self.record(fetched, bins).is_err() {
                        return 1;
                    }
                }
                Err(error) => {
                    eprintln!("pmlogsummary: pmFetch: {}", error.code());
                    return 1;
                }
            }
        }
    }

    /// Nothing is known from here on. What is discrete kept its value until now.
    fn mark(&mut self, time: Timestamp, binning: bool) {
        for metric in self.metrics.values_mut() {
            let discrete = metric.desc.sem == Semantics::Discrete && !binning;
            for average in metric.instances.iter_mut().filter(|a| !a.marked) {
                average.marked = true;
                if discrete {
                    let elapsed = (time - average.last_time).as_secs_f64();
                    average.area += average.last * elapsed;
                    average.span += elapsed;
                    average.sum += average.last;
                    average.summed += 1;
                }
            }
        }
    }

    /// What diagnostics call a metric, and its instances.
    fn traced(&self, pmid: Pmid) -> (Traced, HashMap<i32, String>) {
        let meta = self.set.meta();
        let names = meta.names.names_of(pmid).into_iter();
        let names: Vec<String> = names.map(|name| name.to_string()).collect();
        let desc = meta.descs.get(pmid.0);
        let instances = desc.and_then(|desc| meta.all_instances(desc.indom));
        let instances = instances.unwrap_or_default().into_iter();
        let traced = Traced {
            name: names.join(" or "),
            instance: String::new(),
            zone: self.zone.clone(),
        };
        (
            traced,
            instances.map(|i| (i.inst, i.name.to_string())).collect(),
        )
    }

    /// Takes a record's values in; an error, which was said, when one cannot be had.
    fn record(&mut self, fetched: Fetched, bins: usize) -> Result<(), ()> {
        for set in fetched.sets {
            let said = self.wanted.verbose && bins == 0;
            if let Err(code) = &set.values
                && said
                && self.failed.insert(set.pmid)
            {
                let names = self.set.meta().names.names_of(set.pmid);
                let name = names.into_iter().next().unwrap_or_default();
                eprintln!(
                    "pmlogsummary: {name}({}) - failed in archive value fetch: {code}",
                    set.pmid
                );
            }
            let mut traced = trace::wanted().then(|| self.traced(set.pmid));
            let Some(metric) = self.metrics.get_mut(&set.pmid) else {
                continue;
            };
            for value in set.instances() {
                let number = Atom::extract(&value.value, metric.desc.ty)
                    .ok()
                    .and_then(|a| a.as_f64());
                match number {
                    Some(number) => {
                        let inst = if metric.desc.indom.is_null() {
                            INST_NULL
                        } else {
                            value.inst
                        };
                        if let Some((traced, names)) = &mut traced {
                            traced.instance = names.get(&inst).cloned().unwrap_or_default();
                        }
                        let traced = traced.as_ref().map(|(traced, _)| traced);
                        metric.take(inst, number, fetched.time, bins, traced);
                    }
                    None => {
                        let names = self.set.meta().names.names_of(set.pmid);
                        let name = names.into_iter().next().unwrap_or_default();
                        eprintln!(
                            "pmlogsummary: {name}({}) - failed to extract value: {}",
                            set.pmid,
                            ErrorCode::CONV
                        );
                        eprintln!("pmlogsummary: possibly corrupt archive?");
                        return Err(());
                    }
                }
            }
        }
        Ok(())
    }

    fn when(&self, time: Timestamp) -> String {
        if self.window.end.sec - self.window.start.sec > DAY {
            format!("'{}'", self.zone.date(time, 3))
        } else {
            self.zone.clock(time, 3)
        }
    }

    /// A metric's instances as lines of JSON: the value is the average over time.
    fn lines(&self, out: &mut impl Write, name: &Text, metric: &Metric) -> io::Result<()> {
        let instances = self.set.meta().all_instances(metric.desc.indom);
        let instances = instances.unwrap_or_default().into_iter();
        let known: HashMap<i32, Text> = instances.map(|i| (i.inst, i.name)).collect();
        let units = match metric.units(true) {
            none if none == "none" => String::new(),
            units => units,
        };
        for average in &metric.instances {
            let enough = average.count > 0;
            let singular = average.inst == INST_NULL && metric.desc.indom.is_null();
            let number = json::number;
            let line = json::Line {
                time: average.last_time,
                metric: &name.to_str(),
                instance: match singular {
                    true => None,
                    false => json::instance(known.get(&average.inst), average.inst),
                },
                value: match enough {
                    true => Ok(number(average.mean())),
                    false => Err(ErrorCode::VALUE),
                },
                units: units.clone(),
                more: match enough {
                    true => vec![
                        ("since", json::timestamp(average.first_time)),
                        ("stochastic", number(average.stochastic())),
                        ("minimum", number(average.min.0)),
                        ("mintime", json::timestamp(average.min.1)),
                        ("maximum", number(average.max.0)),
                        ("maxtime", json::timestamp(average.max.1)),
                        ("sum", number(average.total)),
                        ("samples", average.count.into()),
                    ],
                    false => Vec::new(),
                },
            };
            writeln!(out, "{line}")?;
        }
        Ok(())
    }

    fn metric(&self, out: &mut impl Write, name: &Text, metric: &Metric) -> io::Result<()> {
        let w = &self.wanted;
        let d = w.delimiter;
        let units = metric.units(!w.sum);
        let number = |v: f64| pcp::cformat::f(v, w.precision);
        let whole = (self.window.end - self.window.start).as_secs_f64();
        let instances = self.set.meta().all_instances(metric.desc.indom);
        let instances = instances.unwrap_or_default().into_iter();
        let known: HashMap<i32, Text> = instances.map(|i| (i.inst, i.name)).collect();
        for average in &metric.instances {
            let enough = average.count > 0;
            let covered = (average.last_time - average.first_time).as_secs_f64();
            let partly = metric.desc.sem == Semantics::Counter && covered < COVERED * whole;
            if !enough || (partly && !w.sum) {
                out.write_all(b"*")?;
            }
            out.write_all(name)?;
            write!(out, "{d}")?;
            if average.inst != INST_NULL || !metric.desc.indom.is_null() {
                match known.get(&average.inst) {
                    Some(name) => {
                        out.write_all(b"[\"")?;
                        out.write_all(name)?;
                        out.write_all(b"\"]")?;
                    }
                    None => write!(out, "[{}]", average.inst)?,
                }
            }
            if !enough {
                writeln!(out, "{d}- insufficient archive data.")?;
                continue;
            }
            if w.sum {
                write!(out, "{d}{}", number(average.total))?;
            }
            if w.stochastic {
                write!(out, "{d}{}", number(average.stochastic()))?;
            }
            if w.time {
                write!(out, "{d}{}", number(average.mean()))?;
            }
            if w.min {
                write!(out, "{d}{}", number(average.min.0))?;
            }
            if w.mintime {
                write!(out, "{d}{}", self.when(average.min.1))?;
            }
            if w.max {
                write!(out, "{d}{}", number(average.max.0))?;
            }
            if w.maxtime {
                write!(out, "{d}{}", self.when(average.max.1))?;
            }
            if w.count {
                write!(out, "{d}{}", average.count)?;
            }
            let width = (average.max.0 - average.min.0) / w.bins.max(1) as f64;
            for (index, count) in average.bins.iter().enumerate() {
                if width == 0.0 && index > 0 {
                    write!(out, "{d}[]{d}{count}")?;
                    continue;
                }
                let top = average.min.0 + width * (index + 1) as f64;
                write!(out, "{d}[<={}]{d}{count}", number(top))?;
            }
            writeln!(out, "{d}{units}")?;
        }
        Ok(())
    }
}
