//! What may be done with variables of programs, and what is said of what may not: as Debian's stap answers to the same
//! scripts (`stap -p2`); what values are is what the program put there.

use spile_tests::{Outcome, Scratch, stap};

const LIST: &str = r#"
struct inner { int deep; };
struct node { int value; struct node *next; struct inner in; struct inner *pin; unsigned bits : 3; };
struct node tail = { 30 };
__attribute__((noinline, noclone)) int visit(struct node *list, int which, struct node *other) {
  __asm__ volatile("" ::: "memory");
  return list->value + which + other->value;
}
__attribute__((noinline, noclone)) struct node *second(struct node *list) {
  __asm__ volatile("" ::: "memory");
  return list->next;
}
int main(void) {
  struct inner inner = { 77 };
  struct node middle = { 20, &tail, { 55 }, &inner, 5 };
  struct node head = { 10, &middle, { 66 }, &inner, 1 };
  return visit(&head, 2, second(&head)) != 32;
}"#;

fn answer(scratch: &Scratch, options: &[&str], script: &str) -> Outcome {
    let program = scratch.compile("list.c", LIST, &["-g", "-O0"]);
    let path = program.to_string_lossy();
    let visit = format!("process(\"{path}\").function(\"visit\")");
    let second = format!("process(\"{path}\").function(\"second\")");
    let absent = format!("process(\"{path}\").function(\"absent\")");
    let script = script
        .replace("ABSENT", &absent)
        .replace("VISIT", &visit)
        .replace("SECOND", &second);
    stap(&[options, &["-e", &script, "-c", &path]].concat())
}

/// A value keeps its type in globals: from one handler to another, to timers and `end`, and through functions.
#[test]
fn globals_keep_the_types_of_other_handlers() {
    let scratch = Scratch::new("typed-globals");
    let outcome = answer(
        &scratch,
        &["-w"],
        r#"
        global found, first, distance
        function begun() { first = $list }
        function value() { return found->value }
        probe SECOND { begun() }
        probe SECOND.return { found = $return }
        probe VISIT {
            printf("%d %d %d\n", found->value, found->next->value, value())
            printf("%d %d %d\n", first->value, first->in->deep, first->pin->deep)
            distance = &first->in
            println(distance->deep)
        }
        probe end {
            printf("%d %d\n", &found->next - found, @defined(found->absent))
            try { println(found->value) } catch { println("no memory") }
        }"#,
    )
    .ok();
    assert_eq!(
        outcome.stdout, "20 30 20\n10 66 77\n66\n8 0\nno memory\n",
        "{}",
        outcome.stderr
    );
}

/// Accepted and refused.
#[test]
fn expressions_are_accepted_and_refused_as_by_stap() {
    let scratch = Scratch::new("target-expressions");
    for script in [
        "global g = 5; probe VISIT { g = $list } probe end { println(g->value) }",
        "global g; probe VISIT { g = $list } probe SECOND { g = $list } probe end { println(g->value) }",
        "global g; probe ABSENT? { g = $list } probe VISIT { g = $list } probe end { println(g->value) }",
        "global g, h; probe VISIT { g = $list } probe SECOND { h = g->next } probe end { println(h->value) }",
        "probe VISIT { x = $list->pin; x = &$list->in; println(x->deep) }",
        "probe VISIT { if (0) $which = 1; println(1) }",
        "probe VISIT { if (@defined($absent)) $which = 1; println(1) }",
        "probe VISIT { if (@defined($which)) println(1) else $which = 1 }",
        "probe a = VISIT { x = $which; if (@probewrite(x)) $which = x } probe a { println(x) }",
        "probe VISIT { println(@defined(1), @defined(strlen(\"a\")), @defined($list ? 1 : 2), @defined(@defined($list))) }",
        "probe begin { println(@defined(@entry(1)), @defined(@defined(1))) }",
        "global s probe begin { s <<< 1; println(@variance(s), @variance(s, 3)) }",
    ] {
        let outcome = answer(&scratch, &["-p2", "-w"], script);
        assert_eq!(outcome.status, Some(0), "{script}\n{}", outcome.stderr);
    }
    for (options, script, message) in [
        (
            "-w",
            "probe VISIT { x = $list; x = $which; println(x->value) }",
            "unknown type in dereference: operator '->' at <input>:1:",
        ),
        (
            "-w",
            "global g probe VISIT { g = $list->pin } probe SECOND { g = $list } probe end { println(g->value) }",
            "unknown type in dereference: operator '->' at",
        ),
        (
            "-w",
            "function f(a) { if (a) return f(a->next); return a } probe VISIT { println(f($list)->value) }",
            "unknown type in dereference: operator '->' at",
        ),
        (
            "-w",
            "probe VISIT { println($which->x) }",
            "invalid access '->x' vs. int: operator '->' at",
        ),
        (
            "-w",
            "probe VISIT { println($which[2]) }",
            "invalid access '[2]' vs. int: operator '[' at",
        ),
        (
            "-w",
            "probe VISIT { println($list[1]) }",
            "is being accessed instead of a member such as '->bits': operator '[' at",
        ),
        (
            "-w",
            "probe VISIT { println($list->next->absent) }",
            "unresolved type : identifier '$list' at",
        ),
        (
            "-w",
            "probe VISIT { println(&$list->bits) }",
            "cannot take the address of a bit field: identifier '$list' at",
        ),
        (
            "-w",
            "probe VISIT { println(&$$vars) }",
            "cannot take address of context variable: identifier '$$vars' at",
        ),
        (
            "-w",
            "probe VISIT { println(&$list$) }",
            "cannot take address of pretty-printed variable: identifier '$list$' at",
        ),
        (
            "-w",
            "probe VISIT { println(@perf(\"x\")) }",
            "semantic error: perf counter 'x' not defined\n",
        ),
        (
            "-w",
            "probe VISIT { $which = 1 }",
            "write to target variable not permitted; need stap -g: identifier '$which' at",
        ),
        (
            "-w",
            "probe VISIT { if (@defined($which)) $which = 1 }",
            "write to target variable not permitted; need stap -g: identifier '$which' at",
        ),
        (
            "-g",
            "probe VISIT { $which++ }",
            "Only the following assign operator is implemented on target variables:  =: operator '++' at",
        ),
        (
            "-g",
            "probe VISIT { $which += 2 }",
            "Only the following assign operator is implemented on target variables:  =: operator '+=' at",
        ),
        (
            "-g",
            "probe VISIT { $$vars = 3 }",
            "cannot write to context variable: identifier '$$vars' at",
        ),
        (
            "-g",
            "probe VISIT { $list$ = \"3\" }",
            "cannot write to pretty-printed variable: identifier '$list$' at",
        ),
        (
            "-g",
            "probe VISIT { &$list->value = 3 }",
            "cannot write to member address: identifier '$list' at",
        ),
        (
            "-w",
            "probe VISIT.return.maxactive(3) { println(1) }",
            "invalid suffix for probe: identifier 'maxactive' at",
        ),
    ] {
        let outcome = answer(&scratch, &["-p2", options], script);
        assert_eq!(outcome.status, Some(1), "{script}");
        assert!(
            outcome.stderr.contains(message),
            "{script}\n{}",
            outcome.stderr
        );
    }
}

