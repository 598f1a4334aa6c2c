//! Compilation units by offset, and entries that refer to entries of other units and other files.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use gimli::{
    Abbreviations, AttributeValue, DebugInfoOffset, DebugTypesOffset, DebuggingInformationEntry,
    UnitOffset, UnitType,
};

use super::line_table::{self, Row};
use super::namespaces::{self, Inside};
use super::sections::{DwarfFile, Slice};
use crate::binary::SymbolsError;

pub(crate) type Entry<'a> = DebuggingInformationEntry<Slice<'a>>;

/// How many entries one may lead to (an inlined copy, its origin, its declaration …) before it is taken for a circle.
pub(crate) const REFERENCE_LIMIT: usize = 16;

/// How many units stay parsed; link-time optimisation makes entries refer across units all the time.
const CACHED_UNITS: usize = 256;

/// How many tables of abbreviations stay parsed.
const CACHED_ABBREVIATIONS: usize = 512;

/// Of how many units it is kept what is directly in them.
const KEPT_NAMESPACES: usize = 64;

/// In which section of which file a unit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Home {
    /// `.debug_info` of the file itself or of its separate debug file.
    Main,
    /// `.debug_types` of the same (DWARF 4).
    Types,
    /// `.debug_info` of the supplementary file that `.gnu_debugaltlink` names (dwz).
    Supplementary,
}

/// An entry, wherever it is: a number that stays true as long as its binary lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct EntryId {
    pub home: Home,
    pub unit: usize,
    pub die: usize,
}

/// A parsed unit and the sections that its offsets are into.
pub(crate) struct Unit<'a> {
    inner: gimli::Unit<Slice<'a>>,
    pub dwarf: Arc<gimli::Dwarf<Slice<'a>>>,
    pub home: Home,
    pub start: usize,
    /// What stands for a split unit in the linked file, and says where its code is.
    skeleton: Option<Box<gimli::Unit<Slice<'a>>>>,
}

impl<'a> Deref for Unit<'a> {
    type Target = gimli::Unit<Slice<'a>>;

    fn deref(&self) -> &Self::Target {
        &self.inner
    }
}

impl<'a> Unit<'a> {
    /// The unit's code; of damaged ranges those before the damage. `main` is the file that the unit, or its skeleton, is in.
    pub fn code(&self, main: &gimli::Dwarf<Slice<'a>>) -> Vec<gimli::Range> {
        let ranges = match &self.skeleton {
            Some(skeleton) => main.unit_ranges(skeleton),
            None => self.dwarf.unit_ranges(self),
        };
        let mut found = Vec::new();
        if let Ok(mut ranges) = ranges {
            while let Ok(Some(range)) = ranges.next() {
                found.push(range);
            }
        }
        found
    }

    /// A string attribute's text.
    pub fn text(&self, value: AttributeValue<Slice<'a>>) -> Option<String> {
        let text = self.dwarf.attr_string(self, value).ok()?;
        Some(String::from_utf8_lossy(text.slice()).into_owned())
    }
}

/// An entry and the unit it stands in.
#[derive(Clone)]
pub(crate) struct Place<'a> {
    pub unit: Rc<Unit<'a>>,
    pub entry: Entry<'a>,
}

impl<'a> Place<'a> {
    pub fn id(&self) -> EntryId {
        EntryId {
            home: self.unit.home,
            unit: self.unit.start,
            die: self.entry.offset().0,
        }
    }

    /// The entry's own name.
    pub fn name(&self) -> Option<String> {
        self.unit.text(self.entry.attr_value(gimli::DW_AT_name)?)
    }

    /// An attribute that is a number.
    pub fn number(&self, attribute: gimli::DwAt) -> Option<u64> {
        self.entry.attr_value(attribute)?.udata_value()
    }

    /// An attribute that is a flag.
    pub fn flag(&self, attribute: gimli::DwAt) -> bool {
        matches!(
            self.entry.attr_value(attribute),
            Some(AttributeValue::Flag(true))
        )
    }
}

/// What is kept of the units between questions: where they start and their abbreviation tables, which are long to parse
/// and often shared.
#[derive(Default)]
pub(crate) struct UnitTable {
    /// Offsets of the unit headers in `.debug_info`, ascending.
    starts: OnceLock<Vec<usize>>,
    /// The same for the supplementary file.
    pub supplementary: OnceLock<Vec<usize>>,
    /// Type units by signature.
    pub signatures: OnceLock<HashMap<u64, (Home, usize, usize)>>,
    pub abbreviations: Mutex<HashMap<(Home, usize), Arc<Abbreviations>>>,
    /// Of units in which an address was looked up: the code of their functions.
    pub functions: Mutex<HashMap<(Home, usize), FunctionRanges>>,
    /// The same units' code: end and unit by start.
    pub ranges: Mutex<BTreeMap<u64, (u64, usize)>>,
    /// What is directly in a unit and its namespaces, of the units asked for of late.
    pub namespaces: Mutex<UnitNamespaces>,
}

