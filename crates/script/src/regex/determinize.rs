//! Trees to automata: a program of byte steps and forks, whose threads are followed all at once, the preferred first.
//! What is in a state is the ordered list of threads, each with the registers that hold its boundaries.

use std::collections::HashMap;

use super::automaton::MATCHED;
use super::parse::{Node, Pattern, Set};
use super::{Automaton, MAX_REGISTERS, NONE, POSITION, RegexError};

/// Most instructions of a program.
const MAX_PROGRAM: usize = 20_000;
/// Most words of an automaton.
const MAX_WORDS: usize = 1 << 20;

/// An instruction.
enum Step {
    /// One byte of the set with that number, then the next instruction.
    Byte(usize),
    /// Only at the start of the text.
    Start,
    /// The end of the text.
    End,
    /// Both; the first is preferred.
    Fork(usize, usize),
    Jump(usize),
    /// A boundary.
    Tag(usize),
    Match,
}

#[derive(Default)]
struct Program {
    steps: Vec<Step>,
    sets: Vec<Set>,
}

impl Program {
    fn push(&mut self, step: Step) -> Result<usize, RegexError> {
        if self.steps.len() >= MAX_PROGRAM {
            return Err(too_complex());
        }
        self.steps.push(step);
        Ok(self.steps.len() - 1)
    }

    fn set(&mut self, set: &Set) -> usize {
        match self.sets.iter().position(|s| s == set) {
            Some(at) => at,
            None => {
                self.sets.push(*set);
                self.sets.len() - 1
            }
        }
    }

    fn node(&mut self, node: &Node, captures: bool) -> Result<(), RegexError> {
        match node {
            Node::Empty => {}
            Node::Set(set) => {
                let set = self.set(set);
                self.push(Step::Byte(set))?;
            }
            Node::Start => {
                self.push(Step::Start)?;
            }
            Node::End => {
                self.push(Step::End)?;
            }
            Node::Group(n, inner) => {
                if captures {
                    self.push(Step::Tag(2 * n))?;
                }
                self.node(inner, captures)?;
                if captures {
                    self.push(Step::Tag(2 * n + 1))?;
                }
            }
            Node::Concat(all) => {
                for n in all {
                    self.node(n, captures)?;
                }
            }
            Node::Alternatives(all) => {
                let mut ends = Vec::new();
                for (i, n) in all.iter().enumerate() {
                    if i + 1 == all.len() {
                        self.node(n, captures)?;
                        break;
                    }
                    let fork = self.push(Step::Fork(0, 0))?;
                    self.node(n, captures)?;
                    ends.push(self.push(Step::Jump(0))?);
                    self.steps[fork] = Step::Fork(fork + 1, self.steps.len());
                }
                for end in ends {
                    self.steps[end] = Step::Jump(self.steps.len());
                }
            }
            // Fewer at most than at least: never.
            Node::Repeat(_, least, Some(most)) if most < least => {
                let nothing = self.set(&[false; 256]);
                self.push(Step::Byte(nothing))?;
            }
            Node::Repeat(inner, least, most) => {
                let unbounded = most.is_none();
                // `x+` enters its body before it may leave: the last of the needed ones is the one to go back to.
                let needed = if unbounded && *least > 0 {
                    least - 1
                } else {
                    *least
                };
                for _ in 0..needed {
                    self.node(inner, captures)?;
                }
                if unbounded && *least > 0 {
                    let body = self.steps.len();
                    self.node(inner, captures)?;
                    let fork = self.push(Step::Fork(body, 0))?;
                    self.steps[fork] = Step::Fork(body, fork + 1);
                } else if unbounded {
                    let fork = self.push(Step::Fork(0, 0))?;
                    self.node(inner, captures)?;
                    self.push(Step::Jump(fork))?;
                    self.steps[fork] = Step::Fork(fork + 1, self.steps.len());
                } else {
                    let mut forks = Vec::new();
                    for _ in *least..most.unwrap_or(*least) {
                        forks.push(self.push(Step::Fork(0, 0))?);
                        self.node(inner, captures)?;
                    }
                    for fork in forks {
                        self.steps[fork] = Step::Fork(fork + 1, self.steps.len());
                    }
                }
            }
        }
        Ok(())
    }
}

/// A thread: its instruction (one that reads, or the match) and its boundaries' registers.
type Thread = (usize, Vec<u32>);

