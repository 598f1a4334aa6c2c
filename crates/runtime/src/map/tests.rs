use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::fixture::{Fixture, GLOBALS, MAX_STRING, long, text};

fn make(fixture: &Fixture, keys: &[bool], capacity: u32, flags: u32) -> MapLayout {
    let spec = MapSpec {
        keys,
        value: ValueKind::Long,
        capacity,
        flags,
        shape: 0,
        buckets: 0,
        max_string: MAX_STRING,
    };
    assert!(create(fixture.arena(), GLOBALS, &spec));
    MapLayout::new(&spec)
}

/// Keys (first only) and values in the order of a `foreach`.
fn list(fixture: &Fixture, layout: &MapLayout, sort: Sort, limit: i64) -> Vec<(i64, i64)> {
    let slot = fixture.slot(1);
    let mut out = Vec::new();
    unsafe {
        let iter = iter_begin(
            fixture.base,
            slot,
            GLOBALS,
            sort.encode(),
            limit,
            core::ptr::null(),
            0,
        );
        loop {
            let entry = iter_next(fixture.base, slot, iter);
            if entry.is_null() {
                break;
            }
            let key = *entry.add(layout.key_offsets[0] as usize).cast::<i64>();
            out.push((key, *entry.add(layout.value_offset as usize).cast::<i64>()));
        }
        iter_end(fixture.base, slot, iter);
        assert_eq!((*slot).iteration_top, 0);
    }
    out
}

fn set(fixture: &Fixture, key: i64, value: i64) -> bool {
    unsafe {
        let cell = insert_i64(fixture.base, fixture.slot(1), GLOBALS, key);
        if cell.is_null() {
            return false;
        }
        cell.cast::<i64>().write(value);
        true
    }
}

#[test]
fn overflow_messages_are_staps() {
    let f = Fixture::new();
    make(&f, &[false], 2, FLAG_DECLARED);
    assert!(set(&f, 1, 1) && set(&f, 2, 2) && set(&f, 1, 3));
    assert!(!set(&f, 3, 3));
    assert_eq!(
        f.error(f.slot(1)).as_deref(),
        Some("Array overflow, check size limit (2)")
    );
    make(&f, &[false], 1, 0);
    assert!(set(&f, 1, 1) && !set(&f, 2, 2));
    assert_eq!(
        f.error(f.slot(1)).as_deref(),
        Some("Array overflow, check MAXMAPENTRIES")
    );
}

#[test]
fn wrapping_drops_the_oldest() {
    let f = Fixture::new();
    let layout = make(&f, &[false], 3, FLAG_WRAP);
    for k in 1..=5 {
        assert!(set(&f, k, 10 * k));
    }
    assert_eq!(
        list(&f, &layout, Sort::NONE, -1),
        [(3, 30), (4, 40), (5, 50)]
    );
    // An update does not make an element newer.
    set(&f, 3, 31);
    set(&f, 6, 60);
    assert_eq!(
        list(&f, &layout, Sort::NONE, -1),
        [(4, 40), (5, 50), (6, 60)]
    );
}

#[test]
fn sorting_is_stable_and_limited() {
    let f = Fixture::new();
    let layout = make(&f, &[false], 10, 0);
    for (k, v) in [(5, 1), (3, 2), (9, 1), (-4, 2), (7, 0)] {
        set(&f, k, v);
    }
    let by = |key, descending| Sort { key, descending };
    assert_eq!(
        list(&f, &layout, by(SortKey::Value, true), -1),
        [(3, 2), (-4, 2), (5, 1), (9, 1), (7, 0)]
    );
    assert_eq!(
        list(&f, &layout, by(SortKey::Value, false), 3),
        [(7, 0), (5, 1), (9, 1)]
    );
    assert_eq!(
        list(&f, &layout, by(SortKey::Key(0), false), 2),
        [(-4, 2), (3, 2)]
    );
    assert_eq!(list(&f, &layout, Sort::NONE, 0), []);
}

#[test]
fn mixed_keys_and_slices() {
    let f = Fixture::new();
    let slot = f.slot(1);
    let layout = make(&f, &[true, false], 10, 0);
    unsafe {
        for (i, (s, n)) in [("a", 1), ("b", 1), ("a", 2), ("", 3)]
            .into_iter()
            .enumerate()
        {
            let cell = insert(
                f.base,
                slot,
                GLOBALS,
                [text(s.as_bytes()), long(n)].as_ptr(),
            );
            cell.cast::<i64>().write(i as i64);
        }
        let find = |s: &str, n| {
            let cell = find(f.base, GLOBALS, [text(s.as_bytes()), long(n)].as_ptr());
            (!cell.is_null()).then(|| *cell.cast::<i64>())
        };
        assert_eq!(
            (find("a", 1), find("a", 2), find("", 3), find("b", 2)),
            (Some(0), Some(2), Some(3), None)
        );
        let a = [text(b"a"), long(0)];
        assert!(contains_slice(f.base, GLOBALS, a.as_ptr(), 1));
        assert!(!contains_slice(
            f.base,
            GLOBALS,
            [text(b"z"), long(0)].as_ptr(),
            1
        ));
        let iter = iter_begin(f.base, slot, GLOBALS, 0, -1, a.as_ptr(), 1);
        let mut numbers = Vec::new();
        loop {
            let entry = iter_next(f.base, slot, iter);
            if entry.is_null() {
                break;
            }
            numbers.push(*entry.add(layout.key_offsets[1] as usize).cast::<i64>());
        }
        iter_end(f.base, slot, iter);
        assert_eq!(numbers, [1, 2]);
        delete_slice(f.base, GLOBALS, a.as_ptr(), 1);
        assert_eq!(
            (count(f.base, GLOBALS), find("a", 1), find("b", 1)),
            (2, None, Some(1))
        );
        clear(f.base, GLOBALS);
        assert_eq!((count(f.base, GLOBALS), find("b", 1)), (0, None));
    }
}

