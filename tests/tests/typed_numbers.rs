//! Numbers that carry the type of the target expression they come from (NEWS of SystemTap 2.6), casts as in stap(1)
//! TYPECASTING, sizes, and the operators that reach memory and registers. What is expected is what the program put there.

use spile_tests::{Outcome, Scratch, stap};

const LIST: &str = r#"
enum color { RED, GREEN = 5, BLUE };
struct node { int value; struct node *next; const char *name; enum color color; short numbers[4]; };
struct node tail = { 30, 0, "tail", GREEN, { 7, 8, 9, 10 } };
long answer = 42;
__attribute__((noinline, noclone)) int visit(struct node *list, int which, struct node *other) {
  __asm__ volatile("" ::: "memory");
  return list->value + which + other->value;
}
int main(void) {
  struct node middle = { 20, &tail, "middle", RED, { 1, 2, 3, 4 } };
  struct node head = { 10, &middle, "head", BLUE, { 0 } };
  return visit(&head, 2, &middle) != 32;
}"#;

fn probe(scratch: &Scratch, text: &str) -> Outcome {
    let program = scratch.compile("list.c", LIST, &["-g", "-O0"]);
    let path = program.to_string_lossy();
    let text = text.replace("LIST", &path);
    stap(&["-w", "-e", &text, "-c", &path])
}

/// The forms that NEWS names: a local variable, `?:`, the result of a function; and what follows from them.
#[test]
fn a_number_keeps_the_type_of_where_it_comes_from() {
    let scratch = Scratch::new("typed-numbers");
    let outcome = probe(
        &scratch,
        r#"
        global kept
        function following(address) { return @cast(address, "struct node", "LIST")->next }
        function node(address) { return &@cast(address, "struct node", "LIST") }
        probe process.function("visit") {
            p = $list
            printf("%d %s\n", p->value, user_string(p->name))
            n = p->next
            printf("%d %d\n", n->value, n->next->value)
            while (n->next) n = n->next
            printf("%d %d %d\n", n->value, n->numbers[2], (&n->numbers)[1])
            printf("%d\n", ($which == 2 ? $other : $list)->value)
            printf("%d %d\n", following($list)->value, node($other)->next->value)
            printf("%s\n", p->next$)
            printf("%d\n", (q = $other)->numbers[3])
            kept = $other
            later = $list + 0
            printf("%d %d\n", kept->value, later->value)
        }
        probe process.function("visit").return { printf("%d\n", @entry($list->value)) }"#,
    )
    .ok();
    assert_eq!(
        outcome.stdout.lines().collect::<Vec<_>>(),
        [
            "10 head",
            "20 30",
            "30 9 8",
            "20",
            "20 30",
            outcome.stdout.lines().nth(5).unwrap_or_default(),
            "4",
            "20 10",
            "10"
        ],
        "{}",
        outcome.stderr
    );
    let shown = outcome.stdout.lines().nth(5).unwrap_or_default();
    assert!(shown.starts_with("{.value=20, .next=0x"), "{shown}");
}

/// Variables of the program are there when a function returns, unlike the function's own.
#[test]
fn globals_are_there_when_a_function_returns() {
    let scratch = Scratch::new("globals-at-return");
    let outcome = probe(
        &scratch,
        r#"probe process.function("visit").return {
            printf("%d %d %s\n", @var("answer"), @var("tail@list.c")->numbers[1], user_string(@var("tail")->name))
        }"#,
    )
    .ok();
    assert_eq!(outcome.stdout, "42 8 tail\n", "{}", outcome.stderr);
}

#[test]
fn what_has_no_type_has_no_members() {
    let scratch = Scratch::new("untyped-numbers");
    let outcome = probe(
        &scratch,
        "probe process.function(\"visit\") { p = 5 println(p->value) }",
    );
    assert_eq!(outcome.status, Some(1));
    assert!(
        outcome
            .stderr
            .contains("semantic error: unknown type in dereference"),
        "{}",
        outcome.stderr
    );
}

/// Sizes and distances need no process; memory does.
#[test]
fn types_of_modules_are_known_to_all_probes() {
    let scratch = Scratch::new("types-everywhere");
    let outcome = probe(
        &scratch,
        r#"
        probe begin {
            printf("%d %d\n", &@cast(0, "struct node", "LIST")[1], &@cast(0, "struct node", "LIST")->name)
            printf("%d %d %d\n", @cast_module_sizeof("LIST", "int"), @cast_module_sizeof("LIST", "struct node"), &@cast(0, "short int", "LIST")[3])
            printf("%d\n", &@cast(1000, "struct node", "LIST")[2]->color)
            t = &@cast(64, "struct node", "LIST")
            printf("%d %d\n", t, &t->next)
            try { println(@cast(4096, "struct node", "LIST")->value) } catch (why) { println("no memory") }
            try { println(@var("answer", "LIST")) } catch (why) { println("no memory") }
        }
        probe process.function("visit") {
            printf("%d %d\n", @cast($other, "int")[0], @cast(&$other->numbers, "short int")[3])
            printf("%d %d\n", $GREEN, $BLUE)
            printf("%d\n", @cast(&@var("tail"), "struct node")[0]->value)
        }"#,
    )
    .ok();
    assert_eq!(
        outcome.stdout, "40 16\n4 40 6\n1104\n64 72\nno memory\nno memory\n20 4\n5 6\n30\n",
        "{}",
        outcome.stderr
    );
}

