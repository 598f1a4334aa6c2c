//! The language inside a program: handlers that run in the target compute what they do in the tracer.

use spile_tests::{Scratch, stap};

const TARGET: &str = r#"
#include <stdio.h>
__attribute__((noinline)) int add(int a, int b) { __asm__ volatile("" : "+r"(a)); return a + b; }
__attribute__((noinline)) const char *text(const char *s, long n) { __asm__ volatile("" : "+r"(s)); return s + n; }
__attribute__((noinline)) int narrow(short a, unsigned char b, signed char c, unsigned d, _Bool e) {
    return a + b * 3 + c * 5 + d * 7 + e * 11;
}
int main(void) {
    int t = 0;
    for (int i = 0; i < 5; i++) t = add(t, i);
    t += text("hello world\n", 2) != 0;
    t += narrow(-3, 200, -5, 4000000000u, 1) != 0;
    return t != 12;
}
"#;

#[test]
fn handlers_in_a_program() {
    let scratch = Scratch::new("handlers");
    let program = scratch.compile("target.c", TARGET, &["-O1", "-g"]);
    let program = program.to_string_lossy();
    for (script, expected) in [
        (
            r#"probe process.function("add") { print($a, "+", $b, " ") }"#,
            "0+0 0+1 1+2 3+3 6+4 ",
        ),
        (
            r#"probe process.function("text") { print(user_string($s), $n, user_string_n($s, 3), user_string_quoted($s), user_char($s), "|", user_int($s), "|", text_str(user_string($s))) }"#,
            "hello world\n2hel\"hello world\\n\"104|1819043176|hello world\\n",
        ),
        (
            r#"probe process.function("narrow") { println($a, " ", $b, " ", $c, " ", $d, " ", $e) }"#,
            "-3 200 -5 4000000000 1\n",
        ),
        (
            r#"probe process.function("text") { printf("%.5m|%.3M|%8.5m|", $s, $s, $s) }"#,
            "hello|68656c|   hello|",
        ),
        (
            r#"probe process.function("text") { print(user_string(1, "dflt"), user_long(1)); try { print(user_string(1)) } catch (e) { println(e) } }"#,
            "dflt0user string copy fault -14 at 0x1 [man error::fault]\n",
        ),
        (
            r#"global n probe process.function("add") { try { n += 10 / $b } catch (e) { println(e) } } probe end { println(n) }"#,
            "division by 0\n20\n",
        ),
        (
            r#"global s, a, w%[2] probe process.function("add") { s <<< $b; a[$b & 1, ppfunc()] <<< $a; w[$b] = $a }
               probe end { println(@sum(s), @max(s)); foreach ([k+, f] in a) println(k, f, @sum(a[k, f])); foreach (k+ in w) print(k) }"#,
            "104\n0add7\n1add3\n34",
        ),
        (
            r#"function fact(n) { if (n <= 1) return 1; return n * fact(n - 1) } probe process.function("add") { print(fact($b), " ") }"#,
            "1 1 2 6 24 ",
        ),
        (
            r#"global a probe process.function("add") { a[$b] = sprintf("<%d>", $a) foreach (v = k- in a) print(v) print(";") }"#,
            "<0>;<0><0>;<1><0><0>;<3><1><0><0>;<6><3><1><0><0>;",
        ),
        (
            r#"probe process.function("add") { if ($b == 2) next; print($b) }"#,
            "0134",
        ),
    ] {
        let outcome = stap(&["-w", "-e", script, "-c", &program]).ok();
        assert_eq!(outcome.stdout, expected, "{script}");
    }
    // Only `-g` lets a script change the program.
    let outcome = stap(&[
        "-e",
        r#"probe process.function("add") { $a = 3 }"#,
        "-c",
        &program,
    ]);
    assert_eq!(outcome.status, Some(1));
    assert!(outcome.stderr.contains("semantic error: write to target variable not permitted; need stap -g: identifier '$a' at <input>:1:33"), "{}", outcome.stderr);
    let outcome = stap(&[
        "-e",
        r#"probe process.function("add") { println(10 / $b) }"#,
        "-c",
        &program,
    ]);
    assert_eq!(outcome.status, Some(1));
    assert!(
        outcome
            .stderr
            .contains("ERROR: division by 0 near operator '/' at <input>:1:44\n"),
        "{}",
        outcome.stderr
    );
    let spin = r#"probe process.function("text") { while (1) i++ println(i) }"#;
    let outcome = stap(&["-w", "-DMAXACTION=100", "-e", spin, "-c", &program]);
    assert_eq!(outcome.status, Some(1));
    assert!(
        outcome.stderr.contains("ERROR: MAXACTION exceeded near "),
        "{}",
        outcome.stderr
    );
}
