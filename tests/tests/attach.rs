//! Attaching to running programs: redis under load, detaching without a trace, tracers and targets that die.

use spile_tests::{Scratch, is_root, line, need, run, spawn, spile_path, stap, until};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::process::Command;

fn signal(pid: u32, name: &str) {
    assert!(
        Command::new("kill")
            .args([name, &pid.to_string()])
            .status()
            .expect("kill")
            .success()
    );
}

/// Status field of a process.
fn status(pid: u32, field: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    text.lines()
        .find_map(|l| l.strip_prefix(field)?.strip_prefix(':'))
        .map(|v| v.trim().to_string())
        .unwrap_or_default()
}

/// The executable file mappings of a process whose memory differs from the file, and mappings that are no file's but
/// executable.
fn foreign_code(pid: u32) -> Vec<String> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("maps");
    let memory = std::fs::File::open(format!("/proc/{pid}/mem")).expect("mem");
    let mut foreign = Vec::new();
    for map in maps.lines() {
        let mut fields = map.split_whitespace();
        let (range, permissions) = (fields.next().unwrap_or(""), fields.next().unwrap_or(""));
        let offset = u64::from_str_radix(fields.next().unwrap_or("0"), 16).expect("offset");
        let path = fields.nth(2).unwrap_or("");
        if !permissions.contains('x') || path.starts_with("[v") {
            continue;
        }
        let (start, end) = range.split_once('-').expect("a range");
        let number = |text| u64::from_str_radix(text, 16).expect("an address");
        let mut mapped = vec![0; (number(end) - number(start)) as usize];
        memory
            .read_exact_at(&mut mapped, number(start))
            .expect("memory");
        let mut file = vec![0; mapped.len()];
        let read = std::fs::File::open(path)
            .and_then(|f| f.read_at(&mut file, offset))
            .unwrap_or(0);
        if read == 0 || mapped[..read] != file[..read] {
            foreign.push(map.to_string());
        }
    }
    foreign
}

const MALLOC: &str = r#"global n probe process.library("*").function("malloc") { n++ }
    probe timer.ms(20) { println(n) } probe end { printf("end %d\n", n) }"#;

/// Attaches, watches the count rise, checks that nobody is traced, interrupts.
fn attach_once(pid: u32) {
    let mut command = Command::new(spile_path());
    command.args(["stap", "-x", &pid.to_string(), "-e", MALLOC]);
    let (mut spile, mut output) = spawn(&mut command);
    let mut first = 0;
    until("the count rises", || {
        let count: u64 = line(&mut output).parse().expect("a count");
        if first == 0 {
            first = count;
        }
        count > first + 1000
    });
    assert_eq!(status(pid, "TracerPid"), "0");
    signal(spile.0.id(), "-INT");
    let mut rest = String::new();
    output.read_to_string(&mut rest).expect("the rest");
    assert!(rest.contains("end "), "{rest}");
    assert_eq!(spile.0.wait().expect("an end").code(), Some(0));
}

#[test]
fn redis_under_load_is_probed_three_times_and_left_as_it_was() {
    need("/usr/bin/redis-server");
    need("/usr/bin/redis-benchmark");
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|l| l.local_addr())
        .expect("a free port")
        .port();
    let port = port.to_string();
    let scratch = Scratch::new("redis");
    let mut server = Command::new("/usr/bin/redis-server");
    server.args([
        "--port",
        &port,
        "--save",
        "",
        "--io-threads",
        "8",
        "--dir",
        &scratch.path("").to_string_lossy(),
    ]);
    let (server, mut log) = spawn(&mut server);
    until("redis is ready", || {
        line(&mut log).contains("Ready to accept connections")
    });
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    let pid = server.0.id();
    let mut load = Command::new("/usr/bin/redis-benchmark");
    load.args([
        "-p",
        &port,
        "-t",
        "set,get,lpush,lpop",
        "-n",
        "150000",
        "-c",
        "20",
        "-r",
        "1000",
        "-q",
        "--threads",
        "2",
    ]);
    load.args(["-l"]);
    let (mut load, mut load_output) = spawn(&mut load);
    std::thread::spawn(move || std::io::copy(&mut load_output, &mut std::io::sink()));
    for _ in 0..3 {
        attach_once(pid);
        assert_eq!(foreign_code(pid), Vec::<String>::new());
    }
    assert!(
        load.0.try_wait().expect("the load").is_none(),
        "the load failed"
    );
    let mut ping = Command::new("redis-cli");
    ping.args(["-p", &port, "ping"]);
    assert_eq!(run(ping).ok().stdout, "PONG\n");
}

