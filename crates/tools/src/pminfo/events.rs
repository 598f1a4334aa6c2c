//! The records of an event metric's value (`pminfo -x`).

use std::io::Write;

use pcp::timezone::Zone;
use pcp::{Block, Context, ErrorCode, EventArray, EventParam, Type};

/// Prints each record with its parameters.
///
/// # Errors
/// When the output cannot be written.
pub fn records(
    out: &mut impl Write,
    context: &mut Context,
    zone: &Zone,
    ty: Type,
    block: &Block,
) -> pcp::Result<()> {
    let array = match EventArray::decode(ty, &block.bytes) {
        Ok(array) => array,
        Err(code) => return Ok(writeln!(out, "pmUnpackEventRecords: {code}")?),
    };
    let digits = if ty == Type::HighResEvent { 9 } else { 3 };
    for (number, record) in array.records.iter().enumerate() {
        let flags = record.flags;
        writeln!(
            out,
            "    --- event record [{number}] timestamp {} flags {:#x} ({flags}) ---",
            zone.clock(record.time, digits),
            flags.0
        )?;
        if flags.is_missed() {
            writeln!(out, "        ==> {} missed event records", record.count)?;
            continue;
        }
        for param in &record.params {
            parameter(out, context, param)?;
        }
    }
    Ok(())
}

fn parameter(out: &mut impl Write, context: &mut Context, param: &EventParam) -> pcp::Result<()> {
    let pmid = param.pmid;
    match context.names_of(pmid) {
        Ok(names) => {
            let name = names.into_iter().next().unwrap_or_default();
            writeln!(out, "    {name} ({pmid})")?;
        }
        Err(_) => writeln!(out, "\tPMID: {pmid}")?,
    }
    let desc = match context.desc(pmid) {
        Ok(desc) => desc,
        Err(error) => {
            let code: ErrorCode = error.code();
            return Ok(writeln!(out, "\tpmLookupDesc: {code}")?);
        }
    };
    out.write_all(b"        value ")?;
    out.write_all(&pcp::print_value(&param.value(), desc.ty, 1))?;
    Ok(out.write_all(b"\n")?)
}
