//! One binary and what can be asked about it; every answer is computed when first asked for.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use object::elf;

use crate::address::{FileOffset, ImageAddr};
use crate::call_frame::CallFrames;
use crate::debug_files::DebugFiles;
use crate::dwarf::{
    CallerFrame, DebugInfo, DwarfFile, DwarfFunction, Elsewhere, FunctionIndex, SplitFiles, Term,
    Variable, VariableKind, from_eh_frame,
};
use crate::frame_rules::{self, FrameRules};
use crate::functions::{self, Binding, Function, FunctionTable, NamePattern};
use crate::image::Image;
use crate::libraries::{self, LibraryEnvironment};
use crate::line_index::{self, LineIndex};
use crate::neighbours::Neighbours;
use crate::plt::{self, PltEntry};
use crate::sdt::{MarkTable, SdtError, SdtMark};
use crate::suggest;
use crate::symbol_table::{self, SymbolTable};
use crate::unwind::{CodeRange, UnwindFacts};
use crate::{code_pointers, glob::Glob, mini_debug_info, thread_local, unwind};

/// Why a binary can't be read; each names the file.
#[derive(Debug, thiserror::Error)]
pub enum SymbolsError {
    /// There is no such file.
    #[error("{}: no such file", path.display())]
    NotFound {
        /// The file.
        path: PathBuf,
    },
    /// The file can't be opened or mapped.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The file is something else, for example a script.
    #[error("{}: not an ELF file", path.display())]
    NotElf {
        /// The file.
        path: PathBuf,
    },
    /// A program for another processor, or a 32-bit one.
    #[error("{}: a {bits}-bit {machine} binary; only 64-bit x86-64 is supported", path.display())]
    ForeignMachine {
        /// The file.
        path: PathBuf,
        /// 32 or 64.
        bits: u8,
        /// The processor's name.
        machine: String,
    },
    /// An object file or a core dump.
    #[error("{}: neither an executable nor a shared library (ELF type {elf_type})", path.display())]
    NotLoadable {
        /// The file.
        path: PathBuf,
        /// `e_type` of the file header.
        elf_type: u16,
    },
    /// The file is cut short or its tables contradict each other.
    #[error("{}: truncated or corrupt: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Debugging information can't be decoded.
    #[error("{}: corrupt debugging information at .debug_info+{offset:#x}: {reason}", path.display())]
    Dwarf {
        /// The file that holds the debugging information.
        path: PathBuf,
        /// Offset in `.debug_info` of the unit or entry.
        offset: usize,
        /// What is wrong.
        reason: String,
    },
}

/// What sort of file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BinaryKind {
    /// An executable with no dynamic linker, at a fixed address or (static PIE) relocating itself.
    StaticExecutable,
    /// An executable at a fixed address that a dynamic linker completes.
    DynamicExecutable,
    /// A position-independent executable that a dynamic linker completes.
    PieExecutable,
    /// A shared library (the dynamic linker itself included).
    SharedLibrary,
}

/// A part of the file that is mapped when the program is loaded (`PT_LOAD`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Address of its first byte.
    pub vaddr: ImageAddr,
    /// Where it stands in the file.
    pub file_offset: FileOffset,
    /// Bytes in the file.
    pub file_size: u64,
    /// Bytes in memory; those beyond `file_size` are zero.
    pub mem_size: u64,
    /// Whether it is mapped executable.
    pub executable: bool,
    /// Whether it is mapped writable.
    pub writable: bool,
}

/// A section header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Its name, such as `.text`.
    pub name: String,
    /// Address of its first byte; 0 when it is not loaded.
    pub address: ImageAddr,
    /// Where it stands in the file.
    pub file_offset: FileOffset,
    /// Size in bytes.
    pub size: u64,
    pub(crate) kind: elf::SectionType,
    /// `SHF_ALLOC`: it is in memory when the program runs.
    pub allocated: bool,
    /// `SHF_EXECINSTR`.
    pub executable: bool,
    /// `SHF_WRITE`.
    pub writable: bool,
    /// `SHF_COMPRESSED`.
    pub compressed: bool,
}

