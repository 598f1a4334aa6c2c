//! Running a launched program to the moment when its libraries are there but none of their code
//! has run.
//!
//! The dynamic linker tells debuggers about its progress: it calls the empty function
//! `_dl_debug_state` whenever the state in `struct r_debug` has changed (link.h, "Rendezvous").
//! At start, `RT_CONSISTENT` is reached when everything is mapped and relocated and before the
//! first constructor, in glibc as in musl.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use symbols::Binary;

use crate::error::InjectError;
use crate::process::{Pid, Process, State, open_memory};
use crate::ptrace::{self, Event};
use crate::stop::{Thread, is_gone, thread_state};

/// `RT_CONSISTENT` of link.h.
const CONSISTENT: u32 = 0;
/// Offset of `r_state` in `struct r_debug`: behind version, map and brk.
const STATE_OFFSET: u64 = 24;
/// `int3` (Intel SDM volume 2).
const BREAKPOINT: [u8; 1] = [0xcc];
/// Program header and dynamic section constants of the System V ABI.
const PT_DYNAMIC: u32 = 2;
const PT_PHDR: u32 = 6;
const DT_DEBUG: u64 = 21;

/// Where a run ended.
enum Reached {
    /// A thread came to the breakpoint, and stands at its address.
    Breakpoint(Pid),
    /// The program was replaced by another.
    Exec,
}

/// Where the dynamic linker of a freshly started program announces its progress.
struct Rendezvous {
    /// Absolute address of `_dl_debug_state`.
    announce: u64,
    /// Absolute address of `_r_debug`, if it has that symbol.
    state: Option<u64>,
}

impl Process {
    /// Runs a launched program until the libraries it starts with are mapped and relocated, before
    /// any constructor; a static program stays before its first instruction. Held again when it
    /// returns.
    ///
    /// # Errors
    /// [`InjectError::DiedStarting`] when it ends before: a library is missing, say.
    pub fn run_to_libraries_loaded(&mut self) -> Result<(), InjectError> {
        match self.run_to_consistent() {
            Err(InjectError::Exited { pid, status }) => {
                Err(InjectError::DiedStarting { pid, status })
            }
            other => other,
        }
    }

