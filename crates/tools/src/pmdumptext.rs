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
use crate::options::rows::*;
use crate::options::{Refusal, Spec};
use crate::source::Source;

#[rustfmt::skip]
const SPEC: Spec = Spec {
    tool: "pmdumptext",
    words: "[options] [metrics ...]",
    rows: &[
        GENERAL,
        ALIGN,
        ARCHIVE,
        HOST,
        NAMESPACE,
        ORIGIN,
        START,
        SAMPLES,
        FINISH,
        INTERVAL,
        TIMEZONE,
        HOST_ZONE,
        SHOW_VERSION,
        HELP,
        REPORTING,
        value('c', "config", "FILE", "read list of metrics from FILE"),
        flag('C', "check", "exit before dumping any values"),
        value('d', "delimiter", "CHAR", "character separating each column"),
        value('f', "time-format", "FMT", "time format string"),
        flag('F', "fixed", "print fixed width values"),
        flag('G', "scientific", "print values in scientific format if shorter"),
        flag('H', "headers", "show all headers"),
        flag('i', "interactive", "format columns for interactive use"),
        flag('l', "source", "show source of metrics"),
        flag('m', "metrics", "show metric names"),
        flag('M', "", "show complete metrics names"),
        flag('N', "", "show normalizing factor"),
        flag('o', "offset", "prefix timestamp with offset in seconds"),
        value('P', "precision", "N", "floating point precision [default 3]"),
        value('R', "repeat", "N", "repeat the header after every N samples"),
        flag('r', "raw", "output raw values, no rate conversion"),
        value('U', "unavailable", "STR", "unavailable value string [default \"?\"]"),
        flag('u', "units", "show metric units"),
        value('w', "width", "N", "set column width"),
        flag('X', "extended", "show complete metrics names (extended form)"),
        COLOR,
        JSON,
    ],
    two_hosts: Some("only one host may be specified"),
    microseconds: true,
    ..Spec::PLAIN
};

/// Runs the tool; `args` are the words behind its name. Returns the exit status.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(args: Vec<String>) -> io::Result<u8> {
    SPEC.run(|spec| {
        let (request, words) = Request::new(spec, args)?;
        Ok(request.open(spec, &words)?.run()?)
    })
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
    fn new(spec: &Spec, args: Vec<String>) -> Result<(Request, Vec<String>), Refusal> {
        let mut request = Request::default();
        let mut source = Source::default();
        let mut given = Vec::new();
        let words = spec.parse(args, &mut source, |option, text| {
            given.push(option);
            let number = || {
                let what = format!("-{option} requires a positive numeric argument");
                spec.number::<usize>(text, &what)
            };
            let layout = &mut request.layout;
            match option {
                'c' => request.config = Some(text.to_owned()),
                'C' => request.check = true,
                JSON_ONLY => request.json = true,
                'd' => {
                    let mut characters = text.chars();
                    match (characters.next(), characters.next()) {
                        (Some(c), None) => layout.delimiter = c,
                        (Some('\\'), Some('t')) => layout.delimiter = '\t',
                        _ => return Err(spec.wrong("delimiter must be one character")),
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
                    layout.extended = true;
                }
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let layout = &request.layout;
        let set = |option: char| given.contains(&option);
        let conflict = [
            (layout.fixed && layout.scientific, "-F and -G"),
            (set('i') && layout.scientific, "-i and -G"),
            (set('i') && set('P'), "-i and -P"),
            (set('P') && set('w'), "-P and -w"),
        ];
        let mut wrong: Vec<String> = Vec::new();
        if let Some((_, options)) = conflict.iter().find(|(is, _)| *is) {
            wrong.push(format!("{options} may not be used together"));
        }
        if layout.width.is_some_and(|width| width < 3) {
            wrong.push("-w must be greater than 2".to_owned());
        }
        if !wrong.is_empty() {
            return Err(spec.wrong(wrong.join("\npmdumptext: ")));
        }
        request.source = source;
        Ok((request, words))
    }

    fn open(self, spec: &Spec, words: &[String]) -> Result<Dump, Refusal> {
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
                Refusal::Failed(format!("pmdumptext: Unable to open {path}: {code}\n"))
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
        let mut sources = Sources::open(spec, &self.source, &wanted, self.layout.raw)?;
        sources.shares = self.layout.interactive;
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
        let bold = self.source.colour.bold();
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
            // What begins behind the end has as many samples as are asked for.
            samples = match samples {
                Some(n) if within <= 0 && self.source.window.finish.is_none() => Some(n),
                samples => Some(samples.map_or(within, |n| n.min(within))),
            };
        } else if samples.is_none() && self.source.window.finish.is_some() {
            samples = Some(within);
        }
        for context in self.sources.contexts() {
            if let Context::Archive(archive) = context {
                archive.set_mode(ArchiveMode::Interpolated(step.as_nanos()), window.origin);
            }
        }
        if !self.json {
            write!(out, "{}", bold.0)?;
            self.layout
                .header(&mut out, &self.sources, window.origin, false)?;
            write!(out, "{}", bold.1)?;
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
                write!(out, "{}", bold.0)?;
                self.layout.header(&mut out, &self.sources, time, true)?;
                write!(out, "{}", bold.1)?;
            }
        }
        out.flush()?;
        Ok(0)
    }
}
