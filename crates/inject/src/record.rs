//! What is written down in a chunk, beside its code, so that another session can take over: the patched sites with
//! everybody's snippets, and the other memory that was mapped.
//!
//! Records of a chunk are chained from its header backwards, so that each is in place before anything leads to it. They
//! stand in memory of the target, which may have put anything there: all that is read is checked, and nothing follows from
//! it for any process but the target itself.

use crate::arch::{Redirected, RegisterSet, Shape};
use crate::owner::{HEADER, Owner};
use crate::snippet::{Snippet, SnippetCode};

/// First word of a record, its kind in the low byte.
const MAGIC: u32 = 0x5349_5400;
/// Kinds: a patched site, other memory, what is neither any more.
const SITE: u8 = 1;
const MAPPING: u8 = 2;
const VOID: u8 = 0;
/// Magic number and kind, length, offset of the record before.
const HEAD: usize = 16;
/// Longest record that is believed: thousands of snippets at one site.
const LONGEST: u32 = 16 << 20;

/// A snippet that somebody has inserted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) owner: Owner,
    /// The owner's own number for it.
    pub(crate) id: u64,
    pub(crate) address: u64,
    pub(crate) at_function_entry: bool,
    pub(crate) at_function_exit: bool,
    /// It runs after the instruction.
    pub(crate) after: bool,
    pub(crate) snippet: Snippet,
}

/// A patched site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SiteRecord {
    /// What is overwritten.
    pub(crate) shape: Shape,
    pub(crate) trampoline: u64,
    pub(crate) trampoline_len: u64,
    pub(crate) members: Vec<Member>,
}

/// Memory that a chunk's owner has mapped besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mapped {
    pub(crate) start: u64,
    pub(crate) len: u64,
    pub(crate) stacks: Option<HandlerStacks>,
    /// For a table of calls whose return addresses were replaced: the address that stands in their place.
    pub(crate) returns: Option<u64>,
}

/// Stacks for handlers in shared memory: while a thread is on one of them, its own stack pointer is kept nearby.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandlerStacks {
    /// Offset in the mapping of the first of equal parts, each of which has one stack.
    pub first: u64,
    /// Bytes of a part.
    pub size: u64,
    /// Offset in a part of the word that holds the program's stack pointer.
    pub saved: u64,
}

impl Mapped {
    /// Where the program's stack pointer is kept of a thread that has a stack pointer in this memory.
    pub(crate) fn saved_by(&self, stack_pointer: u64) -> Option<u64> {
        let stacks = self.stacks?;
        let offset = stack_pointer
            .checked_sub(self.start)?
            .checked_sub(stacks.first)?;
        let part = offset.checked_div(stacks.size)?.checked_mul(stacks.size)?;
        let saved = stacks.first.checked_add(part)?.checked_add(stacks.saved)?;
        (saved.checked_add(8)? <= self.len).then(|| self.start.wrapping_add(saved))
    }
}

/// Anything written down in a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    Site(SiteRecord),
    Mapping(Mapped),
    /// What was undone.
    Void,
}

/// The first word of a record that says nothing any more.
pub(crate) fn void() -> [u8; 4] {
    (MAGIC | u32::from(VOID)).to_le_bytes()
}

impl Record {
    /// The record's bytes, a multiple of 16; `previous` is the offset of the one before it in the chunk, or 0.
    pub(crate) fn bytes(&self, previous: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        let kind = match self {
            Record::Site(_) => SITE,
            Record::Mapping(_) => MAPPING,
            Record::Void => VOID,
        };
        out.extend((MAGIC | u32::from(kind)).to_le_bytes());
        out.extend([0; 4]);
        let mut word = |value: u64| out.extend(value.to_le_bytes());
        word(previous);
        match self {
            Record::Site(site) => {
                let shape = &site.shape;
                for value in [
                    shape.site,
                    shape.displaced,
                    u64::from(shape.at_function_entry),
                    shape.springboard.unwrap_or(0),
                    site.trampoline,
                    site.trampoline_len,
                    shape.moved.len() as u64,
                    shape.redirected.len() as u64,
                    site.members.len() as u64,
                ] {
                    word(value);
                }
                for &(start, len) in &shape.moved {
                    word(start);
                    word(len);
                }
                for one in &shape.redirected {
                    word(one.branch);
                    word(one.end);
                    word(one.target);
                    word(one.springboard.unwrap_or(0));
                }
                for member in &site.members {
                    put_member(&mut out, member);
                }
            }
            Record::Mapping(mapped) => {
                let stacks = mapped.stacks.unwrap_or(HandlerStacks {
                    first: 0,
                    size: 0,
                    saved: 0,
                });
                for value in [
                    mapped.start,
                    mapped.len,
                    stacks.first,
                    stacks.size,
                    stacks.saved,
                    mapped.returns.unwrap_or(0),
                ] {
                    word(value);
                }
            }
            Record::Void => {}
        }
        out.resize(out.len().next_multiple_of(16), 0);
        let len = (out.len() as u32).to_le_bytes();
        out[4..8].copy_from_slice(&len);
        out
    }

