//! Variables of other modules than the probed one: `@var("x@file.c", "module")`.

use spile_tests::{Scratch, run, spile_path, stap};
use std::path::PathBuf;
use std::process::Command;

const LIBRARY: &str = r#"
int level = 7;
static struct { int a; long b; char text[8]; struct { int x; } *more; } state = { 3, -9, "seven", 0 };
void set_level(int to) { static struct { int x; } inner; inner.x = to * 2; level = to; state.a = to + 1; state.more = (void *)&inner; }
int get_level(void) { return level + state.a; }
"#;

const PROGRAM: &str = r#"
extern void set_level(int), exit(int);
extern int get_level(void);
volatile long ticks = 5, worked;
__attribute__((noinline, noclone)) void work(int n) { worked += n; }
int main(int argc, char **argv) {
  work(1); set_level(40); work(2);
  if (argc > 1) for (long i = 0; i < 400000000; i++) ticks |= 64;
  return get_level() == 0;
}
"#;

/// The program and the library that it is linked with, both at addresses that nobody knows beforehand.
fn build(scratch: &Scratch) -> (PathBuf, PathBuf) {
    let library = scratch.path("libstate.so");
    let mut command = Command::new("gcc");
    command
        .args(["-g", "-O2", "-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(scratch.write("state.c", LIBRARY));
    run(command).ok();
    let program = scratch.path("prog");
    let mut command = Command::new("gcc");
    command
        .args(["-g", "-O2", "-pie", "-fPIE", "-o"])
        .arg(&program)
        .arg(scratch.write("prog.c", PROGRAM))
        .arg(&library)
        .arg(format!("-Wl,-rpath,{}", scratch.path("").display()));
    run(command).ok();
    (program, library)
}

fn traced(script: &str, command: &str) -> String {
    let mut stap = Command::new(spile_path());
    stap.args(["stap", "-w", "-e", script, "-c", command]);
    run(stap).ok().stdout
}

#[test]
fn variables_of_a_library_from_the_program() {
    let scratch = Scratch::new("modules");
    let (program, library) = build(&scratch);
    let library = library.display();
    let script = format!(
        r#"probe process.function("work") {{
          printf("%d %d %d %d %s\n", $n, @var("level@state.c", "{library}"), @var("state@state.c", "{library}")->a,
                 @var("state", "libstate.so")->b, @var("state@state.c", "{library}")->text$)
          if (@var("state@state.c", "{library}")->more) println(@var("state@state.c", "{library}")->more->x)
        }}"#
    );
    assert_eq!(
        traced(&script, &program.to_string_lossy()),
        "1 7 3 -9 \"seven\"\n2 40 41 -9 \"seven\"\n80\n"
    );
}

#[test]
fn variables_of_the_program_from_a_library() {
    let scratch = Scratch::new("modules-back");
    let (program, library) = build(&scratch);
    let script = format!(
        r#"probe process.library("{}").function("set_level") {{ println($to, " ", @var("ticks@prog.c", "{}")) }}"#,
        library.display(),
        program.display()
    );
    assert_eq!(traced(&script, &program.to_string_lossy()), "40 5\n");
}

#[test]
fn variables_of_a_module_that_is_not_loaded_are_an_error_of_the_handler() {
    let scratch = Scratch::new("modules-none");
    let (program, _) = build(&scratch);
    let other = scratch.compile("alone.c", LIBRARY, &["-g", "-shared", "-fPIC"]);
    let script = format!(
        r#"probe process.function("work") {{ try {{ println(@var("level@alone.c", "{}")) }} catch (e) {{ println(e) }} }}"#,
        other.display()
    );
    let said = traced(&script, &program.to_string_lossy());
    assert_eq!(said.lines().count(), 2, "{said}");
    assert!(said.contains("is not loaded"), "{said}");
}

#[test]
fn variables_in_samples() {
    let scratch = Scratch::new("modules-sampled");
    let (program, library) = build(&scratch);
    let (program, library) = (program.display(), library.display());
    // The first samples may be of the dynamic linker, before the program has run.
    let script = format!(
        r#"global told probe perf.type(1).config(0).process("{program}") {{
          try {{
            if (!told && @var("ticks@prog.c", "{program}") == 69) {{
              println(@var("level@state.c", "{library}"), " ", @var("state@state.c", "{library}")->more->x)
              told = 1
            }}
          }} catch {{}}
        }}"#
    );
    assert_eq!(traced(&script, &format!("{program} on")), "40 80\n");
}

#[test]
fn variables_of_a_library_that_the_program_loads_itself() {
    let scratch = Scratch::new("plugin");
    let program = scratch.compile(
        "loads.c",
        r#"#include <dlfcn.h>
        __attribute__((noinline, noclone)) int spot(int a) { __asm__ volatile("" ::: "memory"); return a; }
        int main(int count, char **words) {
          void *plugin = dlopen(words[1], RTLD_NOW);
          int (*step)(int) = dlsym(plugin, "step");
          for (int i = 1; i <= 3; i++) { step(i); spot(i); }
          return 0;
        }"#,
        &["-g", "-O2"],
    );
    let program = program.to_string_lossy();
    // A block that is too large for the room that is left beside those of the start, and one that is not; each found by the
    // module's number and by a descriptor.
    for (name, room) in [("small.c", 1), ("large.c", 1 << 20)] {
        for dialect in ["-mtls-dialect=gnu", "-mtls-dialect=gnu2"] {
            let source = format!(
                "__thread int own = 11; __thread char more[{room}]; int all = 21;
                 int step(int by) {{ own += by; more[by % {room}]++; all += by; return own; }}"
            );
            let flags = ["-g", "-O2", "-shared", "-fPIC", dialect];
            let library = scratch.compile(name, &source, &flags);
            let library = library.to_string_lossy();
            let script = format!(
                r#"probe process.function("spot") {{
                  printf("%d %d %d\n", $a, @var("own@{name}", "{library}"), @var("all@{name}", "{library}"))
                }}"#
            );
            let outcome = stap(&["-e", &script, "-c", &format!("{program} {library}")]).ok();
            let expected = "1 12 22\n2 14 24\n3 17 27\n";
            assert_eq!(
                outcome.stdout, expected,
                "{room} {dialect}: {}",
                outcome.stderr
            );
        }
    }
}
