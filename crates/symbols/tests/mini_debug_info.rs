//! MiniDebugInfo: a stripped program's functions by the symbols in `.gnu_debugdata`, and damage there.

use std::path::Path;
use std::process::Command;
use symbols::Binary;

fn tool(name: &str, arguments: &[&str], directory: &Path) {
    let status = Command::new(name)
        .args(arguments)
        .current_dir(directory)
        .status()
        .unwrap_or_else(|e| panic!("{name} is needed: {e}"));
    assert!(status.success(), "{name} {arguments:?}");
}

/// A program stripped of all but its dynamic symbols, with the others in `.gnu_debugdata`.
fn stripped(directory: &Path) {
    let source = "static __attribute__((noinline)) int hidden(int n) { return n * 3; }\n\
                  int main(int c, char **v) { return hidden(c); }\n";
    std::fs::write(directory.join("p.c"), source).expect("write");
    tool("cc", &["-O1", "-fno-ipa-cp", "-o", "p", "p.c"], directory);
    tool("cp", &["p", "mini"], directory);
    tool("xz", &["mini"], directory);
    tool("strip", &["p"], directory);
    let add = ["--add-section", ".gnu_debugdata=mini.xz", "p", "q"];
    tool("objcopy", &add, directory);
}

#[test]
fn functions_of_a_stripped_program_have_names() {
    let directory = tempfile::tempdir().expect("a directory");
    stripped(directory.path());
    let plain = Binary::open(&directory.path().join("p")).expect("a program");
    assert!(plain.functions_matching("hidden").is_empty());
    let binary = Binary::open(&directory.path().join("q")).expect("a program");
    let found = binary.functions_matching("hidden");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].source, symbols::FunctionSource::Debugdata);
    assert!(binary.is_code(found[0].address));
    let table = binary.symbol_table();
    assert_eq!(table.at(found[0].address).map(|s| s.name), Some("hidden"));
}

#[test]
fn damage_in_it_is_as_if_it_were_not_there() {
    let directory = tempfile::tempdir().expect("a directory");
    stripped(directory.path());
    let bytes = std::fs::read(directory.path().join("mini.xz")).expect("read");
    for (from, to) in [(0, 40), (40, bytes.len())] {
        let mut damaged = bytes.clone();
        for byte in &mut damaged[from..to] {
            *byte ^= 0x55;
        }
        std::fs::write(directory.path().join("bad.xz"), &damaged).expect("write");
        let add = ["--add-section", ".gnu_debugdata=bad.xz", "p", "r"];
        tool("objcopy", &add, directory.path());
        let binary = Binary::open(&directory.path().join("r")).expect("a program");
        assert!(binary.functions_matching("hidden").is_empty());
    }
}
