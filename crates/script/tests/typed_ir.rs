//! What the IR says of whole scripts.

use script::ast::{HistOp, StatOp};
use script::compile::{Compilation, CompileOptions, compile};
use script::format::{ConversionKind, Part};
use script::ir::{
    ExprKind, GlobalType, HistShape, MapValue, Program, StatNeeds, StmtKind, TargetBase, Type,
};
use script::span::{SourceFile, SourceMap};

fn run(script: &str, options: &CompileOptions) -> Compilation {
    let mut sources = SourceMap::default();
    let id = sources.add(SourceFile {
        name: "<input>".into(),
        text: script.into(),
        is_tapset: false,
    });
    compile(sources, &[id], options)
}

fn program(script: &str) -> Program {
    let options = CompileOptions {
        last_pass: 5,
        ..Default::default()
    };
    let result = run(script, &options);
    assert!(
        result.diagnostics.iter().all(|d| !d.is_error()),
        "{:?}",
        result.diagnostics
    );
    result.program.expect("no errors, so a program")
}

#[test]
fn globals_have_their_inferred_types() {
    let p = program(
        r#"global n, a%[7], s, h
        probe begin { n++; a["x", 1] = "v"; s[3] <<< 1; h <<< 2; println(@hist_linear(h, 0, 10, 2)) }
        probe end { foreach (k in s) println(@avg(s[k]), @max(s[k])) foreach ([x, y] in a) println(x, y) }"#,
    );
    let ty = |name: &str| &p.globals.iter().find(|g| g.name == name).expect(name).ty;
    assert_eq!(*ty("n"), GlobalType::Scalar(Type::Long));
    assert_eq!(
        *ty("a"),
        GlobalType::Map {
            keys: vec![Type::String, Type::Long],
            value: MapValue::String,
            size: Some(7),
            wrap: true
        }
    );
    let needs = StatNeeds {
        max: true,
        sum: true,
        ..Default::default()
    };
    assert_eq!(
        *ty("s"),
        GlobalType::Map {
            keys: vec![Type::Long],
            value: MapValue::Stat(needs, None),
            size: None,
            wrap: false
        }
    );
    let shape = HistShape::Linear {
        low: 0,
        high: 10,
        step: 2,
    };
    assert_eq!(
        *ty("h"),
        GlobalType::Stat(StatNeeds::default(), Some(shape))
    );
}

#[test]
fn only_globals_that_nothing_reads_are_displayed() {
    let p = program(
        "global n, m, k, c probe begin { n++; m = k++; c = c + 1; if (k > 3) exit() } probe end { k = 0 }",
    );
    let shown: Vec<&str> = p
        .globals
        .iter()
        .filter(|g| g.auto_display)
        .map(|g| g.name.as_str())
        .collect();
    assert_eq!(shown, ["n", "m"]);
}

/// Each of some thousand functions calls the next one, and the last one does something: what functions do is known
/// through all of them, and in a time that grows with their number and not with its cube.
#[test]
fn effects_are_known_through_long_chains_of_functions() {
    let chain = |last: &str| {
        let links: String = (0..4000)
            .map(|i| format!("function f{i}() {{ return f{}() }}\n", i + 1))
            .collect();
        program(&format!(
            "global n = 2 {links} function f4000() {{ {last} }} probe begin {{ f0() }} probe end {{ println(n) }}"
        ))
    };
    assert_eq!(chain("n = 1").functions.len(), 4001);
    assert_eq!(chain("return n").probes.len(), 1);
}

#[test]
fn print_family_comes_down_to_formats() {
    let p = program(
        r#"global h probe begin { h <<< 1; printdln("|", 1, "a"); println(@hist_log(h)) print_char(65) }"#,
    );
    let formats: Vec<Vec<ConversionKind>> = p.probes[0]
        .body
        .stmts
        .iter()
        .filter_map(|s| match &s.kind {
            StmtKind::Expr(e) => match &e.kind {
                ExprKind::Print { format, .. } => Some(
                    format
                        .parts
                        .iter()
                        .filter_map(|p| match p {
                            Part::Conversion(c) => Some(c.kind),
                            Part::Literal(_) => None,
                        })
                        .collect(),
                ),
                _ => None,
            },
            _ => None,
        })
        .collect();
    use ConversionKind as C;
    assert_eq!(
        formats,
        [
            vec![C::Signed, C::String],
            vec![C::Histogram],
            vec![C::Char]
        ]
    );
}

