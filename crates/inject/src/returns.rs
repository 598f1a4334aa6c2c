//! Return addresses that were replaced: putting the real ones back.

use std::collections::BTreeMap;
use std::mem::offset_of;
use std::ops::Range;

use runtime::frames::{CALLS, CALLS_AT, CallRecord, DROPPED, FrameTable, REACH, SLOT_MASK};

use crate::error::InjectError;
use crate::process::Process;
use crate::ptrace;
use crate::record::Mapped;

/// Call records that share a bit of [`FrameTable::used`].
const GROUP: u64 = 64;
/// Bytes below the stack pointer that may be in use (psABI, section 3.2.2).
const RED_ZONE: u64 = 128;
/// How much of a process is searched for copies of a replaced return address.
const SEARCHED: u64 = 512 << 20;
/// How much is read at once.
const PIECE: u64 = 1 << 20;

impl Process {
    /// Writes the real return addresses of all calls in some tables back to the stacks. True when an address that was put
    /// in their place may still be somewhere: in a stack that the program has copied elsewhere, for one.
    pub(crate) fn put_returns_back(&mut self, mapped: &[Mapped]) -> Result<bool, InjectError> {
        let mut is_left = false;
        for table in mapped {
            let Some(trampoline) = table.returns else {
                continue;
            };
            self.stop_running()?;
            let mut is_lost = false;
            for (slot, returns_to) in self.calls_of(table) {
                match self.read_u64(slot) {
                    Ok(word) if word == trampoline => {
                        self.write(slot, &returns_to.to_le_bytes())?;
                    }
                    _ => is_lost = true,
                }
            }
            is_left |= is_lost && self.is_anywhere(trampoline, mapped)?;
        }
        Ok(is_left)
    }

    /// The return slots of a table's calls, and where they return to.
    fn calls_of(&self, table: &Mapped) -> BTreeMap<u64, u64> {
        let mut calls = BTreeMap::new();
        let last = CALLS + REACH;
        let record_size = size_of::<CallRecord>() as u64;
        let mut used = vec![0; (last / GROUP / 8 + 1) as usize];
        let bits = table.start + offset_of!(FrameTable, used) as u64;
        if table.len < CALLS_AT + last * record_size || self.read(bits, &mut used).is_err() {
            return calls;
        }
        for group in 0..last.div_ceil(GROUP) {
            let byte = used.get((group / 8) as usize).copied().unwrap_or(0);
            if byte >> (group % 8) & 1 == 0 {
                continue;
            }
            let start = table.start + CALLS_AT + group * GROUP * record_size;
            let Ok(bytes) = self.read_vec(start, (GROUP * record_size) as usize) else {
                continue;
            };
            for record in bytes.chunks_exact(record_size as usize) {
                let word = |offset: usize| {
                    let bytes = record.get(offset..offset + 8)?;
                    Some(u64::from_le_bytes(bytes.try_into().ok()?))
                };
                let key = word(offset_of!(CallRecord, key)).filter(|key| key & DROPPED == 0);
                let key = key.unwrap_or(0) & SLOT_MASK;
                if let Some(returns_to) = word(offset_of!(CallRecord, returns_to))
                    && key != 0
                {
                    calls.insert(key, returns_to);
                }
            }
        }
        calls
    }

    /// Whether a word stands anywhere in the program's memory, other than in ours and in the unused part of a stack.
    fn is_anywhere(&mut self, word: u64, ours: &[Mapped]) -> Result<bool, InjectError> {
        let mut stacks = Vec::new();
        for tid in self.thread_ids() {
            let registers = ptrace::registers(tid);
            stacks.push(self.or_death(registers)?.rsp);
        }
        let needle = word.to_le_bytes();
        let mut left = SEARCHED;
        for mapping in self.maps()? {
            let is_private_data = mapping.perms.write && !mapping.perms.shared;
            let is_ours = |m: &Mapped| m.start < mapping.end && m.start + m.len > mapping.start;
            if !is_private_data || !mapping.perms.read {
                continue;
            }
            let whole = mapping.start..mapping.end;
            let mut parts: Vec<Range<u64>> = std::iter::once(whole).collect();
            // Neighbouring mappings are shown as one.
            for m in ours.iter().filter(|m| is_ours(m)) {
                parts = parts
                    .into_iter()
                    .flat_map(|part| {
                        [
                            part.start..part.end.min(m.start),
                            part.start.max(m.start + m.len)..part.end,
                        ]
                    })
                    .filter(|part| part.start < part.end)
                    .collect();
            }
            for part in parts {
                let used = stacks.iter().filter(|stack| part.contains(stack)).max();
                let mut at = used.map_or(part.start, |stack| {
                    (stack.saturating_sub(RED_ZONE) & !7).max(part.start)
                });
                while at < part.end {
                    let len = PIECE.min(part.end - at);
                    let Some(rest) = left.checked_sub(len) else {
                        return Ok(true);
                    };
                    left = rest;
                    if let Ok(bytes) = self.read_vec(at, len as usize)
                        && bytes.chunks_exact(8).any(|chunk| chunk == needle)
                    {
                        return Ok(true);
                    }
                    at += len;
                }
            }
        }
        Ok(false)
    }
}
