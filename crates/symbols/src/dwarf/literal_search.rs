//! Which units may name something, found without decoding them.
//!
//! A name stands once or a few times in `.debug_str`, and the units that use it hold its offset as four bytes. Looking for
//! these goes at the speed of memory, where decoding all entries of a large file takes seconds. What is found is a superset:
//! the same bytes may mean something else.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use memchr::memmem;
use rayon::prelude::*;

use super::sections::{DwarfFile, Slice};
use crate::image::SectionBytes;

/// Read at a time: as much as a processor keeps near.
const CHUNK: u64 = 512 << 10;
/// How far behind the beginning of an entry its attributes are recognised.
const FURTHEST: usize = 64;
/// Up to so many patterns each is looked for by itself.
const SINGLY: usize = 4;
/// More places than this in the strings are too many to look for.
const MOST_STRINGS: usize = 1 << 16;

/// The forms in which entries name things and refer to each other, of all abbreviations.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Forms {
    /// Offsets into `.debug_str`.
    offsets: bool,
    /// Texts among the entries.
    texts: bool,
    /// Numbers into `.debug_str_offsets`.
    numbers: bool,
    /// Anything else: the supplementary file, or units in other files.
    elsewhere: bool,
    /// Copies and definitions may refer to other units.
    across_units: bool,
    /// They refer to entries of their own unit in another way than by four bytes.
    short_references: bool,
}

impl Forms {
    /// `None` when the tables can't be gone through.
    fn read(abbreviations: &[u8]) -> Option<Forms> {
        let mut forms = Forms::default();
        let mut at = 0;
        let mut next = || -> Option<u64> {
            let mut value = 0u64;
            let mut shift = 0;
            loop {
                let byte = *abbreviations.get(at)?;
                at += 1;
                if shift < 64 {
                    value |= u64::from(byte & 0x7f) << shift;
                }
                shift += 7;
                if byte & 0x80 == 0 {
                    return Some(value);
                }
            }
        };
        // Code 0 ends a table, or is padding behind one.
        while let Some(code) = next() {
            if code == 0 {
                continue;
            }
            next()?;
            next()?;
            loop {
                let (name, form) = (next()?, next()?);
                let form = gimli::DwForm(u16::try_from(form).ok()?);
                if form == gimli::DW_FORM_implicit_const {
                    next()?;
                }
                if (name, form.0) == (0, 0) {
                    break;
                }
                forms.note(gimli::DwAt(u16::try_from(name).ok()?), form);
            }
        }
        Some(forms)
    }

    fn note(&mut self, name: gimli::DwAt, form: gimli::DwForm) {
        match name {
            gimli::DW_AT_name | gimli::DW_AT_linkage_name | gimli::DW_AT_MIPS_linkage_name => {
                match form {
                    gimli::DW_FORM_strp => self.offsets = true,
                    gimli::DW_FORM_string => self.texts = true,
                    gimli::DW_FORM_strx
                    | gimli::DW_FORM_strx1
                    | gimli::DW_FORM_strx2
                    | gimli::DW_FORM_strx3
                    | gimli::DW_FORM_strx4 => self.numbers = true,
                    // Names of source files, which units have.
                    gimli::DW_FORM_line_strp => {}
                    _ => self.elsewhere = true,
                }
            }
            gimli::DW_AT_abstract_origin | gimli::DW_AT_specification => match form {
                gimli::DW_FORM_ref4 => {}
                gimli::DW_FORM_ref1
                | gimli::DW_FORM_ref2
                | gimli::DW_FORM_ref8
                | gimli::DW_FORM_ref_udata => self.short_references = true,
                gimli::DW_FORM_ref_addr => self.across_units = true,
                _ => self.elsewhere = true,
            },
            gimli::DW_AT_dwo_name | gimli::DW_AT_GNU_dwo_name => self.elsewhere = true,
            _ => {}
        }
    }
}

