//! Functions as the symbol tables list them.

use std::borrow::Cow;
use std::ops::Range;

use object::LittleEndian;
use object::elf;
use object::read::StringTable;
use object::read::elf::{FileHeader, SectionHeader, Sym};

use crate::address::ImageAddr;
use crate::glob::Glob;
use crate::image::Image;

/// The symbol's visibility to the linker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Binding {
    /// `STB_LOCAL`: a `static` function.
    Local,
    /// `STB_GLOBAL` (and `STB_GNU_UNIQUE`).
    Global,
    /// `STB_WEAK`.
    Weak,
}

/// What a function symbol stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FunctionKind {
    /// A function.
    Func,
    /// A resolver that returns the address of the function to be used (`STT_GNU_IFUNC`).
    IFunc,
}

/// Which table named a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FunctionSource {
    /// `.symtab`, of the file or of its separate debug file.
    Symtab,
    /// `.dynsym`.
    Dynsym,
    /// DWARF debugging information.
    Dwarf,
    /// `.gnu_debugdata` (MiniDebugInfo).
    Debugdata,
}

/// A function with code in this binary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// The name as the symbol table has it, mangled, symbol version left out.
    pub name: String,
    /// Where it starts.
    pub address: ImageAddr,
    /// Its length in bytes, never 0: what has none in the table, such as `_init`, goes as far as the next function or the
    /// end of its section.
    pub size: u64,
    /// How the linker saw it.
    pub binding: Binding,
    /// Whether other binaries can link to it (it is defined in `.dynsym`).
    pub exported: bool,
    /// A function or a resolver.
    pub kind: FunctionKind,
    /// Which table named it.
    pub source: FunctionSource,
}

impl Function {
    /// The name without mangling and without parameters; `None` when it is not mangled (C++, Rust).
    pub fn demangled(&self) -> Option<String> {
        demangle(&self.name)
    }

    /// Whether it is a piece that gcc cut off a function (`.part.N`, `.cold`): a call of the function does not begin here.
    pub fn is_fragment(&self) -> bool {
        self.name.contains(".part.") || self.name.ends_with(".cold") || self.name.contains(".cold.")
    }

    /// The address behind its last byte.
    pub fn end(&self) -> ImageAddr {
        ImageAddr(self.address.0.saturating_add(self.size))
    }
}

/// Demangles a C++ (Itanium) or Rust name, leaving out parameters, return type and Rust's hash; `None` when the name is
/// not mangled.
pub fn demangle(name: &str) -> Option<String> {
    if let Ok(rust) = rustc_demangle::try_demangle(name) {
        return Some(format!("{rust:#}"));
    }
    if !name.starts_with("_Z") {
        return None;
    }
    let symbol = cpp_demangle::Symbol::new(name).ok()?;
    let options = cpp_demangle::DemangleOptions::new()
        .no_params()
        .no_return_type()
        .recursion_limit(256);
    symbol.demangle_with_options(&options).ok()
}

/// The parts of a qualified name: `ns::Vec<a::B>::push` is `ns`, `Vec<a::B>` and `push`.
pub fn name_components(name: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let (mut start, mut depth) = (0, 0usize);
    let bytes = name.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'<' | b'(' | b'[' => depth += 1,
            b'>' | b')' | b']' => depth = depth.saturating_sub(1),
            b':' if depth == 0 && at >= start && bytes.get(at + 1) == Some(&b':') => {
                found.extend(name.get(start..at));
                start = at + 2;
            }
            _ => {}
        }
    }
    found.extend(name.get(start..));
    found
}

/// A function's name with the last `scopes` of the namespaces and classes around it, as far as its mangled name has them.
pub(crate) fn qualified_name<'n>(
    name: &'n str,
    linkage_name: Option<&str>,
    scopes: usize,
) -> Cow<'n, str> {
    let mangled = linkage_name.filter(|_| scopes > 0);
    let Some(full) = mangled.and_then(demangle) else {
        return Cow::Borrowed(name);
    };
    let mut parts = name_components(&full);
    parts.pop();
    let around = parts.len().saturating_sub(scopes);
    let mut parts = parts.split_off(around);
    parts.push(name);
    Cow::Owned(parts.join("::"))
}

/// A pattern for function names. With `::` in it, its parts stand for the last parts of a demangled name, as stap has it;
/// without, it stands for the name alone.
pub(crate) struct NamePattern {
    glob: Glob,
    /// Of a pattern without wildcards: most names can then be refused without demangling.
    literal: Option<String>,
    /// Of a pattern with `::`.
    components: Vec<Glob>,
    /// It begins as mangled names do (`_Z`, `_R`): its wildcards stand for parts of these.
    is_mangled: bool,
}

