//! Sampling by the kernel's perf events (perf_event_open(2)): each sample brings a thread's registers and the top of its
//! stack, with which a handler runs in the tracer.

use memmap2::{MmapOptions, MmapRaw};
use perf_event_open_sys::bindings::{
    PERF_RECORD_LOST, PERF_RECORD_SAMPLE, PERF_SAMPLE_REGS_USER, PERF_SAMPLE_STACK_USER,
    PERF_SAMPLE_TID, PERF_TYPE_BREAKPOINT, perf_event_attr,
};
use perf_event_open_sys::{ioctls, perf_event_open};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};
use std::sync::atomic::{AtomicU64, Ordering};

/// What `perf.type(N).config(M)…` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PerfEvent {
    /// `perf_event_attr.type`.
    pub kind: u32,
    /// `perf_event_attr.config`.
    pub config: u64,
    /// When samples are taken.
    pub sampling: Sampling,
}

/// What is done to memory that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// It is written.
    Write,
    /// It is read or written.
    ReadWrite,
}

/// Memory that the processor watches (SDM volume 3, debug registers).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watchpoint {
    /// Its start, a multiple of its length.
    pub address: u64,
    /// Its length: 1, 2, 4 or 8 bytes.
    pub length: u64,
    /// What is noticed.
    pub access: Access,
}

impl Watchpoint {
    /// One for `size` bytes from `address`, or as many of them as can be watched: the length is rounded up to one that the
    /// processor has, and down again to what the address is a multiple of.
    pub fn over(address: u64, size: u64, access: Access) -> Watchpoint {
        let length = size.clamp(1, 8).next_power_of_two();
        let aligned = 1 << address.trailing_zeros().min(3);
        Watchpoint {
            address,
            length: length.min(aligned),
            access,
        }
    }
}

/// When samples are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sampling {
    /// Each time that the counter has gone on by this much: `.sample(N)`.
    Every(u64),
    /// This often in a second: `.hz(N)`.
    Hertz(u64),
}

/// A thread caught at work.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Its process.
    pub pid: u32,
    /// Itself.
    pub tid: u32,
    /// Its registers: 16 general ones as x86 encodes them, rip, rflags.
    pub registers: [u64; 18],
    /// What its stack pointer points at, upwards.
    pub stack: Vec<u8>,
}

/// Why an event can't be counted.
#[derive(Debug, thiserror::Error)]
pub enum PerfError {
    /// The kernel refuses it.
    #[error("cannot open perf event type {kind} config {config}: {source}{hint}")]
    Event {
        /// `perf_event_attr.type`.
        kind: u32,
        /// `perf_event_attr.config`.
        config: u64,
        /// The kernel's reason.
        source: io::Error,
        /// What it means.
        hint: String,
    },
    /// The kernel refuses to watch memory.
    #[error("cannot watch {length} bytes at {address:#x}: {source}{hint}")]
    Watch {
        /// Where.
        address: u64,
        /// How many.
        length: u64,
        /// The kernel's reason.
        source: io::Error,
        /// What it means.
        hint: String,
    },
    /// There is no such variable.
    #[error(
        "no variable '{name}' in process {pid}: neither its program nor its libraries have such a data symbol"
    )]
    NoVariable {
        /// As the script names it.
        name: String,
        /// The process.
        pid: i32,
    },
    /// More than a watchpoint has.
    #[error("cannot watch {length} bytes at {address:#x}: the processor watches 8 at most")]
    TooLong {
        /// Where.
        address: u64,
        /// How many.
        length: u64,
    },
}

/// Registers in a sample: those of the kernel's `PERF_REG_X86_…` 0 to 9 and 16 to 23, in this order.
const REGISTERS: u64 = 0x3ff | 0xff << 16;
/// Where each of them goes: ax bx cx dx si di bp sp ip flags r8 … r15.
const PLACES: [usize; 18] = [0, 3, 1, 2, 6, 7, 5, 4, 16, 17, 8, 9, 10, 11, 12, 13, 14, 15];
/// Bytes of each stack that come with a sample; the kernel's largest is 65528.
const STACK: u32 = 16 << 10;
/// Pages of a ring: as many as an unprivileged user's `perf_event_mlock_kb` (516) has room for, and what is tried before where
/// every event counts.
const RING_PAGES: usize = 64;
const LARGE_RING_PAGES: usize = 1024;
const PAGE: usize = 4096;
/// Offsets in the first page (`struct perf_event_mmap_page`).
const DATA_HEAD: usize = 1024;
const DATA_TAIL: usize = 1032;

/// The events of one probe on one processor, for any number of threads.
struct Ring {
    processor: i32,
    map: MmapRaw,
    /// Bytes of it behind its first page.
    size: usize,
    /// The first one's is where the samples of all go.
    events: Vec<File>,
}

/// The events of one probe.
pub struct Sampler {
    event: Option<PerfEvent>,
    with_stacks: bool,
    rings: Vec<Ring>,
    lost: u64,
}

