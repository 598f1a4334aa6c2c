//! A probed process: what is mapped into it, what is patched, and how it is let go.

mod description;
mod installation;
mod return_sites;
mod semaphores;
mod system_call_sites;

use crate::arena::Arena;
use crate::plan::{Owner, Plan};
use crate::resolve::{Candidate, Scope, Site};
use crate::returns::{self, Interception};
use crate::stacks::{self, Stacks};
use codegen::{Compiled, EntryForm, HandlerId, LinkError, Registers, ThreadPointer};
use inject::arch::RegisterSet;
use inject::snippet::{Snippet, SnippetCode};
use inject::{
    Image, InjectError, InsertedId, Insertion, Process, Refused, StackModule, TableParts,
};
use return_sites::ReturnWork;
use runtime::layout::{REMOVED, THREAD_TABLE_ENTRIES};
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use symbols::neighbours::LoadedTogether;

/// One site with the handler that is to run there and the number that the handler is given.
#[derive(Clone, Debug)]
pub struct Placement {
    /// Where.
    pub site: Site,
    /// What runs.
    pub handler: HandlerId,
    /// The number of the site in the arena.
    pub number: u32,
}

/// Why a process could not be probed.
#[derive(Debug, thiserror::Error)]
pub enum TraceeError {
    /// The engine's reason.
    #[error(transparent)]
    Inject(#[from] InjectError),
    /// Its threads can't be sampled.
    #[error(transparent)]
    Perf(#[from] crate::perf::PerfError),
    /// Code for the process could not be made.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The run time embedded in this executable is damaged.
    #[error("the embedded run time: {0}")]
    Blob(String),
    /// The process is not what it was when its probe points were looked up.
    #[error("process {0} has loaded another program or other libraries meanwhile; try again")]
    Changed(i32),
    /// The process would not survive what handlers do.
    #[error(
        "process {pid} is confined by a seccomp filter that forbids the system call {call}, which handlers make; it cannot be probed"
    )]
    Confined {
        /// The process.
        pid: i32,
        /// The system call's name.
        call: &'static str,
    },
    /// Every process record is taken.
    #[error(
        "{count} programs are probed already, and process {pid} would be one more; -D SPILE_PROCESSES makes room"
    )]
    TooMany {
        /// The process.
        pid: i32,
        /// Number of process records.
        count: u32,
    },
    /// The process may not map the arena.
    #[error(
        "process {pid} has no room for {mib} MiB of shared address space ({why}); smaller -D SPILE_THREADS (1024), SPILE_RING (4 MiB each) or MAXMAPENTRIES need less"
    )]
    NoRoom {
        /// The process.
        pid: i32,
        /// What the arena takes.
        mib: u64,
        /// The limit that is in the way.
        why: &'static str,
    },
}

impl TraceeError {
    /// Whether all that is wrong is that the process has ended.
    pub fn is_exit(&self) -> bool {
        matches!(self, TraceeError::Inject(error) if error.is_exit())
    }
}

/// What came of patching.
#[derive(Debug, Default)]
pub struct Placed {
    /// How many sites are probed.
    pub sites: usize,
    /// How many of them are return probes.
    pub returns: usize,
    /// Return probes of functions that end in jumps to other ones, which return in their place.
    pub jumping: usize,
    /// Return probes that work by another return address.
    pub replaced: usize,
    /// Places that were left alone, with the reason and the probe point's text.
    pub refused: Vec<(String, Refused)>,
}

/// What a process has of ours besides patches.
#[derive(Debug, Clone)]
struct Installed {
    arena: u64,
    table: u64,
    /// Where the run time's code stands.
    blob: u64,
    thread_pointer: ThreadPointer,
    /// Address of what handlers walk stacks by; 0 when none does.
    directory: u64,
    /// Address of the values saved for return handlers, and how many bytes a call may have; 0 without any.
    frames: (u64, u64),
    /// What replaces return addresses, once it was needed, or why they are left alone.
    interception: Option<Result<Interception, String>>,
    /// The handlers that are there already.
    entries: HashMap<HandlerId, EntryForm>,
    /// Functions that run them.
    stubs: HashMap<HandlerId, u64>,
}

