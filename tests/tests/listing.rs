//! `stap -l` and `-L` of whole programs, and what the names in them stand for.

use spile_tests::{Scratch, run, stap};
use std::collections::BTreeSet;
use std::process::Command;

const PROGRAM: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
struct pair { int a; struct pair *next; };
static inline __attribute__((always_inline)) int inlined(int q) { int z = q * 3; if (z > 100) puts("big"); return z + q; }
__attribute__((noinline)) static int walk(struct pair *n, int k) {
  int sum = 0;
  for (int i = 0; i < k; i++) sum += n->a + inlined(i);
  return sum;
}
__attribute__((noinline, cold)) static void die(const char *why) { fprintf(stderr, "%s\n", why); exit(1); }
__attribute__((noinline)) static int scaled(int a, int by) { if (a < 0) die("negative"); return a * by + 7; }
__attribute__((noinline)) int twice(int a) { return scaled(a + 1, 3) + inlined(a); }
__attribute__((noinline)) static int one(int x) { __asm__ volatile(""); return x + 1; }
__attribute__((noinline)) static int two(int x) { __asm__ volatile(""); return x + 2; }
static int (*resolve(void))(int) { return getenv("SPILE_NEVER_SET") ? one : two; }
int chosen(int) __attribute__((ifunc("resolve")));
int main(int argc, char **argv) {
  struct pair p = {argc, 0};
  int sum = walk(&p, argc + 2) + twice(argc) + (int)strlen(argv[0]);
  for (int i = 0; i < 1000; i++) sum += chosen(i);
  printf("%d\n", sum);
  return 0;
}
"#;

/// The function names of listed points.
fn names(listed: &str) -> BTreeSet<&str> {
    listed
        .lines()
        .filter_map(|line| line.split(".function(\"").nth(1)?.split(['@', '"']).next())
        .collect()
}

#[test]
fn all_functions_are_those_of_nm_and_those_that_were_inlined() {
    let scratch = Scratch::new("list_all");
    for flags in [&["-O0", "-g"][..], &["-O2", "-g"], &["-O3", "-g", "-flto"]] {
        let program = scratch.compile("listed.c", PROGRAM, flags);
        let program = program.to_string_lossy();
        let listed = stap(&["-l", &format!("process(\"{program}\").function(\"*\")")]).ok();
        let symbols = run({
            let mut nm = Command::new("nm");
            nm.args(["--defined-only", &program]);
            nm
        })
        .ok()
        .stdout;
        // Clones have the function's name there; what resolves an indirect function has a symbol of its own.
        let functions = symbols
            .lines()
            .filter_map(|line| line.split_once(" t ").or_else(|| line.split_once(" T ")))
            .map(|(_, name)| match name.ends_with(".cold") {
                true => name,
                false => name.split('.').next().unwrap_or(name),
            });
        let mut expected: BTreeSet<&str> = functions.collect();
        expected.insert("inlined");
        assert_eq!(names(&listed.stdout), expected, "{flags:?}");
        // Neither ends with a return that somebody waits for.
        let returns = stap(&[
            "-l",
            &format!("process(\"{program}\").function(\"*\").return"),
        ])
        .ok();
        expected.remove("_start");
        expected.remove("inlined");
        assert_eq!(names(&returns.stdout), expected, "{flags:?}");
    }
}

#[test]
fn a_list_of_all_says_of_each_what_a_list_of_one_says() {
    let scratch = Scratch::new("list_one");
    for flags in [&["-O0", "-g"][..], &["-O2", "-g"]] {
        let program = scratch.compile("listed.c", PROGRAM, flags);
        let program = program.to_string_lossy();
        for kind in ["", ".return", ".call", ".inline"] {
            let list = |name: &str| {
                let point = format!("process(\"{program}\").function(\"{name}\"){kind}");
                stap(&["-L", &point]).stdout
            };
            let all = list("*");
            for name in ["inlined", "walk", "scaled", "twice", "main", "die"] {
                let start = format!("process(\"{program}\").function(\"{name}@");
                let of_all: Vec<&str> = all.lines().filter(|l| l.starts_with(&start)).collect();
                assert_eq!(
                    of_all,
                    list(name).lines().collect::<Vec<_>>(),
                    "{name}{kind}"
                );
            }
        }
    }
}

