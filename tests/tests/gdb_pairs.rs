//! Variables as gdb sees them and as target variables give them: pairs of a place in a made-up program and a variable
//! there, taken apart into scalars, in unoptimised and optimised code of several compilers and DWARF versions.

#[path = "gdb_pairs/program.rs"]
mod program;

use spile_tests::{Scratch, need, run, spile_path};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

/// How many stops at each place are compared.
const HITS: usize = 2;

/// Where programs are stopped.
#[derive(Clone, Copy, PartialEq)]
enum Places {
    /// Where functions are entered, parameters known.
    Entries,
    /// Where gdb stops in functions, which is not always where they are entered.
    Bodies,
    /// Every statement.
    Statements,
    /// Every statement but where functions begin: clang's frame base is a register that is not set there yet.
    StatementsBehindEntry,
}

/// What one debugger saw: by place, hit and path.
type Seen = BTreeMap<(u64, usize, String), String>;

/// What gdb sees, and the functions of the places.
fn by_gdb(scratch: &Scratch, program: &Path, places: Places) -> (Seen, BTreeMap<u64, String>) {
    need("/usr/bin/gdb");
    let script = scratch.write("observe.py", include_str!("gdb_pairs/observe.py"));
    let output = scratch.path("gdb.out");
    let mut command = Command::new("gdb");
    command
        .args(["-nx", "-q", "-batch", "-x"])
        .arg(script)
        .arg(program)
        .env("PAIRS_FUNCTIONS", "(pairs::)?f[0-9]+")
        .env("PAIRS_HITS", HITS.to_string())
        .env(
            "PAIRS_PLACES",
            match places {
                Places::Entries | Places::Bodies => "entries",
                Places::Statements => "statements",
                Places::StatementsBehindEntry => "statements behind entry",
            },
        )
        .env("PAIRS_OUTPUT", &output);
    let outcome = run(command);
    let text = std::fs::read_to_string(&output).unwrap_or_default();
    let (mut seen, mut named) = (Seen::new(), BTreeMap::new());
    for line in text.lines() {
        let words: Vec<&str> = line.split('\t').collect();
        let place = |text: &str| {
            u64::from_str_radix(text.trim_start_matches("0x"), 16).expect("an address")
        };
        match words[..] {
            ["P", at, function] => {
                named.insert(place(at), function.to_owned());
            }
            ["V", at, hit, path, _, value] => {
                let hit = hit.parse().expect("a number");
                seen.insert((place(at), hit, path.to_owned()), value.to_owned());
            }
            _ => panic!("unexpected line {line:?}"),
        }
    }
    assert!(!seen.is_empty(), "{outcome:?}");
    (seen, named)
}

/// The same by target variables: every path that gdb found at a place.
fn by_spile(
    scratch: &Scratch,
    program: &Path,
    wanted: &Seen,
    named: &BTreeMap<u64, String>,
    places: Places,
) -> Seen {
    let mut script = String::from("global hits\n");
    let mut paths: BTreeMap<u64, BTreeSet<&str>> = BTreeMap::new();
    for (place, _, path) in wanted.keys() {
        paths.entry(*place).or_default().insert(path);
    }
    let mut indexed = Vec::new();
    for (place, paths) in &paths {
        let _ = writeln!(
            script,
            "probe process.{} {{ hit = hits[{place}]++; if (hit < {HITS}) {{ at = uaddr()",
            match places {
                Places::Entries => format!("function(\"{}\")", named[place]),
                // Without randomisation a position-independent program is here.
                Places::Bodies | Places::Statements | Places::StatementsBehindEntry =>
                    format!("statement({:#x})", place - 0x5555_5555_4000),
            }
        );
        for path in paths {
            let number = indexed.len();
            indexed.push(*path);
            let _ = writeln!(
                script,
                "  try {{ if (@defined({path})) printf(\"%x\\t%d\\t{number}\\t%d\\n\", at, hit, {path}) \
                 else printf(\"%x\\t%d\\t{number}\\t?\\n\", at, hit) }} catch {{ printf(\"%x\\t%d\\t{number}\\tfault\\n\", at, hit) }}"
            );
        }
        script.push_str("} }\n");
    }
    let file = scratch.write("pairs.stp", &script);
    let mut command = Command::new("setarch");
    command
        .arg("-R")
        .arg(spile_path())
        .args(["stap", "-w", "-DMAXACTION=1000000"])
        .arg(&file)
        .arg("-c")
        .arg(program)
        .env_clear();
    let outcome = run(command).ok();
    let mut seen = Seen::new();
    for line in outcome.stdout.lines() {
        let words: Vec<&str> = line.split('\t').collect();
        let [at, hit, number, value] = words[..] else {
            panic!("unexpected line {line:?}");
        };
        let at = u64::from_str_radix(at, 16).expect("an address");
        let path = indexed[number.parse::<usize>().expect("a number")];
        seen.insert(
            (at, hit.parse().expect("a number"), path.to_owned()),
            value.to_owned(),
        );
    }
    seen
}

/// Compares both on a made-up program and returns how many pairs were equal.
fn compare(
    name: &str,
    compiler: &str,
    seed: u64,
    functions: usize,
    flags: &[&str],
    places: Places,
) -> usize {
    let suffix = if compiler.contains("++") { "cc" } else { "c" };
    let source = program::source(seed, functions);
    let flags: Vec<&str> = flags.iter().copied().chain(["-w"]).collect();
    compare_on(name, compiler, &flags, suffix, &source, places)
}

