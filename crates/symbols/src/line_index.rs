//! Source lines of addresses, over all line programs of a file.

use std::collections::HashMap;

use rayon::prelude::*;

use crate::address::ImageAddr;
use crate::dwarf::sections::DwarfFile;
use crate::dwarf::{line_table, units};

/// Rows of all line tables of one file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LineIndex {
    /// Paths of source files, as far as the table gives them.
    pub files: Vec<String>,
    /// Where each row begins, its file (an index in `files`; `u32::MAX`: no code from here on) and line. Ascending.
    pub rows: Vec<(ImageAddr, u32, u32)>,
}

/// A line of source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceLine<'a> {
    /// The file's path.
    pub file: &'a str,
    /// The line, from 1; 0 when the compiler made the code on its own account.
    pub line: u32,
}

/// Marks the end of a sequence of rows.
const NO_FILE: u32 = u32::MAX;

impl LineIndex {
    /// The line that an address belongs to.
    pub fn at(&self, address: ImageAddr) -> Option<SourceLine<'_>> {
        let behind = self.rows.partition_point(|(start, ..)| *start <= address);
        let (_, file, line) = self.rows.get(behind.checked_sub(1)?)?;
        let file = self.files.get(*file as usize)?;
        Some(SourceLine { file, line: *line })
    }
}

/// Units whose programs are run in one go.
const TURN: usize = 32;

/// Runs the line programs of units with a wanted file, on all processors; of a damaged one the rows before the damage are
/// taken.
pub(crate) fn read(file: &DwarfFile<'_>, wanted: &(dyn Fn(&str) -> bool + Sync)) -> LineIndex {
    let starts = units::unit_starts(&file.dwarf);
    let parts: Vec<LineIndex> = starts
        .par_chunks(TURN)
        .map(|starts| read_units(file, starts, wanted))
        .collect();
    let mut index = LineIndex::default();
    let mut known: HashMap<String, u32> = HashMap::new();
    for part in parts {
        let numbers: Vec<u32> = part
            .files
            .into_iter()
            .map(|name| {
                *known.entry(name).or_insert_with_key(|name| {
                    index.files.push(name.clone());
                    (index.files.len() - 1) as u32
                })
            })
            .collect();
        let rows = part.rows.into_iter().map(|(address, file, line)| {
            let file = numbers.get(file as usize).copied().unwrap_or(NO_FILE);
            (address, file, line)
        });
        index.rows.extend(rows);
    }
    // Where one sequence ends and another begins, the beginning comes last and counts.
    index
        .rows
        .sort_by_key(|(address, file, _)| (*address, *file != NO_FILE));
    index.rows.dedup_by(|later, first| {
        let same = later.0 == first.0;
        if same {
            *first = *later;
        }
        same
    });
    index
}

/// The rows of some units in the order of their programs.
fn read_units(
    file: &DwarfFile<'_>,
    starts: &[usize],
    wanted: &(dyn Fn(&str) -> bool + Sync),
) -> LineIndex {
    let mut index = LineIndex::default();
    let mut known: HashMap<String, u32> = HashMap::new();
    for start in starts {
        let header = file
            .dwarf
            .debug_info
            .header_from_offset(gimli::DebugInfoOffset(*start));
        let Ok(unit) = header.and_then(|header| file.dwarf.unit(header)) else {
            continue;
        };
        let Some(program) = unit.line_program.clone() else {
            continue;
        };
        if !line_table::paths_of(&file.dwarf, &unit)
            .iter()
            .any(|path| wanted(path))
        {
            continue;
        }
        let mut files: HashMap<u64, u32> = HashMap::new();
        let mut rows = program.rows();
        while let Ok(Some((_, row))) = rows.next_row() {
            let number = if row.end_sequence() {
                NO_FILE
            } else {
                *files.entry(row.file_index()).or_insert_with(|| {
                    let Some(name) = line_table::file_name(&file.dwarf, &unit, row.file_index())
                    else {
                        return NO_FILE;
                    };
                    *known.entry(name).or_insert_with_key(|name| {
                        index.files.push(name.clone());
                        (index.files.len() - 1) as u32
                    })
                })
            };
            let line = row
                .line()
                .map_or(0, |l| u32::try_from(l.get()).unwrap_or(0));
            index.rows.push((ImageAddr(row.address()), number, line));
        }
    }
    index
}
