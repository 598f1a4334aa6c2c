//! The tapset library: files of script text that come with the program, and those of `-I` directories. Only files that
//! declare something that a script names are parsed.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::ast;
use crate::diagnostic::Diagnostic;
use crate::macros::MacroLibrary;
use crate::parser::{self, ParseOptions};
use crate::span::{FileId, SourceFile, SourceMap};

include!(concat!(env!("OUT_DIR"), "/tapset_index.rs"));

/// Where a library file stands.
enum State {
    /// In the executable, not looked at yet.
    Embedded,
    /// Parsed and waiting.
    Parsed(ast::File),
    /// Handed out.
    Loaded,
}

/// The library of one compilation.
pub struct Library {
    states: Vec<State>,
    functions: HashMap<String, Vec<usize>>,
    aliases: HashMap<String, Vec<usize>>,
    globals: HashMap<String, Vec<usize>>,
    /// The files of the built-in library that were handed out.
    built_in: HashSet<FileId>,
    options: ParseOptions,
}

impl Library {
    /// The built-in library. `options` are those of the user's script, whose arguments are the library's, too.
    pub fn new(options: &ParseOptions) -> Library {
        Library {
            states: EMBEDDED.iter().map(|_| State::Embedded).collect(),
            functions: HashMap::new(),
            aliases: HashMap::new(),
            globals: HashMap::new(),
            built_in: HashSet::new(),
            options: ParseOptions {
                is_tapset: true,
                ..options.clone()
            },
        }
    }

    /// Adds all `.stp` files of a directory and those below it (`-I`); returns what the parser says about them.
    pub fn add_directory(
        &mut self,
        directory: &Path,
        sources: &mut SourceMap,
    ) -> io::Result<Vec<Diagnostic>> {
        let mut diagnostics = Vec::new();
        let mut entries: Vec<_> = fs::read_dir(directory)?
            .filter_map(|e| e.ok().map(|e| e.path()))
            .collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                diagnostics.extend(self.add_directory(&path, sources)?);
            } else if path.extension().is_some_and(|e| e == "stp") {
                let text = fs::read_to_string(&path)?;
                diagnostics.extend(self.add(&path.to_string_lossy(), &text, sources));
            }
        }
        Ok(diagnostics)
    }

    /// Adds a library text; returns what the parser says about it.
    pub fn add(&mut self, name: &str, text: &str, sources: &mut SourceMap) -> Vec<Diagnostic> {
        let id = source(name, text, sources);
        let parsed = parser::parse(sources, id, &self.options);
        let at = self.states.len();
        for f in &parsed.file.functions {
            let files = self.functions.entry(f.name.text.clone()).or_default();
            files.push(at);
        }
        for g in parsed.file.globals.iter().filter(|g| !g.private) {
            let files = self.globals.entry(g.name.text.clone()).or_default();
            files.push(at);
        }
        for alias in &parsed.file.aliases {
            for c in alias.names.iter().filter_map(|n| n.components.first()) {
                let files = self.aliases.entry(c.name.text.clone()).or_default();
                files.push(at);
            }
        }
        self.states.push(State::Parsed(parsed.file));
        parsed.diagnostics
    }

    /// Whether a file is the built-in library's, and not of a user's directory.
    pub fn is_built_in(&self, file: FileId) -> bool {
        self.built_in.contains(&file)
    }

    /// Files of the built-in library that declare a function of that name.
    pub fn built_in_files_of_function(&self, name: &str) -> &'static [usize] {
        built_in(FUNCTIONS, name)
    }

    /// Files of the built-in library that declare a global of that name for all to see.
    pub fn built_in_files_of_global(&self, name: &str) -> &'static [usize] {
        built_in(GLOBALS, name)
    }

    /// Files that declare a function of that name.
    pub fn files_of_function(&self, name: &str) -> Vec<usize> {
        let own = self.functions.get(name).map(Vec::as_slice);
        built_in(FUNCTIONS, name)
            .iter()
            .chain(own.unwrap_or_default())
            .copied()
            .collect()
    }

    /// Files that declare a global of that name for all to see.
    pub fn files_of_global(&self, name: &str) -> Vec<usize> {
        let own = self.globals.get(name).map(Vec::as_slice);
        built_in(GLOBALS, name)
            .iter()
            .chain(own.unwrap_or_default())
            .copied()
            .collect()
    }

    /// Files that declare an alias whose first word is that name, which may have wildcards.
    pub fn files_of_alias(&self, first: &str) -> Vec<usize> {
        if !first.contains(['*', '?']) {
            let own = self.aliases.get(first).map(Vec::as_slice);
            return built_in(ALIASES, first)
                .iter()
                .chain(own.unwrap_or_default())
                .copied()
                .collect();
        }
        let matches = |name: &str| crate::sema::probe_points::glob(first, name);
        let mut files: Vec<usize> = ALIASES
            .iter()
            .filter(|(name, _)| matches(name))
            .flat_map(|(_, files)| files.iter().copied())
            .collect();
        let own = self.aliases.iter().filter(|(name, _)| matches(name));
        files.extend(own.flat_map(|(_, files)| files.iter().copied()));
        files.sort_unstable();
        files.dedup();
        files
    }

    /// The names of all functions.
    pub fn function_names(&self) -> impl Iterator<Item = &str> {
        let own = self.functions.keys().map(String::as_str);
        FUNCTIONS.iter().map(|(name, _)| *name).chain(own)
    }

    /// The first words of all aliases.
    pub fn alias_names(&self) -> impl Iterator<Item = &str> {
        let own = self.aliases.keys().map(String::as_str);
        ALIASES.iter().map(|(name, _)| *name).chain(own)
    }

    /// A file's tree and what the parser says about it; `None` when it was handed out before.
    pub fn load(
        &mut self,
        file: usize,
        sources: &mut SourceMap,
    ) -> Option<(ast::File, Vec<Diagnostic>)> {
        let state = self.states.get_mut(file)?;
        match std::mem::replace(state, State::Loaded) {
            State::Loaded => None,
            State::Parsed(tree) => Some((tree, Vec::new())),
            State::Embedded => {
                let (name, text) = EMBEDDED.get(file)?;
                let id = source(name, text, sources);
                self.built_in.insert(id);
                let parsed = parser::parse(sources, id, &self.options);
                Some((parsed.file, parsed.diagnostics))
            }
        }
    }
}