    /// The length that the head of a record claims, and the offset of the record before.
    pub(crate) fn head(bytes: &[u8]) -> Option<(u64, u64)> {
        let mut reader = Reader(bytes);
        let first = reader.word()?;
        let len = (first >> 32) as u32;
        ((first as u32) & !0xff == MAGIC && (HEAD as u32..=LONGEST).contains(&len))
            .then_some((u64::from(len), reader.word()?))
    }

    /// Reads one; `None` when it makes no sense.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Record> {
        Record::head(bytes)?;
        let mut reader = Reader(bytes.get(HEAD..)?);
        match *bytes.first()? {
            SITE => {
                let address = |word: u64| Some(word).filter(|&address| address != 0);
                let mut shape = Shape {
                    site: reader.word()?,
                    displaced: reader.word()?,
                    at_function_entry: reader.word()? != 0,
                    springboard: address(reader.word()?),
                    ..Shape::default()
                };
                let (trampoline, trampoline_len) = (reader.word()?, reader.word()?);
                let (moved, redirected) = (reader.word()?, reader.word()?);
                let count = reader.word()?;
                let most = bytes.len() as u64 / 16;
                if moved > most || redirected > most || count > most / 4 {
                    return None;
                }
                for _ in 0..moved {
                    shape.moved.push((reader.word()?, reader.word()?));
                }
                for _ in 0..redirected {
                    shape.redirected.push(Redirected {
                        branch: reader.word()?,
                        end: reader.word()?,
                        target: reader.word()?,
                        springboard: address(reader.word()?),
                    });
                }
                let members = (0..count).map(|_| take_member(&mut reader));
                Some(Record::Site(SiteRecord {
                    shape,
                    trampoline,
                    trampoline_len,
                    members: members.collect::<Option<Vec<Member>>>()?,
                }))
            }
            MAPPING => {
                let (start, len) = (reader.word()?, reader.word()?);
                let (first, size, saved) = (reader.word()?, reader.word()?, reader.word()?);
                Some(Record::Mapping(Mapped {
                    start,
                    len,
                    stacks: (size != 0).then_some(HandlerStacks { first, size, saved }),
                    returns: Some(reader.word()?).filter(|&address| address != 0),
                }))
            }
            VOID => Some(Record::Void),
            _ => None,
        }
    }
}

const AT_ENTRY: u64 = 1;
const AT_EXIT: u64 = 2;
const AFTER: u64 = 4;
const INLINE: u64 = 1 << 8;
const WANTS_FRAME: u64 = 1 << 9;
const WANTS_ARGUMENT: u64 = 1 << 10;
const GUARD: u64 = 1 << 11;
const LEAF: u64 = 1 << 12;

fn put_member(out: &mut Vec<u8>, member: &Member) {
    let Member {
        owner,
        id,
        address,
        at_function_entry,
        at_function_exit,
        after,
        snippet,
    } = member;
    let Snippet {
        code,
        reads,
        clobbers,
        argument,
    } = snippet;
    let mut flags = 0;
    if *at_function_entry {
        flags |= AT_ENTRY;
    }
    if *at_function_exit {
        flags |= AT_EXIT;
    }
    if *after {
        flags |= AFTER;
    }
    let (place, bytes): (u64, &[u8]) = match code {
        SnippetCode::Call(function) => (*function, &[]),
        SnippetCode::Leaf(function) => {
            flags |= LEAF;
            (*function, &[])
        }
        SnippetCode::Inline {
            code,
            wants_frame,
            wants_argument,
        } => {
            flags |= INLINE;
            if *wants_frame {
                flags |= WANTS_FRAME;
            }
            if *wants_argument {
                flags |= WANTS_ARGUMENT;
            }
            (code.len() as u64, code)
        }
        SnippetCode::Guard(code) => {
            flags |= GUARD;
            (code.len() as u64, code)
        }
    };
    for value in [
        owner.pid,
        owner.started,
        owner.namespace,
        *id,
        *address,
        flags,
        pack(reads),
        pack(clobbers),
        *argument,
        place,
    ] {
        out.extend(value.to_le_bytes());
    }
    out.extend_from_slice(bytes);
    out.resize(out.len().next_multiple_of(8), 0);
}

fn take_member(reader: &mut Reader<'_>) -> Option<Member> {
    let owner = Owner {
        pid: reader.word()?,
        started: reader.word()?,
        namespace: reader.word()?,
    };
    let (id, address, flags) = (reader.word()?, reader.word()?, reader.word()?);
    let (reads, clobbers) = (unpack(reader.word()?), unpack(reader.word()?));
    let (argument, place) = (reader.word()?, reader.word()?);
    let code = if flags & GUARD != 0 {
        SnippetCode::Guard(reader.bytes(place)?.to_vec())
    } else if flags & LEAF != 0 {
        SnippetCode::Leaf(place)
    } else if flags & INLINE == 0 {
        SnippetCode::Call(place)
    } else {
        SnippetCode::Inline {
            code: reader.bytes(place)?.to_vec(),
            wants_frame: flags & WANTS_FRAME != 0,
            wants_argument: flags & WANTS_ARGUMENT != 0,
        }
    };
    Some(Member {
        owner,
        id,
        address,
        at_function_entry: flags & AT_ENTRY != 0,
        at_function_exit: flags & AT_EXIT != 0,
        after: flags & AFTER != 0,
        snippet: Snippet {
            code,
            reads,
            clobbers,
            argument,
        },
    })
}

