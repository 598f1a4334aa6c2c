//! `pmtop`: any metrics live on a terminal, each with a line of its past; as plain text or JSON elsewhere. PCP has no such tool;
//! options are those that its tools have in common (PCPIntro(1)).

mod screen;
mod view;

use std::collections::HashMap;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use pcp::archive::ArchiveMode;
use pcp::timewindow::SECOND;
use pcp::{
    Atom, Context, Desc, Error, ErrorCode, INST_NULL, Pmid, Semantics, TIME_SEC, Text, Timestamp,
    Units,
};
use serde_json::{Map, Value, json};

use crate::options::rows::*;
use crate::options::{Refusal, Spec};
use crate::source::{Opened, Source};
use screen::{Key, Screen};
use view::{Layout, Reading, Row};

#[rustfmt::skip]
const SPEC: Spec = Spec {
    tool: "pmtop",
    words: "[options] [metricname[instance,...] ...]",
    rows: &[
        text("\n"),
        text("Shows metrics, or all below a name, live on a terminal, with a line of their past: counters as rates, times as shares.\n"),
        text("Without names: load, processors, memory, disks and network. Keys: q quits, space pauses, arrows and pages scroll.\n"),
        GENERAL,
        ALIGN,
        ARCHIVE,
        HOST,
        NAMESPACE,
        ORIGIN,
        START,
        value('s', "samples", "N", "terminate after this many samples, as plain text"),
        FINISH,
        value('t', "interval", "DELTA", "sampling interval [default 1 second]"),
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
        value('i', "instances", "INST", "comma-separated metrics instance list"),
        flag('j', "json", "a JSON object for each sample, one in a line"),
        flag('p', "plain", "plain text, also on a terminal"),
        flag('r', "raw", "output raw counter values (no rate conversion)"),
    ],
    live_windows: true,
    ..Spec::PLAIN
};

/// What is shown when nothing is asked for; what a source does not have is left out.
const DEFAULT: &[&str] = &[
    "kernel.all.load",
    "kernel.all.cpu.user",
    "kernel.all.cpu.sys",
    "kernel.all.cpu.idle",
    "kernel.all.cpu.wait.total",
    "kernel.all.pswitch",
    "mem.util.used",
    "mem.util.free",
    "mem.util.cached",
    "disk.all.read_bytes",
    "disk.all.write_bytes",
    "network.interface.in.bytes",
    "network.interface.out.bytes",
];

/// Runs the tool; `args` are the words behind its name. Returns the exit status.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(args: Vec<String>) -> io::Result<u8> {
    SPEC.run(|spec| Ok(Pmtop::new(spec, args)?.run()?))
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Form {
    #[default]
    Screen,
    Plain,
    Json,
}

/// A metric that is shown.
struct Metric {
    name: String,
    desc: Desc,
    /// Instances that are wanted, by name; all when there are none.
    instances: Vec<String>,
    /// Whether differences per second are shown.
    rate: bool,
    /// From a difference per second to what is shown.
    scale: f64,
    units: String,
}

struct Pmtop {
    opened: Opened,
    metrics: Vec<Metric>,
    form: Form,
    delay: bool,
    step: Timestamp,
    samples: Option<i128>,
    /// By the place of the metric and the instance.
    rows: Vec<Row>,
    keys: Vec<(usize, i32)>,
    places: HashMap<(usize, i32), usize>,
    before: HashMap<(usize, i32), f64>,
    last: Option<Timestamp>,
}

impl Metric {
    fn new(name: String, desc: Desc, instances: Vec<String>, raw: bool) -> Metric {
        let rate = desc.sem == Semantics::Counter && !raw && desc.ty.is_numeric();
        let second = Units::new(0, 1, 0, 0, TIME_SEC, 0);
        let mut scale = 1.0;
        let mut units = desc.units;
        let shown = if !rate {
            units.to_string()
        } else if units.dim_time == 1 && units.dim_space == 0 && units.dim_count == 0 {
            // Time per time is a share.
            let own = Units::new(0, 1, 0, 0, units.scale_time, 0);
            scale = own.conversion(second).unwrap_or(1.0) * 100.0;
            "%".to_owned()
        } else {
            units.dim_time -= 1;
            if units.dim_time == -1 {
                units.scale_time = TIME_SEC;
            }
            units.to_string()
        };
        Metric {
            name,
            desc,
            instances,
            rate,
            scale,
            units: shown.trim().to_owned(),
        }
    }
}

