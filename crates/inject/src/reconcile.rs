//! Several sessions in one process: taking notice of what others have done to it, and clearing away what is left of those
//! that were killed.
//!
//! ptrace(2) lets one session in at a time. Whoever comes finds in the chunks ([`crate::owner`]) what is patched
//! ([`crate::record`]), and every jump in memory says which of the records holds. A site that several sessions probe has one
//! trampoline with everybody's snippets; who adds or removes one makes it anew, in memory of a session that stays.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::arch::{Plan, Trampoline};
use crate::code_page::CodePages;
use crate::error::InjectError;
use crate::image::Image;
use crate::journal;
use crate::mapping::PAGE;
use crate::near::CodePools;
use crate::owner::{HEADER, Header, JumpTarget, Owner};
use crate::patcher::{Draft, Inserted, InsertedId, Site, rebuilt};
use crate::process::Process;
use crate::record::{self, Mapped, Member, Record, SiteRecord};

/// Executable mappings without a file that are larger are looked at only at their start: a just-in-time compiler's.
const SEARCHED: u64 = 16 << 20;
/// The longest trampoline that is believed.
const LONGEST: u64 = 1 << 20;

/// What a chunk's records say.
#[derive(Default)]
pub(crate) struct Written {
    sites: Vec<SiteRecord>,
    /// With where each is written.
    pub(crate) mappings: Vec<(Mapped, u64)>,
    /// A record could not be read, so that there may be others.
    damaged: bool,
}

/// What was looked at of other sessions' doings, since we last began to hold the process.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Everybody's chunks.
    chunks: bool,
    /// The sites, too.
    sites: bool,
}

impl Process {
    /// Learns of everybody's chunks how much is used. Others may have used some of ours while the process was free, so
    /// that nothing is allocated, and nobody is looked for in them, before.
    pub(crate) fn learn_chunks(&mut self) -> Result<(), InjectError> {
        if self.seen.chunks {
            return Ok(());
        }
        let mut changed = !self.others.is_empty();
        self.others.clear();
        for (start, header) in self.find_chunks()? {
            if header.owner != self.me {
                changed = true;
                let pool = self.others.entry(header.owner).or_default();
                pool.learn(start, header);
            } else if self.escape.is_none_or(|escape| escape.mapping().0 != start) {
                changed |= self.pools.learn(start, header);
            }
        }
        self.seen.chunks = true;
        self.is_behind |= changed;
        Ok(())
    }

    /// Learns what other sessions did since we last held the process, and removes what is left of dead ones.
    pub(crate) fn reconcile(&mut self, images: &[Image]) -> Result<(), InjectError> {
        if self.seen.sites {
            return Ok(());
        }
        self.learn_chunks()?;
        self.seen.sites = true;
        self.forget_unloaded(images);
        if !std::mem::take(&mut self.is_behind) {
            return Ok(());
        }
        let own = self.read_pool(&self.pools);
        let mut sites = own.sites;
        for (mapped, record) in own.mappings {
            let known = self.mappings.entry(mapped.start);
            known.or_insert((mapped, Some(record)));
        }
        let mut dead: BTreeMap<Owner, Written> = BTreeMap::new();
        for (&owner, pool) in &self.others {
            let written = self.read_pool(pool);
            sites.extend(written.sites.iter().cloned());
            if owner.is_gone() {
                dead.insert(owner, written);
            }
        }
        self.adopt(sites, images);
        self.bury(&dead, images)
    }

    /// Forgets sites in modules that were unmapped, also where the same one has come to the same place again: the code
    /// there is the original.
    fn forget_unloaded(&mut self, images: &[Image]) {
        let mut pages = CodePages::default();
        let sites = std::mem::take(&mut self.patches.sites);
        for (address, site) in sites {
            let originals = site.plan.originals();
            let is_mapped = images.iter().any(|image| {
                image.range().contains(&address)
                    && (image.bias(), image.path()) == (site.image.bias(), site.image.path())
            });
            if is_mapped && !originals.iter().all(|original| pages.holds(self, original)) {
                self.patches.sites.insert(address, site);
                continue;
            }
            for one in &site.inserted {
                self.patches.site_of.remove(&one.id);
            }
            self.free_ranges(&site.plan, site.image.bias());
        }
    }

