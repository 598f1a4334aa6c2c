//! Programs and libraries mapped into a process.

use std::fs;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use symbols::{Binary, ImageAddr, Mapping, SymbolsError};

use crate::arch::{ControlFlow, Loop, NotProvable, Room, SystemCall, TakenRanges, plan_through};
use crate::error::InjectError;
use crate::mapping::PAGE;
use crate::module::{FileIdentity, Module};
use crate::point::Point;
use crate::process::Process;

/// A module mapped into a process: the program, a shared library, the dynamic linker.
#[derive(Debug, Clone)]
pub struct Image {
    path: PathBuf,
    bias: u64,
    range: Range<u64>,
    pub(crate) module: Arc<Module>,
}

impl Image {
    /// Its path, as the process sees it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What to add (modulo 2⁶⁴) to an address in the file to get the absolute address.
    pub fn bias(&self) -> u64 {
        self.bias
    }

    /// The ELF file.
    pub fn binary(&self) -> &Arc<Binary> {
        &self.module.binary
    }

    /// Which file it is, in which version.
    pub fn identity(&self) -> FileIdentity {
        self.module.identity
    }

    /// The absolute addresses from its first to its last mapping.
    pub fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    /// The absolute address of an address in the file.
    pub fn absolute(&self, address: ImageAddr) -> u64 {
        address.0.wrapping_add(self.bias)
    }

    /// The address in the file of an absolute address; `None` outside of the image.
    pub fn relative(&self, address: u64) -> Option<ImageAddr> {
        self.range
            .contains(&address)
            .then(|| ImageAddr(address.wrapping_sub(self.bias)))
    }

    /// Looks at the whole code of the module for branch targets. The result is kept for as long as any image of
    /// the same file lives, in whatever process.
    pub fn analyse(&self) {
        self.module.targets();
    }

    /// Looks at as much of the code as insertions at some absolute addresses depend on, which the first insertion there
    /// does otherwise, with the process stopped. Without addresses, only the file's tables are read. The result is kept as
    /// that of [`Image::analyse`] is, which takes longer and serves all places.
    pub fn prepare(&self, addresses: &[u64]) {
        if addresses.is_empty() {
            self.module.read_tables();
            return;
        }
        let relative: Vec<u64> = addresses
            .iter()
            .map(|a| a.wrapping_sub(self.bias))
            .collect();
        let targets = self.module.targets_around(&relative);
        let fits = |&address: &u64| {
            let (Some(code), Some(function)) =
                (self.module.code_at(address), targets.function_of(address))
            else {
                return true;
            };
            let free = TakenRanges::default();
            let room = Room::Made;
            plan_through(address, address, code, function, &targets, &free, room).is_ok()
        };
        if !targets.is_complete() && !relative.iter().all(fits) {
            self.module.targets();
        }
    }

    /// The `syscall` instructions of its code, ascending; looks at all functions that have some.
    pub fn system_calls(&self) -> Vec<SystemCallSite> {
        let found = self.module.system_calls().iter();
        found.map(|call| self.system_call_site(call)).collect()
    }

    /// Those that may make one of some system calls, by number; looks at no more of the code than it must.
    pub fn system_calls_of(&self, numbers: &[i64]) -> Vec<SystemCallSite> {
        let found = self.module.system_calls_of(numbers);
        found
            .iter()
            .map(|call| self.system_call_site(call))
            .collect()
    }

    /// Whether its code seems to make system calls, which is told at little cost.
    pub fn has_system_calls(&self) -> bool {
        !self.module.apparent_system_calls().is_empty()
    }

    fn system_call_site(&self, call: &SystemCall) -> SystemCallSite {
        SystemCallSite {
            address: call.address.wrapping_add(self.bias),
            number: call.number,
        }
    }

    /// A function by the name of its symbol.
    ///
    /// # Errors
    /// [`InjectError::NoSuchFunction`].
    pub fn function(&self, name: &str) -> Result<Function, InjectError> {
        let named = self.module.binary.functions_named(name);
        named
            .first()
            .map(|function| self.make_function(function))
            .ok_or_else(|| InjectError::NoSuchFunction {
                name: name.to_owned(),
                image: self.path.clone(),
            })
    }

    /// All functions with a symbol, by ascending address.
    pub fn functions(&self) -> Vec<Function> {
        let functions = self.module.binary.functions().iter();
        functions
            .map(|function| self.make_function(function))
            .collect()
    }

