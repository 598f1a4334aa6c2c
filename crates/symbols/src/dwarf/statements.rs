//! Statements: from lines of source to addresses of code.
//!
//! The rules are SystemTap's, found by asking it. A line's statement in a function, or in an inlined copy of one, is the
//! lowest address there of any row of the line table with that line. Of several lines those that would share an
//! address with an earlier one are left out. All lines of a function are those from the line of its entry up to
//! where the next function of its file is declared.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use super::debug_info::DebugInfo;
use super::declared_lines::declared_lines;
use super::line_table::{self, TableRow};
use super::units::Unit;
use super::{DwarfFunction, function_entry, scopes};
use crate::address::ImageAddr;
use crate::binary::SymbolsError;
use crate::suggest;

/// Lines of one file that are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LineSet {
    /// This one.
    Line(u64),
    /// This many behind the line that declares the function.
    Relative(u64),
    /// From the first to the last of each pair, both included.
    Ranges(Vec<(u64, u64)>),
    /// All lines of each function.
    All,
}

/// The beginning of a line's code in a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Where.
    pub address: ImageAddr,
    /// The line.
    pub line: u64,
    /// The line that was asked for: another one when the nearest was taken.
    pub asked: u64,
    /// Index of the function among those that were asked about.
    pub function: usize,
}

/// A line without code.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MissingLine {
    /// Its file.
    pub file: String,
    /// The line.
    pub line: u64,
    /// The last line before it that has code.
    pub before: Option<u64>,
    /// The first line behind it that has code.
    pub after: Option<u64>,
}

/// What was found of the lines asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statements {
    /// Those with code, each once in each function that holds its address.
    pub found: Vec<Statement>,
    /// Single lines that have none.
    pub missing: Vec<MissingLine>,
}

/// Rows of one file of a unit's line table.
struct FileRows {
    path: String,
    /// Line and address, ascending.
    by_line: Vec<(u64, u64)>,
    /// Address and line, ascending.
    by_address: Vec<(u64, u64)>,
}

impl FileRows {
    fn new(path: String, rows: &[TableRow], indices: &HashSet<u64>) -> FileRows {
        let own = rows
            .iter()
            .filter(|r| !r.end_sequence && r.line != 0 && indices.contains(&r.file));
        let by_address: Vec<(u64, u64)> = own.map(|r| (r.address, r.line)).collect();
        let mut by_line: Vec<(u64, u64)> = by_address.iter().map(|(a, l)| (*l, *a)).collect();
        by_line.sort_unstable();
        FileRows {
            path,
            by_line,
            by_address,
        }
    }

    /// The lowest address of a line in a function.
    fn address(&self, line: u64, function: &DwarfFunction) -> Option<u64> {
        let first = self.by_line.partition_point(|(l, _)| *l < line);
        let rest = self.by_line.get(first..)?;
        rest.iter()
            .take_while(|(l, _)| *l == line)
            .map(|(_, address)| *address)
            .find(|address| function.holds(ImageAddr(*address)))
    }

    /// The lines of a function, each with its lowest address.
    fn lines(&self, function: &DwarfFunction) -> BTreeMap<u64, u64> {
        let mut lines = BTreeMap::new();
        for range in &function.ranges {
            let first = self.by_address.partition_point(|(a, _)| *a < range.start.0);
            let behind = self.by_address.partition_point(|(a, _)| *a < range.end.0);
            for &(address, line) in self.by_address.get(first..behind).unwrap_or_default() {
                let lowest = lines.entry(line).or_insert(address);
                *lowest = address.min(*lowest);
            }
        }
        lines
    }

    /// The lines with code from this one on, ascending.
    fn lines_from(&self, line: u64) -> impl Iterator<Item = u64> {
        let first = self.by_line.partition_point(|(l, _)| *l < line);
        let rest = self.by_line.get(first..).unwrap_or_default();
        rest.iter().map(|(line, _)| *line)
    }

    /// The nearest lines before and behind one at which any of the functions has code, as far as stap looks.
    fn neighbours(&self, line: u64, functions: &[(usize, &DwarfFunction)]) -> Neighbours {
        let held = |(l, a): &(u64, u64)| {
            let address = ImageAddr(*a);
            let held = functions.iter().any(|(_, f)| f.holds(address));
            held.then_some(*l)
        };
        let lines = &self.by_line;
        let split = lines.partition_point(|(l, _)| *l < line);
        let first = lines.partition_point(|(l, _)| l.saturating_add(FARTHEST) < line);
        let last = lines.partition_point(|(l, _)| *l <= line.saturating_add(FARTHEST));
        let (before, behind) = (&lines[first..split], &lines[split..last]);
        Neighbours {
            before: before.iter().rev().find_map(held),
            after: behind.iter().find_map(held),
        }
    }
}

