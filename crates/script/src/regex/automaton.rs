//! The automaton: a table of states over classes of bytes. States of an automaton with captures move the positions
//! in registers on the way; since a transition names every register of its target, nothing else is remembered.

/// A register's source: the position behind the byte just read.
pub const POSITION: u32 = u32::MAX;

/// A boundary of a group that took no part in the match.
pub const NONE: u32 = u32::MAX;

/// A transition to this state ends the search: there is a match (only without captures).
pub const MATCHED: u32 = u32::MAX;

/// A compiled pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Automaton {
    /// Number of states. The first one is where matching begins, all registers 0.
    pub states: u32,
    /// Class of each byte.
    pub class_of: Box<[u8; 256]>,
    /// Number of classes; the last one is the end of the text.
    pub classes: u32,
    /// Number of group boundaries: twice the groups, or 0 without captures.
    pub tags: u32,
    /// `states * classes` transitions: the next state plus one, 0 for none, or [`MATCHED`].
    pub next: Vec<u32>,
    /// For each transition 0 (registers stay), or the index in `moves` of their number and their sources (registers
    /// of the state that is left, or [`POSITION`]).
    pub moves_at: Vec<u32>,
    /// For each state 0, or the index in `moves` of the registers that hold the groups' boundaries if the text ends in
    /// a match here ([`NONE`] for a boundary without one), plus one.
    pub accept_at: Vec<u32>,
    /// See `moves_at` and `accept_at`. The first word is unused.
    pub moves: Vec<u32>,
}

impl Automaton {
    /// As the run time reads it: words in the machine's order. Head: states, classes, tags, then where in words the
    /// parts `next`, `moves_at`, `accept_at`, `moves` begin, the number of words in all, and the 256 bytes of
    /// `class_of`.
    pub fn words(&self) -> Vec<u32> {
        let head = 8 + 64;
        let next_at = head;
        let moves_at = next_at + self.next.len();
        let accept_at = moves_at + self.moves_at.len();
        let moves = accept_at + self.accept_at.len();
        let total = moves + self.moves.len();
        let mut words = vec![self.states, self.classes, self.tags];
        words.extend([next_at, moves_at, accept_at, moves, total].map(|at| at as u32));
        words.extend(
            self.class_of
                .chunks_exact(4)
                .map(|c| u32::from_ne_bytes([c[0], c[1], c[2], c[3]])),
        );
        for part in [&self.next, &self.moves_at, &self.accept_at, &self.moves] {
            words.extend_from_slice(part);
        }
        words
    }
}
