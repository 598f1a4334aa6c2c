//! Where a tool's metrics come from and which time it looks at: the options that PCP's tools have in common (PCPIntro(1)).

use pcp::archive::{ArchiveContext, Label};
use pcp::derived::DerivedMetrics;
use pcp::timewindow::{TimeWindow, WindowSpec, interval};
use pcp::timezone::Zone;
use pcp::{Context, ErrorCode, Timestamp};

use crate::colour::When;
use crate::options::rows::{COLOR_ONLY, CONTAINER_ONLY, DERIVED_ONLY};
use crate::options::{Refusal, Spec};

/// The version of Performance Co-Pilot whose tools these are, for `--version`.
pub const VERSION: &str = "6.0.3";

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
    /// `--color`.
    pub colour: When,
    /// Whether `-D` came before the first of these, so that reading them is traced.
    pub traced: bool,
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
    /// Takes a common option in. Others are nothing to it.
    ///
    /// # Errors
    /// Why its value is refused.
    pub fn option(&mut self, spec: &Spec, letter: char, value: &str) -> Result<(), Refusal> {
        let text = || Some(value.to_owned());
        let two_zones = || spec.wrong(spec.two_zones);
        match letter {
            'a' => {
                self.archives = Some(match self.archives.take() {
                    Some(before) => format!("{before},{value}"),
                    None => value.to_owned(),
                });
            }
            'h' if self.host.is_some() => {
                return Err(match spec.two_hosts {
                    Some(what) => spec.wrong(what),
                    None => spec.wrong(format!("too many hosts requested: {value}")),
                });
            }
            'h' => self.host = text(),
            'S' => self.window.start = text(),
            'T' => self.window.finish = text(),
            'O' => self.window.origin = text(),
            'A' => self.window.align = text(),
            'Z' if self.host_zone => return Err(two_zones()),
            'Z' => self.zone = text(),
            'z' if self.zone.is_some() => return Err(two_zones()),
            'z' => self.host_zone = true,
            'n' => {
                self.pmns = text();
                self.names(spec.tool)?;
            }
            CONTAINER_ONLY => self.container = text(),
            'c' => self.derived.push(value.to_owned()),
            DERIVED_ONLY => {
                // Of several, one that is there is enough.
                let is_there = |file: &str| std::fs::File::open(file).is_ok();
                if let Err(error) = std::fs::File::open(value)
                    && !value.split(':').any(is_there)
                {
                    let code = ErrorCode::from(&error);
                    return Err(spec.wrong(format!("pmLoadDerivedConfig failed: {code}")));
                }
                self.derived.push(value.to_owned());
            }
            'D' => self.traced |= self.derived.is_empty(),
            'L' => self.local = true,
            COLOR_ONLY => {
                let what = "--color takes auto, always or never";
                self.colour = value.parse().map_err(|()| spec.wrong(what))?;
            }
            'K' => {
                crate::local::check(&self.agents, value)
                    .map_err(|what| spec.wrong(format!("pmSpecLocalPMDA failed: {what}")))?;
                self.agents.push(value.to_owned());
            }
            's' => {
                let what = "-s requires a positive numeric argument";
                self.samples = Some(spec.number(value, what)?);
            }
            't' => {
                let step = interval(value).map_err(|error| {
                    let call = match spec.microseconds {
                        true => "pmParseInterval",
                        false => "pmParseHighResInterval",
                    };
                    spec.wrong(format!("-t argument not in {call}(3) format:\n{error}\n"))
                })?;
                self.interval = Some(step);
            }
            _ => {}
        }
        Ok(())
    }

    /// Checks that the options go together.
    ///
    /// # Errors
    /// Why they do not.
    pub fn check(&mut self, spec: &Spec) -> Result<(), Refusal> {
        if self.archives.is_some() && self.host.is_some() {
            return Err(spec.wrong("only one host or archive allowed"));
        }
        if spec.source_in_words {
            return Ok(());
        }
        self.check_window(spec)
    }

    /// Checks that the zone and the window of time go with where metrics come from, which may be said by other words than options.
    ///
    /// # Errors
    /// Why they do not.
    pub fn check_window(&mut self, spec: &Spec) -> Result<(), Refusal> {
        let named = self.archives.is_some() || self.host.is_some() || self.local;
        let elsewhere = self.archives.is_some() || self.host.is_some();
        let free = spec.live_windows || spec.source_in_words && !self.local;
        if self.host_zone && !elsewhere && !free {
            return Err(spec.wrong("use of timezone from metric source requires a source"));
        }
        if self.window.origin.is_some() && !named {
            // What the host's own logger wrote.
            let folder = pcp::config("PCP_ARCHIVE_DIR").unwrap_or_default();
            let host = nix::unistd::gethostname().unwrap_or_default();
            self.archives = Some(format!("{folder}/{}", host.to_string_lossy()));
        }
        let window = &self.window;
        let timed = window.start.is_some() || window.align.is_some() || window.origin.is_some();
        if timed && self.archives.is_none() && !spec.live_windows {
            return Err(spec.wrong("time window options are supported for archives only"));
        }
        Ok(())
    }

    /// Opens the context.
    ///
    /// # Errors
    /// The message for standard error.
    pub fn open(&self, spec: &Spec) -> Result<Opened, Refusal> {
        let filled = self.with_environment(spec)?;
        filled.open_as_it_is(spec)
    }

    /// With what the environment says where options say nothing, as pcp(1) passes its own on (pmGetOptions(3)).
    ///
    /// # Errors
    /// Why a value is refused.
    pub fn with_environment(&self, spec: &Spec) -> Result<Source, Refusal> {
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
                filled.option(spec, letter, &value)?;
            }
            Ok(())
        };
        let sourceless = self.archives.is_none() && self.host.is_none() && !self.local;
        from('a', "PCP_ARCHIVE", sourceless)?;
        let archive = std::env::var_os("PCP_ARCHIVE").is_some();
        from('h', "PCP_HOST", sourceless && !archive)?;
        from('n', "PCP_NAMESPACE", self.pmns.is_none())?;
        from('S', "PCP_START_TIME", self.window.start.is_none())?;
        from('T', "PCP_FINISH_TIME", self.window.finish.is_none())?;
        let origin = self.window.origin.is_none();
        from('O', "PCP_ORIGIN", origin)?;
        let said = std::env::var_os("PCP_ORIGIN").is_some();
        from('O', "PCP_ORIGIN_TIME", origin && !said)?;
        from('A', "PCP_ALIGN_TIME", self.window.align.is_none())?;
        from('t', "PCP_INTERVAL", self.interval.is_none())?;
        let zoneless = self.zone.is_none() && !self.host_zone;
        from('Z', "PCP_TIMEZONE", zoneless)?;
        let zone = std::env::var_os("PCP_TIMEZONE").is_some();
        from('z', "PCP_HOSTZONE", zoneless && !zone)?;
        Ok(filled)
    }

    fn open_as_it_is(&self, spec: &Spec) -> Result<Opened, Refusal> {
        let tool = spec.tool;
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
            (Context::Archive(archive), Some(names)) if spec.whole_names => {
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
            // Tools that ask once look for the end when times are given only.
            let once = matches!(tool, "pminfo" | "pmprobe") && self.window.origin.is_none();
            if !once && let Some(Err(error)) = last.map(pcp::archive::Archive::end) {
                eprint!("{}", no_end(tool, self.archives.as_deref(), error.code()));
                span.1 = Timestamp::MAX;
            }
        }
        self.derive(tool, &mut context);
        // Tools that say nothing of the host do not ask for its name.
        let hostname = match &context {
            Context::Host(_) if !self.local && (spec.names_host || self.host_zone) => {
                live_string(&mut context, "pmcd.hostname").unwrap_or(hostname)
            }
            _ => hostname,
        };
        let zone = self.zone(&mut context);
        zone.use_for_values();
        let silent = matches!(context, Context::Host(_)) && !spec.names_host;
        let note = if silent {
            None
        } else if self.host_zone {
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
            if let Some(note) = &note {
                println!("{note}");
            }
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

/// Loads a name space from a file.
///
/// # Errors
/// What PCP's library says of the mistake, and its code.
pub fn names_of(path: &str) -> Result<pcp::pmns::Pmns, (String, ErrorCode)> {
    pcp::pmns::Pmns::load(path.as_ref()).map_err(|error| match error {
        pcp::Error::Malformed { code, what } => (what, code),
        _ => {
            let said = format!("Error Parsing ASCII PMNS: Cannot open \"{path}\"");
            (said, ErrorCode(-2))
        }
    })
}

impl Source {
    /// The name space of `-n`.
    fn names(&self, tool: &str) -> Result<Option<pcp::pmns::Pmns>, Refusal> {
        let Some(path) = &self.pmns else {
            return Ok(None);
        };
        names_of(path).map(Some).map_err(|(said, code)| {
            Refusal::Failed(format!(
                "{said}\n{tool}: Cannot load namespace from \"{path}\": {code}\n"
            ))
        })
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
        if self.local {
            let hostname = nix::unistd::gethostname().unwrap_or_default();
            let context = crate::local::open(&self.agents, self.pmns.as_deref())?;
            return Ok((context, hostname.to_string_lossy().into_owned()));
        }
        if let Some(names) = &self.archives {
            if names.is_empty() {
                return Err(ErrorCode::LOGFILE.into());
            }
            let archive = ArchiveContext::open(names)?;
            let hostname = archive.label().hostname.to_string();
            return Ok((Context::Archive(Box::new(archive)), hostname));
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

    /// The zone that an archive's times are shown in, and what is to be said of it ahead of all output.
    pub fn archive_zone(&self, label: &Label) -> (Zone, String) {
        let (zone, note) = self.zone_of(label);
        zone.use_for_values();
        (zone, note)
    }

    fn zone_of(&self, label: &Label) -> (Zone, String) {
        if self.host_zone {
            let host = &label.hostname;
            let note =
                format!("Note: timezone set to local timezone of host \"{host}\" from archive\n\n");
            return (Zone::new(&label.timezone.to_str()), note);
        }
        match &self.zone {
            Some(name) => (
                Zone::new(name),
                format!("Note: timezone set to \"TZ={name}\"\n\n"),
            ),
            None => (Zone::local(), String::new()),
        }
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
    fn derive(&self, tool: &str, context: &mut Context) {
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
        context.use_derived(&metrics);
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
