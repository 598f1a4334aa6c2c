//! Runs the automata of `=~` (laid out by the tracer among the arena's constants) and keeps what the last match found
//! for `matched()` and `ngroups()`. One step per byte of the subject; every index is checked, since the arena may have
//! been scribbled on.

use core::mem::{offset_of, size_of};

use crate::arena::Arena;
use crate::layout::{Header, MAX_GROUPS, MAX_REGISTERS, MatchState, Slot};
use crate::raise;
use crate::string::{Buffer, copy_bytes};

/// A transition to this state ends the search: there is a match.
const MATCHED: u32 = u32::MAX;
/// A register's source: the position behind the byte just read; in the registers of a match: no boundary.
const SPECIAL: u32 = u32::MAX;
/// Words before the parts of an automaton: eight numbers and the class of each byte.
const HEAD: usize = 8 + 64;

/// An automaton's words, as `script::regex::Automaton::words` has them.
struct Automaton<'a> {
    words: &'a [u32],
    classes: usize,
    tags: usize,
    next: usize,
    moves_at: usize,
    accept_at: usize,
    moves: usize,
}

impl<'a> Automaton<'a> {
    /// `None` when there can be none.
    fn new(words: &'a [u32]) -> Option<Automaton<'a>> {
        let number = |i: usize| words.get(i).map(|&w| w as usize);
        Some(Automaton {
            classes: number(1)?.max(1),
            tags: number(2)?.min(2 * MAX_GROUPS),
            next: number(3)?,
            moves_at: number(4)?,
            accept_at: number(5)?,
            moves: number(6)?,
            words,
        })
    }

    fn word(&self, at: usize) -> u32 {
        self.words.get(at).copied().unwrap_or(0)
    }

    fn class(&self, byte: u8) -> usize {
        let word = self.word(8 + usize::from(byte) / 4);
        (word >> (8 * (u32::from(byte) % 4)) & 0xff) as usize
    }

    /// Only whether the text matches.
    fn test(&self, text: &[u8]) -> bool {
        let mut state = 0;
        for at in 0..=text.len() {
            if self.word(self.accept_at.wrapping_add(state)) != 0 {
                return true;
            }
            let class = text.get(at).map_or(self.classes - 1, |&b| self.class(b));
            match self.word(
                self.next
                    .wrapping_add(state.wrapping_mul(self.classes))
                    .wrapping_add(class),
            ) {
                0 => return false,
                MATCHED => return true,
                next => state = next as usize - 1,
            }
        }
        self.word(self.accept_at.wrapping_add(state)) != 0
    }

    /// Where the match and its groups are; the end of the text counts as one more byte.
    fn find(&self, text: &[u8], spans: &mut [u32; 2 * MAX_GROUPS]) -> bool {
        let mut registers = [[0u32; MAX_REGISTERS]; 2];
        let mut half = 0;
        let mut state = 0;
        let mut found = false;
        for at in 0..=text.len() + 1 {
            let accept = self.word(self.accept_at.wrapping_add(state)) as usize;
            if accept > 0 {
                found = true;
                for (n, span) in spans.iter_mut().take(self.tags).enumerate() {
                    let source = self.word(self.moves.wrapping_add(accept - 1 + n));
                    *span = match registers.get(half).and_then(|r| r.get(source as usize)) {
                        Some(&position) if source != SPECIAL => position,
                        _ => SPECIAL,
                    };
                }
            }
            if at > text.len() {
                break;
            }
            let class = text.get(at).map_or(self.classes - 1, |&b| self.class(b));
            let edge = state.wrapping_mul(self.classes).wrapping_add(class);
            match self.word(self.next.wrapping_add(edge)) {
                0 | MATCHED => break,
                next => state = next as usize - 1,
            }
            let moves = self.word(self.moves_at.wrapping_add(edge)) as usize;
            if moves > 0 {
                let at_moves = self.moves.wrapping_add(moves);
                let count = (self.word(at_moves) as usize).min(MAX_REGISTERS);
                let [first, second] = &mut registers;
                let (old, new) = if half == 0 {
                    (first, second)
                } else {
                    (second, first)
                };
                for (n, register) in new.iter_mut().take(count).enumerate() {
                    let source = self.word(at_moves.wrapping_add(1 + n));
                    *register = match old.get(source as usize) {
                        Some(&position) => position,
                        None => at as u32 + 1,
                    };
                }
                half ^= 1;
            }
        }
        found
    }
}

/// The words of the automaton at an offset in the arena.
///
/// # Safety
/// As the functions of [`crate::abi`].
unsafe fn words<'a>(arena: *mut u8, offset: u64) -> &'a [u32] {
    // SAFETY: what is read was checked to lie inside the arena.
    unsafe {
        let arena = Arena::of(arena);
        if !offset.is_multiple_of(4) {
            return &[];
        }
        let Some(head) = arena.at(offset, 4 * HEAD as u64) else {
            return &[];
        };
        let total = u64::from(head.cast::<u32>().add(7).read());
        match arena.at(offset, 4 * total) {
            Some(at) if total >= HEAD as u64 => {
                core::slice::from_raw_parts(at.cast::<u32>(), total as usize)
            }
            _ => &[],
        }
    }
}

/// The slot's record of the last match, when the program has one.
unsafe fn state(arena: *mut u8, slot: *mut Slot) -> *mut MatchState {
    // SAFETY: the header is mapped; the area is checked to lie inside the arena.
    unsafe {
        let at = u64::from((*arena.cast::<Header>()).last_match);
        let max = u64::from((*arena.cast::<Header>()).max_string);
        if at == 0 {
            return core::ptr::null_mut();
        }
        Arena::of(arena)
            .slot_part(slot, at, size_of::<MatchState>() as u64 + max)
            .map_or(core::ptr::null_mut(), |p| p.cast())
    }
}

/// `text =~ pattern`: 1 or 0. With an automaton that finds groups, what was found is kept in the slot.
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn matches(arena: *mut u8, slot: *mut Slot, automaton: u64, text: &[u8]) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        let Some(automaton) = Automaton::new(words(arena, automaton)) else {
            return 0;
        };
        let state = state(arena, slot);
        if automaton.tags == 0 || state.is_null() {
            return u64::from(automaton.test(text));
        }
        let found = automaton.find(text, &mut (*state).spans);
        (*state).found = u32::from(found);
        (*state).tags = automaton.tags as u32;
        if found {
            let room = ((*arena.cast::<Header>()).max_string as usize).saturating_sub(1);
            let len = text.len().min(room);
            (*state).subject.len = len as u32;
            copy_bytes(
                state.cast::<u8>().add(size_of::<MatchState>()),
                text.as_ptr(),
                len,
            );
        }
        u64::from(found)
    }
}