/// `metric[instance,instance]`.
fn metric_and_instances(word: &str) -> (&str, Vec<String>) {
    let Some((name, rest)) = word.split_once('[') else {
        return (word, Vec::new());
    };
    (name, names(rest.strip_suffix(']').unwrap_or(rest)))
}

fn names(list: &str) -> Vec<String> {
    let names = list
        .split(',')
        .map(|n| n.trim().trim_matches('"').to_owned());
    names.filter(|n| !n.is_empty()).collect()
}

impl Pmtop {
    fn new(spec: &Spec, args: Vec<String>) -> Result<Pmtop, Refusal> {
        let mut source = Source::default();
        let (mut form, mut delay, mut raw, mut wanted) =
            (Form::default(), false, false, Vec::new());
        let words = spec.parse(args, &mut source, |option, value| {
            match option {
                'd' => delay = true,
                'i' => wanted.extend(names(value)),
                'j' => form = Form::Json,
                'p' if form != Form::Json => form = Form::Plain,
                'p' => {}
                'r' => raw = true,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let source = source.with_environment(spec)?;
        let mut opened = source.open(spec)?;
        let metrics = metrics(&mut opened.context, &words, &wanted, raw)?;
        if form == Form::Screen && (source.samples.is_some() || !io::stdout().is_terminal()) {
            form = Form::Plain;
        }
        if let Some(note) = opened.note.as_ref().filter(|_| form == Form::Plain) {
            println!("{note}");
        }
        let step = source.interval.filter(|t| *t > Timestamp::ZERO);
        let step = step.unwrap_or(SECOND);
        let samples = source.samples.map(i128::from);
        if let Context::Archive(archive) = &mut opened.context {
            archive.set_mode(
                ArchiveMode::Interpolated(step.as_nanos()),
                opened.window.origin,
            );
        }
        Ok(Pmtop {
            opened,
            metrics,
            form,
            delay,
            step,
            samples,
            rows: Vec::new(),
            keys: Vec::new(),
            places: HashMap::new(),
            before: HashMap::new(),
            last: None,
        })
    }

    fn is_archive(&self) -> bool {
        matches!(self.opened.context, Context::Archive(_))
    }

    /// Fetches once and puts what came into the rows. `None` at the end of an archive.
    fn sample(&mut self) -> pcp::Result<Option<Timestamp>> {
        let pmids: Vec<Pmid> = self.metrics.iter().map(|m| m.desc.pmid).collect();
        let fetched = match self.opened.context.fetch(&pmids) {
            Ok(fetched) => fetched,
            Err(Error::Code(ErrorCode::EOL)) => return Ok(None),
            Err(error) => return Err(error),
        };
        if self.is_archive() && fetched.time > self.opened.window.end {
            return Ok(None);
        }
        let passed = self.last.map(|last| (fetched.time - last).as_secs_f64());
        let mut seen = vec![false; self.rows.len()];
        let mut before = HashMap::new();
        for number in 0..self.metrics.len() {
            let Some(metric) = self.metrics.get(number) else {
                continue;
            };
            let (desc, rate, scale) = (metric.desc, metric.rate, metric.scale);
            // A mark of an archive has no sets.
            let set = fetched.sets.iter().find(|s| s.pmid == desc.pmid);
            let values = match set.map(|s| &s.values) {
                None => continue,
                Some(Ok(values)) => values.clone(),
                Some(Err(code)) => {
                    let said = Reading::Failed(code.to_string());
                    self.put(number, INST_NULL, said, &mut seen);
                    continue;
                }
            };
            for value in values {
                let key = (number, value.inst);
                let reading = match Atom::extract(&value.value, desc.ty) {
                    Err(code) => Reading::Failed(code.to_string()),
                    Ok(atom) => match atom.as_f64() {
                        None => Reading::Text(atom.brief().trim_matches('"').to_owned()),
                        Some(now) if rate => {
                            before.insert(key, now);
                            let old = self.before.get(&key).filter(|old| **old <= now);
                            match (old, passed.filter(|p| *p > 0.0)) {
                                (Some(old), Some(passed)) => {
                                    Reading::Number((now - old) / passed * scale)
                                }
                                _ => Reading::Missing,
                            }
                        }
                        Some(now) => Reading::Number(now),
                    },
                };
                self.put(number, value.inst, reading, &mut seen);
            }
        }
        for (row, _) in self.rows.iter_mut().zip(&seen).filter(|(_, seen)| !**seen) {
            row.push(Reading::Missing);
        }
        self.before = before;
        self.last = Some(fetched.time);
        Ok(Some(fetched.time))
    }

    fn put(&mut self, number: usize, inst: i32, reading: Reading, seen: &mut Vec<bool>) {
        let place = match self.places.get(&(number, inst)) {
            Some(place) => *place,
            None => match self.add(number, inst) {
                Some(place) => {
                    seen.insert(place.min(seen.len()), false);
                    place
                }
                None => return,
            },
        };
        if let (Some(row), Some(seen)) = (self.rows.get_mut(place), seen.get_mut(place)) {
            row.push(reading);
            *seen = true;
        }
    }

    /// A row for an instance that is new, at the end of those of its metric; `None` for one that is not wanted.
    fn add(&mut self, number: usize, inst: i32) -> Option<usize> {
        let metric = self.metrics.get(number)?;
        let mut name = metric.name.clone();
        if !metric.desc.indom.is_null() && inst != INST_NULL {
            let found = self.opened.context.instance_name(metric.desc.indom, inst);
            let instance = found.map_or_else(|_| inst.to_string(), |n| n.to_str().into_owned());
            let wanted = |w: &String| pcp::instance_name_matches(instance.as_bytes(), w.as_bytes());
            if !metric.instances.is_empty() && !metric.instances.iter().any(wanted) {
                return None;
            }
            name = format!("{name}[{instance}]");
        }
        let place = self.keys.partition_point(|(n, _)| *n <= number);
        self.rows
            .insert(place, Row::new(name, metric.units.clone()));
        self.keys.insert(place, (number, inst));
        self.places = self.keys.iter().copied().zip(0..).collect();
        Some(place)
    }

    fn run(&mut self) -> io::Result<u8> {
        let failed = |error: &Error| {
            eprintln!("pmtop: pmFetch: {}", error.code());
            1
        };
        let mut screen = match self.form {
            Form::Screen => Some(Screen::take()?),
            _ => None,
        };
        // What counters have at the start.
        let first = match self.metrics.iter().any(|m| m.rate) {
            true => self.sample(),
            false => Ok(Some(Timestamp::ZERO)),
        };
        match first {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(0),
            Err(error) => {
                drop(screen);
                return Ok(failed(&error));
            }
        }
        let rates = self.metrics.iter().any(|m| m.rate);
        let step = Duration::from_nanos(u64::try_from(self.step.as_nanos()).unwrap_or(u64::MAX));
        let waits = !self.is_archive() || self.delay;
        let mut wake = Instant::now();
        let (mut done, mut first_row, mut title) = (0, 0, String::new());
        let mut paused = false;
        while self.samples.is_none_or(|n| done < n) {
            if waits && (done > 0 || rates) {
                wake = wake.checked_add(step).unwrap_or(wake).max(Instant::now());
                if let Some(screen) = &mut screen {
                    while let Some(key) = screen.key(wake)? {
                        match key {
                            Key::Quit => return Ok(0),
                            Key::Pause => paused = !paused,
                            Key::Resized => {}
                            key => first_row = self.scrolled(first_row, key),
                        }
                        self.show(screen, &title, first_row, paused)?;
                    }
                } else {
                    std::thread::sleep(wake.saturating_duration_since(Instant::now()));
                }
            }
            if paused {
                continue;
            }
            let time = match self.sample() {
                Ok(Some(time)) => time,
                Ok(None) => break,
                Err(error) => {
                    drop(screen);
                    return Ok(failed(&error));
                }
            };
            done += 1;
            title = self.title(time);
            match (&screen, self.form) {
                (Some(screen), _) if waits => self.show(screen, &title, first_row, paused)?,
                (Some(_), _) => {}
                (None, Form::Json) => self.json(time)?,
                (None, _) => self.plain(time)?,
            }
        }
        // An archive stays on the screen until somebody has seen it.
        while let Some(screen) = &mut screen {
            self.show(screen, &title, first_row, paused)?;
            match screen.key(Instant::now() + Duration::from_secs(3600))? {
                Some(Key::Quit) => break,
                Some(key) => first_row = self.scrolled(first_row, key),
                None => {}
            }
        }
        Ok(0)
    }

    fn scrolled(&self, first: usize, key: Key) -> usize {
        let (_, lines) = Screen::size();
        let page = isize::try_from(lines.saturating_sub(2)).unwrap_or(1);
        let by = match key {
            Key::Scroll(lines) => lines,
            Key::Page(pages) => pages * page,
            Key::Home => return 0,
            _ => 0,
        };
        let most = self.rows.len().saturating_sub(lines.saturating_sub(1));
        first.saturating_add_signed(by).min(most)
    }

    fn title(&self, time: Timestamp) -> String {
        let date = self.opened.zone.civil(time.sec).ctime();
        let host = &self.opened.hostname;
        let step = self.step.as_secs_f64();
        format!("pmtop - {host} - {date} - every {step} s")
    }

    fn show(&self, screen: &Screen, title: &str, first: usize, paused: bool) -> io::Result<()> {
        let (columns, lines) = Screen::size();
        let layout = Layout {
            columns,
            lines,
            colour: crate::colour::wanted(),
            steps: if shows_unicode() {
                view::BLOCKS
            } else {
                view::ASCII
            },
        };
        let title = if paused {
            title.replacen("pmtop", "pmtop - paused", 1)
        } else {
            title.to_owned()
        };
        screen.show(&view::screen(&title, &self.rows, first, layout))
    }

    fn plain(&self, time: Timestamp) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{}", self.opened.zone.clock(time, 3))?;
        let names = self.rows.iter().map(|row| row.name.chars().count()).max();
        let names = names.unwrap_or(0);
        for row in &self.rows {
            let line = format!("{:<names$} {:>9} {}", row.name, row.reading(), row.units);
            writeln!(out, "{}", line.trim_end())?;
        }
        writeln!(out)?;
        out.flush()
    }

    fn json(&self, time: Timestamp) -> io::Result<()> {
        let rows = self.rows.iter().zip(&self.keys).map(|(row, (number, _))| {
            let mut object = Map::new();
            let metric = self.metrics.get(*number).map_or("", |m| m.name.as_str());
            object.insert("metric".to_owned(), json!(metric));
            let instance = row.name.strip_prefix(metric).and_then(|rest| {
                let rest = rest.strip_prefix('[')?;
                rest.strip_suffix(']')
            });
            if let Some(instance) = instance {
                object.insert("instance".to_owned(), json!(instance));
            }
            let (key, value) = match &row.latest {
                Reading::Number(value) if value.is_finite() => ("value", json!(value)),
                Reading::Number(value) => ("value", json!(pcp::number(*value))),
                Reading::Text(text) => ("value", json!(text)),
                Reading::Missing => ("value", Value::Null),
                Reading::Failed(why) => ("error", json!(why)),
            };
            object.insert(key.to_owned(), value);
            object.insert("units".to_owned(), json!(row.units));
            Value::from(object)
        });
        let sample = json!({
            "time": time.as_secs_f64(),
            "host": self.opened.hostname,
            "values": rows.collect::<Vec<_>>(),
        });
        let mut out = io::stdout().lock();
        writeln!(out, "{sample}")?;
        out.flush()
    }
}

/// Whether the locale's letters are all of Unicode's.
fn shows_unicode() -> bool {
    let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set);
    locale.is_some_and(|l| {
        let l = l.to_ascii_uppercase();
        l.contains("UTF-8") || l.contains("UTF8")
    })
}

/// The metrics that words name.
fn metrics(
    context: &mut Context,
    words: &[String],
    wanted: &[String],
    raw: bool,
) -> Result<Vec<Metric>, Refusal> {
    let asked: Vec<&str> = if words.is_empty() {
        DEFAULT.to_vec()
    } else {
        words.iter().map(String::as_str).collect()
    };
    let mut metrics = Vec::new();
    for word in asked {
        let (name, mut instances) = metric_and_instances(word);
        instances.extend_from_slice(wanted);
        let leaves = match context.traverse(&Text::from(name)) {
            Ok(leaves) => leaves,
            Err(_) if words.is_empty() => continue,
            Err(error) => {
                let code = error.code();
                return Err(Refusal::Failed(format!("pmtop: {name}: {code}\n")));
            }
        };
        let lookups = context.lookup_names(&leaves);
        let lookups = lookups
            .map_err(|error| Refusal::Failed(format!("pmtop: {name}: {}\n", error.code())))?;
        let found: Vec<(Text, Pmid)> = leaves
            .into_iter()
            .zip(lookups)
            .filter_map(|(leaf, pmid)| Some((leaf, pmid.ok()?)))
            .collect();
        let pmids: Vec<Pmid> = found.iter().map(|(_, pmid)| *pmid).collect();
        let descs = context.descs(&pmids);
        let descs =
            descs.map_err(|error| Refusal::Failed(format!("pmtop: {name}: {}\n", error.code())))?;
        for ((leaf, _), desc) in found.into_iter().zip(descs) {
            if let Ok(desc) = desc {
                let name = leaf.to_str().into_owned();
                metrics.push(Metric::new(name, desc, instances.clone(), raw));
            }
        }
    }
    if metrics.is_empty() {
        return Err(Refusal::Failed("pmtop: no metrics\n".to_owned()));
    }
    Ok(metrics)
}
