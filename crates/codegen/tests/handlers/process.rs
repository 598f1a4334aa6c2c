//! Handlers of processes, entered through their stubs by threads of this process.

use crate::session::Session;
use codegen::{
    Context, Element, EntryForm, GlobalValue, ProcessCode, ProcessLink, Registers, ThreadPointer,
    Value,
};
use std::sync::Arc;

/// General registers, instruction pointer, flags.
pub type Frame = [u64; 18];

/// Handlers linked at an address of this process.
pub struct Linked {
    code: memmap2::Mmap,
    table: memmap2::MmapMut,
    pub form: ProcessCode,
}

/// AT_HWCAP2 says (bit 1) whether `rdfsbase` may be used: see the kernel's x86 documentation of FSGSBASE.
fn has_fsgsbase() -> bool {
    let words = std::fs::read("/proc/self/auxv").unwrap();
    let words: Vec<u64> = words
        .chunks_exact(8)
        .map(|w| u64::from_le_bytes(w.try_into().unwrap()))
        .collect();
    words
        .chunks_exact(2)
        .any(|pair| pair[0] == 26 && pair[1] & 2 != 0)
}

impl Linked {
    pub fn new(session: &mut Session, thread_pointer: ThreadPointer) -> Arc<Self> {
        let size = session.compiled.process_code_size() as usize;
        let mut memory = memmap2::MmapMut::map_anon(size).unwrap();
        let table = memmap2::MmapMut::map_anon(size_of::<runtime::layout::ThreadTable>()).unwrap();
        let link = ProcessLink {
            code: memory.as_ptr() as u64,
            arena: session.arena.as_ptr() as u64,
            thread_table: table.as_ptr() as u64,
            process: 0,
            thread_pointer,
            symbol: &|name| runtime::abi::find(name).map(|f| f.address.0 as u64),
            runtime_clobbers: Registers {
                general: 0x0fc7,
                vector: 0xffff,
                flags: true,
            },
        };
        let form = session.compiled.link_process(&link).unwrap();
        assert!(form.bytes.len() <= size, "{} of {size}", form.bytes.len());
        memory[..form.bytes.len()].copy_from_slice(&form.bytes);
        Arc::new(Linked {
            code: memory.make_exec().unwrap(),
            table,
            form,
        })
    }

    /// A hit.
    pub fn hit(&self, handler: usize, frame: &Frame, site: u32) {
        let _ = (&self.code, &self.table);
        // SAFETY: stubs keep the registers that a called function has to keep.
        unsafe {
            match &self.form.entries[handler] {
                Some(EntryForm::Call { address, .. }) => {
                    let entry: extern "C" fn(*const Frame, u32) =
                        std::mem::transmute(*address as *const ());
                    entry(frame, site);
                }
                Some(EntryForm::Leaf { address, .. }) => {
                    let entry: extern "C" fn() = std::mem::transmute(*address as *const ());
                    entry();
                }
                None => panic!("no entry for {handler}"),
            }
        }
    }
}

fn process_handlers(session: &Session) -> Vec<usize> {
    session
        .handlers
        .iter()
        .filter(|h| h.context == Context::Process)
        .map(|h| h.id.0 as usize)
        .collect()
}

/// Eight threads hit the first process handler so many times each, with `$a` from 0 up.
fn storm(text: &str, times: u64) -> Session {
    let mut session = Session::new(text);
    let linked = Linked::new(&mut session, ThreadPointer::Word);
    let handler = process_handlers(&session)[0];
    // All are there at once: one that begins after another's end would go on in its slot, and its ring.
    let there = std::sync::Barrier::new(8);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let (linked, there) = (&linked, &there);
            scope.spawn(move || {
                there.wait();
                let mut frame = [0; 18];
                for n in 0..times {
                    frame[7] = n;
                    linked.hit(handler, &frame, 0);
                }
            });
        }
    });
    session
}

const PROBE: &str = r#"probe process("x").function("f")"#;

#[test]
fn counters_are_exact_and_keep_registers() {
    for way in [
        ThreadPointer::Word,
        ThreadPointer::Register,
        ThreadPointer::SystemCall,
    ] {
        if way == ThreadPointer::Register && !has_fsgsbase() {
            continue;
        }
        let mut session = Session::new(&format!("global n = 5, m {PROBE} {{ n++; m -= 2 }}"));
        let linked = Linked::new(&mut session, way);
        assert!(matches!(
            linked.form.entries[0],
            Some(EntryForm::Leaf { ref clobbers, .. }) if (clobbers.general, clobbers.vector) == (0, 0)
        ));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                let linked = &linked;
                scope.spawn(move || (0..10_000).for_each(|_| linked.hit(0, &[0; 18], 0)));
            }
        });
        assert_eq!(
            session.tracer.global_named("n"),
            Some(GlobalValue::Scalar(Value::Long(80_005)))
        );
        assert_eq!(
            session.tracer.global_named("m"),
            Some(GlobalValue::Scalar(Value::Long(-160_000)))
        );
    }
}