/// A line without code is at most so many lines from one that may stand for it.
const FARTHEST: u64 = 5;

struct Neighbours {
    before: Option<u64>,
    after: Option<u64>,
}

impl Neighbours {
    /// The nearer of both; of two equally near the later one.
    fn nearest(&self, line: u64) -> Option<u64> {
        match (self.before, self.after) {
            (Some(before), Some(after)) if line - before < after - line => Some(before),
            (before, after) => after.or(before),
        }
    }
}

/// What is being collected.
struct Search<'q> {
    functions: &'q [(usize, &'q DwarfFunction)],
    nearest: bool,
    /// Addresses with their lines and those asked for, in the order in which they were found.
    found: Vec<(u64, u64, u64)>,
    /// Addresses that have a line already.
    used: HashSet<u64>,
    missing: BTreeSet<MissingLine>,
    /// Where functions are declared in the file, as far as that matters.
    declared: Option<&'q BTreeSet<u64>>,
}

impl Search<'_> {
    /// A line in each of some functions. Of several lines (`once`) each address counts once.
    fn line(
        &mut self,
        rows: &FileRows,
        line: u64,
        functions: &[(usize, &DwarfFunction)],
        once: bool,
    ) {
        let addresses = |line| -> BTreeSet<u64> {
            let each = functions.iter().filter_map(|(_, f)| rows.address(line, f));
            each.collect()
        };
        let asked = line;
        let mut line = line;
        let mut here = addresses(line);
        if here.is_empty() {
            let neighbours = rows.neighbours(line, functions);
            match neighbours.nearest(line).filter(|_| self.nearest) {
                Some(nearest) => {
                    line = nearest;
                    here = addresses(line);
                }
                None => {
                    self.missing.insert(MissingLine {
                        file: rows.path.clone(),
                        line,
                        before: neighbours.before,
                        after: neighbours.after,
                    });
                }
            }
        }
        for address in here {
            if !once || self.used.insert(address) {
                self.found.push((address, line, asked));
            }
        }
    }

    /// The lines of a function from that of its entry to that of the next function's declaration, and on from there up to the
    /// first line that has code in other functions alone: what is declared next may be inlined into this one.
    fn all_lines(&mut self, rows: &FileRows, table: &Table, function: &DwarfFunction) {
        let own = rows.lines(function);
        let is_of_file = function.decl_file.as_ref() == Some(&rows.path);
        let Some(start) = table.first_line(function.entry.0, &rows.path, is_of_file, &own) else {
            return;
        };
        let mut behind = self.declared.iter().flat_map(|lines| lines.range(start..));
        let next = behind.find(|line| **line > start);
        let next = next.copied().unwrap_or(u64::MAX);
        let end = rows.lines_from(next).find(|line| !own.contains_key(line));
        let end = end.unwrap_or(u64::MAX);
        for (line, address) in own {
            if (start..end).contains(&line) && self.used.insert(address) {
                self.found.push((address, line, line));
            }
        }
    }
}

/// A unit's line table and the paths of its files.
struct Table {
    rows: Vec<TableRow>,
    paths: HashMap<u64, Option<String>>,
}

impl Table {
    fn read(unit: &Unit<'_>) -> Table {
        let rows = line_table::table(unit);
        let mut paths = HashMap::new();
        for row in &rows {
            paths
                .entry(row.file)
                .or_insert_with(|| line_table::file_name(&unit.dwarf, unit, row.file));
        }
        Table { rows, paths }
    }

    /// The row that an address belongs to; of several at one address the last.
    fn at(&self, address: u64) -> Option<&TableRow> {
        let behind = self.rows.partition_point(|r| r.address <= address);
        let row = self.rows.get(behind.checked_sub(1)?)?;
        (!row.end_sequence).then_some(row)
    }

    /// The line that `:*` begins with: that of a function's entry, of several there the last. What is inlined at the entry of
    /// a function of the file may come from another file; its number counts all the same if the function has such a line.
    fn first_line(
        &self,
        entry: u64,
        path: &str,
        is_of_file: bool,
        own: &BTreeMap<u64, u64>,
    ) -> Option<u64> {
        let from_file = |row: &TableRow| {
            let known = self.paths.get(&row.file);
            known.is_some_and(|known| known.as_deref() == Some(path))
        };
        let row = self.at(entry)?;
        if from_file(row) || is_of_file && own.contains_key(&row.line) {
            return Some(row.line);
        }
        if !is_of_file {
            return None;
        }
        let first = self.rows.partition_point(|r| r.address < row.address);
        let behind = self.rows.partition_point(|r| r.address <= row.address);
        let here = self.rows.get(first..behind)?.iter().rev();
        let mut here = here.filter(|row| !row.end_sequence && from_file(row));
        here.next().map(|row| row.line)
    }

