//! Which functions there are, by name, and what their entries say.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use gimli::UnitOffset;
use rayon::prelude::*;

use super::call_sites::CallSites;
use super::function_entry::{describe, describe_place};
use super::index_scan::{self, Filter, Part};
use super::literal_search::LiteralSearch;
use super::name_index::{self, Damaged, NameIndex, Named, Record};
use super::named_entities::names_of_unit;
use super::sections::DwarfFile;
use super::unit_addresses::units_of;
use super::units::{EntryId, Home, Place, UnitTable, Units};
use super::{DwarfFunction, scopes};
use crate::address::ImageAddr;
use crate::binary::SymbolsError;
use crate::debug_files::hex;
use crate::neighbours::Neighbours;

/// Units that are scanned in one go: few enough to keep all processors busy until the end.
const TURN: usize = 16;
/// Fewer entries than this are decoded by one thread.
const WORTH_THREADS: usize = 64;
/// Bytes of entries that are soon decoded.
const FEW: usize = 1 << 20;
/// How often entries of other units are looked for that refer to what was found.
const ROUNDS: usize = 4;

/// Which names are wanted, of a function or copy with its mangled name.
pub(crate) type NameWanted<'w> = &'w (dyn Fn(&str, Option<&str>) -> bool + Sync);
/// Which files that declare them are.
pub(crate) type FileWanted<'w> = &'w (dyn Fn(&str) -> bool + Sync);

/// A function or copy that is to be described.
struct Selected {
    id: EntryId,
    name: String,
    linkage_name: Option<String>,
}

