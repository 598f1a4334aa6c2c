//! One run of one script: from the compiled plan to the last line of output.

use crate::arena::{self, Arena};
use crate::commands::Commands;
use crate::discovery::Discovery;
use crate::drain::{Drain, Event};
use crate::input::Input;
use crate::monitor::{Monitor, Request};
use crate::notices::Watched;
use crate::options::{Options, Target};
use crate::output::Output;
use crate::plan::{Owner, Plan, TracerProbe};
use crate::probe_point::{Kind, Program as ProgramName, spell};
use crate::procfs::{FileValue, Files};
use crate::reclaim::Reclaim;
use crate::records::Records;
use crate::sampling::Samplers;
use crate::signals::Signals;
use crate::stack_names::StackNames;
use crate::timer::Schedule;
use crate::tracee::{Tracee, TraceeError};
use crate::{SessionError, message, thread_signal, zone};
use codegen::TracerCode;
use inject::{ExitStatus, FileIdentity, Launch, Process, StackModule};
use runtime::layout::{Header, Slot};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use script::ir;
use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::mem::offset_of;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Longest time between two looks at the rings while the target is busy, and while it prints nothing.
const DRAIN_BUSY: Duration = Duration::from_millis(1);
const DRAIN_IDLE: Duration = Duration::from_millis(10);

/// Shortest time between two looks for modules that backtraces name and nobody knows.
const NAMES_INTERVAL: Duration = Duration::from_millis(100);

/// The target as `-c` or `-x` gives it: held before `main` when it was launched, running when it ran.
pub fn hold_target(target: &Target) -> Result<Option<Tracee>, SessionError> {
    let process = match target {
        Target::None => return Ok(None),
        Target::Process(pid) => {
            let mut process = Process::find(inject::Pid(*pid)).map_err(TraceeError::from)?;
            // What stands in the way is said before anything else is done.
            process.stop_one_thread().map_err(TraceeError::from)?;
            process.release().map_err(TraceeError::from)?;
            process
        }
        Target::Command(words) => {
            let mut words = words.iter().map(|w| OsStr::from_bytes(w));
            let program = words.next().ok_or(SessionError::EmptyCommand)?;
            let mut process =
                Process::launch(&Launch::new(program).args(words)).map_err(TraceeError::from)?;
            process
                .run_to_libraries_loaded()
                .map_err(TraceeError::from)?;
            process
        }
    };
    Ok(Some(Tracee::new(process, Records::TARGET)?))
}

/// What a wait ended with.
#[derive(Debug, Default)]
struct Ready {
    signalled: bool,
    /// Processes that have ended.
    ended: Vec<i32>,
    /// A program that is looked for may have started.
    started: bool,
    /// A process has something to tell.
    noticed: bool,
    /// Something has come at standard input.
    typed: bool,
    /// Somebody reads, or has written to, a file of a `procfs` probe.
    files: bool,
}

/// The program whose beginning a probe waits for.
pub(crate) fn begin_of(kind: &Kind) -> Option<&ProgramName> {
    match kind {
        Kind::ProcessBegin(program) => Some(program),
        _ => None,
    }
}

/// The program whose end a probe waits for.
pub(crate) fn end_of(kind: &Kind) -> Option<&ProgramName> {
    match kind {
        Kind::ProcessEnd(program) => Some(program),
        _ => None,
    }
}

/// Why a session's main loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// `exit()`, or nothing left to wait for.
    Asked,
    /// A signal to the tracer, `-T`.
    Interrupted,
    /// The target ended.
    TargetGone,
    /// Too many run-time errors.
    Errors,
    /// The reader of the output has gone.
    OutputClosed,
}

