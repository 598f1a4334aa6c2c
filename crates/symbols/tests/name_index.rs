//! Names are found alike by decoding everything, by an index of a former run, and by a search.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use symbols::{Binary, DebugFiles, Glob, IndexCache};

/// What happens to a file.
type Damage<'a> = &'a dyn Fn(&mut Vec<u8>);

const HEADER: &str = "
#pragma once
namespace shop {
struct Item { int price; long amount; template <class T> T times(T n) const { return n * price; } };
template <class T> inline __attribute__((always_inline)) T twice(T n) { return n + n; }
enum class Kind { Small, Large };
struct Base { virtual ~Base(); virtual int rank() const; int r; };
}
extern int stock;
int add(const shop::Item &item, int n);
";

const FIRST: &str = r#"
#include "shop.h"
int stock = 3;
static int local(int n) { return shop::twice(n) + stock; }
namespace shop { Base::~Base() {} int Base::rank() const { return r; } }
__attribute__((noinline, used)) int add(const shop::Item &item, int n) { return item.times(n) + local(n); }
__attribute__((noinline, used)) int f(int n) { return n ^ stock; }
"#;

const SECOND: &str = r#"
#include "shop.h"
static int local(int n) { return shop::twice(n) * 7; }
struct Counter { int total = 0; int operator()(int n) { total += n; return total; } ~Counter() { stock = total; } };
int f(int n);
int main(int argc, char **) {
    shop::Item item { argc, 2 };
    shop::Base base; base.r = local(argc);
    Counter counter;
    auto lambda = [&](int n) { return counter(n) + f(n); };
    return add(item, 2) + lambda(3) + base.rank() + (int)shop::Kind::Large;
}
"#;

/// Compilers and what they are told: each puts names elsewhere.
const BUILDS: [(&str, &[&str]); 8] = [
    ("g++", &["-O0"]),
    ("g++", &["-O2", "-gdwarf-4", "-fdebug-types-section"]),
    ("g++", &["-O2", "-flto"]),
    ("g++", &["-O1", "-fno-merge-debug-strings"]),
    ("clang++", &["-O2", "-gdwarf-5"]),
    ("clang++", &["-O2", "-gdwarf-4"]),
    ("clang++", &["-O2", "-gdwarf-5", "-gpubnames"]),
    ("clang++", &["-O2", "-flto", "-fuse-ld=lld"]),
];

/// Those with wildcards come last: they make an index of everything, in which all is then found.
const PATTERNS: [&str; 14] = [
    "f",
    "local",
    "twice<*>",
    "shop::twice<*>",
    "Item::times<*>",
    "shop::Base::rank",
    "rank",
    "~Base",
    "Counter::~Counter",
    "operator()",
    "_Z3addRKN4shop4ItemEi",
    "nothing",
    "l*",
    "*",
];

struct Program {
    directory: tempfile::TempDir,
    path: PathBuf,
}

