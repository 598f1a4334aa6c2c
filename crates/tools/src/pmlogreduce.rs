//! `pmlogreduce`: a smaller archive with samples at longer intervals (pmlogreduce(1)).

use std::collections::{HashMap, HashSet};
use std::io;

use pcp::archive::{
    ArchiveContext, ArchiveMode, ArchiveSet, ArchiveWriter, Label, MetaRecord, PcpHash, SetCursor,
    encode_data,
};
use pcp::timewindow::{TimeWindow, interval, samples_between};
use pcp::timezone::Zone;
use pcp::{
    Atom, Desc, Error, ErrorCode, InDom, Instance, Pmid, Semantics, Timestamp, Type, ValueSet,
};

use crate::options::rows::*;
use crate::options::{Refusal, Spec};
use crate::pmdumplog::type_name;
use crate::pmlogextract::create;
use crate::progress::Progress;
use crate::source::Source;

#[rustfmt::skip]
const SPEC: Spec = Spec {
    tool: "pmlogreduce",
    words: "[options] input-archive output-archive",
    rows: &[
        OPTIONS,
        ALIGN,
        START,
        SAMPLES,
        FINISH,
        value('t', "interval", "DELTA", "sample output interval [default 10min]"),
        value('v', "", "NUM", "switch log volumes after this many samples"),
        TIMEZONE,
        HOST_ZONE,
        HELP,
    ],
    source_in_words: true,
    two_zones: "at most one of -Z and/or -z allowed",
    ..Spec::PLAIN
};

/// The interval unless `-t` says another.
const INTERVAL: Timestamp = Timestamp { sec: 600, nsec: 0 };

/// Bytes of a volume between entries of the temporal index.
const INDEX_EVERY: i64 = 100_000;

/// Runs the tool; `args` are the words behind its name. Returns the exit status.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(args: Vec<String>) -> io::Result<u8> {
    SPEC.run(|spec| reduce(spec, args))
}

struct Metric {
    desc: Desc,
    /// What is written of it.
    out: Desc,
}