/// A search through one debug file.
pub(crate) struct LiteralSearch<'a> {
    dwarf: Arc<gimli::Dwarf<Slice<'a>>>,
    info: SectionBytes<'a>,
    strings: Option<SectionBytes<'a>>,
    string_offsets: Option<&'a [u8]>,
    starts: &'a [usize],
    forms: Forms,
}

impl<'a> LiteralSearch<'a> {
    /// `None` when names of the file may stand where they are not looked for.
    pub fn new(file: &DwarfFile<'a>, starts: &'a [usize]) -> Option<LiteralSearch<'a>> {
        let image = file.debug;
        if file.dwarf.sup.is_some() {
            return None;
        }
        let forms = Forms::read(image.contents_by_name(".debug_abbrev")?)?;
        if forms.elsewhere {
            return None;
        }
        Some(LiteralSearch {
            dwarf: Arc::clone(&file.dwarf),
            info: image.section_bytes(".debug_info")?,
            strings: image.section_bytes(".debug_str"),
            string_offsets: match forms.numbers {
                true => Some(image.contents_by_name(".debug_str_offsets")?),
                false => None,
            },
            starts,
            forms,
        })
    }

    /// Whether entries of other units may have what they copy or define in another.
    pub fn is_across_units(&self) -> bool {
        self.forms.across_units
    }

    /// The units, by number, in which a name may stand that begins with a key and ends there, or goes on with anything that
    /// is no part of an identifier; with `functions` those alone that may have a function or copy so named, and not only
    /// declare one. `None` when it stands in too many places.
    pub fn naming(&self, key: &str, functions: bool) -> Option<BTreeSet<usize>> {
        let mut patterns: HashSet<u32> = HashSet::new();
        if self.forms.offsets || self.forms.numbers {
            let strings = self.strings.as_ref()?;
            for offset in find_text(strings, key)? {
                patterns.insert(u32::try_from(offset).ok()?);
            }
            if patterns.len() > MOST_STRINGS {
                return None;
            }
        }
        let mut units = BTreeSet::new();
        if let Some(table) = self.string_offsets {
            // Units hold where their part of the table begins.
            let mut bases = HashSet::new();
            for (part, base) in contributions(table) {
                let mut words = part
                    .chunks_exact(4)
                    .map(|w| w.try_into().map(u32::from_le_bytes));
                if words.any(|w| w.is_ok_and(|w| patterns.contains(&w))) {
                    bases.insert(u32::try_from(base).ok()?);
                }
            }
            units.extend(self.holding(&bases)?);
        }
        let mut places = Vec::new();
        if self.forms.offsets {
            places.extend(self.places(&patterns)?);
        }
        if self.forms.texts {
            places.extend(find_text(&self.info, key)?);
        }
        match functions && !self.forms.across_units && !self.forms.short_references {
            true => units.extend(self.defining(places)),
            false => units.extend(places.into_iter().filter_map(|at| self.unit_of(at))),
        }
        Some(units)
    }

    /// Of the units in which names stand at these places those that have more than declarations of functions there.
    fn defining(&self, places: Vec<u64>) -> Vec<usize> {
        let mut by_unit: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
        for place in places {
            if let Some(unit) = self.unit_of(place) {
                by_unit.entry(unit).or_default().push(place);
            }
        }
        let by_unit: Vec<(usize, Vec<u64>)> = by_unit.into_iter().collect();
        by_unit
            .into_par_iter()
            .filter(|(unit, places)| self.defines(*unit, places).unwrap_or(true))
            .map(|(unit, _)| unit)
            .collect()
    }

    /// Whether a unit has more at these places than entries that are no functions, and declarations of functions that
    /// nothing in it refers to. `None` when that can't be told.
    fn defines(&self, unit: usize, places: &[u64]) -> Option<bool> {
        let start = *self.starts.get(unit)?;
        let end = match self.starts.get(unit + 1) {
            Some(next) => *next as u64,
            None => self.info.len(),
        };
        let header = self
            .dwarf
            .debug_info
            .header_from_offset(gimli::DebugInfoOffset(start))
            .ok()?;
        let abbreviations = self.dwarf.abbreviations(&header).ok()?;
        let mut buffer = Vec::new();
        let bytes = self.info.read(start as u64..end, &mut buffer)?;
        let entries = Entries {
            bytes,
            abbreviations: &abbreviations,
            encoding: header.encoding(),
        };
        let mut declarations = Vec::new();
        for place in places {
            let place = usize::try_from(place.checked_sub(start as u64)?).ok()?;
            let found = entries.with_attribute_at(place, &NAMES);
            if found.is_empty() {
                return Some(true);
            }
            for (entry, abbreviation) in found {
                if abbreviation.tag() != gimli::DW_TAG_subprogram {
                    continue;
                }
                let attributes = abbreviation.attributes();
                let is_declaration = attributes
                    .iter()
                    .any(|a| a.name() == gimli::DW_AT_declaration);
                if !is_declaration {
                    return Some(true);
                }
                declarations.push(u32::try_from(entry).ok()?);
            }
        }
        // Entries also say where their next sibling is, and calls what they call.
        let is_reference = |at: usize| {
            let is_one_of =
                |attributes: &[gimli::DwAt]| !entries.with_attribute_at(at, attributes).is_empty();
            is_one_of(&ORIGINS) || !is_one_of(&OTHER_REFERENCES)
        };
        let referred = declarations.iter().any(|entry| {
            let pattern = entry.to_le_bytes();
            memmem::find_iter(bytes, &pattern).any(is_reference)
        });
        Some(referred)
    }

    /// The units that may refer to entries, given by their places in `.debug_info`.
    pub fn referring(&self, entries: &[usize]) -> Option<BTreeSet<usize>> {
        let patterns: Option<HashSet<u32>> =
            entries.iter().map(|e| u32::try_from(*e).ok()).collect();
        self.holding(&patterns?)
    }

    fn unit_of(&self, at: u64) -> Option<usize> {
        let at = usize::try_from(at).ok()?;
        self.starts.partition_point(|s| *s <= at).checked_sub(1)
    }

    /// The units that hold any of these words somewhere. `None` when the file can't be read.
    fn holding(&self, patterns: &HashSet<u32>) -> Option<BTreeSet<usize>> {
        let places = self.places(patterns)?.into_iter();
        Some(places.filter_map(|at| self.unit_of(at)).collect())
    }

    /// Where any of these words stand.
    fn places(&self, patterns: &HashSet<u32>) -> Option<Vec<u64>> {
        if patterns.is_empty() {
            return Some(Vec::new());
        }
        let bytes: Vec<[u8; 4]> = patterns.iter().map(|p| p.to_le_bytes()).collect();
        let found: Option<Vec<Vec<u64>>> = match bytes.len() {
            0..=SINGLY => {
                let finders: Vec<_> = bytes.iter().map(memmem::Finder::new).collect();
                search(&self.info, 3, |chunk, found| {
                    for finder in &finders {
                        found.extend(finder.find_iter(chunk));
                    }
                })
            }
            _ => {
                let filter = Filter::new(patterns);
                search(&self.info, 3, |chunk, found| {
                    for (at, word) in chunk.windows(4).enumerate() {
                        let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
                        if filter.may_hold(word) && patterns.contains(&word) {
                            found.push(at);
                        }
                    }
                })
            }
        };
        Some(found?.into_iter().flatten().collect())
    }
}

