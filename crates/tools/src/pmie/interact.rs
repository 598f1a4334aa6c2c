//! The dialogue of `pmie -d`.

use std::io::{self, BufRead, Write};

use pcp::Timestamp;
use pcp::timewindow::interval;

use super::listing;
use super::parser::Parser;
use super::run::{Engine, Verbosity};

const TITLE: &str = "Performance Co-Pilot Inference Engine (pmie), Version 6.0.3\n\n";

const HELP: &str = "\
pmie debugger commands

  f [file-name]      - load expressions from given file or stdin
  l [expr-name]      - list named expression or all expressions
  r [interval]       - run for given or default interval
  S time-spec        - set start time for run
  T time-spec        - set default interval for run command
  v [expr-name]      - print subexpression used for %h, %i and
                       %v bindings
  h or ?             - print this menu of commands
  q                  - quit

";

/// Reads and does commands until there are no more. Returns the exit status.
///
/// # Errors
/// The message for standard error.
pub fn run(engine: &mut Engine, delta: Timestamp, ids: usize) -> Result<u8, String> {
    let failed = |error: io::Error| format!("pmie: {error}\n");
    let mut ids = ids;
    print!("{TITLE}{HELP}");
    let mut input = io::stdin().lock();
    loop {
        print!("pmie> ");
        io::stdout().flush().map_err(failed)?;
        let mut line = String::new();
        if input.read_line(&mut line).map_err(failed)? == 0 {
            return Ok(0);
        }
        let mut words = line.split_whitespace();
        let Some(command) = words.next() else {
            continue;
        };
        let word = words.next();
        match command {
            "f" => match super::read(word) {
                Ok((name, text)) => {
                    let count = engine.statements.len();
                    let mut parser = Parser::new(&text, &name, delta, &mut engine.sources);
                    parser.go_on(ids, count);
                    parser.run();
                    ids = parser.identifiers();
                    let said = std::mem::take(&mut parser.said);
                    let mut more = std::mem::take(&mut parser.statements);
                    eprint!("{said}");
                    engine.statements.append(&mut more);
                }
                Err(text) => eprint!("{text}"),
            },
            "l" => {
                let mut found = false;
                for statement in &engine.statements {
                    if word.is_none_or(|w| w == statement.name) {
                        found = true;
                        println!("{}", listing::statement(statement, &engine.sources));
                    }
                }
                if let (false, Some(word)) = (found, word) {
                    println!("pmie: error - rule \"{word}\" not defined");
                }
            }
            "r" => {
                if let Some(Ok(length)) = word.map(interval) {
                    let end = engine.window.origin + length;
                    let whole = engine.window.end;
                    engine.window.end = end.min(whole);
                    engine.run();
                    engine.window.origin = end;
                    engine.window.end = whole;
                } else {
                    engine.run();
                }
            }
            "v" => engine.verbosity = Verbosity::Satisfying,
            "S" | "T" => {
                if let Some(Ok(length)) = word.map(interval) {
                    let time = engine.window.start + length;
                    if command == "S" {
                        engine.window.origin = time;
                    } else {
                        engine.window.end = time;
                    }
                }
            }
            "q" => return Ok(0),
            // Help is for those who ask, and for those who ask wrongly.
            _ => print!("{HELP}"),
        }
    }
}
