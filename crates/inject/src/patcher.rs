//! Inserting snippets at points of a held process, and removing them.
//!
//! Order of writes: trampolines first, jumps last, so that the process is correct at every instant
//! and stays so if we are killed. Only for the jumps all threads have to be stopped.
//!
//! A return address can never point into a patch: a call is displaced only as the last instruction
//! (it returns behind the patch) or emulated with its real return address. A signal handler may
//! have interrupted a thread there, though, and would return there; stacks are searched for that,
//! and such a site is refused.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use crate::arch::{
    Plan, RegisterSet, Room, SYSCALL, SnippetsAt, TakenRanges, Trampoline, Write,
    dead_around_system_call, dead_registers,
};
use crate::error::InjectError;
use crate::image::Image;
use crate::near::is_too_wide;
use crate::owner::Owner;
use crate::point::{Point, PointKind};
use crate::process::Process;
use crate::record::{Member, Record, SiteRecord};
use crate::snippet::{Snippet, SnippetCode};
use crate::survey::{Survey, boundary, holder, plan_insertion, surveys};
use crate::{ptrace, restart};

/// So many sites of a module have their trampolines in memory of its own, side by side.
const MANY: u64 = 500;
/// Bytes that the trampoline of a simple snippet has.
const USUAL_TRAMPOLINE: u64 = 192;

/// A snippet to be run at a point.
#[derive(Debug, Clone)]
pub struct Insertion {
    /// Absolute address of the instruction before which the snippet runs.
    pub address: u64,
    /// The address is the first instruction of a function that follows the System V calling
    /// convention, so that flags and red zone are unused there.
    pub at_function_entry: bool,
    /// The address is an exit of a function that follows the System V calling convention, so that flags and red zone
    /// are unused there.
    pub at_function_exit: bool,
    /// Instructions from which control always comes to the address, the nearest first: where the patch may begin if
    /// there is no room at the address itself.
    pub before: Vec<u64>,
    /// The snippet runs after the instruction instead, which has to be a `syscall`.
    pub after: bool,
    /// What to run.
    pub snippet: Snippet,
}

impl Insertion {
    /// A snippet at a point.
    pub fn at(point: &Point, snippet: Snippet) -> Insertion {
        Insertion {
            address: point.address(),
            at_function_entry: point.kind() == PointKind::Entry,
            at_function_exit: point.kind() == PointKind::Exit,
            before: point.before().to_vec(),
            after: point.kind() == PointKind::AfterSystemCall,
            snippet,
        }
    }
}

/// Names a snippet that was inserted, to remove it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InsertedId(pub(crate) u64);

/// A point that was left alone, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{address:#x}: {reason}")]
pub struct Refused {
    /// The point's absolute address.
    pub address: u64,
    /// The reason.
    pub reason: String,
    /// A thread was in the way, which may be elsewhere the next moment.
    pub momentary: bool,
}

/// Why a site was refused.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) reason: String,
    /// As [`Refused::momentary`].
    pub(crate) momentary: bool,
}

impl From<String> for Refusal {
    fn from(reason: String) -> Refusal {
        Refusal {
            reason,
            momentary: false,
        }
    }
}

impl From<&str> for Refusal {
    fn from(reason: &str) -> Refusal {
        reason.to_owned().into()
    }
}

/// A snippet at its point, ours or another session's.
#[derive(Debug, Clone)]
pub(crate) struct Inserted {
    pub(crate) owner: Owner,
    pub(crate) id: InsertedId,
    pub(crate) address: u64,
    pub(crate) at_function_entry: bool,
    pub(crate) at_function_exit: bool,
    /// It runs after the instruction.
    pub(crate) after: bool,
    pub(crate) snippet: Snippet,
}

/// Patched code: one jump, and everything that runs before the instructions it displaced.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    pub(crate) plan: Plan,
    pub(crate) image: Image,
    pub(crate) inserted: Vec<Inserted>,
    pub(crate) trampoline: Trampoline,
    pub(crate) written: Vec<Write>,
}