/// The texts of the built-in library, with their names.
pub fn embedded() -> impl Iterator<Item = (&'static str, &'static str)> {
    EMBEDDED.iter().copied()
}

/// Whether a text is one of the built-in library's, and not of a user's directory.
pub(crate) fn is_embedded(file: &SourceFile) -> bool {
    let mut texts = EMBEDDED.iter();
    file.is_tapset && texts.any(|(name, text)| *name == file.name && **text == *file.text)
}

fn built_in(table: &'static [(&str, &[usize])], name: &str) -> &'static [usize] {
    match table.binary_search_by(|(key, _)| (*key).cmp(name)) {
        Ok(at) => table[at].1,
        Err(_) => &[],
    }
}

fn source(name: &str, text: &str, sources: &mut SourceMap) -> FileId {
    sources.add(SourceFile {
        name: name.to_string(),
        text: text.into(),
        is_tapset: true,
    })
}

/// The macros that the library and the `.stpm` files of directories (`-I`) define for all scripts. Directories that
/// cannot be read are reported when their `.stp` files are looked for.
pub fn macros(
    sources: &mut SourceMap,
    options: &ParseOptions,
    directories: &[PathBuf],
) -> MacroLibrary {
    let mut library = MacroLibrary::default();
    for (name, text) in EMBEDDED.iter().filter(|(name, _)| name.ends_with(".stpm")) {
        let id = source(name, text, sources);
        library.add(sources, id, options);
    }
    for directory in directories {
        let mut paths: Vec<PathBuf> = fs::read_dir(directory)
            .into_iter()
            .flatten()
            .filter_map(|e| e.ok().map(|e| e.path()))
            .filter(|p| p.extension().is_some_and(|e| e == "stpm"))
            .collect();
        paths.sort();
        for path in paths {
            if let Ok(text) = fs::read_to_string(&path) {
                let id = source(&path.to_string_lossy(), &text, sources);
                library.add(sources, id, options);
            }
        }
    }
    library
}
