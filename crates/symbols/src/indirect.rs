//! Indirect functions (`STT_GNU_IFUNC`): a resolver, run when the program starts, chooses what a name stands for. Which code
//! that may be is told by the resolver's instructions, since it has to get its address from somewhere.

use crate::address::ImageAddr;
use crate::functions::Function;

/// No resolver is longer.
const RESOLVER_LIMIT: usize = 1 << 16;

/// The addresses that a resolver's instructions compute (`lea X(%rip), %r`, `mov $X, %r`) and that are functions' starts,
/// ascending. `code` is the resolver's, `is_function` says where functions start.
pub(crate) fn implementations(
    resolver: &Function,
    code: &[u8],
    is_function: impl Fn(ImageAddr) -> bool,
) -> Vec<ImageAddr> {
    let code = code.get(..code.len().min(RESOLVER_LIMIT)).unwrap_or(code);
    let word = |at: usize| -> Option<[u8; 4]> { code.get(at..at + 4)?.try_into().ok() };
    let mut found = Vec::new();
    for at in 0..code.len() {
        let Some(&[a, b, c]) = code.get(at..at + 3).and_then(|b| b.first_chunk::<3>()) else {
            break;
        };
        // REX.W, then `lea` with an address relative to what follows.
        if matches!(a, 0x48 | 0x4c)
            && b == 0x8d
            && c & 0xc7 == 0x05
            && let Some(distance) = word(at + 3)
        {
            let behind = resolver.address.0.wrapping_add(at as u64 + 7);
            let distance = i64::from(i32::from_le_bytes(distance));
            found.push(behind.wrapping_add_signed(distance));
        }
        // `mov $imm32, %r32`, and `mov $imm32, %r64` with its sign.
        if matches!(a, 0xb8..=0xbf)
            && let Some(value) = word(at + 1)
        {
            found.push(u64::from(u32::from_le_bytes(value)));
        }
        if matches!(a, 0x48 | 0x49)
            && b == 0xc7
            && c & 0xf8 == 0xc0
            && let Some(value) = word(at + 3)
        {
            found.push(u64::from(u32::from_le_bytes(value)));
        }
    }
    let mut found: Vec<ImageAddr> = found
        .into_iter()
        .map(ImageAddr)
        .filter(|address| *address != resolver.address && is_function(*address))
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::{Binding, FunctionKind, FunctionSource};

    #[test]
    fn what_a_resolver_loads_may_run() {
        let resolver = Function {
            name: "memcpy".into(),
            address: ImageAddr(0x1000),
            size: 32,
            binding: Binding::Global,
            exported: true,
            kind: FunctionKind::IFunc,
            source: FunctionSource::Symtab,
        };
        // As objdump shows it: lea 0x2000(%rip) with 0x1007 behind it is 0x3007; mov $0x4000, %edx; lea of data.
        let code = [
            0x48, 0x8d, 0x05, 0x00, 0x20, 0x00, 0x00, // lea 0x3007, %rax
            0xba, 0x00, 0x40, 0x00, 0x00, // mov $0x4000, %edx
            0x4c, 0x8d, 0x0d, 0x00, 0x00, 0x01, 0x00, // lea 0x11013, %r9
            0xc3,
        ];
        let starts = [ImageAddr(0x3007), ImageAddr(0x4000)];
        let found = implementations(&resolver, &code, |address| starts.contains(&address));
        assert_eq!(found, starts);
    }
}
