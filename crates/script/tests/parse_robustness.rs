//! Whatever is in a text, parsing ends, without panic and within the stack of an ordinary thread.

use proptest::prelude::*;
use script::diagnostic::{render_all, render_parse_failure};
use script::parser::{ParseOptions, Parsed, parse};
use script::span::{SourceFile, SourceMap};
use script::unparse::print_pass1;

fn run(text: &str, guru: bool) -> Parsed {
    let mut sources = SourceMap::default();
    let file = sources.add(SourceFile {
        name: "<input>".to_string(),
        text: text.into(),
        is_tapset: false,
    });
    let options = ParseOptions {
        args: vec!["1".to_string(), "a b".to_string(), "%( \"".to_string()],
        guru,
        ..ParseOptions::default()
    };
    let parsed = parse(&sources, file, &options);
    let _ = render_all(&parsed.diagnostics, &sources, true);
    let _ = render_parse_failure(
        &parsed.diagnostics,
        &sources,
        "<input>",
        (parsed.empty, parsed.stripped),
        false,
        false,
    );
    let _ = print_pass1(&parsed.file, &sources);
    parsed
}

const WORDS: &[&str] = &[
    "probe",
    "global",
    "private",
    "function",
    "if",
    "else",
    "for",
    "foreach",
    "in",
    "limit",
    "return",
    "delete",
    "while",
    "break",
    "next",
    "string",
    "long",
    "try",
    "catch",
    "begin",
    "a",
    "b",
    "$x",
    "$x$",
    "$$",
    "@count",
    "@cast",
    "@var",
    "@hist_log",
    "@hist_linear",
    "@define",
    "@a",
    "@b",
    "@1",
    "$1",
    "$3",
    "$#",
    "printf",
    "println",
    "printd",
    "\"%d\"",
    "\"x\"",
    "1",
    "0x7f",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "%(",
    "%?",
    "%:",
    "%)",
    "%{ c %}",
    ",",
    ";",
    ":",
    "?",
    "!",
    ".",
    "->",
    "=",
    "+=",
    "<<<",
    "+",
    "-",
    "*",
    "**",
    "/",
    "%",
    "&",
    "|",
    "^",
    "&&",
    "||",
    "==",
    "<",
    ">>",
    ">>>",
    "=~",
    "!~",
    "++",
    "--",
    "~",
    "kernel_v",
    "arch",
    "\n",
    "#",
    "/*",
    "*/",
    "é",
    "\"",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_parsed(text in "\\PC{0,80}") {
        run(&text, true);
    }

    #[test]
    fn any_bytes_are_parsed(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        run(&String::from_utf8_lossy(&bytes), false);
    }

    #[test]
    fn any_tokens_are_parsed(words in prop::collection::vec(prop::sample::select(WORDS), 0..60), spaced: bool) {
        run(&words.join(if spaced { " " } else { "" }), true);
    }

    /// Text that the printer wrote is read back to a tree that prints the same.
    #[test]
    fn printed_expressions_are_read_back(text in expression()) {
        let parsed = run(&format!("probe begin {{ {text} }}"), true);
        prop_assert!(parsed.diagnostics.is_empty(), "{text}\n{:?}", parsed.diagnostics);
        let printed = script::unparse::file_to_string(&parsed.file);
        let again = run(&printed, true);
        prop_assert!(again.diagnostics.is_empty(), "{printed}\n{:?}", again.diagnostics);
        prop_assert_eq!(script::unparse::file_to_string(&again.file), printed);
    }
}

/// Well-formed expressions without parentheses, so that the precedence decides.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(
        &[
            "a",
            "1",
            "\"x\\n\"",
            "$x",
            "f()",
            "b[1, *]",
            "@count(s)",
            "$y->z[a]$",
        ][..],
    )
    .prop_map(str::to_string);
    leaf.prop_recursive(5, 40, 4, |inner| {
        let op = prop::sample::select(
            &[
                "||", "&&", "|", "^", "&", "<", "<=", "==", "!=", "<<", ">>", ">>>", ".", "+", "-", "*", "/", "%", "=",
                "+=", "<<<",
            ][..],
        );
        let sign = prop::sample::select(&["- ", "! ", "~ ", "+ "][..]);
        prop_oneof![
            4 => (inner.clone(), op, inner.clone()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
            1 => (sign, inner.clone()).prop_map(|(sign, a)| format!("{sign}{a}")),
            1 => (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("{a} ? {b} : {c}")),
            1 => (inner.clone(), inner).prop_map(|(a, b)| format!("f({a}, {b})")),
        ]
    })
}

#[test]
fn deep_nesting_is_an_error() {
    for (open, close) in [
        ("(", ")"),
        ("-", ""),
        ("- ", ""),
        ("f(", ")"),
        ("a[", "]"),
        ("a ? ", " : b"),
        ("a ? b : ", ""),
        ("a = ", ""),
        ("@count(", ")"),
        ("$x[", "]"),
        ("[", "]"),
        ("{", "}"),
        ("if (1) ", ""),
        ("if (1) ; else ", ""),
        ("while (1) ", ""),
        ("foreach (k in a) ", ""),
        ("try {", "} catch { }"),
    ] {
        let text = format!(
            "probe begin {{ {}1{} }}",
            open.repeat(50_000),
            close.repeat(50_000)
        );
        let parsed = run(&text, true);
        assert!(!parsed.diagnostics.is_empty(), "{open}");
    }
    let points = format!("probe {}a{} {{}}", "{".repeat(50_000), "}".repeat(50_000));
    assert!(!run(&points, true).diagnostics.is_empty());
}

#[test]
fn long_chains_are_an_error_or_flat() {
    for (item, fails) in [
        (" + 1", true),
        (" . \"x\"", true),
        (" && a", true),
        ("; a", false),
        (" == 1", true),
        ("->b", true),
    ] {
        let text = format!("probe begin {{ x = a{} }}", item.repeat(100_000));
        assert_eq!(run(&text, true).diagnostics.is_empty(), !fails, "{item}");
    }
    // Chains within groups within chains must not add up either.
    let mut text = "a".to_string();
    for _ in 0..200 {
        text = format!("({text}{})", " + 1".repeat(900));
    }
    assert!(
        !run(&format!("probe begin {{ {text} }}"), true)
            .diagnostics
            .is_empty()
    );
}

#[test]
fn macros_that_invoke_themselves_are_errors() {
    for text in [
        "@define a %( @a %) probe begin { @a }",
        "@define a %( @b %) @define b %( @a %) probe begin { @a }",
        "@define a(x) %( @a(@x) @x %) probe begin { @a(1) }",
        "@define a %( 1 @a %) probe begin { @a }",
    ] {
        assert!(!run(text, true).diagnostics.is_empty(), "{text}");
    }
    let mut doubling = "@define m0 %( 1; %)".to_string();
    for n in 1..60 {
        doubling += &format!(" @define m{n} %( @m{0} @m{0} %)", n - 1);
    }
    assert!(
        !run(&format!("{doubling} probe begin {{ @m59 }}"), true)
            .diagnostics
            .is_empty()
    );
}

#[test]
fn brace_products_are_bounded() {
    let text = format!("probe {} {{}}", vec!["{a,b,c,d}"; 30].join("."));
    assert!(!run(&text, true).diagnostics.is_empty());
}
