//! How a function's return is noticed: at its own exits, or, where they can't all be told or patched, by another return
//! address.

use crate::tracee::TraceeError;
use codegen::EntryForm;
use inject::arch::{ControlFlow, ExitKind, RegisterSet, ReturnTrampoline};
use inject::snippet::{Snippet, SnippetCode};
use inject::{Image, Insertion, Point, Process};
use rayon::prelude::*;
use runtime::frames::{self, FrameTable, ReturnSite};
use std::collections::{HashMap, HashSet};
use std::mem::offset_of;
use std::ops::Range;
use symbols::ImageAddr;

/// Where a function is left.
#[derive(Debug, Default)]
pub struct Exits {
    /// Before its `ret`s: the handler runs there.
    pub returns: Vec<Point>,
    /// Before its jumps to functions that return in its place: the handler runs when they do.
    pub jumps: Vec<Point>,
}

/// The exits of a function, when they are all known.
///
/// # Errors
/// Why they are not.
fn exits(flow: &ControlFlow) -> Result<Exits, String> {
    let known = flow.exits.as_ref().map_err(ToString::to_string)?;
    let mut exits = Exits::default();
    for exit in known {
        match exit.kind {
            ExitKind::Return => exits.returns.push(Point::exit(exit)),
            ExitKind::TailCall(_) => exits.jumps.push(Point::exit(exit)),
        }
    }
    Ok(exits)
}

/// Finds out which functions of a process get along with another return address on their stack.
struct Bearing<'a> {
    images: &'a [Image],
    /// What matters of the functions that others jump to.
    known: HashMap<u64, Option<Bearer>>,
}

#[derive(Clone, Debug)]
struct Bearer {
    entered_by_call: bool,
    use_at: Option<u64>,
    jumps_to: Vec<u64>,
}

impl<'a> Bearing<'a> {
    /// How many functions that end in a jump to the next one are looked at, beginning with one.
    const MOST: usize = 64;

    /// Nothing is known yet.
    pub fn new(images: &'a [Image]) -> Self {
        Bearing {
            images,
            known: HashMap::new(),
        }
    }

    /// Whether a function bears another return address, and those that return in its place.
    ///
    /// # Errors
    /// Why it does not.
    pub fn of(&mut self, process: &Process, flow: &ControlFlow) -> Result<(), String> {
        if let Some(at) = flow.return_address_use {
            return Err(format!("it uses its own return address at {at:#x}"));
        }
        self.of_jumps(process, flow)
    }

    /// Whether the function bears another return address to which an entry of a procedure linkage table leads.
    ///
    /// # Errors
    /// Why it does not, or that it can't be told which one it is.
    pub fn of_linkage(&mut self, process: &Process, at: u64, name: &str) -> Result<(), String> {
        let bound = through_linkage(process, self.images, at);
        let is_here = |image: &&Image| image.range().contains(&at);
        let own = self.images.iter().find(is_here);
        // One that is not bound yet leads back to its own module.
        let is_bound = bound != at && own.is_none_or(|image| !image.range().contains(&bound));
        let targets: Vec<u64> = if is_bound {
            vec![bound]
        } else {
            let named = self
                .images
                .iter()
                .filter_map(|image| image.function(name).ok());
            named.map(|function| function.address()).collect()
        };
        if targets.is_empty() {
            return Err(format!("nobody knows which {name} it leads to"));
        }
        self.follow(process, targets)
    }

    /// Whether the functions that return in a function's place bear another return address.
    ///
    /// # Errors
    /// Why they do not.
    pub fn of_jumps(&mut self, process: &Process, flow: &ControlFlow) -> Result<(), String> {
        // What it leaves the stack to as it found it may be known to be called.
        let mut is_called = flow.entered_by_call;
        if !is_called && flow.is_balanced {
            let mut targets = flow.jumps_to.iter();
            is_called = targets.any(|&target| {
                self.bearer(process, target)
                    .is_some_and(|bearer| bearer.entered_by_call)
            });
        }
        if !is_called {
            return Err("its return address is not on top of the stack at its entry".to_owned());
        }
        self.follow(process, flow.jumps_to.clone())
    }