const COUNTER: &str = r#"
#include <stdio.h>
#include <unistd.h>
__attribute__((noinline, noclone)) long step(long a) { __asm__ volatile("" ::: "memory"); return a + 1; }
int main(void) {
  puts("ready"); fflush(stdout);
  volatile long i = 0;
  char c;
  for (;;) {
    long before = i;
    for (int k = 0; k < 1000; k++) i = step(i);
    if (i != before + 1000) { puts("wrong"); return 1; }
  }
}"#;

#[test]
fn a_killed_tracer_leaves_the_target_running_right() {
    let scratch = Scratch::new("killed-tracer");
    let program = scratch.compile("counter.c", COUNTER, &["-O2", "-g"]);
    let (mut target, mut output) = spawn(&mut Command::new(&program));
    assert_eq!(line(&mut output), "ready");
    let pid = target.0.id();
    let script =
        "global n probe process.function(\"step\") { n++ } probe timer.ms(5) { println(n) }";
    let (mut spile, mut counts) =
        spawn(Command::new(spile_path()).args(["stap", "-x", &pid.to_string(), "-e", script]));
    until("a count", || {
        line(&mut counts).parse::<u64>().is_ok_and(|n| n > 0)
    });
    spile.0.kill().expect("kill");
    spile.0.wait().expect("an end");
    // It checks its own results; a second of processor time is some hundred thousand of its rounds.
    let ticks = |pid: u32| -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')')
            .next()
            .and_then(|s| s.split_whitespace().nth(11)?.parse().ok())
            .unwrap_or(0)
    };
    let before = ticks(pid);
    until("the target goes on", || {
        assert!(
            target.0.try_wait().expect("the target").is_none(),
            "the target ended"
        );
        ticks(pid) > before + 50
    });
}

/// Also signals that nobody sends on purpose (`ulimit -t`) leave nothing behind in the program.
#[test]
fn signals_end_a_session_and_take_the_probes_out() {
    let scratch = Scratch::new("signalled-tracer");
    let program = scratch.compile("counter.c", COUNTER, &["-O2", "-g"]);
    let (target, mut output) = spawn(&mut Command::new(&program));
    assert_eq!(line(&mut output), "ready");
    let pid = target.0.id();
    let script = "global n probe process.function(\"step\") { n++ } probe timer.ms(5) { println(n) } probe end { println(\"end\") }";
    for signal in ["INT", "HUP", "XCPU", "USR1", "ALRM"] {
        let (mut spile, mut counts) =
            spawn(Command::new(spile_path()).args(["stap", "-x", &pid.to_string(), "-e", script]));
        until("a count", || {
            line(&mut counts).parse::<u64>().is_ok_and(|n| n > 0)
        });
        assert_ne!(foreign_code(pid), Vec::<String>::new());
        let mut kill = Command::new("sh");
        kill.args(["-c", &format!("kill -s {signal} {}", spile.0.id())]);
        run(kill).ok();
        let mut rest = String::new();
        counts.read_to_string(&mut rest).expect("the rest");
        assert!(rest.ends_with("end\n"), "{signal}: {rest}");
        assert_eq!(spile.0.wait().expect("an end").code(), Some(0), "{signal}");
        assert_eq!(foreign_code(pid), Vec::<String>::new(), "{signal}");
    }
}

