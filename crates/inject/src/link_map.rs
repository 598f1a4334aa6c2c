//! What debuggers are told of code that is in no file.
//!
//! A debugger reads unwind tables from files, and which files those are from the dynamic linker's list of what it has
//! loaded (`struct r_debug`, <link.h>). Since glibc 2.35 there is one such list for each name space, all of them chained
//! by `r_next`; nobody but debuggers goes along that chain, save dlmopen(3) when it makes a name space. There we add a name
//! space of our own with one entry: a file in memory, which is the tracer's, that describes the code that replaced return
//! addresses lead to. The program's own lists stay as they are.

use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use crate::arch::ReturnTrampoline;
use crate::error::InjectError;
use crate::mapping::PAGE;
use crate::process::Process;
use crate::ptrace;
use crate::record::Mapped;

/// Offsets in `struct r_debug_extended`, and its size.
const VERSION: u64 = 0;
const MAP: u64 = 8;
const BREAK: u64 = 16;
const NEXT: u64 = 40;
const SIZE: u64 = 48;
/// Of the entry, and of its name, from the start of our page.
const ENTRY: u64 = 64;
const NAME: u64 = 128;
/// How many name spaces there may be.
const MOST: usize = 64;
/// What glibc has had since it has chained them.
const SINCE: &str = "_dl_find_object";

impl Process {
    /// Tells debuggers how to unwind from the code of replaced return addresses. Where the C library keeps no chain of
    /// lists, they cannot be told.
    ///
    /// # Errors
    /// As [`Process::map_private`].
    pub fn tell_debuggers(&mut self, trampoline: &ReturnTrampoline) -> Result<(), InjectError> {
        self.require_held()?;
        let images = self.images()?;
        let chained = images.iter().any(|i| i.binary().symbol(SINCE).is_some());
        let Some(list) = self.debug_state()?.filter(|_| chained) else {
            return Ok(());
        };
        let next = self.read_u64(list + NEXT)?;
        match self.read_u64(list + VERSION)? as u32 {
            1 if next == 0 => {}
            2 => {}
            _ => return Ok(()),
        }
        let (base, file) = trampoline.file();
        let Ok(shown) = in_memory(&file) else {
            return Ok(());
        };
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let page = self.map_private(PAGE, prot, false)?;
        let name = format!("/proc/{}/fd/{}\0", std::process::id(), shown.as_raw_fd());
        let mut bytes = vec![0; NAME as usize];
        let mut put = |at: u64, value: u64| {
            if let Some(place) = bytes.get_mut(at as usize..at as usize + 8) {
                place.copy_from_slice(&value.to_le_bytes());
            }
        };
        put(VERSION, 2);
        put(MAP, page + ENTRY);
        put(BREAK, self.read_u64(list + BREAK)?);
        put(NEXT, next);
        // struct link_map: where it is loaded, its name, its dynamic section (it has none), next, previous.
        put(ENTRY, base);
        put(ENTRY + 8, page + NAME);
        bytes.extend(name.as_bytes());
        self.write(page, &bytes)?;
        self.write(list + NEXT, &page.to_le_bytes())?;
        self.write(list + VERSION, &2u32.to_le_bytes())?;
        self.shown_to_debuggers.push(Arc::new(shown));
        Ok(())
    }

    /// Takes what is in memory that is about to be unmapped out of the chain of lists. True when a thread may be going along
    /// it right now: then all is left as it is. Every thread is stopped.
    pub(crate) fn leave_debuggers(&mut self, mapped: &[Mapped]) -> Result<bool, InjectError> {
        // Whoever replaces no return addresses has put nothing there.
        if mapped.iter().all(|m| m.returns.is_none()) {
            return Ok(false);
        }
        let ranges = mapped
            .iter()
            .map(|m| m.start..m.start.saturating_add(m.len));
        let ranges: Vec<Range<u64>> = ranges.collect();
        let Ok(Some(list)) = self.debug_state() else {
            return Ok(false);
        };
        let holds = |at: u64| ranges.iter().any(|range| range.contains(&at));
        let chain = self.chain(list);
        if !chain.iter().any(|&(_, next)| holds(next)) {
            return Ok(false);
        }
        self.stop_running()?;
        let ours: Vec<Range<u64>> = chain
            .iter()
            .filter(|&&(_, next)| holds(next))
            .map(|&(_, next)| next..next + SIZE)
            .collect();
        for tid in self.thread_ids() {
            let registers = ptrace::registers(tid);
            let r = self.or_death(registers)?;
            let held = [
                r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rbp, r.r8, r.r9, r.r10, r.r11, r.r12,
                r.r13, r.r14, r.r15,
            ];
            if held
                .iter()
                .any(|v| ours.iter().any(|node| node.contains(v)))
            {
                return Ok(true);
            }
        }
        // Those that stay, each followed by the next that does.
        let mut stay: Vec<u64> = vec![list];
        stay.extend(chain.iter().map(|&(_, next)| next).filter(|&at| !holds(at)));
        for (index, &at) in stay.iter().enumerate() {
            let next = stay.get(index + 1).copied().unwrap_or(0);
            if self.read_u64(at + NEXT)? != next {
                self.write(at + NEXT, &next.to_le_bytes())?;
            }
        }
        if stay.len() == 1 {
            self.write(list + VERSION, &1u32.to_le_bytes())?;
        }
        Ok(false)
    }

    /// The lists from the first on, as pairs of one and the next. Empty where there is no chain.
    fn chain(&self, list: u64) -> Vec<(u64, u64)> {
        let mut chain = Vec::new();
        let mut at = list;
        // In the version without a chain something else stands behind the first list.
        if !matches!(self.read_u64(list + VERSION), Ok(version) if version as u32 == 2) {
            return chain;
        }
        while chain.len() < MOST
            && let Ok(next) = self.read_u64(at + NEXT)
            && next != 0
        {
            chain.push((at, next));
            at = next;
        }
        chain
    }
}

/// A file without a name, which lasts as long as its descriptor.
fn in_memory(bytes: &[u8]) -> std::io::Result<File> {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::memfd_create("spile-return", flags)?);
    file.write_all(bytes)?;
    Ok(file)
}
