//! Target variables of real programs: members, elements, globals, casts and text, unoptimised and optimised. Expected
//! values are what the program itself put there; the text's form is that of stap's pass 2.

use spile_tests::{Scratch, run, stap};
use std::process::Command;

const PROGRAM: &str = r#"
#include <stdio.h>
#include <string.h>
enum color { RED, GREEN = 5 };
struct inner { int a; char name[16]; double d; };
struct node {
  struct node *next; const char *name; int vals[4]; struct inner in;
  union { int u; float f; }; unsigned flag : 3; int sf : 5; enum color c; unsigned long big; char ch;
};
struct node *head;
int counter = 7;
__thread int own = 3;
__attribute__((noinline, noclone)) int work(struct node *n, int k) {
  __asm__ volatile("" ::: "memory");
  return counter + k + n->vals[2];
}
int main(int argc, char **argv) {
  struct node a, b;
  memset(&a, 0, sizeof a);
  memset(&b, 0, sizeof b);
  a.next = &b; a.name = "first"; b.name = "second"; a.vals[2] = 42; a.in.a = -3; strcpy(a.in.name, "inner");
  a.u = 9; a.flag = 5; a.sf = -2; a.c = GREEN; a.big = 1UL << 40; a.ch = 'x';
  b.name = "second"; head = &a; own = argc + 10;
  return work(&a, argc) == 0;
}"#;

const SCRIPT: &str = r#"probe process.function("work") {
  printf("%s %s %d %d %d\n", user_string($n->name), user_string($n->next->name), $n->vals[2], $n->vals[$k + 1], $n->in->a)
  printf("%d %d %d %d %d\n", $n->u, $n->flag, $n->sf, $n->c, $n->big)
  printf("%d %d %d\n", @var("counter"), @var("own"), &$n->name - $n)
  printf("%s %d %d\n", @cast($n, "struct node")->next->name$, @defined($n->vals), @defined($n->nothing))
  printf("%s %s\n", $head->in->name$, $n->vals$)
  printf("%s\n", $n->in$$)
  printf("%s\n", $n->in$)
}"#;

const EXPECTED: &str = "first second 42 42 -3
9 5 -2 5 1099511627776
7 11 8
\"second\" 1 0
\"inner\" [0, ...]
{.a=-3, .name=\"inner\", .d=?}
{.a=-3, .name=[...], .d=?}
";

#[test]
fn members_elements_globals_and_text() {
    let scratch = Scratch::new("variables");
    for level in ["-O0", "-O2"] {
        let program = scratch.compile("variables.c", PROGRAM, &[level, "-g"]);
        let outcome = stap(&["-e", SCRIPT, "-c", &program.to_string_lossy()]).ok();
        assert_eq!(outcome.stdout, EXPECTED, "{level}: {}", outcome.stderr);
    }
}

#[test]
fn a_member_that_is_not_there_is_named_with_those_that_are() {
    let scratch = Scratch::new("nomember");
    let program = scratch.compile("variables.c", PROGRAM, &["-O0", "-g"]);
    let script = r#"probe process.function("work") { println($n->in->nope) }"#;
    let outcome = stap(&["-e", script, "-c", &program.to_string_lossy()]);
    assert_ne!(outcome.status, Some(0));
    let wanted = "unable to find member 'nope' for struct inner (alternatives: name, a, d)";
    assert!(outcome.stderr.contains(wanted), "{}", outcome.stderr);
}

#[test]
fn what_an_address_points_to_may_be_the_first_of_several() {
    let scratch = Scratch::new("casts");
    let source = r#"
        #include <stdio.h>
        struct item { int number; char name[12]; struct { short a, b; } pair[3]; };
        __attribute__((noinline, noclone)) int show(struct item *items, int *numbers) {
          __asm__ volatile("" : : "r"(items), "r"(numbers) : "memory");
          return items->number;
        }
        int main(void) {
          struct item items[3] = {{1, "one", {{1, 2}}}, {22, "two", {{3, 4}}}, {333, "three", {{5, 6}, {7, 8}}}};
          int numbers[] = {10, 20, 30};
          show(items, numbers);
          printf("%zu %d %d %s\n", sizeof(struct item), numbers[2], items[2].number, items[1].name);
          return 0;
        }"#;
    let program = scratch.compile("casts.c", source, &["-g", "-O1"]);
    let program = program.to_string_lossy();
    let script = r#"probe process.function("show") {
        number = $numbers + 0
        item = $items + 0
        printf("%d %d %d %s\n", @cast_sizeof("struct item"), @cast(number, "int")[2],
          @cast(item, "struct item")[2]->number, user_string(@cast(item, "struct item")[1]->name))
        printf("%d\n", (&@cast(item, "struct item")[1]) - item)
    }"#;
    let outcome = stap(&["-e", script, "-c", &program]).ok();
    let mut lines: Vec<&str> = outcome.stdout.lines().collect();
    lines.sort_unstable();
    // 4 + 12 + 3 * 4 bytes; the program says the same of itself.
    let same = "28 30 333 two";
    assert_eq!(lines, ["28", same, same], "{}", outcome.stderr);
}

