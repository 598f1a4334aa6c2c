//! Walking the stacks of stopped threads, and what code in the process needs to walk its own.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use runtime::stack::memory::Memory;
use runtime::stack::table::{Directory, MODULES};
use runtime::stack::walk::{Step, Walk};
use symbols::Binary;

use crate::error::InjectError;
use crate::image::Image;
use crate::process::{Pid, Process};
use crate::stack_table::{self, TableParts};

/// A module of a process with the table by which its frames are walked and its addresses named.
#[derive(Debug, Clone)]
pub struct StackModule {
    /// The addresses that it covers.
    pub range: Range<u64>,
    /// Its path as the process sees it; `vdso` for the kernel's.
    pub path: PathBuf,
    /// The file.
    pub binary: Arc<Binary>,
    /// The table, in the format of `runtime::stack::table`.
    pub table: Arc<[u8]>,
}

impl StackModule {
    /// The module that an image is; `None` when it is too large for a table. Tables are kept for as long as any image of
    /// the same file lives.
    pub fn of_image(image: &Image, parts: TableParts) -> Option<StackModule> {
        let (low, size) = stack_table::extent(image.binary())?;
        let start = image.absolute(symbols::ImageAddr(low));
        Some(StackModule {
            range: start..start.checked_add(size)?,
            path: image.path().to_path_buf(),
            binary: Arc::clone(image.binary()),
            table: image.module.stack_table(image.path(), parts)?,
        })
    }
}

impl Process {
    /// The tables for every module mapped now, the kernel's vDSO among them. Takes long for large files at the first
    /// time: best done while the process runs.
    ///
    /// # Errors
    /// As [`Process::images`].
    pub fn stack_modules(&self, parts: TableParts) -> Result<Vec<StackModule>, InjectError> {
        let images = self.images()?;
        // Each file's table is its own work.
        let next = AtomicUsize::new(0);
        let work = || {
            let mut made = Vec::new();
            while let Some(image) = images.get(next.fetch_add(1, Ordering::Relaxed)) {
                made.extend(StackModule::of_image(image, parts));
            }
            made
        };
        let mut modules: Vec<StackModule> = std::thread::scope(|threads| {
            let workers = std::thread::available_parallelism().map_or(1, usize::from);
            let others: Vec<_> = (1..workers.min(images.len()))
                .map(|_| threads.spawn(work))
                .collect();
            let mut all = work();
            for other in others {
                // A panic of one is everybody's, as if there were no threads.
                all.extend(
                    other
                        .join()
                        .unwrap_or_else(|p| std::panic::resume_unwind(p)),
                );
            }
            all
        });
        modules.extend(self.vdso_module(parts));
        Ok(modules)
    }

    fn vdso_module(&self, parts: TableParts) -> Option<StackModule> {
        let path = Path::new("[vdso]");
        let maps = self.maps().ok()?;
        let map = maps.iter().find(|m| m.path.as_deref() == Some(path))?;
        let len = usize::try_from(map.end.checked_sub(map.start)?).ok()?;
        let bytes = self.read_vec(map.start, len).ok()?;
        let binary = Binary::from_bytes(path, bytes).ok()?;
        let name = Path::new("vdso");
        Some(StackModule {
            range: map.start..map.end,
            path: name.to_path_buf(),
            table: stack_table::encode(&binary, name, parts)?.into(),
            binary: Arc::new(binary),
        })
    }

    /// The addresses on a stopped thread's stack: where it is, then where each call will return to, innermost first, at
    /// most `limit`. By the unwind tables of the modules, through signal handlers; where there is no table, by frame
    /// pointers.
    ///
    /// ```no_run
    /// # fn example(mut process: inject::Process) -> Result<(), inject::InjectError> {
    /// process.stop_again()?;
    /// for thread in process.thread_ids() {
    ///     for address in process.backtrace(thread, 100)? {
    ///         println!("{thread} {address:#x}");
    ///     }
    /// }
    /// process.release()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`InjectError::NotHeld`], [`InjectError::Ptrace`] for a thread that is not one of the process, and as
    /// [`Process::images`].
    pub fn backtrace(&self, thread: Pid, limit: usize) -> Result<Vec<u64>, InjectError> {
        self.require_held()?;
        let frame = self.registers(thread)?;
        let modules = self.stack_modules(TableParts::FRAMES)?;
        let directory = new_directory();
        for module in &modules {
            let table = module.table.as_ptr() as u64;
            add_module(&directory, &module.range, table, module.table.len() as u64);
        }
        let registers = (&raw const frame).cast();
        // SAFETY: 18 words; the tables live as long as `modules`, which is longer than the walk.
        let mut walk = unsafe { Walk::new(&directory, registers, Remote(self)) };
        let mut addresses = Vec::new();
        while addresses.len() < limit {
            addresses.push(walk.address());
            if walk.step() == Step::End {
                break;
            }
        }
        Ok(addresses)
    }
}

struct Remote<'a>(&'a Process);

impl Memory for Remote<'_> {
    fn word(&mut self, address: u64) -> Option<u64> {
        self.0.read_u64(address).ok()
    }
}

/// A directory without modules.
pub fn new_directory() -> Box<Directory> {
    // SAFETY: all of it is numbers, for which zero is valid.
    unsafe { Box::new_zeroed().assume_init() }
}

/// Lists a module in a directory of this process, in the place of one that has gone if there is any. False when the
/// directory is full.
pub fn add_module(directory: &Directory, range: &Range<u64>, table: u64, table_len: u64) -> bool {
    let count = directory.count.load(Ordering::Acquire) as usize;
    let free = directory
        .modules
        .iter()
        .take(count)
        .position(|m| m.end.load(Ordering::Relaxed) == 0);
    let at = free.unwrap_or(count);
    let Some(entry) = directory.modules.get(at).filter(|_| at < MODULES) else {
        return false;
    };
    entry.start.store(range.start, Ordering::Relaxed);
    entry.table.store(table, Ordering::Relaxed);
    entry.table_len.store(table_len, Ordering::Relaxed);
    entry.end.store(range.end, Ordering::Release);
    if at == count {
        directory.count.store(count as u32 + 1, Ordering::Release);
    }
    true
}