/// Compiles a tree; see [`super::compile`].
pub fn determinize(pattern: &Pattern, captures: bool) -> Result<Automaton, RegexError> {
    let mut program = Program::default();
    // The search: from each place on, the earlier ones first.
    let any = program.set(&[true; 256]);
    program.push(Step::Fork(3, 1))?;
    program.push(Step::Byte(any))?;
    program.push(Step::Jump(0))?;
    if captures {
        program.push(Step::Tag(0))?;
    }
    program.node(&pattern.root, captures)?;
    if captures {
        program.push(Step::Tag(1))?;
    }
    program.push(Step::Match)?;

    let (class_of, samples) = classes(&program.sets);
    let tags = if captures { 2 * pattern.groups } else { 0 };
    let mut build = Build {
        visited: vec![0; program.steps.len()],
        round: 0,
        program,
        tags,
    };
    let mut automaton = Automaton {
        states: 0,
        class_of,
        classes: samples.len() as u32 + 1,
        tags: tags as u32,
        next: Vec::new(),
        moves_at: Vec::new(),
        accept_at: Vec::new(),
        moves: vec![0],
    };
    let mut start = build.closure(vec![(0, vec![NONE; tags])], true);
    build.canonical(&mut start)?;
    let mut numbers: HashMap<Vec<Thread>, u32> = HashMap::new();
    let mut moves: HashMap<Vec<u32>, u32> = HashMap::new();
    numbers.insert(start.clone(), 0);
    let mut states = vec![start];
    let mut at = 0;
    while at < states.len() {
        let state = states[at].clone();
        at += 1;
        let accept = build.accepting(&state).map(|t| t.1.clone());
        automaton.accept_at.push(match accept {
            None => 0,
            Some(registers) => {
                let at = automaton.moves.len() as u32;
                automaton.moves.extend(registers);
                at + 1
            }
        });
        for class in 0..=samples.len() {
            let byte = samples.get(class).copied();
            let mut next = build.step(&state, byte);
            if next.is_empty() {
                automaton.next.push(0);
                automaton.moves_at.push(0);
                continue;
            }
            if !captures && build.accepting(&next).is_some() {
                automaton.next.push(MATCHED);
                automaton.moves_at.push(0);
                continue;
            }
            let sources = build.canonical(&mut next)?;
            let number = match numbers.get(&next) {
                Some(&n) => n,
                None => {
                    let n = states.len() as u32;
                    numbers.insert(next.clone(), n);
                    states.push(next);
                    n
                }
            };
            automaton.next.push(number + 1);
            let stay = sources.iter().enumerate().all(|(i, &s)| s == i as u32);
            automaton.moves_at.push(if stay {
                0
            } else {
                *moves.entry(sources).or_insert_with_key(|sources| {
                    let at = automaton.moves.len() as u32;
                    automaton.moves.push(sources.len() as u32);
                    automaton.moves.extend(sources);
                    at
                })
            });
        }
        if 2 * automaton.next.len() + automaton.moves.len() > MAX_WORDS {
            return Err(too_complex());
        }
    }
    automaton.states = states.len() as u32;
    Ok(automaton)
}

fn too_complex() -> RegexError {
    RegexError::Pattern("pattern is too complex".into())
}

/// Bytes that no set tells apart have one class; with an example of each.
fn classes(sets: &[Set]) -> (Box<[u8; 256]>, Vec<u8>) {
    let mut known: HashMap<Vec<bool>, u8> = HashMap::new();
    let mut class_of = Box::new([0; 256]);
    let mut samples = Vec::new();
    for byte in 0..=255u8 {
        let signature: Vec<bool> = sets.iter().map(|s| s[byte as usize]).collect();
        let class = *known.entry(signature).or_insert_with(|| {
            samples.push(byte);
            (samples.len() - 1) as u8
        });
        class_of[byte as usize] = class;
    }
    (class_of, samples)
}

struct Build {
    program: Program,
    tags: usize,
    visited: Vec<u32>,
    round: u32,
}

impl Build {
    fn accepting<'t>(&self, threads: &'t [Thread]) -> Option<&'t Thread> {
        threads
            .iter()
            .find(|t| matches!(self.program.steps[t.0], Step::Match))
    }

    /// The threads after a byte, or after the end of the text.
    fn step(&mut self, state: &[Thread], byte: Option<u8>) -> Vec<Thread> {
        let moved = state
            .iter()
            .filter(|(pc, _)| match (&self.program.steps[*pc], byte) {
                (Step::Byte(set), Some(b)) => self.program.sets[*set][b as usize],
                (Step::End, None) => true,
                _ => false,
            })
            .map(|(pc, registers)| (pc + 1, registers.clone()))
            .collect();
        self.closure(moved, false)
    }

    /// Follows forks and boundaries, the preferred branch first; a place that a preferred thread has reached is not
    /// entered again. Threads that begin later than a match are dropped.
    fn closure(&mut self, threads: Vec<Thread>, at_start: bool) -> Vec<Thread> {
        self.round += 1;
        let mut out: Vec<Thread> = Vec::new();
        let mut stack: Vec<Thread> = threads.into_iter().rev().collect();
        while let Some((pc, mut registers)) = stack.pop() {
            if self.visited[pc] == self.round {
                continue;
            }
            self.visited[pc] = self.round;
            match self.program.steps[pc] {
                Step::Byte(_) | Step::End | Step::Match => out.push((pc, registers)),
                Step::Start => {
                    if at_start {
                        stack.push((pc + 1, registers));
                    }
                }
                Step::Jump(to) => stack.push((to, registers)),
                Step::Fork(first, second) => {
                    stack.push((second, registers.clone()));
                    stack.push((first, registers));
                }
                Step::Tag(n) => {
                    if let Some(r) = registers.get_mut(n) {
                        *r = POSITION - 1;
                    }
                    stack.push((pc + 1, registers));
                }
            }
        }
        if self.tags > 0
            && let Some(at) = out
                .iter()
                .position(|t| matches!(self.program.steps[t.0], Step::Match))
        {
            let start = out[at].1[0];
            let mut n = 0;
            out.retain(|t| {
                n += 1;
                n <= at + 1 || t.1[0] == start
            });
        }
        out
    }

    /// Numbers the registers in the order in which they appear; gives the source of each.
    fn canonical(&self, threads: &mut [Thread]) -> Result<Vec<u32>, RegexError> {
        let mut sources = Vec::new();
        for (_, registers) in threads {
            for r in registers.iter_mut().filter(|r| **r != NONE) {
                let source = if *r == POSITION - 1 { POSITION } else { *r };
                *r = match sources.iter().position(|&s| s == source) {
                    Some(at) => at as u32,
                    None => {
                        sources.push(source);
                        sources.len() as u32 - 1
                    }
                };
            }
        }
        if sources.len() > MAX_REGISTERS {
            return Err(too_complex());
        }
        Ok(sources)
    }
}
