//! An index of names: which functions, inlined copies, types and variables there are, and which code belongs to which unit.
//!
//! It is one block of bytes, the same in memory and in a file: a header, tables of little-endian 32-bit words, texts, and
//! a checksum for each 64 KiB, which is compared when the block is first looked at. Most names are offsets into the debug
//! file's `.debug_str`, so the index is of use together with exactly that file only.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use memmap2::Mmap;

use super::index_scan::{NO_FILE, NO_NAME, Part, TEXT};
use super::units::{EntryId, Home};

/// Changes with every change of what the bytes mean.
pub(crate) const VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"SPILEIDX";
const BLOCK: usize = 64 << 10;
/// Magic, version, block checksum table offset, bounds of each table, checksum of the header.
const HEADER: usize = 8 + 4 + 4 + 16 * TABLES + 4;
const TABLES: usize = 10;
/// In an entry of [`Table::Names`]: an origin of inlined copies and not a function.
const ORIGIN: u32 = 1 << 31;

/// The index contradicts its own checksums or bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Damaged;

#[derive(Clone, Copy)]
enum Table {
    /// Start of each unit in `.debug_info`: low and high word.
    Units,
    /// Code: begin and end (two words each), unit. By begin.
    Ranges,
    /// Name, linkage name, file, unit, entry.
    Functions,
    /// Name, linkage name, file, first of its copies.
    Origins,
    /// Unit, entry.
    Copies,
    /// Hash of a key, function or origin. By hash.
    Names,
    /// Hash of the name, name, unit, entry. By hash.
    Entities,
    /// Offset and length in the texts.
    Files,
    /// Texts.
    Texts,
    /// What it is an index of.
    Subject,
}

impl Table {
    const ALL: [Table; TABLES] = [
        Table::Units,
        Table::Ranges,
        Table::Functions,
        Table::Origins,
        Table::Copies,
        Table::Names,
        Table::Entities,
        Table::Files,
        Table::Texts,
        Table::Subject,
    ];

    /// Words of a row.
    fn width(self) -> usize {
        match self {
            Table::Units | Table::Copies | Table::Names | Table::Files => 2,
            Table::Ranges | Table::Functions => 5,
            Table::Origins | Table::Entities => 4,
            Table::Texts | Table::Subject => 1,
        }
    }
}

enum Bytes {
    Owned(Vec<u8>),
    Mapped(Mmap),
}

/// A function, or what was inlined somewhere, by its place in the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Named {
    Function(u32),
    Origin(u32),
}

/// What the index has of a function or an origin of copies.
pub(crate) struct Record<'a> {
    pub name: &'a [u8],
    pub linkage_name: Option<&'a [u8]>,
    /// The file that declares it; `None` when it does not say.
    pub file: Option<&'a [u8]>,
}

pub(crate) struct NameIndex {
    bytes: Bytes,
    tables: [Range<usize>; TABLES],
    checksums: usize,
    /// Blocks that were found to be sound.
    sound: Vec<AtomicBool>,
}

impl NameIndex {
    /// Reads the header.
    pub fn open(bytes: Mmap, subject: &[u8]) -> Result<NameIndex, Damaged> {
        NameIndex::new(Bytes::Mapped(bytes), subject)
    }

    /// The same of bytes in memory.
    pub fn from_bytes(bytes: Vec<u8>, subject: &[u8]) -> Result<NameIndex, Damaged> {
        NameIndex::new(Bytes::Owned(bytes), subject)
    }

