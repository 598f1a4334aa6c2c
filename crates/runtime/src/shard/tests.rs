use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use proptest::prelude::*;

use super::*;
use crate::fixture::{Fixture, GLOBALS, MAX_STRING, SHARDS, long, text};
use crate::layout::StatCell;
use crate::map::{MapLayout, MapSpec};
use crate::{map, stat};

const MAP: u64 = GLOBALS + 128 * 1024;

fn make(f: &Fixture, keys: &[bool], value: ValueKind, capacity: u32) {
    let spec = ShardSpec {
        keys,
        value,
        capacity,
        flags: map::FLAG_DECLARED,
        shape: 0,
        buckets: 0,
        max_string: MAX_STRING,
    };
    assert!(ShardLayout::new(&spec).slot_bytes < 64 * 1024);
    assert!(create(f.arena(), GLOBALS, u64::from(SHARDS), &spec));
    let spec = MapSpec {
        keys,
        value,
        capacity,
        flags: map::FLAG_DECLARED,
        shape: 0,
        buckets: 0,
        max_string: MAX_STRING,
    };
    assert!(MAP + MapLayout::new(&spec).bytes < crate::fixture::GLOBALS_END);
    assert!(map::create(f.arena(), MAP, &spec));
}

fn flip(f: &Fixture) -> bool {
    let epoch = unsafe { (*f.base.cast::<Header>()).epoch.load(Relaxed) };
    prefill(&f.geometry, GLOBALS, MAP, epoch);
    let quiet = quiesce(&f.geometry, epoch, false);
    collect(&f.geometry, GLOBALS, MAP, quiet)
}

fn value(f: &Fixture, key: i64) -> Option<i64> {
    let cell = unsafe { map::find_i64(f.base, MAP, key) };
    (!cell.is_null()).then(|| unsafe { *cell.cast::<i64>() })
}

#[test]
fn the_limit_is_exact_across_halves() {
    let f = Fixture::new();
    make(&f, &[false], ValueKind::Long, 3);
    let slot = f.owned(1);
    let bump = |key| unsafe {
        let cell = cell_i64(f.base, slot, GLOBALS, key).cast::<i64>();
        if cell.is_null() {
            return false;
        }
        *cell += 1;
        true
    };
    assert!(bump(1) && bump(2) && bump(1));
    assert!(flip(&f));
    assert_eq!((value(&f, 1), value(&f, 2)), (Some(2), Some(1)));
    assert!(flip(&f));
    assert!(bump(3) && bump(2) && !bump(4));
    assert_eq!(
        f.error(slot).as_deref(),
        Some("Array overflow, check size limit (3)")
    );
    assert!(flip(&f));
    assert_eq!(
        (value(&f, 1), value(&f, 2), value(&f, 3), value(&f, 4)),
        (Some(2), Some(2), Some(1), None)
    );
    // After `delete`, there is room again.
    unsafe { map::clear(f.base, MAP) };
    assert!(flip(&f) && flip(&f));
    assert!(bump(7) && bump(8) && bump(9) && !bump(10));
}

#[test]
fn string_keys() {
    let f = Fixture::new();
    make(&f, &[true, false], ValueKind::Long, 10);
    let slot = f.owned(1);
    unsafe {
        for (s, n) in [("x", 1), ("y", 1), ("x", 1), ("x", 2)] {
            *cell(
                f.base,
                slot,
                GLOBALS,
                [text(s.as_bytes()), long(n)].as_ptr(),
            )
            .cast::<i64>() += 10;
        }
        assert!(flip(&f));
        let get = |s: &str, n| {
            *map::find(f.base, MAP, [text(s.as_bytes()), long(n)].as_ptr()).cast::<i64>()
        };
        assert_eq!((get("x", 1), get("y", 1), get("x", 2)), (20, 10, 10));
    }
}

/// Threads count without pause while the tracer collects again and again: nothing is lost or counted twice.
#[test]
fn sums_are_exact_while_collected() {
    const THREADS: u32 = 4;
    const HITS: i64 = 200_000;
    let f = Fixture::new();
    make(&f, &[false], ValueKind::Stat, 64);
    let (base, done) = (f.base as usize, AtomicBool::new(false));
    let slots: Vec<usize> = (1..=THREADS).map(|i| f.owned(i) as usize).collect();
    std::thread::scope(|scope| {
        let workers: Vec<_> = slots
            .into_iter()
            .map(|slot| {
                scope.spawn(move || unsafe {
                    let (base, slot) = (base as *mut u8, slot as *mut Slot);
                    for i in 0..HITS {
                        (*slot).busy.store(1, Relaxed);
                        core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::SeqCst);
                        let cell = cell_i64(base, slot, GLOBALS, i % 50).cast::<StatCell>();
                        stat::add(base, cell, 0, i);
                        (*slot).busy.store(0, Release);
                    }
                })
            })
            .collect();
        let (f, done) = (&f, &done);
        let geometry = f.geometry.slots;
        assert!(geometry > 0);
        let mut rounds = 0;
        while !done.load(Relaxed) {
            assert!(flip(f));
            rounds += 1;
            done.store(workers.iter().all(|w| w.is_finished()), Relaxed);
        }
        assert!(rounds > 0);
    });
    assert!(flip(&f) && flip(&f));
    let mut total = (0, 0);
    for key in 0..50 {
        let cell = unsafe { *map::find_i64(f.base, MAP, key).cast::<StatCell>() };
        assert_eq!(cell.count, i64::from(THREADS) * HITS / 50);
        total = (total.0 + cell.count, total.1 + cell.sum);
    }
    assert_eq!(
        total,
        (
            i64::from(THREADS) * HITS,
            i64::from(THREADS) * HITS * (HITS - 1) / 2
        )
    );
}