    /// Every chunk of a session in the process.
    fn find_chunks(&self) -> Result<Vec<(u64, Header)>, InjectError> {
        let mut found = Vec::new();
        for mapping in self.maps()? {
            let perms = mapping.perms;
            if mapping.is_file() || mapping.path.is_some() || perms.write || !perms.execute {
                continue;
            }
            let mut at = mapping.start;
            while at < mapping.end {
                let mut head = [0; HEADER as usize];
                if self.read(at, &mut head).is_err() {
                    break;
                }
                match Header::parse(&head).filter(|header| header.len <= mapping.end - at) {
                    Some(header) => {
                        found.push((at, header));
                        at += header.len;
                    }
                    None if mapping.end - mapping.start > SEARCHED => break,
                    None => at += PAGE,
                }
            }
        }
        Ok(found)
    }

    /// The memory of all sessions, this one's among it, as far as it has been written down.
    pub(crate) fn recorded(&self) -> Result<Vec<Range<u64>>, InjectError> {
        let mut pool = CodePools::default();
        for (start, header) in self.find_chunks()? {
            pool.learn(start, header);
        }
        let chunks = pool.mappings();
        let mut recorded: Vec<Range<u64>> = chunks.map(|(at, len)| at..at + len).collect();
        let mappings = self.read_pool(&pool).mappings.into_iter();
        let own = self.mappings.values();
        for (mapped, _) in mappings.chain(own.copied().map(|(mapped, _)| (mapped, 0))) {
            recorded.push(mapped.start..mapped.start.saturating_add(mapped.len));
        }
        Ok(recorded)
    }

    pub(crate) fn read_pool(&self, pool: &CodePools) -> Written {
        let mut written = Written::default();
        for (start, header) in pool.headers() {
            let mut at = header.last;
            while at != 0 {
                let Some((record, previous)) = self.read_record(start, &header, at) else {
                    written.damaged = true;
                    break;
                };
                match record {
                    Record::Site(site) => written.sites.push(site),
                    Record::Mapping(mapped) => written.mappings.push((mapped, start + at)),
                    Record::Void => {}
                }
                at = previous;
            }
        }
        written
    }

    /// All trampolines that were ever made and are still mapped.
    pub(crate) fn written_sites(&self) -> Vec<SiteRecord> {
        let pools = std::iter::once(&self.pools).chain(self.others.values());
        pools.flat_map(|pool| self.read_pool(pool).sites).collect()
    }

    /// Where code runs that belongs to a session: all trampolines with its snippets, in use or not, in whosever memory.
    pub(crate) fn code_of(&self, owner: Owner) -> Vec<Range<u64>> {
        self.written_sites()
            .into_iter()
            .filter(|site| site.members.iter().any(|member| member.owner == owner))
            .filter_map(|site| {
                let end = site.trampoline.checked_add(site.trampoline_len)?;
                Some(site.trampoline..end)
            })
            .collect()
    }

    /// The stack pointer that the program has, of a thread that is on the stack of a handler of some session; none when
    /// nobody can tell.
    pub(crate) fn program_stack(&self, stack_pointer: u64) -> Option<u64> {
        let own = self.mappings.values().map(|&(mapped, _)| mapped);
        let others = self.others.values();
        let others = others.flat_map(|pool| self.read_pool(pool).mappings);
        let mapped = own
            .chain(others.map(|(mapped, _)| mapped))
            .find(|m| stack_pointer >= m.start && stack_pointer - m.start < m.len);
        match mapped {
            None => Some(stack_pointer),
            Some(mapped) => self
                .read_u64(mapped.saved_by(stack_pointer)?)
                .ok()
                .filter(|&saved| saved != 0),
        }
    }

    /// A record of a chunk, and the offset of the one before it.
    fn read_record(&self, start: u64, header: &Header, at: u64) -> Option<(Record, u64)> {
        let head = self.read_vec(start + at, 16).ok()?;
        let (len, previous) = Record::head(&head)?;
        // Strictly backwards, so that there is an end.
        if !record::fits(at, len, header.used) || previous >= at {
            return None;
        }
        let bytes = self.read_vec(start + at, len as usize).ok()?;
        Some((Record::parse(&bytes)?, previous))
    }

