//! Scripts and what SystemTap 4.8 answers to `stap -p1` for them: the tree, or the errors with their places.
//! With `SPILE_SHOW=1` in the environment the differences are printed instead of only the first one.

use std::collections::HashMap;

use script::diagnostic::{render_all, render_parse_failure};
use script::parser::{ParseOptions, parse};
use script::preprocess::Environment;
use script::span::{SourceFile, SourceMap};
use script::unparse::print_pass1;

/// What `stap -p1` prints for a script: messages, then the tree if there were no errors.
fn pass1(text: &str, args: &[String], guru: bool, version: &str) -> String {
    let mut sources = SourceMap::default();
    let file = sources.add(SourceFile {
        name: "<input>".to_string(),
        text: text.into(),
        is_tapset: false,
    });
    let options = ParseOptions {
        args: args.to_vec(),
        guru,
        environment: Environment {
            systemtap_version: version.to_string(),
            runtime: "kernel".to_string(),
            privilege: "stapdev".to_string(),
            guru_mode: guru,
            configs: HashMap::from([("CONFIG_NR_CPUS".to_string(), "64".to_string())]),
            ..Environment::default()
        },
        ..ParseOptions::default()
    };
    let parsed = parse(&sources, file, &options);
    if parsed.empty || parsed.diagnostics.iter().any(|d| d.is_error()) {
        return render_parse_failure(
            &parsed.diagnostics,
            &sources,
            "<input>",
            (parsed.empty, parsed.stripped),
            false,
            false,
        );
    }
    render_all(&parsed.diagnostics, &sources, false) + &print_pass1(&parsed.file, &sources)
}

/// The words of a case's first line, in which `'…'` and `"…"` quote as in a shell.
fn words(line: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut quote = None;
    let mut word: Option<String> = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => out.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    out.extend(word);
    out
}

fn check(table: &str) {
    let mut failures = Vec::new();
    let cases: Vec<&str> = table.split("\n==== ").collect();
    for (index, case) in cases.iter().enumerate() {
        let case = case.strip_prefix("==== ").unwrap_or(case);
        let (options, rest) = case.split_once('\n').expect("a case has an option line");
        let (script, expected) = rest
            .split_once("\n----\n")
            .unwrap_or_else(|| panic!("no expectation: {case}"));
        let mut args = words(options);
        let guru = args.first().is_some_and(|a| a == "-g");
        if guru {
            args.remove(0);
        }
        let compatible = args.first().and_then(|a| a.strip_prefix("--compatible="));
        let version = compatible.unwrap_or("4.8").to_string();
        if compatible.is_some() {
            args.remove(0);
        }
        let found = pass1(script, &args, guru, &version);
        if found.trim_end() != expected.trim_end() {
            failures.push(format!(
                "case {index} [{options}]:\n{script}\nexpected:\n{expected}\nfound:\n{found}"
            ));
        }
    }
    if std::env::var_os("SPILE_SHOW").is_some() {
        for failure in &failures {
            println!("{failure}\n########");
        }
    }
    let first = failures.first().cloned().unwrap_or_default();
    assert!(
        failures.is_empty(),
        "{} of {} cases differ, first:\n{first}",
        failures.len(),
        cases.len()
    );
}

#[test]
fn scripts_parse_and_fail_as_in_stap() {
    check(include_str!("parse/pass1.txt"));
}

/// What is read otherwise with `--compatible`.
#[test]
fn older_versions_are_read_as_by_stap() {
    check(include_str!("parse/versions.txt"));
}

/// Every form of the language, in the form that `-p1` gives it.
#[test]
fn forms_are_printed_as_by_stap() {
    check(include_str!("parse/forms.txt"));
}

/// Broken texts, with the message and the token.
#[test]
fn refusals_are_those_of_stap() {
    check(include_str!("parse/refusals.txt"));
}
