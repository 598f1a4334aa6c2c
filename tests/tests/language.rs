//! The language at run time: scripts and what SystemTap's documentation, its translator or plain arithmetic says that
//! they print.

use spile_tests::stap;

/// Runs each script, which must end well and say nothing but what is expected on standard output.
fn table(cases: &[(&str, &str)]) {
    for (script, expected) in cases {
        let outcome = stap(&["-w", "-e", script]);
        assert_eq!(
            (
                outcome.status,
                outcome.stdout.as_str(),
                outcome.stderr.as_str()
            ),
            (Some(0), *expected, ""),
            "{script}"
        );
    }
}

/// Runs a begin probe with each body.
fn bodies(cases: &[(&str, &str)]) {
    let scripts: Vec<String> = cases
        .iter()
        .map(|(body, _)| format!("probe begin {{ {body}; exit() }}"))
        .collect();
    let cases: Vec<(&str, &str)> = scripts
        .iter()
        .zip(cases)
        .map(|(script, (_, out))| (script.as_str(), *out))
        .collect();
    table(&cases);
}

/// Runs each script with options; it must fail with status 1 and the `ERROR:` line expected.
fn failures(cases: &[(&[&str], &str, &str)]) {
    for (options, script, error) in cases {
        let arguments: Vec<&str> = options
            .iter()
            .copied()
            .chain(["-w", "-e", script])
            .collect();
        let outcome = stap(&arguments);
        assert_eq!(outcome.status, Some(1), "{script}: {outcome:?}");
        assert!(
            outcome
                .stderr
                .lines()
                .any(|l| l == format!("ERROR: {error}")),
            "{script}: {}",
            outcome.stderr
        );
        assert!(
            outcome
                .stderr
                .contains("Pass 5: run failed.  [man error::pass5]"),
            "{script}: {}",
            outcome.stderr
        );
    }
}