    /// Takes the sites that are patched now into our own books, whoever patched them.
    fn adopt(&mut self, records: Vec<SiteRecord>, images: &[Image]) {
        let foreign: Vec<u64> = self
            .patches
            .sites
            .iter()
            .filter(|(_, site)| site.inserted.iter().all(|one| one.owner != self.me))
            .map(|(&address, _)| address)
            .collect();
        for address in foreign {
            if let Some(site) = self.patches.sites.remove(&address) {
                self.free_ranges(&site.plan, site.image.bias());
            }
        }
        let mut pages = CodePages::default();
        for record in records {
            let Some(site) = self.site_of_record(record, images, &mut pages) else {
                continue;
            };
            let bias = site.image.bias();
            let taken = self.patches.taken.entry(bias).or_default();
            for range in site.plan.taken() {
                taken.insert(range.start.wrapping_sub(bias)..range.end.wrapping_sub(bias));
            }
            for one in site.inserted.iter().filter(|one| one.owner == self.me) {
                self.patches.site_of.insert(one.id, site.plan.site);
                self.patches.next_id = self.patches.next_id.max(one.id.0.saturating_add(1));
            }
            self.patches.sites.insert(site.plan.site, site);
        }
    }

    /// The site that a record tells of, if its jump is in place.
    fn site_of_record(
        &self,
        record: SiteRecord,
        images: &[Image],
        pages: &mut CodePages,
    ) -> Option<Site> {
        let (image, plan) = plan_of(&record, images)?;
        let site = plan.originals().first()?;
        if pages.holds(self, site) {
            return None;
        }
        let inserted: Vec<Inserted> = record.members.iter().map(Inserted::from).collect();
        let trampoline = self.trampoline_at(&record, &plan, image, &inserted)?;
        let copy_of = |address| trampoline.copy_of(address);
        let written = plan.writes(record.trampoline, &copy_of)?;
        if !written.iter().all(|write| pages.holds(self, write)) {
            return None;
        }
        Some(Site {
            plan,
            image: image.clone(),
            inserted,
            trampoline,
            written,
        })
    }

    /// The trampoline that a record tells of, in use or not.
    pub(crate) fn trampoline_of(
        &self,
        record: &SiteRecord,
        images: &[Image],
    ) -> Option<Trampoline> {
        let (image, plan) = plan_of(record, images)?;
        let inserted: Vec<Inserted> = record.members.iter().map(Inserted::from).collect();
        self.trampoline_at(record, &plan, image, &inserted)
    }

    fn trampoline_at(
        &self,
        record: &SiteRecord,
        plan: &Plan,
        image: &Image,
        inserted: &[Inserted],
    ) -> Option<Trampoline> {
        let len = record.trampoline_len.min(LONGEST) as usize;
        let bytes = self.read_vec(record.trampoline, len).ok()?;
        let trampoline = rebuilt(plan, image, inserted, record.trampoline)
            .filter(|trampoline| trampoline.bytes == bytes)
            .unwrap_or_else(|| Trampoline::unknown(record.trampoline, bytes));
        Some(trampoline)
    }

