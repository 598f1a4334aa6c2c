//! Which functions there are, by name: one pass over the units that decodes nothing but the entries of functions.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;
use std::sync::OnceLock;

use gimli::{AttributeValue, UnitOffset};

use super::call_sites::CallSites;
use super::inlines::InlineIndex;
use super::sections::{DwarfFile, Slice};
use super::units::{EntryId, Home, Place, Unit, UnitTable, Units, unit_starts};
use super::{DwarfFunction, line_table, prologue};
use crate::address::ImageAddr;
use crate::binary::SymbolsError;

struct Indexed {
    name: String,
    linkage_name: Option<String>,
    unit: usize,
    die: usize,
}

impl Indexed {
    fn id(&self) -> EntryId {
        EntryId {
            home: Home::Main,
            unit: self.unit,
            die: self.die,
        }
    }
}

pub(crate) struct FunctionIndex {
    pub units: UnitTable,
    /// Of all units; made when somebody asks for names that only a look at every unit finds.
    functions: OnceLock<Vec<Indexed>>,
    /// Inlined copies, of all units; made when somebody asks for them.
    inlines: OnceLock<InlineIndex>,
    /// Types and variables outside of functions, of all units.
    names: OnceLock<HashMap<String, Vec<EntryId>>>,
    /// Calls, of all units; made when what callers handed over is asked for.
    call_sites: OnceLock<CallSites>,
}

impl FunctionIndex {
    pub fn build(file: &DwarfFile<'_>) -> FunctionIndex {
        FunctionIndex {
            units: UnitTable {
                starts: unit_starts(&file.dwarf),
                ..UnitTable::default()
            },
            functions: OnceLock::new(),
            inlines: OnceLock::new(),
            names: OnceLock::new(),
            call_sites: OnceLock::new(),
        }
    }

    fn functions(&self, file: &DwarfFile<'_>) -> &[Indexed] {
        self.functions
            .get_or_init(|| index_units(&Units::new(file, &self.units), &self.units.starts))
    }

    /// Types and variables of a name outside of functions, wherever they are.
    pub fn names(&self, units: &Units<'_>, name: &str) -> Vec<EntryId> {
        self.all_names(units).get(name).cloned().unwrap_or_default()
    }

    /// All calls that debugging information describes.
    pub fn call_sites(&self, units: &Units<'_>) -> &CallSites {
        self.call_sites
            .get_or_init(|| CallSites::build(&units.file, &self.units))
    }

    /// All of them, by name.
    pub fn all_names(&self, units: &Units<'_>) -> &HashMap<String, Vec<EntryId>> {
        self.names.get_or_init(|| {
            let mut all: HashMap<String, Vec<EntryId>> = HashMap::new();
            for start in units.starts() {
                let Ok(unit) = units.unit(*start) else {
                    continue;
                };
                for (name, ids) in names_of_unit(&unit).unwrap_or_default() {
                    all.entry(name).or_default().extend(ids);
                }
            }
            all
        })
    }

    pub fn function_names(&self, file: &DwarfFile<'_>) -> impl Iterator<Item = &str> {
        self.functions(file).iter().map(|f| f.name.as_str())
    }

    /// Functions that have a name, mangled or not, which satisfies a condition; ascending by entry.
    pub fn select(
        &self,
        file: &DwarfFile<'_>,
        wanted: impl Fn(&str, Option<&str>) -> bool,
    ) -> Result<Vec<DwarfFunction>, SymbolsError> {
        let units = Units::new(file, &self.units);
        let named = self
            .functions(file)
            .iter()
            .filter(|indexed| wanted(&indexed.name, indexed.linkage_name.as_deref()));
        describe_all(&units, named)
    }