#[test]
fn printf_directives() {
    bodies(&[
        (
            r#"printf("[%d][%5d][%-5d][%05d][%+d][% d]", 42, 42, 42, 42, 42, 42)"#,
            "[42][   42][42   ][00042][+42][ 42]",
        ),
        (
            r#"printf("[%d][%5d][%-5d][%05d][%+d][% d]", -4, -4, -4, -4, -4, -4)"#,
            "[-4][   -4][-4   ][-0004][-4][-4]",
        ),
        (
            r#"printf("[%x][%X][%#x][%#X][%o][%#o]", 255, 255, 255, 255, 8, 8)"#,
            "[ff][FF][0xff][0XFF][10][010]",
        ),
        (
            r#"printf("[%u][%i][%ld][%lx]", -1, -7, 5, 16)"#,
            "[18446744073709551615][-7][5][10]",
        ),
        (
            r#"printf("[%s][%6s][%-6s][%.2s][%6.2s]", "abc", "abc", "abc", "abc", "abc")"#,
            "[abc][   abc][abc   ][ab][    ab]",
        ),
        (
            r#"printf("[%c%c][%3c][%-3c]", 65, 0x42, 67, 68)"#,
            "[AB][  C][D  ]",
        ),
        (r#"printf("[%#c%#c%#c%#c]", 10, 65, 39, 1)"#, r"[\nA\'\001]"),
        (
            r#"printf("[%p][%10p][%-10p]", 0x1234, 0x1234, 0x1234)"#,
            "[0x1234][    0x1234][0x1234    ]",
        ),
        (
            r#"printf("[%*d][%-*d][%.*s][%*.*s]", 6, 42, 6, 42, 2, "hello", 8, 3, "hello")"#,
            "[    42][42    ][he][     hel]",
        ),
        // A negative `*` counts as 0, unlike in C; of a large one the lower 32 bits do.
        (r#"w = -6; printf("[%*d]", w, 42)"#, "[42]"),
        (
            r#"w = 4294967296 + 3; printf("[%*d][%.*d]", w, 5, w, 5)"#,
            "[  5][005]",
        ),
        // A point without a number is no precision, unlike in C.
        (
            r#"printf("[%.s][%5.s][%.0s][%.d]", "abc", "abc", "abc", 5)"#,
            "[abc][  abc][][5]",
        ),
        // Widths are cut to what is left of MAXSTRINGLEN, the end of the text included.
        (
            r#"s = sprintf("ab%600d", 42); print(strlen(s), substr(s, 505, 9))"#,
            "511     4",
        ),
        // Precision: least digits; a 0 stays; the flag 0 is obeyed beside it.
        (
            r#"printf("[%.5d][%8.5d][%.0d][%08.3d]", 42, 42, 0, 7)"#,
            "[00042][   00042][0][00000007]",
        ),
        (
            r#"printf("[%#x][%#o][%08x][%#8x]", 0, 0, 255, 255)"#,
            "[0x0][00][000000ff][    0xff]",
        ),
        (r#"printf("%d%%", 5)"#, "5%"),
        (
            r#"printf("%1b%2b%4b|%b", 0x41, 0x4342, 0x47464544, 0x4847464544434241)"#,
            "ABCDEFG|ABCDEFGH",
        ),
        (
            r#"printf("tab\there \x41\101 \"q\" \\")"#,
            "tab\there AA \"q\" \\",
        ),
    ]);
}

#[test]
fn print_family() {
    bodies(&[
        (
            r#"print(1); print("a"); print("x", 2, "y"); println(); println("x", 2)"#,
            "1ax2y\nx2\n",
        ),
        (
            r#"printd(",", 1, "b", 3); printdln("|", 1, "b", 3)"#,
            "1,b,31|b|3\n",
        ),
        (
            r#"a = sprint("z", 1); b = sprintf("%d-%s", 1, "q"); c = sprintln("w"); print(a, b, c)"#,
            "z11-qw\n",
        ),
        (
            r#"print(sprintd(":", 1, 2), sprintdln(":", 1, 2))"#,
            "1:21:2\n",
        ),
        (r#"print("a\0b", strlen("a\0b"))"#, "a1"),
        (
            r#"println(pp(), " ", pn(), " ", execname(), " ", pid() == tid(), target(), probefunc())"#,
            "begin begin spile 10\n",
        ),
        (r#"println("adj" "acent")"#, "adjacent\n"),
    ]);
}

#[test]
fn strings() {
    bodies(&[
        (
            r#"x = "a" . "b" . sprint(3); x .= "d"; println(x)"#,
            "ab3d\n",
        ),
        (
            r#"println("a" < "b", "a" > "b", "a" == "a", "a" != "a", "abc" <= "abd", "b" >= "a")"#,
            "101011\n",
        ),
        (r#"println(strlen("hello"), strlen(""))"#, "50\n"),
        (
            r#"println(substr("hello", 1, 3), "|", substr("hello", 2, 100), "|", substr("hello", 9, 2))"#,
            "ell|llo|\n",
        ),
        (
            r#"println(isinstr("hello", "ll"), isinstr("hello", "zz"))"#,
            "10\n",
        ),
        (
            r#"println(strpos("hello", "l"), strpos("hello", "q"))"#,
            "2-1\n",
        ),
        (
            r#"println(stringat("abc", 0), " ", stringat("abc", 2))"#,
            "97 99\n",
        ),
        (
            r#"println(strtol("0x1f", 16), " ", strtol("077", 8), " ", strtol("12abc", 10), " ", strtol("-5", 0), " ", strtol("zz", 10))"#,
            "31 63 12 -5 0\n",
        ),
        (
            r#"println(str_replace("hello", "l", "LL"), str_replace("aaa", "a", ""))"#,
            "heLLLLo\n",
        ),
        (
            r#"println(text_str("a\tb\n\"q\\\001"))"#,
            "a\\tb\\n\\\"q\\\\\\001\n",
        ),
        (
            r#"println(text_strn("hello world", 5, 0), text_strn("hello world", 5, 1))"#,
            "hello\"\"...\n",
        ),
        (
            r#"t = tokenize("a,b;;c", ",;"); while (t != "") { print("<", t, ">"); t = tokenize("", ",;") }"#,
            "<a><b><c>",
        ),
    ]);
    failures(&[(
        &[],
        r#"probe begin { println(stringat("abc", 50)) }"#,
        "Position out of bounds near identifier 'stringat' at <input>:1:23",
    )]);
}

#[test]
fn arithmetic_wraps_and_truncates() {
    bodies(&[
        ("println(9223372036854775807 + 1)", "-9223372036854775808\n"),
        (
            "a = -9223372036854775808; b = -1; println(a / b, \" \", a % b, \" \", -a)",
            "-9223372036854775808 0 -9223372036854775808\n",
        ),
        (
            "println(-7 / 2, \" \", -7 % 3, \" \", 7 / -2, \" \", 7 % -3)",
            "-3 -1 -3 1\n",
        ),
        (
            "println(1 << 64, \" \", 1 << 63, \" \", -8 >> 1)",
            "1 -9223372036854775808 -4\n",
        ),
        ("x = -8; println(x >>> 60, \" \", x >> 1)", "15 -4\n"),
        (
            "println(~5, !5, !0, - -3, 5 & 3, 5 | 3, 5 ^ 3)",
            "-6013176\n",
        ),
        (
            "println(0x10 + 010 + 10, \" \", 18446744073709551615)",
            "34 -1\n",
        ),
        (
            "x = 5; x <<= 2; x |= 1; x ^= 3; x %= 7; x *= 10; x /= 3; x -= 1; x &= 6; x >>= 1; println(x)",
            "1\n",
        ),
        (
            "x = 1; y = x++ + ++x; println(x, y); y = x-- - --x; println(x, y)",
            "34\n12\n",
        ),
        // Levels of the operators: `.` below `+`, shifts below `.`, comparisons on one level, `in` below them.
        (
            "println(1 ? 2 : 3 ? 4 : 5, 1 || 0 && 0, 1 | 2 ^ 3 & 4, 5 > 3 == 1, 1 << 2 + 1, 10 - 3 - 2, 2 * 3 % 4, !1 + 1)",
            "21318521\n",
        ),
    ]);
    failures(&[
        (
            &[],
            "global z=0 probe begin { println(1 / z) z = 1 }",
            "division by 0 near operator '/' at <input>:1:36",
        ),
        (
            &[],
            "global z=0 probe begin { println(1 % z) z = 1 }",
            "division by 0 near operator '%' at <input>:1:36",
        ),
        (
            &[],
            "global z=0 probe begin { x = 4 x /= z println(x) z = 1 }",
            "division by 0 near identifier 'z' at <input>:1:37",
        ),
    ]);
}

#[test]
fn loops() {
    bodies(&[
        (
            "i = 0; while (1) { if (i++ > 3) break; if (i == 2) continue; print(i) }",
            "134",
        ),
        ("for (j = 0; j < 3; j++) print(j)", "012"),
        ("i = 3; for (;;) { if (i-- <= 0) break; print(i) }", "210"),
        ("while (0) ; for (; 0;) ; if (1) ; else print(1); {}", ""),
        (
            "for (i = 0; i < 3; i++) for (j = 0; j < 3; j++) { if (j == 1) continue; if (i == 1) break; print(i, j, \" \") }",
            "00 02 20 22 ",
        ),
    ]);
}

#[test]
fn foreach_orders_limits_and_binds() {
    let fill = r#"global a probe begin { a["x"] = 3; a["y"] = 1; a["z"] = 2;"#;
    for (rest, expected) in [
        ("foreach (k in a) print(k)", "xyz"),
        ("foreach (k+ in a) print(k)", "xyz"),
        ("foreach (k- in a) print(k)", "zyx"),
        ("foreach (k in a+) print(k, a[k])", "y1z2x3"),
        ("foreach (k in a-) print(k, a[k])", "x3z2y1"),
        ("foreach (k in a- limit 2) print(k)", "xz"),
        ("foreach (k in a limit 0) print(k)", ""),
        ("foreach (k in a limit -1) print(k)", ""),
        ("foreach (v = k in a-) print(v, k)", "3x2z1y"),
        ("foreach (v+ = k in a) print(v, k)", "1y2z3x"),
        (
            "foreach (k in a) { if (k == \"y\") continue; print(k) }",
            "xz",
        ),
        (
            "foreach (k in a) { foreach (j in a) { if (j == \"z\") break; print(k, j) } }",
            "xxxyyxyyzxzy",
        ),
    ] {
        table(&[(&format!("{fill} {rest}; exit() }}"), expected)]);
    }
}

/// What the C that `stap -p3` makes of these, compiled with stap's maps, prints: sorting an array leaves it sorted.
#[test]
fn arrays_stay_as_they_were_sorted() {
    table(&[
        (
            r#"global a probe begin { a["x"] = 3; a["y"] = 1; a["z"] = 2; foreach (k in a+) print(k)
                foreach (k in a) print(k); foreach (k- in a) print(k); a["w"] = 9; foreach (k in a) print(k); exit() }"#,
            "yzxyzxzyxzyxw",
        ),
        // The first of the order makes room.
        (
            "global w%[3] probe begin { w[1] = 10; w[2] = 30; w[3] = 20; foreach (k in w-) print(k); w[4] = 0
             foreach (k in w) print(k); exit() }",
            "231314",
        ),
        // A limit up to 30 leaves the rest as stap's search leaves it.
        (
            r#"global a probe begin { for (i = 0; i < 8; i++) a[i] = (i * 5) % 8; foreach (k in a- limit 3) print(k)
                print(" "); foreach (k in a) print(k); exit() }"#,
            "361 36142057",
        ),
        // All is sorted for a slice, and a limit counts what does not match, too.
        (
            r#"global m probe begin { for (i = 0; i < 3; i++) for (j = 0; j < 3; j++) m[i,j] = i * 10 + j
                foreach ([a,b] in m[*,1] limit 5) print(a, b, " "); print("| ")
                foreach ([a-,b] in m[*,1] limit 5) print(a, b, " "); print("| ")
                foreach ([a,b] in m) print(a, b, " "); exit() }"#,
            "01 11 | 21 11 | 20 21 22 10 11 12 00 01 02 ",
        ),
    ]);
}

#[test]
fn arrays() {
    table(&[
        (
            r#"global m probe begin {
                m[1,"a",2,"b",3,"c",4,"d",5] = 99; m[1,"a",2,"b",3,"c",4,"d",6] = 98
                foreach ([a,b,c,d,e,f,g,h,i-] in m) println(a,b,c,d,e,f,g,h,i,":",m[a,b,c,d,e,f,g,h,i])
                println([1,"a",2,"b",3,"c",4,"d",5] in m, [1,"a",2,"b",3,"c",4,"d",7] in m)
                delete m[1,"a",2,"b",3,"c",4,"d",5]
                println([1,"a",2,"b",3,"c",4,"d",5] in m, [1,"a",2,"b",3,"c",4,"d",6] in m)
                delete m
                println([1,"a",2,"b",3,"c",4,"d",6] in m)
                exit() }"#,
            "1a2b3c4d6:98\n1a2b3c4d5:99\n10\n01\n0\n",
        ),
        (
            r#"global m probe begin {
                for (i = 0; i < 3; i++) for (j = 0; j < 3; j++) m[i,j] = i * 10 + j
                foreach ([a+,b] in m[*,1]) print(a, b, ":", m[a,b], " ")
                foreach ([a,b+] in m[2,*]) print(a, b, " ")
                println([*,2] in m, [*,5] in m, [7,*] in m)
                delete m[*,1]
                foreach ([a+,b] in m) print(a, b, " ")
                exit() }"#,
            "01:1 11:11 21:21 20 21 22 100\n00 02 10 12 20 22 ",
        ),
        (
            r#"global a probe begin { a[1]++; a[1] += 5; ++a[2]; a[3]--; a[4] |= 6; b = a[1]++
                println(a[1], a[2], a[3], a[4], b, a[9], 9 in a); a[8] += 0; println(8 in a); exit() }"#,
            "71-16600\n1\n",
        ),
        (
            r#"global a probe begin { a["x"] .= "q"; a["x"] .= "r"; println(a["x"], "[", a["none"], "]"); exit() }"#,
            "qr[]\n",
        ),
        (
            "global w%[3] probe begin { for (i = 0; i < 6; i++) w[i] = i; foreach (k+ in w) print(k); exit() }",
            "345",
        ),
        (
            "global s[2] probe begin { try { s[1] = 1; s[2] = 2; s[1] = 3; s[3] = 3 } catch (e) { println(e, s[1]) } exit() }",
            "Array overflow, check size limit (2)3\n",
        ),
        (
            "global g, h = \"x\" probe begin { g = 5; delete g; delete h; println(g, \"[\", h, \"]\"); exit() }",
            "0[]\n",
        ),
    ]);
    failures(&[
        (
            &["-DMAXMAPENTRIES=10"],
            "global a probe begin { for (i = 0; i < 11; i++) a[i] = i }",
            "Array overflow, check MAXMAPENTRIES near identifier 'a' at <input>:1:49",
        ),
        (
            &[],
            "global s[2] probe begin { s[1] = 1; s[2] = 2; s[3] = 3 }",
            "Array overflow, check size limit (2) near identifier 's' at <input>:1:47",
        ),
    ]);
}