impl Section {
    /// Its addresses.
    pub fn range(&self) -> Range<ImageAddr> {
        self.address..ImageAddr(self.address.0.saturating_add(self.size))
    }
}

/// One ELF executable or shared library.
pub struct Binary {
    image: Image,
    needed: Vec<String>,
    soname: Option<String>,
    executable: Vec<Section>,
    functions: OnceLock<FunctionTable>,
    marks: OnceLock<MarkTable>,
    unwind: OnceLock<UnwindFacts>,
    ranges: OnceLock<Vec<CodeRange>>,
    pointers: OnceLock<Vec<ImageAddr>>,
    debug_file: OnceLock<Option<Image>>,
    supplementary_file: OnceLock<Option<Image>>,
    split_files: SplitFiles,
    dwarf_index: OnceLock<FunctionIndex>,
    neighbours: Neighbours,
    debug_files: Arc<DebugFiles>,
    /// Whether it was told which debugging sections are damaged.
    damage: OnceLock<()>,
    /// How often symbols were looked through one by one.
    questions: AtomicUsize,
    /// The text that was looked for last in the symbols' names, and what has it.
    last_found: Mutex<Option<(String, Arc<FunctionTable>)>>,
}

impl std::fmt::Debug for Binary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Binary")
            .field("path", &self.image.path)
            .field("kind", &self.kind())
            .finish_non_exhaustive()
    }
}

impl Binary {
    /// Maps a file and reads its tables of contents. Debugging information outside of it is looked for where
    /// [`DebugFiles::shared`] says.
    ///
    /// # Errors
    /// When there is no such file, it can't be read, or it is not a 64-bit x86-64 executable or shared library.
    pub fn open(path: &Path) -> Result<Binary, SymbolsError> {
        Binary::open_with(path, DebugFiles::shared())
    }

    /// The same with other places to look for debugging information.
    ///
    /// # Errors
    /// As [`Binary::open`].
    pub fn open_with(path: &Path, files: Arc<DebugFiles>) -> Result<Binary, SymbolsError> {
        Binary::new(Image::open(path)?, files)
    }

    /// The same for a file that is in memory already; `path` is what errors and `$ORIGIN` call it.
    ///
    /// # Errors
    /// As [`Binary::open`].
    pub fn from_bytes(path: impl Into<PathBuf>, bytes: Vec<u8>) -> Result<Binary, SymbolsError> {
        Binary::from_bytes_with(path, bytes, DebugFiles::shared())
    }

    /// The same with other places to look for debugging information.
    ///
    /// # Errors
    /// As [`Binary::open`].
    pub fn from_bytes_with(
        path: impl Into<PathBuf>,
        bytes: Vec<u8>,
        files: Arc<DebugFiles>,
    ) -> Result<Binary, SymbolsError> {
        Binary::new(Image::from_bytes(path.into(), bytes)?, files)
    }

    fn new(image: Image, debug_files: Arc<DebugFiles>) -> Result<Binary, SymbolsError> {
        if image.elf_type != elf::ET_EXEC && image.elf_type != elf::ET_DYN {
            return Err(SymbolsError::NotLoadable {
                path: image.path,
                elf_type: image.elf_type.0,
            });
        }
        let executable = image
            .sections
            .iter()
            .filter(|s| s.allocated && s.executable && s.kind == elf::SHT_PROGBITS)
            .cloned()
            .collect();
        Ok(Binary {
            needed: image.dynamic_strings(elf::DT_NEEDED),
            soname: image.dynamic_strings(elf::DT_SONAME).into_iter().next(),
            executable,
            image,
            functions: OnceLock::new(),
            marks: OnceLock::new(),
            unwind: OnceLock::new(),
            ranges: OnceLock::new(),
            pointers: OnceLock::new(),
            debug_file: OnceLock::new(),
            supplementary_file: OnceLock::new(),
            split_files: SplitFiles::default(),
            dwarf_index: OnceLock::new(),
            neighbours: Neighbours::default(),
            debug_files,
            damage: OnceLock::new(),
            questions: AtomicUsize::new(0),
            last_found: Mutex::default(),
        })
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.image.path
    }

