//! Who is measured: how each contender is prepared and run once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::probe::{Loop, Probe};
use crate::bounded;
use crate::workspace;

/// One run of one contender with one probe.
const RUN_LIMIT: Duration = Duration::from_secs(60);
/// How often the session daemon is asked whether it answers yet, a tenth of a second apart.
const DAEMON_TRIES: u32 = 100;

/// Who puts the probe in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Contender {
    /// Nobody.
    Unprobed,
    /// This project.
    Spile,
    /// The kernel's uprobes, through bpftrace.
    Bpftrace,
    /// LTTng's tracepoint, compiled into the target.
    Lttng,
    /// uftrace's dynamic patching, which records entry and exit.
    Uftrace,
    /// Frida's Interceptor with JavaScript.
    FridaJavaScript,
    /// Frida's Interceptor with a CModule.
    FridaC,
    /// strace, which stops the target at each system call and counts them.
    Strace,
}

impl Contender {
    /// In the order of the report.
    pub const ALL: [Self; 8] = [
        Self::Unprobed,
        Self::Spile,
        Self::Bpftrace,
        Self::Lttng,
        Self::Uftrace,
        Self::FridaJavaScript,
        Self::FridaC,
        Self::Strace,
    ];

    /// The head of its column.
    pub fn title(self) -> &'static str {
        match self {
            Self::Unprobed => "unprobed",
            Self::Spile => "spile",
            Self::Bpftrace => "uprobe, bpftrace",
            Self::Lttng => "LTTng-ust",
            Self::Uftrace => "uftrace",
            Self::FridaJavaScript => "Frida, JavaScript",
            Self::FridaC => "Frida, CModule",
            Self::Strace => "strace",
        }
    }

    /// Whether it has something equivalent or near.
    pub fn can(self, probe: Probe) -> bool {
        match self {
            Self::Unprobed | Self::Spile => true,
            Self::Bpftrace => !matches!(probe, Probe::Elsewhere | Probe::Text | Probe::Regex),
            Self::Lttng => matches!(probe, Probe::Print | Probe::Mark),
            Self::Uftrace => matches!(probe, Probe::Print | Probe::Return),
            Self::FridaJavaScript | Self::FridaC => probe.frida().is_some(),
            Self::Strace => probe == Probe::SystemCall,
        }
    }

    /// Calls by each thread, so that a run takes some tenths of a second.
    fn calls(self, timed: Loop, threads: usize) -> usize {
        let all = match self {
            Self::Bpftrace | Self::Strace => 40_000,
            Self::FridaJavaScript => 400_000,
            _ if timed.paced || timed.mode == "deep" => 1_000_000,
            _ if timed.mode == "syscall" => 3_000_000,
            Self::Lttng | Self::Uftrace | Self::FridaC => 2_000_000,
            Self::Unprobed | Self::Spile => return 30_000_000,
        };
        all / threads
    }
}

/// What one run measured.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Nanoseconds of processor time per call.
    pub processor: f64,
    /// Nanoseconds of elapsed time per call, times the share of a processor that each thread
    /// can have.
    pub elapsed: f64,
    /// Hits that the contender did not report, where it says.
    pub lost: Option<i64>,
}

/// The programs, built and found.
pub struct Workshop {
    /// Where the target and everything temporary are.
    pub directory: PathBuf,
    /// The built `spile`.
    pub spile: PathBuf,
    /// Processors.
    pub processors: usize,
    daemon: Option<Child>,
}

impl Workshop {
    /// Compiles the targets.
    pub fn new(directory: PathBuf, spile: PathBuf, processors: usize) -> Result<Self> {
        fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        let sources = workspace::root().join("xtask/bench");
        for (name, source) in [("target", "target.c"), ("pause", "pause.c")] {
            let mut command = Command::new("cc");
            command
                .args(["-O2", "-g", "-pthread", "-o"])
                .arg(directory.join(name))
                .arg(sources.join(source));
            expect_success(&mut command)?;
        }
        Ok(Self {
            directory,
            spile,
            processors,
            daemon: None,
        })
    }

    /// Makes a contender ready; an error is the reason why it is missing.
    pub fn prepare(&mut self, contender: Contender) -> Result<()> {
        match contender {
            Contender::Unprobed => Ok(()),
            Contender::Spile => {
                expect_success(Command::new(&self.spile).args(["stap", "--version"]))
            }
            Contender::Bpftrace => {
                if !workspace::is_root() {
                    bail!("uprobes need root");
                }
                expect_success(Command::new("bpftrace").args(["-e", "BEGIN { exit(); }"]))
            }
            Contender::Lttng => self.prepare_lttng(),
            Contender::Uftrace => expect_success(Command::new("uftrace").arg("--version")),
            Contender::Strace => expect_success(Command::new("strace").arg("--version")),
            Contender::FridaJavaScript | Contender::FridaC => self.prepare_frida(),
        }
    }

