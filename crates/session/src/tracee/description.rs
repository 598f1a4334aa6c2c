//! A process's record in the arena: what handlers that run in it need to know of it.

use super::{Tracee, has_fsgsbase};
use crate::arena::Arena;
use crate::stacks;
use codegen::ArenaLayout;
use inject::{Image, InjectError, SeccompVerdict};
use runtime::layout::{ProcessRecord, StrRef};
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
        let pid = self.pid();
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut command = command_line(&arguments);
        command.truncate(layout.process_text_size as usize);
        arena.write(layout.process_text(index), &command);
        let mut readable = [[0; 2]; 6];
        let maps = self.process.maps()?;
        let data = self
            .lasting_images()
            .filter_map(|image| image_data(image, &maps));
        for (range, data) in readable.iter_mut().zip(data) {
            *range = data;
        }
        let record = ProcessRecord {
            clock_gettime: function("__vdso_clock_gettime"),
            getcpu: function("__vdso_getcpu"),
            readable,
            cmdline: StrRef {
                offset: layout.process_text(index) as u32,
                len: command.len() as u32,
            },
            has_fsgsbase: u32::from(has_fsgsbase()),
            may_map: u32::from(may_map),
            stack: stacks::main_stack(&self.process),
            name: self.name(),
        };
        arena.write(layout.process(index), &record_bytes(&record));
        Ok(())
    }

    /// The program and the libraries it is linked with: those are never unmapped, as what dlopen(3) brought may be.
    fn lasting_images(&self) -> impl Iterator<Item = &Image> {
        let needed = self
            .images
            .first()
            .map_or(&[][..], |program| program.binary().needed());
        self.images
            .iter()
            .enumerate()
            .filter_map(move |(i, image)| {
                let soname = image.binary().soname();
                (i == 0 || soname.is_some_and(|name| needed.iter().any(|n| n == name)))
                    .then_some(image)
            })
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

/// The data of a module as far as it is mapped readable without holes, whatever its headers claim.
fn image_data(image: &Image, maps: &[Mapping]) -> Option<[u64; 2]> {
    let segments = image.binary().load_segments();
    let data = segments
        .iter()
        .filter(|s| s.writable)
        .max_by_key(|s| s.mem_size)?;
    let start = image.absolute(data.vaddr);
    let wanted = start.saturating_add(data.file_size);
    let mut end = start;
    for map in maps.iter().filter(|m| m.perms.read && m.is_file()) {
        if (map.start..map.end).contains(&end) {
            end = map.end;
        }
    }
    (end > start).then_some([start, end.min(wanted)])
}

fn record_bytes(record: &ProcessRecord) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size_of::<ProcessRecord>());
    bytes.extend(record.clock_gettime.to_ne_bytes());
    bytes.extend(record.getcpu.to_ne_bytes());
    for word in record.readable.iter().flatten() {
        bytes.extend(word.to_ne_bytes());
    }
    for word in [
        record.cmdline.offset,
        record.cmdline.len,
        record.has_fsgsbase,
        record.may_map,
    ] {
        bytes.extend(word.to_ne_bytes());
    }
    for word in record.stack {
        bytes.extend(word.to_ne_bytes());
    }
    bytes.extend(record.name);
    bytes
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