const NAMES: [gimli::DwAt; 3] = [
    gimli::DW_AT_name,
    gimli::DW_AT_linkage_name,
    gimli::DW_AT_MIPS_linkage_name,
];
const ORIGINS: [gimli::DwAt; 2] = [gimli::DW_AT_abstract_origin, gimli::DW_AT_specification];

/// What else refers to declarations of functions.
const OTHER_REFERENCES: [gimli::DwAt; 4] = [
    gimli::DW_AT_sibling,
    gimli::DW_AT_call_origin,
    gimli::DW_AT_import,
    gimli::DW_AT_type,
];

/// The bytes of a unit, read from anywhere.
struct Entries<'t> {
    bytes: &'t [u8],
    abbreviations: &'t gimli::Abbreviations,
    encoding: gimli::Encoding,
}

impl<'t> Entries<'t> {
    /// What would, if it began not far before a place, be an entry with the value of one of these attributes there.
    fn with_attribute_at(
        &self,
        place: usize,
        attributes: &[gimli::DwAt],
    ) -> Vec<(usize, &'t gimli::Abbreviation)> {
        let first = place.saturating_sub(FURTHEST);
        (first..place)
            .filter_map(|entry| {
                let abbreviation = self.with_attribute(entry, place, attributes)?;
                Some((entry, abbreviation))
            })
            .collect()
    }

