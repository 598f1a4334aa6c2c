//! Launching, attaching and letting go, without any patch.

mod targets;

use std::path::Path;

use inject::{ExitStatus, InjectError, Launch, Pid, Process};
use targets::{Counters, Directory, Running, status};

const BLOCKED: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <linux/futex.h>
#include <sys/syscall.h>
static int pipe_read[2], pipe_poll[2], pipe_epoll[2], sockets[2], word;
static int result[6], error[6];
static void *run(void *p) {
    long kind = (long)p;
    char c;
    int r = -2;
    errno = 0;
    if (kind == 0) r = read(pipe_read[0], &c, 1);
    if (kind == 1) { struct timespec t = { 2, 0 }, rest; r = nanosleep(&t, &rest); }
    if (kind == 2) r = syscall(SYS_futex, &word, FUTEX_WAIT, 0, 0, 0, 0);
    if (kind == 3) {
        int e = epoll_create1(0);
        struct epoll_event ev = { .events = EPOLLIN };
        epoll_ctl(e, EPOLL_CTL_ADD, pipe_epoll[0], &ev);
        r = epoll_wait(e, &ev, 1, -1);
    }
    if (kind == 4) { struct pollfd f = { pipe_poll[0], POLLIN, 0 }; r = poll(&f, 1, 100000); }
    if (kind == 5) {
        struct timeval t = { 100, 0 };
        setsockopt(sockets[0], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
        r = recv(sockets[0], &c, 1, 0);
    }
    result[kind] = r; error[kind] = errno;
    return 0;
}
int main(void) {
    pthread_t t[6];
    char c;
    pipe(pipe_read); pipe(pipe_poll); pipe(pipe_epoll);
    socketpair(AF_UNIX, SOCK_STREAM, 0, sockets);
    for (long i = 0; i < 6; i++) pthread_create(&t[i], 0, run, (void *)i);
    puts("ready"); fflush(stdout);
    int r = read(0, &c, 1);
    printf("main %d\n", r);
    write(pipe_read[1], "x", 1); write(pipe_poll[1], "x", 1); write(pipe_epoll[1], "x", 1); write(sockets[1], "x", 1);
    word = 1;
    syscall(SYS_futex, &word, FUTEX_WAKE, 1, 0, 0, 0);
    for (int i = 0; i < 6; i++) pthread_join(t[i], 0);
    for (int i = 0; i < 6; i++) printf("%d %d %s\n", i, result[i], strerror(error[i]));
    return 0;
}
"#;

/// Whether every thread of a process waits in a system call, one of them for a futex. Others may bear another number than
/// their own: the kernel itself makes an interrupted sleep or poll again as `restart_syscall`.
fn all_wait(pid: Pid) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let calls: Vec<Option<i64>> = threads
        .map(|thread| {
            // A thread that ended meanwhile does not wait.
            let text = std::fs::read_to_string(thread.unwrap().path().join("syscall")).ok()?;
            text.split(' ').next()?.parse().ok()
        })
        .collect();
    calls.iter().all(Option::is_some) && calls.contains(&Some(libc::SYS_futex))
}

#[test]
fn blocked_system_calls_notice_nothing() {
    let directory = Directory::new();
    let program = directory.compile("blocked", BLOCKED, &[]);
    let mut running = Running::start(&program, &[]);
    assert_eq!(running.line(), "ready");
    while !all_wait(running.pid()) {
        std::thread::yield_now();
    }
    let descriptors = || {
        std::fs::read_dir(format!("/proc/{}/fd", running.child.id()))
            .unwrap()
            .count()
    };
    let before = descriptors();
    let mut process = Process::attach(running.pid()).unwrap();
    for _ in 0..20 {
        let base = Counters::new().share(&mut process);
        process.write(base, &[1, 2, 3]).unwrap();
        process.unmap(base, 4096).unwrap();
        process.release().unwrap();
        assert_eq!(status(running.pid(), "TracerPid"), "0");
        process.stop_again().unwrap();
    }
    process.release().unwrap();
    assert_eq!(descriptors(), before);
    // A futex that is waited for again after its word has changed says EAGAIN, as it may.
    while !all_wait(running.pid()) {
        std::thread::yield_now();
    }
    running.say("");
    assert_eq!(running.line(), "main 1");
    for expected in [
        "0 1 Success",
        "1 0 Success",
        "2 0 Success",
        "3 1 Success",
        "4 1 Success",
        "5 1 Success",
    ] {
        assert_eq!(running.line(), expected);
    }
}