    /// Whether functions that are jumped to, and those that they jump to, bear another return address.
    fn follow(&mut self, process: &Process, mut pending: Vec<u64>) -> Result<(), String> {
        let mut seen = HashSet::new();
        while let Some(target) = pending.pop().filter(|_| seen.len() < Self::MOST) {
            if !seen.insert(target) {
                continue;
            }
            let Some(next) = self.bearer(process, target) else {
                continue;
            };
            // What jumps there from elsewhere need not look like a function.
            if !next.entered_by_call {
                continue;
            }
            if let Some(at) = next.use_at {
                return Err(format!(
                    "it jumps to {target:#x}, which uses its return address at {at:#x}"
                ));
            }
            pending.extend(&next.jumps_to);
        }
        Ok(())
    }

    fn bearer(&mut self, process: &Process, target: u64) -> Option<Bearer> {
        if let Some(known) = self.known.get(&target) {
            return known.clone();
        }
        let at = through_linkage(process, self.images, target);
        let image = self.images.iter().find(|i| i.range().contains(&at));
        // What is not bound yet leads back to the table, which has the size of many functions and is none.
        let bearer = image.filter(|image| !image.is_linkage(at)).map(|image| {
            let flow = image.control_flow(at);
            Bearer {
                entered_by_call: flow.entered_by_call,
                use_at: flow.return_address_use,
                jumps_to: flow.jumps_to,
            }
        });
        self.known.insert(target, bearer.clone());
        bearer
    }
}

/// What is known of how a function returns before it is probed.
pub struct Facts {
    /// Its exits, or why they are not all known or not to be patched.
    pub exits: Result<Exits, String>,
    /// Whether its return address may be replaced, or why not.
    pub bears: Result<(), String>,
    /// The same where it jumps to another function.
    pub jumps_bear: Result<(), String>,
}

/// A function that is probed where it returns: image, absolute address and, for an entry of a procedure linkage table, its name.
pub type ProbedReturn<'a> = (&'a Image, u64, Option<&'a str>);

/// Looks at the code of functions that are probed where they return. `replaces` says that exits are to be left alone.
pub fn facts(
    process: &Process,
    images: &[Image],
    functions: &[Option<ProbedReturn<'_>>],
    replaces: bool,
) -> Vec<Option<Facts>> {
    let flow_of = |function: &Option<ProbedReturn<'_>>| {
        let Some((image, function, None)) = function else {
            return None;
        };
        // All are kept at once: without what is of no use here.
        Some(ControlFlow {
            call_sites: Vec::new(),
            blocks: Vec::new(),
            loops: Vec::new(),
            ..image.control_flow(*function)
        })
    };
    let flows: Vec<Option<ControlFlow>> = functions.par_iter().map(flow_of).collect();
    let mut bearing = Bearing::new(images);
    let both = functions.iter().zip(flows);
    both.map(|(function, flow)| {
        let &(_, at, linkage) = function.as_ref()?;
        let Some(flow) = flow else {
            let bears = bearing.of_linkage(process, at, linkage.unwrap_or_default());
            return Some(Facts {
                exits: Err("it leaves for a library at once".to_owned()),
                bears: bears.clone(),
                jumps_bear: bears,
            });
        };
        Some(Facts {
            exits: match replaces {
                true => Err("they are to be left alone".to_owned()),
                false => exits(&flow),
            },
            bears: bearing.of(process, &flow),
            jumps_bear: bearing.of_jumps(process, &flow),
        })
    })
    .collect()
}

/// Where the procedure linkage table's entry at an address leads, or the address itself. One that is not bound yet leads
/// to the dynamic linker.
fn through_linkage(process: &Process, images: &[Image], target: u64) -> u64 {
    let Some(image) = images.iter().find(|image| image.range().contains(&target)) else {
        return target;
    };
    let Some(start) = image.relative(target) else {
        return target;
    };
    let end = ImageAddr(start.0.saturating_add(16));
    let code = image.binary().code_bytes(start..end).unwrap_or_default();
    // endbr64; bnd jmp *displacement(%rip): all but the last are optional.
    let rest = code.strip_prefix(&[0xf3, 0x0f, 0x1e, 0xfa]).unwrap_or(code);
    let rest = rest.strip_prefix(&[0xf2]).unwrap_or(rest);
    let Some([0xff, 0x25, a, b, c, d]) = rest.first_chunk::<6>() else {
        return target;
    };
    let next = target + (code.len() - rest.len()) as u64 + 6;
    let place = next.wrapping_add_signed(i32::from_le_bytes([*a, *b, *c, *d]).into());
    process.read_u64(place).unwrap_or(target)
}

