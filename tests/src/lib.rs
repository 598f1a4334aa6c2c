//! What the end-to-end tests in `tests/tests` share: running `spile` with a limit, and making targets to run it on.

pub mod pcp_peer;
pub mod terminal;

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Longest time that one command of a test may take.
pub const LIMIT: Duration = Duration::from_secs(100);

/// The executable under test: `$SPILE`, or the release build of this workspace.
///
/// # Panics
/// When it is not there.
pub fn spile_path() -> PathBuf {
    if let Some(path) = std::env::var_os("SPILE") {
        return path.into();
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
        PathBuf::from,
    );
    let path = target.join("release/spile");
    assert!(
        path.exists(),
        "{} is missing: run `cargo build --release` first, or `cargo xtask test`",
        path.display()
    );
    path.canonicalize().unwrap_or(path)
}

/// What a command did.
#[derive(Debug)]
pub struct Outcome {
    /// Exit status; `None` when a signal ended it.
    pub status: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Outcome {
    /// The outcome, when the status is 0.
    ///
    /// # Panics
    /// With everything the command said, otherwise.
    pub fn ok(self) -> Outcome {
        assert_eq!(
            self.status,
            Some(0),
            "stdout:\n{}\nstderr:\n{}",
            self.stdout,
            self.stderr
        );
        self
    }
}

/// `spile stap` with these arguments.
pub fn stap(args: &[&str]) -> Outcome {
    let mut command = Command::new(spile_path());
    command.arg("stap").args(args);
    run(command)
}

/// Runs a command to its end, which must come within [`LIMIT`].
///
/// # Panics
/// When it can't be started or does not end.
pub fn run(mut command: Command) -> Outcome {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command
        .spawn()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    finish(child, &format!("{command:?}"))
}

/// Waits for a child whose output is piped.
///
/// # Panics
/// When it does not end within [`LIMIT`].
pub fn finish(mut child: Child, what: &str) -> Outcome {
    let out = reader(child.stdout.take());
    let err = reader(child.stderr.take());
    let pid = child.id();
    let (ended, wait) = std::sync::mpsc::channel();
    let watchdog = std::thread::spawn(move || {
        if wait.recv_timeout(LIMIT).is_err() {
            // The child hangs: end it, so that the test can say so.
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
            return true;
        }
        false
    });
    let status = child.wait().expect("wait for a child");
    // The watchdog may have given up already.
    let _ = ended.send(());
    let stdout = out.join().unwrap_or_default();
    let stderr = err.join().unwrap_or_default();
    let hung = watchdog.join().unwrap_or(true);
    assert!(
        !hung,
        "{what} did not end within {LIMIT:?}\nstdout:\n{stdout}\nstderr:\n{stderr}"
    );
    Outcome {
        status: status.code(),
        stdout,
        stderr,
    }
}

fn reader(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read before an error is what there is to show.
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// A process that is killed when the test ends, however it ends.
pub struct Guard(pub Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a command whose output is read while it runs.
///
/// # Panics
/// When it can't be started.
pub fn spawn(command: &mut Command) -> (Guard, BufReader<ChildStdout>) {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let stdout = child.stdout.take().map(BufReader::new).expect("a pipe");
    (Guard(child), stdout)
}

/// The next line, without its end; empty at the end of the output.
///
/// # Panics
/// When it can't be read.
pub fn line(reader: &mut impl BufRead) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).expect("a line");
    line.trim().to_string()
}

/// A directory of this test's own, readable by everybody, removed at the end.
pub struct Scratch(PathBuf);

impl Scratch {
    /// A new directory.
    ///
    /// # Panics
    /// When it can't be made.
    pub fn new(name: &str) -> Scratch {
        use std::os::unix::fs::PermissionsExt;
        let path = std::env::temp_dir().join(format!("spile-test-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let all = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(&path, all).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Scratch(path)
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file in it.
    ///
    /// # Panics
    /// When that fails.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        path
    }

    /// Compiles a C or (by the file's name) C++ program in it.
    ///
    /// # Panics
    /// When the compiler is missing or refuses.
    pub fn compile(&self, source_name: &str, source: &str, flags: &[&str]) -> PathBuf {
        let source = self.write(source_name, source);
        let program = source.with_extension("");
        let compiler = if source_name.ends_with(".cc") {
            "c++"
        } else {
            "cc"
        };
        let output: Output = Command::new(compiler)
            .args(["-o".as_ref(), program.as_os_str(), source.as_os_str()])
            .args(flags)
            .output()
            .unwrap_or_else(|e| panic!("{compiler} is needed (`cargo xtask setup`): {e}"));
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        program
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left over in the temporary directory does no harm.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Panics with the way out unless the program is installed.
pub fn need(program: &str) {
    assert!(
        Path::new(program).exists(),
        "{program} is needed for this test: run `cargo xtask setup`"
    );
}

/// Looks again and again until the condition holds.
///
/// # Panics
/// When it does not within [`LIMIT`].
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::yield_now();
    }
}

/// True when this test runs as root.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0)
}

/// SDT notes in inline assembly, so that targets need no header: `MARK0(p, n)`, `MARK1(p, n, a)`, `MARK2(p, n, a, b)`.
pub const SDT_MACROS: &str = r#"
#define SDT_NOTE(provider, name, args) \
  "990: nop\n" \
  ".pushsection .note.stapsdt,\"\",\"note\"\n" \
  ".balign 4\n .4byte 992f-991f, 994f-993f, 3\n" \
  "991: .asciz \"stapsdt\"\n 992: .balign 4\n" \
  "993: .8byte 990b\n .8byte _.stapsdt.base\n .8byte 0\n" \
  ".asciz \"" #provider "\"\n .asciz \"" #name "\"\n .asciz \"" args "\"\n" \
  "994: .balign 4\n .popsection\n" \
  ".ifndef _.stapsdt.base\n .pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n" \
  ".weak _.stapsdt.base\n .hidden _.stapsdt.base\n _.stapsdt.base: .space 1\n" \
  ".size _.stapsdt.base, 1\n .popsection\n .endif\n"
#define MARK0(provider, name) __asm__ volatile(SDT_NOTE(provider, name, ""))
#define MARK1(provider, name, a) __asm__ volatile(SDT_NOTE(provider, name, "-8@%0") :: "nor"((long)(a)))
#define MARK2(provider, name, a, b) __asm__ volatile(SDT_NOTE(provider, name, "-8@%0 -8@%1") :: "nor"((long)(a)), "nor"((long)(b)))
"#;
