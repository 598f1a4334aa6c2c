//! How to get from a function's frame to its caller's, for every address of a file's code: the rows of `.eh_frame` and
//! `.debug_frame` (DWARF 5, section 6.4) in a form that can be used without either. System V psABI for x86-64, "Stack
//! unwinding": register numbers and the frames of signal handlers.

use std::collections::HashMap;

use gimli::{
    CieOrFde, DebugFrame, EndianSlice, LittleEndian, Operation, Register, RegisterRule,
    UnwindContext, UnwindSection, X86_64,
};

use crate::address::ImageAddr;
use crate::image::Image;
use crate::operations::Operations;
use crate::unwind::eh_frame;

/// The registers that a function preserves and that a [`FrameRule`] follows, besides rsp: rbx, rbp, r12 … r15, by their
/// numbers in instructions.
pub const PRESERVED: [u8; 6] = [3, 5, 12, 13, 14, 15];

/// Rows of one file, ascending; one is valid up to the next one's start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FrameRules {
    /// Where each begins, and which of `rules` it is.
    pub rows: Vec<(ImageAddr, u32)>,
    /// Different rules; the first is that nothing is known.
    pub rules: Vec<FrameRule>,
}

impl FrameRules {
    /// The rule at an address.
    pub fn at(&self, address: ImageAddr) -> Option<&FrameRule> {
        let behind = self.rows.partition_point(|(start, _)| *start <= address);
        let (_, rule) = self.rows.get(behind.checked_sub(1)?)?;
        self.rules.get(*rule as usize)
    }
}

/// What is true of a frame at one address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FrameRule {
    /// The canonical frame address: the stack pointer before the call.
    pub cfa: Cfa,
    /// The return address.
    pub return_address: Saved,
    /// The caller's values of [`PRESERVED`].
    pub saved: [Saved; 6],
}

/// How the canonical frame address is computed. Registers by their numbers in instructions (rax rcx rdx rbx rsp rbp rsi
/// rdi r8 … r15), 16 is rip.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Cfa {
    /// No table covers the address.
    Unknown,
    /// Register and offset.
    Register {
        /// The register.
        register: u8,
        /// Added to it.
        offset: i32,
    },
    /// The word at register and offset (functions that align their stack keep the old one there).
    Loaded {
        /// The register.
        register: u8,
        /// Added to it.
        offset: i32,
    },
    /// An entry of a procedure linkage table, which pushes a word on its way: rsp + 8, and 8 more from this byte of each
    /// 16 on.
    Plt {
        /// The first byte with the word pushed.
        pushed_from: u8,
    },
    /// The kernel's frame of a signal handler: all registers are in the `ucontext` at rsp.
    Signal,
    /// Any other DWARF expression.
    Expression(Vec<u8>),
}

/// Where a value of the caller is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Saved {
    /// Unchanged.
    Same,
    /// In memory at the canonical frame address plus this.
    AtCfa(i32),
    /// In memory at a register plus this.
    AtRegister(u8, i32),
    /// In another register.
    Register(u8),
    /// Lost; for the return address: there is no caller.
    Undefined,
}

const UNKNOWN: FrameRule = FrameRule {
    cfa: Cfa::Unknown,
    return_address: Saved::Undefined,
    saved: [Saved::Undefined; 6],
};

const SIGNAL: FrameRule = FrameRule {
    cfa: Cfa::Signal,
    return_address: Saved::Undefined,
    saved: [Saved::Undefined; 6],
};

/// The code that the kernel makes signal handlers return to, in the two usual encodings of `rt_sigreturn`.
const RESTORERS: [&[u8]; 2] = [
    &[0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05],
    &[0xb8, 0x0f, 0, 0, 0, 0x0f, 0x05],
];

type Slice<'a> = EndianSlice<'a, LittleEndian>;

struct Row {
    start: u64,
    end: u64,
    rule: u32,
}

#[derive(Default)]
struct Collector {
    rows: Vec<Row>,
    rules: Vec<FrameRule>,
    known: HashMap<FrameRule, u32>,
}

impl Collector {
    fn rule(&mut self, rule: FrameRule) -> u32 {
        if let Some(&number) = self.known.get(&rule) {
            return number;
        }
        let number = self.rules.len() as u32;
        self.rules.push(rule.clone());
        self.known.insert(rule, number);
        number
    }

