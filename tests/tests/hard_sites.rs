//! Probes where there is little room for a jump: functions of a few bytes, loops to the second byte, code that has to make
//! way, compilers' own pads. Every program checks its own results, and every count is known.

use spile_tests::{Scratch, line, spawn, stap};
use std::process::Command;

/// Each called as often as its argument says it is to be counted.
const SMALL: &str = r#"
#include <stdio.h>
__asm__(
  ".text\n"
  // One byte, then the head of a loop that a short jump leads back to; padding nearby.
  ".p2align 6\n .globl loop_short\n .type loop_short, @function\n loop_short:\n .cfi_startproc\n"
  " cld\n 1: incq %rsi\n decq %rdi\n jne 1b\n movq %rsi, %rax\n ret\n .cfi_endproc\n .size loop_short, .-loop_short\n"
  // The same with a long jump, and no padding anywhere near.
  ".p2align 6\n .globl loop_near\n .type loop_near, @function\n loop_near:\n .cfi_startproc\n"
  " cld\n 1: incq %rsi\n decq %rdi\n .byte 0x0f, 0x85\n .long 1b - (. + 4)\n movq %rsi, %rax\n ret\n .cfi_endproc\n"
  " .size loop_near, .-loop_near\n"
  // Three bytes, and the next function.
  " .globl three\n .type three, @function\n three:\n .cfi_startproc\n xorl %eax, %eax\n ret\n .cfi_endproc\n .size three, .-three\n"
  " .globl wide\n .type wide, @function\n wide:\n .cfi_startproc\n"
  " leaq 1(%rdi), %rax\n leaq 2(%rax), %rax\n leaq 3(%rax), %rax\n leaq 4(%rax), %rax\n leaq 5(%rax), %rax\n leaq 6(%rax), %rax\n"
  " leaq 7(%rax), %rax\n leaq 8(%rax), %rax\n ret\n .cfi_endproc\n .size wide, .-wide\n"
  " .globl two\n .type two, @function\n two:\n .cfi_startproc\n movl %edi, %eax\n ret\n .cfi_endproc\n .size two, .-two\n"
  // A loop to the second byte by a short jump, where room must be made.
  " .globl crowded\n .type crowded, @function\n crowded:\n .cfi_startproc\n"
  " cld\n 1: incq %rsi\n decq %rdi\n jne 1b\n"
  " leaq 1(%rsi), %rax\n leaq 2(%rax), %rax\n leaq 3(%rax), %rax\n leaq -6(%rax), %rax\n ret\n .cfi_endproc\n"
  " .size crowded, .-crowded\n"
  " .globl last\n .type last, @function\n last:\n .cfi_startproc\n movq %rdi, %rax\n ret\n .cfi_endproc\n .size last, .-last\n"
  " .p2align 6, 0xcc\n");
long loop_short(long, long), loop_near(long, long), crowded(long, long), wide(long), last(long);
int three(void), two(int);
int main(void) {
  long wrong = 0;
  for (long i = 1; i <= 1000; i++) {
    wrong += loop_short(i % 7 + 1, i) != i + i % 7 + 1;
    wrong += loop_near(i % 5 + 1, i) != i + i % 5 + 1;
    wrong += crowded(i % 3 + 1, i) != i + i % 3 + 1;
    if (i % 2) wrong += three() != 0;
    if (i % 4 == 0) wrong += two(i) != i;
    if (i % 5 == 0) wrong += wide(i) != i + 36;
    if (i % 8 == 0) wrong += last(i) != i;
  }
  printf("%ld\n", wrong);
  return 0;
}"#;

