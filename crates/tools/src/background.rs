//! Tools that go on as processes of their own.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// Starts a tool again with the same words but one, as a process of its own without a terminal, and returns the exit
/// status of this one.
///
/// # Errors
/// When no process can be started.
pub fn start(tool: &str, words: &[String], without: &str) -> io::Result<u8> {
    let program = std::env::current_exe()?;
    // A prefix of a long option is the option, too.
    let is_switch = |word: &String| {
        word.len() > 3 && word.starts_with("--") && without.starts_with(word.as_str())
    };
    Command::new(program)
        .arg0("spile")
        .arg(tool)
        .args(words.iter().filter(|w| !is_switch(w)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()?;
    Ok(0)
}