    fn run_to_consistent(&mut self) -> Result<(), InjectError> {
        self.require_held()?;
        'program: loop {
            let vector = self.auxiliary_vector()?;
            let program = PathBuf::from(format!("/proc/{}/exe", self.pid));
            let binary = open(&program, &program)?;
            let rendezvous = match self.rendezvous(&binary, &vector)? {
                Some(rendezvous) => rendezvous,
                None if binary.interpreter().is_none() => return Ok(()),
                // A dynamic linker that does not speak to debuggers: the program's own entry is
                // the next best place.
                None => match self.run_to(vector.entry)? {
                    Reached::Breakpoint(_) => return Ok(()),
                    Reached::Exec => continue 'program,
                },
            };
            loop {
                let tid = match self.run_to(rendezvous.announce)? {
                    Reached::Breakpoint(tid) => tid,
                    Reached::Exec => continue 'program,
                };
                let debug = match self.debug_address(&vector) {
                    Some(address) => Some(address),
                    None => rendezvous.state,
                };
                let mut state = [0; 4];
                let known =
                    debug.is_some_and(|at| self.read(at + STATE_OFFSET, &mut state).is_ok());
                if !known || u32::from_le_bytes(state) == CONSISTENT {
                    return Ok(());
                }
                self.step_once(tid)?;
            }
        }
    }

    /// Whether the process, which runs free, was stopped by a signal.
    pub fn is_stopped_by_signal(&self) -> bool {
        thread_state(self.pid, self.pid) == Some('T')
    }

    /// Whether the libraries that the held process's program starts with are not all there yet: what is done to it had better
    /// wait, unless it is [stopped by a signal](Process::is_stopped_by_signal) and does not get there.
    ///
    /// # Errors
    /// [`InjectError::NotHeld`]; as [`Process::images`].
    pub fn is_starting(&self) -> Result<bool, InjectError> {
        self.require_held()?;
        let Some(debug) = self.debug_state()? else {
            return Ok(false);
        };
        // struct r_debug, link.h: all 0 until the dynamic linker has come to it.
        let (mut version, mut state) = ([0; 4], [0; 4]);
        if self.read(debug, &mut version).is_err()
            || self.read(debug + STATE_OFFSET, &mut state).is_err()
        {
            return Ok(false);
        }
        let is_unknown = u32::from_le_bytes(version) == 0;
        Ok(is_unknown || u32::from_le_bytes(state) != CONSISTENT)
    }

    /// The address of `_dl_debug_state`, which the dynamic linker calls at each change; `None` in a static program.
    pub(crate) fn announcement(&self) -> Result<Option<u64>, InjectError> {
        Ok(self.rendezvous_now()?.map(|rendezvous| rendezvous.announce))
    }

    /// The address of `struct r_debug`.
    pub(crate) fn debug_state(&self) -> Result<Option<u64>, InjectError> {
        let stored = self.debug_address(&self.auxiliary_vector()?);
        match stored {
            Some(address) => Ok(Some(address)),
            None => Ok(self
                .rendezvous_now()?
                .and_then(|rendezvous| rendezvous.state)),
        }
    }

    fn rendezvous_now(&self) -> Result<Option<Rendezvous>, InjectError> {
        let program = PathBuf::from(format!("/proc/{}/exe", self.pid));
        self.rendezvous(&open(&program, &program)?, &self.auxiliary_vector()?)
    }

    fn rendezvous(
        &self,
        program: &Binary,
        vector: &AuxiliaryVector,
    ) -> Result<Option<Rendezvous>, InjectError> {
        let find = |binary: &Binary, bias: u64| {
            binary.symbol("_dl_debug_state").map(|announce| Rendezvous {
                announce: announce.0.wrapping_add(bias),
                state: binary.symbol("_r_debug").map(|at| at.0.wrapping_add(bias)),
            })
        };
        match program.interpreter() {
            Some(path) => {
                let inside = format!("/proc/{}/root{path}", self.pid);
                let interpreter = open(Path::new(&inside), Path::new(path))?;
                Ok(find(&interpreter, vector.base))
            }
            // The dynamic linker itself, run as a command. (A static program may have the function,
            // too, but does not export it.)
            None if exports(program, "_dl_debug_state") => {
                Ok(find(program, vector.entry.wrapping_sub(program.entry().0)))
            }
            None => Ok(None),
        }
    }

    /// The address of `struct r_debug` that the dynamic linker has stored in the program's dynamic
    /// section.
    fn debug_address(&self, vector: &AuxiliaryVector) -> Option<u64> {
        let mut bias = 0u64;
        let mut dynamic = None;
        for index in 0..vector.header_count.min(64) {
            let header = self
                .read_vec(vector.headers + index * vector.header_size, 56)
                .ok()?;
            let kind = u32::from_le_bytes(header.get(..4)?.try_into().ok()?);
            let address = u64::from_le_bytes(header.get(16..24)?.try_into().ok()?);
            match kind {
                PT_PHDR => bias = vector.headers.wrapping_sub(address),
                PT_DYNAMIC => dynamic = Some(address),
                _ => {}
            }
        }
        let table = dynamic?.wrapping_add(bias);
        for index in 0..256 {
            let tag = self.read_u64(table + index * 16).ok()?;
            match tag {
                0 => return None,
                DT_DEBUG => {
                    let value = self.read_u64(table + index * 16 + 8).ok()?;
                    return (value != 0).then_some(value);
                }
                _ => {}
            }
        }
        None
    }

    /// Runs all threads until one comes to `address`; then all are stopped again.
    fn run_to(&mut self, address: u64) -> Result<Reached, InjectError> {
        let mut original = [0];
        self.read(address, &mut original)?;
        self.write_code(address, &BREAKPOINT)?;
        for tid in self.thread_ids() {
            let resumed = ptrace::resume(tid, 0);
            self.or_death(resumed)?;
        }
        let mut pause = Duration::from_micros(20);
        loop {
            let tids = self.thread_ids();
            let mut quiet = true;
            for &tid in &tids {
                let event = if tids.len() == 1 {
                    ptrace::wait_event(tid).map(Some)
                } else {
                    ptrace::poll_event(tid)
                };
                let Ok(event) = event else {
                    self.threads.remove(&tid);
                    if self.threads.is_empty() {
                        return Err(self.note_death());
                    }
                    continue;
                };
                let Some(event) = event else { continue };
                quiet = false;
                if let Some(reached) = self.handle_start_event(tid, event, address, original)? {
                    return Ok(reached);
                }
            }
            if quiet {
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(1));
            }
        }
    }

    fn handle_start_event(
        &mut self,
        tid: Pid,
        event: Event,
        address: u64,
        original: [u8; 1],
    ) -> Result<Option<Reached>, InjectError> {
        let resumed = match event {
            Event::Signal(libc::SIGTRAP) => {
                let mut registers = ptrace::registers(tid)?;
                if registers.rip != address + 1 {
                    ptrace::resume(tid, libc::SIGTRAP)
                } else {
                    registers.rip = address;
                    ptrace::set_registers(tid, &registers)?;
                    self.threads.insert(tid, Thread::Stopped);
                    self.stop_others(tid)?;
                    self.write_code(address, &original)?;
                    return Ok(Some(Reached::Breakpoint(tid)));
                }
            }
            Event::Signal(signal) => ptrace::resume(tid, signal),
            Event::GroupStop => ptrace::listen(tid),
            Event::Interrupted | Event::Syscall => ptrace::resume(tid, 0),
            Event::Clone => {
                let thread = Pid(ptrace::event_message(tid)? as i32);
                self.threads.insert(thread, Thread::Stopping);
                ptrace::resume(tid, 0)
            }
            Event::Fork => {
                let child = Pid(ptrace::event_message(tid)? as i32);
                self.let_child_go(child, address, original);
                ptrace::resume(tid, 0)
            }
            Event::Exec => {
                self.forget_address_space()?;
                check_gone(self, tid);
                ptrace::interrupt(tid)?;
                ptrace::resume(tid, 0)?;
                self.threads.insert(tid, Thread::Stopping);
                self.await_stop(tid, Instant::now() + Duration::from_secs(5))?;
                return Ok(Some(Reached::Exec));
            }
            Event::Exited(status) => {
                self.threads.remove(&tid);
                if tid == self.pid {
                    self.state = State::Exited(status);
                    return Err(self.note_death());
                }
                Ok(())
            }
        };
        match resumed {
            // Killed in between: the next wait tells.
            Err(error) if !is_gone(&error) => Err(error),
            _ => Ok(None),
        }
    }

    /// A process forked before the program has begun is not our concern, but our breakpoint must
    /// not stay in it.
    fn let_child_go(&mut self, child: Pid, address: u64, original: [u8; 1]) {
        while let Ok(event) = ptrace::wait_event(child) {
            match event {
                Event::Exited(_) => return,
                Event::Interrupted | Event::GroupStop => break,
                _ => {
                    let _ = ptrace::resume(child, 0);
                }
            }
        }
        if let Ok(memory) = open_memory(child) {
            let _ = std::os::unix::fs::FileExt::write_all_at(&memory, &original, address);
        }
        let _ = ptrace::detach(child, 0);
    }

    fn stop_others(&mut self, stopped: Pid) -> Result<(), InjectError> {
        let deadline = Instant::now() + Duration::from_secs(5);
        for tid in self.thread_ids() {
            if tid != stopped {
                self.threads.insert(tid, Thread::Stopping);
                let _ = ptrace::interrupt(tid);
            }
        }
        for tid in self.thread_ids() {
            if tid != stopped {
                self.await_stop(tid, deadline)?;
            }
        }
        Ok(())
    }

    /// Has one thread execute one instruction.
    pub(crate) fn step_once(&mut self, tid: Pid) -> Result<(), InjectError> {
        let stepped = ptrace::step(tid, 0);
        self.or_death(stepped)?;
        loop {
            let resumed = match ptrace::wait_event(tid) {
                Ok(Event::Signal(libc::SIGTRAP)) => return Ok(()),
                Ok(Event::Exited(status)) => {
                    if tid == self.pid {
                        self.state = State::Exited(status);
                    }
                    return Err(self.note_death());
                }
                Ok(Event::Signal(signal)) => ptrace::step(tid, signal),
                Ok(_) => ptrace::step(tid, 0),
                Err(_) => return Err(self.note_death()),
            };
            self.or_death(resumed)?;
        }
    }

    fn auxiliary_vector(&self) -> Result<AuxiliaryVector, InjectError> {
        let path = format!("/proc/{}/auxv", self.pid);
        let bytes = fs::read(&path).map_err(|source| self.proc_error(path, source))?;
        Ok(AuxiliaryVector::parse(&bytes))
    }
}

