//! The canonical frame address by call frame information.

use gimli::{BaseAddresses, CfaRule, DebugFrame, LittleEndian, UnwindContext, UnwindSection};

use super::sections::{DwarfFile, Slice};
use super::term::{Operator, Term};
use crate::image::Image;
use crate::unwind::eh_frame;

/// How the frame address is computed at an address of the code: from `.eh_frame` of the loaded file, else from
/// `.debug_frame`. `None` when neither covers it, or the rule needs more than sums and loads.
pub(crate) fn call_frame_address(file: &DwarfFile<'_>, pc: u64) -> Option<Term> {
    from_eh_frame(file.loaded, pc).or_else(|| {
        let bytes = file.debug.contents_by_name(".debug_frame")?;
        let mut section = DebugFrame::new(bytes, LittleEndian);
        section.set_address_size(8);
        rule(&section, &BaseAddresses::default(), pc)
    })
}

fn from_eh_frame(image: &Image, pc: u64) -> Option<Term> {
    let (section, bases) = eh_frame(image)?;
    let searched = image.eh_frame_header.clone().and_then(|range| {
        let bytes = image.mapped(crate::ImageAddr(range.start)..crate::ImageAddr(range.end))?;
        let header = gimli::EhFrameHdr::new(bytes, LittleEndian)
            .parse(&bases, 8)
            .ok()?;
        let table = header.table()?;
        if !in_order(&header, &table, &bases, pc) {
            return None;
        }
        let fde = table
            .fde_for_address(&section, &bases, pc, |section, bases, offset| {
                section.cie_from_offset(bases, offset)
            })
            .ok()?;
        row(&section, &bases, &fde, pc)
    });
    searched.or_else(|| rule(&section, &bases, pc))
}

/// Whether the entry that a search table leads to for an address lies behind the start of `.eh_frame`, which gimli takes
/// for granted and a damaged table need not keep to.
pub(crate) fn in_order<'a>(
    header: &gimli::ParsedEhFrameHdr<Slice<'a>>,
    table: &gimli::EhHdrTable<'_, Slice<'a>>,
    bases: &BaseAddresses,
    pc: u64,
) -> bool {
    let start = header.eh_frame_ptr().direct();
    let entry = table.lookup(pc, bases).and_then(gimli::Pointer::direct);
    matches!((start, entry), (Ok(start), Ok(entry)) if start <= entry)
}

fn rule<'a, S: UnwindSection<Slice<'a>>>(
    section: &S,
    bases: &BaseAddresses,
    pc: u64,
) -> Option<Term> {
    let fde = section
        .fde_for_address(bases, pc, S::cie_from_offset)
        .ok()?;
    row(section, bases, &fde, pc)
}

fn row<'a, S: UnwindSection<Slice<'a>>>(
    section: &S,
    bases: &BaseAddresses,
    fde: &gimli::FrameDescriptionEntry<Slice<'a>>,
    pc: u64,
) -> Option<Term> {
    let mut context = UnwindContext::new();
    let row = fde
        .unwind_info_for_address(section, bases, &mut context, pc)
        .ok()?;
    match row.cfa() {
        CfaRule::RegisterAndOffset { register, offset } => {
            Some(Term::Register(register.0).plus(*offset))
        }
        CfaRule::Expression(expression) => {
            let expression = expression.get(section).ok()?;
            evaluate(expression, fde.cie().encoding())
        }
    }
}

/// The few operations that frame rules are written with: gcc's for realigned stacks, the linker's for the PLT.
fn evaluate(expression: gimli::Expression<Slice<'_>>, encoding: gimli::Encoding) -> Option<Term> {
    use gimli::Operation as O;
    let mut stack: Vec<Term> = Vec::new();
    let mut operations = expression.operations(encoding);
    while let Some(operation) = operations.next().ok()? {
        if stack.len() > 32 {
            return None;
        }
        let mut two = |operator| {
            let (b, a) = (stack.pop()?, stack.pop()?);
            Some(Term::binary(operator, a, b))
        };
        let term = match operation {
            O::RegisterOffset {
                register, offset, ..
            } => Term::Register(register.0).plus(offset),
            O::UnsignedConstant { value } => Term::Constant(value.cast_signed()),
            O::SignedConstant { value } => Term::Constant(value),
            O::Plus => two(Operator::Add)?,
            O::Minus => two(Operator::Subtract)?,
            O::And => two(Operator::And)?,
            O::Shl => two(Operator::ShiftLeft)?,
            O::Ge => {
                let (b, a) = (stack.pop()?, stack.pop()?);
                Term::binary(Operator::LessOrEqual, b, a)
            }
            O::PlusConstant { value } => stack.pop()?.plus(value.cast_signed()),
            O::Deref { size, .. } => stack.pop()?.load(size.clamp(1, 8)),
            O::Nop => continue,
            _ => return None,
        };
        if term.is_too_deep() {
            return None;
        }
        stack.push(term);
    }
    stack.pop()
}