#[test]
fn statistics() {
    table(&[
        (
            "global s probe begin { for (i = 1; i <= 100; i++) s <<< i
             printf(\"%d %d %d %d %d\", @count(s), @sum(s), @min(s), @max(s), @avg(s)); exit() }",
            "100 5050 1 100 50",
        ),
        ("global s probe begin { s <<< -5; s <<< -6; println(@avg(s), @min(s), @max(s)); exit() }", "-5-6-5\n"),
        (
            "global s probe begin { if (0) s <<< 1; println(@count(s), @sum(s)); try { println(@avg(s)) } catch (e) { println(e) }
             try { println(@min(s)) } catch (e) { println(e) }
             try { println(@max(s)) } catch (e) { println(e) }
             try { print(@hist_log(s)) } catch (e) { println(e) }
             try { println(@hist_log(s)[0]) } catch (e) { println(e) }
             s <<< 1; delete s; println(@count(s)); exit() }",
            "00\nempty aggregate\nempty aggregate\nempty aggregate\nempty aggregate\nempty aggregate\n0\n",
        ),
        (
            r#"global a probe begin { a["x"] <<< 3; a["x"] <<< 4; a["y"] <<< 10; a["z"] <<< 1; a["z"] <<< 1; a["z"] <<< 1
                foreach (k in a @sum-) print(k, @sum(a[k]), " ")
                foreach (k in a-) print(k, @count(a[k]), " ")
                foreach (k in a @min+) print(k, @min(a[k]), " ")
                foreach (k in a @max- limit 1) print(k, " ")
                foreach (k in a @avg+) print(k, @avg(a[k]), " ")
                println(@count(a["none"]), "none" in a); delete a["x"]; println("x" in a); exit() }"#,
            "y10 x7 z3 z3 x2 y1 z1 x3 y10 y z1 x3 y10 00\n0\n",
        ),
        (
            "global s probe begin { for (i = 1; i <= 10; i++) s <<< i
             foreach (b in @hist_linear(s, 0, 10, 5)) print(b, \"=\", @hist_linear(s, 0, 10, 5)[b], \" \")
             foreach (v = b in @hist_linear(s, 0, 10, 5) limit 2) print(b, \"=\", v, \" \")
             println(1 in @hist_linear(s, 0, 10, 5)); exit() }",
            "0=0 1=4 2=5 3=1 4=0 0=0 1=4 4\n",
        ),
        // Of one value it is 0; that of an element is not measured against the mean again (stap's C).
        (
            r#"global s, t, a probe begin { s <<< 7; a["x"] <<< 7; t <<< 1; t <<< 2; t <<< 9
                a["y"] <<< 1; a["y"] <<< 2; a["y"] <<< 9
                println(@variance(s), " ", @variance(a["x"]), " ", @variance(t), " ", @variance(a["y"])); exit() }"#,
            "0 0 25 24\n",
        ),
        // A histogram's empty line serves println, too.
        (
            "global s probe begin { s <<< 3; println(@hist_linear(s, 0, 4, 2)); println(\"end\"); exit() }",
            "value |-------------------------------------------------- count
    0 |                                                   0
    2 |@                                                  1
    4 |                                                   0

end
",
        ),
    ]);
    failures(&[
        (
            &[],
            "global s probe begin { if (0) s <<< 1; println(@min(s)) }",
            "empty aggregate near operator '@min' at <input>:1:48",
        ),
        (
            &[],
            "global s probe begin { s <<< 1; println(@hist_log(s)[300]) }",
            "histogram index out of range near operator '@hist_log' at <input>:1:41",
        ),
        (
            &[],
            "global s probe begin { if (0) s <<< 1; print(@hist_log(s)) }",
            "empty aggregate near identifier 'print' at <input>:1:40",
        ),
    ]);
}