/// What `@defined` says of expressions that are no target variables.
#[test]
fn defined_of_other_expressions() {
    let scratch = Scratch::new("defined-of");
    let outcome = answer(
        &scratch,
        &["-w"],
        r#"probe VISIT.return {
            println(@defined(@entry($which)), @defined(@entry($absent)), @defined(1), @defined(@defined(1)),
                @defined(@defined($which)), @defined($which ? 1 : 2), @defined($which + 1), @defined(strlen("x")))
        }
        probe VISIT {
            println(@defined(@entry(1)), @defined(&$which), @defined($which$), @defined(&$$vars), @defined($$vars),
                @defined($$absent), @defined($absent$))
        }"#,
    )
    .ok();
    assert_eq!(outcome.stdout, "0110100\n10001000\n", "{}", outcome.stderr);
}

/// What `@defined` rules out counts for nothing, its type neither: at each point by itself, in functions, and with `-u`.
/// stap accepts each of these (`-p2`); `$which` is 2.
#[test]
fn parts_that_defined_rules_out_have_no_types() {
    let scratch = Scratch::new("ruled-out");
    let accepted: &[(&[&str], &str, &str)] = &[
        (
            &[],
            r#"probe VISIT { println(@defined($which) ? $which : "none", @defined($absent) ? $absent : "none") }"#,
            "2none\n",
        ),
        (
            &["-u"],
            r#"probe VISIT { println(@defined($which) ? $which : "none", @defined($absent) ? $absent : "none") }"#,
            "2none\n",
        ),
        (
            &[],
            r#"probe VISIT { if (@defined($absent)) x = $absent else x = "none" println(x) }"#,
            "none\n",
        ),
        (
            &[],
            r#"probe VISIT { x = @choose_defined($absent, "none") println(x . "!") }"#,
            "none!\n",
        ),
        (
            &[],
            r#"probe VISIT { println(@defined($absent) || @defined($which) ? 1 : "z", 0 || 1 ? "x" : 3) }"#,
            "1x\n",
        ),
        (
            &[],
            r#"probe VISIT.return { println(@defined(@entry($absent)) ? @entry($absent) : "none") }"#,
            "none\n",
        ),
        (
            &[],
            r#"function f() { return @defined($absent) ? $absent : "none" } probe VISIT { println(f()) }"#,
            "none\n",
        ),
        (
            &[],
            r#"probe SECOND, VISIT { println(@defined($which) ? $which : "none") }"#,
            "none\n2\n",
        ),
        (
            &[],
            r#"probe both = SECOND, VISIT { if (@defined($which)) v = $which; else v = "none" } probe both { println(v) }"#,
            "none\n2\n",
        ),
    ];
    for (options, script, expected) in accepted {
        let outcome = answer(&scratch, options, script);
        assert_eq!(outcome.stdout, *expected, "{script}\n{}", outcome.stderr);
    }
    let refused = [
        r#"probe VISIT { println(@defined($which) ? 1 + "a" : 2) }"#,
        r#"probe VISIT { x = $which println(x ? 1 : "none") }"#,
        r#"probe begin { println(1 ? 1 : "none") }"#,
    ];
    for script in refused {
        let outcome = answer(&scratch, &["-p2"], script);
        assert_eq!(outcome.status, Some(1), "{script}\n{outcome:?}");
        assert!(outcome.stderr.contains("type mismatch"), "{outcome:?}");
    }
}

