//! Function probes: exact counts from many threads, parameters, whole programs.

use spile_tests::{Scratch, run, spile_path, stap};
use std::process::Command;

const THREADS: &str = r#"
#include <pthread.h>
#include <stdio.h>
#define THREADS 64
#define CALLS 200000
__attribute__((noinline, noclone)) int work(int a, int b) { __asm__ volatile("" ::: "memory"); return a + b; }
static void *run(void *arg) {
  long id = (long)arg, sum = 0;
  for (int i = 0; i < CALLS; i++) sum += work(i & 7, (int)id);
  return (void *)sum;
}
int main(void) {
  pthread_t t[THREADS];
  long sum = 0;
  for (long i = 0; i < THREADS; i++) pthread_create(&t[i], 0, run, (void *)i);
  for (int i = 0; i < THREADS; i++) { void *r; pthread_join(t[i], &r); sum += (long)r; }
  printf("sum %ld\n", sum);
  return 0;
}"#;

/// Calls in all, and the sum of the first parameter over them: each thread's 0..7 repeats 25 000 times.
const CALLS: i64 = 64 * 200_000;
const SUM: i64 = 64 * 25_000 * 28;

#[test]
fn counts_from_64_threads_are_exact() {
    let scratch = Scratch::new("threads");
    let program = scratch.compile("threads.c", THREADS, &["-O2", "-g", "-pthread"]);
    let program = program.to_string_lossy();
    let plain = run(Command::new(&*program)).ok().stdout;
    let script = r#"global n, s, c, t
        probe process.function("work") { n++ s <<< $a c[$a]++ t[$a & 1] <<< $b }
        probe end {
          printf("n %d\n", n)
          printf("count %d sum %d min %d max %d\n", @count(s), @sum(s), @min(s), @max(s))
          foreach (k+ in c) printf("c[%d] %d\n", k, c[k])
          foreach (k+ in t) printf("t[%d] %d %d\n", k, @count(t[k]), @max(t[k]))
        }"#;
    let outcome = stap(&["-e", script, "-c", &program]).ok();
    let mut expected = format!("{plain}n {CALLS}\ncount {CALLS} sum {SUM} min 0 max 7\n");
    for k in 0..8 {
        expected += &format!("c[{k}] {}\n", CALLS / 8);
    }
    expected += &format!("t[0] {0} 63\nt[1] {0} 63\n", CALLS / 2);
    let mut lines: Vec<&str> = outcome.stdout.lines().collect();
    let mut wanted: Vec<&str> = expected.lines().collect();
    lines.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(lines, wanted, "{}", outcome.stderr);
}

#[test]
fn shared_state_is_exact_too() {
    let scratch = Scratch::new("shared");
    let program = scratch.compile(
        "threads.c",
        &THREADS.replace("200000", "2000"),
        &["-O2", "-g", "-pthread"],
    );
    // Read in the handler, so it can't be kept per thread.
    let script = r#"global n, first, seen
        probe process.function("work") { if (n++ == 0) first = $a seen[n % 10] = n }
        probe end { printf("%d %d\n", n, first < 8) foreach (k+ in seen) printf("%d ", seen[k]) println("") }"#;
    let outcome = stap(&[
        "-D",
        "MAXSKIPPED=1000000",
        "-w",
        "-e",
        script,
        "-c",
        &program.to_string_lossy(),
    ])
    .ok();
    let expected =
        "128000 1\n128000 127991 127992 127993 127994 127995 127996 127997 127998 127999 \n";
    assert!(
        outcome.stdout.ends_with(expected),
        "{}\n{}",
        outcome.stdout,
        outcome.stderr
    );
}

#[test]
fn a_timer_that_reads_and_clears_loses_nothing() {
    let scratch = Scratch::new("timer");
    let program = scratch.compile("threads.c", THREADS, &["-O2", "-g", "-pthread"]);
    let script = r#"global n, s, c, total_n, total_s, total_c
        probe process.function("work") { n++ s <<< $a c[$a]++ }
        probe timer.ms(3) {
          total_n += n n = 0
          if (@count(s)) { total_s += @count(s) delete s }
          foreach (k in c) total_c += c[k]
          delete c
        }
        probe end {
          foreach (k in c) total_c += c[k]
          printf("%d %d %d\n", total_n + n, total_s + @count(s), total_c)
        }"#;
    let outcome = stap(&["-e", script, "-c", &program.to_string_lossy()]).ok();
    assert!(
        outcome
            .stdout
            .ends_with(&format!("{CALLS} {CALLS} {CALLS}\n")),
        "{}\n{}",
        outcome.stdout,
        outcome.stderr
    );
}