/// The layout as the language reference shows it.
#[test]
fn histograms() {
    table(&[
        (
            "global s probe begin { for (i = 1; i <= 100; i++) s <<< i; print(@hist_log(s)); exit() }",
            "\
value |-------------------------------------------------- count
    0 |                                                    0
    1 |@                                                   1
    2 |@@                                                  2
    4 |@@@@                                                4
    8 |@@@@@@@@                                            8
   16 |@@@@@@@@@@@@@@@@                                   16
   32 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@                   32
   64 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@              37
  128 |                                                    0
  256 |                                                    0

",
        ),
        (
            "global s probe begin { s <<< -5; s <<< 0; s <<< 3; s <<< 1000000; println(@hist_log(s)); exit() }",
            "  value |-------------------------------------------------- count
    -16 |                                                   0
     -8 |                                                   0
     -4 |@                                                  1
     -2 |                                                   0
     -1 |                                                   0
      0 |@                                                  1
      1 |                                                   0
      2 |@                                                  1
      4 |                                                   0
      8 |                                                   0
        ~
 131072 |                                                   0
 262144 |                                                   0
 524288 |@                                                  1
1048576 |                                                   0
2097152 |                                                   0

",
        ),
        (
            "global s probe begin { for (i = -5; i <= 45; i++) s <<< i; print(@hist_linear(s, 0, 30, 10)); exit() }",
            "\
value |-------------------------------------------------- count
   <0 |@@@@@                                               5
    0 |@@@@@@@@@@                                         10
   10 |@@@@@@@@@@                                         10
   20 |@@@@@@@@@@                                         10
   30 |@@@@@@@@@@                                         10
  >30 |@@@@@@                                              6

",
        ),
    ]);
}

