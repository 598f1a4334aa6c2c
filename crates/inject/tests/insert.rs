//! Snippets inserted into real programs, and taken out again.

mod targets;

use inject::{ExitStatus, Insertion, Launch, Process};
use targets::{Counters, Directory, Running, assert_code_is_original, count, image, status};

const THREADS: &str = r#"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#define CALLS 300000L
__attribute__((noinline)) long work(long x) { return x * 3 + (x >> 2); }
static void *run(void *p) {
    long sum = 0;
    for (long i = 0; i < CALLS; i++) sum += work(i);
    return (void *)sum;
}
int main(void) {
    pthread_t t[8];
    long sum = 0;
    for (int i = 0; i < 8; i++) pthread_create(&t[i], 0, run, 0);
    for (int i = 0; i < 8; i++) { void *r; pthread_join(t[i], &r); sum += (long)r; }
    return sum == 8 * (CALLS * (CALLS - 1) / 2 * 3) ? 1 : 42;
}
"#;

fn count_launched(program: &std::path::Path) -> (u64, ExitStatus) {
    let mut process = Process::launch(&Launch::new(program)).unwrap();
    process.run_to_libraries_loaded().unwrap();
    let counters = Counters::new();
    let base = counters.share(&mut process);
    let entry = process.images().unwrap()[0]
        .function("work")
        .unwrap()
        .entry();
    let answers = process
        .insert(&[Insertion::at(&entry, count(base))])
        .unwrap();
    assert!(answers[0].is_ok(), "{answers:?}");
    process.release().unwrap();
    let status = process.wait().unwrap();
    (counters.get(0), status)
}

#[test]
fn every_call_of_eight_threads_is_counted() {
    let directory = Directory::new();
    let program = directory.compile("threads", THREADS, &[]);
    assert_eq!(count_launched(&program), (2_400_000, ExitStatus::Code(42)));
}

#[test]
fn a_fixed_address_program_works() {
    let directory = Directory::new();
    let program = directory.compile("threads", THREADS, &["-no-pie"]);
    assert_eq!(count_launched(&program), (2_400_000, ExitStatus::Code(42)));
}

#[test]
fn a_static_program_works() {
    let directory = Directory::new();
    let program = directory.compile("threads", THREADS, &["-static"]);
    assert_eq!(count_launched(&program), (2_400_000, ExitStatus::Code(42)));
}

#[test]
fn a_static_position_independent_program_works() {
    let directory = Directory::new();
    let program = directory.compile("threads", THREADS, &["-static-pie"]);
    assert_eq!(count_launched(&program), (2_400_000, ExitStatus::Code(42)));
}

#[test]
fn constructors_of_libraries_are_seen() {
    let directory = Directory::new();
    let library = directory.compile(
        "libearly.so",
        r#"
        int calls;
        __attribute__((noinline)) void early(int x) { calls += x; }
        __attribute__((constructor)) static void construct(void) { early(1); early(2); }
        "#,
        &["-shared", "-fPIC"],
    );
    let program = directory.compile(
        "early",
        "extern void early(int); int main(void) { early(3); return 0; }",
        &[library.to_str().unwrap(), "-Wl,-rpath,$ORIGIN"],
    );
    let mut process = Process::launch(&Launch::new(&program)).unwrap();
    process.run_to_libraries_loaded().unwrap();
    let counters = Counters::new();
    let base = counters.share(&mut process);
    let entry = image(&process, "libearly.so")
        .function("early")
        .unwrap()
        .entry();
    let answers = process
        .insert(&[Insertion::at(&entry, count(base))])
        .unwrap();
    assert!(answers[0].is_ok(), "{answers:?}");
    assert_eq!(process.wait().unwrap(), ExitStatus::Code(0));
    assert_eq!(counters.get(0), 3);
}

const SERVER: &str = r#"
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>
volatile long done, stop, sink;
__attribute__((noinline)) long work(long x) { return x * 3 + (x >> 2); }
static void *run(void *p) { while (!stop) { sink = work(done); __sync_fetch_and_add(&done, 1); } return 0; }
int main(void) {
    pthread_t t[4];
    for (int i = 0; i < 4; i++) pthread_create(&t[i], 0, run, 0);
    puts("ready"); fflush(stdout);
    char c;
    while (read(0, &c, 1) == 1) {
        if (c == 'q') break;
        if (c == '\n') { long before = done; while (done < before + 10000) ; puts("worked"); fflush(stdout); }
    }
    stop = 1;
    for (int i = 0; i < 4; i++) pthread_join(t[i], 0);
    puts("bye");
    return 0;
}
"#;