/// `matched(n)`. Raises an error when the last `=~` failed or has no such group.
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn matched(arena: *mut u8, slot: *mut Slot, n: i64, to: &mut Buffer) -> u64 {
    // SAFETY: the caller's promise; the subject's length is cut to its buffer, spans to the subject.
    unsafe {
        let state = state(arena, slot);
        if state.is_null() || (*state).found == 0 {
            raise::with(slot, |b| {
                b.put(b"Attempted to get subexpression ")
                    .decimal(n, 0)
                    .put(b" from failed match");
            });
            return 0;
        }
        let groups = ((*state).tags as usize / 2).min(MAX_GROUPS);
        if n < 0 || n >= groups as i64 {
            raise::with(slot, |b| {
                b.put(b"Attempted to get nonexistent subexpression ")
                    .decimal(n, 0);
            });
            return 0;
        }
        let room = ((*arena.cast::<Header>()).max_string as usize).saturating_sub(1);
        let len = ((*state).subject.len as usize).min(room);
        let subject =
            core::slice::from_raw_parts(state.cast::<u8>().add(size_of::<MatchState>()), len);
        let spans = &(*state).spans;
        let span = |at: usize| spans.get(at).copied().unwrap_or(SPECIAL);
        let (start, end) = (span(2 * n as usize), span(2 * n as usize + 1));
        if start == SPECIAL || end == SPECIAL {
            return 0;
        }
        if let Some(part) = subject.get((start as usize).min(len)..(end as usize).min(len)) {
            to.put(part);
        }
    }
    to.len()
}

/// `ngroups()`. Raises an error when the last `=~` failed.
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn groups(arena: *mut u8, slot: *mut Slot) -> i64 {
    // SAFETY: the caller's promise.
    unsafe {
        let state = state(arena, slot);
        if state.is_null() || (*state).found == 0 {
            raise::message(
                slot,
                b"Attempted to get subexpression count from failed match",
            );
            return 0;
        }
        i64::from((*state).tags / 2)
    }
}

const _: () = assert!(offset_of!(MatchState, subject) + 8 == size_of::<MatchState>());