/// Names of one binary's debugging information. What large files have is looked up in an index of a former run, or without
/// any index where only one name is wanted; else everything is gone through once.
pub(crate) struct FunctionIndex {
    pub units: UnitTable,
    /// Of everything.
    full: Mutex<Option<Arc<NameIndex>>>,
    /// Of what has one key.
    partial: Mutex<HashMap<String, Arc<NameIndex>>>,
    /// Types and variables by name, where there is no index of everything.
    entities: Mutex<HashMap<String, Vec<EntryId>>>,
    /// Calls, of all units; made when what callers handed over is asked for.
    call_sites: OnceLock<CallSites>,
    /// Other files whose code may call this one's functions.
    pub neighbours: Neighbours,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FunctionIndex {
    pub fn new(neighbours: Neighbours) -> FunctionIndex {
        FunctionIndex {
            units: UnitTable::default(),
            full: Mutex::default(),
            partial: Mutex::default(),
            entities: Mutex::default(),
            call_sites: OnceLock::new(),
            neighbours,
        }
    }

    /// What tells a file's index from all others; `None` for files without a build-id.
    fn subject(file: &DwarfFile<'_>) -> Option<(String, Vec<u8>)> {
        let id = file.debug.build_id()?;
        let size = |name| {
            let bytes = file.debug.contents_by_name(name);
            (bytes.map_or(0, <[u8]>::len) as u64).to_le_bytes()
        };
        let subject = [id, &size(".debug_info"), &size(".debug_str")].concat();
        Some((hex(id), subject))
    }

    fn is_of_same_units(&self, stored: &NameIndex) -> bool {
        let starts = stored.unit_starts();
        starts.is_ok_and(|starts| self.units.adopt(starts))
    }

    /// An index in which everything is that has a key, or everything.
    fn index(&self, file: &DwarfFile<'_>, key: Option<&str>) -> Arc<NameIndex> {
        if let Some(known) = &*lock(&self.full) {
            return Arc::clone(known);
        }
        if let Some(known) = key.and_then(|key| lock(&self.partial).get(key).cloned()) {
            return known;
        }
        let large = file.is_large();
        let subject = FunctionIndex::subject(file).filter(|_| large);
        let cache = file.files.index_cache().zip(subject.as_ref());
        if let Some((cache, (name, subject))) = cache
            && let Some(stored) = cache.load(name)
        {
            match NameIndex::open(stored, subject) {
                Ok(stored) if self.is_of_same_units(&stored) => {
                    let stored = Arc::new(stored);
                    *lock(&self.full) = Some(Arc::clone(&stored));
                    return stored;
                }
                _ => cache.remove(name),
            }
        }
        if let Some(key) = key.filter(|_| large)
            && let Some(found) = self.partial_index(file, key, subject.as_ref())
        {
            lock(&self.partial).insert(key.to_owned(), Arc::clone(&found));
            return found;
        }
        let starts = self.units.starts(file);
        let all: Vec<(usize, usize)> = starts.iter().copied().enumerate().collect();
        let parts = self.scan(file, &all, Filter::default());
        let subject_bytes = subject.as_ref().map_or(&[][..], |(_, subject)| subject);
        let made = name_index::assemble(starts, parts, subject_bytes).unwrap_or_else(|| {
            file.files.warn(format!(
                "{}: more names than an index can hold; none are found",
                file.debug.path.display()
            ));
            NameIndex::empty()
        });
        if let Some((cache, (name, _))) = cache {
            cache.store(name, made.as_bytes());
        }
        let made = Arc::new(made);
        *lock(&self.full) = Some(Arc::clone(&made));
        made
    }

    /// An index of what has one key, stored or found by a search for its text; `None` when a search is of no use.
    fn partial_index(
        &self,
        file: &DwarfFile<'_>,
        key: &str,
        subject: Option<&(String, Vec<u8>)>,
    ) -> Option<Arc<NameIndex>> {
        let name = subject.map(|(id, bytes)| {
            let hash = name_index::hash(key.as_bytes());
            (format!("{id}-{hash:08x}"), [bytes, key.as_bytes()].concat())
        });
        let cache = file.files.index_cache().zip(name.as_ref());
        if let Some((cache, (name, subject))) = cache
            && let Some(stored) = cache.load(name)
        {
            match NameIndex::open(stored, subject) {
                Ok(stored) if self.is_of_same_units(&stored) => {
                    return Some(Arc::new(stored));
                }
                _ => cache.remove(name),
            }
        }
        let starts = self.units.starts(file);
        let search = LiteralSearch::new(file, starts)?;
        let mut wanted = self.worth_it(file, search.naming(key, true)?)?;
        let filter = Filter {
            key: Some(key),
            declared: search.is_across_units(),
        };
        let mut seen: BTreeSet<usize> = BTreeSet::new();
        let mut parts = Vec::new();
        let mut entries: BTreeSet<usize> = BTreeSet::new();
        for _ in 0..ROUNDS {
            let new: Vec<(usize, usize)> = wanted
                .iter()
                .filter(|unit| !seen.contains(unit))
                .filter_map(|unit| Some((*unit, *starts.get(*unit)?)))
                .collect();
            if new.is_empty() {
                break;
            }
            seen.extend(new.iter().map(|(unit, _)| *unit));
            let found = self.scan(file, &new, filter);
            let fresh: Vec<usize> = found
                .iter()
                .flat_map(|part| part.declared.iter().copied())
                .filter(|entry| entries.insert(*entry))
                .collect();
            parts.extend(found);
            if !search.is_across_units() || fresh.is_empty() {
                break;
            }
            wanted = self.worth_it(file, search.referring(&fresh)?)?;
        }
        let subject = name.as_ref().map_or(&[][..], |(_, subject)| subject);
        // Code of these units alone would say nothing of the others.
        parts.iter_mut().for_each(|part| part.ranges.clear());
        let made = name_index::assemble(starts, parts, subject)?;
        if let Some((cache, (name, _))) = cache {
            cache.store(name, made.as_bytes());
        }
        Some(Arc::new(made))
    }

    /// Units are decoded for one name only when they are a small part of all.
    fn worth_it(&self, file: &DwarfFile<'_>, units: BTreeSet<usize>) -> Option<BTreeSet<usize>> {
        let starts = self.units.starts(file);
        let all = file.info_size();
        let size = |unit: &usize| {
            let start = starts.get(*unit).copied().unwrap_or(all);
            let end = starts.get(unit + 1).copied().unwrap_or(all);
            end.saturating_sub(start)
        };
        let few = (all / 4).max(FEW);
        (units.iter().map(size).sum::<usize>() <= few).then_some(units)
    }

    /// Goes through units, given by number and start, on all processors.
    fn scan(
        &self,
        file: &DwarfFile<'_>,
        wanted: &[(usize, usize)],
        filter: Filter<'_>,
    ) -> Vec<Part> {
        let turn = match filter.key {
            Some(_) => 1,
            None => TURN,
        };
        let scan = |turn: &[(usize, usize)]| {
            let units = Units::new(file, &self.units);
            index_scan::scan(&units, turn.iter().copied(), filter)
        };
        let parts: Vec<Part> = match file.is_large() {
            true => wanted.par_chunks(turn).map(scan).collect(),
            false => wanted.chunks(turn).map(scan).collect(),
        };
        let damaged: usize = parts.iter().map(|part| part.damaged_units).sum();
        if let Some((start, error)) = parts.iter().find_map(|part| part.damage) {
            self.warn_of_damage(file, start, error, damaged);
        }
        parts
    }

    /// Says that units are damaged, the first of them at `start`.
    pub fn warn_of_damage(
        &self,
        file: &DwarfFile<'_>,
        start: usize,
        error: gimli::Error,
        damaged_units: usize,
    ) {
        let reason = Units::new(file, &self.units).error(start, error);
        file.files.warn(format!(
            "{reason}; what stands behind that in its unit is not known{}",
            match damaged_units {
                0 | 1 => String::new(),
                more => format!(", and so in {} other units", more - 1),
            }
        ));
    }

    /// Asks an index; one that proves damaged is made anew.
    fn ask<T: Default>(
        &self,
        file: &DwarfFile<'_>,
        key: Option<&str>,
        question: impl Fn(&NameIndex) -> Result<T, Damaged>,
    ) -> T {
        for _ in 0..2 {
            let index = self.index(file, key);
            if let Ok(answer) = question(&index) {
                return answer;
            }
            *lock(&self.full) = None;
            lock(&self.partial).clear();
            if let Some((cache, (name, _))) =
                file.files.index_cache().zip(FunctionIndex::subject(file))
            {
                cache.remove(&name);
                if let Some(key) = key {
                    let hash = name_index::hash(key.as_bytes());
                    cache.remove(&format!("{name}-{hash:08x}"));
                }
            }
        }
        T::default()
    }

    /// Types and variables of a name outside of functions, wherever they are.
    pub fn names(&self, units: &Units<'_>, name: &str) -> Vec<EntryId> {
        let file = &units.file;
        if let Some(known) = lock(&self.entities).get(name) {
            return known.clone();
        }
        let mut found = match self.entities_by_search(units, name) {
            Some(found) => found,
            None => self.ask(file, None, |index| index.entities(name, file.strings())),
        };
        found.extend(units.type_units_named(name));
        lock(&self.entities).insert(name.to_owned(), found.clone());
        found
    }

    /// All calls that debugging information describes.
    pub fn call_sites(&self, units: &Units<'_>) -> &CallSites {
        self.call_sites
            .get_or_init(|| CallSites::build(&units.file, &self.units))
    }

    /// The same in a large file without an index: of the units alone that may have the name.
    fn entities_by_search(&self, units: &Units<'_>, name: &str) -> Option<Vec<EntryId>> {
        let file = &units.file;
        let key = index_scan::key_of(name);
        if !file.is_large() || lock(&self.full).is_some() || key.is_empty() {
            return None;
        }
        let (id, _) = FunctionIndex::subject(file)?;
        if file.files.index_cache().is_some_and(|cache| cache.has(&id)) {
            return None;
        }
        let search = LiteralSearch::new(file, units.starts())?;
        let wanted = self.worth_it(file, search.naming(key, false)?)?;
        let mut found: Vec<EntryId> = Vec::new();
        let mut collect = |wanted: &BTreeSet<usize>| {
            for unit in wanted.iter().filter_map(|unit| units.starts().get(*unit)) {
                let Ok(unit) = units.unit(*unit) else {
                    continue;
                };
                let names = names_of_unit(units, &unit).unwrap_or_default();
                found.extend(names.get(name).into_iter().flatten());
            }
            let of_file = found.iter().filter(|id| id.home == Home::Main);
            of_file.map(|id| id.unit + id.die).collect::<Vec<usize>>()
        };
        let named = collect(&wanted);
        if search.is_across_units() {
            // Definitions that refer to what another unit declares have no name of their own.
            let others = search.referring(&named)?;
            collect(&others.difference(&wanted).copied().collect());
        }
        Some(found)
    }

    /// Types and variables outside of functions whose names satisfy a condition.
    pub fn names_matching(&self, units: &Units<'_>, wanted: impl Fn(&str) -> bool) -> Vec<EntryId> {
        let file = &units.file;
        self.ask(file, None, |index| {
            index.entities_matching(file.strings(), |name| {
                std::str::from_utf8(name).is_ok_and(&wanted)
            })
        })
    }

    /// The names of all functions with code, and of all that were inlined; some several times.
    pub fn function_names(&self, file: &DwarfFile<'_>) -> Vec<String> {
        self.ask(file, None, |index| {
            let functions = index.functions().map(Named::Function);
            let all = functions.chain(index.origins().map(Named::Origin));
            all.map(|named| {
                let record = index.describe(named, file.strings())?;
                Ok(String::from_utf8_lossy(record.name).into_owned())
            })
            .collect()
        })
    }

    /// Functions with code that have wanted names, ascending by entry. All of them have one of the keys, if there are any.
    pub fn select(
        &self,
        file: &DwarfFile<'_>,
        keys: Option<&[&str]>,
        wanted: NameWanted<'_>,
        file_wanted: Option<FileWanted<'_>>,
    ) -> Result<Vec<DwarfFunction>, SymbolsError> {
        let found = self.find(file, keys, &|index| {
            let all = || index.functions().map(Named::Function).collect();
            let found = select(index, file, keys, all, wanted, file_wanted)?;
            let functions = found.into_iter().map(|(named, selected)| {
                let Named::Function(number) = named else {
                    return Ok(None);
                };
                let (name, linkage_name) = selected;
                Ok(Some(Selected {
                    id: index.function(number)?,
                    name,
                    linkage_name,
                }))
            });
            functions.filter_map(Result::transpose).collect()
        });
        self.describe_all(file, &found)
    }

    /// Inlined copies of functions that have wanted names, in the same way.
    pub fn select_inlined(
        &self,
        file: &DwarfFile<'_>,
        keys: Option<&[&str]>,
        wanted: NameWanted<'_>,
        file_wanted: Option<FileWanted<'_>>,
    ) -> Result<Vec<DwarfFunction>, SymbolsError> {
        let found = self.find(file, keys, &|index| {
            let all = || index.origins().map(Named::Origin).collect();
            let mut copies = Vec::new();
            for (named, (name, linkage_name)) in
                select(index, file, keys, all, wanted, file_wanted)?
            {
                let Named::Origin(number) = named else {
                    continue;
                };
                copies.extend(index.copies(number)?.into_iter().map(|id| Selected {
                    id,
                    name: name.clone(),
                    linkage_name: linkage_name.clone(),
                }));
            }
            copies.sort_by_key(|copy| copy.id);
            Ok(copies)
        });
        self.describe_all(file, &found)
    }

    /// Starts of the units in which a function or copy is that is wanted.
    pub fn units_naming(
        &self,
        file: &DwarfFile<'_>,
        wanted: NameWanted<'_>,
        file_wanted: Option<FileWanted<'_>>,
    ) -> BTreeSet<usize> {
        self.ask(file, None, |index| {
            let all = || {
                let functions = index.functions().map(Named::Function);
                functions
                    .chain(index.origins().map(Named::Origin))
                    .collect()
            };
            let mut found = BTreeSet::new();
            for (named, _) in select(index, file, None, all, wanted, file_wanted)? {
                match named {
                    Named::Function(number) => {
                        found.insert(index.function(number)?.unit);
                    }
                    Named::Origin(number) => {
                        found.extend(index.copies(number)?.iter().map(|copy| copy.unit));
                    }
                }
            }
            Ok(found)
        })
    }

    /// One key after the other, or all at once.
    fn find(
        &self,
        file: &DwarfFile<'_>,
        keys: Option<&[&str]>,
        question: &dyn Fn(&NameIndex) -> Result<Vec<Selected>, Damaged>,
    ) -> Vec<Selected> {
        match keys {
            Some([key]) => self.ask(file, Some(key), question),
            _ => self.ask(file, None, question),
        }
    }

    /// Functions entered at one of these addresses, by a look at the units that hold them alone; ascending by entry.
    pub fn select_at(
        &self,
        file: &DwarfFile<'_>,
        addresses: &HashSet<ImageAddr>,
    ) -> Result<Vec<DwarfFunction>, SymbolsError> {
        let units = Units::new(file, &self.units);
        let mut found = Vec::new();
        for start in self.units_of(&units, addresses) {
            let Ok(unit) = units.unit(start) else {
                continue;
            };
            units.learn(&unit);
            let Ok(functions) = units.functions_of(&unit, || scopes::functions_of(&unit)) else {
                continue;
            };
            let mut seen = HashSet::new();
            for function in functions.iter() {
                let holds = |a: &ImageAddr| function.begin <= a.0 && a.0 < function.end;
                if !addresses.iter().any(holds) || !seen.insert(function.die) {
                    continue;
                }
                let failed = |e| units.error(start + function.die, e);
                let entry = unit.entry(UnitOffset(function.die)).map_err(failed)?;
                let place = Place {
                    unit: Rc::clone(&unit),
                    entry,
                };
                found.extend(describe_place(&units, &place).map_err(failed)?);
            }
        }
        found.retain(|f| addresses.contains(&f.entry));
        found.sort_by(|a, b| (a.entry, &a.name).cmp(&(b.entry, &b.name)));
        Ok(found)
    }

    /// The units that hold these addresses.
    pub fn units_of(&self, units: &Units<'_>, addresses: &HashSet<ImageAddr>) -> Vec<usize> {
        let full = lock(&self.full).clone();
        if let Some(index) = full {
            let found: Option<BTreeSet<usize>> = addresses
                .iter()
                .map(|address| index.unit_at(address.0).ok().flatten())
                .collect();
            if let Some(found) = found {
                return found.into_iter().collect();
            }
        }
        units_of(units, units.starts(), addresses)
    }

    fn describe_all(
        &self,
        file: &DwarfFile<'_>,
        selected: &[Selected],
    ) -> Result<Vec<DwarfFunction>, SymbolsError> {
        let describe = |same: &[Selected]| -> Result<Vec<DwarfFunction>, SymbolsError> {
            let units = Units::new(file, &self.units);
            let mut found = Vec::new();
            for selected in same {
                let id = selected.id;
                let linkage_name = selected.linkage_name.as_deref();
                let function = describe(&units, id, &selected.name, linkage_name);
                found.extend(function.map_err(|e| units.error(id.unit + id.die, e))?);
            }
            if let Some(unit) = same.first().and_then(|s| units.unit(s.id.unit).ok()) {
                units.learn(&unit);
            }
            Ok(found)
        };
        let by_unit: Vec<&[Selected]> = selected.chunk_by(|a, b| a.id.unit == b.id.unit).collect();
        let found: Result<Vec<Vec<DwarfFunction>>, SymbolsError> =
            match selected.len() > WORTH_THREADS && by_unit.len() > 1 {
                true => by_unit.into_par_iter().map(describe).collect(),
                false => by_unit.into_iter().map(describe).collect(),
            };
        let mut found: Vec<DwarfFunction> = found?.into_iter().flatten().collect();
        found.sort_by(|a, b| (a.entry, &a.name).cmp(&(b.entry, &b.name)));
        Ok(found)
    }
}

/// A name and a mangled one.
type Names = (String, Option<String>);

/// Those of an index's functions or origins that are wanted.
fn select(
    index: &NameIndex,
    file: &DwarfFile<'_>,
    keys: Option<&[&str]>,
    all: impl Fn() -> Vec<Named>,
    wanted: NameWanted<'_>,
    file_wanted: Option<FileWanted<'_>>,
) -> Result<Vec<(Named, Names)>, Damaged> {
    let candidates = match keys {
        Some(keys) => {
            let mut found = Vec::new();
            for key in keys {
                found.extend(index.with_key(key)?);
            }
            found.sort_unstable();
            found.dedup();
            found
        }
        None => all(),
    };
    let fits = |record: &Record<'_>| {
        let name = String::from_utf8_lossy(record.name);
        let linkage_name = record.linkage_name.map(String::from_utf8_lossy);
        let here = match (file_wanted, record.file) {
            // Whoever asked looks again at what does not say.
            (Some(wanted), Some(path)) => wanted(&String::from_utf8_lossy(path)),
            _ => true,
        };
        (here && wanted(&name, linkage_name.as_deref()))
            .then(|| (name.into_owned(), linkage_name.map(|l| l.into_owned())))
    };
    let strings = file.strings();
    let mut found = Vec::new();
    for named in candidates {
        found.extend(fits(&index.describe(named, strings)?).map(|names| (named, names)));
    }
    Ok(found)
}