impl NamePattern {
    pub fn new(pattern: &str) -> NamePattern {
        let glob = Glob::new(pattern);
        let components = name_components(pattern);
        NamePattern {
            literal: glob.literal(),
            is_mangled: pattern.starts_with("_Z") || pattern.starts_with("_R"),
            glob,
            components: match components.len() {
                0 | 1 => Vec::new(),
                _ => components.into_iter().map(Glob::new).collect(),
            },
        }
    }

    /// Whether a symbol is meant.
    pub fn matches(&self, name: &str) -> bool {
        match &self.literal {
            Some(literal) if name == literal => true,
            None if self.components.is_empty() => self.glob.matches(name),
            _ => self.matches_qualified(name),
        }
    }

    /// Whether a function of the debugging information is meant, by its own name or the mangled one.
    pub fn matches_function(&self, name: &str, linkage_name: Option<&str>) -> bool {
        self.components.is_empty() && self.glob.matches(name)
            || linkage_name.is_some_and(|linkage_name| {
                self.literal.as_deref() == Some(linkage_name)
                    || self.is_mangled && self.glob.matches(linkage_name)
                    || self.matches_qualified(linkage_name)
            })
    }

    /// A part of every symbol that is meant; empty when nothing is known.
    pub fn needle(&self) -> &str {
        let literal = self.literal.as_deref().unwrap_or_default();
        let last = literal.rsplit("::").next().unwrap_or_default();
        let identifier = last.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        identifier.into_iter().next().unwrap_or_default()
    }

    /// Whether a symbol is meant as another name of a function that has a name in the debugging information: wildcards
    /// stand for no parts of mangled names.
    pub fn matches_alias(&self, name: &str) -> bool {
        let is_plain = self.literal.is_some() || !self.components.is_empty();
        self.matches(name) && (is_plain || demangle(name).is_none())
    }

    fn matches_qualified(&self, mangled: &str) -> bool {
        if self.components.is_empty() || !mangled.starts_with('_') {
            return false;
        }
        if !mangled.contains(self.needle()) {
            return false;
        }
        let Some(name) = demangle(mangled) else {
            return false;
        };
        let parts = name_components(&name);
        let Some(before) = parts.len().checked_sub(self.components.len()) else {
            return false;
        };
        let parts = parts.get(before..).unwrap_or_default();
        self.components.iter().zip(parts).all(|(g, p)| g.matches(p))
    }
}

/// A symbol with a name and a definition.
pub(crate) struct Symbol<'a> {
    strings: StringTable<'a>,
    /// Where its name begins in `strings`.
    name_offset: u32,
    address: ImageAddr,
    size: u64,
    binding: Binding,
    /// Of a function with code.
    kind: Option<FunctionKind>,
}

impl Symbol<'_> {
    /// Its name without symbol version; `None` when it lies outside the table or is empty.
    fn name(&self) -> Option<String> {
        let bytes = self.strings.get(self.name_offset).ok()?;
        let name = String::from_utf8_lossy(bytes);
        let name = name.split_once('@').map_or(&*name, |(name, _version)| name);
        (!bytes.is_empty()).then(|| name.to_owned())
    }

    fn function(&self, source: FunctionSource) -> Option<Function> {
        Some(Function {
            name: self.name()?,
            address: self.address,
            size: self.size,
            binding: self.binding,
            exported: source == FunctionSource::Dynsym,
            kind: self.kind?,
            source,
        })
    }
}

/// Goes through a symbol table: `.dynsym` or `.symtab`.
fn for_each_symbol<'a>(
    from: &'a Image,
    loaded: &Image,
    kind: elf::SectionType,
    mut each: impl FnMut(Symbol<'a>),
) {
    let data = from.bytes();
    let e = LittleEndian;
    let Some(header) = from.header() else { return };
    let Ok(sections) = header.sections(e, data) else {
        return;
    };
    let Ok(symbols) = sections.symbols(e, data, kind) else {
        return;
    };
    for symbol in symbols.iter() {
        if symbol.st_shndx(e) == elf::SHN_UNDEF {
            continue;
        }
        let symbol_type = symbol.st_type();
        if symbol_type == elf::STT_SECTION
            || symbol_type == elf::STT_FILE
            || symbol_type == elf::STT_TLS
        {
            continue;
        }
        let name_offset = symbol.st_name(e);
        if name_offset == 0 {
            continue;
        }
        let address = ImageAddr(symbol.st_value(e));
        let size = symbol.st_size(e);
        let kind = if symbol_type == elf::STT_FUNC {
            Some(FunctionKind::Func)
        } else if symbol_type == elf::STT_GNU_IFUNC {
            Some(FunctionKind::IFunc)
        } else {
            None
        };
        let bind = symbol.st_bind();
        let binding = if bind == elf::STB_LOCAL {
            Binding::Local
        } else if bind == elf::STB_WEAK {
            Binding::Weak
        } else {
            Binding::Global
        };
        each(Symbol {
            strings: symbols.strings(),
            name_offset,
            address,
            size,
            binding,
            kind: kind.filter(|_| loaded.in_executable_segment(address)),
        });
    }
}