    fn prepare_lttng(&mut self) -> Result<()> {
        let sources = workspace::root().join("xtask/bench");
        let mut command = Command::new("cc");
        command
            .args(["-O2", "-g", "-pthread", "-DWITH_LTTNG", "-I"])
            .arg(&sources)
            .arg("-o")
            .arg(self.directory.join("target-lttng"))
            .arg(sources.join("target.c"))
            .arg(sources.join("lttng_provider.c"))
            .args(["-llttng-ust", "-ldl"]);
        expect_success(&mut command)?;
        if !daemon_answers() {
            let daemon = Command::new("lttng-sessiond")
                .arg("--no-kernel")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .context("lttng-sessiond")?;
            self.daemon = Some(daemon);
        }
        for _ in 0..DAEMON_TRIES {
            if daemon_answers() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(100));
        }
        bail!("lttng-sessiond does not answer")
    }

    fn frida_python(&self) -> PathBuf {
        self.directory.join("venv/bin/python")
    }

    fn prepare_frida(&self) -> Result<()> {
        let works = |python: &Path| {
            expect_success(Command::new(python).args(["-c", "import frida"])).is_ok()
        };
        let python = self.frida_python();
        if works(&python) {
            return Ok(());
        }
        let system = Path::new("/usr/bin/python3");
        let base = if system.exists() {
            system
        } else {
            Path::new("python3")
        };
        expect_success(
            Command::new(base)
                .args(["-m", "venv", "--clear"])
                .arg(self.directory.join("venv")),
        )?;
        expect_success(Command::new(&python).args(["-m", "pip", "install", "--quiet", "frida"]))
    }

    /// Runs the target once under a contender.
    pub fn measure(&self, contender: Contender, probe: Probe, threads: usize) -> Result<Sample> {
        let timed = probe.timed_loop();
        let calls = contender.calls(timed, threads);
        let burst = if timed.paced { 1000 / threads } else { 0 };
        let result = self.directory.join("result");
        let _ = fs::remove_file(&result);
        let target = |name: &str| {
            [
                format!("./{name}"),
                timed.mode.to_owned(),
                threads.to_string(),
                calls.to_string(),
                burst.to_string(),
                "result".to_owned(),
            ]
        };
        let output = self.directory.join("output");
        let _ = fs::remove_file(&output);
        let mut command;
        match contender {
            Contender::Unprobed => {
                command = Command::new("./target");
                command.args(&target("target")[1..]);
            }
            Contender::Spile => {
                command = Command::new(&self.spile);
                command
                    .args(["stap", "-o", "output"])
                    .args(probe.options())
                    .args(["-e", probe.script(), "-c"])
                    .arg(target("target").join(" "));
            }
            Contender::Bpftrace => {
                let path = self.directory.join("target");
                let program = probe
                    .bpftrace(&path.to_string_lossy())
                    .context("bpftrace has no such probe")?;
                command = Command::new("bpftrace");
                command
                    .args(["-q", "-o", "output", "-e", &program, "-c"])
                    .arg(target("target").join(" "));
            }
            Contender::Lttng => {
                self.start_lttng()?;
                command = Command::new("./target-lttng");
                // Its tracepoint stands where the mark does, whatever it is compared with.
                let mut words = target("target-lttng");
                "mark".clone_into(&mut words[1]);
                command
                    .args(&words[1..])
                    .env("LTTNG_UST_REGISTER_TIMEOUT", "-1");
            }
            Contender::Uftrace => {
                let _ = fs::remove_dir_all(self.directory.join("uftrace.data"));
                command = Command::new("uftrace");
                command
                    .args(["record", "-P", "work", "--no-libcall", "--no-event"])
                    .args(["-d", "uftrace.data"])
                    .args(target("target"));
            }
            Contender::Strace => {
                command = Command::new("strace");
                command
                    .args(["-f", "-c", "-o", "output"])
                    .args(target("target"));
            }
            Contender::FridaJavaScript | Contender::FridaC => {
                let kind = if contender == Contender::FridaC {
                    "c"
                } else {
                    "js"
                };
                command = Command::new(self.frida_python());
                command
                    .arg(workspace::root().join("xtask/bench/frida_probe.py"))
                    .args([kind, probe.frida().unwrap_or_default(), "work"])
                    .args(target("target"));
            }
        }
        command.current_dir(&self.directory);
        let outcome = bounded::run(&mut command, RUN_LIMIT)?;
        let mut lost = None;
        if contender == Contender::Lttng {
            let said = self.stop_lttng()?;
            lost = Some(discarded(&said));
        }
        if !outcome.success() {
            bail!("{}", outcome.failure(RUN_LIMIT));
        }
        let Ok(text) = fs::read_to_string(&result) else {
            bail!(
                "the target did not reach its end ({})",
                outcome.failure(RUN_LIMIT)
            );
        };
        let (processor, elapsed, hits) = parse_result(&text)?;
        if contender == Contender::Spile {
            lost = Some(if probe == Probe::Elsewhere {
                0
            } else {
                hits - reported(probe, &output)?
            });
        }
        if contender == Contender::Bpftrace && probe.prints() {
            lost = Some(hits - reported(probe, &output)?);
        }
        let share = self.processors.min(threads) as f64 / threads as f64;
        Ok(Sample {
            processor,
            elapsed: elapsed * share,
            lost,
        })
    }

    fn start_lttng(&self) -> Result<()> {
        let trace = self.directory.join("lttng-trace");
        let _ = fs::remove_dir_all(&trace);
        let output = format!("--output={}", trace.display());
        for words in [
            vec!["create", "spile-bench", &output],
            vec![
                "enable-channel",
                "--userspace",
                "--session=spile-bench",
                "--subbuf-size=4M",
                "--num-subbuf=16",
                "events",
            ],
            vec![
                "enable-event",
                "--userspace",
                "--session=spile-bench",
                "--channel=events",
                "bench:hit",
            ],
            vec!["start", "spile-bench"],
        ] {
            expect_success(Command::new("lttng").arg("--no-sessiond").args(words))?;
        }
        Ok(())
    }

    /// Ends the recording and returns what LTTng says about it.
    fn stop_lttng(&self) -> Result<String> {
        let mut said = String::new();
        for word in ["stop", "destroy"] {
            let mut command = Command::new("lttng");
            command.args(["--no-sessiond", word, "spile-bench"]);
            let outcome = bounded::run(&mut command, RUN_LIMIT)?;
            said.push_str(&outcome.stdout);
            said.push_str(&outcome.stderr);
        }
        Ok(said)
    }
}