/// A return handler in a process, and what it is told.
pub struct Returning<'a> {
    /// The handler as it was linked.
    pub handler: &'a EntryForm,
    /// The site's number.
    pub number: u32,
    /// Absolute address of the function.
    pub function: u64,
}

/// What a process has of ours for replacing return addresses.
#[derive(Clone, Debug)]
pub struct Interception {
    /// Address of the table of calls.
    pub table: u64,
    /// What stands in the place of return addresses.
    pub trampoline: u64,
    /// Address of [`runtime::abi::return_intercept`].
    intercept: u64,
    clobbers: RegisterSet,
    near: Range<u64>,
}

/// Addresses in a process that interception builds on.
pub struct Parts {
    /// The run time's function that replaces a return address, and what it changes.
    pub intercept: (u64, RegisterSet),
    /// The run time's function for calls that have returned.
    pub arrived: u64,
    /// The arena's count of calls whose return was missed.
    pub missed: u64,
}

impl Interception {
    /// Prepares a process. The inner error says why its return addresses had better be left alone.
    pub fn install(
        process: &mut Process,
        images: &[Image],
        parts: Parts,
    ) -> Result<Result<Interception, String>, TraceeError> {
        let finders = match unwinders(images) {
            Ok(finders) => finders,
            Err(reason) => return Ok(Err(reason)),
        };
        let near = images.first().map_or(0..0, Image::range);
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        // Forked children return from the calls of their parent.
        let table = process.map_private(frames::size(0), prot, false)?;
        let at = process.allocate_code_near(near.clone(), ReturnTrampoline::SIZE)?;
        let refused = |error: &dyn std::fmt::Display| Ok(Err(error.to_string()));
        let code = match ReturnTrampoline::build(at, table, parts.arrived) {
            Ok(code) => code,
            Err(error) => return refused(&error),
        };
        let (guard, entry_guard) = match (code.guard(), code.entry_guard()) {
            (Ok(guard), Ok(entry_guard)) => (guard, entry_guard),
            (Err(error), _) | (_, Err(error)) => return refused(&error),
        };
        process.write_code(at, &code.bytes)?;
        describe(process, table, code.address, parts.missed)?;
        process.describe_returns(table, code.address)?;
        process.tell_debuggers(&code)?;
        let guards: Vec<Insertion> = finders
            .iter()
            .map(|&(finder, searches)| {
                let guard = if searches { &entry_guard } else { &guard };
                let snippet = Snippet {
                    code: SnippetCode::Guard(guard.clone()),
                    reads: RegisterSet::EMPTY,
                    clobbers: RegisterSet::EMPTY,
                    argument: 0,
                };
                Insertion::at(&Point::entry(finder), snippet)
            })
            .collect();
        for guarded in process.insert(&guards)? {
            if let Err(refusal) = guarded {
                return refused(&format!(
                    "unwinders could not be told of other return addresses: {refusal}"
                ));
            }
        }
        Ok(Ok(Interception {
            table,
            trampoline: code.address,
            intercept: parts.intercept.0,
            clobbers: parts.intercept.1,
            near,
        }))
    }

