//! Libraries that come and go while a program is probed.

use spile_tests::{Guard, Scratch, line, spawn, spile_path, stap, until};
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

/// stapprobes(3stap): "all processes that map it at runtime would be selected".
#[test]
fn a_library_in_the_place_of_a_program_is_probed_in_whatever_maps_it() {
    let scratch = Scratch::new("mapped");
    let library = scratch.compile("work.c", LIBRARY, &["-O2", "-shared", "-fPIC"]);
    let linked = "int work(int); int main(void) { return work(6) + work(40) - 48; }";
    let library_path = library.to_string_lossy().into_owned();
    let linked = scratch.compile("linked.c", linked, &["-O2", &library_path]);
    let loader = scratch.compile("loader.c", LOADER, &["-O2", "-ldl"]);
    let script = format!(
        "global n probe process(\"{library_path}\").function(\"work\") {{ n[execname()]++; if (execname() == \"linked\") m = pp() }}
         global m probe end {{ foreach (x+ in n) println(x, \" \", n[x]); println(m) }}"
    );
    // What the dynamic linker brings, the constructor's calls included, and what is loaded later.
    let command = format!(
        "sh -c '{0}; {1} {2}; {0}'",
        linked.display(),
        loader.display(),
        library.display()
    );
    let outcome = stap(&["-e", &script, "-c", &command]).ok();
    let point = format!("process(\"{library_path}\").function(\"work\")");
    assert_eq!(
        outcome.stdout,
        format!("done\nlinked 14\nloader 300\n{point}\n"),
        "{}",
        outcome.stderr
    );
}

/// Holds a library, and calls it with each number that it is given.
const HOLDER: &str = "import ctypes, os, sys
library = ctypes.CDLL(sys.argv[1])
print(os.getpid(), flush=True)
for number in sys.stdin: print(library.work(int(number)), flush=True)";

#[test]
fn processes_that_map_a_library_are_found() {
    let scratch = Scratch::new("found");
    let library = scratch.compile("work.c", LIBRARY, &["-O2", "-shared", "-fPIC"]);
    let told = scratch.path("told");
    let script = format!(
        "probe begin {{ println(\"go\") }}
         probe process(\"{}\").function(\"work\") {{ if (int_arg(1) == 7) println(pid()) }}",
        library.display()
    );
    // Calls it until the session says that it has seen it.
    let told = &told;
    let is_seen = || {
        let holder = Command::new("python3")
            .args(["-c", HOLDER])
            .arg(&library)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut process = Guard(holder.expect("python3"));
        let mut output = BufReader::new(process.0.stdout.take().expect("a pipe"));
        let mut input = process.0.stdin.take().expect("a pipe");
        let pid = line(&mut output);
        move || {
            until("its calls are seen", || {
                input.write_all(b"7\n").expect("go on");
                assert_eq!(line(&mut output), "8");
                let seen = std::fs::read_to_string(told).unwrap_or_default();
                seen.lines().any(|line| line == pid)
            });
            drop(input);
            assert!(process.0.wait().expect("an end").success());
        }
    };
    let early = is_seen();
    let mut spile = Command::new(spile_path());
    spile.args(["stap", "-e", &script, "-o"]).arg(told);
    let (_spile, _) = spawn(&mut spile);
    until("the session has begun", || {
        std::fs::read_to_string(told).is_ok_and(|text| text.contains("go"))
    });
    let late = is_seen();
    late();
    early();
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

/// function::pp and function::pn (3stap); the strings are those of the module that `stap -p3` makes.
#[test]
fn points_are_named_by_their_module_and_by_alias() {
    let scratch = Scratch::new("names");
    let library = scratch.compile("work.c", LIBRARY, &["-g", "-O0", "-shared", "-fPIC"]);
    let library = library.to_string_lossy().into_owned();
    let linked = "int work(int); int main(void) { return work(6) - 7; }";
    let program = scratch.compile("linked.c", linked, &["-g", "-O0", &library]);
    let program = program.to_string_lossy();
    let script = r#"
        global seen
        probe called = process.function("ma*") {}
        function once(kind) { if (seen[kind]++ == 0) printf("%s %s %s\n", kind, pp(), pn()) }
        probe called { once("alias") }
        probe process.function("mai*") { once("pattern") }
        probe process.library("LIBRARY").function("wor*") { once("library") }"#;
    let script = script.replace("LIBRARY", &library);
    let outcome = stap(&["-e", &script, "-c", &program]).ok();
    let main = format!(
        "process(\"{program}\").function(\"main@{}:1\")",
        scratch.path("linked.c").display()
    );
    let work = format!("function(\"work@{}:2\")", scratch.path("work.c").display());
    let mut lines: Vec<&str> = outcome.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            format!("alias {main} called"),
            format!(
                "library process(\"{library}\").{work} process(\"{program}\").library(\"{library}\").{work}"
            ),
            format!("pattern {main} {main}"),
        ],
        "{}",
        outcome.stderr
    );
    // What is all over a process is one point.
    let life = format!(
        "probe process(\"{program}\").syscall, process(\"{program}\").thread.begin {{ next }}"
    );
    let shown = stap(&["-p2", "-e", &life]).ok().stdout;
    let points: Vec<&str> = (shown.lines().filter(|l| l.starts_with("process"))).collect();
    assert_eq!(points.len(), 2, "{shown}");
}