    /// What sort of file it is.
    pub fn kind(&self) -> BinaryKind {
        let fixed = self.image.elf_type == elf::ET_EXEC;
        let pie = self
            .image
            .dynamic_value(elf::DT_FLAGS_1)
            .is_some_and(|f| f & elf::DF_1_PIE.0 != 0);
        match (fixed, self.image.interpreter.is_some()) {
            (true, true) => BinaryKind::DynamicExecutable,
            (true, false) => BinaryKind::StaticExecutable,
            (false, _) if self.soname.is_some() && !pie => BinaryKind::SharedLibrary,
            (false, true) => BinaryKind::PieExecutable,
            (false, false) if pie => BinaryKind::StaticExecutable,
            (false, false) => BinaryKind::SharedLibrary,
        }
    }

    /// Whether the loader may place it anywhere (ELF type `ET_DYN`), so that a load bias must be added to addresses.
    pub fn is_position_independent(&self) -> bool {
        self.image.elf_type == elf::ET_DYN
    }

    /// The dynamic linker that it asks for (`PT_INTERP`).
    pub fn interpreter(&self) -> Option<&str> {
        self.image.interpreter.as_deref()
    }

    /// Where execution starts.
    pub fn entry(&self) -> ImageAddr {
        self.image.entry
    }

    /// The `NT_GNU_BUILD_ID` note.
    pub fn build_id(&self) -> Option<&[u8]> {
        self.image.build_id()
    }