    /// Snippets that see to it that handlers run when the function returns at whose entry, or jump to another function,
    /// they stand.
    pub fn snippets(
        &self,
        process: &mut Process,
        sites: &[Returning<'_>],
    ) -> Result<Vec<Snippet>, TraceeError> {
        const SITE: usize = size_of::<ReturnSite>();
        let len = (sites.len() * SITE) as u64;
        let base = process.allocate_code_near(self.near.clone(), len)?;
        let mut bytes = Vec::with_capacity(len as usize);
        for site in sites {
            let handler = match site.handler {
                EntryForm::Call { address, .. } | EntryForm::Leaf { address, .. } => *address,
            };
            for word in [self.table, handler, u64::from(site.number), site.function] {
                bytes.extend(word.to_le_bytes());
            }
        }
        process.write_code(base, &bytes)?;
        let snippet = |n: usize| Snippet {
            code: SnippetCode::Call(self.intercept),
            reads: RegisterSet::of_gprs(&[4]),
            clobbers: self.clobbers,
            argument: base + (n * SITE) as u64,
        };
        Ok((0..sites.len()).map(snippet).collect())
    }
}

/// Writes the head of a table of calls.
pub fn describe(
    process: &mut Process,
    table: u64,
    trampoline: u64,
    missed: u64,
) -> Result<(), TraceeError> {
    let words = [
        (offset_of!(FrameTable, trampoline), trampoline),
        (offset_of!(FrameTable, missed), missed),
    ];
    for (offset, word) in words {
        process.write(table + offset as u64, &word.to_le_bytes())?;
    }
    Ok(())
}

/// The function of the C library by which unwinders find what they must know of code.
const FINDER: &str = "_dl_find_object";
/// The function of libgcc by which its unwinder searches the modules where the C library has no such function.
const SEARCH: &str = "_Unwind_Find_FDE";
/// A function that LLVM's libunwind has, whose function of the name above is not what its unwinder uses.
const LLVM: &str = "__unw_step";

/// The functions by which unwinders in a process find what they must know of code at an address: all of them, and of
/// libraries that are yet to come. With each, whether it is [`SEARCH`].
///
/// # Errors
/// There may be an unwinder that can't be told, or the program walks its stacks in ways of its own.
fn unwinders(images: &[Image]) -> Result<Vec<(u64, bool)>, String> {
    for image in images {
        let binary = image.binary();
        let name = image.path().display();
        let has = |symbol: &str| binary.symbol(symbol).is_some();
        let is_go = binary
            .sections()
            .iter()
            .any(|section| section.name == ".gopclntab" || section.name == ".go.buildinfo");
        if is_go {
            return Err(format!(
                "the Go run time of {name} looks at return addresses"
            ));
        }
        if has("JNI_CreateJavaVM") || has("_ZN2v87Isolate3NewERKNS0_12CreateParamsE") {
            return Err(format!(
                "the virtual machine in {name} looks at return addresses"
            ));
        }
        if image
            .path()
            .file_name()
            .is_some_and(|n| n.to_string_lossy().starts_with("_greenlet."))
        {
            return Err(format!("{name} moves stacks about"));
        }
    }
    let mut finders = Vec::new();
    for image in images {
        let binary = image.binary();
        let is_mentioned = || {
            let names = binary.sections().iter().find(|s| s.name == ".dynstr");
            let text = names.and_then(|s| binary.read_data(s.address, s.size as usize));
            text.is_some_and(|text| text.windows(FINDER.len()).any(|w| w == FINDER.as_bytes()))
        };
        let unwinds = binary.symbol("_Unwind_RaiseException").is_some();
        if unwinds && binary.symbol(FINDER).is_none() && !is_mentioned() {
            let search = binary
                .symbol(SEARCH)
                .filter(|_| binary.symbol(LLVM).is_none());
            match search {
                Some(search) => finders.push((image.absolute(search), true)),
                None => {
                    return Err(format!(
                        "the unwinder of {} does not ask the C library's {FINDER}",
                        image.path().display()
                    ));
                }
            }
        }
        let finder = binary.symbol(FINDER);
        finders.extend(finder.map(|finder| (image.absolute(finder), false)));
    }
    let is_without_unwinder = || {
        let program = images.first().map(Image::binary);
        program.is_some_and(|program| {
            program.interpreter().is_none()
                && program.symbol("main").is_some()
                && program.symbol("_Unwind_RaiseException").is_none()
        })
    };
    if finders.is_empty() && !is_without_unwinder() {
        return Err(format!(
            "the C library has no {FINDER} (it came with version 2.35), by which exceptions would find their way"
        ));
    }
    Ok(finders)
}
