//! Line number programs: names of files and the rows of a function.

use super::sections::Slice;
use super::units::Unit;

/// A row of the line table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub address: u64,
    /// Index of the file in the table of files.
    pub file: u64,
    pub line: u64,
    pub prologue_end: bool,
}

/// The path of a file of a unit's line table, joined with its directory. That may itself be relative to the compilation
/// directory, which is left out then, as SystemTap leaves it out.
pub(crate) fn file_name<'a>(
    dwarf: &gimli::Dwarf<Slice<'a>>,
    unit: &gimli::Unit<Slice<'a>>,
    index: u64,
) -> Option<String> {
    let header = unit.line_program.as_ref()?.header();
    let file = header.file(index)?;
    let text = |value| {
        let slice = dwarf.attr_string(unit, value).ok()?;
        Some(String::from_utf8_lossy(slice.slice()).into_owned())
    };
    let mut path = text(file.path_name())?;
    if path.starts_with('/') {
        return Some(path);
    }
    if let Some(directory) = file.directory(header).and_then(text) {
        path = format!("{directory}/{path}");
    }
    Some(path)
}

/// All rows but those that end a sequence, ascending by address; of a damaged program those before the damage.
pub(crate) fn rows(unit: &Unit<'_>) -> Vec<Row> {
    let mut found = Vec::new();
    let Some(program) = unit.line_program.clone() else {
        return found;
    };
    let mut rows = program.rows();
    while let Ok(Some((_, row))) = rows.next_row() {
        if !row.end_sequence() {
            found.push(Row {
                address: row.address(),
                file: row.file_index(),
                line: row.line().map_or(0, |l| l.get()),
                prologue_end: row.prologue_end(),
            });
        }
    }
    found.sort_by_key(|r| r.address);
    found
}

/// A row of the whole table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TableRow {
    pub address: u64,
    /// Index of the file in the table of files.
    pub file: u64,
    /// 0 when the compiler made the code on its own account.
    pub line: u64,
    /// No code from here on.
    pub end_sequence: bool,
}

/// All rows by address, the end of a sequence before what begins there; of a damaged program those before the damage.
pub(crate) fn table(unit: &Unit<'_>) -> Vec<TableRow> {
    let mut found = Vec::new();
    let Some(program) = unit.line_program.clone() else {
        return found;
    };
    let mut rows = program.rows();
    while let Ok(Some((_, row))) = rows.next_row() {
        found.push(TableRow {
            address: row.address(),
            file: row.file_index(),
            line: row.line().map_or(0, |l| l.get()),
            end_sequence: row.end_sequence(),
        });
    }
    found.sort_by_key(|r| (r.address, !r.end_sequence));
    found
}

/// The paths of all files that a unit's line table names.
pub(crate) fn paths(unit: &Unit<'_>) -> Vec<String> {
    paths_of(&unit.dwarf, unit)
}

/// The same of a unit that is not kept.
pub(crate) fn paths_of<'a>(
    dwarf: &gimli::Dwarf<Slice<'a>>,
    unit: &gimli::Unit<Slice<'a>>,
) -> Vec<String> {
    let Some(program) = &unit.line_program else {
        return Vec::new();
    };
    let header = program.header();
    // The first file has number 0 since DWARF 5, and 1 before.
    let behind = header.file_names().len() as u64;
    (0..=behind)
        .filter_map(|index| file_name(dwarf, unit, index))
        .collect()
}

/// Those of the rows whose addresses are in `low..high`.
pub(crate) fn between(rows: &[Row], low: u64, high: u64) -> &[Row] {
    let start = rows.partition_point(|r| r.address < low);
    let end = rows.partition_point(|r| r.address < high);
    rows.get(start..end).unwrap_or_default()
}
