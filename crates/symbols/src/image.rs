//! The container: an ELF file's bytes, its segments, sections and dynamic table.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use object::elf::{self, FileHeader64};
use object::read::elf::{CompressionHeader, Dyn, FileHeader, ProgramHeader, SectionHeader};
use object::{CompressedData, CompressionFormat, LittleEndian};

use crate::address::{FileOffset, ImageAddr};
use crate::binary::{Section, Segment, SymbolsError};
use crate::file_mapping::FileMapping;

type Header = FileHeader64<LittleEndian>;

/// Decompressed sections larger than this are taken for damage.
const DECOMPRESSED_LIMIT: u64 = 8 << 30;
/// No honest compressor shrinks debugging information further than this.
const COMPRESSION_RATIO_LIMIT: u64 = 2000;

enum Bytes {
    /// With the file, for reading without mapping.
    Mapped(FileMapping, File),
    Owned(Vec<u8>),
}

/// The bytes of a section, to be gone through piece by piece: reading them takes no memory that stays, as touching mapped
/// ones does.
pub(crate) struct SectionBytes<'a> {
    file: Option<(&'a File, u64)>,
    slice: &'a [u8],
}

impl<'a> SectionBytes<'a> {
    pub fn len(&self) -> u64 {
        self.slice.len() as u64
    }

    /// A piece; `None` when it is out of bounds or can't be read.
    pub fn read<'b>(&'b self, range: Range<u64>, buffer: &'b mut Vec<u8>) -> Option<&'b [u8]> {
        let (start, end) = (range.start as usize, range.end as usize);
        let here = self.slice.get(start..end)?;
        let Some((file, offset)) = self.file else {
            return Some(here);
        };
        buffer.resize(here.len(), 0);
        file.read_exact_at(buffer, offset + range.start).ok()?;
        Some(buffer)
    }

    #[cfg(test)]
    pub fn of_slice(slice: &'a [u8]) -> SectionBytes<'a> {
        SectionBytes { file: None, slice }
    }
}

/// One ELF file, checked to be 64-bit x86-64, with its tables of contents.
pub(crate) struct Image {
    pub path: PathBuf,
    bytes: Bytes,
    pub elf_type: elf::FileType,
    pub entry: ImageAddr,
    pub segments: Vec<Segment>,
    pub interpreter: Option<String>,
    pub sections: Vec<Section>,
    pub dynamic: Vec<(elf::DynamicTag, u64)>,
    pub eh_frame_header: Option<Range<u64>>,
    decompressed: Vec<OnceLock<Option<Vec<u8>>>>,
}

impl Image {
    pub fn open(path: &Path) -> Result<Image, SymbolsError> {
        Image::map(path, true)
    }

    /// Opens a separate debug file, whose program headers describe the stripped file and not its own bytes.
    pub fn open_debug_file(path: &Path) -> Result<Image, SymbolsError> {
        Image::map(path, false)
    }

    fn map(path: &Path, loadable: bool) -> Result<Image, SymbolsError> {
        let io = |source: std::io::Error| {
            if source.kind() == std::io::ErrorKind::NotFound {
                SymbolsError::NotFound {
                    path: path.to_owned(),
                }
            } else {
                SymbolsError::Io {
                    path: path.to_owned(),
                    source,
                }
            }
        };
        let file = File::open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        if !metadata.is_file() || metadata.len() == 0 {
            return Err(SymbolsError::NotElf {
                path: path.to_owned(),
            });
        }
        let map = FileMapping::new(&file).map_err(io)?;
        Image::parse(path.to_owned(), Bytes::Mapped(map, file), loadable)
    }

    /// A separate debug file that is in memory.
    pub fn debug_file_from_bytes(path: PathBuf, bytes: Vec<u8>) -> Result<Image, SymbolsError> {
        Image::parse(path, Bytes::Owned(bytes), false)
    }

    pub fn from_bytes(path: PathBuf, bytes: Vec<u8>) -> Result<Image, SymbolsError> {
        Image::parse(path, Bytes::Owned(bytes), true)
    }