#[test]
fn returns_of_callees_are_those_of_the_calls_from_there() {
    let scratch = Scratch::new("callee_return");
    let source = r#"
        #include <stdio.h>
        __attribute__((noinline, noclone)) int leaf(int a) { __asm__ volatile("" ::: "memory"); return a * 2; }
        __attribute__((noinline, noclone)) int left(int n) { int s = 0; for (int i = 0; i < n; i++) s += leaf(i); return s; }
        __attribute__((noinline, noclone)) int right(int n) { int s = 0; for (int i = 0; i < n; i++) s += leaf(100); return s; }
        int main(void) { int s = 0; for (int i = 0; i < 50; i++) s += left(4) + right(3); printf("%d\n", s); return 0; }"#;
    let program = scratch.compile("callees.c", source, &["-O2", "-g"]);
    let program = program.to_string_lossy();
    let script = r#"global n, s, a
        probe process.function("left").callee("leaf").return { n++ s += $return a += $a }
        probe end { printf("%d %d %d\n", n, s, a) }"#;
    let outcome = stap(&["-e", script, "-c", &program]).ok();
    // 50 times 0, 1, 2, 3, and twice that.
    let last = outcome.stdout.lines().last();
    assert_eq!(last, Some("200 600 300"), "{}", outcome.stderr);
    let script = r#"global n probe process.function("*").callee("leaf").return { n++ }
        probe end { println(n) }"#;
    let outcome = stap(&["-e", script, "-c", &program]).ok();
    let last = outcome.stdout.lines().last();
    assert_eq!(last, Some("350"), "{}", outcome.stderr);
}