/// A site as it shall be once the batch is in place.
pub(crate) struct Draft {
    pub(crate) plan: Plan,
    pub(crate) image: Image,
    pub(crate) inserted: Vec<Inserted>,
    /// Whether the code is not patched yet.
    pub(crate) new: bool,
}

/// Sites that are ready to be written: by address, with trampoline and jumps.
pub(crate) type Built = BTreeMap<u64, (Draft, Trampoline, Vec<Write>)>;

/// The snippets of one place, which is after its instruction or before it.
struct Group<'a> {
    after: bool,
    address: u64,
    snippets: Vec<&'a Snippet>,
    /// The registers that are dead there.
    dead: RegisterSet,
    no_red_zone: bool,
}

/// Whether snippets that follow each other at a place share what is saved for them. One that has no frame finds the program's
/// registers in place, which a function that was called before it has changed.
fn go_together(before: &Inserted, one: &Inserted) -> bool {
    let is_bare = |one: &Inserted| {
        matches!(one.snippet.code, SnippetCode::Inline { .. }) && !one.snippet.wants_frame()
    };
    is_bare(before) == is_bare(one)
}

/// The snippets of a site by their places; those of one place in their order, and in several groups where they do not go
/// together.
fn group<'a>(plan: &Plan, image: &Image, inserted: &'a [Inserted]) -> Vec<Group<'a>> {
    let mut groups: BTreeMap<(bool, u64), Vec<&Inserted>> = BTreeMap::new();
    for one in inserted {
        groups
            .entry((one.after, one.address))
            .or_default()
            .push(one);
    }
    groups
        .iter()
        .flat_map(|(place, group)| {
            let has_guard = group
                .iter()
                .any(|one| matches!(one.snippet.code, SnippetCode::Guard(_)));
            let parts = group.chunk_by(move |a, b| has_guard || go_together(a, b));
            parts.map(move |part| (*place, part))
        })
        .map(|((after, address), group)| {
            let relative = address.wrapping_sub(image.bias());
            let at_entry = address == plan.site
                && plan.at_function_entry
                && group.iter().all(|one| one.at_function_entry);
            let at_exit = group.iter().all(|one| one.at_function_exit);
            let dead = match image.module.code_at(relative) {
                Some(code) if code.from(relative).is_some_and(|b| b.starts_with(&SYSCALL)) => {
                    let (dead_before, dead_after) = dead_around_system_call(relative, code);
                    if after { dead_after } else { dead_before }
                }
                Some(code) => dead_registers(relative, code, at_entry || at_exit),
                None => Default::default(),
            };
            Group {
                after,
                address,
                snippets: group.iter().map(|one| &one.snippet).collect(),
                dead,
                no_red_zone: at_entry || at_exit,
            }
        })
        .collect()
}

