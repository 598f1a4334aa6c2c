//! How deep a program's functions call one another, which decides MAXNESTING where `-D` does not.

use crate::walk::{self, Visitor};
use script::ir::{Expr, ExprKind, FunctionId, Program};

/// Slots that stap adds for recursion (stap(1), MAXNESTING).
const BONUS: usize = 10;
/// MAXNESTING of a program without recursion, at least: it can't be exceeded.
const LEAST: usize = 10;
/// MAXNESTING without `-D`, at most: each level takes memory of every thread.
const MOST: usize = 1000;
/// Calls that are followed. A program with more ways through its functions gets a slot for each function.
const MOST_STEPS: u32 = 20_000;

/// What is known of a program's calls.
#[derive(Debug, Default)]
pub(crate) struct Nesting {
    /// By function: it, or something that it calls, calls itself.
    recursive: Vec<bool>,
    /// Function calls within one another, at most.
    pub limit: u32,
}

impl Nesting {
    /// Looks at all functions; `given` is the MAXNESTING that was asked for.
    pub fn new(program: &Program, given: Option<u32>) -> Nesting {
        let calls: Vec<Vec<usize>> = program
            .functions
            .iter()
            .map(|f| {
                let mut found = Calls(program, Vec::new());
                walk::walk_stmts(&mut found, &f.body.stmts);
                found.1.sort_unstable();
                found.1.dedup();
                found.1
            })
            .collect();
        let recursive = recursive(&calls);
        let mut chain = Chain {
            calls: &calls,
            inside: vec![false; calls.len()],
            most: 0,
            steps: MOST_STEPS,
        };
        (0..calls.len()).for_each(|f| chain.follow(f, 0));
        let deepest = match chain.steps {
            0 => calls.len(),
            _ => chain.most,
        };
        // One more for the probe's own call.
        let limit = match recursive.contains(&true) {
            true => deepest + 1 + BONUS,
            // Overloads that say `next` are called within one another here.
            false => {
                let overloads = program.functions.iter().filter(|f| f.next.is_some());
                (deepest + 1 + overloads.count()).max(LEAST)
            }
        };
        Nesting {
            recursive,
            limit: given.unwrap_or(limit.min(MOST) as u32),
        }
    }

    /// True where a call has to be counted: its depth has no other bound.
    pub fn is_recursive(&self, id: FunctionId) -> bool {
        self.recursive.get(id.0 as usize).is_some_and(|&r| r)
    }
}

/// The functions that a body calls, with the overloads that may be tried.
struct Calls<'p>(&'p Program, Vec<usize>);

impl<'p> Visitor<'p> for Calls<'p> {
    fn expr(&mut self, expr: &'p Expr, _used: bool) {
        if let ExprKind::Call(id, _) = &expr.kind {
            let mut next = Some(*id);
            for _ in 0..self.0.functions.len() {
                let Some(id) = next else { break };
                self.1.push(id.0 as usize);
                next = self.0.functions.get(id.0 as usize).and_then(|f| f.next);
            }
        }
        walk::walk_expr(self, expr);
    }
}

/// What is left when functions that call nothing that is left are taken away, again and again.
fn recursive(calls: &[Vec<usize>]) -> Vec<bool> {
    let mut callers = vec![Vec::new(); calls.len()];
    let mut open: Vec<usize> = calls.iter().map(Vec::len).collect();
    for (caller, callees) in calls.iter().enumerate() {
        for &callee in callees {
            if let Some(list) = callers.get_mut(callee) {
                list.push(caller);
            }
        }
    }
    let mut left = vec![true; calls.len()];
    let mut done: Vec<usize> = (0..calls.len()).filter(|&f| open[f] == 0).collect();
    while let Some(f) = done.pop() {
        left[f] = false;
        for &caller in &callers[f] {
            open[caller] -= 1;
            if open[caller] == 0 {
                done.push(caller);
            }
        }
    }
    left
}

/// stap's search for the longest chain of calls: a function that is in the chain already ends it.
struct Chain<'a> {
    calls: &'a [Vec<usize>],
    inside: Vec<bool>,
    most: usize,
    steps: u32,
}

impl Chain<'_> {
    fn follow(&mut self, function: usize, depth: usize) {
        let calls = self.calls;
        for &callee in calls.get(function).into_iter().flatten() {
            if self.steps == 0 || self.inside.get(callee).is_none_or(|&inside| inside) {
                continue;
            }
            self.steps -= 1;
            self.most = self.most.max(depth + 1);
            self.inside[callee] = true;
            self.follow(callee, depth + 1);
            self.inside[callee] = false;
        }
    }
}
