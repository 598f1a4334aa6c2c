//! Code of a held process, read and written a page at a time: a batch may touch thousands of places.

use std::collections::HashMap;

use crate::arch::Write;
use crate::error::InjectError;
use crate::mapping::PAGE;
use crate::process::Process;

/// Pages as they were when first looked at.
#[derive(Debug, Default)]
pub(crate) struct CodePages(HashMap<u64, Option<Box<[u8]>>>);

impl CodePages {
    /// The bytes of a range; `None` where something of it cannot be read.
    pub(crate) fn bytes(&mut self, process: &Process, address: u64, len: usize) -> Option<Vec<u8>> {
        let end = address.checked_add(len as u64)?;
        for start in (address & !(PAGE - 1)..end).step_by(PAGE as usize) {
            self.0.entry(start).or_insert_with(|| {
                let page = process.read_vec(start, PAGE as usize).ok()?;
                Some(page.into_boxed_slice())
            });
        }
        self.seen(address, len)
    }

    /// The bytes of a range as they were when looked at; `None` where that was not done or failed.
    pub(crate) fn seen(&self, address: u64, len: usize) -> Option<Vec<u8>> {
        let end = address.checked_add(len as u64)?;
        let mut bytes = Vec::with_capacity(len);
        let mut at = address;
        while at < end {
            let start = at & !(PAGE - 1);
            let page = self.0.get(&start)?.as_ref()?;
            let stop = end.min(start + PAGE);
            bytes.extend_from_slice(page.get((at - start) as usize..(stop - start) as usize)?);
            at = stop;
        }
        Some(bytes)
    }

    /// Whether memory holds what a write would put there.
    pub(crate) fn holds(&mut self, process: &Process, write: &Write) -> bool {
        self.bytes(process, write.address, write.bytes.len())
            .is_some_and(|bytes| bytes == write.bytes)
    }
}

impl Process {
    /// Makes many changes of code. Each list is written in its order, also should we be killed
    /// in between: the first of every list, then the second of every list, and so on.
    pub(crate) fn write_lists(&mut self, lists: &[&[Write]]) -> Result<(), InjectError> {
        self.require_held()?;
        let longest = lists.iter().map(|list| list.len()).max().unwrap_or(0);
        for step in 0..longest {
            let mut writes: Vec<&Write> = lists.iter().filter_map(|list| list.get(step)).collect();
            writes.sort_by_key(|write| write.address);
            for group in writes.chunk_by(|a, b| a.address / PAGE == b.address / PAGE) {
                self.write_group(group)?;
            }
        }
        Ok(())
    }

    fn write_group(&mut self, group: &[&Write]) -> Result<(), InjectError> {
        let Some(first) = group.first() else {
            return Ok(());
        };
        if group.len() == 1 {
            return self.write_code(first.address, &first.bytes);
        }
        let ends = group.iter().map(|w| w.address + w.bytes.len() as u64);
        let end = ends.max().unwrap_or(first.address);
        let mut bytes = self.read_vec(first.address, (end - first.address) as usize)?;
        for write in group {
            let from = (write.address - first.address) as usize;
            bytes[from..from + write.bytes.len()].copy_from_slice(&write.bytes);
        }
        self.write_code(first.address, &bytes)
    }
}