#[test]
fn signals_that_arrive_meanwhile_are_delivered_afterwards() {
    let directory = Directory::new();
    let program = directory.compile(
        "signals",
        r#"
        #include <signal.h>
        #include <stdio.h>
        #include <unistd.h>
        static volatile int users, value;
        static void handle(int n, siginfo_t *i, void *c) { users++; value = i->si_pid; }
        int main(void) {
            struct sigaction a = { .sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_RESTART };
            char c;
            sigaction(SIGUSR1, &a, 0); sigaction(SIGUSR2, &a, 0);
            puts("ready"); fflush(stdout);
            read(0, &c, 1);
            printf("%d %d\n", users, value);
            return 0;
        }
        "#,
        &[],
    );
    let mut running = Running::start(&program, &[]);
    assert_eq!(running.line(), "ready");
    let mut process = Process::attach(running.pid()).unwrap();
    process.signal(rustix::process::Signal::USR1).unwrap();
    let base = Counters::new().share(&mut process);
    process.signal(rustix::process::Signal::USR2).unwrap();
    process.unmap(base, 4096).unwrap();
    process.release().unwrap();
    running.say("");
    assert_eq!(running.line(), format!("2 {}", std::process::id()));
}

#[test]
fn a_stopped_process_stays_stopped() {
    let directory = Directory::new();
    let program = directory.compile(
        "stopped",
        "#include <stdio.h>\n#include <unistd.h>\nint main(void) { char c; puts(\"ready\"); fflush(stdout); read(0, &c, 1); puts(\"went on\"); return 0; }",
        &[],
    );
    let mut running = Running::start(&program, &[]);
    assert_eq!(running.line(), "ready");
    let pid = running.pid();
    let signal = |signal| {
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid.0).unwrap(), signal)
            .unwrap()
    };
    signal(rustix::process::Signal::STOP);
    while !status(pid, "State").starts_with('T') {
        std::thread::yield_now();
    }
    let mut process = Process::attach(pid).unwrap();
    let base = Counters::new().share(&mut process);
    process.unmap(base, 4096).unwrap();
    process.release().unwrap();
    running.say("");
    while !status(pid, "State").starts_with('T') {
        std::thread::yield_now();
    }
    assert_eq!(status(pid, "TracerPid"), "0");
    signal(rustix::process::Signal::CONT);
    assert_eq!(running.line(), "went on");
}

#[test]
fn threads_being_created_are_all_caught() {
    // Set to thousands, it finds what is rare.
    let attaches = std::env::var("SPILE_ATTACHES").map_or(100, |n| n.parse().unwrap());
    let directory = Directory::new();
    let program = directory.compile(
        "spawner",
        r#"
        #include <pthread.h>
        #include <stdio.h>
        #include <unistd.h>
        static volatile int stop;
        static void *short_lived(void *p) { return 0; }
        static void *spawn(void *p) {
            while (!stop) { pthread_t t; if (!pthread_create(&t, 0, short_lived, 0)) pthread_join(t, 0); }
            return 0;
        }
        int main(void) {
            pthread_t t[4];
            char c;
            for (int i = 0; i < 4; i++) pthread_create(&t[i], 0, spawn, 0);
            puts("ready"); fflush(stdout);
            read(0, &c, 1);
            stop = 1;
            for (int i = 0; i < 4; i++) pthread_join(t[i], 0);
            puts("bye");
            return 0;
        }
        "#,
        &[],
    );
    let mut running = Running::start(&program, &[]);
    assert_eq!(running.line(), "ready");
    for _ in 0..attaches {
        let mut process = Process::attach(running.pid()).unwrap();
        // Some that have ended may still be listed, and a list ends early where one is taken off it.
        for _ in 0..3 {
            for entry in std::fs::read_dir(format!("/proc/{}/task", running.pid())).unwrap() {
                let stat = entry.unwrap().path().join("stat");
                let text = std::fs::read_to_string(stat).unwrap_or(") X".into());
                let state = text.rsplit_once(") ").unwrap().1.chars().next().unwrap();
                assert!("tZX".contains(state), "{text}");
            }
        }
        let base = Counters::new().share(&mut process);
        process.unmap(base, 4096).unwrap();
    }
    running.say("");
    assert_eq!(running.line(), "bye");
}