/// A process with probes in it.
#[derive(Debug)]
pub struct Tracee {
    process: Process,
    images: Arc<Vec<Image>>,
    scope: Arc<Scope>,
    /// What its modules know of each other.
    together: Option<Arc<LoadedTogether>>,
    /// Number of its process record; forked children share their parent's.
    record: u32,
    inner_pid: u32,
    is_described: bool,
    installed: Option<Installed>,
    /// Modules that were dealt with: path and bias.
    done: HashSet<(PathBuf, u64)>,
    /// Raised semaphores: the module's path, and the address.
    semaphores: Vec<(PathBuf, u64)>,
    expedited: bool,
    /// It has confined itself, and its probes were taken out before.
    is_confined: bool,
    stacks: Option<Stacks>,
}

/// An entry of a process's thread table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ThreadEntryAt {
    /// Where it stands.
    pub address: u64,
    /// What the thread is found by.
    pub key: u64,
    /// Offset of its slot in the arena, as far as the process can be believed.
    pub slot: u64,
}

/// A module of a process with what is to be probed in it.
pub type Work = (Image, Arc<[Placement]>);

impl Tracee {
    /// Takes a process and looks at what is mapped into it. `record` is the number of its process record.
    pub fn new(process: Process, record: u32) -> Result<Tracee, TraceeError> {
        let mut tracee = Tracee {
            inner_pid: inner_pid(process.pid().0),
            process,
            images: Arc::default(),
            scope: Arc::default(),
            record,
            together: None,
            is_described: false,
            installed: None,
            done: HashSet::new(),
            semaphores: Vec::new(),
            expedited: false,
            is_confined: false,
            stacks: None,
        };
        tracee.look()?;
        Ok(tracee)
    }

    /// Looks again at what is mapped into it; what was unmapped meanwhile is forgotten.
    pub fn look(&mut self) -> Result<(), TraceeError> {
        self.images = Arc::new(self.process.images()?);
        let candidates = self.images.iter().enumerate().map(|(i, image)| Candidate {
            path: image.path().to_path_buf(),
            identity: image.identity(),
            binary: Arc::clone(image.binary()),
            is_library: i > 0,
        });
        let scope = Scope {
            candidates: candidates.collect(),
        };
        self.together = Some(scope.acquaint());
        self.scope = Arc::new(scope);
        let now: HashSet<(PathBuf, u64)> = self.images.iter().map(place_of).collect();
        self.done.retain(|place| now.contains(place));
        Ok(())
    }

    /// Its program and libraries, whose code can be looked at while it runs.
    pub fn images(&self) -> &[Image] {
        &self.images
    }

    /// The modules in which its probe points are looked for.
    pub fn scope(&self) -> &Arc<Scope> {
        &self.scope
    }