    fn make_function(&self, function: &symbols::Function) -> Function {
        Function {
            name: function.name.clone(),
            address: self.absolute(function.address),
            size: function.size,
            image: self.clone(),
        }
    }

    /// The image that a file makes when it is loaded at the addresses it has in itself, for looking at its code without
    /// a process.
    ///
    /// # Errors
    /// It can't be read as an ELF file.
    pub fn of_file(path: &Path) -> Result<Image, SymbolsError> {
        let metadata = fs::metadata(path).map_err(|source| SymbolsError::Io {
            path: path.to_owned(),
            source,
        })?;
        let module = Module::open(path, &metadata)?;
        let segments = module.binary.load_segments();
        let end = segments.iter().map(|s| s.vaddr.0 + s.mem_size).max();
        let start = segments.iter().map(|s| s.vaddr.0).min();
        Ok(Image {
            path: path.to_owned(),
            bias: 0,
            range: start.unwrap_or(0)..end.unwrap_or(0),
            module,
        })
    }

    /// Whether there is room for a patch that serves a point, were nothing else patched.
    pub fn can_patch(&self, point: &Point) -> bool {
        let module = &self.module;
        let relative = point.address().wrapping_sub(self.bias);
        let (Some(code), Some(function)) = (
            module.code_at(relative),
            module.targets().function_of(relative),
        ) else {
            return false;
        };
        let taken = TakenRanges::default();
        std::iter::once(&point.address())
            .chain(point.before())
            .map(|start| start.wrapping_sub(self.bias))
            .filter(|start| function.contains(start))
            .filter_map(|start| {
                let targets = module.targets();
                let (function, room) = (function.clone(), Room::Made);
                plan_through(start, relative, code, function, targets, &taken, room).ok()
            })
            .any(|plan| plan.boundaries.contains(&relative))
    }

    /// Whether an absolute address is in a table through which functions of other modules are called (`.plt`).
    pub fn is_linkage(&self, address: u64) -> bool {
        self.module.is_linkage(address.wrapping_sub(self.bias))
    }

    /// The control flow of the function whose first instruction is at an absolute address, in absolute addresses.
    pub fn control_flow(&self, entry: u64) -> ControlFlow {
        let flow = self.module.control_flow(entry.wrapping_sub(self.bias));
        flow.rebase(self.bias)
    }
}

/// A `syscall` instruction of an image in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SystemCallSite {
    address: u64,
    number: Option<u32>,
}

impl SystemCallSite {
    /// The absolute address of the instruction.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// The number of the system call (the kernel's `syscall_64.tbl`) where the code before the
    /// instruction proves that it is always the same; `None`: it may be any.
    pub fn number(&self) -> Option<u32> {
        self.number
    }

    /// Whether it may make this system call.
    pub fn may_make(&self, number: i64) -> bool {
        self.number.is_none_or(|known| i64::from(known) == number)
    }

    /// The point before it.
    pub fn before(&self) -> Point {
        Point::before_system_call(self.address)
    }

    /// The point after it.
    pub fn after(&self) -> Point {
        Point::after_system_call(self.address)
    }
}

/// A function of an image in a process.
#[derive(Debug, Clone)]
pub struct Function {
    name: String,
    address: u64,
    size: u64,
    image: Image,
}

impl Function {
    /// The name of its symbol.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The absolute address of its first instruction.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The point before its first instruction.
    pub fn entry(&self) -> Point {
        Point::entry(self.address)
    }

    /// The points where it is left: before each `ret`, and before each jump to a function that returns in its place
    /// ([`ControlFlow::exits`](crate::arch::ControlFlow::exits) tells them apart).
    ///
    /// # Errors
    /// Not all of them can be told.
    pub fn exits(&self) -> Result<Vec<Point>, NotProvable> {
        let exits = self.control_flow().exits?;
        Ok(exits.iter().map(Point::exit).collect())
    }

    /// The points before its calls of other functions.
    pub fn call_sites(&self) -> Vec<Point> {
        let sites = self.control_flow().call_sites;
        sites.into_iter().map(Point::call_site).collect()
    }

    /// Its loops.
    pub fn loops(&self) -> Vec<Loop> {
        self.control_flow().loops
    }

    /// Its blocks, calls, loops and exits.
    pub fn control_flow(&self) -> ControlFlow {
        self.image.control_flow(self.address)
    }
}

