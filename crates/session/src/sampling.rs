//! `timer.profile`, `perf` and `process.data` probes: samples of the processes' threads, and the handlers that they run.

use crate::following::parent_of;
use crate::perf::{PerfError, Sample, Sampler, Watchpoint};
use crate::probe_point::{DataPlace, Kind};
use crate::run::Run;
use crate::stacks;
use crate::tracee::{Tracee, TraceeError};
use codegen::HandlerId;
use inject::StackModule;
use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A probe that samples.
#[derive(Debug)]
pub(crate) struct SampledProbe {
    handler: HandlerId,
    number: u32,
    /// Of which program; `None`: of the target.
    kind: Kind,
    sampler: Sampler,
}

impl Samplers {
    /// Descriptors that become readable when there are many samples.
    pub(crate) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.probes.iter().flat_map(|probe| probe.sampler.fds())
    }
}

/// All of a session.
#[derive(Debug, Default)]
pub(crate) struct Samplers {
    probes: Vec<SampledProbe>,
    /// By process, for walking the stacks in its samples.
    modules: HashMap<u32, Vec<StackModule>>,
    /// The process that the tracer's directory is about.
    listed: Option<u32>,
    looked: Option<Instant>,
}

/// Shortest time between two looks for modules that samples are in and nobody knows.
const LOOK: Duration = Duration::from_millis(100);