#[test]
fn nested_iterations_share_the_area() {
    let f = Fixture::new();
    make(&f, &[false], 20, 0);
    for k in 0..20 {
        set(&f, k, -k);
    }
    let slot = f.slot(1);
    let sort = Sort {
        key: SortKey::Value,
        descending: false,
    }
    .encode();
    unsafe {
        let outer = iter_begin(f.base, slot, GLOBALS, sort, -1, core::ptr::null(), 0);
        let mut rounds = 0;
        while !iter_next(f.base, slot, outer).is_null() {
            let inner = iter_begin(f.base, slot, GLOBALS, sort, -1, core::ptr::null(), 0);
            while !iter_next(f.base, slot, inner).is_null() {
                rounds += 1;
            }
            iter_end(f.base, slot, inner);
        }
        iter_end(f.base, slot, outer);
        assert_eq!(rounds, 400);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Set(i64, i64),
    Delete(i64),
    Clear,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (-20i64..20, any::<i64>()).prop_map(|(k, v)| Step::Set(k, v)),
        4 => (-20i64..20).prop_map(Step::Delete),
        1 => Just(Step::Clear),
    ];
    prop::collection::vec(step, 0..200)
}

/// A single bucket of four bytes would put every entry behind it off its alignment.
#[test]
fn refuses_a_bucket_count_that_misaligns_entries() {
    let mut f = Fixture::new();
    make(&f, &[false], 16, 0);
    let slot = f.slot(1);
    let at = core::mem::offset_of!(MapHeader, bucket_mask);
    f.bytes()[GLOBALS as usize + at..][..4].fill(0);
    let iter = unsafe { iter_begin(f.base, slot, GLOBALS, 256, -1, core::ptr::null(), 0) };
    assert!(iter.is_null());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn behaves_as_a_map_with_insertion_order(steps in steps()) {
        let f = Fixture::new();
        let layout = make(&f, &[false], 16, 0);
        let mut model: BTreeMap<i64, (usize, i64)> = BTreeMap::new();
        for (time, step) in steps.into_iter().enumerate() {
            match step {
                Step::Set(k, v) => {
                    let fits = model.contains_key(&k) || model.len() < 16;
                    prop_assert_eq!(set(&f, k, v), fits);
                    if fits {
                        model.entry(k).or_insert((time, v)).1 = v;
                    }
                }
                Step::Delete(k) => {
                    unsafe { delete(f.base, GLOBALS, &long(k)) };
                    model.remove(&k);
                }
                Step::Clear => {
                    unsafe { clear(f.base, GLOBALS) };
                    model.clear();
                }
            }
            let mut expected: Vec<_> = model.iter().map(|(&k, &(t, v))| (t, (k, v))).collect();
            expected.sort();
            let expected: Vec<_> = expected.into_iter().map(|(_, kv)| kv).collect();
            prop_assert_eq!(list(&f, &layout, Sort::NONE, -1), expected);
            for k in -20..20 {
                let cell = unsafe { find_i64(f.base, GLOBALS, k) };
                let found = (!cell.is_null()).then(|| unsafe { *cell.cast::<i64>() });
                prop_assert_eq!(found, model.get(&k).map(|e| e.1));
            }
        }
    }

    /// Whatever the probed program wrote over a map: every function ends and stays inside the arena, whose
    /// neighbours are inaccessible.
    #[test]
    fn survives_any_contents(noise in prop::collection::vec((0usize..2048, any::<u8>()), 0..64), words in prop::collection::vec((0usize..30, prop_oneof![any::<u32>(), 0u32..40]), 0..8), strings: bool) {
        let mut f = Fixture::new();
        make(&f, &[strings, false], 16, 0);
        let slot = f.slot(1);
        let keys = [if strings { text(b"key") } else { long(3) }, long(4)];
        for n in 0..20 {
            let other = [keys[0], long(n)];
            unsafe { insert(f.base, slot, GLOBALS, other.as_ptr()) };
        }
        let bytes = f.bytes();
        for (at, byte) in noise {
            bytes[GLOBALS as usize + at] = byte;
        }
        for (at, word) in words {
            bytes[GLOBALS as usize + at * 4..][..4].copy_from_slice(&word.to_le_bytes());
        }
        unsafe {
            find(f.base, GLOBALS, keys.as_ptr());
            find_i64(f.base, GLOBALS, 4);
            for sort in 0..4 {
                for mask in [0, 2] {
                    let iter = iter_begin(f.base, slot, GLOBALS, sort | 256, -1, keys.as_ptr(), mask);
                    while !iter.is_null() && !iter_next(f.base, slot, iter).is_null() {}
                    iter_end(f.base, slot, iter);
                }
            }
            insert(f.base, slot, GLOBALS, keys.as_ptr());
            insert_i64(f.base, slot, GLOBALS, 77);
            contains_slice(f.base, GLOBALS, keys.as_ptr(), 1);
            delete(f.base, GLOBALS, keys.as_ptr());
            delete_slice(f.base, GLOBALS, keys.as_ptr(), 2);
            clear(f.base, GLOBALS);
        }
    }
}