#[test]
fn an_indirect_function_is_what_its_resolver_chose() {
    let scratch = Scratch::new("indirect");
    let program = scratch.compile("listed.c", PROGRAM, &["-O2", "-g"]);
    let program = program.to_string_lossy();
    let script = r#"global n, s
        probe process.function("chosen") { n[ppfunc()]++ s += $x }
        probe end { foreach (f+ in n) printf("%s %d %d\n", f, n[f], s) }"#;
    let outcome = stap(&["-e", script, "-c", &program]).ok();
    // The sum of 0..1000.
    let last = outcome.stdout.lines().last();
    assert_eq!(last, Some("two 1000 499500"), "{}", outcome.stderr);
    // libc has one of each name for every kind of processor.
    let script = r#"global n probe process.library("libc.so.6").function("strlen") { n++ }
        probe end { println(n > 0) }"#;
    let outcome = stap(&["-e", script, "-c", &format!("{program} a b")]).ok();
    assert_eq!(
        outcome.stdout.lines().last(),
        Some("1"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn type_units_change_nothing_in_lists() {
    let scratch = Scratch::new("type_units");
    let source = r#"
        enum hue { RED, GREEN = 7 };
        struct part { int n; enum hue hue; };
        union both { int i; struct part part; };
        typedef struct whole { struct part *parts; union both both; enum hue hue; } whole;
        __attribute__((noinline)) int sum(struct whole *w, struct part p, enum hue h, const union both *b, whole *a[2]) {
          whole local = *w; __asm__ volatile("" :: "r"(&local) : "memory");
          return w->hue + p.n + (int)h + b->i + local.parts->n + a[0]->hue;
        }
        int main(int argc, char **argv) {
          struct part part = { argc, GREEN };
          whole w = { &part, { 3 }, RED }, *a[2] = { &w, &w };
          return sum(&w, part, GREEN, &w.both, a) == 0;
        }"#;
    for version in ["-gdwarf-4", "-gdwarf-5"] {
        let lists = ["-fno-debug-types-section", "-fdebug-types-section"].map(|units| {
            let flags = ["-O1", "-g", version, units];
            let program = scratch.compile("parts.c", source, &flags);
            let program = program.to_string_lossy();
            let point = format!("process(\"{program}\").function(\"*@parts.c\")");
            stap(&["-L", &point]).ok().stdout
        });
        assert!(
            lists[0].contains("$w:struct whole* $p:struct part $h:enum hue"),
            "{lists:?}"
        );
        assert_eq!(lists[0], lists[1], "{version}");
    }
}

#[test]
fn split_units_are_listed_as_whole_ones() {
    let scratch = Scratch::new("list_split");
    let source = scratch.write("listed.c", PROGRAM);
    let compile = |compiler: &str, flags: &[&str], more: Option<&str>| {
        let program = scratch.path("listed");
        let mut command = Command::new(compiler);
        command.args(flags).args(more).arg("-o").arg(&program);
        run({
            command.arg(&source).current_dir(scratch.path(""));
            command
        })
        .ok();
        let point = |rest: &str| format!("process(\"{}\").{rest}", program.display());
        let points = [
            "function(\"*@listed.c\")",
            "function(\"*@listed.c\").inline",
            "function(\"walk@listed.c\").return",
            "statement(\"*@listed.c:*\")",
            "statement(\"walk@listed.c+3\")",
        ];
        let lists = points.map(|rest| stap(&["-L", &point(rest)]).ok().stdout);
        let script = "probe process.function(\"scaled@listed.c\") { printf(\"%s \", $$parms) }
            probe process.statement(\"walk@listed.c:10\") { println(@defined($sum) ? $sum : -1) }";
        let path = program.to_string_lossy();
        let run = stap(&["-w", "-e", script, "-c", &path]).ok().stdout;
        (lists, run)
    };
    for compiler in ["gcc", "clang"] {
        for flags in [
            ["-O0", "-gdwarf-4"],
            ["-O0", "-gdwarf-5"],
            ["-O2", "-gdwarf-5"],
        ] {
            let whole = compile(compiler, &flags, None);
            assert!(whole.0.iter().all(|list| !list.is_empty()), "{whole:?}");
            let split = compile(compiler, &flags, Some("-gsplit-dwarf"));
            assert_eq!(split, whole, "{compiler} {flags:?}");
        }
    }
}

#[test]
fn parameters_are_listed_once_and_floating_point_variables_too() {
    let scratch = Scratch::new("list_floats");
    // gcc describes parameters of such a function twice when it leaves a part of it in its callers.
    let source = r#"
        #include <stdarg.h>
        #include <stdio.h>
        int limit = 3;
        __attribute__((noinline)) static int vtell(const char *format, va_list list) { return vfprintf(stderr, format, list); }
        static int tell(int level, const char *format, ...) {
          if (level < limit) return 0;
          va_list list; va_start(list, format);
          int n = vtell(format, list);
          for (int i = 0; i < level; i++) n += vtell("", list);
          va_end(list); return n;
        }
        __attribute__((noinline)) double mean(double x, float y, long double z, int n) {
          double sum = x + y; float part = (float)z;
          for (int i = 0; i < n; i++) sum += part;
          return sum / n;
        }
        int main(int argc, char **argv) {
          for (int i = 0; i < argc; i++) { tell(i, "%s\n", argv[i]); tell(i + 1, "%d %d\n", i, argc); }
          return tell(argc, "%d\n", argc) + (int)mean(argc, 2.5f, 3.5L, argc);
        }"#;
    for flags in [["-O0", "-g"], ["-O2", "-g"], ["-O3", "-g"]] {
        let program = scratch.compile("floats.c", source, &flags);
        let list = |rest: &str| {
            let point = format!("process(\"{}\").{rest}", program.display());
            stap(&["-L", &point]).ok().stdout
        };
        for line in list("function(\"*@floats.c\")").lines() {
            let names: Vec<&str> = line
                .split(" $")
                .skip(1)
                .filter_map(|v| v.split(':').next())
                .collect();
            let unique: BTreeSet<&&str> = names.iter().collect();
            assert_eq!(unique.len(), names.len(), "{flags:?}: {line}");
        }
        let mean = list("function(\"mean\")");
        let parameters = " $x:double $y:float $z:long double $n:int";
        assert!(mean.contains(parameters), "{flags:?}: {mean}");
        let loops = list("statement(\"mean@floats.c:16\")");
        assert!(loops.contains("$sum:double"), "{flags:?}: {loops}");
    }
}