/// `--skip-badvars` is about variables of programs, each of which is told of; nothing else that is missing is a 0.
#[test]
fn bad_variables_are_told_of() {
    let scratch = Scratch::new("bad-variables");
    let outcome = answer(
        &scratch,
        &["--skip-badvars"],
        "probe VISIT { println($absent, $list->absent) }",
    )
    .ok();
    assert_eq!(outcome.stdout, "00\n");
    assert!(
        outcome.stderr.starts_with(
            "WARNING: Bad $context variable being substituted with literal 0: identifier '$absent' at <input>:1:"
        ),
        "{}",
        outcome.stderr
    );
    let outcome = answer(
        &scratch,
        &["-p2", "--skip-badvars"],
        "probe VISIT { println(@var(\"absent\")) }",
    );
    assert_eq!(outcome.status, Some(1), "{}", outcome.stderr);
}

/// Every point has to be there, whatever the others of its probe are; of several that are sufficient the first that is
/// there is taken, in aliases, too.
#[test]
fn points_are_missing_one_by_one() {
    let scratch = Scratch::new("missing-points");
    let missing = [
        "probe PROG.function(\"nope*\"), VISIT { println(1) }",
        "probe VISIT, PROG.mark(\"nope*\") { println(1) }",
        "probe PROG.{function(\"nope*\"),function(\"main\")} { println(1) }",
        "probe foo = PROG.function(\"nope*\"), VISIT { } probe foo { println(1) }",
    ];
    let program = scratch.compile("list.c", LIST, &["-g", "-O0"]);
    let process = format!("process(\"{}\")", program.display());
    for script in missing {
        let outcome = answer(&scratch, &["-p2"], &script.replace("PROG", &process));
        assert_eq!(outcome.status, Some(1), "{script}");
        assert!(
            outcome
                .stderr
                .contains("semantic error: while resolving probe point: identifier 'process' at")
                && outcome.stderr.contains("semantic error: no match"),
            "{script}\n{}",
            outcome.stderr
        );
    }
    let script =
        "probe foo = PROG.function(\"nope\")!, VISIT!, SECOND { } probe foo { println(ppfunc()) }";
    let outcome = answer(&scratch, &["-w"], &script.replace("PROG", &process)).ok();
    assert_eq!(outcome.stdout, "visit\n", "{}", outcome.stderr);
}

/// A list of four, in a structure with another inside, which says where its members are.
const LEVELS: &str = r#"
#include <stdio.h>
struct node { struct node *next; const char *name; int value; };
struct holder { struct node first; struct { int count; struct node *second; } inner; struct holder *up; };
__attribute__((noinline)) int look(struct holder *h) { return h->inner.count; }
int main(void) {
  struct node four = {0, "four", -4}, three = {&four, "three", 3}, two = {&three, "two", 2};
  struct holder h = {{&two, "one", 1}, {7, &two}, 0};
  printf("%p %p %p\n", (void *)&two, (void *)&three, (void *)&four);
  fflush(stdout);
  return look(&h) - 7;
}"#;

#[test]
fn structures_are_printed_as_stap_does_on_four_levels() {
    let scratch = Scratch::new("levels");
    let program = scratch.compile("levels.c", LEVELS, &["-O0", "-g"]);
    let script = "probe process.function(\"look\") {
        println($h$) println($h$$) println($h->first$) println($h->first->next$)
        println($h->first->next->next$) println($h->first->next->next->next$$) }";
    let outcome = stap(&["-e", script, "-c", &program.to_string_lossy()]).ok();
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    let [places, shown @ ..] = lines.as_slice() else {
        panic!("{}", outcome.stdout);
    };
    let at: Vec<&str> = places.split(' ').collect();
    let [two, three, four] = at.as_slice() else {
        panic!("{places}");
    };
    // stapprobes(3stap): "$var$" has members, "$var$$" those of nested structures, too; pointers are not followed.
    let one = format!("{{.next={two}, .name=\"one\", .value=1}}");
    let expected = [
        "{.first={...}, .inner={...}, .up=0x0}".to_owned(),
        format!("{{.first={one}, .inner={{.count=7, .second={two}}}, .up=0x0}}"),
        one.clone(),
        format!("{{.next={three}, .name=\"two\", .value=2}}"),
        format!("{{.next={four}, .name=\"three\", .value=3}}"),
        "{.next=0x0, .name=\"four\", .value=-4}".to_owned(),
    ];
    assert_eq!(shown, expected, "{}", outcome.stderr);
}
