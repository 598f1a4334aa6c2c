//! `pmval`: the values of one metric over time (pmval(1)).

mod table;

use std::collections::HashMap;
use std::io::{self, BufWriter, Write};

use pcp::archive::ArchiveMode;
use pcp::timewindow::{SECOND, samples_between};
use pcp::{
    Atom, Context, Desc, Error, ErrorCode, INST_NULL, Instance, InstanceValue, Semantics, TIME_SEC,
    Text, Timestamp, Type, Units,
};

use crate::options::rows::*;
use crate::options::{Refusal, Spec};
use crate::source::{Opened, Source};

#[rustfmt::skip]
const SPEC: Spec = Spec {
    tool: "pmval",
    words: "[options] metricname",
    rows: &[
        GENERAL,
        ALIGN,
        ARCHIVE,
        GUI_MODE,
        HOST,
        NAMESPACE,
        ORIGIN,
        GUI_PORT,
        START,
        SAMPLES,
        FINISH,
        INTERVAL,
        TIMEZONE,
        HOST_ZONE,
        SHOW_VERSION,
        HELP,
        SPEC_LOCAL,
        LOCAL,
        CONTAINER,
        DERIVED,
        REPORTING,
        flag('d', "delay", "delay, pause between updates for archive replay"),
        value('f', "precision", "N", "fixed output format with N digits precision"),
        value('i', "instances", "INST", "comma-separated metrics instance list"),
        flag('r', "raw", "output raw counter values (no rate conversion)"),
        value('U', "nointerp", "FILE", "non-interpolated fetching; ignores interval"),
        flag('v', "verbose", "increase diagnostic output"),
        value('w', "width", "N", "set the width of each column of output"),
        value('x', "filter", "VALUE", "store to the metric before fetching (filter)"),
        flag('X', "timestamp", "include date and microseconds in reported timestamps"),
        COLOR,
        JSON,
    ],
    source_in_words: true,
    whole_names: true,
    ..Spec::PLAIN
};

/// Runs the tool; `args` are the words behind its name. Returns the exit status.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(args: Vec<String>) -> io::Result<u8> {
    run_as("pmval", args)
}

/// Runs the tool under one of its names, `pmval` or `pmevent`.
///
/// # Errors
/// When standard output cannot be written.
pub fn run_as(tool: &'static str, args: Vec<String>) -> io::Result<u8> {
    let spec = Spec { tool, ..SPEC };
    spec.run(|spec| {
        let mut pmval = Pmval::new(spec, args)?;
        Ok(match pmval.has_events() {
            true => pmval.events()?,
            false => pmval.run()?,
        })
    })
}

struct Pmval {
    tool: &'static str,
    out: BufWriter<io::StdoutLock<'static>>,
    opened: Opened,
    source: Source,
    name: String,
    archive_name: String,
    desc: Desc,
    /// The columns.
    instances: Vec<Instance>,
    /// Whether names that are longer than a column were written out.
    named: bool,
    /// Whether no instances were chosen.
    all: bool,
    recorded: bool,
    raw: bool,
    delay: bool,
    precision: Option<usize>,
    width: usize,
    dates: u32,
    /// Lines of JSON instead of a table.
    json: bool,
    pmid: pcp::Pmid,
    /// From a counter's difference per second to what is reported.
    scale: f64,
}

/// Names separated by commas or spaces, any of them in quotes.
pub(crate) fn instance_list(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(&c) = chars.peek() {
        if c == ',' || c.is_whitespace() {
            chars.next();
            continue;
        }
        let mut name = String::new();
        if c == '"' || c == '\'' {
            chars.next();
            name.extend(chars.by_ref().take_while(|&d| d != c));
        } else {
            while let Some(d) = chars.next_if(|d| *d != ',' && !d.is_whitespace()) {
                name.push(d);
            }
        }
        names.push(name);
    }
    names
}