impl Run<'_> {
    /// Makes ready what `perf` probes there are.
    pub(crate) fn make_samplers(&mut self) {
        let stacks = stacks::needed(&self.plan.compiled).is_some_and(|parts| parts.frames);
        for probe in &self.plan.tracer {
            let event = match &probe.kind {
                Kind::Perf { event, .. } => Some(*event),
                Kind::Data { .. } => None,
                _ => continue,
            };
            self.samplers.probes.push(SampledProbe {
                handler: probe.handler,
                number: probe.number,
                kind: probe.kind.clone(),
                sampler: Sampler::new(event, stacks),
            });
        }
    }

    /// Begins to sample a process, which is held.
    pub(crate) fn sample_process(&mut self, pid: i32) -> Result<(), TraceeError> {
        let Some(tracee) = self.tracees.get_mut(&pid) else {
            return Ok(());
        };
        if self.samplers.probes.is_empty() {
            return Ok(());
        }
        // So that none is made unseen.
        tracee.process().stop_again()?;
        let threads = tracee.process().thread_ids();
        let tracee = &*tracee;
        let Some(owner) = tracee.owner() else {
            return Ok(());
        };
        for probe in &mut self.samplers.probes {
            if probe
                .kind
                .program()
                .is_some_and(|p| self.plan.applies(p, owner))
            {
                let watchpoint = watchpoint(&probe.kind, tracee)?;
                for thread in &threads {
                    match watchpoint {
                        Some(watchpoint) => probe.sampler.watch_thread(thread.0, watchpoint)?,
                        None => probe.sampler.add_thread(thread.0)?,
                    }
                }
            }
        }
        // Its samples may be taken when it is no more, and its modules can't be asked for.
        self.look_for_modules(pid as u32, pid);
        Ok(())
    }

    /// Says what was missed, if anything.
    pub(crate) fn report_lost_samples(&mut self) {
        let watches = self.samplers.probes.iter();
        let watches = watches.filter(|probe| matches!(probe.kind, Kind::Data { .. }));
        let lost: u64 = watches.map(|probe| probe.sampler.lost()).sum();
        if lost > 0 {
            self.output.warn(&format!(
                "{lost} hits of process.data probes were missed: memory was touched faster than handlers ran"
            ));
        }
    }

    /// Runs the handlers for what was sampled since the last call. True when there was something.
    pub(crate) fn take_samples(&mut self) -> bool {
        let mut taken = Vec::new();
        for probe in &mut self.samplers.probes {
            let (handler, number) = (probe.handler, probe.number);
            probe
                .sampler
                .take(|sample| taken.push((handler, number, sample)));
        }
        let any = !taken.is_empty();
        for (handler, number, sample) in taken {
            if self.ended().is_some() {
                break;
            }
            self.run_sampled(handler, number, &sample);
        }
        any
    }

    fn run_sampled(&mut self, handler: HandlerId, number: u32, sample: &Sample) {
        let like = self.likeness(sample.pid as i32);
        let record = self.tracees.get(&like).map_or(0, |t| t.record());
        self.list_modules(sample, like);
        self.set_identity(sample.pid, record);
        let layout = self.plan.compiled.layout();
        if let Some(slot) = self.arena.slot(layout, 0) {
            slot.tid.store(sample.tid, Ordering::Relaxed);
        }
        let snapshot = [
            sample.registers[4],
            sample.stack.as_ptr() as u64,
            sample.stack.len() as u64,
        ];
        let result = (self.tracer).run_sampled(handler, number, &sample.registers, snapshot);
        self.note_failure(result);
        self.drain();
        self.set_identity(0, 0);
    }

    /// The process of ours that a sampled one is, or that it is a child of: a child by fork has its parent's modules, and may
    /// have ended when its samples are read.
    fn likeness(&self, pid: i32) -> i32 {
        let known = |pid: &i32| self.tracees.contains_key(pid);
        Some(pid)
            .filter(known)
            .or_else(|| parent_of(pid).filter(known))
            .or(self.target)
            .or_else(|| self.tracees.keys().next().copied())
            .unwrap_or(pid)
    }

    /// Has the tracer's directory list the modules of the sampled process, which are those of the one that it is `like`.
    fn list_modules(&mut self, sample: &Sample, like: i32) {
        let samplers = &self.samplers;
        let place = sample.registers[16];
        let known = samplers.modules.get(&sample.pid);
        let is_strange =
            known.is_some_and(|modules| !modules.iter().any(|m| m.range.contains(&place)));
        if known.is_none() || is_strange && samplers.looked.is_none_or(|t| t.elapsed() > LOOK) {
            self.look_for_modules(sample.pid, like);
        }
        let samplers = &mut self.samplers;
        if samplers.listed != Some(sample.pid)
            && let Some(modules) = samplers.modules.get(&sample.pid)
        {
            self.tracer.directory().count.store(0, Ordering::Release);
            stacks::list_in_tracer(modules, &self.tracer);
            samplers.listed = Some(sample.pid);
        }
    }

    /// Learns what modules a process has, if any stack or name is asked for.
    fn look_for_modules(&mut self, pid: u32, like: i32) {
        let Some(parts) = stacks::needed(&self.plan.compiled) else {
            return;
        };
        let samplers = &mut self.samplers;
        let tracee = self.tracees.get(&like);
        let mut modules = tracee.map_or_else(Vec::new, |t| t.stack_modules(parts));
        // It may have ended as well.
        if modules.is_empty()
            && let Some(known) = samplers.modules.get(&(like as u32))
        {
            modules = known.clone();
        }
        samplers.looked = Some(Instant::now());
        if modules.is_empty() && samplers.modules.contains_key(&pid) {
            return;
        }
        if let Some(tracee) = tracee {
            self.names.learn(tracee.record(), &modules);
        }
        // The directory may hold the earlier ones' tables.
        self.tracer.directory().count.store(0, Ordering::Release);
        samplers.modules.insert(pid, modules);
        samplers.listed = None;
    }
}

/// The memory of a process that a `process.data` probe is about; `None` for other probes.
fn watchpoint(kind: &Kind, tracee: &Tracee) -> Result<Option<Watchpoint>, PerfError> {
    let Kind::Data { place, access, .. } = kind else {
        return Ok(None);
    };
    let (address, size) = match place {
        // An address of the program's file, which begins at 0 if it may be anywhere; below what any process has mapped.
        &DataPlace::Address(address, length) => {
            if length > 8 {
                return Err(PerfError::TooLong { address, length });
            }
            let program = tracee.images().first().filter(|image| image.bias() != 0);
            let inside = program.filter(|image| address < image.binary().symbol_table().end.0);
            let bias = inside.map_or(0, |image| image.bias());
            (address.wrapping_add(bias), length)
        }
        DataPlace::Named(name) => {
            let found = tracee.images().iter().find_map(|image| {
                let (address, size) = image.binary().data_object(name)?;
                Some((image.absolute(address), size))
            });
            found.ok_or_else(|| PerfError::NoVariable {
                name: name.clone(),
                pid: tracee.pid(),
            })?
        }
    };
    Ok(Some(Watchpoint::over(address, size, *access)))
}
