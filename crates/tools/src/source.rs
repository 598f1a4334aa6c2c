//! Where a tool's metrics come from and which time it looks at: the options that PCP's tools have in common (PCPIntro(1)).

use pcp::archive::ArchiveContext;
use pcp::derived::DerivedMetrics;
use pcp::timewindow::{TimeWindow, WindowSpec, interval};
use pcp::timezone::Zone;
use pcp::{Context, ErrorCode, Timestamp};

/// The version of Performance Co-Pilot whose tools these are, for `--version`.
pub const VERSION: &str = "6.0.3";

/// The long names of the common options.
pub const LONG: &[(&str, char)] = &[
    ("align", 'A'),
    ("archive", 'a'),
    ("debug", 'D'),
    ("host", 'h'),
    ("spec-local", 'K'),
    ("local-PMDA", 'L'),
    ("namespace", 'n'),
    ("origin", 'O'),
    ("start", 'S'),
    ("samples", 's'),
    ("finish", 'T'),
    ("interval", 't'),
    ("timezone", 'Z'),
    ("hostzone", 'z'),
    ("version", 'V'),
    ("help", '?'),
    ("container", CONTAINER),
    ("derived", DERIVED),
];

/// Stands for `--container`, which has no short name.
pub const CONTAINER: char = '\u{e000}';
/// Stands for `--derived` where it has no short name.
pub const DERIVED: char = '\u{e001}';

/// What the common options said.
#[derive(Clone, Default, Debug)]
pub struct Source {
    /// `-a`, names joined by commas.
    pub archives: Option<String>,
    /// `-h`.
    pub host: Option<String>,
    /// `-S`, `-T`, `-O` and `-A`.
    pub window: WindowSpec,
    /// `-t`.
    pub interval: Option<Timestamp>,
    /// `-s`.
    pub samples: Option<u64>,
    /// `-Z`.
    pub zone: Option<String>,
    /// `-z`.
    pub host_zone: bool,
    /// `-n`.
    pub pmns: Option<String>,
    /// `-L`.
    pub local: bool,
    /// `-K`: which agents a local context has.
    pub agents: Vec<String>,
    /// `--container`.
    pub container: Option<String>,
    /// `-c`: files with derived metrics.
    pub derived: Vec<String>,
    /// Whether `-D` came before the first of these, so that reading them is traced.
    pub traced: bool,
}

/// Why a command line is refused.
pub enum Refusal {
    /// What is wrong with an option; the usage follows.
    Usage(String),
    /// What went wrong.
    Failed(String),
}

impl Refusal {
    /// Prints it to standard error and returns the exit status.
    pub fn report(&self, usage: &str) -> u8 {
        match self {
            Refusal::Usage(text) => eprint!("{text}{usage}"),
            Refusal::Failed(text) => eprint!("{text}"),
        }
        1
    }
}

/// A context with its time window and zone.
pub struct Opened {
    /// The context, at the window's origin.
    pub context: Context,
    /// The window.
    pub window: TimeWindow,
    /// The zone for times.
    pub zone: Zone,
    /// What is to be said of the zone ahead of all output.
    pub note: Option<String>,
    /// The host's name.
    pub hostname: String,
}

