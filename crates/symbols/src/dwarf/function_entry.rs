//! What the entry of a function, or of an inlined copy of one, says: names, declaration, code.

use std::rc::Rc;

use gimli::{AttributeValue, UnitOffset};

use super::sections::Slice;
use super::units::{EntryId, Place, Units};
use super::{DwarfFunction, line_table, prologue};
use crate::address::ImageAddr;

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
pub(crate) fn describe(
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
    let Some(code) = code(units, place)? else {
        return Ok(None);
    };
    let (decl_file, decl_line) = declaration(units, place, code.entry);
    Ok(Some(DwarfFunction {
        name: name.to_owned(),
        linkage_name: linkage_name.map(str::to_owned),
        decl_file,
        decl_line,
        entry: ImageAddr(code.entry),
        low: ImageAddr(code.low()),
        high: ImageAddr(code.high()),
        probe_address: ImageAddr(probe_address(units, place, &code)),
        ranges: code
            .ranges
            .iter()
            .map(|r| ImageAddr(r.begin)..ImageAddr(r.end))
            .collect(),
        inlined: is_copy(place),
        from_other_unit: is_from_other_unit(units, place),
        external: is_external(units, place),
        id: place.id(),
    }))
}

/// Whether it is a function that was inlined into another one.
pub(crate) fn is_copy(place: &Place<'_>) -> bool {
    place.entry.tag() == gimli::DW_TAG_inlined_subroutine
}

/// Whether it is a copy of a function that another compilation unit describes. What dwz(1) moved into a partial unit is the
/// copy's own unit's.
fn is_from_other_unit<'a>(units: &Units<'a>, place: &Place<'a>) -> bool {
    is_copy(place)
        && units
            .referred(place, gimli::DW_AT_abstract_origin)
            .is_some_and(|origin| {
                origin.id().unit != place.id().unit && !is_in_partial_unit(units, &origin)
            })
}

/// Whether an entry is in a unit that others include.
pub(crate) fn is_in_partial_unit<'a>(units: &Units<'a>, place: &Place<'a>) -> bool {
    let root = units.root(&place.unit);
    root.is_ok_and(|root| root.entry.tag() == gimli::DW_TAG_partial_unit)
}

/// Whether other units can call it by name.
pub(crate) fn is_external<'a>(units: &Units<'a>, place: &Place<'a>) -> bool {
    let external = units.inherited(place, gimli::DW_AT_external);
    matches!(external, Some((_, AttributeValue::Flag(true))))
}

/// The code of a function or of an inlined copy of one.
pub(crate) struct Code {
    /// What the program has of it.
    pub ranges: Vec<gimli::Range>,
    /// Where it is entered.
    pub entry: u64,
}

impl Code {
    fn low(&self) -> u64 {
        let begins = self.ranges.iter().map(|r| r.begin);
        begins.min().unwrap_or(self.entry)
    }

    /// Behind the part that holds the entry.
    fn high(&self) -> u64 {
        let holds = |r: &&gimli::Range| r.begin <= self.entry && self.entry < r.end;
        let part = self.ranges.iter().find(holds).or(self.ranges.first());
        part.map_or(self.entry, |r| r.end)
    }
}

/// `None` for code that the linker discarded.
pub(crate) fn code<'a>(units: &Units<'a>, place: &Place<'a>) -> gimli::Result<Option<Code>> {
    let inlined = is_copy(place);
    let loaded = |address: &u64| units.file.loaded.in_executable_segment(ImageAddr(*address));
    let mut ranges = ranges(place)?;
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
    Ok(entry.map(|entry| Code { ranges, entry }))
}

/// Where a function is entered: at its low address, or where the first of several parts begins.
pub(crate) fn entry_of<'a>(units: &Units<'a>, place: &Place<'a>) -> Option<u64> {
    let code = code(units, place).ok().flatten();
    code.map(|code| code.entry)
}

/// Where its parameters can be read first.
pub(crate) fn probe_address<'a>(units: &Units<'a>, place: &Place<'a>, code: &Code) -> u64 {
    match is_copy(place) {
        true => code.entry,
        false => prologue::probe_address(units, place, code.entry, code.high()),
    }
}

/// File and line of the declaration.
fn declaration<'a>(
    units: &Units<'a>,
    place: &Place<'a>,
    entry: u64,
) -> (Option<String>, Option<u64>) {
    match decl_file(units, place) {
        Some(file) => {
            let line = decl_line(units, place);
            let line = line.or_else(|| first_line(units, place, entry, &file));
            (Some(file), line)
        }
        None => {
            place_of_code(units, place, entry).unwrap_or_else(|| (None, decl_line(units, place)))
        }
    }
}

/// What has no declaration, such as the function of a lambda expression, stands where its code begins.
pub(crate) fn place_of_code<'a>(
    units: &Units<'a>,
    place: &Place<'a>,
    entry: u64,
) -> Option<(Option<String>, Option<u64>)> {
    let rows = units.rows(&place.unit);
    let behind = rows.partition_point(|r| r.address <= entry);
    let row = behind.checked_sub(1).and_then(|i| rows.get(i))?;
    let file = line_table::file_name(&place.unit.dwarf, &place.unit, row.file);
    Some((file, Some(row.line)))
}

/// The line of its first instruction, which stands for that of a declaration where none is said (Go), if it is in the file.
pub(crate) fn first_line<'a>(
    units: &Units<'a>,
    place: &Place<'a>,
    entry: u64,
    file: &str,
) -> Option<u64> {
    let (path, line) = place_of_code(units, place, entry)?;
    line.filter(|_| path.as_deref() == Some(file))
}

/// The line of the declaration.
pub(crate) fn decl_line<'a>(units: &Units<'a>, place: &Place<'a>) -> Option<u64> {
    let (_, value) = units.inherited(place, gimli::DW_AT_decl_line)?;
    value.udata_value()
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
