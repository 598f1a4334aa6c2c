//! What unwind tables (`.eh_frame`) say of the stack at each instruction: where the frame begins and where the return
//! address stands. Format: Linux Standard Base, "Exception Frames"; DWARF 5, section 6.4.

use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameHdr, EndianSlice, FrameDescriptionEntry, LittleEndian,
    ParsedEhFrameHdr, RegisterRule, UnwindContext, UnwindSection, UnwindTable,
};

use crate::address::ImageAddr;
use crate::dwarf::in_order;
use crate::image::Image;
use crate::unwind::eh_frame;

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// Register number of the return address (psABI, table 3.36).
const RETURN_ADDRESS: gimli::Register = gimli::Register(16);

/// The stack at a run of instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallFrameRow {
    /// The first instruction.
    pub start: ImageAddr,
    /// Behind the last one.
    pub end: ImageAddr,
    /// The canonical frame address (the value of rsp in the caller, before the call pushed anything) as register, in
    /// DWARF's numbers (7 is rsp, 6 is rbp), and offset. `None` when it is an expression.
    pub frame_address: Option<(u16, i64)>,
    /// The return address stands right below the canonical frame address, as after an ordinary call.
    pub returns_ordinarily: bool,
}

/// The unwind table of one file, for looking up many functions.
pub struct CallFrames<'a> {
    section: EhFrame<Slice<'a>>,
    bases: BaseAddresses,
    header: Option<ParsedEhFrameHdr<Slice<'a>>>,
}

impl<'a> CallFrames<'a> {
    pub(crate) fn read(image: &'a Image) -> Option<CallFrames<'a>> {
        let (section, bases) = eh_frame(image)?;
        let header = image.eh_frame_header.clone().and_then(|range| {
            let bytes = image.mapped(ImageAddr(range.start)..ImageAddr(range.end))?;
            EhFrameHdr::new(bytes, LittleEndian).parse(&bases, 8).ok()
        });
        Some(CallFrames {
            section,
            bases,
            header,
        })
    }

    /// The rows of the entry that covers an address, ascending; empty when none does or it can't be read, and for
    /// the frames of signal handlers.
    pub fn rows(&self, address: ImageAddr) -> Vec<CallFrameRow> {
        self.entry(address)
            .filter(|entry| !entry.cie().is_signal_trampoline())
            .and_then(|entry| self.rows_of(&entry))
            .unwrap_or_default()
    }

    fn entry(&self, address: ImageAddr) -> Option<FrameDescriptionEntry<Slice<'a>>> {
        let pc = address.0;
        let table = self.header.as_ref().and_then(|header| {
            let table = header.table()?;
            in_order(header, &table, &self.bases, pc).then_some(table)
        });
        match table {
            Some(table) => {
                table.fde_for_address(&self.section, &self.bases, pc, EhFrame::cie_from_offset)
            }
            None => self
                .section
                .fde_for_address(&self.bases, pc, EhFrame::cie_from_offset),
        }
        .ok()
    }

    fn rows_of(&self, entry: &FrameDescriptionEntry<Slice<'a>>) -> Option<Vec<CallFrameRow>> {
        let mut context = UnwindContext::new();
        let mut table = UnwindTable::new(&self.section, &self.bases, &mut context, entry).ok()?;
        let mut rows = Vec::new();
        while let Some(row) = table.next_row().ok()? {
            rows.push(CallFrameRow {
                start: ImageAddr(row.start_address()),
                end: ImageAddr(row.end_address()),
                frame_address: match row.cfa() {
                    CfaRule::RegisterAndOffset { register, offset } => Some((register.0, *offset)),
                    CfaRule::Expression(_) => None,
                },
                returns_ordinarily: row.register(RETURN_ADDRESS) == Some(RegisterRule::Offset(-8)),
            });
        }
        Some(rows)
    }
}
