//! `pmdumptext`: values of metrics in columns, for other programs or for people (pmdumptext(1)).

mod layout;
mod source_metrics;

use std::io::{self, BufWriter, Read, Write};
use std::time::Duration;

use pcp::archive::ArchiveMode;
use pcp::timewindow::{SECOND, samples_between};
use pcp::{Context, Timestamp};

use self::layout::Layout;
use self::source_metrics::{Shown, Sources};
use crate::json;
use crate::options::{Parsed, Spec};
use crate::source::{self, Refusal, Source, VERSION};

const USAGE: &str = "\
Usage: pmdumptext [options] [metrics ...]

General options:
  -A TIME, --align=TIME align sample times on natural boundaries
  -a FILE, --archive=FILE
                        metrics source is a PCP log archive
  -h HOST, --host=HOST  metrics source is PMCD on host
  -n FILE, --namespace=FILE
                        use an alternative PMNS
  -O TIME, --origin=TIME
                        initial sample time within the time window
  -S TIME, --start=TIME start of the time window
  -s N, --samples=N     terminate after this many samples
  -T TIME, --finish=TIME
                        end of the time window
  -t DELTA, --interval=DELTA
                        sampling interval
  -Z TZ, --timezone=TZ  set reporting timezone
  -z, --hostzone        set reporting timezone to local time of metrics source
  -V, --version         display version number and exit
  -?, --help            show this usage message and exit