    fn parse(path: PathBuf, bytes: Bytes, loadable: bool) -> Result<Image, SymbolsError> {
        let mut image = Image {
            path,
            bytes,
            elf_type: elf::ET_NONE,
            entry: ImageAddr(0),
            segments: Vec::new(),
            interpreter: None,
            sections: Vec::new(),
            dynamic: Vec::new(),
            eh_frame_header: None,
            decompressed: Vec::new(),
        };
        image.check_identity()?;
        let corrupt = |reason: object::read::Error| SymbolsError::Corrupt {
            path: image.path.clone(),
            reason: reason.to_string(),
        };
        let data = image.bytes();
        let header = Header::parse(data).map_err(corrupt)?;
        let e = LittleEndian;
        let programs = header.program_headers(e, data).map_err(corrupt)?;
        let table = header.sections(e, data).map_err(corrupt)?;
        let mut segments = Vec::new();
        let mut interpreter = None;
        let mut eh_frame_header = None;
        let mut dynamic = Vec::new();
        for p in programs.iter().filter(|_| loadable) {
            match p.p_type(e) {
                elf::PT_LOAD => segments.push(Segment {
                    vaddr: ImageAddr(p.p_vaddr(e)),
                    file_offset: FileOffset(p.p_offset(e)),
                    file_size: p.p_filesz(e),
                    mem_size: p.p_memsz(e),
                    executable: p.p_flags(e).contains(elf::PF_X),
                    writable: p.p_flags(e).contains(elf::PF_W),
                }),
                elf::PT_INTERP => {
                    let text = p.interpreter(e, data).map_err(corrupt)?;
                    interpreter = text.map(|t| String::from_utf8_lossy(t).into_owned());
                }
                elf::PT_GNU_EH_FRAME => {
                    let start = p.p_vaddr(e);
                    eh_frame_header = Some(start..start.saturating_add(p.p_memsz(e)));
                }
                elf::PT_DYNAMIC => {
                    if let Some(entries) = p.dynamic(e, data).map_err(corrupt)? {
                        dynamic = entries
                            .iter()
                            .map(|d| (d.d_tag(e), d.d_val(e)))
                            .take_while(|(tag, _)| *tag != elf::DT_NULL)
                            .collect();
                    }
                }
                _ => {}
            }
        }
        segments.sort_by_key(|s| s.vaddr);
        let mut sections = Vec::with_capacity(table.len());
        for s in table.iter() {
            let name = table
                .section_name(e, s)
                .map(|n| String::from_utf8_lossy(n).into_owned())
                .unwrap_or_default();
            let flags = s.sh_flags(e);
            sections.push(Section {
                name,
                address: ImageAddr(s.sh_addr(e)),
                file_offset: FileOffset(s.sh_offset(e)),
                size: s.sh_size(e),
                kind: s.sh_type(e),
                allocated: flags.contains(elf::SHF_ALLOC),
                executable: flags.contains(elf::SHF_EXECINSTR),
                writable: flags.contains(elf::SHF_WRITE),
                compressed: flags.contains(elf::SHF_COMPRESSED),
            });
        }
        let (elf_type, entry) = (header.e_type(e), ImageAddr(header.e_entry(e)));
        image.decompressed = sections.iter().map(|_| OnceLock::new()).collect();
        image.sections = sections;
        image.segments = segments;
        image.interpreter = interpreter;
        image.eh_frame_header = eh_frame_header;
        image.dynamic = dynamic;
        image.elf_type = elf_type;
        image.entry = entry;
        Ok(image)
    }

    /// Refuses what is not a 64-bit x86-64 executable, library or debug file, by the fields at fixed places.
    fn check_identity(&self) -> Result<(), SymbolsError> {
        let path = || self.path.clone();
        let data = self.bytes();
        if data.get(..4) != Some(b"\x7fELF") {
            return Err(SymbolsError::NotElf { path: path() });
        }
        let truncated = || SymbolsError::Corrupt {
            path: path(),
            reason: "the file header is cut short".into(),
        };
        let (Some(&class), Some(&order), Some(machine)) =
            (data.get(4), data.get(5), data.get(18..20))
        else {
            return Err(truncated());
        };
        let (class, order) = (elf::FileClass(class), elf::DataEncoding(order));
        let machine = match (order, machine) {
            (elf::ELFDATA2MSB, &[high, low]) => u16::from_be_bytes([high, low]),
            (_, &[low, high]) => u16::from_le_bytes([low, high]),
            _ => return Err(truncated()),
        };
        let machine = elf::Machine(machine);
        if class == elf::ELFCLASS64 && order == elf::ELFDATA2LSB && machine == elf::EM_X86_64 {
            return if data.len() < size_of::<Header>() {
                Err(truncated())
            } else {
                Ok(())
            };
        }
        if class != elf::ELFCLASS64 && class != elf::ELFCLASS32 {
            return Err(SymbolsError::Corrupt {
                path: path(),
                reason: format!("ELF class {} does not exist", class.0),
            });
        }
        Err(SymbolsError::ForeignMachine {
            path: path(),
            bits: if class == elf::ELFCLASS32 { 32 } else { 64 },
            machine: machine_name(machine),
        })
    }

