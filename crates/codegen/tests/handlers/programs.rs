//! Random well-typed programs: what compiled handlers print against what a plain tree-walking evaluator says. Both the
//! optimised and the unoptimised form of each program are run.
//!
//! `SPILE_FUZZ_PROGRAMS` says how many programs (1000 by default), `SPILE_FUZZ_SEED` where to start.

mod evaluate;
mod generate;
mod syntax;

use crate::session::{Session, program_as, small};

#[test]
fn programs_print_what_the_evaluator_says() {
    let number = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |v| v.parse().expect("a number"))
    };
    let first = number("SPILE_FUZZ_SEED", 1);
    for seed in first..first + number("SPILE_FUZZ_PROGRAMS", 1000) / 2 {
        let program = generate::program(seed);
        let text = program.text();
        let expected = evaluate::run(&program);
        for unoptimized in [true, false] {
            let mut session = Session::of(&program_as(&text, unoptimized), &small());
            session.run("begin");
            let found = session.output().text;
            assert_eq!(
                found, expected,
                "seed {seed}, unoptimized {unoptimized}:\n{text}"
            );
        }
    }
}
