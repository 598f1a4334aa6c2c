//! Hooks in a process that tell its tracer what happens in it.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::arch::hook::{Event, POSTER_SIZE, Post, Poster, scratch};
use crate::error::InjectError;
use crate::image::Image;
use crate::notice::Watch;
use crate::notice_board::{NoticeBoard, kind, layout};
use crate::patcher::{InsertedId, Insertion, Refused};
use crate::point::Point;
use crate::process::Process;
use crate::ptrace;

impl Image {
    /// Looks at the code in which [`Process::watch`] puts its hooks, which that does otherwise, with the process stopped.
    pub fn prepare_watch(&self, watch: Watch) {
        self.system_calls_of(&numbers(watch));
    }
}

/// How far before its point a patch may begin, at most.
const PATCH: u64 = 64;

/// What was put into a process so that it can be watched.
#[derive(Debug, Clone)]
pub(crate) struct Watching {
    inode: u64,
    watch: Watch,
    poster: Poster,
    /// The hooks.
    hooks: BTreeSet<InsertedId>,
}

impl Process {
    /// Puts hooks into the held process and all modules that it has mapped now, so that it tells `board` of what
    /// `watch` names. From then on, while it runs free, so do the processes that it forks. A program that takes its
    /// place by exec knows nothing of it.
    ///
    /// Called again with the same board and the same `watch`, it looks at modules that have come since, and does
    /// nothing else. Hooks are [insertions](Process::insert): removed by
    /// [`Process::remove_all_and_unmap`], before which the board is to be [closed](NoticeBoard::close).
    ///
    /// The answer names the places that stay unseen.
    ///
    /// # Errors
    /// As [`Process::share`] and [`Process::insert`].
    ///
    /// ```no_run
    /// use inject::{Launch, NoticeBoard, NoticeKind, Process, Watch};
    /// # fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let board = NoticeBoard::new()?;
    /// let watch = Watch { libraries: true, execs: true, ..Watch::default() };
    /// let mut process = Process::launch(&Launch::new("python3").arg("x.py"))?;
    /// process.run_to_libraries_loaded()?;
    /// process.watch(&board, watch)?;
    /// process.release()?;
    /// loop {
    ///     // poll(2) on board.fd() and process.exit_fd() …
    ///     for notice in board.take_notices() {
    ///         match &notice.kind {
    ///             NoticeKind::Libraries => {
    ///                 process.stop_again()?;
    ///                 process.watch(&board, watch)?; // and insert whatever is to be in them
    ///                 process.release()?;
    ///             }
    ///             NoticeKind::Exec { program } => println!("{} runs {program:?}", notice.pid),
    ///             _ => {}
    ///         }
    ///         board.answer(&notice);
    ///     }
    /// #   break;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn watch(
        &mut self,
        board: &NoticeBoard,
        watch: Watch,
    ) -> Result<Vec<Refused>, InjectError> {
        self.require_held()?;
        if watch == Watch::default() {
            return Ok(Vec::new());
        }
        let mut watching = match self.watching.take() {
            Some(present) if present.inode == board.inode() && present.watch == watch => present,
            _ => self.place_poster(board, watch)?,
        };
        let mut insertions = Vec::new();
        let images = self.images()?;
        self.reconcile(&images)?;
        let is_hooked = |range: Range<u64>| {
            let mut sites = self.patches.sites.range(range);
            sites.any(|(_, site)| {
                let mut inserted = site.inserted.iter();
                inserted.any(|one| one.owner == self.me && watching.hooks.contains(&one.id))
            })
        };
        let announce = if watch.libraries {
            self.announcement()?.filter(|&at| !is_hooked(at..at + 1))
        } else {
            None
        };
        for image in &images {
            let found = hooks(image, watch, &watching.poster);
            let addresses = found.iter().map(|insertion| insertion.address);
            // A patch may begin a little before its point.
            let span = addresses.clone().min().zip(addresses.max());
            if let Some((first, last)) = span
                && !is_hooked(first.saturating_sub(PATCH)..last + 1)
            {
                insertions.extend(found);
            }
        }
        if let Some(announce) = announce {
            // One that was just run to there has nothing new to tell.
            for tid in self.thread_ids() {
                let registers = ptrace::registers(tid);
                if self.or_death(registers)?.rip == announce {
                    self.step_once(tid)?;
                }
            }
            let snippet = watching.poster.hook(&[Event::Libraries], true);
            insertions.extend(snippet.map(|s| Insertion::at(&Point::entry(announce), s)));
        }
        let answers = self.insert(&insertions)?;
        watching
            .hooks
            .extend(answers.iter().filter_map(|answer| answer.as_ref().ok()));
        self.watching = Some(watching);
        Ok(answers.into_iter().filter_map(Result::err).collect())
    }

    fn place_poster(&mut self, board: &NoticeBoard, watch: Watch) -> Result<Watching, InjectError> {
        let shared = self.share(board.memory(), layout::SIZE)?;
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let page = self.map_private(scratch::PAGE, prot, true)?;
        let post = Post {
            board: shared,
            scratch: page,
            line: board.line(self.pid, shared),
            debug: self.debug_state()?.unwrap_or(0),
            forks: watch.forks,
            threads: watch.threads,
            hold_forks: watch.hold_forks,
        };
        let at = self.allocate_code(POSTER_SIZE)?;
        let poster = Poster::build(&post, &events(watch), at);
        let poster = poster.map_err(|error| InjectError::System {
            call: format!("assembling hooks for process {}", self.pid),
            source: std::io::Error::other(error),
        })?;
        self.write_code(at, &poster.code)?;
        Ok(Watching {
            inode: board.inode(),
            watch,
            poster,
            hooks: BTreeSet::new(),
        })
    }
}

