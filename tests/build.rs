//! Hands the place of the bundled sqlite source on to the tests, and compiles it once with optimisation and debugging
//! information: that takes a compiler longer than a test should run.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let Some(dir) = std::env::var_os("DEP_SQLITE3_INCLUDE") else {
        return;
    };
    let source = Path::new(&dir).join("sqlite3.c");
    let out = std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    let object = PathBuf::from(out).join("sqlite3.o");
    let mut compiler = Command::new("gcc");
    compiler.args(["-O2", "-g", "-c", "-o"]).arg(&object);
    let status = compiler.arg(&source).status().expect("gcc can be started");
    assert!(status.success(), "{} can't be compiled", source.display());
    println!("cargo:rustc-env=SQLITE_SOURCE={}", dir.to_string_lossy());
    println!("cargo:rustc-env=SQLITE_OBJECT={}", object.display());
}
