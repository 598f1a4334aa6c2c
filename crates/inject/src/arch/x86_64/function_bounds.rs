//! Where functions end in truth.

use std::ops::Range;

use iced_x86::{Decoder, DecoderOptions};

use super::relocate::{ends_run, is_near_call};
use crate::analysis::CodeSection;

/// How much code without an entry in the unwind table is taken for the rest of a function.
const LONGEST_REST: u64 = 64;

/// Functions, ascending, with those made longer whose unwind table ends before they do: hand-written code may tell
/// unwinders to stop where a stack changes (glibc's `clone` and `clone3` do so before their `syscall`), and in a stripped
/// file nothing else says that the function goes on.
pub(crate) fn to_their_ends(
    mut functions: Vec<Range<u64>>,
    sections: &[CodeSection<'_>],
) -> Vec<Range<u64>> {
    for index in 0..functions.len() {
        let function = functions[index].clone();
        let next = functions.get(index + 1).map_or(u64::MAX, |next| next.start);
        let rest = function.end..next;
        if rest.is_empty() || rest.end - rest.start > LONGEST_REST {
            continue;
        }
        let section = sections
            .iter()
            .find(|s| s.range().contains(&function.start));
        let Some(section) = section.filter(|section| next < section.range().end) else {
            continue;
        };
        if section
            .from(rest.start)
            .is_some_and(|bytes| !is_padding(bytes))
            && section
                .slice(function.clone())
                .is_some_and(|code| goes_on(code, function.start))
        {
            functions[index].end = next;
        }
    }
    functions
}

/// Whether bytes begin as those do that fill the space between functions.
fn is_padding(bytes: &[u8]) -> bool {
    matches!(bytes, [0x90 | 0xcc | 0x00 | 0x66, ..] | [0x0f, 0x1f, ..])
}

/// Whether control runs out of the end of a function's code.
fn goes_on(code: &[u8], address: u64) -> bool {
    let end = address + code.len() as u64;
    let decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
    // The last call of a function may be one that does not return.
    decoder.into_iter().last().is_some_and(|last| {
        !last.is_invalid() && last.next_ip() == end && !ends_run(&last) && !is_near_call(&last)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As in glibc's clone3: what the table knows ends before `syscall`.
    #[test]
    #[rustfmt::skip]
    fn a_function_ends_where_the_next_begins_if_control_gets_there() {
        let bytes = [
            0xb8, 0xb3, 0x01, 0x00, 0x00, // mov eax, 435
            0x0f, 0x05,                   // syscall
            0x74, 0x01,                   // je +1
            0xc3,                         // ret
            0x31, 0xed,                   // xor ebp, ebp
            0xf4,                         // hlt
            0x31, 0xc0,                   // xor eax, eax (never comes here)
            0xc3,                         // ret
            0x90,                         // nop
            0xc3,                         // ret
        ];
        let section = CodeSection { address: 0x1000, bytes: &bytes };
        let before = vec![0x1000..0x1005, 0x100a..0x100d, 0x100f..0x1010, 0x1011..0x1012];
        let after = to_their_ends(before, &[section]);
        assert_eq!(after, [0x1000..0x100a, 0x100a..0x100d, 0x100f..0x1010, 0x1011..0x1012]);
    }
}
