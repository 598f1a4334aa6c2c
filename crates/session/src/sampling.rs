//! `timer.profile` and `perf` probes: samples of the processes' threads, and the handlers that they run.

use crate::perf::{Sample, Sampler};
use crate::probe_point::Kind;
use crate::run::Run;
use crate::stacks;
use crate::tracee::TraceeError;
use codegen::HandlerId;
use inject::StackModule;
use std::collections::HashMap;
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
            if let Kind::Perf { event, .. } = &probe.kind {
                self.samplers.probes.push(SampledProbe {
                    handler: probe.handler,
                    number: probe.number,
                    kind: probe.kind.clone(),
                    sampler: Sampler::new(*event, stacks),
                });
            }
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
        let Some(owner) = tracee.owner() else {
            return Ok(());
        };
        for probe in &mut self.samplers.probes {
            if probe
                .kind
                .program()
                .is_some_and(|p| self.plan.applies(p, owner))
            {
                for thread in &threads {
                    probe.sampler.add_thread(thread.0)?;
                }
            }
        }
        // Its samples may be taken when it is no more, and its modules can't be asked for.
        self.look_for_modules(pid as u32);
        Ok(())
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
        let tracee = self.tracees.get(&(sample.pid as i32));
        let record = tracee.map_or(0, |t| t.record());
        self.list_modules(sample);
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

    /// Has the tracer's directory list the modules of the sampled process.
    fn list_modules(&mut self, sample: &Sample) {
        let samplers = &self.samplers;
        let place = sample.registers[16];
        let known = samplers.modules.get(&sample.pid);
        let is_strange =
            known.is_some_and(|modules| !modules.iter().any(|m| m.range.contains(&place)));
        if known.is_none() || is_strange && samplers.looked.is_none_or(|t| t.elapsed() > LOOK) {
            self.look_for_modules(sample.pid);
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
    fn look_for_modules(&mut self, pid: u32) {
        let Some(parts) = stacks::needed(&self.plan.compiled) else {
            return;
        };
        let samplers = &mut self.samplers;
        let tracee = self.tracees.get(&(pid as i32));
        let modules = tracee.map_or_else(Vec::new, |t| t.stack_modules(parts));
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
