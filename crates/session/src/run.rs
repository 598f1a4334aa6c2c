//! One run of one script: from the compiled plan to the last line of output.

use crate::arena::{self, Arena};
use crate::commands::Commands;
use crate::discovery::Discovery;
use crate::drain::Drain;
use crate::input::Input;
use crate::monitor::Monitor;
use crate::notices::Watched;
use crate::options::{Options, Target};
use crate::output::Output;
use crate::plan::{Owner, Plan, TracerProbe};
use crate::probe_point::{Kind, Program as ProgramName};
use crate::procfs::{FileValue, Files};
use crate::reclaim::Reclaim;
use crate::records::Records;
use crate::sampling::Samplers;
use crate::signals::Signals;
use crate::stack_names::StackNames;
use crate::timer::Schedule;
use crate::tracee::{Tracee, TraceeError, stop_when_started};
use crate::{SessionError, zone};
use codegen::TracerCode;
use inject::{ExitStatus, FileIdentity, Launch, Process, StackModule};
use runtime::layout::{Header, Slot};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use script::ir;
use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::mem::offset_of;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Longest time between two looks at the rings while the target is busy, and while it prints nothing.
const DRAIN_BUSY: Duration = Duration::from_millis(1);
const DRAIN_IDLE: Duration = Duration::from_millis(10);

/// The target as `-c` or `-x` gives it: held before `main` when it was launched, running when it ran.
pub fn hold_target(target: &Target) -> Result<Option<Tracee>, SessionError> {
    let process = match target {
        Target::None => return Ok(None),
        Target::Process(pid) => {
            let mut process = Process::find(inject::Pid(*pid)).map_err(TraceeError::from)?;
            // What stands in the way is said before anything else is done.
            stop_when_started(&mut process)?;
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
    pub(crate) drain: Drain,
    pub(crate) output: Output,
    pub(crate) signals: Signals,
    pub(crate) errors: u32,
    pub(crate) exit_status: Option<ExitStatus>,
    pub(crate) names: StackNames,
    /// When a process was last asked for modules that were not known.
    pub(crate) names_asked: Option<Instant>,
    /// What handlers in the tracer name addresses by: the modules of the first process.
    pub(crate) tracer_modules: Vec<StackModule>,
    pub(crate) samplers: Samplers,
    pub(crate) commands: Commands,
    pub(crate) monitor: Option<Monitor>,
    /// Where `input` probes read; gone when it has ended.
    pub(crate) input: Option<Input>,
    /// The files of `procfs` probes.
    pub(crate) files: Option<Files>,
    /// What the reader of one is going to get.
    pub(crate) file_value: Option<FileValue>,
    pub(crate) reclaim: Reclaim,
    pub(crate) watched: Watched,
    /// Processes that still have their probes since somebody else traces them, and why.
    pub(crate) held_elsewhere: Vec<(i32, TraceeError)>,
    /// A process could not be restored.
    pub(crate) is_left_behind: bool,
    /// More hits were skipped for want of a lock than are put up with.
    pub(crate) has_skipped_too_many: bool,
}

impl<'a> Run<'a> {
    /// Makes the arena, and the tracer's handlers executable.
    pub fn new(
        program: &'a ir::Program,
        options: &'a Options,
        plan: Plan<'a>,
        target: Option<Tracee>,
        mut output: Output,
    ) -> Result<Run<'a>, SessionError> {
        let signals = Signals::new().map_err(SessionError::System)?;
        let heeded = signals.as_fd().try_clone_to_owned();
        output.heed(heeded.map_err(SessionError::System)?);
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
            held_elsewhere: Vec::new(),
            is_left_behind: false,
            has_skipped_too_many: false,
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
                    started => match started.and_then(|()| self.watch()) {
                        Ok(ending) => ending,
                        Err(error) => {
                            self.withdraw_failed();
                            return Err(error);
                        }
                    },
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
    pub(crate) fn run_handlers(&mut self, order: impl Fn(&Kind) -> Option<i64>) {
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

    pub(crate) fn run_handler(&mut self, handler: codegen::HandlerId, number: u32) {
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
    pub(crate) fn failed(&self) -> bool {
        self.errors > self.options.limits.max_errors || self.has_skipped_too_many
    }

    /// Ends the session when more hits than MAXSKIPPED were skipped since a lock could not be had in time; those of handlers
    /// that were interrupted do not count (stap(1)).
    fn check_skipped(&mut self) {
        let locked = arena::sum(&self.arena, self.plan.compiled.layout(), |slot| {
            &slot.skipped_locked
        });
        if locked > u64::from(self.options.limits.max_skipped) && !self.options.suppress_errors {
            self.has_skipped_too_many = true;
            self.output.error(
                "Skipped too many probes, check MAXSKIPPED or try again with stap -t for more details.",
            );
        }
    }

    /// Writes what the rings hold. True when there was something.
    pub(crate) fn drain(&mut self) -> bool {
        let events = self.drain.take(&self.arena, self.plan.compiled.layout());
        self.write(events)
    }

    pub(crate) fn ended(&self) -> Option<Ending> {
        if self.failed() {
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
            self.check_skipped();
            interval = if busy {
                DRAIN_BUSY
            } else {
                (interval * 2).min(DRAIN_IDLE)
            };
            if let Some(ending) = self.ended() {
                return Ok(ending);
            }
            self.reclaim();
            // Until there is memory for it, hits in more threads are skipped, and told of.
            let _ = self.arena.lengthen(self.plan.compiled.layout());
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
}
