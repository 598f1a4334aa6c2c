//! Hands the place of the bundled sqlite source on to the tests.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if let Some(dir) = std::env::var_os("DEP_SQLITE3_INCLUDE") {
        println!("cargo:rustc-env=SQLITE_SOURCE={}", dir.to_string_lossy());
    }
}
