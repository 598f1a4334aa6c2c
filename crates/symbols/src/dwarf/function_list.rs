//! Lists of functions as probe points are listed: those of one name, file and line are one, with the variables that all of
//! them have. One pass over the units ([`super::function_sweep`]) makes them; memory is bounded by the list.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Location;
use super::debug_info::DebugInfo;
use super::function_index::{FileWanted, FunctionIndex, NameWanted};
use super::function_sweep::sweep_unit;
use super::sections::DwarfFile;
use crate::address::ImageAddr;

/// Units that one thread takes at a time: what it keeps of them is dropped then.
const TURN: usize = 4;
/// Below this size of `.debug_info` one thread is as fast.
const WORTH_THREADS: usize = 1 << 20;

/// Whether a variable that stands there at an address of the code is to be listed.
pub type Listable<'q> = &'q (dyn Fn(ImageAddr, &Location) -> bool + Sync);

/// Which functions a list is to have, and what of them.
pub struct FunctionQuery<'q> {
    /// Their names, as for [`crate::Binary::dwarf_functions_matching`].
    pub pattern: &'q str,
    /// The files that declare them; all when it is not said.
    pub file: Option<&'q (dyn Fn(&str) -> bool + Sync)>,
    /// Functions with code of their own.
    pub functions: bool,
    /// Inlined copies.
    pub copies: bool,
    /// Only those that other units can call by name.
    pub external: bool,
    /// Variables are to be listed that satisfy this.
    pub variables: Option<Listable<'q>>,
}

/// Functions and inlined copies of one name that one line declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedFunction {
    /// The name, with as many scopes before it as the pattern has.
    pub name: String,
    /// The file that declares it.
    pub decl_file: Option<String>,
    /// The line in that file.
    pub decl_line: Option<u64>,
    /// The type that it returns; `None` for `void`.
    pub result: Option<String>,
    /// Name and type of the variables that each of them has where it is probed; copies from other units count only where
    /// there is nothing else.
    pub variables: Vec<(String, String)>,
}

/// What was asked for with a [`FunctionQuery`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FunctionList {
    /// By name, file and line.
    pub functions: Vec<ListedFunction>,
    /// Entries and probed addresses of the functions of such names, listed or not: those of pieces, and of functions that are
    /// not [`FunctionQuery::external`], too.
    pub addresses: HashSet<ImageAddr>,
}

/// Functions that are wanted, by what is known before their code is.
pub(crate) struct Wanted<'w> {
    pub name: NameWanted<'w>,
    pub file: Option<FileWanted<'w>>,
    /// How many scopes are part of a name.
    pub scopes: usize,
    /// Entries of functions (not of copies) that are wanted.
    pub entry: &'w (dyn Fn(ImageAddr) -> bool + Sync),
}

/// What one thread found.
#[derive(Default)]
pub(crate) struct Found {
    texts: Vec<Rc<str>>,
    numbers: HashMap<Rc<str>, u32>,
    groups: HashMap<Key, Group>,
    pub addresses: HashSet<ImageAddr>,
    pub damage: Option<(usize, gimli::Error)>,
    pub damaged_units: usize,
}

/// What is first among those of one name and line: copies from other units come last, functions before copies, then all in
/// the order of the entries.
pub(crate) type First = (bool, bool, usize, usize);

/// Name, file and line.
pub(crate) type Key = (u32, Option<u32>, Option<u64>);

pub(crate) struct Group {
    /// From another unit or not, a copy or not, unit and entry: the variables come in the order that they have in the first,
    /// as stap lists them.
    pub first: First,
    pub result: Option<u32>,
    pub variables: Vec<(u32, u32)>,
}

impl Found {
    /// The number of a text.
    pub fn intern(&mut self, text: &str) -> u32 {
        if let Some(known) = self.numbers.get(text) {
            return *known;
        }
        let number = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        let text: Rc<str> = text.into();
        self.texts.push(Rc::clone(&text));
        self.numbers.insert(text, number);
        number
    }