    pub fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped(map, _) => map,
            Bytes::Owned(bytes) => bytes,
        }
    }

    pub fn header(&self) -> Option<&Header> {
        Header::parse(self.bytes()).ok()
    }

    pub fn section(&self, name: &str) -> Option<(usize, &Section)> {
        self.sections
            .iter()
            .enumerate()
            .find(|(_, s)| s.name == name)
    }

    /// What a section holds, decompressed if need be; `None` when it has no bytes in the file or lies outside it.
    pub fn contents(&self, index: usize) -> Option<&[u8]> {
        let section = self.sections.get(index)?;
        let raw = self.raw(section)?;
        if !section.compressed && !section.name.starts_with(".zdebug_") {
            return Some(raw);
        }
        self.decompressed
            .get(index)?
            .get_or_init(|| self.decompress(index))
            .as_deref()
    }

    pub fn contents_by_name(&self, name: &str) -> Option<&[u8]> {
        let (index, _) = self.section_in_any_form(name)?;
        self.contents(index)
    }

    /// A section, compressed in whatever way.
    pub fn section_in_any_form(&self, name: &str) -> Option<(usize, &Section)> {
        self.section(name).or_else(|| self.old_compressed(name))
    }

    /// `.zdebug_info` for `.debug_info`: how linkers compressed sections before there was a flag for it.
    fn old_compressed(&self, name: &str) -> Option<(usize, &Section)> {
        let name = name.strip_prefix(".debug_")?;
        let old = |s: &Section| s.name.strip_prefix(".zdebug_") == Some(name);
        self.sections.iter().enumerate().find(|(_, s)| old(s))
    }

    /// The same, to be gone through once.
    pub fn section_bytes(&self, name: &str) -> Option<SectionBytes<'_>> {
        let slice = self.contents_by_name(name)?;
        let plain = self.section(name).filter(|(_, s)| !s.compressed);
        let file = match (&self.bytes, plain) {
            (Bytes::Mapped(_, file), Some((_, section))) => Some((file, section.file_offset.0)),
            _ => None,
        };
        Some(SectionBytes { file, slice })
    }

    /// The names of sections that are there and can't be decompressed or lie outside of the file, with what is wrong.
    pub fn damaged_sections(&self) -> Vec<String> {
        let debug = |s: &Section| s.name.starts_with(".debug_") || s.name.starts_with(".zdebug_");
        let sections = self.sections.iter().enumerate();
        sections
            .filter(|(_, s)| debug(s) && s.size > 0 && s.kind != elf::SHT_NOBITS)
            .filter(|(index, _)| self.contents(*index).is_none())
            .map(|(_, s)| {
                let what = match self.raw(s) {
                    Some(_) => "can't be decompressed",
                    None => "ends outside of the file",
                };
                format!(
                    "section {} at offset {:#x} of the file, {} bytes: {what}",
                    s.name, s.file_offset.0, s.size
                )
            })
            .collect()
    }

    fn raw(&self, section: &Section) -> Option<&[u8]> {
        if section.kind == elf::SHT_NOBITS {
            return None;
        }
        let start = usize::try_from(section.file_offset.0).ok()?;
        let size = usize::try_from(section.size).ok()?;
        self.bytes().get(start..start.checked_add(size)?)
    }

    fn decompress(&self, index: usize) -> Option<Vec<u8>> {
        let data = self.bytes();
        let table = self.header()?.sections(LittleEndian, data).ok()?;
        let section = table.iter().nth(index)?;
        let known = self.sections.get(index)?;
        if known.name.starts_with(".zdebug_") {
            return decompress_old(self.raw(known)?);
        }
        let (compression, offset, compressed_size) =
            section.compression(LittleEndian, data).ok()??;
        let format = match compression.ch_type(LittleEndian) {
            elf::ELFCOMPRESS_ZLIB => CompressionFormat::Zlib,
            elf::ELFCOMPRESS_ZSTD => CompressionFormat::Zstandard,
            _ => return None,
        };
        let size: u64 = compression.ch_size(LittleEndian);
        if size > DECOMPRESSED_LIMIT
            || size > compressed_size.saturating_mul(COMPRESSION_RATIO_LIMIT)
        {
            return None;
        }
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(usize::try_from(compressed_size).ok()?)?;
        CompressedData {
            format,
            data: data.get(start..end)?,
            uncompressed_size: size,
        }
        .decompress()
        .ok()
        .map(|d| d.into_owned())
    }

    /// The bytes of the file that are mapped at `range`, if one segment holds them all.
    pub fn mapped(&self, range: Range<ImageAddr>) -> Option<&[u8]> {
        let length = range.end.0.checked_sub(range.start.0)?;
        let segment = self
            .segments
            .iter()
            .find(|s| range.start >= s.vaddr && range.start.0 - s.vaddr.0 < s.file_size.max(1))?;
        let within = range.start.0 - segment.vaddr.0;
        if within.checked_add(length)? > segment.file_size {
            return None;
        }
        let start = usize::try_from(segment.file_offset.0.checked_add(within)?).ok()?;
        self.bytes()
            .get(start..start.checked_add(usize::try_from(length).ok()?)?)
    }

    /// As [`Image::mapped`], from `start` to the end of what the file holds there.
    pub fn mapped_from(&self, start: ImageAddr) -> Option<&[u8]> {
        let segment = self
            .segments
            .iter()
            .find(|s| start >= s.vaddr && start.0 - s.vaddr.0 < s.file_size)?;
        let within = start.0 - segment.vaddr.0;
        let from = usize::try_from(segment.file_offset.0.checked_add(within)?).ok()?;
        let length = usize::try_from(segment.file_size - within).ok()?;
        let bytes = self.bytes().get(from..)?;
        bytes.get(..length.min(bytes.len()))
    }

    pub fn dynamic_value(&self, tag: elf::DynamicTag) -> Option<u64> {
        self.dynamic
            .iter()
            .find(|(t, _)| *t == tag)
            .map(|(_, value)| *value)
    }

    /// A string of the dynamic string table.
    pub fn dynamic_string(&self, offset: u64) -> Option<String> {
        let table = ImageAddr(self.dynamic_value(elf::DT_STRTAB)?);
        let bytes = self.mapped_from(ImageAddr(table.0.checked_add(offset)?))?;
        let end = bytes.iter().take(4096).position(|b| *b == 0)?;
        bytes
            .get(..end)
            .map(|b| String::from_utf8_lossy(b).into_owned())
    }

    pub fn dynamic_strings(&self, tag: elf::DynamicTag) -> Vec<String> {
        self.dynamic
            .iter()
            .filter(|(t, _)| *t == tag)
            .filter_map(|(_, offset)| self.dynamic_string(*offset))
            .collect()
    }

    /// The descriptor of the `NT_GNU_BUILD_ID` note.
    pub fn build_id(&self) -> Option<&[u8]> {
        let data = self.bytes();
        let header = self.header()?;
        for p in header.program_headers(LittleEndian, data).ok()? {
            let Ok(Some(mut notes)) = p.notes(LittleEndian, data) else {
                continue;
            };
            while let Ok(Some(note)) = notes.next() {
                if note.name() == elf::ELF_NOTE_GNU
                    && note.n_type(LittleEndian) == elf::NT_GNU_BUILD_ID
                {
                    return Some(note.desc());
                }
            }
        }
        let table = header.sections(LittleEndian, data).ok()?;
        for section in table.iter() {
            let Ok(Some(mut notes)) = section.notes(LittleEndian, data) else {
                continue;
            };
            while let Ok(Some(note)) = notes.next() {
                if note.name() == elf::ELF_NOTE_GNU
                    && note.n_type(LittleEndian) == elf::NT_GNU_BUILD_ID
                {
                    return Some(note.desc());
                }
            }
        }
        None
    }

    pub fn in_executable_segment(&self, address: ImageAddr) -> bool {
        self.segments
            .iter()
            .any(|s| s.executable && address >= s.vaddr && address.0 - s.vaddr.0 < s.mem_size)
    }
}