fn reduce(spec: &Spec, args: Vec<String>) -> Result<u8, Refusal> {
    let mut source = Source::default();
    let (mut step, mut samples, mut every) = (INTERVAL, None, 0u64);
    let words = spec.parse(args, &mut source, |option, value| {
        let numeric = format!("-{option} requires numeric argument");
        match option {
            's' => samples = Some(spec.number::<u64>(value, &numeric)?.into()),
            't' => {
                step = interval(value).map_err(|error| Refusal::Usage(format!("{error}\n")))?;
            }
            'v' => every = spec.number(value, &numeric)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let trace = pcp::debug::on(pcp::debug::Flag::Appl0);
    let [input, output, ..] = words.as_slice() else {
        return Err(spec.wrong("Error: insufficient arguments"));
    };
    let set = ArchiveSet::open(input).map_err(|error| {
        format!(
            "pmlogreduce: Error: cannot open archive \"{input}\" (ctx_a): {}\n",
            error.code()
        )
    })?;
    let label = set.label().clone();
    let (zone, note) = source.archive_zone(&label);
    // Times are kept in microseconds here, as in PCP's.
    let micros = |t: Timestamp| Timestamp::from_micros(t.sec, t.usec());
    let window = source
        .window
        .window(micros(label.start), micros(set.end()), &zone)
        .map_err(|error| {
            print!("{note}");
            format!("pmlogreduce: Invalid time window specified: {error}\n\n")
        })?;
    if trace {
        eprintln!("Start time: {}", zone.civil(window.start.sec).ctime());
        eprintln!("End time: {}", zone.civil(window.end.sec).ctime());
    }
    let mut reducer = Reducer::new(set, output, &label, &window, trace)?;
    reducer.zone = zone;
    let samples = samples
        .filter(|s| *s > 0)
        .unwrap_or_else(|| samples_between(window.start, window.end, step));
    let done = reducer.run(&window, step, samples, every);
    let (meta, end) = reducer.out.offsets();
    if let Err(message) = done {
        reducer.out.abandon();
        return Err(message.into());
    }
    let last = reducer.last;
    reducer
        .out
        .index(last, (meta, end))
        .and_then(|()| reducer.out.flush())
        .map_err(|e| failed(&e))?;
    print!("{note}");
    Ok(0)
}

fn failed(error: &io::Error) -> String {
    format!("pmlogreduce: {}\n", ErrorCode::from(error))
}

fn describe(desc: &Desc) {
    let units = desc.units.to_string();
    let units = if units.is_empty() { "none" } else { &units };
    eprintln!(
        "    Data Type: {}  InDom: {} 0x{:x}\n    Semantics: {}  Units: {units}",
        type_name(desc.ty),
        desc.indom,
        desc.indom.0,
        desc.sem
    );
}

struct Reducer {
    context: ArchiveContext,
    raw: SetCursor,
    out: ArchiveWriter,
    metrics: Vec<Metric>,
    /// The instances that were written last.
    domains: HashMap<InDom, Vec<Instance>>,
    /// The order of each metric's instances.
    orders: HashMap<Pmid, PcpHash<()>>,
    records: u64,
    index_at: i64,
    /// Whether the next record has its entry in the index already.
    has_entry: bool,
    last: Timestamp,
    step: Timestamp,
    /// Of times in messages.
    zone: Zone,
    trace: bool,
}

impl Reducer {
    fn new(
        set: std::sync::Arc<ArchiveSet>,
        output: &str,
        label: &Label,
        window: &TimeWindow,
        trace: bool,
    ) -> Result<Reducer, String> {
        let label = Label {
            start: window.start,
            pid: i32::try_from(std::process::id()).unwrap_or(0),
            ..label.clone()
        };
        let out = create(output, label).map_err(|text| text.replace("pmlogTOOL", "pmlogreduce"))?;
        let raw = SetCursor::at_start(&set)
            .map_err(|e| format!("pmlogreduce: Error: pmFetch failed: {}\n", e.code()))?;
        let mut reducer = Reducer {
            context: ArchiveContext::over(set.clone()),
            raw,
            out,
            metrics: Vec::new(),
            domains: HashMap::new(),
            orders: HashMap::new(),
            records: 0,
            index_at: INDEX_EVERY,
            has_entry: false,
            last: window.start,
            step: Timestamp::ZERO,
            zone: Zone::local(),
            trace,
        };
        let meta = set.meta();
        for (name, pmid) in meta.names.leaves(b"").unwrap_or_default() {
            let known = reducer.metrics.iter().any(|m| m.desc.pmid == pmid);
            let Some(desc) = meta.descs.get(pmid.0).copied().filter(|_| !known) else {
                continue;
            };
            if !desc.ty.is_numeric() && !matches!(desc.ty, Type::String | Type::NoSupport) {
                let ty = match desc.ty {
                    Type::Aggregate => "AGGREGATE",
                    Type::AggregateStatic => "AGGREGATE_STATIC",
                    Type::Event => "EVENT",
                    Type::HighResEvent => "HIGHRES_EVENT",
                    _ => "UNKNOWN",
                };
                eprintln!("pmlogreduce: {name}: Warning: skipping {ty} metric");
                continue;
            }
            let mut out = desc;
            if desc.sem == Semantics::Counter {
                out.ty = match desc.ty {
                    Type::I32 => Type::I64,
                    Type::U32 => Type::U64,
                    ty => ty,
                };
            }
            if trace {
                eprintln!("metric: \"{name}\" ({pmid})\ninput descriptor:");
                describe(&desc);
                eprintln!("output descriptor (added to archive):");
                describe(&out);
            }
            let record = MetaRecord::Desc {
                desc: out,
                names: meta.names.names_of(pmid),
            };
            let payload = record.encode(reducer.out.version());
            reducer.out.meta(&payload).map_err(|e| failed(&e))?;
            reducer.metrics.push(Metric { desc, out });
        }
        Ok(reducer)
    }

    fn run(
        &mut self,
        window: &TimeWindow,
        step: Timestamp,
        samples: i128,
        every: u64,
    ) -> Result<(), String> {
        let pmids: Vec<Pmid> = self.metrics.iter().map(|m| m.desc.pmid).collect();
        self.step = step;
        self.context
            .set_mode(ArchiveMode::Interpolated(step.as_nanos()), window.start);
        let mut done = 0;
        let mut progress = Progress::new("pmlogreduce", window.start, window.end, false);
        while done < samples {
            let fetched = match self.context.fetch(&pmids) {
                Ok(fetched) => fetched,
                Err(Error::Code(ErrorCode::EOL)) => return Ok(()),
                Err(error) => {
                    return Err(format!(
                        "pmlogreduce: Error: pmFetch failed: {}\n",
                        error.code()
                    ));
                }
            };
            if fetched.time > window.end {
                return Ok(());
            }
            progress.at(fetched.time);
            let logged = self.logged(fetched.time)?;
            let mut sets = self.promoted(fetched.sets, &logged);
            for set in &mut sets {
                self.in_order(set);
            }
            if !sets.is_empty() {
                // Marks count neither for volumes nor as samples.
                if every > 0 && done > 0 && done % i128::from(every) == 0 {
                    self.out.next_volume().map_err(|e| failed(&e))?;
                    let at = self.out.offsets();
                    let time = fetched.time;
                    self.out.index(time, at).map_err(|e| failed(&e))?;
                    self.index_at = INDEX_EVERY;
                    self.has_entry = true;
                    eprintln!(
                        "pmlogreduce: New log volume {}, at {}.{:09}",
                        self.out.label().volume,
                        self.zone.clock(time, 0),
                        time.nsec
                    );
                }
                self.record(fetched.time, &sets)?;
                done += 1;
            }
        }
        Ok(())
    }

    /// Writes the marks since the last sample; the metrics that were logged since then.
    fn logged(&mut self, until: Timestamp) -> Result<HashSet<Pmid>, String> {
        let mut logged = HashSet::new();
        loop {
            let mut ahead = self.raw.clone();
            let Ok(Some(record)) = ahead.following() else {
                return Ok(logged);
            };
            if record.time > until {
                return Ok(logged);
            }
            self.raw = ahead;
            if record.is_mark() {
                if self.records > 0 {
                    self.record(record.time, &[])?;
                }
                continue;
            }
            let fetched = record
                .decode()
                .map_err(|e| format!("pmlogreduce: Error: pmFetch failed: {}\n", e.code()))?;
            for set in &fetched.sets {
                logged.insert(set.pmid);
                self.seen(set);
            }
        }
    }

    /// Remembers the order in which PCP's library hands out instances: that of a hash table of all that the archive has of the
    /// domain.
    fn seen(&mut self, set: &ValueSet) {
        let values = set.instances();
        if values.is_empty() {
            return;
        }
        let meta = self.context.meta();
        let order = self.orders.entry(set.pmid).or_insert_with(|| {
            let desc = meta.descs.get(set.pmid.0);
            let all = desc.and_then(|desc| meta.all_instances(desc.indom));
            let all = all.unwrap_or_default();
            let mut order = PcpHash::with_buckets(all.len());
            for instance in all {
                order.insert(instance.inst as u32, ());
            }
            order
        });
        for value in values {
            if order.get(value.inst as u32).is_none() {
                order.insert(value.inst as u32, ());
            }
        }
    }

    fn in_order(&self, set: &mut ValueSet) {
        let Some(order) = self.orders.get(&set.pmid) else {
            return;
        };
        if let Ok(values) = &mut set.values
            && values.len() > 1
        {
            let places = order.iter().map(|(inst, ())| inst).zip(0usize..);
            let places: HashMap<u32, usize> = places.collect();
            values.sort_by_key(|value| places.get(&(value.inst as u32)).copied());
        }
    }

    /// What of the values is to be written: what was logged since the last sample, and that there are none.
    fn promoted(&mut self, sets: Vec<ValueSet>, logged: &HashSet<Pmid>) -> Vec<ValueSet> {
        let mut kept = Vec::new();
        for (metric, mut set) in self.metrics.iter_mut().zip(sets) {
            if !set.instances().is_empty() && !logged.contains(&metric.desc.pmid) {
                continue;
            }
            if metric.desc.sem == Semantics::Counter
                && let Ok(values) = &mut set.values
            {
                for value in values {
                    let atom = Atom::extract(&value.value, metric.desc.ty);
                    if let Ok(wide) = atom.and_then(|atom| atom.convert(metric.out.ty)) {
                        value.value = wide.to_value();
                    }
                }
            }
            if metric.desc.ty == Type::NoSupport && set.instances().is_empty() {
                set.values = Err(ErrorCode::PMID_LOG);
            }
            kept.push(set);
        }
        kept
    }

    fn record(&mut self, time: Timestamp, sets: &[ValueSet]) -> Result<(), String> {
        let before = self.out.offsets();
        let mut domain_changed = false;
        for set in sets.iter().filter(|s| !s.instances().is_empty()) {
            let Some(metric) = self.metrics.iter().find(|m| m.desc.pmid == set.pmid) else {
                continue;
            };
            let indom = metric.desc.indom;
            // PCP's library has gone on to the next sample by now.
            let entry = self.context.meta().instances_at(indom, time + self.step);
            let Some(entry) = entry.filter(|_| !indom.is_null()) else {
                continue;
            };
            if self.domains.get(&indom) == Some(&entry.instances) {
                continue;
            }
            if self.trace {
                eprintln!("    indom {indom} -> (0x1)");
                eprintln!(
                    "Add metadata: indom {indom} for metric {}",
                    metric.desc.pmid
                );
            }
            let record = MetaRecord::Indom {
                time,
                indom,
                instances: entry.instances.clone(),
            };
            self.domains.insert(indom, entry.instances.clone());
            domain_changed = true;
            let payload = record.encode(self.out.version());
            self.out.meta(&payload).map_err(|e| failed(&e))?;
        }
        let payload = encode_data(self.out.version(), time, sets);
        self.out.data(&payload).map_err(|e| failed(&e))?;
        let after = self.out.offsets().1;
        // A record that begins a volume has its entry already.
        let has_entry = std::mem::take(&mut self.has_entry);
        if self.records == 0 || domain_changed || after > self.index_at {
            if !has_entry {
                self.out.index(time, before).map_err(|e| failed(&e))?;
            }
            if after > self.index_at {
                self.index_at = after + INDEX_EVERY;
            }
        }
        self.records += 1;
        self.last = time;
        Ok(())
    }
}
