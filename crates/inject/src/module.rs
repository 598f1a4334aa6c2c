//! An ELF file and the analysis of its code, shared by all processes that map it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::Metadata;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use rayon::prelude::*;
use symbols::{Binary, CallFrameRow, ImageAddr, SymbolsError};

use crate::analysis::{CodeSection, ModuleCode};
use crate::arch::{
    BranchTargets, ControlFlow, FunctionCode, Named, SYSCALL, StackRow, SystemCall,
    apparent_system_calls, control_flow, is_cancellable, system_calls, to_their_ends,
};
use crate::stack_table::{self, TableParts};

/// What tells one version of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileIdentity {
    device: u64,
    inode: u64,
    size: u64,
    /// Time of the last change: seconds, nanoseconds.
    changed: (i64, i64),
}

impl FileIdentity {
    /// The version that the metadata are of.
    pub fn of(metadata: &Metadata) -> FileIdentity {
        FileIdentity {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }

    /// Device and inode, which a file keeps when it is written to.
    pub fn file(&self) -> (u64, u64) {
        (self.device, self.inode)
    }
}

static OPEN: Mutex<Option<HashMap<FileIdentity, Weak<Module>>>> = Mutex::new(None);

/// An ELF file and what is known about its code, in the addresses of the file.
#[derive(Debug)]
pub(crate) struct Module {
    pub(crate) binary: Arc<Binary>,
    pub(crate) identity: FileIdentity,
    functions: OnceLock<Vec<Range<u64>>>,
    targets: OnceLock<Arc<BranchTargets>>,
    /// The same for a few places.
    around: Mutex<Vec<Arc<BranchTargets>>>,
    cold_parts: OnceLock<HashMap<String, Vec<u64>>>,
    reads_its_jumps: OnceLock<bool>,
    stack_tables: Mutex<HashMap<TableParts, Option<Arc<[u8]>>>>,
    system_calls: OnceLock<Vec<SystemCall>>,
    apparent_system_calls: OnceLock<Vec<SystemCall>>,
}

impl Module {
    /// Opens a file, or finds it open already.
    pub(crate) fn open(path: &Path, metadata: &Metadata) -> Result<Arc<Module>, SymbolsError> {
        let identity = FileIdentity::of(metadata);
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let modules = open.get_or_insert_default();
        if let Some(module) = modules.get(&identity).and_then(Weak::upgrade) {
            return Ok(module);
        }
        modules.retain(|_, module| module.strong_count() > 0);
        let binary = Arc::new(Binary::open(path)?);
        let module = Arc::new(Module {
            binary,
            identity,
            functions: OnceLock::new(),
            targets: OnceLock::new(),
            around: Mutex::default(),
            cold_parts: OnceLock::new(),
            reads_its_jumps: OnceLock::new(),
            stack_tables: Mutex::default(),
            system_calls: OnceLock::new(),
            apparent_system_calls: OnceLock::new(),
        });
        modules.insert(identity, Arc::downgrade(&module));
        Ok(module)
    }

    /// The table by which stacks are walked; `path` is what it calls the module.
    pub(crate) fn stack_table(&self, path: &Path, parts: TableParts) -> Option<Arc<[u8]>> {
        let mut tables = self
            .stack_tables
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let make = || stack_table::encode(&self.binary, path, parts).map(Arc::from);
        tables.entry(parts).or_insert_with(make).clone()
    }

    /// The section (or segment, in a file without sections) of code that holds an address.
    pub(crate) fn code_at(&self, address: u64) -> Option<CodeSection<'_>> {
        let range = self
            .code_ranges()
            .into_iter()
            .find(|range| range.contains(&address))?;
        self.section(range)
    }

    /// Where control may enter the code.
    pub(crate) fn targets(&self) -> &Arc<BranchTargets> {
        let all = |module: &ModuleCode<'_>| Arc::new(BranchTargets::build(module));
        self.targets
            .get_or_init(|| self.with_code(|module| all(module)))
    }

