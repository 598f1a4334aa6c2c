//! From compiled handlers to code at an address: relocations against the run time, entry stubs.

use crate::error::LinkError;
use crate::state::{Symbol, Unit};
use cranelift_codegen::isa::TargetIsa;
use rayon::prelude::*;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Registers by number: general ones as x86 encodes them, vector ones xmm0 … xmm15.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Registers {
    /// General registers.
    pub general: u16,
    /// Vector registers (low 128 bits).
    pub vector: u16,
    /// The arithmetic flags.
    pub flags: bool,
}

impl Registers {
    /// Those in either.
    pub fn union(self, other: Registers) -> Registers {
        Registers {
            general: self.general | other.general,
            vector: self.vector | other.vector,
            flags: self.flags | other.flags,
        }
    }
}

/// What functions of the run time may change (callee-saved registers left out).
pub trait RuntimeClobbers {
    /// Those of one function.
    fn of(&self, function: &str) -> Registers;
}

/// The same for all functions: those that any of them changes.
impl RuntimeClobbers for Registers {
    fn of(&self, _: &str) -> Registers {
        *self
    }
}

/// Function by function, which spares trampolines the saving of vector registers.
impl<F: Fn(&str) -> Registers> RuntimeClobbers for F {
    fn of(&self, function: &str) -> Registers {
        self(function)
    }
}

/// How a handler learns the FS base, by which it knows its thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadPointer {
    /// The word at `%fs:0` is the FS base itself (System V ABI, TLS variant II): true of every thread of a program
    /// whose dynamic linker has set up its TLS. The cheapest.
    Word,
    /// `rdfsbase`, which also works before there is any TLS, where kernel and processor allow it.
    Register,
    /// A system call.
    SystemCall,
}

/// What code for a process depends on.
pub struct ProcessLink<'a, C = Registers> {
    /// Address in the process at which [`ProcessCode::bytes`] will stand.
    pub code: u64,
    /// Address of the arena in the process.
    pub arena: u64,
    /// Address of its thread table.
    pub thread_table: u64,
    /// Number of its process record.
    pub process: u32,
    /// How its threads are told apart.
    pub thread_pointer: ThreadPointer,
    /// Address in the process of a function of the run time, of [`STACK_TABLES`], or of its `frame_table` (see
    /// `runtime::frames`).
    pub symbol: &'a dyn Fn(&str) -> Option<u64>,
    /// What functions of the run time may change.
    pub runtime_clobbers: C,
}

/// How a trampoline runs a handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryForm {
    /// Call `address` with the frame in rdi and the site's number in esi, stack below the red zone; any alignment.
    Call {
        /// Address of the entry stub.
        address: u64,
        /// Registers of the program that the handler reads from the frame; `rip` it may read always. Vector registers
        /// stand behind the frame, 16 bytes each.
        reads: Registers,
        /// What the call changes. A general register among them that the handler assigns to has its new value in the
        /// frame afterwards.
        clobbers: Registers,
    },
    /// Call `address`, with the stack below the red zone; any alignment. It takes nothing and keeps all registers but those
    /// named.
    Leaf {
        /// Address of the entry stub.
        address: u64,
        /// What it changes.
        clobbers: Registers,
    },
}

/// Code for one process.
#[derive(Clone, Debug, Default)]
pub struct ProcessCode {
    /// To be written at [`ProcessLink::code`], readable and executable.
    pub bytes: Vec<u8>,
    /// By handler number; `None` for handlers of the tracer.
    pub entries: Vec<Option<EntryForm>>,
    /// By handler number, the address of a function `extern "C" fn(frame, site)` that runs it, whatever its form above;
    /// the frame must have every register, the vector registers behind it among them.
    pub stubs: Vec<Option<u64>>,
}

/// What [`ProcessLink::symbol`] is asked for the address of the process's `runtime::stack::table::Directory`.
pub const STACK_TABLES: &str = "stack_tables";

/// Makes the code of these units, by all processors when they are many, and by `other` compiler than their own, if one is
/// given. What fails is told when it is placed.
pub(crate) fn generate(
    units: &[Arc<Unit>],
    needed: &BTreeSet<usize>,
    other: Option<&dyn TargetIsa>,
) {
    const FEW: usize = 8;
    let needed: Vec<&Arc<Unit>> = needed
        .iter()
        .filter_map(|&index| units.get(index))
        .collect();
    let make = |unit: &Arc<Unit>| drop(unit.code_by(other));
    if needed.len() > FEW {
        needed.into_par_iter().for_each(make);
    } else {
        needed.into_iter().for_each(make);
    }
}

/// Units that handlers are made of, by number.
pub(crate) fn reachable(
    units: &[Arc<Unit>],
    roots: impl IntoIterator<Item = usize>,
) -> BTreeSet<usize> {
    let mut seen = BTreeSet::new();
    let mut rest: Vec<usize> = roots.into_iter().collect();
    while let Some(index) = rest.pop() {
        let Some(unit) = units.get(index).filter(|_| seen.insert(index)) else {
            continue;
        };
        rest.extend(unit.symbols.iter().filter_map(|symbol| match symbol {
            Symbol::Unit(other) => Some(*other),
            Symbol::Runtime(_) | Symbol::StackTables => None,
        }));
    }
    seen
}

/// Lays out these units from `base` on and fills in addresses: the code and where each unit begins.
pub(crate) fn place(
    units: &[Arc<Unit>],
    wanted: &BTreeSet<usize>,
    base: u64,
    resolve: &dyn Fn(&str) -> Option<u64>,
) -> Result<(Vec<u8>, HashMap<usize, u64>), LinkError> {
    let mut code = Vec::new();
    let mut addresses = HashMap::with_capacity(wanted.len());
    let wanted = || {
        wanted
            .iter()
            .filter_map(|&index| Some((index, units.get(index)?)))
    };
    for (index, unit) in wanted() {
        code.resize(code.len().next_multiple_of(16), 0xcc);
        addresses.insert(index, base + code.len() as u64);
        code.extend_from_slice(&unit.code()?.bytes);
    }
    for (index, unit) in wanted() {
        let Some(&start) = addresses.get(&index) else {
            continue;
        };
        for relocation in &unit.code()?.relocations {
            let target = match relocation.symbol {
                Symbol::Unit(index) => addresses.get(&index).copied(),
                Symbol::Runtime(name) => resolve(name),
                Symbol::StackTables => resolve(STACK_TABLES),
            };
            let Some(target) = target else {
                return Err(LinkError::MissingSymbol(format!("{:?}", relocation.symbol)));
            };
            let at = start - base + u64::from(relocation.offset);
            let value = target.wrapping_add_signed(relocation.addend);
            let bytes = if relocation.relative {
                // Only between units, which lie in one block of code.
                (value.wrapping_sub(base + at) as u32)
                    .to_le_bytes()
                    .to_vec()
            } else {
                value.to_le_bytes().to_vec()
            };
            if let Some(field) = code.get_mut(at as usize..at as usize + bytes.len()) {
                field.copy_from_slice(&bytes);
            }
        }
    }
    Ok((code, addresses))
}
