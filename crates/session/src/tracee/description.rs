//! What handlers that run in a process need to know of it: its record in the arena, and what the run time bears of it.

use super::Tracee;
use crate::arena::Arena;
use crate::stacks;
use codegen::ArenaLayout;
use inject::{Image, InjectError, SeccompVerdict};
use runtime::layout::{ProcessRecord, StrRef};
use runtime::own_process::{OwnProcess, READABLE};
use std::collections::HashSet;
use std::path::PathBuf;
use symbols::{Binary, Mapping};

impl Tracee {
    /// Writes the process's record in the arena.
    pub(super) fn describe(
        &mut self,
        layout: &ArenaLayout,
        arena: &mut Arena,
        index: u32,
    ) -> Result<(), InjectError> {
        let verdicts = self.process.seccomp_verdicts(&[libc::SYS_mmap])?;
        let may_map = verdicts.first() != Some(&Some(SeccompVerdict::Stopped));
        let pid = self.pid();
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut command = command_line(&arguments);
        command.truncate(layout.process_text_size as usize);
        arena.write(layout.process_text(index), &command);
        let record = ProcessRecord {
            cmdline: StrRef {
                offset: layout.process_text(index) as u32,
                len: command.len() as u32,
            },
            may_map: u32::from(may_map),
            name: self.name(),
        };
        arena.write(layout.process(index), &record_bytes(&record));
        Ok(())
    }

    /// Addresses and bounds in the process that handlers go by.
    pub(super) fn addresses(&mut self, arena_size: u64) -> Result<OwnProcess, InjectError> {
        let vdso = self.vdso();
        let function = |name: &str| {
            vdso.as_ref()
                .and_then(|(base, binary)| {
                    binary
                        .symbol(name)
                        .map(|address| base.wrapping_add(address.0))
                })
                .unwrap_or(0)
        };
        let mut readable = [[0; 2]; READABLE];
        let maps = self.process.maps()?;
        let lasting = self.lasting_images();
        let memory = lasting.iter().flat_map(|image| image_memory(image, &maps));
        for (range, memory) in readable.iter_mut().zip(memory) {
            *range = memory;
        }
        Ok(OwnProcess {
            arena_size,
            clock_gettime: function("__vdso_clock_gettime"),
            getcpu: function("__vdso_getcpu"),
            single_threaded: single_threaded(&lasting),
            stack: stacks::main_stack(&self.process),
            readable,
        })
    }

    /// The program and the libraries that it and they are linked with: those are never unmapped, as what dlopen(3) brought may be.
    fn lasting_images(&self) -> Vec<&Image> {
        let Some(program) = self.images.first() else {
            return Vec::new();
        };
        let mut lasting = vec![program];
        let mut seen = HashSet::new();
        let mut next = 0;
        while let Some(image) = lasting.get(next) {
            for name in image.binary().needed() {
                if seen.insert(name) {
                    let mut images = self.images.iter().skip(1);
                    lasting.extend(images.find(|i| i.binary().soname() == Some(name)));
                }
            }
            next += 1;
        }
        lasting
    }

    fn name(&self) -> [u8; 16] {
        let comm = std::fs::read(format!("/proc/{}/comm", self.pid())).unwrap_or_default();
        let mut name = [0; 16];
        for (to, from) in name
            .iter_mut()
            .zip(comm.iter().take_while(|&&b| b != b'\n'))
        {
            *to = *from;
        }
        name
    }

    fn vdso(&self) -> Option<(u64, Binary)> {
        let maps = self.process.maps().ok()?;
        let mapping = maps
            .iter()
            .find(|m| m.path.as_deref().is_some_and(|p| p.as_os_str() == "[vdso]"))?;
        let bytes = self
            .process
            .read_vec(
                mapping.start,
                usize::try_from(mapping.end - mapping.start).ok()?,
            )
            .ok()?;
        Some((
            mapping.start,
            Binary::from_bytes(PathBuf::from("[vdso]"), bytes).ok()?,
        ))
    }
}

/// The memory of a module's segments as far as it is mapped readable, whatever its headers claim: ranges without holes.
fn image_memory(image: &Image, maps: &[Mapping]) -> Vec<[u64; 2]> {
    const PAGE: u64 = 4096;
    let mut ranges: Vec<[u64; 2]> = Vec::new();
    for segment in image.binary().load_segments() {
        let start = image.absolute(segment.vaddr);
        let end = start.saturating_add(segment.mem_size);
        let (start, end) = (
            start & !(PAGE - 1),
            end.saturating_add(PAGE - 1) & !(PAGE - 1),
        );
        for map in maps.iter().filter(|m| m.perms.read) {
            let part = [map.start.max(start), map.end.min(end)];
            match ranges.last_mut() {
                _ if part[0] >= part[1] => {}
                Some(last) if last[1] >= part[0] => last[1] = last[1].max(part[1]),
                _ => ranges.push(part),
            }
        }
    }
    ranges
}

fn record_bytes(record: &ProcessRecord) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size_of::<ProcessRecord>());
    for word in [record.cmdline.offset, record.cmdline.len, record.may_map] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes.extend(record.name);
    bytes
}

/// Where glibc (2.32 and newer) says whether there is one thread. A program may have a copy of the variable; the library's own is
/// what it goes by itself, or stays zero.
fn single_threaded(lasting: &[&Image]) -> u64 {
    let libc = lasting
        .iter()
        .find(|image| image.binary().soname() == Some("libc.so.6"));
    let flag = libc.and_then(|image| {
        let (address, _) = image.binary().data_object("__libc_single_threaded")?;
        Some(image.absolute(address))
    });
    flag.unwrap_or(0)
}

/// What `cmdline_str()` gives: the arguments with blanks between them, empty ones but the first as `""`.
fn command_line(arguments: &[u8]) -> Vec<u8> {
    let arguments = arguments.strip_suffix(b"\0").unwrap_or(arguments);
    let mut all = arguments.split(|&b| b == 0);
    let mut line = all.next().unwrap_or_default().to_vec();
    for argument in all {
        line.push(b' ');
        line.extend(if argument.is_empty() {
            b"\"\""
        } else {
            argument
        });
    }
    line
}
