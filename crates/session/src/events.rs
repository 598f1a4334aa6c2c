//! What handlers ask of the tracer in their records: output, signals, stacks to be named.

use crate::drain::Event;
use crate::run::Run;
use crate::stack_names::StackNames;
use crate::{message, thread_signal};
use std::time::{Duration, Instant};

/// Shortest time between two looks for modules that backtraces name and nobody knows.
const NAMES_INTERVAL: Duration = Duration::from_millis(100);

impl Run<'_> {
    pub(crate) fn write(&mut self, events: Vec<Event>) -> bool {
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
                // They are counted all the same, and the count is told at the end.
                Event::Error { .. } if self.options.suppress_errors => self.errors += 1,
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

    pub(crate) fn print(&mut self, bytes: &[u8]) {
        let shown = bytes.strip_prefix(script::monitor::MARK.as_bytes());
        match (&mut self.monitor, shown) {
            (Some(monitor), Some(line)) => monitor.take_global(&String::from_utf8_lossy(line)),
            _ => self.output.print(bytes),
        }
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
}
