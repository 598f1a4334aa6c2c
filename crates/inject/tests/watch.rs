//! What watched processes tell: libraries, children, programs, threads.

mod targets;

use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use inject::{ExitStatus, Launch, Notice, NoticeBoard, NoticeKind, Pid, Process, Watch};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use targets::Directory;

/// A test that hangs fails by this.
const PATIENCE: Duration = Duration::from_secs(60);

fn wait_for(fds: &[BorrowedFd<'_>]) {
    let mut fds: Vec<PollFd<'_>> = fds
        .iter()
        .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
        .collect();
    let limit = Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    };
    let _ = poll(&mut fds, Some(&limit));
}

/// Lets a process run to its end, with each notice shown to `see`, and answered.
fn run(
    board: &NoticeBoard,
    process: &mut Process,
    mut see: impl FnMut(&mut Process, &Notice),
) -> ExitStatus {
    let start = Instant::now();
    process.release().unwrap();
    loop {
        wait_for(&[board.fd(), process.exit_fd()]);
        let ended = process.try_wait().unwrap();
        for notice in board.take_notices() {
            see(process, &notice);
            board.answer(&notice);
        }
        if let Some(status) = ended {
            return status;
        }
        assert!(start.elapsed() < PATIENCE, "the program hangs");
    }
}

fn pipe() -> (std::fs::File, OwnedFd) {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    (read.into(), write)
}

fn launch(program: &Path, args: &[&str]) -> (Process, std::fs::File) {
    let (read, write) = pipe();
    let launch = Launch::new(program).args(args).stdout(write);
    let mut process = Process::launch(&launch).unwrap();
    process.run_to_libraries_loaded().unwrap();
    (process, read)
}

fn text(mut file: std::fs::File) -> String {
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    text
}

const PLUGIN: &str = r#"
int constructed;
__attribute__((constructor)) static void begin(void) { constructed = 42; }
int answer(void) { return constructed; }
"#;

const HOST: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
int main(int argc, char **argv) {
    for (int i = 0; i < 3; i++) {
        void *h = i < 2 ? dlopen(argv[1], RTLD_NOW) : dlmopen(LM_ID_NEWLM, argv[1], RTLD_NOW);
        if (!h) { puts(dlerror()); return 1; }
        int (*answer)(void) = (int (*)(void))dlsym(h, "answer");
        printf("%d\n", answer());
        if (i == 0) dlclose(h);
    }
    return 0;
}
"#;

#[test]
fn libraries_are_told_of_before_their_constructors_run() {
    let directory = Directory::new();
    let plugin = directory.compile("plugin.so", PLUGIN, &["-shared", "-fPIC"]);
    let host = directory.compile("host", HOST, &[]);
    let board = NoticeBoard::new().unwrap();
    let watch = Watch {
        libraries: true,
        ..Watch::default()
    };
    let (mut process, output) = launch(&host, &[plugin.to_str().unwrap()]);
    assert_eq!(process.watch(&board, watch).unwrap(), []);
    let mut fresh = 0;
    let mut gone = 0;
    let mut known = 0;
    let pid = process.pid();
    let status = run(&board, &mut process, |process, notice| {
        assert_eq!((notice.pid, notice.tid), (pid, pid));
        assert_eq!(notice.kind, NoticeKind::Libraries);
        assert!(notice.waits());
        process.stop_again().unwrap();
        assert_eq!(process.watch(&board, watch).unwrap(), []);
        let images = process.images().unwrap();
        let plugins: Vec<_> = images.iter().filter(|i| i.path() == plugin).collect();
        if plugins.len() > known {
            let image = plugins.iter().map(|image| {
                let at = image.absolute(image.binary().symbol("constructed").unwrap());
                let mut word = [0; 4];
                process.read(at, &mut word).unwrap();
                u32::from_le_bytes(word)
            });
            assert!(image.into_iter().any(|value| value == 0));
            fresh += 1;
        } else {
            gone += 1;
        }
        known = plugins.len();
        process.release().unwrap();
    });
    assert_eq!(status, ExitStatus::Code(0));
    assert_eq!(text(output), "42\n42\n42\n");
    assert_eq!((fresh, gone, board.lost()), (3, 1, 0));
}

const FORKS: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
int main(void) {
    setvbuf(stdout, 0, _IOLBF, 0);
    for (int i = 0; i < 5; i++) {
        pid_t child = fork();
        if (child == 0) {
            if (i == 4) { pid_t inner = fork(); if (inner) { printf("%d\n", inner); wait(0); } }
            pause_until_told: ;
            char c; read(0, &c, 1);
            _exit(0);
        }
        printf("%d\n", child);
    }
    while (wait(0) > 0);
    return 7;
}
"#;

