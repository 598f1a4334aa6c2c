//! Functions of the library that no other test has for its subject: against what the kernel says by other ways, and
//! arithmetic.

use spile_tests::{Scratch, stap};

const PROGRAM: &str = r#"
#include <unistd.h>
volatile int hits;
__attribute__((noinline)) void here(const char *a, const unsigned short *b, const unsigned *c, char *d) {
  __asm__ volatile("" :: "r"(a), "r"(b), "r"(c), "r"(d) : "memory"); hits += 1000; }
int main(void) {
  static const unsigned short wide[] = { 'w', 0xe9, 0 };
  static const unsigned wider[] = { 'W', '\n', 0 };
  char buffer[16] = "old";
  here("a\"b\t", wide, wider, buffer);
  here("", wide, wider, buffer);
  return 0;
}
"#;

#[test]
fn tasks_times_texts_and_places() {
    let scratch = Scratch::new("rest");
    let program = scratch.compile("r.c", PROGRAM, &["-g", "-O1"]);
    let outcome = stap(&[
        "-g",
        "-e",
        r#"global calls
        probe process.function("here") {
            if (calls++) { println(user_string(pointer_arg(4))); next }
            t = task_current()
            print(task_euid(t) == euid(), task_gid(t) == gid(), task_ns_uid(t) == uid(), task_ns_euid(t) == euid())
            println(task_ns_gid(t) == gid(), task_ns_egid(t) == egid(), task_ns_pid(t) == pid(), task_ns_tid(t) == tid())
            println(fullpath_struct_file(t, task_exe_file(t)))
            println(proc_mem_data() > 0, proc_mem_data(1 << 30), proc_mem_shr() > 0, proc_mem_shr() <= proc_mem_rss(), proc_mem_shr(1 << 30))
            println(task_stime(1 << 30), " ", task_time_string_tid(1 << 30), " ", task_stime() >= 0, task_stime(tid()) >= 0)
            println(cputime_to_msecs(61002003004), " ", cputime_to_usecs(61002003004), " ", cputime_to_string(61002003004))
            println(kernel_or_user_string_quoted(pointer_arg(1)), kernel_or_user_string_quoted_utf16(pointer_arg(2)), kernel_or_user_string_quoted_utf32(pointer_arg(3)))
            set_user_string_arg(pointer_arg(4), "new")
            set_user_string_arg(1, "nowhere")
            println(usymfileline(uaddr()))
            print_ustack(sprintf("%p", uaddr()))
            print_usyms(sprintf("%p", uaddr()))
            ftrace("traced")
        }"#,
        "-c",
        &program.to_string_lossy(),
    ])
    .ok();
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    let exe = program.canonicalize().expect("the program");
    assert_eq!(
        lines[..6],
        [
            "11111111",
            &*exe.to_string_lossy(),
            "10110",
            "0 usr: 0m0.000s, sys: 0m0.000s 11",
            "61002 61002003 1m1.002s",
            r#""a\"b\t""w\u00E9""W\n""#,
        ],
        "{}",
        outcome.stdout
    );
    let line = PROGRAM
        .lines()
        .position(|l| l.contains("void here("))
        .expect("a line")
        + 1;
    let place = format!("r.c:{line}");
    assert!(
        lines[6].ends_with(&place) || lines[6].ends_with(&format!("r.c:{}", line + 1)),
        "{}",
        lines[6]
    );
    assert!(lines[7].contains("here"), "{}", lines[7]);
    assert_eq!(lines[7], lines[8]);
    assert_eq!(lines[9..], ["new"]);
    let said: Vec<&str> = outcome.stderr.lines().collect();
    assert!(said.contains(&"traced"), "{said:?}");
    assert!(
        said.iter()
            .any(|l| l.starts_with("WARNING: ") && l.contains("0x1")),
        "{said:?}"
    );
}

#[test]
fn the_next_file_is_begun_on_request() {
    let scratch = Scratch::new("switch");
    let file = scratch.path("out");
    stap(&[
        "-S",
        "1",
        "-o",
        &file.to_string_lossy(),
        "-e",
        "probe oneshot { println(\"first\") switch_file() println(\"second\") }",
    ])
    .ok();
    let text = |n: u32| std::fs::read_to_string(scratch.path(&format!("out.{n}")));
    assert_eq!(text(0).expect("a file"), "first\n");
    assert_eq!(text(1).expect("a file"), "second\n");
}
