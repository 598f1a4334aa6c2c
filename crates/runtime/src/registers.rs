//! Registers of a hit, by name, and `print_regs()`. A frame is 16 general registers in encoding order, rip, rflags.

use crate::layout::{RecordKind, Slot};
use crate::raise;
use crate::ring;
use crate::string::{Buffer, equal};

/// Names in encoding order: 64, 32 and 16 bits.
const NAMES: [&str; 17] = [
    "rax eax ax",
    "rcx ecx cx",
    "rdx edx dx",
    "rbx ebx bx",
    "rsp esp sp",
    "rbp ebp bp",
    "rsi esi si",
    "rdi edi di",
    "r8 r8d r8w",
    "r9 r9d r9w",
    "r10 r10d r10w",
    "r11 r11d r11w",
    "r12 r12d r12w",
    "r13 r13d r13w",
    "r14 r14d r14w",
    "r15 r15d r15w",
    "rip eip ip",
];

/// The word at `%fs:0`, which is the thread pointer itself (System V ABI, TLS variant II). A thread of a program with
/// thread-local variables has one.
pub fn thread_pointer() -> u64 {
    let pointer: u64;
    // SAFETY: one load through the segment that the ABI reserves for this, and nothing else is touched.
    unsafe {
        core::arch::asm!("mov {}, fs:[0]", out(reg) pointer, options(nostack, readonly, preserves_flags));
    }
    pointer
}

/// The number and width in bits of a register.
fn find(name: &[u8]) -> Option<(usize, u32)> {
    if equal(name, b"rflags") || equal(name, b"eflags") || equal(name, b"flags") {
        return Some((17, 64));
    }
    for (number, names) in NAMES.iter().enumerate() {
        for (place, spelling) in names.split(' ').enumerate() {
            if equal(spelling.as_bytes(), name) {
                return Some((number, 64 >> place));
            }
        }
    }
    None
}

/// See [`crate::abi::register_value`].
///
/// # Safety
/// As the functions of [`crate::abi`]; `frame` is null or 18 words.
pub unsafe fn value(slot: *mut Slot, frame: *const u64, name: &[u8], signed: bool) -> i64 {
    // SAFETY: the caller's promise.
    unsafe {
        match find(name) {
            Some((number, bits)) if !frame.is_null() => {
                let word = *frame.add(number);
                let unused = 64 - bits;
                if signed {
                    (word << unused) as i64 >> unused
                } else {
                    (word << unused >> unused) as i64
                }
            }
            Some(_) => {
                raise::message(slot, b"cannot access CPU registers in this context");
                0
            }
            None => {
                raise::with(slot, |text| {
                    text.put(b"unknown register name: ").put(name);
                });
                0
            }
        }
    }
}

/// See [`crate::abi::argument_number`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn argument_number(slot: *mut Slot, number: i64) {
    if number < 1 {
        // SAFETY: the caller's promise.
        unsafe {
            raise::with(slot, |text| {
                text.put(b"invalid argument number: ").decimal(number, 0);
            });
        }
    }
}

/// See [`crate::abi::print_regs`].
///
/// # Safety
/// As the functions of [`crate::abi`]; `frame` is null or 18 words.
pub unsafe fn print(arena: *mut u8, slot: *mut Slot, frame: *const u64) {
    if frame.is_null() {
        return;
    }
    let mut text = [0u8; 512];
    // SAFETY: a local of that size; numbers below 18.
    unsafe {
        let mut to = Buffer::new(text.as_mut_ptr(), 512);
        let reg = |n: usize| *frame.add(n);
        to.put(b"RIP: ")
            .hex(reg(16), 16)
            .put(b"\nRSP: ")
            .hex(reg(4), 16)
            .put(b"  EFLAGS: ")
            .hex(reg(17), 8)
            .put(b"\n");
        let rows: [[(&[u8], usize); 3]; 4] = [
            [(b"RAX: ", 0), (b" RBX: ", 3), (b" RCX: ", 1)],
            [(b"RDX: ", 2), (b" RSI: ", 6), (b" RDI: ", 7)],
            [(b"RBP: ", 5), (b" R08: ", 8), (b" R09: ", 9)],
            [(b"R10: ", 10), (b" R11: ", 11), (b" R12: ", 12)],
        ];
        for row in rows {
            for (name, number) in row {
                to.put(name).hex(reg(number), 16);
            }
            to.put(b"\n");
        }
        to.put(b"R13: ")
            .hex(reg(13), 16)
            .put(b" R14: ")
            .hex(reg(14), 16)
            .put(b" R15: ")
            .hex(reg(15), 16)
            .put(b"\n");
        let len = to.len() as usize;
        ring::text(
            arena,
            slot,
            RecordKind::Print,
            text.get(..len).unwrap_or(&[]),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;

    #[test]
    fn by_name_and_width() {
        let f = Fixture::new();
        let slot = f.owned(1);
        let mut frame = [0u64; 18];
        (0..18).for_each(|i| frame[i] = 0xffff_fff0_8000_8000 + i as u64);
        let get =
            |name: &str, signed| unsafe { value(slot, frame.as_ptr(), name.as_bytes(), signed) };
        assert_eq!(get("rdi", false) as u64, frame[7]);
        assert_eq!(
            (get("eax", false), get("eax", true)),
            (0x8000_8000, 0x8000_8000u32 as i32 as i64)
        );
        assert_eq!((get("cx", false), get("r9d", false)), (0x8001, 0x8000_8009));
        assert_eq!(get("rip", false) as u64, frame[16]);
        assert_eq!(f.error(slot), None);
        get("xax", false);
        assert_eq!(f.error(slot).as_deref(), Some("unknown register name: xax"));
    }

    #[test]
    fn printed_in_rows() {
        let f = Fixture::new();
        let slot = f.owned(1);
        let frame: Vec<u64> = (0..18).collect();
        unsafe { print(f.base, slot, frame.as_ptr()) };
        let mut out = Vec::new();
        ring::drain(&f.geometry, 1, &mut 0, &mut vec![0; 4096], |r| {
            out = crate::format::Args::new(r.payload)
                .string()
                .expect("text")
                .to_vec();
        });
        let text = String::from_utf8(out).expect("text");
        assert!(text.starts_with("RIP: 0000000000000010\nRSP: 0000000000000004  EFLAGS: 00000011\nRAX: 0000000000000000 RBX: 0000000000000003 RCX"), "{text}");
        assert_eq!(text.lines().count(), 7);
    }
}
