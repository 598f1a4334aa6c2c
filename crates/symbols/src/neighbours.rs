//! Binaries that are loaded together with another one and may call its functions.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::binary::Binary;

/// The modules of a process: a program and its libraries.
#[derive(Debug)]
pub struct LoadedTogether(Vec<Arc<Binary>>);

impl LoadedTogether {
    /// Makes modules known to each other for as long as the result lives: what only the caller of a function knows of a
    /// value is then looked for in the calls of all.
    pub fn acquaint(modules: Vec<Arc<Binary>>) -> Arc<LoadedTogether> {
        let together = Arc::new(LoadedTogether(modules));
        for module in &together.0 {
            module.neighbours().add(&together);
        }
        together
    }
}

/// The processes that a binary is known to be in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Neighbours(Arc<Mutex<Vec<Weak<LoadedTogether>>>>);

impl Neighbours {
    fn add(&self, process: &Arc<LoadedTogether>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|k| k.strong_count() > 0);
        known.push(Arc::downgrade(process));
    }

    /// All modules of the processes, each once, in the order of their addresses in memory.
    pub fn all(&self) -> Vec<Arc<Binary>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let processes = known.iter().filter_map(Weak::upgrade);
        let mut found: Vec<_> = processes.flat_map(|p| p.0.clone()).collect();
        found.sort_by_key(Arc::as_ptr);
        found.dedup_by_key(|module| Arc::as_ptr(module));
        found
    }
}
