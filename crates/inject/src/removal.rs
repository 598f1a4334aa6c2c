//! Taking snippets out again, and all that was mapped for them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::time::Duration;

use symbols::Mapping;

use crate::arch::hook::{Posting, postings, scratch};
use crate::arch::{SYSCALL, Trampoline, Write};
use crate::code_page::CodePages;
use crate::error::InjectError;
use crate::image::Image;
use crate::journal::Line;
use crate::notice::Notice;
use crate::patcher::{Draft, Inserted, InsertedId, Site};
use crate::proc_file::inner_pid;
use crate::process::{Pid, Process};
use crate::record::Mapped;
use crate::record::SiteRecord;
use crate::stack::{interrupted_in, words_pointing_into};
use crate::survey::holder;
use crate::{ptrace, record, restart};

/// What a removal could not undo.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removal {
    /// Sites whose bytes were no longer ours; they were left as they are.
    pub left: Vec<u64>,
    /// Whether all memory of ours was unmapped. If not, a thread was still inside, or a site was
    /// left: what stays mapped is harmless.
    pub unmapped: bool,
}

impl Process {
    /// Removes snippets; a site without any left gets its original bytes back. Unknown (already
    /// removed) ones are ignored. Trampolines stay mapped, as threads may be in them:
    /// [`Process::remove_all_and_unmap`].
    ///
    /// # Errors
    /// [`InjectError::NotHeld`], [`InjectError::Exited`], [`InjectError::Write`].
    pub fn remove(&mut self, ids: &[InsertedId]) -> Result<Removal, InjectError> {
        self.stop_running()?;
        let images = self.images()?;
        self.reconcile(&images)?;
        let mut touched = BTreeSet::new();
        for id in ids {
            if let Some(site) = self.patches.site_of.remove(id) {
                touched.insert(site);
            }
        }
        let gone: BTreeSet<InsertedId> = ids.iter().copied().collect();
        let mut removal = Removal::default();
        let mut drafts = BTreeMap::new();
        let mut emptied = Vec::new();
        for address in touched {
            let Some(site) = self.patches.sites.get(&address) else {
                continue;
            };
            let kept: Vec<Inserted> = site
                .inserted
                .iter()
                .filter(|one| one.owner != self.me || !gone.contains(&one.id))
                .cloned()
                .collect();
            if kept.is_empty() {
                emptied.push(address);
            } else {
                let draft = Draft {
                    plan: site.plan.clone(),
                    image: site.image.clone(),
                    inserted: kept,
                    new: false,
                };
                drafts.insert(address, draft);
            }
        }
        removal.left = self.restore(&emptied)?;
        let refused = self.apply(drafts)?;
        removal
            .left
            .extend(refused.into_iter().map(|(site, _)| site));
        Ok(removal)
    }

    /// Looks at what is in the held process and what others have done there, ahead of [`Process::remove_all_and_unmap`],
    /// so that this has less to do: one stopped thread is enough.
    ///
    /// # Errors
    /// As [`Process::remove`].
    pub fn prepare_removal(&mut self) -> Result<(), InjectError> {
        self.require_held()?;
        let images = self.images()?;
        self.reconcile(&images)
    }

