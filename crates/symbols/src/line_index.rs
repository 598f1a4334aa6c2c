//! Source lines of addresses, over all line programs of a file.

use std::collections::HashMap;

use crate::address::ImageAddr;
use crate::dwarf::line_table;
use crate::dwarf::sections::DwarfFile;

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

/// Runs every line program; of a damaged one the rows before the damage are taken.
pub(crate) fn read(file: &DwarfFile<'_>) -> LineIndex {
    let mut index = LineIndex::default();
    let mut known: HashMap<String, u32> = HashMap::new();
    let mut units = file.dwarf.units();
    while let Ok(Some(header)) = units.next() {
        let Ok(unit) = file.dwarf.unit(header) else {
            continue;
        };
        let Some(program) = unit.line_program.clone() else {
            continue;
        };
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