    /// The rows of each file whose path is wanted.
    fn files(&self, wanted: &dyn Fn(&str) -> bool) -> Vec<FileRows> {
        let mut indices: BTreeMap<&str, HashSet<u64>> = BTreeMap::new();
        for (index, path) in &self.paths {
            if let Some(path) = path.as_deref().filter(|p| wanted(p)) {
                indices.entry(path).or_default().insert(*index);
            }
        }
        indices
            .into_iter()
            .map(|(path, indices)| FileRows::new(path.to_owned(), &self.rows, &indices))
            .collect()
    }
}

/// Which functions hold an address, found without asking each.
struct Holders {
    /// Start, end and function of each range, ascending.
    ranges: Vec<(u64, u64, usize)>,
    /// The highest end up to each range.
    reach: Vec<u64>,
}

impl Holders {
    fn new(functions: &[(usize, &DwarfFunction)]) -> Holders {
        let mut ranges: Vec<_> = functions
            .iter()
            .flat_map(|(i, f)| f.ranges.iter().map(|r| (r.start.0, r.end.0, *i)))
            .collect();
        ranges.sort_unstable();
        let mut highest = 0;
        let reach = ranges.iter().map(|(_, end, _)| {
            highest = highest.max(*end);
            highest
        });
        Holders {
            reach: reach.collect(),
            ranges,
        }
    }

    fn of(&self, address: u64) -> BTreeSet<usize> {
        let behind = self.ranges.partition_point(|(start, ..)| *start <= address);
        let before = self.ranges.iter().zip(&self.reach).take(behind).rev();
        before
            .take_while(|(_, reach)| **reach > address)
            .filter(|((_, end, _), _)| *end > address)
            .map(|((_, _, function), _)| *function)
            .collect()
    }
}