    fn leb(&self, at: &mut usize) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(*at)?;
            *at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// The abbreviation of what would begin at a place.
    fn with_attribute(
        &self,
        entry: usize,
        place: usize,
        attributes: &[gimli::DwAt],
    ) -> Option<&'t gimli::Abbreviation> {
        let mut at = entry;
        let code = self.leb(&mut at).filter(|code| *code != 0)?;
        let abbreviation = self.abbreviations.get(code)?;
        for attribute in abbreviation.attributes() {
            if at > place {
                return None;
            }
            if at == place && attributes.contains(&attribute.name()) {
                return Some(abbreviation);
            }
            self.skip(attribute.form(), &mut at)?;
        }
        None
    }

    fn skip(&self, form: gimli::DwForm, at: &mut usize) -> Option<()> {
        let length = match form {
            gimli::DW_FORM_flag_present | gimli::DW_FORM_implicit_const => 0,
            gimli::DW_FORM_data1
            | gimli::DW_FORM_ref1
            | gimli::DW_FORM_flag
            | gimli::DW_FORM_strx1
            | gimli::DW_FORM_addrx1 => 1,
            gimli::DW_FORM_data2
            | gimli::DW_FORM_ref2
            | gimli::DW_FORM_strx2
            | gimli::DW_FORM_addrx2 => 2,
            gimli::DW_FORM_strx3 | gimli::DW_FORM_addrx3 => 3,
            gimli::DW_FORM_data4
            | gimli::DW_FORM_ref4
            | gimli::DW_FORM_strx4
            | gimli::DW_FORM_addrx4 => 4,
            gimli::DW_FORM_data8 | gimli::DW_FORM_ref8 | gimli::DW_FORM_ref_sig8 => 8,
            gimli::DW_FORM_addr => usize::from(self.encoding.address_size),
            gimli::DW_FORM_strp
            | gimli::DW_FORM_line_strp
            | gimli::DW_FORM_sec_offset
            | gimli::DW_FORM_ref_addr => usize::from(self.encoding.format.word_size()),
            gimli::DW_FORM_udata
            | gimli::DW_FORM_sdata
            | gimli::DW_FORM_ref_udata
            | gimli::DW_FORM_strx
            | gimli::DW_FORM_addrx => {
                self.leb(at)?;
                0
            }
            gimli::DW_FORM_exprloc | gimli::DW_FORM_block => usize::try_from(self.leb(at)?).ok()?,
            gimli::DW_FORM_block1 => usize::from(*self.bytes.get(*at)?) + 1,
            gimli::DW_FORM_string => memchr::memchr(0, self.bytes.get(*at..)?)? + 1,
            _ => return None,
        };
        *at = at.checked_add(length)?;
        Some(())
    }
}

/// Refuses most words at the cost of one load.
struct Filter {
    bits: Vec<u64>,
}

impl Filter {
    fn new(words: &HashSet<u32>) -> Filter {
        let mut bits = vec![0u64; 1 << 10];
        for word in words {
            let (at, bit) = Filter::place(*word);
            if let Some(bits) = bits.get_mut(at) {
                *bits |= bit;
            }
        }
        Filter { bits }
    }

    fn place(word: u32) -> (usize, u64) {
        let hash = word.wrapping_mul(0x9e37_79b1) >> 16;
        ((hash >> 6) as usize, 1 << (hash & 63))
    }

    fn may_hold(&self, word: u32) -> bool {
        let (at, bit) = Filter::place(word);
        self.bits.get(at).is_some_and(|bits| bits & bit != 0)
    }
}