#[test]
fn parameters_are_right_with_and_without_optimisation() {
    let scratch = Scratch::new("parameters");
    let source = r#"
        #include <stdbool.h>
        enum colour { RED, GREEN = -5, BLUE = 7 };
        __attribute__((noinline, noclone)) int f(char c, unsigned char u, short s, int i, long l, const char *text,
                                                  bool yes, enum colour colour) {
          __asm__ volatile("" ::: "memory");
          return c + u + s + i + (int)l + text[0] + yes + (int)colour;
        }
        int main(void) { return f(-1, 200, -300, -70000, 1L << 40, "text", true, GREEN) == 12345; }"#;
    let script = r#"probe process.function("f") {
        printf("%d %d %d %d %d %s %d %d\n", $c, $u, $s, $i, $l, user_string($text), $yes, $colour)
        printf("%s %s\n", probefunc(), execname()) }"#;
    for flags in [["-O0", "-g"], ["-O2", "-g"], ["-O2", "-gdwarf-4"]] {
        let program = scratch.compile("parameters.c", source, &flags);
        let outcome = stap(&["-e", script, "-c", &program.to_string_lossy()]).ok();
        assert_eq!(
            outcome.stdout, "-1 200 -300 -70000 1099511627776 text 1 -5\nf parameters\n",
            "{flags:?}"
        );
    }
}

#[test]
fn every_function_of_sqlite_can_be_counted() {
    let scratch = Scratch::new("sqlite");
    let driver = include_str!("../targets/sqlite_speed.c");
    let include = concat!("-I", env!("SQLITE_SOURCE"));
    let flags = [
        "-O2",
        "-g",
        include,
        env!("SQLITE_OBJECT"),
        "-lpthread",
        "-ldl",
        "-lm",
    ];
    let program = scratch.compile("sqlite_speed.c", driver, &flags);
    let plain = run(Command::new(&program)).ok().stdout;
    assert!(plain.contains("integrity ok"), "{plain}");
    let script = r#"global c probe process.function("*") { c[ppfunc()]++ }
        probe end { n = 0 foreach (f in c) n += c[f] printf("%s %d\n", n > 1000000 ? "many" : "few", c["sqlite3_step"] > 0) }"#;
    let output = scratch.path("out");
    let mut spile = Command::new(spile_path());
    spile
        .args([
            "stap",
            "-D",
            "MAXMAPENTRIES=8192",
            "-o",
            &output.to_string_lossy(),
            "-e",
            script,
            "-c",
        ])
        .arg(&program);
    let outcome = run(spile).ok();
    assert_eq!(outcome.stdout, plain, "{}", outcome.stderr);
    assert_eq!(
        std::fs::read_to_string(output).unwrap(),
        "many 1\n",
        "{}",
        outcome.stderr
    );
}

#[test]
fn a_misspelt_function_gets_near_matches() {
    let scratch = Scratch::new("misspelt");
    let program = scratch.compile("threads.c", THREADS, &["-O2", "-g", "-pthread"]);
    let outcome = stap(&[
        "-e",
        r#"probe process.function("wrok") { next }"#,
        "-c",
        &program.to_string_lossy(),
    ]);
    assert_eq!(outcome.status, Some(1));
    assert!(outcome.stderr.contains("work"), "{}", outcome.stderr);
}

#[test]
fn static_and_library_programs_are_probed_before_their_constructors() {
    let scratch = Scratch::new("constructors");
    let source = r#"
        #include <stdlib.h>
        __attribute__((noinline, noclone)) int step(int a) { __asm__ volatile("" ::: "memory"); return a + 1; }
        static int early;
        __attribute__((constructor)) static void before(void) { early = step(1); }
        int main(void) { return step(early) == 3 ? 0 : 1; }"#;
    let script = r#"probe process.function("step") { println($a) }"#;
    for flags in [
        &["-O1", "-g"][..],
        &["-O1", "-g", "-static"],
        &["-O1", "-g", "-static-pie"],
    ] {
        let program = scratch.compile("constructors.c", source, flags);
        assert_eq!(
            stap(&["-e", script, "-c", &program.to_string_lossy()])
                .ok()
                .stdout,
            "1\n2\n",
            "{flags:?}"
        );
    }
    let library = r#"global n probe process.library("*libc.so*").function("malloc") { n++ } probe end { println(n > 0) }"#;
    let program = scratch.compile(
        "m.c",
        "#include <stdlib.h>\nint main(void) { free(malloc(5)); return 0; }",
        &["-O0"],
    );
    assert_eq!(
        stap(&["-e", library, "-c", &program.to_string_lossy()])
            .ok()
            .stdout,
        "1\n"
    );
}