const EXECS: [i64; 2] = [libc::SYS_execve, libc::SYS_execveat];
const CLONES: [i64; 4] = [
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_fork,
    libc::SYS_vfork,
];

/// Calls of interest before they are made.
fn before(watch: Watch) -> Vec<Event> {
    let mut events = Vec::new();
    if watch.execs {
        events.extend(EXECS.map(|number| Event::Before(number as u32, kind::EXEC)));
    }
    if watch.threads {
        let exit = libc::SYS_exit as u32;
        events.push(Event::Before(exit, kind::THREAD_ENDING));
    }
    if watch.filters {
        let seccomp = libc::SYS_seccomp as u32;
        events.push(Event::Before(seccomp, kind::CONFINING));
        events.push(Event::BeforeWith {
            number: libc::SYS_prctl as u32,
            first: libc::PR_SET_SECCOMP,
            what: kind::CONFINING,
        });
    }
    if watch.memory_locks {
        let mlockall = libc::SYS_mlockall as u32;
        events.push(Event::Before(mlockall, kind::LOCKING));
    }
    if watch.exits {
        let exit = libc::SYS_exit_group as u32;
        events.push(Event::Before(exit, kind::EXITING));
    }
    events
}

/// Calls of interest where they return.
fn after(watch: Watch) -> Vec<Event> {
    if watch.forks || watch.threads {
        CLONES.map(|number| Event::Child(number as u32)).to_vec()
    } else {
        Vec::new()
    }
}

fn events(watch: Watch) -> Vec<Event> {
    let mut events = before(watch);
    events.extend(after(watch));
    events.push(Event::Libraries);
    events
}

fn number(event: &Event) -> i64 {
    match *event {
        Event::Before(number, _) | Event::BeforeWith { number, .. } | Event::Child(number) => {
            i64::from(number)
        }
        Event::Libraries => -1,
    }
}

/// The system calls of interest.
fn numbers(watch: Watch) -> Vec<i64> {
    let events = before(watch).into_iter().chain(after(watch));
    events.map(|event| number(&event)).collect()
}

fn hooks(image: &Image, watch: Watch, poster: &Poster) -> Vec<Insertion> {
    let (before, after) = (before(watch), after(watch));
    if before.is_empty() && after.is_empty() {
        return Vec::new();
    }
    let mut insertions = Vec::new();
    for site in image.system_calls_of(&numbers(watch)) {
        let constant = site.number().is_some();
        let here: Vec<Event> = before
            .iter()
            .filter(|event| site.may_make(number(event)))
            .copied()
            .collect();
        if !here.is_empty()
            && let Some(snippet) = poster.hook(&here, constant)
        {
            insertions.push(Insertion::at(&site.before(), snippet));
        }
        let child = after
            .iter()
            .find(|event| constant && site.may_make(number(event)));
        if let Some(&child) = child
            && let Some(snippet) = poster.hook(&[child], constant)
        {
            insertions.push(Insertion::at(&site.after(), snippet));
        }
    }
    insertions
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::process::{Command, Stdio};

    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;
    use crate::owner::Owner;
    use crate::process::Pid;

    const PROGRAM: &str = "import sys; print('ready', flush=True); sys.stdin.readline(); import _ctypes; print('done')";

    #[test]
    fn a_session_that_leaves_waits_for_who_is_in_the_hook_of_another() {
        let mut program = Command::new("/usr/bin/python3.11")
            .args(["-c", PROGRAM])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3.11, which cargo xtask setup installs");
        let pid = Pid(program.id() as i32);
        let mut output = BufReader::new(program.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");

        let watch = Watch {
            libraries: true,
            ..Watch::default()
        };
        let (mut first, mut second) = (NoticeBoard::new().unwrap(), NoticeBoard::new().unwrap());
        let mut stays = Process::attach(pid).unwrap();
        assert_eq!(stays.watch(&first, watch).unwrap(), []);
        stays.release().unwrap();
        // Its trampoline has both hooks.
        let mut leaves = Process::attach(pid).unwrap();
        leaves.me = Owner::of(1);
        assert_eq!(leaves.watch(&second, watch).unwrap(), []);
        leaves.release().unwrap();

        writeln!(program.stdin.take().unwrap(), "go").unwrap();
        while first.take_notices().is_empty() {
            let _ = poll(&mut [PollFd::new(&first.fd(), PollFlags::IN)], None);
        }
        leaves.stop_again().unwrap();
        second.close();
        let removal = leaves.remove_all_and_unmap(&mut |_| false).unwrap();
        assert!(!removal.unmapped, "the thread comes back there");
        leaves.release().unwrap();

        first.close();
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "done\n");
        assert!(program.wait().unwrap().success());
    }
}
