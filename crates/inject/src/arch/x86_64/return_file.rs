//! The code of replaced return addresses as a file, for debuggers: what unwinders find in memory, in the form of a shared
//! library (System V ABI, chapter 4) that has a symbol and `.eh_frame`, and none of the code itself.

use super::ReturnTrampoline;

/// Bytes of an ELF header, of a section's header, of a symbol.
const HEADER: usize = 64;
const SECTION: usize = 64;
const SYMBOL: usize = 24;
const PAGE: u64 = 4096;
/// What debuggers show for the frame.
const NAME: &str = "spile_return";

/// A section: name, type, flags, address, link, first global symbol, size of an entry.
struct Section {
    name: &'static str,
    kind: u32,
    flags: u64,
    address: u64,
    link: u32,
    info: u32,
    entry: u64,
    bytes: Vec<u8>,
    size: u64,
}

impl ReturnTrampoline {
    /// The file, and the address that its address 0 is loaded at.
    pub fn file(&self) -> (u64, Vec<u8>) {
        let start = self.address - 1;
        let base = start & !(PAGE - 1);
        let frames = self.frames();
        let code = self.code_len();
        let mut symbols = vec![0; SYMBOL];
        symbols.extend(1u32.to_le_bytes());
        // A global function of the first section.
        symbols.extend([0x12, 0]);
        symbols.extend(1u16.to_le_bytes());
        symbols.extend((start - base).to_le_bytes());
        symbols.extend(code.to_le_bytes());
        let plain = |name, kind, bytes: Vec<u8>| Section {
            name,
            kind,
            flags: 0,
            address: 0,
            link: 0,
            info: 0,
            entry: 0,
            size: bytes.len() as u64,
            bytes,
        };
        let (progbits, symtab, strtab, nobits) = (1, 2, 3, 8);
        let mut sections = vec![
            Section {
                // Allocated and executable, with nothing of it in the file.
                flags: 2 | 4,
                address: start - base,
                size: code,
                ..plain(".text", nobits, Vec::new())
            },
            Section {
                flags: 2,
                address: frames.0 - base,
                ..plain(".eh_frame", progbits, frames.1.to_vec())
            },
            Section {
                link: 4,
                info: 1,
                entry: SYMBOL as u64,
                ..plain(".symtab", symtab, symbols)
            },
            plain(".strtab", strtab, format!("\0{NAME}\0").into_bytes()),
        ];
        let mut names = vec![0];
        let mut places = Vec::new();
        for name in sections.iter().map(|s| s.name).chain([".shstrtab"]) {
            places.push(names.len() as u32);
            names.extend(name.as_bytes());
            names.push(0);
        }
        sections.push(plain(".shstrtab", strtab, names));
        let mut out = vec![0; HEADER];
        let mut headers = vec![0; SECTION];
        for (section, place) in sections.iter().zip(places) {
            out.resize(out.len().next_multiple_of(8), 0);
            headers.extend(place.to_le_bytes());
            headers.extend(section.kind.to_le_bytes());
            for word in [
                section.flags,
                section.address,
                out.len() as u64,
                section.size,
            ] {
                headers.extend(word.to_le_bytes());
            }
            headers.extend(section.link.to_le_bytes());
            headers.extend(section.info.to_le_bytes());
            headers.extend(8u64.to_le_bytes());
            headers.extend(section.entry.to_le_bytes());
            out.extend(&section.bytes);
        }
        out.resize(out.len().next_multiple_of(8), 0);
        let headers_at = out.len() as u64;
        out.extend(headers);
        let mut header = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0];
        header.resize(16, 0);
        // A shared object for x86-64, without entry or segments.
        header.extend(3u16.to_le_bytes());
        header.extend(62u16.to_le_bytes());
        header.extend(1u32.to_le_bytes());
        header.extend([0; 16]);
        header.extend(headers_at.to_le_bytes());
        header.extend([0; 4]);
        let count = sections.len() as u16 + 1;
        for half in [HEADER as u16, 0, 0, SECTION as u16, count, count - 1] {
            header.extend(half.to_le_bytes());
        }
        out[..HEADER].copy_from_slice(&header);
        (base, out)
    }
}
