//! A process of which one thread stands and the others run.

mod targets;

use inject::{ExitStatus, InjectError, Process};
use targets::{Counters, Directory, Running, status};

/// The leader answers lines, another thread sleeps for ever. SIGUSR1 makes the leader do what the first argument says:
/// print, end, or run cat; or it makes a third thread run cat.
const PROGRAM: &str = r#"
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static int wake[2];
static const char *what;
static void become_cat(void) { execl("/bin/cat", "cat", (char *)0); _exit(9); }
static void handle(int n) {
    if (!strcmp(what, "print")) write(1, "signal\n", 7);
    if (!strcmp(what, "exec")) become_cat();
    if (!strcmp(what, "other")) write(wake[1], "x", 1);
    if (!strcmp(what, "end")) { write(wake[1], "x", 1); pthread_exit(0); }
}
static void *sleeper(void *p) { for (;;) pause(); return 0; }
static void *other(void *p) {
    char c;
    read(wake[0], &c, 1);
    if (!strcmp(what, "other")) become_cat();
    while (read(0, &c, 1) == 1 && c != '\n');
    write(1, "the end\n", 8);
    exit(3);
}
int main(int argc, char **argv) {
    pthread_t t;
    sigset_t usr1;
    char line[100];
    what = argv[1];
    pipe(wake);
    signal(SIGUSR1, handle);
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &usr1, 0);
    pthread_create(&t, 0, sleeper, 0);
    pthread_create(&t, 0, other, 0);
    pthread_sigmask(SIG_UNBLOCK, &usr1, 0);
    puts("ready"); fflush(stdout);
    while (fgets(line, sizeof line, stdin)) { printf("echo %s", line); fflush(stdout); }
    return 0;
}
"#;

/// The program, all of whose threads sleep, and a hold on one.
fn hold(directory: &Directory, what: &str) -> (Running, Process) {
    let program = directory.compile("one_thread", PROGRAM, &[]);
    let mut running = Running::start(&program, &[what]);
    assert_eq!(running.line(), "ready");
    let pid = running.pid();
    let asleep = || {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let states: Vec<String> = threads
            .map(|thread| thread.unwrap().file_name().into_string().unwrap())
            .map(|tid| status(inject::Pid(tid.parse().unwrap()), "State"))
            .collect();
        states.len() == 3 && states.iter().all(|state| state.starts_with('S'))
    };
    while !asleep() {
        std::thread::yield_now();
    }
    let mut process = Process::find(pid).unwrap();
    process.stop_one_thread().unwrap();
    (running, process)
}

fn send(process: &Process) {
    process.signal(rustix::process::Signal::USR1).unwrap();
}

/// Has the process make calls for us until one fails.
fn call_until_failure(process: &mut Process) -> InjectError {
    loop {
        if let Err(error) = process.syscall("getpid", libc::SYS_getpid, [0; 6]) {
            return error;
        }
    }
}

#[test]
fn the_leader_goes_on_and_keeps_other_tracers_out() {
    let directory = Directory::new();
    let (mut running, mut process) = hold(&directory, "print");
    let pid = running.pid();
    assert_eq!(
        status(pid, "TracerPid"),
        rustix::thread::gettid().as_raw_nonzero().to_string()
    );
    running.say("one");
    assert_eq!(running.line(), "echo one");
    // Memory can be mapped meanwhile.
    let base = Counters::new().share(&mut process);
    running.say("two");
    assert_eq!(running.line(), "echo two");
    process.unmap(base, 4096).unwrap();
    // A signal is passed on with our next call, or when the process is released.
    send(&process);
    process.syscall("getpid", libc::SYS_getpid, [0; 6]).unwrap();
    process.release().unwrap();
    assert_eq!(running.line(), "signal");
    assert_eq!(status(pid, "TracerPid"), "0");
    running.say("three");
    assert_eq!(running.line(), "echo three");
    // From one thread to all, and back.
    process.stop_one_thread().unwrap();
    process.stop_again().unwrap();
    assert_eq!(process.thread_ids().len(), 3);
    process.let_others_run().unwrap();
    assert_eq!(process.thread_ids().len(), 1);
    assert_eq!(
        status(pid, "TracerPid"),
        rustix::thread::gettid().as_raw_nonzero().to_string()
    );
    running.say("four");
    assert_eq!(running.line(), "echo four");
    process.stop_again().unwrap();
    process.release().unwrap();
    running.say("five");
    assert_eq!(running.line(), "echo five");
    assert_eq!(status(pid, "TracerPid"), "0");
}

#[test]
fn a_leader_may_end_before_its_process() {
    let directory = Directory::new();
    let (mut running, mut process) = hold(&directory, "end");
    process.syscall("getpid", libc::SYS_getpid, [0; 6]).unwrap();
    send(&process);
    // The signal waits until we look after the leader, with our next call.
    while !status(running.pid(), "State").starts_with('Z') {
        process.syscall("getpid", libc::SYS_getpid, [0; 6]).unwrap();
    }
    process.release().unwrap();
    running.say("");
    assert_eq!(running.line(), "the end");
    assert_eq!(process.wait().unwrap(), ExitStatus::Code(3));
    // As we are its parent, too, that was the one report of its end.
    assert!(!std::path::Path::new(&format!("/proc/{}", running.pid())).exists());
}

#[test]
fn another_program_may_be_run_by_any_thread() {
    for what in ["exec", "other"] {
        let directory = Directory::new();
        let (mut running, mut process) = hold(&directory, what);
        send(&process);
        let error = call_until_failure(&mut process);
        assert!(
            matches!(error, InjectError::Replaced { .. }),
            "{what}: {error:?}"
        );
        running.say("cat");
        assert_eq!(running.line(), "cat");
        assert_eq!(status(running.pid(), "TracerPid"), "0");
        // And it can be had again.
        process.stop_again().unwrap();
        process.release().unwrap();
    }
}

#[test]
fn a_process_may_be_killed() {
    let directory = Directory::new();
    let (running, mut process) = hold(&directory, "print");
    process.signal(rustix::process::Signal::KILL).unwrap();
    let error = call_until_failure(&mut process);
    assert!(matches!(error, InjectError::Exited { .. }), "{error:?}");
    assert_eq!(process.wait().unwrap(), ExitStatus::Signal(libc::SIGKILL));
    // As we are its parent, too, that was the one report of its end.
    assert!(!std::path::Path::new(&format!("/proc/{}", running.pid())).exists());
}
