//! Return probes: values, counts and what is remembered of the entry.

use spile_tests::{Scratch, is_root, need, run, stap};
use std::collections::BTreeMap;
use std::process::Command;

const PROGRAM: &str = r#"
#include <stdio.h>
#define F __attribute__((noinline, noclone))
F signed char f8(int x) { __asm__ volatile("" ::: "memory"); return (signed char)(x - 200); }
F unsigned char u8(int x) { __asm__ volatile("" ::: "memory"); return (unsigned char)(x + 200); }
F unsigned u32(int x) { __asm__ volatile("" ::: "memory"); return x - 3; }
F int f32(int x) { __asm__ volatile("" ::: "memory"); return x - 3; }
F long fact(long n) { __asm__ volatile("" ::: "memory"); if (n < 2) return 1; return n * fact(n - 1); }
int main(int c, char **v) {
  printf("%d %d %u %d %ld\n", f8(c), u8(c), u32(c), f32(c), fact(5));
  return 0;
}"#;

#[test]
fn returned_values_have_the_width_and_sign_of_their_type() {
    let scratch = Scratch::new("returns-values");
    let program = scratch.compile("values.c", PROGRAM, &["-O1", "-g", "-falign-functions=32"]);
    let program = program.to_string_lossy();
    let script = r#"
        probe process.function("f8").return { println("f8 ", $return, " ", $$return, " ", @entry($x)) }
        probe process.function("u8").return { println("u8 ", $return) }
        probe process.function("u32").return { println("u32 ", $return) }
        probe process.function("f32").return { println("f32 ", $return, " ", is_return()) }"#;
    let outcome = stap(&["-w", "-e", script, "-c", &program]).ok();
    let mut lines: Vec<&str> = outcome.stdout.lines().collect();
    lines.sort_unstable();
    let mut wanted = vec![
        "57 201 4294967294 -2 120",
        "f8 57 return=0x39 1",
        "u8 201",
        "u32 4294967294",
        "f32 -2 1",
    ];
    wanted.sort_unstable();
    assert_eq!(lines, wanted, "{}", outcome.stderr);
}

const SHAPES: &str = r#"
#define F __attribute__((noinline, noclone))
struct mixed { double d; int i; short s; };
struct floats { float x, y, z; };
struct small { char c[3]; };
struct large { long a[3]; };
struct fields { unsigned a : 5; long b : 40; };
F double d(int x) { return x * 1.5; }
F float f(int x) { return x * 0.25f; }
F struct mixed mixed(int x) { struct mixed m = { x * 2.5, -x, 7 }; return m; }
F struct floats floats(int x) { struct floats m = { x, x * 2, x * 3 }; return m; }
F struct small small(int x) { struct small m = { { x, x + 1, x + 2 } }; return m; }
F struct large large(int x) { struct large m = { { x, x + 1, x + 2 } }; return m; }
F struct fields fields(int x) { struct fields m = { 21, -1000000000000 / 4 }; return m; }
volatile double sink;
int main(int c, char **v) {
  sink = d(c) + f(c) + mixed(c).d + floats(c).x + small(c).c[0] + large(c).a[1] + fields(c).b;
  return 0;
}"#;

#[test]
fn numbers_and_structures_are_found_in_the_registers_that_return_them() {
    let scratch = Scratch::new("returns-shapes");
    let program = scratch.compile("shapes.c", SHAPES, &["-O1", "-g", "-falign-functions=32"]);
    let script = r#"
        probe process.function("d").return { printf("%x\n", $return) }
        probe process.function("f").return { printf("%x\n", $return) }
        probe process.function("mixed").return { printf("%x %d %d\n", $return->d, $return->i, $return->s) }
        probe process.function("floats").return { printf("%x %x %x\n", $return->x, $return->y, $return->z) }
        probe process.function("small").return { printf("%d %d %d\n", $return->c[0], $return->c[1], $return->c[2]) }
        probe process.function("large").return { printf("%d %d %s\n", $return->a[0], $return->a[2], $return$) }
        probe process.function("fields").return { printf("%d %d %s\n", $return->a, $return->b, $return$) }"#;
    let outcome = stap(&["-w", "-e", script, "-c", &program.to_string_lossy()]).ok();
    let mut lines: Vec<&str> = outcome.stdout.lines().collect();
    lines.sort_unstable();
    // The bit patterns are those of IEEE 754.
    let mut wanted = vec![
        "3ff8000000000000",
        "3e800000",
        "4004000000000000 -1 7",
        "3f800000 40000000 40400000",
        "1 2 3",
        "1 3 {.a=[...]}",
        "21 -250000000000 {.a=21, .b=-250000000000}",
    ];
    wanted.sort_unstable();
    assert_eq!(lines, wanted, "{}", outcome.stderr);
}

const SQL: &str = "create table t(a integer primary key, b text); \
    with recursive c(x) as (select 1 union all select x+1 from c where x<60) \
    insert into t select x, hex(x*x) from c; \
    select count(*), sum(length(b)) from t where b like '3%' and (a > 3 or b < 'z'); \
    create index i on t(b); select b from t order by b desc limit 5; \
    update t set b = b || 'z' where a % 3 = 0; delete from t where a % 7 = 0;";

#[test]
fn returns_are_counted_as_bpftrace_counts_them() {
    const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/libsqlite3.so.0";
    need("/usr/bin/sqlite3");
    need("/usr/bin/bpftrace");
    assert!(
        is_root(),
        "bpftrace, which this test compares with, needs root"
    );
    let scratch = Scratch::new("returns-bpftrace");
    let sql = scratch.write("statements.sql", SQL);
    let command = format!(
        "/usr/bin/sqlite3 -batch -init {} :memory: .quit",
        sql.display()
    );
    let mut bpf = Command::new("bpftrace");
    let program = format!("uretprobe:{LIBRARY}:sqlite3_s* {{ @[probe] = count(); }}");
    bpf.args(["-e", &program, "-c", &command])
        .env("BPFTRACE_MAX_PROBES", "2048");
    let expected: BTreeMap<String, u64> = run(bpf)
        .ok()
        .stdout
        .lines()
        .filter_map(|line| {
            let (key, count) = line.strip_prefix("@[")?.split_once("]: ")?;
            let name = key.rsplit(':').next()?;
            Some((name.to_owned(), count.trim().parse().ok()?))
        })
        .collect();
    assert!(expected.len() > 3, "{expected:?}");
    let script = r#"global n
        probe process.library("libsqlite3.so.0").function("sqlite3_s*").return { n[ppfunc()]++ }
        probe end { foreach (f in n) printf("%s: %d\n", f, n[f]) }"#;
    for how in ["0", "1"] {
        let replace = format!("SPILE_REPLACE_RETURNS={how}");
        let outcome = stap(&["-D", &replace, "-e", script, "-c", &command]).ok();
        let counted: BTreeMap<String, u64> = outcome
            .stdout
            .lines()
            .filter_map(|line| {
                let (name, count) = line.split_once(": ")?;
                Some((name.to_owned(), count.parse().ok()?))
            })
            .collect();
        assert_eq!(counted, expected, "{replace}: {}", outcome.stderr);
    }
}
