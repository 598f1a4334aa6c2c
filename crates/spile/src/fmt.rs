//! `spile fmt`: lays out SystemTap scripts.

use clap::Parser;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Lays out SystemTap scripts in one style; only white space changes.
#[derive(Parser, Debug)]
#[command(name = "spile fmt")]
struct Arguments {
    /// Change no file; name those that would change, and end with status 1 if there are any
    #[arg(long)]
    check: bool,
    /// The scripts; none or - for standard input, whose layout goes to standard output
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
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
    let mut files = arguments.files;
    if files.is_empty() {
        files.push(PathBuf::from("-"));
    }
    let mut status = 0;
    for file in &files {
        match format_file(file, arguments.check) {
            Ok(false) => {}
            Ok(true) => status = 1,
            Err(error) => {
                eprintln!("{}", error.trim_end());
                status = 1;
            }
        }
    }
    ExitCode::from(status)
}

/// Formats one file; true when `check` found that it would change.
fn format_file(file: &Path, check: bool) -> Result<bool, String> {
    let is_input = file == Path::new("-");
    let name = if is_input {
        "<input>".to_owned()
    } else {
        file.display().to_string()
    };
    let failed = |error: io::Error| format!("ERROR: {name}: {error}");
    let mut bytes = Vec::new();
    if is_input {
        io::stdin().read_to_end(&mut bytes).map_err(failed)?;
    } else {
        bytes = std::fs::read(file).map_err(failed)?;
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| format!("ERROR: {name}: the script is not UTF-8; it was left as it is"))?;
    let formatted = formatter::format(&name, &text).map_err(|error| error.to_string())?;
    if check {
        if formatted != text {
            println!("{name}");
        }
        return Ok(formatted != text);
    }
    if is_input {
        io::stdout()
            .write_all(formatted.as_bytes())
            .map_err(failed)?;
    } else if formatted != text {
        replace(file, &formatted).map_err(failed)?;
    }
    Ok(false)
}

/// Writes beside the file and renames, so that no moment has half a script.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    // What a link leads to is replaced, not the link.
    let file = file.canonicalize()?;
    let permissions = std::fs::metadata(&file)?.permissions();
    let mut beside = file.clone().into_os_string();
    beside.push(format!(".{}.tmp", std::process::id()));
    let written = std::fs::write(&beside, text)
        .and_then(|()| std::fs::set_permissions(&beside, permissions))
        .and_then(|()| std::fs::rename(&beside, &file));
    if written.is_err() {
        // The first failure is the one to report.
        let _ = std::fs::remove_file(&beside);
    }
    written
}