/// `ZLIB`, the size as eight bytes, highest first, and the compressed bytes.
fn decompress_old(bytes: &[u8]) -> Option<Vec<u8>> {
    let (header, data) = bytes.split_at_checked(12)?;
    let size = u64::from_be_bytes(header.strip_prefix(b"ZLIB")?.try_into().ok()?);
    if size > DECOMPRESSED_LIMIT
        || size > (data.len() as u64).saturating_mul(COMPRESSION_RATIO_LIMIT)
    {
        return None;
    }
    let compressed = CompressedData {
        format: CompressionFormat::Zlib,
        data,
        uncompressed_size: size,
    };
    compressed.decompress().ok().map(|d| d.into_owned())
}

fn machine_name(machine: elf::Machine) -> String {
    match machine {
        elf::EM_386 => "i386".into(),
        elf::EM_X86_64 => "x86-64".into(),
        elf::EM_ARM => "ARM".into(),
        elf::EM_AARCH64 => "aarch64".into(),
        elf::EM_PPC => "PowerPC".into(),
        elf::EM_PPC64 => "PowerPC64".into(),
        elf::EM_S390 => "S/390".into(),
        elf::EM_RISCV => "RISC-V".into(),
        elf::EM_MIPS => "MIPS".into(),
        elf::EM_SPARCV9 => "SPARC V9".into(),
        elf::EM_LOONGARCH => "LoongArch".into(),
        other => format!("machine number {}", other.0),
    }
}