impl Drop for Workshop {
    /// Ends the session daemon, if it is ours, with its consumers.
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = Command::new("sh")
                .args(["-c", "kill \"$1\"", "sh", &daemon.id().to_string()])
                .status();
            let _ = daemon.wait();
        }
    }
}

fn daemon_answers() -> bool {
    Command::new("lttng")
        .args(["--no-sessiond", "list"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Runs something that is quick or an installation, and fails with the end of what it printed.
pub fn expect_success(command: &mut Command) -> Result<()> {
    let limit = Duration::from_secs(300);
    let outcome = bounded::run(command, limit)?;
    if !outcome.success() {
        bail!(
            "{}: {}",
            Path::new(command.get_program()).display(),
            outcome.failure(limit)
        );
    }
    Ok(())
}

/// The target's line: processor time and elapsed time per call, calls.
fn parse_result(text: &str) -> Result<(f64, f64, i64)> {
    let mut words = text.split_whitespace();
    let mut next = || words.next().context("the target's result is incomplete");
    Ok((next()?.parse()?, next()?.parse()?, next()?.parse()?))
}

/// The hits that a contender reports: the lines it printed, or the number in the line `hits N`.
fn reported(probe: Probe, output: &Path) -> Result<i64> {
    let text = fs::read(output).context("no output was written")?;
    let text = String::from_utf8_lossy(&text);
    if probe.prints() {
        let begins_with_number =
            |line: &&str| line.starts_with(|first: char| first == '-' || first.is_ascii_digit());
        return Ok(text.lines().filter(begins_with_number).count() as i64);
    }
    let number = text
        .lines()
        .find_map(|line| line.strip_prefix("hits "))
        .context("no number of hits was printed")?;
    Ok(number.trim().parse()?)
}

/// The number in LTTng's "Warning: 123 events were discarded", else 0.
fn discarded(said: &str) -> i64 {
    let mut before = "";
    for word in said.split_whitespace() {
        if word.starts_with("event")
            && said.contains("discarded")
            && let Ok(number) = before.parse()
        {
            return number;
        }
        before = word;
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_targets_result_is_read() {
        assert_eq!(
            parse_result("1.397 1.5 52500000\n").expect("complete"),
            (1.397, 1.5, 52_500_000)
        );
        assert!(parse_result("1.397 1.5").is_err());
    }

    #[test]
    fn discarded_events_are_found() {
        assert_eq!(
            discarded("Warning: 123 events were discarded, please refer to the documentation"),
            123
        );
        assert_eq!(discarded("Session b destroyed"), 0);
    }
}