impl std::fmt::Debug for Sampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sampler({:?}, {} rings)", self.event, self.rings.len())
    }
}

impl Sampler {
    /// One without threads. Without an event it is for watchpoints.
    pub fn new(event: Option<PerfEvent>, with_stacks: bool) -> Sampler {
        Sampler {
            event,
            with_stacks,
            rings: Vec::new(),
            lost: 0,
        }
    }

    /// Adds a thread that touches memory, with all that it starts from now on, until it runs another program.
    pub fn watch_thread(&mut self, tid: i32, watchpoint: Watchpoint) -> Result<(), PerfError> {
        let failed = |source: io::Error| PerfError::Watch {
            address: watchpoint.address,
            length: watchpoint.length,
            hint: match source.raw_os_error() {
                Some(libc::ENOSPC) => {
                    "; all of the processor's four watchpoints are in use for this thread".into()
                }
                _ => hint(&source),
            },
            source,
        };
        let mut attr = self.attributes();
        attr.type_ = PERF_TYPE_BREAKPOINT;
        // <linux/hw_breakpoint.h>
        attr.bp_type = match watchpoint.access {
            Access::Write => 2,
            Access::ReadWrite => 3,
        };
        attr.__bindgen_anon_3.bp_addr = watchpoint.address;
        attr.__bindgen_anon_4.bp_len = watchpoint.length;
        attr.__bindgen_anon_1.sample_period = 1;
        attr.set_remove_on_exec(1);
        attr.set_watermark(1);
        attr.__bindgen_anon_2.wakeup_watermark = (RING_PAGES * PAGE / 4) as u32;
        self.add(tid, attr).map_err(failed)
    }

    /// How many samples found a ring full, up to now.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Descriptors that become readable (poll(2)) when much is in a ring.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let watches = self.event.is_none();
        let firsts = self.rings.iter().filter_map(|ring| ring.events.first());
        firsts.filter(move |_| watches).map(AsFd::as_fd)
    }

    /// Adds a thread, with all that it starts from now on.
    pub fn add_thread(&mut self, tid: i32) -> Result<(), PerfError> {
        let Some(event) = self.event else {
            return Ok(());
        };
        let mut attr = self.attributes();
        attr.type_ = event.kind;
        attr.config = event.config;
        match event.sampling {
            Sampling::Every(period) => attr.__bindgen_anon_1.sample_period = period,
            Sampling::Hertz(frequency) => {
                attr.__bindgen_anon_1.sample_freq = frequency;
                attr.set_freq(1);
            }
        }
        self.add(tid, attr).map_err(|source| PerfError::Event {
            kind: event.kind,
            config: event.config,
            hint: hint(&source),
            source,
        })
    }

    /// What all events have in common.
    fn attributes(&self) -> perf_event_attr {
        let mut attr = perf_event_attr {
            size: size_of::<perf_event_attr>() as u32,
            sample_type: PERF_SAMPLE_TID as u64 | PERF_SAMPLE_REGS_USER as u64,
            sample_regs_user: REGISTERS,
            ..perf_event_attr::default()
        };
        if self.with_stacks {
            attr.sample_type |= PERF_SAMPLE_STACK_USER as u64;
            attr.sample_stack_user = STACK;
        }
        attr.set_inherit(1);
        // What the kernel does on the thread's behalf is not the program's, nor for users to see.
        attr.set_exclude_kernel(1);
        attr.set_exclude_hv(1);
        attr
    }

    fn add(&mut self, tid: i32, attr: perf_event_attr) -> io::Result<()> {
        for processor in processors() {
            match open(attr, tid, processor) {
                Ok(file) => self.join(processor, file)?,
                // Not in use at this time.
                Err(source) if source.raw_os_error() == Some(libc::ENODEV) => {}
                Err(source) => return Err(source),
            }
        }
        Ok(())
    }

    fn join(&mut self, processor: i32, file: File) -> io::Result<()> {
        if let Some(ring) = self.rings.iter_mut().find(|r| r.processor == processor) {
            if let Some(first) = ring.events.first() {
                // SAFETY: two events of one processor; the argument is a descriptor.
                let done = unsafe {
                    ioctls::SET_OUTPUT(file.as_raw_fd(), first.as_raw_fd() as libc::c_ulong as _)
                };
                if done < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            ring.events.push(file);
            return Ok(());
        }
        let map = |pages: usize| MmapOptions::new().len((1 + pages) * PAGE).map_raw(&file);
        let large = match self.event {
            None => map(LARGE_RING_PAGES).ok().map(|m| (m, LARGE_RING_PAGES)),
            Some(_) => None,
        };
        let (map, pages) = match large {
            Some(large) => large,
            None => (map(RING_PAGES)?, RING_PAGES),
        };
        self.rings.push(Ring {
            processor,
            map,
            size: pages * PAGE,
            events: vec![file],
        });
        Ok(())
    }

    /// Hands over what was sampled since the last call.
    pub fn take(&mut self, mut f: impl FnMut(Sample)) {
        for ring in &self.rings {
            self.lost += ring.take(self.with_stacks, &mut f);
        }
    }
}