impl Source {
    /// Takes a common option in; false when it is none.
    ///
    /// # Errors
    /// Why its value is refused.
    pub fn option(
        &mut self,
        tool: &str,
        letter: char,
        value: Option<&str>,
    ) -> Result<bool, Refusal> {
        let text = || Some(value.unwrap_or("").to_owned());
        match letter {
            'a' => {
                self.archives = Some(match self.archives.take() {
                    Some(before) => format!("{before},{}", value.unwrap_or("")),
                    None => value.unwrap_or("").to_owned(),
                });
            }
            'h' => self.host = text(),
            'S' => self.window.start = text(),
            'T' => self.window.finish = text(),
            'O' => self.window.origin = text(),
            'A' => self.window.align = text(),
            'Z' => self.zone = text(),
            'z' => self.host_zone = true,
            'n' => self.pmns = text(),
            CONTAINER => self.container = text(),
            'c' | DERIVED => self.derived.extend(value.map(str::to_owned)),
            'D' => self.traced |= self.derived.is_empty(),
            'L' => self.local = true,
            'K' => {
                let text = value.unwrap_or("");
                let operation = text.split(',').next().unwrap_or("");
                if !["add", "del", "clear"].contains(&operation) {
                    return Err(Refusal::Usage(format!(
                        "{tool}: pmSpecLocalPMDA failed: bad op in spec\n"
                    )));
                }
                self.agents.push(text.to_owned());
            }
            's' => {
                let number = value.and_then(|v| v.trim_start().parse().ok());
                let Some(number) = number else {
                    return Err(Refusal::Usage(format!(
                        "{tool}: -s requires a positive numeric argument\n"
                    )));
                };
                self.samples = Some(number);
            }
            't' => match interval(value.unwrap_or("")) {
                Ok(time) => self.interval = Some(time),
                Err(error) => {
                    return Err(Refusal::Usage(format!(
                        "{tool}: -t argument not in pmParseHighResInterval(3) format:\n{error}\n\n"
                    )));
                }
            },
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Checks that the options go together.
    ///
    /// # Errors
    /// Why they do not.
    pub fn check(&self, tool: &str) -> Result<(), Refusal> {
        if self.archives.is_some() && self.host.is_some() {
            return Err(Refusal::Usage(format!(
                "{tool}: only one host or archive allowed\n"
            )));
        }
        if self.zone.is_some() && self.host_zone {
            return Err(Refusal::Usage(format!(
                "{tool}: at most one of -Z and -z allowed\n"
            )));
        }
        Ok(())
    }

    /// Opens the context.
    ///
    /// # Errors
    /// The message for standard error.
    pub fn open(&self, tool: &str) -> Result<Opened, Refusal> {
        let filled = self.with_environment(tool)?;
        filled.open_as_it_is(tool)
    }

    /// With what the environment says where options say nothing, as pcp(1) passes its own on (pmGetOptions(3)).
    ///
    /// # Errors
    /// Why a value is refused.
    pub fn with_environment(&self, tool: &str) -> Result<Source, Refusal> {
        let mut filled = self.clone();
        let trace = |name: &str, value: &str| {
            if pcp::debug::on(pcp::debug::Flag::Config) {
                eprintln!("pmGetOptions: {name}={value} set from the environment");
            }
        };
        if let Ok(value) = std::env::var("PCP_DEBUG") {
            trace("PCP_DEBUG", &value);
        }
        let mut from = |letter: char, name: &str, free: bool| -> Result<(), Refusal> {
            if free && let Ok(value) = std::env::var(name) {
                trace(name, &value);
                filled.option(tool, letter, Some(&value))?;
            }
            Ok(())
        };
        let sourceless = self.archives.is_none() && self.host.is_none() && !self.local;
        from('a', "PCP_ARCHIVE", sourceless)?;
        let archive = std::env::var_os("PCP_ARCHIVE").is_some();
        from('h', "PCP_HOST", sourceless && !archive)?;
        from('S', "PCP_START_TIME", self.window.start.is_none())?;
        from('T', "PCP_FINISH_TIME", self.window.finish.is_none())?;
        from('O', "PCP_ORIGIN_TIME", self.window.origin.is_none())?;
        from('A', "PCP_ALIGN_TIME", self.window.align.is_none())?;
        let zoneless = self.zone.is_none() && !self.host_zone;
        from('Z', "PCP_TIMEZONE", zoneless)?;
        let zone = std::env::var_os("PCP_TIMEZONE").is_some();
        from('z', "PCP_HOSTZONE", zoneless && !zone)?;
        Ok(filled)
    }

    fn open_as_it_is(&self, tool: &str) -> Result<Opened, Refusal> {
        let names = self.names(tool)?;
        let (mut context, hostname) = self.context_unnamed().map_err(|error| {
            let code = error.code();
            Refusal::Failed(match (&self.archives, &self.host) {
                (Some(names), _) => format!("{tool}: Cannot open archive \"{names}\": {code}\n"),
                (None, host) => {
                    let host = host.as_deref().unwrap_or("local:");
                    format!("{tool}: Cannot connect to PMCD on host \"{host}\": {code}\n")
                }
            })
        })?;
        match (&mut context, names) {
            // pmval(1) does not trim its name space.
            (Context::Archive(archive), Some(names)) if tool == "pmval" => {
                archive.use_all_names(names);
            }
            (Context::Archive(archive), Some(names)) => archive.use_names(&names),
            (Context::Host(host), Some(names)) => host.use_names(names),
            (_, None) => {}
        }
        let mut span = (Timestamp::now(), Timestamp::MAX);
        if let Context::Archive(archive) = &mut context {
            // PCP's tools keep their time windows in microseconds.
            let micros = |t: Timestamp| Timestamp::from_micros(t.sec, t.usec());
            span = (micros(archive.label().start), micros(archive.end()));
            let last = archive.set().archives().last();
            if let Some(Err(error)) = last.map(pcp::archive::Archive::end) {
                eprint!("{}", no_end(tool, self.archives.as_deref(), error.code()));
                span.1 = Timestamp::MAX;
            }
        }
        self.derive(tool, &mut context)?;
        // Tools that say nothing of the host do not ask for its name.
        let hostname = match (&context, tool) {
            (Context::Host(_), "pminfo" | "pmprobe") if !self.host_zone => hostname,
            (Context::Host(_), _) if !self.local => {
                live_string(&mut context, "pmcd.hostname").unwrap_or(hostname)
            }
            _ => hostname,
        };
        let zone = self.zone(&mut context);
        let note = if self.host_zone {
            let from = if self.archives.is_some() {
                " from archive"
            } else {
                ""
            };
            Some(format!(
                "Note: timezone set to local timezone of host \"{hostname}\"{from}\n"
            ))
        } else {
            let zone = self.zone.as_ref();
            zone.map(|name| format!("Note: timezone set to \"TZ={name}\"\n"))
        };
        let window = self.window.window(span.0, span.1, &zone).map_err(|error| {
            Refusal::Failed(format!("{tool}: invalid time window.\n{error}\n\n"))
        })?;
        Ok(Opened {
            context,
            window,
            zone,
            note,
            hostname,
        })
    }
}

impl Source {
    /// The name space of `-n`.
    fn names(&self, tool: &str) -> Result<Option<pcp::pmns::Pmns>, Refusal> {
        let Some(path) = &self.pmns else {
            return Ok(None);
        };
        let (said, code) = match pcp::pmns::Pmns::load(path.as_ref()) {
            Ok(names) => return Ok(Some(names)),
            Err(pcp::Error::Malformed { code, what }) => (what, code),
            Err(_) => (format!("Cannot open \"{path}\""), ErrorCode(-2)),
        };
        Err(Refusal::Failed(format!(
            "Error Parsing ASCII PMNS: {said}\n{tool}: Cannot load namespace from \"{path}\": {code}\n"
        )))
    }

    /// The context, without derived metrics, and the name of the host whose metrics it has.
    ///
    /// # Errors
    /// What the archive or the connection says.
    pub fn context(&self) -> pcp::Result<(Context, String)> {
        let (mut context, mut hostname) = self.context_unnamed()?;
        if matches!(context, Context::Host(_)) && !self.local {
            hostname = live_string(&mut context, "pmcd.hostname").unwrap_or(hostname);
        }
        Ok((context, hostname))
    }

    /// The context, and the name that a live host was asked for.
    fn context_unnamed(&self) -> pcp::Result<(Context, String)> {
        if let Some(names) = &self.archives {
            if names.is_empty() {
                return Err(ErrorCode::LOGFILE.into());
            }
            let archive = ArchiveContext::open(names)?;
            let hostname = archive.label().hostname.to_string();
            return Ok((Context::Archive(Box::new(archive)), hostname));
        }
        if self.local {
            let hostname = nix::unistd::gethostname().unwrap_or_default();
            let context = crate::local::open(&self.agents, self.pmns.as_deref())?;
            return Ok((context, hostname.to_string_lossy().into_owned()));
        }
        let host = self.host.as_deref().unwrap_or("local:");
        if host.is_empty() {
            return Err(ErrorCode::NOTHOST.into());
        }
        let context = match &self.container {
            Some(name) => Context::host(&contained(host, name))?,
            None => Context::host(host)?,
        };
        Ok((context, host.to_owned()))
    }

    /// The zone that times are shown in.
    pub fn zone(&self, context: &mut Context) -> Zone {
        if self.host_zone {
            let name = match context {
                Context::Archive(archive) => Some(archive.label().timezone.to_string()),
                host => live_string(host, "pmcd.timezone"),
            };
            return name.map_or_else(Zone::local, |name| Zone::new(&name));
        }
        self.zone.as_deref().map_or_else(Zone::local, Zone::new)
    }

    /// Adds the derived metrics that are configured, and those of `-c`.
    fn derive(&self, tool: &str, context: &mut Context) -> Result<(), Refusal> {
        let load = || {
            let (mut metrics, mut said) = DerivedMetrics::configured();
            for path in &self.derived {
                match metrics.load(path) {
                    Ok(more) => said.extend(more),
                    Err(error) => said.push(format!(
                        "{tool}: derived configuration(s) error: {}\n",
                        error.code()
                    )),
                }
            }
            (metrics, said)
        };
        let (metrics, said) = match self.derived.is_empty() || self.traced {
            true => load(),
            false => pcp::debug::quietly(load),
        };
        eprint!("{}", said.concat());
        context
            .use_derived(&metrics)
            .map_err(|e| Refusal::Failed(format!("{tool}: {}\n", e.code())))?;
        Ok(())
    }
}

/// What is said of an archive whose end is damaged.
pub fn no_end(tool: &str, archive: Option<&str>, code: ErrorCode) -> String {
    let archive = archive.unwrap_or("");
    format!(
        "{tool}: Cannot locate end of archive {archive}: {code}\n\n\
         WARNING: This archive is sufficiently damaged that it may not be possible to\n         \
         produce complete information.  Continuing and hoping for the best.\n\n"
    )
}

/// A host specification with a container's name.
fn contained(host: &str, container: &str) -> String {
    let separator = if host.contains('?') { '&' } else { '?' };
    format!("{host}{separator}container={container}")
}

/// A metric of pmcd that is one string.
fn live_string(context: &mut Context, name: &str) -> Option<String> {
    let pmid = context.lookup_name(name).ok()?;
    let fetched = context.fetch(&[pmid]).ok()?;
    let value = fetched.sets.first()?.instances().first()?;
    match pcp::Atom::extract(&value.value, pcp::Type::String).ok()? {
        pcp::Atom::String(text) => Some(text.to_string()),
        _ => None,
    }
}