    /// Where control may enter the functions that hold some addresses, and the code around them. Of few addresses that is
    /// found without decoding all of the code, and may then hold places that are not entered in truth.
    pub(crate) fn targets_around(&self, addresses: &[u64]) -> Arc<BranchTargets> {
        if let Some(all) = self.targets.get() {
            return Arc::clone(all);
        }
        let mut known = self.around.lock().unwrap_or_else(PoisonError::into_inner);
        let covers = |targets: &&Arc<BranchTargets>| addresses.iter().all(|&a| targets.covers(a));
        if let Some(found) = known.iter().find(covers) {
            return Arc::clone(found);
        }
        match self.with_code(|module| BranchTargets::build_around(module, addresses)) {
            Some(found) => {
                let found = Arc::new(found);
                known.push(Arc::clone(&found));
                found
            }
            None => Arc::clone(self.targets()),
        }
    }

    /// Reads what the analysis needs to know beside the code.
    pub(crate) fn read_tables(&self) {
        self.functions();
        self.binary.landing_pads();
        self.binary.code_pointers();
    }

    /// Calls a function with what the analysis is to know of the module.
    fn with_code<T>(&self, run: impl FnOnce(&ModuleCode<'_>) -> T) -> T {
        let binary = &*self.binary;
        let sections: Vec<CodeSection<'_>> = self
            .code_ranges()
            .into_iter()
            .filter_map(|range| self.section(range))
            .collect();
        let mut landing_pads: Vec<u64> = binary.landing_pads().iter().map(|at| at.0).collect();
        // Every goroutine returns behind the first byte of this one, an address that the
        // scheduler computes (`newproc1` of Go's runtime/proc.go).
        for name in ["runtime.goexit", "runtime.goexit.abi0"] {
            let exits = binary.functions_named(name);
            landing_pads.extend(exits.iter().map(|f| f.address.0 + 1));
        }
        landing_pads.sort_unstable();
        let code_pointers: Vec<u64> = binary.code_pointers().iter().map(|at| at.0).collect();
        let read_data = |address: u64, buffer: &mut [u8]| self.read_data(address, buffer);
        run(&ModuleCode {
            sections: &sections,
            functions: self.functions(),
            landing_pads: &landing_pads,
            code_pointers: &code_pointers,
            read_data: &read_data,
            fixed_address: !binary.is_position_independent(),
        })
    }

    /// The control flow of the function that starts at an address.
    pub(crate) fn control_flow(&self, entry: u64) -> ControlFlow {
        let binary = &*self.binary;
        let targets = self.targets();
        let sections: Vec<CodeSection<'_>> = self
            .code_ranges()
            .into_iter()
            .filter_map(|range| self.section(range))
            .collect();
        let frames = binary.call_frames();
        let rows: RefCell<Vec<CallFrameRow>> = RefCell::default();
        let known: RefCell<Range<u64>> = RefCell::default();
        let stack_at = |address: u64| {
            let mut rows = rows.borrow_mut();
            let mut known = known.borrow_mut();
            if !known.contains(&address) {
                *rows = frames.as_ref()?.rows(ImageAddr(address));
                *known = match (rows.first(), rows.last()) {
                    (Some(first), Some(last)) => first.start.0..last.end.0,
                    _ => address..address + 1,
                };
            }
            let row = rows
                .get(rows.partition_point(|row| row.end.0 <= address))
                .filter(|row| row.start.0 <= address)?;
            let register = row.frame_address.map(|(register, offset)| {
                let number = symbols::arch::x86_64::from_dwarf(register)?;
                Some((number, offset))
            });
            Some(StackRow {
                frame_address: register.flatten(),
                returns_ordinarily: row.returns_ordinarily,
            })
        };
        let named = |address: u64| {
            let functions = binary.functions();
            let from = functions.partition_point(|f| f.address.0 < address);
            match functions.get(from).filter(|f| f.address.0 == address) {
                Some(function) if is_cold(&function.name) => Named::Part,
                Some(_) => Named::Function,
                None => Named::Unknown,
            }
        };
        let mut ranges: Vec<Range<u64>> = Vec::new();
        // Where other symbols stand inside the function, its range has been cut there.
        let mut next = Some(entry);
        let from = binary.functions().partition_point(|f| f.address.0 < entry);
        let named_here: Vec<&symbols::Function> = binary
            .functions()
            .get(from..)
            .unwrap_or_default()
            .iter()
            .take_while(|f| f.address.0 == entry)
            .collect();
        let end = named_here.iter().map(|f| f.end().0).max();
        while let Some(at) = next {
            let Some(range) = targets.function_of(at) else {
                break;
            };
            next = end
                .filter(|&end| range.end < end && range.end > at)
                .map(|_| range.end);
            ranges.push(at..range.end);
        }
        for function in named_here {
            let cold = format!("{}.cold", function.name);
            let parts = self.cold_parts().get(&cold).into_iter().flatten();
            ranges.extend(parts.filter_map(|&at| targets.function_of(at)));
        }
        let read_data = |address: u64, buffer: &mut [u8]| self.read_data(address, buffer);
        control_flow(&FunctionCode {
            entry,
            ranges,
            sections: &sections,
            targets,
            stack_at: &stack_at,
            named: &named,
            read_data: &read_data,
        })
    }

    /// The parts that compilers put elsewhere, by name.
    fn cold_parts(&self) -> &HashMap<String, Vec<u64>> {
        self.cold_parts.get_or_init(|| {
            let mut parts: HashMap<String, Vec<u64>> = HashMap::new();
            for function in self.binary.functions().iter().filter(|f| is_cold(&f.name)) {
                let places = parts.entry(function.name.clone()).or_default();
                places.push(function.address.0);
            }
            // Static functions of one name: which part is whose only the jumps to them tell.
            parts.retain(|_, places| places.len() == 1);
            parts
        })
    }

    fn read_data(&self, address: u64, buffer: &mut [u8]) -> bool {
        match self.binary.read_data(ImageAddr(address), buffer.len()) {
            Some(bytes) if bytes.len() == buffer.len() => {
                buffer.copy_from_slice(bytes);
                true
            }
            _ => false,
        }
    }

    /// The `syscall` instructions of the code, ascending.
    pub(crate) fn system_calls(&self) -> &[SystemCall] {
        self.system_calls.get_or_init(|| {
            let apparent = self.apparent_system_calls().iter();
            self.confirmed(apparent.map(|call| call.address).collect())
        })
    }

    /// Those that may make one of some system calls, but for the one that makes all calls which may be cancelled, where
    /// nothing can be inserted. Only the code around them is looked at.
    pub(crate) fn system_calls_of(&self, numbers: &[i64]) -> Vec<SystemCall> {
        let is_asked = |call: &&SystemCall| call.may_make(numbers) && !self.is_cancellable(call);
        if let Some(all) = self.system_calls.get() {
            return all.iter().filter(is_asked).copied().collect();
        }
        let apparent = self.apparent_system_calls().iter();
        let chosen = apparent.filter(is_asked);
        self.confirmed(chosen.map(|call| call.address).collect())
    }

    fn is_cancellable(&self, call: &SystemCall) -> bool {
        let place = call.address..call.address + SYSCALL.len() as u64;
        let code = self.code_at(call.address);
        code.is_some_and(|code| is_cancellable(code, place))
    }

    /// The `syscall` instructions that the functions, taken by themselves, seem to have. Most libraries have none, and are
    /// spared the analysis.
    pub(crate) fn apparent_system_calls(&self) -> &[SystemCall] {
        self.apparent_system_calls.get_or_init(|| {
            let ranges = self.code_ranges().into_iter();
            let sections = ranges.filter_map(|range| self.section(range));
            let functions = || self.functions();
            let mut found: Vec<SystemCall> = sections
                .filter(|section| memchr::memmem::find(section.bytes, &SYSCALL).is_some())
                .flat_map(|section| apparent(&section, functions()))
                .collect();
            found.sort_unstable_by_key(|call| call.address);
            found
        })
    }

    /// The system calls in the functions that hold some addresses, with what is proven of their numbers.
    fn confirmed(&self, addresses: Vec<u64>) -> Vec<SystemCall> {
        if addresses.is_empty() {
            return Vec::new();
        }
        let targets = self.targets_around(&addresses);
        let ranges = self.code_ranges().into_iter();
        let sections = ranges.filter_map(|range| self.section(range));
        let mut found: Vec<SystemCall> = sections
            .flat_map(|section| system_calls(section, &targets))
            .filter(|call| addresses.contains(&call.address))
            .collect();
        found.sort_unstable_by_key(|call| call.address);
        found
    }

    /// Where functions begin and end, ascending and without overlaps.
    fn functions(&self) -> &[Range<u64>] {
        self.functions.get_or_init(|| {
            let ranges = self.code_ranges().into_iter();
            let sections: Vec<_> = ranges.filter_map(|range| self.section(range)).collect();
            let known = self.binary.function_ranges().iter();
            let mut known: Vec<_> = known.map(|range| range.start.0..range.end.0).collect();
            // lld writes no call frame information for its linkage tables, and nothing else tells of them.
            for table in self.linkage_tables() {
                let next = known.partition_point(|range| range.start < table.end);
                let before = next.checked_sub(1).and_then(|before| known.get(before));
                if before.is_none_or(|before| before.end <= table.start) {
                    known.insert(next, table);
                }
            }
            to_their_ends(known, &sections)
        })
    }

    /// The sections through which functions of other modules are called.
    fn linkage_tables(&self) -> impl Iterator<Item = Range<u64>> {
        let sections = self.binary.executable_sections().iter();
        sections
            .filter(|section| section.name.starts_with(".plt") || section.name == ".iplt")
            .map(|s| s.address.0..s.address.0.saturating_add(s.size))
            .filter(|table| !table.is_empty())
    }

    /// Whether an address is in one of these.
    pub(crate) fn is_linkage(&self, address: u64) -> bool {
        self.linkage_tables().any(|table| table.contains(&address))
    }

    /// Whether it has code that mono compiled ahead of time: its run time takes the destinations of calls from the bytes of the
    /// jumps that they lead to (mono/mini/tramp-amd64.c).
    pub(crate) fn reads_its_jumps(&self) -> bool {
        *self.reads_its_jumps.get_or_init(|| {
            let name = "mono_aot_file_info";
            self.binary.data_object(name).is_some() || self.binary.symbol(name).is_some()
        })
    }

    fn code_ranges(&self) -> Vec<Range<u64>> {
        let sections = self.binary.executable_sections();
        if sections.is_empty() {
            let segments = self
                .binary
                .load_segments()
                .iter()
                .filter(|segment| segment.executable);
            segments
                .map(|s| s.vaddr.0..s.vaddr.0.saturating_add(s.file_size))
                .collect()
        } else {
            sections
                .iter()
                .map(|s| s.address.0..s.address.0.saturating_add(s.size))
                .collect()
        }
    }

    fn section(&self, range: Range<u64>) -> Option<CodeSection<'_>> {
        let bytes = self
            .binary
            .code_bytes(ImageAddr(range.start)..ImageAddr(range.end))?;
        Some(CodeSection {
            address: range.start,
            bytes,
        })
    }
}

/// See [`Module::apparent_system_calls`].
fn apparent(section: &CodeSection<'_>, functions: &[Range<u64>]) -> Vec<SystemCall> {
    let mut suspects: Vec<&Range<u64>> = memchr::memmem::find_iter(section.bytes, &SYSCALL)
        .filter_map(|offset| {
            let address = section.address + offset as u64;
            let next = functions.partition_point(|range| range.start <= address);
            functions.get(next.checked_sub(1)?)
        })
        .collect();
    suspects.dedup();
    let found = suspects.par_iter().flat_map_iter(|range| {
        let code = section.slice(Range::clone(range));
        code.map_or_else(Vec::new, |code| apparent_system_calls(code, range.start))
    });
    found.collect()
}

/// Whether a symbol names the rarely executed part of a function, as gcc and LLVM call it.
fn is_cold(name: &str) -> bool {
    name.ends_with(".cold") || name.contains(".cold.")
}
