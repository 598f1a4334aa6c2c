//! What is inserted around the system calls of a module.

use super::snippet_of;
use crate::resolve::Around;
use crate::system_calls;
use crate::tracee::{Installed, Placement, TraceeError};
use codegen::Compiled;
use inject::{Image, Insertion, Process};

/// The insertions of a placement that is around every system call of a module.
///
/// # Errors
/// As [`system_calls::in_threads`].
pub(super) fn insertions(
    process: &mut Process,
    installed: Option<&Installed>,
    compiled: &Compiled,
    image: &Image,
    placement: &Placement,
    around: Around,
) -> Result<Vec<Insertion>, TraceeError> {
    let (handler, number) = (placement.handler, placement.number);
    let entries = installed.map(|installed| &installed.entries);
    let run = match around {
        Around::Before | Around::After => snippet_of(entries, handler, number)?,
        Around::ThreadBegin | Around::ThreadEnd => {
            let stub = installed.and_then(|installed| installed.stubs.get(&handler).copied());
            let begins = around == Around::ThreadBegin;
            system_calls::in_threads(process, stub, begins, number)?
        }
    };
    // What a return handler uses of the call before it is made.
    let save = match compiled.companion(handler) {
        Some(companion) => Some(snippet_of(entries, companion, number)?),
        None => None,
    };
    let mut insertions = Vec::new();
    for (site, after) in system_calls::points(image, around) {
        if let Some(save) = &save {
            insertions.push(system_calls::insertion(&site, false, save.clone()));
        }
        insertions.push(system_calls::insertion(&site, after, run.clone()));
    }
    Ok(insertions)
}
