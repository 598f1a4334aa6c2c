//! Lists what this crate finds in a binary: `cargo run -p symbols --example list -- FILE [GLOB]`.

use std::path::Path;
use std::time::Instant;
use symbols::{Binary, LibraryEnvironment};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: list FILE [GLOB]")?;
    let glob = arguments.next().unwrap_or_else(|| "*".into());
    let start = Instant::now();
    let binary = Binary::open(Path::new(&path))?;
    println!(
        "{:?} entry {} interpreter {:?} needed {:?}",
        binary.kind(),
        binary.entry(),
        binary.interpreter(),
        binary.needed()
    );
    println!(
        "libraries {:?}",
        binary.resolve_libraries(&LibraryEnvironment::from_process())
    );
    for mark in binary.marks() {
        println!(
            "mark {}:{} {} {:?} {} {:?}",
            mark.provider, mark.name, mark.pc, mark.semaphore, mark.raw_arguments, mark.arguments
        );
    }
    for error in binary.mark_errors() {
        println!("{error}");
    }
    for function in binary.functions_matching(&glob) {
        println!(
            "function {} {} {} {:?} {:?} {:?}",
            function.address,
            function.size,
            function.name,
            function.kind,
            function.binding,
            function.source
        );
    }
    for function in binary.dwarf_functions_matching(&glob)? {
        let at = format!(
            "{}:{}",
            function.decl_file.as_deref().unwrap_or("?"),
            function.decl_line.unwrap_or(0)
        );
        println!(
            "dwarf {}@{at} entry={} {}..{} pc={} external={}",
            function.name,
            function.entry,
            function.low,
            function.high,
            function.probe_address,
            function.external
        );
        for parameter in binary.parameters(&function)? {
            println!(
                "    ${}:{} {:?} {:?}",
                parameter.name, parameter.type_name, parameter.class, parameter.location
            );
        }
    }
    println!(
        "{} functions, {} ranges, {} landing pads, {} code pointers",
        binary.functions().len(),
        binary.function_ranges().len(),
        binary.landing_pads().len(),
        binary.code_pointers().len()
    );
    println!("{:?}", start.elapsed());
    Ok(())
}