    /// Inlined copies of functions that have such a name; ascending by entry.
    pub fn select_inlined(
        &self,
        file: &DwarfFile<'_>,
        wanted: impl Fn(&str, Option<&str>) -> bool,
    ) -> Result<Vec<DwarfFunction>, SymbolsError> {
        let index = self
            .inlines
            .get_or_init(|| InlineIndex::build(file, &self.units));
        let units = Units::new(file, &self.units);
        let mut found = Vec::new();
        for (id, function) in index.copies(&wanted) {
            let described = describe(&units, id, &function.name, function.linkage_name.as_deref());
            found.extend(described.map_err(|e| units.error(id.unit + id.die, e))?);
        }
        found.sort_by(|a, b| (a.entry, &a.name).cmp(&(b.entry, &b.name)));
        Ok(found)
    }

    /// Functions entered at one of these addresses, by a look at the units that hold them alone; ascending by entry.
    pub fn select_at(
        &self,
        file: &DwarfFile<'_>,
        addresses: &HashSet<ImageAddr>,
    ) -> Result<Vec<DwarfFunction>, SymbolsError> {
        let units = Units::new(file, &self.units);
        let indexed = index_units(&units, &units_of(&units, &self.units.starts, addresses));
        let mut found = describe_all(&units, indexed.iter())?;
        found.retain(|f| addresses.contains(&f.entry));
        Ok(found)
    }
}

/// Units that can't be decoded are left out from the first damaged entry on.
fn index_units(units: &Units<'_>, starts: &[usize]) -> Vec<Indexed> {
    let mut functions = Vec::new();
    for &start in starts {
        if let Ok(unit) = units.unit(start) {
            // An error ends the unit; what was found before it holds.
            let _ = index_unit(units, start, &unit, &mut functions);
        }
    }
    functions
}

fn describe_all<'i>(
    units: &Units<'_>,
    indexed: impl Iterator<Item = &'i Indexed>,
) -> Result<Vec<DwarfFunction>, SymbolsError> {
    let mut found = Vec::new();
    for indexed in indexed {
        let linkage_name = indexed.linkage_name.as_deref();
        let function = describe(units, indexed.id(), &indexed.name, linkage_name);
        found.extend(function.map_err(|e| units.error(indexed.unit + indexed.die, e))?);
    }
    found.sort_by(|a, b| (a.entry, &a.name).cmp(&(b.entry, &b.name)));
    Ok(found)
}

/// The units that hold these addresses: as `.debug_aranges` says, for the rest as the units themselves say.
pub(crate) fn units_of(
    units: &Units<'_>,
    starts: &[usize],
    addresses: &HashSet<ImageAddr>,
) -> Vec<usize> {
    let mut missing = addresses.clone();
    let mut found = BTreeSet::new();
    let mut take = |begin: u64, end: u64, start: usize| {
        missing.retain(|a| {
            let inside = begin <= a.0 && a.0 < end;
            if inside {
                found.insert(start);
            }
            !inside
        });
        missing.is_empty()
    };
    let mut sets = units.file.dwarf.debug_aranges.headers();
    while let Ok(Some(set)) = sets.next() {
        let mut entries = set.entries();
        while let Ok(Some(entry)) = entries.next() {
            let end = entry.address().saturating_add(entry.length());
            if take(entry.address(), end, set.debug_info_offset().0) {
                return found.into_iter().collect();
            }
        }
    }
    for &start in starts {
        let Ok(unit) = units.unit(start) else {
            continue;
        };
        let Ok(mut ranges) = unit.dwarf.unit_ranges(&unit) else {
            continue;
        };
        while let Ok(Some(range)) = ranges.next() {
            if take(range.begin, range.end, start) {
                return found.into_iter().collect();
            }
        }
    }
    found.into_iter().collect()
}

