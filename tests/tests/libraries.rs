//! Libraries that come and go while a program is probed.

use spile_tests::{Guard, Scratch, line, spawn, spile_path, stap};
use std::io::{BufReader, Write};
use std::process::{Command, Stdio};

/// A library whose constructor calls what is probed.
const LIBRARY: &str = r#"
__attribute__((noinline)) int work(int a) { __asm__ volatile(""); return a + 1; }
__attribute__((constructor)) static void begin(void) { for (int i = 0; i < 5; i++) work(i); }
"#;

/// Loads and unloads it 20 times, every third time in a namespace of its own, and calls it 10 times each.
const LOADER: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
int main(int count, char **args) {
  for (int i = 0; i < 20; i++) {
    void *library = i % 3 == 2 ? dlmopen(LM_ID_NEWLM, args[1], RTLD_NOW) : dlopen(args[1], RTLD_NOW);
    if (!library) { puts(dlerror()); return 1; }
    int (*work)(int) = (int (*)(int))dlsym(library, "work");
    int sum = 0;
    for (int k = 0; k < 10; k++) sum += work(k);
    if (sum != 55) return 2;
    dlclose(library);
  }
  puts("done");
  return 0;
}"#;

#[test]
fn libraries_are_probed_before_their_constructors_run_however_often_they_come() {
    let scratch = Scratch::new("libraries");
    let library = scratch.compile("work.c", LIBRARY, &["-O2", "-shared", "-fPIC"]);
    let loader = scratch.compile("loader.c", LOADER, &["-O2", "-ldl"]);
    let script = format!(
        "global n probe process.library(\"{}\").function(\"work\") {{ n++ }} probe end {{ println(n) }}",
        library.display()
    );
    let command = format!("{} {}", loader.display(), library.display());
    let outcome = stap(&["-e", &script, "-c", &command]).ok();
    assert_eq!(outcome.stdout, "done\n300\n", "{}", outcome.stderr);
}

/// Tells its number; then, for each line, loads a library, forks, and says what came of both.
const AFTERWARDS: &str = r#"
#include <dlfcn.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>
int main(int count, char **args) {
  char line[64];
  printf("%d\n", getpid()); fflush(stdout);
  while (fgets(line, sizeof line, stdin)) {
    void *library = dlopen(args[1], RTLD_NOW);
    int (*work)(int) = library ? (int (*)(int))dlsym(library, "work") : 0;
    int status = 0;
    pid_t child = fork();
    if (child == 0) _exit(work ? work(6) : 1);
    waitpid(child, &status, 0);
    printf("%d %d\n", work ? work(40) : -1, WEXITSTATUS(status)); fflush(stdout);
    dlclose(library);
  }
  return 0;
}"#;

#[test]
fn a_killed_tracer_hurts_neither_a_later_dlopen_nor_a_fork() {
    let scratch = Scratch::new("orphans");
    let library = scratch.compile("work.c", LIBRARY, &["-O2", "-shared", "-fPIC"]);
    let program = scratch.compile("afterwards.c", AFTERWARDS, &["-O2", "-ldl"]);
    let child = Command::new(&program)
        .arg(&library)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut target = Guard(child.expect("the program"));
    let mut output = BufReader::new(target.0.stdout.take().expect("a pipe"));
    let mut input = target.0.stdin.take().expect("a pipe");
    let pid = line(&mut output);
    let script = format!(
        "probe process.begin {{ println(\"begin\") }} probe process.end {{ println(\"end\") }}
         probe process.syscall {{ println(\"call\") }}
         probe process.library(\"{}\").function(\"work\") {{ println(\"work\") }}",
        library.display()
    );
    let (mut spile, mut printed) =
        spawn(Command::new(spile_path()).args(["stap", "-x", &pid, "-e", &script]));
    assert_eq!(line(&mut printed), "begin");
    input.write_all(b"x\n").expect("go on");
    assert_eq!(line(&mut output), "41 7");
    let mut seen = Vec::new();
    while !(seen.iter().any(|l| l == "work") && seen.iter().any(|l| l == "end")) {
        seen.push(line(&mut printed));
    }
    spile.0.kill().expect("kill spile");
    spile.0.wait().expect("its end");
    for _ in 0..3 {
        input.write_all(b"x\n").expect("go on");
        assert_eq!(line(&mut output), "41 7");
    }
    // The next session finds its way.
    let (mut spile, mut printed) =
        spawn(Command::new(spile_path()).args(["stap", "-x", &pid, "-e", &script]));
    assert_eq!(line(&mut printed), "begin");
    input.write_all(b"x\n").expect("go on");
    assert_eq!(line(&mut output), "41 7");
    while line(&mut printed) != "work" {}
    // Nobody reads what is printed: the session ends, the program does not.
    drop(printed);
    input.write_all(b"x\n").expect("go on");
    assert_eq!(line(&mut output), "41 7");
    spile.0.wait().expect("its end");
    input.write_all(b"x\n").expect("go on");
    assert_eq!(line(&mut output), "41 7");
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("its mappings");
    assert!(!maps.contains("memfd:spile"), "{maps}");
    drop(input);
    assert!(target.0.wait().expect("an end").success());
}