    /// As probe points see it; `None` when its program can't be read.
    pub fn owner(&self) -> Option<Owner<'_>> {
        let program = self.scope.candidates.first()?;
        let pid = self.pid();
        Some(Owner { pid, program })
    }

    /// The modules that were not dealt with, with what is to be probed in them.
    pub fn work(&self, plan: &mut Plan<'_>) -> Vec<Work> {
        let Some(owner) = self.owner() else {
            return Vec::new();
        };
        let modules = self.images.iter().zip(&self.scope.candidates);
        modules
            .filter(|(image, _)| !self.done.contains(&place_of(image)))
            .map(|(image, candidate)| (image.clone(), plan.placements(owner, candidate)))
            .collect()
    }

    /// Whether the plan knows all that [`Tracee::work`] would ask it.
    pub fn is_known(&self, plan: &Plan<'_>) -> bool {
        self.owner().is_none_or(|owner| {
            let mut modules = self.scope.candidates.iter();
            modules.all(|candidate| plan.knows(owner, candidate))
        })
    }

    /// Becomes readable when the process ends.
    pub fn exit_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.process.exit_fd()
    }

    /// Whether the process has ended.
    pub fn has_ended(&self) -> bool {
        let fd = self.exit_fd();
        let mut fds = [rustix::event::PollFd::new(
            &fd,
            rustix::event::PollFlags::IN,
        )];
        let now = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        rustix::event::poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
    }

    /// The tables for walking its stacks, when handlers do that.
    pub fn stacks(&self) -> Option<&Stacks> {
        self.stacks.as_ref()
    }

    /// The modules mapped now, with tables that hold these parts; none of a process that has ended.
    pub fn stack_modules(&self, parts: TableParts) -> Vec<StackModule> {
        self.process.stack_modules(parts).unwrap_or_default()
    }

    /// The modules mapped now, for naming addresses.
    pub fn loaded_modules(&self) -> Vec<StackModule> {
        self.process
            .stack_modules(TableParts::default())
            .unwrap_or_default()
    }

    /// Whether the tracer's membarrier reaches the process at once; also when there is no probe in it.
    pub fn is_expedited(&self) -> bool {
        self.expedited || self.installed.is_none()
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Its number.
    pub fn pid(&self) -> i32 {
        self.process.pid().0
    }

    /// Its number as it sees itself, in its own PID namespace.
    pub fn inner_pid(&self) -> u32 {
        self.inner_pid
    }

    /// Number of its process record.
    pub fn record(&self) -> u32 {
        self.record
    }

    /// Whether handlers can run in it.
    pub fn has_probes(&self) -> bool {
        self.installed.is_some()
    }

    /// Lets the process run while its probes are compiled; [`Tracee::place`] stops it again.
    pub fn let_run(&mut self) -> Result<(), TraceeError> {
        Ok(self.process.release()?)
    }

    /// Maps arena and handlers into the process, where that was not done before, and patches the sites. Held when it
    /// returns, by one of its threads if it has several; after a failure of the first time there is nothing of ours in
    /// the process.
    ///
    /// # Errors
    /// [`TraceeError::Changed`] when the process is no longer what it was when the work was looked up, and is held now.
    pub fn place(
        &mut self,
        compiled: &Compiled,
        arena: &mut Arena,
        work: &[Work],
    ) -> Result<Placed, TraceeError> {
        let is_first = self.installed.is_none();
        // The files' part of the work is done before the process is stopped, and kept until it is done again below.
        let _warm = match stacks::needed(compiled) {
            Some(parts) if !self.process.is_held() => Some(self.process.stack_modules(parts)?),
            _ => None,
        };
        let facts = self.return_facts(compiled, work);
        if !self.process.is_held() {
            self.hold_again(work)?;
        }
        let placed = self.place_held(compiled, arena, work, facts);
        if is_first && placed.as_ref().is_err_and(|error| !error.is_exit()) {
            self.installed = None;
            self.lower_semaphores();
            // No thread can be in a handler: the process has not run. The first failure is the one to report.
            let _ = self.process.remove_all_and_unmap(&mut |_| false);
        }
        if placed.is_ok() {
            self.process.let_others_run()?;
        }
        match placed {
            Err(TraceeError::Inject(InjectError::Replaced { .. })) => {
                Err(TraceeError::Changed(self.pid()))
            }
            placed => placed,
        }
    }

    /// For each placement of the work what is known of the function, if it is probed where it returns.
    fn return_facts(&self, compiled: &Compiled, work: &[Work]) -> Vec<Option<returns::Facts>> {
        let functions: Vec<Option<returns::ProbedReturn<'_>>> = work
            .iter()
            .flat_map(|(image, placements)| placements.iter().map(move |p| (image, &p.site)))
            .map(|(image, site)| {
                let function = site.returns.filter(|_| site.around.is_none())?;
                let linkage = site.is_linkage().then_some(site.text.mark.as_str());
                Some((image, image.absolute(function), linkage))
            })
            .collect();
        let replaces = compiled.limits().replace_returns;
        returns::facts(&self.process, &self.images, &functions, replaces)
    }

    /// Stops a thread of the process, having looked at the code that is to be patched, which takes longer than all the
    /// rest.
    fn hold_again(&mut self, work: &[Work]) -> Result<(), TraceeError> {
        let used = || work.iter().filter(|(_, placements)| !placements.is_empty());
        for (image, placements) in used() {
            let sites = || placements.iter().map(|placement| &placement.site);
            if sites().any(|site| site.around.is_some()) {
                image.system_calls();
            }
            if sites().any(|site| site.returns.is_some()) {
                image.analyse();
            } else {
                let places = sites().filter(|site| site.around.is_none());
                let addresses: Vec<u64> = places.map(|s| image.absolute(s.address)).collect();
                image.prepare(&addresses);
            }
        }
        let execs = self.process.exec_count();
        // It has just begun another program, perhaps, whose libraries are to come.
        let is_starting = stop_when_started(&mut self.process)?;
        let now = self.process.images()?;
        let same = |a: &Image| {
            now.iter()
                .any(|b| (a.path(), a.bias(), a.identity()) == (b.path(), b.bias(), b.identity()))
        };
        let has_changed = self.process.exec_count() != execs || is_starting;
        if has_changed || !used().all(|(image, _)| same(image)) {
            return Err(TraceeError::Changed(self.pid()));
        }
        Ok(())
    }

    /// Fails when a filter of the process would kill it for a system call that handlers make.
    fn check_confinement(&mut self) -> Result<(), TraceeError> {
        let numbers = MADE.map(|(_, number)| number);
        let verdicts = self.process.seccomp_verdicts(&numbers)?;
        let stopped = Some(inject::SeccompVerdict::Stopped);
        let is_stopped = |number| {
            let mut verdicts = numbers.iter().zip(&verdicts);
            verdicts.any(|(of, verdict)| *of == number && *verdict == stopped)
        };
        match made_by_handlers(is_stopped) {
            Some(call) => {
                let pid = self.pid();
                Err(TraceeError::Confined { pid, call })
            }
            None => Ok(()),
        }
    }

    fn place_held(
        &mut self,
        compiled: &Compiled,
        arena: &mut Arena,
        work: &[Work],
        facts: Vec<Option<returns::Facts>>,
    ) -> Result<Placed, TraceeError> {
        if !self.is_described {
            self.describe(compiled.layout(), arena, self.record)?;
            self.is_described = true;
        }
        let done: Vec<_> = work.iter().map(|(image, _)| place_of(image)).collect();
        let work: Vec<(&Image, &Placement)> = work
            .iter()
            .flat_map(|(image, placements)| placements.iter().map(move |p| (image, p)))
            .collect();
        let placed = if work.is_empty() {
            self.install_stacks(compiled)?;
            Placed::default()
        } else {
            self.patch(compiled, arena, &work, facts)?
        };
        self.done.extend(done);
        Ok(placed)
    }

    fn patch(
        &mut self,
        compiled: &Compiled,
        arena: &mut Arena,
        work: &[(&Image, &Placement)],
        facts: Vec<Option<returns::Facts>>,
    ) -> Result<Placed, TraceeError> {
        if self.installed.is_none() {
            self.installed = Some(self.install(arena)?);
        }
        self.install_stacks(compiled)?;
        let mut wanted: HashSet<HandlerId> = work.iter().map(|(_, p)| p.handler).collect();
        let companions: Vec<HandlerId> = wanted
            .iter()
            .filter_map(|handler| compiled.companion(*handler))
            .collect();
        self.install_frames(compiled, companions.is_empty())?;
        wanted.extend(companions);
        self.link(compiled, &wanted)?;
        let entries = self.installed.as_ref().map(|installed| &installed.entries);
        let mut batch = Vec::with_capacity(work.len());
        // The range in the batch of each placement's insertions.
        let mut shares: Vec<Range<usize>> = Vec::with_capacity(work.len());
        let mut returning: Vec<ReturnWork<'_>> = Vec::new();
        for (index, (&(image, placement), facts)) in work.iter().zip(facts).enumerate() {
            if let Some(around) = placement.site.around {
                let from = batch.len();
                let (process, installed) = (&mut self.process, self.installed.as_ref());
                batch.extend(system_call_sites::insertions(
                    process, installed, compiled, image, placement, around,
                )?);
                shares.push(from..batch.len());
                continue;
            }
            let run = snippet_of(entries, placement.handler, placement.number)?;
            let from = batch.len();
            let address = image.absolute(placement.site.address);
            let entry = |snippet: Snippet| Insertion {
                address,
                at_function_entry: placement.site.at_function_entry,
                at_function_exit: false,
                before: Vec::new(),
                after: false,
                snippet,
            };
            match (placement.site.returns, facts) {
                (Some(function), Some(facts)) => {
                    let save = match compiled.companion(placement.handler) {
                        Some(one) => Some(entry(snippet_of(entries, one, placement.number)?)),
                        None => None,
                    };
                    let function = image.absolute(function);
                    returning.push(ReturnWork {
                        index,
                        placement,
                        function,
                        save,
                        run,
                        facts,
                    });
                }
                _ => batch.push(entry(run)),
            }
            shares.push(from..batch.len());
        }
        let outcome = self.insert(&batch)?;
        // Each system call is a place of its own.
        let around = |placement: &Placement| placement.site.around.is_some();
        let calls: Vec<(&Placement, Range<usize>)> = work
            .iter()
            .zip(&shares)
            .filter(|((_, placement), _)| around(placement))
            .map(|(&(_, placement), share)| (placement, share.clone()))
            .collect();
        let mut results: Vec<Result<(), Refused>> = shares
            .into_iter()
            .map(|share| match outcome.get(share) {
                Some([Err(refused)]) => Err(refused.clone()),
                _ => Ok(()),
            })
            .collect();
        let mut placed = Placed::default();
        for (index, result) in self.place_returns(&returning, &mut placed)? {
            if let Some(place) = results.get_mut(index) {
                *place = result;
            }
        }
        for (placement, share) in calls {
            for one in outcome.get(share).unwrap_or_default() {
                match one {
                    Ok(_) => placed.sites += 1,
                    Err(refused) => {
                        let point = placement.site.text.pp.clone();
                        placed.refused.push((point, refused.clone()));
                    }
                }
            }
        }
        for ((image, placement), result) in work.iter().zip(results) {
            if around(placement) {
                continue;
            }
            match result {
                Ok(()) => {
                    placed.sites += 1;
                    if let Some(semaphore) = placement.site.semaphore {
                        self.raise(image, semaphore)?;
                    }
                }
                Err(refused) => placed
                    .refused
                    .push((placement.site.text.pp.clone(), refused)),
            }
        }
        Ok(placed)
    }

    /// Inserts a batch. Where a thread was in the way, the process runs on for a moment, some times.
    fn insert(
        &mut self,
        batch: &[Insertion],
    ) -> Result<Vec<Result<InsertedId, Refused>>, InjectError> {
        let mut outcome = self.process.insert(batch)?;
        for moment in MOMENTS {
            let refused = outcome.iter().zip(batch).enumerate();
            let (places, again): (Vec<usize>, Vec<Insertion>) = refused
                .filter(|(_, (one, _))| matches!(one, Err(refused) if refused.momentary))
                .map(|(place, (_, insertion))| (place, insertion.clone()))
                .unzip();
            if places.is_empty() {
                break;
            }
            self.process.release()?;
            std::thread::sleep(moment);
            self.process.stop_again()?;
            for (place, one) in places.into_iter().zip(self.process.insert(&again)?) {
                outcome[place] = one;
            }
        }
        Ok(outcome)
    }

    /// A process forked from this one, with copies of its probes, which are found in its memory when they are removed.
    /// It runs.
    ///
    /// # Errors
    /// As [`Process::adopt_child`].
    pub fn heir(&self, pid: i32) -> Result<Tracee, TraceeError> {
        Ok(Tracee {
            process: self.process.adopt_child(inject::Pid(pid))?,
            images: Arc::clone(&self.images),
            together: None,
            scope: Arc::clone(&self.scope),
            record: self.record,
            inner_pid: inner_pid(pid),
            is_described: true,
            installed: self.installed.clone(),
            done: self.done.clone(),
            semaphores: self.semaphores.clone(),
            expedited: self.expedited,
            is_confined: false,
            stacks: self.stacks.clone(),
        })
    }

    /// The entries of its thread table that are in use, with their places. Empty without probes.
    pub(crate) fn thread_entries(&self) -> Result<Vec<ThreadEntryAt>, TraceeError> {
        let Some(installed) = &self.installed else {
            return Ok(Vec::new());
        };
        let size = size_of::<[runtime::layout::ThreadEntry; THREAD_TABLE_ENTRIES]>();
        let table = self.process.read_vec(installed.table, size)?;
        let entries = table.chunks_exact(16).enumerate().map(|(n, bytes)| {
            let word = |at: usize| bytes[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
            ThreadEntryAt {
                address: installed.table + 16 * n as u64,
                key: word(0),
                slot: word(8).wrapping_sub(installed.arena),
            }
        });
        Ok(entries
            .filter(|entry| entry.key != 0 && entry.key != REMOVED)
            .collect())
    }

    /// Removes an entry of its thread table. Held.
    pub(crate) fn remove_thread_entry(&mut self, entry: &ThreadEntryAt) -> Result<(), TraceeError> {
        Ok(self.process.write(entry.address, &REMOVED.to_le_bytes())?)
    }

    /// Looks through the code of its modules for system calls, which is remembered.
    pub fn look_for_system_calls(&self, watch: inject::Watch) {
        for image in self.images.iter() {
            image.prepare_watch(watch);
        }
    }

    /// Whether there is something to be done about modules that have come since it was looked at last; it runs.
    pub fn has_work(&self, work: &[Work]) -> bool {
        self.stacks.is_some()
            || work
                .iter()
                .any(|(image, placements)| !placements.is_empty() || image.has_system_calls())
    }

    /// Marks modules as dealt with in which there is nothing to do.
    pub fn pass_over(&mut self, work: &[Work]) {
        self.done
            .extend(work.iter().map(|(image, _)| place_of(image)));
    }

    /// Stops a thread of the process, if it lives, and finds out what is to be removed.
    pub fn prepare_withdrawal(&mut self) {
        if self.installed.is_some() && self.process.stop_one_thread().is_ok() {
            // What is in the way will be told when it is withdrawn.
            let _ = self.process.prepare_removal();
        }
    }

    /// Stops the process, if it still lives. `Ok(false)`: it had ended, or is confined so that to stop it could kill it (by the
    /// system call restart_syscall, with which the kernel goes on with some that a stop has interrupted).
    pub fn hold(&mut self) -> Result<bool, TraceeError> {
        if self.is_confined {
            return Ok(false);
        }
        match self.process.stop_again() {
            Ok(()) => Ok(true),
            Err(InjectError::Exited { .. } | InjectError::NoSuchProcess { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes every probe out of the process, if it still lives, and lets it go. `Ok(false)`: it had ended.
    pub fn withdraw(
        &mut self,
        is_busy: &mut dyn FnMut(inject::Pid) -> bool,
    ) -> Result<bool, TraceeError> {
        if !self.hold()? {
            return Ok(false);
        }
        self.lower_semaphores();
        self.process.remove_all_and_unmap(is_busy)?;
        self.process.release()?;
        Ok(true)
    }

    /// The same for a process that could not be probed after all. `Ok(false)`: something of ours is still there.
    pub fn give_up(
        &mut self,
        is_busy: &mut dyn FnMut(inject::Pid) -> bool,
    ) -> Result<bool, TraceeError> {
        if self.withdraw(is_busy)? && !self.process.holds_ours() {
            self.installed = None;
        }
        Ok(self.installed.is_none())
    }

    /// The same before a thread that waits for an answer to a notice confines its process. What can't be unmapped then stays
    /// until the process ends. `Ok(false)`: it had ended.
    pub fn withdraw_before(
        &mut self,
        notice: &inject::Notice,
        is_busy: &mut dyn FnMut(inject::Pid) -> bool,
    ) -> Result<bool, TraceeError> {
        if !self.hold()? {
            return Ok(false);
        }
        self.lower_semaphores();
        self.process.remove_all_and_unmap_before(notice, is_busy)?;
        self.process.release()?;
        self.installed = None;
        self.is_confined = true;
        Ok(true)
    }
}

/// How long threads are given to leave the places of patches.
const MOMENTS: [Duration; 4] = [
    Duration::from_millis(1),
    Duration::from_millis(4),
    Duration::from_millis(16),
    Duration::from_millis(64),
];

/// How long a program's libraries are waited for, and how often it is looked.
const START: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_micros(500);

/// Stops a thread of a process that runs, once the libraries that its program starts with are there; whether they had to be waited
/// for. No breakpoint is set meanwhile: it would be the end of the program if we were killed.
pub fn stop_when_started(process: &mut Process) -> Result<bool, TraceeError> {
    let deadline = Instant::now() + START;
    let mut was_starting = false;
    loop {
        let is_stopped = process.is_stopped_by_signal();
        process.stop_one_thread()?;
        if is_stopped || Instant::now() > deadline || !process.is_starting()? {
            return Ok(was_starting);
        }
        was_starting = true;
        process.release()?;
        std::thread::sleep(LOOK);
    }
}

/// System calls that handlers may make, where a slot is taken, memory is read and locks are waited for.
const MADE: [(&str, i64); 7] = [
    ("getpid", libc::SYS_getpid),
    ("gettid", libc::SYS_gettid),
    ("rt_sigprocmask", libc::SYS_rt_sigprocmask),
    ("sigaltstack", libc::SYS_sigaltstack),
    ("process_vm_readv", libc::SYS_process_vm_readv),
    ("futex", libc::SYS_futex),
    ("sched_yield", libc::SYS_sched_yield),
];

/// The name of the first system call of those that handlers make that is as asked.
pub fn made_by_handlers(is_it: impl Fn(i64) -> bool) -> Option<&'static str> {
    let found = MADE.iter().find(|(_, number)| is_it(*number));
    found.map(|(name, _)| *name)
}

/// The number that a process has for itself.
fn inner_pid(pid: i32) -> u32 {
    inject::inner_pid(inject::Pid(pid)).unwrap_or(pid as u32)
}

/// What tells a mapped module from others of its process.
fn place_of(image: &Image) -> (PathBuf, u64) {
    (image.path().to_owned(), image.bias())
}

fn register_set(registers: &Registers) -> RegisterSet {
    RegisterSet {
        gpr: registers.general,
        xmm: registers.vector,
        flags: registers.flags,
    }
}

fn snippet_of(
    entries: Option<&HashMap<HandlerId, EntryForm>>,
    handler: HandlerId,
    number: u32,
) -> Result<Snippet, LinkError> {
    let entry = entries.and_then(|entries| entries.get(&handler));
    let missing = || LinkError::MissingSymbol(format!("handler {}", handler.0));
    Ok(snippet(entry.ok_or_else(missing)?, number))
}

fn snippet(entry: &EntryForm, number: u32) -> Snippet {
    let set = register_set;
    match entry {
        EntryForm::Call {
            address,
            reads,
            clobbers,
        } => Snippet {
            code: SnippetCode::Call(*address),
            reads: set(reads),
            clobbers: set(clobbers),
            argument: u64::from(number),
        },
        EntryForm::Leaf { address, clobbers } => Snippet {
            code: SnippetCode::Leaf(*address),
            reads: RegisterSet::default(),
            clobbers: set(clobbers),
            argument: u64::from(number),
        },
    }
}

/// Whether the kernel lets user code read its FS base (AT_HWCAP2, bit 1: HWCAP2_FSGSBASE).
fn has_fsgsbase() -> bool {
    const AT_HWCAP2: u64 = 26;
    let auxv = std::fs::read("/proc/self/auxv").unwrap_or_default();
    auxv.chunks_exact(16).any(|pair| {
        let word = |at: usize| pair[at..at + 8].try_into().map_or(0, u64::from_ne_bytes);
        word(0) == AT_HWCAP2 && word(8) & 2 != 0
    })
}