/// A session in progress.
pub struct Run<'a> {
    pub(crate) program: &'a ir::Program,
    pub(crate) options: &'a Options,
    pub(crate) plan: Plan<'a>,
    pub(crate) arena: Arena,
    pub(crate) tracer: TracerCode,
    /// Every process that has, or may get, probes, by number.
    pub(crate) tracees: BTreeMap<i32, Tracee>,
    /// The process of `-c` or `-x`, with whose end the session ends.
    pub(crate) target: Option<i32>,
    pub(crate) records: Records,
    /// Finds processes where there is neither `-c` nor `-x`.
    pub(crate) discovery: Option<Discovery>,
    /// Processes that were found and could not be probed.
    pub(crate) unwanted: HashSet<i32>,
    /// Programs of which the user knows that not all can be probed.
    pub(crate) refusals_told: HashSet<Option<FileIdentity>>,
    drain: Drain,
    pub(crate) output: Output,
    signals: Signals,
    errors: u32,
    exit_status: Option<ExitStatus>,
    pub(crate) names: StackNames,
    /// When a process was last asked for modules that were not known.
    names_asked: Option<Instant>,
    /// What handlers in the tracer name addresses by: the modules of the first process.
    pub(crate) tracer_modules: Vec<StackModule>,
    pub(crate) samplers: Samplers,
    commands: Commands,
    monitor: Option<Monitor>,
    /// Where `input` probes read; gone when it has ended.
    input: Option<Input>,
    /// The files of `procfs` probes.
    pub(crate) files: Option<Files>,
    /// What the reader of one is going to get.
    pub(crate) file_value: Option<FileValue>,
    pub(crate) reclaim: Reclaim,
    pub(crate) watched: Watched,
}