/// After an exec only the calling thread is left, under the leader's number.
fn check_gone(process: &mut Process, tid: Pid) {
    process.threads.retain(|&other, _| other == tid);
}

fn exports(binary: &Binary, name: &str) -> bool {
    let named = binary.functions_named(name);
    named.iter().any(|function| function.exported)
}

fn open(path: &Path, shown: &Path) -> Result<Binary, InjectError> {
    Binary::open(path).map_err(|source| InjectError::Binary {
        path: shown.to_owned(),
        source,
    })
}

/// What the kernel tells a program at its start (getauxval(3)).
#[derive(Debug, Default, PartialEq, Eq)]
struct AuxiliaryVector {
    headers: u64,
    header_size: u64,
    header_count: u64,
    base: u64,
    entry: u64,
}

impl AuxiliaryVector {
    fn parse(bytes: &[u8]) -> AuxiliaryVector {
        let mut vector = AuxiliaryVector {
            header_size: 56,
            ..Default::default()
        };
        for pair in bytes.chunks_exact(16) {
            let word = |at: usize| {
                let mut word = [0; 8];
                word.copy_from_slice(&pair[at..at + 8]);
                u64::from_le_bytes(word)
            };
            let value = word(8);
            match word(0) {
                libc::AT_PHDR => vector.headers = value,
                libc::AT_PHENT => vector.header_size = value,
                libc::AT_PHNUM => vector.header_count = value,
                libc::AT_BASE => vector.base = value,
                libc::AT_ENTRY => vector.entry = value,
                _ => {}
            }
        }
        vector
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Type numbers from getauxval(3) and elf.h: AT_PHDR 3, AT_BASE 7, AT_ENTRY 9.
    #[test]
    fn the_auxiliary_vector_is_read() {
        let words = [3u64, 0x40, 7, 0x7000, 9, 0x1234, 0, 0];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let vector = AuxiliaryVector::parse(&bytes);
        assert_eq!(
            (vector.headers, vector.base, vector.entry),
            (0x40, 0x7000, 0x1234)
        );
    }
}
