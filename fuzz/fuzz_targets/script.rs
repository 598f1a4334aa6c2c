//! Any text is parsed, and, when it parses, analysed; every diagnostic can be shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use script::compile::{CompileOptions, compile};
use script::diagnostic::render_all;
use script::span::{SourceFile, SourceMap};

fuzz_target!(|text: &str| {
    let mut sources = SourceMap::default();
    let file = sources.add(SourceFile {
        name: "<input>".to_owned(),
        text: text.into(),
        is_tapset: false,
    });
    let options = CompileOptions {
        args: vec!["7".to_owned(), "word".to_owned()],
        last_pass: 2,
        ..CompileOptions::default()
    };
    let compilation = compile(sources, &[file], &options);
    render_all(&compilation.diagnostics, &compilation.sources, false);
});