    fn section<'a, S: UnwindSection<Slice<'a>>>(
        &mut self,
        section: &S,
        bases: &gimli::BaseAddresses,
        image: &Image,
    ) {
        let mut cies = HashMap::new();
        let mut context = UnwindContext::new();
        let mut entries = section.entries(bases);
        while let Ok(Some(entry)) = entries.next() {
            let CieOrFde::Fde(partial) = entry else {
                continue;
            };
            let parsed = partial.parse(|section, bases, offset| {
                let key = gimli::UnwindOffset::into(offset);
                if let Some(cie) = cies.get(&key) {
                    return Ok(gimli::CommonInformationEntry::clone(cie));
                }
                let cie = section.cie_from_offset(bases, offset)?;
                cies.insert(key, cie.clone());
                Ok(cie)
            });
            let Ok(fde) = parsed else { continue };
            // What the linker threw away has its entry at 0.
            if !image.in_executable_segment(ImageAddr(fde.initial_address())) {
                continue;
            }
            let ra = fde.cie().return_address_register();
            let Ok(mut table) = fde.rows(section, bases, &mut context) else {
                continue;
            };
            while let Ok(Some(row)) = table.next_row() {
                let (start, end) = (row.start_address(), row.end_address());
                if start >= end {
                    continue;
                }
                let rule = rule_of(row, ra, section);
                let rule = self.rule(rule);
                match self.rows.last_mut() {
                    Some(last) if last.end == start && last.rule == rule => last.end = end,
                    _ => self.rows.push(Row { start, end, rule }),
                }
            }
        }
    }

    fn signal_frames(&mut self, image: &Image) {
        let rule = self.rule(SIGNAL);
        for segment in image.segments.iter().filter(|s| s.executable) {
            let Some(code) = image.mapped_from(segment.vaddr) else {
                continue;
            };
            for pattern in RESTORERS {
                for at in find(code, pattern) {
                    let start = segment.vaddr.0 + at as u64;
                    self.rows.push(Row {
                        // Addresses of calls are looked up by the byte before; nobody calls from there.
                        start: start.saturating_sub(1),
                        end: start + pattern.len() as u64,
                        rule,
                    });
                }
            }
        }
    }

    /// Ascending rows without overlap, gaps between them named. Where rows overlap the one that starts later prevails up
    /// to its end, and a signal frame's over the table's own row that begins at the same place.
    fn finish(mut self) -> FrameRules {
        let unknown = self.rule(UNKNOWN);
        let signal = self.known.get(&SIGNAL).copied();
        self.rows
            .sort_by_key(|row| (row.start, Some(row.rule) == signal));
        let mut rows: Vec<(ImageAddr, u32)> = Vec::with_capacity(self.rows.len() + 16);
        let mut open: Vec<(u64, u32)> = Vec::new();
        let close = |rows: &mut Vec<_>, open: &mut Vec<(u64, u32)>, to: u64| {
            while let Some(&(end, _)) = open.last().filter(|(end, _)| *end <= to) {
                while open.last().is_some_and(|(other, _)| *other <= end) {
                    open.pop();
                }
                push(rows, end, open.last().map_or(unknown, |(_, rule)| *rule));
            }
        };
        for row in &self.rows {
            close(&mut rows, &mut open, row.start);
            push(&mut rows, row.start, row.rule);
            open.push((row.end, row.rule));
        }
        close(&mut rows, &mut open, u64::MAX);
        FrameRules {
            rows,
            rules: self.rules,
        }
    }
}

fn push(rows: &mut Vec<(ImageAddr, u32)>, start: u64, rule: u32) {
    if let Some(last) = rows.last_mut() {
        if last.0.0 >= start {
            last.1 = rule;
            return;
        }
        if last.1 == rule {
            return;
        }
    }
    rows.push((ImageAddr(start), rule));
}

/// Where a pattern stands; it begins with a byte that is searched for first.
fn find<'a>(code: &'a [u8], pattern: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let mut from = 0;
    std::iter::from_fn(move || {
        let tail: [u8; 2] = [0x0f, 0x05];
        loop {
            let rest = code.get(from..)?;
            // `syscall` is far rarer than the pattern's first byte.
            let at = from + rest.windows(2).position(|w| w == tail)?;
            from = at + 1;
            let start = (at + 2).checked_sub(pattern.len());
            if let Some(start) = start.filter(|&s| code.get(s..at + 2) == Some(pattern)) {
                return Some(start);
            }
        }
    })
}

/// The number in instructions of a register of DWARF.
fn number(register: Register) -> Option<u8> {
    const ORDER: [u8; 8] = [0, 2, 1, 3, 6, 7, 5, 4];
    match register.0 {
        n @ 0..8 => ORDER.get(usize::from(n)).copied(),
        n @ 8..=16 => u8::try_from(n).ok(),
        _ => None,
    }
}