    fn new(bytes: Bytes, subject: &[u8]) -> Result<NameIndex, Damaged> {
        let mut index = NameIndex {
            bytes,
            tables: std::array::from_fn(|_| 0..0),
            checksums: 0,
            sound: Vec::new(),
        };
        let data = index.data();
        let header = data.get(..HEADER).ok_or(Damaged)?;
        let word = |at: usize| {
            let bytes = header.get(at..at + 4)?.try_into().ok()?;
            Some(u32::from_le_bytes(bytes))
        };
        let sum = crc32fast::hash(header.get(..HEADER - 4).ok_or(Damaged)?);
        if header.get(..8) != Some(&MAGIC[..])
            || word(8) != Some(VERSION)
            || word(HEADER - 4) != Some(sum)
        {
            return Err(Damaged);
        }
        let mut tables: [Range<usize>; TABLES] = std::array::from_fn(|_| 0..0);
        let mut end = HEADER;
        for (i, table) in tables.iter_mut().enumerate() {
            let long = |at: usize| {
                let bytes = header.get(at..at + 8)?.try_into().ok()?;
                usize::try_from(u64::from_le_bytes(bytes)).ok()
            };
            let (from, to) = (long(16 + 16 * i), long(24 + 16 * i));
            let (Some(from), Some(to)) = (from, to) else {
                return Err(Damaged);
            };
            if from < end || to < from || to > data.len() {
                return Err(Damaged);
            }
            end = to;
            *table = from..to;
        }
        let blocks = end.div_ceil(BLOCK);
        if data.len() != end + 4 * blocks {
            return Err(Damaged);
        }
        index.tables = tables;
        index.checksums = end;
        index.sound = (0..blocks).map(|_| AtomicBool::new(false)).collect();
        if index.slice(index.table(Table::Subject))? != subject {
            return Err(Damaged);
        }
        Ok(index)
    }

    /// Of nothing.
    pub fn empty() -> NameIndex {
        NameIndex {
            bytes: Bytes::Owned(Vec::new()),
            tables: std::array::from_fn(|_| 0..0),
            checksums: 0,
            sound: Vec::new(),
        }
    }

