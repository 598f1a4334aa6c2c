//! Targets as containers have them: in namespaces of their own, on file systems that cannot be written or executed from,
//! under seccomp filters.

use spile_tests::{Guard, Scratch, is_root, line, need, run, spawn, spile_path};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

/// Says its number as it sees it itself, waits for a byte, calls `work` a thousand times and says what came of it.
const WORK: &str = r#"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>
__attribute__((noinline, noclone)) long work(const char *text, long a) { __asm__ volatile("" ::: "memory"); return text[0] + a; }
/* An action, and the numbers of system calls that it is for. */
static void confine(int count, char **words) {
  struct sock_filter filter[64];
  int n = 0;
  filter[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
  for (int i = 1; i < count; i++) {
    filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, atoi(words[i]), 0, 1);
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, strtoul(words[0], 0, 0));
  }
  filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  struct sock_fprog program = {n, filter};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) exit(2);
}
int main(int count, char **words) {
  long sum = 0;
  char byte;
  char *text = strdup("on the heap");
  if (count > 1) confine(count - 1, words + 1);
  printf("%d\n", (int)getpid()); fflush(stdout);
  if (read(0, &byte, 1) != 1) return 1;
  for (int i = 0; i < 1000; i++) sum += work(text, i);
  printf("%ld\n", sum); fflush(stdout);
  return 0;
}"#;

/// 1000 times the letter o, and 0 + … + 999.
const SUM: &str = "610500";

/// `SECCOMP_RET_ERRNO` with EPERM, and `SECCOMP_RET_KILL_PROCESS` (linux/seccomp.h).
const FAIL: &str = "0x00050001";
const KILL: &str = "0x80000000";

const SCRIPT: &str = r#"
global texts, up
probe POINT { texts[user_string($text)]++ if (texts["on the heap"] == 1) printf("%s in %d\n", execname(), pid()) }
probe timer.ms(1) { if (!up++) println("up") }
probe end { foreach (t in texts) printf("%s: %d\n", t, texts[t]) }"#;

/// A program that was started through others, as root sees it.
struct Target {
    child: Guard,
    output: BufReader<std::process::ChildStdout>,
    inner: String,
    pid: String,
}