    pub fn add(&mut self, key: Key, group: Group) {
        match self.groups.entry(key) {
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(group);
            }
            std::collections::hash_map::Entry::Occupied(mut entry) => {
                entry.get_mut().merge(group);
            }
        }
    }

    pub fn text(&self, number: u32) -> &str {
        self.texts.get(number as usize).map_or("", |text| text)
    }
}

impl Group {
    fn merge(&mut self, mut other: Group) {
        if other.first < self.first {
            std::mem::swap(self, &mut other);
        }
        // Copies from other units count among themselves: they are left out where they lack a variable.
        if self.first.0 == other.first.0 {
            self.variables.retain(|v| other.variables.contains(v));
            self.result = self.result.filter(|result| other.result == Some(*result));
        }
    }
}

/// What threads found, with texts of its own so that it can be handed on.
struct Part {
    groups: Vec<(ListedFunction, First)>,
    addresses: HashSet<ImageAddr>,
    damage: Option<(usize, gimli::Error)>,
    damaged_units: usize,
}

impl From<Found> for Part {
    fn from(found: Found) -> Part {
        let text = |number: u32| found.text(number).to_owned();
        let listed = |(key, group): (&Key, &Group)| {
            let (name, file, line) = *key;
            let variables = group.variables.iter();
            let function = ListedFunction {
                name: text(name),
                decl_file: file.map(text),
                decl_line: line,
                result: group.result.map(text),
                variables: variables.map(|(n, t)| (text(*n), text(*t))).collect(),
            };
            (function, group.first)
        };
        Part {
            groups: found.groups.iter().map(listed).collect(),
            addresses: found.addresses.clone(),
            damage: found.damage,
            damaged_units: found.damaged_units,
        }
    }
}

impl FunctionIndex {
    /// Goes through units, given by their starts, on all processors.
    pub fn list(
        &self,
        file: &DwarfFile<'_>,
        starts: &[usize],
        wanted: &Wanted<'_>,
        query: &FunctionQuery<'_>,
    ) -> FunctionList {
        let threads = match std::thread::available_parallelism() {
            Ok(count) if file.info_size() > WORTH_THREADS => count.get().min(16),
            _ => 1,
        };
        let turns: Vec<&[usize]> = starts.chunks(TURN).collect();
        let next = AtomicUsize::new(0);
        let work = || {
            let mut found = Found::default();
            while let Some(turn) = turns.get(next.fetch_add(1, Ordering::Relaxed)) {
                let info = DebugInfo::new(file, self);
                for start in *turn {
                    sweep_unit(&info, *start, wanted, query, &mut found);
                }
            }
            Part::from(found)
        };
        let parts: Vec<Part> = std::thread::scope(|scope| {
            let workers: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut parts = vec![work()];
            // A worker that panicked, which none is known to do, leaves its part out.
            parts.extend(workers.into_iter().filter_map(|w| w.join().ok()));
            parts
        });
        let damaged = parts.iter().map(|part| part.damaged_units).sum();
        if let Some((start, error)) = parts.iter().find_map(|part| part.damage) {
            self.warn_of_damage(file, start, error, damaged);
        }
        merged(parts)
    }
}

/// One list of several.
fn merged(parts: Vec<Part>) -> FunctionList {
    let mut addresses = HashSet::new();
    let mut all: Vec<(ListedFunction, First)> = Vec::new();
    for part in parts {
        if addresses.is_empty() {
            addresses = part.addresses;
        } else {
            addresses.extend(part.addresses);
        }
        all.extend(part.groups);
    }
    let order = |a: &ListedFunction, b: &ListedFunction| {
        (&a.name, &a.decl_file, a.decl_line).cmp(&(&b.name, &b.decl_file, b.decl_line))
    };
    all.sort_unstable_by(|(a, first), (b, second)| order(a, b).then(first.cmp(second)));
    all.dedup_by(|(later, number), (first, least)| {
        let same = order(later, first).is_eq();
        if same && number.0 == least.0 {
            first.variables.retain(|v| later.variables.contains(v));
            if first.result != later.result {
                first.result = None;
            }
        }
        same
    });
    FunctionList {
        functions: all.into_iter().map(|(function, _)| function).collect(),
        addresses,
    }
}