#[test]
fn attaching_thrice_to_a_busy_program_leaves_it_as_it_was() {
    let directory = Directory::new();
    let program = directory.compile("server", SERVER, &[]);
    let mut running = Running::start(&program, &[]);
    assert_eq!(running.line(), "ready");
    let maps_before = std::fs::read_to_string(format!("/proc/{}/maps", running.pid())).unwrap();
    for _ in 0..3 {
        let mut process = Process::attach(running.pid()).unwrap();
        assert_eq!(process.thread_ids().len(), 5);
        let counters = Counters::new();
        let base = counters.share(&mut process);
        let image = image(&process, "server");
        let work = image.function("work").unwrap().entry();
        // Twice at one place, and in a function that has a thread inside.
        let read = process
            .images()
            .unwrap()
            .iter()
            .find_map(|image| image.function("read").ok())
            .unwrap();
        let batch = [
            Insertion::at(&work, count(base)),
            Insertion::at(&work, count(base + 8)),
            Insertion::at(&read.entry(), count(base + 16)),
        ];
        let answers = process.insert(&batch).unwrap();
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        let later = process
            .insert(&[Insertion::at(&work, count(base + 24))])
            .unwrap();
        process.release().unwrap();
        assert_eq!(status(running.pid(), "TracerPid"), "0");
        running.say("");
        assert_eq!(running.line(), "worked");
        process.stop_again().unwrap();
        assert!(counters.get(0) >= 9_000, "{}", counters.get(0));
        // Each thread may have been stopped between its snippets.
        assert!(counters.get(0) - counters.get(1) <= 4);
        assert!(counters.get(1) - counters.get(3) <= 4);
        // One of three snippets out, two stay.
        let removal = process.remove(&[*later[0].as_ref().unwrap()]).unwrap();
        assert!(removal.left.is_empty());
        process.release().unwrap();
        running.say("");
        assert_eq!(running.line(), "worked");
        process.stop_again().unwrap();
        assert!(counters.get(0) > counters.get(3) + 9_000);
        // The main thread has asked for the second command since.
        assert!(counters.get(2) >= 1);
        assert!(counters.get(0) - counters.get(1) <= 4);
        let removal = process.remove_all_and_unmap(&mut |_| false).unwrap();
        assert!(removal.left.is_empty() && removal.unmapped, "{removal:?}");
        process.release().unwrap();
        drop(process);
        assert_code_is_original(running.pid());
        running.say("");
        assert_eq!(running.line(), "worked");
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", running.pid())).unwrap();
        assert_eq!(maps.lines().count(), maps_before.lines().count(), "{maps}");
    }
    running.say("q");
    // The newline behind an earlier command may have been answered first.
    while running.line() != "bye" {}
    assert!(running.child.wait().unwrap().success());
}

#[test]
fn refusals_name_the_reason_and_leave_the_rest_of_the_batch() {
    let directory = Directory::new();
    let program = directory.compile("server", SERVER, &[]);
    let mut running = Running::start(&program, &[]);
    assert_eq!(running.line(), "ready");
    let mut process = Process::attach(running.pid()).unwrap();
    let counters = Counters::new();
    let base = counters.share(&mut process);
    let work = image(&process, "server").function("work").unwrap().entry();
    let nowhere = inject::Point::instruction(0x1000);
    let answers = process
        .insert(&[
            Insertion::at(&nowhere, count(base)),
            Insertion::at(&work, count(base)),
        ])
        .unwrap();
    assert_eq!(answers[0].as_ref().unwrap_err().address, 0x1000);
    assert!(answers[1].is_ok());
    drop(process);
    assert_eq!(status(running.pid(), "TracerPid"), "0");
}

#[test]
fn a_killed_program_ends_every_operation_with_exited() {
    let directory = Directory::new();
    let program = directory.compile("server", SERVER, &[]);
    let mut running = Running::start(&program, &[]);
    assert_eq!(running.line(), "ready");
    let mut process = Process::attach(running.pid()).unwrap();
    let counters = Counters::new();
    let base = counters.share(&mut process);
    let work = image(&process, "server").function("work").unwrap().entry();
    running.child.kill().unwrap();
    let error = process
        .insert(&[Insertion::at(&work, count(base))])
        .unwrap_err();
    assert!(error.is_exit(), "{error:?}");
    assert!(process.stop_again().unwrap_err().is_exit());
    assert!(matches!(
        process.try_wait().unwrap(),
        Some(ExitStatus::Signal(9))
    ));
}