#[test]
fn the_parameters_of_a_call_are_printed_whatever_they_are() {
    let scratch = Scratch::new("parameters");
    let source = r#"
        struct part { const char *text; int n; };
        struct whole { struct part a, b, c; };
        __attribute__((noinline, noclone)) int show(struct whole *p, struct whole *q, struct whole *r, struct whole *s, struct whole *t) {
          __asm__ volatile("" : : "r"(p), "r"(q), "r"(r), "r"(s), "r"(t) : "memory");
          return p->a.n;
        }
        int main(void) {
          struct whole w = {{"x", 1}, {"y", 2}, {"z", 3}};
          return show(&w, &w, &w, &w, &w) != 1;
        }"#;
    let program = scratch.compile("parameters.c", source, &["-g", "-O1"]);
    let program = program.to_string_lossy();
    let script = r#"probe process.function("show") { println($$parms$$) }"#;
    let options = ["-DMAXSTRINGLEN=1024", "-e", script, "-c", &program];
    let outcome = stap(&options).ok();
    let one = r#"{.a={.text="x", .n=1}, .b={.text="y", .n=2}, .c={.text="z", .n=3}}"#;
    let expected = format!("p={one} q={one} r={one} s={one} t={one}\n");
    assert_eq!(outcome.stdout, expected, "{}", outcome.stderr);
}

#[test]
fn globals_are_found_wherever_they_are_defined() {
    let scratch = Scratch::new("globals-elsewhere");
    let library = r#"const char *lib_name = "library"; int lib_count = 1234;"#;
    let other = r#"volatile int far_away = 42; static int counter = 7; int bump(void) { return ++counter; }"#;
    let source = r#"
        #include <stdio.h>
        #include <unistd.h>
        extern volatile int far_away; extern int lib_count; extern const char *lib_name; extern char **environ; int bump(void);
        static int counter = 1000;
        static inline int visits(int by) { static int calls = 5; calls += by; return calls; }
        __attribute__((noinline, noclone)) int look(int x) {
          int seen = visits(x);
          __asm__ volatile("" :: "r"(seen) : "memory");
          counter += seen;
          return x + far_away + lib_count + (environ != 0) + *lib_name + bump() + counter;
        }
        int main(void) { int seen = look(3); return fflush(stdout) + (seen == 0); }"#;
    let file = |name: &str, text: &str| scratch.write(name, text).to_string_lossy().into_owned();
    let (library, other, source) = (
        file("library.c", library),
        file("other.c", other),
        file("look.c", source),
    );
    let made = scratch.path("liblook.so").to_string_lossy().into_owned();
    let program = scratch.path("look").to_string_lossy().into_owned();
    let compile = |words: &[&str]| {
        let mut command = Command::new("gcc");
        command.args(["-g", "-O2"]).args(words);
        run(command).ok();
    };
    compile(&["-shared", "-fPIC", "-o", &made, &library]);
    // `calls` is static in what was inlined; the rest is not this unit's, or is where the whole program was optimised.
    let script = r#"probe process.function("look") {
            printf("%d %d %s %d\n", $far_away, $lib_count, user_string($lib_name), $counter)
            printf("%d %d\n", @var("far_away"), @var("counter@other.c"))
            println($environ != 0, $stdout != 0)
        }
        probe process.function("visits").inline { println($calls) }"#;
    for (flags, calls) in [(&["-fPIC"][..], true), (&["-flto"], false)] {
        let path = format!("-Wl,-rpath,{}", scratch.path("").display());
        let linked = ["-o", &program, &source, &other, &made, &path];
        compile(&[flags, &linked].concat());
        let script = match calls {
            true => script.to_owned(),
            false => script.replace("println($calls)", "println(@defined($calls) ? $calls : 5)"),
        };
        let outcome = stap(&["-w", "-e", &script, "-c", &program]).ok();
        let expected = "42 1234 library 1000\n42 7\n11\n5\n";
        assert_eq!(outcome.stdout, expected, "{flags:?}: {}", outcome.stderr);
    }
}

/// Numbers of 128 bits, which scripts do not have.
const WIDE: &str = r#"
struct wide { int before; __int128 big; unsigned __int128 unsigned_big; int after; __int128 several[2]; __int128 bits : 70; };
__attribute__((noinline, noclone)) int take(struct wide *w, __int128 n) {
  __asm__ volatile("" ::: "memory");
  return w->after;
}
int main() {
  struct wide w = { 1, -5, 9, 4, { 7, -7 }, -9 };
  return take(&w, -1) != 4;
}"#;

#[test]
fn numbers_of_128_bits_are_left_open() {
    let scratch = Scratch::new("variables-wide");
    let program = scratch.compile("wide.c", WIDE, &["-O0", "-g"]);
    let program = program.to_string_lossy();
    let script = r#"probe process.function("take") {
        printf("%s\n%s\n", $w$, $w$$); if (!@defined($n)) println("none")
    }"#;
    let outcome = stap(&["-e", script, "-c", &program]).ok();
    // As stap's pass 2 has it.
    assert_eq!(
        outcome.stdout,
        "{.before=1, .big=?, .unsigned_big=?, .after=4, .several=[...], .bits=?}\n\
         {.before=1, .big=?, .unsigned_big=?, .after=4, .several=[?, ...], .bits=?}\nnone\n",
        "{}",
        outcome.stderr
    );
}