    /// Removes everything that was inserted, and unmaps all memory of ours (trampolines, code,
    /// shared and private mappings) once no thread can be inside it: none executes there or will
    /// return there, and `is_busy` says of no thread that it is in a handler. (Snippets must
    /// therefore call no code but their own, in memory of ours.) Threads that are get a little time to come out, during which the
    /// process runs. Held when it returns.
    ///
    /// # Errors
    /// As [`Process::remove`].
    pub fn remove_all_and_unmap(
        &mut self,
        is_busy: &mut dyn FnMut(Pid) -> bool,
    ) -> Result<Removal, InjectError> {
        self.stop_running()?;
        let mut removal = Removal::default();
        let mut images = self.images()?;
        self.reconcile(&images)?;
        let me = self.me;
        let mut trampolines: Vec<Trampoline> = Vec::new();
        let mut sites = Vec::new();
        let mut shared = BTreeMap::new();
        for (&address, site) in &self.patches.sites {
            let others: Vec<Inserted> = site
                .inserted
                .iter()
                .filter(|one| one.owner != me)
                .cloned()
                .collect();
            if others.is_empty() {
                sites.push(address);
                trampolines.push(site.trampoline.clone());
            } else if others.len() < site.inserted.len() {
                let draft = Draft {
                    plan: site.plan.clone(),
                    image: site.image.clone(),
                    inserted: others,
                    new: false,
                };
                shared.insert(address, draft);
            }
        }
        removal.left = self.restore(&sites)?;
        let refused = self.apply(shared)?;
        removal
            .left
            .extend(refused.into_iter().map(|(site, _)| site));
        self.patches.site_of.clear();
        self.watching = None;
        if !removal.left.is_empty() {
            return Ok(removal);
        }
        let elsewhere = self.code_of(me);
        let mut pause = Duration::from_millis(1);
        for attempt in 0..8 {
            if attempt > 0 {
                let execs = self.execs;
                self.release()?;
                std::thread::sleep(pause);
                pause *= 2;
                self.stop_one_thread()?;
                self.stop_running()?;
                if self.execs != execs {
                    removal.unmapped = true;
                    return Ok(removal);
                }
                // Other sessions may have made trampolines anew.
                images = self.images()?;
                self.reconcile(&images)?;
            }
            self.leave_trampolines(&trampolines, &images)?;
            let tables: Vec<Mapped> = self.mappings.values().map(|(m, _)| *m).collect();
            let is_left = self.put_returns_back(&tables)?;
            if self.anybody_inside(&elsewhere, is_busy)? || is_left {
                continue;
            }
            if self.leave_debuggers(&tables)? {
                continue;
            }
            if !self.send_on(&trampolines, &images)? {
                return Ok(removal);
            }
            let interrupted: Vec<Pid> = match self.waiting {
                Some(_) => restart::resumed_calls(&self.thread_ids()),
                None => Vec::new(),
            };
            // Nothing leads to our code any more.
            self.let_others_run()?;
            restart::await_resumption(&interrupted);
            if self.escape.is_none() && self.mappings.is_empty() && self.pools.is_empty() {
                removal.unmapped = true;
                return Ok(removal);
            }
            let mappings = self.mappings.values();
            let mapped: Vec<_> = mappings
                .map(|&(m, record)| (m.start, m.len, record))
                .collect();
            self.unmap_recorded(&mapped)?;
            let code: Vec<(u64, u64)> = self.pools.mappings().collect();
            self.unmap_all(&code)?;
            self.pools.clear();
            self.mappings.clear();
            self.watching = None;
            // Last the page that makes it safe to be killed here.
            self.unmap_escape()?;
            removal.unmapped = true;
            return Ok(removal);
        }
        Ok(removal)
    }

    /// The same on behalf of a notice whose thread waits: it is sent on to what it was about to do when all is removed, without
    /// an answer. If [`Removal::unmapped`] says otherwise it still waits.
    ///
    /// # Errors
    /// As [`Process::remove`].
    pub fn remove_all_and_unmap_before(
        &mut self,
        notice: &Notice,
        is_busy: &mut dyn FnMut(Pid) -> bool,
    ) -> Result<Removal, InjectError> {
        self.waiting = Some(notice.tid);
        let done = self.remove_all_and_unmap(is_busy);
        self.waiting = None;
        done
    }

    /// Sends the thread that waits for an answer on its way, past trampolines that no jump leads to any more. `false` if that
    /// can't be done.
    fn send_on(&mut self, known: &[Trampoline], images: &[Image]) -> Result<bool, InjectError> {
        let Some(tid) = self.waiting else {
            return Ok(true);
        };
        let Some(posting) = self.posting_of(tid) else {
            return Ok(false);
        };
        let at = posting.continues;
        let trampoline = match known.iter().find(|one| one.range().contains(&at)) {
            Some(trampoline) => Some(trampoline.clone()),
            None => {
                let records = self.written_sites();
                let holds = |site: &&SiteRecord| {
                    at >= site.trampoline && at - site.trampoline < site.trampoline_len
                };
                let record = records.iter().find(holds);
                record.and_then(|record| self.trampoline_of(record, images))
            }
        };
        let Some(next) = trampoline.and_then(|left| self.instead_of(&left, at, false)) else {
            return Ok(false);
        };
        let registers = ptrace::registers(tid);
        let mut registers = self.or_death(registers)?;
        posting.put_back(&mut registers);
        registers.rip = next;
        let moved = ptrace::set_registers(tid, &registers);
        self.or_death(moved)?;
        Ok(true)
    }