impl UnitTable {
    /// Offsets of the unit headers in `.debug_info`, ascending: unless an index told, all headers are read, which brings in
    /// pages from everywhere in the file.
    pub fn starts(&self, file: &DwarfFile<'_>) -> &[usize] {
        self.starts.get_or_init(|| unit_starts(&file.dwarf))
    }

    /// Takes them from an index of the same file. False when it is known that they are others.
    pub fn adopt(&self, starts: Vec<usize>) -> bool {
        match self.starts.get() {
            Some(known) => *known == starts,
            None => self.starts.set(starts).is_ok(),
        }
    }
}

/// The code of a unit's functions, ascending.
pub(crate) type FunctionRanges = Arc<[FunctionRange]>;

/// A stretch of a function's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FunctionRange {
    pub begin: u64,
    pub end: u64,
    /// The function's entry in its unit.
    pub die: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The rows of the line table of a unit.
type UnitRows = Option<((Home, usize), Rc<Vec<Row>>)>;

/// The namespaces of units.
type UnitNamespaces = HashMap<(Home, usize), Arc<Inside>>;

pub(crate) struct Units<'a> {
    pub file: DwarfFile<'a>,
    table: &'a UnitTable,
    parsed: RefCell<HashMap<(Home, usize), Rc<Unit<'a>>>>,
    rows: RefCell<UnitRows>,
}

