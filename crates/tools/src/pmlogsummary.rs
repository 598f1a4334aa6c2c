//! `pmlogsummary`: averages and extremes of what archives hold (pmlogsummary(1)).

mod average;
mod report;
mod trace;

use std::collections::HashMap;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use pcp::archive::{ArchiveSet, SetCursor};
use pcp::pmns::Pmns;
use pcp::timewindow::TimeWindow;
use pcp::timezone::Zone;
use pcp::{Atom, ErrorCode, Fetched, INST_NULL, Pmid, Semantics, Text, Timestamp};

use self::average::Metric;
use self::trace::Traced;
use crate::event_metrics::event_metric;
use crate::options::rows::*;
use crate::options::{Refusal, Spec};
use crate::progress::Progress;
use crate::source::{Source, no_end};

#[rustfmt::skip]
const SPEC: Spec = Spec {
    tool: "pmlogsummary",
    words: "[options] archive [metricname ...]",
    rows: &[
        OPTIONS,
        flag('a', "all", "print all information (equivalent to -blmMy)"),
        flag('b', "", "print both stochastic and time averages for counter metrics"),
        value('B', "bins", "N", "print value distribution across a number of bins"),
        flag('f', "", "print using \"spreadsheet\" format (tab delimited fields)"),
        flag('F', "", "print using \"spreadsheet\" format (comma separated values)"),
        flag('H', "header", "print one-line header at start showing each column"),
        flag('i', "mintime", "also print timestamp for minimum value"),
        flag('I', "maxtime", "also print timestamp for maximum value"),
        flag('l', "label", "also print the archive label and time window"),
        flag('m', "minimum", "also print minimum value"),
        flag('M', "maximum", "also print maximum value"),
        NAMESPACE,
        flag('N', "", "suppress warnings from individual archive fetches (default)"),
        value('p', "precision", "N", "number of digits to display after the decimal point"),
        flag('r', "", ""),
        flag('s', "sum", "only print the sum of all values of each metric"),
        START,
        FINISH,
        flag('v', "verbose", "verbose, enable warnings from individual archive fetches"),
        flag('x', "", "print only stochastic averages for counter metrics"),
        flag('y', "samples", "print sample count for each metric"),
        TIMEZONE,
        HOST_ZONE,
        SHOW_VERSION,
        HELP,
        JSON,
    ],
    source_in_words: true,
    ..Spec::PLAIN
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

/// Runs the tool; `args` are the words behind its name. Returns the exit status.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(args: Vec<String>) -> io::Result<u8> {
    SPEC.run(|spec| summarise(spec, args))
}

fn summarise(spec: &Spec, args: Vec<String>) -> Result<u8, Refusal> {
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
    let mut source = Source::default();
    let words = spec.parse(args, &mut source, |option, value| {
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
            'B' => wanted.bins = spec.number(value, "-B requires positive numeric argument")?,
            'f' => wanted.delimiter = '\t',
            'F' => wanted.delimiter = ',',
            'H' => wanted.header = true,
            'i' => wanted.mintime = true,
            'I' => wanted.maxtime = true,
            'l' => wanted.label = true,
            'm' => wanted.min = true,
            'M' => wanted.max = true,
            'N' | 'r' => {}
            JSON_ONLY => wanted.json = true,
            'p' => wanted.precision = spec.number(value, "-p requires numeric argument")?,
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
            'v' => wanted.verbose = true,
            'x' => {
                wanted.stochastic = true;
                wanted.time = false;
                wanted.sum = false;
            }
            'y' => wanted.count = true,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let source = source.with_environment(spec)?;
    // With an archive in the environment all words are metrics.
    let (name, metrics) = match (&source.archives, words.split_first()) {
        (Some(name), _) => (name, words.as_slice()),
        (None, Some((name, metrics))) => (name, metrics),
        (None, None) => {
            return Err(Refusal::Usage("Error: no archive specified\n\n".to_owned()));
        }
    };
    let set = ArchiveSet::open(name).map_err(|error| {
        let code = error.code();
        format!("pmlogsummary: Cannot open archive \"{name}\": {code}\n")
    })?;
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let label = set.label();
    let (zone, note) = source.archive_zone(label);
    out.write_all(note.as_bytes())?;
    let end = match set.archives().last().map(pcp::archive::Archive::end) {
        Some(Err(error)) => {
            eprint!("{}", no_end("pmlogsummary", Some(name), error.code()));
            Timestamp::MAX
        }
        _ => set.end(),
    };
    let window = source
        .window
        .window(label.start, end, &zone)
        .map_err(|error| {
            let _ = out.flush();
            format!("pmlogsummary: invalid time window.\n{error}\n\n")
        })?;
    let loaded;
    let names: &Pmns = match &source.pmns {
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
            // Events' own metrics are in every name space, and have no values.
            Err(_) if event_metric(metric).is_some() => {}
            Err(code) => eprintln!("pmlogsummary: PMNS traversal failed for {metric}: {code}"),
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
    if summary.wanted.bins > 0 {
        for metric in summary.metrics.values_mut() {
            for average in &mut metric.instances {
                average.bins = vec![0; summary.wanted.bins];
                average.marked = true;
            }
        }
        trace::second_pass();
        status = status.max(summary.pass(true));
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
        let mut last = from;
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
                        // What was discrete is known until the last record.
                        self.mark(last, binning);
                    }
                    return 1;
                }
            };
            progress.at(record.time);
            last = record.time;
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
                    if !binning {
                        eprintln!("pmlogsummary: fetch failed: {}", error.code());
                        // What was discrete is known until the last record.
                        self.mark(last, binning);
                    }
                    return 1;
                }
            }
        }
    }

    /// Nothing is known from here on. What is discrete kept its value until now.
    fn mark(&mut self, time: Timestamp, binning: bool) {
        for metric in self.metrics.values_mut() {
            let discrete = metric.desc.sem == Semantics::Discrete && !binning;
            for average in &mut metric.instances {
                average.marked = true;
                // It does so over any number of marks.
                if discrete {
                    let passed = time - average.last_time;
                    average.area += average.last * passed.as_secs_f64();
                    average.span = average.span + passed;
                    average.last_time = time;
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
                        if self.wanted.verbose {
                            eprintln!(
                                "pmlogsummary: {name}({}) - failed to extract value: {}",
                                set.pmid,
                                ErrorCode::CONV
                            );
                        }
                        eprintln!("pmlogsummary: possibly corrupt archive?");
                        return Err(());
                    }
                }
            }
        }
        Ok(())
    }
}
