//! What call frame information says of a function's caller: where its frame begins and what its registers hold.

use gimli::{
    BaseAddresses, CfaRule, DebugFrame, LittleEndian, RegisterRule, UnwindContext, UnwindSection,
};

use super::expression::OPERATION_LIMIT;
use super::sections::{DwarfFile, Slice};
use super::term::{Operator, Term};
use crate::image::Image;
use crate::operations::Operations;
use crate::unwind::eh_frame;

/// The stack pointer and the return address in DWARF's numbers (psABI, table 3.36).
const STACK_POINTER: u16 = 7;
const RETURN_ADDRESS: u16 = 16;

/// The caller of a function, seen from one of the function's instructions.
#[derive(Debug, Clone)]
pub struct CallerFrame {
    /// The canonical frame address: the caller's stack pointer before the call.
    pub address: Term,
    /// The registers that the table says something of; `None` for those that are lost.
    registers: Vec<(u16, Option<Term>)>,
}

impl CallerFrame {
    /// What a register, by DWARF's number, holds in the caller; `None` when that is lost. Of what the table does not speak the function has left as it was: that is
    /// what gdb takes for granted, too, and compilers describe no caller by registers of which it is not so.
    pub fn register(&self, number: u16) -> Option<Term> {
        match self.registers.iter().find(|(n, _)| *n == number) {
            Some((_, term)) => term.clone(),
            None if number == STACK_POINTER => Some(self.address.clone()),
            None => Some(Term::Register(number)),
        }
    }

    /// Where the function returns to.
    pub fn return_address(&self) -> Option<Term> {
        self.register(RETURN_ADDRESS)
    }

    /// A number that is told by the caller's registers, told by the function's.
    pub fn seen_from_callee(&self, term: &Term) -> Option<Term> {
        term.with_registers(&|number| self.register(number))
    }
}

/// The caller at an address of the code: from `.eh_frame` of the loaded file, else from `.debug_frame`. `None` when
/// neither covers it, or the frame's address needs more than sums and loads.
pub(crate) fn caller_frame(file: &DwarfFile<'_>, pc: u64) -> Option<CallerFrame> {
    from_eh_frame(file.loaded, pc).or_else(|| {
        let bytes = file.debug.contents_by_name(".debug_frame")?;
        let mut section = DebugFrame::new(bytes, LittleEndian);
        section.set_address_size(8);
        rule(&section, &BaseAddresses::default(), pc)
    })
}

pub(crate) fn from_eh_frame(image: &Image, pc: u64) -> Option<CallerFrame> {
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
    // More entries than any file has would not even be counted in bytes.
    let entries = table.iter(bases).size_hint().1;
    if entries.is_none_or(|entries| entries > 1 << 32) {
        return false;
    }
    let start = header.eh_frame_ptr().direct();
    let entry = table.lookup(pc, bases).and_then(gimli::Pointer::direct);
    matches!((start, entry), (Ok(start), Ok(entry)) if start <= entry)
}

fn rule<'a, S: UnwindSection<Slice<'a>>>(
    section: &S,
    bases: &BaseAddresses,
    pc: u64,
) -> Option<CallerFrame> {
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
) -> Option<CallerFrame> {
    let mut context = UnwindContext::new();
    let row = fde
        .unwind_info_for_address(section, bases, &mut context, pc)
        .ok()?;
    let encoding = fde.cie().encoding();
    let address = match row.cfa() {
        CfaRule::RegisterAndOffset { register, offset } => Term::Register(register.0).plus(*offset),
        CfaRule::Expression(expression) => evaluate(expression.get(section).ok()?, encoding, None)?,
    };
    let computed = |expression: &gimli::UnwindExpression<usize>| {
        evaluate(expression.get(section).ok()?, encoding, Some(&address))
    };
    let registers = row
        .registers()
        .map(|(register, rule)| {
            let term = match rule {
                RegisterRule::SameValue => Some(Term::Register(register.0)),
                RegisterRule::Offset(offset) => Some(address.clone().plus(*offset).load(8)),
                RegisterRule::ValOffset(offset) => Some(address.clone().plus(*offset)),
                RegisterRule::Register(other) => Some(Term::Register(other.0)),
                RegisterRule::Expression(at) => computed(at).map(|at| at.load(8)),
                RegisterRule::ValExpression(value) => computed(value),
                RegisterRule::Constant(value) => Some(Term::Constant(value.cast_signed())),
                _ => None,
            };
            (register.0, term)
        })
        .collect();
    Some(CallerFrame { address, registers })
}

/// The few operations that frame rules are written with: gcc's for realigned stacks, the linker's for the PLT. Rules of
/// registers begin with the frame's address on the stack.
fn evaluate(
    expression: gimli::Expression<Slice<'_>>,
    encoding: gimli::Encoding,
    frame: Option<&Term>,
) -> Option<Term> {
    use gimli::Operation as O;
    let mut stack: Vec<Term> = frame.cloned().into_iter().collect();
    let mut operations = Operations::new(expression, encoding);
    let mut left = OPERATION_LIMIT;
    while let Some(operation) = operations.next().ok()? {
        left = left.checked_sub(1)?;
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
        term.parts()?;
        stack.push(term);
    }
    stack.pop()
}
