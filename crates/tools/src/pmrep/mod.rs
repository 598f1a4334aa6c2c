//! `pmrep`: metrics over time, in columns, as CSV or into an archive (pmrep(1)).

mod archive_out;
pub(crate) mod config;
mod csv;
mod format;
mod instances;
mod metric;
mod metricspec;
mod overall;
mod report;
mod sampler;
mod schedule;
mod settings;

use std::fs::File;
use std::io::{self, BufWriter, Write};

use pcp::archive::ArchiveMode;
use pcp::derived::DerivedMetrics;
use pcp::timezone::Zone;
use pcp::{Context, Error, ErrorCode};

use self::archive_out::ArchiveOutput;
use self::config::Config;
use self::csv::Csv;
use self::metric::{Fetching, Metric};
use self::metricspec::MetricSpec;
use self::overall::Overall;
use self::report::Report;
use self::sampler::{Sample, Sampler, Shown};
use self::schedule::Schedule;
use self::settings::{NamesChange, SPEC, Settings, Target};
use crate::json;
use crate::options::{Refusal, Spec};
use crate::source::Source;

/// The bit that pmcd sets when names change (`PMCD_NAMES_CHANGE`).
const NAMES_CHANGED: i32 = 16;

/// Runs the tool; `args` are the words behind its name. Returns the exit status.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(args: Vec<String>) -> io::Result<u8> {
    let words = args.clone();
    SPEC.run(|spec| {
        let mut given = Vec::new();
        let metrics = spec.parse(args, &mut Source::default(), |option, value| {
            given.push((option, value.to_owned()));
            Ok(true)
        })?;
        let request = prepare(spec, &given, &metrics)?;
        if request.settings.daemonize {
            return Ok(crate::background::start("pmrep", &words, "--daemonize")?);
        }
        Ok(request.open()?.run()?)
    })
}

/// What is asked for.
struct Request {
    settings: Settings,
    specs: Vec<MetricSpec>,
    derived: DerivedMetrics,
}

fn prepare(spec: &Spec, given: &[(char, String)], words: &[String]) -> Result<Request, Refusal> {
    let path = given.iter().rev().find(|(o, _)| *o == 'c');
    let config = Config::read(path.map(|(_, path)| path.as_str()))?;
    let mut settings = Settings::default();
    config.apply_options(&mut settings)?;
    for word in words {
        if let Some(set) = word.strip_prefix(':') {
            config.apply_set(set, &mut settings)?;
        }
    }
    let configured = (settings.source.archives.take(), settings.source.host.take());
    let instances = std::mem::take(&mut settings.instances);
    for (option, value) in given {
        if *option != 'c' {
            settings.option(*option, value)?;
        }
    }
    if settings.instances.is_empty() {
        settings.instances = instances;
    }
    if settings.source.archives.is_none() && settings.source.host.is_none() {
        (settings.source.archives, settings.source.host) = configured;
    }
    settings.source.check(spec)?;
    let failed = |what: &str| Refusal::Failed(format!("{what}\n"));
    if settings.target == Target::Archive {
        let Some(file) = &settings.file else {
            return Err(failed(
                "Output archive must be defined with archive output.",
            ));
        };
        let base = std::path::Path::new(file);
        let folder = base.parent().filter(|p| !p.as_os_str().is_empty());
        if folder.is_some_and(|f| !f.is_dir()) {
            let folder = folder.map(|f| f.display().to_string()).unwrap_or_default();
            return Err(failed(&format!(
                "Output directory {folder} not accessible."
            )));
        }
        if std::path::Path::new(&format!("{file}.index")).exists() {
            return Err(failed(&format!("Archive {file} already exists.")));
        }
        settings.raw = true;
        settings.interpolate = settings.source.archives.is_none();
    }
    if (settings.overall_rank || settings.overall_rank_alt) && settings.rank == 0 {
        return Err(failed("Overall ranking requires ranking enabled."));
    }
    let mut specs = Vec::new();
    if settings.globals {
        specs.extend(config.globals()?);
    }
    for word in words {
        match word.strip_prefix(':') {
            Some(set) => specs.extend(config.set(set)?),
            None => specs.push(MetricSpec::compact(word)),
        }
    }
    if specs.is_empty() {
        return Err(Refusal::Usage("No metrics specified.\n".to_owned()));
    }
    let predicates = settings
        .predicates
        .iter()
        .filter(|p| !specs.iter().any(|s| s.name == **p));
    let predicates: Vec<_> = predicates.map(|p| MetricSpec::named(p)).collect();
    specs.extend(predicates);
    let derived = derived(&settings, &specs)?;
    Ok(Request {
        settings,
        specs,
        derived,
    })
}

