//! The semantic pass against what Debian's stap 4.8 says and prints for the same scripts (`stap -p2 -e SCRIPT`), a file
//! of cases for each subject: without the lines that quote the source, without near matches, which depend on the
//! library, and without the count of messages held back. With `SPILE_SHOW=1` all differences are printed.

use script::compile::{CompileOptions, compile};
use script::messages::render;
use script::span::{SourceFile, SourceMap};

fn analyse(script: &str, guru: bool, bodies: bool) -> String {
    let mut sources = SourceMap::default();
    let id = sources.add(SourceFile {
        name: "<input>".into(),
        text: format!("{script}\n").into(),
        is_tapset: false,
    });
    let options = CompileOptions {
        last_pass: 2,
        guru,
        ..Default::default()
    };
    let result = compile(sources, &[id], &options);
    let mut text = render(&result.diagnostics, &result.sources, false, false);
    if let Some(elaborated) = &result.elaborated {
        text.push_str(&elaborated.print(bodies, |_| None));
    }
    let mut out = String::new();
    for line in text.lines() {
        let trimmed = line.trim_start();
        let skip = trimmed.is_empty()
            || ["source:", "^", "Rerun", "Pass 2", "Number of similar"]
                .iter()
                .any(|s| trimmed.starts_with(s));
        if skip {
            continue;
        }
        match line.find(" (similar: ") {
            Some(at) => {
                let rest = &line[at..];
                let end = rest.find(')').map_or(rest.len(), |n| n + 1);
                out.push_str(&line[..at]);
                out.push_str(&rest[end..]);
            }
            None => out.push_str(line),
        }
        out.push('\n');
    }
    out
}

/// Cases are separated by lines that start with `==== `, with `-g` behind it for guru mode and `-v` for handlers; `----` separates the
/// script from stap's answer.
fn check(table: &str) {
    let mut wrong = Vec::new();
    let cases: Vec<&str> = table.split("\n==== ").collect();
    for (index, case) in cases.iter().enumerate() {
        let case = case.strip_prefix("==== ").unwrap_or(case);
        let (options, rest) = case.split_once('\n').expect("a case has an option line");
        let (script, expected) = rest
            .split_once("\n----\n")
            .unwrap_or_else(|| panic!("no expectation: {case}"));
        let found = analyse(script, options == "-g", options == "-v");
        if found.trim_end() != expected.trim_end() {
            wrong.push(format!(
                "case {index}\n{script}\n--- stap\n{}\n--- here\n{found}",
                expected.trim_end()
            ));
        }
    }
    if std::env::var_os("SPILE_SHOW").is_some() {
        for text in &wrong {
            println!("{text}\n########");
        }
    }
    let first = wrong.first().cloned().unwrap_or_default();
    assert!(
        wrong.is_empty(),
        "{} of {} cases differ, first:\n{first}",
        wrong.len(),
        cases.len()
    );
}

macro_rules! subjects {
    ($($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                check(include_str!(concat!("elaboration/", stringify!($name), ".txt")));
            }
        )*
    };
}

subjects!(
    aliases,
    arrays,
    bodies,
    declarations,
    elision,
    embedded,
    functions,
    points,
    printing,
    probe_points,
    purity,
    regex,
    statements,
    statistics,
    suite,
    targets,
    types,
    variants,
);