/// The snippets before displaced instructions, or those after them.
fn snippets_at<'a>(groups: &'a [Group<'a>], after: bool) -> Vec<SnippetsAt<'a>> {
    let chosen = groups.iter().filter(|group| group.after == after);
    chosen
        .map(|group| SnippetsAt {
            address: group.address,
            snippets: &group.snippets,
            dead: group.dead,
            no_red_zone: group.no_red_zone,
        })
        .collect()
}

/// The trampoline of a site, made again from what is known of the site.
pub(crate) fn rebuilt(
    plan: &Plan,
    image: &Image,
    inserted: &[Inserted],
    at: u64,
) -> Option<Trampoline> {
    let groups = group(plan, image, inserted);
    let (before, after) = (snippets_at(&groups, false), snippets_at(&groups, true));
    Trampoline::build_around(plan, &before, &after, at).ok()
}

/// What another session must know of a site.
fn record_of(plan: &Plan, inserted: &[Inserted], trampoline: u64, trampoline_len: u64) -> Record {
    let members = inserted.iter().map(|one| Member {
        owner: one.owner,
        id: one.id.0,
        address: one.address,
        at_function_entry: one.at_function_entry,
        at_function_exit: one.at_function_exit,
        after: one.after,
        snippet: one.snippet.clone(),
    });
    Record::Site(SiteRecord {
        shape: plan.shape(),
        trampoline,
        trampoline_len,
        members: members.collect(),
    })
}

/// Every patch made in a process.
#[derive(Debug, Default)]
pub(crate) struct Patches {
    pub(crate) sites: BTreeMap<u64, Site>,
    pub(crate) site_of: HashMap<InsertedId, u64>,
    pub(crate) next_id: u64,
    /// Ranges in use, by load bias of the image and in addresses of its file.
    pub(crate) taken: HashMap<u64, TakenRanges>,
}

impl Process {
    /// Inserts a batch of snippets. Several at one address run in the order of their insertion,
    /// those of earlier batches first. The answers are in the order of the batch; what cannot be
    /// done safely is refused, and the rest of the batch is done nevertheless.
    ///
    /// # Errors
    /// Then nothing of the batch was inserted: [`InjectError::NotHeld`], [`InjectError::Exited`],
    /// [`InjectError::Write`] …
    pub fn insert(
        &mut self,
        batch: &[Insertion],
    ) -> Result<Vec<Result<InsertedId, Refused>>, InjectError> {
        self.require_held()?;
        let images = self.images()?;
        self.reconcile(&images)?;
        let mut answers: Vec<Option<Result<InsertedId, Refused>>> = vec![None; batch.len()];
        let mut drafts: BTreeMap<u64, Draft> = BTreeMap::new();
        let mut members: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        // In ascending order an instruction that an earlier jump displaces is met after it, and
        // becomes part of that site.
        let mut order: Vec<usize> = (0..batch.len()).collect();
        order.sort_by_key(|&index| (batch[index].address, index));
        let mut surveys = surveys(batch, &images);
        // What touches other code comes last, when it is known what the others use.
        let mut difficult = Vec::new();
        let mut room = Room::Unused;
        let mut order = order.into_iter();
        loop {
            let Some(index) = order.next() else {
                if difficult.is_empty() {
                    break;
                }
                room = Room::Made;
                order = std::mem::take(&mut difficult).into_iter();
                continue;
            };
            let insertion = &batch[index];
            let site = match self.place(insertion, &mut surveys, &mut drafts, room) {
                Ok(site) => site,
                Err(_) if room == Room::Unused => {
                    difficult.push(index);
                    continue;
                }
                Err(reason) => {
                    answers[index] = Some(Err(Refused {
                        address: insertion.address,
                        reason,
                        momentary: false,
                    }));
                    continue;
                }
            };
            let id = InsertedId(self.patches.next_id);
            self.patches.next_id += 1;
            if let Some(draft) = drafts.get_mut(&site) {
                if insertion.address == draft.plan.site {
                    draft.plan.at_function_entry &= insertion.at_function_entry;
                }
                draft.inserted.push(Inserted {
                    owner: self.me,
                    id,
                    address: insertion.address,
                    at_function_entry: insertion.at_function_entry,
                    at_function_exit: insertion.at_function_exit,
                    after: insertion.after,
                    snippet: insertion.snippet.clone(),
                });
            }
            members.entry(site).or_default().push(index);
            answers[index] = Some(Ok(id));
        }
        let reserved: BTreeMap<u64, (Plan, u64)> = drafts
            .iter()
            .filter(|(_, draft)| draft.new)
            .map(|(&site, draft)| (site, (draft.plan.clone(), draft.image.bias())))
            .collect();
        let applied = self.apply(drafts);
        let refusals = match applied {
            Ok(refusals) => refusals,
            Err(error) => {
                for (plan, bias) in reserved.values() {
                    self.free_ranges(plan, *bias);
                }
                return Err(error);
            }
        };
        for (site, refusal) in refusals {
            if let Some((plan, bias)) = reserved.get(&site) {
                self.free_ranges(plan, *bias);
            }
            for &index in members.get(&site).into_iter().flatten() {
                let address = batch[index].address;
                answers[index] = Some(Err(Refused {
                    address,
                    reason: refusal.reason.clone(),
                    momentary: refusal.momentary,
                }));
            }
        }
        for (&site, indices) in &members {
            for &index in indices {
                if let Some(Ok(id)) = answers[index] {
                    self.patches.site_of.insert(id, site);
                }
            }
        }
        let missing = |index: usize| {
            Err(Refused {
                address: batch[index].address,
                reason: "not attempted".to_owned(),
                momentary: false,
            })
        };
        Ok(answers
            .into_iter()
            .enumerate()
            .map(|(index, answer)| answer.unwrap_or_else(|| missing(index)))
            .collect())
    }

    /// How many sites are patched now for snippets of ours.
    pub fn patched_sites(&self) -> usize {
        let ours = |site: &&Site| site.inserted.iter().any(|one| one.owner == self.me);
        self.patches.sites.values().filter(ours).count()
    }

    /// Finds the site for an insertion, planning a new one if needed; its address, or the reason
    /// why there is none.
    fn place(
        &mut self,
        insertion: &Insertion,
        surveys: &mut [Survey<'_>],
        drafts: &mut BTreeMap<u64, Draft>,
        room: Room,
    ) -> Result<u64, String> {
        let address = insertion.address;
        if let Some(site) = holder(drafts, address, |draft| &draft.plan) {
            let Some(draft) = drafts.get(&site) else {
                return Err("it is in the middle of a patch".to_owned());
            };
            return boundary(&draft.plan, address).map(|()| site);
        }
        let sites = &self.patches.sites;
        if let Some(site) = holder(sites, address, |site| &site.plan)
            && let Some(existing) = sites.get(&site)
        {
            boundary(&existing.plan, address)?;
            drafts.insert(
                site,
                Draft {
                    plan: existing.plan.clone(),
                    image: existing.image.clone(),
                    inserted: existing.inserted.clone(),
                    new: false,
                },
            );
            return Ok(site);
        }
        let survey = surveys
            .iter_mut()
            .find(|survey| survey.image.range().contains(&address))
            .ok_or("no program or library is mapped there")?;
        let image = survey.image;
        let relative = address.wrapping_sub(image.bias());
        let code = image
            .module
            .code_at(relative)
            .ok_or("it is not in a section of code")?;
        let is_system_call = code.from(relative).is_some_and(|b| b.starts_with(&SYSCALL));
        if insertion.after && !is_system_call {
            return Err("it is not a system-call instruction".to_owned());
        }
        let taken = self.patches.taken.entry(image.bias()).or_default();
        let targets = Arc::clone(survey.targets());
        let planned = plan_insertion(insertion, image, code, &targets, taken, room);
        let mut planned = match planned {
            // Perhaps what is known of a part only is more than is true.
            Err(_) if !targets.is_complete() => {
                plan_insertion(insertion, image, code, survey.complete(), taken, room)?
            }
            planned => planned?,
        };
        planned.at_function_entry &= insertion.at_function_entry;
        for range in planned.taken() {
            taken.insert(range);
        }
        let planned = planned.rebase(image.bias());
        let draft = Draft {
            plan: planned,
            image: image.clone(),
            inserted: Vec::new(),
            new: true,
        };
        let site = draft.plan.site;
        drafts.insert(site, draft);
        Ok(site)
    }

    /// Puts drafts in place; answers with those that had to be refused, which are unchanged.
    pub(crate) fn apply(
        &mut self,
        mut drafts: BTreeMap<u64, Draft>,
    ) -> Result<Vec<(u64, Refusal)>, InjectError> {
        let mut refusals = Vec::new();
        let seen = self.refuse_changed(&mut drafts, &mut refusals);
        let mut built: Built = BTreeMap::new();
        let mut sites: BTreeMap<u64, (Range<u64>, u64)> = BTreeMap::new();
        for draft in drafts.values() {
            let image = &draft.image;
            sites.entry(image.bias()).or_insert((image.range(), 0)).1 += 1;
        }
        let many = |(range, count): &(Range<u64>, u64)| *count >= MANY && !is_too_wide(range);
        for (range, count) in sites.into_values().filter(many) {
            self.reserve_code_near(range, count * USUAL_TRAMPOLINE)?;
        }
        for (site, draft) in drafts {
            match self.build(&draft)? {
                Ok((trampoline, writes)) => {
                    built.insert(site, (draft, trampoline, writes));
                }
                Err(reason) => refusals.push((site, reason.into())),
            }
        }
        let records = self.place_records(&mut built, &mut refusals)?;
        if built.is_empty() {
            // Of a process that is being killed nothing can be read, and no site would do.
            if let Some(&tid) = self.thread_ids().first() {
                let registers = ptrace::registers(tid);
                self.or_death(registers)?;
            }
            return Ok(refusals);
        }
        self.write_trampolines(&built, &records)?;
        let others_ran = self.others_run;
        self.stop_running()?;
        let maps = self.maps()?;
        if others_ran {
            self.refuse_unmapped(&maps, &mut built, &mut refusals);
            self.refuse_rewritten(&seen, &mut built, &mut refusals)?;
        }
        self.refuse_entered(&maps, &mut built, &mut refusals)?;
        self.move_threads(&mut built, &mut refusals)?;
        let jumps: Vec<&[Write]> = built.values().map(|(_, _, w)| w.as_slice()).collect();
        if let Err(error) = self.write_lists(&jumps) {
            for (site, (draft, _, _)) in &built {
                let before = match self.patches.sites.get(site) {
                    Some(present) if !draft.new => present.written.clone(),
                    _ => draft.plan.originals().to_vec(),
                };
                for write in before {
                    let _ = self.write(write.address, &write.bytes);
                }
            }
            return Err(self.or_ended(error));
        }
        for (address, (draft, trampoline, written)) in built {
            let Draft {
                plan,
                image,
                inserted,
                ..
            } = draft;
            self.patches.sites.insert(
                address,
                Site {
                    plan,
                    image,
                    inserted,
                    trampoline,
                    written,
                },
            );
        }
        Ok(refusals)
    }

    pub(crate) fn free_ranges(&mut self, plan: &Plan, bias: u64) {
        if let Some(taken) = self.patches.taken.get_mut(&bias) {
            for range in plan.taken() {
                taken.remove(range.start.wrapping_sub(bias));
            }
        }
    }

    /// Makes the trampoline of a draft; the inner error is a refusal.
    #[allow(clippy::type_complexity)]
    fn build(
        &mut self,
        draft: &Draft,
    ) -> Result<Result<(Trampoline, Vec<Write>), String>, InjectError> {
        let groups = group(&draft.plan, &draft.image, &draft.inserted);
        let (before, after) = (snippets_at(&groups, false), snippets_at(&groups, true));
        let all: Vec<SnippetsAt<'_>> = before.iter().chain(&after).cloned().collect();
        let bound = Trampoline::size_bound(&draft.plan, &all) as u64;
        let place = match self.allocate_beside(draft, bound) {
            Ok(place) => place,
            Err(error @ InjectError::NoRoomNear { .. }) => return Ok(Err(error.to_string())),
            Err(error) => return Err(error),
        };
        let built = Trampoline::build_around(&draft.plan, &before, &after, place);
        let len = built.as_ref().map_or(0, |t| t.bytes.len() as u64);
        self.give_back_tail(place, bound, len);
        let trampoline = match built {
            Ok(trampoline) => trampoline,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let copy_of = |address| trampoline.copy_of(address);
        let writes = draft.plan.writes(place, &copy_of);
        Ok(match writes {
            Some(writes) => Ok((trampoline, writes)),
            None => Err("the trampoline is out of reach".to_owned()),
        })
    }

    /// Room for `len` bytes in reach of a draft's code, which lasts as long as somebody's snippet is in it.
    fn allocate_beside(&mut self, draft: &Draft, len: u64) -> Result<u64, InjectError> {
        let mut owners = draft.inserted.iter().map(|one| one.owner);
        let owner = match owners.clone().find(|&owner| owner == self.me) {
            Some(me) => me,
            None => owners.next().unwrap_or(self.me),
        };
        self.allocate_near_plan(owner, &draft.plan, &draft.image, len)
    }

    /// Room for `len` bytes of a session's, in reach of all that displaced instructions may refer to.
    pub(crate) fn allocate_near_plan(
        &mut self,
        owner: Owner,
        plan: &Plan,
        image: &Image,
        len: u64,
    ) -> Result<u64, InjectError> {
        if is_too_wide(&image.range()) {
            return self.allocate_for(owner, plan.range(), len);
        }
        // Displaced instructions may refer to anything in the image.
        match self.allocate_for(owner, image.range(), len) {
            Err(InjectError::NoRoomNear { .. }) => self.allocate_for(owner, plan.range(), len),
            other => other,
        }
    }

    /// Room for the records of a batch, behind all its trampolines: these are to be close together, as a program that runs
    /// through thousands of them has only so much room for code in its caches. Sites without room are refused.
    fn place_records(
        &mut self,
        built: &mut Built,
        refusals: &mut Vec<(u64, Refusal)>,
    ) -> Result<Vec<(u64, Record)>, InjectError> {
        let mut records = Vec::with_capacity(built.len());
        let mut refused = Vec::new();
        for (&site, (draft, trampoline, _)) in &*built {
            let range = trampoline.range();
            let record = record_of(
                &draft.plan,
                &draft.inserted,
                range.start,
                range.end - range.start,
            );
            match self.allocate_beside(draft, record.bytes(0).len() as u64) {
                Ok(place) => records.push((place, record)),
                Err(error @ InjectError::NoRoomNear { .. }) => {
                    refused.push((site, error.to_string().into()));
                }
                Err(error) => return Err(error),
            }
        }
        for (site, _) in &refused {
            built.remove(site);
        }
        refusals.extend(refused);
        Ok(records)
    }

    /// Writes trampolines and their records; neighbours at once, as a batch may have thousands.
    fn write_trampolines(
        &mut self,
        built: &Built,
        records: &[(u64, Record)],
    ) -> Result<(), InjectError> {
        let mut pieces: Vec<(u64, Vec<u8>)> = Vec::with_capacity(built.len() + records.len());
        for (_, trampoline, _) in built.values() {
            pieces.push((trampoline.address, trampoline.bytes.clone()));
        }
        for (at, record) in records {
            pieces.push((*at, self.chained(*at, record)));
        }
        pieces.sort_by_key(|(at, _)| *at);
        let mut run: Option<(u64, Vec<u8>)> = None;
        for (at, bytes) in pieces {
            if let Some((start, before)) = &mut run {
                let end = *start + before.len() as u64;
                if at >= end && at - end < 256 {
                    // The gap is trapped, should anything ever run into it.
                    before.resize((at - *start) as usize, 0xcc);
                    before.extend_from_slice(&bytes);
                    continue;
                }
            }
            if let Some((start, bytes)) = run.replace((at, bytes)) {
                self.write_code(start, &bytes)?;
            }
        }
        if let Some((start, bytes)) = run {
            self.write_code(start, &bytes)?;
        }
        self.publish()
    }

    /// Moves threads that stand inside code about to be overwritten to the copy of that code.
    fn move_threads(
        &mut self,
        built: &mut Built,
        refusals: &mut Vec<(u64, Refusal)>,
    ) -> Result<(), InjectError> {
        for tid in self.thread_ids() {
            let registers = ptrace::registers(tid);
            let mut registers = self.or_death(registers)?;
            // A thread in a system call that will be made again goes on two bytes before.
            let again = restart::pending(&registers);
            let next = if again.is_some() {
                registers.rip.wrapping_sub(2)
            } else {
                registers.rip
            };
            let Some(site) = holder(built, next, |(draft, ..)| &draft.plan) else {
                continue;
            };
            let Some((draft, trampoline, _)) = built.get(&site) else {
                continue;
            };
            let is_start = draft.plan.ranges().any(|range| range.start == next);
            if !draft.new || is_start {
                continue;
            }
            let Some(copy) = trampoline.copy_of(next) else {
                let refusal = Refusal {
                    reason: format!("thread {tid} is stopped in the middle of the patch"),
                    momentary: true,
                };
                refusals.push((site, refusal));
                built.remove(&site);
                continue;
            };
            registers.rip = copy;
            if let Some(number) = again {
                registers.rax = number;
                registers.orig_rax = u64::MAX;
            }
            let moved = ptrace::set_registers(tid, &registers);
            self.or_death(moved)?;
        }
        Ok(())
    }
}