const COUNT: &str = "global n
    probe process.function(\"loop_short\"), process.function(\"loop_near\"), process.function(\"crowded\"),
      process.function(\"three\"), process.function(\"two\"), process.function(\"wide\"), process.function(\"last\")
      { n[ppfunc()]++ }
    probe end { foreach (f+ in n) printf(\"%s %d\\n\", f, n[f]) }";

const COUNTED: &str =
    "crowded 1000\nlast 125\nloop_near 1000\nloop_short 1000\nthree 500\ntwo 250\nwide 200\n";

#[test]
fn functions_without_room_are_counted_and_go_on_as_ever() {
    let scratch = Scratch::new("small");
    for flags in [&["-O1"][..], &["-O1", "-no-pie"]] {
        let program = scratch.compile("small.c", SMALL, flags);
        let outcome = stap(&["-e", COUNT, "-c", &program.display().to_string()]).ok();
        assert_eq!(
            outcome.stdout,
            format!("0\n{COUNTED}"),
            "{}",
            outcome.stderr
        );
        assert!(!outcome.stderr.contains("left alone"), "{}", outcome.stderr);
    }
}

#[test]
fn two_sessions_share_code_that_had_to_make_way() {
    let scratch = Scratch::new("shared-small");
    // The program waits for its input to end between two rounds, each of which checks itself.
    let source = SMALL.replace(
        "int main(void) {\n",
        "#include <unistd.h>\nint main(void) {\n setvbuf(stdout, 0, _IOLBF, 0); char c;\n for (int round = 0; round < 3; round++) {\n",
    );
    let source = source.replace(
        "  return 0;\n}",
        "  if (read(0, &c, 1) < 0) return 1;\n }\n return 0;\n}",
    );
    let program = scratch.compile("rounds.c", &source, &["-O1"]);
    let mut command = Command::new(&program);
    let (mut target, mut output) = {
        let mut child = command
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("a program");
        let stdout = child.stdout.take().expect("a pipe");
        (spile_tests::Guard(child), std::io::BufReader::new(stdout))
    };
    let mut go = target.0.stdin.take().expect("a pipe");
    assert_eq!(line(&mut output), "0");
    let attach = || {
        let script = format!(
            "{COUNT} probe begin {{ println(\"here\") }} probe timer.ms(1) {{ println(\"-\") }}"
        );
        let mut command = Command::new(spile_tests::spile_path());
        command.args(["stap", "-x", &target.0.id().to_string(), "-e", &script]);
        let (spile, mut output) = spawn(&mut command);
        assert_eq!(line(&mut output), "here");
        // Timers run once the probes are in place.
        assert_eq!(line(&mut output), "-");
        (spile, output)
    };
    let end = |(mut spile, mut output): (spile_tests::Guard, _)| {
        let pid = spile.0.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-INT", &pid])
                .status()
                .expect("kill")
                .success()
        );
        let mut text = String::new();
        std::io::Read::read_to_string(&mut output, &mut text).expect("the rest");
        spile.0.wait().expect("an end");
        text.replace("-\n", "")
    };
    let first = attach();
    let second = attach();
    std::io::Write::write_all(&mut go, b"1").expect("a byte");
    assert_eq!(line(&mut output), "0");
    assert_eq!(end(first), COUNTED);
    std::io::Write::write_all(&mut go, b"2").expect("a byte");
    assert_eq!(line(&mut output), "0");
    let twice: String = COUNTED
        .lines()
        .map(|line| {
            let (name, n) = line.split_once(' ').expect("a count");
            format!("{name} {}\n", 2 * n.parse::<u32>().expect("a number"))
        })
        .collect();
    assert_eq!(end(second), twice);
    drop(go);
    assert!(target.0.wait().expect("an end").success());
}

#[test]
fn pads_landing_marks_and_chosen_variants_are_probed() {
    let scratch = Scratch::new("pads");
    let source = r#"
#include <stdio.h>
__attribute__((noinline, noipa)) int padded(int n) { return n + 1; }
static int plain(int n) { return n + 2; }
static int other(int n) { return n + 3; }
static int (*choose(void))(int) { return getchar == 0 ? other : plain; }
int chosen(int) __attribute__((ifunc("choose")));
int main(void) {
  int sum = 0;
  for (int i = 0; i < 100; i++) sum += padded(i) + chosen(i);
  printf("%d\n", sum);
  return 0;
}"#;
    let script = "global p, c probe process.function(\"padded\") { p++ } probe process.function(\"plain\") { c++ }
        probe end { printf(\"%d %d\\n\", p, c) }";
    for (name, flags) in [
        (
            "entry.c",
            &["-O1", "-g", "-fpatchable-function-entry=16"][..],
        ),
        (
            "around.c",
            &["-O1", "-g", "-fpatchable-function-entry=16,8"],
        ),
        ("short.c", &["-O1", "-g", "-fpatchable-function-entry=2,1"]),
        ("marked.c", &["-O1", "-g", "-fcf-protection=full"]),
        (
            "marked_padded.c",
            &[
                "-O1",
                "-g",
                "-fcf-protection=full",
                "-fpatchable-function-entry=5,2",
            ],
        ),
    ] {
        let program = scratch.compile(name, source, flags);
        let outcome = stap(&["-e", script, "-c", &program.display().to_string()]).ok();
        // Sums of i+1 and of i+2, for i below 100.
        assert_eq!(
            outcome.stdout, "10200\n100 100\n",
            "{name}: {}",
            outcome.stderr
        );
    }
}

#[test]
fn a_program_without_free_addresses_nearby_is_left_alone() {
    let scratch = Scratch::new("full");
    let source = r#"
#define _GNU_SOURCE
#include <stdio.h>
#include <stdint.h>
#include <unistd.h>
#include <sys/mman.h>
__attribute__((noinline, noipa)) int work(int n) { return n + 1; }
int main(void) {
  // Everything within three gigabytes of the code that is still free.
  uintptr_t here = (uintptr_t)work & ~0xfffful;
  uintptr_t low = here > (3ul << 30) ? here - (3ul << 30) : 0x10000;
  for (uintptr_t size = 1ul << 30; size >= 4096; size >>= 2)
    for (uintptr_t at = low; at < here + (3ul << 30); at += size)
      mmap((void *)at, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
  long sum = 0;
  printf("ready\n");
  fflush(stdout);
  char c;
  while (read(0, &c, 1) > 0) sum += work(c);
  printf("%ld\n", sum);
  return 0;
}"#;
    let program = scratch.compile("full.c", source, &["-O1"]);
    let mut child = Command::new(&program)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("a program");
    let mut output = std::io::BufReader::new(child.stdout.take().expect("a pipe"));
    let mut input = child.stdin.take().expect("a pipe");
    let mut target = spile_tests::Guard(child);
    assert_eq!(line(&mut output), "ready");
    let script =
        "probe process.function(\"work\") { println(\"hit\") } probe timer.ms(1) { exit() }";
    let outcome = stap(&["-x", &target.0.id().to_string(), "-e", script]);
    assert!(
        outcome.stderr.contains("has no free address space") && outcome.status == Some(1),
        "{}",
        outcome.stderr
    );
    std::io::Write::write_all(&mut input, &[1, 2, 3]).expect("input");
    drop(input);
    assert_eq!(line(&mut output), "9");
    assert!(target.0.wait().expect("an end").success());
}

#[test]
fn code_that_is_gigabytes_away_is_probed_like_any_other() {
    let scratch = Scratch::new("far");
    let source = r#"
#include <stdio.h>
static volatile int sink;
__attribute__((noinline, noipa, section(".far"))) int far_work(int n) { for (int i = 0; i < 3; i++) sink += i; return n * 2; }
__attribute__((noinline, noipa)) int near_work(int n) { for (int i = 0; i < 3; i++) sink += i; return n + 1; }
int (*volatile call)(int) = far_work;
int main(void) {
  long sum = 0;
  for (int i = 0; i < 1000; i++) {
    sum += call(i);
    if (i % 2) sum += near_work(i);
  }
  printf("%ld\n", sum);
  return 0;
}"#;
    let options = [
        "-O1",
        "-g",
        "-no-pie",
        "-mcmodel=large",
        "-fno-asynchronous-unwind-tables",
        "-Wl,--section-start=.far=0x700000000",
    ];
    let program = scratch.compile("far.c", source, &options);
    let script = r#"global n, r
        probe process.function("far_work"), process.function("near_work") { n[ppfunc()]++ }
        probe process.function("far_work").return, process.function("near_work").return { r[ppfunc()] += $return }
        probe end { foreach (f+ in n) printf("%s %d %d\n", f, n[f], r[f]) }"#;
    let out = stap(&["-e", script, "-c", &program.to_string_lossy()]).ok();
    // 2 * (0 + ... + 999), and i + 1 of the 500 odd numbers, whose sum is 250000.
    assert_eq!(
        out.stdout,
        "1249500\nfar_work 1000 999000\nnear_work 500 250500\n"
    );
}

/// Until it finds the session's memory mapped into it, which is mapped while it stands still for the patch, an address in the middle of `work` stands on its stack, as of a place
/// where a signal came.
const IN_THE_WAY: &str = r#"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
__asm__(".text\n .globl work\n .type work, @function\n work:\n .cfi_startproc\n"
  " nop\n nop\n nop\n nop\n nop\n nop\n nop\n nop\n ret\n .cfi_endproc\n .size work, .-work\n");
void work(void);
static char text[65536];
static int is_probed(void) {
  int file = open("/proc/self/maps", O_RDONLY);
  size_t length = 0;
  for (ssize_t n; (n = read(file, text + length, sizeof text - 1 - length)) > 0;) length += n;
  close(file);
  text[length] = 0;
  return strstr(text, "/memfd:spile (") != 0;
}
int main(void) {
  volatile unsigned long word = (unsigned long)work + 1;
  printf("ready\n");
  fflush(stdout);
  for (;;) {
    if (is_probed()) word = 0;
    work();
  }
}"#;

#[test]
fn a_thread_that_is_in_the_way_is_given_time_to_leave() {
    let scratch = Scratch::new("way");
    let program = scratch.compile("way.c", IN_THE_WAY, &["-O1"]);
    let (target, mut output) = spawn(&mut Command::new(program));
    assert_eq!(line(&mut output), "ready");
    let script = "probe process.function(\"work\") { println(\"hit\") exit() }";
    let pid = target.0.id().to_string();
    let run = stap(&["-x", &pid, "-e", script]);
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("hit\n", ""));
}