#[test]
fn overloads_hang_together_by_next() {
    let p = program(
        "function f(x) { if (x) next; return 1 } function f(x) { return 2 } probe begin { println(f(1)) }",
    );
    assert_eq!(p.functions.len(), 2);
    let first = p
        .functions
        .iter()
        .find(|f| f.next.is_some())
        .expect("the one with next");
    let next = &p.functions[first.next.expect("next").0 as usize];
    assert!(next.next.is_none());
    assert_eq!(first.result, Type::Long);
}

#[test]
fn library_operations_are_intrinsics() {
    let p = program("probe begin { println(pid()) }");
    let StmtKind::Expr(e) = &p.probes[0].body.stmts[0].kind else {
        panic!("an expression statement")
    };
    let ExprKind::Print { args, .. } = &e.kind else {
        panic!("a print")
    };
    assert!(
        matches!(&args[0], script::ir::PrintArg::Value(v) if matches!(&v.kind, ExprKind::Intrinsic(i, _) if i.name == "pid"))
    );
    assert!(p.functions.is_empty());
}

#[test]
fn target_variables_stay_as_written() {
    let p = program(
        r#"probe process("x").mark("m") { s = @defined($arg1) ? user_string($arg1) : $$name; println(s) }"#,
    );
    assert_eq!(p.probes[0].body.locals[0].ty, Type::String);
    let mut names = Vec::new();
    let StmtKind::Expr(e) = &p.probes[0].body.stmts[0].kind else {
        panic!("an expression statement")
    };
    let ExprKind::Assign(_, value) = &e.kind else {
        panic!("an assignment")
    };
    let ExprKind::Ternary(c, _, b) = &value.kind else {
        panic!("a ternary")
    };
    for e in [c, b] {
        if let ExprKind::Defined(t) | ExprKind::Target(t) = &e.kind
            && let TargetBase::Variable(n) = &t.base
        {
            names.push(n.clone());
        }
    }
    assert_eq!(names, ["$arg1", "$$name"]);
}

#[test]
fn points_of_one_kind_share_a_handler() {
    let p = program(
        r#"probe begin, timer.s(1), process("x").function("f") { println(pp()) println(@defined($a)) }"#,
    );
    let points: Vec<usize> = p.probes.iter().map(|p| p.points.len()).collect();
    assert_eq!(points, [2, 1]);
}

#[test]
fn aliases_wrap_the_handler_and_leave_a_trace() {
    let p = program("probe oneshot { println(1) }");
    assert_eq!(p.probes[0].points[0].point.components[0].name.text, "begin");
    assert_eq!(
        p.probes[0].points[0].via[0].components[0].name.text,
        "oneshot"
    );
    assert_eq!(p.probes[0].body.stmts.len(), 2);
}

#[test]
fn a_global_as_loop_variable_is_copied() {
    let p = program("global a, k probe begin { a[1] = 2; foreach (k in a) println(k) }");
    let StmtKind::Foreach(f) = &p.probes[0].body.stmts[1].kind else {
        panic!("foreach")
    };
    assert_eq!(f.keys.len(), 1);
    assert!(matches!(&f.body[0].kind, StmtKind::Expr(e) if matches!(e.kind, ExprKind::Assign(..))));
}

#[test]
fn buckets_name_the_statistic() {
    let p = program(
        "global s probe begin { s <<< 1; foreach (b in @hist_log(s)) println(b, @hist_log(s)[b], @count(s)) }",
    );
    let mut found = false;
    for s in &p.probes[0].body.stmts {
        if let StmtKind::ForeachBucket { body, .. } = &s.kind {
            let StmtKind::Expr(e) = &body[0].kind else {
                continue;
            };
            let ExprKind::Print { args, .. } = &e.kind else {
                continue;
            };
            found = matches!(&args[1], script::ir::PrintArg::Value(v) if matches!(v.kind, ExprKind::Bucket(_, HistOp::Log, _)))
                && matches!(&args[2], script::ir::PrintArg::Value(v) if matches!(v.kind, ExprKind::Stat(StatOp::Count, _, _)));
        }
    }
    assert!(found);
}

