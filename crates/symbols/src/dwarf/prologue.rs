//! Where in a function its parameters can be read.
//!
//! SystemTap's rule: code of an optimising compiler describes its parameters from the first instruction on (by location
//! lists), so the entry will do; other code describes only the stack slots that its prologue fills, so the place is
//! behind the prologue: the row marked `prologue_end`, or the second address of the function in the line table. Where some
//! parameters have slots that count from a register which the prologue sets (rustc's, clang's), the place is behind it, too:
//! there SystemTap reads what is not theirs.

use gimli::{AttributeValue, Operation};

use super::function_entry::children;
use super::line_table;
use super::units::{Place, Units};
use crate::operations::Operations;

pub(crate) fn probe_address<'a>(
    units: &Units<'a>,
    function: &Place<'a>,
    entry: u64,
    high: u64,
) -> u64 {
    if described_from_entry(units, function) {
        return entry;
    }
    let rows = units.rows(&function.unit);
    let rows = line_table::between(&rows, entry, high);
    let marked = rows.iter().find(|r| r.prologue_end && r.line != 0);
    let second = rows.iter().find(|r| r.address > entry && r.line != 0);
    marked.or(second).map_or(entry, |r| r.address)
}

fn described_from_entry<'a>(units: &Units<'a>, function: &Place<'a>) -> bool {
    let optimised = optimised_by_producer(units, function);
    if optimised == Some(true) {
        return true;
    }
    let parameters = children(function, gimli::DW_TAG_formal_parameter).unwrap_or_default();
    let mut stack_slots = false;
    let mut from_entry = false;
    for parameter in &parameters {
        match parameter.entry.attr_value(gimli::DW_AT_location) {
            Some(AttributeValue::Exprloc(expression)) => {
                let mut operations = Operations::new(expression, parameter.unit.encoding());
                match operations.next() {
                    // Others may be known earlier, but this one is not.
                    Ok(Some(Operation::FrameOffset { .. })) if !has_canonical_frame(function) => {
                        return false;
                    }
                    Ok(Some(Operation::FrameOffset { .. } | Operation::RegisterOffset { .. })) => {
                        stack_slots = true
                    }
                    Ok(Some(Operation::Register { .. })) => from_entry = true,
                    _ => {}
                }
            }
            Some(AttributeValue::LocationListsRef(_) | AttributeValue::DebugLocListsIndex(_)) => {
                from_entry = true;
            }
            _ => {}
        }
    }
    from_entry || !(stack_slots || parameters.is_empty() && optimised == Some(false))
}

/// Whether offsets into the frame count from where unwinding knows it to be, and not from a register that the prologue sets.
fn has_canonical_frame(function: &Place<'_>) -> bool {
    let Some(AttributeValue::Exprloc(base)) = function.entry.attr_value(gimli::DW_AT_frame_base)
    else {
        return true;
    };
    let mut operations = Operations::new(base, function.unit.encoding());
    matches!(operations.next(), Ok(Some(Operation::CallFrameCFA)))
}

/// What the options that gcc records in `DW_AT_producer` say; `None` for compilers that record none.
fn optimised_by_producer<'a>(units: &Units<'a>, function: &Place<'a>) -> Option<bool> {
    let root = units.root(&function.unit).ok()?;
    let producer = function
        .unit
        .text(root.entry.attr_value(gimli::DW_AT_producer)?)?;
    // An assembler's code has no prologue to go behind: a stub's second line may be its last.
    if producer.starts_with("GNU AS") {
        return Some(true);
    }
    if !producer.starts_with("GNU ") {
        return None;
    }
    let level = producer
        .split_ascii_whitespace()
        .rev()
        .find_map(|word| word.strip_prefix("-O"));
    Some(level.is_some_and(|l| l != "0"))
}
