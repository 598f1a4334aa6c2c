//! Build tasks: everything a developer does with Spile beyond `cargo build`.

mod bench;
mod bounded;
mod differential;
mod fuzz;
mod packages;
mod soak;
mod suite;
mod workspace;

use std::process::ExitCode;

use anyhow::{Result, bail};

const HELP: &str = "\
Usage: cargo xtask COMMAND

  setup                      install the Debian packages that the tests need
  test [FILTER]              run every check and test; with FILTER only the tests
                             whose package::binary::name contains it
  bench [OPTIONS]            measure Spile beside its peers, write docs/benchmarks.md
      --runs N               repetitions, of which medians are taken (5)
      --only WORD[,WORD...]  only contenders whose name contains a WORD
      --threads N[,N...]     thread counts (1,2,4)
      --output FILE          write the report there
  bench debug-file [F FUNC]  measure how names are found in a large debug file (of 500 MB and more)
  fuzz [TARGET] [SECONDS]    run one fuzz target, or each in turn (60 seconds each)
  fuzz differential [N]      run N random programs compiled and interpreted (100000)
  soak [CYCLES]              attach to a busy program and detach, CYCLES times (10000),
                             and kill tracers and programs at random moments
  help                       this text
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match run(&words) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[String]) -> Result<ExitCode> {
    let (command, rest) = match words.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("help", words),
    };
    match command {
        "setup" => {
            if let Some(word) = rest.first() {
                bail!("setup takes no argument, got '{word}'");
            }
            packages::ensure(packages::FOR_TESTS)?;
            println!("everything the tests need is installed");
            Ok(ExitCode::SUCCESS)
        }
        "test" => {
            if let Some(word) = rest.get(1) {
                bail!("test takes one FILTER, got also '{word}'");
            }
            suite::run(rest.first().map(String::as_str))
        }
        "bench" => bench::run(rest),
        "fuzz" => match rest.split_first() {
            Some((word, rest)) if word == "differential" => differential::run(rest),
            _ => fuzz::run(rest),
        },
        "soak" => soak::run(rest),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        other => {
            eprint!("{HELP}");
            bail!("no command '{other}'")
        }
    }
}
