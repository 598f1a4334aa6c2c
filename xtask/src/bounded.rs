//! Running a program with a limit on its time.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// How long output may go on coming after the program itself has ended: a process that it
/// left behind may hold the pipe.
const OUTPUT_GRACE: Duration = Duration::from_secs(5);

/// What became of a program.
pub struct Outcome {
    /// How it ended.
    pub status: ExitStatus,
    /// It was killed because it ran longer than the limit.
    pub timed_out: bool,
    /// From before it was started until it was reaped.
    pub elapsed: Duration,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
}

impl Outcome {
    /// It ended by itself, with status 0.
    pub fn success(&self) -> bool {
        self.status.success() && !self.timed_out
    }

    /// One line that says how it failed: the first error it wrote, else the last of its lines.
    pub fn failure(&self, limit: Duration) -> String {
        if self.timed_out {
            return format!("killed after {} s", limit.as_secs());
        }
        let mut lines = self
            .stderr
            .lines()
            .chain(self.stdout.lines())
            .map(str::trim)
            .filter(|line| !line.is_empty());
        let last = lines.clone().next_back();
        let said = lines
            .find(|line| line.to_lowercase().contains("error:"))
            .or(last)
            .unwrap_or("nothing was printed");
        format!("{}: {said}", self.status)
    }
}

/// Runs `command` as the leader of a process group of its own, and kills the whole group when
/// it takes longer than `limit`.
pub fn run(command: &mut Command, limit: Duration) -> Result<Outcome> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let started = Instant::now();
    let mut child = command
        .spawn()
        .with_context(|| format!("can't start {}", command.get_program().to_string_lossy()))?;
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let group = child.id();
    let (done, ended) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        let late = ended.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout);
        if late {
            kill_group(group);
        }
        late
    });
    let status = child.wait()?;
    let elapsed = started.elapsed();
    drop(done);
    let timed_out = watchdog.join().unwrap_or(false);
    if !status.success() {
        kill_group(group);
    }
    Ok(Outcome {
        status,
        timed_out,
        elapsed,
        stdout: stdout.recv_timeout(OUTPUT_GRACE).unwrap_or_default(),
        stderr: stderr.recv_timeout(OUTPUT_GRACE).unwrap_or_default(),
    })
}

/// Kills every process of a group that is still there. The shell's own `kill` serves, because
/// a minimal Debian has no kill program.
fn kill_group(group: u32) {
    let _ = Command::new("sh")
        .args(["-c", "kill -9 -\"$1\"", "sh", &group.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<String> {
    let (send, receive) = mpsc::channel();
    if let Some(mut pipe) = pipe {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = pipe.read_to_end(&mut bytes);
            let _ = send.send(String::from_utf8_lossy(&bytes).into_owned());
        });
    }
    receive
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> Outcome {
        run(Command::new("sh").args(["-c", script]), limit).expect("sh starts")
    }

    #[test]
    fn output_and_status_are_kept() {
        let outcome = shell("echo out; echo err >&2; exit 3", Duration::from_secs(60));
        assert_eq!(outcome.stdout, "out\n");
        assert_eq!(outcome.stderr, "err\n");
        assert_eq!(outcome.status.code(), Some(3));
        assert!(!outcome.timed_out && !outcome.success());
        assert_eq!(
            outcome.failure(Duration::from_secs(60)),
            "exit status: 3: out"
        );
    }

    #[test]
    fn a_failure_is_told_by_its_first_error() {
        let limit = Duration::from_secs(60);
        let outcome = shell(
            "echo 'semantic error: this' >&2; echo 'failed' >&2; exit 1",
            limit,
        );
        assert_eq!(
            outcome.failure(limit),
            "exit status: 1: semantic error: this"
        );
    }

    #[test]
    fn a_hanging_program_and_its_children_are_killed() {
        let outcome = shell("sleep 1000 & wait", Duration::from_millis(100));
        assert!(outcome.timed_out);
        assert_eq!(outcome.status.code(), None);
    }
}
