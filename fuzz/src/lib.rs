//! What several fuzz targets share: files made of given sections, and every question to a binary.

use std::sync::Arc;

use symbols::{Binary, DebugFiles, FunctionQuery, Glob, ImageAddr, LineSet, Location, report};

/// A section: its name, ELF type, address (0: not loaded) and bytes.
pub struct Section<'a> {
    pub name: &'a str,
    pub kind: u32,
    pub address: u64,
    pub bytes: &'a [u8],
}

impl<'a> Section<'a> {
    /// One that is not loaded.
    pub fn new(name: &'a str, bytes: &'a [u8]) -> Section<'a> {
        let kind = if name.starts_with(".note") { 7 } else { 1 };
        Section {
            name,
            kind,
            address: 0,
            bytes,
        }
    }

    /// One that is.
    pub fn at(name: &'a str, address: u64, bytes: &'a [u8]) -> Section<'a> {
        let section = Section::new(name, bytes);
        Section { address, ..section }
    }
}

/// Where the code of [`elf`] begins.
pub const CODE: u64 = 0x40_1000;
/// How long it is.
pub const CODE_SIZE: u64 = 0x1000;

/// An executable for x86-64 with some code and these sections. All that is loaded is in one segment whose addresses are
/// its offsets from `0x400000`, so addresses of sections must be beyond the code's and ascend.
pub fn elf(sections: &[Section<'_>]) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    let mut file = vec![0u8; (CODE - BASE) as usize];
    file.resize((CODE + CODE_SIZE - BASE) as usize, 0x90);
    let mut names = vec![0u8];
    let mut headers = vec![[0u8; 64]];
    let code = Section::at(".text", CODE, &[]);
    for (number, section) in std::iter::once(&code).chain(sections).enumerate() {
        if section.address >= BASE && number > 0 {
            let at = (section.address - BASE) as usize;
            file.resize(file.len().max(at), 0);
        }
        let (offset, size) = match number {
            0 => (CODE - BASE, CODE_SIZE),
            _ => (file.len() as u64, section.bytes.len() as u64),
        };
        file.extend_from_slice(section.bytes);
        let flags: u64 = match (section.address, number) {
            (0, _) => 0,
            (_, 0) => 6,
            _ => 2,
        };
        headers.push(header(
            names.len(),
            section.kind,
            flags,
            [section.address, offset, size],
        ));
        names.extend_from_slice(section.name.as_bytes());
        names.push(0);
    }
    let loaded = file.len() as u64;
    headers.push(header(0, 3, 0, [0, file.len() as u64, names.len() as u64]));
    file.extend_from_slice(&names);
    let table = file.len() as u64;
    for header in &headers {
        file.extend_from_slice(header);
    }
    let mut start = Vec::new();
    start.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    start.extend_from_slice(&[2, 0, 62, 0, 1, 0, 0, 0]);
    for word in [CODE, 64, table] {
        start.extend_from_slice(&word.to_le_bytes());
    }
    start.extend_from_slice(&[0; 4]);
    let count = headers.len() as u16;
    for half in [64u16, 56, 2, 64, count, count - 1] {
        start.extend_from_slice(&half.to_le_bytes());
    }
    let segments = [(1u32, 5u32, 0u64, BASE, loaded)];
    for (kind, flags, offset, address, size) in segments {
        start.extend_from_slice(&kind.to_le_bytes());
        start.extend_from_slice(&flags.to_le_bytes());
        for word in [offset, address, address, size, size, 0x1000] {
            start.extend_from_slice(&word.to_le_bytes());
        }
    }
    // The header of the unwind table, for which unwinders look by a segment of its own.
    let table = sections.iter().find(|s| s.name == ".eh_frame_hdr");
    let (address, size) = table.map_or((0, 0), |s| (s.address, s.bytes.len() as u64));
    let kind: u32 = if table.is_some() { 0x6474_e550 } else { 0 };
    start.extend_from_slice(&kind.to_le_bytes());
    start.extend_from_slice(&4u32.to_le_bytes());
    for word in [
        address.saturating_sub(BASE),
        address,
        address,
        size,
        size,
        4,
    ] {
        start.extend_from_slice(&word.to_le_bytes());
    }
    file[..start.len()].copy_from_slice(&start);
    file
}

fn header(name: usize, kind: u32, flags: u64, place: [u64; 3]) -> [u8; 64] {
    let mut header = [0; 64];
    header[..4].copy_from_slice(&(name as u32).to_le_bytes());
    header[4..8].copy_from_slice(&kind.to_le_bytes());
    header[8..16].copy_from_slice(&flags.to_le_bytes());
    for (at, word) in place.iter().enumerate() {
        header[16 + 8 * at..24 + 8 * at].copy_from_slice(&word.to_le_bytes());
    }
    header[48..56].copy_from_slice(&1u64.to_le_bytes());
    header
}

/// Asks a file everything; `large_from` is the size from which it is searched instead of decoded.
pub fn ask(bytes: Vec<u8>, large_from: u64) {
    let files = Arc::new(
        DebugFiles::default()
            .with_path("")
            .with_large_from(large_from),
    );
    let Ok(binary) = Binary::from_bytes_with("input", bytes, files) else {
        return;
    };
    ask_code(&binary);
    ask_debug_information(&binary);
}

/// What is known without debugging information.
pub fn ask_code(binary: &Binary) {
    for mark in binary.marks() {
        binary.read_data(mark.pc, 8);
    }
    binary.mark_errors();
    binary.build_id();
    for function in binary.functions().iter().take(1000) {
        function.demangled();
        binary.code_bytes(function.address..function.end());
    }
    binary.function_ranges();
    binary.landing_pads();
    binary.code_pointers();
    binary.plt_entries();
    binary.frame_rules();
    binary.symbol_table();
    binary.similar_names("main", 3);
    binary.indirect_implementations("main");
    if let Some(frames) = binary.call_frames() {
        for range in binary.function_ranges().iter().take(100) {
            frames.rows(range.start);
        }
        frames.rows(ImageAddr(CODE));
    }
}

/// What debugging information says.
pub fn ask_debug_information(binary: &Binary) {
    binary.line_index();
    binary.similar_dwarf_names("mian", 3);
    let Some(info) = binary.debug_info() else {
        return;
    };
    for (pattern, variables) in [("*", true), ("*", false), ("a*::f", true)] {
        let listable = |_: ImageAddr, location: &Location| location.unavailable().is_none();
        binary.list_functions(&FunctionQuery {
            pattern,
            file: None,
            functions: true,
            copies: true,
            external: false,
            variables: variables.then_some(&listable),
        });
    }
    info.similar_types("struct s", 3);
    info.similar_globals("g", 3);
    let mut functions = Vec::new();
    for pattern in ["*", "f", "a::f", "main"] {
        functions.extend(binary.dwarf_functions_matching(pattern).unwrap_or_default());
        functions.extend(binary.inlined_matching(pattern).unwrap_or_default());
    }
    functions.truncate(200);
    for function in &functions {
        let _ = binary.parameters(function);
        let _ = info.labels(function);
        let _ = info.inlined_into(function);
        let _ = info.function_holding(function.entry, true);
        let _ = report::variables(&info, function.entry);
        info.line_at(function.entry);
        info.statement_start(function.entry);
    }
    for lines in [
        LineSet::All,
        LineSet::Line(3),
        LineSet::Ranges(vec![(0, u64::MAX)]),
    ] {
        let _ = info.statements(&functions, &|_| true, &lines, true);
    }
    let _ = report::variables(&info, ImageAddr(CODE + 4));
    info.similar_files("a.c", 3);
    info.types_matching(&Glob::new("*"));
    let _ = report::types(&info, "*");
    info.type_named("struct s", None);
    info.enumerator("e", None);
    info.globals("g", |_| true, ImageAddr(CODE));
}
