//! The logger at work: fetches when they are due, clients, signals, and the source of metrics that comes and goes.

mod identity;
mod serve;
mod upstream;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeSpec;
use pcp::archive::Label;
use pcp::timezone::Zone;
use pcp::{Context, ErrorCode, Instance, Text, Timestamp};

use super::access::{Access, Operations};
use super::control::{Client, Control};
use super::limits::Limit;
use super::log::{Log, hostname};
use super::recorder::{RecordError, Recorder};
use super::recording::{Next, Recording};
use super::resolve::Resolver;
use super::states::{Group, Task};
use super::{Options, REEXEC};
use identity::{own_timezone, string};

/// Why logging ends.
enum End {
    /// With what is to be said of it.
    Said(String),
    /// To begin again with an archive of another name.
    Again,
    /// The archive cannot be written.
    Failed(String),
}

pub(super) struct Daemon<'a> {
    options: &'a Options,
    log: &'a mut Log,
    host: String,
    source: String,
    context: Context,
    connected: bool,
    attempts: usize,
    next_attempt: Timestamp,
    resolver: Resolver,
    access: Access,
    tasks: Vec<Task>,
    recorder: Recorder,
    control: Control,
    client: Option<(Client, Operations)>,
    signals: SignalFd,
    recording: Option<Recording>,
    begun: Instant,
    end: Option<Timestamp>,
    count: u64,
    volume_count: u64,
    volume_begun: Timestamp,
    instance: Instance,
    archive_path: PathBuf,
    own_descs: Vec<(Text, pcp::Desc)>,
    zone: (String, String),
}

