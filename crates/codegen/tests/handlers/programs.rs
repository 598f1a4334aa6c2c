//! Random well-typed programs: what compiled handlers print against what a plain tree-walking evaluator says. Of about a
//! quarter the unoptimised form is run, too.
//!
//! `SPILE_FUZZ_PROGRAMS` says how many programs (500 by default), `SPILE_FUZZ_SEED` where to start. Setting up a session
//! takes longer than to compile a program, so most share a script with others.

mod evaluate;
mod generate;
mod syntax;

use std::sync::Mutex;
use std::time::Instant;

use codegen::Limits;

use crate::session::{Session, program_as, small};

/// How many programs a script has. What is left out of a script for being unused differs with what else is there.
const SIZES: [u64; 4] = [1, 2, 5, 56];

#[test]
fn programs_print_what_the_evaluator_says() {
    let number = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |v| v.parse().expect("a number"))
    };
    let first = number("SPILE_FUZZ_SEED", 1);
    let end = first + number("SPILE_FUZZ_PROGRAMS", 500);
    let next = Mutex::new(first);
    let started = Instant::now();
    let take = |sizes: &mut dyn Iterator<Item = &u64>| {
        let mut next = next.lock().unwrap_or_else(|e| e.into_inner());
        let seeds = *next..end.min(*next + sizes.next().expect("an endless iterator"));
        if (seeds.start - first) / 100_000 != (seeds.end - first) / 100_000 {
            let count = seeds.end - first;
            println!("{count} programs in {} s", started.elapsed().as_secs());
        }
        *next = seeds.end;
        (!seeds.is_empty()).then_some(seeds)
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut sizes = SIZES.iter().cycle();
                while let Some(seeds) = take(&mut sizes) {
                    check(seeds);
                }
            });
        }
    });
}

/// Runs the programs of these seeds, in one script.
fn check(seeds: std::ops::Range<u64>) {
    let programs: Vec<_> = seeds.clone().map(generate::program).collect();
    let expected: Vec<String> = programs.iter().map(evaluate::run).collect();
    let text = syntax::batch(&programs);
    // What is folded and dropped depends on more of the compiler than what is left as it is.
    let forms: &[bool] = match seeds.start % 4 {
        0 => &[true, false],
        _ => &[false],
    };
    for &unoptimized in forms {
        let found = run(&text, unoptimized);
        let mut found: Vec<&str> = found.split(syntax::SEPARATOR).skip(1).collect();
        found.resize(programs.len(), "nothing");
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            if found == expected {
                continue;
            }
            let alone = syntax::batch(&programs[i..=i]);
            let again = run(&alone, unoptimized);
            let same = again.strip_prefix(syntax::SEPARATOR) == Some(found);
            panic!(
                "seed {}, unoptimized {unoptimized}, the same when alone: {same}:\n{alone}\nfound:\n{found}\nexpected:\n{expected}",
                seeds.start + i as u64
            );
        }
    }
}

/// What a script's begin probes print.
fn run(text: &str, unoptimized: bool) -> String {
    let limits = Limits {
        ring_size: 1 << 22,
        max_action_interruptible: 10_000_000,
        ..small()
    };
    let mut session = Session::of(&program_as(text, unoptimized), &limits);
    session.run("begin");
    session.output().text
}