    /// Takes the snippets of dead sessions out, and unmaps their memory where no thread is in it.
    fn bury(
        &mut self,
        dead: &BTreeMap<Owner, Written>,
        images: &[Image],
    ) -> Result<(), InjectError> {
        let mut emptied = Vec::new();
        let mut drafts = BTreeMap::new();
        let mut trampolines = Vec::new();
        let mut gone: BTreeSet<Owner> = dead.keys().copied().collect();
        // One without memory of its own may still be named.
        let named = self.patches.sites.values().flat_map(|site| &site.inserted);
        let others: BTreeSet<Owner> = named.map(|one| one.owner).collect();
        let others = others.into_iter().filter(|&owner| owner != self.me);
        gone.extend(others.filter(|owner| owner.is_gone()));
        for (&address, site) in &self.patches.sites {
            let (lost, kept): (Vec<Inserted>, Vec<Inserted>) = site
                .inserted
                .iter()
                .cloned()
                .partition(|one| gone.contains(&one.owner));
            if kept.is_empty() {
                emptied.push(address);
                trampolines.push(site.trampoline.clone());
            } else if !lost.is_empty() {
                let draft = Draft {
                    plan: site.plan.clone(),
                    image: site.image.clone(),
                    inserted: kept,
                    new: false,
                };
                drafts.insert(address, draft);
            }
        }
        self.restore(&emptied)?;
        self.apply(drafts)?;
        self.leave_trampolines(&trampolines, images)?;
        let recorded = match dead.is_empty() {
            true => Vec::new(),
            false => self.recorded()?,
        };
        for (&owner, written) in dead {
            let Some(pool) = self.others.get(&owner) else {
                continue;
            };
            let chunks: Vec<Range<u64>> = pool
                .mappings()
                .map(|(start, len)| start..start + len)
                .collect();
            if written.damaged || self.is_reachable(written, &chunks, images) {
                continue;
            }
            let mappings = self.remaining(&written.mappings)?;
            let written_down = mappings.iter();
            let written_down = written_down.map(|(m, record)| (m.start, m.len, Some(*record)));
            let mut mapped: Vec<(u64, u64, Option<u64>)> = written_down.collect();
            let mut descriptors = Vec::new();
            for escape in chunks.iter().filter(|chunk| self.is_escape(chunk)) {
                let (ranges, numbers) = self.announced(escape.start, &recorded)?;
                mapped.extend(ranges.iter().map(|r| (r.start, r.end - r.start, None)));
                descriptors.extend(numbers);
            }
            let data: Vec<Range<u64>> = mapped.iter().map(|m| m.0..m.0 + m.1).collect();
            let mut code = self.code_of(owner);
            code.extend_from_slice(&chunks);
            let tables: Vec<Mapped> = mappings.iter().map(|(mapped, _)| *mapped).collect();
            if self.put_returns_back(&tables)?
                || self.is_anybody_in(&code, &data)?
                || self.leave_debuggers(&tables)?
            {
                continue;
            }
            self.close_all(&descriptors)?;
            self.unmap_recorded(&mapped)?;
            let ranges: Vec<(u64, u64)> =
                chunks.iter().map(|r| (r.start, r.end - r.start)).collect();
            self.unmap_all(&ranges)?;
            self.others.remove(&owner);
        }
        Ok(())
    }

    /// Whether a jump may still lead into chunks whose sites were all to be restored.
    fn is_reachable(&self, written: &Written, chunks: &[Range<u64>], images: &[Image]) -> bool {
        let mut pages = CodePages::default();
        written.sites.iter().any(|record| {
            let mapped = images
                .iter()
                .any(|image| image.range().contains(&record.shape.site));
            let Some((_, plan)) = plan_of(record, images) else {
                return mapped;
            };
            plan.originals().iter().any(|original| {
                if pages.holds(self, original) {
                    return false;
                }
                let (address, len) = (original.address, original.bytes.len());
                let Some(present) = pages.bytes(self, address, len) else {
                    return false;
                };
                match JumpTarget::of(address, &present) {
                    // Somebody else's jump, perhaps.
                    JumpTarget::Far(target) => chunks.iter().any(|chunk| chunk.contains(&target)),
                    // The first of two jumps, the second of which is looked at, too.
                    JumpTarget::Near(_) => false,
                    JumpTarget::None => true,
                }
            })
        })
    }

    /// Those of some mappings that are still what they were: shared memory without a name in any directory, or memory
    /// without a file.
    fn remaining(&self, mappings: &[(Mapped, u64)]) -> Result<Vec<(Mapped, u64)>, InjectError> {
        let maps = self.maps()?;
        let is_ours = |&&(Mapped { start, len, .. }, _): &&(Mapped, u64)| {
            let Some(end) = start.checked_add(len) else {
                return false;
            };
            let mut at = start;
            for mapping in maps.iter().filter(|m| m.start < end && m.end > start) {
                let plain = mapping.path.is_none() || journal::is_memory_of_ours(mapping);
                if mapping.start > at || mapping.perms.execute || !plain {
                    return false;
                }
                at = mapping.end;
            }
            at >= end
        };
        Ok(mappings.iter().filter(is_ours).copied().collect())
    }
}