    /// What a thread has posted from memory of this session.
    fn posting_of(&self, tid: Pid) -> Option<Posting> {
        let inner = inner_pid(tid)?;
        let own = self.mappings.values().map(|&(mapped, _)| mapped);
        let mut pages = own.filter(|mapped| mapped.len == scratch::PAGE);
        pages.find_map(|mapped| {
            let page = self.read_vec(mapped.start, scratch::PAGE as usize).ok()?;
            postings(&page).find(|posting| posting.inner_tid == inner)
        })
    }

    /// Unmaps memory, given by start and length and where it is recorded. It is taken off the records before, as its
    /// place may be the program's from then on.
    pub(crate) fn unmap_recorded(
        &mut self,
        mappings: &[(u64, u64, Option<u64>)],
    ) -> Result<(), InjectError> {
        self.with_borrowed_thread(|thread| {
            for &(start, len, record) in mappings {
                thread.announce(Line::Mapping, start, len)?;
                if let Some(record) = record {
                    thread.process().write(record, &record::void())?;
                }
                thread.call("munmap", libc::SYS_munmap, [start, len, 0, 0, 0, 0])?;
            }
            thread.announce(Line::Mapping, 0, 0)
        })
    }

    /// Unmaps memory, given by start and length.
    pub(crate) fn unmap_all(&mut self, ranges: &[(u64, u64)]) -> Result<(), InjectError> {
        self.with_borrowed_thread(|thread| {
            for &(start, len) in ranges {
                thread.call("munmap", libc::SYS_munmap, [start, len, 0, 0, 0, 0])?;
            }
            Ok(())
        })
    }

    /// Puts the original bytes of sites back; answers with those whose bytes are not ours.
    pub(crate) fn restore(&mut self, addresses: &[u64]) -> Result<Vec<u64>, InjectError> {
        if !addresses.is_empty() {
            self.stop_running()?;
        }
        let mut pages = CodePages::default();
        let mut left = Vec::new();
        let mut sites: Vec<Site> = Vec::new();
        for &address in addresses {
            let Some(site) = self.patches.sites.remove(&address) else {
                continue;
            };
            for one in &site.inserted {
                self.patches.site_of.remove(&one.id);
            }
            if site.written.iter().all(|write| pages.holds(self, write)) {
                sites.push(site);
            } else {
                left.push(address);
            }
        }
        if !left.is_empty() && self.has_ended() {
            return Err(self.note_death());
        }
        // A thread may stand at the second jump of a pair.
        let seconds: HashMap<u64, u64> = sites
            .iter()
            .flat_map(|site| {
                let trampoline = &site.trampoline;
                site.plan.second_jumps().filter_map(move |(at, target)| {
                    Some((
                        at,
                        trampoline
                            .copy_of(target)
                            .or_else(|| (target == site.plan.site).then_some(trampoline.address))?,
                    ))
                })
            })
            .collect();
        if !seconds.is_empty() {
            for tid in self.thread_ids() {
                let registers = ptrace::registers(tid);
                let mut registers = self.or_death(registers)?;
                if let Some(&trampoline) = seconds.get(&registers.rip) {
                    registers.rip = trampoline;
                    let moved = ptrace::set_registers(tid, &registers);
                    self.or_death(moved)?;
                }
            }
        }
        let originals: Vec<&[Write]> = sites.iter().map(|site| site.plan.originals()).collect();
        if let Err(error) = self.write_lists(&originals) {
            return Err(self.or_ended(error));
        }
        for site in &sites {
            self.free_ranges(&site.plan, site.image.bias());
        }
        Ok(left)
    }

