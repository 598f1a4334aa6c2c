//! Analysis and planning on whole programs, where the machine has them.

use std::ops::Range;

use object::elf::R_X86_64_RELATIVE;
use object::{Object, ObjectSection, ObjectSymbol, SectionKind, SymbolKind};

use super::*;
use crate::analysis::{CodeSection, ModuleCode};
use crate::snippet::{Snippet, SnippetCode};

/// SDT notes are of this type (sys/sdt.h, "stapsdt" notes).
mod stapsdt {
    pub const TYPE: u32 = 3;
}

struct Binary {
    bytes: Vec<u8>,
}

struct Facts<'a> {
    file: object::File<'a>,
    sections: Vec<CodeSection<'a>>,
    data: Vec<(u64, &'a [u8])>,
    functions: Vec<Range<u64>>,
    pointers: Vec<u64>,
    fixed: bool,
}

fn word(bytes: &[u8], at: usize) -> i32 {
    i32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

impl Binary {
    fn open(path: &str) -> Option<Self> {
        Some(Self {
            bytes: std::fs::read(path).ok()?,
        })
    }

    fn facts(&self) -> Facts<'_> {
        let file = object::File::parse(&*self.bytes).unwrap();
        let sections: Vec<CodeSection<'_>> = file
            .sections()
            .filter(|s| s.kind() == SectionKind::Text)
            .map(|s| CodeSection {
                address: s.address(),
                bytes: s.data().unwrap(),
            })
            .collect();
        let data: Vec<(u64, &[u8])> = file
            .sections()
            .filter(|s| {
                s.address() != 0
                    && matches!(
                        s.kind(),
                        SectionKind::Data
                            | SectionKind::ReadOnlyData
                            | SectionKind::ReadOnlyDataWithRel
                    )
            })
            .map(|s| (s.address(), s.data().unwrap()))
            .collect();

        // .eh_frame_hdr: four bytes of encodings, eh_frame's address, the count, then pairs of a start and its FDE,
        // relative to the header (LSB 5.0, "The .eh_frame_hdr section").
        let header = file.section_by_name(".eh_frame_hdr").unwrap();
        let frames = file.section_by_name(".eh_frame").unwrap();
        let table = header.data().unwrap();
        let fdes = frames.data().unwrap();
        let functions = (0..word(table, 8) as usize)
            .map(|n| {
                let start = header
                    .address()
                    .wrapping_add_signed(word(table, 12 + 8 * n).into());
                let fde = header
                    .address()
                    .wrapping_add_signed(word(table, 16 + 8 * n).into());
                let at = (fde - frames.address()) as usize;
                start..start + word(fdes, at + 12) as u32 as u64
            })
            .collect();

        let fixed = file.kind() == object::ObjectKind::Executable
            && file.entry() > 0x40_0000
            && file
                .sections()
                .all(|s| s.address() == 0 || s.address() >= 0x40_0000);
        let is_code = |address: u64| sections.iter().any(|s| s.range().contains(&address));
        let mut pointers: Vec<u64> = file
            .dynamic_relocations()
            .into_iter()
            .flatten()
            .filter(|(_, r)| {
                r.flags()
                    == object::RelocationFlags::Elf {
                        r_type: R_X86_64_RELATIVE,
                    }
            })
            .map(|(_, r)| r.addend() as u64)
            .filter(|&a| is_code(a))
            .collect();
        if fixed {
            pointers.extend(data.iter().flat_map(|(_, bytes)| {
                bytes
                    .chunks_exact(8)
                    .map(|w| u64::from_le_bytes(w.try_into().unwrap()))
                    .filter(|&a| is_code(a))
            }));
        }
        pointers.extend(
            file.dynamic_symbols()
                .filter(|s| s.kind() == SymbolKind::Text && s.is_definition())
                .map(|s| s.address()),
        );
        Facts {
            file,
            sections,
            data,
            functions,
            pointers,
            fixed,
        }
    }
}