/// The tables that name functions, and what each is called.
fn tables<'a>(
    image: &'a Image,
    debug: Option<&'a Image>,
) -> Vec<(&'a Image, elf::SectionType, FunctionSource)> {
    let mut tables = vec![
        (image, elf::SHT_DYNSYM, FunctionSource::Dynsym),
        (image, elf::SHT_SYMTAB, FunctionSource::Symtab),
    ];
    if let Some(debug) = debug {
        // What is embedded goes by the same name.
        let source = match debug.path == image.path {
            true => FunctionSource::Debugdata,
            false => FunctionSource::Symtab,
        };
        tables.push((debug, elf::SHT_SYMTAB, source));
    }
    tables
}

/// How many symbols there are, more or less.
pub(crate) fn symbol_count(image: &Image, debug: Option<&Image>) -> u64 {
    let tables = [Some(image), debug];
    let sections = tables.iter().flatten().flat_map(|image| &image.sections);
    let sections = sections.filter(|s| s.kind == elf::SHT_SYMTAB || s.kind == elf::SHT_DYNSYM);
    sections.map(|s| s.size / 24).sum()
}

/// The names in a symbol table's strings that have some text in them.
struct NamesWith {
    /// Of each, ascending: where it begins, and where the text stands in it for the last time. A symbol's name may be the
    /// end of another's.
    found: Vec<(usize, usize)>,
}

impl NamesWith {
    fn search(image: &Image, kind: elf::SectionType, needle: &str) -> NamesWith {
        let strings = symbol_strings(image, kind).unwrap_or_default();
        let is_one_name = |between: &[u8]| memchr::memchr(0, between).is_none();
        let mut found: Vec<(usize, usize)> = Vec::new();
        for at in memchr::memmem::find_iter(strings, needle) {
            match found.last_mut() {
                Some((_, last)) if strings.get(*last..at).is_some_and(is_one_name) => *last = at,
                _ => {
                    let before = strings.get(..at).unwrap_or_default();
                    let start = memchr::memrchr(0, before).map_or(0, |nul| nul + 1);
                    found.push((start, at));
                }
            }
        }
        NamesWith { found }
    }

    fn has(&self, name_offset: u32) -> bool {
        let offset = name_offset as usize;
        let next = self.found.partition_point(|(_, last)| *last < offset);
        let next = self.found.get(next);
        next.is_some_and(|(start, _)| *start <= offset)
    }
}

/// The names of a symbol table.
fn symbol_strings(image: &Image, kind: elf::SectionType) -> Option<&[u8]> {
    let data = image.bytes();
    let e = LittleEndian;
    let sections = image.header()?.sections(e, data).ok()?;
    let symbols = sections.symbols(e, data, kind).ok()?;
    let strings = sections.section(symbols.string_section()).ok()?;
    strings.data(e, data).ok()
}

