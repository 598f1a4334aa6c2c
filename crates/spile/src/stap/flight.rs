//! `-F`, the flight recorder: the session goes on in the background, and what it printed last waits to be read, in files
//! of a bounded size that stand in memory.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Set for the process in the background, which is the session itself.
const MARK: &str = "SPILE_FLIGHT_RECORDER";

/// Megabytes of a file, and how many are kept, where no file is named.
const DEFAULT_ROTATION: &str = "1,2";

/// Whether this process is the one in the background.
pub fn is_recorder() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Starts the session again in the background, with the words of this command line, and says how to reach it. Without
/// `-o` it writes to small files that are written over in turn.
pub fn start(output: Option<&PathBuf>, rotates: bool) -> Result<String, String> {
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let called = std::env::args_os().next().map(PathBuf::from);
    let as_stap = called.is_some_and(|c| c.file_name().is_some_and(|n| n == "stap"));
    if as_stap {
        words.insert(0, "stap".into());
    }
    let mut place = output.cloned();
    if place.is_none() {
        let directory = directory();
        std::fs::create_dir_all(&directory).map_err(|e| format!("{}: {e}", directory.display()))?;
        let file = directory.join(format!("stap_{}", std::process::id()));
        // Behind the command's name, so that the script's own arguments stay last.
        let mut more: Vec<OsString> = vec!["-o".into(), file.clone().into()];
        if !rotates {
            more.extend(["-S".into(), DEFAULT_ROTATION.into()]);
        }
        words.splice(1..1, more);
        place = Some(file);
    }
    let place = place.unwrap_or_default();
    let child = Command::new(program)
        .args(&words)
        .env(MARK, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Ctrl-C at the terminal is not meant for it.
        .process_group(0)
        .spawn()
        .map_err(|e| e.to_string())?;
    let pid = child.id();
    Ok(match output {
        Some(_) => format!("{pid}\n"),
        None => format!(
            "The session goes on in the background as process {pid}.\nTo read what it has: cat {}.*\nTo stop it:          kill -INT {pid}\n",
            place.display()
        ),
    })
}

/// Where recorders without `-o` write: file systems in memory, where there are any.
fn directory() -> PathBuf {
    if let Some(directory) = std::env::var_os("XDG_RUNTIME_DIR") {
        return PathBuf::from(directory).join("spile");
    }
    let memory = PathBuf::from("/dev/shm");
    let place = match memory.is_dir() {
        true => memory,
        false => std::env::temp_dir(),
    };
    place.join(format!(
        "spile-flight-{}",
        rustix::process::getuid().as_raw()
    ))
}