#[test]
fn initial_values_from_the_command_line_win() {
    // A name that is no global's says nothing, as in stap.
    let options = CompileOptions {
        last_pass: 5,
        initial_values: vec![("x".into(), "7".into()), ("nosuch".into(), "1".into())],
        ..Default::default()
    };
    let p = run("global x = 3 probe begin { println(x) }", &options).program;
    let init = p.and_then(|p| p.globals[0].init.clone());
    assert_eq!(init, Some(script::ast::Literal::Number(7)));
}

fn messages(script: &str, last_pass: u8) -> Vec<String> {
    let options = CompileOptions {
        last_pass,
        ..Default::default()
    };
    let diagnostics = run(script, &options).diagnostics;
    diagnostics.into_iter().map(|d| d.message).collect()
}

/// As Debian's stap suggests: functions that have been called before, and variables that anything names.
#[test]
fn near_matches_are_names_in_use() {
    for (script, expected) in [
        (
            "function ff1() { return 1 } probe begin { println(ff3()) }",
            "unresolved function ff3 (similar: HZ, pn, pp, cpu, gid)",
        ),
        (
            "function ff1() { return 1 } probe end { println(ff3(), ff1()) }",
            "unresolved function ff3 (similar: HZ, pn, pp, cpu, gid)",
        ),
        (
            "global b=1, c=2 probe begin { if (a) println(1) } probe end { println(b) }",
            "never-assigned local variable 'a' (similar: b)",
        ),
        (
            "global b, c probe begin { if (a) println(1) } function unused() { c = 1 }",
            "never-assigned local variable 'a'",
        ),
    ] {
        assert_eq!(
            messages(script, 2).first().map(String::as_str),
            Some(expected),
            "{script}"
        );
    }
    let called = "function ff1() { return 1 } probe end { println(ff1(), ff3()) }";
    let told = messages(called, 2);
    assert!(
        told.iter()
            .any(|m| m.starts_with("unresolved function ff3 (similar: ff1, ")),
        "{told:?}"
    );
}

/// `-p2` takes counters as stap does where the kernel has them; what would read them is not there.
#[test]
fn counters_end_with_the_second_pass() {
    let counter = r#"probe perf.type(0).config(1).process("x").counter("c") { }"#;
    let read = r#"probe process("x").function("f") { println(@perf("c")) }"#;
    let both = format!("{counter} {read}");
    for script in [counter, &both] {
        assert!(messages(script, 2).is_empty(), "{script}");
        let late = messages(script, 5);
        assert!(
            late.iter().any(|m| m.contains("is not supported: ")),
            "{script}: {late:?}"
        );
    }
    assert_eq!(messages(read, 2), ["perf counter 'c' not defined"]);
    // One that is set up later is not known yet.
    assert_eq!(
        messages(&format!("{read} {counter}"), 2),
        ["perf counter 'c' not defined"]
    );
    assert_eq!(
        messages(&format!("{counter} {counter}"), 2),
        ["while resolving probe point"]
    );
}