/// `[source:|archive/]metric[instances]` (PCPIntro(1)): what is in front, the metric, and the instances.
fn metric_spec(text: &str) -> (Option<(char, &str)>, &str, Option<&str>) {
    let (head, instances) = match text.split_once('[') {
        Some((head, rest)) => (head, Some(rest.strip_suffix(']').unwrap_or(rest))),
        None => (text, None),
    };
    if let Some((host, metric)) = head.rsplit_once(':') {
        return (Some(('h', host)), metric, instances);
    }
    if let Some((archive, metric)) = head.rsplit_once('/') {
        return (Some(('a', archive)), metric, instances);
    }
    (None, head, instances)
}

impl Pmval {
    fn new(spec: &Spec, args: Vec<String>) -> Result<Pmval, Refusal> {
        let tool = spec.tool;
        let mut source = Source::default();
        let (mut recorded, mut raw, mut delay, mut dates) = (None, false, false, 0);
        let (mut precision, mut width, mut wanted) = (None, None, Vec::new());
        let mut filter = None;
        let (mut gui, mut port, mut json) = (false, false, false);
        let both = || spec.wrong("at most one of -g and -p allowed");
        let words = spec.parse(args, &mut source, |option, value| {
            let numeric = format!("-{option} requires +ve numeric argument");
            match option {
                'd' => delay = true,
                'f' => precision = Some(spec.number::<usize>(value, &numeric)?),
                'w' => width = Some(spec.number::<usize>(value, &numeric)?),
                'i' => wanted.extend(instance_list(value)),
                'r' => raw = true,
                'U' => recorded = Some(value.to_owned()),
                'v' => {}
                JSON_ONLY => json = true,
                'x' => filter = Some(value.to_owned()),
                'g' if port => return Err(both()),
                'p' if gui => return Err(both()),
                'g' => gui = true,
                'p' => port = true,
                'X' => dates += 1,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        if recorded.is_some() {
            source.archives.clone_from(&recorded);
            source.check(spec)?;
        }
        let [word] = words.as_slice() else {
            let few = words.is_empty();
            return Err(spec.wrong(match few {
                true => "error - no metricname specified",
                false => "error - too many arguments",
            }));
        };
        let (place, name, instances) = metric_spec(word);
        if name.is_empty() {
            let before = " ".repeat(word.len());
            return Err(Refusal::Usage(format!(
                "{word}\n{before}^ -- performance metric name expected\n"
            )));
        }
        if gui || port {
            let option = if gui { 'g' } else { 'p' };
            return Err(Refusal::Failed(format!(
                "{tool}: option -{option} is not available\n"
            )));
        }
        if let Some((letter, place)) = place {
            let (archive, host) = (source.archives.is_some(), source.host.is_some());
            if letter == 'a' && host || letter == 'h' && archive {
                return Err(spec.wrong("only one host or archive allowed"));
            }
            let sourceless = !archive && !host && !source.local;
            if letter == 'h' && sourceless && source.window.origin.is_some() {
                // An origin by itself is one in the archive of this host.
                return Err(spec.wrong("only one host or archive allowed"));
            }
            // It is this source, whatever the options say.
            (source.archives, source.host) = (None, None);
            source.option(spec, letter, place)?;
        }
        source.check_window(spec)?;
        if let Some(instances) = instances {
            // Those of the specification take the place of those of -i.
            wanted = instance_list(instances);
        }
        let source = source.with_environment(spec)?;
        if delay && source.archives.is_none() {
            return Err(spec.wrong("delay can only be used with archives"));
        }
        let mut opened = source.open(spec)?;
        if let Some(note) = opened.note.as_ref().filter(|_| !json) {
            println!("{note}");
        }
        let failed =
            |what: &str, code: ErrorCode| Refusal::Failed(format!("{tool}: {what}: {code}\n"));
        let pmid = opened
            .context
            .lookup_name(name)
            .map_err(|e| failed(&format!("pmLookupName({name})"), e.code()))?;
        if pcp::debug::on(pcp::debug::Flag::Derive) {
            // PCP's asks twice, which shows in this trace alone.
            let _ = opened.context.lookup_name(name);
        }
        let desc = opened
            .context
            .desc(pmid)
            .map_err(|e| failed("pmLookupDesc", e.code()))?;
        // There is nothing to be told to an archive.
        let host = !matches!(opened.context, Context::Archive(_));
        if let Some(text) = filter.filter(|_| host) {
            let atom = match desc.ty {
                Type::Event | Type::HighResEvent => Ok(Atom::String(text.as_str().into())),
                Type::Aggregate | Type::AggregateStatic => Err(ErrorCode::CONV),
                ty => Atom::parse(&text, ty),
            };
            let atom = atom.map_err(|_| {
                let ty = desc.ty;
                let what = format!("incompatible with metric type (PM_TYPE_{ty})");
                Refusal::Failed(format!("{tool}: filter \"{text}\" {what}\n"))
            })?;
            let values = pcp::Fetched {
                time: Timestamp::ZERO,
                sets: vec![pcp::ValueSet::new(
                    pmid,
                    vec![InstanceValue {
                        inst: INST_NULL,
                        value: atom.to_value(),
                    }],
                )],
            };
            let stored = opened.context.store(&values);
            stored.map_err(|e| failed(&format!("store value \"{text}\" failed"), e.code()))?;
        }
        if tool == "pmevent" && !wanted.is_empty() && desc.indom.is_null() {
            return Err(Refusal::Failed(format!(
                "{tool}: {name}: singular metrics do not have instances\n"
            )));
        }
        let instances = columns(tool, &mut opened.context, &desc, &wanted)?;
        // What is shown as it was recorded is whole.
        if !wanted.is_empty() && !desc.indom.is_null() && recorded.is_none() {
            let numbers: Vec<i32> = instances.iter().map(|i| i.inst).collect();
            let profile = opened.context.profile_mut();
            profile.remove(Some(desc.indom), &[]);
            profile.add(Some(desc.indom), &numbers);
        }
        let rate = desc.sem == Semantics::Counter && !raw && desc.ty.is_numeric();
        let scale = if rate && desc.units.dim_time == 1 {
            let second = Units::new(0, 1, 0, 0, TIME_SEC, 0);
            let own = Units::new(0, 1, 0, 0, desc.units.scale_time, 0);
            own.conversion(second).unwrap_or(1.0)
        } else {
            1.0
        };
        let own_width = match desc.ty {
            Type::I32 | Type::U32 => 11,
            Type::Float => 13,
            Type::Event | Type::HighResEvent => 0,
            _ => 21,
        };
        let width = width.unwrap_or(own_width);
        if let Some(digits) =
            precision.filter(|digits| digits + 1 >= width && (*digits, width) != (0, 0))
        {
            if tool == "pmval" && opened.note.is_none() {
                println!();
            }
            return Err(Refusal::Failed(format!(
                "{tool}: -f {digits} too large for column width {width}\n"
            )));
        }
        Ok(Pmval {
            tool,
            out: BufWriter::with_capacity(1 << 16, io::stdout().lock()),
            archive_name: source.archives.clone().unwrap_or_default(),
            name: name.to_owned(),
            all: wanted.is_empty(),
            desc,
            instances,
            named: false,
            recorded: recorded.is_some(),
            raw: !rate,
            delay,
            precision,
            width,
            dates,
            json,
            pmid,
            scale,
            opened,
            source,
        })
    }

    fn heading(&mut self, samples: Option<i128>, step: Timestamp) -> io::Result<()> {
        if self.json {
            return Ok(());
        }
        let out = &mut self.out;
        if self.opened.note.is_none() {
            writeln!(out)?;
        }
        writeln!(out, "metric:    {}", self.name)?;
        let archive = matches!(self.opened.context, Context::Archive(_));
        if archive {
            writeln!(out, "archive:   {}", self.archive_name)?;
        }
        writeln!(out, "host:      {}", self.opened.hostname)?;
        if archive {
            let zone = &self.opened.zone;
            let date = |t: Timestamp| zone.civil(t.sec).ctime();
            writeln!(out, "start:     {}", date(self.opened.window.origin))?;
            if self.opened.window.end != Timestamp::MAX {
                writeln!(out, "end:       {}", date(self.opened.window.end))?;
            }
        }
        let sem = match self.desc.sem {
            Semantics::Counter => "cumulative counter",
            Semantics::Discrete => "discrete instantaneous value",
            Semantics::Instant => "instantaneous value",
            Semantics::Other(_) => "unknown",
        };
        write!(out, "semantics: {sem}")?;
        let mut units = self.desc.units.to_string();
        if units.is_empty() {
            units = "none".to_owned();
        }
        if self.raw {
            writeln!(out, "\nunits:     {units}")?;
        } else {
            writeln!(out, " (converting to rate)")?;
            let rate = if self.desc.units.dim_time == 1 {
                "time utilization".to_owned()
            } else {
                let mut rate = self.desc.units;
                rate.dim_time -= 1;
                if rate.dim_time == -1 {
                    rate.scale_time = TIME_SEC;
                }
                rate.to_string().trim_start().to_owned()
            };
            writeln!(out, "units:     {units} (converting to {rate})")?;
        }
        match samples {
            Some(samples) => writeln!(out, "samples:   {samples}")?,
            None => writeln!(out, "samples:   all")?,
        }
        // Of an archive whose end is not known neither is told.
        let several = samples.map_or(!archive, |n| n > 1);
        if several && !(self.recorded && archive) {
            writeln!(out, "interval:  {:.2} sec", step.as_secs_f64())?;
        }
        Ok(())
    }

    fn run(&mut self) -> io::Result<u8> {
        let step = self
            .source
            .interval
            .filter(|t| *t > Timestamp::ZERO)
            .unwrap_or(SECOND);
        let window = self.opened.window;
        let archive = matches!(self.opened.context, Context::Archive(_));
        let mut samples = self.source.samples.map(i128::from);
        if samples.is_none() && !self.recorded && window.end != Timestamp::MAX {
            samples = Some(samples_between(window.origin, window.end, step));
        }
        self.heading(samples, step)?;
        self.out.flush()?;
        if let Context::Archive(context) = &mut self.opened.context {
            let mode = if self.recorded {
                ArchiveMode::Forward
            } else {
                ArchiveMode::Interpolated(step.as_nanos())
            };
            context.set_mode(mode, window.origin);
        }
        let mut previous: Option<(Timestamp, HashMap<i32, f64>)> = None;
        let (mut labelled, mut waited, mut suspended) = (false, false, false);
        let mut done = 0;
        let mut wake = Timestamp::now();
        let call = if self.recorded {
            "pmFetchArchive"
        } else {
            "pmFetch"
        };
        // Derived metrics are in no record.
        let ended = self.recorded && self.pmid.is_derived();
        while !ended && samples.is_none_or(|n| done < n) {
            if (done > 0 || waited) && (self.delay || !archive) {
                self.out.flush()?;
                wake = wake + step;
                let wait = wake - Timestamp::now();
                if wait > Timestamp::ZERO {
                    let wait = u64::try_from(wait.as_nanos()).unwrap_or(0);
                    std::thread::sleep(std::time::Duration::from_nanos(wait));
                }
            }
            let fetched = match self.opened.context.fetch(&[self.pmid]) {
                Ok(fetched) => fetched,
                Err(Error::Code(ErrorCode::EOL)) => break,
                Err(error) => {
                    self.out.flush()?;
                    eprintln!("\n{}: {call}: {}", self.tool, error.code());
                    return Ok(1);
                }
            };
            if archive && fetched.time > window.end {
                break;
            }
            let Some(set) = fetched.sets.first() else {
                if !self.json {
                    self.stamp(fetched.time)?;
                    self.out.write_all(b"  Archive logging suspended\n")?;
                }
                previous = None;
                labelled = false;
                suspended = true;
                continue;
            };
            if let Err(code) = &set.values {
                self.out.flush()?;
                eprintln!("\n{}: {call}: {code}", self.tool);
                return Ok(1);
            }
            let values = set.instances();
            if values.is_empty() {
                done += 1;
                if self.json {
                    self.line(fetched.time, None, Err(ErrorCode::VALUE))?;
                } else {
                    self.stamp(fetched.time)?;
                    self.no_values()?;
                }
                previous = None;
                labelled = false;
                continue;
            }
            if self.json {
                if self.raw {
                    done += 1;
                    self.lines(fetched.time, values)?;
                    continue;
                }
                let now = self.numbers(values);
                if let Some((then, before)) = &previous {
                    done += 1;
                    let elapsed = (fetched.time - *then).as_secs_f64();
                    self.rate_lines(fetched.time, before, &now, elapsed)?;
                } else {
                    waited = true;
                }
                previous = Some((fetched.time, now));
                continue;
            }
            if !self.desc.indom.is_null() && !labelled {
                let bold = self.source.colour.bold();
                write!(self.out, "{}", bold.0)?;
                self.labels()?;
                write!(self.out, "{}", bold.1)?;
                labelled = true;
            }
            if self.raw {
                done += 1;
                self.stamp(fetched.time)?;
                self.row(values)?;
                labelled &= self.unknown(values)?;
                continue;
            }
            let now = self.numbers(values);
            if let Some((then, before)) = &previous {
                done += 1;
                self.stamp(fetched.time)?;
                let elapsed = (fetched.time - *then).as_secs_f64();
                self.rates(before, &now, elapsed)?;
                labelled &= self.unknown(values)?;
            } else {
                // What the next rate is reckoned from is not a sample.
                if done > 0 && !(suspended && self.desc.indom.is_null()) {
                    self.stamp(fetched.time)?;
                    self.no_values()?;
                }
                waited = true;
            }
            suspended = false;
            previous = Some((fetched.time, now));
        }
        self.out.flush()?;
        Ok(0)
    }

    fn has_events(&self) -> bool {
        matches!(self.desc.ty, Type::Event | Type::HighResEvent)
    }

    /// Goes on with the events in the metric's values.
    fn events(self) -> io::Result<u8> {
        crate::pmevent::Report {
            out: self.out,
            samples: self.source.samples,
            interval: self
                .source
                .interval
                .filter(|t| *t > Timestamp::ZERO)
                .unwrap_or(SECOND),
            json: self.json,
            dates: self.dates > 0,
            opened: self.opened,
            archive_name: self.archive_name,
            name: self.name,
            desc: self.desc,
            instances: self.instances,
        }
        .run()
    }
}

/// The instances to show: those named, or all that the domain has ever had.
fn columns(
    tool: &str,
    context: &mut Context,
    desc: &Desc,
    wanted: &[String],
) -> Result<Vec<Instance>, Refusal> {
    if desc.indom.is_null() {
        return Ok(Vec::new());
    }
    let all = match &mut *context {
        Context::Archive(archive) => archive.all_instances(desc.indom),
        host => host.instances(desc.indom),
    };
    let mut all = all.map_err(|error| {
        Refusal::Failed(format!(
            "{tool}: pmGetInDom({}): {}\n",
            desc.indom,
            error.code()
        ))
    })?;
    all.sort_by_key(|i| i.inst);
    if wanted.is_empty() {
        return Ok(all);
    }
    let mut columns = Vec::new();
    for name in wanted {
        let text = Text::from(name.as_str());
        let found = all
            .iter()
            .find(|i| pcp::instance_name_matches(&i.name, &text));
        // An agent may know it by other words than it has for it.
        let inst = match (found, &mut *context) {
            (Some(found), _) => Ok(found.inst),
            (None, Context::Host(host)) => host.lookup_instance(desc.indom, &text),
            (None, _) => Err(ErrorCode::INST.into()),
        };
        let Ok(inst) = inst else {
            return Err(Refusal::Failed(format!(
                "{tool}: instance {name} not available\n"
            )));
        };
        columns.push(Instance { inst, name: text });
    }
    columns.sort_by_key(|i| i.inst);
    Ok(columns)
}