fn index_unit<'a>(
    units: &Units<'a>,
    start: usize,
    unit: &Rc<Unit<'a>>,
    found: &mut Vec<Indexed>,
) -> gimli::Result<()> {
    let mut entries = unit.entries_raw(None)?;
    while !entries.is_empty() {
        let offset = entries.next_offset();
        let Some(abbreviation) = entries.read_abbreviation()? else {
            continue;
        };
        if abbreviation.tag() != gimli::DW_TAG_subprogram || !has_code(abbreviation.attributes()) {
            entries.skip_attributes(abbreviation.attributes())?;
            continue;
        }
        entries.skip_attributes(abbreviation.attributes())?;
        let place = Place {
            unit: Rc::clone(unit),
            entry: unit.entry(offset)?,
        };
        if let Some(name) = units.inherited_string(&place, gimli::DW_AT_name) {
            let linkage_name = linkage_name(units, &place);
            found.push(Indexed {
                name,
                linkage_name,
                unit: start,
                die: offset.0,
            });
        }
    }
    Ok(())
}

pub(crate) fn has_code(attributes: &[gimli::AttributeSpecification]) -> bool {
    attributes
        .iter()
        .any(|a| a.name() == gimli::DW_AT_low_pc || a.name() == gimli::DW_AT_ranges)
}

pub(crate) fn linkage_name<'a>(units: &Units<'a>, place: &Place<'a>) -> Option<String> {
    units
        .inherited_string(place, gimli::DW_AT_linkage_name)
        .or_else(|| units.inherited_string(place, gimli::DW_AT_MIPS_linkage_name))
}

/// `None` for code that the linker discarded.
fn describe(
    units: &Units<'_>,
    id: EntryId,
    name: &str,
    linkage_name: Option<&str>,
) -> gimli::Result<Option<DwarfFunction>> {
    describe_named(units, &units.place(id)?, name, linkage_name)
}

/// A function or an inlined copy of one; `None` when it has no name or its code was discarded by the linker.
pub(crate) fn describe_place<'a>(
    units: &Units<'a>,
    place: &Place<'a>,
) -> gimli::Result<Option<DwarfFunction>> {
    let Some(name) = units.inherited_string(place, gimli::DW_AT_name) else {
        return Ok(None);
    };
    let linkage_name = linkage_name(units, place);
    describe_named(units, place, &name, linkage_name.as_deref())
}

fn describe_named<'a>(
    units: &Units<'a>,
    place: &Place<'a>,
    name: &str,
    linkage_name: Option<&str>,
) -> gimli::Result<Option<DwarfFunction>> {
    let inlined = place.entry.tag() == gimli::DW_TAG_inlined_subroutine;
    let loaded = |address: &u64| units.file.loaded.in_executable_segment(ImageAddr(*address));
    let mut ranges = ranges(place)?;
    let first_end = ranges.first().map(|r| r.end);
    ranges.retain(|r| r.begin < r.end && loaded(&r.begin));
    let entry = entry_address(place).filter(loaded);
    // What is left of a copy may be nothing but its entry, or its entry may lie outside of what is left.
    let entry = match ranges.first() {
        None if inlined => entry,
        None => None,
        Some(first) => entry
            .filter(|e| inlined || ranges.iter().any(|r| r.begin <= *e && *e < r.end))
            .or(Some(first.begin)),
    };
    let Some(entry) = entry else {
        return Ok(None);
    };
    let low = ranges.iter().map(|r| r.begin).min().unwrap_or(entry);
    let high = ranges
        .iter()
        .find(|r| r.begin <= entry && entry < r.end)
        .or(ranges.first())
        .map_or(entry, |r| r.end);
    let mut decl_file = decl_file(units, place);
    let mut decl_line = units
        .inherited(place, gimli::DW_AT_decl_line)
        .and_then(|(_, v)| v.udata_value());
    if decl_file.is_none() {
        // What has no declaration, such as the function of a lambda expression, stands where its code begins.
        let rows = units.rows(&place.unit);
        let behind = rows.partition_point(|r| r.address <= entry);
        if let Some(row) = behind.checked_sub(1).and_then(|i| rows.get(i)) {
            decl_file = line_table::file_name(&place.unit.dwarf, &place.unit, row.file);
            decl_line = Some(row.line);
        }
    }
    let external = units.inherited(place, gimli::DW_AT_external);
    let probe_address = if inlined {
        entry
    } else {
        prologue::probe_address(units, place, entry, high)
    };
    Ok(Some(DwarfFunction {
        name: name.to_owned(),
        linkage_name: linkage_name.map(str::to_owned),
        decl_file,
        decl_line,
        entry: ImageAddr(entry),
        low: ImageAddr(low),
        high: ImageAddr(high),
        probe_address: ImageAddr(probe_address),
        ranges: ranges
            .iter()
            .map(|r| ImageAddr(r.begin)..ImageAddr(r.end))
            .collect(),
        inlined,
        first_end: ImageAddr(first_end.unwrap_or(entry)),
        external: matches!(external, Some((_, AttributeValue::Flag(true)))),
        id: place.id(),
    }))
}

