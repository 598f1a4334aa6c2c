//! `pmstat`: a line of how a system does, every so often (pmstat(1)).

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, BufWriter, Write};
use std::time::Duration;

use pcp::archive::ArchiveMode;
use pcp::timezone::Zone;
use pcp::{Atom, Context, Desc, ErrorCode, Pmid, Semantics, TIME_SEC, Text, Timestamp, Type};

use crate::json;
use crate::options::rows::*;
use crate::options::{Refusal, Spec};
use crate::source::{Opened, Source};

#[rustfmt::skip]
const SPEC: Spec = Spec {
    tool: "pmstat",
    words: "[options]",
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
        section("Alternate sources"),
        value('H', "hostsfile", "FILE", "read metric source hosts from a file"),
        LOCAL,
        REPORTING,
        flag('l', "suffix", "print last 7 charcters of the host name(s)"),
        flag('P', "pause", "pause between updates for archive replay"),
        flag('x', "xcpu", "extended CPU statistics reporting"),
        COLOR,
        JSON,
    ],
    microseconds: true,
    ..Spec::PLAIN
};

/// Between lines, unless it is said.
const EVERY: Timestamp = Timestamp { sec: 5, nsec: 0 };
/// Lines between headings.
const PAGE: u64 = 21;
/// Characters of a host's name.
const NODE: usize = 7;

/// What is fetched. Where the second of a pair is named, it serves when the first is not there.
const METRICS: &[&str] = &[
    "kernel.all.load",
    "swap.used",
    "mem.util.free",
    "mem.util.bufmem",
    "mem.bufmem",
    "mem.util.cached",
    "swap.pagesin",
    "swap.pagesout",
    "swap.in",
    "swap.out",
    "disk.all.blkread",
    "disk.all.blkwrite",
    "disk.all.read",
    "disk.all.write",
    "kernel.all.intr",
    "kernel.all.pswitch",
    "kernel.all.cpu.nice",
    "kernel.all.cpu.user",
    "kernel.all.cpu.intr",
    "kernel.all.cpu.sys",
    "kernel.all.cpu.idle",
    "kernel.all.cpu.wait.total",
    "kernel.all.cpu.steal",
];

/// Runs the tool; `args` are the words behind its name. Returns the exit status.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(args: Vec<String>) -> io::Result<u8> {
    SPEC.run(|spec| {
        let request = RefCell::new(Request::default());
        let mut source = Source::default();
        let take = |letter, value: &str| request.borrow_mut().option(letter, value);
        spec.parse_and_check(args, &mut source, take, |words| {
            let request = request.borrow();
            let paused_host = request.pause && request.archives.is_empty();
            let wrong = [
                (!words.is_empty(), "too many options"),
                (paused_host, "-P can only be used with archives"),
            ];
            let said = wrong.iter().filter(|(is, _)| *is);
            let said: String = said.map(|(_, what)| spec.wrong(what).text()).collect();
            match said.is_empty() {
                true => Ok(()),
                false => Err(Refusal::Usage(said)),
            }
        })?;
        let mut request = request.into_inner();
        request.source = source;
        if request.gui {
            let what = "pmstat: time control by pmtime is not available\n";
            return Err(Refusal::Failed(what.to_owned()));
        }
        let hosts = request.open(spec)?;
        Ok(request.report(hosts)?)
    })
}

#[derive(Default)]
struct Request {
    source: Source,
    archives: Vec<String>,
    hosts: Vec<String>,
    suffix: bool,
    pause: bool,
    gui: bool,
    json: bool,
    extended: bool,
}

