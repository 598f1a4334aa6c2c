//! Tables for walking stacks and naming addresses: made when handlers need them, mapped into the process, listed in its
//! directory.

use codegen::{Compiled, TracerCode};
use inject::{Image, InjectError, Process, StackModule, TableParts};
use runtime::stack::table::{Directory, KnownStacks};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use std::fs::File;
use std::io::{self, Write};
use std::mem::offset_of;
use std::ops::Range;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

/// Which tables the handlers of a program use; `None` when none.
pub fn needed(compiled: &Compiled) -> Option<TableParts> {
    let parts = TableParts {
        frames: compiled.calls_any(&[
            "stack_print",
            "stack_print_at",
            "stack_text",
            "stack_callers",
            "stack_frame",
            "stack_names",
        ]),
        symbols: compiled.calls_any(&["stack_names", "address_name", "addresses_names"]),
        lines: compiled.calls_any(&["address_line"]),
    };
    compiled.needs_stack_tables().then_some(parts)
}

/// Bytes to be reserved for a process's directory beside its handlers.
pub const DIRECTORY_SIZE: u64 = size_of::<Directory>() as u64;

/// Tells a directory in a held process of an address that stands in the place of others, and of the table that says which.
pub fn note_returns(
    process: &mut Process,
    directory: u64,
    trampoline: u64,
    table: u64,
) -> Result<(), InjectError> {
    let range = [trampoline, trampoline + 1].map(u64::to_ne_bytes).concat();
    let at = |offset: usize| directory + offset as u64;
    process.write_code(at(offset_of!(Directory, frame_table)), &table.to_ne_bytes())?;
    process.write_code(at(offset_of!(Directory, return_code)), &range)
}

/// Places in the process that its directory tells of.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThreadStacks {
    /// How a thread learns its FS base, as [`Directory::thread_pointer`] says it.
    pub thread_pointer: u32,
    /// Address of its [`KnownStacks`].
    pub known_stacks: u64,
    /// The main thread's stack.
    pub main: [u64; 2],
}

/// A process's tables.
#[derive(Debug, Clone)]
pub struct Stacks {
    parts: TableParts,
    /// Address of the directory in the process; 0 when no handler of ours is in it.
    directory: u64,
    modules: Vec<StackModule>,
    used: usize,
}

impl Stacks {
    /// Makes the tables of what is mapped now. The process may run.
    pub fn prepare(process: &Process, parts: TableParts) -> Result<Stacks, InjectError> {
        Ok(Stacks {
            parts,
            directory: 0,
            modules: process.stack_modules(parts)?,
            used: 0,
        })
    }

    /// What the tables hold.
    pub fn parts(&self) -> TableParts {
        self.parts
    }

    /// The modules and their tables.
    pub fn modules(&self) -> &[StackModule] {
        &self.modules
    }

    /// Maps the tables into the held process and writes its directory to `directory`.
    pub fn install(
        &mut self,
        process: &mut Process,
        directory: u64,
        threads: ThreadStacks,
    ) -> Result<(), InjectError> {
        self.directory = directory;
        self.used = 0;
        let mut head = vec![0; offset_of!(Directory, modules)];
        let mut put = |offset: usize, bytes: &[u8]| {
            if let Some(place) = head.get_mut(offset..offset + bytes.len()) {
                place.copy_from_slice(bytes);
            }
        };
        put(
            offset_of!(Directory, thread_pointer),
            &threads.thread_pointer.to_ne_bytes(),
        );
        put(
            offset_of!(Directory, known_stacks),
            &threads.known_stacks.to_ne_bytes(),
        );
        for (n, word) in threads.main.iter().enumerate() {
            put(offset_of!(Directory, stack) + 8 * n, &word.to_ne_bytes());
        }
        process.write_code(directory, &head)?;
        let modules = self.modules.clone();
        self.map(process, &modules)
    }

    /// Brings the directory up to date with what is mapped into the held process.
    pub fn refresh(&mut self, process: &mut Process, images: &[Image]) -> Result<(), InjectError> {
        let known = |image: &Image| {
            let start = image.range().start;
            self.modules
                .iter()
                .any(|m| m.range.start == start && Arc::ptr_eq(&m.binary, image.binary()))
        };
        let new: Vec<&Image> = images.iter().filter(|image| !known(image)).collect();
        for image in new {
            self.add_module(process, image)?;
        }
        Ok(())
    }

    /// Adds a library that was loaded meanwhile, in the place of what was at its addresses before.
    fn add_module(&mut self, process: &mut Process, image: &Image) -> Result<(), InjectError> {
        let Some(module) = StackModule::of_image(image, self.parts) else {
            return Ok(());
        };
        self.remove_module(process, &module.range)?;
        self.map(process, std::slice::from_ref(&module))?;
        self.modules.push(module);
        Ok(())
    }

