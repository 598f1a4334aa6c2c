//! Stack walks of threads that are held.

mod targets;

use std::io::Write;

use inject::Process;
use targets::{Directory, Running, image};

const NESTED: &str = r#"
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>
#define KEEP __attribute__((noinline, noclone))
static volatile int waiting;
KEEP int inner(void) { char c; int r = read(0, &c, 1); __asm__ volatile("" ::: "memory"); return r; }
KEEP int middle(void) { int r = inner(); __asm__ volatile("" ::: "memory"); return r + 1; }
KEEP void *in_thread(void *p) { waiting = 1; middle(); __asm__ volatile("" ::: "memory"); return p; }
int main(void) {
    pthread_t t;
    pthread_create(&t, 0, in_thread, 0);
    while (!waiting) sched_yield();
    puts("ready"); fflush(stdout);
    pthread_join(t, 0);
    puts("done");
    return 0;
}
"#;

#[test]
fn a_held_thread_tells_who_called_it() {
    let directory = Directory::new();
    let program = directory.compile("nested", NESTED, &["-O2", "-pthread"]);
    let mut running = Running::start(&program, &[]);
    assert_eq!(running.line(), "ready");
    let mut process = Process::attach(running.pid()).unwrap();
    let program = image(&process, "nested");
    let functions = program.functions();
    let name_of = |address: &u64| {
        let found = functions
            .iter()
            .find(|f| (f.address()..f.address() + f.size()).contains(address));
        found.map(|f| f.name().to_owned())
    };
    let mut chains: Vec<Vec<String>> = process
        .thread_ids()
        .into_iter()
        .map(|thread| {
            let addresses = process.backtrace(thread, 50).unwrap();
            addresses.iter().filter_map(name_of).collect()
        })
        .collect();
    chains.sort();
    // The new thread may not have come to its system call yet, but is in or below its first function.
    let thread = chains.iter().find(|c| c.iter().any(|f| f == "in_thread"));
    let thread = thread.expect("the thread that waits");
    let expected = ["inner", "middle", "in_thread"];
    assert!(
        expected.ends_with(&thread.iter().map(String::as_str).collect::<Vec<_>>()),
        "{chains:?}"
    );
    let main = chains.iter().find(|c| c.iter().any(|f| f == "main"));
    assert_eq!(main.map(|c| c.join(" ")).as_deref(), Some("main _start"));
    assert_eq!(process.backtrace(running.pid(), 2).unwrap().len(), 2);
    process.release().unwrap();
    assert!(process.backtrace(running.pid(), 2).is_err());
    // In one write: the process may be gone before a second.
    running.input.write_all(b"x").unwrap();
    assert_eq!(running.line(), "done");
}