    /// Sends threads that stand in a trampoline that no jump leads to any more, where it is plain code, to where they
    /// would be without it: the original, or what is there for other sessions. `known` are some such trampolines; the
    /// rest is found by their records, as a thread may wait for long in the system call of one.
    pub(crate) fn leave_trampolines(
        &mut self,
        known: &[Trampoline],
        images: &[Image],
    ) -> Result<(), InjectError> {
        self.stop_running()?;
        self.learn_chunks()?;
        let mut written: Option<Vec<SiteRecord>> = None;
        for tid in self.thread_ids() {
            let registers = ptrace::registers(tid);
            let mut registers = self.or_death(registers)?;
            // A system call that will be made again is, in the kernel's eyes, the instruction that ends where the
            // thread stands: so it is sent behind the original of that instruction.
            let again = restart::pending(&registers).is_some();
            let length = if again { SYSCALL.len() as u64 } else { 0 };
            let at = registers.rip.wrapping_sub(length);
            let mut pools = std::iter::once(&self.pools).chain(self.others.values());
            if !pools.any(|pool| pool.holds(at)) {
                continue;
            }
            let left = match known.iter().find(|one| one.range().contains(&at)) {
                Some(trampoline) => Some(trampoline.clone()),
                None => {
                    let records = written.get_or_insert_with(|| self.written_sites());
                    let record = records.iter().find(|site| {
                        at >= site.trampoline && at - site.trampoline < site.trampoline_len
                    });
                    record.and_then(|record| self.trampoline_of(record, images))
                }
            };
            let Some(next) = left.and_then(|left| self.instead_of(&left, at, again)) else {
                continue;
            };
            registers.rip = next.wrapping_add(length);
            let moved = ptrace::set_registers(tid, &registers);
            self.or_death(moved)?;
        }
        Ok(())
    }

    /// Where a thread at an address of a trampoline that is used no more goes on; `again`: inside of an instruction.
    fn instead_of(&self, left: &Trampoline, at: u64, again: bool) -> Option<u64> {
        let original = left.original_of(at)?;
        let sites = &self.patches.sites;
        let around = |address: u64| {
            let site = holder(sites, address, |site| &site.plan)?;
            sites.get(&site)
        };
        match around(left.site()?).or_else(|| around(original)) {
            Some(site) if site.trampoline.address == left.address => None,
            Some(site) => left.in_place_of(at, again, &site.trampoline),
            None => Some(original),
        }
    }

    fn anybody_inside(
        &mut self,
        elsewhere: &[Range<u64>],
        is_busy: &mut dyn FnMut(Pid) -> bool,
    ) -> Result<bool, InjectError> {
        self.learn_chunks()?;
        let range = |(start, len)| start..start + len;
        let mut code: Vec<Range<u64>> = self.pools.mappings().map(range).collect();
        code.extend_from_slice(elsewhere);
        let mappings = self.mappings.values().map(|(m, _)| (m.start, m.len));
        let data: Vec<Range<u64>> = mappings.map(range).collect();
        let busy = self.thread_ids().into_iter().any(is_busy);
        Ok(busy || self.is_anybody_in(&code, &data)?)
    }