fn compile(compiler: &str, flags: &[&str]) -> Program {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for (name, text) in [
        ("shop.h", HEADER),
        ("first.cc", FIRST),
        ("second.cc", SECOND),
    ] {
        fs::write(directory.path().join(name), text).expect("written");
    }
    let output = Command::new(compiler)
        .args([
            "-g",
            "-Wl,--build-id=sha1",
            "-o",
            "program",
            "first.cc",
            "second.cc",
        ])
        .args(flags)
        .current_dir(directory.path())
        .output()
        .unwrap_or_else(|e| panic!("{compiler}: {e}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{compiler} {flags:?}: {said}");
    let path = directory.path().join("program");
    Program { directory, path }
}

/// Everything that is found by name, in words.
fn answers(program: &Path, files: DebugFiles) -> Vec<String> {
    let binary = Binary::open_with(program, Arc::new(files)).expect("a program");
    let mut found = Vec::new();
    for pattern in PATTERNS {
        for (what, functions) in [
            ("function", binary.dwarf_functions_matching(pattern)),
            ("copy", binary.inlined_matching(pattern)),
        ] {
            for f in functions.expect("sound") {
                let file = f.decl_file.unwrap_or_default();
                found.push(format!(
                    "{pattern}: {what} {} {:?} at {} {file}:{:?}",
                    f.name, f.linkage_name, f.entry, f.decl_line
                ));
            }
        }
    }
    let info = binary.debug_info().expect("debugging information");
    for name in [
        "struct Item",
        "shop::Kind",
        "Counter",
        "Base",
        "struct none",
    ] {
        let size = info
            .type_named(name, None)
            .and_then(|t| info.describe(t.id).ok())
            .map(|t| (t.name, t.size));
        found.push(format!("{name}: {size:?}"));
    }
    let globals = info.globals("stock", |_| true, binary.entry());
    found.push(format!(
        "{:?}",
        globals.iter().map(|g| &g.location).collect::<Vec<_>>()
    ));
    let types = info.types_matching(&Glob::new("C*"));
    let names = types.iter().filter_map(|t| info.describe(*t).ok()?.name);
    found.push(format!("{:?}", names.collect::<Vec<_>>()));
    found
}

fn searching(cache: Option<&Path>) -> DebugFiles {
    let cache = cache.map(|directory| IndexCache::new(directory.to_owned()));
    DebugFiles::default()
        .with_large_from(0)
        .with_index_cache(cache)
}

fn stored(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    found.sort();
    found
}

#[test]
fn all_ways_lead_to_the_same_names() {
    for (compiler, flags) in BUILDS {
        let program = compile(compiler, flags);
        let decoded = answers(&program.path, DebugFiles::default());
        let has = |wanted: &str| decoded.iter().any(|a| a.starts_with(wanted));
        // What the sources say, so that not all agree on nothing.
        for wanted in ["f: ", "_Z3addRKN4shop4ItemEi: ", "struct Item: Some"] {
            assert!(has(wanted), "{compiler} {flags:?}: {wanted}: {decoded:#?}");
        }
        assert!(
            has("twice<*>: copy twice<int> ")
                || compiler == "clang++"
                || flags.contains(&"-O0")
                || flags.contains(&"-flto"),
            "{decoded:#?}"
        );
        assert!(!has("nothing: "));
        assert_eq!(
            decoded,
            answers(&program.path, searching(None)),
            "{compiler} {flags:?}"
        );
        let cache = program.directory.path().join("cache");
        for turn in ["written", "read"] {
            let found = answers(&program.path, searching(Some(&cache)));
            assert_eq!(decoded, found, "{compiler} {flags:?}, index {turn}");
        }
        assert!(!stored(&cache).is_empty());
    }
}

#[test]
fn single_names_are_found_without_an_index_and_remembered() {
    let (compiler, flags) = BUILDS[1];
    let program = compile(compiler, flags);
    let cache = program.directory.path().join("cache");
    let ask = || {
        let files = Arc::new(searching(Some(&cache)));
        let binary = Binary::open_with(&program.path, files).expect("a program");
        let found = binary.dwarf_functions_matching("add").expect("sound");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].name, "add");
    };
    ask();
    let first = stored(&cache);
    assert_eq!(first.len(), 1, "{first:?}");
    let bytes = fs::read(&first[0]).expect("read");
    ask();
    assert_eq!(stored(&cache), first);
    assert_eq!(fs::read(&first[0]).expect("read"), bytes);
}

#[test]
fn damaged_indexes_are_made_anew() {
    let program = compile("g++", &["-O2"]);
    let decoded = answers(&program.path, DebugFiles::default());
    let cache = program.directory.path().join("cache");
    answers(&program.path, searching(Some(&cache)));
    let paths = stored(&cache);
    let sound: Vec<Vec<u8>> = paths.iter().map(|p| fs::read(p).expect("read")).collect();
    let damage: [Damage<'_>; 5] = [
        &|bytes| bytes.clear(),
        &|bytes| bytes.truncate(bytes.len() / 2),
        &|bytes| bytes[9] ^= 1,
        &|bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x40;
        },
        &|bytes| bytes.fill(0xff),
    ];
    for damage in damage {
        for (path, sound) in paths.iter().zip(&sound) {
            let mut bytes = sound.clone();
            damage(&mut bytes);
            fs::write(path, bytes).expect("written");
        }
        let found = answers(&program.path, searching(Some(&cache)));
        assert_eq!(decoded, found);
        for (path, sound) in paths.iter().zip(&sound) {
            assert_eq!(&fs::read(path).expect("read"), sound, "{}", path.display());
        }
    }
}

#[test]
fn many_may_write_and_read_at_a_time() {
    let program = compile("g++", &["-O2"]);
    let decoded = answers(&program.path, DebugFiles::default());
    let cache = program.directory.path().join("cache");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..3 {
                    let found = answers(&program.path, searching(Some(&cache)));
                    assert_eq!(decoded, found);
                }
            });
        }
    });
    let names = stored(&cache);
    assert!(
        names
            .iter()
            .all(|n| n.extension().is_some_and(|e| e == "names")),
        "{names:?}"
    );
}