/// Those functions alone that somebody asks for, where making a table of all would take longer: the ones that have `needle` in
/// their symbol's name, unless it is empty, and those whose start and end are `wanted`. In the order of a table of all.
pub(crate) fn functions_where(
    image: &Image,
    debug: Option<&Image>,
    needle: &str,
    wanted: Option<&dyn Fn(ImageAddr, ImageAddr) -> bool>,
) -> FunctionTable {
    let mut found = Vec::new();
    let wanted_at = |start, end| wanted.is_some_and(|wanted| wanted(start, end));
    for (from, kind, source) in tables(image, debug) {
        let named = (!needle.is_empty()).then(|| NamesWith::search(from, kind, needle));
        if wanted.is_none() && named.as_ref().is_none_or(|named| named.found.is_empty()) {
            continue;
        }
        for_each_symbol(from, image, kind, |symbol| {
            let end = ImageAddr(symbol.address.0.saturating_add(symbol.size));
            let is_named = |named: &NamesWith| named.has(symbol.name_offset);
            if symbol.kind.is_some()
                && (named.as_ref().is_some_and(is_named) || wanted_at(symbol.address, end))
            {
                found.extend(symbol.function(source));
            }
        });
    }
    // What has no size reaches to its neighbour, which nobody may have asked for.
    let mut starts: Vec<ImageAddr> = Vec::new();
    if found.iter().any(|f| f.size == 0) {
        for (from, kind, _) in tables(image, debug) {
            for_each_symbol(from, image, kind, |symbol| {
                starts.extend(symbol.kind.map(|_| symbol.address));
            });
        }
        starts.sort_unstable();
    }
    give_sizes(image, &starts, &mut found);
    FunctionTable::new(found, Vec::new())
}

/// Where what has no size ends: at the next function, with that around it, or with its section.
struct Ends<'a> {
    image: &'a Image,
    /// Of all functions, ascending.
    starts: &'a [ImageAddr],
    /// Of those that have a size: start and end, ascending.
    sized: Vec<(ImageAddr, ImageAddr)>,
    /// The highest end among `sized` up to each index.
    reach: Vec<ImageAddr>,
}

impl<'a> Ends<'a> {
    fn new(
        image: &'a Image,
        starts: &'a [ImageAddr],
        functions: impl Iterator<Item = (ImageAddr, u64)>,
    ) -> Ends<'a> {
        let mut sized: Vec<(ImageAddr, ImageAddr)> = functions
            .filter(|(_, size)| *size > 0)
            .map(|(start, size)| (start, ImageAddr(start.0.saturating_add(size))))
            .collect();
        sized.sort_unstable();
        let reach = highest_so_far(sized.iter().map(|(_, end)| *end));
        Ends {
            image,
            starts,
            sized,
            reach,
        }
    }

    fn size_at(&self, address: ImageAddr) -> u64 {
        let behind = self.starts.partition_point(|start| *start <= address);
        let sections = self.image.sections.iter();
        let mut sections = sections.filter(|s| s.allocated && s.executable);
        let section = sections.find(|s| s.range().contains(&address));
        let ends = [
            self.starts.get(behind).copied(),
            section.map(|s| s.range().end),
            self.end_around(address),
        ];
        let end = ends.into_iter().flatten().min();
        end.map_or(0, |end| end.0.saturating_sub(address.0))
    }

    fn end_around(&self, address: ImageAddr) -> Option<ImageAddr> {
        let behind = self.sized.partition_point(|(start, _)| *start <= address);
        let before = self.sized.iter().zip(&self.reach).take(behind).rev();
        before
            .take_while(|(_, reach)| **reach > address)
            .map(|((_, end), _)| *end)
            .filter(|end| *end > address)
            .min()
    }
}

/// The highest of the ends up to each.
fn highest_so_far(ends: impl Iterator<Item = ImageAddr>) -> Vec<ImageAddr> {
    let mut highest = ImageAddr(0);
    ends.map(|end| {
        highest = highest.max(end);
        highest
    })
    .collect()
}

/// Gives functions that have no size one; `starts` is ascending.
fn give_sizes(image: &Image, starts: &[ImageAddr], functions: &mut Vec<Function>) {
    if functions.iter().any(|f| f.size == 0) {
        let all = functions.iter().map(|f| (f.address, f.size));
        let ends = Ends::new(image, starts, all);
        for function in functions.iter_mut().filter(|f| f.size == 0) {
            function.size = ends.size_at(function.address);
        }
    }
    functions.retain(|f| f.size > 0);
}

/// Where the functions of the symbol tables begin and end, ascending: of a [`FunctionTable`] what takes least of its time.
pub(crate) fn extents(image: &Image, debug: Option<&Image>) -> Vec<Range<ImageAddr>> {
    let mut found: Vec<(ImageAddr, u64)> = Vec::new();
    for (from, kind, _) in tables(image, debug) {
        for_each_symbol(from, image, kind, |symbol| {
            found.extend(symbol.kind.map(|_| (symbol.address, symbol.size)));
        });
    }
    found.sort_unstable();
    found.dedup();
    let mut sizes = Vec::new();
    if found.iter().any(|(_, size)| *size == 0) {
        let starts: Vec<ImageAddr> = found.iter().map(|(start, _)| *start).collect();
        let ends = Ends::new(image, &starts, found.iter().copied());
        let unsized_at = found.iter().enumerate().filter(|(_, f)| f.1 == 0);
        sizes.extend(unsized_at.map(|(n, (start, _))| (n, ends.size_at(*start))));
    }
    for (n, size) in sizes {
        if let Some(function) = found.get_mut(n) {
            function.1 = size;
        }
    }
    let ranges = found.into_iter().filter(|(_, size)| *size > 0);
    ranges
        .map(|(start, size)| start..ImageAddr(start.0.saturating_add(size)))
        .collect()
}