/// The file that declares an entry.
pub(crate) fn decl_file<'a>(units: &Units<'a>, place: &Place<'a>) -> Option<String> {
    let (unit, value) = units.inherited(place, gimli::DW_AT_decl_file)?;
    let index = match value {
        AttributeValue::FileIndex(index) => index,
        value => value.udata_value()?,
    };
    line_table::file_name(&unit.dwarf, &unit, index)
}

/// `DW_AT_ranges`, else `DW_AT_low_pc` and `DW_AT_high_pc`, which is an address or a length.
pub(crate) fn ranges<'a>(place: &Place<'a>) -> gimli::Result<Vec<gimli::Range>> {
    let dwarf = &place.unit.dwarf;
    let mut found = Vec::new();
    if let Some(value) = place.entry.attr_value(gimli::DW_AT_ranges) {
        if let Some(mut list) = dwarf.attr_ranges(&place.unit, value)? {
            while let Some(range) = list.next()? {
                found.push(range);
            }
        }
        return Ok(found);
    }
    let address = |attribute| match place.entry.attr_value(attribute) {
        Some(value) => dwarf.attr_address(&place.unit, value),
        None => Ok(None),
    };
    let Some(begin) = address(gimli::DW_AT_low_pc)? else {
        return Ok(found);
    };
    let end = match address(gimli::DW_AT_high_pc)? {
        Some(end) => Some(end),
        None => {
            let length = place
                .entry
                .attr_value(gimli::DW_AT_high_pc)
                .and_then(|v| v.udata_value());
            length.and_then(|length| begin.checked_add(length))
        }
    };
    found.extend(end.map(|end| gimli::Range { begin, end }));
    Ok(found)
}

/// `DW_AT_entry_pc` (an address, or in DWARF 5 also an offset from the low address), else `DW_AT_low_pc`.
pub(crate) fn entry_address<'a>(place: &Place<'a>) -> Option<u64> {
    let address = |value: AttributeValue<Slice<'a>>| {
        place
            .unit
            .dwarf
            .attr_address(&place.unit, value)
            .ok()
            .flatten()
    };
    let low = place
        .entry
        .attr_value(gimli::DW_AT_low_pc)
        .and_then(address);
    let Some(entry) = place.entry.attr_value(gimli::DW_AT_entry_pc) else {
        return low;
    };
    address(entry)
        .or_else(|| {
            entry
                .udata_value()
                .and_then(|offset| low?.checked_add(offset))
        })
        .or(low)
}

/// The entries directly below a function's, of one kind.
pub(crate) fn children<'a>(place: &Place<'a>, tag: gimli::DwTag) -> gimli::Result<Vec<Place<'a>>> {
    let mut found = Vec::new();
    if !place.entry.has_children() {
        return Ok(found);
    }
    let mut cursor = place
        .unit
        .entries_at_offset(UnitOffset(place.entry.offset().0))?;
    if !cursor.next_entry()? {
        return Ok(found);
    }
    if cursor.next_dfs()?.is_none() {
        return Ok(found);
    }
    while let Some(entry) = cursor.current() {
        if entry.depth() <= 0 {
            break;
        }
        if entry.tag() == tag {
            found.push(Place {
                unit: Rc::clone(&place.unit),
                entry: entry.clone(),
            });
        }
        if cursor.next_sibling()?.is_none() {
            break;
        }
    }
    Ok(found)
}