    /// Whether a thread runs code in some ranges or will return to it, or is on a stack in some others.
    ///
    /// Only our own code, and the vDSO on its behalf, is ever called from there. Elsewhere, what looks like a return
    /// address is left over, except where a signal interrupted such code. Posters are jumped to, and jump back.
    pub(crate) fn is_anybody_in(
        &mut self,
        code: &[Range<u64>],
        stacks: &[Range<u64>],
    ) -> Result<bool, InjectError> {
        self.stop_running()?;
        self.learn_chunks()?;
        if self.does_poster_return_to(code) {
            return Ok(true);
        }
        let (maps, called) = self.what_is_called()?;
        for tid in self.thread_ids() {
            if Some(tid) != self.waiting && self.is_thread_in(tid, &maps, &called, code, stacks)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a thread that posts a notice for whichever session goes on in some code when it is done: one trampoline may
    /// hold the hooks of several.
    fn does_poster_return_to(&self, code: &[Range<u64>]) -> bool {
        let own = self.mappings.values().map(|&(mapped, _)| mapped);
        let others = self.others.values();
        let others = others.flat_map(|pool| self.read_pool(pool).mappings);
        let pages = own.chain(others.map(|(mapped, _)| mapped));
        let mut pages = pages.filter(|mapped| mapped.len == scratch::PAGE);
        let waiting = self.waiting.and_then(inner_pid);
        pages.any(|mapped| {
            let page = self.read_vec(mapped.start, scratch::PAGE as usize);
            let page = page.unwrap_or_default();
            let mut others = postings(&page).filter(|one| Some(one.inner_tid) != waiting);
            others.any(|one| code.iter().any(|range| range.contains(&one.continues)))
        })
    }

    /// The threads of the held process with their FS bases, and whether each is, or may be, in a handler.
    ///
    /// # Errors
    /// [`InjectError::NotHeld`], [`InjectError::Exited`].
    pub fn thread_pointers(&mut self) -> Result<Vec<(Pid, u64, bool)>, InjectError> {
        self.stop_running()?;
        self.learn_chunks()?;
        let range = |(start, len)| start..start + len;
        let code: Vec<Range<u64>> = self.pools.mappings().map(range).collect();
        let mappings = self.mappings.values().map(|(m, _)| (m.start, m.len));
        let data: Vec<Range<u64>> = mappings.map(range).collect();
        let (maps, called) = self.what_is_called()?;
        let mut found = Vec::new();
        for tid in self.thread_ids() {
            let registers = ptrace::registers(tid);
            let base = self.or_death(registers)?.fs_base;
            let inside = self.is_thread_in(tid, &maps, &called, &code, &data)?;
            found.push((tid, base, inside));
        }
        Ok(found)
    }

    /// What is mapped, and all code that ours calls.
    fn what_is_called(&self) -> Result<(Vec<Mapping>, Vec<Range<u64>>), InjectError> {
        let maps = self.maps()?;
        let others = self.others.values().flat_map(|pool| pool.mappings());
        let mut called: Vec<Range<u64>> = self
            .pools
            .mappings()
            .chain(others)
            .map(|(start, len)| start..start + len)
            .collect();
        let is_vdso = |m: &&Mapping| m.path.as_ref().is_some_and(|p| p.as_os_str() == "[vdso]");
        called.extend(maps.iter().find(is_vdso).map(|m| m.start..m.end));
        Ok((maps, called))
    }

    fn is_thread_in(
        &mut self,
        tid: Pid,
        maps: &[Mapping],
        called: &[Range<u64>],
        code: &[Range<u64>],
        stacks: &[Range<u64>],
    ) -> Result<bool, InjectError> {
        let registers = ptrace::registers(tid);
        let registers = self.or_death(registers)?;
        let (at, stack) = (registers.rip, registers.rsp);
        if code.iter().any(|range| range.contains(&at))
            || stacks.iter().any(|range| range.contains(&stack))
        {
            return Ok(true);
        }
        // A handler of another session may have been called by what is looked for.
        let Some(own_stack) = self.program_stack(stack) else {
            return Ok(true);
        };
        let is_called = own_stack != stack || called.iter().any(|range| range.contains(&at));
        // At both ends of a poster; a system call leaves in rcx where it was made, which may be long ago.
        let is_in_call = registers.orig_rax as i64 >= 0;
        let continues =
            is_called && !is_in_call && code.iter().any(|range| range.contains(&registers.rcx));
        Ok(continues
            || is_called && words_pointing_into(self, maps, own_stack, code)
            || interrupted_in(self, maps, stack, called)
            || own_stack != stack && interrupted_in(self, maps, own_stack, called))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Child, ChildStdout, Command, Stdio};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;

    use super::*;
    use crate::arch::RegisterSet;
    use crate::owner::Owner;
    use crate::patcher::Insertion;
    use crate::point::Point;
    use crate::snippet::{Snippet, SnippetCode};

    /// A program that reads and writes.
    struct Cat {
        child: Child,
        output: BufReader<ChildStdout>,
    }

    impl Cat {
        fn start() -> Cat {
            let mut child = Command::new("cat")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("cat");
            let output = BufReader::new(child.stdout.take().unwrap());
            Cat { child, output }
        }

        fn pid(&self) -> Pid {
            Pid(self.child.id() as i32)
        }

        fn echo(&mut self, text: &str) {
            writeln!(self.child.stdin.as_mut().unwrap(), "{text}").unwrap();
            let mut line = String::new();
            self.output.read_line(&mut line).unwrap();
            assert_eq!(line.trim_end(), text);
        }

        /// It waits with its input closed.
        fn end(&mut self) {
            assert!(self.child.wait().unwrap().success());
        }
    }

    /// Probes the calls of read(2), as the tracer of this number.
    fn probe_reads(pid: Pid, tracer: u32) -> Process {
        let mut process = Process::attach(pid).unwrap();
        process.me = Owner::of(tracer);
        let images = process.images().unwrap();
        let calls = images
            .iter()
            .flat_map(|image| image.system_calls_of(&[libc::SYS_read]));
        let snippet = Snippet {
            code: SnippetCode::Inline {
                code: vec![0x90],
                wants_frame: false,
                wants_argument: false,
            },
            reads: RegisterSet::EMPTY,
            clobbers: RegisterSet::EMPTY,
            argument: 0,
        };
        let insertions: Vec<Insertion> = calls
            .map(|call| Point::before_system_call(call.address()))
            .map(|point| Insertion::at(&point, snippet.clone()))
            .collect();
        let answers = process.insert(&insertions).unwrap();
        assert!(answers.iter().any(Result::is_ok), "{answers:?}");
        process.release().unwrap();
        process
    }

    #[test]
    fn who_leaves_while_another_does_sends_nobody_where_that_one_was() {
        let mut cat = Cat::start();
        let pid = cat.pid();
        cat.echo("before");
        let (there, is_there) = mpsc::channel();
        let (leave, told_to_leave) = mpsc::channel();
        let has_left = &AtomicBool::new(false);
        std::thread::scope(|scope| {
            // The first has the trampoline in its memory that the last makes when it leaves.
            let first = scope.spawn(move || {
                let mut process = probe_reads(pid, 1);
                there.send(()).unwrap();
                told_to_leave.recv().unwrap();
                process.stop_again().unwrap();
                let removal = process.remove_all_and_unmap(&mut |_| false).unwrap();
                process.release().unwrap();
                has_left.store(true, Ordering::SeqCst);
                removal.unmapped
            });
            is_there.recv().unwrap();
            let mut stays = probe_reads(pid, std::os::unix::process::parent_id());
            let mut last = probe_reads(pid, std::process::id());
            // Its patience may end before the first comes in.
            let has_unmapped = (0..20).any(|_| {
                last.stop_again().unwrap();
                let mut is_busy = |_| {
                    let _ = leave.send(());
                    !has_left.load(Ordering::SeqCst)
                };
                let removal = last.remove_all_and_unmap(&mut is_busy).unwrap();
                last.release().unwrap();
                removal.unmapped
            });
            assert!(has_unmapped);
            assert!(first.join().unwrap());
            cat.echo("between");
            stays.stop_again().unwrap();
            let removal = stays.remove_all_and_unmap(&mut |_| false).unwrap();
            stays.release().unwrap();
            assert!(removal.unmapped);
        });
        cat.echo("after");
        cat.end();
    }

    #[test]
    fn who_looks_for_threads_alone_does_not_forget_that_another_has_left() {
        let mut cat = Cat::start();
        let pid = cat.pid();
        let mut leaves = probe_reads(pid, std::os::unix::process::parent_id());
        let mut stays = probe_reads(pid, std::process::id());
        leaves.stop_again().unwrap();
        assert!(
            leaves
                .remove_all_and_unmap(&mut |_| false)
                .unwrap()
                .unmapped
        );
        leaves.release().unwrap();
        // As a session does that wants slots back.
        stays.stop_again().unwrap();
        stays.thread_pointers().unwrap();
        stays.release().unwrap();
        stays.stop_again().unwrap();
        assert!(stays.remove_all_and_unmap(&mut |_| false).unwrap().unmapped);
        stays.release().unwrap();
        // Nothing was made on behalf of the one that had left.
        let code = |mapping: &Mapping| mapping.perms.execute && mapping.path.is_none();
        assert!(!stays.maps().unwrap().iter().any(code));
        cat.echo("on");
        cat.end();
    }
}
