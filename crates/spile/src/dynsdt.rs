//! `spile dynsdt COMMAND…`: every SDT mark that a program hits, with provider, name and arguments.

use clap::Parser;
use script::colors::Colors;
use script::compile::{CompileOptions, compile};
use script::messages;
use script::span::{SourceFile, SourceMap};
use session::{Options, Target};
use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::process::ExitCode;

const SCRIPT: &str = r#"
probe process.mark("*")?, process.library("*").mark("*")? {
  printf("%s:%s %s\n", $$provider, $$name, $$vars)
}
"#;

/// Runs COMMAND and prints every SDT mark that it and its libraries hit.
#[derive(Parser, Debug)]
#[command(name = "dynsdt")]
struct Arguments {
    /// Write to FILE instead of standard output
    #[arg(short = 'o', value_name = "FILE")]
    output: Option<PathBuf>,
    /// The program and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    command: Vec<OsString>,
}

/// Runs the command; `args[0]` is the name it was called by.
pub fn main(args: &[OsString]) -> ExitCode {
    let arguments = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Output may be a closed pipe, in which case there is nobody to tell.
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    let mut sources = SourceMap::default();
    let id = sources.add(SourceFile {
        name: "<dynsdt>".into(),
        text: SCRIPT.into(),
        is_tapset: false,
    });
    let compilation = compile(
        sources,
        &[id],
        &CompileOptions {
            last_pass: 5,
            ..CompileOptions::default()
        },
    );
    let color = Colors::from(std::io::stderr().is_terminal());
    let Some(program) = compilation.program.as_ref() else {
        eprint!(
            "{}",
            messages::render(&compilation.diagnostics, &compilation.sources, false, color)
        );
        return ExitCode::from(1);
    };
    let words = arguments
        .command
        .into_iter()
        .map(OsStringExt::into_vec)
        .collect();
    let options = Options {
        target: Target::Command(words),
        output: arguments.output,
        color,
        ..Options::default()
    };
    match session::run(program, &options) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("ERROR: {error}");
            ExitCode::from(1)
        }
    }
}
