//! Compiles the sources of crate `runtime` a second time: as a position-independent shared object without libc, std,
//! TLS and writable data, for the host's own target, on stable Rust.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    let source = PathBuf::from("../runtime/src");
    println!("cargo:rerun-if-changed={}", source.display());
    println!("cargo:rerun-if-changed=build.rs");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default()).join("runtime.so");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let linker_args = [
        "-nostdlib",
        "-nostartfiles",
        "-Wl,--no-undefined",
        "-Wl,-Bsymbolic",
        "-Wl,-z,noseparate-code",
        "-Wl,-z,norelro",
        "-Wl,--build-id=none",
        "-Wl,--gc-sections",
    ];
    let mut command = Command::new(rustc);
    command
        .arg(source.join("lib.rs"))
        .args([
            "--crate-name",
            "spile_runtime",
            "--crate-type",
            "cdylib",
            "--edition",
            "2024",
            "--cfg",
            "spile_blob",
        ])
        .args([
            "--cap-lints",
            "allow",
            "-C",
            "panic=abort",
            "-C",
            "opt-level=3",
            "-C",
            "codegen-units=1",
            "-C",
            "lto=fat",
        ])
        .args([
            "-C",
            "relocation-model=pic",
            "-C",
            "debuginfo=0",
            "-C",
            "strip=debuginfo",
            "-C",
            "overflow-checks=off",
        ])
        // Handlers save the vector registers that the runtime uses: it had better use none.
        .args([
            "-C",
            "no-vectorize-loops",
            "-C",
            "no-vectorize-slp",
            "-C",
            "force-unwind-tables=no",
        ])
        // An indirect jump would hide what follows from the analysis of clobbered registers.
        .args(["-C", "jump-tables=no"])
        .args(
            linker_args
                .iter()
                .flat_map(|a| ["-C".to_string(), format!("link-arg={a}")]),
        )
        .arg("-o")
        .arg(&out);
    // Flags meant for the host build (sanitizers, coverage) do not apply to code that runs in another process.
    command
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    match command.status() {
        Ok(status) if status.success() => {}
        Ok(status) => fail(&format!("rustc ended with {status}")),
        Err(error) => fail(&format!("cannot run rustc: {error}")),
    }
}

fn fail(message: &str) -> ! {
    eprintln!("building the runtime blob: {message}");
    std::process::exit(1)
}
