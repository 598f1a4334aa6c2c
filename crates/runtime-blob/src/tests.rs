use std::collections::BTreeSet;

use runtime::own_process::OwnProcess;

use crate::{Blob, Clobbers};

struct Mapped {
    at: *mut u8,
    blob: Blob,
}

impl Mapped {
    /// Places the blob somewhere in this process, without write permission.
    fn new(own: &OwnProcess) -> Mapped {
        let blob = Blob::load().expect("loads");
        let size = blob.size() as usize;
        // SAFETY: a fresh mapping, filled, then made executable.
        let at = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let at = libc::mmap(
                std::ptr::null_mut(),
                size,
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                -1,
                0,
            );
            assert_ne!(at, libc::MAP_FAILED);
            let image = blob.image_at(at as u64, own).expect("relocates");
            at.cast::<u8>().copy_from(image.as_ptr(), size);
            assert_eq!(
                libc::mprotect(at, size, libc::PROT_READ | libc::PROT_EXEC),
                0
            );
            at.cast()
        };
        Mapped { at, blob }
    }

    fn address(&self, name: &str) -> *const () {
        // SAFETY: inside the mapping.
        unsafe {
            self.at
                .add(self.blob.symbol(name).expect(name) as usize)
                .cast_const()
                .cast()
        }
    }
}

#[test]
fn has_every_function_of_the_library() {
    let blob = Blob::load().expect("loads");
    let library: BTreeSet<_> = runtime::abi::FUNCTIONS.iter().map(|f| f.name).collect();
    assert_eq!(
        blob.symbols()
            .map(|(name, _)| name)
            .collect::<BTreeSet<_>>(),
        library
    );
    assert!(blob.symbol("no_such_function").is_err());
}

#[test]
fn computes_what_the_library_computes() {
    let mapped = Mapped::new(&OwnProcess::UNKNOWN);
    // SAFETY: the signatures are those of `runtime::abi`.
    unsafe {
        let strtol: extern "C" fn(*const u8, u64, i64) -> i64 =
            std::mem::transmute(mapped.address("strtol"));
        assert_eq!(strtol(b"0x7f".as_ptr(), 4, 0), 127);
        let errno: extern "C" fn(*mut u8, u64, i64) -> u64 =
            std::mem::transmute(mapped.address("errno_str"));
        let mut text = [0u8; 32];
        let len = errno(text.as_mut_ptr(), 32, 110);
        assert_eq!(&text[..len as usize], b"ETIMEDOUT");
        // The slot is for the error of a time that has no text.
        let ctime: extern "C" fn(*mut u8, *mut u8, u64, i64) -> u64 =
            std::mem::transmute(mapped.address("ctime"));
        let len = ctime(std::ptr::null_mut(), text.as_mut_ptr(), 32, 0);
        assert_eq!(&text[..len as usize], b"Thu Jan  1 00:00:00 1970");
    }
}

/// It asks the function that it was told of, and the kernel where it was told of none.
#[test]
fn knows_of_its_process_what_it_was_told() {
    extern "C" fn clock_gettime(clock: u64, time: &mut [i64; 2]) -> i64 {
        *time = [1_000 + clock as i64, 7];
        0
    }
    let told = OwnProcess {
        clock_gettime: clock_gettime as *const () as u64,
        ..OwnProcess::UNKNOWN
    };
    let now = |own: &OwnProcess| {
        let mapped = Mapped::new(own);
        // SAFETY: the signature is that of `runtime::abi`.
        let call: extern "C" fn() -> i64 =
            unsafe { std::mem::transmute(mapped.address("monotonic_ns")) };
        call()
    };
    assert_eq!(now(&told), 1_001_000_000_007);
    let (first, second) = (now(&OwnProcess::UNKNOWN), now(&OwnProcess::UNKNOWN));
    assert!(0 < first && first < second && second != 1_001_000_000_007);
}

/// Functions on the hot path leave the vector registers alone, so that trampolines need not save them.
#[test]
fn hot_functions_use_no_vector_registers() {
    let blob = Blob::load().expect("loads");
    let mut used = Vec::new();
    for (name, _) in blob.symbols() {
        let clobbers = blob.clobbers(name).expect(name);
        if clobbers.xmm != 0 {
            used.push((name, clobbers.xmm.count_ones()));
        }
    }
    eprintln!("vector registers used by {used:?}");
    for name in [
        "lock_acquire",
        "lock_release",
        "shard_cell_i64",
        "shard_cell",
        "stat_add",
        "map_insert_i64",
        "map_insert",
        "map_find_i64",
        "ring_reserve",
        "ring_commit",
        "args_string",
        "read_user",
        "user_string",
        "slot_acquire",
    ] {
        let clobbers = blob.clobbers(name).expect(name);
        assert_eq!(clobbers.xmm, 0, "{name} {clobbers:?}");
    }
}

#[test]
fn unknown_calls_may_change_everything() {
    let blob = Blob::load().expect("loads");
    assert_eq!(
        blob.clobbers("gettimeofday_ns").expect("there"),
        Clobbers::CALLER_SAVED
    );
    let get_cycles = blob.clobbers("get_cycles").expect("there");
    assert_eq!(
        (get_cycles.gpr & !Clobbers::CALLER_SAVED.gpr, get_cycles.xmm),
        (0, 0)
    );
    assert_ne!(get_cycles.gpr & 1 << 2, 0, "rdtsc writes rdx");
}
