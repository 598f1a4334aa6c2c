//! The examples of Debian's package systemtap-doc that need only process probes and timers are accepted, `-p2`. Two are
//! left out that stap itself refuses here: they name files where other systems have them.

use spile_tests::{Scratch, stap};
use std::path::Path;

const EXAMPLES: &str = "/usr/share/systemtap/examples";

const PROGRAM: &str = r#"
#include <stdlib.h>
struct pair { int a; long b; } pair;
__attribute__((noinline)) int foo(int x) { char *p = malloc(x); free(p); return x + 1; }
__attribute__((noinline)) int bar(int y) { return foo(y) + foo(y + 1); }
int main(void) { return bar(3) == 0; }
"#;

#[test]
fn examples_for_programs_are_accepted() {
    assert!(
        Path::new(EXAMPLES).exists(),
        "the package systemtap-doc is needed for this test: run `cargo xtask setup`"
    );
    let scratch = Scratch::new("examples");
    let program = scratch.compile("program.c", PROGRAM, &["-g", "-O0"]);
    let path = program.to_string_lossy();
    let all = format!("process(\"{path}\").function(\"*\")");
    let foo = format!("process(\"{path}\").function(\"foo\")");
    let line = format!("process(\"{path}\").statement(\"*@program.c:*\")");
    let process = format!("process(\"{path}\")");
    let returned = format!("{foo}.return");
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("general/ansi_colors.stp", &[], &[]),
        ("general/ansi_colors2.stp", &[], &[]),
        ("general/callgraph.stp", &[], &[&all, &foo]),
        ("general/func_time_stats.stp", &[], &[&all]),
        ("general/helloworld.stp", &[], &[]),
        ("general/para-callgraph-verbose.stp", &[], &[&all, &foo]),
        ("general/para-callgraph.stp", &[], &[&all, &foo]),
        (
            "general/measureinterval.stp",
            &[],
            &["gettimeofday_us()", "tid()", "@avg", &foo, &returned],
        ),
        ("general/eventcount.stp", &[], &["process.begin"]),
        ("general/sizeof.stp", &[], &["struct pair", &path]),
        ("general/sizeof_interactive.stp", &[], &[]),
        ("general/varwatch.stp", &[], &[&line, "$x"]),
        ("general/watchdog.stp", &[], &[&foo, &returned, "1000"]),
        (
            "general/whythefail.stp",
            &[],
            &[&process, "foo", "$return > 0"],
        ),
        ("io/switchfile.stp", &[], &[]),
        ("profiling/fntimes.stp", &[], &[&all]),
        ("profiling/graphcall.stp", &[], &[&path, "*"]),
        ("profiling/linetimes.stp", &[], &[&process, "foo"]),
        ("profiling/thread-times.stp", &["-c", &path], &[]),
        ("stapgames/lifegame.stp", &[], &[]),
        ("virtualization/qemu_count.stp", &[], &[]),
        ("virtualization/qemu_io.stp", &[], &[]),
    ];
    for (name, options, arguments) in cases {
        let example = format!("{EXAMPLES}/{name}");
        let words = [&["-p2", "-w"], *options, &[example.as_str()], *arguments].concat();
        let outcome = stap(&words);
        assert_eq!(
            (outcome.status, outcome.stderr.as_str()),
            (Some(0), ""),
            "{words:?}"
        );
        assert!(
            outcome.stdout.contains("# probes"),
            "{name}: {}",
            outcome.stdout
        );
    }
}