#[test]
fn a_launched_program_outlives_its_tracer_only_once_released() {
    let mut process = Process::launch(&Launch::new("sleep").arg("1000")).unwrap();
    let pid = process.pid();
    process.run_to_libraries_loaded().unwrap();
    drop(process);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());

    let mut process = Process::launch(&Launch::new("sleep").arg("1000")).unwrap();
    process.run_to_libraries_loaded().unwrap();
    process.release().unwrap();
    assert_eq!(status(process.pid(), "TracerPid"), "0");
    process.stop_again().unwrap();
    let pid = process.pid();
    drop(process);
    assert_eq!(status(pid, "TracerPid"), "0");
    let mut process = Process::attach(pid).unwrap();
    assert_eq!(process.kill().unwrap(), ExitStatus::Signal(9));
}

#[test]
fn exit_statuses_are_reported() {
    let mut process = Process::launch(&Launch::new("sh").args(["-c", "exit 7"])).unwrap();
    assert_eq!(process.wait().unwrap(), ExitStatus::Code(7));
    let mut process = Process::launch(&Launch::new("sh").args(["-c", "kill -TERM $$"])).unwrap();
    assert_eq!(process.wait().unwrap(), ExitStatus::Signal(15));
}

#[test]
fn a_script_runs_its_interpreter() {
    let directory = Directory::new();
    let script = directory.path().join("script");
    std::fs::write(&script, "#!/bin/sh\nexit 5\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, mode).unwrap();
    let mut process = Process::launch(&Launch::new(&script)).unwrap();
    process.run_to_libraries_loaded().unwrap();
    assert_eq!(
        process.program_path().unwrap(),
        std::fs::canonicalize("/bin/sh").unwrap()
    );
    assert_eq!(process.wait().unwrap(), ExitStatus::Code(5));
}

#[test]
fn a_missing_library_is_a_clear_error() {
    let directory = Directory::new();
    let library = directory.compile(
        "libgone.so",
        "int gone(void) { return 1; }",
        &["-shared", "-fPIC"],
    );
    let program = directory.compile(
        "needs",
        "extern int gone(void); int main(void) { return gone(); }",
        &[library.to_str().unwrap()],
    );
    std::fs::remove_file(&library).unwrap();
    let null = std::fs::File::create("/dev/null").unwrap();
    let mut process = Process::launch(&Launch::new(&program).stderr(null.into())).unwrap();
    let error = process.run_to_libraries_loaded().unwrap_err();
    assert!(
        matches!(
            error,
            InjectError::DiedStarting {
                status: ExitStatus::Code(127),
                ..
            }
        ),
        "{error:?}"
    );
}

#[test]
fn what_cannot_be_had_is_named() {
    let error = Process::launch(&Launch::new("no-such-command-anywhere")).unwrap_err();
    assert!(
        matches!(error, InjectError::CommandNotFound { .. }),
        "{error:?}"
    );
    let error = Process::launch(&Launch::new("/etc/passwd")).unwrap_err();
    assert!(
        matches!(error, InjectError::Launch { step: "execve", .. }),
        "{error:?}"
    );
    // The largest PID Linux can be configured for is 2²².
    let error = Process::attach(Pid(1 << 23)).unwrap_err();
    assert!(
        matches!(error, InjectError::NoSuchProcess { .. }),
        "{error:?}"
    );
    let directory = Directory::new();
    let program = directory.compile("zombie", "int main(void) { return 0; }", &[]);
    let running = Running::start(&program, &[]);
    while !status(running.pid(), "State").starts_with('Z') {
        std::thread::yield_now();
    }
    let error = Process::attach(running.pid()).unwrap_err();
    assert!(matches!(error, InjectError::Zombie { .. }), "{error:?}");
    let held = Process::launch(&Launch::new("sleep").arg("1000")).unwrap();
    let error = Process::attach(held.pid()).unwrap_err();
    assert!(
        matches!(error, InjectError::AlreadyTraced { .. }),
        "{error:?}"
    );
}