/// The metrics that options and formulas define, beside those that are configured for all tools.
fn derived(settings: &Settings, specs: &[MetricSpec]) -> Result<DerivedMetrics, Refusal> {
    let (mut metrics, said) = DerivedMetrics::configured();
    eprint!("{}", said.concat());
    let mut register = |name: &str, expression: &str| {
        metrics.register(name, expression).map_err(|error| {
            let caret = " ".repeat(error.at.min(expression.len().saturating_sub(1)));
            // What is not an operator has no words in PCP's library.
            let said = !error.what.is_empty() && !error.what.starts_with("Arithmetic or relational");
            let what = if said { format!("{}\n", error.what) } else { String::new() };
            Refusal::Failed(format!(
                "Failed to register derived metric:\n{} Error: pmRegisterDerivedMetric(\"{name}\", ...)\n{expression}\n{caret}^\n{what}.\n",
                ErrorCode::CONV
            ))
        })
    };
    let mut files = Vec::new();
    for definitions in &settings.derived {
        for definition in definitions_of(definitions) {
            let definition = definition.trim();
            if definition.starts_with(['/', '.']) {
                files.push(definition.to_owned());
                continue;
            }
            let Some((name, expression)) = definition.split_once('=') else {
                return Err(Refusal::Failed(
                    "Failed to register derived metric:\nInvalid syntax (expected metric=expression).\n".to_owned(),
                ));
            };
            register(name.trim(), expression.trim())?;
        }
    }
    for spec in specs {
        if let Some(formula) = &spec.formula {
            register(&spec.name, formula)?;
        }
    }
    for file in files {
        let said = metrics.load(&file).map_err(|error| {
            let code = error.code();
            Refusal::Failed(format!(
                "Failed to load derived metric definitions from file '{file}':\n{code}.\n"
            ))
        })?;
        eprint!("{}", said.concat());
    }
    Ok(metrics)
}

/// Definitions behind semicolons, or behind commas with a name and an equals sign set off by a space.
fn definitions_of(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for part in text.split(';') {
        let mut fresh = true;
        for piece in part.split(',') {
            let head = piece.split_once(" =").map(|(name, _)| name.trim());
            let is_name = head.is_some_and(|name| {
                let fits = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '_';
                !name.is_empty() && name.chars().all(fits) && !piece.contains("==")
            });
            match found.last_mut() {
                Some(last) if !fresh && !is_name => {
                    last.push(',');
                    last.push_str(piece);
                }
                _ => found.push(piece.to_owned()),
            }
            fresh = false;
        }
    }
    found.retain(|d| !d.trim().is_empty());
    found
}

impl Request {
    fn open(self) -> Result<Pmrep, Refusal> {
        let settings = self.settings;
        let source = &settings.source;
        let (mut context, host) = source.context().map_err(|error| {
            let code = error.code();
            let hint = if source.archives.is_none() {
                "; is pmcd running?"
            } else {
                ""
            };
            Refusal::Failed(format!("pmrep: {code}{hint}\n"))
        })?;
        context.use_derived(&self.derived);
        let zone = source.zone(&mut context);
        let schedule = Schedule::new(&settings, &context, &zone)?;
        if let Context::Archive(archive) = &mut context {
            archive.set_mode(ArchiveMode::Forward, schedule.origin);
        }
        let metrics = metric::look_up(&settings, &mut context, &self.specs)?;
        if let Some(name) = &settings.sort_metric {
            let name = name.trim_start_matches('-');
            let Some(metric) = metrics.iter().find(|m| m.name == name) else {
                let what = format!("Sort reference metric {name} not part of metrics.\n");
                return Err(Refusal::Failed(what));
            };
            if metric.is_flat() {
                let what = "Sort reference metric must have instances.\n";
                return Err(Refusal::Failed(what.to_owned()));
            }
        }
        Ok(Pmrep {
            settings,
            specs: self.specs,
            context,
            host,
            zone,
            schedule,
            metrics,
        })
    }
}

