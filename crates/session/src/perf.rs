//! Sampling by the kernel's perf events (perf_event_open(2)): each sample brings a thread's registers and the top of its
//! stack, with which a handler runs in the tracer.

use memmap2::{MmapOptions, MmapRaw};
use perf_event_open_sys::bindings::{
    PERF_RECORD_SAMPLE, PERF_SAMPLE_REGS_USER, PERF_SAMPLE_STACK_USER, PERF_SAMPLE_TID,
    perf_event_attr,
};
use perf_event_open_sys::{ioctls, perf_event_open};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
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
#[error("cannot open perf event type {kind} config {config}: {source}{hint}")]
pub struct PerfError {
    kind: u32,
    config: u64,
    source: io::Error,
    hint: String,
}

/// Registers in a sample: those of the kernel's `PERF_REG_X86_…` 0 to 9 and 16 to 23, in this order.
const REGISTERS: u64 = 0x3ff | 0xff << 16;
/// Where each of them goes: ax bx cx dx si di bp sp ip flags r8 … r15.
const PLACES: [usize; 18] = [0, 3, 1, 2, 6, 7, 5, 4, 16, 17, 8, 9, 10, 11, 12, 13, 14, 15];
/// Bytes of each stack that come with a sample; the kernel's largest is 65528.
const STACK: u32 = 16 << 10;
/// Pages of a ring: as many as an unprivileged user's `perf_event_mlock_kb` (516) has room for.
const RING_PAGES: usize = 64;
const PAGE: usize = 4096;
/// Offsets in the first page (`struct perf_event_mmap_page`).
const DATA_HEAD: usize = 1024;
const DATA_TAIL: usize = 1032;

/// The events of one probe on one processor, for any number of threads.
struct Ring {
    processor: i32,
    map: MmapRaw,
    /// The first one's is where the samples of all go.
    events: Vec<File>,
}

/// The events of one probe.
pub struct Sampler {
    event: PerfEvent,
    with_stacks: bool,
    rings: Vec<Ring>,
}

impl std::fmt::Debug for Sampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sampler({:?}, {} rings)", self.event, self.rings.len())
    }
}

impl Sampler {
    /// One without threads.
    pub fn new(event: PerfEvent, with_stacks: bool) -> Sampler {
        Sampler {
            event,
            with_stacks,
            rings: Vec::new(),
        }
    }

    /// Adds a thread, with all that it starts from now on.
    pub fn add_thread(&mut self, tid: i32) -> Result<(), PerfError> {
        let failed = |event: &PerfEvent, source: io::Error| PerfError {
            kind: event.kind,
            config: event.config,
            hint: hint(&source),
            source,
        };
        for processor in processors() {
            let event = self.event;
            let opened = self.open(tid, processor);
            match opened {
                Ok(file) => self
                    .join(processor, file)
                    .map_err(|source| failed(&event, source))?,
                // Not in use at this time.
                Err(source) if source.raw_os_error() == Some(libc::ENODEV) => {}
                Err(source) => return Err(failed(&event, source)),
            }
        }
        Ok(())
    }

    fn open(&self, tid: i32, processor: i32) -> io::Result<File> {
        let mut attr = perf_event_attr {
            type_: self.event.kind,
            size: size_of::<perf_event_attr>() as u32,
            config: self.event.config,
            sample_type: PERF_SAMPLE_TID as u64 | PERF_SAMPLE_REGS_USER as u64,
            sample_regs_user: REGISTERS,
            ..perf_event_attr::default()
        };
        if self.with_stacks {
            attr.sample_type |= PERF_SAMPLE_STACK_USER as u64;
            attr.sample_stack_user = STACK;
        }
        match self.event.sampling {
            Sampling::Every(period) => attr.__bindgen_anon_1.sample_period = period,
            Sampling::Hertz(frequency) => {
                attr.__bindgen_anon_1.sample_freq = frequency;
                attr.set_freq(1);
            }
        }
        attr.set_inherit(1);
        // What the kernel does on the thread's behalf is not the program's, nor for users to see.
        attr.set_exclude_kernel(1);
        attr.set_exclude_hv(1);
        const CLOEXEC: libc::c_ulong = 8;
        // SAFETY: the attributes are a whole structure of the size that they state.
        let fd = unsafe { perf_event_open(&raw mut attr, tid, processor, -1, CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor made just now, which nobody else has.
        Ok(unsafe { File::from_raw_fd(fd) })
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
        let len = (1 + RING_PAGES) * PAGE;
        let map = MmapOptions::new().len(len).map_raw(&file)?;
        self.rings.push(Ring {
            processor,
            map,
            events: vec![file],
        });
        Ok(())
    }

    /// Hands over what was sampled since the last call.
    pub fn take(&mut self, mut f: impl FnMut(Sample)) {
        for ring in &self.rings {
            ring.take(self.with_stacks, &mut f);
        }
    }
}

impl Ring {
    fn word(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: inside the first page, aligned; the kernel accesses these words as we do.
        unsafe { &*self.map.as_ptr().add(offset).cast::<AtomicU64>() }
    }

    fn take(&self, with_stacks: bool, f: &mut impl FnMut(Sample)) {
        let size = (RING_PAGES * PAGE) as u64;
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
            tail = tail.wrapping_add(len);
        }
        self.word(DATA_TAIL).store(tail, Ordering::Release);
    }

    /// A copy of bytes of the ring, which may wrap.
    fn bytes(&self, at: u64, len: usize) -> Vec<u8> {
        let size = RING_PAGES * PAGE;
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