#[test]
fn children_are_told_of_and_adopted() {
    let directory = Directory::new();
    let program = directory.compile("forks", FORKS, &["-Wno-unused-label"]);
    let board = NoticeBoard::new().unwrap();
    let (go, write) = pipe();
    let (output, stdout) = pipe();
    let launch = Launch::new(&program).stdout(stdout).stdin(go.into());
    let mut process = Process::launch(&launch).unwrap();
    drop(launch);
    process.run_to_libraries_loaded().unwrap();
    let watch = Watch {
        forks: true,
        exits: true,
        ..Watch::default()
    };
    assert_eq!(process.watch(&board, watch).unwrap(), []);
    let patched = process.patched_sites();
    assert!(patched > 0);
    let mut write = Some(write);
    let mut children: Vec<Process> = Vec::new();
    let mut exits = 0;
    let parent = process.pid();
    let status = run(&board, &mut process, |process, notice| {
        assert_eq!(notice.watched, parent);
        match notice.kind {
            NoticeKind::Forked { shares_memory } => {
                assert!(!shares_memory && !notice.waits());
                let mut child = process.adopt_child(notice.pid).unwrap();
                child.stop_again().unwrap();
                // It has all hooks, and needs no others.
                assert_eq!(child.watch(&board, watch).unwrap(), []);
                assert_eq!(child.patched_sites(), patched);
                child.release().unwrap();
                children.push(child);
                if children.len() < 6 {
                    return;
                }
                // Every other one is rid of all that it has inherited, now that the one which has a child itself has told
                // of it.
                for child in children.iter_mut().step_by(2) {
                    child.stop_again().unwrap();
                    let removal = child.remove_all_and_unmap(&mut |_| false).unwrap();
                    assert!(removal.unmapped && removal.left.is_empty(), "{removal:?}");
                    let maps = child.maps().unwrap();
                    let ours = |m: &symbols::Mapping| {
                        let path = m.path.as_deref();
                        path.is_some_and(|p| p.to_string_lossy().contains("spile-notices"))
                            || m.perms.execute && !m.is_file() && path.is_none()
                    };
                    assert!(!maps.iter().any(ours));
                    child.release().unwrap();
                }
                drop(write.take());
            }
            NoticeKind::Exiting { .. } => exits += 1,
            ref other => panic!("{other:?}"),
        }
    });
    assert_eq!(status, ExitStatus::Code(7));
    let mut expected: Vec<i32> = text(output).lines().map(|l| l.parse().unwrap()).collect();
    expected.sort_unstable();
    let mut told: Vec<i32> = children.iter().map(|child| child.pid().0).collect();
    told.sort_unstable();
    assert_eq!(told, expected);
    // The parent, and the three children that were left their hooks.
    assert_eq!((exits, board.lost()), (4, 0));
}

const EXECS: &str = r#"
#define _GNU_SOURCE
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
extern char **environ;
static void *replace(void *p) { execl("/bin/echo", "echo", "thread", (char *)0); return 0; }
int main(void) {
    char *args[] = { "echo", "spawn", 0 };
    pid_t pid;
    posix_spawn(&pid, "/bin/echo", 0, 0, args, environ);
    waitpid(pid, 0, 0);
    if (vfork() == 0) { execl("/nowhere", "x", (char *)0); execl("/bin/echo", "echo", "vfork", (char *)0); _exit(1); }
    wait(0);
    system("/bin/echo shell");
    if (fork() == 0) { chdir("/bin"); execl("./echo", "echo", "fork", (char *)0); _exit(1); }
    wait(0);
    pthread_t t;
    pthread_create(&t, 0, replace, 0);
    pthread_join(t, 0);
    return 1;
}
"#;