#[test]
fn try_and_catch() {
    bodies(&[
        (
            r#"try { error("boo") } catch (e) { println("c:", e) }"#,
            "c:boo\n",
        ),
        (
            r#"try { try { error("in") } catch { error("out") } } catch (e) { println(e) }"#,
            "out\n",
        ),
        (
            r#"for (i = 0; i < 3; i++) { try { if (i == 1) continue; if (i == 2) break; print(i); error("q") } catch (e) { print(e) } }"#,
            "0q",
        ),
        (
            r#"try { println(1 / strlen("")) } catch (e) { println(e) }"#,
            "division by 0\n",
        ),
    ]);
    table(&[(
        "function f() { try { return 5 } catch {} return 6 } probe begin { println(f()); exit() }",
        "5\n",
    )]);
}

#[test]
fn functions() {
    table(&[
        ("function fact(n) { if (n <= 1) return 1; return n * fact(n - 1) } probe begin { println(fact(8)); exit() }", "40320\n"),
        ("function fib:long(n:long) { return n < 2 ? n : fib(n - 1) + fib(n - 2) } probe begin { println(fib(8)); exit() }", "21\n"),
        ("function ack(m, n) { if (m == 0) return n + 1; if (n == 0) return ack(m - 1, 1); return ack(m - 1, ack(m, n - 1)) }
          probe begin { println(ack(1, 3)); exit() }", "5\n"),
        ("function r(n) { if (n > 0) { r(n - 1); print(n) } } probe begin { r(5); exit() }", "12345"),
        (r#"function cat:string(a:string, b:string) { return a . b } probe begin { println(cat("a", cat("b", "c"))); exit() }"#, "abc\n"),
        (r#"function g:string(x:long, y:string) { while (1) { x--; if (x < 0) return y; y = y . sprint(x) } }
            probe begin { s = "a"; println(g(4, s), s); exit() }"#, "a3210a\n"),
        (r#"function g(x) { if (x > 0) next; return "none" } function g(x) { if (x > 5) next; return "small" }
            function g(x) { return "big" } probe begin { println(g(0), g(3), g(9)); exit() }"#, "nonesmallbig\n"),
        ("function p(x):2 { return 2 } function p(x):1 { return 1 } probe begin { println(p(0)); exit() }", "1\n"),
        ("function n(a) { return 1 } function n(a, b) { return 2 } probe begin { println(n(0), n(0, 0)); exit() }", "12\n"),
        ("private global p = 3 private function pf() { return p } probe begin { println(pf()); exit() }", "3\n"),
    ]);
    failures(&[
        (
            &[],
            "function f:long(n:long) { return f(n + 1) } probe begin { println(f(1)) }",
            "MAXNESTING exceeded near identifier 'f' at <input>:1:10",
        ),
        (
            &[],
            "function f(n) { return n <= 0 ? 0 : 1 + f(n - 1) } probe begin { println(f(20)) }",
            "MAXNESTING exceeded near identifier 'f' at <input>:1:10",
        ),
        (
            &[],
            "function o:long() { next } function o:long() { next } probe begin { println(o()) }",
            "all functions exhausted near identifier 'o' at <input>:1:37",
        ),
        (
            &[],
            "function f() { return g(1) } function g(x) { return 1 / (x - 1) } probe begin { println(f()) }",
            "division by 0 near operator '/' at <input>:1:55",
        ),
    ]);
}

/// Operands are evaluated from left to right, and keep their values whatever the later ones change.
#[test]
fn evaluation_order() {
    let chg = r#"global s = "abc" function chg(x) { s = "zzz"; return x } function two(a, b) { return a . b } probe begin {"#;
    for (body, expected) in [
        (r#"println(two(s, chg("q")))"#, "abcq\n"),
        (r#"println(s . chg("w"))"#, "abcw\n"),
        (r#"println(s, chg("v"), s)"#, "abcvzzz\n"),
        (r#"println(s < chg("b"))"#, "1\n"),
    ] {
        table(&[(&format!("{chg} {body}; exit() }}"), expected)]);
    }
    table(&[
        (r#"global a probe begin { a[1] = "one"; y = a[1] . (a[1] = "three"); println(y, a[1]); exit() }"#, "onethreethree\n"),
        (r#"global m probe begin { x = "p"; println(x . (x = "q") . x); m[x, x = "s"] = 1; foreach ([a, b] in m) println(a, b); exit() }"#, "pqq\nqs\n"),
        (
            r#"global a%[1] function ins() { a["new"] = "nn"; return "!" } probe begin { a["k"] = "kk"; println(a["k"] . ins(), a["k"]); exit() }"#,
            "kk!\n",
        ),
        ("global a probe begin { i = 0; a[i++] = i; foreach (k in a) println(k, a[k]); exit() }", "01\n"),
        (
            "global g, a function inc() { g++; return g } function d(x, y) { return x * 10 + y }
             probe begin { println(d(inc(), inc()), \" \", inc() - inc()); a[inc()] = inc(); foreach (k in a) println(k, a[k]); exit() }",
            "12 -1\n56\n",
        ),
    ]);
}

#[test]
fn limits() {
    let long = r#"probe begin { s = "abcdefghijklmnop"; println(s, "|", s . s, "|", sprintf("%s%s", s, s), "|", strlen(s)); exit() }"#;
    assert_eq!(
        stap(&["-DMAXSTRINGLEN=10", "-e", long]).ok().stdout,
        "abcdefghi|abcdefghi|abcdefghi|9\n"
    );
    let keys = r#"global a probe begin { a["abcdefg"]++; a["abcdxyz"]++; foreach (k in a) println(k, a[k]); exit() }"#;
    assert_eq!(
        stap(&["-DMAXSTRINGLEN=5", "-e", keys]).ok().stdout,
        "abcd2\n"
    );
    let spin = "probe begin { i = 0; while (i < 100) { i++ } println(i); exit() }";
    assert_eq!(stap(&["-e", spin]).ok().stdout, "100\n");
    failures(&[
        (
            &["-DMAXACTION_INTERRUPTIBLE=50"],
            spin,
            "MAXACTION exceeded near identifier 'i' at <input>:1:40",
        ),
        (
            &["-DMAXNESTING=4"],
            "function f(n) { if (n == 0) return 0; return f(n - 1) } probe begin { println(f(9)) }",
            "MAXNESTING exceeded near identifier 'f' at <input>:1:10",
        ),
        // That actions are used up is not caught.
        (
            &[],
            r#"probe begin { try { while (1) i++ } catch (e) { println("caught ", e) } }"#,
            "MAXACTION exceeded near identifier 'i' at <input>:1:31",
        ),
        (
            &[],
            "global z = 5 probe begin { z /= 0 }",
            "division by 0 near number '0' at <input>:1:33",
        ),
        (
            &[],
            "global z = 5, y probe begin { if (z < 0) y++; z %= y }",
            "division by 0 near identifier 'y' at <input>:1:52",
        ),
    ]);
    // The last action of the limit is not to be had: 2 of 10000 are spent before the first round.
    let rounds = |n| format!("probe begin {{ for (i = 0; i < {n}; i++) ; print(i) }}");
    assert!(
        stap(&["-w", "-e", &rounds(9997)])
            .stdout
            .starts_with("9997")
    );
    assert_eq!(stap(&["-w", "-e", &rounds(9998)]).stdout, "");
    // Two calls within one another and ten more: 0 to 11.
    let deep = "function f(n) { return n == 0 ? 0 : f(n - 1) + 1 } probe begin { println(f(11)); println(f(12)) }";
    for (options, script, printed) in [
        (&[][..], deep.to_string(), "11\n"),
        (
            &["-DMAXNESTING=4"],
            deep.replace("11", "3").replace("12", "4"),
            "3\n",
        ),
    ] {
        let outcome = stap(&[options, &["-w", "-e", &script]].concat());
        assert_eq!(
            (outcome.status, outcome.stdout.as_str()),
            (Some(1), printed)
        );
        assert!(
            outcome
                .stderr
                .contains("ERROR: MAXNESTING exceeded near identifier 'f' at <input>:1:10")
        );
    }
    // An error's own end of line is enough.
    let outcome = stap(&["-w", "-e", r#"probe begin { error("two\nlines\n") }"#]);
    assert!(
        outcome.stderr.starts_with("ERROR: two\nlines\nPass 5"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn globals_come_from_initialisers_and_from_the_command_line() {
    let script = r#"global x = 5, y = "q", z = -3 probe begin { println(x, y, z); exit() }"#;
    assert_eq!(stap(&["-e", script]).ok().stdout, "5q-3\n");
    assert_eq!(
        stap(&["-G", "x=7", "-G", "y=hello", "-e", script])
            .ok()
            .stdout,
        "7hello-3\n"
    );
}

/// Globals that are written and never read are shown when the script ends.
#[test]
fn unread_globals_are_shown() {
    table(&[
        (
            r#"global x, str probe begin { x = 4; str = "q"; exit() }"#,
            "x=4\nstr=\"q\"\n",
        ),
        (
            r#"global a probe begin { a["x"] = 1; a["y"] = 2; exit() }"#,
            "a[\"y\"]=2\na[\"x\"]=1\n",
        ),
        (
            "global s probe begin { s <<< 3; s <<< 5; exit() }",
            "s @count=2 @min=3 @max=5 @sum=8 @avg=4\n",
        ),
        (
            r#"global m probe begin { m["q",1] <<< 4; m["r",2] <<< 5; m["r",2] <<< 6; exit() }"#,
            "m[\"r\",2] @count=2 @min=5 @max=6 @sum=11 @avg=5\nm[\"q\",1] @count=1 @min=4 @max=4 @sum=4 @avg=4\n",
        ),
        // What nobody uses the value of reads nothing.
        ("global n probe begin { n++ + 5; !n++; exit() }", "n=2\n"),
        (
            "global n, m probe begin { n++ && m++; n++ && m++; exit() }",
            "m=1\n",
        ),
        ("global g, h probe begin { g += ++h; exit() }", "g=1\nh=1\n"),
    ]);
}

#[test]
fn aliases_and_conditions() {
    table(&[
        (
            "probe foo = begin { x = 5 }, { println(\"epilogue \", x) } probe foo { println(\"body \", x); x = 7; } probe begin(1) { exit() }",
            "body 5\nepilogue 7\n",
        ),
        (
            "probe a.b = begin { v = 1 } probe a.c = begin(1) { v = 2 } probe a.* { println(pn(), \" \", pp(), \" \", v) } probe begin(2) { exit() }",
            "a.b begin 1\na.c begin(1) 2\n",
        ),
        (
            "global on = 1, n probe timer.ms(2) if (on) { if (++n == 3) on = 0 } probe timer.ms(60) { println(n); exit() }",
            "3\n",
        ),
        (
            "global n probe timer.ms(5).randomize(2) { if (++n == 3) exit() } probe end { println(n) }",
            "3\n",
        ),
        (
            "probe begin { println(1); next; println(2) } probe begin(1) { exit() }",
            "1\n",
        ),
        (
            "probe never { println(1) } probe oneshot { println(2) }",
            "2\n",
        ),
    ]);
}

#[test]
fn indentation_follows_the_depth() {
    let script = r#"probe begin { println(indent(1), "f"); println(indent(1), "g"); println(indent(-1), "g"); println(indent(-1), "f"); exit() }"#;
    let outcome = stap(&["-e", script]).ok();
    let shape: Vec<&str> = outcome
        .stdout
        .lines()
        .map(|l| l.split_once(':').expect(": after the time").1)
        .collect();
    assert_eq!(shape, ["f", " g", " g", "f"]);
    assert!(outcome.stdout.starts_with("     0 :"), "{}", outcome.stdout);
}

/// `warn` goes on, `exit` goes on and ends, `error` leaves; after an error only `error` probes run.
#[test]
fn warnings_exits_and_errors() {
    let outcome = stap(&[
        "-e",
        r#"probe begin { warn("w"); exit(); println("on") } probe end { println("end") }"#,
    ])
    .ok();
    assert_eq!(
        (outcome.stdout.as_str(), outcome.stderr.as_str()),
        ("on\nend\n", "WARNING: w\n")
    );
    let outcome = stap(&[
        "-e",
        r#"probe begin { error("e"); println("no") } probe end, error { println(pp()) }"#,
    ]);
    assert_eq!(
        (outcome.status, outcome.stdout.as_str()),
        (Some(1), "error\n")
    );
    assert!(
        outcome.stderr.starts_with("ERROR: e\n"),
        "{}",
        outcome.stderr
    );
    assert!(
        outcome
            .stderr
            .contains("WARNING: Number of errors: 1, skipped probes: 0\n"),
        "{}",
        outcome.stderr
    );
    let outcome = stap(&["-DMAXERRORS=3", "-e", r#"probe timer.ms(1) { error("x") }"#]);
    assert_eq!(outcome.status, Some(1));
    assert!(
        outcome
            .stderr
            .contains("WARNING: Number of errors: 4, skipped probes: 0\n"),
        "{}",
        outcome.stderr
    );
}

/// Programs that write scripts nest deeply: nine hundred levels of each construct are read, elaborated and compiled.
#[test]
fn deep_nesting_runs() {
    const LEVELS: usize = 900;
    let choices: String = (0..LEVELS)
        .map(|i| format!("if (x == {i}) print({i} * 2) else "))
        .collect();
    let wrapped = |open: &str, inner: &str, close: &str| {
        format!("{}{inner}{}", open.repeat(LEVELS), close.repeat(LEVELS))
    };
    bodies(&[
        (
            &format!("x = strtol(\"877\", 10) {choices} print(-1)"),
            "1754",
        ),
        (&wrapped("{", "print(7)", "}"), "7"),
        (&format!("print({})", wrapped("(", "7", ")")), "7"),
        (
            &format!("x = strtol(\"7\", 10) print({})", wrapped("- ", "x", "")),
            "7",
        ),
        (
            &format!("x = strtol(\"1\", 10) print(x{})", wrapped(" + x", "", "")),
            "901",
        ),
        (
            &format!(
                "x = strtol(\"1\", 10) {}",
                wrapped("if (x) ", "print(7)", "")
            ),
            "7",
        ),
        (
            &wrapped(
                "try {",
                "print(1 / strtol(\"0\", 10))",
                "} catch { print(7) }",
            ),
            "7",
        ),
    ]);
}