#[test]
fn counters_can_be_read_and_set_by_the_tracer() {
    let mut session = Session::new(&format!(
        "global n {PROBE} {{ n++ }} probe begin {{ print(n); n = 100 }} probe end {{ print(n) }}"
    ));
    let linked = Linked::new(&mut session, ThreadPointer::Word);
    for name in ["begin", "end"] {
        linked.hit(0, &[0; 18], 0);
        session.run(name);
    }
    assert_eq!(session.output().text, "1101");
}

#[test]
fn statistics_per_thread_are_exact() {
    let mut session = storm(
        &format!(
            "global s {PROBE} {{ s <<< $a }} probe end {{ printf(\"%d %d %d %d\", @count(s), @sum(s), @min(s), @max(s)) }}"
        ),
        5000,
    );
    session.run("end");
    assert_eq!(session.output().text, "40000 99980000 0 4999");
}

#[test]
fn arrays_per_thread_are_exact() {
    let mut session = storm(&format!("global c {PROBE} {{ c[$a & 7]++ }}"), 4096);
    let Some(GlobalValue::Map(elements)) = session.tracer.global_named("c") else {
        panic!()
    };
    assert_eq!(elements.len(), 8);
    for (_, element) in elements {
        assert_eq!(element, Element::Scalar(Value::Long(4096)));
    }
    // A second look finds the same.
    let Some(GlobalValue::Map(elements)) = session.tracer.global_named("c") else {
        panic!()
    };
    assert_eq!(elements[0].1, Element::Scalar(Value::Long(4096)));
}

#[test]
fn tracer_looks_while_threads_count() {
    let mut session = Session::new(&format!("global c, s {PROBE} {{ c[$a & 3]++; s <<< $a }}"));
    let linked = Linked::new(&mut session, ThreadPointer::Word);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let linked = linked.clone();
            std::thread::spawn(move || {
                let mut frame = [0; 18];
                for n in 0..100_000 {
                    frame[7] = n;
                    linked.hit(0, &frame, 0);
                }
            })
        })
        .collect();
    while !threads.iter().all(|t| t.is_finished()) {
        session.tracer.global_named("c");
    }
    threads.into_iter().for_each(|t| t.join().unwrap());
    let Some(GlobalValue::Map(elements)) = session.tracer.global_named("c") else {
        panic!()
    };
    for (_, element) in elements {
        assert_eq!(element, Element::Scalar(Value::Long(100_000)));
    }
    let Some(GlobalValue::Stat(stat)) = session.tracer.global_named("s") else {
        panic!()
    };
    assert_eq!((stat.cell.count, stat.cell.max), (400_000, 99_999));
}

#[test]
fn shared_globals_are_atomic() {
    let mut session = storm(
        &format!(
            "global n, a {PROBE} {{ n = n + 1; a[n & 1] = a[n & 1] + 1 }} probe end {{ print(n, \" \", a[0], \" \", a[1]) }}"
        ),
        2000,
    );
    let skipped: u64 = (1..32)
        .map(|i| {
            session
                .slot(i)
                .skipped_locked
                .load(std::sync::atomic::Ordering::Relaxed)
        })
        .sum();
    session.run("end");
    let text = session.output().text;
    let numbers: Vec<u64> = text.split(' ').map(|n| n.parse().unwrap()).collect();
    assert_eq!(numbers[0] + skipped, 16_000);
    assert_eq!(numbers[1] + numbers[2], numbers[0]);
}

/// Taking locks, and giving them back when one can't be had, takes code for each and not for each pair.
#[test]
fn code_grows_with_the_number_of_locks() {
    let size = |globals: usize| {
        let names: Vec<String> = (0..globals).map(|n| format!("g{n}")).collect();
        let changes: String = names.iter().map(|g| format!("{g} = {g} + $a; ")).collect();
        let script = format!("global {} {PROBE} {{ {changes} }}", names.join(", "));
        Session::new(&script).compiled.process_code_size()
    };
    let (few, many) = (size(50), size(150));
    assert!(many < 4 * few, "{few} and {many} bytes");
}