/// Threads that insert the same keys at the same time agree on the entries, and use no more of them than keys.
#[test]
fn racing_insertions_agree() {
    for _ in 0..20 {
        let f = Fixture::new();
        make(&f, &[false], ValueKind::Long, 100);
        let base = f.base as usize;
        let slots: Vec<usize> = (1..=4).map(|i| f.owned(i) as usize).collect();
        std::thread::scope(|scope| {
            for slot in slots {
                scope.spawn(move || unsafe {
                    for key in 0..100 {
                        let cell = cell_i64(base as *mut u8, slot as *mut Slot, GLOBALS, key)
                            .cast::<i64>();
                        assert!(!cell.is_null());
                        *cell += 1;
                    }
                });
            }
        });
        assert!(flip(&f));
        assert!((0..100).all(|k| value(&f, k) == Some(4)));
    }
}

#[test]
fn counters_and_scalar_statistics() {
    let f = Fixture::new();
    unsafe {
        for i in 0..4 {
            *f.owned(i).cast::<u8>().add(SHARDS as usize).cast::<i64>() = 10 + i64::from(i);
        }
        assert_eq!(sum_counters(&f.geometry, u64::from(SHARDS)), 46);
        let at = u64::from(SHARDS) + 64;
        for (i, v) in [(1u32, 5), (2, -7), (2, 9)] {
            stat::add(f.base, f.slot(i).cast::<u8>().add(at as usize).cast(), 0, v);
        }
        let quiet = quiesce(&f.geometry, 0, false);
        assert_eq!(
            quiet,
            Quiet {
                half: 0,
                restless: 0
            }
        );
        collect_stat(&f.geometry, at, 0, GLOBALS, quiet);
        let all = *f.base.add(GLOBALS as usize).cast::<StatCell>();
        assert_eq!((all.count, all.sum, all.min, all.max), (3, 7, -7, 9));
        collect_stat(&f.geometry, at, 0, GLOBALS, quiet);
        assert_eq!((*f.base.add(GLOBALS as usize).cast::<StatCell>()).count, 3);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn agrees_with_a_plain_map(hits in prop::collection::vec((1u32..5, 0i64..30, any::<i64>(), 0u8..20), 0..300)) {
        let f = Fixture::new();
        make(&f, &[false], ValueKind::Long, 64);
        (1..5).for_each(|i| { f.owned(i); });
        let mut model = BTreeMap::new();
        for (slot, key, amount, chance) in hits {
            let cell = unsafe { cell_i64(f.base, f.slot(slot), GLOBALS, key).cast::<i64>() };
            unsafe { *cell = (*cell).wrapping_add(amount) };
            let sum = model.entry(key).or_insert(0i64);
            *sum = sum.wrapping_add(amount);
            if chance == 0 {
                flip(&f);
            }
        }
        flip(&f);
        for key in 0..30 {
            prop_assert_eq!(value(&f, key), model.get(&key).copied());
        }
    }

    #[test]
    fn survives_any_contents(words in prop::collection::vec((0usize..24, prop_oneof![any::<u32>(), 0u32..70]), 0..6), noise in prop::collection::vec((0usize..4096, any::<u8>()), 0..64)) {
        let mut f = Fixture::new();
        make(&f, &[false], ValueKind::Stat, 16);
        let slot = f.owned(1);
        for key in 0..20 {
            unsafe { cell_i64(f.base, slot, GLOBALS, key) };
        }
        let bytes = f.bytes();
        for (at, byte) in noise {
            bytes[GLOBALS as usize + 80 + at] = byte;
        }
        for (at, word) in words {
            bytes[GLOBALS as usize + at * 4..][..4].copy_from_slice(&word.to_le_bytes());
        }
        unsafe {
            cell_i64(f.base, slot, GLOBALS, 5);
            cell(f.base, slot, GLOBALS, [long(1); 9].as_ptr());
        }
        prefill(&f.geometry, GLOBALS, MAP, 0);
        for half in 0..2 {
            collect(&f.geometry, GLOBALS, MAP, Quiet { half, restless: 0 });
        }
    }
}
