//! Labels of functions: where a `goto` may lead.

use super::debug_info::DebugInfo;
use super::function_entry::{decl_file, entry_address};
use super::scopes;
use super::units::Place;
use super::{DwarfFunction, Label};
use crate::address::ImageAddr;
use crate::binary::SymbolsError;

/// Blocks within blocks deeper than this are left alone.
const DEPTH_LIMIT: usize = 64;

impl<'b> DebugInfo<'b> {
    /// The labels of a function or of an inlined copy that have code, in the order of the source; not those of copies
    /// that were inlined into it.
    ///
    /// # Errors
    /// When an entry can't be decoded.
    pub fn labels(&self, function: &DwarfFunction) -> Result<Vec<Label>, SymbolsError> {
        let id = function.id;
        let failed = |e| self.units.error(id.unit + id.die, e);
        let place = self.units.place(id).map_err(failed)?;
        let mut found = Vec::new();
        self.labels_in(&place, DEPTH_LIMIT, &mut found)
            .map_err(failed)?;
        Ok(found)
    }

    fn labels_in(
        &self,
        scope: &Place<'b>,
        depth: usize,
        found: &mut Vec<Label>,
    ) -> gimli::Result<()> {
        let Some(depth) = depth.checked_sub(1) else {
            return Ok(());
        };
        for child in scopes::members(scope)? {
            match child.entry.tag() {
                gimli::DW_TAG_lexical_block
                | gimli::DW_TAG_try_block
                | gimli::DW_TAG_catch_block => self.labels_in(&child, depth, found)?,
                gimli::DW_TAG_label => {
                    let name = self.units.inherited_string(&child, gimli::DW_AT_name);
                    let (Some(name), Some(address)) = (name, entry_address(&child)) else {
                        continue;
                    };
                    let address = ImageAddr(address);
                    if self.units.file.loaded.in_executable_segment(address) {
                        found.push(Label {
                            name,
                            address,
                            file: decl_file(&self.units, &child),
                            line: self
                                .units
                                .inherited(&child, gimli::DW_AT_decl_line)
                                .and_then(|(_, v)| v.udata_value()),
                        });
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}