/// Compares both on a program, by its source.
fn compare_on(
    name: &str,
    compiler: &str,
    flags: &[&str],
    suffix: &str,
    source: &str,
    places: Places,
) -> usize {
    let scratch = Scratch::new(name);
    let source = scratch.write(&format!("pairs.{suffix}"), source);
    let program = scratch.path("pairs");
    let mut command = Command::new(compiler);
    command.args(flags).arg("-o").arg(&program).arg(&source);
    run(command).ok();
    let (mut gdb, named) = by_gdb(&scratch, &program, places);
    let spile = by_spile(&scratch, &program, &gdb, &named, places);
    // A statement that is a short instruction before a branch target may have no room for a jump: a warning says so.
    let reached: BTreeSet<u64> = spile.keys().map(|k| k.0).collect();
    gdb.retain(|(place, ..), _| reached.contains(place));
    assert!(
        reached.len() * 10 >= named.len() * 8,
        "{compiler} {flags:?}, {name}: only {} of {} places were reached",
        reached.len(),
        named.len()
    );
    let mut differences = String::new();
    let mut count = 0;
    for (key, value) in &gdb {
        let other = spile.get(key).map_or("nothing", String::as_str);
        // Of a value that only callers could tell it is known at the hit whether this one does.
        let same = other == value || value == "?" && other == "fault";
        if !same {
            count += 1;
            if count <= 40 {
                let (place, hit, path) = key;
                let _ = writeln!(
                    differences,
                    "{} at {place:#x}, hit {hit}: {path}: gdb {value}, spile {other}",
                    named[place]
                );
            }
        }
    }
    if count > 0
        && let Some(kept) = std::env::var_os("PAIRS_KEEP")
    {
        let _ = std::fs::create_dir_all(&kept);
        for name in [&format!("pairs.{suffix}"), "pairs", "pairs.stp", "gdb.out"] {
            let _ = std::fs::copy(scratch.path(name), Path::new(&kept).join(name));
        }
    }
    assert!(
        count == 0,
        "{compiler} {flags:?}, {name}: {count} of {} pairs differ\n{differences}",
        gdb.len()
    );
    gdb.len()
}

#[test]
fn variables_at_function_entry_are_those_that_gdb_sees() {
    let mut pairs = 0;
    for (seed, compiler, level, version) in [
        (1, "gcc", "-O0", "-gdwarf-4"),
        (2, "gcc", "-O2", "-gdwarf-5"),
        (3, "g++", "-O0", "-gdwarf-5"),
        (4, "g++", "-O2", "-gdwarf-4"),
        (8, "clang", "-O0", "-gdwarf-5"),
        (9, "clang++", "-O0", "-gdwarf-4"),
    ] {
        pairs += compare(
            &format!("pairs{seed}"),
            compiler,
            seed,
            20,
            &[level, version],
            Places::Entries,
        );
    }
    println!("{pairs} pairs");
    assert!(pairs > 1000, "only {pairs} pairs");
}

#[test]
fn variables_at_statements_are_those_that_gdb_sees() {
    let mut pairs = 0;
    for (seed, compiler, flags) in [
        (5, "gcc", ["-O0", "-gdwarf-5", "-g"]),
        (6, "gcc", ["-O2", "-gdwarf-5", "-g"]),
        // Strict DWARF 4 has no places that take floating-point arithmetic, which handlers can't do.
        (7, "g++", ["-O1", "-gdwarf-4", "-gstrict-dwarf"]),
    ] {
        pairs += compare(
            &format!("pairs{seed}"),
            compiler,
            seed,
            2,
            &flags,
            Places::Statements,
        );
    }
    println!("{pairs} pairs");
    assert!(pairs > 4000, "only {pairs} pairs");
}

#[test]
fn variables_at_statements_of_optimised_clang_code_are_those_that_gdb_sees() {
    let flags = ["-O2", "-gdwarf-5"];
    let pairs = compare("pairs10", "clang", 10, 2, &flags, Places::Statements);
    println!("{pairs} pairs");
    assert!(pairs > 1000, "only {pairs} pairs");
}

#[test]
fn variables_at_statements_of_plain_clang_code_are_those_that_gdb_sees() {
    let mut pairs = 0;
    // What the dynamic linker leaves on the stack when it first looks up a function differs from run to run.
    for (seed, compiler, version) in [(11, "clang", "-gdwarf-4"), (12, "clang++", "-gdwarf-5")] {
        pairs += compare(
            &format!("pairs{seed}"),
            compiler,
            seed,
            2,
            &["-O0", version, "-Wl,-z,now"],
            Places::StatementsBehindEntry,
        );
    }
    println!("{pairs} pairs");
    assert!(pairs > 1000, "only {pairs} pairs");
}

#[test]
fn parameters_of_rust_functions_are_those_that_gdb_sees() {
    let source = include_str!("gdb_pairs/parameters.rs");
    let mut pairs = 0;
    for level in ["opt-level=0", "opt-level=2"] {
        let flags = ["--edition=2021", "-g", "-C", level];
        let name = format!("pairs-rust-{level}");
        pairs += compare_on(&name, "rustc", &flags, "rs", source, Places::Bodies);
    }
    println!("{pairs} pairs");
    assert!(pairs > 250, "only {pairs} pairs");
}
