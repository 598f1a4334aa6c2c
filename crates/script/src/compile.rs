//! From script texts to a typed program.

use std::path::PathBuf;

use crate::ast;
use crate::diagnostic::{Diagnostic, Severity};
use crate::ir;
use crate::parser::{self, ParseOptions};
use crate::preprocess::Environment;
use crate::sema::unplaced::{Definition, Unplaced};
use crate::sema::{self, elaborated::Elaborated};
use crate::span::{FileId, SourceMap};
use crate::tapset::{self, Library};

/// How a script is to be compiled. The options are those of stap(1).
#[derive(Clone, Debug, Default)]
pub struct CompileOptions {
    /// Arguments after the script: `$1`, `@1`, `$#`.
    pub args: Vec<String>,
    /// `-G name=value`, in order.
    pub initial_values: Vec<(String, String)>,
    /// What `%( … %)` is decided from.
    pub environment: Environment,
    /// `-g`.
    pub guru: bool,
    /// `-w`: no warnings.
    pub suppress_warnings: bool,
    /// `-u`: leave out the passes that drop what has no effect.
    pub unoptimized: bool,
    /// `--no-global-var-display`: globals that are never read are not shown at the end.
    pub hide_globals: bool,
    /// `--monitor`: with what shows globals and switches probes.
    pub monitor: bool,
    /// `-I`: further directories of library files.
    pub tapset_dirs: Vec<PathBuf>,
    /// The pass after which the caller stops (`-p`); from 2 on the script is analysed.
    pub last_pass: u8,
    /// What is known of target expressions in `@defined`, by their places ([`Unplaced::questions`]).
    pub definitions: Vec<Definition>,
}

/// What became of a script.
#[derive(Debug, Default)]
pub struct Compilation {
    /// The trees of the user's files, which `-p1` prints; later passes use them up.
    pub files: Vec<ast::File>,
    /// All texts, library files included.
    pub sources: SourceMap,
    /// The program; none when there were errors or only pass 1 was wanted.
    pub program: Option<ir::Program>,
    /// What `-p2` prints.
    pub elaborated: Option<Elaborated>,
    /// Errors and warnings in order.
    pub diagnostics: Vec<Diagnostic>,
    /// So many of the last of these are warnings about a program whose points have all been found, which is not known yet.
    pub deferred: usize,
    /// What is known of the points of a script with errors.
    pub unplaced: Option<Unplaced>,
    /// Nothing was left of the script after preprocessing.
    pub empty: bool,
    /// The analysis came to its end; errors are of the translation.
    translated: bool,
    /// The script was more than blanks and comments before preprocessing; told only of one that is empty after it.
    pub stripped: bool,
}

impl Compilation {
    /// How many files of the library were read.
    pub fn library_scripts(&self) -> usize {
        self.sources.files().iter().filter(|f| f.is_tapset).count()
    }

    /// Adds what is told of `missing` points of a script with errors, for each handler by its number.
    pub fn add_missing(&mut self, missing: Vec<(usize, Vec<Diagnostic>)>) {
        if let Some(unplaced) = self.unplaced.as_ref().filter(|_| !missing.is_empty()) {
            let diagnostics = std::mem::take(&mut self.diagnostics);
            self.diagnostics = unplaced.with_missing(diagnostics, missing);
            self.translated = false;
        }
    }

    /// The pass that failed, if one did.
    pub fn failed_pass(&self) -> Option<u8> {
        let parse = self
            .diagnostics
            .iter()
            .any(|d| d.severity == Severity::ParseError);
        if parse || self.empty {
            return Some(1);
        }
        self.diagnostics
            .iter()
            .any(Diagnostic::is_error)
            .then_some(if self.translated { 3 } else { 2 })
    }
}

/// Compiles the user's texts, which are those already in `sources`.
pub fn compile(mut sources: SourceMap, users: &[FileId], options: &CompileOptions) -> Compilation {
    let mut parse = ParseOptions {
        args: options.args.clone(),
        environment: options.environment.clone(),
        macros: Default::default(),
        is_tapset: false,
        guru: options.guru,
    };
    if users.iter().any(|id| sources.file(*id).text.contains('@')) {
        let library_options = ParseOptions {
            args: Vec::new(),
            is_tapset: true,
            ..parse.clone()
        };
        parse.macros = tapset::macros(&mut sources, &library_options, &options.tapset_dirs);
    }
    let mut out = Compilation::default();
    let mut used = vec![false; options.args.len()];
    for &id in users {
        let parsed = parser::parse(&sources, id, &parse);
        for (u, now) in used.iter_mut().zip(&parsed.used_args) {
            *u |= now;
        }
        out.empty |= parsed.empty;
        out.stripped |= parsed.stripped;
        out.diagnostics.extend(parsed.diagnostics);
        sources.add_expansions(parsed.expansions);
        out.files.push(parsed.file);
    }
    let failed = out.empty || out.diagnostics.iter().any(Diagnostic::is_error);
    if !failed && options.last_pass > 1 {
        let mut library = Library::new(&parse);
        for directory in &options.tapset_dirs {
            // Mistakes in library files matter only to scripts that need them, as for stap.
            if let Err(e) = library.add_directory(directory, &mut sources) {
                let message = format!(
                    "cannot read tapset directory '{}': {e}",
                    directory.display()
                );
                out.diagnostics
                    .push(Diagnostic::new(Severity::Warning, message, None));
            }
        }
        let request = sema::Request {
            files: std::mem::take(&mut out.files),
            initial: &options.initial_values,
            optimize: !options.unoptimized,
            guru: options.guru,
            compiled: options.last_pass > 2,
            definitions: &options.definitions,
        };
        let analysis = sema::analyse(request, &mut sources, &mut library);
        let program = match options.monitor {
            true => analysis.program.map(crate::monitor::instrument),
            false => analysis.program,
        };
        out.program = match options.hide_globals {
            true => program,
            false => program.map(crate::display::add_probes),
        };
        out.elaborated = analysis.elaborated;
        if let Some(elaborated) = out.elaborated.as_mut().filter(|_| options.hide_globals) {
            elaborated.hide_globals();
        }
        out.translated = analysis.translated;
        out.unplaced = analysis.unplaced;
        if out.program.is_some() {
            out.deferred = analysis.diagnostics.len() - analysis.resolved;
        }
        out.diagnostics.extend(analysis.diagnostics);
        // They are all looked at where they become globals of the library.
        let all_used = users
            .iter()
            .any(|id| names_arguments(&sources.file(*id).text));
        for (i, used) in used.iter().enumerate() {
            if !used && !all_used {
                let message = format!("unused command line option ${n}/@{n}", n = i + 1);
                out.diagnostics
                    .push(Diagnostic::new(Severity::Warning, message, None));
                out.deferred += usize::from(out.program.is_some());
            }
        }
    }
    if options.suppress_warnings {
        out.diagnostics.retain(Diagnostic::is_error);
        out.deferred = 0;
    }
    out.sources = sources;
    out
}

/// Whether a text has one of the library's globals `argc`, `argv` and `argv_1` to `argv_32` as a word.
fn names_arguments(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut words = text.split(|c| !is_word(c));
    words.any(|word| word == "argc" || word == "argv" || word.starts_with("argv_"))
}