    /// A number that tells the file from others, the same wherever it stands: by its build-id, else by its first page and
    /// its length.
    pub fn fingerprint(&self) -> u64 {
        const HEAD: usize = 4096;
        // FNV-1a.
        let mix = |hash: u64, bytes: &[u8]| {
            bytes.iter().fold(hash, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
            })
        };
        let start = 0xcbf2_9ce4_8422_2325;
        if let Some(id) = self.build_id() {
            return mix(start, id);
        }
        let bytes = self.image.bytes();
        let head = bytes.get(..bytes.len().min(HEAD)).unwrap_or_default();
        mix(mix(start, head), &(bytes.len() as u64).to_le_bytes())
    }

    /// The caller of a function as the unwind table of the loaded file tells it, seen from one of the function's
    /// instructions; `None` when it does not, or not by sums and loads.
    pub fn caller_frame(&self, address: ImageAddr) -> Option<CallerFrame> {
        from_eh_frame(&self.image, address.0)
    }

    /// `DT_SONAME`.
    pub fn soname(&self) -> Option<&str> {
        self.soname.as_deref()
    }

    /// The libraries that it names itself (`DT_NEEDED`), in order.
    pub fn needed(&self) -> &[String] {
        &self.needed
    }

    /// The same as [`Binary::needed`].
    pub fn needed_libraries(&self) -> &[String] {
        &self.needed
    }

    /// The shared libraries that the dynamic linker maps at start, dependencies included, breadth first as it does,
    /// the dynamic linker itself last (ld.so(8)). Libraries that can't be found are left out. The vDSO is no file.
    pub fn resolve_libraries(&self, environment: &LibraryEnvironment) -> Vec<PathBuf> {
        libraries::resolve(self, environment)
    }

    /// What the loader maps, by ascending address.
    pub fn load_segments(&self) -> &[Segment] {
        &self.image.segments
    }

    /// Sections that hold instructions.
    pub fn executable_sections(&self) -> &[Section] {
        &self.executable
    }

    /// All section headers.
    pub fn sections(&self) -> &[Section] {
        &self.image.sections
    }

    /// The bytes of an executable segment as the file has them; `None` unless all of `range` is in one.
    pub fn code_bytes(&self, range: Range<ImageAddr>) -> Option<&[u8]> {
        self.image
            .in_executable_segment(range.start)
            .then(|| self.image.mapped(range))
            .flatten()
    }

    /// `length` bytes as the loader would map them from the file, relocations not applied.
    pub fn read_data(&self, address: ImageAddr, length: usize) -> Option<&[u8]> {
        let end = address.0.checked_add(u64::try_from(length).ok()?)?;
        self.image.mapped(address..ImageAddr(end))
    }

    /// Whether an executable section (or, without section headers, an executable segment) holds this address.
    pub fn is_code(&self, address: ImageAddr) -> bool {
        if self.executable.is_empty() {
            self.image.in_executable_segment(address)
        } else {
            self.executable.iter().any(|s| s.range().contains(&address))
        }
    }

    pub(crate) fn function_table(&self) -> &FunctionTable {
        self.functions
            .get_or_init(|| FunctionTable::build(&self.image, self.debug_image()))
    }

    /// The table of all functions; `None` while a look through the symbols for what is asked takes less time than making
    /// it.
    pub(crate) fn quick_table(&self) -> Option<&FunctionTable> {
        const MANY: u64 = 20_000;
        const QUESTIONS: usize = 8;
        if self.functions.get().is_none()
            && self.questions.load(Ordering::Relaxed) < QUESTIONS
            && functions::symbol_count(&self.image, self.debug_image()) > MANY
        {
            self.questions.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.function_table())
    }

    /// Functions with code, by ascending address; several names of one address are entries of their own. Undefined and
    /// empty symbols and PLT entries are not among them.
    pub fn functions(&self) -> &[Function] {
        self.function_table().functions()
    }

    /// Functions whose name, mangled or demangled without parameters, matches a pattern of `*`, `?` and `[…]`.
    pub fn functions_matching(&self, pattern: &str) -> Vec<Cow<'_, Function>> {
        let pattern = NamePattern::new(pattern);
        let needle = pattern.needle();
        match self.quick_table() {
            None if !needle.is_empty() => {
                let named = self.functions_with(needle, &HashSet::new());
                let meant = named.functions().iter();
                let meant = meant.filter(|f| pattern.matches(&f.name));
                meant.cloned().map(Cow::Owned).collect()
            }
            _ => {
                let found = self.function_table().matching(&pattern);
                found.into_iter().map(Cow::Borrowed).collect()
            }
        }
    }

    /// The function whose code holds this address; of several names the first that is exported, else the first.
    pub fn function_at(&self, address: ImageAddr) -> Option<Cow<'_, Function>> {
        match self.quick_table() {
            Some(table) => table.at(address).map(Cow::Borrowed),
            None => {
                let holds = |start, end| start <= address && address < end;
                let table = self.functions_where("", Some(&holds));
                table.at(address).cloned().map(Cow::Owned)
            }
        }
    }

    /// Whether others can call what begins at an address, by whichever of its names; unknown ones may be called.
    pub fn is_exported(&self, entry: ImageAddr) -> bool {
        let names = self.function_table().starting_at(entry);
        names.is_empty() || names.iter().any(|f| f.binding != Binding::Local)
    }

    /// Functions with some text in their names, and those that start at some addresses; perhaps others. Who asks for the one
    /// after having asked for the other gets the same table.
    pub(crate) fn functions_with(
        &self,
        needle: &str,
        starts: &HashSet<ImageAddr>,
    ) -> Arc<FunctionTable> {
        let mut last = self
            .last_found
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((text, table)) = &*last
            && text == needle
            && starts.is_empty()
        {
            return Arc::clone(table);
        }
        let is_asked = |start, _| starts.contains(&start);
        let asked: Option<&dyn Fn(ImageAddr, ImageAddr) -> bool> = match starts.is_empty() {
            true => None,
            false => Some(&is_asked),
        };
        let found = Arc::new(self.functions_where(needle, asked));
        *last = Some((needle.to_owned(), Arc::clone(&found)));
        found
    }

    /// The functions that have exactly this name, mangled if they are, by ascending address.
    pub fn functions_named(&self, name: &str) -> Vec<Cow<'_, Function>> {
        match self.functions.get() {
            Some(table) => {
                let named = table.functions().iter().filter(|f| f.name == name);
                named.map(Cow::Borrowed).collect()
            }
            None => {
                let found = self.functions_where(name, None).into_functions();
                let named = found.into_iter().filter(|f| f.name == name);
                named.map(Cow::Owned).collect()
            }
        }
    }

    pub(crate) fn functions_where(
        &self,
        needle: &str,
        wanted: Option<&dyn Fn(ImageAddr, ImageAddr) -> bool>,
    ) -> FunctionTable {
        functions::functions_where(&self.image, self.debug_image(), needle, wanted)
    }

    /// The address of a symbol of any type, `.dynsym` before `.symtab`.
    pub fn symbol(&self, name: &str) -> Option<ImageAddr> {
        self.function_table().symbol(name)
    }

    /// Names of functions near to one that was not found, best first.
    pub fn similar_names(&self, name: &str, limit: usize) -> Vec<String> {
        let demangled: Vec<String> = self
            .functions()
            .iter()
            .filter_map(Function::demangled)
            .collect();
        let names = self.functions().iter().map(|f| f.name.as_str());
        suggest::similar(
            name,
            names.chain(demangled.iter().map(String::as_str)),
            limit,
        )
    }

    /// Names of marks near to one that was not found, best first.
    pub fn similar_marks(&self, name: &str, limit: usize) -> Vec<String> {
        suggest::similar(name, self.marks().iter().map(|m| m.name.as_str()), limit)
    }

    fn mark_table(&self) -> &MarkTable {
        self.marks
            .get_or_init(|| MarkTable::build(&self.image, |name| self.symbol(name)))
    }

    /// The SDT marks (`.note.stapsdt`), in the order of the notes.
    pub fn marks(&self) -> &[SdtMark] {
        &self.mark_table().marks
    }

    /// What could not be read among the marks; the other marks are there.
    pub fn mark_errors(&self) -> &[SdtError] {
        &self.mark_table().errors
    }

    /// Marks whose provider and name match patterns of `*`, `?` and `[…]`.
    pub fn marks_matching(&self, provider: &str, name: &str) -> Vec<&SdtMark> {
        let (provider, name) = (Glob::new(provider), Glob::new(name));
        self.marks()
            .iter()
            .filter(|m| provider.matches(&m.provider) && name.matches(&m.name))
            .collect()
    }

    fn unwind_facts(&self) -> &UnwindFacts {
        self.unwind.get_or_init(|| UnwindFacts::read(&self.image))
    }

    /// Where functions begin and end, from symbols and unwind tables together, ascending and without overlaps; so it
    /// works for stripped files.
    pub fn function_ranges(&self) -> &[CodeRange] {
        self.ranges.get_or_init(|| {
            let functions = functions::extents(&self.image, self.debug_image());
            unwind::merge_ranges(&functions, &self.unwind_facts().frames)
        })
    }

    /// What the unwind table says of the stack at each instruction; `None` without one.
    pub fn call_frames(&self) -> Option<CallFrames<'_>> {
        CallFrames::read(&self.image)
    }

    /// Where exceptions resume (landing pads of `.gcc_except_table`), ascending.
    pub fn landing_pads(&self) -> &[ImageAddr] {
        &self.unwind_facts().landing_pads
    }

    /// Every address of code that data holds, ascending: what relocations store, and for a program at a fixed address
    /// every word of its data that could be one. A superset of what indirect jumps through pointers can reach.
    pub fn code_pointers(&self) -> &[ImageAddr] {
        self.pointers
            .get_or_init(|| code_pointers::find(self, &self.image))
    }

    /// The entries of the procedure linkage table, ascending. Read anew at each call.
    pub fn plt_entries(&self) -> Vec<PltEntry> {
        plt::find(self, &self.image)
    }

    /// How callers' frames are found from any address of the code. Read anew at each call.
    pub fn frame_rules(&self) -> FrameRules {
        frame_rules::read(&self.image, self.debug_image())
    }

    /// The names that SystemTap gives to addresses. Read anew at each call.
    pub fn symbol_table(&self) -> SymbolTable {
        symbol_table::read(&self.image, self.debug_image())
    }

    /// The variable that the symbol table has by a name: its address and its size in bytes. Looked for anew at each call.
    pub fn data_object(&self, name: &str) -> Option<(ImageAddr, u64)> {
        symbol_table::object(&self.image, || self.debug_image(), name)
    }

    /// The source lines of all code; empty without debugging information. Read anew at each call.
    pub fn line_index(&self) -> LineIndex {
        self.line_index_of(&|_| true)
    }

    /// The same of the units alone that have a source file whose path is wanted; with them comes what else these have.
    pub fn line_index_of(&self, wanted: &(dyn Fn(&str) -> bool + Sync)) -> LineIndex {
        self.dwarf_file()
            .map(|file| line_index::read(&file, wanted))
            .unwrap_or_default()
    }

    /// A separate debug file, where [`DebugFiles`] finds it; else the one in `.gnu_debugdata`.
    fn debug_image(&self) -> Option<&Image> {
        self.debug_file
            .get_or_init(|| {
                let found = self.debug_files.debug_file(&self.image);
                found.or_else(|| mini_debug_info::read(&self.image))
            })
            .as_ref()
    }

    /// The file that dwz(1) moved common entries to.
    fn supplementary_image(&self, debug: &Image) -> Option<&Image> {
        self.supplementary_file
            .get_or_init(|| self.debug_files.supplementary_file(debug))
            .as_ref()
    }

    pub(crate) fn dwarf_file(&self) -> Option<DwarfFile<'_>> {
        let load = |debug| {
            let supplementary = self.supplementary_image(debug);
            self.damage.get_or_init(|| {
                for damage in debug.damaged_sections() {
                    let path = debug.path.display();
                    self.debug_files.warn(format!("{path}: {damage}"));
                }
            });
            let (split, files) = (&self.split_files, &self.debug_files);
            DwarfFile::load(debug, &self.image, supplementary, split, files)
        };
        if self.image.section_in_any_form(".debug_info").is_some() {
            return load(&self.image);
        }
        self.debug_image().and_then(load)
    }

    /// The address of a byte of the binary's thread-local block, as a number that depends on the thread pointer; `None`
    /// when nothing in the file leads there.
    pub fn thread_local_address(&self, offset: u64) -> Option<Term> {
        thread_local::address(&self.image, self.kind(), offset)
    }

    pub(crate) fn neighbours(&self) -> &Neighbours {
        &self.neighbours
    }

    /// How other images name this one.
    pub(crate) fn as_elsewhere(&self) -> Elsewhere {
        const PAGE: u64 = 4096;
        let starts = self.load_segments().iter().map(|s| s.vaddr.0);
        Elsewhere {
            fingerprint: self.fingerprint(),
            lowest: ImageAddr(starts.min().unwrap_or(0) & !(PAGE - 1)),
        }
    }

    /// The debugging information, in the file or beside it; `None` when there is none.
    pub fn debug_info(&self) -> Option<DebugInfo<'_>> {
        let file = self.dwarf_file()?;
        let index = self.function_index();
        Some(DebugInfo::new(&file, index))
    }

    /// The file that holds the debugging information: this one or one beside it.
    pub fn debug_path(&self) -> Option<&Path> {
        self.dwarf_file().map(|file| file.debug.path.as_path())
    }

    pub(crate) fn function_index(&self) -> &FunctionIndex {
        self.dwarf_index
            .get_or_init(|| FunctionIndex::new(self.neighbours.clone()))
    }

    pub(crate) fn is_indexed_by(&self, index: &FunctionIndex) -> bool {
        self.dwarf_index
            .get()
            .is_some_and(|own| std::ptr::eq(own, index))
    }

    /// Whether debugging information is there, in the file or beside it.
    pub fn has_dwarf(&self) -> bool {
        self.dwarf_file().is_some()
    }

    /// The parameters of a function that this binary returned, located at its probe address.
    ///
    /// # Errors
    /// When the function's entry can't be decoded.
    pub fn parameters(&self, function: &DwarfFunction) -> Result<Vec<Variable>, SymbolsError> {
        let Some(info) = self.debug_info() else {
            return Ok(Vec::new());
        };
        let Some(scopes) = info.scopes_within(function.probe_address, function.entity())? else {
            return Ok(Vec::new());
        };
        let mut found = info.variables(&scopes)?;
        found.retain(|v| v.kind == VariableKind::Parameter);
        Ok(found)
    }
}

/// Whether running a file changes user or group (set-user-ID or set-group-ID bit), so that it can't be traced by
/// whoever starts it.
///
/// # Errors
/// When the file can't be looked at.
pub fn is_setuid(path: &Path) -> std::io::Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = std::fs::metadata(path)?;
    Ok(metadata.is_file() && metadata.permissions().mode() & 0o6000 != 0)
}