#[test]
fn values_of_the_entry_may_be_assigned_to() {
    for statement in ["@entry($a) = 1", "@entry(1) = 1", "@entry($a) += 3"] {
        let script =
            format!(r#"probe process("x").function("f").return {{ {statement} println(2) }}"#);
        let told = messages(&script, 2);
        assert_eq!(
            told.first().map(String::as_str),
            Some("Eliding assignment to '__global_entry_tvar_entry_0_tmp'"),
            "{script}"
        );
        assert!(told.iter().all(|m| m.starts_with("Eliding ")), "{told:?}");
    }
    let elsewhere = r#"probe process("x").function("f") { @entry($a) = 1 println(2) }"#;
    assert!(!messages(elsewhere, 5).is_empty());
}

#[test]
fn what_is_not_served_is_named() {
    for (script, what) in [
        (
            r#"probe process("x").plt("f").call { }"#,
            r#"'process("x").plt("f").call'"#,
        ),
        (r#"probe module("x").statement("f@a.c:1") { }"#, "statement"),
        (r#"probe kernel.function("f") { }"#, "'kernel.function"),
        ("probe syscall.open { }", "'syscall.open'"),
        (
            r#"probe perf.type(1).config(0).counter("x") { }"#,
            "'perf.type",
        ),
        (r#"probe begin { println(@perf("x")) }"#, "@perf"),
    ] {
        let options = CompileOptions {
            last_pass: 5,
            ..Default::default()
        };
        let result = run(script, &options);
        let named = result
            .diagnostics
            .iter()
            .flat_map(|d| std::iter::once(d).chain(&d.chain))
            .any(|d| d.message.contains(what) && d.message.contains(" is not supported: "));
        let told = result.diagnostics.iter().any(|d| d.message.contains(what)) || named;
        assert!(
            named || (told && what.starts_with('@')),
            "{script}: {:?}",
            result.diagnostics
        );
    }
}

#[test]
fn directories_add_to_the_library() {
    let folder = std::env::temp_dir().join(format!("script-tapset-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let text =
        "global level = 4 function twice(n) { return 2 * n } probe mine = begin { x = level }";
    std::fs::write(folder.join("mine.stp"), text).expect("written");
    std::fs::write(folder.join("mine.stpm"), "@define six %( 6 %)").expect("written");
    let options = CompileOptions {
        last_pass: 5,
        tapset_dirs: vec![folder.clone()],
        ..Default::default()
    };
    let result = run("probe mine { println(twice(x), level, @six) }", &options);
    std::fs::remove_dir_all(&folder).expect("removed");
    let p = result
        .program
        .unwrap_or_else(|| panic!("{:?}", result.diagnostics));
    assert_eq!(
        (p.globals.len(), p.functions.len(), p.probes.len()),
        (1, 1, 1)
    );
}

/// Most functions of stap's library are in C, to which the user's names mean nothing; to those of ours that are scripts
/// neither. Those of `-I` directories see the user's globals, and stap warns of it.
#[test]
fn names_of_the_user_mean_nothing_to_the_built_in_library() {
    let script = r#"global i = "text", text = 5, name
        function strlen(s) { return s + 1 } function substr(a, b, c) { return a + b + c }
        probe begin { name[1] = strlen(i != "" ? 1 : 2) + substr(1, 2, 3)
          println(cmdline_args(0, 2, " "), pnlabel(), bytes_to_string(text), name[1]) }"#;
    assert_eq!(messages(script, 2), Vec::<String>::new());

    let folder = std::env::temp_dir().join(format!("script-cross-file-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let text = "global other = 1 function seven() { level += other return level }";
    std::fs::write(folder.join("mine.stp"), text).expect("written");
    let options = CompileOptions {
        last_pass: 2,
        tapset_dirs: vec![folder.clone()],
        ..Default::default()
    };
    let result = run(
        "global level = 3 probe begin { println(seven(), level, other) }",
        &options,
    );
    std::fs::remove_dir_all(&folder).expect("removed");
    let said: Vec<String> = (result.diagnostics.iter())
        .map(|d| d.message.clone())
        .collect();
    let warning = "cross-file global variable reference to identifier 'level' at <input>:1:8 from";
    assert_eq!(said, [warning, warning]);
}

#[test]
fn unoptimized_keeps_what_has_no_effect() {
    let options = CompileOptions {
        last_pass: 5,
        unoptimized: true,
        ..Default::default()
    };
    let result = run("probe begin { x = 1 } probe end { }", &options);
    let p = result
        .program
        .unwrap_or_else(|| panic!("{:?}", result.diagnostics));
    assert_eq!((p.probes.len(), p.probes[0].body.stmts.len()), (2, 1));
}

/// Every function of the library elaborates on its own.
#[test]
fn the_library_is_sound() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tapset");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the library's folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|e| e != "stp") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("readable");
        for line in text.lines().filter_map(|l| l.strip_prefix("function ")) {
            let (name, rest) = line.split_once([':', ' ', '(']).expect("a name");
            let params = rest.rsplit_once(')').and_then(|(r, _)| r.rsplit_once('('));
            let params = params.map_or(
                line.split_once('(')
                    .map_or("", |(_, p)| p.trim_end_matches(')')),
                |(_, p)| p,
            );
            let args: Vec<&str> = params
                .split(',')
                .filter(|p| !p.trim().is_empty())
                .map(|p| if p.contains("string") { "\"\"" } else { "1" })
                .collect();
            let result = run(
                &format!("probe begin {{ {name}({}) println(1) }}", args.join(", ")),
                &CompileOptions {
                    last_pass: 5,
                    // Some functions change the program and ask for it.
                    guru: true,
                    ..Default::default()
                },
            );
            assert!(result.program.is_some(), "{line}: {:?}", result.diagnostics);
            count += 1;
        }
    }
    assert!(count > 150, "{count}");
}
