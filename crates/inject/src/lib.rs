//! Change the code of a running program, and let it go on running.
//!
//! `inject` places machine code at chosen points of an ordinary, unmodified process. A point costs
//! a jump, not a trap, and nothing stays attached: ptrace(2) is held only while the process is
//! being changed. No library is loaded into the process and none of its functions is called, so
//! static, musl-linked and Go programs work as well as any.
//!
//! The nouns:
//!
//! - [`Process`]: launched ([`Process::launch`]) or attached to ([`Process::attach`]); *held*
//!   (every thread stopped) until [`Process::release`], held again by [`Process::stop_again`].
//! - [`Image`]: a program or library mapped into it ([`Process::images`]).
//! - [`Function`] of an image, and its [`Point`]s: entry, exit, call site, instruction.
//! - [`Snippet`]: the code to run at a point.
//! - [`Insertion`]: a snippet at an address; [`Process::insert`] puts a batch of them in place
//!   and [`Process::remove`] takes them out again, byte for byte.
//!
//! Where a held thread is and who called it is told by [`Process::backtrace`].
//!
//! ```no_run
//! use inject::{Insertion, Launch, Process, Snippet};
//! # fn example(snippet: Snippet) -> Result<(), Box<dyn std::error::Error>> {
//! let mut process = Process::launch(&Launch::new("/usr/bin/python3").arg("x.py"))?;
//! process.run_to_libraries_loaded()?;
//! let images = process.images()?;
//! let libc = images.iter().find(|i| i.path().ends_with("libc.so.6")).ok_or("no libc")?;
//! let entry = libc.function("malloc")?.entry();
//! let ids = process.insert(&[Insertion::at(&entry, snippet)])?;
//! process.release()?; // runs free, and every malloc runs the snippet
//! // …
//! process.stop_again()?;
//! process.remove_all_and_unmap(&mut |_thread| false)?;
//! process.release()?;
//! # Ok(())
//! # }
//! ```
//!
//! Limits: Linux ≥ 5.10 on x86-64. ptrace(2) ties a held process to the thread that stopped it;
//! a released one may be handed to another thread.

pub mod analysis;
pub mod arch;
mod attach;
mod backtrace;
mod cgroup;
mod code_page;
mod detach;
mod error;
mod escape;
mod follow;
mod guard;
mod image;
mod journal;
mod launch;
mod link_map;
mod mapping;
mod memory;
mod module;
mod near;
mod notice;
mod notice_board;
mod owner;
mod patcher;
mod point;
mod priority;
mod proc_file;
mod process;
mod ptrace;
mod reconcile;
mod record;
mod refusal;
mod removal;
mod replace;
mod restart;
mod returns;
mod seccomp;
pub mod snippet;
mod stack;
mod stack_table;
mod startup;
mod stop;
mod survey;
mod syscall;
mod thread;
mod watch;

pub use backtrace::{StackModule, add_module, new_directory};
pub use error::InjectError;
pub use image::{Function, Image, SystemCallSite};
pub use launch::{Launch, RunAs};
pub use module::FileIdentity;
pub use notice::{Notice, NoticeKind, Watch};
pub use notice_board::NoticeBoard;
pub use patcher::{InsertedId, Insertion, Refused};
pub use point::{Point, PointKind};
pub use proc_file::{inner_pid, read_maps, read_proc, share_memory, start_time};
pub use process::{ExitStatus, Pid, Process};
pub use record::HandlerStacks;
pub use removal::Removal;
pub use replace::Replacement;
pub use seccomp::{Filter, SeccompVerdict};
pub use snippet::{Snippet, SnippetCode};
pub use stack_table::{TableParts, extent};
