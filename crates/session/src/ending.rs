//! The end of a session: probes are taken out, the last handlers run, and what was lost is told.

use crate::probe_point::Kind;
use crate::run::{Ending, Run, end_of};
use crate::{SessionError, arena, message};
use inject::ExitStatus;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long between two attempts to restore a process that somebody else traces.
const LATE: Duration = Duration::from_millis(100);

impl Run<'_> {
    /// Takes the probes out, runs what is to run at the end, and reports.
    pub(crate) fn finish(mut self, ending: Ending) -> Result<u8, SessionError> {
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
        self.output.end();
        self.commands.wait(&self.signals);
        self.report_losses();
        self.withdraw_late();
        if let Some(error) = self.output.failure() {
            return Err(SessionError::Output(error));
        }
        let mut status = u8::from(self.is_left_behind);
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
        let any = self.errors > 0 && !self.options.suppress_errors;
        if any || self.has_skipped_too_many {
            self.output.say("Pass 5: run failed.  [man error::pass5]");
            status = 1;
        }
        Ok(status)
    }

    pub(crate) fn withdraw(&mut self, ending: Ending) {
        self.discovery = None;
        if ending == Ending::TargetGone
            && let Some(tracee) = self.target.and_then(|pid| self.tracees.get_mut(&pid))
        {
            self.exit_status = tracee.process().try_wait().ok().flatten();
        }
        self.withdraw_all();
    }

    /// Takes out what a session that fails has put into processes already. Those that it has put nothing into are left alone:
    /// somebody else may trace them.
    pub(crate) fn withdraw_failed(&mut self) {
        self.discovery = None;
        self.arena.header().stopped.store(1, Ordering::SeqCst);
        self.tracees
            .retain(|_, tracee| tracee.process().holds_ours());
        self.withdraw_all();
        self.withdraw_late();
    }

    /// Takes the probes out of processes that somebody else traced at the end, or that were frozen, once that is over, unless a signal comes first.
    /// Until then they do nothing.
    fn withdraw_late(&mut self) {
        for (pid, reason) in std::mem::take(&mut self.held_elsewhere) {
            self.output.warn(&format!(
                "{reason}; the probes in it are taken out when that has ended (Ctrl-C leaves them there)"
            ));
            self.held_elsewhere.push((pid, reason));
        }
        while !self.held_elsewhere.is_empty() && !self.signals.wait(LATE) {
            for (pid, _) in std::mem::take(&mut self.held_elsewhere) {
                self.withdraw_one(pid, None);
            }
        }
        for (_, reason) in std::mem::take(&mut self.held_elsewhere) {
            self.is_left_behind = true;
            self.output.error(&format!(
                "{reason}; the probes stay in it without effect until another session probes it"
            ));
        }
    }

    pub(crate) fn report_losses(&mut self) {
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
        let homeless = header.skipped_no_slot.load(Ordering::Relaxed);
        if homeless > 0 {
            let room = layout.slot_count.saturating_sub(1);
            self.output.warn(&format!("{homeless} hits were skipped in more than {room} threads at a time; -D SPILE_THREADS=NUMBER makes room."));
        }
        let skipped = arena::sum(&self.arena, layout, |slot| &slot.skipped)
            .saturating_add(arena::sum(&self.arena, layout, |slot| &slot.skipped_locked))
            .saturating_add(homeless);
        let unheard = self.watched.lost();
        if unheard > 0 {
            self.output.warn(&format!("{unheard} notices of processes were lost: children, programs or libraries may have run unprobed."));
        }
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
