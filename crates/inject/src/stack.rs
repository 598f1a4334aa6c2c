//! Searching the stacks of stopped threads for addresses of code.

use std::collections::BTreeSet;
use std::ops::Range;

use symbols::Mapping;

use crate::process::Process;

/// Bytes below the stack pointer that leaf functions may use (System V ABI, "red zone").
const RED_ZONE: u64 = 128;
/// How much of a stack is searched.
const SEARCHED: u64 = 1 << 20;

/// Addresses inside patches at which an instruction begins, with the sites they belong to.
#[derive(Debug, Default)]
pub(crate) struct Interior {
    addresses: std::collections::HashMap<u64, u64>,
    bounds: Option<(u64, u64)>,
}

impl Interior {
    /// Adds an address of a site.
    pub(crate) fn add(&mut self, address: u64, site: u64) {
        self.addresses.insert(address, site);
        let (low, high) = self.bounds.unwrap_or((address, address));
        self.bounds = Some((low.min(address), high.max(address)));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    /// The sites of which some address stands on the stack.
    pub(crate) fn found_on_stack(
        &self,
        process: &Process,
        maps: &[Mapping],
        stack_pointer: u64,
    ) -> BTreeSet<u64> {
        let Some((low, high)) = self.bounds else {
            return BTreeSet::new();
        };
        words(process, maps, stack_pointer)
            .into_iter()
            .filter(|word| (low..=high).contains(word))
            .filter_map(|word| self.addresses.get(&word).copied())
            .collect()
    }
}

/// Whether any word on the stack points into one of some ranges.
pub(crate) fn words_pointing_into(
    process: &Process,
    maps: &[Mapping],
    stack_pointer: u64,
    ranges: &[Range<u64>],
) -> bool {
    words(process, maps, stack_pointer)
        .into_iter()
        .any(|word| ranges.iter().any(|range| range.contains(&word)))
}

/// Whether a signal interrupted the thread in one of some ranges: such a word on the stack stands where a signal frame has
/// the instruction pointer (`struct sigcontext` of asm/sigcontext.h: rsp, rip, flags, segments).
pub(crate) fn interrupted_in(
    process: &Process,
    maps: &[Mapping],
    stack_pointer: u64,
    ranges: &[Range<u64>],
) -> bool {
    /// `__USER_CS` of the kernel's asm/segment.h; bit 1 of the flags is always set, those above 21 never.
    const USER_CODE: u64 = 0x33;
    words(process, maps, stack_pointer)
        .windows(3)
        .any(|words| match words {
            [rip, flags, segments] => {
                ranges.iter().any(|range| range.contains(rip))
                    && flags & 2 != 0
                    && *flags < 1 << 22
                    && segments & 0xffff == USER_CODE
            }
            _ => false,
        })
}

/// The aligned words of a stack from its red zone upwards.
fn words(process: &Process, maps: &[Mapping], stack_pointer: u64) -> Vec<u64> {
    // In the order of their addresses.
    let at = maps.partition_point(|m| m.end <= stack_pointer);
    let Some(stack) = maps.get(at).filter(|m| m.start <= stack_pointer) else {
        return Vec::new();
    };
    let start = (stack_pointer & !7)
        .saturating_sub(RED_ZONE)
        .max(stack.start);
    let len = (stack.end - start).min(SEARCHED);
    let Ok(bytes) = process.read_vec(start, len as usize) else {
        return Vec::new();
    };
    bytes
        .chunks_exact(8)
        .map(|chunk| {
            chunk
                .iter()
                .rev()
                .fold(0, |word, &byte| word << 8 | u64::from(byte))
        })
        .collect()
}