/// One of the systems that are watched.
struct Host {
    opened: Opened,
    metrics: HashMap<&'static str, Desc>,
    before: Option<(Timestamp, HashMap<&'static str, f64>)>,
    /// Whether the last fetch was answered.
    answered: bool,
    /// Whether there has been anything to report.
    reported: bool,
    /// Whether there will be nothing more.
    over: bool,
    name: String,
}

impl Request {
    fn option(&mut self, letter: char, value: &str) -> Result<bool, Refusal> {
        match letter {
            'a' => {
                // The same archive again adds nothing.
                if !self.archives.iter().any(|archive| archive == value) {
                    self.archives.push(value.to_owned());
                }
                return Ok(false);
            }
            'h' => {
                self.hosts.push(value.to_owned());
                return Ok(self.hosts.len() > 1);
            }
            'H' => {
                let list = std::fs::read_to_string(value).map_err(|error| {
                    Refusal::Failed(format!(
                        "pmstat: cannot open hosts file {value}: {}\n",
                        ErrorCode::from(&error)
                    ))
                })?;
                let names = list.lines().map(str::trim).filter(|l| !l.is_empty());
                self.hosts.extend(names.map(str::to_owned));
            }
            'l' => self.suffix = true,
            'P' => self.pause = true,
            'x' => self.extended = true,
            JSON_ONLY => self.json = true,
            'g' => self.gui = true,
            'p' => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Opens all sources; those that can't be opened are reported and left out.
    fn open(&self, spec: &Spec) -> Result<Vec<Host>, Refusal> {
        let mut sources: Vec<Source> = Vec::new();
        let names = self.archives.iter().map(|a| (Some(a), None));
        let names = names.chain(self.hosts.iter().map(|h| (None, Some(h))));
        for (archives, host) in names {
            sources.push(Source {
                archives: archives.cloned(),
                host: host.cloned(),
                ..self.source.clone()
            });
        }
        if sources.is_empty() {
            sources.push(self.source.clone());
        }
        let mut hosts = Vec::new();
        for source in sources {
            match Host::open(spec, &source) {
                Ok(host) => hosts.push(host),
                // The window is that of all sources.
                Err(what) if what.starts_with("invalid time window") => {
                    return Err(Refusal::Failed(format!("pmstat: {what}\n\n")));
                }
                Err(what) => eprintln!("pmstat: {what}"),
            }
        }
        if hosts.is_empty() {
            return Err(Refusal::Failed(
                "pmstat: No place to get data from!\n".to_owned(),
            ));
        }
        Ok(hosts)
    }

    fn report(&self, mut hosts: Vec<Host>) -> io::Result<u8> {
        let mut out = BufWriter::new(io::stdout().lock());
        let Some(first) = hosts.first() else {
            return Ok(1);
        };
        let zone = first.opened.zone.clone();
        // The time window is one in all that the archives span.
        let spans = || hosts.iter().filter_map(Host::span);
        let window = match (spans().map(|s| s.0).min(), spans().map(|s| s.1).max()) {
            (Some(start), Some(end)) if hosts.len() > 1 => {
                let window = self.source.window.window(start, end, &zone);
                window.unwrap_or(first.opened.window)
            }
            _ => first.opened.window,
        };
        let archive = matches!(first.opened.context, Context::Archive(_));
        if let Some(note) = first.opened.note.as_ref().filter(|_| !self.json) {
            writeln!(out, "{note}")?;
        }
        let interval = self
            .source
            .interval
            .filter(|t| *t > Timestamp::ZERO)
            .unwrap_or(EVERY);
        let mut samples = self.source.samples.filter(|n| *n > 0);
        let span = (window.end - window.origin).as_nanos();
        if self.source.window.finish.is_some() {
            let within = u64::try_from(span / interval.as_nanos()).ok();
            samples = samples.max(within.filter(|n| *n > 0));
        }
        let mut start = if archive {
            window.origin
        } else {
            Timestamp::now()
        };
        for host in &mut hosts {
            if let Context::Archive(context) = &mut host.opened.context {
                context.set_mode(
                    ArchiveMode::Interpolated(interval.as_nanos()),
                    window.origin,
                );
            }
            // What rates are reckoned from; what fails here fails below, too.
            let _ = host.fetch();
            host.reported = false;
        }
        let pause = !archive || self.pause;
        let bold = self.source.colour.bold();
        let mut due = Timestamp::now();
        let mut done = 0;
        while samples.is_none_or(|n| done < n) {
            if done % PAGE == 0 && !self.json {
                write!(out, "{}", bold.0)?;
                let silent = hosts.first().is_some_and(|host| !host.answered);
                let time = if silent { Timestamp::now() } else { start };
                self.heading(&mut out, &hosts, time, &zone)?;
                write!(out, "{}", bold.1)?;
            }
            if pause {
                out.flush()?;
                due = due + interval;
                let left = (due - Timestamp::now()).as_nanos();
                std::thread::sleep(Duration::from_nanos(u64::try_from(left).unwrap_or(0)));
            }
            start = start + interval;
            let several = hosts.len() > 1;
            // With nothing to end it PCP's says this for ever.
            if samples.is_none() && hosts.iter().all(|host| host.ended(start)) {
                writeln!(out, " No data in the archive")?;
                out.flush()?;
                return Ok(1);
            }
            for host in &mut hosts {
                if several && !self.json {
                    write!(out, "{:<NODE$}", node(&host.name, self.suffix))?;
                }
                if host.over {
                    if !self.json {
                        writeln!(out)?;
                    }
                    continue;
                }
                match host.fetch() {
                    Ok(values) if self.json => host.lines(&mut out, &values)?,
                    Err(Missing::NoData | Missing::Lost) if self.json => {}
                    Ok(values) => writeln!(out, "{}", self.line(host, &values, several))?,
                    Err(Missing::NoData) => writeln!(out, " No data in the archive")?,
                    Err(Missing::Lost) => writeln!(out, " Fetch failed. Reconnecting ...")?,
                    Err(Missing::Failed(code)) => {
                        writeln!(out, " pmFetchGroup: {code}")?;
                        host.over = true;
                    }
                }
            }
            done += 1;
            if hosts.iter().all(|host| host.over) {
                out.flush()?;
                return Ok(1);
            }
        }
        out.flush()?;
        Ok(0)
    }

    fn heading(
        &self,
        out: &mut dyn Write,
        hosts: &[Host],
        time: Timestamp,
        zone: &Zone,
    ) -> io::Result<()> {
        let rounded = time.as_secs_f64().round() as i64;
        writeln!(out, "@ {}", zone.civil(rounded).ctime())?;
        let several = hosts.len() > 1;
        // Pages where all have such counters, else swaps.
        let pages = hosts.iter().all(|h| h.metrics.contains_key("swap.pagesin"));
        let (swap_in, swap_out) = if pages { ("pi", "po") } else { ("si", "so") };
        let (cpu, more) = if self.extended {
            ("                 cpu", "  wa  st")
        } else {
            ("         cpu", "")
        };
        if several {
            writeln!(
                out,
                "node    loadavg               memory      swap        io    system{cpu}"
            )?;
            write!(out, "          1 min   swpd   buff  cache ")?;
        } else {
            writeln!(
                out,
                " loadavg                      memory      swap        io    system{cpu}"
            )?;
            write!(out, "   1 min   swpd   free   buff  cache ")?;
        }
        writeln!(
            out,
            "  {swap_in}   {swap_out}   bi   bo   in   cs  us  sy  id{more}"
        )
    }

    fn line(&self, host: &Host, values: &HashMap<&'static str, f64>, several: bool) -> String {
        let get = |name: &str| values.get(name).copied();
        let unknown = || "?".to_owned();
        let mut line = match get("kernel.all.load") {
            Some(load) => format!(" {load:7.2}"),
            None => format!(" {:>7}", "?"),
        };
        let mut memory = vec![
            "swap.used",
            "mem.util.free",
            "mem.util.bufmem",
            "mem.util.cached",
        ];
        if several {
            // Under the heading of the buffers, as PCP's has it.
            memory.retain(|name| *name != "mem.util.bufmem");
        }
        // Where there is the first the second is not looked at, whether or not it has a value.
        let either = |first: &str, second: &str| {
            get(match host.metrics.contains_key(first) {
                true => first,
                false => second,
            })
        };
        for name in memory {
            let value = match name {
                "mem.util.bufmem" => either(name, "mem.bufmem"),
                _ => get(name),
            };
            line.push_str(&format!(" {:>6}", value.map_or_else(unknown, kilobytes)));
        }
        for rate in [
            either("swap.pagesin", "swap.in"),
            either("swap.pagesout", "swap.out"),
            either("disk.all.blkread", "disk.all.read"),
            either("disk.all.blkwrite", "disk.all.write"),
            get("kernel.all.intr"),
            get("kernel.all.pswitch"),
        ] {
            line.push_str(&format!(" {:>4}", rate.map_or_else(unknown, thousands)));
        }
        // Shares are reckoned of whole milliseconds in a second.
        let cpu = |name: &str| get(&format!("kernel.all.cpu.{name}")).map(f64::trunc);
        // Without one of these three there are no shares; the others count as nothing.
        let main = (cpu("user"), cpu("sys"), cpu("idle"));
        let other = |name: &str| cpu(name).unwrap_or(0.0);
        let waiting = other("wait.total");
        let parts = match main {
            (Some(user), Some(system), Some(idle)) => [
                Some(user + other("nice")),
                Some(system + other("intr")),
                // Waiting for disks is being idle, where it has no column of its own.
                Some(if self.extended { idle } else { idle + waiting }),
                Some(if self.extended { waiting } else { 0.0 }),
                Some(other("steal")),
            ],
            _ => [None; 5],
        };
        let total: f64 = parts.iter().flatten().sum();
        let shown = if self.extended { 5 } else { 3 };
        for part in parts.into_iter().take(shown) {
            let half = (total / 2.0).floor();
            let share = part
                .filter(|_| total > 0.0)
                .map(|p| (100.0 * p + half) / total);
            let text = share.map_or_else(unknown, |s| format!("{:.0}", s.floor()));
            line.push_str(&format!(" {text:>3}"));
        }
        line
    }
}

fn node(name: &str, suffix: bool) -> String {
    let characters: Vec<char> = name.chars().collect();
    let skip = if suffix {
        characters.len().saturating_sub(NODE)
    } else {
        0
    };
    characters.into_iter().skip(skip).take(NODE).collect()
}

/// Why there is no line for a host.
enum Missing {
    /// There has been nothing in the archive so far.
    NoData,
    /// The connection is lost, or is not back.
    Lost,
    /// It ends here.
    Failed(ErrorCode),
}

/// Kilobytes in six characters.
fn kilobytes(value: f64) -> String {
    let value = value.max(0.0);
    if value <= 999_999.0 {
        format!("{:.0}", value.trunc())
    } else if value / 1024.0 <= 99_999.0 {
        format!("{:.0}m", (value / 1024.0).trunc())
    } else {
        format!("{:.0}g", (value / 1024.0 / 1024.0).trunc())
    }
}

/// A rate in four characters.
fn thousands(value: f64) -> String {
    let value = value.max(0.0).trunc();
    if value <= 9999.0 {
        format!("{value:.0}")
    } else if value <= 999_999.0 {
        format!("{:.0}K", (value / 1000.0).trunc())
    } else {
        format!("{:.0}M", (value / 1_000_000.0).trunc())
    }
}

impl Host {
    fn open(spec: &Spec, source: &Source) -> Result<Host, String> {
        let place = source.archives.clone().or_else(|| source.host.clone());
        let opened = source.open(spec);
        let mut opened = opened.map_err(|refusal| match (refusal, source.context()) {
            (_, Err(error)) => format!("Cannot create fetchgroup: {}", error.code()),
            (refusal, Ok(_)) => {
                let text = refusal.text();
                text.trim_start_matches("pmstat: ").trim_end().to_owned()
            }
        })?;
        let names: Vec<Text> = METRICS.iter().map(|n| Text::from(*n)).collect();
        let found = opened
            .context
            .lookup_names(&names)
            .map_err(|e| e.code().to_string())?;
        let mut metrics = HashMap::new();
        for (name, pmid) in METRICS.iter().zip(found) {
            if let Ok(pmid) = pmid
                && let Ok(desc) = opened.context.desc(pmid)
            {
                metrics.insert(*name, desc);
            }
        }
        if metrics.is_empty() {
            let place = place.unwrap_or_else(|| "local:".to_owned());
            return Err(format!("{place}: Cannot resolve any metrics."));
        }
        Ok(Host {
            name: opened.hostname.clone(),
            opened,
            metrics,
            before: None,
            answered: false,
            reported: false,
            over: false,
        })
    }

    /// When an archive begins and ends.
    fn span(&self) -> Option<(Timestamp, Timestamp)> {
        let micros = |t: Timestamp| Timestamp::from_micros(t.sec, t.usec());
        match &self.opened.context {
            Context::Archive(archive) => {
                Some((micros(archive.label().start), micros(archive.set().end())))
            }
            Context::Host(_) => None,
        }
    }

    /// Whether this is an archive that ended by then without having had anything to report.
    fn ended(&self, time: Timestamp) -> bool {
        match &self.opened.context {
            Context::Archive(archive) => !self.reported && archive.set().end() < time,
            Context::Host(_) => false,
        }
    }

    /// Values as lines of JSON, with the host that they are of.
    fn lines(&self, out: &mut dyn Write, values: &HashMap<&'static str, f64>) -> io::Result<()> {
        let time = self.before.as_ref().map_or_else(Timestamp::now, |b| b.0);
        for metric in METRICS {
            let (Some(value), Some(desc)) = (values.get(metric), self.metrics.get(metric)) else {
                continue;
            };
            let mut units = desc.units;
            if *metric == "swap.used" {
                // Kilobytes, as they are shown.
                units.scale_space = 1;
            }
            if desc.sem == Semantics::Counter {
                units.dim_time -= 1;
                if units.dim_time == -1 {
                    units.scale_time = TIME_SEC;
                }
            }
            let line = json::Line {
                time,
                metric,
                instance: (!desc.indom.is_null()).then(|| "1 minute".to_owned()),
                value: Ok(json::number(*value)),
                units: units.to_string(),
                more: vec![("host", self.name.as_str().into())],
            };
            writeln!(out, "{line}")?;
        }
        Ok(())
    }

    /// Values of now, counters as rates since the fetch before.
    fn fetch(&mut self) -> Result<HashMap<&'static str, f64>, Missing> {
        let pmids: Vec<Pmid> = self.metrics.values().map(|d| d.pmid).collect();
        let archive = matches!(self.opened.context, Context::Archive(_));
        let fetched = self.opened.context.fetch(&pmids);
        self.answered = fetched.is_ok();
        let fetched = match fetched {
            Ok(fetched) => fetched,
            Err(_) if archive && !self.reported => return Err(Missing::NoData),
            Err(error) => {
                let Context::Host(host) = &mut self.opened.context else {
                    return Err(Missing::Failed(error.code()));
                };
                self.before = None;
                let _ = host.reconnect();
                return Err(Missing::Lost);
            }
        };
        self.reported = true;
        let mut now = HashMap::new();
        for (name, desc) in &self.metrics {
            let set = fetched.sets.iter().find(|s| s.pmid == desc.pmid);
            let mut values = set.map(|s| s.instances()).unwrap_or_default().iter();
            // Of the load averages that of one minute, which is instance 1.
            let value = if desc.indom.is_null() {
                values.next()
            } else {
                values.find(|v| v.inst == 1)
            };
            let number = value.and_then(|v| Atom::extract(&v.value, desc.ty).ok()?.as_f64());
            if let Some(number) = number {
                let bytes = *name == "swap.used" && desc.units.scale_space == 0;
                now.insert(*name, if bytes { number / 1024.0 } else { number });
            }
        }
        let before = self.before.replace((fetched.time, now.clone()));
        let mut values = HashMap::new();
        for (name, number) in now {
            let counter = self
                .metrics
                .get(name)
                .is_some_and(|d| d.sem == Semantics::Counter);
            if !counter {
                values.insert(name, number);
            } else if let Some((time, before)) = &before
                && let Some(then) = before.get(name)
            {
                let elapsed = (fetched.time - *time).as_secs_f64();
                let narrow = self
                    .metrics
                    .get(name)
                    .is_some_and(|d| matches!(d.ty, Type::U32 | Type::I32));
                let mut delta = number - then;
                if delta < 0.0 && narrow {
                    delta += 4_294_967_296.0;
                }
                if elapsed > 0.0 && delta >= 0.0 {
                    values.insert(name, delta / elapsed);
                }
            }
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_values_get_letters() {
        assert_eq!(kilobytes(748_420.0), "748420");
        assert_eq!(kilobytes(9_996_852.0), "9762m");
        assert_eq!(thousands(9930.9), "9930");
        assert_eq!(thousands(10_199.0), "10K");
        assert_eq!(node("billing02", true), "lling02");
    }
}