    /// Takes out what was listed for addresses that now are another module's, or nobody's.
    fn remove_module(
        &mut self,
        process: &mut Process,
        range: &Range<u64>,
    ) -> Result<(), InjectError> {
        let overlaps = |m: &StackModule| m.range.start < range.end && range.start < m.range.end;
        if self.directory != 0 {
            for (n, _) in self.modules.iter().enumerate().filter(|(_, m)| overlaps(m)) {
                let end = entry(self.directory, n) + END as u64;
                process.write(end, &0u64.to_ne_bytes())?;
            }
        }
        // Numbers of modules are places in the directory: what is gone keeps its place, empty.
        for module in self.modules.iter_mut().filter(|m| overlaps(m)) {
            module.range = 0..0;
        }
        Ok(())
    }

    /// Appends modules to the directory, their tables mapped together.
    fn map(&mut self, process: &mut Process, modules: &[StackModule]) -> Result<(), InjectError> {
        if self.directory == 0 {
            return Ok(());
        }
        let room = runtime::stack::table::MODULES - self.used;
        let modules = modules.get(..room).unwrap_or(modules);
        let file = shared(modules).map_err(|source| InjectError::System {
            call: "memfd_create for unwind tables".into(),
            source,
        })?;
        let len: u64 = modules.iter().map(|m| padded(m.table.len())).sum();
        if len == 0 {
            return Ok(());
        }
        let mut table = process.share_read_only(file.as_fd(), len)?;
        let mut entries = Vec::with_capacity(modules.len() * ENTRY);
        for module in modules {
            let size = module.table.len() as u64;
            for word in [module.range.start, module.range.end, table, size] {
                entries.extend(word.to_ne_bytes());
            }
            table += padded(module.table.len());
        }
        process.write(entry(self.directory, self.used), &entries)?;
        self.used += modules.len();
        let count = self.directory + offset_of!(Directory, count) as u64;
        process.write(count, &(self.used as u32).to_ne_bytes())
    }
}

/// Lists modules in the tracer's own directory, for handlers that run in the tracer. They find the tables where
/// `modules` holds them, which has to outlive their use.
pub fn list_in_tracer(modules: &[StackModule], tracer: &TracerCode) {
    for module in modules.iter().filter(|m| !m.range.is_empty()) {
        let table = module.table.as_ptr() as u64;
        let len = module.table.len() as u64;
        if !inject::add_module(tracer.directory(), &module.range, table, len) {
            return;
        }
    }
}

const ENTRY: usize = size_of::<runtime::stack::table::ModuleEntry>();
const END: usize = offset_of!(runtime::stack::table::ModuleEntry, end);
// The words of an entry are written in this order.
const _: () = assert!(ENTRY == 32 && END == 8);

fn entry(directory: u64, index: usize) -> u64 {
    directory + (offset_of!(Directory, modules) + index * ENTRY) as u64
}

fn padded(len: usize) -> u64 {
    len.next_multiple_of(64) as u64
}

/// A memory object with the tables one behind the other, which nobody can change any more.
fn shared(modules: &[StackModule]) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(memfd_create("spile stacks", flags)?);
    for module in modules {
        file.write_all(&module.table)?;
        let rest = padded(module.table.len()) as usize - module.table.len();
        file.write_all(&vec![0; rest])?;
    }
    fcntl_add_seals(
        &file,
        SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL,
    )?;
    Ok(file)
}

/// Bytes of the table that each process has for the stacks of its threads.
pub const KNOWN_STACKS_SIZE: u64 = size_of::<KnownStacks>() as u64;

/// Addresses in which nothing but the main thread's stack can be: from its end as far down as it may grow, but not as far
/// as the kernel may place other mappings (128 MiB: `mmap_base` in the kernel's arch/x86/mm/mmap.c).
pub fn main_stack(process: &Process) -> [u64; 2] {
    const GAP: u64 = 128 << 20;
    let maps = process.maps().unwrap_or_default();
    let stack = maps
        .iter()
        .find(|m| m.path.as_deref() == Some(Path::new("[stack]")));
    let Some(stack) = stack else { return [0, 0] };
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.pid()));
    let limits = limits.unwrap_or_default();
    let limit = limits
        .lines()
        .find_map(|l| l.strip_prefix("Max stack size"))
        .and_then(|l| l.split_whitespace().next())
        .and_then(|l| l.parse::<u64>().ok());
    // Without a limit the kernel lays memory out the other way, with mappings below the stack.
    let depth = limit.map_or(0, |l| l.min(GAP));
    [stack.start.min(stack.end.saturating_sub(depth)), stack.end]
}