Reporting options:
  -c FILE, --config=FILE
                        read list of metrics from FILE
  -C, --check           exit before dumping any values
  -d CHAR, --delimiter=CHAR
                        character separating each column
  -f FMT, --time-format=FMT
                        time format string
  -F, --fixed           print fixed width values
  -G, --scientific      print values in scientific format if shorter
  -H, --headers         show all headers
  -i, --interactive     format columns for interactive use
  -l, --source          show source of metrics
  -m, --metrics         show metric names
  -M                    show complete metrics names
  -N                    show normalizing factor
  -o, --offset          prefix timestamp with offset in seconds
  -P N, --precision=N   floating point precision [default 3]
  -R N, --repeat=N      repeat the header after every N samples
  -r, --raw             output raw values, no rate conversion
  -U STR, --unavailable=STR
                        unavailable value string [default \"?\"]
  -u, --units           show metric units
  -w N, --width=N       set column width
  -X, --extended        show complete metrics names (extended form)
";

const LONG: &[(&str, char)] = &[
    ("config", 'c'),
    ("check", 'C'),
    ("delimiter", 'd'),
    ("time-format", 'f'),
    ("fixed", 'F'),
    ("scientific", 'G'),
    ("headers", 'H'),
    ("interactive", 'i'),
    ("source", 'l'),
    ("metrics", 'm'),
    ("offset", 'o'),
    ("precision", 'P'),
    ("repeat", 'R'),
    ("raw", 'r'),
    ("unavailable", 'U'),
    ("units", 'u'),
    ("width", 'w'),
    ("extended", 'X'),
];

/// Runs the tool; `args` are the words behind its name. Returns the exit status.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(args: Vec<String>) -> io::Result<u8> {
    let long = [source::LONG, LONG, &[json::LONG]].concat();
    let spec = Spec {
        tool: "pmdumptext",
        short: "A:a:c:Cd:D:f:FGh:Hilmn:NMoO:P:R:rs:S:t:T:uU:Vw:XzZ:?",
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
    for (option, _) in &parsed.options {
        match option {
            'V' => {
                eprintln!("pmdumptext version {VERSION}");
                return Ok(0);
            }
            '?' => {
                eprint!("{USAGE}");
                return Ok(1);
            }
            _ => {}
        }
    }
    match Request::new(&parsed).and_then(|request| request.open(&parsed.words)) {
        Ok(dump) => dump.run(),
        Err(refusal) => Ok(refusal.report(USAGE)),
    }
}

#[derive(Default)]
struct Request {
    source: Source,
    layout: Layout,
    config: Option<String>,
    check: bool,
    json: bool,
}

impl Request {
    fn new(parsed: &Parsed) -> Result<Request, Refusal> {
        let mut request = Request::default();
        let wrong = |what: &str| Refusal::Usage(format!("pmdumptext: {what}\n"));
        for (option, value) in &parsed.options {
            let text = value.as_deref().unwrap_or("");
            let number = || {
                let what = format!("-{option} requires a positive numeric argument");
                text.parse::<usize>().map_err(|_| wrong(&what))
            };
            let layout = &mut request.layout;
            match option {
                'c' => request.config = value.clone(),
                'C' => request.check = true,
                &json::OPTION => request.json = true,
                'd' => {
                    let mut characters = text.chars();
                    match (characters.next(), characters.next()) {
                        (Some(c), None) => layout.delimiter = c,
                        (Some('\\'), Some('t')) => layout.delimiter = '\t',
                        _ => return Err(wrong("a delimiter is a single character")),
                    }
                }
                'f' => layout.time_format = text.to_owned(),
                'F' => layout.fixed = true,
                'G' => layout.scientific = true,
                'H' => {
                    layout.show_source = true;
                    layout.show_metric = true;
                    layout.show_normal = true;
                    layout.show_units = true;
                }
                'i' => layout.interactive = true,
                'l' => layout.show_source = true,
                'm' => layout.show_metric = true,
                'M' => layout.list = true,
                'N' => layout.show_normal = true,
                'o' => layout.offset = true,
                'P' => layout.precision = number()?,
                'R' => layout.repeat = number()?,
                'r' => layout.raw = true,
                'U' => layout.unavailable = text.to_owned(),
                'u' => layout.show_units = true,
                'w' => layout.width = Some(number()?),
                'X' => {
                    layout.interactive = true;
                    layout.list = true;
                    layout.numbers = true;
                }
                letter => {
                    request
                        .source
                        .option("pmdumptext", *letter, value.as_deref())?;
                }
            }
        }
        request.source.check("pmdumptext")?;
        Ok(request)
    }

    fn open(self, words: &[String]) -> Result<Dump, Refusal> {
        let mut wanted: Vec<(String, f64)> = words.iter().map(|w| (w.clone(), 0.0)).collect();
        if wanted.is_empty() {
            let text = match &self.config {
                Some(path) => std::fs::read_to_string(path),
                None => {
                    let mut text = String::new();
                    io::stdin().read_to_string(&mut text).map(|_| text)
                }
            };
            let text = text.map_err(|error| {
                let path = self.config.as_deref().unwrap_or("stdin");
                let code = pcp::ErrorCode::from(&error);
                Refusal::Failed(format!(
                    "pmdumptext: Unable to open config file \"{path}\": {code}\n"
                ))
            })?;
            for line in text.lines().map(str::trim) {
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                // The number behind the last space belongs to the metric, unless an instance's name goes on there.
                let split = line.rsplit_once(char::is_whitespace);
                let normal = split.and_then(|(m, n)| Some((m.trim(), n.parse::<f64>().ok()?)));
                match normal {
                    Some((metric, normal)) => wanted.push((metric.to_owned(), normal)),
                    None => wanted.push((line.to_owned(), 0.0)),
                }
            }
        }
        let sources = Sources::open(&self.source, &wanted, self.layout.raw)?;
        Ok(Dump {
            source: self.source,
            layout: self.layout,
            check: self.check,
            json: self.json,
            sources,
        })
    }
}

struct Dump {
    source: Source,
    layout: Layout,
    check: bool,
    json: bool,
    sources: Sources,
}

impl Dump {
    /// A row's values as lines of JSON.
    fn lines(&self, out: &mut impl Write, time: Timestamp) -> io::Result<()> {
        for column in &self.sources.columns {
            let value = match &column.value {
                Some(Shown::Number(number)) => Ok(json::number(*number)),
                Some(Shown::Text(text)) => Ok(text.as_str().into()),
                None => Err(pcp::ErrorCode::VALUE),
            };
            let line = json::Line {
                time,
                metric: &column.name,
                instance: column.instance.as_ref().map(|i| i.name.to_string()),
                value,
                units: column.units().to_string(),
                more: Vec::new(),
            };
            writeln!(out, "{line}")?;
        }
        Ok(())
    }

    fn run(mut self) -> io::Result<u8> {
        let mut out = BufWriter::new(io::stdout().lock());
        let window = self.sources.window;
        let archive = self.sources.is_archive();
        let step = self
            .source
            .interval
            .filter(|t| *t > Timestamp::ZERO)
            .unwrap_or(SECOND);
        let mut samples = self.source.samples.filter(|n| *n > 0).map(i128::from);
        let within = samples_between(window.origin, window.end, step);
        if archive {
            samples = Some(samples.map_or(within, |n| n.min(within)));
        } else if samples.is_none() && self.source.window.finish.is_some() {
            samples = Some(within);
        }
        for context in self.sources.contexts() {
            if let Context::Archive(archive) = context {
                archive.set_mode(ArchiveMode::Interpolated(step.as_nanos()), window.origin);
            }
        }
        if !self.json {
            self.layout.header(&mut out, &self.sources, window.origin)?;
        }
        if self.check {
            return out.flush().map(|()| 0);
        }
        let mut due = Timestamp::now();
        let mut done = 0;
        while samples.is_none_or(|n| done < n) {
            if !archive && done > 0 {
                out.flush()?;
                due = due + step;
                let left = (due - Timestamp::now()).as_nanos();
                std::thread::sleep(Duration::from_nanos(u64::try_from(left).unwrap_or(0)));
            }
            let steps = Timestamp::from_nanos(done * step.as_nanos());
            let planned = if archive {
                window.origin + steps
            } else {
                Timestamp::now()
            };
            let time = self.sources.fetch(planned);
            done += 1;
            if self.json {
                self.lines(&mut out, time)?;
                continue;
            }
            self.layout.row(&mut out, &self.sources, time)?;
            let repeat = i128::try_from(self.layout.repeat).unwrap_or(0);
            if repeat > 0 && done % repeat == 0 {
                out.write_all(b"\n")?;
                self.layout.header(&mut out, &self.sources, time)?;
            }
        }
        out.flush()?;
        Ok(0)
    }
}