pub(crate) struct FunctionTable {
    functions: Vec<Function>,
    /// The highest end among the functions up to each index, so that a search backwards knows when to stop.
    reach: Vec<ImageAddr>,
    /// Where each function stands among the symbols: of several names of one address stap takes the first of `.symtab`.
    order: Vec<(bool, usize)>,
    /// Symbols of anything but functions. Few are ever asked for, so they are searched one by one.
    others: Vec<(String, ImageAddr)>,
}

impl FunctionTable {
    pub fn build(image: &Image, debug: Option<&Image>) -> FunctionTable {
        let mut table = FunctionTable {
            functions: Vec::new(),
            reach: Vec::new(),
            order: Vec::new(),
            others: Vec::new(),
        };
        for (from, kind, source) in tables(image, debug) {
            table.read(from, image, kind, source);
        }
        let mut starts = Vec::new();
        if table.functions.iter().any(|f| f.size == 0) {
            starts.extend(table.functions.iter().map(|f| f.address));
            starts.sort_unstable();
        }
        give_sizes(image, &starts, &mut table.functions);
        FunctionTable::new(table.functions, table.others)
    }

    /// Of functions in the order of the symbols.
    fn new(functions: Vec<Function>, others: Vec<(String, ImageAddr)>) -> FunctionTable {
        let mut ordered: Vec<(Function, (bool, usize))> = functions
            .into_iter()
            .enumerate()
            .map(|(number, f)| {
                let from_dynamic = f.source == FunctionSource::Dynsym;
                (f, (from_dynamic, number))
            })
            .collect();
        ordered.sort_by(|(a, _), (b, _)| {
            (a.address, &a.name, !a.exported, a.size).cmp(&(
                b.address,
                &b.name,
                !b.exported,
                b.size,
            ))
        });
        ordered.dedup_by(|(later, at), (first, kept)| {
            let same = first.address == later.address && first.name == later.name;
            if same {
                *kept = (*kept).min(*at);
            }
            same
        });
        let (functions, order): (Vec<Function>, Vec<(bool, usize)>) = ordered.into_iter().unzip();
        let reach = highest_so_far(functions.iter().map(Function::end));
        FunctionTable {
            functions,
            reach,
            order,
            others,
        }
    }

    fn read(
        &mut self,
        from: &Image,
        loaded: &Image,
        kind: elf::SectionType,
        source: FunctionSource,
    ) {
        for_each_symbol(from, loaded, kind, |symbol| match symbol.function(source) {
            Some(function) => self.functions.push(function),
            None => {
                let name = symbol.name();
                self.others.extend(name.map(|name| (name, symbol.address)));
            }
        });
    }

    pub fn functions(&self) -> &[Function] {
        &self.functions
    }

    /// All names of the function that starts at an address.
    pub fn starting_at(&self, address: ImageAddr) -> &[Function] {
        let first = self.functions.partition_point(|f| f.address < address);
        let behind = self.functions.partition_point(|f| f.address <= address);
        self.functions.get(first..behind).unwrap_or_default()
    }

    /// Ascending by address, several names of one in the order of the symbols.
    pub fn matching(&self, pattern: &NamePattern) -> Vec<&Function> {
        let all = self.functions.iter().zip(&self.order);
        let mut found: Vec<(&Function, &(bool, usize))> =
            all.filter(|(f, _)| pattern.matches(&f.name)).collect();
        found.sort_by_key(|(f, order)| (f.address, **order));
        found.into_iter().map(|(f, _)| f).collect()
    }

    pub fn at(&self, address: ImageAddr) -> Option<&Function> {
        let behind = self.functions.partition_point(|f| f.address <= address);
        let mut best: Option<&Function> = None;
        for index in (0..behind).rev() {
            let (Some(function), Some(reach)) = (self.functions.get(index), self.reach.get(index))
            else {
                break;
            };
            if *reach <= address || best.is_some_and(|b| b.address != function.address) {
                break;
            }
            if function.end() > address && best.is_none_or(|b| function.exported || !b.exported) {
                best = Some(function);
            }
        }
        best
    }

