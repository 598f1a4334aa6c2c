//! Names for the addresses that print_ubacktrace() and its kin record: looked up when the record is printed.
//!
//! Formats: function::print_ubacktrace(3stap), function::usymdata(3stap), and what stap 4.8 prints.

use inject::StackModule;
use runtime::stack::backtrace::layout;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::ops::Range;
use std::sync::Arc;
use symbols::{Binary, ImageAddr, LineIndex, SymbolTable};

/// A module of a process, by which addresses are named also after it has gone.
#[derive(Debug, Clone)]
struct NamedModule {
    range: Range<u64>,
    bias: u64,
    path: String,
    binary: Arc<Binary>,
}

/// What is known of one file.
#[derive(Debug, Default)]
struct FileNames {
    symbols: Option<SymbolTable>,
    lines: Option<LineIndex>,
}

/// The modules of all processes of a session.
#[derive(Debug, Default)]
pub struct StackNames {
    /// By the number of the process's record; what was loaded later stands later.
    processes: BTreeMap<u32, Vec<NamedModule>>,
    files: HashMap<*const Binary, FileNames>,
}

impl StackNames {
    /// A process has a record that another one may have had.
    pub fn begin(&mut self, process: u32) {
        self.processes.remove(&process);
    }

    /// Learns of modules. What was known at their addresses before is not asked for any more.
    pub fn learn(&mut self, process: u32, modules: &[StackModule]) {
        let known = self.processes.entry(process).or_default();
        for module in modules.iter().filter(|m| !m.range.is_empty()) {
            if known
                .iter()
                .any(|k| k.range == module.range && Arc::ptr_eq(&k.binary, &module.binary))
            {
                continue;
            }
            let segments = module.binary.load_segments().iter();
            let low = segments.map(|s| s.vaddr.0 & !4095).min().unwrap_or(0);
            known.push(NamedModule {
                range: module.range.clone(),
                bias: module.range.start.wrapping_sub(low),
                path: module.path.to_string_lossy().into_owned(),
                binary: Arc::clone(&module.binary),
            });
        }
    }

    fn module(&self, process: u32, address: u64) -> Option<&NamedModule> {
        // Handlers of the tracer speak of addresses without saying whose they are.
        let others = || self.processes.values().flatten().rev();
        match self.processes.get(&process) {
            Some(modules) => modules.iter().rev().find(|m| m.range.contains(&address)),
            None => others().find(|m| m.range.contains(&address)),
        }
    }

    /// Whether some module of the process holds the address.
    pub fn knows(&self, process: u32, address: u64) -> bool {
        self.module(process, address).is_some()
    }

    /// The text of a record.
    pub fn print(&mut self, process: u32, how: u64, addresses: &[u64]) -> Vec<u8> {
        let mut out = String::new();
        for &address in addresses {
            self.line(process, how, address, &mut out);
        }
        out.into_bytes()
    }

    fn line(&mut self, process: u32, how: u64, address: u64, out: &mut String) {
        // Writing to a String can't fail.
        if how != layout::BRIEF {
            let _ = write!(out, " {address:#x}");
        }
        let Some(module) = self.module(process, address).cloned() else {
            let _ = match how {
                layout::BRIEF => writeln!(out, "{address:#x}"),
                layout::SYMBOLS => writeln!(out, " : {address:#x}"),
                _ => writeln!(out),
            };
            return;
        };
        let image_address = ImageAddr(address.wrapping_sub(module.bias));
        let names = self.files.entry(Arc::as_ptr(&module.binary)).or_default();
        let place = if how == layout::FILE_LINE {
            let lines = names
                .lines
                .get_or_insert_with(|| module.binary.line_index());
            lines.at(image_address)
        } else {
            None
        };
        let symbols = names
            .symbols
            .get_or_insert_with(|| module.binary.symbol_table());
        let path = &module.path;
        let _ = match symbols.at(image_address) {
            Some(s) if how == layout::BRIEF => writeln!(out, "{}+{:#x}", s.name, s.offset),
            Some(s) => {
                let _ = write!(out, " : {}+{:#x}/{:#x}", s.name, s.offset, s.size);
                if let Some(place) = place {
                    let _ = write!(out, " at {}:{}", place.file, place.line);
                }
                writeln!(out, " [{path}]")
            }
            None if how == layout::BRIEF => writeln!(out, "{address:#x}"),
            None => {
                if how == layout::SYMBOLS {
                    let _ = write!(out, " : {address:#x}");
                }
                let offset = address - module.range.start;
                let size = module.range.end - module.range.start;
                writeln!(out, " [{path}+{offset:#x}/{size:#x}]")
            }
        };
    }
}