fn pack(set: &RegisterSet) -> u64 {
    u64::from(set.gpr) | u64::from(set.xmm) << 16 | u64::from(set.flags) << 32
}

fn unpack(word: u64) -> RegisterSet {
    RegisterSet {
        gpr: word as u16,
        xmm: (word >> 16) as u16,
        flags: word >> 32 & 1 != 0,
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn word(&mut self) -> Option<u64> {
        let (word, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*word))
    }

    /// `len` bytes, and the padding behind them.
    fn bytes(&mut self, len: u64) -> Option<&'a [u8]> {
        let len = usize::try_from(len).ok()?;
        let bytes = self.0.get(..len)?;
        self.0 = self.0.get(len.checked_next_multiple_of(8)?..)?;
        Some(bytes)
    }
}

/// Whether a record may stand at an offset of a chunk of which `used` bytes are in use.
pub(crate) fn fits(offset: u64, len: u64, used: u64) -> bool {
    offset >= HEADER
        && offset.is_multiple_of(16)
        && offset.checked_add(len).is_some_and(|end| end <= used)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> Record {
        let owner = Owner {
            pid: 7,
            started: 8,
            namespace: 9,
        };
        let inline = Snippet {
            code: SnippetCode::Inline {
                code: vec![0x90; 13],
                wants_frame: false,
                wants_argument: true,
            },
            reads: RegisterSet::EMPTY,
            clobbers: RegisterSet::CALLER_SAVED,
            argument: u64::MAX,
        };
        let call = Snippet {
            code: SnippetCode::Call(0x7f00_1234_5678),
            reads: RegisterSet::of_gprs(&[7, 15]),
            clobbers: RegisterSet::FLAGS,
            argument: 3,
        };
        let guard = Snippet {
            code: SnippetCode::Guard(vec![0xc3; 9]),
            reads: RegisterSet::EMPTY,
            clobbers: RegisterSet::EMPTY,
            argument: 0,
        };
        let leaf = Snippet {
            code: SnippetCode::Leaf(0x7f00_1234_9abc),
            reads: RegisterSet::EMPTY,
            clobbers: RegisterSet::FLAGS,
            argument: 1,
        };
        let member = |id, address, snippet| Member {
            owner,
            id,
            address,
            at_function_entry: id == 0,
            at_function_exit: id == 1,
            after: id == 1,
            snippet,
        };
        Record::Site(SiteRecord {
            shape: Shape {
                site: 0x40_1000,
                displaced: 8,
                at_function_entry: true,
                springboard: Some(0x40_1040),
                moved: vec![(0x40_103b, 12)],
                redirected: vec![Redirected {
                    branch: 0x40_1020,
                    end: 0x40_1022,
                    target: 0x40_1004,
                    springboard: Some(0x40_1080),
                }],
            },
            trampoline: 0x50_0100,
            trampoline_len: 99,
            members: vec![
                member(0, 0x40_1000, inline),
                member(1, 0x40_1004, call),
                member(2, 0x40_1000, guard),
                member(3, 0x40_1000, leaf),
            ],
        })
    }

    #[test]
    fn what_is_written_is_read() {
        let mapped = Mapped {
            start: 0x10000,
            len: 0x2000,
            stacks: Some(HandlerStacks {
                first: 0x100,
                size: 0x800,
                saved: 0x40,
            }),
            returns: Some(0x7f00_1234_0001),
        };
        assert_eq!(mapped.saved_by(0x10100), Some(0x10140));
        assert_eq!(mapped.saved_by(0x10fff), Some(0x10940));
        assert_eq!(mapped.saved_by(0x1fff), None);
        for record in [site(), Record::Mapping(mapped), Record::Void] {
            let bytes = record.bytes(64);
            assert_eq!(bytes.len() % 16, 0);
            assert_eq!(Record::head(&bytes), Some((bytes.len() as u64, 64)));
            assert_eq!(Record::parse(&bytes), Some(record));
        }
        let mut bytes = site().bytes(0);
        bytes[..4].copy_from_slice(&void());
        assert_eq!(Record::parse(&bytes), Some(Record::Void));
    }

    /// The target may write what it likes.
    #[test]
    fn damage_is_no_harm() {
        let bytes = site().bytes(0);
        for len in 0..bytes.len() - 16 {
            assert_eq!(Record::parse(&bytes[..len]), None, "{len}");
        }
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] = value;
                let _ = Record::parse(&damaged);
            }
        }
    }
}
