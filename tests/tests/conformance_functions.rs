//! Tapset functions, at least once each: what their manual pages (function::…) and arithmetic say that they give.

use spile_tests::{Scratch, run, stap};

/// What `probe begin { body; exit() }` prints.
fn begin(options: &[&str], body: &str) -> String {
    let script = format!("probe begin {{ {body}; exit() }}");
    let arguments: Vec<&str> = options.iter().copied().chain(["-e", &script]).collect();
    let outcome = stap(&arguments).ok();
    assert_eq!(outcome.stderr, "", "{script}");
    outcome.stdout
}

fn table(cases: &[(&str, &str)]) {
    for (body, expected) in cases {
        assert_eq!(begin(&[], body), *expected, "{body}");
    }
}

#[test]
fn escape_sequences_of_the_terminal() {
    table(&[
        (
            r#"ansi_clear_screen() print("|") ansi_set_color(31) print("|") ansi_reset_color()"#,
            "\x1b[1;1H\x1b[J|\x1b[31m|\x1b[0;0m",
        ),
        (r#"print("a") ansi_new_line() print("b")"#, "a\nb"),
        ("ansi_cursor_move(3, 4)", "\x1b[4;3H"),
        (
            "ansi_cursor_hide() ansi_cursor_show() ansi_cursor_save() ansi_cursor_restore()",
            "\x1b[>5I\x1b[>5h\x1b[s\x1b[u",
        ),
    ]);
    let two = begin(&[], "ansi_set_color2(31, 42)");
    assert!(two.starts_with("\x1b[") && two.contains("31") && two.contains("42"));
    let three = begin(&[], "ansi_set_color3(31, 42, 1)");
    assert!(three.ends_with(";1m"), "{three:?}");
}

#[test]
fn byte_orders() {
    table(&[
        (
            r#"printf("%x %x %x", big_endian2(0x1234), big_endian4(0x12345678), big_endian8(0x123456789abcdef0))"#,
            "3412 78563412 f0debc9a78563412",
        ),
        (
            r#"printf("%x %x %x", little_endian2(0x1234), little_endian4(0x12345678), little_endian8(0x123456789abcdef0))"#,
            "1234 12345678 123456789abcdef0",
        ),
        (
            r#"printf("%x %x %x", htons(0x1234), htonl(0x12345678), htonll(0x123456789abcdef0))"#,
            "3412 78563412 f0debc9a78563412",
        ),
        (
            r#"printf("%x %x %x", ntohs(0x1234), ntohl(0x12345678), ntohll(0x123456789abcdef0))"#,
            "3412 78563412 f0debc9a78563412",
        ),
    ]);
}

#[test]
fn error_numbers_and_results() {
    table(&[
        (
            r#"print(errno_str(2), errno_p(-2), errno_p(0), errno_p(5))"#,
            "ENOENT100",
        ),
        (
            r#"printdln("|", return_str(1, -2), return_str(2, 255), return_str(3, 8), return_str(1, 7))"#,
            "-2 (ENOENT)|0xff|010|7\n",
        ),
    ]);
}

#[test]
fn texts() {
    table(&[
        (r#"print(isdigit("1a"), isdigit("a"), isdigit(""))"#, "100"),
        (r#"print(string_quoted("a\tb\"c"))"#, r#""a\tb\"c""#),
        // Characters in UTF-8 are shown by their numbers, and what is none by its bytes.
        (
            r#"print(text_str("é€\xff"), errno_str(9999))"#,
            r"\u00E9\u20AC\377",
        ),
        // Limits count quotes and dots.
        (
            r#"print(text_strn("abcdef", 3, 0), text_strn("abcdefghij", 8, 1), text_strn("abc", 5, 1))"#,
            r#"abc"abc"..."abc""#,
        ),
        (
            r#"try { assert(0) } catch (m) { print(m) }"#,
            "Assertion failed",
        ),
        (r#"if ("abcd" =~ "bc") print(matched_str())"#, "bc"),
        (r#"print("<", pnlabel(), ">")"#, "<>"),
    ]);
}

/// Timers are high-resolution ones, but for those that count jiffies (the C of `stap -p3`).
#[test]
fn types_of_probes_in_the_tracer() {
    for (point, name) in [
        ("timer.ms(1)", "hrtimer"),
        ("timer.jiffies(1)", "timer"),
        ("end", "begin_end"),
    ] {
        let script = format!(
            "probe begin {{ if (\"{point}\" == \"end\") exit() }} probe {point} {{ println(probe_type()); exit() }}"
        );
        assert_eq!(
            stap(&["-w", "-e", &script]).ok().stdout,
            format!("{name}\n")
        );
    }
}

#[test]
fn identity_of_the_session() {
    table(&[
        (
            "print(pid() == stp_pid(), ppid() > 0, uid() == euid(), gid() == egid())",
            "1111",
        ),
        (
            "print(pgrp() >= 0, sid() >= 0, cpu() >= 0, user_mode(), registers_valid(), addr())",
            "111000",
        ),
        (
            r#"print(module_name() != "", remote_id(), remote_uri())"#,
            "1-1",
        ),
        (
            r#"print(env_var("PATH") != "", "[", env_var("NO_SUCH_VARIABLE_HERE"), "]")"#,
            "1[]",
        ),
        (
            "print(probe_type(), arch_bytes(), uarch_bytes(), probing_32bit_app())",
            "begin_end880",
        ),
        (
            "target_set_report() print(target_set_pid(pid()))",
            "target set:\n0",
        ),
    ]);
}

#[test]
fn clocks_and_time() {
    table(&[
        (
            "a = gettimeofday_ns(); b = gettimeofday_us(); c = gettimeofday_ms(); d = gettimeofday_s()
             print(b >= a / 1000, c >= b / 1000, d >= c / 1000, d > 1700000000)",
            "1111",
        ),
        (r#"print(ctime(0), "|", ctime(86399))"#, "Thu Jan  1 00:00:00 1970|Thu Jan  1 23:59:59 1970"),
        // gmtime_r(3) and asctime_r(3) of glibc, which stap's calls.
        (
            r#"print(ctime(253402300799), "|", ctime(-30641760000), "|", ctime(-93692592000))"#,
            "Fri Dec 31 23:59:59 9999|Tue Jan  1 00:00:00 999|Thu Jan  1 00:00:00 -999",
        ),
        (
            "try { print(ctime(253402300800)) } catch (e) { print(e) }
             try { print(ctime(-93692592001)) } catch { print(\", too\") }",
            "Time cannot be converted, too",
        ),
        (
            "start_stopwatch(\"w\") stop_stopwatch(\"w\") n = read_stopwatch_ns(\"w\")
             print(n >= 0, read_stopwatch_us(\"w\") == n / 1000, read_stopwatch_ms(\"w\") == n / 1000000,
                   read_stopwatch_s(\"w\") == n / 1000000000)
             delete_stopwatch(\"w\") print(read_stopwatch_ns(\"w\"))",
            "11110",
        ),
        ("print(randint(1), randint(10) < 10)", "01"),
        ("print(randint(1 << 20) < 1 << 20)", "1"),
        (
            "try { print(randint((1 << 20) + 1)) } catch (e) { print(e) }",
            "range too wide",
        ),
        ("try { print(randint(-1)) } catch (e) { print(e) }", "range too wide"),
    ]);
    assert_eq!(
        begin(
            &["-g"],
            "a = gettimeofday_us(); udelay(1500) mdelay(2) print(gettimeofday_us() - a >= 3500)"
        ),
        "1"
    );
    let zone = begin(&[], "print(tz_ctime(0), tz_name(), tz_gmtoff() % 60)");
    assert!(zone.contains("1970") || zone.contains("1969"), "{zone}");
}

#[test]
fn floating_point() {
    table(&[
        (
            "print(fp_to_string(fp_sub(long_to_fp(5), long_to_fp(3)), 1))",
            "2.0",
        ),
        (
            r#"print(fp_to_string(fp_mul(string_to_fp("1.5"), long_to_fp(2)), 2))"#,
            "3.00",
        ),
        (
            "print(fp_to_string(fp_div(long_to_fp(7), long_to_fp(2)), 2))",
            "3.50",
        ),
        // The remainder of IEEE 754: 7 is 4 times 2 less 1.
        (
            "print(fp_to_string(fp_rem(long_to_fp(7), long_to_fp(2)), 1))",
            "-1.0",
        ),
        ("print(fp_to_string(fp_sqrt(long_to_fp(16)), 1))", "4.0"),
        (
            "print(fp_eq(long_to_fp(1), long_to_fp(1)), fp_lt(long_to_fp(1), long_to_fp(2)), fp_le(long_to_fp(2), long_to_fp(1)))",
            "110",
        ),
        ("print(fp_to_string(fp32_to_fp64(0x3fc00000), 2))", "1.50"),
    ]);
}

#[test]
fn queues_speculation_and_indentation() {
    table(&[
        (
            r#"qsq_start("q") qs_wait("q") qs_run("q") qs_done("q")
            print(qsq_throughput("q", 1) >= 0, qsq_utilization("q", 100) >= 0, qsq_blocked("q", 100) >= 0,
                  qsq_wait_queue_length("q", 100) >= 0, qsq_service_time("q", 1) >= 0, qsq_wait_time("q", 1) >= 0)"#,
            "111111",
        ),
        (
            r#"i = speculation() j = speculation() speculate(i, "kept") speculate(j, "dropped") commit(i) discard(j) print("!")"#,
            "kept!",
        ),
        // On the way out the depth is that of the way in; the outermost is 0 (stap's library: indent.stp).
        (
            "print(indent_depth(2), indent_depth(-1), thread_indent_depth(1), thread_indent_depth(-9))",
            "1100",
        ),
        (
            r#"stp_print_binary(2, 0x41, 0x42, 0, 0)"#,
            "A\0\0\0\0\0\0\0B\0\0\0\0\0\0\0",
        ),
    ]);
    let queue = begin(
        &[],
        r#"qsq_start("q") qs_wait("q") qs_run("q") qs_done("q") qsq_print("q")"#,
    );
    assert!(queue.contains("ops/s"), "{queue}");
    let indented = begin(&[], "print(thread_indent(1))");
    assert!(indented.contains('('), "{indented}");
}

const MEMORY: &str = r#"
#include <stdint.h>
struct all {
  int8_t i8; uint8_t u8; int16_t i16; uint16_t u16; int32_t i32; uint32_t u32; int64_t i64; uint64_t u64;
  const char *text; const uint16_t *wide; const uint32_t *wider;
};
static const uint16_t wide[] = { 'h', 0xe9, 0xd83d, 0xde00, 0 };
static const uint32_t wider[] = { 'h', 0xe9, 0x1f600, 0 };
struct all all = { -1, 200, -2, 60000, -3, 4000000000u, -4, 18446744073709551615u, "one\ttwo", wide, wider };
__attribute__((noinline, noclone)) long f(struct all *p, int i, long l, const char *s) {
  __asm__ volatile("" ::: "memory");
  return p->i8 + i + l + *s;
}
int main(void) { return f(&all, -5, 1L << 40, all.text) == 0; }"#;

/// Runs a script's body where the structure's address is the first argument, `p`.
fn in_program(name: &str, options: &[&str], body: &str) -> String {
    let scratch = Scratch::new(name);
    let program = scratch.compile("memory.c", MEMORY, &["-O1"]);
    let script = format!(r#"probe process.function("f") {{ p = pointer_arg(1) {body} }}"#);
    let program = program.to_string_lossy();
    let all = options
        .iter()
        .copied()
        .chain(["-e", &script, "-c", &program]);
    stap(&all.collect::<Vec<&str>>()).ok().stdout
}

#[test]
fn numbers_of_the_program() {
    let sums = "println(user_int8(p), \" \", user_uint8(p + 1), \" \", user_int16(p + 2), \" \", user_uint16(p + 4), \" \",
        user_int32(p + 8), \" \", user_uint32(p + 12), \" \", user_int64(p + 16), \" \", user_uint64(p + 24))
        println(user_char(p), \" \", user_short(p + 2), \" \", user_ushort(p + 4), \" \", user_int(p + 8), \" \",
        user_long(p + 16), \" \", user_ulong(p + 24))
        println(user_char_warn(p), user_short_warn(p + 2), user_ushort_warn(p + 4), user_int_warn(p + 8),
                user_long_warn(p + 16), user_ulong_warn(p + 24))
        println(user_char_error(p), user_short_error(p + 2), user_ushort_error(p + 4), user_int_error(p + 8),
                user_long_error(p + 16), user_ulong_error(p + 24))
        println(user_int8_error(p), user_uint8_error(p + 1), user_int16_error(p + 2), user_uint16_error(p + 4),
                user_int32_error(p + 8), user_uint32_error(p + 12), user_int64_error(p + 16), user_uint64_error(p + 24))";
    assert_eq!(
        in_program("numbers", &[], sums),
        "-1 200 -2 60000 -3 4000000000 -4 -1\n-1 -2 60000 -3 -4 -1\n-1-260000-3-4-1\n-1-260000-3-4-1\n-1200-260000-34000000000-4-1\n"
    );
    // Page 0 is mapped nowhere: 0, or an error where the name says so.
    assert_eq!(
        in_program(
            "faults",
            &[],
            r#"println(user_int8(1), user_uint64(1), user_short(1)) try { user_int32_error(1) println(user_long_error(1)) } catch { println("caught") }"#
        ),
        "000\ncaught\n"
    );
}

#[test]
fn texts_of_the_program() {
    assert_eq!(
        in_program(
            "texts",
            &[],
            r#"t = user_long(p + 32)
            println(user_string(t), "|", user_string_n(t, 3), "|", user_string_quoted(t), "|", user_string_n_quoted(t, 3))
            println(user_string2(1, "bad"), "|", user_string_n2(t, 3, "bad"), "|", user_string_n2(1, 3, "bad"), "|", user_string2_utf16(1, "bad"))
            println(user_string_nofault(1), "|", user_string_nofault(t), "|", user_string_n_nofault(t, 3), "|", user_string_quoted(1))
            println(user_string_utf16(user_long(p + 40)), "|", user_string_utf32(user_long(p + 48)), "|", user_string2_utf32(1, "bad"))
            println(user_string_quoted_utf16(user_long(p + 40)), "|", user_string_quoted_utf32(user_long(p + 48)))
            println(user_buffer_quoted(t, 5, 100), "|", user_buffer_quoted_error(t, 3, 100), "|", user_string_n2_quoted(t, 3, 100))
            println(user_string_warn(t), user_string2_warn(t, "w"), user_string_n_warn(t, 3), user_string2_n_warn(t, 3, "w"))
            try { println(user_string(1)) } catch { println("caught") }"#
        ),
        "one\ttwo|one|\"one\\ttwo\"|\"one\"\nbad|one|bad|bad\n|one\ttwo|one|0x1\nhé😀|hé😀|bad\n\"h\\u00E9\\U0001F600\"|\"h\\u00E9\\U0001F600\"\n\"one\\tt\"|\"one\"|\"one\"\none\ttwoone\ttwooneone\ncaught\n"
    );
}

#[test]
fn arguments_by_number() {
    assert_eq!(
        in_program(
            "arguments",
            &[],
            r#"println(int_arg(2), " ", uint_arg(2), " ", long_arg(3), " ", ulong_arg(3), " ", longlong_arg(3), " ", ulonglong_arg(3))
            println(s32_arg(2), " ", u32_arg(2), " ", s64_arg(3), " ", u64_arg(3))
            asmlinkage() fastcall() regparm(0)
            println(register("rdi") == p, u_register("edi") == (p & 0xffffffff), registers_valid(), addr() != 0, user_mode())"#
        ),
        "-5 4294967291 1099511627776 1099511627776 1099511627776 1099511627776\n-5 4294967291 1099511627776 1099511627776\n11111\n"
    );
    let registers = in_program("registers", &[], "print_regs()");
    assert!(registers.contains("RIP"), "{registers}");
    let scratch = Scratch::new("conformance-returns");
    let program = scratch.compile("memory.c", MEMORY, &["-O1"]);
    let script = r#"probe process.function("f").return { println(returnval(), " ", returnstr(1), " ", returnstr(2)) }"#;
    assert_eq!(
        stap(&["-e", script, "-c", &program.to_string_lossy()])
            .ok()
            .stdout,
        "1099511627881 1099511627881 0x10000000069\n"
    );
}

/// The eighth argument is on the stack; the second is an int, the fourth an unsigned int.
const ARGUMENTS: &str = r#"
#include <stdio.h>
__attribute__((noinline)) int f(long a, int b, long c, unsigned d, long e, long f, long g, long h) {
    printf("%ld %d %ld %u %ld %ld %ld %ld\n", a, b, c, d, e, f, g, h);
    return b;
}
int main(void) { return f(1, 2, 3, 4, 5, 6, 7, 8) - f(1, 2, 3, 4, 5, 6, 7, 8); }
"#;

#[test]
fn arguments_are_replaced() {
    let scratch = Scratch::new("conformance-set-arguments");
    let program = scratch.compile("arguments.c", ARGUMENTS, &["-O1"]);
    let program = program.to_string_lossy();
    let run = |body: &str| {
        let script = format!("probe process.function(\"f\") {{ {body} }}");
        stap(&["-e", &script, "-c", &program]).ok().stdout
    };
    let says = |body: &str, line: &str| assert_eq!(run(body), format!("{line}\n{line}\n"));
    says(
        "set_long_arg(1, -1) set_int_arg(2, -2) set_ulonglong_arg(3, 1 << 40) set_uint_arg(4, -4) set_pointer_arg(5, 50)
         set_s64_arg(6, -60) set_u64_arg(7, 70) set_longlong_arg(8, -80)",
        "-1 -2 1099511627776 4294967292 50 -60 70 -80",
    );
    says(
        "for (n = 1; n <= 8; n++) set_ulong_arg(n, long_arg(n) * 10)",
        "10 20 30 40 50 60 70 80",
    );
    says(
        "set_s32_arg(1, 0x1ffffffff) set_u32_arg(3, -1)",
        "-1 2 4294967295 4 5 6 7 8",
    );
    let message = "invalid argument number: 0\n";
    let said = run(
        "try { set_long_arg(0, 1) } catch (e) { println(e) } try { println(long_arg(0)) } catch (e) { println(e) }",
    );
    assert_eq!(said.matches(message).count(), 4, "{said}");
    assert_eq!(said.matches("1 2 3 4 5 6 7 8\n").count(), 2, "{said}");
}

/// Against readelf(1) and nm(1).
#[test]
fn places_in_modules() {
    let scratch = Scratch::new("conformance-places");
    let program = scratch.compile("arguments.c", ARGUMENTS, &["-O1", "-Wl,--build-id"]);
    let tool = |name: &str, option: &str| {
        let mut command = std::process::Command::new(name);
        command.arg(option).arg(&program);
        run(command).ok().stdout
    };
    let notes = tool("readelf", "-n");
    let id = notes
        .split("Build ID: ")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next());
    let symbols = tool("nm", "--defined-only");
    let f = symbols
        .lines()
        .find(|line| line.ends_with(" T f"))
        .and_then(|line| line.split(' ').next());
    let f = u64::from_str_radix(f.expect("f"), 16).expect("an address");
    let script = r#"probe process.function("f") {
        printf("%s %d\n", umodbuildid(uaddr()), umodaddr(uaddr()))
        try { umodaddr(1) } catch (e) { println(e) }
        try { umodbuildid(1) } catch (e) { println(e) }
        exit()
    }"#;
    let said = stap(&["-e", script, "-c", &program.to_string_lossy()])
        .ok()
        .stdout;
    let expected = format!(
        "{} {f}\nmodule cannot be found\nmodule cannot be found\n",
        id.expect("a build-id")
    );
    assert!(said.contains(&expected), "{said} {expected}");
}

#[test]
fn memory_is_written_in_guru_mode() {
    assert_eq!(
        in_program(
            "written",
            &["-g"],
            r#"set_user_char(p, 65) set_user_short(p + 2, 1000) set_user_int(p + 8, 70000) set_user_long(p + 16, 5)
            set_user_pointer(p + 24, 77)
            println(user_char(p), " ", user_short(p + 2), " ", user_int(p + 8), " ", user_long(p + 16), " ", user_long(p + 24))
            set_user_string(p + 8, "text") println(user_string(p + 8))
            set_user_string_n(p + 8, 3, "wxyz") println(user_string(p + 8))"#
        ),
        "65 1000 70000 5 77\ntext\nwxyt\n"
    );
}

#[test]
fn devices_clocks_and_units() {
    table(&[
        ("d = MKDEV(8, 17); print(MAJOR(d), \" \", MINOR(d))", "8 17"),
        (
            "print(cpu_clock_s(0) > 0, cpu_clock_ms(0) > 0, cpu_clock_us(0) > 0, local_clock_s() > 0, local_clock_ms() > 0,
                   local_clock_us() > 0, local_clock_ns() > 0, ktime_get_ns() > 0, ktime_get_boot_ns() > 0, get_cycles() > 0)",
            "1111111111",
        ),
        ("print(cpuid() == cpu(), mem_page_size())", "14096"),
        (r#"print(msecs_to_string(61001), " ", nsecs_to_string(61000000001))"#, "1m1.001s 1m1.000000001s"),
        ("print(pages_to_string(1), bytes_to_string(1023), bytes_to_string(51200), bytes_to_string(3 << 39))", "4.00K 102350.0K1536G"),
        ("print(ns_pid() > 0, ns_tid() > 0, ns_ppid() >= 0, ns_uid() >= 0, ns_euid() >= 0, ns_gid() >= 0, ns_egid() >= 0, ns_pgrp() >= 0, ns_sid() >= 0)", "111111111"),
    ]);
}

#[test]
fn messages_and_ends() {
    let outcome = stap(&[
        "-e",
        r#"probe begin { log("to the log") abort() println("no") } probe end { println("end") }"#,
    ])
    .ok();
    assert_eq!(
        (outcome.stdout.as_str(), outcome.stderr.as_str()),
        ("to the log\nend\n", "")
    );
    let outcome = stap(&[
        "-e",
        r#"probe begin { assert(1 == 1) assert(1 == 2, "unequal") println("no") exit() }"#,
    ]);
    assert_eq!(outcome.status, Some(1));
    assert!(
        outcome.stderr.starts_with("ERROR: unequal"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn command_line_and_warnings_of_the_program() {
    assert_eq!(
        in_program(
            "command-line",
            &["-w"],
            r#"println(cmdline_args(0, -1, " ") == cmdline_str(), cmdline_arg(0) == cmdline_str(), cmdline_arg(9) == "", is_myproc())
            println(user_uint(p + 12), " ", user_int8_warn(p), user_uint8_warn(p + 1), user_int16_warn(p + 2), user_uint16_warn(p + 4),
                    user_int32_warn(p + 8), user_uint32_warn(p + 12), user_int64_warn(p + 16), user_uint64_warn(p + 24))
            println(strlen(sprint_ustack(ubacktrace())) > 0)"#
        ),
        "1111\n4000000000 -1200-260000-34000000000-4-1\n1\n"
    );
}

/// Arguments with empty ones among them, by what stap's library makes of them: `""`, but for the first.
#[test]
fn empty_arguments_of_the_program() {
    let scratch = Scratch::new("empty-arguments");
    let program = scratch.compile("memory.c", MEMORY, &["-O1"]);
    let program = program.to_string_lossy();
    let script = r#"probe process.function("f") {
        println(cmdline_args(1, -1, "|")) println(cmdline_args(1, 2, "|")) println(cmdline_args(2, 3, "|"))
        println(cmdline_args(3, 2, "|"), ".", cmdline_arg(2), ".", cmdline_arg(3), ".", cmdline_arg(4), ".", cmdline_arg(5))
        println(cmdline_args(9, -1, "|"), ".", substr(cmdline_str(), strlen(cmdline_arg(0)), 99))
        println(user_string_n_quoted(user_long(pointer_arg(1) + 32), 0), user_string_n_quoted(1, 3))
    }"#;
    let command = format!("{program} a '' b ''");
    assert_eq!(
        stap(&["-w", "-e", script, "-c", &command]).ok().stdout,
        "a|\"\"|b|\"\"\na|\"\"\n|b\n..b..\n. a \"\" b \"\"\n\"\"0x1\n"
    );
}

/// `%m` and `%M`: the precision is how many bytes, the width that of the field; nothing is printed of what cannot be read.
#[test]
fn memory_printed_by_directives() {
    assert_eq!(
        in_program(
            "memory-directives",
            &[],
            r#"t = user_long(p + 32)
            printf("[%m][%M][%10.4m][%10.4M][%-10.3m][%.*M][%#.3m]\n", t, t, t, t, t, 2, t, t)
            try { printf("not [%d] [%.4m]\n", 5, 1) } catch (e) { println(e) }
            try { print(sprintf("not [%.4M]\n", 1)) } catch (e) { println(e) }"#
        ),
        "[o][6f][      one\t][  6f6e6509][one       ][6f6e][one]\nread fault [man error::fault] at 0x1\nread fault [man error::fault] at 0x1\n"
    );
}