#[test]
fn target_variables() {
    let mut session = Session::new(&format!(
        r#"{PROBE} {{ printf("%d %d %d %d %d %s %x", $a, $narrow, $memory, $stack, $$unknown_is_undefined, probefunc(), uaddr()) }}"#
    ).replace("$$unknown_is_undefined", "@defined($zz)"));
    let linked = Linked::new(&mut session, ThreadPointer::Word);
    let data = [7u32, 0, 0xffff_fff0, 9];
    let stack = [0i64, 0, 0x1_fffe];
    let mut frame: Frame = [0; 18];
    frame[7] = 0x80ff;
    frame[3] = data.as_ptr() as u64 - 4;
    frame[1] = 1;
    frame[4] = stack.as_ptr() as u64;
    frame[16] = 0x40_1000;
    linked.hit(0, &frame, 0);
    let output = session.output();
    assert_eq!(output.errors, Vec::<String>::new());
    assert_eq!(output.text, "33023 -128 4294967280 -2 0 f 401000");
    let Some(EntryForm::Call { reads, .. }) = linked.form.entries[0] else {
        panic!()
    };
    assert_eq!(
        (reads.general, reads.vector),
        (1 << 7 | 1 << 3 | 1 << 1 | 1 << 4, 0)
    );
}

#[test]
fn bad_memory_is_an_error() {
    let mut session = Session::new(&format!("{PROBE} {{ print($memory) }} probe begin {{ }}"));
    let linked = Linked::new(&mut session, ThreadPointer::Word);
    linked.hit(0, &[0; 18], 0);
    let output = session.output();
    assert_eq!(output.text, "");
    assert_eq!(output.errors.len(), 1);
    assert!(output.errors[0].contains("fault"), "{:?}", output.errors);
}

#[test]
fn printing_from_threads_loses_nothing() {
    let mut session = storm(
        &format!(r#"{PROBE} {{ printf("%d:%s\n", $a, "text") }}"#),
        500,
    );
    let output = session.output();
    assert_eq!(output.text.lines().count(), 4000);
    assert!(output.text.lines().all(|l| l.ends_with(":text")));
}

#[test]
fn nothing_runs_after_exit() {
    let mut session = Session::new(&format!(
        "global n, s {PROBE} {{ n++ }} {PROBE} {{ s <<< 1; exit() }}"
    ));
    let linked = Linked::new(&mut session, ThreadPointer::Word);
    for _ in 0..3 {
        linked.hit(0, &[0; 18], 0);
        linked.hit(1, &[0; 18], 0);
    }
    assert_eq!(
        session.tracer.global_named("n"),
        Some(GlobalValue::Scalar(Value::Long(1)))
    );
    let Some(GlobalValue::Stat(stat)) = session.tracer.global_named("s") else {
        panic!()
    };
    assert_eq!(stat.cell.count, 1);
}

#[test]
fn a_busy_thread_is_skipped() {
    let mut session = Session::new(&format!(r#"{PROBE} {{ print("x") }}"#));
    let linked = Linked::new(&mut session, ThreadPointer::Word);
    linked.hit(0, &[0; 18], 0);
    let busy = &session.slot(1).busy;
    busy.store(1, std::sync::atomic::Ordering::Relaxed);
    linked.hit(0, &[0; 18], 0);
    busy.store(0, std::sync::atomic::Ordering::Relaxed);
    linked.hit(0, &[0; 18], 0);
    assert_eq!(
        session
            .slot(1)
            .skipped
            .load(std::sync::atomic::Ordering::Relaxed),
        1
    );
    assert_eq!(session.output().text, "xx");
}

#[test]
fn equal_answers_share_a_handler() {
    let session = Session::new(
        r#"global n probe process("x").function("f"), process("y").function("g") { n += $a }"#,
    );
    assert_eq!(session.handlers[0].id, session.handlers[1].id);
}

#[test]
fn simple_updates_stay_off_the_vector_registers() {
    let mut session = Session::new(&format!("global s {PROBE} {{ s <<< $a }}"));
    let linked = Linked::new(&mut session, ThreadPointer::Word);
    let Some(EntryForm::Call {
        clobbers, reads, ..
    }) = linked.form.entries[0]
    else {
        panic!()
    };
    assert_eq!(
        (clobbers.vector, reads.general, reads.vector),
        (0, 1 << 7, 0)
    );
}