impl Facts<'_> {
    fn targets(&self) -> BranchTargets {
        self.look(BranchTargets::build)
    }

    fn look<T>(&self, run: impl FnOnce(&ModuleCode<'_>) -> T) -> T {
        let read = |address: u64, out: &mut [u8]| {
            self.data.iter().any(|(start, bytes)| {
                let Some(offset) = address.checked_sub(*start) else {
                    return false;
                };
                match bytes.get(offset as usize..offset as usize + out.len()) {
                    Some(found) => {
                        out.copy_from_slice(found);
                        true
                    }
                    None => false,
                }
            })
        };
        run(&ModuleCode {
            sections: &self.sections,
            functions: &self.functions,
            landing_pads: &[],
            code_pointers: &self.pointers,
            read_data: &read,
            fixed_address: self.fixed,
        })
    }

    fn section(&self, address: u64) -> CodeSection<'_> {
        *self
            .sections
            .iter()
            .find(|s| s.range().contains(&address))
            .unwrap()
    }

    /// Names and addresses of the SDT marks.
    fn marks(&self) -> Vec<(String, u64)> {
        let Some(section) = self.file.section_by_name(".note.stapsdt") else {
            return Vec::new();
        };
        let notes = section.data().unwrap();
        let mut out = Vec::new();
        let mut at = 0;
        while at + 12 <= notes.len() {
            let (name, desc) = (word(notes, at) as usize, word(notes, at + 4) as usize);
            assert_eq!(word(notes, at + 8) as u32, stapsdt::TYPE);
            let start = at + 12 + name.next_multiple_of(4);
            let body = &notes[start..start + desc];
            let location = u64::from_le_bytes(body[..8].try_into().unwrap());
            let strings: Vec<String> = body[24..]
                .split(|&b| b == 0)
                .map(|s| String::from_utf8_lossy(s).into_owned())
                .collect();
            out.push((strings[1].clone(), location));
            at = start + desc.next_multiple_of(4);
        }
        out
    }
}

/// Plans every function's entry; the share of plain jumps.
fn plan_entries(path: &str, at_least: f64) {
    let Some(binary) = Binary::open(path) else {
        return;
    };
    let facts = binary.facts();
    let started = std::time::Instant::now();
    let targets = facts.targets();
    let elapsed = started.elapsed();
    let counter = Snippet {
        code: SnippetCode::Inline {
            code: vec![0x48, 0xff, 0x05, 0, 0, 0, 0],
            wants_frame: false,
            wants_argument: false,
        },
        reads: RegisterSet::EMPTY,
        clobbers: RegisterSet::FLAGS,
        argument: 0,
    };
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    let mut plain = 0;
    let mut entries = 0;
    let mut refused = 0;
    for function in &facts.functions {
        let code = facts.section(function.start);
        let key = match plan(
            function.start,
            code,
            function.clone(),
            &targets,
            &TakenRanges::default(),
            Room::Made,
        ) {
            Ok(plan) => {
                entries += usize::from(plan.at_function_entry);
                plain += usize::from(plan.kind == PatchKind::Jump5);
                let dead = dead_registers(plan.site, code, plan.at_function_entry);
                let at = plan.site + 0x100_0000;
                let snippets = [&counter];
                let insertions = [SnippetsAt {
                    address: plan.site,
                    snippets: &snippets,
                    dead,
                    no_red_zone: plan.at_function_entry,
                }];
                let trampoline = Trampoline::build(&plan, &insertions, at).unwrap();
                assert!(trampoline.bytes.len() <= Trampoline::size_bound(&plan, &insertions));
                let kind = match &plan.kind {
                    PatchKind::Jump5 => "plain",
                    PatchKind::ShortJump { .. } => "short",
                };
                let moved = if plan.moved.is_empty() { "" } else { ", moved" };
                let redirected = match plan.redirected.is_empty() {
                    true => "",
                    false => ", redirected",
                };
                format!("{kind}{moved}{redirected}")
            }
            Err(refusal) => {
                println!("  {:#x} {refusal}", function.start);
                // Pieces of functions, which only jumps lead to, are no entries.
                let is_piece = !targets.is_called_or_pointed_to(function.start);
                refused += usize::from(!is_piece);
                if is_piece { "refused piece" } else { "refused" }.to_owned()
            }
        };
        *counts.entry(key).or_default() += 1;
    }
    println!(
        "{path}: {} functions, {entries} true entries, {} unprovable, analysis {elapsed:?}: {counts:#?}",
        facts.functions.len(),
        targets.unprovable().count(),
    );
    for (function, jump) in targets.unprovable().take(8) {
        println!("  unprovable {function:x?} {jump:#x}");
    }
    for (name, site) in facts.marks() {
        let Some(function) = targets.function_of(site) else {
            println!("  {name} {site:#x} in no function");
            continue;
        };
        match plan(
            site,
            facts.section(site),
            function,
            &targets,
            &TakenRanges::default(),
            Room::Made,
        ) {
            Ok(plan) => println!("  {name} {site:#x} {:?}", plan.kind),
            Err(refusal) => println!("  {name} {site:#x} {refusal}"),
        }
    }
    let share = plain as f64 / facts.functions.len() as f64;
    assert!(share >= at_least, "{path}: {share}");
    assert!(
        refused * 1000 <= facts.functions.len(),
        "{path}: {refused} refused"
    );
}