impl DebugInfo<'_> {
    /// The statements of these functions, and of inlined copies, that lines of the wanted files have. With `nearest` a
    /// line without code stands for the nearest one that has some.
    ///
    /// # Errors
    /// When a unit can't be decoded.
    pub fn statements(
        &self,
        functions: &[DwarfFunction],
        file_wanted: &dyn Fn(&str) -> bool,
        lines: &LineSet,
        nearest: bool,
    ) -> Result<Statements, SymbolsError> {
        let mut units: BTreeMap<usize, Vec<(usize, &DwarfFunction)>> = BTreeMap::new();
        for (index, function) in functions.iter().enumerate() {
            units
                .entry(function.id.unit)
                .or_default()
                .push((index, function));
        }
        let mut result = Statements::default();
        let mut missing: BTreeMap<(String, u64), Neighbours> = BTreeMap::new();
        for (start, mut functions) in units {
            // Functions before copies: where both begin with another line at one address, the function's counts.
            functions.sort_by_key(|(_, f)| (f.inlined, f.id.die));
            let unit = self.units.unit(start);
            let unit: Rc<Unit<'_>> = unit.map_err(|e| self.units.error(start, e))?;
            let declared = match lines {
                LineSet::All => {
                    declared_lines(&self.units, &unit).map_err(|e| self.units.error(start, e))?
                }
                _ => HashMap::new(),
            };
            let table = Table::read(&unit);
            // What copies from other units share with the unit's own functions is told of both.
            let (others, own): (Vec<_>, Vec<_>) =
                functions.into_iter().partition(|(_, f)| f.from_other_unit);
            let groups = [own, others].map(|group| (Holders::new(&group), group));
            let files = table.files(file_wanted);
            let searches = files
                .iter()
                .flat_map(|rows| groups.iter().map(move |group| (rows, group)));
            for (rows, (holders, functions)) in searches {
                if functions.is_empty() {
                    continue;
                }
                let mut search = Search {
                    functions,
                    nearest,
                    found: Vec::new(),
                    used: HashSet::new(),
                    missing: BTreeSet::new(),
                    declared: declared.get(&rows.path),
                };
                search.run(rows, &table, lines);
                for (address, line, asked) in search.found {
                    result
                        .found
                        .extend(holders.of(address).into_iter().map(|function| Statement {
                            address: ImageAddr(address),
                            line,
                            asked,
                            function,
                        }));
                }
                for line in search.missing {
                    let known = missing.entry((line.file, line.line));
                    let known = known.or_insert(Neighbours {
                        before: None,
                        after: None,
                    });
                    known.before = known.before.max(line.before);
                    known.after = match (known.after, line.after) {
                        (Some(a), Some(b)) => Some(a.min(b)),
                        (a, b) => a.or(b),
                    };
                }
            }
        }
        let single = matches!(lines, LineSet::Line(_) | LineSet::Relative(_));
        for ((file, line), neighbours) in missing.into_iter().filter(|_| single) {
            result.missing.push(MissingLine {
                file,
                line,
                before: neighbours.before,
                after: neighbours.after,
            });
        }
        Ok(result)
    }

    /// Source files whose last component is near to that of one that was not found, best first.
    pub fn similar_files(&self, wanted: &str, limit: usize) -> Vec<String> {
        let mut paths = BTreeSet::new();
        for &start in self.units.starts() {
            if let Ok(unit) = self.units.unit(start) {
                paths.extend(line_table::paths(&unit));
            }
        }
        let last = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
        let names: BTreeSet<String> = paths.iter().map(|p| last(p)).collect();
        suggest::similar(&last(wanted), names.iter().map(String::as_str), limit)
    }

    /// The start of the statement that holds an address; `None` without a line table there.
    pub fn statement_start(&self, address: ImageAddr) -> Option<ImageAddr> {
        let unit = self.unit_at(address)?;
        let table = line_table::table(&unit);
        let behind = table.partition_point(|r| r.address <= address.0);
        let row = table.get(behind.checked_sub(1)?)?;
        (!row.end_sequence).then_some(ImageAddr(row.address))
    }

    /// The line of source that an address belongs to, with its file.
    pub fn line_at(&self, address: ImageAddr) -> Option<(String, u64)> {
        let unit = self.unit_at(address)?;
        let table = Table::read(&unit);
        let row = table.at(address.0)?;
        Some((table.paths.get(&row.file)?.clone()?, row.line))
    }

    /// The copies of functions that were inlined into a function or copy, not those that were inlined into them.
    ///
    /// # Errors
    /// When an entry can't be decoded.
    pub fn inlined_into(
        &self,
        function: &DwarfFunction,
    ) -> Result<Vec<DwarfFunction>, SymbolsError> {
        let id = function.id;
        let failed = |e| self.units.error(id.unit + id.die, e);
        let mut found = Vec::new();
        let mut scopes = vec![self.units.place(id).map_err(failed)?];
        while let Some(scope) = scopes.pop() {
            for child in scopes::members(&scope).map_err(failed)? {
                match child.entry.tag() {
                    gimli::DW_TAG_inlined_subroutine => {
                        let copy = function_entry::describe_place(&self.units, &child);
                        found.extend(copy.map_err(failed)?);
                    }
                    gimli::DW_TAG_lexical_block
                    | gimli::DW_TAG_try_block
                    | gimli::DW_TAG_catch_block => scopes.push(child),
                    _ => {}
                }
            }
        }
        found.sort_by_key(|f| (f.entry, f.id));
        Ok(found)
    }

    /// The function that holds an address: of inlined copies the innermost when `copies`, else the function that its
    /// code is part of.
    ///
    /// # Errors
    /// When its entries can't be decoded.
    pub fn function_holding(
        &self,
        address: ImageAddr,
        copies: bool,
    ) -> Result<Option<DwarfFunction>, SymbolsError> {
        let Some(unit) = self.unit_at(address) else {
            return Ok(None);
        };
        let failed = |e| self.units.error(unit.start, e);
        let Some(function) = scopes::function_at(&self.units, &unit, address.0).map_err(failed)?
        else {
            return Ok(None);
        };
        let chain = scopes::chain(function, address.0).map_err(failed)?;
        let copy = chain
            .scopes
            .iter()
            .find(|p| copies && p.entry.tag() == gimli::DW_TAG_inlined_subroutine);
        let Some(place) = copy.or(chain.function()) else {
            return Ok(None);
        };
        function_entry::describe_place(&self.units, place).map_err(failed)
    }
}

impl Search<'_> {
    fn run(&mut self, rows: &FileRows, table: &Table, lines: &LineSet) {
        let functions = self.functions;
        match lines {
            LineSet::Line(line) => self.line(rows, *line, functions, false),
            LineSet::Relative(offset) => {
                let mut by_line: BTreeMap<u64, Vec<(usize, &DwarfFunction)>> = BTreeMap::new();
                for (index, function) in functions {
                    if let Some(line) = function.decl_line {
                        let line = line.saturating_add(*offset);
                        by_line.entry(line).or_default().push((*index, function));
                    }
                }
                for (line, functions) in by_line {
                    self.line(rows, line, &functions, false);
                }
            }
            LineSet::Ranges(ranges) => {
                // Only the lines near to those of the table, whose numbers may be any where it is damaged.
                let reach = if self.nearest { FARTHEST } else { 0 };
                for &(first, end) in ranges {
                    let mut next = Some(first);
                    for &(known, _) in &rows.by_line {
                        let Some(from) = next else { break };
                        let from = known.saturating_sub(reach).max(from);
                        let to = known.saturating_add(reach).min(end);
                        for line in from..=to {
                            self.line(rows, line, functions, true);
                        }
                        if from <= to {
                            next = to.checked_add(1);
                        }
                    }
                }
            }
            LineSet::All => {
                for (_, function) in functions {
                    self.all_lines(rows, table, function);
                }
            }
        }
    }
}
