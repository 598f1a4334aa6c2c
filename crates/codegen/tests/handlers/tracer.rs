//! Handlers of begin and end probes.

use crate::session::{Output, Session, prints, run, small};
use codegen::Limits;

#[test]
fn hello() {
    assert_eq!(
        prints(r#"printf("hello %s %d\n", "world", 42)"#),
        "hello world 42\n"
    );
    assert_eq!(prints(r#"println("a", 1, "b")"#), "a1b\n");
    assert_eq!(prints(r#"printdln("|", 1, 2, "x")"#), "1|2|x\n");
}

#[test]
fn arithmetic() {
    assert_eq!(
        prints(r#"x = 7; printf("%d %d %d", x / -2, x % -2, -x / 2)"#),
        "-3 1 -3"
    );
    assert_eq!(
        prints(r#"x = 1; printf("%d %d", x << 63, (x << 63) >> 63)"#),
        "-9223372036854775808 -1"
    );
    assert_eq!(
        prints(r#"x = -9223372036854775807 - 1; y = -1; printf("%d %d", x / y, x % y)"#),
        "-9223372036854775808 0"
    );
    assert_eq!(
        prints(r#"x = 3; printf("%d%d%d", x > 2, !x, x && 0 || 1)"#),
        "101"
    );
    assert_eq!(
        prints(r#"x = 5; y = x++ + ++x; printf("%d %d", x, y)"#),
        "7 12"
    );
    assert_eq!(
        prints(r#"x = 0x0f; x ^= 0xff; x |= 0x100; x &= ~1; printf("%x", x)"#),
        "1f0"
    );
}

#[test]
fn division_by_zero_is_an_error() {
    let output = run(
        "global z probe begin { x = 1 / z; print(\"not reached\") } probe end { print(\"end\"); z = 0 }",
    );
    assert_eq!(output.errors, ["division by 0"]);
    assert_eq!(output.text, "end");
}

#[test]
fn strings() {
    assert_eq!(
        prints(r#"a = "x" . "y"; a .= "z"; printf("%s %d", a, a == "xyz")"#),
        "xyz 1"
    );
    assert_eq!(
        prints(r#"a = sprintf("%d-%s", 5, "q"); b = a; a = "n"; print(b . a)"#),
        "5-qn"
    );
    assert_eq!(prints(r#"print("a" < "b", "b" <= "a", "a" != "a")"#), "100");
    assert_eq!(
        prints(r#"print(strlen("four"), substr("abcdef", 2, 3))"#),
        "4cde"
    );
    assert_eq!(
        prints(r#"for (i = 0; i < 5; i++) s = s . sprint(i); print(s)"#),
        "01234"
    );
    assert_eq!(prints(r#"print(1 ? "yes" : "no")"#), "yes");
}

#[test]
fn strings_are_cut_at_maxstringlen() {
    let text = r#"probe begin { s = "x"; for (i = 0; i < 12; i++) s .= s; print(strlen(s)) }"#;
    let mut session = Session::with(
        text,
        &Limits {
            max_string: 100,
            ..small()
        },
    );
    session.run("begin");
    assert_eq!(session.output().text, "99");
}

#[test]
fn loops() {
    assert_eq!(
        prints("for (i = 0; i < 10; i++) { if (i == 3) continue; if (i == 6) break; print(i) }"),
        "01245"
    );
    assert_eq!(prints("i = 3; while (i) print(i--)"), "321");
}

#[test]
fn globals_and_maps() {
    let output = run(r#"
        global n = 5, s = "init", a, b, c
        probe begin {
            n += 2; s .= "!"
            a["x", 1] = 10; a["x", 2] += 5; a["y", 1]++
            b[1] = "one"; b[2] = b[1] . "+"
            c[7]++; c[7]++; c[8] = 3
            printf("%d %s %d %d %d %d %s %d|", n, s, a["x", 1], a["x", 2], a["y", 1], a["z", 9], b[2], c[7])
            printf("%d%d%d%d|", ["x", 1] in a, ["x", 3] in a, 7 in c, ["x", *] in a)
            delete c[7]; printf("%d", c[7])
            delete a; printf("%d", ["x", 1] in a)
            delete n; delete s; printf("%d[%s]", n, s)
        }"#);
    assert_eq!(output.text, "7 init! 10 5 1 0 one+ 2|1011|000[]");
    assert_eq!(output.errors, Vec::<String>::new());
}

#[test]
fn foreach() {
    let output = run(r#"
        global a, b
        probe begin {
            a[3] = 30; a[1] = 10; a[2] = 20
            foreach (k in a) printf("%d:%d ", k, a[k])
            foreach (k+ in a) printf("%d ", k)
            foreach (k in a-) printf("%d ", k)
            foreach (v = k in a+ limit 2) printf("%d=%d ", k, v)
            b["x", 1] = "p"; b["y", 2] = "q"; b["x", 3] = "r"
            foreach ([s, i] in b) printf("%s%d%s ", s, i, b[s, i])
            foreach ([s, i] in b["x", *]) printf("%s%d ", s, i)
            foreach (k in a-) print("")
            foreach (k in a) foreach (j in a) { if (j == 1) break; printf("%d%d ", k, j) }
        }"#);
    // The last loop goes by the order that was left by the one by value.
    assert_eq!(
        output.text,
        "3:30 1:10 2:20 1 2 3 3 2 1 1=10 2=20 x1p y2q x3r x1 x3 33 32 23 22 13 12 "
    );
    assert_eq!(output.errors, Vec::<String>::new());
}

#[test]
fn statistics() {
    let output = run(r#"
        global s, t
        probe begin {
            for (i = 1; i <= 10; i++) { s <<< i; t[i % 2] <<< i }
            printf("%d %d %d %d %d|", @count(s), @sum(s), @min(s), @max(s), @avg(s))
            foreach (k in t) printf("%d %d %d|", k, @count(t[k]), @sum(t[k]))
        }"#);
    assert_eq!(output.text, "10 55 1 10 5|1 5 25|0 5 30|");
}

#[test]
fn histograms() {
    let output = run(r#"
        global s
        probe begin {
            for (i = 0; i < 8; i++) s <<< i
            printf("%d|", @count(s))
            print(@hist_linear(s, 0, 10, 2))
        }"#);
    assert_eq!(output.errors, Vec::<String>::new());
    assert!(output.text.starts_with("8|"), "{}", output.text);
    assert!(output.text.contains("value |"), "{}", output.text);
}

#[test]
fn functions() {
    let output = run(r#"
        function fact(n) { if (n < 2) return 1; return n * fact(n - 1) }
        function join(a, b) { a = a . "-"; return a . b }
        function twice:string(s:string) { return s . s }
        probe begin { x = "q"; printf("%d %s %s %s", fact(5), join(x, "r"), x, twice(twice("ab"))) }"#);
    assert_eq!(output.text, "120 q-r q abababab");
    assert_eq!(output.errors, Vec::<String>::new());
}

#[test]
fn nesting_has_a_limit() {
    let output = run("function f:long(n:long) { return f(n + 1) } probe begin { print(f(0)) }");
    assert_eq!(output.errors, ["MAXNESTING exceeded"]);
    assert_eq!(output.text, "");
}

#[test]
fn overloads() {
    let output = run(r#"
        function f(x) { if (x > 10) next; return "small" }
        function f(x) { return "big" . sprint(x) }
        probe begin { print(f(1), f(11)) }"#);
    assert_eq!(output.text, "smallbig11");
}

#[test]
fn try_and_catch() {
    let output = run(r#"
        global z
        function f() { return 1 / z }
        probe begin {
            try { x = 1 / z; print("no") } catch (m) { printf("[%s]", m) }
            try { f() } catch (m) { printf("[%s]", m) }
            try { error("mine") } catch { print("caught") }
            try { try { error("in") } catch (m) { error(m . "ner") } } catch (m) { print(m) }
            z = 0
        }"#);
    assert_eq!(output.text, "[division by 0][division by 0]caughtinner");
    assert_eq!(output.errors, Vec::<String>::new());
}

#[test]
fn error_ends_the_handler() {
    let output = run(r#"probe begin { warn("careful"); error("bad"); print("no") }"#);
    assert_eq!(
        output,
        Output {
            text: String::new(),
            errors: vec!["bad".into()],
            warnings: vec!["careful".into()],
        }
    );
}

#[test]
fn loops_are_counted() {
    let mut session = Session::with(
        "probe begin { while (1) x++ } probe end { for (i = 0; i < 40; i++) x++; print(x) }",
        &Limits {
            max_action_interruptible: 100,
            ..small()
        },
    );
    session.run("begin");
    session.run("end");
    let output = session.output();
    assert_eq!(output.errors, ["MAXACTION exceeded"]);
    assert_eq!(output.text, "40");
}

#[test]
fn arrays_overflow() {
    let mut session =
        Session::new("global a[2] probe begin { a[1] = 1; a[2] = 2; a[3] = 3; print(1) }");
    session.run("begin");
    let output = session.output();
    assert_eq!(output.errors.len(), 1);
    assert!(
        output.errors[0].starts_with("Array overflow"),
        "{:?}",
        output.errors
    );
    assert_eq!(output.text, "");
}

#[test]
fn conditions() {
    let output = run(r#"
        global go
        probe begin { go = 1 }
        probe end if (go) { print("on") }
        probe end if (!go) { print("off") }"#);
    assert_eq!(output.text, "on");
}

#[test]
fn site_texts() {
    assert_eq!(prints("print(pp())"), "begin.test");
    assert_eq!(prints("print(target())"), "4711");
}

#[test]
fn next_leaves() {
    assert_eq!(prints(r#"print("a"); if (1) next; print("b")"#), "a");
}

#[test]
fn memory_of_the_tracer_is_read_safely() {
    let output = run(
        r#"probe begin { print(user_string2(16, "none")); print(user_long(16)); print(user_string(16)) }"#,
    );
    assert_eq!(output.text, "none0");
    assert_eq!(output.errors.len(), 1);
}

#[test]
fn library_functions_run() {
    let pid = std::process::id();
    assert_eq!(prints("printf(\"%d\", pid())"), pid.to_string());
    assert_eq!(
        prints(
            r#"print(tokenize("a,b", ","), tokenize("", ","), strtol("0x1f", 16), isinstr("abc", "bc"))"#
        ),
        "ab311"
    );
    assert_eq!(
        prints(r#"print(str_replace("aXbX", "X", "--"), stringat("A", 0))"#),
        "a--b--65"
    );
    assert_eq!(
        prints(r#"print(gettimeofday_s() > 1600000000, tid() > 0, execname() != "")"#),
        "111"
    );
    assert_eq!(prints(r#"print(ctime(0))"#), "Thu Jan  1 00:00:00 1970");
}

#[test]
fn formats_with_arguments_of_all_kinds() {
    assert_eq!(
        prints(r#"printf("%*d|%-5s|%05d|%x|%c|%.2s|%#x|%%", 4, 7, "ab", 42, 255, 65, "xyz", 16)"#),
        "   7|ab   |00042|ff|A|xy|0x10|%"
    );
}

#[test]
fn many_temporaries_in_a_loop_reuse_their_room() {
    assert_eq!(
        prints(
            r#"for (i = 0; i < 300; i++) { s = sprintf("%d", i) . "-" . sprintf("%d", i + 1) } print(s)"#
        ),
        "299-300"
    );
}

#[test]
fn errors_inside_foreach_are_caught_outside() {
    let output = run(r#"
        global a
        probe begin {
            a[1] = 1; a[2] = 2
            for (i = 0; i < 50; i++)
                try { foreach (k in a) foreach (j+ in a) error("x") } catch { n++ }
            foreach (k in a) m++
            printf("%d %d", n, m)
        }"#);
    assert_eq!(output.text, "50 2");
}

#[test]
fn return_leaves_a_foreach() {
    let output = run(r#"
        global a
        function first() { foreach (k+ in a) { foreach (j in a) return k } return -1 }
        probe begin { a[5] = 1; a[4] = 1; for (i = 0; i < 100; i++) n += first(); print(n) }"#);
    assert_eq!(output.text, "400");
}
