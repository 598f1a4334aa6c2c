//! Whose code is it? Every piece of executable memory that is mapped into a process begins with a line that names the
//! tracer which mapped it, so that the next one can tell the patches of sessions that live from those of sessions that were
//! killed.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::arch::{Plan, Write};
use crate::code_page::CodePages;
use crate::mapping::PAGE;
use crate::proc_file::{namespace, read_proc, start_time};
use crate::process::Process;

/// The last byte is the version of what stands in a chunk.
const MAGIC: [u8; 8] = *b"\x7fspile\0\x04";
/// Bytes at the start of a chunk: the magic number, then six words: the tracer's process number, the time of its start,
/// the inode of its PID namespace, the chunk's length, how much of it is used, and the offset of its last
/// [record](crate::record).
pub(crate) const HEADER: u64 = 64;

/// `jmp rel32` and `jmp rel8`.
const LONG_JUMP: u8 = 0xe9;
const SHORT_JUMP: u8 = 0xeb;

/// A tracer: a process for certain, numbers being used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Owner {
    pub(crate) pid: u64,
    pub(crate) started: u64,
    pub(crate) namespace: u64,
}

impl Owner {
    /// This process.
    pub(crate) fn me() -> Owner {
        static ME: Mutex<Option<Owner>> = Mutex::new(None);
        let pid = std::process::id();
        let mut known = ME.lock().unwrap_or_else(PoisonError::into_inner);
        // A process that goes on in the background is another one.
        match *known {
            Some(me) if me.pid == u64::from(pid) => me,
            _ => *known.insert(Owner {
                pid: u64::from(pid),
                started: start_time(pid).unwrap_or(0),
                namespace: namespace("self").unwrap_or(0),
            }),
        }
    }

    /// Another process, in a test that stands in for several tracers.
    #[cfg(test)]
    pub(crate) fn of(pid: u32) -> Owner {
        Owner {
            pid: u64::from(pid),
            started: start_time(pid).expect("a process"),
            namespace: namespace("self").unwrap_or(0),
        }
    }

    /// Whether it runs no more. One in another PID namespace cannot be told.
    pub(crate) fn is_gone(self) -> bool {
        if Some(self.namespace) != namespace("self") {
            return false;
        }
        match u32::try_from(self.pid).ok().and_then(start_time) {
            Some(started) => started != self.started,
            // `/proc` may be mounted so that it hides the processes of others (proc(5), "hidepid").
            None => !exists(self.pid) || is_zombie(self.pid),
        }
    }
}

/// Whether a process has that number, whoever it belongs to.
fn exists(pid: u64) -> bool {
    let Some(pid) = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
    else {
        return false;
    };
    rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH)
}

fn is_zombie(pid: u64) -> bool {
    let stat = read_proc(&format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').map(|(_, rest)| rest.trim_start());
    state.is_some_and(|state| state.starts_with(['Z', 'X']))
}

/// What stands at the start of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) owner: Owner,
    pub(crate) len: u64,
    pub(crate) used: u64,
    /// Offset of the last record; 0 when there is none.
    pub(crate) last: u64,
}

impl Header {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let Owner {
            pid,
            started,
            namespace,
        } = self.owner;
        let mut bytes = MAGIC.to_vec();
        for word in [pid, started, namespace, self.len, self.used, self.last] {
            bytes.extend(word.to_le_bytes());
        }
        bytes
    }

    /// `None` unless it is one, and makes sense.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Header> {
        if !bytes.starts_with(&MAGIC) {
            return None;
        }
        let word = |index: usize| {
            let bytes = bytes.get(index * 8..index * 8 + 8)?;
            Some(u64::from_le_bytes(bytes.try_into().ok()?))
        };
        let header = Header {
            owner: Owner {
                pid: word(1)?,
                started: word(2)?,
                namespace: word(3)?,
            },
            len: word(4)?,
            used: word(5)?,
            last: word(6)?,
        };
        (header.len.is_multiple_of(PAGE)
            && (HEADER..=header.len).contains(&header.used)
            && header.last < header.used)
            .then_some(header)
    }
}

/// Where the bytes of a patch lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JumpTarget {
    /// By a 32-bit displacement.
    Far(u64),
    /// By an 8-bit one, to another part of the patch.
    Near(u64),
    /// They are none that a patch has.
    None,
}

