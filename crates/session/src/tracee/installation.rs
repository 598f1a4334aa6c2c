//! What is mapped into a probed process beside its patches: the arena, the run time, handlers, and their tables.

use super::{Installed, Tracee, TraceeError, has_fsgsbase};
use crate::arena::Arena;
use crate::returns::{self, Interception};
use crate::stacks::{self, DIRECTORY_SIZE, KNOWN_STACKS_SIZE, Stacks, ThreadStacks};
use codegen::{
    Compiled, FRAME_TABLE, HandlerId, ProcessLink, Registers, STACK_TABLES, ThreadPointer,
};
use inject::{Image, InjectError};
use runtime::frames;
use runtime::layout::{Header, ThreadTable};
use runtime_blob::Blob;
use std::collections::{HashMap, HashSet};

/// Whether a process can't have many more mappings.
fn has_all_mappings(pid: inject::Pid) -> bool {
    const MARGIN: usize = 16;
    let most = inject::read_proc("/proc/sys/vm/max_map_count").ok();
    let most = most.and_then(|most| most.trim().parse::<usize>().ok());
    let now = inject::read_maps(pid).map_or(0, |maps| maps.len());
    most.is_some_and(|most| now + MARGIN >= most)
}

impl Tracee {
    /// Maps the arena, the thread table and the run time.
    pub(super) fn install(&mut self, arena: &Arena) -> Result<Installed, TraceeError> {
        self.check_confinement()?;
        let blob = Blob::load().map_err(|e| TraceeError::Blob(e.to_string()))?;
        let shared = self.process.share(arena.fd(), arena.len() as u64);
        let shared = shared.map_err(|error| match error {
            InjectError::Remote { pid, source, .. }
                if matches!(
                    source.raw_os_error(),
                    Some(libc::ENOMEM | libc::EAGAIN)
                ) =>
            {
                TraceeError::NoRoom {
                    pid: pid.0,
                    mib: arena.len() as u64 >> 20,
                    why: match source.raw_os_error() {
                        Some(libc::EAGAIN) => {
                            "it locks its memory, and its RLIMIT_MEMLOCK, `ulimit -l`, counts for it"
                        }
                        _ if has_all_mappings(pid) => {
                            "it has as many mappings as vm.max_map_count allows"
                        }
                        _ => "its RLIMIT_AS, `ulimit -v`",
                    },
                }
            }
            other => other.into(),
        })?;
        let header = arena.header();
        self.process.describe_stacks(
            shared,
            inject::HandlerStacks {
                first: header.slots,
                size: header.slot_size,
                saved: std::mem::offset_of!(runtime::layout::Slot, saved_sp) as u64,
            },
        )?;
        // A core dump of the program has no use for our gigabytes of holes; one without this is merely large.
        const MADV_DONTDUMP: u64 = 16;
        let _ = self.process.syscall(
            "madvise",
            libc::SYS_madvise,
            [shared, arena.len() as u64, MADV_DONTDUMP, 0, 0, 0],
        );
        let table = self.process.map_private(
            size_of::<ThreadTable>() as u64,
            libc::PROT_READ | libc::PROT_WRITE,
            true,
        )?;
        let thread_pointer = self.thread_pointer(table);
        let pid = std::mem::offset_of!(ThreadTable, pid) as u64;
        self.process
            .write(table + pid, &self.inner_pid.to_le_bytes())?;
        let near = self.images.first().map_or(0..0, Image::range);
        let code = self.process.allocate_code_near(near, blob.size())?;
        let own = self.addresses(arena.len() as u64)?;
        let image = blob
            .image_at(code, &own)
            .map_err(|e| TraceeError::Blob(e.to_string()))?;
        self.process.write_code(code, &image)?;
        // Lets the tracer's membarrier reach this process without waiting for every CPU; a kernel or a filter that
        // refuses makes the tracer use the slow one.
        let register = runtime::shard::MEMBARRIER_REGISTER_GLOBAL_EXPEDITED;
        self.expedited = self
            .process
            .syscall(
                "membarrier",
                libc::SYS_membarrier,
                [register, 0, 0, 0, 0, 0],
            )
            .is_ok();
        Ok(Installed {
            arena: shared,
            table,
            blob: code,
            thread_pointer,
            directory: 0,
            frames: (0, 0),
            interception: None,
            entries: HashMap::new(),
            stubs: HashMap::new(),
        })
    }

    /// Puts the handlers that are not there yet into the process.
    pub(super) fn link(
        &mut self,
        compiled: &Compiled,
        wanted: &HashSet<HandlerId>,
    ) -> Result<(), TraceeError> {
        let Some(installed) = &mut self.installed else {
            return Ok(());
        };
        let entries = &installed.entries;
        let missing =
            |handler: HandlerId| wanted.contains(&handler) && !entries.contains_key(&handler);
        if !wanted.iter().any(|handler| missing(*handler)) {
            return Ok(());
        }
        let blob = Blob::load().map_err(|e| TraceeError::Blob(e.to_string()))?;
        let near = self.images.first().map_or(0..0, Image::range);
        let size = compiled.handlers_code_size(&missing);
        let code = self.process.allocate_code_near(near, size)?;
        let runtime = installed.blob;
        let directory = installed.directory;
        let (frames, _) = installed.frames;
        let symbol = |name: &str| match name {
            STACK_TABLES => Some(directory),
            FRAME_TABLE => Some(frames),
            _ => blob.symbol(name).ok().map(|offset| runtime + offset),
        };
        let link = ProcessLink {
            code,
            arena: installed.arena,
            thread_table: installed.table,
            process: self.record,
            thread_pointer: installed.thread_pointer,
            symbol: &symbol,
            runtime_clobbers: |name: &str| clobbers(&blob, name),
        };
        let linked = compiled.link_handlers(&link, &missing)?;
        self.process.write_code(code, &linked.bytes)?;
        let stubs = linked.stubs.into_iter().enumerate();
        installed
            .stubs
            .extend(stubs.filter_map(|(i, stub)| Some((HandlerId(i as u32), stub?))));
        let entries = linked.entries.into_iter().enumerate();
        installed
            .entries
            .extend(entries.filter_map(|(i, entry)| Some((HandlerId(i as u32), entry?))));
        Ok(())
    }