impl Target {
    /// Starts a shell command that ends in `exec` of the program, behind some words.
    fn start(prefix: &[&str], command: &str) -> Target {
        let [first, rest @ ..] = prefix else {
            panic!("no command");
        };
        let mut child: Child = Command::new(first)
            .args(rest)
            .args(["sh", "-c", command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{first}: {error}"));
        let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
        let top = child.id().to_string();
        let child = Guard(child);
        let inner = line(&mut output);
        assert!(!inner.is_empty(), "{command} did not start");
        Target {
            child,
            output,
            inner,
            pid: innermost(&top),
        }
    }

    /// Lets it work and expects what it says by itself.
    fn finish(mut self) {
        let mut input = self.child.0.stdin.take().expect("a pipe");
        input.write_all(b"\n").expect("a byte");
        let mut said = String::new();
        self.output.read_to_string(&mut said).expect("its output");
        assert_eq!(said.trim_end(), SUM);
        assert!(self.child.0.wait().expect("its end").success());
    }
}

/// The last of a chain of processes with one child each.
fn innermost(pid: &str) -> String {
    let children = format!("/proc/{pid}/task/{pid}/children");
    let children = std::fs::read_to_string(children).expect("CONFIG_PROC_CHILDREN");
    match children.split_whitespace().next() {
        Some(child) => innermost(child),
        None => pid.to_string(),
    }
}

/// `spile stap -x PID` on a target, behind some words; the probe is at a point. Every call is seen.
fn is_probed(target: Target, tracer: &[&str], point: &str) {
    let script = SCRIPT.replace("POINT", point);
    let spile = spile_path();
    let mut words: Vec<&str> = tracer.to_vec();
    let spile = spile.to_string_lossy();
    words.extend([&*spile, "stap", "-x", &target.pid, "-e", &script]);
    let (mut session, mut said) = spawn(Command::new(words[0]).args(&words[1..]));
    assert_eq!(line(&mut said), "up");
    let inner = target.inner.clone();
    target.finish();
    let lines: Vec<String> = said.lines().map(|line| line.expect("a line")).collect();
    assert_eq!(
        lines,
        [format!("work in {inner}"), "on the heap: 1000".into()]
    );
    assert!(session.0.wait().expect("its end").success());
}

fn program(scratch: &Scratch) -> String {
    let program = scratch.compile("work.c", WORK, &["-O2", "-g"]);
    program.to_string_lossy().into_owned()
}

const FUNCTION: &str = "process.function(\"work\")";
const NOBODY: &[&str] = &[
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
];

fn need_root() {
    assert!(is_root(), "namespaces of others are made by root");
    need("/usr/bin/unshare");
    need("/usr/bin/setpriv");
}

#[test]
fn a_program_in_namespaces_of_its_own_is_probed() {
    need_root();
    let scratch = Scratch::new("namespaces");
    let program = program(&scratch);
    let all = [
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--net",
        "--ipc",
        "--uts",
        "--mount-proc",
    ];
    let target = Target::start(&all, &format!("exec {program}"));
    assert_eq!(target.inner, "1");
    is_probed(target, &[], FUNCTION);
}

/// Its file is nowhere to be seen from outside.
#[test]
fn a_program_on_a_file_system_of_its_own_is_probed_by_the_path_that_it_has_there() {
    need_root();
    let scratch = Scratch::new("own-root");
    let program = program(&scratch);
    let command = format!("mount -t tmpfs none /mnt && cp {program} /mnt/ && exec /mnt/work");
    let target = Target::start(&["unshare", "--mount", "--pid", "--fork"], &command);
    is_probed(target, &[], "process(\"/mnt/work\").function(\"work\")");
}

/// Its file has another path outside, and its debugging information is where the program would have it.
#[test]
fn a_program_below_a_root_of_its_own_is_what_it_is_called_there() {
    need_root();
    let scratch = Scratch::new("chroot");
    let flags = ["-O2", "-g", "-static", "-Wl,--build-id"];
    let built = scratch.compile("work.c", WORK, &flags);
    let root = scratch.path("root");
    let id = spile_tests::run({
        let mut readelf = Command::new("readelf");
        readelf.arg("-n").arg(&built);
        readelf
    });
    let id = id.ok().stdout;
    let id = id
        .split_once("Build ID: ")
        .map(|(_, id)| id.lines().next().unwrap_or_default().trim())
        .expect("a build-id");
    let (first, rest) = id.split_at(2);
    let place = root.join("usr/lib/debug/.build-id").join(first);
    std::fs::create_dir_all(&place).expect("a directory");
    std::fs::create_dir_all(root.join("opt")).expect("a directory");
    let copy = |flag: &str, to: std::path::PathBuf| {
        let mut objcopy = Command::new("objcopy");
        objcopy.arg(flag).arg(&built).arg(to);
        spile_tests::run(objcopy).ok();
    };
    copy("--only-keep-debug", place.join(format!("{rest}.debug")));
    copy("--strip-all", root.join("opt/work"));
    std::fs::remove_file(&built).expect("it was built");
    for point in [FUNCTION, "process(\"/opt/work\").function(\"work\")"] {
        let command = format!("exec chroot {} /opt/work", root.display());
        let target = Target::start(&["unshare", "--mount", "--pid", "--fork"], &command);
        is_probed(target, &[], point);
    }
}

/// Nothing can be written, and nothing but the program and its libraries be executed.
#[test]
fn a_program_on_read_only_file_systems_is_probed() {
    need_root();
    let scratch = Scratch::new("read-only");
    let program = program(&scratch);
    let directory = scratch.path("");
    let parent = directory
        .parent()
        .expect("a parent")
        .to_string_lossy()
        .into_owned();
    let directory = directory.to_string_lossy();
    let command = format!(
        "mount --rbind / /mnt && mount --make-rprivate /mnt &&
         mount -o remount,bind,ro,noexec /mnt &&
         mount --bind /usr /mnt/usr && mount -o remount,bind,ro /mnt/usr &&
         mount -t tmpfs -o ro,noexec none /mnt/dev/shm &&
         mount -t tmpfs none /mnt/{parent} && mkdir -p /mnt/{directory} &&
         cp {program} /mnt/{program} && mount -o remount,ro /mnt/{parent} &&
         cd / && exec chroot /mnt {program}"
    );
    let target = Target::start(&["unshare", "--mount", "--pid", "--fork"], &command);
    is_probed(target, &[], FUNCTION);
}

#[test]
fn an_ordinary_user_probes_a_program_in_a_user_namespace() {
    need_root();
    let scratch = Scratch::new("user-namespace");
    let program = program(&scratch);
    let unshare = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "--pid",
        "--fork",
        "--net",
    ];
    let words = [NOBODY, &unshare].concat();
    let command = format!("exec {program}");
    is_probed(Target::start(&words, &command), NOBODY, FUNCTION);
    // And so does root.
    is_probed(Target::start(&words, &command), &[], FUNCTION);
}

/// The calls that an injection makes in the process: mmap, munmap, madvise, recvmsg, socketpair, arch_prctl, membarrier.
const INJECTION: &str = "9 11 28 47 53 158 324";
/// What handlers read memory by.
const PROCESS_VM_READV: &str = "310";

/// Root suspends filters while the process makes calls for it (ptrace(2), `PTRACE_O_SUSPEND_SECCOMP`).
#[test]
fn filters_do_not_keep_root_out() {
    need_root();
    let scratch = Scratch::new("filters");
    let program = program(&scratch);
    for filter in [
        format!("{FAIL} {INJECTION}"),
        format!("{KILL} {INJECTION}"),
        // Then memory is read another way.
        format!("{FAIL} {PROCESS_VM_READV}"),
    ] {
        let command = format!("exec {program} {filter}");
        is_probed(Target::start(&["setpriv"], &command), &[], FUNCTION);
    }
}

/// A process that is not probed, with the reason, does its work.
#[test]
fn filters_that_would_kill_are_named() {
    need_root();
    let scratch = Scratch::new("deadly-filters");
    let program = program(&scratch);
    let cases: [(&[&str], String, &str); 3] = [
        (
            &[],
            format!("{KILL} {PROCESS_VM_READV}"),
            "forbids the system call process_vm_readv",
        ),
        // gettid.
        (&[], format!("{KILL} 186"), "forbids the system call gettid"),
        // Only root sees what a filter forbids.
        (
            NOBODY,
            format!("{FAIL} {PROCESS_VM_READV}"),
            "is confined by seccomp (mode 2); root is needed",
        ),
    ];
    for (user, filter, reason) in cases {
        let words = if user.is_empty() {
            &["setpriv"][..]
        } else {
            user
        };
        let target = Target::start(words, &format!("exec {program} {filter}"));
        let mut command = user.to_vec();
        let spile = spile_path();
        let spile = spile.to_string_lossy();
        let script = SCRIPT.replace("POINT", FUNCTION);
        command.extend([&*spile, "stap", "-x", &target.pid, "-e", &script]);
        let mut tracer = Command::new(command[0]);
        tracer.args(&command[1..]);
        let outcome = spile_tests::run(tracer);
        assert_eq!(outcome.status, Some(1), "{}", outcome.stderr);
        assert!(outcome.stderr.contains(reason), "{}", outcome.stderr);
        target.finish();
    }
}

/// Where /proc numbers processes otherwise than system calls do, one would be stopped and another one written to.
#[test]
fn the_proc_of_another_pid_namespace_is_refused() {
    need_root();
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork"]).arg(spile_path());
    let script = "global n probe process.function(\"main\") { n++ } probe process.begin { n++ }";
    command.args(["stap", "-e", script, "-c", "/usr/bin/python3.11 -V"]);
    let outcome = run(command);
    assert_eq!(outcome.status, Some(1), "{}", outcome.stderr);
    let message = "is that of another PID namespace";
    assert!(outcome.stderr.contains(message), "{}", outcome.stderr);
    assert_eq!(outcome.stdout, "");
}