impl JumpTarget {
    /// Looks at one of the places that [`Plan::originals`] names: a jump, or the displacement of a branch.
    pub(crate) fn of(address: u64, present: &[u8]) -> JumpTarget {
        let next = address.wrapping_add(present.len() as u64);
        let far = |bytes: [u8; 4]| {
            let distance = i32::from_le_bytes(bytes);
            JumpTarget::Far(next.wrapping_add_signed(distance.into()))
        };
        match *present {
            [LONG_JUMP, a, b, c, d] | [a, b, c, d] => far([a, b, c, d]),
            [SHORT_JUMP, distance] | [distance] => {
                JumpTarget::Near(next.wrapping_add_signed(i64::from(distance as i8)))
            }
            _ => JumpTarget::None,
        }
    }
}

/// What is found out about jumps that others planted.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    /// By page of the jump's target.
    known: HashMap<u64, Option<Owner>>,
}

impl Owners {
    /// Why the code at a planned site, which is not what the file has, cannot be replaced; `Ok` when it is the patch of a
    /// session that has ended.
    pub(crate) fn check(
        &mut self,
        process: &Process,
        pages: &mut CodePages,
        plan: &Plan,
    ) -> Result<(), String> {
        const UNKNOWN: &str = "the code in memory differs from the file";
        let originals = plan.originals();
        for original in originals {
            if pages.holds(process, original) {
                continue;
            }
            let (at, len) = (original.address, original.bytes.len());
            let present = pages.bytes(process, at, len);
            match JumpTarget::of(at, &present.ok_or("the code cannot be read")?) {
                JumpTarget::Far(target) => match self.owner(process, target) {
                    None => {
                        return Err(format!("{UNKNOWN}: another tool has put a jump there"));
                    }
                    Some(owner) if owner.is_gone() => {}
                    Some(owner) => {
                        let pid = owner.pid;
                        return Err(format!("a Spile session (process {pid}) probes it now"));
                    }
                },
                // Leads to the same unused bytes as ours, which were looked at, or will be.
                JumpTarget::Near(target) if has_target(originals, target) => {}
                _ => return Err(UNKNOWN.to_owned()),
            }
        }
        for (start, bytes, _) in plan.runs() {
            let Some(mut present) = pages.bytes(process, start, bytes.len()) else {
                return Err(UNKNOWN.to_owned());
            };
            // What was looked at above, or is overwritten.
            for original in originals {
                let at = original.address.wrapping_sub(start) as usize;
                for (index, byte) in original.bytes.iter().enumerate() {
                    if let Some(place) = present.get_mut(at.wrapping_add(index)) {
                        *place = *byte;
                    }
                }
            }
            if present != bytes {
                return Err(UNKNOWN.to_owned());
            }
        }
        Ok(())
    }

    /// Whose chunk holds an address.
    fn owner(&mut self, process: &Process, address: u64) -> Option<Owner> {
        let page = address & !(PAGE - 1);
        *self
            .known
            .entry(page)
            .or_insert_with(|| find_owner(process, address))
    }
}

fn has_target(writes: &[Write], target: u64) -> bool {
    writes.iter().any(|write| write.address == target)
}

/// Looks for the start of a chunk from an address downwards. The kernel merges neighbouring mappings, so that a chunk
/// need not begin where its mapping does.
fn find_owner(process: &Process, address: u64) -> Option<Owner> {
    let maps = process.maps().ok()?;
    let mapping = maps.iter().find(|m| (m.start..m.end).contains(&address))?;
    if mapping.is_file() || mapping.path.is_some() || mapping.perms.write || !mapping.perms.execute
    {
        return None;
    }
    let mut page = address & !(PAGE - 1);
    loop {
        let head = process.read_vec(page, HEADER as usize).ok()?;
        if let Some(header) = Header::parse(&head) {
            return (address - page < header.len).then_some(header.owner);
        }
        if page <= mapping.start {
            return None;
        }
        page -= PAGE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_runs_is_not_gone() {
        assert!(!Owner::me().is_gone());
    }

    #[test]
    fn another_process_of_the_same_number_is_not_the_owner() {
        let mut owner = Owner::me();
        owner.started += 1;
        assert!(owner.is_gone());
        owner.namespace += 1;
        assert!(!owner.is_gone(), "its numbers mean nothing here");
    }

    #[test]
    fn a_header_fits_its_room_and_is_read_back() {
        let header = Header {
            owner: Owner::me(),
            len: 4096,
            used: 160,
            last: 64,
        };
        let bytes = header.bytes();
        assert!(bytes.len() as u64 <= HEADER);
        assert_eq!(Header::parse(&bytes), Some(header));
        assert_eq!(Header::parse(&bytes[..bytes.len() - 1]), None);
        for (used, last) in [(0, 0), (8192, 0), (160, 160)] {
            let wrong = Header {
                used,
                last,
                ..header
            };
            assert_eq!(Header::parse(&wrong.bytes()), None);
        }
    }
}