#[test]
fn a_patched_program_that_was_released_can_be_killed() {
    let directory = Directory::new();
    let program = directory.compile("server", SERVER, &[]);
    let mut running = Running::start(&program, &[]);
    assert_eq!(running.line(), "ready");
    let mut process = Process::attach(running.pid()).unwrap();
    let counters = Counters::new();
    let base = counters.share(&mut process);
    let work = image(&process, "server").function("work").unwrap().entry();
    process
        .insert(&[Insertion::at(&work, count(base))])
        .unwrap();
    process.release().unwrap();
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    assert!(process.stop_again().unwrap_err().is_exit());
    assert!(process.read_u64(base).is_err());
}

const DOUBLER: &str = r#"
#include <stdio.h>
__attribute__((noinline, noclone)) long twice(long x) { __asm__ volatile(""); return 2 * x; }
__attribute__((noinline, noclone)) long thrice(long x) { __asm__ volatile(""); return 3 * x; }
int main(int argc, char **argv) {
    char line[16];
    puts(argc > 1 ? "ready" : "thrice is not used");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        printf("%ld\n", argc > 9 ? thrice(21) : twice(21));
        fflush(stdout);
    }
    return 0;
}
"#;

#[test]
fn a_function_is_replaced_and_wrapped_and_put_back() {
    let directory = Directory::new();
    let program = directory.compile("doubler", DOUBLER, &[]);
    let mut running = Running::start(&program, &["x"]);
    assert_eq!(running.line(), "ready");
    let ask = |running: &mut Running| {
        running.say("");
        running.line()
    };
    let mut process = Process::attach(running.pid()).unwrap();
    let images = process.images().unwrap();
    let twice = images[0].function("twice").unwrap();
    let thrice = images[0].function("thrice").unwrap();
    let replaced = process.replace(&twice, thrice.address()).unwrap().unwrap();
    process.release().unwrap();
    assert_eq!(ask(&mut running), "63");

    process.stop_again().unwrap();
    process.remove(&[replaced.id]).unwrap();
    let wrapper = process.allocate_code(64).unwrap();
    let wrapped = process.replace(&twice, wrapper).unwrap().unwrap();
    // sub rsp, 8; mov rax, original; call rax; add rsp, 8; inc rax; ret
    let mut code = vec![0x48, 0x83, 0xec, 8, 0x48, 0xb8];
    code.extend_from_slice(&wrapped.original.to_le_bytes());
    code.extend_from_slice(&[0xff, 0xd0, 0x48, 0x83, 0xc4, 8, 0x48, 0xff, 0xc0, 0xc3]);
    process.write_code(wrapper, &code).unwrap();
    process.release().unwrap();
    assert_eq!(ask(&mut running), "43");

    process.stop_again().unwrap();
    process.remove(&[wrapped.id]).unwrap();
    process.release().unwrap();
    assert_eq!(ask(&mut running), "42");
    process.stop_again().unwrap();
    assert!(
        process
            .remove_all_and_unmap(&mut |_| false)
            .unwrap()
            .unmapped
    );
    process.release().unwrap();
    assert_code_is_original(running.pid());
    assert_eq!(ask(&mut running), "42");
}

#[test]
fn registers_of_a_held_thread_are_read_and_set() {
    let directory = Directory::new();
    let program = directory.compile("doubler", DOUBLER, &[]);
    let mut running = Running::start(&program, &["x"]);
    assert_eq!(running.line(), "ready");
    let mut process = Process::attach(running.pid()).unwrap();
    let thread = process.thread_ids()[0];
    let before = process.registers(thread).unwrap();
    assert_eq!(process.backtrace(thread, 1).unwrap(), [before.rip]);
    let mut other = before;
    other.gpr[11] = 0x1234;
    process.set_registers(thread, &other).unwrap();
    assert_eq!(process.registers(thread).unwrap(), other);
    process.set_registers(thread, &before).unwrap();
    process.release().unwrap();
    running.say("");
    assert_eq!(running.line(), "42");
}