/// The parts of `.debug_str_offsets` (DWARF 5, 7.26), each with the offset that units call its base. What is no DWARF 5 is
/// one part.
fn contributions(table: &[u8]) -> Vec<(&[u8], usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(header) = table.get(at..at + 8) {
        let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let Some(end) = at.checked_add(4 + length).filter(|end| *end <= table.len()) else {
            break;
        };
        let base = at + 8;
        found.extend(table.get(base..end).map(|part| (part, base)));
        at = end.max(at + 8);
    }
    found
}

/// Where a text stands that is not followed by more of an identifier. `None` when the bytes can't be read.
fn find_text(bytes: &SectionBytes<'_>, key: &str) -> Option<Vec<u64>> {
    let finder = memmem::Finder::new(key);
    let length = key.len();
    let found = search(bytes, length as u64, |chunk, found| {
        let ends = |at: &usize| {
            let next = chunk.get(at + length).copied();
            next.is_some_and(|b| !(b.is_ascii_alphanumeric() || b"_~$.".contains(&b) || b >= 0x80))
        };
        found.extend(finder.find_iter(chunk).filter(ends));
    })?;
    Some(found.into_iter().flatten().collect())
}

/// Calls `each` with pieces that overlap by some bytes, on all processors; it gives offsets into the piece. What is found
/// is in order.
fn search(
    bytes: &SectionBytes<'_>,
    overlap: u64,
    each: impl Fn(&[u8], &mut Vec<usize>) + Sync,
) -> Option<Vec<Vec<u64>>> {
    let count = bytes.len().div_ceil(CHUNK);
    (0..count)
        .into_par_iter()
        .map_init(Vec::new, |buffer, number| {
            let start = number * CHUNK;
            let end = (start + CHUNK + overlap).min(bytes.len());
            let piece = bytes.read(start..end, buffer)?;
            let mut found = Vec::new();
            each(piece, &mut found);
            let own = found.into_iter().map(|at| at as u64);
            // What begins in the overlap is found by the next.
            Some(own.filter(|at| *at < CHUNK).map(|at| start + at).collect())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::SectionBytes;

    #[test]
    fn names_end_where_identifiers_do() {
        let text = b"\0work\0workers\0rework\0work<int>\0work";
        let found = find_text(&SectionBytes::of_slice(text), "work").expect("read");
        assert_eq!(found, [1, 16, 21]);
    }

    #[test]
    fn places_on_borders_are_found_once() {
        let mut bytes = vec![0u8; 2 * CHUNK as usize + 100];
        for at in [
            0,
            CHUNK as usize - 2,
            CHUNK as usize,
            2 * CHUNK as usize + 96,
        ] {
            bytes[at..at + 4].copy_from_slice(&[1, 2, 3, 4]);
        }
        // The third overwrote what the second began.
        bytes[CHUNK as usize - 2..CHUNK as usize].copy_from_slice(&[0, 0]);
        bytes[CHUNK as usize - 6..CHUNK as usize - 2].copy_from_slice(&[1, 2, 3, 4]);
        let finder = memmem::Finder::new(&[1, 2, 3, 4]);
        let found = search(&SectionBytes::of_slice(&bytes), 3, |chunk, found| {
            found.extend(finder.find_iter(chunk));
        });
        let found: Vec<u64> = found.expect("read").into_iter().flatten().collect();
        assert_eq!(found, [0, CHUNK - 6, CHUNK, 2 * CHUNK + 96]);
    }

    #[test]
    fn forms_are_read_through_padding() {
        // Code 1, DW_TAG_subprogram, children; name strp, specification ref_addr; end; padding; end of table.
        let table = [1, 0x2e, 1, 0x03, 0x0e, 0x47, 0x10, 0, 0, 0, 0];
        let forms = Forms::read(&table).expect("a table");
        assert!(forms.offsets && forms.across_units && !forms.texts && !forms.elsewhere);
        assert_eq!(Forms::read(&[1, 0x2e, 1, 0x03]), None);
    }
}
