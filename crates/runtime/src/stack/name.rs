//! Text for addresses, as SystemTap's `usym…` functions and backtraces give it.

use super::table::Directory;
use crate::string::Buffer;

/// What is told of an address.
pub mod style {
    /// The symbol's name, or the address: `usymname`.
    pub const NAME: u64 = 0;
    /// `name+0xOFFSET/0xSIZE [module]`: `usymdata`.
    pub const DATA: u64 = 1;
    /// `name+0xOFFSET [module]`: the lines of `sprint_ubacktrace`.
    pub const SIMPLE: u64 = 2;
    /// The module's path: `umodname`.
    pub const MODULE: u64 = 3;
    /// The source line's number: `usymline`.
    pub const LINE: u64 = 4;
    /// The source file's path: `usymfile`.
    pub const FILE: u64 = 5;
    /// `file:line`: `usymfileline`.
    pub const FILE_LINE: u64 = 6;
    /// The module's build-id in hexadecimal digits: `umodbuildid`.
    pub const BUILD_ID: u64 = 7;
}

fn address_text(address: u64, to: &mut Buffer) {
    to.put(b"0x").hex(address, 0);
}

/// Writes what `style` asks for; the address itself when that is not known. False when no module holds the address.
///
/// # Safety
/// The tables that the directory names are mapped.
pub unsafe fn describe(directory: &Directory, address: u64, style: u64, to: &mut Buffer) -> bool {
    // SAFETY: by the caller's promise.
    let module = unsafe { directory.module(address) };
    let found = module.and_then(|m| Some((m, u32::try_from(address - m.start).ok()?)));
    let Some((module, offset)) = found else {
        address_text(address, to);
        return false;
    };
    let table = &module.table;
    match style {
        style::NAME => match table.symbol(offset) {
            Some((name, _, _)) => {
                to.put(name);
            }
            None => address_text(address, to),
        },
        style::MODULE => {
            to.put(table.path());
        }
        style::BUILD_ID => {
            for &byte in table.build_id() {
                to.hex(u64::from(byte), 2);
            }
        }
        style::LINE | style::FILE | style::FILE_LINE => match table.line(offset) {
            Some((file, line)) => {
                if style != style::LINE {
                    to.put(file);
                }
                if style == style::FILE_LINE {
                    to.push(b':');
                }
                if style != style::FILE {
                    to.decimal(i64::from(line), 0);
                }
            }
            None => address_text(address, to),
        },
        _ => {
            let with_size = style == style::DATA;
            match table.symbol(offset) {
                Some((name, distance, size)) => {
                    to.put(name).put(b"+0x").hex(u64::from(distance), 0);
                    if with_size {
                        to.put(b"/0x").hex(u64::from(size), 0);
                    }
                    to.put(b" [").put(table.path()).push(b']');
                }
                None => {
                    address_text(address, to);
                    to.put(b" [").put(table.path());
                    to.put(b"+0x").hex(u64::from(offset), 0);
                    if with_size {
                        to.put(b"/0x").hex(module.end - module.start, 0);
                    }
                    to.push(b']');
                }
            }
        }
    }
    true
}
