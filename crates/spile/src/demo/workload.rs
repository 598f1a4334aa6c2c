//! The program that the demonstration probes: a few threads that serve make-believe requests. It knows nothing of
//! Spile; its marks are ordinary SDT marks and its functions ordinary functions.

use std::hint::black_box;
use std::os::unix::process::parent_id;
use std::time::{Duration, Instant};

const THREADS: u64 = 3;

/// Reads the request: the work grows with its length.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn demo_parse(request: u64, length: u64) -> u64 {
    (0..length).fold(request, |hash, i| black_box(hash.rotate_left(5) ^ i))
}

/// Looks the answer up; one in eight has to be computed.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn demo_lookup(key: u64) -> u64 {
    if key.is_multiple_of(8) {
        demo_compute(key, 400)
    } else {
        key >> 3
    }
}

/// The slow way.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn demo_compute(seed: u64, rounds: u64) -> u64 {
    (0..rounds).fold(seed, |x, _| {
        black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1))
    })
}

/// Writes the answer.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn demo_reply(answer: u64) -> u64 {
    black_box(answer ^ 0x5bd1_e995)
}

/// What the cost of a probe is measured on.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn demo_measured(a: u64, b: u64) -> u64 {
    black_box(a).wrapping_add(b)
}

/// Serves requests on several threads for this long, or until whoever started it has ended.
pub fn serve(time: Duration) {
    let end = Instant::now() + time;
    let parent = parent_id();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                let mut request = thread << 32;
                while Instant::now() < end && parent_id() == parent {
                    // A burst, then a pause: the workload is to leave the machine to others as well.
                    for _ in 0..200 {
                        serve_one(request);
                        request += 1;
                    }
                    std::thread::sleep(Duration::from_millis(2));
                }
            });
        }
    });
}

fn serve_one(request: u64) {
    let start = Instant::now();
    let key = demo_parse(request, 20 + request % 60);
    let answer = demo_reply(demo_lookup(key));
    let nanoseconds = start.elapsed().as_nanos() as u64;
    probe::probe!(spile_demo, request__done, request, nanoseconds, answer);
}

/// Nanoseconds per call of [`demo_measured`]: the median of several rounds of `calls` calls.
pub fn measure(calls: u64) -> f64 {
    let mut rounds: Vec<f64> = (0..7)
        .map(|_| {
            let start = Instant::now();
            let mut sum = 0;
            for i in 0..calls {
                sum = demo_measured(sum, i);
            }
            black_box(sum);
            start.elapsed().as_nanos() as f64 / calls as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}