#[test]
fn entries_of_python() {
    plan_entries("/usr/bin/python3.11", 0.97);
}

#[test]
fn entries_of_libc() {
    plan_entries("/lib/x86_64-linux-gnu/libc.so.6", 0.97);
}

#[test]
fn entries_of_libstdcxx() {
    plan_entries("/usr/lib/x86_64-linux-gnu/libstdc++.so.6", 0.97);
}

#[test]
fn entries_of_postgres() {
    plan_entries("/usr/lib/postgresql/15/bin/postgres", 0.98);
}

#[test]
fn entries_of_redis() {
    plan_entries("/usr/bin/redis-server", 0.98);
}

/// Functions that are looked at alone have at least the branch targets that they have when all is looked at.
fn alone(path: &str) {
    let Some(binary) = Binary::open(path) else {
        return;
    };
    let facts = binary.facts();
    let all = facts.targets();
    let step = facts.functions.len() / 60;
    let chosen: Vec<&Range<u64>> = facts.functions.iter().step_by(step.max(1)).collect();
    let addresses: Vec<u64> = chosen.iter().map(|function| function.start).collect();
    let started = std::time::Instant::now();
    let few = facts
        .look(|module| BranchTargets::build_around(module, &addresses))
        .unwrap();
    println!(
        "{path}: {} of {} functions in {:?}",
        chosen.len(),
        facts.functions.len(),
        started.elapsed()
    );
    let plan = |function: &Range<u64>, targets: &BranchTargets| {
        let (code, free) = (facts.section(function.start), TakenRanges::default());
        plan(
            function.start,
            code,
            function.clone(),
            targets,
            &free,
            Room::Unused,
        )
    };
    let mut refused = 0;
    for function in &chosen {
        assert!(few.covers(function.start) && !few.is_complete());
        for address in function.start..function.end {
            assert_eq!(
                few.is_boundary(address),
                all.is_boundary(address),
                "{address:#x}"
            );
            assert!(
                few.is_entered(address) || !all.is_entered(address),
                "{address:#x}"
            );
        }
        assert!(
            few.is_provable(function.start).is_err() || all.is_provable(function.start).is_ok()
        );
        assert!(all.is_function_entry(function.start) || !few.is_function_entry(function.start));
        match (plan(function, &few), plan(function, &all)) {
            // What is taken for a branch and is none may call for a shorter jump.
            (Ok(few), Ok(all)) => assert_eq!(few.site, all.site),
            (Ok(_), Err(refusal)) => panic!("{:#x}: {refusal}", function.start),
            (Err(_), whole) => refused += usize::from(whole.is_ok()),
        }
    }
    assert!(
        refused * 20 <= chosen.len(),
        "{refused} of {}",
        chosen.len()
    );
}

#[test]
fn few_functions_of_libc() {
    alone("/lib/x86_64-linux-gnu/libc.so.6");
}

#[test]
fn few_functions_of_libstdcxx() {
    alone("/usr/lib/x86_64-linux-gnu/libstdc++.so.6");
}