/// The scopes of a unit in which types and variables that are not a function's are declared.
fn is_scope(tag: gimli::DwTag) -> bool {
    matches!(
        tag,
        gimli::DW_TAG_compile_unit
            | gimli::DW_TAG_partial_unit
            | gimli::DW_TAG_type_unit
            | gimli::DW_TAG_namespace
            | gimli::DW_TAG_module
            | gimli::DW_TAG_structure_type
            | gimli::DW_TAG_class_type
    )
}

fn is_named_entity(tag: gimli::DwTag) -> bool {
    matches!(
        tag,
        gimli::DW_TAG_variable
            | gimli::DW_TAG_typedef
            | gimli::DW_TAG_base_type
            | gimli::DW_TAG_structure_type
            | gimli::DW_TAG_class_type
            | gimli::DW_TAG_union_type
            | gimli::DW_TAG_enumeration_type
    )
}

/// Types and variables of a unit outside of functions by name, those of namespaces and classes included. A definition
/// that refers to its declaration has the declaration's name.
pub(crate) fn names_of_unit(unit: &Rc<Unit<'_>>) -> gimli::Result<HashMap<String, Vec<EntryId>>> {
    let mut found: HashMap<String, Vec<EntryId>> = HashMap::new();
    walk_outside(unit, &mut |entry| {
        if !is_named_entity(entry.tag()) {
            return;
        }
        let value = entry.attr_value(gimli::DW_AT_name).or_else(|| {
            let origin = entry
                .attr_value(gimli::DW_AT_specification)
                .or_else(|| entry.attr_value(gimli::DW_AT_abstract_origin))?;
            let AttributeValue::UnitRef(offset) = origin else {
                return None;
            };
            unit.entry(offset).ok()?.attr_value(gimli::DW_AT_name)
        });
        if let Some(name) = value.and_then(|v| unit.text(v)) {
            found.entry(name).or_default().push(EntryId {
                home: unit.home,
                unit: unit.start,
                die: entry.offset().0,
            });
        }
    })?;
    Ok(found)
}

/// Enumerations of a unit that have no name.
pub(crate) fn nameless_enumerations(unit: &Rc<Unit<'_>>) -> gimli::Result<Vec<EntryId>> {
    let mut found = Vec::new();
    walk_outside(unit, &mut |entry| {
        if entry.tag() == gimli::DW_TAG_enumeration_type
            && entry.attr_value(gimli::DW_AT_name).is_none()
        {
            found.push(EntryId {
                home: unit.home,
                unit: unit.start,
                die: entry.offset().0,
            });
        }
    })?;
    Ok(found)
}

/// Every entry that is not inside of a function or of a type that is no scope.
fn walk_outside<'a>(
    unit: &Rc<Unit<'a>>,
    each: &mut dyn FnMut(&super::units::Entry<'a>),
) -> gimli::Result<()> {
    let mut cursor = unit.entries();
    if !cursor.next_entry()? {
        return Ok(());
    }
    let mut more = true;
    while more {
        let Some(entry) = cursor.current() else {
            break;
        };
        each(entry);
        more = if is_scope(entry.tag()) {
            cursor.next_dfs()?.is_some()
        } else {
            skip(&mut cursor)?
        };
    }
    Ok(())
}

/// To the next entry that is not below this one, at whatever depth.
fn skip(cursor: &mut gimli::EntriesCursor<'_, Slice<'_>>) -> gimli::Result<bool> {
    let depth = cursor.current().map_or(0, |e| e.depth());
    if cursor.next_sibling()?.is_some() {
        return Ok(true);
    }
    // The last of its siblings: the cursor stands at their end, and goes on above.
    loop {
        match cursor.next_dfs()? {
            None => return Ok(false),
            Some(entry) if entry.depth() < depth => return Ok(true),
            Some(_) => {}
        }
    }
}
