//! Python's own tests in a python in which every function of the program, of libc and of libstdc++ is probed.

use spile_tests::{Guard, Scratch, line, need, spawn, spile_path};
use std::io::{BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

const PYTHON: &str = "/usr/bin/python3.11";

/// Runs the tests that it is given once it is sent a byte, and prints what came of each.
const RUNNER: &str = r#"
import ctypes, os, sys, unittest
ctypes.CDLL("libstdc++.so.6")
print("ready", flush=True)
sys.stdin.read(1)
class Results(unittest.TestResult):
    lines = []
    def note(self, test, what): self.lines.append(f"{test.id()} {what}")
    def addSuccess(self, test): super().addSuccess(test); self.note(test, "ok")
    def addFailure(self, test, error): super().addFailure(test, error); self.note(test, "FAIL")
    def addError(self, test, error): super().addError(test, error); self.note(test, "ERROR")
    def addSkip(self, test, why): super().addSkip(test, why); self.note(test, "skip")
out = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
results = Results()
for name in sys.argv[1:]:
    unittest.defaultTestLoader.loadTestsFromName("test." + name).run(results)
print(*sorted(results.lines), sep="\n", file=out)
"#;

/// Parts of test_json, test_re, test_threading, test_signal, test_subprocess and test_asyncio that take seconds, not minutes.
const TESTS: &[&str] = &[
    "test_json.test_decode",
    "test_json.test_encode_basestring_ascii",
    "test_json.test_dump",
    "test_re",
    "test_threading.LockTests",
    "test_threading.EventTests",
    "test_threading.ThreadingExceptionTests",
    "test_signal.PosixTests",
    "test_signal.WakeupSignalTests.test_signum",
    "test_signal.PendingSignalsTests.test_sigwait",
    "test_signal.PendingSignalsTests.test_pthread_kill",
    "test_subprocess.POSIXProcessTestCase.test_exception_cwd",
    "test_subprocess.POSIXProcessTestCase.test_preexec",
    "test_subprocess.POSIXProcessTestCase.test_restore_signals",
    "test_subprocess.POSIXProcessTestCase.test_kill_dead",
    "test_asyncio.test_streams.StreamTests",
    "test_asyncio.test_locks",
];

const EVERYTHING: &str = r#"process.function("*")SUFFIX,
    process.library("libc.so.6").function("*")SUFFIX,
    process.library("libstdc++.so.6*").function("*")SUFFIX"#;

struct Python {
    child: Guard,
    output: BufReader<std::process::ChildStdout>,
}

impl Python {
    fn start(runner: &Path) -> Python {
        let mut child: Child = Command::new(PYTHON)
            .arg(runner)
            .args(TESTS)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("python");
        let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
        let child = Guard(child);
        assert_eq!(line(&mut output), "ready");
        Python { child, output }
    }

    /// Runs the tests; what came of them.
    fn results(mut self) -> String {
        let mut input = self.child.0.stdin.take().expect("a pipe");
        input.write_all(b"\n").expect("a byte");
        drop(input);
        let mut results = String::new();
        self.output.read_to_string(&mut results).expect("results");
        assert!(self.child.0.wait().expect("its end").success());
        results
    }
}

#[test]
fn every_function_is_probed_and_every_result_the_same() {
    need(PYTHON);
    need("/usr/lib/python3.11/test/test_json/__init__.py");
    let scratch = Scratch::new("python-suite");
    let runner = scratch.write("runner.py", RUNNER);
    let unprobed = Python::start(&runner).results();
    assert!(unprobed.lines().filter(|l| l.ends_with(" ok")).count() > 200);
    for suffix in ["", ".return"] {
        let python = Python::start(&runner);
        let points = EVERYTHING.replace("SUFFIX", suffix);
        let script = format!(
            "global n, up probe {points} {{ n++ }}
             probe timer.ms(1) {{ if (!up++) println(\"up\") }} probe end {{ println(n) }}"
        );
        let pid = python.child.0.id().to_string();
        let (mut session, mut said) =
            spawn(Command::new(spile_path()).args(["stap", "-x", &pid, "-e", &script]));
        assert_eq!(line(&mut said), "up");
        assert_eq!(python.results(), unprobed, "{suffix}");
        let hits: u64 = line(&mut said).parse().expect("a number");
        assert!(hits > 1_000_000, "{hits}");
        assert!(session.0.wait().expect("its end").success());
    }
}