impl From<&Member> for Inserted {
    fn from(member: &Member) -> Inserted {
        Inserted {
            owner: member.owner,
            id: InsertedId(member.id),
            address: member.address,
            at_function_entry: member.at_function_entry,
            at_function_exit: member.at_function_exit,
            after: member.after,
            snippet: member.snippet.clone(),
        }
    }
}

/// The image and the plan that a record is about.
fn plan_of<'a>(record: &SiteRecord, images: &'a [Image]) -> Option<(&'a Image, Plan)> {
    let image = images
        .iter()
        .find(|image| image.range().contains(&record.shape.site))?;
    let shape = record.shape.rebase(0u64.wrapping_sub(image.bias()));
    let plan = Plan::of_shape(&shape, &|address| image.module.code_at(address))?;
    Some((image, plan.rebase(image.bias())))
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;
    use crate::journal::Line;
    use crate::process::Pid;

    struct Program(Child);

    impl Drop for Program {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn what_another_session_took_of_our_memory_is_not_given_away_again() {
        const PIECE: u64 = 64;
        let program = Program(Command::new("sleep").arg("1000").spawn().unwrap());
        let pid = Pid(program.0.id() as i32);
        let mut ours = Process::attach(pid).unwrap();
        let range = ours.images().unwrap()[0].range();
        let first = ours.allocate_code_near(range.clone(), PIECE).unwrap();
        ours.release().unwrap();

        let mut other = Process::attach(pid).unwrap();
        other.me = Owner::of(1);
        let images = other.images().unwrap();
        other.reconcile(&images).unwrap();
        let on_our_behalf = other.allocate_for(ours.me, range.clone(), PIECE).unwrap();
        other.release().unwrap();

        ours.stop_again().unwrap();
        let mapped = ours.map_private(PAGE, libc::PROT_READ, false).unwrap();
        let (_, record) = ours.mappings[&mapped];
        let next = ours.allocate_code_near(range, PIECE).unwrap();
        assert_eq!(on_our_behalf, first + PIECE);
        assert!(record.unwrap() >= on_our_behalf + PIECE, "{record:x?}");
        assert!(next >= on_our_behalf + PIECE, "{next:x}");
        let removal = ours.remove_all_and_unmap(&mut |_| false).unwrap();
        assert!(removal.unmapped);
    }

    #[test]
    fn a_line_that_was_left_does_not_cost_another_session_its_memory() {
        let program = Program(Command::new("sleep").arg("1000").spawn().unwrap());
        let mut tracer = Program(Command::new("sleep").arg("1000").spawn().unwrap());
        let pid = Pid(program.0.id() as i32);
        let mut killed = Process::attach(pid).unwrap();
        killed.me = Owner::of(tracer.0.id());
        let mapped = killed.map_private(PAGE, libc::PROT_READ, false).unwrap();
        let page = killed.escape.unwrap().mapping().0;
        killed.release().unwrap();

        let mut living = Process::attach(pid).unwrap();
        living.me = Owner::of(1);
        let range = living.images().unwrap()[0].range();
        let code = living.allocate_code_near(range, 64).unwrap();
        let (start, len) = living.pools.mappings().next().unwrap();
        let data = living.map_private(PAGE, libc::PROT_READ, false).unwrap();
        living.release().unwrap();

        // Where it was about to map something when it was killed.
        killed.stop_again().unwrap();
        for (line, start, len) in [(Line::Code, start, len), (Line::Mapping, data, PAGE)] {
            let words = [start, len].map(u64::to_le_bytes).concat();
            killed.write_code(line.address(page), &words).unwrap();
        }
        killed.release().unwrap();
        tracer.0.kill().unwrap();
        tracer.0.wait().unwrap();

        let mut ours = Process::attach(pid).unwrap();
        let images = ours.images().unwrap();
        ours.reconcile(&images).unwrap();
        let maps = ours.maps().unwrap();
        let is_there = |at: u64| maps.iter().any(|m| (m.start..m.end).contains(&at));
        assert_eq!([code, data].map(is_there), [true; 2]);
        assert_eq!([page, mapped].map(is_there), [false; 2]);
    }
}