impl Ring {
    fn word(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: inside the first page, aligned; the kernel accesses these words as we do.
        unsafe { &*self.map.as_ptr().add(offset).cast::<AtomicU64>() }
    }

    /// Hands over the samples; how many the kernel says it had no room for.
    fn take(&self, with_stacks: bool, f: &mut impl FnMut(Sample)) -> u64 {
        let size = self.size as u64;
        let mut lost = 0;
        let head = self.word(DATA_HEAD).load(Ordering::Acquire);
        let mut tail = self.word(DATA_TAIL).load(Ordering::Relaxed);
        while head.wrapping_sub(tail) >= 8 {
            let start = self.bytes(tail, 8);
            let mut reader = Reader(&start);
            let (Some(kind), Some(_), Some(len)) = (reader.u32(), reader.u16(), reader.u16())
            else {
                break;
            };
            let len = u64::from(len);
            if len < 8 || len > head.wrapping_sub(tail) || len > size {
                tail = head;
                break;
            }
            if kind == PERF_RECORD_SAMPLE {
                let record = self.bytes(tail, len as usize);
                if let Some(sample) = sample(record.get(8..).unwrap_or_default(), with_stacks) {
                    f(sample);
                }
            }
            if kind == PERF_RECORD_LOST {
                // Its id, then how many.
                let record = self.bytes(tail, len as usize);
                let count = record.get(16..).and_then(|rest| Reader(rest).u64());
                lost += count.unwrap_or(0);
            }
            tail = tail.wrapping_add(len);
        }
        self.word(DATA_TAIL).store(tail, Ordering::Release);
        lost
    }

    /// A copy of bytes of the ring, which may wrap.
    fn bytes(&self, at: u64, len: usize) -> Vec<u8> {
        let size = self.size;
        let start = (at % size as u64) as usize;
        let first = len.min(size - start);
        let mut bytes = vec![0; len];
        // SAFETY: the data follow the first page; both pieces lie inside them, and the kernel writes only behind them.
        unsafe {
            let data = self.map.as_ptr().add(PAGE);
            bytes
                .as_mut_ptr()
                .copy_from_nonoverlapping(data.add(start), first);
            bytes
                .as_mut_ptr()
                .add(first)
                .copy_from_nonoverlapping(data, len - first);
        }
        bytes
    }
}

fn open(mut attr: perf_event_attr, tid: i32, processor: i32) -> io::Result<File> {
    const CLOEXEC: libc::c_ulong = 8;
    // SAFETY: the attributes are a whole structure of the size that they state.
    let fd = unsafe { perf_event_open(&raw mut attr, tid, processor, -1, CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor made just now, which nobody else has.
    Ok(unsafe { File::from_raw_fd(fd) })
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (chunk, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*chunk)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_ne_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_ne_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_ne_bytes)
    }
}

/// The parts of a sample, in the order that perf_event_open(2) gives them: ids, registers, stack. `None` for one that
/// has no registers of the program.
fn sample(record: &[u8], with_stacks: bool) -> Option<Sample> {
    const ABI_64: u64 = 2;
    let mut reader = Reader(record);
    let (pid, tid) = (reader.u32()?, reader.u32()?);
    if reader.u64()? != ABI_64 {
        return None;
    }
    let mut registers = [0; 18];
    for place in PLACES {
        registers[place] = reader.u64()?;
    }
    let mut stack = Vec::new();
    if with_stacks {
        let size = usize::try_from(reader.u64()?).ok()?;
        let (bytes, rest) = reader.0.split_at_checked(size)?;
        if size > 0 {
            let used = usize::try_from(Reader(rest).u64()?).ok()?;
            stack = bytes.get(..used).unwrap_or(bytes).to_vec();
        }
    }
    Some(Sample {
        pid,
        tid,
        registers,
        stack,
    })
}

/// The processors of this machine, in use or not.
fn processors() -> std::ops::Range<i32> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
    let last = text.trim().rsplit([',', '-']).next().unwrap_or_default();
    let here = std::thread::available_parallelism().map_or(1, |n| n.get() as i32);
    0..last.parse::<i32>().map_or(here, |last| last + 1)
}

fn hint(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::EOPNOTSUPP | libc::ENXIO | libc::EINVAL) => {
            "; this machine or kernel has no such event".into()
        }
        Some(libc::EACCES | libc::EPERM) => {
            let level = std::fs::read_to_string("/proc/sys/kernel/perf_event_paranoid");
            let level = level.unwrap_or_default();
            format!(
                "; the kernel allows it where kernel.perf_event_paranoid is 2 or less (it is {}) or with CAP_PERFMON",
                level.trim()
            )
        }
        _ => String::new(),
    }
}