#[test]
fn memory_and_registers_by_number() {
    let scratch = Scratch::new("raw-access");
    let outcome = probe(
        &scratch,
        r#"
        probe process.function("visit").call {
            printf("%d %d\n", @uderef(4, $other), @uderef(8, &@var("answer")))
            printf("%d\n", @uregister(5) == u_register("rdi"))
            try { println(@uderef(2, 1)) } catch { println("unreadable") }
        }"#,
    )
    .ok();
    assert_eq!(
        outcome.stdout, "20 42\n1\nunreadable\n",
        "{}",
        outcome.stderr
    );
}

/// Points that may be missing are no mistake, unless nothing is left (`stap -p2`).
#[test]
fn something_must_be_left_to_probe() {
    let scratch = Scratch::new("nothing-left");
    let program = scratch.compile("list.c", LIST, &["-g", "-O0"]);
    let point = |name: &str| format!("process(\"{}\").function(\"{name}\")", program.display());
    let none = format!("probe {}? {{ println(1) }}", point("absent"));
    let outcome = stap(&["-p2", "-e", &none]);
    assert_eq!(outcome.status, Some(1));
    assert!(
        outcome
            .stderr
            .starts_with("semantic error: no probes found\n"),
        "{}",
        outcome.stderr
    );
    let some = format!(
        "probe {}?, {} {{ println(1) }}",
        point("absent"),
        point("visit")
    );
    let outcome = stap(&["-p2", "-e", &some]).ok();
    assert!(
        !outcome.stdout.contains("absent\")? /*"),
        "{}",
        outcome.stdout
    );
    assert_eq!(outcome.stdout.lines().count(), 2, "{}", outcome.stdout);
    // The first that is there goes before those after it, and only then.
    let counted = |first: &str| {
        let text = format!(
            "global n probe {}!, {} {{ n++ }} probe end {{ println(n) }}",
            point(first),
            point("visit")
        );
        stap(&["-w", "-e", &text, "-c", &program.to_string_lossy()])
            .ok()
            .stdout
    };
    assert_eq!(counted("absent"), "1\n");
    assert_eq!(counted("main"), "1\n");
    assert_eq!(counted("visit"), "1\n");
}

/// stap looks for the points of probes that do nothing, too, before it elides them (`stap -p2`).
#[test]
fn points_of_elided_probes_must_exist() {
    let scratch = Scratch::new("elided-points");
    let program = scratch.compile("list.c", LIST, &["-g", "-O0"]);
    let point = |name: &str| format!("process(\"{}\").function(\"{name}\")", program.display());
    let none = format!("probe {} {{ }} probe begin {{ exit() }}", point("absent"));
    let outcome = stap(&["-w", "-p2", "-e", &none]);
    assert_eq!(outcome.status, Some(1));
    assert!(
        outcome
            .stderr
            .starts_with("semantic error: while resolving probe point: identifier 'process' at")
            && outcome.stderr.contains("semantic error: no match"),
        "{}",
        outcome.stderr
    );
    let optional = format!(
        "probe {}?, {} {{ }} probe begin {{ exit() }}",
        point("absent"),
        point("visit")
    );
    let outcome = stap(&["-p2", "-e", &optional]).ok();
    assert!(
        outcome
            .stderr
            .starts_with("WARNING: Probe 'process' has been elided: keyword at <input>:1:1\n"),
        "{}",
        outcome.stderr
    );
    let only = format!("probe {} {{ }}", point("visit"));
    let outcome = stap(&["-w", "-e", &only]);
    assert_eq!(
        (outcome.status, outcome.stderr.as_str()),
        (
            Some(1),
            "semantic error: no probes found\n\nPass 2: analysis failed.  [man error::pass2]\n"
        )
    );
}

/// What is said of programs that are not there, and of variables where there are none (`stap -p2`).
#[test]
fn programs_that_are_not_there_are_named_as_stap_names_them() {
    for (point, message) in [
        (
            "process(\"no-such-program\").function(\"f\")",
            "semantic error: cannot find executable 'no-such-program'\n",
        ),
        (
            "process(\"/no/such/program\").function(\"f\")",
            "semantic error: no match\n",
        ),
        (
            "process(\"/no*such/program\").function(\"f\")",
            "semantic error: glob /no*such/program error (3)\n",
        ),
        (
            "process.function(\"f\")",
            "semantic error: unspecified process probe is invalid without a -c COMMAND or -x PID [man stapprobes]\n",
        ),
        (
            "process(\"/bin/true\").begin",
            "semantic error: only \"process(PATH_OR_PID).syscall\" and \"process(PATH_OR_PID).syscall.return\" probes support target symbols: identifier '$x' at <input>:1:",
        ),
    ] {
        let outcome = stap(&["-p2", "-e", &format!("probe {point} {{ println($x) }}")]);
        assert_eq!(outcome.status, Some(1), "{point}");
        assert!(
            outcome.stderr.contains(message),
            "{point}: {}",
            outcome.stderr
        );
    }
}

/// A point that needs the kernel may be missing here, where it is said to be optional.
#[test]
fn points_of_the_kernel_may_be_optional() {
    for point in ["syscall.open?", "kernel.function(\"f\")!"] {
        let script = format!("probe {point}, begin {{ println(1); exit() }}");
        let outcome = stap(&["-e", &script]).ok();
        assert_eq!(
            (outcome.stdout.as_str(), outcome.stderr.as_str()),
            ("1\n", "")
        );
    }
}