fn rule_of<'a, S: UnwindSection<Slice<'a>>>(
    row: &gimli::UnwindTableRow<usize>,
    return_address: Register,
    section: &S,
) -> FrameRule {
    let cfa = match row.cfa() {
        gimli::CfaRule::RegisterAndOffset { register, offset } => {
            match (number(*register), i32::try_from(*offset)) {
                (Some(register), Ok(offset)) => Cfa::Register { register, offset },
                _ => Cfa::Unknown,
            }
        }
        gimli::CfaRule::Expression(expression) => expression
            .get(section)
            .map_or(Cfa::Unknown, |e| cfa_expression(e.0)),
    };
    // Another stack pointer than the frame address: longjmp's, which is about to leave its caller's frame altogether.
    if row.register(X86_64::RSP).is_some() {
        return FrameRule {
            cfa: Cfa::Register {
                register: 4,
                offset: 8,
            },
            return_address: Saved::Undefined,
            saved: [Saved::Undefined; 6],
        };
    }
    let rule = |register| row.register(register).unwrap_or(RegisterRule::SameValue);
    let saved = |register: Register| {
        let is_ra = register == return_address;
        match rule(register) {
            RegisterRule::Undefined => Saved::Undefined,
            // The table says nothing of it: for the return address that is no place to find it.
            RegisterRule::SameValue if is_ra => Saved::Undefined,
            RegisterRule::SameValue => Saved::Same,
            RegisterRule::Offset(offset) => {
                i32::try_from(offset).map_or(Saved::Undefined, Saved::AtCfa)
            }
            RegisterRule::Register(other) => {
                number(other).map_or(Saved::Undefined, Saved::Register)
            }
            RegisterRule::Expression(e) => {
                e.get(section).map_or(Saved::Undefined, |e| address(e.0))
            }
            _ => Saved::Undefined,
        }
    };
    let registers = [
        X86_64::RBX,
        X86_64::RBP,
        X86_64::R12,
        X86_64::R13,
        X86_64::R14,
        X86_64::R15,
    ];
    FrameRule {
        cfa,
        return_address: saved(return_address),
        saved: registers.map(saved),
    }
}

fn operations(expression: Slice<'_>) -> Option<Vec<Operation<Slice<'_>>>> {
    let encoding = gimli::Encoding {
        address_size: 8,
        format: gimli::Format::Dwarf32,
        version: 4,
    };
    let mut operations = Operations::new(gimli::Expression(expression), encoding);
    let mut found = Vec::new();
    while let Some(operation) = operations.next().ok()? {
        found.push(operation);
    }
    Some(found)
}

fn cfa_expression(expression: Slice<'_>) -> Cfa {
    let other = || Cfa::Expression(expression.slice().to_vec());
    let Some(operations) = operations(expression) else {
        return Cfa::Unknown;
    };
    let loaded = |register: Register, offset: i64| {
        let register = number(register)?;
        let offset = i32::try_from(offset).ok()?;
        Some(Cfa::Loaded { register, offset })
    };
    match operations.as_slice() {
        [
            Operation::RegisterOffset {
                register, offset, ..
            },
            Operation::Deref { size: 8, .. },
        ] => loaded(*register, *offset).unwrap_or_else(other),
        // rsp + 8 + ((rip & 15) >= n) << 3, as linkers write it for their tables.
        [
            Operation::RegisterOffset {
                register: X86_64::RSP,
                offset: 8,
                ..
            },
            Operation::RegisterOffset {
                register: X86_64::RA,
                offset: 0,
                ..
            },
            Operation::UnsignedConstant { value: 15 },
            Operation::And,
            Operation::UnsignedConstant { value },
            Operation::Ge,
            Operation::UnsignedConstant { value: 3 },
            Operation::Shl,
            Operation::Plus,
        ] if *value < 16 => Cfa::Plt {
            pushed_from: *value as u8,
        },
        _ => other(),
    }
}

fn address(expression: Slice<'_>) -> Saved {
    let Some(operations) = operations(expression) else {
        return Saved::Undefined;
    };
    let [
        Operation::RegisterOffset {
            register, offset, ..
        },
    ] = operations.as_slice()
    else {
        return Saved::Undefined;
    };
    match (number(*register), i32::try_from(*offset)) {
        (Some(register), Ok(offset)) => Saved::AtRegister(register, offset),
        _ => Saved::Undefined,
    }
}

/// Reads every table of a file. `debug` is its separate debug file, if there is one.
pub(crate) fn read(image: &Image, debug: Option<&Image>) -> FrameRules {
    let mut collector = Collector::default();
    collector.rule(UNKNOWN);
    if let Some((section, bases)) = eh_frame(image) {
        collector.section(&section, &bases, image);
    }
    for file in [Some(image), debug].into_iter().flatten() {
        let Some(bytes) = file.contents_by_name(".debug_frame") else {
            continue;
        };
        let mut section = DebugFrame::new(bytes, LittleEndian);
        section.set_address_size(8);
        let before = collector.rows.len();
        collector.section(&section, &gimli::BaseAddresses::default(), image);
        // What is loaded comes first: it is what the program itself unwinds by.
        let (loaded, added) = collector.rows.split_at_mut(before);
        loaded.sort_by_key(|row| row.start);
        for row in added {
            let behind = loaded.partition_point(|l| l.start <= row.start);
            let covered = behind
                .checked_sub(1)
                .and_then(|i| loaded.get(i))
                .is_some_and(|l| l.end > row.start);
            if covered || loaded.get(behind).is_some_and(|l| l.start < row.end) {
                row.end = row.start;
            }
        }
        collector.rows.retain(|row| row.start < row.end);
    }
    collector.signal_frames(image);
    collector.finish()
}