#[test]
fn programs_are_followed() {
    let directory = Directory::new();
    let program = directory.compile("execs", EXECS, &[]);
    let board = NoticeBoard::new().unwrap();
    let watch = Watch {
        execs: true,
        forks: true,
        ..Watch::default()
    };
    let (mut process, output) = launch(&program, &[]);
    let pid = process.pid();
    assert_eq!(process.watch(&board, watch).unwrap(), []);
    let mut followed: BTreeMap<String, u32> = BTreeMap::new();
    let mut failed = 0;
    let mut sharing = 0;
    let mut others = Vec::new();
    let status = run(&board, &mut process, |_, notice| match &notice.kind {
        NoticeKind::Exec { program } => {
            let program = program.clone().unwrap();
            match board.follow_exec(notice).unwrap() {
                None => {
                    assert_eq!(program, Path::new("/nowhere"));
                    failed += 1;
                }
                Some(mut new) => {
                    assert_eq!(new.pid(), notice.pid);
                    let images = new.images().unwrap();
                    assert!(images.iter().any(|i| i.path().ends_with("libc.so.6")));
                    assert_eq!(new.watch(&board, watch).unwrap(), []);
                    new.release().unwrap();
                    *followed
                        .entry(program.to_string_lossy().into_owned())
                        .or_default() += 1;
                    others.push(new);
                }
            }
        }
        // The shell has its own ways.
        NoticeKind::Forked { shares_memory } => {
            sharing += u32::from(*shares_memory && notice.watched == pid);
        }
        other => panic!("{other:?}"),
    });
    assert_eq!(status, ExitStatus::Code(0));
    assert_eq!(text(output), "spawn\nvfork\nshell\nfork\nthread\n");
    assert_eq!(failed, 1);
    // posix_spawn, vfork, and system, which is made of the former.
    assert_eq!(sharing, 3);
    // The shell may run its command in a child or in its own place.
    let echoes: u32 = followed
        .iter()
        .filter(|(name, _)| name.ends_with("echo"))
        .map(|(_, count)| count)
        .sum();
    assert_eq!((echoes, followed["/bin/sh"]), (5, 1));
    assert_eq!(board.lost(), 0);
}

const THREADS: &str = r#"
#include <pthread.h>
#include <stdio.h>
static void *run(void *p) { return p; }
int main(void) {
    pthread_t t[20];
    for (int i = 0; i < 10; i++) {
        for (int j = 0; j < 20; j++) pthread_create(&t[j], 0, run, 0);
        for (int j = 0; j < 20; j++) pthread_join(t[j], 0);
        getchar();
    }
    return 0;
}
"#;

#[test]
fn threads_are_told_of() {
    let directory = Directory::new();
    let program = directory.compile("threads", THREADS, &[]);
    let board = NoticeBoard::new().unwrap();
    let (read, write) = pipe();
    let launch = Launch::new(&program).stdin(read.into());
    let mut process = Process::launch(&launch).unwrap();
    process.run_to_libraries_loaded().unwrap();
    let watch = Watch {
        threads: true,
        ..Watch::default()
    };
    assert_eq!(process.watch(&board, watch).unwrap(), []);
    let (mut started, mut ended) = (0, 0);
    let mut rounds = 0;
    let status = run(&board, &mut process, |_, notice| {
        match notice.kind {
            NoticeKind::ThreadStarted => started += 1,
            NoticeKind::ThreadEnding => ended += 1,
            ref other => panic!("{other:?}"),
        }
        if ended == 20 * (rounds + 1) {
            rounds += 1;
            rustix::io::write(write.as_fd(), b"\n").unwrap();
        }
    });
    assert_eq!(status, ExitStatus::Code(0));
    assert_eq!((started, ended, board.lost()), (200, 200, 0));
}

/// What the tracer of the next test does: waits for a notice, and never answers.
#[test]
fn tracer_that_never_answers() {
    let Ok(pid) = std::env::var("SPILE_TEST_WATCHED") else {
        return;
    };
    let board = NoticeBoard::new().unwrap();
    let mut process = Process::attach(Pid(pid.parse().unwrap())).unwrap();
    let watch = Watch {
        execs: true,
        ..Watch::default()
    };
    assert_eq!(process.watch(&board, watch).unwrap(), []);
    process.release().unwrap();
    println!("watching");
    loop {
        wait_for(&[board.fd()]);
        for notice in board.take_notices() {
            println!("told {}", notice.pid);
        }
    }
}

#[test]
fn a_tracer_that_is_killed_keeps_nobody_waiting() {
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Command, Stdio};
    let mut shell = Command::new("sh")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut tracer = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tracer_that_never_answers", "--nocapture"])
        .env("SPILE_TEST_WATCHED", shell.id().to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(tracer.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("watching")));
    let mut input = shell.stdin.take().unwrap();
    writeln!(input, "/bin/echo one; /bin/echo two").unwrap();
    assert!(lines.any(|line| line.unwrap().contains("told")));
    tracer.kill().unwrap();
    tracer.wait().unwrap();
    drop(input);
    let start = Instant::now();
    assert_eq!(
        text(std::fs::File::from(OwnedFd::from(
            shell.stdout.take().unwrap()
        ))),
        "one\ntwo\n"
    );
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "it waited out its time"
    );
    assert!(shell.wait().unwrap().success());
}