impl<'a> Daemon<'a> {
    /// Creates the archive and begins to listen; `None` when there is nothing to do.
    ///
    /// # Errors
    /// The message for the log.
    pub fn start(
        options: &'a Options,
        source: &str,
        mut context: Context,
        resolver: Resolver,
        access: Access,
        log: &'a mut Log,
    ) -> Result<Option<Daemon<'a>>, String> {
        let host = string(&mut context, "pmcd.hostname").unwrap_or_else(hostname);
        let kind = if options.primary { "primary " } else { "" };
        log.say(&format!(
            "Starting {kind}logger for host \"{host}\" via \"{source}\"\n"
        ));
        let mut tasks = Vec::new();
        resolver.states.schedule(&mut tasks, Timestamp::ZERO, true);
        // What is off is something to be asked about.
        let nothing = tasks.is_empty() && resolver.states.metrics().is_empty() && !resolver.waits;
        if nothing && !options.primary && !options.linger {
            log.say("Nothing to log, and not the primary logger instance ... good-bye\n");
            return Ok(None);
        }
        let (mut zone, mut zoneinfo) = (own_timezone(), String::new());
        if !options.local_zone {
            zone = string(&mut context, "pmcd.timezone").unwrap_or(zone);
            zoneinfo = string(&mut context, "pmcd.zoneinfo").unwrap_or_default();
        }
        let begun = Timestamp::now();
        let label_host = options.label_host.as_deref().unwrap_or(&host);
        let label = Label {
            version: options.version,
            pid: std::process::id() as i32,
            start: begun,
            volume: 0,
            features: 0,
            hostname: label_host.into(),
            timezone: zone.as_str().into(),
            zoneinfo: zoneinfo.as_str().into(),
        };
        let base = Path::new(&options.archive);
        let exists = ["index", "meta", "0"].into_iter().find(|suffix| {
            let mut name = base.as_os_str().to_owned();
            name.push(".");
            name.push(suffix);
            Path::new(&name).exists()
        });
        if let Some(suffix) = exists {
            // PCP creates the index first, and finds there what is in its way.
            let suffix = if suffix == "meta" { "index" } else { suffix };
            return Err(format!(
                "__pmLogNewFile: \"{0}.{suffix}\" already exists, not over-written\n\
                 __pmLogCreate({host}, {0}, ...): File exists\n",
                options.archive
            ));
        }
        let recorder = Recorder::create(base, label).map_err(|error| {
            format!(
                "__pmLogCreate({host}, {}, ...): {}\n",
                options.archive,
                ErrorCode::from(&error)
            )
        })?;
        let local = Zone::new(&zone);
        let end = match &options.finish {
            Some(text) => {
                let zone = if options.local_zone {
                    Zone::local()
                } else {
                    local
                };
                Some(super::end_time(text, &zone)?)
            }
            None => None,
        };
        log.say(&format!("Archive basename: {}\n", options.archive));
        if options.primary
            && let Some((pid, link)) = Control::other_primary()
        {
            return Err(format!(
                "pmlogger: ERROR: there is already a primary pmlogger running, pid {pid} linkfile={}\n",
                link.display()
            ));
        }
        let mut control = Control::listen();
        let archive_path = std::path::absolute(base).unwrap_or_else(|_| base.to_owned());
        let note = options.note.as_deref();
        if let Err((path, error)) = control.publish(&host, &archive_path, note, options.primary) {
            log.say(&format!(
                "pmlogger: error creating port map file {}: {}.  Exiting.\n",
                path.display(),
                ErrorCode::from(&error)
            ));
        }
        let mut set = SigSet::empty();
        for signal in [
            Signal::SIGHUP,
            Signal::SIGINT,
            Signal::SIGTERM,
            Signal::SIGUSR1,
            Signal::SIGUSR2,
            Signal::SIGALRM,
        ] {
            set.add(signal);
        }
        let signals = set
            .thread_block()
            .and_then(|()| {
                SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
            })
            .map_err(|e| format!("pmlogger: signals: {e}\n"))?;
        let recording = match options.recording {
            Some(fd) => {
                let file = File::open(format!("/dev/fd/{fd}"));
                let failed = |e| format!("pmlogger: -x {fd}: {}\n", ErrorCode::from(&e));
                Some(Recording::new(file.map_err(failed)?))
            }
            None => None,
        };
        let pid = std::process::id() as i32;
        let mut daemon = Daemon {
            options,
            log,
            host,
            source: source.to_owned(),
            context,
            connected: true,
            attempts: 0,
            next_attempt: Timestamp::ZERO,
            resolver,
            access,
            tasks,
            recorder,
            control,
            client: None,
            signals,
            recording,
            begun: Instant::now(),
            end,
            count: 0,
            volume_count: 0,
            volume_begun: Timestamp::ZERO,
            instance: Instance {
                inst: pid,
                name: pid.to_string().into(),
            },
            archive_path,
            own_descs: Vec::new(),
            zone: (zone, zoneinfo),
        };
        daemon.find_own_metrics();
        daemon
            .own_record(begun)
            .map_err(|e| format!("pmlogger: {}\n", ErrorCode::from(&e)))?;
        if options.notify {
            notify_ready();
        }
        Ok(Some(daemon))
    }

    /// Time since logging began, by a clock that nobody sets.
    fn clock(&self) -> Timestamp {
        let since = self.begun.elapsed();
        Timestamp::new(since.as_secs() as i64, since.subsec_nanos() as i32)
    }

    /// Runs until something ends it. Returns the exit status.
    pub fn run(mut self) -> u8 {
        let end = loop {
            match self.turn() {
                Ok(()) => {}
                Err(end) => break end,
            }
        };
        let (text, status) = match end {
            End::Failed(text) => {
                self.log.say(&text);
                return 1;
            }
            End::Said(text) => (text, 0),
            End::Again => (String::new(), 0),
        };
        // The last record says how far this archive reaches.
        let time = Timestamp::now().max(self.recorder.last());
        if let Err(error) = self.own_record(time) {
            let code = ErrorCode::from(&error);
            self.log.say(&format!("pmlogger: {code}\n"));
        }
        if text.is_empty() {
            return self.execute_again();
        }
        self.log
            .notify("Info", &format!("pmlogger: {text}, exiting"));
        status
    }

    /// Becomes a new logger with the same command line, whose archive has another name.
    fn execute_again(self) -> u8 {
        let Daemon {
            options,
            log,
            control,
            client,
            ..
        } = self;
        drop(client);
        drop(control);
        let mut words = options.words.clone();
        let note = format!("-m{REEXEC}");
        if !words.contains(&note) {
            let at = words.len().saturating_sub(1);
            words.insert(at, note);
        }
        log.notify("Info", "pmlogger: Caught signal 12, reexec");
        log.say(&format!(
            "\n=== pmlogger: reexec cmdlne: pmlogger {}\n",
            words.join(" ")
        ));
        let program = std::env::current_exe();
        let error = match program {
            Ok(program) => std::process::Command::new(program)
                .arg0("pmlogger")
                .args(&words)
                .exec(),
            Err(error) => error,
        };
        log.say(&format!(
            "pmlogger: reexec failed: {}\n",
            ErrorCode::from(&error)
        ));
        1
    }

    /// Does what is due, then waits for the next thing.
    fn turn(&mut self) -> Result<(), End> {
        self.limits_of_time()?;
        if self.connected {
            self.due()?;
        } else if self.clock() >= self.next_attempt {
            self.reconnect()?;
        }
        let timeout = self.timeout();
        let mut ready = Vec::new();
        {
            let mut sockets: Vec<(Ready, BorrowedFd<'_>)> =
                vec![(Ready::Signal, self.signals.as_fd())];
            sockets.extend(self.control.sockets().map(|s| (Ready::NewClient, s)));
            if let Some((client, _)) = &self.client {
                sockets.push((Ready::Client, client.socket()));
            }
            if let (true, Context::Host(host)) = (self.connected, &self.context) {
                sockets.push((Ready::Source, host.socket()));
            }
            if let Some(recording) = &self.recording {
                sockets.push((Ready::Recording, recording.socket()));
            }
            let mut polled: Vec<PollFd<'_>> = sockets
                .iter()
                .map(|(_, socket)| PollFd::new(*socket, PollFlags::POLLIN))
                .collect();
            // An interruption is a turn without anything ready.
            if ppoll(&mut polled, Some(timeout), None).is_ok() {
                for ((what, _), polled) in sockets.iter().zip(&polled) {
                    if polled.any() == Some(true) {
                        ready.push(*what);
                    }
                }
            }
        }
        ready.dedup();
        for what in ready {
            match what {
                Ready::Signal => self.signal()?,
                Ready::NewClient => self.new_client(),
                Ready::Client => self.serve()?,
                Ready::Source => self.source_speaks()?,
                Ready::Recording => self.recording_speaks()?,
            }
        }
        Ok(())
    }

    fn timeout(&self) -> TimeSpec {
        let now = self.clock();
        let mut next = now + Timestamp::new(3600, 0);
        if self.connected {
            next = self.tasks.iter().map(|t| t.next).fold(next, Timestamp::min);
        } else {
            next = next.min(self.next_attempt);
        }
        if let Some(Limit::Time(after)) = self.options.exit_limit {
            next = next.min(after);
        }
        if let Some(Limit::Time(after)) = self.options.volume_limit {
            next = next.min(self.volume_begun + after);
        }
        if let Some(end) = self.end {
            next = next.min(now + (end - Timestamp::now()));
        }
        if self.options.watched.is_some() {
            next = next.min(now + Timestamp::new(1, 0));
        }
        let wait = (next - now).max(Timestamp::ZERO);
        TimeSpec::new(wait.sec, wait.nsec.into())
    }

    fn limits_of_time(&mut self) -> Result<(), End> {
        let now = self.clock();
        let over = matches!(self.options.exit_limit, Some(Limit::Time(after)) if now >= after)
            || self.end.is_some_and(|end| Timestamp::now() >= end);
        if over {
            return Err(End::Said("End of run time".to_owned()));
        }
        if let Some(pid) = self.options.watched
            && !Path::new(&format!("/proc/{pid}")).exists()
        {
            return Err(End::Said("process from -p has vanished".to_owned()));
        }
        if matches!(self.options.volume_limit, Some(Limit::Time(after)) if now >= self.volume_begun + after)
        {
            self.next_volume("sample time")?;
        }
        Ok(())
    }

    fn next_volume(&mut self, via: &str) -> Result<(), End> {
        if let Err(error) = self.recorder.next_volume() {
            return Err(self.unwritable(&error));
        }
        self.volume_count = 0;
        self.volume_begun = self.clock();
        let (volume, date) = (self.recorder.label().volume, self.log.date());
        self.log
            .say(&format!("New log volume {volume}, via {via} at {date}\n"));
        Ok(())
    }

    fn unwritable(&self, error: &std::io::Error) -> End {
        End::Failed(format!(
            "pmlogger: cannot write archive {}: {}\n",
            self.recorder.base().display(),
            ErrorCode::from(error)
        ))
    }

    fn due(&mut self) -> Result<(), End> {
        let now = self.clock();
        for at in 0..self.tasks.len() {
            let Some(task) = self.tasks.get_mut(at).filter(|t| t.next <= now) else {
                continue;
            };
            if let Some(interval) = task.interval() {
                let missed = (now - task.next).as_nanos() / interval.as_nanos().max(1);
                let steps = (missed + 1) * interval.as_nanos();
                task.next = task.next + Timestamp::from_nanos(steps);
            }
            let level = task.level;
            let groups: Vec<Group> = task.groups.clone();
            for (index, group) in groups.iter().enumerate() {
                match self.fetch(group) {
                    Ok(Some(bytes)) if self.options.report && !group.reported => {
                        self.report(group, level.on.unwrap_or(0), bytes);
                        if let Some(group) =
                            self.tasks.get_mut(at).and_then(|t| t.groups.get_mut(index))
                        {
                            group.reported = true;
                        }
                    }
                    Ok(_) => {}
                    Err(RecordError::Archive(error)) => return Err(self.unwritable(&error)),
                    Err(RecordError::Source(_)) => {
                        self.lost()?;
                        return Ok(());
                    }
                }
            }
            if let Some(task) = self.tasks.get_mut(at)
                && task.interval().is_none()
            {
                task.groups.clear();
            }
            self.count += 1;
            self.volume_count += 1;
            self.limits_of_size()?;
        }
        self.tasks.retain(|task| !task.groups.is_empty());
        Ok(())
    }

    fn limits_of_size(&mut self) -> Result<(), End> {
        match self.options.exit_limit {
            Some(Limit::Records(count)) if self.count >= count => {
                return Err(End::Said("Sample limit reached".to_owned()));
            }
            Some(Limit::Bytes(bytes)) if self.recorder.bytes() >= bytes => {
                return Err(End::Said("Byte limit reached".to_owned()));
            }
            _ => {}
        }
        match self.options.volume_limit {
            Some(Limit::Records(count)) if self.volume_count >= count => {
                self.next_volume("sample counter")
            }
            Some(Limit::Bytes(bytes)) if self.recorder.volume_bytes() >= bytes => {
                self.next_volume("sample byte size")
            }
            _ if self.recorder.is_full() => self.next_volume("max data volume size"),
            _ => Ok(()),
        }
    }

    /// Fetches and records; the bytes of the record, or `None` when there was nothing to record.
    fn fetch(&mut self, group: &Group) -> Result<Option<usize>, RecordError> {
        if *self.context.profile_mut() != group.profile {
            *self.context.profile_mut() = group.profile.clone();
        }
        let fetched = match self.context.fetch(&group.pmids) {
            Ok(fetched) => fetched,
            Err(error) if super::is_lost(&error) => return Err(error.into()),
            Err(error) => {
                let code = error.code();
                self.log.say(&format!("pmlogger: pmFetch: {code}\n"));
                return Ok(None);
            }
        };
        self.agents_changed()?;
        let in_part = |indom| group.profile.indoms.iter().any(|e| e.indom == indom);
        let bytes = self.recorder.record(&mut self.context, &fetched, in_part)?;
        for set in &fetched.sets {
            let states = &mut self.resolver.states;
            let indom = states.get(set.pmid).map(|m| m.desc.indom);
            let entry = group.profile.indoms.iter().find(|e| Some(e.indom) == indom);
            let asked = entry.map(|e| e.instances.as_slice());
            states.logged(set.pmid, asked, set.instances().iter().map(|v| v.inst));
        }
        Ok(Some(bytes))
    }

    fn report(&mut self, group: &Group, delta: u32, bytes: usize) {
        let names: Vec<String> = group
            .pmids
            .iter()
            .map(|pmid| {
                let metric = self.resolver.states.get(*pmid);
                metric.map_or_else(|| pmid.to_string(), |m| m.name.clone())
            })
            .collect();
        let what = match names.as_slice() {
            [name] => format!("\nMetric {name}"),
            names => format!(
                "\nGroup [{} metrics] {{\n\t{}\n}}",
                names.len(),
                names.join("\n\t")
            ),
        };
        let how = if delta == 0 {
            format!("logged once: {bytes} bytes")
        } else {
            let every = if delta.is_multiple_of(1000) {
                (delta / 1000).to_string()
            } else {
                format!("{:.3}", f64::from(delta) / 1000.0)
            };
            let per_day = bytes as f64 * 86_400_000.0 / f64::from(delta) / f64::from(1 << 20);
            format!("logged every {every} sec: {bytes} bytes or {per_day:.2} Mbytes/day")
        };
        self.log.say(&format!("{what} {how}\n"));
    }

    fn signal(&mut self) -> Result<(), End> {
        while let Ok(Some(info)) = self.signals.read_signal() {
            match i32::try_from(info.ssi_signo) {
                Ok(number) if number == Signal::SIGHUP as i32 => self.next_volume("SIGHUP")?,
                Ok(number) if number == Signal::SIGUSR2 as i32 => return Err(End::Again),
                _ => return Err(End::Said(format!("Caught signal {}", info.ssi_signo))),
            }
        }
        Ok(())
    }

    /// pmcd speaks unasked: it has gone, or tells of its agents.
    fn source_speaks(&mut self) -> Result<(), End> {
        let Context::Host(host) = &mut self.context else {
            return Ok(());
        };
        match host.connection().receive() {
            Ok(_) => Ok(()),
            Err(_) => self.lost(),
        }
    }

    /// The program that records a session with this logger speaks (pmRecordControl(3)).
    fn recording_speaks(&mut self) -> Result<(), End> {
        let Some(recording) = &mut self.recording else {
            return Ok(());
        };
        match recording.speaks(self.log, &self.host, self.recorder.bytes()) {
            Next::On => {}
            Next::Alone => self.recording = None,
            Next::End => return Err(End::Said("Recording session terminated".to_owned())),
        }
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ready {
    Signal,
    NewClient,
    Client,
    Source,
    Recording,
}

/// Tells a service manager that logging began (sd_notify(3)).
fn notify_ready() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let Ok(name) = std::env::var("NOTIFY_SOCKET") else {
        return;
    };
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&name),
    };
    // A manager that does not listen need not know.
    if let (Ok(address), Ok(socket)) = (address, UnixDatagram::unbound()) {
        let _ = socket.send_to_addr(b"READY=1", &address);
    }
}