#[test]
fn a_killed_target_ends_the_session() {
    let scratch = Scratch::new("killed-target");
    let program = scratch.compile("counter.c", COUNTER, &["-O2", "-g"]);
    let (mut target, mut output) = spawn(&mut Command::new(&program));
    assert_eq!(line(&mut output), "ready");
    let script = "global n probe process.function(\"step\") { n++ } probe timer.ms(5) { println(n) } probe end { println(\"end\") }";
    let pid = target.0.id().to_string();
    let (mut spile, mut counts) =
        spawn(Command::new(spile_path()).args(["stap", "-x", &pid, "-e", script]));
    until("a count", || {
        line(&mut counts).parse::<u64>().is_ok_and(|n| n > 0)
    });
    target.0.kill().expect("kill");
    target.0.wait().expect("an end");
    let mut rest = String::new();
    counts.read_to_string(&mut rest).expect("the rest");
    assert!(rest.ends_with("end\n"), "{rest}");
    assert_eq!(spile.0.wait().expect("an end").code(), Some(0));
}

#[test]
fn an_ordinary_user_probes_programs_of_its_own() {
    assert!(
        is_root(),
        "this test becomes another user, which needs root"
    );
    let scratch = Scratch::new("nobody");
    let source = r#"
        #include <stdio.h>
        __attribute__((noinline, noclone)) int f(int a) { __asm__ volatile("" ::: "memory"); return a; }
        int main(void) { for (int i = 0; i < 1000; i++) f(i); return 0; }"#;
    let program = scratch.compile("f.c", source, &["-O2", "-g"]);
    let spile = scratch.path("spile");
    std::fs::copy(spile_path(), &spile).expect("a copy that everybody can run");
    let as_nobody = |args: &[&str]| {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&spile)
            .arg("stap")
            .args(args);
        run(command)
    };
    let script = "global s probe process.function(\"f\") { s <<< $a } probe end { println(@count(s), \" \", @sum(s)) }";
    let outcome = as_nobody(&["-e", script, "-c", &program.to_string_lossy()]).ok();
    assert_eq!(outcome.stdout, "1000 499500\n");
    let (target, _output) = spawn(Command::new("sleep").arg("100"));
    let outcome = as_nobody(&[
        "-x",
        &target.0.id().to_string(),
        "-e",
        "probe process.begin { exit() }",
    ]);
    assert_eq!(outcome.status, Some(1));
    assert!(
        outcome.stderr.contains("permission denied"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn a_debugger_can_attach_while_probes_fire() {
    need("/usr/bin/gdb");
    let scratch = Scratch::new("gdb");
    let program = scratch.compile("counter.c", COUNTER, &["-O2", "-g"]);
    let (target, mut output) = spawn(&mut Command::new(&program));
    assert_eq!(line(&mut output), "ready");
    let pid = target.0.id().to_string();
    let script =
        "global n probe process.function(\"step\") { n++ } probe timer.ms(5) { println(n) }";
    let (_spile, mut counts) =
        spawn(Command::new(spile_path()).args(["stap", "-x", &pid, "-e", script]));
    until("a count", || {
        line(&mut counts).parse::<u64>().is_ok_and(|n| n > 0)
    });
    let mut gdb = Command::new("gdb");
    gdb.args([
        "-p",
        &pid,
        "-batch",
        "-ex",
        "info inferiors",
        "-ex",
        "detach",
    ]);
    let outcome = run(gdb);
    assert!(
        outcome.stdout.contains("detached"),
        "{}\n{}",
        outcome.stdout,
        outcome.stderr
    );
}

/// Ends a session while gdb has its process; gdb lets go of it before the session ends, or after.
fn end_under_gdb(scratch: &Scratch, pid: u32, lets_go: bool) {
    let gate = scratch.path(if lets_go { "early" } else { "late" });
    let made = Command::new("mkfifo").arg(&gate).status();
    assert!(made.expect("mkfifo").success());
    let script =
        "global n probe process.function(\"step\") { n++ } probe timer.ms(5) { println(n) }";
    let mut command = Command::new("sh");
    command
        .args(["-c", "exec \"$@\" 2>&1", "sh"])
        .arg(spile_path());
    command.args(["stap", "-x", &pid.to_string(), "-e", script]);
    let (mut spile, mut output) = spawn(&mut command);
    until("a count", || {
        line(&mut output).parse::<u64>().is_ok_and(|n| n > 0)
    });
    let mut gdb = Command::new("gdb");
    let wait = format!("shell echo held; cat {}", gate.display());
    gdb.args([
        "-p",
        &pid.to_string(),
        "-batch",
        "-ex",
        &wait,
        "-ex",
        "detach",
    ]);
    let (mut gdb, mut says) = spawn(&mut gdb);
    until("gdb holds it", || line(&mut says) == "held");
    signal(spile.0.id(), "-INT");
    until("the session waits", || {
        line(&mut output).contains("is already being traced")
    });
    let open = || std::fs::write(&gate, "");
    if lets_go {
        open().expect("the gate");
    } else {
        signal(spile.0.id(), "-INT");
    }
    let mut rest = String::new();
    output.read_to_string(&mut rest).expect("the rest");
    let status = spile.0.wait().expect("the session's end").code();
    assert_eq!(status, Some(i32::from(!lets_go)), "{rest}");
    assert_eq!(rest.contains("the probes stay in it"), !lets_go, "{rest}");
    if !lets_go {
        open().expect("the gate");
    }
    assert!(gdb.0.wait().expect("gdb's end").success());
}

#[test]
fn a_session_that_ends_while_a_debugger_is_there_takes_its_probes_out_afterwards() {
    need("/usr/bin/gdb");
    let scratch = Scratch::new("gdb-late");
    let program = scratch.compile("counter.c", COUNTER, &["-O2", "-g"]);
    let (target, mut output) = spawn(&mut Command::new(&program));
    assert_eq!(line(&mut output), "ready");
    let pid = target.0.id();
    end_under_gdb(&scratch, pid, true);
    assert_eq!(foreign_code(pid), [""; 0]);
    end_under_gdb(&scratch, pid, false);
    assert_ne!(foreign_code(pid), [""; 0]);
    let again = "probe process.function(\"step\") { exit() }";
    let outcome = stap(&["-x", &pid.to_string(), "-e", again]);
    assert_eq!(outcome.status, Some(0), "{}", outcome.stderr);
    assert_eq!(foreign_code(pid), [""; 0]);
}

#[test]
fn a_setuid_program_is_refused_to_an_ordinary_user() {
    assert!(
        is_root(),
        "this test becomes another user, which needs root"
    );
    let scratch = Scratch::new("setuid");
    let spile = scratch.path("spile");
    std::fs::copy(spile_path(), &spile).expect("a copy that everybody can run");
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    command.arg(&spile).args(["stap", "-c", "su --version"]);
    command.args(["-e", "probe process.function(\"main\") { next }"]);
    let outcome = run(command);
    assert_eq!(outcome.status, Some(1), "{}", outcome.stdout);
    assert!(outcome.stderr.contains("set-user-ID"), "{}", outcome.stderr);
}

/// What is printed can't be written: nobody reads it until the probes are gone.
#[test]
fn probes_are_taken_out_although_nobody_reads_the_output() {
    let scratch = Scratch::new("unread");
    let source = "#include <stdio.h>\n#include <unistd.h>\nvolatile long n;\n__attribute__((noinline)) void work(void) { n++; }
int main(void) { puts(\"ready\"); fflush(stdout); for (;;) { work(); usleep(1000); } }";
    let program = scratch.compile("unread.c", source, &["-O1"]);
    let (target, mut output) = spawn(&mut Command::new(program));
    assert_eq!(line(&mut output), "ready");
    let pid = target.0.id();
    let text = "0123456789".repeat(10);
    // Ten times as much as a pipe holds, once the probes are in.
    let script = format!(
        "global n probe process.function(\"work\") {{ n++ }}
        probe timer.ms(1) {{ for (i = 0; i < 6500; i++) println(\"{text}\") }}
        probe end {{ println(n >= 0) }}"
    );
    let mut command = Command::new(spile_path());
    command.args(["stap", "-w", "-D", "MAXACTION=100000", "-x"]);
    command.args([&pid.to_string(), "-e", &script]);
    let (mut spile, mut output) = spawn(&mut command);
    assert_eq!(line(&mut output), text);
    let is_probed = || {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("maps");
        maps.contains("memfd:spile")
    };
    assert!(is_probed());
    signal(spile.0.id(), "-INT");
    until("the probes are gone", || !is_probed());
    assert!(spile.0.try_wait().expect("a status").is_none());
    let mut rest = String::new();
    output.read_to_string(&mut rest).expect("the rest");
    assert!(rest.ends_with(&format!("\n{text}\n1\n")));
    assert!(spile.0.wait().expect("an end").success());
}

/// Where a probe can't be set after others were, those are taken out again, in the process of `-x` and in those that are found.
#[test]
fn a_session_that_fails_while_it_attaches_leaves_nothing_in_the_program() {
    let scratch = Scratch::new("failed-attach");
    let program = scratch.compile("counter.c", COUNTER, &["-O2", "-g"]);
    let (mut target, mut output) = spawn(&mut Command::new(&program));
    assert_eq!(line(&mut output), "ready");
    let pid = target.0.id();
    let path = program.to_string_lossy();
    // No kernel has events of that type.
    let script = format!(
        "global n probe process(\"{path}\").function(\"step\") {{ n++ }} probe perf.type(4000).config(1).process(\"{path}\") {{ n++ }}"
    );
    let message = "cannot open perf event type 4000";
    let executable = |pid: u32| {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("maps");
        maps.lines().filter(|map| map.contains("-xp ")).count()
    };
    let before = executable(pid);
    let outcome = stap(&["-e", &script, "-x", &pid.to_string()]);
    assert_eq!(outcome.status, Some(1), "{}", outcome.stderr);
    assert!(outcome.stderr.contains(message), "{}", outcome.stderr);
    assert_eq!(foreign_code(pid), Vec::<String>::new());
    assert_eq!(executable(pid), before);

    let script = format!("{script} probe timer.ms(50) {{ exit() }}");
    let outcome = stap(&["-e", &script]);
    let refused = format!("process {pid} is not probed: {message}");
    assert!(outcome.stderr.contains(&refused), "{}", outcome.stderr);
    assert_eq!(foreign_code(pid), Vec::<String>::new());
    assert!(target.0.try_wait().expect("the target").is_none());
}

/// Nor does one that fails where a process may have no more files.
#[test]
fn a_program_without_room_for_a_descriptor_is_refused_and_left_as_it_was() {
    let scratch = Scratch::new("no-descriptors");
    let program = scratch.compile("counter.c", COUNTER, &["-O2", "-g"]);
    let (target, mut output) = spawn(&mut Command::new(&program));
    assert_eq!(line(&mut output), "ready");
    let pid = target.0.id();
    // The dynamic linker needed one.
    let mut limit = Command::new("prlimit");
    limit.args(["--nofile=3", "--pid", &pid.to_string()]);
    run(limit).ok();
    for script in [
        "probe process.begin { println(1) }",
        "global n probe process.function(\"step\") { n++ }",
    ] {
        let outcome = stap(&["-e", script, "-x", &pid.to_string()]);
        assert_eq!(outcome.status, Some(1), "{}", outcome.stderr);
        assert!(
            outcome.stderr.contains("RLIMIT_NOFILE"),
            "{}",
            outcome.stderr
        );
        assert_eq!(foreign_code(pid), Vec::<String>::new());
    }
}