    fn data(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Owned(bytes) => bytes,
            Bytes::Mapped(map) => map,
        }
    }

    /// All bytes, as they are written to a file.
    pub fn as_bytes(&self) -> &[u8] {
        self.data()
    }

    fn table(&self, table: Table) -> Range<usize> {
        self.tables.get(table as usize).cloned().unwrap_or_default()
    }

    fn rows(&self, table: Table) -> usize {
        self.table(table).len() / (4 * table.width())
    }

    /// Bytes whose blocks are sound.
    fn slice(&self, range: Range<usize>) -> Result<&[u8], Damaged> {
        if range.is_empty() {
            return Ok(&[]);
        }
        for number in range.start / BLOCK..=(range.end - 1) / BLOCK {
            let sound = self.sound.get(number).ok_or(Damaged)?;
            if sound.load(Ordering::Relaxed) {
                continue;
            }
            let data = self.data();
            let end = ((number + 1) * BLOCK).min(self.checksums);
            let block = data.get(number * BLOCK..end).ok_or(Damaged)?;
            let at = self.checksums + 4 * number;
            let sum = data.get(at..at + 4).and_then(|b| b.try_into().ok());
            if sum.map(u32::from_le_bytes) != Some(crc32fast::hash(block)) {
                return Err(Damaged);
            }
            sound.store(true, Ordering::Relaxed);
        }
        self.data().get(range).ok_or(Damaged)
    }

    fn row<const N: usize>(&self, table: Table, number: usize) -> Result<[u32; N], Damaged> {
        let range = self.table(table);
        let start = number.checked_mul(4 * N).ok_or(Damaged)?;
        let from = range.start.checked_add(start).ok_or(Damaged)?;
        let to = from.checked_add(4 * N).ok_or(Damaged)?;
        if to > range.end {
            return Err(Damaged);
        }
        let bytes = self.slice(from..to)?;
        let mut words = [0; N];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = u32::from_le_bytes(bytes.try_into().map_err(|_| Damaged)?);
        }
        Ok(words)
    }

    /// Where the units start that it covers, by number.
    pub fn unit_starts(&self) -> Result<Vec<usize>, Damaged> {
        let count = u32::try_from(self.rows(Table::Units)).map_err(|_| Damaged)?;
        (0..count).map(|number| self.unit(number)).collect()
    }

    fn unit(&self, number: u32) -> Result<usize, Damaged> {
        let [low, high] = self.row(Table::Units, number as usize)?;
        let start = u64::from(low) | u64::from(high) << 32;
        usize::try_from(start).map_err(|_| Damaged)
    }

    fn id(&self, unit: u32, die: u32) -> Result<EntryId, Damaged> {
        Ok(EntryId {
            home: Home::Main,
            unit: self.unit(unit)?,
            die: die as usize,
        })
    }

    /// A name; `strings` is the debug file's `.debug_str`.
    fn text<'a>(&'a self, name: u32, strings: &'a [u8]) -> Result<&'a [u8], Damaged> {
        let bytes = match name & TEXT {
            0 => strings.get(name as usize..).ok_or(Damaged)?,
            _ => {
                let texts = self.table(Table::Texts);
                let from = texts.start + (name & !TEXT) as usize;
                if from >= texts.end {
                    return Err(Damaged);
                }
                // Names are short, blocks are not.
                let near = from.saturating_add(4096).min(texts.end);
                let piece = self.slice(from..near)?;
                match memchr::memchr(0, piece) {
                    Some(_) => piece,
                    None => self.slice(from..texts.end)?,
                }
            }
        };
        let end = memchr::memchr(0, bytes).ok_or(Damaged)?;
        bytes.get(..end).ok_or(Damaged)
    }

    fn record<'a>(
        &'a self,
        [name, linkage_name, file]: [u32; 3],
        strings: &'a [u8],
    ) -> Result<Record<'a>, Damaged> {
        let linkage_name = match linkage_name {
            NO_NAME => None,
            name => Some(self.text(name, strings)?),
        };
        let file = match file {
            NO_FILE => None,
            file => {
                let [offset, length] = self.row(Table::Files, file as usize)?;
                let texts = self.table(Table::Texts);
                let from = texts.start + offset as usize;
                let to = from + length as usize;
                if to > texts.end {
                    return Err(Damaged);
                }
                Some(self.slice(from..to)?)
            }
        };
        Ok(Record {
            name: self.text(name, strings)?,
            linkage_name,
            file,
        })
    }

    /// What it has of one of its functions or origins.
    pub fn describe<'a>(&'a self, named: Named, strings: &'a [u8]) -> Result<Record<'a>, Damaged> {
        match named {
            Named::Function(number) => {
                let [name, linkage, file, ..] = self.row::<5>(Table::Functions, number as usize)?;
                self.record([name, linkage, file], strings)
            }
            Named::Origin(number) => {
                let [name, linkage, file, _] = self.row(Table::Origins, number as usize)?;
                self.record([name, linkage, file], strings)
            }
        }
    }

    /// The entry of a function with code.
    pub fn function(&self, number: u32) -> Result<EntryId, Damaged> {
        let [_, _, _, unit, die] = self.row(Table::Functions, number as usize)?;
        self.id(unit, die)
    }

    /// The inlined copies of an origin.
    pub fn copies(&self, number: u32) -> Result<Vec<EntryId>, Damaged> {
        let [.., first] = self.row::<4>(Table::Origins, number as usize)?;
        let behind = match (number as usize + 1) < self.rows(Table::Origins) {
            true => {
                let [.., next] = self.row::<4>(Table::Origins, number as usize + 1)?;
                next as usize
            }
            false => self.rows(Table::Copies),
        };
        (first as usize..behind)
            .map(|copy| {
                let [unit, die] = self.row(Table::Copies, copy)?;
                self.id(unit, die)
            })
            .collect()
    }

    /// All functions with code.
    pub fn functions(&self) -> impl Iterator<Item = u32> + use<> {
        0..u32::try_from(self.rows(Table::Functions)).unwrap_or(u32::MAX)
    }

    /// Everything that was inlined somewhere.
    pub fn origins(&self) -> impl Iterator<Item = u32> + use<> {
        0..u32::try_from(self.rows(Table::Origins)).unwrap_or(u32::MAX)
    }

    /// The first row of a table of hashes whose hash is not less.
    fn first(&self, table: Table, hash: u32) -> Result<usize, Damaged> {
        let (mut low, mut high) = (0, self.rows(table));
        while low < high {
            let middle = low + (high - low) / 2;
            let found = match table {
                Table::Names => self.row::<2>(table, middle)?[0],
                _ => self.row::<4>(table, middle)?[0],
            };
            match found < hash {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        Ok(low)
    }

    /// What may have a key (see [`super::index_scan::keys`]), each once, in the order of the debugging information.
    pub fn with_key(&self, key: &str) -> Result<Vec<Named>, Damaged> {
        let wanted = hash(key.as_bytes()).max(1);
        let mut found = Vec::new();
        for row in self.first(Table::Names, wanted)?..self.rows(Table::Names) {
            let [hash, named] = self.row(Table::Names, row)?;
            if hash != wanted {
                break;
            }
            found.push(match named & ORIGIN {
                0 => Named::Function(named),
                _ => Named::Origin(named & !ORIGIN),
            });
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// Types and variables outside of functions that have a name.
    pub fn entities(&self, name: &str, strings: &[u8]) -> Result<Vec<EntryId>, Damaged> {
        let wanted = hash(name.as_bytes());
        let mut found = Vec::new();
        for row in self.first(Table::Entities, wanted)?..self.rows(Table::Entities) {
            let [hash, text, unit, die] = self.row(Table::Entities, row)?;
            if hash != wanted {
                break;
            }
            if self.text(text, strings)? == name.as_bytes() {
                found.push(self.id(unit, die)?);
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Types and variables whose names satisfy a condition.
    pub fn entities_matching(
        &self,
        strings: &[u8],
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Result<Vec<EntryId>, Damaged> {
        let mut found = Vec::new();
        let mut last = None;
        for row in 0..self.rows(Table::Entities) {
            let [_, text, unit, die] = self.row(Table::Entities, row)?;
            // Those of one name stand together.
            let fits = match last {
                Some((name, fits)) if name == text => fits,
                _ => wanted(self.text(text, strings)?),
            };
            last = Some((text, fits));
            if fits {
                found.push(self.id(unit, die)?);
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// The unit whose code holds an address.
    pub fn unit_at(&self, address: u64) -> Result<Option<usize>, Damaged> {
        let (mut low, mut high) = (0, self.rows(Table::Ranges));
        let range = |row: usize| -> Result<(u64, u64, u32), Damaged> {
            let [a, b, c, d, unit] = self.row(Table::Ranges, row)?;
            let long = |low, high| u64::from(low) | u64::from(high) << 32;
            Ok((long(a, b), long(c, d), unit))
        };
        while low < high {
            let middle = low + (high - low) / 2;
            match range(middle)?.0 <= address {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        // Code that the linker discarded may seem to lie anywhere.
        const LOOK_BACK: usize = 16;
        for row in (low.saturating_sub(LOOK_BACK)..low).rev() {
            let (_, end, unit) = range(row)?;
            if address < end {
                return self.unit(unit).map(Some);
            }
        }
        Ok(None)
    }
}

/// FNV-1a.
pub(crate) fn hash(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

/// Puts together what was found in some units (`starts` are those of all units); the parts are in the order of the units.
/// `None` when there is more than the format can count.
pub(crate) fn assemble(starts: &[usize], parts: Vec<Part>, subject: &[u8]) -> Option<NameIndex> {
    let mut out = Assembly::default();
    for part in parts {
        out.add(part)?;
    }
    let bytes = out.finish(starts, subject)?;
    NameIndex::from_bytes(bytes, subject).ok()
}

/// Of one name in one scope this many types are kept: units repeat what headers declare.
const SAME_TYPES: u8 = 8;

#[derive(Default)]
struct Assembly {
    texts: Vec<u8>,
    known_texts: HashMap<Box<[u8]>, u32>,
    files: Vec<(u32, u32)>,
    known_files: HashMap<Box<[u8]>, u32>,
    ranges: Vec<(u64, u64, u32)>,
    functions: Vec<[u32; 5]>,
    origins: Vec<[u32; 3]>,
    known_origins: HashMap<[u32; 3], u32>,
    /// Origin, unit, entry.
    copies: Vec<[u32; 3]>,
    names: Vec<[u32; 2]>,
    entities: Vec<[u32; 4]>,
    same_types: HashMap<(u32, u32), u8>,
}

impl Assembly {
    fn intern(&mut self, text: &[u8]) -> Option<u32> {
        if let Some(known) = self.known_texts.get(text) {
            return Some(*known);
        }
        let at = u32::try_from(self.texts.len())
            .ok()
            .filter(|at| at & TEXT == 0)?
            | TEXT;
        self.texts.extend_from_slice(text);
        self.texts.push(0);
        self.known_texts.insert(text.into(), at);
        Some(at)
    }

    fn add(&mut self, part: Part) -> Option<()> {
        let mut files = Vec::with_capacity(part.files.len());
        for file in &part.files {
            let file = file.as_bytes();
            let number = match self.known_files.get(file) {
                Some(known) => *known,
                None => {
                    let at = u32::try_from(self.texts.len()).ok()?;
                    self.texts.extend_from_slice(file);
                    self.texts.push(0);
                    self.files.push((at, u32::try_from(file.len()).ok()?));
                    let number = u32::try_from(self.files.len() - 1).ok()?;
                    self.known_files.insert(file.into(), number);
                    number
                }
            };
            files.push(number);
        }
        let mut moved: HashMap<u32, u32> = HashMap::new();
        let mut name = |own: &mut Assembly, name: u32| -> Option<u32> {
            if name == NO_NAME || name & TEXT == 0 {
                return Some(name);
            }
            if let Some(known) = moved.get(&name) {
                return Some(*known);
            }
            let text = part.texts.get((name & !TEXT) as usize..)?;
            let end = memchr::memchr(0, text)?;
            let new = own.intern(text.get(..end)?)?;
            moved.insert(name, new);
            Some(new)
        };
        let file = |file: u32| files.get(file as usize).copied().unwrap_or(NO_FILE);
        for f in &part.functions {
            let number = u32::try_from(self.functions.len()).ok()?;
            let row = [
                name(self, f.name)?,
                name(self, f.linkage_name)?,
                file(f.file),
                f.unit,
                f.die,
            ];
            self.functions.push(row);
            let keys = f.keys.iter().filter(|k| **k != 0);
            self.names.extend(keys.map(|key| [*key, number]));
        }
        let mut origins = Vec::with_capacity(part.origins.len());
        for origin in &part.origins {
            let row = [
                name(self, origin.name)?,
                name(self, origin.linkage_name)?,
                file(origin.file),
            ];
            let number = match self.known_origins.get(&row) {
                Some(known) => *known,
                None => {
                    let number = u32::try_from(self.origins.len())
                        .ok()
                        .filter(|n| n & ORIGIN == 0)?;
                    self.origins.push(row);
                    self.known_origins.insert(row, number);
                    let keys = origin.keys.iter().filter(|k| **k != 0);
                    self.names.extend(keys.map(|key| [*key, number | ORIGIN]));
                    number
                }
            };
            origins.push(number);
        }
        for copy in &part.copies {
            let origin = *origins.get(copy.origin as usize)?;
            self.copies.push([origin, copy.unit, copy.die]);
        }
        for entity in &part.entities {
            let text = name(self, entity.name)?;
            if entity.is_type {
                let same = self.same_types.entry((entity.scope, text)).or_insert(0);
                if *same >= SAME_TYPES {
                    continue;
                }
                *same += 1;
            }
            self.entities
                .push([entity.hash, text, entity.unit, entity.die]);
        }
        self.ranges.extend(part.ranges);
        Some(())
    }

    fn finish(mut self, starts: &[usize], subject: &[u8]) -> Option<Vec<u8>> {
        self.ranges.sort_unstable();
        self.copies.sort_unstable();
        self.names.sort_unstable();
        self.entities.sort_unstable();
        let mut first = Vec::with_capacity(self.origins.len());
        let mut at = 0;
        for number in 0..self.origins.len() {
            first.push(u32::try_from(at).ok()?);
            let copies = self.copies.get(at..).unwrap_or_default();
            let own = copies.iter().take_while(|c| c[0] as usize == number);
            at += own.count();
        }
        let words = self.ranges.len() * 5
            + self.functions.len() * 5
            + (self.copies.len() + self.names.len() + starts.len() + self.files.len()) * 2
            + (self.entities.len() + self.origins.len()) * 4;
        let mut out = Vec::with_capacity(HEADER + words * 4 + self.texts.len() + 4096);
        out.resize(HEADER, 0);
        let mut bounds = Vec::with_capacity(TABLES);
        for table in Table::ALL {
            let from = out.len();
            let mut put = |words: &[u32]| {
                for word in words {
                    out.extend_from_slice(&word.to_le_bytes());
                }
            };
            let split = |long: u64| [long as u32, (long >> 32) as u32];
            match table {
                Table::Units => starts.iter().for_each(|s| put(&split(*s as u64))),
                Table::Ranges => {
                    for (begin, end, unit) in &self.ranges {
                        put(&split(*begin));
                        put(&split(*end));
                        put(&[*unit]);
                    }
                }
                Table::Functions => self.functions.iter().for_each(|row| put(row)),
                Table::Origins => {
                    for (row, first) in self.origins.iter().zip(&first) {
                        put(row);
                        put(&[*first]);
                    }
                }
                Table::Copies => self.copies.iter().for_each(|row| put(&row[1..])),
                Table::Names => self.names.iter().for_each(|row| put(row)),
                Table::Entities => self.entities.iter().for_each(|row| put(row)),
                Table::Files => self.files.iter().for_each(|(a, b)| put(&[*a, *b])),
                Table::Texts => out.extend_from_slice(&self.texts),
                Table::Subject => out.extend_from_slice(subject),
            }
            bounds.push((from, out.len()));
        }
        let mut header = Vec::with_capacity(HEADER);
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&VERSION.to_le_bytes());
        header.extend_from_slice(&0u32.to_le_bytes());
        for (from, to) in bounds {
            header.extend_from_slice(&(from as u64).to_le_bytes());
            header.extend_from_slice(&(to as u64).to_le_bytes());
        }
        header.extend_from_slice(&crc32fast::hash(&header).to_le_bytes());
        out.get_mut(..HEADER)?.copy_from_slice(&header);
        let sums: Vec<u32> = out.chunks(BLOCK).map(crc32fast::hash).collect();
        for sum in sums {
            out.extend_from_slice(&sum.to_le_bytes());
        }
        Some(out)
    }
}

/// Asks an index everything. With `checked` its header and checksums are made right first.
#[cfg(fuzzing)]
pub(crate) fn fuzz_index(bytes: &[u8], checked: bool) {
    let mut bytes = bytes.to_vec();
    if checked && bytes.len() >= HEADER {
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        // Bounds that ascend, out of whatever they are.
        let mut at = HEADER as u64;
        let room = (bytes.len() - HEADER) as u64;
        for table in 0..TABLES {
            for bound in 0..2 {
                let place = 16 + 16 * table + 8 * bound;
                let wanted = u64::from(bytes[place]) * room / 1024;
                at = (at + wanted).min(bytes.len() as u64);
                bytes[place..place + 8].copy_from_slice(&at.to_le_bytes());
            }
        }
        // It is about nothing.
        let place = 16 + 16 * (TABLES - 1);
        bytes[place + 8..place + 16].copy_from_slice(&at.to_le_bytes());
        bytes.copy_within(place + 8..place + 16, place);
        let sum = crc32fast::hash(&bytes[..HEADER - 4]);
        bytes[HEADER - 4..HEADER].copy_from_slice(&sum.to_le_bytes());
        bytes.truncate(at as usize);
        let sums: Vec<u32> = bytes.chunks(BLOCK).map(crc32fast::hash).collect();
        for sum in sums {
            bytes.extend_from_slice(&sum.to_le_bytes());
        }
    }
    let strings = b"a\0bc\0";
    let Ok(index) = NameIndex::from_bytes(bytes, b"") else {
        return;
    };
    let _ = (index.with_key("a"), index.entities("a", strings));
    let _ = (
        index.unit_at(0),
        index.unit_at(u64::MAX),
        index.unit_starts().is_ok(),
    );
    let _ = index.entities_matching(strings, |_| true);
    for number in index.functions().take(1000) {
        let _ = index.function(number);
        let _ = index
            .describe(Named::Function(number), strings)
            .map(|r| r.file);
    }
    for number in index.origins().take(1000) {
        let _ = index.copies(number).map(|copies| copies.len());
        let _ = index
            .describe(Named::Origin(number), strings)
            .map(|r| r.name);
    }
}
