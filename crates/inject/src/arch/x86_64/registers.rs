//! Sets of registers, and the register file a snippet sees.

use std::fmt;
use std::ops::{BitAnd, BitOr, Sub};

use iced_x86::Register;

/// Names of the general-purpose registers in encoding order, the order of [`RegisterSet::gpr`] and
/// [`Frame::gpr`].
pub(crate) const GPR: [Register; 16] = [
    Register::RAX,
    Register::RCX,
    Register::RDX,
    Register::RBX,
    Register::RSP,
    Register::RBP,
    Register::RSI,
    Register::RDI,
    Register::R8,
    Register::R9,
    Register::R10,
    Register::R11,
    Register::R12,
    Register::R13,
    Register::R14,
    Register::R15,
];

/// A set of registers: general-purpose, vector, and the six arithmetic flags taken as one.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct RegisterSet {
    /// Bit *n* stands for general-purpose register *n* in the encoding order of the Intel SDM:
    /// rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 … r15.
    pub gpr: u16,
    /// Bit *n* stands for xmm*n* (its low 128 bits).
    pub xmm: u16,
    /// The arithmetic flags CF, PF, AF, ZF, SF and OF.
    pub flags: bool,
}

impl RegisterSet {
    /// No register.
    pub const EMPTY: Self = Self {
        gpr: 0,
        xmm: 0,
        flags: false,
    };

    /// The arithmetic flags alone.
    pub const FLAGS: Self = Self {
        gpr: 0,
        xmm: 0,
        flags: true,
    };

    /// Everything a function may change by the System V ABI (x86-64 psABI §3.2.1): rax, rcx, rdx, rsi, rdi,
    /// r8–r11, xmm0–xmm15 and the flags.
    pub const CALLER_SAVED: Self = Self {
        gpr: 0b0000_1111_1100_0111,
        xmm: 0xffff,
        flags: true,
    };

    /// [`CALLER_SAVED`](Self::CALLER_SAVED) without the vector registers.
    pub const CALLER_SAVED_INTEGER: Self = Self {
        xmm: 0,
        ..Self::CALLER_SAVED
    };

    /// General-purpose registers by their encoding numbers; numbers above 15 are ignored.
    pub const fn of_gprs(numbers: &[u8]) -> Self {
        let mut gpr = 0;
        let mut i = 0;
        while i < numbers.len() {
            if numbers[i] < 16 {
                gpr |= 1 << numbers[i];
            }
            i += 1;
        }
        Self { gpr, ..Self::EMPTY }
    }

    /// This set and the flags.
    pub const fn and_flags(self) -> Self {
        Self {
            flags: true,
            ..self
        }
    }

    /// Everything in either set.
    pub const fn union(self, other: Self) -> Self {
        Self {
            gpr: self.gpr | other.gpr,
            xmm: self.xmm | other.xmm,
            flags: self.flags | other.flags,
        }
    }

    /// Everything in both sets.
    pub const fn intersection(self, other: Self) -> Self {
        Self {
            gpr: self.gpr & other.gpr,
            xmm: self.xmm & other.xmm,
            flags: self.flags & other.flags,
        }
    }

    /// Everything in this set that is not in the other.
    pub const fn without(self, other: Self) -> Self {
        Self {
            gpr: self.gpr & !other.gpr,
            xmm: self.xmm & !other.xmm,
            flags: self.flags & !other.flags,
        }
    }

    /// Whether every register of `other` is in this set.
    pub const fn contains(self, other: Self) -> bool {
        other.without(self).is_empty()
    }

    /// Whether general-purpose register `number` (encoding order) is in this set.
    pub const fn contains_gpr(self, number: u8) -> bool {
        number < 16 && self.gpr & (1 << number) != 0
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.gpr == 0 && self.xmm == 0 && !self.flags
    }

    /// The general-purpose registers of the set, as encoding numbers in rising order.
    pub fn gprs(self) -> impl DoubleEndedIterator<Item = u8> + Clone {
        (0..16).filter(move |&n| self.gpr & (1 << n) != 0)
    }

    /// The vector registers of the set, as numbers in rising order.
    pub fn xmms(self) -> impl DoubleEndedIterator<Item = u8> + Clone {
        (0..16).filter(move |&n| self.xmm & (1 << n) != 0)
    }
}

impl BitOr for RegisterSet {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

impl BitAnd for RegisterSet {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        self.intersection(other)
    }
}

impl Sub for RegisterSet {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self.without(other)
    }
}

impl fmt::Debug for RegisterSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut set = f.debug_set();
        for n in self.gprs() {
            set.entry(&GPR[usize::from(n)]);
        }
        for n in self.xmms() {
            set.entry(&format_args!("XMM{n}"));
        }
        if self.flags {
            set.entry(&format_args!("FLAGS"));
        }
        set.finish()
    }
}

/// The registers at a site as a snippet sees them. Lives on the program's stack while the snippet runs.
///
/// Only the registers that the snippet's [`reads`](crate::snippet::Snippet::reads) name are stored, and `rip`, which
/// always is; the other words hold rubbish. When `reads` names vector registers, 16 places of 16 bytes follow at
/// [`Frame::VECTORS`], in the order of their numbers, of which those are filled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Frame {
    /// The general-purpose registers in encoding order; `gpr[4]` is the program's rsp at the site.
    pub gpr: [u64; 16],
    /// The site's address in the program's own code (never that of the relocated copy).
    pub rip: u64,
    /// The flags register.
    pub rflags: u64,
}

impl Frame {
    /// Size in bytes.
    pub const SIZE: usize = 18 * 8;
    /// Offset in bytes of the vector registers, where there are any.
    pub const VECTORS: usize = Self::SIZE;
    /// Offset of `rip` in bytes.
    pub const RIP: usize = 16 * 8;
    /// Offset of `rflags` in bytes.
    pub const RFLAGS: usize = 17 * 8;
}