impl Process {
    /// The ELF files whose code is mapped now, the program first, the others by address. Files
    /// that are no longer reachable or no ELF files are left out.
    ///
    /// # Errors
    /// As [`Process::maps`].
    pub fn images(&self) -> Result<Vec<Image>, InjectError> {
        let maps = self.maps()?;
        let program = fs::metadata(format!("/proc/{}/exe", self.pid))
            .ok()
            .map(|meta| meta.ino());
        let mut images: Vec<(bool, Image)> = Vec::new();
        let mut index = 0;
        while index < maps.len() {
            let first = &maps[index];
            // The mappings of one file stand together, with anonymous ones (bss) and holes between.
            let same = |mapping: &Mapping| {
                mapping.inode == first.inode
                    && mapping.dev == first.dev
                    && mapping.path == first.path
            };
            let mut end = index + 1;
            let mut last = index;
            while end < maps.len() && (same(&maps[end]) || !maps[end].is_file()) {
                if same(&maps[end]) {
                    // Offsets of one copy of a file rise; a lower one begins another copy.
                    if maps[end].offset < maps[last].offset {
                        break;
                    }
                    last = end;
                }
                end += 1;
            }
            let group = &maps[index..=last];
            index = last + 1;
            if !first.is_file() {
                continue;
            }
            let is_program = program == Some(first.inode);
            if let Some(image) = self.image_of(group, is_program) {
                images.push((!is_program, image));
            }
        }
        images.sort_by_key(|(other, image)| (*other, image.range.start));
        Ok(images.into_iter().map(|(_, image)| image).collect())
    }

    /// The path of the program, as the process sees it.
    ///
    /// # Errors
    /// [`InjectError::Proc`], [`InjectError::Exited`].
    pub fn program_path(&self) -> Result<PathBuf, InjectError> {
        let path = format!("/proc/{}/exe", self.pid);
        let program = fs::read_link(&path).map_err(|source| self.proc_error(path, source))?;
        Ok(self.as_the_process_has_it(program))
    }

    fn image_of(&self, group: &[Mapping], is_program: bool) -> Option<Image> {
        let first = group.first()?;
        let code = group
            .iter()
            .find(|mapping| mapping.perms.execute && mapping.is_file())?;
        let path = self.as_the_process_has_it(first.path.clone()?);
        let module = self
            .file_candidates(code, &path, is_program)
            .into_iter()
            .find_map(|file| {
                let metadata = fs::metadata(&file).ok()?;
                if metadata.ino() != code.inode {
                    return None;
                }
                Module::open(&file, &metadata).ok()
            })?;
        let segment = module.binary.load_segments().iter().find(|segment| {
            let start = segment.file_offset.0 & !(PAGE - 1);
            let end = segment.file_offset.0.saturating_add(segment.file_size);
            segment.executable && (start..end).contains(&code.offset)
        })?;
        let bias = code
            .start
            .wrapping_sub(code.offset)
            .wrapping_add(segment.file_offset.0)
            .wrapping_sub(segment.vaddr.0);
        let range = first.start..group.last()?.end;
        Some(Image {
            path,
            bias,
            range,
            module,
        })
    }

    /// What the process takes for the root of all paths, if that is a directory of ours and not our root (chroot(2)).
    fn root(&self) -> Option<PathBuf> {
        let root = fs::read_link(format!("/proc/{}/root", self.pid)).ok()?;
        (root != Path::new("/")).then_some(root)
    }

    /// The kernel names mapped files as we see them, below the root of the process if that is in our sight.
    fn as_the_process_has_it(&self, path: PathBuf) -> PathBuf {
        let root = self.root();
        let inside = root.and_then(|root| Some(Path::new("/").join(path.strip_prefix(root).ok()?)));
        inside.unwrap_or(path)
    }

    /// Where the file behind a mapping may be opened: by its name if that still means the same
    /// file, through the process's root, or through the mapping itself once it is deleted or
    /// replaced.
    fn file_candidates(&self, code: &Mapping, path: &Path, is_program: bool) -> Vec<PathBuf> {
        let mut candidates = Vec::new();
        if !code.deleted {
            let inside = path.strip_prefix("/").unwrap_or(path);
            let inside = Path::new(&format!("/proc/{}/root", self.pid)).join(inside);
            match self.root() {
                Some(_) => candidates.extend([inside, path.to_owned()]),
                None => candidates.extend([path.to_owned(), inside]),
            }
        }
        if is_program {
            candidates.push(PathBuf::from(format!("/proc/{}/exe", self.pid)));
        }
        let mapping = format!(
            "/proc/{}/map_files/{:x}-{:x}",
            self.pid, code.start, code.end
        );
        candidates.push(PathBuf::from(mapping));
        candidates
    }
}
