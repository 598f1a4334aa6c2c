//! x86-64 registers: the names that assemblers print, the numbers that instructions encode, and the numbers that
//! DWARF uses (System V ABI, AMD64 supplement, figure 3.36).

/// The part of a general register that a name denotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RegisterWidth {
    /// 8 bits.
    Byte,
    /// 16 bits.
    Word,
    /// 32 bits.
    Double,
    /// 64 bits.
    Quad,
}

impl RegisterWidth {
    /// The width in bytes.
    pub fn bytes(self) -> u8 {
        match self {
            RegisterWidth::Byte => 1,
            RegisterWidth::Word => 2,
            RegisterWidth::Double => 4,
            RegisterWidth::Quad => 8,
        }
    }
}

/// A general register or a part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RegisterName {
    /// 0–15 in the order of x86 encoding: rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 … r15.
    pub number: u8,
    /// How much of the register is meant.
    pub width: RegisterWidth,
    /// Whether the second-lowest byte is meant (`ah`, `ch`, `dh`, `bh`); `number` is then 0–3.
    pub high_byte: bool,
}

/// A segment register that can displace an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SegmentRegister {
    /// `%fs`, the thread pointer.
    Fs,
    /// `%gs`.
    Gs,
}

const LEGACY: [&str; 8] = ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di"];
const LOW_BYTES: [&str; 8] = ["al", "cl", "dl", "bl", "spl", "bpl", "sil", "dil"];
const HIGH_BYTES: [&str; 4] = ["ah", "ch", "dh", "bh"];

/// x86 encoding numbers of DWARF registers 0–15: rax, rdx, rcx, rbx, rsi, rdi, rbp, rsp, r8 … r15.
const FROM_DWARF: [u8; 16] = [0, 2, 1, 3, 6, 7, 5, 4, 8, 9, 10, 11, 12, 13, 14, 15];

/// DWARF's number of the stack pointer.
pub const DWARF_RSP: u16 = 7;
/// DWARF's number of the frame pointer.
pub const DWARF_RBP: u16 = 6;
/// DWARF's number of the return address column.
pub const DWARF_RETURN_ADDRESS: u16 = 16;

/// The encoding number (0–15) of a DWARF register, if it is a general register.
pub fn from_dwarf(register: u16) -> Option<u8> {
    FROM_DWARF.get(usize::from(register)).copied()
}

impl RegisterName {
    /// The register that an assembler name (without `%`) denotes: `rax`, `eax`, `ax`, `al`, `ah`, `r8`, `r8d`,
    /// `r8w`, `r8b` (and Intel's `r8l`), `spl` …
    pub fn parse(name: &str) -> Option<RegisterName> {
        let make = |number: usize, width, high_byte| {
            u8::try_from(number).ok().map(|number| RegisterName {
                number,
                width,
                high_byte,
            })
        };
        if let Some(n) = LOW_BYTES.iter().position(|r| *r == name) {
            return make(n, RegisterWidth::Byte, false);
        }
        if let Some(n) = HIGH_BYTES.iter().position(|r| *r == name) {
            return make(n, RegisterWidth::Byte, true);
        }
        if let Some(n) = LEGACY.iter().position(|r| *r == name) {
            return make(n, RegisterWidth::Word, false);
        }
        if let Some(rest) = name.strip_prefix('e') {
            return LEGACY
                .iter()
                .position(|r| *r == rest)
                .and_then(|n| make(n, RegisterWidth::Double, false));
        }
        let rest = name.strip_prefix('r')?;
        if let Some(n) = LEGACY.iter().position(|r| *r == rest) {
            return make(n, RegisterWidth::Quad, false);
        }
        let (digits, width) = match rest.as_bytes().last()? {
            b'd' => (&rest[..rest.len() - 1], RegisterWidth::Double),
            b'w' => (&rest[..rest.len() - 1], RegisterWidth::Word),
            b'b' | b'l' => (&rest[..rest.len() - 1], RegisterWidth::Byte),
            _ => (rest, RegisterWidth::Quad),
        };
        if digits.is_empty() || digits.len() > 2 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        match digits.parse::<usize>() {
            Ok(n @ 8..=15) => make(n, width, false),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_of_a_register() {
        let of = |name| RegisterName::parse(name).map(|r| (r.number, r.width.bytes(), r.high_byte));
        assert_eq!(of("rax"), Some((0, 8, false)));
        assert_eq!(of("ecx"), Some((1, 4, false)));
        assert_eq!(of("dx"), Some((2, 2, false)));
        assert_eq!(of("bl"), Some((3, 1, false)));
        assert_eq!(of("bh"), Some((3, 1, true)));
        assert_eq!(of("spl"), Some((4, 1, false)));
        assert_eq!(of("rdi"), Some((7, 8, false)));
        assert_eq!(of("r8"), Some((8, 8, false)));
        assert_eq!(of("r15d"), Some((15, 4, false)));
        assert_eq!(of("r9w"), Some((9, 2, false)));
        assert_eq!(of("r10b"), Some((10, 1, false)));
        for wrong in [
            "", "r", "r7", "r16", "xmm0", "eip", "rip", "r8q", "e", "éd", "r1é",
        ] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn dwarf_numbers_follow_the_abi() {
        assert_eq!(from_dwarf(5), RegisterName::parse("rdi").map(|r| r.number));
        assert_eq!(from_dwarf(4), RegisterName::parse("rsi").map(|r| r.number));
        assert_eq!(from_dwarf(1), RegisterName::parse("rdx").map(|r| r.number));
        assert_eq!(
            from_dwarf(DWARF_RSP),
            RegisterName::parse("rsp").map(|r| r.number)
        );
        assert_eq!(from_dwarf(17), None);
    }
}