impl<'a> Run<'a> {
    /// Makes the arena, and the tracer's handlers executable.
    pub fn new(
        program: &'a ir::Program,
        options: &'a Options,
        plan: Plan<'a>,
        target: Option<Tracee>,
        output: Output,
    ) -> Result<Run<'a>, SessionError> {
        let signals = Signals::new().map_err(SessionError::System)?;
        let mut arena = Arena::new(plan.compiled.layout().size).map_err(SessionError::Arena)?;
        let target_pid = target.as_ref().map(Tracee::pid);
        plan.compiled
            .create_arena(arena.bytes_mut(), i64::from(target_pid.unwrap_or(0)))?;
        let (seconds_west, name) = zone::local();
        arena.write(
            offset_of!(Header, seconds_west) as u64,
            &seconds_west.to_le_bytes(),
        );
        arena.write(offset_of!(Header, zone) as u64, &name);
        // SAFETY: the arena has the layout's size, was filled just now, and `Run` drops the tracer's code with it.
        let tracer = unsafe { plan.compiled.link_tracer(arena.address()) }?;
        let drain = Drain::new(&arena).ok_or(SessionError::Layout)?;
        let tracees = target.into_iter().map(|tracee| (tracee.pid(), tracee));
        Ok(Run {
            program,
            options,
            records: Records::new(options.limits.processes),
            plan,
            arena,
            tracer,
            tracees: tracees.collect(),
            target: target_pid,
            discovery: None,
            unwanted: HashSet::new(),
            refusals_told: HashSet::new(),
            drain,
            output,
            signals,
            errors: 0,
            exit_status: None,
            names: StackNames::default(),
            names_asked: None,
            tracer_modules: Vec::new(),
            samplers: Samplers::default(),
            commands: Commands::default(),
            monitor: None,
            input: None,
            files: None,
            file_value: None,
            reclaim: Reclaim::default(),
            watched: Watched::default(),
        })
    }

    /// Runs the session to its end. The result is the exit status.
    pub fn run(mut self) -> Result<u8, SessionError> {
        if let Some(interval) = self.options.monitor {
            self.begin_monitor(interval)?;
        }
        self.make_samplers();
        self.input = Input::wanted(&self.plan);
        self.files = Files::wanted(&self.plan, self.options)?;
        self.run_handlers(|kind| match kind {
            Kind::Begin(order) => Some(*order),
            _ => None,
        });
        let ending = match self.ended() {
            Some(ending) => ending,
            None => {
                match self.start() {
                    // It was killed while it was being probed.
                    Err(SessionError::Tracee(error)) if error.is_exit() => Ending::TargetGone,
                    started => started.and_then(|()| self.watch())?,
                }
            }
        };
        self.finish(ending)
    }

    /// Patches the target and lets it run, or begins to look for programs.
    fn start(&mut self) -> Result<(), SessionError> {
        self.make_board()?;
        if let Some(pid) = self.target {
            return self.probe(pid).map_err(SessionError::from);
        }
        if !Discovery::is_wanted(&self.plan) {
            return Ok(());
        }
        // Those that start from here on are seen; then those that run already are looked for.
        let discovery = Discovery::new(&self.plan);
        for (pid, path) in discovery.outdated() {
            let path = path.display();
            self.output.warn(&format!(
                "process {pid} runs a former version of {path}, which was replaced: it is not probed (-x {pid} does)"
            ));
        }
        self.discovery = Some(discovery);
        self.discover(true);
        Ok(())
    }

    /// Runs the handlers of `process.begin` or `process.end` that are about a process, on its behalf: `pid()`,
    /// `tid()` and `execname()` are its own.
    pub(crate) fn run_for(&mut self, pid: i32, of_kind: impl Fn(&Kind) -> Option<&ProgramName>) {
        let Some(tracee) = self.tracees.get(&pid) else {
            return;
        };
        let record = tracee.record();
        self.run_as(pid, record, tracee.pid(), of_kind);
    }

    /// The same for a process that may not be there any more, or not yet: one like `like`, with its record.
    pub(crate) fn run_as(
        &mut self,
        pid: i32,
        record: u32,
        like: i32,
        of_kind: impl Fn(&Kind) -> Option<&ProgramName>,
    ) {
        let Some(owner) = self.tracees.get(&like).and_then(Tracee::owner) else {
            return;
        };
        let owner = Owner { pid, ..owner };
        let chosen: Vec<TracerProbe> = self
            .plan
            .tracer
            .iter()
            .filter(|p| of_kind(&p.kind).is_some() && self.plan.concerns(&p.kind, owner))
            .cloned()
            .collect();
        if chosen.is_empty() {
            return;
        }
        self.set_identity(pid as u32, record);
        self.run_chosen(chosen);
        self.set_identity(0, 0);
    }

    pub(crate) fn set_identity(&mut self, pid: u32, record: u32) {
        let layout = self.plan.compiled.layout();
        let at = layout.slot(0) + std::mem::offset_of!(Slot, process) as u64;
        if let Some(slot) = self.arena.slot(layout, 0) {
            slot.pid.store(pid, Ordering::Relaxed);
            slot.tid.store(pid, Ordering::Relaxed);
        }
        self.arena.write(at, &record.to_ne_bytes());
    }

    /// Runs the tracer's handlers of a kind, in order.
    fn run_handlers(&mut self, order: impl Fn(&Kind) -> Option<i64>) {
        let mut chosen: Vec<(i64, TracerProbe)> = self
            .plan
            .tracer
            .iter()
            .filter_map(|p| Some((order(&p.kind)?, p.clone())))
            .collect();
        chosen.sort_by_key(|(order, _)| *order);
        self.run_chosen(chosen.into_iter().map(|(_, probe)| probe));
    }

    fn run_chosen(&mut self, probes: impl IntoIterator<Item = TracerProbe>) {
        for probe in probes {
            if self.failed() && !matches!(probe.kind, Kind::Error(_)) {
                break;
            }
            // Once exit() was called, only end probes run (function::exit(3stap)).
            let asked = self.arena.header().exit_requested.load(Ordering::Relaxed) != 0;
            if asked && !matches!(probe.kind, Kind::End(_) | Kind::Error(_)) {
                break;
            }
            self.run_handler(probe.handler, probe.number);
            self.drain();
        }
    }

    fn run_handler(&mut self, handler: codegen::HandlerId, number: u32) {
        let result = self.tracer.run(handler, number);
        self.note_failure(result);
    }

    /// A handler of which no code could be made counts as one that failed.
    pub(crate) fn note_failure(&mut self, result: Result<(), codegen::LinkError>) {
        if let Err(error) = result {
            self.errors += 1;
            self.output.error(&error.to_string());
        }
    }

    /// Whether there were more errors than MAXERRORS.
    fn failed(&self) -> bool {
        self.errors > self.options.limits.max_errors
    }

    /// Writes what the rings hold. True when there was something.
    pub(crate) fn drain(&mut self) -> bool {
        let events = self.drain.take(&self.arena, self.plan.compiled.layout());
        self.write(events)
    }

    fn write(&mut self, events: Vec<Event>) -> bool {
        let busy = !events.is_empty();
        for event in events {
            match event {
                Event::Print(bytes) => self.print(&bytes),
                Event::Warn(text) => self.output.warn(&text),
                Event::Log(text) => self.output.say(&text),
                Event::Stack {
                    process,
                    layout,
                    addresses,
                } => self.print_stack(process, layout, &addresses),
                Event::System(command) => {
                    self.output.flush();
                    if let Err(error) = self.commands.start(&command) {
                        self.output.warn(&format!("system(): {error}"));
                    }
                }
                Event::SwitchFile => self.output.switch(),
                Event::FileSet(bytes) => {
                    if let Some(value) = &mut self.file_value {
                        value.set(&bytes);
                    }
                }
                Event::FileAppend(bytes) => {
                    if let Some(value) = &mut self.file_value {
                        value.append(&bytes);
                    }
                }
                Event::Raise {
                    process,
                    pid,
                    tid,
                    signal,
                } => self.raise(process, pid, tid, signal),
                Event::Error { .. } if self.options.suppress_errors => {}
                Event::Error { location, text } => {
                    self.errors += 1;
                    self.output.error(&message::runtime_error(
                        self.program,
                        &self.plan.compiled,
                        location,
                        &text,
                    ));
                }
            }
        }
        if busy {
            self.output.flush();
        }
        if let Some(monitor) = &mut self.monitor {
            monitor.take_output(&self.output.take_captured());
        }
        busy
    }

    fn print(&mut self, bytes: &[u8]) {
        let shown = bytes.strip_prefix(script::monitor::MARK.as_bytes());
        match (&mut self.monitor, shown) {
            (Some(monitor), Some(line)) => monitor.take_global(&String::from_utf8_lossy(line)),
            _ => self.output.print(bytes),
        }
    }

    fn begin_monitor(&mut self, interval: Duration) -> Result<(), SessionError> {
        let written = |probe: &ir::Probe| {
            let point = probe.points.first()?;
            (!point.point.components.first()?.name.text.eq("monitor"))
                .then(|| spell(point.via.first().unwrap_or(&point.point)))
        };
        let names: Vec<String> = self.program.probes.iter().map_while(written).collect();
        let monitor = Monitor::new(interval, names);
        self.monitor = Some(monitor.map_err(SessionError::Monitor)?);
        self.output.capture(self.options.output.is_none());
        Ok(())
    }

    /// Runs the control probes of a number ([`script::monitor`]).
    fn control(&mut self, number: i64) {
        let chosen: Vec<TracerProbe> = self
            .plan
            .tracer
            .iter()
            .filter(|p| p.kind == Kind::Monitor(number))
            .cloned()
            .collect();
        for probe in chosen {
            self.run_handler(probe.handler, probe.number);
        }
        self.drain();
    }

    /// Asks for the globals and shows everything.
    fn show_monitor(&mut self) {
        self.drain();
        if let Some(monitor) = &mut self.monitor {
            monitor.begin_globals();
        }
        self.control(script::monitor::SHOW);
        if let Some(monitor) = &mut self.monitor {
            monitor.show(&self.arena, &self.plan);
        }
    }

    /// Acts on what was typed; true when the session is to end.
    fn take_keys(&mut self) -> bool {
        let mut bytes = [0; 64];
        let count = rustix::io::read(rustix::stdio::stdin(), &mut bytes).unwrap_or(0);
        let Some(monitor) = &mut self.monitor else {
            return false;
        };
        // The terminal has gone.
        if count == 0 {
            return true;
        }
        let requests = monitor.keys(&bytes[..count]);
        for request in &requests {
            if let Request::Control(number) = request {
                self.control(*number);
            }
        }
        if !requests.is_empty() {
            self.show_monitor();
        }
        requests.contains(&Request::Quit)
    }

    /// Runs the `input` probes for what has come.
    fn take_input(&mut self) {
        let Some(input) = self.input.take() else {
            return;
        };
        let Some(bytes) = Input::read() else {
            return;
        };
        for byte in bytes {
            for (handler, number) in input.probes() {
                let result =
                    self.tracer
                        .run_sampled(handler, number, &Input::registers(byte), [0; 3]);
                self.note_failure(result);
                self.drain();
                if self.ended().is_some() {
                    return;
                }
            }
        }
        self.input = Some(input);
    }

    /// Sends the signal that a handler asked for to its thread.
    fn raise(&mut self, process: u32, inner_pid: u32, tid: u32, signal: i32) {
        let tracee = self.tracees.values().find(|t| t.record() == process);
        let pid = match tracee {
            Some(tracee) => tracee.pid(),
            // A handler of the session itself.
            None if inner_pid == std::process::id() => inner_pid.cast_signed(),
            None => return,
        };
        if let Err(error) = thread_signal::send(pid, inner_pid, tid, signal) {
            self.output.warn(&format!("raise({signal}): {error}"));
        }
    }

    fn print_stack(&mut self, process: u32, layout: u64, addresses: &[u64]) {
        let unknown = |names: &StackNames| addresses.iter().any(|&a| !names.knows(process, a));
        if unknown(&self.names)
            && let Some(tracee) = self.tracees.values().find(|t| t.record() == process)
            && self
                .names_asked
                .is_none_or(|t| t.elapsed() > NAMES_INTERVAL)
        {
            // A library loaded since, or code made at run time, which has no name.
            self.names.learn(process, &tracee.loaded_modules());
            self.names_asked = Some(Instant::now());
        }
        let text = self.names.print(process, layout, addresses);
        self.output.print(&text);
    }

    pub(crate) fn ended(&self) -> Option<Ending> {
        if self.errors > self.options.limits.max_errors {
            Some(Ending::Errors)
        } else if self.arena.header().exit_requested.load(Ordering::Relaxed) != 0 {
            Some(Ending::Asked)
        } else if self.output.is_closed() {
            Some(Ending::OutputClosed)
        } else {
            None
        }
    }

    /// The main loop: timers, rings, signals and the target's end.
    fn watch(&mut self) -> Result<Ending, SessionError> {
        let start = Instant::now();
        let deadline = self.options.timeout.map(|t| start + t);
        let mut schedule = Schedule::new(u64::from(std::process::id()));
        let timers: Vec<TracerProbe> = self
            .plan
            .tracer
            .iter()
            .filter(|p| matches!(p.kind, Kind::Timer(_)))
            .cloned()
            .collect();
        for (i, probe) in timers.iter().enumerate() {
            if let Kind::Timer(period) = probe.kind {
                schedule.add(i, period, start);
            }
        }
        let mut interval = DRAIN_BUSY;
        loop {
            let sampled = self.take_samples();
            let busy = self.drain() || sampled;
            interval = if busy {
                DRAIN_BUSY
            } else {
                (interval * 2).min(DRAIN_IDLE)
            };
            if let Some(ending) = self.ended() {
                return Ok(ending);
            }
            self.reclaim();
            let now = Instant::now();
            if deadline.is_some_and(|d| d <= now) {
                return Ok(Ending::Interrupted);
            }
            // Without a process in which handlers run, the rings fill only when a timer's handler runs.
            let look = (!self.tracees.is_empty()).then(|| now + interval);
            let search = self.discovery.as_ref().and_then(Discovery::next);
            let shown = self.monitor.as_ref().map(Monitor::next);
            if shown.is_some_and(|at| at <= now) {
                self.show_monitor();
            }
            let shown = self.monitor.as_ref().map(Monitor::next);
            let wake = [look, search, schedule.next(), deadline, shown]
                .into_iter()
                .flatten()
                .min();
            let ready = self.wait(wake.map(|w| w.saturating_duration_since(now)))?;
            if ready.signalled && self.signals.take() {
                return Ok(Ending::Interrupted);
            }
            if ready.typed && self.monitor.is_some() && self.take_keys() {
                return Ok(Ending::Interrupted);
            }
            if ready.typed && self.monitor.is_none() {
                self.take_input();
            }
            if ready.files {
                self.serve_files();
                if let Some(ending) = self.ended() {
                    return Ok(ending);
                }
            }
            if ready.noticed {
                self.take_notices();
                if let Some(ending) = self.ended() {
                    return Ok(ending);
                }
            }
            if ready.started || search.is_some_and(|at| at <= Instant::now()) {
                self.discover(ready.started);
            }
            for i in schedule.take_due(Instant::now()) {
                self.run_handler(timers[i].handler, timers[i].number);
                self.drain();
                if let Some(ending) = self.ended() {
                    return Ok(ending);
                }
            }
            if !ready.ended.is_empty() {
                self.take_samples();
            }
            let target_gone = self.target.is_some_and(|pid| ready.ended.contains(&pid));
            for pid in ready.ended {
                if Some(pid) != self.target {
                    self.forget(pid);
                }
            }
            if target_gone {
                // What ended before it may be told of only now.
                self.take_notices();
                self.forget_ended();
                return Ok(Ending::TargetGone);
            }
        }
    }

    /// Sleeps until a signal, the start or the end of a process, or the time.
    fn wait(&self, time: Option<Duration>) -> Result<Ready, SessionError> {
        let timeout = time.map(|t| Timespec {
            tv_sec: t.as_secs() as i64,
            tv_nsec: i64::from(t.subsec_nanos()),
        });
        let found = self.discovery.as_ref().and_then(Discovery::fd);
        let exits: Vec<_> = self.tracees.values().map(Tracee::exit_fd).collect();
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN)];
        fds.extend(exits.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        let noticed = self.watched.fd();
        fds.extend(noticed.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        fds.extend(found.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        let is_read = self.monitor.is_some() || self.input.is_some();
        let keyboard = is_read.then(rustix::stdio::stdin);
        fds.extend(keyboard.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        let files: Vec<_> = self.files.iter().flat_map(Files::fds).collect();
        let file_count = files.len();
        fds.extend(
            files
                .into_iter()
                .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)),
        );
        fds.extend(
            self.samplers
                .fds()
                .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)),
        );
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => {
                return Ok(Ready {
                    signalled: true,
                    ..Ready::default()
                });
            }
            Err(error) => return Err(SessionError::System(error.into())),
        }
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        Ok(Ready {
            signalled: ready.next().unwrap_or(false),
            ended: self
                .tracees
                .keys()
                .zip(ready.by_ref())
                .filter_map(|(pid, ended)| ended.then_some(*pid))
                .collect(),
            noticed: noticed.is_some() && ready.next().unwrap_or(false),
            started: found.is_some() && ready.next().unwrap_or(false),
            typed: keyboard.is_some() && ready.next().unwrap_or(false),
            files: ready.take(file_count).any(|is| is),
        })
    }

    /// Takes the probes out, runs what is to run at the end, and reports.
    fn finish(mut self, ending: Ending) -> Result<u8, SessionError> {
        if let Some(monitor) = self.monitor.take() {
            // What was shown stays on the terminal, as it would be without a monitor.
            let text = monitor.close();
            self.output.capture(false);
            if self.options.output.is_none() {
                self.output.print(&text);
            }
        }
        self.files = None;
        self.arena.header().stopped.store(1, Ordering::SeqCst);
        self.withdraw(ending);
        let last = self
            .drain
            .take_all(&self.arena, self.plan.compiled.layout());
        self.write(last);
        self.arena
            .header()
            .exit_requested
            .store(0, Ordering::Relaxed);
        if let Some(pid) = self.target.filter(|_| ending == Ending::TargetGone) {
            self.run_for(pid, end_of);
        }
        if !self.failed() {
            self.run_handlers(|kind| match kind {
                Kind::End(order) => Some(*order),
                _ => None,
            });
        }
        // The end probes may have brought the errors over the limit.
        if self.failed() {
            self.run_handlers(|kind| match kind {
                Kind::Error(order) => Some(*order),
                _ => None,
            });
        }
        if self.options.limits.timing && self.options.monitor.is_none() {
            let report = crate::timing::report(&self.arena, &self.plan, self.program);
            self.output.print(report.as_bytes());
        }
        self.output.flush();
        self.commands.wait(&self.signals);
        self.report_losses();
        if let Some(error) = self.output.failure() {
            return Err(SessionError::Output(error));
        }
        let mut status = 0;
        if let Some(exit) = self.exit_status.filter(|_| ending == Ending::TargetGone) {
            match exit {
                // Ctrl-C reaches the target as well, and may do so before it reaches us.
                ExitStatus::Code(0) | ExitStatus::Unknown | ExitStatus::Signal(libc::SIGINT) => {}
                ExitStatus::Code(code) => {
                    self.output
                        .warn(&format!("Child process exited with status {code}"));
                    status = 1;
                }
                ExitStatus::Signal(signal) => {
                    self.output.warn(&format!(
                        "Child process exited with signal {signal} ({})",
                        message::signal_name(signal)
                    ));
                    status = 1;
                }
            }
        }
        // Also when the errors were few enough to go on, or came from the last probes.
        if self.errors > 0 {
            self.output.say("Pass 5: run failed.  [man error::pass5]");
            status = 1;
        }
        Ok(status)
    }

    fn withdraw(&mut self, ending: Ending) {
        self.discovery = None;
        if ending == Ending::TargetGone
            && let Some(tracee) = self.target.and_then(|pid| self.tracees.get_mut(&pid))
        {
            self.exit_status = tracee.process().try_wait().ok().flatten();
        }
        self.withdraw_all();
    }

    fn report_losses(&mut self) {
        self.report_lost_samples();
        let layout = self.plan.compiled.layout();
        let dropped = arena::sum(&self.arena, layout, |slot| &slot.ring_dropped);
        if dropped > 0 {
            self.output.warn(&format!("There were {dropped} transport failures (output lost since a ring was full; -D SPILE_RING=BYTES enlarges it)."));
        }
        if self.drain.is_damaged() {
            self.output.warn(
                "the program has written over Spile's memory; output may be missing or wrong",
            );
        }
        let header = self.arena.header();
        let skipped = arena::sum(&self.arena, layout, |slot| &slot.skipped)
            .saturating_add(arena::sum(&self.arena, layout, |slot| &slot.skipped_locked))
            .saturating_add(header.skipped_no_slot.load(Ordering::Relaxed));
        let missed = header.missed_returns.load(Ordering::Relaxed);
        if missed > 0 {
            self.output.warn(&format!("{missed} returns were missed: more calls were in progress than there is room to remember."));
        }
        if self.errors > 0 || skipped > 0 {
            self.output.warn(&format!(
                "Number of errors: {}, skipped probes: {skipped}",
                self.errors
            ));
        }
    }
}