    /// Maps the memory for values that return handlers use of a function's entry, unless there are none.
    pub(super) fn install_frames(
        &mut self,
        compiled: &Compiled,
        unused: bool,
    ) -> Result<(), TraceeError> {
        let values = compiled.saved_values();
        let Some(installed) = &mut self.installed else {
            return Ok(());
        };
        let (table, room) = installed.frames;
        if unused || (table != 0 && values <= room) {
            return Ok(());
        }
        // Forked children go on with what their parent had saved. Handlers that came before keep the table they have.
        let table = self.process.map_private(
            frames::size(values),
            libc::PROT_READ | libc::PROT_WRITE,
            false,
        )?;
        let stride = frames::stride(values).to_le_bytes();
        let offset = std::mem::offset_of!(frames::FrameTable, stride) as u64;
        self.process.write(table + offset, &stride)?;
        let trampoline = match &installed.interception {
            Some(Ok(interception)) => interception.trampoline,
            _ => 0,
        };
        let missed = installed.arena + MISSED_RETURNS;
        returns::describe(&mut self.process, table, trampoline, missed)?;
        installed.frames = (table, values);
        Ok(())
    }

    /// Gives the handlers what they need to walk stacks, if they do, and learns of modules that came or went.
    pub(super) fn install_stacks(&mut self, compiled: &Compiled) -> Result<(), InjectError> {
        let (Some(parts), Some(installed)) = (stacks::needed(compiled), &mut self.installed) else {
            return Ok(());
        };
        if installed.directory != 0
            && let Some(stacks) = self.stacks.as_mut().filter(|s| s.parts() == parts)
        {
            return stacks.refresh(&mut self.process, &self.images);
        }
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let threads = ThreadStacks {
            thread_pointer: match installed.thread_pointer {
                ThreadPointer::Word => 1,
                ThreadPointer::Register => 2,
                ThreadPointer::SystemCall => 0,
            },
            known_stacks: self.process.map_private(KNOWN_STACKS_SIZE, prot, true)?,
            main: stacks::main_stack(&self.process),
        };
        let near = self.images.first().map_or(0..0, Image::range);
        let directory = self.process.allocate_code_near(near, DIRECTORY_SIZE)?;
        let mut stacks = Stacks::prepare(&self.process, parts)?;
        stacks.install(&mut self.process, directory, threads)?;
        installed.directory = directory;
        if let Some(Ok(returns)) = &installed.interception {
            let Interception {
                table, trampoline, ..
            } = *returns;
            stacks::note_returns(&mut self.process, directory, trampoline, table)?;
        }
        self.stacks = Some(stacks);
        Ok(())
    }

    /// How threads are told apart. A program with a dynamic linker has its TLS set up by the time it is probed, and
    /// then the FS base points at itself; whether it does is looked at, as not every runtime keeps to the ABI.
    /// `scratch` is a word of the process that nothing uses.
    fn thread_pointer(&mut self, scratch: u64) -> ThreadPointer {
        const ARCH_GET_FS: u64 = 0x1003;
        let program = self.images.first().map(|image| image.binary());
        if program.is_some_and(|binary| binary.interpreter().is_some()) {
            let asked = self.process.syscall(
                "arch_prctl",
                libc::SYS_arch_prctl,
                [ARCH_GET_FS, scratch, 0, 0, 0, 0],
            );
            let base = asked.and_then(|_| self.process.read_u64(scratch));
            let cleared = self.process.write(scratch, &[0; 8]);
            if let (Ok(base), Ok(())) = (base, cleared)
                && base != 0
                && self.process.read_u64(base).is_ok_and(|word| word == base)
            {
                return ThreadPointer::Word;
            }
        }
        if has_fsgsbase() {
            ThreadPointer::Register
        } else {
            ThreadPointer::SystemCall
        }
    }
}

/// What a function of the run time may change.
pub(super) fn clobbers(blob: &Blob, name: &str) -> Registers {
    /// rax rcx rdx rsi rdi r8 … r11, and every vector register: what the System V ABI lets a function change.
    const ANY: Registers = Registers {
        general: 0x0fc7,
        vector: 0xffff,
        flags: true,
    };
    blob.clobbers(name).map_or(ANY, |c| Registers {
        general: c.gpr,
        vector: c.xmm,
        flags: true,
    })
}

/// Offset in the arena of the count of missed returns.
pub(super) const MISSED_RETURNS: u64 = std::mem::offset_of!(Header, missed_returns) as u64;