impl<'a> Units<'a> {
    pub fn new(file: &DwarfFile<'a>, table: &'a UnitTable) -> Units<'a> {
        Units {
            file: file.clone(),
            table,
            parsed: RefCell::default(),
            rows: RefCell::default(),
        }
    }

    pub fn error(&self, offset: usize, reason: gimli::Error) -> SymbolsError {
        SymbolsError::Dwarf {
            path: self.file.debug.path.clone(),
            offset,
            reason: reason.to_string(),
        }
    }

    /// The offsets of all units of `.debug_info`.
    pub fn starts(&self) -> &'a [usize] {
        self.table.starts(&self.file)
    }

    /// The unit of `.debug_info` that starts at an offset.
    pub fn unit(&self, start: usize) -> gimli::Result<Rc<Unit<'a>>> {
        self.unit_in(Home::Main, start)
    }

    pub fn unit_in(&self, home: Home, start: usize) -> gimli::Result<Rc<Unit<'a>>> {
        if let Some(unit) = self.parsed.borrow().get(&(home, start)) {
            return Ok(Rc::clone(unit));
        }
        let dwarf = match home {
            Home::Main | Home::Types => &self.file.dwarf,
            Home::Supplementary => self
                .file
                .dwarf
                .sup
                .as_ref()
                .ok_or(gimli::Error::OffsetOutOfBounds(start as u64))?,
        };
        let header = match home {
            Home::Types => type_unit_header(dwarf, start)?,
            _ => dwarf
                .debug_info
                .header_from_offset(DebugInfoOffset(start))?,
        };
        let abbreviations = self.abbreviations(home, dwarf, &header)?;
        let inner = gimli::Unit::new_with_abbreviations(dwarf, header, abbreviations)?;
        let unit = match self.file.split_unit(dwarf, &inner) {
            Some((dwarf, split)) => Unit {
                inner: split,
                dwarf,
                home,
                start,
                skeleton: Some(Box::new(inner)),
            },
            None => Unit {
                inner,
                dwarf: Arc::clone(dwarf),
                home,
                start,
                skeleton: None,
            },
        };
        let unit = Rc::new(unit);
        let mut parsed = self.parsed.borrow_mut();
        if parsed.len() >= CACHED_UNITS {
            parsed.clear();
        }
        parsed.insert((home, start), Rc::clone(&unit));
        Ok(unit)
    }

    fn abbreviations(
        &self,
        home: Home,
        dwarf: &gimli::Dwarf<Slice<'a>>,
        header: &gimli::UnitHeader<Slice<'a>>,
    ) -> gimli::Result<Arc<Abbreviations>> {
        let key = (home, header.debug_abbrev_offset().0);
        let known = || {
            self.table
                .abbreviations
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        if let Some(found) = known().get(&key) {
            return Ok(Arc::clone(found));
        }
        let parsed = dwarf.abbreviations(header)?;
        let mut known = known();
        if known.len() >= CACHED_ABBREVIATIONS {
            known.clear();
        }
        known.insert(key, Arc::clone(&parsed));
        Ok(parsed)
    }

    /// The unit of `.debug_info` whose code holds an address, if it was found before.
    pub fn known_at(&self, address: u64) -> Option<usize> {
        let ranges = lock(&self.table.ranges);
        let (_, (end, start)) = ranges.range(..=address).next_back()?;
        (address < *end).then_some(*start)
    }

    /// Keeps in mind which code is a unit's.
    pub fn learn(&self, unit: &Unit<'a>) {
        let mut ranges = lock(&self.table.ranges);
        for range in unit.code(&self.file.dwarf) {
            if range.begin < range.end {
                ranges.insert(range.begin, (range.end, unit.start));
            }
        }
    }

    /// The code of a unit's functions, ascending; made by `make` when asked for the first time.
    pub fn functions_of(
        &self,
        unit: &Unit<'a>,
        make: impl FnOnce() -> gimli::Result<Vec<FunctionRange>>,
    ) -> gimli::Result<FunctionRanges> {
        let key = (unit.home, unit.start);
        if let Some(known) = lock(&self.table.functions).get(&key) {
            return Ok(Arc::clone(known));
        }
        let mut made = make()?;
        made.sort_unstable();
        let made: FunctionRanges = made.into();
        lock(&self.table.functions).insert(key, Arc::clone(&made));
        Ok(made)
    }

    /// The rows of a unit's line table, ascending by address; those of the last unit asked for are kept.
    pub fn rows(&self, unit: &Unit<'a>) -> Rc<Vec<Row>> {
        let key = (unit.home, unit.start);
        if let Some((kept, rows)) = &*self.rows.borrow()
            && *kept == key
        {
            return Rc::clone(rows);
        }
        let rows = Rc::new(line_table::rows(unit));
        *self.rows.borrow_mut() = Some((key, Rc::clone(&rows)));
        rows
    }

    /// The outermost namespaces of a unit.
    pub fn namespaces_of(&self, unit: &Unit<'a>) -> gimli::Result<Arc<Inside>> {
        let key = (unit.home, unit.start);
        if let Some(found) = lock(&self.table.namespaces).get(&key) {
            return Ok(Arc::clone(found));
        }
        let found = Arc::new(namespaces::look_inside(unit, unit.header.root_offset())?);
        let mut kept = lock(&self.table.namespaces);
        if kept.len() >= KEPT_NAMESPACES {
            kept.clear();
        }
        kept.insert(key, Arc::clone(&found));
        Ok(found)
    }

    pub fn place(&self, id: EntryId) -> gimli::Result<Place<'a>> {
        let unit = self.unit_in(id.home, id.unit)?;
        let entry = unit.entry(UnitOffset(id.die))?;
        Ok(Place { unit, entry })
    }

    /// The root entry of a unit.
    pub fn root(&self, unit: &Rc<Unit<'a>>) -> gimli::Result<Place<'a>> {
        let entry = unit.entry(unit.header.root_offset())?;
        Ok(Place {
            unit: Rc::clone(unit),
            entry,
        })
    }

    /// The entry that a reference leads to; `None` when it leads out of the file.
    pub fn follow(
        &self,
        from: &Rc<Unit<'a>>,
        reference: AttributeValue<Slice<'a>>,
    ) -> Option<Place<'a>> {
        match reference {
            AttributeValue::UnitRef(offset) => {
                let entry = from.entry(offset).ok()?;
                Some(Place {
                    unit: Rc::clone(from),
                    entry,
                })
            }
            AttributeValue::DebugInfoRef(offset) => match from.home {
                Home::Supplementary => self.in_supplementary(offset),
                Home::Main | Home::Types => self.within(Home::Main, self.starts(), offset),
            },
            AttributeValue::DebugInfoRefSup(offset) => self.in_supplementary(offset),
            AttributeValue::DebugTypesRef(signature) => {
                let &(home, start, die) = self.signatures().get(&signature.0)?;
                self.place(EntryId {
                    home,
                    unit: start,
                    die,
                })
                .ok()
            }
            _ => None,
        }
    }

    /// The entry at an offset into `.debug_info` that a location expression of a unit names.
    pub fn entry_at(&self, from: &Unit<'a>, offset: DebugInfoOffset) -> Option<EntryId> {
        let place = match from.home {
            Home::Supplementary => self.in_supplementary(offset),
            Home::Main | Home::Types => self.within(Home::Main, self.starts(), offset),
        };
        place.map(|p| p.id())
    }

    fn in_supplementary(&self, offset: DebugInfoOffset) -> Option<Place<'a>> {
        let dwarf = self.file.dwarf.sup.as_ref()?;
        let starts = self.table.supplementary.get_or_init(|| unit_starts(dwarf));
        self.within(Home::Supplementary, starts, offset)
    }

    fn within(&self, home: Home, starts: &[usize], offset: DebugInfoOffset) -> Option<Place<'a>> {
        let index = starts.partition_point(|s| *s <= offset.0).checked_sub(1)?;
        let unit = self.unit_in(home, *starts.get(index)?).ok()?;
        let within = offset.to_unit_offset(&unit.header)?;
        let entry = unit.entry(within).ok()?;
        Some(Place { unit, entry })
    }

    /// Types of `.debug_types` that have a name: other units only refer to them.
    pub fn type_units_named(&self, name: &str) -> Vec<EntryId> {
        let dwarf = &self.file.dwarf;
        let mut found = Vec::new();
        let mut headers = dwarf.type_units();
        while let Ok(Some(header)) = headers.next() {
            let (Some(start), UnitType::Type { type_offset, .. }) =
                (header.debug_types_offset(), header.type_())
            else {
                continue;
            };
            let Ok(unit) = gimli::Unit::new(dwarf, header) else {
                continue;
            };
            let named = unit.entry(type_offset).ok().and_then(|entry| {
                let value = entry.attr_value(gimli::DW_AT_name)?;
                dwarf.attr_string(&unit, value).ok()
            });
            if named.is_some_and(|found| found.slice() == name.as_bytes()) {
                found.push(EntryId {
                    home: Home::Types,
                    unit: start.0,
                    die: type_offset.0,
                });
            }
        }
        found
    }

    /// Where type units are: those of `.debug_types`, and in DWARF 5 those among the others.
    fn signatures(&self) -> &HashMap<u64, (Home, usize, usize)> {
        self.table.signatures.get_or_init(|| {
            let mut found = HashMap::new();
            let mut note = |header: &gimli::UnitHeader<Slice<'a>>| {
                let UnitType::Type {
                    type_signature,
                    type_offset,
                } = header.type_()
                else {
                    return;
                };
                let place = match (header.debug_info_offset(), header.debug_types_offset()) {
                    (Some(o), _) => (Home::Main, o.0),
                    (_, Some(o)) => (Home::Types, o.0),
                    _ => return,
                };
                found.insert(type_signature.0, (place.0, place.1, type_offset.0));
            };
            let mut units = self.file.dwarf.debug_types.units();
            while let Ok(Some(header)) = units.next() {
                note(&header);
            }
            let mut units = self.file.dwarf.units();
            while let Ok(Some(header)) = units.next() {
                note(&header);
            }
            found
        })
    }

    /// The entry that an attribute of this one refers to.
    pub fn referred(&self, place: &Place<'a>, attribute: gimli::DwAt) -> Option<Place<'a>> {
        self.follow(&place.unit, place.entry.attr_value(attribute)?)
    }

    /// The value of an attribute of an entry, or of the one that it is a copy or a definition of.
    pub fn inherited(
        &self,
        place: &Place<'a>,
        attribute: gimli::DwAt,
    ) -> Option<(Rc<Unit<'a>>, AttributeValue<Slice<'a>>)> {
        let mut place = place.clone();
        for _ in 0..REFERENCE_LIMIT {
            if let Some(value) = place.entry.attr_value(attribute) {
                return Some((place.unit, value));
            }
            place = self.origin(&place)?;
        }
        None
    }

    /// The entry that this one is a copy (`DW_AT_abstract_origin`) or the definition (`DW_AT_specification`) of.
    pub fn origin(&self, place: &Place<'a>) -> Option<Place<'a>> {
        self.referred(place, gimli::DW_AT_abstract_origin)
            .or_else(|| self.referred(place, gimli::DW_AT_specification))
    }

    pub fn inherited_string(&self, place: &Place<'a>, attribute: gimli::DwAt) -> Option<String> {
        let (unit, value) = self.inherited(place, attribute)?;
        unit.text(value)
    }

    /// The type of a variable, member or function, through the entries that it is a copy of.
    pub fn type_of(&self, place: &Place<'a>) -> Option<Place<'a>> {
        let (unit, value) = self.inherited(place, gimli::DW_AT_type)?;
        self.follow(&unit, value)
    }
}

/// Offsets of all unit headers of a file.
pub(crate) fn unit_starts(dwarf: &gimli::Dwarf<Slice<'_>>) -> Vec<usize> {
    let mut starts = Vec::new();
    let mut headers = dwarf.units();
    while let Ok(Some(header)) = headers.next() {
        starts.extend(header.debug_info_offset().map(|o| o.0));
    }
    starts
}

/// `.debug_types` has no table of contents: its units are gone through.
fn type_unit_header<'a>(
    dwarf: &gimli::Dwarf<Slice<'a>>,
    start: usize,
) -> gimli::Result<gimli::UnitHeader<Slice<'a>>> {
    let mut units = dwarf.type_units();
    while let Some(header) = units.next()? {
        if header.debug_types_offset() == Some(DebugTypesOffset(start)) {
            return Ok(header);
        }
    }
    Err(gimli::Error::OffsetOutOfBounds(start as u64))
}