    /// The functions, when nobody else needs the table.
    pub fn into_functions(self) -> Vec<Function> {
        self.functions
    }

    pub fn symbol(&self, name: &str) -> Option<ImageAddr> {
        let functions = self.functions.iter().filter(|f| f.name == name);
        let function = functions.max_by_key(|f| f.exported).map(|f| f.address);
        function.or_else(|| self.others.iter().find(|(n, _)| n == name).map(|(_, a)| *a))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_without_parameters() {
        // c++filt: "std::__throw_bad_alloc()", "Foo::bar(int)".
        assert_eq!(
            demangle("_ZSt17__throw_bad_allocv").as_deref(),
            Some("std::__throw_bad_alloc")
        );
        assert_eq!(demangle("_ZN3Foo3barEi").as_deref(), Some("Foo::bar"));
        assert_eq!(
            demangle("_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE").as_deref(),
            Some("core::fmt::Write::write_fmt")
        );
        assert_eq!(demangle("main"), None);
    }

    fn function(name: &str, start: u64, size: u64, exported: bool) -> Function {
        Function {
            name: name.into(),
            address: ImageAddr(start),
            size,
            binding: Binding::Global,
            exported,
            kind: FunctionKind::Func,
            source: FunctionSource::Symtab,
        }
    }

    #[test]
    fn an_address_belongs_to_the_innermost_function_and_its_exported_name() {
        let table = FunctionTable::new(
            vec![
                function("outer", 0x100, 0x100, true),
                function("a_local", 0x120, 0x10, false),
                function("b_exported", 0x120, 0x10, true),
                function("c_local", 0x120, 0x10, false),
                function("later", 0x200, 0x10, true),
            ],
            Vec::new(),
        );
        let at = |address| table.at(ImageAddr(address)).map(|f| f.name.as_str());
        assert_eq!(at(0xff), None);
        assert_eq!(at(0x100), Some("outer"));
        assert_eq!(at(0x125), Some("b_exported"));
        assert_eq!(at(0x130), Some("outer"));
        assert_eq!(at(0x20f), Some("later"));
        assert_eq!(at(0x210), None);
        assert_eq!(table.starting_at(ImageAddr(0x120)).len(), 3);
    }

    #[test]
    fn qualified_names_are_taken_apart_outside_of_brackets() {
        assert_eq!(name_components("f"), ["f"]);
        assert_eq!(
            name_components("ns::V<a::B>::push"),
            ["ns", "V<a::B>", "push"]
        );
        assert_eq!(name_components("<T as a::B>::m"), ["<T as a::B>", "m"]);
        assert_eq!(name_components("A::operator()"), ["A", "operator()"]);
    }

    #[test]
    fn pieces_of_functions_are_told_from_functions() {
        assert!(function("f.part.0", 1, 1, false).is_fragment());
        assert!(function("f.cold", 1, 1, false).is_fragment());
        assert!(!function("f.isra.0", 1, 1, false).is_fragment());
        assert!(!function("partition", 1, 1, false).is_fragment());
    }

    #[test]
    fn patterns_match_either_spelling() {
        let matches = |pattern: &str, name| NamePattern::new(pattern).matches(name);
        assert!(matches("Foo::bar", "_ZN3Foo3barEi"));
        assert!(matches("Foo::*", "_ZN3Foo3barEi"));
        assert!(matches("*::bar", "_ZN3Foo3barEi"));
        assert!(!matches("Bar::*", "_ZN3Foo3barEi"));
        // ns::Foo::bar(int): its last parts, part by part.
        assert!(matches("Foo::bar", "_ZN2ns3Foo3barEi"));
        assert!(matches("ns::*::bar", "_ZN2ns3Foo3barEi"));
        assert!(!matches("ns::*", "_ZN2ns3Foo3barEi"));
        assert!(matches("_ZN3Foo3barEi", "_ZN3Foo3barEi"));
        assert!(!matches("bar", "_ZN3Foo3barEi"));
        assert!(matches("mal*", "malloc"));
        let function = |pattern, name, linkage| {
            NamePattern::new(pattern).matches_function(name, Some(linkage))
        };
        assert!(function("_ZN3Foo*", "bar", "_ZN3Foo3barEi"));
        assert!(!function("_ZN3Baz*", "bar", "_ZN3Foo3barEi"));
        assert!(!function("*Foo*", "bar", "_ZN3Foo3barEi"));
    }
}