/// A sample's values as lines of JSON.
fn json_lines(out: &mut dyn Write, metrics: &[Metric], sample: &Sample) -> io::Result<()> {
    for (metric, values) in metrics.iter().zip(&sample.values) {
        for (inst, shown) in values {
            let value = match shown {
                Shown::Whole(value) => match i64::try_from(*value) {
                    Ok(value) => value.into(),
                    Err(_) => json::number(*value as f64),
                },
                Shown::Real(value) => json::number(*value),
                Shown::Text(text) => text.as_str().into(),
            };
            let line = json::Line {
                time: sample.time,
                metric: &metric.name,
                instance: (!metric.is_flat()).then(|| metric.instance_name(*inst)),
                value: Ok(value),
                units: metric.unit.clone(),
                more: Vec::new(),
            };
            writeln!(out, "{line}")?;
        }
    }
    Ok(())
}

struct Pmrep {
    settings: Settings,
    specs: Vec<MetricSpec>,
    context: Context,
    host: String,
    zone: Zone,
    schedule: Schedule,
    metrics: Vec<Metric>,
}

/// Where samples go.
enum Output<'a> {
    Report(Report<'a>),
    Csv(Csv<'a>),
    Archive(Box<ArchiveOutput<'a>>),
    Overall(Overall<'a>),
    Json,
}

impl Pmrep {
    fn run(&mut self) -> io::Result<u8> {
        let settings = &self.settings;
        let live = matches!(self.context, Context::Host(_));
        let file = settings
            .file
            .as_deref()
            .filter(|_| settings.target != Target::Archive);
        let mut out: Box<dyn Write> = match file {
            Some(path) => match File::create_new(path) {
                Ok(file) => Box::new(BufWriter::new(file)),
                Err(error) => {
                    let number = error.raw_os_error().unwrap_or(0);
                    let code = ErrorCode::from(&error);
                    eprintln!("[Errno {number}] {code}: '{path}'");
                    return Ok(1);
                }
            },
            None => Box::new(BufWriter::with_capacity(1 << 16, io::stdout().lock())),
        };
        if settings.extended_header && !settings.json {
            self.extended_header(&mut *out)?;
        }
        let mut output = match settings.target {
            _ if settings.overall_rank || settings.overall_rank_alt => {
                Output::Overall(Overall::new(settings, &self.metrics))
            }
            Target::Stdout if settings.json => Output::Json,
            Target::Stdout => {
                let mut report = Report::new(settings, &self.zone);
                report.begin(&mut *out, &self.metrics, self.schedule.origin)?;
                Output::Report(report)
            }
            Target::Csv => {
                let mut csv = Csv::new(settings, &self.zone, &self.host);
                csv.begin(&mut *out, &self.metrics)?;
                Output::Csv(csv)
            }
            Target::Archive => {
                let path = settings.file.as_deref().unwrap_or("");
                self.schedule
                    .announce(&mut *out, self.metrics.len(), path, live)?;
                let archive =
                    ArchiveOutput::new(settings, path, &self.context, &self.host, &self.zone);
                Output::Archive(Box::new(archive))
            }
        };
        out.flush()?;
        if settings.check {
            return Ok(0);
        }
        if let Context::Archive(archive) = &mut self.context {
            let mode = if settings.interpolate {
                ArchiveMode::Interpolated(self.schedule.interval.as_nanos())
            } else {
                ArchiveMode::Forward
            };
            archive.set_mode(mode, self.schedule.origin);
        }
        let nothing = |metric: &Metric| metric.fetched == Fetching::Nothing;
        if self.metrics.iter().all(nothing) {
            out.flush()?;
            eprintln!("pmrep: {} ", ErrorCode::TOOSMALL);
            eprintln!("No metrics or instances to report present.");
            return Ok(1);
        }
        let mut sampler = Sampler::new(&self.metrics);
        let mut clock = self.schedule.clock(live);
        let mut done = 0;
        let mut status = 0;
        let bound = self.schedule.bound(!live);
        while bound.is_none_or(|n| done < n) {
            if live || settings.delay {
                clock.wait(done);
            }
            let fetched = match sampler.fetch(&mut self.context) {
                Ok(fetched) => fetched,
                Err(Error::Code(ErrorCode::EOL)) => break,
                Err(error) => {
                    out.flush()?;
                    eprintln!("pmrep: {}", error.code());
                    status = 1;
                    break;
                }
            };
            if !live && self.schedule.is_over(fetched.time) {
                break;
            }
            if !live && !settings.interpolate && fetched.sets.is_empty() {
                // A mark: nothing is known across it.
                sampler.forget();
                continue;
            }
            if let Context::Host(host) = &mut self.context
                && host.take_changes() & NAMES_CHANGED != 0
                && done > 0
            {
                match settings.names_change {
                    NamesChange::Ignore => {}
                    NamesChange::Abort => break,
                    NamesChange::Update => {
                        if let Ok(metrics) =
                            metric::look_up(settings, &mut self.context, &self.specs)
                        {
                            self.metrics = metrics;
                            sampler = Sampler::new(&self.metrics);
                            continue;
                        }
                    }
                }
            }
            done += 1;
            let mut sample = sampler.sample(&mut self.metrics, &mut self.context, &fetched);
            if !matches!(output, Output::Overall(_)) {
                sampler::reduce(settings, &self.metrics, &mut sample);
            }
            let metrics = &self.metrics;
            let written = match &mut output {
                Output::Report(report) => report.sample(&mut *out, metrics, &sample),
                Output::Csv(csv) => csv.sample(&mut *out, metrics, &sample),
                Output::Json => json_lines(&mut *out, metrics, &sample),
                Output::Archive(archive) => {
                    archive.sample(metrics, &sample, &fetched, &mut self.context)
                }
                Output::Overall(overall) => {
                    overall.sample(&sample);
                    Ok(())
                }
            };
            written?;
            if live || settings.delay {
                out.flush()?;
            }
        }
        match output {
            Output::Archive(archive) => archive.end()?,
            Output::Overall(overall) => overall.end(&mut *out, &self.metrics)?,
            Output::Report(_) | Output::Csv(_) | Output::Json => {}
        }
        out.flush()?;
        Ok(status)
    }

    /// What is reported, from where and when.
    fn extended_header(&self, out: &mut dyn Write) -> io::Result<()> {
        let csv = self.settings.target == Target::Csv;
        let mark = if csv { "#" } else { "" };
        let mut line = |text: &str| writeln!(out, "{mark}{text}");
        line("")?;
        if let Some(archives) = &self.settings.source.archives {
            line(&format!("  archive: {archives}"))?;
        }
        line(&format!("     host: {}", self.host))?;
        let schedule = &self.schedule;
        let own = format::zone(&self.zone, schedule.origin);
        let local = format::zone(&Zone::local(), schedule.origin);
        if own == local {
            line(&format!(" timezone: {own}"))?;
        } else {
            line(&format!(" timezone: {own} (reporting, current is {local})"))?;
        }
        line(&format!(
            "    start: {}",
            self.zone.civil(schedule.origin.sec).ctime()
        ))?;
        match schedule.end_shown {
            Some(end) => line(&format!("      end: {}", self.zone.civil(end.sec).ctime()))?,
            None => line("      end: N/A")?,
        }
        let metrics = self.metrics.len();
        let instances: usize = self.metrics.iter().map(|m| m.instances.len().max(1)).sum();
        let plural = if instances == 1 { "" } else { "s" };
        let archive = self.settings.source.archives.is_some();
        let when = match (
            self.settings.is_dynamic() || self.settings.fixed_header,
            archive,
        ) {
            (true, true) => " present in archive",
            (true, false) => " initially",
            (false, _) => "",
        };
        line(&format!(
            "  metrics: {metrics} ({instances} instance{plural}{when})"
        ))?;
        line(&format!("  samples: {}", schedule.samples_text()))?;
        line(&format!(" interval: {}", schedule.interval_text()))?;
        line(&format!(" duration: {}", schedule.duration_text()))?;
        line("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_split() {
        assert_eq!(definitions_of("a=b*2;c = d"), ["a=b*2", "c = d"]);
        assert_eq!(
            definitions_of("a = delta(b),c = delta(d)"),
            ["a = delta(b)", "c = delta(d)"]
        );
        assert_eq!(
            definitions_of("a=mkconst(0, type=\"double\")"),
            ["a=mkconst(0, type=\"double\")"]
        );
        assert_eq!(definitions_of("a=b,c=d"), ["a=b,c=d"]);
    }
}
